//! How long routers wait for each other.

use std::time::Duration;

/// The intervals and ages of the routing protocol.
///
/// The defaults are those of skupper-router where it has them. All routers of a network should agree on
/// them: who says hello less often than its neighbours expect is taken for dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often a router says hello to its neighbours (default 1 s).
    ///
    /// Source: skupper-router, `router.helloIntervalSeconds`.
    pub hello_interval: Duration,

    /// How long a neighbour lives without a hello (default 3 s), and half a hello interval more.
    ///
    /// The half is for the hello that left in time and comes late; skupper-router gives it by looking only
    /// once a second.
    ///
    /// Source: skupper-router, `router.helloMaxAgeSeconds`.
    pub hello_max_age: Duration,

    /// How often a router advertises itself in quiet times (default 30 s).
    ///
    /// An update that was lost is noticed after this at the latest.
    ///
    /// Source: skupper-router, `router.raIntervalSeconds`.
    pub advertisement_interval: Duration,

    /// How often a router advertises itself while the topology is in flux (default 4 s).
    ///
    /// Source: skupper-router, `router.raIntervalFluxSeconds`.
    pub flux_advertisement_interval: Duration,

    /// How long after its last change the topology counts as in flux (default 8 s, twice the interval above).
    ///
    /// Source: docs/wire.md §4.2.
    pub flux: Duration,

    /// How long a link state is believed without a sign of its router (default 60 s).
    ///
    /// Source: skupper-router, `router.remoteLsMaxAgeSeconds`.
    pub link_state_max_age: Duration,

    /// How long the addresses of a router stay known after the last path to it is gone (default 1 s).
    ///
    /// Longer hides short outages from clients, and keeps them waiting in long ones.
    ///
    /// Source: docs/wire.md §4.4, `unreachableHoldoffSeconds`.
    pub unreachable_holdoff: Duration,

    /// How long a router is remembered that nobody lists (default 3 s).
    ///
    /// Source: docs/wire.md §4.4, "3 ticks".
    pub unlisted_holdoff: Duration,

    /// How long to wait for an answer before asking again (default 200 ms, ours).
    ///
    /// The time doubles with each of the first repetitions, up to 8 times as long.
    pub request_retry: Duration,

    /// The least time between two computations of the paths (default 20 ms, ours).
    ///
    /// The first change is acted on at once; those that follow within this time share one computation.
    pub path_holdoff: Duration,

    /// The least time between two updates of our own addresses (default 50 ms, ours).
    pub address_holdoff: Duration,

    /// The least time between two advertisements that tell of changes (default 2 s, ours).
    ///
    /// Changes are told by messages of their own; the advertisement is for those who missed one.
    pub advertisement_holdoff: Duration,

    /// How long copies of one advertisement are recognised as such (default 3 s, ours).
    ///
    /// It must exceed the difference in delay between any two paths, or copies multiply; and be less than the intervals
    /// of advertisements, or a repetition would be taken for a copy.
    pub flood_memory: Duration,
}

impl Timing {
    /// The age at which a neighbour is lost.
    pub(crate) fn neighbor_max_age(&self) -> Duration {
        self.hello_max_age + self.hello_interval / 2
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            hello_interval: Duration::from_secs(1),
            hello_max_age: Duration::from_secs(3),
            advertisement_interval: Duration::from_secs(30),
            flux_advertisement_interval: Duration::from_secs(4),
            flux: Duration::from_secs(8),
            link_state_max_age: Duration::from_secs(60),
            unreachable_holdoff: Duration::from_secs(1),
            unlisted_holdoff: Duration::from_secs(3),
            request_retry: Duration::from_millis(200),
            path_holdoff: Duration::from_millis(20),
            address_holdoff: Duration::from_millis(50),
            advertisement_holdoff: Duration::from_secs(2),
            flood_memory: Duration::from_secs(3),
        }
    }
}
