//! The entities of a router while it runs: created, changed and deleted, and how each is doing.
//!
//! A change is made by the control plane, one after the other, whole or not at all. It touches nothing that runs beside
//! the entity. Streams of a link end with it. Those of a tcpListener or tcpConnector live on when it is changed; when it is
//! deleted, that is for the configuration to say (`dropTcpConnections`).

mod described;
mod prepared;
mod state;
mod traffic;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use van_core::amqp::Condition;
use van_core::management::Attributes;
use van_core::management::config::{
    self, AutoLink, Configuration, Connector, Listener, ListenerAddress, PasswordSource, ProxyProfile, TcpConnector,
    TcpListener,
};
use van_core::plane::ConnectionId;
use van_tls::directory::ProfileFiles;
use van_tls::{Credentials, Trust};

pub(crate) use self::prepared::{Prepared, cannot_listen, place, read_password};
pub(crate) use self::state::Board;
pub use self::state::{
    AccessState, ConsumerState, Count, HttpListenerState, LinkOctets, LinkState, ListenerAddressState, States,
    TcpConnectorState, TcpListenerState,
};
pub use self::traffic::{Totals, Traffic};
use crate::control::{Change, Control};
use crate::shard::{Shards, TcpConnection};

/// What a router is made of.
#[derive(Debug, Clone)]
pub enum Entity {
    /// Certificates of links, clients and workloads.
    TlsProfile(TlsProfile),
    /// A proxy that links go through. An update counts from the next dialling on.
    ProxyProfile(ProxyProfile),
    /// A link that the router attaches by itself.
    AutoLink(AutoLink),
    /// A link to dial.
    Connector(Connector),
    /// Where links are accepted, or HTTP is served.
    Listener(Listener),
    /// Where clients of a routing key come in.
    TcpListener(TcpListener),
    /// A routing key of a tcpListener that has several.
    ListenerAddress(ListenerAddress),
    /// A workload that consumes a routing key.
    TcpConnector(TcpConnector),
}

/// The kinds of [`Entity`]; each has names of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntityKind {
    /// [`Entity::TlsProfile`]
    TlsProfile,
    /// [`Entity::ProxyProfile`]
    ProxyProfile,
    /// [`Entity::AutoLink`]
    AutoLink,
    /// [`Entity::Connector`]
    Connector,
    /// [`Entity::Listener`]
    Listener,
    /// [`Entity::TcpListener`]
    TcpListener,
    /// [`Entity::ListenerAddress`]
    ListenerAddress,
    /// [`Entity::TcpConnector`]
    TcpConnector,
}

/// Certificates of links, clients and workloads, by name.
///
/// An update takes effect with the next handshake. With a higher ordinal, links that are up are dialled anew beside the old
/// connections, which end with the streams on them; routing does not notice.
#[derive(Debug, Clone)]
pub struct TlsProfile {
    /// Its name.
    pub name: String,
    /// Where the certificates are.
    pub credentials: CredentialsSource,
    /// The generation of these.
    pub ordinal: u64,
    /// Connections that were made with an earlier generation than this are closed, streams and all.
    pub oldest_valid_ordinal: u64,
    /// How keys are read, and what may be negotiated.
    pub terms: TlsTerms,
}

/// How the key of a TLS profile is read, and what may be negotiated with it.
#[derive(Debug, Clone, Default)]
pub struct TlsTerms {
    /// What the key is encrypted with, if it is.
    pub password: Option<PasswordSource>,
    /// Versions of TLS, with blanks between, if not all that are safe. Links need `TLSv1.3`.
    pub protocols: Option<String>,
    /// Names of cipher suites as OpenSSL lists them, if not all that are safe.
    pub ciphers: Option<String>,
}

/// Where a TLS profile's certificates are.
#[derive(Debug, Clone)]
pub enum CredentialsSource {
    /// In files; read when the profile is created and with every update. Links need all three, tcpListeners certificate and
    /// key, tcpConnectors the CA.
    Files(ProfileFiles),
    /// Here.
    Memory(Box<Credentials>),
    /// Here, and nothing to show: enough for a tcpConnector.
    Trust(Trust),
}

impl TlsProfile {
    /// A profile as a configuration has it.
    pub fn from_config(name: &str, profile: &config::TlsProfile) -> Self {
        let path = |file: &Option<String>| file.as_ref().map(Into::into);
        let files = ProfileFiles {
            certificate: path(&profile.cert_file),
            key: path(&profile.private_key_file),
            ca: path(&profile.ca_cert_file),
        };
        let (ordinal, oldest_valid_ordinal) = (profile.ordinal, profile.oldest_valid_ordinal);
        let terms = TlsTerms {
            password: profile.password.clone(),
            protocols: profile.protocols.clone(),
            ciphers: profile.ciphers.clone(),
        };
        let credentials = CredentialsSource::Files(files);
        Self { name: name.to_owned(), credentials, ordinal, oldest_valid_ordinal, terms }
    }
}

impl Entity {
    /// Which kind it is of.
    pub fn kind(&self) -> EntityKind {
        match self {
            Self::TlsProfile(_) => EntityKind::TlsProfile,
            Self::ProxyProfile(_) => EntityKind::ProxyProfile,
            Self::AutoLink(_) => EntityKind::AutoLink,
            Self::Connector(_) => EntityKind::Connector,
            Self::Listener(_) => EntityKind::Listener,
            Self::TcpListener(_) => EntityKind::TcpListener,
            Self::ListenerAddress(_) => EntityKind::ListenerAddress,
            Self::TcpConnector(_) => EntityKind::TcpConnector,
        }
    }

    /// Its name, unique among its kind.
    pub fn name(&self) -> &str {
        match self {
            Self::TlsProfile(profile) => &profile.name,
            Self::ProxyProfile(profile) => &profile.name,
            Self::AutoLink(link) => &link.name,
            Self::Connector(connector) => &connector.name,
            Self::Listener(listener) => &listener.name,
            Self::TcpListener(listener) => &listener.name,
            Self::ListenerAddress(address) => &address.name,
            Self::TcpConnector(connector) => &connector.name,
        }
    }

    /// Those of a configuration, each behind what it needs.
    pub(crate) fn all(configuration: Configuration) -> impl Iterator<Item = Self> {
        let profiles = configuration.tls_profiles.into_iter();
        profiles
            .map(|(name, profile)| Self::TlsProfile(TlsProfile::from_config(&name, &profile)))
            .chain(configuration.proxy_profiles.into_iter().map(Self::ProxyProfile))
            .chain(configuration.auto_links.into_iter().map(Self::AutoLink))
            .chain(configuration.connectors.into_iter().map(Self::Connector))
            .chain(configuration.listeners.into_iter().map(Self::Listener))
            .chain(configuration.tcp_listeners.into_iter().map(Self::TcpListener))
            .chain(configuration.listener_addresses.into_iter().map(Self::ListenerAddress))
            .chain(configuration.tcp_connectors.into_iter().map(Self::TcpConnector))
    }
}

impl EntityKind {
    /// How messages name an entity.
    pub(crate) fn label(self, name: &str) -> String {
        format!("{self} \"{name}\"")
    }
}

impl fmt::Display for EntityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TlsProfile => "sslProfile",
            Self::ProxyProfile => "proxyProfile",
            Self::AutoLink => "autoLink",
            Self::Connector => "connector",
            Self::Listener => "listener",
            Self::TcpListener => "tcpListener",
            Self::ListenerAddress => "listenerAddress",
            Self::TcpConnector => "tcpConnector",
        })
    }
}

/// How long looking up what an entity needs may take. Source: resolv.conf(5), `timeout`.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(5);

/// Changes a running router, and looks at it. Made by [`Router::entities`](crate::Router::entities).
#[derive(Debug, Clone)]
pub struct Entities {
    control: Control,
    runtime: Handle,
    states: watch::Receiver<Arc<States>>,
    shards: Arc<Shards>,
}

impl Entities {
    pub(crate) fn new(
        control: Control,
        runtime: Handle,
        states: watch::Receiver<Arc<States>>,
        shards: Arc<Shards>,
    ) -> Self {
        Self { control, runtime, states, shards }
    }

    /// Adds an entity. It is in [`Entities::states`] when this returns.
    ///
    /// Dropping the future leaves open whether it is still made.
    ///
    /// # Errors
    /// See [`EntityError`]; nothing has changed. A tcpListener whose port is taken is not kept: try again later.
    pub async fn create(&self, entity: Entity) -> Result<(), EntityError> {
        self.create_as_given(entity, Attributes::new()).await
    }

    /// As [`Entities::create`], of an entity that was given like this: management shows it so.
    pub(crate) async fn create_as_given(&self, entity: Entity, given: Attributes) -> Result<(), EntityError> {
        let attributes = entity.described(given);
        let prepared = self.prepare(entity).await?;
        self.control.change(Change::Create(prepared, attributes.into())).await
    }

    /// Replaces the entity of the same kind and name.
    ///
    /// A port is kept open if host and port stay. A link that differs is closed and dialled anew; links that a changed
    /// listener has accepted are closed, for their ends to dial anew. Dropping the future leaves open whether it is still
    /// done.
    ///
    /// # Errors
    /// See [`EntityError`]; the entity is as it was.
    pub async fn update(&self, entity: Entity) -> Result<(), EntityError> {
        self.update_as_given(entity, Attributes::new()).await
    }

    /// As [`Entities::create_as_given`].
    pub(crate) async fn update_as_given(&self, entity: Entity, given: Attributes) -> Result<(), EntityError> {
        let attributes = entity.described(given);
        let prepared = self.prepare(entity).await?;
        self.control.change(Change::Update(prepared, attributes.into())).await
    }

    /// Removes an entity. Its port is free when this returns; connections of a link are closed in order soon after.
    ///
    /// Dropping the future leaves open whether it is still done.
    ///
    /// # Errors
    /// [`EntityError::Unknown`], [`EntityError::InUse`], [`EntityError::Stopping`].
    pub async fn delete(&self, kind: EntityKind, name: &str) -> Result<(), EntityError> {
        self.control.change(Change::Delete(kind, name.to_owned())).await
    }

    /// Closes a connection, which does not keep whoever dialled it from doing so again. Connections are numbered from 1 in
    /// the order in which they were taken into use; those of clients and to workloads as [`TcpConnection::id`] says.
    ///
    /// Dropping the future leaves open whether it is still done.
    ///
    /// # Errors
    /// [`EntityError::NoConnection`], [`EntityError::Essential`], [`EntityError::Stopping`].
    pub async fn close_connection(&self, number: u64) -> Result<(), EntityError> {
        let why = Condition::new("amqp:connection:forced", "closed by an operator");
        if self.shards.drop_stream(number).await {
            return Ok(());
        }
        self.control.close_connection(ConnectionId(number), why).await
    }

    /// Has the frames of a connection logged, or no more.
    ///
    /// Dropping the future leaves open whether it is still done.
    ///
    /// # Errors
    /// [`EntityError::NoConnection`], [`EntityError::Stopping`].
    pub async fn trace_connection(&self, number: u64, is_traced: bool) -> Result<(), EntityError> {
        self.control.trace(ConnectionId(number), is_traced).await
    }

    /// How everything is doing, now and with every change.
    pub fn states(&self) -> watch::Receiver<Arc<States>> {
        self.states.clone()
    }

    /// The connections of clients and to workloads, as they are now: what management shows as `tcpConnection`. Streams whose
    /// end is inside the process have none.
    pub async fn tcp_connections(&self) -> Vec<TcpConnection> {
        self.shards.list_streams().await
    }

    /// Reads files and looks names up, on a thread that may wait.
    async fn prepare(&self, entity: Entity) -> Result<Prepared, EntityError> {
        let late = EntityError::Late { entity: entity.kind().label(entity.name()) };
        let preparing = self.runtime.spawn_blocking(|| Prepared::new(entity));
        // Its clock is the router's: the caller's runtime may have none.
        let prepared = self.runtime.spawn(async { tokio::time::timeout(PREPARE_TIMEOUT, preparing).await });
        match prepared.await {
            Ok(Ok(Ok(prepared))) => prepared,
            Ok(Err(_)) => Err(late),
            Ok(Ok(Err(_))) | Err(_) => Err(EntityError::Stopping),
        }
    }
}

/// Why an entity cannot be as it is wanted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EntityError {
    /// There is one of that name.
    #[error("{kind} \"{name}\" exists already; update it, or delete it first")]
    Exists {
        /// Its kind.
        kind: EntityKind,
        /// Its name.
        name: String,
    },
    /// There is none of that name.
    #[error("there is no {kind} \"{name}\"")]
    Unknown {
        /// The kind.
        kind: EntityKind,
        /// The name.
        name: String,
    },
    /// A name was not looked up in time, or a file not read.
    #[error("{entity}: looking up its host, or reading its files, takes longer than {} s; does a name server answer?", PREPARE_TIMEOUT.as_secs())]
    Late {
        /// The entity.
        entity: String,
    },
    /// An address cannot be listened on.
    #[error("{entity}: cannot listen on {address}{}", listen_hint(.source))]
    Listen {
        /// The entity.
        entity: String,
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// Another entity has the address.
    #[error("{entity}: cannot listen on {address}; {other} is to listen on {taken}: change one of them")]
    Taken {
        /// The entity.
        entity: String,
        /// The address.
        address: String,
        /// The other entity.
        other: String,
        /// Its address.
        taken: std::net::SocketAddr,
    },
    /// A TLS profile's certificates cannot be used.
    #[error("sslProfile \"{profile}\": {message}")]
    Credentials {
        /// The profile's name.
        profile: String,
        /// What is wrong, and with which file.
        message: String,
    },
    /// A file of users cannot be used.
    #[error("{entity}: saslUsersFile: {message}")]
    Users {
        /// The entity.
        entity: String,
        /// What is wrong, and in which line.
        message: String,
    },
    /// A proxy's password cannot be read.
    #[error("proxyProfile \"{profile}\": {message}")]
    Password {
        /// The profile's name.
        profile: String,
        /// What is wrong, and with which file or variable.
        message: String,
    },
    /// There is no such profile.
    #[error("{entity}: there is no {kind} named `{profile}`; create it first")]
    NoProfile {
        /// The entity.
        entity: String,
        /// The kind of profile.
        kind: EntityKind,
        /// The profile it names.
        profile: String,
    },
    /// An entity cannot be deleted now.
    #[error("{kind} \"{name}\" is used by {user}; delete that first")]
    InUse {
        /// Its kind.
        kind: EntityKind,
        /// Its name.
        name: String,
        /// An entity that uses it.
        user: String,
    },
    /// There is no such tcpListener.
    #[error("{entity}: there is no tcpListener named `{listener}`; create it first")]
    NoListener {
        /// The entity.
        entity: String,
        /// The tcpListener it names.
        listener: String,
    },
    /// A tcpListener is to have a routing key besides its own.
    #[error("{entity}: tcpListener \"{listener}\" has an address of its own; give it a multiAddressStrategy instead")]
    OneAddress {
        /// The entity.
        entity: String,
        /// The tcpListener it names.
        listener: String,
    },
    /// Peers are to show certificates where there is no TLS.
    #[error("{entity}: authenticatePeer needs an sslProfile: peers authenticate by certificate")]
    NoTls {
        /// The entity.
        entity: String,
    },
    /// There is no such connection.
    #[error("there is no connection {0}")]
    NoConnection(u64),
    /// A connection stands for a link, which would only be dialled again.
    #[error("connection {0} stands for a link; delete the link's connector instead, or raise its cost")]
    Essential(u64),
    /// It is too late for changes.
    #[error("the router is stopping")]
    Stopping,
}

fn listen_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program, perhaps another router, is listening there",
        // Without a code of the system it is ours, of a name that has no address of the family wanted.
        io::ErrorKind::AddrNotAvailable if error.raw_os_error().is_some() => {
            "; this machine has no such address: name one that it has, or leave `host` out for all"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need the privilege to bind them",
        _ => "",
    }
}
