//! Links as they run.

use tokio::task::JoinHandle;
use van_core::Random;
use van_core::management::config::{Connector, Role};
use van_core::plane::{ConnectionId, PeerKind};
use van_core::router::Place;

use super::{Owner, Task};
use crate::amqp::Usage;
use crate::amqp::link::{self, DataConnections, Link};
use crate::entities::{EntityError, EntityKind, LinkState};

/// A link.
pub(super) struct RunningLink {
    pub(super) entity: Connector,
    pub(super) owner: Owner,
    pub(super) task: JoinHandle<()>,
}

impl Task {
    pub(super) fn create_link(&mut self, entity: Connector) -> Result<(), EntityError> {
        let link = self.link(&entity)?;
        let state = LinkState {
            identity: self.flow_ids.next(),
            port: entity.port,
            cost: link.cost,
            role: entity.amqp.role,
            is_standing_by: entity.amqp.role == Role::Edge && self.uplink.is_some(),
            failover_urls: link.places.iter().map(Place::to_string).collect(),
            has_proxy: entity.proxy_profile.is_some(),
            ..LinkState::default()
        };
        self.board.write(|states| drop(states.links.insert(entity.name.clone(), state)));
        self.run_link(entity, link);
        Ok(())
    }

    pub(super) fn update_link(&mut self, entity: Connector) -> Result<(), EntityError> {
        if self.running.links[&entity.name].entity == entity {
            return Ok(());
        }
        let link = self.link(&entity)?;
        self.end_link(&entity.name, "the link was changed");
        self.board.link(&entity.name, |state| {
            if state.is_up {
                state.is_down_for("the link was changed");
            }
            (state.port, state.cost, state.has_proxy) = (entity.port, link.cost, entity.proxy_profile.is_some());
            state.role = entity.amqp.role;
            state.failover_urls = link.places.iter().map(Place::to_string).collect();
        });
        self.run_link(entity, link);
        Ok(())
    }

    pub(super) fn delete_link(&mut self, name: &str) {
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

    /// Notes which connection to an interior router is in use: the links of the others stand by.
    pub(super) fn set_uplink(&mut self, uplink: Option<ConnectionId>) {
        if std::mem::replace(&mut self.uplink, uplink) == uplink {
            return;
        }
        let owner = uplink.and_then(|id| self.connections.get(&id)).map(|connection| connection.owner);
        let links = self.running.links.values().filter(|link| link.entity.amqp.role == Role::Edge);
        self.board.write(|states| {
            for link in links {
                if let Some(state) = states.links.get_mut(&link.entity.name) {
                    state.is_standing_by = owner.is_some_and(|owner| owner != link.owner);
                }
            }
        });
    }

    /// What a link is to know; without profile there is none.
    fn link(&mut self, entity: &Connector) -> Result<Link, EntityError> {
        let user = (EntityKind::Connector, entity.name.as_str());
        let tls =
            entity.amqp.tls_profile.as_ref().map(|name| self.running.profile(name, user, Usage::Links)).transpose()?;
        let proxy = entity.proxy_profile.as_ref().map(|name| self.running.proxy(name, user)).transpose()?;
        let scheme = if tls.is_some() { "amqps" } else { "amqp" };
        let mut places = vec![Place { scheme: Some(scheme.into()), host: entity.host.clone(), port: entity.port }];
        places.extend(entity.amqp.failover.iter().cloned());
        let data_connections = entity.data_connections.map_or(self.data_connections, DataConnections::Exactly);
        let peer = match entity.amqp.role {
            Role::Normal | Role::RouteContainer => Some(PeerKind::Client),
            Role::Edge => Some(PeerKind::Interior),
            Role::InterEdge => Some(PeerKind::Mesh),
            Role::InterRouter | Role::InterNetwork => None,
        };
        Ok(Link {
            name: entity.name.clone(),
            router: self.core.id().to_string(),
            places,
            family: entity.family,
            proxy,
            cost: entity.amqp.cost.into(),
            peer,
            is_program: entity.amqp.role == Role::RouteContainer,
            tls,
            verifies_host: entity.verifies_host,
            mechanisms: entity.amqp.sasl_mechanisms.clone(),
            login: entity.sasl_username.clone().zip(entity.sasl_password.clone()),
            data_connections: if peer.is_some() { DataConnections::Exactly(0) } else { data_connections },
            amqp: entity.amqp.clone(),
            owner: self.new_owner(),
            board: self.board.clone(),
        })
    }
}
