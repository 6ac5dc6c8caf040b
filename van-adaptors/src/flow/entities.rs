//! What a router says of its entities.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use van_core::flow::{Attribute, Record, RecordType};
use van_core::management::config::Role;

use crate::entities::{States, TcpListenerState};

/// The records of all entities, by identity.
pub(super) fn records(states: &States, router: &str) -> BTreeMap<String, Record> {
    let record = |kind, identity: &str, name: &str| {
        Record::new(kind, identity).with(Attribute::Parent, router).with(Attribute::Name, name)
    };
    let links = states.links.iter().map(|(name, link)| {
        let mut record = record(RecordType::Link, &link.identity, name)
            .with(Attribute::Role, link.role.name())
            .with(Attribute::Protocol, "amqp")
            .with(Attribute::LinkCost, u64::from(link.cost))
            .with(Attribute::DestinationPort, link.port.to_string().as_str())
            .with(Attribute::OperStatus, if link.is_up { "up" } else { "down" })
            .with(Attribute::DownCount, link.down_count)
            .with(Attribute::Octets, link.octets.sent.value())
            .with(Attribute::OctetsReverse, link.octets.received.value())
            .with(Attribute::HttpProxy, if link.has_proxy { "yes" } else { "no" });
        if let Some(peer) = &link.peer_access {
            record.set(Attribute::Peer, peer.as_str());
        }
        if let Some(ordinal) = link.ordinal {
            record.set(Attribute::ActiveTlsOrdinal, ordinal);
        }
        if let Some(error) = &link.last_error {
            record.set(Attribute::Reason, error.as_str());
        }
        if let Some(at) = link.up_since {
            record.set(Attribute::UpTimestamp, micros(at));
        }
        if let Some(at) = link.down_since {
            record.set(Attribute::DownTimestamp, micros(at));
        }
        record
    });
    let is_for_routers = |role| matches!(role, Role::InterRouter | Role::Edge | Role::InterEdge);
    let accesses = states.accesses.iter().filter(|(_, access)| is_for_routers(access.role)).map(|(name, access)| {
        let mut record = record(RecordType::RouterAccess, &access.identity, name)
            .with(Attribute::Role, access.role.name())
            .with(Attribute::LinkCount, access.links);
        if let Some(ordinal) = access.ordinal {
            record.set(Attribute::ActiveTlsOrdinal, ordinal);
        }
        record
    });
    // A listener with several routing keys is one for each of them.
    let listener_record = |name: &str, listener: &TcpListenerState, (identity, key, count): (&str, &str, u64)| {
        record(RecordType::Listener, identity, name)
            .with(Attribute::Protocol, "tcp")
            .with(Attribute::DestinationHost, listener.host.as_str())
            .with(Attribute::DestinationPort, listener.port.to_string().as_str())
            .with(Attribute::VanAddress, key)
            .with(Attribute::FlowCountL4, count)
    };
    let listeners = states.tcp_listeners.iter().filter(|(_, listener)| !listener.key.is_empty());
    let listeners = listeners.map(|(name, listener)| {
        listener_record(name, listener, (&listener.identity, &listener.key, listener.traffic.totals().opened))
    });
    let addresses = states.listener_addresses.values().filter_map(|address| {
        let listener = states.tcp_listeners.get(&address.listener)?;
        let own = (&*address.identity, &*address.key, address.connections.value());
        Some(listener_record(&address.listener, listener, own))
    });
    let connectors = states.tcp_connectors.iter().map(|(name, connector)| {
        record(RecordType::Connector, &connector.identity, name)
            .with(Attribute::Protocol, "tcp")
            .with(Attribute::DestinationHost, connector.host.as_str())
            .with(Attribute::DestinationPort, connector.port.to_string().as_str())
            .with(Attribute::VanAddress, connector.key.as_str())
            .with(Attribute::FlowCountL4, connector.traffic.totals().opened)
    });
    let consumers = states.consumers.values().map(|consumer| {
        record(RecordType::Connector, &consumer.identity, &consumer.key)
            .with(Attribute::Protocol, "tcp")
            .with(Attribute::VanAddress, consumer.key.as_str())
    });
    let all = links.chain(accesses).chain(listeners).chain(addresses).chain(connectors).chain(consumers);
    all.map(|record| (record.identity.to_string(), record)).collect()
}

pub(super) fn micros(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}
