//! When work that was asked for is done: paced, or again and again until it succeeds.

use std::time::{Duration, Instant};

/// Work that is done at once when asked for, but not more often than once per gap.
#[derive(Debug, Default)]
pub(crate) struct Paced {
    done_at: Option<Instant>,
    due: Option<Instant>,
}

impl Paced {
    /// Asks for the work; asking again before it is done changes nothing.
    pub(crate) fn ask(&mut self, now: Instant, gap: Duration) {
        let earliest = self.done_at.map_or(now, |done_at| now.max(done_at + gap));
        self.due.get_or_insert(earliest);
    }

    /// Whether the work is to be done now. It then counts as done.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            *self = Self { done_at: Some(now), due: None };
        }
        is_due
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }
}

/// A question to another router that is repeated until it is answered, more slowly each time: the other router may not
/// exist, or be unable to answer.
#[derive(Debug)]
pub(crate) struct Request {
    next: Option<Instant>,
    /// How often the time until the next try has doubled.
    doublings: u32,
}

impl Request {
    const MAX_DOUBLINGS: u32 = 3;

    pub(crate) fn opened(now: Instant) -> Self {
        Self { next: Some(now), doublings: 0 }
    }

    /// Opens or closes the request; one that is open already keeps its time.
    pub(crate) fn set_open(&mut self, now: Instant, is_open: bool) {
        if !is_open {
            self.next = None;
        } else if self.next.is_none() {
            *self = Self::opened(now);
        }
    }

    /// Whether to ask now. It then counts as asked.
    pub(crate) fn take_due(&mut self, now: Instant, first_wait: Duration) -> bool {
        let is_due = self.next.is_some_and(|next| next <= now);
        if is_due {
            self.next = Some(now + first_wait * 2_u32.pow(self.doublings));
            self.doublings = Self::MAX_DOUBLINGS.min(self.doublings + 1);
        }
        is_due
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{epoch, ms};

    #[test]
    fn the_first_work_is_done_at_once_and_the_next_after_the_gap() {
        let start = epoch();
        let mut work = Paced::default();
        work.ask(start, ms(20));
        assert!(work.take_due(start));
        work.ask(start + ms(5), ms(20));
        work.ask(start + ms(6), ms(20));
        assert_eq!(work.due(), Some(start + ms(20)));
        assert!(!work.take_due(start + ms(19)) && work.take_due(start + ms(20)) && !work.take_due(start + ms(40)));
    }

    #[test]
    fn requests_are_repeated_more_slowly() {
        let start = epoch();
        let mut request = Request::opened(start);
        let asked: Vec<_> = (0..60).filter(|&i| request.take_due(start + ms(100 * i), ms(100))).collect();
        assert_eq!(asked, [0, 1, 3, 7, 15, 23, 31, 39, 47, 55]);
    }

    #[test]
    fn opening_an_open_request_does_not_hurry_it() {
        let start = epoch();
        let mut request = Request::opened(start);
        assert!(request.take_due(start, ms(2000)));
        request.set_open(start + ms(1), true);
        assert_eq!(request.due(), Some(start + ms(2000)));
        request.set_open(start + ms(2), false);
        assert_eq!(request.due(), None);
    }
}
