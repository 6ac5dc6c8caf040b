//! The state machine that ties it all together.

mod output;
mod receive;
mod work;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

pub use self::{
    output::{Destination, Output},
    receive::MessageError,
};
use crate::{
    AddressKey, Cost, LinkId, LinkState, Message, MobileAddress, RouterId, Table, Timing, Topology,
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
    advertisement_work: Paced,
    flux_until: Instant,
    advertised_at: Instant,
    conflict: Conflict,
    wake_at: Option<Instant>,
    outputs: VecDeque<Output>,
}

impl Engine {
    /// For so many other routers what changes is told as soon as it can be; for twice as many half as often.
    const CROWD: usize = 40;

    /// How many hops more than the best way an advertisement may have made to count as repeated by its router. One that was
    /// long on its way has made more.
    const DETOUR: u32 = 2;

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
            path_work: Paced::default(),
            address_work: Paced::default(),
            advertisement_work: Paced::default(),
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
            self.ask_for_path_work(now);
        }
        self.react(now);
    }

    /// A control link is gone.
    pub fn handle_link_down(&mut self, now: Instant, link: LinkId) {
        if self.neighbors.link_down(link) {
            self.ask_for_path_work(now);
        }
        self.react(now);
    }

    /// The time has come that [`poll_timeout`](Self::poll_timeout) returned.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.wake_at.is_some_and(|at| at <= now) {
            self.work(now);
        }
    }

    /// Makes an address known to all routers as reachable here.
    ///
    /// The update leaves with the next [`handle_timeout`](Self::handle_timeout), and so do all other changes
    /// made until then.
    pub fn advertise(&mut self, now: Instant, address: MobileAddress) {
        self.addresses.advertise(address);
        self.ask_for_address_work(now);
    }

    /// Takes back [`advertise`](Self::advertise).
    pub fn withdraw(&mut self, now: Instant, key: &AddressKey) {
        self.addresses.withdraw(key);
        self.ask_for_address_work(now);
    }

    /// The next thing to do or to know, oldest first.
    ///
    /// Outputs are kept until they are polled.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The links on which a flooded message of another router goes on.
    ///
    /// `trace` names the routers it has passed. Ask after [`handle_message`](Self::handle_message) has taken it
    /// in: then this can tell news from copies, of which every router sees many, and most go nowhere.
    pub fn flood(&mut self, now: Instant, message: &Message, trace: &[RouterId]) -> Vec<LinkId> {
        let remote = self.remotes.get_mut(message.sender());
        let Some((flood, version)) = remote.and_then(|remote| remote.flood(message)) else {
            return Vec::new();
        };
        let hops = self.table.route(message.sender()).map_or(u32::MAX, |route| route.hops);
        let is_direct = trace.len() <= hops.saturating_add(Self::DETOUR) as usize;
        let memory = match message {
            Message::RouterAdvertisement(_) if is_direct => self.timing.flood_memory,
            _ => Duration::MAX, // it is not repeated, or the repetition has come a shorter way
        };
        flood.pass(now, memory, version, trace.len(), self.table.flood(trace))
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called; never, if there is nothing to wait for.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wake_at
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

    /// The life of each other router that has told of itself: see [`Engine::new`].
    pub fn instances(&self) -> impl Iterator<Item = (&RouterId, u64)> {
        self.remotes.iter().filter_map(|(id, remote)| Some((id, remote.instance()?)))
    }

    /// The addresses known to be reachable at another router.
    pub fn addresses(&self, router: &RouterId) -> impl Iterator<Item = &MobileAddress> {
        self.remotes.get(router).into_iter().flat_map(|remote| remote.addresses.iter())
    }
}
