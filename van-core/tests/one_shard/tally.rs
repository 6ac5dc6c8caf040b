//! One shard with two clients: what is counted of the deliveries between them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use van_core::amqp::{Admission, Connection, DeliveryState, Event, LinkId, NewLink, Role, Source, Target, Token};
use van_core::plane::{ConnectionId, Key, Passed, PeerKind, Plane, Purpose, ShardId, ShownLink, Tally};
use van_core::router::{Announcement, Candidate, Core, Distribution, Identity, Origin, open_config};
use van_routing::{RouterId, Timing};

use crate::world::World;

/// A client with one link for the address `q`.
pub(crate) struct Client {
    key: Key,
    id: ConnectionId,
    engine: Connection,
    link: LinkId,
    /// What it says to the deliveries that come, in turn.
    answers: Vec<DeliveryState>,
    outcomes: Vec<DeliveryState>,
    /// Deliveries that have begun to come, and what it says to each of them, if it does not wait for the end.
    pub(crate) begun: usize,
    pub(crate) answer_begun: Option<DeliveryState>,
}

/// A router, one client that receives and one that sends.
pub(crate) struct Router {
    pub(crate) core: Core,
    pub(crate) plane: Plane,
    pub(crate) world: World,
    pub(crate) now: Instant,
    start: Instant,
    pub(crate) receiver: Client,
    sender: Client,
}

impl Client {
    fn new(core: &mut Core, plane: &mut Plane, now: Instant, name: &str, role: Role) -> Self {
        let mut engine = Connection::connect(open_config(name, None, 1, None), Vec::new(), now);
        let admission = Admission { mechanisms: Vec::new(), sasl_optional: true };
        let mut ours = Connection::accept(open_config("ours", None, 1, None), admission, now);
        let Ok(Some(Event::Opened(open))) = ours.next(&mut engine.output()) else { panic!("an open") };
        engine.clear_output();
        let announcement = Announcement { purpose: Purpose::Links(PeerKind::Client), ..Announcement::read(&open) };
        let admitted = core.admit(now, Candidate::new(announcement, Origin::Accepted, 1)).expect("a client");
        ours.answer_open([]);
        let key = plane.add_connection(admitted.id, admitted.purpose, false, ours);
        let channel = engine.begin().expect("a session");
        let (source, target) = match role {
            Role::Sender => (Source::default(), Target { address: Some("q".into()), ..Target::default() }),
            Role::Receiver => (Source { address: Some("q".into()), ..Source::default() }, Target::default()),
        };
        let new = NewLink {
            name: name.to_owned(),
            role,
            source: Some(source),
            target: Some(target),
            credit: 0,
            token: Token(1),
        };
        let link = engine.attach(channel, new).expect("a link");
        let (answers, outcomes) = (Vec::new(), Vec::new());
        Self { key, id: admitted.id, engine, link, answers, outcomes, begun: 0, answer_begun: None }
    }

    fn hear(&mut self, octets: &[u8]) {
        let mut input = octets;
        while let Some(event) = self.engine.next(&mut input).expect("nothing wrong") {
            match event {
                Event::Delivery { delivery, .. } => {
                    self.begun += 1;
                    if let Some(answer) = self.answer_begun.clone() {
                        self.engine.dispose(delivery, Some(answer), true);
                    }
                }
                Event::Complete { delivery, settled: false, .. } if !self.answers.is_empty() => {
                    let answer = self.answers.remove(0);
                    self.engine.dispose(delivery, Some(answer), true);
                }
                Event::Disposition { state: Some(state), settled: true, .. } => self.outcomes.push(state),
                _ => {}
            }
        }
    }
}

impl Router {
    #[allow(clippy::disallowed_methods)] // any instant will do
    pub(crate) fn new() -> Self {
        let start = Instant::now();
        let identity = Identity { id: RouterId::new("ours").expect("an id"), instance: 1, shards: 1, mesh: None };
        let mut core = Core::new(identity, Timing::default(), Distribution::default(), start);
        let mut plane = Plane::new(ShardId(0), Arc::clone(core.routes()), 1);
        let receiver = Client::new(&mut core, &mut plane, start, "receiver", Role::Receiver);
        let sender = Client::new(&mut core, &mut plane, start, "sender", Role::Sender);
        let mut router = Self { core, plane, world: World::default(), now: start, start, receiver, sender };
        router.settle();
        router
    }

    /// Lets everything happen.
    pub(crate) fn settle(&mut self) {
        for _ in 0..8 {
            for client in [&mut self.receiver, &mut self.sender] {
                let octets = client.engine.output().to_vec();
                client.engine.clear_output();
                self.plane.received(&mut self.world, client.key, &[&octets]);
            }
            for report in std::mem::take(&mut self.world.reports) {
                self.core.handle_report(self.now, report);
            }
            while let Some(output) = self.core.poll_output() {
                output.carry_out(&mut self.plane, &mut self.world, self.now);
            }
            for client in [&mut self.receiver, &mut self.sender] {
                client.hear(&self.world.said.remove(&client.key).unwrap_or_default());
            }
        }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.plane.set_time(self.now - self.start);
        self.plane.handle_timeout(&mut self.world, self.now);
    }

    fn send(&mut self, is_settled: bool) {
        let message = b"\x00\x53\x75\xa0\x01x";
        let Client { engine, link, .. } = &mut self.sender;
        assert!(engine.start_delivery(*link, Token(2), is_settled), "there is credit");
        engine.transfer(*link, message.len(), false);
        engine.append_payload(message);
        self.settle();
    }

    /// The receiver takes so many more.
    pub(crate) fn take(&mut self, count: u32) {
        let Client { engine, link, .. } = &mut self.receiver;
        engine.grant(*link, count);
        self.settle();
    }

    fn link(&self, name: &str) -> ShownLink {
        self.plane.links().into_iter().find(|link| link.name == name).expect("a link of that name")
    }
}

#[test]
fn every_outcome_is_counted_on_both_links_and_on_the_router() {
    let mut router = Router::new();
    router.take(10);
    let answers =
        [DeliveryState::Accepted, DeliveryState::Accepted, DeliveryState::Rejected(None), DeliveryState::Released];
    router.receiver.answers = [&answers[..], &[DeliveryState::FAILED]].concat();
    (0..5).for_each(|_| router.send(false));
    (0..3).for_each(|_| router.send(true));
    assert_eq!(router.sender.outcomes.len(), 5);
    let expected = Tally { presettled: 3, accepted: 2, rejected: 1, released: 1, modified: 1, ..Tally::default() };
    for name in ["sender", "receiver"] {
        let link = router.link(name);
        assert_eq!((link.deliveries, link.ends, link.unsettled), (8, expected, 0), "{name}");
    }
    let counters = router.plane.counters();
    assert_eq!(counters.ends, expected);
    let passed = Passed { ingress: 8, egress: 8, ..Passed::default() };
    assert_eq!(counters.passed, passed);
    assert_eq!(router.core.routes().addresses["q"].passages.passed(), passed);
}

#[test]
fn what_waits_is_unsettled_then_stuck_and_then_counts_as_delayed() {
    let mut router = Router::new();
    router.pass(Duration::from_secs(1));
    (0..3).for_each(|_| router.send(false));
    let both = |router: &Router| {
        let [sender, receiver] = ["sender", "receiver"].map(|name| router.link(name));
        ((sender.unsettled, sender.stuck), (receiver.waiting, receiver.unsettled, receiver.stuck))
    };
    assert_eq!(both(&router), ((3, 0), (3, 0, 0)), "no credit yet");
    router.receiver.answers = vec![DeliveryState::Accepted];
    router.pass(Duration::from_secs(5));
    router.take(1);
    assert_eq!(both(&router), ((2, 0), (2, 0, 0)));
    router.pass(Duration::from_secs(6));
    router.take(1);
    assert_eq!(both(&router), ((2, 2), (1, 1, 2)), "one has come and is not answered");
    router.receiver.answers = vec![DeliveryState::Accepted];
    router.take(1);
    for name in ["sender", "receiver"] {
        let ends = router.link(name).ends;
        assert_eq!((ends.accepted, ends.delayed, ends.much_delayed), (2, 1, 1), "{name}");
    }
    let ends = router.plane.counters().ends;
    assert_eq!((ends.delayed, ends.much_delayed), (1, 1));
}

#[test]
fn a_link_tells_how_long_it_has_had_no_credit_and_a_connection_how_long_no_delivery() {
    let mut router = Router::new();
    let without = |router: &Router| router.link("receiver").without_credit.map(|time| time.as_secs());
    let quiet =
        |router: &Router| router.plane.last_deliveries().iter().map(|(_, ago)| ago.as_secs()).collect::<Vec<_>>();
    router.pass(Duration::from_secs(7));
    assert_eq!((without(&router), quiet(&router)), (Some(7), vec![]), "none was ever given");
    router.take(1);
    assert_eq!(without(&router), None);
    router.send(true);
    router.pass(Duration::from_secs(3));
    assert_eq!((without(&router), quiet(&router)), (Some(3), vec![3, 3]));
}

#[test]
fn settled_messages_for_nobody_are_counted_as_dropped() {
    let mut router = Router::new();
    router.take(10);
    router.send(true);
    let Client { engine, link, .. } = &mut router.receiver;
    engine.detach(*link, None);
    router.settle();
    router.send(true);
    let ends = router.link("sender").ends;
    assert_eq!((ends.presettled, ends.dropped_presettled), (2, 1));
    assert_eq!(router.plane.counters().ends.dropped_presettled, 1);
}

#[test]
fn only_the_frames_of_a_traced_connection_are_told() {
    let mut router = Router::new();
    router.take(10);
    router.plane.set_traced(router.sender.id, true);
    router.send(true);
    let told = std::mem::take(&mut router.world.traced);
    assert!(told.iter().all(|(id, _)| *id == router.sender.id), "{told:?}");
    assert!(told.iter().any(|(_, line)| line.contains("<- Transfer")), "{told:?}");
    router.plane.set_traced(router.sender.id, false);
    router.send(true);
    assert!(router.world.traced.is_empty());
}
