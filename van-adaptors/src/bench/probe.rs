//! Who asks: what a client of this router would see of the network, measured.
//!
//! To a responder a probe is a client with a TCP connection, as those that a tcpListener accepts: a path in the process
//! would be shorter than theirs. Workloads of users are only connected, in the process, where it is told when one has taken
//! the stream; not an octet goes to them.
//!
//! It blocks, and keeps cores busy: it belongs on a thread of its own.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use van_core::plane::Routes;
use van_routing::RouterId;

use super::{Answer, MAX_BULK_TIME, MAX_ECHO_OCTETS, Request, address};
use crate::dial::{DialError, Dialer};

/// Octets of a round trip.
const ROUND_TRIP_OCTETS: usize = 64;

/// Octets written or read at once.
const PIECE: usize = 65_536;

/// Octets of a responder's longest line, and more.
const MAX_LINE: usize = 64;

/// How long the other end may be silent.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a write may wait before the clock is looked at.
const WRITE_TIME: Duration = Duration::from_millis(50);

/// How long a router may take to hear of a responder: only an edge router has to ask.
const LOOKUP_TIME: Duration = Duration::from_secs(2);

/// Connections of one measurement, at most.
const MAX_CONNECTIONS: usize = 20_000;

/// Connections to a workload of a user: one after the other, and then several at once.
const MAX_SINGLE_CONNECTS: usize = 200;
const MAX_CONNECTS: usize = 1000;

/// Measures other routers, and the workloads of routing keys, from this router.
#[derive(Debug)]
pub struct Probe {
    dialer: Dialer,
    runtime: Runtime,
    is_unwanted: Arc<AtomicBool>,
}

/// Routers on the way, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// Their ids, this router's first.
    pub routers: Vec<String>,
    /// Whether there are no others: an edge router knows nobody beyond its links.
    pub is_whole: bool,
}

/// Which way octets flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From here to there.
    Up,
    /// From there to here.
    Down,
}

/// Times, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Samples(Vec<Duration>);

/// Octets that have arrived.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throughput {
    /// How many.
    pub octets: u64,
    /// The sum over streams of the bits per second of each.
    pub bits_per_second: f64,
}

/// Round trips of 64 octets, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundTrips {
    /// How long each took.
    pub samples: Samples,
    /// How long all took.
    pub time: Duration,
}

/// New connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connections {
    /// How long each took, of those that came about.
    pub samples: Samples,
    /// Those that did not.
    pub failures: u32,
    /// How long all took.
    pub time: Duration,
}

/// Why something cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// Nobody answers for the router.
    #[error(
        "router \"{router}\" has no responder: it is a skupper-router, or runs with --no-bench, or cannot be reached; \
         measure a routing key of its site instead"
    )]
    NoResponder {
        /// The router.
        router: String,
    },
    /// It has been measured too much.
    #[error("router \"{router}\" has been measured enough for now; try again in {seconds} s")]
    Busy {
        /// The router.
        router: String,
        /// How long to wait.
        seconds: u64,
    },
    /// Its responder speaks otherwise.
    #[error("router \"{router}\" does not understand this version of van; update the older of the two")]
    Foreign {
        /// The router.
        router: String,
    },
    /// A stream to it broke.
    #[error("the stream to router \"{router}\" broke")]
    Broken {
        /// The router.
        router: String,
        /// How.
        #[source]
        source: io::Error,
    },
    /// No workload takes a connection.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// A workload neither takes nor refuses a connection.
    #[error("no workload of \"{key}\" has taken a connection within {} s; look whether it is overloaded", PATIENCE.as_secs())]
    Silent {
        /// The routing key.
        key: String,
    },
    /// No thread, socket or runtime can be had here.
    #[error("cannot measure")]
    Local(#[source] io::Error),
    /// Whoever wanted it does not any more.
    #[error("the measurement was given up")]
    GivenUp,
}

impl Probe {
    /// Measures from the router of a dialler until `is_unwanted` is set.
    ///
    /// # Errors
    /// [`ProbeError::Local`]
    pub fn new(dialer: Dialer, is_unwanted: Arc<AtomicBool>) -> Result<Self, ProbeError> {
        let runtime = Builder::new_current_thread().enable_time().build().map_err(ProbeError::Local)?;
        Ok(Self { dialer, runtime, is_unwanted })
    }

    /// The way of a stream from here to a router, as this router sees it now.
    pub fn path(&self, router: &str) -> Path {
        path(&self.dialer.routes(), router)
    }

    /// Whether a router has a responder.
    pub fn is_answered(&self, router: &str) -> bool {
        let (address, is_edge) = (address(router), self.dialer.routes().edge.is_some());
        let patience = if is_edge { LOOKUP_TIME } else { Duration::ZERO };
        let reachable = self.dialer.reachable(&address);
        self.runtime
            .block_on(async { tokio::time::timeout(patience, reachable).await })
            .is_ok_and(|found| found.is_ok())
    }

    /// Round trips on one stream for a time, a number of them at most.
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub fn round_trips(&self, router: &str, time: Duration, most: usize) -> Result<RoundTrips, ProbeError> {
        let most = most.min(MAX_ECHO_OCTETS as usize / ROUND_TRIP_OCTETS);
        let mut stream = self.door(router)?.request(Request::Echo((most * ROUND_TRIP_OCTETS) as u64), &[])?;
        let mut samples = Vec::new();
        let (start, mut octets) = (Instant::now(), [0; ROUND_TRIP_OCTETS]);
        while samples.len() < most && start.elapsed() < time && !self.is_unwanted() {
            let sent = Instant::now();
            let exchanged = stream.write_all(&octets).and_then(|()| stream.read_exact(&mut octets));
            exchanged.map_err(|source| broken(router, source))?;
            samples.push(sent.elapsed());
        }
        Ok(RoundTrips { time: start.elapsed(), samples: self.samples(samples)? })
    }

    /// Octets in one direction for a time, on several streams at once.
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub fn throughput(
        &self,
        router: &str,
        direction: Direction,
        streams: usize,
        time: Duration,
    ) -> Result<Throughput, ProbeError> {
        let time = time.min(MAX_BULK_TIME);
        let millis = time.as_millis() as u64;
        let request = if direction == Direction::Up { Request::Sink(millis) } else { Request::Source(millis) };
        let carry = || {
            let stream = self.door(router)?.request(request, &[])?;
            let carried = match direction {
                Direction::Up => self.send(stream, time),
                Direction::Down => self.receive(stream, time),
            };
            carried.map_err(|source| broken(router, source))
        };
        let carried: Vec<Result<_, ProbeError>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..streams).map(|_| scope.spawn(carry)).collect();
            threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
        });
        self.check_wanted()?;
        let mut total = Throughput { octets: 0, bits_per_second: 0.0 };
        for carried in carried {
            let (octets, time) = carried?;
            total.octets += octets;
            total.bits_per_second += octets as f64 * 8.0 / time.as_secs_f64().max(f64::EPSILON);
        }
        Ok(total)
    }

    /// New connections for a time, each with one round trip of 64 octets, several at once.
    ///
    /// # Errors
    /// See [`ProbeError`]. That some do not come about is none.
    pub fn connections(&self, router: &str, at_once: usize, time: Duration) -> Result<Connections, ProbeError> {
        let (begun, start) = (AtomicUsize::new(0), Instant::now());
        let failures = AtomicU32::new(0);
        let is_on =
            || begun.fetch_add(1, Ordering::Relaxed) < MAX_CONNECTIONS && start.elapsed() < time && !self.is_unwanted();
        let connect = || -> Result<Vec<Duration>, ProbeError> {
            let (door, mut samples) = (self.door(router)?, Vec::new());
            while is_on() {
                let began = Instant::now();
                match door.round_trip() {
                    Ok(()) => samples.push(began.elapsed()),
                    Err(ProbeError::Broken { .. }) => drop(failures.fetch_add(1, Ordering::Relaxed)),
                    Err(error) => return Err(error),
                }
            }
            Ok(samples)
        };
        let connected: Result<Vec<_>, _> = thread::scope(|scope| {
            let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(connect)).collect();
            threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect()
        });
        let (time, samples) = (start.elapsed(), connected?.concat());
        Ok(Connections { samples: self.samples(samples)?, failures: failures.into_inner(), time })
    }

    /// Connections to the workloads of a routing key, for a time: no octet goes there, and each is ended at once.
    ///
    /// At most 200 of one after the other, or 1000 of several at once.
    ///
    /// # Errors
    /// See [`ProbeError`]. That some do not come about is none, unless it is the first.
    pub fn connects(&self, key: &str, at_once: usize, time: Duration) -> Result<Connections, ProbeError> {
        let most = if at_once > 1 { MAX_CONNECTS } else { MAX_SINGLE_CONNECTS };
        self.runtime.block_on(async {
            let (start, mut begun) = (Instant::now(), 0);
            let (mut under_way, mut samples, mut failures) = (JoinSet::new(), Vec::new(), 0);
            loop {
                while under_way.len() < at_once && begun < most && start.elapsed() < time && !self.is_unwanted() {
                    under_way.spawn(connect(self.dialer.clone(), key.to_owned()));
                    begun += 1;
                }
                match under_way.join_next().await {
                    Some(Ok(Ok(taken))) => samples.push(taken),
                    Some(Ok(Err(error))) if samples.is_empty() => return Err(error),
                    Some(_) => failures += 1,
                    None => break,
                }
            }
            let time = start.elapsed();
            Ok(Connections { samples: self.samples(samples)?, failures, time })
        })
    }

    fn door<'a>(&'a self, router: &'a str) -> Result<Door<'a>, ProbeError> {
        let key = Arc::from(address(router));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(ProbeError::Local)?;
        Ok(Door { listener, dialer: &self.dialer, router, key })
    }

    /// Sends for a time; the responder says how much came, and in what time.
    fn send(&self, mut stream: TcpStream, time: Duration) -> io::Result<(u64, Duration)> {
        let (piece, start) = ([0; PIECE], Instant::now());
        stream.set_write_timeout(Some(WRITE_TIME))?;
        while start.elapsed() < time && !self.is_unwanted() {
            match stream.write(&piece) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        let answer = read_line(&mut stream)?;
        // What has not left is of no use any more.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        let text = std::str::from_utf8(&answer).ok().and_then(|text| text.split_once(' '));
        let counted = text.and_then(|(octets, micros)| Some((octets.parse().ok()?, micros.parse().ok()?)));
        let (octets, micros) = counted.ok_or_else(|| io::Error::from(ErrorKind::InvalidData))?;
        Ok((octets, Duration::from_micros(micros)))
    }

    /// Counts what comes, from the first octet on.
    fn receive(&self, mut stream: TcpStream, time: Duration) -> io::Result<(u64, Duration)> {
        let mut piece = vec![0; PIECE];
        let mut octets = stream.read(&mut piece)? as u64;
        let start = Instant::now();
        while start.elapsed() < time && !self.is_unwanted() {
            match stream.read(&mut piece)? {
                0 => break,
                count => octets += count as u64,
            }
        }
        Ok((octets, start.elapsed()))
    }

    fn samples(&self, mut samples: Vec<Duration>) -> Result<Samples, ProbeError> {
        self.check_wanted()?;
        samples.sort_unstable();
        Ok(Samples(samples))
    }

    fn check_wanted(&self) -> Result<(), ProbeError> {
        if self.is_unwanted() { Err(ProbeError::GivenUp) } else { Ok(()) }
    }

    fn is_unwanted(&self) -> bool {
        self.is_unwanted.load(Ordering::Relaxed)
    }
}

/// Where connections to a responder come from, one after the other.
struct Door<'a> {
    listener: TcpListener,
    dialer: &'a Dialer,
    router: &'a str,
    key: Arc<str>,
}

impl Door<'_> {
    /// A connection whose first line was answered, and not read beyond. `behind` goes with that line.
    fn request(&self, request: Request, behind: &[u8]) -> Result<TcpStream, ProbeError> {
        let mut stream = self.open().map_err(ProbeError::Local)?;
        let line = [request.to_string().as_bytes(), behind].concat();
        let answer = stream.write_all(&line).and_then(|()| read_line(&mut stream));
        let answer = answer.map_err(|source| broken(self.router, source))?;
        let router = self.router.to_owned();
        match Answer::parse(&answer) {
            Some(Answer::Ok) => Ok(stream),
            Some(Answer::Busy(seconds)) => Err(ProbeError::Busy { router, seconds }),
            Some(Answer::Unknown) | None => Err(ProbeError::Foreign { router }),
        }
    }

    /// A connection, one round trip, and its end.
    fn round_trip(&self) -> Result<(), ProbeError> {
        let mut octets = [0; ROUND_TRIP_OCTETS];
        let mut stream = self.request(Request::Echo(ROUND_TRIP_OCTETS as u64), &octets)?;
        stream.read_exact(&mut octets).map_err(|source| broken(self.router, source))
    }

    /// Both ends of a new connection: one for us, one for the router.
    fn open(&self) -> io::Result<TcpStream> {
        let here = TcpStream::connect(self.listener.local_addr()?)?;
        here.set_nodelay(true)?;
        here.set_read_timeout(Some(PATIENCE))?;
        here.set_write_timeout(Some(PATIENCE))?;
        loop {
            let (there, peer) = self.listener.accept()?;
            // Others on this machine may find the port.
            if peer == here.local_addr()? {
                there.set_nonblocking(true)?;
                there.set_nodelay(true)?;
                self.dialer.serve(there, &self.key);
                return Ok(here);
            }
        }
    }
}

impl Samples {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The time within which so many of a hundred are; nothing if there are none.
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.0.len() * percent).div_ceil(100);
        self.0.get(rank.saturating_sub(1)).copied()
    }
}

/// One octet after the other: what is behind the line stays.
fn read_line(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let (mut line, mut octet) = (Vec::new(), [0]);
    while line.len() < MAX_LINE {
        stream.read_exact(&mut octet)?;
        match octet {
            [b'\n'] => return Ok(line),
            [octet] => line.push(octet),
        }
    }
    Err(ErrorKind::InvalidData.into())
}

/// Connects a workload, and ends the stream in order. How long it took to be taken.
async fn connect(dialer: Dialer, key: String) -> Result<Duration, ProbeError> {
    let start = Instant::now();
    let dialled = tokio::time::timeout(PATIENCE, dialer.dial(&key)).await;
    let mut stream = dialled.map_err(|_| ProbeError::Silent { key })??;
    let taken = start.elapsed();
    let _ = stream.shutdown().await;
    Ok(taken)
}

fn broken(router: &str, source: io::Error) -> ProbeError {
    let source = match source.kind() {
        ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, format!("silent for {} s", PATIENCE.as_secs())),
        _ => source,
    };
    ProbeError::Broken { router: router.to_owned(), source }
}

fn path(routes: &Routes, to: &str) -> Path {
    let own = routes.id.as_str();
    let text = |id: &RouterId| id.to_string();
    if to == own {
        return Path { routers: vec![to.to_owned()], is_whole: true };
    }
    // An edge router is behind the nearest interior one that has it.
    let hosts = routes.edges.get(to).map(|edge| {
        let here = edge.links.iter().map(|_| (0, own.to_owned()));
        let there = edge.owners.iter().filter_map(|(owner, _)| Some((routes.table.route(owner)?.cost, text(owner))));
        here.chain(there).min()
    });
    let last = hosts.clone().flatten().map_or_else(|| to.to_owned(), |(_, host)| host);
    let paths = routes.table.topology().paths_from(&routes.id);
    let known = paths.zip(RouterId::new(&last).ok()).and_then(|(paths, last)| paths.path(&last));
    let mut routers: Vec<_> = known.iter().flatten().map(|id| text(id)).collect();
    let is_whole = routes.edge.is_none() && !routers.is_empty();
    if !is_whole {
        routers = vec![own.to_owned()];
    }
    if routers.last().is_none_or(|last| last != to) {
        routers.push(to.to_owned());
    }
    Path { routers, is_whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_occurred() {
        let samples = Samples((1..=200).map(Duration::from_millis).collect());
        let millis = |percent| samples.percentile(percent).map(|time| time.as_millis());
        assert_eq!([50, 90, 99, 100].map(millis), [Some(100), Some(180), Some(198), Some(200)]);
        assert_eq!(Samples(vec![Duration::from_secs(1)]).percentile(1), Some(Duration::from_secs(1)));
        assert_eq!(Samples::default().percentile(50), None);
    }
}
