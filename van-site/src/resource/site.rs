//! `Site`: one place with one or more routers.

use serde::{Deserialize, Serialize};

use super::certificate::SITE_CA;
use super::{Endpoint, Kind, Resource, Settings, Spec, empty_as_none, is_default, null_as_default};
use crate::status::Status;

/// The setting of a Site that lets nobody measure the network by it: `true`.
pub const NO_BENCH: &str = "no-bench";

/// A document of kind `Site`; there is one per namespace.
pub type Site = Resource<SiteSpec>;

/// What a site should be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct SiteSpec {
    /// How other sites reach this one: an access type, `default`, `none`; nothing means `none`.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub link_access: Option<String>,
    /// Two routers instead of one.
    #[serde(skip_serializing_if = "is_default")]
    pub ha: bool,
    /// A router that keeps one uplink and cannot be linked to.
    #[serde(skip_serializing_if = "is_default")]
    pub edge: bool,
    /// The CA that signs this site's certificates; nothing means [`SITE_CA`].
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub default_issuer: Option<String>,
    /// The Kubernetes account of the routers.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// See [`SiteSpec::router_data_connections`] and [`NO_BENCH`]; others belong to Kubernetes.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub settings: Settings,
}

impl Spec for SiteSpec {
    const KIND: Kind = Kind::Site;
    type Status = SiteStatus;
}

impl SiteSpec {
    /// Whether other sites shall be able to link to this one.
    pub fn has_link_access(&self) -> bool {
        self.link_access.as_deref().is_some_and(|access| access != "none")
    }

    /// The CA that signs this site's certificates.
    pub fn issuer(&self) -> &str {
        self.default_issuer.as_deref().unwrap_or(SITE_CA)
    }

    /// How many connections carry the data of a link, under the key of the code (`router-data-connection-count`) or of
    /// the documentation (`routerDataConnections`).
    pub fn router_data_connections(&self) -> Option<&str> {
        self.setting("router-data-connection-count", "routerDataConnections")
    }

    /// Whether its router answers those who measure the network.
    pub fn has_bench(&self) -> bool {
        self.settings.get(NO_BENCH).is_none_or(|setting| setting != "true")
    }

    fn setting(&self, key: &str, other_key: &str) -> Option<&str> {
        self.settings.get(key).or_else(|| self.settings.get(other_key)).map(String::as_str)
    }
}

/// What became of a site.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SiteStatus {
    /// Conditions, state, message.
    #[serde(flatten)]
    pub common: Status,
    /// The CA in use.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub default_issuer: Option<String>,
    /// Where the router can be reached.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub endpoints: Vec<Endpoint>,
    /// The number of sites seen, this one included.
    #[serde(skip_serializing_if = "is_default")]
    pub sites_in_network: u32,
    /// The whole network as seen here.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub network: Vec<SiteRecord>,
    /// Who manages the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<ControllerRecord>,
}

/// Who manages a site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ControllerRecord {
    /// Its name.
    pub name: String,
    /// Where it runs.
    pub namespace: String,
    /// Its version.
    pub version: String,
}

/// A site of the network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SiteRecord {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// `kubernetes`, `podman`, `docker` or `linux`.
    pub platform: String,
    /// The version of its control plane.
    pub version: String,
    /// The links that it made.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub links: Vec<LinkRecord>,
    /// What clients and workloads meet there.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub services: Vec<ServiceRecord>,
}

/// A link of a site of the network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LinkRecord {
    /// Its name.
    pub name: String,
    /// Where it leads.
    pub remote_site_id: String,
    /// Where it leads.
    pub remote_site_name: String,
    /// Whether it is up.
    pub operational: bool,
}

/// A routing key at a site of the network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceRecord {
    /// The key.
    pub routing_key: String,
    /// Names of the targets.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub connectors: Vec<String>,
    /// Names of the listeners.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub listeners: Vec<String>,
}
