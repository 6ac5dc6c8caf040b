//! The sockets of a VAN router.

mod amqp;
mod router;
mod shard;
mod tcp;

pub use router::{Options, Router, StartError};
