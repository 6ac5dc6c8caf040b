//! Measuring the network with itself: every router answers at an address of its own, and a [`Probe`] asks.
//!
//! docs/wire.md §8.12. Here is what both ends have in common: the address, and the words on a stream.

mod limits;
mod probe;
mod responder;

use std::fmt;
use std::time::Duration;

pub use self::probe::{Connections, Direction, Path, Probe, ProbeError, RoundTrips, Samples, Throughput};
pub(crate) use self::responder::serve;

/// What the addresses of responders begin with.
pub(crate) const PREFIX: &str = "van.bench/";

/// The first word of a request.
const PROTOCOL: &str = "van.bench/1";

/// A request and its line end are no longer.
const MAX_REQUEST_OCTETS: usize = 64;

/// How long octets flow in one direction, at most.
pub const MAX_BULK_TIME: Duration = Duration::from_secs(5);

/// Streams of bulk of one measurement at once.
pub const MAX_BULK_STREAMS: usize = 8;

/// Octets that a responder sends back on one stream.
const MAX_ECHO_OCTETS: u64 = 4 * 1024 * 1024;

/// The address at which a router answers.
pub fn address(router: &str) -> String {
    format!("{PREFIX}{router}")
}

/// What a client wants of a responder: the first line of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    /// So many octets are to come back.
    Echo(u64),
    /// Octets are to be taken for so many milliseconds from the first on, and counted.
    Sink(u64),
    /// Octets are to be sent for so many milliseconds.
    Source(u64),
}

/// What a responder says to a request: the first line of the other direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It does it.
    Ok,
    /// It has done too much lately, and does it again after so many seconds.
    Busy(u64),
    /// It does not know what is wanted.
    Unknown,
}

impl Request {
    /// Reads a line without its end. Nothing if it is none, or wants more than anybody gets.
    fn parse(line: &[u8]) -> Option<Self> {
        let words: Vec<_> = std::str::from_utf8(line).ok()?.split(' ').collect();
        let [PROTOCOL, verb, amount] = words[..] else { return None };
        let amount = amount.parse().ok()?;
        match verb {
            "echo" if amount <= MAX_ECHO_OCTETS => Some(Self::Echo(amount)),
            "sink" if is_bulk_time(amount) => Some(Self::Sink(amount)),
            "source" if is_bulk_time(amount) => Some(Self::Source(amount)),
            _ => None,
        }
    }
}

fn is_bulk_time(millis: u64) -> bool {
    Duration::from_millis(millis) <= MAX_BULK_TIME
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, amount) = match self {
            Self::Echo(octets) => ("echo", octets),
            Self::Sink(millis) => ("sink", millis),
            Self::Source(millis) => ("source", millis),
        };
        writeln!(f, "{PROTOCOL} {verb} {amount}")
    }
}

impl Answer {
    /// Reads a line without its end.
    fn parse(line: &[u8]) -> Option<Self> {
        match std::str::from_utf8(line).ok()?.split_once(' ') {
            None if line == b"ok" => Some(Self::Ok),
            None if line == b"unknown" => Some(Self::Unknown),
            Some(("busy", seconds)) => seconds.parse().ok().map(Self::Busy),
            _ => None,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ok => writeln!(f, "ok"),
            Self::Busy(seconds) => writeln!(f, "busy {seconds}"),
            Self::Unknown => writeln!(f, "unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        for request in [Request::Echo(0), Request::Echo(MAX_ECHO_OCTETS), Request::Sink(5000), Request::Source(1)] {
            let line = request.to_string();
            assert!(line.len() <= MAX_REQUEST_OCTETS);
            assert_eq!(Request::parse(line.trim_end_matches('\n').as_bytes()), Some(request));
        }
        for answer in [Answer::Ok, Answer::Busy(0), Answer::Busy(17), Answer::Unknown] {
            assert_eq!(Answer::parse(answer.to_string().trim_end_matches('\n').as_bytes()), Some(answer));
        }
    }

    #[test]
    fn what_is_no_request_or_wants_too_much_is_none() {
        let wrong = [
            "",
            "GET / HTTP/1.1",
            "van.bench/1",
            "van.bench/1 echo",
            "van.bench/1 echo -1",
            "van.bench/1 echo 1 1",
            "van.bench/2 echo 1",
            "van.bench/1 echo 4194305",
            "van.bench/1 sink 5001",
            "van.bench/1 source 18446744073709551616",
            "van.bench/1 flood 1",
        ];
        for line in wrong {
            assert_eq!(Request::parse(line.as_bytes()), None, "{line}");
        }
        assert_eq!(Request::parse(&[0xff; 12]), None);
    }
}
