//! TCP connectors as they run: they consume their routing keys, and shards know where they are.

use std::sync::Arc;
use std::time::Instant;

use van_core::management::config::TcpConnector;
use van_core::plane::ConnectorId;

use super::Task;
use crate::entities::{Connects, TcpConnectorState};
use crate::shard::{Message, Target};

/// A TCP connector.
pub(super) struct RunningConnector {
    pub(super) entity: TcpConnector,
    pub(super) id: ConnectorId,
    pub(super) key: Arc<str>,
    pub(super) connects: Connects,
}

impl Task {
    pub(super) fn create_tcp_connector(&mut self, entity: TcpConnector) {
        let (id, key) = (ConnectorId(self.new_number()), Arc::from(entity.address.as_str()));
        let (identity, connects) = (self.flow_ids.next(), Connects::default());
        let state = TcpConnectorState {
            identity,
            key: entity.address.clone(),
            host: entity.host.clone(),
            port: entity.port,
            connects: connects.clone(),
        };
        self.board.write(|states| drop(states.tcp_connectors.insert(entity.name.clone(), state)));
        let connector = RunningConnector { entity, id, key, connects };
        self.tell_target(&connector);
        self.core.add_connector(Instant::now(), id, &connector.key);
        self.running.tcp_connectors.insert(connector.entity.name.clone(), connector);
    }

    /// Streams go to the new place from now on; those under way stay where they are. Under another key it is another
    /// connector: what is still on its way there for the old key is not for the new place.
    pub(super) async fn update_tcp_connector(&mut self, entity: TcpConnector) {
        let Some(mut connector) = self.running.tcp_connectors.remove(&entity.name) else { return };
        let (old_id, old_key) = (connector.id, Arc::clone(&connector.key));
        let has_other_key = *old_key != *entity.address;
        if has_other_key {
            (connector.id, connector.key) = (ConnectorId(self.new_number()), Arc::from(entity.address.as_str()));
        }
        connector.entity = entity;
        self.tell_target(&connector);
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
    }

    pub(super) async fn delete_tcp_connector(&mut self, name: &str) {
        let Some(connector) = self.running.tcp_connectors.remove(name) else { return };
        self.core.remove_connector(Instant::now(), connector.id, &connector.key);
        self.forget_connector(connector.id).await;
        self.board.write(|states| drop(states.tcp_connectors.remove(name)));
    }

    /// The shards send nobody there before they forget where it is.
    async fn forget_connector(&mut self, connector: ConnectorId) {
        self.act().await;
        self.shards.tell_all(|| Message::ForgetConnector { connector });
    }

    fn tell_target(&self, connector: &RunningConnector) {
        let TcpConnector { host, port, .. } = &connector.entity;
        let target = Arc::new(Target::new(host, *port, connector.connects.clone()));
        self.shards.tell_all(|| Message::Connector { connector: connector.id, target: Arc::clone(&target) });
    }
}
