//! The control plane: a task around [`Core`] that does what it wants, and those who dial and accept ask.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};
use van_core::Random;
use van_core::amqp::Condition;
use van_core::management::config::{Configuration, TcpListener};
use van_core::plane::{ConnectionId, ConnectorId, ListenerId, Report, Routes, ShardId, SubscriberId};
use van_core::router::{Candidate, Core, Fact, Outgoing, Output};
use van_routing::Treatment;

use crate::amqp::Opened;
use crate::amqp::{access, link};
use crate::messages::Subscriber;
use crate::prepared::Prepared;
use crate::shard::{Adopted, Message, Shards, Target};
use crate::tcp::listener;
use crate::web::{self, View};

/// What the control plane's task is told.
enum Command {
    Admit {
        candidate: Box<Candidate>,
        opened: Box<Opened>,
        reply: oneshot::Sender<Result<oneshot::Receiver<Option<Condition>>, Condition>>,
    },
    Subscribe {
        id: SubscriberId,
        address: Arc<str>,
        treatment: Treatment,
        subscriber: Subscriber,
    },
    Unsubscribe {
        id: SubscriberId,
        address: Arc<str>,
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
            Self::Subscribe { .. } => "Subscribe",
            Self::Unsubscribe { .. } => "Unsubscribe",
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

    /// Makes somebody in this process a consumer of an address.
    pub(crate) fn subscribe(&self, id: SubscriberId, address: Arc<str>, treatment: Treatment, subscriber: Subscriber) {
        let _ = self.0.send(Command::Subscribe { id, address, treatment, subscriber });
    }

    /// Takes back [`Control::subscribe`].
    pub(crate) fn unsubscribe(&self, id: SubscriberId, address: Arc<str>) {
        let _ = self.0.send(Command::Unsubscribe { id, address });
    }

    /// Asks the router to end when nothing runs any more, or at the latest after the deadline. The receiver tells when it
    /// has.
    pub(crate) fn shut_down(&self, deadline: Duration) -> oneshot::Receiver<()> {
        let (done, is_done) = oneshot::channel();
        let _ = self.0.send(Command::Shutdown { deadline, done });
        is_done
    }
}

/// The control plane of a router, to be run on a thread of its own.
pub(crate) struct Task {
    core: Core,
    shards: Arc<Shards>,
    inbox: mpsc::UnboundedReceiver<Command>,
    reports: mpsc::UnboundedReceiver<(ShardId, Report)>,
    unsent: mpsc::Receiver<Outgoing>,
    subscribers: HashMap<SubscriberId, Subscriber>,
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
    pub(crate) fn new(
        core: Core,
        shards: Arc<Shards>,
        reports: mpsc::UnboundedReceiver<(ShardId, Report)>,
        unsent: mpsc::Receiver<Outgoing>,
        published: watch::Sender<Arc<Routes>>,
        random: Random,
    ) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        let control = Control(commands);
        Self {
            core,
            shards,
            inbox,
            reports,
            unsent,
            subscribers: HashMap::new(),
            published,
            closers: HashMap::new(),
            listeners: HashMap::new(),
            control,
            background: JoinSet::new(),
            random,
        }
    }

    pub(crate) fn control(&self) -> Control {
        self.control.clone()
    }

    /// Runs until it was asked to end.
    pub(crate) fn run(self, configuration: Configuration, prepared: Prepared) {
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
                    Command::Subscribe { id, address, treatment, subscriber } => {
                        self.subscribers.insert(id, subscriber);
                        self.core.subscribe(Instant::now(), id, &address, treatment);
                    }
                    Command::Unsubscribe { id, address } => {
                        self.subscribers.remove(&id);
                        self.core.unsubscribe(Instant::now(), id, &address);
                    }
                    Command::Shutdown { deadline, done } => {
                        self.take_no_more();
                        stopping = Some(Stopping { end: Instant::now() + deadline, done });
                    }
                },
                Some((shard, report)) = self.reports.recv() => self.handle_report(shard, report),
                Some(outgoing) = self.unsent.recv() => self.core.send(&outgoing),
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
        let taken = match &report {
            Report::Control { connection, message } | Report::Message { connection, message } => {
                Some(Message::Taken { connection: *connection, octets: message.len() })
            }
            _ => None,
        };
        if let Report::ConnectionLost { connection, reason } = &report
            && let Some(closer) = self.closers.remove(connection)
        {
            let _ = closer.send(reason.clone());
        }
        self.core.handle_report(Instant::now(), report);
        if let Some(taken) = taken {
            self.shards.tell(shard, taken);
        }
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
                Output::Forward { to, priority, message } => self.shards.forward(to, priority, message),
                Output::Deliver { subscriber, message } => {
                    if let Some(subscriber) = self.subscribers.get(&subscriber) {
                        subscriber.deliver(message);
                    }
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
