//! The record layer against rustls' own, which is the judge of both directions.

use std::io::{Read, Write};
use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConnection, Connection, HandshakeKind, ServerConnection};

use super::handshake::{rustls_client, rustls_server};
use super::*;

/// Our end of a link.
struct Ours {
    records: Tls13Records,
    received: Vec<u8>,
    out: OutBuf,
    opened: Vec<u8>,
    last: Option<Opened>,
}

impl Ours {
    fn handle_received(&mut self, octets: &[u8]) -> Result<(), OpenError> {
        self.received.extend(octets);
        let (plaintext, opened) = open_all(&mut self.records, &mut self.received)?;
        self.opened.extend(plaintext);
        self.last = Some(opened);
        Ok(())
    }
}

/// The end that rustls runs.
struct Theirs {
    tls: Connection,
    opened: Vec<u8>,
}

impl Theirs {
    fn write(&mut self, plaintext: &[u8]) {
        self.tls.writer().write_all(plaintext).unwrap();
    }

    fn drain(&mut self) -> Vec<u8> {
        let mut octets = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut octets).unwrap();
        }
        octets
    }

    fn handle_received(&mut self, mut octets: &[u8]) -> Result<(), rustls::Error> {
        while !octets.is_empty() {
            self.tls.read_tls(&mut octets).unwrap();
            self.tls.process_new_packets()?;
            // `WouldBlock` is the end of what there is now.
            let _ = self.tls.reader().read_to_end(&mut self.opened);
        }
        Ok(())
    }
}

/// A link of ours with rustls at the other end, in the state right after our end of the handshake.
fn mixed_link(we_connect: bool) -> (Ours, Theirs) {
    let west = west();
    let (handshake, tls) = if we_connect {
        let server = ServerConnection::new(Arc::new(rustls_server(&TLS13))).unwrap();
        (connector(&west).connect("west", now()).unwrap(), Connection::from(server))
    } else {
        let name = ServerName::try_from("west").unwrap();
        let client = ClientConnection::new(Arc::new(rustls_client(Some(&west.identity), &TLS13)), name).unwrap();
        (acceptor(&west).accept(now()).unwrap(), Connection::from(client))
    };
    join(handshake, tls)
}

fn join(mut handshake: Handshake, tls: Connection) -> (Ours, Theirs) {
    let mut theirs = Theirs { tls, opened: Vec::new() };
    theirs.tls.set_buffer_limit(None);
    loop {
        let octets = drain(handshake.output());
        theirs.handle_received(&octets).unwrap();
        if let Some(established) = handshake.handle_received(&theirs.drain()).unwrap() {
            let Established { records, received, mut output, .. } = established;
            theirs.handle_received(&drain(&mut output)).unwrap();
            assert!(!theirs.tls.is_handshaking());
            return (Ours { records, received, out: output, opened: Vec::new(), last: None }, theirs);
        }
    }
}

/// The length of a record that announces a new key.
const KEY_UPDATE: usize = 5 + RECORD_OVERHEAD;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[derive(Debug, Clone)]
enum Op {
    WeSeal(Vec<usize>),
    TheySeal(usize),
    WeRefresh,
    TheyRefresh,
    /// Everything on its way to us arrives, in pieces of this size.
    WeReceive(usize),
    TheyReceive(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![0..40_usize, 16_300..16_500_usize, 0..70_000_usize];
    let piece = prop_oneof![1..40_usize, 1000..70_000_usize];
    prop_oneof![
        3 => prop::collection::vec(len.clone(), 0..6).prop_map(Op::WeSeal),
        3 => len.prop_map(Op::TheySeal),
        1 => Just(Op::WeRefresh),
        1 => Just(Op::TheyRefresh),
        3 => piece.clone().prop_map(Op::WeReceive),
        3 => piece.prop_map(Op::TheyReceive),
    ]
}

fn run(we_connect: bool, ops: Vec<Op>) {
    let (mut ours, mut theirs) = mixed_link(we_connect);
    let (mut from_us, mut from_them) = (Vec::new(), Vec::new());
    let mut to_them = Vec::new();
    let last = [Op::WeReceive(usize::MAX), Op::TheyReceive(usize::MAX)];
    for op in ops.into_iter().chain(last) {
        match op {
            Op::WeSeal(lens) => {
                let parts: Vec<Vec<u8>> = lens.into_iter().map(pattern).collect();
                let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                ours.records.seal(&parts, &mut ours.out).unwrap();
                from_us.extend(parts.concat());
            }
            Op::TheySeal(len) => {
                theirs.write(&pattern(len));
                from_them.extend(pattern(len));
            }
            Op::WeRefresh => ours.records.refresh_keys(&mut ours.out).unwrap(),
            Op::TheyRefresh => theirs.tls.refresh_traffic_keys().unwrap(),
            Op::WeReceive(piece) => {
                let octets = theirs.drain();
                octets.chunks(piece).for_each(|piece| ours.handle_received(piece).unwrap());
            }
            Op::TheyReceive(piece) => {
                to_them.extend(drain(&mut ours.out));
                to_them.chunks(piece).for_each(|piece| theirs.handle_received(piece).unwrap());
                to_them.clear();
            }
        }
    }
    assert!(ours.opened == from_them && theirs.opened == from_us, "octets were lost or changed");
    assert_eq!(ours.received.len(), 0);
}

proptest! {
    #[test]
    fn rustls_understands_us_and_we_rustls(we_connect: bool, ops in prop::collection::vec(op(), 0..24)) {
        run(we_connect, ops);
    }
}

#[test]
fn records_are_filled_across_the_borders_of_parts() {
    let (mut ours, mut theirs) = mixed_link(true);
    let part = pattern(10_000);
    ours.records.seal(&[&part, &[], &part, &part, &part[..2_768]], &mut ours.out).unwrap();
    assert_eq!(record_lens(&ours.out), [MAX_RECORD_PAYLOAD + RECORD_OVERHEAD; 2]);
    theirs.handle_received(&drain(&mut ours.out)).unwrap();
    assert_eq!(theirs.opened, [&part[..], &part, &part, &part[..2_768]].concat());
}

#[test]
fn acceptor_lets_nobody_resume() {
    let west = west();
    let (acceptor, client) = (acceptor(&west), Arc::new(rustls_client(Some(&west.identity), &TLS13)));
    for _ in 0..2 {
        let client = ClientConnection::new(Arc::clone(&client), "west".try_into().unwrap()).unwrap();
        let (mut ours, mut theirs) = join(acceptor.accept(now()).unwrap(), client.into());
        ours.records.seal(&[b"data"], &mut ours.out).unwrap();
        theirs.handle_received(&drain(&mut ours.out)).unwrap();
        assert_eq!(theirs.tls.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn nothing_is_sealed_for_nothing() {
    let (mut near, _) = link();
    near.records.seal(&[], &mut near.output).unwrap();
    near.records.seal(&[b"", b""], &mut near.output).unwrap();
    assert_eq!(near.output.remaining(), 0);
}

#[test]
fn contents_of_many_records_are_alive_together() {
    let (mut near, mut far) = link();
    for round in 0..8_u8 {
        near.records.seal(&[&[round; 1000]], &mut near.output).unwrap();
    }
    let (mut received, mut plaintext) = (drain(&mut near.output), Vec::new());
    let opened = far.records.open(&mut received, &mut plaintext).unwrap();
    assert_eq!(opened, Opened { consumed: 8 * (1000 + RECORD_OVERHEAD), missing: 5, is_closed: false });
    let contents: Vec<&[u8]> = plaintext.into_iter().map(|range| &received[range]).collect();
    assert_eq!(contents, (0..8).map(|round| [round; 1000]).collect::<Vec<_>>());
}

#[test]
fn missing_octets_are_counted() {
    let (mut near, mut far) = link();
    near.records.seal(&[&[7; 100]], &mut near.output).unwrap();
    let mut octets = drain(&mut near.output);
    let mut missing = |have: usize| far.records.open(&mut octets[..have], &mut Vec::new()).unwrap().missing;
    assert_eq!([0, 4, 5, 121].map(&mut missing), [5, 1, 117, 1]);
}

#[test]
fn requested_key_update_is_answered_before_the_next_data() {
    let (mut near, mut far) = link();
    near.records.refresh_keys(&mut near.output).unwrap();
    near.records.refresh_keys(&mut near.output).unwrap();
    open_all(&mut far.records, &mut drain(&mut near.output)).unwrap();
    assert_eq!(far.output.remaining(), 0, "an idle end needs not answer");
    far.records.seal(&[b"data"], &mut far.output).unwrap();
    assert_eq!(record_lens(&far.output), [KEY_UPDATE, 4 + RECORD_OVERHEAD], "one answer to both");
    let (plaintext, _) = open_all(&mut near.records, &mut drain(&mut far.output)).unwrap();
    assert_eq!(plaintext, b"data");
}

#[test]
fn endless_key_updates_are_refused() {
    let (mut near, mut far) = link();
    for _ in 0..33 {
        near.records.refresh_keys(&mut near.output).unwrap();
    }
    let error = open_all(&mut far.records, &mut drain(&mut near.output)).unwrap_err();
    assert!(matches!(error, OpenError::Misbehaved("one key update after the other")), "{error}");
}

#[test]
fn farewell_of_either_is_heard_by_the_other() {
    for we_connect in [true, false] {
        let (mut ours, mut theirs) = mixed_link(we_connect);
        ours.records.close(&mut ours.out);
        ours.records.close(&mut ours.out);
        assert_eq!(record_lens(&ours.out), [2 + RECORD_OVERHEAD]);
        theirs.handle_received(&drain(&mut ours.out)).unwrap();
        assert_eq!(theirs.tls.reader().read(&mut [0]).unwrap(), 0, "a clean end");
        assert!(matches!(ours.records.seal(&[b"more"], &mut ours.out), Err(SealError::Closed)));

        // The other direction is still open.
        theirs.write(b"last words");
        theirs.tls.send_close_notify();
        assert!(matches!(ours.records.handle_eof(), Err(OpenError::Truncated)));
        ours.handle_received(&[&theirs.drain()[..], b"ignored"].concat()).unwrap();
        assert_eq!(ours.opened, b"last words");
        assert_eq!(ours.last.map(|opened| (opened.is_closed, opened.missing)), Some((true, 0)));
        assert_eq!(ours.received, b"");
        ours.records.handle_eof().unwrap();
    }
}

#[test]
fn cut_connection_is_no_farewell() {
    let (mut ours, mut theirs) = mixed_link(true);
    theirs.write(b"half");
    let octets = theirs.drain();
    ours.handle_received(&octets[..octets.len() - 1]).unwrap();
    assert_eq!(ours.records.handle_eof().unwrap_err().to_string(), "the connection ended without close_notify");
}

#[test]
fn damage_is_answered_with_an_alert() {
    let (mut ours, mut theirs) = mixed_link(false);
    theirs.write(b"data");
    let mut octets = theirs.drain();
    *octets.last_mut().unwrap() ^= 1;
    assert!(matches!(ours.handle_received(&octets), Err(OpenError::BadRecord)));
    ours.records.close(&mut ours.out);
    let error = theirs.handle_received(&drain(&mut ours.out)).unwrap_err();
    assert_eq!(error, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
}

#[test]
fn established_ends_move_between_threads() {
    let (mut near, mut far) = link();
    near.records.seal(&[b"data"], &mut near.output).unwrap();
    let opened = std::thread::spawn(move || open_all(&mut far.records, &mut drain(&mut near.output)).unwrap().0);
    assert_eq!(opened.join().unwrap(), b"data");
}

#[test]
fn without_tls_octets_pass_as_they_are() {
    let (mut plain, mut out) = (Plain::new(), OutBuf::new());
    plain.seal(&[b"da", b"", b"ta"], &mut out).unwrap();
    let mut received = drain(&mut out);
    let (plaintext, opened) = open_all(&mut plain, &mut received).unwrap();
    assert_eq!(plaintext, b"data");
    assert_eq!(opened, Opened { consumed: 4, missing: 1, is_closed: false });
    plain.handle_eof().unwrap();
    plain.close(&mut out);
    assert!(matches!(plain.seal(&[b"more"], &mut out), Err(SealError::Closed)));
}

proptest! {
    #[test]
    fn out_buffer_gives_what_was_put_in_however_it_is_written(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..10),
        writes in prop::collection::vec(1..30_usize, 0..40),
        slots in 1..5_usize,
    ) {
        let mut out = OutBuf::new();
        records.iter().for_each(|record| out.push(record.clone()));
        let mut written: Vec<u8> = Vec::new();
        for write in writes.into_iter().chain(std::iter::repeat_n(20, 20)) {
            let mut slices = vec![IoSlice::new(&[]); slots];
            let filled = out.chunks_vectored(&mut slices);
            let offered: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
            let write = write.min(offered.len());
            written.extend(&offered[..write]);
            out.advance(write);
        }
        prop_assert_eq!(out.remaining(), 0);
        prop_assert_eq!(written, records.concat());
    }
}
