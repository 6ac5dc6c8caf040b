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
    AddressKey, Cost, Destination, Engine, LinkId, Message, MobileAddress, Output, Peers, RouterId, Table, Timing,
    Topology,
};

use crate::rng::Rng;

pub(crate) struct Network {
    start: Instant,
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) routers: Vec<Router>,
    pub(crate) cables: Vec<Cable>,
    loss_percent: usize,
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
    /// Whether it behaves as skupper-router does: forwards by the letter of wire.md §6.5 to §6.8, speaks of its
    /// own accord only once a second, and does not tell its link state unasked.
    pub(crate) is_stock: bool,
    pub(crate) addresses: BTreeSet<AddressKey>,
    /// What the engine told about other routers' addresses.
    pub(crate) known: BTreeMap<RouterId, BTreeSet<AddressKey>>,
    wake_at: Option<Instant>,
}

/// A connection between two routers; both call it by the same [`LinkId`], its index.
#[derive(Clone, Copy)]
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
    Originate { router: usize, to: Destination, message: Message },
    Arrive { cable: usize, life: usize, from_end: usize, packet: Arc<Packet> },
}

struct Packet {
    to: Destination,
    trace: Vec<RouterId>,
    message: Arc<Message>,
}

impl Network {
    pub(crate) fn new(start: Instant, seed: u64, loss_percent: usize) -> Self {
        Self {
            start,
            now: start,
            rng: Rng::new(seed),
            routers: Vec::new(),
            cables: Vec::new(),
            loss_percent,
            sent: 0,
            duplicates: 0,
            events: BTreeMap::new(),
            scheduled: 0,
        }
    }

    /// Adds a router that is down.
    pub(crate) fn add_router(&mut self, id: &str, is_stock: bool) {
        self.routers.push(Router {
            id: RouterId::new(id).expect("a valid id"),
            engine: None,
            instance: 1_000_000,
            is_stock,
            addresses: BTreeSet::new(),
            known: BTreeMap::new(),
            wake_at: None,
        });
    }

    /// Adds a cable that is down.
    pub(crate) fn add_cable(&mut self, ends: [usize; 2], costs: [u32; 2]) {
        let delay = Duration::from_micros(200 + 10 * self.rng.below(1000) as u64);
        let busy_until = [self.now; 2];
        self.cables.push(Cable { ends, costs, carries: [true; 2], is_up: false, delay, busy_until, life: 0 });
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
                Event::Originate { router, to, message } => self.originate(router, to, message),
                Event::Arrive { cable, life, from_end, packet } => {
                    if self.cables[cable].life == life {
                        self.arrive(self.cables[cable].ends[1 - from_end], cable, &packet);
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
            let Router { is_stock, known, .. } = &mut self.routers[router];
            match output {
                Output::Transmit { to, message } if *is_stock => self.tick(router, to, message),
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

    /// Has a stock router answer at once, and say all else at its next tick.
    fn tick(&mut self, router: usize, to: Destination, message: Message) {
        match (&to, &message) {
            (Destination::Flood, Message::LinkStateUpdate(_)) => {}
            (_, Message::LinkStateUpdate(_)) | (Destination::Router(_), Message::MobileAddressUpdate(_)) => {
                self.originate(router, to, message);
            }
            _ => {
                let phase = Duration::from_millis(37 * router as u64);
                let ticks = (self.now - self.start + phase).as_secs() + 1;
                let at = self.start + Duration::from_secs(ticks) - phase;
                self.schedule(at, Event::Originate { router, to, message });
            }
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
        self.send(router, links, to, &[], Arc::new(message));
    }

    fn arrive(&mut self, router: usize, cable: usize, packet: &Packet) {
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
        let links = if is_stock { stock_forward(engine.table(), packet) } else { forward(engine, now, packet) };
        self.send(router, links, packet.to.clone(), &packet.trace, packet.message.clone());
        self.drain(router);
    }

    fn send(&mut self, router: usize, links: Vec<LinkId>, to: Destination, trace: &[RouterId], message: Arc<Message>) {
        let trace = trace.iter().chain([&self.routers[router].id]).cloned().collect();
        let packet = Arc::new(Packet { to, trace, message });
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
        let Cable { ends, carries, is_up, .. } = self.cables[cable];
        is_up && carries == [true; 2] && ends.iter().all(|&end| self.routers[end].engine.is_some())
    }

    pub(crate) fn cables_of(&self, router: usize, filter: impl Fn(&Cable) -> bool) -> Vec<usize> {
        let is_wanted = |(_, cable): &(usize, &Cable)| cable.ends.contains(&router) && filter(cable);
        self.cables.iter().enumerate().filter(is_wanted).map(|(index, _)| index).collect()
    }

    /// The best cable from a router to each of its neighbours.
    fn adjacencies(&self, router: usize) -> BTreeMap<RouterId, (Cost, LinkId)> {
        let mut best: BTreeMap<RouterId, (Cost, LinkId)> = BTreeMap::new();
        for cable in self.cables_of(router, |_| true).into_iter().filter(|&cable| self.works(cable)) {
            let Cable { ends, costs, .. } = self.cables[cable];
            let end = usize::from(ends[0] != router);
            let this = (Cost::new(costs[end]).expect("a valid cost"), link_id(cable));
            let neighbor = self.routers[ends[1 - end]].id.clone();
            best.entry(neighbor).and_modify(|best| *best = this.min(*best)).or_insert(this);
        }
        best
    }

    /// What all running routers ought to list.
    pub(crate) fn link_states(&self) -> BTreeMap<RouterId, Peers> {
        let running = (0..self.routers.len()).filter(|&router| self.routers[router].engine.is_some());
        let peers = |router| self.adjacencies(router).into_iter().map(|(id, (cost, _))| (id, cost)).collect();
        running.map(|router| (self.routers[router].id.clone(), peers(router))).collect()
    }

    /// The tables all routers ought to have; none for those that are down.
    pub(crate) fn expected_tables(&self) -> Vec<Option<Table>> {
        let truth = self.link_states();
        let table = |router: usize| {
            let links = self.adjacencies(router).into_iter().map(|(id, (_, link))| (id, link)).collect();
            Table::new(self.routers[router].id.clone(), Topology::new(&truth), links)
        };
        let is_running = |router: usize| self.routers[router].engine.is_some();
        (0..self.routers.len()).map(|router| is_running(router).then(|| table(router))).collect()
    }

    /// Looks for a difference between what routers believe and what is true.
    pub(crate) fn compare(&self, expected: &[Option<Table>]) -> Result<(), String> {
        for (router, expected) in std::iter::zip(&self.routers, expected) {
            let (Some(engine), Some(expected)) = (&router.engine, expected) else { continue };
            if !engine.table().routes().eq(expected.routes()) {
                let routes = |table: &Table| table.routes().map(|(id, route)| (id.clone(), route.clone())).collect();
                let (actual, expected): (Vec<_>, Vec<_>) = (routes(engine.table()), routes(expected));
                return Err(format!("{} has routes {actual:?}, not {expected:?}", router.id));
            }
            let is_known = |id| engine.table().topology().peers(id).eq(expected.topology().peers(id));
            if let Some((other, _)) = expected.routes().find(|(id, _)| !is_known(id)) {
                return Err(format!("{} knows an old link state of {other}", router.id));
            }
            // Of two routers with the same id the one that is up counts.
            let counts = |other: &&Router| other.engine.is_some() || expected.route(&other.id).is_none();
            for other in self.routers.iter().filter(|other| other.id != router.id).filter(counts) {
                let known = router.known.get(&other.id).into_iter().flatten();
                let truth = expected.route(&other.id).into_iter().flat_map(|_| &other.addresses);
                if !known.eq(truth) {
                    return Err(format!("{} knows {:?} of {}", router.id, router.known.get(&other.id), other.id));
                }
            }
        }
        Ok(())
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
