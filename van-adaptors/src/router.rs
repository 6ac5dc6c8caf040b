//! A running router: the control plane's thread, the shards, and everything that listens and dials.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};
use van_core::Random;
use van_core::amqp::Condition;
use van_core::management::config::{Configuration, Connector, Family, Listener, Service, TcpListener, TlsProfile};
use van_core::plane::{ConnectionId, ConnectorId, Counters, ListenerId, Report, Routes, ShardId};
use van_core::router::{Candidate, Core, Fact, Identity, Output};
use van_tls::directory::ProfileFiles;
use van_tls::{Credentials, HostCheck, LinkAcceptor, LinkConnector, Policy};

use crate::amqp::Opened;
use crate::amqp::access::{self, Access};
use crate::amqp::link::{self, Link};
use crate::shard::{Adopted, Message, Shards, Target};
use crate::tcp::listener;
use crate::web::{self, Site, View};

/// What the surroundings of a router decide.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Names this life of the router; greater after every restart. The clock's seconds if unset.
    pub instance: Option<u64>,
}

/// A running router. Dropping it stops it at once; [`Router::shutdown`] does so in order.
#[derive(Debug)]
pub struct Router {
    commands: mpsc::UnboundedSender<Command>,
    routes: watch::Receiver<Arc<Routes>>,
    shards: Arc<Shards>,
    thread: Option<JoinHandle<()>>,
}

/// Why a router does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("{entity}: cannot listen on {address}{}", listen_hint(.source))]
    Listen {
        /// The entity.
        entity: String,
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// A TLS profile's files cannot be used.
    #[error("sslProfile \"{profile}\": {message}")]
    Credentials {
        /// The profile's name.
        profile: String,
        /// What is wrong, and with which file.
        message: String,
    },
    /// An entity contradicts itself, or another one.
    #[error("{entity}: {message}")]
    Entity {
        /// The entity.
        entity: String,
        /// What is wrong.
        message: String,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

fn listen_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program, perhaps another router, is listening there",
        // Without a code of the system it is ours, of a name that has no address of the family wanted.
        io::ErrorKind::AddrNotAvailable if error.raw_os_error().is_some() => {
            "; this machine has no such address: name one that it has, or leave `host` out for all"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need the privilege to bind them",
        _ => "",
    }
}

/// What the control plane's task is told.
enum Command {
    Admit {
        candidate: Box<Candidate>,
        opened: Box<Opened>,
        reply: oneshot::Sender<Result<oneshot::Receiver<Option<Condition>>, Condition>>,
    },
    Shutdown {
        deadline: Duration,
        done: oneshot::Sender<()>,
    },
}

/// How often a router that is stopping looks whether something still runs.
const DRAIN_GLANCE: Duration = Duration::from_millis(20);

/// A handle for those who dial and accept.
#[derive(Debug, Clone)]
pub(crate) struct Control(mpsc::UnboundedSender<Command>);

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Admit { .. } => "Admit",
            Self::Shutdown { .. } => "Shutdown",
        })
    }
}

impl Control {
    /// Asks for a connection to be used. The receiver tells when it is closed, and why.
    pub(crate) async fn admit(
        &self,
        candidate: Candidate,
        opened: Opened,
    ) -> Result<oneshot::Receiver<Option<Condition>>, Condition> {
        let (reply, answer) = oneshot::channel();
        let _ = self.0.send(Command::Admit { candidate: candidate.into(), opened: opened.into(), reply });
        answer.await.unwrap_or_else(|_| Err(Condition::bare("amqp:connection:forced")))
    }
}

impl Router {
    /// Starts a router. Everything that can fail at the start has been tried when this returns: certificates are read,
    /// ports are open or were.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub fn start(configuration: Configuration, options: &Options) -> Result<Self, StartError> {
        let prepared = Prepared::new(&configuration)?;
        let cores = std::thread::available_parallelism().map_or(1, |count| count.get() as u16);
        let shard_count = configuration.shards.unwrap_or(cores).clamp(1, van_core::plane::MAX_SHARDS);
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = clock.as_nanos() as u64 ^ u64::from(std::process::id()) << 32;
        let identity = Identity {
            id: configuration.id.clone(),
            instance: options.instance.unwrap_or(clock.as_secs()),
            shards: shard_count,
        };
        let core =
            Core::new(identity, configuration.timing.clone(), configuration.distribution.clone(), Instant::now());
        let (reports_in, reports) = mpsc::unbounded_channel();
        let shards =
            Arc::new(Shards::start(shard_count, core.routes(), &reports_in, seed).map_err(StartError::Thread)?);
        let (commands, inbox) = mpsc::unbounded_channel();
        let (published, routes) = watch::channel(Arc::clone(core.routes()));
        let task = Task {
            core,
            shards: Arc::clone(&shards),
            inbox,
            reports,
            published,
            closers: HashMap::new(),
            listeners: HashMap::new(),
            control: Control(commands.clone()),
            background: JoinSet::new(),
            random: Random::new(seed),
        };
        let thread =
            std::thread::Builder::new().name("van-control".into()).spawn(move || task.run(configuration, prepared));
        Ok(Self { commands, routes, shards, thread: Some(thread.map_err(StartError::Thread)?) })
    }

    /// The network as this router sees it now.
    pub fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes.borrow())
    }

    /// Waits until the network looks different.
    pub async fn routes_changed(&mut self) {
        let _ = self.routes.changed().await;
    }

    /// What the shards have done.
    pub fn counters(&self) -> Vec<Counters> {
        self.shards.stats.iter().map(|stats| stats.read()).collect()
    }

    /// Stops in order: no new clients, then streams may end until the deadline, then connections are closed.
    pub async fn shutdown(mut self, deadline: Duration) {
        let (done, is_done) = oneshot::channel();
        if self.commands.send(Command::Shutdown { deadline, done }).is_ok() {
            let _ = is_done.await;
        }
        self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let (done, _) = oneshot::channel();
            let _ = self.commands.send(Command::Shutdown { deadline: Duration::ZERO, done });
            let _ = thread.join();
        }
    }
}

// === what can fail at the start ===

/// Sockets and credentials, ready to be used.
struct Prepared {
    accesses: Vec<(Access, Vec<std::net::TcpListener>)>,
    sites: Vec<(Site, Vec<std::net::TcpListener>)>,
    links: Vec<Link>,
    tcp_listeners: Vec<(TcpListener, Vec<SocketAddr>)>,
}

impl Prepared {
    fn new(configuration: &Configuration) -> Result<Self, StartError> {
        let mut profiles = Profiles { configuration, read: HashMap::new() };
        let links =
            configuration.connectors.iter().map(|connector| profiles.link(connector)).collect::<Result<_, _>>()?;
        let mut places = Places::default();
        let (mut accesses, mut sites) = (Vec::new(), Vec::new());
        for listener in &configuration.listeners {
            match (&listener.service, profiles.access(listener)?) {
                (_, Some(access)) => accesses.push((access, places.open_listener(listener)?)),
                (Service::Http { has_health, has_metrics }, None) => {
                    let site = Site { name: listener.name.clone(), has_health: *has_health, has_metrics: *has_metrics };
                    sites.push((site, places.open_listener(listener)?));
                }
                (Service::Links { .. }, None) => {}
            }
        }
        let tcp_listeners = configuration
            .tcp_listeners
            .iter()
            .map(|listener| places.try_tcp_listener(listener))
            .collect::<Result<_, _>>()?;
        Ok(Self { accesses, sites, links, tcp_listeners })
    }
}

/// Where entities listen, with their names: no two can at one address.
#[derive(Default)]
struct Places(Vec<(SocketAddr, String)>);

impl Places {
    fn open_listener(&mut self, listener: &Listener) -> Result<Vec<std::net::TcpListener>, StartError> {
        let entity = format!("listener \"{}\"", listener.name);
        Ok(self.open(entity, &listener.host, listener.port, listener.family)?.1)
    }

    /// The socket is opened when the routing key has a consumer; that it can be is tried now.
    fn try_tcp_listener(&mut self, listener: &TcpListener) -> Result<(TcpListener, Vec<SocketAddr>), StartError> {
        let entity = format!("tcpListener \"{}\"", listener.name);
        Ok((listener.clone(), self.open(entity, &listener.host, listener.port, None)?.0))
    }

    fn open(
        &mut self,
        entity: String,
        host: &str,
        port: u16,
        family: Option<Family>,
    ) -> Result<(Vec<SocketAddr>, Vec<std::net::TcpListener>), StartError> {
        let place = if host.is_empty() { format!("port {port}") } else { format!("{host}:{port}") };
        let failed = |source| StartError::Listen { entity: entity.clone(), address: place.clone(), source };
        let addresses = listener::addresses(host, port, family).map_err(failed)?;
        let is_taken = |(taken, _): &&(SocketAddr, _)| addresses.iter().any(|address| overlap(*taken, *address));
        if let Some((taken, other)) = self.0.iter().find(is_taken) {
            let message = format!("cannot listen on {place}; {other} is to listen on {taken}: change one of them");
            return Err(StartError::Entity { entity, message });
        }
        let sockets = addresses.iter().map(|address| listener::bind(*address, None)).collect::<io::Result<_>>();
        let sockets = sockets.map_err(failed)?;
        self.0.extend(addresses.iter().map(|address| (*address, entity.clone())));
        Ok((addresses, sockets))
    }
}

/// Whether the system lets only one of them be listened on. (Port 0 stands for one of its choice.)
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let is_same_host = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && a.is_ipv4() == b.is_ipv4() && is_same_host
}

/// TLS profiles, each read once.
struct Profiles<'a> {
    configuration: &'a Configuration,
    read: HashMap<&'a str, Credentials>,
}

impl<'a> Profiles<'a> {
    fn credentials(&mut self, name: &'a str) -> Result<&Credentials, StartError> {
        if !self.read.contains_key(name) {
            let profile = self.configuration.tls_profiles.get(name).cloned().unwrap_or_default();
            let credentials = read_credentials(&profile)
                .map_err(|message| StartError::Credentials { profile: name.to_owned(), message })?;
            self.read.insert(name, credentials);
        }
        Ok(&self.read[name])
    }

    fn link(&mut self, connector: &'a Connector) -> Result<Link, StartError> {
        let check = if connector.verifies_host { HostCheck::Verify } else { HostCheck::Waive };
        let tls =
            match &connector.tls_profile {
                Some(name) => {
                    let connector = LinkConnector::new(self.credentials(name)?, check, &Policy::default());
                    Some(connector.map_err(|error| StartError::Credentials {
                        profile: name.clone(),
                        message: with_causes(&error),
                    })?)
                }
                None => None,
            };
        let configuration = self.configuration;
        let cores = std::thread::available_parallelism().map_or(1, |count| count.get() as u16);
        let shards = configuration.shards.unwrap_or(cores);
        Ok(Link {
            name: connector.name.clone(),
            router: configuration.id.to_string(),
            host: connector.host.clone(),
            port: connector.port,
            family: connector.family,
            cost: connector.cost.into(),
            tls,
            ordinal: connector
                .tls_profile
                .as_ref()
                .and_then(|name| configuration.tls_profiles.get(name))
                .map(|profile| profile.ordinal),
            data_connections: connector.data_connections.or(configuration.data_connections).unwrap_or(shards),
            max_frame_bytes: connector.max_frame_bytes,
            idle_timeout: connector.idle_timeout,
        })
    }

    fn access(&mut self, listener: &'a Listener) -> Result<Option<Access>, StartError> {
        let Service::Links { cost, tls_profile, requires_authentication, max_frame_bytes, idle_timeout } =
            &listener.service
        else {
            return Ok(None);
        };
        let tls =
            match tls_profile {
                Some(name) => {
                    let acceptor = LinkAcceptor::new(self.credentials(name)?, &Policy::default());
                    Some(acceptor.map_err(|error| StartError::Credentials {
                        profile: name.clone(),
                        message: with_causes(&error),
                    })?)
                }
                None if *requires_authentication => {
                    return Err(StartError::Entity {
                        entity: format!("listener \"{}\"", listener.name),
                        message: "authenticatePeer needs an sslProfile: routers authenticate by certificate".into(),
                    });
                }
                None => None,
            };
        Ok(Some(Access {
            name: listener.name.clone(),
            router: self.configuration.id.to_string(),
            cost: (*cost).into(),
            tls,
            requires_authentication: *requires_authentication,
            max_frame_bytes: *max_frame_bytes,
            idle_timeout: *idle_timeout,
        }))
    }
}

/// Reads a profile's files and checks that they can be used now.
fn read_credentials(profile: &TlsProfile) -> Result<Credentials, String> {
    let path = |file: &Option<String>| file.as_ref().map(Into::into);
    let files = ProfileFiles {
        certificate: path(&profile.cert_file),
        key: path(&profile.private_key_file),
        ca: path(&profile.ca_cert_file),
    };
    let read = files.read().map_err(|error| with_causes(&error))?;
    let (Some(identity), Some(trust)) = (read.identity, read.trust) else {
        return Err("links need all of caCertFile, certFile and privateKeyFile".into());
    };
    let credentials = Credentials { identity, trust };
    credentials.check(SystemTime::now()).map_err(|error| with_causes(&error))?;
    Ok(credentials)
}

/// An error and what caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(if text.ends_with('?') { " " } else { ": " });
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

// === the control plane's task ===

struct Task {
    core: Core,
    shards: Arc<Shards>,
    inbox: mpsc::UnboundedReceiver<Command>,
    reports: mpsc::UnboundedReceiver<(ShardId, Report)>,
    published: watch::Sender<Arc<Routes>>,
    /// Who wants to know when a connection is closed.
    closers: HashMap<ConnectionId, oneshot::Sender<Option<Condition>>>,
    listeners: HashMap<ListenerId, OpenListener>,
    control: Control,
    background: JoinSet<()>,
    random: Random,
}

/// A TCP listener, open or not.
struct OpenListener {
    listener: TcpListener,
    key: Arc<str>,
    addresses: Vec<SocketAddr>,
    shard: ShardId,
    is_open: bool,
}

impl Task {
    fn run(self, configuration: Configuration, prepared: Prepared) {
        match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.work(configuration, prepared)),
            Err(error) => warn!(%error, "cannot start the runtime of the control plane"),
        }
    }

    async fn work(mut self, configuration: Configuration, prepared: Prepared) {
        self.start(configuration, prepared);
        self.act();
        let mut stopping: Option<Stopping> = None;
        while !stopping.as_ref().is_some_and(|stopping| stopping.is_over(&self.shards)) {
            let timeout = self.core.poll_timeout();
            if timeout.is_some_and(|at| at <= Instant::now()) {
                self.core.handle_timeout(Instant::now());
                self.act();
            }
            tokio::select! {
                biased;
                Some(command) = self.inbox.recv() => match command {
                    Command::Admit { candidate, opened, reply } => self.admit(*candidate, *opened, reply),
                    Command::Shutdown { deadline, done } => {
                        self.take_no_more();
                        stopping = Some(Stopping { end: Instant::now() + deadline, done });
                    }
                },
                Some((shard, report)) = self.reports.recv() => self.handle_report(shard, report),
                () = sleep_until(timeout) => self.core.handle_timeout(Instant::now()),
                // The shards do not say when they become idle; they can be asked.
                () = tokio::time::sleep(DRAIN_GLANCE), if stopping.is_some() => {}
            }
            self.act();
        }
        self.background.abort_all();
        self.shards.stop();
        if let Some(Stopping { done, .. }) = stopping {
            let _ = done.send(());
        }
    }

    fn start(&mut self, configuration: Configuration, prepared: Prepared) {
        let now = Instant::now();
        for (number, connector) in configuration.tcp_connectors.iter().enumerate() {
            let id = ConnectorId(number as u32);
            let target = Arc::new(Target::new(&connector.host, connector.port));
            self.shards.tell_all(|| Message::Connector { connector: id, target: Arc::clone(&target) });
            self.core.add_connector(now, id, &Arc::from(connector.address.as_str()));
        }
        for (number, (listener, addresses)) in prepared.tcp_listeners.into_iter().enumerate() {
            let key: Arc<str> = Arc::from(listener.address.as_str());
            let shard = ShardId((number % self.shards.inboxes.len()) as u16);
            let is_reachable = self.core.watch(&key);
            self.listeners.insert(
                ListenerId(number as u32),
                OpenListener { listener, key: Arc::clone(&key), addresses, shard, is_open: false },
            );
            if is_reachable {
                self.set_reachable(&key, true);
            }
        }
        for (access, sockets) in prepared.accesses {
            for socket in sockets {
                match tokio::net::TcpListener::from_std(socket) {
                    Ok(socket) => {
                        drop(self.background.spawn(access::serve(access.clone(), socket, self.control.clone())))
                    }
                    Err(error) => warn!(listener = %access.name, %error, "cannot listen"),
                }
            }
        }
        for (site, sockets) in prepared.sites {
            for socket in sockets {
                match tokio::net::TcpListener::from_std(socket) {
                    Ok(socket) => {
                        let view = View { routes: self.published.subscribe(), stats: Arc::clone(&self.shards.stats) };
                        drop(self.background.spawn(web::serve(site.clone(), socket, view)));
                    }
                    Err(error) => warn!(listener = %site.name, %error, "cannot listen"),
                }
            }
        }
        for link in prepared.links {
            let random = Random::new(self.random.next_u64());
            self.background.spawn(link::run(link, self.control.clone(), random));
        }
    }

    fn admit(
        &mut self,
        candidate: Candidate,
        opened: Opened,
        reply: oneshot::Sender<Result<oneshot::Receiver<Option<Condition>>, Condition>>,
    ) {
        match self.core.admit(candidate) {
            Ok(admitted) => {
                let Opened { socket, records, mut engine, received, opened, output, .. } = opened;
                let is_initiator = engine.is_open();
                if !is_initiator {
                    engine.answer_open([]);
                }
                let socket = match socket.into_std() {
                    Ok(socket) => socket,
                    Err(error) => {
                        let reason = Condition::new("van:connection-lost", error.to_string());
                        let _ = reply.send(Err(reason.clone()));
                        let lost = Report::ConnectionLost { connection: admitted.id, reason: Some(reason) };
                        return self.core.handle_report(Instant::now(), lost);
                    }
                };
                let (id, purpose) = (admitted.id, admitted.purpose);
                let adopted = Adopted { id, purpose, is_initiator, socket, records, engine, received, opened, output };
                let (closer, closed) = oneshot::channel();
                self.closers.insert(id, closer);
                self.shards.tell(admitted.shard, Message::Adopt(adopted.into()));
                let _ = reply.send(Ok(closed));
            }
            Err(condition) => {
                self.background.spawn(opened.refuse(condition.clone()));
                let _ = reply.send(Err(condition));
            }
        }
    }

    fn handle_report(&mut self, shard: ShardId, report: Report) {
        if let Report::Control { connection, message } = &report {
            self.shards.tell(shard, Message::Taken { connection: *connection, octets: message.len() });
        }
        if let Report::ConnectionLost { connection, reason } = &report
            && let Some(closer) = self.closers.remove(connection)
        {
            let _ = closer.send(reason.clone());
        }
        self.core.handle_report(Instant::now(), report);
    }

    /// Does what the core wants.
    fn act(&mut self) {
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Routes(routes) => {
                    self.shards.tell_all(|| Message::Routes(Arc::clone(&routes)));
                    self.published.send_replace(routes);
                }
                Output::Send { to, message } => {
                    self.shards.tell(to.shard, Message::SendControl { connection: to.id, message })
                }
                Output::Close { at, condition } => {
                    self.shards.tell(at.shard, Message::Close { connection: at.id, condition: Some(condition) });
                }
                Output::Retire { at } => self.shards.tell(at.shard, Message::Retire { connection: at.id }),
                Output::Reachable { address, is_reachable } => self.set_reachable(&address, is_reachable),
                Output::Fact(fact) => log(&fact),
            }
        }
    }

    fn set_reachable(&mut self, key: &Arc<str>, is_reachable: bool) {
        for (id, open) in self.listeners.iter_mut().filter(|(_, open)| open.key == *key) {
            if is_reachable {
                open.open(*id, &self.shards);
            } else {
                open.close(*id, &self.shards, "nobody consumes its routing key");
            }
        }
    }

    /// No new clients from here, no new streams from elsewhere. The router stays in the network for what runs.
    fn take_no_more(&mut self) {
        for (id, mut open) in self.listeners.drain() {
            open.close(id, &self.shards, "the router is stopping");
        }
        self.core.retire_connectors(Instant::now());
    }
}

/// The router is to end when nothing runs any more, or at the latest when its time is over.
struct Stopping {
    end: Instant,
    done: oneshot::Sender<()>,
}

impl Stopping {
    fn is_over(&self, shards: &Shards) -> bool {
        Instant::now() >= self.end || shards.stats.iter().all(|stats| stats.read().directions == 0)
    }
}

impl OpenListener {
    fn open(&mut self, id: ListenerId, shards: &Shards) {
        if self.is_open {
            return;
        }
        for address in &self.addresses {
            match listener::bind(*address, self.listener.backlog) {
                Ok(socket) => {
                    info!(listener = %self.listener.name, %address, key = %self.key, "listener open");
                    self.is_open = true;
                    shards.tell(self.shard, Message::Listen { listener: id, socket, key: Arc::clone(&self.key) });
                }
                Err(error) => warn!(listener = %self.listener.name, %address, %error, "cannot listen"),
            }
        }
    }

    fn close(&mut self, id: ListenerId, shards: &Shards, reason: &str) {
        if std::mem::take(&mut self.is_open) {
            info!(listener = %self.listener.name, key = %self.key, reason, "listener closed");
            shards.tell(self.shard, Message::Unlisten { listener: id });
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn log(fact: &Fact) {
    match fact {
        Fact::NeighborUp { router, cost } => info!(%router, cost, "neighbour up"),
        Fact::NeighborDown { router } => warn!(%router, "neighbour lost"),
        Fact::DuplicateId { router } => warn!(%router, "two routers have this id; rename one"),
        Fact::Malformed { router, error } => warn!(%router, %error, "unreadable router message"),
        Fact::Refused { router, error } => warn!(%router, %error, "router message refused"),
        _ => {}
    }
}
