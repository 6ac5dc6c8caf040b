//! Requests and answers seen in octets: by hand, against simple models, and cut anywhere.

#[path = "observe/http1.rs"]
mod http1;
#[path = "observe/http2.rs"]
mod http2;

use proptest::prelude::*;
use van_core::observe::{End, Exchange, Observer, Protocol};

/// What was said, in order.
type Said = Vec<(End, Vec<u8>)>;

/// What is seen in a conversation; octets come at the time of their place in it. The observer, too.
fn observe(protocol: Protocol, said: &Said) -> (Vec<Exchange>, Observer) {
    let mut observer = Observer::new(protocol);
    for (place, (from, octets)) in said.iter().enumerate() {
        observer.observe(place as u64, *from, octets);
    }
    let seen = std::iter::from_fn(|| observer.poll_exchange()).collect();
    (seen, observer)
}

/// What is seen, without times: those depend on how octets were cut.
fn timeless(seen: Vec<Exchange>) -> Vec<Exchange> {
    let timeless = |seen| Exchange { started: 0, answered: None, ended: None, ..seen };
    seen.into_iter().map(timeless).collect()
}

/// The same conversation in other pieces.
fn cut(said: &Said, cuts: &[prop::sample::Index]) -> Said {
    let pieces = said.iter().zip(cuts.iter().cycle()).flat_map(|((from, octets), cut)| {
        let (front, back) = octets.split_at(cut.index(octets.len() + 1));
        let middle = back.len() / 2;
        [front, &back[..middle], &back[middle..]].map(|piece| (*from, piece.to_vec()))
    });
    pieces.collect()
}

fn one_by_one(said: &Said) -> Said {
    said.iter().flat_map(|(from, octets)| octets.iter().map(|octet| (*from, vec![*octet]))).collect()
}

fn client(text: &str) -> (End, Vec<u8>) {
    (End::Client, text.as_bytes().to_vec())
}

fn server(text: &str) -> (End, Vec<u8>) {
    (End::Server, text.as_bytes().to_vec())
}
