//! VanFlow: its octets, a source and a collector on virtual time, and the network they describe.

#![allow(clippy::disallowed_methods, reason = "some instant to begin at; nothing waits")]

#[path = "flow/exchange.rs"]
mod exchange;
#[path = "flow/ledger.rs"]
mod ledger;
#[path = "flow/merging.rs"]
mod merging;
#[path = "flow/messages.rs"]
mod messages;
#[path = "flow/network.rs"]
mod network;
#[path = "flow/world.rs"]
mod world;
