//! What a shard has done, for readers in other threads.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use van_core::flow::Ledger;
use van_core::plane::Counters;

/// Octets of messages that may be on their way from the control plane to a shard; more are dropped.
const MAX_FORWARDING_OCTETS: usize = 16 * 1024 * 1024;

/// What such a message takes besides its octets.
const FORWARDING_OVERHEAD: usize = 256;

/// A shard's counters as of its last turn.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    counters: Mutex<Counters>,
    /// Streams that the shard was given, and that its counters do not have yet.
    coming: AtomicUsize,
    /// Records of VanFlow that were dropped, and connections in which an observer gave up.
    flows_dropped: AtomicU64,
    flows_given_up: AtomicU64,
    /// Octets of messages on their way to the shard.
    forwarding: AtomicUsize,
    /// Messages that the shard was not told of, because too many were on their way.
    untold: AtomicU64,
}

impl Stats {
    /// As they are at the end of a turn, in which the shard took so many streams that it was given.
    pub(crate) fn publish(&self, counters: &Counters, taken: usize) {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = *counters;
        self.coming.fetch_sub(taken, Ordering::Relaxed);
    }

    /// Notes a stream that the shard is about to be given.
    pub(crate) fn give(&self) {
        self.coming.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a stream that the shard was given comes to nothing.
    pub(super) fn give_up(&self) {
        self.coming.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many streams the shard has, or is about to have.
    pub(crate) fn streams(&self) -> u64 {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.streams + self.coming.load(Ordering::Relaxed) as u64
    }

    pub(super) fn publish_flows(&self, ledger: &Ledger) {
        self.flows_dropped.store(ledger.dropped(), Ordering::Relaxed);
        self.flows_given_up.store(ledger.given_up(), Ordering::Relaxed);
    }

    /// Records of VanFlow that nobody fetched in time.
    pub(crate) fn flows_dropped(&self) -> u64 {
        self.flows_dropped.load(Ordering::Relaxed)
    }

    /// Connections that an observer understood nothing of, or not all.
    pub(crate) fn flows_given_up(&self) -> u64 {
        self.flows_given_up.load(Ordering::Relaxed)
    }

    /// Notes a message that the shard is about to be told to forward; not if too much is on its way to it already.
    pub(crate) fn forward(&self, octets: usize) -> bool {
        let has_room = self.forwarding.load(Ordering::Relaxed) <= MAX_FORWARDING_OCTETS;
        if has_room {
            self.forwarding.fetch_add(octets + FORWARDING_OVERHEAD, Ordering::Relaxed);
        } else {
            self.untold.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }

    /// The shard has such a message.
    pub(super) fn forwarded(&self, octets: usize) {
        self.forwarding.fetch_sub(octets + FORWARDING_OVERHEAD, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Counters {
        let mut counters = *self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters.copies_dropped += self.untold.load(Ordering::Relaxed);
        counters
    }
}
