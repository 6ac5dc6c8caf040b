//! Messages that start at this router.

use bytes::Bytes;

use crate::amqp::DecodeError;
use crate::message;
use crate::plane::MAX_MESSAGE_BYTES;

/// A message that somebody in this process sends.
#[derive(Debug, Clone)]
pub struct Outgoing {
    to: String,
    /// Its sections, without router annotations.
    pub(super) message: Bytes,
    /// It does not say itself where it goes.
    is_overridden: bool,
}

/// Why a message cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unsendable {
    /// It is no message, or one that has been at a router.
    #[error("not the sections of a message")]
    Malformed(#[source] DecodeError),
    /// It is longer than a message for several places may be.
    #[error("a message of {octets} octets is too long, {MAX_MESSAGE_BYTES} are allowed")]
    TooLong {
        /// Its length.
        octets: usize,
    },
}

impl Outgoing {
    /// A message for an address: its sections from the header on, each optional. It need not repeat the address.
    ///
    /// # Errors
    /// See [`Unsendable`].
    pub fn new(to: impl Into<String>, message: Bytes) -> Result<Self, Unsendable> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(Unsendable::TooLong { octets: message.len() });
        }
        let to = to.into();
        let is_overridden = match message::scan(&message, true) {
            Ok(Some(head)) if head.annotations.is_some() => {
                return Err(Unsendable::Malformed(DecodeError::Malformed("router annotations")));
            }
            Ok(Some(head)) => head.properties.to != Some(&to),
            Ok(None) => true,
            Err(error) => return Err(Unsendable::Malformed(error)),
        };
        Ok(Self { to, message, is_overridden })
    }

    /// The address, as far as the router annotations have to carry it.
    pub(super) fn to_override(&self) -> Option<&str> {
        self.is_overridden.then_some(&*self.to)
    }
}
