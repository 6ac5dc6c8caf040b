//! The control plane: a task around [`Core`] that does what it wants, and those who dial and accept ask.

mod clients;
mod connectors;
mod entities;
mod links;
mod listeners;
mod snapshot;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{info, warn};
use van_core::Random;
use van_core::amqp::Condition;
use van_core::plane::{
    ConnectionId, ConnectionRef, ConnectorId, PeerKind, Purpose, Report, Routes, ShardId, SubscriberId,
};
use van_core::router::{Candidate, Core, Distribution, Fact, Outgoing, Output};
use van_routing::Treatment;

use self::clients::{ClientListener, UNCONSUMED};
pub(crate) use self::entities::Change;
use self::entities::Running;
use self::snapshot::Shown;
pub(crate) use self::snapshot::Snapshot;
use crate::amqp::{Opened, link::DataConnections};
use crate::dial;
use crate::entities::{Board, ConsumerState, EntityError, LinkOctets, States};
use crate::flow::SiteInfo;
use crate::messages::{self, Messages, Subscriber};
use crate::shard::{Adopted, Message, Shards, Stats};

/// What the control plane's task is told.
enum Command {
    Admit {
        owner: Owner,
        candidate: Box<Candidate>,
        opened: Box<Opened>,
        reply: oneshot::Sender<Result<Hold, Condition>>,
    },
    CloseConnection {
        id: ConnectionId,
        why: Condition,
        reply: oneshot::Sender<Result<(), EntityError>>,
    },
    Trace {
        id: ConnectionId,
        is_traced: bool,
        reply: oneshot::Sender<Result<(), EntityError>>,
    },
    Subscribe {
        id: SubscriberId,
        address: Arc<str>,
        /// None for a name that is this router's own.
        treatment: Option<Treatment>,
        subscriber: Subscriber,
    },
    Unsubscribe {
        id: SubscriberId,
        address: Arc<str>,
    },
    Watch {
        address: Arc<str>,
    },
    Unwatch {
        address: Arc<str>,
    },
    AddConsumer {
        connector: ConnectorId,
        key: Arc<str>,
        queue: mpsc::Sender<dial::Stream>,
        is_seen: bool,
        done: oneshot::Sender<()>,
    },
    RemoveConsumer {
        connector: ConnectorId,
        key: Arc<str>,
    },
    Snapshot {
        reply: oneshot::Sender<Snapshot>,
    },
    SetDistribution {
        distribution: Box<Distribution>,
    },
    Change {
        change: Box<Change>,
        reply: oneshot::Sender<Result<(), EntityError>>,
    },
    Shutdown {
        deadline: Duration,
        done: oneshot::Sender<()>,
    },
}

/// How often a router that is stopping looks whether something still runs.
const DRAIN_GLANCE: Duration = Duration::from_millis(20);

/// How many reports that wait are dealt with before time passes, and before others hear of what they change.
const REPORTS_AT_ONCE: usize = 256;

/// How long a listener that should be open and cannot be rests before it is tried again.
const LISTEN_REST: Duration = Duration::from_secs(1);

/// Whose a connection is: a link's or a listener's, from one change of it to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner(pub(crate) u32);

/// What the owner of a connection in use knows of it.
pub(crate) struct Hold {
    pub(crate) id: ConnectionId,
    /// Tells when its control links are up.
    pub(crate) up: oneshot::Receiver<()>,
    /// Tells when it is closed, and why.
    pub(crate) closed: oneshot::Receiver<Closed>,
}

/// See [`Control::watch`].
#[derive(Debug)]
pub(crate) struct Watch {
    address: Arc<str>,
    control: Control,
}

impl Clone for Watch {
    fn clone(&self) -> Self {
        self.control.watch(&self.address)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.control.0.send(Command::Unwatch { address: Arc::clone(&self.address) });
    }
}

/// What became of a connection in use.
#[derive(Debug)]
pub(crate) enum Closed {
    /// It is lost, for this reason; without one this router closed it.
    Lost(Option<Condition>),
    /// It is still there, and a later generation has taken its link over.
    Superseded,
}

/// A handle for those who dial, accept, and change what there is.
#[derive(Debug, Clone)]
pub(crate) struct Control(mpsc::UnboundedSender<Command>);

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Admit { .. } => "Admit",
            Self::CloseConnection { .. } => "CloseConnection",
            Self::Trace { .. } => "Trace",
            Self::Subscribe { .. } => "Subscribe",
            Self::Unsubscribe { .. } => "Unsubscribe",
            Self::Watch { .. } => "Watch",
            Self::Unwatch { .. } => "Unwatch",
            Self::AddConsumer { .. } => "AddConsumer",
            Self::RemoveConsumer { .. } => "RemoveConsumer",
            Self::Snapshot { .. } => "Snapshot",
            Self::SetDistribution { .. } => "SetDistribution",
            Self::Change { .. } => "Change",
            Self::Shutdown { .. } => "Shutdown",
        })
    }
}

impl Control {
    /// Asks for a connection to be used.
    pub(crate) async fn admit(&self, owner: Owner, candidate: Candidate, opened: Opened) -> Result<Hold, Condition> {
        let (reply, answer) = oneshot::channel();
        let _ = self.0.send(Command::Admit { owner, candidate: candidate.into(), opened: opened.into(), reply });
        answer.await.unwrap_or_else(|_| Err(Condition::bare("amqp:connection:forced")))
    }

    /// Asks for a connection to be closed, which is not done to those that stand for a link.
    pub(crate) async fn close_connection(&self, id: ConnectionId, why: Condition) -> Result<(), EntityError> {
        let (reply, answer) = oneshot::channel();
        let _ = self.0.send(Command::CloseConnection { id, why, reply });
        answer.await.unwrap_or(Err(EntityError::Stopping))
    }

    /// Asks for the frames of a connection to be logged, or no more.
    pub(crate) async fn trace(&self, id: ConnectionId, is_traced: bool) -> Result<(), EntityError> {
        let (reply, answer) = oneshot::channel();
        let _ = self.0.send(Command::Trace { id, is_traced, reply });
        answer.await.unwrap_or(Err(EntityError::Stopping))
    }

    /// Makes somebody in this process a consumer of an address; without treatment, of a name that is this router's own.
    pub(crate) fn subscribe(
        &self,
        id: SubscriberId,
        address: Arc<str>,
        treatment: Option<Treatment>,
        subscriber: Subscriber,
    ) {
        let _ = self.0.send(Command::Subscribe { id, address, treatment, subscriber });
    }

    /// Takes back [`Control::subscribe`].
    pub(crate) fn unsubscribe(&self, id: SubscriberId, address: Arc<str>) {
        let _ = self.0.send(Command::Unsubscribe { id, address });
    }

    /// Asks whether somebody consumes an address, until the answer is dropped: the routes tell. An edge router hears it of no
    /// other addresses.
    pub(crate) fn watch(&self, address: &str) -> Watch {
        let watch = Watch { address: address.into(), control: self.clone() };
        let _ = self.0.send(Command::Watch { address: Arc::clone(&watch.address) });
        watch
    }

    /// Has a consumer inside the process take streams of a routing key; others are told of it if it `is_seen`. The receiver tells when it does; it is closed if
    /// the router takes no more.
    pub(crate) fn add_consumer(
        &self,
        connector: ConnectorId,
        key: Arc<str>,
        queue: mpsc::Sender<dial::Stream>,
        is_seen: bool,
    ) -> oneshot::Receiver<()> {
        let (done, is_done) = oneshot::channel();
        let _ = self.0.send(Command::AddConsumer { connector, key, queue, is_seen, done });
        is_done
    }

    /// Takes back [`Control::add_consumer`]. Streams under way are not touched.
    pub(crate) fn remove_consumer(&self, connector: ConnectorId, key: Arc<str>) {
        let _ = self.0.send(Command::RemoveConsumer { connector, key });
    }

    /// Asks for an entity to be made, changed or ended.
    pub(crate) async fn change(&self, change: Change) -> Result<(), EntityError> {
        let (reply, answer) = oneshot::channel();
        let _ = self.0.send(Command::Change { change: change.into(), reply });
        answer.await.unwrap_or(Err(EntityError::Stopping))
    }

    /// What there is at this moment besides entities. Nothing once the router has stopped.
    pub(crate) async fn snapshot(&self) -> Snapshot {
        let (reply, answer) = oneshot::channel();
        let _ = self.0.send(Command::Snapshot { reply });
        answer.await.unwrap_or_default()
    }

    /// Has messages spread over consumers otherwise.
    pub(crate) fn set_distribution(&self, distribution: Distribution) {
        let _ = self.0.send(Command::SetDistribution { distribution: distribution.into() });
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
    /// Messages of the program around the router.
    outbox: mpsc::Sender<Outgoing>,
    unsent: mpsc::Receiver<Outgoing>,
    subscribers: HashMap<SubscriberId, Subscriber>,
    published: watch::Sender<Arc<Routes>>,
    connections: HashMap<ConnectionId, InUse>,
    running: Running,
    board: Board,
    flow_ids: FlowIds,
    /// Data connections of a link that does not say how many.
    data_connections: DataConnections,
    /// Whether streams end with their tcpListener or tcpConnector.
    drops_tcp_connections: bool,
    /// The last number that was given to something.
    last_number: u32,
    /// When listeners that should be open and are not are tried again.
    retry_at: Option<Instant>,
    /// The connection that is in use of those to interior routers, at an edge router.
    uplink: Option<ConnectionId>,
    control: Control,
    /// What tells the network of this router, and how to end it.
    telling: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
    background: JoinSet<()>,
    random: Random,
}

/// A connection to another router.
struct InUse {
    owner: Owner,
    at: ConnectionRef,
    purpose: Purpose,
    /// The generation of our certificates that it was made with.
    ordinal: Option<u64>,
    /// Who wants to know when it is up, and what became of it, until told.
    riser: Option<oneshot::Sender<()>>,
    closer: Option<oneshot::Sender<Closed>>,
    /// What management shows of it.
    shown: Shown,
    /// Whether its frames are logged.
    is_traced: bool,
}

/// VanFlow identities: what they begin with, and how many were given.
pub(crate) struct FlowIds {
    source: String,
    last: u64,
}

impl FlowIds {
    /// All begin with these 5 characters.
    pub(crate) fn new(source: String) -> Self {
        Self { source, last: 0 }
    }

    /// The router's own.
    fn router(&self) -> String {
        format!("{}:0", self.source)
    }

    fn next(&mut self) -> String {
        self.last += 1;
        format!("{}:{}", self.source, self.last)
    }
}

impl Task {
    pub(crate) fn new(
        core: Core,
        shards: Arc<Shards>,
        reports: mpsc::UnboundedReceiver<(ShardId, Report)>,
        published: watch::Sender<Arc<Routes>>,
        flow_ids: FlowIds,
        random: Random,
        (data_connections, drops_tcp_connections): (DataConnections, bool),
    ) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (outbox, unsent) = mpsc::channel(messages::MAX_UNSENT);
        let board = Board::default();
        board.write(|states| states.identity = flow_ids.router());
        Self {
            core,
            shards,
            inbox,
            reports,
            outbox,
            unsent,
            subscribers: HashMap::new(),
            published,
            connections: HashMap::new(),
            running: Running::default(),
            board,
            flow_ids,
            data_connections,
            drops_tcp_connections,
            last_number: 0,
            retry_at: None,
            uplink: None,
            control: Control(commands),
            telling: None,
            background: JoinSet::new(),
            random,
        }
    }

    /// A site with an identity: one for this life of the router if it has none.
    pub(crate) fn name_site(&mut self, mut site: SiteInfo) -> SiteInfo {
        if site.id.is_empty() {
            site.id = self.flow_ids.next();
        }
        site
    }

    /// Runs something beside the router, until it stops.
    pub(crate) fn accompany(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.background.spawn(task);
    }

    /// Starts what tells the network of this router.
    pub(crate) fn speak<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        tell: impl FnOnce(oneshot::Receiver<()>) -> F,
    ) {
        let (stop, stopped) = oneshot::channel();
        self.telling = Some((stop, tokio::spawn(tell(stopped))));
    }

    pub(crate) fn messages(&self) -> Messages {
        Messages::new(self.control(), self.outbox.clone(), self.published.subscribe())
    }

    pub(crate) fn control(&self) -> Control {
        self.control.clone()
    }

    pub(crate) fn states(&self) -> watch::Receiver<Arc<States>> {
        self.board.subscribe()
    }

    fn new_number(&mut self) -> u32 {
        self.last_number += 1;
        self.last_number
    }

    fn new_owner(&mut self) -> Owner {
        Owner(self.new_number())
    }

    /// Runs until it was asked to end.
    pub(crate) async fn run(mut self) {
        self.act().await;
        let mut stopping: Option<Stopping> = None;
        while !stopping.as_ref().is_some_and(|stopping| stopping.is_over(&self.shards)) {
            let timeout = self.core.poll_timeout();
            if timeout.is_some_and(|at| at <= Instant::now()) {
                // Whoever is late, being busy or suspended, does not blame others for having been silent.
                self.handle_reports(None);
                self.core.handle_timeout(Instant::now());
                self.act().await;
            }
            tokio::select! {
                biased;
                Some(command) = self.inbox.recv() => match command {
                    Command::Subscribe { id, address, treatment, subscriber } => {
                        self.subscribers.insert(id, subscriber);
                        match treatment {
                            Some(treatment) => self.core.subscribe(Instant::now(), id, &address, treatment),
                            None => self.core.subscribe_own(id, &address),
                        }
                    }
                    Command::Unsubscribe { id, address } => {
                        self.subscribers.remove(&id);
                        self.core.unsubscribe(Instant::now(), id, &address);
                    }
                    Command::Watch { address } => drop(self.core.watch(&address)),
                    Command::Unwatch { address } => self.core.unwatch(&address),
                    Command::AddConsumer { connector, key, queue, is_seen, done } if stopping.is_none() => {
                        self.add_consumer(connector, &key, &queue, is_seen).await;
                        let _ = done.send(());
                    }
                    // A router that stops takes none; whoever asked sees `done` dropped.
                    Command::AddConsumer { .. } => {}
                    Command::RemoveConsumer { connector, key } => {
                        self.core.remove_connector(Instant::now(), connector, &key);
                        self.shards.tell_all(|| Message::ConsumerGone { connector });
                        self.board.write(|states| drop(states.consumers.remove(&connector.0)));
                    }
                    Command::Admit { owner, candidate, opened, reply } => {
                        self.admit(owner, *candidate, *opened, reply);
                    }
                    Command::CloseConnection { id, why, reply } => drop(reply.send(self.close_connection(id, why))),
                    Command::Trace { id, is_traced, reply } => drop(reply.send(self.trace(id, is_traced))),
                    Command::Snapshot { reply } => drop(reply.send(self.snapshot())),
                    Command::SetDistribution { distribution } => self.core.set_distribution(*distribution),
                    Command::Change { reply, .. } if stopping.is_some() => {
                        let _ = reply.send(Err(EntityError::Stopping));
                    }
                    Command::Change { change, reply } => {
                        let outcome = self.change(*change).await;
                        self.plan_reopening();
                        let _ = reply.send(outcome);
                    }
                    Command::Shutdown { deadline, done } => {
                        self.take_no_more().await;
                        stopping = Some(Stopping { end: Instant::now() + deadline, done });
                    }
                },
                Some(report) = self.reports.recv() => self.handle_reports(Some(report)),
                Some(outgoing) = self.unsent.recv() => self.core.send(&outgoing),
                () = sleep_until(timeout) => self.core.handle_timeout(Instant::now()),
                () = sleep_until(self.retry_at) => self.reopen(),
                Some(_) = self.background.join_next() => {}
                // The shards do not say when they become idle; they can be asked.
                () = tokio::time::sleep(DRAIN_GLANCE), if stopping.is_some() => {}
            }
            self.act().await;
        }
        self.say_farewell().await;
        self.background.abort_all();
        self.shards.stop();
        if let Some(Stopping { done, .. }) = stopping {
            let _ = done.send(());
        }
    }

    /// The network hears that all this has ended, as long as there are connections to say it.
    async fn say_farewell(&mut self) {
        if let Some((stop, told)) = self.telling.take() {
            drop(stop);
            let _ = told.await;
            while let Ok(outgoing) = self.unsent.try_recv() {
                self.core.send(&outgoing);
            }
            self.act().await;
        }
    }

    fn admit(
        &mut self,
        owner: Owner,
        candidate: Candidate,
        opened: Opened,
        reply: oneshot::Sender<Result<Hold, Condition>>,
    ) {
        let shown = Shown::new(&candidate, &opened);
        let refused = |why| Err(Condition::new("amqp:connection:forced", why));
        let admitted = if !self.running.knows(owner) {
            refused("what the connection belongs to was changed or deleted")
        } else if opened.ordinal.zip(self.running.oldest_valid(owner)).is_some_and(|(made, oldest)| made < oldest) {
            refused("the certificates that the connection was made with are not valid any more")
        } else {
            self.core.admit(Instant::now(), candidate)
        };
        match admitted {
            Ok(admitted) => {
                let Opened { socket, records, mut engine, received, opened, output, ordinal, .. } = opened;
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
                let octets = self.link_octets(owner);
                let adopted =
                    Adopted { id, purpose, is_initiator, socket, records, engine, received, opened, output, octets };
                let ((riser, up), (closer, closed)) = (oneshot::channel(), oneshot::channel());
                let at = ConnectionRef { id, shard: admitted.shard };
                // Links with addresses are there when somebody wants them: nothing else has to come up.
                let riser = match purpose {
                    Purpose::Links(_) => riser.send(()).err().and(None),
                    Purpose::Control | Purpose::Data => Some(riser),
                };
                let closer = Some(closer);
                let in_use = InUse { owner, at, purpose, ordinal, riser, closer, shown, is_traced: false };
                self.connections.insert(id, in_use);
                self.count_links(owner, purpose);
                self.shards.tell(admitted.shard, Message::Adopt(adopted.into()));
                if reply.send(Ok(Hold { id, up, closed })).is_err() {
                    let condition = Condition::new("amqp:connection:forced", "whoever asked for it has gone");
                    self.shards.carry_out(Output::Close { at, condition: Some(condition) });
                }
            }
            Err(condition) => {
                self.background.spawn(opened.refuse(condition.clone()));
                let _ = reply.send(Err(condition));
            }
        }
    }

    /// Where the octets of a link that this router dials are counted.
    fn link_octets(&self, owner: Owner) -> Option<LinkOctets> {
        let link = self.running.links.values().find(|link| link.owner == owner)?;
        self.board.subscribe().borrow().links.get(&link.entity.name).map(|state| state.octets.clone())
    }

    /// Who was told that it is done finds the consumer in the routes.
    async fn add_consumer(
        &mut self,
        connector: ConnectorId,
        key: &Arc<str>,
        queue: &mpsc::Sender<dial::Stream>,
        is_seen: bool,
    ) {
        let identity = is_seen.then(|| self.flow_ids.next());
        let shown: Option<Arc<str>> = identity.as_deref().map(Arc::from);
        self.shards.tell_all(|| Message::Consumer { connector, identity: shown.clone(), queue: queue.clone() });
        if let Some(identity) = identity {
            let state = ConsumerState { identity, key: key.to_string() };
            self.board.write(|states| drop(states.consumers.insert(connector.0, state)));
        }
        self.core.add_connector(Instant::now(), connector, key);
        self.act().await;
    }

    fn close_connection(&self, id: ConnectionId, why: Condition) -> Result<(), EntityError> {
        let Some(connection) = self.connections.get(&id) else { return Err(EntityError::NoConnection(id.0)) };
        let is_link =
            matches!(connection.purpose, Purpose::Control | Purpose::Links(PeerKind::Edge | PeerKind::Interior));
        if is_link && connection.riser.is_none() {
            return Err(EntityError::Essential(id.0));
        }
        self.shards.carry_out(Output::Close { at: connection.at, condition: Some(why) });
        Ok(())
    }

    fn trace(&mut self, id: ConnectionId, is_traced: bool) -> Result<(), EntityError> {
        let connection = self.connections.get_mut(&id).ok_or(EntityError::NoConnection(id.0))?;
        connection.is_traced = is_traced;
        self.shards.tell(connection.at.shard, Message::Trace { connection: id, is_traced });
        Ok(())
    }

    /// Closes the connections of one owner that were made with certificates of an earlier generation, without an error:
    /// their time is over.
    fn close_outdated(&self, owner: Owner, oldest_valid: u64) {
        let is_outdated = |it: &InUse| it.owner == owner && it.ordinal.is_some_and(|ordinal| ordinal < oldest_valid);
        for connection in self.connections.values().filter(|connection| is_outdated(connection)) {
            self.shards.carry_out(Output::Close { at: connection.at, condition: None });
        }
    }

    /// Closes all connections of one owner, telling the peers why.
    fn close_connections(&self, owner: Owner, why: &str) {
        for connection in self.connections.values().filter(|connection| connection.owner == owner) {
            let condition = Condition::new("amqp:connection:forced", why);
            self.shards.carry_out(Output::Close { at: connection.at, condition: Some(condition) });
        }
    }

    /// Deals with a report and with those that wait behind it.
    fn handle_reports(&mut self, first: Option<(ShardId, Report)>) {
        let waiting = std::iter::from_fn(|| self.reports.try_recv().ok());
        let reports: Vec<_> = first.into_iter().chain(waiting).take(REPORTS_AT_ONCE).collect();
        let taken: Vec<_> =
            reports.iter().filter_map(|(shard, report)| report.taken().map(|taken| (*shard, taken))).collect();
        reports.iter().for_each(|(_, report)| self.note(report));
        self.core.handle_reports(Instant::now(), reports.into_iter().map(|(_, report)| report));
        for (shard, (connection, octets)) in taken {
            self.shards.tell(shard, Message::Taken { connection, octets });
        }
    }

    /// Tells whoever waits for it.
    fn note(&mut self, report: &Report) {
        if let Report::ConnectionLost { connection, reason } = report
            && let Some(InUse { owner, purpose, closer: Some(closer), .. }) = self.connections.remove(connection)
        {
            let _ = closer.send(Closed::Lost(reason.clone()));
            self.count_links(owner, purpose);
        }
        if let Report::ControlUp(connection) = report
            && let Some(riser) = self.connections.get_mut(connection).and_then(|it| it.riser.take())
        {
            let _ = riser.send(());
        }
    }

    /// Does what the core wants.
    async fn act(&mut self) {
        let mut reachable = BTreeMap::new();
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Routes(routes) => {
                    self.shards.tell_all(|| Message::Routes(Arc::clone(&routes)));
                    self.set_uplink(routes.uplink.map(|uplink| uplink.endpoint.at.id));
                    self.published.send_replace(routes);
                }
                Output::Deliver { subscriber, message } => {
                    if let Some(subscriber) = self.subscribers.get(&subscriber) {
                        subscriber.deliver(message);
                    }
                }
                Output::Reachable { address, is_reachable } => drop(reachable.insert(address, is_reachable)),
                Output::Fact(fact) => log(&fact),
                Output::TakenOver { connection } => {
                    if let Some(in_use) = self.connections.get_mut(&connection)
                        && let Some(closer) = in_use.closer.take()
                    {
                        let _ = closer.send(Closed::Superseded);
                        let (owner, purpose) = (in_use.owner, in_use.purpose);
                        self.count_links(owner, purpose);
                    }
                }
                output => self.shards.carry_out(output),
            }
        }
        if !reachable.is_empty() {
            self.set_reachable(&reachable).await;
        }
    }

    /// Routing keys that got their first consumer, or lost their last: all at once, for a router that is lost may take a
    /// thousand with it.
    async fn set_reachable(&mut self, keys: &BTreeMap<Arc<str>, bool>) {
        let listeners = self.running.tcp_listeners.values_mut();
        let concerned: Vec<_> = listeners.filter(|listener| listener.set_reachable(keys)).collect();
        let (lost, won): (Vec<_>, Vec<_>) = concerned.into_iter().partition(|listener| listener.is_unwanted());
        ClientListener::close_all(lost.into_iter(), &self.shards, UNCONSUMED).await;
        won.into_iter().filter(|listener| listener.is_missing()).for_each(|listener| listener.open(&self.shards));
        self.plan_reopening();
    }

    /// Tries listeners again that should be open and are not.
    fn reopen(&mut self) {
        self.retry_at = None;
        for listener in self.running.tcp_listeners.values_mut().filter(|listener| listener.is_missing()) {
            listener.open(&self.shards);
        }
        self.plan_reopening();
    }

    fn plan_reopening(&mut self) {
        if self.retry_at.is_none() && self.running.tcp_listeners.values().any(ClientListener::is_missing) {
            self.retry_at = Some(Instant::now() + LISTEN_REST);
        }
    }

    /// No new clients from here, no new streams from elsewhere. The router stays in the network for what runs.
    async fn take_no_more(&mut self) {
        let mut listeners = std::mem::take(&mut self.running.tcp_listeners);
        let keys = listeners.values().flat_map(|listener| listener.destinations(|it| Some(Arc::clone(&it.key))));
        keys.for_each(|key| self.core.unwatch(&key));
        ClientListener::close_all(listeners.values_mut(), &self.shards, "the router is stopping").await;
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
        // Clients who have come, and have no direction yet, are among the streams.
        let is_idle = |stats: &Stats| stats.streams() == 0 && stats.read().directions == 0;
        Instant::now() >= self.end || shards.stats.iter().all(is_idle)
    }
}

pub(crate) async fn sleep_until(at: Option<Instant>) {
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
