//! What is asked of a CA.

use std::time::{Duration, SystemTime};

use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose, SignatureAlgorithm};

/// The life of all certificates Skupper makes: five years of 365 days.
pub const SKUPPER_LIFE: Duration = Duration::from_secs(5 * 365 * 24 * 60 * 60);

/// A kind of key to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA of 2048 bits, written as PKCS #1: the only kind of CA key that Skupper's controller reads. Takes 24–151 ms
    /// to make.
    Rsa2048,
    /// ECDSA over P-256, written as PKCS #8. Takes 0.1 ms to make.
    EcdsaP256,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// To accept connections.
    Server,
    /// To make connections.
    Client,
    /// Either; what Skupper issues.
    Both,
}

/// A new CA.
#[derive(Debug, Clone)]
pub struct AuthorityRequest {
    /// The common name, which is the whole subject.
    pub common_name: String,
    /// The kind of its key.
    pub key: KeyKind,
    /// The current time.
    pub now: SystemTime,
    /// Its life from now on; see [`SKUPPER_LIFE`].
    pub valid_for: Duration,
}

/// A new certificate that is not a CA.
#[derive(Debug, Clone)]
pub struct LeafRequest {
    /// The common name, which is the whole subject.
    pub common_name: String,
    /// The hosts it is for: DNS names, a leading `*.` allowed, and IP addresses.
    ///
    /// An IP address is written as `iPAddress`, where we look for it, and as `dNSName`, the only place where
    /// skupper-router does.
    pub hosts: Vec<String>,
    /// What it is for.
    pub usage: Usage,
    /// The kind of its key.
    pub key: KeyKind,
    /// The current time.
    pub now: SystemTime,
    /// Its life from now on; see [`SKUPPER_LIFE`]. It is cut where the CA's own life ends.
    pub valid_for: Duration,
}

impl KeyKind {
    pub(crate) fn algorithm(self) -> &'static SignatureAlgorithm {
        match self {
            Self::Rsa2048 => &rcgen::PKCS_RSA_SHA256,
            Self::EcdsaP256 => &rcgen::PKCS_ECDSA_P256_SHA256,
        }
    }

    pub(crate) fn usages(self) -> Vec<KeyUsagePurpose> {
        match self {
            Self::Rsa2048 => {
                vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment]
            }
            Self::EcdsaP256 => vec![KeyUsagePurpose::DigitalSignature],
        }
    }
}

impl Usage {
    pub(crate) fn purposes(self) -> Vec<ExtendedKeyUsagePurpose> {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        match self {
            Self::Server => vec![ServerAuth],
            Self::Client => vec![ClientAuth],
            Self::Both => vec![ServerAuth, ClientAuth],
        }
    }
}
