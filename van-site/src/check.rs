//! What a document must say to be carried out, looked at alone.

use std::collections::BTreeSet;

use crate::derive::{self, INGRESS_HOSTS, LINK_HOSTS};
use crate::document::Document;
use crate::duration::DurationError;
use crate::names::{self, InputError};
use crate::resource::access_grant::AccessGrantSpec;
use crate::resource::access_token::AccessTokenSpec;
use crate::resource::certificate::CertificateSpec;
use crate::resource::connector::ConnectorSpec;
use crate::resource::link::LinkSpec;
use crate::resource::listener::ListenerSpec;
use crate::resource::multi_key_listener::{MAX_KEYS, MultiKeyListenerSpec};
use crate::resource::router_access::RouterAccessSpec;
use crate::resource::site::SiteSpec;

/// Why a document that can be read is not carried out; its author is to act.
///
/// The texts appear in the document's status. Those with capitals are the original's, which people search for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A field without which there is nothing to do.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field that holds what it should not.
    #[error("{field}: {source}")]
    Input {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        source: InputError,
    },
    /// A namespace that is not that of the folder.
    #[error(
        "it belongs to namespace {found:?}, not to {expected:?}: move it to that namespace, or leave metadata.namespace out"
    )]
    OtherNamespace {
        /// What the document says.
        found: String,
        /// Whose folder it is in.
        expected: String,
    },
    /// A Site beside another one.
    #[error("An active site already exists in the namespace ({0})")]
    SecondSite(String),
    /// High availability at an edge site.
    #[error("Edge sites cannot have HA enabled")]
    EdgeWithHa,
    /// A listener where another one is.
    #[error("Listener {name} with host {host} and port {port} already exists in namespace")]
    ListenerTaken {
        /// The other one.
        name: String,
        /// Where it listens.
        host: String,
        /// Where it listens.
        port: u16,
    },
    /// A listener with several routing keys that has no strategy, or two.
    #[error("spec.strategy must be exactly one of priority and weighted")]
    Strategy,
    /// A listener with several routing keys that has none, too many, or one twice.
    #[error("routingKeys must be 1 to {MAX_KEYS}, each once")]
    RoutingKeys,
    /// Another protocol than TCP.
    #[error("spec.type {0:?} is not supported, only tcp")]
    Protocol(String),
    /// A connector that leads nowhere.
    #[error("Connector must define a non-empty spec.host or spec.selector")]
    NoTarget,
    /// A connector that leads to two places.
    #[error("spec.host and spec.selector exclude each other")]
    TwoTargets,
    /// A role that the router does not offer to other sites.
    #[error("role {0:?} is not supported, only inter-router and edge")]
    Role(String),
    /// Two accesses at one address and port.
    #[error("RouterAccess {name} has {host} and port {port} already")]
    AccessTaken {
        /// The one that has it, perhaps the same.
        name: String,
        /// The address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A link whose Secret is absent.
    #[error("TLS credentials secret {0:?} not found")]
    SecretNotFound(String),
    /// A link whose proxy's Secret is absent.
    #[error("Secret not found for proxy configuration")]
    ProxyNotFound,
    /// A token that would be redeemed in the clear.
    #[error("spec.url {0:?} does not start with https://")]
    NotHttps(String),
    /// A grant that lasts for nobody knows how long.
    #[error(transparent)]
    Window(#[from] DurationError),
}

impl Fault {
    /// Whether it lies in what the document says of itself, and not in what there is beside it: a slip of whoever changed it.
    pub(crate) fn is_slip(&self) -> bool {
        let is_beside = matches!(
            self,
            Self::OtherNamespace { .. } | Self::SecondSite(_) | Self::SecretNotFound(_) | Self::ProxyNotFound
        );
        !is_beside
    }
}

/// Looks at one document.
///
/// # Errors
/// The first [`Fault`].
pub fn check(document: &Document) -> Result<(), Fault> {
    input("metadata.name", names::resource_name(&document.metadata().name))?;
    match document {
        Document::Site(site) => check_site(&site.spec),
        Document::Link(link) => check_link(&link.spec),
        Document::Listener(listener) => check_listener(&listener.spec),
        Document::MultiKeyListener(listener) => check_multi_key_listener(&listener.spec),
        Document::Connector(connector) => check_connector(&connector.spec),
        Document::RouterAccess(access) => check_router_access(&access.spec),
        Document::AccessGrant(grant) => check_access_grant(&grant.spec),
        Document::AccessToken(token) => check_access_token(&token.spec),
        Document::Certificate(certificate) => check_certificate(&certificate.spec),
        Document::Secret(_) => Ok(()),
    }
}

fn check_site(spec: &SiteSpec) -> Result<(), Fault> {
    spec.default_issuer.as_deref().map_or(Ok(()), |name| input("spec.defaultIssuer", names::resource_name(name)))?;
    check_hosts("spec.settings.link-hosts", &derive::listed(spec.settings.get(LINK_HOSTS)))?;
    if spec.edge && spec.ha { Err(Fault::EdgeWithHa) } else { Ok(()) }
}

fn check_link(spec: &LinkSpec) -> Result<(), Fault> {
    if spec.endpoints.is_empty() {
        return Err(Fault::Missing("spec.endpoints"));
    }
    check_credentials(spec.tls_credentials.as_deref())?;
    for endpoint in &spec.endpoints {
        present("spec.endpoints.name", &endpoint.name)?;
        input("spec.endpoints.host", names::host(&endpoint.host))?;
        input("spec.endpoints.port", names::port(&endpoint.port))?;
    }
    Ok(())
}

fn check_listener(spec: &ListenerSpec) -> Result<(), Fault> {
    check_routing_key("spec.routingKey", &spec.routing_key)?;
    present("spec.host", &spec.host)?;
    input("spec.host", names::host(&spec.host))?;
    check_credentials(spec.tls_credentials.as_deref())?;
    check_port(spec.port)?;
    check_protocol(spec.protocol.as_deref())
}

fn check_multi_key_listener(spec: &MultiKeyListenerSpec) -> Result<(), Fault> {
    present("spec.host", &spec.host)?;
    input("spec.host", names::host(&spec.host))?;
    check_credentials(spec.tls_credentials.as_deref())?;
    check_port(spec.port)?;
    if spec.strategy.priority.is_some() == spec.strategy.weighted.is_some() {
        return Err(Fault::Strategy);
    }
    if spec.require_client_cert && spec.tls_credentials.is_none() {
        return Err(Fault::Missing("spec.tlsCredentials, which requireClientCert needs,"));
    }
    let keys: Vec<_> = spec.strategy.values().into_iter().map(|(key, _)| key).collect();
    let distinct: BTreeSet<_> = keys.iter().collect();
    if !(1..=MAX_KEYS).contains(&keys.len()) || distinct.len() < keys.len() {
        return Err(Fault::RoutingKeys);
    }
    keys.into_iter().try_for_each(|key| check_routing_key("a routing key", key))
}

fn check_connector(spec: &ConnectorSpec) -> Result<(), Fault> {
    check_routing_key("spec.routingKey", &spec.routing_key)?;
    match (&spec.host, &spec.selector) {
        (None, None) => return Err(Fault::NoTarget),
        (Some(_), Some(_)) => return Err(Fault::TwoTargets),
        (Some(host), None) => input("spec.host", names::host(host))?,
        (None, Some(selector)) => input("spec.selector", names::selector(selector))?,
    }
    check_credentials(spec.tls_credentials.as_deref())?;
    check_port(spec.port)?;
    check_protocol(spec.protocol.as_deref())
}

fn check_router_access(spec: &RouterAccessSpec) -> Result<(), Fault> {
    if spec.roles.is_empty() {
        return Err(Fault::Missing("spec.roles"));
    }
    if let Some(host) = &spec.bind_host {
        input("spec.bindHost", names::host(host))?;
    }
    check_hosts("spec.subjectAlternativeNames", &spec.subject_alternative_names)?;
    // They become folders.
    for (field, name) in [("spec.tlsCredentials", &spec.tls_credentials), ("spec.issuer", &spec.issuer)] {
        name.as_deref().map_or(Ok(()), |name| input(field, names::resource_name(name)))?;
    }
    let unknown = spec.roles.iter().find(|role| !matches!(role.name.as_str(), "inter-router" | "edge"));
    unknown.map_or(Ok(()), |role| Err(Fault::Role(role.name.clone())))
}

fn check_access_grant(spec: &AccessGrantSpec) -> Result<(), Fault> {
    spec.issuer.as_deref().map_or(Ok(()), |name| input("spec.issuer", names::resource_name(name)))?;
    check_hosts("spec.settings.ingress-hosts", &derive::listed(spec.settings.get(INGRESS_HOSTS)))?;
    spec.window()?;
    Ok(())
}

fn check_access_token(spec: &AccessTokenSpec) -> Result<(), Fault> {
    present("spec.url", &spec.url)?;
    present("spec.code", spec.code.reveal())?;
    present("spec.ca", &spec.ca)?;
    if !spec.url.starts_with("https://") {
        return Err(Fault::NotHttps(spec.url.clone()));
    }
    Ok(())
}

fn check_certificate(spec: &CertificateSpec) -> Result<(), Fault> {
    if !spec.ca.is_empty() {
        input("spec.ca", names::resource_name(&spec.ca))?;
    }
    check_hosts("spec.hosts", &spec.hosts)?;
    present("spec.subject", &spec.subject)
}

/// They are named in certificates.
fn check_hosts(field: &'static str, hosts: &[String]) -> Result<(), Fault> {
    hosts.iter().try_for_each(|host| input(field, names::host(host)))
}

/// They become folders.
fn check_credentials(name: Option<&str>) -> Result<(), Fault> {
    name.map_or(Ok(()), |name| input("spec.tlsCredentials", names::resource_name(name)))
}

fn check_routing_key(field: &'static str, key: &str) -> Result<(), Fault> {
    present(field, key)?;
    input(field, names::routing_key(key))
}

fn check_port(port: u16) -> Result<(), Fault> {
    if port == 0 { Err(Fault::Missing("spec.port")) } else { Ok(()) }
}

fn check_protocol(protocol: Option<&str>) -> Result<(), Fault> {
    match protocol {
        None | Some("tcp") => Ok(()),
        Some(other) => Err(Fault::Protocol(other.to_owned())),
    }
}

fn present(field: &'static str, text: &str) -> Result<(), Fault> {
    if text.is_empty() { Err(Fault::Missing(field)) } else { Ok(()) }
}

fn input<T>(field: &'static str, result: Result<T, InputError>) -> Result<(), Fault> {
    result.map(drop).map_err(|source| Fault::Input { field, source })
}
