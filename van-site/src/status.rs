//! What became of a document: conditions, and the state that follows from them.
//!
//! Everything here is pure: a status is derived from what was there before, from plain facts and from `now`, and never
//! set by hand.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::resource::null_as_default;

/// The part that all statuses have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// In the order in which they first were known.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Follows from the conditions.
    #[serde(rename = "status", skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Says why; `OK` when ready.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// In one word, how a document fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// It is in effect.
    Ready,
    /// Something is still missing.
    Pending,
    /// Somebody has to act.
    Error,
}

/// One thing that is so, or not, as Kubernetes writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which one.
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    /// Whether it is so.
    pub status: Truth,
    /// Ready, pending or in error.
    pub reason: State,
    /// `OK`, or what is missing or wrong.
    pub message: String,
    /// When [`Condition::status`] last changed.
    pub last_transition_time: Timestamp,
    /// The generation of the document that was looked at, where somebody counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// What a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConditionKind {
    /// The document is understood and carried out.
    Configured,
    /// The other half, connector or listener, is somewhere in the network.
    Matched,
    /// The link is up.
    Operational,
    /// The grant is known to the server of grants.
    Processed,
    /// The token has become a link.
    Redeemed,
    /// The address is known.
    Resolved,
    /// The router runs.
    Running,
    /// All of the others that count.
    Ready,
}

/// Whether a condition is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Truth {
    /// It is.
    True,
    /// It is not.
    False,
    /// Nobody knows.
    Unknown,
}
