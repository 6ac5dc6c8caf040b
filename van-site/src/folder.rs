//! The folder of a namespace: where its documents, certificates and results are.
//!
//! Its layout is that of Skupper's local systems. `input` belongs to the user, `runtime` is derived from it, `internal` is
//! nobody's business. Every file is replaced whole or not at all.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{process, thread};

use crate::document::{self, Document, DocumentMap, Key};
use crate::load::{self, Cause, Documents};
use crate::names::{self, InputError};
use crate::resource::Kind;
use crate::status::State;
use crate::yaml::{self, Section};

/// What only the user may read.
const PRIVATE: u32 = 0o600;
/// What everybody may read.
const PUBLIC: u32 = 0o644;

/// How often a lock is tried that somebody only looks at, and the rest in between: whoever looks may lose the processor
/// while it does.
const LOCK_ATTEMPTS: usize = 1000;
const LOCK_REST: Duration = Duration::from_millis(1);

/// The folder in which the namespaces of a user are.
///
/// `variable` looks up the environment. `XDG_DATA_HOME` wins for every user; without it root has `/var/lib/skupper`, others
/// `~/.local/share/skupper`. Nothing, if there is no `HOME` either.
pub fn base(variable: impl Fn(&str) -> Option<OsString>, is_root: bool) -> Option<PathBuf> {
    let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = match path("XDG_DATA_HOME") {
        Some(data) => data,
        None if is_root => PathBuf::from("/var/lib"),
        None => path("HOME")?.join(".local/share"),
    };
    Some(data.join("skupper"))
}

/// The folder of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    name: String,
    root: PathBuf,
}

impl Namespace {
    /// A namespace below the [`base`] of a user.
    pub fn below(base: &Path, name: &str) -> Self {
        Self::at(base.join("namespaces").join(name), name)
    }

    /// A namespace whose folder is elsewhere.
    pub fn at(root: impl Into<PathBuf>, name: impl Into<String>) -> Self {
        Self { name: name.into(), root: root.into() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The user's documents.
    pub fn input_resources(&self) -> PathBuf {
        self.root.join("input/resources")
    }

    /// The user's certificates, a folder each; they win over those made here.
    pub fn input_certs(&self) -> PathBuf {
        self.root.join("input/certs")
    }

    /// The user's CAs, a folder each.
    pub fn input_issuers(&self) -> PathBuf {
        self.root.join("input/issuers")
    }

    /// Documents with their status.
    pub fn runtime_resources(&self) -> PathBuf {
        self.root.join("runtime/resources")
    }

    /// Certificates in use, a folder each.
    pub fn runtime_certs(&self) -> PathBuf {
        self.root.join("runtime/certs")
    }

    /// Passwords of the proxies of links, a folder each.
    pub fn runtime_proxies(&self) -> PathBuf {
        self.root.join("runtime/proxies")
    }

    /// What of the user's documents cannot be read.
    pub fn problems(&self) -> PathBuf {
        self.root.join("runtime/problems.yaml")
    }

    /// CAs in use, a folder each; never overwritten.
    pub fn runtime_issuers(&self) -> PathBuf {
        self.root.join("runtime/issuers")
    }

    /// Links for other sites to use as they are.
    pub fn runtime_links(&self) -> PathBuf {
        self.root.join("runtime/links")
    }

    /// The configuration of the router.
    pub fn router_config(&self) -> PathBuf {
        self.root.join("runtime/router/skrouterd.json")
    }

    /// Where a controller of this namespace says that it runs.
    pub fn controller_lock(&self) -> PathBuf {
        self.internal().join("controller.lock")
    }

    /// Where a controller of this namespace takes requests to measure the network: in [`Namespace::internal`].
    pub const BENCH_SOCKET: &str = "bench.sock";

    /// What is nobody's business: what must be remembered, locks, scripts.
    pub fn internal(&self) -> PathBuf {
        self.root.join("internal")
    }

    /// Whether Skupper set it up, and no site of ours ever ran in it.
    pub fn is_of_skupper(&self) -> bool {
        self.internal().join("platform.yaml").exists() && !self.controller_lock().exists()
    }

    /// Reads and checks the user's documents. Where they contradict each other, those count that a controller carries out.
    pub fn load_input(&self) -> Documents {
        let is_failed = |document: &Document| document.status().is_some_and(|it| it.state == Some(State::Error));
        let runtime = self.read_runtime();
        let in_effect = runtime.entries().map(|entry| &entry.document).filter(|document| !is_failed(document));
        let in_effect = in_effect.map(|document| (document.key(), document.clone())).collect();
        self.load_input_after(&in_effect)
    }

    /// Reads and checks the user's documents when these are in effect.
    pub fn load_input_after(&self, in_effect: &DocumentMap) -> Documents {
        Documents::load(&self.input_resources(), &self.name, in_effect)
    }

    /// Stores a document of the user: where it stands already, among its neighbours, or else in a file of its own.
    ///
    /// # Errors
    /// [`FolderError`]; then nothing has changed.
    pub fn put_input(&self, document: &Document) -> Result<PathBuf, FolderError> {
        let key = document.key();
        for file in self.input_files() {
            let Ok(text) = load::read_text(&file) else { continue };
            let Some(section) = yaml::sections(&text).into_iter().find(|section| is_of(*section, &key)) else {
                continue;
            };
            let is_private = key.kind.is_secret() || !is_public(&file);
            let text = spliced(&text, section, &written(document, &file, section.text.starts_with("---")));
            replace(&file, &text, if is_private { PRIVATE } else { PUBLIC })?;
            return Ok(file);
        }
        let file = file_in(self.input_resources(), &key)?;
        let known = match load::read_text(&file) {
            Ok(known) => known,
            Err(Cause::Unreadable(error)) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                String::new()
            }
            Err(cause) => return Err(FolderError::Read { path: file, source: io::Error::other(cause) }),
        };
        let holds_others = !known.trim().is_empty();
        let mut text = written(document, &file, holds_others);
        if holds_others {
            text = format!("{}\n{text}", known.trim_end());
        }
        let is_private = key.kind.is_secret() || holds_others && !is_public(&file);
        replace(&file, &text, if is_private { PRIVATE } else { PUBLIC })?;
        Ok(file)
    }

    /// Removes a document of the user from whichever files it is in, and with it files that hold no other; returns the
    /// files that it was in.
    ///
    /// # Errors
    /// [`FolderError`]; then it is still in some of them.
    pub fn delete_input(&self, key: &Key) -> Result<Vec<PathBuf>, FolderError> {
        let mut found = Vec::new();
        for file in self.input_files() {
            let Ok(mut text) = load::read_text(&file) else { continue };
            let mut is_found = false;
            while let Some(section) = yaml::sections(&text).into_iter().find(|section| is_of(*section, key)) {
                text = spliced(&text, section, "");
                is_found = true;
            }
            if !is_found {
                continue;
            }
            if yaml::sections(&text).is_empty() {
                fs::remove_file(&file).map_err(|source| FolderError::writing(&file, source))?;
            } else {
                replace(&file, &text, if is_public(&file) { PUBLIC } else { PRIVATE })?;
            }
            found.push(file);
        }
        Ok(found)
    }

    /// Stores a document with its status; returns whether it had changed.
    ///
    /// # Errors
    /// [`FolderError`]
    pub fn write_runtime(&self, document: &Document) -> Result<bool, FolderError> {
        let key = document.key();
        let file = file_in(self.runtime_resources(), &key)?;
        let text = yaml::write(document);
        if fs::read(&file).is_ok_and(|known| known == text.as_bytes()) {
            return Ok(false);
        }
        replace(&file, &text, mode_of(key.kind)).map(|()| true)
    }

    /// Removes a document with its status, if it is there.
    ///
    /// # Errors
    /// [`FolderError`]
    pub fn remove_runtime(&self, key: &Key) -> Result<(), FolderError> {
        let file = file_in(self.runtime_resources(), key)?;
        match fs::remove_file(&file) {
            Err(source) if source.kind() != ErrorKind::NotFound => Err(FolderError::writing(&file, source)),
            _ => Ok(()),
        }
    }

    /// Reads the documents with their status.
    pub fn read_runtime(&self) -> Documents {
        Documents::read(&self.runtime_resources())
    }

    /// Claims the namespace for the controller of this process, until what is returned is dropped.
    ///
    /// # Errors
    /// [`FolderError::Locked`] if another controller runs it.
    pub fn lock_controller(&self) -> Result<ControllerLock, FolderError> {
        let path = self.controller_lock();
        make_folder(&self.internal())?;
        let writing = |source| FolderError::writing(&path, source);
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(writing)?;
        for _ in 0..LOCK_ATTEMPTS {
            match file.try_lock() {
                Ok(()) => {
                    file.set_len(0).and_then(|()| writeln!(file, "{}", process::id())).map_err(writing)?;
                    return Ok(ControllerLock { _file: file });
                }
                Err(TryLockError::Error(source)) => return Err(writing(source)),
                Err(TryLockError::WouldBlock) => {}
            }
            // Those who only look hold the lock for a moment, and let others look too.
            if file.try_lock_shared().is_err() {
                break;
            }
            file.unlock().map_err(writing)?;
            thread::sleep(LOCK_REST);
        }
        Err(FolderError::Locked { name: self.name.clone(), process: pid(&mut file) })
    }

    /// Whether a controller runs the namespace, and its process.
    ///
    /// # Errors
    /// [`FolderError::Read`]
    pub fn controller(&self) -> Result<Option<Controller>, FolderError> {
        let path = self.controller_lock();
        let reading = |source| FolderError::Read { path: path.clone(), source };
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(reading(error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(Controller { process: pid(&mut file) })),
            Err(TryLockError::Error(error)) => Err(reading(error)),
        }
    }

    /// What cannot be listed or read is passed over: [`Namespace::load_input`] names it.
    fn input_files(&self) -> Vec<PathBuf> {
        load::files(&self.input_resources(), &mut Vec::new())
    }
}

/// The claim of a controller on a namespace; dropping it, or the end of the process, gives it up.
#[derive(Debug)]
pub struct ControllerLock {
    _file: File,
}

/// A controller that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Controller {
    /// Its process, if it has said so already.
    pub process: Option<u32>,
}

/// Why a folder could not be used; whoever runs the program is to act.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Somebody else's folder, or one that nobody may write.
    #[error("{} cannot be written: check its owner and permissions, or choose another place with XDG_DATA_HOME", path.display())]
    Forbidden {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// No space left.
    #[error("{} cannot be written: the disk is full; make room and try again", path.display())]
    Full {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Any other reason not to be written.
    #[error("{} cannot be written", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// It cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// A document whose name cannot be that of a file.
    #[error(transparent)]
    Name(#[from] InputError),
    /// Another controller is at work.
    #[error(
        "another controller{} runs namespace {name:?}; stop it first",
        process.map(|process| format!(" (process {process})")).unwrap_or_default()
    )]
    Locked {
        /// The namespace.
        name: String,
        /// The other's process, if it has said so already.
        process: Option<u32>,
    },
}

impl FolderError {
    /// The error of the operating system, with what to do.
    pub fn writing(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::Forbidden { path, source },
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full { path, source },
            _ => Self::Write { path, source },
        }
    }
}

/// Replaces a file whole or not at all, also if the power fails; makes its folder if need be.
///
/// # Errors
/// [`FolderError`]; then the file is what it was.
pub fn replace(file: &Path, text: &str, mode: u32) -> Result<(), FolderError> {
    let folder = file.parent().unwrap_or(Path::new("."));
    make_folder(folder)?;
    let store = || {
        let mut draft = tempfile::Builder::new().prefix(".van").tempfile_in(folder)?;
        draft.write_all(text.as_bytes())?;
        draft.as_file().set_permissions(Permissions::from_mode(mode))?;
        draft.as_file().sync_all()?;
        draft.persist(file)?;
        File::open(folder)?.sync_all()
    };
    store().map_err(|source| FolderError::writing(file, source))
}

/// The file of a document; a name that is none could lead out of the folder.
fn file_in(folder: PathBuf, key: &Key) -> Result<PathBuf, FolderError> {
    names::resource_name(&key.name)?;
    Ok(folder.join(key.file_name()))
}

fn make_folder(folder: &Path) -> Result<(), FolderError> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
    made.map_err(|source| FolderError::writing(folder, source))
}

fn is_public(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o044 != 0)
}

fn mode_of(kind: Kind) -> u32 {
    if kind.is_secret() { PRIVATE } else { PUBLIC }
}

fn is_of(section: Section<'_>, key: &Key) -> bool {
    document::key_of(section).is_some_and(|other| other == *key)
}

/// A document as the text that its file holds.
fn written(document: &Document, file: &Path, has_marker: bool) -> String {
    if file.extension().is_some_and(|extension| extension == "json") {
        return yaml::to_json(document) + "\n";
    }
    let marker = if has_marker { "---\n" } else { "" };
    format!("{marker}{}", yaml::write(document))
}

/// A stream with other text in the place of a section.
fn spliced(stream: &str, section: Section<'_>, text: &str) -> String {
    let end = section.offset + section.text.len();
    [&stream[..section.offset], text, &stream[end..]].concat()
}

fn pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_forbidden_place_are_told_with_what_to_do() {
        let path = Path::new("/x");
        let full = fs::write("/dev/full", "x").unwrap_err();
        assert_eq!(
            FolderError::writing(path, full).to_string(),
            "/x cannot be written: the disk is full; make room and try again"
        );
        let read_only = io::Error::from(ErrorKind::ReadOnlyFilesystem);
        assert_eq!(
            FolderError::writing(path, read_only).to_string(),
            "/x cannot be written: check its owner and permissions, or choose another place with XDG_DATA_HOME"
        );
    }
}
