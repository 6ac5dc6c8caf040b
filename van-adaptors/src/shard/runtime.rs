//! The thread of a shard: a runtime for its sockets, and one task that runs its plane.
//!
//! The task works in turns: what it was told, what became ready, what is to be written. It yields after each so that the
//! runtime looks for more that became ready.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Sleep;
use tracing::{debug, error};
use van_core::Random;
use van_core::amqp::Condition;
use van_core::plane::{Client, Io, Key, ListenerId, Plane, Report};
use van_core::router::Output;

use super::ready::{Subject, Token};
use super::world::{Received, World};
use super::{Adopted, Direction, Message, Meter, Seed, ShownLinks, Socket, Stats};
use crate::flow;
use crate::machine::heap;
use crate::tcp::{Arrival, Entrance, listener};

/// Messages handled in one turn.
const MESSAGES_PER_TURN: usize = 256;

/// Reads of one connection in one turn: 8 full records each.
const READS_PER_TURN: usize = 4;

/// Times a connection is refilled in one turn, 256 KiB each.
const REFILLS_PER_TURN: usize = 2;

/// How often it is looked for ends of streams that have gone and that nobody reads.
const FIND_GONE_EVERY: Duration = Duration::from_secs(30);

/// How long connections may take to close at the end.
const STOP_TIME: Duration = Duration::from_secs(2);

/// Octets read from a connection at once: 8 full records, behind one that is incomplete.
const RECEIVE_OCTETS: usize = 9 * (van_tls::MAX_RECORD_PAYLOAD + van_tls::RECORD_OVERHEAD);

/// Runs a shard until it is told to stop. Tells whether it could start.
pub(super) fn run(seed: Seed, started: &std::sync::mpsc::Sender<io::Result<()>>) {
    // `event_interval(1)`: sockets are looked at after every turn, however busy the task keeps itself.
    let runtime = Builder::new_current_thread().enable_all().event_interval(1).build_local(LocalOptions::default());
    match runtime {
        Ok(runtime) => {
            let _ = started.send(Ok(()));
            let inbox = seed.inboxes[usize::from(seed.shard.0)].clone();
            runtime.block_on(async move {
                tokio::task::spawn_local(async move {
                    while inbox.send(Message::FindGone).is_ok() {
                        tokio::time::sleep(FIND_GONE_EVERY).await;
                    }
                });
                tokio::task::unconstrained(Shard::new(seed)).await
            });
            // Names may still be looked up, and that nobody can end.
            runtime.shutdown_background();
        }
        Err(error) => drop(started.send(Err(error))),
    }
}

struct Shard {
    plane: Plane,
    world: World,
    inbox: mpsc::UnboundedReceiver<Message>,
    inboxes: Arc<[mpsc::UnboundedSender<Message>]>,
    stats: Arc<[Stats]>,
    number: usize,
    started: Instant,
    listeners: HashMap<ListenerId, Vec<JoinHandle<()>>>,
    timer: Pin<Box<Sleep>>,
    timer_at: Option<Instant>,
    is_stopping: bool,
    ready: Vec<Arc<Token>>,
    touched: Vec<Key>,
    /// Clients that were taken in the last turn, and are offered in this one: by now it is known whether they have spoken, and
    /// what they said goes along.
    arrived: Vec<Key>,
    buffer: Vec<u8>,
    random: Random,
    heap: heap::Watch,
    /// Streams taken in this turn that were chosen to be this shard's.
    taken: usize,
}

impl Shard {
    fn new(seed: Seed) -> Self {
        let Seed { shard, inbox, inboxes, stats, memory, reports, routes, ledger, seed } = seed;
        let mut plane = Plane::new(shard, routes, seed);
        plane.set_memory(memory);
        Self {
            plane,
            world: World::new(shard, Arc::clone(&inboxes), reports, ledger),
            inbox,
            inboxes,
            stats,
            number: usize::from(shard.0),
            started: Instant::now(),
            listeners: HashMap::new(),
            timer: Box::pin(tokio::time::sleep_until(Instant::now().into())),
            timer_at: None,
            is_stopping: false,
            ready: Vec::new(),
            touched: Vec::new(),
            arrived: Vec::new(),
            buffer: vec![0; RECEIVE_OCTETS],
            random: Random::new(!seed),
            heap: heap::Watch::default(),
            taken: 0,
        }
    }

    /// Whether the shard goes on.
    fn take_messages(&mut self, context: &mut Context<'_>, is_busy: &mut bool) -> bool {
        for _ in 0..MESSAGES_PER_TURN {
            match self.inbox.poll_recv(context) {
                Poll::Ready(Some(Message::Stop)) if !self.is_stopping => self.stop(),
                Poll::Ready(Some(Message::Stop) | None) => return false,
                Poll::Ready(Some(message)) => self.handle(message),
                Poll::Pending => return true,
            }
        }
        *is_busy = true;
        true
    }

    /// Ends everything in order; at once if that takes too long.
    fn stop(&mut self) {
        self.is_stopping = true;
        self.listeners.clear();
        self.plane.shut_down(&mut self.world, &Condition::new("amqp:connection:forced", "the router is stopping"));
        let inbox = self.inboxes[self.number].clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(STOP_TIME).await;
            let _ = inbox.send(Message::Stop);
        });
    }

    fn handle(&mut self, message: Message) {
        let (plane, world) = (&mut self.plane, &mut self.world);
        match message {
            Message::Adopt(adopted) => self.adopt(*adopted),
            Message::Routes(routes) => {
                plane.set_routes(world, Instant::now(), routes);
                self.timer_at = None;
            }
            Message::Do(output) => {
                if let Output::Message { message, .. } = &output {
                    self.stats[self.number].forwarded(message.len());
                }
                if matches!(output, Output::Supersede { .. }) {
                    self.timer_at = None;
                }
                output.carry_out(plane, world, Instant::now());
            }
            Message::ShowLinks { reply } => {
                drop(reply.send(ShownLinks { links: plane.links(), last_deliveries: plane.last_deliveries() }))
            }
            Message::Trace { connection, is_traced } => plane.set_traced(connection, is_traced),
            Message::Taken { connection, octets } => {
                if let Some(key) = plane.control_taken(connection, octets) {
                    world.wake(key);
                }
            }
            Message::Listen { listener, socket, entrance } => self.listen(listener, socket, entrance),
            Message::Unlisten { listener, closed } => self.unlisten(listener, closed),
            Message::Accepted { socket, key, entrance, arrival } => self.meet(socket, key, entrance, arrival),
            Message::Client { socket, client, meter, arrival } => self.accept(socket, client, meter, arrival),
            Message::Socket { socket, key } => match TcpStream::from_std(socket) {
                Ok(socket) => self.accept(socket.into(), key.into(), None, None),
                Err(_) => self.taken += 1,
            },
            Message::Consumer { connector, identity, queue } => {
                world.consumers.insert(connector, (identity, queue));
            }
            Message::ConsumerGone { connector } => drop(world.consumers.remove(&connector)),
            Message::Connector { connector, target } => drop(world.targets.insert(connector, target)),
            Message::ForgetConnector { connector } => drop(world.targets.remove(&connector)),
            Message::Connected { stream, outcome } if world.is_connecting(stream) => match outcome {
                Ok(socket) => {
                    world.connected(stream, socket);
                    plane.connected(world, stream);
                }
                Err(error) => {
                    debug!(%error, "a workload cannot be connected");
                    world.connect_failed(stream, &error);
                    plane.connect_failed(world, stream);
                }
            },
            Message::Connected { .. } | Message::Stop => {}
            Message::DropStreams { of } => {
                for (stream, has_socket) in world.streams_of(&of) {
                    match has_socket {
                        true => plane.drop_stream(world, stream),
                        false => plane.connect_failed(world, stream),
                    }
                }
            }
            Message::DropStream { id, reply } => {
                let stream = world.stream_of(id);
                stream.into_iter().for_each(|stream| plane.drop_stream(world, stream));
                let _ = reply.send(stream.is_some());
            }
            Message::Watch { is_watched } => world.ledger.watch(is_watched),
            Message::Harvest { is_full, reply } => drop(reply.send(world.ledger.harvest(flow::now(), is_full))),
            Message::Shares(shares) => shares.iter().for_each(|share| world.ledger.recv_share(share)),
            Message::ListStreams { reply } => drop(reply.send(world.show_streams())),
            Message::Crossing { from, crossing } => plane.crossed(world, from, crossing),
            Message::FindGone => {
                let gone = plane.half_closed().into_iter().filter(|stream| world.has_failed(*stream));
                gone.collect::<Vec<_>>().into_iter().for_each(|stream| plane.drop_stream(world, stream));
            }
            Message::Lingered => world.lingered(),
            Message::Overdue { key } => world.give_up(key),
        }
    }

    fn adopt(&mut self, adopted: Adopted) {
        let Adopted { id, purpose, is_initiator, socket, records, engine, received, opened, output, octets } = adopted;
        let socket = match TcpStream::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => {
                let reason = Some(Condition::new("van:connection-lost", error.to_string()));
                return self.world.report(Report::ConnectionLost { connection: id, reason });
            }
        };
        // The key comes from the plane, and the plane sends at once: so the socket comes in between.
        let key = self.plane.add_connection(id, purpose, is_initiator, engine);
        self.world.add_connection(key, socket, records, (received, output), octets);
        self.plane.received(&mut self.world, key, &[&opened]);
        self.timer_at = None;
    }

    /// Takes a client that was accepted, or shakes hands with it first.
    fn meet(&mut self, socket: std::net::TcpStream, key: Arc<str>, entrance: Arc<Entrance>, arrival: Arrival) {
        let Ok(socket) = TcpStream::from_std(socket) else {
            self.taken += 1;
            return;
        };
        let meter = Meter::new(entrance.traffic.clone(), Arc::clone(&key), Direction::In);
        if entrance.tls.is_none() {
            return self.accept(socket.into(), key.into(), Some(meter), Some(arrival));
        }
        let (inbox, stats, number) = (self.inboxes[self.number].clone(), Arc::clone(&self.stats), self.number);
        tokio::task::spawn_local(async move {
            let Some(tls) = &entrance.tls else { return };
            let outcome = Entrance::secure(tls, socket).await;
            entrance.traffic.record(&outcome);
            match outcome {
                Ok(stream) => {
                    let client = Client { key, alpn: stream.protocol().map(Arc::from), flow: None };
                    let (socket, meter, arrival) = (stream.into(), Some(meter), Some(arrival));
                    let _ = inbox.send(Message::Client { socket, client, meter, arrival });
                }
                Err(error) => {
                    stats[number].give_up();
                    debug!(listener = %entrance.name, %error, "a client cannot be met");
                }
            }
        });
    }

    fn accept(&mut self, socket: Socket, mut client: Client, meter: Option<Meter>, arrival: Option<Arrival>) {
        self.taken += 1;
        // Its listener, and all its streams, may have gone while it shook hands.
        if meter.as_ref().is_some_and(|meter| meter.traffic().is_over()) {
            return socket.reset();
        }
        let flow = arrival.map(|Arrival { listener, observer, peer }| {
            self.world.ledger.accepted(flow::now(), &listener, peer, observer.protocol())
        });
        client.flow = flow.and_then(|flow| self.world.ledger.identity(flow)).cloned();
        let stream = self.plane.add_client(client);
        self.world.add_stream(stream, socket, meter, flow);
        self.arrived.push(stream);
    }

    fn offer_arrived(&mut self) {
        for stream in self.arrived.drain(..) {
            self.plane.offer(&mut self.world, stream);
        }
    }

    fn listen(&mut self, id: ListenerId, socket: std::net::TcpListener, entrance: watch::Receiver<Arc<Entrance>>) {
        #[expect(deprecated, reason = "unsound for descriptors that may change; that of std's TcpListener does not")]
        let registered = AsyncFd::with_interest(socket, Interest::READABLE);
        match registered {
            Ok(socket) => {
                let (inboxes, stats) = (Arc::clone(&self.inboxes), Arc::clone(&self.stats));
                let random = Random::new(self.random.next_u64());
                let task = listener::serve(socket, entrance, inboxes, stats, self.number, random);
                self.listeners.entry(id).or_default().push(tokio::task::spawn_local(task));
            }
            Err(error) => error!(listener = entrance.borrow().name, %error, "cannot listen"),
        }
    }

    fn unlisten(&mut self, id: ListenerId, closed: oneshot::Sender<()>) {
        let tasks = self.listeners.remove(&id).unwrap_or_default();
        tasks.iter().for_each(JoinHandle::abort);
        tokio::task::spawn_local(async move {
            for task in tasks {
                // Once it is over, its socket is closed.
                let _ = task.await;
            }
            let _ = closed.send(());
        });
    }

    fn serve_ready(&mut self) {
        let mut ready = std::mem::take(&mut self.ready);
        self.world.ready.take(&mut ready);
        for token in ready.drain(..) {
            match token.serve() {
                Subject::Connection(key) => self.serve_connection(key, &token),
                Subject::Stream(key) if self.world.is_broken(key) => self.plane.drop_stream(&mut self.world, key),
                Subject::Stream(key) => {
                    self.world.flush(key);
                    self.plane.readable(&mut self.world, key);
                    self.plane.drained(&mut self.world, key);
                }
            }
        }
        self.ready = ready;
    }

    fn serve_connection(&mut self, key: Key, token: &Arc<Token>) {
        if self.world.write_out(key) {
            self.plane.writable(&mut self.world, key);
        }
        let mut opened = Vec::new();
        for _ in 0..READS_PER_TURN {
            if self.plane.is_choked(key) {
                return;
            }
            match self.world.receive(key, &mut self.buffer, &mut opened) {
                Received::Opened => {
                    let pieces: Vec<&[u8]> = opened.iter().map(|place| &self.buffer[place.clone()]).collect();
                    self.plane.received(&mut self.world, key, &pieces);
                }
                Received::Blocked => return,
                Received::Over(reason) => {
                    let reason = Condition::new("van:connection-lost", reason);
                    return self.plane.disconnected(&mut self.world, key, reason);
                }
            }
        }
        // There may be more, but others have their turn first.
        std::task::Wake::wake_by_ref(token);
    }

    /// Writes what was sent, and lets the plane fill what has become free.
    fn write_out(&mut self) {
        for _ in 0..REFILLS_PER_TURN {
            let mut touched = std::mem::take(&mut self.touched);
            self.world.take_touched(&mut touched);
            if touched.is_empty() {
                self.touched = touched;
                return;
            }
            for key in touched.drain(..) {
                if self.world.write_out(key) {
                    self.plane.writable(&mut self.world, key);
                }
            }
            self.touched = touched;
        }
    }

    fn watch_clock(&mut self, context: &mut Context<'_>) {
        loop {
            let Some(at) = self.timer_at.or_else(|| self.plane.poll_timeout()) else { return };
            if self.timer_at != Some(at) {
                self.timer_at = Some(at);
                self.timer.as_mut().reset(at.into());
            }
            if self.timer.as_mut().poll(context).is_pending() {
                return;
            }
            self.plane.handle_timeout(&mut self.world, Instant::now());
            self.timer_at = None;
        }
    }
}

impl Future for Shard {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.world.now = Instant::now();
        this.plane.set_time(this.world.now.saturating_duration_since(this.started));
        this.world.ready.set_server(context.waker());
        let mut is_busy = false;
        this.offer_arrived();
        if !this.take_messages(context, &mut is_busy) {
            return Poll::Ready(());
        }
        this.serve_ready();
        if this.plane.is_interrupted() {
            this.plane.resume(&mut this.world);
            is_busy = true;
        }
        this.watch_clock(context);
        this.write_out();
        is_busy |= this.world.has_touched() || !this.arrived.is_empty();
        this.plane.set_outside(this.world.waiting());
        this.stats[this.number].publish(&this.plane.counters(), std::mem::take(&mut this.taken));
        this.stats[this.number].publish_flows(&this.world.ledger);
        if this.heap.is_due(this.plane.streams()) {
            heap::give_back();
        }
        if this.is_stopping && this.world.is_disconnected() {
            return Poll::Ready(());
        }
        if is_busy {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
