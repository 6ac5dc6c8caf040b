//! Cuts gathered parts into the contents of records.

use rustls::crypto::cipher::OutboundChunks;

use super::MAX_RECORD_PAYLOAD;

/// The contents of one record after the other, borrowed from `parts`.
pub(super) struct Fragments<'a> {
    parts: &'a [&'a [u8]],
    /// How much of the first part is cut already.
    offset: usize,
}

impl<'a> Fragments<'a> {
    pub(super) fn new(parts: &'a [&'a [u8]]) -> Self {
        Self { parts, offset: 0 }
    }
}

impl<'a> Iterator for Fragments<'a> {
    type Item = OutboundChunks<'a>;

    fn next(&mut self) -> Option<OutboundChunks<'a>> {
        let (parts, start) = (self.parts, self.offset);
        let limit = start + MAX_RECORD_PAYLOAD;
        let (mut used, mut end) = (0, 0);
        while end < limit
            && let Some(part) = parts.get(used)
        {
            end += part.len();
            used += 1;
        }
        // A list cut to size: rustls walks all of it for each record.
        let chunks = &parts[..used];
        let surplus = end.saturating_sub(limit);
        if surplus > 0 {
            self.parts = &parts[used - 1..];
            self.offset = chunks[used - 1].len() - surplus;
        } else {
            self.parts = &parts[used..];
            self.offset = 0;
        }
        let end = end - surplus;
        match chunks {
            _ if end == start => None,
            [part] => Some(OutboundChunks::Single(&part[start..end])),
            chunks => Some(OutboundChunks::Multiple { chunks, start, end }),
        }
    }
}
