//! Edge routers under interior ones, on virtual time.
//!
//! ```text
//!   e1 ──► r1 ──── r2 ◄── e2
//!           └─ r3 ─┘
//! ```

use std::time::{Duration, Instant};

use bytes::Bytes;
use van_core::router::Outgoing;
use van_core::sim::{Client, Ended, LinkName, Network, RouterName, Script, Workload};
use van_routing::Treatment;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

struct Rig {
    network: Network,
    interior: [RouterName; 3],
    edges: [RouterName; 2],
    uplinks: [LinkName; 2],
}

#[allow(clippy::disallowed_methods)] // any instant will do
fn rig(seed: u64) -> Rig {
    let mut network = Network::new(seed, Instant::now());
    let interior = ["r1", "r2", "r3"].map(|id| network.router(id, 2));
    for (a, b) in [(0, 1), (1, 2), (2, 0)] {
        network.link(interior[a], interior[b], 2, 1, MS);
    }
    let edges = ["e1", "e2"].map(|id| network.edge_router(id, 2));
    let uplinks = [0, 1].map(|n| network.link(edges[n], interior[n], 0, 1, MS));
    Rig { network, interior, edges, uplinks }
}

/// What a workload sends once it has heard everything.
const ANSWER: Script = Script { sends: 300_000, seed: 100, waits: true, resets_after: None, takes: usize::MAX };

#[track_caller]
fn check_answered(network: &Network, client: Client) {
    let (octets, ended) = network.outcome(client);
    assert_eq!((octets.len(), ended), (ANSWER.sends, Some(Ended::Cleanly)));
    assert!(Script::are_octets_of_some_script(octets));
}

fn message(number: u8) -> Bytes {
    Bytes::copy_from_slice(&[0x00, 0x53, 0x75, 0xa0, 0x01, number])
}

#[test]
fn streams_pass_from_and_to_edge_routers() {
    let Rig { mut network, interior, edges, .. } = rig(1);
    let everywhere: Vec<_> = interior.into_iter().chain(edges).collect();
    for (number, router) in everywhere.iter().enumerate() {
        network.connector(*router, &format!("at-{number}"), Workload::Answers(ANSWER));
    }
    network.run(8 * SECOND);
    let mut clients = Vec::new();
    for router in &everywhere {
        for number in 0..everywhere.len() {
            for shard in 0..2 {
                let script = Script::sends(200_000, 7);
                clients.push(network.client(*router, shard, &format!("at-{number}"), script));
            }
        }
    }
    network.run(20 * SECOND);
    clients.into_iter().for_each(|client| check_answered(&network, client));
    assert!(network.is_idle(), "something is left of streams that are over");
}

/// Somebody at each router subscribes to all, and each router sends to all.
fn check_each_once(rig: Rig) {
    let Rig { mut network, interior, edges, .. } = rig;
    let everywhere: Vec<_> = interior.into_iter().chain(edges).collect();
    let subscribers: Vec<_> =
        everywhere.iter().map(|router| network.subscribe(*router, "mc/all", Treatment::MulticastOnce)).collect();
    network.run(8 * SECOND);
    for (number, router) in everywhere.iter().enumerate() {
        network.send(*router, &Outgoing::new("mc/all", message(number as u8)).expect("a message"));
        network.run(SECOND);
    }
    for (subscriber, router) in subscribers.into_iter().zip(everywhere) {
        let numbers: Vec<_> = network.received(subscriber).iter().map(|message| message[5]).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4], "{router:?}");
    }
    assert!(network.is_idle());
}

#[test]
fn every_subscriber_at_edges_and_interiors_gets_every_message_once() {
    check_each_once(rig(2));
}

#[test]
fn a_message_finds_the_one_who_wants_it_from_edge_to_edge() {
    let Rig { mut network, edges, .. } = rig(3);
    let subscriber = network.subscribe(edges[1], "direct", Treatment::AnycastClosest);
    network.run(8 * SECOND);
    for number in 0..10 {
        network.send(edges[0], &Outgoing::new("direct", message(number)).expect("a message"));
    }
    network.run(SECOND);
    assert_eq!(network.received(subscriber).len(), 10);
    network.unsubscribe(subscriber);
    network.run(SECOND);
    network.send(edges[0], &Outgoing::new("direct", message(11)).expect("a message"));
    network.run(SECOND);
    assert_eq!(network.received(subscriber).len(), 10);
    assert!(network.is_idle());
}

#[test]
fn a_lost_uplink_is_replaced_by_the_next() {
    for is_noticed in [true, false] {
        let Rig { mut network, interior, edges, uplinks } = rig(4);
        network.connector(edges[0], "at-edge", Workload::Answers(ANSWER));
        network.connector(interior[1], "inside", Workload::Answers(ANSWER));
        network.link(edges[0], interior[2], 0, 1, MS);
        network.run(8 * SECOND);
        network.cut(uplinks[0], is_noticed);
        network.run(40 * SECOND);
        let out = network.client(edges[0], 0, "inside", Script::sends(1000, 1));
        let into = network.client(interior[1], 0, "at-edge", Script::sends(1000, 2));
        network.run(10 * SECOND);
        check_answered(&network, out);
        check_answered(&network, into);
    }
}

#[test]
fn a_client_waits_for_a_workload_that_the_new_uplink_does_not_know_yet() {
    let Rig { mut network, interior, edges, uplinks } = rig(8);
    network.run(8 * SECOND);
    network.cut(uplinks[0], true);
    network.run(SECOND);
    network.mend(uplinks[0]);
    assert!(network.run_until(SECOND, |network| network.uplink(edges[0]).is_some()));
    network.connector(interior[1], "new", Workload::Answers(ANSWER));
    assert!(!network.is_reachable(interior[0], "new"));
    let client = network.client(edges[0], 0, "new", Script::sends(1000, 1));
    network.run(3 * SECOND);
    check_answered(&network, client);
}

#[test]
fn edges_come_back_after_they_or_their_interior_router_restarted() {
    let Rig { mut network, interior, edges, .. } = rig(5);
    network.connector(edges[0], "at-edge", Workload::Answers(ANSWER));
    network.connector(interior[1], "inside", Workload::Answers(ANSWER));
    network.run(8 * SECOND);
    for router in [edges[0], interior[0], edges[0]] {
        network.restart(router);
        network.run(10 * SECOND);
        let out = network.client(edges[0], 0, "inside", Script::sends(1000, 1));
        let into = network.client(edges[1], 1, "at-edge", Script::sends(1000, 2));
        network.run(10 * SECOND);
        check_answered(&network, out);
        check_answered(&network, into);
    }
}

#[test]
fn the_cheapest_link_is_the_uplink_and_changing_it_cuts_no_stream() {
    let Rig { mut network, interior, edges, uplinks } = rig(6);
    network.connector(interior[1], "inside", Workload::Answers(ANSWER));
    let dear = network.link(edges[0], interior[1], 0, 2, MS);
    network.run(8 * SECOND);
    assert_eq!(network.uplink(edges[0]), Some(interior[0]));
    network.cut(uplinks[0], true);
    network.run(SECOND);
    assert_eq!(network.uplink(edges[0]), Some(interior[1]));
    let client = network.client(edges[0], 0, "inside", Script::sends(20_000_000, 1));
    network.run(20 * MS);
    assert_eq!(network.outcome(client).1, None, "it is under way");
    network.mend(uplinks[0]);
    network.run(SECOND);
    assert_eq!(network.uplink(edges[0]), Some(interior[0]));
    network.run(20 * SECOND);
    check_answered(&network, client);
    // The dear one is used once more, over the connection that it has had.
    network.cut(uplinks[0], true);
    network.run(SECOND);
    let client = network.client(edges[0], 1, "inside", Script::sends(1000, 2));
    network.run(SECOND);
    check_answered(&network, client);
    network.mend(uplinks[0]);
    network.run(SECOND);
    network.renew(dear);
    network.run(SECOND);
    assert_eq!(
        network.uplink(edges[0]),
        Some(interior[0]),
        "the certificates of another link are none of its business"
    );
}

/// e1 and e2 have a link of their own.
fn meshed(seed: u64) -> (Rig, LinkName) {
    let mut rig = rig(seed);
    let link = rig.network.link(rig.edges[0], rig.edges[1], 0, 1, MS);
    rig.network.run(8 * SECOND);
    (rig, link)
}

#[test]
fn edge_routers_of_a_mesh_reach_each_other_without_the_network() {
    let (Rig { mut network, edges, uplinks, .. }, _) = meshed(6);
    for (number, edge) in edges.iter().enumerate() {
        network.connector(*edge, &format!("at-{number}"), Workload::Answers(ANSWER));
    }
    uplinks.into_iter().for_each(|uplink| network.cut(uplink, true));
    network.run(SECOND);
    let clients = [0, 1].map(|n| network.client(edges[n], n as u16, &format!("at-{}", 1 - n), Script::sends(1000, 1)));
    network.run(10 * SECOND);
    clients.into_iter().for_each(|client| check_answered(&network, client));
    assert!(network.is_idle());
}

#[test]
fn a_mesh_whose_link_is_lost_goes_through_the_network() {
    let (Rig { mut network, edges, .. }, link) = meshed(7);
    network.connector(edges[1], "at-edge", Workload::Answers(ANSWER));
    network.run(SECOND);
    network.cut(link, true);
    network.run(10 * SECOND);
    let client = network.client(edges[0], 0, "at-edge", Script::sends(1000, 1));
    network.run(10 * SECOND);
    check_answered(&network, client);
}

#[test]
fn in_a_mesh_too_every_subscriber_gets_every_message_once() {
    check_each_once(meshed(8).0);
}
