//! Sites that are joined, and changed while they are in use.

use std::net::{Ipv4Addr, TcpListener};

use van_site::document::Document;
use van_site::resource::Kind;
use van_site::status::State;

use crate::rig::{self, Conversation, Machine, Pair, Place, connector, echo, free_port, listener, open_site, site};

#[test]
fn two_sites_are_joined_by_files_alone() {
    let pair = Pair::start();
    rig::wait_until_answered(pair.port);
    for place in [&pair.west, &pair.east] {
        place.wait_for(Kind::Site, place.folder.name(), "Ready: OK");
        rig::wait_until(|| format!("all is ready, not {:?}", unready(place)), || unready(place).is_empty());
        assert_eq!(place.problems(), [] as [String; 0]);
    }
    let Some(Document::Link(link)) = pair.east.shown(Kind::Link, "to-east") else { panic!("it was ready") };
    assert_eq!(link.status.common.state, Some(State::Ready));
    rig::wait_until(
        || "the link names the other site".to_owned(),
        || matches!(pair.east.shown(Kind::Link, "to-east"), Some(Document::Link(link)) if link.status.remote_site_name.as_deref() == Some("west")),
    );
    rig::wait_until(|| "one use is counted".to_owned(), || pair.west.grant("to-east").status.redemptions == 1);
    // The link's certificate is where the router's configuration says.
    let config = std::fs::read_to_string(pair.east.folder.router_config()).expect("it is written");
    let file = pair.east.folder.runtime_certs().join("to-east-profile/tls.crt");
    assert!(config.contains(&*file.to_string_lossy()) && file.exists(), "{config}");
    assert_eq!(pair.east_controller.output(), "Site \"east\" is ready.\n");
    pair.east_controller.stop();
    pair.west_controller.stop();
}

/// What is not ready, and why.
fn unready(place: &Place) -> Vec<String> {
    let documents = place.folder.read_runtime();
    let unready = documents.entries().filter_map(|entry| {
        let status = entry.document.status().filter(|status| !status.is_ready())?;
        Some(format!("{}: {}", entry.document.key(), status.message))
    });
    unready.collect()
}

#[test]
fn a_change_of_documents_touches_no_other_stream() {
    let pair = Pair::start();
    let (west, east) = (&pair.west, &pair.east);
    let conversation = Conversation::start(pair.port);
    // Added.
    let port = free_port();
    west.put("other.yaml", &connector("other", "other", echo()));
    east.put("other.yaml", &listener("other", "other", port));
    east.wait_for(Kind::Listener, "other", "Ready: OK");
    rig::wait_until_answered(port);
    // Changed: another port, and another key.
    let second = free_port();
    east.put("other.yaml", &listener("other", "other", second));
    rig::wait_until_answered(second);
    rig::wait_until(|| "the old port is closed".to_owned(), || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    east.put("other.yaml", &listener("other", "nothing", second));
    east.wait_for(Kind::Listener, "other", "Pending: No matching connectors");
    // Removed.
    east.remove("other.yaml");
    west.remove("other.yaml");
    east.wait_for(Kind::Listener, "other", "absent");
    west.wait_for(Kind::Connector, "other", "absent");
    conversation.finish();
    rig::wait_until_answered(pair.port);
}

#[test]
fn a_stream_outlives_its_own_documents() {
    let pair = Pair::start();
    let conversation = Conversation::start(pair.port);
    let text = std::fs::read_to_string(pair.east.file("east.yaml")).expect("it is there");
    pair.east.put("east.yaml", &site("east"));
    pair.east.wait_for(Kind::Listener, "backend", "absent");
    pair.west.wait_for(Kind::Connector, "backend", "Pending: No matching listeners");
    pair.east.put("east.yaml", &text);
    pair.east.wait_for(Kind::Listener, "backend", "Ready: OK");
    conversation.finish();
}

#[test]
fn a_site_that_comes_later_finds_its_documents_waiting() {
    let machine = Machine::new();
    let place = machine.namespace("west");
    let port = free_port();
    place.put("backend.yaml", &(listener("backend", "backend", port) + &connector("backend", "backend", echo())));
    let _controller = place.start();
    place.wait_for(Kind::Listener, "backend", "Error: No active site in namespace");
    place.put("site.yaml", &open_site("west"));
    place.wait_for(Kind::Listener, "backend", "Ready: OK");
    rig::wait_until_answered(port);
}
