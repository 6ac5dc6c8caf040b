//! What leaves: frames on connections, octets to sockets and to other shards.
//!
//! Reading is *late*: a socket that can be read only enters its connection's scheduler. When the connection has room, the
//! scheduler picks whose turn it is, and only then are octets read, framed and sealed, all in one go. Nothing is buffered on
//! the way, the client's TCP window is the back-pressure, and frames are full because data had time to gather.

use std::io::IoSlice;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::attachment::{Ending, Flow, Inlet, Lane, Outlet};
use super::crossing::{CROSSING_OCTETS, Crossing, TAKEN_OCTETS};
use super::tally::End;
use super::{Io, Plane, Read, Write};
use crate::amqp::{DeliveryState, LinkId};
use crate::slab::Key;

/// Pieces put into one frame, or one write, at most.
const MAX_PIECES: usize = 16;

/// Reads from one socket straight to another in a row, before others have a turn.
const READS_IN_A_ROW: usize = 4;

/// How long a link to a router of another kind carries no stream after one of which we do not hear whether it has arrived.
const UNHEARD_REST: Duration = Duration::from_secs(10);

/// What came of a turn on a connection.
enum Turn {
    /// Nothing more for now; somebody will say when there is.
    Idle,
    /// It is not this connection's any more.
    Gone,
    /// The peer takes no more frames on this session.
    Blocked(u16),
    /// So many octets were sent, and there may be more.
    Sent(usize),
}

impl Plane {
    /// Sends what is ready on every connection that was touched.
    pub(super) fn flush(&mut self, io: &mut impl Io) {
        while let Some(key) = self.dirty.pop() {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.is_dirty = false;
                self.pump(io, key);
                self.tell_trace(io, key);
            }
        }
    }

    pub(super) fn tell_trace(&mut self, io: &mut impl Io, key: Key) {
        if let Some(connection) = self.connections.get_mut(key) {
            let id = connection.id;
            connection.engine.take_trace().iter().for_each(|line| io.trace(id, line));
        }
    }

    fn pump(&mut self, io: &mut impl Io, key: Key) {
        loop {
            let Some(mut connection) = self.connections.get_mut(key) else { return };
            if connection.has_control() {
                self.send_control_messages(io, key);
                let Some(again) = self.connections.get_mut(key) else { return };
                connection = again;
            }
            if io.room(key) == 0 {
                break;
            }
            let is_full = connection.is_full();
            let next = if is_full { connection.next_little() } else { connection.scheduler.next() };
            let Some((attachment, allowance)) = next else { break };
            let turn = self.transmit(io, key, attachment, allowance);
            let Some(connection) = self.connections.get_mut(key) else { return };
            match turn {
                Turn::Sent(sent) if is_full => connection.put_back_little(attachment, allowance, sent),
                Turn::Sent(sent) => connection.scheduler.put_back(attachment, allowance, sent),
                Turn::Blocked(channel) => connection.blocked.push((channel, attachment)),
                Turn::Gone => {}
                Turn::Idle => {
                    if let Some(attachment) = self.attachments.get_mut(attachment) {
                        attachment.is_scheduled = false;
                    }
                }
            }
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        if !connection.engine.output().is_empty() {
            io.send(key, &[connection.engine.output()]);
            connection.engine.clear_output();
        }
    }

    fn send_control_messages(&mut self, io: &mut impl Io, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        while let Some((payload, link, more)) = connection.next_control() {
            // The peer may have detached the link.
            if connection.engine.transfer(link, payload.len(), more).is_none() {
                return;
            }
            if !more {
                connection.count_begun(link, self.now);
                connection.count_end(link, self.now, End::Presettled, None);
            }
            io.send(key, &[connection.engine.output(), &payload]);
            connection.engine.clear_output();
        }
    }

    /// Gives one direction its turn on its connection.
    fn transmit(&mut self, io: &mut impl Io, connection_key: Key, key: Key, allowance: usize) -> Turn {
        let Some(attachment) = self.attachments.get_mut(key) else { return Turn::Gone };
        let Outlet::Link { connection, link, .. } = attachment.outlet else { return Turn::Gone };
        if connection != connection_key {
            return Turn::Gone;
        }
        let Some(connection) = self.connections.get_mut(connection).filter(|_| !attachment.is_outlet_done) else {
            return Turn::Idle;
        };
        if !connection.engine.has_window(link) {
            return Turn::Blocked(link.channel());
        }
        let most = connection.engine.max_payload(link).min(allowance);
        if !attachment.parked.is_empty() {
            return self.transmit_parked(io, key, most);
        }
        match (attachment.ended, attachment.inlet) {
            (Some(_), _) => {
                self.send_frame(io, key, &[], false);
                self.outlet_finished(io, key);
                Turn::Idle
            }
            (None, Inlet::Socket(stream)) => self.transmit_read(io, key, stream, most),
            _ => Turn::Idle,
        }
    }

    fn transmit_parked(&mut self, io: &mut impl Io, key: Key, most: usize) -> Turn {
        let Some(attachment) = self.attachments.get_mut(key) else { return Turn::Idle };
        let mut parked = std::mem::take(&mut attachment.parked);
        let pieces: Vec<&[u8]> = parked.pieces(MAX_PIECES).collect();
        let pieces = Pieces::new(&pieces).take(most);
        let sent = pieces.iter().map(|piece| piece.len()).sum();
        let is_last = attachment.ended == Some(Ending::Complete) && sent == parked.len();
        self.send_frame(io, key, &pieces, !is_last);
        parked.consume(sent);
        if let Some(attachment) = self.attachments.get_mut(key) {
            attachment.parked = parked;
        }
        self.count_held(key);
        self.left(io, key, sent);
        if is_last {
            self.outlet_finished(io, key);
            return Turn::Idle;
        }
        Turn::Sent(sent)
    }

    fn transmit_read(&mut self, io: &mut impl Io, key: Key, stream: Key, most: usize) -> Turn {
        let Some(attachment) = self.attachments.get_mut(key) else { return Turn::Idle };
        let Flow::Sending(window) = &mut attachment.flow else { return Turn::Idle };
        let early_room = attachment.message.as_ref().map_or(usize::MAX, |offer| offer.early_room());
        let most = most.min(window.room()).min(self.buffer.len()).min(early_room);
        if most == 0 {
            return Turn::Idle; // a report opens it again
        }
        match io.read(stream, &mut self.buffer[..most]) {
            Read::Octets(count) => {
                window.count(count);
                self.counters.octets_in += count as u64;
                let buffer = std::mem::take(&mut self.buffer);
                if let Some(offer) = &mut attachment.message {
                    offer.early.extend_from_slice(&buffer[..count]);
                    self.charge(key);
                }
                self.send_frame(io, key, &[&buffer[..count]], true);
                self.buffer = buffer;
                Turn::Sent(count)
            }
            Read::Blocked => Turn::Idle,
            // Said again when somebody has answered.
            Read::End if attachment.message.is_some() => Turn::Idle,
            Read::End => {
                attachment.ended = Some(Ending::Complete);
                self.send_frame(io, key, &[], false);
                self.outlet_finished(io, key);
                self.read_ended(io, stream);
                Turn::Idle
            }
            Read::Failed => {
                self.break_stream(io, stream);
                Turn::Sent(0) // there may be an end to tell
            }
        }
    }

    /// Sends one frame of a direction's delivery.
    fn send_frame(&mut self, io: &mut impl Io, key: Key, pieces: &[&[u8]], more: bool) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let Outlet::Link { connection: at, link, delivery, .. } = &mut attachment.outlet else { return };
        let Some(connection) = self.connections.get_mut(*at) else { return };
        let length = pieces.iter().map(|piece| piece.len()).sum();
        // The peer may have detached the link, and is not to be sent a payload without its frame.
        let Some(sent) = connection.engine.transfer(*link, length, more) else { return };
        connection.count_sent(link.channel(), length, self.now);
        if delivery.is_none() {
            *delivery = Some(sent);
            connection.count_begun(*link, self.now);
            connection.note_credit(*link, self.now);
        }
        let mut parts = Vec::with_capacity(1 + pieces.len());
        parts.push(connection.engine.output());
        parts.extend_from_slice(pieces);
        io.send(*at, &parts);
        connection.engine.clear_output();
    }

    /// The last frame of a direction has left: its link is free again.
    fn outlet_finished(&mut self, io: &mut impl Io, key: Key) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        attachment.is_outlet_done = true;
        let Outlet::Link { connection: at, link, lane, delivery } = attachment.outlet else { return };
        if let Some(connection) = self.connections.get_mut(at) {
            if attachment.is_outlet_settled {
                connection.count_end(link, self.now, End::Presettled, attachment.took(self.now));
            }
            if attachment.settles_itself && !attachment.is_outlet_settled {
                attachment.is_outlet_settled = true;
                if let Some(delivery) = delivery {
                    connection.engine.dispose(delivery, None, true);
                }
            }
            let rests_until = if attachment.settles_itself { self.now + UNHEARD_REST } else { Duration::ZERO };
            connection.release(link, lane, rests_until);
        }
        // Whoever wants everything settled says nothing of it; it is the sender who waits.
        if matches!(lane, Lane::Endpoint(_)) && attachment.is_outlet_settled && !attachment.is_inlet_settled {
            self.tell_outcome(io, key, DeliveryState::Accepted);
        }
        self.touch(at);
        self.serve(io, at, lane);
        self.finish_drain(at, lane);
        self.reap(io, key);
    }

    /// Gives free links of a lane to those in line.
    pub(super) fn serve(&mut self, io: &mut impl Io, key: Key, lane: Lane) {
        while let Some((waiting, link)) = self.connections.get_mut(key).and_then(|connection| connection.serve(lane)) {
            let attachment = self.attachments.get_mut(waiting);
            let is_waiting =
                |outlet| matches!(outlet, Outlet::Queued { connection, lane: of } if (connection, of) == (key, lane));
            match attachment.filter(|attachment| is_waiting(attachment.outlet)) {
                Some(attachment) => {
                    attachment.outlet = Outlet::Link { connection: key, link, lane, delivery: None };
                    self.advance(io, waiting);
                }
                // It has gone elsewhere meanwhile.
                None => {
                    let connection = self.connections.get_mut(key).expect("it served above");
                    connection.abort(link, lane);
                }
            }
        }
    }

    /// Something has become possible for a direction: its inlet has octets, or its outlet room.
    pub(super) fn advance(&mut self, io: &mut impl Io, key: Key) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        match attachment.outlet {
            Outlet::Link { connection: at, .. } if !attachment.is_outlet_done => {
                let was_scheduled = std::mem::replace(&mut attachment.is_scheduled, true);
                if let Some(connection) = self.connections.get_mut(at).filter(|_| !was_scheduled) {
                    connection.scheduler.enter(key);
                }
                self.touch(at);
            }
            Outlet::Socket(stream) if !attachment.is_outlet_done => self.write_on(io, key, stream),
            Outlet::Shard { .. } => self.read_across(io, key),
            _ => {}
        }
    }

    /// Passes octets on as they come; what cannot leave now is parked.
    pub(super) fn push(&mut self, io: &mut impl Io, key: Key, pieces: &[&[u8]]) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let can_go = attachment.parked.is_empty();
        let mut rest = Pieces::new(pieces);
        match attachment.outlet {
            Outlet::Socket(stream) if can_go => self.push_to_socket(io, key, stream, &mut rest),
            Outlet::Link { connection, link, .. } if can_go && !attachment.is_scheduled => {
                self.push_to_link(io, key, connection, link, &mut rest);
            }
            Outlet::Shard { shard } => return self.push_across(io, key, shard, pieces),
            Outlet::Copies => return self.push_to_copies(io, key, pieces),
            Outlet::Discard => return,
            _ => {}
        }
        self.park(io, key, rest);
    }

    fn park(&mut self, io: &mut impl Io, key: Key, rest: Pieces<'_>) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        if rest.is_empty() || matches!(attachment.outlet, Outlet::Discard) {
            return;
        }
        let most = attachment.most_parked(self.memory.is_exhausted());
        if most.is_some_and(|most| attachment.parked.len() > most) {
            return self.overrun(io, key);
        }
        rest.for_each(|piece| attachment.parked.copy(piece));
        if let Flow::Receiving(reports) = &mut attachment.flow {
            reports.arrived(attachment.parked.len(), self.now);
        }
        self.count_held(key);
        let Some(attachment) = self.attachments.get(key) else { return };
        // A socket that is blocked says itself when it is not.
        if matches!(attachment.outlet, Outlet::Link { .. }) {
            self.advance(io, key);
        }
    }

    fn push_to_link(&mut self, io: &mut impl Io, key: Key, connection: Key, link: LinkId, rest: &mut Pieces<'_>) {
        while !rest.is_empty() && io.room(connection) > 0 {
            let Some(at) = self.connections.get_mut(connection) else { return };
            if at.is_full() || !at.engine.has_window(link) {
                return;
            }
            let frame = rest.take(at.engine.max_payload(link));
            let sent: usize = frame.iter().map(|piece| piece.len()).sum();
            self.send_frame(io, key, &frame, true);
            self.left(io, key, sent);
        }
    }

    // === sockets ===

    fn push_to_socket(&mut self, io: &mut impl Io, key: Key, stream: Key, rest: &mut Pieces<'_>) {
        while !rest.is_empty() {
            let slices: Vec<IoSlice<'_>> = rest.peek(MAX_PIECES).map(IoSlice::new).collect();
            match io.write(stream, &slices) {
                Write::Octets(count) => {
                    rest.skip(count);
                    self.written(io, key, count);
                }
                Write::Blocked => return,
                Write::Failed => return self.break_stream(io, stream),
            }
        }
    }

    /// Writes what is parked for a socket, then, if the inlet is a socket too, reads on; ends it if all is written.
    fn write_on(&mut self, io: &mut impl Io, key: Key, stream: Key) {
        for _ in 0..READS_IN_A_ROW {
            let is_written = self.write_parked(io, key, stream);
            self.charge(key);
            if !is_written {
                return;
            }
            let Some(attachment) = self.attachments.get_mut(key) else { return };
            match (attachment.ended, attachment.inlet) {
                (Some(_), _) => return self.socket_finished(io, key, stream),
                (None, Inlet::Socket(source)) => {
                    if !self.read_through(io, key, source) {
                        return;
                    }
                }
                _ => return,
            }
        }
        self.again.push(key);
    }

    /// Whether nothing is parked any more.
    fn write_parked(&mut self, io: &mut impl Io, key: Key, stream: Key) -> bool {
        loop {
            let Some(attachment) = self.attachments.get_mut(key) else { return false };
            if attachment.parked.is_empty() {
                return true;
            }
            let slices: Vec<IoSlice<'_>> = attachment.parked.pieces(MAX_PIECES).map(IoSlice::new).collect();
            match io.write(stream, &slices) {
                Write::Octets(count) => {
                    attachment.parked.consume(count);
                    self.written(io, key, count);
                }
                Write::Blocked => return false,
                Write::Failed => {
                    self.break_stream(io, stream);
                    return false;
                }
            }
        }
    }

    fn written(&mut self, io: &mut impl Io, key: Key, count: usize) {
        self.counters.octets_out += count as u64;
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        if let Flow::Receiving(reports) = &mut attachment.flow
            && let Some(received) =
                reports.count(count, attachment.parked.len(), self.now, |written| self.memory.largest_window(written))
        {
            self.charge(key);
            self.tell_report(io, key, received);
        }
    }

    /// Reads a socket whose octets go to another socket of this shard. Whether to go on.
    fn read_through(&mut self, io: &mut impl Io, key: Key, source: Key) -> bool {
        match io.read(source, &mut self.buffer) {
            Read::Octets(count) => {
                self.counters.octets_in += count as u64;
                let buffer = std::mem::take(&mut self.buffer);
                self.push(io, key, &[&buffer[..count]]);
                self.buffer = buffer;
                true
            }
            Read::Blocked => false,
            Read::End => {
                if let Some(attachment) = self.attachments.get_mut(key) {
                    attachment.ended = Some(Ending::Complete);
                }
                self.read_ended(io, source);
                true
            }
            Read::Failed => {
                self.break_stream(io, source);
                false
            }
        }
    }

    // === other shards ===

    fn push_across(&mut self, io: &mut impl Io, key: Key, shard: super::ShardId, pieces: &[&[u8]]) {
        let mut octets = BytesMut::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
        pieces.iter().for_each(|piece| octets.extend_from_slice(piece));
        if let Some(attachment) = self.attachments.get_mut(key) {
            attachment.under_way += octets.len();
        }
        self.count_held(key);
        self.post_payload(io, key, shard, octets.freeze());
    }

    fn post_payload(&mut self, io: &mut impl Io, key: Key, shard: super::ShardId, octets: Bytes) {
        self.counters.octets_crossed += octets.len() as u64;
        io.post(shard, Crossing::Payload { from: key, octets });
    }

    /// Reads a socket whose octets leave through another shard, as far as the windows allow.
    fn read_across(&mut self, io: &mut impl Io, key: Key) {
        loop {
            let Some(attachment) = self.attachments.get_mut(key) else { return };
            let (Outlet::Shard { shard }, Inlet::Socket(stream)) = (attachment.outlet, attachment.inlet) else {
                return;
            };
            let Flow::Crossing { window } = &mut attachment.flow else { return };
            let most = CROSSING_OCTETS.saturating_sub(attachment.under_way).min(window.room()).min(self.buffer.len());
            if most == 0 || attachment.ended.is_some() || attachment.message.is_some() {
                return;
            }
            match io.read(stream, &mut self.buffer[..most]) {
                Read::Octets(count) => {
                    window.count(count);
                    attachment.under_way += count;
                    self.counters.octets_in += count as u64;
                    let octets = Bytes::copy_from_slice(&self.buffer[..count]);
                    self.post_payload(io, key, shard, octets);
                }
                Read::Blocked => return,
                Read::End => {
                    self.inlet_ended(io, key, Ending::Complete, true);
                    return self.read_ended(io, stream);
                }
                Read::Failed => return self.break_stream(io, stream),
            }
        }
    }

    // === several places ===

    fn push_to_copies(&mut self, io: &mut impl Io, key: Key, pieces: &[&[u8]]) {
        let copies = self.attachments.get(key).and_then(|attachment| attachment.copies.as_ref());
        for copy in copies.map(|copies| copies.keys.clone()).unwrap_or_default() {
            self.push(io, copy, pieces);
        }
    }

    /// Brings the count of octets up to date that wait of what a session brought.
    pub(super) fn count_held(&mut self, key: Key) {
        self.charge(key);
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        // What has left another shard is told in rounds: the last of it is always untold.
        let waiting = attachment.parked.len() + attachment.under_way.saturating_sub(TAKEN_OCTETS);
        let now = if attachment.has_no_window { waiting } else { 0 };
        let before = std::mem::replace(&mut attachment.held, now);
        if now == before {
            return;
        }
        if let Some((connection, channel)) = self.source(key)
            && let Some(source) = self.connections.get_mut(connection)
        {
            source.count_waiting(channel, before, now);
            self.touch(connection);
        }
    }

    /// The connection, and the session, that a direction comes in by.
    pub(super) fn source(&self, key: Key) -> Option<(Key, u16)> {
        match self.attachments.get(key)?.inlet {
            Inlet::Delivery { connection, link, .. } => Some((connection, link.channel())),
            Inlet::Copy { original } => self.source(original),
            _ => None,
        }
    }

    /// Octets of a direction have left on a link; a first half in another shard may want to know.
    fn left(&mut self, io: &mut impl Io, key: Key, count: usize) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        match (&mut attachment.flow, attachment.inlet) {
            (Flow::Leaving { untold }, Inlet::Shard { shard, first_half }) => {
                *untold += count;
                if *untold >= TAKEN_OCTETS {
                    io.post(shard, Crossing::Taken { to: first_half, octets: std::mem::take(untold) });
                }
            }
            (_, Inlet::Delivery { .. }) => self.counters.octets_transit += count as u64,
            _ => {}
        }
    }
}

/// A list of pieces that is used up from the front.
struct Pieces<'a> {
    pieces: &'a [&'a [u8]],
    /// Octets of the first piece that are used up.
    used: usize,
}

impl<'a> Pieces<'a> {
    fn new(pieces: &'a [&'a [u8]]) -> Self {
        let mut new = Self { pieces, used: 0 };
        new.skip(0);
        new
    }

    fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    fn peek(&self, max: usize) -> impl Iterator<Item = &'a [u8]> {
        let used = self.used;
        self.pieces.iter().take(max).enumerate().map(move |(n, piece)| if n == 0 { &piece[used..] } else { *piece })
    }

    fn skip(&mut self, count: usize) {
        self.used += count;
        while let Some((first, rest)) = self.pieces.split_first()
            && self.used >= first.len()
        {
            self.used -= first.len();
            self.pieces = rest;
        }
    }

    /// Takes up to `most` octets.
    fn take(&mut self, most: usize) -> Vec<&'a [u8]> {
        let mut left = most;
        let mut taken = Vec::with_capacity(self.pieces.len().min(MAX_PIECES));
        for piece in self.peek(MAX_PIECES) {
            let piece = &piece[..piece.len().min(left)];
            left -= piece.len();
            taken.push(piece);
            if left == 0 {
                break;
            }
        }
        self.skip(most - left);
        taken
    }

    fn for_each(mut self, mut each: impl FnMut(&'a [u8])) {
        while !self.is_empty() {
            for piece in self.take(usize::MAX) {
                each(piece);
            }
        }
    }
}
