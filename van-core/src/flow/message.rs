//! Messages of VanFlow as they look on the wire (docs/wire.md §9.1).

use std::sync::Arc;

use bytes::Bytes;

use super::record::{MAX_IDENTITY_BYTES, Record};
use crate::amqp::{Composer, Decode, DecodeError, Encode, Fields, Reader, Value, encode_list};
use crate::message;

/// Octets of a message; longer ones are refused. Fifty records of a router take some 10 KiB.
pub const MAX_MESSAGE_BYTES: usize = 262_144;

/// Records in a message that is read; more are refused. Routers send 50 at most, controllers 20.
pub const MAX_RECORDS: usize = 1000;

/// The version of beacons and heartbeats; nobody checks it.
const VERSION: u32 = 1;

const BEACON: &str = "BEACON";
const HEARTBEAT: &str = "HEARTBEAT";
const RECORD: &str = "RECORD";
const FLUSH: &str = "FLUSH";

/// An `amqp-value` body that holds null.
const EMPTY_BODY: [u8; 4] = [0x00, 0x53, 0x77, 0x40];

/// What sends records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceType {
    /// A router: it lives as long as its process, and is another source after a restart.
    Router,
    /// The controller of a site, which remains the same source.
    Controller,
}

/// A message of VanFlow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A source is there.
    Beacon {
        /// What it is.
        source_type: SourceType,
        /// Its id, from which its addresses follow.
        source: Arc<str>,
        /// Whether it tells all at [`SHARED`](super::SHARED), too.
        is_shared: bool,
    },
    /// A source lives.
    Heartbeat {
        /// Its id.
        source: Arc<str>,
        /// Its clock, in microseconds since 1970.
        wall_micros: u64,
    },
    /// News of a source.
    Records {
        /// Its id, where the address does not say it.
        source: Option<Arc<str>>,
        /// What is new.
        records: Vec<Record>,
    },
    /// A source is asked to tell everything again.
    Flush,
}

/// Why a message of VanFlow cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MalformedMessage {
    /// It is no message at all.
    #[error("malformed vanflow message: {0}")]
    Encoding(#[from] DecodeError),
    /// A field is missing or of another type.
    #[error("vanflow message without a usable `{0}`")]
    Field(&'static str),
    /// A message of a kind we do not know.
    #[error("unknown vanflow message {0:?}")]
    UnknownSubject(String),
    /// A message longer than [`MAX_MESSAGE_BYTES`], or with more than [`MAX_RECORDS`].
    #[error("vanflow message of {bytes} octets is too long, or has too many records")]
    TooLong {
        /// Its octets.
        bytes: usize,
    },
}

impl SourceType {
    const ALL: [Self; 2] = [Self::Router, Self::Controller];

    fn name(self) -> &'static str {
        match self {
            Self::Router => "ROUTER",
            Self::Controller => "CONTROLLER",
        }
    }
}

impl Message {
    /// Writes the message from its properties on.
    pub fn encode(&self, to: &str) -> Bytes {
        let mut out = Vec::with_capacity(256);
        // message-id, user-id, to, subject
        Composer::described(&mut out, 0x73).null().null().field(to).field(self.subject()).end();
        match self {
            Self::Beacon { source_type, source, is_shared } => {
                let pairs = [
                    ("v", Value::Uint(VERSION)),
                    ("sourceType", text(source_type.name())),
                    ("id", text(source)),
                    ("address", text(&super::records_address(source))),
                    ("direct", text(&super::direct_address(source))),
                ];
                let shared = is_shared.then(|| ("shared", text(super::SHARED)));
                write_properties(pairs.into_iter().chain(shared), &mut out);
                out.extend_from_slice(&EMPTY_BODY);
            }
            Self::Heartbeat { source, wall_micros } => {
                let pairs = [("v", Value::Uint(VERSION)), ("now", Value::Ulong(*wall_micros)), ("id", text(source))];
                write_properties(pairs, &mut out);
                out.extend_from_slice(&EMPTY_BODY);
            }
            Self::Records { source, records } => {
                if let Some(source) = source {
                    write_properties([("id", text(source))], &mut out);
                }
                out.extend_from_slice(&EMPTY_BODY[..3]);
                encode_list(&mut out, records);
            }
            // Nobody who asks sends a body, and nobody who is asked looks for one.
            Self::Flush => {}
        }
        out.into()
    }

    /// Reads a whole message, with router annotations in front or without.
    ///
    /// # Errors
    /// See [`MalformedMessage`].
    pub fn decode(octets: &[u8]) -> Result<Self, MalformedMessage> {
        if octets.len() > MAX_MESSAGE_BYTES {
            return Err(MalformedMessage::TooLong { bytes: octets.len() });
        }
        let head = message::scan(octets, true)?.ok_or(MalformedMessage::Field("body"))?;
        let properties = || {
            let map = head.application_properties.map(|mut map| Value::decode(&mut map)).transpose()?;
            map.ok_or(MalformedMessage::Field("application-properties"))
        };
        match head.properties.subject.ok_or(MalformedMessage::Field("subject"))? {
            BEACON => {
                let properties = properties()?;
                let named = properties.entry("sourceType").and_then(Value::as_text);
                let source_type = SourceType::ALL.into_iter().find(|it| Some(it.name()) == named);
                let source_type = source_type.ok_or(MalformedMessage::Field("sourceType"))?;
                let is_shared = properties.entry("shared").and_then(Value::as_text) == Some(super::SHARED);
                Ok(Self::Beacon { source_type, source: source(&properties)?, is_shared })
            }
            HEARTBEAT => {
                let properties = properties()?;
                let now = match properties.entry("now") {
                    Some(Value::Ulong(micros)) => Some(*micros),
                    other => other.and_then(Value::as_integer).and_then(|micros| u64::try_from(micros).ok()),
                };
                let wall_micros = now.ok_or(MalformedMessage::Field("now"))?;
                Ok(Self::Heartbeat { source: source(&properties)?, wall_micros })
            }
            RECORD => {
                let body = head.value_at.and_then(|at| octets.get(at..)).ok_or(MalformedMessage::Field("body"))?;
                let records = read_records(Reader::new(body).fields()?, octets.len())?;
                let source = properties().ok().and_then(|properties| source(&properties).ok());
                Ok(Self::Records { source, records })
            }
            FLUSH => Ok(Self::Flush),
            other => Err(MalformedMessage::UnknownSubject(other.chars().take(32).collect())),
        }
    }

    fn subject(&self) -> &'static str {
        match self {
            Self::Beacon { .. } => BEACON,
            Self::Heartbeat { .. } => HEARTBEAT,
            Self::Records { .. } => RECORD,
            Self::Flush => FLUSH,
        }
    }
}

/// Application properties, their keys strings.
fn write_properties(pairs: impl IntoIterator<Item = (&'static str, Value)>, out: &mut Vec<u8>) {
    let pairs = pairs.into_iter().map(|(key, value)| (text(key), value)).collect();
    Value::Described(Value::Ulong(0x74).into(), Value::Map(pairs).into()).encode(out);
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

/// Ids become addresses, which must be the source's own: none that others have, or that extend another's.
fn source(properties: &Value) -> Result<Arc<str>, MalformedMessage> {
    let is_usable = |id: &&str| {
        !id.is_empty() && id.len() <= MAX_IDENTITY_BYTES && !id.contains('.') && !["all", "van"].contains(id)
    };
    let id = properties.entry("id").and_then(Value::as_text).filter(is_usable);
    id.map(Arc::from).ok_or(MalformedMessage::Field("id"))
}

fn read_records(mut list: Fields<'_>, bytes: usize) -> Result<Vec<Record>, MalformedMessage> {
    if list.left() > MAX_RECORDS {
        return Err(MalformedMessage::TooLong { bytes });
    }
    let mut records = Vec::new();
    while list.left() > 0 {
        records.extend(Record::read(&mut list)?);
    }
    Ok(records)
}
