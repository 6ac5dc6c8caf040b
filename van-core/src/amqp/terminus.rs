//! Sources and targets: what stands at the two ends of a link (AMQP 1.0 §3.5).

use super::codec::{Composer, Decode, DecodeError, Encode, Reader};
use super::outcome::DeliveryState;
use super::performative::non_empty;
use super::value::{Symbol, Value};

/// The end a link's messages come from.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Source {
    /// The node's address; `None` for an anonymous end.
    pub address: Option<String>,
    /// 0 none, 1 configuration, 2 unsettled state.
    pub durable: u32,
    /// When the terminus may be forgotten; `session-end` if absent.
    pub expiry_policy: Option<Symbol>,
    /// Seconds after which it may be.
    pub timeout: u32,
    /// Asks the peer to make the node and to say its address in the reply.
    pub dynamic: bool,
    /// What the node to be made should be like, a map.
    pub dynamic_node_properties: Option<Box<Value>>,
    /// `move` or `copy`.
    pub distribution_mode: Option<Symbol>,
    /// Which messages to send, a map.
    pub filter: Option<Box<Value>>,
    /// The outcome of deliveries settled without one.
    pub default_outcome: Option<Box<DeliveryState>>,
    /// Outcomes the source supports.
    pub outcomes: Vec<Symbol>,
    /// Extensions: for routers, the class of the link (docs/wire.md §3).
    pub capabilities: Vec<Symbol>,
}

/// The end a link's messages go to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Target {
    /// The node's address; `None` for an anonymous end.
    pub address: Option<String>,
    /// 0 none, 1 configuration, 2 unsettled state.
    pub durable: u32,
    /// When the terminus may be forgotten; `session-end` if absent.
    pub expiry_policy: Option<Symbol>,
    /// Seconds after which it may be.
    pub timeout: u32,
    /// Asks the peer to make the node and to say its address in the reply.
    pub dynamic: bool,
    /// What the node to be made should be like, a map.
    pub dynamic_node_properties: Option<Box<Value>>,
    /// Extensions: for routers, the class of the link (docs/wire.md §3).
    pub capabilities: Vec<Symbol>,
}

const SOURCE: u64 = 0x28;
const TARGET: u64 = 0x29;

/// Address `*` in the specification; every implementation uses text.
struct Address(Option<String>);

impl<'a> Decode<'a> for Address {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Value::decode(reader).map(|value| Self(value.as_text().map(str::to_owned)))
    }
}

impl<'a> Decode<'a> for Source {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (descriptor, mut fields) = reader.described_list()?;
        if descriptor != SOURCE {
            return Err(DecodeError::UnexpectedDescriptor(descriptor));
        }
        Ok(Self {
            address: fields.optional::<Address>()?.and_then(|address| address.0),
            durable: fields.or_default()?,
            expiry_policy: fields.optional()?,
            timeout: fields.or_default()?,
            dynamic: fields.or_default()?,
            dynamic_node_properties: fields.optional()?.map(Box::new),
            distribution_mode: fields.optional()?,
            filter: fields.optional()?.map(Box::new),
            default_outcome: fields.optional()?.map(Box::new),
            outcomes: fields.or_default()?,
            capabilities: fields.or_default()?,
        })
    }
}

impl Encode for Source {
    fn encode(&self, out: &mut Vec<u8>) {
        Composer::described(out, SOURCE)
            .optional(self.address.as_ref())
            .unless_default(&self.durable)
            .optional(self.expiry_policy.as_ref())
            .unless_default(&self.timeout)
            .unless_default(&self.dynamic)
            .optional(self.dynamic_node_properties.as_deref())
            .optional(self.distribution_mode.as_ref())
            .optional(self.filter.as_deref())
            .optional(self.default_outcome.as_deref())
            .optional(non_empty(&self.outcomes))
            .optional(non_empty(&self.capabilities))
            .end();
    }
}

/// A coordinator (AMQP 1.0 §4.5.1) decodes as a missing target: there are no transactions here, and a link without
/// target is refused with a clear error by whoever answers it.
impl<'a> Decode<'a> for Target {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (descriptor, mut fields) = reader.described_list()?;
        if descriptor != TARGET {
            return Err(DecodeError::UnexpectedDescriptor(descriptor));
        }
        Ok(Self {
            address: fields.optional::<Address>()?.and_then(|address| address.0),
            durable: fields.or_default()?,
            expiry_policy: fields.optional()?,
            timeout: fields.or_default()?,
            dynamic: fields.or_default()?,
            dynamic_node_properties: fields.optional()?.map(Box::new),
            capabilities: fields.or_default()?,
        })
    }
}

impl Encode for Target {
    fn encode(&self, out: &mut Vec<u8>) {
        Composer::described(out, TARGET)
            .optional(self.address.as_ref())
            .unless_default(&self.durable)
            .optional(self.expiry_policy.as_ref())
            .unless_default(&self.timeout)
            .unless_default(&self.dynamic)
            .optional(self.dynamic_node_properties.as_deref())
            .optional(non_empty(&self.capabilities))
            .end();
    }
}
