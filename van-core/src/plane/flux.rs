//! Clients that nobody takes while ways change: they wait.
//!
//! Routers do not learn of a change at the same moment, and until all know, one may turn down what it will pass a moment
//! later. So for a while after a change a client's stream is offered again, and refused only if that did not help.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attachment::{Inlet, Offer, Outlet};
use super::routes::{Excluded, Routes};
use super::stream::Side;
use super::{Io, Plane};
use crate::slab::Key;

/// How long ways count as changing. Source: skupper-router looks once a second at what it has heard, and what it then
/// tells is heard by others who do the same.
const FLUX: Duration = Duration::from_secs(3);

/// How long a client waits at most, if ways do not come to rest.
const PATIENCE: Duration = Duration::from_secs(6);

/// How often those who wait are offered again, if nothing new is known.
const RETRY: Duration = Duration::from_millis(250);

/// Whether ways are changing, and who waits for the end of it.
#[derive(Debug, Default)]
pub(super) struct Flux {
    /// Set while they are changing.
    until: Option<Instant>,
    retry_at: Option<Instant>,
    waiting: Vec<Key>,
}

impl Flux {
    /// Notes a picture of the routes that takes the place of another. Whether there may be news for those who wait.
    pub(super) fn routes_changed(&mut self, now: Instant, old: &Routes, new: &Routes) -> bool {
        let uplink = |routes: &Routes| routes.uplink.map(|uplink| uplink.endpoint);
        let are_ways_new = !Arc::ptr_eq(&old.table, &new.table) || uplink(old) != uplink(new);
        if are_ways_new {
            self.until = Some(now + FLUX);
            self.retry_at = Some(now + RETRY);
        }
        are_ways_new || !Arc::ptr_eq(&old.addresses, &new.addresses)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.until.into_iter().chain(self.retry_at).min()
    }
}

impl Plane {
    /// Whether an offer that nobody takes is worth another attempt: it is a client's, and not only workloads of this router
    /// have turned it down.
    pub(super) fn is_worth_waiting(&self, key: Key, offer: &Offer) -> bool {
        let Excluded { connectors, next_hops, links } = &offer.excluded;
        let was_elsewhere = connectors.is_empty() || !next_hops.is_empty() || !links.is_empty();
        was_elsewhere && self.may_wait(key, offer)
    }

    /// Whether a client may have been given up because ways are changing: a workload took its stream, and the answer did not
    /// find the way. Nothing of the client's has gone there.
    pub(super) fn is_answer_lost(&self, key: Key) -> bool {
        let offer = self.attachments.get(key).and_then(|attachment| attachment.message.as_deref());
        offer.is_some_and(|offer| !offer.has_gone_early() && self.may_wait(key, offer))
    }

    fn may_wait(&self, key: Key, offer: &Offer) -> bool {
        let is_client = |stream| self.streams.get(stream).is_some_and(|it| matches!(it.side, Side::Client { .. }));
        let is_patient = offer.waits_since.is_none_or(|since| self.now.saturating_sub(since) < PATIENCE);
        let inlet = self.attachments.get(key).map(|attachment| attachment.inlet);
        self.flux.until.is_some() && is_patient && matches!(inlet, Some(Inlet::Socket(stream)) if is_client(stream))
    }

    /// Has an offer wait that has left its outlet.
    pub(super) fn wait_for_routes(&mut self, key: Key, mut offer: Box<Offer>) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        offer.waits_since.get_or_insert(self.now);
        attachment.message = Some(offer);
        self.flux.waiting.push(key);
    }

    /// Offers once more what waits.
    pub(super) fn retry_waiting(&mut self, io: &mut impl Io) {
        for key in std::mem::take(&mut self.flux.waiting) {
            let attachment = self.attachments.get_mut(key).filter(|it| matches!(it.outlet, Outlet::Undecided));
            if let Some(offer) = attachment.and_then(|attachment| attachment.message.as_deref_mut()) {
                offer.excluded = Excluded::default();
                self.route(io, key);
            }
        }
    }

    pub(super) fn flux_timeout(&mut self, io: &mut impl Io, now: Instant) {
        let is_due = |at: &mut Instant| *at <= now;
        let is_over = self.flux.until.take_if(is_due).is_some();
        if self.flux.retry_at.take_if(is_due).is_some() || is_over {
            self.flux.retry_at = self.flux.until.map(|_| now + RETRY);
            self.retry_waiting(io);
        }
    }
}
