//! Files that are not as they should be: what a user is told, and that nothing else is touched.

use van_site::resource::Kind;

use crate::rig::{self, Conversation, Machine, Pair, document, echo, listener, site};

/// A site in use, whose file `extra.yaml` holds a listener `extra`; the text that the file is given then, and what is told.
#[track_caller]
fn check(text: &str, problems: &[&str], status: &str) {
    let pair = Pair::start();
    let east = &pair.east;
    let conversation = Conversation::start(pair.port);
    let port = rig::free_port();
    let sound = listener("extra", "backend", port);
    east.put("extra.yaml", &sound);
    rig::wait_until_answered(port);
    east.put("extra.yaml", text);
    east.wait_for_problems(problems);
    rig::wait_until(
        || format!("extra says {status:?}, not {:?}", east.status(Kind::Listener, "extra")),
        || east.shortened(&east.status(Kind::Listener, "extra")) == status,
    );
    for problem in problems {
        let message = problem.split_once(": ").expect("file: message").1;
        pair.east_controller.wait_for_log(&["WARN", message]);
    }
    // What it said before is still so.
    rig::wait_until_answered(port);
    // Nothing else is touched, and all is well when the file is.
    rig::wait_until_answered(pair.port);
    east.put("extra.yaml", &sound);
    east.wait_for(Kind::Listener, "extra", "Ready: OK");
    east.wait_for_problems(&[]);
    conversation.finish();
}

#[test]
fn a_file_half_written_takes_nothing_away() {
    check(
        "---\napiVersion: skupper.io/v2alpha1\nkind: Listener\nmetadata: {name: extra}\nspec: {routing",
        &["extra.yaml:5: spec: unclosed bracket '{'"],
        "Error: extra.yaml:5: spec: unclosed bracket '{'; what it said before stays in effect",
    );
}

#[test]
fn an_empty_file_takes_nothing_away() {
    check(
        "",
        &["extra.yaml: is empty; write its documents again, or remove it"],
        "Error: extra.yaml: is empty; write its documents again, or remove it; what it said before stays in effect",
    );
}

#[test]
fn an_unknown_field_is_named() {
    check(
        &document("Listener", "extra", "routingKey: backend, host: 127.0.0.1, prot: 1"),
        &["extra.yaml:5: Listener extra: spec.prot: unknown field `prot`, expected one of routingKey, host, port, \
           tlsCredentials, type, observer, exposePodsByName, settings"],
        "Error: extra.yaml:5: Listener extra: spec.prot: unknown field `prot`, expected one of routingKey, host, port, \
         tlsCredentials, type, observer, exposePodsByName, settings; what it said before stays in effect",
    );
}

#[test]
fn a_wrong_type_is_named() {
    check(
        &document("Listener", "extra", "routingKey: backend, host: 127.0.0.1, port: high"),
        &["extra.yaml:5: Listener extra: spec.port: not a whole number from 0 to 65535"],
        "Error: extra.yaml:5: Listener extra: spec.port: not a whole number from 0 to 65535; what it said before stays in effect",
    );
}

#[test]
fn a_missing_name_is_told() {
    check(
        &document("Listener", "extra", "routingKey: backend, host: 127.0.0.1, port: 1").replace("{name: extra}", "{}"),
        &["extra.yaml:4: metadata: missing field `name`"],
        "Error: extra.yaml:4: metadata: missing field `name`; what it said before stays in effect",
    );
}

#[test]
fn a_value_that_cannot_be_takes_nothing_away() {
    check(
        &document("Listener", "extra", "routingKey: backend, host: 127.0.0.1, port: 1, type: tpc"),
        &[],
        "Error: spec.type \"tpc\" is not supported, only tcp; what it said before stays in effect",
    );
}

#[test]
fn a_slip_in_the_site_takes_nothing_away() {
    let machine = Machine::new();
    let place = machine.namespace("west");
    let port = rig::free_port();
    place.put("site.yaml", &site("west"));
    place.put("rest.yaml", &(listener("backend", "backend", port) + &rig::connector("backend", "backend", echo())));
    let _controller = place.start();
    let conversation = Conversation::start(port);
    place.put("site.yaml", &document("Site", "west", "settings: {link-hosts: \"a b\"}"));
    rig::wait_until(
        || place.status(Kind::Site, "west"),
        || place.status(Kind::Site, "west").ends_with("; what it said before stays in effect"),
    );
    assert_eq!(place.status(Kind::Listener, "backend"), "Ready: OK");
    rig::wait_until_answered(port);
    place.put("site.yaml", &site("west"));
    place.wait_for(Kind::Site, "west", "Ready: OK");
    conversation.finish();
}

#[test]
fn the_first_of_two_documents_counts() {
    let machine = Machine::new();
    let place = machine.namespace("west");
    let (first, second) = (rig::free_port(), rig::free_port());
    let backend = rig::connector("backend", "backend", echo());
    place.put("a.yaml", &(site("west") + &listener("twin", "backend", first) + &backend));
    place.put("b.yaml", &listener("twin", "backend", second));
    let controller = place.start();
    place.wait_for(Kind::Listener, "twin", "Ready: OK");
    rig::wait_until_answered(first);
    place.wait_for_problems(&[
        "b.yaml:1: Listener twin: is also in a.yaml, line 6, and that one counts; remove one of them",
    ]);
    controller.wait_for_log(&["WARN", "Listener twin: is also in", "line 6, and that one counts; remove one of them"]);
    // The author decides: the other one counts then.
    place.put("a.yaml", &(site("west") + &backend));
    rig::wait_until_answered(second);
    place.wait_for_problems(&[]);
}

#[test]
fn the_first_of_two_sites_runs_on() {
    let machine = Machine::new();
    let place = machine.namespace("west");
    let port = rig::free_port();
    let rest = listener("backend", "backend", port) + &rig::connector("backend", "backend", echo());
    place.put("a.yaml", &(site("west") + &rest));
    let _controller = place.start();
    let conversation = Conversation::start(port);
    place.put("b.yaml", &site("other"));
    place.wait_for(Kind::Site, "other", "Error: An active site already exists in the namespace (west)");
    place.wait_for(Kind::Site, "west", "Ready: OK");
    place.wait_for(Kind::Listener, "backend", "Ready: OK");
    // Not even as the first of all files.
    place.put("0.yaml", &(site("zero") + &listener("twin", "backend", port)));
    place.wait_for(Kind::Site, "zero", "Error: An active site already exists in the namespace (west)");
    let taken = format!("Error: Listener backend with host 127.0.0.1 and port {port} already exists in namespace");
    place.wait_for(Kind::Listener, "twin", &taken);
    place.wait_for(Kind::Site, "west", "Ready: OK");
    place.remove("0.yaml");
    // Not even while its file is written does the other one take over.
    place.put("a.yaml", "apiVersion: skupp");
    rig::wait_until(
        || place.status(Kind::Site, "west"),
        || place.status(Kind::Site, "west").contains("stays in effect"),
    );
    assert_eq!(place.status(Kind::Site, "other"), "Error: An active site already exists in the namespace (west)");
    place.put("a.yaml", &(site("west") + &rest));
    place.wait_for(Kind::Site, "west", "Ready: OK");
    conversation.finish();
}

#[test]
fn two_listeners_on_one_port_are_told_apart() {
    let pair = Pair::start();
    let conversation = Conversation::start(pair.port);
    pair.east.put("twin.yaml", &listener("twin", "backend", pair.port));
    let expected =
        format!("Error: Listener backend with host 127.0.0.1 and port {} already exists in namespace", pair.port);
    pair.east.wait_for(Kind::Listener, "twin", &expected);
    pair.east.wait_for(Kind::Listener, "backend", "Ready: OK");
    pair.east.put("twin.yaml", &listener("twin", "backend", rig::free_port()));
    pair.east.wait_for(Kind::Listener, "twin", "Ready: OK");
    conversation.finish();
}

#[test]
fn what_is_wrong_with_a_token_is_in_its_status() {
    let machine = Machine::new();
    let place = machine.namespace("west");
    place.put("a.yaml", &site("west"));
    let _controller = place.start();
    place.put("token.yaml", &document("AccessToken", "t", "url: \"https://127.0.0.1:9/x\", code: c"));
    place.wait_for(Kind::AccessToken, "t", "Error: spec.ca is missing");
}

#[test]
fn a_removed_file_removes_its_documents() {
    let pair = Pair::start();
    let conversation = Conversation::start(pair.port);
    let port = rig::free_port();
    pair.east.put("extra.yaml", &listener("extra", "backend", port));
    rig::wait_until_answered(port);
    pair.east.remove("extra.yaml");
    pair.east.wait_for(Kind::Listener, "extra", "absent");
    conversation.finish();
}
