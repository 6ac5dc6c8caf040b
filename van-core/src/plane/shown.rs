//! What people are shown of the links of a shard.

use std::collections::HashMap;
use std::time::Duration;

use super::attachment::{Attachment, Inlet, Outlet};
use super::connection::{Class, Connection};
use super::endpoint::Service;
use super::routes::{ConnectionId, ConnectionRef, EndpointId, PeerKind};
use super::tally::{STUCK, Tally};
use super::{Plane, Purpose};
use crate::address::Address;
use crate::amqp::{self, LinkId, Role};
use crate::slab::Key;

/// A link of a connection, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownLink {
    /// Its connection.
    pub connection: ConnectionId,
    /// Its session and its number there.
    pub place: (u16, u32),
    /// What the control plane calls it, if it has an address.
    pub endpoint: Option<EndpointId>,
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
    pub deliveries: u64,
    /// What has become of those that are over.
    pub ends: Tally,
    /// Deliveries that have no outcome yet.
    pub unsettled: u64,
    /// Deliveries, streams apart, that wait or have no outcome for more than 10 seconds.
    pub stuck: u64,
    /// Deliveries settled per second of late.
    pub settle_rate: u32,
    /// How long we, as sender, have had no credit.
    pub without_credit: Option<Duration>,
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
        let open = self.open_deliveries();
        let links = |(key, connection)| self.links_of(key, connection, &open);
        self.connections.iter().flat_map(links).collect()
    }

    /// How long ago a delivery began on each connection on which one ever has.
    pub fn last_deliveries(&self) -> Vec<(ConnectionId, Duration)> {
        let last = |connection: &Connection| Some((connection.id, self.now.saturating_sub(connection.last_delivery?)));
        self.connections.iter().filter_map(|(_, connection)| last(connection)).collect()
    }

    /// Deliveries that are not over, by link: how many have begun there and no outcome, and how many are stuck.
    fn open_deliveries(&self) -> HashMap<(Key, LinkId), (u64, u64)> {
        let mut open = HashMap::<_, (u64, u64)>::new();
        for (_, attachment) in self.attachments.iter() {
            let is_stuck = attachment.took(self.now).is_some_and(|took| took > STUCK);
            for (at, is_begun) in self.links_used(attachment).into_iter().flatten() {
                let counts = open.entry(at).or_default();
                counts.0 += u64::from(is_begun);
                counts.1 += u64::from(is_stuck);
            }
        }
        open
    }

    /// The links where a delivery is not over, and whether it has begun there.
    fn links_used(&self, attachment: &Attachment) -> [Option<((Key, LinkId), bool)>; 2] {
        let inlet = match attachment.inlet {
            Inlet::Delivery { connection, link, .. } if !attachment.is_inlet_settled => {
                Some(((connection, link), true))
            }
            _ => None,
        };
        let outlet = match attachment.outlet {
            Outlet::Link { connection, link, delivery, .. } if !attachment.is_outlet_settled => {
                Some(((connection, link), delivery.is_some()))
            }
            Outlet::Queued { connection, lane } => {
                let link = self.connections.get(connection).and_then(|at| at.link_of(lane));
                link.map(|link| ((connection, link), false))
            }
            _ => None,
        };
        [inlet, outlet]
    }

    fn links_of<'a>(
        &'a self,
        key: Key,
        connection: &'a Connection,
        open: &'a HashMap<(Key, LinkId), (u64, u64)>,
    ) -> impl Iterator<Item = ShownLink> + 'a {
        connection.engine.links().filter_map(move |link| {
            let tally = connection.tally(link.id);
            let (unsettled, stuck) = open.get(&(key, link.id)).copied().unwrap_or_default();
            let (kind, address, waiting) = match Class::of(link.token)? {
                Class::Control => {
                    let hello = (link.role == Role::Sender).then(|| "Lqdhello".to_owned());
                    (ShownKind::Control, hello, 0)
                }
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
            let amqp::LinkStatus { name, role, place, credit, is_attached, token, .. } = link;
            let at = ConnectionRef { id: connection.id, shard: self.shard };
            let endpoint = match Class::of(token)? {
                Class::Endpoint(key) => Some(EndpointId { at, key }),
                _ => None,
            };
            Some(ShownLink {
                endpoint,
                connection: connection.id,
                place,
                name: name.to_owned(),
                is_incoming: role == Role::Receiver,
                kind,
                address,
                capacity: connection.engine.link_capacity(),
                waiting,
                deliveries: tally.deliveries,
                ends: tally.ends(),
                unsettled,
                stuck,
                settle_rate: tally.settle_rate(self.now),
                without_credit: tally.without_credit().map(|since| self.now.saturating_sub(since)),
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
