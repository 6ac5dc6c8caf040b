//! Octets that came and could not leave yet. They are bounded by the windows of those who send them.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

/// Small pieces are gathered into chunks of this size.
const CHUNK_OCTETS: usize = 16_384;

/// A queue of octets. Mostly nothing waits, and then it takes up nothing.
#[derive(Debug, Default)]
pub(crate) struct Parked(Option<Box<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Bytes>,
    /// What still grows; always behind the chunks.
    tail: BytesMut,
    octets: usize,
}

impl Parked {
    /// How many octets wait.
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.octets)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies octets in.
    pub(crate) fn copy(&mut self, octets: &[u8]) {
        if octets.is_empty() {
            return;
        }
        let queue = self.0.get_or_insert_default();
        if queue.tail.len() + octets.len() > CHUNK_OCTETS {
            queue.close_tail();
        }
        queue.tail.extend_from_slice(octets);
        queue.octets += octets.len();
    }

    /// Puts a chunk in as it is.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        let queue = self.0.get_or_insert_default();
        queue.close_tail();
        queue.octets += chunk.len();
        queue.chunks.push_back(chunk);
    }

    /// The pieces at the front, at most `max` of them.
    pub(crate) fn pieces(&self, max: usize) -> impl Iterator<Item = &[u8]> {
        self.0.iter().flat_map(|queue| queue.pieces()).take(max)
    }

    /// Takes `count` octets off the front.
    pub(crate) fn consume(&mut self, count: usize) {
        if let Some(queue) = &mut self.0 {
            queue.consume(count);
            self.0.take_if(|queue| queue.octets == 0); // gives the memory back
        }
    }
}

impl Queue {
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let tail = (!self.tail.is_empty()).then_some(&*self.tail);
        self.chunks.iter().map(|chunk| &**chunk).chain(tail)
    }

    fn consume(&mut self, mut count: usize) {
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
