//! One shard of a router, with peers and without sockets.

#[path = "one_shard/flux.rs"]
mod flux;
#[path = "one_shard/greedy_peer.rs"]
mod greedy_peer;
#[path = "one_shard/tally.rs"]
mod tally;
#[path = "one_shard/world.rs"]
mod world;
