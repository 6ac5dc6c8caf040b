//! What a grant server of Skupper answered to curl (`tests/recorded`), and what ours answers to the same requests.
//!
//! The networks that the keys in them were for are gone.

use std::sync::Mutex;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use van_grant::{Accepted, Bundle, Code, Grant, IssueError, Issuer};
use van_tls::{HttpsConnector, Trust};

use crate::support::*;

/// The exchanges, in the order in which they took place.
const RECORDINGS: [(&str, &str); 6] = [
    ("1-wrong-code", include_str!("../recorded/1-wrong-code.txt")),
    ("2-unknown", include_str!("../recorded/2-unknown.txt")),
    ("3-get", include_str!("../recorded/3-get.txt")),
    ("4-success", include_str!("../recorded/4-success.txt")),
    ("5-success-no-headers", include_str!("../recorded/5-success-no-headers.txt")),
    ("6-used-up", include_str!("../recorded/6-used-up.txt")),
];

/// One of them, taken apart.
struct Recording {
    method: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    code: &'static str,
    status: u16,
    answered: Vec<(&'static str, &'static str)>,
    body: String,
}

impl Recording {
    fn parse(text: &'static str) -> Self {
        let (command, answer) = text.split_once('\n').unwrap();
        let url = command.rsplit_once(' ').unwrap().1;
        let option = |name: &str| command.split_once(name).map(|(_, rest)| rest.split(" -").next().unwrap());
        let headers = ["name", "subject"].into_iter().filter_map(|header| {
            let value = option(&format!("-H {header}: "))?;
            Some((header, value.split(' ').next().unwrap()))
        });
        let code = option("--data-binary ").map(|rest| rest.split(' ').next().unwrap());
        // curl's headers end in CRLF or, as recorded here, in LF; a newline was added behind the body.
        let (head, body) = answer.split_once("\r\n\r\n").or_else(|| answer.split_once("\n\n")).unwrap();
        let mut lines = head.lines();
        Self {
            method: if code.is_some() { "POST" } else { "GET" },
            path: &url[url.match_indices('/').nth(2).unwrap().0..],
            headers: headers.collect(),
            code: code.unwrap_or(""),
            status: lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap(),
            answered: lines.map(|line| line.split_once(": ").unwrap()).collect(),
            body: body.strip_suffix('\n').unwrap().to_owned(),
        }
    }
}

/// The body of a recorded answer.
pub(crate) fn body(name: &str) -> String {
    Recording::parse(RECORDINGS.iter().find(|(known, _)| *known == name).unwrap().1).body
}

/// The only difference: we quote addresses, which are numbers to some readers.
pub(crate) fn as_ours(body: &str) -> String {
    body.replace("host: 127.0.0.1\n", "host: \"127.0.0.1\"\n")
}

/// Issues what Skupper issued.
struct Recorded(Mutex<std::vec::IntoIter<&'static str>>);

impl Issuer for Recorded {
    fn issue(&self, accepted: &Accepted) -> Result<Bundle, IssueError> {
        let bundle = Bundle::from_yaml(&body(self.0.lock().unwrap().next().unwrap())).unwrap();
        assert_eq!(bundle.secret.name, accepted.name);
        let expected = if accepted.name == "g1" { "g1" } else { "0f0c0000-0000-4000-8000-000000000001" };
        assert_eq!(accepted.subject, expected);
        Ok(bundle)
    }
}

async fn ask(site: &Site, recording: &Recording, protocol: &str) -> Response<hyper::body::Incoming> {
    let trust = Trust::from_pem(&site.token().ca).unwrap();
    let connector = HttpsConnector::new(&trust, &[protocol]).unwrap();
    let socket = TcpStream::connect(("127.0.0.1", site.port())).await.unwrap();
    let stream = connector.connect("127.0.0.1", now(), socket).await.unwrap();
    assert_eq!(stream.protocol(), Some(protocol.as_bytes()));
    let authority = format!("127.0.0.1:{}", site.port());
    let is_http_2 = protocol == "h2";
    let uri = if is_http_2 { format!("https://{authority}{}", recording.path) } else { recording.path.to_owned() };
    let mut request = Request::builder().method(recording.method).uri(uri);
    if !is_http_2 {
        request = request.header("Host", authority);
    }
    for (name, value) in &recording.headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from_static(recording.code.as_bytes()))).unwrap();
    let io = TokioIo::new(stream);
    if is_http_2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    } else {
        let (mut sender, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await.unwrap()
    }
}

async fn replay(protocol: &str) {
    let issuer = Recorded(Mutex::new(vec!["4-success", "5-success-no-headers"].into_iter()));
    let grant = Grant { code: Code::new(CODE.to_owned()).unwrap(), ..grant(2) };
    let site = Site::start(grant, issuer);
    for (name, text) in RECORDINGS {
        let recording = Recording::parse(text);
        let response = ask(&site, &recording, protocol).await;
        assert_eq!(response.status().as_u16(), recording.status, "{name}");
        for (header, value) in recording.answered.iter().filter(|(header, _)| *header != "date") {
            assert_eq!(response.headers()[*header], *value, "{name}: {header}");
        }
        assert!(response.headers().contains_key("date"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(body == as_ours(&recording.body), "{name}: {}", String::from_utf8_lossy(&body));
    }
}

#[tokio::test]
async fn skuppers_answers_are_ours_over_http_2() {
    replay("h2").await;
}

#[tokio::test]
async fn skuppers_answers_are_ours_over_http_1() {
    replay("http/1.1").await;
}
