//! Messages between subscribers in networks of whole routers, on virtual time.

use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use van_core::Random;
use van_core::router::{Outgoing, Unsendable};
use van_core::sim::{Ended, LinkName, Network, RouterName, Script, Subscriber, Workload};
use van_routing::Treatment;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

const MULTICAST: &str = "mc/news";

#[allow(clippy::disallowed_methods)] // any instant will do
fn network(seed: u64) -> Network {
    Network::new(seed, Instant::now())
}

/// Routers in a ring, each dialling the next.
fn ring(network: &mut Network, count: usize) -> (Vec<RouterName>, Vec<LinkName>) {
    let routers: Vec<_> = (0..count).map(|n| network.router(&format!("r{n}"), 1 + n as u16 % 2)).collect();
    let links = (0..count).map(|n| network.link(routers[n], routers[(n + 1) % count], 1, 1, MS)).collect();
    (routers, links)
}

/// A message that is a number: a body of one data section, `length` octets long.
fn message(number: u32, length: usize) -> Bytes {
    let mut octets = vec![0x00, 0x53, 0x75, 0xb0];
    octets.extend_from_slice(&(length as u32).to_be_bytes());
    octets.extend_from_slice(&number.to_be_bytes());
    octets.resize(8 + length, 0x2a);
    octets.into()
}

fn send(network: &mut Network, from: RouterName, to: &str, number: u32) {
    network.send(from, &Outgoing::new(to, message(number, 100)).expect("a message"));
}

/// The numbers of the messages that came, in order.
#[track_caller]
fn numbers(network: &Network, subscriber: Subscriber) -> Vec<u32> {
    let number = |message: &Bytes| {
        assert_eq!(message[..4], [0x00, 0x53, 0x75, 0xb0], "the router annotations are off");
        u32::from_be_bytes(message[8..12].try_into().expect("four octets"))
    };
    network.received(subscriber).iter().map(number).collect()
}

#[test]
fn each_subscriber_of_a_ring_gets_each_message_once() {
    let mut network = network(1);
    let (routers, _) = ring(&mut network, 5);
    let places = [0, 1, 3, 3];
    let subscribers = places.map(|n| network.subscribe(routers[n], MULTICAST, Treatment::MulticastOnce));
    network.run(5 * SECOND);
    for (number, router) in routers.iter().enumerate() {
        send(&mut network, *router, MULTICAST, number as u32);
        network.run(SECOND);
    }
    for subscriber in subscribers {
        assert_eq!(numbers(&network, subscriber), [0, 1, 2, 3, 4]);
    }
    assert!(network.is_idle(), "something is left of messages that are over");
}

#[test]
fn the_prefix_mc_is_multicast_whatever_a_subscriber_wants() {
    let mut network = network(2);
    let (routers, _) = ring(&mut network, 3);
    let subscribers = [0, 1, 2].map(|n| network.subscribe(routers[n], MULTICAST, Treatment::AnycastClosest));
    network.run(5 * SECOND);
    send(&mut network, routers[1], MULTICAST, 7);
    network.run(SECOND);
    for subscriber in subscribers {
        assert_eq!(numbers(&network, subscriber), [7]);
    }
}

#[test]
fn closest_goes_to_the_nearest_and_to_the_next_when_it_leaves() {
    let mut network = network(3);
    let routers: Vec<_> = (0..4).map(|n| network.router(&format!("r{n}"), 2)).collect();
    for pair in routers.windows(2) {
        network.link(pair[0], pair[1], 1, 1, MS);
    }
    let [far, near] = [3, 1].map(|n| network.subscribe(routers[n], "sfe.x", Treatment::AnycastClosest));
    network.run(5 * SECOND);
    (0..10).for_each(|number| send(&mut network, routers[0], "sfe.x", number));
    network.run(SECOND);
    assert_eq!(numbers(&network, near), (0..10).collect::<Vec<_>>());
    assert!(numbers(&network, far).is_empty());
    network.unsubscribe(near);
    network.run(SECOND);
    send(&mut network, routers[0], "sfe.x", 10);
    network.run(SECOND);
    assert_eq!(numbers(&network, far), [10]);
    network.unsubscribe(far);
    network.run(SECOND);
    assert!(!network.is_reachable(routers[0], "sfe.x"));
    send(&mut network, routers[0], "sfe.x", 11);
    network.run(SECOND);
    assert!(network.is_idle());
}

/// While routers disagree on the paths, a message may be lost, or come by two ways; it never runs in circles, and once they
/// agree each comes once.
#[test]
fn while_links_are_cut_nothing_runs_in_circles_and_afterwards_each_comes_once() {
    for seed in 0..20 {
        let mut network = network(seed);
        let mut random = Random::new(seed);
        let (routers, links) = ring(&mut network, 5);
        let subscribers: Vec<_> =
            routers.iter().map(|router| network.subscribe(*router, MULTICAST, Treatment::MulticastOnce)).collect();
        network.run(5 * SECOND);
        for number in 0..200 {
            send(&mut network, routers[random.below(5) as usize], MULTICAST, number);
            network.run(Duration::from_millis(random.below(100)));
            let link = links[random.below(5) as usize];
            match random.below(20) {
                0 => network.cut(link, random.below(2) == 0),
                1 => links.iter().for_each(|link| network.mend(*link)),
                2 => network.reset(link),
                3 => network.restart(routers[random.below(5) as usize]),
                _ => {}
            }
        }
        links.iter().for_each(|link| network.mend(*link));
        network.run(60 * SECOND);
        for router in &routers {
            send(&mut network, *router, MULTICAST, 1000 + router.0 as u32);
            network.run(SECOND);
        }
        for subscriber in subscribers {
            let numbers = numbers(&network, subscriber);
            let (before, after): (Vec<u32>, Vec<u32>) = numbers.iter().partition(|number| **number < 1000);
            assert_eq!(after, [1000, 1001, 1002, 1003, 1004], "seed {seed}");
            let copies = |number| before.iter().filter(|other| **other == number).count();
            assert!((0..200).all(|number| copies(number) <= 2), "seed {seed}: {before:?}");
            assert!(before.len() > 50, "seed {seed}: only {} of 200", before.len());
        }
        assert!(network.is_idle(), "seed {seed}: something is left");
    }
}

#[test]
fn a_peer_that_takes_nothing_costs_messages_and_no_memory() {
    let mut network = network(5);
    let (a, b) = (network.router("a", 1), network.router("b", 1));
    let link = network.link(a, b, 1, 1, MS);
    let subscriber = network.subscribe(b, MULTICAST, Treatment::MulticastOnce);
    network.run(5 * SECOND);
    network.cut(link, false);
    for number in 0..50 {
        network.send(a, &Outgoing::new(MULTICAST, message(number, 100_000)).expect("a message"));
    }
    (50..2000).for_each(|number| send(&mut network, a, MULTICAST, number));
    network.run(SECOND);
    let [counters] = network.counters(a)[..] else { panic!("one shard") };
    assert!(counters.copies_dropped > 1700 && counters.directions < 300, "{counters:?}");
    assert!(numbers(&network, subscriber).is_empty());
    network.mend(link);
    network.run(30 * SECOND);
    assert_eq!(network.counters(a)[0].directions, 0);
    send(&mut network, a, MULTICAST, 2000);
    network.run(SECOND);
    assert_eq!(numbers(&network, subscriber), [2000]);
}

#[test]
fn a_large_message_comes_whole_and_one_that_is_too_large_is_refused() {
    let mut network = network(6);
    let (routers, _) = ring(&mut network, 3);
    let subscriber = network.subscribe(routers[1], MULTICAST, Treatment::MulticastOnce);
    network.run(5 * SECOND);
    let large = message(1, 1_000_000);
    network.send(routers[0], &Outgoing::new(MULTICAST, large.clone()).expect("a message"));
    network.run(5 * SECOND);
    assert_eq!(network.received(subscriber), [large]);
    let refused = Outgoing::new(MULTICAST, message(2, 1 << 20)).expect_err("too long");
    assert!(matches!(refused, Unsendable::TooLong { .. }), "{refused}");
}

#[test]
fn a_client_of_an_address_for_messages_is_reset() {
    for (address, treatment) in [(MULTICAST, Treatment::MulticastOnce), ("sfe.x", Treatment::AnycastClosest)] {
        let mut network = network(7);
        let (routers, _) = ring(&mut network, 3);
        for n in [0, 1] {
            network.subscribe(routers[n], address, treatment);
        }
        network.run(5 * SECOND);
        let client = network.client(routers[0], 0, address, Script::sends(10, 1));
        network.run(SECOND);
        assert!(network.outcome(client).1.is_some(), "{address}: hangs");
        network.run(2 * SECOND);
        assert!(network.is_idle(), "{address}");
    }
}

#[test]
fn a_subscriber_beside_a_connector_is_told_to_the_network_once_and_stays() {
    let mut network = network(8);
    let (routers, _) = ring(&mut network, 3);
    network.connector(routers[0], "db", Workload::Refuses);
    let subscriber = network.subscribe(routers[0], "db", Treatment::AnycastClosest);
    network.run(5 * SECOND);
    network.unsubscribe(subscriber);
    network.run(SECOND);
    assert!(network.is_reachable(routers[2], "db"));
}

#[test]
fn streams_go_to_the_connector_and_messages_to_the_subscriber_beside_it() {
    let mut network = network(9);
    let (routers, _) = ring(&mut network, 3);
    network.connector(routers[0], "db", Workload::Answers(Script::sends(10, 1)));
    let subscriber = network.subscribe(routers[0], "db", Treatment::AnycastBalanced);
    network.run(5 * SECOND);
    let from = [routers[0], routers[2], routers[0], routers[2]];
    let clients = from.map(|router| network.client(router, 0, "db", Script::sends(10, 1)));
    for (number, router) in from.into_iter().enumerate() {
        send(&mut network, router, "db", number as u32);
    }
    network.run(5 * SECOND);
    for client in clients {
        assert_eq!((network.outcome(client).0.len(), network.outcome(client).1), (10, Some(Ended::Cleanly)));
    }
    assert_eq!(network.received(subscriber).len(), from.len());
}

#[test]
fn a_subscriber_elsewhere_that_wants_copies_takes_no_streams_from_a_connector() {
    let mut network = network(10);
    let (routers, _) = ring(&mut network, 3);
    network.subscribe(routers[2], "db", Treatment::MulticastOnce);
    network.run(5 * SECOND);
    network.connector(routers[0], "db", Workload::Answers(Script::sends(10, 1)));
    network.run(SECOND);
    let from = [routers[0], routers[0], routers[1], routers[1], routers[1], routers[1]];
    let clients = from.map(|router| network.client(router, 0, "db", Script::sends(10, 1)));
    network.run(5 * SECOND);
    for client in clients {
        assert_eq!((network.outcome(client).0.len(), network.outcome(client).1), (10, Some(Ended::Cleanly)));
    }
}

proptest! {
    #[test]
    fn what_is_no_message_is_not_sent(octets in prop::collection::vec(any::<u8>(), 1..50)) {
        let _ = Outgoing::new("x", octets.into());
    }
}

/// They come in at one shard of the router between, and leave by another.
#[test]
fn nothing_is_left_of_long_messages_that_crossed_shards() {
    let mut network = network(9);
    let routers: Vec<_> = (0..3).map(|n| network.router(&format!("r{n}"), 2)).collect();
    for (n, data_connections) in [(0, 1), (1, 0)] {
        network.link(routers[n], routers[n + 1], data_connections, 1, MS);
    }
    let subscriber = network.subscribe(routers[2], "sfe.x", Treatment::AnycastClosest);
    network.run(5 * SECOND);
    for number in 0..20 {
        network.send(routers[0], &Outgoing::new("sfe.x", message(number, 300_000)).expect("a message"));
        network.run(SECOND);
    }
    assert_eq!(numbers(&network, subscriber), (0..20).collect::<Vec<_>>());
    assert!(network.counters(routers[1]).iter().any(|shard| shard.octets_crossed > 0), "some crossed");
    assert!(network.is_idle(), "something is left");
}
