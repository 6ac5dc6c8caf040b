//! Two sites, one measured from the other, and a workload that must not notice more than connections.

use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde_json::Value;

use crate::world::{World, wait_for};

const WEST: &str = "
apiVersion: skupper.io/v2alpha1
kind: Site
metadata: {name: west}
spec: {linkAccess: default, settings: {link-bind-host: 127.0.0.1, link-hosts: 127.0.0.1}}
";

const SILENT_EAST: &str = "
apiVersion: skupper.io/v2alpha1
kind: Site
metadata: {name: east}
spec: {settings: {no-bench: 'true'}}
";

/// West, which can be measured, and east, which is linked to it and cannot.
struct Sites(World);

impl Sites {
    fn new() -> Self {
        let sites = Self(World::new());
        sites.0.drop_file("west", "site.yaml", WEST);
        sites.0.drop_file("east", "site.yaml", SILENT_EAST);
        for line in [
            "-n west system start",
            "-n east system start",
            "-n west token issue west.yaml",
            "-n east token redeem west.yaml",
        ] {
            sites.does(line);
        }
        sites
    }

    #[track_caller]
    fn does(&self, line: &str) -> String {
        let said = self.0.van(line);
        assert_eq!((said.code, &*said.complaint), (Some(0), ""), "van {line}: {}", said.output);
        said.output
    }

    /// Measures as soon as it is known what is to be measured.
    fn measures(&self, line: &str) -> String {
        wait_for(line, || Some(self.0.van(line)).filter(|said| said.code == Some(0))).output
    }

    fn measures_as_json(&self, line: &str) -> Value {
        serde_json::from_str(&self.measures(&format!("{line} -o json"))).expect("a document")
    }
}

impl Drop for Sites {
    fn drop(&mut self) {
        for namespace in ["east", "west"] {
            self.0.van(&format!("-n {namespace} system stop --purge"));
        }
    }
}

/// What a workload has seen.
#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    octets: AtomicUsize,
}

/// A workload that counts; its port.
fn workload() -> (u16, Arc<Seen>) {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are ports");
    let (port, seen) = (socket.local_addr().expect("it is bound").port(), Arc::<Seen>::default());
    let counted = Arc::clone(&seen);
    thread::spawn(move || {
        for mut stream in socket.incoming().flatten() {
            let mut octets = Vec::new();
            let _: io::Result<_> = stream.read_to_end(&mut octets);
            counted.octets.fetch_add(octets.len(), Ordering::SeqCst);
            counted.connections.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, seen)
}

/// The first words of the lines of a text.
fn first_words(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.split('\t').next().unwrap_or_default()).collect()
}

fn list<'a>(report: &'a Value, name: &str) -> &'a [Value] {
    report[name].as_array().unwrap_or_else(|| panic!("{name} is missing: {report}"))
}

#[test]
fn another_site_and_a_routing_key_are_measured() {
    let sites = Sites::new();
    let (port, seen) = workload();
    sites.does(&format!("-n west connector create backend {port} --host 127.0.0.1"));

    let report = sites.measures_as_json("-n east bench west --time 100ms");
    assert_eq!(
        (&report["kind"], &report["name"], &report["isPathWhole"]),
        (&"site".into(), &"west".into(), &true.into())
    );
    let path: Vec<_> =
        list(&report, "path").iter().map(|hop| (hop["site"].as_str(), hop["roundTrips"].is_null())).collect();
    assert_eq!(path, [(Some("east"), true), (Some("west"), false)], "east has no responder");
    let bulk: Vec<_> = list(&report, "throughput")
        .iter()
        .map(|bulk| (bulk["direction"].as_str(), bulk["streams"].as_u64(), bulk["octets"].as_u64() > Some(0)))
        .collect();
    let expected = [("up", 1), ("up", 8), ("down", 1), ("down", 8)];
    assert_eq!(bulk, expected.map(|(direction, streams)| (Some(direction), Some(streams), true)));
    for series in list(&report, "connections").iter().chain([&report["roundTrips"]]) {
        let figures = ["count", "perSecond", "p50Micros", "p90Micros", "p99Micros"];
        assert!(figures.iter().all(|figure| series[figure].as_f64() > Some(0.0)), "{series}");
        assert_eq!(series["failures"], 0, "{series}");
    }

    let table = sites.measures("-n east bench west --time 100ms");
    let (router, rows) = (report["path"][1]["router"].as_str().expect("a text"), first_words(&table));
    assert_eq!(
        rows[..4],
        ["Site \"west\"", "", "ROUTER", list(&report, "path")[0]["router"].as_str().expect("a text")]
    );
    let measured =
        ["octets there"; 2].into_iter().chain(["octets back"; 2]).chain(["round trips"]).chain(["connections"; 2]);
    let expected: Vec<_> = [router, "", "MEASURED"].into_iter().chain(measured).collect();
    assert_eq!(rows[4..], expected, "{table}");
    assert_eq!(seen.connections.load(Ordering::SeqCst), 0, "to measure the site is nothing to its workloads");

    let report = sites.measures_as_json("-n east bench backend --time 100ms");
    assert_eq!((&report["kind"], &report["name"]), (&"routingKey".into(), &"backend".into()));
    let count: u64 = list(&report, "connections").iter().filter_map(|series| series["count"].as_u64()).sum();
    wait_for("the workload has seen all", || (seen.connections.load(Ordering::SeqCst) as u64 >= count).then_some(()));
    assert!(count > 0);
    assert_eq!(seen.octets.load(Ordering::SeqCst), 0, "not an octet goes to a workload");
    let table = sites.measures("-n east bench --key backend --time 100ms");
    assert_eq!(first_words(&table), ["Routing key \"backend\"", "", "MEASURED", "connections", "connections"]);

    // One name for both.
    sites.does(&format!("-n west connector create west {port} --host 127.0.0.1"));
    sites.measures("-n east bench --key west --time 100ms");
    let table = sites.measures("-n east bench west --time 100ms");
    assert!(table.starts_with("Site \"west\"; for the routing key, give --key\n"), "{table}");

    // Who answers is no service of anybody's.
    for line in ["-n east site status -o json", "-n west site status -o json"] {
        let status = sites.does(line);
        assert!(status.contains("backend"), "{status}");
        assert!(!status.contains("van.bench"), "{status}");
    }
}

#[test]
fn what_cannot_be_measured_is_said_with_the_next_step() {
    let sites = Sites::new();
    let refused = |line: &str| {
        let said = sites.0.van(line);
        assert_eq!((said.code, &*said.output), (Some(1), ""), "van {line}");
        said.complaint
    };
    sites.measures("-n east bench west --time 100ms");
    let unknown = "neither a site nor a connector of \"north\" is in the network; there are the sites east, west, and no \
                   routing keys with a connector";
    assert_eq!(refused("-n east bench north"), format!("van: {unknown}\n"));
    wait_for("west knows east", || Some(refused("-n west bench east")).filter(|it| it.contains("no responder")));
    let complaint = refused("-n west bench east");
    let reason = "has no responder: it is a skupper-router, or runs with --no-bench, or cannot be reached; measure a routing \
                  key of its site instead\n";
    assert!(complaint.starts_with("van: router \"east-") && complaint.ends_with(reason), "{complaint}");

    sites.does("-n west system stop");
    sites.0.fails(
        "-n west bench east",
        1,
        "van: the site is not running: start it with \"van -n west system start\"\n",
    );
    sites.0.fails("bench west --time 10s", 2, "van: --time: \"10s\" is not from 100ms to 5s\n");
}
