//! Sites in one process: linked by tokens, streams without sockets.

#[path = "../../van-adaptors/tests/dial/ports.rs"]
mod ports;

use std::time::{Duration, SystemTime};

use ports::free_port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use van_site::document::{Document, Key};
use van_site::resource::listener::ListenerSpec;
use van_site::resource::{Kind, Listener, Secret};
use van_site::{Site, TokenRequest};
use van_tls::{
    Authority, AuthorityRequest, Credentials, HostCheck, KeyKind, LeafRequest, ServiceAcceptor, ServiceConnector,
    Trust, Usage,
};

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_stream_goes_from_one_site_to_another() {
    let hub = Site::builder("hub").link_access_at("127.0.0.1").start().await.expect("the hub starts");
    let token = hub.issue_token(&TokenRequest::default()).await.expect("a token");
    let laptop = Site::builder("laptop").token(token).start().await.expect("the laptop starts");
    let mut incoming = hub.accept("greeter").await.expect("the key is consumed");
    let serving = tokio::spawn(async move {
        let mut stream = incoming.next().await.expect("a stream");
        let mut asked = String::new();
        stream.read_to_string(&mut asked).await.expect("it ends");
        stream.write_all(format!("hello {asked}").as_bytes()).await.expect("it is taken");
        stream.shutdown().await.expect("it ends");
    });
    let mut stream = timeout(PATIENCE, laptop.dial("greeter")).await.expect("in time").expect("a stream");
    stream.write_all(b"laptop").await.expect("it is taken");
    stream.shutdown().await.expect("it ends");
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.expect("it ends");
    assert_eq!(heard, "hello laptop");
    serving.await.expect("the service ends");
    laptop.shutdown(Duration::ZERO).await;
    hub.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_site_that_cannot_be_reached_where_it_should_says_so() {
    // An address that no machine has (RFC 5737).
    let starting = Site::builder("hub").link_access_at("203.0.113.9").start();
    let refused = timeout(PATIENCE, starting).await.expect("in time").expect_err("there is no such address here");
    let (said, expected) = (refused.to_string(), "Site hub: cannot listen on 203.0.113.9:");
    assert!(said.starts_with(expected) && said.contains("; this machine has no such address: name one that"), "{said}");
}

#[tokio::test]
async fn a_routing_key_need_not_be_a_name() {
    let site = Site::builder("hub").start().await.expect("the hub starts");
    site.connector("Orders/v1:8080", "127.0.0.1:9").await.expect("a connector");
    site.listener("Orders/v1:8080", "127.0.0.1:0").await.expect("a listener");
}

fn listener(name: &str, port: u16) -> Listener {
    let (routing_key, host) = (name.to_owned(), "127.0.0.1".to_owned());
    Listener::new(name, ListenerSpec { routing_key, host, port, ..ListenerSpec::default() })
}

#[tokio::test]
async fn a_change_that_failed_and_is_taken_back_leaves_no_error() {
    let site = Site::builder("hub").start().await.expect("the hub starts");
    let taken = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
    let taken = taken.local_addr().expect("it is bound").port();
    let free = free_port();
    site.connector("backend", "127.0.0.1:9").await.expect("a connector, so that the port is opened");
    site.declare(listener("backend", free)).await.expect("a listener");
    timeout(PATIENCE, site.ready(Kind::Listener, "backend")).await.expect("in time").expect("its port is open");
    let declared = timeout(PATIENCE, site.declare(listener("backend", taken))).await.expect("in time");
    declared.expect_err("another program has the port");
    let declared = timeout(PATIENCE, site.declare(listener("backend", free))).await.expect("in time");
    declared.expect("it is as it was");
    timeout(PATIENCE, site.ready(Kind::Listener, "backend")).await.expect("in time").expect("its port is open");
}

#[tokio::test]
async fn listeners_may_swap_their_ports() {
    let site = Site::builder("hub").start().await.expect("the hub starts");
    let [a, b] = [free_port(), free_port()];
    for (name, port) in [("a", a), ("b", b)] {
        site.connector(name, "127.0.0.1:9").await.expect("a connector, so that the port is opened");
        site.declare(listener(name, port)).await.expect("a listener");
    }
    let declared = timeout(PATIENCE, site.declare(listener("a", b))).await.expect("in time");
    declared.expect_err("b has the port");
    let declared = timeout(PATIENCE, site.declare(listener("b", a))).await.expect("in time");
    declared.expect("a has left it");
    timeout(PATIENCE, site.ready(Kind::Listener, "a")).await.expect("in time").expect("and has the other");
}

// === TLS, and several routing keys ===

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A certificate for this machine, and the CA it is from.
fn credentials() -> Credentials {
    let (now, key) = (SystemTime::now(), KeyKind::EcdsaP256);
    let request = AuthorityRequest { common_name: "services".into(), key, now, valid_for: DAY };
    let (common_name, hosts, usage) = ("backend".into(), vec!["127.0.0.1".into()], Usage::Both);
    let leaf = LeafRequest { common_name, hosts, usage, key, now, valid_for: DAY };
    Authority::create(&request).expect("a CA can be made").issue(&leaf).expect("it can be issued")
}

/// Declares what a YAML text says, and waits until the last of it is ready.
async fn declare(site: &Site, text: &str) {
    let documents: Vec<_> = Document::read_all(text).into_iter().map(|it| it.expect("it is sound")).collect();
    let last = documents.last().expect("there is one").key();
    for document in documents {
        site.declare(document).await.expect("it can be carried out");
    }
    timeout(PATIENCE, site.ready(last.kind, &last.name)).await.expect("in time").expect("it is ready");
}

#[tokio::test]
async fn declaring_a_document_of_any_kind_returns() {
    let hub = Site::builder("hub").link_access_at("127.0.0.1").start().await.expect("the hub starts");
    let declared = |document: Document| timeout(PATIENCE, hub.declare(document));
    let secret = Secret::new("user", "Opaque");
    declared(secret.into()).await.expect("in time").expect("there is nothing to wait for");
    let head = |kind| format!("apiVersion: skupper.io/v2alpha1\nkind: {kind}\nmetadata: {{name: x}}\n");
    for text in [
        head("Certificate") + "spec: {ca: skupper-site-ca, subject: x, client: true}\n",
        head("AccessGrant") + "spec: {}\n",
    ] {
        let document = Document::read_all(&text).remove(0).expect("it is sound");
        declared(document).await.expect("in time").expect("it can be carried out");
    }
    let unknown = head("Certificate").replace("x}", "y}") + "spec: {ca: unknown, subject: x, client: true}\n";
    let unknown = Document::read_all(&unknown).remove(0).expect("it is sound");
    let refused = declared(unknown).await.expect("in time").expect_err("there is no such CA");
    assert!(refused.to_string().contains("unknown"), "{refused}");

    let token = hub.issue_token(&TokenRequest::default()).await.expect("a token");
    let laptop = Site::builder("laptop").start().await.expect("the laptop starts");
    let redeemed = timeout(PATIENCE, laptop.declare(token.clone())).await.expect("in time");
    redeemed.expect("it can be redeemed");
    let late = Site::builder("late").start().await.expect("the late one starts");
    let refused = timeout(PATIENCE, late.declare(token)).await.expect("in time").expect_err("it is used up");
    assert!(refused.to_string().contains("ask for a new one"), "{refused}");
}

/// What a workload says to a client of TLS that believes `trust`.
async fn heard(port: u16, trust: &Trust) -> String {
    let connector = ServiceConnector::new(trust, None, HostCheck::Verify).expect("there are suites");
    let socket = TcpStream::connect(("127.0.0.1", port)).await.expect("the listener is open");
    let shaken = connector.connect("127.0.0.1", None, SystemTime::now(), socket).await;
    let (mut stream, mut heard) = (shaken.expect("hands are shaken"), String::new());
    timeout(PATIENCE, stream.read_to_string(&mut heard)).await.expect("in time").expect("a clean end");
    heard
}

#[tokio::test]
async fn documents_ask_for_tls_at_both_ends_and_for_several_keys() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let credentials = credentials();
    let acceptor = ServiceAcceptor::new(&credentials.identity, None, &[]).expect("there are suites");
    let workload = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let target = workload.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = workload.accept().await {
            let mut stream = acceptor.accept(SystemTime::now(), client).await.expect("hands are shaken");
            stream.write_all(b"hello").await.expect("it is open");
            stream.shutdown().await.expect("it is open");
        }
    });
    let mut secret = Secret::new("backend", "kubernetes.io/tls");
    secret.set("tls.crt", credentials.identity.chain_pem());
    secret.set("tls.key", credentials.identity.key_pem());
    secret.set("ca.crt", credentials.trust.pem());
    let builder = Site::builder("hub").state_dir(folder.path()).document(secret);
    let site = builder.start().await.expect("the hub starts");
    let (own, several) = (free_port(), free_port());
    let head = |kind, name| format!("---\napiVersion: skupper.io/v2alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\n");
    let text = head("Connector", "backend")
        + &format!("spec: {{routingKey: backend, host: 127.0.0.1, port: {target}, tlsCredentials: backend}}\n")
        + &head("Listener", "own")
        + &format!("spec: {{routingKey: backend, host: 127.0.0.1, port: {own}, tlsCredentials: backend}}\n")
        + &head("MultiKeyListener", "several")
        + &format!("spec: {{host: 127.0.0.1, port: {several}, tlsCredentials: made, strategy: ")
        + "{priority: {routingKeys: [absent, backend]}}}\n";
    declare(&site, &text).await;
    assert_eq!(heard(own, &credentials.trust).await, "hello");
    // Nobody gave a Secret `made`.
    let made = van_tls::directory::read(&folder.path().join("runtime/certs/made")).expect("the site made it");
    assert_eq!(heard(several, &made.trust).await, "hello");
    let snapshot = site.watch().borrow().clone();
    let key = Key::new(Kind::MultiKeyListener, "several");
    let Some(Document::MultiKeyListener(listener)) = snapshot.documents.get(&key) else { panic!("it is there") };
    let reachable = listener.status.strategy.priority.as_ref().map(|it| it.routing_keys_reachable.clone());
    assert_eq!((listener.status.has_destination, reachable), (true, Some(vec!["backend".to_owned()])));
    site.shutdown(Duration::ZERO).await;
}
