//! Listeners for links and for HTTP as they run.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::task::JoinHandle;
use van_core::amqp::Mechanism;
use van_core::management::config::{self, Listener, Role, Service};
use van_core::plane::{PeerKind, Purpose};

use super::entities::{any_overlap, usage};
use super::{Owner, Task};
use crate::amqp::access::{self, Access};
use crate::amqp::{ESTABLISH_TIMEOUT, Users};
use crate::entities::{AccessState, EntityError, EntityKind, HttpListenerState, cannot_listen};
use crate::tcp::listener;
use crate::web::{self, Site, View};

/// A listener.
pub(super) struct RunningListener {
    pub(super) entity: Listener,
    pub(super) owner: Owner,
    /// Its VanFlow identity while it is for links.
    identity: String,
    /// Duplicates of those that are served: so the port is not lost when they are to be served otherwise.
    pub(super) sockets: Vec<(SocketAddr, TcpListener)>,
    tasks: Vec<JoinHandle<()>>,
}

/// What a listener serves.
enum Serving {
    Links(Box<Access>),
    Http(Site),
}

impl Task {
    pub(super) fn create_listener(&mut self, entity: Listener, addresses: &[SocketAddr]) -> Result<(), EntityError> {
        let (name, owner) = (entity.name.clone(), self.new_owner());
        let identity = self.flow_ids.next();
        let serving = self.serving(&entity, &identity, owner)?;
        self.running.check_free((EntityKind::Listener, &name), (&entity.host, entity.port), addresses)?;
        let failed = |source| cannot_listen(EntityKind::Listener, &name, &entity.host, entity.port, source);
        let sockets = listener::bind_all(addresses, None).map_err(failed)?;
        let served = duplicate(&sockets).map_err(failed)?;
        self.tell_listener(&name, &serving, &sockets);
        let tasks = self.serve(&serving, served);
        self.running.listeners.insert(name, RunningListener { entity, owner, identity, sockets, tasks });
        Ok(())
    }

    pub(super) async fn update_listener(
        &mut self,
        entity: Listener,
        addresses: &[SocketAddr],
    ) -> Result<(), EntityError> {
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
        let serving = self.serving(&entity, &running.identity, owner)?;
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
        self.tell_listener(&name, &serving, &running.sockets);
        let tasks = self.serve(&serving, served);
        (running.entity, running.owner, running.tasks) = (entity, owner, tasks);
        Ok(())
    }

    /// Serves a listener as before, at the addresses that it had before.
    fn restore_listener(&self, running: &mut RunningListener, old: &[SocketAddr]) -> Result<(), EntityError> {
        let entity = &running.entity;
        let failed = |source| cannot_listen(EntityKind::Listener, &entity.name, &entity.host, entity.port, source);
        let serving = self.serving(entity, &running.identity, running.owner)?;
        running.sockets = listener::bind_all(old, None).map_err(failed)?;
        running.tasks = self.serve(&serving, duplicate(&running.sockets).map_err(failed)?);
        Ok(())
    }

    pub(super) async fn delete_listener(&mut self, name: &str) {
        if let Some(mut listener) = self.running.listeners.remove(name) {
            listener.stop().await;
            self.close_connections(listener.owner, "the listener was deleted");
        }
        self.board.write(|states| {
            states.accesses.remove(name);
            states.http_listeners.remove(name);
        });
    }

    /// Shows how many links a listener has that were not taken over, once one of its connections has come or gone.
    pub(super) fn count_links(&self, owner: Owner, changed: Purpose) {
        let is_link = |purpose| matches!(purpose, Purpose::Control | Purpose::Links(PeerKind::Edge | PeerKind::Mesh));
        let listener = self.running.listeners.iter().find(|(_, listener)| listener.owner == owner);
        let Some((name, _)) = listener.filter(|_| is_link(changed)) else { return };
        let own = self.connections.values().filter(|it| it.owner == owner && it.closer.is_some());
        let links = own.filter(|it| is_link(it.purpose)).count() as u64;
        self.board.access(name, |state| state.links = links);
    }

    fn serving(&self, entity: &Listener, identity: &str, owner: Owner) -> Result<Serving, EntityError> {
        let user = (EntityKind::Listener, entity.name.as_str());
        let tls = match &entity.service {
            Service::Amqp(access) | Service::Http { access, .. } => &access.amqp.tls_profile,
        };
        let tls = tls.as_ref().map(|name| self.running.profile(name, user, usage(&entity.service))).transpose()?;
        match &entity.service {
            Service::Amqp(access) if tls.is_none() && !can_authenticate(access) => {
                Err(EntityError::NoTls { entity: user.0.label(user.1) })
            }
            Service::Amqp(access) => {
                Ok(Serving::Links(Access { tls, ..self.access(&entity.name, access, identity, owner) }.into()))
            }
            Service::Http { has_health, has_metrics, has_websockets, access, .. } => {
                let (name, has_health, has_metrics) = (entity.name.clone(), *has_health, *has_metrics);
                // Networks are not connected: nobody is to come in by that role.
                let is_served = *has_websockets && access.amqp.role != Role::InterNetwork;
                let access = is_served.then(|| self.access(&name, access, identity, owner));
                let amqp = access.map(|access| (Arc::new(access), self.control.clone()));
                Ok(Serving::Http(Site { name, has_health, has_metrics, tls, amqp }))
            }
        }
    }

    /// How AMQP is taken in, in clear.
    fn access(&self, name: &str, access: &config::Access, identity: &str, owner: Owner) -> Access {
        let amqp = &access.amqp;
        Access {
            name: name.to_owned(),
            role: amqp.role,
            router: self.core.id().to_string(),
            cost: amqp.cost.into(),
            peer: match amqp.role {
                Role::Normal | Role::RouteContainer => Some(PeerKind::Client),
                Role::Edge => Some(PeerKind::Edge),
                Role::InterEdge => Some(PeerKind::Mesh),
                Role::InterRouter | Role::InterNetwork => None,
            },
            has_programs: amqp.role == Role::RouteContainer,
            tls: None,
            requires_authentication: access.requires_authentication,
            mechanisms: amqp.sasl_mechanisms.as_ref().map(|names| mechanisms(names)),
            users: access.users_file.as_deref().map(Users::new),
            within_tls: None,
            requires_tls: access.requires_tls,
            amqp: amqp.clone(),
            handshake_timeout: access.handshake_timeout.unwrap_or(ESTABLISH_TIMEOUT),
            failover: amqp.failover.clone(),
            identity: identity.to_owned(),
            owner,
            board: self.board.clone(),
        }
    }

    fn serve(&self, serving: &Serving, sockets: Vec<tokio::net::TcpListener>) -> Vec<JoinHandle<()>> {
        let serve = |socket| match serving {
            Serving::Links(access) => tokio::spawn(access::serve(Access::clone(access), socket, self.control.clone())),
            Serving::Http(site) => {
                let (stats, memory) = (Arc::clone(&self.shards.stats), Arc::clone(&self.shards.memory));
                let view = View { routes: self.published.subscribe(), stats, memory };
                tokio::spawn(web::serve(site.clone(), socket, view))
            }
        };
        sockets.into_iter().map(serve).collect()
    }

    fn tell_listener(&self, name: &str, serving: &Serving, sockets: &[(SocketAddr, TcpListener)]) {
        let port = sockets.first().map_or(0, |(address, _)| address.port());
        self.board.write(|states| {
            states.accesses.remove(name);
            states.http_listeners.remove(name);
            match serving {
                Serving::Links(access) => {
                    let ordinal = access.tls.as_ref().map(|profile| profile.borrow().ordinal);
                    let identity = access.identity.clone();
                    let state = AccessState { identity, role: access.role, port, ordinal, links: 0, error: None };
                    states.accesses.insert(name.to_owned(), state);
                }
                Serving::Http(_) => drop(states.http_listeners.insert(name.to_owned(), HttpListenerState { port })),
            }
        });
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

/// Whether peers that are to authenticate can do so without TLS: clients by a password.
fn can_authenticate(access: &config::Access) -> bool {
    let is_for_clients = matches!(access.amqp.role, Role::Normal | Role::RouteContainer);
    !access.requires_authentication || is_for_clients && access.users_file.is_some()
}

/// Those of names that are known.
fn mechanisms(names: &[String]) -> Vec<Mechanism> {
    names.iter().filter_map(|name| Mechanism::from_name(name)).collect()
}

/// The same sockets once more, for a task to accept from.
fn duplicate(sockets: &[(SocketAddr, TcpListener)]) -> io::Result<Vec<tokio::net::TcpListener>> {
    sockets.iter().map(|(_, socket)| tokio::net::TcpListener::from_std(socket.try_clone()?)).collect()
}
