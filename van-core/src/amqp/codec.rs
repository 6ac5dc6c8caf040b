//! Encoding and decoding of AMQP types (AMQP 1.0 part 1).
//!
//! Typed code reads through [`Reader`] and [`Fields`] without allocating, and writes through [`Encode`] and [`Composer`];
//! values of unknown shape go through [`Value`](super::Value).

use super::limits::MAX_PERFORMATIVE_BYTES;
use super::value::Symbol;

/// Format codes (AMQP 1.0 §1.6).
pub(crate) mod code {
    pub(crate) const DESCRIBED: u8 = 0x00;
    pub(crate) const NULL: u8 = 0x40;
    pub(crate) const TRUE: u8 = 0x41;
    pub(crate) const FALSE: u8 = 0x42;
    pub(crate) const UINT0: u8 = 0x43;
    pub(crate) const ULONG0: u8 = 0x44;
    pub(crate) const LIST0: u8 = 0x45;
    pub(crate) const UBYTE: u8 = 0x50;
    pub(crate) const BYTE: u8 = 0x51;
    pub(crate) const SMALLUINT: u8 = 0x52;
    pub(crate) const SMALLULONG: u8 = 0x53;
    pub(crate) const SMALLINT: u8 = 0x54;
    pub(crate) const SMALLLONG: u8 = 0x55;
    pub(crate) const BOOLEAN: u8 = 0x56;
    pub(crate) const USHORT: u8 = 0x60;
    pub(crate) const SHORT: u8 = 0x61;
    pub(crate) const UINT: u8 = 0x70;
    pub(crate) const INT: u8 = 0x71;
    pub(crate) const FLOAT: u8 = 0x72;
    pub(crate) const CHAR: u8 = 0x73;
    pub(crate) const DECIMAL32: u8 = 0x74;
    pub(crate) const ULONG: u8 = 0x80;
    pub(crate) const LONG: u8 = 0x81;
    pub(crate) const DOUBLE: u8 = 0x82;
    pub(crate) const TIMESTAMP: u8 = 0x83;
    pub(crate) const DECIMAL64: u8 = 0x84;
    pub(crate) const DECIMAL128: u8 = 0x94;
    pub(crate) const UUID: u8 = 0x98;
    pub(crate) const BINARY8: u8 = 0xA0;
    pub(crate) const STRING8: u8 = 0xA1;
    pub(crate) const SYMBOL8: u8 = 0xA3;
    pub(crate) const BINARY32: u8 = 0xB0;
    pub(crate) const STRING32: u8 = 0xB1;
    pub(crate) const SYMBOL32: u8 = 0xB3;
    pub(crate) const LIST8: u8 = 0xC0;
    pub(crate) const MAP8: u8 = 0xC1;
    pub(crate) const LIST32: u8 = 0xD0;
    pub(crate) const MAP32: u8 = 0xD1;
    pub(crate) const ARRAY8: u8 = 0xE0;
    pub(crate) const ARRAY32: u8 = 0xF0;
}

/// Why octets are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The octets end before the value does. While a frame is still arriving this only means: wait.
    #[error("octets end within a value")]
    Truncated,
    /// A format code that AMQP 1.0 does not define.
    #[error("unknown format code {0:#04x}")]
    UnknownCode(u8),
    /// A value of another type than this field has.
    #[error("expected {expected}, found format code {found:#04x}")]
    WrongType {
        /// What the field holds.
        expected: &'static str,
        /// What came.
        found: u8,
    },
    /// A described value of another kind.
    #[error("unexpected descriptor {0:#x}")]
    UnexpectedDescriptor(u64),
    /// A field that must be there is null or absent.
    #[error("mandatory field {0} is missing")]
    Missing(&'static str),
    /// Values nest deeper than [`MAX_VALUE_DEPTH`](super::limits::MAX_VALUE_DEPTH).
    #[error("values nest too deep")]
    TooDeep,
    /// Anything else the specification forbids.
    #[error("malformed {0}")]
    Malformed(&'static str),
}

/// Reads AMQP values off the front of a slice.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

/// A type that can be read from its AMQP encoding.
pub trait Decode<'a>: Sized {
    /// Reads one value, constructor included.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] if the octets end first; the reader is then of no further use.
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;
}

/// A type that can be written as AMQP, in its shortest form.
pub trait Encode {
    /// Appends the encoding, constructor included.
    fn encode(&self, out: &mut Vec<u8>);
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many octets have not been read yet.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Reads the next octets as they are.
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (&byte, rest) = self.bytes.split_first().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(byte)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (array, rest) = self.bytes.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*array)
    }

    /// Octets behind a binary, string or symbol constructor.
    pub(crate) fn variable(&mut self, constructor: u8) -> Result<&'a [u8], DecodeError> {
        let length = match constructor {
            code::BINARY8 | code::STRING8 | code::SYMBOL8 => self.byte()?.into(),
            _ => u32::from_be_bytes(self.array()?) as usize,
        };
        self.take(length)
    }

    pub(crate) fn text(&mut self, constructor: u8) -> Result<&'a str, DecodeError> {
        let octets = self.variable(constructor)?;
        let text = str::from_utf8(octets).map_err(|_| DecodeError::Malformed("UTF-8"))?;
        let is_symbol = matches!(constructor, code::SYMBOL8 | code::SYMBOL32);
        if is_symbol && !text.is_ascii() {
            return Err(DecodeError::Malformed("symbol"));
        }
        Ok(text)
    }

    /// The elements behind a list, map or array constructor, and how many there are.
    pub(crate) fn compound(&mut self, constructor: u8) -> Result<(Self, usize), DecodeError> {
        let (size, count, width) = match constructor {
            code::LIST0 => return Ok((Self::new(&[]), 0)),
            code::LIST8 | code::MAP8 | code::ARRAY8 => {
                let [size, count] = self.array()?;
                (usize::from(size), usize::from(count), 1)
            }
            _ => {
                let size = u32::from_be_bytes(self.array()?) as usize;
                (size, u32::from_be_bytes(self.array()?) as usize, 4)
            }
        };
        let size = size.checked_sub(width).ok_or(DecodeError::Malformed("compound size"))?;
        Ok((Self::new(self.take(size)?), count))
    }

    /// The error if something is left.
    pub(crate) fn finish(&self) -> Result<(), DecodeError> {
        if self.is_empty() { Ok(()) } else { Err(DecodeError::Malformed("compound size")) }
    }

    /// Passes over one value of any type and returns its octets, constructor included.
    pub(crate) fn skip(&mut self) -> Result<&'a [u8], DecodeError> {
        let start = self.bytes;
        let mut constructor = self.byte()?;
        while constructor == code::DESCRIBED {
            // A descriptor that is itself described nests; `Value` bounds that, and nobody sends it.
            if self.bytes.first() == Some(&code::DESCRIBED) {
                return Err(DecodeError::TooDeep);
            }
            self.skip()?;
            constructor = self.byte()?;
        }
        self.skip_body(constructor)?;
        Ok(&start[..start.len() - self.bytes.len()])
    }

    fn skip_body(&mut self, constructor: u8) -> Result<(), DecodeError> {
        // The high half of a format code gives the width of what follows (AMQP 1.0 §1.2.2).
        let length = match constructor >> 4 {
            0x4 => 0,
            0x5 => 1,
            0x6 => 2,
            0x7 => 4,
            0x8 => 8,
            0x9 => 16,
            0xA | 0xC | 0xE => self.byte()?.into(),
            0xB | 0xD | 0xF => u32::from_be_bytes(self.array()?) as usize,
            _ => return Err(DecodeError::UnknownCode(constructor)),
        };
        self.take(length).map(drop)
    }

    /// The descriptor of a described value, as the number the specification gives it.
    pub(crate) fn descriptor(&mut self) -> Result<u64, DecodeError> {
        match self.byte()? {
            code::DESCRIBED => match self.bytes.first() {
                Some(&(code::SYMBOL8 | code::SYMBOL32)) => {
                    let constructor = self.byte()?;
                    let name = self.text(constructor)?;
                    descriptor_number(name).ok_or(DecodeError::Malformed("descriptor"))
                }
                _ => u64::decode(self),
            },
            found => Err(DecodeError::WrongType { expected: "a described value", found }),
        }
    }

    /// The fields of a described list, whatever its descriptor, which is returned with them.
    pub(crate) fn described_list(&mut self) -> Result<(u64, Fields<'a>), DecodeError> {
        let descriptor = self.descriptor()?;
        Ok((descriptor, self.fields()?))
    }

    /// The fields of a list.
    pub(crate) fn fields(&mut self) -> Result<Fields<'a>, DecodeError> {
        match self.byte()? {
            constructor @ (code::LIST0 | code::LIST8 | code::LIST32) => {
                let (items, count) = self.compound(constructor)?;
                Ok(Fields { items, left: count })
            }
            found => Err(DecodeError::WrongType { expected: "a list", found }),
        }
    }

    /// The pairs of a map, two values each.
    pub(crate) fn map(&mut self) -> Result<Fields<'a>, DecodeError> {
        match self.byte()? {
            constructor @ (code::MAP8 | code::MAP32) => {
                let (items, count) = self.compound(constructor)?;
                Ok(Fields { items, left: count })
            }
            found => Err(DecodeError::WrongType { expected: "a map", found }),
        }
    }
}

/// Symbolic descriptors (AMQP 1.0 allows them beside the numbers; hardly anyone sends them).
fn descriptor_number(name: &str) -> Option<u64> {
    let names = [
        ("amqp:open:list", 0x10),
        ("amqp:begin:list", 0x11),
        ("amqp:attach:list", 0x12),
        ("amqp:flow:list", 0x13),
        ("amqp:transfer:list", 0x14),
        ("amqp:disposition:list", 0x15),
        ("amqp:detach:list", 0x16),
        ("amqp:end:list", 0x17),
        ("amqp:close:list", 0x18),
        ("amqp:error:list", 0x1d),
        ("amqp:received:list", 0x23),
        ("amqp:accepted:list", 0x24),
        ("amqp:rejected:list", 0x25),
        ("amqp:released:list", 0x26),
        ("amqp:modified:list", 0x27),
        ("amqp:source:list", 0x28),
        ("amqp:target:list", 0x29),
        ("amqp:sasl-mechanisms:list", 0x40),
        ("amqp:sasl-init:list", 0x41),
        ("amqp:sasl-challenge:list", 0x42),
        ("amqp:sasl-response:list", 0x43),
        ("amqp:sasl-outcome:list", 0x44),
        ("amqp:header:list", 0x70),
        ("amqp:delivery-annotations:map", 0x71),
        ("amqp:message-annotations:map", 0x72),
        ("amqp:properties:list", 0x73),
        ("amqp:application-properties:map", 0x74),
        ("amqp:data:binary", 0x75),
        ("amqp:amqp-sequence:list", 0x76),
        ("amqp:amqp-value:*", 0x77),
        ("amqp:footer:map", 0x78),
    ];
    names.iter().find(|(text, _)| *text == name).map(|(_, number)| *number)
}

/// How far a performative reaches into a frame that is still arriving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// It ends after this many octets, which may be more than there are yet.
    Known(usize),
    /// At least this many octets are needed to tell.
    NeedsMore(usize),
}

/// Finds the end of the described list at the start of `bytes` from its first octets.
pub(crate) fn described_extent(bytes: &[u8]) -> Result<Extent, DecodeError> {
    let mut reader = Reader::new(bytes);
    let extent = |reader: &mut Reader<'_>| {
        reader.descriptor()?;
        match reader.byte()? {
            code::LIST0 => Ok(0),
            code::LIST8 => Ok(usize::from(reader.byte()?)),
            code::LIST32 => Ok(u32::from_be_bytes(reader.array()?) as usize),
            found => Err(DecodeError::WrongType { expected: "a list", found }),
        }
    };
    match extent(&mut reader) {
        Ok(size) if size > MAX_PERFORMATIVE_BYTES => Err(DecodeError::Malformed("performative size")),
        Ok(size) => Ok(Extent::Known(bytes.len() - reader.len() + size)),
        Err(DecodeError::Truncated) => Ok(Extent::NeedsMore(bytes.len() + 1)),
        Err(error) => Err(error),
    }
}

/// The fields of a list, or the keys and values of a map, one after the other. Those left out at the end read as null.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    items: Reader<'a>,
    left: usize,
}

impl<'a> Fields<'a> {
    /// How many fields have not been read.
    pub fn left(&self) -> usize {
        self.left
    }

    /// The next field; `None` if it is null or left out.
    ///
    /// # Errors
    /// As [`Decode::decode`].
    pub fn optional<T: Decode<'a>>(&mut self) -> Result<Option<T>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        if self.items.bytes.first() == Some(&code::NULL) {
            self.items.byte()?;
            return Ok(None);
        }
        T::decode(&mut self.items).map(Some).map_err(truncated_within)
    }

    /// The next field, which must be there.
    ///
    /// # Errors
    /// [`DecodeError::Missing`] with `name`; else as [`Decode::decode`].
    pub fn mandatory<T: Decode<'a>>(&mut self, name: &'static str) -> Result<T, DecodeError> {
        self.optional()?.ok_or(DecodeError::Missing(name))
    }

    /// The next field, or the type's own default.
    ///
    /// # Errors
    /// As [`Decode::decode`].
    pub fn or_default<T: Decode<'a> + Default>(&mut self) -> Result<T, DecodeError> {
        Ok(self.optional()?.unwrap_or_default())
    }

    /// The octets of the fields not read yet.
    pub(crate) fn octets(&self) -> &'a [u8] {
        self.items.bytes
    }

    /// Passes over the next field: its octets, none if it is left out.
    pub(crate) fn skip(&mut self) -> Result<&'a [u8], DecodeError> {
        if self.left == 0 {
            return Ok(&[]);
        }
        self.left -= 1;
        self.items.skip().map_err(truncated_within)
    }
}

/// Inside a list of known size nothing more will come.
fn truncated_within(error: DecodeError) -> DecodeError {
    match error {
        DecodeError::Truncated => DecodeError::Malformed("list: its elements reach beyond its end"),
        other => other,
    }
}

macro_rules! decode_integer {
    ($type:ty, $expected:literal, $wide:path $(, $small:path)? $(; $zero:path)?) => {
        impl<'a> Decode<'a> for $type {
            fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                match reader.byte()? {
                    $wide => Ok(Self::from_be_bytes(reader.array()?)),
                    $($small => small(reader),)?
                    $($zero => Ok(0),)?
                    found => Err(DecodeError::WrongType { expected: $expected, found }),
                }
            }
        }
    };
}

fn small<T: Small>(reader: &mut Reader<'_>) -> Result<T, DecodeError> {
    Ok(T::widen(reader.byte()?))
}

trait Small {
    fn widen(byte: u8) -> Self;
}

impl Small for u32 {
    fn widen(byte: u8) -> Self {
        byte.into()
    }
}

impl Small for u64 {
    fn widen(byte: u8) -> Self {
        byte.into()
    }
}

impl Small for i32 {
    fn widen(byte: u8) -> Self {
        byte.cast_signed().into()
    }
}

impl Small for i64 {
    fn widen(byte: u8) -> Self {
        byte.cast_signed().into()
    }
}

decode_integer!(u8, "a ubyte", code::UBYTE);
decode_integer!(u16, "a ushort", code::USHORT);
decode_integer!(u32, "a uint", code::UINT, code::SMALLUINT; code::UINT0);
decode_integer!(u64, "a ulong", code::ULONG, code::SMALLULONG; code::ULONG0);
decode_integer!(i32, "an int", code::INT, code::SMALLINT);
decode_integer!(i64, "a long", code::LONG, code::SMALLLONG);

impl<'a> Decode<'a> for bool {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match reader.byte()? {
            code::TRUE => Ok(true),
            code::FALSE => Ok(false),
            code::BOOLEAN => match reader.byte()? {
                0 => Ok(false),
                1 => Ok(true),
                _ => Err(DecodeError::Malformed("boolean")),
            },
            found => Err(DecodeError::WrongType { expected: "a boolean", found }),
        }
    }
}

/// Octets.
impl<'a> Decode<'a> for &'a [u8] {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match reader.byte()? {
            constructor @ (code::BINARY8 | code::BINARY32) => reader.variable(constructor),
            found => Err(DecodeError::WrongType { expected: "a binary", found }),
        }
    }
}

/// The text of a string or of a symbol: peers mix the two.
impl<'a> Decode<'a> for &'a str {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match reader.byte()? {
            constructor @ (code::STRING8 | code::STRING32 | code::SYMBOL8 | code::SYMBOL32) => reader.text(constructor),
            found => Err(DecodeError::WrongType { expected: "a string", found }),
        }
    }
}

impl<'a> Decode<'a> for String {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        <&str>::decode(reader).map(str::to_owned)
    }
}

impl<'a> Decode<'a> for Symbol {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        <&str>::decode(reader).and_then(symbol)
    }
}

/// A symbol may come as a string, but what it says must be one.
fn symbol(text: &str) -> Result<Symbol, DecodeError> {
    if text.is_ascii() { Ok(text.into()) } else { Err(DecodeError::Malformed("symbol")) }
}

/// A `multiple="true"` field: one symbol, or an array of them.
impl<'a> Decode<'a> for Vec<Symbol> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        if !matches!(reader.bytes.first(), Some(&(code::ARRAY8 | code::ARRAY32))) {
            return Ok(vec![Symbol::decode(reader)?]);
        }
        let constructor = reader.byte()?;
        let (mut items, count) = reader.compound(constructor)?;
        let constructor = items.byte()?;
        let is_text = matches!(constructor, code::SYMBOL8 | code::SYMBOL32 | code::STRING8 | code::STRING32);
        if count > 0 && !is_text {
            return Err(DecodeError::WrongType { expected: "an array of symbols", found: constructor });
        }
        (0..count).map(|_| items.text(constructor).and_then(symbol).map_err(truncated_within)).collect()
    }
}

impl Encode for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(if *self { code::TRUE } else { code::FALSE });
    }
}

impl Encode for u8 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[code::UBYTE, *self]);
    }
}

impl Encode for i8 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[code::BYTE, self.cast_unsigned()]);
    }
}

impl Encode for u16 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(code::USHORT);
        out.extend_from_slice(&self.to_be_bytes());
    }
}

impl Encode for i16 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(code::SHORT);
        out.extend_from_slice(&self.to_be_bytes());
    }
}

impl Encode for u32 {
    fn encode(&self, out: &mut Vec<u8>) {
        match u8::try_from(*self) {
            Ok(0) => out.push(code::UINT0),
            Ok(byte) => out.extend_from_slice(&[code::SMALLUINT, byte]),
            Err(_) => {
                out.push(code::UINT);
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
    }
}

impl Encode for u64 {
    fn encode(&self, out: &mut Vec<u8>) {
        match u8::try_from(*self) {
            Ok(0) => out.push(code::ULONG0),
            Ok(byte) => out.extend_from_slice(&[code::SMALLULONG, byte]),
            Err(_) => {
                out.push(code::ULONG);
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
    }
}

impl Encode for i32 {
    fn encode(&self, out: &mut Vec<u8>) {
        match i8::try_from(*self) {
            Ok(byte) => out.extend_from_slice(&[code::SMALLINT, byte.cast_unsigned()]),
            Err(_) => {
                out.push(code::INT);
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
    }
}

impl Encode for i64 {
    fn encode(&self, out: &mut Vec<u8>) {
        match i8::try_from(*self) {
            Ok(byte) => out.extend_from_slice(&[code::SMALLLONG, byte.cast_unsigned()]),
            Err(_) => {
                out.push(code::LONG);
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
    }
}

impl Encode for [u8] {
    fn encode(&self, out: &mut Vec<u8>) {
        put_variable(out, code::BINARY8, self);
    }
}

impl Encode for str {
    fn encode(&self, out: &mut Vec<u8>) {
        put_variable(out, code::STRING8, self.as_bytes());
    }
}

impl Encode for String {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_str().encode(out);
    }
}

impl Encode for Symbol {
    fn encode(&self, out: &mut Vec<u8>) {
        put_variable(out, code::SYMBOL8, self.as_str().as_bytes());
    }
}

/// An array of symbols, as capabilities are written.
impl Encode for [Symbol] {
    fn encode(&self, out: &mut Vec<u8>) {
        put_array(out, self.len(), |out| {
            let is_short = self.iter().all(|symbol| symbol.as_str().len() < 256);
            out.push(if is_short { code::SYMBOL8 } else { code::SYMBOL32 });
            for symbol in self {
                let text = symbol.as_str().as_bytes();
                if is_short {
                    out.push(text.len() as u8);
                } else {
                    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
                }
                out.extend_from_slice(text);
            }
        });
    }
}

impl<T: Encode + ?Sized> Encode for &T {
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }
}

impl<T: Encode> Encode for Option<T> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.encode(out),
            None => out.push(code::NULL),
        }
    }
}

/// Binary, string or symbol: `short` is the constructor of its one-octet length, the other one lies 0x10 above.
fn put_variable(out: &mut Vec<u8>, short: u8, octets: &[u8]) {
    match u8::try_from(octets.len()) {
        Ok(length) => out.extend_from_slice(&[short, length]),
        Err(_) => {
            out.push(short + 0x10);
            out.extend_from_slice(&(octets.len() as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(octets);
}

/// A list of values.
pub(crate) fn encode_list<T: Encode>(out: &mut Vec<u8>, items: &[T]) {
    if items.is_empty() {
        return out.push(code::LIST0);
    }
    put_list(out, items.len(), |out| items.iter().for_each(|item| item.encode(out)));
}

/// A list of `count` values, which `body` writes.
pub(crate) fn put_list(out: &mut Vec<u8>, count: usize, body: impl FnOnce(&mut Vec<u8>)) {
    put_compound(out, code::LIST8, count, body);
}

/// A map, its pairs in the order given.
pub(crate) fn encode_map<K: Encode, V: Encode>(out: &mut Vec<u8>, pairs: impl ExactSizeIterator<Item = (K, V)>) {
    put_compound(out, code::MAP8, pairs.len() * 2, |out| {
        for (key, value) in pairs {
            key.encode(out);
            value.encode(out);
        }
    });
}

/// An array of `count` elements; `body` writes their constructor and then each without it.
pub(crate) fn put_array(out: &mut Vec<u8>, count: usize, body: impl FnOnce(&mut Vec<u8>)) {
    put_compound(out, code::ARRAY8, count, body);
}

/// A list, map or array. `short` is the constructor of its one-octet form, the four-octet one lies 0x10 above.
pub(crate) fn put_compound(out: &mut Vec<u8>, short: u8, count: usize, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[short, 0, 0]);
    body(out);
    close_compound(out, start, count);
}

/// Writes size and count of the compound whose one-octet header stands at `start`, widening it if they do not fit.
fn close_compound(out: &mut Vec<u8>, start: usize, count: usize) {
    let body = out.len() - start - 3;
    if body + 1 < 256 && count < 256 {
        out[start + 1] = (body + 1) as u8;
        out[start + 2] = count as u8;
        return;
    }
    let wide = [(body as u32 + 4).to_be_bytes(), (count as u32).to_be_bytes()].concat();
    out[start] += 0x10;
    out.splice(start + 1..start + 3, wide);
}

/// Writes a described list field by field; nulls at its end are left out.
#[derive(Debug)]
pub struct Composer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    count: usize,
    nulls: usize,
}

impl<'a> Composer<'a> {
    /// Starts a described list.
    pub fn described(out: &'a mut Vec<u8>, descriptor: u64) -> Self {
        out.push(code::DESCRIBED);
        descriptor.encode(out);
        Self::list(out)
    }

    /// Starts a list.
    pub fn list(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[code::LIST8, 0, 0]);
        Self { out, start, count: 0, nulls: 0 }
    }

    /// Writes the next field.
    pub fn field(&mut self, value: &(impl Encode + ?Sized)) -> &mut Self {
        value.encode(self.place());
        self
    }

    /// Writes the next field, or null.
    pub fn optional(&mut self, value: Option<&(impl Encode + ?Sized)>) -> &mut Self {
        match value {
            Some(value) => self.field(value),
            None => self.null(),
        }
    }

    /// Writes null as the next field.
    pub fn null(&mut self) -> &mut Self {
        self.nulls += 1;
        self
    }

    /// Writes the field unless it is what the specification takes for null.
    pub fn unless_default<T: Encode + Default + PartialEq>(&mut self, value: &T) -> &mut Self {
        self.optional((*value != T::default()).then_some(value))
    }

    /// Where the next field goes, for a writer of its own.
    pub(crate) fn place(&mut self) -> &mut Vec<u8> {
        for _ in 0..self.nulls {
            self.out.push(code::NULL);
        }
        self.count += self.nulls + 1;
        self.nulls = 0;
        self.out
    }

    /// Ends the list.
    pub fn end(&mut self) {
        if self.count == 0 {
            self.out.truncate(self.start);
            return self.out.push(code::LIST0);
        }
        close_compound(self.out, self.start, self.count);
    }
}
