//! Frames, performatives and records that break the protocol.

use van_core::amqp::{
    Attach, Begin, Close, Condition, DeliveryTag, Flow, Performative, Role, Source, Symbol, Target, Transfer, Value,
};
use van_core::plane::Purpose;

use crate::Siege;
use crate::handshake::{SASL_HEADER, before_open, init, nested, open, sasl};
use crate::maps::{HELLO_ADDRESS, Liar, hello, map, router_message, text};
use crate::rig::intruder::{frame, raw_frame, take_frames};

pub(crate) fn begin() -> Begin {
    Begin {
        remote_channel: None,
        next_outgoing_id: 0,
        incoming_window: i32::MAX.cast_unsigned(),
        outgoing_window: i32::MAX.cast_unsigned(),
        handle_max: u32::MAX,
        offered_capabilities: Vec::new(),
        desired_capabilities: Vec::new(),
    }
}

/// A link between routers, of the class that a capability names.
pub(crate) fn attach(handle: u32, role: Role, capability: Option<&str>) -> Attach {
    let capabilities: Vec<_> = capability.into_iter().map(Symbol::from).collect();
    Attach {
        name: format!("link-{handle}"),
        handle,
        role,
        snd_settle_mode: 2,
        rcv_settle_mode: 0,
        source: Some(Source { capabilities: capabilities.clone(), ..Source::default() }),
        target: Some(Target { capabilities, ..Target::default() }),
        initial_delivery_count: (role == Role::Sender).then_some(0),
        max_message_size: 0,
        offered_capabilities: Vec::new(),
        desired_capabilities: Vec::new(),
        properties: None,
    }
}

pub(crate) fn transfer(handle: u32, number: u32, more: bool) -> Transfer {
    let tag = DeliveryTag::from(number);
    Transfer { delivery_id: Some(number), delivery_tag: Some(tag), more, ..Transfer::new(handle) }
}

/// Nothing but credit, and an echo.
pub(crate) fn flow(handle: Option<u32>) -> Flow {
    let window = i32::MAX.cast_unsigned();
    Flow {
        next_incoming_id: Some(0),
        incoming_window: window,
        outgoing_window: window,
        handle,
        delivery_count: handle.map(|_| 0),
        link_credit: handle.map(|_| window),
        echo: true,
        ..Flow::default()
    }
}

#[test]
fn a_peer_that_breaks_the_protocol_is_told_and_closed_with_one_line() {
    let siege = Siege::start();
    let in_session = |frames: &[Vec<u8>]| [frame(0, &begin(), &[]), frames.concat()].concat();
    let stream = || frame(0, &attach(0, Role::Sender, None), &[]);
    // Nobody lets such a link in: it never has credit.
    let refused = || frame(0, &attach(0, Role::Sender, Some("qd.router")), &[]);
    let deep = Attach { properties: Some(nested(100).into()), ..attach(0, Role::Sender, None) };
    let answer = Begin { remote_channel: Some(5), ..begin() };
    let numberless = Transfer::new(0);
    let cases: [(&str, Vec<u8>, &str); 18] = [
        ("a frame of 4 GiB", vec![255, 255, 255, 255, 2, 0, 0, 0], "frame of 4294967295 octets, at most 65536"),
        ("a frame of 65,537 octets", vec![0, 1, 0, 1, 2, 0, 0, 0], "frame of 65537 octets, at most 65536"),
        ("a frame of 3 octets", vec![0, 0, 0, 3, 2, 0, 0, 0], "malformed frame header"),
        ("ones", raw_frame(2, 0, 0, &[0xff; 40]), "malformed performative"),
        ("an unknown performative", raw_frame(2, 0, 0, &[0, 0x53, 0x99, 0x45]), "malformed performative"),
        (
            "a performative longer than its frame",
            raw_frame(2, 0, 0, &[0, 0x53, 0x11, 0xc0, 200, 4]),
            "malformed performative",
        ),
        ("a second open", frame(0, &open("mallory"), &[]), "second open"),
        ("SASL", sasl(0x44, &[Value::Ubyte(0)]), "unexpected SASL frame"),
        ("a flow without session", frame(7, &flow(None), &[]), "no session on channel 7"),
        ("a session too many", frame(60_000, &begin(), &[]), "begin on channel 60000"),
        ("an answer nobody asked for", frame(0, &answer, &[]), "begin answers channel 5, which asked nothing"),
        ("a handle twice", in_session(&[stream(), stream()]), "handle 0 in use"),
        ("a handle too high", in_session(&[frame(0, &attach(u32::MAX, Role::Sender, None), &[])]), "handle 4294967295"),
        ("properties without end", in_session(&[frame(0, &deep, &[])]), "malformed performative"),
        ("a transfer without link", in_session(&[frame(0, &transfer(9, 0, false), b"x")]), "transfer on handle 9"),
        (
            "a transfer without credit",
            in_session(&[refused(), frame(0, &transfer(0, 0, true), b"x")]),
            "delivery without credit",
        ),
        (
            "a transfer without number",
            in_session(&[stream(), frame(0, &numberless, b"x")]),
            "first transfer without delivery-id",
        ),
        (
            "a delivery within another",
            in_session(&[stream(), frame(0, &transfer(0, 0, true), b"x"), frame(0, &transfer(0, 1, true), b"x")]),
            "delivery begun before the one under way was complete",
        ),
    ];
    let (mut expected, mut untold) = (Vec::new(), Vec::new());
    for (number, (what, octets, reason)) in cases.into_iter().enumerate() {
        let mut intruder = siege.behind_open(&format!("mallory-{number}"), Purpose::Data);
        intruder.send(&octets).expect("the router listens");
        let last = take_frames(&mut intruder.hear_to_end()).pop();
        if !matches!(&last, Some(Performative::Close(close)) if close.error.is_some()) {
            untold.push((what, last));
        }
        expected.push((what, intruder.address(), reason));
    }
    assert!(untold.is_empty(), "the peer was not told in a close what was wrong, but: {untold:#?}");
    siege.check_told_once(&expected);
    siege.lift();
}

#[test]
fn a_record_that_does_not_decrypt_closes_the_connection_with_one_line() {
    let siege = Siege::start();
    let forged = [&[23, 3, 3, 0, 64][..], &[7; 64]].concat();
    let mut during = siege.behind_tls();
    during.send_raw(&forged).expect("the router listens");
    during.hear_to_end();
    let mut after = siege.behind_open("mallory", Purpose::Data);
    after.send_raw(&forged).expect("the router listens");
    after.hear_to_end();
    let reason = "a record does not decrypt";
    siege.check_told_once(&[("before open", during.address(), reason), ("after open", after.address(), reason)]);
    siege.lift();
}

#[test]
fn no_word_of_a_peer_forges_a_line_of_the_log() {
    const FORGED: &str = "forged\n2000-01-01T00:00:00.000000Z ERROR forged: \u{1b}[31mred";
    let siege = Siege::start();
    let mut expected = Vec::new();
    for octets in [
        [SASL_HEADER, &init(&FORGED.replace('\u{1b}', ""))].concat(),
        [before_open(), frame(0, &Close { error: Some(Condition::new("amqp:not-allowed", FORGED)) }, &[])].concat(),
    ] {
        let mut intruder = siege.behind_tls();
        intruder.send(&octets).expect("the router listens");
        intruder.hear_to_end();
        expected.push(("a forger", intruder.address(), "forged"));
    }
    let mut nameless = siege.behind_tls();
    nameless.send(&[before_open(), frame(0, &open(FORGED), &[])].concat()).expect("the router listens");
    nameless.hear_to_end();
    expected.push(("a forged name", nameless.address(), "contains a control character"));
    let mut liar = Liar::start(&siege, "mallory");
    liar.tell(&router_message("mallory", HELLO_ADDRESS, FORGED, map([("id", text("mallory"))])));
    liar.tell(&router_message("mallory", HELLO_ADDRESS, "HELLO", hello(FORGED, 1, Vec::new())));
    liar.wait_until_neighbor(&siege);
    siege.check_told_once(&expected);
    let log = siege.target.log();
    let forged: Vec<_> = log.lines().filter(|line| line.starts_with("2000-") || line.contains('\u{1b}')).collect();
    assert!(forged.is_empty(), "{forged:#?}");
    siege.lift();
}
