//! What arrives: deliveries from other routers and clients of our listeners, gathered until it can be told where they go.

use super::attachment::{Attachment, Ending, Flow, Inlet, Offer, Outlet};
use super::connection::{CONTROL_DELIVERY, Class, MAX_CONTROL_BYTES, MAX_GATHERED_BYTES, Purpose};
use super::routes::PeerKind;
use super::tally::End;
use super::{Batch, Io, Plane};
use crate::amqp::{Condition, DeliveryId, DeliveryState, LinkId, Token};
use crate::annotations::STREAMING;
use crate::message;
use crate::slab::Key;

/// A message that has grown beyond this is passed on before it is complete. Source: skupper-router, Q2 limit, 64 × 4072.
const STREAM_FROM_OCTETS: usize = 260_608;

impl Plane {
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
        if let Purpose::Links(peer) = connection.purpose {
            offer.is_foreign = peer == PeerKind::Client;
            offer.came_by = Some(connection.id).filter(|_| !offer.is_foreign);
        }
        if let Some(Class::Endpoint(endpoint)) = class
            && let Some(endpoint) = connection.endpoints.get(endpoint)
        {
            offer.is_stream = endpoint.is_streaming;
            offer.flags = endpoint.flags;
            offer.to = endpoint.address.clone();
            offer.is_targeted = endpoint.address.is_some();
            offer.service = endpoint.service;
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
}
