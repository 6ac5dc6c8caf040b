//! HTTP: health, metrics, the routes as this router sees them, and the way in for AMQP over WebSocket.
//!
//! | path | answers |
//! |---|---|
//! | `/healthz` | 200 as long as the control plane answers |
//! | `/metrics` | counters of the data plane and sizes of the network, as OpenMetrics text |
//! | `/debug/routes` | JSON, to clients on this machine only |
//! | any, asked for WebSocket with the subprotocol `amqp` | AMQP, as at other listeners of the same role |

mod websocket;

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};
use van_core::plane::{Counters, Memory, Routes};

use crate::amqp::Profile;
use crate::amqp::access::{self, Access};
use crate::bench;
use crate::control::Control;
use crate::shard::Stats;
use crate::tcp::EXHAUSTED_REST;
use crate::tcp::newcomers::Newcomers;

/// Clients served at the same time.
const MAX_CLIENTS: usize = 64;

/// Clients of AMQP over WebSocket at the same time, each of which takes three sockets.
const MAX_WEBSOCKETS: usize = 1024;

/// How long a client may take to say what it wants.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client is served, if it does not change over to WebSocket; what it has asked for by then is answered.
const MAX_VISIT: Duration = Duration::from_secs(60);

/// Source: the OpenMetrics specification.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a listener serves.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) name: String,
    pub(crate) has_health: bool,
    pub(crate) has_metrics: bool,
    /// Its certificate, as it is when a client comes.
    pub(crate) tls: Option<watch::Receiver<Arc<Profile>>>,
    /// What takes AMQP in.
    pub(crate) amqp: Option<(Arc<Access>, Control)>,
}

/// What can be seen of the router from here.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) routes: watch::Receiver<Arc<Routes>>,
    pub(crate) stats: Arc<[Stats]>,
    pub(crate) memory: Arc<Memory>,
}

/// Serves until dropped.
pub(crate) async fn serve(site: Site, socket: TcpListener, view: View) {
    let (mut clients, mut websockets) = (Newcomers::new(MAX_CLIENTS), JoinSet::new());
    loop {
        tokio::select! {
            accepted = socket.accept() => match accepted {
                Ok((client, address)) => {
                    let (site, view) = (site.clone(), view.clone());
                    clients.spawn(|give_way| async move {
                        tokio::select! {
                            upgraded = serve_client(site, view, client, address) => upgraded,
                            Ok(()) = give_way => None,
                        }
                    });
                }
                Err(error) => {
                    warn!(listener = %site.name, %error, "cannot accept a client; trying again");
                    tokio::time::sleep(EXHAUSTED_REST).await;
                }
            },
            Some(served) = clients.next() => {
                match (served, &site.amqp) {
                    (Some(Upgraded { peer, .. }), Some(_)) if websockets.len() >= MAX_WEBSOCKETS => {
                        warn!(listener = %site.name, %peer, "a WebSocket beyond {MAX_WEBSOCKETS} is closed");
                    }
                    (Some(upgraded), Some(amqp)) => {
                        websockets.spawn(serve_amqp(site.name.clone(), upgraded, amqp.clone()));
                    }
                    _ => {}
                }
            }
            Some(_) = websockets.join_next() => {}
        }
    }
}

/// A client that has changed over to WebSocket.
struct Upgraded {
    websocket: websocket::Socket,
    peer: SocketAddr,
    /// The generation of the certificates, with TLS.
    ordinal: Option<u64>,
}

async fn serve_client(site: Site, view: View, client: TcpStream, address: SocketAddr) -> Option<Upgraded> {
    let Some(profile) = site.tls.as_ref().map(|profile| Arc::clone(&profile.borrow())) else {
        return serve_http(&site, &view, client, address, None).await;
    };
    // No listener gets or keeps a profile that lacks it.
    let acceptor = profile.https().ok()?;
    match tokio::time::timeout(REQUEST_TIMEOUT, acceptor.accept(client)).await {
        Ok(Ok(client)) => serve_http(&site, &view, client, address, Some(profile.ordinal)).await,
        Ok(Err(error)) => {
            debug!(listener = %site.name, peer = %address, %error, "a client did not get as far as HTTP");
            None
        }
        Err(_) => None,
    }
}

async fn serve_http(
    site: &Site,
    view: &View,
    client: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    address: SocketAddr,
    ordinal: Option<u64>,
) -> Option<Upgraded> {
    let is_local = address.ip().to_canonical().is_loopback();
    let upgrade = Mutex::new(None);
    let service = service_fn(|mut request: Request<Incoming>| {
        let response = if site.amqp.is_some() && websocket::is_wanted(&request) {
            let (response, upgrading) = websocket::upgrade(&mut request);
            *upgrade.lock().unwrap_or_else(PoisonError::into_inner) = upgrading;
            response
        } else {
            answer(site, view, request.method(), request.uri().path(), is_local)
        };
        async move { Ok::<_, Infallible>(response) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(REQUEST_TIMEOUT);
    let mut serving = std::pin::pin!(server.serve_connection(TokioIo::new(client), service).with_upgrades());
    // A client that goes away in the middle is none of our business, nor one that does not read.
    if tokio::time::timeout(MAX_VISIT, serving.as_mut()).await.is_err() {
        serving.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(REQUEST_TIMEOUT, serving).await;
    }
    let upgrading = upgrade.into_inner().unwrap_or_else(PoisonError::into_inner)?;
    Some(Upgraded { websocket: websocket::open(upgrading.await.ok()?).await, peer: address, ordinal })
}

async fn serve_amqp(listener: String, upgraded: Upgraded, (access, control): (Arc<Access>, Control)) {
    let Upgraded { websocket, peer, ordinal: within_tls } = upgraded;
    let (near, far) = match websocket::loopback().await {
        Ok(ends) => ends,
        Err(error) => return warn!(listener, %peer, %error, "a WebSocket cannot be served"),
    };
    let access = Access { within_tls, ..Access::clone(&access) };
    let relayed = websocket::relay(websocket, near);
    let (relayed, ()) = tokio::join!(relayed, access::serve_one(access, far, peer, control));
    if let Err(error) = relayed {
        debug!(listener, %peer, %error, "a WebSocket broke off");
    }
}

fn answer(site: &Site, view: &View, method: &Method, path: &str, is_local: bool) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return respond(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n");
    }
    match path {
        "/healthz" if site.has_health => respond(StatusCode::OK, "text/plain", "ok\n"),
        "/metrics" if site.has_metrics => match metrics(view) {
            Ok(text) => respond(StatusCode::OK, OPENMETRICS, text),
            Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
        },
        "/debug/routes" if is_local => {
            respond(StatusCode::OK, "application/json", routes(&view.routes.borrow()).to_string())
        }
        _ => respond(StatusCode::NOT_FOUND, "text/plain", "not here; try /healthz or /metrics\n"),
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header(CONTENT_TYPE, content_type);
    response.body(Full::new(body.into())).expect("constant headers are valid")
}

/// Every reachable router: its id, the neighbour towards it, the path's cost, and whose messages to it come through here.
fn routes(routes: &Routes) -> Value {
    let table = &routes.table;
    let reachable = table.routes().map(|(id, route)| {
        json!({
            "id": id.as_str(),
            "nextHop": route.next_hop.as_str(),
            "cost": route.cost,
            "validOrigins": table.valid_origins(id).map(|origin| origin.as_str()).collect::<Vec<_>>(),
        })
    });
    json!({ "router": routes.id.as_str(), "routes": reachable.collect::<Vec<_>>() })
}

// === metrics ===

fn metrics(view: &View) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("van");
    registry.register_collector(Box::new(Snapshot {
        shards: view.stats.iter().map(Stats::read).collect(),
        flows_dropped: view.stats.iter().map(Stats::flows_dropped).sum(),
        flows_given_up: view.stats.iter().map(Stats::flows_given_up).sum(),
        routers: view.routes.borrow().table.routes().count() + 1,
        addresses: view.routes.borrow().addresses.keys().filter(|key| !key.starts_with(bench::PREFIX)).count(),
        links: view.routes.borrow().next_hops.len(),
        memory: (view.memory.taken(), view.memory.budget()),
    }));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// The router's numbers at one moment.
#[derive(Debug)]
struct Snapshot {
    shards: Vec<Counters>,
    flows_dropped: u64,
    flows_given_up: u64,
    routers: usize,
    addresses: usize,
    links: usize,
    /// What is taken of it, and all there is.
    memory: (u64, u64),
}

impl Snapshot {
    fn sum(&self, of: impl Fn(&Counters) -> u64) -> u64 {
        self.shards.iter().map(of).sum()
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (taken, budget) = self.memory;
        let gauges = [
            ("routers", "Routers that can be reached, this one included", None, self.routers as u64),
            ("links", "Links to neighbours that are up", None, self.links as u64),
            ("addresses", "Routing keys with a consumer in the network", None, self.addresses as u64),
            (
                "streams",
                "TCP connections of clients and workloads that are open",
                None,
                self.sum(|shard| shard.streams),
            ),
            ("directions", "Directions of traffic that end here or pass", None, self.sum(|shard| shard.directions)),
            ("memory", "Octets that wait, or that senders were allowed to send", Some(Unit::Bytes), taken),
            ("memory_budget", "Octets that may", Some(Unit::Bytes), budget),
        ];
        for (name, help, unit, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?)?;
        }
        let counters = [
            ("streams_accepted", "TCP connections accepted from clients", None, self.sum(|shard| shard.accepted)),
            ("streams_connected", "TCP connections made to workloads", None, self.sum(|shard| shard.connected)),
            (
                "streams_refused",
                "Streams without a consumer, and workloads that refused",
                None,
                self.sum(|shard| shard.refused),
            ),
            ("in", "Octets read from clients and workloads", Some(Unit::Bytes), self.sum(|shard| shard.octets_in)),
            ("out", "Octets written to clients and workloads", Some(Unit::Bytes), self.sum(|shard| shard.octets_out)),
            (
                "transit",
                "Octets passed on from one router to another",
                Some(Unit::Bytes),
                self.sum(|shard| shard.octets_transit),
            ),
            (
                "crossed",
                "Octets that crossed from one shard to another",
                Some(Unit::Bytes),
                self.sum(|shard| shard.octets_crossed),
            ),
            (
                "messages_dropped",
                "Copies of messages that a congested peer did not get",
                None,
                self.sum(|shard| shard.copies_dropped),
            ),
            (
                "flow_records_dropped",
                "Records of connections and requests that were too many to tell",
                None,
                self.flows_dropped,
            ),
            (
                "observers_given_up",
                "Connections in which no HTTP was seen, or not all of it",
                None,
                self.flows_given_up,
            ),
        ];
        for (name, help, unit, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, unit.as_ref(), counter.metric_type())?)?;
        }
        Ok(())
    }
}
