//! Reads what a certificate says. Whether to believe it is decided elsewhere ([`crate::VerifiedPeer`]).

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use x509_parser::asn1_rs::FromDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

use crate::provider;

/// The facts of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Certificate {
    /// The subject, for people: `CN=west`. Attributes are in the order of the certificate.
    pub subject: String,
    /// The last common name of the subject. A claim to show, never one to authorise by.
    pub common_name: Option<String>,
    /// The DNS names it is for. Skupper repeats IP addresses here as text.
    pub dns_names: Vec<String>,
    /// The IP addresses it is for.
    pub ip_addresses: Vec<IpAddr>,
    /// The subject of the CA that signed it.
    pub issuer: String,
    /// The serial number, as `0a:1b:…`: with the issuer it names the certificate.
    pub serial: String,
    /// The start of its life.
    pub not_before: SystemTime,
    /// The end of its life.
    pub not_after: SystemTime,
    /// Whether it may sign other certificates.
    pub is_ca: bool,
    /// The SHA-256 digest of the whole certificate.
    pub fingerprint: Fingerprint,
}

/// A certificate's SHA-256 digest; shown as `openssl x509 -fingerprint -sha256` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// Where a moment lies in the life of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// The certificate starts later.
    NotYet,
    /// The certificate is alive.
    Current,
    /// The certificate has expired.
    Expired,
}

/// Why a certificate could not be read; the text or file is to be replaced.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The text holds no `BEGIN CERTIFICATE` block, or a damaged one.
    #[error("no certificate found; a PEM block `BEGIN CERTIFICATE` is expected")]
    NotPem(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The octets are not an X.509 certificate.
    #[error("not an X.509 certificate")]
    NotX509(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Certificate {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// As [`InspectError`] says.
    pub fn from_pem(pem: &str) -> Result<Self, InspectError> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(not_pem)?;
        Self::from_der(&der)
    }

    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// [`InspectError::NotX509`], also if octets follow the certificate.
    pub fn from_der(der: &[u8]) -> Result<Self, InspectError> {
        let certificate = parse(der)?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map_or(&[][..], |extension| &extension.value.general_names);
        Ok(Self {
            subject: certificate.subject().to_string(),
            common_name: certificate
                .subject()
                .iter_common_name()
                .last()
                .and_then(|name| name.as_str().ok())
                .map(str::to_owned),
            dns_names: names.iter().filter_map(dns_name).collect(),
            ip_addresses: names.iter().filter_map(ip_address).collect(),
            issuer: certificate.issuer().to_string(),
            serial: certificate.raw_serial_as_string(),
            not_before: certificate.validity().not_before.to_datetime().into(),
            not_after: certificate.validity().not_after.to_datetime().into(),
            is_ca: certificate.is_ca(),
            fingerprint: Fingerprint(provider::sha256(der)),
        })
    }

    /// Where `now` lies in its life; both ends belong to it (RFC 5280 §4.1.2.5).
    pub fn validity(&self, now: SystemTime) -> Validity {
        if now < self.not_before {
            Validity::NotYet
        } else if now > self.not_after {
            Validity::Expired
        } else {
            Validity::Current
        }
    }

    /// How much of its life is left; zero once it is over.
    pub fn remaining(&self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default()
    }

    /// When to renew it: at two thirds of its life, so that a third is left to notice that renewal fails.
    pub fn renew_at(&self) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before + life * 2 / 3
    }
}

pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, InspectError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(InspectError::NotX509("octets follow the certificate".into())),
        Err(error) => Err(InspectError::NotX509(match X509Error::from(error) {
            // Which tag was expected in which octet helps nobody replace the file.
            X509Error::Der(_) | X509Error::NomError(_) => "its encoding is damaged or cut off".into(),
            error => error.into(),
        })),
    }
}

pub(crate) fn not_pem(error: pem::Error) -> InspectError {
    InspectError::NotPem(pem_fault(error))
}

/// The library shows lines as lists of octets; this says what is wrong with them.
pub(crate) fn pem_fault(error: pem::Error) -> Box<dyn std::error::Error + Send + Sync> {
    match error {
        pem::Error::MissingSectionEnd { .. } => "the END line of a PEM block is absent or damaged".into(),
        pem::Error::IllegalSectionStart { .. } => "the BEGIN line of a PEM block is damaged".into(),
        pem::Error::Base64Decode(_) => "the base64 of a PEM block is damaged".into(),
        error => error.into(),
    }
}

fn dns_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    }
}

fn ip_address(name: &GeneralName<'_>) -> Option<IpAddr> {
    let GeneralName::IPAddress(octets) = *name else { return None };
    <[u8; 4]>::try_from(octets).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, octet) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ":" };
            write!(f, "{separator}{octet:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Shows a moment in messages, as RFC 3339 has it: `2031-11-20T07:08:20Z`.
pub(crate) struct Utc(pub(crate) SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = match self.0.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
        };
        let Ok(time) = ASN1Time::from_timestamp(seconds) else { return write!(f, "{seconds} s") };
        let time = time.to_datetime();
        let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
        let (hour, minute, second) = time.to_hms();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}
