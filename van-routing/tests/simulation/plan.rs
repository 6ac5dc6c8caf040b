//! Networks of a certain shape, and a series of faults to survive.

use std::{
    fmt,
    time::{Duration, Instant},
};

use van_routing::{RouterId, Table};

use crate::{fault::Fault, network::Network, oracle};

/// All that a run depends on.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) routers: usize,
    pub(crate) shape: Shape,
    pub(crate) faults: usize,
    /// How many of a hundred messages are lost on each cable.
    pub(crate) loss_percent: usize,
    /// How many of a hundred routers behave as skupper-router does.
    pub(crate) stock_percent: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Random cables and costs, the same in both directions.
    Mesh,
    /// Random cables and costs, different in each direction.
    Asymmetric,
    /// A square grid where all cables cost the same.
    Grid,
    /// Two hubs, and all others connected to one or both.
    Hubs,
}

impl Default for Plan {
    fn default() -> Self {
        Self { seed: 1, routers: 9, shape: Shape::Mesh, faults: 20, loss_percent: 0, stock_percent: 0 }
    }
}

impl Plan {
    /// Starts a network, then lets one fault happen after the other, and checks that all routers come to agree
    /// with the truth in time after each.
    pub(crate) fn run(&self) {
        let mut network = self.start();
        for number in 0..self.faults {
            let fault = Fault::choose(&mut network);
            fault.apply(&mut network);
            self.await_convergence(&mut network, &format_args!("fault {number}, {fault:?}"));
            let pause = network.rng.below_u32(1500);
            network.run_for(Duration::from_millis(pause.into()));
        }
    }

    /// Builds the network and waits until it has converged for the first time.
    #[expect(clippy::disallowed_methods, reason = "the virtual clock has to start somewhere")]
    pub(crate) fn start(&self) -> Network {
        let mut network = Network::new(Instant::now(), self.seed, self.loss_percent);
        for i in 0..self.routers {
            // Ids must not follow the shape, or ties would always fall the same way.
            let is_stock = network.rng.percent(self.stock_percent);
            network.add_router(&format!("r{:03}-{i}", (i * 37 + 11) % self.routers), is_stock);
        }
        for [a, b] in self.cables(&mut network) {
            let [cost, cost_back] = [5, 20].map(|most| 1 + network.rng.below_u32(most));
            let costs = match self.shape {
                Shape::Mesh => [cost; 2],
                Shape::Asymmetric => [cost, cost_back],
                Shape::Grid | Shape::Hubs => [1; 2],
            };
            network.add_cable([a, b], costs);
        }
        for router in 0..self.routers {
            (0..router % 3).for_each(|_| Fault::Advertise { router }.apply(&mut network));
            network.boot(router);
        }
        (0..network.cables.len()).for_each(|cable| network.connect(cable));
        self.await_convergence(&mut network, &"the start");
        network
    }

    fn cables(&self, network: &mut Network) -> Vec<[usize; 2]> {
        let (n, width) = (self.routers, self.routers.isqrt());
        match self.shape {
            Shape::Mesh | Shape::Asymmetric => {
                let mut cables: Vec<_> = (1..n).map(|i| [i, network.rng.below(i)]).collect();
                cables.extend((0..n).map(|i| [i, network.rng.below(n)]).filter(|[a, b]| a != b));
                cables
            }
            Shape::Grid => {
                let along = (0..n).filter(|i| i % width > 0).map(|i| [i, i - 1]);
                along.chain((width..n).map(|i| [i, i - width])).collect()
            }
            Shape::Hubs => {
                let once = (2..n).map(|i| [i, i % 2]);
                let twice = (2..n).filter(|i| i % 3 == 0).map(|i| [i, 1 - i % 2]);
                [[0, 1]].into_iter().chain(once).chain(twice).collect()
            }
        }
    }

    pub(crate) fn await_convergence(&self, network: &mut Network, what: &dyn fmt::Display) {
        let expected = network.expected_tables();
        let diameter = expected.iter().flatten().map(Table::radius).max().unwrap_or(0);
        let limit = Duration::from_secs(match (self.loss_percent, self.stock_percent) {
            (0, 0) => 8 + u64::from(diameter),
            (0, _) => 30, // what a stock router misses it hears of with the next advertisement
            _ => 70,
        });
        let start = network.now;
        while let Err(difference) = network.compare(&expected) {
            assert!(network.now < start + limit, "{limit:?} after {what}: {difference}\n{self:?}");
            network.run_for(Duration::from_millis(50));
        }
        if self.routers < 10 {
            check_against_oracle(network);
        }
    }
}

/// Checks the tables of all routers against the oracle, which was written from the specification alone.
fn check_against_oracle(network: &Network) {
    let peers = |peers: &van_routing::Peers| peers.iter().map(|(id, &cost)| (id.to_string(), cost.into())).collect();
    let truth = network.link_states().iter().map(|(id, listed)| (id.to_string(), peers(listed))).collect();
    for engine in network.routers.iter().filter_map(|router| router.engine.as_ref()) {
        let table = engine.table();
        let actual = table.routes().map(|(to, route)| {
            let valid_origins = table.valid_origins(to).map(RouterId::to_string).collect();
            let (next_hop, hops) = (route.next_hop.to_string(), route.hops);
            let cost = u32::try_from(route.cost).expect("a small cost");
            (to.to_string(), oracle::Route { next_hop, cost, hops, valid_origins })
        });
        assert_eq!(actual.collect::<std::collections::BTreeMap<_, _>>(), oracle::routes(engine.id().as_str(), &truth));
    }
}
