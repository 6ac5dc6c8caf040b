//! What a router tells the network of itself, as VanFlow (docs/wire.md §9.1): its site, itself, and its entities.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{oneshot, watch};
use van_core::flow::{Attribute, Audience, BEACONS, Now, Record, RecordType, SHARED, Source};
use van_routing::Treatment;

use crate::control::sleep_until;
use crate::entities::{States, TcpListenerState};
use crate::messages::Messages;

/// The site that a router belongs to, as others shall see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteInfo {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What it is on: `linux`, `kubernetes`, …
    pub platform: String,
    /// The version of what runs it.
    pub version: String,
}

/// Who speaks.
#[derive(Debug)]
pub(crate) struct Speaker {
    /// Begins the identities of all its records.
    pub(crate) flow_id: String,
    /// The router's id.
    pub(crate) router: String,
    pub(crate) site: Option<SiteInfo>,
}

/// Tells until the router stops, then that all has ended.
pub(crate) async fn tell(
    speaker: Speaker,
    messages: Messages,
    mut states: watch::Receiver<Arc<States>>,
    mut stop: oneshot::Receiver<()>,
) {
    let mut source = Source::new(&format!("{}:0", speaker.flow_id));
    for record in speaker.records() {
        source.insert(now(), record);
    }
    let mut asked = messages.subscribe(source.direct(), Treatment::AnycastClosest);
    let mut routes = messages.watch_routes();
    routes.mark_changed();
    let mut told = BTreeMap::new();
    loop {
        let current = entities(&states.borrow_and_update(), source.id());
        tell_changes(&mut source, &mut told, current);
        send(&mut source, &messages);
        let timeout = source.poll_timeout();
        tokio::select! {
            _ = &mut stop => break,
            changed = states.changed() => if changed.is_err() { break },
            Ok(()) = routes.changed() => {
                let routes = routes.borrow_and_update().clone();
                source.set_audience(now(), Audience::Beacons, routes.consuming_routers(BEACONS));
                source.set_audience(now(), Audience::Shared, routes.consuming_routers(SHARED));
                source.set_audience(now(), Audience::Own, routes.consuming_routers(source.address()));
            }
            Some(_) = asked.recv() => source.handle_flush(now()),
            () = sleep_until(timeout) => source.handle_timeout(now()),
        }
    }
    source.end(now());
    send(&mut source, &messages);
}

fn send(source: &mut Source, messages: &Messages) {
    while let Some(outgoing) = source.poll_output() {
        // What is lost here is told again when somebody asks.
        let _ = messages.send(&outgoing.to, outgoing.message);
    }
}

/// Tells what is other than it was told before.
fn tell_changes(source: &mut Source, told: &mut BTreeMap<String, Record>, current: BTreeMap<String, Record>) {
    for identity in told.keys().filter(|identity| !current.contains_key(*identity)) {
        source.remove(now(), identity);
    }
    for (identity, record) in &current {
        match told.get(identity) {
            Some(known) if known == record => {}
            Some(_) => source.patch(now(), record),
            None => source.insert(now(), record.clone()),
        }
    }
    *told = current;
}

impl Speaker {
    /// The site and the router. The router's record has the source's own identity.
    fn records(&self) -> Vec<Record> {
        let identity = format!("{}:0", self.flow_id);
        let mut router = Record::new(RecordType::Router, identity)
            .with(Attribute::Name, format!("0/{}", self.router).as_str())
            .with(Attribute::Mode, "interior")
            .with(Attribute::BuildVersion, env!("CARGO_PKG_VERSION"));
        let Some(site) = &self.site else { return vec![router] };
        router = router.with(Attribute::Parent, site.id.as_str()).with(Attribute::Namespace, site.namespace.as_str());
        let site = Record::new(RecordType::Site, site.id.as_str())
            .with(Attribute::Name, site.name.as_str())
            .with(Attribute::Namespace, site.namespace.as_str())
            .with(Attribute::Platform, site.platform.as_str())
            .with(Attribute::BuildVersion, site.version.as_str());
        vec![site, router]
    }
}

/// The records of all entities, by identity.
fn entities(states: &States, router: &str) -> BTreeMap<String, Record> {
    let record = |kind, identity: &str, name: &str| {
        Record::new(kind, identity).with(Attribute::Parent, router).with(Attribute::Name, name)
    };
    let links = states.links.iter().map(|(name, link)| {
        let mut record = record(RecordType::Link, &link.identity, name)
            .with(Attribute::Role, "inter-router")
            .with(Attribute::Protocol, "amqp")
            .with(Attribute::LinkCost, u64::from(link.cost))
            .with(Attribute::DestinationPort, link.port.to_string().as_str())
            .with(Attribute::OperStatus, if link.is_up { "up" } else { "down" })
            .with(Attribute::DownCount, link.down_count);
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
    let accesses = states.accesses.iter().map(|(name, access)| {
        let mut record = record(RecordType::RouterAccess, &access.identity, name)
            .with(Attribute::Role, "inter-router")
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

fn micros(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

fn now() -> Now {
    let wall = micros(SystemTime::now());
    Now { instant: Instant::now(), wall_micros: wall }
}
