//! What arrives: deliveries from other routers and clients of our listeners, and the choice of where they go.

use std::sync::Arc;

use bytes::Bytes;
use van_routing::Treatment;

use super::attachment::{Attachment, Copies, Ending, Flow, Inlet, Lane, Offer, Outlet, Tried};
use super::connection::{
    CONTROL_DELIVERY, Class, Connection, MAX_CONTROL_BYTES, MAX_GATHERED_BYTES, MAX_UNTAKEN_BYTES, MAX_WAITING_COPIES,
    Purpose,
};
use super::crossing::{Crossing, Destination};
use super::endpoint::Service;
use super::routes::{
    Carried, Choice, ConnectionId, ConnectionRef, ConnectorId, Consumers, EndpointId, PeerKind, Recipient, ShardId,
    SubscriberId,
};
use super::stream::{Answer, ReplyName, Side, Stream};
use super::tally::{End, Passage, Passages};
use super::window::{Reports, SendWindow};
use super::{Batch, ClientFlow, Io, MAX_MESSAGE_BYTES, Plane, Report};
use crate::address::Address;
use crate::amqp::{Condition, DeliveryId, DeliveryState, LinkId, Token};
use crate::annotations::{DISABLE_Q2, RESEND_RELEASED, STREAMING};
use crate::encapsulation::{self, ClientStream, FIRST_WINDOW_OCTETS, Features};
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
    NextHop { link: van_routing::LinkId, lane: Lane, is_neighbor: bool, carried: Option<Carried> },
    /// An answer, the way that the client's stream came.
    Back(ConnectionRef),
    /// Out by a link with an address.
    Link { link: EndpointId, peer: PeerKind, carried: Option<Carried> },
    /// By the link that a name was made for.
    Temporary(ReplyName),
    /// To a subscriber in this process.
    Subscriber(SubscriberId),
    /// To the control plane, for it came on a link of its own.
    Control,
    /// To several places.
    Several(Vec<Recipient>, Lane),
    /// Nowhere.
    Refused(DeliveryState),
}

/// A workload that a client stream goes to.
struct Workload {
    connector: ConnectorId,
    carried: Carried,
    answer: Box<Answer>,
    /// The protocol that the client agreed on by ALPN.
    alpn: Option<String>,
    flow: Option<ClientFlow>,
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
        connection.count_begun(link, self.now);
        if class == Some(Class::Control) {
            let end = if settled { End::Presettled } else { End::Outcome(&DeliveryState::Accepted) };
            connection.count_end(link, self.now, end, None);
            return connection.engine.set_delivery_token(delivery, link, CONTROL_DELIVERY);
        }
        let mut attachment =
            Attachment::new(Inlet::Delivery { connection: key, link, delivery }, Outlet::Undecided, Flow::Passing);
        attachment.is_inlet_settled = settled;
        attachment.came_settled = settled;
        attachment.since = Some(self.now).filter(|_| class != Some(Class::Stream));
        let mut offer = Offer { is_stream: class == Some(Class::Stream), ..Offer::default() };
        if let (Purpose::Links(peer), Some(Class::Endpoint(endpoint))) = (connection.purpose, class)
            && let Some(endpoint) = connection.endpoints.get(endpoint)
        {
            offer.is_stream = endpoint.is_streaming;
            offer.flags = endpoint.flags;
            offer.to = endpoint.address.clone();
            offer.is_targeted = endpoint.address.is_some();
            offer.service = endpoint.service;
            offer.is_foreign = peer == PeerKind::Client;
            offer.came_by = Some(connection.id).filter(|_| !offer.is_foreign);
        }
        attachment.message = Some(offer.into());
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
        self.charge(key);
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
                if let Some(annotations) = head.annotations.filter(|_| !offer.is_foreign) {
                    offer.flags |= annotations.flags;
                }
                offer.is_stream |= offer.flags & STREAMING != 0 || offer.octets.len() > STREAM_FROM_OCTETS;
                attachment.since = attachment.since.filter(|_| offer.flags & STREAMING == 0);
                attachment.has_no_window = offer.has_no_window();
                if is_complete || offer.is_stream {
                    self.route(io, key);
                }
            }
            Ok(None) => {}
            Err(error) => {
                let condition = Condition::new("amqp:invalid-field", error.to_string());
                self.refuse(io, key, DeliveryState::Rejected(Some(condition.into())));
            }
        }
    }

    // === choosing a way ===

    /// Finds a way for an offer, and takes it. Called again when a consumer turns it down.
    pub(super) fn route(&mut self, io: &mut impl Io, key: Key) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let Some(mut offer) = attachment.message.take() else { return };
        let may_grow = attachment.ended.is_none() && matches!(attachment.inlet, Inlet::Delivery { .. });
        let (way, passages) = self.find_way(&offer);
        let is_for_us = |recipient: &Recipient| matches!(recipient, Recipient::Subscriber(_));
        let needs_all = match &way {
            Way::Control | Way::Subscriber(_) => true,
            Way::Several(recipients, _) => recipients.iter().any(is_for_us),
            _ => false,
        };
        if needs_all && may_grow && offer.octets.len() <= MAX_MESSAGE_BYTES {
            self.attachments.get_mut(key).expect("found above").message = Some(offer);
            return;
        }
        self.count_passages(key, &way, passages.as_ref(), offer.tried.is_none());
        offer.tried = Some(match &way {
            Way::Workload(workload) => Tried::Connector(workload.connector),
            Way::NextHop { link, carried: Some(_), .. } => Tried::NextHop(*link),
            Way::Link { link, carried: Some(_), .. } => Tried::Link(*link),
            _ => Tried::Only,
        });
        match way {
            Way::Refused(DeliveryState::Released) if self.is_worth_waiting(key, &offer) => {
                self.wait_for_routes(key, offer)
            }
            Way::Refused(state) => self.refuse(io, key, state),
            Way::Workload(workload) => self.go_to_workload(io, key, offer, workload),
            Way::Client { name, features, start } => {
                let rest = Bytes::copy_from_slice(&offer.octets[start..]);
                self.go_to_client(io, key, name, features, rest);
            }
            Way::NextHop { link, lane, is_neighbor, carried } => {
                offer.goes_early = is_neighbor && !offer.is_too_early;
                self.go_to_next_hop(io, key, offer, link, lane, carried)
            }
            Way::Back(connection) => self.go_back(io, key, offer, connection),
            Way::Link { link, peer, carried } => self.go_to_link(io, key, offer, link, peer, carried),
            Way::Temporary(name) => self.go_to_temporary(io, key, *offer, name),
            Way::Subscriber(subscriber) => self.go_to_subscriber(io, key, *offer, subscriber),
            Way::Several(recipients, lane) => self.go_to_several(io, key, *offer, recipients, lane),
            Way::Control => self.go_to_control(io, key, *offer),
        }
    }

    /// The way of an offer, and where those of its address are counted.
    fn find_way(&self, offer: &Offer) -> (Way, Option<Passages>) {
        let Ok(Some(head)) = message::scan(&offer.octets, true) else {
            let condition = Condition::bare("amqp:invalid-field");
            return (Way::Refused(DeliveryState::Rejected(Some(condition.into()))), None);
        };
        if offer.service == Service::Control {
            return (Way::Control, None);
        }
        let annotations = offer.annotations(&head);
        let Some(to) = annotations.to_override.or(head.properties.to) else {
            let condition = Condition::new("amqp:precondition-failed", "no address");
            return (Way::Refused(DeliveryState::Rejected(Some(condition.into()))), None);
        };
        // A way longer than any is a circle. An edge router knows no ways, and is at the end of each.
        if self.routes.edge.is_none() && annotations.hops() > self.routes.table.max_trace() {
            return (Way::Refused(DeliveryState::Released), None);
        }
        let mut passages = None;
        let mut way_to = |consumers: &Consumers| {
            passages = Some(consumers.passages.clone());
            self.way_to_consumers(offer, &head, consumers)
        };
        let way = match self.routes.parse(to) {
            Address::Local(name) => match self.routes.locals.get(name) {
                Some(consumers) => way_to(consumers),
                None => self.way_to_client(name, &head),
            },
            Address::Router(_) | Address::Foreign if self.routes.edge.is_some() => self.way_up(offer),
            Address::Router(id) => {
                let link = self.routes.way_to_id(id, annotations.origin());
                let way = link.map(|link| Way::NextHop {
                    link,
                    lane: offer.lane(head.priority),
                    is_neighbor: false,
                    carried: None,
                });
                // A neighbour may send before it is known to be one.
                way.or_else(|| self.way_back(offer))
            }
            Address::Edge(id) => match self.routes.edges.get(id) {
                Some(consumers) => way_to(consumers),
                None => self.way_up(offer),
            },
            Address::Mobile(key) => {
                let consumers = self.routes.addresses.get(key).or_else(|| self.routes.own(key));
                consumers.and_then(|consumers| way_to(consumers)).or_else(|| self.way_up(offer))
            }
            Address::Everywhere(_) | Address::Foreign => None,
        };
        (way.unwrap_or(Way::Refused(DeliveryState::Released)), passages)
    }

    /// Counts the way a delivery takes, and the one it came by if it is the first that is tried.
    fn count_passages(&mut self, key: Key, way: &Way, passages: Option<&Passages>, is_first: bool) {
        let Some(attachment) = self.attachments.get(key) else { return };
        let is_program = |id: &ConnectionId| self.routes.programs.contains(id);
        let leaves_by = |link: &EndpointId| Passage::Egress { is_program: is_program(&link.at.id) };
        let came_by = match attachment.inlet {
            _ if !is_first => None,
            Inlet::Socket(_) => Some(Passage::Ingress { is_program: false }),
            Inlet::Delivery { connection, .. } => {
                let connection = self.connections.get(connection);
                let outside = connection.filter(|it| matches!(it.purpose, Purpose::Links(_)));
                outside.map(|connection| Passage::Ingress { is_program: is_program(&connection.id) })
            }
            Inlet::Control => Some(Passage::FromContainer),
            Inlet::Shard { .. } | Inlet::Copy { .. } => None,
        };
        let of = |recipient: &Recipient| match recipient {
            Recipient::Subscriber(_) => Passage::ToContainer,
            Recipient::Link(link, _) => leaves_by(link),
            Recipient::NextHop(_) => Passage::Transit,
        };
        let goes_by = match way {
            Way::Workload(_) | Way::Client { .. } | Way::Temporary(_) => Some(Passage::Egress { is_program: false }),
            Way::Link { link, .. } => Some(leaves_by(link)),
            Way::NextHop { .. } | Way::Back(_) => Some(Passage::Transit),
            Way::Subscriber(_) | Way::Control => Some(Passage::ToContainer),
            Way::Several(..) | Way::Refused(_) => None,
        };
        let several = if let Way::Several(recipients, _) = way { recipients.as_slice() } else { &[] };
        for passage in came_by.into_iter().chain(goes_by).chain(several.iter().map(of)) {
            self.counters.passed.count(passage);
            passages.into_iter().for_each(|passages| passages.count(passage));
        }
    }

    fn way_to_consumers(&self, offer: &Offer, head: &Head<'_>, consumers: &Consumers) -> Option<Way> {
        let annotations = offer.annotations(head);
        let from = offer.from(&annotations);
        let lane = offer.lane(consumers.priority.unwrap_or(head.priority));
        // By its content: other routers may set the flag of streams for what is a long message.
        let is_stream = encapsulation::stream_start(head).is_ok();
        if matches!(consumers.treatment, Treatment::MulticastFlood | Treatment::MulticastOnce) {
            let mut recipients = self.routes.recipients(consumers, &from);
            // What came from the network is for those who are here; what starts at this edge is for both.
            if let Some(uplink) = self.routes.uplink
                && !offer.is_targeted
                && offer.came_by != Some(uplink.endpoint.at.id)
            {
                recipients.retain(|it| !matches!(it, Recipient::Link(_, PeerKind::Interior)));
                recipients.push(Recipient::Link(uplink.endpoint, PeerKind::Interior));
            }
            // A stream may never end, and only one can answer it.
            return (!is_stream && !recipients.is_empty()).then_some(Way::Several(recipients, lane));
        }
        Some(match self.routes.choose(consumers, is_stream, &from, &offer.excluded)? {
            Choice::Connector(connector, carried) => Self::way_to_workload(connector, carried, head),
            Choice::Subscriber(subscriber) => Way::Subscriber(subscriber),
            Choice::Link(link, peer, carried) => Way::Link { link, peer, carried: Some(carried) },
            Choice::NextHop { link, is_neighbor, carried } => {
                Way::NextHop { link, lane, is_neighbor, carried: Some(carried) }
            }
        })
    }

    /// At an edge router, what is not known here goes to the network, unless it comes from there.
    fn way_up(&self, offer: &Offer) -> Option<Way> {
        let link = self.routes.uplink?.endpoint;
        let is_open = offer.came_by != Some(link.at.id) && !offer.excluded.links.contains(&link);
        is_open.then_some(Way::Link { link, peer: PeerKind::Interior, carried: None })
    }

    /// An answer may leave by the link that the client's stream came by.
    fn way_back(&self, offer: &Offer) -> Option<Way> {
        let connection = self.connections.get(offer.preferred?)?;
        let is_inter_router = !matches!(connection.purpose, Purpose::Links(_));
        is_inter_router.then_some(Way::Back(ConnectionRef { id: connection.id, shard: self.shard }))
    }

    fn way_to_workload(connector: ConnectorId, carried: Carried, head: &Head<'_>) -> Way {
        match (encapsulation::stream_start(head), head.properties.reply_to) {
            (Ok(start), Some(reply_to)) => {
                let answer = Answer {
                    reply_to: reply_to.to_owned(),
                    offered: Features::of(head),
                    is_near: head.annotations.is_some_and(|annotations| annotations.hops() <= 1),
                    connection: None,
                };
                let trace = head.annotations.map(|annotations| annotations.trace_text());
                let flow = head
                    .properties
                    .correlation_text()
                    .map(|identity| ClientFlow { identity: identity.to_owned(), trace: trace.unwrap_or_default() });
                Way::Workload(Workload {
                    connector,
                    carried,
                    answer: answer.into(),
                    alpn: encapsulation::alpn(head),
                    flow,
                    start,
                })
            }
            // Another connector may know what to do with it.
            _ => Way::Refused(DeliveryState::Released),
        }
    }

    fn way_to_client(&self, name: &str, head: &Head<'_>) -> Option<Way> {
        let name = ReplyName::parse(name)?;
        if name.is_link() {
            return Some(Way::Temporary(name));
        }
        Some(match encapsulation::stream_start(head) {
            Ok(start) => Way::Client { name, features: Features::of(head).common(Features::OURS), start },
            Err(error) => {
                let condition = Condition::new("amqp:invalid-field", error.to_string());
                Way::Refused(DeliveryState::Rejected(Some(condition.into())))
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
        if let Inlet::Delivery { connection, link, .. } = attachment.inlet
            && attachment.came_settled
        {
            self.counters.ends.dropped_presettled += 1;
            self.connections.get_mut(connection).into_iter().for_each(|connection| connection.count_dropped(link));
        }
        self.tell_outcome(io, key, state);
        self.drop_outlet(io, key);
    }

    // === taking the way ===

    fn go_to_workload(&mut self, io: &mut impl Io, key: Key, offer: Box<Offer>, workload: Workload) {
        let Workload { connector, carried, mut answer, alpn, flow, start } = workload;
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let is_ours = matches!(attachment.inlet, Inlet::Socket(_));
        if let Inlet::Delivery { connection, .. } = attachment.inlet {
            answer.connection = Some(connection);
        }
        let at = answer.connection.and_then(|key| self.connections.get(key));
        if !(answer.is_near && at.is_some_and(|at| at.engine.is_peer_alike())) {
            answer.offered.window = None;
        }
        let mut stream = Stream::new(Side::Server { answer: (!is_ours).then_some(answer) });
        stream.down = Some(key);
        let stream = self.streams.insert(stream);
        self.counters.streams += 1;
        attachment.parked.copy(&offer.octets[start..]);
        attachment.message = Some(offer);
        attachment.carried = Some(carried);
        attachment.outlet = Outlet::Connecting(stream);
        self.charge(key);
        io.connect(stream, connector, alpn.as_deref(), flow);
    }

    fn go_to_next_hop(
        &mut self,
        io: &mut impl Io,
        key: Key,
        mut offer: Box<Offer>,
        link: van_routing::LinkId,
        lane: Lane,
        carried: Option<Carried>,
    ) {
        let preferred = offer.preferred.and_then(|key| self.connections.get(key)).map(|connection| connection.id);
        let hop = self.routes.next_hops.get(&link);
        let is_of_hop = |id| hop.is_some_and(|hop| hop.control.id == id || hop.data.iter().any(|data| data.id == id));
        let chosen = match preferred.filter(|id| lane == Lane::Stream && is_of_hop(*id)) {
            Some(id) => Some(ConnectionRef { id, shard: self.shard }),
            None => self.next_hop(link, lane),
        };
        let is_alike = |at: ConnectionRef| {
            let key = self.by_id.get(&at.id).filter(|_| at.shard == self.shard);
            key.and_then(|key| self.connections.get(*key)).is_some_and(|it| it.engine.is_peer_alike())
        };
        offer.goes_early &= chosen.is_some_and(is_alike);
        let octets = self.forwarded(&offer, None);
        self.keep_offer(key, offer, lane, carried);
        match chosen {
            Some(at) => self.leave_by(io, key, at, lane, octets),
            None => self.turned_down(io, key),
        }
    }

    fn go_back(&mut self, io: &mut impl Io, key: Key, offer: Box<Offer>, at: ConnectionRef) {
        let octets = self.forwarded(&offer, None);
        self.keep_offer(key, offer, Lane::Stream, None);
        self.leave_by(io, key, at, Lane::Stream, octets);
    }

    fn go_to_link(
        &mut self,
        io: &mut impl Io,
        key: Key,
        offer: Box<Offer>,
        link: EndpointId,
        peer: PeerKind,
        carried: Option<Carried>,
    ) {
        let lane = match offer.is_stream && peer != PeerKind::Client {
            true => Lane::Stream,
            false => Lane::Endpoint(link.key),
        };
        let octets = self.forwarded(&offer, Some(peer));
        self.keep_offer(key, offer, lane, carried);
        self.leave_by(io, key, link.at, lane, octets);
    }

    /// Remembers an offer that another consumer may have to be offered: a stream as long as nobody has answered it; a whole
    /// message only if its sender wants that.
    fn keep_offer(&mut self, key: Key, offer: Box<Offer>, lane: Lane, carried: Option<Carried>) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        attachment.carried = carried;
        let is_kept = offer.flags & RESEND_RELEASED != 0 || lane == Lane::Stream && !offer.is_foreign;
        attachment.message = Some(offer).filter(|_| is_kept);
    }

    fn go_to_temporary(&mut self, io: &mut impl Io, key: Key, offer: Offer, name: ReplyName) {
        let octets = self.forwarded(&offer, Some(PeerKind::Client));
        if name.shard == self.shard {
            return self.leave_by_temporary(io, key, name, octets);
        }
        if name.shard.0 >= self.routes.shards {
            return self.refuse(io, key, DeliveryState::Released);
        }
        self.cross_over(io, key, name.shard, Destination::Temporary { name }, octets);
    }

    /// Sends a direction out by the link that a name was made for.
    pub(super) fn leave_by_temporary(&mut self, io: &mut impl Io, key: Key, name: ReplyName, octets: Bytes) {
        match self.temporary(name) {
            Some(link) => self.leave_by(io, key, link.at, Lane::Endpoint(link.key), octets),
            None => self.refuse(io, key, DeliveryState::Released),
        }
    }

    /// Sends a direction out by a connection, of this shard or another.
    pub(super) fn leave_by(&mut self, io: &mut impl Io, key: Key, at: ConnectionRef, lane: Lane, octets: Bytes) {
        if at.shard != self.shard {
            return self.cross_over(io, key, at.shard, Destination::Connection { connection: at.id, lane }, octets);
        }
        let Some(&connection) = self.by_id.get(&at.id) else { return self.turned_down(io, key) };
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let is_settled = attachment.is_presettled();
        attachment.outlet = Outlet::Queued { connection, lane };
        attachment.parked.push(octets);
        self.count_held(key);
        if is_settled && lane != Lane::Stream && self.is_congested(connection, lane) {
            self.counters.copies_dropped += 1;
            let link = self.connections.get_mut(connection).and_then(|it| Some((it.link_of(lane)?, it)));
            link.into_iter().for_each(|(link, connection)| connection.count_dropped(link));
            return self.drop_outlet(io, key);
        }
        self.enter_line(io, key, connection, lane, is_settled);
    }

    fn cross_over(&mut self, io: &mut impl Io, key: Key, shard: ShardId, destination: Destination, octets: Bytes) {
        let wants_taken = self.cross(key, shard);
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let is_settled = attachment.is_presettled();
        attachment.under_way += octets.len();
        let ended = attachment.ended;
        attachment.is_outlet_done |= ended.is_some();
        // Of what is settled the second half tells no outcome.
        attachment.is_outlet_settled |= is_settled;
        io.post(shard, Crossing::Open { from: key, destination, octets, ended, is_settled, wants_taken });
        self.count_held(key);
        self.reap(io, key);
    }

    // === to several places ===

    /// Gives a message to all who are to have it. It is over when all of them have answered.
    fn go_to_several(&mut self, io: &mut impl Io, key: Key, offer: Offer, recipients: Vec<Recipient>, lane: Lane) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let (ended, is_settled, since) = (attachment.ended, attachment.is_presettled(), attachment.since);
        attachment.outlet = Outlet::Copies;
        attachment.copies = Some(Copies { open: recipients.len(), ..Copies::default() }.into());
        let octets = (!recipients.is_empty()).then(|| self.forwarded(&offer, None));
        for recipient in recipients {
            let mut copy = Attachment::new(Inlet::Copy { original: key }, Outlet::Undecided, Flow::Passing);
            (copy.ended, copy.is_inlet_settled, copy.has_no_window) = (ended, is_settled, offer.has_no_window());
            copy.since = since;
            let copy = self.attachments.insert(copy);
            if let Some(copies) = self.attachments.get_mut(key).and_then(|it| it.copies.as_mut()) {
                copies.keys.push(copy);
            }
            match recipient {
                Recipient::Subscriber(subscriber) => self.deliver(io, copy, &offer, subscriber),
                Recipient::Link(link, peer) => {
                    let lane = match offer.is_stream && peer != PeerKind::Client {
                        true => Lane::Stream,
                        false => Lane::Endpoint(link.key),
                    };
                    let octets = self.forwarded(&offer, Some(peer));
                    self.leave_by(io, copy, link.at, lane, octets);
                }
                Recipient::NextHop(link) => match self.next_hop(link, lane) {
                    Some(at) => self.leave_by(io, copy, at, lane, octets.clone().unwrap_or_default()),
                    None => self.turned_down(io, copy),
                },
            }
        }
        self.copies_done(io, key);
    }

    /// The connection to a neighbour for a message or a stream.
    fn next_hop(&mut self, link: van_routing::LinkId, lane: Lane) -> Option<ConnectionRef> {
        self.turn = self.turn.wrapping_add(1);
        let is_gone = |at: &ConnectionRef| at.shard == self.shard && !self.by_id.contains_key(&at.id);
        match lane {
            Lane::Stream => self.routes.stream_connection(link, self.shard, self.turn, is_gone),
            _ => self.routes.next_hops.get(&link).map(|hop| hop.control),
        }
    }

    // === to this process ===

    fn go_to_subscriber(&mut self, io: &mut impl Io, key: Key, offer: Offer, subscriber: SubscriberId) {
        if matches!(self.attachments.get(key).map(|it| it.inlet), Some(Inlet::Socket(_))) {
            return self.refuse(io, key, DeliveryState::Released); // a client, whose stream is no message
        }
        self.deliver(io, key, &offer, subscriber);
    }

    /// Hands a whole message to a subscriber, and says that it was taken.
    fn deliver(&mut self, io: &mut impl Io, key: Key, offer: &Offer, subscriber: SubscriberId) {
        if offer.octets.len() > MAX_MESSAGE_BYTES {
            let condition = Condition::new("amqp:link:message-size-exceeded", "message for us beyond 1 MiB");
            return self.refuse(io, key, DeliveryState::Rejected(Some(condition.into())));
        }
        let rest = message::scan(&offer.octets, true).ok().flatten().map_or(0, |head| head.rest);
        let message = Bytes::copy_from_slice(&offer.octets[rest..]);
        let connection = self.source(key).and_then(|(connection, _)| self.connections.get_mut(connection));
        let connection = connection.map(|connection| {
            connection.untaken += message.len();
            connection.id
        });
        io.report(Report::Deliver { connection, subscriber, message });
        self.tell_outcome(io, key, DeliveryState::Accepted);
        self.drop_outlet(io, key);
    }

    /// Hands a message to the control plane that came on one of its links.
    fn go_to_control(&mut self, io: &mut impl Io, key: Key, offer: Offer) {
        let inlet = self.attachments.get(key).map(|attachment| attachment.inlet);
        let Some(Inlet::Delivery { connection, link, .. }) = inlet else { return };
        if offer.octets.len() > MAX_MESSAGE_BYTES {
            return self.refuse(io, key, DeliveryState::Rejected(None));
        }
        if let Some(connection) = self.connections.get_mut(connection)
            && let Some(Class::Endpoint(endpoint)) = connection.engine.token(link).and_then(Class::of)
        {
            connection.untaken += offer.octets.len();
            let at = ConnectionRef { id: connection.id, shard: self.shard };
            let endpoint = EndpointId { at, key: endpoint };
            io.report(Report::LinkMessage { endpoint, message: offer.octets.into() });
        }
        self.tell_outcome(io, key, DeliveryState::Accepted);
        self.drop_outlet(io, key);
    }

    /// Takes a message of this process: its sections without router annotations, and the address it is for if it does not
    /// say itself.
    pub(super) fn take_in(&mut self, io: &mut impl Io, to: Option<Arc<str>>, octets: &[u8]) {
        let mut attachment = Attachment::new(Inlet::Control, Outlet::Undecided, Flow::Passing);
        attachment.ended = Some(Ending::Complete);
        attachment.is_inlet_settled = true;
        attachment.since = Some(self.now);
        let offer = Offer { octets: octets.to_vec(), to, is_foreign: true, ..Offer::default() };
        attachment.message = Some(offer.into());
        let key = self.attachments.insert(attachment);
        self.consider(io, key);
    }

    /// Sends a message of the control plane, settled; drops it if too much waits already.
    pub(super) fn send_whole(&mut self, io: &mut impl Io, key: Key, lane: Lane, message: Bytes) {
        let Some(at) = self.connections.get(key).map(|it| ConnectionRef { id: it.id, shard: self.shard }) else {
            return;
        };
        let mut attachment = Attachment::new(Inlet::Control, Outlet::Undecided, Flow::Passing);
        attachment.ended = Some(Ending::Complete);
        attachment.is_inlet_settled = true;
        let attachment = self.attachments.insert(attachment);
        self.leave_by(io, attachment, at, lane, message);
    }

    fn is_congested(&self, key: Key, lane: Lane) -> bool {
        let Some(connection) = self.connections.get(key) else { return true };
        let mut waiting = connection.waiting(lane).filter_map(|key| self.attachments.get(key));
        let octets: usize = waiting.by_ref().take(MAX_WAITING_COPIES).map(|waiting| waiting.parked.len()).sum();
        octets > MAX_UNTAKEN_BYTES || waiting.next().is_some()
    }

    /// Puts a direction in line for a link of a connection.
    pub(super) fn enter_line(&mut self, io: &mut impl Io, key: Key, connection: Key, lane: Lane, is_settled: bool) {
        let is_settled_only = self.connections.get(connection).is_some_and(|it| it.is_settled_only(lane));
        let is_settled = is_settled || is_settled_only;
        if let Some(attachment) = self.attachments.get_mut(key) {
            attachment.is_outlet_settled = is_settled;
        }
        let random = &mut self.random;
        if !self.connections.get_mut(connection).is_some_and(|it| it.queue(lane, (key, is_settled), self.now, random)) {
            return self.turned_down(io, key);
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

    /// The message as this router sends it on: to other interior routers (no `peer`) and edge routers with annotations that
    /// have us in the trace, to clients without, the rest as it is.
    fn forwarded(&self, offer: &Offer, peer: Option<PeerKind>) -> Bytes {
        let mut out = Vec::with_capacity(offer.octets.len() + 128);
        if let Ok(Some(head)) = message::scan(&offer.octets, true) {
            let annotations = offer.annotations(&head);
            match (peer, &self.routes.edge) {
                (Some(PeerKind::Client), _) => {}
                (Some(PeerKind::Interior), Some(edge)) => annotations.forward_from_edge(Some(&edge.mesh), &mut out),
                (_, Some(_)) => annotations.forward_from_edge(None, &mut out),
                (_, None) => annotations.forward(&self.routes.node, &mut out),
            }
            out.extend_from_slice(&offer.octets[head.rest..]);
        }
        out.into()
    }

    // === the two ends of a stream ===

    /// Looks for a consumer for a new client.
    pub(super) fn offer_client_stream(&mut self, io: &mut impl Io, stream: Key) {
        let Some(Stream { side: Side::Client { client, salt }, .. }) = self.streams.get(stream) else { return };
        let name = ReplyName::stream(self.shard, stream, *salt);
        let reply_to = self.routes.own_address(&name.to_text());
        let mut octets = Vec::with_capacity(256);
        let (alpn, flow) = (client.alpn.as_deref(), client.flow.as_deref());
        let said = ClientStream { key: &client.key, reply_to: &reply_to, alpn, flow };
        let first_window = self.memory.first_window();
        encapsulation::write_client_stream(said, Features::OURS.granting(first_window), &mut octets);
        self.stream_mut(stream).promised = Some(first_window);
        self.memory.change(0, first_window as usize);
        self.memory.count_stream(true);
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

    /// From now on a direction writes a socket, and reports; if both ends can, it grants the window.
    fn receive(&mut self, key: Key, features: Features, first_window: u32) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        attachment.flow = Flow::Receiving(match features.window {
            Some(_) => Reports::granting(first_window),
            None => Reports::fixed(features.acks),
        });
        if features.window.is_some() {
            self.memory.count_stream(true);
        }
        self.charge(key);
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
        let destination = Destination::Stream { stream: name.stream, salt: name.salt, features };
        self.cross_over(io, key, name.shard, destination, rest);
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
        let promised = self.take_promise(stream);
        if let Some(attachment) = self.attachments.get_mut(key) {
            attachment.outlet = Outlet::Socket(stream);
            attachment.message = None;
        }
        self.receive(key, features, promised.unwrap_or(FIRST_WINDOW_OCTETS));
        io.established(stream);
        if let Some(up) = up {
            if let (Some(first), Some(attachment)) = (features.window, self.attachments.get_mut(up))
                && let Flow::Sending(window) | Flow::Crossing { window } = &mut attachment.flow
            {
                window.follow(first);
            }
            self.start(io, up);
        }
        self.push(io, key, &[rest]);
        self.advance(io, key);
    }

    /// A client's direction has found its workload: nobody else is offered it, and all of it goes there.
    fn start(&mut self, io: &mut impl Io, key: Key) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let offer = attachment.message.take();
        if let Some(offer) = offer.filter(|offer| !offer.goes_early && !offer.early.is_empty()) {
            if let Flow::Sending(window) | Flow::Crossing { window } = &mut attachment.flow {
                window.count(offer.early.len());
            }
            self.push(io, key, &[&offer.early]);
        }
        self.charge(key);
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
        match (answer, attachment.inlet) {
            (Some(answer), _) => {
                let features = answer.offered.common(Features::OURS);
                server.features = features;
                let first_window = self.memory.first_window();
                self.receive(down, features, first_window);
                self.answer_client_stream(io, stream, *answer, first_window);
            }
            (None, Inlet::Socket(client)) => {
                attachment.flow = Flow::Passing;
                server.features = Features::OURS;
                self.join(io, client, stream);
            }
            (None, _) => {}
        }
        self.start(io, down);
        if let Some(up) = self.streams.get(stream).and_then(|stream| stream.up) {
            self.advance(io, up);
        }
    }

    /// Opens the server stream.
    fn answer_client_stream(&mut self, io: &mut impl Io, stream: Key, answer: Answer, first_window: u32) {
        let mut octets = Vec::with_capacity(256);
        let is_own = answer.offered != Features::default();
        let features = answer.offered.common(Features::OURS);
        let window = features.window.map(|_| first_window);
        let ours = Features { window, ..Features::OURS };
        encapsulation::write_server_stream(&answer.reply_to, is_own.then_some(ours), &mut octets);
        let up = self.add_reader(stream);
        if let (Some(first), Some(attachment)) = (features.window, self.attachments.get_mut(up))
            && let Flow::Sending(window) = &mut attachment.flow
        {
            window.follow(first);
        }
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
        self.take_promise(client);
        io.established(client);
    }

    /// The workload is not there: its stream goes, and the offer to the next consumer.
    pub(super) fn workload_refused(&mut self, io: &mut impl Io, stream: Key) {
        let Some(server) = self.remove_stream(stream) else { return };
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
        if let Flow::Sending(window) = &attachment.flow {
            attachment.flow = Flow::Crossing { window: *window };
        }
        matches!(attachment.flow, Flow::Crossing { .. }) || attachment.has_no_window
    }
}
