//! The sockets of a VAN router, and the threads that run them. [`Router`] is a whole router inside any program.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use van_adaptors::{Options, Router};
//! use van_core::management::config::Configuration;
//!
//! let text = std::fs::read_to_string("router.json")?;
//! let configuration = Configuration::parse(&text, |name| std::env::var(name).ok())?;
//! let mut router = Router::start(configuration, &Options::default())?;
//! while !router.routes().is_reachable("backend") {
//!     router.routes_changed().await;
//! }
//! let stream = router.dialer().dial("backend").await?; // reads and writes as any other
//! # drop(stream);
//! router.shutdown(Duration::from_secs(10)).await;
//! # Ok(())
//! # }
//! ```
//!
//! * `router` the handle · `entities` what it is made of, changed while it runs, and how each is doing
//! * `control` one thread around [`van_core::router::Core`], which also makes, changes and ends the entities
//! * `flow` what the router tells the network of itself · `messages` what the program around the router sends and receives itself
//! * `management` answers requests at `$management`
//! * `amqp` links: dialled, accepted, brought up to the exchange of opens; from there on a shard has them
//! * `shard` the threads of the data plane, each around one [`van_core::plane::Plane`]
//! * [`mod@bench`] what answers whoever measures the network, and who measures
//! * `tcp` clients accepted, workloads connected · `dial` both inside the process, without a socket · `web` health, metrics, routes
//!
//! What always holds: a link is made only with a `VerifiedPeer`; a connection and a stream belong to one shard each;
//! shards share an immutable picture of the routes and counters, all else goes by messages; sockets of the data plane
//! have no tasks, their shard serves those that are ready, in turns.
//!
//! Start reading at [`Router::start`]; for octets at `shard/runtime.rs`.

mod amqp;
pub mod bench;
mod control;
mod dial;
mod entities;
mod flow;
mod machine;
mod management;
mod messages;
mod protocol;
mod router;
mod shard;
mod tcp;
mod web;

pub use amqp::{HashError, hash_password};
pub use dial::{AcceptError, DialError, Dialer, Incoming, Stream};
pub use entities::{
    AccessState, ConsumerState, Count, CredentialsSource, Entities, Entity, EntityError, EntityKind, HttpListenerState,
    LinkOctets, LinkState, ListenerAddressState, States, TcpConnectorState, TcpListenerState, TlsProfile, TlsTerms,
    Totals, Traffic,
};
pub use flow::{ImageInfo, LogLines, SiteInfo};
pub use machine::{abort_on_panic, raise_descriptor_limit};
pub use management::{LogLine, Logs};
pub use messages::{Messages, Reachability, SendError, Subscription};
pub use router::{Options, Router, StartError};
pub use shard::{Direction, TcpConnection};

/// An error and what caused it, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(if text.ends_with('?') { " " } else { ": " });
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
