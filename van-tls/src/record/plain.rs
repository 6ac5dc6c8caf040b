//! No TLS.

use std::ops::Range;

use super::{OpenError, Opened, OutBuf, RecordLayer, SealError};

/// Passes octets on as they are, for listeners and connectors without an `sslProfile`.
///
/// Opening copies nothing; sealing gathers the parts into one buffer. The end of such a connection cannot be told
/// from a cut.
#[derive(Debug, Default)]
pub struct Plain {
    is_closed: bool,
}

impl Plain {
    /// A connection without TLS.
    pub fn new() -> Self {
        Self::default()
    }
}

impl RecordLayer for Plain {
    fn seal(&mut self, parts: &[&[u8]], out: &mut OutBuf) -> Result<(), SealError> {
        if self.is_closed {
            return Err(SealError::Closed);
        }
        out.push(parts.concat());
        Ok(())
    }

    fn open(&mut self, received: &mut [u8], plaintext: &mut Vec<Range<usize>>) -> Result<Opened, OpenError> {
        if !received.is_empty() {
            plaintext.push(0..received.len());
        }
        Ok(Opened { consumed: received.len(), missing: 1, is_closed: false })
    }

    fn refresh_keys(&mut self, _: &mut OutBuf) -> Result<(), SealError> {
        Ok(())
    }

    fn close(&mut self, _: &mut OutBuf) {
        self.is_closed = true;
    }

    fn handle_eof(&self) -> Result<(), OpenError> {
        Ok(())
    }
}
