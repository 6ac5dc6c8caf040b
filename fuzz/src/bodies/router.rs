//! A whole router but for its sockets: engine, data plane and control core, and a peer that says anything.

use std::collections::{HashMap, HashSet};
use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use van_core::amqp::{Admission, Connection, Event};
use van_core::plane::{
    ClientFlow, ConnectorId, Crossing, Io, Key, PeerKind, Plane, Purpose, Read, Report, ShardId, Write,
};
use van_core::router::{Announcement, Candidate, Core, Dialled, Distribution, Identity, Origin, Output, open_config};
use van_routing::{RouterId, Timing};

use super::engine::check_said;
use crate::pieces::pieces;

/// The ids, addresses and octets of the recordings that the corpus is made of.
const OURS: &str = "ours";
const THEIRS: &str = "theirs";
const AT_OURS: &str = "at-ours";
const AT_THEIRS: &str = "at-theirs";
const REQUEST: &[u8] = b"a request of ours, over both routers";

const SHARD: ShardId = ShardId(0);

/// Octets of a frame header.
const HEADER_BYTES: usize = 8;

/// How long time passes, in seconds, after the peer has spoken: longer than a neighbour may be silent.
const SECONDS: u64 = 20;

/// Frames of another router behind the opens. The outer header is that of the first frame.
pub(crate) fn router(octets: &[u8]) -> bool {
    hear(octets, Purpose::Control)
}

/// Frames of a client.
pub(crate) fn client(octets: &[u8]) -> bool {
    hear(octets, Purpose::Links(PeerKind::Client))
}

/// Frames of an edge router.
pub(crate) fn edge(octets: &[u8]) -> bool {
    hear(octets, Purpose::Links(PeerKind::Edge))
}

fn hear(octets: &[u8], purpose: Purpose) -> bool {
    let mut router = Router::new(purpose);
    pieces(octets).for_each(|piece| router.hear(piece));
    let is_header_refused = router.world.lost_for.as_deref() == Some("amqp:connection:framing-error");
    for second in 1..=SECONDS {
        router.tick(Duration::from_secs(second));
    }
    router.world.said.values().for_each(|said| check_said(said, u32::MAX));
    octets.len() >= HEADER_BYTES && !is_header_refused
}

struct Router {
    start: Instant,
    now: Instant,
    core: Core,
    plane: Plane,
    world: World,
    peer: Key,
    client: Option<Key>,
}

/// What the plane sees of the world.
#[derive(Default)]
struct World {
    said: HashMap<Key, Vec<u8>>,
    reports: Vec<Report>,
    connecting: Vec<Key>,
    /// What the sockets of streams have still to say.
    sockets: HashMap<Key, &'static [u8]>,
    closed: HashSet<Key>,
    /// The condition with which the peer's connection was lost.
    lost_for: Option<String>,
}

impl Router {
    /// A router with a workload, and a connection on which opens were exchanged.
    fn new(purpose: Purpose) -> Self {
        let start = Instant::now();
        let identity = Identity { id: RouterId::new(OURS).expect("an id"), instance: 1, shards: 1, mesh: None };
        let mut core = Core::new(identity, Timing::default(), Distribution::default(), start);
        core.add_connector(start, ConnectorId(0), &Arc::from(AT_OURS));
        core.watch(&Arc::from(AT_THEIRS));
        let mut plane = Plane::new(SHARD, Arc::clone(core.routes()), 1);

        let dialled = Dialled { correlator: "one link".into(), ordinal: None, purpose: Purpose::Control };
        let peer = Connection::connect(open_config(THEIRS, None, 1, Some(&dialled)), Vec::new(), start);
        let admission = Admission { mechanisms: Vec::new(), sasl_optional: true };
        let mut engine = Connection::accept(open_config(OURS, None, 1, None), admission, start);
        let Ok(Some(Event::Opened(open))) = engine.next(&mut peer.output()) else { panic!("an open of ours") };
        let announcement = Announcement { purpose, ..Announcement::read(&open) };
        let admitted = core.admit(start, Candidate::new(announcement, Origin::Accepted, 1));
        let admitted = admitted.expect("a peer of another name");
        engine.answer_open([]);
        let peer = plane.add_connection(admitted.id, admitted.purpose, false, engine);

        let mut router = Self { start, now: start, core, plane, world: World::default(), peer, client: None };
        router.settle();
        router
    }

    fn hear(&mut self, octets: &[u8]) {
        self.plane.received(&mut self.world, self.peer, &[octets]);
        self.settle();
    }

    fn tick(&mut self, since_start: Duration) {
        self.now = self.start + since_start;
        self.core.handle_timeout(self.now);
        self.plane.handle_timeout(&mut self.world, self.now);
        self.settle();
    }

    /// Lets everything inside the router happen.
    fn settle(&mut self) {
        loop {
            for report in std::mem::take(&mut self.world.reports) {
                if let Report::ConnectionLost { reason: Some(reason), .. } = &report {
                    self.world.lost_for = Some(reason.condition.as_str().to_owned());
                }
                self.core.handle_report(self.now, report);
            }
            for stream in std::mem::take(&mut self.world.connecting) {
                self.world.sockets.insert(stream, b"an answer");
                self.plane.connected(&mut self.world, stream);
            }
            while let Some(output) = self.core.poll_output() {
                self.act(output);
            }
            if self.world.reports.is_empty() && self.world.connecting.is_empty() {
                return;
            }
        }
    }

    fn act(&mut self, output: Output) {
        match output {
            // A client comes as soon as there is somebody to go to.
            Output::Reachable { is_reachable: true, .. } if self.client.is_none() => {
                let client = self.plane.add_client(AT_THEIRS.into());
                self.client = Some(client);
                self.world.sockets.insert(client, REQUEST);
                self.plane.offer(&mut self.world, client);
            }
            output => output.carry_out(&mut self.plane, &mut self.world, self.now),
        }
    }
}

impl Io for World {
    fn room(&self, _: Key) -> usize {
        usize::MAX
    }

    fn send(&mut self, connection: Key, parts: &[&[u8]]) {
        let said = self.said.entry(connection).or_default();
        parts.iter().for_each(|part| said.extend_from_slice(part));
    }

    fn close_connection(&mut self, _: Key) {}

    fn read(&mut self, stream: Key, buffer: &mut [u8]) -> Read {
        let Some(octets) = self.sockets.get_mut(&stream) else { return Read::Failed };
        let (now, later) = octets.split_at(octets.len().min(buffer.len()));
        buffer[..now.len()].copy_from_slice(now);
        *octets = later;
        if now.is_empty() { Read::End } else { Read::Octets(now.len()) }
    }

    fn write(&mut self, stream: Key, parts: &[IoSlice<'_>]) -> Write {
        assert!(!self.closed.contains(&stream), "written to a closed socket");
        Write::Octets(parts.iter().map(|part| part.len()).sum())
    }

    fn shut_down(&mut self, _: Key) {}

    fn close(&mut self, stream: Key, _: bool) {
        self.sockets.remove(&stream);
        self.closed.insert(stream);
    }

    fn connect(&mut self, stream: Key, _: ConnectorId, _: Option<&str>, _: Option<ClientFlow>) {
        self.connecting.push(stream);
    }

    fn established(&mut self, _: Key) {}

    /// There is one shard. A forged reply address may name any other, and what is for it is lost.
    fn post(&mut self, shard: ShardId, _: Crossing) {
        assert_ne!(shard, SHARD, "a shard talks to itself");
    }

    fn report(&mut self, report: Report) {
        self.reports.push(report);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Corpus;

    #[test]
    fn the_corpus_leads_to_streams_in_both_directions() {
        let corpus = Corpus::read("router").unwrap();
        let counters = corpus.inputs().iter().map(|input| {
            let mut router = Router::new(Purpose::Control);
            pieces(input).for_each(|piece| router.hear(piece));
            router.plane.counters()
        });
        let counters: Vec<_> = counters.collect();
        assert!(counters.iter().any(|it| it.accepted > 0 && it.octets_in > 0), "a client of ours");
        assert!(counters.iter().any(|it| it.connected > 0 && it.octets_out > 0), "a client of theirs");
    }
}
