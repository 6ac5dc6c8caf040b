//! Routers as processes on this machine: every day's use, crashes, partitions, and what stays behind after many connections.
//!
//! Short by default. `VAN_SOAK=1` lasts for minutes.

mod rig;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use van_core::amqp::LinkId;

use rig::PATIENCE;
use rig::certificates::{Certificates, PROFILE};
use rig::chain::Chain;
use rig::client::{Heard, Speaker};
use rig::exchange::{Exchange, Exchanges, Tally};
use rig::http;
use rig::program::given;
use rig::router::{Plan, Router};
use rig::site::{Site, Sites};
use rig::wire::Wire;
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

// === edge routers ===

/// ```text
///                 ┌── wire ──► one ──┐
///  load ──► edge ─┤                  ├──► far ──► workloads
///                 └── wire ──► two ──┘
/// ```
#[test]
fn an_edge_router_loses_with_an_uplink_what_went_by_it_and_nothing_else() {
    const KEPT: usize = 20;
    let site = Site::here();
    let (exchanges, echo) = (Exchanges::start(&site), Workload::start(&site, workload::echo));
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(folder.path());
    let [access, entrance, echoing] = std::array::from_fn(|_| site.free_address());
    let accesses: [SocketAddr; 2] = std::array::from_fn(|_| site.free_address());
    let wires = accesses.map(|access| Wire::lay(&site, access));
    let attributes = json!({"dataConnectionCount": 1});
    let far = Plan::new("far", &attributes).accepting(&[access]).connecting("exchanges", exchanges.address());
    let interior = |name, edges| Plan::new(name, &attributes).linked_to(access).serving_edges(edges);
    let edge = Plan::new("edge", &json!({"mode": "edge"})).edge_of(wires[0].address()).edge_of(wires[1].address());
    let plans = [
        far.connecting("echo", echo.address()),
        interior("one", accesses[0]),
        interior("two", accesses[1]),
        edge.listening("exchanges", entrance).listening("echo", echoing),
    ];
    let routers = plans.map(|plan| Router::start(&site, folder.path(), &certificates, plan));
    let is_up = |uplink: usize| routers[1 + uplink].connections_at(accesses[uplink].port()) > 0;
    rig::wait_until("the workloads can be reached", || [entrance, echoing].iter().all(|at| site.connect(*at).is_ok()));
    rig::wait_until("both uplinks are there", || is_up(0) && is_up(1));

    let load = Load::start(&site, entrance);
    for _ in 0..short_or_long(1, 10) {
        for uplink in [0, 1] {
            load.wait_until_more_completed(50);
            wires[uplink].cut();
            load.wait_until_more_completed(50);
            let by_the_other: Vec<_> = (0..KEPT).map(|_| connect_to_echo(&site, echoing)).collect();
            wires[uplink].mend();
            rig::wait_until("the uplink is back", || is_up(uplink));
            load.wait_until_more_completed(50);
            by_the_other.iter().for_each(ask_echo);
            wires[uplink].cut();
            load.wait_until_more_completed(50);
            by_the_other.iter().for_each(ask_echo);
            wires[uplink].mend();
            rig::wait_until("the uplink is back", || is_up(uplink));
        }
    }
    let clients = load.stop();
    for tally in [&clients, &exchanges.tally] {
        tally.assert_no_faults();
        assert_eq!(tally.truncated(), 0, "somebody took a part for the whole");
    }
}

/// A connection that has been answered.
fn connect_to_echo(site: &Site, entrance: SocketAddr) -> TcpStream {
    let mut answered = None;
    rig::wait_until("the workload answers", || {
        answered = site.connect(entrance).ok().filter(|stream| try_echo(stream).is_ok());
        answered.is_some()
    });
    answered.expect("waited for")
}

fn try_echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut answer = [0; 4];
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"ping").and_then(|()| stream.read_exact(&mut answer))?;
    assert_eq!(&answer, b"ping");
    Ok(())
}

#[track_caller]
fn ask_echo(stream: &TcpStream) {
    try_echo(stream).expect("the stream lives on");
}

/// ```text
///  clients ──► one ◄── wire ── two ──► workload     the wire is what meshes them
///               └──► interior ◄─┘                   or two, linked
/// ```
fn check_mesh(interiors: usize) {
    let site = Site::here();
    let exchanges = Exchanges::start(&site);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let certificates = Certificates::new(folder.path());
    let [access, mesh, entrance] = std::array::from_fn(|_| site.free_address());
    let edges: [SocketAddr; 2] = std::array::from_fn(|_| site.free_address());
    let wire = Wire::lay(&site, mesh);
    let start = |plan| Router::start(&site, folder.path(), &certificates, plan);
    let plans = [
        Plan::new("left", &json!({})).accepting(&[access]).serving_edges(edges[0]),
        Plan::new("right", &json!({})).linked_to(access).serving_edges(edges[1]),
    ];
    let mut above: Vec<_> = plans.into_iter().take(interiors).map(start).collect();
    let edge = |name, uplink| Plan::new(name, &json!({"mode": "edge"})).edge_of(edges[uplink]);
    let one = edge("one", 0).accepting_edges(mesh).listening("key", entrance);
    let two = edge("two", interiors - 1).meshed_with(wire.address()).connecting("key", exchanges.address());
    let edges_up = [start(one), start(two)];
    let check_carried = |by: &str| {
        // Exchanges are tried until they pass: routes have to settle after a cut.
        let exchange = || Exchange::new(1_000_000, 1_000_000).run(&site, entrance);
        rig::wait_until(&format!("octets pass by {by}"), || exchange().is_ok());
        for _ in 0..20 {
            exchange().unwrap_or_else(|failure| panic!("by {by}: {failure:?}"));
        }
    };
    check_carried("mesh or interior");
    wire.cut();
    check_carried("interior");
    wire.mend();
    rig::wait_until("the mesh is back", || edges_up[0].connections_at(mesh.port()) > 0);
    above.iter_mut().for_each(Router::kill);
    check_carried("mesh");
    exchanges.tally.assert_no_faults();
}

#[test]
fn meshed_edge_routers_of_one_interior_router_reach_each_other_either_way() {
    check_mesh(1);
}

#[test]
fn meshed_edge_routers_of_different_interior_routers_reach_each_other_either_way() {
    check_mesh(2);
}

// === listeners with several keys ===

/// How many of so many clients each workload got, by the letter it answers with; those that nobody answers by 0.
fn ask_who(site: &Site, entrance: SocketAddr, clients: usize) -> BTreeMap<u8, usize> {
    const AT_ONCE: usize = 8;
    let ask = || -> io::Result<u8> {
        let mut letter = [0];
        let mut stream = site.connect(entrance)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read_exact(&mut letter)?;
        Ok(letter[0])
    };
    let letters = thread::scope(|scope| {
        let some = || (0..clients / AT_ONCE).map(|_| ask().unwrap_or(0)).collect::<Vec<_>>();
        let asking: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(some)).collect();
        asking.into_iter().flat_map(|some| some.join().expect("it does not panic")).collect::<Vec<_>>()
    });
    letters.into_iter().fold(BTreeMap::new(), |mut counts, letter| {
        *counts.entry(letter).or_default() += 1;
        counts
    })
}

#[test]
fn a_listener_with_several_keys_keeps_to_priorities_strictly_and_to_weights_within_a_twentieth() {
    const CLIENTS: usize = 4_000;
    let site = Site::here();
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::new(folder.path());
    let [access, by_priority, by_weight] = std::array::from_fn(|_| site.free_address());
    let workloads = [b'p', b's', b'a', b'b'].map(|letter| {
        Workload::start(&site, move |mut stream| {
            let _ = stream.write_all(&[letter]);
        })
    });
    let [primary, secondary, a, b] = workloads.each_ref().map(Workload::address);
    // As Skupper renders a MultiKeyListener.
    let mut near = Plan::new("near", &json!({})).accepting(&[access]);
    for (name, strategy, at) in [("mk", "priority", by_priority), ("mkw", "weighted", by_weight)] {
        let listener = format!("multiAddress/{name}");
        near = near.with(
            "tcpListener",
            json!({
                "name": listener, "host": at.ip(), "port": at.port(), "multiAddressStrategy": strategy,
            }),
        );
    }
    for (listener, address, value) in [("mk", "primary", 1), ("mk", "secondary", 0), ("mkw", "a", 3), ("mkw", "b", 1)] {
        near = near.with(
            "listenerAddress",
            json!({
                "name": format!("{listener}/{address}"), "address": address, "value": value,
                "listener": format!("multiAddress/{listener}"),
            }),
        );
    }
    let start = |plan| Router::start(&site, folder.path(), &certificates, plan);
    let _near = start(near);
    let _far = start(
        Plan::new("far", &json!({}))
            .linked_to(access)
            .connecting("secondary", secondary)
            .connecting("a", a)
            .connecting("b", b),
    );
    let mut first = start(Plan::new("first", &json!({})).linked_to(access).connecting("primary", primary));
    let all_go_to = |letter: u8| {
        let only = BTreeMap::from([(letter, 8)]);
        rig::wait_until("routes to settle", || ask_who(&site, by_priority, 8) == only);
        assert_eq!(ask_who(&site, by_priority, CLIENTS / 4), BTreeMap::from([(letter, CLIENTS / 4)]));
    };
    rig::wait_until("ports to open", || [by_priority, by_weight].iter().all(|at| site.connect(*at).is_ok()));
    all_go_to(b'p');
    first.kill();
    all_go_to(b's');
    first.start_again();
    all_go_to(b'p');

    let both = || ask_who(&site, by_weight, 40).len() == 2;
    rig::wait_until("both keys have consumers", both);
    let counts = ask_who(&site, by_weight, CLIENTS);
    let share = counts[&b'a'] as f64 / CLIENTS as f64;
    assert!((share / 0.75 - 1.0).abs() < 0.05, "{counts:?}");
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

// === who is slow ===

/// What a router takes if it is not told otherwise.
const MOST_SESSIONS: u32 = 1024;

/// Two routers, and all that goes from one to the other takes the same connection.
struct Couple {
    site: Site,
    near: Router,
    far: Router,
    /// Where streams come in, by way of the near one; and AMQP clients of each.
    entrance: SocketAddr,
    clients: [SocketAddr; 2],
    /// What both took of memory before anything was sent.
    before: u64,
    _exchanges: Exchanges,
    _folder: TempDir,
}

impl Couple {
    fn start(mode: &str) -> Self {
        Self::start_with(mode, MOST_SESSIONS)
    }

    /// With so many sessions on a connection between them.
    fn start_with(mode: &str, sessions: u32) -> Self {
        let (site, folder) = (Site::here(), tempfile::tempdir().expect("a folder can be made"));
        let exchanges = Exchanges::start(&site);
        let certificates = Certificates::new(folder.path());
        let [access, edges, entrance, at_near, at_far] = std::array::from_fn(|_| site.free_address());
        let near = Plan::new("near", &json!({"mode": mode, "dataConnectionCount": 1, "workerThreads": 1}));
        let near = if mode == "edge" { near.edge_of(edges) } else { near.linked_to(access) };
        // Whoever has stopped does not say that it lives either.
        let for_clients = |at: SocketAddr| json!({"host": at.ip(), "port": at.port(), "idleTimeoutSeconds": 600});
        let near = near.listening("exchanges", entrance).with("listener", for_clients(at_near));
        let access = json!({
            "role": "inter-router", "host": access.ip(), "port": access.port(), "sslProfile": PROFILE,
            "saslMechanisms": "EXTERNAL", "authenticatePeer": true, "maxSessions": sessions,
        });
        let far = Plan::new("far", &json!({"workerThreads": 1})).with("listener", access).serving_edges(edges);
        let far = far.connecting("exchanges", exchanges.address()).with("listener", for_clients(at_far));
        let start = |plan| Router::start(&site, folder.path(), &certificates, plan);
        let (far, near) = (start(far), start(near));
        rig::wait_until("the other site answers", || site.connect(entrance).is_ok());
        let before = far.resident_bytes() + near.resident_bytes();
        let clients = [at_near, at_far];
        Self { site, near, far, entrance, clients, before, _exchanges: exchanges, _folder: folder }
    }

    /// What both keep of what was sent, in octets.
    fn kept(&self) -> u64 {
        (self.far.resident_bytes() + self.near.resident_bytes()).saturating_sub(self.before)
    }

    /// A sender at the near router.
    fn producer(&self, address: &str) -> (Speaker, LinkId) {
        let mut producer = Speaker::anonymous(&self.site, self.clients[0]);
        let link = producer.sender(Some(address));
        (producer, link)
    }

    /// A receiver at the far router. It takes what comes only when it is waited for.
    fn consumer(&self, address: &str) -> Speaker {
        let mut consumer = Speaker::anonymous(&self.site, self.clients[1]);
        consumer.consumer(address, 200);
        consumer.wait_for(|heard| matches!(heard, Heard::Attached(..)).then_some(()));
        consumer
    }
}

/// A message with a body of so many sevens.
fn sevens(count: usize) -> Vec<u8> {
    [&[0x00, 0x53, 0x75, 0xb0][..], &(count as u32).to_be_bytes(), &vec![7; count]].concat()
}

/// Waits for a message of [`sevens`].
fn take_sevens(consumer: &mut Speaker, count: usize) {
    let message = consumer.wait_for(|heard| match heard {
        Heard::Message(message) => Some(message),
        _ => None,
    });
    assert!(message.ends_with(&sevens(count)), "{} octets, not those that were sent", message.len());
}

/// A consumer of messages stops reading in the middle of a long one. Beside it streams go on, and nobody keeps much of it. When
/// it reads on, all of it comes.
fn stops_in_a_long_message(mode: &str) {
    const OCTETS: usize = 256 << 20;
    let couple = Couple::start(mode);
    let mut consumer = couple.consumer("queue");
    let (mut producer, link) = couple.producer("queue");
    let sending = thread::spawn(move || {
        producer.send(link, &sevens(OCTETS));
        producer.flush();
        producer
    });
    rig::wait_until("much waits at both", || couple.kept() > 16 << 20);
    let exchange = |_| Exchange::new(500_000, 500_000).run(&couple.site, couple.entrance).expect("streams go on");
    (0..50).for_each(exchange);
    assert!(!sending.is_finished(), "the consumer has stopped");
    assert!(couple.kept() < 96 << 20, "{} MiB are kept of what nobody takes", couple.kept() >> 20);
    take_sevens(&mut consumer, OCTETS);
    sending.join().expect("all of it was sent");
}

#[test]
fn a_consumer_that_stops_in_a_long_message_holds_back_its_sender_and_no_stream() {
    stops_in_a_long_message("interior");
}

#[test]
fn a_consumer_that_stops_in_a_long_message_of_an_edge_holds_back_its_sender_and_no_stream() {
    stops_in_a_long_message("edge");
}

#[test]
fn long_messages_that_wait_for_a_consumer_or_are_given_up_hold_back_no_other_consumer() {
    const OCTETS: usize = 500_000;
    const MESSAGES: usize = 180;
    let couple = Couple::start("interior");
    let mut stopped = couple.consumer("queue");
    let mut other = couple.consumer("other");
    let (mut producer, link) = couple.producer("queue");
    // More than may wait at both before sessions are held back.
    let sending = thread::spawn(move || {
        (0..MESSAGES).for_each(|_| producer.offer(link, &sevens(OCTETS), true));
        producer.flush();
        producer
    });
    rig::wait_until("much waits at both", || couple.kept() > 48 << 20);
    let (mut for_other, to_other) = couple.producer("other");
    let mut passes = || {
        for_other.offer(to_other, &sevens(OCTETS), true);
        for_other.flush();
        take_sevens(&mut other, OCTETS);
    };
    (0..50).for_each(|_| passes());
    let (mut leaving, link) = couple.producer("queue");
    // More than sockets take: when it is out, much of it waits at the routers.
    leaving.offer(link, &sevens(24 << 20), false);
    leaving.flush();
    drop(leaving);
    (0..50).for_each(|_| passes());
    (0..MESSAGES).for_each(|_| take_sevens(&mut stopped, OCTETS));
    sending.join().expect("all of them were sent");
}

/// Sessions of a data connection: two are for streams, and either end begins half of what is left.
const FIVE_FOR_LONG_MESSAGES: u32 = 12;

#[test]
fn who_settles_late_holds_up_no_long_message() {
    let couple = Couple::start_with("interior", FIVE_FOR_LONG_MESSAGES);
    // It never takes what is at its socket, and so settles nothing.
    let _silent = couple.consumer("queue");
    let mut other = couple.consumer("other");
    let (mut producer, to_silent) = couple.producer("queue");
    let to_other = producer.sender(Some("other"));
    (0..8).for_each(|_| producer.offer(to_silent, &sevens(500_000), true));
    producer.offer(to_other, &sevens(500_000), true);
    producer.flush();
    take_sevens(&mut other, 500_000);
}

#[test]
fn long_messages_wait_while_every_session_is_held_back_and_go_on_with_it() {
    const OCTETS: usize = 24 << 20;
    let couple = Couple::start_with("interior", FIVE_FOR_LONG_MESSAGES);
    let mut stopped = couple.consumer("queue");
    let mut other = couple.consumer("other");
    let producers: Vec<_> = (0..6)
        .map(|_| {
            let (mut producer, link) = couple.producer("queue");
            thread::spawn(move || {
                producer.offer(link, &sevens(OCTETS), true);
                producer.flush();
                producer
            })
        })
        .collect();
    // At either router what its neighbour, or its client, may leave there: all sessions are held back.
    rig::wait_until("much waits at both", || couple.kept() > 80 << 20);
    let (mut for_other, to_other) = couple.producer("other");
    (0..3).for_each(|_| for_other.offer(to_other, &sevens(500_000), true));
    for_other.flush();
    (0..producers.len()).for_each(|_| take_sevens(&mut stopped, OCTETS));
    (0..3).for_each(|_| take_sevens(&mut other, 500_000));
    producers.into_iter().for_each(|producer| drop(producer.join().expect("all of it was sent")));
}
