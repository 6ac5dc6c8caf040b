//! Gathers what all sources tell (docs/wire.md §9.1).
//!
//! Each source's records are kept apart: two may state the same site, and when one is lost the other's word still counts.
//!
//! ```text
//!   beacon ---> known: subscribed ---says something but not everything, or 5 s---> asked, again every 2 min
//!                  |
//!                  '--- 30 s of silence, its router is lost, or back as another source ---> forgotten, with its records
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attribute::Attribute;
use super::message::{MalformedMessage, Message, SourceType};
use super::record::{Record, RecordType};
use super::{BEACONS, Outgoing, SHARED, direct_address, records_address};

/// Sources at once; beacons of more are counted and passed over. As many as there may be routers, each with a controller.
pub const MAX_SOURCES: usize = 2048;

/// Records of one source; more are counted and passed over. Twice the addresses that a router may have.
pub const MAX_RECORDS_PER_SOURCE: usize = 32_768;

/// Records of all sources; more are counted and passed over. As many as 2048 routers with 128 each.
pub const MAX_RECORDS_HELD: usize = 262_144;

/// A source that is silent for so long is gone. Source: skupper `pkg/vanflow`.
const SILENCE: Duration = Duration::from_secs(30);

/// How long a source may take to say something before it is asked, and how soon it is asked for what must have been missed.
/// Source: skupper `pkg/vanflow`.
const FIRST_FLUSH: Duration = Duration::from_secs(5);

/// How long a source that says something may take to tell everything by itself, as it does when it sees that we listen.
const GRACE: Duration = Duration::from_millis(1500);

/// How long after a source told everything it is asked again: what it told may have been dropped on the way. All collectors
/// hear an answer, so together they cause no more of them than one alone.
const REFRESH: Duration = Duration::from_secs(120);

/// How long a source may take to tell everything.
const ROUND: Duration = Duration::from_secs(10);

/// How long an ended record is remembered: longer than copies of older messages take over other paths.
const ENDED: Duration = Duration::from_secs(5);

/// Where controllers send their heartbeats, behind the address of their records.
const HEARTBEATS: &str = ".heartbeats";

/// What a [`Collector`] wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Consume an address.
    Subscribe(Arc<str>),
    /// Consume it no longer.
    Unsubscribe(Arc<str>),
    /// Send a message.
    Send(Outgoing),
    /// Records are other than they were.
    Changed,
}

/// What is known of the network from its records.
///
/// [`Collector::poll_output`] until it is empty, after whatever was called; then [`Collector::poll_timeout`].
#[derive(Debug)]
pub struct Collector {
    /// By the address of their records, which is how most messages name them.
    sources: BTreeMap<Arc<str>, Known>,
    /// How many records they have, ended ones too.
    held: usize,
    /// Ended records, by when they are forgotten.
    ended: VecDeque<(Instant, Arc<str>, Arc<str>)>,
    has_changed: bool,
    dropped: u64,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Known {
    id: Arc<str>,
    source_type: SourceType,
    /// It tells all at the shared address.
    is_shared: bool,
    records: BTreeMap<Arc<str>, Held>,
    heard: Instant,
    has_spoken: bool,
    ask_at: Instant,
    /// How often it has told everything, and when it last began to.
    round: u64,
    round_at: Instant,
}

#[derive(Debug)]
struct Held {
    record: Record,
    /// The round in which it was last mentioned.
    round: u64,
}

impl Default for Collector {
    fn default() -> Self {
        Self::new()
    }
}

impl Collector {
    /// A collector that knows nothing yet.
    pub fn new() -> Self {
        Self {
            sources: BTreeMap::new(),
            held: 0,
            ended: VecDeque::new(),
            has_changed: false,
            dropped: 0,
            outputs: [BEACONS, SHARED].map(|address| Output::Subscribe(address.into())).into(),
        }
    }

    /// Takes a message that came to an address that was subscribed to. One of a source that is not known (yet, or any more) is passed over.
    ///
    /// # Errors
    /// See [`MalformedMessage`]: the source, or a router on the way, is at fault. Nothing has changed.
    pub fn handle_message(&mut self, now: Instant, address: &str, octets: &[u8]) -> Result<(), MalformedMessage> {
        let message = Message::decode(octets)?;
        let address: Arc<str> = match (address, &message) {
            (BEACONS, Message::Beacon { source_type, source, is_shared }) => {
                self.handle_source(now, *source_type, source, *is_shared);
                return Ok(());
            }
            // Whoever speaks there need not make itself known.
            (SHARED, Message::Records { source: Some(source), .. } | Message::Heartbeat { source, .. }) => {
                self.handle_source(now, SourceType::Router, source, true);
                records_address(source)
            }
            _ => address.strip_suffix(HEARTBEATS).unwrap_or(address).into(),
        };
        let Some(known) = self.sources.get_mut(&address) else { return Ok(()) };
        known.heard = now;
        if !std::mem::replace(&mut known.has_spoken, true) {
            known.ask_by(now + GRACE);
        }
        if let Message::Records { records, .. } = message {
            for record in records {
                self.handle_record(now, &address, record);
            }
        }
        Ok(())
    }

    /// Forgets the sources of a router that cannot be reached any more, without waiting for their silence.
    pub fn handle_router_lost(&mut self, router: &str) {
        let lost = self.routers().filter(|(_, record)| record.router_id() == Some(router));
        let lost: Vec<_> = lost.map(|(address, _)| Arc::clone(address)).collect();
        lost.iter().for_each(|address| self.forget(address));
    }

    /// Forgets the sources of all routers but this one: an edge router's, which has lost its way to the network.
    pub fn handle_network_lost(&mut self, own: &str) {
        let kept = self.routers().find(|(_, record)| record.router_id() == Some(own));
        let kept = kept.map(|(address, _)| Arc::clone(address));
        let lost: Vec<_> = self.sources.keys().filter(|address| Some(*address) != kept.as_ref()).cloned().collect();
        lost.iter().for_each(|address| self.forget(address));
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let is_silent = |known: &Known| known.heard + SILENCE <= now;
        let silent = self.sources.iter().filter(|(_, known)| is_silent(known));
        let silent: Vec<_> = silent.map(|(address, _)| Arc::clone(address)).collect();
        silent.iter().for_each(|address| self.forget(address));
        for known in self.sources.values_mut().filter(|known| known.ask_at <= now) {
            self.outputs.push_back(Output::Send(known.ask(now)));
        }
        while let Some((_, address, identity)) = self.ended.pop_front_if(|(at, ..)| *at <= now) {
            let Some(known) = self.sources.get_mut(&address) else { continue };
            if known.records.get(&identity).is_some_and(|held| held.record.has_ended()) {
                known.records.remove(&identity);
                self.held -= 1;
            }
        }
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        let next = self.outputs.pop_front();
        next.or_else(|| std::mem::take(&mut self.has_changed).then_some(Output::Changed))
    }

    /// When to call [`Collector::handle_timeout`]; `None` if nothing will be due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sources = self.sources.values().map(|known| known.ask_at.min(known.heard + SILENCE));
        sources.chain(self.ended.front().map(|(at, ..)| *at)).min()
    }

    /// All that lives, in no order that matters. What several sources state comes once from each.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.sources.values().flat_map(Known::living)
    }

    /// What lives under an identity, in the words of the first source that states it.
    pub fn get(&self, identity: &str) -> Option<&Record> {
        let mut stated = self.sources.values().filter_map(|known| known.records.get(identity));
        stated.find(|held| !held.record.has_ended()).map(|held| &held.record)
    }

    /// How many sources there are.
    pub fn sources(&self) -> usize {
        self.sources.len()
    }

    /// How many beacons and records were passed over because there were too many.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes note of a source that lives.
    fn handle_source(&mut self, now: Instant, source_type: SourceType, id: &Arc<str>, is_shared: bool) {
        let address = records_address(id);
        if let Some(known) = self.sources.get_mut(&address) {
            known.heard = now;
            return;
        }
        if self.sources.len() >= MAX_SOURCES {
            self.dropped += 1;
            return;
        }
        let known = Known {
            id: Arc::clone(id),
            source_type,
            is_shared,
            records: BTreeMap::new(),
            heard: now,
            has_spoken: false,
            ask_at: now + FIRST_FLUSH,
            round: 0,
            round_at: now,
        };
        self.outputs.extend(known.subscriptions(&address).map(Output::Subscribe));
        self.sources.insert(address, known);
    }

    fn handle_record(&mut self, now: Instant, address: &str, patch: Record) {
        // A record before it in the message may have cost the source its place.
        let Some(known) = self.sources.get_mut(address) else { return };
        let identity = Arc::clone(&patch.identity);
        // Of itself a source tells in full only when it tells everything.
        let is_in_full = identity == known.id && patch.number(Attribute::StartTime).is_some();
        if is_in_full {
            let ended = known.begin_round(now);
            self.has_changed |= ended > 0;
            self.held -= ended;
        }
        let (round, is_full) =
            (known.round, known.records.len() >= MAX_RECORDS_PER_SOURCE || self.held >= MAX_RECORDS_HELD);
        match known.records.get_mut(&identity) {
            // It may be a copy from before the end, or the thing may be back: the source knows.
            Some(held) if held.record.has_ended() && !patch.has_ended() => known.ask_by(now + ENDED),
            Some(held) => {
                held.round = round;
                let lived = !held.record.has_ended();
                self.has_changed |= held.record.apply(&patch);
                if lived && held.record.has_ended() {
                    self.ended.push_back((now + ENDED, address.into(), identity));
                }
            }
            None if is_full => self.dropped += 1,
            None => {
                // A patch of something that was never heard of: the message that told of it was lost.
                if patch.number(Attribute::StartTime).is_none() {
                    known.ask_by(now + FIRST_FLUSH);
                }
                if patch.has_ended() {
                    self.ended.push_back((now + ENDED, address.into(), Arc::clone(&identity)));
                }
                self.has_changed |= !patch.has_ended();
                known.records.insert(identity, Held { record: patch, round });
                self.held += 1;
            }
        }
        if is_in_full {
            self.forget_earlier(address);
        }
    }

    /// A router that started anew is another source; what it said in its former life is void.
    fn forget_earlier(&mut self, address: &str) {
        let Some((_, router)) = self.routers().find(|(at, _)| ***at == *address) else { return };
        let Some(name) = router.name() else { return };
        let is_same = |other: &Record| (other.name(), other.parent()) == (Some(name), router.parent());
        let lives = self.routers().filter(|(_, other)| is_same(other));
        let mut lives: Vec<_> =
            lives.filter_map(|(at, other)| Some((other.number(Attribute::StartTime)?, Arc::clone(at)))).collect();
        let latest = lives.iter().map(|(start, _)| *start).max();
        lives.retain(|(start, _)| Some(*start) < latest);
        lives.iter().for_each(|(_, address)| self.forget(address));
    }

    /// What routers say of themselves, with the addresses of their sources: a router has its source's id.
    fn routers(&self) -> impl Iterator<Item = (&Arc<str>, &Record)> {
        self.sources.iter().filter_map(|(address, known)| {
            let own = &known.records.get(&known.id)?.record;
            (own.kind == RecordType::Router).then_some((address, own))
        })
    }

    fn forget(&mut self, address: &Arc<str>) {
        let Some(known) = self.sources.remove(address) else { return };
        self.held -= known.records.len();
        self.outputs.extend(known.subscriptions(address).map(Output::Unsubscribe));
        self.has_changed |= known.living().next().is_some();
    }
}

impl Known {
    /// The addresses to consume beside the shared one.
    fn subscriptions(&self, address: &Arc<str>) -> impl Iterator<Item = Arc<str>> + use<> {
        let heartbeats = (self.source_type == SourceType::Controller).then(|| format!("{address}{HEARTBEATS}").into());
        let is_shared = self.is_shared;
        [Arc::clone(address)].into_iter().chain(heartbeats).filter(move |_| !is_shared)
    }

    fn living(&self) -> impl Iterator<Item = &Record> {
        self.records.values().map(|held| &held.record).filter(|record| !record.has_ended())
    }

    /// Drops what two rounds did not mention: it has ended unheard. How many there were.
    fn begin_round(&mut self, now: Instant) -> usize {
        if self.round > 0 && now < self.round_at + ROUND {
            return 0;
        }
        self.ask_at = now + REFRESH;
        let before = self.records.len();
        self.records.retain(|_, held| held.round + 1 >= self.round);
        (self.round, self.round_at) = (self.round + 1, now);
        before - self.records.len()
    }

    fn ask(&mut self, now: Instant) -> Outgoing {
        self.ask_at = now + REFRESH;
        let to = direct_address(&self.id);
        Outgoing { message: Message::Flush.encode(&to), to }
    }

    fn ask_by(&mut self, at: Instant) {
        self.ask_at = self.ask_at.min(at);
    }
}
