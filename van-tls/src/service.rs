//! TLS with clients and workloads, over any stream of tokio: TLS 1.2 and 1.3.
//!
//! A session is resumed where that lets nobody skip a check: never on an acceptor that asks for certificates.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use rustls::pki_types::ServerName;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::credentials::{Identity, Trust};
use crate::handshake::handshake_error;
use crate::https::{TlsError, names, tls_error};
use crate::mutual::{At, HostCheck, SetupError};
use crate::provider::Policy;
use crate::verify::AcceptorVerifier;

/// Makes the server's ends of connections with clients. Cheap to clone.
#[derive(Clone)]
pub struct ServiceAcceptor {
    config: ServerConfig,
}

impl ServiceAcceptor {
    /// Prepares to show `identity`. With `clients`, only those are accepted who show a certificate that chains to it.
    /// `protocols` are those of ALPN, first choice first; a client that knows none of them is refused, one that names none is
    /// not.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(identity: &Identity, clients: Option<&Trust>, protocols: &[&str]) -> Result<Self, SetupError> {
        Self::with_policy(identity, clients, protocols, &Policy::default())
    }

    /// As [`ServiceAcceptor::new`], with versions and suites of the caller's.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn with_policy(
        identity: &Identity,
        clients: Option<&Trust>,
        protocols: &[&str],
        policy: &Policy,
    ) -> Result<Self, SetupError> {
        let provider = policy.provider_of_services();
        let verifier = match clients {
            Some(trust) => WebPkiClientVerifier::builder_with_provider(trust.roots(), Arc::clone(&provider))
                .build()
                .map_err(SetupError::new)?,
            None => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&policy.versions())
            .map_err(SetupError::new)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified())));
        if clients.is_some() {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        config.alpn_protocols = names(protocols);
        Ok(Self { config })
    }

    /// Shakes hands with a client, whose certificate is judged as of `now`.
    ///
    /// Bound its time from outside; dropping it closes the connection.
    ///
    /// # Errors
    /// [`TlsError::Handshake`] and [`TlsError::Io`].
    pub async fn accept<S>(&self, now: SystemTime, stream: S) -> Result<ServiceStream<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut config = self.config.clone();
        config.time_provider = Arc::new(At(now));
        let accepted = TlsAcceptor::from(Arc::new(config)).accept(stream).await;
        accepted.map(|stream| ServiceStream(stream.into())).map_err(tls_error)
    }
}

/// Makes the client's ends of connections to workloads. Cheap to clone.
#[derive(Clone)]
pub struct ServiceConnector {
    config: ClientConfig,
}

impl ServiceConnector {
    /// Prepares to believe `trust`, and nobody else, and to show `identity` to a workload that asks.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(trust: &Trust, identity: Option<&Identity>, host_check: HostCheck) -> Result<Self, SetupError> {
        Self::with_policy(trust, identity, host_check, &Policy::default())
    }

    /// As [`ServiceConnector::new`], with versions and suites of the caller's.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn with_policy(
        trust: &Trust,
        identity: Option<&Identity>,
        host_check: HostCheck,
        policy: &Policy,
    ) -> Result<Self, SetupError> {
        let provider = policy.provider_of_services();
        let verifier = AcceptorVerifier {
            roots: trust.roots(),
            algorithms: provider.signature_verification_algorithms,
            verifies_host: host_check == HostCheck::Verify,
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&policy.versions())
            .map_err(SetupError::new)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let config = match identity {
            Some(identity) => config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified()))),
            None => config.with_no_client_auth(),
        };
        Ok(Self { config })
    }

    /// Shakes hands with a workload at `host`, a DNS name, which is also sent as SNI, or an IP address. `protocol` is the one
    /// offered by ALPN; the certificate is judged as of `now`, unless the workload lets us resume a session, for which it was.
    ///
    /// That the workload refuses *our* certificate may be heard from the stream only. Bound its time from outside; dropping it
    /// closes the connection.
    ///
    /// # Errors
    /// [`TlsError`].
    pub async fn connect<S>(
        &self,
        host: &str,
        protocol: Option<&str>,
        now: SystemTime,
        stream: S,
    ) -> Result<ServiceStream<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Host { host: host.to_owned() })?;
        let mut config = self.config.clone();
        config.alpn_protocols = names(protocol.as_slice());
        config.time_provider = Arc::new(At(now));
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        connected.map(|stream| ServiceStream(stream.into())).map_err(tls_error)
    }
}

impl fmt::Debug for ServiceAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceAcceptor").finish_non_exhaustive()
    }
}

impl fmt::Debug for ServiceConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceConnector").finish_non_exhaustive()
    }
}

/// A connection after its handshake: what is written is sealed, what is read was opened.
///
/// Each direction ends by itself, with the farewell of TLS (`close_notify`): `shutdown` says it, and reading nothing means that
/// the peer did. A peer that just goes is an error, [`io::ErrorKind::UnexpectedEof`]: somebody may have cut off the rest. What
/// the peer does against the rules, or why it refuses us, is [`io::ErrorKind::InvalidData`]. What was written may wait here
/// until it is flushed.
pub struct ServiceStream<S>(TlsStream<S>);

impl<S> ServiceStream<S> {
    /// The protocol that both ends agreed on by ALPN.
    pub fn protocol(&self) -> Option<&str> {
        self.0.get_ref().1.alpn_protocol().and_then(|name| std::str::from_utf8(name).ok())
    }

    /// What is below.
    pub fn get_ref(&self) -> &S {
        self.0.get_ref().0
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ServiceStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll_read(cx, buf)).map_err(in_our_words))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ServiceStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl<S> fmt::Debug for ServiceStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceStream").finish_non_exhaustive()
    }
}

fn in_our_words(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the peer went without the farewell of TLS"),
        io::ErrorKind::InvalidData => match error.downcast::<rustls::Error>() {
            Ok(error) => io::Error::new(io::ErrorKind::InvalidData, handshake_error(error)),
            Err(error) => error,
        },
        _ => error,
    }
}
