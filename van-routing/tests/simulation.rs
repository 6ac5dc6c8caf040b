//! Whole networks of engines on a virtual clock, and what may happen to them.
//!
//! A failing run prints its plan, which repeats it.

#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/rng.rs"]
mod rng;

use plan::{Plan, Shape};

#[test]
fn a_hundred_routers_converge_after_each_fault_in_a_mesh() {
    Plan { seed: 1, routers: 100, shape: Shape::Mesh, faults: 70, loss_percent: 0 }.run();
}

#[test]
fn three() {
    Plan { seed: 1, routers: 3, shape: Shape::Mesh, faults: 70, loss_percent: 0 }.run();
}
