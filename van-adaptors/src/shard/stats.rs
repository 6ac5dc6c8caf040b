//! What a shard has done, for readers in other threads.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use van_core::flow::Ledger;
use van_core::plane::Counters;

/// Octets of messages that may be on their way from the control plane to a shard; more are dropped.
const MAX_FORWARDING_OCTETS: usize = 16 * 1024 * 1024;

/// What such a message takes besides its octets.
const FORWARDING_OVERHEAD: usize = 256;

/// A shard's counters as of its last turn. Each is right by itself; together they may be a turn apart.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    streams: AtomicU64,
    directions: AtomicU64,
    accepted: AtomicU64,
    connected: AtomicU64,
    refused: AtomicU64,
    octets_in: AtomicU64,
    octets_out: AtomicU64,
    octets_transit: AtomicU64,
    octets_crossed: AtomicU64,
    copies_dropped: AtomicU64,
    /// Records of VanFlow that were dropped, and connections in which an observer gave up.
    flows_dropped: AtomicU64,
    flows_given_up: AtomicU64,
    /// Octets of messages on their way to the shard.
    forwarding: AtomicUsize,
    /// Messages that the shard was not told of, because too many were on their way.
    untold: AtomicU64,
}

impl Stats {
    fn fields(&self) -> [&AtomicU64; 10] {
        [
            &self.streams,
            &self.directions,
            &self.accepted,
            &self.connected,
            &self.refused,
            &self.octets_in,
            &self.octets_out,
            &self.octets_transit,
            &self.octets_crossed,
            &self.copies_dropped,
        ]
    }

    pub(super) fn publish(&self, counters: &Counters) {
        let values = [
            counters.streams,
            counters.directions,
            counters.accepted,
            counters.connected,
            counters.refused,
            counters.octets_in,
            counters.octets_out,
            counters.octets_transit,
            counters.octets_crossed,
            counters.copies_dropped,
        ];
        for (field, value) in self.fields().into_iter().zip(values) {
            field.store(value, Ordering::Relaxed);
        }
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
        let [
            streams,
            directions,
            accepted,
            connected,
            refused,
            octets_in,
            octets_out,
            octets_transit,
            octets_crossed,
            copies_dropped,
        ] = self.fields().map(|field| field.load(Ordering::Relaxed));
        Counters {
            streams,
            directions,
            accepted,
            connected,
            refused,
            octets_in,
            octets_out,
            octets_transit,
            octets_crossed,
            copies_dropped: copies_dropped + self.untold.load(Ordering::Relaxed),
        }
    }
}
