//! `Secret`: credentials, as Kubernetes writes them.

use std::collections::BTreeMap;
use std::fmt;

use base64ct::{Base64, Encoding};
use serde::de::{Error, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::{Kind, Metadata, null_as_default};
use crate::secret_text::SecretText;

/// A document of kind `Secret`: named octets, not shown by `Debug` and wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret {
    /// Whose document it is.
    pub metadata: Metadata,
    /// `kubernetes.io/tls`, `kubernetes.io/basic-auth`, `Opaque`, …
    pub secret_type: Option<String>,
    /// Whether it must never change.
    pub immutable: bool,
    /// The octets by name, those given as `stringData` included.
    pub data: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

impl Secret {
    /// The type of credentials: certificate, key and CA.
    pub const TLS: &str = "kubernetes.io/tls";

    /// A Secret without namespace and data.
    pub fn new(name: impl Into<String>, secret_type: impl Into<String>) -> Self {
        Self { metadata: Metadata::named(name), secret_type: Some(secret_type.into()), ..Self::default() }
    }

    /// A value that is text, such as a PEM.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.data.get(key).and_then(|octets| str::from_utf8(octets).ok())
    }

    /// Sets a value.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.data.insert(key.into(), Zeroizing::new(value.into()));
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut secret = f.debug_struct("Secret");
        secret.field("metadata", &self.metadata).field("secret_type", &self.secret_type);
        secret.field("data", &self.data.keys()).finish_non_exhaustive()
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Form<'a> {
            api_version: &'a str,
            kind: &'a str,
            metadata: &'a Metadata,
            #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
            secret_type: Option<&'a str>,
            #[serde(skip_serializing_if = "super::is_default")]
            immutable: bool,
            data: BTreeMap<&'a str, SecretText>,
        }
        let encode = |octets: &Zeroizing<Vec<u8>>| SecretText::from(Base64::encode_string(octets));
        Form {
            api_version: Kind::Secret.api_version(),
            kind: Kind::Secret.name(),
            metadata: &self.metadata,
            secret_type: self.secret_type.as_deref(),
            immutable: self.immutable,
            data: self.data.iter().map(|(key, octets)| (key.as_str(), encode(octets))).collect(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Form {
            #[serde(rename = "apiVersion")]
            _api_version: IgnoredAny,
            #[serde(rename = "kind")]
            _kind: IgnoredAny,
            metadata: Metadata,
            #[serde(rename = "type")]
            secret_type: Option<String>,
            #[serde(default)]
            immutable: bool,
            #[serde(default, deserialize_with = "null_as_default")]
            data: BTreeMap<String, Encoded>,
            #[serde(default, deserialize_with = "null_as_default")]
            string_data: BTreeMap<String, SecretText>,
        }
        let form = Form::deserialize(deserializer)?;
        let mut secret = Self {
            metadata: form.metadata,
            secret_type: form.secret_type,
            immutable: form.immutable,
            data: form.data.into_iter().map(|(key, Encoded(octets))| (key, octets)).collect(),
        };
        for (key, text) in form.string_data {
            secret.set(key, text.reveal());
        }
        Ok(secret)
    }
}

/// Octets that stand there as base64, perhaps wrapped.
struct Encoded(Zeroizing<Vec<u8>>);

impl<'de> Deserialize<'de> for Encoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = SecretText::deserialize(deserializer)?;
        let mut compact = Zeroizing::new(String::with_capacity(text.reveal().len()));
        compact.extend(text.reveal().split_ascii_whitespace());
        let octets = Base64::decode_vec(&compact).map_err(|_| D::Error::custom("not base64"))?;
        Ok(Self(Zeroizing::new(octets)))
    }
}
