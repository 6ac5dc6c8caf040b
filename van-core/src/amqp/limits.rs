//! What a peer may claim at most. Every limit is reached by counting what arrived, never by believing a number in it.

use std::time::Duration;

/// The frame size every peer must accept before `open` has said more, in octets (AMQP 1.0 §2.4.1).
pub const MIN_MAX_FRAME_BYTES: u32 = 512;

/// The largest frame we accept, in octets, unless the configuration says otherwise.
///
/// 65,536 is four full TLS records; a peer that sends smaller frames (skupper-router: 16,384) is free to.
pub const DEFAULT_MAX_FRAME_BYTES: u32 = 65_536;

/// How many octets a performative other than `transfer` may take. Attaches and opens are the large ones.
pub const MAX_PERFORMATIVE_BYTES: usize = 65_536;

/// Sessions on one connection; announced as `channel-max`. skupper-router opens 15.
pub const MAX_SESSIONS: u16 = 1024;

/// Links on one connection; one less is announced as `handle-max`. Every direction of a TCP stream takes one.
pub const MAX_LINKS: u32 = 262_144;

/// Deliveries on one connection that are not settled, ours and the peer's.
pub const MAX_UNSETTLED: usize = 524_288;

/// Transfer frames a peer may send before we give back window: 128 MiB of the 16 KiB frames that skupper-router sends.
pub const INCOMING_WINDOW_FRAMES: u32 = 8192;

/// Octets after which a peer of ours is told that they came.
pub const TOLD_OCTETS: usize = 262_144;

/// Deliveries that may be under way on a link, unless the configuration says otherwise. Source: skupper-router `linkCapacity`.
pub const DEFAULT_LINK_CAPACITY: u32 = 250;

/// Octets that are kept of a condition's description or of an outcome's annotations. One frame may give the same to as many
/// deliveries as there are, and each remembers its own.
pub const MAX_CONDITION_BYTES: usize = 1024;

/// How deep lists, maps, arrays and described values may nest.
pub const MAX_VALUE_DEPTH: usize = 32;

/// Elements of an array whose elements take no octets of their own (`null`, `true`, empty lists).
/// Each takes 32 octets of memory for none on the wire, and a frame may hold thousands of such arrays; nobody sends any.
pub const MAX_EMPTY_ELEMENTS: usize = 16;

/// Octets of a delivery tag (AMQP 1.0 §2.8.7).
pub const MAX_DELIVERY_TAG_BYTES: usize = 32;

/// A connection without any octet for this long is lost.
///
/// Half of it is announced as `idle-time-out`, as AMQP 1.0 §2.4.5 recommends. Source: skupper-router `idleTimeoutSeconds`.
pub const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(16);
