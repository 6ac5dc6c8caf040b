//! Where other routers' links are accepted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};
use van_core::amqp::{Admission, Config, Connection, Mechanism};
use van_core::plane::{PeerKind, Purpose};
use van_core::router::{Announcement, Candidate, Origin, Place, access_config};

use super::{EstablishError, Opened, Profile, establish, reason_text};
use crate::control::{Closed, Control, Hold, Owner};
use crate::entities::Board;
use crate::tcp::EXHAUSTED_REST;

/// Connections that may be on their way to an open at the same time.
const MAX_ESTABLISHING: usize = 256;

/// Transfer frames that a client may send on a session before window is given back. Source: skupper-router, 8 MiB of frames
/// of 16 KiB.
const CLIENT_WINDOW_FRAMES: u32 = 512;

/// What a listener for links needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) name: String,
    pub(crate) router: String,
    pub(crate) cost: u32,
    /// Who comes, if not interior routers.
    pub(crate) peer: Option<PeerKind>,
    /// Whether they are programs that links are attached to.
    pub(crate) has_programs: bool,
    /// Its certificates, as they are when a link comes.
    pub(crate) tls: Option<watch::Receiver<Arc<Profile>>>,
    pub(crate) requires_authentication: bool,
    pub(crate) max_frame_bytes: Option<u32>,
    /// Transfer frames that may come on a session before window is given back.
    pub(crate) session_frames: Option<u32>,
    pub(crate) idle_timeout: Duration,
    /// Where peers may connect if this router is lost.
    pub(crate) failover: Vec<Place>,
    /// Its VanFlow identity.
    pub(crate) identity: String,
    /// Whom its connections belong to.
    pub(crate) owner: Owner,
    pub(crate) board: Board,
}

/// Accepts links for as long as it is not dropped.
pub(crate) async fn serve(access: Access, socket: TcpListener, control: Control) {
    let (mut establishing, mut established) = (JoinSet::new(), JoinSet::new());
    let mut is_exhausted = false;
    loop {
        tokio::select! {
            accepted = socket.accept(), if establishing.len() < MAX_ESTABLISHING => match accepted {
                Ok((socket, peer)) => {
                    if std::mem::take(&mut is_exhausted) {
                        access.board.access(&access.name, |state| state.error = None);
                    }
                    establishing.spawn(accept(access.clone(), socket, peer, control.clone()));
                }
                Err(error) => {
                    warn!(listener = %access.name, %error, "cannot accept a link; trying again");
                    if !std::mem::replace(&mut is_exhausted, true) {
                        access.board.access(&access.name, |state| state.error = Some(error.to_string()));
                    }
                    tokio::time::sleep(EXHAUSTED_REST).await;
                }
            },
            Some(accepted) = establishing.join_next() => {
                if let Ok(Some(connection)) = accepted {
                    established.spawn(connection.watch(access.clone()));
                }
            }
            Some(_) = established.join_next() => {}
        }
    }
}

/// Takes in one connection that came another way, and is over when it is closed.
pub(crate) async fn serve_one(access: Access, socket: TcpStream, peer: SocketAddr, control: Control) {
    if let Some(accepted) = accept(access.clone(), socket, peer, control).await {
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
        let is_link = matches!(purpose, Purpose::Control | Purpose::Links(PeerKind::Edge | PeerKind::Mesh));
        if is_link {
            access.board.access(listener, |state| state.links += 1);
        }
        let closed = closed.await;
        if is_link {
            access.board.access(listener, |state| state.links -= 1);
        }
        if let Ok(Closed::Superseded) = closed {
            return info!(listener, %peer, router, ?purpose, "superseded by new certificates");
        }
        let reason = reason_text(closed);
        match purpose {
            _ if is_link => warn!(listener, %peer, router, reason, "link lost"),
            Purpose::Data => warn!(listener, %peer, router, reason, "data connection lost"),
            _ => debug!(listener, %peer, container = router, reason, "client gone"),
        }
    }
}

async fn accept(access: Access, socket: TcpStream, peer: SocketAddr, control: Control) -> Option<Accepted> {
    let listener = &access.name;
    let opened = open(&access, socket).await;
    let opened =
        opened.inspect_err(|error| warn!(listener, %peer, %error, "a peer did not get as far as a link")).ok()?;
    let mut announcement = Announcement::read(&opened.open);
    if let Some(peer) = access.peer {
        announcement.purpose = Purpose::Links(peer);
    }
    let (router, purpose) = (announcement.container.clone(), announcement.purpose);
    let subject = opened.peer.certificate().map(|certificate| certificate.subject.to_string());
    let mut candidate = Candidate::new(announcement, Origin::Accepted, access.cost);
    candidate.program_of = access.has_programs.then(|| listener.clone());
    let admitted = control.admit(access.owner, candidate, opened).await;
    let Hold { closed, .. } =
        admitted.inspect_err(|condition| warn!(listener, %peer, router, %condition, "link connection refused")).ok()?;
    match purpose {
        Purpose::Control => info!(listener, %peer, router, subject, "link accepted"),
        Purpose::Data => debug!(listener, %peer, router, subject, "data connection accepted"),
        Purpose::Links(PeerKind::Client) => debug!(listener, %peer, container = router, subject, "client accepted"),
        Purpose::Links(_) => info!(listener, %peer, router, subject, "edge router accepted"),
    }
    Some(Accepted { peer, router, purpose, closed })
}

async fn open(access: &Access, socket: TcpStream) -> Result<Opened, EstablishError> {
    let profile = access.tls.as_ref().map(|profile| Arc::clone(&profile.borrow()));
    let tls = profile
        .map(|it| Ok::<_, EstablishError>((it.acceptor()?.accept(SystemTime::now())?, it.ordinal)))
        .transpose()?;
    let mechanisms = if tls.is_some() { vec![Mechanism::External] } else { vec![Mechanism::Anonymous] };
    let admission = Admission { mechanisms, sasl_optional: !access.requires_authentication };
    let config = access_config(&access.router, access.cost, &access.identity, &access.failover);
    let config = Config { idle_timeout: access.idle_timeout, ..config };
    let config = Config { max_frame_bytes: access.max_frame_bytes.unwrap_or(config.max_frame_bytes), ..config };
    let window = access.session_frames.unwrap_or(match access.peer {
        Some(PeerKind::Client) => CLIENT_WINDOW_FRAMES,
        _ => config.session_window_frames,
    });
    let config = Config { session_window_frames: window, ..config };
    establish(socket, tls, Connection::accept(config, admission, Instant::now())).await
}
