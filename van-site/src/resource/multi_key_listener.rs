//! `MultiKeyListener`: where clients come in, of whom each goes to one of several routing keys.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::listener::Observer;
use super::{Kind, Resource, Settings, Spec, empty_as_none, is_default, null_as_default};
use crate::status::Status;

/// A document of kind `MultiKeyListener`.
pub type MultiKeyListener = Resource<MultiKeyListenerSpec>;

/// Where clients should come in, and where they should go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct MultiKeyListenerSpec {
    /// The name or address to bind; required.
    #[serde(deserialize_with = "null_as_default")]
    pub host: String,
    /// The port that clients use; required.
    pub port: u16,
    /// How one of the keys is chosen; required.
    #[serde(deserialize_with = "null_as_default")]
    pub strategy: Strategy,
    /// The certificate to show to clients, and with that TLS.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub tls_credentials: Option<String>,
    /// Whether clients must show a certificate, too.
    #[serde(skip_serializing_if = "is_default")]
    pub require_client_cert: bool,
    /// Whether requests are looked for in the traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observer: Option<Observer>,
    /// Nothing in it has an effect yet.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub settings: Settings,
}

/// How one of several routing keys is chosen: exactly one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Strategy {
    /// The first that can be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// At random, by weight, among those that can be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weighted: Option<Weighted>,
}

/// Routing keys, the best first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Priority {
    /// 1 to [`MAX_KEYS`], each once.
    #[serde(deserialize_with = "null_as_default")]
    pub routing_keys: Vec<String>,
}

/// Routing keys and their weights.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Weighted {
    /// 1 to [`MAX_KEYS`].
    #[serde(deserialize_with = "null_as_default")]
    pub routing_keys: BTreeMap<String, u32>,
}

/// How many routing keys a listener may have. Source: Skupper's definition of the kind.
pub const MAX_KEYS: usize = 256;

impl Strategy {
    /// The keys and the values that a router knows them by: of priorities, the highest for the first.
    pub fn values(&self) -> Vec<(&str, u32)> {
        match (&self.priority, &self.weighted) {
            (Some(Priority { routing_keys }), _) => {
                let values = (0..routing_keys.len() as u32).rev();
                routing_keys.iter().map(String::as_str).zip(values).collect()
            }
            (None, Some(Weighted { routing_keys })) => {
                routing_keys.iter().map(|(key, weight)| (key.as_str(), *weight)).collect()
            }
            (None, None) => Vec::new(),
        }
    }
}

impl Spec for MultiKeyListenerSpec {
    const KIND: Kind = Kind::MultiKeyListener;
    type Status = MultiKeyListenerStatus;
}

/// What became of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MultiKeyListenerStatus {
    /// Conditions, state, message.
    #[serde(flatten)]
    pub common: Status,
    /// Whether one of its keys can be reached.
    #[serde(skip_serializing_if = "is_default")]
    pub has_destination: bool,
    /// Which of them.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub strategy: StrategyStatus,
}

/// The keys that can be reached, as their strategy has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StrategyStatus {
    /// The best first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Reachable<Vec<String>>>,
    /// With their weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weighted: Option<Reachable<BTreeMap<String, u32>>>,
}

/// Keys that can be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reachable<T: Default> {
    /// These.
    pub routing_keys_reachable: T,
}

impl StrategyStatus {
    /// Those keys of a strategy that can be reached.
    pub fn of(strategy: &Strategy, is_reachable: impl Fn(&str) -> bool) -> Self {
        let priority = strategy
            .priority
            .as_ref()
            .map(|Priority { routing_keys }| routing_keys.iter().filter(|key| is_reachable(key)).cloned().collect());
        let weighted = strategy.weighted.as_ref().map(|Weighted { routing_keys }| {
            routing_keys
                .iter()
                .filter(|(key, _)| is_reachable(key))
                .map(|(key, weight)| (key.clone(), *weight))
                .collect()
        });
        Self {
            priority: priority.map(|routing_keys_reachable| Reachable { routing_keys_reachable }),
            weighted: weighted.map(|routing_keys_reachable| Reachable { routing_keys_reachable }),
        }
    }
}
