//! `RouterAccess`: opens the router to other sites.

use serde::{Deserialize, Serialize};

use super::{Endpoint, Kind, Resource, Settings, Spec, empty_as_none, is_default, null_as_default};
use crate::status::Status;

/// A document of kind `RouterAccess`.
pub type RouterAccess = Resource<RouterAccessSpec>;

/// How the router should be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RouterAccessSpec {
    /// As what, and on which ports; required.
    #[serde(deserialize_with = "null_as_default")]
    pub roles: Vec<AccessRole>,
    /// The certificate to show; nothing means the one called like the document.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub tls_credentials: Option<String>,
    /// Whether the controller makes that certificate.
    #[serde(skip_serializing_if = "is_default")]
    pub generate_tls_credentials: bool,
    /// The CA of that certificate; nothing means the site's.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// On Kubernetes: how it is exposed.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub access_type: Option<String>,
    /// The address to bind; nothing means all.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub bind_host: Option<String>,
    /// Names and addresses by which the router is reached, for its certificate.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub subject_alternative_names: Vec<String>,
    /// What it holds belongs to Kubernetes.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub settings: Settings,
}

impl Spec for RouterAccessSpec {
    const KIND: Kind = Kind::RouterAccess;
    type Status = RouterAccessStatus;
}

/// One listener of the router.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessRole {
    /// `inter-router` or `edge`; of the site's own making also `normal`.
    pub name: String,
    /// As it was written; [`AccessRole::listening_port`] is what counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl AccessRole {
    /// The port, 55671 for `inter-router` and 45671 for `edge` if nothing else is wanted.
    pub fn listening_port(&self) -> Option<u16> {
        self.port.filter(|port| *port != 0).or(match self.name.as_str() {
            "inter-router" => Some(55671),
            "edge" => Some(45671),
            _ => None,
        })
    }
}

/// What became of an access.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouterAccessStatus {
    /// Conditions, state, message.
    #[serde(flatten)]
    pub common: Status,
    /// Where the router can be reached.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub endpoints: Vec<Endpoint>,
}
