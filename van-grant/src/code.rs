//! The secret of a grant, carried by a token.

use std::fmt;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::{ZeroizeOnDrop, Zeroizing};

/// Characters of a code that was made here (as Skupper's).
pub const CODE_LEN: usize = 24;

/// The longest code, made by whomever; more in the body of a request is not read.
pub const MAX_CODE_BYTES: usize = 512;

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// A one-time code: 24 random characters, or what the user chose.
///
/// It is wiped when it is dropped and not shown by `Debug`. Serialisation writes it out, because grants and tokens must be
/// kept: protect what that goes to.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "Zeroizing<String>")]
pub struct Code(Zeroizing<String>);

impl Code {
    /// Makes a code of [`CODE_LEN`] characters from `[A-Za-z0-9]`: 142 bits that nobody guesses.
    ///
    /// # Errors
    /// [`CodeError::NoRandomness`].
    pub fn random() -> Result<Self, CodeError> {
        // Room for all, as a text that grows would leave copies behind.
        let mut code = Zeroizing::new(String::with_capacity(CODE_LEN));
        let mut octets = Zeroizing::new([0; 2 * CODE_LEN]);
        while code.len() < CODE_LEN {
            getrandom::fill(&mut *octets).map_err(|error| CodeError::NoRandomness(error.into()))?;
            // Without the octets above the last multiple of 62 every character is as likely as any other.
            let fair = octets.iter().filter(|octet| usize::from(**octet) < 4 * ALPHABET.len());
            let characters = fair.map(|octet| char::from(ALPHABET[usize::from(*octet) % ALPHABET.len()]));
            let missing = CODE_LEN - code.len();
            code.extend(characters.take(missing));
        }
        Ok(Self(code))
    }

    /// Takes the code that a user chose. Whether it can be guessed is theirs to know.
    ///
    /// # Errors
    /// [`CodeError::Empty`], [`CodeError::TooLong`].
    pub fn new(code: impl Into<Zeroizing<String>>) -> Result<Self, CodeError> {
        let code = code.into();
        match code.len() {
            0 => Err(CodeError::Empty),
            1..=MAX_CODE_BYTES => Ok(Self(code)),
            length => Err(CodeError::TooLong { length }),
        }
    }

    /// The secret itself, for a token or a request. Do not log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in a time that tells nothing but the length.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(other).into()
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code([redacted])")
    }
}

/// What it holds is wiped.
impl ZeroizeOnDrop for Code {}

impl PartialEq for Code {
    fn eq(&self, other: &Self) -> bool {
        self.matches(other.0.as_bytes())
    }
}

impl Eq for Code {}

impl TryFrom<Zeroizing<String>> for Code {
    type Error = CodeError;

    fn try_from(code: Zeroizing<String>) -> Result<Self, CodeError> {
        Self::new(code)
    }
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    /// Nothing was given; the user's move.
    #[error("the code is empty")]
    Empty,
    /// The code is longer than [`MAX_CODE_BYTES`]; the user's move.
    #[error("the code has {length} bytes; {MAX_CODE_BYTES} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The system gives no random numbers; its operator's move.
    #[error("no random numbers for a code")]
    NoRandomness(#[source] Box<dyn std::error::Error + Send + Sync>),
}
