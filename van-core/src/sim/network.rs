//! The clock, the routers, the links between them, and what goes wrong.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use van_routing::{Cost, LinkId, RouterId, Table, Timing, Treatment};

use super::peer::{Ended, Program, Script, Socket, Workload};
use super::world::{Effect, World};
use crate::Random;
use crate::amqp::{self, Admission, Condition, Event, Login, Mechanism};
use crate::plane::{
    ConnectionId, ConnectorId, Counters, Crossing, Key, Memory, PeerKind, Plane, Purpose, Report, Routes, ShardId,
    SubscriberId,
};
use crate::router::{
    Announcement, Candidate, Core, Dialled, Distribution, Identity, Origin, Outgoing, Output, open_config,
};

/// How long messages take between the threads of one router.
const THREAD_DELAY: Duration = Duration::from_micros(10);

/// How long a program takes for a step.
const PROGRAM_DELAY: Duration = Duration::from_micros(50);

/// How long connecting a workload takes.
const CONNECT_DELAY: Duration = Duration::from_micros(200);

/// How long a lost link takes to be dialled again.
const REDIAL_DELAY: Duration = Duration::from_millis(100);

/// A router of the network, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouterName(pub usize);

/// A link of the network, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkName(pub usize);

/// A client of a routing key, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client(pub usize);

/// A subscriber of an address, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subscriber(pub usize);

/// The network.
#[derive(Debug)]
pub struct Network {
    started: Instant,
    now: Instant,
    random: Random,
    queue: BinaryHeap<Reverse<Scheduled>>,
    sequence: u64,
    routers: Vec<Router>,
    links: Vec<Link>,
    pipes: Vec<Pipe>,
    programs: Vec<(Place, Program)>,
    clients: Vec<usize>,
    workloads: BTreeMap<(RouterName, ConnectorId), Workload>,
    subscriptions: Vec<Subscription>,
    connections_served: u64,
}

#[derive(Debug)]
struct Subscription {
    router: RouterName,
    address: Arc<str>,
    /// None once it has ended.
    treatment: Option<Treatment>,
    received: Vec<Bytes>,
}

#[derive(Debug)]
struct Router {
    id: RouterId,
    shards: u16,
    /// Of an edge router.
    mesh: Option<String>,
    core: Core,
    planes: Vec<(Plane, World)>,
    connectors: Vec<Arc<str>>,
    /// Another life: what was on its way to an earlier one is lost.
    life: u64,
    timer_at: Option<Instant>,
}

#[derive(Debug)]
struct Link {
    from: RouterName,
    to: RouterName,
    data_connections: u16,
    cost: u32,
    delay: Duration,
    /// Cut: nothing passes, and whether the ends notice.
    is_cut: bool,
    correlator: String,
    /// The generation of its credentials.
    ordinal: u64,
    /// The connections of all generations, and the control connection of the last.
    pipes: Vec<usize>,
    control: Option<usize>,
}

/// One connection of a link.
#[derive(Debug)]
struct Pipe {
    link: LinkName,
    is_control: bool,
    ends: [End; 2],
    is_open: bool,
}

#[derive(Debug, Clone, Copy)]
struct End {
    router: RouterName,
    life: u64,
    shard: ShardId,
    key: Key,
    id: ConnectionId,
}

/// Where a program's socket is.
#[derive(Debug, Clone, Copy)]
struct Place {
    router: RouterName,
    life: u64,
    shard: ShardId,
    stream: Key,
}

#[derive(Debug)]
struct Scheduled {
    at: Instant,
    sequence: u64,
    happening: Happening,
}

#[derive(Debug)]
enum Happening {
    Arrive { pipe: usize, end: usize, octets: Vec<u8> },
    Break { pipe: usize, end: usize },
    Cross { router: RouterName, life: u64, from: ShardId, to: ShardId, crossing: Crossing },
    Report { router: RouterName, life: u64, report: Report },
    Routes { router: RouterName, life: u64, routes: Arc<Routes> },
    Act { router: RouterName, life: u64, shard: ShardId, output: Output },
    Connected { place: Place, connector: ConnectorId },
    Program { program: usize },
    Dial { link: LinkName },
    Timer { router: RouterName, life: u64 },
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

// === making ===

impl Network {
    /// An empty network. Any instant will do for `start`.
    pub fn new(seed: u64, start: Instant) -> Self {
        Self {
            started: start,
            now: start,
            random: Random::new(seed),
            queue: BinaryHeap::new(),
            sequence: 0,
            routers: Vec::new(),
            links: Vec::new(),
            pipes: Vec::new(),
            programs: Vec::new(),
            clients: Vec::new(),
            workloads: BTreeMap::new(),
            subscriptions: Vec::new(),
            connections_served: 0,
        }
    }

    /// Adds a router.
    ///
    /// # Panics
    /// If the id is no router id.
    pub fn router(&mut self, id: &str, shards: u16) -> RouterName {
        self.add_router(id, shards, None)
    }

    /// Adds an edge router; its links lead up to interior ones, or to other edge routers.
    ///
    /// # Panics
    /// If the id is no router id.
    pub fn edge_router(&mut self, id: &str, shards: u16) -> RouterName {
        let mesh = self.random.discriminator();
        self.add_router(id, shards, Some(mesh))
    }

    fn add_router(&mut self, id: &str, shards: u16, mesh: Option<String>) -> RouterName {
        let name = RouterName(self.routers.len());
        let id = RouterId::new(id).expect("a router id");
        let router = self.start_router(id, shards, mesh, 1, Vec::new());
        self.routers.push(router);
        self.act(name);
        name
    }

    fn start_router(
        &mut self,
        id: RouterId,
        shards: u16,
        mesh: Option<String>,
        life: u64,
        connectors: Vec<Arc<str>>,
    ) -> Router {
        let identity = Identity { id: id.clone(), instance: life, shards, mesh: mesh.clone() };
        let mut core = Core::new(identity, Timing::default(), Distribution::default(), self.now);
        for (number, address) in connectors.iter().enumerate() {
            core.add_connector(self.now, ConnectorId(number as u32), address);
        }
        let plane =
            |shard| (Plane::new(ShardId(shard), Arc::clone(core.routes()), self.random.next_u64()), World::default());
        let planes = (0..shards).map(plane).collect();
        Router { id, shards, mesh, core, planes, connectors, life, timer_at: None }
    }

    /// Adds a link, which is dialled at once and whenever it is lost.
    pub fn link(
        &mut self,
        from: RouterName,
        to: RouterName,
        data_connections: u16,
        cost: u32,
        delay: Duration,
    ) -> LinkName {
        let link = LinkName(self.links.len());
        let (is_cut, correlator, ordinal, pipes, control) = (false, String::new(), 1, Vec::new(), None);
        self.links.push(Link { from, to, data_connections, cost, delay, is_cut, correlator, ordinal, pipes, control });
        self.schedule(Duration::ZERO, Happening::Dial { link });
        link
    }

    /// Lets more octets be on their way on each connection of a router: as many as a long path takes.
    pub fn widen(&mut self, router: RouterName, octets: usize) {
        self.routers[router.0].planes.iter_mut().for_each(|(_, world)| world.more_under_way = octets);
    }

    /// Gives a router a budget of memory; before it has connections.
    pub fn limit_memory(&mut self, router: RouterName, octets: u64) {
        let memory = Arc::new(Memory::new(octets));
        self.routers[router.0].planes.iter_mut().for_each(|(plane, _)| plane.set_memory(Arc::clone(&memory)));
    }

    /// Octets that wait in a router, and those that are promised or wait.
    pub fn waiting(&self, router: RouterName) -> (usize, usize) {
        let planes = self.routers[router.0].planes.iter().map(|(plane, _)| plane.waiting());
        planes.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// Adds a workload behind a routing key.
    pub fn connector(&mut self, router: RouterName, address: &str, workload: Workload) -> ConnectorId {
        let address: Arc<str> = address.into();
        let now = self.now;
        let at = &mut self.routers[router.0];
        let connector = ConnectorId(at.connectors.len() as u32);
        at.connectors.push(Arc::clone(&address));
        at.core.add_connector(now, connector, &address);
        self.workloads.insert((router, connector), workload);
        self.act(router);
        connector
    }

    /// Changes what a workload does from now on.
    pub fn set_workload(&mut self, router: RouterName, connector: ConnectorId, workload: Workload) {
        self.workloads.insert((router, connector), workload);
    }

    /// Subscribes to an address; what comes is [`Network::received`].
    pub fn subscribe(&mut self, router: RouterName, address: &str, treatment: Treatment) -> Subscriber {
        let subscriber = Subscriber(self.subscriptions.len());
        let address: Arc<str> = address.into();
        self.routers[router.0].core.subscribe(self.now, SubscriberId(subscriber.0 as u64), &address, treatment);
        self.subscriptions.push(Subscription { router, address, treatment: Some(treatment), received: Vec::new() });
        self.act(router);
        subscriber
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, subscriber: Subscriber) {
        let Subscription { router, ref address, ref mut treatment, .. } = self.subscriptions[subscriber.0];
        *treatment = None;
        self.routers[router.0].core.unsubscribe(self.now, SubscriberId(subscriber.0 as u64), address);
        self.act(router);
    }

    /// Sends a message from a router.
    pub fn send(&mut self, router: RouterName, outgoing: &Outgoing) {
        self.routers[router.0].core.send(outgoing);
        self.act(router);
    }

    /// Connects a client to a routing key, at a shard of a router.
    pub fn client(&mut self, router: RouterName, shard: u16, address: &str, script: Script) -> Client {
        let at = &mut self.routers[router.0];
        let shard = ShardId(shard % at.shards);
        let life = at.life;
        let (plane, world) = &mut at.planes[usize::from(shard.0)];
        let stream = plane.add_client(address.into());
        world.sockets.insert(stream, Socket::default());
        self.clients.push(self.programs.len());
        self.start_program(Place { router, life, shard, stream }, script);
        let (plane, world) = self.shard(router, shard);
        plane.offer(world, stream);
        self.settle(router, shard);
        Client(self.clients.len() - 1)
    }

    fn start_program(&mut self, place: Place, script: Script) {
        let program = self.programs.len();
        self.programs.push((place, Program::new(script)));
        self.schedule(PROGRAM_DELAY, Happening::Program { program });
    }
}

// === faults ===

impl Network {
    /// Cuts a link. `is_noticed`: both ends' connections break; otherwise octets vanish, and only time tells.
    pub fn cut(&mut self, link: LinkName, is_noticed: bool) {
        self.links[link.0].is_cut = true;
        if is_noticed {
            return self.break_pipes(link);
        }
        for pipe in self.links[link.0].pipes.clone() {
            self.pipes[pipe].is_open = false; // what is lost is lost, also when the link is mended
        }
    }

    /// Makes a link whole again. Connections that were cut off without notice stay broken until their ends find out.
    pub fn mend(&mut self, link: LinkName) {
        self.links[link.0].is_cut = false;
        if self.links[link.0].pipes.is_empty() {
            self.schedule(REDIAL_DELAY, Happening::Dial { link });
        }
    }

    /// Gives the dialling end of a link new credentials: it dials a new generation beside the old one.
    pub fn renew(&mut self, link: LinkName) {
        self.links[link.0].ordinal += 1;
        if self.links[link.0].control.is_some() && !self.links[link.0].is_cut {
            self.dial_generation(link);
        }
    }

    /// Breaks the connections of a link, which is dialled again.
    pub fn reset(&mut self, link: LinkName) {
        self.break_pipes(link);
    }

    fn break_pipes(&mut self, link: LinkName) {
        for pipe in self.links[link.0].pipes.clone() {
            for end in 0..2 {
                self.schedule(Duration::ZERO, Happening::Break { pipe, end });
            }
        }
    }

    /// Kills a router and starts it anew: everything in it is gone, its connections break.
    pub fn restart(&mut self, router: RouterName) {
        let Router { id, shards, mesh, connectors, life, .. } = &self.routers[router.0];
        let (id, shards, mesh) = (id.clone(), *shards, mesh.clone());
        let (connectors, life) = (connectors.clone(), life + 1);
        for (place, program) in &mut self.programs {
            if place.router == router && program.ended.is_none() {
                program.ended = Some(Ended::Reset);
            }
        }
        self.routers[router.0] = self.start_router(id, shards, mesh, life, connectors);
        for (number, subscription) in self.subscriptions.iter().enumerate().filter(|(_, it)| it.router == router) {
            if let Some(treatment) = subscription.treatment {
                let subscriber = SubscriberId(number as u64);
                self.routers[router.0].core.subscribe(self.now, subscriber, &subscription.address, treatment);
            }
        }
        let links = (0..self.links.len())
            .map(LinkName)
            .filter(|link| [self.links[link.0].from, self.links[link.0].to].contains(&router));
        for link in links.collect::<Vec<_>>() {
            self.break_pipes(link);
        }
        self.act(router);
    }
}

// === looking ===

impl Network {
    /// A router's routes.
    pub fn table(&self, router: RouterName) -> Arc<Table> {
        Arc::clone(self.routers[router.0].core.table())
    }

    /// How many connections to other routers a router has.
    pub fn connections(&self, router: RouterName) -> usize {
        self.routers[router.0].planes.iter().map(|(plane, _)| plane.connections()).sum()
    }

    /// The interior router whose connection an edge router uses.
    pub fn uplink(&self, router: RouterName) -> Option<RouterName> {
        let id = self.routers[router.0].core.routes().uplink?.endpoint.at.id;
        let is_it = |end: &End| end.router == router && end.id == id;
        let pipe = self.pipes.iter().find(|pipe| pipe.ends.iter().any(is_it))?;
        pipe.ends.iter().map(|end| end.router).find(|end| *end != router)
    }

    /// Whether a routing key has a consumer, as a router sees it.
    pub fn is_reachable(&self, router: RouterName, address: &str) -> bool {
        self.routers[router.0].core.routes().is_reachable(address)
    }

    /// What a client received, and how its connection ended, if it has.
    pub fn outcome(&self, client: Client) -> (&[u8], Option<Ended>) {
        let (_, program) = &self.programs[self.clients[client.0]];
        (&program.received, program.ended)
    }

    /// Whether a client's router has said that a workload answered, and the client is still there.
    pub fn is_established(&self, client: Client) -> bool {
        let (Place { router, life, shard, stream }, _) = self.programs[self.clients[client.0]];
        let (_, world) = &self.routers[router.0].planes[usize::from(shard.0)];
        self.is_alive(router, life) && world.sockets.get(&stream).is_some_and(|socket| socket.is_established)
    }

    /// What all workloads received, in the order they were connected.
    pub fn workload_outcomes(&self) -> Vec<(&[u8], Option<Ended>)> {
        let is_workload = |(number, _): &(usize, _)| !self.clients.contains(number);
        let programs = self.programs.iter().enumerate().filter(is_workload);
        programs.map(|(_, (_, program))| (program.received.as_slice(), program.ended)).collect()
    }

    /// The messages a subscriber was given, oldest first.
    pub fn received(&self, subscriber: Subscriber) -> &[Bytes] {
        &self.subscriptions[subscriber.0].received
    }

    /// What the shards of a router have done.
    pub fn counters(&self, router: RouterName) -> Vec<Counters> {
        self.routers[router.0].planes.iter().map(|(plane, _)| plane.counters()).collect()
    }

    /// How many AMQP links the connections of a router have.
    pub fn links(&self, router: RouterName) -> usize {
        self.routers[router.0].planes.iter().map(|(plane, _)| plane.links().len()).sum()
    }

    /// Whether no router keeps anything of any stream.
    pub fn is_idle(&self) -> bool {
        self.routers.iter().flat_map(|router| &router.planes).all(|(plane, _)| plane.is_idle())
    }

    /// The time since `start`.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.queue.peek().is_some_and(|Reverse(next)| next.at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Lets time pass until something is so; whether it came to be within `limit`.
    pub fn run_until(&mut self, limit: Duration, is_so: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + limit;
        while !is_so(self) {
            if self.queue.peek().is_none_or(|Reverse(next)| next.at > end) {
                return is_so(self);
            }
            self.step();
        }
        true
    }
}

// === happening ===

impl Network {
    fn schedule(&mut self, after: Duration, happening: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse(Scheduled { at: self.now + after, sequence: self.sequence, happening }));
    }

    fn step(&mut self) {
        if let Some(Reverse(next)) = self.queue.pop() {
            self.now = self.now.max(next.at);
            let time = self.now - self.started;
            let planes = self.routers.iter_mut().flat_map(|router| &mut router.planes);
            planes.for_each(|(plane, _)| plane.set_time(time));
            self.happen(next.happening);
        }
    }

    fn is_alive(&self, router: RouterName, life: u64) -> bool {
        self.routers[router.0].life == life
    }

    fn shard(&mut self, router: RouterName, shard: ShardId) -> (&mut Plane, &mut World) {
        let (plane, world) = &mut self.routers[router.0].planes[usize::from(shard.0)];
        (plane, world)
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive { pipe, end, octets } => self.arrive(pipe, end, &octets),
            Happening::Break { pipe, end } => self.break_end(pipe, end),
            Happening::Cross { router, life, from, to, crossing } if self.is_alive(router, life) => {
                let (plane, world) = self.shard(router, to);
                plane.crossed(world, from, crossing);
                self.settle(router, to);
            }
            Happening::Report { router, life, report } if self.is_alive(router, life) => {
                let taken = report.taken();
                let now = self.now;
                self.routers[router.0].core.handle_report(now, report);
                if let Some((connection, octets)) = taken {
                    for (plane, _) in &mut self.routers[router.0].planes {
                        plane.control_taken(connection, octets);
                    }
                }
                self.act(router);
            }
            Happening::Routes { router, life, routes } if self.is_alive(router, life) => {
                let now = self.now;
                for shard in 0..self.routers[router.0].shards {
                    let (plane, world) = self.shard(router, ShardId(shard));
                    plane.set_routes(world, now, Arc::clone(&routes));
                    self.settle(router, ShardId(shard));
                }
            }
            Happening::Act { router, life, shard, output } if self.is_alive(router, life) => {
                let now = self.now;
                let (plane, world) = self.shard(router, shard);
                output.carry_out(plane, world, now);
                self.settle(router, shard);
            }
            Happening::Connected { place, connector } if self.is_alive(place.router, place.life) => {
                self.connected(place, connector)
            }
            Happening::Program { program } => self.run_program(program),
            Happening::Dial { link } => self.dial(link),
            Happening::Timer { router, life } if self.is_alive(router, life) => self.run_timers(router),
            // To somebody who is no more.
            _ => {}
        }
    }

    fn arrive(&mut self, pipe: usize, end: usize, octets: &[u8]) {
        let (sender, receiver) = (self.pipes[pipe].ends[1 - end], self.pipes[pipe].ends[end]);
        if self.links[self.pipes[pipe].link.0].is_cut || !self.pipes[pipe].is_open {
            return;
        }
        if self.is_alive(receiver.router, receiver.life) {
            let (plane, world) = self.shard(receiver.router, receiver.shard);
            plane.received(world, receiver.key, &[octets]);
            self.settle(receiver.router, receiver.shard);
        }
        if self.is_alive(sender.router, sender.life) {
            let (plane, world) = self.shard(sender.router, sender.shard);
            if let Some(under_way) = world.under_way.get_mut(&sender.key) {
                *under_way -= octets.len();
                plane.writable(world, sender.key);
            }
            self.settle(sender.router, sender.shard);
        }
    }

    fn break_end(&mut self, pipe: usize, end: usize) {
        self.pipes[pipe].is_open = false;
        let End { router, life, shard, key, .. } = self.pipes[pipe].ends[end];
        if self.is_alive(router, life) {
            let (plane, world) = self.shard(router, shard);
            plane.disconnected(world, key, Condition::bare("van:connection-lost"));
            self.settle(router, shard);
        }
        let link = self.pipes[pipe].link;
        let Link { pipes, control, .. } = &mut self.links[link.0];
        if control.take_if(|control| *control == pipe).is_some() {
            // As those who dial do: all anew, under another correlator.
            pipes.clear();
            self.schedule(REDIAL_DELAY, Happening::Dial { link });
        }
    }

    fn run_program(&mut self, number: usize) {
        let (place, program) = &mut self.programs[number];
        let Place { router, life, shard, stream } = *place;
        if program.ended.is_some() || self.routers[router.0].life != life {
            return;
        }
        let (plane, world) = {
            let (plane, world) = &mut self.routers[router.0].planes[usize::from(shard.0)];
            (plane, world)
        };
        let Some(socket) = world.sockets.get_mut(&stream) else { return };
        program.step(socket);
        let is_over = program.ended.is_some();
        let is_readable = std::mem::take(&mut socket.wants_read);
        let is_writable = std::mem::take(&mut socket.wants_write);
        if is_over && socket.is_closed {
            world.sockets.remove(&stream);
        }
        if is_readable {
            plane.readable(world, stream);
        }
        if is_writable {
            plane.drained(world, stream);
        }
        self.settle(router, shard);
        if !is_over {
            let jitter = Duration::from_micros(self.random.below(50));
            self.schedule(PROGRAM_DELAY + jitter, Happening::Program { program: number });
        }
    }

    fn connected(&mut self, place: Place, connector: ConnectorId) {
        let Place { router, shard, stream, .. } = place;
        let workload = self.workloads.get(&(router, connector)).copied().unwrap_or(Workload::Refuses);
        let (plane, world) = {
            let (plane, world) = &mut self.routers[router.0].planes[usize::from(shard.0)];
            (plane, world)
        };
        match workload {
            // Given up meanwhile.
            _ if !world.connecting.remove(&stream) => {}
            Workload::Refuses => plane.connect_failed(world, stream),
            Workload::Answers(script) => {
                world.sockets.insert(stream, Socket::default());
                let script = Script { seed: script.seed + self.connections_served, ..script };
                self.connections_served += 1;
                self.start_program(place, script);
                let (plane, world) = self.shard(router, shard);
                plane.connected(world, stream);
            }
        }
        self.settle(router, shard);
    }

    fn run_timers(&mut self, router: RouterName) {
        let now = self.now;
        let at = &mut self.routers[router.0];
        at.timer_at = None;
        if at.core.poll_timeout().is_some_and(|due| due <= now) {
            at.core.handle_timeout(now);
        }
        for (plane, world) in &mut at.planes {
            if plane.poll_timeout().is_some_and(|due| due <= now) {
                plane.handle_timeout(world, now);
            }
        }
        for shard in 0..self.routers[router.0].shards {
            self.settle(router, ShardId(shard));
        }
        self.act(router);
    }

    /// Carries out what a shard asked for.
    fn settle(&mut self, router: RouterName, shard: ShardId) {
        let life = self.routers[router.0].life;
        loop {
            let (plane, world) = self.shard(router, shard);
            if plane.is_interrupted() {
                plane.resume(world);
            }
            let effects = std::mem::take(&mut world.effects);
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.carry_out(router, life, shard, effect);
            }
        }
        self.set_timer(router);
    }

    fn carry_out(&mut self, router: RouterName, life: u64, shard: ShardId, effect: Effect) {
        match effect {
            Effect::Sent { connection, octets } => {
                if let Some((pipe, end)) = self.find_pipe(router, life, shard, connection) {
                    let delay = self.links[self.pipes[pipe].link.0].delay;
                    self.schedule(delay, Happening::Arrive { pipe, end: 1 - end, octets });
                }
            }
            Effect::ConnectionClosed { connection } => {
                if let Some((pipe, end)) = self.find_pipe(router, life, shard, connection) {
                    let Link { delay, is_cut, .. } = self.links[self.pipes[pipe].link.0];
                    self.schedule(delay, Happening::Break { pipe, end });
                    if !is_cut {
                        self.schedule(delay, Happening::Break { pipe, end: 1 - end });
                    }
                }
            }
            Effect::Connect { stream, connector } => {
                let place = Place { router, life, shard, stream };
                self.schedule(CONNECT_DELAY, Happening::Connected { place, connector });
            }
            Effect::Post { to, crossing } => {
                self.schedule(THREAD_DELAY, Happening::Cross { router, life, from: shard, to, crossing })
            }
            Effect::Report(report) => self.schedule(THREAD_DELAY, Happening::Report { router, life, report }),
        }
    }

    fn find_pipe(&self, router: RouterName, life: u64, shard: ShardId, key: Key) -> Option<(usize, usize)> {
        let is_end = |end: &End| (end.router, end.life, end.shard, end.key) == (router, life, shard, key);
        self.pipes.iter().enumerate().rev().find_map(|(pipe, it)| Some((pipe, it.ends.iter().position(is_end)?)))
    }

    /// Carries out what a control core wants.
    fn act(&mut self, router: RouterName) {
        let life = self.routers[router.0].life;
        let mut is_told = false;
        while let Some(output) = self.routers[router.0].core.poll_output() {
            is_told |= matches!(output, Output::Send { .. });
            let happening = match output {
                Output::Routes(routes) => {
                    assert!(!is_told, "a neighbour may act on what does not hold here yet");
                    Happening::Routes { router, life, routes }
                }
                Output::Deliver { subscriber, message } => {
                    self.subscriptions[subscriber.0 as usize].received.push(message);
                    continue;
                }
                output => match output.shard() {
                    Some(shard) => Happening::Act { router, life, shard, output },
                    None => continue,
                },
            };
            self.schedule(THREAD_DELAY, happening);
        }
        self.set_timer(router);
    }

    fn set_timer(&mut self, router: RouterName) {
        let at = &self.routers[router.0];
        let planes = at.planes.iter().filter_map(|(plane, _)| plane.poll_timeout());
        if let Some(due) = planes.chain(at.core.poll_timeout()).min()
            && at.timer_at.is_none_or(|timer_at| due < timer_at)
        {
            let life = at.life;
            self.routers[router.0].timer_at = Some(due);
            self.schedule(due.saturating_duration_since(self.now), Happening::Timer { router, life });
        }
    }
}

// === dialling ===

impl Network {
    fn dial(&mut self, link: LinkName) {
        let Link { is_cut, ref pipes, .. } = self.links[link.0];
        if !is_cut && pipes.is_empty() {
            self.links[link.0].correlator = self.random.discriminator();
            self.dial_generation(link);
        }
    }

    fn dial_generation(&mut self, link: LinkName) {
        let Link { from, to, data_connections, cost, ref correlator, ordinal, .. } = self.links[link.0];
        let correlator = correlator.clone();
        let purposes = match (&self.routers[from.0].mesh, &self.routers[to.0].mesh) {
            (Some(_), Some(_)) => vec![Purpose::Links(PeerKind::Mesh)],
            (Some(_), None) => vec![Purpose::Links(PeerKind::Interior)],
            (None, _) => {
                let data = (0..data_connections).map(|_| Purpose::Data);
                std::iter::once(Purpose::Control).chain(data).collect()
            }
        };
        for purpose in purposes {
            let dialled = Dialled { correlator: correlator.clone(), ordinal: Some(ordinal), purpose };
            self.connect(link, from, to, cost, &dialled);
        }
    }

    /// Brings one connection up: the opens are exchanged on the spot.
    fn connect(&mut self, link: LinkName, from: RouterName, to: RouterName, cost: u32, dialled: &Dialled) {
        let (from_id, to_id) = (self.routers[from.0].id.to_string(), self.routers[to.0].id.to_string());
        let config = open_config(&from_id, Some("host"), cost, Some(dialled));
        let mut near = amqp::Connection::connect(config, vec![Login::Anonymous], self.now);
        let admission = Admission { mechanisms: vec![Mechanism::Anonymous], sasl_optional: false };
        let mut far = amqp::Connection::accept(open_config(&to_id, None, cost, None), admission, self.now);
        let Some((far_open, near_open)) = exchange_opens(&mut near, &mut far) else { return };
        let candidate = |announcement, origin| Candidate::new(announcement, origin, cost);
        let near_candidate = candidate(near_open, Origin::Dialled(dialled.clone()));
        let Ok(near_admitted) = self.routers[from.0].core.admit(self.now, near_candidate) else { return };
        let far_purpose = match dialled.purpose {
            Purpose::Links(PeerKind::Interior) => Purpose::Links(PeerKind::Edge),
            purpose => purpose,
        };
        let far_open = Announcement { purpose: far_purpose, ..far_open };
        let Ok(far_admitted) = self.routers[to.0].core.admit(self.now, candidate(far_open, Origin::Accepted)) else {
            return;
        };
        let pipe = self.pipes.len();
        self.links[link.0].pipes.push(pipe);
        let ends = [(from, near_admitted, near, true), (to, far_admitted, far, false)].map(
            |(router, admitted, engine, is_initiator)| {
                let life = self.routers[router.0].life;
                let (plane, world) = self.shard(router, admitted.shard);
                let key = plane.add_connection(admitted.id, admitted.purpose, is_initiator, engine);
                world.under_way.insert(key, 0);
                End { router, life, shard: admitted.shard, key, id: admitted.id }
            },
        );
        let is_control = dialled.purpose != Purpose::Data;
        if is_control {
            self.links[link.0].control = Some(pipe);
        }
        self.pipes.push(Pipe { link, is_control, ends, is_open: true });
        for End { router, shard, key, .. } in ends {
            let (plane, world) = self.shard(router, shard);
            plane.received(world, key, &[]);
            self.settle(router, shard);
            self.act(router);
        }
    }

    /// The connection of a link that stands for it in the tables of its ends.
    pub fn table_link(&self, link: LinkName, router: RouterName) -> Option<LinkId> {
        let pipes = self.links[link.0].pipes.iter().map(|pipe| &self.pipes[*pipe]);
        let control = pipes.into_iter().find(|pipe| pipe.is_control)?;
        control.ends.iter().find(|end| end.router == router).map(|end| LinkId(end.id.0))
    }

    /// The cost of a link.
    ///
    /// # Panics
    /// If the link was made with a cost of 0.
    pub fn cost(&self, link: LinkName) -> Cost {
        Cost::new(self.links[link.0].cost).expect("a cost above 0")
    }
}

/// What the accepting end learnt, and what the dialling end did.
fn exchange_opens(near: &mut amqp::Connection, far: &mut amqp::Connection) -> Option<(Announcement, Announcement)> {
    let (mut far_learnt, mut near_learnt) = (None, None);
    for _ in 0..10 {
        far_learnt = far_learnt.or(feed(near, far));
        near_learnt = near_learnt.or(feed(far, near));
    }
    Some((far_learnt?, near_learnt?))
}

fn feed(from: &mut amqp::Connection, to: &mut amqp::Connection) -> Option<Announcement> {
    let octets = from.output().to_vec();
    from.clear_output();
    let mut input = octets.as_slice();
    let mut learnt = None;
    while let Ok(Some(event)) = to.next(&mut input) {
        match event {
            Event::Authenticate(_) => to.authenticate(true).ok()?,
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
