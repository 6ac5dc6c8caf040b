//! Routers that are changed while they run.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use van_adaptors::{
    CredentialsSource, Entities, Entity, EntityError, EntityKind, Options, Router, States, TlsProfile, TlsTerms,
};
use van_core::management::config::{self, Access, Amqp, Configuration, PasswordSource, Role, Service};
use van_core::router::Place;
use van_routing::{Cost, RouterId};
use van_tls::{Authority, AuthorityRequest, Credentials, KeyKind, LeafRequest, Usage};

const HOST: &str = "127.0.0.1";

/// Nothing here takes as long.
const PATIENCE: Duration = Duration::from_secs(20);

const DAY: Duration = Duration::from_secs(24 * 3600);

fn start(id: &str) -> Router {
    let router = r#""mode": "interior", "workerThreads": 2, "dropTcpConnections": false"#;
    let text = format!(r#"[["router", {{"id": "{id}", {router}}}]]"#);
    let configuration = Configuration::parse(&text, |_| None).expect("valid");
    let options = Options { flow_id: Some("abcde".into()), ..Options::default() };
    Router::start(configuration, &options).expect("it starts")
}

// === entities ===

fn tcp_listener(name: &str, port: u16, key: &str) -> Entity {
    let (name, host, address) = (name.into(), HOST.into(), key.into());
    Entity::TcpListener(config::TcpListener { name, host, port, address, ..config::TcpListener::default() })
}

fn tcp_connector(name: &str, port: u16, key: &str) -> Entity {
    Entity::TcpConnector(config::TcpConnector::new(name, HOST, port, key))
}

fn link_to(port: u16, tls_profile: Option<&str>) -> config::Connector {
    config::Connector {
        amqp: Amqp { tls_profile: tls_profile.map(str::to_owned), ..Amqp::new(Role::InterRouter) },
        data_connections: Some(1),
        ..config::Connector::new("uplink", HOST, port, Role::InterRouter)
    }
}

fn link(port: u16) -> Entity {
    Entity::Connector(link_to(port, None))
}

fn access_at(port: u16, cost: u32, tls_profile: Option<&str>) -> Entity {
    let (cost, requires_authentication) = (Cost::new(cost).expect("a cost"), tls_profile.is_some());
    let amqp = Amqp { cost, tls_profile: tls_profile.map(str::to_owned), ..Amqp::new(Role::InterRouter) };
    let service = Service::Amqp(Access { amqp, requires_authentication, ..Access::default() });
    Entity::Listener(config::Listener { name: "access".into(), host: HOST.into(), port, family: None, service })
}

fn access() -> Entity {
    access_at(0, 1, None)
}

// === looking ===

/// Waits until the states are as they should be.
async fn until(entities: &Entities, what: &str, is_so: impl FnMut(&Arc<States>) -> bool) -> Arc<States> {
    let mut states = entities.states();
    let seen = tokio::time::timeout(PATIENCE, states.wait_for(is_so)).await;
    match seen {
        Ok(seen) => Arc::clone(&seen.expect("the router runs")),
        Err(_) => panic!("{what}: not within {PATIENCE:?}; {:#?}", entities.states().borrow()),
    }
}

fn now(entities: &Entities) -> Arc<States> {
    Arc::clone(&entities.states().borrow())
}

async fn until_open(entities: &Entities, listener: &str) -> u16 {
    let states = until(entities, "open", |states| states.tcp_listeners[listener].is_open).await;
    states.tcp_listeners[listener].port
}

async fn until_up(entities: &Entities) -> Arc<States> {
    until(entities, "up", |states| states.links["uplink"].is_up).await
}

async fn create(entities: &Entities, entity: Entity) {
    entities.create(entity).await.expect("it can be created");
}

async fn update(entities: &Entities, entity: Entity) {
    entities.update(entity).await.expect("it can be updated");
}

async fn delete(entities: &Entities, kind: EntityKind, name: &str) {
    entities.delete(kind, name).await.expect("it can be deleted");
}

// === workloads and clients ===

/// A workload that greets with a letter, then echoes.
async fn workload(greeting: u8) -> u16 {
    let socket = TcpListener::bind((HOST, 0)).await.expect("a port is free");
    let port = socket.local_addr().expect("it listens").port();
    tokio::spawn(async move {
        loop {
            let Ok((mut client, _)) = socket.accept().await else { return };
            tokio::spawn(async move {
                client.write_all(&[greeting]).await?;
                let (mut read, mut write) = client.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    port
}

/// A client that a workload has greeted.
struct Client(TcpStream);

impl Client {
    async fn connect(port: u16) -> Self {
        Self(TcpStream::connect((HOST, port)).await.expect("the listener is open"))
    }

    /// The letter of its workload.
    async fn greeted(&mut self) -> u8 {
        tokio::time::timeout(PATIENCE, self.0.read_u8()).await.expect("in time").expect("greeted")
    }

    async fn greeted_by(port: u16, greeting: u8) -> Self {
        let mut client = Self::connect(port).await;
        assert_eq!(client.greeted().await, greeting);
        client
    }

    /// One octet to and fro.
    async fn check_trickle(&mut self) {
        self.0.write_all(b"x").await.expect("written");
        assert_eq!(self.greeted().await, b'x');
    }

    async fn check_echo(&mut self) {
        let sent: Vec<u8> = (0..100_000_u32).map(|number| number as u8).collect();
        let mut received = vec![0; sent.len()];
        let (mut read, mut write) = self.0.split();
        let both = async { tokio::join!(write.write_all(&sent), read.read_exact(&mut received)) };
        let (written, read) = tokio::time::timeout(PATIENCE, both).await.expect("in time");
        written.expect("written");
        read.expect("read");
        assert_eq!(sent, received);
    }
}

async fn is_refused(port: u16) -> bool {
    TcpStream::connect((HOST, port)).await.is_err()
}

/// A router with one listener to one workload, and the listener's port.
async fn served(greeting: u8) -> (Router, Entities, u16) {
    let router = start("a");
    let entities = router.entities();
    create(&entities, tcp_connector("workload", workload(greeting).await, "key")).await;
    create(&entities, tcp_listener("clients", 0, "key")).await;
    let port = until_open(&entities, "clients").await;
    (router, entities, port)
}

// === streams ===

#[tokio::test]
async fn a_stream_flows_on_whatever_changes_around_it() {
    let (_router, entities, port) = served(b'a').await;
    let mut client = Client::greeted_by(port, b'a').await;
    let other = workload(b'b').await;

    create(&entities, tcp_connector("other", other, "other")).await;
    client.check_echo().await;
    create(&entities, tcp_listener("others", 0, "other")).await;
    let other_port = until_open(&entities, "others").await;
    Client::greeted_by(other_port, b'b').await.check_echo().await;
    client.check_echo().await;
    update(&entities, tcp_connector("other", other, "another")).await;
    update(&entities, tcp_listener("others", 0, "another")).await;
    assert_eq!(until_open(&entities, "others").await, other_port);
    Client::greeted_by(other_port, b'b').await.check_echo().await;
    create(&entities, access()).await;
    create(&entities, link(1)).await;
    client.check_echo().await;
    delete(&entities, EntityKind::TcpListener, "others").await;
    delete(&entities, EntityKind::TcpConnector, "other").await;
    delete(&entities, EntityKind::Connector, "uplink").await;
    delete(&entities, EntityKind::Listener, "access").await;
    client.check_echo().await;
    update(&entities, tcp_connector("workload", other, "key")).await;
    client.check_echo().await;
    delete(&entities, EntityKind::TcpConnector, "workload").await;
    until(&entities, "closed", |states| !states.tcp_listeners["clients"].is_open).await;
    delete(&entities, EntityKind::TcpListener, "clients").await;
    client.check_echo().await;
}

#[tokio::test]
async fn a_deleted_listener_takes_no_more_clients_and_its_port_is_free_at_once() {
    let (_router, entities, port) = served(b'a').await;
    let mut client = Client::greeted_by(port, b'a').await;
    for _ in 0..20 {
        delete(&entities, EntityKind::TcpListener, "clients").await;
        assert!(is_refused(port).await);
        create(&entities, tcp_listener("clients", port, "key")).await;
        assert_eq!(until_open(&entities, "clients").await, port);
    }
    Client::greeted_by(port, b'a').await.check_echo().await;
    client.check_echo().await;
}

#[tokio::test]
async fn a_listener_serves_another_routing_key_without_losing_its_port() {
    let (_router, entities, port) = served(b'a').await;
    let mut client = Client::greeted_by(port, b'a').await;
    create(&entities, tcp_connector("other", workload(b'b').await, "other")).await;
    for (key, greeting) in [("other", b'b'), ("key", b'a'), ("other", b'b')] {
        let update = entities.update(tcp_listener("clients", port, key));
        let dialling = async {
            for _ in 0..50 {
                Client::connect(port).await;
            }
        };
        tokio::join!(async { update.await.expect("updated") }, dialling);
        Client::greeted_by(port, greeting).await;
    }
    client.check_echo().await;
    update(&entities, tcp_listener("clients", port, "nobody's")).await;
    assert!(!now(&entities).tcp_listeners["clients"].is_open);
    assert!(is_refused(port).await);
    client.check_echo().await;
}

#[tokio::test]
async fn a_connector_sends_new_streams_to_its_new_place() {
    let (_router, entities, port) = served(b'a').await;
    let mut client = Client::greeted_by(port, b'a').await;
    update(&entities, tcp_connector("workload", workload(b'b').await, "key")).await;
    Client::greeted_by(port, b'b').await;
    client.check_echo().await;
    let traffic = now(&entities).tcp_connectors["workload"].traffic.clone();
    assert_eq!((traffic.totals().opened, traffic.last_error()), (2, None));
    assert_eq!(now(&entities).tcp_listeners["clients"].traffic.totals().opened, 2);
    // A port that nobody listens on any more.
    let closed = TcpListener::bind((HOST, 0)).await.expect("a port is free").local_addr().expect("bound").port();
    update(&entities, tcp_connector("workload", closed, "key")).await;
    // The reset may come before the client knows that it is connected.
    if let Ok(mut refused) = TcpStream::connect((HOST, port)).await {
        assert!(refused.read_u8().await.is_err());
    }
    assert!(traffic.last_error().is_some_and(|error| error.contains("refused")), "{traffic:?}");
}

#[tokio::test]
async fn a_connector_of_another_key_takes_no_clients_of_the_old_one_along() {
    let (_router, entities, port) = served(b'a').await;
    let mut client = Client::greeted_by(port, b'a').await;
    let other = workload(b'b').await;
    create(&entities, tcp_listener("others", 0, "other")).await;
    let dialling = async {
        for _ in 0..100 {
            // They may be refused or reset.
            let Ok(mut client) = TcpStream::connect((HOST, port)).await else { continue };
            assert_ne!(client.read_u8().await.ok(), Some(b'b'));
        }
    };
    tokio::join!(dialling, update(&entities, tcp_connector("workload", other, "other")));
    Client::greeted_by(until_open(&entities, "others").await, b'b').await.check_echo().await;
    until(&entities, "closed", |states| !states.tcp_listeners["clients"].is_open).await;
    client.check_echo().await;
}

#[tokio::test]
async fn many_listeners_close_together() {
    let router = start("a");
    let entities = router.entities();
    let names: Vec<_> = (0..30).map(|number| format!("l{number}")).collect();
    create(&entities, tcp_connector("workload", workload(b'a').await, "key")).await;
    let mut ports = Vec::new();
    for name in &names {
        create(&entities, tcp_listener(name, 0, "key")).await;
        ports.push(until_open(&entities, name).await);
    }
    delete(&entities, EntityKind::TcpConnector, "workload").await;
    for port in &ports {
        assert!(is_refused(*port).await);
    }
    create(&entities, tcp_connector("workload", workload(b'b').await, "key")).await;
    for (name, port) in names.iter().zip(ports) {
        assert_eq!(until_open(&entities, name).await, port);
        Client::greeted_by(port, b'b').await;
    }
}

#[tokio::test]
async fn a_listener_moves_or_stays_where_it_is() {
    let (_router, entities, port) = served(b'a').await;
    let taken = TcpListener::bind((HOST, 0)).await.expect("a port is free");
    let taken_port = taken.local_addr().expect("bound").port();
    let error = entities.update(tcp_listener("clients", taken_port, "key")).await.expect_err("in use");
    assert!(matches!(error, EntityError::Listen { .. }), "{error}");
    Client::greeted_by(port, b'a').await;
    drop(taken);
    update(&entities, tcp_listener("clients", taken_port, "key")).await;
    assert_eq!(until_open(&entities, "clients").await, taken_port);
    assert!(is_refused(port).await);
    Client::greeted_by(taken_port, b'a').await;
    // All interfaces: its own socket is in the way of that.
    let everywhere = Entity::TcpListener(config::TcpListener {
        name: "clients".into(),
        host: String::new(),
        port: taken_port,
        address: "key".into(),
        backlog: Some(7),
        ..config::TcpListener::default()
    });
    update(&entities, everywhere).await;
    Client::greeted_by(taken_port, b'a').await;
}

// === users ===

#[tokio::test]
async fn a_user_with_a_wrong_password_and_a_stranger_are_refused_alike() {
    let folder = tempfile::tempdir().expect("a folder");
    let users = folder.path().join("users");
    let hash = van_adaptors::hash_password("sesame").expect("a hash");
    std::fs::write(&users, format!("alice:{hash}\n")).expect("written");
    let (east, west) = (start("east"), start("west"));
    let (east_entities, west_entities) = (east.entities(), west.entities());
    let listener = |users: &std::path::Path| {
        let access = Access {
            requires_authentication: true,
            users_file: Some(users.display().to_string()),
            ..Access::default()
        };
        let (name, host, service) = ("access".into(), HOST.into(), Service::Amqp(access));
        Entity::Listener(config::Listener { name, host, port: 0, family: None, service })
    };
    let error = east_entities.create(listener(folder.path())).await.expect_err("a folder").to_string();
    assert!(error.starts_with("listener \"access\": saslUsersFile: cannot read "), "{error}");
    create(&east_entities, listener(&users)).await;
    let port = now(&east_entities).accesses["access"].port;
    let client = |user: &str, password: &str| {
        Entity::Connector(config::Connector {
            sasl_username: Some(user.into()),
            sasl_password: Some(PasswordSource::Text(password.into())),
            ..config::Connector::new("uplink", HOST, port, Role::Normal)
        })
    };
    create(&west_entities, client("alice", "sesame")).await;
    until_up(&west_entities).await;
    let mut errors = Vec::new();
    for (user, password) in [("alice", "Sesame"), ("bob", "sesame")] {
        west_entities.delete(EntityKind::Connector, "uplink").await.expect("it is there");
        create(&west_entities, client(user, password)).await;
        let states = until(&west_entities, "refused", |states| states.links["uplink"].last_error.is_some()).await;
        errors.extend(states.links["uplink"].last_error.clone());
    }
    assert!(errors[0] == errors[1] && errors[0].contains("authentication refused"), "{errors:?}");
}

// === ports ===

#[tokio::test]
async fn a_port_of_another_program_is_told_and_can_be_had_later() {
    let router = start("a");
    let entities = router.entities();
    let taken = TcpListener::bind((HOST, 0)).await.expect("a port is free");
    let port = taken.local_addr().expect("bound").port();
    let error = entities.create(tcp_listener("clients", port, "key")).await.expect_err("in use").to_string();
    let expected = format!("tcpListener \"clients\": cannot listen on {HOST}:{port}; another program");
    assert!(error.starts_with(&expected), "{error}");
    assert!(now(&entities).tcp_listeners.is_empty());
    let error = entities.create(access_at(port, 1, None)).await.expect_err("in use").to_string();
    assert!(error.starts_with("listener \"access\": cannot listen on"), "{error}");
    drop(taken);
    create(&entities, tcp_listener("clients", port, "key")).await;

    // Nobody consumes the key, so the port is not open and another program takes it.
    let taken = TcpListener::bind((HOST, port)).await.expect("not open yet");
    create(&entities, tcp_connector("workload", workload(b'a').await, "key")).await;
    let states = until(&entities, "an error", |states| states.tcp_listeners["clients"].error.is_some()).await;
    assert!(!states.tcp_listeners["clients"].is_open);
    drop(taken);
    until_open(&entities, "clients").await;
    assert_eq!(now(&entities).tcp_listeners["clients"].error, None);
    Client::greeted_by(port, b'a').await;
}

#[tokio::test]
async fn port_0_becomes_one_that_stays() {
    let (_router, entities, port) = served(b'a').await;
    delete(&entities, EntityKind::TcpConnector, "workload").await;
    until(&entities, "closed", |states| !states.tcp_listeners["clients"].is_open).await;
    create(&entities, tcp_connector("workload", workload(b'b').await, "key")).await;
    assert_eq!(until_open(&entities, "clients").await, port);
    Client::greeted_by(port, b'b').await;

    // All addresses have the same one.
    let http = |has_metrics| {
        let access = Access::default();
        let service = Service::Http { has_health: true, has_metrics, has_websockets: false, root_dir: None, access };
        let (name, host) = ("http".into(), String::new());
        Entity::Listener(config::Listener { name, host, port: 0, family: None, service })
    };
    create(&entities, http(true)).await;
    let port = now(&entities).http_listeners["http"].port;
    for has_metrics in [true, false] {
        update(&entities, http(has_metrics)).await;
        assert_eq!(now(&entities).http_listeners["http"].port, port);
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("it is open");
        client.write_all(b"GET /metrics HTTP/1.1\r\nconnection: close\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("answered");
        assert_eq!(answer.starts_with("HTTP/1.1 200"), has_metrics, "{answer}");
    }
}

#[tokio::test]
async fn a_router_that_cannot_start_leaves_nothing_open() {
    let free = TcpListener::bind((HOST, 0)).await.expect("a port is free").local_addr().expect("bound").port();
    let taken = TcpListener::bind((HOST, 0)).await.expect("a port is free");
    let taken_port = taken.local_addr().expect("bound").port();
    let text = format!(
        r#"[["router", {{"id": "a", "mode": "interior"}}],
            ["listener", {{"role": "inter-router", "host": "{HOST}", "port": {free}}}],
            ["tcpListener", {{"name": "clients", "host": "{HOST}", "port": {taken_port}, "address": "key"}}]]"#
    );
    let configuration = Configuration::parse(&text, |_| None).expect("valid");
    let error = Router::start(configuration, &Options::default()).expect_err("in use").to_string();
    assert!(error.starts_with("tcpListener \"clients\": cannot listen on"), "{error}");
    TcpListener::bind((HOST, free)).await.expect("free again");
}

// === links ===

#[tokio::test]
async fn a_link_is_deleted_made_anew_and_changed() {
    let (east, west) = (start("east"), start("west"));
    let (east_entities, west_entities) = (east.entities(), west.entities());
    create(&east_entities, access()).await;
    let (port, identity) = {
        let access = &now(&east_entities).accesses["access"];
        (access.port, access.identity.clone())
    };
    assert_eq!(identity, "abcde:1");
    for _ in 0..3 {
        create(&west_entities, link(port)).await;
        let states = until_up(&west_entities).await;
        let link = &states.links["uplink"];
        assert_eq!((link.peer.as_deref(), link.peer_access.as_ref()), (Some("east"), Some(&identity)));
        assert_eq!((link.down_count, &link.last_error, link.ordinal), (0, &None, None));
        until(&east_entities, "one link", |states| states.accesses["access"].links == 1).await;
        delete(&west_entities, EntityKind::Connector, "uplink").await;
        assert!(now(&west_entities).links.is_empty());
        until(&east_entities, "no link", |states| states.accesses["access"].links == 0).await;
    }
    create(&west_entities, link(port)).await;
    until_up(&west_entities).await;
    // The same again changes nothing.
    update(&west_entities, link(port)).await;
    assert!(now(&west_entities).links["uplink"].is_up);
    let dearer = link_to(port, None);
    let amqp = Amqp { cost: Cost::new(5).expect("a cost"), ..dearer.amqp };
    let dearer = config::Connector { amqp, ..dearer };
    update(&west_entities, Entity::Connector(dearer)).await;
    assert_eq!(now(&west_entities).links["uplink"].down_count, 1);
    assert_eq!(until_up(&west_entities).await.links["uplink"].cost, 5);
    until(&east_entities, "one link", |states| states.accesses["access"].links == 1).await;
}

#[tokio::test]
async fn an_access_that_is_changed_or_deleted_closes_its_links() {
    let (east, west) = (start("east"), start("west"));
    let (east_entities, west_entities) = (east.entities(), west.entities());
    create(&east_entities, access()).await;
    let port = now(&east_entities).accesses["access"].port;
    create(&west_entities, link(port)).await;
    until_up(&west_entities).await;
    update(&east_entities, access_at(0, 3, None)).await;
    assert_eq!(now(&east_entities).accesses["access"].port, port);
    let states = until(&west_entities, "down once", |states| states.links["uplink"].down_count == 1).await;
    let error = states.links["uplink"].last_error.clone().unwrap_or_default();
    assert!(error.contains("amqp:connection:forced") && error.contains("the listener was changed"), "{error}");
    until_up(&west_entities).await;

    delete(&east_entities, EntityKind::Listener, "access").await;
    assert!(is_refused(port).await);
    let states = until(&west_entities, "refused", |states| {
        states.links["uplink"].last_error.as_ref().is_some_and(|error| error.contains("refused"))
    });
    let link = &states.await.links["uplink"];
    assert!(!link.is_up && link.down_count == 2 && link.down_since >= link.up_since, "{link:?}");
    create(&east_entities, access_at(port, 1, None)).await;
    until_up(&west_entities).await;
}

#[tokio::test]
async fn an_access_that_cannot_move_keeps_its_links_and_counts_them() {
    let (east, west) = (start("east"), start("west"));
    let (east_entities, west_entities) = (east.entities(), west.entities());
    create(&east_entities, access()).await;
    let port = now(&east_entities).accesses["access"].port;
    create(&west_entities, link(port)).await;
    until(&east_entities, "one link", |states| states.accesses["access"].links == 1).await;
    let in_the_way = TcpListener::bind(("127.0.0.2", port)).await.expect("free there too");
    let Entity::Listener(everywhere) = access_at(port, 1, None) else { unreachable!() };
    let everywhere = config::Listener { host: "0.0.0.0".into(), ..everywhere };
    let error = east_entities.update(Entity::Listener(everywhere)).await.expect_err("in use").to_string();
    assert!(error.contains("cannot listen on 0.0.0.0"), "{error}");
    assert_eq!((now(&east_entities).accesses["access"].links, now(&west_entities).links["uplink"].down_count), (1, 0));
    delete(&west_entities, EntityKind::Connector, "uplink").await;
    until(&east_entities, "no link", |states| states.accesses["access"].links == 0).await;
    create(&west_entities, link(port)).await;
    until(&east_entities, "one link", |states| states.accesses["access"].links == 1).await;
    drop(in_the_way);
}

#[tokio::test]
async fn a_listener_across_a_link_opens_and_closes_with_it() {
    let (east, west) = (start("east"), start("west"));
    let (east_entities, west_entities) = (east.entities(), west.entities());
    create(&east_entities, access()).await;
    create(&east_entities, tcp_connector("workload", workload(b'a').await, "key")).await;
    create(&west_entities, link(now(&east_entities).accesses["access"].port)).await;
    create(&west_entities, tcp_listener("clients", 0, "key")).await;
    let port = until_open(&west_entities, "clients").await;
    let mut client = Client::greeted_by(port, b'a').await;
    client.check_echo().await;
    delete(&west_entities, EntityKind::Connector, "uplink").await;
    assert!(client.0.read_u8().await.is_err());
    until(&west_entities, "closed", |states| !states.tcp_listeners["clients"].is_open).await;
}

#[tokio::test]
async fn connections_can_be_closed_but_for_those_that_stand_for_a_link() {
    let (east, mut west) = (start("east"), start("west"));
    let (east_entities, west_entities) = (east.entities(), west.entities());
    create(&east_entities, access()).await;
    create(&west_entities, link(now(&east_entities).accesses["access"].port)).await;
    let id = RouterId::new("east").expect("an id");
    while west.routes().table.route(&id).is_none() {
        west.routes_changed().await;
    }
    let error = west_entities.close_connection(1).await.expect_err("it stands for the link").to_string();
    assert_eq!(error, "connection 1 stands for a link; delete the link's connector instead, or raise its cost");
    let error = west_entities.close_connection(1000).await.expect_err("unknown").to_string();
    assert_eq!(error, "there is no connection 1000");
    // A data connection, which is dialled again.
    for number in [2, 3] {
        while west_entities.close_connection(number).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
    let link = &now(&west_entities).links["uplink"];
    assert!(link.is_up && link.down_count == 0, "{link:?}");
}

/// A listener tells where else to go; whoever it told goes there when it is gone, and back again.
#[tokio::test]
async fn a_link_goes_on_to_where_the_lost_router_said() {
    let [east, north, west] = ["east", "north", "west"].map(start);
    let [east_entities, north_entities, west_entities] = [&east, &north, &west].map(Router::entities);
    create(&north_entities, access()).await;
    let other = now(&north_entities).accesses["access"].port;
    let telling = |port, places: &[u16]| {
        let Entity::Listener(mut listener) = access_at(port, 1, None) else { unreachable!() };
        let Service::Amqp(access) = &mut listener.service else { unreachable!() };
        let place = |port: &u16| Place { scheme: Some("amqp".into()), host: HOST.into(), port: *port };
        access.amqp.failover = places.iter().map(place).collect();
        Entity::Listener(listener)
    };
    create(&east_entities, telling(0, &[other])).await;
    let port = now(&east_entities).accesses["access"].port;
    create(&west_entities, link(port)).await;
    let urls = |ports: &[u16]| ports.iter().map(|port| format!("amqp://{HOST}:{port}")).collect::<Vec<_>>();
    assert_eq!(now(&west_entities).links["uplink"].failover_urls, urls(&[port]));
    assert_eq!(until_up(&west_entities).await.links["uplink"].failover_urls, urls(&[port, other]));

    delete(&east_entities, EntityKind::Listener, "access").await;
    let is_at = |states: &Arc<States>, router: &str| {
        let link = &states.links["uplink"];
        link.is_up && link.peer.as_deref() == Some(router)
    };
    let states = until(&west_entities, "at the other", |states| is_at(states, "north")).await;
    assert_eq!(states.links["uplink"].failover_urls, urls(&[other, port]));
    create(&east_entities, telling(port, &[])).await;
    delete(&north_entities, EntityKind::Listener, "access").await;
    until(&west_entities, "back again", |states| is_at(states, "east")).await;
}

// === certificates ===

fn authority() -> Authority {
    let (common_name, key, now) = ("test".into(), KeyKind::EcdsaP256, SystemTime::now() - 10 * DAY);
    Authority::create(&AuthorityRequest { common_name, key, now, valid_for: 20 * DAY }).expect("made")
}

fn issue(authority: &Authority, now: SystemTime) -> Credentials {
    let (common_name, hosts, usage, key) = ("test".into(), vec![HOST.into()], Usage::Both, KeyKind::EcdsaP256);
    authority.issue(&LeafRequest { common_name, hosts, usage, key, now, valid_for: DAY }).expect("issued")
}

fn profile(credentials: Credentials, ordinal: u64) -> Entity {
    let credentials = CredentialsSource::Memory(credentials.into());
    Entity::TlsProfile(TlsProfile {
        name: "links".into(),
        credentials,
        ordinal,
        oldest_valid_ordinal: 0,
        terms: TlsTerms::default(),
    })
}

/// Two routers with certificates of the first generation, and the port at which the first accepts links.
async fn with_certificates(authority: &Authority) -> (Router, Router, u16) {
    let routers = ["east", "west"].map(start);
    for router in &routers {
        create(&router.entities(), profile(issue(authority, SystemTime::now()), 1)).await;
    }
    let [east, west] = routers;
    create(&east.entities(), access_at(0, 1, Some("links"))).await;
    let port = now(&east.entities()).accesses["access"].port;
    (east, west, port)
}

#[tokio::test]
async fn a_replaced_profile_counts_from_the_next_handshake_on() {
    let (east, west) = (start("east"), start("west"));
    let (east_entities, west_entities) = (east.entities(), west.entities());
    let (old, new, today) = (authority(), authority(), SystemTime::now());
    create(&east_entities, profile(issue(&old, today), 1)).await;
    create(&west_entities, profile(issue(&old, today), 1)).await;
    create(&east_entities, access_at(0, 1, Some("links"))).await;
    let port = now(&east_entities).accesses["access"].port;
    create(&west_entities, Entity::Connector(link_to(port, Some("links")))).await;
    assert_eq!(until_up(&west_entities).await.links["uplink"].ordinal, Some(1));

    update(&east_entities, profile(issue(&new, today), 2)).await;
    assert_eq!(now(&east_entities).accesses["access"].ordinal, Some(2));
    assert!(now(&west_entities).links["uplink"].is_up);
    // A handshake between old and new comes to nothing.
    delete(&west_entities, EntityKind::Connector, "uplink").await;
    create(&west_entities, Entity::Connector(link_to(port, Some("links")))).await;
    let states = until(&west_entities, "an error", |states| states.links["uplink"].last_error.is_some()).await;
    let link = &states.links["uplink"];
    assert!(!link.is_up && link.down_count == 1 && link.up_since.is_none(), "{link:?}");
    assert!(link.last_error.as_ref().is_some_and(|error| error.contains("TLS: ")), "{link:?}");
    update(&west_entities, profile(issue(&new, today), 2)).await;
    assert_eq!(until_up(&west_entities).await.links["uplink"].ordinal, Some(2));
    until(&east_entities, "one link", |states| states.accesses["access"].links == 1).await;
}

/// Waits until so many TCP connections have a port of this machine.
async fn until_connections(port: u16, what: &str, count: usize) {
    let connections = || {
        // Source: Linux, Documentation/networking/proc_net_tcp.rst; state 1 is ESTABLISHED.
        let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux tells");
        let local = format!(":{port:04X}");
        let fields = table.lines().map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>());
        fields.filter(|fields| fields[0].ends_with(&local) && fields[2] == "01").count()
    };
    let end = Instant::now() + PATIENCE;
    while connections() != count {
        assert!(Instant::now() < end, "{what}: {} connections and not {count}", connections());
        // The system tells nobody of a connection's end.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Streams that are open before, while and after certificates are replaced by those of another authority. Only who shows
/// one of the new ones gets in at the end, so the link has done so.
#[tokio::test]
async fn certificates_are_rotated_under_200_streams_and_cut_none() {
    let (east, west) = (start("east"), start("west"));
    let (east_entities, west_entities) = (east.entities(), west.entities());
    let (old, new, today) = (authority(), authority(), SystemTime::now());
    for entities in [&east_entities, &west_entities] {
        create(entities, profile(issue(&old, today), 1)).await;
    }
    create(&east_entities, access_at(0, 1, Some("links"))).await;
    create(&east_entities, tcp_connector("workload", workload(b'a').await, "key")).await;
    let port = now(&east_entities).accesses["access"].port;
    let uplink = config::Connector { data_connections: Some(2), ..link_to(port, Some("links")) };
    create(&west_entities, Entity::Connector(uplink)).await;
    create(&west_entities, tcp_listener("clients", 0, "key")).await;
    let clients = until_open(&west_entities, "clients").await;
    let mut open = Vec::new();
    for _ in 0..200 {
        open.push(Client::greeted_by(clients, b'a').await);
    }
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut trickling = tokio::task::JoinSet::new();
    for mut client in open {
        let stopped = stopped.clone();
        trickling.spawn(async move {
            while !*stopped.borrow() {
                client.check_trickle().await;
            }
            client
        });
    }

    update(&east_entities, profile(issue(&new, today), 2)).await;
    update(&west_entities, profile(issue(&new, today), 2)).await;
    until(&west_entities, "renewed", |states| states.links["uplink"].ordinal == Some(2)).await;
    let mut late = Client::greeted_by(clients, b'a').await;
    until(&east_entities, "one link", |states| states.accesses["access"].links == 1).await;
    until_connections(port, "all but the old control connection, which carries nothing", 5).await;
    stop.send_replace(true);
    let mut open = trickling.join_all().await;
    for client in open.iter_mut().chain([&mut late]) {
        client.check_trickle().await;
    }
    let link = &now(&west_entities).links["uplink"];
    assert!(link.is_up && link.down_count == 0, "{link:?}");

    // Those who run on connections of the old certificates have had their time.
    let Entity::TlsProfile(newest) = profile(issue(&new, today), 2) else { unreachable!() };
    update(&west_entities, Entity::TlsProfile(TlsProfile { oldest_valid_ordinal: 2, ..newest })).await;
    for mut client in open {
        let end = tokio::time::timeout(PATIENCE, client.0.read_u8()).await.expect("in time");
        assert!(end.is_err(), "an old connection is still there");
    }
    until_connections(port, "those of the new certificates", 3).await;
    late.check_echo().await;
    assert_eq!(now(&west_entities).links["uplink"].down_count, 0);
}

#[tokio::test]
async fn a_link_whose_certificates_have_had_their_time_comes_back_with_new_ones() {
    let (authority, today) = (authority(), SystemTime::now());
    let (east, west, port) = with_certificates(&authority).await;
    let (east_entities, west_entities) = (east.entities(), west.entities());
    create(&west_entities, Entity::Connector(link_to(port, Some("links")))).await;
    until_up(&west_entities).await;
    // It is the accepting end that will not have them any more; the other end knows nothing of new ones.
    let Entity::TlsProfile(newest) = profile(issue(&authority, today), 2) else { unreachable!() };
    update(&east_entities, Entity::TlsProfile(TlsProfile { oldest_valid_ordinal: 2, ..newest })).await;
    until(&west_entities, "down", |states| states.links["uplink"].down_count == 1).await;
    assert_eq!(until_up(&west_entities).await.links["uplink"].ordinal, Some(1), "a fresh handshake counts");
}

#[tokio::test]
async fn a_handshake_that_old_certificates_began_does_not_outlive_them() {
    let (authority, today) = (authority(), SystemTime::now());
    let (east, west, port) = with_certificates(&authority).await;
    let (east_entities, west_entities) = (east.entities(), west.entities());
    let between = TcpListener::bind((HOST, 0)).await.expect("a port is free");
    let port_between = between.local_addr().expect("it is bound").port();
    create(&west_entities, Entity::Connector(link_to(port_between, Some("links")))).await;
    let (mut dialled, _) = between.accept().await.expect("west dials");
    let mut accepted = TcpStream::connect((HOST, port)).await.expect("east listens");
    // East answers by its old certificates, and hears no more until they have had their time.
    let mut hello = vec![0; 16 * 1024];
    let count = dialled.read(&mut hello).await.expect("west speaks first");
    accepted.write_all(&hello[..count]).await.expect("east hears it");
    accepted.readable().await.expect("east answers");
    let Entity::TlsProfile(newest) = profile(issue(&authority, today), 2) else { unreachable!() };
    update(&east_entities, Entity::TlsProfile(TlsProfile { oldest_valid_ordinal: 2, ..newest })).await;
    let relayed = tokio::io::copy_bidirectional(&mut dialled, &mut accepted);
    let _ = tokio::time::timeout(PATIENCE, relayed).await.expect("east does not keep the connection");
    assert_eq!(now(&east_entities).accesses["access"].links, 0);
}

#[tokio::test]
async fn an_unusable_profile_of_the_configuration_is_an_error_once_it_is_used() {
    let text =
        r#"[["router", {"id": "a", "mode": "interior"}], ["sslProfile", {"name": "links", "caCertFile": "/none"}]]"#;
    let configuration = Configuration::parse(text, |_| None).expect("valid");
    let router = Router::start(configuration, &Options::default()).expect("nothing uses the profile");
    let entities = router.entities();
    let error = entities.create(access_at(0, 1, Some("links"))).await.expect_err("unusable").to_string();
    assert_eq!(error, "sslProfile \"links\": /none is absent");
    update(&entities, profile(issue(&authority(), SystemTime::now()), 0)).await;
    create(&entities, access_at(0, 1, Some("links"))).await;
}

#[tokio::test]
async fn a_profile_that_cannot_be_used_or_is_used_is_told() {
    let router = start("a");
    let entities = router.entities();
    let (authority, today) = (authority(), SystemTime::now());
    let error = entities.create(access_at(0, 1, Some("links"))).await.expect_err("no profile");
    assert_eq!(error.to_string(), "listener \"access\": there is no sslProfile named `links`; create it first");
    let expired = profile(issue(&authority, today - 3 * DAY), 0);
    let error = entities.create(expired.clone()).await.expect_err("expired").to_string();
    assert!(error.starts_with("sslProfile \"links\": ") && error.contains("expired at"), "{error}");
    create(&entities, profile(issue(&authority, today), 0)).await;
    create(&entities, access_at(0, 1, Some("links"))).await;
    entities.update(expired).await.expect_err("expired");
    let error = entities.delete(EntityKind::TlsProfile, "links").await.expect_err("in use");
    assert_eq!(error.to_string(), "sslProfile \"links\" is used by listener \"access\"; delete that first");
    delete(&entities, EntityKind::Listener, "access").await;
    delete(&entities, EntityKind::TlsProfile, "links").await;
}

// === what cannot be ===

#[tokio::test]
async fn what_exists_and_what_does_not_is_told() {
    let (router, entities, port) = served(b'a').await;
    let error = entities.create(tcp_listener("clients", 0, "key")).await.expect_err("exists");
    assert_eq!(error.to_string(), "tcpListener \"clients\" exists already; update it, or delete it first");
    let error = entities.update(tcp_connector("none", 1, "key")).await.expect_err("unknown");
    assert_eq!(error.to_string(), "there is no tcpConnector \"none\"");
    let error = entities.delete(EntityKind::Listener, "clients").await.expect_err("unknown");
    assert_eq!(error.to_string(), "there is no listener \"clients\"");
    let error = entities.create(tcp_listener("more", port, "key")).await.expect_err("taken");
    let place = format!("{HOST}:{port}");
    assert_eq!(
        error.to_string(),
        format!(
            "tcpListener \"more\": cannot listen on {place}; tcpListener \"clients\" is to listen on {place}: \
             change one of them"
        )
    );
    let identities: Vec<_> = {
        let states = now(&entities);
        [&states.tcp_connectors["workload"].identity, &states.tcp_listeners["clients"].identity]
            .map(String::clone)
            .into()
    };
    assert_eq!(identities, ["abcde:1", "abcde:2"]);
    assert_eq!(now(&entities).identity, "abcde:0");

    let mut client = Client::greeted_by(port, b'a').await;
    let stopping = tokio::spawn(router.shutdown(PATIENCE));
    until(&entities, "closed", |states| !states.tcp_listeners["clients"].is_open).await;
    let error = entities.create(tcp_connector("late", 1, "key")).await.expect_err("stopping");
    assert_eq!(error.to_string(), "the router is stopping");
    client.check_echo().await;
    drop(client);
    stopping.await.expect("it stops");
    for error in [
        entities.create(tcp_connector("late", 1, "key")).await.expect_err("stopped"),
        entities.delete(EntityKind::TcpListener, "clients").await.expect_err("stopped"),
    ] {
        assert!(matches!(error, EntityError::Stopping), "{error}");
    }
}
