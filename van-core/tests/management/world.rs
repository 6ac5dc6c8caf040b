//! Entities in memory, for the agent to work on.

use std::collections::BTreeMap;
use std::time::Duration;

use van_core::amqp::Value;
use van_core::management::Attributes;
use van_core::management::agent::{Action, Change, Entities};
use van_core::management::rows::{AddressRow, ConnectionRow, LinkRow};
use van_core::management::schema::operational::Managed;

use crate::client::{map, text};

/// Entities by type.
pub(crate) struct World(BTreeMap<&'static str, Vec<Attributes>>);

impl World {
    /// What the router of the recording was, as far as it matters.
    pub(crate) fn new() -> Self {
        let named = |name: &str, identity: &str, others: &[(&'static str, Value)]| {
            let mut entity = Attributes::from([("name", text(name)), ("identity", text(identity))]);
            entity.extend(others.iter().cloned());
            entity
        };
        let node = |id: &str| {
            let identity = format!("router.node/{id}");
            named(&identity, &identity, &[("id", text(id)), ("address", text(&format!("amqp:/_topo/0/{id}")))])
        };
        let router = named("router/A", "router/A", &[("id", text("A")), ("mode", text("interior"))]);
        let listener = [
            ("host", text("127.0.0.1")),
            ("port", text("27503")),
            ("address", text("echo")),
            ("observer", text("auto")),
            ("operStatus", text("up")),
        ];
        let connection = ConnectionRow {
            id: 1,
            host: "127.0.0.1:45940".into(),
            role: "normal",
            container: Some("E".into()),
            properties: vec![("product".into(), text("skupper-router"))],
            uptime: Duration::from_secs(41),
            last_delivery: Some(Duration::from_secs(1)),
            group: Some(("3Y8QTF5QSwT6dBL".into(), 0)),
            ..ConnectionRow::default()
        };
        let counters = map(&[("amqp", Value::Ulong(1))]);
        let metrics = [("id", text("A")), ("addrCount", Value::Ulong(28)), ("connectionCounters", counters)];
        Self(BTreeMap::from([
            ("router", vec![router]),
            ("router.node", vec![node("A"), node("B")]),
            ("routerMetrics", vec![named("1", "1", &metrics)]),
            ("connection", vec![connection.attributes()]),
            ("router.link", vec![LinkRow::default().attributes()]),
            ("router.address", vec![AddressRow { key: "Mecho".into(), ..AddressRow::default() }.attributes()]),
            ("listener", vec![named("amqp", "listener/127.0.0.1:5672:amqp", &[("port", text("5672"))])]),
            ("sslProfile", vec![named("profile", "sslProfile/profile", &[])]),
            ("tcpListener", vec![named("tl", "tcpListener/127.0.0.1:27503:tl", &listener)]),
        ]))
    }

    /// One more of many.
    pub(crate) fn add_connector(&mut self, number: u32) {
        let name = format!("a connector with a long name, number {number}");
        let entity = [("name", text(&name)), ("identity", text(&name)), ("host", text("h")), ("port", text("1"))];
        self.0.entry("tcpConnector").or_default().push(entity.into());
    }

    /// Does what the agent wants done.
    pub(crate) fn apply(&mut self, change: &Change) {
        let entities = self.0.entry(change.managed.name).or_default();
        entities.retain(|entity| entity["identity"] != text(&change.identity));
        if change.action != Action::Delete {
            entities.push(change.attributes.clone());
        }
    }
}

impl Entities for World {
    fn list(&self, managed: &Managed) -> Vec<Attributes> {
        self.0.get(managed.name).cloned().unwrap_or_default()
    }

    fn log(&self, limit: usize) -> Vec<[Value; 6]> {
        let line = [text("ROUTER"), text("info"), text("up"), Value::Null, Value::Null, Value::Int(1)];
        vec![line; limit.min(3)]
    }
}
