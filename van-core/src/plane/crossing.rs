//! What shards say to each other when a direction of a stream comes in at one and leaves at another.
//!
//! The first half of the direction lives where its inlet is and opens the second, where its outlet is. Octets, and the end,
//! go from the first to the second; reports and outcomes come back. Chunks are handed over, not copied again.

use bytes::Bytes;

use super::attachment::{Ending, Lane};
use super::routes::ConnectionId;
use super::stream::ReplyName;
use crate::amqp::DeliveryState;
use crate::encapsulation::Features;
use crate::slab::Key;

/// Octets that a half which reads a socket may have handed over and not yet heard to have left.
pub(super) const CROSSING_OCTETS: usize = 262_144;

/// How often the second half says that octets have left.
pub(super) const TAKEN_OCTETS: usize = 65_536;

/// A message between the halves of a direction. `from` and `to` are the first half's key.
#[derive(Debug)]
pub enum Crossing {
    /// Opens a second half.
    Open {
        /// The first half.
        from: Key,
        /// What the second half leads to.
        destination: Destination,
        /// The first octets.
        octets: Bytes,
        /// Set if these are all.
        ended: Option<Ending>,
        /// Whether the first half waits for no outcome.
        is_settled: bool,
        /// Whether it waits for [`Crossing::Taken`].
        wants_taken: bool,
    },
    /// Octets.
    Payload {
        /// The first half.
        from: Key,
        /// What is to leave.
        octets: Bytes,
    },
    /// There will be no more octets.
    End {
        /// The first half.
        from: Key,
        /// How it ended.
        ending: Ending,
    },
    /// Octets have left.
    Taken {
        /// The first half.
        to: Key,
        /// How many since the last time.
        octets: usize,
    },
    /// What the receiver says of the delivery.
    State {
        /// The first half.
        to: Key,
        /// Its state.
        state: Option<DeliveryState>,
        /// Whether this is the last word.
        is_settled: bool,
    },
}

/// Where a second half leads.
#[derive(Debug, Clone)]
pub enum Destination {
    /// To another router.
    Connection {
        /// The connection to use.
        connection: ConnectionId,
        /// The links of it to use.
        lane: Lane,
    },
    /// To the link that a name was made for.
    Temporary {
        /// The name.
        name: ReplyName,
    },
    /// To the client of a stream that waits for its server stream.
    Stream {
        /// The stream.
        stream: Key,
        /// What its reply address says besides.
        salt: u32,
        /// What the other end can do.
        features: Features,
    },
}
