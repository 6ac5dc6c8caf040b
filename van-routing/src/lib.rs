//! Link-state routing: which routers are reachable, through whom, and what can be reached at each.
//!
//! Everything here is pure. There is no I/O, no clock and no randomness: time is an argument, messages are
//! values. The protocol is that of skupper-router; how its messages are written down is the caller's business.
//!
//! * The graph: a [`Topology`] is what all routers say about their links. [`Paths`] are the cheapest ways through
//!   it, and a [`Table`] is what they mean to one router: where to send messages, and which to forward.
//! * The protocol: an [`Engine`] says hello to neighbours, tells others about them, hears of others, and so
//!   keeps a table; beside it, the addresses that can be reached at every other router.
//!
//! # Example
//!
//! Two routers find each other.
//!
//! ```
//! use std::time::Instant;
//! use van_routing::{AddressKey, Cost, Engine, LinkId, MobileAddress, Output, RouterId, Timing};
//!
//! const LINK: LinkId = LinkId(1);
//!
//! /// Does what `from` wants, with `to` at the other end of its only link; `false` if that is nothing.
//! fn carry(from: &mut Engine, to: &mut Engine, now: Instant) -> bool {
//!     from.handle_timeout(now);
//!     let mut is_busy = false;
//!     while let Some(output) = from.poll_output() {
//!         if let Output::Transmit { message, .. } = output {
//!             to.handle_message(now, LINK, &message).expect("a message from our own kind");
//!             is_busy = true;
//!         }
//!     }
//!     is_busy
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let now = Instant::now();
//! let mut east = Engine::new(RouterId::new("east")?, 1, Timing::default(), now);
//! let mut west = Engine::new(RouterId::new("west")?, 1, Timing::default(), now);
//! east.handle_link_up(now, LINK, Cost::ONE);
//! west.handle_link_up(now, LINK, Cost::ONE);
//! while carry(&mut east, &mut west, now) | carry(&mut west, &mut east, now) {}
//! assert_eq!(west.table().route(east.id()).map(|route| route.link), Some(LINK));
//!
//! east.advertise(now, MobileAddress::new(AddressKey::new("Mbackend")?));
//! while carry(&mut east, &mut west, now) | carry(&mut west, &mut east, now) {}
//! assert!(west.addresses(east.id()).any(|address| address.key.as_str() == "Mbackend"));
//! # Ok(())
//! # }
//! ```

pub use self::{
    engine::{Destination, Engine, MessageError, Output},
    id::{Cost, InvalidCost, InvalidRouterId, LinkId, RouterId},
    link_state::LinkState,
    message::{
        AddressUpdate, Hello, LinkStateRequest, LinkStateUpdate, Message, MobileAddressRequest, MobileAddressUpdate,
        RouterAdvertisement,
    },
    mobile::{AddressKey, InvalidAddressKey, MeshId, MobileAddress, Treatment},
    path::Paths,
    table::{Route, Table},
    timing::Timing,
    topology::{Peers, Topology},
};

mod engine;
mod flood;
mod id;
mod link_state;
mod message;
mod mobile;
mod neighbor;
mod path;
mod remote;
mod schedule;
mod table;
mod timing;
mod topology;

#[cfg(test)]
mod tests {
    //! What the unit tests of all modules share.

    use std::time::{Duration, Instant};

    use crate::{AddressKey, MobileAddress};

    /// Some point in time to count from.
    #[expect(clippy::disallowed_methods, reason = "tests have to start somewhere")]
    pub(crate) fn epoch() -> Instant {
        static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *EPOCH.get_or_init(Instant::now)
    }

    pub(crate) fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    pub(crate) fn key(key: &str) -> AddressKey {
        AddressKey::new(key).unwrap()
    }

    pub(crate) fn address(name: &str) -> MobileAddress {
        MobileAddress::new(key(name))
    }
}
