//! Commands that wait for the controller.

use crate::routed::{connector, listener};
use crate::site::site;
use crate::world::{Said, World};

fn failed(complaint: &str) -> Said {
    Said { code: Some(1), output: String::new(), complaint: complaint.to_owned() }
}

fn succeeded(output: &str) -> Said {
    Said { code: Some(0), output: output.to_owned(), complaint: String::new() }
}

#[test]
fn nobody_waits_for_a_site_that_does_not_run() {
    let world = World::new();
    let complaint = "van: the site is not running: start it with \"van -n west system start\"\n";
    for line in ["site create west", "listener create a 1", "connector create a 1"] {
        world.fails(&format!("-n west {line} --wait ready"), 1, complaint);
    }
    assert_eq!(world.namespace("west").load_input().entries().count(), 0, "nothing was written");
}

#[test]
fn a_site_is_waited_for() {
    let world = World::new();
    let namespace = world.namespace("west");
    let _controller = namespace.lock_controller().expect("nobody else has it");
    let mut command = world.start("-n west site create west --wait ready");
    command.wait_until_said("Waiting for status...");
    world.report("west", site(None, Err("the router is starting")));
    world.report("west", site(None, Ok(())));
    assert_eq!(command.end(), succeeded("Site \"west\" is ready.\n"));

    let mut command = world.start("-n west site update --enable-link-access --wait ready");
    command.wait_until_said("Waiting for update to complete...");
    // That is still the status of what was there before.
    world.report("west", site(None, Ok(())));
    world.report("west", site(Some("default"), Ok(())));
    assert_eq!(command.end(), succeeded("Site \"west\" is updated\n"));
}

#[test]
fn listeners_and_connectors_are_waited_for() {
    let world = World::new();
    let namespace = world.namespace("west");
    let _controller = namespace.lock_controller().expect("nobody else has it");
    let mut command = world.start("-n west listener create backend 19090 --host 127.0.0.1 --wait ready");
    command.wait_until_said("Waiting for create to complete...");
    world.report("west", listener(19090, Ok(()), false));
    world.report("west", listener(19090, Ok(()), true));
    assert_eq!(command.end(), succeeded("Listener \"backend\" is ready\n"));

    let mut command = world.start("-n west connector create backend 18080 --host 127.0.0.1 --wait configured");
    command.wait_until_said("Waiting for create to complete...");
    world.report("west", connector(false));
    assert_eq!(command.end(), succeeded("Connector \"backend\" is configured.\n"));
}

/// An error is somebody's move; waiting would not help.
#[test]
fn an_error_ends_the_wait() {
    let world = World::new();
    let namespace = world.namespace("west");
    let _controller = namespace.lock_controller().expect("nobody else has it");
    let mut command = world.start("-n west listener create backend 19090 --host 127.0.0.1 --wait configured");
    command.wait_until_said("Waiting for create to complete...");
    world.report("west", listener(19090, Err("port 19090 is in use by another program"), false));
    let complaint = "van: Listener \"backend\" is not yet configured: port 19090 is in use by another program\n";
    assert_eq!(command.end(), failed(complaint));
}

#[test]
fn the_timeout_ends_the_wait_and_says_what_is_missing() {
    let world = World::new();
    let namespace = world.namespace("west");
    let _controller = namespace.lock_controller().expect("nobody else has it");
    let mut seen = world.start("-n west listener create backend 19090 --host 127.0.0.1 --wait ready --timeout 10s");
    let mut unseen = world.start("-n west connector create backend 18080 --wait ready --timeout 10s");
    seen.wait_until_said("Waiting for create to complete...");
    unseen.wait_until_said("Waiting for create to complete...");
    world.report("west", listener(19090, Ok(()), false));
    assert_eq!(seen.end(), failed("van: Listener \"backend\" is not yet ready: No matching connectors\n"));
    assert_eq!(unseen.end(), failed("van: Connector \"backend\" is not yet ready: the site has not taken it up yet\n"));
    assert_eq!(namespace.load_input().entries().count(), 2, "they stay");
}

#[test]
fn the_end_of_the_controller_ends_the_wait() {
    let world = World::new();
    let controller = world.namespace("west").lock_controller().expect("nobody else has it");
    let mut command = world.start("-n west site create west --wait ready");
    command.wait_until_said("Waiting for status...");
    drop(controller);
    let complaint = "van: the site is not running: start it with \"van -n west system start\"\n";
    assert_eq!(command.end(), failed(complaint));
}
