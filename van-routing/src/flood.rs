//! Copies of one flood go over each link once.
//!
//! A skupper-router relays every copy of a flooded message that reaches it, so their number grows with the
//! number of paths, which in a grid is exponential. We relay the first copy, and later ones only where they
//! bring something: over a link that no copy has taken, or with a shorter trace (a message whose trace is too
//! long dies on the way, and the first copy is not always the one with the fewest hops).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::LinkId;

/// The latest flood of one kind by one router, and where its copies went.
#[derive(Debug, Default)]
pub(crate) struct Flood {
    latest: Option<(Version, Instant)>,
    /// The shortest trace that went over each link.
    sent: BTreeMap<LinkId, usize>,
}

/// What makes two messages of one router copies of each other: the numbers in them. They never decrease.
pub(crate) type Version = (u64, u64, u64);

impl Flood {
    /// Of `links`, those over which a copy with a trace this long is to go now. It then counts as sent.
    ///
    /// A version older than the latest goes nowhere, for the latest has been there already. After `memory` the
    /// latest is forgotten: a message that repeats itself is a new flood.
    pub(crate) fn pass(
        &mut self,
        now: Instant,
        memory: Duration,
        version: Version,
        trace_len: usize,
        mut links: Vec<LinkId>,
    ) -> Vec<LinkId> {
        let latest =
            self.latest.filter(|&(_, since)| now.saturating_duration_since(since) < memory).map(|(latest, _)| latest);
        if latest > Some(version) {
            return Vec::new();
        }
        if latest != Some(version) {
            *self = Self { latest: Some((version, now)), sent: BTreeMap::new() };
        }
        links.retain(|link| self.sent.get(link).is_none_or(|&shortest| trace_len < shortest));
        self.sent.extend(links.iter().map(|&link| (link, trace_len)));
        links
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{epoch, ms};

    #[derive(Default)]
    struct Relay(Flood);

    impl Relay {
        fn pass(&mut self, at: u64, version: Version, trace_len: usize, links: &[u64]) -> Vec<u64> {
            let links = links.iter().copied().map(LinkId).collect();
            let passed = self.0.pass(epoch() + ms(at), ms(2000), version, trace_len, links);
            passed.into_iter().map(|link| link.0).collect()
        }
    }

    #[test]
    fn copies_go_once_over_each_link() {
        let mut relay = Relay::default();
        assert_eq!(relay.pass(0, (7, 1, 1), 3, &[1, 2]), [1, 2]);
        assert_eq!(relay.pass(5, (7, 1, 1), 3, &[1, 2, 3]), [3]);
    }

    #[test]
    fn a_shorter_trace_goes_again() {
        let mut relay = Relay::default();
        assert_eq!(relay.pass(0, (7, 1, 1), 4, &[1, 2]), [1, 2]);
        assert_eq!(relay.pass(5, (7, 1, 1), 3, &[1, 3]), [1, 3]);
        assert_eq!(relay.pass(6, (7, 1, 1), 3, &[1, 2, 3]), [2]);
    }

    #[test]
    fn news_and_repetitions_go_everywhere_and_old_versions_nowhere() {
        let mut relay = Relay::default();
        assert_eq!(relay.pass(0, (7, 1, 1), 1, &[1]), [1]);
        assert_eq!(relay.pass(1, (7, 1, 2), 1, &[1]), [1]);
        assert_eq!(relay.pass(2, (7, 1, 1), 1, &[1]), [0; 0]);
        assert_eq!(relay.pass(2000, (7, 1, 1), 1, &[1]), [0; 0]);
        assert_eq!(relay.pass(2001, (7, 1, 2), 1, &[1]), [1]);
    }
}
