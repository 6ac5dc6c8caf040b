//! A document of any kind.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::resource::{
    AccessGrant, AccessToken, Certificate, Connector, Kind, Link, Listener, Metadata, MultiKeyListener, RouterAccess,
    Secret, Site,
};
use crate::status::Status;
use crate::yaml::{self, Section, YamlError};

/// Documents by what tells them apart.
pub type DocumentMap = BTreeMap<Key, Document>;

/// What tells documents of one namespace apart; shown as `Listener backend`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// The name.
    pub name: String,
}

impl Key {
    /// A key.
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }

    /// The file in which a document of this key is, if nobody chose another: `Listener-backend.yaml`.
    pub fn file_name(&self) -> String {
        format!("{}-{}.yaml", self.kind, self.name)
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// Why a document could not be read; its author is to act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is not YAML, or not what its kind demands.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// It is of a kind that has no meaning here.
    #[error("{kind} ({api_version}) has no effect here: van does not support this kind")]
    UnsupportedKind {
        /// The line where the document starts.
        line: usize,
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
        /// Its name, if it has one.
        name: Option<String>,
    },
}

impl DocumentError {
    /// The line of the stream, from 1.
    pub fn line(&self) -> usize {
        match self {
            Self::Yaml(error) => error.line,
            Self::UnsupportedKind { line, .. } => *line,
        }
    }
}

/// As much as has to be known before a document can be read as what it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: String,
    kind: String,
    metadata: Option<Name>,
}

#[derive(Deserialize)]
struct Name {
    name: Option<String>,
}

impl Head {
    fn kind(&self) -> Option<Kind> {
        self.kind.parse().ok().filter(|kind: &Kind| kind.api_version() == self.api_version)
    }

    fn name(self) -> Option<String> {
        self.metadata?.name
    }
}

/// What tells a document apart, even if the rest of it cannot be read.
pub fn key_of(section: Section<'_>) -> Option<Key> {
    let head: Head = yaml::read(section).ok()?;
    Some(Key { kind: head.kind()?, name: head.name()? })
}

/// One kind of document.
pub trait Content: Sized + 'static {
    /// The document, if it is of this kind.
    fn of(document: &Document) -> Option<&Self>;
}

/// Defines [`Document`] and what differs by kind only in its name.
macro_rules! documents {
    ($($kind:ident),+) => {
        /// A document of any kind.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(untagged)]
        #[expect(missing_docs, reason = "a variant is called like what it holds")]
        pub enum Document {
            $($kind($kind)),+
        }

        impl Document {
            /// What it is about.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind),+
                }
            }

            /// Whose document it is.
            pub fn metadata(&self) -> &Metadata {
                match self {
                    $(Self::$kind(content) => &content.metadata),+
                }
            }

            /// Whose document it is.
            pub fn metadata_mut(&mut self) -> &mut Metadata {
                match self {
                    $(Self::$kind(content) => &mut content.metadata),+
                }
            }

            fn read_as(kind: Kind, section: Section<'_>) -> Result<Self, YamlError> {
                match kind {
                    $(Kind::$kind => yaml::read(section).map(Self::$kind)),+
                }
            }
        }

        $(
            impl From<$kind> for Document {
                fn from(content: $kind) -> Self {
                    Self::$kind(content)
                }
            }

            impl Content for $kind {
                fn of(document: &Document) -> Option<&Self> {
                    if let Document::$kind(content) = document { Some(content) } else { None }
                }
            }
        )+
    };
}

documents!(
    Site,
    Link,
    Listener,
    MultiKeyListener,
    Connector,
    RouterAccess,
    AccessGrant,
    AccessToken,
    Certificate,
    Secret
);

impl Document {
    /// Reads one document.
    ///
    /// # Errors
    /// [`DocumentError`]
    pub fn read(section: Section<'_>) -> Result<Self, DocumentError> {
        let head: Head = yaml::read(section)?;
        match head.kind() {
            Some(kind) => Ok(Self::read_as(kind, section)?),
            None => Err(DocumentError::UnsupportedKind {
                line: section.line,
                api_version: head.api_version.clone(),
                kind: head.kind.clone(),
                name: head.name(),
            }),
        }
    }

    /// Reads every document of a stream, each for itself.
    pub fn read_all(stream: &str) -> Vec<Result<Self, DocumentError>> {
        yaml::sections(stream).into_iter().map(Self::read).collect()
    }

    /// The document with the status that another one of its kind has.
    #[must_use]
    pub fn with_status_of(&self, other: Option<&Self>) -> Self {
        let mut document = self.clone();
        match (&mut document, other) {
            (Self::Site(own), Some(Self::Site(other))) => own.status = other.status.clone(),
            (Self::Link(own), Some(Self::Link(other))) => own.status = other.status.clone(),
            (Self::Listener(own), Some(Self::Listener(other))) => own.status = other.status.clone(),
            (Self::MultiKeyListener(own), Some(Self::MultiKeyListener(other))) => own.status = other.status.clone(),
            (Self::Connector(own), Some(Self::Connector(other))) => own.status = other.status.clone(),
            (Self::RouterAccess(own), Some(Self::RouterAccess(other))) => own.status = other.status.clone(),
            (Self::AccessGrant(own), Some(Self::AccessGrant(other))) => own.status = other.status.clone(),
            (Self::AccessToken(own), Some(Self::AccessToken(other))) => own.status = other.status.clone(),
            (Self::Certificate(own), Some(Self::Certificate(other))) => own.status = other.status.clone(),
            _ => {}
        }
        document
    }

    /// What became of it; Secrets have no status.
    pub fn status(&self) -> Option<&Status> {
        Some(match self {
            Self::Site(document) => &document.status.common,
            Self::Link(document) => &document.status.common,
            Self::Listener(document) => &document.status.common,
            Self::MultiKeyListener(document) => &document.status.common,
            Self::Connector(document) => &document.status.common,
            Self::RouterAccess(document) => &document.status.common,
            Self::AccessGrant(document) => &document.status.common,
            Self::AccessToken(document) => &document.status.common,
            Self::Certificate(document) => &document.status.common,
            Self::Secret(_) => return None,
        })
    }

    /// Whether two documents want the same.
    pub fn has_spec_of(&self, other: &Self) -> bool {
        let mut own = self.with_status_of(Some(other));
        other.metadata().clone_into(own.metadata_mut());
        own == *other
    }

    /// What tells it apart.
    pub fn key(&self) -> Key {
        Key::new(self.kind(), &*self.metadata().name)
    }
}
