//! TCP: accepting clients of routing keys, connecting workloads, with TLS or without.

pub(crate) mod destinations;
pub(crate) mod listener;
pub(crate) mod newcomers;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use van_core::management::config::Observer;
use van_tls::ServiceStream;

use self::destinations::Destinations;
use crate::amqp::Profile;
use crate::entities::{Board, Traffic};
use crate::shard::Socket;
use crate::with_causes;

/// How long to rest when a connection cannot be accepted because there are no descriptors left, before trying again.
pub(crate) const EXHAUSTED_REST: Duration = Duration::from_millis(50);

/// How long a peer may take to end its half of a closed connection.
pub(crate) const LINGER_TIME: Duration = Duration::from_secs(1);

/// A workload that does not answer for this long is not there; if its name has several addresses, they share the time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an address has at least.
const LEAST_CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long looking up a workload's name may take. The system waits 5 s for one name server, then asks the next.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(12);

/// How long what was found counts.
const FOUND_TIME: Duration = Duration::from_secs(2);

/// How long a workload may take for its part of a TLS handshake.
const WORKLOAD_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for a client. As long as for a link.
const CLIENT_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where clients come in: what those who accept them know of a tcpListener.
#[derive(Debug, Clone)]
pub(crate) struct Entrance {
    pub(crate) name: String,
    /// Its VanFlow identity.
    pub(crate) identity: Arc<str>,
    /// What is to be looked for in the octets of new streams.
    pub(crate) observer: Observer,
    pub(crate) destinations: Destinations,
    pub(crate) tls: Option<ClientTls>,
    pub(crate) traffic: Traffic,
    /// Where it is told that clients cannot be accepted.
    pub(crate) board: Board,
}

/// How a client came in, for VanFlow to tell.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// The identity of the listener, or of the listenerAddress that was chosen.
    pub(crate) listener: Arc<str>,
    /// What to look for in its octets.
    pub(crate) observer: Observer,
    /// Where it comes from.
    pub(crate) peer: SocketAddr,
}

/// How clients are met by TLS.
#[derive(Debug, Clone)]
pub(crate) struct ClientTls {
    pub(crate) profile: watch::Receiver<Arc<Profile>>,
    pub(crate) requires_authentication: bool,
}

/// Where a workload is: what those who connect it know of a tcpConnector.
#[derive(Debug)]
pub(crate) struct Target {
    /// The tcpConnector's VanFlow identity.
    pub(crate) identity: Arc<str>,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Its address if the host is one: no name to look up.
    pub(crate) address: Option<SocketAddr>,
    /// Its addresses, if the host is a name.
    pub(crate) found: Found,
    pub(crate) key: Arc<str>,
    pub(crate) tls: Option<WorkloadTls>,
    pub(crate) traffic: Traffic,
}

/// What a name was found to be. It is looked up once for all who ask at the same time, and for a moment after: a lookup takes a
/// thread, and cannot be given up.
#[derive(Debug, Default)]
pub(crate) struct Found(Mutex<Option<(Instant, Arc<[SocketAddr]>)>>);

/// How a workload is met by TLS.
#[derive(Debug, Clone)]
pub(crate) struct WorkloadTls {
    pub(crate) profile: watch::Receiver<Arc<Profile>>,
    pub(crate) verifies_host: bool,
}

impl Entrance {
    /// Shakes hands with a client. Dropping the future gives the client up.
    pub(crate) async fn secure(tls: &ClientTls, client: TcpStream) -> io::Result<ServiceStream<TcpStream>> {
        let profile = Arc::clone(&tls.profile.borrow());
        let acceptor = profile.service_acceptor(tls.requires_authentication).map_err(io::Error::other)?;
        let shaking = async { acceptor.accept(SystemTime::now(), client).await.map_err(|error| tls_error(&error)) };
        within(CLIENT_HANDSHAKE_TIMEOUT, "the client has not finished its TLS handshake", shaking).await
    }
}

impl Found {
    async fn get(&self, look: impl AsyncFnOnce() -> io::Result<Arc<[SocketAddr]>>) -> io::Result<Arc<[SocketAddr]>> {
        let mut found = self.0.lock().await;
        if let Some((at, addresses)) = &*found
            && at.elapsed() < FOUND_TIME
        {
            return Ok(Arc::clone(addresses));
        }
        let addresses = look().await?;
        *found = Some((Instant::now(), Arc::clone(&addresses)));
        Ok(addresses)
    }
}

impl Target {
    /// Connects to the workload: the addresses of its name in turn; with TLS, `alpn` is what it is offered.
    ///
    /// Dropping the future gives the attempt up.
    pub(crate) async fn connect(&self, alpn: Option<&str>) -> io::Result<Socket> {
        let socket = match self.address {
            Some(address) => dial(&[address]).await?,
            None => {
                let look = async || Ok(lookup_host((self.host.as_str(), self.port)).await?.collect());
                dial(&within(LOOKUP_TIMEOUT, "no name server answers", self.found.get(look)).await?).await?
            }
        };
        // As clients': see `listener::bind`.
        SockRef::from(&socket).set_keepalive(true)?;
        socket.set_nodelay(true)?;
        match &self.tls {
            // Boxed: a handshake takes 2 KiB, and thousands may be connecting that need none.
            Some(tls) => Box::pin(self.secure(tls, alpn, socket)).await,
            None => Ok(socket.into()),
        }
    }

    async fn secure(&self, tls: &WorkloadTls, alpn: Option<&str>, socket: TcpStream) -> io::Result<Socket> {
        let profile = Arc::clone(&tls.profile.borrow());
        let connector = profile.service_connector(tls.verifies_host).map_err(io::Error::other)?;
        let shaking = async {
            connector.connect(&self.host, alpn, SystemTime::now(), socket).await.map_err(|error| tls_error(&error))
        };
        let stalled = "the workload does not answer by TLS; does it speak it at this port?";
        Ok(within(WORKLOAD_HANDSHAKE_TIMEOUT, stalled, shaking).await?.into())
    }
}

/// Connects to the first of some addresses that answers.
async fn dial(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let time = (CONNECT_TIMEOUT / addresses.len().max(1) as u32).max(LEAST_CONNECT_TIMEOUT);
    let mut outcome = Err(io::Error::other("the workload's name has no address"));
    for address in addresses {
        outcome = within(time, "the workload does not answer", TcpStream::connect(address)).await;
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// Closes a socket once the peer has ended, or took too long. Linux resets a socket that is closed before all that came is
/// read, and the peer would not hear what was said last.
pub(crate) async fn linger(mut socket: TcpStream) {
    let rest = async {
        socket.shutdown().await?;
        tokio::io::copy(&mut socket, &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(LINGER_TIME, rest).await;
}

async fn within<T>(time: Duration, otherwise: &str, doing: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || format!("{otherwise} (within {} s)", time.as_secs());
    tokio::time::timeout(time, doing).await.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, late())))
}

fn tls_error(error: &van_tls::TlsError) -> io::Error {
    io::Error::other(format!("TLS: {}", with_causes(error)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_name_is_looked_up_once_for_all_who_ask_at_once_and_again_later() {
        let (found, looked) = (Found::default(), Cell::new(0));
        let look = async || {
            looked.set(looked.get() + 1);
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(Arc::from([SocketAddr::from(([127, 0, 0, 1], looked.get()))]))
        };
        let (first, second) = tokio::join!(found.get(look), found.get(look));
        assert_eq!((first.expect("found"), looked.get()), (second.expect("found"), 1));
        tokio::time::advance(FOUND_TIME).await;
        let third = found.get(look).await.expect("found");
        assert_eq!((third[0].port(), looked.get()), (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_lookup_that_was_given_up_looks_itself() {
        let found = Found::default();
        let never = within(Duration::from_secs(1), "no", found.get(async || std::future::pending().await));
        let second = found.get(async || Ok(Arc::from([])));
        let (first, second) = tokio::join!(never, second);
        assert_eq!((first.map_err(|error| error.kind()), second.is_ok()), (Err(io::ErrorKind::TimedOut), true));
    }
}
