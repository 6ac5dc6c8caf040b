//! What only a running router knows, as entities: connections, streams, AMQP links, addresses.
//!
//! Whoever knows these things fills in a row; how it looks to clients is decided here.

use std::time::Duration;

use super::Attributes;
use super::schema::operational::integer;
use crate::amqp::Value;
use crate::plane::{Passed, Tally};

/// A connection of another router, of a client, or of a stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConnectionRow {
    /// Its number, which no other ever has.
    pub id: u64,
    /// The peer's address and port.
    pub host: String,
    /// Our address and port, of a stream's connection.
    pub local_socket: Option<String>,
    /// `normal`, `inter-router`, `inter-router-data`, `edge`, `inter-edge`, `route-container`.
    pub role: &'static str,
    /// `amqp` or `tcp`.
    pub protocol: &'static str,
    /// Whether the peer dialled.
    pub is_incoming: bool,
    /// What the peer calls itself.
    pub container: Option<String>,
    /// The SASL mechanism that was used.
    pub sasl: Option<&'static str>,
    /// Whether the peer has said, and proved as far as the mechanism does, who it is.
    pub is_authenticated: bool,
    /// Who the peer is.
    pub user: Option<String>,
    /// Whether it is encrypted, though not known how.
    pub is_encrypted: bool,
    /// How it is encrypted, if it is.
    pub tls: Option<TlsRow>,
    /// What the peer said in its open, keys as text.
    pub properties: Vec<(String, Value)>,
    /// Whether the opens were exchanged.
    pub is_opened: bool,
    /// Whether an edge's uplink is the one in use. All others are.
    pub is_active: bool,
    /// Whether it is being closed.
    pub is_closing: bool,
    /// How long it has been there.
    pub uptime: Duration,
    /// How long ago a delivery went over it, if one ever has.
    pub last_delivery: Option<Duration>,
    /// The edge mesh of the peer.
    pub mesh: Option<String>,
    /// The link it belongs to: correlator and ordinal.
    pub group: Option<(String, u64)>,
    /// Whether its frames are logged.
    pub is_traced: bool,
}

/// How a connection is encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsRow {
    /// `TLSv1.3`.
    pub protocol: String,
    /// The suite.
    pub cipher: String,
    /// Bits of its key.
    pub strength: u32,
    /// The generation of our certificate.
    pub ordinal: u64,
}

/// An AMQP link.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LinkRow {
    /// Its connection, its session and its number there: of no other link at the same time.
    pub id: String,
    /// Its AMQP name.
    pub name: String,
    /// `endpoint`, `router-control`, `inter-router`, `edge-downlink`, `inter-edge`.
    pub kind: &'static str,
    /// Whether the peer sends on it.
    pub is_incoming: bool,
    /// The key of the address it is for.
    pub address: Option<String>,
    /// The credit it gives, or gave.
    pub capacity: u32,
    /// The number of its connection.
    pub connection: u64,
    /// Whether both ends are attached.
    pub is_up: bool,
    /// Its priority.
    pub priority: u8,
    /// Deliveries that wait for it.
    pub undelivered: u64,
    /// Deliveries on it that have no outcome yet.
    pub unsettled: u64,
    /// Deliveries on it so far.
    pub deliveries: u64,
    /// What has become of those that are over.
    pub ends: Tally,
    /// Deliveries that take far too long.
    pub stuck: u64,
    /// Deliveries settled per second of late.
    pub settle_rate: u32,
    /// Credit left.
    pub credit: u32,
    /// How long it has had none.
    pub without_credit: Option<Duration>,
}

/// An address: where messages go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressRow {
    /// Its key: a letter for its class, and its text.
    pub key: String,
    /// `flood`, `multicast`, `closest`, `balanced`, `unavailable`.
    pub distribution: &'static str,
    /// Consumers inside this process.
    pub in_process: u32,
    /// AMQP links and connectors of this router that consume it.
    pub subscribers: u32,
    /// Other routers with consumers.
    pub remotes: Vec<String>,
    /// Deliveries, by the way they took.
    pub deliveries: Passed,
    /// Its priority, if one is configured.
    pub priority: Option<u8>,
    /// Whether somebody here is told when it becomes reachable.
    pub is_watched: bool,
}

/// A stream's end: the TCP connection of a client, or to a workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TcpConnectionRow {
    /// Its number, which no other ever has.
    pub id: u64,
    /// The routing key.
    pub address: String,
    /// The other end's address and port.
    pub host: String,
    /// Whether a client dialled.
    pub is_incoming: bool,
    /// Octets read from it.
    pub octets_in: u64,
    /// Octets written to it.
    pub octets_out: u64,
    /// How long it has been there.
    pub uptime: Duration,
    /// How long ago octets were read last, if there were any.
    pub last_in: Option<Duration>,
    /// How long ago octets were written last, if there were any.
    pub last_out: Option<Duration>,
}

impl TcpConnectionRow {
    /// The entity.
    pub fn attributes(&self) -> Attributes {
        let name = text(&format!("tcpConnection/{}", self.id));
        let whole = |number: u64| integer(number.try_into().unwrap_or(i64::MAX));
        let passed = |time: Option<Duration>| time.map_or(Value::Null, |time| whole(time.as_secs()));
        Attributes::from([
            ("name", name.clone()),
            ("identity", name),
            ("address", text(&self.address)),
            ("host", text(&self.host)),
            ("direction", direction(self.is_incoming)),
            ("bytesIn", whole(self.octets_in)),
            ("bytesOut", whole(self.octets_out)),
            ("uptimeSeconds", whole(self.uptime.as_secs())),
            ("lastInSeconds", passed(self.last_in)),
            ("lastOutSeconds", passed(self.last_out)),
        ])
    }
}

impl ConnectionRow {
    /// The entity.
    pub fn attributes(&self) -> Attributes {
        let properties = self.properties.iter().map(|(key, value)| (text(key), value.clone())).collect();
        let tls = self.tls.as_ref();
        Attributes::from([
            ("name", text(&format!("connection/{}", self.host))),
            ("identity", text(&self.id.to_string())),
            ("host", text(&self.host)),
            ("localSocket", optional(self.local_socket.as_deref())),
            ("role", text(self.role)),
            ("protocol", text(self.protocol)),
            ("dir", direction(self.is_incoming)),
            ("container", optional(self.container.as_deref())),
            ("sasl", optional(self.sasl)),
            ("isAuthenticated", Value::Bool(self.is_authenticated)),
            ("user", optional(self.user.as_deref())),
            ("isEncrypted", Value::Bool(self.is_encrypted || tls.is_some())),
            ("sslProto", optional(tls.map(|tls| tls.protocol.as_str()))),
            ("sslCipher", optional(tls.map(|tls| tls.cipher.as_str()))),
            ("properties", Value::Map(properties)),
            ("sslSsf", Value::Long(tls.map_or(0, |tls| tls.strength.into()))),
            ("ssl", Value::Bool(self.is_encrypted || tls.is_some())),
            ("opened", Value::Bool(self.is_opened)),
            ("active", Value::Bool(self.is_active)),
            ("adminStatus", text(if self.is_closing { "deleted" } else { "enabled" })),
            ("operStatus", text(if self.is_closing { "closing" } else { "up" })),
            ("uptimeSeconds", seconds(self.uptime)),
            ("lastDlvSeconds", self.last_delivery.map_or(Value::Null, seconds)),
            ("enableProtocolTrace", Value::Bool(self.is_traced)),
            ("meshId", optional(self.mesh.as_deref())),
            ("tlsOrdinal", tls.map_or(Value::Null, |tls| Value::Ulong(tls.ordinal))),
            ("groupCorrelationId", optional(self.group.as_ref().map(|(correlator, _)| correlator.as_str()))),
            ("groupOrdinal", self.group.as_ref().map_or(Value::Null, |(_, ordinal)| Value::Ulong(*ordinal))),
        ])
    }
}

impl LinkRow {
    /// The entity.
    pub fn attributes(&self) -> Attributes {
        Attributes::from([
            ("name", text(&self.name)),
            ("identity", text(&self.id)),
            ("linkName", text(&self.name)),
            ("linkType", text(self.kind)),
            ("linkDir", direction(self.is_incoming)),
            ("owningAddr", optional(self.address.as_deref())),
            ("capacity", Value::Uint(self.capacity)),
            ("undeliveredCount", Value::Ulong(self.undelivered)),
            ("unsettledCount", Value::Ulong(self.unsettled)),
            ("deliveryCount", Value::Ulong(self.deliveries)),
            ("connectionId", text(&self.connection.to_string())),
            ("operStatus", text(if self.is_up { "up" } else { "down" })),
            ("presettledCount", Value::Ulong(self.ends.presettled)),
            ("droppedPresettledCount", Value::Ulong(self.ends.dropped_presettled)),
            ("acceptedCount", Value::Ulong(self.ends.accepted)),
            ("rejectedCount", Value::Ulong(self.ends.rejected)),
            ("releasedCount", Value::Ulong(self.ends.released)),
            ("modifiedCount", Value::Ulong(self.ends.modified)),
            ("deliveriesDelayed1Sec", Value::Ulong(self.ends.delayed)),
            ("deliveriesDelayed10Sec", Value::Ulong(self.ends.much_delayed)),
            ("deliveriesStuck", Value::Ulong(self.stuck)),
            ("openMovedStreams", Value::Ulong(0)),
            ("priority", Value::Uint(self.priority.into())),
            ("settleRate", Value::Uint(self.settle_rate)),
            ("creditAvailable", Value::Uint(self.credit)),
            ("zeroCreditSeconds", self.without_credit.map_or(Value::Uint(0), seconds)),
        ])
    }
}

impl AddressRow {
    /// The entity.
    pub fn attributes(&self) -> Attributes {
        let deliveries = &self.deliveries;
        Attributes::from([
            ("name", text(&self.key)),
            ("identity", text(&self.key)),
            ("key", text(&self.key)),
            ("distribution", text(self.distribution)),
            ("inProcess", Value::Uint(self.in_process)),
            ("subscriberCount", Value::Uint(self.subscribers)),
            ("remoteCount", Value::Uint(self.remotes.len() as u32)),
            ("remoteHostRouters", Value::List(self.remotes.iter().map(|id| text(id)).collect())),
            ("deliveriesIngress", Value::Ulong(deliveries.ingress)),
            ("deliveriesEgress", Value::Ulong(deliveries.egress)),
            ("deliveriesTransit", Value::Ulong(deliveries.transit)),
            ("deliveriesToContainer", Value::Ulong(deliveries.to_container)),
            ("deliveriesFromContainer", Value::Ulong(deliveries.from_container)),
            ("deliveriesEgressRouteContainer", Value::Ulong(deliveries.egress_route_container)),
            ("deliveriesIngressRouteContainer", Value::Ulong(deliveries.ingress_route_container)),
            ("deliveriesEgressInterNetwork", Value::Ulong(0)),
            ("deliveriesIngressInterNetwork", Value::Ulong(0)),
            ("trackedDeliveries", Value::Long(0)),
            ("priority", Value::Int(self.priority.map_or(-1, i32::from))),
            ("deliveriesRedirectedToFallback", Value::Ulong(0)),
            ("watch", Value::Bool(self.is_watched)),
        ])
    }
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn optional(value: Option<&str>) -> Value {
    value.map_or(Value::Null, text)
}

fn direction(is_incoming: bool) -> Value {
    text(if is_incoming { "in" } else { "out" })
}

fn seconds(time: Duration) -> Value {
    Value::Uint(time.as_secs().try_into().unwrap_or(u32::MAX))
}
