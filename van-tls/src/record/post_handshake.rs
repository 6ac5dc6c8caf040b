//! The handshake messages that may follow a handshake (RFC 8446 §4.6).

use super::OpenError;

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// Reads handshake messages as they come, in pieces or several at once; keeps five octets at most.
///
/// Session tickets are read past: links do not resume.
#[derive(Debug, Default)]
pub(super) struct PostHandshake {
    /// The start of a message: type, length, and what a key update holds.
    head: [u8; 5],
    have: usize,
    /// What is left of a ticket.
    skip: usize,
}

/// The peer has new keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyUpdate {
    /// Whether it wants us to take new ones, too.
    pub(super) is_requested: bool,
}

impl PostHandshake {
    /// The message that tells the peer of new keys at this end.
    pub(super) fn key_update(is_requested: bool) -> [u8; 5] {
        [KEY_UPDATE, 0, 0, 1, u8::from(is_requested)]
    }

    /// Takes the content of one record, which may hold pieces of several messages.
    pub(super) fn handle_fragment(&mut self, fragment: &[u8]) -> Result<Option<KeyUpdate>, OpenError> {
        if fragment.is_empty() {
            return Err(OpenError::Misbehaved("an empty handshake record"));
        }
        let mut rest = fragment;
        loop {
            let skipped = self.skip.min(rest.len());
            self.skip -= skipped;
            rest = &rest[skipped..];
            let Some((&octet, after)) = rest.split_first() else { return Ok(None) };
            rest = after;
            self.head[self.have] = octet;
            self.have += 1;
            match self.head[..self.have] {
                [KEY_UPDATE, 0, 0, 1, request @ (0 | 1)] if rest.is_empty() => {
                    self.have = 0;
                    return Ok(Some(KeyUpdate { is_requested: request == 1 }));
                }
                [KEY_UPDATE, 0, 0, 1, _] => {
                    return Err(OpenError::Misbehaved("a malformed or misplaced key update"));
                }
                [NEW_SESSION_TICKET, a, b, c] => {
                    self.have = 0;
                    self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
                }
                [KEY_UPDATE, 0, 0, 1] | [_] | [_, _] | [_, _, _] => {}
                _ => return Err(OpenError::Misbehaved("a handshake message after the handshake")),
            }
        }
    }

    /// Whether a message has begun but not ended; nothing else may come in between (RFC 8446 §5.1).
    pub(super) fn is_amid_message(&self) -> bool {
        self.have > 0 || self.skip > 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ticket(len: u16) -> Vec<u8> {
        let [high, low] = len.to_be_bytes();
        [vec![NEW_SESSION_TICKET, 0, high, low], vec![KEY_UPDATE; len.into()]].concat()
    }

    proptest! {
        #[test]
        fn messages_are_found_however_they_are_cut(
            lens in prop::collection::vec(0..100_u16, 0..6),
            cuts in prop::collection::vec(1..40_usize, 1..6),
            is_requested: bool,
        ) {
            let mut octets = lens.into_iter().flat_map(ticket).collect::<Vec<u8>>();
            octets.extend(PostHandshake::key_update(is_requested));
            let mut reader = PostHandshake::default();
            let mut cuts = cuts.into_iter().cycle();
            let mut rest = &octets[..];
            while !rest.is_empty() {
                let (fragment, after) = rest.split_at(cuts.next().unwrap().min(rest.len()));
                let update = reader.handle_fragment(fragment).unwrap();
                prop_assert_eq!(update, after.is_empty().then_some(KeyUpdate { is_requested }));
                rest = after;
            }
            prop_assert!(!reader.is_amid_message());
        }

        #[test]
        fn nothing_else_is_accepted(octets in prop::collection::vec(any::<u8>(), 0..40)) {
            let known = [NEW_SESSION_TICKET, KEY_UPDATE];
            let outcome = PostHandshake::default().handle_fragment(&octets);
            if octets.len() >= 4 && !known.contains(&octets[0]) {
                prop_assert!(outcome.is_err());
            }
        }
    }

    #[test]
    fn malformed_messages_are_refused() {
        let check = |octets: &[u8]| PostHandshake::default().handle_fragment(octets).unwrap_err();
        check(&[]);
        check(&[KEY_UPDATE, 0, 0, 2, 0, 0]);
        check(&[KEY_UPDATE, 0, 0, 1, 2]);
        // The rest is under the new key already.
        check(&[KEY_UPDATE, 0, 0, 1, 0, NEW_SESSION_TICKET]);
    }
}
