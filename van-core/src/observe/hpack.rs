//! Headers of HTTP/2 as HPACK packs them (RFC 7541), read for the few that an observer wants. The table of the sender is kept
//! without its texts: of most headers only their size matters.

use std::collections::VecDeque;

use super::{Lost, cut, first_address};

/// What one end's headers are read with.
#[derive(Debug)]
pub(super) struct Hpack {
    /// The dynamic table, the latest entry first.
    table: VecDeque<Entry>,
    size: usize,
    max_size: usize,
    /// What the other end allows.
    allowed: usize,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    field: Field,
    name_octets: usize,
    size: usize,
}

/// A header that an observer wants, or another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Method(Box<str>),
    Status(u16),
    ForwardedFor(Box<str>),
    Other,
}

/// Names that matter, and the rest by its length.
#[derive(Debug, Clone, Copy)]
enum Name {
    Method,
    Status,
    ForwardedFor,
    Other,
}

/// The size of a table before anybody says otherwise (RFC 9113 §6.5.2).
const DEFAULT_TABLE_BYTES: usize = 4096;

/// The largest that an observer keeps; it gives up if one grows beyond.
const MAX_TABLE_BYTES: usize = 65_536;

/// What an entry counts beside its octets (RFC 7541 §4.1).
const ENTRY_OVERHEAD: usize = 32;

impl Default for Hpack {
    fn default() -> Self {
        Self {
            table: VecDeque::new(),
            size: 0,
            max_size: DEFAULT_TABLE_BYTES,
            allowed: DEFAULT_TABLE_BYTES,
            scratch: Vec::new(),
        }
    }
}

impl Hpack {
    /// The other end allows a table of so many octets.
    pub(super) fn allow(&mut self, octets: u32) {
        self.allowed = octets as usize;
    }

    /// Reads a whole block of headers.
    pub(super) fn read(&mut self, mut block: &[u8], mut each: impl FnMut(&Field)) -> Result<(), Lost> {
        while let Some(first) = block.first().copied() {
            match first {
                0x80.. => {
                    let index = integer(&mut block, 7)?;
                    match STATIC.get(index.wrapping_sub(1)) {
                        Some((name, value)) => each(&Field::new(Name::of(name.as_bytes()), value.as_bytes())),
                        None => each(&self.dynamic(index)?.field),
                    }
                }
                0x40.. => {
                    let entry = self.literal(&mut block, 6)?;
                    each(&entry.field);
                    self.insert(entry);
                }
                0x20.. => {
                    self.max_size = integer(&mut block, 5)?;
                    if self.max_size > self.allowed.min(MAX_TABLE_BYTES) {
                        return Err(Lost);
                    }
                    self.evict();
                }
                _ => each(&self.literal(&mut block, 4)?.field),
            }
        }
        Ok(())
    }

    fn dynamic(&self, index: usize) -> Result<&Entry, Lost> {
        index.checked_sub(STATIC.len() + 1).and_then(|place| self.table.get(place)).ok_or(Lost)
    }

    /// A header whose value stands here, and its name here or in a table.
    fn literal(&mut self, block: &mut &[u8], prefix: u32) -> Result<Entry, Lost> {
        let (name, name_octets) = match integer(block, prefix)? {
            0 => {
                string(block, &mut self.scratch)?;
                (Name::of(&self.scratch), self.scratch.len())
            }
            index => match STATIC.get(index - 1) {
                Some((name, _)) => (Name::of(name.as_bytes()), name.len()),
                None => self.dynamic(index).map(|entry| (entry.field.name(), entry.name_octets))?,
            },
        };
        string(block, &mut self.scratch)?;
        let size = name_octets + self.scratch.len() + ENTRY_OVERHEAD;
        Ok(Entry { field: Field::new(name, &self.scratch), name_octets, size })
    }

    fn insert(&mut self, entry: Entry) {
        self.size += entry.size;
        self.table.push_front(entry);
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.max_size
            && let Some(entry) = self.table.pop_back()
        {
            self.size -= entry.size;
        }
    }
}

impl Name {
    fn of(name: &[u8]) -> Self {
        match name {
            b":method" => Self::Method,
            b":status" => Self::Status,
            b"x-forwarded-for" => Self::ForwardedFor,
            _ => Self::Other,
        }
    }
}

impl Field {
    fn new(name: Name, value: &[u8]) -> Self {
        let status = || std::str::from_utf8(value).ok()?.parse().ok();
        match name {
            Name::Method => Self::Method(cut(value).into()),
            Name::Status => status().map_or(Self::Other, Self::Status),
            Name::ForwardedFor => first_address(value).map_or(Self::Other, |first| Self::ForwardedFor(first.into())),
            Name::Other => Self::Other,
        }
    }

    fn name(&self) -> Name {
        match self {
            Self::Method(_) => Name::Method,
            Self::Status(_) => Name::Status,
            Self::ForwardedFor(_) => Name::ForwardedFor,
            Self::Other => Name::Other,
        }
    }
}

/// A number that begins in the lower bits of an octet (RFC 7541 §5.1).
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, Lost> {
    /// Enough for any index and any length of a block.
    const MAX_OCTETS: u32 = 4;
    let mut take = || block.split_off_first().copied().ok_or(Lost);
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(take()?) & mask;
    if value < mask {
        return Ok(value);
    }
    for place in 0..MAX_OCTETS {
        let octet = take()?;
        value += usize::from(octet & 0x7f) << (7 * place);
        if octet & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Lost)
}

/// A text, as it is or in the Huffman code (RFC 7541 §5.2).
fn string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), Lost> {
    let is_huffman = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(block, 7)?;
    let octets = block.split_off(..length).ok_or(Lost)?;
    out.clear();
    match is_huffman {
        true => HUFFMAN.decode(octets, out),
        false => {
            out.extend_from_slice(octets);
            Ok(())
        }
    }
}

/// The code of RFC 7541, appendix B. It is canonical: ordered by length, then by symbol, codes count up. So the lengths say
/// all.
struct Huffman {
    /// Of each length: the first code, and the place of its symbol.
    first: [(u32, u16); MAX_CODE_BITS + 2],
    /// Symbols by their codes.
    symbols: [u16; LENGTHS.len()],
}

const MAX_CODE_BITS: usize = 30;

/// The symbol that ends a text and must not occur.
const END_OF_STRING: u16 = 256;

static HUFFMAN: Huffman = Huffman::new();

impl Huffman {
    const fn new() -> Self {
        let mut first = [(0, 0); MAX_CODE_BITS + 2];
        let mut symbols = [0; LENGTHS.len()];
        let (mut length, mut code, mut place) = (1, 0, 0);
        while length <= MAX_CODE_BITS {
            first[length] = (code, place as u16);
            let mut symbol = 0;
            while symbol < LENGTHS.len() {
                if LENGTHS[symbol] as usize == length {
                    symbols[place] = symbol as u16;
                    (code, place) = (code + 1, place + 1);
                }
                symbol += 1;
            }
            (length, code) = (length + 1, code << 1);
        }
        first[length] = (code, place as u16);
        Self { first, symbols }
    }

    fn decode(&self, octets: &[u8], out: &mut Vec<u8>) -> Result<(), Lost> {
        let (mut code, mut length) = (0_u32, 0);
        for octet in octets {
            for bit in (0..8).rev() {
                (code, length) = (code << 1 | u32::from(octet >> bit & 1), length + 1);
                let (first, place) = self.first[length];
                let count = u32::from(self.first[length + 1].1 - place);
                if code >= first && code - first < count {
                    match self.symbols[usize::from(place) + (code - first) as usize] {
                        END_OF_STRING => return Err(Lost),
                        symbol => out.push(symbol as u8),
                    }
                    (code, length) = (0, 0);
                } else if length == MAX_CODE_BITS {
                    return Err(Lost);
                }
            }
        }
        // Padding is less than an octet of ones.
        if length < 8 && code == (1 << length) - 1 { Ok(()) } else { Err(Lost) }
    }
}

/// Bits of each symbol's code. Source: RFC 7541, appendix B.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The static table: names, and the values that an observer wants. Source: RFC 7541, appendix A.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", ""), (":path", ""), (":scheme", ""), (":scheme", ""),
    (":status", "200"), (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"), (":status", "404"),
    (":status", "500"), ("accept-charset", ""), ("accept-encoding", ""), ("accept-language", ""), ("accept-ranges", ""),
    ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""), ("referer", ""),
    ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""), ("strict-transport-security", ""),
    ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""), ("www-authenticate", ""),
];
