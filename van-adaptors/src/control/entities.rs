//! Entities as they run, and how they are made, changed and ended.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tracing::info;
use van_core::management::Attributes;
use van_core::management::config::{AutoLink, Direction, Listener, ListenerAddress, Service};
use van_core::router;

use super::clients::ClientListener;
use super::connectors::RunningConnector;
use super::links::RunningLink;
use super::listeners::RunningListener;
use super::{Owner, Task};
use crate::amqp::proxy::Proxy;
use crate::amqp::{Profile, Usage};
use crate::entities::{EntityError, EntityKind, Prepared, Traffic, place};
use crate::shard::Message;

/// What is to become of an entity.
pub(crate) enum Change {
    Create(Prepared, Arc<Attributes>),
    Update(Prepared, Arc<Attributes>),
    Delete(EntityKind, String),
}

/// All entities, by name.
#[derive(Default)]
pub(super) struct Running {
    /// A profile that could not be used at the start, and was not needed then, has its fault instead.
    profiles: BTreeMap<String, Result<watch::Sender<Arc<Profile>>, String>>,
    proxies: BTreeMap<String, watch::Sender<Arc<Proxy>>>,
    pub(super) auto_links: BTreeMap<String, AutoLink>,
    pub(super) links: BTreeMap<String, RunningLink>,
    pub(super) listeners: BTreeMap<String, RunningListener>,
    pub(super) tcp_listeners: BTreeMap<String, ClientListener>,
    pub(super) listener_addresses: BTreeMap<String, ListenerAddress>,
    pub(super) tcp_connectors: BTreeMap<String, RunningConnector>,
}

impl Running {
    fn has(&self, kind: EntityKind, name: &str) -> bool {
        match kind {
            EntityKind::TlsProfile => self.profiles.contains_key(name),
            EntityKind::ProxyProfile => self.proxies.contains_key(name),
            EntityKind::AutoLink => self.auto_links.contains_key(name),
            EntityKind::Connector => self.links.contains_key(name),
            EntityKind::Listener => self.listeners.contains_key(name),
            EntityKind::TcpListener => self.tcp_listeners.contains_key(name),
            EntityKind::ListenerAddress => self.listener_addresses.contains_key(name),
            EntityKind::TcpConnector => self.tcp_connectors.contains_key(name),
        }
    }

    /// Whether connections of this owner are wanted.
    pub(super) fn knows(&self, owner: Owner) -> bool {
        self.links.values().any(|link| link.owner == owner)
            || self.listeners.values().any(|listener| listener.owner == owner)
    }

    /// The oldest generation of certificates with which this owner's connections may be, if it has certificates.
    pub(super) fn oldest_valid(&self, owner: Owner) -> Option<u64> {
        let link = self.links.values().find(|link| link.owner == owner);
        let profile = link.and_then(|link| link.entity.amqp.tls_profile.as_deref()).or_else(|| {
            let listener = self.listeners.values().find(|listener| listener.owner == owner)?;
            tls_profile(&listener.entity)
        });
        let users = self.profiles.get(profile?)?.as_ref().ok()?;
        Some(users.borrow().oldest_valid_ordinal)
    }

    /// The entities that use a profile, and for what.
    fn users<'a>(&'a self, profile: &'a str) -> impl Iterator<Item = (EntityKind, &'a str, Usage)> {
        let links = self.links.values().map(|link| (&link.entity.name, link.entity.amqp.tls_profile.as_deref()));
        let links = links.map(|(name, used)| (EntityKind::Connector, name, used, Usage::Links));
        let listeners = self.listeners.values().map(|listener| &listener.entity);
        let listeners =
            listeners.map(|entity| (EntityKind::Listener, &entity.name, tls_profile(entity), usage(&entity.service)));
        let tcp_listeners = self.tcp_listeners.values().map(|listener| {
            let usage = Usage::Clients { authenticated: listener.entity.requires_authentication };
            (EntityKind::TcpListener, &listener.entity.name, listener.entity.tls_profile.as_deref(), usage)
        });
        let tcp_connectors = self.tcp_connectors.values().map(|connector| &connector.entity);
        let tcp_connectors = tcp_connectors
            .map(|entity| (EntityKind::TcpConnector, &entity.name, entity.tls_profile.as_deref(), Usage::Workloads));
        let all = links.chain(listeners).chain(tcp_listeners).chain(tcp_connectors);
        all.filter(move |(_, _, used, _)| *used == Some(profile)).map(|(kind, name, _, usage)| (kind, &**name, usage))
    }

    /// A link that uses a proxy.
    fn user_of_proxy(&self, proxy: &str) -> Option<String> {
        let user = self.links.values().find(|link| link.entity.proxy_profile.as_deref() == Some(proxy));
        user.map(|link| EntityKind::Connector.label(&link.entity.name))
    }

    /// Where entities listen or are to listen, but for one of them.
    fn places<'a>(&'a self, except: (EntityKind, &'a str)) -> impl Iterator<Item = (SocketAddr, EntityKind, &'a str)> {
        let listeners = self.listeners.iter().flat_map(|(name, listener)| {
            listener.sockets.iter().map(move |(address, _)| (*address, EntityKind::Listener, name.as_str()))
        });
        let tcp_listeners = self.tcp_listeners.iter().flat_map(|(name, listener)| {
            listener.addresses.iter().map(move |address| (*address, EntityKind::TcpListener, name.as_str()))
        });
        listeners.chain(tcp_listeners).filter(move |(_, kind, name)| (*kind, *name) != except)
    }

    /// Whether no other entity listens there.
    pub(super) fn check_free(
        &self,
        (kind, name): (EntityKind, &str),
        (host, port): (&str, u16),
        addresses: &[SocketAddr],
    ) -> Result<(), EntityError> {
        let mut places = self.places((kind, name));
        match places.find(|(taken, ..)| any_overlap(*taken, addresses)) {
            None => Ok(()),
            Some((taken, other_kind, other)) => Err(EntityError::Taken {
                entity: kind.label(name),
                address: place(host, port),
                other: other_kind.label(other),
                taken,
            }),
        }
    }

    /// A profile for a user of it.
    pub(super) fn profile(
        &self,
        name: &str,
        user: (EntityKind, &str),
        usage: Usage,
    ) -> Result<watch::Receiver<Arc<Profile>>, EntityError> {
        match self.profiles.get(name) {
            Some(Ok(profile)) => {
                profile.borrow().check(usage).map_err(|lack| unusable(name, lack.to_string()))?;
                Ok(profile.subscribe())
            }
            Some(Err(message)) => Err(unusable(name, message.clone())),
            None => Err(no_profile(user, EntityKind::TlsProfile, name)),
        }
    }

    /// A proxy for a user of it.
    pub(super) fn proxy(
        &self,
        name: &str,
        user: (EntityKind, &str),
    ) -> Result<watch::Receiver<Arc<Proxy>>, EntityError> {
        let proxy = self.proxies.get(name).map(watch::Sender::subscribe);
        proxy.ok_or_else(|| no_profile(user, EntityKind::ProxyProfile, name))
    }
}

fn no_profile(user: (EntityKind, &str), kind: EntityKind, profile: &str) -> EntityError {
    EntityError::NoProfile { entity: user.0.label(user.1), kind, profile: profile.to_owned() }
}

fn unusable(profile: &str, message: String) -> EntityError {
    EntityError::Credentials { profile: profile.to_owned(), message }
}

/// What a listener uses a profile for.
pub(super) fn usage(service: &Service) -> Usage {
    match service {
        Service::Amqp(_) => Usage::Links,
        Service::Http { .. } => Usage::Https,
    }
}

fn tls_profile(listener: &Listener) -> Option<&str> {
    match &listener.service {
        Service::Amqp(access) | Service::Http { access, .. } => access.amqp.tls_profile.as_deref(),
    }
}

/// Whether the system lets only one of them be listened on. (Port 0 stands for one of its choice.)
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let is_same_host = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && a.is_ipv4() == b.is_ipv4() && is_same_host
}

pub(super) fn any_overlap(taken: SocketAddr, addresses: &[SocketAddr]) -> bool {
    addresses.iter().any(|address| overlap(taken, *address))
}

impl Task {
    /// Adds what a router has at the start. Nothing of it runs before [`Task::run`].
    pub(crate) fn add(&mut self, entity: Prepared, attributes: Attributes) -> Result<(), EntityError> {
        let key = (entity.kind(), entity.name().to_owned());
        match entity {
            Prepared::TlsProfile { name, profile } => {
                self.running.profiles.insert(name, profile.map(watch::Sender::new));
            }
            entity => self.create(entity)?,
        }
        self.show(key, attributes.into());
        Ok(())
    }

    fn show(&self, key: (EntityKind, String), attributes: Arc<Attributes>) {
        self.board.write(|states| drop(states.configured.insert(key, attributes)));
    }

    pub(super) async fn change(&mut self, change: Change) -> Result<(), EntityError> {
        let (key, done) = match change {
            Change::Create(entity, attributes) => {
                let key = (entity.kind(), entity.name().to_owned());
                self.create(entity)?;
                self.show(key.clone(), attributes);
                (key, "created")
            }
            Change::Update(entity, attributes) => {
                let key = (entity.kind(), entity.name().to_owned());
                self.update(entity).await?;
                self.show(key.clone(), attributes);
                (key, "updated")
            }
            Change::Delete(kind, name) => {
                self.delete(kind, &name).await?;
                let key = (kind, name);
                self.board.write(|states| drop(states.configured.remove(&key)));
                (key, "deleted")
            }
        };
        info!(entity = key.0.label(&key.1), "{done}");
        Ok(())
    }

    fn create(&mut self, entity: Prepared) -> Result<(), EntityError> {
        let (kind, name) = (entity.kind(), entity.name().to_owned());
        if self.running.has(kind, &name) {
            return Err(EntityError::Exists { kind, name });
        }
        match entity {
            Prepared::TlsProfile { profile, .. } => {
                let profile = profile.map_err(|message| unusable(&name, message))?;
                self.running.profiles.insert(name, Ok(watch::Sender::new(profile)));
            }
            Prepared::ProxyProfile(proxy) => drop(self.running.proxies.insert(name, watch::Sender::new(proxy))),
            Prepared::AutoLink(link) => self.create_auto_link(link),
            Prepared::Connector(connector) => self.create_link(connector)?,
            Prepared::Listener(listener, addresses) => self.create_listener(listener, &addresses)?,
            Prepared::TcpListener(listener, addresses) => self.create_tcp_listener(listener, &addresses)?,
            Prepared::ListenerAddress(address) => self.create_listener_address(address)?,
            Prepared::TcpConnector(connector) => self.create_tcp_connector(connector)?,
        }
        Ok(())
    }

    async fn update(&mut self, entity: Prepared) -> Result<(), EntityError> {
        let (kind, name) = (entity.kind(), entity.name().to_owned());
        if !self.running.has(kind, &name) {
            return Err(EntityError::Unknown { kind, name });
        }
        match entity {
            Prepared::TlsProfile { profile, .. } => {
                let profile = profile.map_err(|message| unusable(&name, message))?;
                for (.., usage) in self.running.users(&name) {
                    profile.check(usage).map_err(|lack| unusable(&name, lack.to_string()))?;
                }
                self.update_profile(&name, profile);
                Ok(())
            }
            Prepared::AutoLink(link) => {
                self.delete_auto_link(&name);
                self.create_auto_link(link);
                Ok(())
            }
            Prepared::ProxyProfile(proxy) => {
                drop(self.running.proxies[&name].send_replace(proxy));
                Ok(())
            }
            Prepared::Connector(connector) => self.update_link(connector),
            Prepared::Listener(listener, addresses) => self.update_listener(listener, &addresses).await,
            Prepared::TcpListener(listener, addresses) => self.update_tcp_listener(listener, &addresses).await,
            Prepared::ListenerAddress(address) => self.update_listener_address(address).await,
            Prepared::TcpConnector(connector) => self.update_tcp_connector(connector).await,
        }
    }

    async fn delete(&mut self, kind: EntityKind, name: &str) -> Result<(), EntityError> {
        if !self.running.has(kind, name) {
            return Err(EntityError::Unknown { kind, name: name.to_owned() });
        }
        match kind {
            EntityKind::TlsProfile => {
                if let Some((user, used, _)) = self.running.users(name).next() {
                    return Err(EntityError::InUse { kind, name: name.to_owned(), user: user.label(used) });
                }
                self.running.profiles.remove(name);
            }
            EntityKind::AutoLink => self.delete_auto_link(name),
            EntityKind::ProxyProfile => {
                if let Some(user) = self.running.user_of_proxy(name) {
                    return Err(EntityError::InUse { kind, name: name.to_owned(), user });
                }
                self.running.proxies.remove(name);
            }
            EntityKind::Connector => self.delete_link(name),
            EntityKind::Listener => self.delete_listener(name).await,
            EntityKind::TcpListener => self.delete_tcp_listener(name).await?,
            EntityKind::ListenerAddress => self.delete_listener_address(name).await,
            EntityKind::TcpConnector => self.delete_tcp_connector(name).await,
        }
        Ok(())
    }

    fn create_auto_link(&mut self, link: AutoLink) {
        let text = |text: &Option<String>| text.as_deref().map(Arc::from);
        let own = router::AutoLink {
            address: text(&link.address),
            is_out: link.direction == Direction::Out,
            container: link.container_id.clone(),
            connection: link.connection.clone(),
            external_address: text(&link.external_address),
        };
        self.core.add_auto_link(Instant::now(), &link.name, own);
        self.running.auto_links.insert(link.name.clone(), link);
    }

    fn delete_auto_link(&mut self, name: &str) {
        self.running.auto_links.remove(name);
        self.core.remove_auto_link(Instant::now(), name);
    }

    /// For a new tcpListener or tcpConnector.
    pub(super) fn new_traffic(&self) -> Traffic {
        Traffic::new(self.shards.inboxes.len())
    }

    /// The streams of an entity that is deleted end with it, if that is configured.
    pub(super) fn drop_streams(&self, of: &Traffic) {
        if self.drops_tcp_connections {
            of.end();
            self.shards.tell_all(|| Message::DropStreams { of: of.clone() });
        }
    }

    fn update_profile(&mut self, name: &str, profile: Arc<Profile>) {
        let (ordinal, oldest_valid) = (profile.ordinal, profile.oldest_valid_ordinal);
        match self.running.profiles.get(name) {
            Some(Ok(users)) => drop(users.send_replace(profile)),
            _ => drop(self.running.profiles.insert(name.to_owned(), Ok(watch::Sender::new(profile)))),
        }
        for user in self.running.listeners.values().filter(|user| tls_profile(&user.entity) == Some(name)) {
            self.board.access(&user.entity.name, |state| state.ordinal = Some(ordinal));
            self.close_outdated(user.owner, oldest_valid);
        }
        for user in self.running.links.values().filter(|user| user.entity.amqp.tls_profile.as_deref() == Some(name)) {
            self.close_outdated(user.owner, oldest_valid);
        }
    }
}
