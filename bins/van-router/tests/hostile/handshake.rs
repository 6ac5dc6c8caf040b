//! TLS, SASL, `open`: what a peer says before it is one.

use std::time::{Duration, SystemTime};

use serde_json::json;
use van_core::amqp::{Close, Composer, Open, Value};
use van_tls::{Authority, AuthorityRequest, Credentials, KeyKind, LeafRequest, Usage};

use crate::frames::begin;
use crate::rig;
use crate::rig::intruder::{Intruder, frame, raw_frame};
use crate::rig::router::{Plan, Router};
use crate::{Siege, short_or_long};

// === TLS ===

/// What a peer does after it has said its piece.
#[derive(Clone, Copy)]
enum Then {
    Wait,
    End,
}

/// Each says its piece and is left; told once, with the reason.
#[track_caller]
fn check_closed<'a>(
    siege: &Siege,
    cases: impl IntoIterator<Item = (&'a str, Vec<u8>, Then, &'a str)>,
    connect: impl Fn() -> Intruder,
) {
    let attack = |(what, octets, then, reason): (&'a str, Vec<u8>, Then, &'a str)| {
        let mut intruder = connect();
        // The router may have left before all was said.
        let _ = intruder.send(&octets);
        if matches!(then, Then::End) {
            intruder.end();
        }
        intruder.hear_to_end();
        (what, intruder.address(), reason)
    };
    let expected: Vec<_> = cases.into_iter().map(attack).collect();
    siege.check_told_once(&expected);
}

#[test]
fn garbage_in_place_of_tls_closes_the_connection_with_one_line() {
    let siege = Siege::start();
    let crumbs = [1, 0, 0xff, 0xff].into_iter().chain(std::iter::repeat_n(0, 0xffff));
    let crumbs: Vec<u8> = crumbs.flat_map(|octet| [22, 3, 1, 0, 1, octet]).collect();
    let endless = [&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff], &[0; 16_380][..]].concat();
    let cases = [
        ("nothing", Vec::new(), Then::End, "closed the connection during the handshake"),
        ("the start of a record", vec![22, 3, 1], Then::End, "closed the connection during the handshake"),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), Then::Wait, "speaks HTTP in the clear instead of TLS"),
        ("AMQP", b"AMQP\x03\x01\x00\x00".to_vec(), Then::Wait, "speaks AMQP in the clear instead of TLS"),
        ("ones", vec![0xff; 4096], Then::Wait, "speaks something that begins with "),
        ("an alert", vec![21, 3, 3, 0, 2, 2, 40], Then::Wait, "refused the handshake"),
        ("a record of 64 KiB", vec![22, 3, 1, 0xff, 0xff], Then::Wait, "the handshake went wrong: "),
        ("an empty hello", vec![22, 3, 1, 0, 4, 1, 0, 0, 0], Then::Wait, "the handshake went wrong: "),
        ("a hello of 16 MiB", endless, Then::Wait, "the handshake went wrong: "),
        ("a hello in crumbs", crumbs, Then::Wait, "a handshake message in too many records"),
    ];
    check_closed(&siege, cases, || siege.stranger());
    siege.lift();
}

#[test]
fn a_certificate_that_will_not_do_closes_the_connection_with_one_line() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let siege = Siege::start();
    let now = SystemTime::now();
    let (common_name, key) = ("another".to_owned(), KeyKind::EcdsaP256);
    let another = AuthorityRequest { common_name: common_name.clone(), key, now, valid_for: DAY };
    let leaf = LeafRequest { common_name, hosts: Vec::new(), usage: Usage::Both, key, now, valid_for: DAY };
    let authority = Authority::create(&another).expect("an authority can be made");
    let stranger = authority.issue(&leaf).expect("a certificate can be issued");
    // It believes the router, but is not believed.
    let stranger = Credentials { trust: siege.credentials("mallory").trust, ..stranger };
    let mut intruder = Intruder::behind_tls(&siege.site, siege.places.access, &stranger);
    intruder.hear_to_end();
    siege.check_told_once(&[("another CA", intruder.address(), "presented a certificate from another CA")]);
    siege.lift();
}
// === SASL and open ===

pub(crate) const SASL_HEADER: &[u8] = b"AMQP\x03\x01\x00\x00";
const AMQP_HEADER: &[u8] = b"AMQP\x00\x01\x00\x00";

/// A SASL frame: a described list.
pub(crate) fn sasl(descriptor: u64, fields: &[Value]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut list = Composer::described(&mut body, descriptor);
    for field in fields {
        list.field(field);
    }
    list.end();
    raw_frame(2, 1, 0, &body)
}

pub(crate) fn init(mechanism: &str) -> Vec<u8> {
    sasl(0x41, &[Value::symbol(mechanism), Value::Binary(b"\0user\0password".to_vec())])
}

/// All that comes before the open.
pub(crate) fn before_open() -> Vec<u8> {
    [SASL_HEADER, &sasl(0x41, &[Value::symbol("EXTERNAL")]), AMQP_HEADER].concat()
}

pub(crate) fn open(container: &str) -> Open {
    Open {
        container_id: container.into(),
        hostname: None,
        max_frame_size: 65_536,
        channel_max: 100,
        idle_time_out: None,
        outgoing_locales: Vec::new(),
        incoming_locales: Vec::new(),
        offered_capabilities: Vec::new(),
        desired_capabilities: Vec::new(),
        properties: Vec::new(),
    }
}

/// Deeper than any limit.
pub(crate) fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::Null, |inner, _| Value::List(vec![inner]))
}

#[test]
fn garbage_in_place_of_sasl_closes_the_connection_with_one_line() {
    let siege = Siege::start();
    let after_header = |rest: &[u8]| [SASL_HEADER, rest].concat();
    let cases = [
        ("nothing", Vec::new(), Then::End, "closed the connection without a word"),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), Then::Wait, "it began with \"GET / HT\""),
        ("no SASL", AMQP_HEADER.to_vec(), Then::Wait, "peer came without SASL"),
        ("another version", b"AMQP\x03\x02\x00\x00".to_vec(), Then::Wait, "peer does not speak AMQP 1.0"),
        ("a password", after_header(&init("PLAIN")), Then::Wait, "SASL mechanism PLAIN, which was not offered"),
        ("anonymous", after_header(&init("ANONYMOUS")), Then::Wait, "SASL mechanism ANONYMOUS, which was not offered"),
        ("an outcome", after_header(&sasl(0x44, &[Value::Ubyte(0)])), Then::Wait, "unexpected SASL frame"),
        ("an open", after_header(&frame(0, &open("x"), &[])), Then::Wait, "frame before open"),
        ("ones", after_header(&raw_frame(2, 1, 0, &[0xff; 40])), Then::Wait, "malformed performative"),
        ("a frame of 3 octets", after_header(&[0, 0, 0, 3, 2, 1, 0, 0]), Then::Wait, "malformed frame header"),
        ("a frame of type 7", after_header(&raw_frame(2, 7, 0, &[])), Then::Wait, "malformed frame header"),
        ("a frame of 4 GiB", after_header(&[255, 255, 255, 255, 2, 1, 0, 0]), Then::Wait, "frame of 4294967295 octets"),
        (
            "a list of 4 GiB",
            after_header(&raw_frame(2, 1, 0, &[0, 0x53, 0x41, 0xd0, 255, 255, 255, 255, 255, 255, 255, 255])),
            Then::Wait,
            "malformed performative",
        ),
    ];
    check_closed(&siege, cases, || siege.behind_tls());
    siege.lift();
}

#[test]
fn a_bad_open_closes_the_connection_with_one_line() {
    let siege = Siege::start();
    let after_sasl = |performative: &dyn Fn() -> Vec<u8>| [before_open(), performative()].concat();
    let bottomless = Open { properties: vec![("x".into(), nested(100))], ..open("mallory") };
    let small = Open { max_frame_size: 10, ..open("mallory") };
    let nameless = raw_frame(2, 0, 0, &[0, 0x53, 0x10, 0x45]);
    let cases = [
        ("nothing", before_open(), Then::End, "closed the connection without a word"),
        ("a close", after_sasl(&|| frame(0, &Close { error: None }, &[])), Then::Wait, "closed the connection"),
        ("a begin", after_sasl(&|| frame(0, &begin(), &[])), Then::Wait, "frame before open"),
        ("no name", after_sasl(&|| nameless.clone()), Then::Wait, "container-id"),
        ("tiny frames", after_sasl(&|| frame(0, &small, &[])), Then::Wait, "max-frame-size below 512"),
        ("properties without end", after_sasl(&|| frame(0, &bottomless, &[])), Then::Wait, "malformed performative"),
        ("the router's own id", after_sasl(&|| frame(0, &open("target"), &[])), Then::Wait, "has our own id, target"),
    ];
    check_closed(&siege, cases, || siege.behind_tls());
    siege.lift();
}
// === time ===

#[test]
fn half_open_connections_are_closed_and_keep_no_router_out() {
    // More than a router takes at once (256).
    let silent = short_or_long(220, 2_000);
    let siege = Siege::start();
    // A hello of 256 octets that never becomes whole.
    let hello = [&[22, 3, 1, 1, 0, 1, 0, 0, 0xfc, 3, 3][..], &[7; 200]].concat();
    let opening = [before_open(), frame(0, &open("mallory"), &[])].concat();
    let mut halves = Vec::new();
    for number in 0..100 {
        let mut intruder = if number % 5 < 2 { siege.stranger() } else { siege.behind_tls() };
        let said = [&hello[..1], &hello, &[], SASL_HEADER, &opening[..opening.len() - 1]][number % 5];
        intruder.send(said).expect("the router listens");
        halves.push(intruder);
    }
    let dripping: Vec<_> = halves.iter().step_by(5).map(|intruder| intruder.drip(3)).collect();
    let silent: Vec<_> = (0..silent).map(|_| siege.stranger()).collect();
    let late = Plan::new("late", &json!({"dataConnectionCount": 0})).linked_to(siege.places.access);
    let _late = Router::start(&siege.site, siege.folder.path(), &siege.certificates, late);
    rig::wait_until("a router that comes late is let in", || siege.target.metric("van_routers") == 3);
    halves.iter_mut().for_each(|intruder| drop(intruder.hear_to_end()));
    // Some after 10 s, the oldest when there are too many.
    let told = "the peer has not opened";
    let expected: Vec<_> = halves.iter().map(|intruder| ("half open", intruder.address(), told)).collect();
    siege.check_told_once(&expected);
    let told = |what: &str| siege.target.log().contains(&format!("{told} {what}"));
    assert!(told("within 10 s") && told("before 256 others came"));
    dripping.into_iter().for_each(|dripping| dripping.join().expect("it ends when the router leaves"));
    drop(silent);
    siege.lift();
}
