//! Proxies that links go through: HTTP by its method CONNECT, and SOCKS version 5, which looks names up at its end.

use std::io;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_socks::tcp::Socks5Stream;
use van_core::amqp::Secret;
use van_core::management::config::ProxyScheme;

use crate::with_causes;

/// How long a proxy may take to reach the other end and to say so.
const TUNNEL_TIMEOUT: Duration = Duration::from_secs(10);

/// Octets of an HTTP answer's head.
const MAX_HEAD_BYTES: usize = 16_384;

/// A proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) name: String,
    pub(crate) scheme: ProxyScheme,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// User and password.
    pub(crate) login: Option<(String, Secret)>,
}

/// Why a proxy does not let a link through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("no answer for {} s; does it speak {}?", TUNNEL_TIMEOUT.as_secs(), spoken(*.scheme))]
    NoAnswer { scheme: ProxyScheme },
    #[error("it wants a user and a password; set `username` and `password` of the proxyProfile")]
    NeedsLogin,
    #[error("it does not accept user and password; correct `username` and `password` of the proxyProfile")]
    WrongLogin,
    #[error("it does not want a user and a password, or not as we give them; remove them from the proxyProfile")]
    UselessLogin,
    #[error("it answers {0}; does it allow connections to that host and port, and can it reach them?")]
    Status(StatusCode),
    #[error("it sent octets behind its answer, before the router at the other end was asked anything")]
    Early,
    #[error("{}; does it speak HTTP?", with_causes(.0))]
    Http(#[from] hyper::Error),
    #[error("`{0}` cannot be asked for")]
    Unaskable(String),
    #[error("{0}; does it allow connections to that host and port, and can it reach them?")]
    Refused(tokio_socks::Error),
    #[error("{0}; does it speak SOCKS5?")]
    Socks(tokio_socks::Error),
    #[error("the connection broke off: {0}")]
    Io(io::Error),
}

impl Proxy {
    /// Has the proxy connect to a host, on a socket that is connected to the proxy. Dropping the future closes the socket.
    pub(crate) async fn tunnel(&self, socket: TcpStream, host: &str, port: u16) -> Result<TcpStream, ProxyError> {
        let tunnel = async {
            match self.scheme {
                ProxyScheme::Http => self.http(socket, host, port).await,
                ProxyScheme::Socks5 => self.socks5(socket, host, port).await,
            }
        };
        tokio::time::timeout(TUNNEL_TIMEOUT, tunnel).await.unwrap_or(Err(ProxyError::NoAnswer { scheme: self.scheme }))
    }

    async fn http(&self, socket: TcpStream, host: &str, port: u16) -> Result<TcpStream, ProxyError> {
        let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut request = Request::connect(&place).header(HOST, &place);
        if let Some((user, password)) = &self.login {
            let login = Base64::encode_string(format!("{user}:{}", password.reveal()).as_bytes());
            let mut value = HeaderValue::try_from(format!("Basic {login}")).expect("base64 is fit for headers");
            value.set_sensitive(true);
            request = request.header(PROXY_AUTHORIZATION, value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|_| ProxyError::Unaskable(place))?;
        let mut client = http1::Builder::new();
        client.max_buf_size(MAX_HEAD_BYTES);
        let (mut sender, connection) = client.handshake(TokioIo::new(socket)).await?;
        let status = async move { sender.send_request(request).await.map(|answer| answer.status()) };
        let (status, connection) = tokio::join!(status, connection.without_shutdown());
        match status? {
            status if status.is_success() => {}
            // The second is what tinyproxy says of a wrong password.
            StatusCode::PROXY_AUTHENTICATION_REQUIRED | StatusCode::UNAUTHORIZED => {
                let has_login = self.login.is_some();
                return Err(if has_login { ProxyError::WrongLogin } else { ProxyError::NeedsLogin });
            }
            status => return Err(ProxyError::Status(status)),
        }
        let parts = connection?;
        if parts.read_buf.is_empty() { Ok(parts.io.into_inner()) } else { Err(ProxyError::Early) }
    }

    async fn socks5(&self, socket: TcpStream, host: &str, port: u16) -> Result<TcpStream, ProxyError> {
        use tokio_socks::Error;
        let stream = match &self.login {
            Some((user, password)) => {
                Socks5Stream::connect_with_password_and_socket(socket, (host, port), user, password.reveal()).await
            }
            None => Socks5Stream::connect_with_socket(socket, (host, port)).await,
        };
        stream.map(Socks5Stream::into_inner).map_err(|error| match error {
            Error::Io(error) => ProxyError::Io(error),
            Error::PasswordAuthFailure(_) => ProxyError::WrongLogin,
            Error::NoAcceptableAuthMethods if self.login.is_some() => ProxyError::UselessLogin,
            Error::NoAcceptableAuthMethods => ProxyError::NeedsLogin,
            Error::GeneralSocksServerFailure
            | Error::ConnectionNotAllowedByRuleset
            | Error::NetworkUnreachable
            | Error::HostUnreachable
            | Error::ConnectionRefused
            | Error::TtlExpired => ProxyError::Refused(error),
            error => ProxyError::Socks(error),
        })
    }
}

fn spoken(scheme: ProxyScheme) -> &'static str {
    match scheme {
        ProxyScheme::Http => "HTTP",
        ProxyScheme::Socks5 => "SOCKS5",
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// What comes of a proxy that answers so after each time it is asked something, and what it was asked last.
    async fn ask(
        scheme: ProxyScheme,
        login: Option<(&str, &str)>,
        answers: &[&[u8]],
    ) -> (Result<TcpStream, String>, Vec<u8>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let serve = async {
            let (mut client, _) = listener.accept().await.expect("a client");
            let mut asked = vec![0; 4096];
            let mut length = 0;
            for answer in answers {
                length = client.read(&mut asked).await.expect("it asks");
                // What goes away before it has heard all knew enough.
                let _ = client.write_all(answer).await;
            }
            asked.truncate(length);
            asked
        };
        let login = login.map(|(user, password)| (user.to_owned(), password.into()));
        let proxy = Proxy { name: "p".into(), scheme, host: "127.0.0.1".into(), port: address.port(), login };
        let tunnel = async {
            let socket = TcpStream::connect(address).await.expect("it listens");
            proxy.tunnel(socket, "far.example", 55671).await.map_err(|error| error.to_string())
        };
        tokio::join!(tunnel, serve)
    }

    const LOGIN: Option<(&str, &str)> = Some(("svc", "s3cret"));

    #[tokio::test]
    async fn http_is_asked_with_the_login_and_gives_the_socket() {
        let (socket, asked) =
            ask(ProxyScheme::Http, LOGIN, &[b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n"]).await;
        socket.expect("let through");
        let asked = String::from_utf8(asked).expect("text").to_lowercase();
        assert!(asked.starts_with("connect far.example:55671 http/1.1\r\n"), "{asked}");
        assert!(asked.contains("host: far.example:55671\r\n"), "{asked}");
        assert!(asked.contains(&"proxy-authorization: Basic c3ZjOnMzY3JldA==\r\n".to_lowercase()), "{asked}");
    }

    #[tokio::test]
    async fn what_http_proxies_refuse_is_told() {
        let endless = [b"HTTP/1.1 200 OK\r\n".as_slice(), &b"x: yyyyyyyyyyyyy\r\n".repeat(20_000)].concat();
        let status = |line: &str| format!("HTTP/1.1 {line}\r\nContent-Length: 5\r\n\r\nsorry").into_bytes();
        for (login, answer, message) in [
            (None, status("407 Proxy Authentication Required"), "it wants a user and a password; set"),
            (LOGIN, status("407 Proxy Authentication Required"), "it does not accept user and password; correct"),
            (LOGIN, status("401 Unauthorized"), "it does not accept user and password; correct"),
            (None, status("403 Forbidden"), "it answers 403 Forbidden; does it allow"),
            (None, status("502 Bad Gateway"), "it answers 502 Bad Gateway; does it allow"),
            (None, b"SSH-2.0-OpenSSH\r\n".to_vec(), "does it speak HTTP?"),
            (None, endless, "does it speak HTTP?"),
            (None, b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec(), "it sent octets behind its answer"),
            (None, Vec::new(), "does it speak HTTP?"),
        ] {
            let (outcome, _) = ask(ProxyScheme::Http, login, &[&answer]).await;
            let error = outcome.expect_err(message);
            assert!(error.contains(message) && !error.contains("s3cret"), "{error}");
        }
    }

    #[tokio::test]
    async fn socks_looks_names_up_at_the_proxy() {
        let done = [5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let (socket, asked) = ask(ProxyScheme::Socks5, LOGIN, &[&[5, 2], &[1, 0], &done]).await;
        socket.expect("let through");
        assert_eq!(asked, [&[5, 1, 0, 3, 11], b"far.example".as_slice(), &55671_u16.to_be_bytes()].concat());
    }

    #[tokio::test]
    async fn what_socks_proxies_refuse_is_told() {
        let refused = [5, 2, 0, 1, 0, 0, 0, 0, 0, 0];
        for (login, answers, message) in [
            (None, vec![[5, 0xFF].as_slice()], "it wants a user and a password; set"),
            (LOGIN, vec![[5, 0xFF].as_slice()], "remove them from the proxyProfile"),
            (LOGIN, vec![[5, 2].as_slice(), &[1, 1]], "it does not accept user and password; correct"),
            (None, vec![[5, 0].as_slice(), &refused], "not allowed by ruleset; does it allow"),
            (None, vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice()], "does it speak SOCKS5?"),
            (None, vec![[5].as_slice()], "broke off"),
        ] {
            let (outcome, _) = ask(ProxyScheme::Socks5, login, &answers).await;
            let error = outcome.expect_err(message);
            assert!(error.contains(message), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_says_nothing_is_given_up() {
        for scheme in [ProxyScheme::Http, ProxyScheme::Socks5] {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
            let socket = TcpStream::connect(listener.local_addr().expect("it listens")).await.expect("it listens");
            let proxy = Proxy { name: "p".into(), scheme, host: String::new(), port: 0, login: None };
            let error = proxy.tunnel(socket, "far.example", 1).await.expect_err("no answer").to_string();
            assert_eq!(error, format!("no answer for 10 s; does it speak {}?", spoken(scheme)));
        }
    }
}
