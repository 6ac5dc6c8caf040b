//! What takes time before an entity can be made: files are read, names looked up.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::warn;
use van_core::amqp::Secret;
use van_core::management::config::{
    AutoLink, Connector, Family, Listener, ListenerAddress, PasswordSource, ProxyProfile, Service, TcpConnector,
    TcpListener,
};
use van_tls::{Policy, directory};

use super::{CredentialsSource, Entity, EntityError, EntityKind, TlsProfile, TlsTerms};
use crate::amqp::Profile;
use crate::amqp::Users;
use crate::amqp::proxy::Proxy;
use crate::tcp::listener;
use crate::with_causes;

/// An entity with all that the control plane need not wait for any more.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// A profile that cannot be used is an error only once something uses it, if it was there at the start.
    TlsProfile {
        name: String,
        profile: Result<Arc<Profile>, String>,
    },
    ProxyProfile(Arc<Proxy>),
    AutoLink(AutoLink),
    Connector(Connector),
    Listener(Listener, Vec<SocketAddr>),
    TcpListener(TcpListener, Vec<SocketAddr>),
    ListenerAddress(ListenerAddress),
    TcpConnector(TcpConnector),
}

impl Prepared {
    /// Reads and looks up what an entity needs. It may take seconds.
    pub(crate) fn new(entity: Entity) -> Result<Self, EntityError> {
        let kind = entity.kind();
        Ok(match entity {
            Entity::TlsProfile(profile) => {
                let name = profile.name.clone();
                Self::TlsProfile { name, profile: read(profile).map(Arc::new) }
            }
            Entity::ProxyProfile(profile) => Self::ProxyProfile(proxy(profile)?.into()),
            Entity::AutoLink(link) => Self::AutoLink(link),
            Entity::Connector(connector) => Self::Connector(connector),
            Entity::Listener(listener) => {
                let found = addresses(kind, &listener.name, &listener.host, listener.port, listener.family)?;
                let (Service::Amqp(access) | Service::Http { access, .. }) = &listener.service;
                if let Some(path) = &access.users_file {
                    let unfit =
                        |error| EntityError::Users { entity: kind.label(&listener.name), message: with_causes(&error) };
                    Users::new(path).check().map_err(unfit)?;
                }
                Self::Listener(listener, found)
            }
            Entity::TcpListener(listener) => {
                let found = addresses(kind, &listener.name, &listener.host, listener.port, None)?;
                Self::TcpListener(listener, found)
            }
            Entity::ListenerAddress(address) => Self::ListenerAddress(address),
            Entity::TcpConnector(connector) => Self::TcpConnector(connector),
        })
    }

    pub(crate) fn kind(&self) -> EntityKind {
        match self {
            Self::TlsProfile { .. } => EntityKind::TlsProfile,
            Self::ProxyProfile(_) => EntityKind::ProxyProfile,
            Self::AutoLink(_) => EntityKind::AutoLink,
            Self::Connector(_) => EntityKind::Connector,
            Self::Listener(..) => EntityKind::Listener,
            Self::TcpListener(..) => EntityKind::TcpListener,
            Self::ListenerAddress(_) => EntityKind::ListenerAddress,
            Self::TcpConnector(_) => EntityKind::TcpConnector,
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::TlsProfile { name, .. } => name,
            Self::ProxyProfile(proxy) => &proxy.name,
            Self::AutoLink(link) => &link.name,
            Self::Connector(connector) => &connector.name,
            Self::Listener(listener, _) => &listener.name,
            Self::TcpListener(listener, _) => &listener.name,
            Self::ListenerAddress(address) => &address.name,
            Self::TcpConnector(connector) => &connector.name,
        }
    }
}

fn proxy(profile: ProxyProfile) -> Result<Proxy, EntityError> {
    let ProxyProfile { name, scheme, host, port, username, password } = profile;
    let password = password.map(|source| read_password(&source)).transpose();
    let password = password.map_err(|message| EntityError::Password { profile: name.clone(), message })?;
    let login = username.map(|username| (username, password.unwrap_or_else(|| "".into())));
    Ok(Proxy { name, scheme, host, port, login })
}

pub(crate) fn read_password(source: &PasswordSource) -> Result<Secret, String> {
    match source {
        PasswordSource::Variable(name) => std::env::var(name)
            .map_err(|_| format!("the environment has no variable {name}, which is to be the password"))
            .map(|text| text.as_str().into()),
        PasswordSource::File(path) => {
            let text =
                directory::read_secret(Path::new(path)).map_err(|error| format!("cannot read {path}: {error}"))?;
            Ok(text.lines().next().unwrap_or_default().into())
        }
        PasswordSource::Text(text) => Ok(text.clone()),
    }
}

fn addresses(
    kind: EntityKind,
    name: &str,
    host: &str,
    port: u16,
    family: Option<Family>,
) -> Result<Vec<SocketAddr>, EntityError> {
    let failed = |source| cannot_listen(kind, name, host, port, source);
    listener::addresses(host, port, family).map_err(failed)
}

/// Says that a listener cannot be opened.
pub(crate) fn cannot_listen(kind: EntityKind, name: &str, host: &str, port: u16, source: io::Error) -> EntityError {
    EntityError::Listen { entity: kind.label(name), address: place(host, port), source }
}

/// An address as people write it.
pub(crate) fn place(host: &str, port: u16) -> String {
    if host.is_empty() { format!("port {port}") } else { format!("{host}:{port}") }
}

/// Reads a profile's certificates and checks that they can be used now.
fn read(profile: TlsProfile) -> Result<Profile, String> {
    let now = SystemTime::now();
    let TlsTerms { password, protocols, ciphers } = profile.terms;
    let password = password.as_ref().map(read_password).transpose()?;
    let mut policy = Policy::default();
    if let Some(ciphers) = &ciphers {
        for name in policy.restrict_suites(ciphers) {
            warn!(sslProfile = profile.name, name, "`ciphers` has what is no name of a suite that is served; left out");
        }
    }
    if let Some(protocols) = &protocols {
        policy.restrict_versions(protocols).map_err(|error| format!("protocols: {error}"))?;
    }
    let read = match profile.credentials {
        CredentialsSource::Files(files) => {
            files.read_encrypted(password.as_ref().map(Secret::reveal)).map_err(|error| with_causes(&error))?
        }
        CredentialsSource::Memory(both) => {
            directory::Profile { identity: Some(both.identity), trust: Some(both.trust) }
        }
        CredentialsSource::Trust(trust) => directory::Profile { identity: None, trust: Some(trust) },
    };
    let identity = read.identity.as_ref().map_or(Ok(()), |identity| identity.check(now));
    let fit = identity.and_then(|()| read.trust.as_ref().map_or(Ok(()), |trust| trust.check(now)));
    fit.map_err(|error| with_causes(&error))?;
    Profile::new(read, policy, (profile.ordinal, profile.oldest_valid_ordinal)).map_err(|error| with_causes(&error))
}
