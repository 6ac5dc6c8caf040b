//! `AccessGrant`: what an accepting site offers.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Kind, Resource, Settings, Spec, empty_as_none, is_default, null_as_default};
use crate::duration::{self, DurationError};
use crate::secret_text::SecretText;
use crate::status::Status;

/// A document of kind `AccessGrant`.
pub type AccessGrant = Resource<AccessGrantSpec>;

/// How often and how long a site may be linked to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct AccessGrantSpec {
    /// As it was written; [`AccessGrantSpec::allowed`] is what counts.
    #[serde(skip_serializing_if = "is_default")]
    pub redemptions_allowed: i32,
    /// A Go duration, as it was written.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub expiration_window: Option<String>,
    /// The code to redeem it; nothing means a random one.
    #[serde(skip_serializing_if = "SecretText::is_empty")]
    pub code: SecretText,
    /// The CA of the certificates given out; nothing means the site's.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Nothing in it has an effect yet.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "is_default")]
    pub settings: Settings,
}

impl Spec for AccessGrantSpec {
    const KIND: Kind = Kind::AccessGrant;
    type Status = AccessGrantStatus;
}

impl AccessGrantSpec {
    /// How often it can be redeemed: once, unless more is written.
    pub fn allowed(&self) -> u32 {
        u32::try_from(self.redemptions_allowed).unwrap_or_default().max(1)
    }

    /// How long it lasts: 15 minutes, unless something else is written.
    ///
    /// # Errors
    /// [`DurationError`] if what is written is no duration.
    pub fn window(&self) -> Result<Duration, DurationError> {
        self.expiration_window.as_deref().map_or(Ok(Duration::from_secs(15 * 60)), duration::parse)
    }
}

/// What a token needs, and how often it was redeemed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessGrantStatus {
    /// Conditions, state, message.
    #[serde(flatten)]
    pub common: Status,
    /// Where to redeem it.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The code to redeem it.
    #[serde(skip_serializing_if = "SecretText::is_empty")]
    pub code: SecretText,
    /// The CA of the server there, as PEM.
    #[serde(deserialize_with = "empty_as_none", skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// How often it was redeemed.
    #[serde(skip_serializing_if = "is_default")]
    pub redemptions: u32,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiration_time: Option<Timestamp>,
}
