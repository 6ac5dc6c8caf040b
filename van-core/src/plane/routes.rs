//! What the data plane knows of the network: an immutable picture, made by the control plane, and the choice by it.
//!
//! The only thing in it that moves is how much each destination carries: counters beside the picture, which live on from
//! one picture to the next, touched when a delivery starts and ends and never per octet.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use van_routing::{LinkId, RouterId, Table, Treatment};

use super::tally::Passages;
use crate::address::Address;
use crate::annotations::Trace;
use crate::slab::Key;

/// A shard of this router, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// A connection to another router, by a number that this router never gives twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// A connector of this router: a workload that consumes a routing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectorId(pub u32);

/// A subscriber of this router: somebody in its process who consumes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriberId(pub u64);

/// A listener of this router: where clients of a routing key come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u32);

/// The network as one router's data plane sees it.
#[derive(Debug)]
pub struct Routes {
    /// The router's own id.
    pub id: RouterId,
    /// The router's name in traces: `0/<id>`.
    pub node: Arc<str>,
    /// How many shards its data plane has.
    pub shards: u16,
    /// Paths to all routers.
    pub table: Arc<Table>,
    /// The connections to each neighbour, by the link that stands for it in the table.
    pub next_hops: BTreeMap<LinkId, NextHop>,
    /// Consumers by address, for addresses that are known across the network.
    pub addresses: Arc<Addresses>,
    /// Consumers by name, for names at this router: what follows `_local/` and `_topo/0/<id>/`.
    pub locals: Arc<Addresses>,
    /// The ways to edge routers, by their ids.
    pub edges: Arc<Addresses>,
    /// Set at an edge router: its way to the network. What it does not know goes there.
    pub uplink: Option<Uplink>,
    /// Set at an edge router.
    pub edge: Option<Edge>,
    /// Connections whose peers are programs that links are attached to: their deliveries are counted apart too.
    pub programs: BTreeSet<ConnectionId>,
}

/// Consumers by address, without class letter.
pub type Addresses = HashMap<Arc<str>, Arc<Consumers>>;

/// What an edge router says of itself in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The mesh it belongs to, 15 characters.
    pub mesh: Arc<str>,
}

/// The connection of an edge router to its interior router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uplink {
    /// The link for everything without a link of its own.
    pub endpoint: EndpointId,
}

/// A link with an address, or of a client: of which connection, and which of its links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId {
    /// The connection, and its shard.
    pub at: ConnectionRef,
    /// The link, as the connection's shard knows it.
    pub key: Key,
}

/// A link on which a peer takes deliveries for an address.
#[derive(Debug, Clone)]
pub struct LinkConsumer {
    /// Which link.
    pub id: EndpointId,
    /// Who is at its other end.
    pub peer: PeerKind,
    /// The edge mesh at its other end.
    pub mesh: Option<Arc<str>>,
    /// What it carries.
    pub load: Load,
}

/// Who is at the other end of a link that is not between interior routers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerKind {
    /// A client, or a container.
    Client,
    /// An edge router of ours.
    Edge,
    /// The interior router, and through it the network; we are an edge router.
    Interior,
    /// Another edge router of our mesh.
    Mesh,
}

/// Where a connection lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionRef {
    /// Which one.
    pub id: ConnectionId,
    /// The shard that owns it.
    pub shard: ShardId,
}

/// The connections to one neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// Carries messages, and streams if there is no other.
    pub control: ConnectionRef,
    /// Carry streams.
    pub data: Vec<ConnectionRef>,
}

/// Who consumes an address.
#[derive(Debug)]
pub struct Consumers {
    /// How messages are spread over them.
    pub treatment: Treatment,
    /// The priority of messages to them, 0 to 9, in place of what messages say.
    pub priority: Option<u8>,
    /// Connectors of this router.
    pub connectors: Vec<(ConnectorId, Load)>,
    /// Subscribers of this router.
    pub subscribers: Vec<(SubscriberId, Load)>,
    /// Links of this router.
    pub links: Vec<LinkConsumer>,
    /// Other routers with consumers.
    pub owners: Vec<(RouterId, Load)>,
    rotor: AtomicUsize,
    /// The ways that deliveries to them took so far.
    pub passages: Passages,
}

/// How many deliveries a destination carries, as far as this router sent them there.
#[derive(Debug, Clone, Default)]
pub struct Load(Arc<AtomicU32>);

/// One delivery in a [`Load`], until dropped.
#[derive(Debug)]
pub(crate) struct Carried(Load);

/// A destination chosen for a delivery.
#[derive(Debug)]
pub(crate) enum Choice {
    Connector(ConnectorId, Carried),
    Subscriber(SubscriberId),
    Link(EndpointId, PeerKind, Carried),
    /// Towards a router; it may be the neighbour itself.
    NextHop {
        link: LinkId,
        is_neighbor: bool,
        carried: Carried,
    },
}

/// Somebody who is to have a copy of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recipient {
    Subscriber(SubscriberId),
    Link(EndpointId, PeerKind),
    NextHop(LinkId),
}

/// Where a delivery comes from, as far as it decides where it may go.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct From<'a> {
    /// The interior router where it entered, if not this one.
    pub(crate) origin: Option<&'a str>,
    /// The routers it has passed.
    pub(crate) trace: Trace<'a>,
    /// The connection to an edge router, or of one, that it came on: it does not go back there.
    pub(crate) connection: Option<ConnectionId>,
    /// The edge mesh it comes from: all of it has it.
    pub(crate) mesh: Option<&'a str>,
}

/// What a candidate for a delivery is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Connector(ConnectorId),
    Subscriber(SubscriberId),
    Link(EndpointId, PeerKind),
    NextHop { link: LinkId, is_neighbor: bool },
}

/// Destinations that have turned a delivery down.
#[derive(Debug, Clone, Default)]
pub(crate) struct Excluded {
    pub(crate) connectors: Vec<ConnectorId>,
    pub(crate) links: Vec<EndpointId>,
    pub(crate) next_hops: Vec<LinkId>,
}

/// Deliveries that a link may carry before others of an address are preferred. Source: skupper-router, `linkCapacity`.
const LINK_CAPACITY: u32 = 250;

impl Load {
    /// How many deliveries it carries now.
    pub fn carried(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn carry(&self) -> Carried {
        self.0.fetch_add(1, Ordering::Relaxed);
        Carried(self.clone())
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Consumers {
    /// Consumers of an address.
    pub fn new(
        treatment: Treatment,
        connectors: Vec<(ConnectorId, Load)>,
        subscribers: Vec<(SubscriberId, Load)>,
        links: Vec<LinkConsumer>,
        owners: Vec<(RouterId, Load)>,
    ) -> Self {
        let (rotor, passages) = (AtomicUsize::new(0), Passages::default());
        Self { treatment, priority: None, connectors, subscribers, links, owners, rotor, passages }
    }

    /// Whether one of them is at this router, or beyond an AMQP link of its.
    fn are_at_links(&self) -> bool {
        self.are_here() || !self.links.is_empty()
    }

    /// Whether one of them is at this router, or an edge router of its.
    fn are_here(&self) -> bool {
        let has_links = self.links.iter().any(|link| !link.peer.is_beyond());
        !self.connectors.is_empty() || !self.subscribers.is_empty() || has_links
    }

    /// Whether one of them is where this edge router's links lead.
    fn are_beyond(&self) -> bool {
        self.links.iter().any(|link| link.peer.is_beyond())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        !self.are_here() && !self.are_beyond() && self.owners.is_empty()
    }
}

impl Routes {
    /// The picture of a router that knows nobody yet.
    pub fn alone(table: Arc<Table>, shards: u16) -> Self {
        let id = table.id().clone();
        let node = format!("0/{id}").into();
        Self {
            id,
            node,
            shards,
            table,
            next_hops: BTreeMap::new(),
            addresses: Arc::default(),
            locals: Arc::default(),
            edges: Arc::default(),
            uplink: None,
            edge: None,
            programs: BTreeSet::new(),
        }
    }

    /// Chooses where a delivery for an address goes: here, a stream to a connector and a message to a subscriber, either to a
    /// link.
    ///
    /// The lowest of cost and (if balanced) open deliveries wins, a fresh one of equals each time; links that carry as much as
    /// they can come last. An owner counts only if its shortest path from the origin leads through here: what keeps deliveries
    /// from going in circles. If there is none such, and nobody here, the nearest one by a router where the delivery has not been.
    pub(crate) fn choose(
        &self,
        consumers: &Consumers,
        is_stream: bool,
        from: &From<'_>,
        excluded: &Excluded,
    ) -> Option<Choice> {
        let origin = self.origin(from.origin);
        let is_balanced = match consumers.treatment {
            Treatment::AnycastBalanced => true,
            Treatment::AnycastClosest => false,
            Treatment::MulticastFlood | Treatment::MulticastOnce | Treatment::Unavailable => return None,
        };
        let is_open = |connector| is_stream && !excluded.connectors.contains(connector);
        let local = consumers.connectors.iter().filter(|(connector, _)| is_open(connector));
        let local = local.map(|(connector, load)| (0, load, Place::Connector(*connector)));
        let subscribers = consumers.subscribers.iter().filter(|_| !is_stream);
        let subscribers = subscribers.map(|(subscriber, load)| (0, load, Place::Subscriber(*subscriber)));
        let links = consumers.links.iter().filter(|link| link.may_have(from) && !excluded.links.contains(&link.id));
        let links = links.map(|link| (link.peer.cost(), &link.load, Place::Link(link.id, link.peer)));
        let beyond = |(owner, load, link): (_, _, Option<LinkId>)| {
            let (link, route) = (link?, self.table.route(owner)?);
            let place = Place::NextHop { link, is_neighbor: route.hops == 1 };
            (!excluded.next_hops.contains(&link)).then_some((route.cost, load, place))
        };
        let way = |owner: &RouterId| self.table.unicast(owner, &origin);
        let remote = consumers.owners.iter().filter_map(|(owner, load)| beyond((owner, load, way(owner))));
        let value = |(cost, load, place): &(u64, &Load, Place)| {
            let carried = if is_balanced { load.carried() } else { 0 };
            (matches!(place, Place::Link(..)) && carried >= LINK_CAPACITY, cost + u64::from(carried))
        };
        let mut candidates: Vec<_> = local.chain(subscribers).chain(links).chain(remote).collect();
        if candidates.is_empty()
            && !consumers.are_at_links()
            && consumers.owners.iter().all(|(owner, _)| way(owner).is_none())
        {
            let detours = consumers.owners.iter().map(|(owner, load)| (owner, load, self.detour(owner, from)));
            candidates.extend(detours.filter_map(beyond));
        }
        let start = consumers.rotor.fetch_add(1, Ordering::Relaxed) % candidates.len().max(1);
        let turned = candidates[start..].iter().chain(&candidates[..start]);
        let (_, load, destination) = turned.min_by_key(|candidate| value(candidate))?;
        Some(match *destination {
            Place::Connector(connector) => Choice::Connector(connector, load.carry()),
            Place::Subscriber(subscriber) => Choice::Subscriber(subscriber),
            Place::Link(link, peer) => Choice::Link(link, peer, load.carry()),
            Place::NextHop { link, is_neighbor } => Choice::NextHop { link, is_neighbor, carried: load.carry() },
        })
    }

    /// All who are to have a copy of a message for a multicast address: the subscribers and links here, and the next hops
    /// towards other routers with consumers, as far as the paths from where it entered lead through here. Connectors have no
    /// use for messages.
    pub(crate) fn recipients(&self, consumers: &Consumers, from: &From<'_>) -> Vec<Recipient> {
        let trace: Vec<_> = from.trace.ids().filter_map(|id| RouterId::new(id).ok()).collect();
        // It has been here: the routers do not agree on their paths yet.
        if trace.contains(&self.id) {
            return Vec::new();
        }
        let origin = match from.origin {
            Some(origin) => RouterId::new(origin).ok(),
            None => Some(self.id.clone()),
        };
        let owners = consumers.owners.iter().map(|(owner, _)| owner);
        let next_hops = origin.map(|origin| self.table.multicast(owners, &origin, &trace)).unwrap_or_default();
        let subscribers = consumers.subscribers.iter().map(|(subscriber, _)| Recipient::Subscriber(*subscriber));
        let links = consumers.links.iter().filter(|link| link.may_have(from));
        let links = links.map(|link| Recipient::Link(link.id, link.peer));
        subscribers.chain(links).chain(next_hops.into_iter().map(Recipient::NextHop)).collect()
    }

    /// The router of a name; one that cannot be a router counts as this one, like any that is unknown.
    fn origin(&self, name: Option<&str>) -> RouterId {
        name.and_then(|name| RouterId::new(name).ok()).unwrap_or_else(|| self.id.clone())
    }

    /// The link towards a router named by its id.
    pub(crate) fn way_to_id(&self, id: &str, from: &From<'_>) -> Option<LinkId> {
        let id = RouterId::new(id).ok()?;
        self.table.unicast(&id, &self.origin(from.origin)).or_else(|| self.detour(&id, from))
    }

    /// The link towards a router for what should not have come here by the paths from where it entered: routers do not agree
    /// on the paths for a while after each change, one of skupper-router for up to a second. It goes on unless it would be
    /// where it has been.
    fn detour(&self, destination: &RouterId, from: &From<'_>) -> Option<LinkId> {
        let route = self.table.route(destination)?;
        let has_been_at = |router: &RouterId| from.trace.ids().any(|id| id == router.as_str());
        (!has_been_at(&self.id) && !has_been_at(&route.next_hop)).then_some(route.link)
    }

    /// The connection for a stream to a neighbour: one of the same shard if there is one, in turn. `is_gone` tells of those
    /// that were lost since the picture was made.
    pub(crate) fn stream_connection(
        &self,
        link: LinkId,
        shard: ShardId,
        turn: usize,
        is_gone: impl Fn(&ConnectionRef) -> bool,
    ) -> Option<ConnectionRef> {
        let hop = self.next_hops.get(&link)?;
        let usable = || hop.data.iter().filter(|at| !is_gone(at));
        let pick = |from: Vec<&ConnectionRef>| from.get(turn.checked_rem(from.len())?).map(|at| **at);
        pick(usable().filter(|at| at.shard == shard).collect())
            .or_else(|| pick(usable().collect()))
            .or(Some(hop.control))
    }

    /// How many routers have consumers of an address, this one included. One that was just lost may count. All that are
    /// beyond the uplink of an edge router count as one, and only of addresses that somebody here asks about.
    pub fn consuming_routers(&self, address: &str) -> usize {
        let Some(consumers) = self.addresses.get(address) else { return 0 };
        consumers.owners.len() + usize::from(consumers.are_here()) + usize::from(consumers.are_beyond())
    }

    /// Whether anybody in the network consumes a routing key, or another address that is known across the network.
    pub fn is_reachable(&self, address: &str) -> bool {
        self.addresses.get(address).is_some_and(|consumers| self.has_consumer(consumers))
    }

    /// Whether anybody in the network consumes an address that begins and ends like this.
    pub fn is_any_reachable(&self, prefix: &str, suffix: &str) -> bool {
        let mut alike = self.addresses.iter().filter(|(it, _)| it.starts_with(prefix) && it.ends_with(suffix));
        alike.any(|(_, consumers)| self.has_consumer(consumers))
    }

    /// Who in this process has a name that every router has: without consumers in the network, it means the one here.
    pub(crate) fn own(&self, name: &str) -> Option<&Arc<Consumers>> {
        self.locals.get(name).filter(|consumers| !consumers.subscribers.is_empty())
    }

    fn has_consumer(&self, consumers: &Consumers) -> bool {
        let is_reachable = |owner| self.table.route(owner).is_some();
        consumers.are_here() || consumers.are_beyond() || consumers.owners.iter().any(|(owner, _)| is_reachable(owner))
    }

    /// Whether there is a way to the edge router of an id, as far as this one knows.
    pub fn is_edge_reachable(&self, id: &str) -> bool {
        self.edges.get(id).is_some_and(|consumers| self.has_consumer(consumers))
    }

    /// Whether a message for this address, in any form, would find somebody.
    pub(crate) fn leads_somewhere(&self, to: &str) -> bool {
        let has_uplink = self.uplink.is_some();
        match self.parse(to) {
            Address::Mobile(key) => self.is_reachable(key) || self.own(key).is_some(),
            // Its clients' own addresses are not in the picture.
            Address::Local(_) | Address::Everywhere(_) => true,
            Address::Router(id) => has_uplink || RouterId::new(id).is_ok_and(|id| self.table.route(&id).is_some()),
            Address::Edge(id) => has_uplink || self.is_edge_reachable(id),
            Address::Foreign => has_uplink,
        }
    }

    /// The full address of a name at this router.
    pub(crate) fn own_address(&self, name: &str) -> String {
        match self.edge {
            Some(_) => format!("amqp:/_edge/{}/{name}", self.id),
            None => format!("amqp:/_topo/{}/{name}", self.node),
        }
    }

    /// What an address means to this router.
    pub(crate) fn parse<'a>(&self, to: &'a str) -> Address<'a> {
        match self.edge {
            Some(_) => Address::parse_at_edge(to, self.id.as_str()),
            None => Address::parse(to, self.id.as_str()),
        }
    }
}

impl LinkConsumer {
    /// Whether a delivery may go there. Nothing goes back to the routers it comes from.
    fn may_have(&self, from: &From<'_>) -> bool {
        let is_back = self.peer != PeerKind::Client && from.connection == Some(self.id.at.id);
        let is_same_mesh = from.mesh.is_some() && from.mesh == self.mesh.as_deref();
        // What came to an edge router, from the network or through the mesh, is for those who are here.
        let is_passing = from.connection.is_some() && self.peer.is_beyond();
        !is_back && !is_same_mesh && !is_passing
    }
}

impl PeerKind {
    /// Whether others are behind it, who are not ours to tell of; we are an edge router.
    fn is_beyond(self) -> bool {
        matches!(self, Self::Interior | Self::Mesh)
    }

    /// What it costs to go there, by the measure of links between routers.
    fn cost(self) -> u64 {
        match self {
            Self::Client | Self::Edge => 0,
            Self::Mesh => 1,
            Self::Interior => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use van_routing::{Cost, Peers, Topology};

    use super::*;
    use crate::amqp::{Decode, Encode, Reader};

    /// What the fourth of a ring of four knows: of two ways from r2 to r0 all take the one by r1.
    fn beside_the_way() -> Routes {
        let id = |n: usize| RouterId::new(&format!("r{}", n % 4)).expect("valid");
        let states: BTreeMap<_, _> =
            (0..4).map(|n| (id(n), Peers::from([n + 1, n + 3].map(|peer| (id(peer), Cost::ONE))))).collect();
        let links = BTreeMap::from([(id(0), LinkId(0)), (id(2), LinkId(2))]);
        Routes::alone(Arc::new(Table::new(id(3), Topology::new(&states), links)), 1)
    }

    #[test]
    fn what_came_by_a_path_of_old_goes_on_unless_in_a_circle() {
        let routes = beside_the_way();
        let owners = vec![(RouterId::new("r0").expect("valid"), Load::default())];
        let consumers = Consumers::new(Treatment::AnycastBalanced, Vec::new(), Vec::new(), Vec::new(), owners);
        for (passed, expected) in [
            (&["r2"][..], Some(LinkId(0))),
            (&["r1", "r2"], Some(LinkId(0))),
            (&["r2", "r3", "r2"], None),
            (&["r2", "r0", "r1"], None),
        ] {
            let mut octets = Vec::new();
            crate::amqp::put_list(&mut octets, passed.len(), |out| passed.iter().for_each(|id| id.encode(out)));
            let trace = Trace::decode(&mut Reader::new(&octets)).expect("valid");
            let from = From { origin: Some("r2"), trace, ..From::default() };
            assert_eq!(routes.way_to_id("r0", &from), expected, "{passed:?}");
            let link = match routes.choose(&consumers, true, &from, &Excluded::default()) {
                Some(Choice::NextHop { link, is_neighbor: true, .. }) => Some(link),
                _ => None,
            };
            assert_eq!(link, expected, "{passed:?}");
        }
    }

    #[test]
    fn what_came_to_a_consumer_here_does_not_go_on_however_busy_that_is() {
        let owners = vec![(RouterId::new("r0").expect("valid"), Load::default())];
        let here = vec![(ConnectorId(1), Load::default())];
        let consumers = Consumers::new(Treatment::AnycastBalanced, here, Vec::new(), Vec::new(), owners);
        let from = From { origin: Some("r2"), ..From::default() };
        let choose = || beside_the_way().choose(&consumers, true, &from, &Excluded::default());
        let chosen: Vec<_> = (0..5).map(|_| choose()).collect();
        assert!(chosen.iter().all(|choice| matches!(choice, Some(Choice::Connector(..)))), "{chosen:?}");
    }
}
