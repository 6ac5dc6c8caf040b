//! What management is shown of connections.

use std::time::Instant;

use van_core::management::rows::{ConnectionRow, LinkRow, TlsRow};
use van_core::plane::{ConnectionId, PeerKind, Purpose, ShownKind, ShownLink};
use van_core::router::{Candidate, Origin};
use van_tls::Suite;

use super::Task;
use crate::amqp::Opened;

/// What there is at a moment, besides entities.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// All connections.
    pub(crate) connections: Vec<ConnectionRow>,
    /// All AMQP links, if they were asked for.
    pub(crate) links: Vec<LinkRow>,
}

/// What is known of a connection from its beginning on.
pub(super) struct Shown {
    row: ConnectionRow,
    since: Instant,
}

impl Shown {
    /// Of a connection whose opens were exchanged.
    pub(super) fn new(candidate: &Candidate, opened: &Opened) -> Self {
        let announcement = &candidate.announcement;
        let (purpose, correlator, ordinal) = match &candidate.origin {
            Origin::Dialled(dialled) => {
                (dialled.purpose, Some(dialled.correlator.clone()), dialled.ordinal.unwrap_or(0))
            }
            Origin::Accepted => (announcement.purpose, announcement.correlator.clone(), announcement.ordinal),
        };
        let subject = || opened.peer.certificate().map(|certificate| certificate.subject.to_string());
        let is_incoming = matches!(candidate.origin, Origin::Accepted);
        // A peer may leave SASL out where nobody must authenticate.
        let (mechanism, user) = match (&opened.login, is_incoming) {
            (Some((mechanism, user)), _) => (Some(mechanism.name()), Some(user.clone())),
            (None, true) => (None, None),
            (None, false) => match subject() {
                Some(subject) => (Some("EXTERNAL"), Some(subject)),
                None => (Some("ANONYMOUS"), Some("anonymous".to_owned())),
            },
        };
        let properties = opened.open.properties.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
        let row = ConnectionRow {
            host: opened.socket.peer_addr().map(|address| address.to_string()).unwrap_or_default(),
            role: match purpose {
                Purpose::Control => "inter-router",
                Purpose::Data => "inter-router-data",
                Purpose::Links(PeerKind::Client) => "normal",
                Purpose::Links(PeerKind::Edge | PeerKind::Interior) => "edge",
                Purpose::Links(PeerKind::Mesh) => "inter-edge",
            },
            protocol: "amqp",
            is_incoming,
            container: Some(announcement.container.clone()),
            sasl: mechanism,
            is_authenticated: mechanism.is_some(),
            user,
            tls: opened.suite.map(|suite| tls(suite, opened.ordinal.unwrap_or(0))),
            properties,
            is_opened: true,
            is_active: true,
            group: correlator.map(|correlator| (correlator, ordinal)),
            ..ConnectionRow::default()
        };
        Self { row, since: Instant::now() }
    }
}

fn tls(suite: Suite, ordinal: u64) -> TlsRow {
    let (cipher, strength) = match suite {
        Suite::Aes128Gcm => ("TLS_AES_128_GCM_SHA256", 128),
        Suite::Aes256Gcm => ("TLS_AES_256_GCM_SHA384", 256),
        Suite::ChaCha20Poly1305 => ("TLS_CHACHA20_POLY1305_SHA256", 256),
    };
    TlsRow { protocol: "TLSv1.3".into(), cipher: cipher.into(), strength, ordinal }
}

/// A link as management shows it.
pub(crate) fn link_row(link: ShownLink) -> LinkRow {
    let ShownLink { connection, place: (channel, number), .. } = link;
    let (kind, priority) = match link.kind {
        ShownKind::Control => ("router-control", 0),
        ShownKind::Priority(priority) => ("inter-router", priority),
        ShownKind::Stream => ("inter-router", 0),
        ShownKind::Endpoint(PeerKind::Mesh) => ("inter-edge", 0),
        ShownKind::Endpoint(_) => ("endpoint", 0),
    };
    LinkRow {
        id: format!("{}.{channel}.{number}", connection.0),
        name: link.name,
        kind,
        is_incoming: link.is_incoming,
        address: link.address,
        capacity: link.capacity,
        connection: connection.0,
        is_up: link.is_up,
        priority,
        undelivered: link.waiting as u64,
        deliveries: link.deliveries.into(),
        credit: link.credit,
        ..LinkRow::default()
    }
}

impl Task {
    pub(super) fn snapshot(&self) -> Snapshot {
        let row = |(id, connection): (&ConnectionId, &super::InUse)| {
            let Shown { row, since } = &connection.shown;
            let is_uplink = connection.purpose == Purpose::Links(PeerKind::Interior);
            let is_active = !is_uplink || self.uplink == Some(*id);
            ConnectionRow { id: id.0, uptime: since.elapsed(), is_active, ..row.clone() }
        };
        let mut connections: Vec<_> = self.connections.iter().map(row).collect();
        connections.sort_by_key(|row| row.id);
        Snapshot { connections, links: Vec::new() }
    }
}
