//! Pseudo-random numbers from a seed that the caller gives: names and jitter, nothing secret.

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough for names.
#[derive(Debug, Clone)]
pub struct Random(u64);

const DISCRIMINATOR: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+_";

impl Random {
    /// The same seed gives the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end
    }

    /// 15 characters, as routers make names unique with (docs/wire.md §0).
    pub fn discriminator(&mut self) -> String {
        (0..15).map(|_| char::from(DISCRIMINATOR[(self.next_u64() & 63) as usize])).collect()
    }
}
