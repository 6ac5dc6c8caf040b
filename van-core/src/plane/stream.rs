//! The end of a TCP connection at this router: a socket and its two directions.

use std::sync::Arc;

use super::routes::ShardId;
use crate::encapsulation::Features;
use crate::slab::Key;

/// A client's or a workload's connection.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) side: Side,
    /// The direction that reads the socket.
    pub(super) up: Option<Key>,
    /// The direction that writes it.
    pub(super) down: Option<Key>,
    /// What both ends of the stream can do.
    pub(super) features: Features,
    pub(super) is_read_done: bool,
    pub(super) is_write_done: bool,
    /// The window that the other end was promised, as long as there is no direction that could count it.
    pub(super) promised: Option<u32>,
}

/// What is known of a client before its stream is offered to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The routing key.
    pub key: Arc<str>,
    /// The protocol it agreed on by ALPN.
    pub alpn: Option<Arc<str>>,
    /// The VanFlow identity of its connection, which the other end is told.
    pub flow: Option<Arc<str>>,
}

impl From<Arc<str>> for Client {
    fn from(key: Arc<str>) -> Self {
        Self { key, alpn: None, flow: None }
    }
}

impl From<&str> for Client {
    fn from(key: &str) -> Self {
        Arc::<str>::from(key).into()
    }
}

/// Who is behind the socket.
#[derive(Debug)]
pub(super) enum Side {
    /// A client of a routing key. `salt` is in the reply address, so that a late answer to an earlier stream is not taken
    /// for this one's.
    Client { client: Client, salt: u32 },
    /// A workload, and what it takes to answer the client stream.
    Server { answer: Option<Box<Answer>> },
}

/// Where a server stream goes.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reply_to: String,
    /// What the listener's end can do.
    pub(super) offered: Features,
    /// It has passed one router at most, so the peer of its connection is the only one between the ends.
    pub(super) is_near: bool,
    /// The connection the client stream came on.
    pub(super) connection: Option<Key>,
}

impl Stream {
    pub(super) fn new(side: Side) -> Self {
        let features = Features::default();
        Self { side, up: None, down: None, features, is_read_done: false, is_write_done: false, promised: None }
    }
}

/// A reply address: `temp.` and 15 characters that say shard, stream and salt. Resolved without a table.
///
/// skupper-router's own are as long and from the same alphabet, but random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyName {
    pub(super) shard: ShardId,
    pub(super) stream: Key,
    pub(super) salt: u32,
}

const PREFIX: &str = "temp.";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+_";

/// 15 characters of 6 bits: 64 of the stream's key, 10 of the shard, 16 of the salt.
const CHARACTERS: usize = 15;
const SHARD_BITS: u32 = 10;
const SALT_BITS: u32 = 16;

/// The bit of the salt that tells names of links from those of streams.
const LINK_BIT: u32 = 1 << (SALT_BITS - 1);

/// The highest number of shards a reply name can tell apart.
pub const MAX_SHARDS: u16 = 1 << SHARD_BITS;

impl ReplyName {
    /// What of a salt counts.
    pub(super) const SALT: u32 = LINK_BIT - 1;

    /// The name of a stream's client.
    pub(super) fn stream(shard: ShardId, stream: Key, salt: u32) -> Self {
        Self { shard, stream, salt: salt & Self::SALT }
    }

    /// The name of a link: `place` is where its shard remembers it.
    pub(super) fn link(shard: ShardId, place: Key, salt: u32) -> Self {
        Self { shard, stream: place, salt: salt & Self::SALT | LINK_BIT }
    }

    /// Whether it names a link, and no stream.
    pub(super) fn is_link(self) -> bool {
        self.salt & LINK_BIT != 0
    }

    pub(super) fn to_text(self) -> String {
        let salt = u128::from(self.salt) & ((1 << SALT_BITS) - 1);
        let mut bits = u128::from(self.stream.to_bits()) << (SHARD_BITS + SALT_BITS);
        bits |= u128::from(self.shard.0) << SALT_BITS | salt;
        let character = |place: usize| char::from(ALPHABET[(bits >> (6 * place) & 63) as usize]);
        PREFIX.chars().chain((0..CHARACTERS).map(character)).collect()
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let text = name.strip_prefix(PREFIX).filter(|text| text.len() == CHARACTERS)?;
        let bits = text.bytes().rev().try_fold(0_u128, |bits, character| {
            let digit = ALPHABET.iter().position(|known| *known == character)?;
            Some(bits << 6 | digit as u128)
        })?;
        let shard = (bits >> SALT_BITS) as u16 & (MAX_SHARDS - 1);
        let stream = Key::from_bits((bits >> (SHARD_BITS + SALT_BITS)) as u64);
        Some(Self { shard: ShardId(shard), stream, salt: bits as u32 & ((1 << SALT_BITS) - 1) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_reply_name_is_read_back(bits in any::<u64>(), shard in 0..MAX_SHARDS, salt in 0..1_u32 << SALT_BITS) {
            let name = ReplyName { shard: ShardId(shard), stream: Key::from_bits(bits), salt };
            prop_assert_eq!(ReplyName::parse(&name.to_text()), Some(name));
        }

        #[test]
        fn another_text_is_none_of_ours_or_harmless(text in "\\PC{0,30}") {
            let _ = ReplyName::parse(&text);
        }
    }
}
