//! Octets that both ends know: each checks every octet that comes, so that none can be lost, doubled, swapped or changed.
//!
//! ```text
//! client                                      workload
//!   ── seed, up, down (u64 each) ──────────────►
//!   ── `up` octets, then the end ──────────────►    both directions at the same time
//!   ◄────────────────────────── `down` octets ──
//!   ◄── up (u64), once all came; then the end ──    so the answer comes after the client's half-close
//! ```

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

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
                return Err(Failure::Truncated { place, length: self.length });
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
    /// The connection was refused, reset or otherwise broken: nobody was misled.
    Broken(io::Error),
    /// The stream ended in order, but too early.
    Truncated { place: u64, length: u64 },
    /// An octet is not what was sent, or more came than was sent.
    Wrong { place: u64 },
    /// Nothing moved for [`PATIENCE`].
    Stalled,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Stalled,
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
    /// So many octets each way, unlike those of any other exchange.
    pub(crate) fn new(up: u64, down: u64) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        Self::with_seed(next_random(&mut COUNT.fetch_add(1, Ordering::Relaxed)), up, down)
    }

    fn with_seed(seed: u64, up: u64, down: u64) -> Self {
        Self { up: Pattern { seed, length: up }, down: Pattern { seed: !seed, length: down } }
    }

    /// The client's part.
    pub(crate) fn run(self, stream: &TcpStream) -> Result<(), Failure> {
        limit_waiting(stream)?;
        let send = || {
            let mut sending = stream;
            sending.write_all(&self.head())?;
            self.up.send(sending)?;
            Ok(sending.shutdown(Shutdown::Write)?)
        };
        let receive = || {
            self.down.receive(stream)?;
            let receipt = Pattern { seed: self.up.seed, length: 0 };
            take_number(stream, self.up.length)?;
            receipt.end(stream)
        };
        both(stream, send, receive)
    }

    /// The workload's part.
    fn answer(mut stream: &TcpStream) -> Result<(), Failure> {
        limit_waiting(stream)?;
        let mut head = [0; 24];
        stream.read_exact(&mut head)?;
        let number = |n| u64::from_le_bytes(*head[8 * n..].first_chunk().expect("the head has three numbers"));
        let exchange = Self::with_seed(number(0), number(1), number(2));
        let receive = || {
            exchange.up.receive(stream)?;
            exchange.up.end(stream)
        };
        both(stream, || Ok(exchange.down.send(stream)?), receive)?;
        Ok(stream.write_all(&exchange.up.length.to_le_bytes())?)
    }

    fn head(self) -> Vec<u8> {
        [self.up.seed, self.up.length, self.down.length].into_iter().flat_map(u64::to_le_bytes).collect()
    }
}

impl Pattern {
    /// Takes the end of the stream, and nothing before it.
    fn end(self, mut from: &TcpStream) -> Result<(), Failure> {
        match from.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(Failure::Wrong { place: self.length }),
        }
    }
}

fn take_number(mut from: &TcpStream, expected: u64) -> Result<(), Failure> {
    let mut octets = [0; 8];
    match from.read_exact(&mut octets) {
        Ok(()) if octets == expected.to_le_bytes() => Ok(()),
        Ok(()) => Err(Failure::Wrong { place: expected }),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Failure::Truncated { place: expected, length: expected })
        }
        Err(error) => Err(error.into()),
    }
}
