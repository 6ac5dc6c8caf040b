//! The record layer of the data path: plaintext in, sealed records out, and back; many at a time, few copies.
//!
//! ```text
//!  [frame header][payload][frame header]…   ──seal──►  OutBuf  ──writev──►  socket
//!                     ranges of plaintext   ◄──open──  receive buffer  ◄──read──  socket
//! ```
//!
//! A link starts with a [`Handshake`](crate::Handshake), which ends in a [`Tls13Records`]; without TLS there is
//! [`Plain`]. Both are [`Send`]: what one thread established, another may run.

mod fragments;
mod out_buf;
mod plain;
mod post_handshake;
mod tls13;

use std::fmt;
use std::ops::Range;

pub use out_buf::OutBuf;
pub use plain::Plain;
pub(crate) use tls13::KeySchedule;
pub use tls13::Tls13Records;

use crate::alert::Alert;

/// The most plaintext that one TLS record holds (RFC 8446 §5.1).
pub const MAX_RECORD_PAYLOAD: usize = 16_384;

/// What a TLS record costs on top of its plaintext: header 5, type 1, tag 16 octets (RFC 8446 §5.2).
pub const RECORD_OVERHEAD: usize = 22;

/// One end of an established connection, between the frames above and the octets below.
///
/// After an error of any method only [`close`](Self::close) remains to be called.
pub trait RecordLayer: fmt::Debug + Send {
    /// Seals `parts`, one after the other and as if they were one, and appends the records to `out`.
    ///
    /// Records are filled across the borders of parts; only the last one may be short. So many small parts cost
    /// one record if they come in one call.
    ///
    /// # Errors
    /// [`SealError`].
    fn seal(&mut self, parts: &[&[u8]], out: &mut OutBuf) -> Result<(), SealError>;

    /// Opens all whole records at the start of `received`, in place, and appends to `plaintext` where in `received`
    /// their contents lie.
    ///
    /// The caller uses the plaintext, drops [`Opened::consumed`] octets, and calls again with what is left and
    /// what came in since.
    ///
    /// # Errors
    /// [`OpenError`]; `plaintext` has what was opened before it.
    fn open(&mut self, received: &mut [u8], plaintext: &mut Vec<Range<usize>>) -> Result<Opened, OpenError>;

    /// Takes new keys in both directions, for a policy that bounds the life of keys in time.
    ///
    /// Bounds on what one key may seal are kept without being asked. Does nothing without TLS.
    ///
    /// # Errors
    /// [`SealError`].
    fn refresh_keys(&mut self, out: &mut OutBuf) -> Result<(), SealError>;

    /// Appends this end's farewell to `out`: the alert that fits the error of [`open`](Self::open) if there was one,
    /// else `close_notify`. Nothing can be sealed afterwards; records of the peer can still be opened.
    fn close(&mut self, out: &mut OutBuf);

    /// Judges the end of the octets from the peer.
    ///
    /// # Errors
    /// [`OpenError::Truncated`] unless the peer announced it, so that nobody can cut a stream unnoticed.
    fn handle_eof(&self) -> Result<(), OpenError>;
}

/// How far [`RecordLayer::open`] came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// Octets at the start of the buffer that are done with.
    pub consumed: usize,
    /// Octets that are still missing behind the buffer before anything more can be opened; zero once the peer has
    /// closed.
    pub missing: usize,
    /// Whether the peer has sent its `close_notify`: it will send no more, but may still read.
    pub is_closed: bool,
}

/// Why nothing was sealed; ours in either case.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The farewell was already said.
    #[error("this end of the connection is already closed")]
    Closed,
    /// A key could not be derived or used.
    #[error("the record cannot be encrypted")]
    Crypto(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Why the octets of the peer could not be opened. The connection is lost.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The peer gave up, and says why. Soon after the handshake it refuses our certificate in this way.
    #[error("the peer broke the connection off: {0}")]
    Alert(Alert),
    /// The octets ended without a farewell: a crash, a broken path, or somebody cut it.
    #[error("the connection ended without close_notify")]
    Truncated,
    /// A record was damaged on the way, or forged.
    #[error("a record does not decrypt; it was changed on the way, or keys differ")]
    BadRecord,
    /// A record claims more than the standard allows, so these are no records.
    #[error("a record claims {claimed} octets")]
    TooLong {
        /// Its length by its own claim.
        claimed: usize,
    },
    /// The peer sent what does not belong here.
    #[error("the peer broke the rules of TLS: {0}")]
    Misbehaved(&'static str),
    /// A key could not be derived; ours.
    #[error("a new key cannot be derived")]
    Crypto(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl SealError {
    fn crypto(error: rustls::Error) -> Self {
        Self::Crypto(error.into())
    }
}

impl OpenError {
    /// The alert that tells the peer of this error.
    fn alert(&self) -> Alert {
        match self {
            Self::Alert(_) | Self::Truncated => Alert::CLOSE_NOTIFY,
            Self::BadRecord => Alert::BAD_RECORD_MAC,
            Self::TooLong { .. } => Alert::RECORD_OVERFLOW,
            Self::Misbehaved(_) => Alert::UNEXPECTED_MESSAGE,
            Self::Crypto(_) => Alert::INTERNAL_ERROR,
        }
    }
}
