//! Names of deliveries: the sender's tag, and the engine's own handle.

use std::fmt;

use super::codec::{Decode, DecodeError, Encode, Reader};
use super::limits::MAX_DELIVERY_TAG_BYTES;
use super::performative::Role;

/// The sender's name for a delivery: up to 32 octets, unique among those unsettled on a link.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryTag {
    length: u8,
    octets: [u8; MAX_DELIVERY_TAG_BYTES],
}

/// A delivery of one session of one connection, until it is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId {
    /// The session, by our channel.
    pub(crate) channel: u16,
    /// What this end is: [`Role::Sender`] for deliveries that leave here.
    pub(crate) role: Role,
    /// The number on the wire.
    pub(crate) number: u32,
}

impl DeliveryId {
    /// Whether the delivery left here.
    pub fn is_outgoing(self) -> bool {
        self.role == Role::Sender
    }
}

impl DeliveryTag {
    /// A tag of these octets; `None` if there are too many.
    pub fn new(tag: &[u8]) -> Option<Self> {
        let mut octets = [0; MAX_DELIVERY_TAG_BYTES];
        octets.get_mut(..tag.len())?.copy_from_slice(tag);
        Some(Self { length: tag.len() as u8, octets })
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }
}

impl From<u32> for DeliveryTag {
    fn from(number: u32) -> Self {
        Self::new(&number.to_be_bytes()).expect("four octets fit")
    }
}

impl fmt::Debug for DeliveryTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl<'a> Decode<'a> for DeliveryTag {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Self::new(<&[u8]>::decode(reader)?).ok_or(DecodeError::Malformed("delivery tag"))
    }
}

impl Encode for DeliveryTag {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_bytes().encode(out);
    }
}
