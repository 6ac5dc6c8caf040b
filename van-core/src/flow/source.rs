//! What one router tells of itself, and when (docs/wire.md §9.1).
//!
//! Nobody is told anything while nobody listens; who begins to listen is told everything. The more listen, the longer a
//! source rests in between: what all say to all must not grow with the square of the network.
//!
//! ```text
//!             insert, patch, remove                       20 ms
//!   records ------------------------> what changed ------------------> RECORD
//!             audience grew, flush                 coalesced, by type
//!           ------------------------> everything
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attribute::Attribute;
use super::message::{Message, SourceType};
use super::record::Record;
use super::{BEACONS, Now, Outgoing, SHARED, direct_address, records_address};

/// How often a source makes itself known. Source: skupper-router `vanflow.c`.
const BEACON_INTERVAL: Duration = Duration::from_secs(10);

/// How long after one beacon the next may go to somebody new.
const BEACON_PAUSE: Duration = Duration::from_millis(400);

/// How often a source says that it lives. Source: skupper-router `vanflow.c`.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(2);

/// How long a change waits for others to go along with it. A C router takes up to a second.
const COALESCE: Duration = Duration::from_millis(20);

/// How long after everything was told it is told again at the earliest, however many ask.
const FLUSH_PAUSE: Duration = Duration::from_secs(1);

/// Records in one message. Source: skupper-router `vanflow.c`.
pub const MAX_BATCH: usize = 50;

/// Routers in an audience for whom the intervals above are meant; twice as many wait twice as long.
const CROWD: usize = 10;

/// The most that an interval is stretched: of three heartbeats one must come before a collector takes a source for gone.
const MAX_STRETCH: usize = 5;

/// Whom a source tells something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Consumers of [`BEACONS`](super::BEACONS).
    Beacons,
    /// Consumers of the source's own address, [`Source::address`].
    Own,
    /// Consumers of [`SHARED`](super::SHARED).
    Shared,
}

/// The source of one router's records.
///
/// [`Source::poll_output`] until it is empty, after whatever was called; then [`Source::poll_timeout`].
#[derive(Debug)]
pub struct Source {
    id: Arc<str>,
    address: Arc<str>,
    direct: Arc<str>,
    /// How many routers listen: to beacons, at its own address, and at the shared one.
    beacon_audience: usize,
    own_audience: usize,
    shared_audience: usize,
    records: BTreeMap<Arc<str>, Held>,
    /// When the next beacon is due; `None` while nobody listens to them.
    beacon_at: Option<Instant>,
    /// When a beacon may go to somebody new.
    beaconable_at: Option<Instant>,
    /// Somebody is new, and the way there may not be known to all yet: another beacon follows soon.
    is_beacon_repeated: bool,
    /// When the next heartbeat is due; `None` while nobody listens to the source.
    heartbeat_at: Option<Instant>,
    /// When news are due; `None` if there are none.
    news_at: Option<Instant>,
    /// When everything is due; `None` if nobody asked.
    flush_at: Option<Instant>,
    /// When everything may be told again.
    flushable_at: Option<Instant>,
    outputs: VecDeque<Outgoing>,
}

#[derive(Debug)]
struct Held {
    record: Record,
    /// What of it the audience does not know.
    news: Option<Record>,
}

impl Source {
    /// A source without records. `id` names this life of the router: five characters that no other router has had, and `:0`.
    pub fn new(id: &str) -> Self {
        Self {
            id: id.into(),
            address: records_address(id),
            direct: direct_address(id),
            beacon_audience: 0,
            own_audience: 0,
            shared_audience: 0,
            records: BTreeMap::new(),
            beacon_at: None,
            beaconable_at: None,
            is_beacon_repeated: false,
            heartbeat_at: None,
            news_at: None,
            flush_at: None,
            flushable_at: None,
            outputs: VecDeque::new(),
        }
    }

    /// Tells of something new; it came to be now, unless the record says when.
    pub fn insert(&mut self, now: Now, mut record: Record) {
        if record.number(Attribute::StartTime).is_none() {
            record.set(Attribute::StartTime, now.wall_micros);
        }
        let news = self.has_audience().then(|| record.clone());
        self.expect_news(now, news.is_some());
        self.records.insert(Arc::clone(&record.identity), Held { record, news });
    }

    /// Tells what has changed. Nothing happens if that is nothing, or if the record is not there or has ended.
    pub fn patch(&mut self, now: Now, patch: &Record) {
        let has_audience = self.has_audience();
        let Some(held) = self.records.get_mut(&patch.identity).filter(|held| !held.record.has_ended()) else { return };
        let Some(news) = held.record.difference(patch) else { return };
        held.record.apply(&news);
        if has_audience {
            match &mut held.news {
                Some(known) => drop(known.apply(&news)),
                unknown @ None => *unknown = Some(news),
            }
        }
        self.expect_news(now, has_audience);
    }

    /// Tells that something is gone, and forgets it.
    pub fn remove(&mut self, now: Now, identity: &str) {
        let Some(held) = self.records.get(identity) else { return };
        let end = Record::new(held.record.kind, Arc::clone(&held.record.identity));
        self.patch(now, &end.with(Attribute::EndTime, now.wall_micros));
        if !self.has_audience() {
            self.records.remove(identity);
        }
    }

    /// Tells that everything is gone, at once: the router is about to stop.
    pub fn end(&mut self, now: Now) {
        let identities: Vec<_> = self.records.keys().cloned().collect();
        identities.iter().for_each(|identity| self.remove(now, identity));
        self.send_news();
    }

    /// Takes note of how many routers have listeners, this one included. If they became more, the new ones are told.
    pub fn set_audience(&mut self, now: Now, audience: Audience, routers: usize) {
        let had_audience = self.has_audience();
        let known = match audience {
            Audience::Beacons => &mut self.beacon_audience,
            Audience::Own => &mut self.own_audience,
            Audience::Shared => &mut self.shared_audience,
        };
        let before = std::mem::replace(known, routers);
        match audience {
            Audience::Beacons if routers == 0 => self.beacon_at = None,
            Audience::Beacons if routers > before => {
                self.beacon_at = Some(self.beaconable_at.map_or(now.instant, |earliest| earliest.max(now.instant)));
                self.is_beacon_repeated = true;
            }
            Audience::Beacons => return,
            Audience::Own | Audience::Shared if !self.has_audience() => {
                (self.heartbeat_at, self.flush_at, self.news_at) = (None, None, None);
                self.records.retain(|_, held| !held.record.has_ended());
                self.records.values_mut().for_each(|held| held.news = None);
            }
            Audience::Own | Audience::Shared if !had_audience => {
                (self.heartbeat_at, self.flush_at) = (Some(now.instant), Some(now.instant));
            }
            Audience::Own | Audience::Shared if routers > before => self.handle_flush(now),
            Audience::Own | Audience::Shared => return,
        }
        self.handle_timeout(now);
    }

    /// Tells everything again, for somebody asked at [`Source::direct`].
    pub fn handle_flush(&mut self, now: Now) {
        if self.has_audience() && self.flush_at.is_none() {
            let soon = now.instant + COALESCE;
            self.flush_at = Some(self.flushable_at.map_or(soon, |earliest| earliest.max(soon)));
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now.instant);
        if is_due(self.beacon_at) {
            self.beaconable_at = Some(now.instant + self.stretched(BEACON_PAUSE));
            let is_repeated = std::mem::take(&mut self.is_beacon_repeated);
            let interval = self.stretched(if is_repeated { FLUSH_PAUSE } else { BEACON_INTERVAL });
            self.beacon_at = Some(now.instant + interval);
            let source = Arc::clone(&self.id);
            self.send(BEACONS.into(), &Message::Beacon { source_type: SourceType::Router, source, is_shared: true });
        }
        if is_due(self.heartbeat_at) {
            self.heartbeat_at = Some(now.instant + self.stretched(HEARTBEAT_INTERVAL));
            self.tell(&Message::Heartbeat { source: Arc::clone(&self.id), wall_micros: now.wall_micros });
        }
        if is_due(self.flush_at) {
            self.flush_at = None;
            self.flushable_at = Some(now.instant + self.stretched(FLUSH_PAUSE));
            self.records.values_mut().for_each(|held| held.news = Some(held.record.clone()));
            self.send_news();
        } else if is_due(self.news_at) {
            self.send_news();
        }
    }

    /// What to send next.
    pub fn poll_output(&mut self) -> Option<Outgoing> {
        self.outputs.pop_front()
    }

    /// When to call [`Source::handle_timeout`]; `None` if nothing will be due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.beacon_at, self.heartbeat_at, self.news_at, self.flush_at].into_iter().flatten().min()
    }

    /// Its id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Where its records go; whether there are consumers is told by [`Source::set_audience`].
    pub fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// Where it is to be asked to flush: an anycast address that its router consumes.
    pub fn direct(&self) -> &Arc<str> {
        &self.direct
    }

    /// Whether anybody listens to its records.
    pub fn has_audience(&self) -> bool {
        self.own_audience + self.shared_audience > 0
    }

    /// An interval as it is for an audience of this size.
    fn stretched(&self, interval: Duration) -> Duration {
        let routers = self.beacon_audience.max(self.own_audience).max(self.shared_audience);
        interval * (routers / CROWD).clamp(1, MAX_STRETCH) as u32
    }

    fn expect_news(&mut self, now: Now, has_news: bool) {
        if has_news {
            self.news_at.get_or_insert(now.instant + COALESCE);
        }
    }

    fn send_news(&mut self) {
        self.news_at = None;
        let mut news: Vec<_> = self.records.values_mut().filter_map(|held| held.news.take()).collect();
        self.records.retain(|_, held| !held.record.has_ended());
        news.sort_by_key(|record| record.kind);
        for batch in news.chunks(MAX_BATCH) {
            self.tell(&Message::Records { source: Some(Arc::clone(&self.id)), records: batch.to_vec() });
        }
    }

    /// Sends a message to all who listen, at either address.
    fn tell(&mut self, message: &Message) {
        if self.own_audience > 0 {
            self.send(Arc::clone(&self.address), message);
        }
        if self.shared_audience > 0 {
            self.send(SHARED.into(), message);
        }
    }

    fn send(&mut self, to: Arc<str>, message: &Message) {
        let message = message.encode(&to);
        self.outputs.push_back(Outgoing { to, message });
    }
}
