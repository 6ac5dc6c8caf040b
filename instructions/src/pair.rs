//! Two routers, their data planes joined in memory: a listener's end and a connector's. What is around them does next to
//! nothing: sockets only count octets, and what one plane sends the other is given at once.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use van_core::amqp::{Admission, Condition, Connection, Event, Login, Mechanism};
use van_core::plane::{
    ClientFlow, ConnectionId, ConnectorId, Crossing, Io, Key, Plane, Purpose, Read, Report, ShardId, Write,
};
use van_core::router::{Announcement, Candidate, Core, Dialled, Distribution, Identity, Origin, open_config};
use van_routing::{RouterId, Timing};

/// The routing key.
const KEY: &str = "backend";

/// Time that passes while the routers get to know each other.
const STEP: Duration = Duration::from_millis(100);

/// The routers.
pub(crate) struct Pair {
    near: Router,
    far: Router,
    spare: Vec<u8>,
}

struct Router {
    core: Core,
    plane: Plane,
    world: World,
    connections: Vec<Key>,
}

/// A stream, both its ends.
#[derive(Clone, Copy)]
pub(crate) struct Stream {
    client: Key,
    workload: Key,
}

#[derive(Default)]
struct World {
    is_full: bool,
    /// By connection: what was sent and has not come to the other router.
    said: Vec<Vec<u8>>,
    /// By stream.
    sockets: Vec<Socket>,
    /// Workloads that are to be connected.
    connecting: Vec<Key>,
    /// The last one that was.
    workload: Option<Key>,
    reports: Vec<Report>,
    octets_written: u64,
}

#[derive(Default, Clone, Copy)]
struct Socket {
    /// Octets to be read, and whether the end follows.
    readable: usize,
    has_ended: bool,
}

impl Pair {
    /// Two routers that know each other, and a connector at the far one.
    pub(crate) fn new() -> Self {
        let mut now = Instant::now();
        let [near, far] = ["near", "far"].map(|id| Router::new(id, now));
        let mut pair = Self { near, far, spare: Vec::new() };
        pair.far.core.add_connector(now, ConnectorId(1), &Arc::from(KEY));
        for purpose in [Purpose::Control, Purpose::Data] {
            pair.join(now, purpose);
        }
        for _ in 0..200 {
            now += STEP;
            for router in [&mut pair.near, &mut pair.far] {
                router.core.handle_timeout(now);
                router.act(now);
            }
            while pair.carry() || pair.near.decide(now) || pair.far.decide(now) {}
        }
        assert!(pair.near.core.routes().is_reachable(KEY), "the routers get to know each other");
        pair
    }

    fn join(&mut self, now: Instant, purpose: Purpose) {
        let dialled = Dialled { correlator: "pair".into(), ordinal: Some(1), purpose };
        let mut near =
            Connection::connect(open_config("near", Some("far"), 1, Some(&dialled)), vec![Login::Anonymous], now);
        let admission = Admission { mechanisms: vec![Mechanism::Anonymous], sasl_optional: false };
        let mut far = Connection::accept(open_config("far", None, 1, None), admission, now);
        let (mut near_learnt, mut far_learnt) = (None, None);
        for _ in 0..10 {
            far_learnt = far_learnt.or(feed(&mut near, &mut far));
            near_learnt = near_learnt.or(feed(&mut far, &mut near));
        }
        let (near_learnt, far_learnt) = (near_learnt.expect("an open"), far_learnt.expect("an open"));
        self.near.adopt(now, near, Candidate::new(near_learnt, Origin::Dialled(dialled), 1), true);
        self.far.adopt(now, far, Candidate::new(far_learnt, Origin::Accepted, 1), false);
        for router in [&mut self.near, &mut self.far] {
            let key = *router.connections.last().expect("adopted above");
            router.plane.received(&mut router.world, key, &[]);
        }
    }

    /// Brings everything where it goes, and connects workloads, until nothing moves. Whether anything did.
    pub(crate) fn carry(&mut self) -> bool {
        let mut has_moved = false;
        loop {
            let is_moving = pass(&mut self.near, &mut self.far, &mut self.spare)
                | pass(&mut self.far, &mut self.near, &mut self.spare)
                | self.far.connect();
            if !is_moving {
                return has_moved;
            }
            has_moved = true;
        }
    }

    /// Connects a client to the workload, that has so much to say at once.
    pub(crate) fn connect(&mut self, octets: usize) -> Stream {
        let Router { plane, world, .. } = &mut self.near;
        let client = plane.add_client(KEY.into());
        world.open(client);
        world.socket(client).readable = octets;
        plane.offer(world, client);
        self.carry();
        Stream { client, workload: self.far.world.workload.take().expect("the workload is connected") }
    }

    /// Lets a client say so much. Its router is not told.
    pub(crate) fn say(&mut self, stream: Stream, octets: usize) {
        self.near.world.socket(stream.client).readable += octets;
    }

    /// Tells the near router that there is something to read.
    pub(crate) fn announce(&mut self, stream: Stream) {
        self.near.plane.readable(&mut self.near.world, stream.client);
    }

    /// Lets a client send so much, all the way.
    pub(crate) fn send(&mut self, stream: Stream, octets: usize) {
        self.say(stream, octets);
        self.announce(stream);
        self.carry();
    }

    /// The near router cannot send, for now.
    pub(crate) fn fill(&mut self) {
        self.near.world.is_full = true;
    }

    /// It can again, and does.
    pub(crate) fn drain(&mut self) {
        let Router { plane, world, connections, .. } = &mut self.near;
        world.is_full = false;
        for connection in connections {
            plane.writable(world, *connection);
        }
    }

    /// A connection from its beginning to its end, with so many octets each way.
    pub(crate) fn converse(&mut self, octets: usize) {
        let stream = self.connect(octets);
        self.answer(stream, Socket { readable: octets, has_ended: false });
        self.near.world.socket(stream.client).has_ended = true;
        self.announce(stream);
        self.carry();
        self.answer(stream, Socket { readable: 0, has_ended: true });
    }

    fn answer(&mut self, stream: Stream, socket: Socket) {
        let Router { plane, world, .. } = &mut self.far;
        *world.socket(stream.workload) = socket;
        plane.readable(world, stream.workload);
        self.carry();
    }

    /// Octets that clients and workloads were given.
    pub(crate) fn octets_arrived(&self) -> u64 {
        self.near.world.octets_written + self.far.world.octets_written
    }

    /// Whether nothing is left of any stream.
    pub(crate) fn is_idle(&self) -> bool {
        self.near.plane.is_idle() && self.far.plane.is_idle()
    }
}

impl Router {
    fn new(id: &str, now: Instant) -> Self {
        let identity = Identity { id: RouterId::new(id).expect("an id"), instance: 1, shards: 1, mesh: None };
        let core = Core::new(identity, Timing::default(), Distribution::default(), now);
        let plane = Plane::new(ShardId(0), Arc::clone(core.routes()), 1);
        Self { core, plane, world: World::default(), connections: Vec::new() }
    }

    fn adopt(&mut self, now: Instant, engine: Connection, candidate: Candidate, is_initiator: bool) {
        let admitted = self.core.admit(now, candidate).expect("a router");
        let key = self.plane.add_connection(admitted.id, admitted.purpose, is_initiator, engine);
        self.connections.push(key);
        self.world.said.push(Vec::new());
        self.act(now);
    }

    fn act(&mut self, now: Instant) {
        while let Some(output) = self.core.poll_output() {
            output.carry_out(&mut self.plane, &mut self.world, now);
        }
    }

    /// Has the control core deal with what was reported. Whether there was something.
    fn decide(&mut self, now: Instant) -> bool {
        let reports = std::mem::take(&mut self.world.reports);
        let is_any = !reports.is_empty();
        for report in reports {
            let taken = report.taken();
            self.core.handle_report(now, report);
            if let Some((connection, octets)) = taken {
                self.plane.control_taken(connection, octets);
            }
            self.act(now);
        }
        is_any
    }

    /// Connects the workloads that are wanted. Whether there were some.
    fn connect(&mut self) -> bool {
        let Some(workload) = self.world.connecting.pop() else { return false };
        self.world.open(workload);
        self.plane.connected(&mut self.world, workload);
        self.world.workload = Some(workload);
        true
    }
}

/// Brings what one router said to the other. Whether it said something.
fn pass(from: &mut Router, to: &mut Router, spare: &mut Vec<u8>) -> bool {
    let mut has_said = false;
    for connection in 0..from.connections.len() {
        std::mem::swap(&mut from.world.said[connection], spare);
        if !spare.is_empty() {
            to.plane.received(&mut to.world, to.connections[connection], &[spare]);
            spare.clear();
            has_said = true;
        }
    }
    has_said
}

/// What the other end learnt when it was given what one has said.
fn feed(from: &mut Connection, to: &mut Connection) -> Option<Announcement> {
    let octets = from.output().to_vec();
    from.clear_output();
    let mut input = octets.as_slice();
    let mut learnt = None;
    while let Some(event) = to.next(&mut input).expect("nothing wrong") {
        match event {
            Event::Authenticate(_) => to.authenticate(true).expect("it asked"),
            Event::Opened(open) => {
                learnt = Some(Announcement::read(&open));
                if !to.is_open() {
                    to.answer_open([]);
                }
            }
            _ => {}
        }
    }
    learnt
}

impl World {
    fn open(&mut self, stream: Key) {
        let place = stream.index() as usize;
        if self.sockets.len() <= place {
            self.sockets.resize(place + 1, Socket::default());
        }
        self.sockets[place] = Socket::default();
    }

    fn socket(&mut self, stream: Key) -> &mut Socket {
        &mut self.sockets[stream.index() as usize]
    }
}

impl Io for World {
    fn room(&self, _: Key) -> usize {
        if self.is_full { 0 } else { usize::MAX }
    }

    fn send(&mut self, connection: Key, parts: &[&[u8]]) {
        let said = &mut self.said[connection.index() as usize];
        parts.iter().for_each(|part| said.extend_from_slice(part));
    }

    fn close_connection(&mut self, _: Key) {}

    fn read(&mut self, stream: Key, buffer: &mut [u8]) -> Read {
        let socket = self.socket(stream);
        let count = socket.readable.min(buffer.len());
        socket.readable -= count;
        match count {
            0 if socket.has_ended => Read::End,
            0 => Read::Blocked,
            count => Read::Octets(count),
        }
    }

    fn write(&mut self, _: Key, parts: &[IoSlice<'_>]) -> Write {
        let count = parts.iter().map(|part| part.len()).sum();
        self.octets_written += count as u64;
        Write::Octets(count)
    }

    fn shut_down(&mut self, _: Key) {}

    fn close(&mut self, _: Key, reset: bool) {
        assert!(!reset, "nothing breaks here");
    }

    fn connect(&mut self, stream: Key, _: ConnectorId, _: Option<&str>, _: Option<ClientFlow>) {
        self.connecting.push(stream);
    }

    fn established(&mut self, _: Key) {}

    fn post(&mut self, _: ShardId, _: Crossing) {}

    fn trace(&mut self, _: ConnectionId, _: &str) {}

    fn report(&mut self, report: Report) {
        if let Report::ConnectionLost { reason, .. } = &report {
            panic!("a connection is lost: {:?}", reason.as_ref().map(Condition::to_string));
        }
        self.reports.push(report);
    }
}
