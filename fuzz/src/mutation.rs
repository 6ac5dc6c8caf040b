//! Inputs that nobody wrote: those of the corpus, damaged.

use std::ops::Range;

use van_core::Random;

use crate::Corpus;

/// The longest input: what a TLS record holds. Longer ones would show the same, but fewer of them in the same time.
pub const MAX_INPUT_BYTES: usize = 16_384;

/// Octets where decoders change their mind: ends of ranges, and AMQP's format codes for what nests or has a length.
const INTERESTING: [u8; 20] = [
    0x00, 0x01, 0x02, 0x08, 0x40, 0x45, 0x53, 0x7F, 0x80, 0xA0, 0xA1, 0xA3, 0xB0, 0xC0, 0xC1, 0xD0, 0xD1, 0xE0, 0xF0,
    0xFF,
];

/// What letters and digits of a text become.
const LETTERS: &[u8] = b"0123456789+-/_ aAeEnNtTzZ";

/// Words where readers of text do.
const WORDS: [&str; 10] =
    ["0", "-1", "65536", "4294967296", "18446744073709551616", "null", "\\u0000", "${HOSTNAME}", "\\u00e9", "AAAA"];

/// Makes one input after the other; the same seed makes the same ones.
#[derive(Debug)]
pub struct Mutator<'a> {
    random: Random,
    corpus: &'a Corpus,
}

impl<'a> Mutator<'a> {
    /// Starts from a corpus.
    pub fn new(corpus: &'a Corpus, seed: u64) -> Self {
        Self { random: Random::new(seed), corpus }
    }

    /// The next input: one of the corpus with one change, in every second case with another, and so on.
    pub fn next_input(&mut self) -> Vec<u8> {
        let original = self.pick();
        let is_text = is_text(original);
        let mut input = original.to_vec();
        loop {
            self.mutate(&mut input, is_text);
            input.truncate(MAX_INPUT_BYTES);
            if self.random.below(2) == 0 {
                return input;
            }
        }
    }

    /// Changes something. In a text only letters and digits change, and ranges are of whole lines: few texts that are
    /// damaged anywhere get past a first look.
    fn mutate(&mut self, input: &mut Vec<u8>, is_text: bool) {
        match self.random.below(10) {
            0..=3 => self.change_octet(input, is_text),
            4 if !is_text => self.change_integer(input),
            4 | 5 => self.insert_something(input, is_text),
            6 => drop(input.drain(self.range(input, is_text))),
            7 => {
                let again = self.range(input, is_text);
                let place = if is_text { again.start } else { self.place(input.len()) };
                let again = input[again].to_vec();
                input.splice(place..place, again);
            }
            8 => {
                let other = self.pick();
                let (from, to) = (self.range(other, is_text), self.range(input, is_text));
                input.splice(to, other[from].iter().copied());
            }
            _ => {
                // The head of one and the tail of another.
                let other = self.pick();
                let (head, tail) = (self.range(input, is_text).start, self.range(other, is_text).start);
                input.truncate(head);
                input.extend_from_slice(&other[tail..]);
            }
        }
    }

    fn change_octet(&mut self, input: &mut [u8], is_text: bool) {
        let place = self.place(input.len());
        let is_fit = |octet: &&mut u8| !is_text || octet.is_ascii_alphanumeric();
        let Some(octet) = input[place..].iter_mut().find(is_fit) else { return };
        *octet = match self.random.below(4) {
            _ if is_text => LETTERS[self.random.below(LETTERS.len() as u64) as usize],
            0 => self.random.next_u64() as u8,
            1 => interesting(&mut self.random),
            _ => *octet ^ (1 << self.random.below(8)),
        };
    }

    /// Moves an integer of one, two or four octets a little, as if it were a length or a count, or to an extreme.
    fn change_integer(&mut self, input: &mut [u8]) {
        let width = 1 << self.random.below(3);
        let Some(last) = input.len().checked_sub(width) else { return };
        let place = self.place(last);
        let integer = &mut input[place..place + width];
        let before = integer.iter().fold(0_u32, |number, octet| number << 8 | u32::from(*octet));
        let after = match self.random.below(6) {
            0 => 0,
            1 => u32::MAX,
            2 => before << self.random.below(9),
            3 => self.random.next_u64() as u32,
            _ => before.wrapping_add(self.random.below(17) as u32).wrapping_sub(8),
        };
        integer.copy_from_slice(&after.to_be_bytes()[4 - width..]);
    }

    fn insert_something(&mut self, input: &mut Vec<u8>, is_text: bool) {
        let something = match is_text {
            true => WORDS[self.random.below(WORDS.len() as u64) as usize].as_bytes().to_vec(),
            false => (0..=self.random.below(8)).map(|_| interesting(&mut self.random)).collect(),
        };
        let place = self.place(input.len());
        input.splice(place..place, something);
    }

    fn pick(&mut self) -> &'a [u8] {
        let inputs = self.corpus.inputs();
        &inputs[self.random.below(inputs.len() as u64) as usize]
    }

    /// A place between octets, both ends included.
    fn place(&mut self, length: usize) -> usize {
        self.random.below(length as u64 + 1) as usize
    }

    /// A range of octets, rather short than long; of a text all lines that it touches.
    fn range(&mut self, octets: &[u8], is_text: bool) -> Range<usize> {
        let start = self.place(octets.len());
        let bits = self.random.below(10);
        let end = (start + self.random.below(1 << bits) as usize + 1).min(octets.len());
        if !is_text {
            return start..end;
        }
        let is_end = |octet: &u8| *octet == b'\n';
        let line_start = octets[..start].iter().rposition(is_end).map_or(0, |end| end + 1);
        let line_end = octets[end..].iter().position(is_end).map_or(octets.len(), |more| end + more + 1);
        line_start..line_end
    }
}

fn is_text(octets: &[u8]) -> bool {
    octets.iter().all(|octet| octet.is_ascii_graphic() || octet.is_ascii_whitespace())
}

fn interesting(random: &mut Random) -> u8 {
    INTERESTING[random.below(INTERESTING.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_inputs(corpus: &Corpus, seed: u64) -> Vec<Vec<u8>> {
        let mut mutator = Mutator::new(corpus, seed);
        (0..2000).map(|_| mutator.next_input()).collect()
    }

    #[test]
    fn a_seed_makes_the_same_inputs_again() {
        let corpus = Corpus::new(vec![b"one input".to_vec(), b"and another".to_vec()]).unwrap();
        assert_eq!(first_inputs(&corpus, 7), first_inputs(&corpus, 7));
        assert_ne!(first_inputs(&corpus, 7), first_inputs(&corpus, 8));
    }

    #[test]
    fn a_text_stays_one() {
        let corpus = Corpus::new(vec![b"a line\nand another\n".to_vec(), b"one more\n".to_vec()]).unwrap();
        assert!(first_inputs(&corpus, 1).iter().all(|input| str::from_utf8(input).is_ok()));
    }

    #[test]
    fn inputs_of_any_length_are_mutated_within_the_limit() {
        let corpus = Corpus::new(vec![vec![], vec![1], vec![2; MAX_INPUT_BYTES]]).unwrap();
        let inputs = first_inputs(&corpus, 1);
        assert!(inputs.iter().all(|input| input.len() <= MAX_INPUT_BYTES));
        assert!(inputs.iter().any(|input| input.len() == MAX_INPUT_BYTES));
    }
}
