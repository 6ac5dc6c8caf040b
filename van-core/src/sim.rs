//! Many routers on one virtual network: seeded, on a clock of its own, and faulty where a test wants it (feature `sim`).
//!
//! Everything that decides is the real thing: control cores, data planes with several shards, AMQP engines. What is made
//! here are the world's parts: links that take time and break, sockets that fill up, clients and workloads that talk.
//! The same seed gives the same run to the last octet.
//!
//! * `network` the clock, the routers and the faults · `world` one shard's sockets and links · `peer` clients and workloads

mod network;
mod peer;
mod world;

pub use self::network::{Client, LinkName, Network, RouterName, Subscriber};
pub use self::peer::{Ended, Script, Workload};
