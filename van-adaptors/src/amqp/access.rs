//! Where other routers' links are accepted.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};
use van_core::amqp::{Admission, Connection, Mechanism};
use van_core::management::config::{Amqp, Role};
use van_core::plane::{PeerKind, Purpose};
use van_core::router::{Announcement, Candidate, Origin, Place, access_config};

use super::{EstablishError, Opened, Profile, Users, establish, path, reason_text, tuned};
use crate::control::{Closed, Control, Hold, Owner};
use crate::entities::Board;
use crate::tcp::EXHAUSTED_REST;
use crate::tcp::listener::cannot_accept;
use crate::tcp::newcomers::{GiveWay, Newcomers};

/// Connections that may be on their way to an open at the same time.
const MAX_ESTABLISHING: usize = 256;

/// Transfer frames that a client may send on a session before window is given back. Source: skupper-router, 8 MiB of frames
/// of 16 KiB.
const CLIENT_WINDOW_FRAMES: u32 = 512;

/// What a listener for links needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) router: String,
    pub(crate) cost: u32,
    /// Who comes, if not interior routers.
    pub(crate) peer: Option<PeerKind>,
    /// Whether they are programs that links are attached to.
    pub(crate) has_programs: bool,
    /// Its certificates, as they are when a link comes.
    pub(crate) tls: Option<watch::Receiver<Arc<Profile>>>,
    pub(crate) requires_authentication: bool,
    /// The SASL mechanisms that clients are to be offered, as far as they can be.
    pub(crate) mechanisms: Option<Vec<Mechanism>>,
    /// Who may log in by name and password.
    pub(crate) users: Option<Users>,
    /// The generation of the certificates of the TLS that it is spoken within and that ended before.
    pub(crate) within_tls: Option<u64>,
    /// Whether clients may not come in clear where there are certificates.
    pub(crate) requires_tls: bool,
    /// How AMQP is spoken.
    pub(crate) amqp: Amqp,
    /// How long a peer may take to its open.
    pub(crate) handshake_timeout: Duration,
    /// Where peers may connect if this router is lost.
    pub(crate) failover: Vec<Place>,
    /// Its VanFlow identity.
    pub(crate) identity: String,
    /// Whom its connections belong to.
    pub(crate) owner: Owner,
    pub(crate) board: Board,
}

impl Access {
    /// Whether a client is to show a certificate; routers always are.
    fn asks_certificate(&self) -> bool {
        match &self.mechanisms {
            _ if self.peer != Some(PeerKind::Client) => true,
            Some(mechanisms) => mechanisms.contains(&Mechanism::External),
            None => self.requires_authentication && self.users.is_none(),
        }
    }

    /// Whether a peer may leave TLS out although there are certificates, as with skupper-router: a client that can log in all
    /// the same.
    fn may_be_clear(&self, is_here: bool) -> bool {
        self.peer == Some(PeerKind::Client) && !self.requires_tls && !self.mechanisms(false, is_here).is_empty()
    }

    /// What a peer is offered. `is_private` says that nobody else reads along: the peer is on this machine, or there is TLS.
    fn mechanisms(&self, has_certificate: bool, is_private: bool) -> Vec<Mechanism> {
        let can_be = |mechanism: &Mechanism| match mechanism {
            Mechanism::External => has_certificate,
            Mechanism::Plain => self.users.is_some() && is_private,
            Mechanism::Anonymous => !self.requires_authentication,
        };
        match self.peer {
            Some(PeerKind::Client) => {
                let all = [Mechanism::External, Mechanism::Plain, Mechanism::Anonymous];
                let wanted = self.mechanisms.as_deref().unwrap_or(&all);
                wanted.iter().copied().filter(can_be).collect()
            }
            _ if has_certificate => vec![Mechanism::External],
            _ if self.requires_authentication => Vec::new(),
            _ => vec![Mechanism::Anonymous],
        }
    }
}

/// Accepts links for as long as it is not dropped.
pub(crate) async fn serve(access: Access, socket: TcpListener, control: Control) {
    let (mut establishing, mut established) = (Newcomers::new(MAX_ESTABLISHING), JoinSet::new());
    let mut is_exhausted = false;
    loop {
        tokio::select! {
            accepted = socket.accept() => match accepted {
                Ok((socket, peer)) => {
                    if std::mem::take(&mut is_exhausted) {
                        access.board.access(&access.name, |state| state.error = None);
                    }
                    let (access, control) = (access.clone(), control.clone());
                    establishing.spawn(|give_way| accept(access, socket, peer, control, Some(give_way)));
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_exhausted, true) {
                        let error = cannot_accept(&error);
                        warn!(listener = access.name, error, "trying again until it goes");
                        access.board.access(&access.name, |state| state.error = Some(error));
                    }
                    tokio::time::sleep(EXHAUSTED_REST).await;
                }
            },
            Some(accepted) = establishing.next() => {
                if let Some(connection) = accepted {
                    established.spawn(connection.watch(access.clone()));
                }
            }
            Some(_) = established.join_next() => {}
        }
    }
}

/// Takes in one connection that came another way, and is over when it is closed.
pub(crate) async fn serve_one(access: Access, socket: TcpStream, peer: SocketAddr, control: Control) {
    if let Some(accepted) = accept(access.clone(), socket, peer, control, None).await {
        accepted.watch(access).await;
    }
}

/// A connection in use.
struct Accepted {
    peer: SocketAddr,
    router: String,
    purpose: Purpose,
    /// Tells when it is closed, and why.
    closed: oneshot::Receiver<Closed>,
}

impl Accepted {
    async fn watch(self, access: Access) {
        let Self { peer, router, purpose, closed } = self;
        let listener = &access.name;
        let closed = closed.await;
        if let Ok(Closed::Superseded) = closed {
            return info!(listener, %peer, router, ?purpose, "superseded by new certificates");
        }
        let reason = reason_text(closed);
        match purpose {
            Purpose::Data => warn!(listener, %peer, router, reason, "data connection lost"),
            Purpose::Links(PeerKind::Client) => debug!(listener, %peer, container = router, reason, "client gone"),
            _ => warn!(listener, %peer, router, reason, "link lost"),
        }
    }
}

async fn accept(
    access: Access,
    socket: TcpStream,
    peer: SocketAddr,
    control: Control,
    give_way: Option<GiveWay>,
) -> Option<Accepted> {
    let listener = &access.name;
    let has_to_give_way = async { give_way?.await.ok() };
    let opened = tokio::select! {
        opened = tokio::time::timeout(access.handshake_timeout, open(&access, socket, peer)) => {
            opened.unwrap_or(Err(EstablishError::NoOpen(access.handshake_timeout)))
        }
        Some(()) = has_to_give_way => Err(EstablishError::Crowded(MAX_ESTABLISHING)),
    };
    let opened =
        opened.inspect_err(|error| warn!(listener, %peer, %error, "a peer did not get as far as a link")).ok()?;
    let mut announcement = Announcement::read(&opened.open);
    if let Some(peer) = access.peer {
        announcement.purpose = Purpose::Links(peer);
    }
    let (router, purpose) = (announcement.container.clone(), announcement.purpose);
    if purpose == Purpose::Data && opened.engine.is_peer_alike() && !peer.ip().to_canonical().is_loopback() {
        path::widen_sending(&opened.socket, opened.round);
        path::widen_receiving(&opened.socket, opened.round);
    }
    let subject = opened.peer.certificate().map(|certificate| certificate.subject.to_string());
    let user = opened.login.as_ref().map(|(_, user)| user.clone());
    let mut candidate = Candidate::new(announcement, Origin::Accepted, access.cost);
    candidate.program_of = access.has_programs.then(|| listener.clone());
    let admitted = control.admit(access.owner, candidate, opened).await;
    let Hold { closed, .. } =
        admitted.inspect_err(|condition| warn!(listener, %peer, router, %condition, "link connection refused")).ok()?;
    match purpose {
        Purpose::Control => info!(listener, %peer, router, subject, "link accepted"),
        Purpose::Data => debug!(listener, %peer, router, subject, "data connection accepted"),
        Purpose::Links(PeerKind::Client) => debug!(listener, %peer, container = router, user, "client accepted"),
        Purpose::Links(_) => info!(listener, %peer, router, subject, "edge router accepted"),
    }
    Some(Accepted { peer, router, purpose, closed })
}

async fn open(access: &Access, socket: TcpStream, peer: SocketAddr) -> Result<Opened, EstablishError> {
    let is_here = peer.ip().to_canonical().is_loopback();
    let profile = access.tls.as_ref().map(|profile| Arc::clone(&profile.borrow()));
    let profile = match profile {
        Some(_) if access.may_be_clear(is_here) && speaks_clear(&socket).await? => None,
        profile => profile,
    };
    let asks_certificate = access.asks_certificate();
    let accept = |profile: Arc<Profile>| {
        let acceptor = if asks_certificate { profile.acceptor()? } else { profile.open_acceptor()? };
        Ok::<_, EstablishError>((acceptor.accept(SystemTime::now())?, profile.ordinal))
    };
    let tls = profile.map(accept).transpose()?;
    let is_private = tls.is_some() || access.within_tls.is_some() || is_here;
    let mechanisms = access.mechanisms(tls.is_some() && asks_certificate, is_private);
    let admission = Admission { mechanisms, sasl_optional: !access.requires_authentication };
    let mut config = access_config(&access.router, access.cost, &access.identity, &access.failover);
    if access.peer == Some(PeerKind::Client) {
        config.session_window_frames = CLIENT_WINDOW_FRAMES;
    }
    let engine = Connection::accept(tuned(config, &access.amqp), admission, Instant::now());
    let opened = establish(socket, tls, engine, access.users.as_ref()).await?;
    Ok(Opened { ordinal: opened.ordinal.or(access.within_tls), ..opened })
}

/// Whether a peer begins as AMQP does, and not as TLS. Nothing is taken off.
async fn speaks_clear(socket: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    Ok(socket.peek(&mut first).await? > 0 && first == *b"A")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::ESTABLISH_TIMEOUT;

    const ALL: [Mechanism; 3] = [Mechanism::External, Mechanism::Plain, Mechanism::Anonymous];

    /// Of a listener: the mechanisms it names, whether peers must authenticate, whether it has users.
    fn access(mechanisms: Option<&[Mechanism]>, requires_authentication: bool, has_users: bool) -> Access {
        Access {
            name: "clients".into(),
            role: Role::Normal,
            router: "a".into(),
            cost: 1,
            peer: Some(PeerKind::Client),
            has_programs: false,
            tls: None,
            requires_authentication,
            mechanisms: mechanisms.map(<[_]>::to_vec),
            users: has_users.then(|| Users::new("users")),
            within_tls: None,
            requires_tls: false,
            amqp: Amqp::default(),
            handshake_timeout: ESTABLISH_TIMEOUT,
            failover: Vec::new(),
            identity: String::new(),
            owner: Owner(0),
            board: Board::default(),
        }
    }

    #[test]
    fn a_password_is_asked_for_only_where_nobody_reads_along() {
        let users = access(None, false, true);
        assert_eq!(users.mechanisms(false, true), [Mechanism::Plain, Mechanism::Anonymous]);
        assert_eq!(users.mechanisms(false, false), [Mechanism::Anonymous]);
        assert_eq!(access(Some(&ALL), true, true).mechanisms(false, false), []);
        assert_eq!(access(Some(&ALL), true, false).mechanisms(false, true), []);
    }

    #[test]
    fn nobody_is_anonymous_where_peers_must_authenticate() {
        assert_eq!(access(Some(&ALL), true, true).mechanisms(true, true), [Mechanism::External, Mechanism::Plain]);
        assert_eq!(access(Some(&ALL), false, true).mechanisms(true, true), ALL);
        assert_eq!(access(None, false, false).mechanisms(false, true), [Mechanism::Anonymous]);
        for peer in [None, Some(PeerKind::Edge), Some(PeerKind::Mesh)] {
            let routers = |is_asked| Access { peer, ..access(None, is_asked, true) };
            assert_eq!(routers(true).mechanisms(true, true), [Mechanism::External]);
            assert_eq!(routers(true).mechanisms(false, true), [], "over WebSocket, say");
            assert_eq!(routers(false).mechanisms(false, true), [Mechanism::Anonymous]);
        }
    }

    #[test]
    fn a_client_may_come_in_clear_unless_tls_is_required_or_nothing_is_left_to_log_in_by() {
        let external = [Mechanism::External];
        assert!(access(None, false, false).may_be_clear(false));
        assert!(!Access { requires_tls: true, ..access(None, false, false) }.may_be_clear(true));
        assert!(!access(Some(&external), true, false).may_be_clear(true), "as Skupper has it");
        assert!(access(None, true, true).may_be_clear(true));
        assert!(!access(None, true, true).may_be_clear(false), "a password would be read by others");
        assert!(!Access { peer: None, ..access(None, false, false) }.may_be_clear(true), "a router");
    }

    #[test]
    fn a_client_shows_a_certificate_where_that_is_how_it_authenticates() {
        assert!(access(Some(&[Mechanism::External]), false, true).asks_certificate());
        assert!(access(None, true, false).asks_certificate());
        assert!(!access(None, true, true).asks_certificate());
        assert!(!access(None, false, false).asks_certificate());
        assert!(Access { peer: None, ..access(None, false, true) }.asks_certificate(), "a router");
    }
}
