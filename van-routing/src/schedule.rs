//! When work that was asked for is done: paced, or again and again until it succeeds.

use std::time::{Duration, Instant};

/// Work that is done at once when asked for, but not more often than once per gap.
#[derive(Debug)]
pub(crate) struct Paced {
    gap: Duration,
    done_at: Option<Instant>,
    due: Option<Instant>,
}

impl Paced {
    pub(crate) fn new(gap: Duration) -> Self {
        Self { gap, done_at: None, due: None }
    }

    /// Asks for the work; asking again before it is done changes nothing.
    pub(crate) fn ask(&mut self, now: Instant) {
        let earliest = self.done_at.map_or(now, |done_at| now.max(done_at + self.gap));
        self.due.get_or_insert(earliest);
    }

    /// Whether the work is to be done now; then it counts as done.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            *self = Self { done_at: Some(now), due: None, ..*self };
        }
        is_due
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }
}

/// A question to another router that is repeated until it is answered, or has been asked often enough.
///
/// Bounded, because a router may be unable to answer: then its next advertisement opens the request again.
#[derive(Debug)]
pub(crate) struct Request {
    next: Option<Instant>,
    tries_left: u8,
}

impl Request {
    const TRIES: u8 = 5;

    pub(crate) fn opened(now: Instant) -> Self {
        Self { next: Some(now), tries_left: Self::TRIES }
    }

    /// Opens or closes the request; one that is open already keeps its time.
    pub(crate) fn set_open(&mut self, now: Instant, is_open: bool) {
        match (is_open, self.next) {
            (true, Some(_)) => {}
            (true, None) => *self = Self::opened(now),
            (false, _) => self.next = None,
        }
    }

    /// Whether to ask now; then it counts as asked.
    pub(crate) fn is_due(&mut self, now: Instant, retry: Duration) -> bool {
        let is_due = self.next.is_some_and(|next| next <= now);
        if is_due {
            self.tries_left -= 1;
            let tries = u32::from(Self::TRIES - self.tries_left);
            self.next = (self.tries_left > 0).then(|| now + retry * 2_u32.pow(tries - 1));
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
        let mut work = Paced::new(ms(20));
        work.ask(start);
        assert!(work.is_due(start));
        work.ask(start + ms(5));
        work.ask(start + ms(6));
        assert_eq!(work.due(), Some(start + ms(20)));
        assert!(!work.is_due(start + ms(19)) && work.is_due(start + ms(20)) && !work.is_due(start + ms(40)));
    }

    #[test]
    fn requests_are_repeated_a_bounded_number_of_times() {
        let start = epoch();
        let mut request = Request::opened(start);
        let asked = (0..1000).filter(|&i| request.is_due(start + ms(100) * i, ms(2000))).count();
        assert_eq!(asked, usize::from(Request::TRIES));
    }

    #[test]
    fn opening_an_open_request_does_not_hurry_it() {
        let start = epoch();
        let mut request = Request::opened(start);
        assert!(request.is_due(start, ms(2000)));
        request.set_open(start + ms(1), true);
        assert_eq!(request.due(), Some(start + ms(2000)));
        request.set_open(start + ms(2), false);
        assert_eq!(request.due(), None);
    }
}
