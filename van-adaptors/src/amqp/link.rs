//! A link that this router dials: one control connection, and data connections beside it.
//!
//! Every time the control connection is dialled anew, so are the others, under a new correlator: a peer that has not
//! noticed the old ones' death would refuse the same (docs/wire.md §1.8). Data connections that are alive stay until the
//! streams on them have ended.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};
use van_core::Random;
use van_core::amqp::{Condition, Config, Connection, Login};
use van_core::management::config::Family;
use van_core::plane::Purpose;
use van_core::router::{Announcement, Candidate, Dialled, Origin, open_config};

use super::{EstablishError, Opened, Profile, establish, reason_text};
use crate::control::{Control, Owner};
use crate::entities::Board;
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
    /// Its certificates, as they are when it is dialled.
    pub(crate) tls: Option<watch::Receiver<Arc<Profile>>>,
    pub(crate) verifies_host: bool,
    pub(crate) data_connections: u16,
    pub(crate) max_frame_bytes: Option<u32>,
    pub(crate) idle_timeout: Duration,
    /// Whom its connections belong to.
    pub(crate) owner: Owner,
    pub(crate) board: Board,
}

impl Link {
    fn profile(&self) -> Option<Arc<Profile>> {
        self.tls.as_ref().map(|profile| Arc::clone(&profile.borrow()))
    }
}

/// A connection that is up.
struct Up {
    router: String,
    access: Option<String>,
    /// Tells when it is closed, and why.
    closed: oneshot::Receiver<Option<Condition>>,
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
        // One generation for all connections of the group, or they would not be one (docs/wire.md §1.8).
        let group =
            Group { correlator: random.discriminator(), ordinal: link.profile().map(|profile| profile.ordinal) };
        let dialled = Instant::now();
        match connect(&link, &group, Purpose::Control, &control).await {
            Ok(Up { router, access, closed }) => {
                last_error.clear();
                link.board.link(&link.name, |state| state.came_up(router, access, group.ordinal));
                let mut data = JoinSet::new();
                for number in 0..link.data_connections {
                    let pause = Pause::new(Random::new(random.next_u64().wrapping_add(number.into())));
                    data.spawn(keep_data_connection(link.clone(), group.clone(), control.clone(), pause));
                }
                let reason = reason_text(closed.await.ok().flatten());
                link.board.link(&link.name, |state| state.is_down_for(&reason));
                warn!(link = %link.name, reason, "link lost; dialling again");
            }
            // The same error over and over is told once.
            Err(error) if error.to_string() != last_error => {
                last_error = error.to_string();
                link.board.link(&link.name, |state| state.is_down_for(&last_error));
                warn!(link = %link.name, error = %last_error, "link is not up; trying again");
            }
            Err(_) => {}
        }
        pause.rest(dialled).await;
    }
}

/// What the connections of a link have in common until its control connection is lost.
#[derive(Debug, Clone)]
struct Group {
    correlator: String,
    ordinal: Option<u64>,
}

async fn keep_data_connection(link: Link, group: Group, control: Control, mut pause: Pause) {
    let mut is_told = false;
    loop {
        let dialled = Instant::now();
        match connect(&link, &group, Purpose::Data, &control).await {
            Ok(up) => {
                is_told = false;
                drop(up.closed.await);
            }
            Err(error) if !std::mem::replace(&mut is_told, true) => {
                warn!(link = %link.name, %error, "a data connection is not up; trying again");
            }
            Err(_) => {}
        }
        pause.rest(dialled).await;
    }
}

/// Brings up one connection.
async fn connect(link: &Link, group: &Group, purpose: Purpose, control: &Control) -> Result<Up, LinkError> {
    let dialled = Dialled { correlator: group.correlator.clone(), ordinal: group.ordinal, purpose };
    let opened = open(link, &dialled).await?;
    let announcement = Announcement::read(&opened.open);
    let (router, product) = (announcement.container.clone(), announcement.product.clone());
    let access = announcement.access.clone();
    let candidate = Candidate { announcement, origin: Origin::Dialled(dialled), cost: link.cost };
    let closed = control.admit(link.owner, candidate, opened).await.map_err(LinkError::Refused)?;
    if purpose == Purpose::Control {
        info!(link = %link.name, peer = %format_args!("{}:{}", link.host, link.port), router, product, "link connected");
    }
    Ok(Up { router, access, closed })
}

async fn open(link: &Link, dialled: &Dialled) -> Result<Opened, LinkError> {
    let (host, port) = (&link.host, link.port);
    let socket = dial(link).await.map_err(|source| LinkError::Unreachable { host: host.clone(), port, source })?;
    let establishing = async {
        let profile = link.profile();
        let connector = profile.as_ref().map(|profile| profile.connector(link.verifies_host));
        let tls = connector.map(|connector| connector.connect(host, SystemTime::now())).transpose()?;
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
