//! Octets as a socket might bring them.

use van_core::Random;

/// The longest piece is below this power of two.
const MAX_BITS: u64 = 9;

/// A number that stands for some octets (FNV-1a).
pub(crate) fn digest(octets: &[u8]) -> u64 {
    octets.iter().fold(0xCBF2_9CE4_8422_2325, |hash, octet| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01B3))
}

/// Cuts octets into pieces, most of them short: the same octets always in the same way.
pub(crate) fn pieces(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut random = Random::new(digest(octets));
    let mut rest = octets;
    std::iter::from_fn(move || {
        let bits = random.below(MAX_BITS);
        let length = (1 + random.below(1 << bits) as usize).min(rest.len());
        let (piece, after) = rest.split_at(length);
        rest = after;
        Some(piece).filter(|piece| !piece.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_whole_in_order() {
        let octets: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let pieces: Vec<_> = pieces(&octets).collect();
        assert!(pieces.len() > 20);
        assert_eq!(pieces.concat(), octets);
    }
}
