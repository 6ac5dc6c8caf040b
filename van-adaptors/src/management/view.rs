//! The router as management shows it, at one moment.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use van_core::amqp::Value;
use van_core::management::Attributes;
use van_core::management::agent;
use van_core::management::rows::{AddressRow, ConnectionRow};
use van_core::management::schema::operational::{Managed, integer};
use van_core::management::schema::{EntityType, Kind};
use van_core::plane::{Consumers, Counters, Routes};
use van_core::router::AutoLinkStatus;
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
            "tcpConnection" => self.snapshot.streams.iter().map(|row| row.attributes()).collect(),
            "logStats" => self.log_counts(),
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

    /// Lines so far of every module, and of our parts that are of none.
    fn log_counts(&self) -> Vec<Attributes> {
        let mut counts = self.logs.map(|logs| logs.counts()).unwrap_or_default();
        let modules = Managed::of("log").map(|log| self.log_modules(log)).unwrap_or_default();
        for module in modules.iter().filter_map(|log| log.get("module")?.as_text()) {
            counts.entry(module.to_owned()).or_default();
        }
        let stats = |(module, [debug, info, warning, error]): (&String, &[u64; 4])| {
            Attributes::from([
                ("name", text(module)),
                ("identity", text(&format!("logStats/{module}"))),
                ("debugCount", count(*debug)),
                ("infoCount", count(*info)),
                ("warningCount", count(*warning)),
                ("errorCount", count(*error)),
                ("criticalCount", count(0)),
            ])
        };
        counts.iter().map(stats).collect()
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
            EntityKind::AutoLink => {
                let Some((status, link)) = self.snapshot.auto_links.get(name) else { return };
                let (status, error) = match status {
                    AutoLinkStatus::Inactive => ("inactive", None),
                    AutoLinkStatus::Attaching => ("attaching", None),
                    AutoLinkStatus::Active => ("active", None),
                    AutoLinkStatus::Failed(error) => ("failed", Some(error)),
                };
                attributes.insert("operStatus", text(status));
                attributes.extend(error.map(|error| ("lastError", text(error))));
                let link = link.and_then(|link| self.snapshot.link_ids.get(&link));
                attributes.extend(link.map(|link| ("linkRef", text(link))));
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
    /// An edge router knows no other.
    fn nodes(&self) -> Vec<Attributes> {
        if self.routes.edge.is_some() {
            return Vec::new();
        }
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
            other.extend(self.snapshot.instances.get(id).map(|instance| ("instance", count(*instance))));
            other
        });
        std::iter::once(this).chain(others).collect()
    }

    fn addresses(&self) -> Vec<Attributes> {
        let watched = &self.snapshot.watched;
        let unconsumed = watched.iter().filter(|(address, _)| !self.routes.addresses.contains_key(&***address));
        let unconsumed = unconsumed.map(|(address, treatment)| AddressRow {
            key: format!("M{address}"),
            distribution: distribution(*treatment),
            is_watched: true,
            ..AddressRow::default()
        });
        let row = |key, consumers: &Consumers| AddressRow {
            key,
            distribution: distribution(consumers.treatment),
            in_process: consumers.subscribers.len() as u32,
            subscribers: (consumers.connectors.len() + consumers.links.len()) as u32,
            remotes: consumers.owners.iter().map(|(owner, _)| owner.to_string()).collect(),
            deliveries: consumers.passages.passed(),
            priority: consumers.priority,
            is_watched: false,
        };
        let mobile = self.routes.addresses.iter().map(|(address, consumers)| AddressRow {
            is_watched: watched.contains_key(address),
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
        let consumed = mobile.chain(edges).chain(locals).chain(own).chain(routers);
        let mut rows: Vec<_> = consumed.chain(unconsumed).collect();
        // In an order that lasts from page to page.
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        rows.iter().map(AddressRow::attributes).collect()
    }

    /// Connections of AMQP clients.
    fn clients(&self) -> usize {
        let is_client =
            |row: &&ConnectionRow| row.protocol == "amqp" && ["normal", "route-container"].contains(&row.role);
        self.snapshot.connections.iter().filter(is_client).count()
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
            ("connectionsProcessed", count(self.snapshot.admitted)),
            (
                "connectionsCurrent",
                count(self.snapshot.connections.iter().filter(|row| row.protocol == "amqp").count() as u64),
            ),
            ("connectionsDenied", integer(0)),
            ("linksDenied", integer(0)),
            ("maxMessageSizeDenied", integer(0)),
            ("totalDenials", integer(0)),
        ])
    }

    fn metrics(&self) -> Attributes {
        let counters: Vec<_> = self.stats.iter().map(Stats::read).collect();
        let sum = |of: fn(&Counters) -> u64| Value::Ulong(counters.iter().map(of).sum());
        let size = |value: usize| Value::Ulong(value as u64);
        let (snapshot, ten_seconds) = (&self.snapshot, Duration::from_secs(10));
        let blocked = snapshot.links.iter().filter(|link| link.without_credit.is_some_and(|time| time > ten_seconds));
        let per_protocol = vec![
            (text("tcp"), sum(|counters| counters.streams)),
            (text("amqp"), size(self.clients())),
            (text("http1"), Value::Ulong(0)),
            (text("http2"), Value::Ulong(0)),
        ];
        Attributes::from([
            ("identity", text("1")),
            ("id", text(self.routes.id.as_str())),
            ("addrCount", size(self.addresses().len())),
            ("linkCount", size(snapshot.links.len())),
            ("nodeCount", size(self.routes.table.routes().count())),
            ("autoLinkCount", size(snapshot.auto_links.len())),
            ("connectionCount", size(snapshot.connections.len())),
            ("presettledDeliveries", sum(|counters| counters.ends.presettled)),
            ("droppedPresettledDeliveries", sum(|counters| counters.ends.dropped_presettled + counters.copies_dropped)),
            ("acceptedDeliveries", sum(|counters| counters.ends.accepted)),
            ("rejectedDeliveries", sum(|counters| counters.ends.rejected)),
            ("releasedDeliveries", sum(|counters| counters.ends.released)),
            ("modifiedDeliveries", sum(|counters| counters.ends.modified)),
            ("deliveriesDelayed1Sec", sum(|counters| counters.ends.delayed)),
            ("deliveriesDelayed10Sec", sum(|counters| counters.ends.much_delayed)),
            ("deliveriesStuck", Value::Ulong(snapshot.links.iter().map(|link| link.stuck).sum())),
            ("deliveriesIngress", sum(|counters| counters.passed.ingress)),
            ("deliveriesEgress", sum(|counters| counters.passed.egress)),
            ("deliveriesTransit", sum(|counters| counters.passed.transit)),
            ("deliveriesIngressRouteContainer", sum(|counters| counters.passed.ingress_route_container)),
            ("deliveriesEgressRouteContainer", sum(|counters| counters.passed.egress_route_container)),
            // There are no links between networks, and no fallback addresses.
            ("deliveriesIngressInterNetwork", Value::Ulong(0)),
            ("deliveriesEgressInterNetwork", Value::Ulong(0)),
            ("deliveriesRedirectedToFallback", Value::Ulong(0)),
            ("linksBlocked", Value::Uint(blocked.count() as u32)),
            ("uptimeSeconds", Value::Uint(self.uptime.as_secs().try_into().unwrap_or(u32::MAX))),
            ("memoryUsage", memory("VmSize:")),
            ("residentMemoryUsage", memory("VmRSS:")),
            ("connectionCounters", Value::Map(per_protocol)),
            ("version", text(env!("CARGO_PKG_VERSION"))),
            ("", text(env!("CARGO_PKG_VERSION"))),
        ])
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
