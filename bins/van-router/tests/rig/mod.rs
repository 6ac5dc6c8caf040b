//! What tests with whole processes share.
//!
//! | module | is |
//! |---|---|
//! | `site` | where processes run and sockets are made: this machine, or network namespaces of the test's own |
//! | `router` | a `van-router` process with its configuration, log and numbers |
//! | `certificates` | an authority, and a certificate for each router |
//! | `chain` | three routers: a listener, a transit, a connector |
//! | `program` | programs of others, found, started and run |
//! | `wire` | what can be cut between two routers |
//! | `workload` | servers inside the test |
//! | `exchange` | octets that both ends know, checked one by one |
//! | `http` | a request without a library |
//! | `intruder` | a peer that means harm |
//! | `client` | an AMQP client that asks the management node |
//!
//! Whatever is started or made here is stopped or removed when dropped, also when a test panics.

#![allow(dead_code, reason = "each test program uses a part")]

use std::time::{Duration, Instant};

pub(crate) mod certificates;
pub(crate) mod chain;
pub(crate) mod client;
pub(crate) mod exchange;
pub(crate) mod http;
pub(crate) mod intruder;
pub(crate) mod program;
pub(crate) mod router;
pub(crate) mod site;
pub(crate) mod wire;
pub(crate) mod workload;

/// How long anything may take that must come. Only a hang takes that long, also in a debug build on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Waits for something that happens in another process.
///
/// # Panics
/// When it has not happened within [`PATIENCE`].
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "still not so after {PATIENCE:?}: {what}");
        // There is nothing to wait on in another process but time.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A number from the environment, for tests that can be longer or shorter.
pub(crate) fn number_from_environment(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} must be a whole number, not {text:?}")),
        Err(_) => default,
    }
}
