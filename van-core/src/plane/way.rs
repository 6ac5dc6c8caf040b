//! Where a message goes: the choice among what the picture of the network offers.

use bytes::Bytes;
use van_routing::Treatment;

use super::attachment::{Inlet, Lane, Offer, Tried};
use super::connection::Purpose;
use super::endpoint::Service;
use super::routes::{
    Carried, Choice, ConnectionId, ConnectionRef, ConnectorId, Consumers, EndpointId, PeerKind, Recipient, SubscriberId,
};
use super::stream::{Answer, ReplyName};
use super::tally::{Passage, Passages};
use super::{ClientFlow, Io, MAX_MESSAGE_BYTES, Plane};
use crate::address::Address;
use crate::amqp::{Condition, DeliveryState};
use crate::encapsulation::{self, Features};
use crate::message::{self, Head};
use crate::slab::Key;

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
pub(super) struct Workload {
    pub(super) connector: ConnectorId,
    pub(super) carried: Carried,
    pub(super) answer: Box<Answer>,
    /// The protocol that the client agreed on by ALPN.
    pub(super) alpn: Option<String>,
    pub(super) flow: Option<ClientFlow>,
    /// Where the stream's octets start.
    pub(super) start: usize,
}

impl Plane {
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
                let link = self.routes.way_to_id(id, &offer.from(&annotations));
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
}
