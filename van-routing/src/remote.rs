//! All that is known about one other router.
//!
//! ```text
//!   unknown ──► known ◄──────────────► reachable
//!      ▲          │      paths change
//!      └──────────┘
//!  unlisted, and nothing heard of its links
//! ```
//!
//! Source: docs/wire.md §4.3 and §4.4.

use std::time::{Duration, Instant};

use crate::{
    AddressKey, LinkStateUpdate, Message, RouterAdvertisement, Timing,
    flood::{Flood, Version},
    link_state::LinkStateCopy,
    mobile::AddressesCopy,
};

/// Another router.
#[derive(Debug)]
pub(crate) struct Remote {
    instance: Option<u64>,
    is_reachable: bool,
    unreachable_since: Instant,
    unlisted_since: Option<Instant>,
    doubted_at: Option<Instant>,
    pub(crate) conflict: Conflict,
    pub(crate) questions: Questions,
    pub(crate) link_state: LinkStateCopy,
    pub(crate) addresses: AddressesCopy,
    link_states: Flood,
    advertisements: Flood,
    former_advertisements: Flood,
}

/// What a router has asked us. We answer when there is a way to it.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    /// What our link state is.
    pub(crate) link_state: bool,
    /// What our addresses are, if they are newer than this number.
    pub(crate) addresses_since: Option<u64>,
}

/// What the instance in a message says about its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It is as it was.
    Same,
    /// It was restarted since; what we know about it is void.
    Next,
    /// The message is of a former life, or of another router with the same id.
    Former,
}

impl Remote {
    /// How long a router may take to answer that it is still alive. A skupper-router may take its tick of 1 s.
    const PATIENCE: Duration = Duration::from_millis(1200);

    pub(crate) fn new(now: Instant) -> Self {
        Self {
            instance: None,
            is_reachable: false,
            unreachable_since: now,
            unlisted_since: Some(now),
            doubted_at: None,
            conflict: Conflict::new(now),
            questions: Questions::default(),
            link_state: LinkStateCopy::new(now),
            addresses: AddressesCopy::new(now),
            link_states: Flood::default(),
            advertisements: Flood::default(),
            former_advertisements: Flood::default(),
        }
    }

    /// The life it is in, if it has told.
    pub(crate) fn instance(&self) -> Option<u64> {
        self.instance
    }

    /// Judges an instance, and takes note of it unless it belongs to a former life.
    ///
    /// Instances grow with time, so a lower one is believed only when the life with the higher one is over: it is
    /// out of reach, or does not answer when asked. Thus a router may restart with its clock set back; and of two
    /// routers with the same id the younger one wins for as long as it lives, where skupper-router would swing
    /// between the two.
    pub(crate) fn meet(&mut self, now: Instant, instance: u64) -> Life {
        let known = self.instance.unwrap_or(instance);
        let is_former = instance < known && self.is_reachable && self.link_state.peers().is_some();
        if is_former && self.doubted_at.is_none_or(|at| at + Self::PATIENCE > now) {
            self.doubted_at.get_or_insert(now);
            self.link_state.request.set_open(now, true);
            return Life::Former;
        }
        self.doubted_at = None;
        if self.instance.replace(instance) == Some(instance) {
            return Life::Same;
        }
        self.conflict = Conflict::new(now);
        if instance == known { Life::Same } else { Life::Next }
    }

    /// Forgets all that was said in a former life; returns the addresses known until now.
    pub(crate) fn restart(&mut self, now: Instant) -> Vec<AddressKey> {
        self.link_state = LinkStateCopy::new(now);
        self.advertisements = Flood::default();
        self.link_states = Flood::default();
        std::mem::replace(&mut self.addresses, AddressesCopy::new(now)).clear(now)
    }

    /// The flood to which a message belongs, and its place there; none for messages that are not flooded.
    ///
    /// Advertisements of a former life are passed on too: others must come to doubt, and a namesake must hear of
    /// itself.
    pub(crate) fn flood(&mut self, message: &Message) -> Option<(&mut Flood, Version)> {
        match message {
            Message::RouterAdvertisement(RouterAdvertisement { instance, ls_seq, mobile_seq, .. }) => {
                let is_current = self.instance == Some(*instance);
                let flood = if is_current { &mut self.advertisements } else { &mut self.former_advertisements };
                Some((flood, (*instance, *ls_seq, *mobile_seq)))
            }
            Message::LinkStateUpdate(LinkStateUpdate { instance, link_state, .. }) => {
                Some((&mut self.link_states, (*instance, link_state.seq, 0)))
            }
            _ => None,
        }
    }

    /// Takes note of what a new table says about the router; `true` if it has come within reach.
    pub(crate) fn settle(&mut self, now: Instant, is_reachable: bool, is_listed: bool) -> bool {
        let was_reachable = std::mem::replace(&mut self.is_reachable, is_reachable);
        if was_reachable && !is_reachable {
            self.unreachable_since = now;
        }
        let is_mute = self.link_state.peers().is_none_or(|peers| peers.is_empty());
        self.unlisted_since = (is_mute && !is_listed).then(|| self.unlisted_since.unwrap_or(now));
        is_reachable && !was_reachable
    }

    pub(crate) fn is_reachable(&self) -> bool {
        self.is_reachable
    }

    /// When its addresses are to be forgotten.
    pub(crate) fn lost_at(&self, timing: &Timing) -> Option<Instant> {
        let is_lost = !self.is_reachable && !self.addresses.is_empty();
        is_lost.then(|| self.unreachable_since + timing.unreachable_holdoff)
    }

    /// When the router is to be forgotten.
    pub(crate) fn forgotten_at(&self, timing: &Timing) -> Option<Instant> {
        self.unlisted_since.map(|since| since + timing.unlisted_holdoff)
    }

    /// When something is to be done about the router.
    pub(crate) fn poll_timeout(&self, timing: &Timing) -> Option<Instant> {
        let requests = [self.link_state.request.due(), self.addresses.request.due()];
        let requests = requests.into_iter().flatten().filter(|_| self.is_reachable);
        let ages =
            [self.link_state.expires_at(timing.link_state_max_age), self.lost_at(timing), self.forgotten_at(timing)];
        ages.into_iter().flatten().chain(requests).min()
    }
}

/// Messages in the name of a router that are not of its current life.
///
/// For a moment after a restart such messages may still be on their way; later they come from another router
/// with the same id.
#[derive(Debug)]
pub(crate) struct Conflict {
    alive_since: Instant,
    reported_at: Option<Instant>,
}

impl Conflict {
    /// How long messages of a former life may be on their way. Chosen arbitrarily, well above the delay of any path.
    const AFTERMATH: Duration = Duration::from_secs(3);

    const REPORT_INTERVAL: Duration = Duration::from_secs(60);

    pub(crate) fn new(alive_since: Instant) -> Self {
        Self { alive_since, reported_at: None }
    }

    /// Whether a message that came now is to be reported. It then counts as reported.
    pub(crate) fn is_report_due(&mut self, now: Instant) -> bool {
        let due = self.reported_at.map_or(self.alive_since + Self::AFTERMATH, |at| at + Self::REPORT_INTERVAL);
        self.reported_at = if due <= now { Some(now) } else { self.reported_at };
        due <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        LinkState,
        tests::{epoch, ms},
    };

    /// A router within reach, of life 5.
    fn reachable() -> Remote {
        let mut remote = Remote::new(epoch());
        assert_eq!(remote.meet(epoch(), 5), Life::Same);
        remote.link_state.update(epoch(), LinkState { seq: 1, ..LinkState::default() });
        remote.settle(epoch(), true, true);
        remote
    }

    #[test]
    fn the_first_instance_is_no_restart_and_a_higher_one_is() {
        let mut remote = reachable();
        assert_eq!([5, 6, 6].map(|instance| remote.meet(epoch(), instance)), [Life::Same, Life::Next, Life::Same]);
    }

    #[test]
    fn a_lower_instance_is_doubted_and_the_router_asked() {
        let mut remote = reachable();
        assert_eq!(remote.meet(epoch(), 4), Life::Former);
        assert_eq!(remote.link_state.request.due(), Some(epoch()));
        assert_eq!(remote.meet(epoch() + Remote::PATIENCE - ms(1), 4), Life::Former);
        assert_eq!(remote.meet(epoch() + Remote::PATIENCE, 4), Life::Next);
    }

    #[test]
    fn a_sign_of_the_higher_instance_ends_all_doubt() {
        let mut remote = reachable();
        assert_eq!(remote.meet(epoch(), 4), Life::Former);
        assert_eq!(remote.meet(epoch() + ms(1), 5), Life::Same);
        assert_eq!(remote.meet(epoch() + Remote::PATIENCE, 4), Life::Former);
    }

    #[test]
    fn a_lower_instance_of_a_router_out_of_reach_is_believed() {
        let mut remote = reachable();
        remote.settle(epoch(), false, true);
        assert_eq!(remote.meet(epoch(), 4), Life::Next);
    }

    #[test]
    fn a_router_is_forgotten_when_it_is_neither_listed_nor_lists_anybody() {
        let (mut remote, timing) = (reachable(), Timing::default());
        assert_eq!(remote.forgotten_at(&timing), None);
        remote.settle(epoch() + ms(1), false, false);
        remote.settle(epoch() + ms(2), false, false);
        assert_eq!(remote.forgotten_at(&timing), Some(epoch() + ms(1) + timing.unlisted_holdoff));
        remote.settle(epoch() + ms(3), true, true);
        assert_eq!(remote.forgotten_at(&timing), None);
    }

    #[test]
    fn conflicts_are_reported_after_the_aftermath_and_once_a_minute() {
        let mut conflict = Conflict::new(epoch());
        let reported: Vec<_> = (0..130).filter(|&s| conflict.is_report_due(epoch() + ms(1000 * s))).collect();
        assert_eq!(reported, [3, 63, 123]);
    }
}
