//! From the text of a configuration file to a [`Configuration`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value};
use van_routing::{Cost, RouterId, Timing, Treatment};

use super::syntax::{self, Pair};
use super::{
    Access, Amqp, AutoLink, ConfigError, Configuration, Connector, Direction, Family, Fault, Given, Listener,
    ListenerAddress, Log, MAX_DATA_CONNECTIONS, Mode, Network, Observer, PasswordSource, ProxyProfile, ProxyScheme,
    Role, Service, Site, Strategy, Strip, TcpConnector, TcpListener, TlsProfile,
};
use crate::amqp;
use crate::management::schema::{ENTITY_TYPES, EntityType, Kind};
use crate::plane::MAX_SHARDS;
use crate::router::{AddressPattern, AddressRule, Distribution, Place};

/// What a peer can be told of a time, which is milliseconds in 32 bits (AMQP 1.0 §2.7.1). No other is to be longer.
const MAX_SECONDS: u64 = u32::MAX as u64 / 1000;

/// The highest priority of a message (docs/wire.md §6.4).
const MAX_PRIORITY: u64 = 9;

/// What listen(2) takes.
const MAX_BACKLOG: u64 = i32::MAX as u64;

/// Sessions of a connection, whose channels are numbered with 16 bits (skupper-router, `maxSessions`).
const MAX_SESSIONS: u64 = 32_768;

/// What a listener or connector says of itself, and `openProperties` may not (skupper-router, `agent.py`).
const RESERVED_PROPERTIES: [&str; 7] =
    ["product", "version", "failover-server-list", "network-host", "port", "scheme", "hostname"];
const RESERVED_PREFIXES: [&str; 2] = ["qd.", "x-opt-qd."];

/// The port of AMQP: also of a listener, a connector or a place to fail over to that names none.
const AMQP_PORT: u16 = 5672;

/// The roles that this version serves.
const SERVED_ROLES: [Role; 5] = [Role::Normal, Role::InterRouter, Role::RouteContainer, Role::Edge, Role::InterEdge];

pub(super) fn parse(text: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<Configuration, ConfigError> {
    let mut reading = Reading::default();
    let entities = reading.entities(text, variable);
    let configuration = reading.configuration(&entities);
    match configuration {
        Some(configuration) if reading.faults.is_empty() => Ok(configuration),
        _ => Err(ConfigError(reading.faults)),
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
    Map(Map<String, Value>),
}

#[derive(Default)]
struct Reading {
    faults: Vec<Fault>,
    warnings: Vec<String>,
    /// The places of the entities that are not started.
    left_out: BTreeSet<String>,
    mode: Mode,
}

// === from text to entities ===

impl Reading {
    fn fault(&mut self, place: &str, message: impl Into<String>) {
        self.faults.push(Fault { place: place.to_owned(), message: message.into() });
    }

    fn entities(&mut self, text: &str, variable: &impl Fn(&str) -> Option<String>) -> Vec<Entity> {
        let (pairs, faults) = syntax::read(text);
        self.faults.extend(faults);
        let read = |(number, pair)| Some((number, self.entity(number, &pair, variable)?));
        let mut entities: Vec<_> = pairs.into_iter().filter_map(read).collect();
        name_apart(&mut entities);
        entities.into_iter().map(|(_, entity)| entity).collect()
    }

    fn entity(&mut self, number: usize, pair: &Pair, variable: &impl Fn(&str) -> Option<String>) -> Option<Entity> {
        let Pair { type_name, attributes } = pair;
        let place = format!("entity {number}");
        let Some(kind) = EntityType::of(type_name) else {
            let known = ENTITY_TYPES.iter().map(|kind| kind.name);
            self.fault(&place, format!("unknown entity type `{type_name}`{}", suggestion(type_name, known)));
            return None;
        };
        let label = ["name", "id", "module", "prefix", "pattern", "address", "port"]
            .iter()
            .find_map(|key| attributes.get(*key));
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
        let own_name = || match kind.attribute("port") {
            Some(_) => ["host", "port"].map(|key| text(key).unwrap_or_default()).join(":"),
            None => number.to_string(),
        };
        let name = text("name").unwrap_or_else(|| format!("{}/{}", kind.name, own_name()));
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
            Value::Object(map) if kind == Kind::Map => return Some(Self::Map(map.clone())),
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

    fn to_value(&self) -> amqp::Value {
        match self {
            Self::Map(map) => to_amqp(&Value::Object(map.clone())),
            other => amqp::Value::String(other.to_text()),
        }
    }

    fn to_text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
            Self::Truth(truth) => truth.to_string(),
            Self::Map(_) => String::new(),
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

    fn given(&self) -> Given {
        let names = self.kind.attributes.iter().map(|attribute| attribute.name).chain(["name"]);
        let value = |name| Some((name, self.setting(name)?.to_value()));
        Given { type_name: self.kind.name, name: self.name.clone(), attributes: names.filter_map(value).collect() }
    }

    /// Whether it is given, faulty or not.
    fn has(&self, key: &str) -> bool {
        self.attributes.contains_key(key)
    }
}

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
        self.mode = mode(router);
        let configuration = Configuration {
            mode: self.mode,
            timing: self.timing(router),
            shards: self.within(router, "workerThreads", 1..=MAX_SHARDS.into()),
            data_connections: self.data_connections(router),
            distribution: self.distribution(router, of("address")),
            drops_tcp_connections: router.truth("dropTcpConnections", true),
            metadata: router.text("metadata"),
            network: of("network").next().map(Network::read).unwrap_or_default(),
            site: of("site").next().map(Site::read),
            proxy_profiles: of("proxyProfile").filter_map(ProxyProfile::read).collect(),
            connectors: of("connector").filter_map(|entity| self.connector(entity)).collect(),
            listeners: of("listener").filter_map(|entity| self.listener(entity)).collect(),
            tcp_listeners: of("tcpListener").filter_map(|entity| self.tcp_listener(entity)).collect(),
            listener_addresses: of("listenerAddress").filter_map(|entity| self.listener_address(entity)).collect(),
            tcp_connectors: of("tcpConnector").filter_map(Self::tcp_connector).collect(),
            auto_links: of("autoLink").filter_map(|entity| self.auto_link(entity)).collect(),
            logs: of("log").map(Log::read).collect(),
            tls_profiles,
            given: entities.iter().map(Entity::given).collect(),
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
        let mut seen = BTreeSet::new();
        for entity in addresses {
            let treatment = entity.text("distribution").and_then(|word| treatment(&word));
            let rule = AddressRule {
                treatment: treatment.unwrap_or(Treatment::AnycastBalanced),
                priority: self.within(entity, "priority", 0..=MAX_PRIORITY),
            };
            let (key, pattern) = match (entity.has("prefix"), entity.has("pattern")) {
                (true, false) => ("prefix", entity.text("prefix").map(|text| AddressPattern::prefix(&text))),
                (false, true) => ("pattern", entity.text("pattern").map(|text| AddressPattern::new(&text))),
                _ => {
                    self.fault(&entity.place, "either `prefix` or `pattern` is needed, not both");
                    continue;
                }
            };
            match pattern {
                Some(Ok(pattern)) if seen.insert(pattern.clone()) => drop(distribution.insert(&pattern, rule)),
                Some(Ok(_)) => self.fault(&entity.place, "another `address` has the same pattern; leave one of them"),
                Some(Err(error)) => self.fault(&entity.place, format!("`{key}`: {error}")),
                None => {}
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

    /// As [`Reading::within`]; zero stands for none given.
    fn within_or_zero<T: TryFrom<u64>>(
        &mut self,
        entity: &Entity,
        key: &str,
        limits: RangeInclusive<u64>,
    ) -> Option<T> {
        if entity.number(key) == Some(0) { None } else { self.within(entity, key, limits) }
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

    fn amqp(&mut self, entity: &Entity) -> Amqp {
        let role = role(entity);
        Amqp {
            role,
            cost: self.cost(entity),
            tls_profile: entity.text("sslProfile"),
            sasl_mechanisms: self.sasl_mechanisms(entity, role),
            max_frame_bytes: self.within_or_zero(entity, "maxFrameSize", 512..=1_048_576),
            max_sessions: self.within_or_zero(entity, "maxSessions", 1..=MAX_SESSIONS),
            max_session_frames: self.within_or_zero(entity, "maxSessionFrames", 2..=u32::MAX.into()),
            idle_timeout: self.seconds(entity, "idleTimeoutSeconds", Amqp::IDLE_TIMEOUT),
            link_capacity: self.within_or_zero(entity, "linkCapacity", 1..=u32::MAX.into()),
            strip: strip(entity),
            failover: self.failover(entity),
            open_properties: self.open_properties(entity, role),
        }
    }

    /// Routers use EXTERNAL within TLS and ANONYMOUS in clear, whatever is said.
    fn sasl_mechanisms(&mut self, entity: &Entity, role: Role) -> Option<Vec<String>> {
        let text = entity.text("saslMechanisms")?;
        let names: Vec<_> = text.split_whitespace().map(str::to_ascii_uppercase).collect();
        let usual = if entity.has("sslProfile") { "EXTERNAL" } else { "ANONYMOUS" };
        let is_for_clients = [Role::Normal, Role::RouteContainer].contains(&role);
        for name in &names {
            if amqp::Mechanism::from_name(name).is_none() {
                let place = &entity.place;
                self.warnings
                    .push(format!("{place}: the SASL mechanism {name} is not in this version and is left out"));
            } else if !is_for_clients && name != usual && entity.kind.name == "listener" {
                self.warnings.push(no_effect(entity, "saslMechanisms"));
            }
        }
        Some(names)
    }

    fn failover(&mut self, entity: &Entity) -> Vec<Place> {
        let text = entity.text("failoverUrls").unwrap_or_default();
        let text: String = text.chars().filter(|character| !character.is_whitespace()).collect();
        let mut places = Vec::new();
        for url in text.split(',').filter(|url| !url.is_empty()) {
            match failover(url) {
                Some(place) => places.push(place),
                None => {
                    let expected = "expected `host`, `host:port` or `amqps://host:port`, with commas between";
                    self.fault(&entity.place, format!("`failoverUrls` has `{url}`: {expected}"));
                }
            }
        }
        places
    }

    fn open_properties(&mut self, entity: &Entity, role: Role) -> Vec<(amqp::Symbol, amqp::Value)> {
        let Some(Setting::Map(map)) = entity.setting("openProperties") else { return Vec::new() };
        if !map.is_empty() && [Role::InterRouter, Role::Edge].contains(&role) {
            self.fault(&entity.place, format!("`openProperties` are for programs; role {role} takes none"));
        }
        for key in map.keys() {
            let is_reserved = RESERVED_PROPERTIES.contains(&key.as_str())
                || RESERVED_PREFIXES.iter().any(|prefix| key.starts_with(prefix));
            if is_reserved || !key.is_ascii() {
                let why = if is_reserved { "is the router's own" } else { "has characters beyond ASCII" };
                self.fault(&entity.place, format!("`openProperties`: the key `{key}` {why}; choose another"));
            }
        }
        map.iter().map(|(key, value)| (key.as_str().into(), to_amqp(value))).collect()
    }

    fn connector(&mut self, entity: &Entity) -> Option<Connector> {
        let connector = Connector {
            name: entity.name.clone(),
            host: entity.text("host").unwrap_or_else(|| "127.0.0.1".into()),
            family: family(entity),
            amqp: self.amqp(entity),
            verifies_host: entity.truth("verifyHostname", true),
            sasl_username: entity.text("saslUsername"),
            sasl_password: entity.text("saslPassword").map(|text| PasswordSource::read(&text, false)),
            proxy_profile: entity.text("proxyProfile"),
            data_connections: self.data_connections(entity),
            port: port_of(entity)?,
        };
        let modes: &[Mode] = match connector.amqp.role {
            Role::InterRouter => &[Mode::Interior],
            Role::Edge | Role::InterEdge => &[Mode::Edge, Mode::Interior],
            _ => &[],
        };
        self.check_mode(entity, connector.amqp.role, modes);
        self.is_role_served(entity, connector.amqp.role).then_some(connector)
    }

    /// Whether it is for a router of this mode, as the original has it; any, if none is named.
    fn check_mode(&mut self, entity: &Entity, role: Role, modes: &[Mode]) {
        if !modes.is_empty() && !modes.contains(&self.mode) {
            let names: Vec<_> = modes.iter().map(|mode| mode.name()).collect();
            let fault =
                format!("role {role} needs a router of mode {}, and this one is {}", names.join(" or "), self.mode);
            self.fault(&entity.place, fault);
        }
    }

    fn listener(&mut self, entity: &Entity) -> Option<Listener> {
        let access = Access {
            amqp: self.amqp(entity),
            requires_authentication: entity.truth("authenticatePeer", false),
            requires_tls: entity.truth("requireSsl", false) || entity.truth("requireEncryption", false),
            users_file: entity.text("saslUsersFile"),
            handshake_timeout: self
                .within_or_zero(entity, "initialHandshakeTimeoutSeconds", 1..=MAX_SECONDS)
                .map(Duration::from_secs),
        };
        if access.requires_tls && !entity.has("sslProfile") {
            self.fault(&entity.place, "TLS is required, and no `sslProfile` says with which certificates");
        }
        let modes: &[Mode] = match access.amqp.role {
            Role::InterRouter | Role::Edge => &[Mode::Interior],
            Role::InterEdge => &[Mode::Edge, Mode::Interior],
            _ => &[],
        };
        self.check_mode(entity, access.amqp.role, modes);
        let service = if entity.truth("http", false) || entity.has("httpRootDir") {
            Service::Http {
                has_health: entity.truth("healthz", true),
                has_metrics: entity.truth("metrics", true),
                has_websockets: entity.truth("websockets", true),
                root_dir: entity.text("httpRootDir").filter(|folder| folder != "disabled"),
                access,
            }
        } else if self.is_role_served(entity, access.amqp.role) {
            Service::Amqp(access)
        } else {
            return None;
        };
        let host = entity.text("host").unwrap_or_default();
        Some(Listener { name: entity.name.clone(), host, port: port_of(entity)?, family: family(entity), service })
    }

    /// Leaves out what has a role that is not served.
    fn is_role_served(&mut self, entity: &Entity, role: Role) -> bool {
        let is_served = SERVED_ROLES.contains(&role);
        match role {
            _ if is_served => {}
            Role::InterNetwork => {
                self.leave_out(entity, "networks are not connected by van (role inter-network); link sites instead");
            }
            _ => self.leave_out(entity, &format!("role {role} is not in this version")),
        }
        is_served
    }

    fn tcp_listener(&mut self, entity: &Entity) -> Option<TcpListener> {
        let strategy = match entity.text("multiAddressStrategy").as_deref() {
            Some("priority") => Some(Strategy::Priority),
            Some("weighted") => Some(Strategy::Weighted),
            _ => None,
        };
        let requires_authentication = entity.truth("authenticatePeer", false);
        if !entity.has("address") && strategy.is_none() {
            self.fault(&entity.place, "`address` is missing: the routing key");
        }
        let backlog = self.within(entity, "backlog", 0..=MAX_BACKLOG).filter(|backlog| *backlog > 0);
        Some(TcpListener {
            name: entity.name.clone(),
            host: entity.text("host").unwrap_or_default(),
            port: port_of(entity)?,
            address: entity.text("address").filter(|_| strategy.is_none()).unwrap_or_default(),
            strategy,
            backlog,
            tls_profile: entity.text("sslProfile"),
            requires_authentication,
            observer: observer(entity),
            site_id: entity.text("siteId"),
        })
    }

    fn listener_address(&mut self, entity: &Entity) -> Option<ListenerAddress> {
        Some(ListenerAddress {
            name: entity.name.clone(),
            address: entity.text("address")?,
            value: self.within(entity, "value", 0..=u32::MAX.into())?,
            listener: entity.text("listener")?,
        })
    }

    fn tcp_connector(entity: &Entity) -> Option<TcpConnector> {
        Some(TcpConnector {
            name: entity.name.clone(),
            host: entity.text("host")?,
            port: port_of(entity)?,
            address: entity.text("address")?,
            tls_profile: entity.text("sslProfile"),
            verifies_host: entity.truth("verifyHostname", true),
            site_id: entity.text("siteId"),
            process_id: entity.text("processId"),
        })
    }

    fn auto_link(&mut self, entity: &Entity) -> Option<AutoLink> {
        let direction = match entity.text("direction")?.as_str() {
            "in" => Direction::In,
            _ => Direction::Out,
        };
        if direction == Direction::Out && !entity.has("address") {
            self.fault(&entity.place, "`address` is missing: what the router sends there");
        }
        if entity.has("containerId") && entity.has("connection") {
            self.fault(&entity.place, "either `containerId` or `connection` says where, not both");
        }
        Some(AutoLink {
            name: entity.name.clone(),
            address: entity.text("address"),
            direction,
            container_id: entity.text("containerId"),
            connection: entity.text("connection"),
            external_address: entity.text("externalAddress"),
        })
    }
}

fn no_effect(entity: &Entity, key: &str) -> String {
    format!("{}: `{key}` is read but has no effect in this version", entity.place)
}

fn is_required(entity: &Entity, key: &str) -> bool {
    entity.kind.attribute(key).is_some_and(|attribute| attribute.is_required)
}

/// Its port, or that of AMQP where one may be left out.
fn port_of(entity: &Entity) -> Option<u16> {
    let default = if entity.has("port") || is_required(entity, "port") { None } else { Some(AMQP_PORT.into()) };
    entity.number("port").or(default).and_then(|port| u16::try_from(port).ok())
}

fn mode(router: &Entity) -> Mode {
    match router.text("mode").as_deref() {
        Some("interior") => Mode::Interior,
        Some("edge") => Mode::Edge,
        _ => Mode::Standalone,
    }
}

fn role(entity: &Entity) -> Role {
    let name = entity.text("role");
    Role::ALL.into_iter().find(|role| Some(role.name()) == name.as_deref()).unwrap_or_default()
}

fn family(entity: &Entity) -> Option<Family> {
    match entity.text("socketAddressFamily")?.as_str() {
        "IPv4" => Some(Family::V4),
        _ => Some(Family::V6),
    }
}

fn strip(entity: &Entity) -> Strip {
    let word = entity.text("stripAnnotations").unwrap_or_else(|| "both".into());
    Strip { incoming: ["in", "both"].contains(&word.as_str()), outgoing: ["out", "both"].contains(&word.as_str()) }
}

fn observer(entity: &Entity) -> Observer {
    match entity.text("observer").as_deref() {
        Some("none") => Observer::None,
        Some("http1") => Observer::Http1,
        Some("http2") => Observer::Http2,
        _ => Observer::Auto,
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

/// `host`, `host:port`, `[v6]:port`, each with a scheme before or not.
fn failover(url: &str) -> Option<Place> {
    let (scheme, place) = url.split_once("://").map_or((None, url), |(scheme, place)| (Some(scheme), place));
    let is_known = scheme.is_none_or(|scheme| ["amqp", "amqps", "ws", "wss"].contains(&scheme));
    let (host, behind) = match place.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?,
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    let port = if behind.is_empty() { AMQP_PORT } else { u16::try_from(port(behind.strip_prefix(':')?)?).ok()? };
    let failover = Place { scheme: scheme.map(str::to_owned), host: host.to_owned(), port };
    (is_known && !host.is_empty()).then_some(failover)
}

/// A JSON value as the original sends it: whole numbers as long, others as double.
fn to_amqp(value: &Value) -> amqp::Value {
    match value {
        Value::Null => amqp::Value::Null,
        Value::Bool(truth) => amqp::Value::Bool(*truth),
        Value::String(text) => amqp::Value::String(text.clone()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => amqp::Value::Long(number),
            (None, number) => amqp::Value::Double(number.unwrap_or_default()),
        },
        Value::Array(items) => amqp::Value::List(items.iter().map(to_amqp).collect()),
        Value::Object(map) => amqp::Value::Map(
            map.iter().map(|(key, value)| (amqp::Value::String(key.clone()), to_amqp(value))).collect(),
        ),
    }
}

impl PasswordSource {
    /// Reads what a file or an entity has for a password; the original knows `literal:` beside `pass:` in some places only.
    fn read(text: &str, knows_literal: bool) -> Self {
        if let Some(name) = text.strip_prefix("env:") {
            return Self::Variable(name.trim_start_matches(' ').to_owned());
        }
        if let Some(path) = text.strip_prefix("file:") {
            return Self::File(path.to_owned());
        }
        let literal = text.strip_prefix("literal:").filter(|_| knows_literal);
        Self::Text(literal.or(text.strip_prefix("pass:")).unwrap_or(text).into())
    }
}

impl TlsProfile {
    fn read(entity: &Entity) -> Self {
        Self {
            ca_cert_file: entity.text("caCertFile"),
            cert_file: entity.text("certFile"),
            private_key_file: entity.text("privateKeyFile"),
            password: entity.text("password").map(|text| PasswordSource::read(&text, true)),
            ciphers: entity.text("ciphers"),
            protocols: entity.text("protocols"),
            uid_format: entity.text("uidFormat"),
            uid_name_mapping_file: entity.text("uidNameMappingFile"),
            ordinal: entity.number("ordinal").unwrap_or(0),
            oldest_valid_ordinal: entity.number("oldestValidOrdinal").unwrap_or(0),
        }
    }
}

impl ProxyProfile {
    fn read(entity: &Entity) -> Option<Self> {
        Some(Self {
            name: entity.name.clone(),
            scheme: match entity.text("scheme").as_deref() {
                Some("socks5") => ProxyScheme::Socks5,
                _ => ProxyScheme::Http,
            },
            host: entity.text("host")?,
            port: port_of(entity)?,
            username: entity.text("username"),
            password: entity.text("password").map(|text| PasswordSource::read(&text, true)),
        })
    }
}

impl Log {
    fn read(entity: &Entity) -> Self {
        Self {
            module: entity.text("module").unwrap_or_else(|| "DEFAULT".into()),
            enable: entity.text("enable").unwrap_or_else(|| "default".into()),
            output_file: entity.text("outputFile"),
            includes_timestamp: entity.has("includeTimestamp").then(|| entity.truth("includeTimestamp", true)),
            includes_source: entity.has("includeSource").then(|| entity.truth("includeSource", false)),
        }
    }
}

impl Network {
    fn read(entity: &Entity) -> Self {
        Self { network_id: entity.text("networkId"), tenant_id: entity.text("tenantId") }
    }
}

impl Site {
    fn read(entity: &Entity) -> Self {
        Self {
            name: entity.text("name").unwrap_or_default(),
            location: entity.text("location"),
            provider: entity.text("provider"),
            version: entity.text("version"),
            platform: entity.text("platform"),
            namespace: entity.text("namespace"),
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
        assert_eq!(u32::from(configuration.connectors[0].amqp.cost), 5);
        assert_eq!(configuration.listeners.len(), 3);
        assert_eq!((configuration.tcp_listeners.len(), configuration.tcp_connectors.len()), (3, 1));
        assert_eq!(configuration.listener_addresses.len(), 1);
        assert!(configuration.warnings.is_empty(), "{:?}", configuration.warnings);
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
    fn each_pattern_of_addresses_is_one_and_has_one_rule() {
        check_faults(
            r#"["address", {"pattern": "a/#", "priority": 10}], ["address", {"prefix": "a", "priority": 9}],
               ["address", {"prefix": "/"}], ["address", {"name": "n"}]"#,
            &[
                "address \"a/#\": `priority` must be from 0 to 9, not 10",
                "address \"a\": another `address` has the same pattern; leave one of them",
                "address \"/\": `prefix`: it has no segments",
                "address \"n\": either `prefix` or `pattern` is needed, not both",
            ],
        );
        let text = r#"[["router", {"id": "a", "mode": "interior"}], ["address", {"prefix": "mc", "distribution": "closest"}],
            ["address", {"pattern": "*/x", "distribution": "multicast", "priority": "7"}]]"#;
        let distribution = parse(text).expect("valid").distribution;
        let rule = |treatment, priority| Some(AddressRule { treatment, priority });
        assert_eq!(distribution.rule("mc/x"), rule(Treatment::AnycastClosest, None));
        assert_eq!(distribution.rule("a.x"), rule(Treatment::MulticastOnce, Some(7)));
    }

    #[test]
    fn what_has_no_effect_is_told_unless_it_changes_nothing() {
        let text = r#"[
            ["router", {"id": "a", "mode": "interior", "hostName": "h"}],
            ["sslProfile", {"name": "p", "uidFormat": "1", "protocols": "TLSv1.3", "oldestValidOrdinal": 0}],
            ["listener", {"name": "tls", "role": "inter-router", "port": 1, "sslProfile": "p", "saslMechanisms": "EXTERNAL"}],
            ["listener", {"name": "clear", "role": "inter-router", "port": 2, "saslMechanisms": "EXTERNAL"}],
            ["listener", {"name": "web", "port": 3, "http": true, "authenticatePeer": true}],
            ["listener", {"name": "clients", "port": 4, "saslMechanisms": "plain GSSAPI"}],
            ["connector", {"name": "far", "role": "inter-network", "port": 4, "saslUsername": "u"}],
            ["address", {"prefix": "p"}]
        ]"#;
        let no_effect = |what: &str| format!("{what} is read but has no effect in this version");
        assert_eq!(
            parse(text).expect("valid").warnings,
            [
                "connector \"far\" is not started: networks are not connected by van (role inter-network); link sites instead".into(),
                no_effect("listener \"clear\": `saslMechanisms`"),
                "listener \"clients\": the SASL mechanism GSSAPI is not in this version and is left out".into(),
                no_effect("sslProfile \"p\": `uidFormat`"),
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
        assert_eq!(names, ["tcpConnector/h:1", "tcpConnector/h:1 (entity 3)"]);
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
