//! The end-to-end window of a stream, counted in octets behind its sections (docs/wire.md §8.5).
//!
//! The end that reads a workload's socket holds a [`SendWindow`]; the end that writes the other workload's socket keeps
//! [`Reports`] and tells, now and then, how many octets it has written altogether. AMQP credit has no part in it.

/// What skupper-router calls a full buffer: it reports no earlier than after this many octets.
const REPORT_OCTETS: u64 = 521_216;

/// How often one of our ends reports to another of ours.
const OWN_REPORT_OCTETS: u64 = 131_072;

/// Octets that may be under way: twice the report distance, so that the sender never waits for a report that cannot come.
pub(crate) const WINDOW_OCTETS: u64 = 2 * REPORT_OCTETS;

/// How much of a stream may still be read from its socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendWindow {
    sent: u64,
    reported: u64,
    is_on: bool,
}

/// How much of a stream was written, and how much of that was told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reports {
    written: u64,
    told: u64,
    every: u64,
}

impl SendWindow {
    pub(crate) fn new() -> Self {
        Self { sent: 0, reported: 0, is_on: true }
    }

    /// Octets that may be read now.
    pub(crate) fn room(&self) -> usize {
        if !self.is_on {
            return usize::MAX;
        }
        WINDOW_OCTETS.saturating_sub(self.sent - self.reported) as usize
    }

    pub(crate) fn count(&mut self, octets: usize) {
        self.sent += octets as u64;
    }

    /// Takes the far end's report. Reports that do not advance, or that run ahead of what was sent, say nothing.
    pub(crate) fn recv_report(&mut self, offset: u64) {
        if offset > self.reported && offset <= self.sent {
            self.reported = offset;
        }
    }

    /// Nobody reports any more: the far end has settled, or there is none.
    pub(crate) fn switch_off(&mut self) {
        self.is_on = false;
    }
}

impl Reports {
    /// `is_own`: the far end is one of ours and asked for the shorter distance.
    pub(crate) fn new(is_own: bool) -> Self {
        Self { written: 0, told: 0, every: if is_own { OWN_REPORT_OCTETS } else { REPORT_OCTETS } }
    }

    /// Counts octets written to the socket; the offset to report if it is time.
    pub(crate) fn count(&mut self, octets: usize) -> Option<u64> {
        self.written += octets as u64;
        if self.written - self.told < self.every {
            return None;
        }
        self.told = self.written;
        Some(self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_opens_by_reports_only() {
        let mut window = SendWindow::new();
        window.count(WINDOW_OCTETS as usize);
        assert_eq!(window.room(), 0);
        window.recv_report(REPORT_OCTETS);
        assert_eq!(window.room(), REPORT_OCTETS as usize);
        window.recv_report(REPORT_OCTETS - 1);
        window.recv_report(u64::MAX);
        assert_eq!(window.room(), REPORT_OCTETS as usize, "neither backwards nor ahead of what was sent");
        window.switch_off();
        assert_eq!(window.room(), usize::MAX);
    }

    #[test]
    fn overshoot_is_no_room() {
        let mut window = SendWindow::new();
        window.count(WINDOW_OCTETS as usize + 5);
        assert_eq!(window.room(), 0);
    }

    #[test]
    fn a_report_comes_before_the_window_is_full() {
        for is_own in [false, true] {
            let mut reports = Reports::new(is_own);
            let mut outstanding = 0;
            for _ in 0..1000 {
                outstanding += 4096;
                if reports.count(4096).is_some() {
                    outstanding = 0;
                }
                assert!(outstanding < WINDOW_OCTETS);
            }
        }
    }
}
