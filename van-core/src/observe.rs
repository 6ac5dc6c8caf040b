//! Requests and answers, seen in copies of a connection's octets (docs/wire.md §8.10). Nothing here changes a connection or
//! holds it up: an observer that falls out of step says so and looks no more.
//!
//! * `http1` requests one after the other · `http2` frames, and many at once · `hpack` the names and values of those
//!
//! ```
//! use van_core::observe::{End, Observer, Protocol};
//!
//! let mut observer = Observer::new(Protocol::Auto);
//! observer.observe(1_000, End::Client, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
//! observer.observe(1_250, End::Server, b"HTTP/1.1 204 No Content\r\n\r\n");
//! let exchange = observer.poll_exchange().expect("it is over");
//! assert_eq!((&*exchange.method, exchange.status, exchange.latency()), ("GET", Some(204), Some(250)));
//! ```

mod hpack;
mod http1;
mod http2;

use std::borrow::Cow;
use std::collections::VecDeque;

use self::http1::Http1;
use self::http2::Http2;

/// Octets of a head, of a block of headers, or of a frame that is read as a whole; an observer gives up beyond.
const MAX_HEAD_BYTES: usize = 65_536;

/// Requests of one connection that wait for the end of their answers; an observer gives up beyond.
const MAX_RUNNING: usize = 1024;

/// Octets of a server that speaks before its client has said enough to tell the protocol.
const MAX_EARLY_BYTES: usize = 16_384;

/// Octets of a method, reason or forwarded address that are kept.
const MAX_TEXT_BYTES: usize = 300;

/// What every client of HTTP/2 says first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/2 if the client begins as its clients do, else HTTP/1.
    #[default]
    Auto,
    /// HTTP/1.0 and 1.1.
    Http1,
    /// HTTP/2 whose client knows that the server speaks it.
    Http2,
}

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Who asks.
    Client,
    /// Who answers.
    Server,
}

/// A request and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// `HTTP/1.0`, `HTTP/1.1`, `HTTP/2`.
    pub version: &'static str,
    /// The stream of HTTP/2.
    pub stream: Option<u32>,
    /// The method.
    pub method: Cow<'static, str>,
    /// Who asked, if proxies said (`x-forwarded-for`).
    pub forwarded_for: Option<String>,
    /// The status of the final answer, if one came.
    pub status: Option<u16>,
    /// What HTTP/1 says of it besides.
    pub reason: Option<String>,
    /// When the request was read, in µs as [`Observer::observe`] was told.
    pub started: u64,
    /// When the head of the final answer was.
    pub answered: Option<u64>,
    /// When both were over.
    pub ended: Option<u64>,
    /// Octets of the request's body.
    pub octets: u64,
    /// Octets of the answer's body.
    pub octets_reverse: u64,
    /// For whoever observes, to know a running exchange by.
    pub tag: Option<u64>,
}

/// Not what was looked for, or too much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lost;

/// Watches one connection.
///
/// [`Observer::poll_exchange`] until it is empty, after whatever was called.
#[derive(Debug)]
pub struct Observer {
    state: State,
    finished: VecDeque<Exchange>,
}

#[derive(Debug)]
enum State {
    /// What came of the client, not yet enough to tell, and of the server.
    Undecided(Vec<u8>, Vec<u8>),
    Http1(Box<Http1>),
    Http2(Box<Http2>),
    Lost,
}

impl Exchange {
    fn new(version: &'static str, started: u64, method: &str) -> Self {
        const KNOWN: [&str; 9] = ["GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"];
        let known = KNOWN.into_iter().find(|known| *known == method);
        Self {
            version,
            stream: None,
            method: known.map_or_else(|| Cow::Owned(cut(method.as_bytes())), Cow::Borrowed),
            forwarded_for: None,
            status: None,
            reason: None,
            started,
            answered: None,
            ended: None,
            octets: 0,
            octets_reverse: 0,
            tag: None,
        }
    }

    /// µs from the request to the head of its answer.
    pub fn latency(&self) -> Option<u64> {
        self.answered.map(|answered| answered.saturating_sub(self.started))
    }

    fn body_octets(&mut self, of: End) -> &mut u64 {
        match of {
            End::Client => &mut self.octets,
            End::Server => &mut self.octets_reverse,
        }
    }
}

impl Observer {
    /// Watches a connection from its first octet on.
    pub fn new(protocol: Protocol) -> Self {
        let state = match protocol {
            Protocol::Auto => State::Undecided(Vec::new(), Vec::new()),
            Protocol::Http1 => State::Http1(Box::default()),
            Protocol::Http2 => State::Http2(Box::default()),
        };
        Self { state, finished: VecDeque::new() }
    }

    /// Looks at octets, in the order in which they pass here. `now` is in µs.
    pub fn observe(&mut self, now: u64, from: End, octets: &[u8]) {
        let seen = match &mut self.state {
            State::Undecided(client, server) => {
                let early = if from == End::Client { client } else { server };
                early.extend_from_slice(octets);
                self.decide(now)
            }
            State::Http1(http1) => http1.observe(now, from, octets, &mut self.finished),
            State::Http2(http2) => http2.observe(now, from, octets, &mut self.finished),
            State::Lost => Ok(()),
        };
        if seen.is_err() {
            self.give_up(now);
        }
    }

    /// The connection is over: what was running is too.
    pub fn end(&mut self, now: u64) {
        self.give_up(now);
    }

    /// The next exchange that is over.
    pub fn poll_exchange(&mut self) -> Option<Exchange> {
        self.finished.pop_front()
    }

    /// Those that are not.
    pub fn running_mut(&mut self) -> impl Iterator<Item = &mut Exchange> {
        let (http1, http2) = match &mut self.state {
            State::Http1(http1) => (Some(http1.running_mut()), None),
            State::Http2(http2) => (None, Some(http2.running_mut())),
            State::Undecided(..) | State::Lost => (None, None),
        };
        http1.into_iter().flatten().chain(http2.into_iter().flatten())
    }

    /// Whether it looks no more.
    pub fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    fn decide(&mut self, now: u64) -> Result<(), Lost> {
        let State::Undecided(client, server) = &mut self.state else { return Ok(()) };
        // A server that speaks first begins with SETTINGS of HTTP/2, a frame of type 4.
        if client.is_empty() && server.get(3).is_some_and(|kind| *kind != 4) {
            return Err(Lost);
        }
        let seen = client.len().min(PREFACE.len());
        if client[..seen] != PREFACE[..seen] {
            let (client, server) = (std::mem::take(client), std::mem::take(server));
            self.state = State::Http1(Box::default());
            return self.replay(now, &client, &server);
        }
        if seen == PREFACE.len() {
            let (client, server) = (std::mem::take(client), std::mem::take(server));
            self.state = State::Http2(Box::default());
            return self.replay(now, &client, &server);
        }
        if server.len() > MAX_EARLY_BYTES { Err(Lost) } else { Ok(()) }
    }

    fn replay(&mut self, now: u64, client: &[u8], server: &[u8]) -> Result<(), Lost> {
        self.observe(now, End::Client, client);
        self.observe(now, End::Server, server);
        Ok(())
    }

    fn give_up(&mut self, now: u64) {
        let running = self.running_mut().map(|exchange| Exchange { ended: Some(now), ..exchange.clone() });
        let running: Vec<_> = running.collect();
        self.finished.extend(running);
        self.state = State::Lost;
    }
}

/// A text of a peer, as far as it is kept.
fn cut(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(&octets[..octets.len().min(MAX_TEXT_BYTES)]);
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned()
}

/// The client in `x-forwarded-for`: what stands left of all proxies.
fn first_address(value: &[u8]) -> Option<String> {
    let first = cut(value.split(|octet| *octet == b',').next()?);
    Some(first.trim().to_owned()).filter(|first| !first.is_empty())
}
