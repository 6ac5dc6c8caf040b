//! One router of ours, whole but for its sockets: what its peers say is fed in, what it says is kept.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use van_core::amqp::{Admission, Connection, Event, Login, Mechanism};
use van_core::flow::{self, Collector, Ledger, Message, Now, Record, shares_address};
use van_core::plane::{
    Client, ClientFlow, ConnectorId, Crossing, Io, Key, PeerKind, Plane, Purpose, Read, Report, ShardId, SubscriberId,
    Write,
};
use van_core::router::{
    Announcement, Candidate, Core, Dialled, Distribution, Identity, Origin, Outgoing, Output, open_config,
};
use van_routing::{RouterId, Timing, Treatment};

/// Who dials and who is an edge; the rest is the same, but that VanFlow is only spoken when we are to listen to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    WeDial,
    TheyDial,
    /// They dial, and both tell of connections.
    Flow,
    /// We are an edge router, and dial.
    OurEdge,
    /// They are, and dial.
    TheirEdge,
}

/// What the client of ours sends; the other router's workload sends it back.
pub(crate) const REQUEST: &[u8] = b"a request of ours, over both routers";

/// The group of a dialled link.
const CORRELATOR: &str = "goldenGOLDEN123";

/// The mesh that our edge router is of.
const MESH: &str = "meshMESHmesh123";

/// Makes the same names each time.
const SEED: u64 = 20_261_121;

/// A line of a recording.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) at: Duration,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    /// The peer says something on a connection.
    Heard(usize, Vec<u8>),
    /// We do.
    Said(usize, Vec<u8>),
    /// A client of ours connects.
    Client,
    /// Time has passed.
    Tick,
}

impl Scenario {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::WeDial => "we-dial",
            Self::TheyDial => "they-dial",
            Self::Flow => "vanflow",
            Self::OurEdge => "our-edge",
            Self::TheirEdge => "their-edge",
        }
    }

    pub(crate) fn we_dial(self) -> bool {
        matches!(self, Self::WeDial | Self::OurEdge)
    }

    /// The connections of the link: the control connection, then one for streams; all on one with an edge router.
    pub(crate) fn purposes(self) -> &'static [Purpose] {
        match self {
            Self::WeDial | Self::TheyDial | Self::Flow => &[Purpose::Control, Purpose::Data],
            Self::OurEdge => &[Purpose::Links(PeerKind::Interior)],
            Self::TheirEdge => &[Purpose::Links(PeerKind::Edge)],
        }
    }
}

impl Entry {
    fn to_json(&self) -> Value {
        let at = self.at.as_micros() as u64;
        match &self.what {
            What::Heard(connection, octets) => json!({"at": at, "conn": connection, "heard": hex(octets)}),
            What::Said(connection, octets) => json!({"at": at, "conn": connection, "said": hex(octets)}),
            What::Client => json!({"at": at, "client": true}),
            What::Tick => json!({"at": at}),
        }
    }

    fn from_json(value: &Value) -> Self {
        let at = Duration::from_micros(value["at"].as_u64().expect("a time"));
        let connection = value["conn"].as_u64().unwrap_or_default() as usize;
        let what = match (value["heard"].as_str(), value["said"].as_str()) {
            (Some(heard), _) => What::Heard(connection, octets(heard)),
            (_, Some(said)) => What::Said(connection, octets(said)),
            _ if value["client"] == true => What::Client,
            _ => What::Tick,
        };
        Self { at, what }
    }

    pub(crate) fn read_all(path: &Path) -> Vec<Self> {
        let text = std::fs::read_to_string(path).expect("a recording");
        text.lines().map(|line| Self::from_json(&serde_json::from_str(line).expect("JSON"))).collect()
    }

    pub(crate) fn write_all(path: &Path, entries: &[Self]) {
        let lines: String = entries.iter().map(|entry| format!("{}\n", entry.to_json())).collect();
        std::fs::write(path, lines).expect("a writable folder");
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

/// What is told by VanFlow, both ways: a collector, and a ledger of our connections.
pub(crate) struct Telling {
    collector: Collector,
    ledger: Ledger,
    /// What we consume, by the number of the subscriber.
    addresses: Vec<Arc<str>>,
    /// What was told of connections: of theirs, and of ours with their share.
    pub(crate) theirs: BTreeMap<Arc<str>, Record>,
    pub(crate) ours: BTreeMap<Arc<str>, Record>,
    /// Streams in the ledger.
    flows: HashMap<Key, Key>,
    now: Now,
}

/// Our router, and the link to its peer.
pub(crate) struct Conversation {
    start: Instant,
    now: Duration,
    core: Core,
    plane: Plane,
    world: World,
    /// Connections before their opens are exchanged.
    opening: BTreeMap<usize, Connection>,
    scenario: Scenario,
    client: Option<Key>,
    pub(crate) entries: Vec<Entry>,
}

/// Sockets that remember, and connections by number.
#[derive(Default)]
struct World {
    numbers: HashMap<Key, usize>,
    said: Vec<(usize, Vec<u8>)>,
    reports: Vec<Report>,
    connecting: Vec<(Key, Option<ClientFlow>)>,
    sockets: HashMap<Key, Socket>,
    telling: Option<Telling>,
}

#[derive(Default)]
struct Socket {
    /// Octets for the router to read, and whether they are the last.
    input: Vec<u8>,
    input_ended: bool,
    /// Octets the router wrote, and whether it ended.
    output: Vec<u8>,
    output_ended: bool,
    /// It sends back what it gets, and ends when that ends.
    is_echo: bool,
}

impl Conversation {
    #[allow(clippy::disallowed_methods)] // any instant will do
    pub(crate) fn new(scenario: Scenario) -> Self {
        let start = Instant::now();
        let mesh = (scenario == Scenario::OurEdge).then(|| MESH.into());
        let identity = Identity { id: RouterId::new("ours").expect("an id"), instance: 1_700_000_000, shards: 1, mesh };
        let mut core = Core::new(identity, Timing::default(), Distribution::default(), start);
        core.add_connector(start, ConnectorId(0), &Arc::from("at-ours"));
        core.watch(&Arc::from("at-theirs"));
        let plane = Plane::new(ShardId(0), Arc::clone(core.routes()), SEED);
        let opening = (0..scenario.purposes().len()).map(|number| (number, engine(scenario, number, start))).collect();
        let mut conversation = Self {
            start,
            now: Duration::ZERO,
            core,
            plane,
            world: World::default(),
            opening,
            scenario,
            client: None,
            entries: Vec::new(),
        };
        conversation.world.telling = (scenario == Scenario::Flow).then(|| Telling::new(start));
        if scenario == Scenario::Flow {
            let (own, closest) = (shares_address("aB3dE:0"), Treatment::AnycastClosest);
            conversation.core.subscribe(start, SubscriberId(0), &own, closest);
        }
        conversation.settle();
        conversation
    }

    /// What was told.
    pub(crate) fn telling(&self) -> Option<&Telling> {
        self.world.telling.as_ref()
    }

    /// Repeats what somebody else did in a recording.
    pub(crate) fn repeat(&mut self, entry: &Entry) {
        match &entry.what {
            What::Heard(connection, octets) => self.hear(entry.at, *connection, octets),
            What::Said(..) => {}
            What::Client => self.connect_client(entry.at),
            What::Tick => self.tick(entry.at),
        }
    }

    /// The peer says something.
    pub(crate) fn hear(&mut self, at: Duration, number: usize, octets: &[u8]) {
        self.pass(at, What::Heard(number, octets.to_vec()));
        match self.opening.remove(&number) {
            Some(engine) => self.open(number, engine, octets),
            None => self.hear_opened(number, octets),
        }
        self.settle();
    }

    /// A client of ours connects to the peer's workload.
    pub(crate) fn connect_client(&mut self, at: Duration) {
        self.pass(at, What::Client);
        let flow = self.world.telling.as_mut().map(Telling::accept);
        let flow = flow.map(|(key, identity)| (key, Client { flow: Some(identity), ..Client::from("at-theirs") }));
        let (flow, client) = flow.map_or((None, "at-theirs".into()), |(key, client)| (Some(key), client));
        let client = self.plane.add_client(client);
        if let (Some(flow), Some(telling)) = (flow, &mut self.world.telling) {
            telling.flows.insert(client, flow);
        }
        let socket = Socket { input: REQUEST.to_vec(), input_ended: true, ..Socket::default() };
        self.world.sockets.insert(client, socket);
        self.client = Some(client);
        self.plane.offer(&mut self.world, client);
        self.settle();
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, at: Duration) {
        self.pass(at, What::Tick);
        let now = self.start + at;
        self.core.handle_timeout(now);
        if let Some(telling) = &mut self.world.telling {
            telling.collector.handle_timeout(now);
        }
        self.plane.handle_timeout(&mut self.world, now);
        self.settle();
    }

    /// As [`Conversation::tick`], if somebody waits for it.
    pub(crate) fn tick_if_due(&mut self, at: Duration) {
        let now = self.start + at;
        let told = self.world.telling.as_ref().and_then(|telling| telling.collector.poll_timeout());
        let due = self.core.poll_timeout().into_iter().chain(self.plane.poll_timeout()).chain(told).min();
        if due.is_some_and(|due| due <= now) {
            self.tick(at);
        }
    }

    pub(crate) fn has_answer(&self) -> bool {
        let socket = self.client.and_then(|client| self.world.sockets.get(&client));
        socket.is_some_and(|socket| socket.output_ended && socket.output == REQUEST)
    }

    pub(crate) fn is_reachable(&self) -> bool {
        self.core.routes().is_reachable("at-theirs")
    }

    /// Both streams have come to their end: ours out and back, and the peer's.
    pub(crate) fn check_done(&self) {
        assert!(self.has_answer(), "our client has its answer");
        let echoed = self.world.sockets.values().filter(|socket| socket.is_echo && socket.output_ended).count();
        assert_eq!(echoed, 1, "their client was served");
        assert!(self.plane.is_idle());
    }

    fn pass(&mut self, at: Duration, what: What) {
        self.now = at;
        if let Some(telling) = &mut self.world.telling {
            telling.now = Now { instant: self.start + at, wall_micros: at.as_micros() as u64 };
        }
        self.entries.push(Entry { at, what });
    }

    /// Feeds a connection whose opens are not exchanged; takes it into use when they are.
    fn open(&mut self, number: usize, mut engine: Connection, octets: &[u8]) {
        let mut input = octets;
        while let Some(event) = engine.next(&mut input).expect("a valid opening") {
            match event {
                Event::Authenticate(_) => engine.authenticate(true).expect("welcome"),
                Event::Opened(open) => {
                    let mut announcement = Announcement::read(&open);
                    if let purpose @ Purpose::Links(_) = self.scenario.purposes()[number] {
                        announcement.purpose = purpose;
                    }
                    let origin = match self.scenario.we_dial() {
                        true => Origin::Dialled(dialled(self.scenario, number)),
                        false => Origin::Accepted,
                    };
                    let admitted = self
                        .core
                        .admit(self.start + self.now, Candidate::new(announcement, origin, 1))
                        .expect("admitted");
                    if !engine.is_open() {
                        engine.answer_open([]);
                    }
                    let is_initiator = self.scenario.we_dial();
                    let key = self.plane.add_connection(admitted.id, admitted.purpose, is_initiator, engine);
                    self.world.numbers.insert(key, number);
                    return self.plane.received(&mut self.world, key, &[input]);
                }
                _ => {}
            }
        }
        self.opening.insert(number, engine);
    }

    fn hear_opened(&mut self, number: usize, octets: &[u8]) {
        let key = self.world.numbers.iter().find(|(_, it)| **it == number).map(|(key, _)| *key);
        if let Some(key) = key {
            self.plane.received(&mut self.world, key, &[octets]);
        }
    }

    /// Lets everything inside the router happen, then keeps what it says.
    fn settle(&mut self) {
        let now = self.start + self.now;
        loop {
            for report in std::mem::take(&mut self.world.reports) {
                self.core.handle_report(now, report);
            }
            for (stream, flow) in std::mem::take(&mut self.world.connecting) {
                if let (Some(flow), Some(telling)) = (flow, &mut self.world.telling) {
                    telling.connect(stream, &flow);
                }
                self.world.sockets.insert(stream, Socket { is_echo: true, ..Socket::default() });
                self.plane.connected(&mut self.world, stream);
            }
            while let Some(output) = self.core.poll_output() {
                match (output, &mut self.world.telling) {
                    (Output::Deliver { subscriber, message }, Some(telling)) => telling.hear(subscriber, &message),
                    (output, _) => output.carry_out(&mut self.plane, &mut self.world, now),
                }
            }
            self.tell();
            self.echo();
            if self.world.reports.is_empty() && self.world.connecting.is_empty() {
                break;
            }
        }
        let openings = self.opening.iter_mut().filter(|(_, engine)| !engine.output().is_empty());
        for (number, engine) in openings {
            self.world.said.push((*number, engine.output().to_vec()));
            engine.clear_output();
        }
        for (number, octets) in std::mem::take(&mut self.world.said) {
            self.entries.push(Entry { at: self.now, what: What::Said(number, octets) });
        }
    }

    /// Does what the collector wants, and tells what the ledger has.
    fn tell(&mut self) {
        let now = self.start + self.now;
        let Some(telling) = &mut self.world.telling else { return };
        let mut outgoing = telling.harvest();
        while let Some(output) = telling.collector.poll_output() {
            match output {
                flow::Output::Subscribe(address) => {
                    let flows = address.ends_with(":0").then(|| format!("{address}.flows").into());
                    for address in [address].into_iter().chain(flows) {
                        let subscriber = SubscriberId(telling.addresses.len() as u64);
                        self.core.subscribe(now, subscriber, &address, Treatment::MulticastOnce);
                        telling.addresses.push(address);
                    }
                }
                flow::Output::Send(message) => outgoing.push(message),
                flow::Output::Unsubscribe(_) | flow::Output::Changed => {}
            }
        }
        for flow::Outgoing { to, message } in outgoing {
            self.core.send(&Outgoing::new(&*to, message).expect("a short message"));
        }
    }

    fn echo(&mut self) {
        let echoing: Vec<_> =
            self.world.sockets.iter().filter(|(_, socket)| socket.is_echo).map(|(key, _)| *key).collect();
        for key in echoing {
            let socket = self.world.sockets.get_mut(&key).expect("listed above");
            socket.input = socket.output.clone();
            socket.input_ended = socket.output_ended;
            if socket.input_ended {
                self.plane.readable(&mut self.world, key);
            }
        }
    }
}

impl Telling {
    fn new(start: Instant) -> Self {
        let mut ledger = Ledger::new("aB3dE", 0);
        ledger.watch(true);
        Self {
            collector: Collector::new(),
            ledger,
            addresses: vec![shares_address("aB3dE:0")],
            theirs: BTreeMap::new(),
            ours: BTreeMap::new(),
            flows: HashMap::new(),
            now: Now { instant: start, wall_micros: 0 },
        }
    }

    /// A client of ours came in.
    fn accept(&mut self) -> (Key, Arc<str>) {
        let client = ([127, 0, 0, 1], 4711).into();
        let key = self.ledger.accepted(self.now, &"aB3dE:1".into(), client, None);
        (key, Arc::clone(self.ledger.identity(key).expect("accepted above")))
    }

    /// A workload of ours is connected.
    fn connect(&mut self, stream: Key, flow: &ClientFlow) {
        let flow = self.ledger.connecting(&flow.identity, &flow.trace, &"aB3dE:2".into()).expect("an identity");
        self.ledger.connected(flow, ([127, 0, 0, 1], 4712).into());
        self.flows.insert(stream, flow);
    }

    fn hear(&mut self, subscriber: SubscriberId, message: &[u8]) {
        let address = Arc::clone(&self.addresses[subscriber.0 as usize]);
        self.collector.handle_message(self.now.instant, &address, message).expect("VanFlow");
        let Ok(Message::Records { records, .. }) = Message::decode(message) else { return };
        if subscriber.0 == 0 {
            records.iter().for_each(|share| self.ledger.recv_share(share));
        } else {
            merge(&mut self.theirs, records);
        }
    }

    fn harvest(&mut self) -> Vec<flow::Outgoing> {
        let harvest = self.ledger.harvest(self.now, false);
        merge(&mut self.ours, harvest.flows);
        let share = |share: Record| {
            let to = shares_address(&format!("{}:0", share.identity.split(':').next().unwrap_or_default()));
            flow::Outgoing { message: Message::Records { source: None, records: vec![share] }.encode(&to), to }
        };
        harvest.shares.into_iter().map(share).collect()
    }
}

fn merge(known: &mut BTreeMap<Arc<str>, Record>, told: Vec<Record>) {
    for told in told {
        known.entry(Arc::clone(&told.identity)).and_modify(|it| _ = it.apply(&told)).or_insert(told);
    }
}

fn dialled(scenario: Scenario, number: usize) -> Dialled {
    Dialled { correlator: CORRELATOR.into(), ordinal: None, purpose: scenario.purposes()[number] }
}

fn engine(scenario: Scenario, number: usize, now: Instant) -> Connection {
    if scenario.we_dial() {
        let config = open_config("ours", Some("127.0.0.1"), 1, Some(&dialled(scenario, number)));
        return Connection::connect(config, vec![Login::Anonymous], now);
    }
    let admission = Admission { mechanisms: vec![Mechanism::Anonymous], sasl_optional: true };
    Connection::accept(open_config("ours", None, 1, None), admission, now)
}

impl Io for World {
    fn room(&self, _: Key) -> usize {
        usize::MAX
    }

    fn send(&mut self, connection: Key, parts: &[&[u8]]) {
        self.said.push((self.numbers[&connection], parts.concat()));
    }

    fn close_connection(&mut self, _: Key) {}

    fn read(&mut self, stream: Key, buffer: &mut [u8]) -> Read {
        let Some(socket) = self.sockets.get_mut(&stream) else { return Read::Failed };
        let ready = if socket.is_echo && !socket.input_ended { 0 } else { socket.input.len().min(buffer.len()) };
        buffer[..ready].copy_from_slice(&socket.input[..ready]);
        socket.input.drain(..ready);
        match (ready, socket.input_ended) {
            (0, true) => Read::End,
            (0, false) => Read::Blocked,
            (count, _) => {
                if let Some(telling) = &mut self.telling
                    && let Some(flow) = telling.flows.get(&stream)
                {
                    telling.ledger.read(*flow, || telling.now, &buffer[..count]);
                }
                Read::Octets(count)
            }
        }
    }

    fn write(&mut self, stream: Key, parts: &[IoSlice<'_>]) -> Write {
        let Some(socket) = self.sockets.get_mut(&stream) else { return Write::Failed };
        let before = socket.output.len();
        parts.iter().for_each(|part| socket.output.extend_from_slice(part));
        let count = socket.output.len() - before;
        if let Some(telling) = &mut self.telling
            && let Some(flow) = telling.flows.get(&stream)
        {
            telling.ledger.writing(*flow, || telling.now);
            telling.ledger.written(*flow, || telling.now, parts.iter().map(|part| &**part), count);
        }
        Write::Octets(count)
    }

    fn shut_down(&mut self, stream: Key) {
        if let Some(socket) = self.sockets.get_mut(&stream) {
            socket.output_ended = true;
        }
    }

    fn close(&mut self, stream: Key, _: bool) {
        if let Some(telling) = &mut self.telling
            && let Some(flow) = telling.flows.remove(&stream)
        {
            telling.ledger.closed(flow, telling.now);
        }
    }

    fn connect(&mut self, stream: Key, _: ConnectorId, _: Option<&str>, flow: Option<ClientFlow>) {
        self.connecting.push((stream, flow));
    }

    fn established(&mut self, _: Key) {}

    fn post(&mut self, _: ShardId, _: Crossing) {
        unreachable!("there is one shard");
    }

    fn report(&mut self, report: Report) {
        self.reports.push(report);
    }
}
