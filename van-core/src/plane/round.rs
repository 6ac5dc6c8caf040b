//! The shortest round trip of late: how long a path is when nothing waits in it.

use std::time::Duration;

/// How long the shortest round trip is believed.
const MEMORY: Duration = Duration::from_secs(10);

/// The shortest round trips of this and of the last [`MEMORY`].
///
/// On a path that is kept busy each round trip has others' octets in it. So with every [`MEMORY`] who uses the path must
/// probe: have little under way, for one round trip.
#[derive(Debug)]
pub(super) struct ShortestRound {
    times: [Duration; 2],
    since: Duration,
}

impl ShortestRound {
    pub(super) fn new(now: Duration) -> Self {
        Self { times: [Duration::MAX; 2], since: now }
    }

    pub(super) fn note(&mut self, round: Duration) {
        self.times[0] = self.times[0].min(round);
    }

    /// Forgets what is too old; whether it is time to probe.
    pub(super) fn forget(&mut self, now: Duration) -> bool {
        let is_due = now.saturating_sub(self.since) >= MEMORY;
        if is_due {
            *self = Self { times: [Duration::MAX, self.times[0]], since: now };
        }
        is_due
    }

    /// The shortest, or the longest there is if none is known.
    pub(super) fn get(&self) -> Duration {
        self.times[0].min(self.times[1])
    }
}
