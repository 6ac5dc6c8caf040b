//! The sections of a message, scanned where they lie (AMQP 1.0 §3.2). Nothing is copied and nothing but the router
//! annotations is ever changed.

use crate::amqp::{Decode, DecodeError, Reader};
use crate::annotations::{Annotations, DESCRIPTOR};

/// How much may stand in front of a message's body. Longer ones are refused.
pub const MAX_HEAD_BYTES: usize = 65_536;

const HEADER: u64 = 0x70;
const DELIVERY_ANNOTATIONS: u64 = 0x71;
const MESSAGE_ANNOTATIONS: u64 = 0x72;
const PROPERTIES: u64 = 0x73;
const APPLICATION_PROPERTIES: u64 = 0x74;
const DATA: u64 = 0x75;
const SEQUENCE: u64 = 0x76;
const VALUE: u64 = 0x77;
const FOOTER: u64 = 0x78;

/// The format code of null.
const NULL: u8 = 0x40;

/// The priority of messages that do not say (AMQP 1.0 §3.2.1).
pub const DEFAULT_PRIORITY: u8 = 4;

/// What a message says before its body.
#[derive(Debug, Clone)]
pub struct Head<'a> {
    /// The router annotations, if there were any.
    pub annotations: Option<Annotations<'a>>,
    /// Where the sections behind the router annotations start: everything from here is passed on as it is.
    pub rest: usize,
    /// 0 to 255; [`DEFAULT_PRIORITY`] if it does not say.
    pub priority: u8,
    /// The message's properties, as far as routers use them.
    pub properties: Properties<'a>,
    /// The application properties: a map, undecoded.
    pub application_properties: Option<Reader<'a>>,
    /// Where the value of a body that is a single value starts.
    pub value_at: Option<usize>,
    /// Whether that value is null.
    pub is_value_null: bool,
}

/// The properties section, as far as routers use it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Properties<'a> {
    /// Where the message goes.
    pub to: Option<&'a str>,
    /// What kind of message it is; `None` also if that is no text.
    pub subject: Option<&'a str>,
    /// Where answers go.
    pub reply_to: Option<&'a str>,
    /// What an answer is to repeat, as it is encoded: a value of any type, null too.
    pub correlation_id: Option<&'a [u8]>,
    /// What the message is.
    pub content_type: Option<&'a str>,
}

/// Scans a message up to its body. `None`: it does not reach far enough yet. `is_complete`: nothing more will come.
///
/// # Errors
/// Anything but octets that may still become a message.
pub fn scan(octets: &[u8], is_complete: bool) -> Result<Option<Head<'_>>, DecodeError> {
    match Head::scan(octets, is_complete) {
        Err(DecodeError::Truncated) if !is_complete && octets.len() <= MAX_HEAD_BYTES => Ok(None),
        Err(DecodeError::Truncated) => Err(DecodeError::Malformed("message: its head is too long, or cut off")),
        other => other.map(Some),
    }
}

impl<'a> Head<'a> {
    fn scan(octets: &'a [u8], is_complete: bool) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(octets);
        let annotations = Self::scan_annotations(&mut reader)?;
        let mut head = Self {
            annotations,
            rest: octets.len() - reader.len(),
            priority: DEFAULT_PRIORITY,
            properties: Properties::default(),
            application_properties: None,
            value_at: None,
            is_value_null: false,
        };
        let mut last = 0;
        loop {
            if is_complete && reader.is_empty() {
                return Ok(head);
            }
            let section = reader.descriptor()?;
            if section <= last {
                return Err(DecodeError::Malformed("message: sections out of order"));
            }
            last = section;
            match section {
                HEADER => head.priority = scan_header(&mut reader)?,
                DELIVERY_ANNOTATIONS | MESSAGE_ANNOTATIONS => drop(reader.skip()?),
                PROPERTIES => head.properties = Properties::scan(&mut reader)?,
                APPLICATION_PROPERTIES => head.application_properties = Some(Reader::new(reader.skip()?)),
                VALUE => {
                    head.value_at = Some(octets.len() - reader.len());
                    head.is_value_null = reader.byte()? == NULL;
                    return Ok(head);
                }
                DATA | SEQUENCE | FOOTER => return Ok(head),
                other => return Err(DecodeError::UnexpectedDescriptor(other)),
            }
        }
    }

    fn scan_annotations(reader: &mut Reader<'a>) -> Result<Option<Annotations<'a>>, DecodeError> {
        let start = reader.rest();
        let seen = start.len().min(DESCRIPTOR.len());
        if start[..seen] != DESCRIPTOR[..seen] {
            return Ok(None);
        }
        reader.take(DESCRIPTOR.len())?;
        // The list's extent first: what is missing inside it will not come.
        let mut list = Reader::new(reader.skip()?);
        Annotations::decode(&mut list).map(Some)
    }
}

fn scan_header(reader: &mut Reader<'_>) -> Result<u8, DecodeError> {
    let mut fields = Reader::new(reader.skip()?).fields()?;
    fields.skip()?; // durable
    Ok(fields.optional()?.unwrap_or(DEFAULT_PRIORITY))
}

impl<'a> Properties<'a> {
    /// The correlation id, if it is a text.
    pub fn correlation_text(&self) -> Option<&'a str> {
        self.correlation_id.and_then(|octets| Decode::decode(&mut Reader::new(octets)).ok())
    }

    fn scan(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let mut fields = Reader::new(reader.skip()?).fields()?;
        fields.skip()?; // message-id
        fields.skip()?; // user-id
        let to = fields.optional()?;
        // Streams have no use for it: one of another type must not stop them.
        let subject = Decode::decode(&mut Reader::new(fields.octets())).ok();
        fields.skip()?;
        let reply_to = fields.optional()?;
        let correlation_id = Some(fields.skip()?).filter(|octets| !octets.is_empty());
        Ok(Self { to, subject, reply_to, correlation_id, content_type: fields.optional()? })
    }
}
