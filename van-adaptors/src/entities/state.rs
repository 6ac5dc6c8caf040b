//! How entities are doing: what [`Entities::states`](super::Entities::states) shows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tokio::sync::watch;
use van_core::management::Attributes;
use van_core::management::config::{Observer, Role};

use super::{EntityKind, Traffic};

/// The state of every entity, by name.
#[derive(Debug, Clone, Default)]
pub struct States {
    /// The router's VanFlow identity.
    pub identity: String,
    /// What every entity was made of, as management shows it.
    pub configured: BTreeMap<(EntityKind, String), Arc<Attributes>>,
    /// Links that are dialled.
    pub links: BTreeMap<String, LinkState>,
    /// Listeners for links.
    pub accesses: BTreeMap<String, AccessState>,
    /// Listeners for HTTP.
    pub http_listeners: BTreeMap<String, HttpListenerState>,
    /// Where clients come in.
    pub tcp_listeners: BTreeMap<String, TcpListenerState>,
    /// The routing keys of those that have several.
    pub listener_addresses: BTreeMap<String, ListenerAddressState>,
    /// Workloads.
    pub tcp_connectors: BTreeMap<String, TcpConnectorState>,
    /// Workloads inside the process, by a number of their own.
    pub consumers: BTreeMap<u32, ConsumerState>,
}

/// A link that is dialled.
#[derive(Debug, Clone, Default)]
pub struct LinkState {
    /// Its VanFlow identity.
    pub identity: String,
    /// The port it dials.
    pub port: u16,
    /// Its cost, as configured at this end.
    pub cost: u32,
    /// What it is for.
    pub role: Role,
    /// The generation of the certificates it came up with, if it has any.
    pub ordinal: Option<u64>,
    /// Whether its control connection is there.
    pub is_up: bool,
    /// Whether another link is the uplink of this edge router: this one, if it is up, carries nothing until that is lost.
    pub is_standing_by: bool,
    /// The router at the other end, as of the last time it was up.
    pub peer: Option<String>,
    /// The VanFlow identity of the access it came in by there, if the peer told.
    pub peer_access: Option<String>,
    /// Where it is dialled, as URLs: the one in use first, then those to be tried when it is lost, in turn. What the router
    /// there tells is among them once the link is up.
    pub failover_urls: Vec<String>,
    /// Why it is down, or was the last time; for people.
    pub last_error: Option<String>,
    /// When it came up last.
    pub up_since: Option<SystemTime>,
    /// When it went down last.
    pub down_since: Option<SystemTime>,
    /// How often it went down; a link that never came up counts as 1 once it was tried.
    pub down_count: u64,
    /// Whether it goes through a proxy.
    pub has_proxy: bool,
    /// Octets of all its connections so far, inside of TLS.
    pub octets: LinkOctets,
}

/// Octets of a link, at this moment.
#[derive(Debug, Clone, Default)]
pub struct LinkOctets {
    /// Those sent.
    pub sent: Count,
    /// Those received.
    pub received: Count,
}

impl LinkState {
    pub(crate) fn came_up(&mut self, peer: String, peer_access: Option<String>, ordinal: Option<u64>) {
        self.is_up = true;
        self.up_since = Some(SystemTime::now());
        (self.peer, self.peer_access, self.ordinal) = (Some(peer), peer_access, ordinal);
    }

    /// It is not up any more, or still not.
    pub(crate) fn is_down_for(&mut self, reason: &str) {
        let is_news = std::mem::take(&mut self.is_up) || self.down_count == 0;
        if is_news {
            self.down_count += 1;
            self.down_since = Some(SystemTime::now());
        }
        self.last_error = Some(reason.to_owned());
    }
}

/// A listener for links. It is open as long as it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessState {
    /// Its VanFlow identity, which it tells those who dial it.
    pub identity: String,
    /// Who comes in.
    pub role: Role,
    /// The port it is open on: the system's choice if it was to be 0.
    pub port: u16,
    /// The generation of its certificates, if it has any.
    pub ordinal: Option<u64>,
    /// Links that came in here and are up: control connections.
    pub links: u64,
    /// Why nobody can be accepted at the moment.
    pub error: Option<String>,
}

/// A listener for HTTP. It is open as long as it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpListenerState {
    /// The port it is open on: the system's choice if it was to be 0.
    pub port: u16,
}

/// A place where clients of a routing key come in, or of one of several.
#[derive(Debug, Clone)]
pub struct TcpListenerState {
    /// Its VanFlow identity.
    pub identity: String,
    /// The routing key; empty if there are several, which are [`States::listener_addresses`].
    pub key: String,
    /// The host it listens on; empty for all.
    pub host: String,
    /// The port it opens: chosen by the system at its creation if it was to be 0, and kept.
    pub port: u16,
    /// Whether it is open: while the routing key has a consumer.
    pub is_open: bool,
    /// Why it is not open although it should be, or is and cannot accept anybody; tried again all the time.
    pub error: Option<String>,
    /// What is to be looked for in the octets of new streams.
    pub observer: Observer,
    /// What has gone through it.
    pub traffic: Traffic,
}

impl TcpListenerState {
    /// What is wrong, if something is: that it cannot be opened or accept anybody, or with the client that came last.
    pub fn message(&self) -> Option<String> {
        self.error.clone().or_else(|| self.traffic.last_error())
    }
}

/// A routing key of a tcpListener that has several.
#[derive(Debug, Clone)]
pub struct ListenerAddressState {
    /// Its VanFlow identity.
    pub identity: String,
    /// The tcpListener.
    pub listener: String,
    /// The routing key.
    pub key: String,
    /// Its priority or weight.
    pub value: u32,
    /// Whether it has a consumer.
    pub is_reachable: bool,
    /// Clients that were sent there so far.
    pub connections: Count,
}

/// A workload.
#[derive(Debug, Clone)]
pub struct TcpConnectorState {
    /// Its VanFlow identity.
    pub identity: String,
    /// The routing key.
    pub key: String,
    /// The workload's host.
    pub host: String,
    /// The workload's port.
    pub port: u16,
    /// What has gone through it, and why connecting to it failed the last time, if it did.
    pub traffic: Traffic,
}

/// A workload inside the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerState {
    /// Its VanFlow identity.
    pub identity: String,
    /// The routing key.
    pub key: String,
}

/// A number that grows as it is looked at.
#[derive(Debug, Clone, Default)]
pub struct Count(Arc<AtomicU64>);

impl Count {
    /// How many so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where states are written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board(watch::Sender<Arc<States>>);

impl Board {
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<States>> {
        self.0.subscribe()
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&States) -> T) -> T {
        look(&self.0.borrow())
    }

    pub(crate) fn write(&self, change: impl FnOnce(&mut States)) {
        self.0.send_modify(|states| change(Arc::make_mut(states)));
    }

    /// Changes the state of a link, if it still exists.
    pub(crate) fn link(&self, name: &str, change: impl FnOnce(&mut LinkState)) {
        self.write(|states| states.links.get_mut(name).map_or((), change));
    }

    /// Changes the state of a listener for links, if it still exists.
    pub(crate) fn access(&self, name: &str, change: impl FnOnce(&mut AccessState)) {
        self.write(|states| states.accesses.get_mut(name).map_or((), change));
    }

    /// Changes the state of a tcpListener, if it still exists.
    pub(crate) fn tcp_listener(&self, name: &str, change: impl FnOnce(&mut TcpListenerState)) {
        self.write(|states| states.tcp_listeners.get_mut(name).map_or((), change));
    }
}
