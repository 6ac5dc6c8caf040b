//! What may happen to a network.

use van_routing::AddressKey;

use crate::network::Network;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
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
    /// Cuts the network in two.
    Split,
    MendAll,
    Advertise {
        router: usize,
    },
    Withdraw {
        router: usize,
    },
}

impl Fault {
    /// Chooses what happens next. The more is broken, the more likely something is mended.
    pub(crate) fn choose(network: &mut Network) -> Self {
        let is_good = |&cable: &usize| network.cables[cable].is_up && network.cables[cable].carries == [true; 2];
        let is_running = |&router: &usize| network.routers[router].engine.is_some();
        let (good, bad): (Vec<_>, Vec<_>) = (0..network.cables.len()).partition(is_good);
        let (running, down): (Vec<_>, Vec<_>) = (0..network.routers.len()).partition(is_running);

        // With unequal costs, ways there and back may differ in hops, and stock routers drop what comes too far.
        let may_reprice = network.routers.iter().all(|router| !router.is_stock);
        let rng = &mut network.rng;
        let is_noticed = rng.percent(60);
        if rng.percent((10 * (bad.len() + down.len())).min(80)) {
            return match (rng.pick(&down), rng.pick(&bad)) {
                (Some(router), _) => Self::Boot { router },
                (None, _) if bad.len() > 9 && rng.percent(50) => Self::MendAll,
                (None, Some(cable)) => Self::Mend { cable, is_noticed },
                (None, None) => unreachable!("something is broken"),
            };
        }
        let router = rng.pick(&running).expect("some router is running");
        match (rng.below(100), rng.pick(&good)) {
            (0..30, Some(cable)) => Self::Cut { cable, is_noticed },
            (30..38, Some(cable)) => Self::Deafen { cable, end: rng.below(2) },
            (38..50, Some(cable)) if may_reprice => Self::Reprice { cable },
            (50..65, _) => Self::Restart { router, is_noticed, is_clock_set_back: rng.percent(20) },
            (65..72, _) if running.len() > 1 => Self::Crash { router, is_noticed },
            (72..76, _) => Self::Split,
            (76..90, _) => Self::Advertise { router },
            _ => Self::Withdraw { router },
        }
    }

    pub(crate) fn apply(self, network: &mut Network) {
        match self {
            Self::Cut { cable, is_noticed } => cut(network, cable, is_noticed),
            Self::Deafen { cable, end } => network.cables[cable].carries[end] = false,
            Self::Mend { cable, is_noticed } => mend(network, cable, is_noticed),
            Self::Reprice { cable } => reprice(network, cable),
            Self::Restart { router, is_noticed, is_clock_set_back } => {
                let cables = network.cables_of(router, |cable| cable.is_up);
                Self::Crash { router, is_noticed }.apply(network);
                network.routers[router].instance -= if is_clock_set_back { 100 } else { 0 };
                network.boot(router);
                cables.into_iter().for_each(|cable| network.connect(cable));
            }
            Self::Crash { router, is_noticed } => {
                network.crash(router);
                for cable in network.cables_of(router, |cable| cable.is_up && is_noticed) {
                    network.disconnect(cable);
                }
            }
            Self::Boot { router } => {
                network.boot(router);
                for cable in network.cables_of(router, |cable| cable.carries == [true; 2]) {
                    network.connect(cable);
                }
            }
            Self::Split => {
                let is_left = |router: usize, network: &Network| router < network.routers.len() / 2;
                for cable in 0..network.cables.len() {
                    let [a, b] = network.cables[cable].ends;
                    if is_left(a, network) != is_left(b, network) && network.cables[cable].is_up {
                        cut(network, cable, true);
                    }
                }
            }
            Self::MendAll => {
                for cable in 0..network.cables.len() {
                    if !network.works(cable) {
                        mend(network, cable, true);
                    }
                }
            }
            Self::Advertise { router } => {
                let key = format!("Mservice-{}", network.rng.below(1000));
                network.advertise(router, &AddressKey::new(&key).expect("a valid key"));
            }
            Self::Withdraw { router } => {
                for key in network.routers[router].addresses.clone() {
                    network.withdraw(router, &key);
                }
            }
        }
    }
}

fn cut(network: &mut Network, cable: usize, is_noticed: bool) {
    network.cables[cable].carries = [false; 2];
    if is_noticed {
        network.disconnect(cable);
    }
}

fn mend(network: &mut Network, cable: usize, is_noticed: bool) {
    network.cables[cable].carries = [true; 2];
    if is_noticed && network.cables[cable].is_up {
        network.disconnect(cable);
    }
    network.connect(cable);
}

fn reprice(network: &mut Network, cable: usize) {
    let cost = 1 + network.rng.below_u32(9);
    let [a, b] = network.cables[cable].costs;
    network.cables[cable].costs = [cost, if a == b { cost } else { b }];
    network.connect(cable);
}
