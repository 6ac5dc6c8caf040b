//! Networks of a certain shape, and a series of faults to survive.

use std::{
    fmt,
    time::{Duration, Instant},
};

use van_routing::{AddressKey, Table};

use super::network::Network;

static NONE: std::collections::BTreeSet<AddressKey> = std::collections::BTreeSet::new();

/// What a run depends on.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) routers: usize,
    pub(crate) shape: Shape,
    pub(crate) faults: usize,
    pub(crate) loss_percent: usize,
    /// How many of a hundred routers forward messages as skupper-router does.
    pub(crate) stock_percent: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Random cables, random costs, the same in both directions.
    Mesh,
    /// The same with a different cost in each direction.
    Asymmetric,
    /// A square grid where all cables cost the same.
    Grid,
    /// Two hubs, and all others connected to one or both.
    Hubs,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    Cut {
        cable: usize,
        is_noticed: bool,
    },
    /// Messages get through in one direction only.
    Deafen {
        cable: usize,
        end: usize,
    },
    Mend {
        cable: usize,
        is_noticed: bool,
    },
    Reprice {
        cable: usize,
    },
    Restart {
        router: usize,
        is_noticed: bool,
        is_clock_set_back: bool,
    },
    Crash {
        router: usize,
        is_noticed: bool,
    },
    Boot {
        router: usize,
    },
    Split,
    MendAll,
    Advertise {
        router: usize,
    },
    Withdraw {
        router: usize,
    },
}

impl Plan {
    /// Builds the network, then lets one fault happen after the other, and checks that all routers come to
    /// agree with the truth in time after each.
    pub(crate) fn run(&self) {
        let mut network = self.build();
        self.await_convergence(&mut network, &"start");
        for number in 0..self.faults {
            let fault = choose(&mut network);
            apply(&mut network, fault);
            self.await_convergence(&mut network, &format_args!("fault {number}, {fault:?}"));
            let pause = network.rng.below(3000) as u64;
            network.run_for(Duration::from_millis(pause));
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the virtual clock has to start somewhere")]
    fn build(&self) -> Network {
        let mut network = Network::new(Instant::now(), self.seed);
        network.loss_percent = self.loss_percent;
        for i in 0..self.routers {
            // Ids must not follow the shape, or ties would always fall the same way.
            let router = network.add_router(&format!("r{:03}-{i}", (i * 37 + 11) % self.routers));
            network.routers[router].is_stock = network.rng.percent(self.stock_percent);
        }
        self.lay_cables(&mut network);
        for router in 0..self.routers {
            for _ in 0..network.rng.below(3) {
                apply(&mut network, Fault::Advertise { router });
            }
            network.boot(router);
        }
        for cable in 0..network.cables.len() {
            network.connect(cable);
        }
        network
    }

    fn lay_cables(&self, network: &mut Network) {
        let n = self.routers;
        match self.shape {
            Shape::Mesh | Shape::Asymmetric => {
                for i in 1..n {
                    let other = network.rng.below(i);
                    self.lay_cable(network, i, other);
                }
                for _ in 0..n {
                    let (a, b) = (network.rng.below(n), network.rng.below(n));
                    if a != b {
                        self.lay_cable(network, a, b);
                    }
                }
            }
            Shape::Grid => {
                let width = n.isqrt();
                for i in 0..n {
                    if i % width > 0 {
                        self.lay_cable(network, i, i - 1);
                    }
                    if i >= width {
                        self.lay_cable(network, i, i - width);
                    }
                }
            }
            Shape::Hubs => {
                self.lay_cable(network, 0, 1);
                for i in 2..n {
                    self.lay_cable(network, i, i % 2);
                    if i % 3 == 0 {
                        self.lay_cable(network, i, 1 - i % 2);
                    }
                }
            }
        }
    }

    fn lay_cable(&self, network: &mut Network, a: usize, b: usize) {
        let cost = 1 + network.rng.below(5) as u32;
        let back = 1 + network.rng.below(20) as u32;
        let costs = match self.shape {
            Shape::Mesh => [cost; 2],
            Shape::Asymmetric => [cost, back],
            Shape::Grid | Shape::Hubs => [1; 2],
        };
        network.add_cable([a, b], costs);
    }

    fn await_convergence(&self, network: &mut Network, what: &dyn fmt::Display) {
        let expected = network.expected_tables();
        let diameter = expected.iter().flatten().map(Table::radius).max().unwrap_or(0);
        let limit = match self.loss_percent {
            0 => Duration::from_secs(8 + u64::from(diameter)),
            _ => Duration::from_secs(70),
        };
        let (start, sent) = (network.now, network.sent);
        while let Err(difference) = compare(network, &expected) {
            if std::env::var_os("VERBOSE").is_some() && network.now > start + Duration::from_millis(600) {
                eprintln!("   {:?} {difference}", network.now - start);
            }
            assert!(network.now < start + limit, "not converged after {limit:?}: {difference}\n{what} of {self:?}");
            network.run_for(Duration::from_millis(50));
        }
        if std::env::var_os("VERBOSE").is_some() {
            eprintln!("{:?} {} messages: {what} {self:?}", network.now - start, network.sent - sent);
        }
    }
}

/// Finds a difference between what routers believe and what is true.
fn compare(network: &Network, expected: &[Option<Table>]) -> Result<(), String> {
    for (router, expected) in std::iter::zip(&network.routers, expected) {
        let (Some(engine), Some(expected)) = (&router.engine, expected) else { continue };
        for (other, route) in expected.routes() {
            let actual = engine.table().route(other);
            if actual != Some(route) {
                return Err(format!("{} should reach {other} by {route:?}, not {actual:?}", router.id));
            }
        }
        if let Some((other, route)) = engine.table().routes().find(|(other, _)| expected.route(other).is_none()) {
            return Err(format!("{} should not reach {other} by {route:?}", router.id));
        }
        for other in network.routers.iter().filter(|other| other.id != router.id) {
            let known = router.known.get(&other.id).unwrap_or(&NONE);
            let truth = if expected.route(&other.id).is_some() { &other.addresses } else { &NONE };
            if known != truth {
                return Err(format!("{} knows {known:?} of {}, not {truth:?}", router.id, other.id));
            }
        }
    }
    Ok(())
}

fn choose(network: &mut Network) -> Fault {
    let cables = 0..network.cables.len();
    let (good, bad): (Vec<_>, Vec<_>) = cables.partition(|&i| {
        let cable = &network.cables[i];
        cable.is_up && cable.carries == [true; 2]
    });
    let (up, down): (Vec<_>, Vec<_>) = (0..network.routers.len()).partition(|&i| network.routers[i].engine.is_some());
    let rng = &mut network.rng;
    let is_noticed = rng.percent(60);
    // The more is broken, the more likely something is mended.
    if rng.percent((10 * (bad.len() + down.len())).min(80)) {
        if let Some(router) = rng.pick(&down) {
            return Fault::Boot { router };
        }
        if bad.len() > 9 && rng.percent(50) {
            return Fault::MendAll;
        }
        if let Some(cable) = rng.pick(&bad) {
            return Fault::Mend { cable, is_noticed };
        }
    }
    let cable = rng.pick(&good);
    let router = rng.pick(&up).expect("some router is up");
    match (rng.below(100), cable) {
        (0..30, Some(cable)) => Fault::Cut { cable, is_noticed },
        (30..38, Some(cable)) => Fault::Deafen { cable, end: rng.below(2) },
        (38..50, Some(cable)) => Fault::Reprice { cable },
        (50..65, _) => Fault::Restart { router, is_noticed, is_clock_set_back: rng.percent(20) },
        (65..72, _) if up.len() > 1 => Fault::Crash { router, is_noticed },
        (72..76, _) => Fault::Split,
        (76..90, _) => Fault::Advertise { router },
        _ => Fault::Withdraw { router },
    }
}

fn apply(network: &mut Network, fault: Fault) {
    match fault {
        Fault::Cut { cable, is_noticed } => {
            network.cables[cable].carries = [false; 2];
            if is_noticed {
                network.disconnect(cable);
            }
        }
        Fault::Deafen { cable, end } => network.cables[cable].carries[end] = false,
        Fault::Mend { cable, is_noticed } => {
            network.cables[cable].carries = [true; 2];
            if is_noticed && network.cables[cable].is_up {
                network.disconnect(cable);
            }
            network.connect(cable);
        }
        // With unequal costs, routes there and back may differ in hops, and stock routers drop what comes too far.
        Fault::Reprice { .. } if network.routers.iter().any(|router| router.is_stock) => {}
        Fault::Reprice { cable } => {
            let [a, b] = network.cables[cable].costs;
            let is_symmetric = a == b;
            let cost = 1 + network.rng.below(9) as u32;
            network.cables[cable].costs = [cost, if is_symmetric { cost } else { b }];
            network.connect(cable);
        }
        Fault::Restart { router, is_noticed, is_clock_set_back } => {
            let cables = cables_of(network, router);
            network.crash(router);
            if is_noticed {
                cables.iter().for_each(|&cable| network.disconnect(cable));
            }
            if is_clock_set_back {
                network.routers[router].instance -= 100;
            }
            network.boot(router);
            cables.iter().for_each(|&cable| network.connect(cable));
        }
        Fault::Crash { router, is_noticed } => {
            let cables = cables_of(network, router);
            network.crash(router);
            if is_noticed {
                cables.iter().for_each(|&cable| network.disconnect(cable));
            }
        }
        Fault::Boot { router } => {
            network.boot(router);
            let all = (0..network.cables.len()).filter(|&i| network.cables[i].ends.contains(&router));
            let usable: Vec<_> = all.filter(|&i| network.cables[i].carries == [true; 2]).collect();
            usable.iter().for_each(|&cable| network.connect(cable));
        }
        Fault::Split => {
            let middle = network.routers.len() / 2;
            for cable in 0..network.cables.len() {
                let [a, b] = network.cables[cable].ends;
                if (a < middle) != (b < middle) && network.cables[cable].is_up {
                    apply(network, Fault::Cut { cable, is_noticed: true });
                }
            }
        }
        Fault::MendAll => {
            for cable in 0..network.cables.len() {
                if !network.works(cable) {
                    apply(network, Fault::Mend { cable, is_noticed: true });
                }
            }
        }
        Fault::Advertise { router } => {
            let key = AddressKey::new(&format!("Mservice-{}", network.rng.below(1000))).expect("a valid key");
            network.advertise(router, &key);
        }
        Fault::Withdraw { router } => {
            let keys: Vec<_> = network.routers[router].addresses.iter().cloned().collect();
            keys.iter().for_each(|key| network.withdraw(router, key));
        }
    }
}

fn cables_of(network: &Network, router: usize) -> Vec<usize> {
    let cables = network.cables.iter().enumerate();
    cables.filter(|(_, cable)| cable.is_up && cable.ends.contains(&router)).map(|(i, _)| i).collect()
}
