//! The configurations that Skupper renders, and those of test rigs, as they are: a router opens the ports that they name,
//! and no others; shows by management what they say; and those of one network make one network.
//!
//! Replaced is only what is another's here: files of certificates, ports, and the hosts that are dialled.

mod rig;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit};
use serde_json::{Value, json};
use tempfile::TempDir;
use van_core::amqp;
use van_tls::directory;

use rig::certificates::{Certificates, PROFILE};
use rig::client::management::map;
use rig::client::{Client, Speaker};
use rig::exchange::{Exchange, Exchanges};
use rig::http;
use rig::router::{HOST_NAME, Router};
use rig::site::Site;

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../van-core/tests/configurations");

/// A configuration, made fit for this machine.
struct Configured {
    /// The name of its file, without the end.
    name: String,
    entities: Vec<(String, Value)>,
}

impl Configured {
    /// Reads a file. `peer` says where something is that it dials at a port; what it does not know is nowhere.
    fn read(rig: &Rig, path: &Path, peer: impl Fn(u64) -> Option<SocketAddr>) -> Self {
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name in ASCII").to_owned();
        let folder = rig.folder.path().join(&name);
        directory::write(&folder, &rig.certificates.credentials(&name, &[Ipv4Addr::LOCALHOST.into()]))
            .expect("written");
        let text = fs::read_to_string(path).expect("a text");
        let mut entities: Vec<(String, Value)> = serde_json::from_str(&text).expect("a list of pairs");
        for (kind, attributes) in &mut entities {
            let replaced = [
                ("caCertFile", folder.join(directory::CA_FILE)),
                ("certFile", folder.join(directory::CERTIFICATE_FILE)),
                ("privateKeyFile", folder.join(directory::KEY_FILE)),
                ("outputFile", Router::log_file(rig.folder.path(), &name)),
            ];
            for (key, file) in replaced {
                if let Some(path) = attributes.get_mut(key) {
                    *path = json!(file);
                }
            }
            if ["connector", "tcpConnector"].contains(&kind.as_str()) {
                let port = attributes["port"].as_u64().or_else(|| attributes["port"].as_str()?.parse().ok());
                let there = peer(port.expect("a port")).unwrap_or_else(|| rig.site.free_address());
                (attributes["host"], attributes["port"]) = (json!(there.ip()), json!(there.port()));
            } else if let Some(port) = attributes.get_mut("port") {
                *port = json!(rig.site.free_address().port());
            }
        }
        Self { name, entities }
    }

    fn start(&self, rig: &Rig) -> Router {
        Router::start_as_configured(&rig.site, rig.folder.path(), &self.name, &json!(self.entities))
    }

    fn of(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.entities.iter().filter(move |(other, _)| other == kind).map(|(_, attributes)| attributes)
    }

    /// The ports of all entities of a type.
    fn ports(&self, kind: &str) -> BTreeSet<u16> {
        self.of(kind).map(|attributes| address(attributes).port()).collect()
    }

    /// Where the entity of a name is.
    fn address(&self, kind: &str, name: &str) -> SocketAddr {
        address(self.of(kind).find(|attributes| attributes["name"] == name).expect("it is in the file"))
    }
}

fn address(attributes: &Value) -> SocketAddr {
    let port = attributes["port"].as_u64().expect("it was replaced by a number");
    (Ipv4Addr::LOCALHOST, u16::try_from(port).expect("a port")).into()
}

/// What all routers of a test share.
struct Rig {
    site: Site,
    folder: TempDir,
    certificates: Certificates,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let certificates = Certificates::new(folder.path());
        Self { site: Site::here(), folder, certificates }
    }

    /// A client of a listener for clients.
    fn client(&self, listener: &Value) -> Client {
        match listener.get("sslProfile") {
            Some(_) => Client::certified(&self.site, address(listener), &self.certificates.credentials("client", &[])),
            None => Client::anonymous(&self.site, address(listener)),
        }
    }
}

// === one router ===

#[test]
fn every_file_opens_the_ports_it_names_and_management_shows_what_it_says() {
    let files = fs::read_dir(FILES).expect("the folder is there").map(|entry| entry.expect("a file").path());
    let files: BTreeSet<_> = files.collect();
    assert!(files.len() >= 9, "some are missing: {files:?}");
    let rig = Rig::new();
    for file in files {
        check(&rig, &Configured::read(&rig, &file, |_| None));
    }
}

#[track_caller]
fn check(rig: &Rig, configured: &Configured) {
    let name = &configured.name;
    let router = configured.start(rig);
    let listeners = configured.ports("listener");
    assert_eq!(router.listening_ports(), listeners, "{name}, while nobody consumes anything");
    let mut clients = Vec::new();
    for listener in configured.of("listener") {
        let role = listener.get("role").and_then(Value::as_str).unwrap_or("normal");
        match (listener.get("http"), role) {
            (Some(_), _) => check_http(rig, address(listener)),
            (None, "normal") => clients.push(rig.client(listener)),
            _ => {}
        }
    }
    for client in &mut clients {
        check_shown(configured, client);
    }
    let client = clients.last_mut().expect("each file has a listener for clients");
    let single = configured.of("tcpListener").filter(|listener| listener.get("multiAddressStrategy").is_none());
    for entity in single.chain(configured.of("listenerAddress")) {
        consume(client, entity["address"].as_str().expect("a text"), rig.site.free_address());
    }
    let all = &listeners | &configured.ports("tcpListener");
    rig::wait_until(&format!("{name} has opened all its ports"), || router.listening_ports() == all);
    let log = router.log();
    let told: Vec<_> =
        log.lines().filter(|line| line.contains("is not started") || line.contains("no effect")).collect();
    assert!(told.is_empty(), "{name}: {told:#?}");
}

/// Every entity of the file is shown once, with each of its attributes, and no entity more.
#[track_caller]
fn check_shown(configured: &Configured, client: &mut Client) {
    let mut by_kind = BTreeMap::<_, Vec<_>>::new();
    for (kind, attributes) in &configured.entities {
        by_kind.entry(kind.as_str()).or_default().push(attributes.as_object().expect("attributes"));
    }
    for (kind, entities) in by_kind {
        let reply = client.query(if kind == "address" { "router.config.address" } else { kind });
        let columns = reply.columns();
        let row = |row: &amqp::Value| {
            let values = row.as_list().expect("a row").iter().map(shown);
            columns.iter().map(|column| (*column).to_owned()).zip(values).collect::<BTreeMap<_, _>>()
        };
        let rows: Vec<_> = reply.rows().iter().map(row).collect();
        for entity in &entities {
            let is_it = |row: &&BTreeMap<_, _>| entity.iter().all(|(key, value)| row.get(key) == Some(&said(value)));
            let count = rows.iter().filter(is_it).count();
            assert_eq!(count, 1, "{}: {kind} {entity:#?} is among {rows:#?}", configured.name);
        }
        // There is one for each module, whether something is said of it or not.
        assert!(kind == "log" || rows.len() == entities.len(), "{}: {kind}: {rows:#?}", configured.name);
    }
}

/// A value of the file, as text.
fn said(value: &Value) -> String {
    match value {
        Value::String(text) => text.replace("${HOSTNAME}", HOST_NAME),
        other => other.to_string(),
    }
}

/// A value that management shows, as text.
fn shown(value: &amqp::Value) -> String {
    match value {
        amqp::Value::Bool(truth) => truth.to_string(),
        amqp::Value::Null => String::new(),
        value => match (value.as_text(), value.as_integer()) {
            (Some(text), _) => text.to_owned(),
            (None, Some(number)) => number.to_string(),
            (None, None) => format!("{value:?}"),
        },
    }
}

#[track_caller]
fn check_http(rig: &Rig, at: SocketAddr) {
    assert_eq!(http::get(&rig.site, at, "/healthz").expect("it is well").trim_ascii(), b"ok");
    let metrics = String::from_utf8(http::get(&rig.site, at, "/metrics").expect("it has numbers")).expect("a text");
    assert!(metrics.contains("van_routers 1\n"), "{metrics}");
    // The key and its answer are of RFC 6455 §1.3.
    let mut stream = rig.site.connect(at).expect("it listens");
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {at}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: amqp\r\n\r\n"
    )
    .expect("it listens");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).expect("it answers");
        head.extend(octet);
    }
    let head = String::from_utf8(head).expect("a text").to_ascii_lowercase();
    for expected in
        ["http/1.1 101 ", "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=", "sec-websocket-protocol: amqp"]
    {
        assert!(head.contains(expected), "{head}");
    }
}

/// Has a workload consume a routing key.
#[track_caller]
fn consume(client: &mut Client, key: &str, workload: SocketAddr) {
    create(client, "tcpConnector", &format!("to {key}"), key, workload);
}

#[track_caller]
fn create(client: &mut Client, kind: &str, name: &str, key: &str, at: SocketAddr) {
    let text = |text: &str| amqp::Value::String(text.into());
    let (host, port) = (at.ip().to_string(), at.port().to_string());
    let attributes = map(&[("host", text(&host)), ("port", text(&port)), ("address", text(key))]);
    let reply = client.ask(&[("operation", "CREATE"), ("type", kind), ("name", name)], attributes);
    assert_eq!(reply.status, amqp::Value::Int(201), "{name}: {:?}", reply.description);
}

// === one network ===

/// Two sites and an edge site, by mutual TLS; every way in and every way out that the files have carries streams.
#[test]
fn the_files_of_a_network_make_a_network() {
    let rig = Rig::new();
    let (workload, spare) = (Exchanges::start(&rig.site), Exchanges::start(&rig.site));
    let file = |name: &str| Path::new(FILES).join(format!("rendered-kube-{name}.json"));
    let west = Configured::read(&rig, &file("west"), |_| None);
    let secure_server = rig.site.free_address();
    let peer = |port| match port {
        55671 => Some(west.address("listener", "skupper-router-inter-router")),
        45671 => Some(west.address("listener", "skupper-router-edge")),
        5433 => Some(secure_server),
        _ => Some(workload.address()),
    };
    let (mut east, edge) = (Configured::read(&rig, &file("east"), peer), Configured::read(&rig, &file("edge"), peer));
    // Its own entrance by TLS serves as a database that speaks TLS.
    let secure = east.entities.iter_mut().find(|(_, attributes)| attributes["name"] == "listener/secure");
    secure.expect("it is in the file").1["port"] = json!(secure_server.port());
    let _routers = [&west, &east, &edge].map(|configured| configured.start(&rig));

    let client = |configured: &Configured| {
        rig.client(configured.of("listener").find(|listener| listener["name"] == "amqps").expect("it is in the file"))
    };
    let (mut at_west, mut at_edge) = (client(&west), client(&edge));
    for key in ["backend", "secure", "primary", "a", "b"] {
        consume(&mut at_edge, key, workload.address());
    }
    consume(&mut at_edge, "secondary", spare.address());
    let mut entrances: Vec<_> = ["listener/backend", "multiAddress/mk", "multiAddress/mkw"]
        .map(|name| east.address("tcpListener", name))
        .into();
    for key in ["db", "h1", "dbtls"] {
        let entrance = rig.site.free_address();
        create(&mut at_west, "tcpListener", &format!("from {key}"), key, entrance);
        entrances.push(entrance);
    }
    for entrance in &entrances {
        rig::wait_until("the key is consumed", || rig.site.connect(*entrance).is_ok());
        for _ in 0..5 {
            Exchange::new(100_000, 100_000).run(&rig.site, *entrance).expect("it passes");
        }
    }
    for (exchanges, expected) in [(&workload, 5 * entrances.len() as u64), (&spare, 0)] {
        exchanges.tally.assert_no_faults();
        assert_eq!(exchanges.tally.completed(), expected);
    }
}

// === what listeners say of connections ===

/// A router with one listener for clients that is as these attributes say, and its address.
fn with_listener(rig: &Rig, router: Value, attributes: Value) -> (Router, SocketAddr) {
    let at = rig.site.free_address();
    let mut listener = json!({"name": "clients", "host": at.ip(), "port": at.port()});
    listener.as_object_mut().expect("attributes").extend(attributes.as_object().expect("attributes").clone());
    let profile = rig.certificates.profile("a", &[at.ip()]);
    let entities = json!([["router", router], profile, ["listener", listener]]);
    (Router::start_as_configured(&rig.site, rig.folder.path(), "a", &entities), at)
}

#[test]
fn sessions_credit_and_properties_of_connections_are_as_configured() {
    let rig = Rig::new();
    let attributes = json!({
        "maxSessions": 3, "linkCapacity": 7, "openProperties": {"color": "blue", "size": 3}, "maxFrameSize": 2048,
    });
    let (router, at) = with_listener(&rig, json!({"id": "a", "mode": "interior"}), attributes);
    let mut peer = Speaker::anonymous(&rig.site, at);
    let open = peer.open();
    assert_eq!((open.channel_max, open.max_frame_size), (2, 2048));
    assert_eq!(open.property("color"), Some(&amqp::Value::String("blue".into())));
    assert_eq!(open.property("size"), Some(&amqp::Value::Long(3)));
    let link = peer.sender(Some("$management"));
    assert_eq!(peer.credit(link), 7);
    assert!(!router.log().contains("no effect"), "{}", router.log());
}

#[test]
fn a_listener_with_certificates_takes_clear_amqp_unless_tls_is_required() {
    let rig = Rig::new();
    let router = || json!({"id": "a", "mode": "interior"});
    for requires_tls in [false, true] {
        let (_router, at) = with_listener(
            &rig,
            router(),
            json!({
                "sslProfile": PROFILE, "requireSsl": requires_tls, "saslMechanisms": "EXTERNAL ANONYMOUS",
            }),
        );
        Client::certified(&rig.site, at, &rig.certificates.credentials("client", &[])).query("router");
        if requires_tls {
            let mut clear = rig.site.connect(at).expect("it listens");
            clear.write_all(b"AMQP\x03\x01\x00\x00").expect("it listens");
            let mut heard = Vec::new();
            // In order, or with a reset.
            let _ = clear.read_to_end(&mut heard);
            assert!(!heard.starts_with(b"AMQP"), "{heard:?}");
        } else {
            Client::anonymous(&rig.site, at).query("router");
        }
    }
}

#[test]
fn a_peer_that_does_not_open_in_the_time_configured_is_left() {
    let rig = Rig::new();
    let (router, at) =
        with_listener(&rig, json!({"id": "a", "mode": "interior"}), json!({"initialHandshakeTimeoutSeconds": 1}));
    let mut silent = rig.site.connect(at).expect("it listens");
    silent.read_to_end(&mut Vec::new()).expect("it leaves in order");
    rig::wait_until("it is told", || router.log().contains("has not opened within 1 s"));
}

#[test]
fn a_standalone_router_serves_clients_and_workloads() {
    let rig = Rig::new();
    let workload = Exchanges::start(&rig.site);
    let (_router, at) = with_listener(&rig, json!({"id": "a"}), json!({}));
    let mut client = Client::anonymous(&rig.site, at);
    assert_eq!(client.query("router").column("mode"), [&amqp::Value::String("standalone".into())]);
    consume(&mut client, "work", workload.address());
    let entrance = rig.site.free_address();
    create(&mut client, "tcpListener", "work", "work", entrance);
    rig::wait_until("the key is consumed", || rig.site.connect(entrance).is_ok());
    Exchange::new(1_000, 1_000).run(&rig.site, entrance).expect("it passes");
}

#[test]
fn a_listener_that_cannot_accept_for_want_of_descriptors_says_so_until_it_can() {
    let rig = Rig::new();
    let workload = Exchanges::start(&rig.site);
    let (router, at) = with_listener(&rig, json!({"id": "a"}), json!({}));
    let mut client = Client::anonymous(&rig.site, at);
    consume(&mut client, "work", workload.address());
    let entrance = rig.site.free_address();
    create(&mut client, "tcpListener", "work", "work", entrance);
    rig::wait_until("the port is open", || rig.site.has_listener(entrance.port()));
    let mut message = || shown(client.query("tcpListener").column("connectionMsg")[0]);
    let before = router.limit_descriptors(Rlimit { current: Some(0), ..getrlimit(Resource::Nofile) });
    let waiting = rig.site.connect(entrance).expect("the kernel takes it in");
    rig::wait_until("it says so", || message().starts_with("cannot accept connections: Too many open files"));
    router.limit_descriptors(before);
    rig::wait_until("it says nothing", || message().is_empty());
    drop(waiting);
    Exchange::new(1_000, 1_000).run(&rig.site, entrance).expect("it passes");
}
