//! What became of each document: its status, from the state of the router, the network and the grants. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use van_adaptors::{AccessState, EntityKind, States};
use van_core::flow::NetworkView;
use van_core::plane::Routes;
use van_grant::Grant;

use crate::certificates::Certificates;
use crate::derive::{self, GROUP, HOSTS, LINK_ROLES, NORMAL, Surroundings};
use crate::document::{Document, DocumentMap, Key};
use crate::network;
use crate::render::{EntityId, MULTI_ADDRESS};
use crate::resource::multi_key_listener::StrategyStatus;
use crate::resource::site::ControllerRecord;
use crate::resource::{
    AccessGrant, AccessToken, Certificate, Connector, Endpoint, Kind, Link, Listener, MultiKeyListener, RouterAccess,
    Site,
};
use crate::status::{self, LinkReport, NO_ACTIVE_SITE, Obstacle};

/// All that statuses follow from.
pub(crate) struct Facts<'a> {
    /// The documents, derived ones included, with the statuses they had.
    pub(crate) documents: &'a DocumentMap,
    /// Those of them that can be carried out: of two Sites, the one that runs.
    pub(crate) sound: &'a DocumentMap,
    /// Why documents cannot be carried out.
    pub(crate) faults: &'a BTreeMap<Key, String>,
    /// Of these, what came of the rendering: the others may be as they were before.
    pub(crate) rendering: &'a BTreeMap<Key, String>,
    /// Why entities are not as they are wanted, for people.
    pub(crate) failures: &'a BTreeMap<EntityId, String>,
    pub(crate) certificates: &'a Certificates,
    /// Whether the router runs, or why not.
    pub(crate) running: Result<(), String>,
    /// The router's id.
    pub(crate) router: &'a str,
    pub(crate) site_id: &'a str,
    pub(crate) states: &'a States,
    pub(crate) routes: Option<&'a Routes>,
    pub(crate) network: &'a NetworkView,
    pub(crate) around: Surroundings<'a>,
    pub(crate) namespace: &'a str,
    /// Grants by the name of their documents.
    pub(crate) grants: &'a BTreeMap<String, Grant>,
    /// The port on which they are redeemed, if there is one.
    pub(crate) grant_port: Option<u16>,
    /// How redeeming tokens goes, by their names.
    pub(crate) redemptions: &'a BTreeMap<String, Result<(), Obstacle>>,
    pub(crate) now: Timestamp,
}

impl Facts<'_> {
    /// Every document with its status. Secrets have none, and are left out.
    pub(crate) fn report(&self) -> DocumentMap {
        let statuses = self.documents.iter().filter_map(|(key, document)| {
            let document = match document {
                Document::Site(site) => self.site(key, site).into(),
                Document::Link(link) => self.link(key, link).into(),
                Document::Listener(listener) => self.listener(key, listener).into(),
                Document::MultiKeyListener(listener) => self.multi_key_listener(key, listener).into(),
                Document::Connector(connector) => self.connector(key, connector).into(),
                Document::RouterAccess(access) => self.access(key, access).into(),
                Document::AccessGrant(grant) => self.grant(key, grant).into(),
                Document::AccessToken(token) => self.token(key, token).into(),
                Document::Certificate(certificate) => self.certificate(key, certificate).into(),
                Document::Secret(_) => return None,
            };
            Some((key.clone(), document))
        });
        statuses.collect()
    }

    /// Whether a document can be carried out, as far as it and its entities tell.
    fn configured(&self, key: &Key, entities: impl IntoIterator<Item = EntityId>) -> Result<(), String> {
        if let Some(fault) = self.faults.get(key) {
            return Err(fault.clone());
        }
        match entities.into_iter().find_map(|id| self.failures.get(&id)) {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    /// As [`Facts::configured`], for what needs a site.
    fn configured_at_site(&self, key: &Key, entities: impl IntoIterator<Item = EntityId>) -> Result<(), String> {
        match derive::site(self.sound) {
            Some(site) if !self.rendering.contains_key(&Key::new(Kind::Site, &*site.metadata.name)) => {
                self.configured(key, entities)
            }
            _ => Err(NO_ACTIVE_SITE.into()),
        }
    }

    fn site(&self, key: &Key, site: &Site) -> Site {
        let mut site = site.clone();
        let endpoints = derive::accesses(self.sound).flat_map(|access| self.endpoints(access)).collect();
        // An access that follows from the Site is part of it.
        let configured = self.configured(key, listeners(&site.metadata.name));
        let mut status =
            status::site_status(&site.status, &site.spec, configured, self.running.clone(), endpoints, self.now);
        status.network = network::records(self.network);
        // Oneself is there even before the network has said so.
        status.sites_in_network = u32::try_from(status.network.len()).unwrap_or(u32::MAX).max(1);
        status.controller = Some(ControllerRecord {
            name: "van-controller".into(),
            namespace: self.namespace.to_owned(),
            version: env!("CARGO_PKG_VERSION").into(),
        });
        site.metadata.uid = Some(self.site_id.to_owned()).filter(|id| !id.is_empty());
        site.status = status;
        site
    }

    fn link(&self, key: &Key, link: &Link) -> Link {
        let mut link = link.clone();
        let name = &link.metadata.name;
        let configured = self.configured_at_site(key, [(EntityKind::Connector, name.clone())]);
        let report = match self.states.links.get(name) {
            Some(state) if state.is_up => {
                let remote = self.network.link(self.router, name).and_then(|link| link.remote.clone());
                let (id, site) = remote.map(|remote| (remote.id, remote.name)).unzip();
                let uplink = || {
                    let others = self.states.links.iter().filter(|(other, _)| *other != name);
                    let uplink = others.filter(|(_, other)| other.is_up).find(|(_, other)| !other.is_standing_by);
                    uplink.map(|(uplink, _)| uplink.clone())
                };
                let stands_by_for = state.is_standing_by.then(uplink).flatten();
                LinkReport::Up { remote_site_id: id, remote_site_name: site, stands_by_for }
            }
            Some(state) => LinkReport::Down { error: state.last_error.clone() },
            None => match &self.running {
                Ok(()) => LinkReport::Nothing,
                Err(reason) => LinkReport::Down { error: Some(reason.clone()) },
            },
        };
        link.status = status::link_status(&link.status, configured, report, self.now);
        link
    }

    fn listener(&self, key: &Key, listener: &Listener) -> Listener {
        let mut listener = listener.clone();
        let name = format!("listener/{}", listener.metadata.name);
        let state = self.states.tcp_listeners.get(&name);
        let mut configured = self.configured_at_site(key, [(EntityKind::TcpListener, name)]);
        if let Some(error) = state.and_then(|state| state.error.clone()) {
            configured = configured.and(Err(error));
        }
        // Its port is open as long as there is a connector: only then is it of use.
        let is_matched = state.is_some_and(|state| state.is_open)
            && self.routes.is_some_and(|routes| routes.is_reachable(&listener.spec.routing_key));
        listener.status = status::listener_status(&listener.status, configured, is_matched, self.now);
        listener
    }

    fn multi_key_listener(&self, key: &Key, listener: &MultiKeyListener) -> MultiKeyListener {
        let mut listener = listener.clone();
        let own = &listener.metadata.name;
        let name = format!("{MULTI_ADDRESS}{own}");
        let state = self.states.tcp_listeners.get(&name);
        let mut configured = self.configured_at_site(key, [(EntityKind::TcpListener, name)]);
        if let Some(error) = state.and_then(|state| state.error.clone()) {
            configured = configured.and(Err(error));
        }
        let address = |key: &str| self.states.listener_addresses.get(&format!("{own}/{key}"));
        let is_reachable = |key: &str| address(key).is_some_and(|address| address.is_reachable);
        let strategy = StrategyStatus::of(&listener.spec.strategy, is_reachable);
        let is_open = state.is_some_and(|state| state.is_open);
        listener.status = status::multi_key_listener_status(&listener.status, configured, strategy, is_open, self.now);
        listener
    }

    fn connector(&self, key: &Key, connector: &Connector) -> Connector {
        let mut connector = connector.clone();
        let host = connector.spec.host.as_deref().unwrap_or_default();
        let name = format!("connector/{}@{host}", connector.metadata.name);
        let configured = self.configured_at_site(key, [(EntityKind::TcpConnector, name.clone())]);
        let is_there = self.states.tcp_connectors.contains_key(&name);
        let is_matched = is_there && self.network.has_listener(&connector.spec.routing_key);
        connector.status = status::connector_status(&connector.status, configured, is_matched, self.now);
        connector
    }

    fn access(&self, key: &Key, access: &RouterAccess) -> RouterAccess {
        let mut access = access.clone();
        let mut configured = self.configured_at_site(key, listeners(&access.metadata.name));
        let states = LINK_ROLES.into_iter().chain([NORMAL]).filter_map(|role| self.access_state(&access, role));
        if let Some(error) = states.filter_map(|state| state.error.clone()).next() {
            configured = configured.and(Err(error));
        }
        let endpoints = self.endpoints(&access);
        access.status = status::router_access_status(&access.status, configured, endpoints, self.now);
        access
    }

    fn access_state(&self, access: &RouterAccess, role: &str) -> Option<&AccessState> {
        self.states.accesses.get(&derive::listener_name(&access.metadata.name, role))
    }

    /// Where an access can be reached, once it is open.
    fn endpoints(&self, access: &RouterAccess) -> Vec<Endpoint> {
        let Some(host) = derive::reachable_hosts(&access.spec, &self.around).into_iter().next() else {
            return Vec::new();
        };
        let endpoint = |role: &str| {
            let state = self.access_state(access, role)?;
            let (name, port) = (role.to_owned(), state.port.to_string());
            Some(Endpoint { name, host: host.clone(), port, group: Some(GROUP.into()) })
        };
        LINK_ROLES.into_iter().chain([NORMAL]).filter_map(endpoint).collect()
    }

    fn grant(&self, key: &Key, document: &AccessGrant) -> AccessGrant {
        let mut document = document.clone();
        let status = &mut document.status;
        status.url = None;
        if let (Some(grant), Some(port)) = (self.grants.get(&document.metadata.name), self.grant_port) {
            let mut hosts = grant.hosts.clone();
            if hosts.is_empty() {
                let accesses = derive::accesses(self.sound);
                hosts = accesses.flat_map(|access| derive::reachable_hosts(&access.spec, &self.around)).collect();
            }
            if let Some(host) = hosts.first() {
                let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                status.url = Some(format!("https://{bracketed}:{port}/{}", grant.id));
            }
            status.code = grant.code.expose().to_owned().into();
            status.redemptions = grant.redemptions;
            status.expiration_time =
                grant.expires_at.and_then(|end| Timestamp::try_from(end).ok()).map(status::whole_seconds);
            if hosts.len() > 1 {
                document.metadata.annotations.insert(HOSTS.into(), hosts.join(","));
            }
        }
        let ca = self.certificates.get(crate::resource::certificate::GRANT_SERVER).and_then(|made| made.as_ref().ok());
        status.ca = ca.map(|credentials| credentials.trust.pem().to_owned());
        let processed = self.configured(key, None::<EntityId>);
        document.status = status::access_grant_status(&document.status, processed, self.now);
        document
    }

    fn token(&self, key: &Key, token: &AccessToken) -> AccessToken {
        let mut token = token.clone();
        let waiting = || match derive::site(self.sound) {
            _ if self.faults.contains_key(key) => Err(Obstacle::Error(self.faults[key].clone())),
            Some(_) => Err(Obstacle::Pending("Not Redeemed".into())),
            None => Err(Obstacle::Error(NO_ACTIVE_SITE.into())),
        };
        let redeemed = self.redemptions.get(&token.metadata.name).cloned().unwrap_or_else(waiting);
        token.status = status::access_token_status(&token.status, redeemed, self.now);
        token
    }

    fn certificate(&self, key: &Key, certificate: &Certificate) -> Certificate {
        let mut certificate = certificate.clone();
        let issued = match self.certificates.get(&key.name) {
            _ if self.faults.contains_key(key) => Err(self.faults[key].clone()),
            Some(Ok(credentials)) => {
                let end = credentials.identity.certificate().not_after;
                Timestamp::try_from(end).map_err(|error| error.to_string())
            }
            Some(Err(error)) => Err(van_adaptors::with_causes(error)),
            None => Err("not made yet".into()),
        };
        certificate.status = status::certificate_status(&certificate.status, issued, self.now);
        certificate
    }
}

/// The router's listeners that an access may have.
fn listeners(access: &str) -> impl Iterator<Item = EntityId> {
    let roles = LINK_ROLES.into_iter().chain([NORMAL]);
    roles.map(move |role| (EntityKind::Listener, derive::listener_name(access, role)))
}
