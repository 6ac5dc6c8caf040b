//! Addresses that can be reached at a router and move between routers: what a network is for.

mod local;
mod remote;

use std::{borrow::Borrow, fmt, sync::Arc};

pub(crate) use self::{
    local::LocalAddresses,
    remote::{AddressChange, AddressesCopy, TooMany},
};

/// The name of an address as routers exchange it: a class letter and the text, for example `Mmy-service`.
///
/// The classes are `M` (mobile: routing keys and the like), `N` (another network) and `H` (an edge router).
/// Nobody may advertise the other classes, which every router has for itself.
///
/// Source: docs/wire.md §4.6 and §5.1.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressKey(Arc<str>);

impl AddressKey {
    /// The longest key, in bytes.
    pub const MAX_BYTES: usize = 1024;

    /// Checks a key and takes it in.
    ///
    /// # Errors
    /// The key must have a class that is advertised, a text, and at most [`AddressKey::MAX_BYTES`].
    pub fn new(key: &str) -> Result<Self, InvalidAddressKey> {
        match key.as_bytes() {
            bytes if bytes.len() > Self::MAX_BYTES => Err(InvalidAddressKey::TooLong { bytes: bytes.len() }),
            [b'M' | b'N' | b'H', _, ..] => Ok(Self(key.into())),
            _ => Err(InvalidAddressKey::Class { key: key.to_owned() }),
        }
    }

    /// The key as text, class letter first.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for AddressKey {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why a text is no address key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAddressKey {
    /// The text is longer than [`AddressKey::MAX_BYTES`].
    #[error("an address key of {bytes} bytes, more than {}", AddressKey::MAX_BYTES)]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The text does not start with the letter of an advertised class, or nothing follows the letter.
    #[error("address key {key:?} is not of class M, N or H")]
    Class {
        /// The text.
        key: String,
    },
}

/// An address and what its router says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MobileAddress {
    /// Its name.
    pub key: AddressKey,
    /// How its messages are to be distributed, if its router has an opinion.
    ///
    /// Only a hint: the first router to tell wins, and local configuration beats them all.
    pub treatment: Option<Treatment>,
    /// How many links its router had for it when it told us; never updated.
    pub producers: u32,
    /// The edge mesh in which all its consumers are, if they are all in one.
    pub mesh: Option<MeshId>,
}

impl MobileAddress {
    /// The most addresses one router may have.
    ///
    /// Chosen arbitrarily, well above the number of services of a large Kubernetes cluster; it keeps a broken
    /// peer from filling our memory.
    pub const MAX_PER_ROUTER: usize = 16_384;

    /// An address with one producing link, and nothing else known about it.
    pub fn new(key: AddressKey) -> Self {
        Self { key, treatment: None, producers: 1, mesh: None }
    }
}

/// How messages to an address are distributed over its consumers.
///
/// Source: docs/wire.md §5.3, where the codes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Treatment {
    /// A copy over every link (code 0; routing protocol only).
    MulticastFlood,
    /// A copy to every consumer (code 1).
    MulticastOnce,
    /// To the nearest consumer (code 2).
    AnycastClosest,
    /// To the least loaded consumer (code 3).
    AnycastBalanced,
    /// Nothing may be sent (code 4).
    Unavailable,
}

impl Treatment {
    const ALL: [Self; 5] =
        [Self::MulticastFlood, Self::MulticastOnce, Self::AnycastClosest, Self::AnycastBalanced, Self::Unavailable];

    /// The treatment with this code.
    pub fn from_code(code: u64) -> Option<Self> {
        usize::try_from(code).ok().and_then(|code| Self::ALL.get(code).copied())
    }

    /// The code on the wire.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// The id of an edge mesh: 15 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MeshId(pub [u8; 15]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_advertised_classes_are_keys() {
        for key in ["Mmy-service", "Hedge-1", "Nother"] {
            assert_eq!(AddressKey::new(key).map(|key| key.to_string()), Ok(key.to_owned()));
        }
        for key in ["", "M", "Lqdhello", "Tqdrouter.ma", "Reast", "é"] {
            assert_eq!(AddressKey::new(key), Err(InvalidAddressKey::Class { key: key.to_owned() }));
        }
    }

    #[test]
    fn long_keys_are_refused() {
        let key = "M".repeat(AddressKey::MAX_BYTES + 1);
        assert_eq!(AddressKey::new(&key), Err(InvalidAddressKey::TooLong { bytes: key.len() }));
        assert!(AddressKey::new(&key[1..]).is_ok());
    }

    #[test]
    fn treatments_keep_their_codes() {
        for code in 0..5 {
            assert_eq!(Treatment::from_code(code).map(|treatment| u64::from(treatment.code())), Some(code));
        }
        assert_eq!(Treatment::from_code(5), None);
    }
}
