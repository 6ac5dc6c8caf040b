//! The certificates of links and of HTTP, ready for handshakes.

use van_tls::{Credentials, HostCheck, HttpsAcceptor, LinkAcceptor, LinkConnector, Policy, SetupError};

/// One generation of a TLS profile.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) ordinal: u64,
    pub(crate) oldest_valid_ordinal: u64,
    pub(crate) acceptor: LinkAcceptor,
    /// For clients that need no certificate.
    pub(crate) open_acceptor: LinkAcceptor,
    pub(crate) https: HttpsAcceptor,
    verifying: LinkConnector,
    waiving: LinkConnector,
}

impl Profile {
    pub(crate) fn new(credentials: &Credentials, ordinal: u64, oldest_valid_ordinal: u64) -> Result<Self, SetupError> {
        let policy = Policy::default();
        Ok(Self {
            ordinal,
            oldest_valid_ordinal,
            acceptor: LinkAcceptor::new(credentials, &policy)?,
            open_acceptor: LinkAcceptor::for_clients(credentials, &policy)?,
            https: HttpsAcceptor::new(&credentials.identity, &["http/1.1"])?,
            verifying: LinkConnector::new(credentials, HostCheck::Verify, &policy)?,
            waiving: LinkConnector::new(credentials, HostCheck::Waive, &policy)?,
        })
    }

    /// For dialling; whether the peer's certificate must name the host.
    pub(crate) fn connector(&self, verifies_host: bool) -> &LinkConnector {
        if verifies_host { &self.verifying } else { &self.waiving }
    }
}
