//! The management nodes of routers, asked over a link between them.

#[path = "../../van-core/tests/management/client.rs"]
#[allow(dead_code)] // it is for several tests
mod client;
#[path = "dial/ports.rs"]
mod ports;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use client::{Reply, map, question, text};
use ports::free_port;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use van_adaptors::{LogLine, Logs, Options, Router, Subscription};
use van_core::amqp::Value;
use van_core::management::config::{Configuration, Log};
use van_routing::Treatment;

/// A log that remembers what it was asked to be.
#[derive(Debug, Default)]
struct Remembered(Mutex<Vec<Log>>);

impl Logs for Remembered {
    fn recent(&self, limit: usize) -> Vec<LogLine> {
        let line = LogLine {
            module: "ROUTER".into(),
            level: "info",
            text: "up".into(),
            place: Some(("main.rs", 7)),
            at: UNIX_EPOCH + Duration::from_secs(9),
        };
        vec![line; limit.min(2)]
    }

    fn counts(&self) -> BTreeMap<String, [u64; 4]> {
        BTreeMap::from([("ROUTER".into(), [1, 2, 3, 4])])
    }

    fn configure(&self, logs: &[Log]) -> Result<(), String> {
        match logs.iter().find(|log| log.enable == "loud") {
            Some(log) => Err(format!("{} cannot be loud", log.module)),
            None => {
                *self.0.lock().expect("not poisoned") = logs.to_vec();
                Ok(())
            }
        }
    }
}

async fn receive(replies: &mut Subscription) -> Bytes {
    let received = tokio::time::timeout(Duration::from_secs(30), replies.recv()).await;
    received.expect("in time").expect("it runs")
}

/// Two routers with a link between them: one that is managed, and one from which.
struct Pair {
    managed: Router,
    asking: Router,
    replies: Subscription,
    logs: Arc<Remembered>,
}

impl Pair {
    async fn start() -> Self {
        let (port, logs) = (free_port(), Arc::<Remembered>::default());
        let start = |entities: serde_json::Value, logs: Option<Arc<dyn Logs>>| {
            let configuration = Configuration::parse(&entities.to_string(), |_| None).expect("a configuration");
            Router::start(configuration, &Options { logs, ..Options::default() }).expect("it starts")
        };
        let managed = json!([
            ["router", {"id": "managed", "mode": "interior", "metadata": "{\"id\":\"x\"}"}],
            ["listener", {"name": "links", "role": "inter-router", "host": "127.0.0.1", "port": port}],
            ["address", {"prefix": "mc", "distribution": "multicast"}],
            ["log", {"module": "ROUTER_CORE", "enable": "error+"}],
            ["site", {"name": "west", "platform": "linux"}],
        ]);
        let managed = start(managed, Some(Arc::clone(&logs) as Arc<dyn Logs>));
        let asking = json!([
            ["router", {"id": "asking", "mode": "interior"}],
            ["connector", {"name": "link", "role": "inter-router", "host": "127.0.0.1", "port": port}],
        ]);
        let asking = start(asking, None);
        let replies = asking.messages().subscribe("replies", Treatment::AnycastClosest);
        let mut is_reachable = managed.messages().watch("replies");
        while !is_reachable.is_reachable() {
            is_reachable.changed().await.expect("it runs");
        }
        Self { managed, asking, replies, logs }
    }

    async fn ask(&mut self, properties: &[(&str, &str)], body: Value) -> Reply {
        let properties: Vec<_> = properties.iter().map(|(key, value)| (*key, text(value))).collect();
        let asked = question("replies", &properties, body);
        self.asking.messages().send("amqp:/_topo/0/managed/$management", asked).expect("sent");
        Reply::read(&receive(&mut self.replies).await)
    }

    async fn query(&mut self, entity_type: &str) -> Reply {
        let reply = self.ask(&[("operation", "QUERY"), ("entityType", entity_type)], Value::Null).await;
        assert_eq!(reply.status, Value::Int(200), "{entity_type}: {:?}", reply.description);
        reply
    }
}

#[tokio::test]
async fn a_router_manages_another_over_a_link() {
    let mut pair = Pair::start().await;
    for (entity_type, column, expected) in [
        ("router", "id", vec!["managed"]),
        ("router", "metadata", vec!["{\"id\":\"x\"}"]),
        ("router.node", "id", vec!["managed", "asking"]),
        ("site", "name", vec!["west"]),
        ("listener", "role", vec!["inter-router"]),
        ("router.config.address", "prefix", vec!["mc"]),
        ("connection", "container", vec!["asking"]),
    ] {
        let reply = pair.query(entity_type).await;
        let mut found = reply.column(column);
        found.dedup();
        let expected: Vec<_> = expected.into_iter().map(text).collect();
        assert_eq!(found, expected.iter().collect::<Vec<_>>(), "{entity_type} {column}");
    }
    let links = pair.query("router.link").await;
    let kinds = links.column("linkType");
    assert!(kinds.contains(&&text("router-control")) && kinds.contains(&&text("inter-router")), "{kinds:?}");
    let metrics = pair.query("routerMetrics").await;
    assert!(metrics.column("linkCount")[0].as_integer().is_some_and(|count| count >= 22), "{metrics:?}");
    let nodes = pair.ask(&[("operation", "GET-MGMT-NODES")], Value::Null).await;
    let expected = ["managed", "asking"].map(|id| text(&format!("amqp:/_topo/0/{id}/$management")));
    assert_eq!(nodes.body, Value::List(expected.to_vec()));
    let addresses = pair.query("router.address").await;
    for key in ["M$management", "L$management", "Masking"].map(text) {
        assert_eq!(addresses.column("key").contains(&&key), key != text("Masking"), "{key:?}");
    }
}

#[tokio::test]
async fn tcp_services_are_made_changed_and_ended_from_afar() {
    let mut pair = Pair::start().await;
    let port = free_port();
    let web = map(&[
        ("host", text("127.0.0.1")),
        ("port", text(&port.to_string())),
        ("address", text("web")),
        ("siteId", text("west")),
    ]);
    let created = pair.ask(&[("operation", "CREATE"), ("type", "tcpListener"), ("name", "web")], web.clone()).await;
    assert_eq!((&created.status, created.body.entry("siteId")), (&Value::Int(201), Some(&text("west"))));
    assert_eq!(created.body.entry("operStatus"), Some(&text("down")), "nobody consumes it");
    let again = pair.ask(&[("operation", "CREATE"), ("type", "tcpListener"), ("name", "web")], web).await;
    assert_eq!(again.status, Value::Int(400));
    let backend = map(&[("host", text("127.0.0.1")), ("port", Value::Int(9)), ("address", text("web"))]);
    let created = pair.ask(&[("operation", "CREATE"), ("type", "tcpConnector"), ("name", "backend")], backend).await;
    assert_eq!((created.status, created.body.entry("port")), (Value::Int(201), Some(&text("9"))));
    assert!(pair.managed.entities().states().borrow().tcp_connectors.contains_key("backend"));
    let mut states = pair.managed.entities().states();
    states.wait_for(|states| states.tcp_listeners["web"].is_open).await.expect("it runs");
    let shown = pair.query("tcpListener").await;
    assert_eq!(shown.column("operStatus"), [&text("up")]);
    assert_eq!(shown.column("identity"), [&text(&format!("tcpListener/127.0.0.1:{port}:web"))]);
    for (name, status) in [("web", 204), ("backend", 204), ("web", 404)] {
        let deleted = pair.ask(&[("operation", "DELETE"), ("name", name)], Value::Null).await;
        assert_eq!(deleted.status, Value::Int(status), "{name}");
    }
    assert!(pair.query("tcpListener").await.rows().is_empty());
}

#[tokio::test]
async fn a_stream_is_shown_at_both_ends_and_can_be_ended() {
    let mut pair = Pair::start().await;
    let workload = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let (backend, port) = (workload.local_addr().expect("an address"), free_port());
    let place =
        |port: u16| map(&[("host", text("127.0.0.1")), ("port", text(&port.to_string())), ("address", text("web"))]);
    for (kind, port) in [("tcpConnector", backend.port()), ("tcpListener", port)] {
        let created = pair.ask(&[("operation", "CREATE"), ("type", kind), ("name", kind)], place(port)).await;
        assert_eq!(created.status, Value::Int(201), "{kind}");
    }
    let mut states = pair.managed.entities().states();
    states.wait_for(|states| states.tcp_listeners["tcpListener"].is_open).await.expect("it runs");
    let mut client = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("a connection");
    client.write_all(b"hello").await.expect("written");
    let (mut served, _) = workload.accept().await.expect("a connection");
    served.read_exact(&mut [0; 5]).await.expect("read");
    served.write_all(b"hi").await.expect("written");
    client.read_exact(&mut [0; 2]).await.expect("read");

    let streams = pair.query("tcpConnection").await;
    let of = |name: &str, direction: &str| {
        let place = streams.column("direction").iter().position(|it| **it == text(direction)).expect("one each way");
        streams.column(name)[place].clone()
    };
    assert_eq!(streams.rows().len(), 2);
    let client_address = client.local_addr().expect("an address").to_string();
    for (name, [came, went]) in [
        ("address", ["web", "web"].map(text)),
        ("host", [&client_address, &backend.to_string()].map(|address| text(address))),
        ("bytesIn", [5, 2].map(Value::Int)),
        ("bytesOut", [2, 5].map(Value::Int)),
        ("uptimeSeconds", [0, 0].map(Value::Int)),
    ] {
        assert_eq!((of(name, "in"), of(name, "out")), (came, went), "{name}");
    }
    let listener = pair.query("tcpListener").await;
    assert_eq!((listener.column("bytesIn"), listener.column("bytesOut")), (vec![&Value::Int(5)], vec![&Value::Int(2)]));

    let connections = pair.query("connection").await;
    let place = connections.column("host").iter().position(|host| **host == text(&client_address)).expect("shown");
    let value = |name: &str| connections.column(name)[place].clone();
    let expected =
        [("protocol", "tcp"), ("container", "TcpAdaptor"), ("role", "normal"), ("dir", "in"), ("operStatus", "up")];
    for (name, expected) in expected {
        assert_eq!(value(name), text(expected), "{name}");
    }
    assert_eq!(value("localSocket"), text(&format!("127.0.0.1:{port}")));
    let identity = value("identity");
    let update = [("operation", "UPDATE"), ("type", "connection"), ("identity", identity.as_text().expect("text"))];
    let ended = pair.ask(&update, map(&[("adminStatus", text("deleted"))])).await;
    assert_eq!(ended.status, Value::Int(200), "{:?}", ended.description);
    assert!(client.read(&mut [0; 1]).await.is_err(), "reset");
    assert_eq!(pair.ask(&update, map(&[("adminStatus", text("deleted"))])).await.status, Value::Int(400));
}

#[tokio::test]
async fn a_connection_shows_whether_its_frames_are_logged() {
    let mut pair = Pair::start().await;
    let connection = [("operation", "UPDATE"), ("type", "connection"), ("identity", "1")];
    for is_traced in [true, false] {
        let changed = pair.ask(&connection, map(&[("enableProtocolTrace", Value::Bool(is_traced))])).await;
        assert_eq!(changed.status, Value::Int(200), "{:?}", changed.description);
        assert_eq!(changed.body.entry("enableProtocolTrace"), Some(&Value::Bool(is_traced)));
    }
    let refused = pair.ask(&connection, map(&[("enableProtocolTrace", text("loud"))])).await;
    assert_eq!(refused.status, Value::Int(400));
}

#[tokio::test]
async fn deliveries_are_counted_by_address_link_and_router() {
    let mut pair = Pair::start().await;
    let mut inbox = pair.managed.messages().subscribe("inbox", Treatment::AnycastClosest);
    let mut is_reachable = pair.asking.messages().watch("inbox");
    while !is_reachable.is_reachable() {
        is_reachable.changed().await.expect("it runs");
    }
    for _ in 0..3 {
        pair.asking.messages().send("inbox", question("replies", &[], Value::Null)).expect("sent");
    }
    for _ in 0..3 {
        receive(&mut inbox).await;
    }
    let addresses = pair.query("router.address").await;
    let place = addresses.column("key").iter().position(|key| **key == text("Minbox")).expect("shown");
    assert_eq!(addresses.column("deliveriesToContainer")[place], &Value::Ulong(3));
    let links = pair.query("router.link").await;
    let presettled: u64 = links.column("presettledCount").iter().filter_map(|it| it.as_integer()).sum::<i64>() as u64;
    assert!(presettled >= 4, "{presettled}: the messages, and the router protocol");
    let connections = pair.query("connection").await;
    assert!(connections.column("lastDlvSeconds").iter().any(|last| last.as_integer().is_some()));
}

#[tokio::test]
async fn an_automatic_link_tells_how_it_is_doing() {
    let mut pair = Pair::start().await;
    let create = [("operation", "CREATE"), ("type", "router.config.autoLink"), ("name", "a")];
    let link = map(&[("address", text("q")), ("direction", text("in")), ("containerId", text("broker"))]);
    let created = pair.ask(&create, link).await;
    assert_eq!((created.status, created.body.entry("operStatus")), (Value::Int(201), Some(&text("inactive"))));
    assert_eq!(pair.query("router.config.autoLink").await.column("operStatus"), [&text("inactive")]);
    let delete = [("operation", "DELETE"), ("type", "router.config.autoLink"), ("name", "a")];
    assert_eq!(pair.ask(&delete, Value::Null).await.status, Value::Int(204));
    assert!(pair.query("router.config.autoLink").await.rows().is_empty());
}

#[tokio::test]
async fn management_tells_what_it_takes_itself() {
    let mut pair = Pair::start().await;
    for (property, status) in [("stop", 400), ("start", 200)] {
        let reply = pair.ask(&[("operation", "PROFILE"), (property, "1")], Value::Null).await;
        assert_eq!(reply.status, Value::Int(status), "{property}");
    }
    pair.query("router").await;
    let told = pair.ask(&[("operation", "PROFILE"), ("stop", "1")], Value::Null).await;
    assert!(told.body.as_text().is_some_and(|table| table.contains("QUERY")), "{:?}", told.body);
}

#[tokio::test]
async fn what_names_nothing_fitting_fails_as_in_the_original() {
    let mut pair = Pair::start().await;
    let port = free_port().to_string();
    let tcp = |strategy: (&str, &str)| {
        map(&[("host", text("127.0.0.1")), ("port", text(&port)), (strategy.0, text(strategy.1))])
    };
    let several = [("operation", "CREATE"), ("type", "tcpListener"), ("name", "several")];
    assert_eq!(pair.ask(&several, tcp(("multiAddressStrategy", "priority"))).await.status, Value::Int(201));
    let address =
        |listener: &str| map(&[("address", text("a")), ("value", Value::Int(1)), ("listener", text(listener))]);
    for (name, listener, status) in [("lost", "nowhere", 500), ("first", "several", 201), ("first", "several", 400)] {
        let create = [("operation", "CREATE"), ("type", "listenerAddress"), ("name", name)];
        let created = pair.ask(&create, address(listener)).await;
        assert_eq!(created.status, Value::Int(status), "{name} {listener}: {:?}", created.description);
    }
    for (name, status) in [("several", 500), ("first", 204), ("several", 204)] {
        let deleted = pair.ask(&[("operation", "DELETE"), ("name", name)], Value::Null).await;
        assert_eq!(deleted.status, Value::Int(status), "{name}: {:?}", deleted.description);
    }
}

#[tokio::test]
async fn what_the_configuration_refuses_is_refused() {
    let mut pair = Pair::start().await;
    let with_profile =
        [("host", text("h")), ("port", text("1")), ("role", text("inter-router")), ("sslProfile", text("p"))];
    for (kind, body, status, why) in [
        ("connector", map(&with_profile), 400, "no sslProfile named `p`"),
        ("sslProfile", map(&[("caCertFile", text("/nowhere"))]), 400, "/nowhere"),
        (
            "tcpListener",
            map(&[("host", text("256.0.0.1")), ("port", text("1")), ("address", text("x"))]),
            500,
            "256.0.0.1",
        ),
        (
            "tcpListener",
            map(&[("port", text("1")), ("address", text("x")), ("multiAddressStrategy", text("priority"))]),
            400,
            "`address` or `multiAddressStrategy`",
        ),
        ("router.config.address", map(&[("prefix", text("a")), ("pattern", text("b"))]), 400, "`prefix` or `pattern`"),
    ] {
        let refused = pair.ask(&[("operation", "CREATE"), ("type", kind), ("name", "new")], body).await;
        assert_eq!(refused.status, Value::Int(status), "{kind}: {:?}", refused.description);
        let description = refused.description.as_text().unwrap_or_default();
        assert!(description.contains(why), "{kind}: {description}");
    }
    let profile = [("operation", "CREATE"), ("type", "sslProfile"), ("name", "generations")];
    assert_eq!(
        pair.ask(&profile, map(&[("ordinal", text("2")), ("oldestValidOrdinal", text("2"))])).await.status,
        Value::Int(201)
    );
    let outdate = [("operation", "UPDATE"), ("type", "sslProfile"), ("name", "generations")];
    let refused = pair.ask(&outdate, map(&[("oldestValidOrdinal", text("9"))])).await;
    assert_eq!(refused.status, Value::Int(400), "its links would never come back: {:?}", refused.description);
    let connection = [("operation", "UPDATE"), ("type", "connection"), ("identity", "1")];
    let refused = pair.ask(&connection, map(&[("adminStatus", text("deleted"))])).await;
    assert_eq!(refused.status, Value::Int(403), "a link between routers");
}

#[tokio::test]
async fn the_log_is_looked_at_and_changed() {
    let mut pair = Pair::start().await;
    assert_eq!(pair.query("log").await.rows().len(), 23, "one for each module");
    let update = [("operation", "UPDATE"), ("type", "log"), ("name", "log/ROUTER")];
    let updated = pair.ask(&update, map(&[("enable", text("debug+"))])).await;
    assert_eq!((updated.status, updated.body.entry("enable")), (Value::Int(200), Some(&text("debug+"))));
    let asked_for = |module: &str| {
        let logs = pair.logs.0.lock().expect("not poisoned");
        logs.iter().find(|log| log.module == module).map(|log| log.enable.clone())
    };
    assert_eq!(asked_for("ROUTER").as_deref(), Some("debug+"));
    assert_eq!(asked_for("ROUTER_CORE").as_deref(), Some("error+"), "what the file says stays");
    let refused = pair.ask(&update, map(&[("enable", text("loud"))])).await;
    assert_eq!(refused.status, Value::Int(500));
    let counts = pair.query("logStats").await;
    assert_eq!(counts.rows().len(), 23, "one for each module");
    let place = counts.column("name").iter().position(|name| **name == text("ROUTER")).expect("shown");
    let of = |name| counts.column(name)[place].as_integer();
    assert_eq!(["debugCount", "infoCount", "warningCount", "errorCount"].map(of), [Some(1), Some(2), Some(3), Some(4)]);
    let properties = [("operation", text("GET-LOG")), ("limit", Value::Int(1))];
    pair.asking
        .messages()
        .send("_topo/0/managed/$management", question("replies", &properties, Value::Null))
        .expect("sent");
    let lines = Reply::read(&receive(&mut pair.replies).await).body;
    let line = [text("ROUTER"), text("info"), text("up"), text("main.rs"), Value::Int(7), Value::Int(9)];
    assert_eq!(lines, Value::List(vec![Value::List(line.to_vec())]));
}

#[tokio::test]
async fn addresses_are_spread_as_management_says() {
    let mut pair = Pair::start().await;
    let _news = pair.managed.messages().subscribe("x/news", Treatment::AnycastClosest);
    let treatment = |router: &Router| router.routes().addresses.get("x/news").map(|consumers| consumers.treatment);
    let create = [("operation", "CREATE"), ("type", "router.config.address"), ("name", "x")];
    let created = pair.ask(&create, map(&[("prefix", text("x")), ("distribution", text("multicast"))])).await;
    assert_eq!((created.status, created.body.entry("priority")), (Value::Int(201), Some(&Value::Int(-1))));
    assert_eq!(pair.query("router.config.address").await.column("prefix"), [&text("mc"), &text("x")]);
    while treatment(&pair.managed) != Some(Treatment::MulticastOnce) {
        pair.managed.routes_changed().await;
    }
    let deleted =
        pair.ask(&[("operation", "DELETE"), ("type", "router.config.address"), ("name", "x")], Value::Null).await;
    assert_eq!(deleted.status, Value::Int(204));
    while treatment(&pair.managed) != Some(Treatment::AnycastClosest) {
        pair.managed.routes_changed().await;
    }
}

#[tokio::test]
async fn the_network_is_not_told_of_management() {
    let pair = Pair::start().await;
    assert!(!pair.asking.messages().is_reachable("$management"));
    // Its own is nearer than any.
    let asked = question(
        "replies",
        &[("operation", text("READ")), ("type", text("router")), ("name", text("router/asking"))],
        Value::Null,
    );
    let mut replies = pair.replies;
    for address in ["$management", "_local/$management", "_topo/0/asking/$management"] {
        pair.asking.messages().send(address, asked.clone()).expect("sent");
        let reply = Reply::read(&receive(&mut replies).await);
        assert_eq!(reply.body.entry("id"), Some(&text("asking")), "{address}");
    }
}
