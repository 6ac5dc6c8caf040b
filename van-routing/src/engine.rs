//! The state machine that ties it all together.

mod output;
mod receive;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Instant,
};

pub use self::output::{Destination, Output};
pub use self::receive::MessageError;
use crate::{
    AddressKey, Cost, Hello, LinkId, LinkState, LinkStateRequest, LinkStateUpdate, Message, MobileAddress,
    MobileAddressRequest, MobileAddressUpdate, RouterAdvertisement, RouterId, Table, Timing, Topology,
    mobile::LocalAddresses,
    neighbor::{Adjacency, Neighbors},
    remote::{Conflict, Remote},
    schedule::Paced,
};

/// The routing protocol of one router, without I/O.
///
/// There are three kinds of methods, and an order to call them in:
///
/// 1. `handle_*`, [`advertise`](Self::advertise) and [`withdraw`](Self::withdraw) tell it what happened. They
///    take the time, which must never run backwards.
/// 2. Then [`poll_output`](Self::poll_output), until it returns nothing: messages to send, and news.
/// 3. Then [`poll_timeout`](Self::poll_timeout): the time at which [`handle_timeout`](Self::handle_timeout) is
///    to be called, which may have passed already. Calling it late delays the protocol, calling it early does
///    nothing.
///
/// Messages of others that only pass through do so by [`table`](Self::table) and [`flood`](Self::flood).
#[derive(Debug)]
pub struct Engine {
    id: RouterId,
    instance: u64,
    timing: Timing,
    neighbors: Neighbors,
    adjacencies: BTreeMap<RouterId, Adjacency>,
    link_state: LinkState,
    addresses: LocalAddresses,
    remotes: BTreeMap<RouterId, Remote>,
    table: Arc<Table>,
    path_work: Paced,
    address_work: Paced,
    has_newcomers: bool,
    flux_until: Instant,
    advertised_at: Instant,
    conflict: Conflict,
    wake_at: Option<Instant>,
    outputs: VecDeque<Output>,
}

impl Engine {
    /// The most other routers an engine gets to know; messages that would bring more are refused.
    ///
    /// Memory and the time for a computation of paths are at worst proportional to this times
    /// [`LinkState::MAX_PEERS`]. skupper-router knows 127 others.
    pub const MAX_ROUTERS: usize = 1024;

    /// Starts router `id`.
    ///
    /// `instance` names this life of the router: other routers forget all about a former life when they see
    /// another number. It should be greater after every restart; seconds since 1970 will do.
    pub fn new(id: RouterId, instance: u64, timing: Timing, now: Instant) -> Self {
        Self {
            instance,
            neighbors: Neighbors::default(),
            adjacencies: BTreeMap::new(),
            link_state: LinkState::default(),
            addresses: LocalAddresses::default(),
            remotes: BTreeMap::new(),
            table: Arc::new(Table::new(id.clone(), Topology::new([]), BTreeMap::new())),
            path_work: Paced::new(timing.path_holdoff),
            address_work: Paced::new(timing.address_holdoff),
            has_newcomers: false,
            flux_until: now,
            advertised_at: now,
            conflict: Conflict::new(now),
            wake_at: None,
            outputs: VecDeque::new(),
            timing,
            id,
        }
    }

    /// A control link can carry messages now, or its cost has changed.
    ///
    /// The router at the other end is found out by itself. There may be several links to one: the cheapest is
    /// used, then the one with the lowest [`LinkId`].
    pub fn handle_link_up(&mut self, now: Instant, link: LinkId, cost: Cost) {
        if self.neighbors.link_up(now, link, cost) {
            self.path_work.ask(now);
        }
        self.react(now);
    }

    /// A control link is gone.
    pub fn handle_link_down(&mut self, now: Instant, link: LinkId) {
        if self.neighbors.link_down(link) {
            self.path_work.ask(now);
        }
        self.react(now);
    }

    /// The time has come that [`poll_timeout`](Self::poll_timeout) returned.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.wake_at.is_none_or(|at| now < at) {
            return;
        }
        self.expire(now);
        self.send_hellos(now);
        let mut has_news = self.path_work.is_due(now) && self.compute_paths(now);
        self.send_requests(now);
        has_news |= self.address_work.is_due(now) && self.send_addresses();
        if has_news || self.advertise_at().is_some_and(|at| at <= now) {
            self.send_advertisement(now);
        }
        let remotes = self.remotes.values().filter_map(|remote| remote.poll_timeout(&self.timing)).min();
        self.wake_at = None;
        self.wake_by(remotes);
        self.wake_by(self.next_work());
    }

    /// Makes an address known to all routers as reachable here.
    ///
    /// The update leaves with the next [`handle_timeout`](Self::handle_timeout), and so do all other changes
    /// made until then.
    pub fn advertise(&mut self, now: Instant, address: MobileAddress) {
        self.addresses.advertise(address);
        self.address_work.ask(now);
        self.wake_by(self.address_work.due());
    }

    /// Takes back [`advertise`](Self::advertise).
    pub fn withdraw(&mut self, now: Instant, key: &AddressKey) {
        self.addresses.withdraw(key);
        self.address_work.ask(now);
        self.wake_by(self.address_work.due());
    }

    /// The next thing to do or to know, oldest first.
    ///
    /// Outputs are kept until they are polled.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The links on which a flooded message of another router goes on.
    ///
    /// `trace` names the routers the message has passed. To be called after
    /// [`handle_message`](Self::handle_message): then it can tell news from copies, of which every router
    /// sees many, and the links are few.
    pub fn flood(&mut self, now: Instant, message: &Message, trace: &[RouterId]) -> BTreeSet<LinkId> {
        let Some(remote) = self.remotes.get_mut(message.sender()) else {
            return BTreeSet::new();
        };
        let (flood, version) = match message {
            Message::RouterAdvertisement(RouterAdvertisement { instance, ls_seq, mobile_seq, .. }) => {
                let is_current = remote.instance() == Some(*instance);
                let flood = if is_current { &mut remote.advertisements } else { &mut remote.former_advertisements };
                (flood, (*instance, *ls_seq, *mobile_seq))
            }
            Message::LinkStateUpdate(update) => (&mut remote.link_states, (update.instance, update.link_state.seq, 0)),
            _ => return BTreeSet::new(),
        };
        flood.pass(now, self.timing.flood_memory, version, trace.len(), self.table.flood(trace))
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called; never, if there is nothing to wait for.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wake_at
    }

    pub fn dbg(&self, id: &RouterId) -> String {
        format!("{:?} {:#?}", self.table.valid_origins(id).collect::<Vec<_>>(), self.remotes.get(id))
    }
    /// The current routes.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The id of this router.
    pub fn id(&self) -> &RouterId {
        &self.id
    }

    /// Who our neighbours are, as we tell the others.
    pub fn link_state(&self) -> &LinkState {
        &self.link_state
    }

    /// The addresses known to be reachable at another router.
    pub fn addresses(&self, router: &RouterId) -> impl Iterator<Item = &MobileAddress> {
        self.remotes.get(router).into_iter().flat_map(|remote| remote.addresses.iter())
    }
}

// === the steps of handle_timeout ===

impl Engine {
    fn expire(&mut self, now: Instant) {
        let mut is_changed = self.neighbors.expire(now, self.timing.neighbor_max_age());
        for (id, remote) in &mut self.remotes {
            is_changed |= remote.link_state.expire(now, self.timing.link_state_max_age);
            if remote.lost_at(&self.timing).is_some_and(|at| at <= now) {
                let removed = remote.addresses.clear(now).into_iter();
                self.outputs.extend(removed.map(|key| Output::AddressRemoved { router: id.clone(), key }));
            }
        }
        self.remotes.retain(|_, remote| remote.forgotten_at(&self.timing).is_none_or(|at| at > now));
        if is_changed {
            self.path_work.ask(now);
        }
    }

    fn send_hellos(&mut self, now: Instant) {
        while let Some((link, seen)) = self.neighbors.poll_hello(now, self.timing.hello_interval) {
            let hello = Hello { id: self.id.clone(), instance: self.instance, seen };
            self.transmit(Destination::Link(link), Message::Hello(hello));
        }
    }

    /// Computes a new table; `true` if our own link state is a new one.
    fn compute_paths(&mut self, now: Instant) -> bool {
        let adjacencies = self.neighbors.adjacencies();
        self.report_neighbors(&adjacencies);
        self.adjacencies = adjacencies;
        let peers = self.adjacencies.iter().map(|(id, adjacency)| (id.clone(), adjacency.cost)).collect();
        let is_changed = self.link_state.change(peers);

        let known = self.remotes.iter().filter_map(|(id, remote)| Some((id, remote.link_state.peers()?)));
        let topology = Topology::new(known.chain([(&self.id, &self.link_state.peers)]));
        let links = self.adjacencies.iter().map(|(id, adjacency)| (id.clone(), adjacency.link)).collect();
        self.table = Arc::new(Table::new(self.id.clone(), topology, links));
        self.flux_until = now + self.timing.flux;
        self.outputs.push_back(Output::TableChanged);
        self.settle_remotes(now);

        // The link state goes out before the advertisement that carries its number. The other way round, every
        // router would see that it is behind, and ask us.
        if is_changed {
            self.send_link_state(Destination::Flood);
        }
        is_changed
    }

    fn settle_remotes(&mut self, now: Instant) {
        let mut newcomers = Vec::new();
        for (id, remote) in &mut self.remotes {
            if remote.settle(now, self.table.route(id).is_some(), self.table.topology().is_listed(id)) {
                newcomers.push(id.clone());
            }
        }
        for id in newcomers {
            self.answer(&id);
            self.has_newcomers = true;
        }
    }

    /// Answers what a router has asked, as soon as there is a way to it.
    fn answer(&mut self, router: &RouterId) {
        let Some(remote) = self.remotes.get_mut(router).filter(|remote| remote.is_reachable()) else {
            return;
        };
        let questions = std::mem::take(&mut remote.questions);
        if questions.link_state {
            self.send_link_state(Destination::Router(router.clone()));
        }
        let (id, mobile_seq) = (self.id.clone(), self.addresses.seq());
        if questions.addresses_since.is_some_and(|seq| seq < mobile_seq) {
            let update = MobileAddressUpdate { id, mobile_seq, addresses: self.addresses.absolute() };
            self.transmit(Destination::Router(router.clone()), Message::MobileAddressUpdate(update));
        }
    }

    fn report_neighbors(&mut self, new: &BTreeMap<RouterId, Adjacency>) {
        let lost = self.adjacencies.keys().filter(|id| !new.contains_key(*id));
        self.outputs.extend(lost.map(|id| Output::NeighborDown { neighbor: id.clone() }));
        let found = new.iter().filter(|(id, adjacency)| self.adjacencies.get(*id) != Some(adjacency));
        self.outputs.extend(found.map(|(id, &Adjacency { link, cost })| {
            let neighbor = id.clone();
            Output::NeighborUp { neighbor, link, cost }
        }));
    }

    fn send_link_state(&mut self, to: Destination) {
        let (id, link_state) = (self.id.clone(), self.link_state.clone());
        self.transmit(to, Message::LinkStateUpdate(LinkStateUpdate { id, instance: self.instance, link_state }));
    }

    fn send_requests(&mut self, now: Instant) {
        let retry = self.timing.request_retry;
        let mut transmit = |to: &RouterId, message| {
            self.outputs.push_back(Output::Transmit { to: Destination::Router(to.clone()), message });
        };
        for (to, remote) in self.remotes.iter_mut().filter(|(_, remote)| remote.is_reachable()) {
            let id = self.id.clone();
            if remote.link_state.request.is_due(now, retry) {
                transmit(to, Message::LinkStateRequest(LinkStateRequest { id: id.clone() }));
            }
            if remote.addresses.request.is_due(now, retry) {
                let have_seq = remote.addresses.seq();
                transmit(to, Message::MobileAddressRequest(MobileAddressRequest { id, have_seq }));
            }
        }
    }

    /// Sends what changed of our addresses; `false` if that is nothing.
    fn send_addresses(&mut self) -> bool {
        let Some(addresses) = self.addresses.differential() else {
            return false;
        };
        let (id, mobile_seq) = (self.id.clone(), self.addresses.seq());
        // This, too, goes out before the advertisement.
        let update = MobileAddressUpdate { id, mobile_seq, addresses };
        self.transmit(Destination::Tree, Message::MobileAddressUpdate(update));
        true
    }

    fn send_advertisement(&mut self, now: Instant) {
        self.advertised_at = now;
        self.has_newcomers = false;
        let advertisement = RouterAdvertisement {
            id: self.id.clone(),
            instance: self.instance,
            ls_seq: self.link_state.seq,
            mobile_seq: self.addresses.seq(),
        };
        self.transmit(Destination::Flood, Message::RouterAdvertisement(advertisement));
    }

    /// When to advertise ourselves although nothing changed here: never, if nobody is there to read it.
    fn advertise_at(&self) -> Option<Instant> {
        let timing = &self.timing;
        let is_flux = self.advertised_at + timing.flux_advertisement_interval <= self.flux_until;
        let interval = match (self.has_newcomers, is_flux) {
            (true, _) => timing.flood_memory * 2,
            (false, true) => timing.flux_advertisement_interval,
            (false, false) => timing.advertisement_interval,
        };
        (!self.adjacencies.is_empty()).then(|| self.advertised_at + interval)
    }

    /// When there is something to do that is not about a remote router.
    fn next_work(&self) -> Option<Instant> {
        let hello = self.neighbors.poll_timeout(self.timing.neighbor_max_age());
        [hello, self.path_work.due(), self.address_work.due(), self.advertise_at()].into_iter().flatten().min()
    }

    /// Does what has become due, if anything has.
    fn react(&mut self, now: Instant) {
        self.wake_by(self.next_work());
        self.handle_timeout(now);
    }

    fn wake_by(&mut self, at: Option<Instant>) {
        self.wake_at = [self.wake_at, at].into_iter().flatten().min();
    }

    fn transmit(&mut self, to: Destination, message: Message) {
        self.outputs.push_back(Output::Transmit { to, message });
    }
}
