//! The network as a graph: routers, and what each says a hop to its peers costs.

use std::collections::BTreeMap;

use petgraph::graph::{DiGraph, NodeIndex};

use crate::{Cost, Paths, RouterId};

/// What one router lists: its neighbours, and the cost of a hop to each.
pub type Peers = BTreeMap<RouterId, Cost>;

/// Who can be reached from whom in one hop, at which cost.
///
/// A hop counts in the direction it is listed; nobody checks that the other end lists it too.
///
/// Source: docs/wire.md §4.5.
#[derive(Clone, Debug)]
pub struct Topology {
    // Routers are added in the order of their ids. So an index is found by binary search, and comparing
    // indices compares ids, which is what decides between paths of equal cost.
    graph: DiGraph<RouterId, Cost>,
}

impl Topology {
    /// Builds the graph of some link states, in any order.
    ///
    /// A router that is listed but has no link state here is assumed to have one hop, of cost 1, back to the
    /// first router that lists it ("first" by id). So it can be reached, and asked for the real one.
    pub fn new<'a>(link_states: impl IntoIterator<Item = (&'a RouterId, &'a Peers)>) -> Self {
        let known: BTreeMap<_, _> = link_states.into_iter().collect();
        let mut assumed = BTreeMap::new();
        for (&id, peers) in &known {
            for peer in peers.keys().filter(|peer| !known.contains_key(peer)) {
                assumed.entry(peer).or_insert_with(|| Peers::from([(id.clone(), Cost::ONE)]));
            }
        }
        let all: BTreeMap<_, _> = known.into_iter().chain(assumed.iter().map(|(&id, peers)| (id, peers))).collect();

        let mut graph = DiGraph::with_capacity(all.len(), all.values().map(|peers| peers.len()).sum());
        for &id in all.keys() {
            graph.add_node(id.clone());
        }
        let mut topology = Self { graph };
        for (from, peers) in all.into_values().enumerate() {
            topology.add_hops(NodeIndex::new(from), peers);
        }
        topology
    }

    fn add_hops(&mut self, from: NodeIndex, peers: &Peers) {
        // petgraph lists the edge first that was added last.
        for (peer, &cost) in peers.iter().rev() {
            let to = self.index(peer).expect("every listed router was added");
            self.graph.add_edge(from, to, cost);
        }
    }

    /// All routers, in the order of their ids.
    pub fn routers(&self) -> impl ExactSizeIterator<Item = &RouterId> {
        self.graph.raw_nodes().iter().map(|node| &node.weight)
    }

    /// What a router lists, in the order of their ids; nothing, if it is not in the graph.
    pub fn peers(&self, id: &RouterId) -> impl Iterator<Item = (&RouterId, Cost)> {
        let hops = self.index(id).into_iter().flat_map(|index| self.hops_from(index));
        hops.map(|(peer, cost)| (self.id(peer), cost))
    }

    /// The cheapest paths from one router to all others; none if it is not in the graph.
    pub fn paths_from(&self, root: &RouterId) -> Option<Paths<'_>> {
        self.index(root).map(|root| Paths::new(self, root))
    }

    /// Whether anybody lists this router.
    pub(crate) fn is_listed(&self, id: &RouterId) -> bool {
        let listed = |index| self.graph.neighbors_directed(index, petgraph::Incoming).next().is_some();
        self.index(id).is_some_and(listed)
    }

    pub(crate) fn len(&self) -> usize {
        self.graph.node_count()
    }

    pub(crate) fn indices(&self) -> impl Iterator<Item = NodeIndex> {
        self.graph.node_indices()
    }

    pub(crate) fn index(&self, id: &RouterId) -> Option<NodeIndex> {
        let found = self.graph.raw_nodes().binary_search_by(|node| node.weight.cmp(id));
        found.ok().map(NodeIndex::new)
    }

    pub(crate) fn id(&self, index: NodeIndex) -> &RouterId {
        &self.graph[index]
    }

    pub(crate) fn hops_from(&self, index: NodeIndex) -> impl Iterator<Item = (NodeIndex, Cost)> {
        use petgraph::visit::EdgeRef;
        self.graph.edges(index).map(|edge| (edge.target(), *edge.weight()))
    }
}
