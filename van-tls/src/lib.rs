//! Certificates and TLS for the links of a Virtual Application Network.
//!
//! * An [`Authority`] issues certificates; [`directory`] keeps them in files, [`Certificate`] says what is in them.
//! * A [`LinkConnector`] and a [`LinkAcceptor`] turn [`Credentials`] into [`Handshake`]s: TLS 1.3 only, both ends show
//!   certificates, nothing is resumed.
//! * A handshake ends in a [`VerifiedPeer`], the evidence without which no link is made, and in [`Tls13Records`], which
//!   seal and open what the link carries, many parts and many records at a time.
//! * With feature `https`, over streams of tokio: an `HttpsConnector` and an `HttpsAcceptor` for the few conversations beside
//!   the links, where only the server shows a certificate; a `ServiceConnector` and a `ServiceAcceptor` for workloads and
//!   clients, TLS 1.2 too.
//!
//! Nothing here opens a socket, starts a thread or looks at a clock: octets come in, octets go out, `now` is an argument.
//! Only [`directory`] touches files. Types of rustls, rcgen and x509-parser stay inside, so that another TLS library, or
//! the next version of this one, changes this crate alone.
//!
//! The peer may be a skupper-router, which uses OpenSSL 3.
//!
//! # A link in memory
//!
//! ```
//! # use std::time::SystemTime;
//! # use bytes::Buf;
//! use van_tls::*;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let now = SystemTime::now();
//! let (key, valid_for) = (KeyKind::EcdsaP256, SKUPPER_LIFE);
//! let ca = Authority::create(&AuthorityRequest { common_name: "west site CA".into(), key, now, valid_for })?;
//! let leaf = LeafRequest {
//!     common_name: "west".into(),
//!     hosts: vec!["west.example.com".into(), "10.0.0.7".into()],
//!     usage: Usage::Both,
//!     key,
//!     now,
//!     valid_for,
//! };
//! let credentials = ca.issue(&leaf)?;
//!
//! let policy = Policy::default();
//! let connector = LinkConnector::new(&credentials, HostCheck::Verify, &policy)?;
//! let acceptor = LinkAcceptor::new(&credentials, &policy)?;
//! let mut near = connector.connect("10.0.0.7", now)?;
//! let mut far = acceptor.accept(now)?;
//!
//! // What goes over the network otherwise.
//! fn sent(out: &mut OutBuf) -> Vec<u8> {
//!     out.copy_to_bytes(out.remaining()).into()
//! }
//! far.handle_received(&sent(near.output()))?;
//! let mut near = near.handle_received(&sent(far.output()))?.expect("the connector is ready first");
//! let mut far = far.handle_received(&sent(&mut near.output))?.expect("now both are");
//! assert_eq!(far.peer.certificate().map(|peer| peer.subject.as_str()), Some("CN=west"));
//!
//! near.records.seal(&[b"a header", b" and ", b"payload"], &mut near.output)?;
//! let mut received = sent(&mut near.output);
//! let mut plaintext = Vec::new();
//! far.records.open(&mut received, &mut plaintext)?;
//! assert_eq!(&received[plaintext[0].clone()], b"a header and payload");
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod alert;
mod authority;
mod credentials;
mod der;
pub mod directory;
mod handshake;
#[cfg(feature = "https")]
mod https;
mod inspect;
mod mutual;
mod provider;
mod record;
mod request;
#[cfg(feature = "https")]
mod service;
#[cfg(test)]
mod tests;
mod verify;

pub use alert::Alert;
pub use authority::{Authority, AuthorityError, IssueError};
pub use credentials::{Credentials, CredentialsError, Identity, Trust, UnfitError};
pub use handshake::{Established, Handshake, HandshakeError};
#[cfg(feature = "https")]
pub use https::{HttpsAcceptor, HttpsConnector, HttpsStream, TlsError};
pub use inspect::{Certificate, Fingerprint, InspectError, Validity};
pub use mutual::{ConnectError, HostCheck, LinkAcceptor, LinkConnector, SetupError};
pub use provider::{LegacySuite, Policy, SUITES, Suite, UnknownVersion};
pub use record::{
    MAX_RECORD_PAYLOAD, OpenError, Opened, OutBuf, Plain, RECORD_OVERHEAD, RecordLayer, SealError, Tls13Records,
};
pub use request::{AuthorityRequest, KeyKind, LeafRequest, SKUPPER_LIFE, Usage};
#[cfg(feature = "https")]
pub use service::{ServiceAcceptor, ServiceConnector, ServiceStream};
pub use verify::VerifiedPeer;
