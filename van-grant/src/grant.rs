//! What an accepting site offers.

use std::fmt;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::code::Code;
use crate::wire::is_same_host;

/// An offer: who knows the code may have credentials for a link, so often, until then.
///
/// It serialises as what must outlive a restart, the code included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grant {
    /// The UID of the AccessGrant, the last part of a token's URL.
    pub id: String,
    /// The namespace of the AccessGrant.
    pub namespace: String,
    /// The name of the AccessGrant; also that of the Secret and the Link if the redeemer gives none.
    pub name: String,
    /// What the redeemer has to know.
    pub code: Code,
    /// How often it may be redeemed.
    pub redemptions_allowed: u32,
    /// How often it was redeemed.
    pub redemptions: u32,
    /// When it ends, as RFC 3339 text when serialised. `None` if what was stored cannot be read: then nobody gets anything.
    #[serde(with = "moment")]
    pub expires_at: Option<SystemTime>,
    /// The only hosts, without ports, by which redeemers may call; any host if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
}

impl Grant {
    /// Whether it answers calls to `host`.
    pub(crate) fn serves(&self, host: Option<&str>) -> bool {
        self.hosts.is_empty() || host.is_some_and(|host| self.hosts.iter().any(|own| is_same_host(own, host)))
    }
}

/// `<namespace>/<name>`, for messages and as the optional key.
pub(crate) struct Key<'a>(pub(crate) &'a Grant);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0.namespace, self.0.name)
    }
}

/// A moment as documents write it.
mod moment {
    use super::*;

    pub(super) fn serialize<S: Serializer>(moment: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
        let timestamp = moment.and_then(|moment| Timestamp::try_from(moment).ok());
        serializer.serialize_str(&timestamp.map_or(String::new(), |timestamp| timestamp.to_string()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(text.parse::<Timestamp>().ok().map(SystemTime::from))
    }
}
