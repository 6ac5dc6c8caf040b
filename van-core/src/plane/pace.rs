//! How much of a connection's streams may be under way to a neighbour of ours at once.
//!
//! What is under way cannot be overtaken: it lies in the buffers of two kernels and of the network between, and a stream
//! that says little waits behind all of it. So no more is sent than keeps the path busy: twice what arrives in a round trip
//! (after BBR, draft-ietf-ccwg-bbr). The rest stays where the scheduler can choose, in the sockets of clients and workloads.
//! The neighbour tells what has come by its sessions' flows (docs/wire.md §2). Frames of all sessions come in the order in
//! which they left.

use std::collections::VecDeque;
use std::time::Duration;

use super::round::ShortestRound;

/// Octets that may always be under way: three times the distance at which a neighbour tells what came. Half of it is more
/// than may have come untold.
const LEAST: u64 = 768 * 1024;

/// Octets beyond the bound for streams that say little: they would wait for as long again, and are not why it is reached.
const FOR_LITTLE: u64 = 128 * 1024;

/// Round trips shorter than this count as this long: a thread may wait so long for its turn.
const SHORTEST_ROUND: Duration = Duration::from_micros(200);

/// A mark is set after so many octets.
const MARK_OCTETS: u64 = 32_768;

/// What is under way on one connection.
#[derive(Debug)]
pub(super) struct Pace {
    sent: u64,
    received: u64,
    /// When it was last told what came.
    received_at: Duration,
    /// Octets that may be under way.
    limit: u64,
    /// With so many streams wait, until there are clearly fewer; what that is at the moment.
    full_from: u64,
    bound: u64,
    marks: VecDeque<Mark>,
    /// When so much is sent, a mark is set: at once, if there is none.
    next_mark: u64,
    /// Streams wait, until so much has come that it is worth the turn.
    is_full: bool,
    /// They had to wait since the last mark was set.
    was_full: bool,
    shortest: ShortestRound,
    /// Little is under way for one round trip, so that nothing waits in the path: then it takes as long as the path, and no
    /// longer.
    is_probing: bool,
}

/// A frame: its session's channel, and its number there.
pub(super) type Frame = (u16, u32);

/// A frame of which is noted when it left.
#[derive(Debug)]
struct Mark {
    frame: Frame,
    /// Octets sent by then, and received.
    sent: u64,
    received: u64,
    received_at: Duration,
    since: Duration,
    was_full: bool,
    is_probe: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            sent: 0,
            received: 0,
            received_at: Duration::ZERO,
            limit: LEAST,
            full_from: LEAST,
            bound: LEAST,
            marks: VecDeque::new(),
            next_mark: 0,
            is_full: false,
            was_full: false,
            shortest: ShortestRound::new(Duration::ZERO),
            is_probing: false,
        }
    }
}

impl Pace {
    /// Whether streams must wait until more has come.
    #[inline]
    pub(super) fn is_full(&mut self) -> bool {
        let is_full = self.sent - self.received >= self.bound;
        if is_full != self.is_full {
            self.become_full(is_full);
        }
        is_full
    }

    #[cold]
    fn become_full(&mut self, is_full: bool) {
        self.is_full = is_full;
        self.was_full |= is_full;
        self.set_bounds();
    }

    /// Whether a stream that has little to say may go on even so.
    pub(super) fn takes_little(&self) -> bool {
        self.sent - self.received < self.full_from + FOR_LITTLE
    }

    /// Sets what follows from the limit.
    fn set_bounds(&mut self) {
        self.full_from = if self.is_probing { (self.limit / 4).max(LEAST) } else { self.limit };
        let on_below = self.full_from - (self.full_from / 4).max(LEAST / 2);
        self.bound = if self.is_full { on_below } else { self.full_from };
    }

    /// Counts octets of a frame that leaves. Whether it is one to be marked.
    #[inline]
    pub(super) fn count(&mut self, octets: usize) -> bool {
        self.sent += octets as u64;
        self.sent >= self.next_mark
    }

    /// Marks the frame that was counted last.
    pub(super) fn mark(&mut self, frame: Frame, now: Duration) {
        let was_full = self.was_full;
        self.was_full &= self.is_full;
        self.next_mark = self.sent + MARK_OCTETS;
        let Self { sent, received, received_at, is_probing: is_probe, .. } = *self;
        self.marks.push_back(Mark { frame, sent, received, received_at, since: now, was_full, is_probe });
    }

    /// The neighbour has received all frames of a session before `next`.
    pub(super) fn recv_received(&mut self, (channel, next): Frame, now: Duration) {
        let ahead = |mark: &Mark| next.wrapping_sub(mark.frame.1).cast_signed();
        let has_come = |mark: &Mark| mark.frame.0 == channel && ahead(mark) > 0;
        // The marks of a session are in order, and most often there is only one session.
        let known = self.marks.iter().take_while(|mark| mark.frame.0 != channel || ahead(mark) > 0);
        let Some(last) = known.enumerate().filter(|(_, mark)| has_come(mark)).last().map(|(place, _)| place) else {
            return;
        };
        let Some(mark) = self.marks.drain(..=last).next_back() else { return };
        self.next_mark = if self.marks.is_empty() { 0 } else { self.next_mark };
        self.received = mark.sent;
        self.received_at = now;
        // All has come: whoever goes on from here does so after a pause.
        self.was_full &= self.sent - self.received >= MARK_OCTETS;
        let round = now.saturating_sub(mark.since);
        // The neighbour tells of a frame when it comes, but that may be a later one than the marked: then it took that long
        // until there was more to send.
        let later = self.marks.front().map_or(Duration::MAX, |next| next.since.saturating_sub(mark.since));
        if ahead(&mark) != 1 && later.saturating_mul(8) > round {
            return;
        }
        self.is_probing |= self.shortest.forget(now);
        self.is_probing &= !mark.is_probe;
        self.shortest.note(round);
        let shortest = self.shortest.get().max(SHORTEST_ROUND);
        // What was told late, all at once, came over all that time.
        let took = now.saturating_sub(mark.received_at).max(shortest);
        let arrived = u128::from(self.received - mark.received) * shortest.as_nanos() / took.as_nanos().max(1);
        let wanted = u64::try_from(2 * arrived).unwrap_or(u64::MAX).max(LEAST);
        // A sender that never had to wait says nothing of what the path can take.
        if wanted > self.limit {
            self.limit = wanted;
        } else if mark.was_full && !mark.is_probe && !self.is_probing {
            self.limit -= (self.limit - wanted) / 8;
        }
        self.set_bounds();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const FRAME: u64 = 65_536;

    /// The neighbour tells what came after so many frames.
    const TOLD_FRAMES: u32 = 4;

    /// A path that passes one frame at a time, and what a sender who always has more makes of it.
    struct Path {
        pace: Pace,
        /// How long one frame takes, and how long the way there and back is.
        frame_time: Duration,
        round: Duration,
        now: Duration,
        sent: u32,
        /// When each frame under way arrives, and when each told number does.
        arriving: VecDeque<Duration>,
        told: VecDeque<(Duration, u32)>,
        arrived: u32,
        /// The most frames that were in line before the slow place.
        longest_line: usize,
    }

    impl Path {
        fn new(octets_per_second: u64, round: Duration) -> Self {
            let frame_time = Duration::from_nanos(FRAME * 1_000_000_000 / octets_per_second);
            let (arriving, told) = (VecDeque::new(), VecDeque::new());
            let (pace, now) = (Pace::default(), Duration::ZERO);
            Self { pace, frame_time, round, now, sent: 0, arriving, told, arrived: 0, longest_line: 0 }
        }

        fn run(&mut self, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                while !self.pace.is_full() {
                    let from = self.arriving.back().map_or(self.now, |last| (*last - self.round / 2).max(self.now));
                    self.arriving.push_back(from + self.frame_time + self.round / 2);
                    self.pace.count(FRAME as usize);
                    self.pace.mark((0, self.sent), self.now);
                    self.sent += 1;
                }
                let in_line = |arrival: &&Duration| **arrival > self.now + self.round / 2 + self.frame_time;
                self.longest_line = self.longest_line.max(self.arriving.iter().filter(in_line).count());
                let next = [self.arriving.front().copied(), self.told.front().map(|(at, _)| *at)];
                self.now = next.into_iter().flatten().min().expect("a full sender is told");
                if self.arriving.pop_front_if(|at| *at <= self.now).is_some() {
                    self.arrived += 1;
                    if self.arrived.is_multiple_of(TOLD_FRAMES) {
                        self.told.push_back((self.now + self.round / 2, self.arrived));
                    }
                }
                while let Some((_, next)) = self.told.pop_front_if(|(at, _)| *at <= self.now) {
                    self.pace.recv_received((0, next), self.now);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_path_is_kept_busy_and_little_waits_in_it(megabytes in 1_u64..2_000, round in 0_u64..100_000) {
            let mut path = Path::new(megabytes * 1_000_000, Duration::from_micros(round));
            let time = path.frame_time * 200 + path.round * 20;
            path.run(time);
            path.longest_line = 0;
            let before = path.arrived;
            path.run(time);
            let most = (time.as_nanos() / path.frame_time.as_nanos()) as u32;
            prop_assert!(path.arrived - before >= most * 9 / 10, "{} of {most} frames", path.arrived - before);
            let in_a_round = (path.round.max(SHORTEST_ROUND).as_nanos() / path.frame_time.as_nanos()) as usize;
            let bound = (LEAST / FRAME) as usize + in_a_round * 3 / 2 + 4;
            prop_assert!(path.longest_line <= bound, "{} frames wait, {in_a_round} are a round trip", path.longest_line);
        }
    }

    #[test]
    fn a_full_path_takes_a_little_and_no_more() {
        let mut pace = Pace::default();
        pace.count(LEAST as usize);
        assert!(pace.is_full() && pace.takes_little());
        pace.count(FOR_LITTLE as usize);
        assert!(pace.is_full() && !pace.takes_little());
    }

    #[test]
    fn what_came_on_one_session_tells_of_the_others_too() {
        let mut pace = Pace::default();
        for (channel, frame) in [(1, 0), (2, 7), (1, 1), (3, 0), (2, 8)] {
            pace.count(FRAME as usize);
            pace.mark((channel, frame), Duration::ZERO);
        }
        pace.recv_received((4, 100), Duration::ZERO);
        assert_eq!(pace.received, 0, "nothing of that session was sent");
        pace.recv_received((2, 8), Duration::ZERO);
        assert_eq!(pace.received, 2 * FRAME);
        pace.recv_received((1, 1), Duration::ZERO);
        assert_eq!(pace.received, 2 * FRAME, "known already");
        pace.recv_received((3, 1), Duration::ZERO);
        assert_eq!(pace.received, 4 * FRAME);
    }

    #[test]
    fn what_waits_does_not_grow_with_time() {
        for (megabytes, round) in [(5, 1), (50, 1), (50, 20), (500, 20)] {
            let round = Duration::from_millis(round);
            let mut path = Path::new(megabytes * 1_000_000, round);
            path.run(Duration::from_secs(70));
            path.longest_line = 0;
            let before = path.arrived;
            path.run(Duration::from_secs(20));
            let waits = path.longest_line as u64 * FRAME;
            let in_a_round = megabytes * 1_000 * round.as_millis() as u64;
            // After little was under way, all that may be leaves at once.
            assert!(waits <= LEAST * 3 / 2 + in_a_round * 2, "{waits} octets wait, {in_a_round} are a round trip");
            let octets = u64::from(path.arrived - before) * FRAME;
            assert!(octets >= megabytes * 1_000_000 * 20 * 9 / 10, "{octets} in 20 s of {megabytes} MB/s");
        }
    }

    #[test]
    fn a_sender_who_pauses_does_not_count_as_a_slow_path() {
        let mut path = Path::new(500_000_000, Duration::from_millis(50));
        path.run(Duration::from_secs(3));
        path.pace.recv_received((0, path.sent), path.now + path.round);
        let limit = path.pace.limit;
        assert!(limit > 25_000_000, "a round trip takes 25 MB, and {limit} are allowed");
        for _ in 0..100 {
            path.now += Duration::from_secs(1);
            for _ in 0..TOLD_FRAMES {
                path.pace.count(100);
                path.pace.mark((0, path.sent), path.now);
                path.sent += 1;
            }
            path.pace.recv_received((0, path.sent), path.now + path.round);
        }
        assert_eq!(path.pace.limit, limit);
    }
}
