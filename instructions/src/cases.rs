//! What is counted.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use van_core::amqp::{Admission, Config, Connection, Event, LinkId, NewLink, Role, Source, Target, Token};
use van_core::flow::{Ledger, Now};

use crate::pair::Pair;
use crate::records;

/// Something of the data path.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// What one round does, for the budget.
    pub(crate) what: &'static str,
    /// Rounds in one run.
    pub(crate) rounds: u64,
    pub(crate) run: fn(),
}

/// Octets of what is read from a client at once.
const UNIT: usize = 65_536;

/// Rounds of small things.
const MANY: u64 = 1_000;

/// Rounds of large ones.
const SOME: u64 = 20;

/// Streams that are ready at once.
const STREAMS: u64 = 100;

/// All of them.
pub(crate) const CASES: &[Case] = &[
    Case { name: "encode", what: "header of a transfer frame, written", rounds: MANY, run: encode },
    Case { name: "decode", what: "transfer frame with 64 octets, read", rounds: MANY, run: decode },
    Case {
        name: "schedule",
        what: "turn of one of 100 streams that are ready at once: read, frame, send one octet",
        rounds: STREAMS,
        run: schedule,
    },
    Case {
        name: "seal",
        what: "64 KiB sealed as TLS records, AES-128-GCM",
        rounds: SOME,
        run: || records::seal(SOME, UNIT),
    },
    Case { name: "open", what: "64 KiB of TLS records opened", rounds: SOME, run: || records::open(SOME, UNIT) },
    Case {
        name: "passage",
        what: "64 KiB from a client to a workload through two data planes, without TLS",
        rounds: SOME,
        run: passage,
    },
    Case {
        name: "connection",
        what: "a client's connection through two data planes: made, 64 octets each way, ended",
        rounds: MANY,
        run: connection,
    },
    Case {
        name: "vanflow",
        what: "what both ledgers of VanFlow do for a connection, while nobody listens",
        rounds: MANY,
        run: vanflow,
    },
];

/// What counts, and nothing around it: callgrind is told this name.
#[inline(never)]
pub(crate) fn measured<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

fn encode() {
    let (mut near, _, link) = link();
    near.start_delivery(link, Token(1), true);
    near.transfer(link, 64, true);
    measured(|| {
        for _ in 0..MANY {
            near.clear_output();
            black_box(near.transfer(link, 64, true));
        }
    });
}

fn decode() {
    let (mut near, mut far, link) = link();
    near.start_delivery(link, Token(1), true);
    let frames: Vec<Vec<u8>> = (0..=MANY)
        .map(|_| {
            near.transfer(link, 64, true);
            near.append_payload(&[7; 64]);
            let frame = near.output().to_vec();
            near.clear_output();
            frame
        })
        .collect();
    let mut octets = 0;
    let mut read = |frame: &Vec<u8>| {
        let mut input = frame.as_slice();
        while let Some(event) = far.next(&mut input).expect("a frame") {
            octets += if let Event::Payload { octets, .. } = event { octets.len() } else { 0 };
        }
    };
    read(&frames[0]); // with the delivery's name
    measured(|| frames[1..].iter().for_each(read));
    assert_eq!(octets, frames.len() * 64);
}

/// Two engines and a link from one to the other.
fn link() -> (Connection, Connection, LinkId) {
    let now = Instant::now();
    let mut near = Connection::connect(Config::new("near"), Vec::new(), now);
    let admission = Admission { mechanisms: Vec::new(), sasl_optional: true };
    let mut far = Connection::accept(Config::new("far"), admission, now);
    let mut link = None;
    for _ in 0..4 {
        for is_far in [true, false] {
            let (from, to) = if is_far { (&mut near, &mut far) } else { (&mut far, &mut near) };
            let octets = from.output().to_vec();
            from.clear_output();
            let mut input = octets.as_slice();
            while let Some(event) = to.next(&mut input).expect("nothing wrong") {
                match event {
                    Event::Opened(_) if is_far => to.answer_open([]),
                    Event::Attached { link, attach, is_answer: false, .. } => {
                        to.accept_link(link, &attach, Token(1), 250)
                    }
                    _ => {}
                }
            }
        }
        if link.is_none() && near.is_open() {
            let channel = near.begin().expect("a session");
            let (source, target) = (Some(Source::default()), Some(Target::default()));
            let new = NewLink { name: "link".into(), role: Role::Sender, source, target, credit: 0, token: Token(1) };
            link = near.attach(channel, new);
        }
    }
    let link = link.expect("a session and a link");
    assert_eq!(near.credit(link), 250);
    (near, far, link)
}

fn schedule() {
    let mut pair = Pair::new();
    let streams: Vec<_> = (0..STREAMS).map(|_| pair.connect(0)).collect();
    streams.iter().for_each(|stream| pair.send(*stream, 1));
    for stream in &streams {
        pair.say(*stream, 1);
    }
    pair.fill();
    measured(|| {
        streams.iter().for_each(|stream| pair.announce(*stream));
        pair.drain();
    });
    pair.carry();
    assert_eq!(pair.octets_arrived(), 2 * STREAMS);
}

fn passage() {
    let mut pair = Pair::new();
    let stream = pair.connect(0);
    pair.send(stream, UNIT);
    let before = pair.octets_arrived();
    measured(|| (0..SOME).for_each(|_| pair.send(stream, UNIT)));
    assert_eq!(pair.octets_arrived() - before, SOME * UNIT as u64);
}

fn connection() {
    let mut pair = Pair::new();
    (0..10).for_each(|_| pair.converse(64));
    measured(|| (0..MANY).for_each(|_| pair.converse(64)));
    assert_eq!(pair.octets_arrived(), (MANY + 10) * 2 * 64);
    assert!(pair.is_idle());
}

fn vanflow() {
    let (mut near, mut far) = (Ledger::new("aB3dE", 0), Ledger::new("fG4hI", 0));
    let [listener, connector] = ["aB3dE:1", "fG4hI:1"].map(Arc::<str>::from);
    let client = SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000));
    let moment = Now { instant: Instant::now(), wall_micros: 1_767_225_600_000_000 };
    let now = || moment;
    let mut converse = || {
        let at_client = near.accepted(now(), &listener, client, None);
        let identity = near.identity(at_client).cloned().expect("it was accepted");
        let at_workload = far.connecting(&identity, "0/near", &connector).expect("an identity");
        far.connected(at_workload, client);
        near.read(at_client, now, &[7; 64]);
        far.writing(at_workload, now);
        far.written(at_workload, now, [&[7; 64][..]].into_iter(), 64);
        far.read(at_workload, now, &[7; 64]);
        near.writing(at_client, now);
        near.written(at_client, now, [&[7; 64][..]].into_iter(), 64);
        near.closed(at_client, now());
        far.closed(at_workload, now());
    };
    converse();
    measured(|| (0..MANY).for_each(|_| converse()));
    assert!(near.is_empty() && far.is_empty());
}
