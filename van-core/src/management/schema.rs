//! Entity types and their attributes (docs/wire.md §9.3): the vocabulary of the configuration file and of management.
//!
//! Names, defaults and the values allowed are those of skupper-router, so that files written for it are understood.
//! `operational` is what management adds to them.

pub mod operational;

/// A type of entity.
#[derive(Debug)]
pub struct EntityType {
    /// Its short name, as in the configuration file.
    pub name: &'static str,
    /// Its attributes besides `name`, which all have.
    pub attributes: &'static [Attribute],
    /// Whether the configuration file may hold one only.
    pub is_single: bool,
    /// Whether this version does something with it; if not, it is read and a warning names it.
    pub is_served: bool,
}

/// An attribute of an entity type.
#[derive(Debug)]
pub struct Attribute {
    /// Its name.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// Whether it must be given.
    pub is_required: bool,
    /// Set if it has no effect in this version and a user would miss it: the values that change nothing, because they ask
    /// for what is so anyway or are the original's default. A warning names any other.
    pub unserved: Option<&'static [&'static str]>,
}

/// What values an attribute takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A whole number of at least 0.
    Number,
    /// A whole number of at least 1.
    Positive,
    /// A port: a number up to 65535, or `amqp` or `amqps`.
    Port,
    /// True or false; also `yes`, `no`, `on`, `off`, `1`, `0`.
    Truth,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A map.
    Map,
}

const fn attribute(name: &'static str, kind: Kind) -> Attribute {
    Attribute { name, kind, is_required: false, unserved: None }
}

const fn text(name: &'static str) -> Attribute {
    attribute(name, Kind::Text)
}

const fn number(name: &'static str) -> Attribute {
    attribute(name, Kind::Number)
}

const fn positive(name: &'static str) -> Attribute {
    attribute(name, Kind::Positive)
}

const fn truth(name: &'static str) -> Attribute {
    attribute(name, Kind::Truth)
}

const fn word(name: &'static str, words: &'static [&'static str]) -> Attribute {
    attribute(name, Kind::Word(words))
}

const fn port() -> Attribute {
    attribute("port", Kind::Port)
}

const fn required(attribute: Attribute) -> Attribute {
    Attribute { is_required: true, ..attribute }
}

const fn unserved(attribute: Attribute, harmless: &'static [&'static str]) -> Attribute {
    Attribute { unserved: Some(harmless), ..attribute }
}

/// How an entity type stands here.
const SERVED: EntityType = EntityType { name: "", attributes: &[], is_single: false, is_served: true };
const SINGLE: EntityType = EntityType { is_single: true, ..SERVED };
const UNSERVED: EntityType = EntityType { is_served: false, ..SERVED };

const ROLES: &[&str] = &["normal", "inter-router", "route-container", "edge", "inter-edge", "inter-network"];
const DISTRIBUTIONS: &[&str] = &["multicast", "closest", "balanced", "unavailable"];
const FAMILIES: &[&str] = &["IPv4", "IPv6"];
const ANNOTATIONS: &[&str] = &["in", "out", "both", "no"];
const MODULES: &[&str] = &[
    "ROUTER",
    "ROUTER_CORE",
    "ROUTER_HELLO",
    "ROUTER_LS",
    "ROUTER_MA",
    "MESSAGE",
    "SERVER",
    "AGENT",
    "CONTAINER",
    "ERROR",
    "POLICY",
    "HTTP",
    "CONN_MGR",
    "PYTHON",
    "PROTOCOL",
    "TCP_ADAPTOR",
    "HTTP_ADAPTOR",
    "FLOW_LOG",
    "ADDRESS_WATCH",
    "HTTP1_OBSERVER",
    "HTTP2_OBSERVER",
    "HTTP2_DECODER",
    "DEFAULT",
];

/// All entity types that a configuration file may hold.
pub const ENTITY_TYPES: &[EntityType] = &[
    EntityType {
        name: "router",
        attributes: &[
            text("id"),
            unserved(text("vanId"), &[]),
            word("mode", &["standalone", "interior", "edge"]),
            text("hostName"),
            positive("helloIntervalSeconds"),
            positive("helloMaxAgeSeconds"),
            positive("raIntervalSeconds"),
            positive("raIntervalFluxSeconds"),
            positive("remoteLsMaxAgeSeconds"),
            number("unreachableHoldoffSeconds"),
            positive("workerThreads"),
            unserved(text("debugDumpFile"), &[]),
            unserved(text("saslConfigDir"), &[]),
            unserved(text("saslConfigName"), &["skrouterd"]),
            unserved(truth("timestampsInUTC"), &["true"]),
            unserved(text("timestampFormat"), &[]),
            word("defaultDistribution", DISTRIBUTIONS),
            text("metadata"),
            text("dataConnectionCount"),
            truth("dropTcpConnections"),
        ],
        ..SINGLE
    },
    EntityType {
        name: "sslProfile",
        attributes: &[
            text("ciphers"),
            text("protocols"),
            text("caCertFile"),
            text("certFile"),
            text("privateKeyFile"),
            text("password"),
            unserved(text("uidFormat"), &[]),
            unserved(text("uidNameMappingFile"), &[]),
            number("ordinal"),
            number("oldestValidOrdinal"),
        ],
        ..SERVED
    },
    EntityType {
        name: "listener",
        attributes: &[
            text("host"),
            port(),
            word("socketAddressFamily", FAMILIES),
            word("role", ROLES),
            positive("cost"),
            text("sslProfile"),
            text("saslMechanisms"),
            truth("authenticatePeer"),
            truth("requireEncryption"),
            truth("requireSsl"),
            number("maxFrameSize"),
            number("maxSessions"),
            number("maxSessionFrames"),
            number("idleTimeoutSeconds"),
            number("initialHandshakeTimeoutSeconds"),
            unserved(word("stripAnnotations", ANNOTATIONS), &["both"]),
            number("linkCapacity"),
            text("failoverUrls"),
            truth("healthz"),
            truth("metrics"),
            truth("websockets"),
            truth("http"),
            unserved(text("httpRootDir"), &["disabled"]),
            unserved(text("messageLoggingComponents"), &["none"]),
            unserved(text("policyVhost"), &[]),
            attribute("openProperties", Kind::Map),
            // Ours, as all that stand at an end.
            text("saslUsersFile"),
        ],
        ..SERVED
    },
    EntityType {
        name: "connector",
        attributes: &[
            text("host"),
            port(),
            word("socketAddressFamily", FAMILIES),
            word("role", ROLES),
            positive("cost"),
            text("sslProfile"),
            text("proxyProfile"),
            truth("verifyHostname"),
            text("saslMechanisms"),
            text("saslUsername"),
            text("saslPassword"),
            truth("allowRedirect"),
            number("maxFrameSize"),
            number("maxSessions"),
            number("maxSessionFrames"),
            number("idleTimeoutSeconds"),
            unserved(word("stripAnnotations", ANNOTATIONS), &["both"]),
            number("linkCapacity"),
            text("failoverUrls"),
            unserved(text("messageLoggingComponents"), &["none"]),
            unserved(text("policyVhost"), &[]),
            attribute("openProperties", Kind::Map),
            text("dataConnectionCount"),
        ],
        ..SERVED
    },
    EntityType {
        name: "tcpListener",
        attributes: &[
            text("address"),
            text("host"),
            required(port()),
            number("backlog"),
            word("multiAddressStrategy", &["none", "priority", "weighted"]),
            text("siteId"),
            text("sslProfile"),
            truth("authenticatePeer"),
            word("observer", &["none", "auto", "http1", "http2"]),
        ],
        ..SERVED
    },
    EntityType {
        name: "tcpConnector",
        attributes: &[
            required(text("address")),
            required(text("host")),
            required(port()),
            text("siteId"),
            text("processId"),
            text("sslProfile"),
            truth("verifyHostname"),
        ],
        ..SERVED
    },
    EntityType {
        name: "address",
        attributes: &[text("prefix"), text("pattern"), word("distribution", DISTRIBUTIONS), number("priority")],
        ..SERVED
    },
    EntityType {
        name: "log",
        attributes: &[
            required(word("module", MODULES)),
            text("enable"),
            truth("includeTimestamp"),
            truth("includeSource"),
            text("outputFile"),
        ],
        ..SERVED
    },
    EntityType {
        name: "site",
        attributes: &[text("location"), text("provider"), text("version"), text("platform"), text("namespace")],
        ..SINGLE
    },
    EntityType {
        name: "proxyProfile",
        attributes: &[
            required(text("host")),
            required(port()),
            text("username"),
            text("password"),
            word("scheme", &["http", "socks5"]),
        ],
        ..SERVED
    },
    EntityType {
        name: "listenerAddress",
        attributes: &[required(text("address")), required(number("value")), required(text("listener"))],
        ..SERVED
    },
    EntityType { name: "network", attributes: &[text("networkId"), text("tenantId")], is_single: true, ..UNSERVED },
    EntityType {
        name: "autoLink",
        attributes: &[
            text("address"),
            required(word("direction", &["in", "out"])),
            text("containerId"),
            text("connection"),
            text("externalAddress"),
        ],
        ..SERVED
    },
];

impl EntityType {
    /// The type of a short name, or of a full one (`io.skupper.router.…`).
    pub fn of(name: &str) -> Option<&'static Self> {
        let short = name.strip_prefix("io.skupper.router.").unwrap_or(name);
        let short = short.strip_prefix("router.config.").unwrap_or(short);
        ENTITY_TYPES.iter().find(|entity| entity.name == short)
    }

    /// An attribute of a name.
    pub fn attribute(&self, name: &str) -> Option<&'static Attribute> {
        self.attributes.iter().find(|attribute| attribute.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_full_names_mean_the_same() {
        for name in ["tcpListener", "io.skupper.router.tcpListener"] {
            assert_eq!(EntityType::of(name).map(|entity| entity.name), Some("tcpListener"));
        }
        assert_eq!(
            EntityType::of("io.skupper.router.router.config.address").map(|entity| entity.name),
            Some("address")
        );
        assert!(EntityType::of("tcpListeners").is_none());
    }
}
