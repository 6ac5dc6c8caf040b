//! Redemption over HTTPS, the issuer's side: TLS 1.3, HTTP/1.1 and HTTP/2.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::{self, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::request::Parts;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Method, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tracing::{debug, info, warn};
use van_tls::{HttpsAcceptor, Identity, SetupError};
use zeroize::Zeroizing;

use crate::code::MAX_CODE_BYTES;
use crate::grants::Grants;
use crate::issuer::{Accepted, IssueError, Issuer};
use crate::wire::{CONTENT_TYPE, NAME, Refusal, Request, SUBJECT};

/// How long a client may take to shake hands.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long it may take to ask, and as long again to take the answer (as Skupper's).
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(60);

/// Clients at the same time. One more displaces the oldest that waits for no answer, so that those who connect and have
/// nothing to say (any more) keep nobody out; if all wait for answers, it is turned away.
const MAX_CLIENTS: usize = 256;

/// Requests at the same time on one connection; redeemers send one.
const MAX_STREAMS: u32 = 8;

/// Octets of all headers of one request; those of a redeemer have some hundred.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// How long to wait if the system has no more sockets to accept with.
const EXHAUSTED_REST: Duration = Duration::from_millis(100);

const HTTP_2: &str = "h2";
const HTTP_1: &str = "http/1.1";

/// Answers redemptions over HTTPS. Dropping it stops at once, [`shutdown`](Self::shutdown) in order.
#[derive(Debug)]
pub struct GrantServer {
    addresses: Vec<SocketAddr>,
    acceptor: watch::Sender<HttpsAcceptor>,
    stop: oneshot::Sender<()>,
    task: JoinSet<()>,
}

impl GrantServer {
    /// Serves on all `listeners`, as a task of the current tokio runtime, which needs I/O and timers.
    ///
    /// Redeemers believe `identity` by the CA in their tokens; it must name each host that they call.
    ///
    /// # Errors
    /// [`StartError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(
        listeners: Vec<net::TcpListener>,
        grants: Grants,
        issuer: Arc<dyn Issuer>,
        identity: &Identity,
    ) -> Result<Self, StartError> {
        let addresses = listeners.iter().map(net::TcpListener::local_addr).collect::<Result<_, _>>()?;
        let listeners = listeners.into_iter().map(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        });
        let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
        let (acceptor, acceptors) = watch::channel(https(identity)?);
        let (stop, stopped) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(serve(listeners, acceptors, Door { grants, issuer }, stopped));
        Ok(Self { addresses, acceptor, stop, task })
    }

    /// The addresses it listens on, in the order of the listeners.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Shows another certificate from now on, for other hosts perhaps. Connections that are open keep the old one.
    ///
    /// # Errors
    /// [`SetupError`]; the old one stays then.
    pub fn replace_credentials(&self, identity: &Identity) -> Result<(), SetupError> {
        self.acceptor.send_replace(https(identity)?);
        Ok(())
    }

    /// Accepts nobody any more, and waits until those who asked have their answers, but not longer than `limit`.
    ///
    /// Dropping the future stops at once; what an issuer has begun is finished and counted all the same.
    pub async fn shutdown(self, limit: Duration) {
        let Self { stop, mut task, .. } = self;
        drop(stop);
        let _ = timeout(limit, task.join_next()).await;
    }
}

/// Why a server does not start; the operator's move.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener cannot be used.
    #[error("a listener for redemptions cannot be used")]
    Io(#[from] io::Error),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] SetupError),
}

fn https(identity: &Identity) -> Result<HttpsAcceptor, SetupError> {
    HttpsAcceptor::new(identity, &[HTTP_2, HTTP_1])
}

/// What every client comes to.
#[derive(Clone)]
struct Door {
    grants: Grants,
    issuer: Arc<dyn Issuer>,
}

async fn serve(
    listeners: Vec<TcpListener>,
    acceptors: watch::Receiver<HttpsAcceptor>,
    door: Door,
    mut stopped: oneshot::Receiver<()>,
) {
    let graceful = GracefulShutdown::new();
    let mut clients = JoinSet::new();
    let mut guests = VecDeque::new();
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            accepted = accept(&listeners) => match accepted {
                Ok((socket, peer)) if has_room(clients.len(), &mut guests) => {
                    let acceptor = acceptors.borrow().clone();
                    let requests = Arc::default();
                    let guest = Guest { door: door.clone(), peer, requests: Arc::clone(&requests) };
                    let task = clients.spawn(guest.serve(acceptor, socket, graceful.watcher()));
                    guests.push_back(Present { task, requests });
                }
                Ok((_, peer)) => debug!(%peer, "too many redeemers at a time; turned away"),
                Err(error) => {
                    warn!(%error, "cannot accept a redeemer; trying again");
                    tokio::time::sleep(EXHAUSTED_REST).await;
                }
            },
            Some(_) = clients.join_next() => {}
        }
    }
    drop(listeners);
    guests.iter().filter(|guest| !guest.requests.has_asked()).for_each(|guest| guest.task.abort());
    graceful.shutdown().await;
}

/// A client as the door sees it, until it is looked at after it has gone.
struct Present {
    task: AbortHandle,
    requests: Arc<Requests>,
}

/// What a client asks.
#[derive(Default)]
struct Requests {
    has_asked: AtomicBool,
    /// Those that wait for their answers.
    in_flight: AtomicUsize,
}

/// One of [`Requests`] in flight, until dropped: answered, or given up by the client.
struct InFlight<'a>(&'a Requests);

impl Requests {
    fn begin(&self) -> InFlight<'_> {
        self.has_asked.store(true, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    fn has_asked(&self) -> bool {
        self.has_asked.load(Ordering::Relaxed)
    }

    fn are_in_flight(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether one more can be served; for that, the oldest that waits for no answer may have to go.
fn has_room(clients: usize, guests: &mut VecDeque<Present>) -> bool {
    let is_full = clients >= MAX_CLIENTS;
    if is_full || guests.len() >= MAX_CLIENTS {
        guests.retain(|guest| !guest.task.is_finished());
    }
    if is_full {
        let idle = guests.iter().position(|guest| !guest.requests.are_in_flight());
        let idle = idle.and_then(|at| guests.remove(at));
        return idle.map(|guest| guest.task.abort()).is_some();
    }
    true
}

async fn accept(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        let ready = listeners.iter().map(|listener| listener.poll_accept(cx)).find(Poll::is_ready);
        ready.unwrap_or(Poll::Pending)
    })
    .await
}

/// A client, from its first octet to its last.
#[derive(Clone)]
struct Guest {
    door: Door,
    peer: SocketAddr,
    requests: Arc<Requests>,
}

impl Guest {
    async fn serve(self, acceptor: HttpsAcceptor, socket: TcpStream, watcher: Watcher) {
        let peer = self.peer;
        let stream = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                debug!(%peer, error = &error as &dyn std::error::Error, "no TLS with a redeemer");
                return;
            }
            Err(_) => {
                debug!(%peer, "a redeemer took too long to shake hands");
                return;
            }
        };
        let is_http_2 = stream.protocol() == Some(HTTP_2.as_bytes());
        let service = service_fn(move |request| {
            let guest = self.clone();
            async move { Ok::<_, Infallible>(guest.answer(request).await) }
        });
        let io = TokioIo::new(stream);
        // A client that goes away in the middle is none of our business.
        let _ = timeout(2 * TRANSFER_TIMEOUT, async {
            if is_http_2 {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS);
                builder.max_header_list_size(MAX_HEADER_BYTES);
                let _ = watcher.watch(builder.serve_connection(io, service)).await;
            } else {
                let mut builder = http1::Builder::new();
                // One request is all that a redeemer has; its place is free again right after.
                builder.timer(TokioTimer::new()).header_read_timeout(TRANSFER_TIMEOUT).keep_alive(false);
                builder.max_buf_size(MAX_HEADER_BYTES as usize);
                let _ = watcher.watch(builder.serve_connection(io, service)).await;
            }
        })
        .await;
    }

    async fn answer(&self, request: hyper::Request<Incoming>) -> Response<Full<Bytes>> {
        let peer = self.peer;
        let asked = read(request).await;
        let _in_flight = self.requests.begin();
        let outcome = match asked {
            Ok((parts, code)) => self.door.redeem(parts, code).await,
            Err(refusal) => Err(refusal),
        };
        match outcome {
            Ok((Accepted { namespace, grant, name, subject, .. }, yaml)) => {
                info!(grant = format!("{namespace}/{grant}"), ?name, ?subject, %peer, "token redeemed");
                respond(200, yaml)
            }
            Err(refusal) => {
                log(&refusal, peer);
                let mut response = respond(refusal.status(), refusal.body());
                response
                    .headers_mut()
                    .insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
                response
            }
        }
    }
}

impl Door {
    /// Redeems on a thread that may block, and to its end even if the client goes away.
    async fn redeem(&self, parts: Parts, code: Zeroizing<Vec<u8>>) -> Result<(Accepted, Bytes), Refusal> {
        let Self { grants, issuer } = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let request = Request {
                method: parts.method.as_str(),
                path: parts.uri.path(),
                host: match parts.uri.authority() {
                    Some(authority) => Some(authority.as_str()),
                    None => text(&parts.headers, header::HOST)?,
                },
                name: text(&parts.headers, HeaderName::from_static(NAME))?,
                subject: text(&parts.headers, HeaderName::from_static(SUBJECT))?,
                body: &code,
            };
            #[expect(clippy::disallowed_methods, reason = "the server is where the clock is read")]
            let now = SystemTime::now();
            let (accepted, bundle) = grants.redeem_as(now, &request, &*issuer)?;
            Ok((accepted, Bytes::from_owner(bundle.to_yaml())))
        });
        let stopped = |_| Refusal::NotIssued(IssueError::Certificate("Certificate could not be made".to_owned()));
        work.await.map_err(stopped)?
    }
}

/// Reads the body, no more of it than a code can have.
async fn read(request: hyper::Request<Incoming>) -> Result<(Parts, Zeroizing<Vec<u8>>), Refusal> {
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST {
        return Err(Refusal::NotPost);
    }
    let body = timeout(TRANSFER_TIMEOUT, Limited::new(body, MAX_CODE_BYTES).collect()).await;
    let body = body.map_err(|_| Refusal::NotReadable)?.map_err(|_| Refusal::NotReadable)?;
    Ok((parts, Zeroizing::new(body.to_bytes().into())))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Refusal> {
    let value = headers.get(name).map(|value| str::from_utf8(value.as_bytes()));
    value.transpose().map_err(|_| Refusal::NotReadable)
}

fn respond(status: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header(header::CONTENT_TYPE, CONTENT_TYPE);
    response.body(Full::new(body.into())).expect("constant headers are valid")
}

/// Refusals that strangers can cause at will are for debugging only.
fn log(refusal: &Refusal, peer: SocketAddr) {
    let error = refusal as &dyn std::error::Error;
    match refusal {
        Refusal::NotPost | Refusal::NotReadable | Refusal::Unknown | Refusal::TooManyGuesses { .. } => {
            debug!(%peer, error, "redemption refused");
        }
        Refusal::Expired { .. } | Refusal::UsedUp { .. } => info!(%peer, error, "redemption refused"),
        Refusal::WrongCode { .. } => warn!(%peer, error, "redemption refused"),
        Refusal::Corrupted { .. } | Refusal::NotStored(_) | Refusal::NotIssued(_) => {
            tracing::error!(%peer, error, "redemption failed");
        }
    }
}
