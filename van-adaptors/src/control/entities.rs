//! Entities as they run, and how they are made, changed and ended.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::info;
use van_core::Random;
use van_core::amqp::Condition;
use van_core::management::config::{self, Connector, Listener, Service, TcpConnector};
use van_core::plane::{ConnectorId, ListenerId, ShardId};

use super::tcp::ClientListener;
use super::{Owner, Task};
use crate::amqp::Profile;
use crate::amqp::access::{self, Access};
use crate::amqp::link::{self, Link};
use crate::entities::{
    AccessState, Connects, Count, EntityError, EntityKind, HttpListenerState, LinkState, Prepared, TcpConnectorState,
    TcpListenerState, cannot_listen, place,
};
use crate::shard::{Message, Target};
use crate::tcp::listener;
use crate::web::{self, Site, View};

/// What is to become of an entity.
pub(crate) enum Change {
    Create(Prepared),
    Update(Prepared),
    Delete(EntityKind, String),
}

/// All entities, by name.
#[derive(Default)]
pub(super) struct Running {
    /// A profile that could not be used at the start, and was not needed then, has its fault instead.
    profiles: BTreeMap<String, Result<watch::Sender<Arc<Profile>>, String>>,
    links: BTreeMap<String, RunningLink>,
    listeners: BTreeMap<String, RunningListener>,
    pub(super) tcp_listeners: BTreeMap<String, ClientListener>,
    tcp_connectors: BTreeMap<String, RunningConnector>,
}

struct RunningLink {
    entity: Connector,
    owner: Owner,
    task: JoinHandle<()>,
}

struct RunningListener {
    entity: Listener,
    owner: Owner,
    /// Duplicates of those that are served: so the port is not lost when they are to be served otherwise.
    sockets: Vec<(SocketAddr, TcpListener)>,
    tasks: Vec<JoinHandle<()>>,
}

struct RunningConnector {
    entity: TcpConnector,
    id: ConnectorId,
    key: Arc<str>,
    connects: Connects,
}

/// What a listener serves.
enum Serving {
    Links(Box<Access>),
    Http(Site),
}

impl Running {
    fn has(&self, kind: EntityKind, name: &str) -> bool {
        match kind {
            EntityKind::TlsProfile => self.profiles.contains_key(name),
            EntityKind::Connector => self.links.contains_key(name),
            EntityKind::Listener => self.listeners.contains_key(name),
            EntityKind::TcpListener => self.tcp_listeners.contains_key(name),
            EntityKind::TcpConnector => self.tcp_connectors.contains_key(name),
        }
    }

    /// Whether connections of this owner are wanted.
    pub(super) fn knows(&self, owner: Owner) -> bool {
        self.links.values().any(|link| link.owner == owner)
            || self.listeners.values().any(|listener| listener.owner == owner)
    }

    /// An entity that uses a profile.
    fn user(&self, profile: &str) -> Option<String> {
        let link = self.links.values().find(|link| link.entity.tls_profile.as_deref() == Some(profile));
        let listener = || self.listeners.values().find(|listener| tls_profile(&listener.entity) == Some(profile));
        match link {
            Some(link) => Some(EntityKind::Connector.label(&link.entity.name)),
            None => listener().map(|listener| EntityKind::Listener.label(&listener.entity.name)),
        }
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
    fn check_free(
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
    fn profile(&self, name: &str, user: (EntityKind, &str)) -> Result<watch::Receiver<Arc<Profile>>, EntityError> {
        match self.profiles.get(name) {
            Some(Ok(profile)) => Ok(profile.subscribe()),
            Some(Err(message)) => Err(unusable(name, message.clone())),
            None => Err(EntityError::NoProfile { entity: user.0.label(user.1), profile: name.to_owned() }),
        }
    }
}

fn unusable(profile: &str, message: String) -> EntityError {
    EntityError::Credentials { profile: profile.to_owned(), message }
}

fn tls_profile(listener: &Listener) -> Option<&str> {
    match &listener.service {
        Service::Links { tls_profile, .. } => tls_profile.as_deref(),
        Service::Http { .. } => None,
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
    pub(crate) fn add(&mut self, entity: Prepared) -> Result<(), EntityError> {
        match entity {
            Prepared::TlsProfile { name, profile } => {
                self.running.profiles.insert(name, profile.map(watch::Sender::new));
                Ok(())
            }
            entity => self.create(entity),
        }
    }

    pub(super) async fn change(&mut self, change: Change) -> Result<(), EntityError> {
        match change {
            Change::Create(entity) => self.create(entity),
            Change::Update(entity) => self.update(entity).await,
            Change::Delete(kind, name) => self.delete(kind, &name).await,
        }
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
            Prepared::Connector(connector) => self.create_link(connector)?,
            Prepared::Listener(listener, addresses) => self.create_listener(listener, &addresses)?,
            Prepared::TcpListener(listener, addresses) => self.create_tcp_listener(listener, &addresses)?,
            Prepared::TcpConnector(connector) => self.create_tcp_connector(connector),
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
                self.update_profile(&name, profile.map_err(|message| unusable(&name, message))?);
                Ok(())
            }
            Prepared::Connector(connector) => self.update_link(connector),
            Prepared::Listener(listener, addresses) => self.update_listener(listener, &addresses).await,
            Prepared::TcpListener(listener, addresses) => self.update_tcp_listener(listener, &addresses).await,
            Prepared::TcpConnector(connector) => {
                self.update_tcp_connector(connector);
                Ok(())
            }
        }
    }

    async fn delete(&mut self, kind: EntityKind, name: &str) -> Result<(), EntityError> {
        if !self.running.has(kind, name) {
            return Err(EntityError::Unknown { kind, name: name.to_owned() });
        }
        match kind {
            EntityKind::TlsProfile => {
                if let Some(user) = self.running.user(name) {
                    return Err(EntityError::InUse { profile: name.to_owned(), user });
                }
                self.running.profiles.remove(name);
            }
            EntityKind::Connector => self.delete_link(name),
            EntityKind::Listener => self.delete_listener(name).await,
            EntityKind::TcpListener => self.delete_tcp_listener(name).await,
            EntityKind::TcpConnector => self.delete_tcp_connector(name).await,
        }
        info!(kind = %kind, name, "deleted");
        Ok(())
    }

    // === TLS profiles ===

    fn update_profile(&mut self, name: &str, profile: Arc<Profile>) {
        let ordinal = profile.ordinal;
        match self.running.profiles.get(name) {
            Some(Ok(users)) => drop(users.send_replace(profile)),
            _ => drop(self.running.profiles.insert(name.to_owned(), Ok(watch::Sender::new(profile)))),
        }
        let users = self.running.listeners.values().filter(|listener| tls_profile(&listener.entity) == Some(name));
        users.for_each(|user| self.board.access(&user.entity.name, |state| state.ordinal = Some(ordinal)));
    }

    // === links ===

    fn create_link(&mut self, entity: Connector) -> Result<(), EntityError> {
        let link = self.link(&entity)?;
        let state = LinkState { identity: self.flow_ids.next(), cost: link.cost, ..LinkState::default() };
        self.board.write(|states| drop(states.links.insert(entity.name.clone(), state)));
        self.run_link(entity, link);
        Ok(())
    }

    fn update_link(&mut self, entity: Connector) -> Result<(), EntityError> {
        if self.running.links[&entity.name].entity == entity {
            return Ok(());
        }
        let link = self.link(&entity)?;
        self.end_link(&entity.name, "the link was changed");
        self.board.link(&entity.name, |state| {
            if state.is_up {
                state.is_down_for("the link was changed");
            }
            state.cost = link.cost;
        });
        self.run_link(entity, link);
        Ok(())
    }

    fn delete_link(&mut self, name: &str) {
        self.end_link(name, "the link was deleted");
        self.board.write(|states| drop(states.links.remove(name)));
    }

    fn run_link(&mut self, entity: Connector, link: Link) {
        let (name, owner) = (entity.name.clone(), link.owner);
        let random = Random::new(self.random.next_u64());
        let task = tokio::spawn(link::run(link, self.control.clone(), random));
        self.running.links.insert(name, RunningLink { entity, owner, task });
    }

    fn end_link(&mut self, name: &str, why: &str) {
        if let Some(link) = self.running.links.remove(name) {
            link.task.abort();
            self.close_connections(link.owner, why);
        }
    }

    /// What a link is to know; without profile there is none.
    fn link(&mut self, entity: &Connector) -> Result<Link, EntityError> {
        let user = (EntityKind::Connector, entity.name.as_str());
        let tls = entity.tls_profile.as_ref().map(|name| self.running.profile(name, user)).transpose()?;
        Ok(Link {
            name: entity.name.clone(),
            router: self.core.id().to_string(),
            host: entity.host.clone(),
            port: entity.port,
            family: entity.family,
            cost: entity.cost.into(),
            tls,
            verifies_host: entity.verifies_host,
            data_connections: entity.data_connections.unwrap_or(self.data_connections),
            max_frame_bytes: entity.max_frame_bytes,
            idle_timeout: entity.idle_timeout,
            owner: self.new_owner(),
            board: self.board.clone(),
        })
    }

    fn close_connections(&self, owner: Owner, why: &str) {
        for (id, connection) in self.connections.iter().filter(|(_, connection)| connection.owner == owner) {
            let condition = Some(Condition::new("amqp:connection:forced", why));
            self.shards.tell(connection.shard, Message::Close { connection: *id, condition });
        }
    }

    // === listeners for links and HTTP ===

    fn create_listener(&mut self, entity: Listener, addresses: &[SocketAddr]) -> Result<(), EntityError> {
        let (name, owner) = (entity.name.clone(), self.new_owner());
        let identity = self.flow_ids.next();
        let serving = self.serving(&entity, &identity, owner)?;
        self.running.check_free((EntityKind::Listener, &name), (&entity.host, entity.port), addresses)?;
        let failed = |source| cannot_listen(EntityKind::Listener, &name, &entity.host, entity.port, source);
        let sockets = listener::bind_all(addresses, None).map_err(failed)?;
        let served = duplicate(&sockets).map_err(failed)?;
        self.tell_listener(&name, &identity, &serving, &sockets);
        let tasks = self.serve(&serving, served);
        self.running.listeners.insert(name, RunningListener { entity, owner, sockets, tasks });
        Ok(())
    }

    async fn update_listener(&mut self, entity: Listener, addresses: &[SocketAddr]) -> Result<(), EntityError> {
        let name = entity.name.clone();
        let Some(mut running) = self.running.listeners.remove(&name) else { return Ok(()) };
        let updated = self.replace_listener(&mut running, entity, addresses).await;
        self.running.listeners.insert(name, running);
        updated
    }

    async fn replace_listener(
        &mut self,
        running: &mut RunningListener,
        entity: Listener,
        addresses: &[SocketAddr],
    ) -> Result<(), EntityError> {
        let (kind, name, old) = (EntityKind::Listener, entity.name.clone(), &running.entity);
        if *old == entity {
            return Ok(());
        }
        let owner = self.new_owner();
        let identity = self.access_identity(&name);
        let serving = self.serving(&entity, &identity, owner)?;
        let failed = |source| cannot_listen(kind, &name, &entity.host, entity.port, source);
        let own: Vec<_> = running.sockets.iter().map(|(address, _)| *address).collect();
        let is_moved =
            (&old.host, old.port, old.family) != (&entity.host, entity.port, entity.family) && own != addresses;
        let served = if is_moved {
            self.running.check_free((kind, &name), (&entity.host, entity.port), addresses)?;
            let open = || {
                let sockets = listener::bind_all(addresses, None)?;
                Ok((duplicate(&sockets)?, sockets))
            };
            let is_in_its_own_way = own.iter().any(|taken| any_overlap(*taken, addresses));
            if is_in_its_own_way {
                running.stop().await;
                running.sockets.clear();
            }
            match open() {
                Ok((served, sockets)) => {
                    running.sockets = sockets;
                    served
                }
                Err(error) => {
                    if is_in_its_own_way {
                        self.restore_listener(running, &own)?;
                    }
                    return Err(failed(error));
                }
            }
        } else {
            duplicate(&running.sockets).map_err(failed)?
        };
        running.stop().await;
        self.close_connections(running.owner, "the listener was changed");
        self.tell_listener(&name, &identity, &serving, &running.sockets);
        let tasks = self.serve(&serving, served);
        (running.entity, running.owner, running.tasks) = (entity, owner, tasks);
        Ok(())
    }

    /// Serves a listener as before, at the addresses that it had before.
    fn restore_listener(&self, running: &mut RunningListener, old: &[SocketAddr]) -> Result<(), EntityError> {
        let entity = &running.entity;
        let failed = |source| cannot_listen(EntityKind::Listener, &entity.name, &entity.host, entity.port, source);
        let serving = self.serving(entity, &self.access_identity(&entity.name), running.owner)?;
        running.sockets = listener::bind_all(old, None).map_err(failed)?;
        running.tasks = self.serve(&serving, duplicate(&running.sockets).map_err(failed)?);
        Ok(())
    }

    async fn delete_listener(&mut self, name: &str) {
        if let Some(mut listener) = self.running.listeners.remove(name) {
            listener.stop().await;
            self.close_connections(listener.owner, "the listener was deleted");
        }
        self.board.write(|states| {
            states.accesses.remove(name);
            states.http_listeners.remove(name);
        });
    }

    fn access_identity(&self, name: &str) -> String {
        let states = self.board.read();
        states.accesses.get(name).map(|state| state.identity.clone()).unwrap_or_default()
    }

    fn serving(&self, entity: &Listener, identity: &str, owner: Owner) -> Result<Serving, EntityError> {
        let user = (EntityKind::Listener, entity.name.as_str());
        match &entity.service {
            Service::Links { tls_profile: None, requires_authentication: true, .. } => {
                Err(EntityError::NoTls { entity: user.0.label(user.1) })
            }
            Service::Links { cost, tls_profile, requires_authentication, max_frame_bytes, idle_timeout } => {
                let tls = tls_profile.as_ref().map(|name| self.running.profile(name, user)).transpose()?;
                let access = Access {
                    name: entity.name.clone(),
                    router: self.core.id().to_string(),
                    cost: (*cost).into(),
                    tls,
                    requires_authentication: *requires_authentication,
                    max_frame_bytes: *max_frame_bytes,
                    idle_timeout: *idle_timeout,
                    identity: identity.to_owned(),
                    owner,
                    board: self.board.clone(),
                };
                Ok(Serving::Links(access.into()))
            }
            Service::Http { has_health, has_metrics } => {
                let (name, has_health, has_metrics) = (entity.name.clone(), *has_health, *has_metrics);
                Ok(Serving::Http(Site { name, has_health, has_metrics }))
            }
        }
    }

    fn serve(&self, serving: &Serving, sockets: Vec<tokio::net::TcpListener>) -> Vec<JoinHandle<()>> {
        let serve = |socket| match serving {
            Serving::Links(access) => tokio::spawn(access::serve(Access::clone(access), socket, self.control.clone())),
            Serving::Http(site) => {
                let view = View { routes: self.published.subscribe(), stats: Arc::clone(&self.shards.stats) };
                tokio::spawn(web::serve(site.clone(), socket, view))
            }
        };
        sockets.into_iter().map(serve).collect()
    }

    fn tell_listener(&self, name: &str, identity: &str, serving: &Serving, sockets: &[(SocketAddr, TcpListener)]) {
        let port = sockets.first().map_or(0, |(address, _)| address.port());
        self.board.write(|states| {
            states.accesses.remove(name);
            states.http_listeners.remove(name);
            match serving {
                Serving::Links(access) => {
                    let ordinal = access.tls.as_ref().map(|profile| profile.borrow().ordinal);
                    let state = AccessState { identity: identity.to_owned(), port, ordinal, links: 0, error: None };
                    states.accesses.insert(name.to_owned(), state);
                }
                Serving::Http(_) => drop(states.http_listeners.insert(name.to_owned(), HttpListenerState { port })),
            }
        });
    }

    // === TCP listeners ===

    fn create_tcp_listener(
        &mut self,
        entity: config::TcpListener,
        addresses: &[SocketAddr],
    ) -> Result<(), EntityError> {
        let (kind, name) = (EntityKind::TcpListener, entity.name.clone());
        self.running.check_free((kind, &name), (&entity.host, entity.port), addresses)?;
        // It is opened while the routing key has a consumer; that it can be is tried now.
        let failed = |source| cannot_listen(kind, &name, &entity.host, entity.port, source);
        let sockets = listener::bind_all(addresses, entity.backlog).map_err(failed)?;
        let addresses: Vec<_> = sockets.iter().map(|(address, _)| *address).collect();
        let (identity, connections) = (self.flow_ids.next(), Count::default());
        let port = addresses.first().map_or(0, SocketAddr::port);
        let state = TcpListenerState { identity, port, is_open: false, error: None, connections: connections.clone() };
        self.board.write(|states| drop(states.tcp_listeners.insert(name.clone(), state)));
        let number = self.new_number();
        let shard = ShardId((number as usize % self.shards.inboxes.len()) as u16);
        let mut listener =
            ClientListener::new(entity, addresses, (ListenerId(number), shard), connections, self.board.clone());
        if self.core.watch(&listener.key) {
            listener.open_with(sockets, &self.shards);
        }
        self.running.tcp_listeners.insert(name, listener);
        Ok(())
    }

    async fn update_tcp_listener(
        &mut self,
        entity: config::TcpListener,
        addresses: &[SocketAddr],
    ) -> Result<(), EntityError> {
        let (kind, name) = (EntityKind::TcpListener, entity.name.clone());
        let ClientListener { entity: old, addresses: own, .. } = &self.running.tcp_listeners[&name];
        let is_moved = (&old.host, old.port) != (&entity.host, entity.port) && own != addresses;
        if is_moved {
            self.running.check_free((kind, &name), (&entity.host, entity.port), addresses)?;
        }
        let Some(listener) = self.running.tcp_listeners.get_mut(&name) else { return Ok(()) };
        let mut sockets = Vec::new();
        if is_moved {
            let moved = listener.relocate(addresses, entity.backlog, &self.shards).await;
            let failed = |source| cannot_listen(kind, &name, &entity.host, entity.port, source);
            sockets = moved.map_err(failed)?;
        }
        let key: Arc<str> = Arc::from(entity.address.as_str());
        self.core.unwatch(&listener.key);
        let is_reachable = self.core.watch(&key);
        listener.replace(entity, sockets, is_reachable, &self.shards).await;
        Ok(())
    }

    async fn delete_tcp_listener(&mut self, name: &str) {
        if let Some(mut listener) = self.running.tcp_listeners.remove(name) {
            self.core.unwatch(&listener.key);
            listener.close(&self.shards, "it was deleted").await;
        }
        self.board.write(|states| drop(states.tcp_listeners.remove(name)));
    }

    // === TCP connectors ===

    fn create_tcp_connector(&mut self, entity: TcpConnector) {
        let (id, key) = (ConnectorId(self.new_number()), Arc::from(entity.address.as_str()));
        let (identity, connects) = (self.flow_ids.next(), Connects::default());
        let state = TcpConnectorState { identity, connects: connects.clone() };
        self.board.write(|states| drop(states.tcp_connectors.insert(entity.name.clone(), state)));
        let connector = RunningConnector { entity, id, key, connects };
        self.tell_target(&connector);
        self.core.add_connector(Instant::now(), id, &connector.key);
        self.running.tcp_connectors.insert(connector.entity.name.clone(), connector);
    }

    /// Streams go to the new place from now on; those under way stay where they are.
    fn update_tcp_connector(&mut self, entity: TcpConnector) {
        let Some(mut connector) = self.running.tcp_connectors.remove(&entity.name) else { return };
        connector.entity = entity;
        self.tell_target(&connector);
        let key = Arc::from(connector.entity.address.as_str());
        if key != connector.key {
            self.core.remove_connector(Instant::now(), connector.id, &connector.key);
            self.core.add_connector(Instant::now(), connector.id, &key);
            connector.key = key;
        }
        self.running.tcp_connectors.insert(connector.entity.name.clone(), connector);
    }

    async fn delete_tcp_connector(&mut self, name: &str) {
        let Some(connector) = self.running.tcp_connectors.remove(name) else { return };
        self.core.remove_connector(Instant::now(), connector.id, &connector.key);
        // The shards send nobody there before they forget where it is.
        self.act().await;
        self.shards.tell_all(|| Message::ForgetConnector { connector: connector.id });
        self.board.write(|states| drop(states.tcp_connectors.remove(name)));
    }

    fn tell_target(&self, connector: &RunningConnector) {
        let TcpConnector { host, port, .. } = &connector.entity;
        let target = Arc::new(Target::new(host, *port, connector.connects.clone()));
        self.shards.tell_all(|| Message::Connector { connector: connector.id, target: Arc::clone(&target) });
    }
}

impl RunningListener {
    /// Accepts no more. The sockets of the tasks are closed when this returns.
    async fn stop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        for task in self.tasks.drain(..) {
            let _ = task.await;
        }
    }
}

/// The same sockets once more, for a task to accept from.
fn duplicate(sockets: &[(SocketAddr, TcpListener)]) -> io::Result<Vec<tokio::net::TcpListener>> {
    sockets.iter().map(|(_, socket)| tokio::net::TcpListener::from_std(socket.try_clone()?)).collect()
}
