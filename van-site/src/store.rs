//! Where a site keeps what must outlive it: in a namespace folder, or in memory for as long as the program runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use van_adaptors::CredentialsSource;
use van_grant::Grant;
use van_tls::directory::{self, LoadError};
use van_tls::{Credentials, Trust};

use crate::document::{Document, DocumentMap, Key};
use crate::folder::{self, FolderError, Namespace};
use crate::input::{Complaint, Input};
use crate::resource::access_token::AccessTokenSpec;
use crate::yaml;

/// The mode of files that only their owner may read.
const PRIVATE: u32 = 0o600;

/// The mode of all others.
const PUBLIC: u32 = 0o644;

/// What the names of a link's TLS profile, and of the folder of its certificates, end in.
pub(crate) const PROFILE_SUFFIX: &str = "-profile";

/// The file with a proxy's password, in a folder of the proxy's name.
pub(crate) const PASSWORD_FILE: &str = "password.txt";

/// Where a site keeps what must outlive it.
#[derive(Debug)]
pub struct Store(Medium);

#[derive(Debug)]
enum Medium {
    Folder(Namespace),
    Memory(Mutex<Memory>),
}

#[derive(Debug, Default)]
struct Memory {
    documents: DocumentMap,
    credentials: BTreeMap<(Shelf, String), Credentials>,
}

/// A kind of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shelf {
    /// CAs.
    Issuers,
    /// All others.
    Certificates,
}

/// Credentials, and whose they are.
#[derive(Debug, Clone)]
pub struct Held {
    /// What they are.
    pub credentials: Credentials,
    /// The user put them there: they are not written over.
    pub is_provided: bool,
}

/// What a site is known by, drawn once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Identity {
    /// Its id, a UUID.
    pub id: String,
    /// The id of its router.
    pub router: String,
    /// Ports it chose, by what they are for. Tokens and links elsewhere name them.
    #[serde(default)]
    pub ports: BTreeMap<String, u16>,
}

/// A grant as it outlives a restart.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeptGrant {
    /// When the site saw it first; its life counts from then.
    pub created: Timestamp,
    /// What it offers, and how often it was taken.
    pub grant: Grant,
}

/// Why something cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder of the namespace.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Credentials that cannot be used.
    #[error(transparent)]
    Unusable(#[from] LoadError),
    /// Credentials that cannot be written.
    #[error(transparent)]
    Unwritable(#[from] directory::StoreError),
    /// What the site remembers of itself cannot be read.
    #[error("{} cannot be read; restore it from a backup, or remove it: then tokens and links made before are lost", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Store {
    /// In a folder.
    pub fn folder(namespace: Namespace) -> Self {
        Self(Medium::Folder(namespace))
    }

    /// In memory.
    pub fn memory() -> Self {
        Self(Medium::Memory(Mutex::default()))
    }

    /// The folder, if it is one.
    pub fn namespace(&self) -> Option<&Namespace> {
        match &self.0 {
            Medium::Folder(namespace) => Some(namespace),
            Medium::Memory(_) => None,
        }
    }

    // === what the user wants ===

    /// The user's documents, after those `before`: what was in a file that cannot be read now is as it was.
    pub fn input(&self, before: &Input) -> Input {
        match &self.0 {
            Medium::Folder(namespace) => Input::read(namespace, before),
            Medium::Memory(memory) => Input::of(lock(memory).documents.clone()),
        }
    }

    /// Adds a document to the user's, or replaces one.
    ///
    /// # Errors
    /// [`StoreError::Folder`]
    pub fn put_input(&self, document: &Document) -> Result<(), StoreError> {
        match &self.0 {
            Medium::Folder(namespace) => drop(namespace.put_input(document)?),
            Medium::Memory(memory) => drop(lock(memory).documents.insert(document.key(), document.clone())),
        }
        Ok(())
    }

    // === what the site remembers ===

    /// What the site is known by, if it has been drawn.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]
    pub fn identity(&self) -> Result<Option<Identity>, StoreError> {
        self.namespace().map_or(Ok(None), |namespace| read_json(&identity_file(namespace)))
    }

    /// Remembers what the site is known by.
    ///
    /// # Errors
    /// [`StoreError::Folder`]
    pub fn put_identity(&self, identity: &Identity) -> Result<(), StoreError> {
        self.namespace().map_or(Ok(()), |namespace| write_json(&identity_file(namespace), identity))
    }

    /// The grants of earlier lives.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]
    pub fn grants(&self) -> Result<Vec<KeptGrant>, StoreError> {
        let Some(namespace) = self.namespace() else { return Ok(Vec::new()) };
        let folder = grants_folder(namespace);
        let damaged = |source| StoreError::Damaged { path: folder.clone(), source };
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(damaged(error)),
        };
        let mut grants = Vec::new();
        for entry in entries {
            let path = entry.map_err(damaged)?.path();
            // Others are drafts that a crash left behind.
            if path.extension().is_some_and(|extension| extension == "json") {
                grants.extend(read_json(&path)?);
            }
        }
        Ok(grants)
    }

    /// Remembers a grant and how often it was redeemed; durably, when this returns.
    ///
    /// # Errors
    /// [`StoreError::Folder`]
    pub fn put_grant(&self, grant: &KeptGrant) -> Result<(), StoreError> {
        self.namespace().map_or(Ok(()), |namespace| write_json(&grant_file(namespace, &grant.grant.id), grant))
    }

    /// Forgets a grant.
    pub fn remove_grant(&self, id: &str) {
        if let Some(namespace) = self.namespace() {
            // What stays is found again at the next start, and removed then.
            let _ = fs::remove_file(grant_file(namespace, id));
        }
    }

    /// What the token of this name said that was redeemed last.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]
    pub fn redeemed(&self, name: &str) -> Result<Option<AccessTokenSpec>, StoreError> {
        self.namespace().map_or(Ok(None), |namespace| read_json(&redeemed_file(namespace, name)))
    }

    /// Remembers that a token is spent: also after [`Store::results`] are gone, and what it gave.
    ///
    /// # Errors
    /// [`StoreError::Folder`]
    pub fn put_redeemed(&self, name: &str, token: &AccessTokenSpec) -> Result<(), StoreError> {
        self.namespace().map_or(Ok(()), |namespace| write_json(&redeemed_file(namespace, name), token))
    }

    // === what became of it ===

    /// Documents with the statuses of earlier lives.
    pub fn results(&self) -> DocumentMap {
        let Some(namespace) = self.namespace() else { return DocumentMap::new() };
        let results = namespace.read_runtime();
        results.entries().map(|entry| (entry.document.key(), entry.document.clone())).collect()
    }

    /// Shows a document with its status.
    ///
    /// # Errors
    /// [`StoreError::Folder`]
    pub fn put_result(&self, document: &Document) -> Result<(), StoreError> {
        if let Some(namespace) = self.namespace() {
            namespace.write_runtime(document)?;
        }
        Ok(())
    }

    /// Shows a document no longer.
    ///
    /// # Errors
    /// [`StoreError::Folder`]
    pub fn remove_result(&self, key: &Key) -> Result<(), StoreError> {
        if let Some(namespace) = self.namespace() {
            namespace.remove_runtime(key)?;
        }
        Ok(())
    }

    /// Shows what of the input cannot be read.
    ///
    /// # Errors
    /// [`StoreError::Folder`]
    pub fn put_problems(&self, problems: &[Complaint]) -> Result<(), StoreError> {
        let Some(namespace) = self.namespace() else { return Ok(()) };
        let file = namespace.problems();
        if problems.is_empty() {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::Folder(FolderError::writing(&file, error)));
                }
                _ => return Ok(()),
            }
        }
        Ok(folder::replace(&file, &yaml::write(&problems), PUBLIC)?)
    }

    /// Shows what the router does as a file that routers read, with the certificates of links and the passwords of proxies,
    /// which are in no other file of the runtime; and removes those that are not wanted any more. `certificates` are the names of
    /// those that are kept as they are.
    ///
    /// # Errors
    /// [`StoreError::Folder`], [`StoreError::Unwritable`]
    pub fn put_router_config(
        &self,
        text: &str,
        certificates: &BTreeSet<&str>,
        profiles: &[(&str, &CredentialsSource)],
        passwords: &[(&str, &str)],
    ) -> Result<(), StoreError> {
        let Some(namespace) = self.namespace() else { return Ok(()) };
        for (name, credentials) in profiles {
            let folder = namespace.runtime_certs().join(name);
            let credentials = match credentials {
                CredentialsSource::Memory(credentials) => credentials,
                CredentialsSource::Trust(trust) => {
                    put_trust(&folder, trust)?;
                    continue;
                }
                CredentialsSource::Files(_) => continue,
            };
            let is_same = |known: Credentials| {
                known.identity.chain_pem() == credentials.identity.chain_pem()
                    && known.trust.pem() == credentials.trust.pem()
            };
            if !directory::read(&folder).is_ok_and(is_same) {
                directory::write(&folder, credentials)?;
            }
        }
        for (name, password) in passwords {
            let file = namespace.runtime_proxies().join(name).join(PASSWORD_FILE);
            if !fs::read(&file).is_ok_and(|known| known == password.as_bytes()) {
                folder::replace(&file, password, PRIVATE)?;
            }
        }
        // The keys of links that are gone do not stay behind, nor do passwords.
        let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
        let profile_folders = entries(namespace.runtime_certs())
            .filter(|entry| !entry.file_name().to_str().is_some_and(|name| certificates.contains(name)))
            .filter(|entry| !profiles.iter().any(|(known, _)| *known == entry.file_name()));
        let proxy_folders = entries(namespace.runtime_proxies())
            .filter(|entry| !passwords.iter().any(|(known, _)| *known == entry.file_name()));
        for entry in profile_folders.chain(proxy_folders) {
            let _ = fs::remove_dir_all(entry.path());
        }
        let file = namespace.router_config();
        if fs::read(&file).is_ok_and(|known| known == text.as_bytes()) {
            return Ok(());
        }
        Ok(folder::replace(&file, text, PUBLIC)?)
    }

    // === credentials ===

    /// Credentials by name: the user's own if there are any, else those made before.
    ///
    /// # Errors
    /// [`StoreError::Unusable`]
    pub fn credentials(&self, shelf: Shelf, name: &str) -> Result<Option<Held>, StoreError> {
        let namespace = match &self.0 {
            Medium::Memory(memory) => {
                let held = lock(memory).credentials.get(&(shelf, name.to_owned())).cloned();
                return Ok(held.map(|credentials| Held { credentials, is_provided: false }));
            }
            Medium::Folder(namespace) => namespace,
        };
        let (provided, made) = match shelf {
            Shelf::Issuers => (namespace.input_issuers(), namespace.runtime_issuers()),
            Shelf::Certificates => (namespace.input_certs(), namespace.runtime_certs()),
        };
        for (folder, is_provided) in [(provided, true), (made, false)] {
            let folder = folder.join(name);
            // Of the user's own, a CA alone is not passed over: its absence would go unnoticed.
            let is_there = |file| folder.join(file).exists();
            if is_there(directory::CERTIFICATE_FILE) || is_provided && is_there(directory::CA_FILE) {
                return match directory::read(&folder) {
                    Ok(credentials) => Ok(Some(Held { credentials, is_provided })),
                    // A leaf of ours that a crash left half is made anew.
                    Err(_) if !is_provided && shelf == Shelf::Certificates => Ok(None),
                    Err(error) => Err(error.into()),
                };
            }
        }
        Ok(None)
    }

    /// Keeps credentials.
    ///
    /// # Errors
    /// [`StoreError::Unwritable`]
    pub fn put_credentials(&self, shelf: Shelf, name: &str, credentials: &Credentials) -> Result<(), StoreError> {
        match (&self.0, shelf) {
            (Medium::Memory(memory), _) => {
                lock(memory).credentials.insert((shelf, name.to_owned()), credentials.clone());
                return Ok(());
            }
            (Medium::Folder(namespace), Shelf::Issuers) => {
                directory::write(&namespace.runtime_issuers().join(name), credentials)?;
            }
            (Medium::Folder(namespace), Shelf::Certificates) => {
                directory::write(&namespace.runtime_certs().join(name), credentials)?;
            }
        }
        Ok(())
    }
}

/// Keeps a CA alone.
fn put_trust(folder: &Path, trust: &Trust) -> Result<(), StoreError> {
    let file = folder.join(directory::CA_FILE);
    if fs::read(&file).is_ok_and(|known| known == trust.pem().as_bytes()) {
        return Ok(());
    }
    Ok(folder::replace(&file, trust.pem(), PUBLIC)?)
}

fn identity_file(namespace: &Namespace) -> PathBuf {
    namespace.internal().join("site.json")
}

fn redeemed_file(namespace: &Namespace, token: &str) -> PathBuf {
    namespace.internal().join("redeemed").join(format!("{token}.json"))
}

fn grants_folder(namespace: &Namespace) -> PathBuf {
    namespace.internal().join("grants")
}

fn grant_file(namespace: &Namespace, id: &str) -> PathBuf {
    grants_folder(namespace).join(format!("{id}.json"))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let damaged = |source| StoreError::Damaged { path: path.to_owned(), source };
    match fs::read(path) {
        Ok(octets) => serde_json::from_slice(&octets).map(Some).map_err(|error| damaged(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(damaged(error)),
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StoreError> {
    let text = serde_json::to_string_pretty(value).expect("texts, numbers and maps of texts");
    Ok(folder::replace(path, &text, PRIVATE)?)
}

fn lock(memory: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    memory.lock().unwrap_or_else(PoisonError::into_inner)
}
