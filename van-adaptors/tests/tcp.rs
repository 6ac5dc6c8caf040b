//! What tcpListeners and tcpConnectors can do besides carrying octets: several routing keys, TLS, counting, ending streams.

#[path = "dial/rig.rs"]
mod rig;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use van_adaptors::{
    CredentialsSource, Direction, Entities, Entity, EntityError, EntityKind, States, TlsProfile, TlsTerms, Totals,
};
use van_core::management::config::{self, Strategy};
use van_tls::{
    Authority, AuthorityRequest, Credentials, HostCheck, KeyKind, LeafRequest, ServiceAcceptor, ServiceConnector,
    ServiceStream, Usage,
};

use rig::{PATIENCE, Site, alone, linked, receive, send};

const HOST: &str = "localhost";

/// Longer than anything takes that moves at all.
const STANDSTILL: Duration = Duration::from_millis(500);

const DAY: Duration = Duration::from_secs(24 * 3600);

type Tls = ServiceStream<TcpStream>;

// === entities ===

fn listener(name: &str, key: &str) -> config::TcpListener {
    config::TcpListener { name: name.into(), host: HOST.into(), address: key.into(), ..config::TcpListener::default() }
}

fn address(name: &str, value: u32, listener: &str) -> Entity {
    let (name, address, listener) = (name.to_owned(), name.to_owned(), listener.to_owned());
    Entity::ListenerAddress(config::ListenerAddress { name, address, value, listener })
}

fn connector(name: &str, port: u16) -> config::TcpConnector {
    config::TcpConnector::new(name, HOST, port, name)
}

/// A connector that speaks TLS by the profile `workloads`.
fn tls_connector(name: &str, port: u16) -> Entity {
    Entity::TcpConnector(config::TcpConnector { tls_profile: Some("workloads".into()), ..connector(name, port) })
}

/// A listener that speaks TLS by the profile `clients`.
fn tls_listener(name: &str, key: &str) -> config::TcpListener {
    config::TcpListener { tls_profile: Some("clients".into()), ..listener(name, key) }
}

fn profile(name: &str, credentials: CredentialsSource) -> Entity {
    Entity::TlsProfile(TlsProfile {
        name: name.into(),
        credentials,
        ordinal: 0,
        oldest_valid_ordinal: 0,
        terms: TlsTerms::default(),
    })
}

async fn create(entities: &Entities, entity: Entity) {
    entities.create(entity).await.expect("it can be created");
}

async fn until(entities: &Entities, what: &str, is_so: impl FnMut(&Arc<States>) -> bool) -> Arc<States> {
    let mut states = entities.states();
    let seen = timeout(PATIENCE, states.wait_for(is_so)).await;
    Arc::clone(&seen.unwrap_or_else(|_| panic!("{what}: not in time")).expect("the router runs"))
}

async fn until_open(entities: &Entities, name: &str) -> u16 {
    until(entities, "open", |states| states.tcp_listeners[name].is_open).await.tcp_listeners[name].port
}

/// Waits for what no event tells.
async fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}: not in time"));
}

// === clients and workloads in clear ===

/// A workload that greets with a letter, then echoes.
async fn greeter(greeting: u8) -> u16 {
    let socket = TcpListener::bind((HOST, 0)).await.expect("a port is free");
    let port = socket.local_addr().expect("it listens").port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = socket.accept().await {
            tokio::spawn(async move {
                client.write_all(&[greeting]).await?;
                let (mut read, mut write) = client.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    port
}

async fn greeted(port: u16) -> (TcpStream, u8) {
    let mut client = TcpStream::connect((HOST, port)).await.expect("the listener is open");
    let greeting = timeout(PATIENCE, client.read_u8()).await.expect("in time").expect("greeted");
    (client, greeting)
}

// === several routing keys ===

#[tokio::test]
async fn clients_go_to_the_highest_priority_that_is_reachable() {
    let site = alone(&[]);
    let entities = site.router.entities();
    let door = config::TcpListener { strategy: Some(Strategy::Priority), ..listener("door", "") };
    create(&entities, Entity::TcpListener(door)).await;
    let (first, second) = (greeter(b'1').await, greeter(b'2').await);
    create(&entities, address("second", 1, "door")).await;
    create(&entities, address("first", 2, "door")).await;
    assert!(!entities.states().borrow().tcp_listeners["door"].is_open, "nobody is reachable");
    create(&entities, Entity::TcpConnector(connector("second", second))).await;
    let port = until_open(&entities, "door").await;
    let (mut lasting, greeting) = greeted(port).await;
    assert_eq!(greeting, b'2');
    create(&entities, Entity::TcpConnector(connector("first", first))).await;
    until(&entities, "reachable", |states| states.listener_addresses["first"].is_reachable).await;
    assert_eq!(greeted(port).await.1, b'1');
    // Of the same two, the other is higher now.
    entities.update(address("second", 3, "door")).await.expect("it can be updated");
    assert_eq!(greeted(port).await.1, b'2');
    entities.delete(EntityKind::ListenerAddress, "second").await.expect("it can be deleted");
    assert_eq!(greeted(port).await.1, b'1');
    let counted = entities.states().borrow().listener_addresses["first"].connections.value();
    assert_eq!(counted, 2);
    entities.delete(EntityKind::TcpConnector, "first").await.expect("it can be deleted");
    until(&entities, "closed", |states| !states.tcp_listeners["door"].is_open).await;
    // Who is connected stays, for `second` is still there.
    lasting.write_all(b"x").await.expect("it is open");
    assert_eq!(lasting.read_u8().await.expect("it is open"), b'x');
}

#[tokio::test]
async fn clients_spread_by_weight() {
    let site = alone(&[]);
    let entities = site.router.entities();
    let door = config::TcpListener { strategy: Some(Strategy::Weighted), ..listener("door", "") };
    create(&entities, Entity::TcpListener(door)).await;
    for (name, weight) in [("a", 1), ("b", 1), ("never", 0), ("absent", 1000)] {
        create(&entities, address(name, weight, "door")).await;
    }
    for name in ["a", "b", "never"] {
        create(&entities, Entity::TcpConnector(connector(name, greeter(name.as_bytes()[0]).await))).await;
    }
    until(&entities, "reachable", |states| {
        ["a", "b", "never"].iter().all(|name| states.listener_addresses[*name].is_reachable)
    })
    .await;
    let port = until_open(&entities, "door").await;
    let mut greetings = Vec::new();
    // That one of two is not among 64 happens once in 2^63 times.
    for _ in 0..64 {
        greetings.push(greeted(port).await.1);
    }
    greetings.sort_unstable();
    greetings.dedup();
    assert_eq!(greetings, b"ab");
}

#[tokio::test]
async fn a_listener_and_its_addresses_belong_together() {
    let site = alone(&[]);
    let entities = site.router.entities();
    let door = config::TcpListener { strategy: Some(Strategy::Weighted), ..listener("door", "") };
    create(&entities, Entity::TcpListener(door)).await;
    create(&entities, Entity::TcpListener(listener("single", "key"))).await;
    create(&entities, address("a", 1, "door")).await;
    let outcome = entities.create(address("b", 1, "nowhere")).await;
    assert!(matches!(outcome, Err(EntityError::NoListener { .. })), "{outcome:?}");
    let outcome = entities.create(address("b", 1, "single")).await;
    assert!(matches!(outcome, Err(EntityError::OneAddress { .. })), "{outcome:?}");
    for outcome in [
        entities.delete(EntityKind::TcpListener, "door").await,
        entities.update(Entity::TcpListener(listener("door", "key"))).await,
    ] {
        let error = outcome.expect_err("it has an address").to_string();
        assert_eq!(error, "tcpListener \"door\" is used by listenerAddress \"a\"; delete that first");
    }
    entities.delete(EntityKind::ListenerAddress, "a").await.expect("it can be deleted");
    entities.delete(EntityKind::TcpListener, "door").await.expect("nothing uses it any more");
}

// === TLS ===

/// A CA, and what it issued.
struct Certificates {
    authority: Authority,
    site: Credentials,
}

impl Certificates {
    fn new() -> Self {
        let (now, key) = (SystemTime::now(), KeyKind::EcdsaP256);
        let request = AuthorityRequest { common_name: "services".into(), key, now, valid_for: DAY };
        let authority = Authority::create(&request).expect("an authority can be made");
        let site = issue(&authority, HOST);
        Self { authority, site }
    }

    fn source(&self) -> CredentialsSource {
        CredentialsSource::Memory(self.site.clone().into())
    }

    /// The profiles of listeners and connectors.
    async fn install(&self, entities: &Entities) {
        create(entities, profile("clients", self.source())).await;
        create(entities, profile("workloads", CredentialsSource::Trust(self.site.trust.clone()))).await;
    }

    fn client(&self) -> ServiceConnector {
        ServiceConnector::new(&self.site.trust, None, HostCheck::Verify).expect("there are suites")
    }

    fn workload(&self, clients: bool) -> ServiceAcceptor {
        let clients = clients.then_some(&self.site.trust);
        ServiceAcceptor::new(&self.site.identity, clients, &["h2", "http/1.1"]).expect("there are suites")
    }
}

fn issue(authority: &Authority, host: &str) -> Credentials {
    let (now, key, hosts) = (SystemTime::now(), KeyKind::EcdsaP256, vec![host.to_owned()]);
    let leaf = LeafRequest { common_name: host.into(), hosts, usage: Usage::Both, key, now, valid_for: DAY };
    authority.issue(&leaf).expect("a certificate can be issued")
}

async fn dial(connector: &ServiceConnector, port: u16, protocol: Option<&str>) -> Tls {
    let socket = TcpStream::connect((HOST, port)).await.expect("the listener is open");
    let shaken = timeout(PATIENCE, connector.connect(HOST, protocol, SystemTime::now(), socket)).await;
    shaken.expect("in time").expect("hands are shaken")
}

async fn accept(socket: &TcpListener, acceptor: &ServiceAcceptor) -> Tls {
    let (client, _) = timeout(PATIENCE, socket.accept()).await.expect("in time").expect("a client");
    acceptor.accept(SystemTime::now(), client).await.expect("hands are shaken")
}

/// A workload behind the second router, or the only one, and clients at the first, all by TLS.
struct Secured {
    sites: Vec<Site>,
    socket: TcpListener,
    workload: ServiceAcceptor,
    client: ServiceConnector,
    port: u16,
}

impl Secured {
    async fn start(sites: Vec<Site>) -> Self {
        let certificates = Certificates::new();
        let socket = TcpListener::bind((HOST, 0)).await.expect("a port is free");
        let (near, far) = (sites[0].router.entities(), sites[sites.len() - 1].router.entities());
        certificates.install(&near).await;
        if sites.len() > 1 {
            certificates.install(&far).await;
        }
        create(&near, Entity::TcpListener(tls_listener("clients", "key"))).await;
        create(&far, tls_connector("key", socket.local_addr().expect("it listens").port())).await;
        let port = until_open(&near, "clients").await;
        Self { sites, socket, workload: certificates.workload(false), client: certificates.client(), port }
    }

    /// A stream, both its ends.
    async fn join(&self, protocol: Option<&str>) -> (Tls, Tls) {
        tokio::join!(dial(&self.client, self.port, protocol), accept(&self.socket, &self.workload))
    }

    async fn idle(&self) {
        for site in &self.sites {
            site.idle().await;
        }
    }
}

fn everywhere() -> [Vec<Site>; 2] {
    [vec![alone(&[])], linked(&[], &[]).into()]
}

#[tokio::test]
async fn both_ends_speak_tls_and_each_direction_ends_by_itself() {
    const OCTETS: usize = 3_000_000;
    for sites in everywhere() {
        let secured = Secured::start(sites).await;
        let (mut client, mut workload) = secured.join(None).await;
        // First one direction in full, its end included, then the other.
        tokio::join!(
            async { send(&mut client, 1, OCTETS).await.expect("it is open") },
            receive(&mut workload, 1, OCTETS)
        );
        tokio::join!(
            async { send(&mut workload, 2, OCTETS).await.expect("it is open") },
            receive(&mut client, 2, OCTETS)
        );
        secured.idle().await;
    }
}

#[tokio::test]
async fn a_workload_is_offered_exactly_the_protocol_of_the_client() {
    for sites in everywhere() {
        let secured = Secured::start(sites).await;
        for protocol in [Some("h2"), Some("http/1.1"), None] {
            let (client, workload) = secured.join(protocol).await;
            assert_eq!((client.protocol(), workload.protocol()), (protocol, protocol));
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_cut_off_below_tls_has_no_clean_end() {
    for sites in everywhere() {
        let secured = Secured::start(sites).await;
        for is_client_cut in [true, false] {
            let (client, workload) = secured.join(None).await;
            let (mut cut, mut left) = if is_client_cut { (client, workload) } else { (workload, client) };
            cut.write_all(b"half a sen").await.expect("it is open");
            cut.flush().await.expect("it is open");
            left.read_exact(&mut [0; 10]).await.expect("it is open");
            // TCP ends in order, TLS says nothing.
            drop(cut);
            let end = timeout(PATIENCE, left.read(&mut [0])).await.expect("in time");
            assert!(end.is_err(), "{end:?}");
        }
        secured.idle().await;
    }
}

#[tokio::test]
async fn what_a_workload_says_last_arrives_at_a_client_that_takes_its_time() {
    const OCTETS: usize = 2_000_000;
    let secured = Secured::start(linked(&[], &[]).into()).await;
    let (mut client, mut workload) = secured.join(None).await;
    client.shutdown().await.expect("it is open");
    let saying = tokio::spawn(async move {
        send(&mut workload, 3, OCTETS).await.expect("it is open");
        workload.read(&mut [0]).await.expect("a clean end")
    });
    // Both directions end while most of it is still on its way.
    let entities = secured.sites[0].router.entities();
    let traffic = entities.states().borrow().tcp_listeners["clients"].traffic.clone();
    wait("under way", || traffic.totals().octets_out > 0).await;
    receive(client, 3, OCTETS).await;
    assert_eq!(saying.await.expect("it does not panic"), 0);
    secured.idle().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_its_workload() {
    let secured = Secured::start(linked(&[], &[]).into()).await;
    let (mut client, mut workload) = secured.join(None).await;
    let piece = vec![7; 65_536];
    let mut written = 0;
    while timeout(STANDSTILL, workload.write_all(&piece)).await.is_ok() {
        written += piece.len();
        assert!(written < 64 << 20, "nobody takes that much, and nobody waits");
    }
    let mut taken = vec![0; written];
    let taking = async { tokio::join!(client.read_exact(&mut taken), workload.flush()) };
    timeout(PATIENCE, taking).await.expect("in time").0.expect("all of it was written");
    assert!(taken.iter().all(|octet| *octet == 7));
}

#[tokio::test]
async fn clients_show_certificates_if_they_must() {
    let site = alone(&[]);
    let entities = site.router.entities();
    let certificates = Certificates::new();
    certificates.install(&entities).await;
    let door = config::TcpListener { requires_authentication: true, ..tls_listener("clients", "key") };
    create(&entities, Entity::TcpListener(door)).await;
    create(&entities, Entity::TcpConnector(connector("key", greeter(b'a').await))).await;
    let port = until_open(&entities, "clients").await;
    let traffic = entities.states().borrow().tcp_listeners["clients"].traffic.clone();
    let mut anonymous = dial(&certificates.client(), port, None).await;
    let heard = timeout(PATIENCE, anonymous.read_u8()).await.expect("in time");
    assert!(heard.is_err(), "{heard:?}");
    wait("the reason", || traffic.last_error().is_some()).await;
    assert_eq!(
        traffic.last_error().as_deref(),
        Some("TLS: the peer presented no certificate; it needs one from our CA")
    );
    assert_eq!(traffic.totals().opened, 0);
    let known = ServiceConnector::new(&certificates.site.trust, Some(&certificates.site.identity), HostCheck::Verify);
    let mut known = dial(&known.expect("there are suites"), port, None).await;
    assert_eq!(timeout(PATIENCE, known.read_u8()).await.expect("in time").expect("greeted"), b'a');
    assert_eq!((traffic.totals().opened, traffic.last_error()), (1, None));
}

#[tokio::test]
async fn a_workload_whose_tls_goes_wrong_refuses_and_its_connector_says_why() {
    let mut site = alone(&[]);
    let entities = site.router.entities();
    let certificates = Certificates::new();
    certificates.install(&entities).await;
    let socket = TcpListener::bind((HOST, 0)).await.expect("a port is free");
    let port = socket.local_addr().expect("it listens").port();
    create(&entities, tls_connector("key", port)).await;
    site.wait_reachable("key", true).await;
    let traffic = entities.states().borrow().tcp_connectors["key"].traffic.clone();
    let check = async |answer: &dyn Fn(TcpStream) -> tokio::task::JoinHandle<()>, expected: &str| {
        let workload = async {
            let (client, _) = socket.accept().await.expect("a client");
            answer(client).await.expect("it does not panic");
        };
        let (refused, ()) = tokio::join!(site.dialer.dial("key"), workload);
        assert!(refused.is_err());
        let said = traffic.last_error().unwrap_or_default();
        assert!(said.contains(expected), "{said}");
    };
    let stranger = Certificates::new().workload(false);
    let elsewhere = issue(&certificates.authority, "elsewhere");
    let elsewhere = ServiceAcceptor::new(&elsewhere.identity, None, &[]).expect("there are suites");
    let by = |acceptor: ServiceAcceptor| {
        move |client| {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { drop(acceptor.accept(SystemTime::now(), client).await) })
        }
    };
    check(&by(stranger), "a certificate from another CA").await;
    check(&by(elsewhere), "was dialled as localhost, but its certificate names elsewhere").await;
    let in_clear = |mut client: TcpStream| {
        tokio::spawn(async move { drop(client.write_all(b"220 mail.example.com ready\r\n").await) })
    };
    check(&in_clear, "instead of TLS").await;
    // It is not asked for its name any more, and may show any of the CA.
    let waiving =
        config::TcpConnector { tls_profile: Some("workloads".into()), verifies_host: false, ..connector("key", port) };
    entities.update(Entity::TcpConnector(waiving)).await.expect("it can be updated");
    let elsewhere = issue(&certificates.authority, "elsewhere");
    let elsewhere = ServiceAcceptor::new(&elsewhere.identity, None, &[]).expect("there are suites");
    let (stream, _workload) = tokio::join!(site.dialer.dial("key"), accept(&socket, &elsewhere));
    stream.expect("the workload is good");
    assert_eq!(traffic.last_error(), None);
}

#[tokio::test]
async fn a_workload_that_asks_is_shown_the_certificate_of_the_profile() {
    let mut site = alone(&[]);
    let entities = site.router.entities();
    let certificates = Certificates::new();
    certificates.install(&entities).await;
    let socket = TcpListener::bind((HOST, 0)).await.expect("a port is free");
    let port = socket.local_addr().expect("it listens").port();
    create(&entities, tls_connector("key", port)).await;
    site.wait_reachable("key", true).await;
    let workload = certificates.workload(true);
    // TLS 1.3 shakes hands before the workload judges: the stream is there, and breaks.
    let refused = async {
        let (client, _) = socket.accept().await.expect("a client");
        workload.accept(SystemTime::now(), client).await.expect_err("without certificate")
    };
    let (stream, _) = tokio::join!(site.dialer.dial("key"), refused);
    let mut stream = stream.expect("hands are shaken");
    assert!(timeout(PATIENCE, stream.read_u8()).await.expect("in time").is_err());
    let said = entities.states().borrow().tcp_connectors["key"].traffic.last_error().unwrap_or_default();
    assert!(said.contains("it demands a certificate"), "{said}");
    // The profile has one now; the connector itself stays as it is.
    entities.update(profile("workloads", certificates.source())).await.expect("it can be updated");
    let (stream, mut accepted) = tokio::join!(site.dialer.dial("key"), accept(&socket, &workload));
    let mut stream = stream.expect("hands are shaken");
    accepted.write_all(b"a").await.expect("it is open");
    accepted.flush().await.expect("it is open");
    assert_eq!(timeout(PATIENCE, stream.read_u8()).await.expect("in time").expect("it is open"), b'a');
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_the_next_client_and_cuts_nobody_off() {
    let secured = Secured::start(vec![alone(&[])]).await;
    let entities = secured.sites[0].router.entities();
    let (mut client, mut workload) = secured.join(None).await;
    let renewed = Certificates::new();
    entities.update(profile("clients", renewed.source())).await.expect("it can be updated");
    // Who believes only the old CA does not come in any more.
    let socket = TcpStream::connect((HOST, secured.port)).await.expect("the listener is open");
    assert!(secured.client.connect(HOST, None, SystemTime::now(), socket).await.is_err());
    let client_of_new = renewed.client();
    tokio::join!(dial(&client_of_new, secured.port, None), accept(&secured.socket, &secured.workload));
    client.write_all(b"still").await.expect("it is open");
    client.flush().await.expect("it is open");
    workload.read_exact(&mut [0; 5]).await.expect("it is open");
}

#[tokio::test]
async fn profiles_are_refused_to_who_cannot_use_them() {
    let site = alone(&[]);
    let entities = site.router.entities();
    let certificates = Certificates::new();
    certificates.install(&entities).await;
    let check = |outcome: Result<(), EntityError>, expected: &str| {
        let error = outcome.expect_err("the profile does not fit").to_string();
        assert!(error.contains(expected), "{error}");
    };
    let door = config::TcpListener { tls_profile: Some("workloads".into()), ..listener("door", "key") };
    check(entities.create(Entity::TcpListener(door)).await, "name certFile and privateKeyFile");
    let door = config::TcpListener { requires_authentication: true, ..listener("door", "key") };
    check(entities.create(Entity::TcpListener(door)).await, "authenticatePeer needs an sslProfile");
    let link = config::Connector::new("link", HOST, 1, config::Role::InterRouter);
    let amqp = config::Amqp { tls_profile: Some("workloads".into()), ..link.amqp.clone() };
    check(entities.create(Entity::Connector(config::Connector { amqp, ..link })).await, "links need all of");
    // A profile does not become one that those who have it cannot use.
    create(&entities, Entity::TcpListener(tls_listener("clients", "key"))).await;
    let trust = CredentialsSource::Trust(certificates.site.trust.clone());
    check(entities.update(profile("clients", trust)).await, "name certFile and privateKeyFile");
    check(entities.delete(EntityKind::TlsProfile, "clients").await, "is used by tcpListener \"clients\"");
}

// === counting, and ending streams ===

#[tokio::test]
async fn everything_that_passes_is_counted_at_both_ends() {
    let [west, east] = linked(&[], &[]);
    let (near, far) = (west.router.entities(), east.router.entities());
    create(&far, Entity::TcpConnector(connector("key", greeter(b'a').await))).await;
    create(&near, Entity::TcpListener(listener("clients", "key"))).await;
    let port = until_open(&near, "clients").await;
    let (mut client, _) = greeted(port).await;
    client.write_all(b"0123456789").await.expect("it is open");
    client.read_exact(&mut [0; 10]).await.expect("it is open");
    let clients = near.states().borrow().tcp_listeners["clients"].traffic.clone();
    let workloads = far.states().borrow().tcp_connectors["key"].traffic.clone();
    let totals = |closed, octets_in, octets_out| Totals { opened: 1, closed, octets_in, octets_out };
    wait("counted", || clients.totals() == totals(0, 10, 11) && workloads.totals() == totals(0, 11, 10)).await;
    let [at_near, at_far] = [near.tcp_connections().await, far.tcp_connections().await];
    let ([at_near], [at_far]) = (&at_near[..], &at_far[..]) else { panic!("one each: {at_near:?} {at_far:?}") };
    assert_eq!(
        (&*at_near.key, at_near.direction, at_near.octets_in, at_near.octets_out),
        ("key", Direction::In, 10, 11)
    );
    assert_eq!((&*at_far.key, at_far.direction, at_far.octets_in, at_far.octets_out), ("key", Direction::Out, 11, 10));
    assert_eq!(at_near.peer, client.local_addr().ok());
    assert!(at_near.last_in.is_some_and(|ago| ago <= at_near.uptime), "{at_near:?}");
    drop(client);
    wait("closed", || clients.totals().closed == 1 && workloads.totals().closed == 1).await;
    assert!(near.tcp_connections().await.is_empty() && far.tcp_connections().await.is_empty());
}

/// How a stream fares when an entity it uses is deleted: whether it lives on.
async fn lives_on(drops: bool, delete: (EntityKind, &str)) -> bool {
    let router =
        json!(["router", {"id": "alone", "mode": "interior", "workerThreads": 3, "dropTcpConnections": drops}]);
    let site = rig::start_with(router, &[], None);
    let entities = site.router.entities();
    create(&entities, Entity::TcpConnector(connector("key", greeter(b'a').await))).await;
    create(&entities, Entity::TcpConnector(config::TcpConnector { name: "beside".into(), ..connector("key", 9) }))
        .await;
    entities.delete(EntityKind::TcpConnector, "beside").await.expect("it can be deleted");
    create(&entities, Entity::TcpListener(listener("clients", "key"))).await;
    let port = until_open(&entities, "clients").await;
    let (mut client, _) = greeted(port).await;
    // Changed, it lives on in any case.
    create(&entities, Entity::TcpConnector(config::TcpConnector { name: "rest".into(), ..connector("rest", 9) })).await;
    entities.update(Entity::TcpListener(listener("clients", "rest"))).await.expect("it can be updated");
    client.write_all(b"x").await.expect("it is open");
    assert_eq!(client.read_u8().await.expect("it is open"), b'x');
    entities.delete(delete.0, delete.1).await.expect("it can be deleted");
    let echoed = async {
        client.write_all(b"y").await?;
        client.read_u8().await
    };
    timeout(PATIENCE, echoed).await.expect("in time").is_ok()
}

#[tokio::test]
async fn streams_end_with_their_listener_or_connector_if_that_is_configured() {
    for delete in [(EntityKind::TcpListener, "clients"), (EntityKind::TcpConnector, "key")] {
        assert!(!lives_on(true, delete).await, "{delete:?}");
        assert!(lives_on(false, delete).await, "{delete:?}");
    }
}
