//! Text that nobody may see by accident.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A code or a password: not shown by `Debug`, wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The text itself, for those who must know it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// Only for writing documents, where the text has to appear.
impl From<SecretText> for String {
    fn from(text: SecretText) -> Self {
        text.reveal().to_owned()
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "SecretText(empty)" } else { "SecretText(…)" })
    }
}
