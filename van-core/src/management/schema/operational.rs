//! Entity types as management serves them (docs/wire.md §9.2): those of the configuration file with what a running router
//! adds, and those that only a running router has.
//!
//! Names, operations and the order of columns are those of skupper-router, whose two agents differ: types of its core list
//! their columns in an order of their own, refuse with 403 what they cannot do, and say null to unknown attributes.

use super::{EntityType, Kind};
use crate::amqp::Value;

/// What full names of types begin with.
pub const PREFIX: &str = "io.skupper.router.";

/// A type of entity as management serves it.
#[derive(Debug)]
pub struct Managed {
    /// Its short name.
    pub name: &'static str,
    /// The short name of the type it extends.
    base: Option<&'static str>,
    /// What can be done with its entities, besides what its base says.
    operations: &'static [&'static str],
    /// Its name in the configuration file; it has the attributes it has there.
    configured: Option<&'static str>,
    /// Attributes of those that UPDATE may set.
    updatable: &'static [&'static str],
    /// Their values where none is given.
    defaults: &'static [(&'static str, &'static str)],
    /// Attributes that only a running router says, and their types.
    shown: &'static [(&'static str, &'static str)],
    /// Attributes that come first, in this order.
    first: &'static [&'static str],
    /// Whether it is one of the types that the original's core serves.
    pub is_core: bool,
}

/// An attribute as management serves it.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type, if it is in the configuration file.
    pub kind: Option<Kind>,
    /// Its type's name.
    pub type_name: &'static str,
    /// Its value where none is given.
    pub default: Option<&'static str>,
    /// Whether it must be given.
    pub is_required: bool,
    /// Whether CREATE may set it, where there is CREATE.
    pub is_creatable: bool,
    /// Whether UPDATE may set it.
    pub is_updatable: bool,
}

/// What all types have. No two entities share a name or an identity.
const COMMON: [&str; 3] = ["name", "identity", "type"];

const CREATE: &str = "CREATE";
const UPDATE: &str = "UPDATE";
const DELETE: &str = "DELETE";

const fn operational(name: &'static str, shown: &'static [(&'static str, &'static str)]) -> Managed {
    Managed {
        name,
        base: Some("operationalEntity"),
        operations: &[],
        configured: None,
        updatable: &[],
        defaults: &[],
        shown,
        first: &[],
        is_core: false,
    }
}

const fn core(managed: Managed) -> Managed {
    Managed { is_core: true, ..managed }
}

const fn configured(name: &'static str, operations: &'static [&'static str]) -> Managed {
    let managed = operational(name, &[]);
    Managed { base: Some("configurationEntity"), operations, configured: Some(name), ..managed }
}

const fn bare(name: &'static str, base: Option<&'static str>, operations: &'static [&'static str]) -> Managed {
    Managed { base, operations, ..operational(name, &[]) }
}

const S: &str = "string";
const I: &str = "integer";
const B: &str = "boolean";
const L: &str = "list";
const M: &str = "map";

/// Some of the original's lists of columns have one name too few for what it shows. In `routerMetrics` the version goes
/// without, in `router.link` there is nothing behind it.
const NAMELESS: (&str, &str) = ("", S);

/// What a stream's ends count.
const COUNTERS: [(&str, &str); 4] =
    [("connectionsOpened", I), ("connectionsClosed", I), ("bytesIn", I), ("bytesOut", I)];

/// Defaults that listeners and connectors share.
const FRAME: (&str, &str) = ("maxFrameSize", "65536");

/// All types, in the original's order.
pub const MANAGED: &[Managed] = &[
    bare("entity", None, &[]),
    bare(
        "org.amqp.management",
        Some("operationalEntity"),
        &["QUERY", "GET-TYPES", "GET-ANNOTATIONS", "GET-OPERATIONS", "GET-ATTRIBUTES", "GET-MGMT-NODES"],
    ),
    bare("management", Some("org.amqp.management"), &["GET-SCHEMA", "GET-JSON-SCHEMA", "GET-LOG", "PROFILE"]),
    bare("configurationEntity", Some("entity"), &["READ"]),
    bare("operationalEntity", Some("entity"), &["READ"]),
    core(operational(
        "routerMetrics",
        &[
            ("identity", S),
            ("type", S),
            ("id", S),
            ("addrCount", I),
            ("linkCount", I),
            ("nodeCount", I),
            ("autoLinkCount", I),
            ("connectionCount", I),
            ("presettledDeliveries", I),
            ("droppedPresettledDeliveries", I),
            ("acceptedDeliveries", I),
            ("rejectedDeliveries", I),
            ("releasedDeliveries", I),
            ("modifiedDeliveries", I),
            ("deliveriesDelayed1Sec", I),
            ("deliveriesDelayed10Sec", I),
            ("deliveriesStuck", I),
            ("deliveriesIngress", I),
            ("deliveriesEgress", I),
            ("deliveriesTransit", I),
            ("deliveriesIngressRouteContainer", I),
            ("deliveriesEgressRouteContainer", I),
            ("deliveriesIngressInterNetwork", I),
            ("deliveriesEgressInterNetwork", I),
            ("deliveriesRedirectedToFallback", I),
            ("linksBlocked", I),
            ("uptimeSeconds", I),
            ("memoryUsage", I),
            ("residentMemoryUsage", I),
            ("connectionCounters", M),
            ("version", S),
            NAMELESS,
        ],
    )),
    Managed {
        defaults: &[
            ("mode", "standalone"),
            ("area", "0"),
            ("helloIntervalSeconds", "1"),
            ("helloMaxAgeSeconds", "3"),
            ("raIntervalSeconds", "30"),
            ("raIntervalFluxSeconds", "4"),
            ("remoteLsMaxAgeSeconds", "60"),
            ("unreachableHoldoffSeconds", "1"),
            ("saslConfigName", "skrouterd"),
            ("defaultDistribution", "balanced"),
            ("dataConnectionCount", "auto"),
            ("dropTcpConnections", "true"),
        ],
        shown: &[("area", S), ("version", S)],
        first: &["id", "vanId", "mode", "area", "version"],
        ..configured("router", &[])
    },
    Managed { updatable: &["networkId"], ..configured("network", &[UPDATE]) },
    configured("site", &[]),
    Managed {
        updatable: &[
            "ciphers",
            "protocols",
            "caCertFile",
            "certFile",
            "privateKeyFile",
            "password",
            "ordinal",
            "oldestValidOrdinal",
        ],
        ..configured("sslProfile", &[CREATE, UPDATE, DELETE])
    },
    Managed {
        updatable: &["host", "port", "username", "password", "scheme"],
        ..configured("proxyProfile", &[CREATE, UPDATE, DELETE])
    },
    Managed {
        defaults: &[
            ("host", ""),
            ("port", "amqp"),
            ("role", "normal"),
            ("cost", "1"),
            ("authenticatePeer", "false"),
            ("requireEncryption", "false"),
            ("requireSsl", "false"),
            FRAME,
            ("maxSessions", "32768"),
            ("idleTimeoutSeconds", "16"),
            ("initialHandshakeTimeoutSeconds", "0"),
            ("stripAnnotations", "both"),
            ("healthz", "true"),
            ("metrics", "true"),
            ("websockets", "true"),
            ("http", "false"),
            ("messageLoggingComponents", "none"),
        ],
        ..configured("listener", &[CREATE, DELETE])
    },
    Managed {
        defaults: &[
            ("host", "127.0.0.1"),
            ("port", "amqp"),
            ("role", "normal"),
            ("cost", "1"),
            ("verifyHostname", "true"),
            ("allowRedirect", "true"),
            FRAME,
            ("maxSessions", "32768"),
            ("idleTimeoutSeconds", "16"),
            ("stripAnnotations", "both"),
            ("messageLoggingComponents", "none"),
        ],
        shown: &[("connectionStatus", S), ("connectionMsg", S)],
        first: &[
            "host",
            "port",
            "socketAddressFamily",
            "role",
            "cost",
            "sslProfile",
            "proxyProfile",
            "saslMechanisms",
            "allowRedirect",
            "maxFrameSize",
            "maxSessions",
            "maxSessionFrames",
            "idleTimeoutSeconds",
            "stripAnnotations",
            "linkCapacity",
            "verifyHostname",
            "saslUsername",
            "saslPassword",
            "messageLoggingComponents",
            "failoverUrls",
            "connectionStatus",
            "connectionMsg",
        ],
        ..configured("connector", &[CREATE, DELETE])
    },
    Managed {
        updatable: &["observer"],
        defaults: &[
            ("host", ""),
            ("backlog", "0"),
            ("multiAddressStrategy", "none"),
            ("authenticatePeer", "false"),
            ("observer", "auto"),
        ],
        shown: &[COUNTERS[0], COUNTERS[1], COUNTERS[2], COUNTERS[3], ("operStatus", S), ("connectionMsg", S)],
        first: &[
            "address",
            "host",
            "backlog",
            "port",
            "multiAddressStrategy",
            "siteId",
            "connectionsOpened",
            "connectionsClosed",
            "bytesIn",
            "bytesOut",
            "sslProfile",
            "authenticatePeer",
            "operStatus",
            "connectionMsg",
        ],
        ..configured("tcpListener", &[CREATE, UPDATE, DELETE])
    },
    Managed {
        defaults: &[("host", "127.0.0.1"), ("verifyHostname", "true")],
        shown: &COUNTERS,
        first: &[
            "address",
            "host",
            "port",
            "siteId",
            "processId",
            "connectionsOpened",
            "connectionsClosed",
            "bytesIn",
            "bytesOut",
        ],
        ..configured("tcpConnector", &[CREATE, DELETE])
    },
    Managed { shown: &[COUNTERS[0]], ..configured("listenerAddress", &[CREATE, DELETE]) },
    Managed {
        updatable: &["enable", "includeTimestamp", "includeSource", "outputFile"],
        ..configured("log", &[UPDATE])
    },
    operational(
        "logStats",
        &[
            ("debugCount", I),
            ("infoCount", I),
            ("noticeCount", I),
            ("warningCount", I),
            ("errorCount", I),
            ("criticalCount", I),
        ],
    ),
    core(Managed {
        configured: Some("address"),
        defaults: &[("distribution", "balanced"), ("priority", "-1")],
        first: &["name", "identity", "type", "prefix", "distribution"],
        ..configured("router.config.address", &[CREATE, DELETE])
    }),
    core(Managed {
        configured: Some("autoLink"),
        shown: &[("linkRef", S), ("operStatus", S), ("lastError", S)],
        first: &["name", "identity", "type", "address", "direction", "connection"],
        ..configured("router.config.autoLink", &[CREATE, DELETE])
    }),
    core(operational(
        "router.link",
        &[
            ("name", S),
            ("identity", S),
            ("type", S),
            ("linkName", S),
            ("linkType", S),
            ("linkDir", S),
            ("owningAddr", S),
            ("capacity", I),
            ("undeliveredCount", I),
            ("unsettledCount", I),
            ("deliveryCount", I),
            ("connectionId", S),
            ("operStatus", S),
            ("presettledCount", I),
            ("droppedPresettledCount", I),
            ("acceptedCount", I),
            ("rejectedCount", I),
            ("releasedCount", I),
            ("modifiedCount", I),
            ("deliveriesDelayed1Sec", I),
            ("deliveriesDelayed10Sec", I),
            ("deliveriesStuck", I),
            ("openMovedStreams", I),
            ("ingressHistogram", L),
            ("priority", I),
            ("settleRate", I),
            ("creditAvailable", I),
            ("zeroCreditSeconds", I),
            NAMELESS,
        ],
    )),
    core(operational(
        "router.address",
        &[
            ("name", S),
            ("identity", S),
            ("type", S),
            ("key", S),
            ("distribution", S),
            ("inProcess", I),
            ("subscriberCount", I),
            ("remoteCount", I),
            ("remoteHostRouters", L),
            ("deliveriesIngress", I),
            ("deliveriesEgress", I),
            ("deliveriesTransit", I),
            ("deliveriesToContainer", I),
            ("deliveriesFromContainer", I),
            ("deliveriesEgressRouteContainer", I),
            ("deliveriesIngressRouteContainer", I),
            ("deliveriesEgressInterNetwork", I),
            ("deliveriesIngressInterNetwork", I),
            ("transitOutstanding", L),
            ("trackedDeliveries", I),
            ("priority", I),
            ("deliveriesRedirectedToFallback", I),
            ("watch", B),
        ],
    )),
    operational(
        "router.node",
        &[
            ("id", S),
            ("protocolVersion", I),
            ("instance", I),
            ("linkState", L),
            ("nextHop", S),
            ("validOrigins", L),
            ("address", S),
            ("routerLink", S),
            ("cost", I),
            ("lastTopoChange", I),
            ("index", I),
        ],
    ),
    core(Managed {
        operations: &[UPDATE],
        ..operational(
            "connection",
            &[
                ("name", S),
                ("identity", S),
                ("host", S),
                ("localSocket", S),
                ("role", S),
                ("protocol", S),
                ("dir", S),
                ("container", S),
                ("sasl", S),
                ("isAuthenticated", B),
                ("user", S),
                ("isEncrypted", B),
                ("sslProto", S),
                ("sslCipher", S),
                ("properties", M),
                ("sslSsf", I),
                ("type", S),
                ("ssl", B),
                ("opened", B),
                ("active", B),
                ("adminStatus", S),
                ("operStatus", S),
                ("uptimeSeconds", I),
                ("lastDlvSeconds", I),
                ("enableProtocolTrace", B),
                ("meshId", S),
                ("tlsOrdinal", I),
                ("groupCorrelationId", S),
                ("groupOrdinal", I),
            ],
        )
    }),
    operational(
        "tcpConnection",
        &[
            ("address", S),
            ("host", S),
            ("direction", S),
            ("bytesIn", I),
            ("bytesOut", I),
            ("uptimeSeconds", I),
            ("lastInSeconds", I),
            ("lastOutSeconds", I),
        ],
    ),
    operational(
        "allocator",
        &[
            ("typeName", S),
            ("typeSize", I),
            ("transferBatchSize", I),
            ("localFreeListMax", I),
            ("globalFreeListMax", I),
            ("totalAllocFromHeap", I),
            ("totalFreeToHeap", I),
            ("heldByThreads", I),
            ("batchesRebalancedToThreads", I),
            ("batchesRebalancedToGlobal", I),
        ],
    ),
    Managed {
        base: Some("configurationEntity"),
        ..operational(
            "policy",
            &[
                ("maxConnections", I),
                ("maxMessageSize", I),
                ("enableVhostPolicy", B),
                ("enableVhostNamePatterns", B),
                ("policyDir", S),
                ("defaultVhost", S),
                ("connectionsProcessed", I),
                ("connectionsDenied", I),
                ("connectionsCurrent", I),
                ("linksDenied", I),
                ("maxMessageSizeDenied", I),
                ("totalDenials", I),
            ],
        )
    },
    Managed {
        base: Some("configurationEntity"),
        ..operational(
            "vhost",
            &[
                ("hostname", S),
                ("aliases", S),
                ("maxConnections", I),
                ("maxMessageSize", I),
                ("maxConnectionsPerUser", I),
                ("maxConnectionsPerHost", I),
                ("allowUnknownUser", B),
                ("groups", M),
            ],
        )
    },
    Managed {
        base: Some("configurationEntity"),
        ..operational(
            "vhostUserGroupSettings",
            &[
                ("users", S),
                ("remoteHosts", S),
                ("maxConnectionsPerUser", I),
                ("maxConnectionsPerHost", I),
                ("maxMessageSize", I),
                ("maxFrameSize", I),
                ("maxSessionWindow", I),
                ("maxSessions", I),
                ("maxSenders", I),
                ("maxReceivers", I),
                ("allowDynamicSource", B),
                ("allowAnonymousSender", B),
                ("allowUserIdProxy", B),
                ("allowAdminStatusUpdate", B),
                ("sources", S),
                ("targets", S),
                ("sourcePattern", S),
                ("targetPattern", S),
            ],
        )
    },
    operational(
        "vhostStats",
        &[
            ("hostname", S),
            ("connectionsApproved", I),
            ("connectionsDenied", I),
            ("connectionsCurrent", I),
            ("perUserState", M),
            ("perHostState", M),
            ("sessionDenied", I),
            ("senderDenied", I),
            ("receiverDenied", I),
            ("maxMessageSizeDenied", I),
        ],
    ),
];

impl Managed {
    /// The type of a short name, or of a full one (`io.skupper.router.…`).
    pub fn of(name: &str) -> Option<&'static Self> {
        let short = name.strip_prefix(PREFIX).unwrap_or(name);
        MANAGED.iter().find(|managed| managed.name == short)
    }

    /// Its full name.
    pub fn full_name(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// The types it extends, its own base first.
    pub fn bases(&self) -> impl Iterator<Item = &'static Self> {
        std::iter::successors(self.base.and_then(Self::of), |base| base.base.and_then(Self::of))
    }

    /// Whether it is another type, or extends it.
    pub fn is_a(&self, other: &Self) -> bool {
        self.name == other.name || self.bases().any(|base| base.name == other.name)
    }

    /// What can be done with its entities.
    pub fn operations(&self) -> impl Iterator<Item = &'static str> {
        let inherited = self.bases().flat_map(|base| base.operations);
        self.operations.iter().chain(inherited).copied()
    }

    /// Its type in the configuration file.
    pub fn configured(&self) -> Option<&'static EntityType> {
        self.configured.and_then(EntityType::of)
    }

    /// The beginning of its entities' identities.
    pub fn label(&self) -> &'static str {
        self.configured.unwrap_or(self.name)
    }

    /// Its attributes.
    pub fn columns(&self) -> impl Iterator<Item = Column> {
        let configured = self.configured().map_or(&[][..], |kind| kind.attributes).iter();
        let configured = configured.map(|attribute| Column {
            name: attribute.name,
            kind: Some(attribute.kind),
            type_name: type_name(attribute.kind),
            default: self.defaults.iter().find(|(name, _)| *name == attribute.name).map(|(_, value)| *value),
            is_required: attribute.is_required,
            is_creatable: true,
            is_updatable: self.updatable.contains(&attribute.name),
        });
        let shown = |(name, type_name): &(&'static str, &'static str)| Column {
            name,
            kind: None,
            type_name,
            default: self.defaults.iter().find(|(other, _)| other == name).map(|(_, value)| *value),
            is_required: false,
            is_creatable: *name == "name",
            is_updatable: self.name == "connection" && ["adminStatus", "enableProtocolTrace"].contains(name),
        };
        let common = COMMON.map(|name| (name, S));
        let has_own_order = self.shown.iter().any(|(name, _)| *name == "identity");
        let common = common.into_iter().filter(move |_| !has_own_order).map(move |column| shown(&column));
        let mut columns: Vec<_> = configured.chain(self.shown.iter().map(shown)).chain(common).collect();
        columns.sort_by_key(|column| self.first.iter().position(|first| *first == column.name).unwrap_or(usize::MAX));
        columns.into_iter()
    }

    /// An attribute of a name.
    pub fn column(&self, name: &str) -> Option<Column> {
        self.columns().find(|column| column.name == name)
    }
}

impl Column {
    /// What it takes: the words if there are only some.
    pub fn describe_type(&self) -> Value {
        match self.kind {
            Some(Kind::Word(words)) => Value::List(words.iter().map(|word| Value::String((*word).into())).collect()),
            _ => Value::String(self.type_name.into()),
        }
    }

    /// A value in the attribute's type, as it is sent: of a text as in a configuration file.
    pub fn value(&self, text: &str) -> Value {
        let number = || text.parse().ok().map(integer);
        let value = match self.type_name {
            I => number(),
            B => text.parse().ok().map(Value::Bool),
            _ => None,
        };
        value.unwrap_or_else(|| Value::String(text.into()))
    }
}

/// A whole number as the original sends it: an int if it fits, else a long.
pub fn integer(number: i64) -> Value {
    i32::try_from(number).map_or(Value::Long(number), Value::Int)
}

fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Number | Kind::Positive => I,
        Kind::Truth => B,
        Kind::Map => M,
        // Also ports, which may be names.
        _ => S,
    }
}

#[cfg(test)]
mod tests {
    use super::super::ENTITY_TYPES;
    use super::*;

    #[test]
    fn everything_of_the_configuration_file_is_managed() {
        for kind in ENTITY_TYPES {
            assert!(MANAGED.iter().any(|managed| managed.configured == Some(kind.name)), "{}", kind.name);
        }
    }

    #[test]
    fn attributes_are_named_once_and_flags_name_attributes() {
        for managed in MANAGED {
            let mut names: Vec<_> = managed.columns().map(|column| column.name).collect();
            let flagged = managed.updatable.iter().chain(managed.defaults.iter().map(|(name, _)| name));
            for name in flagged.chain(managed.first) {
                assert!(names.contains(name), "{}: {name}", managed.name);
            }
            assert!(names.contains(&"identity") && names.contains(&"type"), "{}", managed.name);
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{}", managed.name);
        }
    }

    #[test]
    fn types_extend_each_other_as_in_the_original() {
        let bases = |name: &str| Managed::of(name).expect("a type").bases().map(|base| base.name).collect::<Vec<_>>();
        assert_eq!(bases("listener"), ["configurationEntity", "entity"]);
        assert_eq!(bases("io.skupper.router.management"), ["org.amqp.management", "operationalEntity", "entity"]);
        assert!(Managed::of("router.config.address").is_some() && Managed::of("address").is_none());
    }
}
