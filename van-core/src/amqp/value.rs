//! AMQP values (AMQP 1.0 part 1) for everything whose shape is not known beforehand: maps of properties, bodies, filters.
//!
//! Performatives and message sections are typed and do not pass through [`Value`].

use std::fmt;

use super::codec::{Decode, DecodeError, Encode, Reader, code, encode_list, encode_map, put_array};
use super::limits::{MAX_EMPTY_ELEMENTS, MAX_VALUE_DEPTH};

/// A peer's words for people: without control characters, which could forge lines of a log.
pub(super) struct Printable<'a>(pub(super) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character.is_control() {
                true => write!(f, "{}", character.escape_default())?,
                false => write!(f, "{character}")?,
            }
        }
        Ok(())
    }
}

/// Elements that memory is reserved for before they are read: a false count may stand at each of the levels of nesting.
const MAX_RESERVED: usize = 16;

/// A symbol: an ASCII name from a constrained vocabulary.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol(Box<str>);

/// Any AMQP value, as its type says, whatever width it was encoded in.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// 8 bits, unsigned.
    Ubyte(u8),
    /// 16 bits, unsigned.
    Ushort(u16),
    /// 32 bits, unsigned.
    Uint(u32),
    /// 64 bits, unsigned.
    Ulong(u64),
    /// 8 bits, signed.
    Byte(i8),
    /// 16 bits, signed.
    Short(i16),
    /// 32 bits, signed.
    Int(i32),
    /// 64 bits, signed.
    Long(i64),
    /// IEEE 754 binary32.
    Float(f32),
    /// IEEE 754 binary64.
    Double(f64),
    /// IEEE 754 decimal32, its octets as on the wire.
    Decimal32([u8; 4]),
    /// IEEE 754 decimal64, its octets as on the wire.
    Decimal64([u8; 8]),
    /// IEEE 754 decimal128, its octets as on the wire.
    Decimal128([u8; 16]),
    /// A Unicode scalar.
    Char(char),
    /// Milliseconds since 1970, UTC.
    Timestamp(i64),
    /// A UUID in network order.
    Uuid([u8; 16]),
    /// Octets.
    Binary(Vec<u8>),
    /// Text.
    String(String),
    /// A name.
    Symbol(Symbol),
    /// Values of any type.
    List(Vec<Self>),
    /// Pairs in the order they came. Duplicate keys are kept: the wire allows to see them.
    Map(Vec<(Self, Self)>),
    /// Values of one type.
    Array(Vec<Self>),
    /// A value with a descriptor in front.
    Described(Box<Self>, Box<Self>),
}

impl Symbol {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Symbol {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl PartialEq<str> for Symbol {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0)
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === impl Value ===

impl Value {
    /// A symbol value.
    pub fn symbol(name: &str) -> Self {
        Self::Symbol(name.into())
    }

    /// Text of a string or symbol: peers mix the two where only the characters matter.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Symbol(name) => Some(name.as_str()),
            _ => None,
        }
    }

    /// An integer of any width and sign, if it fits.
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            Self::Ubyte(n) => Some(n.into()),
            Self::Ushort(n) => Some(n.into()),
            Self::Uint(n) => Some(n.into()),
            Self::Ulong(n) => n.try_into().ok(),
            Self::Byte(n) => Some(n.into()),
            Self::Short(n) => Some(n.into()),
            Self::Int(n) => Some(n.into()),
            Self::Long(n) => Some(n),
            _ => None,
        }
    }

    /// The pairs of a map.
    pub fn as_map(&self) -> Option<&[(Self, Self)]> {
        match self {
            Self::Map(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// The elements of a list. (An array is not a list.)
    pub fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// The value under a string or symbol key of a map.
    pub fn entry(&self, key: &str) -> Option<&Self> {
        let pairs = self.as_map()?;
        pairs.iter().find(|(k, _)| k.as_text() == Some(key)).map(|(_, v)| v)
    }

    fn decode_nested(reader: &mut Reader<'_>, depth: usize) -> Result<Self, DecodeError> {
        let constructor = reader.byte()?;
        Self::decode_body(reader, constructor, depth)
    }

    fn decode_body(reader: &mut Reader<'_>, constructor: u8, depth: usize) -> Result<Self, DecodeError> {
        if depth > MAX_VALUE_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        Ok(match constructor {
            code::DESCRIBED => {
                let descriptor = Self::decode_nested(reader, depth + 1)?;
                Self::Described(descriptor.into(), Self::decode_nested(reader, depth + 1)?.into())
            }
            code::NULL => Self::Null,
            code::TRUE => Self::Bool(true),
            code::FALSE => Self::Bool(false),
            code::BOOLEAN => Self::Bool(match reader.byte()? {
                0 => false,
                1 => true,
                _ => return Err(DecodeError::Malformed("boolean")),
            }),
            code::UBYTE => Self::Ubyte(reader.byte()?),
            code::USHORT => Self::Ushort(u16::from_be_bytes(reader.array()?)),
            code::UINT => Self::Uint(u32::from_be_bytes(reader.array()?)),
            code::SMALLUINT => Self::Uint(reader.byte()?.into()),
            code::UINT0 => Self::Uint(0),
            code::ULONG => Self::Ulong(u64::from_be_bytes(reader.array()?)),
            code::SMALLULONG => Self::Ulong(reader.byte()?.into()),
            code::ULONG0 => Self::Ulong(0),
            code::BYTE => Self::Byte(i8::from_be_bytes(reader.array()?)),
            code::SHORT => Self::Short(i16::from_be_bytes(reader.array()?)),
            code::INT => Self::Int(i32::from_be_bytes(reader.array()?)),
            code::SMALLINT => Self::Int(i8::from_be_bytes(reader.array()?).into()),
            code::LONG => Self::Long(i64::from_be_bytes(reader.array()?)),
            code::SMALLLONG => Self::Long(i8::from_be_bytes(reader.array()?).into()),
            code::FLOAT => Self::Float(f32::from_be_bytes(reader.array()?)),
            code::DOUBLE => Self::Double(f64::from_be_bytes(reader.array()?)),
            code::DECIMAL32 => Self::Decimal32(reader.array()?),
            code::DECIMAL64 => Self::Decimal64(reader.array()?),
            code::DECIMAL128 => Self::Decimal128(reader.array()?),
            code::CHAR => {
                Self::Char(char::from_u32(u32::from_be_bytes(reader.array()?)).ok_or(DecodeError::Malformed("char"))?)
            }
            code::TIMESTAMP => Self::Timestamp(i64::from_be_bytes(reader.array()?)),
            code::UUID => Self::Uuid(reader.array()?),
            code::BINARY8 | code::BINARY32 => Self::Binary(reader.variable(constructor)?.to_vec()),
            code::STRING8 | code::STRING32 => Self::String(reader.text(constructor)?.to_owned()),
            code::SYMBOL8 | code::SYMBOL32 => Self::Symbol(reader.text(constructor)?.into()),
            code::LIST0 | code::LIST8 | code::LIST32 => {
                let (mut items, count) = reader.compound(constructor)?;
                let list = Self::decode_items(&mut items, count, depth)?;
                items.finish()?;
                Self::List(list)
            }
            code::MAP8 | code::MAP32 => {
                let (mut items, count) = reader.compound(constructor)?;
                let pairs = Self::decode_pairs(&mut items, count, depth)?;
                items.finish()?;
                Self::Map(pairs)
            }
            code::ARRAY8 | code::ARRAY32 => {
                let (mut items, count) = reader.compound(constructor)?;
                Self::Array(Self::decode_array(&mut items, count, depth)?)
            }
            _ => return Err(DecodeError::UnknownCode(constructor)),
        })
    }

    fn decode_items(items: &mut Reader<'_>, count: usize, depth: usize) -> Result<Vec<Self>, DecodeError> {
        // Each element takes an octet at least, so `Truncated` ends a false count before memory does.
        let mut list = Vec::with_capacity(count.min(items.len()).min(MAX_RESERVED));
        for _ in 0..count {
            list.push(Self::decode_nested(items, depth + 1)?);
        }
        Ok(list)
    }

    fn decode_pairs(items: &mut Reader<'_>, count: usize, depth: usize) -> Result<Vec<(Self, Self)>, DecodeError> {
        if !count.is_multiple_of(2) {
            return Err(DecodeError::Malformed("map with an odd number of elements"));
        }
        let mut pairs = Vec::with_capacity((count / 2).min(items.len() / 2).min(MAX_RESERVED));
        for _ in 0..count / 2 {
            let key = Self::decode_nested(items, depth + 1)?;
            pairs.push((key, Self::decode_nested(items, depth + 1)?));
        }
        Ok(pairs)
    }

    fn decode_array(items: &mut Reader<'_>, count: usize, depth: usize) -> Result<Vec<Self>, DecodeError> {
        let mut constructor = items.byte()?;
        let mut descriptors = Vec::new();
        while constructor == code::DESCRIBED {
            if depth + descriptors.len() > MAX_VALUE_DEPTH {
                return Err(DecodeError::TooDeep);
            }
            descriptors.push(Self::decode_nested(items, depth + 1)?);
            constructor = items.byte()?;
        }
        // Elements without octets of their own could be claimed by the billion.
        if count > items.len() && count > MAX_EMPTY_ELEMENTS {
            return Err(DecodeError::Malformed("array count beyond its octets"));
        }
        let mut array = Vec::with_capacity(count.min(MAX_EMPTY_ELEMENTS));
        for _ in 0..count {
            let body = Self::decode_body(items, constructor, depth + 1)?;
            let element = descriptors
                .iter()
                .rev()
                .fold(body, |body, descriptor| Self::Described(descriptor.clone().into(), body.into()));
            array.push(element);
        }
        items.finish()?;
        Ok(array)
    }
}

impl<'a> Decode<'a> for Value {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        Self::decode_nested(reader, 0)
    }
}

impl Encode for Value {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(code::NULL),
            Self::Bool(b) => b.encode(out),
            Self::Ubyte(n) => n.encode(out),
            Self::Ushort(n) => n.encode(out),
            Self::Uint(n) => n.encode(out),
            Self::Ulong(n) => n.encode(out),
            Self::Byte(n) => n.encode(out),
            Self::Short(n) => n.encode(out),
            Self::Int(n) => n.encode(out),
            Self::Long(n) => n.encode(out),
            Self::Float(n) => fixed(out, code::FLOAT, &n.to_be_bytes()),
            Self::Double(n) => fixed(out, code::DOUBLE, &n.to_be_bytes()),
            Self::Decimal32(octets) => fixed(out, code::DECIMAL32, octets),
            Self::Decimal64(octets) => fixed(out, code::DECIMAL64, octets),
            Self::Decimal128(octets) => fixed(out, code::DECIMAL128, octets),
            Self::Char(c) => fixed(out, code::CHAR, &u32::from(*c).to_be_bytes()),
            Self::Timestamp(ms) => fixed(out, code::TIMESTAMP, &ms.to_be_bytes()),
            Self::Uuid(octets) => fixed(out, code::UUID, octets),
            Self::Binary(octets) => octets.as_slice().encode(out),
            Self::String(text) => text.as_str().encode(out),
            Self::Symbol(name) => name.encode(out),
            Self::List(items) => encode_list(out, items),
            Self::Map(pairs) => encode_map(out, pairs.iter().map(|(k, v)| (k, v))),
            Self::Array(items) => encode_array(items, out),
            Self::Described(descriptor, value) => {
                out.push(code::DESCRIBED);
                descriptor.encode(out);
                value.encode(out);
            }
        }
    }
}

fn fixed(out: &mut Vec<u8>, constructor: u8, octets: &[u8]) {
    out.push(constructor);
    out.extend_from_slice(octets);
}

/// Elements of an array share one constructor, so each goes in its widest form: the one every value of its type fits.
fn encode_array(items: &[Value], out: &mut Vec<u8>) {
    let mut constructor = Vec::new();
    match items.first() {
        Some(first) => array_constructor(first, &mut constructor),
        None => constructor.push(code::NULL),
    }
    put_array(out, items.len(), |out| {
        out.extend_from_slice(&constructor);
        for item in items {
            array_element(item, out);
        }
    });
}

fn array_constructor(value: &Value, out: &mut Vec<u8>) {
    let constructor = match value {
        Value::Null => code::NULL,
        Value::Bool(_) => code::BOOLEAN,
        Value::Ubyte(_) => code::UBYTE,
        Value::Ushort(_) => code::USHORT,
        Value::Uint(_) => code::UINT,
        Value::Ulong(_) => code::ULONG,
        Value::Byte(_) => code::BYTE,
        Value::Short(_) => code::SHORT,
        Value::Int(_) => code::INT,
        Value::Long(_) => code::LONG,
        Value::Float(_) => code::FLOAT,
        Value::Double(_) => code::DOUBLE,
        Value::Decimal32(_) => code::DECIMAL32,
        Value::Decimal64(_) => code::DECIMAL64,
        Value::Decimal128(_) => code::DECIMAL128,
        Value::Char(_) => code::CHAR,
        Value::Timestamp(_) => code::TIMESTAMP,
        Value::Uuid(_) => code::UUID,
        Value::Binary(_) => code::BINARY32,
        Value::String(_) => code::STRING32,
        Value::Symbol(_) => code::SYMBOL32,
        Value::List(_) => code::LIST32,
        Value::Map(_) => code::MAP32,
        Value::Array(_) => code::ARRAY32,
        Value::Described(descriptor, value) => {
            out.push(code::DESCRIBED);
            descriptor.encode(out);
            return array_constructor(value, out);
        }
    };
    out.push(constructor);
}

fn array_element(value: &Value, out: &mut Vec<u8>) {
    let variable = |octets: &[u8], out: &mut Vec<u8>| {
        out.extend_from_slice(&(octets.len() as u32).to_be_bytes());
        out.extend_from_slice(octets);
    };
    match value {
        Value::Bool(b) => out.push((*b).into()),
        Value::Uint(n) => out.extend_from_slice(&n.to_be_bytes()),
        Value::Ulong(n) => out.extend_from_slice(&n.to_be_bytes()),
        Value::Int(n) => out.extend_from_slice(&n.to_be_bytes()),
        Value::Long(n) => out.extend_from_slice(&n.to_be_bytes()),
        Value::Binary(octets) => variable(octets, out),
        Value::String(text) => variable(text.as_bytes(), out),
        Value::Symbol(name) => variable(name.as_str().as_bytes(), out),
        Value::List(items) => {
            let mut body = Vec::new();
            items.iter().for_each(|item| item.encode(&mut body));
            wide_compound(items.len(), &body, out);
        }
        Value::Map(pairs) => {
            let mut body = Vec::new();
            for (key, value) in pairs {
                key.encode(&mut body);
                value.encode(&mut body);
            }
            wide_compound(pairs.len() * 2, &body, out);
        }
        Value::Array(items) => {
            let mut whole = Vec::new();
            encode_array(items, &mut whole);
            let (body, count) = Reader::new(&whole[1..])
                .compound(whole[0])
                .map(|(body, count)| (body.rest().to_vec(), count))
                .expect("encoded above");
            wide_compound(count, &body, out);
        }
        Value::Described(_, value) => array_element(value, out),
        // The rest has one width only: its ordinary form behind the constructor.
        scalar => {
            let mut whole = Vec::new();
            scalar.encode(&mut whole);
            out.extend_from_slice(&whole[1..]);
        }
    }
}

fn wide_compound(count: usize, body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(&(count as u32).to_be_bytes());
    out.extend_from_slice(body);
}
