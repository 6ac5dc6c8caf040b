//! Delivery states and error conditions (AMQP 1.0 §3.4, §2.8.14).

use super::codec::{Composer, Decode, DecodeError, Encode, Reader};
use super::limits::MAX_CONDITION_BYTES;
use super::value::{Printable, Symbol, Value};

/// Why a link, session or connection ended, or a delivery was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}{}{}", Printable(condition.as_str()), if description.is_some() { ": " } else { "" },
    Printable(description.as_deref().unwrap_or_default()))]
pub struct Condition {
    /// The condition's name, for example `amqp:connection:forced`.
    pub condition: Symbol,
    /// What the sender of the condition adds for people.
    pub description: Option<String>,
}

/// What is known at one end about a delivery.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum DeliveryState {
    /// How far the receiver got. Not terminal.
    Received {
        /// The section reached, counted from 0.
        section_number: u32,
        /// Octets of that section. On a TCP stream: all octets written to the workload so far (docs/wire.md §8.5).
        section_offset: u64,
    },
    /// Processed.
    Accepted,
    /// Invalid; nobody else shall try.
    Rejected(Option<Box<Condition>>),
    /// Not processed; somebody else may.
    Released,
    /// Not processed, and the message shall be changed so.
    Modified {
        /// Count this as an attempt.
        delivery_failed: bool,
        /// Do not send it here again.
        undeliverable_here: bool,
        /// Annotations to merge, a map.
        annotations: Option<Box<Value>>,
    },
    /// A state of an extension we do not know, by its descriptor. Treated as not terminal.
    Other(u64),
}

impl Condition {
    /// A condition with a description.
    pub fn new(condition: &str, description: impl Into<String>) -> Self {
        Self { condition: condition.into(), description: Some(description.into()) }
    }

    /// A condition that says it all.
    pub fn bare(condition: &str) -> Self {
        Self { condition: condition.into(), description: None }
    }
}

impl<'a> Decode<'a> for Condition {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (descriptor, mut fields) = reader.described_list()?;
        if descriptor != 0x1d {
            return Err(DecodeError::UnexpectedDescriptor(descriptor));
        }
        let condition: Symbol = fields.mandatory("error.condition")?;
        if condition.as_str().len() > MAX_CONDITION_BYTES {
            return Err(DecodeError::Malformed("error.condition"));
        }
        let description: Option<&str> = fields.optional()?;
        let description = description.map(|text| text[..text.floor_char_boundary(MAX_CONDITION_BYTES)].to_owned());
        Ok(Self { condition, description })
    }
}

impl Encode for Condition {
    fn encode(&self, out: &mut Vec<u8>) {
        Composer::described(out, 0x1d).field(&self.condition).optional(self.description.as_ref()).end();
    }
}

// === impl DeliveryState ===

impl DeliveryState {
    /// The form in which skupper-router reports every failed attempt.
    pub const FAILED: Self = Self::Modified { delivery_failed: true, undeliverable_here: false, annotations: None };

    /// Whether nothing can follow but settlement.
    pub fn is_terminal(&self) -> bool {
        !matches!(self, Self::Received { .. } | Self::Other(_))
    }
}

impl<'a> Decode<'a> for DeliveryState {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (descriptor, mut fields) = reader.described_list()?;
        Ok(match descriptor {
            0x23 => Self::Received {
                section_number: fields.mandatory("received.section-number")?,
                section_offset: fields.mandatory("received.section-offset")?,
            },
            0x24 => Self::Accepted,
            0x25 => Self::Rejected(fields.optional()?.map(Box::new)),
            0x26 => Self::Released,
            0x27 => Self::Modified {
                delivery_failed: fields.or_default()?,
                undeliverable_here: fields.or_default()?,
                annotations: if fields.octets().len() > MAX_CONDITION_BYTES {
                    None
                } else {
                    fields.optional()?.map(Box::new)
                },
            },
            other => Self::Other(other),
        })
    }
}

impl Encode for DeliveryState {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Received { section_number, section_offset } => {
                Composer::described(out, 0x23).field(section_number).field(section_offset).end();
            }
            Self::Accepted => Composer::described(out, 0x24).end(),
            Self::Rejected(condition) => Composer::described(out, 0x25).optional(condition.as_deref()).end(),
            Self::Released => Composer::described(out, 0x26).end(),
            Self::Modified { delivery_failed, undeliverable_here, annotations } => {
                Composer::described(out, 0x27)
                    .unless_default(delivery_failed)
                    .unless_default(undeliverable_here)
                    .optional(annotations.as_deref())
                    .end();
            }
            Self::Other(descriptor) => Composer::described(out, *descriptor).end(),
        }
    }
}
