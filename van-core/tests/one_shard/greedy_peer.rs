//! One shard, and a peer that sends more than it should, as much as it may, or earlier than is expected.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use van_core::amqp::{
    Connection, DeliveryId, DeliveryState, Event, LinkId, NewLink, Role, Source, Symbol, Target, Token,
};
use van_core::annotations::{Annotations, DISABLE_Q2, STREAMING};
use van_core::encapsulation::{ClientStream, Features, write_client_stream};
use van_core::plane::{
    ConnectionId, ConnectorId, Key, MAX_MESSAGE_BYTES, PeerKind, Plane, Purpose, Report, ShardId, SubscriberId,
    WantedLink,
};
use van_core::router::{Core, Distribution, Identity, open_config};
use van_routing::{RouterId, Timing, Treatment};

use crate::world::{Workload, World};

const CONNECTION: ConnectionId = ConnectionId(1);

/// A link rests so long when a stream on it was given up: the peer says nothing of when it is done with it.
const UNHEARD_REST: Duration = Duration::from_secs(10);

/// A shard whose router has subscribers of `mc/x` and `near` and a workload of `echo`, and the peer with one link for messages.
struct Pair {
    plane: Plane,
    world: World,
    key: Key,
    peer: Connection,
    link: LinkId,
    outcomes: Vec<DeliveryState>,
    /// Windows and offsets that it was told.
    reports: Vec<(u32, u64)>,
    /// The deliveries that it got, and the links they came on.
    deliveries: Vec<(DeliveryId, LinkId)>,
    /// The peer's credit after each frame it sent.
    credits: Vec<u32>,
    /// Links that are gone.
    detached: usize,
}

impl Pair {
    fn new() -> Self {
        Self::on(Purpose::Control, &["qd.router-data"])
    }

    fn on(purpose: Purpose, capabilities: &[&str]) -> Self {
        Self::between(purpose, capabilities, false)
    }

    #[allow(clippy::disallowed_methods)] // any instant will do
    fn between(purpose: Purpose, capabilities: &[&str], is_alike: bool) -> Self {
        let now = Instant::now();
        let identity = Identity { id: RouterId::new("ours").expect("an id"), instance: 1, shards: 1, mesh: None };
        let mut core = Core::new(identity, Timing::default(), Distribution::default(), now);
        for (number, address) in ["mc/x", "near"].into_iter().enumerate() {
            core.subscribe(now, SubscriberId(number as u64), &Arc::from(address), Treatment::AnycastClosest);
        }
        core.add_connector(now, ConnectorId(1), &Arc::from("echo"));
        let mut plane = Plane::new(ShardId(0), Arc::clone(core.routes()), 1);
        let mut theirs = open_config("theirs", None, 1, None);
        theirs.properties.retain(|(key, _)| is_alike || key != "product");
        let mut peer = Connection::connect(theirs, Vec::new(), now);
        let admission = van_core::amqp::Admission { mechanisms: Vec::new(), sasl_optional: true };
        let mut engine = Connection::accept(open_config("ours", None, 1, None), admission, now);
        assert!(matches!(engine.next(&mut peer.output()), Ok(Some(Event::Opened(_)))));
        peer.clear_output();
        engine.answer_open([]);
        let channel = peer.begin().expect("a session");
        let data = || capabilities.iter().map(|it| Symbol::from(*it)).collect::<Vec<_>>();
        let link = NewLink {
            name: "messages".into(),
            role: Role::Sender,
            source: Some(Source { capabilities: data(), ..Source::default() }),
            target: Some(Target { capabilities: data(), ..Target::default() }),
            credit: 0,
            token: Token(1),
        };
        let link = peer.attach(channel, link).expect("a link");
        let key = plane.add_connection(CONNECTION, purpose, false, engine);
        let (outcomes, reports, deliveries, credits) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let world = World::default();
        let mut pair = Self { plane, world, key, peer, link, outcomes, reports, deliveries, credits, detached: 0 };
        pair.exchange();
        pair
    }

    fn exchange(&mut self) {
        for _ in 0..3 {
            let octets = self.peer.output().to_vec();
            self.peer.clear_output();
            self.plane.received(&mut self.world, self.key, &[&octets]);
            let said = self.world.said.remove(&self.key).unwrap_or_default();
            let mut input = said.as_slice();
            while let Some(event) = self.peer.next(&mut input).expect("nothing wrong") {
                match event {
                    Event::Attached { link, attach, is_answer: false, .. } => {
                        self.peer.accept_link(link, &attach, Token(3), 250);
                    }
                    Event::Delivery { delivery, link, .. } => self.deliveries.push((delivery, link)),
                    Event::Detached { .. } => self.detached += 1,
                    Event::Disposition { state: Some(state), settled: true, .. } => self.outcomes.push(state),
                    Event::Disposition {
                        state: Some(DeliveryState::Received { section_number, section_offset }),
                        ..
                    } => self.reports.push((section_number, section_offset)),
                    _ => {}
                }
            }
        }
    }

    /// Sends a message with a body of so many octets.
    fn send(&mut self, to: &str, length: usize) {
        let mut message = b"\x00\x53\x73\xd0\x00\x00\x00".to_vec(); // properties: null, null, to
        message.extend([to.len() as u8 + 8, 0, 0, 0, 3, 0x40, 0x40, 0xa1, to.len() as u8]);
        message.extend(to.as_bytes());
        message.extend(b"\x00\x53\x75\xb0");
        message.extend((length as u32).to_be_bytes());
        message.resize(message.len() + length, 0);
        self.transfer(&message, true);
    }

    fn transfer(&mut self, message: &[u8], is_whole: bool) {
        assert!(self.peer.start_delivery(self.link, Token(2), false), "there is credit");
        self.go_on(message, is_whole);
    }

    /// Sends more of the delivery under way.
    fn go_on(&mut self, octets: &[u8], is_whole: bool) {
        let mut rest = octets;
        while !rest.is_empty() {
            let (frame, later) = rest.split_at(rest.len().min(self.peer.max_payload(self.link)));
            rest = later;
            self.peer.transfer(self.link, frame.len(), !(is_whole && rest.is_empty()));
            self.peer.append_payload(frame);
            self.exchange();
            self.credits.push(self.peer.credit(self.link));
        }
    }

    /// Begins a client's stream, and has the workload answer.
    fn client(&mut self, features: Features) -> Key {
        let mut message = Vec::new();
        Annotations::fresh(STREAMING | DISABLE_Q2).forward("amqp:/_topo/0/theirs", &mut message);
        let client = ClientStream { key: "echo", reply_to: "amqp:/_topo/0/theirs/temp.1", alpn: None, flow: None };
        write_client_stream(client, features, &mut message);
        self.transfer(&message, false);
        let stream = self.world.connecting.pop().expect("the workload is asked");
        self.plane.connected(&mut self.world, stream);
        self.exchange();
        stream
    }

    fn taken(&mut self) -> Option<Key> {
        let Report::Deliver { message, .. } = self.world.reports.remove(0) else { panic!("a message") };
        self.plane.control_taken(CONNECTION, message.len())
    }
}

#[test]
fn a_peer_that_says_more_than_is_taken_is_not_read() {
    let mut pair = Pair::new();
    for number in 0..11 {
        assert!(!pair.plane.is_choked(pair.key), "after {number}");
        pair.send(if number % 2 == 0 { "mc/x" } else { "near" }, 100_000);
    }
    assert!(pair.plane.is_choked(pair.key));
    assert_eq!(pair.outcomes, vec![DeliveryState::Accepted; 11]);
    assert_eq!(pair.taken(), Some(pair.key));
    assert!(!pair.plane.is_choked(pair.key));
    (0..10).for_each(|_| assert_eq!(pair.taken(), None));
    assert!(pair.world.reports.is_empty() && pair.plane.is_idle());
}

#[test]
fn a_message_that_is_too_long_is_rejected_and_the_next_is_taken() {
    for address in ["mc/x", "near"] {
        let mut pair = Pair::new();
        pair.send(address, MAX_MESSAGE_BYTES);
        pair.send(address, 300_000);
        assert!(matches!(&pair.outcomes[..], [DeliveryState::Rejected(Some(_)), DeliveryState::Accepted]));
        assert_eq!(pair.world.reports.len(), 1);
        assert!(pair.plane.is_idle());
    }
}

#[test]
fn a_message_for_nobody_is_released() {
    let mut pair = Pair::new();
    pair.send("mc/y", 100);
    assert_eq!(pair.outcomes, [DeliveryState::Released]);
    assert!(pair.world.reports.is_empty());
}

#[test]
fn an_edge_router_is_given_credit_when_its_delivery_has_begun_and_not_again_when_it_is_over() {
    let mut pair = Pair::on(Purpose::Links(PeerKind::Edge), &[]);
    for _ in 0..200 {
        pair.send("mc/x", 100_000);
        pair.taken();
    }
    assert_eq!(pair.credits, [250; 400]);
}

#[test]
fn a_router_of_our_kind_is_given_credit_when_much_of_it_is_used() {
    let mut pair = Pair::between(Purpose::Links(PeerKind::Edge), &[], true);
    for _ in 0..62 {
        pair.send("mc/x", 100_000);
        pair.taken();
    }
    assert_eq!(pair.credits.first(), Some(&249));
    assert_eq!(pair.credits.iter().filter(|credit| **credit == 250).count(), 1);
}

#[test]
fn a_client_is_given_credit_when_its_delivery_is_over() {
    let mut pair = Pair::on(Purpose::Links(PeerKind::Client), &[]);
    for _ in 0..62 {
        pair.send("mc/x", 100_000);
        pair.taken();
    }
    let left = (189..250).rev().flat_map(|left| [left, left]);
    assert_eq!(pair.credits, left.chain([188, 250]).collect::<Vec<_>>());
}

#[test]
fn a_link_that_is_detached_before_it_is_answered_is_told_to_be_lost() {
    let mut pair = Pair::on(Purpose::Links(PeerKind::Client), &[]);
    let channel = pair.peer.begin().expect("a session");
    let link = NewLink {
        name: "consumer".into(),
        role: Role::Receiver,
        source: Some(Source { address: Some("mc/z".into()), ..Source::default() }),
        target: Some(Target::default()),
        credit: 10,
        token: Token(4),
    };
    let link = pair.peer.attach(channel, link).expect("a link");
    pair.peer.detach(link, None);
    pair.exchange();
    assert_eq!(pair.detached, 1, "it is answered");
    let [Report::LinkRequested(request), Report::LinkLost { endpoint, .. }] = &pair.world.reports[..] else {
        panic!("{:?}", pair.world.reports)
    };
    assert_eq!(request.endpoint, *endpoint);
}

#[test]
fn links_of_ours_have_a_new_session_when_the_peer_has_ended_theirs() {
    let mut pair = Pair::on(Purpose::Links(PeerKind::Client), &[]);
    let wanted = |label| WantedLink {
        label,
        is_sender: true,
        peer_address: Some(Arc::from("queue")),
        address: None,
        capability: None,
        is_control: false,
        credit: 0,
    };
    pair.plane.attach_link(&mut pair.world, CONNECTION, wanted(1));
    pair.exchange();
    let [Report::LinkAttached { label: 1, endpoint }] = pair.world.reports[..] else { panic!("attached") };
    let theirs = pair.peer.links().last().expect("a link").id;
    pair.peer.end(theirs.channel(), None);
    pair.exchange();
    pair.plane.attach_link(&mut pair.world, CONNECTION, wanted(2));
    pair.exchange();
    let [Report::LinkLost { endpoint: lost, .. }, Report::LinkAttached { label: 2, .. }] = pair.world.reports[1..]
    else {
        panic!("{:?}", pair.world.reports)
    };
    assert_eq!(lost, endpoint);
}

#[test]
fn an_edge_router_that_takes_little_at_a_time_misses_nothing_that_it_is_told() {
    let mut pair = Pair::on(Purpose::Links(PeerKind::Edge), &[]);
    let (label, peer_address, address) = (7, Some(Arc::from("news")), None);
    let wanted =
        WantedLink { label, is_sender: true, peer_address, address, capability: None, is_control: true, credit: 0 };
    pair.plane.attach_link(&mut pair.world, CONNECTION, wanted);
    pair.exchange();
    let Some(&Report::LinkAttached { endpoint, .. }) = pair.world.reports.first() else { panic!("attached") };
    for _ in 0..1000 {
        pair.plane.send_on_link(&mut pair.world, endpoint, Bytes::from_static(b"\x00\x53\x75\xa0\x01x"));
    }
    for _ in 0..4 {
        pair.exchange();
    }
    assert_eq!(pair.deliveries.len(), 1000);
}

/// The peer has a client of the workload, whose end names these features, and the workload is there.
fn with_client(features: Features, is_alike: bool) -> Pair {
    let mut pair = Pair::between(Purpose::Data, &[], is_alike);
    pair.client(features);
    pair
}

#[test]
fn a_sender_that_names_windows_is_told_them_and_others_have_the_fixed_one() {
    let older = Features { window: None, ..Features::OURS };
    let fixed = [
        (Features::default(), true, 521_216..586_752),
        (older, true, 131_072..196_608),
        // There is a router on the way that is none of ours.
        (Features::OURS, false, 131_072..196_608),
    ];
    for (features, is_alike, first) in fixed {
        let mut pair = with_client(features, is_alike);
        pair.world.workload = Workload::Reads;
        pair.go_on(&vec![0; 1_000_000], false);
        assert!(first.contains(&pair.reports[0].1), "{:?}", pair.reports);
        assert!(pair.reports.iter().all(|(window, _)| *window == 0), "{:?}", pair.reports);
    }
    let mut pair = with_client(Features::OURS, true);
    pair.world.workload = Workload::Reads;
    pair.go_on(&vec![0; 65_536], false);
    let limits: Vec<_> = pair.reports.iter().map(|(window, offset)| u64::from(*window) + offset).collect();
    assert!(limits[0] > 65_536 && limits.is_sorted(), "{:?}", pair.reports);
}

#[test]
fn a_sender_that_exceeds_what_it_was_granted_is_given_up() {
    for (features, granted, too_much) in
        [(Features::OURS, 65_536, 400_000), (Features::default(), 1_042_432, 5_000_000)]
    {
        let mut pair = with_client(features, true);
        pair.world.workload = Workload::HasStopped;
        let (before, _) = pair.plane.waiting();
        pair.go_on(&vec![0; granted], false);
        assert_eq!((pair.world.closed.len(), pair.plane.waiting().0), (0, before + granted));
        pair.go_on(&vec![0; too_much - granted], false);
        assert_eq!(pair.world.closed.len(), 1, "{too_much} octets came");
        assert!(pair.plane.waiting().0 <= before);
    }
}

#[test]
fn a_workload_answers_a_client_behind_a_neighbour_that_is_not_known_yet() {
    let pair = with_client(Features::default(), false);
    assert!(pair.world.closed.is_empty() && pair.outcomes.is_empty());
    assert_eq!(pair.plane.counters().streams, 1);
}

#[test]
fn a_link_to_another_kind_of_router_carries_the_next_stream_once_the_last_is_settled() {
    for is_alike in [false, true] {
        let mut pair = Pair::between(Purpose::Data, &[], is_alike);
        pair.world.workload = Workload::Reads;
        let mut links = Vec::new();
        for number in 0..3 {
            let stream = pair.client(Features::default());
            let (delivery, link) = pair.deliveries[number];
            links.push(link);
            pair.go_on(b"x", true);
            pair.world.has_ended = true;
            pair.plane.readable(&mut pair.world, stream);
            pair.world.has_ended = false;
            if number == 1 {
                pair.peer.dispose(delivery, Some(DeliveryState::Accepted), true);
            }
            pair.exchange();
        }
        let [first, second, third] = links[..] else { panic!("three streams") };
        assert_eq!((second == first, third == second), (is_alike, true));
    }
}

#[test]
fn a_workload_that_may_be_gone_is_not_asked_for_while_its_last_words_are_on_their_way() {
    let mut pair = Pair::between(Purpose::Data, &[], true);
    pair.world.workload = Workload::Reads;
    let stream = pair.client(Features::default());
    pair.world.talk.insert(stream, 1000);
    pair.world.has_ended = true;
    pair.plane.readable(&mut pair.world, stream);
    pair.exchange();
    assert!(pair.plane.half_closed().is_empty(), "its client has not had all of it");
    pair.peer.dispose(pair.deliveries[0].0, Some(DeliveryState::Accepted), true);
    pair.exchange();
    assert_eq!(pair.plane.half_closed(), [stream]);
}

#[test]
fn a_link_to_another_kind_of_router_rests_when_its_stream_has_broken() {
    let mut pair = Pair::between(Purpose::Data, &[], false);
    pair.world.workload = Workload::Broken;
    let mut links = Vec::new();
    for number in 0..3 {
        pair.plane.set_time(if number == 2 { UNHEARD_REST } else { Duration::ZERO });
        pair.client(Features::default());
        links.push(pair.deliveries[number].1);
        pair.go_on(b"x", true);
        pair.exchange();
        assert_eq!(pair.world.closed.len(), number + 1);
    }
    let [first, second, third] = links[..] else { panic!("three streams") };
    assert!(second != first && [first, second].contains(&third), "{links:?}");
}

#[test]
fn who_says_little_passes_a_full_path_and_the_busy_wait() {
    let mut pair = Pair::between(Purpose::Data, &[], true);
    pair.world.workload = Workload::Reads;
    let [busy, little] = [(); 2].map(|()| {
        let stream = pair.client(Features::default());
        pair.go_on(b"x", true); // and no more, so the link is free for the next
        stream
    });
    let said = |pair: &mut Pair, stream, octets| {
        pair.world.talk.insert(stream, octets);
        pair.plane.readable(&mut pair.world, stream);
        pair.world.said.remove(&pair.key).map_or(0, |said| said.len())
    };
    let first = said(&mut pair, busy, 1_000_000);
    assert!((786_432..900_000).contains(&first), "the peer has told nothing yet: {first}");
    for _ in 0..10 {
        let next = said(&mut pair, little, 100);
        assert!((101..200).contains(&next), "{next}");
        assert_eq!(said(&mut pair, busy, 1_000_000), 0);
    }
    let more: usize = (0..10).map(|_| said(&mut pair, little, 10_000)).sum();
    assert!((4096..4300).contains(&more), "who then says much waits as well: {more}");
}
