//! What a peer did, as the user of the engine is told it.

use super::LinkId;
use crate::amqp::delivery::{DeliveryId, DeliveryTag};
use crate::amqp::link::Token;
use crate::amqp::outcome::{Condition, DeliveryState};
use crate::amqp::performative::{Attach, Open, Role};
use crate::amqp::sasl::Claim;
use crate::slab::Key;

/// What a peer did.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A connecting peer says who it is; answer with [`Connection::authenticate`](super::Connection::authenticate).
    Authenticate(Claim),
    /// The peer's open. An accepting end answers with [`Connection::answer_open`](super::Connection::answer_open).
    Opened(Box<Open>),
    /// A link of the peer's, to be answered with [`Connection::accept_link`](super::Connection::accept_link) or [`Connection::refuse_link`](super::Connection::refuse_link); or, with
    /// `is_answer`, the answer to one of ours.
    Attached {
        /// The link.
        link: LinkId,
        /// As given with the attach of ours; default otherwise.
        token: Token,
        /// What the peer says.
        attach: Box<Attach>,
        /// Whether this answers ours. Null termini in an answer announce that a detach with the reason follows.
        is_answer: bool,
    },
    /// A link is gone. A delivery under way on it has ended without [`Event::Complete`].
    Detached {
        /// The link, no longer valid.
        link: LinkId,
        /// Its token.
        token: Token,
        /// Whether a delivery on it was under way or not settled.
        was_used: bool,
        /// Why, if the peer says.
        condition: Option<Condition>,
    },
    /// The credit of a link we send on was told.
    Credit {
        /// The link.
        link: LinkId,
        /// Its token.
        token: Token,
        /// Whether the peer wants unused credit back: see [`Connection::drained`](super::Connection::drained).
        drain: bool,
    },
    /// The peer takes transfer frames again on a session where it did not, or has told what it received: see
    /// [`Connection::frames`](super::Connection::frames).
    Window {
        /// The session, as [`LinkId::channel`] tells it.
        channel: u16,
    },
    /// A delivery begins.
    Delivery {
        /// The link.
        link: LinkId,
        /// The link's token.
        token: Token,
        /// The delivery's handle.
        delivery: DeliveryId,
        /// The sender's name for it.
        tag: DeliveryTag,
        /// Whether the sender has settled it already.
        settled: bool,
        /// Whether there is more of it than its first frame.
        goes_on: bool,
    },
    /// Octets of the delivery under way on a link.
    Payload {
        /// The link.
        link: LinkId,
        /// The delivery's token.
        token: Token,
        /// Octets of the message.
        octets: &'a [u8],
    },
    /// A delivery is complete.
    Complete {
        /// The delivery.
        delivery: DeliveryId,
        /// The delivery's token.
        token: Token,
        /// Whether the sender has settled it.
        settled: bool,
    },
    /// The sender gave a delivery up; it counts as settled.
    Aborted {
        /// The link.
        link: LinkId,
        /// The delivery's token.
        token: Token,
        /// Why, if the sender says.
        state: Option<DeliveryState>,
    },
    /// The peer tells the state of a delivery that one end has not settled.
    Disposition {
        /// The delivery; no longer valid if settled.
        delivery: DeliveryId,
        /// Its token.
        token: Token,
        /// What the peer says of it.
        state: Option<DeliveryState>,
        /// Whether the peer has settled it.
        settled: bool,
    },
    /// The peer closed the connection.
    Closed(Option<Condition>),
}

/// Events that one frame brings about. They are made one by one, for what they have in common may be large.
#[derive(Debug)]
pub(super) enum Burst {
    Dispositions {
        deliveries: std::vec::IntoIter<(u32, Token)>,
        channel: u16,
        role: Role,
        state: Option<DeliveryState>,
        settled: bool,
    },
    /// Of a session: deliveries of the peer's of which nobody is to be told more, then links.
    Ended {
        unsettled: std::vec::IntoIter<(u32, Token)>,
        links: std::vec::IntoIter<(Key, Token, bool)>,
        channel: u16,
        condition: Option<Condition>,
    },
}

impl Burst {
    pub(super) fn next(&mut self) -> Option<Event<'static>> {
        match self {
            Self::Dispositions { deliveries, channel, role, state, settled } => {
                let (number, token) = deliveries.next()?;
                let delivery = DeliveryId { channel: *channel, role: *role, number };
                Some(Event::Disposition { delivery, token, state: state.clone(), settled: *settled })
            }
            Self::Ended { unsettled, links, channel, condition } => {
                if let Some((number, token)) = unsettled.next() {
                    let delivery = DeliveryId { channel: *channel, role: Role::Receiver, number };
                    return Some(Event::Disposition { delivery, token, state: None, settled: true });
                }
                let (key, token, was_used) = links.next()?;
                let link = LinkId { channel: *channel, key };
                Some(Event::Detached { link, token, was_used, condition: condition.clone() })
            }
        }
    }
}
