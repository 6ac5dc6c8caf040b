//! What the record layer costs on one core, copies for the measurement left out: `cargo bench -p van-tls`.

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use bytes::Buf;
use van_tls::{
    Authority, AuthorityRequest, Handshake, HostCheck, KeyKind, LeafRequest, LinkAcceptor, LinkConnector, OutBuf,
    Plain, Policy, RecordLayer, SKUPPER_LIFE, SUITES, Suite, Tls13Records, Usage,
};

/// What precedes the payload in a frame, about.
const FRAME_HEADER: [u8; 32] = [0xAA; 32];

fn main() {
    for suite in SUITES {
        let (mut connector, mut acceptor) = link(suite);
        measure(suite.name(), &mut connector, &mut acceptor);
    }
    measure("no TLS", &mut Plain::new(), &mut Plain::new());
}

fn measure(name: &str, sender: &mut dyn RecordLayer, receiver: &mut dyn RecordLayer) {
    println!("{name}");
    // Parts of 64 KiB, records filled to the brim, and short messages as many as a read brings.
    for (payload, batch, rounds) in [(65_536, 1, 20_000), (16_352, 4, 20_000), (100, 64, 10_000)] {
        let part = vec![0x5A; payload];
        let (mut seal, mut open) = (Duration::MAX, Duration::MAX);
        let (mut out, mut received, mut plaintext) = (OutBuf::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let start = Instant::now();
            for _ in 0..batch {
                sender.seal(&[&FRAME_HEADER, black_box(&part)], &mut out).expect("an open connection");
            }
            seal = seal.min(start.elapsed());

            received.clear();
            plaintext.clear();
            received.extend_from_slice(&take(&mut out));
            let start = Instant::now();
            receiver.open(black_box(&mut received), &mut plaintext).expect("intact records");
            open = open.min(start.elapsed());
        }
        report(payload, batch, seal, open);
    }
}

/// The best of all rounds: what the code costs if nothing else runs.
fn report(payload: usize, batch: u32, seal: Duration, open: Duration) {
    let [seal, open] = [seal, open].map(|time| time.as_secs_f64() * 1e9 / f64::from(batch));
    let [seal_rate, open_rate] = [seal, open].map(|time| payload as f64 / time);
    println!(
        "  {payload:>6} octets: seal {seal:>7.0} ns ({seal_rate:>5.2} GB/s), open {open:>7.0} ns ({open_rate:>5.2} GB/s)"
    );
}

fn link(suite: Suite) -> (Tls13Records, Tls13Records) {
    let now = SystemTime::now();
    let (key, valid_for) = (KeyKind::EcdsaP256, SKUPPER_LIFE);
    let ca = AuthorityRequest { common_name: "ca".into(), key, now, valid_for };
    let ca = Authority::create(&ca).expect("a CA");
    let (common_name, hosts, usage) = ("router".into(), vec!["router".into()], Usage::Both);
    let leaf = LeafRequest { common_name, hosts, usage, key, now, valid_for };
    let credentials = ca.issue(&leaf).expect("a certificate");
    let policy = Policy { suites: vec![suite], ..Policy::default() };
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
