//! From documents and certificates to the entities of the router. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use van_adaptors::{CredentialsSource, Entity, EntityKind, TlsProfile, TlsTerms};
use van_core::management::config::{self, Amqp, PasswordSource, ProxyProfile, ProxyScheme, Role, Strategy};
use van_routing::Cost;
use van_tls::{Credentials, Trust, UnfitError};

use crate::certificates::Certificates;
use crate::check::Fault;
use crate::derive::{self, EDGE, INTER_ROUTER, LINK_ROLES, NORMAL};
use crate::document::{Document, DocumentMap, Key};
use crate::reconcile::is_same_credentials;
use crate::resource::listener::Observer;
use crate::resource::{Connector, Kind, Link, Listener, MultiKeyListener, RouterAccess, Secret, Site};
use crate::status::EDGE_CANNOT_ACCEPT;
use crate::store::PROFILE_SUFFIX;

/// Silence after which a peer is lost (skupper-router, `idleTimeoutSeconds`).
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// What the name of a router's listener begins with that has several routing keys.
pub(crate) const MULTI_ADDRESS: &str = "multiAddress/";

/// What tells entities apart.
pub type EntityId = (EntityKind, String);

/// What a router is to be made of, and which documents cannot be carried out.
#[derive(Debug, Default)]
pub struct Rendered {
    /// The entities, and the documents they come from.
    pub entities: BTreeMap<EntityId, (Entity, Key)>,
    /// What is wrong with a document, and what to do.
    pub faults: BTreeMap<Key, String>,
}

/// The entities of a router.
pub fn render(documents: &DocumentMap, certificates: &Certificates, now: SystemTime) -> Rendered {
    let mut rendered = Rendered::default();
    let Some(site) = derive::site(documents) else { return rendered };
    if let Err(fault) = check_site(site) {
        rendered.faults.insert(Key::new(Kind::Site, &*site.metadata.name), fault);
        return rendered;
    }
    // Of two that want a profile of one name, an access comes first: links live by it.
    let (accesses, others): (Vec<_>, Vec<_>) = documents.iter().partition(|(key, _)| key.kind == Kind::RouterAccess);
    for (key, document) in accesses.into_iter().chain(others) {
        let entities = match document {
            Document::RouterAccess(access) => render_access(access, site, certificates),
            Document::Link(link) => render_link(link, site, documents, certificates, now),
            Document::Listener(listener) => render_listener(listener, documents, certificates),
            Document::MultiKeyListener(listener) => render_multi_key_listener(listener, documents, certificates),
            Document::Connector(connector) => render_connector(connector, documents, certificates),
            Document::Certificate(_) => {
                let fault = certificates.get(&key.name).and_then(|made| made.as_ref().err());
                fault.map_or_else(|| Ok(Vec::new()), |fault| Err(van_adaptors::with_causes(fault)))
            }
            _ => Ok(Vec::new()),
        };
        match entities {
            Ok(entities) => match entities.iter().find_map(|entity| rendered.in_conflict(entity)) {
                Some(fault) => drop(rendered.faults.insert(key.clone(), fault)),
                None => {
                    rendered
                        .faults
                        .extend(entities.iter().find_map(|it| unfit(it, now)).map(|fault| (key.clone(), fault)));
                    entities.into_iter().for_each(|entity| rendered.insert(entity, key));
                }
            },
            Err(fault) => drop(rendered.faults.insert(key.clone(), fault)),
        }
    }
    rendered
}

impl Rendered {
    /// Why an entity cannot be beside those that are there: two TLS profiles of one name are to be the same.
    fn in_conflict(&self, entity: &Entity) -> Option<String> {
        let (known, of) = self.entities.get(&(entity.kind(), entity.name().to_owned()))?;
        let (Entity::TlsProfile(known), Entity::TlsProfile(profile)) = (known, entity) else { return None };
        let are_both_whole = [known, profile].iter().all(|it| matches!(it.credentials, CredentialsSource::Memory(_)));
        let name = &profile.name;
        (are_both_whole && !is_same_credentials(known, profile)).then(|| {
            format!("`tlsCredentials` \"{name}\" is also what {of} calls its certificate; give the Secret another name")
        })
    }

    /// Of two profiles of one name, a link's has more than a connector's.
    fn insert(&mut self, entity: Entity, of: &Key) {
        let id = (entity.kind(), entity.name().to_owned());
        let is_trust = |entity: &Entity| {
            matches!(entity, Entity::TlsProfile(TlsProfile { credentials: CredentialsSource::Trust(_), .. }))
        };
        if !is_trust(&entity) || !self.entities.contains_key(&id) {
            self.entities.insert(id, (entity, of.clone()));
        }
    }
}

/// Why a TLS profile of good use is of none now: it is kept, for clients that do not mind.
fn unfit(entity: &Entity, now: SystemTime) -> Option<String> {
    let Entity::TlsProfile(TlsProfile { name, credentials: CredentialsSource::Memory(credentials), .. }) = entity
    else {
        return None;
    };
    let error = credentials.check(now).err()?;
    Some(format!("certificate \"{name}\": {}", van_adaptors::with_causes(&error)))
}

/// The TLS profile that an entity uses.
pub(crate) fn tls_profile_of(entity: &Entity) -> Option<&str> {
    match entity {
        Entity::Connector(connector) => connector.amqp.tls_profile.as_deref(),
        Entity::Listener(listener) => match &listener.service {
            config::Service::Amqp(access) | config::Service::Http { access, .. } => access.amqp.tls_profile.as_deref(),
        },
        Entity::TcpListener(listener) => listener.tls_profile.as_deref(),
        Entity::TcpConnector(connector) => connector.tls_profile.as_deref(),
        _ => None,
    }
}

fn check_site(site: &Site) -> Result<(), String> {
    if site.spec.edge && site.spec.ha {
        return Err(Fault::EdgeWithHa.to_string());
    }
    Ok(())
}

fn render_access(access: &RouterAccess, site: &Site, certificates: &Certificates) -> Result<Vec<Entity>, String> {
    let name = &access.metadata.name;
    if site.spec.edge && derive::accepts_links(&access.spec) {
        return Err(format!("{EDGE_CANNOT_ACCEPT}; remove it, or `edge: true` of the Site"));
    }
    let profile = access.spec.tls_credentials.as_ref().unwrap_or(name);
    let credentials = match certificates.get(profile) {
        Some(Ok(credentials)) => credentials.clone(),
        Some(Err(error)) => return Err(format!("certificate \"{profile}\": {}", van_adaptors::with_causes(error))),
        None => return Err(format!("certificate \"{profile}\" not found")),
    };
    let open = |role: &&str| {
        Some(Entity::Listener(config::Listener {
            name: derive::listener_name(name, role),
            host: access.spec.bind_host.clone().unwrap_or_default(),
            port: derive::role(&access.spec, role)?,
            family: None,
            service: config::Service::Amqp(config::Access {
                amqp: amqp(role, Cost::ONE, profile),
                requires_authentication: true,
                ..config::Access::default()
            }),
        }))
    };
    // Clients come in where the site says so, and nowhere else.
    let roles = if name == derive::LOCAL_ACCESS { &[NORMAL][..] } else { &LINK_ROLES };
    Ok([tls_profile(profile, credentials)].into_iter().chain(roles.iter().filter_map(open)).collect())
}

fn render_link(
    link: &Link,
    site: &Site,
    documents: &DocumentMap,
    certificates: &Certificates,
    now: SystemTime,
) -> Result<Vec<Entity>, String> {
    let (role, own) = if site.spec.edge { (EDGE, "an edge") } else { (INTER_ROUTER, "an interior") };
    let Some(endpoint) = link.spec.endpoint(role) else {
        return Err(format!(
            "there is no endpoint `{role}`, and this is {own} site; let the other one accept the role `{role}`, and take a \
             new token of it"
        ));
    };
    let port = endpoint.port.parse().ok().filter(|port| *port != 0);
    let port = port.ok_or_else(|| format!("\"{}\" is not a port; correct the endpoint", endpoint.port))?;
    let Some(secret) = &link.spec.tls_credentials else {
        return Err("`tlsCredentials` is missing; links need a certificate".into());
    };
    let credentials = credentials(secret, documents, certificates)?;
    if let Err(error) = credentials.check(now) {
        // A token cannot mend a clock.
        let advice = if matches!(error, UnfitError::NotYetValid { .. }) { "" } else { ", from a new token" };
        return Err(format!("secret \"{secret}\": {}{advice}", van_adaptors::with_causes(&error)));
    }
    let profile = format!("{secret}{PROFILE_SUFFIX}");
    let cost = Cost::new(link.spec.routing_cost()).map_err(|error| error.to_string())?;
    let proxy = link.spec.proxy().map(|name| proxy_profile(name, documents)).transpose()?;
    let connector = config::Connector {
        amqp: amqp(role, cost, &profile),
        proxy_profile: proxy.as_ref().map(|proxy| proxy.name.clone()),
        ..config::Connector::new(&*link.metadata.name, &*endpoint.host, port, Role::Normal)
    };
    let proxy = proxy.map(Entity::ProxyProfile);
    Ok(proxy.into_iter().chain([tls_profile(&profile, credentials), Entity::Connector(connector)]).collect())
}

/// The HTTP proxy that a Secret tells of.
fn proxy_profile(name: &str, documents: &DocumentMap) -> Result<ProxyProfile, String> {
    let Some(Document::Secret(secret)) = documents.get(&Key::new(Kind::Secret, name)) else {
        return Err(Fault::ProxyNotFound.to_string());
    };
    let text = |entry: &str| secret.text(entry).filter(|text| !text.is_empty());
    let wants = |entry: &str| {
        format!("secret \"{name}\" has no usable `{entry}`; it is to have `host` and `port` of the proxy")
    };
    let port = text("port").and_then(|port| port.parse().ok()).filter(|port| *port != 0);
    Ok(ProxyProfile {
        name: name.to_owned(),
        scheme: ProxyScheme::Http,
        host: text("host").ok_or_else(|| wants("host"))?.to_owned(),
        port: port.ok_or_else(|| wants("port"))?,
        username: text("username").map(str::to_owned),
        password: text("password").map(|password| PasswordSource::Text(password.into())),
    })
}

fn amqp(role: &str, cost: Cost, profile: &str) -> Amqp {
    let amqp = match role {
        EDGE => Amqp { idle_timeout: IDLE_TIMEOUT, ..Amqp::new(Role::Edge) },
        INTER_ROUTER => Amqp { idle_timeout: IDLE_TIMEOUT, ..Amqp::new(Role::InterRouter) },
        _ => Amqp::new(Role::Normal),
    };
    Amqp { cost, tls_profile: Some(profile.to_owned()), ..amqp }
}

/// Those of a Secret, or of a folder that the user put there.
fn credentials(name: &str, documents: &DocumentMap, certificates: &Certificates) -> Result<Credentials, String> {
    let Some(secret) = secret(name, documents) else {
        return match certificates.get(name) {
            Some(Ok(credentials)) => Ok(credentials.clone()),
            Some(Err(error)) => Err(format!("certificate \"{name}\": {}", van_adaptors::with_causes(error))),
            None => Err(format!("secret \"{name}\" not found; add it, or redeem a token, which makes one")),
        };
    };
    let text = |entry| text(name, secret, entry);
    Credentials::from_pem(text("tls.crt")?, text("tls.key")?, text("ca.crt")?)
        .map_err(|error| format!("secret \"{name}\": {}", van_adaptors::with_causes(&error)))
}

/// As [`credentials`], of which only the CA is wanted.
fn trust(name: &str, documents: &DocumentMap, certificates: &Certificates) -> Result<Trust, String> {
    match secret(name, documents) {
        Some(secret) => Trust::from_pem(text(name, secret, "ca.crt")?)
            .map_err(|error| format!("secret \"{name}\": {}", van_adaptors::with_causes(&error))),
        None => Ok(credentials(name, documents, certificates)?.trust),
    }
}

fn secret<'a>(name: &str, documents: &'a DocumentMap) -> Option<&'a Secret> {
    match documents.get(&Key::new(Kind::Secret, name))? {
        Document::Secret(secret) => Some(secret),
        _ => None,
    }
}

fn text<'a>(name: &str, secret: &'a Secret, entry: &str) -> Result<&'a str, String> {
    let missing = || format!("secret \"{name}\" has no text `{entry}`; take it anew from where it came");
    secret.text(entry).ok_or_else(missing)
}

fn render_listener(
    listener: &Listener,
    documents: &DocumentMap,
    certificates: &Certificates,
) -> Result<Vec<Entity>, String> {
    let spec = &listener.spec;
    check_protocol(spec.protocol.as_deref())?;
    let profile = match &spec.tls_credentials {
        Some(name) => Some(tls_profile(name, credentials(name, documents, certificates)?)),
        None => None,
    };
    let listener = Entity::TcpListener(config::TcpListener {
        name: format!("listener/{}", listener.metadata.name),
        host: spec.host.clone(),
        port: spec.port,
        address: spec.routing_key.clone(),
        tls_profile: spec.tls_credentials.clone(),
        observer: observer(spec.observer),
        ..config::TcpListener::default()
    });
    Ok(profile.into_iter().chain([listener]).collect())
}

fn render_multi_key_listener(
    listener: &MultiKeyListener,
    documents: &DocumentMap,
    certificates: &Certificates,
) -> Result<Vec<Entity>, String> {
    let (own, spec) = (&listener.metadata.name, &listener.spec);
    let name = format!("{MULTI_ADDRESS}{own}");
    let mut entities = Vec::new();
    if let Some(name) = &spec.tls_credentials {
        entities.push(tls_profile(name, credentials(name, documents, certificates)?));
    }
    let strategy = if spec.strategy.weighted.is_some() { Strategy::Weighted } else { Strategy::Priority };
    entities.push(Entity::TcpListener(config::TcpListener {
        name: name.clone(),
        host: spec.host.clone(),
        port: spec.port,
        strategy: Some(strategy),
        tls_profile: spec.tls_credentials.clone(),
        requires_authentication: spec.require_client_cert,
        observer: observer(spec.observer),
        ..config::TcpListener::default()
    }));
    entities.extend(spec.strategy.values().into_iter().map(|(key, value)| {
        let (name, address, listener) = (format!("{own}/{key}"), key.to_owned(), name.clone());
        Entity::ListenerAddress(config::ListenerAddress { name, address, value, listener })
    }));
    Ok(entities)
}

fn render_connector(
    connector: &Connector,
    documents: &DocumentMap,
    certificates: &Certificates,
) -> Result<Vec<Entity>, String> {
    let spec = &connector.spec;
    check_protocol(spec.protocol.as_deref())?;
    let Some(host) = &spec.host else {
        return Err("workloads are not found by `selector` on linux; set `host`".into());
    };
    let profile = match &spec.tls_credentials {
        Some(name) if spec.use_client_cert => Some(tls_profile(name, credentials(name, documents, certificates)?)),
        Some(name) => {
            let credentials = CredentialsSource::Trust(trust(name, documents, certificates)?);
            Some(profile_of(&format!("{name}{PROFILE_SUFFIX}"), credentials))
        }
        None => None,
    };
    let name = format!("connector/{}@{host}", connector.metadata.name);
    let connector = Entity::TcpConnector(config::TcpConnector {
        tls_profile: profile.as_ref().map(|profile| profile.name().to_owned()),
        verifies_host: spec.verify_hostname,
        ..config::TcpConnector::new(name, host, spec.port, &spec.routing_key)
    });
    Ok(profile.into_iter().chain([connector]).collect())
}

fn observer(wanted: Option<Observer>) -> config::Observer {
    match wanted.unwrap_or_default() {
        Observer::Auto => config::Observer::Auto,
        Observer::None => config::Observer::None,
        Observer::Http1 => config::Observer::Http1,
        Observer::Http2 => config::Observer::Http2,
    }
}

fn check_protocol(protocol: Option<&str>) -> Result<(), String> {
    match protocol {
        None | Some("tcp") => Ok(()),
        Some(other) => Err(format!("type \"{other}\" is not in this version; `tcp` is")),
    }
}

fn tls_profile(name: &str, credentials: Credentials) -> Entity {
    profile_of(name, CredentialsSource::Memory(credentials.into()))
}

fn profile_of(name: &str, credentials: CredentialsSource) -> Entity {
    Entity::TlsProfile(TlsProfile {
        name: name.to_owned(),
        credentials,
        ordinal: 0,
        oldest_valid_ordinal: 0,
        terms: TlsTerms::default(),
    })
}
