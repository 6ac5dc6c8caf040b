//! The connections of one shard, as VanFlow tells of them (docs/wire.md §9.1): what a client's end knows, what a workload's
//! end knows and tells the client's router as its *share*, and the requests that are seen on the way.
//!
//! ```text
//!   accepted ──► open ──► closed, waiting for the share of the other end ──► told, with its end
//!                  │              its end, or 5 s
//!                  '── told when new, then what has changed, every 2 s
//! ```
//!
//! Nothing is kept to be told while nobody listens, and no octet costs more than the addition of what was read.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Now;
use super::attribute::Attribute;
use super::record::{Record, RecordType};
use crate::observe::{End, Exchange, Observer, Protocol};
use crate::slab::{Key, Slab};

/// Records that wait to be fetched, and as many shares; more are dropped, and counted.
const MAX_UNTOLD: usize = 32_768;

/// Ended connections that wait for the other end's share; the oldest is told without when there are more.
const MAX_WAITING: usize = 16_384;

/// How long an ended connection waits for it. Source: skupper-router `vanflow.c`.
const SHARE_TIME: Duration = Duration::from_secs(5);

/// How often the octets of open connections are told.
const OCTETS_INTERVAL: Duration = Duration::from_secs(2);

/// Characters of a source that begin identities.
const SOURCE_CHARACTERS: usize = 5;

/// Octets of an identity that a router gives. Source: skupper-router `vanflow.c`.
const MAX_ROUTER_IDENTITY_BYTES: usize = 26;

/// Identities of shards have the shard, counted from 1, above these bits of their number; others have 0 there.
const NUMBER_BITS: u32 = 48;

/// What the end at a workload may say of a connection.
const SHARED: [Attribute; 6] = [
    Attribute::Trace,
    Attribute::Connector,
    Attribute::ProcessLatency,
    Attribute::ProxyHost,
    Attribute::ProxyPort,
    Attribute::ErrorConnectorSide,
];

/// The connections of one shard.
#[derive(Debug)]
pub struct Ledger {
    /// Begins all identities.
    source: Arc<str>,
    last: u64,
    is_watched: bool,
    conversations: Slab<Conversation>,
    /// Those of clients, for the shares of other routers.
    by_identity: HashMap<Arc<str>, Key>,
    /// Those that have ended, and until when they wait.
    waiting: VecDeque<(Instant, Key)>,
    octets_at: Option<Instant>,
    harvest: Harvest,
    dropped: u64,
    given_up: u64,
}

/// What there is to tell.
#[derive(Debug, Default)]
pub struct Harvest {
    /// Connections and requests of this router.
    pub flows: Vec<Record>,
    /// What it knows of connections of others, or of its own from their other end. One without attributes: that was all.
    pub shares: Vec<Record>,
}

#[derive(Debug)]
struct Conversation {
    record: Record,
    is_untold: bool,
    /// When the first octet went towards the workload; none has come back.
    asked: Option<Instant>,
    is_answered: bool,
    end: Side,
}

#[derive(Debug)]
enum Side {
    Client {
        from: SocketAddr,
        octets: u64,
        octets_reverse: u64,
        told: (u64, u64),
        observer: Option<Box<Observer>>,
        has_share: bool,
    },
    /// The address of ours that it was connected from.
    Workload { from: Option<SocketAddr> },
}

/// The shard that gave an identity; `None` if none of the router did.
pub fn shard_of(identity: &str) -> Option<u16> {
    let number: u64 = identity.split_once(':')?.1.parse().ok()?;
    u16::try_from(number >> NUMBER_BITS).ok()?.checked_sub(1)
}

impl Ledger {
    /// The ledger of a shard. `source` is the five characters that begin the identities of its router.
    pub fn new(source: &str, shard: u16) -> Self {
        Self {
            source: source.into(),
            last: (u64::from(shard) + 1) << NUMBER_BITS,
            is_watched: false,
            conversations: Slab::default(),
            by_identity: HashMap::new(),
            waiting: VecDeque::new(),
            octets_at: None,
            harvest: Harvest::default(),
            dropped: 0,
            given_up: 0,
        }
    }

    /// Whether anybody in the network listens to connections. Who begins to is told of all that are open.
    pub fn watch(&mut self, is_watched: bool) {
        self.is_watched = is_watched;
        for key in self.conversations.keys() {
            let Some(conversation) = self.conversations.get_mut(key) else { continue };
            conversation.is_untold |= is_watched;
            if let (false, Side::Client { observer, .. }) = (is_watched, &mut conversation.end) {
                *observer = None;
            }
        }
        if !is_watched {
            self.harvest = Harvest::default();
            let waiting = std::mem::take(&mut self.waiting);
            waiting.into_iter().for_each(|(_, key)| drop(self.forget(key)));
        }
    }

    // === what happens ===

    /// A client came in at a listener. Its identity goes with the client stream. Only while somebody listens, `protocol` is
    /// looked for in what passes.
    pub fn accepted(&mut self, now: Now, listener: &Arc<str>, client: SocketAddr, protocol: Option<Protocol>) -> Key {
        let identity = self.new_identity();
        let record = Record::new(RecordType::TransportFlow, Arc::clone(&identity))
            .with(Attribute::Parent, Arc::clone(listener))
            .with(Attribute::StartTime, now.wall_micros);
        let observer = protocol.filter(|_| self.is_watched).map(|protocol| Observer::new(protocol).into());
        let (octets, octets_reverse, told, has_share) = (0, 0, (0, 0), false);
        let end = Side::Client { from: client, octets, octets_reverse, told, observer, has_share };
        let key = self.insert(record, end);
        self.by_identity.insert(identity, key);
        key
    }

    /// A workload is to be connected for a client of some router. `trace` is the routers in between. `None`: the client's
    /// identity is none.
    pub fn connecting(&mut self, identity: &str, trace: &str, connector: &Arc<str>) -> Option<Key> {
        owner(identity)?;
        let record = Record::new(RecordType::TransportFlow, identity)
            .with(Attribute::Connector, Arc::clone(connector))
            .with(Attribute::Trace, if trace.is_empty() { "Local" } else { trace });
        Some(self.insert(record, Side::Workload { from: None }))
    }

    /// The workload is connected, from this address of ours.
    pub fn connected(&mut self, key: Key, address: SocketAddr) {
        let Some(conversation) = self.conversations.get_mut(key) else { return };
        if let Side::Workload { from } = &mut conversation.end {
            *from = Some(address);
            conversation.is_untold |= self.is_watched;
        }
    }

    /// Something went wrong at this end. The first error counts.
    pub fn failed(&mut self, key: Key, error: &str) {
        let Some(conversation) = self.conversations.get(key) else { return };
        let attribute = match conversation.end {
            Side::Client { .. } => Attribute::ErrorListenerSide,
            Side::Workload { .. } => Attribute::ErrorConnectorSide,
        };
        if conversation.record.text(attribute).is_none() {
            self.say(key, attribute, error);
        }
    }

    /// Octets were read from the socket. The time is asked for only if it matters.
    pub fn read(&mut self, key: Key, now: impl Fn() -> Now, read: &[u8]) {
        let Some(conversation) = self.conversations.get_mut(key) else { return };
        match &mut conversation.end {
            Side::Client { octets, observer, .. } => {
                *octets += read.len() as u64;
                let is_observed =
                    observer.as_mut().map(|it| it.observe(now().wall_micros, End::Client, read)).is_some();
                if conversation.asked.is_none() {
                    conversation.asked = Some(now().instant);
                }
                if is_observed {
                    self.tell_exchanges(key);
                }
            }
            Side::Workload { .. } => conversation.answered(Attribute::ProcessLatency, now),
        }
    }

    /// Octets are about to be written to the socket.
    pub fn writing(&mut self, key: Key, now: impl Fn() -> Now) {
        let conversation = self.conversations.get_mut(key).filter(|it| matches!(it.end, Side::Workload { .. }));
        if let Some(Conversation { asked: asked @ None, .. }) = conversation {
            *asked = Some(now().instant);
        }
    }

    /// So many octets of these were written to the socket.
    pub fn written<'a>(
        &mut self,
        key: Key,
        now: impl Fn() -> Now,
        parts: impl Iterator<Item = &'a [u8]>,
        count: usize,
    ) {
        let Some(conversation) = self.conversations.get_mut(key) else { return };
        match &mut conversation.end {
            Side::Client { octets_reverse, observer, .. } => {
                *octets_reverse += count as u64;
                let is_observed = observer.as_mut().map(|observer| {
                    let (wall, mut left) = (now().wall_micros, count);
                    for part in parts {
                        let written = &part[..part.len().min(left)];
                        left -= written.len();
                        observer.observe(wall, End::Server, written);
                    }
                });
                conversation.answered(Attribute::Latency, now);
                if is_observed.is_some() {
                    self.tell_exchanges(key);
                }
            }
            Side::Workload { .. } => {}
        }
    }

    /// The socket is closed.
    pub fn closed(&mut self, key: Key, now: Now) {
        let Some(conversation) = self.conversations.get_mut(key) else { return };
        match &mut conversation.end {
            _ if !self.is_watched => drop(self.forget(key)),
            Side::Client { observer, .. } => {
                conversation.record.set(Attribute::EndTime, now.wall_micros);
                if let Some(observer) = observer {
                    observer.end(now.wall_micros);
                    self.tell_exchanges(key);
                }
                self.waiting.push_back((now.instant + SHARE_TIME, key));
                self.conclude_if_known(key);
                self.conclude_waiting(now.instant);
            }
            Side::Workload { .. } => {
                let Some(mut conversation) = self.forget(key) else { return };
                let Record { kind, ref identity, .. } = conversation.record;
                let end = Record::new(kind, Arc::clone(identity));
                let untold = conversation.is_untold.then(|| conversation.tell());
                self.harvest.shares.extend([untold, Some(end)].into_iter().flatten());
            }
        }
    }

    /// What the other end says of a connection of ours. Of others, and of what it has no say in, nothing is taken.
    pub fn recv_share(&mut self, share: &Record) {
        let Some(&key) = self.by_identity.get(&share.identity) else { return };
        let Some(conversation) = self.conversations.get_mut(key) else { return };
        let mut own = Record::new(conversation.record.kind, Arc::clone(&share.identity));
        for (attribute, value) in share.attributes().filter(|(attribute, _)| SHARED.contains(attribute)) {
            own.set(attribute, value.clone());
        }
        conversation.is_untold |= conversation.record.apply(&own);
        if let (0, Side::Client { has_share, .. }) = (share.attributes().count(), &mut conversation.end) {
            // One who has refused is not the last to say something: the next consumer may have taken the stream.
            *has_share = !conversation.record.attributes().any(|(it, _)| it == Attribute::ErrorConnectorSide);
            self.conclude_if_known(key);
        }
    }

    // === what is told ===

    /// Takes what there is to tell; with `is_full` all that is open.
    pub fn harvest(&mut self, now: Now, is_full: bool) -> Harvest {
        self.conclude_waiting(now.instant);
        let is_time = self.octets_at.is_none_or(|at| at <= now.instant);
        if is_time {
            self.octets_at = Some(now.instant + OCTETS_INTERVAL);
        }
        for key in self.conversations.keys() {
            let Some(conversation) = self.conversations.get_mut(key) else { continue };
            let is_ended = conversation.record.has_ended();
            if !is_ended && (is_full || conversation.is_untold || is_time && conversation.has_news()) {
                conversation.is_untold = false;
                let told = match &conversation.end {
                    Side::Client { .. } => &mut self.harvest.flows,
                    Side::Workload { .. } => &mut self.harvest.shares,
                };
                told.push(conversation.tell());
            }
            if is_time && !is_ended {
                self.tell_running(key);
            }
        }
        self.bound();
        std::mem::take(&mut self.harvest)
    }

    /// The identity of a conversation.
    pub fn identity(&self, key: Key) -> Option<&Arc<str>> {
        self.conversations.get(key).map(|conversation| &conversation.record.identity)
    }

    /// Records that were dropped because nobody fetched them in time.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Connections in which an observer found nothing that it knows, or lost its place.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Whether no connection is open or waits.
    pub fn is_empty(&self) -> bool {
        self.conversations.is_empty()
    }

    // === below ===

    fn new_identity(&mut self) -> Arc<str> {
        format!("{}:{}", self.source, next(&mut self.last)).into()
    }

    fn insert(&mut self, record: Record, end: Side) -> Key {
        let conversation = Conversation { record, is_untold: self.is_watched, asked: None, is_answered: false, end };
        self.conversations.insert(conversation)
    }

    fn forget(&mut self, key: Key) -> Option<Conversation> {
        let conversation = self.conversations.remove(key)?;
        if let Side::Client { .. } = conversation.end {
            self.by_identity.remove(&conversation.record.identity);
        }
        Some(conversation)
    }

    fn say(&mut self, key: Key, attribute: Attribute, text: &str) {
        if let Some(conversation) = self.conversations.get_mut(key) {
            conversation.record.set(attribute, text);
            conversation.is_untold |= self.is_watched;
        }
    }

    /// Tells of one that has ended at both ends.
    fn conclude_if_known(&mut self, key: Key) {
        let is_known =
            |it: &&Conversation| it.record.has_ended() && matches!(it.end, Side::Client { has_share: true, .. });
        if self.conversations.get(key).filter(is_known).is_some() {
            self.conclude(key);
        }
    }

    /// Tells of one that has ended.
    fn conclude(&mut self, key: Key) {
        if let Some(mut conversation) = self.forget(key) {
            self.harvest.flows.push(conversation.tell());
            self.bound();
        }
    }

    /// Tells of those that have waited for long enough, or are too many.
    fn conclude_waiting(&mut self, now: Instant) {
        while let Some((until, key)) = self.waiting.front().copied() {
            let is_gone = self.conversations.get(key).is_none();
            if !is_gone && until > now && self.waiting.len() <= MAX_WAITING {
                return;
            }
            self.waiting.pop_front();
            self.conclude(key);
        }
    }

    fn tell_exchanges(&mut self, key: Key) {
        let Some(Conversation { record, end: Side::Client { observer, .. }, .. }) = self.conversations.get_mut(key)
        else {
            return;
        };
        let Some(watching) = observer else { return };
        while let Some(exchange) = watching.poll_exchange() {
            let tag = exchange.tag.unwrap_or_else(|| next(&mut self.last));
            self.harvest.flows.push(exchange_record(&self.source, tag, &record.identity, &exchange));
        }
        if watching.is_lost() {
            self.given_up += u64::from(!record.has_ended());
            *observer = None;
        }
        self.bound();
    }

    /// Tells of requests that take long.
    fn tell_running(&mut self, key: Key) {
        let Some(Conversation { record, end: Side::Client { observer: Some(observer), .. }, .. }) =
            self.conversations.get_mut(key)
        else {
            return;
        };
        for exchange in observer.running_mut() {
            let tag = *exchange.tag.get_or_insert_with(|| next(&mut self.last));
            self.harvest.flows.push(exchange_record(&self.source, tag, &record.identity, exchange));
        }
    }

    fn bound(&mut self) {
        for told in [&mut self.harvest.flows, &mut self.harvest.shares] {
            self.dropped += told.len().saturating_sub(MAX_UNTOLD) as u64;
            told.truncate(MAX_UNTOLD);
        }
    }
}

impl Conversation {
    /// Whether octets have passed that were not told.
    fn has_news(&self) -> bool {
        matches!(&self.end, Side::Client { octets, octets_reverse, told, .. } if *told != (*octets, *octets_reverse))
    }

    /// All that is known of it. What costs something to say is not said before.
    fn tell(&mut self) -> Record {
        let (address, host, port) = match &mut self.end {
            Side::Client { from, octets, octets_reverse, told, .. } => {
                self.record.set(Attribute::Octets, *octets);
                self.record.set(Attribute::OctetsReverse, *octets_reverse);
                *told = (*octets, *octets_reverse);
                (Some(*from), Attribute::SourceHost, Attribute::SourcePort)
            }
            Side::Workload { from } => (*from, Attribute::ProxyHost, Attribute::ProxyPort),
        };
        if let Some(address) = address {
            self.record.set(host, address.ip().to_string().as_str());
            self.record.set(port, address.port().to_string().as_str());
        }
        self.record.clone()
    }

    /// The first octet came back; it says nothing of a workload that speaks unasked.
    fn answered(&mut self, latency: Attribute, now: impl Fn() -> Now) {
        if !std::mem::replace(&mut self.is_answered, true)
            && let Some(asked) = self.asked
        {
            self.record.set(latency, now().instant.duration_since(asked).as_micros() as u64);
            self.is_untold = true;
        }
    }
}

/// The five characters of the router that gave an identity; `None` if it is none of a router's.
fn owner(identity: &str) -> Option<&str> {
    let (source, number) = identity.split_once(':').filter(|_| identity.len() <= MAX_ROUTER_IDENTITY_BYTES)?;
    let is_number = !number.is_empty() && number.bytes().all(|octet| octet.is_ascii_digit());
    (source.chars().count() == SOURCE_CHARACTERS && is_number).then_some(source)
}

fn next(last: &mut u64) -> u64 {
    *last += 1;
    *last
}

fn exchange_record(source: &str, number: u64, parent: &Arc<str>, exchange: &Exchange) -> Record {
    let mut record = Record::new(RecordType::ApplicationFlow, format!("{source}:{number}"))
        .with(Attribute::Parent, Arc::clone(parent))
        .with(Attribute::StartTime, exchange.started)
        .with(Attribute::Protocol, exchange.version)
        .with(Attribute::Method, &*exchange.method)
        .with(Attribute::Octets, exchange.octets)
        .with(Attribute::OctetsReverse, exchange.octets_reverse);
    let status = exchange.status.map(|status| status.to_string());
    let texts = [
        (Attribute::Result, &status),
        (Attribute::Reason, &exchange.reason),
        (Attribute::SourceHost, &exchange.forwarded_for),
    ];
    for (attribute, text) in texts {
        text.iter().for_each(|text| record.set(attribute, text.as_str()));
    }
    let numbers = [
        (Attribute::EndTime, exchange.ended),
        (Attribute::Latency, exchange.latency()),
        (Attribute::StreamId, exchange.stream.map(u64::from)),
    ];
    for (attribute, number) in numbers {
        number.iter().for_each(|number| record.set(attribute, *number));
    }
    record
}
