//! One engine, and a peer that says what the test wants.

use std::time::{Duration, Instant};

use proptest::{collection::vec, prelude::*};
use van_routing::{
    AddressKey, AddressUpdate, Cost, Destination, Engine, Hello, LinkId, LinkState, LinkStateRequest, LinkStateUpdate,
    Message, MessageError, MobileAddress, MobileAddressRequest, MobileAddressUpdate, Output, RouterAdvertisement,
    RouterId, Timing,
};

const LINK: LinkId = LinkId(1);
const OTHER_LINK: LinkId = LinkId(2);

/// An engine called `me`, and a clock.
struct Fixture {
    engine: Engine,
    now: Instant,
}

fn id(name: &str) -> RouterId {
    RouterId::new(name).expect("a valid id")
}

fn key(key: &str) -> AddressKey {
    AddressKey::new(key).expect("a valid key")
}

fn addresses(keys: &[&str]) -> Vec<MobileAddress> {
    keys.iter().map(|name| MobileAddress::new(key(name))).collect()
}

fn cost(cost: u32) -> Cost {
    Cost::new(cost).expect("a valid cost")
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn hello(from: &str, instance: u64, seen: &[&str]) -> Message {
    Message::Hello(Hello { id: id(from), instance, seen: seen.iter().map(|name| id(name)).collect() })
}

fn advertisement(from: &str, instance: u64, ls_seq: u64, mobile_seq: u64) -> Message {
    Message::RouterAdvertisement(RouterAdvertisement { id: id(from), instance, ls_seq, mobile_seq })
}

fn link_state(from: &str, instance: u64, seq: u64, peers: &[&str]) -> Message {
    let peers = peers.iter().map(|name| (id(name), Cost::ONE)).collect();
    Message::LinkStateUpdate(LinkStateUpdate { id: id(from), instance, link_state: LinkState { seq, peers } })
}

fn differential(from: &str, mobile_seq: u64, add: &[&str], del: &[&str]) -> Message {
    let del = del.iter().map(|name| key(name)).collect();
    let addresses = AddressUpdate::Differential { add: addresses(add), del };
    Message::MobileAddressUpdate(MobileAddressUpdate { id: id(from), mobile_seq, addresses })
}

fn absolute(from: &str, mobile_seq: u64, exist: &[&str]) -> Message {
    let addresses = AddressUpdate::Absolute { exist: addresses(exist) };
    Message::MobileAddressUpdate(MobileAddressUpdate { id: id(from), mobile_seq, addresses })
}

fn address_request(from: &str, have_seq: u64) -> Message {
    Message::MobileAddressRequest(MobileAddressRequest { id: id(from), have_seq })
}

fn link_state_request(from: &str) -> Message {
    Message::LinkStateRequest(LinkStateRequest { id: id(from) })
}

fn transmit(to: Destination, message: Message) -> Output {
    Output::Transmit { to, message }
}

fn to(router: &str, message: Message) -> Output {
    transmit(Destination::Router(id(router)), message)
}

fn added(router: &str, name: &str) -> Output {
    Output::AddressAdded { router: id(router), address: MobileAddress::new(key(name)) }
}

fn removed(router: &str, name: &str) -> Output {
    Output::AddressRemoved { router: id(router), key: key(name) }
}

impl Fixture {
    #[expect(clippy::disallowed_methods, reason = "tests have to start somewhere")]
    fn new() -> Self {
        let now = Instant::now();
        Self { engine: Engine::new(id("me"), 7, Timing::default(), now), now }
    }

    /// With neighbour `peer` on [`LINK`], which lists us and `beyond`, all quiet.
    fn with_neighbor() -> Self {
        let mut this = Self::new();
        this.engine.handle_link_up(this.now, LINK, Cost::ONE);
        this.hear(&hello("peer", 1, &["me"]));
        this.hear(&link_state("peer", 1, 1, &["me", "beyond"]));
        this.hear(&advertisement("peer", 1, 1, 0));
        this.pass(ms(20));
        this.hear(&link_state("beyond", 1, 1, &["peer"]));
        this.hear(&advertisement("beyond", 1, 1, 0));
        this.pass(ms(40));
        this
    }

    /// Hears a message on [`LINK`], and returns what comes of it at once.
    fn hear(&mut self, message: &Message) -> Vec<Output> {
        self.hear_on(LINK, message)
    }

    fn hear_on(&mut self, link: LinkId, message: &Message) -> Vec<Output> {
        assert_eq!(self.engine.handle_message(self.now, link, message), Ok(()));
        self.outputs()
    }

    /// Lets time pass while the neighbour keeps saying hello.
    fn pass(&mut self, mut duration: Duration) -> Vec<Output> {
        let mut outputs = Vec::new();
        while duration > Duration::ZERO {
            let step = duration.min(Duration::from_secs(1));
            outputs.extend(self.hear(&hello("peer", 1, &["me"])));
            outputs.extend(self.pass_in_silence(step));
            duration -= step;
        }
        outputs
    }

    fn pass_in_silence(&mut self, duration: Duration) -> Vec<Output> {
        let (end, mut outputs) = (self.now + duration, Vec::new());
        while let Some(at) = self.engine.poll_timeout().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.engine.handle_timeout(self.now);
            assert!(self.engine.poll_timeout().is_none_or(|next| next > self.now), "all that was due is done");
            outputs.extend(self.outputs());
        }
        self.now = end;
        outputs
    }

    /// All outputs but our regular HELLOs, which have their own tests.
    fn outputs(&mut self) -> Vec<Output> {
        let is_hello = |output: &Output| matches!(output, Output::Transmit { message: Message::Hello(_), .. });
        self.all_outputs().into_iter().filter(|output| !is_hello(output)).collect()
    }

    fn all_outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.engine.poll_output()).collect()
    }

    fn routes(&self) -> Vec<&str> {
        self.engine.table().routes().map(|(id, _)| id.as_str()).collect()
    }
}

// === neighbours ===

#[test]
fn a_link_that_comes_up_carries_a_hello_at_once() {
    let mut me = Fixture::new();
    me.engine.handle_link_up(me.now, LINK, Cost::ONE);
    assert_eq!(me.all_outputs(), [transmit(Destination::Link(LINK), hello("me", 7, &[]))]);
}

#[test]
fn a_router_is_answered_at_once_when_first_heard_and_then_once_a_second() {
    let mut me = Fixture::new();
    me.engine.handle_link_up(me.now, LINK, Cost::ONE);
    me.all_outputs();
    let answer = transmit(Destination::Link(LINK), hello("me", 7, &["peer"]));
    for expected in [vec![answer.clone()], vec![], vec![]] {
        assert_eq!(me.engine.handle_message(me.now, LINK, &hello("peer", 1, &[])), Ok(()));
        assert_eq!(me.all_outputs(), expected);
    }
    me.now += ms(1000);
    me.engine.handle_timeout(me.now);
    assert_eq!(me.all_outputs(), [answer]);
}

#[test]
fn a_link_full_of_new_routers_is_not_answered_with_a_storm() {
    let mut me = Fixture::new();
    me.engine.handle_link_up(me.now, LINK, Cost::ONE);
    for i in 0..1000 {
        me.engine.handle_message(me.now, LINK, &hello(&format!("peer-{i}"), 1, &[])).unwrap();
    }
    assert_eq!(me.all_outputs().len(), 2);
}

#[test]
fn a_neighbour_is_one_that_hears_us() {
    let mut me = Fixture::new();
    me.engine.handle_link_up(me.now, LINK, cost(5));
    assert_eq!(me.hear(&hello("peer", 1, &["other"])), []);
    let outputs = me.hear(&hello("peer", 1, &["other", "me"]));
    assert_eq!(outputs[0], Output::NeighborUp { neighbor: id("peer"), link: LINK, cost: cost(5) });
    assert_eq!(me.engine.link_state(), &LinkState { seq: 1, peers: [(id("peer"), cost(5))].into() });
    assert_eq!(me.routes(), ["peer"]);
}

#[test]
fn a_neighbour_is_lost_after_three_and_a_half_seconds_of_silence() {
    let mut me = Fixture::with_neighbor();
    me.hear(&hello("peer", 1, &["me"]));
    assert!(!me.pass_in_silence(ms(3499)).contains(&Output::NeighborDown { neighbor: id("peer") }));
    assert_eq!(me.pass_in_silence(ms(1))[0], Output::NeighborDown { neighbor: id("peer") });
    assert_eq!(me.routes(), [""; 0]);
}

#[test]
fn a_neighbour_is_lost_at_once_when_it_lists_us_no_more_or_its_link_is_gone() {
    let mut me = Fixture::with_neighbor();
    assert_eq!(me.hear(&hello("peer", 1, &[]))[0], Output::NeighborDown { neighbor: id("peer") });
    let mut me = Fixture::with_neighbor();
    me.engine.handle_link_down(me.now, LINK);
    assert_eq!(me.outputs()[0], Output::NeighborDown { neighbor: id("peer") });
}

#[test]
fn a_router_without_neighbours_says_nothing_but_hello() {
    let mut me = Fixture::new();
    assert_eq!(me.engine.poll_timeout(), None);
    me.engine.handle_link_up(me.now, LINK, Cost::ONE);
    assert_eq!(me.pass_in_silence(ms(100_000)), []);
}

#[test]
fn a_hello_on_a_link_that_is_gone_is_nothing() {
    let mut me = Fixture::new();
    assert_eq!(me.hear(&hello("peer", 1, &["me"])), []);
}

#[test]
fn of_two_links_the_cheaper_is_used_and_then_the_lower() {
    let mut me = Fixture::new();
    let mut up = |link, cost| {
        me.engine.handle_link_up(me.now, link, cost);
        me.hear_on(link, &hello("peer", 1, &["me"]));
        me.pass_in_silence(ms(20));
        (me.engine.table().route(&id("peer")).unwrap().link, me.engine.link_state().clone())
    };
    let peers = |cost| [(id("peer"), cost)].into();
    assert_eq!(up(OTHER_LINK, cost(4)), (OTHER_LINK, LinkState { seq: 1, peers: peers(cost(4)) }));
    assert_eq!(up(LINK, cost(4)), (LINK, LinkState { seq: 1, peers: peers(cost(4)) }));
    assert_eq!(up(OTHER_LINK, cost(3)), (OTHER_LINK, LinkState { seq: 2, peers: peers(cost(3)) }));
    me.engine.handle_link_down(me.now, OTHER_LINK);
    me.pass_in_silence(ms(20));
    assert_eq!(me.engine.table().route(&id("peer")).unwrap().link, LINK);
    assert_eq!(me.engine.link_state(), &LinkState { seq: 3, peers: peers(cost(4)) });
}

// === link states ===

#[test]
fn a_new_link_state_is_flooded_before_its_advertisement_and_then_questions_are_asked() {
    let mut me = Fixture::new();
    me.engine.handle_link_up(me.now, LINK, Cost::ONE);
    let outputs = me.hear(&hello("peer", 1, &["me"]));
    assert_eq!(
        outputs[1..],
        [
            Output::TableChanged,
            transmit(Destination::Flood, link_state("me", 7, 1, &["peer"])),
            transmit(Destination::Flood, advertisement("me", 7, 1, 0)),
            to("peer", link_state_request("me")),
            to("peer", address_request("me", 0)),
        ]
    );
}

#[test]
fn a_router_that_is_only_listed_is_reached_and_asked() {
    let mut me = Fixture::with_neighbor();
    let outputs = me.hear(&link_state("peer", 1, 2, &["me", "beyond", "new"]));
    assert!(outputs.contains(&to("new", link_state_request("me"))));
    assert_eq!(me.routes(), ["beyond", "new", "peer"]);
}

#[test]
fn a_newer_link_state_is_asked_for_until_it_comes() {
    let mut me = Fixture::with_neighbor();
    let request = to("beyond", link_state_request("me"));
    assert!(me.hear(&advertisement("beyond", 1, 2, 0)).contains(&request));
    assert_eq!(me.hear(&advertisement("beyond", 1, 2, 0)), []);
    assert!(me.pass(ms(200)).contains(&request));
    me.hear(&link_state("beyond", 1, 2, &["peer"]));
    assert!(!me.pass(ms(10_000)).contains(&request));
}

#[test]
fn an_older_link_state_changes_nothing() {
    let mut me = Fixture::with_neighbor();
    me.hear(&link_state("beyond", 1, 1, &["peer", "far"]));
    me.pass(ms(1000));
    assert_eq!(me.routes(), ["beyond", "peer"]);
}

#[test]
fn questions_are_answered_when_there_is_a_way() {
    let mut me = Fixture::with_neighbor();
    assert_eq!(me.hear(&link_state_request("beyond")), [to("beyond", link_state("me", 7, 1, &["peer"]))]);
    assert_eq!(me.hear(&link_state_request("new")), []);
    let outputs = me.hear(&link_state("peer", 1, 2, &["me", "beyond", "new"]));
    assert!(outputs.contains(&to("new", link_state("me", 7, 1, &["peer"]))));
}

#[test]
fn newcomers_are_asked_and_nobody_else_is_troubled() {
    let mut me = Fixture::with_neighbor();
    me.pass(ms(10_000));
    let outputs = me.hear(&link_state("peer", 1, 2, &["me", "beyond", "new"]));
    assert!(outputs.contains(&to("new", link_state_request("me"))));
    let is_flooded = |output: &Output| matches!(output, Output::Transmit { to: Destination::Flood, .. });
    assert!(!outputs.iter().any(is_flooded));
}

#[test]
fn a_neighbor_that_talks_is_alive_although_its_hellos_are_late() {
    let mut me = Fixture::with_neighbor();
    for _ in 0..10 {
        me.pass_in_silence(ms(1000));
        me.hear(&advertisement("peer", 1, 1, 0));
    }
    assert_eq!(me.routes(), ["beyond", "peer"]);
    me.pass_in_silence(ms(3500));
    assert_eq!(me.routes(), [""; 0]);
}

#[test]
fn a_router_advertises_itself_often_in_flux_and_seldom_in_quiet_times() {
    let mut me = Fixture::with_neighbor();
    let mut count = |duration| {
        let is_ours = |output: &&Output| **output == transmit(Destination::Flood, advertisement("me", 7, 1, 0));
        me.pass(duration).iter().filter(is_ours).count()
    };
    assert_eq!(count(ms(13_000)), 3, "in flux");
    assert_eq!(count(ms(45_000)), 1, "in quiet times");
}

#[test]
fn a_link_state_is_forgotten_after_a_minute_without_a_sign() {
    let mut me = Fixture::with_neighbor();
    me.hear(&link_state("beyond", 1, 2, &["peer", "far"]));
    for _ in 0..59 {
        me.hear(&advertisement("peer", 1, 1, 0));
        me.pass(ms(1000));
    }
    assert_eq!(me.routes(), ["beyond", "far", "peer"]);
    me.pass(ms(2000));
    assert_eq!(me.routes(), ["beyond", "peer"]);
}

#[test]
fn a_router_that_is_listed_just_before_it_is_forgotten_is_asked_when_it_is_heard_of_again() {
    let mut me = Fixture::with_neighbor();
    me.hear(&advertisement("stray", 1, 1, 0));
    me.pass(ms(2990));
    me.hear(&link_state("peer", 1, 2, &["me"]));
    me.pass(ms(5));
    // The table waits for a moment, because there has just been one.
    me.hear(&link_state("peer", 1, 3, &["me", "stray"]));
    me.pass(ms(30));
    let asked = me.hear(&advertisement("stray", 1, 1, 0));
    assert!(asked.contains(&to("stray", link_state_request("me"))), "{asked:?}");
}

#[test]
fn a_router_that_nobody_lists_is_forgotten() {
    let mut me = Fixture::with_neighbor();
    me.hear(&advertisement("stray", 1, 0, 0));
    me.hear(&differential("stray", 1, &[], &[]));
    me.pass(ms(4000));
    let update = differential("stray", 2, &[], &[]);
    let expected = Err(MessageError::UnknownRouter { router: id("stray") });
    assert_eq!(me.engine.handle_message(me.now, LINK, &update), expected);
}

// === restarts and namesakes ===

#[test]
fn a_restarted_router_starts_from_nothing() {
    let mut me = Fixture::with_neighbor();
    me.hear(&differential("beyond", 1, &["Mold"], &[]));
    let outputs = me.hear(&advertisement("beyond", 2, 1, 1));
    assert!(outputs.contains(&removed("beyond", "Mold")));
    assert!(outputs.contains(&Output::TableChanged));
    assert!(outputs.contains(&to("beyond", link_state_request("me"))));
    assert!(outputs.contains(&to("beyond", address_request("me", 0))));
    assert_eq!(me.hear(&differential("beyond", 1, &["Mnew"], &[])), [added("beyond", "Mnew")]);
}

#[test]
fn a_restarted_neighbour_is_noticed_before_it_hears_us() {
    let mut me = Fixture::with_neighbor();
    me.hear(&differential("peer", 1, &["Mold"], &[]));
    let outputs = me.hear(&hello("peer", 2, &[]));
    assert!(outputs.contains(&removed("peer", "Mold")));
    assert!(outputs.contains(&Output::NeighborDown { neighbor: id("peer") }));
}

#[test]
fn a_lower_instance_is_believed_when_the_higher_one_does_not_answer() {
    let mut me = Fixture::with_neighbor();
    me.hear(&differential("beyond", 1, &["Mold"], &[]));
    assert_eq!(me.hear(&advertisement("beyond", 0, 9, 0)), [to("beyond", link_state_request("me"))]);
    me.pass(ms(1300));
    assert!(me.hear(&advertisement("beyond", 0, 9, 0)).contains(&removed("beyond", "Mold")));
}

#[test]
fn a_namesake_is_reported_once_a_minute_and_not_believed() {
    let mut me = Fixture::with_neighbor();
    let report = Output::DuplicateId { router: id("beyond") };
    let mut reports = 0;
    for _ in 0..65 {
        me.pass(ms(1000));
        let outputs = me.hear(&advertisement("beyond", 0, 9, 9));
        reports += outputs.iter().filter(|output| **output == report).count();
        me.hear(&link_state("beyond", 1, 1, &["peer"]));
        me.hear(&advertisement("peer", 1, 1, 0));
    }
    assert_eq!((reports, me.routes()), (2, vec!["beyond", "peer"]));
}

#[test]
fn our_own_id_with_another_instance_is_reported_and_with_ours_it_is_an_echo() {
    let mut me = Fixture::new();
    me.engine.handle_link_up(me.now, LINK, Cost::ONE);
    assert_eq!(me.hear(&hello("me", 6, &[])), [], "from before our restart, perhaps");
    me.now += ms(3000);
    let mut hear =
        |instance| me.hear(&hello("me", instance, &["me"])).contains(&Output::DuplicateId { router: id("me") });
    assert_eq!([7, 6, 6].map(&mut hear), [false, true, false]);
}

// === addresses ===

#[test]
fn a_burst_of_addresses_is_one_update_and_updates_share_an_advertisement() {
    let mut me = Fixture::with_neighbor();
    me.pass(ms(60));
    me.engine.advertise(me.now, MobileAddress::new(key("Ma")));
    me.engine.advertise(me.now, MobileAddress::new(key("Mb")));
    assert_eq!(me.outputs(), []);
    let update = transmit(Destination::Tree, differential("me", 1, &["Ma", "Mb"], &[]));
    assert_eq!(me.pass_in_silence(ms(0)), [update]);
    me.engine.withdraw(me.now, &key("Ma"));
    assert_eq!(me.pass_in_silence(ms(49)), []);
    assert_eq!(me.pass_in_silence(ms(1)), [transmit(Destination::Tree, differential("me", 2, &[], &["Ma"]))]);
    let advertised = transmit(Destination::Flood, advertisement("me", 7, 1, 2));
    assert!(me.pass_in_silence(ms(2000)).contains(&advertised), "so that who missed one asks");
}

#[test]
fn all_addresses_are_told_to_those_who_have_not_the_latest() {
    let mut me = Fixture::with_neighbor();
    me.engine.advertise(me.now, MobileAddress::new(key("Ma")));
    me.pass(ms(60));
    assert_eq!(me.hear(&address_request("beyond", 0)), [to("beyond", absolute("me", 1, &["Ma"]))]);
    assert_eq!(me.hear(&address_request("beyond", 1)), []);
    assert_eq!(me.hear(&address_request("beyond", 2)), []);
}

#[test]
fn a_gap_in_the_updates_is_filled_by_one_request() {
    let mut me = Fixture::with_neighbor();
    assert_eq!(me.hear(&differential("beyond", 1, &["Ma"], &[])), [added("beyond", "Ma")]);
    assert_eq!(me.hear(&differential("beyond", 3, &["Mc"], &[])), [to("beyond", address_request("me", 1))]);
    assert_eq!(me.hear(&differential("beyond", 4, &[], &["Ma"])), []);
    let changes = me.hear(&absolute("beyond", 4, &["Mb", "Mc"]));
    assert_eq!(changes, [removed("beyond", "Ma"), added("beyond", "Mb"), added("beyond", "Mc")]);
    assert_eq!(me.engine.addresses(&id("beyond")).count(), 2);
}

#[test]
fn addresses_are_forgotten_a_second_after_the_last_path_is_gone_and_asked_for_when_it_is_back() {
    let mut me = Fixture::with_neighbor();
    me.hear(&differential("beyond", 1, &["Ma"], &[]));
    me.hear(&link_state("peer", 1, 2, &["me"]));
    assert!(!me.pass(ms(999)).contains(&removed("beyond", "Ma")));
    assert!(me.pass(ms(1)).contains(&removed("beyond", "Ma")));
    let outputs = me.hear(&link_state("peer", 1, 3, &["me", "beyond"]));
    assert!(outputs.contains(&to("beyond", address_request("me", 0))));
}

// === limits ===

#[test]
fn a_link_state_with_too_many_peers_is_refused() {
    let mut me = Fixture::with_neighbor();
    let names: Vec<_> = (0..=LinkState::MAX_PEERS).map(|i| format!("r{i}")).collect();
    let peers: Vec<_> = names.iter().map(String::as_str).collect();
    let expected = Err(MessageError::TooManyPeers { router: id("peer"), count: peers.len() });
    assert_eq!(me.engine.handle_message(me.now, LINK, &link_state("peer", 1, 2, &peers)), expected);
    me.pass(ms(20));
    assert_eq!(me.routes().len(), 2);
}

#[test]
fn no_more_than_so_many_routers_get_known() {
    let mut me = Fixture::with_neighbor();
    let names: Vec<_> = (2..Engine::MAX_ROUTERS).map(|i| format!("r{i}")).collect();
    let peers: Vec<_> = ["me", "beyond"].into_iter().chain(names.iter().map(String::as_str)).collect();
    me.hear(&link_state("peer", 1, 2, &peers));
    me.pass(ms(1000));
    let too_many = |router| Err(MessageError::TooManyRouters { router: id(router) });
    let mut refused = |message| me.engine.handle_message(me.now, LINK, &message);
    assert_eq!(refused(link_state("peer", 1, 3, &["one-more"])), too_many("peer"));
    assert_eq!(refused(advertisement("stray", 1, 0, 0)), too_many("stray"));
    assert_eq!(refused(hello("stray", 1, &["me"])), too_many("stray"));
    assert_eq!(refused(link_state_request("stray")), too_many("stray"));
}

#[test]
fn routers_that_cannot_be_reached_make_room_for_those_that_may_be() {
    let mut me = Fixture::with_neighbor();
    for number in 0..2 * Engine::MAX_ROUTERS {
        me.hear(&link_state(&format!("invented-{number}"), 1, 1, &["me"]));
    }
    me.hear(&link_state("peer", 1, 2, &["me", "real"]));
    me.pass(ms(20));
    assert!(me.engine.table().route(&id("real")).is_some());
}

#[test]
fn more_addresses_than_a_router_may_have_are_refused() {
    let mut me = Fixture::with_neighbor();
    let names: Vec<_> = (0..=MobileAddress::MAX_PER_ROUTER).map(|i| format!("M{i}")).collect();
    let keys: Vec<_> = names.iter().map(String::as_str).collect();
    let expected = Err(MessageError::TooManyAddresses { router: id("beyond"), count: keys.len() });
    assert_eq!(me.engine.handle_message(me.now, LINK, &absolute("beyond", 1, &keys)), expected);
    assert_eq!(me.engine.addresses(&id("beyond")).count(), 0);
}

// === floods ===

#[test]
fn a_flood_passes_once_and_not_back() {
    let mut me = Fixture::with_neighbor();
    me.engine.handle_link_up(me.now, OTHER_LINK, Cost::ONE);
    me.hear_on(OTHER_LINK, &hello("other", 1, &["me"]));
    me.pass(ms(20));
    let message = advertisement("beyond", 1, 1, 0);
    me.hear(&message);
    let trace = ["beyond", "peer"].map(id);
    assert_eq!(me.engine.flood(me.now, &message, &trace), [OTHER_LINK]);
    assert_eq!(me.engine.flood(me.now, &message, &trace), []);
    assert_eq!(me.engine.flood(me.now, &advertisement("me", 7, 1, 0), &[id("peer")]), []);
}

#[test]
fn an_advertisement_that_was_long_on_its_way_is_no_repetition() {
    let mut me = Fixture::with_neighbor();
    me.engine.handle_link_up(me.now, OTHER_LINK, Cost::ONE);
    me.hear_on(OTHER_LINK, &hello("other", 1, &["me"]));
    me.pass(ms(20));
    let message = advertisement("beyond", 1, 1, 0);
    let trace = ["beyond", "a", "b", "c", "peer"].map(id);
    me.hear(&message);
    assert_eq!(me.engine.flood(me.now, &message, &trace[1..]), [OTHER_LINK]);
    me.now += ms(3000);
    assert_eq!(me.engine.flood(me.now, &message, &trace), []);
    assert_eq!(me.engine.flood(me.now, &message, &trace[1..]), [OTHER_LINK]);
}

#[test]
fn what_a_namesake_floods_passes_so_that_all_hear_of_it() {
    let mut me = Fixture::with_neighbor();
    me.engine.handle_link_up(me.now, OTHER_LINK, Cost::ONE);
    me.hear_on(OTHER_LINK, &hello("other", 1, &["me"]));
    me.pass(ms(20));
    for message in [advertisement("beyond", 1, 1, 0), advertisement("beyond", 0, 1, 0)] {
        me.hear(&message);
        assert_eq!(me.engine.flood(me.now, &message, &["beyond", "peer"].map(id)), [OTHER_LINK]);
    }
}

// === whatever happens ===

#[derive(Clone, Debug)]
enum Event {
    Up(u64, u32),
    Down(u64),
    Message(u64, Message),
    Advertise(&'static str),
    Withdraw(&'static str),
    Pass(u64),
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["me", "peer", "beyond", "a", "b"])
}

fn message() -> impl Strategy<Value = Message> {
    let number = || prop_oneof![0..4_u64, Just(u64::MAX)];
    let names = || vec(name(), 0..4);
    let keys = || vec(prop::sample::select(vec!["Ma", "Mb", "Hc"]), 0..3);
    prop_oneof![
        (name(), number(), names()).prop_map(|(from, instance, seen)| hello(from, instance, &seen)),
        (name(), number(), number(), number()).prop_map(|(from, i, ls, mobile)| advertisement(from, i, ls, mobile)),
        (name(), number(), number(), names()).prop_map(|(from, i, seq, peers)| link_state(from, i, seq, &peers)),
        name().prop_map(link_state_request),
        (name(), number()).prop_map(|(from, have_seq)| address_request(from, have_seq)),
        (name(), number(), keys(), keys()).prop_map(|(from, seq, add, del)| differential(from, seq, &add, &del)),
        (name(), number(), keys()).prop_map(|(from, seq, exist)| absolute(from, seq, &exist)),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => (0..3_u64, 1..4_u32).prop_map(|(link, cost)| Event::Up(link, cost)),
        1 => (0..3_u64).prop_map(Event::Down),
        8 => (0..3_u64, message()).prop_map(|(link, message)| Event::Message(link, message)),
        1 => Just(Event::Advertise("Mours")),
        1 => Just(Event::Withdraw("Mours")),
        3 => prop_oneof![0..100_u64, 0..100_000_u64].prop_map(Event::Pass),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_work_comes_to_an_end_and_news_are_consistent(events in vec(event(), 0..100)) {
        let mut me = Fixture::new();
        let mut known = std::collections::BTreeSet::new();
        for event in events {
            let mut outputs = Vec::new();
            match event {
                Event::Up(link, price) => me.engine.handle_link_up(me.now, LinkId(link), cost(price)),
                Event::Down(link) => me.engine.handle_link_down(me.now, LinkId(link)),
                Event::Message(link, message) => drop(me.engine.handle_message(me.now, LinkId(link), &message)),
                Event::Advertise(name) => me.engine.advertise(me.now, MobileAddress::new(key(name))),
                Event::Withdraw(name) => me.engine.withdraw(me.now, &key(name)),
                Event::Pass(duration) => outputs = me.pass_in_silence(ms(duration)),
            }
            outputs.extend(me.outputs());
            prop_assert!(outputs.len() < 10_000);
            for output in outputs {
                match output {
                    Output::AddressAdded { router, address } => {
                        prop_assert!(known.insert((router, address.key)));
                    }
                    Output::AddressRemoved { router, key } => {
                        prop_assert!(known.remove(&(router, key)));
                    }
                    _ => {}
                }
            }
            let names = ["peer", "beyond", "a", "b"].map(id);
            let told = names.iter().flat_map(|router| {
                me.engine.addresses(router).map(|address| (router.clone(), address.key.clone()))
            });
            prop_assert_eq!(told.collect::<std::collections::BTreeSet<_>>(), known.clone());
        }
    }
}
