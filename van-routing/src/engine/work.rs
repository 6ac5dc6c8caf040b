//! What an engine does by itself, when the time has come.
//!
//! Source: docs/wire.md §4.2 and §4.4.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tracing::debug;

use super::{Destination, Engine, Output};
use crate::{
    Hello, LinkStateRequest, LinkStateUpdate, Message, MobileAddressRequest, MobileAddressUpdate, RouterAdvertisement,
    RouterId, Table, Topology, neighbor::Adjacency, schedule::Paced,
};

impl Engine {
    /// Does all that is due, and sets the time for what is next.
    pub(super) fn work(&mut self, now: Instant) {
        self.expire(now);
        self.send_hellos(now);
        let is_changed = self.path_work.take_due(now) && self.compute_paths(now);
        let is_due = self.advertise_at().is_some_and(|at| at <= now);
        // What we have to tell goes out before the advertisement that carries its number. The other way round,
        // every router would see that it is behind, and ask us.
        if is_changed {
            self.send_link_state(Destination::Flood);
        }
        let has_news = self.address_work.take_due(now) && self.send_addresses();
        if is_changed || has_news {
            let gap = self.stretched(self.timing.advertisement_holdoff);
            self.advertisement_work.ask(now, gap);
        }
        if self.advertisement_work.take_due(now) || is_due {
            self.send_advertisement(now);
        }
        self.send_requests(now);
        self.wake_at = self.remotes.values().filter_map(|remote| remote.poll_timeout(&self.timing)).min();
        self.wake_by(self.next_work());
    }

    /// Does what has become due, if anything has.
    pub(super) fn react(&mut self, now: Instant) {
        self.wake_by(self.next_work());
        self.handle_timeout(now);
    }

    pub(super) fn wake_by(&mut self, at: Option<Instant>) {
        self.wake_at = [self.wake_at, at].into_iter().flatten().min();
    }

    pub(super) fn ask_for_path_work(&mut self, now: Instant) {
        let gap = self.stretched(self.timing.path_holdoff);
        self.path_work.ask(now, gap);
    }

    pub(super) fn ask_for_address_work(&mut self, now: Instant) {
        let gap = self.stretched(self.timing.address_holdoff);
        self.address_work.ask(now, gap);
        self.wake_by(self.address_work.due());
    }

    /// Forgets what is too old.
    fn expire(&mut self, now: Instant) {
        let mut is_changed = self.neighbors.expire(now, self.timing.neighbor_max_age());
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        self.remotes.retain(|id, remote| {
            is_changed |= remote.link_state.expire(now, self.timing.link_state_max_age);
            let is_forgotten = is_due(remote.forgotten_at(&self.timing));
            if is_forgotten || is_due(remote.lost_at(&self.timing)) {
                let removed = remote.addresses.clear(now).into_iter();
                self.outputs.extend(removed.map(|key| Output::AddressRemoved { router: id.clone(), key }));
            }
            if is_forgotten {
                debug!(router = %id, "router forgotten");
            }
            !is_forgotten
        });
        if is_changed {
            self.ask_for_path_work(now);
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

        is_changed
    }

    fn settle_remotes(&mut self, now: Instant) {
        let mut newcomers = Vec::new();
        for (id, remote) in &mut self.remotes {
            if remote.settle(now, self.table.route(id).is_some(), self.table.topology().is_listed(id)) {
                newcomers.push(id.clone());
            }
        }
        newcomers.iter().for_each(|id| self.answer(id));
    }

    /// Answers what a router has asked, as soon as there is a way to it.
    pub(super) fn answer(&mut self, router: &RouterId) {
        let Some(remote) = self.remotes.get_mut(router).filter(|remote| remote.is_reachable()) else {
            return;
        };
        let questions = std::mem::take(&mut remote.questions);
        if questions.link_state {
            self.send_link_state(Destination::Router(router.clone()));
        }
        let (id, mobile_seq) = (self.id.clone(), self.addresses.seq());
        // Who knows nothing yet is also told that there is nothing.
        if questions.addresses_since.is_some_and(|seq| seq < mobile_seq || seq == 0) {
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
            if remote.link_state.request.take_due(now, retry) {
                transmit(to, Message::LinkStateRequest(LinkStateRequest { id: id.clone() }));
            }
            if remote.addresses.request.take_due(now, retry) {
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
        let update = MobileAddressUpdate { id, mobile_seq, addresses };
        self.transmit(Destination::Tree, Message::MobileAddressUpdate(update));
        true
    }

    fn send_advertisement(&mut self, now: Instant) {
        self.advertised_at = now;
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
        let quiet = timing.advertisement_interval;
        let is_flux = self.advertised_at < self.flux_until;
        let interval = if is_flux { quiet.min(self.stretched(timing.flux_advertisement_interval)) } else { quiet };
        (!self.adjacencies.is_empty()).then(|| self.advertised_at + interval)
    }

    /// A time as it is in a network of this size: what each tells all must not keep the others from everything else.
    pub(super) fn stretched(&self, time: Duration) -> Duration {
        time * (self.remotes.len() / Self::CROWD).max(1) as u32
    }

    /// When there is something to do that is not about a remote router.
    fn next_work(&self) -> Option<Instant> {
        let hello = self.neighbors.poll_timeout(self.timing.neighbor_max_age());
        let work = [&self.path_work, &self.address_work, &self.advertisement_work].map(Paced::due);
        work.into_iter().chain([hello, self.advertise_at()]).flatten().min()
    }

    pub(super) fn transmit(&mut self, to: Destination, message: Message) {
        self.outputs.push_back(Output::Transmit { to, message });
    }
}
