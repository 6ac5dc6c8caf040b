//! From the text of a configuration file to a [`Configuration`].

mod by_type;
mod entity;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use van_routing::{Cost, RouterId, Timing, Treatment};

use self::entity::{Entity, suggestion};
use super::{
    ConfigError, Configuration, Fault, Log, MAX_DATA_CONNECTIONS, Mode, Network, ProxyProfile, Site, TlsProfile,
};
use crate::plane::MAX_SHARDS;
use crate::router::{AddressPattern, AddressRule, Distribution};

/// What a peer can be told of a time, which is milliseconds in 32 bits (AMQP 1.0 §2.7.1). No other is to be longer.
const MAX_SECONDS: u64 = u32::MAX as u64 / 1000;

/// The highest priority of a message (docs/wire.md §6.4).
const MAX_PRIORITY: u64 = 9;

pub(super) fn parse(text: &str, variable: &impl Fn(&str) -> Option<String>) -> Result<Configuration, ConfigError> {
    let mut reading = Reading::default();
    let entities = reading.entities(text, variable);
    let configuration = reading.configuration(&entities);
    match configuration {
        Some(configuration) if reading.faults.is_empty() => Ok(configuration),
        _ => Err(ConfigError(reading.faults)),
    }
}

#[derive(Default)]
struct Reading {
    faults: Vec<Fault>,
    warnings: Vec<String>,
    /// The places of the entities that are not started.
    left_out: BTreeSet<String>,
    mode: Mode,
}

impl Reading {
    fn fault(&mut self, place: &str, message: impl Into<String>) {
        self.faults.push(Fault { place: place.to_owned(), message: message.into() });
    }

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
        for entity in entities.iter().filter(|entity| entity.kind.name == "sslProfile") {
            let Some(TlsProfile { ordinal, oldest_valid_ordinal: oldest, .. }) = profiles.get(&entity.name) else {
                continue;
            };
            if oldest > ordinal {
                let fault =
                    format!("`oldestValidOrdinal` is {oldest}, above `ordinal` {ordinal}: no connection could be made");
                self.fault(&entity.place, fault);
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
}

fn no_effect(entity: &Entity, key: &str) -> String {
    format!("{}: `{key}` is read but has no effect in this version", entity.place)
}

fn mode(router: &Entity) -> Mode {
    match router.text("mode").as_deref() {
        Some("interior") => Mode::Interior,
        Some("edge") => Mode::Edge,
        _ => Mode::Standalone,
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
            r#"["sslProfile", {"name": "p", "ordinal": 2, "oldestValidOrdinal": 3}], ["sslProfile", {"name": "q", "ordinal": 2, "oldestValidOrdinal": 2}]"#,
            &["sslProfile \"p\": `oldestValidOrdinal` is 3, above `ordinal` 2: no connection could be made"],
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
