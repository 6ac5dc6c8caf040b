//! One direction of traffic: where its octets come from, where they go, and how it ends.
//!
//! ```text
//!   inlet            gathering ──► routed ──► flowing ──► ended            outlet
//!   a socket of ours      (sections first)                                 a socket of ours
//!   a delivery in ─────────────────── octets ────────────────────────────► a delivery out
//!   another shard ◄────────── reports, outcomes, settlement ───────────── another shard
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::connection::PRIORITIES;
use super::endpoint::Service;
use super::parked::Parked;
use super::routes::{Carried, ConnectionId, ConnectorId, EndpointId, Excluded, From, ShardId};
use super::window::{MAX_WINDOW, Reports, SendWindow};
use crate::amqp::{DeliveryId, DeliveryState, LinkId};
use crate::annotations::{Annotations, DISABLE_Q2, RESEND_RELEASED};
use crate::message::Head;
use crate::slab::Key;

/// Octets that may wait in one direction that ends here, if its sender's window is fixed. skupper-router's, with what it may
/// overshoot, is below; whoever exceeds it does not keep to its window, and the stream is given up.
const MAX_PARKED: usize = 4 * 1024 * 1024;

/// As [`MAX_PARKED`], in one that passes, while there is memory: the largest window, and what a sender may send before it is told one.
const MAX_PASSING: usize = MAX_WINDOW as usize + MAX_PARKED;

/// Octets of a client that go to a workload before it has answered. A request and its head fit.
pub(super) const MAX_EARLY: usize = 65_536;

/// One direction of traffic.
#[derive(Debug)]
pub(super) struct Attachment {
    pub(super) inlet: Inlet,
    pub(super) outlet: Outlet,
    pub(super) parked: Parked,
    /// The message so far, while it is gathered and as long as another consumer may have to be offered it.
    pub(super) message: Option<Box<Offer>>,
    /// Octets of it that its connection counts as gathered.
    pub(super) gathered: usize,
    /// How the inlet ended, once it has.
    pub(super) ended: Option<Ending>,
    /// The outcome told to the inlet's side.
    pub(super) verdict: Option<DeliveryState>,
    /// Nothing is owed to the inlet's side.
    pub(super) is_inlet_settled: bool,
    /// The end has left by the outlet.
    pub(super) is_outlet_done: bool,
    /// Nothing is expected from the outlet's side.
    pub(super) is_outlet_settled: bool,
    /// The inlet broke, and the far end is to see a clean end: it is not waited for.
    pub(super) settles_itself: bool,
    /// In a connection's scheduler, or on its list of the blocked.
    pub(super) is_scheduled: bool,
    pub(super) flow: Flow,
    /// Counts at the chosen destination as long as this lives.
    pub(super) carried: Option<Carried>,
    /// Set if it goes to several places.
    pub(super) copies: Option<Box<Copies>>,
    /// Its sender keeps to no window of its own: what waits holds back the whole session.
    pub(super) has_no_window: bool,
    /// Octets handed to another shard of which it is not known that they have left.
    pub(super) under_way: usize,
    /// Octets that its session counts as waiting.
    pub(super) held: usize,
    /// What it counts for in memory.
    pub(super) charged: usize,
    /// When it began; absent for streams, which take as long as they take.
    pub(super) since: Option<Duration>,
    /// It was settled when it came in.
    pub(super) came_settled: bool,
}

/// What becomes of a delivery that goes to several places.
#[derive(Debug, Default)]
pub(super) struct Copies {
    pub(super) keys: Vec<Key>,
    /// Copies that are not over.
    pub(super) open: usize,
    pub(super) outcome: Option<DeliveryState>,
}

/// Where octets come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Inlet {
    Socket(Key),
    Delivery {
        connection: Key,
        link: LinkId,
        delivery: DeliveryId,
    },
    Shard {
        shard: ShardId,
        first_half: Key,
    },
    /// This process, which gave all there is at once.
    Control,
    /// A delivery that goes to several places.
    Copy {
        original: Key,
    },
}

/// Where octets go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outlet {
    /// Not chosen.
    Undecided,
    /// The workload is being connected.
    Connecting(Key),
    Socket(Key),
    /// In line for a link of the connection.
    Queued {
        connection: Key,
        lane: Lane,
    },
    /// `delivery` is known once its first frame has left.
    Link {
        connection: Key,
        link: LinkId,
        lane: Lane,
        delivery: Option<DeliveryId>,
    },
    Shard {
        shard: ShardId,
    },
    /// Several places: see [`Copies`].
    Copies,
    /// Nobody wants them.
    Discard,
}

/// Which links of a connection a delivery takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// A link of its own until it ends.
    Stream,
    /// As a stream, on a session of its own: a message passed on as it comes, whose sender keeps to no window.
    LongMessage,
    /// The shared link of a priority, 0 to 9, for whole messages.
    Priority(u8),
    /// A link with an address, or of a client.
    Endpoint(Key),
}

impl Lane {
    /// Whether each delivery has a link of its own.
    pub(super) fn has_own_links(self) -> bool {
        matches!(self, Self::Stream | Self::LongMessage)
    }
}

/// How an inlet ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Cleanly.
    Complete,
    /// It broke off; what came is not all there was.
    Aborted,
}

/// What bounds the octets between inlet and outlet.
#[derive(Debug)]
pub(super) enum Flow {
    /// The inlet's and outlet's own ends see to it.
    Passing,
    /// We read a workload's socket for a stream.
    Sending(SendWindow),
    /// We write a workload's socket for a stream.
    Receiving(Reports),
    /// We read a workload's socket for another shard.
    Crossing { window: SendWindow },
    /// We write for another shard: octets that left and were not told.
    Leaving { untold: usize },
}

/// A message that is, or may again be, in search of a consumer.
#[derive(Debug, Default)]
pub(super) struct Offer {
    /// Its octets so far, as they came.
    pub(super) octets: Vec<u8>,
    /// The flags of its router annotations, or those it gets if it starts here.
    pub(super) flags: u32,
    /// Whether it is passed on as it comes, for one reason or another.
    pub(super) is_stream: bool,
    /// Who was tried last; what comes from now on is passed on there.
    pub(super) tried: Option<Tried>,
    pub(super) excluded: Excluded,
    /// Octets of the client that were read before anybody answered. They are kept until somebody has.
    pub(super) early: Vec<u8>,
    /// Whether they go along with this attempt.
    pub(super) goes_early: bool,
    /// An attempt that they went along with was turned down: from now on they stay.
    pub(super) is_too_early: bool,
    /// When it first waited for ways to change.
    pub(super) waits_since: Option<Duration>,
    /// The connection to prefer: the one a request came on, for its answer.
    pub(super) preferred: Option<Key>,
    /// The address of the link it came on, which beats its own.
    pub(super) to: Option<Arc<str>>,
    /// It came on a link of that address: an edge router has one to its interior router for each such address.
    pub(super) is_targeted: bool,
    /// It comes from a client: router annotations in it mean nothing.
    pub(super) is_foreign: bool,
    /// The connection to, or of, an edge router that it came on.
    pub(super) came_by: Option<ConnectionId>,
    /// What the link it came on is for.
    pub(super) service: Service,
}

/// Where an offer went.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tried {
    Connector(ConnectorId),
    NextHop(van_routing::LinkId),
    Link(EndpointId),
    /// An address that only one place has.
    Only,
}

impl Attachment {
    pub(super) fn new(inlet: Inlet, outlet: Outlet, flow: Flow) -> Self {
        Self {
            inlet,
            outlet,
            parked: Parked::default(),
            message: None,
            gathered: 0,
            ended: None,
            verdict: None,
            is_inlet_settled: false,
            is_outlet_done: false,
            is_outlet_settled: false,
            settles_itself: false,
            is_scheduled: false,
            flow,
            carried: None,
            copies: None,
            has_no_window: false,
            under_way: 0,
            held: 0,
            charged: 0,
            since: None,
            came_settled: false,
        }
    }

    /// What it takes of memory: what waits, or what its sender was promised.
    pub(super) fn memory(&self) -> usize {
        let gathered = self.message.as_ref().map_or(0, |offer| offer.octets.len() + offer.early.len());
        let promised = if let Flow::Receiving(reports) = &self.flow { reports.promised() } else { None };
        self.parked.len().max(promised.unwrap_or(0)) + gathered
    }

    /// Whether its window is granted here.
    pub(super) fn is_granting(&self) -> bool {
        matches!(&self.flow, Flow::Receiving(reports) if reports.promised().is_some())
    }

    /// Octets that may wait, if there is a bound for this direction alone; whoever exceeds it does not keep to its window.
    pub(super) fn most_parked(&self, is_exhausted: bool) -> Option<usize> {
        match (&self.flow, self.outlet) {
            (Flow::Receiving(reports), _) if reports.promised().is_some() => reports.most_parked(),
            (Flow::Leaving { .. }, _) => None,
            _ if self.has_no_window => None,
            (_, Outlet::Queued { .. } | Outlet::Link { .. }) if !is_exhausted => Some(MAX_PASSING),
            _ => Some(MAX_PARKED),
        }
    }

    /// Whether the delivery it becomes is settled from the start.
    pub(super) fn is_presettled(&self) -> bool {
        self.is_inlet_settled && !matches!(self.inlet, Inlet::Socket(_))
    }

    /// How long it took, or takes.
    pub(super) fn took(&self, now: Duration) -> Option<Duration> {
        self.since.map(|since| now.saturating_sub(since))
    }

    /// What has come of a message of which it is not known yet where it goes.
    pub(super) fn gathering(&self) -> Option<&Vec<u8>> {
        self.message.as_ref().filter(|offer| offer.tried.is_none()).map(|offer| &offer.octets)
    }

    /// Whether everybody has had their last word.
    pub(super) fn is_over(&self) -> bool {
        self.ended.is_some() && self.is_inlet_settled && self.is_outlet_done && self.is_outlet_settled
    }

    /// Whether the next consumer gets this if one releases it.
    pub(super) fn may_be_offered_again(&self) -> bool {
        self.message.as_ref().is_some_and(|offer| offer.flags & RESEND_RELEASED != 0)
    }

    /// Lets go of the outlet's side: nothing more goes there or is expected from there.
    pub(super) fn discard(&mut self) {
        self.outlet = Outlet::Discard;
        self.is_outlet_done = true;
        self.is_outlet_settled = true;
        self.parked = Parked::default();
        self.message = None;
        self.carried = None;
        self.under_way = 0;
    }

    /// Whether inlet and outlet run over a connection.
    pub(super) fn uses(&self, connection: Key) -> (bool, bool) {
        let is_inlet = matches!(self.inlet, Inlet::Delivery { connection: of, .. } if of == connection);
        let is_outlet = match self.outlet {
            Outlet::Queued { connection: of, .. } | Outlet::Link { connection: of, .. } => of == connection,
            _ => false,
        };
        (is_inlet, is_outlet)
    }
}

impl Copies {
    /// Takes the outcome of one of them into account.
    pub(super) fn add(&mut self, outcome: Option<DeliveryState>) {
        let weight = |state: &DeliveryState| match state {
            DeliveryState::Rejected(_) => 3,
            DeliveryState::Accepted => 2,
            DeliveryState::Modified { .. } => 1,
            _ => 0,
        };
        let weighs_more = |new: &DeliveryState| self.outcome.as_ref().is_none_or(|old| weight(new) > weight(old));
        if let Some(new) = outcome.filter(weighs_more) {
            self.outcome = Some(new);
        }
    }
}

impl Offer {
    /// Its router annotations as this router reads them.
    pub(super) fn annotations<'a>(&'a self, head: &Head<'a>) -> Annotations<'a> {
        let own = head.annotations.filter(|_| !self.is_foreign);
        let mut annotations = own.unwrap_or(Annotations::fresh(self.flags));
        annotations.to_override = self.to.as_deref().or(annotations.to_override);
        annotations
    }

    /// Where it comes from.
    pub(super) fn from<'a>(&self, annotations: &Annotations<'a>) -> From<'a> {
        From {
            origin: annotations.origin(),
            trace: annotations.trace,
            connection: self.came_by,
            mesh: annotations.mesh,
        }
    }

    /// Whether it is a message passed on as it comes, whose sender keeps to no window of its own.
    pub(super) fn has_no_window(&self) -> bool {
        self.is_stream && self.flags & DISABLE_Q2 == 0
    }

    /// Octets of the client that may be read now, before anybody has answered.
    pub(super) fn early_room(&self) -> usize {
        if self.goes_early { MAX_EARLY.saturating_sub(self.early.len()) } else { 0 }
    }

    /// Whether somebody may have got octets of the client.
    pub(super) fn has_gone_early(&self) -> bool {
        self.goes_early && !self.early.is_empty()
    }

    /// The links to another interior router that it takes.
    pub(super) fn lane(&self, priority: u8) -> Lane {
        self.own_lane().unwrap_or(Lane::Priority(priority.min(PRIORITIES - 1)))
    }

    /// The links to any other router that it takes, if it takes one of its own.
    pub(super) fn own_lane(&self) -> Option<Lane> {
        self.is_stream.then_some(if self.has_no_window() { Lane::LongMessage } else { Lane::Stream })
    }
}
