//! Reports, outcomes and ends: what travels against the octets, and how everything stops (docs/wire.md §8.6).
//!
//! | what happens | the far end sees | the near end sees |
//! |---|---|---|
//! | a socket's reading half ends | the delivery complete: half-close | – |
//! | the delivery from the far end is complete | accepted, settled | its writing half ends |
//! | a socket breaks | aborted (own ends that named `errors`), else complete and settled; its own delivery: modified | – |
//! | a link or connection on the way is lost | aborted; modified | reset |
//! | the far end turns a delivery down that nobody has answered | – | the next consumer is tried, else reset |

use super::attachment::{Attachment, Ending, Flow, Inlet, Outlet, Tried};
use super::crossing::{Crossing, Destination};
use super::routes::ShardId;
use super::{Io, Plane};
use crate::amqp::DeliveryState;
use crate::slab::Key;

impl Plane {
    // === from the inlet ===

    /// The inlet of a direction has nothing more to give. `is_settled`: and wants to hear no more.
    pub(super) fn inlet_ended(&mut self, io: &mut impl Io, key: Key, ending: Ending, is_settled: bool) {
        let Some(attachment) = self.attachments.get_mut(key).filter(|attachment| attachment.ended.is_none()) else {
            return;
        };
        let is_gathering = attachment.gathering().is_some();
        attachment.ended = Some(ending);
        attachment.is_inlet_settled |= is_settled;
        let (inlet, gathered) = (attachment.inlet, std::mem::take(&mut attachment.gathered));
        self.count_gathered(io, inlet, gathered, key);
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        match (ending, attachment.outlet) {
            (Ending::Complete, Outlet::Undecided) if is_gathering => self.consider(io, key),
            (_, Outlet::Shard { shard }) => {
                attachment.is_outlet_done = true;
                // The second half of what is aborted says nothing more.
                attachment.is_outlet_settled |= ending == Ending::Aborted;
                io.post(shard, Crossing::End { from: key, ending });
            }
            (Ending::Complete, _) => self.advance(io, key),
            (Ending::Aborted, Outlet::Socket(stream) | Outlet::Connecting(stream)) => self.break_stream(io, stream),
            (Ending::Aborted, _) => self.drop_outlet(io, key),
        }
        self.settle_inlet(key);
        self.reap(key);
    }

    /// The sender of a delivery has settled it: it is not told more, but what came goes on.
    pub(super) fn inlet_settled(&mut self, key: Key) {
        if let Some(attachment) = self.attachments.get_mut(key) {
            attachment.is_inlet_settled = true;
        }
        self.reap(key);
    }

    /// Once a delivery is complete, an outcome told before is told again, settled: the sender ignores it earlier.
    fn settle_inlet(&mut self, key: Key) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        if attachment.is_inlet_settled || attachment.ended.is_none() || attachment.verdict.is_none() {
            return;
        }
        if let Inlet::Delivery { connection: at, delivery, .. } = attachment.inlet {
            attachment.is_inlet_settled = true;
            if let Some(connection) = self.connections.get_mut(at) {
                connection.engine.dispose(delivery, attachment.verdict.clone(), true);
            }
            self.touch(at);
        }
    }

    // === towards the inlet ===

    /// Tells the inlet's side how many octets the workload has taken altogether.
    pub(super) fn tell_report(&mut self, io: &mut impl Io, key: Key, offset: u64) {
        let state = DeliveryState::Received { section_number: 0, section_offset: offset };
        let Some(attachment) = self.attachments.get(key).filter(|attachment| !attachment.is_inlet_settled) else {
            return;
        };
        match attachment.inlet {
            Inlet::Delivery { connection: at, delivery, .. } => {
                if let Some(connection) = self.connections.get_mut(at) {
                    connection.engine.dispose(delivery, Some(state), false);
                }
                self.touch(at);
            }
            Inlet::Shard { shard, first_half } => {
                io.post(shard, Crossing::State { to: first_half, state: Some(state), is_settled: false });
            }
            Inlet::Socket(_) | Inlet::Control => {}
        }
    }

    /// Tells the inlet's side the outcome: unsettled while it still sends, settled after that.
    pub(super) fn tell_outcome(&mut self, io: &mut impl Io, key: Key, state: DeliveryState) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        if attachment.verdict.is_some() || attachment.is_inlet_settled {
            return;
        }
        attachment.verdict = Some(state.clone());
        match attachment.inlet {
            Inlet::Delivery { connection: at, delivery, .. } if attachment.ended.is_none() => {
                if let Some(connection) = self.connections.get_mut(at) {
                    connection.engine.dispose(delivery, Some(state), false);
                }
                self.touch(at);
            }
            Inlet::Shard { shard, first_half } => {
                attachment.is_inlet_settled = true;
                io.post(shard, Crossing::State { to: first_half, state: Some(state), is_settled: true });
            }
            Inlet::Delivery { .. } | Inlet::Socket(_) | Inlet::Control => {}
        }
        self.settle_inlet(key);
    }

    // === from the outlet ===

    /// The receiver of a direction says something about it.
    pub(super) fn recv_state(&mut self, io: &mut impl Io, key: Key, state: Option<DeliveryState>, is_settled: bool) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        attachment.is_outlet_settled |= is_settled;
        match state {
            Some(DeliveryState::Received { section_offset, .. }) => self.recv_report(io, key, section_offset),
            Some(DeliveryState::Released) if attachment.may_be_offered_again() => self.turned_down(io, key),
            Some(state) if state.is_terminal() => self.recv_outcome(io, key, state),
            _ if is_settled => self.recv_outcome(io, key, DeliveryState::Accepted),
            _ => {}
        }
        self.reap(key);
    }

    fn recv_report(&mut self, io: &mut impl Io, key: Key, offset: u64) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        attachment.message = attachment.message.take().filter(|_| matches!(attachment.inlet, Inlet::Socket(_)));
        match &mut attachment.flow {
            Flow::Sending(window) | Flow::Crossing { window, .. } => {
                window.recv_report(offset);
                self.advance(io, key);
            }
            _ => self.tell_report(io, key, offset),
        }
    }

    fn recv_outcome(&mut self, io: &mut impl Io, key: Key, state: DeliveryState) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        if let Flow::Sending(window) | Flow::Crossing { window, .. } = &mut attachment.flow {
            window.switch_off();
        }
        let is_accepted = state == DeliveryState::Accepted;
        match attachment.inlet {
            // Accepted early: the window is off, the rest goes on.
            Inlet::Socket(_) if is_accepted => self.advance(io, key),
            // Also when all of it was sent: it has not arrived.
            Inlet::Socket(stream) => self.break_stream(io, stream),
            _ => {
                self.tell_outcome(io, key, state);
                if !is_accepted {
                    self.drop_outlet(io, key);
                }
            }
        }
    }

    /// A consumer will not have an offer: it goes to the next one, or back.
    pub(super) fn turned_down(&mut self, io: &mut impl Io, key: Key) {
        self.leave_outlet(io, key);
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let is_tried = match attachment.message.as_deref_mut().map(|offer| (offer.tried, &mut offer.excluded)) {
            Some((Some(Tried::Connector(connector)), excluded)) => {
                excluded.connectors.push(connector);
                true
            }
            Some((Some(Tried::NextHop(link)), excluded)) => {
                excluded.next_hops.push(link);
                true
            }
            _ => false,
        };
        if is_tried {
            self.route(io, key);
        } else {
            self.refuse(io, key, DeliveryState::Released);
        }
    }

    /// The connection or link that a direction leaves by is gone. An offer that nobody has answered finds another way.
    pub(super) fn outlet_lost(&mut self, io: &mut impl Io, key: Key) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        attachment.outlet = Outlet::Undecided;
        if attachment.message.is_some() && !attachment.is_outlet_done {
            self.leave_outlet(io, key);
            return self.route(io, key);
        }
        match attachment.inlet {
            Inlet::Socket(stream) if self.streams.get(stream).is_some() => {
                self.attachments.get_mut(key).expect("found above").discard();
                self.break_stream(io, stream);
                self.reap(key);
            }
            _ => {
                self.tell_outcome(io, key, DeliveryState::FAILED);
                self.drop_outlet(io, key);
            }
        }
    }

    // === leaving ===

    /// Takes a direction away from its outlet so that it can go elsewhere.
    fn leave_outlet(&mut self, io: &mut impl Io, key: Key) {
        self.abort_outlet(io, key);
        if let Some(attachment) = self.attachments.get_mut(key) {
            attachment.outlet = Outlet::Undecided;
            attachment.parked = Default::default();
            attachment.carried = None;
            attachment.is_outlet_done = false;
            attachment.is_outlet_settled = false;
            attachment.is_scheduled = false;
            if let Flow::Crossing { window, .. } = attachment.flow {
                attachment.flow = Flow::Sending(window);
            }
        }
    }

    /// Takes a direction away from its outlet for good; what still comes is thrown away.
    pub(super) fn drop_outlet(&mut self, io: &mut impl Io, key: Key) {
        self.abort_outlet(io, key);
        if let Some(attachment) = self.attachments.get_mut(key) {
            attachment.discard();
            if matches!(attachment.inlet, Inlet::Shard { .. }) {
                attachment.ended.get_or_insert(Ending::Aborted);
            }
        }
        self.reap(key);
    }

    fn abort_outlet(&mut self, io: &mut impl Io, key: Key) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        match attachment.outlet {
            Outlet::Link { connection: at, link, lane, .. } if !attachment.is_outlet_done => {
                if let Some(connection) = self.connections.get_mut(at) {
                    connection.engine.abort(link, None);
                    connection.release(link, lane);
                }
                self.touch(at);
                self.serve(io, at, lane);
            }
            Outlet::Connecting(stream) if self.streams.remove(stream).is_some() => {
                self.counters.streams -= 1;
                io.close(stream, true);
            }
            Outlet::Shard { shard } if !attachment.is_outlet_done => {
                io.post(shard, Crossing::End { from: key, ending: Ending::Aborted });
            }
            _ => {}
        }
    }

    /// A sender has overrun its window by far: the stream is given up.
    pub(super) fn overrun(&mut self, io: &mut impl Io, key: Key) {
        let Some(attachment) = self.attachments.get(key) else { return };
        match attachment.outlet {
            Outlet::Socket(stream) => self.break_stream(io, stream),
            _ => {
                self.tell_outcome(io, key, DeliveryState::FAILED);
                self.drop_outlet(io, key);
            }
        }
    }

    /// Forgets a direction of which everybody has had their last word.
    pub(super) fn reap(&mut self, key: Key) {
        if self.attachments.get(key).is_some_and(Attachment::is_over)
            && let Some(attachment) = self.attachments.remove(key)
            && let Inlet::Shard { shard, first_half } = attachment.inlet
        {
            self.second_halves.remove(&(shard, first_half));
        }
    }

    // === sockets ===

    /// Everything for a socket is written: its writing half ends.
    pub(super) fn socket_finished(&mut self, io: &mut impl Io, key: Key, stream: Key) {
        if let Some(attachment) = self.attachments.get_mut(key) {
            attachment.is_outlet_done = true;
            attachment.is_outlet_settled = true;
        }
        io.shut_down(stream);
        self.tell_outcome(io, key, DeliveryState::Accepted);
        self.reap(key);
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.is_write_done = true;
            stream.down = None;
        }
        self.close_if_done(io, stream);
    }

    /// A socket's reading half has ended.
    pub(super) fn read_ended(&mut self, io: &mut impl Io, stream: Key) {
        if let Some(stream) = self.streams.get_mut(stream) {
            stream.is_read_done = true;
            stream.up = None;
        }
        self.close_if_done(io, stream);
    }

    fn close_if_done(&mut self, io: &mut impl Io, stream: Key) {
        if self.streams.get(stream).is_some_and(|stream| stream.is_read_done && stream.is_write_done) {
            self.streams.remove(stream);
            self.counters.streams -= 1;
            io.close(stream, false);
        }
    }

    /// A stream is over before its end: the socket is reset, and the far end learns of it as well as it can.
    pub(super) fn break_stream(&mut self, io: &mut impl Io, key: Key) {
        let Some(stream) = self.streams.remove(key) else { return };
        self.counters.streams -= 1;
        io.close(key, true);
        if let Some(up) = stream.up {
            self.break_up(io, up, stream.features.errors);
        }
        if let Some(down) = stream.down {
            self.tell_outcome(io, down, DeliveryState::FAILED);
            if let Some(attachment) = self.attachments.get_mut(down) {
                // The other socket of a stream within this router.
                if let Inlet::Socket(other) = attachment.inlet {
                    attachment.ended.get_or_insert(Ending::Aborted);
                    attachment.discard();
                    self.break_stream(io, other);
                }
            }
            self.drop_outlet(io, down);
        }
    }

    /// Ends the direction that read a broken socket.
    fn break_up(&mut self, io: &mut impl Io, key: Key, is_error_carried: bool) {
        let Some(attachment) = self.attachments.get_mut(key).filter(|attachment| attachment.ended.is_none()) else {
            return;
        };
        match attachment.outlet {
            Outlet::Socket(other) => {
                attachment.ended = Some(Ending::Aborted);
                attachment.discard();
                self.break_stream(io, other);
                self.reap(key);
            }
            Outlet::Link { .. } if !is_error_carried => {
                attachment.message = None;
                attachment.settles_itself = true;
                self.inlet_ended(io, key, Ending::Complete, true);
            }
            _ => self.inlet_ended(io, key, Ending::Aborted, true),
        }
    }

    // === crossings ===

    pub(super) fn recv_crossing(&mut self, io: &mut impl Io, from: ShardId, message: Crossing) {
        match message {
            Crossing::Open { from: first_half, destination, octets, is_settled, wants_taken } => {
                let inlet = Inlet::Shard { shard: from, first_half };
                let flow = if wants_taken { Flow::Leaving { untold: 0 } } else { Flow::Passing };
                let mut attachment = Attachment::new(inlet, Outlet::Undecided, flow);
                attachment.is_inlet_settled = is_settled;
                let key = self.attachments.insert(attachment);
                self.second_halves.insert((from, first_half), key);
                self.open_second_half(io, key, destination, octets, is_settled);
            }
            Crossing::Payload { from: first_half, octets } => {
                if let Some(&key) = self.second_halves.get(&(from, first_half)) {
                    self.push(io, key, &[&octets]);
                }
            }
            Crossing::End { from: first_half, ending } => {
                if let Some(&key) = self.second_halves.get(&(from, first_half)) {
                    self.inlet_ended(io, key, ending, ending == Ending::Aborted);
                }
            }
            Crossing::Taken { to, octets } => {
                if let Some(Flow::Crossing { under_way, .. }) =
                    self.attachments.get_mut(to).map(|attachment| &mut attachment.flow)
                {
                    *under_way = under_way.saturating_sub(octets);
                }
                self.advance(io, to);
            }
            Crossing::State { to, state, is_settled } => self.recv_state(io, to, state, is_settled),
        }
    }

    fn open_second_half(
        &mut self,
        io: &mut impl Io,
        key: Key,
        destination: Destination,
        octets: bytes::Bytes,
        is_settled: bool,
    ) {
        match destination {
            Destination::Stream { stream, salt, features } => {
                self.bind_server_stream(io, key, stream, salt, features, &octets)
            }
            Destination::Connection { connection, lane } => match self.by_id.get(&connection) {
                Some(&connection) => {
                    let attachment = self.attachments.get_mut(key).expect("inserted by the caller");
                    attachment.outlet = Outlet::Queued { connection, lane };
                    attachment.parked.push(octets);
                    self.enter_line(io, key, connection, lane, is_settled);
                }
                None => self.refuse(io, key, DeliveryState::Released),
            },
        }
    }
}
