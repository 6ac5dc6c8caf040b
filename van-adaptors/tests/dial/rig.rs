//! Routers in this process, linked by mutual TLS, and octets that both ends know. No test uses all of it.

#![allow(dead_code)]

#[path = "ports.rs"]
mod ports;

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use van_adaptors::{Dialer, Options, Router, Stream};
use van_core::management::config::Configuration;
use van_tls::{Authority, AuthorityRequest, KeyKind, LeafRequest, Usage, directory};

pub(crate) use self::ports::free_port;

/// Nothing here takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A router and its door.
pub(crate) struct Site {
    pub(crate) router: Router,
    pub(crate) dialer: Dialer,
    _folder: Option<TempDir>,
}

/// A router without neighbours.
pub(crate) fn alone(entities: &[Value]) -> Site {
    start("alone", 3, entities, None)
}

/// West dials east.
pub(crate) fn linked(at_west: &[Value], at_east: &[Value]) -> [Site; 2] {
    // More than the link has data connections, so that streams cross as well.
    linked_with(3, at_west, at_east)
}

/// As [`linked`], with so many shards each.
pub(crate) fn linked_with(shards: u16, at_west: &[Value], at_east: &[Value]) -> [Site; 2] {
    let folder = tempfile::tempdir().expect("a folder can be made");
    make_certificates(folder.path());
    let port = free_port();
    let listener = json!(["listener", {
        "role": "inter-router", "host": "localhost", "port": port, "sslProfile": "links", "authenticatePeer": true,
    }]);
    let connector = json!(["connector", {
        "role": "inter-router", "host": "localhost", "port": port, "sslProfile": "links", "dataConnectionCount": 2,
    }]);
    let east = [&[tls_profile(folder.path(), "east"), listener], at_east].concat();
    let west = [&[tls_profile(folder.path(), "west"), connector], at_west].concat();
    let east = start("east", shards, &east, None);
    [start("west", shards, &west, Some(folder)), east]
}

fn start(id: &str, shards: u16, entities: &[Value], folder: Option<TempDir>) -> Site {
    start_with(json!(["router", {"id": id, "mode": "interior", "workerThreads": shards}]), entities, folder)
}

pub(crate) fn start_with(router: Value, entities: &[Value], folder: Option<TempDir>) -> Site {
    let text = json!([&[router], entities].concat()).to_string();
    let configuration = Configuration::parse(&text, |_| None).expect("a valid configuration");
    let router = Router::start(configuration, &Options::default()).expect("a router starts");
    Site { dialer: router.dialer(), router, _folder: folder }
}

impl Site {
    /// Waits until a routing key has a consumer, or none any more, as this router sees it.
    pub(crate) async fn wait_reachable(&mut self, key: &str, is_reachable: bool) {
        let wait = async {
            while self.router.routes().is_reachable(key) != is_reachable {
                self.router.routes_changed().await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{key}: reachable is not {is_reachable}"));
    }

    /// A stream, both its ends.
    pub(crate) async fn join(&self, key: &str, incoming: &mut van_adaptors::Incoming) -> (Stream, Stream) {
        let (client, server) = tokio::join!(self.dialer.dial(key), incoming.next());
        (client.expect("a workload takes the stream"), server.expect("the router runs"))
    }

    /// Waits until nothing is left of any stream.
    pub(crate) async fn idle(&self) {
        let left = || self.router.counters().iter().map(|it| it.streams + it.directions).sum::<u64>();
        let wait = async {
            while left() > 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{} things are left", left()));
    }
}

/// Both routers, alone and linked: where streams come in, and where they go.
pub(crate) fn everywhere() -> [Vec<Site>; 2] {
    [vec![alone(&[])], linked(&[], &[]).into()]
}

/// Sends so many octets that depend on the seed and their place, then ends the direction.
pub(crate) async fn send(mut to: impl AsyncWrite + Unpin, seed: u64, length: usize) -> io::Result<()> {
    let mut place = 0;
    while place < length {
        let octets = piece(seed, place, length);
        to.write_all(&octets).await?;
        place += octets.len();
    }
    to.shutdown().await
}

/// Takes what [`send`] sends, all of it and nothing else.
pub(crate) async fn receive(mut from: impl AsyncRead + Unpin, seed: u64, length: usize) {
    let mut place = 0;
    while place < length {
        let expected = piece(seed, place, length);
        let mut received = vec![0; expected.len()];
        from.read_exact(&mut received).await.expect("octets come");
        assert!(received == expected, "other octets behind {place}");
        place += received.len();
    }
    assert_eq!(from.read(&mut [0; 16]).await.expect("a clean end"), 0, "more octets than were sent");
}

fn piece(seed: u64, place: usize, length: usize) -> Vec<u8> {
    let mut random = van_core::Random::new(seed ^ (place as u64) << 20);
    let words = (0..10_000).map(|_| random.next_u64());
    words.flat_map(u64::to_le_bytes).take((length - place).min(80_000 - 3)).collect()
}

/// Answers each stream with what it says.
pub(crate) async fn echo(mut incoming: van_adaptors::Incoming) {
    while let Some(mut stream) = incoming.next().await {
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(&mut stream);
            tokio::io::copy(&mut reader, &mut writer).await?;
            writer.shutdown().await
        });
    }
}

fn tls_profile(folder: &Path, name: &str) -> Value {
    let file = |file| folder.join(name).join(file);
    let (ca, certificate, key) =
        (file(directory::CA_FILE), file(directory::CERTIFICATE_FILE), file(directory::KEY_FILE));
    json!(["sslProfile", {"name": "links", "caCertFile": ca, "certFile": certificate, "privateKeyFile": key}])
}

fn make_certificates(folder: &Path) {
    let (now, key) = (SystemTime::now(), KeyKind::EcdsaP256);
    let request = AuthorityRequest { common_name: "rig".into(), key, now, valid_for: DAY };
    let authority = Authority::create(&request).expect("an authority can be made");
    for name in ["east", "west"] {
        let hosts = vec!["localhost".to_owned()];
        let leaf = LeafRequest { common_name: name.into(), hosts, usage: Usage::Both, key, now, valid_for: DAY };
        let credentials = authority.issue(&leaf).expect("a certificate can be issued");
        directory::write(&folder.join(name), &credentials).expect("certificates can be written");
    }
}
