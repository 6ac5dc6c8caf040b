//! Octets that came and could not leave yet. They are bounded by the windows of those who send them.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// Small pieces are gathered into chunks of this size.
const CHUNK_OCTETS: usize = 16_384;

/// A queue of octets.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    chunks: VecDeque<Bytes>,
    /// What still grows; always behind the chunks.
    tail: BytesMut,
    octets: usize,
}

impl Parked {
    /// How many octets wait.
    pub(crate) fn len(&self) -> usize {
        self.octets
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.octets == 0
    }

    /// Copies octets in.
    pub(crate) fn copy(&mut self, octets: &[u8]) {
        if self.tail.len() + octets.len() > CHUNK_OCTETS {
            self.close_tail();
        }
        self.tail.extend_from_slice(octets);
        self.octets += octets.len();
    }

    /// Puts a chunk in as it is.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.close_tail();
        self.octets += chunk.len();
        self.chunks.push_back(chunk);
    }

    /// The pieces at the front, at most `max` of them.
    pub(crate) fn pieces(&self, max: usize) -> impl Iterator<Item = &[u8]> {
        let tail = (!self.tail.is_empty()).then_some(&*self.tail);
        self.chunks.iter().map(|chunk| &**chunk).chain(tail).take(max)
    }

    /// Takes `count` octets off the front.
    pub(crate) fn consume(&mut self, mut count: usize) {
        self.octets -= count;
        while count > 0 {
            let Some(front) = self.chunks.front_mut() else {
                self.tail.advance(count);
                break;
            };
            let step = count.min(front.len());
            front.advance(step);
            count -= step;
            if front.is_empty() {
                self.chunks.pop_front();
            }
        }
        if self.octets == 0 {
            *self = Self::default(); // gives the memory back
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            let full = std::mem::take(&mut self.tail);
            self.chunks.push_back(full.freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Copy(Vec<u8>),
        Push(Vec<u8>),
        Consume(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let octets = || prop::collection::vec(any::<u8>(), 1..20_000);
        prop::collection::vec(
            prop_oneof![
                octets().prop_map(Step::Copy),
                octets().prop_map(Step::Push),
                (0..50_000_usize).prop_map(Step::Consume),
            ],
            0..30,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn octets_leave_in_the_order_they_came(steps in steps()) {
            let (mut parked, mut model) = (Parked::default(), Vec::new());
            for step in steps {
                match step {
                    Step::Copy(octets) => {
                        parked.copy(&octets);
                        model.extend(octets);
                    }
                    Step::Push(octets) => {
                        model.extend_from_slice(&octets);
                        parked.push(octets.into());
                    }
                    Step::Consume(count) => {
                        let count = count.min(model.len());
                        parked.consume(count);
                        model.drain(..count);
                    }
                }
                prop_assert_eq!(parked.len(), model.len());
                prop_assert_eq!(parked.pieces(usize::MAX).collect::<Vec<_>>().concat(), &*model);
            }
        }
    }
}
