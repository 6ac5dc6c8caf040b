//! What a user wants, as far as it can be read: a file in the middle of an edit takes nothing away.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::check::Fault;
use crate::derive;
use crate::document::{Document, DocumentMap, Key};
use crate::folder::Namespace;
use crate::load::Cause;
use crate::names;
use crate::resource::Kind;

/// The documents of a user, and what is wrong with them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Input {
    /// Those that are to be carried out.
    pub documents: DocumentMap,
    /// Those that cannot be, and why.
    pub faulty: BTreeMap<Key, (Document, String)>,
    /// Those of [`Input::documents`] whose files cannot be read now, and why; they are as they were.
    pub outdated: BTreeMap<Key, String>,
    /// What cannot be read: a line each.
    pub problems: Vec<Complaint>,
    /// Everything could be read.
    pub is_complete: bool,
    /// The files they are in.
    files: BTreeMap<Key, PathBuf>,
}

/// Behind what is wrong with a document that was in use.
const STAYS: &str = "; what it said before stays in effect";

/// Something wrong with a file, or with a place in it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Complaint {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1, if it is about a place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Input {
    /// Documents that are in no file.
    pub fn of(documents: DocumentMap) -> Self {
        Self { documents, is_complete: true, ..Self::default() }
    }

    /// Reads what a namespace wants.
    pub fn read(namespace: &Namespace, before: &Self) -> Self {
        let is_first = before.documents.is_empty();
        let loaded = if is_first { namespace.load_input() } else { namespace.load_input_after(&before.documents) };
        let mut input = Self { is_complete: true, ..Self::default() };
        for entry in loaded.entries() {
            let key = entry.document.key();
            input.files.insert(key.clone(), entry.file.clone());
            match &entry.fault {
                None => drop(input.documents.insert(key, entry.document.clone())),
                Some(fault) => match before.documents.get(&key).filter(|_| fault.is_slip()) {
                    Some(known) => {
                        input.documents.insert(key.clone(), known.clone());
                        input.outdated.insert(key, format!("{fault}{STAYS}"));
                    }
                    None => drop(input.faulty.insert(key, (entry.document.clone(), fault.to_string()))),
                },
            }
        }
        let lacks_secret = |fault: &Fault| matches!(fault, Fault::SecretNotFound(_) | Fault::ProxyNotFound);
        let waiting = loaded.entries().filter(|entry| entry.fault.as_ref().is_some_and(lacks_secret));
        let waiting: Vec<_> = waiting.map(|entry| entry.document.clone()).collect();
        for problem in loaded.problems() {
            // Faults of documents are in their statuses, unless there can be no file for such a name, or it has none.
            let has_status = |key: &Key| key.kind != Kind::Secret && names::resource_name(&key.name).is_ok();
            let is_fault = matches!(problem.cause, Cause::Fault(_));
            if is_fault && problem.key.as_ref().is_some_and(has_status) {
                continue;
            }
            let subject = problem.key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default();
            let message = format!("{subject}{}", problem.cause);
            if !problem.is_warning() && !is_fault && !matches!(problem.cause, Cause::Duplicate { .. }) {
                input.keep(before, &problem.file, &problem.to_string());
                input.is_complete = false;
            }
            input.problems.push(Complaint { file: problem.file.clone(), line: problem.line, message });
        }
        input.keep_one_site(before);
        for document in waiting {
            input.find_secret(document);
        }
        input
    }

    /// A Link whose Secret cannot be read now, but is as it was, is not in want of it.
    fn find_secret(&mut self, document: Document) {
        let Document::Link(link) = &document else { return };
        let mut secrets = link.spec.tls_credentials.as_deref().into_iter().chain(link.spec.proxy());
        if secrets.any(|secret| self.outdated.contains_key(&Key::new(Kind::Secret, secret))) {
            self.faulty.remove(&document.key());
            self.documents.insert(document.key(), document);
        }
    }

    /// What was in a file that cannot be read now stays.
    fn keep(&mut self, before: &Self, file: &PathBuf, problem: &str) {
        // It may be a folder that cannot be listed now.
        for (key, _) in before.files.iter().filter(|(_, known)| known.starts_with(file)) {
            let Some(document) = before.documents.get(key) else { continue };
            if self.documents.contains_key(key) || self.faulty.contains_key(key) {
                continue;
            }
            self.documents.insert(key.clone(), document.clone());
            self.files.insert(key.clone(), file.clone());
            self.outdated.insert(key.clone(), format!("{problem}{STAYS}"));
        }
    }

    /// A Site whose file cannot be read now is still the one that counts.
    fn keep_one_site(&mut self, before: &Self) {
        let Some(active) = derive::site(&before.documents).map(|site| site.metadata.name.clone()) else { return };
        if !self.outdated.contains_key(&Key::new(Kind::Site, &*active)) {
            return;
        }
        let is_other = |key: &Key, _: &mut Document| key.kind == Kind::Site && key.name != active;
        let others: Vec<_> = self.documents.extract_if(.., is_other).collect();
        let fault = Fault::SecondSite(active).to_string();
        self.faulty.extend(others.into_iter().map(|(key, site)| (key, (site, fault.clone()))));
    }
}
