//! What can fail at the start, tried before anything runs: ports and certificates.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::SystemTime;

use van_core::management::config::{
    Configuration, Connector, Family, Listener, MAX_DATA_CONNECTIONS, Service, TcpListener, TlsProfile,
};
use van_core::plane::MAX_SHARDS;
use van_tls::directory::ProfileFiles;
use van_tls::{Credentials, HostCheck, LinkAcceptor, LinkConnector, Policy};

use crate::amqp::access::Access;
use crate::amqp::link::Link;
use crate::router::StartError;
use crate::tcp::listener;
use crate::web::Site;
use crate::with_causes;

/// Sockets and credentials, ready to be used.
pub(crate) struct Prepared {
    /// How many shards there are to be: one for each core, unless configured.
    pub(crate) shards: u16,
    pub(crate) accesses: Vec<(Access, Vec<std::net::TcpListener>)>,
    pub(crate) sites: Vec<(Site, Vec<std::net::TcpListener>)>,
    pub(crate) links: Vec<Link>,
    pub(crate) tcp_listeners: Vec<(TcpListener, Vec<SocketAddr>)>,
}

impl Prepared {
    pub(crate) fn new(configuration: &Configuration) -> Result<Self, StartError> {
        let cores = std::thread::available_parallelism().map_or(1, |count| count.get() as u16);
        let shards = configuration.shards.unwrap_or(cores).clamp(1, MAX_SHARDS);
        let mut profiles = Profiles { configuration, shards, read: HashMap::new() };
        let links =
            configuration.connectors.iter().map(|connector| profiles.link(connector)).collect::<Result<_, _>>()?;
        let mut places = Places::default();
        let (mut accesses, mut sites) = (Vec::new(), Vec::new());
        for listener in &configuration.listeners {
            match (&listener.service, profiles.access(listener)?) {
                (_, Some(access)) => accesses.push((access, places.open_listener(listener)?)),
                (Service::Http { has_health, has_metrics }, None) => {
                    let site = Site { name: listener.name.clone(), has_health: *has_health, has_metrics: *has_metrics };
                    sites.push((site, places.open_listener(listener)?));
                }
                (Service::Links { .. }, None) => {}
            }
        }
        let tcp_listeners = configuration
            .tcp_listeners
            .iter()
            .map(|listener| places.try_tcp_listener(listener))
            .collect::<Result<_, _>>()?;
        Ok(Self { shards, accesses, sites, links, tcp_listeners })
    }
}

/// Where entities listen, with their names: no two can at one address.
#[derive(Default)]
struct Places(Vec<(SocketAddr, String)>);

impl Places {
    fn open_listener(&mut self, listener: &Listener) -> Result<Vec<std::net::TcpListener>, StartError> {
        let entity = format!("listener \"{}\"", listener.name);
        Ok(self.open(entity, &listener.host, listener.port, listener.family)?.1)
    }

    /// The socket is opened when the routing key has a consumer; that it can be is tried now.
    fn try_tcp_listener(&mut self, listener: &TcpListener) -> Result<(TcpListener, Vec<SocketAddr>), StartError> {
        let entity = format!("tcpListener \"{}\"", listener.name);
        Ok((listener.clone(), self.open(entity, &listener.host, listener.port, None)?.0))
    }

    fn open(
        &mut self,
        entity: String,
        host: &str,
        port: u16,
        family: Option<Family>,
    ) -> Result<(Vec<SocketAddr>, Vec<std::net::TcpListener>), StartError> {
        let place = if host.is_empty() { format!("port {port}") } else { format!("{host}:{port}") };
        let failed = |source| StartError::Listen { entity: entity.clone(), address: place.clone(), source };
        let addresses = listener::addresses(host, port, family).map_err(failed)?;
        let is_taken = |(taken, _): &&(SocketAddr, _)| addresses.iter().any(|address| overlap(*taken, *address));
        if let Some((taken, other)) = self.0.iter().find(is_taken) {
            let message = format!("cannot listen on {place}; {other} is to listen on {taken}: change one of them");
            return Err(StartError::Entity { entity, message });
        }
        let sockets = addresses.iter().map(|address| listener::bind(*address, None)).collect::<io::Result<_>>();
        let sockets = sockets.map_err(failed)?;
        self.0.extend(addresses.iter().map(|address| (*address, entity.clone())));
        Ok((addresses, sockets))
    }
}

/// Whether the system lets only one of them be listened on. (Port 0 stands for one of its choice.)
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let is_same_host = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && a.is_ipv4() == b.is_ipv4() && is_same_host
}

/// TLS profiles, each read once.
struct Profiles<'a> {
    configuration: &'a Configuration,
    shards: u16,
    read: HashMap<&'a str, Credentials>,
}

impl<'a> Profiles<'a> {
    fn credentials(&mut self, name: &'a str) -> Result<&Credentials, StartError> {
        if !self.read.contains_key(name) {
            let profile = self.configuration.tls_profiles.get(name).cloned().unwrap_or_default();
            let credentials = read_credentials(&profile).map_err(|message| unusable(name, message))?;
            self.read.insert(name, credentials);
        }
        Ok(&self.read[name])
    }

    fn link(&mut self, connector: &'a Connector) -> Result<Link, StartError> {
        let check = if connector.verifies_host { HostCheck::Verify } else { HostCheck::Waive };
        let tls = match &connector.tls_profile {
            Some(name) => {
                let connector = LinkConnector::new(self.credentials(name)?, check, &Policy::default());
                Some(connector.map_err(|error| unusable(name, with_causes(&error)))?)
            }
            None => None,
        };
        let configuration = self.configuration;
        Ok(Link {
            name: connector.name.clone(),
            router: configuration.id.to_string(),
            host: connector.host.clone(),
            port: connector.port,
            family: connector.family,
            cost: connector.cost.into(),
            tls,
            ordinal: connector
                .tls_profile
                .as_ref()
                .and_then(|name| configuration.tls_profiles.get(name))
                .map(|profile| profile.ordinal),
            data_connections: connector
                .data_connections
                .or(configuration.data_connections)
                .unwrap_or(self.shards.min(MAX_DATA_CONNECTIONS)),
            max_frame_bytes: connector.max_frame_bytes,
            idle_timeout: connector.idle_timeout,
        })
    }

    fn access(&mut self, listener: &'a Listener) -> Result<Option<Access>, StartError> {
        let Service::Links { cost, tls_profile, requires_authentication, max_frame_bytes, idle_timeout } =
            &listener.service
        else {
            return Ok(None);
        };
        let tls = match tls_profile {
            Some(name) => {
                let acceptor = LinkAcceptor::new(self.credentials(name)?, &Policy::default());
                Some(acceptor.map_err(|error| unusable(name, with_causes(&error)))?)
            }
            None if *requires_authentication => {
                return Err(StartError::Entity {
                    entity: format!("listener \"{}\"", listener.name),
                    message: "authenticatePeer needs an sslProfile: routers authenticate by certificate".into(),
                });
            }
            None => None,
        };
        Ok(Some(Access {
            name: listener.name.clone(),
            router: self.configuration.id.to_string(),
            cost: (*cost).into(),
            tls,
            requires_authentication: *requires_authentication,
            max_frame_bytes: *max_frame_bytes,
            idle_timeout: *idle_timeout,
        }))
    }
}

fn unusable(profile: &str, message: String) -> StartError {
    StartError::Credentials { profile: profile.to_owned(), message }
}

/// Reads a profile's files and checks that they can be used now.
fn read_credentials(profile: &TlsProfile) -> Result<Credentials, String> {
    let path = |file: &Option<String>| file.as_ref().map(Into::into);
    let files = ProfileFiles {
        certificate: path(&profile.cert_file),
        key: path(&profile.private_key_file),
        ca: path(&profile.ca_cert_file),
    };
    let read = files.read().map_err(|error| with_causes(&error))?;
    let (Some(identity), Some(trust)) = (read.identity, read.trust) else {
        return Err("links need all of caCertFile, certFile and privateKeyFile".into());
    };
    let credentials = Credentials { identity, trust };
    credentials.check(SystemTime::now()).map_err(|error| with_causes(&error))?;
    Ok(credentials)
}
