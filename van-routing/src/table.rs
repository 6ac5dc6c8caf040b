//! Where messages go next: an immutable picture of the routes of one router.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::OnceLock,
};

use petgraph::graph::NodeIndex;

use crate::{LinkId, Paths, RouterId, Topology};

/// The way from this router to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The neighbour to hand messages to.
    pub next_hop: RouterId,
    /// The link to that neighbour.
    pub link: LinkId,
    /// The sum of the costs of all hops.
    pub cost: u64,
    /// The number of hops.
    pub hops: u32,
}

/// The routes of one router, computed once from a [`Topology`] and never changed.
///
/// It answers two kinds of question: over which link to a router, and for which origins. The second kind
/// needs the paths of the origin, which are computed when first asked for and then kept, so a table costs one
/// computation of paths at first and at most one more per router of the network.
///
/// Source: docs/wire.md §4.5, steps 3 and 4.
#[derive(Debug)]
pub struct Table {
    id: RouterId,
    topology: Topology,
    links: BTreeMap<RouterId, LinkId>,
    routes: Vec<Option<Route>>,
    radius: u32,
    /// Per origin: for every destination, whether the origin's path to it leads through this router.
    through_here: Vec<OnceLock<Box<[bool]>>>,
}

impl Table {
    /// Computes the routes of router `id`, whose neighbours are at the ends of `links`.
    pub fn new(id: RouterId, topology: Topology, links: BTreeMap<RouterId, LinkId>) -> Self {
        let paths = topology.paths_from(&id);
        let routes: Vec<_> = topology.indices().map(|to| route(paths.as_ref()?, to, &topology, &links)).collect();
        Self {
            radius: routes.iter().flatten().map(|route| route.hops).max().unwrap_or(0),
            through_here: vec![OnceLock::new(); routes.len()],
            id,
            links,
            routes,
            topology,
        }
    }

    /// The router whose routes these are.
    pub fn id(&self) -> &RouterId {
        &self.id
    }

    /// The graph from which they were computed.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The route to a router; none to one that is unknown, unreachable, or this one.
    pub fn route(&self, to: &RouterId) -> Option<&Route> {
        self.routes[self.topology.index(to)?.index()].as_ref()
    }

    /// All reachable routers in the order of their ids, and the routes to them.
    pub fn routes(&self) -> impl Iterator<Item = (&RouterId, &Route)> {
        self.topology.routers().zip(&self.routes).filter_map(|(id, route)| Some((id, route.as_ref()?)))
    }

    /// The number of hops to the farthest router.
    pub fn radius(&self) -> u32 {
        self.radius
    }

    /// The most routers a message can have passed that does not run in circles; one that has passed more is to be
    /// dropped.
    ///
    /// skupper-router drops after [`radius`](Self::radius) plus one. That is too early where links differ in
    /// cost: the way here may have more hops than the way back, at the same cost.
    ///
    /// Source: docs/wire.md §6.5.
    pub fn max_trace(&self) -> usize {
        self.topology.len().max(1)
    }

    /// Whether messages of `origin` to `destination` come through here, or start here.
    pub fn is_valid_origin(&self, destination: &RouterId, origin: &RouterId) -> bool {
        if *origin == self.id {
            return true;
        }
        let [here, destination, origin] = [&self.id, destination, origin].map(|id| self.topology.index(id));
        let (Some(here), Some(destination), Some(origin)) = (here, destination, origin) else {
            return false;
        };
        let through_here =
            self.through_here[origin.index()].get_or_init(|| Paths::new(&self.topology, origin).through(here));
        through_here[destination.index()]
    }

    /// The routers whose messages to `destination` come through here or start here, in the order of their ids.
    ///
    /// Routers out of reach are not among them, as in skupper-router: what is remembered of their links is old. What
    /// they sent before they were lost is still let through by [`is_valid_origin`](Self::is_valid_origin).
    pub fn valid_origins(&self, destination: &RouterId) -> impl Iterator<Item = &RouterId> {
        let within_reach = self.topology.routers().filter(|&id| *id == self.id || self.route(id).is_some());
        within_reach.filter(move |origin| self.is_valid_origin(destination, origin))
    }

    /// The link on which a message of `origin` to `destination` goes on.
    ///
    /// None if it has no business here: then another router forwards it, or nobody can. An origin we do not
    /// know counts as ourselves.
    ///
    /// Messages of the routing protocol should rather follow [`route`](Self::route) whatever their origin, for
    /// they are what makes routers agree on who forwards what.
    ///
    /// Source: docs/wire.md §6.5 and §6.7.
    pub fn unicast(&self, destination: &RouterId, origin: &RouterId) -> Option<LinkId> {
        let is_known = self.topology.index(origin).is_some();
        let route = self.route(destination)?;
        (!is_known || self.is_valid_origin(destination, origin)).then_some(route.link)
    }

    /// The links on which a message of `origin` to all of `destinations` goes on, one copy each.
    ///
    /// No copy goes to a router that the message has passed already. skupper-router excludes more: the link
    /// to the next hop of every router passed. Between routers that agree on the paths, either excludes
    /// nothing as long as a link costs the same in both directions; with costs that differ, the wider rule
    /// loses messages.
    ///
    /// Source: docs/wire.md §4.5, §6.5 and §6.8.
    pub fn multicast<'a>(
        &self,
        destinations: impl IntoIterator<Item = &'a RouterId>,
        origin: &RouterId,
        trace: &[RouterId],
    ) -> Vec<LinkId> {
        let ours = destinations.into_iter().filter(|destination| self.is_valid_origin(destination, origin));
        let routes = ours.filter_map(|destination| self.route(destination));
        let ahead = routes.filter(|route| !trace.contains(&route.next_hop));
        ahead.map(|route| route.link).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The links on which a message of `origin` to all routers goes on, so that each gets it once.
    pub fn tree(&self, origin: &RouterId, trace: &[RouterId]) -> Vec<LinkId> {
        self.multicast(self.topology.routers(), origin, trace)
    }

    /// The links on which a message to all routers goes on that must arrive even while paths are in doubt: to
    /// every neighbour it has not passed.
    ///
    /// Many copies meet again at every router; [`Engine::flood`](crate::Engine::flood) remembers which went
    /// where. skupper-router leaves out neighbours to whom it prefers an indirect path.
    pub fn flood(&self, trace: &[RouterId]) -> Vec<LinkId> {
        self.links.iter().filter(|(neighbor, _)| !trace.contains(neighbor)).map(|(_, &link)| link).collect()
    }
}

/// The route along a path; none to the root itself, which has no link to itself.
fn route(paths: &Paths<'_>, to: NodeIndex, topology: &Topology, links: &BTreeMap<RouterId, LinkId>) -> Option<Route> {
    let step = paths.step(to)?;
    let next_hop = topology.id(step.first);
    let link = *links.get(next_hop)?;
    Some(Route { next_hop: next_hop.clone(), link, cost: step.cost, hops: step.hops })
}
