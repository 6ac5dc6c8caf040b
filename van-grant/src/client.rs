//! Redemption over HTTPS, the redeemer's side.

use std::fmt;
use std::io;
use std::net::Ipv6Addr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use van_tls::{CredentialsError, HandshakeError, HttpsConnector, HttpsStream, SetupError, TlsError, Trust};
use zeroize::Zeroizing;

use crate::bundle::{Bundle, BundleError};
use crate::token::{AccessToken, Target, TokenError};
use crate::wire::{NAME, SUBJECT, UNKNOWN, USED_UP, WRONG_CODE, is_same_host};

/// Octets of a refusal that are read; the longest good one has less than a hundred.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// Characters of it that are shown.
const MAX_SHOWN: usize = 200;

/// How long an address of a host may take to answer when there are others.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(3);

/// How to redeem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedeemOptions {
    /// How long one host may take, from the look-up of its name to the end of its answer (default 10 s, as Skupper's).
    pub timeout: Duration,
    /// The longest answer that is read (default 1 MiB).
    pub max_answer_bytes: usize,
}

impl Default for RedeemOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), max_answer_bytes: 1024 * 1024 }
    }
}

/// Redeems a token: sends its code to the site that issued it, and returns credentials and Links, with the cost that the
/// token demands.
///
/// `subject` becomes the common name of the certificate: the UID of this site, or its name.
///
/// Only the token's CA is trusted, redirects are not followed. The hosts of the token are tried in order, that of its URL
/// first. The next one is tried as long as the code has not left, and after the answer that the grant is unknown there: then
/// nothing was taken, and the grant may answer through another host only. In all other cases a use may be gone, so the
/// first host that was sent the code is the last.
///
/// Dropping the future closes the connection; if the code was already sent, its use may be gone.
///
/// # Errors
/// [`RedeemError`]; [`is_final`](RedeemError::is_final) says whether to try again.
pub async fn redeem(token: &AccessToken, subject: &str, options: &RedeemOptions) -> Result<Bundle, RedeemError> {
    let target = token.target()?;
    let connector = HttpsConnector::new(&Trust::from_pem(&token.ca)?, &[])?;
    let call = Call { token, subject, options, target, connector };
    let mut failures = Vec::new();
    for host in call.hosts() {
        match call.redeem(host).await {
            Ok(bundle) => return Ok(bundle.with_cost(token.link_cost)),
            Err(error) if error.leaves_the_code_unused() => failures.push(error),
            Err(error) => return Err(error),
        }
    }
    // A host that knows the protocol, but not the grant, says more than one that cannot be reached.
    if let Some(answer) = failures.iter().position(|failure| matches!(failure, RedeemError::Unknown { .. })) {
        return Err(failures.swap_remove(answer));
    }
    if failures.len() > 1 { Err(RedeemError::NoHost(Failures(failures))) } else { Err(failures.remove(0)) }
}

struct Call<'a> {
    token: &'a AccessToken,
    subject: &'a str,
    options: &'a RedeemOptions,
    target: Target,
    connector: HttpsConnector,
}

impl Call<'_> {
    /// That of the URL first, then the others; never empty.
    fn hosts(&self) -> impl Iterator<Item = &str> {
        let first = self.target.host.as_str();
        let others = self.token.hosts.iter().map(String::as_str);
        std::iter::once(first).chain(others.filter(move |host| !is_same_host(host, first)))
    }

    async fn redeem(&self, host: &str) -> Result<Bundle, RedeemError> {
        let request = self.request(host)?;
        let deadline = Instant::now() + self.options.timeout;
        let within = self.options.timeout;
        let stream = match timeout_at(deadline, self.connect(host)).await {
            Ok(connected) => connected?,
            Err(_) => return Err(RedeemError::TimedOut { address: self.authority(host), within }),
        };
        let lost = || RedeemError::NoAnswer { host: host.to_owned() };
        let (status, answer) =
            timeout_at(deadline, self.exchange(request, stream)).await.map_err(|_| lost())?.ok_or_else(lost)?;
        self.judge(host, status, &answer)
    }

    fn request(&self, host: &str) -> Result<hyper::Request<Full<Bytes>>, RedeemError> {
        let header = |text: &str| {
            HeaderValue::from_bytes(text.as_bytes()).map_err(|_| RedeemError::Name { name: text.to_owned() })
        };
        let code = Bytes::from_owner(Zeroizing::new(self.token.code.expose().to_owned()));
        let mut request = hyper::Request::new(Full::new(code));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.path.parse().map_err(|error: http::uri::InvalidUri| {
            RedeemError::Token(TokenError::Url { reason: error.to_string() })
        })?;
        let headers = request.headers_mut();
        headers.insert(HOST, header(&self.authority(host))?);
        headers.insert(NAME, header(&self.token.name)?);
        headers.insert(SUBJECT, header(self.subject)?);
        Ok(request)
    }

    fn authority(&self, host: &str) -> String {
        let port = self.target.port;
        if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    async fn connect(&self, host: &str) -> Result<HttpsStream<TcpStream>, RedeemError> {
        let unreachable = |source| RedeemError::Unreachable { address: self.authority(host), source };
        let socket = connect(host, self.target.port).await.map_err(unreachable)?;
        #[expect(clippy::disallowed_methods, reason = "the client is where the clock is read")]
        let now = SystemTime::now();
        let connected = self.connector.connect(host, now, socket).await;
        connected.map_err(|error| match error {
            TlsError::Handshake(HandshakeError::NotTls { .. }) => {
                RedeemError::NotHttps { address: self.authority(host) }
            }
            error => tls_error(host.to_owned(), error),
        })
    }

    /// Sends the code and reads the answer; `None` if it does not come.
    async fn exchange(
        &self,
        request: hyper::Request<Full<Bytes>>,
        stream: HttpsStream<TcpStream>,
    ) -> Option<(StatusCode, Answer)> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let exchange = async {
            let response = match sender.send_request(request).await {
                Ok(response) => response,
                Err(error) if error.is_parse() => return Some((StatusCode::OK, Answer::NotHttp)),
                Err(_) => return None,
            };
            let status = response.status();
            let max = if status == StatusCode::OK { self.options.max_answer_bytes } else { MAX_REFUSAL_BYTES };
            Some((status, read(response.into_body(), max).await?))
        };
        // The end of the connection reaches the exchange by itself, behind what has arrived before.
        tokio::select! {
            answer = exchange => answer,
            () = async { let _ = connection.await; std::future::pending().await } => None,
        }
    }

    fn judge(&self, host: &str, status: StatusCode, answer: &Answer) -> Result<Bundle, RedeemError> {
        let stranger = |saw: &str| RedeemError::NotAGrantServer { address: self.authority(host), saw: saw.to_owned() };
        let host = host.to_owned();
        let text = match answer {
            Answer::Text(text) => text.trim(),
            Answer::NotText => return Err(stranger("something that is not text")),
            Answer::TooLong => return Err(stranger("an answer that is too long")),
            Answer::NotHttp => return Err(stranger("something that is not HTTP")),
        };
        let is_html = text.starts_with('<');
        match status {
            StatusCode::OK if is_html => Err(stranger("a web page")),
            StatusCode::OK => match Bundle::from_yaml(text) {
                Ok(bundle) if bundle.is_named(&self.token.name) => Ok(bundle),
                Ok(_) => Err(stranger("credentials or Links for another name")),
                Err(source) => Err(RedeemError::NotABundle { address: self.authority(&host), source }),
            },
            StatusCode::NOT_FOUND if text == UNKNOWN => Err(RedeemError::Unknown { host }),
            StatusCode::NOT_FOUND if text == USED_UP => Err(RedeemError::UsedUp { host }),
            StatusCode::FORBIDDEN if text == WRONG_CODE => Err(RedeemError::Refused { host }),
            status if status.is_server_error() => {
                let text = if is_html { "a web page".to_owned() } else { shown(text) };
                Err(RedeemError::ServerFailed { host, status: status.as_u16(), text })
            }
            status if status.is_redirection() => Err(stranger(&format!("a redirect ({status})"))),
            status if is_html => Err(stranger(&format!("a web page ({status})"))),
            status => Err(stranger(&format!("{status}: {}", shown(text)))),
        }
    }
}

/// What a server said.
enum Answer {
    Text(Zeroizing<String>),
    NotText,
    TooLong,
    NotHttp,
}

/// Reads a body; `None` if it breaks off.
async fn read(body: Incoming, max_bytes: usize) -> Option<Answer> {
    match Limited::new(body, max_bytes).collect().await {
        Ok(body) => {
            Some(String::from_utf8(body.to_bytes().into()).map_or(Answer::NotText, |text| Answer::Text(text.into())))
        }
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Some(Answer::TooLong),
        Err(_) => None,
    }
}

/// What a stranger wrote, fit for a message.
fn shown(text: &str) -> String {
    let visible = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    visible.take(MAX_SHOWN).collect()
}

fn tls_error(host: String, source: TlsError) -> RedeemError {
    match source {
        TlsError::Handshake(HandshakeError::WrongHost { presented, .. }) => {
            RedeemError::WrongHost { host, names: presented }
        }
        TlsError::Handshake(HandshakeError::Untrusted(source)) => RedeemError::WrongCa { host, source },
        TlsError::Handshake(source @ (HandshakeError::Expired { .. } | HandshakeError::NotYetValid { .. })) => {
            RedeemError::WrongTime { host, source }
        }
        source => RedeemError::Tls { host, source },
    }
}

/// Why there are no credentials, and whose move it is.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    /// The token is damaged or incomplete; ask for a new one.
    #[error("the token cannot be used; ask for a new one")]
    Token(#[from] TokenError),
    /// The CA in the token is damaged; ask for a new token.
    #[error("the CA in the token cannot be used; ask for a new token")]
    Ca(#[from] CredentialsError),
    /// The token's name or the subject cannot stand in a header; the caller's move.
    #[error("the name {name:?} cannot be sent; choose one without control characters")]
    Name {
        /// The name or the subject.
        name: String,
    },
    /// TLS cannot be set up; ours.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The host's name has no address, or nobody accepts connections there.
    #[error("{address} cannot be reached; is the site that issued the token running, and is its port open from here?")]
    Unreachable {
        /// The host and the port.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// There was no connection in time. The code was not sent.
    #[error(
        "no HTTPS connection to {address} within {within:?}; does a firewall swallow what is sent there, or does another program listen?"
    )]
    TimedOut {
        /// The host and the port.
        address: String,
        /// The time it was given.
        within: Duration,
    },
    /// The server speaks something else than TLS; the token's URL leads to a wrong port, or there is a proxy.
    #[error("{address} does not speak HTTPS; does the token's URL have the right port?")]
    NotHttps {
        /// The host and the port.
        address: String,
    },
    /// The server's certificate comes from another CA than the token's.
    #[error(
        "{host} has a certificate from another CA than the token's: another server answers there, or the site was made anew; ask for a new token"
    )]
    WrongCa {
        /// The host.
        host: String,
        /// What TLS says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server's certificate is for other hosts.
    #[error(
        "the certificate of {host} names {}; ask for a token for {host}, or call the site by such a name",
        if names.is_empty() { "no host".to_owned() } else { names.join(", ") }
    )]
    WrongHost {
        /// The host as called.
        host: String,
        /// The hosts that the certificate names.
        names: Vec<String>,
    },
    /// The server's certificate has expired or is not valid yet; most often a clock is wrong.
    #[error(
        "the certificate of {host} is not valid at this time; are the clocks of this machine and of that one right?"
    )]
    WrongTime {
        /// The host.
        host: String,
        /// What TLS says.
        source: HandshakeError,
    },
    /// There is no TLS connection for another reason.
    #[error("no TLS connection to {host}")]
    Tls {
        /// The host.
        host: String,
        /// What TLS says.
        source: TlsError,
    },
    /// The connection ended, or the time was over, after the code was sent.
    #[error(
        "{host} took the code but gave no answer; if the next attempt says that it is used up, ask for a new token"
    )]
    NoAnswer {
        /// The host.
        host: String,
    },
    /// The grant is unknown there (404).
    #[error("{host} does not know the token: it has expired, or the site that issued it is gone; ask for a new one")]
    Unknown {
        /// The host.
        host: String,
    },
    /// The grant has no uses left (404).
    #[error("the token has been used up; ask for a new one")]
    UsedUp {
        /// The host.
        host: String,
    },
    /// The code is wrong (403).
    #[error("{host} refused the token's code; was the token changed? ask for a new one")]
    Refused {
        /// The host.
        host: String,
    },
    /// The site could not issue credentials (5xx). Try again later.
    #[error("{host} cannot issue credentials now ({status}: {text}); its log says why")]
    ServerFailed {
        /// The host.
        host: String,
        /// The HTTP status.
        status: u16,
        /// What it says.
        text: String,
    },
    /// Something else answers at the token's URL.
    #[error("{address} answered with {saw}, which no grant server does; does the token's URL lead to a proxy?")]
    NotAGrantServer {
        /// The host and the port.
        address: String,
        /// What came.
        saw: String,
    },
    /// The answer says that all is well, but holds no credentials.
    #[error("{address} answered with something that is not credentials; does the token's URL lead to a grant server?")]
    NotABundle {
        /// The host and the port.
        address: String,
        /// What is wrong with it.
        source: BundleError,
    },
    /// None of several hosts could be asked; each has its reason.
    #[error("none of the token's hosts could be asked: {0}")]
    NoHost(Failures),
}

impl RedeemError {
    /// Whether trying again is useless: the token itself is the fault.
    ///
    /// Otherwise try again, each time after a longer pause.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Token(_)
                | Self::Ca(_)
                | Self::Name { .. }
                | Self::Unknown { .. }
                | Self::UsedUp { .. }
                | Self::Refused { .. }
        )
    }

    /// Whether another host may be asked.
    fn leaves_the_code_unused(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::TimedOut { .. }
                | Self::NotHttps { .. }
                | Self::WrongCa { .. }
                | Self::WrongHost { .. }
                | Self::WrongTime { .. }
                | Self::Tls { .. }
                | Self::Unknown { .. }
        )
    }
}

/// Why each of several hosts could not be asked, in their order.
#[derive(Debug)]
pub struct Failures(pub Vec<RedeemError>);

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, failure) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{failure}")?;
        }
        Ok(())
    }
}

/// Tries the addresses of a host one after the other. One that does not answer keeps the next from being tried for a while only.
async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut addresses = tokio::net::lookup_host((host, port)).await?.peekable();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    while let Some(address) = addresses.next() {
        let patience = if addresses.peek().is_some() { ADDRESS_PATIENCE } else { Duration::MAX };
        match tokio::time::timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => failed = error,
            Err(_) => failed = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failed)
}
