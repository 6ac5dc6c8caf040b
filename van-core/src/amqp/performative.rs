//! The nine performatives of AMQP 1.0 §2.7: what peers say to each other about connections, sessions, links and deliveries.

use super::codec::{Composer, Decode, DecodeError, Encode, Fields, Reader, encode_map};
use super::delivery::DeliveryTag;
use super::outcome::{Condition, DeliveryState};
use super::terminus::{Source, Target};
use super::value::{Symbol, Value};

/// Which end of a link speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The end messages leave from.
    Sender,
    /// The end messages arrive at.
    Receiver,
}

/// Opens a connection and says what this end is and can do.
#[derive(Debug, Clone, PartialEq)]
pub struct Open {
    /// The name of this end; for routers the router id.
    pub container_id: String,
    /// The host the peer is asked to be.
    pub hostname: Option<String>,
    /// Largest frame this end accepts, in octets.
    pub max_frame_size: u32,
    /// Highest channel this end accepts.
    pub channel_max: u16,
    /// Milliseconds without an octet after which this end may give up.
    pub idle_time_out: Option<u32>,
    /// Locales offered for texts.
    pub outgoing_locales: Vec<Symbol>,
    /// Locales wanted.
    pub incoming_locales: Vec<Symbol>,
    /// What this end supports.
    pub offered_capabilities: Vec<Symbol>,
    /// What it would use if the peer supports it.
    pub desired_capabilities: Vec<Symbol>,
    /// Facts about this end, keyed by symbols.
    pub properties: Vec<(Symbol, Value)>,
}

/// Begins a session on a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Begin {
    /// The peer's channel, in an answer.
    pub remote_channel: Option<u16>,
    /// The id its first transfer will have.
    pub next_outgoing_id: u32,
    /// Transfer frames it will accept.
    pub incoming_window: u32,
    /// Transfer frames it may send.
    pub outgoing_window: u32,
    /// Highest link handle it accepts.
    pub handle_max: u32,
    /// Extensions.
    pub offered_capabilities: Vec<Symbol>,
    /// Extensions wanted.
    pub desired_capabilities: Vec<Symbol>,
}

/// Attaches a link to a session.
#[derive(Debug, Clone, PartialEq)]
pub struct Attach {
    /// The link's name, unique per direction and pair of containers.
    pub name: String,
    /// The number this end will use for it.
    pub handle: u32,
    /// What this end is on the link.
    pub role: Role,
    /// 0 all unsettled, 1 all settled, 2 mixed.
    pub snd_settle_mode: u8,
    /// 0 first, 1 second.
    pub rcv_settle_mode: u8,
    /// Where messages come from.
    pub source: Option<Source>,
    /// Where messages go to.
    pub target: Option<Target>,
    /// The sender's first delivery count.
    pub initial_delivery_count: Option<u32>,
    /// Largest message this end accepts in octets; 0 is no limit.
    pub max_message_size: u64,
    /// Extensions.
    pub offered_capabilities: Vec<Symbol>,
    /// Extensions wanted.
    pub desired_capabilities: Vec<Symbol>,
    /// Extensions.
    pub properties: Option<Box<Value>>,
}

/// Updates windows, and with a handle the credit of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    /// The next transfer id expected; absent until the peer's `begin` was seen.
    pub next_incoming_id: Option<u32>,
    /// Transfer frames this end accepts now.
    pub incoming_window: u32,
    /// The id of this end's next transfer.
    pub next_outgoing_id: u32,
    /// Transfer frames this end may send.
    pub outgoing_window: u32,
    /// The link meant.
    pub handle: Option<u32>,
    /// Deliveries so far on the link.
    pub delivery_count: Option<u32>,
    /// Deliveries the receiver accepts beyond that.
    pub link_credit: Option<u32>,
    /// Deliveries the sender has waiting.
    pub available: Option<u32>,
    /// The sender shall use the credit up or give it back.
    pub drain: bool,
    /// An answer is wanted.
    pub echo: bool,
}

/// One frame of a delivery; its payload follows.
#[derive(Debug, Clone, PartialEq)]
pub struct Transfer {
    /// The link.
    pub handle: u32,
    /// The delivery; may be left out after the first frame.
    pub delivery_id: Option<u32>,
    /// The sender's name for the delivery; may be left out after the first frame.
    pub delivery_tag: Option<DeliveryTag>,
    /// The message's format, 0 for AMQP.
    pub message_format: Option<u32>,
    /// Whether the sender has settled.
    pub settled: Option<bool>,
    /// Whether frames of this delivery follow.
    pub more: bool,
    /// The receiver's settlement mode for this delivery.
    pub rcv_settle_mode: Option<u8>,
    /// The sender's state of the delivery.
    pub state: Option<DeliveryState>,
    /// Whether this resumes an earlier delivery.
    pub resume: bool,
    /// Whether the delivery is given up; such a frame carries nothing to use.
    pub aborted: bool,
    /// A hint that outcomes may be told late.
    pub batchable: bool,
}

/// Tells the state of deliveries.
#[derive(Debug, Clone, PartialEq)]
pub struct Disposition {
    /// Which end of the deliveries speaks.
    pub role: Role,
    /// The first delivery meant.
    pub first: u32,
    /// The last one; the same if absent.
    pub last: Option<u32>,
    /// Whether this end has settled.
    pub settled: bool,
    /// The state.
    pub state: Option<DeliveryState>,
    /// A hint that the answer may be late.
    pub batchable: bool,
}

/// Detaches a link.
#[derive(Debug, Clone, PartialEq)]
pub struct Detach {
    /// The link.
    pub handle: u32,
    /// Whether it is over for good. (skupper-router accepts nothing else.)
    pub closed: bool,
    /// Why.
    pub error: Option<Condition>,
}

/// Ends a session.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct End {
    /// Why.
    pub error: Option<Condition>,
}

/// Closes a connection.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Close {
    /// Why.
    pub error: Option<Condition>,
}

/// Any performative of an AMQP frame.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Performative {
    /// Descriptor 0x10.
    Open(Box<Open>),
    /// Descriptor 0x11.
    Begin(Begin),
    /// Descriptor 0x12.
    Attach(Box<Attach>),
    /// Descriptor 0x13.
    Flow(Flow),
    /// Descriptor 0x14.
    Transfer(Transfer),
    /// Descriptor 0x15.
    Disposition(Disposition),
    /// Descriptor 0x16.
    Detach(Detach),
    /// Descriptor 0x17.
    End(End),
    /// Descriptor 0x18.
    Close(Close),
}

impl<'a> Decode<'a> for Performative {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let (descriptor, mut fields) = reader.described_list()?;
        let fields = &mut fields;
        Ok(match descriptor {
            0x10 => Self::Open(Open::decode(fields)?.into()),
            0x11 => Self::Begin(Begin::decode(fields)?),
            0x12 => Self::Attach(Attach::decode(fields)?.into()),
            0x13 => Self::Flow(Flow::decode(fields)?),
            0x14 => Self::Transfer(Transfer::decode(fields)?),
            0x15 => Self::Disposition(Disposition::decode(fields)?),
            0x16 => Self::Detach(Detach::decode(fields)?),
            0x17 => Self::End(End { error: fields.optional()? }),
            0x18 => Self::Close(Close { error: fields.optional()? }),
            other => return Err(DecodeError::UnexpectedDescriptor(other)),
        })
    }
}

impl Encode for Performative {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Open(open) => open.encode(out),
            Self::Begin(begin) => begin.encode(out),
            Self::Attach(attach) => attach.encode(out),
            Self::Flow(flow) => flow.encode(out),
            Self::Transfer(transfer) => transfer.encode(out),
            Self::Disposition(disposition) => disposition.encode(out),
            Self::Detach(detach) => detach.encode(out),
            Self::End(end) => end.encode(out),
            Self::Close(close) => close.encode(out),
        }
    }
}

/// AMQP's flag for a role: true is the receiver.
impl<'a> Decode<'a> for Role {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        bool::decode(reader).map(|is_receiver| if is_receiver { Self::Receiver } else { Self::Sender })
    }
}

impl Encode for Role {
    fn encode(&self, out: &mut Vec<u8>) {
        (*self == Self::Receiver).encode(out);
    }
}

impl Role {
    /// The other end.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }
}

// === impl Open ===

/// A map with symbol keys. An entry under any other key ends the reading, as in skupper-router.
struct Properties(Vec<(Symbol, Value)>);

impl<'a> Decode<'a> for Properties {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let mut fields = reader.map()?;
        let mut properties = Vec::new();
        while fields.left() > 1 {
            let Some(Value::Symbol(key)) = fields.optional()? else { break };
            properties.push((key, fields.optional()?.unwrap_or(Value::Null)));
        }
        Ok(Self(properties))
    }
}

struct PropertiesRef<'a>(&'a [(Symbol, Value)]);

impl Encode for PropertiesRef<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_map(out, self.0.iter().map(|(key, value)| (key, value)));
    }
}

impl Open {
    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            container_id: fields.mandatory("open.container-id")?,
            hostname: fields.optional()?,
            max_frame_size: fields.optional()?.unwrap_or(u32::MAX),
            channel_max: fields.optional()?.unwrap_or(u16::MAX),
            idle_time_out: fields.optional()?,
            outgoing_locales: fields.or_default()?,
            incoming_locales: fields.or_default()?,
            offered_capabilities: fields.or_default()?,
            desired_capabilities: fields.or_default()?,
            properties: fields.optional::<Properties>()?.map(|properties| properties.0).unwrap_or_default(),
        })
    }

    /// The property under `key`.
    pub fn property(&self, key: &str) -> Option<&Value> {
        self.properties.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Whether this end offers a capability.
    pub fn offers(&self, capability: &str) -> bool {
        self.offered_capabilities.iter().any(|offered| offered == capability)
    }
}

impl Encode for Open {
    fn encode(&self, out: &mut Vec<u8>) {
        Composer::described(out, 0x10)
            .field(&self.container_id)
            .optional(self.hostname.as_ref())
            .field(&self.max_frame_size)
            .field(&self.channel_max)
            .optional(self.idle_time_out.as_ref())
            .optional(non_empty(&self.outgoing_locales))
            .optional(non_empty(&self.incoming_locales))
            .optional(non_empty(&self.offered_capabilities))
            .optional(non_empty(&self.desired_capabilities))
            .optional((!self.properties.is_empty()).then_some(&PropertiesRef(&self.properties)))
            .end();
    }
}

// === impl Begin ===

impl Begin {
    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            remote_channel: fields.optional()?,
            next_outgoing_id: fields.mandatory("begin.next-outgoing-id")?,
            incoming_window: fields.mandatory("begin.incoming-window")?,
            outgoing_window: fields.mandatory("begin.outgoing-window")?,
            handle_max: fields.optional()?.unwrap_or(u32::MAX),
            offered_capabilities: fields.or_default()?,
            desired_capabilities: fields.or_default()?,
        })
    }
}

impl Encode for Begin {
    fn encode(&self, out: &mut Vec<u8>) {
        Composer::described(out, 0x11)
            .optional(self.remote_channel.as_ref())
            .field(&self.next_outgoing_id)
            .field(&self.incoming_window)
            .field(&self.outgoing_window)
            .field(&self.handle_max)
            .optional(non_empty(&self.offered_capabilities))
            .optional(non_empty(&self.desired_capabilities))
            .end();
    }
}

// === impl Attach ===

/// A target, or anything else that may stand in its place and that we do not serve.
struct AnyTarget(Option<Target>);

impl<'a> Decode<'a> for AnyTarget {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let whole = reader.skip()?;
        match Target::decode(&mut Reader::new(whole)) {
            Ok(target) => Ok(Self(Some(target))),
            Err(DecodeError::UnexpectedDescriptor(_)) => Ok(Self(None)),
            Err(error) => Err(error),
        }
    }
}

impl Attach {
    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let name = fields.mandatory("attach.name")?;
        let handle = fields.mandatory("attach.handle")?;
        let role = fields.mandatory("attach.role")?;
        let snd_settle_mode = fields.optional()?.unwrap_or(2);
        let rcv_settle_mode = fields.or_default()?;
        let source = fields.optional()?;
        let target = fields.optional::<AnyTarget>()?.and_then(|target| target.0);
        fields.skip()?; // unsettled: there is no link recovery here
        fields.skip()?; // incomplete-unsettled
        Ok(Self {
            name,
            handle,
            role,
            snd_settle_mode,
            rcv_settle_mode,
            source,
            target,
            initial_delivery_count: fields.optional()?,
            max_message_size: fields.or_default()?,
            offered_capabilities: fields.or_default()?,
            desired_capabilities: fields.or_default()?,
            properties: fields.optional()?.map(Box::new),
        })
    }
}

impl Encode for Attach {
    fn encode(&self, out: &mut Vec<u8>) {
        Composer::described(out, 0x12)
            .field(&self.name)
            .field(&self.handle)
            .field(&self.role)
            .optional((self.snd_settle_mode != 2).then_some(&self.snd_settle_mode))
            .unless_default(&self.rcv_settle_mode)
            .optional(self.source.as_ref())
            .optional(self.target.as_ref())
            .null()
            .null()
            .optional(self.initial_delivery_count.as_ref())
            .unless_default(&self.max_message_size)
            .optional(non_empty(&self.offered_capabilities))
            .optional(non_empty(&self.desired_capabilities))
            .optional(self.properties.as_deref())
            .end();
    }
}

// === impl Flow ===

impl Flow {
    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        let next_incoming_id = fields.optional()?;
        let incoming_window = fields.mandatory("flow.incoming-window")?;
        let next_outgoing_id = fields.mandatory("flow.next-outgoing-id")?;
        let outgoing_window = fields.mandatory("flow.outgoing-window")?;
        let handle = fields.optional()?;
        let delivery_count = fields.optional()?;
        let link_credit = fields.optional()?;
        let available = fields.optional()?;
        let (drain, echo) = (fields.or_default()?, fields.or_default()?);
        Ok(Self {
            next_incoming_id,
            incoming_window,
            next_outgoing_id,
            outgoing_window,
            handle,
            delivery_count,
            link_credit,
            available,
            drain,
            echo,
        })
    }
}

impl Encode for Flow {
    fn encode(&self, out: &mut Vec<u8>) {
        Composer::described(out, 0x13)
            .optional(self.next_incoming_id.as_ref())
            .field(&self.incoming_window)
            .field(&self.next_outgoing_id)
            .field(&self.outgoing_window)
            .optional(self.handle.as_ref())
            .optional(self.delivery_count.as_ref())
            .optional(self.link_credit.as_ref())
            .optional(self.available.as_ref())
            .unless_default(&self.drain)
            .unless_default(&self.echo)
            .end();
    }
}

// === impl Transfer ===

impl Transfer {
    /// A frame of a link with everything else absent.
    pub fn new(handle: u32) -> Self {
        Self {
            handle,
            delivery_id: None,
            delivery_tag: None,
            message_format: None,
            settled: None,
            more: false,
            rcv_settle_mode: None,
            state: None,
            resume: false,
            aborted: false,
            batchable: false,
        }
    }

    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            handle: fields.mandatory("transfer.handle")?,
            delivery_id: fields.optional()?,
            delivery_tag: fields.optional()?,
            message_format: fields.optional()?,
            settled: fields.optional()?,
            more: fields.or_default()?,
            rcv_settle_mode: fields.optional()?,
            state: fields.optional()?,
            resume: fields.or_default()?,
            aborted: fields.or_default()?,
            batchable: fields.or_default()?,
        })
    }
}

impl Encode for Transfer {
    fn encode(&self, out: &mut Vec<u8>) {
        Composer::described(out, 0x14)
            .field(&self.handle)
            .optional(self.delivery_id.as_ref())
            .optional(self.delivery_tag.as_ref())
            .optional(self.message_format.as_ref())
            .optional(self.settled.as_ref())
            .unless_default(&self.more)
            .optional(self.rcv_settle_mode.as_ref())
            .optional(self.state.as_ref())
            .unless_default(&self.resume)
            .unless_default(&self.aborted)
            .unless_default(&self.batchable)
            .end();
    }
}

// === impl Disposition ===

impl Disposition {
    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            role: fields.mandatory("disposition.role")?,
            first: fields.mandatory("disposition.first")?,
            last: fields.optional()?,
            settled: fields.or_default()?,
            state: fields.optional()?,
            batchable: fields.or_default()?,
        })
    }
}

impl Encode for Disposition {
    fn encode(&self, out: &mut Vec<u8>) {
        Composer::described(out, 0x15)
            .field(&self.role)
            .field(&self.first)
            .optional(self.last.as_ref())
            .unless_default(&self.settled)
            .optional(self.state.as_ref())
            .unless_default(&self.batchable)
            .end();
    }
}

// === impl Detach, End, Close ===

impl Detach {
    fn decode(fields: &mut Fields<'_>) -> Result<Self, DecodeError> {
        Ok(Self { handle: fields.mandatory("detach.handle")?, closed: fields.or_default()?, error: fields.optional()? })
    }
}

impl Encode for Detach {
    fn encode(&self, out: &mut Vec<u8>) {
        Composer::described(out, 0x16)
            .field(&self.handle)
            .unless_default(&self.closed)
            .optional(self.error.as_ref())
            .end();
    }
}

impl Encode for End {
    fn encode(&self, out: &mut Vec<u8>) {
        Composer::described(out, 0x17).optional(self.error.as_ref()).end();
    }
}

impl Encode for Close {
    fn encode(&self, out: &mut Vec<u8>) {
        Composer::described(out, 0x18).optional(self.error.as_ref()).end();
    }
}

/// Absent if there are none. One symbol is written as an array too, which every reader of `multiple` fields takes.
pub(super) fn non_empty(symbols: &[Symbol]) -> Option<&[Symbol]> {
    (!symbols.is_empty()).then_some(symbols)
}
