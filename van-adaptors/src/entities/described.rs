//! Entities as management shows them, if nobody said how they were given: a program made them.

use van_core::amqp::Value;
use van_core::management::Attributes;
use van_core::management::config::{
    Amqp, Connector, Direction, Listener, ListenerAddress, Service, Strategy, TcpConnector, TcpListener,
};

use super::{CredentialsSource, Entity, TlsProfile};

impl Entity {
    /// What it has, and on top of that what was given.
    pub(crate) fn described(&self, given: Attributes) -> Attributes {
        let mut attributes = match self {
            Self::TlsProfile(profile) => tls_profile(profile),
            Self::ProxyProfile(proxy) => place(&proxy.host, proxy.port),
            Self::AutoLink(link) => {
                let direction = if link.direction == Direction::In { "in" } else { "out" };
                Attributes::from([("direction", text(direction))])
            }
            Self::Connector(connector) => self::connector(connector),
            Self::Listener(listener) => self::listener(listener),
            Self::TcpListener(listener) => tcp_listener(listener),
            Self::ListenerAddress(ListenerAddress { address, value, listener, .. }) => {
                Attributes::from([("address", text(address)), ("value", number(*value)), ("listener", text(listener))])
            }
            Self::TcpConnector(TcpConnector { host, port, address, tls_profile, verifies_host, .. }) => {
                let mut attributes = place(host, *port);
                attributes.extend([("address", text(address)), ("verifyHostname", Value::Bool(*verifies_host))]);
                attributes.extend(tls_profile.as_ref().map(|profile| ("sslProfile", text(profile))));
                attributes
            }
        };
        attributes.extend(given);
        attributes.insert("name", text(self.name()));
        attributes
    }
}

fn tcp_listener(listener: &TcpListener) -> Attributes {
    let mut attributes = place(&listener.host, listener.port);
    attributes.insert("backlog", number(listener.backlog.unwrap_or(0)));
    attributes.insert("authenticatePeer", Value::Bool(listener.requires_authentication));
    attributes.extend(listener.tls_profile.as_ref().map(|profile| ("sslProfile", text(profile))));
    let strategy = match listener.strategy {
        None => "none",
        Some(Strategy::Priority) => "priority",
        Some(Strategy::Weighted) => "weighted",
    };
    attributes.insert("multiAddressStrategy", text(strategy));
    if listener.strategy.is_none() {
        attributes.insert("address", text(&listener.address));
    }
    attributes
}

fn tls_profile(profile: &TlsProfile) -> Attributes {
    let mut attributes = Attributes::from([("ordinal", number(profile.ordinal))]);
    if let CredentialsSource::Files(files) = &profile.credentials {
        let files = [("certFile", &files.certificate), ("privateKeyFile", &files.key), ("caCertFile", &files.ca)];
        let path = |(name, path): (_, &Option<std::path::PathBuf>)| Some((name, text(path.as_ref()?.to_str()?)));
        attributes.extend(files.into_iter().filter_map(path));
    }
    attributes
}

fn connector(connector: &Connector) -> Attributes {
    let mut attributes = place(&connector.host, connector.port);
    attributes.extend(amqp(&connector.amqp));
    attributes.insert("verifyHostname", Value::Bool(connector.verifies_host));
    attributes.extend(connector.data_connections.map(|count| ("dataConnectionCount", number(count))));
    attributes
}

fn amqp(amqp: &Amqp) -> Attributes {
    let mut attributes = Attributes::from([
        ("role", text(&amqp.role.to_string())),
        ("cost", number(u32::from(amqp.cost))),
        ("idleTimeoutSeconds", number(amqp.idle_timeout.as_secs())),
    ]);
    attributes.extend(amqp.tls_profile.as_ref().map(|profile| ("sslProfile", text(profile))));
    attributes.extend(amqp.max_frame_bytes.map(|bytes| ("maxFrameSize", number(bytes))));
    attributes
}

fn listener(listener: &Listener) -> Attributes {
    let mut attributes = place(&listener.host, listener.port);
    match &listener.service {
        Service::Amqp(access) => {
            attributes.extend(amqp(&access.amqp));
            attributes.insert("authenticatePeer", Value::Bool(access.requires_authentication));
        }
        Service::Http { has_health, has_metrics, .. } => attributes.extend([
            ("http", Value::Bool(true)),
            ("healthz", Value::Bool(*has_health)),
            ("metrics", Value::Bool(*has_metrics)),
        ]),
    }
    attributes
}

fn place(host: &str, port: u16) -> Attributes {
    Attributes::from([("host", text(host)), ("port", text(&port.to_string()))])
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn number(number: impl Into<u64>) -> Value {
    Value::Ulong(number.into())
}
