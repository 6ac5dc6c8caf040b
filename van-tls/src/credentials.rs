//! What a router shows ([`Identity`]) and whom it believes ([`Trust`]), as PEM texts that were checked.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::inspect::{Certificate, InspectError, Utc, Validity, not_pem, pem_fault};

/// All that one end of a link needs.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// What this end shows.
    pub identity: Identity,
    /// Whom this end believes.
    pub trust: Trust,
}

impl Credentials {
    /// Checks the three texts of a Secret: `tls.crt`, `tls.key`, `ca.crt`.
    ///
    /// # Errors
    /// As [`Identity::from_pem`] and [`Trust::from_pem`].
    pub fn from_pem(certificate: &str, key: &str, ca: &str) -> Result<Self, CredentialsError> {
        Ok(Self { identity: Identity::from_pem(certificate, key)?, trust: Trust::from_pem(ca)? })
    }

    /// Says whether links can be made with these at `now`; ask before dialling, and in status.
    ///
    /// # Errors
    /// [`UnfitError`] names the certificate whose time is over or has not come.
    pub fn check(&self, now: SystemTime) -> Result<(), UnfitError> {
        self.identity.check(now)?;
        self.trust.check(now)
    }
}

/// A certificate chain and its private key. They belong together; that was checked.
#[derive(Clone)]
pub struct Identity {
    chain_pem: String,
    key_pem: Arc<Zeroizing<String>>,
    certificate: Certificate,
    certified: Arc<CertifiedKey>,
}

impl Identity {
    /// Checks a chain, own certificate first, and a private key in PKCS #1, PKCS #8 or SEC 1 form.
    ///
    /// The texts are kept as they are; of an encrypted key, what is in it. RSA from 2048 bits, ECDSA P-256, P-384, P-521 and Ed25519 are known.
    ///
    /// # Errors
    /// [`CredentialsError`] says what is missing, damaged or does not fit.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, CredentialsError> {
        Self::from_encrypted_pem(chain, key, None)
    }

    /// As [`Identity::from_pem`], of a key that may be encrypted in PKCS #8 form, and what with.
    ///
    /// # Errors
    /// As [`Identity::from_pem`]; [`CredentialsError::WrongPassword`].
    pub fn from_encrypted_pem(chain: &str, key: &str, password: Option<&str>) -> Result<Self, CredentialsError> {
        let decrypted =
            password.filter(|_| key.contains(ENCRYPTED)).map(|password| decrypt(key, password)).transpose()?;
        let key = decrypted.as_ref().map_or(key, |key| key.as_str());
        let certificates = certificates(chain, CredentialsError::NoCertificate)?;
        let certificate = Certificate::from_der(&certificates[0])?;
        let certified = CertifiedKey::from_der(certificates, private_key(key)?, &default_provider()).map_err(
            |error| match error {
                rustls::Error::InconsistentKeys(_) => CredentialsError::KeyMismatch,
                rustls::Error::InvalidCertificate(_) => {
                    CredentialsError::Certificate(InspectError::NotX509(error.into()))
                }
                _ => CredentialsError::UnknownKey(error.into()),
            },
        )?;
        Ok(Self {
            chain_pem: chain.to_owned(),
            key_pem: Arc::new(Zeroizing::new(key.to_owned())),
            certificate,
            certified: Arc::new(certified),
        })
    }

    /// The chain, byte for byte as it came.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The private key, byte for byte as it came. Do not log it.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// The facts of the first certificate of the chain.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Says whether the certificate is alive at `now`.
    ///
    /// # Errors
    /// [`UnfitError::Expired`] or [`UnfitError::NotYetValid`].
    pub fn check(&self, now: SystemTime) -> Result<(), UnfitError> {
        let Certificate { subject, not_before, not_after, .. } = &self.certificate;
        match self.certificate.validity(now) {
            Validity::Current => Ok(()),
            Validity::Expired => Err(UnfitError::Expired { subject: subject.clone(), at: *not_after }),
            Validity::NotYet => Err(UnfitError::NotYetValid { subject: subject.clone(), from: *not_before }),
        }
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.certified)
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.certified.cert[0]
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate).field("key", &"[redacted]").finish()
    }
}

/// The CA certificates that peers must chain to: one, or old and new together while a CA is replaced.
#[derive(Debug, Clone)]
pub struct Trust {
    pem: String,
    certificates: Vec<Certificate>,
    roots: Arc<RootCertStore>,
}

impl Trust {
    /// Checks a text of one or more CA certificates.
    ///
    /// # Errors
    /// [`CredentialsError::NoCa`], or [`CredentialsError::Certificate`] if any of them cannot be read.
    pub fn from_pem(pem: &str) -> Result<Self, CredentialsError> {
        let ders = certificates(pem, CredentialsError::NoCa)?;
        let mut roots = RootCertStore::empty();
        let mut facts = Vec::with_capacity(ders.len());
        for der in ders {
            facts.push(Certificate::from_der(&der)?);
            roots.add(der).map_err(|error| InspectError::NotX509(error.into()))?;
        }
        Ok(Self { pem: pem.to_owned(), certificates: facts, roots: Arc::new(roots) })
    }

    /// The text, byte for byte as it came.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The facts of the CAs; never empty.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Says whether any of the CAs is alive at `now`.
    ///
    /// OpenSSL peers refuse what an expired CA signed, so this end does not wait for them to say it.
    ///
    /// # Errors
    /// [`UnfitError::NoCurrentCa`].
    pub fn check(&self, now: SystemTime) -> Result<(), UnfitError> {
        let is_current = |ca: &Certificate| ca.validity(now) == Validity::Current;
        if self.certificates.iter().any(is_current) {
            return Ok(());
        }
        Err(UnfitError::NoCurrentCa { subject: self.certificates[0].subject.clone() })
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.roots)
    }
}

/// Why texts are not credentials. Whoever provided them is to replace them.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The chain is empty.
    #[error("no certificate; a PEM block `BEGIN CERTIFICATE` is expected")]
    NoCertificate,
    /// The CA text is empty.
    #[error("no CA certificate; a PEM block `BEGIN CERTIFICATE` is expected")]
    NoCa,
    /// A certificate cannot be read.
    #[error("a certificate cannot be read")]
    Certificate(#[from] InspectError),
    /// There is no private key.
    #[error("no private key; a PEM block `BEGIN PRIVATE KEY`, or the RSA or EC form, is expected")]
    NoKey,
    /// The private key is locked with a password.
    #[error("the private key is encrypted; name its password, or store it without: `openssl pkey -in … -out …`")]
    EncryptedKey,
    /// The private key is locked with another password, or in a way that is not known.
    #[error(
        "the private key cannot be decrypted; is the password right? `openssl pkcs8 -topk8 -v2 aes256` encrypts as it must be"
    )]
    WrongPassword,
    /// The private key is damaged, or of a kind that is not supported.
    #[error("the private key cannot be used; RSA from 2048 bits, ECDSA and Ed25519 keys can")]
    UnknownKey(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The private key belongs to another certificate.
    #[error("the private key does not match the certificate")]
    KeyMismatch,
}

impl CredentialsError {
    pub(crate) fn is_about_the_key(&self) -> bool {
        matches!(self, Self::NoKey | Self::EncryptedKey | Self::WrongPassword | Self::UnknownKey(_))
    }
}

/// Why good credentials cannot be used now; the operator's move.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnfitError {
    /// Our own certificate is too old.
    #[error("our certificate {subject} expired at {}; issue a new one", Utc(*at))]
    Expired {
        /// Its subject.
        subject: String,
        /// The end of its life.
        at: SystemTime,
    },
    /// Our own certificate is from the future, so some clock is wrong.
    #[error("our certificate {subject} is valid from {} only; compare the clocks here and at its CA", Utc(*from))]
    NotYetValid {
        /// Its subject.
        subject: String,
        /// The start of its life.
        from: SystemTime,
    },
    /// No CA that we believe is alive.
    #[error("none of the CAs we trust is valid now, {subject} the first of them; replace ca.crt")]
    NoCurrentCa {
        /// The subject of the first.
        subject: String,
    },
}

fn certificates(pem: &str, none: CredentialsError) -> Result<Vec<CertificateDer<'static>>, CredentialsError> {
    let certificates =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>().map_err(not_pem)?;
    if certificates.is_empty() { Err(none) } else { Ok(certificates) }
}

/// What an encrypted key in PKCS #8 form is marked by.
const ENCRYPTED: &str = "BEGIN ENCRYPTED PRIVATE KEY";

const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";

/// The key in an encrypted one (RFC 5958 §3, RFC 8018).
fn decrypt(pem: &str, password: &str) -> Result<Zeroizing<String>, CredentialsError> {
    // Other blocks may stand before and behind it.
    let block = pem.find("-----BEGIN ENCRYPTED").map(|start| &pem[start..]).unwrap_or(pem);
    let end = block.find(END).map_or(block.len(), |end| end + END.len());
    let (_, der) = pem_rfc7468::decode_vec(&block.as_bytes()[..end]).map_err(|_| CredentialsError::WrongPassword)?;
    let encrypted =
        pkcs8::EncryptedPrivateKeyInfo::try_from(der.as_slice()).map_err(|_| CredentialsError::WrongPassword)?;
    let key = encrypted.decrypt(password).map_err(|_| CredentialsError::WrongPassword)?;
    let pem = pem_rfc7468::encode_string("PRIVATE KEY", pem_rfc7468::LineEnding::LF, key.as_bytes());
    pem.map(Zeroizing::new).map_err(|_| CredentialsError::WrongPassword)
}

fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, CredentialsError> {
    use rustls::pki_types::pem::Error;

    // PKCS #8 says it in the label, the older forms in a header that OpenSSL wrote.
    if pem.contains(ENCRYPTED) || pem.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(CredentialsError::EncryptedKey);
    }
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| match error {
        Error::NoItemsFound => CredentialsError::NoKey,
        error => CredentialsError::UnknownKey(pem_fault(error)),
    })
}

#[cfg(test)]
mod tests {
    use zeroize::ZeroizeOnDrop;

    use crate::tests::west;

    #[test]
    fn key_is_wiped_when_it_is_dropped() {
        fn wiped<T: ZeroizeOnDrop>(_: &T) {}
        wiped(&*west().identity.key_pem);
    }
}
