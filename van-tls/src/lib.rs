//! x
#![forbid(unsafe_code)]
mod alert;
mod authority;
mod credentials;
mod der;
pub mod directory;
mod handshake;
mod inspect;
mod mutual;
mod provider;
mod record;
mod request;
#[cfg(test)]
mod tests;
mod verify;

pub use alert::Alert;
pub use authority::{Authority, AuthorityError, IssueError};
pub use credentials::{Credentials, CredentialsError, Identity, Trust, UnfitError};
pub use handshake::{Established, Handshake, HandshakeError};
pub use inspect::{Certificate, Fingerprint, InspectError, Validity};
pub use mutual::{ConnectError, HostCheck, LinkAcceptor, LinkConnector, SetupError};
pub use provider::{Policy, SUITES, Suite};
pub use record::{
    MAX_RECORD_PAYLOAD, OpenError, Opened, OutBuf, Plain, RECORD_OVERHEAD, RecordLayer, SealError, Tls13Records,
};
pub use request::{AuthorityRequest, KeyKind, LeafRequest, SKUPPER_LIFE, Usage};
pub use verify::VerifiedPeer;
