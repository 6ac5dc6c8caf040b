//! The pure core of a VAN router: the AMQP 1.0 engine, the data plane, the control core and the configuration.
//!
//! Nothing here opens a socket, starts a thread, reads a clock or draws a random number: octets, events, `now` and seeds
//! are arguments. `van-adaptors` puts sockets, threads and TLS around it; the module `sim` (feature `sim`) puts many
//! routers on a virtual network.
//!
//! From the lowest module to the highest; none names a higher one:
//!
//! * [`amqp`] the engine of connections, sessions, links and deliveries; usable alone
//! * [`annotations`] what routers tell each other about a message · [`message`] its sections, scanned where they lie
//! * [`encapsulation`] how a TCP connection becomes two messages · [`address`] where the text of a `to` leads
//! * [`observe`] requests and answers of HTTP, seen in copies of octets
//! * [`flow`] VanFlow: what routers tell of themselves, and who gathers it
//! * [`plane`] the data plane of one shard: where octets come from, where they go, and how that ends
//! * [`router`] the control core: connections in use, the routing protocol, consumers
//! * [`management`] the types of entities, and the configuration file
//!
//! What always holds: octets of a peer never panic and never allocate by their own claim ([`amqp::limits`]); a stream's
//! payload is passed on as slices of what was read; a direction of a stream has one owner, and between shards go messages.
//!
//! All machines work alike: say what happened, take what they want done, then ask when to come back. What they say on the
//! wire is `docs/wire.md`, which the modules cite. Start reading at [`plane::Plane`] for octets, at [`router::Core`] for
//! decisions.
//!
//! ```
//! use van_core::management::config::Configuration;
//!
//! let text = r#"[["router", {"id": "east-${SITE}", "mode": "interior"}]]"#;
//! let configuration = Configuration::parse(text, |name| (name == "SITE").then(|| "1".to_owned()))?;
//! assert_eq!(configuration.id.as_str(), "east-1");
//! # Ok::<(), van_core::management::config::ConfigError>(())
//! ```

pub mod address;
pub mod amqp;
pub mod annotations;
pub mod encapsulation;
pub mod flow;
pub mod management;
pub mod message;
pub mod observe;
pub mod plane;
mod random;
pub mod router;
#[cfg(feature = "sim")]
pub mod sim;
mod slab;

pub use random::Random;
