//! What the record layer costs, on one core: `cargo bench -p van-tls`.

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use bytes::Buf;
use van_tls::{
    Authority, AuthorityRequest, Established, Handshake, HostCheck, KeyKind, LeafRequest, LinkAcceptor, LinkConnector,
    OutBuf, Plain, Policy, RecordLayer, SKUPPER_LIFE, Suite, Usage,
};

fn main() {
    for suite in [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
        let (mut connector, mut acceptor) = link(suite);
        measure(suite.name(), &mut connector, &mut acceptor);
    }
    measure("no TLS", &mut Plain::new(), &mut Plain::new());
}

fn measure(name: &str, sender: &mut dyn RecordLayer, receiver: &mut dyn RecordLayer) {
    println!("{name}");
    // A frame header before each part, as on a link.
    let header = [0xAA; 32];
    for (size, rounds) in [(65_536, 40_000), (16_352, 80_000), (100, 400_000)] {
        let payload = vec![0x5A; size];
        let (mut seal, mut open) = (Duration::ZERO, Duration::ZERO);
        let mut out = OutBuf::new();
        let mut received = Vec::with_capacity(2 * size);
        let mut plaintext = Vec::new();
        for _ in 0..rounds {
            let start = Instant::now();
            sender.seal(&[&header, black_box(&payload)], &mut out).expect("an open connection");
            seal += start.elapsed();

            received.clear();
            while out.has_remaining() {
                let chunk = out.chunk();
                received.extend_from_slice(chunk);
                out.advance(chunk.len());
            }
            plaintext.clear();
            let start = Instant::now();
            receiver.open(black_box(&mut received), &mut plaintext).expect("intact records");
            open += start.elapsed();
        }
        report(size + header.len(), rounds, seal, open);
    }
}

fn report(octets: usize, rounds: u32, seal: Duration, open: Duration) {
    let [seal, open] = [seal, open].map(|time| time.as_secs_f64() * 1e9 / f64::from(rounds));
    let octets = octets as f64;
    println!(
        "  {octets:>6} octets: seal {seal:>7.0} ns ({:>5.2} GB/s), open {open:>7.0} ns ({:>5.2} GB/s)",
        octets / seal,
        octets / open,
    );
}

fn link(suite: Suite) -> (impl RecordLayer, impl RecordLayer) {
    let now = SystemTime::now();
    let (key, valid_for) = (KeyKind::EcdsaP256, SKUPPER_LIFE);
    let request = AuthorityRequest { common_name: "ca".into(), key, now, valid_for };
    let ca = Authority::create(&request).expect("a CA");
    let (common_name, hosts, usage) = ("router".into(), vec!["router".into()], Usage::Both);
    let leaf = LeafRequest { common_name, hosts, usage, key, now, valid_for };
    let credentials = ca.issue(&leaf).expect("a certificate");
    let policy = Policy { suites: vec![suite], ..Policy::default() };
    let connector = LinkConnector::new(&credentials, HostCheck::Verify, &policy).expect("a policy");
    let acceptor = LinkAcceptor::new(&credentials, &policy).expect("a policy");
    let mut connector = connector.connect("router", now).expect("a host");
    let mut acceptor = acceptor.accept(now).expect("an acceptor");
    feed(&mut connector, &mut acceptor);
    let mut near = feed(&mut acceptor, &mut connector).expect("the connector ends first");
    let octets = take(&mut near.output);
    let far = acceptor.handle_received(&octets).expect("a good flight").expect("all of it");
    (near.records, far.records)
}

fn feed(from: &mut Handshake, to: &mut Handshake) -> Option<Established> {
    to.handle_received(&take(from.output())).expect("a good flight")
}

fn take(out: &mut OutBuf) -> Vec<u8> {
    let len = out.remaining();
    out.copy_to_bytes(len).to_vec()
}
