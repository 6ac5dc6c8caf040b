//! Octets of a peer that means harm: errors, never panics, and never more memory than was received and is allowed.

use proptest::prelude::*;

use super::*;

fn handshakes() -> [Handshake; 2] {
    let west = west();
    [connector(&west).connect("west", now()).unwrap(), acceptor(&west).accept(now()).unwrap()]
}

/// What each end of a handshake says, flight by flight, to the one named first.
fn flights() -> [(Handshake, Vec<u8>); 3] {
    let [mut near, mut far] = handshakes();
    let hello = drain(near.output());
    let [_, fresh] = handshakes();
    far.handle_received(&hello).unwrap();
    let answer = drain(far.output());
    let mut finished = near.handle_received(&answer).unwrap().unwrap();

    let [mut waiting, mut answering] = handshakes();
    answering.handle_received(&drain(waiting.output())).unwrap();
    let answer_to_waiting = drain(answering.output());
    drain(waiting.output());
    [(fresh, hello), (waiting, answer_to_waiting), (far, drain(&mut finished.output))]
}

/// Lies about some octets.
fn mutate(octets: &mut [u8], lies: &[(prop::sample::Index, u8)]) {
    for (at, lie) in lies {
        *at.get_mut(octets) ^= lie;
    }
}

proptest! {
    #[test]
    fn handshake_survives_random_octets(octets in prop::collection::vec(any::<u8>(), 0..2000), typ in 20..24_u8) {
        for mut handshake in handshakes() {
            // It looks like TLS at first, so that more than the first octet is read.
            let octets = [&[typ, 3, 3], &octets[..]].concat();
            let _ = handshake.handle_received(&octets);
        }
    }

    #[test]
    fn handshake_survives_mutated_flights(
        lies in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
        piece in 1..3000_usize,
    ) {
        for (mut handshake, mut flight) in flights() {
            mutate(&mut flight, &lies);
            for piece in flight.chunks(piece) {
                if handshake.handle_received(piece).is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn mutated_records_do_not_open(
        lens in prop::collection::vec(1..3000_usize, 1..5),
        lie in (any::<prop::sample::Index>(), 1..=255_u8),
    ) {
        let (mut near, mut far) = link();
        for len in &lens {
            near.records.seal(&[&vec![7; *len]], &mut near.output).unwrap();
        }
        let mut received = drain(&mut near.output);
        let whole = received.len();
        mutate(&mut received, &[lie]);
        // The version in a header is for show and not protected; all else is (RFC 8446 §5.1).
        match open_all(&mut far.records, &mut received) {
            Err(_) => {}
            Ok((plaintext, opened)) if opened.consumed == whole => prop_assert_eq!(plaintext.len(), lens.iter().sum::<usize>()),
            Ok((_, opened)) => prop_assert!(opened.missing <= MAX_RECORD_PAYLOAD + 256),
        }
    }

    #[test]
    fn random_octets_do_not_open(octets in prop::collection::vec(any::<u8>(), 5..2000)) {
        let (_, mut far) = link();
        let mut received = [&[23, 3, 3], &octets[..]].concat();
        if let Ok((plaintext, opened)) = open_all(&mut far.records, &mut received) {
            prop_assert_eq!((plaintext.len(), opened.consumed), (0, 0));
        }
    }
}

#[test]
fn endless_handshake_message_is_not_kept() {
    let [_, mut far] = handshakes();
    // A ClientHello that claims 16 MiB, in records of 16 KiB.
    let first = [&[22, 3, 1, 0x40, 0x00, 1, 0xff, 0xff, 0xff][..], &[0; 16_380]].concat();
    far.handle_received(&first).unwrap_err();
}

#[test]
fn handshake_message_in_crumbs_is_not_kept() {
    let [_, mut far] = handshakes();
    // A ClientHello of 65,535 octets, one octet a record.
    let octets = [1, 0, 0xff, 0xff].into_iter().chain(std::iter::repeat_n(0, 0xffff));
    let mut records = octets.map(|octet| [22, 3, 1, 0, 1, octet]);
    let refused_after = records.position(|record| far.handle_received(&record).is_err());
    assert_eq!(refused_after, Some(128 * 1024 / 6));
}

#[test]
fn oversized_record_is_refused_by_its_header() {
    let [mut near, mut far] = handshakes();
    far.handle_received(&[22, 3, 1, 0x48, 0x00]).unwrap_err();
    near.handle_received(&[22, 3, 3, 0xff, 0xff]).unwrap_err();

    let (mut near, _) = link();
    let error = open_all(&mut near.records, &mut vec![23, 3, 3, 0x41, 0x01]).unwrap_err();
    assert_eq!(error.to_string(), "a record claims 16641 octets");
}

#[test]
fn records_in_the_clear_are_refused() {
    for typ in [20, 21, 22, 24, 0, 255] {
        let (mut near, _) = link();
        let error = open_all(&mut near.records, &mut vec![typ, 3, 3, 0, 1, 1]).unwrap_err();
        assert!(matches!(error, OpenError::Misbehaved(_)), "{error}");
    }
}
