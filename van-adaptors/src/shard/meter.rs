//! A stream as management shows it: how long it has been there, and what has gone through it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use van_core::plane::ShardId;

use super::Socket;
use crate::entities::Traffic;

/// The bits of a stream's number that are its own; those above are its shard's, from 1: no connection of AMQP has such a
/// number.
const OWN_BITS: u32 = 48;

/// The number of a stream, of those that its shard has given so far.
pub(super) fn number(shard: ShardId, given: u64) -> u64 {
    (u64::from(shard.0) + 1) << OWN_BITS | given
}

/// The shard of a stream of that number.
pub(super) fn shard_of(number: u64) -> Option<ShardId> {
    let shard = (number >> OWN_BITS).checked_sub(1)?;
    Some(ShardId(shard.try_into().ok()?))
}

/// A TCP connection of a client or to a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpConnection {
    /// No other of this router has it, nor had it.
    pub id: u64,
    /// The routing key.
    pub key: String,
    /// The other end; absent if it has gone.
    pub peer: Option<SocketAddr>,
    /// This end; absent as the other.
    pub local: Option<SocketAddr>,
    /// Whether it is encrypted.
    pub is_encrypted: bool,
    /// Who connected.
    pub direction: Direction,
    /// Octets read from it.
    pub octets_in: u64,
    /// Octets written to it.
    pub octets_out: u64,
    /// How long it has been there; with TLS, since its hands were shaken.
    pub uptime: Duration,
    /// How long ago octets were read last, if there were any.
    pub last_in: Option<Duration>,
    /// How long ago octets were written last, if there were any.
    pub last_out: Option<Duration>,
}

/// Who made a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// A client: it came in by a tcpListener.
    In,
    /// This router, for a tcpConnector.
    Out,
}

/// What is counted of a stream, for itself and for its entity.
#[derive(Debug)]
pub(crate) struct Meter {
    traffic: Traffic,
    key: Arc<str>,
    direction: Direction,
    /// Set when the stream has its socket.
    opened: Option<Opened>,
    octets_in: u64,
    octets_out: u64,
    last_in: Option<Instant>,
    last_out: Option<Instant>,
}

#[derive(Debug)]
struct Opened {
    id: u64,
    at: Instant,
    by: ShardId,
}

impl Meter {
    pub(crate) fn new(traffic: Traffic, key: Arc<str>, direction: Direction) -> Self {
        Self { traffic, key, direction, opened: None, octets_in: 0, octets_out: 0, last_in: None, last_out: None }
    }

    pub(super) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// The stream has its socket, at the shard that calls all that follows.
    pub(super) fn open(&mut self, id: u64, now: Instant, by: ShardId) {
        self.traffic.opened(by);
        self.opened = Some(Opened { id, at: now, by });
    }

    /// The stream's number, once there is a connection.
    pub(super) fn number(&self) -> Option<u64> {
        self.opened.as_ref().map(|opened| opened.id)
    }

    pub(super) fn read(&mut self, now: Instant, octets: usize) {
        let Some(opened) = &self.opened else { return };
        self.octets_in += octets as u64;
        self.last_in = Some(now);
        self.traffic.read(opened.by, octets);
    }

    pub(super) fn written(&mut self, now: Instant, octets: usize) {
        let Some(opened) = &self.opened else { return };
        self.octets_out += octets as u64;
        self.last_out = Some(now);
        self.traffic.written(opened.by, octets);
    }

    /// The connection broke. What TLS has to say of it is worth telling; the rest is everyday.
    pub(super) fn failed(&self, error: io::Error) {
        if error.kind() == io::ErrorKind::InvalidData {
            self.traffic.record::<()>(&Err(error));
        }
    }

    /// What management shows, once there is a connection.
    pub(super) fn show(&self, now: Instant, socket: &Socket) -> Option<TcpConnection> {
        let Opened { id, at, .. } = self.opened.as_ref()?;
        let since = |at: Instant| now.saturating_duration_since(at);
        Some(TcpConnection {
            id: *id,
            key: self.key.to_string(),
            peer: socket.peer(),
            local: socket.local_address(),
            is_encrypted: socket.is_encrypted(),
            direction: self.direction,
            octets_in: self.octets_in,
            octets_out: self.octets_out,
            uptime: since(*at),
            last_in: self.last_in.map(since),
            last_out: self.last_out.map(since),
        })
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(opened) = &self.opened {
            self.traffic.closed(opened.by);
        }
    }
}
