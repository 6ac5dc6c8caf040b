//! Documents from a folder.
//!
//! Loading never fails: whatever is wrong with one file or one document becomes a [`Problem`] and leaves the others alone.
//! The order of files decides where documents contradict each other: what comes first counts.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::check::{Fault, check};
use crate::document::{Content, Document, DocumentError, Key};
use crate::resource::{Kind, Link, RouterAccess};
use crate::yaml;

/// How large a file may be; a hundred times what the largest network needs.
pub const MAX_FILE_OCTETS: u64 = 16 << 20;

/// How the names of files end that hold documents.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The documents of a folder, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Documents {
    entries: BTreeMap<Key, Entry>,
    problems: Vec<Problem>,
}

/// A document and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The document.
    pub document: Document,
    /// Its file.
    pub file: PathBuf,
    /// The line of the file where it starts, from 1.
    pub line: usize,
    /// Why it is not carried out.
    pub fault: Option<Fault>,
}

impl Entry {
    /// For the status: whether the document can be carried out, or why not.
    ///
    /// # Errors
    /// The text of the [`Fault`].
    pub fn configured(&self) -> Result<(), String> {
        self.fault.as_ref().map_or(Ok(()), |fault| Err(fault.to_string()))
    }
}

/// Something wrong with a file or a document, shown as `path:line: Kind name: what`.
#[derive(Debug)]
pub struct Problem {
    /// The file, or the folder that could not be read.
    pub file: PathBuf,
    /// The line, from 1, if it is about a place in the file.
    pub line: Option<usize>,
    /// The document, if it is known.
    pub key: Option<Key>,
    /// What is wrong.
    pub cause: Cause,
}

/// What is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The operating system does not let us read it.
    #[error("cannot be read: {0}; check its owner and permissions")]
    Unreadable(io::Error),
    /// It is larger than [`MAX_FILE_OCTETS`].
    #[error("is larger than {} MiB; divide it", MAX_FILE_OCTETS >> 20)]
    TooLarge,
    /// Octets that are no text.
    #[error("is not UTF-8 text; save it as such")]
    NotText,
    /// Nothing at all is in it: somebody is about to write it, or something went wrong then.
    #[error("is empty; write its documents again, or remove it")]
    Empty,
    /// A document that cannot be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A document that cannot be carried out.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A document that is there twice.
    #[error("is also in {}, line {line}, and that one counts; remove one of them", file.display())]
    Duplicate {
        /// Where the other is.
        file: PathBuf,
        /// Where the other is.
        line: usize,
    },
}

impl Problem {
    /// Whether nothing is wrong with what the author may have wanted from us: a whole document of a kind of others.
    pub fn is_warning(&self) -> bool {
        matches!(self.cause, Cause::Document(DocumentError::UnsupportedKind { name: Some(_), .. }))
    }

    fn of_file(file: &Path, cause: Cause) -> Self {
        Self { file: file.to_owned(), line: None, key: None, cause }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        self.cause.fmt(f)
    }
}

impl Documents {
    /// Reads the documents of a folder and its sub-folders, of one that is absent none; checks nothing but that no
    /// document is there twice.
    ///
    /// Files are those that end in `.yaml`, `.yml` or `.json` and do not start with a dot.
    pub fn read(folder: &Path) -> Self {
        let mut documents = Self::default();
        let files = files(folder, &mut documents.problems);
        for file in files {
            documents.read_file(&file);
        }
        documents
    }

    /// Reads the documents of a namespace and checks each of them, and all of them together.
    pub fn load(folder: &Path, namespace: &str) -> Self {
        let mut documents = Self::read(folder);
        for entry in documents.entries.values_mut() {
            entry.fault = check_namespace(&entry.document, namespace).and_then(|()| check(&entry.document)).err();
        }
        documents.check_sites();
        documents.check_listeners();
        documents.check_accesses();
        documents.check_secrets();
        let faults = documents.entries.iter().filter_map(|(key, entry)| {
            let Entry { file, line, fault, .. } = entry;
            let cause = Cause::Fault(fault.clone()?);
            Some(Problem { file: file.clone(), line: Some(*line), key: Some(key.clone()), cause })
        });
        documents.problems.extend(faults);
        documents.problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        documents
    }

    /// All documents, by kind and name, those with a fault included.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// A document, even one with a fault.
    pub fn entry(&self, kind: Kind, name: &str) -> Option<&Entry> {
        self.entries.get(&Key::new(kind, name))
    }

    /// Documents of one kind that can be carried out, by name.
    pub fn sound<C: Content>(&self) -> impl Iterator<Item = &C> {
        self.entries.values().filter(|entry| entry.fault.is_none()).filter_map(|entry| C::of(&entry.document))
    }

    /// Everything that is wrong, by file and line.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    fn read_file(&mut self, file: &Path) {
        let text = match read_text(file) {
            Ok(text) => text,
            // It was removed after the folder was read.
            Err(Cause::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => return,
            Err(cause) => return self.problems.push(Problem::of_file(file, cause)),
        };
        if text.trim().is_empty() {
            return self.problems.push(Problem::of_file(file, Cause::Empty));
        }
        for section in yaml::sections(&text) {
            let file = file.to_owned();
            match Document::read(section) {
                Ok(document) => self.insert(Entry { document, file, line: section.line, fault: None }),
                Err(error) => {
                    let key = crate::document::key_of(section);
                    self.problems.push(Problem { file, line: Some(error.line()), key, cause: error.into() });
                }
            }
        }
    }

    fn insert(&mut self, entry: Entry) {
        let key = entry.document.key();
        if let Some(first) = self.entries.get(&key) {
            let cause = Cause::Duplicate { file: first.file.clone(), line: first.line };
            self.problems.push(Problem { file: entry.file, line: Some(entry.line), key: Some(key), cause });
        } else {
            self.entries.insert(key, entry);
        }
    }

    /// The keys of sound documents of a kind, in the order of files.
    fn in_file_order(&self, kind: Kind) -> Vec<Key> {
        let of_kind = self.entries.iter().filter(|(key, entry)| key.kind == kind && entry.fault.is_none());
        let mut entries: Vec<_> = of_kind.collect();
        entries.sort_by_key(|(_, entry)| (&entry.file, entry.line));
        entries.into_iter().map(|(key, _)| key.clone()).collect()
    }

    fn set_fault(&mut self, key: &Key, fault: Fault) {
        self.entries.get_mut(key).expect("a key of an entry").fault = Some(fault);
    }

    fn content<C: Content>(&self, key: &Key) -> &C {
        C::of(&self.entries[key].document).expect("a document of this kind")
    }

    fn check_sites(&mut self) {
        let sites = self.in_file_order(Kind::Site);
        let Some((first, others)) = sites.split_first() else { return };
        for other in others {
            self.set_fault(other, Fault::SecondSite(first.name.clone()));
        }
    }

    fn check_listeners(&mut self) {
        let mut taken = BTreeMap::new();
        let keys = [Kind::Listener, Kind::MultiKeyListener].map(|kind| self.in_file_order(kind));
        for key in keys.into_iter().flatten() {
            let (host, port) = match &self.entries[&key].document {
                Document::Listener(listener) => (listener.spec.host.clone(), listener.spec.port),
                Document::MultiKeyListener(listener) => (listener.spec.host.clone(), listener.spec.port),
                _ => continue,
            };
            let first: &Key = taken.entry((host.clone(), port)).or_insert_with(|| key.clone());
            if *first != key {
                let name = first.name.clone();
                self.set_fault(&key, Fault::ListenerTaken { name, host, port });
            }
        }
    }

    fn check_accesses(&mut self) {
        let mut taken: BTreeMap<(String, u16), String> = BTreeMap::new();
        for key in self.in_file_order(Kind::RouterAccess) {
            let spec = &self.content::<RouterAccess>(&key).spec;
            let host = spec.bind_host.clone().unwrap_or_else(|| "0.0.0.0".to_owned());
            let places: Vec<_> =
                spec.roles.iter().filter_map(|role| Some((host.clone(), role.listening_port()?))).collect();
            for (index, place) in places.iter().enumerate() {
                let holder = taken.get(place).or_else(|| places[..index].contains(place).then_some(&key.name));
                if let Some(name) = holder.cloned() {
                    let (host, port) = place.clone();
                    self.set_fault(&key, Fault::AccessTaken { name, host, port });
                    break;
                }
            }
            if self.entries[&key].fault.is_none() {
                taken.extend(places.into_iter().map(|place| (place, key.name.clone())));
            }
        }
    }

    fn check_secrets(&mut self) {
        let has_secret = |name: &str| self.entry(Kind::Secret, name).is_some_and(|entry| entry.fault.is_none());
        let fault = |link: &Link| {
            if let Some(name) = link.spec.tls_credentials.as_deref().filter(|name| !has_secret(name)) {
                return Some(Fault::SecretNotFound(name.to_owned()));
            }
            link.spec.proxy().filter(|name| !has_secret(name)).map(|_| Fault::ProxyNotFound)
        };
        let links = self.in_file_order(Kind::Link);
        let faults: Vec<_> = links.into_iter().filter_map(|key| Some((fault(self.content(&key))?, key))).collect();
        for (fault, key) in faults {
            self.set_fault(&key, fault);
        }
    }
}

fn check_namespace(document: &Document, expected: &str) -> Result<(), Fault> {
    match &document.metadata().namespace {
        Some(found) if found != expected => {
            Err(Fault::OtherNamespace { found: found.clone(), expected: expected.to_owned() })
        }
        _ => Ok(()),
    }
}

/// The files of a folder that hold documents, sorted by path.
pub(crate) fn files(folder: &Path, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(folder, &mut files, problems);
    files.sort();
    files
}

/// Reads a file that holds documents.
pub(crate) fn read_text(file: &Path) -> Result<String, Cause> {
    if fs::metadata(file).map_err(Cause::Unreadable)?.len() > MAX_FILE_OCTETS {
        return Err(Cause::TooLarge);
    }
    String::from_utf8(fs::read(file).map_err(Cause::Unreadable)?).map_err(|_| Cause::NotText)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>, problems: &mut Vec<Problem>) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return problems.push(Problem::of_file(folder, Cause::Unreadable(error))),
    };
    let (entries, errors): (Vec<_>, Vec<_>) = entries.partition(Result::is_ok);
    let unreadable = |error| Problem::of_file(folder, Cause::Unreadable(error));
    problems.extend(errors.into_iter().filter_map(Result::err).map(unreadable));
    let is_hidden = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b".");
    for entry in entries.into_iter().flatten().filter(|entry| !is_hidden(entry)) {
        let path = entry.path();
        let is_document = path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known));
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&path, files, problems);
        } else if is_document && fs::metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            // Perhaps through a symbolic link, which is how Kubernetes mounts files.
            files.push(path);
        }
    }
}
