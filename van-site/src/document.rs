//! A document of any kind.

use serde::{Deserialize, Serialize};

use crate::resource::{
    AccessGrant, AccessToken, Certificate, Connector, Kind, Link, Listener, Metadata, Resource, RouterAccess, Secret,
    Site,
};
use crate::yaml::{self, Section, YamlError};

/// A document of any kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "the variants are called like what they hold")]
pub enum Document {
    Site(Site),
    Link(Link),
    Listener(Listener),
    Connector(Connector),
    RouterAccess(RouterAccess),
    AccessGrant(AccessGrant),
    AccessToken(AccessToken),
    Certificate(Certificate),
    Secret(Secret),
}

/// What tells documents of one namespace apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind.
    pub kind: Kind,
    /// The name.
    pub name: String,
}

/// Why a document could not be read; its author is to act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// It is not YAML, or not what its kind demands.
    #[error(transparent)]
    Yaml(#[from] YamlError),
    /// It is of a kind that has no meaning here.
    #[error("{kind} of {api_version} is not supported here; it has no effect")]
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

/// As much as has to be known before a document can be read as what it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: String,
    kind: String,
    #[serde(default)]
    metadata: Option<Name>,
}

#[derive(Deserialize)]
struct Name {
    name: Option<String>,
}

impl Document {
    /// Reads one document.
    ///
    /// # Errors
    /// [`DocumentError`]
    pub fn read(section: Section<'_>) -> Result<Self, DocumentError> {
        let Head { api_version, kind: name, metadata } = yaml::read(section)?;
        let kind = name.parse().ok().filter(|kind: &Kind| kind.api_version() == api_version);
        let Some(kind) = kind else {
            let line = section.line;
            let document_name = metadata.and_then(|metadata| metadata.name);
            return Err(DocumentError::UnsupportedKind { line, api_version, kind: name, name: document_name });
        };
        Ok(match kind {
            Kind::Site => Self::Site(yaml::read(section)?),
            Kind::Link => Self::Link(yaml::read(section)?),
            Kind::Listener => Self::Listener(yaml::read(section)?),
            Kind::Connector => Self::Connector(yaml::read(section)?),
            Kind::RouterAccess => Self::RouterAccess(yaml::read(section)?),
            Kind::AccessGrant => Self::AccessGrant(yaml::read(section)?),
            Kind::AccessToken => Self::AccessToken(yaml::read(section)?),
            Kind::Certificate => Self::Certificate(yaml::read(section)?),
            Kind::Secret => Self::Secret(yaml::read(section)?),
        })
    }

    /// Reads every document of a stream, each for itself.
    pub fn read_all(stream: &str) -> Vec<Result<Self, DocumentError>> {
        yaml::sections(stream).into_iter().map(Self::read).collect()
    }

    /// What it is about.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Site(_) => Kind::Site,
            Self::Link(_) => Kind::Link,
            Self::Listener(_) => Kind::Listener,
            Self::Connector(_) => Kind::Connector,
            Self::RouterAccess(_) => Kind::RouterAccess,
            Self::AccessGrant(_) => Kind::AccessGrant,
            Self::AccessToken(_) => Kind::AccessToken,
            Self::Certificate(_) => Kind::Certificate,
            Self::Secret(_) => Kind::Secret,
        }
    }

    /// Whose document it is.
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::Site(Resource { metadata, .. }) => metadata,
            Self::Link(Resource { metadata, .. }) => metadata,
            Self::Listener(Resource { metadata, .. }) => metadata,
            Self::Connector(Resource { metadata, .. }) => metadata,
            Self::RouterAccess(Resource { metadata, .. }) => metadata,
            Self::AccessGrant(Resource { metadata, .. }) => metadata,
            Self::AccessToken(Resource { metadata, .. }) => metadata,
            Self::Certificate(Resource { metadata, .. }) => metadata,
            Self::Secret(Secret { metadata, .. }) => metadata,
        }
    }

    /// What tells it apart.
    pub fn key(&self) -> Key {
        Key { kind: self.kind(), name: self.metadata().name.clone() }
    }
}
