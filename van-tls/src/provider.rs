//! Which cryptography links use, in order of preference; the one place that knows the provider.

use std::sync::Arc;

#[cfg(feature = "https")]
use rustls::SupportedProtocolVersion;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, GetRandomFailed, SupportedKxGroup};
#[cfg(feature = "https")]
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, SupportedCipherSuite, Tls13CipherSuite};

/// A TLS 1.3 cipher suite (RFC 8446 §B.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// `TLS_AES_128_GCM_SHA256`
    Aes128Gcm,
    /// `TLS_AES_256_GCM_SHA384`
    Aes256Gcm,
    /// `TLS_CHACHA20_POLY1305_SHA256`
    ChaCha20Poly1305,
}

/// The suites of a link, first choice first. The connector's order decides.
///
/// All three are beyond reach of an attacker, so speed orders them: AES-256 costs about 15 % more than
/// AES-128 on a machine with AES instructions, ChaCha20 five times as much. Where policy wants 256 bits,
/// change [`Policy::suites`].
pub const SUITES: [Suite; 3] = [Suite::Aes128Gcm, Suite::Aes256Gcm, Suite::ChaCha20Poly1305];

/// A cipher suite of TLS 1.2 (RFC 5289, RFC 7905): for clients and workloads, never for links.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LegacySuite(usize);

/// Those of TLS 1.2 that are safe: the name that OpenSSL gives each, and the suite; first choice first.
static LEGACY: [(&str, SupportedCipherSuite); 6] = [
    ("ECDHE-ECDSA-AES256-GCM-SHA384", cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES128-GCM-SHA256", cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// What a link may negotiate, or a client or workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Suites to offer and accept, first choice first (default [`SUITES`]). Without any there is no TLS 1.3, and no link.
    pub suites: Vec<Suite>,
    /// The same of TLS 1.2, for clients and workloads (default all that are safe). Without any there is no TLS 1.2.
    pub legacy_suites: Vec<LegacySuite>,
    /// Offers the hybrid X25519MLKEM768 before the classical groups (default yes).
    ///
    /// It keeps recorded traffic safe from a later quantum computer, for 2.3 KB and 10 % of a handshake. A
    /// peer that does not know it takes X25519 without another round trip. Switch it off for middleboxes
    /// that drop a ClientHello of two segments.
    pub post_quantum: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { suites: SUITES.to_vec(), legacy_suites: LegacySuite::all().collect(), post_quantum: true }
    }
}

/// A word that names no version of TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no version of TLS that there is; TLSv1.2 and TLSv1.3 are")]
pub struct UnknownVersion(pub String);

impl Policy {
    /// Leaves only these versions: `TLSv1.2`, `TLSv1.3`, with blanks between.
    ///
    /// # Errors
    /// [`UnknownVersion`]
    pub fn restrict_versions(&mut self, versions: &str) -> Result<(), UnknownVersion> {
        let unknown = versions.split_whitespace().find(|version| !["TLSv1.2", "TLSv1.3"].contains(version));
        if let Some(version) = unknown {
            return Err(UnknownVersion(version.to_owned()));
        }
        let has = |wanted| versions.split_whitespace().any(|version| version == wanted);
        if !has("TLSv1.2") {
            self.legacy_suites.clear();
        }
        if !has("TLSv1.3") {
            self.suites.clear();
        }
        Ok(())
    }

    /// Leaves only these suites, in this order: a list in OpenSSL's syntax, of names. As there, suites of TLS 1.3 stay as they
    /// are if none of them is named. What is no name is returned, and changes nothing.
    pub fn restrict_suites<'a>(&mut self, names: &'a str) -> Vec<&'a str> {
        let (mut suites, mut legacy, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for name in names.split([':', ',', ' ']).filter(|name| !name.is_empty()) {
            let modern = SUITES.into_iter().find(|suite| suite.name() == name);
            match (modern, LegacySuite::all().find(|suite| suite.name() == name)) {
                (Some(suite), _) => suites.push(suite),
                (None, Some(suite)) => legacy.push(suite),
                (None, None) => unknown.push(name),
            }
        }
        if !suites.is_empty() && !self.suites.is_empty() {
            self.suites = suites;
        }
        if !legacy.is_empty() && !self.legacy_suites.is_empty() {
            self.legacy_suites = legacy;
        }
        unknown
    }

    /// With what TLS 1.2 has besides: for clients and workloads.
    #[cfg(feature = "https")]
    pub(crate) fn provider_of_services(&self) -> Arc<CryptoProvider> {
        let mut provider = CryptoProvider::clone(&self.provider());
        provider.cipher_suites.extend(self.legacy_suites.iter().map(|suite| LEGACY[suite.0].1));
        provider.kx_groups = default_provider().kx_groups;
        if !self.post_quantum {
            provider.kx_groups.retain(|group| group.name() != kx_group::X25519MLKEM768.name());
        }
        Arc::new(provider)
    }

    /// The versions that there are suites for.
    #[cfg(feature = "https")]
    pub(crate) fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let modern = (!self.suites.is_empty()).then_some(&TLS13);
        modern.into_iter().chain((!self.legacy_suites.is_empty()).then_some(&TLS12)).collect()
    }

    pub(crate) fn provider(&self) -> Arc<CryptoProvider> {
        let classical: [&'static dyn SupportedKxGroup; 3] =
            [kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
        let hybrid = self.post_quantum.then_some(kx_group::X25519MLKEM768);
        Arc::new(CryptoProvider {
            cipher_suites: self.suites.iter().map(|suite| suite.implementation()).collect(),
            kx_groups: hybrid.into_iter().chain(classical).collect(),
            ..default_provider()
        })
    }
}

impl LegacySuite {
    /// All of them, first choice first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..LEGACY.len()).map(Self)
    }

    /// The name that OpenSSL gives it.
    pub fn name(self) -> &'static str {
        LEGACY[self.0].0
    }
}

impl Suite {
    /// The name in the registry of the IANA, as management shows it (`sslCipher`).
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "TLS_AES_128_GCM_SHA256",
            Self::Aes256Gcm => "TLS_AES_256_GCM_SHA384",
            Self::ChaCha20Poly1305 => "TLS_CHACHA20_POLY1305_SHA256",
        }
    }

    /// The length of its keys in bits, as management shows it (`sslSsf`).
    pub fn key_bits(self) -> u16 {
        match self {
            Self::Aes128Gcm => 128,
            Self::Aes256Gcm | Self::ChaCha20Poly1305 => 256,
        }
    }

    pub(crate) fn of(suite: &Tls13CipherSuite) -> Self {
        match suite.common.suite {
            CipherSuite::TLS13_AES_128_GCM_SHA256 => Self::Aes128Gcm,
            CipherSuite::TLS13_AES_256_GCM_SHA384 => Self::Aes256Gcm,
            _ => Self::ChaCha20Poly1305,
        }
    }

    fn implementation(self) -> SupportedCipherSuite {
        match self {
            Self::Aes128Gcm => cipher_suite::TLS13_AES_128_GCM_SHA256,
            Self::Aes256Gcm => cipher_suite::TLS13_AES_256_GCM_SHA384,
            Self::ChaCha20Poly1305 => cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        }
    }
}

pub(crate) fn sha256(data: &[u8]) -> [u8; 32] {
    let suite = cipher_suite::TLS13_AES_128_GCM_SHA256.tls13().expect("a suite of TLS 1.3");
    let digest = suite.common.hash_provider.hash(data);
    digest.as_ref().try_into().expect("SHA-256 gives 32 octets")
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], GetRandomFailed> {
    let mut octets = [0; N];
    default_provider().secure_random.fill(&mut octets)?;
    Ok(octets)
}
