//! Who is at the other ends of our links.
//!
//! ```text
//!             HELLO              HELLO that lists us
//!    silent ─────────► heard ───────────────────────────► neighbour
//!      ▲                 │ ▲   HELLO that does not list us    │
//!      │                 │ └──────────────────────────────────┤
//!      └─────────────────┴────────────────────────────────────┘
//!        none for too long, or one of another router or life
//! ```
//!
//! Source: docs/wire.md §4.4. There the states belong to a router; here they belong to a link, so that each of
//! several links to one neighbour must prove itself (docs/wire.md §1.9). There a neighbour that does not list us any
//! more is kept until it is too old; here it is believed. And there only a HELLO keeps a neighbour; here any message of the
//! router protocol does.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{Cost, Hello, LinkId, RouterId};

/// All links, and what was heard on them.
#[derive(Debug, Default)]
pub(crate) struct Neighbors {
    links: BTreeMap<LinkId, Link>,
}

#[derive(Debug)]
struct Link {
    cost: Cost,
    hello_at: Instant,
    answered_at: Option<Instant>,
    peer: Option<Peer>,
}

#[derive(Debug)]
struct Peer {
    id: RouterId,
    instance: u64,
    heard_at: Instant,
    lists_us: bool,
}

/// The way to a neighbour. The best one has the lowest cost, then the lowest link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Adjacency {
    pub(crate) cost: Cost,
    pub(crate) link: LinkId,
}

impl Neighbors {
    /// Adds a link or changes its cost; `true` if that may change the adjacencies.
    pub(crate) fn link_up(&mut self, now: Instant, link: LinkId, cost: Cost) -> bool {
        let link = self.links.entry(link).or_insert(Link { cost, hello_at: now, answered_at: None, peer: None });
        std::mem::replace(&mut link.cost, cost) != cost && link.neighbor().is_some()
    }

    /// Removes a link; `true` if that may change the adjacencies.
    pub(crate) fn link_down(&mut self, link: LinkId) -> bool {
        self.links.remove(&link).is_some_and(|link| link.neighbor().is_some())
    }

    /// Takes in a HELLO; `true` if that may change the adjacencies.
    ///
    /// A router heard for the first time is answered at once, so that it need not wait for our next HELLO to
    /// be listed. A link that finds a new router every moment gets one such answer per `interval`.
    pub(crate) fn handle_hello(
        &mut self,
        now: Instant,
        link: LinkId,
        hello: &Hello,
        lists_us: bool,
        interval: Duration,
    ) -> bool {
        let Some(link) = self.links.get_mut(&link) else {
            return false; // it was on its way when the link went down
        };
        let was_adjacent = link.neighbor().is_some();
        let is_same = |peer: &Peer| peer.id == hello.id && peer.instance == hello.instance;
        let known = link.peer.take_if(|peer| is_same(peer));
        if known.is_none() && link.answered_at.is_none_or(|at| at + interval <= now) {
            link.answered_at = Some(now);
            link.hello_at = now;
        }
        let is_replaced = was_adjacent && known.is_none();
        link.peer = Some(Peer { id: hello.id.clone(), instance: hello.instance, heard_at: now, lists_us });
        is_replaced || was_adjacent != lists_us
    }

    /// Takes any message as a sign of life: where there are many, a HELLO waits behind them.
    pub(crate) fn heard(&mut self, now: Instant, link: LinkId) {
        if let Some(peer) = self.links.get_mut(&link).and_then(|link| link.peer.as_mut()) {
            peer.heard_at = now;
        }
    }

    /// Forgets what was heard of earlier lives of a router.
    pub(crate) fn restarted(&mut self, router: &RouterId, instance: u64) {
        for link in self.links.values_mut() {
            link.peer.take_if(|peer| peer.id == *router && peer.instance != instance);
        }
    }

    /// Forgets what is too old; `true` if that may change the adjacencies.
    pub(crate) fn expire(&mut self, now: Instant, max_age: Duration) -> bool {
        let mut is_lost = false;
        for link in self.links.values_mut() {
            let expired = link.peer.take_if(|peer| peer.heard_at + max_age <= now);
            is_lost |= expired.is_some_and(|peer| peer.lists_us);
        }
        is_lost
    }

    /// The next link on which a HELLO is due, and whom to list in it. It then counts as sent.
    pub(crate) fn poll_hello(&mut self, now: Instant, interval: Duration) -> Option<(LinkId, Vec<RouterId>)> {
        let (&id, link) = self.links.iter_mut().find(|(_, link)| link.hello_at <= now)?;
        link.hello_at = now + interval;
        Some((id, link.peer.iter().map(|peer| peer.id.clone()).collect()))
    }

    pub(crate) fn poll_timeout(&self, max_age: Duration) -> Option<Instant> {
        let link_timeout = |link: &Link| {
            let expires_at = link.peer.as_ref().map(|peer| peer.heard_at + max_age);
            expires_at.map_or(link.hello_at, |at| at.min(link.hello_at))
        };
        self.links.values().map(link_timeout).min()
    }

    /// The best way to each neighbour.
    pub(crate) fn adjacencies(&self) -> BTreeMap<RouterId, Adjacency> {
        let mut best: BTreeMap<RouterId, Adjacency> = BTreeMap::new();
        for (&id, link) in &self.links {
            let Some(neighbor) = link.neighbor() else { continue };
            let this = Adjacency { cost: link.cost, link: id };
            best.entry(neighbor.clone()).and_modify(|best| *best = this.min(*best)).or_insert(this);
        }
        best
    }
}

impl Link {
    fn neighbor(&self) -> Option<&RouterId> {
        self.peer.as_ref().filter(|peer| peer.lists_us).map(|peer| &peer.id)
    }
}
