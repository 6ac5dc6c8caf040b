//! The documents of a namespace: what the user wants, and what became of it as far as anybody knows now.
//!
//! Commands and controller meet only in the namespace's folder. A status counts only while a controller runs and only
//! for the spec that it was written for: whatever else is there was true once.

use std::collections::BTreeSet;

use anyhow::bail;
use van_site::document::{Content, Document, Key};
use van_site::folder::{Controller, Namespace};
use van_site::load::{Cause, Documents, Entry};
use van_site::resource::access_grant::{AccessGrantSpec, AccessGrantStatus};
use van_site::resource::connector::{ConnectorSpec, ConnectorStatus};
use van_site::resource::link::{LinkSpec, LinkStatus};
use van_site::resource::listener::{ListenerSpec, ListenerStatus};
use van_site::resource::site::{SiteSpec, SiteStatus};
use van_site::resource::{Kind, Resource, Spec};
use van_site::status::{State, Status};

use crate::failure::complain;

/// What a document says that the controller has not looked at.
pub(crate) const NOT_SEEN: &str = "the site has not taken it up yet";

/// A kind of document with a status that commands look at.
pub(crate) trait Noun: Spec {
    /// The document, if it is of this kind.
    fn of(document: &Document) -> Option<&Resource<Self>>;
    /// The part that all statuses have.
    fn common(status: &Self::Status) -> &Status;
    /// A status of which only the common part is known.
    fn status(common: Status) -> Self::Status;
}

macro_rules! nouns {
    ($($spec:ident, $status:ident;)+) => {
        $(impl Noun for $spec {
            fn of(document: &Document) -> Option<&Resource<Self>> {
                Resource::<Self>::of(document)
            }

            fn common(status: &$status) -> &Status {
                &status.common
            }

            fn status(common: Status) -> $status {
                $status { common, ..$status::default() }
            }
        })+
    };
}

nouns! {
    SiteSpec, SiteStatus;
    LinkSpec, LinkStatus;
    ListenerSpec, ListenerStatus;
    ConnectorSpec, ConnectorStatus;
    AccessGrantSpec, AccessGrantStatus;
}

/// The documents of a namespace at one moment.
#[derive(Debug)]
pub(crate) struct View {
    namespace: Namespace,
    input: Documents,
    /// Documents with their status; nothing if no controller runs to keep it true.
    runtime: Option<Documents>,
}

impl View {
    /// Looks at a namespace.
    pub(crate) fn of(namespace: &Namespace) -> anyhow::Result<Self> {
        let runtime = namespace.controller()?.map(|_| namespace.read_runtime());
        Ok(Self { namespace: namespace.clone(), input: namespace.load_input(), runtime })
    }

    /// What the user wrote.
    pub(crate) fn input(&self) -> &Documents {
        &self.input
    }

    /// All documents of a kind, by name.
    pub(crate) fn all<S: Noun>(&self) -> Vec<Resource<S>> {
        let documents = self.input.entries().chain(self.runtime.iter().flat_map(Documents::entries));
        let names: BTreeSet<_> =
            documents.filter_map(|entry| S::of(&entry.document)).map(|document| &document.metadata.name).collect();
        names.into_iter().filter_map(|name| self.one(name)).collect()
    }

    /// The document of a kind and name.
    pub(crate) fn one<S: Noun>(&self, name: &str) -> Option<Resource<S>> {
        let known = self.runtime.as_ref().and_then(|runtime| runtime.entry(S::KIND, name)).and_then(resource::<S>);
        let Some(entry) = self.input.entry(S::KIND, name) else { return known.cloned() };
        let wanted = resource::<S>(entry)?;
        match (known, &entry.fault) {
            (Some(known), _) if known.spec == wanted.spec => Some(known.clone()),
            (_, Some(fault)) => Some(reported(wanted, State::Error, fault.to_string())),
            _ if self.runtime.is_none() => Some(reported(wanted, State::Pending, not_running(&self.namespace))),
            _ => Some(reported(wanted, State::Pending, NOT_SEEN.to_owned())),
        }
    }

    /// Says on standard error what is wrong with files and has no status to stand in.
    pub(crate) fn complain(&self) {
        let problems = self.input.problems().iter();
        problems.filter(|problem| !matches!(problem.cause, Cause::Fault(_))).for_each(complain);
    }
}

/// What is said of a namespace without a controller.
pub(crate) fn not_running(namespace: &Namespace) -> String {
    format!("the site is not running: start it with \"van -n {} system start\"", namespace.name())
}

/// The controller of a namespace.
///
/// # Errors
/// None runs.
pub(crate) fn controller(namespace: &Namespace) -> anyhow::Result<Controller> {
    match namespace.controller()? {
        Some(controller) => Ok(controller),
        None => bail!(not_running(namespace)),
    }
}

/// Removes a document that the user wants no more.
///
/// # Errors
/// There is none of that name.
pub(crate) fn delete(namespace: &Namespace, kind: Kind, name: &str) -> anyhow::Result<()> {
    if namespace.delete_input(&Key::new(kind, name))?.is_empty() {
        bail!(unknown(namespace, &namespace.load_input(), kind, name));
    }
    Ok(())
}

/// All documents that are there, those that cannot be read included.
pub(crate) fn keys(documents: &Documents) -> BTreeSet<Key> {
    let unreadable = documents.problems().iter().filter_map(|problem| problem.key.clone());
    documents.entries().map(|entry| entry.document.key()).chain(unreadable).collect()
}

/// What is said of a document that is not there, or cannot be read.
pub(crate) fn unknown(namespace: &Namespace, documents: &Documents, kind: Kind, name: &str) -> String {
    let key = Key::new(kind, name);
    if let Some(problem) = documents.problems().iter().find(|problem| problem.key.as_ref() == Some(&key)) {
        return format!("{problem}; correct that file first");
    }
    let noun = kind.name().to_lowercase();
    let others = keys(documents).into_iter().filter(|key| key.kind == kind).map(|key| key.name);
    let others = others.reduce(|others, name| others + ", " + &name);
    let hint = others.map(|others| format!("; there is: {others}")).unwrap_or_default();
    format!("there is no {noun} {name:?} in namespace {:?}{hint}", namespace.name())
}

fn resource<S: Noun>(entry: &Entry) -> Option<&Resource<S>> {
    S::of(&entry.document)
}

fn reported<S: Noun>(wanted: &Resource<S>, state: State, message: String) -> Resource<S> {
    let status = S::status(Status { state: Some(state), message, ..Status::default() });
    Resource { status, ..wanted.clone() }
}
