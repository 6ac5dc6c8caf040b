//! What the data plane knows of the network: an immutable picture, made by the control plane, and the choice by it.
//!
//! The only thing in it that moves is how much each destination carries: counters beside the picture, which live on from
//! one picture to the next, touched when a delivery starts and ends and never per octet.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use van_routing::{LinkId, RouterId, Table, Treatment};

use crate::address::Address;
use crate::annotations::Annotations;

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
    /// Consumers by address, without class letter.
    pub addresses: Arc<HashMap<Arc<str>, Arc<Consumers>>>,
}

/// Where a connection lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    /// Connectors of this router.
    pub connectors: Vec<(ConnectorId, Load)>,
    /// Subscribers of this router.
    pub subscribers: Vec<(SubscriberId, Load)>,
    /// Other routers with consumers.
    pub owners: Vec<(RouterId, Load)>,
    rotor: AtomicUsize,
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
    NextHop(LinkId, Carried),
}

/// All who are to have a copy of a message.
#[derive(Debug, Default)]
pub(crate) struct Recipients {
    pub(crate) subscribers: Vec<SubscriberId>,
    pub(crate) next_hops: Vec<LinkId>,
}

/// What a candidate for a delivery is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Connector(ConnectorId),
    Subscriber(SubscriberId),
    NextHop(LinkId),
}

/// Destinations that have turned a delivery down.
#[derive(Debug, Clone, Default)]
pub(crate) struct Excluded {
    pub(crate) connectors: Vec<ConnectorId>,
    pub(crate) next_hops: Vec<LinkId>,
}

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

impl Recipients {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.subscribers.is_empty() && self.next_hops.is_empty()
    }
}

impl Consumers {
    /// Consumers of an address.
    pub fn new(
        treatment: Treatment,
        connectors: Vec<(ConnectorId, Load)>,
        subscribers: Vec<(SubscriberId, Load)>,
        owners: Vec<(RouterId, Load)>,
    ) -> Self {
        Self { treatment, connectors, subscribers, owners, rotor: AtomicUsize::new(0) }
    }

    /// Whether one of them is at this router.
    fn are_here(&self) -> bool {
        !self.connectors.is_empty() || !self.subscribers.is_empty()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        !self.are_here() && self.owners.is_empty()
    }
}

impl Routes {
    /// The picture of a router that knows nobody yet.
    pub fn alone(table: Arc<Table>, shards: u16) -> Self {
        let id = table.id().clone();
        let node = format!("0/{id}").into();
        Self { id, node, shards, table, next_hops: BTreeMap::new(), addresses: Arc::default() }
    }

    /// Chooses where a delivery for an address goes: here, a stream to a connector and a message to a subscriber. `origin` is
    /// the router where it entered, if not this one.
    ///
    /// The lowest of cost and (if balanced) open deliveries wins, a fresh one of equals each time. An owner counts only if
    /// its shortest path from the origin leads through here: what keeps deliveries from going in circles.
    pub(crate) fn choose(
        &self,
        address: &str,
        is_stream: bool,
        origin: Option<&str>,
        excluded: &Excluded,
    ) -> Option<Choice> {
        let consumers = self.addresses.get(address)?;
        let origin = self.origin(origin);
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
        let remote = consumers.owners.iter().filter_map(|(owner, load)| {
            let (link, cost) = self.way_to(owner, &origin)?;
            (!excluded.next_hops.contains(&link)).then_some((cost, load, Place::NextHop(link)))
        });
        let value = |(cost, load, _): &(u64, &Load, _)| cost + if is_balanced { load.carried().into() } else { 0 };
        let candidates: Vec<_> = local.chain(subscribers).chain(remote).collect();
        let start = consumers.rotor.fetch_add(1, Ordering::Relaxed) % candidates.len().max(1);
        let turned = candidates[start..].iter().chain(&candidates[..start]);
        let (_, load, destination) = turned.min_by_key(|candidate| value(candidate))?;
        Some(match *destination {
            Place::Connector(connector) => Choice::Connector(connector, load.carry()),
            Place::Subscriber(subscriber) => Choice::Subscriber(subscriber),
            Place::NextHop(link) => Choice::NextHop(link, load.carry()),
        })
    }

    /// All who are to have a copy of a message for a multicast address: the subscribers here, and the next hops towards
    /// other routers with consumers, as far as the paths from where it entered lead through here. `None` if the address is
    /// not multicast. Connectors have no use for messages.
    pub(crate) fn recipients(&self, address: &str, annotations: &Annotations<'_>) -> Option<Recipients> {
        let consumers = self.addresses.get(address)?;
        if !matches!(consumers.treatment, Treatment::MulticastFlood | Treatment::MulticastOnce) {
            return None;
        }
        let trace: Vec<_> = annotations.trace().filter_map(|id| RouterId::new(id).ok()).collect();
        // It has been here: the routers do not agree on their paths yet.
        if trace.contains(&self.id) {
            return Some(Recipients::default());
        }
        let origin = match annotations.origin() {
            Some(origin) => RouterId::new(origin).ok(),
            None => Some(self.id.clone()),
        };
        let owners = consumers.owners.iter().map(|(owner, _)| owner);
        Some(Recipients {
            subscribers: consumers.subscribers.iter().map(|(subscriber, _)| *subscriber).collect(),
            next_hops: origin.map(|origin| self.table.multicast(owners, &origin, &trace)).unwrap_or_default(),
        })
    }

    /// Where a whole message goes.
    pub(crate) fn destinations(&self, to: &str, annotations: &Annotations<'_>) -> Recipients {
        let mut one = Recipients::default();
        match Address::parse(to, self.id.as_str()) {
            Address::Router(id) => one.next_hops.extend(self.way_to_id(id, annotations.origin())),
            Address::Mobile(key) => {
                if let Some(all) = self.recipients(key, annotations) {
                    return all;
                }
                match self.choose(key, false, annotations.origin(), &Excluded::default()) {
                    Some(Choice::Subscriber(subscriber)) => one.subscribers.push(subscriber),
                    Some(Choice::NextHop(link, _)) => one.next_hops.push(link),
                    Some(Choice::Connector(..)) | None => {}
                }
            }
            Address::Local(_) | Address::Everywhere(_) | Address::Edge(_) | Address::Foreign => {}
        }
        one
    }

    /// The link towards a router and the path's cost, if a delivery from `origin` may take it.
    fn way_to(&self, router: &RouterId, origin: &RouterId) -> Option<(LinkId, u64)> {
        let link = self.table.unicast(router, origin)?;
        Some((link, self.table.route(router)?.cost))
    }

    /// The router of a name; one that cannot be a router counts as this one, like any that is unknown.
    fn origin(&self, name: Option<&str>) -> RouterId {
        name.and_then(|name| RouterId::new(name).ok()).unwrap_or_else(|| self.id.clone())
    }

    /// The link towards a router named by its id.
    pub(crate) fn way_to_id(&self, id: &str, origin: Option<&str>) -> Option<LinkId> {
        self.table.unicast(&RouterId::new(id).ok()?, &self.origin(origin))
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

    /// How many routers have consumers of an address, this one included. One that was just lost may count.
    pub fn consuming_routers(&self, address: &str) -> usize {
        self.addresses.get(address).map_or(0, |consumers| consumers.owners.len() + usize::from(consumers.are_here()))
    }

    /// Whether anybody in the network consumes an address.
    pub fn is_reachable(&self, address: &str) -> bool {
        let is_known = |owner: &RouterId| self.table.route(owner).is_some();
        self.addresses
            .get(address)
            .is_some_and(|consumers| consumers.are_here() || consumers.owners.iter().any(|(owner, _)| is_known(owner)))
    }
}
