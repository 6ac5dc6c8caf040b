//! A link that this router dials: one control connection, and data connections beside it.
//!
//! Every time the control connection is dialled anew, so are the others, under a new correlator: a peer that has not
//! noticed the old ones' death would refuse the same (docs/wire.md §1.8). Data connections that are alive stay until the
//! streams on them have ended.
//!
//! New certificates of a higher ordinal bring up a whole new generation beside the one in use, under the same correlator.
//! It takes over when it is up, and the old one's connections end with the streams on them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};
use van_core::Random;
use van_core::amqp::{Condition, Connection, Login, Password};
use van_core::management::config::{Amqp, Family, MAX_DATA_CONNECTIONS, PasswordSource};
use van_core::plane::{PeerKind, Purpose};
use van_core::router::{Announcement, Candidate, Dialled, Origin, Place, open_config};

use super::pause::{Outcome, Pause};
use super::places::Places;
use super::proxy::{Proxy, ProxyError};
use super::{ESTABLISH_TIMEOUT, EstablishError, Opened, Profile, establish, path, reason_text, tuned};
use crate::control::{Control, Hold, Owner};
use crate::entities::{Board, read_password};
use crate::machine;
use crate::tcp::listener::fits;

/// How long one address of a host may take to answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// What a dialled link needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) router: String,
    /// Where it is dialled, first choice first; at least one place.
    pub(crate) places: Vec<Place>,
    pub(crate) family: Option<Family>,
    /// The proxy to go through, as it is when it is dialled.
    pub(crate) proxy: Option<watch::Receiver<Arc<Proxy>>>,
    pub(crate) cost: u32,
    /// Who is there, if not an interior router to have an interior link with.
    pub(crate) peer: Option<PeerKind>,
    /// Whether it is a program that links are attached to.
    pub(crate) is_program: bool,
    /// Its certificates, as they are when it is dialled.
    pub(crate) tls: Option<watch::Receiver<Arc<Profile>>>,
    pub(crate) verifies_host: bool,
    /// The SASL mechanisms to use, of those that fit.
    pub(crate) mechanisms: Option<Vec<String>>,
    /// Who we are, and where the proof of it is.
    pub(crate) login: Option<(String, PasswordSource)>,
    pub(crate) data_connections: DataConnections,
    /// How AMQP is spoken.
    pub(crate) amqp: Amqp,
    /// Whom its connections belong to.
    pub(crate) owner: Owner,
    pub(crate) board: Board,
}

/// How many data connections a link has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataConnections {
    Exactly(u16),
    /// As many as fill the path, if that is more.
    AtLeast(u16),
}

impl DataConnections {
    /// How many there are on a path of so long a round trip. A TCP connection has no more under way than the system gives
    /// it a buffer for.
    fn count(self, round: Duration, buffer: u64) -> u16 {
        let least = match self {
            Self::Exactly(count) => return count,
            Self::AtLeast(least) => least,
        };
        let wanted = path::octets(round).div_ceil(buffer.max(1));
        u16::try_from(wanted).unwrap_or(u16::MAX).min(MAX_DATA_CONNECTIONS).max(least)
    }
}

impl Link {
    /// What its first connection is for.
    fn purpose(&self) -> Purpose {
        self.peer.map_or(Purpose::Control, Purpose::Links)
    }

    fn profile(&self) -> Option<Arc<Profile>> {
        self.tls.as_ref().map(|profile| Arc::clone(&profile.borrow()))
    }
}

/// A connection that is in use.
struct Connected {
    /// How long its path takes there and back.
    round: Duration,
    router: String,
    access: Option<String>,
    failover: Option<Vec<Place>>,
    hold: Hold,
}

/// Why a link is not up.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("cannot reach {host}:{port}: {source}")]
    Unreachable { host: String, port: u16, source: io::Error },
    #[error("cannot reach the proxy \"{}\" at {}:{}: {source}", .proxy.name, .proxy.host, .proxy.port)]
    NoProxy { proxy: Arc<Proxy>, source: io::Error },
    #[error("cannot reach {host}:{port} through the proxy \"{}\" at {}:{}: {source}", .proxy.name, .proxy.host, .proxy.port)]
    Proxy { host: String, port: u16, proxy: Arc<Proxy>, source: ProxyError },
    #[error("{host}:{port}: {source}")]
    Establish { host: String, port: u16, source: EstablishError },
    #[error("the router refused the connection: {0}")]
    Refused(Condition),
    #[error("closed before its control links were up: {0}")]
    Lost(String),
}

impl LinkError {
    /// Whether it can be told that nobody is there.
    fn outcome(&self) -> Outcome {
        match self {
            Self::Unreachable { source, .. } | Self::NoProxy { source, .. } => match source.kind() {
                io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable => Outcome::Absent,
                _ => Outcome::Failed,
            },
            _ => Outcome::Failed,
        }
    }
}

/// Keeps a link up for as long as it is not dropped.
pub(crate) async fn run(link: Link, control: Control, mut random: Random) {
    let mut pause = Pause::new(random.clone());
    let mut places = Places::new(link.places.clone());
    let mut last_error = String::new();
    loop {
        let group = Group {
            correlator: random.discriminator(),
            profile: link.profile(),
            place: places.current().clone(),
            round: Duration::ZERO,
        };
        let dialled = Instant::now();
        let outcome = match Generation::dial(&link, group, &control, &mut random).await {
            Ok(generation) => {
                last_error.clear();
                let Connected { router, access, failover, .. } = &generation.control;
                places.learn(failover.clone());
                let (ordinal, urls) = (generation.group.ordinal(), places.urls());
                link.board.link(&link.name, |state| {
                    state.came_up(router.clone(), access.clone(), ordinal);
                    state.failover_urls = urls;
                });
                let reason = generation.last(&link, &control, &mut random).await;
                link.board.link(&link.name, |state| state.is_down_for(&reason));
                warn!(link = %link.name, reason, "link lost; dialling again");
                Outcome::Connected
            }
            Err(error) => {
                // The same error over and over is told once.
                if error.to_string() != last_error {
                    last_error = error.to_string();
                    link.board.link(&link.name, |state| state.is_down_for(&last_error));
                    warn!(link = %link.name, error = %last_error, "link is not up; trying again");
                }
                error.outcome()
            }
        };
        if places.count() > 1 {
            places.go_on();
            link.board.link(&link.name, |state| state.failover_urls = places.urls());
        }
        pause.rest(dialled, outcome, places.count()).await;
    }
}

/// What the connections of a generation have in common, or they would not be one group (docs/wire.md §1.8).
#[derive(Debug, Clone)]
struct Group {
    correlator: String,
    profile: Option<Arc<Profile>>,
    place: Place,
    /// How long the path takes there and back, once one of them is connected.
    round: Duration,
}

impl Group {
    fn ordinal(&self) -> Option<u64> {
        self.profile.as_ref().map(|profile| profile.ordinal)
    }

    /// Its certificates, which may be renewed without being of another generation.
    fn profile(&self, link: &Link) -> Option<Arc<Profile>> {
        link.profile().filter(|now| Some(now.ordinal) == self.ordinal()).or(self.profile.clone())
    }

    /// The same link's next group, once there are certificates of a higher ordinal. Only between routers is there a next.
    async fn next(&self, link: &Link) -> Self {
        if matches!(link.purpose(), Purpose::Control | Purpose::Links(PeerKind::Interior))
            && let Some(mut tls) = link.tls.clone()
            && let Ok(profile) = tls.wait_for(|profile| Some(profile.ordinal) > self.ordinal()).await
        {
            return Self { profile: Some(Arc::clone(&profile)), ..self.clone() };
        }
        std::future::pending().await
    }
}

/// The connections of a link that share their certificates.
struct Generation {
    group: Group,
    control: Connected,
    /// They keep up the data connections, until dropped.
    _data: JoinSet<()>,
}

impl Generation {
    async fn dial(link: &Link, group: Group, control: &Control, random: &mut Random) -> Result<Self, LinkError> {
        let connected = connect(link, &group, link.purpose(), control).await?;
        let group = Group { round: connected.round, ..group };
        let mut data = JoinSet::new();
        for number in 0..link.data_connections.count(group.round, machine::send_buffer()) {
            let pause = Pause::new(Random::new(random.next_u64().wrapping_add(number.into())));
            data.spawn(keep_data_connection(link.clone(), group.clone(), control.clone(), pause));
        }
        Ok(Self { group, control: connected, _data: data })
    }

    /// Keeps the link, renewed with every new generation of certificates, until the control connection is lost. Why.
    async fn last(mut self, link: &Link, control: &Control, random: &mut Random) -> String {
        loop {
            let renewed = renew(link, &self.group, control, random);
            tokio::select! {
                reason = &mut self.control.hold.closed => return reason_text(reason),
                renewed = renewed => self = renewed,
            }
            let (name, ordinal) = (&link.name, self.group.ordinal());
            link.board.link(name, |state| state.ordinal = ordinal);
            info!(link = %name, ordinal, "link renewed with new certificates");
        }
    }

    /// Waits until the control links are up, by which the generation takes the link over.
    async fn up(mut self, control: &Control) -> Result<Self, LinkError> {
        match tokio::time::timeout(ESTABLISH_TIMEOUT, &mut self.control.hold.up).await {
            Ok(Ok(())) => return Ok(self),
            Ok(Err(_)) => {}
            Err(_) => {
                let why = Condition::new("amqp:connection:forced", "the control links were not answered in time");
                let _ = control.close_connection(self.control.hold.id, why).await;
            }
        }
        Err(LinkError::Lost(reason_text(self.control.hold.closed.await)))
    }
}

/// Waits for new certificates, and brings a generation up with them.
async fn renew(link: &Link, old: &Group, control: &Control, random: &mut Random) -> Generation {
    let mut pause = Pause::new(random.clone());
    let mut last_error = String::new();
    loop {
        let group = old.next(link).await;
        let dialled = Instant::now();
        let renewed = async { Generation::dial(link, group, control, random).await?.up(control).await };
        let error = match renewed.await {
            Ok(generation) => return generation,
            Err(error) => error,
        };
        if error.to_string() != last_error {
            last_error = error.to_string();
            warn!(link = %link.name, error = %last_error, "link is not renewed and stays as it is; trying again");
        }
        pause.rest(dialled, error.outcome(), 1).await;
    }
}

async fn keep_data_connection(link: Link, group: Group, control: Control, mut pause: Pause) {
    let mut is_told = false;
    loop {
        let dialled = Instant::now();
        let outcome = match connect(&link, &group, Purpose::Data, &control).await {
            Ok(connected) => {
                is_told = false;
                drop(connected.hold.closed.await);
                Outcome::Connected
            }
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    warn!(link = %link.name, %error, "a data connection is not up; trying again");
                }
                error.outcome()
            }
        };
        pause.rest(dialled, outcome, 1).await;
    }
}

/// Brings up one connection.
async fn connect(link: &Link, group: &Group, purpose: Purpose, control: &Control) -> Result<Connected, LinkError> {
    let dialled = Dialled { correlator: group.correlator.clone(), ordinal: group.ordinal(), purpose };
    let (opened, round) = open(link, group, &dialled).await?;
    let announcement = Announcement::read(&opened.open);
    let (router, product) = (announcement.container.clone(), announcement.product.clone());
    let (access, failover) = (announcement.access.clone(), announcement.failover.clone());
    let mut candidate = Candidate::new(announcement, Origin::Dialled(dialled), link.cost);
    candidate.program_of = link.is_program.then(|| link.name.clone());
    let hold = control.admit(link.owner, candidate, opened).await.map_err(LinkError::Refused)?;
    if purpose != Purpose::Data {
        let Place { host, port, .. } = &group.place;
        info!(link = %link.name, peer = %format_args!("{host}:{port}"), router, product, "link connected");
    }
    Ok(Connected { round, router, access, failover, hold })
}

async fn open(link: &Link, group: &Group, dialled: &Dialled) -> Result<(Opened, Duration), LinkError> {
    let Place { host, port, .. } = &group.place;
    let (host, port) = (host.as_str(), *port);
    let known_round = if dialled.purpose == Purpose::Data { group.round } else { Duration::ZERO };
    let (socket, round) = reach(link, host, port, known_round).await?;
    let establishing = async {
        let tls = match group.profile(link) {
            Some(profile) => {
                let connector = profile.connector(link.verifies_host)?;
                Some((connector.connect(host, SystemTime::now())?, profile.ordinal))
            }
            None => None,
        };
        let is_private = tls.is_some() || socket.peer_addr()?.ip().to_canonical().is_loopback();
        let mut logins = vec![Login::External, Login::Anonymous];
        if let Some((user, source)) = &link.login {
            let (user, source) = (user.clone(), source.clone());
            let password = tokio::task::spawn_blocking(move || read_password(&source)).await;
            let password = password.map_err(io::Error::other)?.map_err(EstablishError::Password)?;
            logins.insert(0, Login::Plain(Password { user, password }));
        }
        logins.retain(|login| match login {
            Login::External => tls.is_some(),
            Login::Plain(_) => is_private,
            Login::Anonymous => true,
        });
        if let Some(mechanisms) = &link.mechanisms {
            logins.retain(|login| mechanisms.iter().any(|name| name == login.mechanism().name()));
        }
        let config = tuned(open_config(&link.router, Some(host), link.cost, Some(dialled)), &link.amqp);
        let engine = Connection::connect(config, logins, Instant::now());
        let established = tokio::time::timeout(ESTABLISH_TIMEOUT, establish(socket, tls, engine, None)).await;
        established.unwrap_or(Err(EstablishError::NoAnswer))
    };
    let opened = establishing.await;
    if let Ok(opened) = &opened
        && opened.engine.is_peer_alike()
    {
        path::widen_sending(&opened.socket, known_round);
    }
    opened.map(|it| (it, round)).map_err(|source| LinkError::Establish { host: host.to_owned(), port, source })
}

/// Connects to a host, or has the proxy do so, with buffers for a path that is known to be so long. How long it is, as far as
/// that can be told.
async fn reach(link: &Link, host: &str, port: u16, known_round: Duration) -> Result<(TcpStream, Duration), LinkError> {
    let proxy = link.proxy.as_ref().map(|proxy| Arc::clone(&proxy.borrow()));
    let Some(proxy) = proxy else {
        let socket = dial(host, port, link.family, known_round).await;
        return socket.map_err(|source| LinkError::Unreachable { host: host.to_owned(), port, source });
    };
    let (socket, round) = match dial(&proxy.host, proxy.port, link.family, known_round).await {
        Ok(dialled) => dialled,
        Err(source) => return Err(LinkError::NoProxy { proxy, source }),
    };
    let tunnel = proxy.tunnel(socket, host, port).await;
    tunnel.map(|socket| (socket, round)).map_err(|source| LinkError::Proxy {
        host: host.to_owned(),
        port,
        proxy,
        source,
    })
}

/// Connects to the first of the host's addresses that answers. How long it took, unless it is in this machine.
async fn dial(
    host: &str,
    port: u16,
    family: Option<Family>,
    known_round: Duration,
) -> io::Result<(TcpStream, Duration)> {
    let addresses = tokio::net::lookup_host((host, port)).await?;
    let addresses: Vec<SocketAddr> = addresses.filter(|address| fits(address, family)).collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address of that family");
    for address in addresses {
        let dialled = Instant::now();
        match tokio::time::timeout(DIAL_TIMEOUT, connect_socket(address, known_round)).await {
            Ok(Ok(socket)) if address.ip().to_canonical().is_loopback() => return Ok((socket, Duration::ZERO)),
            Ok(Ok(socket)) => return Ok((socket, dialled.elapsed())),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

async fn connect_socket(address: SocketAddr, known_round: Duration) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    path::widen_receiving(&socket, known_round);
    socket.connect(address).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_takes_as_many_connections_as_their_buffers_fill_it() {
        let mib = 1024 * 1024;
        let count = |round, buffer| DataConnections::AtLeast(2).count(Duration::from_millis(round), buffer);
        assert_eq!(count(0, 4 * mib), 2);
        assert_eq!(count(1, 4 * mib), 2);
        assert_eq!(count(10, 4 * mib), 3);
        assert_eq!(count(50, 4 * mib), 15);
        assert_eq!(count(50, 32 * mib), 2, "each carries half of it");
        assert_eq!(count(300, 4 * mib), MAX_DATA_CONNECTIONS);
        assert_eq!(count(1020, 4 * mib), 2, "it was sent twice");
        assert_eq!(DataConnections::Exactly(1).count(Duration::from_secs(1), 1), 1);
    }
}
