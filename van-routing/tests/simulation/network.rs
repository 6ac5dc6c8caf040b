//! Routers and the cables between them, on one virtual clock.
//!
//! Messages are not encoded, but they travel as on the wire: hop by hop, each router forwarding the messages
//! of others by its own table, and dropping those that have come too far.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use van_routing::{
    AddressKey, Cost, Destination, Engine, LinkId, Message, MobileAddress, Output, RouterId, Table, Timing, Topology,
};

use super::rng::Rng;

pub(crate) struct Network {
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) routers: Vec<Router>,
    pub(crate) cables: Vec<Cable>,
    /// How many of a hundred messages are lost on each cable.
    pub(crate) loss_percent: usize,
    /// How many messages went over cables so far.
    pub(crate) sent: usize,
    /// How often an engine reported a duplicate id.
    pub(crate) duplicates: usize,
    events: BTreeMap<(Instant, usize), Event>,
    scheduled: usize,
}

pub(crate) struct Router {
    pub(crate) id: RouterId,
    /// None while the router is down.
    pub(crate) engine: Option<Engine>,
    pub(crate) instance: u64,
    /// Whether it forwards the messages of others as skupper-router does.
    pub(crate) is_stock: bool,
    pub(crate) addresses: BTreeSet<AddressKey>,
    /// What the engine told about other routers' addresses.
    pub(crate) known: BTreeMap<RouterId, BTreeSet<AddressKey>>,
    wake_at: Option<Instant>,
}

/// A connection between two routers; both call it by the same [`LinkId`], its index.
pub(crate) struct Cable {
    pub(crate) ends: [usize; 2],
    /// What a hop costs, seen from either end.
    pub(crate) costs: [u32; 2],
    /// Whether messages get through, from either end.
    pub(crate) carries: [bool; 2],
    /// Whether the engines at its ends have been told that it is up.
    pub(crate) is_up: bool,
    delay: Duration,
    /// When the last message gets to the other end; none overtakes it.
    busy_until: [Instant; 2],
    /// Messages sent before the cable went down do not arrive after.
    life: usize,
}

enum Event {
    Wake(usize),
    Arrive { cable: usize, life: usize, from_end: usize, packet: Packet },
}

#[derive(Clone)]
struct Packet {
    to: Destination,
    trace: Vec<RouterId>,
    message: Arc<Message>,
}

impl Network {
    pub(crate) fn new(start: Instant, seed: u64) -> Self {
        Self {
            now: start,
            rng: Rng::new(seed),
            routers: Vec::new(),
            cables: Vec::new(),
            loss_percent: 0,
            sent: 0,
            duplicates: 0,
            events: BTreeMap::new(),
            scheduled: 0,
        }
    }

    /// Adds a router that is down.
    pub(crate) fn add_router(&mut self, id: &str) -> usize {
        let id = RouterId::new(id).expect("a valid id");
        let (addresses, known) = (BTreeSet::new(), BTreeMap::new());
        self.routers.push(Router {
            id,
            engine: None,
            instance: 1_000_000,
            is_stock: false,
            addresses,
            known,
            wake_at: None,
        });
        self.routers.len() - 1
    }

    /// Adds a cable that is down.
    pub(crate) fn add_cable(&mut self, ends: [usize; 2], costs: [u32; 2]) -> usize {
        let delay = Duration::from_micros(200 + 10 * self.rng.below(1000) as u64);
        let busy_until = [self.now; 2];
        self.cables.push(Cable { ends, costs, carries: [true; 2], is_up: false, delay, busy_until, life: 0 });
        self.cables.len() - 1
    }

    // === what may happen ===

    /// Starts a router, without links but with the addresses it had.
    pub(crate) fn boot(&mut self, router: usize) {
        let this = &mut self.routers[router];
        let mut engine = Engine::new(this.id.clone(), this.instance, Timing::default(), self.now);
        for key in &this.addresses {
            engine.advertise(self.now, MobileAddress::new(key.clone()));
        }
        this.engine = Some(engine);
        this.known.clear();
        self.drain(router);
    }

    /// Stops a router. Its neighbours notice by themselves, or do not.
    pub(crate) fn crash(&mut self, router: usize) {
        self.routers[router].engine = None;
        self.routers[router].instance += 1;
        self.routers[router].wake_at = None;
    }

    /// Tells both ends that a cable is up, or that its cost changed.
    pub(crate) fn connect(&mut self, cable: usize) {
        self.cables[cable].is_up = true;
        for end in [0, 1] {
            let (router, cost) = (self.cables[cable].ends[end], self.cables[cable].costs[end]);
            let (now, cost) = (self.now, Cost::new(cost).expect("a valid cost"));
            self.with_engine(router, |engine| engine.handle_link_up(now, link_id(cable), cost));
        }
    }

    /// Tells both ends that a cable is down.
    pub(crate) fn disconnect(&mut self, cable: usize) {
        self.cables[cable].is_up = false;
        self.cables[cable].life += 1;
        for router in self.cables[cable].ends {
            let now = self.now;
            self.with_engine(router, |engine| engine.handle_link_down(now, link_id(cable)));
        }
    }

    pub(crate) fn advertise(&mut self, router: usize, key: &AddressKey) {
        let now = self.now;
        self.routers[router].addresses.insert(key.clone());
        self.with_engine(router, |engine| engine.advertise(now, MobileAddress::new(key.clone())));
    }

    pub(crate) fn withdraw(&mut self, router: usize, key: &AddressKey) {
        let now = self.now;
        self.routers[router].addresses.remove(key);
        self.with_engine(router, |engine| engine.withdraw(now, key));
    }

    // === the passing of time ===

    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            match event {
                Event::Wake(router) => self.wake(router),
                Event::Arrive { cable, life, from_end, packet } => {
                    if self.cables[cable].life == life {
                        self.arrive(self.cables[cable].ends[1 - from_end], cable, packet);
                    }
                }
            }
        }
        self.now = end;
    }

    fn schedule(&mut self, at: Instant, event: Event) {
        self.scheduled += 1;
        self.events.insert((at, self.scheduled), event);
    }

    fn wake(&mut self, router: usize) {
        if self.routers[router].wake_at.is_some_and(|at| at <= self.now) {
            self.routers[router].wake_at = None;
            let now = self.now;
            self.with_engine(router, |engine| engine.handle_timeout(now));
        }
    }

    fn with_engine(&mut self, router: usize, action: impl FnOnce(&mut Engine)) {
        if let Some(engine) = &mut self.routers[router].engine {
            action(engine);
            self.drain(router);
        }
    }

    /// Carries out what the engine wants.
    fn drain(&mut self, router: usize) {
        while let Some(output) = self.engine(router).and_then(Engine::poll_output) {
            let known = &mut self.routers[router].known;
            match output {
                Output::Transmit { to, message } => self.originate(router, to, message),
                Output::AddressAdded { router, address } => {
                    known.entry(router).or_default().insert(address.key);
                }
                Output::AddressRemoved { router, key } => {
                    let was_known = known.get_mut(&router).is_some_and(|keys| keys.remove(&key));
                    assert!(was_known, "{key} was removed from {router} but never added");
                }
                Output::DuplicateId { .. } => self.duplicates += 1,
                Output::TableChanged | Output::NeighborUp { .. } | Output::NeighborDown { .. } => {}
            }
        }
        let Some(at) = self.engine(router).and_then(|engine| engine.poll_timeout()) else { return };
        if self.routers[router].wake_at.is_none_or(|wake_at| at < wake_at) {
            self.routers[router].wake_at = Some(at);
            self.schedule(at.max(self.now), Event::Wake(router));
        }
    }

    fn originate(&mut self, router: usize, to: Destination, message: Message) {
        let Some(engine) = &self.routers[router].engine else { return };
        let links: Vec<_> = match &to {
            Destination::Link(link) => vec![*link],
            Destination::Flood => engine.table().flood(&[]),
            Destination::Tree => engine.table().tree(engine.id(), &[]),
            Destination::Router(id) => engine.table().route(id).map(|route| route.link).into_iter().collect(),
        };
        self.send(router, links, Packet { to, trace: Vec::new(), message: Arc::new(message) });
    }

    fn arrive(&mut self, router: usize, cable: usize, packet: Packet) {
        let (now, is_stock) = (self.now, self.routers[router].is_stock);
        let Some(engine) = &mut self.routers[router].engine else { return };
        let max_trace = if is_stock { engine.table().radius() as usize + 1 } else { engine.table().max_trace() };
        if packet.trace.len() > max_trace && (is_stock || packet.to != Destination::Flood) {
            return;
        }
        if !matches!(&packet.to, Destination::Router(id) if id != engine.id()) {
            // What is refused is lost; the protocol has to cope.
            let _ = engine.handle_message(now, link_id(cable), &packet.message);
        }
        let links = if is_stock { stock_forward(engine.table(), &packet) } else { forward(engine, now, &packet) };
        self.send(router, links, packet);
        self.drain(router);
    }

    fn send(&mut self, router: usize, links: Vec<LinkId>, mut packet: Packet) {
        packet.trace.push(self.routers[router].id.clone());
        for link in links {
            let index = usize::try_from(link.0).expect("an index");
            self.sent += 1;
            let is_lost = self.loss_percent > 0 && self.rng.percent(self.loss_percent);
            let jitter = Duration::from_micros(self.rng.below(500) as u64);
            let cable = &mut self.cables[index];
            let from_end = usize::from(cable.ends[0] != router);
            if cable.is_up && cable.carries[from_end] && !is_lost {
                let at = cable.busy_until[from_end].max(self.now + cable.delay + jitter);
                cable.busy_until[from_end] = at;
                let life = cable.life;
                self.schedule(at, Event::Arrive { cable: index, life, from_end, packet: packet.clone() });
            }
        }
    }

    fn engine(&mut self, router: usize) -> Option<&mut Engine> {
        self.routers[router].engine.as_mut()
    }

    // === the truth ===

    /// Whether a cable connects two running routers, both ways.
    pub(crate) fn works(&self, cable: usize) -> bool {
        let cable = &self.cables[cable];
        cable.is_up && cable.carries == [true; 2] && cable.ends.iter().all(|&end| self.routers[end].engine.is_some())
    }

    /// The best cable from each router to each of its neighbours.
    pub(crate) fn adjacencies(&self) -> Vec<BTreeMap<RouterId, (Cost, LinkId)>> {
        let mut all = vec![BTreeMap::new(); self.routers.len()];
        for (index, cable) in self.cables.iter().enumerate().filter(|(index, _)| self.works(*index)) {
            for end in [0, 1] {
                let this = (Cost::new(cable.costs[end]).expect("a valid cost"), link_id(index));
                let neighbor = self.routers[cable.ends[1 - end]].id.clone();
                all[cable.ends[end]].entry(neighbor).and_modify(|best| *best = this.min(*best)).or_insert(this);
            }
        }
        all
    }

    /// The tables all routers ought to have; none for those that are down.
    pub(crate) fn expected_tables(&self) -> Vec<Option<Table>> {
        let adjacencies = self.adjacencies();
        let costs = |peers: &BTreeMap<RouterId, (Cost, LinkId)>| {
            peers.iter().map(|(id, &(cost, _))| (id.clone(), cost)).collect()
        };
        let running: BTreeMap<_, _> = std::iter::zip(&self.routers, &adjacencies)
            .filter(|(router, _)| router.engine.is_some())
            .map(|(router, peers)| (router.id.clone(), costs(peers)))
            .collect();
        let table = |(router, peers): (&Router, BTreeMap<RouterId, (Cost, LinkId)>)| {
            let links = peers.into_iter().map(|(id, (_, link))| (id, link)).collect();
            router.engine.as_ref().map(|_| Table::new(router.id.clone(), Topology::new(&running), links))
        };
        std::iter::zip(&self.routers, adjacencies).map(table).collect()
    }
}

/// Where a message of another router goes on.
fn forward(engine: &mut Engine, now: Instant, packet: &Packet) -> Vec<LinkId> {
    match &packet.to {
        Destination::Link(_) => Vec::new(),
        Destination::Flood => engine.flood(now, &packet.message, &packet.trace),
        Destination::Tree => engine.table().tree(&packet.trace[0], &packet.trace),
        Destination::Router(id) => engine.table().route(id).map(|route| route.link).into_iter().collect(),
    }
}

/// The same by the letter of wire.md §6.5 to §6.8.
fn stock_forward(table: &Table, packet: &Packet) -> Vec<LinkId> {
    let origin = &packet.trace[0];
    let passed: Vec<_> = packet.trace.iter().filter_map(|id| Some(table.route(id)?.link)).collect();
    let all: BTreeSet<_> = match &packet.to {
        Destination::Link(_) => BTreeSet::new(),
        Destination::Flood => table.routes().map(|(_, route)| route.link).collect(),
        Destination::Tree => table.tree(origin, &[]).into_iter().collect(),
        Destination::Router(id) => return table.unicast(id, origin).into_iter().collect(),
    };
    all.into_iter().filter(|link| !passed.contains(link)).collect()
}

fn link_id(cable: usize) -> LinkId {
    LinkId(cable as u64)
}
