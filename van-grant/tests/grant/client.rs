//! The client, before servers that are broken, strange or hostile.

use std::net::TcpListener as StdListener;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use van_grant::{AccessToken, Bundle, RedeemError, RedeemOptions, redeem};
use van_tls::{Authority, HttpsAcceptor, HttpsStream};

use crate::recorded::body;
use crate::support::*;

async fn redeem_soon(token: &AccessToken) -> Result<Bundle, RedeemError> {
    redeem(token, "east", &RedeemOptions { timeout: Duration::from_secs(2), ..RedeemOptions::default() }).await
}

fn tokio_listener(listener: StdListener) -> TcpListener {
    listener.set_nonblocking(true).unwrap();
    TcpListener::from_std(listener).unwrap()
}

/// Accepts one client, reads its request to the end of the code.
async fn hear(listener: StdListener, acceptor: HttpsAcceptor) -> (HttpsStream<TcpStream>, String) {
    let (socket, _) = tokio_listener(listener).accept().await.unwrap();
    let mut stream = acceptor.accept(socket).await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(CODE.as_bytes()) {
        assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0);
    }
    (stream, String::from_utf8(heard).unwrap())
}

fn acceptor(ca: &Authority) -> HttpsAcceptor {
    HttpsAcceptor::new(&leaf(ca, &["127.0.0.1", "127.0.0.2"], now()).identity, &[]).unwrap()
}

/// A server that answers anyone with the same octets, and returns what it heard.
fn parrot(ca: &Authority, listener: StdListener, answer: impl Into<Vec<u8>>) -> JoinHandle<String> {
    let (acceptor, answer) = (acceptor(ca), answer.into());
    tokio::spawn(async move {
        let (mut stream, heard) = hear(listener, acceptor).await;
        // The client may have heard enough before the end.
        let _ = stream.write_all(&answer).await;
        let _ = stream.shutdown().await;
        heard
    })
}

async fn answered(answer: impl Into<Vec<u8>>) -> Result<Bundle, RedeemError> {
    let (ca, listener) = (ca(), listen("127.0.0.1", 0));
    let token = token(&ca, "127.0.0.1", listener.local_addr().unwrap().port());
    let _parrot = parrot(&ca, listener, answer);
    redeem_soon(&token).await
}

fn response(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn the_request_is_that_of_skupper() {
    let (ca, listener) = (ca(), listen("127.0.0.1", 0));
    let port = listener.local_addr().unwrap().port();
    let parrot = parrot(&ca, listener, response("200 OK", &body("4-success")));
    let bundle = redeem_soon(&token(&ca, "127.0.0.1", port)).await.unwrap();
    assert_eq!(bundle, Bundle::from_yaml(&body("4-success")).unwrap());
    let expected = format!(
        "POST /{ID} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nname: hub-link\r\nsubject: east\r\ncontent-length: 24\r\n\r\n{CODE}"
    );
    assert_eq!(parrot.await.unwrap(), expected);
}

#[tokio::test]
async fn answers_are_told_apart() {
    let check = async |answer: String, expected: &str, is_final: bool| {
        let error = answered(answer).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}, not {expected}");
        assert_eq!(error.is_final(), is_final, "{error}");
    };
    check(response("404 Not Found", "No such claim\n"), "it has expired, or the site", true).await;
    check(response("404 Not Found", "No such access granted\n"), "used up", true).await;
    check(response("403 Forbidden", "Redemption of access token refused\n"), "refused the token's code", true).await;
    check(response("503 Service Unavailable", "Internal error\n"), "(503: Internal error); its log says why", false)
        .await;
    check(response("500 Internal Server Error", "\x1b[31m<x\n"), "(500:  [31m<x)", false).await;
    check(response("502 Bad Gateway", "<html>nginx</html>"), "(502: a web page)", false).await;
    check(response("200 OK", "<!DOCTYPE html><html>Welcome</html>"), "answered with a web page", false).await;
    check(response("404 Not Found", "<html>nginx</html>"), "a web page (404 Not Found)", false).await;
    check(response("403 Forbidden", "go away"), "403 Forbidden: go away", false).await;
    check(response("302 Found", ""), "a redirect (302 Found)", false).await;
    check(response("200 OK", ""), "not credentials", false).await;
    check(response("200 OK", "{}"), "not credentials", false).await;
    check(response("200 OK", &body("5-success-no-headers")), "for another name", false).await;
    check(response("200 OK", &format!("# {}", "x".repeat(2_000_000))), "too long", false).await;
    check("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), "not HTTP", false).await;
    check(response("200 OK", "cut off").replace(": 7", ": 700"), "gave no answer", false).await;
    check(String::new(), "gave no answer", false).await;
}

#[tokio::test]
async fn an_answer_of_http_1_0_may_end_without_farewell() {
    let (ca, listener) = (ca(), listen("127.0.0.1", 0));
    let token = token(&ca, "127.0.0.1", listener.local_addr().unwrap().port());
    let acceptor = acceptor(&ca);
    tokio::spawn(async move {
        let (mut stream, _) = hear(listener, acceptor).await;
        stream.write_all(format!("HTTP/1.0 200 OK\r\n\r\n{}", body("4-success")).as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    });
    assert_eq!(redeem_soon(&token).await.unwrap(), Bundle::from_yaml(&body("4-success")).unwrap());
}

#[tokio::test]
async fn answers_that_are_not_text_are_not_shown() {
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n".to_vec();
    answer.extend([0xff, 0xfe]);
    assert!(matches!(answered(answer).await, Err(RedeemError::NotAGrantServer { .. })));
}

#[tokio::test]
async fn a_silent_server_is_left_after_a_while() {
    // It is in the backlog of a listener, and nobody says anything.
    let listener = listen("127.0.0.1", 0);
    let ca = ca();
    let token = token(&ca, "127.0.0.1", listener.local_addr().unwrap().port());
    let error = redeem_soon(&token).await.unwrap_err();
    assert!(matches!(error, RedeemError::TimedOut { .. }) && !error.is_final(), "{error}");
}

#[tokio::test]
async fn a_server_that_takes_the_code_and_keeps_silent_may_have_counted_it() {
    let (ca, listener) = (ca(), listen("127.0.0.1", 0));
    let mut token = token(&ca, "127.0.0.1", listener.local_addr().unwrap().port());
    token.hosts = vec!["127.0.0.1".to_owned(), "127.0.0.2".to_owned()];
    let silent = tokio::spawn(hear(listener, acceptor(&ca)));
    let error = redeem_soon(&token).await.unwrap_err();
    assert!(matches!(error, RedeemError::NoAnswer { .. }) && !error.is_final(), "no other host was asked: {error}");
    drop(silent);
}

#[tokio::test]
async fn nobody_but_the_tokens_ca_is_believed() {
    let listener = listen("127.0.0.1", 0);
    let port = listener.local_addr().unwrap().port();
    let (own, other) = (ca(), ca());
    let _parrot = parrot(&other, listener, "");
    let error = redeem_soon(&token(&own, "127.0.0.1", port)).await.unwrap_err();
    assert!(matches!(error, RedeemError::WrongCa { .. }) && !error.is_final(), "{error}");
}

/// Calls a server that has these credentials.
async fn call(ca: &Authority, credentials: &van_tls::Credentials) -> RedeemError {
    let listener = listen("127.0.0.1", 0);
    let token = token(ca, "127.0.0.1", listener.local_addr().unwrap().port());
    let acceptor = HttpsAcceptor::new(&credentials.identity, &[]).unwrap();
    let server = tokio::spawn(async move {
        let (socket, _) = tokio_listener(listener).accept().await.unwrap();
        acceptor.accept(socket).await.map(drop)
    });
    let error = redeem_soon(&token).await.unwrap_err();
    assert!(server.await.unwrap().is_err(), "the code must not leave");
    assert!(!error.is_final());
    error
}

#[tokio::test]
async fn the_certificate_must_name_the_host() {
    let ca = ca();
    let error = call(&ca, &leaf(&ca, &["10.0.0.7", "hub.example.com"], now())).await;
    assert!(error.to_string().contains("names 10.0.0.7, hub.example.com; ask for a token for 127.0.0.1"), "{error}");
}

#[tokio::test]
async fn a_wrong_clock_is_suspected() {
    let ca = ca();
    for issued in [now() - 5 * DAY, now() + DAY] {
        let error = call(&ca, &leaf(&ca, &["127.0.0.1"], issued)).await;
        assert!(matches!(error, RedeemError::WrongTime { .. }), "{error}");
        assert!(error.to_string().contains("are the clocks of this machine and of that one right?"), "{error}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_named() {
    let listener = listen("127.0.0.1", 0);
    let token = token(&ca(), "127.0.0.1", listener.local_addr().unwrap().port());
    let server = tokio::spawn(async move {
        let (mut socket, _) = tokio_listener(listener).accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        socket.read_to_end(&mut Vec::new()).await
    });
    let error = redeem_soon(&token).await.unwrap_err();
    assert!(matches!(error, RedeemError::NotHttps { .. }) && !error.is_final(), "{error}");
    drop(server);
}

#[tokio::test]
async fn the_next_host_is_tried_if_one_cannot_be_reached() {
    let site = ca();
    let listener = listen("127.0.0.2", 0);
    let port = listener.local_addr().unwrap().port();
    let mut token = token(&site, "127.0.0.1", port);
    token.hosts = ["127.0.0.1", "no such host", "127.0.0.2"].map(str::to_owned).to_vec();
    let parrot = parrot(&site, listener, response("200 OK", &body("4-success")));
    assert!(redeem_soon(&token).await.is_ok());
    assert!(parrot.await.unwrap().contains(&format!("\r\nhost: 127.0.0.2:{port}\r\n")));

    // Now nobody listens any more.
    let error = redeem_soon(&token).await.unwrap_err();
    let text = error.to_string();
    assert!(
        ["127.0.0.1", "127.0.0.2"].iter().all(|host| text.contains(&format!("{host}:{port} cannot be reached"))),
        "{text}"
    );
    assert!(!error.is_final());
    token.hosts.clear();
    assert!(matches!(redeem_soon(&token).await, Err(RedeemError::Unreachable { .. })));
}

#[tokio::test]
async fn a_token_that_is_none_is_not_sent() {
    let token = AccessToken { url: "http://127.0.0.1/x".to_owned(), ..token(&ca(), "127.0.0.1", 1) };
    let error = redeem_soon(&token).await.unwrap_err();
    assert!(matches!(error, RedeemError::Token(_)) && error.is_final(), "{error}");
    let url = format!("https://127.0.0.1:1/{ID}");
    let damaged = AccessToken { ca: "-----BEGIN CERTIFICATE-----\n".to_owned(), url: url.clone(), ..token.clone() };
    assert!(matches!(redeem_soon(&damaged).await, Err(RedeemError::Ca(_))));
    let unfit = AccessToken { name: "two\nlines".to_owned(), url, ..token };
    assert!(matches!(redeem_soon(&unfit).await, Err(RedeemError::Name { .. })));
}
