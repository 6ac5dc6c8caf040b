//! `Link`: a connection to another site.

use serde::{Deserialize, Serialize};

use super::{Endpoint, Kind, Resource, Settings, Spec, empty_as_none, is_default, null_as_default};
use crate::status::Status;

/// A document of kind `Link`.
pub type Link = Resource<LinkSpec>;

/// Which site should be dialled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LinkSpec {
    /// Where to dial: an interior site takes the one named `inter-router`, an edge site the one named `edge`. Required.
    #[serde(deserialize_with = "null_as_default")]
    pub endpoints: Vec<Endpoint>,
    /// As it was written; [`LinkSpec::routing_cost`] is what counts.
    #[serde(skip_serializing_if = "is_default")]
    pub cost: i32,
    /// The Secret with the certificate to show and the CA to believe.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub tls_credentials: Option<String>,
    /// See [`LinkSpec::proxy`].
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub settings: Settings,
}

impl Spec for LinkSpec {
    const KIND: Kind = Kind::Link;
    type Status = LinkStatus;
}

impl LinkSpec {
    /// The cost of a path over this link, at least 1.
    pub fn routing_cost(&self) -> u32 {
        u32::try_from(self.cost).unwrap_or_default().max(1)
    }

    /// Where to dial in a role, `inter-router` or `edge`.
    pub fn endpoint(&self, role: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.name == role)
    }

    /// The Secret of the HTTP proxy to go through (setting `proxy-configuration`).
    pub fn proxy(&self) -> Option<&str> {
        self.settings.get("proxy-configuration").map(String::as_str)
    }
}

/// What became of a link.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinkStatus {
    /// Conditions, state, message.
    #[serde(flatten)]
    pub common: Status,
    /// The site at the other end.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub remote_site_id: Option<String>,
    /// The site at the other end.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub remote_site_name: Option<String>,
}
