//! The control plane's part of a tcpListener: its port is open while one of its routing keys has a consumer.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use socket2::SockRef;
use tokio::sync::{oneshot, watch};
use tracing::{info, warn};
use van_core::management::config::{self, ListenerAddress};
use van_core::plane::{ListenerId, ShardId};

use super::Task;
use super::entities::any_overlap;
use crate::amqp::Usage;
use crate::entities::{Board, Count, EntityError, EntityKind, ListenerAddressState, TcpListenerState, cannot_listen};
use crate::shard::{Message, Shards};
use crate::tcp::destinations::{Destination, Destinations};
use crate::tcp::{ClientTls, Entrance, listener};

/// Why a listener is closed, usually.
pub(super) const UNCONSUMED: &str = "nobody consumes its routing key";

/// A tcpListener, open or not.
pub(super) struct ClientListener {
    pub(super) entity: config::TcpListener,
    pub(super) addresses: Vec<SocketAddr>,
    id: ListenerId,
    shard: ShardId,
    /// Those that are open. A shard accepts from duplicates.
    sockets: BTreeMap<SocketAddr, TcpListener>,
    /// What those who accept know of it.
    entrance: watch::Sender<Arc<Entrance>>,
    board: Board,
}

impl ClientListener {
    pub(super) fn new(
        entity: config::TcpListener,
        addresses: Vec<SocketAddr>,
        (id, shard): (ListenerId, ShardId),
        entrance: Entrance,
        board: Board,
    ) -> Self {
        let (sockets, entrance) = (BTreeMap::new(), watch::Sender::new(Arc::new(entrance)));
        Self { entity, addresses, id, shard, sockets, entrance, board }
    }

    /// Opens what is not open yet.
    pub(super) fn open(&mut self, shards: &Shards) {
        self.open_with(Vec::new(), shards);
    }

    /// As [`ClientListener::open`], with sockets that were opened before.
    pub(super) fn open_with(&mut self, sockets: Vec<(SocketAddr, TcpListener)>, shards: &Shards) {
        let mut sockets: BTreeMap<_, _> = sockets.into_iter().collect();
        let mut error = None;
        for address in self.addresses.clone() {
            if self.sockets.contains_key(&address) {
                continue;
            }
            let socket = sockets.remove(&address).map_or_else(|| listener::bind(address, self.entity.backlog), Ok);
            match socket.and_then(|socket| self.serve(&socket, shards).map(|()| socket)) {
                Ok(socket) => {
                    info!(listener = %self.entity.name, %address, key = self.entity.address, "listener open");
                    self.sockets.insert(address, socket);
                }
                Err(fault) => error = Some(format!("cannot listen on {address}: {fault}")),
            }
        }
        self.tell(error);
    }

    /// Whether one of its routing keys has a consumer.
    fn is_wanted(&self) -> bool {
        self.entrance.borrow().destinations.is_reachable()
    }

    fn is_open(&self) -> bool {
        !self.sockets.is_empty()
    }

    /// Whether some of it should be open and is not.
    pub(super) fn is_missing(&self) -> bool {
        self.is_wanted() && self.sockets.len() < self.addresses.len()
    }

    /// Whether it is open, and should not be.
    pub(super) fn is_unwanted(&self) -> bool {
        self.is_open() && !self.is_wanted()
    }

    /// Closes it: its shard is told when this returns, and the port is free when the future is done.
    pub(super) fn close<'a>(&'a mut self, shards: &Shards, reason: &'a str) -> impl Future<Output = ()> + use<'a> {
        let was_open = self.is_open();
        let paused = self.pause(shards);
        async move {
            paused.await;
            self.sockets.clear();
            if was_open {
                info!(listener = %self.entity.name, key = self.entity.address, reason, "listener closed");
            }
            self.tell(None);
        }
    }

    /// Closes many, in the time that one takes.
    pub(super) async fn close_all<'a>(listeners: impl Iterator<Item = &'a mut Self>, shards: &Shards, reason: &'a str) {
        let closing: Vec<_> = listeners.map(|listener| listener.close(shards, reason)).collect();
        for closed in closing {
            closed.await;
        }
    }

    /// Opens or closes it, as its routing keys demand.
    async fn follow(&mut self, sockets: Vec<(SocketAddr, TcpListener)>, shards: &Shards) {
        if self.is_wanted() {
            self.open_with(sockets, shards);
        } else {
            self.close(shards, UNCONSUMED).await;
        }
    }

    /// Gives its addresses up for others. If those cannot be opened everything stays as it was.
    async fn relocate(
        &mut self,
        addresses: &[SocketAddr],
        backlog: Option<u32>,
        shards: &Shards,
    ) -> io::Result<Vec<(SocketAddr, TcpListener)>> {
        let is_in_its_own_way = self.addresses.iter().any(|taken| any_overlap(*taken, addresses));
        if is_in_its_own_way {
            self.pause(shards).await;
            self.sockets.clear();
        }
        match listener::bind_all(addresses, backlog) {
            Ok(sockets) => {
                self.pause(shards).await;
                self.sockets.clear();
                self.addresses = sockets.iter().map(|(address, _)| *address).collect();
                Ok(sockets)
            }
            Err(error) => {
                if self.is_wanted() {
                    self.open(shards);
                }
                Err(error)
            }
        }
    }

    /// Changes what those who accept know. Clients who are accepted from now on are served by it.
    fn change<T>(&self, change: impl FnOnce(&mut Entrance) -> T) -> T {
        let mut changed = None;
        self.entrance.send_modify(|entrance| changed = Some(change(Arc::make_mut(entrance))));
        changed.expect("it was called")
    }

    /// Some keys got a consumer, or lost their last. Whether that concerns it.
    pub(super) fn set_reachable(&self, keys: &BTreeMap<Arc<str>, bool>) -> bool {
        let concerned: Vec<_> = self.destinations(|it| Some((it.name.clone(), *keys.get(&it.key)?)));
        if concerned.is_empty() {
            return false;
        }
        self.change(|entrance| entrance.destinations.set_reachable(keys));
        self.board.write(|states| {
            for (address, is_reachable) in concerned {
                if let Some(state) = states.listener_addresses.get_mut(&address) {
                    state.is_reachable = is_reachable;
                }
            }
        });
        true
    }

    /// What is to be known of each of its routing keys.
    pub(super) fn destinations<T>(&self, known: impl FnMut(&Destination) -> Option<T>) -> Vec<T> {
        self.entrance.borrow().destinations.iter().filter_map(known).collect()
    }

    fn serve(&self, socket: &TcpListener, shards: &Shards) -> io::Result<()> {
        let (socket, entrance) = (socket.try_clone()?, self.entrance.subscribe());
        shards.tell(self.shard, Message::Listen { listener: self.id, socket, entrance });
        Ok(())
    }

    /// Its shard is told to accept no more when this returns, and does so when the future is done; clients may still come and
    /// wait.
    fn pause(&self, shards: &Shards) -> impl Future<Output = ()> + use<> {
        let is_closed = self.is_open().then(|| {
            let (closed, is_closed) = oneshot::channel();
            shards.tell(self.shard, Message::Unlisten { listener: self.id, closed });
            is_closed
        });
        async move {
            // A shard never waits for the control plane, so this takes no more than a turn of it.
            if let Some(is_closed) = is_closed {
                let _ = is_closed.await;
            }
        }
    }

    fn tell(&self, error: Option<String>) {
        let (name, is_open) = (&self.entity.name, self.is_open());
        let port = self.addresses.first().map_or(0, SocketAddr::port);
        self.board.write(|states| {
            let Some(state) = states.tcp_listeners.get_mut(name) else { return };
            if let Some(error) = &error
                && state.error.as_ref() != Some(error)
            {
                warn!(listener = %name, error, "a listener cannot be opened; trying again");
            }
            (state.port, state.is_open, state.error) = (port, is_open, error);
        });
    }
}

impl Task {
    pub(super) fn create_tcp_listener(
        &mut self,
        entity: config::TcpListener,
        addresses: &[SocketAddr],
    ) -> Result<(), EntityError> {
        let (kind, name) = (EntityKind::TcpListener, entity.name.clone());
        let tls = self.client_tls(&entity)?;
        self.running.check_free((kind, &name), (&entity.host, entity.port), addresses)?;
        // It is opened while the routing key has a consumer; that it can be is tried now.
        let failed = |source| cannot_listen(kind, &name, &entity.host, entity.port, source);
        let sockets = listener::bind_all(addresses, entity.backlog).map_err(failed)?;
        let addresses: Vec<_> = sockets.iter().map(|(address, _)| *address).collect();
        let (identity, traffic) = (self.flow_ids.next(), self.new_traffic());
        let state = TcpListenerState {
            identity: identity.clone(),
            key: entity.address.clone(),
            host: entity.host.clone(),
            port: addresses.first().map_or(0, SocketAddr::port),
            is_open: false,
            error: None,
            observer: entity.observer,
            traffic: traffic.clone(),
        };
        self.board.write(|states| drop(states.tcp_listeners.insert(name.clone(), state)));
        let shard = ShardId((self.running.tcp_listeners.len() % self.shards.inboxes.len()) as u16);
        let place = (ListenerId(self.new_number()), shard);
        let (observer, destinations) = (entity.observer, self.destinations(&entity));
        let (board, identity) = (self.board.clone(), identity.into());
        let entrance = Entrance { name: name.clone(), identity, observer, destinations, tls, traffic, board };
        let mut listener = ClientListener::new(entity, addresses, place, entrance, self.board.clone());
        if listener.is_wanted() {
            listener.open_with(sockets, &self.shards);
        }
        self.running.tcp_listeners.insert(name, listener);
        Ok(())
    }

    pub(super) async fn update_tcp_listener(
        &mut self,
        entity: config::TcpListener,
        addresses: &[SocketAddr],
    ) -> Result<(), EntityError> {
        let (kind, name) = (EntityKind::TcpListener, entity.name.clone());
        let tls = self.client_tls(&entity)?;
        let ClientListener { entity: old, addresses: own, .. } = &self.running.tcp_listeners[&name];
        let keeps_addresses = old.strategy.is_some() && entity.strategy.is_some();
        if !keeps_addresses {
            self.check_without_addresses(&name)?;
        }
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
        let old_keys = listener.destinations(|it| Some(Arc::clone(&it.key)));
        let destinations = (!keeps_addresses).then(|| self.destinations(&entity));
        let Some(listener) = self.running.tcp_listeners.get_mut(&name) else { return Ok(()) };
        if destinations.is_some() {
            old_keys.iter().for_each(|key| self.core.unwatch(key));
        }
        listener.change(|entrance| {
            (entrance.tls, entrance.observer) = (tls, entity.observer);
            match (destinations, entity.strategy) {
                (Some(destinations), _) => entrance.destinations = destinations,
                (None, Some(strategy)) => entrance.destinations.strategy = strategy,
                (None, None) => {}
            }
        });
        self.board.write(|states| {
            if let Some(state) = states.tcp_listeners.get_mut(&name) {
                (state.host, state.key, state.observer) =
                    (entity.host.clone(), entity.address.clone(), entity.observer);
            }
        });
        // It listens: the system takes another length of the queue, or goes on with the old one.
        let backlog = listener::backlog(entity.backlog);
        listener.sockets.values().for_each(|socket| drop(SockRef::from(socket).listen(backlog)));
        listener.entity = entity;
        listener.follow(sockets, &self.shards).await;
        Ok(())
    }

    pub(super) async fn delete_tcp_listener(&mut self, name: &str) -> Result<(), EntityError> {
        self.check_without_addresses(name)?;
        if let Some(mut listener) = self.running.tcp_listeners.remove(name) {
            listener.destinations(|it| Some(Arc::clone(&it.key))).iter().for_each(|key| self.core.unwatch(key));
            listener.close(&self.shards, "it was deleted").await;
            let traffic = listener.entrance.borrow().traffic.clone();
            self.drop_streams(&traffic);
        }
        self.board.write(|states| drop(states.tcp_listeners.remove(name)));
        Ok(())
    }

    /// Those that a tcpListener has by itself, watched from now on.
    fn destinations(&mut self, entity: &config::TcpListener) -> Destinations {
        match entity.strategy {
            Some(strategy) => Destinations::new(strategy),
            None => {
                let key = Arc::from(entity.address.as_str());
                let is_reachable = self.core.watch(&key);
                Destinations::only(key, is_reachable)
            }
        }
    }

    fn client_tls(&self, entity: &config::TcpListener) -> Result<Option<ClientTls>, EntityError> {
        let user = (EntityKind::TcpListener, entity.name.as_str());
        let requires_authentication = entity.requires_authentication;
        let Some(name) = &entity.tls_profile else {
            let no_tls = EntityError::NoTls { entity: user.0.label(user.1) };
            return if requires_authentication { Err(no_tls) } else { Ok(None) };
        };
        let usage = Usage::Clients { authenticated: requires_authentication };
        let profile = self.running.profile(name, user, usage)?;
        Ok(Some(ClientTls { profile, requires_authentication }))
    }

    fn check_without_addresses(&self, listener: &str) -> Result<(), EntityError> {
        match self.running.listener_addresses.values().find(|address| address.listener == listener) {
            Some(address) => Err(EntityError::InUse {
                kind: EntityKind::TcpListener,
                name: listener.to_owned(),
                user: EntityKind::ListenerAddress.label(&address.name),
            }),
            None => Ok(()),
        }
    }

    // === listener addresses ===

    pub(super) fn create_listener_address(&mut self, entity: ListenerAddress) -> Result<(), EntityError> {
        self.check_listener(&entity)?;
        let identity = self.flow_ids.next();
        self.place_listener_address(entity, identity, Count::default());
        Ok(())
    }

    pub(super) async fn update_listener_address(&mut self, entity: ListenerAddress) -> Result<(), EntityError> {
        self.check_listener(&entity)?;
        let state = self.board.read(|states| states.listener_addresses.get(&entity.name).cloned());
        let Some(ListenerAddressState { identity, connections, .. }) = state else { return Ok(()) };
        // The new one first: a listener that is open and may stay open is not closed in between.
        let old = self.running.listener_addresses.insert(entity.name.clone(), entity.clone());
        if let Some(old) = old.filter(|old| old.listener != entity.listener) {
            self.remove_destination(&old).await;
        }
        let listener = entity.listener.clone();
        self.place_listener_address(entity, identity, connections);
        self.close_unwanted(&listener).await;
        Ok(())
    }

    pub(super) async fn delete_listener_address(&mut self, name: &str) {
        if let Some(entity) = self.running.listener_addresses.remove(name) {
            self.remove_destination(&entity).await;
        }
        self.board.write(|states| drop(states.listener_addresses.remove(name)));
    }

    /// Whether it is there, and has several routing keys.
    fn check_listener(&self, entity: &ListenerAddress) -> Result<(), EntityError> {
        let (label, listener) = (EntityKind::ListenerAddress.label(&entity.name), entity.listener.clone());
        match self.running.tcp_listeners.get(&listener) {
            Some(it) if it.entity.strategy.is_some() => Ok(()),
            Some(_) => Err(EntityError::OneAddress { entity: label, listener }),
            None => Err(EntityError::NoListener { entity: label, listener }),
        }
    }

    /// Puts it in place of what its listener knew of it. The listener is opened if that takes no more than this.
    fn place_listener_address(&mut self, entity: ListenerAddress, identity: String, connections: Count) {
        let ListenerAddress { name, address, value, listener } = entity.clone();
        let key: Arc<str> = Arc::from(&*address);
        let is_reachable = self.core.watch(&key);
        let chosen = connections.clone();
        let state = ListenerAddressState {
            identity: identity.clone(),
            listener: listener.clone(),
            key: address,
            value,
            is_reachable,
            connections,
        };
        self.board.write(|states| drop(states.listener_addresses.insert(name.clone(), state)));
        self.running.listener_addresses.insert(name.clone(), entity);
        let Some(listener) = self.running.tcp_listeners.get_mut(&listener) else { return };
        let destination =
            Destination { name: name.clone(), identity: Some(identity.into()), key, value, is_reachable, chosen };
        let replaced = listener.change(|entrance| {
            let replaced = entrance.destinations.remove(&name);
            entrance.destinations.insert(destination);
            replaced
        });
        replaced.iter().for_each(|it| self.core.unwatch(&it.key));
        if listener.is_missing() {
            listener.open(&self.shards);
        }
    }

    async fn remove_destination(&mut self, entity: &ListenerAddress) {
        let Some(listener) = self.running.tcp_listeners.get_mut(&entity.listener) else { return };
        let removed = listener.change(|entrance| entrance.destinations.remove(&entity.name));
        removed.iter().for_each(|it| self.core.unwatch(&it.key));
        self.close_unwanted(&entity.listener).await;
    }

    async fn close_unwanted(&mut self, listener: &str) {
        if let Some(listener) = self.running.tcp_listeners.get_mut(listener).filter(|it| it.is_unwanted()) {
            listener.close(&self.shards, UNCONSUMED).await;
        }
    }
}
