//! What routers tell each other in `open` (docs/wire.md §1.4, §1.5).

use std::fmt;

use crate::amqp::{Config, Open, Symbol, Value};
use crate::plane::Purpose;

/// Capabilities, offered and desired: messages without a target on the link; links of their own for streams; connections
/// of their own for streams.
const CAPABILITIES: [&str; 3] = ["ANONYMOUS-RELAY", STREAMING_LINKS, TRUNKING];
const STREAMING_LINKS: &str = "qd.streaming-links";
const TRUNKING: &str = "qd.connection_trunking";

const COST: &str = "qd.inter-router-cost";
const ROLE: &str = "qd.inter-router-role";
const CORRELATOR: &str = "qd.group-correlator";
const ORDINAL: &str = "qd.group-ordinal";
const ACCESS: &str = "qd.access-id";
const ANNOTATIONS: &str = "qd.annotations-version";
const FAILOVER: &str = "failover-server-list";
const HOST: &str = "network-host";
const PORT: &str = "port";
const SCHEME: &str = "scheme";

/// The role of a data connection; a control connection does not name one.
const DATA_ROLE: i32 = 4;

/// Octets of a correlator that count.
const CORRELATOR_BYTES: usize = 15;

/// Octets of an access's identity that count: more than any has.
const ACCESS_BYTES: usize = 64;

/// Places of a failover list that count.
pub const MAX_PLACES: usize = 16;

/// Octets of a host that count: more than any name has.
const HOST_BYTES: usize = 255;

/// The version of the router annotations section. Told, not negotiated.
const ANNOTATIONS_VERSION: i32 = 2;

/// What only the dialling end says: which of its connections belong together, and what this one is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialled {
    /// 15 characters that all connections of a link share.
    pub correlator: String,
    /// The generation of its TLS credentials, if it has any.
    pub ordinal: Option<u64>,
    /// What the connection is for.
    pub purpose: Purpose,
}

/// Where a peer may connect as well, if a router is lost (docs/wire.md §1.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `amqp` or `amqps`, if it says; for people, who dials knows whether it speaks TLS.
    pub scheme: Option<String>,
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// What a peer said in its open, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The router at the other end.
    pub container: String,
    /// Its product and version, for people.
    pub product: String,
    /// The cost it gives the link; 1 if it does not say.
    pub cost: u32,
    /// What the connection is for.
    pub purpose: Purpose,
    /// What its connections have in common.
    pub correlator: Option<String>,
    /// The generation of its TLS credentials.
    pub ordinal: u64,
    /// The VanFlow identity of the access that took the connection in, if we dialled it.
    pub access: Option<String>,
    /// Whether it takes streams on connections of their own.
    pub has_trunking: bool,
    /// Where to connect if it is lost, if it says; an empty list takes back what it said before.
    pub failover: Option<Vec<Place>>,
}

/// The open of a router: what it says of itself, and as the dialling end of the connection.
pub fn open_config(container: &str, host: Option<&str>, cost: u32, dialled: Option<&Dialled>) -> Config {
    let mut properties = vec![
        (Symbol::from("product"), Value::String("van-router".into())),
        (Symbol::from("version"), Value::String(env!("CARGO_PKG_VERSION").into())),
    ];
    if cost > 1 {
        properties.push((Symbol::from(COST), Value::Int(i32::try_from(cost).unwrap_or(i32::MAX))));
    }
    if let Some(dialled) = dialled {
        if dialled.purpose == Purpose::Data {
            properties.push((Symbol::from(ROLE), Value::Int(DATA_ROLE)));
        }
        if !matches!(dialled.purpose, Purpose::Links(_)) {
            properties.push((Symbol::from(CORRELATOR), Value::String(dialled.correlator.clone())));
            properties.extend(dialled.ordinal.map(|ordinal| (Symbol::from(ORDINAL), Value::Ulong(ordinal))));
        }
    }
    properties.push((Symbol::from(ANNOTATIONS), Value::Int(ANNOTATIONS_VERSION)));
    Config {
        hostname: host.map(str::to_owned),
        capabilities: CAPABILITIES.map(Symbol::from).to_vec(),
        properties,
        ..Config::new(container)
    }
}

/// The open of a router as the accepting end; `access` is the VanFlow identity of the place where it accepts, `failover`
/// where peers may connect if this router is lost.
pub fn access_config(container: &str, cost: u32, access: &str, failover: &[Place]) -> Config {
    let mut config = open_config(container, None, cost, None);
    config.properties.push((Symbol::from(ACCESS), Value::String(access.to_owned())));
    if !failover.is_empty() {
        let list = failover.iter().map(Place::to_value).collect();
        config.properties.push((Symbol::from(FAILOVER), Value::List(list)));
    }
    config
}

impl Place {
    fn to_value(&self) -> Value {
        let scheme = self.scheme.iter().map(|scheme| (SCHEME, scheme.clone()));
        let rest = [(HOST, self.host.clone()), (PORT, self.port.to_string())];
        Value::Map(scheme.chain(rest).map(|(key, text)| (Value::symbol(key), Value::String(text))).collect())
    }

    fn read(item: &Value) -> Option<Self> {
        let text = |key| item.entry(key).and_then(Value::as_text);
        let host = text(HOST).filter(|host| !host.is_empty() && host.len() <= HOST_BYTES)?;
        let scheme = text(SCHEME).filter(|scheme| ["amqp", "amqps"].contains(scheme));
        Some(Self { scheme: scheme.map(str::to_owned), host: host.to_owned(), port: text(PORT)?.parse().ok()? })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.as_deref().unwrap_or("amqp");
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

impl Announcement {
    /// Reads a peer's open. What is absent or of another type has its default.
    pub fn read(open: &Open) -> Self {
        let text = |key| open.property(key).and_then(Value::as_text).unwrap_or_default();
        let correlator = text(CORRELATOR).chars().take(CORRELATOR_BYTES).collect::<String>();
        let role = open.property(ROLE).and_then(Value::as_integer);
        Self {
            container: open.container_id.clone(),
            product: [text("product"), text("version")].join(" ").trim().to_owned(),
            cost: match open.property(COST) {
                Some(Value::Int(cost)) => u32::try_from(*cost).unwrap_or(1).max(1),
                _ => 1,
            },
            purpose: if role == Some(DATA_ROLE.into()) { Purpose::Data } else { Purpose::Control },
            correlator: Some(correlator).filter(|correlator| !correlator.is_empty()),
            ordinal: match open.property(ORDINAL) {
                Some(Value::Ulong(ordinal)) => *ordinal,
                _ => 0,
            },
            access: open.property(ACCESS).and_then(Value::as_text).map(|access| cut(access).to_owned()),
            has_trunking: open.offers(TRUNKING),
            failover: open
                .property(FAILOVER)
                .and_then(Value::as_list)
                .map(|list| list.iter().filter_map(Place::read).take(MAX_PLACES).collect()),
        }
    }
}

/// As much of an identity as VanFlow lets it be long.
fn cut(access: &str) -> &str {
    &access[..access.floor_char_boundary(ACCESS_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(config: &Config) -> Open {
        Open {
            container_id: config.container_id.clone(),
            hostname: None,
            max_frame_size: 65_536,
            channel_max: 9,
            idle_time_out: None,
            outgoing_locales: vec![],
            incoming_locales: vec![],
            offered_capabilities: config.capabilities.clone(),
            desired_capabilities: vec![],
            properties: config.properties.clone(),
        }
    }

    #[test]
    fn what_is_announced_is_read() {
        let dialled = Dialled { correlator: "3Y8QTF5QSwT6dBL".into(), ordinal: Some(2), purpose: Purpose::Data };
        let read = Announcement::read(&open(&open_config("a", None, 7, Some(&dialled))));
        assert_eq!((read.container.as_str(), read.cost, read.ordinal), ("a", 7, 2));
        assert_eq!(read.correlator.as_deref(), Some("3Y8QTF5QSwT6dBL"));
        assert_eq!((read.purpose, read.has_trunking), (Purpose::Data, true));
    }

    #[test]
    fn an_accepting_end_names_no_group() {
        let read = Announcement::read(&open(&open_config("b", None, 1, None)));
        assert_eq!((read.correlator, read.ordinal, read.purpose, read.cost), (None, 0, Purpose::Control, 1));
    }

    #[test]
    fn an_access_tells_its_identity() {
        let read = Announcement::read(&open(&access_config("b", 1, "q3xZ_:7", &[])));
        assert_eq!((read.container.as_str(), read.access.as_deref()), ("b", Some("q3xZ_:7")));
        let long = Announcement::read(&open(&access_config("b", 1, &"ä".repeat(100), &[])));
        assert_eq!(long.access.map(|access| access.len()), Some(ACCESS_BYTES));
    }

    #[test]
    fn a_failover_list_is_read_as_far_as_it_can_be_used() {
        let place = |host: &str, port| Place { scheme: Some("amqps".into()), host: host.into(), port };
        let places = vec![place("b2.example", 55671), Place { scheme: None, ..place("::1", 1) }];
        let told = Announcement::read(&open(&access_config("b", 1, "", &places)));
        assert_eq!(told.failover.as_ref(), Some(&places));
        assert_eq!(
            places.iter().map(Place::to_string).collect::<Vec<_>>(),
            ["amqps://b2.example:55671", "amqp://[::1]:1"]
        );
        assert_eq!(Announcement::read(&open(&access_config("b", 1, "", &[]))).failover, None);

        let read = |list| {
            let mut open = open(&open_config("b", None, 1, None));
            open.properties.push((Symbol::from(FAILOVER), Value::List(list)));
            Announcement::read(&open).failover.expect("a list")
        };
        assert_eq!(read(vec![]), []);
        let item = |host: &str, port: &str| {
            let text = |key, text: &str| (Value::symbol(key), Value::String(text.into()));
            Value::Map(vec![text(HOST, host), text(PORT, port), text("hostname", "b")])
        };
        let bad = [Value::Null, Value::Map(vec![]), item("", "1"), item("b", "65536"), item(&"b".repeat(256), "1")];
        assert_eq!(read(bad.into_iter().chain([item("b", "1")]).collect()).len(), 1);
        assert_eq!(read(vec![item("b", "1"); 1000]).len(), MAX_PLACES);
    }

    #[test]
    fn a_cost_of_another_type_or_sign_is_one() {
        for value in [Value::Uint(5), Value::Int(-3), Value::Int(0), Value::String("5".into())] {
            let mut open = open(&open_config("c", None, 1, None));
            open.properties.push((Symbol::from(COST), value));
            assert_eq!(Announcement::read(&open).cost, 1);
        }
    }
}
