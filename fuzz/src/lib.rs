//! Feeds mutated octets to everything that reads what a peer or an operator wrote.
//!
//! A *body* is a plain function over octets. It hands them to a decoder and panics if the decoder breaks a promise: what
//! it read, written down and read again, is the same; octets mean the same however a socket cuts them; what leaves is
//! well-formed. [`run()`] gives bodies mutations of a committed corpus and watches their memory, on a stable compiler;
//! `cargo-fuzz/` gives them to libFuzzer.
//!
//! * `bodies` what is fuzzed, and what must hold · `corpus` where inputs start from · `mutation` how they change
//! * `run` one target, many inputs · [`memory`] what an input may cost

mod bodies;
mod corpus;
pub mod memory;
mod mutation;
mod pieces;
mod run;

pub use corpus::Corpus;
pub use mutation::{MAX_INPUT_BYTES, Mutator};
pub use run::{Cause, Crash, Limit, MIN_DEEP_PERCENT, Report, check, run};

/// A decoder and how it is exercised.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, also that of its folder in the corpus.
    pub name: &'static str,
    /// Hands octets to the decoder. Whether they got past its outer header: the first thing that it looks at, like the
    /// header of a frame.
    pub body: fn(&[u8]) -> bool,
}

/// All targets, from the smallest decoder to the whole router.
pub const TARGETS: &[Target] = &[
    Target { name: "values", body: bodies::amqp::values },
    Target { name: "performatives", body: bodies::amqp::performatives },
    Target { name: "sasl", body: bodies::engine::sasl },
    Target { name: "frames", body: bodies::engine::frames },
    Target { name: "connection", body: bodies::engine::connection },
    Target { name: "message", body: bodies::message::message },
    Target { name: "router_message", body: bodies::message::router_message },
    Target { name: "stream", body: bodies::message::stream },
    Target { name: "flow", body: bodies::flow::flow },
    Target { name: "management", body: bodies::management::management },
    Target { name: "http1", body: bodies::observe::http1 },
    Target { name: "http2", body: bodies::observe::http2 },
    Target { name: "router", body: bodies::router::router },
    Target { name: "client", body: bodies::router::client },
    Target { name: "edge", body: bodies::router::edge },
    Target { name: "config", body: bodies::config::config },
    Target { name: "conf", body: bodies::config::conf },
    Target { name: "token", body: bodies::grant::token },
    Target { name: "bundle", body: bodies::grant::bundle },
    Target { name: "certificate", body: bodies::tls::certificate },
    Target { name: "handshake", body: bodies::tls::handshake },
    Target { name: "records", body: bodies::tls::records },
];

impl Target {
    /// The target of a name.
    pub fn of(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }
}
