//! Credentials as files: the folder of three that Skupper uses, and the three paths of an `sslProfile`.
//!
//! A folder cannot replace three files at once. [`write()`] comes as near as plain files allow: every new file is
//! written and synced under another name first, then all three are renamed, `tls.crt` last. So each file is whole
//! at any moment and after a crash. Between the renames a reader may see the new key beside the old certificate;
//! it notices, because keys match certificates or do not, and reads again. A crash just there leaves such a
//! pair behind; the next [`write()`] mends it. A program that watches the folder should wait for `tls.crt`.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use crate::credentials::{Credentials, CredentialsError, Identity, Trust};

/// The file of the certificate chain in a folder.
pub const CERTIFICATE_FILE: &str = "tls.crt";
/// The file of the private key in a folder; only its owner may read it.
pub const KEY_FILE: &str = "tls.key";
/// The file of the CA certificates in a folder.
pub const CA_FILE: &str = "ca.crt";

/// Octets of a file that is read. The certificates of all public CAs take some 250 KiB.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// How often a pair that does not match is read, in case it is just being replaced.
const READ_ATTEMPTS: usize = 3;

/// Reads the three files of a folder.
///
/// # Errors
/// [`LoadError`] names the file and says what is wrong with it.
pub fn read(folder: &Path) -> Result<Credentials, LoadError> {
    Ok(Credentials {
        identity: read_identity(&folder.join(CERTIFICATE_FILE), &folder.join(KEY_FILE), None)?,
        trust: read_trust(&folder.join(CA_FILE))?,
    })
}

/// Writes the three files of a folder, replacing what is there; makes the folder if need be.
///
/// # Errors
/// [`StoreError`]; then each file is either the old or the new one.
pub fn write(folder: &Path, credentials: &Credentials) -> Result<(), StoreError> {
    let Credentials { identity, trust } = credentials;
    let store = || {
        fs::create_dir_all(folder)?;
        let files = [
            (CA_FILE, draft(folder, trust.pem(), 0o644)?),
            (KEY_FILE, draft(folder, identity.key_pem(), 0o600)?),
            (CERTIFICATE_FILE, draft(folder, identity.chain_pem(), 0o644)?),
        ];
        for (name, file) in files {
            file.persist(folder.join(name))?;
        }
        File::open(folder)?.sync_all()
    };
    store().map_err(|source| StoreError { folder: folder.to_owned(), source })
}

/// Reads a file of certificates, keys or passwords: a regular one of 1 MiB at most, for whoever may change a configuration
/// names files, and there are those that never end, or never begin.
///
/// # Errors
/// The operating system's, or what is wrong with the file.
pub fn read_secret(path: &Path) -> io::Result<Zeroizing<String>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = Zeroizing::new(String::new());
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    match text.len() as u64 {
        ..=MAX_FILE_BYTES => Ok(text),
        _ => Err(io::Error::other(format!("it has more than {MAX_FILE_BYTES} octets"))),
    }
}

/// The files of an `sslProfile`, any of which may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileFiles {
    /// `certFile`
    pub certificate: Option<PathBuf>,
    /// `privateKeyFile`
    pub key: Option<PathBuf>,
    /// `caCertFile`
    pub ca: Option<PathBuf>,
}

/// What the files of an `sslProfile` hold.
#[derive(Debug, Clone)]
pub struct Profile {
    /// What to show, if the profile has a certificate and a key.
    pub identity: Option<Identity>,
    /// Whom to believe, if the profile has a CA.
    pub trust: Option<Trust>,
}

impl ProfileFiles {
    /// Reads those files that are named.
    ///
    /// # Errors
    /// [`LoadError`] names the file and says what is wrong with it; [`LoadError::HalfIdentity`] if only one of
    /// certificate and key is named.
    pub fn read(&self) -> Result<Profile, LoadError> {
        self.read_encrypted(None)
    }

    /// As [`ProfileFiles::read`], with what the key is encrypted with, if it is.
    ///
    /// # Errors
    /// As [`ProfileFiles::read`].
    pub fn read_encrypted(&self, password: Option<&str>) -> Result<Profile, LoadError> {
        let identity = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some(read_identity(certificate, key, password)?),
            (None, None) => None,
            (Some(path), None) | (None, Some(path)) => {
                return Err(LoadError::HalfIdentity { path: path.clone() });
            }
        };
        Ok(Profile { identity, trust: self.ca.as_deref().map(read_trust).transpose()? })
    }
}

/// Why credentials could not be read; whoever provides the file is to act.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// There is no such file.
    #[error("{} is absent", path.display())]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// The file is there, but this process cannot read it.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// The file does not hold what it should.
    #[error("{} cannot be used", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: CredentialsError,
    },
    /// The key belongs to another certificate, and not because both were just being replaced.
    #[error("{} is not the key of {}; replace both", key.display(), certificate.display())]
    KeyMismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// A certificate is named without its key, or the other way round.
    #[error("{} needs its counterpart: name the files of both certificate and key", path.display())]
    HalfIdentity {
        /// The file that is named.
        path: PathBuf,
    },
}

/// Why credentials could not be written: the disk, or the rights in the folder.
#[derive(Debug, thiserror::Error)]
#[error("credentials cannot be written to {}", folder.display())]
pub struct StoreError {
    folder: PathBuf,
    source: io::Error,
}

fn read_identity(certificate: &Path, key: &Path, password: Option<&str>) -> Result<Identity, LoadError> {
    for _ in 0..READ_ATTEMPTS {
        let chain_text = read_text(certificate)?;
        let key_text = read_text(key)?;
        match Identity::from_encrypted_pem(&chain_text, &key_text, password) {
            Ok(identity) => return Ok(identity),
            Err(CredentialsError::KeyMismatch) => {}
            Err(source) => {
                let path = if source.is_about_the_key() { key } else { certificate };
                return Err(LoadError::Unusable { path: path.to_owned(), source });
            }
        }
    }
    Err(LoadError::KeyMismatch { certificate: certificate.to_owned(), key: key.to_owned() })
}

fn read_trust(path: &Path) -> Result<Trust, LoadError> {
    Trust::from_pem(&read_text(path)?).map_err(|source| LoadError::Unusable { path: path.to_owned(), source })
}

fn read_text(path: &Path) -> Result<Zeroizing<String>, LoadError> {
    read_secret(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => LoadError::Absent { path: path.to_owned() },
        _ => LoadError::Unreadable { path: path.to_owned(), source },
    })
}

fn draft(folder: &Path, text: &str, mode: u32) -> io::Result<NamedTempFile> {
    let mut file =
        tempfile::Builder::new().prefix(".tls").permissions(Permissions::from_mode(mode)).tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}
