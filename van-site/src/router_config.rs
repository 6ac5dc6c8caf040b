//! The configuration of a site's router as a file that `van router` and skupper-router read. Pure.
//!
//! Nothing here reads it: it shows what runs, and runs it elsewhere. Which numbers are texts is the original's choice.

use std::path::Path;

use serde::Serialize;
use van_adaptors::{CredentialsSource, Entity, TlsProfile};
use van_core::management::config::{self, Service, Strategy};

use crate::derive;
use crate::document::DocumentMap;
use crate::render::Rendered;
use crate::store::{Identity, PASSWORD_FILE};

/// What only the original asks for: how often a router says that it lives, as text.
const HELLO_MAX_AGE_SECONDS: &str = "3";

/// One entity: its type and its attributes.
#[derive(Serialize)]
#[serde(untagged)]
enum Pair<'a> {
    Router(&'static str, Router<'a>),
    SslProfile(&'static str, SslProfile<'a>),
    ProxyProfile(&'static str, ProxyProfile<'a>),
    Connector(&'static str, Connector<'a>),
    Listener(&'static str, Listener<'a>),
    Address(&'static str, Address),
    Tcp(&'static str, Tcp<'a>),
    ListenerAddress(&'static str, ListenerAddress<'a>),
    Log(&'static str, Log),
    Site(&'static str, Site<'a>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Router<'a> {
    id: &'a str,
    mode: &'static str,
    hello_max_age_seconds: &'static str,
    metadata: String,
    drop_tcp_connections: bool,
}

#[derive(Serialize)]
struct Metadata<'a> {
    id: &'a str,
    version: &'a str,
    platform: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SslProfile<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cert_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key_file: Option<String>,
    ca_cert_file: String,
}

#[derive(Serialize)]
struct ProxyProfile<'a> {
    name: &'a str,
    host: &'a str,
    port: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Connector<'a> {
    name: &'a str,
    role: &'static str,
    host: &'a str,
    port: String,
    cost: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssl_profile: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_profile: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listener<'a> {
    name: &'a str,
    role: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    host: &'a str,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssl_profile: Option<&'a str>,
    sasl_mechanisms: &'static str,
    authenticate_peer: bool,
}

#[derive(Serialize)]
struct Address {
    prefix: &'static str,
    distribution: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tcp<'a> {
    name: &'a str,
    host: &'a str,
    port: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    address: &'a str,
    site_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssl_profile: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verify_hostname: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observer: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authenticate_peer: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multi_address_strategy: Option<&'static str>,
}

#[derive(Serialize)]
struct ListenerAddress<'a> {
    name: &'a str,
    address: &'a str,
    value: u32,
    listener: &'a str,
}

#[derive(Serialize)]
struct Log {
    module: &'static str,
    enable: &'static str,
}

#[derive(Serialize)]
struct Site<'a> {
    name: &'a str,
    platform: &'a str,
    namespace: &'a str,
    version: &'a str,
}

/// The text of the file; `certs` is the folder of the certificates it names, beside that of proxies' passwords.
pub fn router_config(
    documents: &DocumentMap,
    rendered: &Rendered,
    identity: &Identity,
    namespace: &str,
    certs: &Path,
) -> String {
    let (version, platform) = (env!("CARGO_PKG_VERSION"), "linux");
    let metadata = Metadata { id: &identity.id, version, platform };
    let router = Router {
        id: &identity.router,
        mode: if derive::site(documents).is_some_and(|site| site.spec.edge) { "edge" } else { "interior" },
        hello_max_age_seconds: HELLO_MAX_AGE_SECONDS,
        metadata: serde_json::to_string(&metadata).expect("three texts"),
        drop_tcp_connections: false,
    };
    let entities = || rendered.entities.values().map(|(entity, _)| entity);
    let profiles = entities().filter_map(|entity| match entity {
        Entity::TlsProfile(TlsProfile { name, credentials, .. }) => {
            Some((name.as_str(), !matches!(credentials, CredentialsSource::Trust(_))))
        }
        _ => None,
    });
    let mut pairs = vec![Pair::Router("router", router)];
    pairs.extend(profiles.map(|profile| Pair::SslProfile("sslProfile", ssl_profile(profile, certs))));
    pairs.extend(entities().filter_map(|entity| match entity {
        Entity::ProxyProfile(proxy) => Some(Pair::ProxyProfile("proxyProfile", proxy_profile(proxy, certs))),
        _ => None,
    }));
    pairs.extend(entities().filter_map(|entity| match entity {
        Entity::Connector(link) => Some(Pair::Connector("connector", connector(link))),
        _ => None,
    }));
    pairs.extend(entities().filter_map(|entity| match entity {
        Entity::Listener(access) => Some(Pair::Listener("listener", listener(access)?)),
        _ => None,
    }));
    pairs.push(Pair::Address("address", Address { prefix: "mc", distribution: "multicast" }));
    let site_id = &identity.id;
    pairs.extend(entities().filter_map(|entity| match entity {
        Entity::TcpConnector(connector) => Some(Pair::Tcp("tcpConnector", tcp_connector(connector, site_id))),
        _ => None,
    }));
    pairs.extend(entities().filter_map(|entity| match entity {
        Entity::TcpListener(listener) => Some(Pair::Tcp("tcpListener", tcp_listener(listener, site_id))),
        _ => None,
    }));
    pairs.extend(entities().filter_map(|entity| match entity {
        Entity::ListenerAddress(config::ListenerAddress { name, address, value, listener }) => {
            let address = ListenerAddress { name, address, value: *value, listener };
            Some(Pair::ListenerAddress("listenerAddress", address))
        }
        _ => None,
    }));
    pairs.push(Pair::Log("log", Log { module: "ROUTER_CORE", enable: "error+" }));
    pairs.push(Pair::Site("site", Site { name: &identity.router, platform, namespace, version }));
    serde_json::to_string_pretty(&pairs).expect("texts, numbers and truths") + "\n"
}

/// What is not the default.
fn observer_name(observer: config::Observer) -> Option<&'static str> {
    match observer {
        config::Observer::Auto => None,
        config::Observer::None => Some("none"),
        config::Observer::Http1 => Some("http1"),
        config::Observer::Http2 => Some("http2"),
    }
}

fn ssl_profile<'a>((name, has_identity): (&'a str, bool), certs: &Path) -> SslProfile<'a> {
    let file = |file| certs.join(name).join(file).display().to_string();
    let own = |name| has_identity.then(|| file(name));
    SslProfile { name, cert_file: own("tls.crt"), private_key_file: own("tls.key"), ca_cert_file: file("ca.crt") }
}

fn tcp_connector<'a>(connector: &'a config::TcpConnector, site_id: &'a str) -> Tcp<'a> {
    let ssl_profile = connector.tls_profile.as_deref();
    Tcp {
        name: &connector.name,
        host: &connector.host,
        port: connector.port.to_string(),
        address: &connector.address,
        site_id,
        ssl_profile,
        verify_hostname: ssl_profile.map(|_| connector.verifies_host),
        observer: None,
        authenticate_peer: None,
        multi_address_strategy: None,
    }
}

fn tcp_listener<'a>(listener: &'a config::TcpListener, site_id: &'a str) -> Tcp<'a> {
    Tcp {
        name: &listener.name,
        host: &listener.host,
        port: listener.port.to_string(),
        address: &listener.address,
        site_id,
        ssl_profile: listener.tls_profile.as_deref(),
        verify_hostname: None,
        observer: observer_name(listener.observer),
        authenticate_peer: Some(true).filter(|_| listener.requires_authentication),
        multi_address_strategy: listener.strategy.map(|strategy| match strategy {
            Strategy::Priority => "priority",
            Strategy::Weighted => "weighted",
        }),
    }
}

fn proxy_profile<'a>(proxy: &'a config::ProxyProfile, certs: &Path) -> ProxyProfile<'a> {
    let config::ProxyProfile { name, host, port, username, password, .. } = proxy;
    let file = || format!("file:{}", certs.with_file_name("proxies").join(name).join(PASSWORD_FILE).display());
    let (port, password) = (port.to_string(), password.as_ref().map(|_| file()));
    ProxyProfile { name, host, port, username: username.as_deref(), password }
}

fn connector(link: &config::Connector) -> Connector<'_> {
    Connector {
        name: &link.name,
        role: link.amqp.role.name(),
        host: &link.host,
        port: link.port.to_string(),
        cost: link.amqp.cost.into(),
        ssl_profile: link.amqp.tls_profile.as_deref(),
        proxy_profile: link.proxy_profile.as_deref(),
    }
}

fn listener(access: &config::Listener) -> Option<Listener<'_>> {
    let Service::Amqp(config::Access { amqp, requires_authentication, .. }) = &access.service else { return None };
    Some(Listener {
        name: &access.name,
        role: amqp.role.name(),
        host: &access.host,
        port: access.port,
        ssl_profile: amqp.tls_profile.as_deref(),
        sasl_mechanisms: "EXTERNAL",
        authenticate_peer: *requires_authentication,
    })
}
