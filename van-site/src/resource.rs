//! The kinds of documents, as `skupper.io/v2alpha1` and Kubernetes define them.
//!
//! Fields of features that are not in this version are read and kept, so that a document survives being rewritten.
//! Specs refuse unknown fields, because a misspelt field is a mistake of its author; statuses ignore them, because they
//! are written by programs that may be newer. An absent field, an empty text and `null` mean the same, as in Go.

pub mod access_grant;
pub mod access_token;
pub mod certificate;
pub mod connector;
pub mod link;
pub mod listener;
pub mod multi_key_listener;
pub mod router_access;
pub mod secret;
pub mod site;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use access_grant::AccessGrant;
pub use access_token::AccessToken;
pub use certificate::Certificate;
pub use connector::Connector;
pub use link::Link;
pub use listener::Listener;
pub use multi_key_listener::MultiKeyListener;
pub use router_access::RouterAccess;
pub use secret::Secret;
pub use site::Site;

/// The version of all kinds but [`Kind::Secret`].
pub const API_VERSION: &str = "skupper.io/v2alpha1";

/// The version of [`Kind::Secret`].
pub const CORE_API_VERSION: &str = "v1";

/// Free settings of a document, text to text; unknown keys have no effect.
pub type Settings = BTreeMap<String, String>;

/// What a document is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// [`Site`]
    Site,
    /// [`Link`]
    Link,
    /// [`Listener`]
    Listener,
    /// [`MultiKeyListener`]
    MultiKeyListener,
    /// [`Connector`]
    Connector,
    /// [`RouterAccess`]
    RouterAccess,
    /// [`AccessGrant`]
    AccessGrant,
    /// [`AccessToken`]
    AccessToken,
    /// [`Certificate`]
    Certificate,
    /// [`Secret`]
    Secret,
}

impl Kind {
    /// Every kind, in the order in which things are listed.
    pub const ALL: [Self; 10] = [
        Self::Site,
        Self::Link,
        Self::Listener,
        Self::MultiKeyListener,
        Self::Connector,
        Self::RouterAccess,
        Self::AccessGrant,
        Self::AccessToken,
        Self::Certificate,
        Self::Secret,
    ];

    /// The name that stands in `kind:`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Site => "Site",
            Self::Link => "Link",
            Self::Listener => "Listener",
            Self::MultiKeyListener => "MultiKeyListener",
            Self::Connector => "Connector",
            Self::RouterAccess => "RouterAccess",
            Self::AccessGrant => "AccessGrant",
            Self::AccessToken => "AccessToken",
            Self::Certificate => "Certificate",
            Self::Secret => "Secret",
        }
    }

    /// The version that stands in `apiVersion:`.
    pub fn api_version(self) -> &'static str {
        if self == Self::Secret { CORE_API_VERSION } else { API_VERSION }
    }

    /// Whether a document of this kind must be kept from other users' eyes.
    pub fn is_secret(self) -> bool {
        matches!(self, Self::Secret | Self::AccessToken | Self::AccessGrant)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no such kind here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no kind of document is called {0}")]
pub struct UnknownKind(pub String);

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

/// A spec: what somebody wants. It determines the kind of the document and the type of its status.
pub trait Spec: Clone + fmt::Debug + Default + PartialEq + Serialize + DeserializeOwned {
    /// The kind of document that has this spec.
    const KIND: Kind;
    /// What the controller answers.
    type Status: Clone + fmt::Debug + Default + PartialEq + Serialize + DeserializeOwned;
}

/// A document of group `skupper.io`: what is wanted, and what became of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resource<S: Spec> {
    /// Whose document it is.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: S,
    /// What became of it.
    pub status: S::Status,
}

impl<S: Spec> Resource<S> {
    /// A document without a namespace and with nothing done about it yet.
    pub fn new(name: impl Into<String>, spec: S) -> Self {
        Self { metadata: Metadata::named(name), spec, status: S::Status::default() }
    }
}

impl<S: Spec> Serialize for Resource<S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Form<'a, S, T> {
            api_version: &'a str,
            kind: &'a str,
            metadata: &'a Metadata,
            spec: &'a S,
            #[serde(skip_serializing_if = "Option::is_none")]
            status: Option<&'a T>,
        }
        let Self { metadata, spec, status } = self;
        let status = Some(status).filter(|status| !is_default(*status));
        Form { api_version: S::KIND.api_version(), kind: S::KIND.name(), metadata, spec, status }.serialize(serializer)
    }
}

/// Takes `apiVersion` and `kind` for granted: they have been looked at to choose this type.
impl<'de, S: Spec> Deserialize<'de> for Resource<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        #[serde(bound(deserialize = "S: Default + Deserialize<'de>, T: Default + Deserialize<'de>"))]
        struct Form<S, T> {
            #[serde(rename = "apiVersion")]
            _api_version: IgnoredAny,
            #[serde(rename = "kind")]
            _kind: IgnoredAny,
            metadata: Metadata,
            #[serde(default, deserialize_with = "null_as_default")]
            spec: S,
            #[serde(default, deserialize_with = "null_as_default")]
            status: T,
        }
        let Form { metadata, spec, status, .. } = Form::deserialize(deserializer)?;
        Ok(Self { metadata, spec, status })
    }
}

/// Whose document it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Unique among the documents of one kind in one namespace.
    pub name: String,
    /// The namespace; none means the one in whose folder the document is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Given by whoever stored the document. Of a Site: the id of the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// How often the spec changed, where somebody counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// When the document was stored first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Timestamp>,
}

impl Metadata {
    /// Nothing but a name.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// What else Kubernetes writes there is read and dropped: a document that was exported from a cluster is welcome.
impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Form {
            name: String,
            #[serde(default, deserialize_with = "empty_as_none")]
            namespace: Option<String>,
            #[serde(default, deserialize_with = "empty_as_none")]
            uid: Option<String>,
            #[serde(default, deserialize_with = "null_as_default")]
            labels: BTreeMap<String, String>,
            #[serde(default, deserialize_with = "null_as_default")]
            annotations: BTreeMap<String, String>,
            generation: Option<i64>,
            creation_timestamp: Option<Timestamp>,
            #[serde(rename = "resourceVersion")]
            _resource_version: Option<IgnoredAny>,
            #[serde(rename = "managedFields")]
            _managed_fields: Option<IgnoredAny>,
            #[serde(rename = "ownerReferences")]
            _owner_references: Option<IgnoredAny>,
            #[serde(rename = "finalizers")]
            _finalizers: Option<IgnoredAny>,
            #[serde(rename = "selfLink")]
            _self_link: Option<IgnoredAny>,
            #[serde(rename = "generateName")]
            _generate_name: Option<IgnoredAny>,
            #[serde(rename = "deletionTimestamp")]
            _deletion_timestamp: Option<IgnoredAny>,
            #[serde(rename = "deletionGracePeriodSeconds")]
            _deletion_grace_period_seconds: Option<IgnoredAny>,
        }
        let Form { name, namespace, uid, labels, annotations, generation, creation_timestamp, .. } =
            Form::deserialize(deserializer)?;
        Ok(Self { name, namespace, uid, labels, annotations, generation, creation_timestamp })
    }
}

/// Where a router can be reached: of a Link, where to dial; in a status, where it listens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Endpoint {
    /// The role, `inter-router` or `edge`; systems without Kubernetes prefix it with the name of the RouterAccess.
    pub name: String,
    /// Name or address.
    pub host: String,
    /// The port, a text as in the original.
    pub port: String,
    /// The group of routers, of which a site with high availability has two.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

pub(crate) fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn empty_as_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty()))
}
