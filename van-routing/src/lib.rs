//! van
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
