//! Clients and workloads in the router's own process: streams without a socket.
//!
//! A stream's other end is at a shard, which treats it as any client's or workload's connection: the same windows, the same
//! ends. Between them is a [`pipe`](self::pipe).

mod pipe;

use std::io::{self, IoSlice};
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::coop::poll_proceed;
use van_core::plane::{ConnectorId, Routes, ShardId};

pub(crate) use self::pipe::End;
use self::pipe::pipe;
use crate::control::Control;
use crate::shard::{Message, Shards, Socket};
use crate::tcp::listener::least_loaded;

/// Streams that may wait to be taken by [`Incoming::next`]; what comes then is refused, and offered to the next consumer.
const BACKLOG: usize = 1024;

/// Connectors in the process have numbers from here on, those with an address below.
const FIRST_CONNECTOR: u32 = 1 << 31;

/// Dials workloads of the network, and accepts streams as a workload, inside the router's process. Cheap to clone.
///
/// ```no_run
/// # async fn example(router: van_adaptors::Router) -> Result<(), Box<dyn std::error::Error>> {
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// let dialer = router.dialer();
/// let mut incoming = dialer.accept("greeter").await?;
/// tokio::spawn(async move {
///     while let Some(mut stream) = incoming.next().await {
///         stream.write_all(b"hello").await?;
///         stream.shutdown().await?;
///     }
///     std::io::Result::Ok(())
/// });
/// let mut stream = dialer.dial("greeter").await?; // here, or at any other router of the network
/// let mut heard = String::new();
/// stream.read_to_string(&mut heard).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Dialer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    control: Control,
    routes: watch::Receiver<Arc<Routes>>,
    shards: Arc<Shards>,
    /// Counts choices between equally loaded shards.
    turn: AtomicUsize,
    next_connector: AtomicU32,
    is_stopping: AtomicBool,
}

/// Why a workload cannot be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// Nobody in the network consumes the routing key now; somebody may later.
    #[error("nobody in the network consumes \"{key}\"; start its workload, or wait until it is reachable")]
    Unreachable {
        /// The routing key.
        key: String,
    },
    /// There are consumers, and none takes the stream: their workloads do not answer, or are overloaded.
    #[error("no workload of \"{key}\" takes the stream; look whether they are running")]
    Refused {
        /// The routing key.
        key: String,
    },
    /// This router has stopped, or is stopping.
    #[error("the router has stopped")]
    Stopped,
}

/// Why a routing key cannot be consumed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// This router has stopped, or is stopping.
    #[error("the router has stopped")]
    Stopped,
}

/// The streams that come for a routing key. Dropping it withdraws the consumer; streams already taken live on.
#[derive(Debug)]
pub struct Incoming {
    queue: mpsc::Receiver<Stream>,
    connector: ConnectorId,
    key: Arc<str>,
    control: Control,
}

/// One end of a stream through the network, in two directions that end each by itself.
///
/// `shutdown` ends the direction from here, after all that was written; the end of the other direction is read as usual.
/// Where the network or the other end breaks the stream, both directions fail with [`io::ErrorKind::ConnectionReset`], after
/// what had come. A skupper-router at the other end cannot say so, and its break is a clean end here.
///
/// Dropping it before `shutdown` breaks the stream: the other end sees a reset, and no clean end of what is not complete.
/// Dropping it after that lets arrive what was written, and breaks the stream if anything still comes.
#[derive(Debug)]
pub struct Stream(End);

/// Those of one router are equal.
impl PartialEq for Dialer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Dialer {
    pub(crate) fn new(control: Control, routes: watch::Receiver<Arc<Routes>>, shards: Arc<Shards>) -> Self {
        Self(Arc::new(Inner {
            control,
            routes,
            shards,
            turn: AtomicUsize::new(0),
            next_connector: AtomicU32::new(FIRST_CONNECTOR),
            is_stopping: AtomicBool::new(false),
        }))
    }

    /// Waits until somebody in the network consumes a routing key.
    ///
    /// # Errors
    /// [`DialError::Stopped`].
    pub async fn reachable(&self, key: &str) -> Result<(), DialError> {
        let _watch = self.0.control.watch(key);
        let mut routes = self.0.routes.clone();
        let is_there = routes.wait_for(|routes| routes.is_reachable(key)).await;
        is_there.map(drop).map_err(|_| DialError::Stopped)
    }

    /// A stream to a workload of a routing key, anywhere in the network; there once the workload has taken it.
    ///
    /// Dropping the future gives the stream up. An edge router leaves it to the network whether there are consumers: where
    /// there are none, the stream is [`DialError::Refused`].
    ///
    /// # Errors
    /// See [`DialError`].
    pub async fn dial(&self, key: &str) -> Result<Stream, DialError> {
        let Inner { routes, shards, turn, .. } = &*self.0;
        if self.is_stopping() {
            return Err(DialError::Stopped);
        }
        let is_hopeless = {
            let routes = routes.borrow();
            !routes.is_reachable(key) && routes.uplink.is_none()
        };
        if is_hopeless {
            return Err(DialError::Unreachable { key: key.to_owned() });
        }
        let (here, there) = pipe();
        let (established, is_established) = oneshot::channel();
        let shard = least_loaded(&shards.stats, turn.fetch_add(1, Ordering::Relaxed));
        let socket = Socket::InProcess { end: there, established: Some(established) };
        shards.tell(ShardId(shard as u16), Message::Client { socket, client: key.into(), meter: None, arrival: None });
        match is_established.await {
            Ok(()) => Ok(Stream(here)),
            Err(_) if self.is_stopping() => Err(DialError::Stopped),
            Err(_) => Err(DialError::Refused { key: key.to_owned() }),
        }
    }

    /// Consumes a routing key from now on, beside all its other consumers in the network.
    ///
    /// # Errors
    /// [`AcceptError::Stopped`]: the router takes no more consumers.
    pub async fn accept(&self, key: &str) -> Result<Incoming, AcceptError> {
        self.consume(key, true).await
    }

    /// As [`Dialer::accept`], and nobody is told of the consumer or of its streams: it is the router's own.
    pub(crate) async fn accept_unseen(&self, key: &str) -> Result<Incoming, AcceptError> {
        self.consume(key, false).await
    }

    async fn consume(&self, key: &str, is_seen: bool) -> Result<Incoming, AcceptError> {
        let Inner { control, next_connector, .. } = &*self.0;
        let connector = ConnectorId(next_connector.fetch_add(1, Ordering::Relaxed) | FIRST_CONNECTOR);
        let (sender, queue) = mpsc::channel(BACKLOG);
        // Made first: if the future is dropped, this withdraws what was asked for.
        let incoming = Incoming { queue, connector, key: key.into(), control: control.clone() };
        let added = control.add_consumer(connector, Arc::clone(&incoming.key), sender, is_seen);
        added.await.map_err(|_| AcceptError::Stopped)?;
        Ok(incoming)
    }

    /// Has a connected socket, which neither blocks nor waits for more to send, served as that of a client of a routing key,
    /// as if a tcpListener had accepted it; nobody is told of it.
    pub(crate) fn serve(&self, socket: TcpStream, key: &Arc<str>) {
        let Inner { shards, turn, .. } = &*self.0;
        let shard = least_loaded(&shards.stats, turn.fetch_add(1, Ordering::Relaxed));
        shards.tell(ShardId(shard as u16), Message::Socket { socket, key: Arc::clone(key) });
    }

    /// The network as this router sees it now.
    pub(crate) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.0.routes.borrow())
    }

    /// Nothing more is dialled.
    pub(crate) fn stop(&self) {
        self.0.is_stopping.store(true, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.0.is_stopping.load(Ordering::Relaxed)
    }
}

impl Incoming {
    /// The next stream; `None` once the router has stopped. Dropping the future loses none.
    pub async fn next(&mut self) -> Option<Stream> {
        self.queue.recv().await
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.control.remove_consumer(self.connector, Arc::clone(&self.key));
    }
}

/// Puts a new stream in line for [`Incoming::next`]. The router's end of it.
///
/// # Errors
/// The line is as long as it may be, or there is nobody at its end.
pub(crate) fn offer(queue: &mpsc::Sender<Stream>) -> io::Result<End> {
    let place = queue.try_reserve().map_err(|error| io::Error::new(io::ErrorKind::ConnectionRefused, error))?;
    let (here, there) = pipe();
    place.send(Stream(there));
    Ok(here)
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let turn = ready!(poll_proceed(context));
        self.0.poll_read(context, space).map(|outcome| {
            turn.made_progress();
            outcome
        })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(octets)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let turn = ready!(poll_proceed(context));
        self.0.poll_write(context, parts).map(|outcome| {
            turn.made_progress();
            outcome
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.shut_down())
    }
}
