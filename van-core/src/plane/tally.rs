//! What has become of deliveries, by link and by address: counted once per delivery, never per octet.

use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::amqp::DeliveryState;

/// Seconds over which the rate of settlement is a mean. Source: skupper-router, `QDR_LINK_RATE_DEPTH`.
const RATE_SECONDS: u32 = 5;

/// Beyond this a delivery counts as delayed. Source: skupper-router.
const DELAYED: Duration = Duration::from_secs(1);

/// Beyond this a delivery counts as much delayed, or as stuck if it is not over. Source: skupper-router.
pub(super) const STUCK: Duration = Duration::from_secs(10);

/// What has become of deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Those settled from the start.
    pub presettled: u64,
    /// Those of them that nobody got.
    pub dropped_presettled: u64,
    /// Accepted ones.
    pub accepted: u64,
    /// Rejected ones.
    pub rejected: u64,
    /// Released ones.
    pub released: u64,
    /// Modified ones.
    pub modified: u64,
    /// Those, streams apart, that took more than a second.
    pub delayed: u64,
    /// Those, streams apart, that took more than 10 seconds; not counted among the others.
    pub much_delayed: u64,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum End<'a> {
    /// It was settled from the start.
    Presettled,
    /// The receiver said this.
    Outcome(&'a DeliveryState),
}

impl Tally {
    /// Counts a delivery that is over, and took so long; streams take as long as they take.
    pub(super) fn count(&mut self, end: End<'_>, took: Option<Duration>) {
        match end {
            End::Presettled => self.presettled += 1,
            End::Outcome(DeliveryState::Accepted) => self.accepted += 1,
            End::Outcome(DeliveryState::Rejected(_)) => self.rejected += 1,
            End::Outcome(DeliveryState::Released) => self.released += 1,
            End::Outcome(DeliveryState::Modified { .. }) => self.modified += 1,
            End::Outcome(_) => {}
        }
        match took {
            Some(took) if took > STUCK => self.much_delayed += 1,
            Some(took) if took > DELAYED => self.delayed += 1,
            _ => {}
        }
    }
}

/// What has become of the deliveries of one link.
#[derive(Debug, Clone, Default)]
pub(super) struct LinkTally {
    /// Deliveries so far.
    pub(super) deliveries: u64,
    /// As sender: since when there has been no credit, in nanoseconds, and one more: half as large as a [`Duration`].
    without_credit: Option<NonZero<u64>>,
    /// Of those that are over; absent while there are none, as on the link of a stream that has just begun.
    over: Option<Box<Over>>,
}

/// What has become of deliveries that are over.
#[derive(Debug, Clone, Copy, Default)]
struct Over {
    ends: Tally,
    rate: Rate,
}

impl LinkTally {
    pub(super) fn count(&mut self, now: Duration, end: End<'_>, took: Option<Duration>) {
        let over = self.over.get_or_insert_default();
        over.ends.count(end, took);
        // What nobody took says nothing of how fast the peer is.
        if !matches!(end, End::Outcome(DeliveryState::Released | DeliveryState::Modified { .. })) {
            over.rate.count(now);
        }
    }

    /// Counts a settled delivery that nobody gets.
    pub(super) fn count_dropped(&mut self) {
        self.over.get_or_insert_default().ends.dropped_presettled += 1;
    }

    /// Notes whether there is credit for more.
    pub(super) fn note_credit(&mut self, has_credit: bool, now: Duration) {
        let since = || Some(NonZero::<u64>::MIN.saturating_add(now.as_nanos() as u64));
        self.without_credit = if has_credit { None } else { self.without_credit.or_else(since) };
    }

    /// As sender: since when there has been no credit.
    pub(super) fn without_credit(&self) -> Option<Duration> {
        self.without_credit.map(|since| Duration::from_nanos(since.get() - 1))
    }

    /// How the deliveries ended.
    pub(super) fn ends(&self) -> Tally {
        self.over.as_ref().map(|over| over.ends).unwrap_or_default()
    }

    /// Deliveries settled per second of late.
    pub(super) fn settle_rate(&self, now: Duration) -> u32 {
        self.over.as_ref().map_or(0, |over| over.rate.per_second(now))
    }
}

/// Events of the last seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    /// By second, modulo their number.
    counts: [u32; RATE_SECONDS as usize],
    /// The second counted last; 32 bits are 136 years.
    second: u32,
}

impl Rate {
    fn count(&mut self, now: Duration) {
        let second = now.as_secs() as u32;
        for passed in (self.second + 1..=second).take(RATE_SECONDS as usize) {
            self.counts[(passed % RATE_SECONDS) as usize] = 0;
        }
        if second > self.second + RATE_SECONDS {
            self.counts = Default::default();
        }
        self.second = self.second.max(second);
        self.counts[(second % RATE_SECONDS) as usize] += 1;
    }

    fn per_second(&self, now: Duration) -> u32 {
        let oldest = (now.as_secs() as u32 + 1).saturating_sub(RATE_SECONDS);
        let seconds = oldest.max((self.second + 1).saturating_sub(RATE_SECONDS))..=self.second;
        let total: u64 = seconds.map(|second| u64::from(self.counts[(second % RATE_SECONDS) as usize])).sum();
        (total / u64::from(RATE_SECONDS)) as u32
    }
}

/// The ways that deliveries took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passed {
    /// From clients and edge routers of this router.
    pub ingress: u64,
    /// To clients, workloads and edge routers of this router.
    pub egress: u64,
    /// On to other interior routers.
    pub transit: u64,
    /// To this process.
    pub to_container: u64,
    /// From this process.
    pub from_container: u64,
    /// Those from clients that are programs which links are attached to.
    pub ingress_route_container: u64,
    /// Those to clients that are such programs.
    pub egress_route_container: u64,
}

/// One of the ways that deliveries take: see [`Passed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passage {
    Ingress { is_program: bool },
    Egress { is_program: bool },
    Transit,
    ToContainer,
    FromContainer,
}

impl Passed {
    pub(super) fn count(&mut self, passage: Passage) {
        match passage {
            Passage::Ingress { is_program } => {
                self.ingress += 1;
                self.ingress_route_container += u64::from(is_program);
            }
            Passage::Egress { is_program } => {
                self.egress += 1;
                self.egress_route_container += u64::from(is_program);
            }
            Passage::Transit => self.transit += 1,
            Passage::ToContainer => self.to_container += 1,
            Passage::FromContainer => self.from_container += 1,
        }
    }
}

/// The ways that deliveries for an address took: beside the picture of the network, and shared by all shards.
#[derive(Debug, Clone, Default)]
pub struct Passages(Arc<[AtomicU64; 7]>);

impl Passages {
    pub(super) fn count(&self, passage: Passage) {
        let (one, other) = match passage {
            Passage::Ingress { is_program } => (0, is_program.then_some(5)),
            Passage::Egress { is_program } => (1, is_program.then_some(6)),
            Passage::Transit => (2, None),
            Passage::ToContainer => (3, None),
            Passage::FromContainer => (4, None),
        };
        for place in [one].into_iter().chain(other) {
            self.0[place].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many so far.
    pub fn passed(&self) -> Passed {
        let [ingress, egress, transit, to_container, from_container, ingress_route_container, egress_route_container] =
            self.0.each_ref().map(|count| count.load(Ordering::Relaxed));
        Passed {
            ingress,
            egress,
            transit,
            to_container,
            from_container,
            ingress_route_container,
            egress_route_container,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_five_seconds() {
        let mut rate = Rate::default();
        let at = Duration::from_secs;
        for second in 0..10 {
            (0..7).for_each(|_| rate.count(at(second)));
        }
        assert_eq!(rate.per_second(at(9)), 7);
        assert_eq!(rate.per_second(at(11)), 7 * 3 / 5, "two seconds without");
        assert_eq!(rate.per_second(at(14)), 0);
        rate.count(at(100));
        assert_eq!(rate.counts.iter().sum::<u32>(), 1, "what is long ago is forgotten");
    }

    #[test]
    fn deliveries_count_by_their_end_and_by_the_time_they_took() {
        let mut tally = Tally::default();
        for (end, took) in [
            (End::Presettled, None),
            (End::Outcome(&DeliveryState::Accepted), Some(Duration::from_millis(1001))),
            (End::Outcome(&DeliveryState::Rejected(None)), Some(Duration::from_secs(1))),
            (End::Outcome(&DeliveryState::Released), Some(Duration::from_secs(11))),
            (End::Outcome(&DeliveryState::FAILED), None),
        ] {
            tally.count(end, took);
        }
        let expected = Tally {
            presettled: 1,
            accepted: 1,
            rejected: 1,
            released: 1,
            modified: 1,
            delayed: 1,
            much_delayed: 1,
            ..Tally::default()
        };
        assert_eq!(tally, expected);
    }
}
