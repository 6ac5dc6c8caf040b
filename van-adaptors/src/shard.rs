//! Shards: the threads of the data plane. Each owns its connections and streams, and runs one [`Plane`](van_core::plane::Plane).

mod meter;
mod ready;
mod runtime;
mod socket;
mod stats;
mod world;

use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use van_core::amqp;
use van_core::flow::{Harvest, Ledger, Record};
use van_core::plane::{
    Client, ConnectionId, ConnectorId, Crossing, Key, ListenerId, Memory, Purpose, Report, Routes, ShardId, ShownLink,
};
use van_core::router::Output;
use van_tls::{OutBuf, RecordLayer};

pub(crate) use self::meter::Meter;
pub use self::meter::{Direction, TcpConnection};
pub(crate) use self::socket::Socket;
pub(crate) use self::stats::Stats;
use crate::dial;
use crate::entities::{LinkOctets, Traffic};
use crate::machine::heap;
use crate::tcp::{Arrival, Entrance, Target};

/// What a shard is told. Unbounded, and bounded all the same: by the windows of streams for what crosses, by the number of
/// peers, clients and entities for the rest.
#[derive(Debug)]
pub(crate) enum Message {
    /// A connection to another router, its opens exchanged.
    Adopt(Box<Adopted>),
    /// A new picture of the network.
    Routes(Arc<Routes>),
    /// Something that the control core wants of this shard.
    Do(Output),
    /// What are the links here, and how long ago did a delivery begin on each connection?
    ShowLinks { reply: oneshot::Sender<ShownLinks> },
    /// The frames of a connection are to be logged, or no more.
    Trace { connection: ConnectionId, is_traced: bool },
    /// The control plane has dealt with a message of this many octets.
    Taken { connection: ConnectionId, octets: usize },
    /// Clients are to be accepted here.
    Listen { listener: ListenerId, socket: TcpListener, entrance: watch::Receiver<Arc<Entrance>> },
    /// No more of them. Told when its sockets are closed here.
    Unlisten { listener: ListenerId, closed: oneshot::Sender<()> },
    /// A client of a routing key that some shard accepted.
    Accepted { socket: TcpStream, key: Arc<str>, entrance: Arc<Entrance>, arrival: Arrival },
    /// A client that has shaken hands, or one inside the process, which has no meter.
    Client { socket: Socket, client: Client, meter: Option<Meter>, arrival: Option<Arrival> },
    /// A client of a routing key whose socket nobody accepted, and of which nobody is told.
    Socket { socket: TcpStream, key: Arc<str> },
    /// A consumer inside the process that streams may be offered to; without identity, nobody is told of its streams.
    Consumer { connector: ConnectorId, identity: Option<Arc<str>>, queue: mpsc::Sender<dial::Stream> },
    /// It takes no more.
    ConsumerGone { connector: ConnectorId },
    /// A workload that streams may be connected to.
    Connector { connector: ConnectorId, target: Arc<Target> },
    /// No streams are connected to it any more.
    ForgetConnector { connector: ConnectorId },
    /// A workload's answer to a connect of this shard.
    Connected { stream: Key, outcome: std::io::Result<Socket> },
    /// The streams of an entity are to end.
    DropStreams { of: Traffic },
    /// A stream is to end. Whether there is one of that number.
    DropStream { id: u64, reply: oneshot::Sender<bool> },
    /// Whether anybody in the network wants to hear of connections.
    Watch { is_watched: bool },
    /// What there is to tell of connections is wanted; with `is_full` all of it.
    Harvest { is_full: bool, reply: mpsc::UnboundedSender<Harvest> },
    /// What others know of connections of this shard.
    Shares(Vec<Record>),
    /// Somebody wants to see the streams of all entities.
    ListStreams { reply: oneshot::Sender<Vec<TcpConnection>> },
    /// From another shard.
    Crossing { from: ShardId, crossing: Crossing },
    /// A socket of a closed connection is closed too.
    Lingered,
    /// A connection has had long enough to say its last words.
    Overdue { key: Key },
    /// It is time to look for streams whose client or workload has gone unnoticed.
    FindGone,
    /// The thread is to end: in order, or at once when it is told again.
    Stop,
}

/// A connection to another router as it is handed to its shard.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(crate) id: ConnectionId,
    pub(crate) purpose: Purpose,
    pub(crate) is_initiator: bool,
    pub(crate) socket: TcpStream,
    pub(crate) records: Box<dyn RecordLayer>,
    pub(crate) engine: amqp::Connection,
    /// Octets received and not opened.
    pub(crate) received: Vec<u8>,
    /// Octets opened and not yet read by the engine.
    pub(crate) opened: Vec<u8>,
    /// Octets sealed and not yet written.
    pub(crate) output: OutBuf,
    /// Where octets of its link are counted, if this router dialled it.
    pub(crate) octets: Option<LinkOctets>,
}

/// The AMQP links of shards.
#[derive(Debug, Default)]
pub(crate) struct ShownLinks {
    pub(crate) links: Vec<ShownLink>,
    /// How long ago a delivery began on each connection on which one ever has.
    pub(crate) last_deliveries: Vec<(ConnectionId, Duration)>,
}

/// All shards of a router.
#[derive(Debug)]
pub(crate) struct Shards {
    pub(crate) inboxes: Arc<[mpsc::UnboundedSender<Message>]>,
    pub(crate) stats: Arc<[Stats]>,
    pub(crate) memory: Arc<Memory>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a shard thread starts with.
struct Seed {
    shard: ShardId,
    inbox: mpsc::UnboundedReceiver<Message>,
    inboxes: Arc<[mpsc::UnboundedSender<Message>]>,
    stats: Arc<[Stats]>,
    memory: Arc<Memory>,
    reports: mpsc::UnboundedSender<(ShardId, Report)>,
    routes: Arc<Routes>,
    ledger: Ledger,
    seed: u64,
}

impl Shards {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system gives no more threads or descriptors. Those that were started have ended then.
    pub(crate) fn start(
        (count, flow_id): (u16, &str),
        memory: Memory,
        routes: &Arc<Routes>,
        reports: &mpsc::UnboundedSender<(ShardId, Report)>,
        seed: u64,
    ) -> std::io::Result<Self> {
        heap::keep_some();
        let (started, outcomes) = std::sync::mpsc::channel();
        let (inboxes, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let inboxes: Arc<[_]> = inboxes.into();
        let memory = Arc::new(memory);
        let stats: Arc<[_]> = (0..count).map(|_| Stats::default()).collect();
        let spawn = |(number, inbox): (usize, mpsc::UnboundedReceiver<Message>)| {
            let shard = ShardId(number as u16);
            let (inboxes, stats, memory) = (Arc::clone(&inboxes), Arc::clone(&stats), Arc::clone(&memory));
            let (reports, routes) = (reports.clone(), Arc::clone(routes));
            let (ledger, seed) = (Ledger::new(flow_id, shard.0), seed.wrapping_add(number as u64));
            let seed = Seed { shard, inbox, inboxes, stats, memory, reports, routes, ledger, seed };
            let started = started.clone();
            std::thread::Builder::new().name(format!("van-shard-{number}")).spawn(move || runtime::run(seed, &started))
        };
        let shards = Self {
            inboxes: Arc::clone(&inboxes),
            stats: Arc::clone(&stats),
            memory: Arc::clone(&memory),
            threads: Mutex::default(),
        };
        for receiver in receivers.into_iter().enumerate() {
            let thread = spawn(receiver)?;
            shards.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        drop(started);
        for _ in 0..count {
            outcomes.recv().map_err(std::io::Error::other)??;
        }
        Ok(shards)
    }

    /// Tells one shard. A shard that has ended is not missed: it ends only with the router.
    pub(crate) fn tell(&self, shard: ShardId, message: Message) {
        if let Some(inbox) = self.inboxes.get(usize::from(shard.0)) {
            let _ = inbox.send(message);
        }
    }

    /// Has a shard do what the control core wants of it; messages of this process only if it does not lag behind.
    pub(crate) fn carry_out(&self, output: Output) {
        let Some(shard) = output.shard() else { return };
        let is_lagging = |octets| !self.stats.get(usize::from(shard.0)).is_some_and(|stats| stats.forward(octets));
        if !matches!(&output, Output::Message { message, .. } if is_lagging(message.len())) {
            self.tell(shard, Message::Do(output));
        }
    }

    /// All links of all shards.
    pub(crate) async fn links(&self) -> ShownLinks {
        let ask = |shard: usize| {
            let (reply, answer) = oneshot::channel();
            self.tell(ShardId(shard as u16), Message::ShowLinks { reply });
            answer
        };
        let asked: Vec<_> = (0..self.inboxes.len()).map(ask).collect();
        let mut all = ShownLinks::default();
        for answer in asked {
            let ShownLinks { links, last_deliveries } = answer.await.unwrap_or_default();
            all.links.extend(links);
            all.last_deliveries.extend(last_deliveries);
        }
        all
    }

    /// Tells all shards.
    pub(crate) fn tell_all(&self, message: impl Fn() -> Message) {
        for shard in 0..self.inboxes.len() {
            self.tell(ShardId(shard as u16), message());
        }
    }

    /// Ends a stream; false if there is none of that number.
    pub(crate) async fn drop_stream(&self, id: u64) -> bool {
        let Some(shard) = meter::shard_of(id) else { return false };
        let (reply, answer) = oneshot::channel();
        self.tell(shard, Message::DropStream { id, reply });
        answer.await.unwrap_or(false)
    }

    /// The streams of all entities, as they are now.
    pub(crate) async fn list_streams(&self) -> Vec<TcpConnection> {
        let ask = |shard| {
            let (reply, answer) = oneshot::channel();
            self.tell(ShardId(shard as u16), Message::ListStreams { reply });
            answer
        };
        let answers: Vec<_> = (0..self.inboxes.len()).map(ask).collect();
        let mut all = Vec::new();
        for answer in answers {
            all.extend(answer.await.unwrap_or_default());
        }
        all
    }

    /// Resets all streams, closes all connections in order, ends the threads and waits for them.
    pub(crate) fn stop(&self) {
        self.tell_all(|| Message::Stop);
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.stop();
    }
}
