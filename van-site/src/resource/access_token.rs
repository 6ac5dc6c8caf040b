//! `AccessToken`: what is carried to the site that wants to link.

use serde::{Deserialize, Serialize};

use super::{Kind, Resource, Settings, Spec, is_default, null_as_default};
use crate::secret_text::SecretText;
use crate::status::Status;

/// A document of kind `AccessToken`.
pub type AccessToken = Resource<AccessTokenSpec>;

/// Where and with what to ask for a link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AccessTokenSpec {
    /// Where to redeem it, `https`; required.
    #[serde(deserialize_with = "null_as_default")]
    pub url: String,
    /// The code; required.
    pub code: SecretText,
    /// The only CA to believe there, as PEM; required.
    #[serde(deserialize_with = "null_as_default")]
    pub ca: String,
    /// The cost of the links received, if above 0.
    #[serde(skip_serializing_if = "is_default")]
    pub link_cost: i32,
    /// `hosts`: more hosts to try, separated by commas.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub settings: Settings,
}

impl Spec for AccessTokenSpec {
    const KIND: Kind = Kind::AccessToken;
    type Status = AccessTokenStatus;
}

/// What became of a token.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessTokenStatus {
    /// Conditions, state, message.
    #[serde(flatten)]
    pub common: Status,
    /// Whether it has become a link; then it is spent.
    #[serde(skip_serializing_if = "is_default")]
    pub redeemed: bool,
}
