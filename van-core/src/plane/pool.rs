//! Links of a connection that carry one delivery at a time, and the deliveries that wait for one.

use std::collections::VecDeque;
use std::time::Duration;

use crate::amqp::{self, LinkId};
use crate::slab::Key;

/// Idle links that are kept: as many as streams begin in a short time. Source: skupper-router, which detaches what is above.
const IDLE_LINKS: usize = 128;

#[derive(Debug)]
pub(super) struct Pool {
    /// Their sessions may be held back because of what they brought before, and must not be.
    needs_window: bool,
    /// Attached, with credit, and carry nothing.
    idle: Vec<LinkId>,
    /// Wait for credit.
    starving: Vec<LinkId>,
    /// Their last delivery has left and should be settled before there is another, and not before some time: see
    /// [`Pool::release`] and [`Pool::take_unsettled`].
    draining: Vec<(LinkId, Duration)>,
    /// Deliveries in line, and whether they are settled.
    line: VecDeque<(Key, bool)>,
}

impl Pool {
    /// Of links that share a session.
    pub(super) fn of_streams() -> Self {
        Self {
            needs_window: false,
            idle: Vec::new(),
            starving: Vec::new(),
            draining: Vec::new(),
            line: VecDeque::new(),
        }
    }

    /// Of links with a session of their own.
    pub(super) fn of_messages() -> Self {
        Self { needs_window: true, ..Self::of_streams() }
    }

    /// The deliveries in line.
    pub(super) fn line(&self) -> &VecDeque<(Key, bool)> {
        &self.line
    }

    pub(super) fn line_mut(&mut self) -> &mut VecDeque<(Key, bool)> {
        &mut self.line
    }

    /// Puts a delivery in line. Whether there is no link that it could leave by now.
    pub(super) fn queue(&mut self, delivery: (Key, bool), engine: &amqp::Connection, now: Duration) -> bool {
        if self.usable(engine) == 0 {
            self.reclaim(engine, now);
        }
        self.line.push_back(delivery);
        self.is_short(engine)
    }

    /// Whether more deliveries wait than could leave by the links there are.
    pub(super) fn is_short(&self, engine: &amqp::Connection) -> bool {
        self.line.len() > self.starving.len() && self.line.len() > self.usable(engine) + self.starving.len()
    }

    /// Adds a link that has just been attached.
    pub(super) fn add(&mut self, link: LinkId) {
        self.starving.push(link);
    }

    /// Takes a link for the first in line.
    pub(super) fn take(&mut self, engine: &amqp::Connection) -> Option<LinkId> {
        match self.needs_window {
            false => self.idle.pop(),
            // The one that has rested longest: what it brought last may still wait at the other end.
            true => match self.idle.iter().position(|link| engine.has_window(*link)) {
                Some(place) => Some(self.idle.remove(place)),
                None => self.take_unsettled(engine),
            },
        }
    }

    /// A link of which the last delivery has left and is not settled, for one that no other link will come for. Whoever
    /// settles late does not hold up others: they may be those for whom it waits.
    fn take_unsettled(&mut self, engine: &amqp::Connection) -> Option<LinkId> {
        let is_open = |(link, until): &(LinkId, Duration)| {
            until.is_zero() && engine.has_window(*link) && engine.credit(*link) > 0
        };
        let is_wanted = engine.is_peer_alike() && self.line.len() > self.starving.len();
        let place = self.draining.iter().position(|draining| is_wanted && is_open(draining))?;
        Some(self.draining.remove(place).0)
    }

    /// Takes a delivery out of line for which there will be no link.
    pub(super) fn take_stranded(&mut self) -> Option<Key> {
        if self.lacks_links() { self.line.pop_back().map(|(attachment, _)| attachment) } else { None }
    }

    /// Whether more deliveries wait than there are links for, be it that their sessions are held back for now.
    pub(super) fn lacks_links(&self) -> bool {
        self.line.len() > self.idle.len() + self.starving.len()
    }

    /// How many links could carry a delivery now.
    fn usable(&self, engine: &amqp::Connection) -> usize {
        match self.needs_window {
            false => self.idle.len(),
            true => self.idle.iter().filter(|link| engine.has_window(**link)).count(),
        }
    }

    /// Takes back a link whose delivery has left completely.
    ///
    /// skupper-router does not look at the next delivery of a link if it came while the one before was still to be drained,
    /// until something else comes on that link: so the next is for after its settlement, and for after `rests_until` if it is
    /// not the peer who settles. A long message that is not settled may still hold its session back.
    pub(super) fn release(&mut self, link: LinkId, engine: &amqp::Connection, rests_until: Duration) {
        let is_free = rests_until.is_zero() && !engine.has_unsettled(link);
        if is_free || engine.is_peer_alike() && !self.needs_window {
            self.put(link, engine);
        } else {
            self.draining.push((link, rests_until));
        }
    }

    fn put(&mut self, link: LinkId, engine: &amqp::Connection) {
        let links = if engine.credit(link) > 0 { &mut self.idle } else { &mut self.starving };
        links.push(link);
    }

    /// Takes those links back that may carry another delivery by now.
    fn reclaim(&mut self, engine: &amqp::Connection, now: Duration) {
        let is_free = |(link, until): &mut (LinkId, Duration)| *until <= now && !engine.has_unsettled(*link);
        for (link, _) in self.draining.extract_if(.., is_free) {
            let links = if engine.credit(link) > 0 { &mut self.idle } else { &mut self.starving };
            links.push(link);
        }
    }

    /// A delivery on a link is settled. Whether the link is to be detached: it is idle, and enough others are. Not before all
    /// its deliveries are settled, or the peer would take them for lost.
    pub(super) fn spare(&mut self, link: LinkId, engine: &amqp::Connection, now: Duration) -> bool {
        if let Some(place) = self.draining.iter().position(|(other, until)| *other == link && *until <= now)
            && !engine.has_unsettled(link)
        {
            self.draining.remove(place);
            self.put(link, engine);
        }
        if self.idle.len() > IDLE_LINKS
            && !engine.has_unsettled(link)
            && let Some(place) = self.idle.iter().rposition(|idle| *idle == link)
        {
            self.idle.remove(place);
            return true;
        }
        false
    }

    /// A link was given credit. Whether it waited for it here.
    pub(super) fn feed(&mut self, link: LinkId, engine: &amqp::Connection) -> bool {
        if let Some(place) = self.starving.iter().position(|other| *other == link)
            && engine.credit(link) > 0
        {
            self.starving.swap_remove(place);
            self.idle.push(link);
            return true;
        }
        false
    }

    /// Forgets a link that is gone.
    pub(super) fn forget(&mut self, link: LinkId) {
        self.idle.retain(|other| *other != link);
        self.starving.retain(|other| *other != link);
        self.draining.retain(|(other, _)| *other != link);
    }
}
