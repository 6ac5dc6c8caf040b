//! Controllers that are killed, stopped, and started again.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use van_site::document::{Document, Key};
use van_site::resource::Kind;

use crate::rig::{self, Controller, Conversation, Pair, grant, listener, open_site, site};

/// The id of a router, as its site remembers it.
fn router(place: &rig::Place) -> String {
    let text = std::fs::read_to_string(place.folder.internal().join("site.json")).expect("it is kept");
    let line = text.lines().find(|line| line.contains("\"router\"")).expect("it is in it");
    line.trim().to_owned()
}

#[test]
fn a_killed_site_comes_back_as_it_was() {
    let pair = Pair::start();
    let north = pair.machine.namespace("north");
    let port = rig::free_port();
    pair.west.put("to-north.yaml", &grant("to-north", 1));
    north.put("north.yaml", &(site("north") + &listener("backend", "backend", port) + &pair.west.token("to-north")));
    let _north_controller = north.start();
    let conversation = Conversation::start(port);

    let before = router(&pair.east);
    // Nobody can redeem it any more.
    pair.west.remove("to-north.yaml");
    pair.west.wait_for(Kind::AccessGrant, "to-north", "absent");
    pair.east_controller.kill();
    let start = Instant::now();
    let again = pair.east.start();
    rig::wait_until_answered(pair.port);
    assert!(start.elapsed() < Duration::from_secs(30), "it took {:?}", start.elapsed());
    pair.east.wait_for(Kind::Link, "to-east", "Ready: OK");
    pair.east.wait_for(Kind::AccessToken, "to-east", "Ready: OK");
    assert_eq!(router(&pair.east), before);
    assert_eq!(pair.west.grant("to-east").status.redemptions, 1);
    conversation.finish();
    drop(again);
}

#[test]
fn a_site_that_is_linked_to_comes_back_where_it_was() {
    let pair = Pair::start();
    let endpoint = |place: &rig::Place| match place.shown(Kind::Site, "west") {
        Some(Document::Site(site)) => site.status.endpoints,
        _ => panic!("it is shown"),
    };
    let (before, url) = (endpoint(&pair.west), pair.west.grant("to-east").status.url);
    pair.west_controller.kill();
    pair.east.wait_for(Kind::Listener, "backend", "Pending: No matching connectors");
    let _again = pair.west.start();
    pair.east.wait_for(Kind::Link, "to-east", "Ready: OK");
    rig::wait_until_answered(pair.port);
    assert_eq!((endpoint(&pair.west), pair.west.grant("to-east").status.url), (before, url));
}

#[test]
fn a_stopped_site_says_so_and_leaves_no_port_open() {
    let pair = Pair::start();
    pair.east_controller.stop();
    assert_eq!(pair.east.status(Kind::Site, "east"), "Pending: the site was stopped");
    assert_eq!(pair.east.status(Kind::Link, "to-east"), "Pending: Not operational: the site was stopped");
    assert_eq!(pair.east.status(Kind::Listener, "backend"), "Pending: No matching connectors");
    assert!(TcpListener::bind((Ipv4Addr::LOCALHOST, pair.port)).is_ok(), "its port is free");
    let again = pair.east.start();
    pair.east.wait_for(Kind::Site, "east", "Ready: OK");
    rig::wait_until_answered(pair.port);
    again.stop();
}

#[test]
fn a_site_that_is_stopping_says_so_and_ends_at_once_when_told_again() {
    let pair = Pair::start();
    pair.east_controller.stop();
    let mut controller = Controller::spawn(pair.east.command_that_drains("600"), pair.east.folder.root());
    rig::wait_until_answered(pair.port);
    let _client = TcpStream::connect((Ipv4Addr::LOCALHOST, pair.port)).expect("it answers");
    let terminate = || kill_process(Pid::from_child(&controller.process), Signal::TERM).expect("it is running");
    terminate();
    pair.east.wait_for(Kind::Site, "east", "Pending: the site is stopping");
    pair.east.wait_for(Kind::Listener, "backend", "Pending: No matching connectors");
    terminate();
    assert_eq!(controller.wait().code(), Some(1), "{}", controller.log());
}

#[test]
fn a_token_is_used_once_however_often_its_site_is_killed() {
    let machine = rig::Machine::new();
    let (west, east) = (machine.namespace("west"), machine.namespace("east"));
    west.put("west.yaml", &(open_site("west") + &grant("to-east", 5)));
    let _west = west.start();
    let token = west.token("to-east");
    east.put("east.yaml", &site("east"));
    let first = east.start();
    east.wait_for(Kind::Site, "east", "Ready: OK");
    east.put("token.yaml", &token);
    rig::wait_until(|| "it is used".to_owned(), || west.grant("to-east").status.redemptions > 0);
    east.wait_for(Kind::AccessToken, "to-east", "Ready: OK");
    first.kill();
    for _ in 0..5 {
        let again = east.start();
        east.wait_for(Kind::Link, "to-east", "Ready: OK");
        again.kill();
    }
    // Nor once it has been stopped for good, and what the token gave is gone.
    for entry in east.folder.read_runtime().entries() {
        east.folder.remove_runtime(&entry.document.key()).expect("van system stop does so");
    }
    for kind in [Kind::Link, Kind::Secret] {
        let files = east.folder.delete_input(&Key::new(kind, "to-east")).expect("van link delete does so");
        assert!(!files.is_empty(), "{kind}");
    }
    let again = east.start();
    east.wait_for(Kind::AccessToken, "to-east", "Ready: OK");
    again.kill();
    assert_eq!(west.grant("to-east").status.redemptions, 1);
}
