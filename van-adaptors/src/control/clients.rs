//! The control plane's part of a tcpListener: its port is open while its routing key has a consumer.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use socket2::SockRef;
use tokio::sync::oneshot;
use tracing::{info, warn};
use van_core::management::config;
use van_core::plane::{ListenerId, ShardId};

use super::Task;
use super::entities::any_overlap;
use crate::entities::{Board, Count, EntityError, EntityKind, TcpListenerState, cannot_listen};
use crate::shard::{Message, Shards};
use crate::tcp::listener;

/// Why a listener is closed, usually.
pub(super) const UNCONSUMED: &str = "nobody consumes its routing key";

/// A tcpListener, open or not.
pub(super) struct ClientListener {
    pub(super) entity: config::TcpListener,
    pub(super) key: Arc<str>,
    pub(super) addresses: Vec<SocketAddr>,
    id: ListenerId,
    shard: ShardId,
    /// Those that are open. A shard accepts from a duplicate: so the port is not lost when it is to do so for another key.
    sockets: BTreeMap<SocketAddr, TcpListener>,
    /// Whether the routing key has a consumer.
    is_wanted: bool,
    connections: Count,
    board: Board,
}

impl ClientListener {
    pub(super) fn new(
        entity: config::TcpListener,
        addresses: Vec<SocketAddr>,
        (id, shard): (ListenerId, ShardId),
        connections: Count,
        board: Board,
    ) -> Self {
        let (key, sockets) = (Arc::from(entity.address.as_str()), BTreeMap::new());
        Self { entity, key, addresses, id, shard, sockets, is_wanted: false, connections, board }
    }

    /// The routing key has a consumer: opens what is not open yet.
    pub(super) fn open(&mut self, shards: &Shards) {
        self.open_with(Vec::new(), shards);
    }

    /// As [`ClientListener::open`], with sockets that were opened before.
    pub(super) fn open_with(&mut self, sockets: Vec<(SocketAddr, TcpListener)>, shards: &Shards) {
        self.is_wanted = true;
        let mut sockets: BTreeMap<_, _> = sockets.into_iter().collect();
        let mut error = None;
        for address in self.addresses.clone() {
            if self.sockets.contains_key(&address) {
                continue;
            }
            let socket = sockets.remove(&address).map_or_else(|| listener::bind(address, self.entity.backlog), Ok);
            match socket.and_then(|socket| self.serve(&socket, shards).map(|()| socket)) {
                Ok(socket) => {
                    info!(listener = %self.entity.name, %address, key = %self.key, "listener open");
                    self.sockets.insert(address, socket);
                }
                Err(fault) => error = Some(format!("cannot listen on {address}: {fault}")),
            }
        }
        self.tell(error);
    }

    /// Whether some of it should be open and is not.
    pub(super) fn is_missing(&self) -> bool {
        self.is_wanted && self.sockets.len() < self.addresses.len()
    }

    /// Closes it: its shard is told when this returns, and the port is free when the future is done.
    pub(super) fn close<'a>(&'a mut self, shards: &Shards, reason: &'a str) -> impl Future<Output = ()> + use<'a> {
        self.is_wanted = false;
        let was_open = !self.sockets.is_empty();
        let paused = self.pause(shards);
        async move {
            paused.await;
            self.sockets.clear();
            if was_open {
                info!(listener = %self.entity.name, key = %self.key, reason, "listener closed");
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

    /// Gives its addresses up for others. If those cannot be opened everything stays as it was.
    pub(super) async fn relocate(
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
                if self.is_wanted {
                    self.open(shards);
                }
                Err(error)
            }
        }
    }

    /// Becomes another entity, at its addresses of now, of which some may be open already.
    pub(super) async fn replace(
        &mut self,
        entity: config::TcpListener,
        sockets: Vec<(SocketAddr, TcpListener)>,
        is_reachable: bool,
        shards: &Shards,
    ) {
        // It listens: the system takes another length of the queue, or goes on with the old one.
        self.sockets.values().for_each(|socket| drop(SockRef::from(socket).listen(listener::backlog(entity.backlog))));
        let has_other_key = self.entity.address != entity.address;
        self.entity = entity;
        if has_other_key {
            self.pause(shards).await;
            self.key = Arc::from(self.entity.address.as_str());
        }
        if !is_reachable {
            self.close(shards, UNCONSUMED).await;
        } else if has_other_key || !sockets.is_empty() {
            let open = std::mem::take(&mut self.sockets).into_iter().chain(sockets).collect();
            self.open_with(open, shards);
        }
    }

    fn serve(&self, socket: &TcpListener, shards: &Shards) -> io::Result<()> {
        let (socket, key) = (socket.try_clone()?, Arc::clone(&self.key));
        let connections = self.connections.clone();
        shards.tell(self.shard, Message::Listen { listener: self.id, socket, key, connections });
        Ok(())
    }

    /// Its shard is told to accept no more when this returns, and does so when the future is done; clients may still come and
    /// wait.
    fn pause(&self, shards: &Shards) -> impl Future<Output = ()> + use<> {
        let is_closed = (!self.sockets.is_empty()).then(|| {
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
        let (name, is_open) = (&self.entity.name, !self.sockets.is_empty());
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
        self.running.check_free((kind, &name), (&entity.host, entity.port), addresses)?;
        // It is opened while the routing key has a consumer; that it can be is tried now.
        let failed = |source| cannot_listen(kind, &name, &entity.host, entity.port, source);
        let sockets = listener::bind_all(addresses, entity.backlog).map_err(failed)?;
        let addresses: Vec<_> = sockets.iter().map(|(address, _)| *address).collect();
        let (identity, connections) = (self.flow_ids.next(), Count::default());
        let port = addresses.first().map_or(0, SocketAddr::port);
        let state = TcpListenerState {
            identity,
            key: entity.address.clone(),
            host: entity.host.clone(),
            port,
            is_open: false,
            error: None,
            connections: connections.clone(),
        };
        self.board.write(|states| drop(states.tcp_listeners.insert(name.clone(), state)));
        let shard = ShardId((self.running.tcp_listeners.len() % self.shards.inboxes.len()) as u16);
        let place = (ListenerId(self.new_number()), shard);
        let mut listener = ClientListener::new(entity, addresses, place, connections, self.board.clone());
        if self.core.watch(&listener.key) {
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
        self.board.write(|states| {
            if let Some(state) = states.tcp_listeners.get_mut(&name) {
                (state.host, state.key) = (entity.host.clone(), entity.address.clone());
            }
        });
        listener.replace(entity, sockets, is_reachable, &self.shards).await;
        Ok(())
    }

    pub(super) async fn delete_tcp_listener(&mut self, name: &str) {
        if let Some(mut listener) = self.running.tcp_listeners.remove(name) {
            self.core.unwatch(&listener.key);
            listener.close(&self.shards, "it was deleted").await;
        }
        self.board.write(|states| drop(states.tcp_listeners.remove(name)));
    }
}
