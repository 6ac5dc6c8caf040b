//! Cheapest paths, with ties resolved as every router of the network resolves them.

use std::{cmp::Reverse, collections::BinaryHeap};

use petgraph::graph::NodeIndex;

use crate::{RouterId, Topology};

/// The tree of cheapest paths from one router, the root, to all it can reach.
///
/// Routers are settled in the order of (cost, id), and a path replaces another only if it is strictly
/// cheaper. So of several cheapest paths to a router the one wins whose last hop starts at the router settled
/// first. All routers of a network must choose alike, or updates get lost between them.
///
/// Source: docs/wire.md §4.5, step 2.
#[derive(Clone, Debug)]
pub struct Paths<'a> {
    topology: &'a Topology,
    settled: Vec<NodeIndex>,
    steps: Vec<Option<Step>>,
}

/// The last step of the cheapest path to a router.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) cost: u64,
    pub(crate) hops: u32,
    pub(crate) previous: NodeIndex,
    /// The neighbour of the root over which the path leaves.
    pub(crate) first: NodeIndex,
}

impl<'a> Paths<'a> {
    pub(crate) fn new(topology: &'a Topology, root: NodeIndex) -> Self {
        let mut steps = vec![None; topology.len()];
        steps[root.index()] = Some(Step { cost: 0, hops: 0, previous: root, first: root });
        let mut settled = Vec::with_capacity(steps.len());
        let mut candidates = BinaryHeap::from([Reverse((0, root))]);
        while let Some(Reverse((cost, node))) = candidates.pop() {
            let step: Step = steps[node.index()].expect("candidates have been reached");
            if cost > step.cost {
                continue; // a cheaper path was found after this one
            }
            settled.push(node);
            for (peer, hop) in topology.hops_from(node) {
                let cost = step.cost + u64::from(hop);
                if steps[peer.index()].is_none_or(|known| cost < known.cost) {
                    let first = if node == root { peer } else { step.first };
                    steps[peer.index()] = Some(Step { cost, hops: step.hops + 1, previous: node, first });
                    candidates.push(Reverse((cost, peer)));
                }
            }
        }
        Self { topology, settled, steps }
    }

    /// The cost of the cheapest path to a router.
    pub fn cost(&self, to: &RouterId) -> Option<u64> {
        Some(self.step(self.topology.index(to)?)?.cost)
    }

    /// The number of hops of the cheapest path to a router.
    pub fn hops(&self, to: &RouterId) -> Option<u32> {
        Some(self.step(self.topology.index(to)?)?.hops)
    }

    /// The routers on the cheapest path, from the root to `to`, both included.
    pub fn path(&self, to: &RouterId) -> Option<Vec<&'a RouterId>> {
        let mut at = self.topology.index(to)?;
        self.step(at)?;
        let mut path = vec![self.topology.id(at)];
        while at != self.root() {
            at = self.step(at)?.previous;
            path.push(self.topology.id(at));
        }
        path.reverse();
        Some(path)
    }

    fn root(&self) -> NodeIndex {
        self.settled[0]
    }

    pub(crate) fn step(&self, to: NodeIndex) -> Option<&Step> {
        self.steps[to.index()].as_ref()
    }

    /// For every router, whether the path to it leads through `via` (a path does not lead through its end).
    pub(crate) fn through(&self, via: NodeIndex) -> Box<[bool]> {
        let mut through = vec![false; self.steps.len()].into_boxed_slice();
        for &node in &self.settled[1..] {
            let previous = self.steps[node.index()].expect("settled").previous;
            through[node.index()] = previous == via || through[previous.index()];
        }
        through
    }
}
