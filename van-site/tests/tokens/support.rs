//! What the tests share: sites, tokens, and servers that answer anything.

use std::net::TcpListener as StdListener;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use van_site::document::Document;
use van_site::resource::access_token::AccessTokenSpec;
use van_site::resource::{AccessToken, Link, Secret};
use van_site::{Site, TokenRequest};
use van_tls::{Authority, AuthorityRequest, Credentials, HttpsAcceptor, KeyKind, LeafRequest, Usage};

pub(crate) const LOCALHOST: &str = "127.0.0.1";
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
const CODE: &str = "Y5BdhXi3Qzc6i3BfY83DNHYN";

/// The answers that a grant server of Skupper once gave to curl.
pub(crate) const WRONG_CODE: &str = include_str!("../../../van-grant/tests/recorded/1-wrong-code.txt");
pub(crate) const UNKNOWN: &str = include_str!("../../../van-grant/tests/recorded/2-unknown.txt");
pub(crate) const NOT_POST: &str = include_str!("../../../van-grant/tests/recorded/3-get.txt");
pub(crate) const SUCCESS: &str = include_str!("../../../van-grant/tests/recorded/4-success.txt");
pub(crate) const SUCCESS_NO_HEADERS: &str = include_str!("../../../van-grant/tests/recorded/5-success-no-headers.txt");
pub(crate) const USED_UP: &str = include_str!("../../../van-grant/tests/recorded/6-used-up.txt");

/// What curl printed (with `-i`), without the command before it, the date, and the newline behind it.
pub(crate) fn printed(recording: &str) -> String {
    let answer = recording.split_once('\n').expect("a command comes first").1.strip_suffix('\n').expect("a newline");
    without_date(answer)
}

/// An answer without its date, lines ended by newlines only.
pub(crate) fn without_date(answer: &str) -> String {
    let lines = answer.split_inclusive('\n').filter(|line| !line.starts_with("date: "));
    lines.collect::<String>().replace('\r', "")
}

/// The body of an answer that curl printed.
pub(crate) fn body(printed: &str) -> &str {
    printed.split_once("\n\n").expect("headers end").1
}

// === sites ===

/// A site that others can link to.
pub(crate) async fn hub() -> Site {
    Site::builder("hub").link_access_at(LOCALHOST).shards(1).start().await.expect("the hub starts")
}

/// A site that links to others.
pub(crate) async fn spoke() -> Site {
    Site::builder("spoke").shards(1).start().await.expect("the spoke starts")
}

pub(crate) async fn issue(hub: &Site, uses: u32) -> AccessToken {
    hub.issue_token(&TokenRequest { uses, ..TokenRequest::default() }).await.expect("a token")
}

/// The Secret and the Link that a redemption gave.
pub(crate) fn secret_and_link(documents: &[Document]) -> (&Secret, &Link) {
    let [Document::Secret(secret), Document::Link(link)] = documents else { panic!("{documents:?}") };
    (secret, link)
}

// === servers ===

pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// A CA and a server's certificate, made at a time.
pub(crate) fn server(at: SystemTime) -> Credentials {
    let key = KeyKind::EcdsaP256;
    let request = AuthorityRequest { common_name: "grants".into(), key, now: at, valid_for: 2 * DAY };
    let authority = Authority::create(&request).expect("a CA");
    let (hosts, usage) = (vec![LOCALHOST.into()], Usage::Server);
    let request = LeafRequest { common_name: "server".into(), hosts, usage, key, now: at, valid_for: DAY };
    authority.issue(&request).expect("a certificate")
}

pub(crate) fn token(name: &str, port: u16, credentials: &Credentials) -> AccessToken {
    let spec = AccessTokenSpec {
        url: format!("https://{LOCALHOST}:{port}/38272eeb-dbea-41c2-9bc7-6c8ba4ed6cf0"),
        code: CODE.to_owned().into(),
        ca: credentials.trust.pem().to_owned(),
        ..AccessTokenSpec::default()
    };
    AccessToken::new(name, spec)
}

/// A socket that nobody accepts from, and its port.
pub(crate) fn listen() -> (StdListener, u16) {
    let listener = StdListener::bind((LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

/// A grant server that answers the same to everybody, or nothing; and its port.
pub(crate) fn parrot(credentials: &Credentials, answer: Option<String>) -> (JoinHandle<()>, u16) {
    let (listener, port) = listen();
    listener.set_nonblocking(true).expect("a socket");
    let listener = TcpListener::from_std(listener).expect("a socket");
    let acceptor = HttpsAcceptor::new(&credentials.identity, &[]).expect("credentials");
    let task = tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (socket, _) = listener.accept().await.expect("a client");
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let mut heard = Vec::new();
            while !heard.ends_with(CODE.as_bytes()) && stream.read_buf(&mut heard).await.is_ok_and(|count| count > 0) {}
            match &answer {
                // The client may have heard enough before the end.
                Some(answer) => drop((stream.write_all(answer.as_bytes()).await, stream.shutdown().await)),
                None => open.push(stream),
            }
        }
    });
    (task, port)
}

pub(crate) fn response(status: &str, body: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}
