//! Streams through networks of whole routers, on virtual time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use van_core::Random;
use van_core::sim::{Client, Ended, Network, RouterName, Script, Workload};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// After this all routers count as having heard of a change, and who finds no way is told so.
const FLUX: Duration = Duration::from_secs(4);

#[allow(clippy::disallowed_methods)] // any instant will do
fn network(seed: u64) -> Network {
    Network::new(seed, Instant::now())
}

/// Routers in a row, each dialling the next.
fn chain(network: &mut Network, shards: &[u16], data_connections: u16) -> Vec<RouterName> {
    let routers: Vec<_> =
        shards.iter().enumerate().map(|(n, shards)| network.router(&format!("r{n}"), *shards)).collect();
    for pair in routers.windows(2) {
        network.link(pair[0], pair[1], data_connections, 1, MS);
    }
    routers
}

fn wait_reachable(network: &mut Network, router: RouterName, address: &str) {
    assert!(network.run_until(10 * SECOND, |network| network.is_reachable(router, address)), "{address} is reachable");
    network.run(100 * MS);
}

#[track_caller]
fn check_finished(network: &mut Network, client: Client, expected: &[u8]) {
    assert!(
        network.run_until(60 * SECOND, |network| network.outcome(client).1.is_some()),
        "hangs: {} octets of {}",
        network.outcome(client).0.len(),
        expected.len()
    );
    let (received, ended) = network.outcome(client);
    assert_eq!(ended, Some(Ended::Cleanly));
    assert!(received == expected, "{} octets received, {} expected, or others", received.len(), expected.len());
}

#[track_caller]
fn check_nothing_left(network: &mut Network) {
    network.run(2 * SECOND);
    assert!(network.is_idle(), "something is left of streams that are over");
}

#[test]
fn a_stream_passes_both_ways_and_half_closes() {
    let mut network = network(1);
    let routers = chain(&mut network, &[1, 1], 1);
    network.connector(routers[1], "db", Workload::Answers(Script::answers(300_000, 7)));
    wait_reachable(&mut network, routers[0], "db");
    let client = network.client(routers[0], 0, "db", Script::sends(200_000, 5));
    check_finished(&mut network, client, &Script::sends(300_000, 7).octets());
    let (received, ended) = network.workload_outcomes()[0];
    assert_eq!((received, ended), (Script::sends(200_000, 5).octets().as_slice(), Some(Ended::Cleanly)));
    check_nothing_left(&mut network);
}

#[test]
fn octets_are_exact_over_every_number_of_shards_and_data_connections() {
    let mut crossed_somewhere = false;
    for shards in 1..=3 {
        for data_connections in 0..=3 {
            let mut network = network(u64::from(shards * 10 + data_connections));
            let routers = chain(&mut network, &[shards, shards, shards], data_connections);
            network.connector(routers[2], "db", Workload::Answers(Script::sends(150_000, 100)));
            wait_reachable(&mut network, routers[0], "db");
            let clients: Vec<_> =
                (0..6).map(|n| network.client(routers[0], n, "db", Script::sends(120_000, u64::from(n)))).collect();
            for client in clients {
                assert!(
                    network.run_until(60 * SECOND, |network| network.outcome(client).1.is_some()),
                    "{shards} × {data_connections} hangs"
                );
                let (received, ended) = network.outcome(client);
                assert_eq!(ended, Some(Ended::Cleanly), "{shards} × {data_connections}");
                let is_one_of = (100..106).any(|seed| received == Script::sends(150_000, seed).octets());
                assert!(is_one_of, "{shards} × {data_connections}: {} octets", received.len());
            }
            network.run(5 * SECOND);
            let mut uploads: Vec<_> =
                network.workload_outcomes().iter().map(|(received, _)| received.to_vec()).collect();
            let mut expected: Vec<_> = (0..6).map(|seed| Script::sends(120_000, seed).octets()).collect();
            uploads.sort();
            expected.sort();
            assert!(uploads == expected, "{shards} × {data_connections}");
            let crossed: u64 =
                routers.iter().flat_map(|router| network.counters(*router)).map(|it| it.octets_crossed).sum();
            if shards == data_connections || shards == 1 {
                assert_eq!(crossed, 0, "{shards} × {data_connections}: octets stay in their shard");
            }
            crossed_somewhere |= crossed > 0;
            check_nothing_left(&mut network);
        }
    }
    assert!(crossed_somewhere);
}

#[test]
fn long_streams_pass_over_any_number_of_routers() {
    for hops in 1..=3 {
        let mut network = network(30 + hops as u64);
        let routers = chain(&mut network, &vec![1; hops + 1], 1);
        network.connector(routers[hops], "db", Workload::Answers(Script::sends(5_000_000, 7)));
        wait_reachable(&mut network, routers[0], "db");
        let client = network.client(routers[0], 0, "db", Script::sends(4_000_000, 5));
        check_finished(&mut network, client, &Script::sends(5_000_000, 7).octets());
        assert!(network.workload_outcomes()[0].0 == Script::sends(4_000_000, 5).octets());
        check_nothing_left(&mut network);
    }
}

#[test]
fn a_request_is_answered_by_a_neighbour_after_one_round_trip() {
    const DELAY: Duration = Duration::from_millis(50);
    let mut network = network(21);
    let (a, b) = (network.router("a", 1), network.router("b", 1));
    network.link(a, b, 1, 1, DELAY);
    network.connector(b, "db", Workload::Answers(Script::sends(100, 7)));
    wait_reachable(&mut network, a, "db");
    // The first pays for the link it takes.
    let first = network.client(a, 0, "db", Script::sends(10, 1));
    check_finished(&mut network, first, &Script::sends(100, 7).octets());
    let client = network.client(a, 0, "db", Script::sends(1000, 5));
    assert!(network.run_until(DELAY * 5 / 2, |network| network.outcome(client).0.len() == 100));
    assert_eq!(network.workload_outcomes()[1].0.len(), 1000, "together with the stream");
    check_finished(&mut network, client, &Script::sends(100, 8).octets());
    check_nothing_left(&mut network);
}

/// What came of clients whose octets went ahead to workloads that refuse: all of it is at the one that takes them, once.
#[test]
fn octets_that_went_ahead_to_a_workload_that_refuses_are_at_the_next_in_order() {
    for place in 0..3 {
        let mut network = network(22 + place);
        let (a, b, c) = (network.router("a", 2), network.router("b", 1), network.router("c", 1));
        network.link(a, b, 1, 1, MS);
        network.link(b, c, 1, 1, MS);
        // Beside one that refuses, behind it, or where the client is.
        network.connector(b, "db", Workload::Refuses);
        let taker = [b, c, a][place as usize];
        network.connector(taker, "db", Workload::Answers(Script::answers(10, 1000)));
        for router in [a, b] {
            wait_reachable(&mut network, router, "db");
        }
        network.run(SECOND);
        let clients: Vec<_> =
            (0..20).map(|n| network.client(a, n % 2, "db", Script::sends(200_000, n.into()))).collect();
        for client in clients {
            assert!(network.run_until(60 * SECOND, |network| network.outcome(client).1.is_some()));
            assert_eq!(network.outcome(client).1, Some(Ended::Cleanly));
        }
        let mut received: Vec<_> = network.workload_outcomes().iter().map(|(octets, _)| octets.to_vec()).collect();
        let mut sent: Vec<_> = (0..20).map(|n| Script::sends(200_000, n).octets()).collect();
        received.sort();
        sent.sort();
        assert!(received == sent, "taker {place}");
        check_nothing_left(&mut network);
    }
}

#[test]
fn what_a_workload_may_have_got_of_a_client_is_given_to_no_other() {
    let mut network = network(26);
    let (a, b, c) = (network.router("a", 1), network.router("b", 1), network.router("c", 1));
    let near = network.link(a, b, 1, 1, 50 * MS);
    network.link(a, c, 1, 5, 50 * MS);
    for router in [b, c] {
        network.connector(router, "db", Workload::Answers(Script::answers(10, 1)));
    }
    wait_reachable(&mut network, a, "db");
    network.run(2 * SECOND);
    // The first pays for the link it takes.
    let first = network.client(a, 0, "db", Script::sends(10, 1));
    check_finished(&mut network, first, &Script::sends(10, 1).octets());
    let client = network.client(a, 0, "db", Script::sends(10, 1));
    // The workload has the request, the client no answer.
    network.run(70 * MS);
    network.reset(near);
    assert!(network.run_until(5 * SECOND, |network| network.outcome(client).1.is_some()));
    assert_eq!(network.outcome(client).1, Some(Ended::Reset));
    network.run(SECOND);
    assert_eq!(network.workload_outcomes().len(), 2, "nobody else has it");
}

#[test]
fn links_of_streams_that_are_over_are_kept_for_the_next_but_not_all() {
    for data_connections in [0, 1] {
        let mut network = network(2);
        let routers = chain(&mut network, &[1, 1, 1], data_connections);
        network.connector(routers[2], "db", Workload::Answers(Script::answers(1000, 7)));
        wait_reachable(&mut network, routers[0], "db");
        let links = |network: &Network| routers.iter().map(|router| network.links(*router)).collect::<Vec<_>>();
        let before = links(&network);
        for _ in 0..2 {
            let clients: Vec<_> =
                (0..300).map(|_| network.client(routers[0], 0, "db", Script::sends(1000, 5))).collect();
            let is_at_once = |network: &Network| network.links(routers[0]) >= before[0] + 300;
            assert!(network.run_until(SECOND, is_at_once), "a link for each stream");
            check_nothing_left(&mut network);
            for client in clients {
                let (received, ended) = network.outcome(client);
                assert_eq!((received.len(), ended), (1000, Some(Ended::Cleanly)));
            }
            let kept: Vec<_> = links(&network).iter().zip(&before).map(|(after, before)| after - before).collect();
            assert_eq!(kept, [2 * 128, 4 * 128, 2 * 128], "128 for each direction of each connection");
        }
    }
}

#[test]
fn a_server_may_speak_first() {
    let mut network = network(3);
    let routers = chain(&mut network, &[2, 2, 2], 2);
    network.connector(routers[2], "smtp", Workload::Answers(Script::sends(1000, 9)));
    wait_reachable(&mut network, routers[0], "smtp");
    let client = network.client(routers[0], 1, "smtp", Script::answers(1000, 1));
    check_finished(&mut network, client, &Script::sends(1000, 9).octets());
    check_nothing_left(&mut network);
}

#[test]
fn a_listener_and_a_connector_of_one_router_need_no_link() {
    let mut network = network(4);
    let router = network.router("alone", 2);
    network.connector(router, "db", Workload::Answers(Script::sends(500_000, 1)));
    network.run(MS);
    let client = network.client(router, 1, "db", Script::sends(500_000, 2));
    check_finished(&mut network, client, &Script::sends(500_000, 1).octets());
    assert_eq!(network.workload_outcomes()[0].0, Script::sends(500_000, 2).octets());
    check_nothing_left(&mut network);
}

#[test]
fn a_client_without_a_consumer_is_reset() {
    let mut network = network(5);
    let routers = chain(&mut network, &[1, 1], 1);
    let client = network.client(routers[0], 0, "nobody", Script::sends(10, 1));
    network.run(SECOND);
    assert_eq!(network.outcome(client).1, Some(Ended::Reset));
    check_nothing_left(&mut network);
}

#[test]
fn a_refused_stream_goes_to_another_connector_before_the_client_sees_anything() {
    for refusing_first in [true, false] {
        let mut network = network(6);
        // Two consumers behind a transit router, and a third at the transit router itself, which refuses too.
        let (a, b) = (network.router("a", 1), network.router("b", 2));
        let (c, d) = (network.router("c", 1), network.router("d", 1));
        for (from, to) in [(a, b), (b, c), (b, d)] {
            network.link(from, to, 1, 1, MS);
        }
        let answers = Workload::Answers(Script::sends(100, 50));
        network.connector(c, "db", if refusing_first { Workload::Refuses } else { answers });
        network.connector(d, "db", if refusing_first { answers } else { Workload::Refuses });
        network.connector(b, "db", Workload::Refuses);
        network.connector(b, "db", Workload::Refuses);
        wait_reachable(&mut network, a, "db");
        network.run(SECOND);
        let clients: Vec<_> = (0..20).map(|n| network.client(a, 0, "db", Script::sends(10, n))).collect();
        network.run(10 * SECOND);
        for client in clients {
            assert_eq!(network.outcome(client).1, Some(Ended::Cleanly));
        }
        check_nothing_left(&mut network);
    }
}

#[test]
fn a_client_waits_for_a_way_while_routes_change_and_no_longer() {
    for finds_one in [true, false] {
        let mut network = network(10);
        let routers = chain(&mut network, &[1, 1, 1], 1);
        network.connector(routers[1], "db", Workload::Refuses);
        wait_reachable(&mut network, routers[0], "db");
        let client = network.client(routers[0], 0, "db", Script::sends(10, 1));
        network.run(SECOND);
        assert_eq!(network.outcome(client).1, None, "others may have heard more than who refused");
        if finds_one {
            network.connector(routers[2], "db", Workload::Answers(Script::sends(10, 2)));
        }
        network.run(FLUX);
        assert_eq!(network.outcome(client).1, Some(if finds_one { Ended::Cleanly } else { Ended::Reset }));
        let late = network.client(routers[0], 0, "db", Script::sends(10, 1));
        network.run(SECOND / 10);
        assert_eq!(network.outcome(late).1, Some(if finds_one { Ended::Cleanly } else { Ended::Reset }));
        check_nothing_left(&mut network);
    }
}

#[test]
fn if_all_refuse_the_client_is_reset() {
    let mut network = network(7);
    let routers = chain(&mut network, &[1, 2, 1], 1);
    network.connector(routers[1], "db", Workload::Refuses);
    network.connector(routers[2], "db", Workload::Refuses);
    wait_reachable(&mut network, routers[0], "db");
    let client = network.client(routers[0], 0, "db", Script::sends(10, 1));
    network.run(5 * SECOND);
    assert_eq!(network.outcome(client).1, Some(Ended::Reset));
    check_nothing_left(&mut network);
}

#[test]
fn a_client_is_established_by_a_workload_that_answers_and_by_no_other() {
    for (hops, workload) in [
        (0, Workload::Answers(Script::answers(10, 1))),
        (0, Workload::Refuses),
        (1, Workload::Answers(Script::answers(10, 1))),
        (1, Workload::Refuses),
    ] {
        let mut network = network(9);
        let routers = chain(&mut network, &[2, 2][..=hops], 1);
        network.connector(routers[hops], "db", workload);
        wait_reachable(&mut network, routers[0], "db");
        network.run(FLUX);
        let client = network.client(routers[0], 1, "db", Script::sends(10, 1));
        let is_answered = |network: &Network| network.is_established(client) || network.outcome(client).1.is_some();
        assert!(network.run_until(SECOND, is_answered), "{workload:?} behind {hops} links hangs");
        assert_eq!(network.is_established(client), workload != Workload::Refuses);
        assert_eq!(network.workload_outcomes().len(), usize::from(workload != Workload::Refuses));
        assert!(network.outcome(client).0.is_empty(), "established comes before any octet");
        check_nothing_left(&mut network);
    }
}

#[test]
fn streams_are_spread_over_connectors_by_load_and_cost() {
    let mut network = network(8);
    let hub = network.router("hub", 2);
    let near: Vec<_> = ["east", "west"].map(|id| network.router(id, 1)).into();
    let far = network.router("far", 1);
    for site in &near {
        network.link(*site, hub, 1, 1, MS);
    }
    network.link(far, hub, 1, 100, MS);
    // Nobody ends, so the open streams count.
    let holds = Workload::Answers(Script { resets_after: Some(usize::MAX), ..Script::answers(0, 1) });
    for site in near.iter().chain([&far]) {
        network.connector(*site, "web", holds);
    }
    wait_reachable(&mut network, hub, "web");
    network.run(SECOND);
    for n in 0..20 {
        network.client(hub, n, "web", Script { sends: 1, waits: true, ..Script::sends(1, 1) });
        network.run(10 * MS);
    }
    let streams = |network: &Network, router| network.counters(router).iter().map(|it| it.streams).sum::<u64>();
    assert_eq!([near[0], near[1], far].map(|site| streams(&network, site)), [10, 10, 0]);
}

#[test]
fn a_reset_on_either_side_reaches_the_other_as_a_reset() {
    for is_client in [true, false] {
        let mut network = network(9);
        let routers = chain(&mut network, &[2, 2, 2], 2);
        let breaks = Script { resets_after: Some(1000), ..Script::sends(4_000_000, 1) };
        let whole = Script::sends(4_000_000, 2);
        let (client, workload) = if is_client { (breaks, whole) } else { (whole, breaks) };
        network.connector(routers[2], "db", Workload::Answers(workload));
        wait_reachable(&mut network, routers[0], "db");
        let client = network.client(routers[0], 0, "db", client);
        network.run(5 * SECOND);
        assert_eq!(network.outcome(client).1, Some(Ended::Reset));
        assert_eq!(network.workload_outcomes()[0].1, Some(Ended::Reset), "is_client: {is_client}");
        check_nothing_left(&mut network);
    }
}

/// Its end was not told while its own turn lasted, and the direction stayed for good.
#[test]
fn a_client_that_breaks_off_before_it_is_answered_leaves_nothing() {
    let mut network = network(16);
    let routers = chain(&mut network, &[1, 1], 1);
    network.connector(routers[1], "db", Workload::Answers(Script::answers(10, 7)));
    wait_reachable(&mut network, routers[0], "db");
    let client = network.client(routers[0], 0, "db", Script { resets_after: Some(0), ..Script::sends(10, 1) });
    network.run(SECOND);
    assert_eq!(network.outcome(client).1, Some(Ended::Reset));
    check_nothing_left(&mut network);
}

#[test]
fn a_slow_reader_holds_back_its_own_sender_and_nobody_else() {
    let mut network = network(10);
    let routers = chain(&mut network, &[1, 1, 1], 1);
    network.connector(routers[2], "file", Workload::Answers(Script::sends(8_000_000, 1)));
    network.connector(routers[2], "web", Workload::Answers(Script::sends(10_000, 1)));
    wait_reachable(&mut network, routers[0], "file");
    let slow = network.client(routers[0], 0, "file", Script { takes: 10, ..Script::sends(0, 1) });
    network.run(SECOND);
    for n in 0..10 {
        let quick = network.client(routers[0], 0, "web", Script::sends(100, n));
        assert!(network.run_until(SECOND, |network| network.outcome(quick).1.is_some()), "held back by the slow one");
    }
    let sent: u64 = network.counters(routers[2]).iter().map(|it| it.octets_in).sum();
    assert!(sent < 3_000_000, "{sent} octets were read for a reader that takes {}", network.outcome(slow).0.len());
}

/// 2,048 octets each 75 µs: 27 MB/s, for which a path of 100 ms takes 2.7 MB under way.
#[test]
fn a_stream_over_a_long_path_is_as_fast_as_its_reader() {
    for shards in [[1, 1], [2, 2]] {
        let mut network = network(14);
        let routers: Vec<_> = (0..2).map(|n| network.router(&format!("r{n}"), shards[n])).collect();
        network.link(routers[0], routers[1], 1, 1, 50 * MS);
        routers.iter().for_each(|router| network.widen(*router, 16 << 20));
        let script = Script { takes: 2_048, ..Script::sends(60_000_000, 1) };
        network.connector(routers[1], "file", Workload::Answers(script));
        wait_reachable(&mut network, routers[0], "file");
        let client = network.client(routers[0], shards[0] - 1, "file", Script { takes: 2_048, ..Script::sends(0, 2) });
        network.run(1_500 * MS);
        let before = network.outcome(client).0.len();
        network.run(500 * MS);
        let received = network.outcome(client).0.len() - before;
        assert!(received > 12_300_000, "{received} of 13,650,000 octets in half a second");
    }
}

#[test]
fn stopped_readers_keep_within_the_budget_of_both_routers_and_a_new_stream_passes_them() {
    const BUDGET: u64 = 8 << 20;
    let mut network = network(15);
    let routers = chain(&mut network, &[2, 2], 2);
    routers.iter().for_each(|router| network.limit_memory(*router, BUDGET));
    network.connector(routers[1], "file", Workload::Answers(Script { takes: 0, ..Script::sends(1_000_000, 1) }));
    network.connector(routers[1], "web", Workload::Answers(Script::sends(3_000_000, 3)));
    wait_reachable(&mut network, routers[0], "file");
    for n in 0..200 {
        network.client(routers[0], n, "file", Script { takes: 0, ..Script::sends(1_000_000, 2) });
    }
    network.run(300 * MS);
    for router in &routers {
        let (waiting, promised) = network.waiting(*router);
        assert!(waiting > 500_000, "{waiting} octets wait: nobody has stopped");
        assert!(promised as u64 <= BUDGET, "{promised} octets are promised, {waiting} wait");
    }
    let client = network.client(routers[0], 0, "web", Script::sends(0, 4));
    network.run(400 * MS);
    let received = network.outcome(client).0.len();
    assert_eq!(received, 3_000_000, "beside stopped readers");
}

#[test]
fn streams_that_a_lost_link_carried_are_reset_and_new_ones_pass_again() {
    for is_noticed in [true, false] {
        let mut network = network(11);
        let routers = [network.router("a", 2), network.router("b", 2), network.router("c", 2)];
        network.link(routers[0], routers[1], 2, 1, MS);
        let link = network.link(routers[1], routers[2], 2, 1, MS);
        network.connector(routers[2], "db", Workload::Answers(Script::sends(10_000_000, 1)));
        wait_reachable(&mut network, routers[0], "db");
        let slow = Script { takes: 100, ..Script::sends(0, 1) };
        let lost = network.client(routers[0], 0, "db", slow);
        network.run(100 * MS);
        network.cut(link, is_noticed);
        assert!(network.run_until(30 * SECOND, |network| network.outcome(lost).1.is_some()), "hangs");
        assert_eq!(network.outcome(lost).1, Some(Ended::Reset));
        network.mend(link);
        assert!(network.run_until(40 * SECOND, |network| network.is_reachable(routers[0], "db")));
        network.run(SECOND);
        let fresh = network.client(routers[0], 0, "db", slow);
        network.run(SECOND);
        assert!(network.outcome(fresh).0.len() > 100_000, "{is_noticed}: {}", network.outcome(fresh).0.len());
    }
}

#[test]
fn a_stream_that_nobody_has_answered_survives_the_loss_of_its_way() {
    let mut network = network(12);
    // Two ways to the same key: the near one dies while the stream is on its way.
    let (a, b, c) = (network.router("a", 1), network.router("b", 1), network.router("c", 1));
    let near = network.link(a, b, 1, 1, 50 * MS);
    network.link(a, c, 1, 5, 50 * MS);
    network.connector(b, "db", Workload::Answers(Script::sends(10, 1)));
    network.connector(c, "db", Workload::Answers(Script::sends(10, 20)));
    wait_reachable(&mut network, a, "db");
    network.run(2 * SECOND);
    let client = network.client(a, 0, "db", Script::answers(0, 1));
    network.run(20 * MS);
    network.reset(near);
    assert!(network.run_until(5 * SECOND, |network| network.outcome(client).1.is_some()));
    assert_eq!(network.outcome(client).1, Some(Ended::Cleanly));
}

/// Streams under way end on the old connections, new ones take the new, and the tables of both ends stay as they are.
#[test]
fn a_renewed_link_cuts_no_stream_and_changes_no_route() {
    for data_connections in [0, 2] {
        let mut network = network(13);
        let (a, b) = (network.router("a", 2), network.router("b", 2));
        let link = network.link(a, b, data_connections, 1, 10 * MS);
        for router in [a, b] {
            network.connector(
                router,
                if router == a { "at a" } else { "at b" },
                Workload::Answers(Script::sends(400_000, 1)),
            );
        }
        wait_reachable(&mut network, a, "at b");
        wait_reachable(&mut network, b, "at a");
        let open = |network: &mut Network, count: u64| -> Vec<_> {
            let slow = |n| Script { takes: 300, ..Script::sends(50_000, n) };
            (0..count)
                .flat_map(|n| [(a, "at b"), (b, "at a")].map(|(router, key)| (router, key, n)))
                .map(|(router, key, n)| network.client(router, n as u16, key, slow(n)))
                .collect()
        };
        let connections = |network: &Network| network.connections(a) + network.connections(b);
        let before = connections(&network);
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.extend(open(&mut network, 10));
            network.run(50 * MS);
            let tables = [a, b].map(|router| network.table(router));
            network.renew(link);
            // Offers that are under way while the generations change.
            for _ in 0..20 {
                clients.extend(open(&mut network, 1));
                network.run(5 * MS);
            }
            let is_same = |(router, table): (RouterName, &Arc<_>)| Arc::ptr_eq(&network.table(router), table);
            assert!([a, b].into_iter().zip(&tables).all(is_same), "routing has noticed");
        }
        assert!(connections(&network) > before, "streams hold the old connections");
        network.run(60 * SECOND);
        for client in clients {
            let (received, ended) = network.outcome(client);
            assert_eq!((received.len(), ended), (400_000, Some(Ended::Cleanly)), "{data_connections} data connections");
        }
        assert_eq!(connections(&network), before, "the old connections are closed");
        check_nothing_left(&mut network);
    }
}

/// Streams of all kinds through a random network where links flap and routers restart: none hangs, none that ends cleanly
/// has lost or invented an octet, and nothing is left of any.
#[test]
fn under_random_faults_streams_end_whole_or_with_a_reset() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("VAN_SEED").unwrap_or(0);
    let seeds = first..first + number("VAN_SEEDS").unwrap_or(60);
    for seed in seeds {
        println!("VAN_SEED={seed}");
        let mut random = Random::new(seed);
        let mut network = network(seed);
        let count = 3 + random.below(4) as usize;
        let routers: Vec<_> =
            (0..count).map(|n| network.router(&format!("r{n}"), 1 + random.below(3) as u16)).collect();
        let mut links = Vec::new();
        for n in 1..count {
            let other = routers[random.below(n as u64) as usize];
            links.push(network.link(routers[n], other, random.below(4) as u16, 1 + random.below(3) as u32, MS));
        }
        if count > 3 {
            links.push(network.link(routers[0], routers[count - 1], 1, 2, 2 * MS));
        }
        for n in 0..3 {
            let router = routers[random.below(count as u64) as usize];
            let workload = Workload::Answers(Script::sends(random.below(300_000) as usize, 1_000_000 * (n + 1)));
            network.connector(router, "db", workload);
        }
        network.run(5 * SECOND);
        let mut clients = Vec::new();
        for n in 0..60 {
            let router = routers[random.below(count as u64) as usize];
            let takes = if random.below(5) == 0 { 100 } else { usize::MAX };
            let script = Script { takes, ..Script::sends(random.below(200_000) as usize, n) };
            clients.push((script, network.client(router, random.below(3) as u16, "db", script)));
            network.run(Duration::from_micros(random.below(200_000)));
            match random.below(12) {
                0 => network.reset(links[random.below(links.len() as u64) as usize]),
                1 => {
                    let link = links[random.below(links.len() as u64) as usize];
                    network.cut(link, random.below(2) == 0);
                    network.run(Duration::from_millis(random.below(3000)));
                    network.mend(link);
                }
                2 if n % 5 == 0 => network.restart(routers[random.below(count as u64) as usize]),
                3 => network.renew(links[random.below(links.len() as u64) as usize]),
                _ => {}
            }
        }
        network.run(60 * SECOND);
        for (_, client) in &clients {
            let (received, ended) = network.outcome(*client);
            assert!(ended.is_some(), "seed {seed}: a stream hangs after {} octets", received.len());
            if ended == Some(Ended::Cleanly) {
                assert!(
                    Script::are_octets_of_some_script(received),
                    "seed {seed}: {} octets that nobody sent",
                    received.len()
                );
            }
        }
        for (received, ended) in network.workload_outcomes() {
            assert!(ended.is_some(), "seed {seed}: a workload's stream hangs");
            if ended == Some(Ended::Cleanly) {
                let is_whole = clients.iter().any(|(script, _)| script.sends == received.len());
                assert!(
                    is_whole && Script::are_octets_of_some_script(received),
                    "seed {seed}: {} octets that no client sent",
                    received.len()
                );
            }
        }
        assert!(network.is_idle(), "seed {seed}: something is left");
        let (whole, all) = (
            clients.iter().filter(|(_, client)| network.outcome(*client).1 == Some(Ended::Cleanly)).count(),
            clients.len(),
        );
        assert!(whole * 4 > all, "seed {seed}: only {whole} of {all} streams were whole");
    }
}
