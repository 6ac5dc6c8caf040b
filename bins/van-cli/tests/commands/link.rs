//! `van link`.

use jiff::Timestamp;
use van_site::document::Document;
use van_site::grants::REDEEMED_FROM;
use van_site::resource::link::{LinkSpec, LinkStatus};
use van_site::resource::{Endpoint, Kind, Link, Secret};
use van_site::status::{LinkReport, link_status};

use crate::world::World;

/// A link with a status, as a controller writes it.
fn link(report: LinkReport) -> Link {
    let endpoint =
        Endpoint { name: "inter-router".into(), host: "localhost".into(), port: "55671".into(), group: None };
    let spec = LinkSpec { endpoints: vec![endpoint], cost: 2, ..LinkSpec::default() };
    let status = link_status(&LinkStatus::default(), Ok(()), report, Timestamp::UNIX_EPOCH);
    Link { status, ..Link::new("west", spec) }
}

fn world_with_a_link() -> World {
    let world = World::new();
    let document = Document::from(link(LinkReport::Nothing));
    world.namespace("east").put_input(&document).expect("it can be written");
    world
}

#[test]
fn statuses_name_the_other_site_and_the_reason() {
    let world = world_with_a_link();
    let namespace = world.namespace("east");
    let _controller = namespace.lock_controller().expect("nobody else has it");
    let down = LinkReport::Down { error: Some("connection refused".to_owned()) };
    world.report("east", link(down));
    world.succeeds(
        "-n east link status",
        "NAME\tSTATUS\tCOST\tREMOTE SITE\tMESSAGE\nwest\tPending\t2\t\t\tNot operational: connection refused\n",
    );
    let (remote_site_id, remote_site_name) = (None, Some("west-site".to_owned()));
    let up = LinkReport::Up { remote_site_id, remote_site_name, stands_by_for: None };
    world.report("east", link(up));
    world.succeeds("-n east link status", "NAME\tSTATUS\tCOST\tREMOTE SITE\tMESSAGE\nwest\tReady\t2\twest-site\tOK\n");
    world.succeeds(
        "-n east link status west",
        "Name\t\t: west\nStatus\t\t: Ready\nCost\t\t: 2\nRemote site\t: west-site\nMessage\t\t: OK\n",
    );
}

#[test]
fn a_link_can_be_removed() {
    let world = world_with_a_link();
    world.fails("-n east link delete x", 1, "van: there is no link \"x\" in namespace \"east\"; there is: west\n");
    world.succeeds("-n east link delete west", "Link \"west\" is deleted\n");
    world.succeeds("-n east link status", "There are no link resources in the namespace\n");
}

#[test]
fn the_certificate_of_a_token_goes_with_the_last_link_that_uses_it() {
    let world = World::new();
    let namespace = world.namespace("east");
    let put = |document: Document| drop(namespace.put_input(&document).expect("it can be written"));
    for name in ["to-west", "own"] {
        let mut secret = Secret::new(name, Secret::TLS);
        if name == "to-west" {
            secret.metadata.annotations.insert(REDEEMED_FROM.to_owned(), "https://west".to_owned());
        }
        put(secret.into());
    }
    for (name, secret) in [("a", "to-west"), ("b", "to-west"), ("c", "own")] {
        let mut link = link(LinkReport::Nothing);
        (link.metadata.name, link.spec.tls_credentials) = (name.to_owned(), Some(secret.to_owned()));
        put(link.into());
    }
    let has = |name| namespace.load_input().entry(Kind::Secret, name).is_some();
    for (link, is_kept) in [("a", true), ("b", false), ("c", false)] {
        world.succeeds(&format!("-n east link delete {link}"), &format!("Link \"{link}\" is deleted\n"));
        assert_eq!((has("to-west"), has("own")), (is_kept, true), "{link}");
    }
}
