//! Where other routers' links are accepted.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};
use van_core::amqp::{Admission, Config, Connection, Mechanism};
use van_core::plane::Purpose;
use van_core::router::{Announcement, Candidate, Origin, open_config};
use van_tls::LinkAcceptor;

use super::{EstablishError, Opened, establish, reason_text};
use crate::control::Control;
use crate::tcp::EXHAUSTED_REST;

/// Connections that may be on their way to an open at the same time.
const MAX_ESTABLISHING: usize = 256;

/// What a listener for links needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) name: String,
    pub(crate) router: String,
    pub(crate) cost: u32,
    pub(crate) tls: Option<LinkAcceptor>,
    pub(crate) requires_authentication: bool,
    pub(crate) max_frame_bytes: Option<u32>,
    pub(crate) idle_timeout: Duration,
}

/// Accepts links for as long as it is not dropped.
pub(crate) async fn serve(access: Access, socket: TcpListener, control: Control) {
    let mut establishing = JoinSet::new();
    loop {
        tokio::select! {
            accepted = socket.accept(), if establishing.len() < MAX_ESTABLISHING => match accepted {
                Ok((socket, peer)) => drop(establishing.spawn(accept(access.clone(), socket, peer, control.clone()))),
                Err(error) => {
                    warn!(listener = %access.name, %error, "cannot accept a link; trying again");
                    tokio::time::sleep(EXHAUSTED_REST).await;
                }
            },
            Some(_) = establishing.join_next() => {}
        }
    }
}

async fn accept(access: Access, socket: TcpStream, peer: SocketAddr, control: Control) {
    match open(&access, socket).await {
        Ok(opened) => {
            let announcement = Announcement::read(&opened.open);
            let (router, purpose) = (announcement.container.clone(), announcement.purpose);
            let subject = opened.peer.certificate().map(|certificate| certificate.subject.to_string());
            let candidate = Candidate { announcement, origin: Origin::Accepted, cost: access.cost };
            match control.admit(candidate, opened).await {
                Ok(closed) => {
                    let listener = access.name;
                    match purpose {
                        Purpose::Control => info!(listener, %peer, router, subject, "link accepted"),
                        Purpose::Data => debug!(listener, %peer, router, subject, "data connection accepted"),
                    }
                    tokio::spawn(async move {
                        let reason = reason_text(closed.await.ok().flatten());
                        match purpose {
                            Purpose::Control => warn!(listener, %peer, router, reason, "link lost"),
                            Purpose::Data => warn!(listener, %peer, router, reason, "data connection lost"),
                        }
                    });
                }
                Err(condition) => warn!(listener = %access.name, %peer, router, %condition, "link connection refused"),
            }
        }
        Err(error) => warn!(listener = %access.name, %peer, %error, "a peer did not get as far as a link"),
    }
}

async fn open(access: &Access, socket: TcpStream) -> Result<Opened, EstablishError> {
    let tls = access.tls.as_ref().map(|tls| tls.accept(SystemTime::now())).transpose()?;
    let mechanisms = if tls.is_some() { vec![Mechanism::External] } else { vec![Mechanism::Anonymous] };
    let admission = Admission { mechanisms, sasl_optional: !access.requires_authentication };
    let config = Config { idle_timeout: access.idle_timeout, ..open_config(&access.router, None, access.cost, None) };
    let config = Config { max_frame_bytes: access.max_frame_bytes.unwrap_or(config.max_frame_bytes), ..config };
    establish(socket, tls, Connection::accept(config, admission, Instant::now())).await
}
