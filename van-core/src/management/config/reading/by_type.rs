//! What the entities of each type say.

use std::time::Duration;

use super::entity::{Entity, Setting, port, to_amqp};
use super::{MAX_SECONDS, Reading, no_effect};
use crate::amqp;
use crate::management::config::{
    Access, Amqp, AutoLink, Connector, Direction, Family, Listener, ListenerAddress, Log, Mode, Network, Observer,
    PasswordSource, ProxyProfile, ProxyScheme, Role, Service, Site, Strategy, Strip, TcpConnector, TcpListener,
    TlsProfile,
};
use crate::router::Place;

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

impl Reading {
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

    pub(super) fn connector(&mut self, entity: &Entity) -> Option<Connector> {
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

    pub(super) fn listener(&mut self, entity: &Entity) -> Option<Listener> {
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

    pub(super) fn tcp_listener(&mut self, entity: &Entity) -> Option<TcpListener> {
        let strategy = match entity.text("multiAddressStrategy").as_deref() {
            Some("priority") => Some(Strategy::Priority),
            Some("weighted") => Some(Strategy::Weighted),
            _ => None,
        };
        let requires_authentication = entity.truth("authenticatePeer", false);
        match (entity.has("address"), strategy) {
            (false, None) => self.fault(&entity.place, "`address` is missing: the routing key"),
            (true, Some(_)) => self.fault(
                &entity.place,
                "either `address` or `multiAddressStrategy` is needed, not both: its listenerAddress entities have the routing keys",
            ),
            _ => {}
        }
        let backlog = self.within(entity, "backlog", 0..=MAX_BACKLOG).filter(|backlog| *backlog > 0);
        Some(TcpListener {
            name: entity.name.clone(),
            host: entity.text("host").unwrap_or_default(),
            port: port_of(entity)?,
            address: entity.text("address").unwrap_or_default(),
            strategy,
            backlog,
            tls_profile: entity.text("sslProfile"),
            requires_authentication,
            observer: observer(entity),
            site_id: entity.text("siteId"),
        })
    }

    pub(super) fn listener_address(&mut self, entity: &Entity) -> Option<ListenerAddress> {
        Some(ListenerAddress {
            name: entity.name.clone(),
            address: entity.text("address")?,
            value: self.within(entity, "value", 0..=u32::MAX.into())?,
            listener: entity.text("listener")?,
        })
    }

    pub(super) fn tcp_connector(entity: &Entity) -> Option<TcpConnector> {
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

    pub(super) fn auto_link(&mut self, entity: &Entity) -> Option<AutoLink> {
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

fn is_required(entity: &Entity, key: &str) -> bool {
    entity.kind.attribute(key).is_some_and(|attribute| attribute.is_required)
}

/// Its port, or that of AMQP where one may be left out.
fn port_of(entity: &Entity) -> Option<u16> {
    let default = if entity.has("port") || is_required(entity, "port") { None } else { Some(AMQP_PORT.into()) };
    entity.number("port").or(default).and_then(|port| u16::try_from(port).ok())
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
    pub(super) fn read(entity: &Entity) -> Self {
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
    pub(super) fn read(entity: &Entity) -> Option<Self> {
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
    pub(super) fn read(entity: &Entity) -> Self {
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
    pub(super) fn read(entity: &Entity) -> Self {
        Self { network_id: entity.text("networkId"), tenant_id: entity.text("tenantId") }
    }
}

impl Site {
    pub(super) fn read(entity: &Entity) -> Self {
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
