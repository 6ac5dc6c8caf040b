//! Records: what is said about one thing of the network, or what of it has changed.

use std::sync::Arc;

use super::attribute::{Attribute, Class};
use crate::amqp::{Decode, DecodeError, Encode, Fields, Reader, Value, encode_map};

/// Octets of an identity. Routers take 26, controllers a UUID's 36; records with longer ones are passed over.
pub const MAX_IDENTITY_BYTES: usize = 255;

/// Octets of a text, and of a trace, beyond which it is cut. Source: skupper-router `vanflow.c`.
const MAX_TEXT_BYTES: usize = 300;
const MAX_TRACE_BYTES: usize = 1000;

/// Keys of what every record has.
const TYPE: u32 = 0;
const IDENTITY: u32 = 1;

macro_rules! record_types {
    ($($code:literal $name:ident $doc:literal;)*) => {
        /// What a record is about, ordered by its code: parents stand before their children.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum RecordType {
            $(#[doc = $doc] $name = $code,)*
        }

        impl RecordType {
            /// All of them, in the order of their codes.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

record_types! {
    0 Site "A site.";
    1 Router "A router; its parent is its site.";
    2 Link "A link that a router dials, whether it is up or not.";
    3 Controller "Nobody's.";
    4 Listener "One routing key of a listener.";
    5 Connector "A connector.";
    6 Flow "One direction of a connection, of Skupper 1.";
    7 Process "A pod.";
    8 Image "Nobody's.";
    9 Ingress "Nobody's.";
    10 Egress "Nobody's.";
    11 Collector "Nobody's.";
    12 ProcessGroup "Nobody's.";
    13 Host "Nobody's.";
    14 Log "A line of a router's log.";
    15 RouterAccess "Where a router accepts links.";
    16 TransportFlow "A TCP connection.";
    17 ApplicationFlow "A request on it.";
}

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Datum {
    /// Of an attribute of [`Class::Number`].
    Number(u64),
    /// Of an attribute of [`Class::Text`].
    Text(Arc<str>),
}

/// What is said about one thing. As a patch it says what changed: attributes that are absent stay as they are, and none can
/// be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub kind: RecordType,
    /// Its name among all records of the network.
    pub identity: Arc<str>,
    /// In the order of codes.
    attributes: Vec<(Attribute, Datum)>,
}

impl RecordType {
    fn of(code: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?).copied()
    }
}

impl Datum {
    fn class(&self) -> Class {
        match self {
            Self::Number(_) => Class::Number,
            Self::Text(_) => Class::Text,
        }
    }

    fn read(value: Value) -> Option<Self> {
        match value {
            Value::Ulong(number) => Some(Self::Number(number)),
            Value::String(text) => Some(Self::Text(text.into())),
            Value::Symbol(name) => Some(Self::Text(name.as_str().into())),
            other => other.as_integer().and_then(|number| u64::try_from(number).ok()).map(Self::Number),
        }
    }
}

impl From<u64> for Datum {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Datum {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<Arc<str>> for Datum {
    fn from(text: Arc<str>) -> Self {
        Self::Text(text)
    }
}

// === impl Record ===

impl Record {
    /// A record that says nothing yet.
    pub fn new(kind: RecordType, identity: impl Into<Arc<str>>) -> Self {
        Self { kind, identity: identity.into(), attributes: Vec::new() }
    }

    /// Says something more; see [`Self::set`].
    #[must_use]
    pub fn with(mut self, attribute: Attribute, value: impl Into<Datum>) -> Self {
        self.set(attribute, value);
        self
    }

    /// Sets an attribute. A text that is too long for others (300 octets, a trace 1000) is cut.
    ///
    /// # Panics
    /// If the value is not of the attribute's class: the program is wrong.
    pub fn set(&mut self, attribute: Attribute, value: impl Into<Datum>) {
        let value = value.into();
        assert_eq!(value.class(), attribute.class(), "{attribute:?} is of another class");
        self.put(attribute, cut(attribute, value));
    }

    /// Whether that changed anything.
    fn put(&mut self, attribute: Attribute, value: Datum) -> bool {
        match self.attributes.binary_search_by_key(&attribute, |(known, _)| *known) {
            Ok(place) => {
                let known = &mut self.attributes[place].1;
                let is_other = *known != value;
                *known = value;
                is_other
            }
            Err(place) => {
                self.attributes.insert(place, (attribute, value));
                true
            }
        }
    }

    fn datum(&self, attribute: Attribute) -> Option<&Datum> {
        let place = self.attributes.binary_search_by_key(&attribute, |(known, _)| *known).ok()?;
        Some(&self.attributes[place].1)
    }

    /// Takes a patch over. Whether that changed anything; one about something else does not.
    pub fn apply(&mut self, patch: &Self) -> bool {
        if (patch.kind, &patch.identity) != (self.kind, &self.identity) {
            return false;
        }
        let mut has_changed = false;
        for (attribute, value) in &patch.attributes {
            has_changed |= self.put(*attribute, value.clone());
        }
        has_changed
    }

    /// The patch that makes of this record what it is behind [`Self::apply`]; `None` if nothing changes.
    pub fn difference(&self, patch: &Self) -> Option<Self> {
        let news = patch.attributes.iter().filter(|(attribute, value)| self.datum(*attribute) != Some(value));
        let attributes: Vec<_> = news.cloned().collect();
        (!attributes.is_empty()).then(|| Self { attributes, ..Self::new(self.kind, Arc::clone(&self.identity)) })
    }

    /// A number; `None` if it was not said.
    pub fn number(&self, attribute: Attribute) -> Option<u64> {
        match self.datum(attribute)? {
            Datum::Number(number) => Some(*number),
            Datum::Text(_) => None,
        }
    }

    /// A text; `None` if it was not said.
    pub fn text(&self, attribute: Attribute) -> Option<&str> {
        match self.datum(attribute)? {
            Datum::Text(text) => Some(text),
            Datum::Number(_) => None,
        }
    }

    /// All that is said, in the order of codes.
    pub fn attributes(&self) -> impl Iterator<Item = (Attribute, &Datum)> {
        self.attributes.iter().map(|(attribute, value)| (*attribute, value))
    }

    /// The name, if it was said.
    pub fn name(&self) -> Option<&str> {
        self.text(Attribute::Name)
    }

    /// The identity of the record it belongs to, if it was said.
    pub fn parent(&self) -> Option<&str> {
        self.text(Attribute::Parent)
    }

    /// A router's id: its name without the area.
    pub fn router_id(&self) -> Option<&str> {
        let name = self.name().filter(|_| self.kind == RecordType::Router);
        name?.split_once('/').map(|(_, id)| id)
    }

    /// Whether what it is about is gone.
    pub fn has_ended(&self) -> bool {
        self.datum(Attribute::EndTime).is_some()
    }

    /// Reads one of a list's records. `None`: it is of a type we do not know, or lacks type or identity.
    pub(super) fn read(list: &mut Fields<'_>) -> Result<Option<Self>, DecodeError> {
        let Some(Pairs(mut pairs)) = list.optional()? else { return Ok(None) };
        let (mut kind, mut identity, mut said) = (None, None, Vec::new());
        while pairs.left() > 0 {
            let key = pairs.optional()?.and_then(Datum::read);
            let value = pairs.optional()?.and_then(Datum::read);
            let (Some(Datum::Number(key)), Some(value)) = (key, value) else { continue };
            match (u32::try_from(key), value) {
                (Ok(TYPE), Datum::Number(code)) => kind = RecordType::of(code),
                (Ok(IDENTITY), Datum::Text(text)) => identity = (text.len() <= MAX_IDENTITY_BYTES).then_some(text),
                (_, value) => {
                    let attribute = Attribute::of(key).filter(|attribute| attribute.class() == value.class());
                    said.extend(attribute.map(|attribute| (attribute, cut(attribute, value))));
                }
            }
        }
        let Some((kind, identity)) = kind.zip(identity) else { return Ok(None) };
        let mut record = Self::new(kind, identity);
        for (attribute, value) in said {
            record.put(attribute, value);
        }
        Ok(Some(record))
    }
}

/// Others drop a whole message for a key that is no uint, or a value that is no ulong or string.
impl Encode for Record {
    fn encode(&self, out: &mut Vec<u8>) {
        let (kind, identity) = (u32::from(self.kind as u8), &*self.identity);
        let own: [(u32, &dyn Encode); 2] = [(TYPE, &kind), (IDENTITY, &identity)];
        let said = self.attributes.iter().map(|(attribute, value)| (attribute.code(), value as &dyn Encode));
        let pairs: Vec<_> = own.into_iter().chain(said).collect();
        encode_map(out, pairs.into_iter());
    }
}

impl Encode for Datum {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(number) => number.encode(out),
            Self::Text(text) => text.encode(out),
        }
    }
}

fn cut(attribute: Attribute, value: Datum) -> Datum {
    let max = if attribute == Attribute::Trace { MAX_TRACE_BYTES } else { MAX_TEXT_BYTES };
    match value {
        Datum::Text(text) if text.len() > max => text[..text.floor_char_boundary(max)].into(),
        other => other,
    }
}

/// The pairs of a map, unread.
struct Pairs<'a>(Fields<'a>);

impl<'a> Decode<'a> for Pairs<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.map().map(Self)
    }
}
