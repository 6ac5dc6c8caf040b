//! Why a connection cannot go on.

use std::time::Duration;

use crate::amqp::frame::FrameError;
use crate::amqp::outcome::Condition;
use crate::amqp::value::{Printable, Symbol};

/// Why a connection cannot go on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer does not speak AMQP 1.0.
    #[error("peer does not speak AMQP 1.0: it began with {:?}", String::from_utf8_lossy(.0))]
    NotAmqp([u8; 8]),
    /// The peer came without SASL where it must not.
    #[error("peer came without SASL, which this listener requires")]
    SaslRequired,
    /// The peer offers no mechanism that we are ready to use.
    #[error("peer offers SASL mechanisms {offered:?}, none of which we use")]
    NoMechanism {
        /// Its offer.
        offered: Vec<Symbol>,
    },
    /// The peer did not let us in, or we did not let it in.
    #[error("authentication refused (SASL outcome {0})")]
    Refused(u8),
    /// The peer asked for a mechanism that was not offered, or used it wrongly.
    #[error("peer used SASL mechanism {}, which was not offered or is malformed", Printable(.0.as_str()))]
    BadMechanism(Symbol),
    /// Octets that are no AMQP frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The peer broke a rule of the protocol.
    #[error("peer broke the protocol: {0}")]
    Violation(Condition),
    /// Nothing came for the idle timeout.
    #[error("nothing heard from the peer for {0:?}")]
    Silent(Duration),
}

impl Error {
    /// What the peer is told in our close; `None` where it would not understand one.
    pub fn condition(&self) -> Option<Condition> {
        match self {
            Self::Frame(error @ FrameError::Performative(_)) => {
                Some(Condition::new("amqp:decode-error", error.to_string()))
            }
            Self::Frame(error) => Some(Condition::new("amqp:connection:framing-error", error.to_string())),
            Self::Violation(condition) => Some(condition.clone()),
            Self::Silent(_) => Some(Condition::new("amqp:resource-limit-exceeded", "local-idle-timeout expired")),
            Self::SaslRequired => Some(Condition::bare("amqp:connection:policy-error")),
            Self::NotAmqp(_) | Self::NoMechanism { .. } | Self::Refused(_) | Self::BadMechanism(_) => None,
        }
    }
}

pub(super) fn violation(condition: &str, description: impl Into<String>) -> Error {
    Error::Violation(Condition::new(condition, description))
}
