//! One session: transfer windows, the links on it and the deliveries that are not settled (AMQP 1.0 §2.5).

use std::collections::HashMap;

use hashbrown::HashMap as FastMap;

use super::link::{Drain, Link, Token};
use super::performative::{Begin, Flow, Role, Transfer};
use crate::slab::{Key, Slab};

/// Keyed by numbers that are dense by protocol, so a fast hash will do; the seed differs per map.
type ByNumber<V> = FastMap<u32, V, foldhash::fast::RandomState>;

#[derive(Debug)]
pub(super) struct Session {
    pub(super) begin_sent: bool,
    /// The peer's channel, once its begin has come.
    pub(super) remote_channel: Option<u16>,
    pub(super) end_sent: bool,
    pub(super) remote_handle_max: u32,
    pub(super) next_incoming_id: u32,
    /// Frames the peer may send in a row.
    full_window: u32,
    /// Frames the peer may still send.
    pub(super) incoming_window: u32,
    /// No window is given back for now.
    pub(super) is_held: bool,
    /// The peer is one of ours: it can be told of less window than before, and wants to know what came.
    is_peer_alike: bool,
    /// Of what came the peer was told nothing yet.
    pub(super) is_untold: bool,
    pub(super) next_outgoing_id: u32,
    /// The number of the frame that the peer expects next, as far as we know.
    pub(super) next_expected_id: u32,
    /// Frames we may still send.
    pub(super) remote_incoming_window: u32,
    pub(super) next_delivery_number: u32,
    /// Links under our handles: the slab's indices.
    pub(super) links: Slab<Link>,
    pub(super) by_remote_handle: ByNumber<Key>,
    /// Links we attached and whose answer has not come, by name and our role.
    pub(super) unanswered: HashMap<(String, Role), Key>,
    /// Deliveries of ours that are not settled.
    outgoing: ByNumber<Unsettled>,
    /// Deliveries of the peer's that are not settled.
    incoming: ByNumber<Unsettled>,
    /// Ends of deliveries that we gave up while the peer had no window for a frame.
    pub(super) delayed: Vec<Transfer>,
}

/// A delivery that is not settled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unsettled {
    pub(super) token: Token,
    link: Key,
}

impl Session {
    pub(super) fn new(window_frames: u32, is_peer_alike: bool) -> Self {
        Self {
            full_window: window_frames,
            begin_sent: false,
            remote_channel: None,
            end_sent: false,
            remote_handle_max: u32::MAX,
            next_incoming_id: 0,
            incoming_window: window_frames,
            is_held: false,
            is_peer_alike,
            is_untold: false,
            next_outgoing_id: 0,
            next_expected_id: 0,
            remote_incoming_window: 0,
            next_delivery_number: 0,
            links: Slab::default(),
            by_remote_handle: ByNumber::default(),
            unanswered: HashMap::new(),
            outgoing: ByNumber::default(),
            incoming: ByNumber::default(),
            delayed: Vec::new(),
        }
    }

    /// Takes the peer's windows from its begin.
    pub(super) fn recv_begin(&mut self, begin: &Begin, remote_channel: u16) {
        self.remote_channel = Some(remote_channel);
        self.remote_handle_max = begin.handle_max;
        self.next_incoming_id = begin.next_outgoing_id;
        self.remote_incoming_window = begin.incoming_window;
    }

    /// Takes the peer's windows from a flow. Whether sending was blocked and no longer is.
    pub(super) fn recv_flow(&mut self, flow: &Flow) -> bool {
        let was_blocked = self.remote_incoming_window == 0;
        // Before the peer has seen our begin it counts from our first id, which is 0.
        let window = flow.incoming_window.min(i32::MAX.cast_unsigned());
        self.next_expected_id = flow.next_incoming_id.unwrap_or(0);
        let limit = self.next_expected_id.wrapping_add(window);
        let left = limit.wrapping_sub(self.next_outgoing_id).cast_signed();
        self.remote_incoming_window = left.max(0).cast_unsigned();
        was_blocked && self.remote_incoming_window > 0
    }

    /// Counts a transfer frame in; false if the peer had no window for it.
    pub(super) fn count_incoming(&mut self) -> bool {
        self.next_incoming_id = self.next_incoming_id.wrapping_add(1);
        match self.incoming_window.checked_sub(1) {
            Some(left) => {
                self.incoming_window = left;
                true
            }
            None => false,
        }
    }

    /// Counts a transfer frame out.
    pub(super) fn count_outgoing(&mut self) {
        self.next_outgoing_id = self.next_outgoing_id.wrapping_add(1);
        self.remote_incoming_window = self.remote_incoming_window.saturating_sub(1);
    }

    /// Whether the peer should hear of window given back. It is given back on receipt: all streams of a connection share
    /// it, so none may hold it (docs/wire.md §2). Messages too large to be kept whole may, for they have no window of
    /// their own.
    pub(super) fn needs_flow(&self) -> bool {
        !self.is_held && self.incoming_window <= self.full_window / 2
    }

    /// Keeps window back from now on, or no more. Whether the peer should hear of it.
    pub(super) fn hold(&mut self, is_held: bool) -> bool {
        let is_news = self.is_held != is_held;
        self.is_held = is_held;
        is_news && (self.is_peer_alike || self.needs_flow())
    }

    /// A flow with the session's windows, the incoming one restored unless it is held. One of ours sends no more as soon as
    /// it hears of that; what others make of a window that shrinks is uncertain. What was promised before may still come.
    pub(super) fn flow(&mut self) -> Flow {
        self.is_untold = false;
        if !self.is_held {
            self.incoming_window = self.full_window;
        }
        let told_window = if self.is_held && self.is_peer_alike { 0 } else { self.incoming_window };
        Flow {
            next_incoming_id: self.remote_channel.is_some().then_some(self.next_incoming_id),
            incoming_window: told_window,
            next_outgoing_id: self.next_outgoing_id,
            outgoing_window: i32::MAX.cast_unsigned(),
            ..Flow::default()
        }
    }

    /// As [`Session::flow`], with the credit of a link of ours.
    pub(super) fn link_flow(&mut self, key: Key) -> Option<Flow> {
        let mut flow = self.flow();
        let link = self.links.get(key)?;
        // One that we have begun and of which nothing was sent is none to the peer yet.
        let unsent = u32::from(link.current.is_some_and(|current| current.is_first));
        flow.handle = Some(key.index());
        flow.delivery_count = Some(link.delivery_count.wrapping_sub(unsent));
        flow.link_credit = Some(link.credit + unsent);
        flow.drain = link.drain == Drain::Asked;
        Some(flow)
    }

    /// The deliveries of a range that are not settled, in ascending order: the range counts only as far as it meets some.
    pub(super) fn unsettled(&self, role: Role, first: u32, last: u32) -> Vec<(u32, Token)> {
        let map = self.deliveries(role);
        let span = last.wrapping_sub(first);
        let mut found: Vec<_> = if (span as usize) < map.len() {
            (0..=span).filter_map(|n| map.get_key_value(&first.wrapping_add(n))).map(|(n, it)| (*n, it.token)).collect()
        } else {
            map.iter().filter(|(n, _)| n.wrapping_sub(first) <= span).map(|(n, it)| (*n, it.token)).collect()
        };
        found.sort_unstable_by_key(|(number, _)| number.wrapping_sub(first));
        found
    }

    /// Takes note of a delivery that begins on a link and is not settled.
    pub(super) fn begin_unsettled(&mut self, role: Role, number: u32, link: Key, token: Token) {
        // A peer may give a number twice.
        self.settle(role, number);
        self.deliveries_mut(role).insert(number, Unsettled { token, link });
        if let Some(link) = self.links.get_mut(link) {
            link.unsettled += 1;
        }
    }

    /// Nothing more is said on a link that is going: with it its deliveries end.
    pub(super) fn forget_delayed(&mut self, link: Key) {
        self.delayed.retain(|transfer| transfer.handle != link.index());
    }

    /// Forgets the deliveries of ours on a link that is gone.
    pub(super) fn forget_unsettled(&mut self, link: Key) {
        self.outgoing.retain(|_, delivery| delivery.link != link);
    }

    /// Forgets a delivery, which is settled; false if it was already.
    pub(super) fn settle(&mut self, role: Role, number: u32) -> bool {
        let Some(delivery) = self.deliveries_mut(role).remove(&number) else { return false };
        if let Some(link) = self.links.get_mut(delivery.link) {
            link.unsettled -= 1;
        }
        true
    }

    pub(super) fn deliveries(&self, role: Role) -> &ByNumber<Unsettled> {
        match role {
            Role::Sender => &self.outgoing,
            Role::Receiver => &self.incoming,
        }
    }

    pub(super) fn deliveries_mut(&mut self, role: Role) -> &mut ByNumber<Unsettled> {
        match role {
            Role::Sender => &mut self.outgoing,
            Role::Receiver => &mut self.incoming,
        }
    }
}
