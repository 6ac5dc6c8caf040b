//! How a TCP connection becomes two streaming messages (docs/wire.md §8): their sections, and what is ours in them.
//!
//! The *client stream* goes from the listener's router to the connector's, addressed to a routing key. The *server stream*
//! answers it, addressed to the client stream's `reply-to`. Behind the sections of each follow the octets of one direction
//! of the TCP connection, raw, until the delivery ends.

use crate::amqp::{Composer, Decode, Encode, Reader, Value};
use crate::message::Head;

/// Marks a message as such a stream.
pub const CONTENT_TYPE: &str = "application/octet-stream";

/// The version of the encapsulation; nobody checks it.
const MAPPING_VERSION: u32 = 1;

/// An `amqp-value` body that holds null: the last octets before the stream's own.
const EMPTY_BODY: [u8; 4] = [0x00, 0x53, 0x77, 0x40];

/// The application property that only our own ends read: a map of a version and a list of features.
const OWN_PROPERTY: &str = "van";

/// The application property that names the protocol which a client agreed on by ALPN.
const ALPN_PROPERTY: &str = "alpn";

/// The longest name of a protocol (RFC 7301 §3.1).
const MAX_ALPN_BYTES: usize = 255;

/// The version of [`OWN_PROPERTY`].
const OWN_VERSION: u32 = 1;

/// The first window of a stream, while there is memory.
pub const FIRST_WINDOW_OCTETS: u32 = 65_536;

/// The smallest first window that is taken seriously: with less, nearly every read would wait for a report.
pub const LEAST_WINDOW_OCTETS: u32 = 1024;

/// What two ends of ours may do that others do not; used when both named it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// Reports of octets written come every 128 KiB instead of every 509 KiB.
    pub acks: bool,
    /// A reset is carried to the other end as an aborted delivery instead of a clean end.
    pub errors: bool,
    /// Reports name the window, which follows the path; of one end, the first window that it grants the other, in octets.
    pub window: Option<u32>,
}

/// What a client stream says.
#[derive(Debug, Clone, Copy)]
pub struct ClientStream<'a> {
    /// The routing key.
    pub key: &'a str,
    /// Where the server stream goes.
    pub reply_to: &'a str,
    /// The protocol that the client agreed on by ALPN, for the workload to be offered.
    pub alpn: Option<&'a str>,
    /// The VanFlow identity of the connection, for the connector's router to say its share of it.
    pub flow: Option<&'a str>,
}

/// Why a stream's sections cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// Another kind of message, or the encapsulation of Skupper 1.
    #[error("content type is not {CONTENT_TYPE}")]
    ContentType,
    /// The body is not the null value that stands before the octets.
    #[error("body is not an empty value")]
    Body,
}

impl Features {
    /// All that this version has.
    pub const OURS: Self = Self { acks: true, errors: true, window: Some(FIRST_WINDOW_OCTETS) };

    /// The same, with another first window.
    #[must_use]
    pub fn granting(self, first_window: u32) -> Self {
        Self { window: self.window.map(|_| first_window), ..self }
    }

    /// Those that both ends named, with what this end grants.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self {
            acks: self.acks && other.acks,
            errors: self.errors && other.errors,
            window: self.window.filter(|_| other.window.is_some()),
        }
    }

    /// Those named in a stream's application properties; none if the property is absent or not understood.
    pub fn of(head: &Head<'_>) -> Self {
        let map = application_properties(head);
        let own = map.and_then(|map| map.entry(OWN_PROPERTY));
        let names = own.and_then(|own| own.entry("f"));
        let has = |name: &str| names.is_some_and(|names| names.items().any(|item| item.as_text() == Some(name)));
        let window = own.and_then(|own| own.entry("w")?.as_number());
        Self {
            acks: has("acks"),
            errors: has("errors"),
            window: window.filter(|octets| *octets >= LEAST_WINDOW_OCTETS && has("window")),
        }
    }

    fn value(self) -> Value {
        let named = [("acks", self.acks), ("errors", self.errors), ("window", self.window.is_some())];
        let names = named.iter().filter(|(_, is_named)| *is_named).map(|(name, _)| Value::symbol(name)).collect();
        let mut pairs = vec![(Value::symbol("v"), Value::Uint(OWN_VERSION)), (Value::symbol("f"), Value::List(names))];
        pairs.extend(self.window.map(|octets| (Value::symbol("w"), Value::Uint(octets))));
        Value::Map(pairs)
    }
}

/// Appends the sections of a client stream that come behind the router annotations.
pub fn write_client_stream(stream: ClientStream<'_>, features: Features, out: &mut Vec<u8>) {
    write_properties(stream.key, Some(stream.reply_to), stream.flow, out);
    write_application_properties(stream.alpn, Some(features), out);
    out.extend_from_slice(&EMPTY_BODY);
}

/// Appends the sections of a server stream that come behind the router annotations. `features` are told only to an end
/// that has told its own.
pub fn write_server_stream(reply_to: &str, features: Option<Features>, out: &mut Vec<u8>) {
    write_properties(reply_to, None, None, out);
    write_application_properties(None, features, out);
    out.extend_from_slice(&EMPTY_BODY);
}

fn write_properties(to: &str, reply_to: Option<&str>, flow: Option<&str>, out: &mut Vec<u8>) {
    let mut properties = Composer::described(out, 0x73);
    // message-id, user-id, to, subject, reply-to, correlation-id, content-type
    properties.null().null().field(to).null().optional(reply_to).optional(flow).field(CONTENT_TYPE).end();
}

fn write_application_properties(alpn: Option<&str>, features: Option<Features>, out: &mut Vec<u8>) {
    let mut pairs = vec![(Value::String("V".into()), Value::Uint(MAPPING_VERSION))];
    pairs.extend(alpn.map(|name| (Value::String(ALPN_PROPERTY.into()), Value::String(name.into()))));
    pairs.extend(features.map(|features| (Value::String(OWN_PROPERTY.into()), features.value())));
    Value::Described(Value::Ulong(0x74).into(), Value::Map(pairs).into()).encode(out);
}

fn application_properties<'a>(head: &Head<'a>) -> Option<Item<'a>> {
    head.application_properties.map(|map| Item(map.rest()))
}

/// A value where it lies: of the properties of a stream two or three are looked at, once.
#[derive(Clone, Copy)]
struct Item<'a>(&'a [u8]);

impl<'a> Item<'a> {
    /// What a map has under a name.
    fn entry(self, name: &str) -> Option<Self> {
        let mut pairs = Reader::new(self.0).map().ok()?;
        while pairs.left() > 0 {
            let (key, value) = (Self(pairs.skip().ok()?), Self(pairs.skip().ok()?));
            if key.as_text() == Some(name) {
                return Some(value);
            }
        }
        None
    }

    /// What is in a list.
    fn items(self) -> impl Iterator<Item = Self> {
        let mut items = Reader::new(self.0).fields().ok();
        std::iter::from_fn(move || items.as_mut().filter(|it| it.left() > 0)?.skip().ok().map(Self))
    }

    fn as_text(self) -> Option<&'a str> {
        Decode::decode(&mut Reader::new(self.0)).ok()
    }

    fn as_number(self) -> Option<u32> {
        Value::decode(&mut Reader::new(self.0)).ok()?.as_integer()?.try_into().ok()
    }
}

/// The protocol that a client stream's client agreed on by ALPN.
pub fn alpn(head: &Head<'_>) -> Option<String> {
    let map = application_properties(head)?;
    let name = map.entry(ALPN_PROPERTY)?.as_text()?;
    (1..=MAX_ALPN_BYTES).contains(&name.len()).then(|| name.to_owned())
}

/// Checks the sections of a stream that ends here. Where its octets start.
///
/// # Errors
/// See [`Unusable`]: the stream belongs to somebody else, or its sender does not keep to the encapsulation.
pub fn stream_start(head: &Head<'_>) -> Result<usize, Unusable> {
    if head.properties.content_type != Some(CONTENT_TYPE) {
        return Err(Unusable::ContentType);
    }
    head.value_at.filter(|_| head.is_value_null).map(|null| null + 1).ok_or(Unusable::Body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message;

    fn told(features: Features) -> Features {
        let mut message = Vec::new();
        write_server_stream("amqp:/_topo/0/a/temp.1", Some(features), &mut message);
        Features::of(&message::scan(&message, false).expect("a message").expect("the head is whole"))
    }

    #[test]
    fn what_both_ends_named_is_used_with_the_window_that_the_other_grants() {
        let far = told(Features::OURS.granting(8192));
        assert_eq!(far.common(Features::OURS), Features { window: Some(8192), ..Features::OURS });
        let older = told(Features { window: None, ..Features::OURS });
        assert_eq!(older.common(Features::OURS), Features { acks: true, errors: true, window: None });
        assert_eq!(far.common(older), Features { acks: true, errors: true, window: None });
    }

    #[test]
    fn a_window_too_small_to_be_used_is_not_named() {
        let of = |octets| told(Features::OURS.granting(octets)).window;
        assert_eq!([0, 1023, 1024, u32::MAX].map(of), [None, None, Some(1024), Some(u32::MAX)]);
    }
}
