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
fn a_hundred_routers_mesh() {
    Plan { seed: 1, routers: 100, shape: Shape::Mesh, faults: 50, loss_percent: 0, stock_percent: 0 }.run();
}
#[test]
fn a_hundred_routers_asym() {
    Plan { seed: 1, routers: 100, shape: Shape::Asymmetric, faults: 50, loss_percent: 0, stock_percent: 0 }.run();
}
#[test]
fn a_hundred_routers_grid() {
    Plan { seed: 1, routers: 100, shape: Shape::Grid, faults: 50, loss_percent: 0, stock_percent: 0 }.run();
}
#[test]
fn a_hundred_routers_hubs() {
    Plan { seed: 1, routers: 100, shape: Shape::Hubs, faults: 50, loss_percent: 0, stock_percent: 0 }.run();
}

#[test]
fn small() {
    for seed in 0..30 {
        for routers in [3, 4, 9, 16] {
            for shape in [Shape::Mesh, Shape::Asymmetric, Shape::Grid, Shape::Hubs] {
                Plan { seed, routers, shape, faults: 30, loss_percent: 0, stock_percent: 0 }.run();
            }
        }
    }
}
#[test]
fn dbg() {
    Plan { seed: 0, routers: 9, shape: Shape::Hubs, faults: 30, loss_percent: 0, stock_percent: 0 }.run();
}
#[test]
fn lossy() {
    Plan { seed: 1, routers: 100, shape: Shape::Mesh, faults: 10, loss_percent: 10, stock_percent: 0 }.run();
    Plan { seed: 1, routers: 100, shape: Shape::Hubs, faults: 10, loss_percent: 10, stock_percent: 0 }.run();
    Plan { seed: 1, routers: 100, shape: Shape::Asymmetric, faults: 10, loss_percent: 10, stock_percent: 0 }.run();
    Plan { seed: 1, routers: 100, shape: Shape::Grid, faults: 10, loss_percent: 10, stock_percent: 0 }.run();
}

#[test]
fn stock() {
    for seed in 0..20 {
        Plan { seed, routers: 16, shape: Shape::Grid, faults: 20, loss_percent: 0, stock_percent: 50 }.run();
        Plan { seed, routers: 16, shape: Shape::Hubs, faults: 20, loss_percent: 0, stock_percent: 50 }.run();
    }
}
