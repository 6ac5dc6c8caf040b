//! What an engine wants done, and what it wants known.

use crate::{AddressKey, Cost, LinkId, Message, MobileAddress, RouterId};

/// One item of what [`Engine::poll_output`](crate::Engine::poll_output) returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A message is to be sent.
    Transmit {
        /// To whom.
        to: Destination,
        /// The message.
        message: Message,
    },
    /// [`Engine::table`](crate::Engine::table) has a new table.
    TableChanged,
    /// A neighbour was found, or another link to it is used now, or its cost changed.
    NeighborUp {
        /// The neighbour.
        neighbor: RouterId,
        /// The best link to it.
        link: LinkId,
        /// The cost of that link.
        cost: Cost,
    },
    /// A neighbour was lost.
    NeighborDown {
        /// The neighbour.
        neighbor: RouterId,
    },
    /// An address can be reached at another router, or its attributes changed.
    AddressAdded {
        /// The other router.
        router: RouterId,
        /// The address.
        address: MobileAddress,
    },
    /// An address cannot be reached at another router any more.
    AddressRemoved {
        /// The other router.
        router: RouterId,
        /// The address.
        key: AddressKey,
    },
    /// Two running routers have the same id; an operator must rename one. Repeated once a minute.
    ///
    /// Of the two, the others listen to the one that was started later, and refuse links with the earlier.
    DuplicateId {
        /// The id: our own, or another router's.
        router: RouterId,
    },
}

/// To whom a message is to be sent.
///
/// Only the way is named here; the address that goes with it is part of the encoding (docs/wire.md §4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To the other end of a link, and not beyond.
    Link(LinkId),
    /// To all routers, over the links of [`Table::flood`](crate::Table::flood). The next ones ask
    /// [`Engine::flood`](crate::Engine::flood).
    Flood,
    /// To all routers, over the links of [`Table::tree`](crate::Table::tree), here and on the way.
    Tree,
    /// To one router, over the link of its [`Table::route`](crate::Table::route), here and on the way.
    Router(RouterId),
}
