//! `van listener` and `van connector`.

use jiff::Timestamp;
use van_site::resource::connector::{ConnectorSpec, ConnectorStatus};
use van_site::resource::listener::{ListenerSpec, ListenerStatus};
use van_site::resource::{Connector, Listener};
use van_site::status::{connector_status, listener_status};

use crate::world::World;

/// A listener with a status, as a controller writes it.
pub(crate) fn listener(port: u16, configured: Result<(), &str>, is_matched: bool) -> Listener {
    let spec =
        ListenerSpec { routing_key: "backend".into(), host: "127.0.0.1".into(), port, ..ListenerSpec::default() };
    let configured = configured.map_err(str::to_owned);
    let status = listener_status(&ListenerStatus::default(), configured, is_matched, Timestamp::UNIX_EPOCH);
    Listener { status, ..Listener::new("backend", spec) }
}

/// A connector with a status, as a controller writes it.
pub(crate) fn connector(is_matched: bool) -> Connector {
    let spec = ConnectorSpec {
        routing_key: "backend".into(),
        host: Some("127.0.0.1".into()),
        port: 18080,
        ..ConnectorSpec::default()
    };
    let status = connector_status(&ConnectorStatus::default(), Ok(()), is_matched, Timestamp::UNIX_EPOCH);
    Connector { status, ..Connector::new("backend", spec) }
}

#[test]
fn the_defaults_are_those_of_skupper() {
    let world = World::new();
    world.succeeds(
        "listener create backend 9090",
        "File written to BASE/default/input/resources/Listener-backend.yaml\n",
    );
    world.succeeds(
        "connector create backend 8080",
        "File written to BASE/default/input/resources/Connector-backend.yaml\n",
    );
    let input = world.namespace("default").load_input();
    let listener = &input.sound::<Listener>().next().expect("there is one").spec;
    assert_eq!((&*listener.routing_key, &*listener.host, listener.port), ("backend", "0.0.0.0", 9090));
    let connector = &input.sound::<Connector>().next().expect("there is one").spec;
    let host = connector.host.as_deref();
    assert_eq!((&*connector.routing_key, host, connector.port), ("backend", Some("localhost"), 8080));
}

#[test]
fn an_update_changes_what_it_names() {
    let world = World::new();
    world.van("listener create backend 9090 --routing-key key --host 127.0.0.1 --tls-credentials tls --type tcp");
    let spec = || {
        let input = world.namespace("default").load_input();
        input.sound::<Listener>().next().expect("there is one").spec.clone()
    };
    let before = spec();
    let written = "File written to BASE/default/input/resources/Listener-backend.yaml\n";
    world.succeeds("listener update backend --port 9091", written);
    assert_eq!(spec(), ListenerSpec { port: 9091, ..before.clone() });
    world.succeeds("listener update backend -r other", written);
    assert_eq!(spec(), ListenerSpec { port: 9091, routing_key: "other".into(), ..before });
    let nothing = "van: there is nothing to change: say what, for example --port 8080\n";
    world.fails("listener update backend", 2, nothing);
    world.fails("connector update backend", 2, nothing);
}

#[test]
fn what_is_there_is_not_made_again() {
    let world = World::new();
    for noun in ["listener", "connector"] {
        let line = format!("-n west {noun} create backend 8080");
        world.van(&line);
        let there = format!("there is a {noun} \"backend\" in namespace \"west\" already");
        world.fails(&line, 1, &format!("van: {there}; change it with \"van -n west {noun} update\"\n"));
    }
}

#[test]
fn what_is_not_there_cannot_be_changed_or_removed() {
    let world = World::new();
    for noun in ["listener", "connector"] {
        let none = format!("van: there is no {noun} \"a\" in namespace \"default\"");
        world.fails(&format!("{noun} update a --port 1"), 1, &format!("{none}\n"));
        world.fails(&format!("{noun} delete a"), 1, &format!("{none}\n"));
        world.van(&format!("{noun} create b 8080"));
        world.van(&format!("{noun} create c 8081"));
        world.fails(&format!("{noun} delete a"), 1, &format!("{none}; there is: b, c\n"));
        world.fails(&format!("{noun} status a"), 1, &format!("{none}; there is: b, c\n"));
    }
    world.succeeds("listener delete b", "Listener \"b\" deleted\n");
    world.succeeds("connector delete b", "Connector \"b\" deleted\n");
}

#[test]
fn two_listeners_cannot_have_one_port() {
    let world = World::new();
    world.van("listener create a 8080");
    world.van("listener create b 8081");
    let taken = "van: Listener a with host 0.0.0.0 and port 8080 already exists in namespace; choose another port\n";
    world.fails("listener create c 8080", 1, taken);
    world.fails("listener update b --port 8080", 1, taken);
    assert_eq!(world.van("listener create c 8080 --host 127.0.0.2").code, Some(0), "another address is another place");
    assert_eq!(world.van("listener update a --port 8080").code, Some(0), "it may stay where it is");
}

#[test]
fn statuses_are_tables() {
    let world = World::new();
    world.succeeds("-n west listener status", "No listeners found\n");
    world.succeeds("-n west connector status", "No connectors found\n");
    let namespace = world.namespace("west");
    let _controller = namespace.lock_controller().expect("nobody else has it");
    world.van("-n west listener create backend 19090 --host 127.0.0.1");
    world.van("-n west connector create backend 18080 --host 127.0.0.1");
    world.report("west", listener(19090, Ok(()), true));
    world.report("west", connector(false));
    let titles = "NAME\tSTATUS\tROUTING-KEY\tHOST\t\tPORT\tMATCHING-CONNECTOR\tMESSAGE\n";
    let row = "backend\tReady\tbackend\t\t127.0.0.1\t19090\ttrue\t\t\tOK\n";
    world.succeeds("-n west listener status", &format!("{titles}{row}"));
    let titles = "NAME\tSTATUS\tROUTING-KEY\tSELECTOR\tHOST\t\tPORT\tHAS MATCHING LISTENER\tMESSAGE\n";
    let row = "backend\tPending\tbackend\t\t\t\t127.0.0.1\t18080\tfalse\t\t\tNo matching listeners\n";
    world.succeeds("-n west connector status", &format!("{titles}{row}"));
}

#[test]
fn the_status_of_one_is_lines() {
    let world = World::new();
    let namespace = world.namespace("west");
    let _controller = namespace.lock_controller().expect("nobody else has it");
    world.van("-n west listener create backend 19090 --host 127.0.0.1");
    world.van("-n west connector create backend 18080 --host 127.0.0.1");
    world.report("west", listener(19090, Err("address in use"), false));
    world.report("west", connector(true));
    world.succeeds(
        "-n west listener status backend",
        "Name:\t\t\tbackend\nStatus:\t\t\tError\nRouting key:\t\tbackend\nHost:\t\t\t127.0.0.1\nPort:\t\t\t19090\n\
         Has Matching Connector:\tfalse\nMessage:\t\taddress in use\n",
    );
    world.succeeds(
        "-n west connector status backend",
        "Name:\t\t\tbackend\nStatus:\t\t\tReady\nRouting key:\t\tbackend\nSelector:\t\t\nHost:\t\t\t127.0.0.1\n\
         Port:\t\t\t18080\nHas Matching Listener:\ttrue\nMessage:\t\tOK\n",
    );
}
