//! The settings of links: TLS 1.3 only, both ends show certificates, nothing is resumed.
//!
//! Links live for days, so a resumption would save nothing, but would let a peer skip the check of its certificate after
//! a rotation or a revocation.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::{UnbufferedServerConnection, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use crate::credentials::Credentials;
use crate::handshake::{Handshake, Side};
use crate::provider::Policy;
use crate::verify::AcceptorVerifier;

/// Whether a connector insists that the acceptor's certificate names the host it dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostCheck {
    /// The certificate must name the host, as DNS name or IP address; its common name does not count.
    #[default]
    Verify,
    /// Any certificate of the CA will do (`verifyHostname: no`).
    Waive,
}

/// Makes the connecting ends of links. Cheap to clone.
#[derive(Clone)]
pub struct LinkConnector {
    config: ClientConfig,
}

impl LinkConnector {
    /// Prepares to connect with `credentials`.
    ///
    /// It does not look at the clock: ask [`Credentials::check`] as well.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(credentials: &Credentials, host_check: HostCheck, policy: &Policy) -> Result<Self, SetupError> {
        let provider = policy.provider();
        let verifier = AcceptorVerifier {
            roots: credentials.trust.roots(),
            algorithms: provider.signature_verification_algorithms,
            verifies_host: host_check == HostCheck::Verify,
        };
        let identity = SingleCertAndKey::from(credentials.identity.certified());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(SetupError::new)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(Arc::new(identity));
        config.resumption = Resumption::disabled();
        // Not for show: the record layer is ours and needs the keys.
        config.enable_secret_extraction = true;
        Ok(Self { config })
    }

    /// Begins a connection to `host`, a DNS name, which is also sent as SNI, or an IP address.
    ///
    /// Certificates are judged as of `now`.
    ///
    /// # Errors
    /// [`ConnectError::Host`]; the rest comes from the [`Handshake`].
    pub fn connect(&self, host: &str, now: SystemTime) -> Result<Handshake, ConnectError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::Host { host: host.to_owned() })?;
        let mut config = self.config.clone();
        config.time_provider = Arc::new(At(now));
        let connection = UnbufferedClientConnection::new(Arc::new(config), name).map_err(ConnectError::internal)?;
        Handshake::start(Side::Connector(connection)).map_err(ConnectError::internal)
    }
}

/// Makes the accepting ends of links. Cheap to clone.
#[derive(Clone)]
pub struct LinkAcceptor {
    config: ServerConfig,
    asks_certificate: bool,
}

impl LinkAcceptor {
    /// Prepares to accept with `credentials`, and only peers whose certificate chains to their `ca.crt`.
    ///
    /// It does not look at the clock: ask [`Credentials::check`] as well.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(credentials: &Credentials, policy: &Policy) -> Result<Self, SetupError> {
        let provider = policy.provider();
        let verifier = WebPkiClientVerifier::builder_with_provider(credentials.trust.roots(), Arc::clone(&provider))
            .build()
            .map_err(SetupError::new)?;
        let identity = SingleCertAndKey::from(credentials.identity.certified());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(SetupError::new)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(identity));
        Ok(Self::with(config, true))
    }

    /// Prepares to accept clients, who are asked for no certificate: not for links.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn for_clients(credentials: &Credentials, policy: &Policy) -> Result<Self, SetupError> {
        let identity = SingleCertAndKey::from(credentials.identity.certified());
        let config = ServerConfig::builder_with_provider(policy.provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(SetupError::new)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(identity));
        Ok(Self::with(config, false))
    }

    fn with(mut config: ServerConfig, asks_certificate: bool) -> Self {
        config.send_tls13_tickets = 0;
        config.enable_secret_extraction = true;
        Self { config, asks_certificate }
    }

    /// Begins with a connection that was accepted. Certificates are judged as of `now`.
    ///
    /// # Errors
    /// [`ConnectError::Internal`]; the rest comes from the [`Handshake`].
    pub fn accept(&self, now: SystemTime) -> Result<Handshake, ConnectError> {
        let mut config = self.config.clone();
        config.time_provider = Arc::new(At(now));
        let connection = UnbufferedServerConnection::new(Arc::new(config)).map_err(ConnectError::internal)?;
        let side = if self.asks_certificate { Side::Acceptor(connection) } else { Side::OpenAcceptor(connection) };
        Handshake::start(side).map_err(ConnectError::internal)
    }
}

impl fmt::Debug for LinkConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkConnector").finish_non_exhaustive()
    }
}

impl fmt::Debug for LinkAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkAcceptor").finish_non_exhaustive()
    }
}

/// The policy leaves nothing to negotiate; the operator's move.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up; name at least one cipher suite")]
pub struct SetupError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl SetupError {
    pub(crate) fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(error.into())
    }
}

/// Why a handshake could not even begin.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host cannot stand in a certificate; the operator's move.
    #[error("{host:?} is neither a DNS name nor an IP address")]
    Host {
        /// The host as configured.
        host: String,
    },
    /// Random numbers or keys are lacking; ours.
    #[error("no TLS handshake could be started")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl ConnectError {
    fn internal(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Internal(error.into())
    }
}

/// The caller's clock.
#[derive(Debug)]
pub(crate) struct At(pub(crate) SystemTime);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        self.0.duration_since(SystemTime::UNIX_EPOCH).ok().map(UnixTime::since_unix_epoch)
    }
}
