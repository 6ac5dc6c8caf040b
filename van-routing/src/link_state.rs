//! What routers say about their own links, and how we keep up with them.

use std::time::{Duration, Instant};

use crate::{Peers, schedule::Request};

/// Who the neighbours of a router are, as told by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// The number of this version: 0 for a router that never had a neighbour, one more with each change.
    pub seq: u64,
    /// Its neighbours.
    pub peers: Peers,
}

impl LinkState {
    /// The most peers a router may list.
    ///
    /// A skupper-router has at most 127; the limit keeps a broken peer from filling our memory.
    pub const MAX_PEERS: usize = 1024;

    /// Takes on new peers; `false` if they are the same as before.
    pub(crate) fn change(&mut self, peers: Peers) -> bool {
        let is_changed = self.peers != peers;
        if is_changed {
            *self = Self { seq: self.seq + 1, peers };
        }
        is_changed
    }
}

/// Our copy of another router's link state.
#[derive(Debug)]
pub(crate) struct LinkStateCopy {
    state: LinkState,
    announced: u64,
    refreshed_at: Instant,
    /// Open until the copy is as new as what was announced.
    pub(crate) request: Request,
}

impl LinkStateCopy {
    /// An empty copy, to be asked for.
    pub(crate) fn new(now: Instant) -> Self {
        Self { state: LinkState::default(), announced: 0, refreshed_at: now, request: Request::opened(now) }
    }

    /// Takes note that the router has version `seq`.
    pub(crate) fn announce(&mut self, now: Instant, seq: u64) {
        self.refreshed_at = now;
        self.announced = self.announced.max(seq);
        self.request.set_open(now, self.announced > self.state.seq);
    }

    /// Takes over a newer version; `true` if that changes who the peers are.
    pub(crate) fn update(&mut self, now: Instant, state: LinkState) -> bool {
        let is_changed = self.peers() != Some(&state.peers);
        self.state = state;
        self.announce(now, self.state.seq);
        is_changed
    }

    /// Forgets a version that is too old to be believed; `true` if there was one.
    pub(crate) fn expire(&mut self, now: Instant, max_age: Duration) -> bool {
        let is_expired = self.expires_at(max_age).is_some_and(|at| at <= now);
        if is_expired {
            self.state = LinkState::default();
        }
        is_expired
    }

    pub(crate) fn expires_at(&self, max_age: Duration) -> Option<Instant> {
        self.peers().map(|_| self.refreshed_at + max_age)
    }

    /// The number of the version we have, 0 for none.
    pub(crate) fn seq(&self) -> u64 {
        self.state.seq
    }

    /// The peers of the router, unless we know nothing about them.
    pub(crate) fn peers(&self) -> Option<&Peers> {
        (self.state.seq > 0).then_some(&self.state.peers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Cost, RouterId,
        tests::{epoch, ms},
    };

    fn peers(ids: &[&str]) -> Peers {
        ids.iter().map(|id| (RouterId::new(id).unwrap(), Cost::ONE)).collect()
    }

    #[test]
    fn only_a_change_gets_a_new_number() {
        let mut state = LinkState::default();
        assert!(!state.change(peers(&[])) && state.change(peers(&["a"])) && !state.change(peers(&["a"])));
        assert_eq!(state, LinkState { seq: 1, peers: peers(&["a"]) });
    }

    #[test]
    fn a_copy_is_asked_for_until_it_is_as_new_as_announced() {
        let (now, mut copy) = (epoch(), LinkStateCopy::new(epoch()));
        copy.announce(now, 2);
        assert!(copy.update(now, LinkState { seq: 1, peers: peers(&["a"]) }));
        assert_eq!(copy.request.due(), Some(now));
        assert!(!copy.update(now, LinkState { seq: 2, peers: peers(&["a"]) }));
        assert_eq!(copy.request.due(), None);
    }

    #[test]
    fn a_copy_without_a_sign_of_its_router_is_forgotten_whole() {
        let (now, mut copy) = (epoch(), LinkStateCopy::new(epoch()));
        copy.update(now, LinkState { seq: 3, peers: peers(&["a"]) });
        copy.announce(now + ms(500), 3);
        assert!(!copy.expire(now + ms(1499), ms(1000)));
        assert!(copy.expire(now + ms(1500), ms(1000)));
        assert_eq!((copy.seq(), copy.peers(), copy.expires_at(ms(1000))), (0, None, None));
    }
}
