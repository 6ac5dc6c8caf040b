//! One end of a link: credit, and the delivery under way (AMQP 1.0 §2.6).
//!
//! ```text
//!            attach out          attach in
//!   (new) ──────────────► half ──────────────► attached ──► detach both ways ──► gone
//!            attach in           attach out
//! ```

use super::performative::Role;

/// What the engine's user keeps with a link or a delivery; it comes back with every event about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Token(pub u64);

/// One end of a link.
#[derive(Debug)]
pub(super) struct Link {
    /// Its name, for people.
    pub(super) name: Box<str>,
    /// What we are on it.
    pub(super) role: Role,
    pub(super) token: Token,
    pub(super) attach_sent: bool,
    /// The peer's handle, once its attach has come.
    pub(super) remote_handle: Option<u32>,
    pub(super) detach_sent: bool,
    /// Deliveries so far, by the sender's count.
    pub(super) delivery_count: u32,
    /// Deliveries that may still start.
    pub(super) credit: u32,
    /// As receiver: credit is restored to this many ([`Link::replenish`]); 0 leaves it to the user.
    pub(super) replenish: u32,
    /// As receiver: credit taken back that the sender may have used before it knew.
    pub(super) revoked: u32,
    pub(super) drain: Drain,
    /// The delivery under way, out or in.
    pub(super) current: Option<Current>,
    /// How many deliveries are not settled.
    pub(super) unsettled: u32,
}

/// One end of a link, at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkStatus<'a> {
    /// Which link.
    pub id: super::LinkId,
    /// Its name.
    pub name: &'a str,
    /// What we are on it.
    pub role: Role,
    /// What the engine's user keeps with it.
    pub token: Token,
    /// Its session and our number for it there.
    pub place: (u16, u32),
    /// Deliveries that may still start.
    pub credit: u32,
    /// Whether both ends are attached.
    pub is_attached: bool,
}

/// A delivery of which not all frames have passed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Current {
    pub(super) number: u32,
    pub(super) token: Token,
    pub(super) settled: bool,
    /// As sender: whether the first frame is still to come, and with it the number.
    pub(super) is_first: bool,
}

/// Whether the receiver wants back what credit is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drain {
    None,
    Asked,
    /// As receiver: credit was granted before the sender had answered.
    Late,
}

/// Octets of a link's name that are kept: there may be as many names as links.
const MAX_NAME_BYTES: usize = 256;

impl Link {
    /// Whether a delivery is under way or not settled.
    pub(super) fn is_used(&self) -> bool {
        self.current.is_some() || self.unsettled > 0
    }

    pub(super) fn new(name: &str, role: Role, token: Token) -> Self {
        Self {
            name: name[..name.floor_char_boundary(MAX_NAME_BYTES)].into(),
            role,
            token,
            attach_sent: false,
            remote_handle: None,
            detach_sent: false,
            delivery_count: 0,
            credit: 0,
            replenish: 0,
            revoked: 0,
            drain: Drain::None,
            current: None,
            unsettled: 0,
        }
    }

    /// As sender: whether a delivery may start.
    pub(super) fn can_start(&self) -> bool {
        self.role == Role::Sender && self.credit > 0 && self.current.is_none() && !self.detach_sent
    }

    /// Counts a delivery that starts; false if there was no credit for it. As receiver this happens at its first frame:
    /// a sender in the middle of a delivery then never sees its credit fall below what it needs to finish
    /// (docs/wire.md §3.3).
    pub(super) fn count_delivery(&mut self) -> bool {
        self.delivery_count = self.delivery_count.wrapping_add(1);
        let pool = if self.credit > 0 { &mut self.credit } else { &mut self.revoked };
        let has_credit = *pool > 0;
        *pool = pool.saturating_sub(1);
        has_credit
    }

    /// As sender: takes back the count of a delivery that never left.
    pub(super) fn uncount_delivery(&mut self) {
        self.current = None;
        self.delivery_count = self.delivery_count.wrapping_sub(1);
        self.credit += 1;
    }

    /// As receiver: grants this many deliveries, and keeps restoring them.
    pub(super) fn grant(&mut self, credit: u32) {
        self.revoked = self.revoked.saturating_add(self.credit.saturating_sub(credit));
        self.credit = credit;
        self.replenish = credit;
        if self.drain == Drain::Asked {
            self.drain = Drain::Late;
        }
    }

    /// Restores the credit if half of it is used, or a delivery has begun that goes on; whether the peer must be told.
    ///
    /// A skupper-router that sends can overlook the octets that come right behind the header of a stream, and lets them
    /// lie until it is given credit.
    pub(super) fn replenish(&mut self, goes_on: bool) -> bool {
        let is_due = self.replenish > 0 && (goes_on || self.credit <= self.replenish / 2);
        if is_due {
            self.credit = self.replenish;
        }
        is_due
    }

    /// As sender, takes the receiver's word for the credit.
    pub(super) fn recv_credit(&mut self, receiver_count: Option<u32>, credit: u32, drain: bool) {
        let limit = receiver_count.unwrap_or(0).wrapping_add(credit.min(i32::MAX.cast_unsigned()));
        // A limit behind our own count is no credit, not four billion.
        let left = limit.wrapping_sub(self.delivery_count).cast_signed();
        self.credit = left.max(0).cast_unsigned();
        self.drain = if drain { Drain::Asked } else { Drain::None };
    }
}
