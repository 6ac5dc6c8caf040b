//! The names of things: routers, links, and what a link costs.

use std::{borrow::Borrow, fmt, num::NonZeroU32, str::FromStr, sync::Arc};

/// The id of a router, unique in its network; cheap to clone.
///
/// Ids are ordered by their bytes, and this order decides between paths of equal cost. Every router of a
/// network must agree on it.
///
/// Source: docs/wire.md §0 and §4.5.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterId(Arc<str>);

impl RouterId {
    /// The longest id, in bytes: a DNS name or a Kubernetes object name fits.
    pub const MAX_BYTES: usize = 255;

    /// Checks an id and takes it in.
    ///
    /// # Errors
    /// An id must not be empty, nor longer than [`RouterId::MAX_BYTES`], nor contain control characters,
    /// nor a `/`, which separates it from the rest of an address (`_topo/0/<id>/…`).
    pub fn new(id: &str) -> Result<Self, InvalidRouterId> {
        match id.len() {
            0 => Err(InvalidRouterId::Empty),
            bytes if bytes > Self::MAX_BYTES => Err(InvalidRouterId::TooLong { bytes }),
            _ if id.contains(char::is_control) => Err(InvalidRouterId::Control { id: id.to_owned() }),
            _ if id.contains('/') => Err(InvalidRouterId::Slash { id: id.to_owned() }),
            _ => Ok(Self(id.into())),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RouterId {
    type Err = InvalidRouterId;

    fn from_str(id: &str) -> Result<Self, Self::Err> {
        Self::new(id)
    }
}

impl Borrow<str> for RouterId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a text is no router id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRouterId {
    /// The text is empty.
    #[error("a router id must not be empty")]
    Empty,
    /// The text is longer than [`RouterId::MAX_BYTES`].
    #[error("a router id of {bytes} bytes, more than {}", RouterId::MAX_BYTES)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The text contains a control character.
    #[error("router id {id:?} contains a control character")]
    Control {
        /// The text.
        id: String,
    },
    /// The text contains a `/`.
    #[error("router id {id:?} contains a '/'")]
    Slash {
        /// The text.
        id: String,
    },
}

/// The cost of one direction of a link: 1 to [`Cost::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cost(NonZeroU32);

impl Cost {
    /// The cost of a link that was given none.
    pub const ONE: Self = Self(NonZeroU32::MIN);

    /// The greatest cost: on the wire it is an AMQP `int`.
    pub const MAX: u32 = i32::MAX as u32;

    /// Checks a cost and takes it in.
    ///
    /// # Errors
    /// A cost of 0 would let paths run in circles for nothing; one above [`Cost::MAX`] cannot be sent.
    pub fn new(cost: u32) -> Result<Self, InvalidCost> {
        NonZeroU32::new(cost).filter(|cost| cost.get() <= Self::MAX).map(Self).ok_or(InvalidCost { cost })
    }
}

impl From<Cost> for u32 {
    fn from(cost: Cost) -> Self {
        cost.0.get()
    }
}

impl From<Cost> for u64 {
    fn from(cost: Cost) -> Self {
        cost.0.get().into()
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number that is no link cost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a link cost of {cost}, not between 1 and {}", Cost::MAX)]
pub struct InvalidCost {
    /// The number.
    pub cost: u32,
}

/// The caller's name for one control link to a neighbour.
///
/// Of two links to the same neighbour with the same cost, the lower one is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ordered_by_their_bytes() {
        let [upper, lower, beyond_ascii] = ["Z", "a", "é"].map(|id| RouterId::new(id).unwrap());
        assert!(upper < lower && lower < beyond_ascii);
    }

    #[test]
    fn ids_that_would_break_an_address_are_refused() {
        let long = "x".repeat(RouterId::MAX_BYTES + 1);
        assert_eq!(RouterId::new(""), Err(InvalidRouterId::Empty));
        assert_eq!(RouterId::new("a/b"), Err(InvalidRouterId::Slash { id: "a/b".into() }));
        assert_eq!(RouterId::new(&long), Err(InvalidRouterId::TooLong { bytes: long.len() }));
        assert!(RouterId::new(&long[1..]).is_ok());
    }

    #[test]
    fn costs_run_from_one_to_the_greatest_int() {
        for cost in [0, Cost::MAX + 1, u32::MAX] {
            assert_eq!(Cost::new(cost), Err(InvalidCost { cost }));
        }
        for cost in [1, Cost::MAX] {
            assert_eq!(Cost::new(cost).map(u32::from), Ok(cost));
        }
    }
}
