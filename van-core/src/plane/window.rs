//! The end-to-end window of a stream, counted in octets behind its sections (docs/wire.md §8.5).
//!
//! The end that reads a workload's socket holds a [`SendWindow`]; the end that writes the other workload's socket keeps
//! [`Reports`] and tells, now and then, how many octets it has written altogether. AMQP credit has no part in it.
//!
//! Toward others the window is fixed. Between two ends of ours the receiver names it, with each report anew: it alone knows
//! how fast its reader is, how long the path takes to fill what it allows, and how much memory there is. What it has
//! allowed it never takes back, so what may come is known, and can be counted before it is promised.

use std::time::Duration;

use super::round::ShortestRound;
use crate::encapsulation::FIRST_WINDOW_OCTETS;

/// What skupper-router calls a full buffer: it reports no earlier than after this many octets.
const REPORT_OCTETS: u64 = 521_216;

/// How often one of our ends reports to another of ours, at most.
const OWN_REPORT_OCTETS: u64 = 131_072;

/// Octets that may be under way: twice the report distance, so that the sender never waits for a report that cannot come.
pub(crate) const WINDOW_OCTETS: u64 = 2 * REPORT_OCTETS;

/// The largest window: 10 Gbit/s over a round trip of 50 ms.
pub(crate) const MAX_WINDOW: u32 = 64 * 1024 * 1024;

/// The largest window over routers that are not ours, which may keep all of it.
pub(crate) const FOREIGN_WINDOW: u32 = 4 * 1024 * 1024;

/// Reports in a window at least: fewer would let the sender wait for one that is almost due.
const REPORTS_PER_WINDOW: u64 = 4;

/// Round trips shorter than this count as this long: a thread may wait so long for its turn on a busy core.
const SHORTEST_ROUND: Duration = Duration::from_millis(8);

/// Part of the window that is given up per round trip at most, if the reader does not need it.
const DECAY: u64 = 8;

/// How much of a stream may still be read from its socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendWindow {
    sent: u64,
    reported: u64,
    /// Octets that may be sent altogether, as the far end told.
    allowed: u64,
    /// The window as last told; 0 if it never was.
    window: u32,
    /// The far end names the window.
    is_told: bool,
    is_on: bool,
}

/// How much of a stream was written, and how much of that was told.
#[derive(Debug)]
pub(crate) struct Reports {
    written: u64,
    /// When this much is written, a report is due.
    next: u64,
    window: Window,
}

/// What bounds the sender.
#[derive(Debug)]
enum Window {
    /// A report is told after so many octets.
    Fixed { every: u32 },
    /// We name it, and have named the first only: most streams need no other.
    First(u32),
    /// We name it.
    Granted(Box<Grant>),
}

/// What a receiver reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// Octets written so far.
    pub(crate) offset: u64,
    /// Octets that may come beyond them; 0 if the window is fixed.
    pub(crate) window: u32,
}

/// The window that a receiver grants, and what it is made from.
#[derive(Debug)]
struct Grant {
    first: u32,
    window: u32,
    /// Octets that may come altogether.
    limit: u64,
    /// Octets written at the last report.
    told: u64,
    /// What the reader took in the last round trip, and whether that was clearly more than in the one before.
    taken: u64,
    is_growing: bool,
    /// The round trip under way, if there is one.
    round: Option<Round>,
    shortest: ShortestRound,
    /// The window is kept small for one round trip, so that the sender must wait for what is told: then it takes as long as
    /// the path, and no longer.
    is_probing: bool,
}

/// From a report until the first octet comes that it allowed: as long as the path takes there and back, or longer if the
/// sender had more to send that it might.
#[derive(Debug)]
struct Round {
    /// Octets that were allowed before.
    limit: u64,
    since: Duration,
    /// Octets written by then.
    written: u64,
    /// The window as it was.
    window: u32,
    /// The octet is there; what the reader takes of it belongs to the round.
    has_come: bool,
}

impl SendWindow {
    pub(crate) fn new() -> Self {
        Self { sent: 0, reported: 0, allowed: 0, window: 0, is_told: false, is_on: true }
    }

    /// The far end names the window, and this is the first. It may have reported octets that went ahead.
    pub(crate) fn follow(&mut self, first: u32) {
        self.is_told = true;
        self.window = if self.window > 0 { self.window } else { first };
        self.allowed = self.allowed.max(first.into()).max(self.reported + u64::from(self.window));
    }

    /// Octets that may be read now.
    pub(crate) fn room(&self) -> usize {
        if !self.is_on {
            return usize::MAX;
        }
        let limit = if self.is_told { self.allowed } else { self.reported + WINDOW_OCTETS };
        limit.saturating_sub(self.sent) as usize
    }

    pub(crate) fn count(&mut self, octets: usize) {
        self.sent += octets as u64;
    }

    /// Takes the far end's report. Reports that do not advance, or that run ahead of what was sent, say nothing.
    pub(crate) fn recv_report(&mut self, report: Received) {
        if report.offset > self.sent {
            return;
        }
        self.reported = self.reported.max(report.offset);
        self.window = if report.window > 0 { report.window } else { self.window };
        self.allowed = self.allowed.max(report.offset + u64::from(self.window));
    }

    /// Nobody reports any more: the far end has settled, or there is none.
    pub(crate) fn switch_off(&mut self) {
        self.is_on = false;
    }
}

impl Reports {
    /// Of a stream whose sender has a fixed window. `is_own`: it is one of ours and asked for the shorter distance.
    pub(crate) fn fixed(is_own: bool) -> Self {
        let every = if is_own { OWN_REPORT_OCTETS } else { REPORT_OCTETS };
        Self { written: 0, next: every, window: Window::Fixed { every: every as u32 } }
    }

    /// Of a stream whose sender was granted the first window, and will be told the next.
    pub(crate) fn granting(first: u32) -> Self {
        Self { written: 0, next: worth_telling(first), window: Window::First(first) }
    }

    /// Counts octets written to the socket, while `parked` wait; what to report if it is time. The window is at most `most`
    /// of what is written so far.
    pub(crate) fn count(
        &mut self,
        octets: usize,
        parked: usize,
        now: Duration,
        most: impl Fn(u64) -> u32,
    ) -> Option<Received> {
        self.written += octets as u64;
        self.arrived(parked, now);
        if let Window::Granted(grant) = &mut self.window
            && grant.end_round(self.written, now)
        {
            self.next = grant.next();
        }
        if self.written < self.next {
            return None;
        }
        let offset = self.written;
        if let Window::First(first) = self.window {
            self.window = Window::Granted(Grant::new(first, now).into());
        }
        let grant = match &mut self.window {
            Window::Granted(grant) => grant,
            Window::Fixed { every } => {
                self.next = offset + u64::from(*every);
                return Some(Received { offset, window: 0 });
            }
            Window::First(_) => return None,
        };
        grant.grow(offset);
        grant.window = grant.window.min(most(offset)).max(grant.first);
        let is_raised = grant.raise(offset, now);
        self.next = grant.next();
        let window = (grant.limit - offset).try_into().unwrap_or(u32::MAX);
        is_raised.then_some(Received { offset, window })
    }

    /// Notes what has come, of which `parked` octets are not written.
    pub(crate) fn arrived(&mut self, parked: usize, now: Duration) {
        if let Window::Granted(grant) = &mut self.window
            && let Some(round) = &mut grant.round
            && !round.has_come
            && self.written + parked as u64 > round.limit
        {
            round.has_come = true;
            grant.shortest.note(now.saturating_sub(round.since));
        }
    }

    /// Octets that may come beyond what is written; none if the window is fixed.
    pub(crate) fn promised(&self) -> Option<usize> {
        let limit = match &self.window {
            Window::Fixed { .. } => return None,
            Window::First(first) => u64::from(*first),
            Window::Granted(grant) => grant.limit,
        };
        Some(limit.saturating_sub(self.written) as usize)
    }

    /// Octets that may wait: beyond what was granted only those that a sender may send before it is told anything. None if
    /// the window is fixed.
    pub(crate) fn most_parked(&self) -> Option<usize> {
        self.promised().map(|promised| promised + FIRST_WINDOW_OCTETS as usize)
    }
}

/// By how much a report must raise the limit.
fn worth_telling(window: u32) -> u64 {
    (u64::from(window) / REPORTS_PER_WINDOW).clamp(1, OWN_REPORT_OCTETS)
}

impl Grant {
    fn new(first: u32, now: Duration) -> Self {
        Self {
            first,
            window: first,
            limit: first.into(),
            told: 0,
            taken: 0,
            is_growing: true,
            round: None,
            shortest: ShortestRound::new(now),
            is_probing: false,
        }
    }

    /// What must be written for the next report.
    fn next(&self) -> u64 {
        let window = self.current();
        self.limit.saturating_sub(window.into()) + worth_telling(window)
    }

    /// The window for now.
    fn current(&self) -> u32 {
        if self.is_probing { (self.window / 4).max(self.first) } else { self.window }
    }

    /// Raises the limit to a window beyond what is written, and starts a round trip. Whether there is something to tell.
    fn raise(&mut self, written: u64, now: Duration) -> bool {
        if self.shortest.forget(now) {
            self.is_probing = true;
            self.round = None;
        }
        let limit = written + u64::from(self.current());
        if limit <= self.limit {
            return false;
        }
        let window = self.window;
        self.round.get_or_insert(Round { limit: self.limit, since: now, written, window, has_come: false });
        self.limit = limit;
        true
    }

    /// While the reader takes more with each round trip, the window grows by what it takes: twofold in a round trip.
    fn grow(&mut self, written: u64) {
        let taken = written - std::mem::replace(&mut self.told, written);
        if self.is_growing && !self.is_probing {
            self.window = u64::from(self.window).saturating_add(taken).min(MAX_WINDOW.into()) as u32;
        }
    }

    /// If the first octet beyond the old limit is there, the window becomes twice what the reader takes in a round trip. It
    /// at most doubles, and shrinks little by little, for readers pause. Whether it is so.
    fn end_round(&mut self, written: u64, now: Duration) -> bool {
        let Some(round) = self.round.take_if(|round| round.has_come) else { return false };
        if std::mem::take(&mut self.is_probing) {
            return true;
        }
        let span = self.shortest.get().max(SHORTEST_ROUND).as_micros();
        let took = now.saturating_sub(round.since).as_micros().max(1);
        let taken = u64::try_from(u128::from(written - round.written) * span / took).unwrap_or(u64::MAX / 8);
        self.is_growing = 4 * taken >= 5 * std::mem::replace(&mut self.taken, taken);
        let window = u64::from(self.window);
        let least = window - (u128::from(window / DECAY) * took.min(span) / span) as u64;
        let wanted = (2 * taken).clamp(least, 2 * window.max(round.window.into()));
        self.window = wanted.clamp(self.first.into(), self.first.max(MAX_WINDOW).into()) as u32;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const TICK: Duration = Duration::from_millis(1);

    fn told(offset: u64, window: u32) -> Received {
        Received { offset, window }
    }

    /// A stream over a path, in ticks.
    struct Stream {
        sender: SendWindow,
        receiver: Reports,
        now: Duration,
        /// One way, in ticks.
        delay: usize,
        /// Octets that the sender has per tick, and that the reader takes.
        gives: usize,
        takes: usize,
        parked: usize,
        most_parked: usize,
        /// What is under way, with the tick when it comes.
        octets: VecDeque<(usize, usize)>,
        reports: VecDeque<(usize, Received)>,
        tick: usize,
    }

    impl Stream {
        fn new(delay: usize, gives: usize, takes: usize) -> Self {
            let mut sender = SendWindow::new();
            sender.follow(FIRST_WINDOW_OCTETS);
            Self {
                sender,
                receiver: Reports::granting(FIRST_WINDOW_OCTETS),
                now: Duration::ZERO,
                delay,
                gives,
                takes,
                parked: 0,
                most_parked: 0,
                octets: VecDeque::new(),
                reports: VecDeque::new(),
                tick: 0,
            }
        }

        /// Octets written in so many ticks.
        fn run(&mut self, ticks: usize) -> u64 {
            let before = self.receiver.written;
            for _ in 0..ticks {
                self.step();
            }
            self.receiver.written - before
        }

        fn step(&mut self) {
            self.tick += 1;
            self.now += TICK;
            while let Some((_, report)) = self.reports.pop_front_if(|(at, _)| *at <= self.tick) {
                self.sender.recv_report(report);
            }
            let sent = self.sender.room().min(self.gives);
            self.sender.count(sent);
            self.octets.push_back((self.tick + self.delay, sent));
            while let Some((_, octets)) = self.octets.pop_front_if(|(at, _)| *at <= self.tick) {
                self.parked += octets;
                self.receiver.arrived(self.parked, self.now);
            }
            self.most_parked = self.most_parked.max(self.parked);
            assert!(self.receiver.most_parked().is_some_and(|most| self.parked <= most), "more than was granted");
            let written = self.parked.min(self.takes);
            self.parked -= written;
            if written > 0
                && let Some(report) = self.receiver.count(written, self.parked, self.now, |_| MAX_WINDOW)
            {
                self.reports.push_back((self.tick + self.delay, report));
            }
        }

        fn window(&self) -> u32 {
            let Window::Granted(grant) = &self.receiver.window else { panic!("it grants none") };
            grant.window
        }
    }

    #[test]
    fn a_fixed_window_opens_by_reports_only() {
        let mut window = SendWindow::new();
        window.count(WINDOW_OCTETS as usize);
        assert_eq!(window.room(), 0);
        window.recv_report(told(REPORT_OCTETS, 0));
        assert_eq!(window.room(), REPORT_OCTETS as usize);
        for report in [told(REPORT_OCTETS - 1, 0), told(u64::MAX, 0), told(REPORT_OCTETS, MAX_WINDOW)] {
            window.recv_report(report);
            assert_eq!(window.room(), REPORT_OCTETS as usize, "{report:?}");
        }
        window.switch_off();
        assert_eq!(window.room(), usize::MAX);
    }

    #[test]
    fn a_window_that_is_told_is_kept_where_a_report_does_not_name_one() {
        let mut window = SendWindow::new();
        window.follow(10_000);
        assert_eq!(window.room(), 10_000);
        window.count(10_000);
        window.recv_report(told(5_000, 0));
        assert_eq!(window.room(), 5_000);
        window.recv_report(told(6_000, 50_000));
        assert_eq!(window.room(), 46_000);
        window.recv_report(told(7_000, 1));
        assert_eq!(window.room(), 46_000, "what was allowed is not taken back");
    }

    #[test]
    fn a_report_of_what_went_ahead_counts_when_the_first_window_is_known() {
        let mut window = SendWindow::new();
        window.count(60_000);
        window.recv_report(told(60_000, 70_000));
        window.follow(10_000);
        assert_eq!(window.room(), 70_000);
    }

    #[test]
    fn overshoot_is_no_room() {
        let mut window = SendWindow::new();
        window.count(WINDOW_OCTETS as usize + 5);
        assert_eq!(window.room(), 0);
        window.follow(FIRST_WINDOW_OCTETS);
        assert_eq!(window.room(), 0);
    }

    #[test]
    fn a_report_comes_before_the_fixed_window_is_full() {
        for is_own in [false, true] {
            let mut reports = Reports::fixed(is_own);
            let mut outstanding = 0;
            for _ in 0..1000 {
                outstanding += 4096;
                if reports.count(4096, 0, Duration::ZERO, |_| MAX_WINDOW).is_some() {
                    outstanding = 0;
                }
                assert!(outstanding < WINDOW_OCTETS);
            }
        }
    }

    /// 250 MB/s over 50 ms: 12.5 MB under way, of a window that starts at 64 KiB.
    #[test]
    fn the_window_grows_until_a_long_path_is_full() {
        let mut stream = Stream::new(25, 1_000_000, 250_000);
        stream.run(700);
        let written = stream.run(1_000);
        assert!(written > 245_000_000, "{written} of 250,000,000 octets in the second second");
        assert!(stream.window() < 32_000_000, "{} for 12,500,000 under way", stream.window());
    }

    #[test]
    fn the_shortest_round_trip_is_measured_anew_and_that_costs_little() {
        let mut stream = Stream::new(25, 250_000, 250_000);
        stream.run(1_000);
        let written = stream.run(60_000);
        assert!(written > 59 * 250_000_000, "{written} octets in a minute");
        assert!(stream.window() < 32_000_000, "{} for 12,500,000 under way", stream.window());
    }

    #[test]
    fn the_window_follows_a_path_that_becomes_longer() {
        let mut stream = Stream::new(5, 250_000, 50_000);
        stream.run(2_000);
        stream.delay = 100;
        stream.run(25_000);
        let written = stream.run(1_000);
        assert!(written > 47_000_000, "{written} of 50,000,000 octets");
    }

    #[test]
    fn a_reader_that_becomes_slow_has_a_small_window_soon() {
        let mut stream = Stream::new(25, 1_000_000, 100_000);
        stream.run(2_000);
        assert!(stream.window() > 5_000_000);
        stream.takes = 1_000;
        stream.run(20_000);
        assert!(stream.window() < 300_000, "{} for a reader that takes 50,000 in a round trip", stream.window());
        assert!(stream.parked < 600_000, "{} octets wait", stream.parked);
    }

    #[test]
    fn a_sender_that_has_little_to_send_gets_no_large_window() {
        let mut stream = Stream::new(2, 1_000, 1_000_000);
        stream.run(120_000);
        assert!(stream.window() <= 4 * FIRST_WINDOW_OCTETS, "{}", stream.window());
    }

    #[test]
    fn a_reader_that_pauses_keeps_its_window() {
        let mut stream = Stream::new(25, 1_000_000, 250_000);
        stream.run(2_000);
        let before = stream.window();
        stream.gives = 0;
        stream.run(5_000);
        stream.gives = 1_000_000;
        let written = stream.run(200);
        assert!(written > 30_000_000, "{written} octets in 200 ms, with a window of {before} before the pause");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever the path and the reader do: no standstill, and never more than was granted.
        #[test]
        fn a_stream_moves_and_keeps_to_what_was_granted(
            first in 1024..=FIRST_WINDOW_OCTETS,
            changes in prop::collection::vec((0..60_usize, 1..400_000_usize, 1..400_000_usize, 1..500_usize), 1..8),
        ) {
            let mut stream = Stream::new(0, 0, 0);
            stream.sender.follow(first);
            stream.receiver = Reports::granting(first);
            for (delay, gives, takes, ticks) in changes {
                (stream.delay, stream.gives, stream.takes) = (delay.max(stream.delay), gives, takes);
                stream.run(ticks);
                stream.takes = usize::MAX;
                let written = stream.run(4 * delay.max(stream.delay) + 4);
                prop_assert!(written > 0, "a standstill with {} octets of room", stream.sender.room());
            }
        }
    }
}
