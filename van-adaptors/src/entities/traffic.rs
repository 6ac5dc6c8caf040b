//! What has gone through an entity: counted by each shard for itself, so that counting costs no more than a store.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use van_core::plane::ShardId;

/// What has gone through a tcpListener or tcpConnector, at this moment.
#[derive(Debug, Clone)]
pub struct Traffic(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shares: Box<[Share]>,
    last_error: Mutex<Option<String>>,
    /// Whether there is one: all goes well in general, and then nobody has to wait for anybody.
    has_error: AtomicBool,
    is_over: AtomicBool,
}

/// What one shard has counted. Only that shard writes it; on a cache line of its own, for the others to do the same.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Share {
    opened: AtomicU64,
    closed: AtomicU64,
    octets_in: AtomicU64,
    octets_out: AtomicU64,
}

/// Sums of a [`Traffic`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Connections accepted or made; with TLS, once hands were shaken.
    pub opened: u64,
    /// Those of them that are over.
    pub closed: u64,
    /// Octets read from clients, or workloads.
    pub octets_in: u64,
    /// Octets written to them.
    pub octets_out: u64,
}

impl Traffic {
    pub(crate) fn new(shards: usize) -> Self {
        let shares = (0..shards).map(|_| Share::default()).collect();
        let [has_error, is_over] = [false; 2].map(AtomicBool::new);
        Self(Arc::new(Inner { shares, last_error: Mutex::default(), has_error, is_over }))
    }

    /// All that was counted so far. Each is right by itself; together they may be a moment apart.
    pub fn totals(&self) -> Totals {
        let sum =
            |count: fn(&Share) -> &AtomicU64| self.0.shares.iter().map(|it| count(it).load(Ordering::Relaxed)).sum();
        Totals {
            opened: sum(|share| &share.opened),
            closed: sum(|share| &share.closed),
            octets_in: sum(|share| &share.octets_in),
            octets_out: sum(|share| &share.octets_out),
        }
    }

    /// Why the last client or workload could not be served, if it could not: it refused, or TLS went wrong.
    pub fn last_error(&self) -> Option<String> {
        self.0.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn record<T>(&self, outcome: &io::Result<T>) {
        let error = outcome.as_ref().err().map(ToString::to_string);
        if error.is_none() && !self.0.has_error.load(Ordering::Acquire) {
            return;
        }
        let mut last = self.0.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.has_error.store(error.is_some(), Ordering::Release);
        *last = error;
    }

    /// The entity and its streams are gone.
    pub(crate) fn end(&self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether there are to be no more streams of the entity.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::Relaxed)
    }

    /// Whether it is of the same entity.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    // What follows is for the shard that it names alone.

    pub(crate) fn opened(&self, by: ShardId) {
        self.add(by, |share| &share.opened, 1);
    }

    pub(crate) fn closed(&self, by: ShardId) {
        self.add(by, |share| &share.closed, 1);
    }

    pub(crate) fn read(&self, by: ShardId, octets: usize) {
        self.add(by, |share| &share.octets_in, octets);
    }

    pub(crate) fn written(&self, by: ShardId, octets: usize) {
        self.add(by, |share| &share.octets_out, octets);
    }

    fn add(&self, by: ShardId, count: fn(&Share) -> &AtomicU64, more: usize) {
        if let Some(share) = self.0.shares.get(usize::from(by.0)) {
            let count = count(share);
            // There is no other writer that a locked addition would have to be safe from.
            count.store(count.load(Ordering::Relaxed).wrapping_add(more as u64), Ordering::Relaxed);
        }
    }
}
