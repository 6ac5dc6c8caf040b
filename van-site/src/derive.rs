//! From the documents that a user wrote to all that follow from them: accesses and certificates. Pure.
//!
//! What is derived is written to `runtime/resources` like everything else, so that nothing a site does is hidden.

use std::collections::{BTreeMap, BTreeSet};

use crate::document::{Document, DocumentMap, Key};
use crate::resource::certificate::{CertificateSpec, GRANT_CA, GRANT_SERVER, LOCAL_CA, SERVICE_CA, SITE_CA};
use crate::resource::router_access::{AccessRole, RouterAccessSpec};
use crate::resource::{AccessGrant, Kind, Resource, RouterAccess, Site};

/// The setting of an AccessGrant that names the only hosts by which it may be redeemed, separated by commas.
pub const INGRESS_HOSTS: &str = "ingress-hosts";

/// The setting of a Site that names the only hosts by which it may be linked to, separated by commas.
pub const LINK_HOSTS: &str = "link-hosts";

/// The setting of a Site that names the only address on which it accepts links.
pub const LINK_BIND_HOST: &str = "link-bind-host";

/// The annotation of a grant that lists all hosts by which it may be redeemed, separated by commas.
pub const HOSTS: &str = "skupper.io/hosts";

/// The group of routers that endpoints name; there is one per site.
pub(crate) const GROUP: &str = "skupper-router";

/// The role of accesses, and the name of endpoints, for interior routers.
pub const INTER_ROUTER: &str = "inter-router";

/// The role of accesses, and the name of endpoints, for edge routers.
pub const EDGE: &str = "edge";

/// The roles in which other sites come in.
pub const LINK_ROLES: [&str; 2] = [INTER_ROUTER, EDGE];

/// The role in which clients come in.
pub(crate) const NORMAL: &str = "normal";

/// The access for clients of this machine.
pub const LOCAL_ACCESS: &str = "skupper-local";

const LOCAL_SERVER: &str = "skupper-local-server";
const LOCAL_CLIENT: &str = "skupper-local-client";

/// A port that the site chooses once and keeps, because tokens and links elsewhere name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Port {
    /// Where links of interior sites are accepted.
    InterRouter,
    /// Where links of edge sites are accepted.
    Edge,
    /// Where tokens are redeemed.
    Grants,
    /// Where clients of this machine come in. Nobody elsewhere knows it.
    Local,
}

impl Port {
    /// What it is called where it is kept.
    pub fn name(self) -> &'static str {
        match self {
            Self::InterRouter => INTER_ROUTER,
            Self::Edge => EDGE,
            Self::Grants => "grants",
            Self::Local => "local",
        }
    }

    /// The first of the ports to try.
    pub fn first(self) -> u16 {
        match self {
            Self::InterRouter => 55671,
            Self::Edge => 45671,
            Self::Grants => 9090,
            Self::Local => 5671,
        }
    }
}

/// What a machine adds to its documents.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The ports chosen, by name.
    pub ports: &'a BTreeMap<String, u16>,
    /// The names and addresses by which others may reach the machine, the likeliest first.
    pub hosts: &'a [String],
    /// Those by which it reaches itself.
    pub loopback: &'a [String],
}

/// The ports that a site with these documents has to choose.
pub fn ports(documents: &DocumentMap) -> Vec<Port> {
    let Some(site) = site(documents) else { return Vec::new() };
    let mut ports = vec![Port::Local];
    if opens_access(site, documents) {
        ports.extend([Port::InterRouter, Port::Edge]);
    }
    if grants(documents).next().is_some() && !site.spec.edge {
        ports.push(Port::Grants);
    }
    ports
}

/// The one site of the documents.
pub fn site(documents: &DocumentMap) -> Option<&Site> {
    documents.values().find_map(|document| match document {
        Document::Site(site) => Some(site),
        _ => None,
    })
}

/// The grants of the documents.
pub fn grants(documents: &DocumentMap) -> impl Iterator<Item = &AccessGrant> {
    documents.values().filter_map(|document| match document {
        Document::AccessGrant(grant) => Some(grant),
        _ => None,
    })
}

/// The accesses that routers of other sites may use: none at an edge site.
pub fn accesses(documents: &DocumentMap) -> impl Iterator<Item = &RouterAccess> {
    let is_edge = site(documents).is_some_and(|site| site.spec.edge);
    documents.values().filter_map(move |document| match document {
        Document::RouterAccess(access) if !is_edge && accepts_links(&access.spec) => Some(access),
        _ => None,
    })
}

/// Whether an access is for other sites.
pub fn accepts_links(access: &RouterAccessSpec) -> bool {
    LINK_ROLES.iter().any(|name| role(access, name).is_some())
}

/// The name of the router's listener for an access in a role.
pub fn listener_name(access: &str, role: &str) -> String {
    format!("{access}-{role}")
}

/// The port of an access in a role, if it has that role.
pub fn role(access: &RouterAccessSpec, name: &str) -> Option<u16> {
    access.roles.iter().find(|role| role.name == name)?.listening_port()
}

/// The hosts that a grant is restricted to.
pub fn ingress_hosts(grant: &AccessGrant) -> Vec<String> {
    listed(grant.spec.settings.get(INGRESS_HOSTS))
}

/// The items of a setting that lists them, separated by commas.
pub(crate) fn listed(setting: Option<&String>) -> Vec<String> {
    let items = setting.map_or("", String::as_str).split(',').map(str::trim);
    items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// The hosts by which others reach an access, the likeliest first: those its author named, else those of the machine.
pub fn reachable_hosts(access: &RouterAccessSpec, around: &Surroundings<'_>) -> Vec<String> {
    match (&access.subject_alternative_names[..], &access.bind_host) {
        ([], Some(bound)) if !is_unspecified(bound) => vec![bound.clone()],
        ([], _) => around.hosts.to_vec(),
        (chosen, _) => chosen.to_vec(),
    }
}

/// The documents, and those that follow from them.
pub fn derive(documents: &DocumentMap, around: &Surroundings<'_>) -> DocumentMap {
    let mut all = documents.clone();
    let Some(site) = site(documents) else { return all };
    let port = |port: Port| around.ports.get(port.name()).copied();
    let access_ports = [Port::InterRouter, Port::Edge].map(|role| Some((role, port(role)?)));
    let roles = access_ports.into_iter().flatten();
    let roles: Vec<_> = roles.map(|(role, port)| AccessRole { name: role.name().into(), port: Some(port) }).collect();
    if opens_access(site, documents) && !roles.is_empty() {
        let name = &site.metadata.name;
        let spec = RouterAccessSpec {
            roles,
            tls_credentials: Some(name.clone()),
            generate_tls_credentials: true,
            bind_host: site.spec.settings.get(LINK_BIND_HOST).cloned(),
            subject_alternative_names: listed(site.spec.settings.get(LINK_HOSTS)),
            ..RouterAccessSpec::default()
        };
        add(&mut all, RouterAccess::new(name, spec));
    }
    if let Some(port) = port(Port::Local) {
        let spec = RouterAccessSpec {
            roles: vec![AccessRole { name: NORMAL.into(), port: Some(port) }],
            tls_credentials: Some(LOCAL_SERVER.into()),
            issuer: Some(LOCAL_CA.into()),
            bind_host: around.loopback.first().cloned(),
            ..RouterAccessSpec::default()
        };
        add(&mut all, RouterAccess::new(LOCAL_ACCESS, spec));
    }
    let certificates = certificates(site, &all, around);
    for (name, spec) in certificates {
        add(&mut all, Resource::new(name, spec));
    }
    all
}

/// Whether the site is to be given an access that its author did not describe.
fn opens_access(site: &Site, documents: &DocumentMap) -> bool {
    let key = Key { kind: Kind::RouterAccess, name: site.metadata.name.clone() };
    site.spec.has_link_access() && !site.spec.edge && !documents.contains_key(&key)
}

fn certificates(site: &Site, documents: &DocumentMap, around: &Surroundings<'_>) -> Vec<(String, CertificateSpec)> {
    let authority = |name: &str| {
        let spec = CertificateSpec { subject: name.into(), signing: true, ..CertificateSpec::default() };
        (name.to_owned(), spec)
    };
    let local = |subject: &str| CertificateSpec {
        ca: LOCAL_CA.into(),
        subject: subject.into(),
        hosts: around.loopback.to_vec(),
        ..CertificateSpec::default()
    };
    let address = around.loopback.first().map_or("localhost", String::as_str);
    let mut wanted: Vec<_> = [SITE_CA, SERVICE_CA].map(authority).into();
    if documents.contains_key(&Key::new(Kind::RouterAccess, LOCAL_ACCESS)) {
        wanted.push(authority(LOCAL_CA));
        wanted.push((LOCAL_SERVER.into(), CertificateSpec { server: true, ..local(address) }));
        wanted.push((LOCAL_CLIENT.into(), CertificateSpec { client: true, ..local(address) }));
    }
    let asked: Vec<_> = grants(documents).flat_map(ingress_hosts).collect();
    for access in accesses(documents) {
        let name = access.spec.tls_credentials.as_deref().unwrap_or(&access.metadata.name);
        let ca = access.spec.issuer.as_deref().unwrap_or(site.spec.issuer());
        let own = access_hosts(&access.spec, around).into_iter().chain(asked.clone());
        let server = CertificateSpec {
            ca: ca.into(),
            subject: access.metadata.name.clone(),
            hosts: distinct(own),
            server: true,
            ..CertificateSpec::default()
        };
        let client = format!("client-{name}");
        let spec =
            CertificateSpec { ca: ca.into(), subject: client.clone(), client: true, ..CertificateSpec::default() };
        wanted.extend([(name.to_owned(), server), (client, spec)]);
    }
    wanted.extend(services(documents));
    if grants(documents).next().is_some() && !site.spec.edge {
        let hosts = accesses(documents).flat_map(|access| access_hosts(&access.spec, around)).chain(asked);
        let spec = CertificateSpec {
            ca: GRANT_CA.into(),
            subject: GRANT_SERVER.into(),
            hosts: distinct(hosts),
            server: true,
            ..CertificateSpec::default()
        };
        wanted.extend([authority(GRANT_CA), (GRANT_SERVER.into(), spec)]);
    }
    wanted
}

/// Certificates of listeners and connectors that ask for TLS, for who brings none in a Secret: they name the hosts of all
/// that use them.
fn services(documents: &DocumentMap) -> BTreeMap<String, CertificateSpec> {
    let users = documents.values().filter_map(|document| match document {
        Document::Listener(listener) => Some((listener.spec.tls_credentials.as_ref()?, &listener.spec.host)),
        Document::MultiKeyListener(listener) => Some((listener.spec.tls_credentials.as_ref()?, &listener.spec.host)),
        Document::Connector(connector) => {
            Some((connector.spec.tls_credentials.as_ref()?, connector.spec.host.as_ref()?))
        }
        _ => None,
    });
    let mut wanted = BTreeMap::new();
    for (name, host) in users.filter(|(name, _)| !documents.contains_key(&Key::new(Kind::Secret, name.as_str()))) {
        let spec: &mut CertificateSpec = wanted.entry(name.clone()).or_insert_with(|| CertificateSpec {
            ca: SERVICE_CA.into(),
            subject: host.clone(),
            server: true,
            client: true,
            ..CertificateSpec::default()
        });
        if !spec.hosts.contains(host) {
            spec.hosts.push(host.clone());
        }
    }
    wanted
}

/// The hosts that the certificate of an access names: all by which it may be reached, from this machine too, unless its
/// author chose.
fn access_hosts(access: &RouterAccessSpec, around: &Surroundings<'_>) -> Vec<String> {
    let mut hosts = reachable_hosts(access, around);
    if access.subject_alternative_names.is_empty() && access.bind_host.as_deref().is_none_or(is_unspecified) {
        hosts.extend_from_slice(around.loopback);
    }
    hosts.extend(access.bind_host.iter().filter(|host| !is_unspecified(host)).cloned());
    hosts
}

fn is_unspecified(host: &str) -> bool {
    host.is_empty() || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_unspecified())
}

/// The first of each, in order.
fn distinct(hosts: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    hosts.filter(|host| seen.insert(host.clone())).collect()
}

/// Adds a document, unless its author wrote one of this name.
fn add(documents: &mut DocumentMap, document: impl Into<Document>) {
    let document = document.into();
    documents.entry(document.key()).or_insert(document);
}
