//! What is around a shard that has no sockets.

use std::collections::HashMap;
use std::io::IoSlice;

use van_core::plane::{ClientFlow, ConnectionId, ConnectorId, Crossing, Io, Key, Read, Report, ShardId, Write};

/// What the shard said, reported, traced and did with streams.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) said: HashMap<Key, Vec<u8>>,
    pub(crate) reports: Vec<Report>,
    pub(crate) traced: Vec<(ConnectionId, String)>,
    /// Streams that want their workload, and those that are over.
    pub(crate) connecting: Vec<Key>,
    pub(crate) closed: Vec<Key>,
    pub(crate) workload: Workload,
    /// Octets that clients and workloads have to say.
    pub(crate) talk: HashMap<Key, usize>,
    /// Clients and workloads have nothing more to say.
    pub(crate) has_ended: bool,
}

/// What becomes of octets for a workload.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Workload {
    #[default]
    Broken,
    Reads,
    HasStopped,
}

impl Io for World {
    fn room(&self, _: Key) -> usize {
        usize::MAX
    }

    fn send(&mut self, connection: Key, parts: &[&[u8]]) {
        self.said.entry(connection).or_default().extend(parts.concat());
    }

    fn close_connection(&mut self, _: Key) {}

    fn read(&mut self, stream: Key, buffer: &mut [u8]) -> Read {
        match self.talk.get_mut(&stream) {
            Some(left) if *left > 0 => {
                let octets = buffer.len().min(*left);
                *left -= octets;
                Read::Octets(octets)
            }
            _ if self.has_ended => Read::End,
            _ => Read::Blocked,
        }
    }

    fn write(&mut self, _: Key, parts: &[IoSlice<'_>]) -> Write {
        match self.workload {
            Workload::Broken => Write::Failed,
            Workload::Reads => Write::Octets(parts.iter().map(|part| part.len()).sum()),
            Workload::HasStopped => Write::Blocked,
        }
    }

    fn shut_down(&mut self, _: Key) {}

    fn close(&mut self, stream: Key, _: bool) {
        self.closed.push(stream);
    }

    fn connect(&mut self, stream: Key, _: ConnectorId, _: Option<&str>, _: Option<ClientFlow>) {
        self.connecting.push(stream);
    }

    fn established(&mut self, _: Key) {}

    fn post(&mut self, _: ShardId, _: Crossing) {}

    fn report(&mut self, report: Report) {
        self.reports.push(report);
    }

    fn trace(&mut self, connection: ConnectionId, line: &str) {
        self.traced.push((connection, line.to_owned()));
    }
}
