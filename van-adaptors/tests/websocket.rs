//! AMQP over WebSocket, at listeners that serve HTTP.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use van_adaptors::{CredentialsSource, Entities, Entity, Options, Router, States, TlsProfile, TlsTerms};
use van_core::management::config::{self, Access, Amqp, Configuration, Role, Service};
use van_tls::{Authority, AuthorityRequest, Credentials, HttpsConnector, KeyKind, LeafRequest, Usage};

const HOST: &str = "127.0.0.1";

/// Nothing here takes as long.
const PATIENCE: Duration = Duration::from_secs(20);

fn start(id: &str) -> Router {
    let text = format!(r#"[["router", {{"id": "{id}", "mode": "interior", "workerThreads": 2}}]]"#);
    let configuration = Configuration::parse(&text, |_| None).expect("valid");
    Router::start(configuration, &Options::default()).expect("it starts")
}

/// A listener for HTTP through which other routers may come, too.
fn web(tls_profile: Option<&str>) -> Entity {
    let tls_profile = tls_profile.map(str::to_owned);
    let amqp = Amqp { role: Role::InterRouter, tls_profile, ..Amqp::default() };
    let access = Access { amqp, ..Access::default() };
    let service = Service::Http { has_health: true, has_metrics: false, has_websockets: true, root_dir: None, access };
    Entity::Listener(config::Listener { name: "web".into(), host: HOST.into(), port: 0, family: None, service })
}

async fn until(entities: &Entities, is_so: impl FnMut(&Arc<States>) -> bool) -> Arc<States> {
    let mut states = entities.states();
    let seen = tokio::time::timeout(PATIENCE, states.wait_for(is_so)).await;
    Arc::clone(&seen.expect("in time").expect("the router runs"))
}

/// A router with such a listener, and the port.
async fn served(tls: Option<Credentials>) -> (Router, u16) {
    let router = start("east");
    let entities = router.entities();
    let profile = tls.map(|credentials| {
        let credentials = CredentialsSource::Memory(credentials.into());
        Entity::TlsProfile(TlsProfile {
            name: "web".into(),
            credentials,
            ordinal: 0,
            oldest_valid_ordinal: 0,
            terms: TlsTerms::default(),
        })
    });
    let listener = web(profile.is_some().then_some("web"));
    for entity in profile.into_iter().chain([listener]) {
        entities.create(entity).await.expect("it can be created");
    }
    let port = entities.states().borrow().http_listeners["web"].port;
    (router, port)
}

fn request(protocol: &str) -> Request {
    let mut request = format!("ws://{HOST}/").into_client_request().expect("a URL");
    request.headers_mut().insert("sec-websocket-protocol", protocol.parse().expect("a header"));
    request
}

async fn connect<S: AsyncRead + AsyncWrite + Unpin>(socket: S) -> WebSocketStream<S> {
    let (websocket, response) = client_async(request("mqtt, amqp"), socket).await.expect("upgraded");
    assert_eq!(response.headers()["sec-websocket-protocol"], "amqp");
    websocket
}

async fn dial(port: u16) -> TcpStream {
    TcpStream::connect((HOST, port)).await.expect("the listener is open")
}

/// What a client without SASL begins with, and what it is answered.
const AMQP: &[u8] = b"AMQP\x00\x01\x00\x00";

// === whole links ===

/// Takes connections in, and carries what they say to a WebSocket, in messages of any length.
async fn carry(port: u16) -> u16 {
    let listener = TcpListener::bind((HOST, 0)).await.expect("a port is free");
    let own = listener.local_addr().expect("it listens").port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (mut out, mut back) = connect(dial(port).await).await.split();
            tokio::spawn(async move {
                let (mut read, mut write) = client.split();
                let there = async {
                    let mut buffer = vec![0; 50_000];
                    for turn in 1_usize.. {
                        // Messages of other lengths than what AMQP writes.
                        let most = 1 + turn * 7919 % buffer.len();
                        let count = read.read(&mut buffer[..most]).await.unwrap_or(0);
                        if count == 0 || out.send(Message::binary(buffer[..count].to_vec())).await.is_err() {
                            break;
                        }
                    }
                    let _ = out.close().await;
                };
                let here = async {
                    while let Some(Ok(Message::Binary(octets))) = back.next().await {
                        write.write_all(&octets).await.expect("the router reads");
                    }
                    let _ = write.shutdown().await;
                };
                tokio::join!(there, here);
            });
        }
    });
    own
}

#[tokio::test]
async fn a_link_over_websocket_carries_streams() {
    let (east, port) = served(None).await;
    let mut west = start("west");
    let relay = carry(port).await;
    let connector = config::Connector::new("uplink", HOST, relay, Role::InterRouter);
    west.entities().create(Entity::Connector(connector)).await.expect("created");
    let mut incoming = east.dialer().accept("key").await.expect("it runs");
    while !west.routes().is_reachable("key") {
        west.routes_changed().await;
    }
    let serve = async {
        let stream = incoming.next().await.expect("a client comes");
        let (mut read, mut write) = tokio::io::split(stream);
        tokio::io::copy(&mut read, &mut write).await.expect("echoed");
        write.shutdown().await.expect("ended");
    };
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| (number / 251) as u8).collect();
    let ask = async {
        let (mut read, mut write) = tokio::io::split(west.dialer().dial("key").await.expect("a consumer"));
        let mut received = Vec::new();
        let write = async {
            write.write_all(&sent).await.expect("written");
            write.shutdown().await.expect("ended");
        };
        let (_, count) = tokio::join!(write, read.read_to_end(&mut received));
        count.expect("read");
        received
    };
    let (received, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(ask, serve) }).await.expect("in time");
    assert!(received == sent, "{} octets of {}", received.len(), sent.len());

    west.shutdown(Duration::ZERO).await;
    let states = until(&east.entities(), |states| states.http_listeners.contains_key("web")).await;
    assert!(states.accesses.is_empty());
}

// === the protocol ===

#[tokio::test]
async fn what_asks_for_no_amqp_gets_http() {
    let (_router, port) = served(None).await;
    let error = client_async(request("mqtt"), dial(port).await).await.expect_err("no AMQP");
    assert!(matches!(&error, Error::Http(response) if response.status() == 400), "{error}");

    let mut client = dial(port).await;
    let ask = format!("GET /healthz HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    client.write_all(ask.as_bytes()).await.expect("written");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("read");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

/// The next message; none if the connection is over.
async fn next(websocket: &mut (impl StreamExt<Item = Result<Message, Error>> + Unpin)) -> Option<Message> {
    tokio::time::timeout(PATIENCE, websocket.next()).await.expect("in time").and_then(Result::ok)
}

#[tokio::test]
async fn pings_are_answered_and_octets_go_through_in_pieces() {
    let (_router, port) = served(None).await;
    let mut websocket = connect(dial(port).await).await;
    for octet in AMQP {
        websocket.send(Message::binary(vec![*octet])).await.expect("sent");
    }
    websocket.send(Message::Ping("hello".into())).await.expect("sent");
    let mut answers = vec![next(&mut websocket).await, next(&mut websocket).await];
    answers.sort_by_key(|answer| matches!(answer, Some(Message::Pong(_))));
    assert_eq!(answers, [Some(Message::binary(AMQP)), Some(Message::Pong(Bytes::from_static(b"hello")))]);
    websocket.close(None).await.expect("sent");
    assert!(matches!(next(&mut websocket).await, Some(Message::Close(_))), "the close is answered");
}

#[tokio::test]
async fn text_and_messages_beyond_a_mebibyte_end_the_connection() {
    let (_router, port) = served(None).await;
    for message in [Message::text("AMQP"), Message::binary(vec![0; 1024 * 1024 + 1])] {
        let is_text = message.is_text();
        let mut websocket = connect(dial(port).await).await;
        // What is refused by its length is not read to its end.
        let _ = websocket.send(message).await;
        match next(&mut websocket).await {
            Some(Message::Close(Some(frame))) => assert!(is_text && frame.code == CloseCode::Unsupported, "{frame:?}"),
            other => assert!(!is_text && other.is_none(), "{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_router_that_ends_an_amqp_connection_closes_the_websocket() {
    let (_router, port) = served(None).await;
    let mut websocket = connect(dial(port).await).await;
    websocket.send(Message::binary(b"HTTP/1.1 what".as_slice())).await.expect("sent");
    loop {
        match next(&mut websocket).await {
            Some(Message::Binary(_)) => {}
            Some(Message::Close(Some(frame))) => return assert_eq!(frame.code, CloseCode::Normal),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn with_a_profile_it_is_wss() {
    let now = SystemTime::now();
    let (valid_for, key) = (Duration::from_secs(3600), KeyKind::EcdsaP256);
    let request = AuthorityRequest { common_name: "test".into(), key, now, valid_for };
    let authority = Authority::create(&request).expect("made");
    let (common_name, hosts, usage) = ("test".into(), vec![HOST.into()], Usage::Both);
    let leaf = LeafRequest { common_name, hosts, usage, key, now, valid_for };
    let credentials = authority.issue(&leaf).expect("issued");
    let connector = HttpsConnector::new(&credentials.trust, &["http/1.1"]).expect("usable");
    let (_router, port) = served(Some(credentials)).await;
    let socket = connector.connect(HOST, now, dial(port).await).await.expect("a handshake");
    let mut websocket = connect(socket).await;
    websocket.send(Message::binary(AMQP)).await.expect("sent");
    assert_eq!(next(&mut websocket).await, Some(Message::binary(AMQP)));

    let mut plain = dial(port).await;
    plain.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").await.expect("written");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "not in clear");
}
