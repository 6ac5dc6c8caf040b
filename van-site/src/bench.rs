//! What the network gives to a site: another site measured, or the workloads of a routing key.
//!
//! The site's own router measures, as one that its clients go through. [`van_adaptors::bench`] says how.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use van_adaptors::Dialer;
use van_adaptors::bench::{Connections, Direction, MAX_BULK_STREAMS, Probe, ProbeError, RoundTrips, Samples};
use van_core::flow::{self, NetworkView};

use crate::controller::Snapshot;

/// New connections of one measurement at once.
const AT_ONCE: usize = 16;

/// Pings to a router on the way, and how long they may take.
const PINGS: usize = 200;
const PING_TIME: Duration = Duration::from_millis(500);

/// What to measure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BenchRequest {
    /// The name or id of a site, or a routing key.
    pub name: String,
    /// Which of them it is; a site, if there is one of that name, and nothing is said.
    pub kind: Option<TargetKind>,
    /// How long each measurement takes, in milliseconds; 5000 at most.
    pub millis: u64,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TargetKind {
    /// A site: its router answers.
    Site,
    /// A routing key: its workloads are connected, and hear nothing.
    RoutingKey,
}

/// What was measured. Times are in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BenchReport {
    /// Which it was.
    pub kind: TargetKind,
    /// The site's name, or the routing key.
    pub name: String,
    /// Whether there is one of the other kind, too, that was not measured.
    pub is_ambiguous: bool,
    /// The routers on the way to the site, this one's first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub path: Vec<Hop>,
    /// Whether there are no others on the way.
    pub is_path_whole: bool,
    /// Octets in one direction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub throughput: Vec<Bulk>,
    /// Round trips of 64 octets on one stream, one after the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trips: Option<Series>,
    /// New connections, one after the other and several at once: to a site with a round trip each.
    pub connections: Vec<Series>,
}

/// A router on the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hop {
    /// Its id.
    pub router: String,
    /// Its site's name, as far as that is known.
    pub site: String,
    /// Round trips of 64 octets to it; nothing if it has no responder.
    pub round_trips: Option<Series>,
}

/// Octets in one direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bulk {
    /// `up` is from here to there.
    pub direction: Way,
    /// On how many streams.
    pub streams: usize,
    /// How many octets arrived.
    pub octets: u64,
    /// At what rate.
    pub bits_per_second: f64,
}

/// Which way octets flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Way {
    /// From here to there.
    Up,
    /// From there to here.
    Down,
}

/// The same thing many times.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Series {
    /// How many at once.
    pub at_once: usize,
    /// How many came about.
    pub count: usize,
    /// How many did not.
    pub failures: u32,
    /// How many came about in a second.
    pub per_second: f64,
    /// Half of them took no longer.
    pub p50_micros: f64,
    /// Nine of ten.
    pub p90_micros: f64,
    /// 99 of a hundred.
    pub p99_micros: f64,
}

/// Why something is not measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The site has no router now.
    #[error("the site's router does not run; its status says why")]
    NotRunning,
    /// There is nothing of that name.
    #[error("{}", unknown(name, *kind, sites, keys))]
    Unknown {
        /// The name.
        name: String,
        /// What it should be.
        kind: Option<TargetKind>,
        /// The sites that there are.
        sites: Vec<String>,
        /// The routing keys that there are.
        keys: Vec<String>,
    },
    /// Several sites have that name.
    #[error("several sites are called \"{name}\"; give the id of one instead: {}", ids.join(", "))]
    SeveralSites {
        /// The name.
        name: String,
        /// Their ids.
        ids: Vec<String>,
    },
    /// A site of which no router is known.
    #[error("no router of site \"{0}\" is known; look at its links")]
    NoRouter(String),
    /// It cannot be measured.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// No thread can be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// What is measured, found in the network.
enum Target {
    Site { name: String, routers: Vec<String> },
    Key(String),
}

/// Measures, as seen from a site. Dropping the future ends it soon.
pub(crate) async fn bench(snapshot: Arc<Snapshot>, request: BenchRequest) -> Result<BenchReport, BenchError> {
    let dialer = snapshot.dialer.clone().ok_or(BenchError::NotRunning)?;
    let (target, is_ambiguous) = find(&snapshot.network, &request)?;
    let time = Duration::from_millis(request.millis);
    let is_unwanted = Unwanted(Arc::default());
    let flag = Arc::clone(&is_unwanted.0);
    let (reply, answer) = oneshot::channel();
    let run = move || {
        let measured = measure(dialer, flag, &snapshot.network, target, time);
        let _ = reply.send(measured.map(|report| BenchReport { is_ambiguous, ..report }));
    };
    std::thread::Builder::new().name("van-probe".into()).spawn(run).map_err(BenchError::Thread)?;
    answer.await.unwrap_or(Err(BenchError::NotRunning))
}

/// Ends a measurement when nobody waits for it any more.
struct Unwanted(Arc<AtomicBool>);

impl Drop for Unwanted {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a name means, and whether it could mean something else, too.
fn find(network: &NetworkView, request: &BenchRequest) -> Result<(Target, bool), BenchError> {
    let name = &request.name;
    let has_key = network.has_connector(name);
    let sites: Vec<_> = network.sites.iter().filter(|site| site.name == *name || site.id == *name).collect();
    match (request.kind, sites.as_slice()) {
        (Some(TargetKind::RoutingKey), _) | (None, []) if has_key => Ok((Target::Key(name.clone()), !sites.is_empty())),
        (Some(TargetKind::RoutingKey), _) | (_, []) => Err(BenchError::Unknown {
            name: name.clone(),
            kind: request.kind,
            sites: listed(network.sites.iter().map(|site| &site.name)),
            keys: listed(keys(network)),
        }),
        (_, [site]) if site.routers.is_empty() => Err(BenchError::NoRouter(name.clone())),
        (_, [flow::Site { name, routers, .. }]) => {
            let routers = routers.iter().map(|router| router.id.clone()).collect();
            Ok((Target::Site { name: name.clone(), routers }, has_key))
        }
        (_, several) => {
            let ids = several.iter().map(|site| site.id.clone()).collect();
            Err(BenchError::SeveralSites { name: name.clone(), ids })
        }
    }
}

fn keys(network: &NetworkView) -> impl Iterator<Item = &String> {
    let services = network.sites.iter().flat_map(|site| &site.services);
    services.filter(|service| !service.connectors.is_empty()).map(|service| &service.key)
}

/// Each name once.
fn listed<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    BTreeSet::from_iter(names).into_iter().cloned().collect()
}

fn unknown(name: &str, kind: Option<TargetKind>, sites: &[String], keys: &[String]) -> String {
    let list = |what: &str, names: &[String]| match names {
        [] => format!("no {what}"),
        names => format!("the {what} {}", names.join(", ")),
    };
    let (sites, keys) = (list("sites", sites), list("routing keys with a connector", keys));
    match kind {
        Some(TargetKind::Site) => format!("no site \"{name}\" is in the network; there are {sites}"),
        Some(TargetKind::RoutingKey) => format!("no connector of \"{name}\" is in the network; there are {keys}"),
        None => {
            format!("neither a site nor a connector of \"{name}\" is in the network; there are {sites}, and {keys}")
        }
    }
}

fn measure(
    dialer: Dialer,
    is_unwanted: Arc<AtomicBool>,
    network: &NetworkView,
    target: Target,
    time: Duration,
) -> Result<BenchReport, BenchError> {
    let probe = Probe::new(dialer, is_unwanted)?;
    Ok(match target {
        Target::Site { name, routers } => measure_site(&probe, network, name, &routers, time)?,
        Target::Key(key) => measure_key(&probe, key, time)?,
    })
}

/// Measures the router of a site that has a responder, or else says that one has none.
fn measure_site(
    probe: &Probe,
    network: &NetworkView,
    name: String,
    routers: &[String],
    time: Duration,
) -> Result<BenchReport, ProbeError> {
    let answering = routers.iter().find(|router| probe.is_answered(router));
    let Some(router) = answering else {
        let router = routers.first().cloned().unwrap_or_default();
        return Err(ProbeError::NoResponder { router });
    };
    let path = probe.path(router);
    let hops = path.routers.into_iter().map(|router| hop(probe, network, router)).collect::<Result<_, _>>()?;
    let mut throughput = Vec::new();
    for (way, direction) in [(Way::Up, Direction::Up), (Way::Down, Direction::Down)] {
        for streams in [1, MAX_BULK_STREAMS] {
            let carried = probe.throughput(router, direction, streams, time)?;
            let (octets, bits_per_second) = (carried.octets, carried.bits_per_second.round());
            throughput.push(Bulk { direction: way, streams, octets, bits_per_second });
        }
    }
    let round_trips = probe.round_trips(router, time, usize::MAX)?;
    let connections = series(|at_once| probe.connections(router, at_once, time))?;
    Ok(BenchReport {
        kind: TargetKind::Site,
        name,
        is_ambiguous: false,
        path: hops,
        is_path_whole: path.is_whole,
        throughput,
        round_trips: Some(round_trips.into()),
        connections,
    })
}

fn measure_key(probe: &Probe, key: String, time: Duration) -> Result<BenchReport, ProbeError> {
    let connections = series(|at_once| probe.connects(&key, at_once, time))?;
    Ok(BenchReport {
        kind: TargetKind::RoutingKey,
        name: key,
        is_ambiguous: false,
        path: Vec::new(),
        is_path_whole: false,
        throughput: Vec::new(),
        round_trips: None,
        connections,
    })
}

fn hop(probe: &Probe, network: &NetworkView, router: String) -> Result<Hop, ProbeError> {
    let round_trips = match probe.is_answered(&router) {
        true => Some(probe.round_trips(&router, PING_TIME, PINGS)?.into()),
        false => None,
    };
    let has_it = |site: &&flow::Site| site.routers.iter().any(|it| it.id == router);
    let site = network.sites.iter().find(has_it).map(|site| site.name.clone()).unwrap_or_default();
    Ok(Hop { router, site, round_trips })
}

/// Connections one after the other, and several at once.
fn series(connect: impl Fn(usize) -> Result<Connections, ProbeError>) -> Result<Vec<Series>, ProbeError> {
    [1, AT_ONCE].into_iter().map(|at_once| Ok(Series::from((at_once, connect(at_once)?)))).collect()
}

impl Series {
    fn new(samples: &Samples, time: Duration, (at_once, failures): (usize, u32)) -> Self {
        let micros = |percent| samples.percentile(percent).unwrap_or_default().as_nanos() as f64 / 1e3;
        Self {
            at_once,
            count: samples.count(),
            failures,
            per_second: (samples.count() as f64 / time.as_secs_f64().max(f64::EPSILON)).round(),
            p50_micros: micros(50),
            p90_micros: micros(90),
            p99_micros: micros(99),
        }
    }
}

impl From<RoundTrips> for Series {
    fn from(trips: RoundTrips) -> Self {
        Self::new(&trips.samples, trips.time, (1, 0))
    }
}

impl From<(usize, Connections)> for Series {
    fn from((at_once, connections): (usize, Connections)) -> Self {
        Self::new(&connections.samples, connections.time, (at_once, connections.failures))
    }
}

#[cfg(test)]
mod tests {
    use van_core::flow::{Router, Service};

    use super::*;

    fn network() -> NetworkView {
        let site = |id: &str, name: &str, key: &str| flow::Site {
            id: id.into(),
            name: name.into(),
            routers: vec![Router { id: format!("{name}-router"), ..Router::default() }],
            services: vec![Service {
                key: key.into(),
                connectors: BTreeSet::from(["host".to_owned()]),
                listeners: BTreeSet::new(),
            }],
            ..flow::Site::default()
        };
        NetworkView { sites: vec![site("1", "east", "backend"), site("2", "west", "east"), site("3", "west", "db")] }
    }

    fn found(name: &str, kind: Option<TargetKind>) -> String {
        match find(&network(), &BenchRequest { name: name.into(), kind, millis: 1 }) {
            Ok((Target::Site { routers, .. }, is_ambiguous)) => format!("router {} {is_ambiguous}", routers.join(" ")),
            Ok((Target::Key(key), is_ambiguous)) => format!("key {key} {is_ambiguous}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_name_is_a_site_before_it_is_a_routing_key() {
        let (site, key) = (Some(TargetKind::Site), Some(TargetKind::RoutingKey));
        assert_eq!(found("east", None), "router east-router true");
        assert_eq!(found("east", site), "router east-router true");
        assert_eq!(found("east", key), "key east true");
        assert_eq!(found("backend", None), "key backend false");
        assert_eq!(found("3", None), "router west-router false");
    }

    #[test]
    fn what_is_not_there_or_not_clear_is_said_with_what_there_is() {
        let (site, key) = (Some(TargetKind::Site), Some(TargetKind::RoutingKey));
        let keys = "the routing keys with a connector backend, db, east";
        assert_eq!(
            found("north", None),
            format!(
                "neither a site nor a connector of \"north\" is in the network; there are the sites east, west, and {keys}"
            )
        );
        assert_eq!(found("backend", site), "no site \"backend\" is in the network; there are the sites east, west");
        assert_eq!(found("west", key), format!("no connector of \"west\" is in the network; there are {keys}"));
        assert_eq!(found("west", None), "several sites are called \"west\"; give the id of one instead: 2, 3");
    }
}
