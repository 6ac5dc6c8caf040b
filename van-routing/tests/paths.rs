//! Paths and tables of random networks, against two oracles.

#[allow(clippy::unwrap_used, unreachable_pub, reason = "written by another hand, to be left alone")]
mod oracle;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::{collection::vec, prelude::*};
use van_routing::{Cost, LinkId, Peers, RouterId, Table, Topology};

/// What each router lists: `hops[(from, to)]` is a cost.
type Hops = BTreeMap<(usize, usize), u32>;

const ROUTERS: usize = 9;

fn id(router: usize) -> RouterId {
    // Of different lengths, and not in the order of their numbers.
    let names = ["m", "b", "zz", "a", "aa", "Z", "é", "b-2", "k"];
    RouterId::new(names[router]).expect("a valid id")
}

/// Random hops: few different costs for many ties, and some listed in one direction only.
fn hops() -> impl Strategy<Value = Hops> {
    let hop = (0..ROUTERS, 0..ROUTERS, prop_oneof![Just(1_u32), 1..4_u32, 1..1000_u32], 0..8_u8, 1..4_u32);
    vec(hop, 0..25).prop_map(|hops| {
        let mut all = Hops::new();
        for (from, to, cost, way_back, other_cost) in hops.into_iter().filter(|(from, to, ..)| from != to) {
            all.insert((from, to), cost);
            match way_back {
                0 => None,
                1..3 => all.insert((to, from), other_cost),
                _ => all.insert((to, from), cost),
            };
        }
        all
    })
}

/// Link states of all routers but some, of which only the existence is known.
fn link_states(hops: &Hops, unheard: &BTreeSet<usize>) -> BTreeMap<RouterId, Peers> {
    let mut states: BTreeMap<_, _> =
        (0..ROUTERS).filter(|router| !unheard.contains(router)).map(|router| (id(router), Peers::new())).collect();
    for (&(from, to), &cost) in hops {
        if let Some(peers) = states.get_mut(&id(from)) {
            peers.insert(id(to), Cost::new(cost).expect("a valid cost"));
        }
    }
    states
}

fn table(me: &RouterId, states: &BTreeMap<RouterId, Peers>) -> Table {
    let neighbors = states.get(me).into_iter().flat_map(|peers| peers.keys());
    let links = neighbors.zip(0..).map(|(neighbor, link)| (neighbor.clone(), LinkId(link))).collect();
    Table::new(me.clone(), Topology::new(states), links)
}

fn for_oracle(states: &BTreeMap<RouterId, Peers>) -> oracle::LinkStates {
    let peers = |peers: &Peers| peers.iter().map(|(id, &cost)| (id.to_string(), cost.into())).collect();
    states.iter().map(|(id, listed)| (id.to_string(), peers(listed))).collect()
}

/// Checks everything a table says against the oracle, which was written from the specification alone.
fn check_against_oracle(states: &BTreeMap<RouterId, Peers>) {
    let oracle_states = for_oracle(states);
    for me in states.keys() {
        let table = table(me, states);
        let actual: BTreeMap<_, _> = table
            .routes()
            .map(|(to, route)| {
                let valid_origins = table.valid_origins(to).map(RouterId::to_string).collect();
                let (next_hop, hops) = (route.next_hop.to_string(), route.hops);
                let cost = u32::try_from(route.cost).expect("a small cost");
                (to.to_string(), oracle::Route { next_hop, cost, hops, valid_origins })
            })
            .collect();
        assert_eq!(actual, oracle::routes(me.as_str(), &oracle_states), "routes of {me}");
        assert_eq!(table.radius(), oracle::radius(me.as_str(), &oracle_states), "radius of {me}");
    }
}

proptest! {
    #[test]
    fn tables_are_those_of_the_specification(hops in hops()) {
        check_against_oracle(&link_states(&hops, &BTreeSet::new()));
    }

    #[test]
    fn routers_that_are_only_listed_are_reached_as_specified(hops in hops(), unheard in 0..ROUTERS) {
        check_against_oracle(&link_states(&hops, &BTreeSet::from([unheard])));
    }

    #[test]
    fn paths_are_as_cheap_as_floyd_and_warshall_say(hops in hops()) {
        let topology = Topology::new(&link_states(&hops, &BTreeSet::new()));
        let mut cost = BTreeMap::from_iter((0..ROUTERS).map(|router| ((router, router), 0_u64)));
        cost.extend(hops.iter().map(|(&hop, &cost)| (hop, u64::from(cost))));
        for via in 0..ROUTERS {
            for (from, to) in (0..ROUTERS).flat_map(|from| (0..ROUTERS).map(move |to| (from, to))) {
                if let (Some(first), Some(second)) = (cost.get(&(from, via)), cost.get(&(via, to))) {
                    let sum = first + second;
                    cost.entry((from, to)).and_modify(|best| *best = sum.min(*best)).or_insert(sum);
                }
            }
        }
        for from in 0..ROUTERS {
            let paths = topology.paths_from(&id(from)).unwrap();
            for to in 0..ROUTERS {
                prop_assert_eq!(paths.cost(&id(to)), cost.get(&(from, to)).copied());
            }
        }
    }

    #[test]
    fn a_path_is_made_of_the_hops_it_counts(hops in hops()) {
        let topology = Topology::new(&link_states(&hops, &BTreeSet::new()));
        let cost = |hop: &[&RouterId]| {
            let number = |id: &RouterId| (0..ROUTERS).find(|&router| self::id(router) == *id).unwrap();
            u64::from(hops[&(number(hop[0]), number(hop[1]))])
        };
        for root in topology.routers() {
            let paths = topology.paths_from(root).unwrap();
            for to in topology.routers() {
                let path = paths.path(to);
                prop_assert_eq!(path.as_ref().map(|path| path.windows(2).map(cost).sum()), paths.cost(to));
                prop_assert_eq!(path.map(|path| path.len() - 1), paths.hops(to).map(|hops| hops as usize));
            }
        }
    }

    /// Whatever hops cost in either direction, as long as all agree on it.
    #[test]
    fn a_message_to_all_reaches_each_router_once(hops in hops()) {
        let states = link_states(&hops, &BTreeSet::new());
        let topology = Topology::new(&states);
        for origin in states.keys() {
            let paths = topology.paths_from(origin).unwrap();
            let mut reached = BTreeSet::from([origin.clone()]);
            let mut arrived = vec![(origin.clone(), Vec::new())];
            while let Some((here, mut trace)) = arrived.pop() {
                let links = table(&here, &states).tree(origin, &trace);
                trace.push(here.clone());
                for link in links {
                    let next = states[&here].keys().nth(usize::try_from(link.0).unwrap()).unwrap();
                    prop_assert!(reached.insert(next.clone()), "{next} gets a second copy of {origin}'s message");
                    arrived.push((next.clone(), trace.clone()));
                }
            }
            let reachable = states.keys().filter(|to| paths.cost(to).is_some()).cloned().collect();
            prop_assert_eq!(reached, reachable);
        }
    }

    #[test]
    fn a_message_to_one_follows_the_path_of_its_origin(hops in hops()) {
        let states = link_states(&hops, &BTreeSet::new());
        let topology = Topology::new(&states);
        for origin in states.keys() {
            let paths = topology.paths_from(origin).unwrap();
            for to in states.keys().filter(|to| paths.cost(to).is_some()) {
                let mut walked = vec![origin.clone()];
                while walked.last() != Some(to) {
                    let here = walked.last().unwrap();
                    let link = table(here, &states).unicast(to, origin).expect("on the path");
                    let next = states[here].keys().nth(usize::try_from(link.0).unwrap()).unwrap();
                    walked.push(next.clone());
                }
                prop_assert_eq!(walked.iter().collect::<Vec<_>>(), paths.path(to).unwrap());
            }
        }
    }
}

fn square() -> BTreeMap<RouterId, Peers> {
    // m - b
    // |   |
    // zz- a
    link_states(
        &[(0, 1), (1, 3), (3, 2), (2, 0)].into_iter().flat_map(|(a, b)| [((a, b), 1), ((b, a), 1)]).collect(),
        &BTreeSet::new(),
    )
}

#[test]
fn of_two_equal_paths_the_one_by_the_smaller_id_wins() {
    let table = table(&id(0), &square());
    assert_eq!(table.route(&id(3)).map(|route| &route.next_hop), Some(&id(1)));
}

#[test]
fn no_copy_goes_to_a_router_that_was_passed() {
    let table = table(&id(0), &square());
    let [to_b, to_zz] = [&id(1), &id(2)].map(|neighbor| table.route(neighbor).unwrap().link);
    assert_eq!(table.flood(&[]), [to_b, to_zz]);
    assert_eq!(table.flood(&[id(3), id(1)]), [to_zz]);
    assert_eq!(table.tree(&id(0), &[id(1)]), [to_zz]);
    assert_eq!(table.multicast([&id(1), &id(3)], &id(0), &[]), [to_b]);
}

#[test]
fn an_unknown_origin_may_send_to_one_but_not_to_all() {
    let (table, stranger) = (table(&id(0), &square()), RouterId::new("stranger").unwrap());
    assert!(table.unicast(&id(1), &stranger).is_some());
    assert!(table.tree(&stranger, &[]).is_empty());
}

#[test]
fn a_router_outside_of_the_graph_has_no_routes() {
    let table = Table::new(RouterId::new("stranger").unwrap(), Topology::new(&square()), BTreeMap::new());
    assert_eq!((table.routes().count(), table.radius()), (0, 0));
    assert_eq!(table.valid_origins(&id(1)).count(), 0);
}

#[test]
fn an_origin_out_of_reach_is_not_listed_but_what_it_sent_goes_on() {
    let one_way = Hops::from([((0, 1), 1), ((1, 0), 1), ((2, 0), 1)]); // 0 has lost 2, whose last words are remembered
    let table = table(&id(0), &link_states(&one_way, &BTreeSet::new()));
    assert_eq!(table.valid_origins(&id(1)).collect::<Vec<_>>(), [&id(0)]);
    assert!(table.unicast(&id(1), &id(2)).is_some());
}

#[test]
fn tables_can_be_shared_between_threads() {
    let table = Arc::new(table(&id(0), &square()));
    let origins = || table.valid_origins(&id(3)).count();
    let counts = std::thread::scope(|scope| [scope.spawn(origins), scope.spawn(origins)].map(|t| t.join().unwrap()));
    assert_eq!(counts, [1, 1]);
}
