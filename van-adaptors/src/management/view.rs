//! The router as management shows it, at one moment.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use van_core::amqp::Value;
use van_core::management::Attributes;
use van_core::management::agent;
use van_core::management::rows::AddressRow;
use van_core::management::schema::operational::{Managed, integer};
use van_core::management::schema::{EntityType, Kind};
use van_core::plane::{Consumers, Routes};
use van_routing::Treatment;

use super::{LogLine, Logs, Settings};
use crate::control::Snapshot;
use crate::entities::{EntityKind, States, Traffic};
use crate::shard::Stats;

/// The protocol between routers; there is only one.
const PROTOCOL_VERSION: i32 = 1;

/// What there is.
pub(super) struct View<'a> {
    pub(super) settings: &'a Settings,
    pub(super) logs: Option<&'a dyn Logs>,
    pub(super) states: Arc<States>,
    pub(super) routes: Arc<Routes>,
    pub(super) stats: &'a [Stats],
    pub(super) snapshot: Snapshot,
    pub(super) uptime: Duration,
    pub(super) instance: u64,
    pub(super) topology_changed: SystemTime,
}

impl agent::Entities for View<'_> {
    fn list(&self, managed: &Managed) -> Vec<Attributes> {
        match managed.name {
            "router" => vec![self.router(managed)],
            "network" => vec![self.network(managed)],
            "log" => self.log_modules(managed),
            "policy" => vec![self.policy()],
            "router.node" => self.nodes(),
            "router.address" => self.addresses(),
            "connection" => self.snapshot.connections.iter().map(|row| row.attributes()).collect(),
            "router.link" => self.snapshot.links.iter().map(|row| row.attributes()).collect(),
            "routerMetrics" => vec![self.metrics()],
            "site" | "router.config.address" => self.settings.list(managed),
            _ => self.configured(managed),
        }
    }

    fn log(&self, limit: usize) -> Vec<[Value; 6]> {
        let lines = self.logs.map(|logs| logs.recent(limit)).unwrap_or_default();
        let line = |LogLine { module, level, text, place, at }| {
            let (file, line) =
                place.map_or((Value::Null, Value::Null), |(file, line)| (self::text(file), integer(line.into())));
            [self::text(&module), self::text(level), self::text(&text), file, line, integer(unix_seconds(at))]
        };
        lines.into_iter().map(line).collect()
    }
}

// === what is configured ===

impl View<'_> {
    fn router(&self, managed: &Managed) -> Attributes {
        let mut router = self.settings.list(managed).pop().unwrap_or_default();
        router.extend([
            ("id", text(self.routes.id.as_str())),
            ("version", text(env!("CARGO_PKG_VERSION"))),
            ("hostName", text(host_name().trim())),
            ("workerThreads", integer(self.routes.shards.into())),
        ]);
        router
    }

    fn network(&self, managed: &Managed) -> Attributes {
        let mut network = self.settings.list(managed).pop().unwrap_or_default();
        network.insert("name", text("network/0"));
        network
    }

    /// One for each module, whether something is said of it or not.
    fn log_modules(&self, managed: &Managed) -> Vec<Attributes> {
        let given = self.settings.list(managed);
        let modules = match EntityType::of("log").and_then(|log| log.attribute("module")).map(|module| module.kind) {
            Some(Kind::Word(modules)) => modules,
            _ => &[],
        };
        let said = |module: &str| given.iter().find(|log| log.get("module").and_then(Value::as_text) == Some(module));
        let log = |module: &&str| {
            let mut log = Attributes::from([("module", text(module))]);
            if *module == "DEFAULT" {
                log.extend([("enable", text("info+")), ("outputFile", text("stderr"))]);
                log.extend([("includeTimestamp", Value::Bool(true)), ("includeSource", Value::Bool(false))]);
            }
            log.extend(said(module).cloned().unwrap_or_default());
            log
        };
        modules.iter().map(log).collect()
    }

    /// What the router is made of, with how it is doing.
    fn configured(&self, managed: &Managed) -> Vec<Attributes> {
        let entities = self.states.configured.iter().filter(|((kind, _), _)| kind.to_string() == managed.label());
        entities
            .map(|((kind, name), attributes)| {
                let mut attributes = Attributes::clone(attributes);
                self.add_state(*kind, name, &mut attributes);
                attributes
            })
            .collect()
    }

    fn add_state(&self, kind: EntityKind, name: &str, attributes: &mut Attributes) {
        match kind {
            EntityKind::Connector => {
                let Some(link) = self.states.links.get(name) else { return };
                let status = match (link.is_up, &link.last_error) {
                    (true, _) => "SUCCESS",
                    (false, Some(_)) => "FAILED",
                    (false, None) => "CONNECTING",
                };
                let message = link.last_error.as_deref().filter(|_| !link.is_up).unwrap_or_default();
                attributes.extend([("connectionStatus", text(status)), ("connectionMsg", text(message))]);
                attributes.insert("failoverUrls", text(&link.failover_urls.join(", ")));
            }
            EntityKind::TcpListener => {
                let Some(listener) = self.states.tcp_listeners.get(name) else { return };
                attributes.extend([
                    ("operStatus", text(if listener.is_open { "up" } else { "down" })),
                    ("connectionMsg", text(&listener.message().unwrap_or_default())),
                ]);
                attributes.extend(counts(&listener.traffic));
            }
            EntityKind::ListenerAddress => {
                let Some(address) = self.states.listener_addresses.get(name) else { return };
                attributes.insert("connectionsOpened", count(address.connections.value()));
            }
            EntityKind::TcpConnector => {
                let Some(connector) = self.states.tcp_connectors.get(name) else { return };
                attributes.extend(counts(&connector.traffic));
            }
            _ => {}
        }
    }
}

/// What has gone through a tcpListener or tcpConnector.
fn counts(traffic: &Traffic) -> [(&'static str, Value); 4] {
    let totals = traffic.totals();
    [
        ("connectionsOpened", count(totals.opened)),
        ("connectionsClosed", count(totals.closed)),
        ("bytesIn", count(totals.octets_in)),
        ("bytesOut", count(totals.octets_out)),
    ]
}

// === what is so ===

impl View<'_> {
    fn nodes(&self) -> Vec<Attributes> {
        let table = &self.routes.table;
        let node = |id: &str, index: usize| {
            let name = format!("router.node/{id}");
            let own = table.topology().routers().find(|router| router.as_str() == id);
            let peers = own.into_iter().flat_map(|id| table.topology().peers(id));
            Attributes::from([
                ("name", text(&name)),
                ("identity", text(&name)),
                ("id", text(id)),
                ("protocolVersion", Value::Int(PROTOCOL_VERSION)),
                ("address", text(&format!("amqp:/_topo/0/{id}"))),
                ("linkState", Value::List(peers.map(|(peer, _)| text(peer.as_str())).collect())),
                ("validOrigins", Value::List(Vec::new())),
                ("index", integer(index as i64)),
            ])
        };
        let mut this = node(table.id().as_str(), 0);
        this.extend([
            ("nextHop", text("(self)")),
            ("instance", count(self.instance)),
            ("lastTopoChange", integer(unix_seconds(self.topology_changed))),
        ]);
        let others = table.routes().zip(1..).map(|((id, route), index)| {
            let origins = table.valid_origins(id).filter(|origin| *origin != table.id());
            let origins = origins.map(|origin| text(origin.as_str())).collect();
            let mut other = node(id.as_str(), index);
            other.extend([("cost", count(route.cost)), ("validOrigins", Value::List(origins))]);
            match route.next_hop == *id {
                true => other.insert("routerLink", count(route.link.0)),
                false => other.insert("nextHop", text(route.next_hop.as_str())),
            };
            other
        });
        std::iter::once(this).chain(others).collect()
    }

    fn addresses(&self) -> Vec<Attributes> {
        let watched: BTreeSet<_> = self.states.tcp_listeners.values().map(|listener| listener.key.as_str()).collect();
        let row = |key, consumers: &Consumers| AddressRow {
            key,
            distribution: distribution(consumers.treatment),
            in_process: consumers.subscribers.len() as u32,
            subscribers: (consumers.connectors.len() + consumers.links.len()) as u32,
            remotes: consumers.owners.iter().map(|(owner, _)| owner.to_string()).collect(),
            ..AddressRow::default()
        };
        let mobile = self.routes.addresses.iter().map(|(address, consumers)| AddressRow {
            is_watched: watched.contains(&**address),
            ..row(format!("M{address}"), consumers)
        });
        let edges = self.routes.edges.iter().map(|(id, consumers)| row(format!("H{id}"), consumers));
        let locals = self.routes.locals.iter().map(|(name, consumers)| row(format!("L{name}"), consumers));
        // A name of this router's own is known without saying that it is.
        let own = self.routes.locals.iter().filter(|(_, consumers)| !consumers.subscribers.is_empty());
        let own = own.map(|(name, consumers)| row(format!("M{name}"), consumers));
        let routers = self.routes.table.routes().map(|(id, _)| AddressRow {
            key: format!("R{id}"),
            distribution: "closest",
            remotes: vec![id.to_string()],
            ..AddressRow::default()
        });
        let mut rows: Vec<_> = mobile.chain(edges).chain(locals).chain(own).chain(routers).collect();
        // In an order that lasts from page to page.
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        rows.iter().map(AddressRow::attributes).collect()
    }

    /// Connections of AMQP clients.
    fn clients(&self) -> usize {
        self.snapshot.connections.iter().filter(|row| row.role == "normal").count()
    }

    /// There is none: everything is allowed.
    fn policy(&self) -> Attributes {
        Attributes::from([
            ("name", text("policy/None")),
            ("maxConnections", integer(65_535)),
            ("maxMessageSize", integer(0)),
            ("enableVhostPolicy", Value::Bool(false)),
            ("enableVhostNamePatterns", Value::Bool(false)),
            ("policyDir", text("")),
            ("defaultVhost", text("$default")),
            ("connectionsCurrent", integer(self.clients() as i64)),
            ("connectionsDenied", integer(0)),
            ("linksDenied", integer(0)),
            ("maxMessageSizeDenied", integer(0)),
            ("totalDenials", integer(0)),
        ])
    }

    fn metrics(&self) -> Attributes {
        let counters: Vec<_> = self.stats.iter().map(Stats::read).collect();
        let sum = |of: fn(&van_core::plane::Counters) -> u64| Value::Ulong(counters.iter().map(of).sum());
        let size = |value: usize| Value::Ulong(value as u64);
        let clients = self.clients();
        let per_protocol = vec![
            (text("tcp"), sum(|counters| counters.streams)),
            (text("amqp"), size(clients)),
            (text("http1"), Value::Ulong(0)),
            (text("http2"), Value::Ulong(0)),
        ];
        let mut metrics = Attributes::from([
            ("identity", text("1")),
            ("id", text(self.routes.id.as_str())),
            ("addrCount", size(self.addresses().len())),
            ("linkCount", size(self.snapshot.links.len())),
            ("nodeCount", size(self.routes.table.routes().count())),
            ("connectionCount", size(self.snapshot.connections.len())),
            ("droppedPresettledDeliveries", sum(|counters| counters.copies_dropped)),
            ("deliveriesIngress", sum(|counters| counters.accepted)),
            ("deliveriesEgress", sum(|counters| counters.connected)),
            ("linksBlocked", Value::Uint(0)),
            ("uptimeSeconds", Value::Uint(self.uptime.as_secs().try_into().unwrap_or(u32::MAX))),
            ("memoryUsage", memory("VmSize:")),
            ("residentMemoryUsage", memory("VmRSS:")),
            ("connectionCounters", Value::Map(per_protocol)),
            ("version", text(env!("CARGO_PKG_VERSION"))),
            ("", text(env!("CARGO_PKG_VERSION"))),
        ]);
        // Nothing of these is counted, or happens.
        for name in [
            "autoLinkCount",
            "presettledDeliveries",
            "acceptedDeliveries",
            "rejectedDeliveries",
            "releasedDeliveries",
            "modifiedDeliveries",
            "deliveriesDelayed1Sec",
            "deliveriesDelayed10Sec",
            "deliveriesStuck",
            "deliveriesTransit",
            "deliveriesIngressRouteContainer",
            "deliveriesEgressRouteContainer",
            "deliveriesIngressInterNetwork",
            "deliveriesEgressInterNetwork",
            "deliveriesRedirectedToFallback",
        ] {
            metrics.insert(name, Value::Ulong(0));
        }
        metrics
    }
}

fn distribution(treatment: Treatment) -> &'static str {
    match treatment {
        Treatment::MulticastFlood => "flood",
        Treatment::MulticastOnce => "multicast",
        Treatment::AnycastClosest => "closest",
        Treatment::AnycastBalanced => "balanced",
        Treatment::Unavailable => "unavailable",
    }
}

/// Octets of memory, as the system counts them; null if it does not say.
fn memory(name: &str) -> Value {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kibibytes.map_or(Value::Null, |kibibytes| Value::Ulong(kibibytes * 1024))
}

fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default()
}

fn unix_seconds(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn count(number: u64) -> Value {
    integer(number.try_into().unwrap_or(i64::MAX))
}
