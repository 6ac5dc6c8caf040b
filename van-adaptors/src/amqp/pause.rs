//! How long a link rests between two attempts (docs/wire.md §1.1).

use std::time::{Duration, Instant};

use van_core::Random;

/// The first pause; it doubles with each failure.
const FIRST: Duration = Duration::from_millis(10);

/// The longest pause. A peer that comes back is found within this, and a quarter.
const LONGEST: Duration = Duration::from_secs(2);

/// The longest pause of a link that may be dialled at several places. Source: skupper-router, which goes on after 1 s.
const LONGEST_AMONG_SEVERAL: Duration = Duration::from_secs(1);

/// The longest pause while the peer may just be starting: that costs it no more than to refuse.
const LONGEST_OF_A_START: Duration = Duration::from_millis(250);

/// For how long nobody may have been there for the peer to be taken as starting.
const START_TIME: Duration = Duration::from_secs(60);

/// A connection that lasted this long starts over with the first pause when it is lost.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// What has come of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A connection, which is over.
    Connected,
    /// Nobody is there.
    Absent,
    /// Somebody may be there, and there is no connection.
    Failed,
}

/// Growing pauses between attempts, with jitter so that many routers do not dial in step.
pub(super) struct Pause {
    next: Duration,
    /// Since when nobody has been there.
    absent_since: Option<Instant>,
    random: Random,
}

impl Pause {
    pub(super) fn new(random: Random) -> Self {
        Self { next: FIRST, absent_since: None, random }
    }

    /// Rests after an attempt that began at `dialled`, at one of so many places.
    pub(super) async fn rest(&mut self, dialled: Instant, outcome: Outcome, places: usize) {
        tokio::time::sleep(self.after(dialled, Instant::now(), outcome, places)).await;
    }

    fn after(&mut self, dialled: Instant, now: Instant, outcome: Outcome, places: usize) -> Duration {
        if now - dialled >= STABLE_AFTER {
            self.next = FIRST;
        }
        let absent_since = (outcome == Outcome::Absent).then(|| self.absent_since.unwrap_or(now));
        self.absent_since = absent_since;
        let longest = if places > 1 { LONGEST_AMONG_SEVERAL } else { LONGEST };
        let may_be_starting = absent_since.is_some_and(|since| now - since < START_TIME);
        let pause = self.next.min(if may_be_starting { LONGEST_OF_A_START } else { longest });
        self.next = 2 * pause;
        pause + pause.mul_f64((self.random.next_u64() % 256) as f64 / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When a peer is dialled that is away from the start, in milliseconds, as long as that is less than `end`.
    fn dialled(pause: &mut Pause, start: Instant, outcome: Outcome, places: usize, end: u64) -> Vec<u64> {
        let end = start + Duration::from_millis(end);
        let mut dialled = Vec::new();
        let mut now = start;
        while now < end {
            dialled.push((now - start).as_millis() as u64);
            now += pause.after(now, now, outcome, places);
        }
        dialled
    }

    fn gaps(dialled: &[u64]) -> Vec<u64> {
        dialled.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[test]
    fn who_is_away_for_less_than_a_minute_is_found_within_a_third_of_a_second() {
        for seed in 0..50 {
            let dialled = dialled(&mut Pause::new(Random::new(seed)), Instant::now(), Outcome::Absent, 1, 60_000);
            assert!(dialled[1] <= 13 && dialled[4] <= 200, "the first ones follow quickly: {dialled:?}");
            assert!(gaps(&dialled).iter().all(|gap| *gap <= 313), "{dialled:?}");
            assert!(dialled.len() <= 250, "{}", dialled.len());
        }
    }

    #[test]
    fn who_is_away_for_longer_is_dialled_every_two_seconds() {
        for seed in 0..50 {
            let dialled = dialled(&mut Pause::new(Random::new(seed)), Instant::now(), Outcome::Absent, 1, 3_600_000);
            let late: Vec<_> = dialled.into_iter().filter(|at| *at > 65_000).collect();
            assert!(gaps(&late).iter().all(|gap| (2_000..=2_500).contains(gap)), "{late:?}");
        }
    }

    #[test]
    fn who_answers_and_does_not_agree_is_dialled_ever_more_rarely_from_the_start() {
        let mut pause = Pause::new(Random::new(1));
        let gaps = gaps(&dialled(&mut pause, Instant::now(), Outcome::Failed, 1, 30_000));
        let least = [10, 20, 40, 80, 160, 320, 640, 1280, 2000, 2000, 2000];
        assert!(gaps.iter().zip(least).all(|(gap, least)| (least..=least * 5 / 4 + 1).contains(gap)), "{gaps:?}");
    }

    #[test]
    fn a_peer_that_goes_while_it_is_dialled_rarely_is_looked_for_again() {
        let (mut pause, start) = (Pause::new(Random::new(1)), Instant::now());
        dialled(&mut pause, start, Outcome::Failed, 1, 30_000);
        let dialled = dialled(&mut pause, start + Duration::from_secs(30), Outcome::Absent, 1, 10_000);
        assert!(gaps(&dialled).iter().all(|gap| *gap <= 313), "{dialled:?}");
    }

    #[test]
    fn one_of_several_places_is_tried_every_second() {
        let mut pause = Pause::new(Random::new(1));
        let gaps = gaps(&dialled(&mut pause, Instant::now(), Outcome::Failed, 2, 30_000));
        assert!(gaps[8..].iter().all(|gap| (1_000..=1_250).contains(gap)), "{gaps:?}");
    }

    #[test]
    fn a_connection_that_lasted_starts_over_and_one_that_did_not_goes_on() {
        let (mut pause, start) = (Pause::new(Random::new(1)), Instant::now());
        let lasted = |pause: &mut Pause, time| pause.after(start, start + time, Outcome::Connected, 1).as_millis();
        let short = STABLE_AFTER - Duration::from_millis(1);
        assert!([10, 20, 40].iter().all(|least| (*least..=least * 5 / 4).contains(&lasted(&mut pause, short))));
        assert!((10..=12).contains(&lasted(&mut pause, STABLE_AFTER)));
    }
}
