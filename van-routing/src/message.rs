//! What routers tell each other. How it is written down is the caller's business.
//!
//! Source: docs/wire.md §4.2. The fields `pv` (protocol version) and `area` are constants of the encoding.

use crate::{AddressKey, LinkState, MobileAddress, RouterId};

/// A message of the routing protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// HELLO.
    Hello(Hello),
    /// RA.
    RouterAdvertisement(RouterAdvertisement),
    /// LSR.
    LinkStateRequest(LinkStateRequest),
    /// LSU.
    LinkStateUpdate(LinkStateUpdate),
    /// MAR.
    MobileAddressRequest(MobileAddressRequest),
    /// MAU.
    MobileAddressUpdate(MobileAddressUpdate),
}

impl Message {
    /// The router that wrote the message.
    pub fn sender(&self) -> &RouterId {
        match self {
            Self::Hello(Hello { id, .. })
            | Self::RouterAdvertisement(RouterAdvertisement { id, .. })
            | Self::LinkStateRequest(LinkStateRequest { id })
            | Self::LinkStateUpdate(LinkStateUpdate { id, .. })
            | Self::MobileAddressRequest(MobileAddressRequest { id, .. })
            | Self::MobileAddressUpdate(MobileAddressUpdate { id, .. }) => id,
        }
    }
}

/// "I am here, and these are the routers I hear": to the other end of each link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The sender.
    pub id: RouterId,
    /// Which life of the sender this is; another number means that it restarted.
    pub instance: u64,
    /// The routers heard of late. A reader listed here can be heard by the sender, so the link works both ways.
    pub seen: Vec<RouterId>,
}

/// "This is the latest of what I have to tell": to all routers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterAdvertisement {
    /// The sender.
    pub id: RouterId,
    /// Which life of the sender this is.
    pub instance: u64,
    /// The number of its latest link state.
    pub ls_seq: u64,
    /// The number of its latest change of addresses.
    pub mobile_seq: u64,
}

/// "What is your link state?": to one router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStateRequest {
    /// The sender.
    pub id: RouterId,
}

/// A link state: to the router that asked, or, unasked, to all when it has changed.
///
/// On the wire the id appears twice, outside and inside of the link state; they must be equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStateUpdate {
    /// The sender.
    pub id: RouterId,
    /// Which life of the sender this is.
    pub instance: u64,
    /// Its neighbours.
    pub link_state: LinkState,
}

/// "I know your addresses as of this number; what are they now?": to one router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MobileAddressRequest {
    /// The sender.
    pub id: RouterId,
    /// The last number the sender has seen, 0 for none.
    pub have_seq: u64,
}

/// What can be reached at the sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MobileAddressUpdate {
    /// The sender.
    pub id: RouterId,
    /// The number of the change, or of the latest one.
    pub mobile_seq: u64,
    /// The addresses.
    pub addresses: AddressUpdate,
}

/// The two forms of a [`MobileAddressUpdate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressUpdate {
    /// What changed since the number before: to all routers.
    Differential {
        /// Addresses that are new, or whose attributes changed.
        add: Vec<MobileAddress>,
        /// Addresses that are gone.
        del: Vec<AddressKey>,
    },
    /// All addresses: to the router that asked.
    Absolute {
        /// The addresses.
        exist: Vec<MobileAddress>,
    },
}
