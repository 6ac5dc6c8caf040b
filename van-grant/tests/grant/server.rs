//! The server: whole redemptions, live changes, its end, and clients that mean harm.

use std::io::Write;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tracing_subscriber::filter::LevelFilter;
use van_grant::{Accepted, AccessToken, Bundle, Grant, IssueError, Issuer, RedeemError, RedeemOptions, redeem};
use van_tls::{HttpsConnector, HttpsStream, Trust};

use crate::support::*;

async fn redeem_at(token: &AccessToken) -> Result<Bundle, RedeemError> {
    redeem(token, "east", &RedeemOptions::default()).await
}

#[tokio::test]
async fn a_token_becomes_credentials_once() {
    let site = Site::start(grant(1), Press::default());
    let token = AccessToken { link_cost: Some(4), ..site.token() };
    let token = AccessToken::from_yaml(&token.to_yaml()).unwrap();
    let bundle = redeem_at(&token).await.unwrap();
    assert_eq!((bundle.secret.name.as_str(), bundle.secret.tls_crt.as_str()), ("hub-link", "a certificate of east\n"));
    assert_eq!((bundle.links[0].name.as_str(), bundle.links[0].cost), ("hub-link", Some(4)));
    assert_eq!(bundle.links[0].endpoints[0].host, "127.0.0.1", "the host by which we called");
    assert_eq!(site.memory.count(), Some(1));
    assert!(matches!(redeem_at(&token).await, Err(RedeemError::UsedUp { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_race_for_one_use_do_not_both_get_it() {
    let site = Site::start(grant(1), Press::default());
    let token = site.token();
    let (one, two) = tokio::join!(redeem_at(&token), redeem_at(&token));
    assert_ne!(one.is_ok(), two.is_ok());
    assert!(matches!(one.and(two), Err(RedeemError::UsedUp { .. })));
}

#[tokio::test]
async fn refusals_reach_the_client_as_what_they_are() {
    let site = Site::start(Grant { hosts: vec!["127.0.0.1".to_owned()], ..grant(1) }, Press::default());
    let wrong = AccessToken { code: van_grant::Code::new("guess".to_owned()).unwrap(), ..site.token() };
    let error = redeem_at(&wrong).await.unwrap_err();
    assert!(matches!(error, RedeemError::Refused { .. }) && error.is_final(), "{error}");

    let elsewhere = AccessToken { url: format!("https://localhost:{}/{ID}", site.port()), ..site.token() };
    let error = redeem_at(&elsewhere).await.unwrap_err();
    assert!(matches!(error, RedeemError::Unknown { .. }) && error.is_final(), "{error}");

    site.memory.0.lock().unwrap().is_full = true;
    let error = redeem_at(&site.token()).await.unwrap_err();
    assert!(matches!(error, RedeemError::ServerFailed { status: 503, .. }) && !error.is_final(), "{error}");
    site.memory.0.lock().unwrap().is_full = false;

    // Unknown at the first host, but known at the second.
    let token = AccessToken { hosts: vec!["127.0.0.1".to_owned()], ..elsewhere };
    assert!(redeem_at(&token).await.is_ok());
}

#[tokio::test]
async fn an_issuer_that_fails_or_panics_costs_no_use() {
    let faulty = Press { fault: Some(IssueError::NoEndpoints), ..Press::default() };
    let site = Site::start(grant(1), faulty);
    let error = redeem_at(&site.token()).await.unwrap_err();
    let expected = "127.0.0.1 cannot issue credentials now (500: No valid endpoints found for site); its log says why";
    assert_eq!(error.to_string(), expected);
    assert_eq!(site.memory.count(), Some(0));

    let site = Site::start(grant(1), Press { panics: true, ..Press::default() });
    let error = redeem_at(&site.token()).await.unwrap_err();
    assert!(matches!(error, RedeemError::ServerFailed { status: 500, .. }), "{error}");
    assert_eq!(site.memory.count(), Some(0));
}

#[tokio::test]
async fn grants_come_and_go_while_it_runs() {
    let site = Site::start(grant(1), Press::default());
    let withdrawn = site.grants.remove(ID).unwrap();
    assert!(matches!(redeem_at(&site.token()).await, Err(RedeemError::Unknown { .. })));
    site.grants.insert(withdrawn);
    assert!(redeem_at(&site.token()).await.is_ok());
}

#[tokio::test]
async fn credentials_are_replaced_while_it_runs() {
    let site = Site::start(grant(1), Press::default());
    let other = ca();
    site.server.replace_credentials(&leaf(&other, &["127.0.0.1"], now()).identity).unwrap();
    assert!(matches!(redeem_at(&site.token()).await, Err(RedeemError::WrongCa { .. })));
    assert!(redeem_at(&token(&other, "127.0.0.1", site.port())).await.is_ok());
}

/// Issues when it is told to, and says when it was asked.
struct Gate {
    asked: Sender<()>,
    told: Mutex<Receiver<()>>,
}

impl Issuer for Gate {
    fn issue(&self, accepted: &Accepted) -> Result<Bundle, IssueError> {
        self.asked.send(()).unwrap();
        self.told.lock().unwrap().recv().unwrap();
        Ok(bundle(accepted))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_waits_for_those_who_have_asked() {
    let ((asked, was_asked), (tell, told)) = (channel(), channel());
    let Site { ca, server, .. } = Site::start(grant(1), Gate { asked, told: Mutex::new(told) });
    let port = server.local_addrs()[0].port();
    let token = token(&ca, "127.0.0.1", port);
    let client = tokio::spawn(async move { redeem_at(&token).await });
    tokio::task::spawn_blocking(move || was_asked.recv().unwrap()).await.unwrap();
    let stopped = tokio::spawn(server.shutdown(MINUTE));
    while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
        tokio::task::yield_now().await;
    }
    tell.send(()).unwrap();
    assert!(client.await.unwrap().is_ok());
    stopped.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_a_use_that_is_counted() {
    let ((asked, was_asked), (tell, told)) = (channel(), channel());
    let site = Site::start(grant(1), Gate { asked, told: Mutex::new(told) });
    let token = site.token();
    let client = tokio::spawn(async move { redeem_at(&token).await });
    tokio::task::spawn_blocking(move || was_asked.recv().unwrap()).await.unwrap();
    client.abort();
    tell.send(()).unwrap();
    site.server.shutdown(MINUTE).await;
    assert_eq!((site.memory.count(), site.grants.get(ID).unwrap().redemptions), (Some(1), 1));
}

// === clients that mean harm ===

async fn dial(site: &Site) -> HttpsStream<TcpStream> {
    let connector = HttpsConnector::new(&Trust::from_pem(&site.token().ca).unwrap(), &[]).unwrap();
    let socket = TcpStream::connect(("127.0.0.1", site.port())).await.unwrap();
    connector.connect("127.0.0.1", now(), socket).await.unwrap()
}

/// Says something on a connection of its own; returns the status line of the answer.
async fn say(site: &Site, request: &[u8]) -> String {
    let mut stream = dial(site).await;
    stream.write_all(request).await.unwrap();
    answer(&mut stream).await
}

async fn answer(stream: &mut HttpsStream<TcpStream>) -> String {
    let mut answer = Vec::new();
    // An end without farewell is good enough.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap().lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn bad_requests_are_refused_and_harm_nobody() {
    let site = Site::start(grant(1), Press::default());
    let head = format!("POST /{ID} HTTP/1.1\r\nHost: h\r\n");
    let long = "x".repeat(300);
    let huge = "x".repeat(20_000);
    let cases = [
        (format!("{head}Content-Length: 1000000000\r\n\r\n{huge}"), "HTTP/1.1 400"),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n4e20\r\n{huge}\r\n"), "HTTP/1.1 400"),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n"), "HTTP/1.1 400"),
        (format!("{head}name: {long}\r\nContent-Length: 1\r\n\r\nx"), "HTTP/1.1 400"),
        (format!("{head}subject: \u{e9}\u{80}\r\nContent-Length: 1\r\n\r\nx"), "HTTP/1.1 400"),
        (format!("{head}x: {huge}\r\n\r\n"), "HTTP/1.1 431"),
        (format!("{head}\r\n"), "HTTP/1.1 403"),
        ("DELETE / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), "HTTP/1.1 405"),
        ("POST / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), "HTTP/1.1 404"),
        ("POST https://h/%2e%2e/x?y HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(), "HTTP/1.1 404"),
        ("\0\0\0\0\r\n\r\n".to_owned(), "HTTP/1.1 400"),
    ];
    for (request, expected) in cases {
        let answer = say(&site, request.as_bytes()).await;
        assert!(answer.starts_with(expected), "{answer} to {}", &request[..request.len().min(200)]);
    }
    // Without TLS.
    let mut stream = TcpStream::connect(("127.0.0.1", site.port())).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
    let _ = stream.read_to_end(&mut Vec::new()).await;
    assert!(redeem_at(&site.token()).await.is_ok());
}

#[tokio::test]
async fn a_thousand_who_connect_and_say_nothing_keep_nobody_out() {
    let needed = 1000 + 600;
    if getrlimit(Resource::Nofile).current.is_some_and(|files| files < needed) {
        eprintln!("skipped: {needed} open files are needed");
        return;
    }
    let site = Site::start(grant(1), Press::default());
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(TcpStream::connect(("127.0.0.1", site.port())).await.unwrap());
    }
    assert!(redeem_at(&site.token()).await.is_ok());
}

#[tokio::test]
async fn those_who_shake_hands_and_say_nothing_keep_nobody_out_either() {
    let site = Site::start(grant(1), Press::default());
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(dial(&site).await);
    }
    assert!(redeem_at(&site.token()).await.is_ok());
}

#[tokio::test]
async fn those_who_have_asked_and_stay_keep_nobody_out_either() {
    let site = Site::start(grant(1), Press::default());
    let connector = HttpsConnector::new(&Trust::from_pem(&site.token().ca).unwrap(), &["h2"]).unwrap();
    let mut idle = Vec::new();
    for _ in 0..300 {
        let socket = TcpStream::connect(("127.0.0.1", site.port())).await.unwrap();
        let stream = connector.connect("127.0.0.1", now(), socket).await.unwrap();
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("https://127.0.0.1/").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), 405);
        idle.push(sender);
    }
    assert!(redeem_at(&site.token()).await.is_ok());
}

#[tokio::test]
async fn a_handshake_may_take_ten_seconds() {
    let site = Site::start(grant(1), Press::default());
    tokio::time::pause();
    let start = Instant::now();
    let mut stream = TcpStream::connect(("127.0.0.1", site.port())).await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    assert!((9..=11).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_request_may_take_a_minute() {
    let site = Site::start(grant(1), Press::default());
    let head = format!("POST /{ID} HTTP/1.1\r\nHost: h\r\nContent-Length: 24\r\nExpect: 100-continue\r\n\r\n");
    for (begun, expected) in [("POST /", ""), (head.as_str(), "HTTP/1.1 400")] {
        let mut stream = dial(&site).await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        if begun.ends_with("\r\n\r\n") {
            // Then the server waits for the body.
            let mut go_on = [0; 25];
            stream.read_exact(&mut go_on).await.unwrap();
            assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        tokio::time::pause();
        let start = Instant::now();
        let answer = answer(&mut stream).await;
        assert!(answer.starts_with(expected), "{answer} after {:?}", start.elapsed());
        assert!((55..=65).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
        tokio::time::resume();
    }
}

// === what is logged ===

#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn redemptions_are_logged_without_their_code() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // For all threads: what other tests log first, without a subscriber, would be off for good here too.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let site = Site::start(grant(1), Press::default());
    let guess = AccessToken { code: van_grant::Code::new("guess".to_owned()).unwrap(), ..site.token() };
    assert!(redeem_at(&guess).await.is_err());
    assert!(redeem_at(&site.token()).await.is_ok());
    site.server.shutdown(Duration::from_secs(5)).await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains(r#"token redeemed grant="west/g1" name="hub-link" subject="east" peer=127.0.0.1"#), "{log}");
    assert!(log.contains("wrong code for grant west/g1"), "{log}");
    assert!(!log.contains(CODE) && !log.contains("guess") && !log.contains("private"), "{log}");
}
