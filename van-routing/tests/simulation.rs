//! Whole networks of engines on a virtual clock, and what may happen to them.
//!
//! A run depends on its [`Plan`] alone. One that fails prints it.

#[allow(clippy::unwrap_used, unreachable_pub, reason = "written by another hand, to be left alone")]
mod oracle;

#[path = "simulation/fault.rs"]
mod fault;
#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/rng.rs"]
mod rng;

use std::time::Duration;

use fault::Fault;
use plan::{Plan, Shape};

// === two hundred faults in networks of a hundred routers ===

#[test]
fn a_hundred_routers_in_a_mesh_converge_after_every_fault() {
    Plan { shape: Shape::Mesh, routers: 100, faults: 50, ..Plan::default() }.run();
}

#[test]
fn a_hundred_routers_with_asymmetric_costs_converge_after_every_fault() {
    Plan { shape: Shape::Asymmetric, routers: 100, faults: 50, ..Plan::default() }.run();
}

#[test]
fn a_hundred_routers_in_a_grid_of_equal_costs_converge_after_every_fault() {
    Plan { shape: Shape::Grid, routers: 100, faults: 50, ..Plan::default() }.run();
}

#[test]
fn a_hundred_routers_around_two_hubs_converge_after_every_fault() {
    Plan { shape: Shape::Hubs, routers: 100, faults: 50, ..Plan::default() }.run();
}

// === other sizes and circumstances ===

#[test]
fn networks_of_all_sizes_converge_after_every_fault() {
    for seed in 0..6 {
        for routers in [3, 4, 9, 25] {
            for shape in [Shape::Mesh, Shape::Asymmetric, Shape::Grid, Shape::Hubs] {
                Plan { seed, routers, shape, ..Plan::default() }.run();
            }
        }
    }
}

#[test]
fn networks_that_lose_every_tenth_message_converge() {
    Plan { shape: Shape::Mesh, routers: 100, faults: 3, loss_percent: 10, ..Plan::default() }.run();
    Plan { shape: Shape::Hubs, routers: 100, faults: 6, loss_percent: 10, ..Plan::default() }.run();
    for seed in 0..12 {
        for shape in [Shape::Mesh, Shape::Asymmetric, Shape::Grid] {
            Plan { seed, routers: 16, shape, loss_percent: 10, ..Plan::default() }.run();
        }
    }
}

#[test]
fn networks_with_stock_routers_converge() {
    for seed in 0..10 {
        for (routers, stock_percent) in [(4, 50), (9, 50), (16, 50), (16, 90)] {
            Plan { seed, routers, shape: Shape::Hubs, stock_percent, ..Plan::default() }.run();
        }
    }
}

#[test]
fn a_network_left_alone_stays_converged_and_quiet() {
    let plan = Plan { shape: Shape::Mesh, routers: 30, ..Plan::default() };
    let mut network = plan.start();
    let expected = network.expected_tables();
    network.run_for(Duration::from_secs(10));
    let sent = network.sent;
    for _ in 0..120 {
        network.run_for(Duration::from_secs(1));
        network.compare(&expected).expect("still converged");
    }
    let (ends, routers) = (2 * network.cables.len(), network.routers.len());
    let (hellos, advertisements) = (120 * ends, (120 / 30 + 1) * routers * ends);
    assert!(network.sent - sent <= hellos + advertisements, "{} messages", network.sent - sent);
}

#[test]
fn two_routers_with_one_id_are_reported_and_do_no_harm() {
    for survivor in [0, 1] {
        let plan = Plan { shape: Shape::Mesh, routers: 20, ..Plan::default() };
        let mut network = plan.start();
        let [older, younger] = [0, 19];
        network.crash(older);
        network.crash(younger);
        network.routers[younger].id = network.routers[older].id.clone();
        network.routers[younger].instance += 10;
        network.run_for(Duration::from_secs(10));
        Fault::Boot { router: older }.apply(&mut network);
        Fault::Boot { router: younger }.apply(&mut network);
        let sent = network.sent;
        network.run_for(Duration::from_secs(60));
        let ends = 2 * network.cables.len();
        assert!(network.sent - sent < 60 * 5 * ends, "{} messages is a storm", network.sent - sent);
        assert!(network.duplicates > 0, "someone reports the duplicate");

        network.crash([younger, older][survivor]);
        plan.await_convergence(&mut network, &"the end of the duplicate");
    }
}
