//! Tests of the crate as its users see it, and what they share: certificates, and both ends of a link in memory.

mod authority;
mod directory;
mod handshake;
mod hostile;
#[cfg(feature = "https")]
mod https;
mod openssl;
mod records;
mod secrets;
#[cfg(feature = "https")]
mod service;

use std::io::IoSlice;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use bytes::Buf;

use crate::*;

/// The present of these tests.
pub(crate) fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) fn new_ca(common_name: &str, key: KeyKind) -> Authority {
    let common_name = common_name.to_owned();
    Authority::create(&AuthorityRequest { common_name, key, now: now(), valid_for: 30 * DAY }).unwrap()
}

/// The CA of all routers that trust each other.
pub(crate) fn ca() -> &'static Authority {
    static CA: OnceLock<Authority> = OnceLock::new();
    CA.get_or_init(|| new_ca("skupper-site-ca", KeyKind::EcdsaP256))
}

pub(crate) fn leaf(common_name: &str, hosts: &[&str]) -> LeafRequest {
    LeafRequest {
        common_name: common_name.to_owned(),
        hosts: hosts.iter().map(ToString::to_string).collect(),
        usage: Usage::Both,
        key: KeyKind::EcdsaP256,
        now: now(),
        valid_for: 3 * DAY,
    }
}

/// Credentials of a router `west`, good for both roles.
pub(crate) fn west() -> Credentials {
    ca().issue(&leaf("west", &["west", "127.0.0.1"])).unwrap()
}

pub(crate) fn connector(credentials: &Credentials) -> LinkConnector {
    LinkConnector::new(credentials, HostCheck::Verify, &Policy::default()).unwrap()
}

pub(crate) fn acceptor(credentials: &Credentials) -> LinkAcceptor {
    LinkAcceptor::new(credentials, &Policy::default()).unwrap()
}

/// Takes all that is to be written.
pub(crate) fn drain(out: &mut OutBuf) -> Vec<u8> {
    let len = out.remaining();
    out.copy_to_bytes(len).into()
}

/// What became of one end.
pub(crate) type Outcome = Result<Established, HandshakeError>;

/// Lets two ends talk until both have an outcome. The first is the connector.
pub(crate) fn shake(mut near: Handshake, mut far: Handshake) -> (Outcome, Outcome) {
    let (mut near_outcome, mut far_outcome) = (None, None);
    while near_outcome.is_none() || far_outcome.is_none() {
        talk(&mut near, &mut near_outcome, &mut far, &mut far_outcome);
        talk(&mut far, &mut far_outcome, &mut near, &mut near_outcome);
    }
    (near_outcome.unwrap(), far_outcome.unwrap())
}

fn talk(from: &mut Handshake, said: &mut Option<Outcome>, to: &mut Handshake, heard: &mut Option<Outcome>) {
    let mut octets = drain(from.output());
    if let Some(Ok(established)) = said {
        octets.extend(drain(&mut established.output));
    }
    match heard {
        Some(Ok(established)) => established.received.extend(octets),
        Some(Err(_)) => {}
        None if octets.is_empty() && matches!(said, Some(Err(_))) => *heard = Some(Err(to.handle_eof())),
        None => *heard = to.handle_received(&octets).transpose(),
    }
}

/// Both ends of an established link, connector first.
pub(crate) fn link() -> (Established, Established) {
    let west = west();
    let near = connector(&west).connect("west", now()).unwrap();
    let (near, far) = shake(near, acceptor(&west).accept(now()).unwrap());
    (near.unwrap(), far.unwrap())
}

/// The lengths of the records that wait to be written.
pub(crate) fn record_lens(out: &OutBuf) -> Vec<usize> {
    let mut slices = [IoSlice::new(&[]); 64];
    let filled = out.chunks_vectored(&mut slices);
    slices[..filled].iter().map(|slice| slice.len()).collect()
}

/// Opens all that is in `received`, and gives the plaintext.
pub(crate) fn open_all(records: &mut dyn RecordLayer, received: &mut Vec<u8>) -> Result<(Vec<u8>, Opened), OpenError> {
    let mut ranges = Vec::new();
    let opened = records.open(received, &mut ranges)?;
    let plaintext = ranges.into_iter().flat_map(|range| received[range].to_vec()).collect();
    received.drain(..opened.consumed);
    Ok((plaintext, opened))
}
