//! The configuration file, as skupper-router reads it: entities and their attributes.
//!
//! Everything is checked before anything starts, and all faults are told at once, each with the entity it is in.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use van_routing::{Cost, RouterId, Timing};

use super::Attributes;
use crate::amqp::{Secret, Symbol, Value};
use crate::observe::Protocol;
use crate::router::{Distribution, Place};

mod reading;
mod syntax;

/// Data connections that a link may have.
pub const MAX_DATA_CONNECTIONS: u16 = 16;

/// What a router is to be and do.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// Its id, unique in the network.
    pub id: RouterId,
    /// What part it plays in the network.
    pub mode: Mode,
    /// The times of the routing protocol.
    pub timing: Timing,
    /// Threads of the data plane; one per core if unset.
    pub shards: Option<u16>,
    /// Data connections of each link we dial; one per shard if unset.
    pub data_connections: Option<u16>,
    /// How messages are spread over consumers.
    pub distribution: Distribution,
    /// Whether the streams of a tcpListener or tcpConnector end with it when it is deleted.
    pub drops_tcp_connections: bool,
    /// What is said of this router to programs that look at it, and to nobody else: any text.
    pub metadata: Option<String>,
    /// The network that it is a part of.
    pub network: Network,
    /// The site that it is a part of.
    pub site: Option<Site>,
    /// Where certificates are, by name.
    pub tls_profiles: BTreeMap<String, TlsProfile>,
    /// Proxies that connectors go through.
    pub proxy_profiles: Vec<ProxyProfile>,
    /// Connections to dial.
    pub connectors: Vec<Connector>,
    /// Where AMQP is accepted, and where HTTP is served.
    pub listeners: Vec<Listener>,
    /// Where clients of routing keys come in.
    pub tcp_listeners: Vec<TcpListener>,
    /// Routing keys of the tcpListeners that have several.
    pub listener_addresses: Vec<ListenerAddress>,
    /// Workloads that consume routing keys.
    pub tcp_connectors: Vec<TcpConnector>,
    /// AMQP links that the router makes itself.
    pub auto_links: Vec<AutoLink>,
    /// What is logged, in the order of the file.
    pub logs: Vec<Log>,
    /// Every entity as it was given.
    pub given: Vec<Given>,
    /// What of the file was understood and is not in this version, one sentence each.
    pub warnings: Vec<String>,
}

/// An entity as it was given, for management to show.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// Its type's name in the configuration file.
    pub type_name: &'static str,
    /// Its name.
    pub name: String,
    /// What was said of it.
    pub attributes: Attributes,
}

/// What part a router plays in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It knows no other router.
    #[default]
    Standalone,
    /// It takes part in the routing protocol.
    Interior,
    /// It leaves the routing to the interior router that it dials.
    Edge,
}

/// What a connection is for. Both ends are told by their own configuration; nothing on the wire says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// AMQP clients.
    #[default]
    Normal,
    /// A link between interior routers.
    InterRouter,
    /// A program whose nodes the router attaches to by itself: see [`AutoLink`].
    RouteContainer,
    /// From an edge router to an interior one.
    Edge,
    /// Between edge routers.
    InterEdge,
    /// Between networks. It is read and refused.
    InterNetwork,
}

/// The network of a router.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Network {
    /// Its id, among networks that are connected.
    pub network_id: Option<String>,
    /// The tenant of a backbone that several share. The routing keys of its TCP services begin with it.
    pub tenant_id: Option<String>,
}

/// The site of a router, as VanFlow is to tell it where no controller does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub location: Option<String>,
    /// Who runs the machines below.
    pub provider: Option<String>,
    /// The version of its control plane.
    pub version: Option<String>,
    /// Kubernetes, linux and others.
    pub platform: Option<String>,
    /// Its namespace there.
    pub namespace: Option<String>,
}

/// Certificates: files, and how they are used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsProfile {
    /// The CA that signs peers.
    pub ca_cert_file: Option<String>,
    /// Our certificate.
    pub cert_file: Option<String>,
    /// Its key.
    pub private_key_file: Option<String>,
    /// What the key is encrypted with.
    pub password: Option<PasswordSource>,
    /// Cipher suites, in OpenSSL's syntax.
    pub ciphers: Option<String>,
    /// Versions of TLS: `TLSv1.2`, `TLSv1.3`, with blanks between.
    pub protocols: Option<String>,
    /// Which parts of a peer's certificate make its user name, one letter each.
    pub uid_format: Option<String>,
    /// A file of names for such user names.
    pub uid_name_mapping_file: Option<String>,
    /// The generation of these.
    pub ordinal: u64,
    /// Connections that were made with an older generation are closed.
    pub oldest_valid_ordinal: u64,
}

/// Where a password is, in the words of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// `env:NAME`: in a variable of the environment.
    Variable(String),
    /// `file:PATH`: the first line of a file.
    File(String),
    /// `pass:TEXT`, or the text alone.
    Text(Secret),
}

/// A proxy that connections go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyProfile {
    /// Its name.
    pub name: String,
    /// What it speaks.
    pub scheme: ProxyScheme,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who we are there.
    pub username: Option<String>,
    /// Proof of it.
    pub password: Option<PasswordSource>,
}

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyScheme {
    /// HTTP, the method CONNECT.
    #[default]
    Http,
    /// SOCKS version 5. (skupper-router has no such.)
    Socks5,
}

/// How AMQP is spoken at a connector or listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Amqp {
    /// What the connections are for.
    pub role: Role,
    /// The cost of a link; the higher of both ends counts.
    pub cost: Cost,
    /// The name of a TLS profile; without one it is spoken in clear.
    pub tls_profile: Option<String>,
    /// SASL mechanisms, in upper case; if unset, what fits the role.
    pub sasl_mechanisms: Option<Vec<String>>,
    /// Largest frame accepted, in octets.
    pub max_frame_bytes: Option<u32>,
    /// Sessions that the peer may have at a time.
    pub max_sessions: Option<u16>,
    /// Frames of transfers that a session may send ahead.
    pub max_session_frames: Option<u32>,
    /// Silence after which a peer is lost; zero waits for ever.
    pub idle_timeout: Duration,
    /// Deliveries that a sender may have under way on one AMQP link.
    pub link_capacity: Option<u32>,
    /// Where router annotations of clients' messages are removed.
    pub strip: Strip,
    /// Where else a peer may connect: told to it by a listener, tried in turn by a connector.
    pub failover: Vec<Place>,
    /// What our open says besides.
    pub open_properties: Vec<(Symbol, Value)>,
}

/// Where router annotations are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strip {
    /// From messages that come from clients.
    pub incoming: bool,
    /// From messages that go to clients.
    pub outgoing: bool,
}

/// A connection to dial.
#[derive(Debug, Clone, PartialEq)]
pub struct Connector {
    /// Its name.
    pub name: String,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The only kind of address to use, if not any.
    pub family: Option<Family>,
    /// What is spoken.
    pub amqp: Amqp,
    /// Whether the peer's certificate must name the host.
    pub verifies_host: bool,
    /// Who we are, for SASL PLAIN.
    pub sasl_username: Option<String>,
    /// Proof of it.
    pub sasl_password: Option<PasswordSource>,
    /// The name of the proxy to go through.
    pub proxy_profile: Option<String>,
    /// Data connections, in place of the router's.
    pub data_connections: Option<u16>,
}

/// Where connections are accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// The host; empty for all.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The only kind of address to use, if not any.
    pub family: Option<Family>,
    /// What is served.
    pub service: Service,
}

/// A kind of internet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What a listener serves.
#[derive(Debug, Clone, PartialEq)]
pub enum Service {
    /// AMQP.
    Amqp(Access),
    /// HTTP.
    Http {
        /// `/healthz` is there.
        has_health: bool,
        /// `/metrics` is there.
        has_metrics: bool,
        /// AMQP over WebSocket is there.
        has_websockets: bool,
        /// A folder of files to serve.
        root_dir: Option<String>,
        /// TLS below HTTP, and what is asked of AMQP clients that come over WebSocket.
        access: Access,
    },
}

/// Who may come to a listener, and how.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Access {
    /// What is spoken.
    pub amqp: Amqp,
    /// Whether peers must authenticate.
    pub requires_authentication: bool,
    /// Whether peers must use TLS.
    pub requires_tls: bool,
    /// A file of users and hashes of their passwords, for SASL PLAIN. (skupper-router has no such.)
    pub users_file: Option<String>,
    /// How long a peer may take from its first octet to its open.
    pub handshake_timeout: Option<Duration>,
}

/// Where clients of a routing key come in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TcpListener {
    /// Its name.
    pub name: String,
    /// The host; empty for all.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The routing key; empty if there is a strategy.
    pub address: String,
    /// How one of several routing keys is chosen for a client; they are [`ListenerAddress`]es.
    pub strategy: Option<Strategy>,
    /// Connections that may wait to be accepted.
    pub backlog: Option<u32>,
    /// The name of a TLS profile; without one clients come in clear.
    pub tls_profile: Option<String>,
    /// Whether clients must show a certificate.
    pub requires_authentication: bool,
    /// What is looked for in the octets.
    pub observer: Observer,
    /// The site that it is told to be of.
    pub site_id: Option<String>,
}

/// How one of several routing keys is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// The one of the highest value that can be reached.
    Priority,
    /// At random, in proportion to the values.
    Weighted,
}

/// What is looked for in the octets of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Observer {
    /// Nothing.
    None,
    /// HTTP of the version that the first octets show, if they show one.
    #[default]
    Auto,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Observer {
    /// The protocol to look for, if any.
    pub fn protocol(self) -> Option<Protocol> {
        match self {
            Self::None => None,
            Self::Auto => Some(Protocol::Auto),
            Self::Http1 => Some(Protocol::Http1),
            Self::Http2 => Some(Protocol::Http2),
        }
    }
}

/// A routing key of a tcpListener that has several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListenerAddress {
    /// Its name.
    pub name: String,
    /// The routing key.
    pub address: String,
    /// Its priority or weight.
    pub value: u32,
    /// The name of the tcpListener.
    pub listener: String,
}

/// A workload that consumes a routing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpConnector {
    /// Its name.
    pub name: String,
    /// The workload's host.
    pub host: String,
    /// The workload's port.
    pub port: u16,
    /// The routing key.
    pub address: String,
    /// The name of a TLS profile; without one the workload is spoken to in clear.
    pub tls_profile: Option<String>,
    /// Whether the workload's certificate must name the host.
    pub verifies_host: bool,
    /// The site that it is told to be of.
    pub site_id: Option<String>,
    /// The VanFlow identity of the workload's process.
    pub process_id: Option<String>,
}

/// An AMQP link that the router makes itself, to a node of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoLink {
    /// Its name.
    pub name: String,
    /// The address here; absent for messages that say themselves where they go.
    pub address: Option<String>,
    /// Which way messages go.
    pub direction: Direction,
    /// Which connection: by the peer's container id …
    pub container_id: Option<String>,
    /// … or by the name of a connector or listener.
    pub connection: Option<String>,
    /// The address there, if it is another.
    pub external_address: Option<String>,
}

/// Which way messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Into the router.
    In,
    /// Out of it.
    Out,
}

/// What of one module is logged, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The module; `DEFAULT` for all that have no entry of their own.
    pub module: String,
    /// Levels: `info+`, `error`, `trace,debug`, `none`; `default` for those of `DEFAULT`.
    pub enable: String,
    /// A file, `stderr` or `stdout`.
    pub output_file: Option<String>,
    /// Whether a line begins with the time.
    pub includes_timestamp: Option<bool>,
    /// Whether a line names the place in the source.
    pub includes_source: Option<bool>,
}

/// Why a configuration cannot be used: all that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(pub Vec<Fault>);

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: `tcpListener "web"`, or empty for the file as a whole.
    pub place: String,
    /// What, and what to do.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if n > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => f.write_str(&self.message),
            place => write!(f, "{place}: {}", self.message),
        }
    }
}

impl Configuration {
    /// Reads a configuration. `variable` gives the values of `${…}`, mostly from the environment.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        reading::parse(text, &variable)
    }
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Normal, Self::InterRouter, Self::RouteContainer, Self::Edge, Self::InterEdge, Self::InterNetwork];

    /// As in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::InterRouter => "inter-router",
            Self::RouteContainer => "route-container",
            Self::Edge => "edge",
            Self::InterEdge => "inter-edge",
            Self::InterNetwork => "inter-network",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Mode {
    /// As in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Interior => "interior",
            Self::Edge => "edge",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Amqp {
    /// Silence after which a peer is lost (skupper-router, `idleTimeoutSeconds`).
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(16);

    /// What connections of a role are without any setting.
    pub fn new(role: Role) -> Self {
        Self { role, ..Self::default() }
    }
}

impl Default for Amqp {
    fn default() -> Self {
        Self {
            role: Role::default(),
            cost: Cost::ONE,
            tls_profile: None,
            sasl_mechanisms: None,
            max_frame_bytes: None,
            max_sessions: None,
            max_session_frames: None,
            idle_timeout: Self::IDLE_TIMEOUT,
            link_capacity: None,
            strip: Strip { incoming: true, outgoing: true },
            failover: Vec::new(),
            open_properties: Vec::new(),
        }
    }
}

impl Connector {
    /// A connection without any setting.
    pub fn new(name: impl Into<String>, host: impl Into<String>, port: u16, role: Role) -> Self {
        Self {
            name: name.into(),
            host: host.into(),
            port,
            family: None,
            amqp: Amqp::new(role),
            verifies_host: true,
            sasl_username: None,
            sasl_password: None,
            proxy_profile: None,
            data_connections: None,
        }
    }
}

impl TcpConnector {
    /// A workload without any setting.
    pub fn new(name: impl Into<String>, host: impl Into<String>, port: u16, address: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            host: host.into(),
            port,
            address: address.into(),
            tls_profile: None,
            verifies_host: true,
            site_id: None,
            process_id: None,
        }
    }
}
