//! The document that a person carries from the accepting site to the other one.

use std::collections::BTreeMap;

use http::Uri;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::code::{Code, CodeError};
use crate::yaml::{self, LitStr, YamlError};

const API_VERSION: &str = "skupper.io/v2alpha1";
const KIND: &str = "AccessToken";

/// The setting that lists the other hosts of the accepting site; Skupper ignores it.
const HOSTS: &str = "hosts";

/// Where, with what code and trusting whom a grant can be redeemed: an AccessToken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// The name of the token; the Secret and the Link get it, too.
    pub name: String,
    /// The URL of the grant: `https://<host>:<port>/<id>`.
    pub url: String,
    /// The secret.
    pub code: Code,
    /// The only CA to trust when redeeming, in PEM.
    pub ca: String,
    /// The cost for the Links, if the token sets one.
    pub link_cost: Option<u32>,
    /// All hosts of the accepting site, in the order to try (`settings.hosts`); empty if there is only that of the URL.
    pub hosts: Vec<String>,
}

impl AccessToken {
    /// A token for one host, that of the URL, which leaves the cost to the redeemer.
    pub fn new(name: impl Into<String>, url: impl Into<String>, code: Code, ca: impl Into<String>) -> Self {
        Self { name: name.into(), url: url.into(), code, ca: ca.into(), link_cost: None, hosts: Vec::new() }
    }

    /// Reads a document. Unknown fields are refused, because a misspelt `linkCost` would be lost silently; metadata and
    /// settings that mean nothing here, and the status, are skipped.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn from_yaml(text: &str) -> Result<Self, TokenError> {
        let document: DocumentIn = yaml::read(text)?;
        if document.api_version != API_VERSION || document.kind != KIND {
            let DocumentIn { api_version, kind, .. } = document;
            return Err(TokenError::NotAToken { api_version, kind });
        }
        let SpecIn { url, code, ca, link_cost, settings } = document.spec;
        let hosts = settings.get(HOSTS).map_or("", String::as_str).split(',').map(str::trim);
        let token = Self {
            name: document.metadata.name,
            url,
            code: Code::new(code)?,
            ca,
            link_cost: (link_cost > 0).then_some(link_cost),
            hosts: hosts.filter(|host| !host.is_empty()).map(str::to_owned).collect(),
        };
        token.check()?;
        Ok(token)
    }

    /// Writes the document. It holds the code: keep it from others.
    pub fn to_yaml(&self) -> Zeroizing<String> {
        let settings = (!self.hosts.is_empty()).then(|| BTreeMap::from([(HOSTS, self.hosts.join(","))]));
        let document = DocumentOut {
            api_version: API_VERSION,
            kind: KIND,
            metadata: MetadataOut { name: &self.name },
            spec: SpecOut {
                ca: LitStr(&self.ca),
                code: &self.code,
                link_cost: self.link_cost,
                settings,
                url: &self.url,
            },
        };
        let room = 1024 + 2 * (self.ca.len() + self.url.len() + self.code.expose().len());
        let mut out = Zeroizing::new(String::with_capacity(room));
        yaml::write(&mut out, &document);
        out
    }

    /// Says whether it can be redeemed at all.
    ///
    /// # Errors
    /// [`TokenError`]: an empty name or CA, a URL that leads nowhere.
    pub fn check(&self) -> Result<(), TokenError> {
        self.target().map(|_| ())
    }

    /// Takes the URL apart.
    pub(crate) fn target(&self) -> Result<Target, TokenError> {
        if self.name.is_empty() {
            return Err(TokenError::NoName);
        }
        if !self.ca.contains("-----BEGIN CERTIFICATE-----") {
            return Err(TokenError::NoCa);
        }
        let unusable = |reason: &dyn ToString| TokenError::Url { reason: reason.to_string() };
        let url: Uri = self.url.parse().map_err(|error| unusable(&error))?;
        if url.scheme_str() != Some("https") {
            return Err(TokenError::NotHttps);
        }
        let authority = url.authority().filter(|authority| !authority.as_str().contains('@'));
        let host = authority.map_or("", |authority| authority.host()).trim_matches(['[', ']']);
        if host.is_empty() {
            return Err(unusable(&"it names no host"));
        }
        if url.path().bytes().all(|octet| octet == b'/') {
            return Err(unusable(&"it names no grant"));
        }
        let port = authority.and_then(|authority| authority.port_u16()).unwrap_or(443);
        let path = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Target { host: host.to_owned(), port, path })
    }
}

/// Where to call.
#[derive(Debug)]
#[cfg_attr(not(feature = "client"), expect(dead_code, reason = "only the check is needed"))]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

/// Why a text is not a token that can be redeemed. Correct it, or ask for a new one.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The text is not such a document: damaged, cut off, a field misspelt or missing.
    #[error("not a readable AccessToken")]
    Yaml(#[from] YamlError),
    /// It is another document.
    #[error("a document {api_version} {kind} where {API_VERSION} {KIND} is expected")]
    NotAToken {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// It has no name.
    #[error("token does not have a name")]
    NoName,
    /// It has no CA, so nobody could be trusted.
    #[error("token does not have a CA")]
    NoCa,
    /// Its code cannot be one.
    #[error("token does not have a usable code")]
    Code(#[from] CodeError),
    /// Its URL cannot be read.
    #[error("could not parse token url: {reason}")]
    Url {
        /// What is wrong with it.
        reason: String,
    },
    /// Its URL is for another protocol.
    #[error("token url scheme must be https")]
    NotHttps,
}

// === documents ===

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DocumentOut<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: MetadataOut<'a>,
    spec: SpecOut<'a>,
}

#[derive(Serialize)]
struct MetadataOut<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpecOut<'a> {
    ca: LitStr<'a>,
    code: &'a Code,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_cost: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<BTreeMap<&'a str, String>>,
    url: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DocumentIn {
    api_version: String,
    kind: String,
    metadata: MetadataIn,
    spec: SpecIn,
    #[serde(default, rename = "status")]
    _status: IgnoredAny,
}

/// Kubernetes adds more than anyone can list.
#[derive(Deserialize)]
struct MetadataIn {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SpecIn {
    url: String,
    code: Zeroizing<String>,
    ca: String,
    #[serde(default)]
    link_cost: u32,
    #[serde(default)]
    settings: BTreeMap<String, String>,
}
