//! A link that this router dials: one control connection, and data connections beside it.
//!
//! Every time the control connection is dialled anew, so are the others, under a new correlator: a peer that has not
//! noticed the old ones' death would refuse the same (docs/wire.md §1.8). Data connections that are alive stay until the
//! streams on them have ended.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::{info, warn};
use van_core::Random;
use van_core::amqp::{Condition, Config, Connection, Login};
use van_core::management::config::Family;
use van_core::plane::Purpose;
use van_core::router::{Announcement, Candidate, Dialled, Origin, open_config};
use van_tls::LinkConnector;

use super::{EstablishError, Opened, establish, reason_text};
use crate::control::Control;
use crate::tcp::listener::fits;

/// The first pause before dialling again; it doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause. A peer that comes back is found within this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A connection that lasted this long starts over with the first pause when it is lost.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// How long one address of a host may take to answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// What a dialled link needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) router: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) family: Option<Family>,
    pub(crate) cost: u32,
    pub(crate) tls: Option<LinkConnector>,
    /// The generation of the TLS credentials.
    pub(crate) ordinal: Option<u64>,
    pub(crate) data_connections: u16,
    pub(crate) max_frame_bytes: Option<u32>,
    pub(crate) idle_timeout: Duration,
}

/// Why a link is not up.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("cannot reach {host}:{port}: {source}")]
    Unreachable { host: String, port: u16, source: io::Error },
    #[error("{host}:{port}: {source}")]
    Establish { host: String, port: u16, source: EstablishError },
    #[error("the router refused the connection: {0}")]
    Refused(Condition),
}

/// Keeps a link up for as long as it is not dropped.
pub(crate) async fn run(link: Link, control: Control, mut random: Random) {
    let mut pause = Pause::new(random.clone());
    let mut last_error = String::new();
    loop {
        let correlator = random.discriminator();
        let dialled = Instant::now();
        match connect(&link, &correlator, Purpose::Control, &control).await {
            Ok(closed) => {
                last_error.clear();
                let mut data = JoinSet::new();
                for number in 0..link.data_connections {
                    let pause = Pause::new(Random::new(random.next_u64().wrapping_add(number.into())));
                    data.spawn(keep_data_connection(link.clone(), correlator.clone(), control.clone(), pause));
                }
                let reason = reason_text(closed.await.ok().flatten());
                warn!(link = %link.name, reason, "link lost; dialling again");
            }
            // The same error over and over is told once.
            Err(error) if error.to_string() != last_error => {
                last_error = error.to_string();
                warn!(link = %link.name, error = %last_error, "link is not up; trying again");
            }
            Err(_) => {}
        }
        pause.rest(dialled).await;
    }
}

async fn keep_data_connection(link: Link, correlator: String, control: Control, mut pause: Pause) {
    let mut is_told = false;
    loop {
        let dialled = Instant::now();
        match connect(&link, &correlator, Purpose::Data, &control).await {
            Ok(closed) => {
                is_told = false;
                drop(closed.await);
            }
            Err(error) if !std::mem::replace(&mut is_told, true) => {
                warn!(link = %link.name, %error, "a data connection is not up; trying again");
            }
            Err(_) => {}
        }
        pause.rest(dialled).await;
    }
}

/// Brings up one connection. The receiver tells when it is closed, and why.
async fn connect(
    link: &Link,
    correlator: &str,
    purpose: Purpose,
    control: &Control,
) -> Result<oneshot::Receiver<Option<Condition>>, LinkError> {
    let dialled = Dialled { correlator: correlator.to_owned(), ordinal: link.ordinal, purpose };
    let opened = open(link, &dialled).await?;
    let announcement = Announcement::read(&opened.open);
    let (router, product) = (announcement.container.clone(), announcement.product.clone());
    let candidate = Candidate { announcement, origin: Origin::Dialled(dialled), cost: link.cost };
    let closed = control.admit(candidate, opened).await.map_err(LinkError::Refused)?;
    if purpose == Purpose::Control {
        info!(link = %link.name, peer = %format_args!("{}:{}", link.host, link.port), router, product, "link connected");
    }
    Ok(closed)
}

async fn open(link: &Link, dialled: &Dialled) -> Result<Opened, LinkError> {
    let (host, port) = (&link.host, link.port);
    let socket = dial(link).await.map_err(|source| LinkError::Unreachable { host: host.clone(), port, source })?;
    let establishing = async {
        let tls = link.tls.as_ref().map(|tls| tls.connect(host, SystemTime::now())).transpose()?;
        let logins = if tls.is_some() { vec![Login::External, Login::Anonymous] } else { vec![Login::Anonymous] };
        let config = open_config(&link.router, Some(host), link.cost, Some(dialled));
        let config = Config { idle_timeout: link.idle_timeout, ..config };
        let config = Config { max_frame_bytes: link.max_frame_bytes.unwrap_or(config.max_frame_bytes), ..config };
        establish(socket, tls, Connection::connect(config, logins, Instant::now())).await
    };
    establishing.await.map_err(|source| LinkError::Establish { host: host.clone(), port, source })
}

/// Connects to the first of the host's addresses that answers.
async fn dial(link: &Link) -> io::Result<TcpStream> {
    let addresses = tokio::net::lookup_host((link.host.as_str(), link.port)).await?;
    let addresses: Vec<SocketAddr> = addresses.filter(|address| fits(address, link.family)).collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address of that family");
    for address in addresses {
        match tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// Growing pauses between attempts, with jitter so that many routers do not dial in step.
struct Pause {
    next: Duration,
    random: Random,
}

impl Pause {
    fn new(random: Random) -> Self {
        Self { next: FIRST_PAUSE, random }
    }

    async fn rest(&mut self, dialled: Instant) {
        if dialled.elapsed() >= STABLE_AFTER {
            self.next = FIRST_PAUSE;
        }
        let jitter = self.next.mul_f64((self.random.next_u64() % 256) as f64 / 1024.0);
        tokio::time::sleep(self.next + jitter).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
    }
}
