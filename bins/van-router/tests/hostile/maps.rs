//! Maps between routers: the routing protocol, as a neighbour speaks it that is none.

use van_core::amqp::{Composer, Encode, Role, Transfer, Value};
use van_core::annotations::Annotations;
use van_core::plane::Purpose;

use crate::frames::{attach, begin, flow, transfer};
use crate::handshake::nested;
use crate::rig;
use crate::rig::intruder::{Intruder, frame};
use crate::{ALLOWANCE, Siege, soon};

pub(crate) const HELLO_ADDRESS: &str = "amqp:/_local/qdhello";
const FLOOD_ADDRESS: &str = "amqp:/_topo/0/all/qdrouter";
const TREE_ADDRESS: &str = "_topo/0/all/qdrouter.ma";

/// A neighbour that is a router as far as its links go.
pub(crate) struct Liar {
    pub(crate) intruder: Intruder,
    name: String,
    instance: i64,
    is_neighbor: bool,
    told: u32,
}

impl Liar {
    pub(crate) fn start(siege: &Siege, name: &str) -> Self {
        let mut intruder = Intruder::behind_open(
            &siege.site,
            siege.places.access,
            &siege.credentials("mallory"),
            name,
            Purpose::Control,
        );
        let control = |handle, role| frame(0, &attach(handle, role, Some("qd.router")), &[]);
        let links = [frame(0, &begin(), &[]), control(0, Role::Sender), control(1, Role::Receiver)].concat();
        intruder.send(&links).and_then(|()| intruder.send(&frame(0, &flow(Some(1)), &[]))).expect("the router listens");
        drop(intruder.ignore_answers());
        Self { intruder, name: name.into(), instance: 1, is_neighbor: false, told: 0 }
    }

    /// Sends a message of the router protocol, whatever is in it.
    pub(crate) fn tell(&mut self, message: &[u8]) {
        const PIECE: usize = 60_000;
        let mut left = message;
        loop {
            let (piece, rest) = left.split_at(left.len().min(PIECE));
            let transfer = Transfer { settled: Some(true), ..transfer(0, self.told, !rest.is_empty()) };
            self.intruder.send(&frame(0, &transfer, piece)).expect("the router listens");
            left = rest;
            if left.is_empty() {
                break;
            }
        }
        self.told += 1;
    }

    /// Says hello as an honest neighbour does, and waits for what follows: so all before was read, and the link is there.
    #[track_caller]
    pub(crate) fn wait_until_neighbor(&mut self, siege: &Siege) {
        if std::mem::replace(&mut self.is_neighbor, true) {
            self.say_hello(siege, "neighbour lost", Vec::new());
        }
        self.say_hello(siege, "neighbour up", vec![text("target")]);
    }

    #[track_caller]
    fn say_hello(&mut self, siege: &Siege, expected: &str, seen: Vec<Value>) {
        let first_line = self.name.lines().next().unwrap_or_default().to_owned();
        let is_it = |line: &&str| line.contains(expected) && line.contains(&first_line);
        let count = || siege.target.log().lines().filter(is_it).count();
        let before = count();
        self.tell(&router_message(&self.name, HELLO_ADDRESS, "HELLO", hello(&self.name, self.instance, seen)));
        soon(&format!("{expected}: {first_line}"), || count() > before);
    }
}

pub(crate) fn text(text: &str) -> Value {
    Value::String(text.into())
}

pub(crate) fn map<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Map(pairs.map(|(key, value)| (text(key), value)).into())
}

pub(crate) fn hello(id: &str, instance: i64, seen: Vec<Value>) -> Value {
    map([("id", text(id)), ("area", text("0")), ("instance", Value::Long(instance)), ("seen", Value::List(seen))])
}

fn link_state(id: &str, seq: i64, peers: Vec<(Value, Value)>) -> Value {
    let inner =
        map([("id", text(id)), ("area", text("0")), ("ls_seq", Value::Long(seq)), ("peers", Value::Map(peers))]);
    map([
        ("id", text(id)),
        ("area", text("0")),
        ("instance", Value::Long(1)),
        ("ls_seq", Value::Long(seq)),
        ("ls", inner),
    ])
}

fn addresses(id: &str, seq: i64, exist: Vec<Value>) -> Value {
    map([("id", text(id)), ("area", text("0")), ("mobile_seq", Value::Long(seq)), ("exist", Value::List(exist))])
}

pub(crate) fn described(out: &mut Vec<u8>, descriptor: u64, value: Value) {
    Value::Described(Value::Ulong(descriptor).into(), value.into()).encode(out);
}

/// What stands before the body of a message between routers.
pub(crate) fn router_head(from: &str, to: &str, opcode: Value) -> Vec<u8> {
    let mut out = Vec::new();
    Annotations::fresh(0).forward(&format!("0/{from}"), &mut out);
    Composer::described(&mut out, 0x73).null().null().field(to).end();
    described(&mut out, 0x74, map([("opcode", opcode)]));
    out
}

pub(crate) fn router_message(from: &str, to: &str, opcode: &str, body: Value) -> Vec<u8> {
    let mut out = router_head(from, to, text(opcode));
    described(&mut out, 0x77, body);
    out
}

/// Messages of the routing protocol that cannot be read.
fn unreadable(to: &str) -> Vec<Vec<u8>> {
    let message = |opcode: &str, body: Value| router_message("mallory", to, opcode, body);
    let id = || ("id", text("mallory"));
    let without_seq = |key: &str, value: Value| map([id(), ("mobile_seq", Value::Long(1)), (key, value)]);
    let cut = message("HELLO", hello("mallory", 1, Vec::new()));
    let mut messages = vec![
        Vec::new(),
        vec![0xa5; 200],
        cut[..cut.len() - 3].to_vec(),
        // Annotations with two fields; with a trace of numbers.
        [&b"\x00\x80SKPR--RA\xc0\x03\x02\x43\x40"[..], &cut].concat(),
        [&b"\x00\x80SKPR--RA\xc0\x09\x04\x43\x40\x40\xc0\x03\x02\x43\x43"[..], &cut].concat(),
        [router_head("mallory", to, Value::Int(7)), vec![0, 0x53, 0x77, 0x40]].concat(),
        router_head("mallory", to, text("HELLO")),
        message("BOOM", hello("mallory", 1, Vec::new())),
        message("HELLO", Value::Null),
        message("HELLO", nested(100)),
        message("HELLO", hello("", 1, Vec::new())),
        message("HELLO", hello("a/b", 1, Vec::new())),
        message("HELLO", hello(&"x".repeat(300), 1, Vec::new())),
        message("HELLO", hello("mallory", -1, Vec::new())),
        message("HELLO", hello("mallory", 1, vec![Value::Int(1)])),
        message("HELLO", map([id(), ("instance", text("1")), ("seen", Value::Null)])),
        message(
            "HELLO",
            map([id(), ("pv", Value::Long(99)), ("instance", Value::Int(1)), ("seen", Value::List(vec![]))]),
        ),
        message("RA", map([id()])),
        message("LSU", map([id(), ("instance", Value::Int(1)), ("ls", Value::Null)])),
        message("LSU", link_state("mallory", -5, Vec::new())),
        message("MAR", map([id(), ("have_seq", text("all"))])),
        message("MAU", without_seq("exist", Value::List(vec![Value::Int(1)]))),
        message("MAU", without_seq("add", Value::List(vec![]))),
    ];
    for cost in [Value::Int(0), Value::Int(-1), Value::Long(i64::MAX), text("cheap")] {
        messages.push(message("LSU", link_state("mallory", 1, vec![(text("target"), cost)])));
    }
    for item in [text("Mkey"), Value::List(vec![]), Value::List(vec![text("")]), Value::List(vec![text("?key")])] {
        messages.push(message("MAU", addresses("mallory", 1, vec![item])));
    }
    messages
}

#[test]
fn unreadable_router_messages_are_told_once_and_go_no_further() {
    let siege = Siege::start();
    let mut liar = Liar::start(&siege, "mallory");
    // With a place in the network: what it floods is passed on.
    let links = vec![(text("target"), Value::Int(1))];
    liar.tell(&router_message("mallory", FLOOD_ADDRESS, "LSU", link_state("mallory", 1, links)));
    liar.wait_until_neighbor(&siege);
    rig::wait_until("the honest router knows it", || siege.far.metric("van_routers") == 3);
    for _ in 0..20 {
        for to in [HELLO_ADDRESS, FLOOD_ADDRESS, TREE_ADDRESS] {
            unreadable(to).iter().for_each(|message| liar.tell(message));
        }
    }
    liar.wait_until_neighbor(&siege);
    assert!(!siege.far.log().contains("unreadable"), "an honest router was sent them:\n{}", siege.far.log());
    siege.check_log_is_short();
    siege.lift();
}

#[test]
fn absurd_router_messages_do_no_harm() {
    let siege = Siege::start();
    let mut liar = Liar::start(&siege, "mallory");
    liar.wait_until_neighbor(&siege);
    siege.target.forget_peak();
    let before = siege.target.resident_bytes();
    let names = |count: usize| (0..count).map(|number| text(&format!("router-{number}")));
    let peers = |count| names(count).map(|name| (name, Value::Int(1))).collect::<Vec<_>>();
    let key = |number: usize| Value::List(vec![text(&format!("Mkey-{number}")), Value::Int(1), Value::Int(0)]);
    let mut say = |to, opcode, body| liar.tell(&router_message("mallory", to, opcode, body));
    for seq in [1, i64::MAX, 0, i64::MAX] {
        let pairs = [("instance", Value::Long(seq)), ("ls_seq", Value::Long(seq)), ("mobile_seq", Value::Long(seq))];
        let [instance, ls_seq, mobile_seq] = pairs;
        say(FLOOD_ADDRESS, "RA", map([("id", text("mallory")), instance, ls_seq, mobile_seq]));
        say(HELLO_ADDRESS, "HELLO", hello("mallory", seq, names(10_000).collect()));
        say(FLOOD_ADDRESS, "LSU", link_state("mallory", seq, peers(10_000)));
        say(TREE_ADDRESS, "MAU", addresses("mallory", seq, (0..40_000).map(key).collect()));
    }
    // Routers that do not exist, more than there may be.
    for number in 0..1_500 {
        say(FLOOD_ADDRESS, "LSU", link_state(&format!("router-{number}"), 1, vec![(text("target"), Value::Int(1))]));
    }
    // In the router's own name.
    say(FLOOD_ADDRESS, "LSU", link_state("target", 99, Vec::new()));
    say(HELLO_ADDRESS, "HELLO", hello("target", i64::MAX, Vec::new()));
    say(TREE_ADDRESS, "MAU", addresses("target", 99, Vec::new()));
    // It was heard to say that it does not hear the router.
    (liar.instance, liar.is_neighbor) = (i64::MAX, false);
    liar.wait_until_neighbor(&siege);
    siege.wait_until_more_completed();
    let grown = siege.target.peak_resident_bytes().saturating_sub(before);
    assert!(grown < 2 * ALLOWANCE, "{grown} octets more");
    let far = siege.far.log();
    assert!(!far.contains("refused"), "an honest router was sent what was refused:\n{far}");
    let log = siege.target.log();
    let told = log.lines().filter(|line| line.contains(" WARN ")).count();
    assert!(told < 50, "told in {told} lines:\n{}", log.lines().take(60).collect::<Vec<_>>().join("\n"));
    // There is room for those that are there.
    Liar::start(&siege, "trudy").wait_until_neighbor(&siege);
    siege.lift();
}
