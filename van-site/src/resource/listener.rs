//! `Listener`: where clients come in.

use serde::{Deserialize, Serialize};

use super::{Kind, Resource, Settings, Spec, empty_as_none, is_default, null_as_default};
use crate::status::Status;

/// A document of kind `Listener`.
pub type Listener = Resource<ListenerSpec>;

/// Where clients should come in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ListenerSpec {
    /// Joins it to connectors all over the network; required.
    #[serde(deserialize_with = "null_as_default")]
    pub routing_key: String,
    /// The name or address to bind; on Kubernetes, the Service to make. Required.
    #[serde(deserialize_with = "null_as_default")]
    pub host: String,
    /// The port that clients use; required.
    pub port: u16,
    /// The certificate to show to clients, and with that TLS.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub tls_credentials: Option<String>,
    /// `tcp`, which is the default.
    #[serde(rename = "type", deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Whether requests are looked for in the traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observer: Option<Observer>,
    /// On Kubernetes: another Service per remote pod.
    #[serde(skip_serializing_if = "is_default")]
    pub expose_pods_by_name: bool,
    /// Nothing in it has an effect yet.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub settings: Settings,
}

impl Spec for ListenerSpec {
    const KIND: Kind = Kind::Listener;
    type Status = ListenerStatus;
}

/// Which requests are looked for in the traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Observer {
    /// Whatever the first octets tell.
    #[default]
    Auto,
    /// None.
    None,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Observer {
    /// The text of the documents and of the router.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::None => "none",
            Self::Http1 => "http1",
            Self::Http2 => "http2",
        }
    }
}

/// What became of a listener.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListenerStatus {
    /// Conditions, state, message.
    #[serde(flatten)]
    pub common: Status,
    /// Whether a connector with this routing key is anywhere in the network.
    #[serde(skip_serializing_if = "is_default")]
    pub has_matching_connector: bool,
}
