//! What arrives: deliveries from other routers and clients of our listeners, and the choice of where they go.

use bytes::Bytes;

use super::attachment::{Attachment, Ending, Flow, Inlet, Lane, Offer, Outlet, Tried};
use super::connection::{
    CONTROL_DELIVERY, Class, Connection, MAX_CONTROL_BYTES, MAX_GATHERED_BYTES, MAX_UNTAKEN_BYTES, MAX_WAITING_COPIES,
    PRIORITIES,
};
use super::crossing::{Crossing, Destination};
use super::routes::{Carried, Choice, ConnectionRef, ConnectorId, ShardId};
use super::stream::{Answer, ReplyName, Side, Stream};
use super::window::{Reports, SendWindow};
use super::{Batch, Io, MAX_MESSAGE_BYTES, Plane, Report};
use crate::address::Address;
use crate::amqp::{Condition, DeliveryId, DeliveryState, LinkId, Token};
use crate::annotations::{Annotations, DISABLE_Q2, RESEND_RELEASED, STREAMING};
use crate::encapsulation::{self, ClientStream, Features};
use crate::message::{self, Head};
use crate::slab::Key;

/// A message that has grown beyond this is passed on before it is complete. Source: skupper-router, Q2 limit, 64 × 4072.
const STREAM_FROM_OCTETS: usize = 260_608;

/// Where a message goes.
enum Way {
    /// To a workload of ours.
    Workload(Workload),
    /// To a client of ours that waits for its server stream.
    Client { name: ReplyName, features: Features, start: usize },
    /// On to another router.
    NextHop { link: van_routing::LinkId, lane: Lane, carried: Option<Carried> },
    /// Where the control plane sends it: to several places, or to a subscriber.
    Control,
    /// Nowhere.
    Refused(DeliveryState),
}

/// A workload that a client stream goes to.
struct Workload {
    connector: ConnectorId,
    carried: Carried,
    answer: Box<Answer>,
    /// Where the stream's octets start.
    start: usize,
}

impl Plane {
    // === deliveries ===

    pub(super) fn recv_delivery(
        &mut self,
        key: Key,
        link: LinkId,
        link_token: Token,
        delivery: DeliveryId,
        settled: bool,
    ) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let class = Class::of(link_token);
        if class == Some(Class::Control) {
            return connection.engine.set_delivery_token(delivery, link, CONTROL_DELIVERY);
        }
        let mut attachment =
            Attachment::new(Inlet::Delivery { connection: key, link, delivery }, Outlet::Undecided, Flow::Passing);
        attachment.is_inlet_settled = settled;
        attachment.message = Some(Offer { is_stream: class == Some(Class::Stream), ..Offer::default() }.into());
        let attachment = self.attachments.insert(attachment);
        connection.engine.set_delivery_token(delivery, link, Token(attachment.to_bits()));
    }

    pub(super) fn recv_batch(&mut self, io: &mut impl Io, key: Key, batch: &mut Batch<'_>) {
        let Some(token) = batch.token.take() else { return };
        let pieces = std::mem::take(&mut batch.pieces);
        if token != CONTROL_DELIVERY {
            return self.recv_payload(io, Key::from_bits(token.0), &pieces);
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        pieces.iter().for_each(|piece| connection.control_inbox.extend_from_slice(piece));
        if connection.control_inbox.len() > MAX_CONTROL_BYTES {
            let reason =
                Condition::new("amqp:link:message-size-exceeded", "message of the router protocol beyond 1 MiB");
            self.fail_connection(io, key, reason);
        }
    }

    /// Payload of a delivery: gathered until it is known where it goes, then passed on.
    pub(super) fn recv_payload(&mut self, io: &mut impl Io, key: Key, pieces: &[&[u8]]) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        match &mut attachment.message {
            Some(offer) if offer.tried.is_none() => {
                pieces.iter().for_each(|piece| offer.octets.extend_from_slice(piece));
                let (inlet, before) = (attachment.inlet, attachment.gathered);
                self.consider(io, key);
                self.count_gathered(io, inlet, before, key);
            }
            message => {
                // More than its head is under way: nobody else can be offered it.
                *message = None;
                self.push(io, key, pieces);
            }
        }
    }

    /// Keeps count of what a connection's peer has begun to say and not brought to an end.
    pub(super) fn count_gathered(&mut self, io: &mut impl Io, inlet: Inlet, before: usize, key: Key) {
        let Inlet::Delivery { connection: at, .. } = inlet else { return };
        let now = self.attachments.get_mut(key).map_or(0, |attachment| {
            attachment.gathered = attachment.gathering().filter(|_| attachment.ended.is_none()).map_or(0, Vec::len);
            attachment.gathered
        });
        let Some(connection) = self.connections.get_mut(at) else { return };
        connection.gathered = connection.gathered + now - before;
        if connection.gathered > MAX_GATHERED_BYTES {
            let reason = Condition::new("amqp:resource-limit-exceeded", "too many messages begun and not routable yet");
            self.fail_connection(io, at, reason);
        }
    }

    /// Routes a message once enough of it is there: all of it, unless it is a stream.
    pub(super) fn consider(&mut self, io: &mut impl Io, key: Key) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let is_complete = attachment.ended == Some(Ending::Complete);
        let Some(offer) = &mut attachment.message else { return };
        match message::scan(&offer.octets, is_complete) {
            Ok(Some(head)) => {
                offer.flags = head.annotations.map_or(0, |annotations| annotations.flags);
                offer.is_stream |= offer.flags & STREAMING != 0 || offer.octets.len() > STREAM_FROM_OCTETS;
                if is_complete || offer.is_stream {
                    self.route(io, key);
                }
            }
            Ok(None) => {}
            Err(error) => {
                let condition = Condition::new("amqp:invalid-field", error.to_string());
                self.refuse(io, key, DeliveryState::Rejected(Some(condition)));
            }
        }
    }

    // === choosing a way ===

    /// Finds a way for an offer, and takes it. Called again when a consumer turns it down.
    pub(super) fn route(&mut self, io: &mut impl Io, key: Key) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let Some(mut offer) = attachment.message.take() else { return };
        let may_grow = attachment.ended.is_none() && matches!(attachment.inlet, Inlet::Delivery { .. });
        let way = self.find_way(&offer);
        if matches!(way, Way::Control) && may_grow && offer.octets.len() <= MAX_MESSAGE_BYTES {
            self.attachments.get_mut(key).expect("found above").message = Some(offer);
            return;
        }
        offer.tried = Some(match &way {
            Way::Workload(workload) => Tried::Connector(workload.connector),
            Way::NextHop { link, carried: Some(_), .. } => Tried::NextHop(*link),
            _ => Tried::Only,
        });
        match way {
            Way::Refused(state) => self.refuse(io, key, state),
            Way::Workload(workload) => self.go_to_workload(io, key, offer, workload),
            Way::Client { name, features, start } => {
                let rest = Bytes::copy_from_slice(&offer.octets[start..]);
                self.go_to_client(io, key, name, features, rest);
            }
            Way::NextHop { link, lane, carried } => self.go_to_next_hop(io, key, offer, link, lane, carried),
            Way::Control => self.go_to_control(io, key, *offer),
        }
    }

    fn find_way(&self, offer: &Offer) -> Way {
        let Ok(Some(head)) = message::scan(&offer.octets, true) else {
            return Way::Refused(DeliveryState::Rejected(Some(Condition::bare("amqp:invalid-field"))));
        };
        let annotations = head.annotations.unwrap_or(Annotations::fresh(offer.flags));
        let Some(to) = annotations.to_override.or(head.properties.to) else {
            return Way::Refused(DeliveryState::Rejected(Some(Condition::new(
                "amqp:precondition-failed",
                "no address",
            ))));
        };
        // A way longer than any is a circle.
        if annotations.hops() > self.routes.table.max_trace() {
            return Way::Refused(DeliveryState::Released);
        }
        let lane = match offer.is_stream {
            true => Lane::Stream,
            false => Lane::Priority(head.priority.min(PRIORITIES - 1)),
        };
        // By its content: other routers may set the flag of streams for what is a long message.
        let is_stream = encapsulation::stream_start(&head).is_ok();
        let way = match Address::parse(to, self.routes.id.as_str()) {
            Address::Local(name) => self.way_to_client(name, &head),
            Address::Router(id) => {
                let link = self.routes.way_to_id(id, annotations.origin());
                link.map(|link| Way::NextHop { link, lane, carried: None })
            }
            Address::Mobile(key) => match self.routes.recipients(key, &annotations) {
                // A stream may never end, and only one can answer it.
                Some(recipients) => (!is_stream && !recipients.is_empty()).then_some(Way::Control),
                None => match self.routes.choose(key, is_stream, annotations.origin(), &offer.excluded) {
                    Some(Choice::Connector(connector, carried)) => {
                        return Self::way_to_workload(connector, carried, &head);
                    }
                    Some(Choice::Subscriber(_)) => Some(Way::Control),
                    Some(Choice::NextHop(link, carried)) => Some(Way::NextHop { link, lane, carried: Some(carried) }),
                    None => None,
                },
            },
            Address::Everywhere(_) | Address::Edge(_) | Address::Foreign => None,
        };
        way.unwrap_or(Way::Refused(DeliveryState::Released))
    }

    fn way_to_workload(connector: ConnectorId, carried: Carried, head: &Head<'_>) -> Way {
        match (encapsulation::stream_start(head), head.properties.reply_to) {
            (Ok(start), Some(reply_to)) => {
                let answer = Answer { reply_to: reply_to.to_owned(), offered: Features::of(head), connection: None };
                Way::Workload(Workload { connector, carried, answer: answer.into(), start })
            }
            // Another connector may know what to do with it.
            _ => Way::Refused(DeliveryState::Released),
        }
    }

    fn way_to_client(&self, name: &str, head: &Head<'_>) -> Option<Way> {
        let name = ReplyName::parse(name)?;
        Some(match encapsulation::stream_start(head) {
            Ok(start) => Way::Client { name, features: Features::of(head).common(Features::OURS), start },
            Err(error) => {
                Way::Refused(DeliveryState::Rejected(Some(Condition::new("amqp:invalid-field", error.to_string()))))
            }
        })
    }

    /// Nobody takes it.
    pub(super) fn refuse(&mut self, io: &mut impl Io, key: Key, state: DeliveryState) {
        let Some(attachment) = self.attachments.get(key) else { return };
        if let Inlet::Socket(stream) = attachment.inlet {
            self.counters.refused += 1;
            return self.break_stream(io, stream);
        }
        self.tell_outcome(io, key, state);
        self.drop_outlet(io, key);
    }

    // === taking the way ===

    fn go_to_workload(&mut self, io: &mut impl Io, key: Key, offer: Box<Offer>, workload: Workload) {
        let Workload { connector, carried, mut answer, start } = workload;
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let is_ours = matches!(attachment.inlet, Inlet::Socket(_));
        if let Inlet::Delivery { connection, .. } = attachment.inlet {
            answer.connection = Some(connection);
        }
        let mut stream = Stream::new(Side::Server { answer: (!is_ours).then_some(answer) });
        stream.down = Some(key);
        let stream = self.streams.insert(stream);
        self.counters.streams += 1;
        attachment.parked.copy(&offer.octets[start..]);
        attachment.message = Some(offer);
        attachment.carried = Some(carried);
        attachment.outlet = Outlet::Connecting(stream);
        io.connect(stream, connector);
    }

    fn go_to_next_hop(
        &mut self,
        io: &mut impl Io,
        key: Key,
        offer: Box<Offer>,
        link: van_routing::LinkId,
        lane: Lane,
        carried: Option<Carried>,
    ) {
        self.turn = self.turn.wrapping_add(1);
        let hop = self.routes.next_hops.get(&link);
        let preferred = offer.preferred.and_then(|key| Some((key, self.connections.get(key)?.id)));
        let chosen = match (lane, preferred) {
            (Lane::Stream, Some((_, id)))
                if hop.is_some_and(|hop| hop.control.id == id || hop.data.iter().any(|data| data.id == id)) =>
            {
                Some((id, self.shard))
            }
            (Lane::Stream, _) => {
                let is_gone = |at: &ConnectionRef| at.shard == self.shard && !self.by_id.contains_key(&at.id);
                let chosen = self.routes.stream_connection(link, self.shard, self.turn, is_gone);
                chosen.map(|chosen| (chosen.id, chosen.shard))
            }
            (Lane::Priority(_), _) => hop.map(|hop| (hop.control.id, hop.control.shard)),
        };
        let octets = self.forwarded(&offer);
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        attachment.carried = carried;
        // A stream may be offered again as long as nobody has answered it; a whole message only if its sender wants that.
        attachment.message = Some(offer).filter(|offer| lane == Lane::Stream || offer.flags & RESEND_RELEASED != 0);
        let is_settled = attachment.is_inlet_settled && matches!(attachment.inlet, Inlet::Delivery { .. });
        match chosen {
            Some((id, shard)) if shard == self.shard => {
                let Some(&connection) = self.by_id.get(&id) else { return self.turned_down(io, key) };
                attachment.outlet = Outlet::Queued { connection, lane };
                attachment.parked.push(octets.into());
                self.enter_line(io, key, connection, lane, is_settled);
            }
            Some((id, shard)) => {
                let destination = Destination::Connection { connection: id, lane };
                let wants_taken = self.cross(key, shard);
                let octets = Bytes::from(octets);
                io.post(shard, Crossing::Open { from: key, destination, octets, is_settled, wants_taken });
                self.after_crossing(io, key);
            }
            None => self.turned_down(io, key),
        }
    }

    /// Hands a whole message to the control plane, and says that it was taken.
    fn go_to_control(&mut self, io: &mut impl Io, key: Key, offer: Offer) {
        let inlet = self.attachments.get(key).map(|attachment| attachment.inlet);
        let Some(Inlet::Delivery { connection, .. }) = inlet else {
            return self.refuse(io, key, DeliveryState::Released); // a client, whose stream is no message
        };
        if offer.octets.len() > MAX_MESSAGE_BYTES {
            let condition =
                Condition::new("amqp:link:message-size-exceeded", "message for many, or for us, beyond 1 MiB");
            return self.refuse(io, key, DeliveryState::Rejected(Some(condition)));
        }
        if let Some(connection) = self.connections.get_mut(connection) {
            connection.untaken += offer.octets.len();
            io.report(Report::Message { connection: connection.id, message: offer.octets.into() });
        }
        self.tell_outcome(io, key, DeliveryState::Accepted);
        self.drop_outlet(io, key);
    }

    /// Sends a message of the control plane, settled; drops it if too much waits already.
    pub(super) fn send_whole(&mut self, io: &mut impl Io, key: Key, priority: u8, message: Bytes) {
        let lane = Lane::Priority(priority.min(PRIORITIES - 1));
        if self.is_congested(key, lane) {
            self.counters.copies_dropped += 1;
            return;
        }
        let outlet = Outlet::Queued { connection: key, lane };
        let mut attachment = Attachment::new(Inlet::Control, outlet, Flow::Passing);
        attachment.ended = Some(Ending::Complete);
        attachment.is_inlet_settled = true;
        attachment.parked.push(message);
        let attachment = self.attachments.insert(attachment);
        self.enter_line(io, attachment, key, lane, true);
    }

    fn is_congested(&self, key: Key, lane: Lane) -> bool {
        let Some(connection) = self.connections.get(key) else { return true };
        let mut waiting = connection.waiting(lane).filter_map(|key| self.attachments.get(key));
        let octets: usize = waiting.by_ref().take(MAX_WAITING_COPIES).map(|waiting| waiting.parked.len()).sum();
        octets > MAX_UNTAKEN_BYTES || waiting.next().is_some()
    }

    /// Puts a direction in line for a link of a connection.
    pub(super) fn enter_line(&mut self, io: &mut impl Io, key: Key, connection: Key, lane: Lane, is_settled: bool) {
        if let Some(attachment) = self.attachments.get_mut(key) {
            attachment.is_outlet_settled = is_settled;
        }
        if let Some(connection) = self.connections.get_mut(connection) {
            connection.queue(lane, key, is_settled, &mut self.random);
        }
        self.touch(connection);
        self.serve(io, connection, lane);
        self.thin_out(io, connection);
    }

    /// Streams wait for links of a connection that will not come: they find another way.
    pub(super) fn thin_out(&mut self, io: &mut impl Io, key: Key) {
        while let Some(waiting) = self.connections.get_mut(key).and_then(Connection::take_stranded) {
            let outlet = self.attachments.get(waiting).map(|attachment| attachment.outlet);
            if matches!(outlet, Some(Outlet::Queued { connection, .. }) if connection == key) {
                self.turned_down(io, waiting);
            }
        }
    }

    /// The message as this router sends it on: its annotations with us in the trace, the rest as it is.
    fn forwarded(&self, offer: &Offer) -> Vec<u8> {
        let mut out = Vec::with_capacity(offer.octets.len() + 128);
        if let Ok(Some(head)) = message::scan(&offer.octets, true) {
            let annotations = head.annotations.unwrap_or(Annotations::fresh(offer.flags));
            annotations.forward(&self.routes.node, &mut out);
            out.extend_from_slice(&offer.octets[head.rest..]);
        }
        out
    }

    // === the two ends of a stream ===

    /// Looks for a consumer for a new client.
    pub(super) fn offer_client_stream(&mut self, io: &mut impl Io, stream: Key) {
        let Some(Stream { side: Side::Client { key, salt }, .. }) = self.streams.get(stream) else { return };
        let name = ReplyName { shard: self.shard, stream, salt: *salt };
        let reply_to = format!("amqp:/_topo/{}/{}", self.routes.node, name.to_text());
        let mut octets = Vec::with_capacity(256);
        encapsulation::write_client_stream(ClientStream { key, reply_to: &reply_to }, Features::OURS, &mut octets);
        let up = self.add_reader(stream);
        let flags = STREAMING | RESEND_RELEASED | DISABLE_Q2;
        self.make_offer(io, up, Offer { octets, flags, is_stream: true, ..Offer::default() });
    }

    /// The direction that reads a stream's socket.
    fn add_reader(&mut self, stream: Key) -> Key {
        let mut up = Attachment::new(Inlet::Socket(stream), Outlet::Undecided, Flow::Sending(SendWindow::new()));
        up.is_inlet_settled = true;
        let up = self.attachments.insert(up);
        self.stream_mut(stream).up = Some(up);
        up
    }

    fn make_offer(&mut self, io: &mut impl Io, key: Key, offer: Offer) {
        if let Some(attachment) = self.attachments.get_mut(key) {
            attachment.message = Some(offer.into());
            self.route(io, key);
        }
    }

    fn go_to_client(&mut self, io: &mut impl Io, key: Key, name: ReplyName, features: Features, rest: Bytes) {
        if name.shard == self.shard {
            return self.bind_server_stream(io, key, name.stream, name.salt, features, &rest);
        }
        if name.shard.0 >= self.routes.shards {
            return self.refuse(io, key, DeliveryState::Released);
        }
        let Some(attachment) = self.attachments.get(key) else { return };
        let is_settled = attachment.is_inlet_settled;
        let destination = Destination::Stream { stream: name.stream, salt: name.salt, features };
        let wants_taken = self.cross(key, name.shard);
        io.post(name.shard, Crossing::Open { from: key, destination, octets: rest, is_settled, wants_taken });
        self.after_crossing(io, key);
    }

    /// Joins a server stream to the client that waits for it. From now on the client is read.
    pub(super) fn bind_server_stream(
        &mut self,
        io: &mut impl Io,
        key: Key,
        stream: Key,
        salt: u32,
        features: Features,
        rest: &[u8],
    ) {
        let waiting = self.streams.get_mut(stream).filter(|stream| {
            stream.down.is_none() && matches!(stream.side, Side::Client { salt: own, .. } if own == salt)
        });
        let Some(waiting) = waiting else { return self.refuse(io, key, DeliveryState::Released) };
        waiting.down = Some(key);
        waiting.features = features;
        let up = waiting.up;
        if let Some(attachment) = self.attachments.get_mut(key) {
            attachment.outlet = Outlet::Socket(stream);
            attachment.flow = Flow::Receiving(Reports::new(features.acks));
            attachment.message = None;
        }
        io.established(stream);
        if let Some(up) = up {
            if let Some(attachment) = self.attachments.get_mut(up) {
                attachment.message = None;
            }
            self.advance(io, up);
        }
        self.push(io, key, &[rest]);
        self.advance(io, key);
    }

    /// The workload of a stream is there: what waited for it goes, and its own direction starts.
    pub(super) fn workload_connected(&mut self, io: &mut impl Io, stream: Key) {
        let Some(server) = self.streams.get_mut(stream) else { return };
        let Side::Server { answer } = &mut server.side else { return };
        let answer = answer.take();
        let Some(down) = server.down else { return };
        let Some(attachment) = self.attachments.get_mut(down) else { return };
        attachment.outlet = Outlet::Socket(stream);
        attachment.message = None;
        match (answer, attachment.inlet) {
            (Some(answer), _) => {
                let features = answer.offered.common(Features::OURS);
                attachment.flow = Flow::Receiving(Reports::new(features.acks));
                server.features = features;
                self.answer_client_stream(io, stream, *answer);
            }
            (None, Inlet::Socket(client)) => {
                attachment.flow = Flow::Passing;
                server.features = Features::OURS;
                self.join(io, client, stream);
            }
            (None, _) => {}
        }
        self.advance(io, down);
        if let Some(up) = self.streams.get(stream).and_then(|stream| stream.up) {
            self.advance(io, up);
        }
    }

    /// Opens the server stream.
    fn answer_client_stream(&mut self, io: &mut impl Io, stream: Key, answer: Answer) {
        let mut octets = Vec::with_capacity(256);
        let is_own = answer.offered != Features::default();
        encapsulation::write_server_stream(&answer.reply_to, is_own.then_some(Features::OURS), &mut octets);
        let up = self.add_reader(stream);
        let flags = STREAMING | DISABLE_Q2;
        self.make_offer(
            io,
            up,
            Offer { octets, flags, is_stream: true, preferred: answer.connection, ..Offer::default() },
        );
        // There is only one place for it, and the workload may speak first.
        if let Some(attachment) = self.attachments.get_mut(up) {
            attachment.message = None;
        }
    }

    /// Joins a client and a workload of the same router: the way back.
    fn join(&mut self, io: &mut impl Io, client: Key, server: Key) {
        let mut back = Attachment::new(Inlet::Socket(server), Outlet::Socket(client), Flow::Passing);
        back.is_inlet_settled = true;
        let back = self.attachments.insert(back);
        self.stream_mut(server).up = Some(back);
        if let Some(client) = self.streams.get_mut(client) {
            client.down = Some(back);
            client.features = Features::OURS;
        }
        io.established(client);
    }

    /// The workload is not there: its stream goes, and the offer to the next consumer.
    pub(super) fn workload_refused(&mut self, io: &mut impl Io, stream: Key) {
        let Some(server) = self.streams.remove(stream) else { return };
        self.counters.streams -= 1;
        self.counters.refused += 1;
        io.close(stream, false);
        if let Some(down) = server.down {
            if let Some(attachment) = self.attachments.get_mut(down) {
                attachment.outlet = Outlet::Undecided;
            }
            self.turned_down(io, down);
        }
    }

    /// Marks a direction as leaving through another shard; whether it wants to hear how much has left.
    fn cross(&mut self, key: Key, shard: ShardId) -> bool {
        let Some(attachment) = self.attachments.get_mut(key) else { return false };
        attachment.outlet = Outlet::Shard { shard };
        if let Flow::Sending(window) = attachment.flow {
            attachment.flow = Flow::Crossing { window, under_way: 0 };
        }
        matches!(attachment.flow, Flow::Crossing { .. })
    }

    fn after_crossing(&mut self, io: &mut impl Io, key: Key) {
        let Some(attachment) = self.attachments.get(key) else { return };
        if let (Some(ending), Outlet::Shard { shard }) = (attachment.ended, attachment.outlet) {
            io.post(shard, Crossing::End { from: key, ending });
            self.attachments.get_mut(key).expect("found above").is_outlet_done = true;
        }
    }
}
