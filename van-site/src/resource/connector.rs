//! `Connector`: where workloads are reached.

use serde::{Deserialize, Serialize};

use super::{Kind, Resource, Settings, Spec, empty_as_none, is_default, null_as_default};
use crate::status::Status;

/// A document of kind `Connector`.
pub type Connector = Resource<ConnectorSpec>;

/// Which workload should be reached, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ConnectorSpec {
    /// Joins it to listeners all over the network; required.
    #[serde(deserialize_with = "null_as_default")]
    pub routing_key: String,
    /// Name or address of the workload; this or a selector.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Labels of the workload, `k=v[,k=v…]`; this or a host.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The port of the workload; required.
    pub port: u16,
    /// Whom to believe (`ca.crt`), and with that TLS to the workload.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub tls_credentials: Option<String>,
    /// Also show the certificate in [`ConnectorSpec::tls_credentials`].
    #[serde(skip_serializing_if = "is_default")]
    pub use_client_cert: bool,
    /// Insist on the workload's name in its certificate.
    #[serde(skip_serializing_if = "is_default")]
    pub verify_hostname: bool,
    /// `tcp`, which is the default.
    #[serde(rename = "type", deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// On Kubernetes: also pods that run but are not ready.
    #[serde(skip_serializing_if = "is_default")]
    pub include_not_ready_pods: bool,
    /// On Kubernetes: another routing key per pod.
    #[serde(skip_serializing_if = "is_default")]
    pub expose_pods_by_name: bool,
    /// Nothing in it has an effect yet.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub settings: Settings,
}

impl Spec for ConnectorSpec {
    const KIND: Kind = Kind::Connector;
    type Status = ConnectorStatus;
}

/// What became of a connector.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectorStatus {
    /// Conditions, state, message.
    #[serde(flatten)]
    pub common: Status,
    /// Whether a listener with this routing key is anywhere in the network.
    #[serde(skip_serializing_if = "is_default")]
    pub has_matching_listener: bool,
    /// What the selector found.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub selected_pods: Vec<SelectedPod>,
}

/// A pod that a selector found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SelectedPod {
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: String,
}
