//! Requests and answers of management as they look on the wire (docs/wire.md §9.2).

use bytes::Bytes;

use crate::amqp::{Composer, Decode, Encode, Reader, Value};
use crate::message;
use crate::plane::MAX_MESSAGE_BYTES;

/// Octets of a request that are read. Its attributes are those of one entity, which take some hundred.
pub const MAX_REQUEST_BYTES: usize = 65_536;

/// Characters of a description of what went wrong: some quote what was asked.
const MAX_DESCRIPTION: usize = 1000;

/// A question that can be answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Where the answer goes.
    pub reply_to: String,
    /// What the answer repeats, as it came.
    pub correlation_id: Option<Bytes>,
    /// What is asked for; empty if that is not said.
    pub operation: String,
    /// The application properties, all of them.
    properties: Value,
    /// The value in the body, null if there is none; nothing if it cannot be read.
    body: Option<Value>,
}

/// How a request ended.
///
/// The numbers are those of the AMQP management working draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Done, or here it is.
    Ok,
    /// It was made.
    Created,
    /// It is gone.
    NoContent,
    /// It cannot be as it is asked for.
    BadRequest,
    /// It is not for management to do.
    Forbidden,
    /// There is none.
    NotFound,
    /// It was tried, and did not work.
    InternalError,
    /// Such entities have no such operation.
    NotImplemented,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// How it ended.
    pub status: Status,
    /// The same for people.
    pub description: String,
    /// What was asked for.
    pub body: Value,
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{description}")]
pub struct Failure {
    /// The kind of it.
    pub status: Status,
    /// For people: what, and what to do.
    pub description: String,
}

impl Request {
    /// Reads a message, from the section behind its router annotations on. `None` if it is none, or names nobody who waits for
    /// an answer.
    pub fn read(octets: &[u8]) -> Option<Self> {
        let head = message::scan(octets, true).ok()??;
        let reply_to = head.properties.reply_to.filter(|reply_to| !reply_to.is_empty())?.to_owned();
        let correlation_id = head.properties.correlation_id.map(Bytes::copy_from_slice);
        let is_readable = octets.len() <= MAX_REQUEST_BYTES;
        let read = |octets: &[u8]| Value::decode(&mut Reader::new(octets)).ok().filter(|_| is_readable);
        let properties = head.application_properties.and_then(|map| read(map.rest())).unwrap_or(Value::Null);
        let body = match head.value_at {
            Some(at) => read(&octets[at..]),
            None => Some(Value::Null).filter(|_| is_readable),
        };
        let operation = properties.entry("operation").and_then(Value::as_text).unwrap_or_default().to_uppercase();
        Some(Self { reply_to, correlation_id, operation, properties, body })
    }

    /// An application property that is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.properties.entry(key).and_then(Value::as_text)
    }

    /// Whether there is an application property of that name.
    pub fn has(&self, key: &str) -> bool {
        self.properties.entry(key).is_some()
    }

    /// An application property that is a whole number of at least 0, perhaps as text.
    pub fn number(&self, key: &str) -> Option<usize> {
        let value = self.properties.entry(key)?;
        let number = value.as_integer().and_then(|number| number.try_into().ok());
        number.or_else(|| value.as_text()?.parse().ok())
    }

    /// The body, which is a map or nothing.
    ///
    /// # Errors
    /// It is anything else, or too long.
    pub fn map(&self) -> Result<&[(Value, Value)], Failure> {
        match &self.body {
            Some(Value::Null) => Ok(&[]),
            Some(Value::Map(pairs)) => Ok(pairs),
            _ => Err(Failure::bad_request(format!(
                "the body must be a map, in a request of up to {MAX_REQUEST_BYTES} octets"
            ))),
        }
    }

    /// The message that answers this one.
    pub fn answer(&self, answer: &Answer) -> Bytes {
        let octets = self.encode(answer);
        if octets.len() <= MAX_MESSAGE_BYTES {
            return octets;
        }
        let description =
            format!("the answer takes more than {MAX_MESSAGE_BYTES} octets; ask for a part, with `count` and `offset`");
        self.encode(&Failure { status: Status::InternalError, description }.into())
    }

    fn encode(&self, answer: &Answer) -> Bytes {
        let mut out = Vec::with_capacity(512);
        // message-id, user-id, to, subject, reply-to
        let mut properties = Composer::described(&mut out, 0x73);
        properties.null().null().field(self.reply_to.as_str()).null().null();
        properties.place().extend_from_slice(self.correlation_id.as_deref().unwrap_or(&[0x40]));
        properties.end();
        let description = answer.description.chars().take(MAX_DESCRIPTION).collect();
        let pairs = vec![
            (Value::String("statusCode".into()), Value::Int(answer.status.code())),
            (Value::String("statusDescription".into()), Value::String(description)),
        ];
        section(0x74, Value::Map(pairs), &mut out);
        section(0x77, answer.body.clone(), &mut out);
        out.into()
    }
}

fn section(descriptor: u64, value: Value, out: &mut Vec<u8>) {
    Value::Described(Value::Ulong(descriptor).into(), value.into()).encode(out);
}

impl Status {
    /// Its number.
    pub fn code(self) -> i32 {
        match self {
            Self::Ok => 200,
            Self::Created => 201,
            Self::NoContent => 204,
            Self::BadRequest => 400,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::InternalError => 500,
            Self::NotImplemented => 501,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Created => "Created",
            Self::NoContent => "No Content",
            Self::BadRequest => "Bad Request",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "Not Found",
            Self::InternalError => "Internal Server Error",
            Self::NotImplemented => "Not Implemented",
        }
    }
}

impl Answer {
    /// That it is done.
    pub fn new(status: Status, body: Value) -> Self {
        Self { status, description: status.text().to_owned(), body }
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        Self { status: failure.status, description: failure.description, body: Value::Map(Vec::new()) }
    }
}

impl Failure {
    /// It cannot be as it is asked for.
    pub fn bad_request(description: impl Into<String>) -> Self {
        Self { status: Status::BadRequest, description: description.into() }
    }
}
