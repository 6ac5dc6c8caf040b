//! What people are shown of the links of a shard.

use super::connection::{Class, Connection};
use super::endpoint::Service;
use super::routes::{ConnectionId, PeerKind};
use super::{Plane, Purpose};
use crate::address::Address;
use crate::amqp::{self, Role};

/// A link of a connection, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownLink {
    /// Its connection.
    pub connection: ConnectionId,
    /// Its session and its number there.
    pub place: (u16, u32),
    /// Its AMQP name.
    pub name: String,
    /// Whether the peer sends on it.
    pub is_incoming: bool,
    /// What it is for.
    pub kind: ShownKind,
    /// The address it is for: a letter for the class, and its text.
    pub address: Option<String>,
    /// Deliveries that may be under way at most.
    pub capacity: u32,
    /// Deliveries that wait for it.
    pub waiting: usize,
    /// Deliveries so far.
    pub deliveries: u32,
    /// Deliveries that may still start.
    pub credit: u32,
    /// Whether both ends are attached.
    pub is_up: bool,
}

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownKind {
    /// The router protocol.
    Control,
    /// Whole messages of a priority.
    Priority(u8),
    /// Streams.
    Stream,
    /// Deliveries of or for somebody.
    Endpoint(PeerKind),
}

impl Plane {
    /// All links of this shard.
    pub fn links(&self) -> Vec<ShownLink> {
        let links = |connection| self.links_of(connection);
        self.connections.iter().flat_map(|(_, connection)| links(connection)).collect()
    }

    fn links_of<'a>(&'a self, connection: &'a Connection) -> impl Iterator<Item = ShownLink> + 'a {
        connection.engine.links().filter_map(move |link| {
            let (kind, address, waiting) = match Class::of(link.token)? {
                Class::Control => (ShownKind::Control, None, 0),
                Class::Priority(priority) => {
                    (ShownKind::Priority(priority), None, connection.waiting_for(priority, link.role))
                }
                Class::Stream => (ShownKind::Stream, None, 0),
                Class::Endpoint(key) => {
                    let endpoint = connection.endpoints.get(key)?;
                    let Purpose::Links(peer) = connection.purpose else { return None };
                    let address = match endpoint.service {
                        Service::Temporary(name) => Some(format!("L{}", name.to_text())),
                        _ => endpoint.address.as_deref().map(|address| self.key(address)),
                    };
                    (ShownKind::Endpoint(peer), address, endpoint.line.len())
                }
            };
            let amqp::LinkStatus { name, role, place, deliveries, credit, is_attached, .. } = link;
            Some(ShownLink {
                connection: connection.id,
                place,
                name: name.to_owned(),
                is_incoming: role == Role::Receiver,
                kind,
                address,
                capacity: connection.engine.link_capacity(),
                waiting,
                deliveries,
                credit,
                is_up: is_attached,
            })
        })
    }

    fn key(&self, address: &str) -> String {
        match self.routes.parse(address) {
            Address::Local(name) => format!("L{name}"),
            Address::Everywhere(name) => format!("T{name}"),
            Address::Router(id) => format!("R{id}"),
            Address::Edge(id) => format!("H{id}"),
            Address::Foreign => format!("N{address}"),
            Address::Mobile(key) => format!("M{key}"),
        }
    }
}
