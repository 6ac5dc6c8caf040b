//! The configuration file: a JSON list of `["<entity type>", {attributes}]` pairs, as skupper-router reads it.
//!
//! Everything is checked before anything starts, and all faults are told at once, each with the entity it is in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value;
use van_routing::{Cost, RouterId, Timing, Treatment};

use super::schema::{ENTITY_TYPES, EntityType, Kind};
use crate::plane::MAX_SHARDS;
use crate::router::Distribution;

/// What a router is to be and do.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// Its id, unique in the network.
    pub id: RouterId,
    /// The times of the routing protocol.
    pub timing: Timing,
    /// Threads of the data plane; one per core if unset.
    pub shards: Option<u16>,
    /// Data connections of each link we dial; one per shard if unset.
    pub data_connections: Option<u16>,
    /// How messages are spread over consumers.
    pub distribution: Distribution,
    /// Where certificates are, by name.
    pub tls_profiles: BTreeMap<String, TlsProfile>,
    /// Links to dial.
    pub connectors: Vec<Connector>,
    /// Where links are accepted, and where HTTP is served.
    pub listeners: Vec<Listener>,
    /// Where clients of routing keys come in.
    pub tcp_listeners: Vec<TcpListener>,
    /// Workloads that consume routing keys.
    pub tcp_connectors: Vec<TcpConnector>,
    /// What is logged, in the order of the file.
    pub logs: Vec<Log>,
    /// What of the file was understood and is not in this version, one sentence each.
    pub warnings: Vec<String>,
}

/// Certificates of links: files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsProfile {
    /// The CA that signs peers.
    pub ca_cert_file: Option<String>,
    /// Our certificate.
    pub cert_file: Option<String>,
    /// Its key.
    pub private_key_file: Option<String>,
    /// The generation of these.
    pub ordinal: u64,
}

/// A link to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connector {
    /// Its name.
    pub name: String,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The only kind of address to use, if not any.
    pub family: Option<Family>,
    /// The link's cost; the higher of both ends counts.
    pub cost: Cost,
    /// The name of a TLS profile; without one the link is in clear.
    pub tls_profile: Option<String>,
    /// Whether the peer's certificate must name the host.
    pub verifies_host: bool,
    /// Largest frame accepted, in octets.
    pub max_frame_bytes: Option<u32>,
    /// Silence after which the peer is lost.
    pub idle_timeout: Duration,
    /// Data connections, in place of the router's.
    pub data_connections: Option<u16>,
}

/// Where connections are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// The host; empty for all.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The only kind of address to use, if not any.
    pub family: Option<Family>,
    /// What is served.
    pub service: Service,
}

/// A kind of internet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What a listener serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// Links of other routers.
    Links {
        /// The link's cost; the higher of both ends counts.
        cost: Cost,
        /// The name of a TLS profile; without one the links are in clear.
        tls_profile: Option<String>,
        /// Whether peers must authenticate.
        requires_authentication: bool,
        /// Largest frame accepted, in octets.
        max_frame_bytes: Option<u32>,
        /// Silence after which a peer is lost.
        idle_timeout: Duration,
    },
    /// Health and metrics.
    Http {
        /// `/healthz` is there.
        has_health: bool,
        /// `/metrics` is there.
        has_metrics: bool,
    },
}

/// Where clients of a routing key come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpListener {
    /// Its name.
    pub name: String,
    /// The host; empty for all.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The routing key.
    pub address: String,
    /// Connections that may wait to be accepted.
    pub backlog: Option<u32>,
}

/// A workload that consumes a routing key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpConnector {
    /// Its name.
    pub name: String,
    /// The workload's host.
    pub host: String,
    /// The workload's port.
    pub port: u16,
    /// The routing key.
    pub address: String,
}

/// What of one module is logged, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// The module; `DEFAULT` for all that have no entry of their own.
    pub module: String,
    /// Levels: `info+`, `error`, `trace,debug`, `none`.
    pub enable: String,
    /// A file, `stderr` or `stdout`.
    pub output_file: Option<String>,
}

/// Why a configuration cannot be used: all that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(pub Vec<Fault>);

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where: `tcpListener "web"`, or empty for the file as a whole.
    pub place: String,
    /// What, and what to do.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.0.iter().enumerate() {
            write!(f, "{}{fault}", if n > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => f.write_str(&self.message),
            place => write!(f, "{place}: {}", self.message),
        }
    }
}

impl Configuration {
    /// Reads a configuration. `variable` gives the values of `${…}`, mostly from the environment.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut reading = Reading::default();
        let entities = reading.entities(text, &variable);
        let configuration = reading.configuration(&entities);
        match configuration {
            Some(configuration) if reading.faults.is_empty() => Ok(configuration),
            _ => Err(ConfigError(reading.faults)),
        }
    }
}

/// An entity of a known type.
struct Entity {
    kind: &'static EntityType,
    /// Its name, or one made of host and port.
    name: String,
    place: String,
    /// All that are given; `None` for one that is faulty, of which nothing more is to be said.
    attributes: BTreeMap<String, Option<Setting>>,
}

#[derive(Debug, Clone)]
enum Setting {
    Text(String),
    Number(u64),
    Truth(bool),
    Map,
}

#[derive(Default)]
struct Reading {
    faults: Vec<Fault>,
    warnings: Vec<String>,
    /// The places of the entities that are not started.
    left_out: BTreeSet<String>,
}

// === from text to entities ===

impl Reading {
    fn fault(&mut self, place: &str, message: impl Into<String>) {
        self.faults.push(Fault { place: place.to_owned(), message: message.into() });
    }

    fn entities(&mut self, text: &str, variable: &impl Fn(&str) -> Option<String>) -> Vec<Entity> {
        let items = match serde_json::from_str(text) {
            Ok(Value::Array(items)) => items,
            Ok(_) => {
                self.fault("", "expected a JSON list of [\"type\", {attributes}] pairs");
                return Vec::new();
            }
            Err(error) => {
                self.fault("", format!("not JSON: {error}"));
                return Vec::new();
            }
        };
        let read = |(n, item)| Some((n + 1, self.entity(n + 1, item, variable)?));
        let mut entities: Vec<_> = items.iter().enumerate().filter_map(read).collect();
        name_apart(&mut entities);
        entities.into_iter().map(|(_, entity)| entity).collect()
    }

    fn entity(&mut self, number: usize, item: &Value, variable: &impl Fn(&str) -> Option<String>) -> Option<Entity> {
        let place = format!("entity {number}");
        let (Some(Value::String(type_name)), Some(Value::Object(attributes)), None) =
            (item.get(0), item.get(1), item.get(2))
        else {
            self.fault(&place, "expected a pair [\"type\", {attributes}]");
            return None;
        };
        let Some(kind) = EntityType::of(type_name) else {
            let known = ENTITY_TYPES.iter().map(|kind| kind.name);
            self.fault(&place, format!("unknown entity type `{type_name}`{}", suggestion(type_name, known)));
            return None;
        };
        let label = ["name", "id", "module", "prefix", "address", "port"].iter().find_map(|key| attributes.get(*key));
        let place = match label {
            Some(Value::String(label)) => format!("{} \"{label}\"", kind.name),
            Some(label) => format!("{} {label}", kind.name),
            None => format!("{} (entity {number})", kind.name),
        };
        let read = |(key, value)| (String::clone(key), self.attribute(kind, &place, key, value, variable));
        let settings: BTreeMap<_, _> = attributes.iter().map(read).collect();
        for missing in
            kind.attributes.iter().filter(|attribute| attribute.is_required && !attributes.contains_key(attribute.name))
        {
            self.fault(&place, format!("`{}` is missing", missing.name));
        }
        let text = |key| Some(settings.get(key)?.as_ref()?.to_text());
        let name = text("name").unwrap_or_else(|| ["host", "port"].map(|key| text(key).unwrap_or_default()).join(":"));
        Some(Entity { kind, name, place, attributes: settings })
    }

    fn attribute(
        &mut self,
        kind: &'static EntityType,
        place: &str,
        key: &str,
        value: &Value,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Option<Setting> {
        let kind = match kind.attribute(key) {
            Some(attribute) => attribute.kind,
            None if key == "name" => Kind::Text,
            None => {
                let known = kind.attributes.iter().map(|attribute| attribute.name).chain(["name"]);
                self.fault(place, format!("unknown attribute `{key}`{}", suggestion(key, known)));
                return None;
            }
        };
        let value = match expand(value, variable) {
            Ok(value) => value,
            Err(name) => {
                self.fault(place, format!("`{key}` uses ${{{name}}}, which is not set in the environment"));
                return None;
            }
        };
        let setting = Setting::read(kind, &value);
        if setting.is_none() {
            self.fault(place, format!("`{key}` must be {kind}, not {value}"));
        }
        setting
    }
}

/// Entities without a name are called by host and port, which several may share: the later also by their number.
fn name_apart(entities: &mut [(usize, Entity)]) {
    let mut seen = BTreeSet::new();
    for (number, entity) in entities {
        if !seen.insert((entity.kind.name, entity.name.clone())) && !entity.has("name") {
            entity.name = format!("{} (entity {number})", entity.name);
        }
    }
}

/// Replaces each `${NAME}`. The name of the first variable that is not set otherwise.
fn expand(value: &Value, variable: &impl Fn(&str) -> Option<String>) -> Result<Value, String> {
    let Value::String(text) = value else { return Ok(value.clone()) };
    let (mut out, mut rest) = (String::new(), text.as_str());
    while let Some((before, behind)) = rest.split_once("${") {
        let Some((name, after)) = behind.split_once('}') else { break };
        out += before;
        out += &variable(name).ok_or(name)?;
        rest = after;
    }
    Ok(Value::String(out + rest))
}

/// ` (did you mean …?)` if a known name is near.
fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let nearest = known.map(|known| (distance(name, known), known)).min();
    match nearest {
        Some((distance, known)) if distance <= 1 + name.len() / 4 => format!(" (did you mean `{known}`?)"),
        _ => String::new(),
    }
}

/// How many characters have to be changed, added or left out (Levenshtein), regardless of case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.to_lowercase().chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

impl Setting {
    /// A value of a kind, which the original also takes in quotes, or without.
    fn read(kind: Kind, value: &Value) -> Option<Self> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            Value::Object(_) if kind == Kind::Map => return Some(Self::Map),
            _ => return None,
        };
        match kind {
            Kind::Text => Some(Self::Text(text)),
            Kind::Number => text.parse().ok().map(Self::Number),
            Kind::Positive => text.parse().ok().filter(|number| *number > 0).map(Self::Number),
            Kind::Port => port(&text).map(Self::Number),
            Kind::Truth => truth(&text).map(Self::Truth),
            Kind::Word(words) => words.contains(&text.as_str()).then_some(Self::Text(text)),
            Kind::Map => None,
        }
    }

    fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Truth(truth) => truth.to_string(),
            Self::Map => String::new(),
        }
    }
}

/// A number, or one of the two names that the original's files use.
fn port(text: &str) -> Option<u64> {
    match text {
        "amqp" => Some(5672),
        "amqps" => Some(5671),
        _ => text.parse::<u16>().ok().map(u64::from),
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("a text"),
            Self::Number => f.write_str("a whole number"),
            Self::Positive => f.write_str("a whole number above 0"),
            Self::Port => f.write_str("a port (0 to 65535, amqp or amqps)"),
            Self::Truth => f.write_str("true or false"),
            Self::Word(words) => write!(f, "one of {}", words.join(", ")),
            Self::Map => f.write_str("a map"),
        }
    }
}

// === from entities to a configuration ===

impl Entity {
    fn setting(&self, key: &str) -> Option<&Setting> {
        self.attributes.get(key)?.as_ref()
    }

    fn text(&self, key: &str) -> Option<String> {
        self.setting(key).map(Setting::to_text)
    }

    fn number(&self, key: &str) -> Option<u64> {
        match self.setting(key) {
            Some(Setting::Number(number)) => Some(*number),
            _ => None,
        }
    }

    fn truth(&self, key: &str, default: bool) -> bool {
        match self.setting(key) {
            Some(Setting::Truth(truth)) => *truth,
            _ => default,
        }
    }

    /// Whether it is given, faulty or not.
    fn has(&self, key: &str) -> bool {
        self.attributes.contains_key(key)
    }
}

/// Data connections that a link may have.
pub const MAX_DATA_CONNECTIONS: u16 = 16;

/// Source: skupper-router, `idleTimeoutSeconds`.
const IDLE_TIMEOUT: Duration = Duration::from_secs(16);

/// What a peer can be told of a time, which is milliseconds in 32 bits (AMQP 1.0 §2.7.1). No other is to be longer.
const MAX_SECONDS: u64 = u32::MAX as u64 / 1000;

/// What listen(2) takes.
const MAX_BACKLOG: u64 = i32::MAX as u64;

impl Reading {
    fn configuration(&mut self, entities: &[Entity]) -> Option<Configuration> {
        self.check_names(entities);
        let of = |name: &'static str| entities.iter().filter(move |entity| entity.kind.name == name);
        let Some(router) = of("router").next() else {
            if self.faults.is_empty() {
                self.fault(
                    "",
                    "there is no `router` entity: add [\"router\", {\"id\": \"…\", \"mode\": \"interior\"}]",
                );
            }
            return None;
        };
        for entity in entities.iter().filter(|entity| !entity.kind.is_served) {
            self.leave_out(entity, "entities of this type are not in this version");
        }
        let tls_profiles: BTreeMap<_, _> =
            of("sslProfile").map(|entity| (entity.name.clone(), TlsProfile::read(entity))).collect();
        self.check_profiles(entities, &tls_profiles);
        let id = self.router_id(router);
        let configuration = Configuration {
            timing: self.timing(router),
            shards: self.within(router, "workerThreads", 1..=MAX_SHARDS.into()),
            data_connections: self.data_connections(router),
            distribution: self.distribution(router, of("address")),
            connectors: of("connector").filter_map(|entity| self.connector(entity)).collect(),
            listeners: of("listener").filter_map(|entity| self.listener(entity)).collect(),
            tcp_listeners: of("tcpListener").filter_map(|entity| self.tcp_listener(entity)).collect(),
            tcp_connectors: of("tcpConnector").filter_map(|entity| self.tcp_connector(entity)).collect(),
            logs: of("log").map(Log::read).collect(),
            tls_profiles,
            warnings: Vec::new(),
            id: id?,
        };
        self.note_unserved(entities);
        Some(Configuration { warnings: std::mem::take(&mut self.warnings), ..configuration })
    }

    /// Notes that an entity is understood and not started.
    fn leave_out(&mut self, entity: &Entity, why: &str) {
        self.warnings.push(format!("{} is not started: {why}", entity.place));
        self.left_out.insert(entity.place.clone());
    }

    /// Notes what a user would take as effective, and is not.
    fn note_unserved(&mut self, entities: &[Entity]) {
        for entity in entities.iter().filter(|entity| !self.left_out.contains(&entity.place)) {
            for attribute in entity.kind.attributes {
                let (Some(harmless), Some(value)) = (attribute.unserved, entity.text(attribute.name)) else { continue };
                let harmless = match attribute.name {
                    // In clear there is no certificate to authenticate by.
                    "saslMechanisms" if !entity.has("sslProfile") => &["ANONYMOUS"],
                    _ => harmless,
                };
                if !harmless.contains(&value.as_str()) {
                    self.warnings.push(no_effect(entity, attribute.name));
                }
            }
        }
    }

    fn check_names(&mut self, entities: &[Entity]) {
        let mut seen = BTreeSet::new();
        for entity in entities {
            let key = if entity.kind.is_single { String::new() } else { entity.name.clone() };
            let has_name = entity.kind.is_single || entity.text("name").is_some();
            if has_name && !seen.insert((entity.kind.name, key)) {
                let what = if entity.kind.is_single { "there can be only one" } else { "the name is used twice" };
                self.fault(&entity.place, what);
            }
            if entity.kind.name == "sslProfile" && !entity.has("name") {
                self.fault(&entity.place, "`name` is missing");
            }
        }
    }

    fn check_profiles(&mut self, entities: &[Entity], profiles: &BTreeMap<String, TlsProfile>) {
        for entity in entities {
            if let Some(profile) = entity.text("sslProfile")
                && !profiles.contains_key(&profile)
            {
                let hint = suggestion(&profile, profiles.keys().map(String::as_str));
                self.fault(&entity.place, format!("there is no sslProfile named `{profile}`{hint}"));
            }
        }
    }

    fn router_id(&mut self, router: &Entity) -> Option<RouterId> {
        match router.text("mode").as_deref() {
            Some("interior") => {}
            Some("edge") => self.fault(&router.place, "mode edge is not in this version; use interior"),
            None if router.has("mode") => {}
            // The original's default, too.
            _ => self.fault(&router.place, "mode standalone is not in this version; use \"mode\": \"interior\""),
        }
        if !router.has("id") {
            self.fault(&router.place, "`id` is missing: the router's name, unique in the network");
        }
        let id = router.text("id")?;
        RouterId::new(&id).map_err(|error| self.fault(&router.place, format!("`id`: {error}"))).ok()
    }

    fn data_connections(&mut self, entity: &Entity) -> Option<u16> {
        let text = entity.text("dataConnectionCount").filter(|text| text != "auto")?;
        let count = text.parse().ok().filter(|count| *count <= MAX_DATA_CONNECTIONS);
        if count.is_none() {
            let most = MAX_DATA_CONNECTIONS;
            let fault = format!("`dataConnectionCount` must be auto or a number from 0 to {most}, not {text}");
            self.fault(&entity.place, fault);
        }
        count
    }

    fn distribution<'a>(&mut self, router: &Entity, addresses: impl Iterator<Item = &'a Entity>) -> Distribution {
        let mut distribution = Distribution::default();
        if let Some(default) = router.text("defaultDistribution").and_then(|word| treatment(&word)) {
            distribution.default = default;
        }
        for entity in addresses {
            let treatment =
                entity.text("distribution").map_or(Some(Treatment::AnycastBalanced), |word| treatment(&word));
            match (entity.has("prefix"), entity.has("pattern")) {
                (true, false) => {
                    let prefix = entity.text("prefix").unwrap_or_default().trim_matches('/').to_owned();
                    distribution.prefixes.extend(treatment.map(|treatment| (prefix, treatment)));
                }
                (false, true) => self.leave_out(entity, "patterns are not in this version, prefixes are"),
                _ => self.fault(&entity.place, "either `prefix` or `pattern` is needed, not both"),
            }
        }
        distribution
    }

    fn cost(&mut self, entity: &Entity) -> Cost {
        let cost = entity.number("cost").unwrap_or(1);
        let cost = u32::try_from(cost).map_err(|_| cost.to_string());
        match cost.and_then(|cost| Cost::new(cost).map_err(|error| error.to_string())) {
            Ok(cost) => cost,
            Err(error) => {
                self.fault(&entity.place, format!("`cost`: {error}"));
                Cost::ONE
            }
        }
    }

    /// A number within limits, if it is given.
    fn within<T: TryFrom<u64>>(&mut self, entity: &Entity, key: &str, limits: RangeInclusive<u64>) -> Option<T> {
        let number = entity.number(key)?;
        let allowed = T::try_from(number).ok().filter(|_| limits.contains(&number));
        if allowed.is_none() {
            let (least, most) = limits.into_inner();
            self.fault(&entity.place, format!("`{key}` must be from {least} to {most}, not {number}"));
        }
        allowed
    }

    fn seconds(&mut self, entity: &Entity, key: &str, default: Duration) -> Duration {
        self.within(entity, key, 0..=MAX_SECONDS).map_or(default, Duration::from_secs)
    }

    fn max_frame_bytes(&mut self, entity: &Entity) -> Option<u32> {
        self.within(entity, "maxFrameSize", 512..=1_048_576)
    }

    fn timing(&mut self, router: &Entity) -> Timing {
        let defaults = Timing::default();
        Timing {
            hello_interval: self.seconds(router, "helloIntervalSeconds", defaults.hello_interval),
            hello_max_age: self.seconds(router, "helloMaxAgeSeconds", defaults.hello_max_age),
            advertisement_interval: self.seconds(router, "raIntervalSeconds", defaults.advertisement_interval),
            flux_advertisement_interval: self.seconds(
                router,
                "raIntervalFluxSeconds",
                defaults.flux_advertisement_interval,
            ),
            link_state_max_age: self.seconds(router, "remoteLsMaxAgeSeconds", defaults.link_state_max_age),
            unreachable_holdoff: self.seconds(router, "unreachableHoldoffSeconds", defaults.unreachable_holdoff),
            ..defaults
        }
    }

    fn port(&mut self, entity: &Entity) -> Option<u16> {
        if !entity.has("port") && !entity.kind.attribute("port").is_some_and(|port| port.is_required) {
            self.fault(&entity.place, "`port` is missing");
        }
        entity.number("port").and_then(|port| u16::try_from(port).ok())
    }

    fn connector(&mut self, entity: &Entity) -> Option<Connector> {
        let connector = Connector {
            name: entity.name.clone(),
            host: entity.text("host").unwrap_or_else(|| "127.0.0.1".into()),
            family: family(entity),
            cost: self.cost(entity),
            tls_profile: entity.text("sslProfile"),
            verifies_host: entity.truth("verifyHostname", true),
            max_frame_bytes: self.max_frame_bytes(entity),
            idle_timeout: self.seconds(entity, "idleTimeoutSeconds", IDLE_TIMEOUT),
            data_connections: self.data_connections(entity),
            port: self.port(entity)?,
        };
        match entity.text("role").as_deref() {
            Some("inter-router") if entity.has("proxyProfile") => {
                self.leave_out(entity, "proxies are not in this version")
            }
            Some("inter-router") => return Some(connector),
            role => self.leave_out(entity, &format!("role {} is not in this version", role.unwrap_or("normal"))),
        }
        None
    }

    fn listener(&mut self, entity: &Entity) -> Option<Listener> {
        let is_http = ["http", "healthz", "metrics"].iter().any(|key| entity.truth(key, false));
        let service = match (is_http, entity.text("role").as_deref()) {
            (true, _) => {
                if entity.truth("websockets", false) {
                    self.warnings.push(format!("{}: websockets are not in this version", entity.place));
                }
                // It is for routers; this listener is open to all.
                if entity.truth("authenticatePeer", false) {
                    self.warnings.push(no_effect(entity, "authenticatePeer"));
                }
                Service::Http { has_health: entity.truth("healthz", true), has_metrics: entity.truth("metrics", true) }
            }
            (false, Some("inter-router")) => Service::Links {
                cost: self.cost(entity),
                tls_profile: entity.text("sslProfile"),
                requires_authentication: entity.truth("authenticatePeer", false),
                max_frame_bytes: self.max_frame_bytes(entity),
                idle_timeout: self.seconds(entity, "idleTimeoutSeconds", IDLE_TIMEOUT),
            },
            (false, role) => {
                self.leave_out(entity, &format!("role {} is not in this version", role.unwrap_or("normal")));
                return None;
            }
        };
        let needs_tls = entity.truth("requireSsl", false) || entity.truth("requireEncryption", false);
        if needs_tls && !entity.has("sslProfile") {
            self.fault(&entity.place, "TLS is required, and no `sslProfile` says with which certificates");
        }
        if is_http && entity.has("sslProfile") {
            self.leave_out(entity, "HTTP over TLS is not in this version");
            return None;
        }
        let host = entity.text("host").unwrap_or_default();
        Some(Listener { name: entity.name.clone(), host, port: self.port(entity)?, family: family(entity), service })
    }

    fn tcp_listener(&mut self, entity: &Entity) -> Option<TcpListener> {
        let later = ["sslProfile", "authenticatePeer", "multiAddressStrategy"];
        let is_later = |key: &&&str| match **key {
            "authenticatePeer" => entity.truth("authenticatePeer", false),
            "multiAddressStrategy" => entity.text("multiAddressStrategy").is_some_and(|strategy| strategy != "none"),
            key => entity.has(key),
        };
        if let Some(key) = later.iter().find(is_later) {
            self.leave_out(entity, &format!("`{key}` is not in this version"));
            return None;
        }
        if !entity.has("address") {
            self.fault(&entity.place, "`address` is missing: the routing key");
        }
        let backlog = self.within(entity, "backlog", 0..=MAX_BACKLOG).filter(|backlog| *backlog > 0);
        let (host, address) = (entity.text("host").unwrap_or_default(), entity.text("address")?);
        Some(TcpListener { name: entity.name.clone(), host, port: self.port(entity)?, address, backlog })
    }

    fn tcp_connector(&mut self, entity: &Entity) -> Option<TcpConnector> {
        if entity.has("sslProfile") {
            self.leave_out(entity, "`sslProfile` is not in this version");
            return None;
        }
        let (host, port, address) = (entity.text("host")?, self.port(entity)?, entity.text("address")?);
        Some(TcpConnector { name: entity.name.clone(), host, port, address })
    }
}

fn no_effect(entity: &Entity, key: &str) -> String {
    format!("{}: `{key}` is read but has no effect in this version", entity.place)
}

fn family(entity: &Entity) -> Option<Family> {
    match entity.text("socketAddressFamily")?.as_str() {
        "IPv4" => Some(Family::V4),
        _ => Some(Family::V6),
    }
}

fn treatment(word: &str) -> Option<Treatment> {
    match word {
        "multicast" => Some(Treatment::MulticastOnce),
        "closest" => Some(Treatment::AnycastClosest),
        "balanced" => Some(Treatment::AnycastBalanced),
        "unavailable" => Some(Treatment::Unavailable),
        _ => None,
    }
}

impl TlsProfile {
    fn read(entity: &Entity) -> Self {
        Self {
            ca_cert_file: entity.text("caCertFile"),
            cert_file: entity.text("certFile"),
            private_key_file: entity.text("privateKeyFile"),
            ordinal: entity.number("ordinal").unwrap_or(0),
        }
    }
}

impl Log {
    fn read(entity: &Entity) -> Self {
        Self {
            module: entity.text("module").unwrap_or_else(|| "DEFAULT".into()),
            enable: entity.text("enable").unwrap_or_else(|| "default".into()),
            output_file: entity.text("outputFile"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Configuration, ConfigError> {
        Configuration::parse(text, |name| (name == "HOSTNAME").then(|| "pod-1".to_owned()))
    }

    #[track_caller]
    fn check_faults(entities: &str, expected: &[&str]) {
        let text = format!(r#"[["router", {{"id": "a", "mode": "interior"}}], {entities}]"#);
        let faults: Vec<_> = parse(&text).expect_err("faulty").0.iter().map(Fault::to_string).collect();
        assert_eq!(faults, expected);
    }

    #[test]
    fn what_skupper_writes_is_read() {
        let text = r#"[
            ["router", {"id": "west-${HOSTNAME}", "mode": "interior", "helloMaxAgeSeconds": "3", "metadata": "{}"}],
            ["sslProfile", {"name": "west", "certFile": "/c/tls.crt", "privateKeyFile": "/c/tls.key", "caCertFile": "/c/ca.crt"}],
            ["connector", {"name": "west", "role": "inter-router", "host": "203.0.113.9", "port": "55671", "cost": 5, "sslProfile": "west"}],
            ["listener", {"name": "@9090", "role": "normal", "port": 9090, "http": true, "httpRootDir": "disabled", "healthz": true, "metrics": true}],
            ["listener", {"name": "ir", "role": "inter-router", "host": "0.0.0.0", "port": 55671, "sslProfile": "west", "saslMechanisms": "EXTERNAL", "authenticatePeer": true}],
            ["listener", {"name": "amqp", "host": "localhost", "port": 5672}],
            ["address", {"prefix": "mc", "distribution": "multicast"}],
            ["tcpConnector", {"name": "connector/db@10.1.2.3", "host": "10.1.2.3", "port": "5432", "address": "db"}],
            ["tcpListener", {"name": "listener/backend", "port": "1024", "address": "backend"}],
            ["tcpListener", {"name": "listener/secure", "port": "1025", "address": "secure", "sslProfile": "west"}],
            ["tcpListener", {"name": "multiAddress/mk", "port": "1026", "multiAddressStrategy": "priority"}],
            ["listenerAddress", {"name": "mk/primary", "address": "primary", "value": 1, "listener": "multiAddress/mk"}],
            ["log", {"module": "ROUTER_CORE", "enable": "error+"}],
            ["site", {"name": "west", "platform": "linux", "namespace": "west", "version": "2"}]
        ]"#;
        let configuration = parse(text).expect("valid");
        assert_eq!(configuration.id.as_str(), "west-pod-1");
        assert_eq!(u32::from(configuration.connectors[0].cost), 5);
        assert_eq!(configuration.listeners.len(), 2);
        assert_eq!((configuration.tcp_listeners.len(), configuration.tcp_connectors.len()), (1, 1));
        assert_eq!(
            configuration.warnings,
            [
                "listenerAddress \"mk/primary\" is not started: entities of this type are not in this version",
                "listener \"amqp\" is not started: role normal is not in this version",
                "tcpListener \"listener/secure\" is not started: `sslProfile` is not in this version",
                "tcpListener \"multiAddress/mk\" is not started: `multiAddressStrategy` is not in this version",
            ]
        );
    }

    #[test]
    fn all_faults_are_told_at_once() {
        check_faults(
            r#"["tcpListner", {}], ["tcpListener", {"name": "web", "adress": "x", "port": "http:"}], ["tcpConnector", {"name": "c", "host": "h"}]"#,
            &[
                "entity 2: unknown entity type `tcpListner` (did you mean `tcpListener`?)",
                "tcpListener \"web\": unknown attribute `adress` (did you mean `address`?)",
                "tcpListener \"web\": `port` must be a port (0 to 65535, amqp or amqps), not \"http:\"",
                "tcpConnector \"c\": `address` is missing",
                "tcpConnector \"c\": `port` is missing",
                "tcpListener \"web\": `address` is missing: the routing key",
            ],
        );
    }

    #[test]
    fn values_of_the_wrong_kind_are_named_with_what_is_expected() {
        check_faults(
            r#"["connector", {"name": "l", "role": "inter-ruter", "port": 1, "cost": "0", "verifyHostname": "maybe"}]"#,
            &[
                "connector \"l\": `cost` must be a whole number above 0, not \"0\"",
                "connector \"l\": `role` must be one of normal, inter-router, route-container, edge, inter-edge, inter-network, not \"inter-ruter\"",
                "connector \"l\": `verifyHostname` must be true or false, not \"maybe\"",
            ],
        );
    }

    /// A value that is faulty was also told to be missing, or to be the default.
    #[test]
    fn a_faulty_value_is_told_once() {
        check_faults(
            r#"["tcpListener", {"name": "l", "port": 1, "address": {}}], ["connector", {"role": "inter-router", "name": "c", "port": "x"}],
               ["address", {"prefix": []}], ["sslProfile", {"name": []}],
               ["listener", {"name": "s", "role": "inter-router", "port": 1, "requireSsl": true, "sslProfile": []}]"#,
            &[
                "tcpListener \"l\": `address` must be a text, not {}",
                "connector \"c\": `port` must be a port (0 to 65535, amqp or amqps), not \"x\"",
                "address []: `prefix` must be a text, not []",
                "sslProfile []: `name` must be a text, not []",
                "listener \"s\": `sslProfile` must be a text, not []",
            ],
        );
        let error = parse(r#"[["router", {"id": ["a"], "mode": "core"}]]"#).expect_err("faulty");
        assert_eq!(error.0.len(), 2, "{error}");
    }

    /// Such numbers were taken for none at all, or ended the router later.
    #[test]
    fn numbers_beyond_their_limits_are_faults() {
        check_faults(
            r#"["connector", {"name": "c", "role": "inter-router", "port": 1, "idleTimeoutSeconds": 4294968}],
               ["tcpListener", {"name": "l", "port": 1, "address": "k", "backlog": 4294967297}]"#,
            &[
                "connector \"c\": `idleTimeoutSeconds` must be from 0 to 4294967, not 4294968",
                "tcpListener \"l\": `backlog` must be from 0 to 2147483647, not 4294967297",
            ],
        );
        let router = r#"[["router", {"id": "a", "mode": "interior", "workerThreads": 1025, "raIntervalSeconds": 18446744073709551615}]]"#;
        let faults = [
            "router \"a\": `raIntervalSeconds` must be from 0 to 4294967, not 18446744073709551615",
            "router \"a\": `workerThreads` must be from 1 to 1024, not 1025",
        ];
        assert_eq!(parse(router).expect_err("faulty").to_string(), faults.join("\n"));
    }

    #[test]
    fn what_has_no_effect_is_told_unless_it_changes_nothing() {
        let text = r#"[
            ["router", {"id": "a", "mode": "interior", "hostName": "h", "dropTcpConnections": "no"}],
            ["sslProfile", {"name": "p", "ciphers": "ALL", "protocols": "TLSv1.3", "oldestValidOrdinal": 0}],
            ["listener", {"name": "tls", "role": "inter-router", "port": 1, "sslProfile": "p", "saslMechanisms": "EXTERNAL"}],
            ["listener", {"name": "clear", "role": "inter-router", "port": 2, "saslMechanisms": "EXTERNAL"}],
            ["listener", {"name": "web", "port": 3, "http": true, "authenticatePeer": true}],
            ["connector", {"name": "up", "role": "edge", "port": 4, "saslUsername": "u"}],
            ["address", {"prefix": "p", "priority": 4}]
        ]"#;
        let no_effect = |what: &str| format!("{what} is read but has no effect in this version");
        assert_eq!(
            parse(text).expect("valid").warnings,
            [
                "connector \"up\" is not started: role edge is not in this version".into(),
                no_effect("listener \"web\": `authenticatePeer`"),
                no_effect("router \"a\": `dropTcpConnections`"),
                no_effect("sslProfile \"p\": `ciphers`"),
                no_effect("listener \"clear\": `saslMechanisms`"),
                no_effect("address \"p\": `priority`"),
            ]
        );
    }

    #[test]
    fn names_and_profiles_must_fit_together() {
        check_faults(
            r#"["sslProfile", {"name": "p"}], ["sslProfile", {"name": "p"}], ["listener", {"name": "x", "role": "inter-router", "port": 1, "sslProfile": "q"}]"#,
            &[
                "sslProfile \"p\": the name is used twice",
                "listener \"x\": there is no sslProfile named `q` (did you mean `p`?)",
            ],
        );
        check_faults(
            r#"["listener", {"name": "x", "role": "inter-router", "port": 1, "requireSsl": true}]"#,
            &["listener \"x\": TLS is required, and no `sslProfile` says with which certificates"],
        );
    }

    #[test]
    fn entities_without_a_name_are_told_apart() {
        let text = r#"[["router", {"id": "a", "mode": "interior"}],
            ["tcpConnector", {"host": "h", "port": 1, "address": "x"}],
            ["tcpConnector", {"host": "h", "port": 1, "address": "y"}]]"#;
        let connectors = parse(text).expect("valid").tcp_connectors;
        let names: Vec<_> = connectors.iter().map(|connector| connector.name.as_str()).collect();
        assert_eq!(names, ["h:1", "h:1 (entity 3)"]);
    }

    #[test]
    fn edge_and_standalone_are_refused() {
        for (mode, message) in [
            ("edge", "router \"a\": mode edge is not in this version; use interior"),
            ("standalone", "router \"a\": mode standalone is not in this version; use \"mode\": \"interior\""),
        ] {
            let error = parse(&format!(r#"[["router", {{"id": "a", "mode": "{mode}"}}]]"#)).expect_err("refused");
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn an_unset_variable_is_named() {
        let error = parse(r#"[["router", {"id": "a-${NOPE}", "mode": "interior"}]]"#).expect_err("refused");
        assert!(error.to_string().contains("`id` uses ${NOPE}, which is not set in the environment"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_configuration_says_so() {
        for (text, expected) in [
            ("", "not JSON: EOF while parsing a value at line 1 column 0"),
            ("{}", "expected a JSON list of [\"type\", {attributes}] pairs"),
            ("[]", "there is no `router` entity: add [\"router\", {\"id\": \"…\", \"mode\": \"interior\"}]"),
            ("[1]", "entity 1: expected a pair [\"type\", {attributes}]"),
        ] {
            assert_eq!(parse(text).expect_err("refused").to_string(), expected);
        }
    }
}
