//! `Certificate`: asks for credentials of the same name.

use serde::{Deserialize, Serialize};

use super::{Kind, Resource, Settings, Spec, empty_as_none, is_default, null_as_default};
use crate::status::Status;

/// The CA of links, and of credentials in tokens.
pub const SITE_CA: &str = "skupper-site-ca";
/// The CA of clients of this machine.
pub const LOCAL_CA: &str = "skupper-local-ca";
/// The CA of listeners and connectors that ask for TLS.
pub const SERVICE_CA: &str = "skupper-service-ca";
/// The CA of the grant server: the only thing a token trusts.
pub const GRANT_CA: &str = "skupper-grant-server-ca";
/// The certificate of the grant server.
pub const GRANT_SERVER: &str = "skupper-grant-server";

/// A document of kind `Certificate`.
pub type Certificate = Resource<CertificateSpec>;

/// What the certificate should say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CertificateSpec {
    /// The CA that signs it; empty if it signs itself.
    #[serde(deserialize_with = "null_as_default")]
    pub ca: String,
    /// The common name; required.
    #[serde(deserialize_with = "null_as_default")]
    pub subject: String,
    /// Names and addresses.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub hosts: Vec<String>,
    /// For who dials.
    #[serde(skip_serializing_if = "is_default")]
    pub client: bool,
    /// For who accepts.
    #[serde(skip_serializing_if = "is_default")]
    pub server: bool,
    /// For who signs.
    #[serde(skip_serializing_if = "is_default")]
    pub signing: bool,
    /// Nothing in it has an effect yet.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub settings: Settings,
}

impl Spec for CertificateSpec {
    const KIND: Kind = Kind::Certificate;
    type Status = CertificateStatus;
}

/// What became of a certificate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateStatus {
    /// Conditions, state, message.
    #[serde(flatten)]
    pub common: Status,
    /// When it ends, RFC 3339.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub expiration: Option<String>,
}
