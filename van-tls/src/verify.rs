//! Who the peer is, and the evidence that this was checked.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::inspect::Certificate;

/// Evidence that a peer may be linked with.
///
/// There are two ways to have one: a completed [`Handshake`](crate::Handshake), in which the peer showed a certificate
/// that chains to our CA and proved to hold its key; or [`VerifiedPeer::insecure_plaintext`], which can be searched
/// for. What makes links takes one of these, so "forgot to verify" does not compile.
///
/// On the connector's side the peer was verified, but may itself still refuse us: TLS 1.3 servers judge the client's
/// certificate last. The refusal then is the first thing that the record layer opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPeer {
    certificate: Option<Certificate>,
}

impl VerifiedPeer {
    /// Stands for a peer that showed nothing, on a listener that demands nothing.
    pub fn insecure_plaintext() -> Self {
        Self { certificate: None }
    }

    /// For the end of a handshake with a client, on an acceptor that asks for no certificate.
    pub(crate) fn without_certificate() -> Self {
        Self { certificate: None }
    }

    /// The facts of the certificate that was verified; `None` if the peer was to show none.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// For the end of a handshake only, whose verifiers have seen `certificate`.
    pub(crate) fn by_handshake(certificate: Certificate) -> Self {
        Self { certificate: Some(certificate) }
    }
}

/// Verifies acceptors: the chain always, the host name unless the operator waived it (`verifyHostname: no`).
#[derive(Debug)]
pub(crate) struct AcceptorVerifier {
    pub(crate) roots: Arc<RootCertStore>,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
    pub(crate) verifies_host: bool,
}

impl ServerCertVerifier for AcceptorVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        if self.verifies_host {
            verify_server_name(&certificate, host)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
