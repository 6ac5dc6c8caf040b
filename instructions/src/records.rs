//! The record layer, both ends of a link.
//!
//! aws-lc chooses its code by what the processor can do, and valgrind shows it a processor of its own: with AES-NI and AVX2 if
//! the machine has them, never with AVX-512. So the counts hold on any of today's machines, and are not those of the code that
//! runs there without valgrind.

use std::hint::black_box;
use std::time::SystemTime;

use bytes::Buf;
use van_tls::{
    Authority, AuthorityRequest, Handshake, HostCheck, KeyKind, LeafRequest, LinkAcceptor, LinkConnector, OutBuf,
    Policy, RecordLayer, SKUPPER_LIFE, Tls13Records, Usage,
};

use crate::cases::measured;

/// What precedes the payload in a frame, about.
const FRAME_HEADER: [u8; 32] = [0xAA; 32];

pub(crate) fn seal(rounds: u64, unit: usize) {
    let (mut sender, _) = link();
    let (part, mut out) = (vec![0x5A; unit], OutBuf::new());
    let mut seal = || {
        sender.seal(&[&FRAME_HEADER, black_box(&part)], &mut out).expect("an open connection");
        out.advance(out.remaining());
    };
    seal();
    measured(|| (0..rounds).for_each(|_| seal()));
}

pub(crate) fn open(rounds: u64, unit: usize) {
    let (mut sender, mut receiver) = link();
    let part = vec![0x5A; unit];
    let mut sealed = (0..=rounds).map(|_| {
        let mut out = OutBuf::new();
        sender.seal(&[&FRAME_HEADER, &part], &mut out).expect("an open connection");
        take(&mut out)
    });
    let sealed: Vec<_> = sealed.by_ref().collect();
    let mut plaintext = Vec::new();
    let mut octets = 0;
    let mut open = |mut received: Vec<u8>| {
        plaintext.clear();
        receiver.open(black_box(&mut received), &mut plaintext).expect("intact records");
        octets += plaintext.iter().map(ExactSizeIterator::len).sum::<usize>();
    };
    let mut sealed = sealed.into_iter();
    sealed.by_ref().take(1).for_each(&mut open);
    measured(|| sealed.for_each(open));
    assert_eq!(octets, (rounds as usize + 1) * (FRAME_HEADER.len() + unit));
}

fn link() -> (Tls13Records, Tls13Records) {
    let now = SystemTime::now();
    let (key, valid_for) = (KeyKind::EcdsaP256, SKUPPER_LIFE);
    let ca = AuthorityRequest { common_name: "ca".into(), key, now, valid_for };
    let ca = Authority::create(&ca).expect("a CA");
    let (common_name, hosts, usage) = ("router".into(), vec!["router".into()], Usage::Both);
    let leaf = LeafRequest { common_name, hosts, usage, key, now, valid_for };
    let credentials = ca.issue(&leaf).expect("a certificate");
    let policy = Policy::default();
    let connector = LinkConnector::new(&credentials, HostCheck::Verify, &policy).expect("a policy");
    let acceptor = LinkAcceptor::new(&credentials, &policy).expect("a policy");
    shake(connector.connect("router", now).expect("a host"), acceptor.accept(now).expect("an acceptor"))
}

fn shake(mut near: Handshake, mut far: Handshake) -> (Tls13Records, Tls13Records) {
    far.handle_received(&take(near.output())).expect("a hello");
    let mut near = near.handle_received(&take(far.output())).expect("an answer").expect("all of it");
    let far = far.handle_received(&take(&mut near.output)).expect("a finish").expect("all of it");
    (near.records, far.records)
}

fn take(out: &mut OutBuf) -> Vec<u8> {
    out.copy_to_bytes(out.remaining()).into()
}
