//! Connections and requests: fetched from the shards, which keep their ledgers, and told while somebody listens.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::debug;
use van_core::flow::{Attribute, Harvest, MAX_BATCH, Message, Outgoing, Record, RecordType, Source};
use van_core::flow::{flows_address, shard_of, shares_address};
use van_core::plane::{Routes, ShardId};
use van_routing::Treatment;

use super::now;
use crate::messages::{Messages, Subscription};
use crate::shard::{self, Shards};

/// How often the shards are asked.
const HARVEST_INTERVAL: Duration = Duration::from_millis(500);

/// How often a part of what they gave is sent, and how many octets: a link drops copies beyond 1 MiB.
const SEND_INTERVAL: Duration = Duration::from_millis(10);
const SEND_OCTETS: usize = 131_072;

/// What the shards know of connections, on its way to those who listen.
pub(super) struct Traffic {
    /// Begins the identities of this router.
    flow_id: String,
    address: Arc<str>,
    messages: Messages,
    shards: Arc<Shards>,
    /// What other routers know of our connections.
    shares: Subscription,
    /// Whether anybody in the network listens to connections, and how many routers have somebody who listens to ours.
    is_watched: bool,
    audience: usize,
    harvests: (mpsc::UnboundedSender<Harvest>, mpsc::UnboundedReceiver<Harvest>),
    /// Shards that were asked and have not answered.
    asked: usize,
    harvest_at: Option<Instant>,
    is_full_due: bool,
    /// What is to be sent, and when the next part of it is.
    unsent: VecDeque<Outgoing>,
    send_at: Option<Instant>,
    /// What could not be sent.
    dropped: u64,
}

impl Traffic {
    pub(super) fn new(flow_id: &str, messages: Messages, shards: Arc<Shards>) -> Self {
        let id = format!("{flow_id}:0");
        Self {
            flow_id: flow_id.to_owned(),
            address: flows_address(&id),
            shares: messages.subscribe(&shares_address(&id), Treatment::AnycastClosest),
            messages,
            shards,
            is_watched: false,
            audience: 0,
            harvests: mpsc::unbounded_channel(),
            asked: 0,
            harvest_at: None,
            is_full_due: false,
            unsent: VecDeque::new(),
            send_at: None,
            dropped: 0,
        }
    }

    /// Takes note of who listens. Who begins to is told everything.
    pub(super) fn set_routes(&mut self, routes: &Routes) {
        let is_watched = routes.is_any_reachable("mc/sfe.", ".flows");
        if is_watched != std::mem::replace(&mut self.is_watched, is_watched) {
            self.shards.tell_all(|| shard::Message::Watch { is_watched });
            self.harvest_at = is_watched.then(Instant::now);
        }
        let audience = routes.consuming_routers(&self.address);
        self.is_full_due |= audience > std::mem::replace(&mut self.audience, audience);
    }

    /// Somebody asked for everything.
    pub(super) fn handle_flush(&mut self) {
        self.is_full_due = true;
    }

    /// Takes what shards and other routers say. Nothing is lost if this is dropped.
    pub(super) async fn recv(&mut self) {
        tokio::select! {
            Some(harvest) = self.harvests.1.recv() => {
                self.asked -= 1;
                self.take(harvest);
            }
            Some(message) = self.shares.recv() => match Message::decode(&message) {
                Ok(Message::Records { records, .. }) => self.give_to_shards(records),
                Ok(_) => {}
                Err(error) => debug!(%error, "what another router says of connections is not understood"),
            },
        }
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self) {
        let now = Instant::now();
        if self.send_at.is_some_and(|at| at <= now) {
            self.send_part();
        }
        if self.harvest_at.is_some_and(|at| at <= now) {
            self.harvest_at = Some(now + HARVEST_INTERVAL);
            self.ask();
        }
    }

    /// When that is.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.harvest_at, self.send_at].into_iter().flatten().min()
    }

    /// Tells, as an attribute of the router, how much of this was lost.
    pub(super) fn tell_dropped(&self, source: &mut Source) {
        let shards: u64 = self.shards.stats.iter().map(|stats| stats.flows_dropped()).sum();
        let dropped = shards + self.dropped + self.shares.dropped();
        if dropped > 0 {
            let router = Record::new(RecordType::Router, Arc::clone(source.id()));
            source.patch(now(), &router.with(Attribute::RecordsDropped, dropped));
        }
    }

    /// Tells the last, as far as it can be sent at once: the router is about to stop.
    pub(super) async fn end(&mut self) {
        self.harvest_at = None;
        while self.asked > 0 {
            self.recv().await;
        }
        if self.is_watched {
            self.ask();
        }
        while self.asked > 0 {
            self.recv().await;
        }
        for Outgoing { to, message } in self.unsent.drain(..) {
            let _ = self.messages.send(&to, message);
        }
    }

    /// Asks the shards, unless more is on the way than leaves: they keep it, as far as they can.
    fn ask(&mut self) {
        if self.asked > 0 || !self.unsent.is_empty() {
            return;
        }
        let is_full = std::mem::take(&mut self.is_full_due);
        self.asked = self.shards.inboxes.len();
        self.shards.tell_all(|| shard::Message::Harvest { is_full, reply: self.harvests.0.clone() });
    }

    fn take(&mut self, Harvest { flows, shares }: Harvest) {
        if self.audience > 0 {
            self.enqueue(&Arc::clone(&self.address), &flows);
        }
        let mut by_owner: BTreeMap<String, Vec<Record>> = BTreeMap::new();
        for share in shares {
            let owner = share.identity.split(':').next().unwrap_or_default().to_owned();
            by_owner.entry(owner).or_default().push(share);
        }
        for (owner, shares) in by_owner {
            if owner == self.flow_id {
                self.give_to_shards(shares);
            } else {
                self.enqueue(&shares_address(&format!("{owner}:0")), &shares);
            }
        }
    }

    fn give_to_shards(&self, shares: Vec<Record>) {
        let mut by_shard: BTreeMap<u16, Vec<Record>> = BTreeMap::new();
        for share in shares {
            if let Some(shard) = shard_of(&share.identity) {
                by_shard.entry(shard).or_default().push(share);
            }
        }
        by_shard
            .into_iter()
            .for_each(|(shard, shares)| self.shards.tell(ShardId(shard), shard::Message::Shares(shares)));
    }

    fn enqueue(&mut self, to: &Arc<str>, records: &[Record]) {
        for batch in records.chunks(MAX_BATCH) {
            let message = Message::Records { source: None, records: batch.to_vec() }.encode(to);
            self.unsent.push_back(Outgoing { to: Arc::clone(to), message });
        }
        if !self.unsent.is_empty() && self.send_at.is_none() {
            self.send_part();
        }
    }

    fn send_part(&mut self) {
        let mut left = SEND_OCTETS;
        while left > 0
            && let Some(Outgoing { to, message }) = self.unsent.front()
        {
            match self.messages.send(to, message.clone()) {
                Err(crate::SendError::Busy) => break,
                Err(_) => self.dropped += 1,
                Ok(()) => left = left.saturating_sub(message.len()),
            }
            self.unsent.pop_front();
        }
        self.send_at = (!self.unsent.is_empty()).then(|| Instant::now() + SEND_INTERVAL);
    }
}
