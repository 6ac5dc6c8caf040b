//! The management agent: what a skupper-router was asked, asked of ours, and what it says to everything else.

#[path = "management/client.rs"]
mod client;
#[path = "management/world.rs"]
mod world;

use client::{Reply, correlated, map, question, text};
use proptest::prelude::*;
use serde_json::Value as Json;
use van_core::amqp::{Encode, Value};
use van_core::management::agent::{self, Step};
use van_core::management::request::{Answer, MAX_REQUEST_BYTES, Request, Status};
use van_core::management::schema::operational::{MANAGED, Managed};
use world::World;

const REPLY_TO: &str = "amqp:/_topo/0/A/temp.5AFmx54aRUtAuI+";

/// What the agent says, done what it wants done.
fn ask(world: &mut World, properties: &[(&str, &str)], body: Value) -> Reply {
    let properties: Vec<_> = properties.iter().map(|(key, value)| (*key, text(value))).collect();
    say(world, &question(REPLY_TO, &properties, body)).expect("an answer")
}

fn say(world: &mut World, octets: &[u8]) -> Option<Reply> {
    let request = Request::read(octets)?;
    let answer = match agent::handle(&request, world) {
        Step::Answer(answer) => answer,
        Step::Change(change) => {
            world.apply(&change);
            change.answer(Ok(()), world)
        }
        Step::Profile(_) => Answer::new(Status::Ok, Value::Null),
    };
    Some(Reply::read(&request.answer(&answer)))
}

fn octets(hex: &Json) -> Vec<u8> {
    let hex = hex.as_str().expect("hex");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

#[test]
fn what_a_skupper_router_was_asked_gets_the_same_columns_and_status() {
    let mut world = World::new();
    for line in include_str!("management/recorded.jsonl").lines() {
        let line: Json = serde_json::from_str(line).expect("JSON");
        let then = Reply::read(&octets(&line["answered"]));
        let now = say(&mut world, &octets(&line["asked"])).expect("an answer");
        let asked = |reply: &Reply| (reply.to.clone(), reply.correlation_id.clone(), reply.status.clone());
        assert_eq!((asked(&now), &now.description), (asked(&then), &then.description));
        if then.body.entry("attributeNames").is_some() {
            assert_eq!(now.columns(), then.columns());
            for (column, name) in then.columns().iter().enumerate().filter(|(_, name)| !name.is_empty()) {
                check_types(name, &first(&then, column), &first(&now, column));
            }
        } else {
            assert_eq!(now.body, then.body);
        }
    }
}

/// A value of the column that is not null, if a row has one.
fn first(reply: &Reply, column: usize) -> Value {
    let values = reply.rows().iter().map(|row| row.as_list().expect("a row")[column].clone());
    values.into_iter().find(|value| *value != Value::Null).unwrap_or(Value::Null)
}

/// Clients with types take a value only in the type it always had.
#[track_caller]
fn check_types(name: &str, then: &Value, now: &Value) {
    let has_both = *then != Value::Null && *now != Value::Null;
    assert!(!has_both || std::mem::discriminant(then) == std::mem::discriminant(now), "{name}: {then:?}, {now:?}");
}

#[track_caller]
fn check(properties: &[(&str, &str)], body: Value, status: i32) {
    let reply = ask(&mut World::new(), properties, body.clone());
    assert_eq!(reply.status, Value::Int(status), "{properties:?} {body:?}: {:?}", reply.description);
    if status >= 400 {
        assert_eq!(reply.body, Value::Map(vec![]));
    }
}

const LISTENER: &str = "io.skupper.router.tcpListener";
const CONNECTION: &str = "io.skupper.router.connection";

#[test]
fn every_request_ends_with_the_status_that_the_original_gives() {
    let none = || Value::Map(vec![]);
    let web = || map(&[("host", text("127.0.0.1")), ("port", text("8080")), ("address", text("web"))]);
    let create = |name| [("operation", "CREATE"), ("type", LISTENER), ("name", name)];
    check(&create("new"), web(), 201);
    check(&create("tl"), web(), 400);
    check(&create("profile"), web(), 400);
    for (key, value) in [
        ("bogus", text("1")),
        ("identity", text("x")),
        ("operStatus", text("up")),
        ("observer", text("never")),
        ("port", text("x")),
    ] {
        let Value::Map(mut pairs) = web() else { unreachable!() };
        pairs.retain(|(known, _)| known.as_text() != Some(key));
        pairs.push((text(key), value));
        check(&create("new"), Value::Map(pairs), 400);
    }
    let with = |key: &str, value: Value| {
        let Value::Map(mut pairs) = web() else { unreachable!() };
        pairs.push((text(key), value));
        Value::Map(pairs)
    };
    check(&create("new"), with("name", text("other")), 400);
    check(&create("new"), with("siteId", Value::Null), 201);
    check(&create("new"), map(&[("host", text("h")), ("address", text("web"))]), 400);
    check(&create("new"), Value::List(vec![]), 400);
    check(&[("operation", "CREATE"), ("name", "new")], web(), 400);
    check(&[("operation", "CREATE"), ("type", "nosuch")], web(), 400);
    check(&[("operation", "CREATE"), ("type", "log")], none(), 501);
    check(&[("operation", "CREATE"), ("type", "router")], none(), 501);
    check(&[("operation", "CREATE"), ("type", "router.link")], none(), 403);
    check(&[("operation", "READ"), ("type", LISTENER), ("name", "tl")], none(), 200);
    check(&[("operation", "READ"), ("name", "tl")], Value::Null, 200);
    check(&[("operation", "READ"), ("identity", "tcpListener/127.0.0.1:27503:tl")], none(), 200);
    check(&[("operation", "READ"), ("name", "tl"), ("identity", "other")], none(), 400);
    check(&[("operation", "READ"), ("type", "tcpConnector"), ("name", "tl")], none(), 400);
    check(&[("operation", "READ"), ("type", "configurationEntity"), ("name", "tl")], none(), 200);
    check(&[("operation", "READ"), ("name", "nobody")], none(), 404);
    check(&[("operation", "READ"), ("type", LISTENER)], none(), 400);
    check(&[("operation", "READ")], none(), 200);
    check(&[("operation", "READ"), ("type", CONNECTION), ("identity", "1")], none(), 200);
    check(&[("operation", "READ"), ("type", CONNECTION), ("identity", "9")], none(), 404);
    check(&[("operation", "READ"), ("type", CONNECTION), ("name", "x")], none(), 400);
    check(&[("operation", "READ"), ("type", "routerMetrics"), ("identity", "1")], none(), 403);
    let update = [("operation", "UPDATE"), ("type", LISTENER), ("name", "tl")];
    check(&update, map(&[("observer", text("http1"))]), 200);
    check(&update, map(&[("observer", text("never"))]), 400);
    check(&update, map(&[("address", text("other"))]), 400);
    check(&update, map(&[("address", text("echo")), ("port", Value::Int(27503))]), 200);
    check(&update, map(&[("bogus", text("other"))]), 400);
    check(&[("operation", "UPDATE"), ("type", "listener"), ("name", "amqp")], none(), 501);
    check(
        &[("operation", "UPDATE"), ("type", CONNECTION), ("identity", "1")],
        map(&[("adminStatus", text("deleted"))]),
        200,
    );
    check(&[("operation", "UPDATE"), ("type", CONNECTION), ("identity", "1")], map(&[("x", text("y"))]), 400);
    check(
        &[("operation", "UPDATE"), ("type", CONNECTION), ("identity", "9")],
        map(&[("adminStatus", text("deleted"))]),
        400,
    );
    check(&[("operation", "UPDATE"), ("type", "router.address"), ("identity", "Mecho")], none(), 403);
    check(&[("operation", "DELETE"), ("type", LISTENER), ("name", "tl")], none(), 204);
    check(&[("operation", "DELETE"), ("name", "tl")], none(), 204);
    check(&[("operation", "DELETE"), ("name", "nobody")], none(), 404);
    check(&[("operation", "DELETE"), ("type", "router"), ("name", "router/A")], none(), 501);
    check(&[("operation", "DELETE"), ("type", CONNECTION), ("identity", "1")], none(), 403);
    check(&[("operation", "QUERY"), ("entityType", "nosuch")], none(), 400);
    check(&[("operation", "query"), ("entityType", LISTENER)], none(), 200);
    check(&[("operation", "QUERY"), ("entityType", LISTENER)], map(&[("attributeNames", text("name"))]), 400);
    let asking = |name| map(&[("attributeNames", Value::List(vec![text(name)]))]);
    check(&[("operation", "QUERY"), ("entityType", LISTENER)], asking("bogus"), 404);
    check(&[("operation", "QUERY"), ("entityType", CONNECTION)], asking("bogus"), 200);
    check(&[("operation", "BOGUS")], none(), 501);
    check(&[("operation", "BOGUS"), ("type", LISTENER), ("name", "tl")], none(), 501);
    check(&[("operation", "BOGUS"), ("type", LISTENER)], none(), 400);
    check(&[], none(), 400);
    check(&[("operation", "")], none(), 501);
    for operation in ["GET-TYPES", "GET-ATTRIBUTES", "GET-OPERATIONS"] {
        check(&[("operation", operation), ("entityType", "listener")], none(), 200);
        check(&[("operation", operation), ("entityType", "nosuch")], none(), 400);
    }
    check(&[("operation", "GET-ANNOTATIONS"), ("entityType", "nosuch")], none(), 200);
    check(&[("operation", "PROFILE"), ("type", LISTENER), ("name", "tl")], none(), 501);
    for operation in ["GET-MGMT-NODES", "GET-SCHEMA", "GET-JSON-SCHEMA", "GET-LOG"] {
        check(&[("operation", operation), ("type", "org.amqp.management"), ("name", "self")], none(), 200);
    }
}

#[test]
fn what_was_created_is_shown_with_what_was_given_and_with_defaults() {
    let mut world = World::new();
    let given =
        map(&[("host", text("127.0.0.1")), ("port", text("8080")), ("address", text("web")), ("siteId", text("s"))]);
    let made = ask(&mut world, &[("operation", "CREATE"), ("type", "tcpListener"), ("name", "web")], given);
    let read = ask(&mut world, &[("operation", "READ"), ("name", "web")], Value::Null);
    assert_eq!(made.body, read.body);
    for (key, value) in [
        ("identity", text("tcpListener/127.0.0.1:8080:web")),
        ("type", text(LISTENER)),
        ("siteId", text("s")),
        ("port", text("8080")),
        ("backlog", Value::Int(0)),
        ("observer", text("auto")),
        ("authenticatePeer", Value::Bool(false)),
    ] {
        assert_eq!(read.body.entry(key), Some(&value), "{key}");
    }
    // Its host is what it would be anyway, and has to be given.
    let backend = map(&[("host", text("127.0.0.1")), ("port", text("1")), ("address", text("x"))]);
    let made = ask(&mut world, &[("operation", "CREATE"), ("type", "tcpConnector"), ("name", "backend")], backend);
    assert_eq!(made.status, Value::Int(201), "{:?}", made.description);
    let nameless = map(&[("host", text("h")), ("port", Value::Ulong(5432)), ("address", text("db"))]);
    let made = ask(&mut world, &[("operation", "CREATE"), ("type", "tcpConnector")], nameless);
    assert_eq!(made.body.entry("name"), Some(&text("tcpConnector/h:5432")));
    assert_eq!(made.body.entry("identity"), Some(&text("tcpConnector/h:5432")));
}

#[test]
fn a_listener_without_a_port_is_known_by_the_default_one() {
    for kind in ["listener", "connector"] {
        let mut world = World::new();
        let create = [("operation", "CREATE"), ("type", kind), ("name", "new")];
        let made = ask(&mut world, &create, map(&[("host", text("h"))]));
        assert_eq!(made.body.entry("identity"), Some(&text(&format!("{kind}/h:amqp:new"))));
        assert_eq!(made.body.entry("role"), Some(&text("normal")), "with all it has");
        assert_eq!(ask(&mut world, &[("operation", "READ"), ("name", "new")], Value::Null).body, made.body);
    }
}

#[test]
fn a_limit_of_none_asks_for_the_whole_log() {
    let lines = |limit: Value| {
        let asked = question(REPLY_TO, &[("operation", text("GET-LOG")), ("limit", limit)], Value::Null);
        let reply = say(&mut World::new(), &asked).expect("an answer");
        reply.body.as_list().map(<[Value]>::len)
    };
    assert_eq!([Value::Int(0), Value::Int(2), Value::Null].map(lines), [Some(3), Some(2), Some(3)]);
}

/// What a skupper-router has, in its order; ours come last.
#[test]
fn columns_come_in_the_order_of_the_original() {
    let check = |name: &str, expected: &[&str], ours: &[&str]| {
        let columns: Vec<_> = Managed::of(name).expect("a type").columns().map(|column| column.name).collect();
        let (theirs, rest) = columns.split_at(expected.len());
        assert_eq!(theirs, expected, "{name}");
        let rest: Vec<_> = rest.iter().filter(|name| !["name", "identity", "type"].contains(name)).copied().collect();
        assert_eq!(rest, ours, "{name}");
    };
    check(
        "router",
        &["id", "vanId", "mode", "area", "version", "hostName", "helloIntervalSeconds"],
        &[
            "helloMaxAgeSeconds",
            "raIntervalSeconds",
            "raIntervalFluxSeconds",
            "remoteLsMaxAgeSeconds",
            "unreachableHoldoffSeconds",
            "workerThreads",
            "debugDumpFile",
            "saslConfigDir",
            "saslConfigName",
            "timestampsInUTC",
            "timestampFormat",
            "defaultDistribution",
            "metadata",
            "dataConnectionCount",
            "dropTcpConnections",
        ],
    );
    let listener = [
        "host",
        "port",
        "socketAddressFamily",
        "role",
        "cost",
        "sslProfile",
        "saslMechanisms",
        "authenticatePeer",
        "requireEncryption",
        "requireSsl",
        "maxFrameSize",
        "maxSessions",
        "maxSessionFrames",
        "idleTimeoutSeconds",
        "initialHandshakeTimeoutSeconds",
        "stripAnnotations",
        "linkCapacity",
        "failoverUrls",
        "healthz",
        "metrics",
        "websockets",
        "http",
        "httpRootDir",
        "messageLoggingComponents",
        "policyVhost",
        "openProperties",
    ];
    check("listener", &listener, &["saslUsersFile"]);
    let connector = [
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
        "policyVhost",
        "openProperties",
    ];
    check("connector", &connector, &["dataConnectionCount"]);
    let tcp_listener = [
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
        "observer",
        "name",
        "identity",
        "type",
    ];
    check("tcpListener", &tcp_listener, &[]);
    let tcp_connector = [
        "address",
        "host",
        "port",
        "siteId",
        "processId",
        "connectionsOpened",
        "connectionsClosed",
        "bytesIn",
        "bytesOut",
        "sslProfile",
        "verifyHostname",
        "name",
        "identity",
        "type",
    ];
    check("tcpConnector", &tcp_connector, &[]);
    check("proxyProfile", &["host", "port", "username", "password"], &["scheme"]);
    let address = ["name", "identity", "type", "prefix", "distribution", "pattern", "priority"];
    check("router.config.address", &address, &[]);
    let auto_link = [
        "name",
        "identity",
        "type",
        "address",
        "direction",
        "connection",
        "containerId",
        "externalAddress",
        "linkRef",
        "operStatus",
        "lastError",
    ];
    check("router.config.autoLink", &auto_link, &[]);
}

#[test]
fn short_and_full_names_of_every_type_get_the_same_answer() {
    let mut world = World::new();
    for managed in MANAGED {
        let mut ask = |name: &str| ask(&mut world, &[("operation", "QUERY"), ("entityType", name)], Value::Null);
        let (short, full) = (ask(managed.name), ask(&managed.full_name()));
        assert_eq!((short.status, short.body), (Value::Int(200), full.body), "{}", managed.name);
    }
}

#[test]
fn queries_are_answered_in_pages() {
    let mut world = World::new();
    for number in 0..7 {
        let given = map(&[("host", text("h")), ("port", Value::Int(number + 1)), ("address", text("x"))]);
        ask(&mut world, &[("operation", "CREATE"), ("type", "tcpConnector"), ("name", &format!("c{number}"))], given);
    }
    for entity_type in ["tcpConnector", "configurationEntity"] {
        let mut page = |offset: i64, count: Value| {
            let properties = [
                ("operation", text("QUERY")),
                ("entityType", text(entity_type)),
                ("offset", Value::Long(offset)),
                ("count", count),
            ];
            let reply = say(&mut world, &question(REPLY_TO, &properties, Value::Null)).expect("an answer");
            reply.column("name").into_iter().cloned().collect::<Vec<_>>()
        };
        let all = page(0, Value::Null);
        assert!(all.len() >= 7);
        assert_eq!(page(0, Value::Int(0)), all, "the original's way to say all");
        let paged: Vec<_> =
            (0..).map(|n| page(n * 3, Value::Uint(3))).take_while(|page| !page.is_empty()).flatten().collect();
        assert_eq!(paged, all);
    }
}

#[test]
fn rows_without_any_attribute_asked_for_are_left_out() {
    let mut world = World::new();
    let asking = map(&[("attributeNames", Value::List(vec![text("siteId")]))]);
    let reply = ask(&mut world, &[("operation", "QUERY"), ("entityType", "tcpListener")], asking);
    assert_eq!((reply.columns(), reply.rows().len()), (vec!["siteId"], 0));
}

#[test]
fn an_answer_that_is_too_long_is_an_error_that_says_what_to_do() {
    let mut world = World::new();
    for number in 0..20_000 {
        world.add_connector(number);
    }
    let reply = ask(&mut world, &[("operation", "QUERY"), ("entityType", "tcpConnector")], Value::Null);
    assert_eq!((reply.status, reply.body), (Value::Int(500), Value::Map(vec![])));
    assert!(reply.description.as_text().is_some_and(|text| text.contains("`count` and `offset`")));
}

#[test]
fn hostile_requests_get_an_error() {
    let mut world = World::new();
    let nested = (0..100).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    let many = |count: usize| (0..count).map(|n| (text(&n.to_string()), Value::Null)).collect();
    let create = [("operation", "CREATE"), ("type", LISTENER), ("name", "new")];
    for body in [
        nested.clone(),
        map(&[("host", nested.clone())]),
        Value::Map(many(5000)),
        Value::Map(vec![(nested, Value::Null)]),
    ] {
        assert_eq!(ask(&mut world, &create, body).status, Value::Int(400));
    }
    for wrong in [Value::Int(1), Value::List(vec![]), Value::Null, Value::Binary(b"QUERY".to_vec())] {
        let reply = say(&mut world, &question(REPLY_TO, &[("operation", wrong)], Value::Null)).expect("an answer");
        assert_eq!(reply.status, Value::Int(400));
    }
    // As many columns as a request can name, of more rows than an answer can hold.
    (0..5000).for_each(|number| world.add_connector(number));
    let names = Value::List(vec![text("host"); 9000]);
    let query = [("operation", "QUERY"), ("entityType", "tcpConnector")];
    assert_eq!(ask(&mut world, &query, map(&[("attributeNames", names)])).status, Value::Int(500));
}

#[test]
fn a_question_nobody_waits_for_an_answer_to_gets_none() {
    let mut out = Vec::new();
    Value::Described(Value::Ulong(0x74).into(), map(&[("operation", text("QUERY"))]).into()).encode(&mut out);
    assert_eq!(Request::read(&out), None);
    assert_eq!(Request::read(&question("", &[("operation", text("QUERY"))], Value::Null)), None);
}

#[test]
fn what_is_longer_than_any_request_is_refused_by_its_length() {
    let body = map(&[("metadata", text(&"x".repeat(MAX_REQUEST_BYTES)))]);
    let mut world = World::new();
    assert_eq!(ask(&mut world, &[("operation", "CREATE")], body).status, Value::Int(400));
}

/// Values of any type, nested and as wide as a request takes.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Long),
        any::<u64>().prop_map(Value::Ulong),
        any::<f64>().prop_filter("equal to itself", |n| !n.is_nan()).prop_map(Value::Double),
        any::<[u8; 16]>().prop_map(Value::Uuid),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::Binary),
        word().prop_map(|word| text(&word)),
        word().prop_map(|word| Value::symbol(&word)),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
            prop::collection::vec((word().prop_map(|word| text(&word)), inner.clone()), 0..6).prop_map(Value::Map),
            prop::collection::vec((inner.clone(), inner), 0..3).prop_map(Value::Map),
        ]
    })
}

/// Words of the protocol, and others.
fn word() -> impl Strategy<Value = String> {
    let known = [
        "QUERY",
        "READ",
        "CREATE",
        "UPDATE",
        "DELETE",
        "GET-LOG",
        "GET-JSON-SCHEMA",
        "self",
        "tl",
        "name",
        "type",
        "identity",
        "operation",
        "entityType",
        "attributeNames",
        "count",
        "offset",
        "limit",
        "host",
        "port",
        "address",
        "tcpListener",
        "tcpConnector",
        "listener",
        "log",
        "router",
        "network",
        "connection",
        "router.config.address",
        "sslProfile",
        "entity",
        "observer",
        "adminStatus",
        "prefix",
        "${HOME}",
    ];
    prop_oneof![3 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => "[ -~]{0,12}"]
}

proptest! {
    /// Whatever the request is: an answer that can be read, to who asked, with its correlation id as it came.
    #[test]
    fn every_request_is_answered(
        properties in prop::collection::vec((word(), value()), 0..8),
        correlation in value(),
        body in value(),
    ) {
        let properties: Vec<_> = properties.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let reply = say(&mut World::new(), &correlated(REPLY_TO, &correlation, &properties, body)).expect("an answer");
        prop_assert_eq!((reply.to, reply.correlation_id), (text(REPLY_TO), correlation));
        prop_assert!(matches!(reply.status, Value::Int(200..=599)) && reply.description.as_text().is_some());
    }

    #[test]
    fn any_octets_are_a_request_or_none(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = say(&mut World::new(), &octets);
    }

    #[test]
    fn answers_are_read_as_they_were_written(body in value(), description in ".{0,40}") {
        let request = Request::read(&question(REPLY_TO, &[], Value::Null)).expect("a request");
        let answer = Answer { status: Status::Ok, description: description.clone(), body: body.clone() };
        let reply = Reply::read(&request.answer(&answer));
        prop_assert_eq!((reply.description, reply.body), (text(&description), body));
    }
}
