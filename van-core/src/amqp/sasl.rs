//! SASL: who the peer says it is (AMQP 1.0 part 5.3), for both ends, with EXTERNAL, ANONYMOUS and PLAIN.
//!
//! The engine speaks the protocol; whether a name and password are right is its user's answer to
//! [`Event::Authenticate`](super::Event::Authenticate).

use std::fmt;

use super::codec::{Composer, Decode, DecodeError, Encode, Reader};
use super::value::Symbol;

/// A way to authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// By the certificate of the TLS connection below.
    External,
    /// Not at all.
    Anonymous,
    /// By name and password, in clear: only over TLS or loopback.
    Plain,
}

/// What a connecting end is willing to use; the first that is offered is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// [`Mechanism::External`], without a name of its own: the certificate says it all.
    External,
    /// [`Mechanism::Anonymous`].
    Anonymous,
    /// [`Mechanism::Plain`].
    Plain(Password),
}

/// A name and password. Not shown in logs, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Password {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// A text that is not shown in logs and is wiped when dropped.
#[derive(Clone, PartialEq, Eq, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct Secret(String);

/// What a connecting peer offers as proof of who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Claim {
    /// Its certificate. The name it asks to act as, if any, is its own wish only.
    External {
        /// Authorisation identity, mostly empty.
        authzid: String,
    },
    /// Nothing; `trace` is whatever it sent along.
    Anonymous {
        /// Free text.
        trace: String,
    },
    /// A name and password.
    Plain(Password),
}

/// A SASL frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SaslFrame {
    Mechanisms(Vec<Symbol>),
    Init {
        mechanism: Symbol,
        response: Option<Secret8>,
        hostname: Option<String>,
    },
    Outcome(u8),
    /// Challenges and responses: none of our mechanisms has them.
    Unexpected(u64),
}

/// Octets that are not shown.
#[derive(Clone, PartialEq, Eq, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub(crate) struct Secret8(Vec<u8>);

/// Outcome codes (AMQP 1.0 §5.3.3.6).
pub(crate) mod outcome {
    pub(crate) const OK: u8 = 0;
    pub(crate) const AUTH: u8 = 1;
}

impl Mechanism {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::External => "EXTERNAL",
            Self::Anonymous => "ANONYMOUS",
            Self::Plain => "PLAIN",
        }
    }

    /// The mechanism of a name, if it is one of ours.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::External, Self::Anonymous, Self::Plain].into_iter().find(|mechanism| mechanism.name() == name)
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Login {
    /// The mechanism this login speaks.
    pub fn mechanism(&self) -> Mechanism {
        match self {
            Self::External => Mechanism::External,
            Self::Anonymous => Mechanism::Anonymous,
            Self::Plain(_) => Mechanism::Plain,
        }
    }

    pub(super) fn init(&self) -> SaslFrame {
        let response = match self {
            Self::External => Vec::new(),
            Self::Anonymous => b"anonymous".to_vec(),
            Self::Plain(Password { user, password }) => ["\0", user, "\0", &password.0].concat().into_bytes(),
        };
        let mechanism = self.mechanism().name().into();
        SaslFrame::Init { mechanism, response: Some(Secret8(response)), hostname: None }
    }
}

impl Claim {
    /// Reads the initial response of a mechanism; `None` if it is not what the mechanism asks for.
    pub(super) fn read(mechanism: Mechanism, response: Option<&Secret8>) -> Option<Self> {
        let text = str::from_utf8(response.map_or(&[], |response| &response.0)).ok()?;
        match mechanism {
            Mechanism::External => Some(Self::External { authzid: text.to_owned() }),
            Mechanism::Anonymous => Some(Self::Anonymous { trace: text.to_owned() }),
            Mechanism::Plain => {
                let mut parts = text.split('\0');
                let (_authzid, user, password) = (parts.next()?, parts.next()?, parts.next()?);
                let password = Secret::from(password);
                parts.next().is_none().then(|| Self::Plain(Password { user: user.to_owned(), password }))
            }
        }
    }
}

impl Secret {
    /// The text itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl fmt::Debug for Secret8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret8(***)")
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Password").field("user", &self.user).finish_non_exhaustive()
    }
}

// === impl SaslFrame ===

const MECHANISMS: u64 = 0x40;
const INIT: u64 = 0x41;
const OUTCOME: u64 = 0x44;

impl<'a> Decode<'a> for SaslFrame {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (descriptor, mut fields) = reader.described_list()?;
        Ok(match descriptor {
            MECHANISMS => Self::Mechanisms(fields.mandatory("sasl-mechanisms.sasl-server-mechanisms")?),
            INIT => Self::Init {
                mechanism: fields.mandatory("sasl-init.mechanism")?,
                response: fields.optional::<&[u8]>()?.map(|octets| Secret8(octets.to_vec())),
                hostname: fields.optional()?,
            },
            OUTCOME => Self::Outcome(fields.mandatory("sasl-outcome.code")?),
            0x42 | 0x43 => Self::Unexpected(descriptor),
            other => return Err(DecodeError::UnexpectedDescriptor(other)),
        })
    }
}

impl Encode for SaslFrame {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Mechanisms(names) => Composer::described(out, MECHANISMS).field(names.as_slice()).end(),
            Self::Init { mechanism, response, hostname } => {
                Composer::described(out, INIT)
                    .field(mechanism)
                    .optional(response.as_ref().map(|response| response.0.as_slice()))
                    .optional(hostname.as_ref())
                    .end();
            }
            Self::Outcome(code) => Composer::described(out, OUTCOME).field(code).end(),
            Self::Unexpected(descriptor) => Composer::described(out, *descriptor).end(),
        }
    }
}
