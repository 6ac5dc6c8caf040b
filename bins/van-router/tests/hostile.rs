//! Peers that mean harm, at each layer of a link, while honest traffic passes.
//!
//! ```text
//! honest client ──TCP──► target ◄──TLS── far ──TCP──► honest workload
//!                          ▲
//!       intruders ─────────┘  nothing, garbage, lies, floods
//! ```
//!
//! Up to AMQP an intruder's connection is closed, and one line of the log names the peer and the reason. What a message
//! says is another matter: it may come from further away, so the message is refused and the link stays.
//!
//! Short by default. `VAN_HOSTILE=1` floods more.

mod rig;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use tempfile::TempDir;
use van_core::amqp::{
    Attach, Begin, Close, Composer, Condition, DeliveryTag, Encode, Flow, Open, Performative, Role, Source, Symbol,
    Target, Transfer, Value,
};
use van_core::annotations::{Annotations, STREAMING};
use van_core::plane::Purpose;
use van_tls::{Authority, AuthorityRequest, Credentials, KeyKind, LeafRequest, Usage};

use rig::certificates::Certificates;
use rig::exchange::{Exchange, Exchanges, Tally};
use rig::intruder::{Intruder, frame, raw_frame, take_frames};
use rig::router::{Plan, Router};
use rig::site::Site;

/// How long may take what follows from what was seen already.
const LOG_PATIENCE: Duration = Duration::from_secs(20);

/// What an attack may cost the router's memory for the moment: many of the largest messages between routers (1 MiB).
const ALLOWANCE: u64 = 48 << 20;

/// One number for every day, another for `VAN_HOSTILE=1`.
fn short_or_long(short: usize, long: usize) -> usize {
    if rig::number_from_environment("VAN_HOSTILE", 0) == 1 { long } else { short }
}

/// Waits for what follows from what was done already.
#[track_caller]
fn soon(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + LOG_PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "still not so: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

// === the rig ===

/// A router that is attacked, one that is its honest neighbour, and a client that uses both without a pause.
struct Siege {
    site: Site,
    target: Router,
    far: Router,
    certificates: Certificates,
    access: SocketAddr,
    honest: Honest,
    exchanges: Exchanges,
    folder: TempDir,
}

/// A client that exchanges octets until it is stopped.
struct Honest {
    is_over: Arc<AtomicBool>,
    tally: Arc<Tally>,
    client: Option<JoinHandle<()>>,
}

impl Siege {
    fn start() -> Self {
        let (site, folder) = (Site::here(), tempfile::tempdir().expect("a folder can be made"));
        let certificates = Certificates::new(folder.path());
        let exchanges = Exchanges::start(&site);
        let (access, entrance) = (site.free_address(), site.free_address());
        let attributes = json!({"workerThreads": 2, "dataConnectionCount": 2});
        let target = Plan::new("target", &attributes).accepting(&[access]).listening("work", entrance);
        let target = Router::start(&site, folder.path(), &certificates, target);
        let far = Plan::new("far", &attributes).linked_to(access).connecting("work", exchanges.address());
        let far = Router::start(&site, folder.path(), &certificates, far);
        rig::wait_until("the link is complete", || target.connections_at(access.port()) == 3);
        rig::wait_until("the workload can be reached", || site.connect(entrance).is_ok());
        let honest = Honest::start(&site, entrance);
        let siege = Self { site, target, far, certificates, access, honest, exchanges, folder };
        siege.wait_until_more_completed();
        siege
    }

    /// Honest traffic goes on.
    #[track_caller]
    fn wait_until_more_completed(&self) {
        let goal = self.honest.tally.completed() + 5;
        rig::wait_until("honest exchanges complete", || self.honest.tally.completed() >= goal);
    }

    /// The end: nothing happened to honest traffic, and nothing to the routers.
    #[track_caller]
    fn lift(mut self) {
        self.wait_until_more_completed();
        self.honest.stop();
        for tally in [&self.honest.tally, &self.exchanges.tally] {
            tally.assert_no_faults();
            assert_eq!((tally.broken(), tally.truncated()), (0, 0), "honest traffic was disturbed");
        }
        for router in [&self.target, &self.far] {
            assert!(!router.log().contains("neighbour lost router=far"), "{}", router.log());
        }
    }

    // === intruders ===

    fn credentials(&self, name: &str) -> Credentials {
        self.certificates.credentials(name, &[])
    }

    fn stranger(&self) -> Intruder {
        Intruder::connect(&self.site, self.access)
    }

    fn behind_tls(&self) -> Intruder {
        Intruder::behind_tls(&self.site, self.access, &self.credentials("mallory"))
    }

    fn behind_open(&self, name: &str, purpose: Purpose) -> Intruder {
        Intruder::behind_open(&self.site, self.access, &self.credentials(name), name, purpose)
    }

    // === what the log says ===

    /// Each peer is named in one line, with the reason; told are all that are not.
    #[track_caller]
    fn check_told_once(&self, expected: &[(&str, SocketAddr, &str)]) {
        let fault = |log: &str, (what, peer, reason): &(&str, SocketAddr, &str)| {
            let is_peer = |line: &&str| line.contains(" WARN ") && line.contains(&format!("peer={peer}"));
            let told: Vec<_> = log.lines().filter(is_peer).collect();
            match told.as_slice() {
                [] => Some(format!("{what}: nothing is told of {peer}, expected was {reason:?}")),
                [line] if line.contains(reason) => None,
                [line] => Some(format!("{what}: expected {reason:?} in {line}")),
                lines => Some(format!("{what}: told {} times: {lines:#?}", lines.len())),
            }
        };
        let faults = || {
            let log = self.target.log();
            expected.iter().filter_map(|case| fault(&log, case)).collect::<Vec<_>>()
        };
        let end = Instant::now() + LOG_PATIENCE;
        while !faults().is_empty() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(faults().is_empty(), "\n{}", faults().join("\n"));
    }
}

impl Siege {
    /// Whatever a peer does over and over, it is told once, and who does it.
    #[track_caller]
    fn check_log_is_short(&self) {
        let mut told = BTreeMap::<String, usize>::new();
        for line in self.target.log().lines() {
            if let Some((_, message)) = line.split_once(" WARN ") {
                *told.entry(message.to_owned()).or_default() += 1;
            }
        }
        assert!(told.keys().all(|line| line.contains("mallory")), "not all lines name mallory: {told:#?}");
        assert!(told.values().all(|count| *count == 1), "told more than once: {told:#?}");
        assert!(told.len() < 50, "told in {} lines: {told:#?}", told.len());
    }
}

impl Honest {
    fn start(site: &Site, entrance: SocketAddr) -> Self {
        let (is_over, tally) = (Arc::<AtomicBool>::default(), Arc::<Tally>::default());
        let (site, ended, noted) = (site.clone(), Arc::clone(&is_over), Arc::clone(&tally));
        let client = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                noted.note(Exchange::new(10_000, 100_000).run(&site, entrance));
            }
        });
        Self { is_over, tally, client: Some(client) }
    }

    fn stop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.client.take().map(JoinHandle::join);
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.stop();
    }
}

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
    let mut intruder = Intruder::behind_tls(&siege.site, siege.access, &stranger);
    intruder.hear_to_end();
    siege.check_told_once(&[("another CA", intruder.address(), "presented a certificate from another CA")]);
    siege.lift();
}

// === SASL and open ===

const SASL_HEADER: &[u8] = b"AMQP\x03\x01\x00\x00";
const AMQP_HEADER: &[u8] = b"AMQP\x00\x01\x00\x00";

/// A SASL frame: a described list.
fn sasl(descriptor: u64, fields: &[Value]) -> Vec<u8> {
    let mut body = Vec::new();
    let mut list = Composer::described(&mut body, descriptor);
    for field in fields {
        list.field(field);
    }
    list.end();
    raw_frame(2, 1, 0, &body)
}

fn init(mechanism: &str) -> Vec<u8> {
    sasl(0x41, &[Value::symbol(mechanism), Value::Binary(b"\0user\0password".to_vec())])
}

/// All that comes before the open.
fn before_open() -> Vec<u8> {
    [SASL_HEADER, &sasl(0x41, &[Value::symbol("EXTERNAL")]), AMQP_HEADER].concat()
}

fn open(container: &str) -> Open {
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
fn nested(depth: usize) -> Value {
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

// === AMQP ===

fn begin() -> Begin {
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
fn attach(handle: u32, role: Role, capability: Option<&str>) -> Attach {
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

fn transfer(handle: u32, number: u32, more: bool) -> Transfer {
    let tag = DeliveryTag::from(number);
    Transfer { delivery_id: Some(number), delivery_tag: Some(tag), more, ..Transfer::new(handle) }
}

/// Nothing but credit, and an echo.
fn flow(handle: Option<u32>) -> Flow {
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

// === router maps ===

const HELLO_ADDRESS: &str = "amqp:/_local/qdhello";
const FLOOD_ADDRESS: &str = "amqp:/_topo/0/all/qdrouter";
const TREE_ADDRESS: &str = "_topo/0/all/qdrouter.ma";

/// A neighbour that is a router as far as its links go.
struct Liar {
    intruder: Intruder,
    name: String,
    instance: i64,
    is_neighbor: bool,
    told: u32,
}

impl Liar {
    fn start(siege: &Siege, name: &str) -> Self {
        let mut intruder =
            Intruder::behind_open(&siege.site, siege.access, &siege.credentials("mallory"), name, Purpose::Control);
        let control = |handle, role| frame(0, &attach(handle, role, Some("qd.router")), &[]);
        let links = [frame(0, &begin(), &[]), control(0, Role::Sender), control(1, Role::Receiver)].concat();
        intruder.send(&links).and_then(|()| intruder.send(&frame(0, &flow(Some(1)), &[]))).expect("the router listens");
        drop(intruder.ignore_answers());
        Self { intruder, name: name.into(), instance: 1, is_neighbor: false, told: 0 }
    }

    /// Sends a message of the router protocol, whatever is in it.
    fn tell(&mut self, message: &[u8]) {
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
    fn wait_until_neighbor(&mut self, siege: &Siege) {
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

fn text(text: &str) -> Value {
    Value::String(text.into())
}

fn map<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Map(pairs.map(|(key, value)| (text(key), value)).into())
}

fn hello(id: &str, instance: i64, seen: Vec<Value>) -> Value {
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

fn described(out: &mut Vec<u8>, descriptor: u64, value: Value) {
    Value::Described(Value::Ulong(descriptor).into(), value.into()).encode(out);
}

/// What stands before the body of a message between routers.
fn router_head(from: &str, to: &str, opcode: Value) -> Vec<u8> {
    let mut out = Vec::new();
    Annotations::fresh(0).forward(&format!("0/{from}"), &mut out);
    Composer::described(&mut out, 0x73).null().null().field(to).end();
    described(&mut out, 0x74, map([("opcode", opcode)]));
    out
}

fn router_message(from: &str, to: &str, opcode: &str, body: Value) -> Vec<u8> {
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

// === sections of streams ===

/// What stands before a stream's octets.
struct Sections<'a> {
    to: Option<&'a str>,
    reply_to: Option<&'a str>,
    content_type: Option<&'a str>,
    properties: Value,
    body: &'a [u8],
}

impl Default for Sections<'_> {
    fn default() -> Self {
        let reply_to = Some("amqp:/_topo/0/mallory/temp.1");
        let content_type = Some("application/octet-stream");
        Self {
            to: Some("work"),
            reply_to,
            content_type,
            properties: map([("V", Value::Uint(1))]),
            body: &[0, 0x53, 0x77, 0x40],
        }
    }
}

impl Sections<'_> {
    fn write(self) -> Vec<u8> {
        let mut out = Vec::new();
        Annotations::fresh(STREAMING).forward("0/mallory", &mut out);
        let mut properties = Composer::described(&mut out, 0x73);
        properties.null().null().optional(self.to).null().optional(self.reply_to).null().optional(self.content_type);
        properties.end();
        described(&mut out, 0x74, self.properties);
        [&out, self.body].concat()
    }
}

#[test]
fn a_stream_that_cannot_be_is_refused_and_the_connection_stays() {
    let siege = Siege::start();
    let fresh = || Sections::default();
    let good = fresh().write();
    let streams: Vec<Vec<u8>> = vec![
        vec![0xa5; 200],
        vec![0; 70_000],
        good[..40].to_vec(),
        // Sections twice, and out of order.
        [&good[..good.len() - 4], &good[..]].concat(),
        // Properties of 1 GiB.
        [&[0, 0x53, 0x73, 0xd0, 0x40, 0, 0, 0, 0, 0, 0, 1][..], &[0; 70_000]].concat(),
        [&b"\x00\x80SKPR--RA\xc0\x03\x02\x43\x40"[..], &good].concat(),
        [&b"\x00\x80SKPR--RA\xd0\xff\xff\xff\xff\xff\xff\xff\xff"[..], &good].concat(),
        Sections { to: None, ..fresh() }.write(),
        Sections { to: Some(""), ..fresh() }.write(),
        Sections { to: Some("nobody"), ..fresh() }.write(),
        Sections { to: Some(&"work".repeat(10_000)), ..fresh() }.write(),
        Sections { to: Some("amqp:/_topo/0/target/temp.$#1"), ..fresh() }.write(),
        Sections { to: Some("amqp:/_topo/0/nobody/temp.1"), ..fresh() }.write(),
        Sections { to: Some("amqp:/_topo/0/all/qdrouter"), ..fresh() }.write(),
        Sections { reply_to: None, ..fresh() }.write(),
        Sections { content_type: Some("text/plain"), ..fresh() }.write(),
        Sections { content_type: None, ..fresh() }.write(),
        Sections { body: &[0, 0x53, 0x77, 0xa1, 5, 1, 2, 3, 4, 5], ..fresh() }.write(),
        Sections { body: &[0, 0x53, 0x99, 0x40], ..fresh() }.write(),
    ];
    let mut intruder = siege.behind_open("mallory", Purpose::Data);
    intruder.send(&frame(0, &begin(), &[])).expect("the router listens");
    let count = u32::try_from(streams.len()).expect("a few");
    for (number, stream) in (0..).zip(&streams) {
        let link = frame(0, &attach(number, Role::Sender, None), &[]);
        let mut pieces = stream.chunks(30_000).peekable();
        intruder.send(&link).expect("the router listens");
        while let Some(piece) = pieces.next() {
            let transfer = transfer(number, number, pieces.peek().is_some());
            intruder.send(&frame(0, &transfer, piece)).expect("the router listens");
        }
    }
    let (mut heard, mut refused) = (Vec::new(), BTreeMap::new());
    while refused.len() < streams.len() {
        heard.extend(intruder.hear().expect("the router answers").expect("the router does not leave"));
        for performative in take_frames(&mut heard) {
            match performative {
                Performative::Disposition(told) if told.state.as_ref().is_some_and(|state| state.is_terminal()) => {
                    let numbers = told.first..=told.last.unwrap_or(told.first);
                    refused.extend(numbers.filter(|number| *number < count).map(|number| (number, told.state.clone())));
                }
                Performative::Close(close) => panic!("the router closes the connection: {close:?}"),
                _ => {}
            }
        }
    }
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
    let late = Plan::new("late", &json!({"dataConnectionCount": 0})).linked_to(siege.access);
    let _late = Router::start(&siege.site, siege.folder.path(), &siege.certificates, late);
    rig::wait_until("a router that comes late is let in", || siege.target.metric("van_routers") == 3);
    halves.iter_mut().for_each(|intruder| drop(intruder.hear_to_end()));
    let expected: Vec<_> = halves.iter().map(|intruder| ("half open", intruder.address(), "10 s")).collect();
    siege.check_told_once(&expected);
    dripping.into_iter().for_each(|dripping| dripping.join().expect("it ends when the router leaves"));
    drop(silent);
    siege.lift();
}

// === memory ===

/// What a peer with a good certificate may try.
type Attack = fn(&Siege);

const ATTACKS: [(&str, Attack); 7] = [
    ("a router message of a million nulls", |siege| {
        let count = 1_000_000_u32;
        let list =
            [&[0xd0][..], &(count + 4).to_be_bytes(), &count.to_be_bytes(), &vec![0x40; count as usize]].concat();
        let mut liar = Liar::start(siege, "mallory-nulls");
        let head = router_head("mallory-nulls", HELLO_ADDRESS, text("HELLO"));
        liar.tell(&[&head, &[0, 0x53, 0x77][..], &list].concat());
        liar.wait_until_neighbor(siege);
    }),
    ("a router message without end", |siege| {
        let mut intruder = siege.behind_open("mallory-end", Purpose::Control);
        let link = frame(0, &attach(0, Role::Sender, Some("qd.router")), &[]);
        intruder.send(&[frame(0, &begin(), &[]), link].concat()).expect("the router listens");
        let piece = frame(0, &transfer(0, 0, true), &[7; 60_000]);
        // It leaves at 1 MiB.
        for _ in 0..2_000 {
            if intruder.send(&piece).is_err() {
                break;
            }
        }
        intruder.hear_to_end();
    }),
    ("router messages that take longer to read than to send", |siege| {
        let seen = (0..5_000).map(|number| text(&format!("r{number}"))).collect();
        let mut liar = Liar::start(siege, "mallory-long");
        let message = router_message("mallory-long", HELLO_ADDRESS, "HELLO", hello("mallory-long", 1, seen));
        (0..short_or_long(2_000, 40_000)).for_each(|_| liar.tell(&message));
        liar.wait_until_neighbor(siege);
    }),
    ("heads of streams without end", |siege| {
        let mut intruder = siege.behind_open("mallory-heads", Purpose::Data);
        intruder.send(&frame(0, &begin(), &[])).expect("the router listens");
        // Properties of 64,000 octets, most of them.
        let head = [&[0, 0x53, 0x73, 0xd0, 0, 0, 0xfa, 0, 0, 0, 0, 1][..], &[0; 60_000]].concat();
        for number in 0..u32::try_from(short_or_long(3_000, 30_000)).expect("not so many") {
            let link = frame(0, &attach(number, Role::Sender, None), &[]);
            let start = frame(0, &transfer(number, number, true), &head);
            // The router may have had enough.
            if intruder.send(&[link, start].concat()).is_err() {
                break;
            }
        }
        siege.wait_until_more_completed();
    }),
    ("streams to nobody", |siege| {
        let mut intruder = siege.behind_open("mallory-nobody", Purpose::Data);
        drop(intruder.ignore_answers());
        let link = frame(0, &attach(0, Role::Sender, None), &[]);
        intruder.send(&[frame(0, &begin(), &[]), link].concat()).expect("the router listens");
        let head = Sections { to: Some("nobody"), ..Sections::default() }.write();
        let streams = (0..u32::try_from(short_or_long(50_000, 1_000_000)).expect("not so many")).collect::<Vec<_>>();
        for numbers in streams.chunks(200) {
            let frames: Vec<_> = numbers.iter().map(|number| frame(0, &transfer(0, *number, false), &head)).collect();
            intruder.send(&frames.concat()).expect("the router listens");
        }
    }),
    ("echoes that nobody reads", |siege| {
        let mut intruder = siege.behind_open("mallory-echo", Purpose::Data);
        intruder.send(&frame(0, &begin(), &[])).expect("the router listens");
        let flows = frame(0, &flow(None), &[]).repeat(500);
        // The router does not go on reading without being read.
        intruder.set_patience(Duration::from_millis(500));
        let taken = (0..20_000).take_while(|_| intruder.send(&flows).is_ok()).count();
        assert!(taken < 20_000, "the router takes echoes without end");
    }),
    ("new keys without end", |siege| {
        let mut intruder = siege.behind_open("mallory-keys", Purpose::Data);
        drop(intruder.ignore_answers());
        // It leaves when there is no other use of the keys.
        assert!((0..100_000).any(|_| intruder.refresh_keys().is_err()), "the router takes new keys without end");
    }),
];

#[test]
fn no_peer_makes_the_router_grow() {
    let siege = Siege::start();
    let mut grown = Vec::new();
    for (what, attack) in ATTACKS {
        siege.target.forget_peak();
        let (before, started) = (siege.target.resident_bytes(), Instant::now());
        attack(&siege);
        siege.wait_until_more_completed();
        let more = siege.target.peak_resident_bytes().saturating_sub(before);
        println!("{what}: {} MiB more, {:?}", more >> 20, started.elapsed());
        grown.extend((more > ALLOWANCE).then(|| format!("{what}: {} MiB more", more >> 20)));
    }
    assert!(grown.is_empty(), "\n{}", grown.join("\n"));
    siege.lift();
}
