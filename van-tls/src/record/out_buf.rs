//! What is to be written next.

use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;

use bytes::Buf;

/// A queue of sealed records, each in the memory it was sealed in: what [`RecordLayer`](super::RecordLayer) appends
/// to and a socket takes from.
///
/// Through [`Buf`] it gives the slices for one `writev`, and learns how much of them was written.
#[derive(Default)]
pub struct OutBuf {
    records: VecDeque<Vec<u8>>,
    /// How much of the first record is written.
    written: usize,
    len: usize,
}

impl OutBuf {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends octets that are ready to be written, without copying them.
    pub fn push(&mut self, record: Vec<u8>) {
        if !record.is_empty() {
            self.len += record.len();
            self.records.push_back(record);
        }
    }
}

impl Buf for OutBuf {
    fn remaining(&self) -> usize {
        self.len
    }

    fn chunk(&self) -> &[u8] {
        self.records.front().map_or(&[], |record| &record[self.written..])
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let first = std::iter::once(self.chunk()).filter(|chunk| !chunk.is_empty());
        let others = self.records.iter().skip(1).map(Vec::as_slice);
        let filled = slices.iter_mut().zip(first.chain(others));
        filled.map(|(slice, chunk)| *slice = IoSlice::new(chunk)).count()
    }

    fn advance(&mut self, octets: usize) {
        assert!(octets <= self.len, "more was written than there is");
        self.len -= octets;
        self.written += octets;
        while let Some(record) = self.records.front()
            && self.written >= record.len()
        {
            self.written -= record.len();
            self.records.pop_front();
        }
    }
}

/// Sizes only: without TLS the contents are somebody's payload.
impl fmt::Debug for OutBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutBuf").field("records", &self.records.len()).field("octets", &self.len).finish()
    }
}
