//! Links with addresses that peers attach: what they are for, and what edge routers are told (docs/wire.md §3.5 to §3.7).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use van_routing::Treatment;

use super::consumers::Class;
use super::core::{Core, Output};
use super::mesh::NEGOTIATION;
use crate::address::Address;
use crate::amqp::{Composer, Condition, Decode, Encode, Reader, Value};
use crate::annotations::Annotations;
use crate::message;
use crate::plane::{
    Addresses, ConnectionId, EndpointId, LinkAnswer, LinkConsumer, LinkRequest, Load, PeerKind, Routes,
};

/// Where an edge router is told which addresses have consumers.
pub(super) const TRACKING: &str = "_$qd.edge_addr_tracking";
/// Where an edge router says which mesh it belongs to.
pub(super) const MESH_DISCOVERY: &str = "_$qd.mesh_discovery";

/// Octets of a mesh id.
pub(super) const MESH_ID_BYTES: usize = 15;

/// Messages of a mesh id that may be under way. Source: skupper-router.
const MESH_CREDIT: u32 = 3;

/// Links with addresses, as the control plane knows them.
#[derive(Debug, Default)]
pub(super) struct PeerLinks {
    consumers: BTreeMap<EndpointId, (Class, Arc<str>)>,
    /// By connection to an edge router.
    edges: BTreeMap<ConnectionId, EdgePeer>,
}

/// An edge router.
#[derive(Debug, Default)]
struct EdgePeer {
    mesh: Option<Arc<str>>,
    /// The link to tell it of consumers.
    tracking: Option<EndpointId>,
    mesh_discovery: Option<EndpointId>,
    /// Its links that give deliveries, each for an address, and whether it was told that somebody takes them.
    tracked: BTreeMap<EndpointId, (Arc<str>, bool)>,
}

impl Core {
    /// The mesh of the edge router at the other end of a connection, once it has told.
    pub fn mesh_of(&self, id: ConnectionId) -> Option<&str> {
        self.links.edges.get(&id)?.mesh.as_deref()
    }

    /// Decides on a link that a peer wants.
    pub(super) fn recv_link_request(&mut self, now: Instant, request: LinkRequest) {
        let LinkRequest { endpoint, peer, is_consumer, address, is_downlink } = request;
        let answer = match is_consumer {
            true => self.add_link_consumer(now, endpoint, peer, &address, is_downlink),
            false => self.add_link_producer(endpoint, peer, &address),
        };
        let answer = answer.unwrap_or_else(LinkAnswer::Refused);
        self.outputs.push_back(Output::AnswerLink { endpoint, answer });
    }

    fn add_link_consumer(
        &mut self,
        now: Instant,
        endpoint: EndpointId,
        peer: PeerKind,
        address: &str,
        is_downlink: bool,
    ) -> Result<LinkAnswer, Condition> {
        let id = endpoint.at.id;
        let (class, name): (_, Arc<str>) = match self.routes().parse(address) {
            _ if is_downlink && peer == PeerKind::Edge => (Class::Edge, address.into()),
            Address::Mobile(TRACKING) if peer == PeerKind::Edge => {
                self.links.edges.entry(id).or_default().tracking = Some(endpoint);
                return Ok(LinkAnswer::Control { credit: 0 });
            }
            Address::Mobile(name) => (Class::Mobile, name.into()),
            Address::Local(name) => (Class::Local, name.into()),
            Address::Everywhere(_) | Address::Router(_) | Address::Edge(_) | Address::Foreign => {
                let message = format!("{address} is an address of another router: attach to that one");
                return Err(Condition::new("qd:no-route-to-dest", message));
            }
        };
        self.check_available(class, &name)?;
        if !self.directory.has_room(class, &name) {
            let message = "as many addresses as a router may have are consumed here already";
            return Err(Condition::new("amqp:resource-limit-exceeded", message));
        }
        let mesh = self.links.edges.get(&id).and_then(|edge| edge.mesh.clone());
        let link = LinkConsumer { id: endpoint, peer, mesh, load: Load::default() };
        self.links.consumers.insert(endpoint, (class, Arc::clone(&name)));
        if let Some(mobile) = self.directory.add_link(class, &name, link) {
            self.engine.advertise(now, mobile);
        }
        self.is_stale = true;
        Ok(LinkAnswer::Traffic)
    }

    fn add_link_producer(
        &mut self,
        endpoint: EndpointId,
        peer: PeerKind,
        address: &str,
    ) -> Result<LinkAnswer, Condition> {
        match (self.routes().parse(address), peer) {
            (Address::Mobile(MESH_DISCOVERY), PeerKind::Edge) => {
                self.links.edges.entry(endpoint.at.id).or_default().mesh_discovery = Some(endpoint);
                return Ok(LinkAnswer::Control { credit: MESH_CREDIT });
            }
            (Address::Mobile(NEGOTIATION), PeerKind::Mesh) => {
                self.add_negotiation(endpoint);
                return Ok(LinkAnswer::Control { credit: MESH_CREDIT });
            }
            (Address::Mobile(name), PeerKind::Edge) => {
                let edge = self.links.edges.entry(endpoint.at.id).or_default();
                edge.tracked.insert(endpoint, (name.into(), false));
                self.is_stale = true;
            }
            (Address::Mobile(name), _) => self.check_available(Class::Mobile, name)?,
            (Address::Foreign, _) if !self.is_edge() => {
                let message = format!("{address} is in another network, which this router does not reach");
                return Err(Condition::new("qd:no-route-to-dest", message));
            }
            _ => {}
        }
        self.produce(endpoint, address);
        Ok(LinkAnswer::Traffic)
    }

    fn check_available(&self, class: Class, name: &str) -> Result<(), Condition> {
        if class == Class::Mobile && self.directory.treatment_of(name) == Treatment::Unavailable {
            let message = format!("{name} is configured to be unavailable");
            return Err(Condition::new("amqp:not-found", message));
        }
        Ok(())
    }

    /// A link is gone.
    pub(super) fn recv_link_lost(&mut self, now: Instant, endpoint: EndpointId) {
        if let Some((class, address)) = self.links.consumers.remove(&endpoint) {
            if let Some(key) = self.directory.remove_link(class, &address, endpoint) {
                self.engine.withdraw(now, &key);
            }
            self.is_stale = true;
        }
        if let Some(edge) = self.links.edges.get_mut(&endpoint.at.id) {
            edge.tracked.remove(&endpoint);
            edge.tracking = edge.tracking.filter(|tracking| *tracking != endpoint);
        }
    }

    pub(super) fn forget_edge_peer(&mut self, connection: ConnectionId) {
        self.links.edges.remove(&connection);
    }

    /// A message on a link that is for the control plane.
    pub(super) fn recv_link_message(&mut self, endpoint: EndpointId, octets: &[u8]) {
        let Some(edge) = self.links.edges.get_mut(&endpoint.at.id) else {
            self.recv_bid(endpoint, octets);
            return self.recv_uplink_message(endpoint, octets);
        };
        let Some(mesh) = mesh_id(octets).filter(|_| edge.mesh_discovery == Some(endpoint)) else { return };
        if edge.mesh.as_ref() != Some(&mesh) {
            edge.mesh = Some(Arc::clone(&mesh));
            self.directory.set_mesh(endpoint.at.id, &mesh);
            self.is_stale = true;
        }
    }

    /// Tells edge routers what has changed for the addresses they send to.
    pub(super) fn tell_edges(&mut self) {
        let routes = Arc::clone(self.routes());
        let mut told = Vec::new();
        for (connection, edge) in &mut self.links.edges {
            let Some(tracking) = edge.tracking else { continue };
            for (address, is_told) in edge.tracked.values_mut() {
                let is_reachable = routes.is_reachable_beyond(address, *connection, edge.mesh.as_deref());
                if std::mem::replace(is_told, is_reachable) != is_reachable {
                    told.push((tracking, Arc::clone(address), is_reachable));
                }
            }
        }
        for (endpoint, address, is_reachable) in told {
            let message = tracking_message(&routes.node, &address, is_reachable);
            self.outputs.push_back(Output::SendOnLink { endpoint, message });
        }
    }
}

impl Routes {
    /// Whether an address has a consumer that is not behind this connection, or in this mesh.
    fn is_reachable_beyond(&self, address: &str, connection: ConnectionId, mesh: Option<&str>) -> bool {
        let all: &Addresses = &self.addresses;
        all.get(address).is_some_and(|consumers| {
            let is_beyond =
                |link: &LinkConsumer| link.id.at.id != connection && (mesh.is_none() || link.mesh.as_deref() != mesh);
            !consumers.connectors.is_empty()
                || !consumers.subscribers.is_empty()
                || consumers.links.iter().any(is_beyond)
                || consumers.owners.iter().any(|(owner, _)| self.table.route(owner).is_some())
        })
    }
}

/// What an edge router is told of an address: a list of its key and whether it has a consumer.
fn tracking_message(node: &str, address: &str, is_reachable: bool) -> Bytes {
    let mut out = Vec::with_capacity(128);
    Annotations::fresh(0).forward(node, &mut out);
    Composer::described(&mut out, 0x70).field(&false).end();
    let list = Value::List(vec![Value::String(format!("M{address}")), Value::Bool(is_reachable)]);
    Value::Described(Value::Ulong(0x77).into(), list.into()).encode(&mut out);
    out.into()
}

/// Reads what [`tracking_message`] makes.
pub(super) fn read_tracking(octets: &[u8]) -> Option<(Arc<str>, bool)> {
    let head = message::scan(octets, true).ok()??;
    let mut body = Reader::new(octets.get(head.value_at?..)?);
    let value = Value::decode(&mut body).ok()?;
    match value.as_list()? {
        [key, Value::Bool(is_reachable), ..] => Some((key.as_text()?.strip_prefix('M')?.into(), *is_reachable)),
        _ => None,
    }
}

/// The mesh id that an edge router sends.
fn mesh_id(octets: &[u8]) -> Option<Arc<str>> {
    let head = message::scan(octets, true).ok()??;
    let map = Value::decode(&mut head.application_properties?).ok()?;
    map.entry("meshid")?.as_text().filter(|id| id.len() == MESH_ID_BYTES).map(Arc::from)
}

/// The message by which an edge router tells its mesh.
pub(super) fn mesh_message(mesh: &str) -> Bytes {
    let mut out = Vec::with_capacity(128);
    Annotations::fresh(0).forward_from_edge(Some(mesh), &mut out);
    let map = Value::Map(vec![(Value::symbol("meshid"), Value::String(mesh.to_owned()))]);
    Value::Described(Value::Ulong(0x74).into(), map.into()).encode(&mut out);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_edge_is_told_is_read_back() {
        for is_reachable in [true, false] {
            let message = tracking_message("0/r", "backend", is_reachable);
            assert_eq!(read_tracking(&message), Some(("backend".into(), is_reachable)));
        }
        assert_eq!(read_tracking(&mesh_message("0123456789abcde")), None);
    }

    #[test]
    fn a_mesh_id_has_fifteen_octets() {
        assert_eq!(mesh_id(&mesh_message("0123456789abcde")).as_deref(), Some("0123456789abcde"));
        assert_eq!(mesh_id(&mesh_message("0123456789abcd")), None);
        assert_eq!(mesh_id(&tracking_message("0/r", "x", true)), None);
    }
}
