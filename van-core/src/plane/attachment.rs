//! One direction of traffic: where its octets come from, where they go, and how it ends.
//!
//! ```text
//!   inlet            gathering ──► routed ──► flowing ──► ended            outlet
//!   a socket of ours      (sections first)                                 a socket of ours
//!   a delivery in ─────────────────── octets ────────────────────────────► a delivery out
//!   another shard ◄────────── reports, outcomes, settlement ───────────── another shard
//! ```

use super::parked::Parked;
use super::routes::{Carried, ConnectorId, Excluded, ShardId};
use super::window::{Reports, SendWindow};
use crate::amqp::{DeliveryId, DeliveryState, LinkId};
use crate::annotations::RESEND_RELEASED;
use crate::slab::Key;

/// Octets that may wait in one direction. The senders' windows keep it below (skupper-router's, with what it may overshoot,
/// is the largest); whoever exceeds it does not keep to its window, and the stream is given up.
pub(crate) const MAX_PARKED: usize = 4 * 1024 * 1024;

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
    /// The control plane, which gave all there is at once.
    Control,
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
    /// Nobody wants them.
    Discard,
}

/// Which links of a connection a delivery takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// A link of its own until it ends.
    Stream,
    /// The shared link of a priority, 0 to 9, for whole messages.
    Priority(u8),
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
#[derive(Debug, Clone, Copy)]
pub(super) enum Flow {
    /// The inlet's and outlet's own ends see to it.
    Passing,
    /// We read a workload's socket for a stream.
    Sending(SendWindow),
    /// We write a workload's socket for a stream.
    Receiving(Reports),
    /// We read a workload's socket for another shard: octets handed over that have not left.
    Crossing { window: SendWindow, under_way: usize },
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
    /// The connection to prefer: the one a request came on, for its answer.
    pub(super) preferred: Option<Key>,
}

/// Where an offer went.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tried {
    Connector(ConnectorId),
    NextHop(van_routing::LinkId),
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
        }
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
