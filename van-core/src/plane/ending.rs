//! Reports, outcomes and ends: what travels against the octets, and how everything stops (docs/wire.md §8.6).
//!
//! | what happens | the far end sees | the near end sees |
//! |---|---|---|
//! | a socket's reading half ends | the delivery complete: half-close | – |
//! | the delivery from the far end is complete | accepted, settled | its writing half ends |
//! | a socket breaks | aborted (own ends that named `errors`), else complete and settled; its own delivery: modified | – |
//! | a link or connection on the way is lost | aborted; modified | reset |
//! | the far end turns a delivery down that nobody has answered | – | the next consumer is tried, else reset |

use super::attachment::{Attachment, Ending, Flow, Inlet, Lane, Outlet, Tried};
use super::crossing::{Crossing, Destination};
use super::routes::{ConnectionRef, ShardId};
use super::tally::End;
use super::window::{FOREIGN_WINDOW, MAX_WINDOW, Received, SendWindow};
use super::{Io, Plane, Purpose};
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
            (_, Outlet::Copies) => self.copies_ended(io, key, ending),
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
        self.reap(io, key);
    }

    /// The sender of a delivery has settled it: it is not told more, but what came goes on.
    pub(super) fn inlet_settled(&mut self, io: &mut impl Io, key: Key) {
        if let Some(attachment) = self.attachments.get_mut(key) {
            attachment.is_inlet_settled = true;
        }
        self.reap(io, key);
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

    /// Tells the inlet's side how many octets the workload has taken altogether, and the window it is to have.
    pub(super) fn tell_report(&mut self, io: &mut impl Io, key: Key, received: Received) {
        let state = |window| DeliveryState::Received { section_number: window, section_offset: received.offset };
        let Some(attachment) = self.attachments.get(key).filter(|attachment| !attachment.is_inlet_settled) else {
            return;
        };
        match attachment.inlet {
            Inlet::Delivery { connection: at, delivery, .. } => {
                if let Some(connection) = self.connections.get_mut(at) {
                    let most = if connection.engine.is_peer_alike() { MAX_WINDOW } else { FOREIGN_WINDOW };
                    let most = most.min(self.memory.largest_passing());
                    connection.engine.dispose(delivery, Some(state(received.window.min(most))), false);
                }
                self.touch(at);
            }
            Inlet::Shard { shard, first_half } => {
                let state = Some(state(received.window));
                io.post(shard, Crossing::State { to: first_half, state, is_settled: false });
            }
            Inlet::Socket(_) | Inlet::Control | Inlet::Copy { .. } => {}
        }
    }

    /// Tells the inlet's side the outcome: unsettled while it still sends, settled after that.
    pub(super) fn tell_outcome(&mut self, io: &mut impl Io, key: Key, state: DeliveryState) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        // A socket is told nothing; but it is counted what became of its stream.
        let is_past = attachment.is_inlet_settled && !matches!(attachment.inlet, Inlet::Socket(_));
        if attachment.verdict.is_some() || is_past {
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
            // It is kept until all copies have one.
            Inlet::Copy { .. } => attachment.is_inlet_settled = true,
            Inlet::Delivery { .. } | Inlet::Socket(_) | Inlet::Control => {}
        }
        self.settle_inlet(key);
    }

    /// The original of copies has ended, and so do they.
    fn copies_ended(&mut self, io: &mut impl Io, key: Key, ending: Ending) {
        let Some(attachment) = self.attachments.get(key) else { return };
        let is_settled = attachment.is_inlet_settled;
        for copy in attachment.copies.as_ref().map(|copies| copies.keys.clone()).unwrap_or_default() {
            self.inlet_ended(io, copy, ending, is_settled);
        }
        self.copies_done(io, key);
    }

    /// If all copies of a delivery are over, so is the delivery. Of their outcomes the first of these counts: rejected,
    /// accepted, modified, released.
    pub(super) fn copies_done(&mut self, io: &mut impl Io, key: Key) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let Some(copies) = attachment.copies.as_mut().filter(|copies| copies.open == 0) else { return };
        if attachment.ended.is_none() {
            return;
        }
        let outcome = copies.outcome.take().unwrap_or(DeliveryState::Released);
        attachment.copies = None;
        attachment.is_outlet_done = true;
        attachment.is_outlet_settled = true;
        self.tell_outcome(io, key, outcome);
        self.reap(io, key);
    }

    // === from the outlet ===

    /// The receiver of a direction says something about it.
    pub(super) fn recv_state(&mut self, io: &mut impl Io, key: Key, state: Option<DeliveryState>, is_settled: bool) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let was_settled = attachment.is_outlet_settled;
        attachment.is_outlet_settled |= is_settled;
        // A receiver that settles second waits for us to settle.
        if let Outlet::Link { connection, lane: Lane::Endpoint(_), delivery: Some(delivery), .. } = attachment.outlet
            && attachment.is_outlet_done
            && !is_settled
            && state.as_ref().is_some_and(DeliveryState::is_terminal)
        {
            attachment.is_outlet_settled = true;
            if let Some(connection) = self.connections.get_mut(connection) {
                connection.engine.dispose(delivery, state.clone(), true);
            }
            self.touch(connection);
        }
        let Some(attachment) = self.attachments.get(key) else { return };
        if let Outlet::Link { connection, link, .. } = attachment.outlet
            && attachment.is_outlet_settled
            && !was_settled
            && let Some(connection) = self.connections.get_mut(connection)
        {
            let outcome = state.as_ref().unwrap_or(&DeliveryState::Accepted);
            connection.count_end(link, self.now, End::Outcome(outcome), attachment.took(self.now));
        }
        match state {
            Some(DeliveryState::Received { section_number, section_offset }) => {
                self.recv_report(io, key, Received { offset: section_offset, window: section_number });
            }
            Some(DeliveryState::Released) if attachment.may_be_offered_again() => self.turned_down(io, key),
            Some(state) if state == DeliveryState::FAILED && self.is_answer_lost(key) => {
                self.leave_outlet(io, key);
                self.wait_or_refuse(io, key);
            }
            Some(state) if state.is_terminal() => self.recv_outcome(io, key, state),
            _ if is_settled => self.recv_outcome(io, key, DeliveryState::Accepted),
            _ => {}
        }
        self.reap(io, key);
    }

    fn recv_report(&mut self, io: &mut impl Io, key: Key, received: Received) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        attachment.message = attachment.message.take().filter(|_| matches!(attachment.inlet, Inlet::Socket(_)));
        match &mut attachment.flow {
            Flow::Sending(window) | Flow::Crossing { window } => {
                window.recv_report(received);
                self.advance(io, key);
            }
            _ => self.tell_report(io, key, received),
        }
    }

    fn recv_outcome(&mut self, io: &mut impl Io, key: Key, state: DeliveryState) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        if let Flow::Sending(window) | Flow::Crossing { window } = &mut attachment.flow {
            window.switch_off();
        }
        let is_accepted = state == DeliveryState::Accepted;
        let inlet = attachment.inlet;
        if let Inlet::Socket(_) = inlet {
            self.tell_outcome(io, key, state.clone());
        }
        match inlet {
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
        // Once more without the client's octets: only then can routers on the way choose again.
        if let Some(offer) = attachment.message.as_deref_mut().filter(|offer| offer.has_gone_early()) {
            (offer.goes_early, offer.is_too_early) = (false, true);
            return self.route(io, key);
        }
        let is_tried = match attachment.message.as_deref_mut().map(|offer| (offer.tried, &mut offer.excluded)) {
            Some((Some(Tried::Connector(connector)), excluded)) => {
                excluded.connectors.push(connector);
                true
            }
            Some((Some(Tried::NextHop(link)), excluded)) => {
                excluded.next_hops.push(link);
                true
            }
            Some((Some(Tried::Link(link)), excluded)) => {
                excluded.links.push(link);
                true
            }
            _ => false,
        };
        if is_tried {
            self.route(io, key);
        } else {
            self.wait_or_refuse(io, key);
        }
    }

    /// Nobody is left to be tried for now.
    fn wait_or_refuse(&mut self, io: &mut impl Io, key: Key) {
        let offer = self.attachments.get_mut(key).and_then(|attachment| attachment.message.take());
        match offer.filter(|offer| self.is_worth_waiting(key, offer)) {
            Some(offer) => self.wait_for_routes(key, offer),
            None => self.refuse(io, key, DeliveryState::Released),
        }
    }

    /// The connection or link that a direction leaves by is gone. An offer that nobody has answered finds another way.
    pub(super) fn outlet_lost(&mut self, io: &mut impl Io, key: Key) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let has_left = !matches!(attachment.outlet, Outlet::Queued { .. } | Outlet::Link { delivery: None, .. });
        attachment.outlet = Outlet::Undecided;
        // What a workload may have got is given to no other.
        let is_unheard = attachment.message.as_ref().is_some_and(|offer| !offer.has_gone_early());
        if is_unheard && !attachment.is_outlet_done {
            self.leave_outlet(io, key);
            return self.route(io, key);
        }
        match attachment.inlet {
            Inlet::Socket(stream) if self.streams.get(stream).is_some() => {
                self.attachments.get_mut(key).expect("found above").discard();
                self.break_stream(io, stream);
                self.reap(io, key);
            }
            _ => {
                // What was not sent can be sent elsewhere without fear that it is there twice.
                self.tell_outcome(io, key, if has_left { DeliveryState::FAILED } else { DeliveryState::Released });
                self.drop_outlet(io, key);
            }
        }
    }

    /// The lane that a direction waits for is gone.
    pub(super) fn lost_in_line(&mut self, io: &mut impl Io, key: Key, connection: Key, lane: Lane) {
        let outlet = self.attachments.get(key).map(|attachment| attachment.outlet);
        if matches!(outlet, Some(Outlet::Queued { connection: of, lane: own }) if (of, own) == (connection, lane)) {
            self.outlet_lost(io, key);
        }
    }

    // === leaving ===

    /// Takes a direction away from its outlet so that it can go elsewhere.
    fn leave_outlet(&mut self, io: &mut impl Io, key: Key) {
        self.abort_outlet(io, key);
        if let Some(attachment) = self.attachments.get_mut(key) {
            attachment.outlet = Outlet::Undecided;
            attachment.parked = Default::default();
            attachment.under_way = 0;
            attachment.carried = None;
            attachment.is_outlet_done = false;
            attachment.is_outlet_settled = false;
            attachment.is_scheduled = false;
            if matches!(attachment.flow, Flow::Sending(_) | Flow::Crossing { .. }) {
                attachment.flow = Flow::Sending(SendWindow::new());
            }
        }
        self.count_held(key);
    }

    /// Takes a direction away from its outlet for good; what still comes is thrown away.
    pub(super) fn drop_outlet(&mut self, io: &mut impl Io, key: Key) {
        self.abort_outlet(io, key);
        if let Some(attachment) = self.attachments.get_mut(key) {
            attachment.discard();
            if let (Inlet::Shard { shard, first_half }, None) = (attachment.inlet, attachment.ended) {
                attachment.ended = Some(Ending::Aborted);
                if attachment.verdict.is_none() {
                    // It waits for no outcome, but it is to hand over no more.
                    let state = Some(DeliveryState::Released);
                    io.post(shard, Crossing::State { to: first_half, state, is_settled: true });
                }
            }
        }
        self.count_held(key);
        self.reap(io, key);
    }

    fn abort_outlet(&mut self, io: &mut impl Io, key: Key) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let (outlet, is_done, is_settled) =
            (attachment.outlet, attachment.is_outlet_done, attachment.is_outlet_settled);
        match outlet {
            Outlet::Link { connection: at, link, lane, .. } if !is_done => {
                if let Some(connection) = self.connections.get_mut(at) {
                    connection.abort(link, lane);
                }
                self.touch(at);
                self.serve(io, at, lane);
                self.finish_drain(at, lane);
            }
            // Whoever takes it now is not to be given up for what is said of it later.
            Outlet::Link {
                connection: at,
                lane: Lane::Priority(_) | Lane::Endpoint(_),
                delivery: Some(delivery),
                ..
            } if !is_settled => {
                if let Some(connection) = self.connections.get_mut(at) {
                    connection.engine.dispose(delivery, None, true);
                }
                self.touch(at);
            }
            Outlet::Connecting(stream) if self.remove_stream(stream).is_some() => {
                io.close(stream, true);
            }
            Outlet::Shard { shard } if !is_done => {
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
    pub(super) fn reap(&mut self, io: &mut impl Io, key: Key) {
        let Some(attachment) = self.attachments.get_mut(key).filter(|attachment| attachment.is_over()) else { return };
        if attachment.held > 0 {
            // Of what crossed to another shard last nobody tells that it has left.
            attachment.has_no_window = false;
            self.count_held(key);
        }
        if let Some(attachment) = self.attachments.remove(key) {
            self.memory.change(attachment.charged, 0);
            if attachment.is_granting() {
                self.memory.count_stream(false);
            }
            self.count_over(&attachment);
            if let Outlet::Link { connection: at, link, lane: lane @ (Lane::Stream | Lane::LongMessage), .. } =
                attachment.outlet
                && !attachment.settles_itself
                && let Some(connection) = self.connections.get_mut(at)
            {
                connection.spare(link, lane, self.now);
                self.touch(at);
                self.serve(io, at, lane);
            }
            match attachment.inlet {
                Inlet::Shard { shard, first_half } => drop(self.second_halves.remove(&(shard, first_half))),
                Inlet::Delivery { connection, link, .. } => {
                    if attachment.verdict == Some(DeliveryState::Released) {
                        self.take_back(connection, link);
                    }
                    self.give_back(connection, link);
                }
                Inlet::Copy { original } => {
                    if let Some(copies) = self.attachments.get_mut(original).and_then(|it| it.copies.as_mut()) {
                        copies.open -= 1;
                        copies.add(attachment.verdict);
                    }
                    self.copies_done(io, original);
                }
                Inlet::Socket(_) | Inlet::Control => {}
            }
        }
    }

    /// Counts what became of a delivery that came in.
    fn count_over(&mut self, attachment: &Attachment) {
        let end = match &attachment.verdict {
            _ if attachment.came_settled => End::Presettled,
            Some(verdict) => End::Outcome(verdict),
            None => return,
        };
        let took = attachment.took(self.now);
        match attachment.inlet {
            Inlet::Delivery { connection, link, .. } => {
                let Some(connection) = self.connections.get_mut(connection) else { return };
                connection.count_end(link, self.now, end, took);
                // Settled ones count where they come into the network.
                if !attachment.came_settled || matches!(connection.purpose, Purpose::Links(_)) {
                    self.counters.count_end(end, took);
                }
            }
            Inlet::Socket(_) => self.counters.count_end(end, took),
            Inlet::Shard { .. } | Inlet::Control | Inlet::Copy { .. } => {}
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
        self.reap(io, key);
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
            self.remove_stream(stream);
            io.close(stream, false);
        }
    }

    /// A stream is over before its end: the socket is reset, and the far end learns of it as well as it can.
    pub(super) fn break_stream(&mut self, io: &mut impl Io, key: Key) {
        let Some(stream) = self.remove_stream(key) else { return };
        // What it has been told up to its end it may still read.
        io.close(key, !stream.is_write_done);
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
        // Nothing goes early to others than ours.
        let is_early = attachment.message.as_ref().is_some_and(|offer| offer.goes_early);
        match attachment.outlet {
            Outlet::Socket(other) => {
                attachment.ended = Some(Ending::Aborted);
                attachment.discard();
                self.break_stream(io, other);
                self.reap(io, key);
            }
            Outlet::Link { .. } if !(is_error_carried || is_early) => {
                attachment.message = None;
                attachment.settles_itself = true;
                self.inlet_ended(io, key, Ending::Complete, true);
            }
            _ => {
                attachment.message = attachment.message.take().filter(|_| !is_early);
                self.inlet_ended(io, key, Ending::Aborted, true);
            }
        }
    }

    // === crossings ===

    pub(super) fn recv_crossing(&mut self, io: &mut impl Io, from: ShardId, message: Crossing) {
        match message {
            Crossing::Open { from: first_half, destination, octets, ended, is_settled, wants_taken } => {
                let inlet = Inlet::Shard { shard: from, first_half };
                let flow = if wants_taken { Flow::Leaving { untold: 0 } } else { Flow::Passing };
                let mut attachment = Attachment::new(inlet, Outlet::Undecided, flow);
                (attachment.ended, attachment.is_inlet_settled) = (ended, is_settled);
                let key = self.attachments.insert(attachment);
                self.second_halves.insert((from, first_half), key);
                self.open_second_half(io, key, destination, octets);
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
                if let Some(attachment) = self.attachments.get_mut(to) {
                    attachment.under_way = attachment.under_way.saturating_sub(octets);
                    self.count_held(to);
                }
                self.advance(io, to);
            }
            Crossing::State { to, state, is_settled } => self.recv_state(io, to, state, is_settled),
        }
    }

    fn open_second_half(&mut self, io: &mut impl Io, key: Key, destination: Destination, octets: bytes::Bytes) {
        match destination {
            Destination::Stream { stream, salt, features } => {
                self.bind_server_stream(io, key, stream, salt, features, &octets)
            }
            Destination::Connection { connection, lane } => {
                let at = ConnectionRef { id: connection, shard: self.shard };
                self.leave_by(io, key, at, lane, octets);
            }
            Destination::Temporary { name } => self.leave_by_temporary(io, key, name, octets),
        }
    }
}
