//! Values and performatives: what is read, written down and read again is the same.

use std::fmt::Debug;

use van_core::amqp::{Decode, DecodeError, Encode, Performative, Reader, Value};

/// Descriptors of performatives (AMQP 1.0 §2.7).
const PERFORMATIVES: std::ops::RangeInclusive<u64> = 0x10..=0x18;

/// A value of any type. Its outer header is the constructor, with a size that the octets have.
pub(crate) fn values(octets: &[u8]) -> bool {
    let value = round_trip::<Value>(octets);
    if let Ok(value) = &value {
        // Readers of what peers say must live with any value.
        let _ = (value.as_text(), value.as_integer(), value.entry("id"));
    }
    let has_size = extent(octets).is_some_and(|extent| extent <= octets.len());
    assert!(has_size || value.is_err(), "read beyond the end");
    has_size
}

/// A performative as it stands in a frame.
pub(crate) fn performatives(octets: &[u8]) -> bool {
    let outcome = round_trip::<Performative>(octets);
    let is_known = descriptor(octets).is_some_and(|descriptor| PERFORMATIVES.contains(&descriptor));
    assert!(is_known || outcome.is_err(), "read what is no performative");
    is_known
}

/// Reads a value, writes it down and reads it again.
fn round_trip<T>(octets: &[u8]) -> Result<T, DecodeError>
where
    T: for<'a> Decode<'a> + Encode + Clone + PartialEq + Debug,
{
    let value = T::decode(&mut Reader::new(octets))?;
    let written = write(&value);
    let mut reader = Reader::new(&written);
    let again = T::decode(&mut reader).expect("what we write can be read");
    assert!(reader.is_empty(), "{} octets are left of what we wrote", reader.len());
    // Not a number is not even equal to itself.
    assert!(again == value || value.clone() != value, "{value:?} became {again:?}");
    assert_eq!(write(&again), written);
    Ok(value)
}

fn write(value: &impl Encode) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode(&mut out);
    out
}

/// How long a value claims to be by its constructor (AMQP 1.0 §1.2.2); of a described one that much is seen at once.
fn extent(octets: &[u8]) -> Option<usize> {
    let (constructor, rest) = octets.split_first()?;
    let size = match constructor >> 4 {
        0x0 if *constructor == 0 => 2,
        0x4 => 0,
        0x5 => 1,
        0x6 => 2,
        0x7 => 4,
        0x8 => 8,
        0x9 => 16,
        0xA | 0xC | 0xE => 1 + usize::from(*rest.first()?),
        0xB | 0xD | 0xF => 4 + u32::from_be_bytes(*rest.first_chunk()?) as usize,
        _ => return None,
    };
    Some(1 + size)
}

/// The number that a described value begins with. (Hardly anyone writes the name instead, and the corpus does not.)
pub(crate) fn descriptor(octets: &[u8]) -> Option<u64> {
    let number = octets.strip_prefix(&[0])?;
    u64::decode(&mut Reader::new(number)).ok()
}
