//! `van link`.

use jiff::Timestamp;
use van_site::document::Document;
use van_site::resource::link::{LinkSpec, LinkStatus};
use van_site::resource::{Endpoint, Link};
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
