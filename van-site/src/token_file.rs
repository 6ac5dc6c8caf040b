//! The file that carries a token from one site to another.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::check::{Fault, check};
use crate::document::{Document, DocumentError};
use crate::folder::{self, FolderError};
use crate::resource::{AccessToken, Kind};
use crate::yaml;

/// Only its owner may read a token.
const PRIVATE: u32 = 0o600;

/// Why a file is of no use as a token; whoever chose it is to act.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// It cannot be read.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// It does not hold documents.
    #[error("{} cannot be used", path.display())]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        source: DocumentError,
    },
    /// Its token lacks something, or says what cannot be.
    #[error("{} cannot be used", path.display())]
    Fault {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Fault,
    },
    /// It holds something else.
    #[error("{} is not a token: it holds a {kind}", path.display())]
    OtherKind {
        /// The file.
        path: PathBuf,
        /// What it holds.
        kind: Kind,
    },
    /// It holds nothing.
    #[error("{} is not a token: it is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It holds more than one.
    #[error("{} holds {count} of {}; redeem them one by one", path.display(), Kind::AccessToken)]
    Several {
        /// The file.
        path: PathBuf,
        /// How many.
        count: usize,
    },
}

impl AccessToken {
    /// Reads the token of a file, and checks it as far as that can be done without the site that issued it.
    ///
    /// # Errors
    /// [`TokenFileError`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self, TokenFileError> {
        let path = || path.as_ref().to_owned();
        let text = fs::read_to_string(path()).map_err(|source| TokenFileError::Unreadable { path: path(), source })?;
        let mut tokens = Vec::new();
        for document in Document::read_all(&Zeroizing::new(text)) {
            match document.map_err(|source| TokenFileError::Document { path: path(), source })? {
                Document::AccessToken(token) => tokens.push(token),
                other => return Err(TokenFileError::OtherKind { path: path(), kind: other.kind() }),
            }
        }
        let count = tokens.len();
        let token = tokens.pop().ok_or_else(|| TokenFileError::Empty { path: path() })?;
        if count > 1 {
            return Err(TokenFileError::Several { path: path(), count });
        }
        check(&token.clone().into()).map_err(|source| TokenFileError::Fault { path: path(), source })?;
        Ok(token)
    }

    /// Writes the token to a file that only its owner may read, whole or not at all.
    ///
    /// # Errors
    /// [`FolderError`]; then the file is what it was.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), FolderError> {
        folder::replace(path.as_ref(), &Zeroizing::new(yaml::write(self)), PRIVATE)
    }
}
