//! The sockets of a VAN router.

mod amqp;
mod router;
mod shard;
mod tcp;
mod web;

pub use router::{Options, Router, StartError};
