//! Takes a message the way that was chosen: to a link, another shard, several places, or this process.

use std::sync::Arc;

use bytes::Bytes;

use super::attachment::{Attachment, Copies, Ending, Flow, Inlet, Lane, Offer, Outlet};
use super::connection::{Class, Connection, MAX_UNTAKEN_BYTES, MAX_WAITING_COPIES, MAX_WAITING_NEWS};
use super::crossing::{Crossing, Destination};
use super::endpoint::Service;
use super::routes::{Carried, ConnectionRef, EndpointId, PeerKind, Recipient, ShardId, SubscriberId};
use super::stream::{ReplyName, Side, Stream};
use super::way::Workload;
use super::{Io, MAX_MESSAGE_BYTES, Plane, Report};
use crate::amqp::{Condition, DeliveryState};
use crate::annotations::{RESEND_RELEASED, STREAMING};
use crate::message;
use crate::slab::Key;

impl Plane {
    pub(super) fn go_to_workload(&mut self, io: &mut impl Io, key: Key, offer: Box<Offer>, workload: Workload) {
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

    pub(super) fn go_to_next_hop(
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
        let chosen = match preferred.filter(|id| lane.has_own_links() && is_of_hop(*id)) {
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

    pub(super) fn go_back(&mut self, io: &mut impl Io, key: Key, offer: Box<Offer>, at: ConnectionRef) {
        let octets = self.forwarded(&offer, None);
        self.keep_offer(key, offer, Lane::Stream, None);
        self.leave_by(io, key, at, Lane::Stream, octets);
    }

    pub(super) fn go_to_link(
        &mut self,
        io: &mut impl Io,
        key: Key,
        offer: Box<Offer>,
        link: EndpointId,
        peer: PeerKind,
        carried: Option<Carried>,
    ) {
        let lane = Self::lane_of_link(&offer, link, peer);
        let octets = self.forwarded(&offer, Some(peer));
        self.keep_offer(key, offer, lane, carried);
        self.leave_by(io, key, link.at, lane, octets);
    }

    /// Other routers get what is passed on as it comes on links of its own.
    fn lane_of_link(offer: &Offer, link: EndpointId, peer: PeerKind) -> Lane {
        offer.own_lane().filter(|_| peer != PeerKind::Client).unwrap_or(Lane::Endpoint(link.key))
    }

    /// Remembers an offer that another consumer may have to be offered: a stream as long as nobody has answered it; a whole
    /// message only if its sender wants that.
    fn keep_offer(&mut self, key: Key, offer: Box<Offer>, lane: Lane, carried: Option<Carried>) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        attachment.carried = carried;
        let is_kept = offer.flags & RESEND_RELEASED != 0 || lane.has_own_links() && !offer.is_foreign;
        attachment.message = Some(offer).filter(|_| is_kept);
    }

    pub(super) fn go_to_temporary(&mut self, io: &mut impl Io, key: Key, offer: Offer, name: ReplyName) {
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
        let news = self.waiting_news(connection, lane);
        if news.is_some_and(|waiting| waiting > MAX_WAITING_NEWS) {
            let reason =
                Condition::new("amqp:resource-limit-exceeded", "takes nothing of what it is told of addresses");
            return self.fail_connection(io, connection, reason);
        }
        if news.is_none() && is_settled && !lane.has_own_links() && self.is_congested(connection, lane) {
            self.counters.copies_dropped += 1;
            let link = self.connections.get_mut(connection).and_then(|it| Some((it.link_of(lane)?, it)));
            link.into_iter().for_each(|(link, connection)| connection.count_dropped(link));
            return self.drop_outlet(io, key);
        }
        self.enter_line(io, key, connection, lane, is_settled);
    }

    pub(super) fn cross_over(
        &mut self,
        io: &mut impl Io,
        key: Key,
        shard: ShardId,
        destination: Destination,
        octets: Bytes,
    ) {
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
    pub(super) fn go_to_several(
        &mut self,
        io: &mut impl Io,
        key: Key,
        offer: Offer,
        recipients: Vec<Recipient>,
        lane: Lane,
    ) {
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
                    let lane = Self::lane_of_link(&offer, link, peer);
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
        match lane.has_own_links() {
            true => self.routes.stream_connection(link, self.shard, self.turn, is_gone),
            false => self.routes.next_hops.get(&link).map(|hop| hop.control),
        }
    }

    // === to this process ===

    pub(super) fn go_to_subscriber(&mut self, io: &mut impl Io, key: Key, offer: Offer, subscriber: SubscriberId) {
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
    pub(super) fn go_to_control(&mut self, io: &mut impl Io, key: Key, offer: Offer) {
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

    /// How many messages wait on a link of the control plane's. None is dropped: the peer would not be told again.
    fn waiting_news(&self, key: Key, lane: Lane) -> Option<usize> {
        let Lane::Endpoint(endpoint) = lane else { return None };
        let endpoint = self.connections.get(key)?.endpoints.get(endpoint)?;
        (endpoint.service == Service::Control).then_some(endpoint.line.len())
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
        if let Some(connection) = self.connections.get_mut(key) {
            connection.attach_for_line(&mut self.random);
        }
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
            let mut annotations = offer.annotations(&head);
            annotations.flags |= if offer.is_stream { STREAMING } else { 0 };
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
}
