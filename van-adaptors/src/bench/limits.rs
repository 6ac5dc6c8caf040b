//! How much a responder does, whoever asks: it is to measure the network, never to burden it.
//!
//! Everything is taken from a store that fills again slowly, and what was not used is put back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::MAX_BULK_STREAMS;

/// Streams at once, of whatever kind: 16 of a measurement of new connections, and those that are just ending.
const MAX_STREAMS: usize = 256;

/// Streams one after the other: two measurements of new connections, 20,000 each, and one more for every 2 ms.
const STREAMS: Store = Store::new(50_000.0, 500.0);

/// Streams of bulk at once: those of a measurement, and those of the one before that are just ending.
const MAX_BULK: usize = 2 * MAX_BULK_STREAMS;

/// Seconds of streams of bulk: three measurements of usual length, and in the long run half a stream.
const BULK_SECONDS: Store = Store::new(120.0, 0.5);

/// Octets sent back.
const ECHO_OCTETS: Store = Store::new(64.0 * 1024.0 * 1024.0, 1024.0 * 1024.0);

/// What a responder still does. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Limits(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    streams: usize,
    bulk_streams: usize,
    openings: Store,
    bulk_seconds: Store,
    echo_octets: Store,
}

/// An amount that is used up and fills again.
#[derive(Debug, Clone, Copy)]
struct Store {
    capacity: f64,
    per_second: f64,
    level: f64,
    /// When the level was that; `None` for one that is full.
    at: Option<Instant>,
}

/// A stream that is served, until dropped.
#[derive(Debug)]
pub(super) struct Place(Limits);

/// What one stream may do, until dropped.
#[derive(Debug)]
pub(super) enum Grant {
    /// This many octets are still to be sent back.
    Echo { limits: Limits, left: u64 },
    /// Octets may flow, and the stream must be over then.
    Bulk { limits: Limits, until: Instant },
}

impl Limits {
    pub(super) fn new() -> Self {
        let (openings, bulk_seconds, echo_octets) = (STREAMS, BULK_SECONDS, ECHO_OCTETS);
        Self(Arc::new(Mutex::new(State { streams: 0, bulk_streams: 0, openings, bulk_seconds, echo_octets })))
    }

    /// Takes another stream, unless there are too many.
    pub(super) fn enter(&self) -> Option<Place> {
        let mut state = self.lock();
        if state.streams == MAX_STREAMS {
            return None;
        }
        state.streams += 1;
        Some(Place(self.clone()))
    }

    /// Counts a stream that wants something.
    ///
    /// # Errors
    /// There were too many. How long to wait before the next attempt.
    pub(super) fn open(&self, now: Instant) -> Result<(), Duration> {
        self.lock().openings.take(1.0, now)
    }

    /// Lets octets be sent back.
    ///
    /// # Errors
    /// As [`Limits::open`].
    pub(super) fn echo(&self, octets: u64, now: Instant) -> Result<Grant, Duration> {
        self.lock().echo_octets.take(octets as f64, now)?;
        Ok(Grant::Echo { limits: self.clone(), left: octets })
    }

    /// Lets octets flow for a time.
    ///
    /// # Errors
    /// As [`Limits::open`].
    pub(super) fn bulk(&self, time: Duration, now: Instant) -> Result<Grant, Duration> {
        let mut state = self.lock();
        if state.bulk_streams == MAX_BULK {
            return Err(Duration::from_secs(1));
        }
        state.bulk_seconds.take(time.as_secs_f64(), now)?;
        state.bulk_streams += 1;
        Ok(Grant::Bulk { limits: self.clone(), until: now + time })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    const fn new(capacity: f64, per_second: f64) -> Self {
        Self { capacity, per_second, level: capacity, at: None }
    }

    /// Takes all of an amount, or nothing; then, how long to wait for it.
    fn take(&mut self, amount: f64, now: Instant) -> Result<(), Duration> {
        let elapsed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.level = (self.level + elapsed.as_secs_f64() * self.per_second).min(self.capacity);
        self.at = Some(now);
        if self.level < amount {
            return Err(Duration::from_secs_f64((amount - self.level) / self.per_second));
        }
        self.level -= amount;
        Ok(())
    }

    fn put_back(&mut self, amount: f64) {
        self.level = (self.level + amount).min(self.capacity);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lock().streams -= 1;
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        match self {
            Self::Echo { limits, left } => limits.lock().echo_octets.put_back(*left as f64),
            Self::Bulk { limits, until } => {
                let left = until.saturating_duration_since(Instant::now());
                let mut state = limits.lock();
                state.bulk_streams -= 1;
                state.bulk_seconds.put_back(left.as_secs_f64());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_gives_what_it_has_and_fills_again() {
        let (mut store, start) = (Store::new(10.0, 2.0), Instant::now());
        assert_eq!(store.take(10.0, start), Ok(()));
        assert_eq!(store.take(4.0, start), Err(Duration::from_secs(2)));
        assert_eq!(store.take(4.0, start + Duration::from_secs(2)), Ok(()));
        assert_eq!(store.take(1.0, start + Duration::from_secs(2)), Err(Duration::from_millis(500)));
        assert_eq!(store.take(10.5, start + Duration::from_secs(1000)), Err(Duration::from_millis(250)), "never more");
    }

    #[test]
    fn what_is_not_used_is_put_back() {
        let (limits, now) = (Limits::new(), Instant::now());
        for _ in 0..1000 {
            drop(limits.echo(super::super::MAX_ECHO_OCTETS, now).expect("the last one was put back"));
            drop(limits.bulk(super::super::MAX_BULK_TIME, Instant::now()).expect("the last one was put back"));
        }
    }

    #[test]
    fn nobody_gets_more_streams_of_bulk_than_there_are() {
        let (limits, now, time) = (Limits::new(), Instant::now(), super::super::MAX_BULK_TIME);
        let grants: Vec<_> = (0..MAX_BULK).map(|_| limits.bulk(time, now).expect("there are as many")).collect();
        assert_eq!(limits.bulk(time, now).err(), Some(Duration::from_secs(1)));
        drop(grants);
        assert!(limits.bulk(time, now).is_ok());
    }

    #[test]
    fn a_flood_of_bulk_comes_down_to_half_a_stream() {
        let (mut store, start, mut seconds) = (BULK_SECONDS, Instant::now(), 0);
        for second in 0..3600 {
            while store.take(5.0, start + Duration::from_secs(second)).is_ok() {
                seconds += 5;
            }
        }
        assert!((1800..=1800 + 120).contains(&seconds), "{seconds} s in an hour");
    }
}
