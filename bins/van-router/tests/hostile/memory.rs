//! What a peer that was let in may cost the router's memory.

use std::time::{Duration, Instant};

use van_core::amqp::Role;
use van_core::plane::Purpose;

use crate::frames::{attach, begin, flow, transfer};
use crate::maps::{HELLO_ADDRESS, Liar, hello, router_head, router_message, text};
use crate::rig::intruder::frame;
use crate::streams::Sections;
use crate::{ALLOWANCE, Siege, edges, management, short_or_long, vanflow};

/// What a peer may try.
pub(crate) type Attack = fn(&Siege);

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
    for (what, attack) in ATTACKS.into_iter().chain(management::ATTACKS).chain(edges::ATTACKS).chain(vanflow::ATTACKS) {
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
