//! What management is shown of connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use van_core::amqp::Value;
use van_core::management::rows::{ConnectionRow, LinkRow, TcpConnectionRow, TlsRow};
use van_core::plane::{ConnectionId, EndpointId, PeerKind, Purpose, ShownKind, ShownLink};
use van_core::router::{AutoLinkStatus, Candidate, Origin};
use van_routing::{RouterId, Treatment};
use van_tls::Suite;

use super::Task;
use crate::amqp::Opened;
use crate::shard::{Direction, ShownLinks, TcpConnection};

/// The priority of the router protocol, and of what says nothing of it. Source: skupper-router.
const CONTROL_PRIORITY: u8 = 9;
const PRIORITY: u8 = 4;

/// What there is at a moment, besides entities.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// All connections.
    pub(crate) connections: Vec<ConnectionRow>,
    /// All AMQP links, if they were asked for.
    pub(crate) links: Vec<LinkRow>,
    /// All streams of clients and workloads, if they were asked for.
    pub(crate) streams: Vec<TcpConnectionRow>,
    /// How links that are attached by themselves are doing.
    pub(crate) auto_links: BTreeMap<String, (AutoLinkStatus, Option<EndpointId>)>,
    /// The links of those that are there, as [`LinkRow::id`] has them.
    pub(crate) link_ids: BTreeMap<EndpointId, String>,
    /// Connections so far.
    pub(crate) admitted: u64,
    /// Addresses that somebody here wants to know the reachability of, and how messages for them would be spread.
    pub(crate) watched: BTreeMap<Arc<str>, Treatment>,
    /// When each other router started, as it says.
    pub(crate) instances: BTreeMap<RouterId, u64>,
}

impl Snapshot {
    /// Adds the links, and what they say of their connections.
    pub(crate) fn add_links(&mut self, shown: ShownLinks) {
        let ShownLinks { mut links, last_deliveries } = shown;
        links.sort_by_key(|link| (link.connection, link.place));
        self.link_ids = links.iter().filter_map(|link| Some((link.endpoint?, link_id(link)))).collect();
        self.links = links.into_iter().map(link_row).collect();
        let last_deliveries: BTreeMap<_, _> = last_deliveries.into_iter().collect();
        for connection in &mut self.connections {
            connection.last_delivery = last_deliveries.get(&ConnectionId(connection.id)).copied();
        }
    }

    /// Adds the streams, which are connections too.
    pub(crate) fn add_streams(&mut self, mut streams: Vec<TcpConnection>) {
        streams.sort_by_key(|stream| stream.id);
        self.connections.extend(streams.iter().map(connection_row));
        self.streams = streams.into_iter().map(stream_row).collect();
    }
}

/// What is known of a connection from its beginning on.
pub(super) struct Shown {
    row: ConnectionRow,
    since: Instant,
}

impl Shown {
    /// Of a connection whose opens were exchanged.
    pub(super) fn new(candidate: &Candidate, opened: &Opened) -> Self {
        let announcement = &candidate.announcement;
        let (purpose, correlator, ordinal) = match &candidate.origin {
            Origin::Dialled(dialled) => {
                (dialled.purpose, Some(dialled.correlator.clone()), dialled.ordinal.unwrap_or(0))
            }
            Origin::Accepted => (announcement.purpose, announcement.correlator.clone(), announcement.ordinal),
        };
        let subject = || opened.peer.certificate().map(|certificate| certificate.subject.to_string());
        let is_incoming = matches!(candidate.origin, Origin::Accepted);
        // A peer may leave SASL out where nobody must authenticate.
        let (mechanism, user) = match (&opened.login, is_incoming) {
            (Some((mechanism, user)), _) => (Some(mechanism.name()), Some(user.clone())),
            (None, true) => (None, None),
            (None, false) => match subject() {
                Some(subject) => (Some("EXTERNAL"), Some(subject)),
                None => (Some("ANONYMOUS"), Some("anonymous".to_owned())),
            },
        };
        let properties = opened.open.properties.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
        let row = ConnectionRow {
            host: opened.socket.peer_addr().map(|address| address.to_string()).unwrap_or_default(),
            role: match purpose {
                _ if candidate.program_of.is_some() => "route-container",
                Purpose::Control => "inter-router",
                Purpose::Data => "inter-router-data",
                Purpose::Links(PeerKind::Client) => "normal",
                Purpose::Links(PeerKind::Edge | PeerKind::Interior) => "edge",
                Purpose::Links(PeerKind::Mesh) => "inter-edge",
            },
            protocol: "amqp",
            is_incoming,
            container: Some(announcement.container.clone()),
            sasl: mechanism,
            is_authenticated: mechanism.is_some(),
            user,
            tls: opened.suite.map(|suite| tls(suite, opened.ordinal.unwrap_or(0))),
            properties,
            is_opened: true,
            is_active: true,
            group: correlator.map(|correlator| (correlator, ordinal)),
            ..ConnectionRow::default()
        };
        Self { row, since: Instant::now() }
    }
}

fn tls(suite: Suite, ordinal: u64) -> TlsRow {
    let (cipher, strength) = match suite {
        Suite::Aes128Gcm => ("TLS_AES_128_GCM_SHA256", 128),
        Suite::Aes256Gcm => ("TLS_AES_256_GCM_SHA384", 256),
        Suite::ChaCha20Poly1305 => ("TLS_CHACHA20_POLY1305_SHA256", 256),
    };
    TlsRow { protocol: "TLSv1.3".into(), cipher: cipher.into(), strength, ordinal }
}

fn link_id(ShownLink { connection, place: (channel, number), .. }: &ShownLink) -> String {
    format!("{}.{channel}.{number}", connection.0)
}

/// A link as management shows it.
fn link_row(link: ShownLink) -> LinkRow {
    let (id, connection) = (link_id(&link), link.connection);
    let (kind, priority) = match link.kind {
        ShownKind::Control => ("router-control", CONTROL_PRIORITY),
        ShownKind::Priority(priority) => ("inter-router", priority),
        ShownKind::Stream => ("endpoint", PRIORITY),
        ShownKind::Endpoint(PeerKind::Mesh) => ("inter-edge", PRIORITY),
        ShownKind::Endpoint(_) => ("endpoint", PRIORITY),
    };
    LinkRow {
        id,
        name: link.name,
        kind,
        is_incoming: link.is_incoming,
        address: link.address,
        capacity: link.capacity,
        connection: connection.0,
        is_up: link.is_up,
        priority,
        undelivered: link.waiting as u64,
        deliveries: link.deliveries,
        ends: link.ends,
        unsettled: link.unsettled,
        stuck: link.stuck,
        settle_rate: link.settle_rate,
        without_credit: link.without_credit,
        credit: link.credit,
    }
}

/// A stream as management shows it among others of its kind.
fn stream_row(stream: TcpConnection) -> TcpConnectionRow {
    TcpConnectionRow {
        id: stream.id,
        host: stream.peer.map(|peer| peer.to_string()).unwrap_or_default(),
        address: stream.key,
        is_incoming: stream.direction == Direction::In,
        octets_in: stream.octets_in,
        octets_out: stream.octets_out,
        uptime: stream.uptime,
        last_in: stream.last_in,
        last_out: stream.last_out,
    }
}

/// A stream as management shows it among connections of AMQP.
fn connection_row(stream: &TcpConnection) -> ConnectionRow {
    ConnectionRow {
        id: stream.id,
        host: stream.peer.map(|peer| peer.to_string()).unwrap_or_default(),
        local_socket: stream.local.map(|local| local.to_string()),
        role: "normal",
        protocol: "tcp",
        is_incoming: stream.direction == Direction::In,
        container: Some("TcpAdaptor".to_owned()),
        sasl: Some(""),
        user: Some(String::new()),
        is_encrypted: stream.is_encrypted,
        properties: vec![("qd.adaptor".to_owned(), Value::String("tcp".to_owned()))],
        is_opened: true,
        is_active: true,
        uptime: stream.uptime,
        last_delivery: Some(stream.uptime),
        ..ConnectionRow::default()
    }
}

impl Task {
    pub(super) fn snapshot(&self) -> Snapshot {
        let row = |(id, connection): (&ConnectionId, &super::InUse)| {
            let Shown { row, since } = &connection.shown;
            let is_uplink = connection.purpose == Purpose::Links(PeerKind::Interior);
            let is_active = !is_uplink || self.uplink == Some(*id);
            let (mesh, is_traced) = (self.core.mesh_of(*id).map(str::to_owned), connection.is_traced);
            ConnectionRow { id: id.0, uptime: since.elapsed(), mesh, is_active, is_traced, ..row.clone() }
        };
        let mut connections: Vec<_> = self.connections.iter().map(row).collect();
        connections.sort_by_key(|row| row.id);
        let auto_links = self.running.auto_links.keys();
        let auto_links = auto_links.filter_map(|name| {
            let status = self.core.auto_link_status(name)?.clone();
            Some((name.clone(), (status, self.core.auto_link_endpoint(name))))
        });
        Snapshot {
            connections,
            auto_links: auto_links.collect(),
            instances: self.core.instances().collect(),
            admitted: self.core.admitted(),
            watched: self.core.watched().map(|(address, treatment)| (Arc::clone(address), treatment)).collect(),
            ..Snapshot::default()
        }
    }
}
