//! VanFlow: what routers and controllers tell of themselves, so that somebody else can show the network
//! (docs/wire.md §9.1).
//!
//! * `attribute` what can be said about a thing · `record` what is said about one thing · `message` how it travels
//! * `source` tells the network what one router is · `collector` gathers what all sources tell
//! * `ledger` keeps the connections of a shard, for the source to tell of them
//! * `network` reads what was gathered as sites, links and services
//!
//! A source tells, nobody answers: what a collector missed, it asks for as a whole.
//!
//! ```
//! use std::time::Instant;
//! use van_core::flow::{Attribute, Audience, Collector, Now, Output, Record, RecordType, Source};
//!
//! let now = Now { instant: Instant::now(), wall_micros: 1_767_225_600_000_000 };
//! let mut source = Source::new("aB3dE:0");
//! source.insert(now, Record::new(RecordType::Router, "aB3dE:0").with(Attribute::Name, "0/west"));
//! source.set_audience(now, Audience::Beacons, 1);
//!
//! let mut collector = Collector::new();
//! assert_eq!(collector.poll_output(), Some(Output::Subscribe("mc/sfe.all".into())));
//! assert_eq!(collector.poll_output(), Some(Output::Subscribe("mc/sfe.van".into())));
//! let beacon = source.poll_output().expect("sent at once");
//! collector.handle_message(now.instant, &beacon.to, &beacon.message)?;
//! source.set_audience(now, Audience::Shared, 1);
//! while let Some(told) = source.poll_output() {
//!     collector.handle_message(now.instant, &told.to, &told.message)?;
//! }
//! assert_eq!(collector.records().count(), 1);
//! # Ok::<(), van_core::flow::MalformedMessage>(())
//! ```

mod attribute;
mod collector;
mod ledger;
mod message;
mod network;
mod record;
mod source;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

pub use self::attribute::{Attribute, Class};
pub use self::collector::{Collector, MAX_RECORDS_HELD, MAX_RECORDS_PER_SOURCE, MAX_SOURCES, Output};
pub use self::ledger::{Harvest, Ledger, shard_of};
pub use self::message::{MAX_MESSAGE_BYTES, MAX_RECORDS, MalformedMessage, Message, SourceType};
pub use self::network::{Link, NetworkView, Remote, Router, Service, Site};
pub use self::record::{Datum, MAX_IDENTITY_BYTES, Record, RecordType};
pub use self::source::{Audience, MAX_BATCH, Source};

/// Where sources make themselves known; a multicast address.
pub const BEACONS: &str = "mc/sfe.all";

/// Where sources of ours tell what they also tell at addresses of their own; a multicast address (docs/wire.md §10). Were there
/// only those, every router would consume an address per router, and tell all others of each.
pub const SHARED: &str = "mc/sfe.van";

/// The time, twice: of the machines, and of the people who read records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For what is to happen when.
    pub instant: Instant,
    /// Microseconds since 1970, UTC, as records tell times.
    pub wall_micros: u64,
}

/// A message to send, from its properties on: routers put their annotations in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The address.
    pub to: Arc<str>,
    /// The message.
    pub message: Bytes,
}

/// Where a source tells its records and that it lives; a multicast address.
pub fn records_address(source: &str) -> Arc<str> {
    format!("mc/sfe.{source}").into()
}

/// Where a router tells of connections and requests; a multicast address.
pub fn flows_address(source: &str) -> Arc<str> {
    format!("mc/sfe.{source}.flows").into()
}

/// Where a router tells the lines of its log; a multicast address.
pub fn logs_address(source: &str) -> Arc<str> {
    format!("mc/sfe.{source}.logs").into()
}

/// Where a router takes what others know of its connections.
pub fn shares_address(source: &str) -> Arc<str> {
    format!("vfcr.{source}").into()
}

/// Where a source is asked to tell everything again.
pub fn direct_address(source: &str) -> Arc<str> {
    format!("sfe.{source}").into()
}
