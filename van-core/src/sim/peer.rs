//! The programs at both ends of a stream: they send what their script says, and remember what they got.

use std::collections::VecDeque;

/// What one end of a TCP connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Script {
    /// Octets it sends, made from `seed`.
    pub sends: usize,
    /// Seed of the octets.
    pub seed: u64,
    /// It sends only after the other end's last octet.
    pub waits: bool,
    /// It breaks off after having received so many octets.
    pub resets_after: Option<usize>,
    /// Octets it takes at a time; a slow reader takes few.
    pub takes: usize,
}

/// How a program's connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The other end's last octet came, then its end.
    Cleanly,
    /// With an error.
    Reset,
}

/// What a workload does when it is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workload {
    /// Nobody listens.
    Refuses,
    /// It answers by a script; the seed of its octets is that of the script plus the number of the connection.
    Answers(Script),
}

impl Script {
    /// Sends so many octets, then ends its direction, and reads to the end.
    pub fn sends(sends: usize, seed: u64) -> Self {
        Self { sends, seed, waits: false, resets_after: None, takes: usize::MAX }
    }

    /// As [`Script::sends`], but only after all that comes.
    pub fn answers(sends: usize, seed: u64) -> Self {
        Self { waits: true, ..Self::sends(sends, seed) }
    }

    /// The octets it sends: the seed, then what is made from it.
    pub fn octets(&self) -> Vec<u8> {
        let mut random = crate::Random::new(self.seed);
        let words = std::iter::once(self.seed).chain(std::iter::repeat_with(|| random.next_u64()));
        words.flat_map(u64::to_le_bytes).take(self.sends).collect()
    }

    /// Whether octets are what some script sends: all of them, and no others.
    pub fn are_octets_of_some_script(octets: &[u8]) -> bool {
        let mut seed = [0; 8];
        let known = octets.len().min(8);
        seed[..known].copy_from_slice(&octets[..known]);
        Self::sends(octets.len(), u64::from_le_bytes(seed)).octets() == octets
    }
}

/// Octets between a program and its router, as much as a socket buffer holds.
const SOCKET_OCTETS: usize = 65_536;

/// A running program.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) script: Script,
    to_send: VecDeque<u8>,
    pub(super) received: Vec<u8>,
    has_seen_end: bool,
    pub(super) ended: Option<Ended>,
}

/// A TCP connection between a program and a router, as its two buffers.
#[derive(Debug, Default)]
pub(super) struct Socket {
    pub(super) to_router: VecDeque<u8>,
    pub(super) to_program: VecDeque<u8>,
    pub(super) program_ended: bool,
    pub(super) router_ended: bool,
    pub(super) is_reset: bool,
    pub(super) is_closed: bool,
    /// The router has said that a workload answered.
    pub(super) is_established: bool,
    /// The router waits to read, to write.
    pub(super) wants_read: bool,
    pub(super) wants_write: bool,
}

impl Program {
    pub(super) fn new(script: Script) -> Self {
        let to_send = script.octets().into();
        Self { script, to_send, received: Vec::new(), has_seen_end: false, ended: None }
    }

    /// Does what it can now. Whether it did anything.
    pub(super) fn step(&mut self, socket: &mut Socket) -> bool {
        if self.ended.is_some() {
            return false;
        }
        let before = (self.received.len(), self.to_send.len(), socket.program_ended, self.has_seen_end);
        self.receive(socket);
        self.send(socket);
        if self.script.resets_after.is_some_and(|limit| self.received.len() >= limit) || socket.is_reset {
            socket.is_reset = true;
            self.ended = Some(Ended::Reset);
        } else if self.has_seen_end && socket.program_ended {
            self.ended = Some(Ended::Cleanly);
        }
        before != (self.received.len(), self.to_send.len(), socket.program_ended, self.has_seen_end)
            || self.ended.is_some()
    }

    fn receive(&mut self, socket: &mut Socket) {
        let count = self.script.takes.min(socket.to_program.len());
        self.received.extend(socket.to_program.drain(..count));
        self.has_seen_end |= socket.to_program.is_empty() && socket.router_ended;
    }

    fn send(&mut self, socket: &mut Socket) {
        if self.script.waits && !self.has_seen_end {
            return;
        }
        let room = SOCKET_OCTETS.saturating_sub(socket.to_router.len());
        let count = room.min(self.to_send.len());
        socket.to_router.extend(self.to_send.drain(..count));
        if self.to_send.is_empty() {
            socket.program_ended = true;
        }
    }
}

impl Socket {
    /// What the router may write.
    pub(super) fn room(&self) -> usize {
        SOCKET_OCTETS.saturating_sub(self.to_program.len())
    }
}
