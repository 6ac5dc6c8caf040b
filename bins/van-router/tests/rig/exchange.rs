//! Octets that both ends know: each checks every octet that comes, so that none can be lost, doubled, swapped or changed.
//!
//! ```text
//! client                                      workload
//!   ── seed, up, down (u64 each) ──────────────►
//!   ── `up` octets, then the end ──────────────►    both directions at the same time
//!   ◄────────────────────────── `down` octets ──
//!   ◄── up (u64), once all came; then the end ──    so the answer comes after the client's half-close
//! ```

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

use super::PATIENCE;
use super::site::Site;
use super::workload::{self, Workload};

/// Octets read or written at once.
const PIECE: usize = 64 * 1024;

/// Random octets; a pattern takes its blocks from here.
static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0;
    (0..512 * 1024).flat_map(|_| next_random(&mut state).to_le_bytes()).collect()
});

/// Source: SplitMix64, <https://prng.di.unimi.it/splitmix64.c>.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// What is sent in one direction: octets that depend on the seed and on their place.
#[derive(Debug, Clone, Copy)]
struct Pattern {
    seed: u64,
    length: u64,
}

impl Pattern {
    /// The octets from a place on, at most `limit` and at least one.
    fn at(self, place: u64, limit: usize) -> &'static [u8] {
        let (block, within) = (place / PIECE as u64, (place % PIECE as u64) as usize);
        let start = next_random(&mut (self.seed ^ block)) as usize % (TABLE.len() - PIECE);
        let end = PIECE.min(within + limit).min(within + usize::try_from(self.length - place).unwrap_or(usize::MAX));
        &TABLE[start + within..start + end]
    }

    fn send(self, mut to: &TcpStream) -> io::Result<()> {
        let mut place = 0;
        while place < self.length {
            let octets = self.at(place, PIECE);
            to.write_all(octets)?;
            place += octets.len() as u64;
        }
        Ok(())
    }

    /// Takes exactly these octets.
    fn receive(self, mut from: &TcpStream) -> Result<(), Failure> {
        let (mut buffer, mut place) = (vec![0; PIECE], 0);
        while place < self.length {
            let wanted = PIECE.min(usize::try_from(self.length - place).unwrap_or(PIECE));
            let count = from.read(&mut buffer[..wanted])?;
            if count == 0 {
                return Err(Failure::Truncated);
            }
            let mut received = &buffer[..count];
            while !received.is_empty() {
                let expected = self.at(place, received.len());
                let (piece, rest) = received.split_at(expected.len());
                if piece != expected {
                    return Err(Failure::Wrong { place });
                }
                (received, place) = (rest, place + piece.len() as u64);
            }
        }
        Ok(())
    }
}

/// Why an exchange did not complete.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection was refused, reset or broken in another way: nobody was misled.
    Broken(io::Error),
    /// The stream ended as if it were complete, and was not.
    Truncated,
    /// An octet is not what was sent, or more came than was sent.
    Wrong {
        /// Its place in the stream.
        place: u64,
    },
    /// Nothing moved for [`PATIENCE`].
    Stalled,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Stalled,
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Broken(error),
        }
    }
}

/// What a client sends and wants back over one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange {
    up: Pattern,
    down: Pattern,
}

impl Exchange {
    /// So many octets up and down, unlike those of any other exchange of this test program.
    pub(crate) fn new(up: u64, down: u64) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Self::with_seed(next_random(&mut COUNT.fetch_add(1, Ordering::Relaxed)), up, down)
    }

    fn with_seed(seed: u64, up: u64, down: u64) -> Self {
        Self { up: Pattern { seed, length: up }, down: Pattern { seed: !seed, length: down } }
    }

    /// The client's part, from connecting on.
    pub(crate) fn run(self, site: &Site, workload: SocketAddr) -> Result<(), Failure> {
        let stream = &site.connect(workload)?;
        limit_waiting(stream)?;
        let send = || {
            let head = [self.up.seed, self.up.length, self.down.length].map(u64::to_le_bytes);
            let mut sending = stream;
            sending.write_all(head.as_flattened())?;
            self.up.send(sending)?;
            sending.shutdown(Shutdown::Write)
        };
        let receive = || {
            self.down.receive(stream)?;
            if take_number(stream)? != self.up.length {
                return Err(Failure::Wrong { place: self.down.length });
            }
            take_end(stream)
        };
        both(send, receive)
    }

    /// The workload's part.
    fn answer(mut stream: &TcpStream) -> Result<(), Failure> {
        limit_waiting(stream)?;
        let (seed, up, down) = (take_number(stream)?, take_number(stream)?, take_number(stream)?);
        let exchange = Self::with_seed(seed, up, down);
        let receive = || {
            exchange.up.receive(stream)?;
            take_end(stream)
        };
        both(|| exchange.down.send(stream), receive)?;
        Ok(stream.write_all(&up.to_le_bytes())?)
    }
}

/// Sends and receives at the same time. Each ends when the other end does its part or breaks the connection.
fn both(
    send: impl FnOnce() -> io::Result<()> + Send,
    receive: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    thread::scope(|scope| {
        let sending = scope.spawn(send);
        let received = receive();
        // Linux tells of a reset once: when sending heard of it, receiving sees an end.
        match (sending.join().expect("sending does not panic"), received) {
            (Err(error), Ok(()) | Err(Failure::Truncated)) => Err(error.into()),
            (_, received) => received,
        }
    })
}

fn limit_waiting(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

fn take_number(mut from: &TcpStream) -> io::Result<u64> {
    let mut octets = [0; 8];
    from.read_exact(&mut octets)?;
    Ok(u64::from_le_bytes(octets))
}

fn take_end(mut from: &TcpStream) -> Result<(), Failure> {
    match from.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(Failure::Wrong { place: u64::MAX }),
    }
}

/// How exchanges went, on one side.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    completed: AtomicU64,
    broken: AtomicU64,
    truncated: AtomicU64,
    faults: Mutex<Vec<Failure>>,
}

impl Tally {
    pub(crate) fn note(&self, outcome: Result<(), Failure>) {
        let counter = match outcome {
            Ok(()) => &self.completed,
            Err(Failure::Broken(_)) => &self.broken,
            Err(Failure::Truncated) => &self.truncated,
            Err(fault) => return self.faults.lock().expect("nothing panics meanwhile").push(fault),
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn completed(&self) -> u64 {
        self.completed.load(Ordering::Relaxed)
    }

    /// How many connections were broken, which every application can notice.
    pub(crate) fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    /// How many streams ended as if they were complete, and were not.
    pub(crate) fn truncated(&self) -> u64 {
        self.truncated.load(Ordering::Relaxed)
    }

    /// # Panics
    /// When octets were wrong, or stayed away without an end.
    #[track_caller]
    pub(crate) fn assert_no_faults(&self) {
        let faults = self.faults.lock().expect("nothing panics meanwhile");
        assert!(faults.is_empty(), "{faults:?}");
    }
}

/// A workload for exchanges, and how it saw them.
#[derive(Debug)]
pub(crate) struct Exchanges {
    workload: Workload,
    pub(crate) tally: Arc<Tally>,
}

impl Exchanges {
    pub(crate) fn start(site: &Site) -> Self {
        let tally = Arc::<Tally>::default();
        let noted = Arc::clone(&tally);
        let workload = Workload::start(site, move |stream| {
            let outcome = match stream.peek(&mut [0]) {
                // A connection without any octet only asks whether somebody is here.
                Ok(0) => return,
                Ok(_) => Exchange::answer(&stream),
                Err(error) => Err(error.into()),
            };
            if outcome.is_err() {
                workload::reset(stream);
            }
            noted.note(outcome);
        });
        Self { workload, tally }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.workload.address()
    }
}
