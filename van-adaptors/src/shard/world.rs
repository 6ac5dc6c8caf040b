//! The sockets of a shard, as its plane sees them.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use van_core::flow::Ledger;
use van_core::plane::{ClientFlow, ConnectionId, ConnectorId, Crossing, Io, Key, Read, Report, ShardId, Write};
use van_tls::{OutBuf, RecordLayer};

use super::ready::{ReadyList, Subject, Token};
use super::{Direction, Message, Meter, Socket, TcpConnection, meter};
use crate::entities::{LinkOctets, Traffic};
use crate::tcp::{self, Target};
use crate::{dial, flow, protocol};

/// Sealed octets that may wait in user space for a connection's socket.
const OUT_OCTETS: usize = 262_144;

/// What is shorter is gathered and sealed together with what comes next, up to one record.
const GATHER_OCTETS: usize = 4_096;

/// Records written with one system call.
const SLICES: usize = 64;

/// Sealed octets that wait before a connection is read no more: a peer that does not read gets no answers to remember.
const STALL_OCTETS: usize = 1_048_576;

/// How long what was written last, and the farewell of TLS, may take to leave a connection that is closed.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(30);

/// The sockets of a shard.
pub(super) struct World {
    shard: ShardId,
    pub(super) ready: Arc<ReadyList>,
    inboxes: Arc<[mpsc::UnboundedSender<Message>]>,
    reports: mpsc::UnboundedSender<(ShardId, Report)>,
    pub(super) targets: HashMap<ConnectorId, Arc<Target>>,
    /// Consumers inside the process.
    pub(super) consumers: HashMap<ConnectorId, (Option<Arc<str>>, mpsc::Sender<dial::Stream>)>,
    connections: Places<Connection>,
    streams: Places<Stream>,
    /// Connections with octets to write.
    touched: Vec<Key>,
    /// Octets that wait to be written to connections, as of their last turn.
    waiting: usize,
    /// Sockets of closed connections whose peers have not ended yet.
    lingering: usize,
    /// When this turn began: near enough to the present for what is shown to people.
    pub(super) now: Instant,
    /// Streams that had a meter so far.
    metered: u64,
    /// What VanFlow tells of streams.
    pub(super) ledger: Ledger,
}

struct Connection {
    key: Key,
    socket: TcpStream,
    waker: Waker,
    records: Box<dyn RecordLayer>,
    /// The start of a record whose rest has not come.
    received: Vec<u8>,
    /// Octets to be sealed with what comes next.
    gathered: Vec<u8>,
    output: OutBuf,
    is_touched: bool,
    /// The plane would have sent more.
    was_full: Cell<bool>,
    /// It goes once everything is written.
    is_closing: bool,
    is_broken: bool,
    /// Where its octets are counted for its link, and those sent that are not counted yet.
    octets: Option<LinkOctets>,
    sent: u64,
    /// Octets of it that count as waiting.
    waiting: usize,
}

struct Stream {
    key: Key,
    /// Absent while the workload is being connected.
    socket: Option<Socket>,
    /// Absent inside the process.
    meter: Option<Meter>,
    waker: Waker,
    /// It in the ledger.
    flow: Option<Key>,
    /// Its client was answered, or its workload connected.
    is_established: bool,
}

/// What came of reading a connection.
pub(super) enum Received {
    /// Octets, opened, at these places in the buffer; there may be more.
    Opened,
    /// None now.
    Blocked,
    /// The connection is over, for this reason.
    Over(String),
}

impl World {
    pub(super) fn new(
        shard: ShardId,
        inboxes: Arc<[mpsc::UnboundedSender<Message>]>,
        reports: mpsc::UnboundedSender<(ShardId, Report)>,
        ledger: Ledger,
    ) -> Self {
        Self {
            shard,
            ready: Arc::default(),
            inboxes,
            reports,
            targets: HashMap::new(),
            consumers: HashMap::new(),
            connections: Vec::new(),
            streams: Vec::new(),
            touched: Vec::new(),
            waiting: 0,
            lingering: 0,
            now: Instant::now(),
            metered: 0,
            ledger,
        }
    }

    // === connections ===

    /// Gives a connection its socket. What the plane sends before waits for this.
    pub(super) fn add_connection(
        &mut self,
        key: Key,
        socket: TcpStream,
        records: Box<dyn RecordLayer>,
        (received, output): (Vec<u8>, OutBuf),
        octets: Option<LinkOctets>,
    ) {
        let waker = Waker::from(Token::new(Subject::Connection(key), &self.ready));
        waker.wake_by_ref();
        let connection = Connection {
            key,
            socket,
            waker,
            records,
            received,
            gathered: Vec::new(),
            output,
            is_touched: false,
            was_full: Cell::new(false),
            is_closing: false,
            is_broken: false,
            octets,
            sent: 0,
            waiting: 0,
        };
        put(&mut self.connections, key, connection);
    }

    /// Has a connection served again.
    pub(super) fn wake(&mut self, key: Key) {
        if let Some(connection) = get(&mut self.connections, key, |it| it.key) {
            connection.waker.wake_by_ref();
        }
    }

    /// Reads a connection once and opens what is whole. `buffer` holds the octets, `opened` the places of plaintext.
    pub(super) fn receive(&mut self, key: Key, buffer: &mut [u8], opened: &mut Vec<Range<usize>>) -> Received {
        opened.clear();
        let Some(connection) = get(&mut self.connections, key, |it| it.key) else { return Received::Blocked };
        if connection.is_closing || connection.output.remaining() > STALL_OCTETS {
            return Received::Blocked;
        }
        let kept = connection.received.len();
        buffer[..kept].copy_from_slice(&connection.received);
        let mut space = ReadBuf::new(&mut buffer[kept..]);
        let mut context = Context::from_waker(&connection.waker);
        let count = match Pin::new(&mut connection.socket).poll_read(&mut context, &mut space) {
            Poll::Ready(Ok(())) => space.filled().len(),
            Poll::Ready(Err(error)) => return Received::Over(error.to_string()),
            Poll::Pending => return Received::Blocked,
        };
        if count == 0 {
            let reason = connection.records.handle_eof().err().map(|error| error.to_string());
            return Received::Over(reason.unwrap_or_else(|| "closed by the peer".to_owned()));
        }
        let filled = kept + count;
        match connection.records.open(&mut buffer[..filled], opened) {
            Ok(progress) => {
                if let Some(octets) = &connection.octets {
                    octets.received.add(opened.iter().map(|piece| piece.len() as u64).sum());
                }
                connection.received.clear();
                connection.received.extend_from_slice(&buffer[progress.consumed..filled]);
                Received::Opened
            }
            Err(error) => {
                connection.records.close(&mut connection.output);
                Received::Over(error.to_string())
            }
        }
    }

    /// Connections that have octets to write, in exchange for an empty list.
    pub(super) fn take_touched(&mut self, empty: &mut Vec<Key>) {
        std::mem::swap(&mut self.touched, empty);
    }

    /// Octets that wait to be written to connections.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether some connection has octets to write.
    pub(super) fn has_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Writes what a connection has to write. Whether the plane should be asked for more.
    pub(super) fn write_out(&mut self, key: Key) -> bool {
        let Some(connection) = get(&mut self.connections, key, |it| it.key) else { return false };
        connection.is_touched = false;
        connection.seal_gathered();
        if let Some(octets) = &connection.octets {
            octets.sent.add(std::mem::take(&mut connection.sent));
        }
        let is_writing = connection.write();
        let before = std::mem::replace(&mut connection.waiting, connection.output.remaining());
        self.waiting = self.waiting + connection.waiting - before;
        if connection.is_closing && (connection.is_broken || !connection.output.has_remaining()) {
            self.linger(key);
            return false;
        }
        is_writing && connection.was_full.take()
    }

    /// Closes a connection's socket when the peer has heard why.
    fn linger(&mut self, key: Key) {
        let Some(Connection { socket, waiting, .. }) = remove(&mut self.connections, key, |it| it.key) else { return };
        self.waiting -= waiting;
        let inbox = self.inboxes[usize::from(self.shard.0)].clone();
        self.lingering += 1;
        tokio::task::spawn_local(async move {
            tcp::linger(socket).await;
            let _ = inbox.send(Message::Lingered);
        });
    }

    /// Closes a connection that is closing and has not got rid of its last words.
    pub(super) fn give_up(&mut self, key: Key) {
        if get(&mut self.connections, key, |it| it.key).is_some_and(|connection| connection.is_closing) {
            self.linger(key);
        }
    }

    /// A socket that lingered is closed.
    pub(super) fn lingered(&mut self) {
        self.lingering -= 1;
    }

    /// Whether all connections are closed, their sockets too.
    pub(super) fn is_disconnected(&self) -> bool {
        self.lingering == 0 && self.connections.iter().all(Option::is_none)
    }

    // === streams ===

    /// Takes a client's stream.
    pub(super) fn add_stream(&mut self, key: Key, socket: Socket, meter: Option<Meter>, flow: Option<Key>) {
        let waker = self.waker(Subject::Stream(key));
        put(&mut self.streams, key, Stream { key, socket: None, meter, waker, flow, is_established: false });
        self.give_socket(key, socket);
    }

    /// Gives a stream its socket.
    fn give_socket(&mut self, key: Key, mut socket: Socket) {
        let Some(stream) = get(&mut self.streams, key, |it| it.key) else { return };
        if let Some(meter) = &mut stream.meter {
            self.metered += 1;
            meter.open(meter::number(self.shard, self.metered), self.now, self.shard);
        }
        // A client is not read before it is answered, but may go away.
        if socket.is_broken(&Context::from_waker(&stream.waker)) {
            stream.waker.wake_by_ref();
        }
        stream.socket = Some(socket);
    }

    /// Gives a workload's stream its socket.
    pub(super) fn connected(&mut self, key: Key, socket: Socket) {
        let Some(stream) = get(&mut self.streams, key, |it| it.key) else { return };
        stream.is_established = true;
        if let (Some(flow), Some(from)) = (stream.flow, socket.local_address()) {
            self.ledger.connected(flow, from);
        }
        self.give_socket(key, socket);
    }

    /// A workload's stream gets none.
    pub(super) fn connect_failed(&mut self, key: Key, error: &io::Error) {
        if let Some(flow) = get(&mut self.streams, key, |it| it.key).and_then(|stream| stream.flow) {
            self.ledger.failed(flow, &describe("connect-failed", error));
        }
    }

    /// Whether the other end of a stream's socket, which nobody reads any more, has gone.
    pub(super) fn has_failed(&self, key: Key) -> bool {
        let stream =
            self.streams.get(key.index() as usize).and_then(Option::as_deref).filter(|stream| stream.key == key);
        stream.and_then(|stream| stream.socket.as_ref()).is_some_and(Socket::has_failed)
    }

    /// Gets rid of what waits in a stream's socket.
    pub(super) fn flush(&mut self, key: Key) {
        if let Some(Stream { socket: Some(socket), waker, .. }) = get(&mut self.streams, key, |it| it.key) {
            // What goes wrong, reading and writing will tell.
            let _ = socket.poll_flush(&mut Context::from_waker(waker));
        }
    }

    /// The streams of an entity, and whether they have a socket.
    pub(super) fn streams_of(&self, entity: &Traffic) -> Vec<(Key, bool)> {
        let is_of = |stream: &&Stream| stream.meter.as_ref().is_some_and(|meter| meter.traffic().is(entity));
        let streams = self.streams.iter().filter_map(Option::as_deref).filter(is_of);
        streams.map(|stream| (stream.key, stream.socket.is_some())).collect()
    }

    /// The streams of all entities, as management shows them.
    pub(super) fn show_streams(&self) -> Vec<TcpConnection> {
        let show = |stream: &Stream| stream.meter.as_ref()?.show(self.now, stream.socket.as_ref()?);
        self.streams.iter().filter_map(Option::as_deref).filter_map(show).collect()
    }

    /// The stream of a number.
    pub(super) fn stream_of(&self, number: u64) -> Option<Key> {
        let is_it = |stream: &&Stream| stream.meter.as_ref().and_then(Meter::number) == Some(number);
        self.streams.iter().filter_map(Option::as_deref).find(is_it).map(|stream| stream.key)
    }

    /// Whether a stream's socket is known to be broken.
    pub(super) fn is_broken(&mut self, key: Key) -> bool {
        let Some(Stream { socket: Some(socket), waker, .. }) = get(&mut self.streams, key, |it| it.key) else {
            return false;
        };
        socket.is_broken(&Context::from_waker(waker))
    }

    /// Whether a connect that has come to an end is still wanted.
    pub(super) fn is_connecting(&mut self, key: Key) -> bool {
        get(&mut self.streams, key, |it| it.key).is_some_and(|stream| stream.socket.is_none())
    }

    fn waker(&self, subject: Subject) -> Waker {
        Waker::from(Token::new(subject, &self.ready))
    }
}

impl Connection {
    fn seal(&mut self, parts: &[&[u8]]) {
        if self.records.seal(parts, &mut self.output).is_err() {
            self.is_broken = true;
        }
    }

    fn seal_gathered(&mut self) {
        if !self.gathered.is_empty() {
            let gathered = std::mem::take(&mut self.gathered);
            self.seal(&[&gathered]);
            self.gathered = gathered;
            self.gathered.clear();
        }
    }

    /// Whether the socket took everything.
    fn write(&mut self) -> bool {
        while self.output.has_remaining() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = self.output.chunks_vectored(&mut slices);
            let mut context = Context::from_waker(&self.waker);
            match Pin::new(&mut self.socket).poll_write_vectored(&mut context, &slices[..filled]) {
                Poll::Ready(Ok(count)) => self.output.advance(count),
                // Reading will tell why.
                Poll::Ready(Err(_)) => {
                    self.is_broken = true;
                    return false;
                }
                Poll::Pending => return self.output.remaining() < OUT_OCTETS,
            }
        }
        true
    }
}

impl Io for World {
    fn room(&self, key: Key) -> usize {
        let Some(connection) = self.connections.get(key.index() as usize).and_then(Option::as_ref) else { return 0 };
        let waiting = connection.output.remaining() + connection.gathered.len();
        let room = OUT_OCTETS.saturating_sub(waiting);
        if room == 0 {
            connection.was_full.set(true);
        }
        room
    }

    fn send(&mut self, key: Key, parts: &[&[u8]]) {
        let Some(connection) = get(&mut self.connections, key, |it| it.key) else { return };
        let length: usize = parts.iter().map(|part| part.len()).sum();
        connection.sent += length as u64;
        if length >= GATHER_OCTETS {
            connection.seal_gathered();
            connection.seal(parts);
        } else {
            parts.iter().for_each(|part| connection.gathered.extend_from_slice(part));
            if connection.gathered.len() >= van_tls::MAX_RECORD_PAYLOAD - GATHER_OCTETS {
                connection.seal_gathered();
            }
        }
        if !std::mem::replace(&mut connection.is_touched, true) {
            self.touched.push(key);
        }
    }

    fn close_connection(&mut self, key: Key) {
        let Some(connection) = get(&mut self.connections, key, |it| it.key) else { return };
        connection.seal_gathered();
        connection.records.close(&mut connection.output);
        connection.is_closing = true;
        if !std::mem::replace(&mut connection.is_touched, true) {
            self.touched.push(key);
        }
        // A peer that does not read would keep it for ever.
        let inbox = self.inboxes[usize::from(self.shard.0)].clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(FAREWELL_TIMEOUT).await;
            let _ = inbox.send(Message::Overdue { key });
        });
    }

    fn read(&mut self, key: Key, buffer: &mut [u8]) -> Read {
        let stream = get(&mut self.streams, key, |it| it.key);
        let Some(Stream { socket: Some(socket), meter, waker, flow, .. }) = stream else { return Read::Blocked };
        let mut space = ReadBuf::new(buffer);
        match socket.poll_read(&mut Context::from_waker(waker), &mut space) {
            Poll::Ready(Ok(())) if space.filled().is_empty() => Read::End,
            Poll::Ready(Ok(())) => {
                let count = space.filled().len();
                if let Some(meter) = meter {
                    meter.read(self.now, count);
                }
                flow.iter().for_each(|flow| self.ledger.read(*flow, flow::now, space.filled()));
                Read::Octets(count)
            }
            Poll::Ready(Err(error)) => {
                flow.iter().for_each(|flow| self.ledger.failed(*flow, &describe("read-failed", &error)));
                if let Some(meter) = meter {
                    meter.failed(error);
                }
                Read::Failed
            }
            Poll::Pending => Read::Blocked,
        }
    }

    fn write(&mut self, key: Key, parts: &[IoSlice<'_>]) -> Write {
        let stream = get(&mut self.streams, key, |it| it.key);
        let Some(Stream { socket: Some(socket), meter, waker, flow, .. }) = stream else { return Write::Blocked };
        // Before: a workload on this core may have answered when the system comes back.
        flow.iter().for_each(|flow| self.ledger.writing(*flow, flow::now));
        match socket.poll_write(&mut Context::from_waker(waker), parts) {
            Poll::Ready(Ok(0)) => Write::Failed,
            Poll::Ready(Ok(count)) => {
                if let Some(meter) = meter {
                    meter.written(self.now, count);
                }
                let written = || parts.iter().map(|part| &**part);
                flow.iter().for_each(|flow| self.ledger.written(*flow, flow::now, written(), count));
                Write::Octets(count)
            }
            Poll::Ready(Err(error)) => {
                flow.iter().for_each(|flow| self.ledger.failed(*flow, &describe("write-failed", &error)));
                Write::Failed
            }
            Poll::Pending => Write::Blocked,
        }
    }

    fn shut_down(&mut self, key: Key) {
        if let Some(Stream { socket: Some(socket), waker, .. }) = get(&mut self.streams, key, |it| it.key) {
            socket.shut_down(&mut Context::from_waker(waker));
        }
    }

    fn close(&mut self, key: Key, reset: bool) {
        let Some(Stream { socket, flow, is_established, .. }) = remove(&mut self.streams, key, |it| it.key) else {
            return;
        };
        if let Some(flow) = flow {
            // If it has gone wrong here, that has been said.
            match is_established {
                true if reset => self.ledger.failed(flow, "delivery-failed (the other end broke off)"),
                false if socket.is_some() => self.ledger.failed(flow, "released (no workload took the connection)"),
                _ => {}
            }
            self.ledger.closed(flow, flow::now());
        }
        let Some(mut socket) = socket else { return };
        if reset {
            return socket.reset();
        }
        if socket.poll_flush(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::task::spawn_local(async move {
                let leaving = std::future::poll_fn(|context| socket.poll_flush(context));
                let _ = tokio::time::timeout(FAREWELL_TIMEOUT, leaving).await;
            });
        }
    }

    fn connect(&mut self, key: Key, connector: ConnectorId, alpn: Option<&str>, flow: Option<ClientFlow>) {
        let waker = self.waker(Subject::Stream(key));
        let inbox = self.inboxes[usize::from(self.shard.0)].clone();
        let target = self.targets.get(&connector).cloned();
        let consumer = self.consumers.get(&connector);
        let identity =
            target.as_ref().map(|target| &target.identity).or(consumer.and_then(|(identity, _)| identity.as_ref()));
        let flow = flow.zip(identity);
        let flow = flow.and_then(|(flow, connector)| self.ledger.connecting(&flow.identity, &flow.trace, connector));
        let meter = target.as_ref().map(|it| Meter::new(it.traffic.clone(), Arc::clone(&it.key), Direction::Out));
        put(&mut self.streams, key, Stream { key, socket: None, meter, waker, flow, is_established: false });
        if let Some((_, queue)) = consumer {
            let outcome = dial::offer(queue).map(Socket::from);
            return drop(inbox.send(Message::Connected { stream: key, outcome }));
        }
        let alpn = alpn.map(str::to_owned);
        tokio::task::spawn_local(async move {
            let outcome = match target {
                Some(target) => {
                    let outcome = target.connect(alpn.as_deref()).await;
                    target.traffic.record(&outcome);
                    outcome
                }
                None => Err(io::ErrorKind::NotFound.into()),
            };
            let _ = inbox.send(Message::Connected { stream: key, outcome });
        });
    }

    fn established(&mut self, key: Key) {
        if let Some(Stream { socket: Some(socket), is_established, .. }) = get(&mut self.streams, key, |it| it.key) {
            *is_established = true;
            socket.established();
        }
    }

    fn post(&mut self, shard: ShardId, crossing: Crossing) {
        if let Some(inbox) = self.inboxes.get(usize::from(shard.0)) {
            let _ = inbox.send(Message::Crossing { from: self.shard, crossing });
        }
    }

    fn trace(&mut self, connection: ConnectionId, line: &str) {
        protocol::log(connection, line);
    }

    fn report(&mut self, report: Report) {
        let _ = self.reports.send((self.shard, report));
    }
}

/// An error as VanFlow has them.
fn describe(condition: &str, error: &io::Error) -> String {
    format!("{condition} ({error})")
}

/// Values by the index of a key; a stale key finds nothing. Boxed, for there are many empty places when many have gone.
type Places<T> = Vec<Option<Box<T>>>;

fn get<T>(places: &mut [Option<Box<T>>], key: Key, key_of: impl Fn(&T) -> Key) -> Option<&mut T> {
    places.get_mut(key.index() as usize)?.as_deref_mut().filter(|it| key_of(it) == key)
}

fn put<T>(places: &mut Places<T>, key: Key, value: T) {
    let index = key.index() as usize;
    if places.len() <= index {
        places.resize_with(index + 1, || None);
    }
    places[index] = Some(value.into());
}

fn remove<T>(places: &mut [Option<Box<T>>], key: Key, key_of: impl Fn(&T) -> Key) -> Option<T> {
    get(places, key, key_of)?;
    places[key.index() as usize].take().map(|it| *it)
}
