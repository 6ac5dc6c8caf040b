//! The words in which TLS peers refuse each other (RFC 8446 §6).

use std::fmt;

use rustls::AlertDescription;

/// An alert that the peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Alert(pub u8);

impl Alert {
    pub(crate) const CLOSE_NOTIFY: Self = Self(0);
    pub(crate) const UNEXPECTED_MESSAGE: Self = Self(10);
    pub(crate) const BAD_RECORD_MAC: Self = Self(20);
    pub(crate) const RECORD_OVERFLOW: Self = Self(22);
    pub(crate) const INTERNAL_ERROR: Self = Self(80);
    pub(crate) const USER_CANCELED: Self = Self(90);

    /// What the peer means, as far as it concerns certificates and settings.
    fn meaning(self) -> Option<&'static str> {
        Some(match self.0 {
            40 => "it shares no settings with us",
            // OpenSSL says this also of certificates that start in its future.
            42 => "it finds our certificate damaged or not valid yet",
            43 => "it does not support our kind of certificate",
            44 => "our certificate was revoked",
            45 => "our certificate has expired",
            46 => "it does not accept our certificate",
            48 => "our certificate is from a CA it does not trust",
            49 => "our certificate gives no access",
            // What it believes has the name of our CA, but another key: the signature is what does not fit.
            51 => "most likely our certificate is from a CA it does not trust, which only has the name of one it does",
            70 => "it does not speak TLS 1.3",
            71 => "it demands stronger ciphers",
            112 => "it does not serve the name we asked for",
            116 => "it demands a certificate",
            _ => return None,
        })
    }
}

/// Shows `UnknownCA (48): our certificate is from a CA it does not trust`.
impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({})", AlertDescription::from(self.0), self.0)?;
        self.meaning().map_or(Ok(()), |meaning| write!(f, ": {meaning}"))
    }
}
