//! A certificate authority: one key that signs, the certificates it makes.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use pem_rfc7468::LineEnding;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber, SignatureAlgorithm, SigningKey,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::ParsedExtension;
use zeroize::Zeroizing;

use crate::credentials::{Credentials, CredentialsError, UnfitError};
use crate::inspect::Certificate;
use crate::request::{AuthorityRequest, KeyKind, LeafRequest};
use crate::{der, inspect, provider};

/// How far the start of a certificate's life is set back, for peers whose clock is behind.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// 9999-12-31T23:59:59Z, the end of time as certificates know it (RFC 5280 §4.1.2.5).
const END_OF_TIME: Duration = Duration::from_secs(253_402_300_799);

/// A CA that can sign.
pub struct Authority {
    credentials: Credentials,
    key: Zeroizing<KeyPair>,
    key_id: KeyIdMethod,
    subject: Vec<u8>,
}

impl Authority {
    /// Makes a CA with a key of its own, signed by itself.
    ///
    /// # Errors
    /// [`IssueError::Crypto`].
    pub fn create(request: &AuthorityRequest) -> Result<Self, IssueError> {
        let key = generate(request.key)?;
        let mut params = params(&request.common_name, request.now, request.valid_for)?;
        // It signs leaves, and no further CAs.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = pem("CERTIFICATE", params.self_signed(&*key).map_err(IssueError::crypto)?.der())?;
        let key = key_pem(&key)?;
        Self::from_pem(&certificate, &key).map_err(IssueError::crypto)
    }

    /// Takes over a CA that somebody else made, as `tls.crt` and `tls.key` of its Secret.
    ///
    /// # Errors
    /// As [`Authority::from_credentials`], and [`AuthorityError::Credentials`].
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, AuthorityError> {
        Self::from_credentials(Credentials::from_pem(certificate, key, certificate)?)
    }

    /// Takes over a CA that was read from a folder.
    ///
    /// # Errors
    /// [`AuthorityError::NotACa`]; [`AuthorityError::Credentials`] for a key that cannot sign certificates.
    pub fn from_credentials(credentials: Credentials) -> Result<Self, AuthorityError> {
        let unreadable = |error| AuthorityError::Credentials(CredentialsError::Certificate(error));
        let certificate = inspect::parse(credentials.identity.der()).map_err(unreadable)?;
        let usage = certificate.key_usage().ok().flatten();
        if !certificate.is_ca() || usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
            let subject = certificate.subject().to_string();
            return Err(AuthorityError::NotACa { subject });
        }
        let key_id = certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_owned()),
            _ => None,
        });
        let subject = certificate.subject().as_raw().to_owned();
        Ok(Self {
            key: signing_key(credentials.identity.key_pem())?,
            key_id: key_id.map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified),
            subject,
            credentials,
        })
    }

    /// Makes a key and a certificate for it; `ca.crt` is this CA's own certificate.
    ///
    /// # Errors
    /// [`IssueError::Host`] for a host that no certificate can name, [`IssueError::Authority`] if the CA itself is not
    /// alive at `now`.
    pub fn issue(&self, request: &LeafRequest) -> Result<Credentials, IssueError> {
        self.credentials.identity.check(request.now)?;
        let left = self.certificate().remaining(request.now);
        let key = generate(request.key)?;
        let mut params = params(&request.common_name, request.now, request.valid_for.min(left))?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.subject_alt_names = alternative_names(&request.hosts)?;
        params.key_usages = request.key.usages();
        params.extended_key_usages = request.usage.purposes();
        params.use_authority_key_identifier_extension = true;

        let certificate = pem("CERTIFICATE", &self.sign(&params, &key)?)?;
        Credentials::from_pem(&certificate, &key_pem(&key)?, self.credentials.identity.chain_pem())
            .map_err(IssueError::crypto)
    }

    /// The CA's own certificate and key, to be stored; its `ca.crt` is itself.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The facts of the CA's own certificate.
    pub fn certificate(&self) -> &Certificate {
        self.credentials.identity.certificate()
    }

    /// Lets rcgen lay the certificate out, puts the issuer's name in, and signs.
    ///
    /// rcgen keeps names in a map, so two OUs, or the DCs of an Active Directory, would become one and the chain would
    /// break. Here the issuer is the CA's subject, octet for octet.
    fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Result<Vec<u8>, IssueError> {
        let mut issuer = CertificateParams::default();
        issuer.key_identifier_method = self.key_id.clone();
        let draft = params.signed_by(key, &Issuer::new(issuer, Unsigned(&self.key))).map_err(IssueError::crypto)?;
        der::reissue(draft.der(), &self.subject, |to_be_signed| self.key.sign(to_be_signed).ok())
            .ok_or_else(|| IssueError::crypto("the draft of the certificate cannot be signed"))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("credentials", &self.credentials).finish_non_exhaustive()
    }
}

/// The key of a CA as long as rcgen only drafts.
struct Unsigned<'a>(&'a KeyPair);

impl PublicKeyData for Unsigned<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for Unsigned<'_> {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Vec::new())
    }
}

/// Why a CA cannot be taken over; the move of whoever provided it.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The certificate or the key is missing, damaged or of an unknown kind.
    #[error("not a usable CA")]
    Credentials(#[from] CredentialsError),
    /// The certificate may not sign others.
    #[error("{subject} is not a CA; basic constraints and key usage must allow it to sign")]
    NotACa {
        /// Its subject.
        subject: String,
    },
}

/// Why a certificate was not made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A host cannot be written into a certificate; the requester's move.
    #[error("{host:?} is neither an IP address nor a DNS name of visible ASCII characters")]
    Host {
        /// The host as requested.
        host: String,
    },
    /// The CA is expired or not yet valid; the operator's move.
    #[error("the CA cannot issue now")]
    Authority(#[from] UnfitError),
    /// A key, a random number or a signature could not be made; ours.
    #[error("no certificate could be made")]
    Crypto(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl IssueError {
    fn crypto(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Crypto(error.into())
    }
}

fn params(common_name: &str, now: SystemTime, valid_for: Duration) -> Result<CertificateParams, IssueError> {
    let end_of_time = SystemTime::UNIX_EPOCH + END_OF_TIME;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let serial = provider::random::<16>().map_err(|_| IssueError::crypto("no random numbers"))?;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = now.checked_sub(CLOCK_SKEW).unwrap_or(now).min(end_of_time).into();
    params.not_after = now.checked_add(valid_for).unwrap_or(end_of_time).min(end_of_time).into();
    Ok(params)
}

/// DNS names first, then addresses: the order of Skupper.
fn alternative_names(hosts: &[String]) -> Result<Vec<SanType>, IssueError> {
    let refused = |host: &String| IssueError::Host { host: host.clone() };
    let mut names = Vec::with_capacity(2 * hosts.len());
    for host in hosts {
        if host.is_empty() || !host.bytes().all(|octet| octet.is_ascii_graphic()) {
            return Err(refused(host));
        }
        names.push(SanType::DnsName(host.as_str().try_into().map_err(|_| refused(host))?));
    }
    let addresses = hosts.iter().filter_map(|host| host.parse::<IpAddr>().ok());
    names.extend(addresses.map(SanType::IpAddress));
    Ok(names)
}

fn generate(kind: KeyKind) -> Result<Zeroizing<KeyPair>, IssueError> {
    KeyPair::generate_for(kind.algorithm()).map(Zeroizing::new).map_err(IssueError::crypto)
}

fn signing_key(pem: &str) -> Result<Zeroizing<KeyPair>, CredentialsError> {
    let der =
        PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| CredentialsError::UnknownKey(error.into()))?;
    KeyPair::try_from(&*Zeroizing::new(der))
        .map(Zeroizing::new)
        .map_err(|error| CredentialsError::UnknownKey(error.into()))
}

/// Writes a key that was made here: RSA as PKCS #1, because Skupper's controller reads nothing else.
fn key_pem(key: &KeyPair) -> Result<Zeroizing<String>, IssueError> {
    let pkcs8 = key.serialized_der();
    let pem = if key.algorithm() == &rcgen::PKCS_RSA_SHA256 {
        let pkcs1 =
            der::inner_of_pkcs8(pkcs8).ok_or_else(|| IssueError::crypto("the new RSA key is not in PKCS #8"))?;
        pem("RSA PRIVATE KEY", pkcs1)
    } else {
        pem("PRIVATE KEY", pkcs8)
    };
    pem.map(Zeroizing::new)
}

fn pem(label: &str, der: &[u8]) -> Result<String, IssueError> {
    pem_rfc7468::encode_string(label, LineEnding::LF, der).map_err(IssueError::crypto)
}
