//! The file that carries a token from one site to another.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use tempfile::NamedTempFile;
use van_site::check::check;
use van_site::document::Document;
use van_site::resource::{AccessToken, Kind};
use van_site::yaml;

/// A file that can be written, and is not yet: who issues a token knows beforehand that it will be kept.
#[derive(Debug)]
pub(super) struct Draft {
    file: NamedTempFile,
    path: PathBuf,
}

impl Draft {
    /// Prepares a file, which may be there only if it holds another token.
    pub(super) fn new(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        if path.exists() {
            let is_token = read(path).is_ok();
            ensure!(is_token, "{shown} is there already, and is no token: choose another name");
        }
        let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        // Only its owner may read it.
        let file = NamedTempFile::new_in(folder).with_context(|| format!("{shown} cannot be written"))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Writes the token, whole or not at all.
    pub(super) fn write(mut self, token: &AccessToken) -> anyhow::Result<()> {
        let writing = || format!("{} cannot be written", self.path.display());
        self.file.write_all(yaml::write(token).as_bytes()).with_context(writing)?;
        self.file.as_file().sync_all().with_context(writing)?;
        self.file.persist(&self.path).with_context(writing)?;
        Ok(())
    }
}

/// Reads a token.
pub(super) fn read(path: &Path) -> anyhow::Result<AccessToken> {
    let shown = path.display();
    ensure!(!path.exists() || path.is_file(), "{shown} is not a file");
    let text = fs::read_to_string(path).with_context(|| format!("{shown} cannot be read"))?;
    let mut tokens = Vec::new();
    for document in Document::read_all(&text) {
        match document.with_context(|| format!("{shown} cannot be used"))? {
            Document::AccessToken(token) => tokens.push(token),
            other => bail!("{shown} is not a token: it holds a {}", other.kind()),
        }
    }
    let count = tokens.len();
    match (tokens.pop(), count) {
        (Some(token), 1) => {
            check(&token.clone().into()).with_context(|| format!("{shown} cannot be used"))?;
            Ok(token)
        }
        (None, _) => bail!("{shown} is not a token: it is empty"),
        _ => bail!("{shown} holds {count} of {}; redeem them one by one", Kind::AccessToken),
    }
}
