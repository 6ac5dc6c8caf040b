//! The file that carries a token from one site to another.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tempfile::NamedTempFile;
use van_site::{AccessToken, yaml};

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
            let is_token = path.is_file() && AccessToken::read(path).is_ok();
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
