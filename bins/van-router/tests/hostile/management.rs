//! Requests to the management node that are none, ask for what cannot be, or ask too much.

use van_core::amqp::{Composer, Role, Value};
use van_core::annotations::Annotations;

use crate::frames::{attach, transfer};
use crate::handshake::nested;
use crate::maps::{Liar, described, map, text};
use crate::memory::Attack;
use crate::rig::client::Client;
use crate::rig::client::management::{correlated, question};
use crate::rig::intruder::frame;
use crate::{Siege, short_or_long};

/// Application properties and a body.
type Asked = (Value, Value);

fn operation(operation: &str) -> (&'static str, Value) {
    ("operation", text(operation))
}

fn query(extra: (&str, Value)) -> Value {
    map([operation("QUERY"), ("entityType", text("connector")), extra])
}

fn create(kind: &str) -> Value {
    map([operation("CREATE"), ("type", text(kind)), ("name", text("mallory"))])
}

/// What can be read as a request, and is none that can be fulfilled; or is one of no use.
fn requests() -> Vec<Asked> {
    let long = || text(&"x".repeat(60_000));
    let names = |count| Value::List((0..count).map(|number| text(&format!("name-{number}"))).collect());
    let many = |count| Value::Map((0..count).map(|number| (text(&number.to_string()), Value::Null)).collect());
    let mut requests: Vec<Asked> = vec![
        (Value::Null, Value::Null),
        (text("operation"), Value::Null),
        (Value::List(vec![text("operation"), text("QUERY")]), Value::Null),
        (Value::Map(vec![(Value::Int(1), Value::Null)]), Value::Null),
        (map([("operation", Value::Int(7))]), Value::Null),
        (map([("operation", nested(20))]), Value::Null),
        (map([operation("")]), Value::Null),
        (map([operation("BOOM")]), Value::Null),
        (map([("operation", long())]), Value::Null),
        (map([operation("READ"), ("type", text("no such type"))]), Value::Null),
        (map([operation("READ"), ("type", long())]), Value::Null),
        (map([operation("READ"), ("type", Value::Int(1)), ("name", Value::Int(1))]), Value::Null),
        (map([operation("READ"), ("name", long())]), Value::Null),
        (map([operation("READ"), ("identity", text("18446744073709551616"))]), Value::Null),
        (map([operation("DELETE"), ("type", text("router")), ("name", text("router/target"))]), Value::Null),
        (map([operation("DELETE"), ("name", text("self"))]), Value::Null),
        (map([operation("UPDATE"), ("type", text("connection")), ("identity", text("-1"))]), map([])),
        (map([operation("UPDATE"), ("type", text("log")), ("name", text("log/ROUTER"))]), map([("enable", long())])),
        (map([operation("GET-LOG"), ("limit", Value::Long(i64::MIN))]), Value::Null),
        (map([operation("GET-JSON-SCHEMA"), ("indent", Value::Ulong(u64::MAX))]), Value::Null),
        (map([operation("QUERY"), ("entityType", long())]), Value::Null),
    ];
    for number in [Value::Int(-1), Value::Long(i64::MAX), Value::Ulong(u64::MAX), Value::Double(f64::NAN), text("1e9")]
    {
        requests.push((query(("offset", number.clone())), Value::Null));
        requests.push((query(("count", number.clone())), Value::Null));
        requests.push((map([operation("GET-LOG"), ("limit", number)]), Value::Null));
    }
    for body in [Value::Int(1), long(), names(3), nested(20), many(5_000), map([("attributeNames", Value::Int(1))])] {
        requests.push((query(("x", Value::Null)), body.clone()));
        requests.push((create("tcpListener"), body.clone()));
        requests.push((map([operation("UPDATE"), ("type", text("log")), ("name", text("log/ROUTER"))]), body));
    }
    for kind in ["connection", "router.link", "connector"] {
        let asked = |names| map([("attributeNames", names)]);
        for names in [names(5_000), Value::List(vec![Value::Int(1)]), Value::List(vec![long()]), nested(20)] {
            requests.push((map([operation("QUERY"), ("entityType", text(kind))]), asked(names)));
        }
    }
    let port = |port: Value| map([("port", port), ("address", text("k")), ("host", text("127.0.0.1"))]);
    for number in [Value::Int(-1), Value::Ulong(u64::MAX), text("http"), text(""), Value::List(Vec::new()), map([])] {
        requests.push((create("tcpListener"), port(number.clone())));
        requests.push((create("tcpConnector"), port(number.clone())));
        requests.push((create("listener"), port(number)));
    }
    for (kind, body) in [
        ("tcpListener", map([("port", text("1")), ("address", text("k")), ("host", text("a\0b"))])),
        ("tcpListener", map([("port", text("1")), ("address", text("k")), ("host", long())])),
        ("connector", map([("port", text("1")), ("role", text("king"))])),
        ("connector", map([("port", text("1")), ("role", text("inter-router")), ("cost", Value::Long(i64::MAX))])),
        // Files without an end, and one that never begins.
        ("sslProfile", map([("caCertFile", text("/dev/zero"))])),
        ("sslProfile", map([("certFile", text("/dev/zero")), ("privateKeyFile", text("/dev/zero"))])),
        ("sslProfile", map([("caCertFile", text("/"))])),
        ("router.config.address", map([("pattern", text(&"*/".repeat(10_000)))])),
        ("router.config.address", map([("prefix", text("a")), ("priority", Value::Int(i32::MIN))])),
        ("listenerAddress", map([("listener", text("nobody")), ("address", text("k")), ("value", Value::Int(-1))])),
    ] {
        requests.push((create(kind), body));
    }
    requests
}

/// What cannot be read as a request.
fn garbage(reply_to: &str) -> Vec<Vec<u8>> {
    let good = question(reply_to, &[("operation", text("QUERY"))], Value::Null).to_vec();
    vec![
        vec![0xa5; 200],
        vec![0; 100_000],
        good[..good.len() - 3].to_vec(),
        good[..20].to_vec(),
        [&good[..], &good].concat(),
        [&good[..], &[0; 300_000]].concat(),
        // Properties of 1 GiB.
        [&[0, 0x53, 0x73, 0xd0, 0x40, 0, 0, 0, 0, 0, 0, 1][..], &good].concat(),
        // A body of 4 GiB, and one of a million nulls.
        [&good[..good.len() - 4], &[0, 0x53, 0x77, 0xb1, 255, 255, 255, 255]].concat(),
        [&good[..good.len() - 4], &[0, 0x53, 0x77, 0xd0, 0, 15, 66, 68, 0, 15, 66, 64], &[0x40; 1_000_000]].concat(),
    ]
}

/// Where an answer does no good.
fn elsewhere() -> Vec<String> {
    let nowhere = ["", "/", "nobody", "amqp:/_topo/0/nobody/temp.x", "_topo/0/target/temp.$#1", "_edge/nobody/x", "\0"];
    let not_for_answers =
        ["$management", "_local/$management", "work", "_topo/0/all/qdrouter", "_local/qdhello", "_$qd.x"];
    let long = ["x".repeat(60_000), "amqp:/_topo/0/".to_owned() + &"x".repeat(2_000)];
    nowhere.into_iter().chain(not_for_answers).map(str::to_owned).chain(long).collect()
}

/// Says all of it, and waits until it was answered.
fn harass(client: &mut Client) {
    let reply_to = client.reply_to().to_owned();
    for message in garbage(&reply_to) {
        client.send(&message);
    }
    for (properties, body) in requests() {
        client.send(&request(None, &reply_to, properties, body));
    }
    for reply_to in elsewhere() {
        client.send(&question(&reply_to, &[("operation", text("QUERY"))], Value::Null));
    }
    let last = Value::Ulong(4711);
    client.send(&correlated(&reply_to, &last, &[("operation", text("GET-OPERATIONS"))], Value::Null));
    while client.answer().correlation_id != last {}
}

fn request(to: Option<&str>, reply_to: &str, properties: Value, body: Value) -> Vec<u8> {
    let mut out = Vec::new();
    Composer::described(&mut out, 0x73).null().null().optional(to).null().field(reply_to).end();
    described(&mut out, 0x74, properties);
    described(&mut out, 0x77, body);
    out
}

#[test]
fn senseless_requests_are_answered_or_ignored_and_change_nothing() {
    let siege = Siege::start();
    let mut honest = Client::anonymous(&siege.site, siege.places.clients);
    let listed = ["listener", "connector", "tcpListener", "tcpConnector", "sslProfile", "listenerAddress", "log"];
    let all = |client: &mut Client| listed.map(|kind| format!("{:?}", client.query(kind).column("identity")));
    let before = all(&mut honest);
    harass(&mut Client::anonymous(&siege.site, siege.places.clients));
    assert_eq!(all(&mut honest), before);
    siege.check_log_is_short();
    siege.lift();
}

/// As a router that passes on what others ask, so that there is no link to refuse.
#[test]
fn senseless_requests_of_another_router_are_ignored_too() {
    let siege = Siege::start();
    let mut liar = Liar::start(&siege, "mallory");
    liar.wait_until_neighbor(&siege);
    let link = frame(0, &attach(7, Role::Sender, Some("qd.router-data")), &[]);
    liar.intruder.send(&link).expect("the router listens");
    // As many as there is credit for.
    for (number, (properties, body)) in (1_000..).zip(requests().into_iter().take(120)) {
        let mut message = Vec::new();
        Annotations::fresh(0).forward("0/mallory", &mut message);
        let to = "amqp:/_topo/0/target/$management";
        message.extend(request(Some(to), "amqp:/_topo/0/mallory/temp.1", properties, body));
        let mut pieces = message.chunks(30_000).peekable();
        while let Some(piece) = pieces.next() {
            let transfer = transfer(7, number, pieces.peek().is_some());
            liar.intruder.send(&frame(0, &transfer, piece)).expect("the router listens");
        }
    }
    liar.wait_until_neighbor(&siege);
    let mut honest = Client::anonymous(&siege.site, siege.places.clients);
    honest.query("router");
    siege.check_log_is_short();
    siege.lift();
}

pub(crate) const ATTACKS: [(&str, Attack); 2] = [
    ("questions whose answers nobody takes", |siege| {
        let mut deaf = Client::deaf(&siege.site, siege.places.clients);
        let everything = question(deaf.reply_to(), &[("operation", text("QUERY"))], Value::Null);
        (0..short_or_long(3_000, 30_000)).for_each(|_| deaf.send(&everything));
        deaf.flush();
        // The one behind them is answered, once those before it are.
        Client::anonymous(&siege.site, siege.places.clients).query("router");
    }),
    ("names that are many and long", |siege| {
        let mut client = Client::anonymous(&siege.site, siege.places.clients);
        let reply_to = client.reply_to().to_owned();
        let names = Value::List((0..10_000).map(|number| text(&format!("n{number}"))).collect());
        let asked = map([("operation", text("QUERY")), ("entityType", text("router.link"))]);
        let message = request(None, &reply_to, asked, map([("attributeNames", names)]));
        for _ in 0..short_or_long(50, 500) {
            client.send(&message);
            client.answer();
        }
    }),
];
