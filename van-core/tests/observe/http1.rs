//! HTTP/1.

use proptest::collection::vec;
use proptest::prelude::*;
use van_core::observe::{Exchange, Observer, Protocol};

use super::{Said, client, cut, observe, one_by_one, server, timeless};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

/// Method, status, octets of the request's and of the answer's body.
type Seen = (String, Option<u16>, u64, u64);

fn brief(exchange: &Exchange) -> Seen {
    (exchange.method.to_string(), exchange.status, exchange.octets, exchange.octets_reverse)
}

fn check(said: Said, expected: &[(&str, u16, u64, u64)]) -> Observer {
    let (seen, observer) = observe(Protocol::Auto, &said);
    let expected: Vec<Seen> =
        expected.iter().map(|(method, status, a, b)| ((*method).into(), Some(*status), *a, *b)).collect();
    assert_eq!(seen.iter().map(brief).collect::<Vec<_>>(), expected);
    let (again, _) = observe(Protocol::Auto, &one_by_one(&said));
    assert_eq!(timeless(again), timeless(seen), "octet by octet");
    observer
}

#[test]
fn a_request_and_its_answer_are_an_exchange_with_times() {
    let (seen, _) = observe(Protocol::Auto, &vec![client(GET), server(OK), server("")]);
    let [exchange] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((exchange.version, exchange.reason.as_deref(), exchange.stream), ("HTTP/1.1", Some("OK"), None));
    assert_eq!(
        (exchange.started, exchange.answered, exchange.ended, exchange.latency()),
        (0, Some(1), Some(1), Some(1))
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (post, none) = ("POST /up HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc", "HTTP/1.1 204 No Content\r\n\r\n");
    check(
        vec![client(&format!("{GET}{post}{GET}")), server(&format!("{OK}{none}{OK}"))],
        &[("GET", 200, 0, 2), ("POST", 204, 3, 0), ("GET", 200, 0, 2)],
    );
}

#[test]
fn chunks_are_counted_without_what_stands_between_them() {
    let chunked = "transfer-encoding: chunked\r\n\r\n";
    let body = "4;x=y\r\nabcd\r\nA\r\n0123456789\r\n0\r\ntrailer: 1\r\n\r\n";
    check(
        vec![
            client(&format!("PUT / HTTP/1.1\r\n{chunked}{body}")),
            server(&format!("HTTP/1.1 200 OK\r\n{chunked}0\r\n\r\n")),
            client(GET),
            server(&format!("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n{chunked}{body}")),
        ],
        &[("PUT", 200, 14, 0), ("GET", 200, 0, 14)],
    );
}

#[test]
fn answers_without_a_body_have_none_whatever_their_length() {
    let head = |code: u16| server(&format!("HTTP/1.1 {code} x\r\ncontent-length: 10\r\n\r\n"));
    let asked = client(&GET.replace("GET", "HEAD"));
    check(
        vec![asked, head(200), client(GET), head(304), client(GET), server(OK)],
        &[("HEAD", 200, 0, 0), ("GET", 304, 0, 0), ("GET", 200, 0, 2)],
    );
}

#[test]
fn a_body_to_the_end_ends_with_the_connection() {
    let said = vec![client("GET / HTTP/1.0\r\n\r\n"), server("HTTP/1.0 200 OK\r\n\r\nsome"), server(" more")];
    let (seen, mut observer) = observe(Protocol::Auto, &said);
    assert_eq!(seen, []);
    assert_eq!(observer.running_mut().count(), 1);
    observer.end(9);
    let exchange = observer.poll_exchange().expect("it is over");
    assert_eq!(
        (exchange.version, exchange.ended, brief(&exchange)),
        ("HTTP/1.0", Some(9), ("GET".into(), Some(200), 0, 9))
    );
}

#[test]
fn answers_that_are_not_final_are_passed_over() {
    let expect = "POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n";
    check(
        vec![client(expect), server("HTTP/1.1 100 Continue\r\n\r\n"), client("ab"), server(hints), server(OK)],
        &[("POST", 200, 2, 2)],
    );
}

#[test]
fn an_answer_may_come_before_the_request_is_over() {
    let early = "POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nab";
    check(
        vec![
            client(early),
            server("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n"),
            client("cd"),
            client(GET),
            server(OK),
        ],
        &[("POST", 413, 4, 0), ("GET", 200, 0, 2)],
    );
}

#[test]
fn what_becomes_a_tunnel_is_looked_at_no_more() {
    let switched = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n";
    let observer =
        check(vec![client(GET), server(switched), client("\u{1}\u{2}"), server("anything")], &[("GET", 101, 0, 0)]);
    assert!(!observer.is_lost());
    let connect = client("CONNECT a:1 HTTP/1.1\r\n\r\n");
    check(vec![connect, server("HTTP/1.1 200 OK\r\n\r\n"), client("x"), server("y")], &[("CONNECT", 200, 0, 0)]);
}

#[test]
fn the_client_behind_proxies_is_the_leftmost() {
    let asked = "GET / HTTP/1.1\r\nX-Forwarded-For: 9.8.7.6, 1.1.1.1\r\nx-forwarded-for: 2.2.2.2\r\n\r\n";
    let (seen, _) = observe(Protocol::Auto, &vec![client(asked), server(OK)]);
    assert_eq!(seen[0].forwarded_for.as_deref(), Some("9.8.7.6"));
}

#[test]
fn what_is_not_http_is_given_up_and_what_ran_is_over() {
    let gives_up = |said: Said| {
        let (_, observer) = observe(Protocol::Auto, &said);
        observer.is_lost()
    };
    assert!(gives_up(vec![client("\u{16}\u{3}\u{1}hello\r\n\r\n")]));
    assert!(gives_up(vec![client(GET), server("SSH-2.0-x\r\n\r\n")]));
    assert!(gives_up(vec![client(GET), server(OK), server(OK)]), "an answer that nobody asked for");
    assert!(gives_up(vec![client("POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n")]));
    assert!(gives_up(vec![client("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nx\r\n")]));
    assert!(gives_up(vec![client(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(70_000)))]));
    assert!(gives_up(vec![client(&GET.repeat(1025))]));
    assert!(!gives_up(vec![client(&GET.repeat(1024))]));
    let (seen, _) = observe(Protocol::Auto, &vec![client(GET), client(GET), server("nonsense\r\n\r\n")]);
    assert_eq!(seen.iter().map(|it| (it.status, it.ended)).collect::<Vec<_>>(), [(None, Some(2)); 2]);
}

/// Else it would be kept for as long as no empty line comes.
#[test]
fn what_does_not_begin_as_http_is_given_up_at_once() {
    let is_lost = |said: Said| observe(Protocol::Auto, &said).1.is_lost();
    for beginning in ["\u{16}\u{3}\u{1}", "USER ada\r\n", "*1\r\n$4\r\nPING\r\n", "get key\r\n", "\0\u{1}\0\0"] {
        assert!(is_lost(vec![client(beginning)]), "{beginning:?}");
    }
    for beginning in ["G", "GET /", "\r\nPOST /x HTTP/1.1\r\nhost: a\r\n", "PRI * HT"] {
        assert!(!is_lost(vec![client(beginning)]), "{beginning:?}");
    }
    for (beginning, expected) in [("HTTP/1.1 2", false), ("+PONG\r\n", true)] {
        assert_eq!(is_lost(vec![client(GET), server(beginning)]), expected, "{beginning:?}");
    }
}

#[test]
fn a_server_that_speaks_first_may_speak_http_2_until_it_has_said_much() {
    let is_lost = |said: String| observe(Protocol::Auto, &vec![server(&said)]).1.is_lost();
    assert!(is_lost("220 mail ready\r\n".into()));
    let settings = "\0\0\u{6}\u{4}";
    assert!(!is_lost(settings.into()));
    assert!(is_lost(settings.to_owned() + &"x".repeat(16_385)));
}

/// How a body is sent.
#[derive(Debug, Clone)]
enum Body {
    None,
    Length(usize),
    Chunks(Vec<usize>),
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        Just(Body::None),
        (0..3000_usize).prop_map(Body::Length),
        vec(1..300_usize, 0..5).prop_map(Body::Chunks),
    ]
}

impl Body {
    fn octets(&self) -> u64 {
        match self {
            Self::None => 0,
            Self::Length(length) => *length as u64,
            Self::Chunks(chunks) => chunks.iter().sum::<usize>() as u64,
        }
    }

    /// Headers, the empty line, and the body. An answer without headers would go to the end.
    fn text(&self, none: &str) -> String {
        match self {
            Self::None => format!("{none}\r\n"),
            Self::Length(length) => format!("Content-Length: {length}\r\n\r\n{}", "\n".repeat(*length)),
            Self::Chunks(chunks) => {
                let chunks = chunks.iter().map(|size| format!("{size:x}\r\n{}\r\n", "\r".repeat(*size)));
                format!("Transfer-Encoding: gzip, chunked\r\n\r\n{}0\r\n\r\n", chunks.collect::<String>())
            }
        }
    }
}

proptest! {
    #[test]
    fn counts_are_those_of_the_model_however_octets_are_cut(
        exchanges in vec(("GET|POST|BREW", body(), 200..600_u16, body()), 1..6),
        is_pipelined: bool,
        cuts in vec(any::<prop::sample::Index>(), 1..8),
    ) {
        let expected: Vec<Seen> = exchanges
            .iter()
            .map(|(method, asked, status, answer)| {
                let has_body = !matches!(status, 204 | 304);
                (method.clone(), Some(*status), asked.octets(), if has_body { answer.octets() } else { 0 })
            })
            .collect();
        let request = |(method, body, ..): &(String, Body, u16, Body)| {
            client(&format!("{method} /x HTTP/1.1\r\nhost: a\r\n{}", body.text("")))
        };
        let answer = |(_, _, status, body): &(String, Body, u16, Body)| {
            let text = body.text("content-length: 0\r\n");
            let end = text.find("\r\n\r\n").expect("an empty line") + 4;
            server(&format!("HTTP/1.1 {status} x\r\n{}", if matches!(status, 204 | 304) { &text[..end] } else { &text }))
        };
        let said: Said = if is_pipelined {
            exchanges.iter().map(request).chain(exchanges.iter().map(answer)).collect()
        } else {
            exchanges.iter().flat_map(|exchange| [request(exchange), answer(exchange)]).collect()
        };
        let (seen, observer) = observe(Protocol::Auto, &cut(&said, &cuts));
        prop_assert!(!observer.is_lost());
        prop_assert_eq!(seen.iter().map(brief).collect::<Vec<_>>(), expected);
    }
}
