//! Routers as processes on this machine: every day's use, crashes, partitions, and what stays behind after many connections.
//!
//! Short by default. `VAN_SOAK=1` lasts for minutes.

mod rig;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::json;

use rig::PATIENCE;
use rig::certificates::Certificates;
use rig::chain::Chain;
use rig::exchange::{Exchange, Exchanges, Tally};
use rig::http;
use rig::program::given;
use rig::router::{Plan, Router};
use rig::site::{Site, Sites};
use rig::workload::{self, Workload};

/// One number for every day, another for `VAN_SOAK=1`.
fn short_or_long(short: u64, long: u64) -> u64 {
    if rig::number_from_environment("VAN_SOAK", 0) == 1 { long } else { short }
}

// === every day ===

#[test]
fn curl_through_two_van_router_processes() {
    const LARGE_BYTES: usize = 3_000_000;
    let site = Site::here();
    let web = Workload::start(&site, |stream| {
        let _ = http::serve(stream, |path| match path {
            "/" => Some(b"hello from the other site".to_vec()),
            "/large" => Some(vec![b'x'; LARGE_BYTES]),
            _ => None,
        });
    });
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(folder.path());
    let (access, entrance) = (site.free_address(), site.free_address());
    let near = Plan::new("near", &json!({})).accepting(&[access]).listening("web", entrance);
    let far = Plan::new("far", &json!({})).linked_to(access).connecting("web", web.address());
    let _near = Router::start(&site, folder.path(), &certificates, near);
    let _far = Router::start(&site, folder.path(), &certificates, far);

    rig::wait_until("the other site answers", || site.connect(entrance).is_ok());
    assert_eq!(http::get(&site, entrance, "/").unwrap(), b"hello from the other site");
    assert_eq!(http::get(&site, entrance, "/large").unwrap(), vec![b'x'; LARGE_BYTES]);
    assert!(http::get(&site, entrance, "/nowhere").unwrap_err().to_string().starts_with("HTTP/1.1 404 "));
}

// === stops ===

#[test]
fn a_router_that_is_told_to_stop_lets_streams_end_and_takes_no_new_ones() {
    let sites = Sites::here();
    let echo = Workload::start(&sites.connector, workload::echo);
    let mut chain = Chain::start(&sites, &json!({}), &[echo.address()]);
    let mut client = chain.site.connect(chain.entrance(0)).unwrap();
    let mut ask = |question: &[u8; 4]| {
        let mut answer = [0; 4];
        client.write_all(question).and_then(|()| client.read_exact(&mut answer)).expect("the stream lives on");
        assert_eq!(&answer, question);
    };
    ask(b"1st?");
    chain.connector.terminate();
    rig::wait_until("the listener closes its port", || chain.site.connect(chain.entrance(0)).is_err());
    ask(b"2nd?");
    assert!(!chain.connector.has_ended());
    drop(client);
    rig::wait_until("the connector ends", || chain.connector.has_ended());
    rig::wait_until("the transit knows why", || chain.transit.log().contains("the router is stopping"));
}

#[test]
fn streams_that_are_not_waited_for_are_reset() {
    let sites = Sites::here();
    let echo = Workload::start(&sites.connector, workload::echo);
    for victim in [Victim::Listener, Victim::Transit, Victim::Connector] {
        let mut chain = Chain::start(&sites, &json!({}), &[echo.address()]);
        let mut client = chain.site.connect(chain.entrance(0)).unwrap();
        client.write_all(b"?").and_then(|()| client.read_exact(&mut [0])).expect("it is an echo");
        let router = victim.of(&mut chain);
        router.terminate();
        rig::wait_until("the router lets streams end", || router.log().contains("a second signal stops at once"));
        router.terminate();
        rig::wait_until("the router ends", || router.has_ended());
        let end = client.read(&mut [0]);
        assert!(end.as_ref().is_err_and(workload::is_reset), "{victim:?}: {end:?}");
    }
}

// === crashes and partitions ===

/// Clients that exchange octets over and over, on a connection for each exchange.
struct Load {
    is_over: Arc<AtomicBool>,
    tally: Arc<Tally>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Four clients with short exchanges, two with long ones.
    fn start(site: &Site, entrance: SocketAddr) -> Self {
        let (is_over, tally) = (Arc::<AtomicBool>::default(), Arc::<Tally>::default());
        let clients = [1_000, 1_000, 1_000, 1_000, 20_000_000, 20_000_000].map(|length| {
            let (site, is_over, tally) = (site.clone(), Arc::clone(&is_over), Arc::clone(&tally));
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let outcome = Exchange::new(length, length).run(&site, entrance);
                    if outcome.is_err() {
                        // As a client of good manners does; the others shall have the processor.
                        thread::sleep(Duration::from_millis(5));
                    }
                    tally.note(outcome);
                }
            })
        });
        Self { is_over, tally, clients: clients.into() }
    }

    #[track_caller]
    fn wait_until_more_completed(&self, count: u64) {
        let goal = self.tally.completed() + count;
        rig::wait_until("exchanges complete", || self.tally.completed() >= goal);
    }

    #[track_caller]
    fn wait_until_one_is_broken(&self) {
        let before = self.tally.broken();
        rig::wait_until("somebody notices", || self.tally.broken() > before);
    }

    fn stop(mut self) -> Arc<Tally> {
        self.is_over.store(true, Ordering::Relaxed);
        self.clients.drain(..).for_each(|client| client.join().expect("a client does not panic"));
        Arc::clone(&self.tally)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// Exchanges that must not fail any more.
#[track_caller]
fn check_reliable(chain: &Chain) {
    for _ in 0..100 {
        Exchange::new(5_000, 5_000).run(&chain.site, chain.entrance(0)).expect("the network is whole again");
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Listener,
    Transit,
    Connector,
}

impl Victim {
    fn of(self, chain: &mut Chain) -> &mut Router {
        match self {
            Self::Listener => &mut chain.listener,
            Self::Transit => &mut chain.transit,
            Self::Connector => &mut chain.connector,
        }
    }
}

/// Kills one router under load and starts it again; more than once if asked for.
fn check_crash(victim: Victim) {
    let sites = Sites::here();
    let exchanges = Exchanges::start(&sites.connector);
    let mut chain = Chain::start(&sites, &json!({}), &[exchanges.address()]);
    let load = Load::start(&chain.site, chain.entrance(0));
    for _ in 0..short_or_long(2, 20) {
        load.wait_until_more_completed(50);
        let router = victim.of(&mut chain);
        router.kill();
        load.wait_until_one_is_broken();
        router.start_again();
        load.wait_until_more_completed(50);
    }
    let clients = load.stop();
    check_reliable(&chain);
    for tally in [&clients, &exchanges.tally] {
        tally.assert_no_faults();
    }
    // A router that is killed cannot say how its streams end: the system ends its sockets in order. All others must.
    if victim != Victim::Listener {
        assert_eq!(clients.truncated(), 0, "a client took half an answer for a whole one");
    }
    if victim != Victim::Connector {
        assert_eq!(exchanges.tally.truncated(), 0, "the workload took half a request for a whole one");
    }
}

#[test]
fn traffic_flows_again_after_a_crash_of_the_listener() {
    check_crash(Victim::Listener);
}

#[test]
fn traffic_flows_again_after_a_crash_of_the_transit() {
    check_crash(Victim::Transit);
}

#[test]
fn traffic_flows_again_after_a_crash_of_the_connector() {
    check_crash(Victim::Connector);
}

/// Cuts the network in two under load for longer than a neighbour may be silent, and mends it.
fn check_partition(sites: &Sites, set_connected: impl Fn(&Chain, bool)) {
    let exchanges = Exchanges::start(&sites.connector);
    let attributes = json!({"helloIntervalSeconds": 1, "helloMaxAgeSeconds": 2});
    let chain = Chain::start(sites, &attributes, &[exchanges.address()]);
    let load = Load::start(&chain.site, chain.entrance(0));
    load.wait_until_more_completed(50);
    set_connected(&chain, false);
    rig::wait_until("the listener closes its port", || chain.site.connect(chain.entrance(0)).is_err());
    set_connected(&chain, true);
    load.wait_until_more_completed(50);
    let clients = load.stop();
    check_reliable(&chain);
    for tally in [&clients, &exchanges.tally] {
        tally.assert_no_faults();
        assert_eq!(tally.truncated(), 0, "somebody took a part for the whole");
    }
}

#[test]
fn traffic_flows_again_after_the_transit_hung_for_longer_than_the_hello_age() {
    check_partition(&Sites::here(), |chain, is_connected| match is_connected {
        true => chain.transit.thaw(),
        false => chain.transit.freeze(),
    });
}

#[test]
#[ignore = "needs root and network namespaces"]
fn traffic_flows_again_after_the_wire_was_cut_for_longer_than_the_hello_age() {
    let Some(sites) = given(Sites::in_namespaces()) else { return };
    check_partition(&sites, |_, is_connected| sites.set_connected(is_connected));
}

// === many connections ===

#[test]
fn connections_that_ended_leave_nothing_behind() {
    let sites = Sites::here();
    let exchanges = Exchanges::start(&sites.connector);
    let echo = Workload::start(&sites.connector, workload::echo);
    let resetting = Workload::start(&sites.connector, |mut stream| {
        if stream.read_exact(&mut [0]).is_ok() {
            workload::reset(stream);
        }
    });
    let chain = Chain::start(&sites, &json!({}), &[exchanges.address(), echo.address(), resetting.address()]);
    for _ in 0..10 {
        connect_and_close(&chain);
    }
    wait_until_idle(&chain);
    let descriptors = chain.routers().map(Router::descriptors);
    for _ in 10..100 {
        connect_and_close(&chain);
    }
    wait_until_idle(&chain);
    let resident = chain.routers().map(Router::resident_bytes);
    for _ in 100..short_or_long(1_000, 20_000) {
        connect_and_close(&chain);
    }
    wait_until_idle(&chain);
    for ((router, descriptors), resident) in chain.routers().into_iter().zip(descriptors).zip(resident) {
        rig::wait_until(&format!("{} has {descriptors} descriptors open, as at the start", router.name()), || {
            router.descriptors() == descriptors
        });
        let resident_now = router.resident_bytes();
        println!("{}: {descriptors} descriptors, {resident} bytes resident, then {resident_now}", router.name());
        assert!(resident_now <= resident + resident / 10, "{}: {resident}, then {resident_now} bytes", router.name());
    }
    exchanges.tally.assert_no_faults();
}

/// One connection of each kind of ending.
fn connect_and_close(chain: &Chain) {
    let connect = |workload| chain.site.connect(chain.entrance(workload)).expect("it is reachable");
    Exchange::new(1_000, 1_000).run(&chain.site, chain.entrance(0)).expect("every octet arrives");
    // Nothing was said.
    drop(connect(1));
    // Closed with an answer under way.
    let _ = connect(1).write_all(&[0; 1_000]);
    // Broken by the client, then by the workload.
    let mut client = connect(1);
    client.write_all(b"x").and_then(|()| client.read_exact(&mut [0])).expect("it is an echo");
    workload::reset(client);
    let mut client = connect(2);
    client.set_read_timeout(Some(PATIENCE)).expect("not zero");
    client.write_all(b"x").expect("it is open");
    assert!(client.read_exact(&mut [0]).is_err_and(|error| workload::is_reset(&error)));
}

/// Waits until no router knows of any stream, and none still has the socket on which it was asked.
fn wait_until_idle(chain: &Chain) {
    for router in chain.routers() {
        rig::wait_until(&format!("{} has no streams", router.name()), || {
            let metrics = router.metrics();
            ["van_streams", "van_directions"].iter().all(|name| metrics[*name] == 0)
        });
        rig::wait_until(&format!("{} has no sockets that are ending", router.name()), || router.ending_sockets() == 0);
    }
}

#[test]
fn clients_that_wait_for_the_server_to_speak_never_stall() {
    const CLIENTS: u64 = 8;
    let greeting = b"220 ready\r\n";
    let sites = Sites::here();
    let greeter = Workload::start(&sites.connector, |mut stream| {
        let _ = stream.write_all(greeting);
    });
    let chain = Chain::start(&sites, &json!({}), &[greeter.address()]);
    let left = AtomicU64::new(short_or_long(2_000, 100_000));
    let take_one = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
    let greet_all = || {
        while take_one() {
            let mut client = chain.site.connect(chain.entrance(0)).expect("it is reachable");
            let mut heard = Vec::new();
            client.set_read_timeout(Some(PATIENCE)).expect("not zero");
            client.read_to_end(&mut heard).expect("the greeting comes, and the end");
            assert_eq!(heard, greeting);
        }
    };
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(greet_all);
        }
    });
}
