//! The sockets and links of one shard, as its plane sees them.

use std::collections::{HashMap, HashSet};
use std::io::IoSlice;

use super::peer::Socket;
use crate::plane::{ClientFlow, ConnectorId, Crossing, Io, Key, Read, Report, ShardId, Write};

/// Octets that may be on their way over a link's connection, unless a test wants others.
const PIPE_OCTETS: usize = 262_144;

/// What a plane asked for that takes another's doing.
#[derive(Debug)]
pub(super) enum Effect {
    Sent { connection: Key, octets: Vec<u8> },
    ConnectionClosed { connection: Key },
    Connect { stream: Key, connector: ConnectorId },
    Post { to: ShardId, crossing: Crossing },
    Report(Report),
}

/// One shard's surroundings.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) sockets: HashMap<Key, Socket>,
    /// Streams whose workload is being connected.
    pub(super) connecting: HashSet<Key>,
    /// Octets on their way, by connection.
    pub(super) under_way: HashMap<Key, usize>,
    /// Octets that may be, beyond [`PIPE_OCTETS`].
    pub(super) more_under_way: usize,
    pub(super) effects: Vec<Effect>,
}

impl Io for World {
    fn room(&self, connection: Key) -> usize {
        let most = PIPE_OCTETS + self.more_under_way;
        most.saturating_sub(self.under_way.get(&connection).copied().unwrap_or(most))
    }

    fn send(&mut self, connection: Key, parts: &[&[u8]]) {
        let octets = parts.concat();
        if let Some(under_way) = self.under_way.get_mut(&connection) {
            *under_way += octets.len();
            self.effects.push(Effect::Sent { connection, octets });
        }
    }

    fn close_connection(&mut self, connection: Key) {
        self.under_way.remove(&connection);
        self.effects.push(Effect::ConnectionClosed { connection });
    }

    fn read(&mut self, stream: Key, buffer: &mut [u8]) -> Read {
        let Some(socket) = self.sockets.get_mut(&stream) else { return Read::Failed };
        if socket.is_reset {
            return Read::Failed;
        }
        let count = buffer.len().min(socket.to_router.len());
        if count > 0 {
            buffer.iter_mut().zip(socket.to_router.drain(..count)).for_each(|(place, octet)| *place = octet);
            return Read::Octets(count);
        }
        if socket.program_ended {
            return Read::End;
        }
        socket.wants_read = true;
        Read::Blocked
    }

    fn write(&mut self, stream: Key, parts: &[IoSlice<'_>]) -> Write {
        let Some(socket) = self.sockets.get_mut(&stream) else { return Write::Failed };
        if socket.is_reset {
            return Write::Failed;
        }
        let room = socket.room();
        let octets = parts.iter().flat_map(|part| part.iter().copied()).take(room);
        let before = socket.to_program.len();
        socket.to_program.extend(octets);
        match socket.to_program.len() - before {
            0 => {
                socket.wants_write = true;
                Write::Blocked
            }
            count => Write::Octets(count),
        }
    }

    fn shut_down(&mut self, stream: Key) {
        if let Some(socket) = self.sockets.get_mut(&stream) {
            socket.router_ended = true;
        }
    }

    fn close(&mut self, stream: Key, reset: bool) {
        self.connecting.remove(&stream);
        if let Some(socket) = self.sockets.get_mut(&stream) {
            socket.is_closed = true;
            socket.is_reset |= reset;
            socket.router_ended = true;
        }
    }

    fn connect(&mut self, stream: Key, connector: ConnectorId, _: Option<&str>, _: Option<ClientFlow>) {
        self.connecting.insert(stream);
        self.effects.push(Effect::Connect { stream, connector });
    }

    fn established(&mut self, stream: Key) {
        if let Some(socket) = self.sockets.get_mut(&stream) {
            socket.is_established = true;
        }
    }

    fn post(&mut self, to: ShardId, crossing: Crossing) {
        self.effects.push(Effect::Post { to, crossing });
    }

    fn report(&mut self, report: Report) {
        self.effects.push(Effect::Report(report));
    }
}
