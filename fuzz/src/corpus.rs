//! The committed inputs that all others are mutations of.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// The inputs of one target, never none.
#[derive(Debug, Clone)]
pub struct Corpus(Vec<Vec<u8>>);

impl Corpus {
    /// The folder of a target's corpus.
    pub fn folder(target: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
    }

    /// Reads a target's corpus, in the order of its file names so that a seed always means the same inputs.
    ///
    /// # Errors
    /// Also if there is no input.
    pub fn read(target: &str) -> io::Result<Self> {
        let files = fs::read_dir(Self::folder(target))?.map(|entry| entry.map(|entry| entry.path()));
        let mut files = files.collect::<io::Result<Vec<_>>>()?;
        files.sort();
        let inputs = files.into_iter().map(fs::read).collect::<io::Result<Vec<_>>>()?;
        Self::new(inputs).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "an empty corpus"))
    }

    /// These inputs; `None` if there are none.
    pub fn new(inputs: Vec<Vec<u8>>) -> Option<Self> {
        (!inputs.is_empty()).then_some(Self(inputs))
    }

    /// The inputs.
    pub fn inputs(&self) -> &[Vec<u8>] {
        &self.0
    }
}
