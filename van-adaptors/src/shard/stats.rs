//! What a shard has done, for readers in other threads.

use std::sync::atomic::{AtomicU64, Ordering};

use van_core::plane::Counters;

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
            copies_dropped,
        }
    }
}
