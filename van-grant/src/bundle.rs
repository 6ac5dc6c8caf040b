//! What a token is redeemed for: a Secret and Links, one YAML document each.

use std::collections::BTreeMap;
use std::fmt;

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::yaml::{self, YamlError};

/// Credentials, and where to link to with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The credentials.
    pub secret: Secret,
    /// The Links, one for each group of endpoints.
    pub links: Vec<Link>,
}

/// A certificate, its key and the CA of the accepting site, in PEM. The key is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// The name, which the Links refer to.
    pub name: String,
    /// The certificate of the accepting site's CA.
    pub ca_crt: String,
    /// The client certificate.
    pub tls_crt: String,
    /// The private key of the client certificate.
    pub tls_key: Zeroizing<String>,
}

/// A Link to one group of routers of the accepting site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Where the routers accept links.
    pub endpoints: Vec<Endpoint>,
    /// The name of the Secret.
    pub tls_credentials: String,
    /// The cost, if it is not the default of 1. Issuers leave it out.
    pub cost: Option<u32>,
}

/// Where a router accepts links.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The group of routers that stand in for each other; empty if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The host to dial.
    pub host: String,
    /// The role: `inter-router` or `edge`.
    pub name: String,
    /// The port, as text.
    pub port: String,
}

impl Secret {
    /// The three texts, in PEM; [`Bundle::new`] gives the name.
    pub fn new(tls_crt: &str, tls_key: &str, ca_crt: &str) -> Self {
        Self {
            name: String::new(),
            ca_crt: ca_crt.to_owned(),
            tls_crt: tls_crt.to_owned(),
            tls_key: Zeroizing::new(tls_key.to_owned()),
        }
    }
}

impl Bundle {
    /// Names the Secret and the Links as redeemers expect it: `name`; with more than one group, `name-1`, `name-2` and so on.
    pub fn new(name: &str, mut secret: Secret, groups: Vec<Vec<Endpoint>>) -> Self {
        name.clone_into(&mut secret.name);
        let is_alone = groups.len() == 1;
        let links = groups.into_iter().enumerate().map(|(index, endpoints)| {
            let link = if is_alone { name.to_owned() } else { format!("{name}-{}", index + 1) };
            Link { name: link, endpoints, tls_credentials: name.to_owned(), cost: None }
        });
        Self { links: links.collect(), secret }
    }

    /// Gives all Links the cost that the token demands; the redeemer's move.
    #[must_use]
    pub fn with_cost(mut self, cost: Option<u32>) -> Self {
        if cost.is_some() {
            self.links.iter_mut().for_each(|link| link.cost = cost);
        }
        self
    }

    /// Whether it has the names that a redeemer asked for: what is stored under other names could replace what is there.
    #[cfg(feature = "client")]
    pub(crate) fn is_named(&self, name: &str) -> bool {
        let is_ours = |link: &Link| {
            let suffix = link.name.strip_prefix(name);
            let number = suffix.map(|suffix| suffix.strip_prefix('-').unwrap_or(suffix));
            link.tls_credentials == name && number.is_some_and(|it| it.bytes().all(|octet| octet.is_ascii_digit()))
        };
        self.secret.name == name && self.links.iter().all(is_ours)
    }

    /// Writes the documents as Skupper does, in the same order, addresses quoted. The private key is in it.
    pub fn to_yaml(&self) -> Zeroizing<String> {
        let base64 = |text: &str| Zeroizing::new(Base64::encode_string(text.as_bytes()));
        let Secret { name, ca_crt, tls_crt, tls_key } = &self.secret;
        let secret = SecretOut {
            api_version: "v1",
            data: DataOut { ca_crt: base64(ca_crt), tls_crt: base64(tls_crt), tls_key: base64(tls_key) },
            kind: "Secret",
            metadata: MetadataOut { creation_timestamp: (), name },
            r#type: "kubernetes.io/tls",
        };
        // Room for all, as a text that grows would leave copies of the key behind.
        let room = 1024 * (1 + self.links.len()) + 2 * (ca_crt.len() + tls_crt.len() + tls_key.len());
        let mut out = Zeroizing::new(String::with_capacity(room));
        out.push_str("---\n");
        yaml::write(&mut out, &secret);
        for link in &self.links {
            out.push_str("---\n");
            let Link { name, endpoints, tls_credentials, cost } = link;
            let document = LinkOut {
                api_version: "skupper.io/v2alpha1",
                kind: "Link",
                metadata: MetadataOut { creation_timestamp: (), name },
                spec: SpecOut { cost: *cost, endpoints, tls_credentials },
                status: StatusOut {},
            };
            yaml::write(&mut out, &document);
        }
        out
    }

    /// Reads documents: first the Secret, then Links. What else they say is not looked at.
    ///
    /// # Errors
    /// [`BundleError`]. Whether certificates and key are good is not checked here.
    pub fn from_yaml(text: &str) -> Result<Self, BundleError> {
        let mut documents = yaml::read_all::<DocumentIn>(text)?.into_iter();
        let secret = documents.next().filter(|first| first.kind == "Secret").ok_or(BundleError::NoSecret)?;
        let mut data = secret.data;
        let mut text = |key: &'static str| {
            let base64 = data.remove(key).ok_or(BundleError::Data { key })?;
            let octets =
                Base64::decode_vec(base64.trim()).map(Zeroizing::new).map_err(|_| BundleError::Data { key })?;
            let text = str::from_utf8(&octets).map_err(|_| BundleError::Data { key })?;
            Ok::<_, BundleError>(Zeroizing::new(text.to_owned()))
        };
        let (ca_crt, tls_crt, tls_key) = (text("ca.crt")?, text("tls.crt")?, text("tls.key")?);
        let links = documents.map(|document| match document {
            DocumentIn { kind, metadata, spec: Some(spec), .. } if kind == "Link" => Ok(Link {
                name: metadata.name,
                endpoints: spec.endpoints,
                tls_credentials: spec.tls_credentials,
                cost: spec.cost,
            }),
            DocumentIn { kind, .. } => Err(BundleError::NoLink { kind }),
        });
        Ok(Self {
            links: links.collect::<Result<_, _>>()?,
            secret: Secret {
                name: secret.metadata.name,
                ca_crt: ca_crt.to_string(),
                tls_crt: tls_crt.to_string(),
                tls_key,
            },
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("name", &self.name).field("tls_key", &"[redacted]").finish_non_exhaustive()
    }
}

/// Why an answer is not a bundle; the issuer's move.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The text is not a stream of such documents.
    #[error("the documents cannot be read")]
    Yaml(#[from] YamlError),
    /// The first document is something else.
    #[error("the first document is not a Secret")]
    NoSecret,
    /// A value of the Secret is missing or not base64 of a text.
    #[error("the Secret has no readable {key}")]
    Data {
        /// Its key.
        key: &'static str,
    },
    /// A later document is something else, or a Link without spec.
    #[error("a {kind:?} where a complete Link is expected")]
    NoLink {
        /// What it is.
        kind: String,
    },
}

// === documents, their fields in the order of Kubernetes ===

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SecretOut<'a> {
    api_version: &'a str,
    data: DataOut,
    kind: &'a str,
    metadata: MetadataOut<'a>,
    r#type: &'a str,
}

#[derive(Serialize)]
struct DataOut {
    #[serde(rename = "ca.crt")]
    ca_crt: Zeroizing<String>,
    #[serde(rename = "tls.crt")]
    tls_crt: Zeroizing<String>,
    #[serde(rename = "tls.key")]
    tls_key: Zeroizing<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MetadataOut<'a> {
    creation_timestamp: (),
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LinkOut<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: MetadataOut<'a>,
    spec: SpecOut<'a>,
    status: StatusOut,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpecOut<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<u32>,
    endpoints: &'a [Endpoint],
    tls_credentials: &'a str,
}

#[derive(Serialize)]
struct StatusOut {}

#[derive(Deserialize)]
struct DocumentIn {
    kind: String,
    metadata: MetadataIn,
    #[serde(default)]
    data: BTreeMap<String, Zeroizing<String>>,
    spec: Option<SpecIn>,
}

#[derive(Deserialize)]
struct MetadataIn {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecIn {
    endpoints: Vec<Endpoint>,
    tls_credentials: String,
    cost: Option<u32>,
}
