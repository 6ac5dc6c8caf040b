//! TCP connectors as they run: they consume their routing keys, and shards know where they are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use van_core::management::config::TcpConnector;
use van_core::plane::ConnectorId;

use super::Task;
use crate::amqp::Usage;
use crate::entities::{EntityError, EntityKind, TcpConnectorState, Traffic};
use crate::shard::Message;
use crate::tcp::{Found, Target, WorkloadTls};

/// A TCP connector.
pub(super) struct RunningConnector {
    pub(super) entity: TcpConnector,
    pub(super) id: ConnectorId,
    pub(super) key: Arc<str>,
    /// Its VanFlow identity.
    identity: String,
    pub(super) traffic: Traffic,
}

impl Task {
    pub(super) fn create_tcp_connector(&mut self, entity: TcpConnector) -> Result<(), EntityError> {
        let tls = self.workload_tls(&entity)?;
        let (id, key) = (ConnectorId(self.new_number()), Arc::from(entity.address.as_str()));
        let (identity, traffic) = (self.flow_ids.next(), self.new_traffic());
        let state = TcpConnectorState {
            identity: identity.clone(),
            key: entity.address.clone(),
            host: entity.host.clone(),
            port: entity.port,
            traffic: traffic.clone(),
        };
        self.board.write(|states| drop(states.tcp_connectors.insert(entity.name.clone(), state)));
        let connector = RunningConnector { entity, id, key, identity, traffic };
        self.tell_target(&connector, tls);
        self.core.add_connector(Instant::now(), id, &connector.key);
        self.running.tcp_connectors.insert(connector.entity.name.clone(), connector);
        Ok(())
    }

    /// Streams go to the new place from now on; those under way stay where they are. Under another key it is another
    /// connector: what is still on its way there for the old key is not for the new place.
    pub(super) async fn update_tcp_connector(&mut self, entity: TcpConnector) -> Result<(), EntityError> {
        let tls = self.workload_tls(&entity)?;
        let Some(mut connector) = self.running.tcp_connectors.remove(&entity.name) else { return Ok(()) };
        let (old_id, old_key) = (connector.id, Arc::clone(&connector.key));
        let has_other_key = *old_key != *entity.address;
        if has_other_key {
            (connector.id, connector.key) = (ConnectorId(self.new_number()), Arc::from(entity.address.as_str()));
        }
        connector.entity = entity;
        self.tell_target(&connector, tls);
        let TcpConnector { name, host, port, address, .. } = &connector.entity;
        self.board.write(|states| {
            if let Some(state) = states.tcp_connectors.get_mut(name) {
                (state.host, state.port, state.key) = (host.clone(), *port, address.clone());
            }
        });
        if has_other_key {
            self.core.remove_connector(Instant::now(), old_id, &old_key);
            self.core.add_connector(Instant::now(), connector.id, &connector.key);
            self.forget_connector(old_id).await;
        }
        self.running.tcp_connectors.insert(connector.entity.name.clone(), connector);
        Ok(())
    }

    pub(super) async fn delete_tcp_connector(&mut self, name: &str) {
        let Some(connector) = self.running.tcp_connectors.remove(name) else { return };
        self.core.remove_connector(Instant::now(), connector.id, &connector.key);
        self.forget_connector(connector.id).await;
        self.drop_streams(&connector.traffic);
        self.board.write(|states| drop(states.tcp_connectors.remove(name)));
    }

    /// The shards send nobody there before they forget where it is.
    async fn forget_connector(&mut self, connector: ConnectorId) {
        self.act().await;
        self.shards.tell_all(|| Message::ForgetConnector { connector });
    }

    fn workload_tls(&self, entity: &TcpConnector) -> Result<Option<WorkloadTls>, EntityError> {
        let Some(name) = &entity.tls_profile else { return Ok(None) };
        let profile = self.running.profile(name, (EntityKind::TcpConnector, &entity.name), Usage::Workloads)?;
        Ok(Some(WorkloadTls { profile, verifies_host: entity.verifies_host }))
    }

    fn tell_target(&self, connector: &RunningConnector, tls: Option<WorkloadTls>) {
        let TcpConnector { host, port, .. } = &connector.entity;
        let target = Arc::new(Target {
            found: Found::default(),
            identity: connector.identity.as_str().into(),
            host: host.clone(),
            port: *port,
            address: host.parse().ok().map(|ip| SocketAddr::new(ip, *port)),
            key: Arc::clone(&connector.key),
            tls,
            traffic: connector.traffic.clone(),
        });
        self.shards.tell_all(|| Message::Connector { connector: connector.id, target: Arc::clone(&target) });
    }
}
