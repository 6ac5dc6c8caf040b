//! The certificates of a TLS profile, ready for handshakes of links, HTTP, clients and workloads.

use std::sync::OnceLock;

use van_tls::{
    Credentials, HostCheck, HttpsAcceptor, Identity, LinkAcceptor, LinkConnector, Policy, ServiceAcceptor,
    ServiceConnector, SetupError, Trust, directory,
};

/// What clients may agree on by ALPN, first choice first. Source: skupper-router `tcp_adaptor.c`.
const PROTOCOLS: [&str; 2] = ["http/1.1", "h2"];

/// What a profile is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usage {
    Links,
    Https,
    /// Those of a tcpListener; whether they must show a certificate.
    Clients {
        authenticated: bool,
    },
    /// Those of a tcpConnector.
    Workloads,
}

/// What a profile lacks for a use, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Lack(&'static str);

/// One generation of a TLS profile.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) ordinal: u64,
    pub(crate) oldest_valid_ordinal: u64,
    identity: Option<Identity>,
    trust: Option<Trust>,
    policy: Policy,
    links: Option<Links>,
    https: Option<HttpsAcceptor>,
    /// For clients without and with a certificate; for workloads by any name and by theirs. Made when needed: each remembers
    /// sessions.
    acceptors: [OnceLock<Result<ServiceAcceptor, String>>; 2],
    connectors: [OnceLock<Result<ServiceConnector, String>>; 2],
}

#[derive(Debug)]
struct Links {
    acceptor: LinkAcceptor,
    /// For clients that need no certificate.
    open_acceptor: LinkAcceptor,
    verifying: LinkConnector,
    waiving: LinkConnector,
}

impl Profile {
    pub(crate) fn new(
        read: directory::Profile,
        policy: Policy,
        (ordinal, oldest_valid_ordinal): (u64, u64),
    ) -> Result<Self, SetupError> {
        let directory::Profile { identity, trust } = read;
        // Those speak TLS 1.3 only.
        let is_modern = !policy.suites.is_empty();
        let both = identity.clone().zip(trust.clone()).filter(|_| is_modern);
        let links = both.map(|(identity, trust)| Links::new(&Credentials { identity, trust }, &policy)).transpose()?;
        let https = identity.as_ref().filter(|_| is_modern);
        let https = https.map(|identity| HttpsAcceptor::new(identity, &["http/1.1"])).transpose()?;
        let (acceptors, connectors) = Default::default();
        Ok(Self { ordinal, oldest_valid_ordinal, identity, trust, policy, links, https, acceptors, connectors })
    }

    /// Whether it can be used so.
    pub(crate) fn check(&self, usage: Usage) -> Result<(), Lack> {
        match usage {
            Usage::Links | Usage::Https if self.policy.suites.is_empty() => {
                Err(Lack("AMQP and HTTP are spoken by TLSv1.3 only; add it to protocols"))
            }
            Usage::Links => self.links().map(drop),
            Usage::Https => self.https().map(drop),
            Usage::Clients { .. } if self.identity.is_none() => {
                Err(Lack("a tcpListener shows a certificate; name certFile and privateKeyFile"))
            }
            Usage::Clients { authenticated: true } | Usage::Workloads if self.trust.is_none() => {
                Err(Lack("certificates of clients and workloads are judged by a CA; name caCertFile"))
            }
            _ => Ok(()),
        }
    }

    fn links(&self) -> Result<&Links, Lack> {
        self.links.as_ref().ok_or(Lack("links need all of caCertFile, certFile and privateKeyFile"))
    }

    /// For links that come in.
    pub(crate) fn acceptor(&self) -> Result<&LinkAcceptor, Lack> {
        self.links().map(|links| &links.acceptor)
    }

    /// For AMQP clients that need no certificate.
    pub(crate) fn open_acceptor(&self) -> Result<&LinkAcceptor, Lack> {
        self.links().map(|links| &links.open_acceptor)
    }

    /// For links to dial; whether the peer's certificate must name the host.
    pub(crate) fn connector(&self, verifies_host: bool) -> Result<&LinkConnector, Lack> {
        self.links().map(|links| if verifies_host { &links.verifying } else { &links.waiving })
    }

    /// For HTTP.
    pub(crate) fn https(&self) -> Result<&HttpsAcceptor, Lack> {
        self.https.as_ref().ok_or(Lack("HTTP by TLS shows a certificate; name certFile and privateKeyFile"))
    }

    /// For clients; whether they must show a certificate.
    pub(crate) fn service_acceptor(&self, authenticated: bool) -> Result<&ServiceAcceptor, String> {
        let make = || {
            let identity = self.identity.as_ref().ok_or("the sslProfile has no certificate")?;
            let clients = self.trust.as_ref().filter(|_| authenticated);
            ServiceAcceptor::with_policy(identity, clients, &PROTOCOLS, &self.policy).map_err(|error| error.to_string())
        };
        self.acceptors[usize::from(authenticated)].get_or_init(make).as_ref().map_err(Clone::clone)
    }

    /// For workloads; whether their certificate must name the host.
    pub(crate) fn service_connector(&self, verifies_host: bool) -> Result<&ServiceConnector, String> {
        let make = || {
            let trust = self.trust.as_ref().ok_or("the sslProfile has no CA")?;
            let host_check = if verifies_host { HostCheck::Verify } else { HostCheck::Waive };
            ServiceConnector::with_policy(trust, self.identity.as_ref(), host_check, &self.policy)
                .map_err(|error| error.to_string())
        };
        self.connectors[usize::from(verifies_host)].get_or_init(make).as_ref().map_err(Clone::clone)
    }
}

impl Links {
    fn new(credentials: &Credentials, policy: &Policy) -> Result<Self, SetupError> {
        Ok(Self {
            acceptor: LinkAcceptor::new(credentials, policy)?,
            open_acceptor: LinkAcceptor::for_clients(credentials, policy)?,
            verifying: LinkConnector::new(credentials, HostCheck::Verify, policy)?,
            waiving: LinkConnector::new(credentials, HostCheck::Waive, policy)?,
        })
    }
}
