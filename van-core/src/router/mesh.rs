//! The mesh of edge routers: what they consume of each other, and the id that all of one mesh have in common
//! (docs/wire.md §3.6).
//!
//! Each end attaches a link for what is addressed to the other router, one for bids, and a receiver for each address that
//! somebody at its own end consumes. Every router has made a bid when it started; the lowest names the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::consumers::Class;
use super::core::{Core, Output};
use super::links::{MESH_ID_BYTES, mesh_message};
use crate::amqp::{Decode, Encode, Value};
use crate::annotations::Annotations;
use crate::message;
use crate::plane::{ConnectionId, ConnectionRef, EndpointId, LinkConsumer, Load, PeerKind, WantedLink};

/// Where bids go.
pub(super) const NEGOTIATION: &str = "_$qd.mesh_id_negotiation";

/// The capability of the link for what is addressed to the other router.
const INTER_EDGE: &str = "qd.router-inter-edge";

/// Deliveries for an address that may be under way. Source: skupper-router, `linkCapacity`.
const CREDIT: u32 = 250;

/// In labels of wanted links: those between edge routers.
const LABEL: u64 = 1 << 62;

/// A bid for the id of a mesh.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bid {
    /// The lowest wins: microseconds since 1970 of the bidder's start.
    pub(super) ordinal: i64,
    pub(super) id: Arc<str>,
}

/// Other edge routers.
#[derive(Debug, Default)]
pub(super) struct Mesh {
    peers: BTreeMap<ConnectionId, Peer>,
    last: u64,
}

#[derive(Debug)]
struct Peer {
    at: ConnectionRef,
    router: Arc<str>,
    /// Whether it is the one in use of several connections to that router: the first.
    is_used: bool,
    wanted: BTreeMap<u64, Role>,
    links: BTreeMap<EndpointId, Role>,
    consumed: BTreeSet<Arc<str>>,
    /// Their link for bids, and what they bid.
    negotiation: Option<EndpointId>,
    bid: Option<Bid>,
}

/// What a link of ours to another edge router is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Role {
    Router,
    Negotiation,
    Consumed(Arc<str>),
}

impl Core {
    /// A connection to another edge router is up.
    pub(super) fn add_mesh_peer(&mut self, at: ConnectionRef, router: &str) {
        let Some(edge) = &mut self.edge else { return };
        let peer = Peer {
            at,
            router: router.into(),
            is_used: false,
            wanted: BTreeMap::new(),
            links: BTreeMap::new(),
            consumed: BTreeSet::new(),
            negotiation: None,
            bid: None,
        };
        edge.mesh.peers.insert(at.id, peer);
        self.use_mesh_peers();
    }

    /// A connection is gone. Another one to the same router takes its place.
    pub(super) fn remove_mesh_peer(&mut self, id: ConnectionId) {
        let Some(lost) = self.edge.as_mut().and_then(|edge| edge.mesh.peers.remove(&id)) else { return };
        for (endpoint, role) in lost.links {
            if role == Role::Router {
                self.directory.remove_link(Class::Edge, &lost.router, endpoint);
            }
        }
        self.is_stale = true;
        self.use_mesh_peers();
        self.choose_mesh();
    }

    /// Attaches what belongs on the first connection to each router.
    fn use_mesh_peers(&mut self) {
        let Some(edge) = &mut self.edge else { return };
        let mut used: BTreeSet<_> =
            edge.mesh.peers.values().filter(|peer| peer.is_used).map(|peer| Arc::clone(&peer.router)).collect();
        let mut new = Vec::new();
        for (id, peer) in &mut edge.mesh.peers {
            if used.insert(Arc::clone(&peer.router)) {
                peer.is_used = true;
                new.push(*id);
            }
        }
        for id in new {
            self.want_of_mesh(id, Role::Router);
            self.want_of_mesh(id, Role::Negotiation);
            self.is_stale = true;
        }
    }

    fn want_of_mesh(&mut self, id: ConnectionId, role: Role) {
        let Some(edge) = &mut self.edge else { return };
        edge.mesh.last += 1;
        let label = edge.mesh.last | LABEL;
        let Some(peer) = edge.mesh.peers.get_mut(&id) else { return };
        let sender = WantedLink {
            label,
            is_sender: true,
            peer_address: None,
            address: None,
            capability: None,
            is_control: false,
            credit: 0,
        };
        let link = match &role {
            Role::Router => WantedLink { capability: Some(INTER_EDGE), ..sender },
            Role::Negotiation => WantedLink { peer_address: Some(NEGOTIATION.into()), is_control: true, ..sender },
            Role::Consumed(address) => WantedLink {
                is_sender: false,
                peer_address: Some(Arc::clone(address)),
                address: Some(Arc::clone(address)),
                credit: CREDIT,
                ..sender
            },
        };
        peer.wanted.insert(label, role);
        self.outputs.push_back(Output::AttachLink { on: peer.at, link });
    }

    /// A link that we asked for is there; false if it is none of these.
    pub(super) fn mesh_link_attached(&mut self, label: u64, endpoint: EndpointId) -> bool {
        let Some(edge) = self.edge.as_mut().filter(|_| label & LABEL != 0) else { return false };
        let Some(peer) = edge.mesh.peers.get_mut(&endpoint.at.id) else { return true };
        let Some(role) = peer.wanted.remove(&label) else { return true };
        match role {
            Role::Router => {
                let link = LinkConsumer { id: endpoint, peer: PeerKind::Mesh, mesh: None, load: Load::default() };
                self.directory.add_link(Class::Edge, &Arc::clone(&peer.router), link);
            }
            Role::Negotiation => {
                let message = bid_message(&edge.bid);
                self.outputs.push_back(Output::SendOnLink { endpoint, message });
            }
            Role::Consumed(_) => {}
        }
        peer.links.insert(endpoint, role);
        self.is_stale = true;
        true
    }

    /// A link of ours is gone.
    pub(super) fn mesh_link_lost(&mut self, endpoint: EndpointId) {
        let Some(edge) = &mut self.edge else { return };
        let Some(peer) = edge.mesh.peers.get_mut(&endpoint.at.id) else { return };
        match peer.links.remove(&endpoint) {
            Some(Role::Router) => drop(self.directory.remove_link(Class::Edge, &Arc::clone(&peer.router), endpoint)),
            Some(Role::Consumed(address)) => drop(peer.consumed.remove(&address)),
            _ => return,
        }
        self.is_stale = true;
    }

    /// The other router has a link for bids. Whether it is one of the mesh.
    pub(super) fn add_negotiation(&mut self, endpoint: EndpointId) -> bool {
        let peer = self.edge.as_mut().and_then(|edge| edge.mesh.peers.get_mut(&endpoint.at.id));
        peer.map(|peer| peer.negotiation = Some(endpoint)).is_some()
    }

    /// A message came on a link that may be one for bids.
    pub(super) fn recv_bid(&mut self, endpoint: EndpointId, octets: &[u8]) {
        let peer = self.edge.as_mut().and_then(|edge| edge.mesh.peers.get_mut(&endpoint.at.id));
        let Some(peer) = peer.filter(|peer| peer.negotiation == Some(endpoint)) else { return };
        if let Some(bid) = read_bid(octets) {
            peer.bid = Some(bid);
            self.choose_mesh();
        }
    }

    /// The lowest bid names the mesh; the interior router is told if that is another name now.
    fn choose_mesh(&mut self) {
        let Some(edge) = &mut self.edge else { return };
        let bids = edge.mesh.peers.values().filter_map(|peer| peer.bid.as_ref());
        let best = bids.chain([&edge.bid]).min().map(|bid| Arc::clone(&bid.id)).unwrap_or_default();
        if edge.edge.mesh != best {
            edge.edge.mesh = best;
            self.is_stale = true;
            self.tell_mesh();
        }
    }

    fn tell_mesh(&mut self) {
        let Some(edge) = &self.edge else { return };
        if let Some(endpoint) = edge.mesh_discovery() {
            let message = mesh_message(&edge.edge.mesh);
            self.outputs.push_back(Output::SendOnLink { endpoint, message });
        }
    }

    /// Brings the receivers at other edge routers in line with what is consumed here.
    pub(super) fn settle_mesh(&mut self) {
        let consumed: BTreeSet<_> = self.directory.own_addresses().cloned().collect();
        let Some(edge) = &mut self.edge else { return };
        let mut wanted = Vec::new();
        for (id, peer) in edge.mesh.peers.iter_mut().filter(|(_, peer)| peer.is_used) {
            for (endpoint, role) in &peer.links {
                if matches!(role, Role::Consumed(address) if !consumed.contains(address)) {
                    self.outputs.push_back(Output::DetachLink { endpoint: *endpoint });
                }
            }
            let new: Vec<_> = consumed.difference(&peer.consumed).cloned().collect();
            peer.consumed.extend(new.iter().cloned());
            wanted.extend(new.into_iter().map(|address| (*id, Role::Consumed(address))));
        }
        wanted.into_iter().for_each(|(id, role)| self.want_of_mesh(id, role));
    }
}

fn bid_message(bid: &Bid) -> Bytes {
    let mut out = Vec::with_capacity(128);
    Annotations::fresh(0).forward_from_edge(None, &mut out);
    let id = Value::String(bid.id.to_string());
    let map = Value::Map(vec![(Value::symbol("ordinal"), Value::Long(bid.ordinal)), (Value::symbol("id"), id)]);
    Value::Described(Value::Ulong(0x74).into(), map.into()).encode(&mut out);
    out.into()
}

fn read_bid(octets: &[u8]) -> Option<Bid> {
    let head = message::scan(octets, true).ok()??;
    let map = Value::decode(&mut head.application_properties?).ok()?;
    let id = map.entry("id")?.as_text().filter(|id| id.len() == MESH_ID_BYTES)?;
    Some(Bid { ordinal: map.entry("ordinal")?.as_integer()?, id: id.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bid_is_read_back() {
        let bid = Bid { ordinal: 1_700_000_000_123_456, id: "0123456789abcde".into() };
        assert_eq!(read_bid(&bid_message(&bid)), Some(bid));
        assert_eq!(read_bid(&mesh_message("0123456789abcde")), None);
    }
}
