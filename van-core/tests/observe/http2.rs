//! HTTP/2, its headers packed by an implementation that is not ours.

use std::collections::BTreeMap;

use httlib_hpack::Encoder;
use proptest::collection::vec;
use proptest::prelude::*;
use van_core::observe::{End, Exchange, Observer, Protocol};

use super::{Said, cut, observe, one_by_one, server, timeless};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn data(stream: u32, octets: usize, flags: u8) -> Vec<u8> {
    frame(0, flags, stream, &vec![b'x'; octets])
}

/// Packs headers: with an index, in the Huffman code, or neither.
fn pack(encoder: &mut Encoder<'_>, how: u8, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        encoder.encode((name.as_bytes().to_vec(), value.as_bytes().to_vec(), how), &mut block).expect("it packs");
    }
    block
}

fn brief(exchange: &Exchange) -> (u32, String, Option<u16>, u64, u64) {
    let stream = exchange.stream.expect("a stream");
    (stream, exchange.method.to_string(), exchange.status, exchange.octets, exchange.octets_reverse)
}

fn check(said: Said, expected: &[(u32, &str, u16, u64, u64)]) -> Observer {
    let (seen, observer) = observe(Protocol::Auto, &said);
    let expected: Vec<_> = expected
        .iter()
        .map(|(stream, method, status, a, b)| (*stream, (*method).into(), Some(*status), *a, *b))
        .collect();
    assert_eq!(seen.iter().map(brief).collect::<Vec<_>>(), expected);
    let (again, _) = observe(Protocol::Auto, &one_by_one(&said));
    assert_eq!(timeless(again), timeless(seen), "octet by octet");
    observer
}

fn said(client: &[Vec<u8>], server: &[Vec<u8>]) -> Said {
    vec![(End::Client, [&[PREFACE.to_vec()], client].concat().concat()), (End::Server, server.concat())]
}

#[test]
fn streams_are_exchanges_of_their_own() {
    let (mut ours, mut theirs) = (Encoder::default(), Encoder::default());
    let get = pack(&mut ours, 4, &[(":method", "GET"), (":path", "/"), ("x-forwarded-for", "9.8.7.6, 1.1.1.1")]);
    let put = pack(&mut ours, 4, &[(":method", "PUT"), (":path", "/")]);
    let ok = pack(&mut theirs, 4, &[(":status", "200"), ("server", "some")]);
    let brewing = pack(&mut theirs, 4, &[(":status", "418"), ("server", "some")]);
    let asked = [
        frame(1, END_HEADERS | END_STREAM, 1, &get),
        frame(1, END_HEADERS, 3, &put),
        data(3, 7, 0),
        data(3, 0, END_STREAM),
    ];
    let answered = [
        frame(1, END_HEADERS | END_STREAM, 3, &brewing),
        frame(1, END_HEADERS, 1, &ok),
        data(1, 100, 0),
        data(1, 3, END_STREAM),
    ];
    let said = said(&asked, &answered);
    check(said.clone(), &[(3, "PUT", 418, 7, 0), (1, "GET", 200, 0, 103)]);
    let (seen, _) = observe(Protocol::Http2, &said);
    assert_eq!((seen[1].version, seen[1].forwarded_for.as_deref()), ("HTTP/2", Some("9.8.7.6")));
}

#[test]
fn padding_priority_and_continuations_are_no_headers() {
    let mut encoder = Encoder::default();
    let block = pack(&mut encoder, 3, &[(":method", "BREW"), (":path", "/a/rather/long/path"), ("cookie", "a=b")]);
    let (front, back) = block.split_at(block.len() / 2);
    let padded = [&[3][..], &[0; 5], front, &[0; 3]].concat();
    let asked = [
        frame(1, PADDED | PRIORITY | END_STREAM, 1, &padded),
        frame(9, 0, 1, &back[..2]),
        frame(9, END_HEADERS, 1, &back[2..]),
    ];
    let body = [&[5][..], b"abc", &[0; 5]].concat();
    let ok = pack(&mut Encoder::default(), 0, &[(":status", "200")]);
    let answered = [frame(1, END_HEADERS, 1, &ok), frame(0, PADDED | END_STREAM, 1, &body)];
    check(said(&asked, &answered), &[(1, "BREW", 200, 0, 3)]);
}

#[test]
fn trailers_hints_and_pushes_are_no_answers() {
    let mut encoder = Encoder::default();
    let get = pack(&mut Encoder::default(), 4, &[(":method", "GET")]);
    let hint = pack(&mut encoder, 4, &[(":status", "103")]);
    let ok = pack(&mut encoder, 4, &[(":status", "200")]);
    let promise = [&2_u32.to_be_bytes()[..], &pack(&mut encoder, 4, &[(":method", "GET"), ("x", "y")])].concat();
    let pushed = pack(&mut encoder, 4, &[(":status", "200"), ("x", "y")]);
    let trailers = pack(&mut encoder, 4, &[("grpc-status", "0")]);
    let answered = [
        frame(1, END_HEADERS, 1, &hint),
        frame(5, END_HEADERS, 1, &promise),
        frame(1, END_HEADERS, 1, &ok),
        data(1, 4, 0),
        frame(1, END_HEADERS | END_STREAM, 2, &pushed),
        frame(1, END_HEADERS | END_STREAM, 1, &trailers),
    ];
    check(said(&[frame(1, END_HEADERS | END_STREAM, 1, &get)], &answered), &[(1, "GET", 200, 0, 4)]);
}

#[test]
fn a_stream_that_is_reset_is_over_and_what_is_late_is_passed_over() {
    let mut encoder = Encoder::default();
    let get = pack(&mut Encoder::default(), 4, &[(":method", "GET")]);
    let ok = pack(&mut encoder, 4, &[(":status", "200")]);
    let asked = [frame(1, END_HEADERS, 1, &get), frame(3, 0, 1, &[0; 4]), data(1, 5, END_STREAM)];
    let (seen, observer) = observe(Protocol::Auto, &said(&asked, &[frame(1, END_HEADERS | END_STREAM, 1, &ok)]));
    assert_eq!(seen.iter().map(brief).collect::<Vec<_>>(), [(1, "GET".into(), None, 0, 0)]);
    assert!(!observer.is_lost());
}

#[test]
fn a_table_shrinks_when_its_sender_says_so() {
    let mut encoder = Encoder::default();
    let mut first = pack(&mut encoder, 4, &[(":method", "PATCH"), ("a", "b")]);
    encoder.update_max_dynamic_size(40, &mut first).expect("it packs");
    let mut second = Vec::new();
    encoder.update_max_dynamic_size(0, &mut second).expect("it packs");
    second.extend(pack(&mut encoder, 0, &[(":method", "PUT")]));
    let end = END_HEADERS | END_STREAM;
    let (_, mut observer) = observe(Protocol::Auto, &said(&[frame(1, end, 1, &first), frame(1, end, 3, &second)], &[]));
    let methods: Vec<_> = observer.running_mut().map(|exchange| exchange.method.to_string()).collect();
    assert_eq!(methods, ["PATCH", "PUT"]);
}

#[test]
fn what_is_not_http2_is_given_up() {
    let gives_up = |client: &[Vec<u8>]| observe(Protocol::Auto, &said(client, &[])).1.is_lost();
    let get = pack(&mut Encoder::default(), 4, &[(":method", "GET")]);
    assert!(gives_up(&[frame(1, END_HEADERS, 1, &[0xff; 9])]), "an index of nothing");
    assert!(gives_up(&[frame(1, END_HEADERS, 1, &[0x3f, 0xe1, 0xff, 0x03])]), "a table larger than allowed");
    assert!(gives_up(&[frame(1, END_HEADERS, 1, &[0x40, 0x81, 0xff])]), "a text that is cut off");
    assert!(gives_up(&[frame(1, 0, 1, &get), data(1, 1, 0)]), "something within a block");
    assert!(gives_up(&[frame(1, END_HEADERS, 1, &vec![0; 65_537])]), "a block that is too long");
    let many: Vec<_> = (0..1025).map(|number| frame(1, END_HEADERS, 2 * number + 1, &[0x82])).collect();
    assert!(gives_up(&many));
    assert!(!gives_up(&many[..1024]));
    assert!(observe(Protocol::Http2, &vec![(End::Client, b"GET / HTTP/1.1\r\n\r\n".to_vec())]).1.is_lost());
    assert!(!observe(Protocol::Auto, &vec![server("\0\0\u{6}\u{4}"), (End::Client, b"PRI *".to_vec())]).1.is_lost());
}

/// A request and its answer: frames of data in between those of others.
#[derive(Debug, Clone)]
struct Plan {
    method: String,
    path: String,
    status: u16,
    how: u8,
    asked: Vec<usize>,
    answer: Vec<usize>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let data = || vec(0..500_usize, 0..4);
    ("GET|POST|BREW", "/[ -~]{0,60}", 200..600_u16, 0..8_u8, data(), data())
        .prop_map(|(method, path, status, how, asked, answer)| Plan { method, path, status, how, asked, answer })
}

fn frames(encoder: &mut Encoder<'_>, stream: u32, how: u8, headers: &[(&str, &str)], body: &[usize]) -> Vec<Vec<u8>> {
    let block = pack(encoder, how, headers);
    let end = |is_last| if is_last { END_STREAM } else { 0 };
    let mut frames = vec![frame(1, END_HEADERS | end(body.is_empty()), stream, &block)];
    frames.extend(body.iter().enumerate().map(|(place, octets)| data(stream, *octets, end(place + 1 == body.len()))));
    frames
}

proptest! {
    #[test]
    fn counts_are_those_of_the_model_however_octets_are_cut(
        plans in vec(plan(), 1..8),
        order in vec(any::<prop::sample::Index>(), 1..30),
        cuts in vec(any::<prop::sample::Index>(), 1..8),
    ) {
        let (mut ours, mut theirs) = (Encoder::default(), Encoder::default());
        let mut client = PREFACE.to_vec();
        let mut answers = BTreeMap::new();
        let mut expected = BTreeMap::new();
        for (number, plan) in plans.iter().enumerate() {
            let stream = 2 * number as u32 + 1;
            let headers = [(":method", plan.method.as_str()), (":path", &plan.path), ("user-agent", "some/1.0")];
            client.extend(frames(&mut ours, stream, plan.how, &headers, &plan.asked).concat());
            let (asked, answer) = (plan.asked.iter().sum::<usize>(), plan.answer.iter().sum::<usize>());
            expected.insert(stream, (stream, plan.method.clone(), Some(plan.status), asked as u64, answer as u64));
        }
        for (number, plan) in plans.iter().enumerate() {
            let (stream, status) = (2 * number as u32 + 1, plan.status.to_string());
            let headers = [(":status", status.as_str()), ("date", &plan.path), ("server", "some/1.0")];
            // All heads first, for the packing has an order; their data in any.
            let mut frames = frames(&mut theirs, stream, plan.how, &headers, &plan.answer);
            frames.reverse();
            answers.insert(stream, frames);
        }
        let mut server: Vec<u8> = answers.values_mut().flat_map(|frames| frames.pop().expect("a head")).collect();
        let mut turn = 0;
        while answers.values().any(|frames| !frames.is_empty()) {
            let waiting: Vec<_> = answers.iter().filter(|(_, frames)| !frames.is_empty()).map(|(stream, _)| *stream).collect();
            let stream = *order[turn % order.len()].get(&waiting);
            server.extend(answers.get_mut(&stream).and_then(Vec::pop).expect("it waits"));
            turn += 1;
        }
        let said = vec![(End::Client, client), (End::Server, server)];
        let (seen, observer) = observe(Protocol::Auto, &cut(&said, &cuts));
        prop_assert!(!observer.is_lost());
        let seen: BTreeMap<_, _> = seen.iter().map(brief).map(|it| (it.0, it)).collect();
        prop_assert_eq!(seen, expected);
    }
}
