//! What arrives below AMQP: certificates, handshakes and records.

use std::cell::Cell;
use std::mem::{self, Discriminant};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use bytes::Buf;
use van_tls::{
    Authority, AuthorityRequest, Certificate, Credentials, Established, Handshake, HandshakeError, HostCheck,
    InspectError, KeyKind, LeafRequest, LinkAcceptor, LinkConnector, OpenError, OutBuf, Policy, RecordLayer, Trust,
    Usage, Validity,
};

use crate::pieces::pieces;

const HOST: &str = "west";

/// Octets of a record's header.
const HEADER_BYTES: usize = 5;

/// The two kinds of records that a handshake begins with (RFC 8446 §5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

// === certificates ===

/// A certificate, in PEM if it begins like that, else in DER.
pub(crate) fn certificate(octets: &[u8]) -> bool {
    if octets.starts_with(b"-----") { pem(&String::from_utf8_lossy(octets)) } else { der(octets) }
}

/// The outer header is the armour.
fn pem(text: &str) -> bool {
    if let Ok(trust) = Trust::from_pem(text) {
        assert!(!trust.certificates().is_empty());
        trust.certificates().iter().for_each(check_times);
    }
    let certificate = Certificate::from_pem(text);
    certificate.iter().for_each(check_times);
    !matches!(certificate, Err(InspectError::NotPem(_)))
}

/// The outer header is that of the sequence that a certificate is.
fn der(octets: &[u8]) -> bool {
    Certificate::from_der(octets).iter().for_each(check_times);
    match octets {
        [0x30, 0x82, high, low, body @ ..] => body.len() >= u16::from_be_bytes([*high, *low]).into(),
        [0x30, 0x81, length, body @ ..] => body.len() >= (*length).into(),
        [0x30, length, body @ ..] if *length < 0x80 => body.len() >= (*length).into(),
        _ => false,
    }
}

fn check_times(certificate: &Certificate) {
    let Certificate { not_before, not_after, .. } = *certificate;
    let renew_at = certificate.renew_at();
    if not_before <= not_after {
        assert!((not_before..=not_after).contains(&renew_at));
        assert_eq!(certificate.validity(not_before), Validity::Current);
        assert_eq!(certificate.validity(not_after), Validity::Current);
    }
    assert_eq!(certificate.remaining(not_after), Duration::ZERO);
}

// === handshakes ===

/// The first thing that either end hears: it means the same however it is cut. The outer header is that of a record.
pub(crate) fn handshake(octets: &[u8]) -> bool {
    let starts: [fn() -> Handshake; 2] = [accept, connect];
    for start in starts {
        assert_eq!(outcome(start(), [octets]), outcome(start(), pieces(octets)));
    }
    match octets.split_first_chunk() {
        Some(([ALERT | HANDSHAKE, _, _, high, low], rest)) => rest.len() >= u16::from_be_bytes([*high, *low]).into(),
        _ => false,
    }
}

/// How a handshake goes: the kind of its error, or `None` if it waits for more.
fn outcome<'a>(
    mut handshake: Handshake,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Option<Discriminant<HandshakeError>> {
    for piece in pieces {
        match handshake.handle_received(piece) {
            Ok(None) => {}
            Ok(Some(_)) => panic!("nobody has proved anything"),
            Err(error) => return Some(mem::discriminant(&error)),
        }
    }
    None
}

fn connect() -> Handshake {
    ends().0.connect(HOST, now()).expect("a name")
}

fn accept() -> Handshake {
    ends().1.accept(now()).expect("what we make is good")
}

/// Both ends of links, with credentials of the same CA.
fn ends() -> &'static (LinkConnector, LinkAcceptor) {
    static ENDS: OnceLock<(LinkConnector, LinkAcceptor)> = OnceLock::new();
    ENDS.get_or_init(|| {
        let (credentials, policy) = (credentials(), Policy::default());
        let connector = LinkConnector::new(&credentials, HostCheck::Verify, &policy);
        let acceptor = LinkAcceptor::new(&credentials, &policy);
        (connector.expect("what we make is good"), acceptor.expect("what we make is good"))
    })
}

fn credentials() -> Credentials {
    let (key, now, valid_for) = (KeyKind::EcdsaP256, now(), Duration::from_secs(86_400));
    let ca = Authority::create(&AuthorityRequest { common_name: "CA".into(), key, now, valid_for });
    let (common_name, hosts) = (HOST.to_owned(), vec![HOST.to_owned()]);
    let leaf = LeafRequest { common_name, hosts, usage: Usage::Both, key, now, valid_for };
    ca.expect("a request of ours").issue(&leaf).expect("a request of ours")
}

/// A moment; it stands still.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

// === records ===

thread_local! {
    /// An established link, as a handshake takes far longer than a few records do. Taken out while it is used.
    static LINK: Cell<Option<(Established, Established)>> = const { Cell::new(None) };
}

/// What was sealed comes out, however it is cut; what was not sealed never does. The outer header is that of a record.
pub(crate) fn records(octets: &[u8]) -> bool {
    let (mut near, mut far) = LINK.take().unwrap_or_else(link);
    let parts: Vec<_> = pieces(octets).collect();
    if octets.first().is_some_and(|octet| octet % 2 == 1) {
        near.records.refresh_keys(&mut near.output).expect("still open");
    }
    near.records.seal(&parts, &mut near.output).expect("still open");
    assert_eq!(open(&mut far, &sent(&mut near.output)), octets);

    let mut forged = octets.to_vec();
    let mut plaintext = Vec::new();
    let opened = far.records.open(&mut forged, &mut plaintext);
    assert!(plaintext.is_empty(), "opened what nobody has sealed");
    match opened {
        Ok(opened) => {
            assert!(opened.consumed == 0 && opened.missing > 0 && !opened.is_closed);
            LINK.set(Some((near, far)));
            octets.len() >= HEADER_BYTES
        }
        // That link is lost.
        Err(error) => {
            far.records.close(&mut far.output);
            matches!(error, OpenError::BadRecord)
        }
    }
}

/// Opens records that come in pieces.
fn open(end: &mut Established, records: &[u8]) -> Vec<u8> {
    let (mut received, mut plaintext) = (Vec::new(), Vec::new());
    for piece in pieces(records) {
        received.extend_from_slice(piece);
        let mut ranges = Vec::new();
        let opened = end.records.open(&mut received, &mut ranges).expect("sealed by the other end");
        ranges.into_iter().for_each(|range| plaintext.extend_from_slice(&received[range]));
        received.drain(..opened.consumed);
    }
    assert!(received.is_empty(), "whole records are opened");
    plaintext
}

/// Both ends of an established link, connector first.
fn link() -> (Established, Established) {
    let (mut near, mut far) = (connect(), accept());
    let far_waits = far.handle_received(&sent(near.output())).expect("a hello");
    assert!(far_waits.is_none(), "the connector is ready first");
    let near = near.handle_received(&sent(far.output())).expect("an answer");
    let mut near = near.expect("the connector is ready first");
    let far = far.handle_received(&sent(&mut near.output)).expect("the end of the handshake");
    (near, far.expect("both are ready"))
}

fn sent(out: &mut OutBuf) -> Vec<u8> {
    out.copy_to_bytes(out.remaining()).into()
}
