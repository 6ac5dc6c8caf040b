//! TLS for HTTPS over any stream of tokio: only the server shows a certificate. TLS 1.3, nothing resumed.
//!
//! For the few short conversations beside the links; octets of the data path have [`crate::Handshake`] and
//! [`crate::RecordLayer`].

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, InvalidMessage, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::credentials::{Identity, Trust};
use crate::handshake::{HandshakeError, handshake_error};
use crate::mutual::{At, SetupError};
use crate::provider::Policy;

/// Makes the server's ends of HTTPS connections. Cheap to clone.
#[derive(Clone)]
pub struct HttpsAcceptor {
    config: Arc<ServerConfig>,
}

impl HttpsAcceptor {
    /// Prepares to show `identity`, to clients of any kind; `protocols` are those of ALPN, first choice first.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(identity: &Identity, protocols: &[&str]) -> Result<Self, SetupError> {
        let mut config = ServerConfig::builder_with_provider(Policy::default().provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(SetupError::new)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified())));
        config.send_tls13_tickets = 0;
        config.alpn_protocols = names(protocols);
        Ok(Self { config: Arc::new(config) })
    }

    /// Shakes hands with a client. It has no clock: bound its time from outside; dropping it closes the connection.
    ///
    /// # Errors
    /// [`TlsError::Handshake`] and [`TlsError::Io`].
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Result<HttpsStream<S>, TlsError> {
        let accepted = TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await;
        accepted.map(|stream| HttpsStream(stream.into())).map_err(tls_error)
    }
}

/// Makes the client's ends of HTTPS connections. Cheap to clone.
#[derive(Clone)]
pub struct HttpsConnector {
    config: ClientConfig,
}

impl HttpsConnector {
    /// Prepares to believe `trust`, and nobody else; `protocols` are those of ALPN, first choice first.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn new(trust: &Trust, protocols: &[&str]) -> Result<Self, SetupError> {
        let mut config = ClientConfig::builder_with_provider(Policy::default().provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(SetupError::new)?
            .with_root_certificates(trust.roots())
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = names(protocols);
        Ok(Self { config })
    }

    /// Shakes hands with a server, whose certificate must name `host`, a DNS name or an IP address without brackets,
    /// and be alive at `now`.
    ///
    /// Bound its time from outside; dropping it closes the connection.
    ///
    /// # Errors
    /// [`TlsError`].
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        now: SystemTime,
        stream: S,
    ) -> Result<HttpsStream<S>, TlsError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::Host { host: host.to_owned() })?;
        let mut config = self.config.clone();
        config.time_provider = Arc::new(At(now));
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        connected.map(|stream| HttpsStream(stream.into())).map_err(tls_error)
    }
}

impl fmt::Debug for HttpsAcceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsAcceptor").finish_non_exhaustive()
    }
}

impl fmt::Debug for HttpsConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsConnector").finish_non_exhaustive()
    }
}

/// A connection after its handshake: what is written is sealed, what is read was opened.
///
/// A peer that ends it without the farewell of TLS has just ended it: many servers do, and HTTP says itself where a message
/// ends (only that of a server of HTTP/1.0 may then have been cut off by somebody in between).
pub struct HttpsStream<S>(TlsStream<S>);

impl<S> HttpsStream<S> {
    /// The protocol that both ends agreed on by ALPN.
    pub fn protocol(&self) -> Option<&[u8]> {
        self.0.get_ref().1.alpn_protocol()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for HttpsStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.0).poll_read(cx, buf)) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            read => Poll::Ready(read),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for HttpsStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl<S> fmt::Debug for HttpsStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsStream").finish_non_exhaustive()
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The host cannot stand in a certificate; whoever wrote the URL is to correct it.
    #[error("{host:?} is neither a DNS name nor an IP address")]
    Host {
        /// The host as called.
        host: String,
    },
    /// The ends do not get along.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The network broke the connection.
    #[error("the connection broke during the handshake")]
    Io(#[source] io::Error),
}

pub(crate) fn names(protocols: &[&str]) -> Vec<Vec<u8>> {
    protocols.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// tokio-rustls wraps the errors of rustls.
pub(crate) fn tls_error(error: io::Error) -> TlsError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return HandshakeError::Closed.into();
    }
    match error.downcast::<rustls::Error>() {
        Ok(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            HandshakeError::NotTls { protocol: "something else".to_owned() }.into()
        }
        Ok(error) => handshake_error(error).into(),
        Err(error) => TlsError::Io(error),
    }
}
