//! Documents from a folder.
//!
//! Loading never fails: whatever is wrong with one file or one document becomes a [`Problem`] and leaves the others alone.
//! Where documents contradict each other, what is in effect stays so, and else what comes first in the order of files counts.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::check::{Fault, check};
use crate::document::{Content, Document, DocumentError, DocumentMap, Key};
use crate::resource::{Kind, Link};
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

    /// Reads the documents of a namespace and checks each of them, and all of them together, when these are in effect.
    pub fn load(folder: &Path, namespace: &str, in_effect: &DocumentMap) -> Self {
        let mut documents = Self::read(folder);
        for entry in documents.entries.values_mut() {
            entry.fault = check_namespace(&entry.document, namespace).and_then(|()| check(&entry.document)).err();
        }
        documents.check_sites(in_effect);
        documents.check_places(&[Kind::Listener, Kind::MultiKeyListener], in_effect);
        documents.check_places(&[Kind::RouterAccess], in_effect);
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

    /// The keys of sound documents of some kinds: those that have been given what they ask for, then the others, by kind and in
    /// the order of files.
    fn in_order(&self, kinds: &[Kind], in_effect: &DocumentMap) -> Vec<Key> {
        let of_kind = self.entries.iter().filter(|(key, entry)| kinds.contains(&key.kind) && entry.fault.is_none());
        let mut entries: Vec<_> = of_kind.collect();
        entries.sort_by_key(|(key, entry)| {
            let is_given = in_effect.get(key).is_some_and(|before| places(before) == places(&entry.document));
            (!is_given, kinds.iter().position(|kind| *kind == key.kind), &entry.file, entry.line)
        });
        entries.into_iter().map(|(key, _)| key.clone()).collect()
    }

    fn set_fault(&mut self, key: &Key, fault: Fault) {
        self.entries.get_mut(key).expect("a key of an entry").fault = Some(fault);
    }

    fn content<C: Content>(&self, key: &Key) -> &C {
        C::of(&self.entries[key].document).expect("a document of this kind")
    }

    fn check_sites(&mut self, in_effect: &DocumentMap) {
        let sites = self.in_order(&[Kind::Site], in_effect);
        let Some((first, others)) = sites.split_first() else { return };
        for other in others {
            self.set_fault(other, Fault::SecondSite(first.name.clone()));
        }
    }

    /// Each place is one document's, and that once.
    fn check_places(&mut self, kinds: &[Kind], in_effect: &DocumentMap) {
        let mut taken: BTreeMap<(String, u16), String> = BTreeMap::new();
        for key in self.in_order(kinds, in_effect) {
            let places = places(&self.entries[&key].document);
            let holder = places.iter().enumerate().find_map(|(index, place)| {
                let holder = taken.get(place).or_else(|| places[..index].contains(place).then_some(&key.name));
                Some((holder?.clone(), place.clone()))
            });
            match holder {
                Some((name, (host, port))) if key.kind == Kind::RouterAccess => {
                    self.set_fault(&key, Fault::AccessTaken { name, host, port });
                }
                Some((name, (host, port))) => self.set_fault(&key, Fault::ListenerTaken { name, host, port }),
                None => taken.extend(places.into_iter().map(|place| (place, key.name.clone()))),
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
        let links = self.in_order(&[Kind::Link], &DocumentMap::new());
        let faults: Vec<_> = links.into_iter().filter_map(|key| Some((fault(self.content(&key))?, key))).collect();
        for (fault, key) in faults {
            self.set_fault(&key, fault);
        }
    }
}

/// Where the router listens for a document.
fn places(document: &Document) -> Vec<(String, u16)> {
    match document {
        Document::Listener(listener) => vec![(listener.spec.host.clone(), listener.spec.port)],
        Document::MultiKeyListener(listener) => vec![(listener.spec.host.clone(), listener.spec.port)],
        Document::RouterAccess(access) => {
            let host = access.spec.bind_host.as_deref().unwrap_or("0.0.0.0");
            let ports = access.spec.roles.iter().filter_map(|role| role.listening_port());
            ports.map(|port| (host.to_owned(), port)).collect()
        }
        _ => Vec::new(),
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
