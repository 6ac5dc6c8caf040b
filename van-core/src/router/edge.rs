//! An edge router's side of its uplink: one connection to an interior router at a time, and the links on it (docs/wire.md §3.7).
//!
//! ```text
//!   connections up ──► one is active ──► mesh id, uplink, downlink, tracking ──► a link for each address that somebody
//!                        ▲      │                                                here consumes, and for each that
//!                        └ lost ┘                                                somebody here sends to
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use super::auto_links::REST;
use super::consumers::Class;
use super::core::{Core, Output};
use super::links::{MESH_DISCOVERY, TRACKING, mesh_message, read_tracking};
use super::mesh::{Bid, Mesh};
use crate::amqp::Condition;
use crate::plane::{ConnectionId, ConnectionRef, Edge, EndpointId, LinkConsumer, Load, PeerKind, Uplink, WantedLink};

/// The capability of the way from the network to an edge router.
const DOWNLINK: &str = "qd.router-edge-downlink";

/// Credit on links of an edge connection. Source: skupper-router, `linkCapacity`.
const LINK_CREDIT: u32 = 250;
/// Credit for what is told of addresses. Source: skupper-router.
const TRACKING_CREDIT: u32 = 32;

/// What an edge router knows of its uplinks.
#[derive(Debug)]
pub(super) struct EdgeSide {
    pub(super) edge: Edge,
    /// Connections to interior routers, the oldest first.
    connections: BTreeMap<ConnectionId, Candidate>,
    active: Option<Active>,
    /// The last number that a link was wanted by.
    last: u64,
    /// Addresses that links here send to.
    produced: BTreeMap<EndpointId, Arc<str>>,
    pub(super) mesh: Mesh,
    /// Ours for the id of the mesh.
    pub(super) bid: Bid,
}

/// A connection that can be the uplink.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) at: ConnectionRef,
    pub(super) cost: u32,
    /// All connections of a link have the same.
    pub(super) correlator: String,
    /// The generation of our certificates that it was made with.
    pub(super) ordinal: u64,
}

/// The connection in use, and the links on it.
#[derive(Debug)]
struct Active {
    at: ConnectionRef,
    cost: u32,
    /// Links that were asked for, by number.
    wanted: BTreeMap<u64, Role>,
    links: BTreeMap<EndpointId, Role>,
    /// Addresses with a link, wanted or there.
    consumed: BTreeSet<Arc<str>>,
    sent_to: BTreeSet<Arc<str>>,
    uplink: Option<EndpointId>,
    /// Addresses that were said to have a consumer before the link to them was answered. It is not said again.
    early: BTreeSet<Arc<str>>,
    /// When links to addresses that were refused are asked for again.
    retry_at: Option<Instant>,
}

/// What a link of ours on the uplink is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Role {
    Mesh,
    Uplink,
    Downlink,
    Tracking,
    /// Deliveries for an address that is consumed here.
    Consumed(Arc<str>),
    /// Deliveries to an address.
    SentTo(Arc<str>),
}

impl EdgeSide {
    /// An edge router that starts now, in seconds since 1970, and would give its mesh this id.
    pub(super) fn new(id: Arc<str>, start: u64) -> Self {
        // Of two that start in the same second, their ids decide.
        let ordinal = i64::try_from(start.saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        Self {
            edge: Edge { mesh: Arc::clone(&id) },
            connections: BTreeMap::new(),
            active: None,
            last: 0,
            produced: BTreeMap::new(),
            mesh: Mesh::default(),
            bid: Bid { ordinal, id },
        }
    }

    /// When [`Core::retry_uplink`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.active.as_ref()?.retry_at
    }

    /// The link by which the interior router is told of the mesh.
    pub(super) fn mesh_discovery(&self) -> Option<EndpointId> {
        let links = &self.active.as_ref()?.links;
        links.iter().find(|(_, role)| **role == Role::Mesh).map(|(endpoint, _)| *endpoint)
    }

    pub(super) fn uplink(&self) -> Option<Uplink> {
        Some(Uplink { endpoint: self.active.as_ref()?.uplink? })
    }
}

impl Core {
    pub(super) fn is_edge(&self) -> bool {
        self.edge.is_some()
    }

    /// A connection to an interior router is up. It takes the place of earlier generations of its link, and the uplink's if it
    /// is cheaper; what runs on those may end.
    pub(super) fn add_uplink(&mut self, new: Candidate) {
        let Some(edge) = &mut self.edge else { return };
        let is_earlier =
            |_: &ConnectionId, it: &mut Candidate| it.correlator == new.correlator && it.ordinal < new.ordinal;
        let retired: Vec<_> = edge.connections.extract_if(.., is_earlier).map(|(_, earlier)| earlier.at).collect();
        let is_left = |active: &Active| retired.contains(&active.at) || new.cost < active.cost;
        let is_left = edge.active.as_ref().is_some_and(is_left);
        edge.connections.insert(new.at.id, new);
        if is_left {
            for endpoint in self.leave_uplink() {
                self.outputs.push_back(Output::DetachLink { endpoint });
            }
        }
        self.outputs.extend(retired.into_iter().map(|at| Output::Retire { at }));
        self.choose_uplink();
    }

    /// Uses the active connection no more. Its links.
    fn leave_uplink(&mut self) -> Vec<EndpointId> {
        let Some(left) = self.edge.as_mut().and_then(|edge| edge.active.take()) else { return Vec::new() };
        for (endpoint, role) in &left.links {
            if let Role::SentTo(address) = role {
                self.directory.remove_link(Class::Mobile, address, *endpoint);
            }
        }
        self.is_stale = true;
        left.links.into_keys().collect()
    }

    /// A connection is gone; if it was the uplink, the next one is.
    pub(super) fn remove_uplink(&mut self, id: ConnectionId) {
        let Some(edge) = &mut self.edge else { return };
        edge.connections.remove(&id);
        if edge.active.as_ref().is_some_and(|active| active.at.id == id) {
            self.leave_uplink();
            self.choose_uplink();
        }
    }

    /// The cheapest becomes the uplink if there is none; of equals the oldest.
    fn choose_uplink(&mut self) {
        let Some(edge) = self.edge.as_mut().filter(|edge| edge.active.is_none()) else { return };
        let Some(&Candidate { at, cost, .. }) = edge.connections.values().min_by_key(|it| it.cost) else { return };
        edge.active = Some(Active {
            at,
            cost,
            wanted: BTreeMap::new(),
            links: BTreeMap::new(),
            consumed: BTreeSet::new(),
            sent_to: BTreeSet::new(),
            uplink: None,
            early: BTreeSet::new(),
            retry_at: None,
        });
        // The order is skupper-router's. Tracking comes before all links to addresses: earlier ones are never told of.
        for role in [Role::Mesh, Role::Uplink, Role::Downlink, Role::Tracking] {
            self.want(role);
        }
        self.is_stale = true;
    }

    /// Asks for a link on the uplink.
    fn want(&mut self, role: Role) {
        let me: Arc<str> = self.id().as_str().into();
        let Some(edge) = &mut self.edge else { return };
        let Some(active) = &mut edge.active else { return };
        edge.last += 1;
        let label = edge.last;
        let receives = |address: Option<Arc<str>>, credit| WantedLink {
            label,
            is_sender: false,
            peer_address: address,
            address: None,
            capability: None,
            is_control: false,
            credit,
        };
        let sends = |address: Option<Arc<str>>| WantedLink { is_sender: true, ..receives(address, 0) };
        let link = match &role {
            Role::Mesh => WantedLink { is_control: true, ..sends(Some(MESH_DISCOVERY.into())) },
            Role::Uplink => sends(None),
            Role::Downlink => WantedLink { capability: Some(DOWNLINK), ..receives(Some(me), LINK_CREDIT) },
            Role::Tracking => WantedLink { is_control: true, ..receives(Some(TRACKING.into()), TRACKING_CREDIT) },
            Role::Consumed(address) => {
                WantedLink { address: Some(Arc::clone(address)), ..receives(Some(Arc::clone(address)), LINK_CREDIT) }
            }
            Role::SentTo(address) => sends(Some(Arc::clone(address))),
        };
        active.wanted.insert(label, role);
        self.outputs.push_back(Output::AttachLink { on: active.at, link });
    }

    /// A link that we asked for was attached.
    pub(super) fn recv_link_attached(&mut self, label: u64, endpoint: EndpointId) {
        let Some(edge) = &mut self.edge else { return };
        let active = edge.active.as_mut().filter(|active| active.at.id == endpoint.at.id);
        let Some((role, active)) = active.and_then(|active| Some((active.wanted.remove(&label)?, active))) else {
            // Its connection is not the uplink any more.
            return self.outputs.push_back(Output::DetachLink { endpoint });
        };
        match &role {
            Role::Mesh => {
                let message = mesh_message(&edge.edge.mesh);
                self.outputs.push_back(Output::SendOnLink { endpoint, message });
            }
            Role::Uplink => active.uplink = Some(endpoint),
            Role::SentTo(address) if active.early.remove(address) => {
                self.directory.add_link(Class::Mobile, address, beyond(endpoint));
            }
            _ => {}
        }
        // It may not be wanted any more.
        self.is_stale = true;
        active.links.insert(endpoint, role);
    }

    /// The interior router has refused a link that we asked for. One to an address is asked for again later.
    pub(super) fn uplink_link_refused(&mut self, now: Instant, label: u64, reason: Option<Condition>) {
        let active = self.edge.as_mut().and_then(|edge| edge.active.as_mut());
        let found = active.and_then(|active| active.wanted.remove(&label).map(|role| (active, role)));
        let Some((active, role)) = found else { return };
        match role {
            Role::Consumed(address) => drop(active.consumed.remove(&address)),
            Role::SentTo(address) => {
                active.sent_to.remove(&address);
                active.early.remove(&address);
            }
            Role::Mesh => return,
            // Without it that connection is no uplink.
            Role::Uplink | Role::Downlink | Role::Tracking => {
                return self.outputs.push_back(Output::Close { at: active.at, condition: reason });
            }
        }
        active.retry_at.get_or_insert(now + REST);
    }

    /// Asks for links again that were refused, once they have rested.
    pub(super) fn retry_uplink(&mut self, now: Instant) {
        let active = self.edge.as_mut().and_then(|edge| edge.active.as_mut());
        self.is_stale |= active.is_some_and(|active| active.retry_at.take_if(|at| *at <= now).is_some());
    }

    /// A link of ours is gone.
    pub(super) fn uplink_link_lost(&mut self, endpoint: EndpointId) {
        let Some(edge) = &mut self.edge else { return };
        edge.produced.remove(&endpoint);
        let Some(active) = &mut edge.active else { return };
        match active.links.remove(&endpoint) {
            Some(Role::Uplink | Role::Downlink | Role::Tracking) => {
                let condition = Some(Condition::new("amqp:connection:forced", "a link that an uplink needs is gone"));
                self.outputs.push_back(Output::Close { at: active.at, condition });
            }
            Some(Role::SentTo(address)) => {
                active.sent_to.remove(&address);
                self.directory.remove_link(Class::Mobile, &address, endpoint);
            }
            Some(Role::Consumed(address)) => drop(active.consumed.remove(&address)),
            Some(Role::Mesh) | None => return,
        }
        self.is_stale = true;
    }

    /// The interior router says whether an address has a consumer.
    pub(super) fn recv_uplink_message(&mut self, endpoint: EndpointId, octets: &[u8]) {
        let Some(active) = self.edge.as_mut().and_then(|edge| edge.active.as_mut()) else { return };
        if active.links.get(&endpoint) != Some(&Role::Tracking) {
            return;
        }
        let Some((address, is_reachable)) = read_tracking(octets) else { return };
        let sender = active.links.iter().find(|(_, role)| **role == Role::SentTo(Arc::clone(&address)));
        let Some(id) = sender.map(|(id, _)| *id) else {
            if is_reachable && active.sent_to.contains(&address) {
                active.early.insert(address);
            } else {
                active.early.remove(&address);
            }
            return;
        };
        if is_reachable {
            self.directory.add_link(Class::Mobile, &address, beyond(id));
        } else {
            self.directory.remove_link(Class::Mobile, &address, id);
        }
        self.is_stale = true;
    }

    /// A link of a client here sends to an address.
    pub(super) fn produce(&mut self, endpoint: EndpointId, address: &str) {
        let routes = Arc::clone(self.routes());
        if let (Some(edge), crate::address::Address::Mobile(name)) = (&mut self.edge, routes.parse(address)) {
            edge.produced.insert(endpoint, name.into());
            self.is_stale = true;
        }
    }

    /// Brings the links on the uplink in line with what is consumed here, and sent to from here.
    pub(super) fn settle_uplink(&mut self) {
        let Some(edge) = &mut self.edge else { return };
        let Some(active) = &mut edge.active else { return };
        let consumed: BTreeSet<_> = self.directory.own_addresses().cloned().collect();
        let sent_to: BTreeSet<_> = self.watched.keys().chain(edge.produced.values()).cloned().collect();
        for (endpoint, role) in &active.links {
            let is_wanted = match role {
                Role::Consumed(address) => consumed.contains(address),
                Role::SentTo(address) => sent_to.contains(address),
                _ => true,
            };
            if !is_wanted {
                self.outputs.push_back(Output::DetachLink { endpoint: *endpoint });
            }
        }
        let new_consumed: Vec<_> = consumed.difference(&active.consumed).cloned().collect();
        let new_sent_to: Vec<_> = sent_to.difference(&active.sent_to).cloned().collect();
        active.consumed.extend(new_consumed.iter().cloned());
        active.sent_to.extend(new_sent_to.iter().cloned());
        new_consumed.into_iter().for_each(|address| self.want(Role::Consumed(address)));
        new_sent_to.into_iter().for_each(|address| self.want(Role::SentTo(address)));
    }
}

/// All consumers beyond the uplink, as one behind the link to their address.
fn beyond(id: EndpointId) -> LinkConsumer {
    LinkConsumer { id, peer: PeerKind::Interior, mesh: None, load: Load::default() }
}
