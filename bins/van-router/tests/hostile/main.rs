//! Peers that mean harm, at each layer of a link, while honest traffic passes.
//!
//! ```text
//! honest client ──TCP──► target ◄──TLS── far ──TCP──► honest workload
//!                          ▲
//!       intruders ─────────┘  nothing, garbage, lies, floods
//! ```
//!
//! They come as strangers, as interior and edge routers with a certificate, and as clients. Where an edge router is the
//! target, `far` is another one of its mesh.
//!
//! Up to AMQP an intruder's connection is closed, and one line of the log names the peer and the reason. What a message
//! says is another matter: it may come from further away, so the message is refused and the link stays.
//!
//! Short by default. `VAN_HOSTILE=1` floods more.

#[path = "../rig/mod.rs"]
mod rig;

mod edges;
mod frames;
mod handshake;
mod management;
mod maps;
mod memory;
mod streams;
mod vanflow;

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;
use van_core::plane::Purpose;
use van_tls::Credentials;

use rig::certificates::Certificates;
use rig::exchange::{Exchange, Exchanges, Tally};
use rig::intruder::Intruder;
use rig::router::{Plan, Router};
use rig::site::Site;

/// How long may take what follows from what was seen already.
const LOG_PATIENCE: Duration = Duration::from_secs(20);

/// What an attack may cost the router's memory for the moment: many of the largest messages between routers (1 MiB).
const ALLOWANCE: u64 = 48 << 20;

/// One number for every day, another for `VAN_HOSTILE=1`.
fn short_or_long(short: usize, long: usize) -> usize {
    if rig::number_from_environment("VAN_HOSTILE", 0) == 1 { long } else { short }
}

/// Waits for what follows from what was done already.
#[track_caller]
fn soon(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + LOG_PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "still not so: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

// === the rig ===

/// A router that is attacked, one that is its honest neighbour, and a client that uses both without a pause.
struct Siege {
    site: Site,
    target: Router,
    far: Router,
    certificates: Certificates,
    places: Places,
    /// Whether the target is an edge router.
    is_edge: bool,
    honest: Honest,
    exchanges: Exchanges,
    folder: TempDir,
}

/// Where the target is to be found.
struct Places {
    /// Where routers are let in that are what `far` is.
    access: SocketAddr,
    /// Where edge routers are let in, if the target is an interior router.
    edges: SocketAddr,
    /// Where clients are let in, and where by `far`.
    clients: SocketAddr,
    far_clients: SocketAddr,
    /// Where an edge router that is the target looks for an interior one.
    uplink: TcpListener,
}

/// A client that exchanges octets until it is stopped.
struct Honest {
    is_over: Arc<AtomicBool>,
    tally: Arc<Tally>,
    client: Option<JoinHandle<()>>,
}

impl Siege {
    /// An interior router is the target.
    fn start() -> Self {
        let attributes = json!({"workerThreads": 2, "dataConnectionCount": 2});
        let siege = Self::lay(false, |places| {
            let target = Plan::new("target", &attributes).accepting(&[places.access]).serving_edges(places.edges);
            (target, Plan::new("far", &attributes).linked_to(places.access))
        });
        rig::wait_until("the link is complete", || siege.target.connections_at(siege.places.access.port()) == 3);
        siege
    }

    /// An edge router is the target.
    fn start_at_edge() -> Self {
        let attributes = json!({"workerThreads": 2, "mode": "edge"});
        Self::lay(true, |places| {
            let uplink = places.uplink.local_addr().expect("it is bound");
            let target = Plan::new("target", &attributes).accepting_edges(places.access).edge_of(uplink);
            (target, Plan::new("far", &attributes).meshed_with(places.access))
        })
    }

    fn lay(is_edge: bool, plans: impl FnOnce(&Places) -> (Plan, Plan)) -> Self {
        let (site, folder) = (Site::here(), tempfile::tempdir().expect("a folder can be made"));
        let certificates = Certificates::new(folder.path());
        let exchanges = Exchanges::start(&site);
        let [access, edges, clients, far_clients, entrance] = std::array::from_fn(|_| site.free_address());
        let places = Places { access, edges, clients, far_clients, uplink: site.listen() };
        let (target, far) = plans(&places);
        let target = target.serving_clients(clients).listening("work", entrance);
        let target = Router::start(&site, folder.path(), &certificates, target);
        let far = far.serving_clients(far_clients).connecting("work", exchanges.address());
        let far = Router::start(&site, folder.path(), &certificates, far);
        rig::wait_until("the workload can be reached", || site.connect(entrance).is_ok());
        let honest = Honest::start(&site, entrance);
        let siege = Self { site, target, far, certificates, places, is_edge, honest, exchanges, folder };
        siege.wait_until_more_completed();
        siege
    }

    /// Honest traffic goes on.
    #[track_caller]
    fn wait_until_more_completed(&self) {
        let goal = self.honest.tally.completed() + 5;
        rig::wait_until("honest exchanges complete", || self.honest.tally.completed() >= goal);
    }

    /// The end: nothing happened to honest traffic, and nothing to the routers.
    #[track_caller]
    fn lift(mut self) {
        self.wait_until_more_completed();
        self.honest.stop();
        for tally in [&self.honest.tally, &self.exchanges.tally] {
            tally.assert_no_faults();
            assert_eq!((tally.broken(), tally.truncated()), (0, 0), "honest traffic was disturbed");
        }
        for router in [&self.target, &self.far] {
            assert!(!router.log().contains("neighbour lost router=far"), "{}", router.log());
        }
    }

    // === intruders ===

    fn credentials(&self, name: &str) -> Credentials {
        self.certificates.credentials(name, &[])
    }

    fn stranger(&self) -> Intruder {
        Intruder::connect(&self.site, self.places.access)
    }

    fn behind_tls(&self) -> Intruder {
        Intruder::behind_tls(&self.site, self.places.access, &self.credentials("mallory"))
    }

    fn behind_open(&self, name: &str, purpose: Purpose) -> Intruder {
        Intruder::behind_open(&self.site, self.places.access, &self.credentials(name), name, purpose)
    }

    // === what the log says ===

    /// Each peer is named in one line, with the reason; told are all that are not.
    #[track_caller]
    fn check_told_once(&self, expected: &[(&str, SocketAddr, &str)]) {
        let fault = |log: &str, (what, peer, reason): &(&str, SocketAddr, &str)| {
            let is_peer = |line: &&str| line.contains(" WARN ") && line.contains(&format!("peer={peer}"));
            let told: Vec<_> = log.lines().filter(is_peer).collect();
            match told.as_slice() {
                [] => Some(format!("{what}: nothing is told of {peer}, expected was {reason:?}")),
                [line] if line.contains(reason) => None,
                [line] => Some(format!("{what}: expected {reason:?} in {line}")),
                lines => Some(format!("{what}: told {} times: {lines:#?}", lines.len())),
            }
        };
        let faults = || {
            let log = self.target.log();
            expected.iter().filter_map(|case| fault(&log, case)).collect::<Vec<_>>()
        };
        let end = Instant::now() + LOG_PATIENCE;
        while !faults().is_empty() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(faults().is_empty(), "\n{}", faults().join("\n"));
    }
}

impl Siege {
    /// Whatever a peer does over and over, it is told once, and who does it.
    #[track_caller]
    fn check_log_is_short(&self) {
        let mut told = BTreeMap::<String, usize>::new();
        for line in self.target.log().lines() {
            if let Some((_, message)) = line.split_once(" WARN ") {
                *told.entry(message.to_owned()).or_default() += 1;
            }
        }
        // An edge router that is the target finds nobody at its uplink.
        told.retain(|line, _| !(self.is_edge && line.contains("link is not up")));
        assert!(told.keys().all(|line| line.contains("mallory")), "not all lines name mallory: {told:#?}");
        assert!(told.values().all(|count| *count == 1), "told more than once: {told:#?}");
        assert!(told.len() < 50, "told in {} lines: {told:#?}", told.len());
    }
}

impl Honest {
    fn start(site: &Site, entrance: SocketAddr) -> Self {
        let (is_over, tally) = (Arc::<AtomicBool>::default(), Arc::<Tally>::default());
        let (site, ended, noted) = (site.clone(), Arc::clone(&is_over), Arc::clone(&tally));
        let client = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                noted.note(Exchange::new(10_000, 100_000).run(&site, entrance));
            }
        });
        Self { is_over, tally, client: Some(client) }
    }

    fn stop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.client.take().map(JoinHandle::join);
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.stop();
    }
}
