//! The memory that a router's streams may take, over all its shards, and how it is given to them.
//!
//! What counts is what waits, and what senders of ours were allowed to send: a window is counted when it is granted, so a
//! reader that stops takes no more than it was. A stream that is wanted anew always gets a little; the more is taken, the
//! less one may have, and the more its reader must have shown before:
//!
//! | of the budget is taken | a window is at most | and at most, of what its reader has taken so far |
//! |---|---|---|
//! | less than 50 % | 64 MiB, a quarter of the budget | – |
//! | 50 to 75 % | half of that | an 8th |
//! | 75 to 85 % | 1 MiB | a 32nd |
//! | 85 to 100 % | 256 KiB | a 256th |
//! | more | the first window | – |

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::window::MAX_WINDOW;
use crate::encapsulation::FIRST_WINDOW_OCTETS;

/// The smallest first window. Streams beyond a budget's share take so much each, that none starves.
const LEAST_FIRST_WINDOW: u64 = 8 * 1024;

/// Windows when a quarter of the budget is left, and nearly nothing. The last holds two reports of a receiver, so a router
/// on the way may name it in place of the receiver's.
const TIGHT_WINDOW: u32 = 1024 * 1024;
const TIGHTEST_WINDOW: u32 = 256 * 1024;

/// Octets by which a shard may differ from what others see of it.
const BATCH: u64 = 65_536;

/// What a router's streams may take, and have taken. Shared by its shards.
#[derive(Debug)]
pub struct Memory {
    budget: u64,
    taken: AtomicU64,
    /// Streams whose window is granted here.
    streams: AtomicU64,
}

/// A shard's part of it. What is taken is told to others in batches.
#[derive(Debug)]
pub(super) struct Share {
    memory: Arc<Memory>,
    taken: u64,
    told: u64,
    streams: u64,
}

impl Memory {
    /// A budget in octets.
    pub fn new(budget: u64) -> Self {
        Self { budget: budget.max(1), taken: AtomicU64::new(0), streams: AtomicU64::new(0) }
    }

    /// What may be taken, in octets.
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// What is taken, in octets: what waits, and what may come without being asked for.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Default for Memory {
    /// No bound that is ever reached.
    fn default() -> Self {
        Self::new(1 << 50)
    }
}

impl Share {
    pub(super) fn of(memory: Arc<Memory>) -> Self {
        Self { memory, taken: 0, told: 0, streams: 0 }
    }

    /// Something takes so much now, in place of what it took before.
    pub(super) fn change(&mut self, before: usize, now: usize) {
        self.taken = self.taken + now as u64 - before as u64;
        if self.taken.abs_diff(self.told) >= BATCH {
            self.tell();
        }
    }

    /// A stream's window is granted here from now on, or no more.
    pub(super) fn count_stream(&mut self, is_new: bool) {
        if is_new {
            self.streams += 1;
            self.memory.streams.fetch_add(1, Ordering::Relaxed);
        } else {
            self.streams -= 1;
            self.memory.streams.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The first window of a new stream.
    pub(super) fn first_window(&self) -> u32 {
        let (budget, taken) = (self.memory.budget, self.taken());
        if taken < budget / 2 {
            return (budget / 4).clamp(LEAST_FIRST_WINDOW, FIRST_WINDOW_OCTETS.into()) as u32;
        }
        let streams = self.memory.streams.load(Ordering::Relaxed).max(1);
        (budget.saturating_sub(taken) / 4 / streams).clamp(LEAST_FIRST_WINDOW, FIRST_WINDOW_OCTETS.into()) as u32
    }

    /// The largest window of a stream whose reader has taken so much.
    pub(super) fn largest_window(&self, written: u64) -> u32 {
        let shown = |part: u64| u32::try_from(written / part).unwrap_or(u32::MAX);
        match self.percent() {
            0..50 => self.widest(),
            50..75 => (self.widest() / 2).min(shown(8)),
            75..85 => TIGHT_WINDOW.min(shown(32)),
            85..100 => TIGHTEST_WINDOW.min(shown(256)),
            _ => 0,
        }
    }

    /// The largest window of a stream that passes.
    pub(super) fn largest_passing(&self) -> u32 {
        match self.percent() {
            0..50 => MAX_WINDOW,
            50..75 => MAX_WINDOW / 2,
            75..85 => TIGHT_WINDOW,
            _ => TIGHTEST_WINDOW,
        }
    }

    /// Whether nothing is left.
    pub(super) fn is_exhausted(&self) -> bool {
        self.taken() >= self.memory.budget
    }

    /// Whether this shard has taken nothing else, and grants nobody a window.
    pub(super) fn is_unused_but(&self, octets: usize) -> bool {
        (self.taken, self.streams) == (octets as u64, 0)
    }

    fn widest(&self) -> u32 {
        (self.memory.budget / 4).min(MAX_WINDOW.into()) as u32
    }

    fn percent(&self) -> u64 {
        self.taken() * 100 / self.memory.budget
    }

    /// What all shards have taken, this one to the octet.
    fn taken(&self) -> u64 {
        self.memory.taken().saturating_add(self.taken).saturating_sub(self.told)
    }

    fn tell(&mut self) {
        let told = std::mem::replace(&mut self.told, self.taken);
        if self.taken >= told {
            self.memory.taken.fetch_add(self.taken - told, Ordering::Relaxed);
        } else {
            self.memory.taken.fetch_sub(told - self.taken, Ordering::Relaxed);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.taken = 0;
        self.tell();
        self.memory.streams.fetch_sub(self.streams, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plane::window::Reports;

    const MIB: u64 = 1024 * 1024;

    fn share(budget: u64) -> Share {
        Share::of(Arc::new(Memory::new(budget)))
    }

    /// A stream that is sent as much as it grants, at once, and whose reader takes so much.
    struct Stream {
        reports: Reports,
        charge: usize,
        sent: u64,
        written: u64,
        takes: u64,
        limit: u64,
    }

    impl Stream {
        fn new(share: &mut Share, takes: u64) -> Self {
            let first = share.first_window();
            share.count_stream(true);
            share.change(0, first as usize);
            let reports = Reports::granting(first);
            Self { reports, charge: first as usize, sent: 0, written: 0, takes, limit: first.into() }
        }

        /// One round trip of 1 ms.
        fn step(&mut self, share: &mut Share, now: Duration) {
            self.sent = self.limit;
            self.reports.arrived((self.sent - self.written) as usize, now);
            while self.written < self.sent.min(self.takes) {
                let count = (self.sent.min(self.takes) - self.written).min(16_384);
                self.written += count;
                let parked = (self.sent - self.written) as usize;
                let report = self.reports.count(count as usize, parked, now, |written| share.largest_window(written));
                if let Some(report) = report {
                    self.limit = self.limit.max(report.offset + u64::from(report.window));
                }
            }
            let charge = self.reports.promised().expect("it grants");
            share.change(self.charge, charge);
            self.charge = charge;
        }

        fn parked(&self) -> u64 {
            self.sent - self.written
        }
    }

    /// Readers stop after what the buffers of their sockets hold, small ones and large ones.
    #[test]
    fn stopped_readers_keep_within_the_budget_and_a_new_stream_grows_beside_them() {
        for held in [0, 100_000, 1_000_000] {
            let mut share = share(256 * MIB);
            let mut now = Duration::ZERO;
            let mut parked = 0;
            for _ in 0..5_000 {
                let mut stream = Stream::new(&mut share, held);
                for _ in 0..100 {
                    now += Duration::from_millis(1);
                    stream.step(&mut share, now);
                }
                parked += stream.parked();
            }
            assert!(parked <= 256 * MIB, "{} MiB wait of readers that took {held}", parked / MIB);
            assert!(share.taken() <= 256 * MIB, "{} MiB are promised to such readers", share.taken() / MIB);
            let mut fresh = Stream::new(&mut share, u64::MAX);
            for _ in 0..1_500 {
                now += Duration::from_millis(1);
                fresh.step(&mut share, now);
            }
            let before = fresh.written;
            for _ in 0..100 {
                now += Duration::from_millis(1);
                fresh.step(&mut share, now);
            }
            let per_round = (fresh.written - before) / 100;
            let least = u64::from(TIGHTEST_WINDOW) * 3 / 4;
            assert!(per_round >= least, "{per_round} octets in a round trip beside readers that took {held}");
        }
    }

    #[test]
    fn windows_shrink_as_memory_is_taken() {
        let mut share = share(256 * MIB);
        let mut taken = 0;
        let mut take = |share: &mut Share, percent: u64| {
            let now = (256 * MIB * percent).div_ceil(100) as usize;
            share.change(std::mem::replace(&mut taken, now), now);
            [share.largest_window(u64::MAX), share.largest_window(MIB), share.largest_passing(), share.first_window()]
        };
        let mib = MIB as u32;
        let kib = 1024;
        share.count_stream(true);
        assert_eq!(take(&mut share, 49), [64 * mib, 64 * mib, 64 * mib, 64 * kib]);
        assert_eq!(take(&mut share, 50), [32 * mib, 128 * kib, 32 * mib, 64 * kib]);
        for _ in 1..1000 {
            share.count_stream(true);
        }
        assert_eq!(take(&mut share, 75), [mib, 32 * kib, mib, 16_777]);
        assert_eq!(take(&mut share, 85), [256 * kib, 4 * kib, 256 * kib, 10_066]);
        assert_eq!(take(&mut share, 100), [0, 0, 256 * kib, 8 * kib]);
        assert!(share.is_exhausted());
    }

    #[test]
    fn without_a_budget_windows_are_as_large_as_can_be() {
        let share = Share::of(Arc::default());
        assert_eq!((share.first_window(), share.largest_window(0)), (FIRST_WINDOW_OCTETS, MAX_WINDOW));
    }

    #[test]
    fn shards_see_what_others_take_and_what_they_give_back() {
        let memory = Arc::new(Memory::new(100 * MIB));
        let (mut one, mut other) = (Share::of(Arc::clone(&memory)), Share::of(Arc::clone(&memory)));
        one.change(0, 60 * MIB as usize);
        assert_eq!(other.largest_window(u64::MAX), 25 * MIB as u32 / 2);
        other.change(0, 20 * MIB as usize);
        assert_eq!(one.largest_window(u64::MAX), MIB as u32);
        drop(one);
        assert_eq!(memory.taken(), 20 * MIB);
        other.change(20 * MIB as usize, 0);
        assert_eq!(memory.taken(), 0);
    }
}
