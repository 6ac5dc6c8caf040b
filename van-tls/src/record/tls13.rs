//! TLS 1.3 records over rustls' own AEADs and key schedule; framing and control messages are ours.
//!
//! rustls' connections take one slice at a time and hand out one record at a time. Here many parts go into a record
//! and many records come out of a buffer: 64 KiB cost a quarter less than through `rustls::Connection`, and sealing
//! costs one copy more than the AEAD alone, opening none (`benches/records.rs`).

use std::fmt;
use std::ops::Range;

use rustls::client::ClientConnectionData;
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundPlainMessage,
};
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets, ProtocolVersion, Tls13CipherSuite};

use super::fragments::Fragments;
use super::post_handshake::{KeyUpdate, PostHandshake};
use super::{MAX_RECORD_PAYLOAD, OpenError, Opened, OutBuf, RecordLayer, SealError};
use crate::alert::Alert;
use crate::provider::Suite;

const HEADER: usize = 5;

/// Alert levels, kept for form (RFC 8446 §6).
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// The longest record after its header: content, and 256 octets for type, padding and tag (RFC 8446 §5.2).
const MAX_ENCRYPTED: usize = MAX_RECORD_PAYLOAD + 256;

/// How many records one key may seal (RFC 8446 §5.5 allows AES-GCM 2^24.5); the last one announces its successor.
const MAX_RECORDS_PER_KEY: u64 = 1 << 24;

/// How often the peer may change keys without sending any data: each change costs us more than it costs the peer.
///
/// Source: rustls and BoringSSL (`kMaxKeyUpdates`).
const MAX_IDLE_KEY_UPDATES: u8 = 32;

/// The record layer of an established TLS 1.3 connection; a [`Handshake`](crate::Handshake) makes it.
pub struct Tls13Records {
    suite: &'static Tls13CipherSuite,
    schedule: KeySchedule,
    sealing: Sealing,
    opening: Opening,
    records_per_key: u64,
    post_handshake: PostHandshake,
    idle_key_updates: u8,
    /// The peer asked for a key update: it goes out before the next data (RFC 8446 §4.6.3).
    owes_key_update: bool,
    /// What [`RecordLayer::close`] will say.
    farewell: Alert,
    has_sent_farewell: bool,
    has_received_farewell: bool,
}

struct Sealing {
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

struct Opening {
    decrypter: Box<dyn MessageDecrypter>,
    sequence: u64,
}

/// Where the next keys come from.
pub(crate) enum KeySchedule {
    Connector(KernelConnection<ClientConnectionData>),
    Acceptor(KernelConnection<ServerConnectionData>),
}

impl Tls13Records {
    pub(crate) fn new(
        suite: &'static Tls13CipherSuite,
        secrets: ExtractedSecrets,
        schedule: KeySchedule,
    ) -> Result<Self, Error> {
        Ok(Self {
            suite,
            schedule,
            sealing: Sealing::new(suite, secrets.tx)?,
            opening: Opening::new(suite, secrets.rx)?,
            records_per_key: MAX_RECORDS_PER_KEY,
            post_handshake: PostHandshake::default(),
            idle_key_updates: 0,
            owes_key_update: false,
            farewell: Alert::CLOSE_NOTIFY,
            has_sent_farewell: false,
            has_received_farewell: false,
        })
    }

    /// The cipher suite that was negotiated.
    pub fn suite(&self) -> Suite {
        Suite::of(self.suite)
    }

    fn seal_record(&mut self, typ: ContentType, content: OutboundChunks<'_>, out: &mut OutBuf) -> Result<(), Error> {
        let message = OutboundPlainMessage { typ, version: ProtocolVersion::TLSv1_3, payload: content };
        let record = self.sealing.encrypter.encrypt(message, self.sealing.sequence)?;
        self.sealing.sequence += 1;
        out.push(record.encode());
        Ok(())
    }

    /// Announces new keys with the old ones, then takes them.
    fn update_sealing_keys(&mut self, is_requested: bool, out: &mut OutBuf) -> Result<(), Error> {
        let message = PostHandshake::key_update(is_requested);
        self.seal_record(ContentType::Handshake, OutboundChunks::Single(&message), out)?;
        let keys = match &mut self.schedule {
            KeySchedule::Connector(connection) => connection.update_tx_secret()?,
            KeySchedule::Acceptor(connection) => connection.update_tx_secret()?,
        };
        self.sealing = Sealing::new(self.suite, keys)?;
        self.owes_key_update = false;
        Ok(())
    }

    fn update_opening_keys(&mut self) -> Result<(), Error> {
        let keys = match &mut self.schedule {
            KeySchedule::Connector(connection) => connection.update_rx_secret()?,
            KeySchedule::Acceptor(connection) => connection.update_rx_secret()?,
        };
        self.opening = Opening::new(self.suite, keys)?;
        Ok(())
    }

    fn open_records(&mut self, received: &mut [u8], plaintext: &mut Vec<Range<usize>>) -> Result<Opened, OpenError> {
        let mut consumed = 0;
        while !self.has_received_farewell {
            let rest = &mut received[consumed..];
            let length = record_length(rest)?;
            if rest.len() < length {
                let missing = length - rest.len();
                return Ok(Opened { consumed, missing, is_closed: false });
            }
            let (typ, content) = self.opening.open(&mut rest[HEADER..length])?;
            match typ {
                ContentType::ApplicationData => {
                    self.handle_data()?;
                    let start = consumed + HEADER;
                    let content = start..start + content.len();
                    plaintext.extend(Some(content).filter(|content| !content.is_empty()));
                }
                ContentType::Handshake => self.handle_handshake(content)?,
                ContentType::Alert => self.handle_alert(content)?,
                _ => return Err(OpenError::Misbehaved("a record of unknown type")),
            }
            consumed += length;
        }
        // Whatever follows a farewell is to be ignored (RFC 8446 §6.1).
        Ok(Opened { consumed: received.len(), missing: 0, is_closed: true })
    }

    fn handle_data(&mut self) -> Result<(), OpenError> {
        if self.post_handshake.is_amid_message() {
            return Err(OpenError::Misbehaved("data inside a handshake message"));
        }
        self.idle_key_updates = 0;
        Ok(())
    }

    fn handle_handshake(&mut self, content: &[u8]) -> Result<(), OpenError> {
        let Some(KeyUpdate { is_requested }) = self.post_handshake.handle_fragment(content)? else { return Ok(()) };
        self.idle_key_updates += 1;
        if self.idle_key_updates > MAX_IDLE_KEY_UPDATES {
            return Err(OpenError::Misbehaved("one key update after the other"));
        }
        self.owes_key_update |= is_requested;
        self.update_opening_keys().map_err(|error| OpenError::Crypto(error.into()))
    }

    fn handle_alert(&mut self, content: &[u8]) -> Result<(), OpenError> {
        // The first octet, the level, means nothing in TLS 1.3.
        let &[_, description] = content else {
            return Err(OpenError::Misbehaved("a malformed alert"));
        };
        match Alert(description) {
            Alert::CLOSE_NOTIFY => self.has_received_farewell = true,
            // A `close_notify` follows.
            Alert::USER_CANCELED => {}
            alert => {
                self.has_sent_farewell = true;
                return Err(OpenError::Alert(alert));
            }
        }
        Ok(())
    }
}

impl RecordLayer for Tls13Records {
    fn seal(&mut self, parts: &[&[u8]], out: &mut OutBuf) -> Result<(), SealError> {
        if self.has_sent_farewell {
            return Err(SealError::Closed);
        }
        for content in Fragments::new(parts) {
            if self.owes_key_update || self.sealing.sequence + 1 >= self.records_per_key {
                self.update_sealing_keys(false, out).map_err(SealError::crypto)?;
            }
            self.seal_record(ContentType::ApplicationData, content, out).map_err(SealError::crypto)?;
        }
        Ok(())
    }

    fn open(&mut self, received: &mut [u8], plaintext: &mut Vec<Range<usize>>) -> Result<Opened, OpenError> {
        let opened = self.open_records(received, plaintext);
        if let Err(error) = &opened {
            self.farewell = error.alert();
        }
        opened
    }

    fn refresh_keys(&mut self, out: &mut OutBuf) -> Result<(), SealError> {
        if self.has_sent_farewell {
            return Err(SealError::Closed);
        }
        self.update_sealing_keys(true, out).map_err(SealError::crypto)
    }

    fn close(&mut self, out: &mut OutBuf) {
        if self.has_sent_farewell {
            return;
        }
        self.has_sent_farewell = true;
        let level = if self.farewell == Alert::CLOSE_NOTIFY { WARNING } else { FATAL };
        let alert = [level, self.farewell.0];
        // A farewell that cannot be sealed is not worth an error: the peer sees a cut, and that is what it is.
        let _ = self.seal_record(ContentType::Alert, OutboundChunks::Single(&alert), out);
    }

    fn handle_eof(&self) -> Result<(), OpenError> {
        if self.has_received_farewell { Ok(()) } else { Err(OpenError::Truncated) }
    }
}

impl Sealing {
    fn new(suite: &Tls13CipherSuite, (sequence, keys): (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        let (key, iv) = key_and_iv(keys)?;
        let encrypter = suite.aead_alg.encrypter(key, iv);
        Ok(Self { encrypter, sequence })
    }
}

impl Opening {
    fn new(suite: &Tls13CipherSuite, (sequence, keys): (u64, ConnectionTrafficSecrets)) -> Result<Self, Error> {
        let (key, iv) = key_and_iv(keys)?;
        Ok(Self { decrypter: suite.aead_alg.decrypter(key, iv), sequence })
    }

    fn open<'a>(&mut self, record: &'a mut [u8]) -> Result<(ContentType, &'a [u8]), OpenError> {
        let claimed = record.len();
        let message = InboundOpaqueMessage::new(ContentType::ApplicationData, ProtocolVersion::TLSv1_2, record);
        let opened = self.decrypter.decrypt(message, self.sequence).map_err(|error| match error {
            Error::DecryptError => OpenError::BadRecord,
            Error::PeerSentOversizedRecord => OpenError::TooLong { claimed },
            _ => OpenError::Misbehaved("a record without content"),
        })?;
        self.sequence += 1;
        Ok((opened.typ, opened.payload))
    }
}

/// The length of the record that `octets` start with, as far as they tell.
fn record_length(octets: &[u8]) -> Result<usize, OpenError> {
    let Some(&[typ, _, _, high, low]) = octets.first_chunk::<HEADER>() else { return Ok(HEADER) };
    let claimed = usize::from(u16::from_be_bytes([high, low]));
    if typ != u8::from(ContentType::ApplicationData) {
        Err(OpenError::Misbehaved("a record that is not encrypted"))
    } else if claimed > MAX_ENCRYPTED {
        Err(OpenError::TooLong { claimed })
    } else {
        Ok(HEADER + claimed)
    }
}

fn key_and_iv(keys: ConnectionTrafficSecrets) -> Result<(AeadKey, Iv), Error> {
    use ConnectionTrafficSecrets::{Aes128Gcm, Aes256Gcm, Chacha20Poly1305};
    match keys {
        Aes128Gcm { key, iv } | Aes256Gcm { key, iv } | Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(Error::General("keys of an unknown suite".into())),
    }
}

impl fmt::Debug for Tls13Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls13Records")
            .field("suite", &self.suite())
            .field("sealed", &self.sealing.sequence)
            .field("opened", &self.opening.sequence)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RECORD_OVERHEAD;
    use crate::handshake::Established;
    use crate::tests::{drain, link, open_all, record_lens};

    /// What an end makes of records that the other one should perhaps not have sent.
    fn open_from(
        peer: &mut Established,
        records: &[(ContentType, &[u8])],
        end: &mut Established,
    ) -> Result<(), OpenError> {
        for (typ, content) in records {
            peer.records.seal_record(*typ, OutboundChunks::Single(content), &mut peer.output).unwrap();
        }
        open_all(&mut end.records, &mut drain(&mut peer.output)).map(drop)
    }

    #[test]
    fn keys_are_changed_before_they_have_sealed_too_much() {
        let (mut near, mut far) = link();
        near.records.records_per_key = 3;
        for octet in 0..6_u8 {
            near.records.seal(&[&[octet]], &mut near.output).unwrap();
        }
        let [data, update] = [1, 5].map(|len| len + RECORD_OVERHEAD);
        assert_eq!(record_lens(&near.output), [data, data, update, data, data, update, data, data]);
        let (plaintext, _) = open_all(&mut far.records, &mut drain(&mut near.output)).unwrap();
        assert_eq!(plaintext, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn data_between_key_updates_earns_more_of_them() {
        let (mut near, mut far) = link();
        for _ in 0..3 * MAX_IDLE_KEY_UPDATES {
            near.records.refresh_keys(&mut near.output).unwrap();
            open_from(&mut near, &[(ContentType::ApplicationData, b"data")], &mut far).unwrap();
        }
    }

    #[test]
    fn nothing_may_interrupt_a_handshake_message() {
        let (mut near, mut far) = link();
        let ticket: (_, &[u8]) = (ContentType::Handshake, &[4, 0, 0, 9, 1, 2]);
        let data: (_, &[u8]) = (ContentType::ApplicationData, b"data");
        let error = open_from(&mut near, &[ticket, data], &mut far).unwrap_err();
        assert!(matches!(error, OpenError::Misbehaved("data inside a handshake message")), "{error}");
    }

    #[test]
    fn records_of_other_kinds_are_refused() {
        let strange: [(ContentType, &[u8]); 5] = [
            (ContentType::ChangeCipherSpec, &[1]),
            (ContentType::Heartbeat, b"bleed"),
            (ContentType::Handshake, &[]),
            (ContentType::Alert, &[]),
            (ContentType::Alert, &[1, 0, 1, 0]),
        ];
        for record in strange {
            let (mut near, mut far) = link();
            let error = open_from(&mut near, &[record], &mut far).unwrap_err();
            assert!(matches!(error, OpenError::Misbehaved(_)), "{error}");
        }
    }

    #[test]
    fn peer_that_gave_up_is_told_nothing_more() {
        let (mut near, mut far) = link();
        let error = open_from(&mut near, &[(ContentType::Alert, &[WARNING, 80])], &mut far).unwrap_err();
        assert!(matches!(error, OpenError::Alert(Alert::INTERNAL_ERROR)), "whatever the level: {error}");
        far.records.close(&mut far.output);
        assert_eq!(record_lens(&far.output), []);
        assert!(matches!(far.records.seal(&[b"data"], &mut far.output), Err(SealError::Closed)));
    }

    #[test]
    fn cancelling_is_not_yet_a_farewell() {
        let (mut near, mut far) = link();
        open_from(&mut near, &[(ContentType::Alert, &[WARNING, 90])], &mut far).unwrap();
        assert!(matches!(far.records.handle_eof(), Err(OpenError::Truncated)));
        open_from(&mut near, &[(ContentType::Alert, &[WARNING, 0])], &mut far).unwrap();
        far.records.handle_eof().unwrap();
    }
}
