//! The data plane of one shard: connections to other routers, the streams of its clients and workloads, and the directions
//! of traffic between them. No sockets, no clock: it asks an [`Io`] to read and write, and is called when things happen.
//!
//! Every entry point does all there is to do and then sends what became ready; nothing waits inside.
//!
//! * `connection` the links of a connection to another router, `pool` those that carry one delivery at a time · `attachment`
//!   one direction of traffic · `stream` a socket's two directions
//! * `inbound` what arrives · `way` where it goes · `forward` going there · `outbound` what leaves, and when · `ending`
//!   reports, outcomes and ends · `flux` who waits while ways change
//! * `endpoint` links with addresses · `crossing` between shards · `routes` the picture of the network
//! * `scheduler`, `pace`, `window`, `memory`, `parked` who may send how much · `round` how long a path is
//! * `tally` what is counted of deliveries · `shown` what people are shown

mod attachment;
mod connection;
mod crossing;
mod ending;
mod endpoint;
mod flux;
mod forward;
mod inbound;
mod io;
mod memory;
mod outbound;
mod pace;
mod parked;
mod pool;
mod round;
mod routes;
mod scheduler;
mod shown;
mod stream;
mod tally;
mod way;
mod window;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hashbrown::HashMap as FastMap;

use self::attachment::{Attachment, Inlet, Outlet};
pub use self::attachment::{Ending, Lane};
pub(crate) use self::connection::MAX_CONTROL_BYTES;
pub use self::connection::Purpose;
use self::connection::{CONTROL_DELIVERY, Class, Connection, MAX_UNTAKEN_BYTES};
pub use self::crossing::{Crossing, Destination};
pub use self::endpoint::{LinkAnswer, LinkRequest, WantedLink};
use self::flux::Flux;
pub use self::io::{ClientFlow, Io, Read, Report, Write};
pub use self::memory::Memory;
use self::memory::Share;
pub use self::routes::{
    Addresses, ConnectionId, ConnectionRef, ConnectorId, Consumers, Edge, EndpointId, LinkConsumer, ListenerId, Load,
    NextHop, PeerKind, Routes, ShardId, SubscriberId, Uplink,
};
pub use self::shown::{ShownKind, ShownLink};
pub use self::stream::{Client, MAX_SHARDS, ReplyName};
use self::stream::{Side, Stream};
use self::tally::End;
pub use self::tally::{Passages, Passed, Tally};
use crate::amqp::{self, Condition, DeliveryState, Event, LinkId};
use crate::random::Random;
pub use crate::slab::Key;
use crate::slab::Slab;

/// Octets read from a workload's socket at once: 64 KiB is where the cost per octet is lowest.
const READ_OCTETS: usize = 65_536;

/// Octets of a message that goes through the control plane: for several places, or for a subscriber.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// How long a connection of an earlier generation stays open at least: the peer may start streams on it until it has read
/// that its control links are detached.
pub const SUPERSEDED_GRACE: Duration = Duration::from_secs(2);

/// The data plane of one shard.
#[derive(Debug)]
pub struct Plane {
    shard: ShardId,
    routes: Arc<Routes>,
    connections: Slab<Connection>,
    by_id: FastMap<ConnectionId, Key, foldhash::fast::RandomState>,
    attachments: Slab<Attachment>,
    streams: Slab<Stream>,
    /// Links that names were made for: connection, link, and what their names say besides.
    temporaries: Slab<(Key, Key, u32)>,
    /// Second halves of directions whose first half is in another shard.
    second_halves: FastMap<(ShardId, Key), Key, foldhash::fast::RandomState>,
    /// Connections with something to send.
    dirty: Vec<Key>,
    /// Directions between two sockets that used up their turn.
    again: Vec<Key>,
    buffer: Vec<u8>,
    random: Random,
    /// Counts choices between equals.
    turn: usize,
    /// Since some moment: good enough for what people are shown.
    now: Duration,
    memory: Share,
    flux: Flux,
    /// Octets that wait around the plane.
    outside: usize,
    counters: Counters,
}

/// What a shard has done since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Streams whose socket is at this shard, now.
    pub streams: u64,
    /// Directions of traffic through this shard, now: two per stream that ends here, two per stream that passes.
    pub directions: u64,
    /// Streams since the start, as listener.
    pub accepted: u64,
    /// Streams since the start, as connector.
    pub connected: u64,
    /// Streams that found no consumer, or whose workload refused.
    pub refused: u64,
    /// Octets read from clients and workloads.
    pub octets_in: u64,
    /// Octets written to clients and workloads.
    pub octets_out: u64,
    /// Octets passed on from one router to another.
    pub octets_transit: u64,
    /// Octets handed to another shard.
    pub octets_crossed: u64,
    /// Copies of messages that a congested peer did not get.
    pub copies_dropped: u64,
    /// Deliveries, streams among them, by the way they took.
    pub passed: Passed,
    /// What has become of those that came in.
    pub ends: Tally,
}

impl Plane {
    /// A shard without connections. `seed` makes the names it gives.
    pub fn new(shard: ShardId, routes: Arc<Routes>, seed: u64) -> Self {
        Self {
            shard,
            routes,
            connections: Slab::default(),
            by_id: FastMap::default(),
            attachments: Slab::default(),
            streams: Slab::default(),
            temporaries: Slab::default(),
            second_halves: FastMap::default(),
            dirty: Vec::new(),
            again: Vec::new(),
            buffer: vec![0; READ_OCTETS],
            random: Random::new(seed),
            turn: 0,
            now: Duration::ZERO,
            memory: Share::of(Arc::default()),
            flux: Flux::default(),
            outside: 0,
            counters: Counters::default(),
        }
    }

    /// Has the shard keep to a budget that it shares with others; to be called before there are connections.
    pub fn set_memory(&mut self, memory: Arc<Memory>) {
        self.memory = Share::of(memory);
    }

    // === connections ===

    /// Takes over a connection whose opens were exchanged. The end that dialled attaches the links of a control connection.
    ///
    /// What there is to send leaves with the next [`Plane::received`], once the caller has the key.
    pub fn add_connection(
        &mut self,
        id: ConnectionId,
        purpose: Purpose,
        is_initiator: bool,
        engine: amqp::Connection,
    ) -> Key {
        let mut connection = Connection::new(id, purpose, engine);
        if is_initiator && purpose == Purpose::Control {
            connection.attach_all(&mut self.random);
        }
        let key = self.connections.insert(connection);
        self.by_id.insert(id, key);
        self.touch(key);
        key
    }

    /// Has every frame of a connection logged from now on, or no more.
    pub fn set_traced(&mut self, id: ConnectionId, is_traced: bool) {
        if let Some(connection) = self.by_id.get(&id).and_then(|key| self.connections.get_mut(*key)) {
            connection.engine.set_traced(is_traced);
        }
    }

    /// Octets came on a connection, as pieces that are alive together.
    pub fn received(&mut self, io: &mut impl Io, key: Key, pieces: &[&[u8]]) {
        let mut batch = Batch::default();
        for piece in pieces {
            let mut input = *piece;
            loop {
                let Some(connection) = self.connections.get_mut(key) else { return self.flush(io) };
                match connection.engine.next(&mut input) {
                    Ok(Some(Event::Payload { token, octets, .. })) => {
                        if batch.token != Some(token) {
                            self.recv_batch(io, key, &mut batch);
                            batch.token = Some(token);
                        }
                        batch.pieces.push(octets);
                    }
                    Ok(Some(event)) => {
                        self.recv_batch(io, key, &mut batch);
                        self.recv_event(io, key, event);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        self.recv_batch(io, key, &mut batch);
                        let reason = error
                            .condition()
                            .unwrap_or_else(|| Condition::new("amqp:internal-error", error.to_string()));
                        self.lose_connection(io, key, Some(reason));
                        return self.flush(io);
                    }
                }
            }
        }
        self.recv_batch(io, key, &mut batch);
        self.touch(key);
        self.flush(io);
    }

    fn recv_event(&mut self, io: &mut impl Io, key: Key, event: Event<'_>) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        match event {
            Event::Attached { link, token, attach, is_answer } => {
                match connection.purpose {
                    Purpose::Links(_) if !is_answer => self.recv_link(io, key, link, attach),
                    Purpose::Links(_) => {
                        if let Some(Class::Endpoint(endpoint)) = Class::of(token) {
                            self.recv_link_answer(io, key, endpoint, &attach);
                        }
                    }
                    _ if !is_answer => connection.answer(link, &attach),
                    _ => {}
                }
                self.check_control(io, key);
            }
            Event::Detached { link, token, was_used, condition } => {
                connection.forget_tally(link);
                match Class::of(token) {
                    Some(Class::Endpoint(endpoint)) => self.end_link(io, key, (link, was_used), endpoint, condition),
                    _ => self.recv_detached(io, key, (link, was_used), condition),
                }
            }
            Event::Credit { link, token, drain } if matches!(Class::of(token), Some(Class::Endpoint(_))) => {
                let Some(Class::Endpoint(endpoint)) = Class::of(token) else { return };
                connection.note_credit(link, self.now);
                self.recv_credit(io, key, endpoint, drain);
            }
            Event::Credit { link, token, drain } => {
                if drain {
                    connection.engine.drained(link);
                }
                connection.note_credit(link, self.now);
                match Class::of(token) {
                    Some(Class::Stream) => {
                        let lane = connection.feed(link);
                        self.serve(io, key, lane);
                    }
                    Some(Class::Priority(priority)) => self.serve(io, key, Lane::Priority(priority)),
                    Some(Class::Control | Class::Endpoint(_)) | None => self.check_control(io, key),
                }
            }
            Event::Window { channel } => {
                connection.recv_received(channel, self.now);
                connection.unblock(channel);
                connection.attach_for_line(&mut self.random);
                self.serve(io, key, Lane::LongMessage);
            }
            Event::Delivery { link, token, delivery, settled, goes_on, .. } => {
                let needs_credit = goes_on && !connection.engine.is_peer_alike();
                self.recv_delivery(key, link, token, delivery, settled);
                if needs_credit {
                    self.give_ahead(key, link);
                }
            }
            Event::Complete { token, delivery, .. } if token == CONTROL_DELIVERY => {
                let message = Bytes::from(std::mem::take(&mut connection.control_inbox));
                connection.engine.dispose(delivery, Some(DeliveryState::Accepted), true);
                connection.untaken += message.len();
                io.report(Report::Control { connection: connection.id, message });
            }
            Event::Aborted { token, .. } if token == CONTROL_DELIVERY => connection.control_inbox.clear(),
            Event::Complete { token, settled, .. } => {
                let attachment = Key::from_bits(token.0);
                self.inlet_ended(io, attachment, Ending::Complete, settled);
            }
            Event::Aborted { token, .. } => self.inlet_ended(io, Key::from_bits(token.0), Ending::Aborted, true),
            Event::Disposition { delivery, token, state, settled } => {
                let attachment = Key::from_bits(token.0);
                if delivery.is_outgoing() {
                    self.recv_state(io, attachment, state, settled);
                } else if settled {
                    self.inlet_settled(io, attachment);
                }
            }
            Event::Closed(condition) => {
                let reason = condition.unwrap_or_else(|| Condition::bare("closed by the peer"));
                self.lose_connection(io, key, Some(reason));
            }
            Event::Authenticate(_) | Event::Opened(_) | Event::Payload { .. } => {}
        }
    }

    /// The control links may just have come up.
    fn check_control(&mut self, io: &mut impl Io, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.take_control_up()
        {
            io.report(Report::ControlUp(connection.id));
        }
    }

    fn recv_detached(
        &mut self,
        io: &mut impl Io,
        key: Key,
        (link, was_used): (LinkId, bool),
        condition: Option<Condition>,
    ) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.forget(link) {
            let reason = condition.unwrap_or_else(|| Condition::bare("control link detached by the peer"));
            return io.report(Report::ControlDown { connection: connection.id, reason });
        }
        if was_used {
            self.links_lost(io, key, link);
        }
        self.thin_out(io, key);
    }

    /// Room has come back on a connection.
    pub fn writable(&mut self, io: &mut impl Io, key: Key) {
        self.touch(key);
        self.flush(io);
    }

    /// The connection's socket is gone, or the peer closed it without a word.
    pub fn disconnected(&mut self, io: &mut impl Io, key: Key, reason: Condition) {
        self.lose_connection(io, key, Some(reason));
        self.flush(io);
    }

    /// Closes a connection in order, telling the peer why.
    pub fn close_connection(&mut self, io: &mut impl Io, id: ConnectionId, condition: Option<Condition>) {
        let Some(&key) = self.by_id.get(&id) else { return };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.engine.close(condition.clone());
        }
        self.lose_connection(io, key, condition);
        self.flush(io);
    }

    /// Closes a connection whose peer has gone too far.
    fn fail_connection(&mut self, io: &mut impl Io, key: Key, reason: Condition) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.engine.close(Some(reason.clone()));
        }
        self.lose_connection(io, key, Some(reason));
    }

    /// The control plane has dealt with what counts for this many octets: [`Report::taken`]. The connection, if it may be read
    /// again now.
    pub fn control_taken(&mut self, id: ConnectionId, octets: usize) -> Option<Key> {
        let key = *self.by_id.get(&id)?;
        let connection = self.connections.get_mut(key)?;
        let was_choked = connection.untaken > MAX_UNTAKEN_BYTES;
        connection.untaken -= octets;
        (was_choked && connection.untaken <= MAX_UNTAKEN_BYTES).then_some(key)
    }

    /// Whether a peer says more than the control plane can take: its connection is not to be read for now.
    pub fn is_choked(&self, key: Key) -> bool {
        self.connections.get(key).is_some_and(|connection| connection.untaken > MAX_UNTAKEN_BYTES)
    }

    /// Ends everything that runs over a connection.
    fn lose_connection(&mut self, io: &mut impl Io, key: Key, reason: Option<Condition>) {
        self.tell_trace(io, key);
        let Some(mut connection) = self.connections.remove(key) else { return };
        self.by_id.remove(&connection.id);
        if !connection.engine.output().is_empty() {
            io.send(key, &[connection.engine.output()]);
            connection.engine.clear_output();
        }
        io.close_connection(key);
        io.report(Report::ConnectionLost { connection: connection.id, reason });
        let at = ConnectionRef { id: connection.id, shard: self.shard };
        for (endpoint, ended) in connection.endpoints.iter() {
            if let endpoint::Service::Temporary(name) = ended.service {
                self.temporaries.remove(name.stream);
            }
            io.report(Report::LinkLost { endpoint: EndpointId { at, key: endpoint }, reason: None });
        }
        for attachment in self.attachments.keys() {
            let Some((is_inlet, is_outlet)) = self.attachments.get(attachment).map(|it| it.uses(key)) else { continue };
            if is_outlet {
                self.outlet_lost(io, attachment);
            }
            if is_inlet {
                self.inlet_ended(io, attachment, Ending::Aborted, true);
            }
        }
    }

    /// Ends everything: streams are reset, connections closed in order.
    pub fn shut_down(&mut self, io: &mut impl Io, condition: &Condition) {
        for stream in self.streams.keys() {
            self.break_stream(io, stream);
        }
        let connections: Vec<_> = self.by_id.keys().copied().collect();
        for id in connections {
            self.close_connection(io, id, Some(condition.clone()));
        }
    }

    /// Closes a connection as soon as nothing runs over it.
    pub fn retire(&mut self, io: &mut impl Io, id: ConnectionId) {
        let key = self.by_id.get(&id).copied();
        if let Some(connection) = key.and_then(|key| self.connections.get_mut(key)) {
            connection.is_retired = true;
        }
        self.close_retired(io);
        self.flush(io);
    }

    /// A later generation of a connection's link has taken its place: detaches its control links, and closes it once
    /// nothing runs over it and the peer has had [`SUPERSEDED_GRACE`] to notice.
    pub fn supersede(&mut self, io: &mut impl Io, now: Instant, id: ConnectionId) {
        let Some(&key) = self.by_id.get(&id) else { return };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.detach_control();
            connection.retires_at = Some(now + SUPERSEDED_GRACE);
        }
        self.touch(key);
        self.flush(io);
    }

    fn close_retired(&mut self, io: &mut impl Io) {
        let retired: Vec<_> =
            self.connections.iter().filter(|(_, it)| it.is_retired).map(|(key, it)| (key, it.id)).collect();
        for (key, id) in retired {
            let is_used = |attachment: &Attachment| attachment.uses(key) != (false, false);
            if !self.attachments.iter().any(|(_, attachment)| is_used(attachment)) {
                self.close_connection(io, id, None);
            }
        }
    }

    // === what the control plane wants ===

    /// Takes a new picture of the network. Deliveries under way keep to their way.
    pub fn set_routes(&mut self, io: &mut impl Io, now: Instant, routes: Arc<Routes>) {
        let old = std::mem::replace(&mut self.routes, routes);
        self.grant_waiting(io);
        if self.flux.routes_changed(now, &old, &self.routes) {
            self.retry_waiting(io);
            self.flush(io);
        }
    }

    /// Sends a message of the router protocol on a connection's control link.
    pub fn send_control(&mut self, io: &mut impl Io, id: ConnectionId, message: Bytes) {
        let Some(&key) = self.by_id.get(&id) else { return };
        if let Some(connection) = self.connections.get_mut(key) {
            connection.queue_control(message);
        }
        self.touch(key);
        self.flush(io);
    }

    /// Sends a whole message of this process: its sections without router annotations, and the address it is for if it does
    /// not say itself. Settled; dropped where too much waits already.
    pub fn send_message(&mut self, io: &mut impl Io, to: Option<Arc<str>>, message: &[u8]) {
        self.take_in(io, to, message);
        self.flush(io);
    }

    // === sockets ===

    /// A client of a routing key has connected. [`Plane::offer`] follows, once the caller has the key.
    pub fn add_client(&mut self, client: Client) -> Key {
        self.counters.accepted += 1;
        self.counters.streams += 1;
        let salt = self.random.next_u64() as u32 & ReplyName::SALT;
        self.streams.insert(Stream::new(Side::Client { client, salt }))
    }

    /// Looks for a consumer for a new client.
    pub fn offer(&mut self, io: &mut impl Io, stream: Key) {
        self.offer_client_stream(io, stream);
        self.flush(io);
    }

    /// A workload that [`Io::connect`] asked for has answered.
    pub fn connected(&mut self, io: &mut impl Io, stream: Key) {
        self.counters.connected += 1;
        self.workload_connected(io, stream);
        self.flush(io);
    }

    /// A workload that [`Io::connect`] asked for cannot be reached: another consumer is tried.
    pub fn connect_failed(&mut self, io: &mut impl Io, stream: Key) {
        self.workload_refused(io, stream);
        self.flush(io);
    }

    /// A stream's socket can be read, after [`Read::Blocked`].
    pub fn readable(&mut self, io: &mut impl Io, stream: Key) {
        if let Some(up) = self.streams.get(stream).and_then(|stream| stream.up) {
            self.advance(io, up);
        }
        self.flush(io);
    }

    /// A stream's socket can be written, after [`Write::Blocked`].
    pub fn drained(&mut self, io: &mut impl Io, stream: Key) {
        if let Some(down) = self.streams.get(stream).and_then(|stream| stream.down) {
            self.advance(io, down);
        }
        self.flush(io);
    }

    /// Breaks a stream off: the other end sees an error.
    pub fn drop_stream(&mut self, io: &mut impl Io, stream: Key) {
        self.break_stream(io, stream);
        self.flush(io);
    }

    /// Says what time it is, since some moment, for what is shown to people: without it, time stands still there.
    pub fn set_time(&mut self, now: Duration) {
        self.now = now;
    }

    /// Says how many octets wait to be written to other routers, for they count as well.
    pub fn set_outside(&mut self, octets: usize) {
        self.memory.change(std::mem::replace(&mut self.outside, octets), octets);
    }

    /// Whether [`Plane::resume`] has something to do.
    pub fn is_interrupted(&self) -> bool {
        !self.again.is_empty()
    }

    /// Goes on with what was interrupted to let others have their turn.
    pub fn resume(&mut self, io: &mut impl Io) {
        for key in std::mem::take(&mut self.again) {
            self.advance(io, key);
        }
        self.flush(io);
    }

    // === other shards ===

    /// Another shard of this router says something.
    pub fn crossed(&mut self, io: &mut impl Io, from: ShardId, message: Crossing) {
        self.recv_crossing(io, from, message);
        self.flush(io);
    }

    // === time ===

    /// When [`Plane::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due =
            |connection: &Connection| connection.engine.poll_timeout().into_iter().chain(connection.retires_at).min();
        let of_connections = self.connections.iter().filter_map(|(_, connection)| due(connection)).min();
        of_connections.into_iter().chain(self.flux.poll_timeout()).min()
    }

    /// Lets time pass: signs of life, and the end of silent peers.
    pub fn handle_timeout(&mut self, io: &mut impl Io, now: Instant) {
        for key in self.connections.keys() {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.is_retired |= connection.retires_at.take_if(|at| *at <= now).is_some();
            if let Err(error) = connection.engine.handle_timeout(now) {
                self.lose_connection(io, key, error.condition());
            } else {
                self.touch(key);
            }
        }
        self.close_retired(io);
        self.flux_timeout(io, now);
        self.flush(io);
    }

    // === what is so ===

    /// What the shard has done.
    pub fn counters(&self) -> Counters {
        Counters { directions: self.attachments.len() as u64, ..self.counters }
    }

    /// Streams whose socket is at this shard.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Those of which the client or the workload says nothing more, and may yet be told something: nobody reads their sockets.
    /// Not those whose last words are still on their way: whoever has said everything may be gone.
    pub fn half_closed(&self) -> Vec<Key> {
        let speaker = |attachment: &Attachment| match attachment.inlet {
            Inlet::Socket(stream) => Some(stream),
            _ => None,
        };
        let heard: HashSet<_> = self.attachments.iter().filter_map(|(_, attachment)| speaker(attachment)).collect();
        let streams = self.streams.iter().filter(|(key, stream)| stream.is_read_done && !heard.contains(key));
        streams.map(|(key, _)| key).collect()
    }

    /// Connections to other routers.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Octets that wait in all directions, and that were promised to senders or wait, for tests.
    pub fn waiting(&self) -> (usize, usize) {
        let waiting = |attachment: &Attachment| (attachment.parked.len(), attachment.charged);
        let all = self.attachments.iter().map(|(_, attachment)| waiting(attachment));
        all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// Directions of traffic, connections, halves, and what they took of memory, for tests that nothing is left behind.
    pub fn is_idle(&self) -> bool {
        let is_empty = self.attachments.is_empty() && self.streams.is_empty() && self.second_halves.is_empty();
        let is_held = self.connections.iter().any(|(_, connection)| connection.is_holding());
        is_empty && !is_held && self.memory.is_unused_but(self.outside)
    }

    // === below ===

    fn touch(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && !std::mem::replace(&mut connection.is_dirty, true)
        {
            self.dirty.push(key);
        }
    }

    /// Brings up to date what a direction counts for in memory.
    fn charge(&mut self, key: Key) {
        if let Some(attachment) = self.attachments.get_mut(key) {
            let now = attachment.memory();
            self.memory.change(std::mem::replace(&mut attachment.charged, now), now);
        }
    }

    /// Forgets a stream.
    fn remove_stream(&mut self, key: Key) -> Option<Stream> {
        self.take_promise(key);
        let stream = self.streams.remove(key)?;
        self.counters.streams -= 1;
        Some(stream)
    }

    /// The window that a stream's other end was promised, which counts no more.
    fn take_promise(&mut self, key: Key) -> Option<u32> {
        let first = self.streams.get_mut(key)?.promised.take()?;
        self.memory.change(first as usize, 0);
        self.memory.count_stream(false);
        Some(first)
    }

    fn stream_mut(&mut self, stream: Key) -> &mut Stream {
        self.streams.get_mut(stream).expect("inserted by the caller")
    }

    /// The attachments that use a link, and whether as inlet.
    fn attachments_on(&self, key: Key, link: LinkId) -> Vec<(Key, bool)> {
        let on = |attachment: &Attachment| match (attachment.inlet, attachment.outlet) {
            (Inlet::Delivery { connection, link: of, .. }, _)
                if (connection, of) == (key, link) && attachment.ended.is_none() =>
            {
                Some(true)
            }
            // A router may be done with a link of its own before all on it is settled; whoever attached a link with an
            // address settles nothing after it.
            (_, Outlet::Link { connection, link: of, lane, .. }) if (connection, of) == (key, link) => {
                let is_over = match lane {
                    Lane::Endpoint(_) => attachment.is_outlet_settled,
                    Lane::Stream | Lane::LongMessage | Lane::Priority(_) => attachment.is_outlet_done,
                };
                (!is_over).then_some(false)
            }
            _ => None,
        };
        self.attachments.iter().filter_map(|(attachment, it)| Some((attachment, on(it)?))).collect()
    }
}

impl Counters {
    /// Counts a delivery that came in and is over.
    fn count_end(&mut self, end: End<'_>, took: Option<Duration>) {
        self.ends.count(end, took);
    }
}

/// Consecutive payload of one delivery.
#[derive(Debug, Default)]
struct Batch<'a> {
    token: Option<amqp::Token>,
    pieces: Vec<&'a [u8]>,
}
