//! The control plane of a router: one state machine with one owner that knows who is reachable, and through whom.
//!
//! * `core` the state machine · `open` what routers say when they connect · `peer` connections and their groups
//! * `control` messages of the routing protocol as they look on the wire · `consumers` who consumes which address
//! * `distribution` what is configured for addresses
//! * `links` links with addresses that clients and edge routers attach · `edge` those of an edge router to the network,
//!   `mesh` those to other edge routers
//! * `auto_links` links that the router attaches to programs by itself
//! * `outgoing` messages that start in this process

mod auto_links;
mod consumers;
mod control;
mod core;
mod distribution;
mod edge;
mod links;
mod mesh;
mod open;
mod outgoing;
mod peer;

pub use self::auto_links::{AutoLink, AutoLinkStatus};
pub use self::control::{MalformedMessage, read_message};
pub use self::core::{Core, Fact, Identity, Output};
pub use self::distribution::{AddressPattern, AddressRule, Distribution, InvalidPattern};
pub use self::open::{Announcement, Dialled, MAX_PLACES, Place, access_config, open_config};
pub use self::outgoing::{Outgoing, Unsendable};
pub use self::peer::{Admitted, Candidate, Origin};
