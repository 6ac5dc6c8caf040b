//! Observers of HTTP: they see the same however octets are cut, and remember no more than they may.

use van_core::observe::{End, Exchange, Observer, Protocol};

use crate::pieces::pieces;

/// A conversation in HTTP/1; its outer header is the first head.
pub(crate) fn http1(octets: &[u8]) -> bool {
    check(Protocol::Http1, octets)
}

/// A conversation in HTTP/2; its outer header is the first block of headers.
pub(crate) fn http2(octets: &[u8]) -> bool {
    check(Protocol::Http2, octets)
}

fn check(protocol: Protocol, octets: &[u8]) -> bool {
    let (whole, has_seen) = observe(protocol, octets, |said| vec![said]);
    let (cut, _) = observe(protocol, octets, |said| pieces(said).collect());
    assert_eq!(whole, cut, "something else is seen in pieces");
    let (auto, _) = observe(Protocol::Auto, octets, |said| pieces(said).collect());
    assert!(auto.len() <= octets.len());
    has_seen
}

/// What is seen, and whether anything was. An input is parts: who says it, the length in two octets, and the octets.
fn observe<'a>(
    protocol: Protocol,
    mut octets: &'a [u8],
    cut: impl Fn(&'a [u8]) -> Vec<&'a [u8]>,
) -> (Vec<Exchange>, bool) {
    let mut observer = Observer::new(protocol);
    let mut seen = Vec::new();
    let mut has_seen = false;
    while let [from, high, low, rest @ ..] = octets {
        let from = if from & 1 == 0 { End::Client } else { End::Server };
        let (said, rest) = rest.split_at(rest.len().min(u16::from_be_bytes([*high, *low]).into()));
        cut(said).into_iter().for_each(|piece| observer.observe(0, from, piece));
        seen.extend(std::iter::from_fn(|| observer.poll_exchange()));
        has_seen |= !seen.is_empty() || observer.running_mut().next().is_some();
        octets = rest;
    }
    observer.end(0);
    seen.extend(std::iter::from_fn(|| observer.poll_exchange()));
    (seen, has_seen)
}
