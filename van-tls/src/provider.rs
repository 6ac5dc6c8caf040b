//! Which cryptography links use, in order of preference; the one place that knows the provider.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, GetRandomFailed, SupportedKxGroup};
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

/// What a link may negotiate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Suites to offer and accept, first choice first (default [`SUITES`]).
    pub suites: Vec<Suite>,
    /// Offers the hybrid X25519MLKEM768 before the classical groups (default yes).
    ///
    /// It keeps recorded traffic safe from a later quantum computer, for 2.3 KB and 10 % of a handshake. A
    /// peer that does not know it takes X25519 without another round trip. Switch it off for middleboxes
    /// that drop a ClientHello of two segments.
    pub post_quantum: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { suites: SUITES.to_vec(), post_quantum: true }
    }
}

impl Policy {
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

/// What clients and workloads may negotiate: all that is safe, TLS 1.2 included, the hybrid group first.
#[cfg(feature = "https")]
pub(crate) fn provider_of_services() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
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
