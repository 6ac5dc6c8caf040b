//! Test oracle: a naive transcription of section 4.5 "Path computation", written from that text
//! alone. Clarity over speed; "step N" below is the numbered step N of the section.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};

/// Router id -> the peers it lists, each with its cost. Directed: cost A→B is what A lists.
pub type LinkStates = BTreeMap<String, BTreeMap<String, u32>>;

/// What `me` knows about one destination (steps 3 and 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub next_hop: String,
    pub cost: u32,
    pub hops: u32,
    pub valid_origins: BTreeSet<String>,
}

/// Settled node -> (its cost from the root, its predecessor; none for the root itself).
type Tree = BTreeMap<String, (u64, Option<String>)>;

/// Step 1: every id listed as a peer without a record of its own is assumed to have the record
/// {first referrer: cost 1}, "first" being the first in ascending id order.
fn complete(link_states: &LinkStates) -> LinkStates {
    let mut completed = link_states.clone();
    for (referrer, peers) in link_states {
        for peer in peers.keys() {
            if !completed.contains_key(peer) {
                completed.insert(peer.clone(), BTreeMap::from([(referrer.clone(), 1)]));
            }
        }
    }
    completed
}

/// Step 2: Dijkstra from `root`. The candidate settled next is the least by (cost, id); a
/// candidate is relaxed only on strictly lower cost.
fn tree(root: &str, completed: &LinkStates) -> Tree {
    let mut settled = Tree::new();
    let mut candidates = Tree::from([(root.to_string(), (0, None))]);
    while let Some((cost, id)) = candidates.iter().map(|(id, c)| (c.0, id.clone())).min() {
        let candidate = candidates.remove(&id).unwrap();
        settled.insert(id.clone(), candidate);
        for (peer, link_cost) in completed.get(&id).into_iter().flatten() {
            let new_cost = cost + u64::from(*link_cost);
            let is_better = match candidates.get(peer) {
                Some((old_cost, _)) => new_cost < *old_cost,
                None => true,
            };
            if !settled.contains_key(peer) && is_better {
                candidates.insert(peer.clone(), (new_cost, Some(id.clone())));
            }
        }
    }
    settled
}

/// The tree path from the root to `destination`, both ends included; none if not in the tree.
fn path(tree: &Tree, destination: &str) -> Option<Vec<String>> {
    let (_, predecessor) = tree.get(destination)?;
    let mut nodes = match predecessor {
        Some(predecessor) => path(tree, predecessor)?,
        None => Vec::new(),
    };
    nodes.push(destination.to_string());
    Some(nodes)
}

/// Step 4: `me` (self) always, plus each remote O within reach (in `own`) whose own tree has `me` on the path O→D.
fn valid_origins(me: &str, destination: &str, own: &Tree, completed: &LinkStates) -> BTreeSet<String> {
    let mut origins = BTreeSet::from([me.to_string()]);
    for origin in own.keys().filter(|origin| *origin != me) {
        let nodes = path(&tree(origin, completed), destination).unwrap_or_default();
        if nodes.iter().any(|node| node == me) {
            origins.insert(origin.clone());
        }
    }
    origins
}

/// Step 3 (next hop, cost, hops from the tree rooted at `me`) together with step 4, for each
/// destination reachable from `me`, without `me`. Panics if a path cost exceeds `u32`.
pub fn routes(me: &str, link_states: &LinkStates) -> BTreeMap<String, Route> {
    let completed = complete(link_states);
    let own = tree(me, &completed);
    let mut routes = BTreeMap::new();
    for (destination, (cost, _)) in own.iter().filter(|(id, _)| *id != me) {
        let nodes = path(&own, destination).unwrap();
        let route = Route {
            next_hop: nodes[1].clone(),
            cost: u32::try_from(*cost).expect("path cost exceeds u32"),
            hops: u32::try_from(nodes.len() - 1).unwrap(),
            valid_origins: valid_origins(me, destination, &own, &completed),
        };
        routes.insert(destination.clone(), route);
    }
    routes
}

/// Step 3: radius = max hops over the own tree (0 when nothing is reachable).
pub fn radius(me: &str, link_states: &LinkStates) -> u32 {
    let own = tree(me, &complete(link_states));
    let hops = own.keys().map(|id| path(&own, id).unwrap().len() - 1);
    u32::try_from(hops.max().unwrap_or(0)).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(lists: &[(&str, &[(&str, u32)])]) -> LinkStates {
        let peers = |p: &[(&str, u32)]| p.iter().map(|(id, c)| (id.to_string(), *c)).collect();
        lists.iter().map(|(id, p)| (id.to_string(), peers(p))).collect()
    }

    fn route(next_hop: &str, cost: u32, hops: u32, origins: &[&str]) -> Route {
        Route {
            next_hop: next_hop.to_string(),
            cost,
            hops,
            valid_origins: origins.iter().map(|id| id.to_string()).collect(),
        }
    }

    fn table(rows: &[(&str, Route)]) -> BTreeMap<String, Route> {
        rows.iter().map(|(id, r)| (id.to_string(), r.clone())).collect()
    }

    /// Square a-b-d-c-a, all costs 1: opposite corners tie and the lower id wins, so d is via b
    /// from a, c is via a from b, b is via a from c, a is via b from d.
    #[test]
    fn equal_cost_tie_lower_id_wins() {
        let ls = states(&[
            ("a", &[("b", 1), ("c", 1)]),
            ("b", &[("a", 1), ("d", 1)]),
            ("c", &[("a", 1), ("d", 1)]),
            ("d", &[("b", 1), ("c", 1)]),
        ]);
        let expected = table(&[
            ("b", route("b", 1, 1, &["a", "c"])),
            ("c", route("c", 1, 1, &["a", "b"])),
            ("d", route("b", 2, 2, &["a"])),
        ]);
        assert_eq!(routes("a", &ls), expected);
        assert_eq!(radius("a", &ls), 2);
    }

    /// a→b→d = 2+1 and a→c→d = 1+2 tie at 3, but c settles before b (cost 1 < 2), so c wins.
    #[test]
    fn equal_cost_tie_cheaper_predecessor_wins() {
        let ls = states(&[("a", &[("b", 2), ("c", 1)]), ("b", &[("d", 1)]), ("c", &[("d", 2)]), ("d", &[])]);
        assert_eq!(routes("a", &ls)["d"], route("c", 3, 2, &["a"]));
    }

    /// c lists a and a lists b, neither mutually: links count in the listed direction only. a cannot reach c, so c
    /// is not an origin there; skupper-router's own computation says the same.
    #[test]
    fn one_way_listing() {
        let ls = states(&[("a", &[("b", 5)]), ("b", &[]), ("c", &[("a", 2)])]);
        let expected = table(&[("b", route("b", 5, 1, &["a"]))]);
        assert_eq!(routes("a", &ls), expected);
        assert_eq!(routes("b", &ls), table(&[]));
        assert_eq!(radius("b", &ls), 0);
        assert_eq!(routes("c", &ls)["b"], route("a", 7, 2, &["c"]));
    }

    /// z has no record; its first referrer is a, hence z: {a: 1}, and b reaches a through z.
    #[test]
    fn missing_record_points_to_first_referrer() {
        let ls = states(&[("a", &[("b", 1), ("z", 3)]), ("b", &[("z", 7)])]);
        let from_a = table(&[("b", route("b", 1, 1, &["a", "z"])), ("z", route("z", 3, 1, &["a"]))]);
        let from_b = table(&[("a", route("z", 8, 2, &["b"])), ("z", route("z", 7, 1, &["b"]))]);
        assert_eq!(routes("a", &ls), from_a);
        assert_eq!(routes("b", &ls), from_b);
        assert_eq!((radius("a", &ls), radius("b", &ls)), (1, 2));
    }
}
