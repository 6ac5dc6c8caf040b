//! AMQP clients of others against a network of three routers on loopback: two interior ones, and an edge router.
//!
//! ```text
//!   clients ──► interior a ◄──TLS── interior b ◄── clients
//!                   ▲
//!                   └──TLS── edge c ◄── clients
//! ```
//!
//! What the clients do, and what must come of it, is in `clients/suite.py`. `VAN_PYTHON` names a Python that has
//! python-qpid-proton, if `python3` has not.

mod rig;

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use van_tls::directory;

use rig::certificates::Certificates;
use rig::program::{self, given};
use rig::router::{Plan, Router};
use rig::site::Site;

const SUITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/suite.py");

/// How long a case may take, in a debug build on a busy machine.
const CASE_TIME: Duration = Duration::from_secs(240);

/// A Python with python-qpid-proton.
fn python() -> Result<String, String> {
    let python = std::env::var("VAN_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_proton = Command::new(&python).args(["-c", "import proton"]).output();
    match has_proton {
        Ok(output) if output.status.success() => Ok(python),
        _ => Err(format!("{python} has no python-qpid-proton; VAN_PYTHON names one that has")),
    }
}

struct Network {
    site: Site,
    _folder: TempDir,
    routers: Vec<Router>,
    clients: Vec<SocketAddr>,
}

impl Network {
    fn start() -> Self {
        let (site, folder) = (Site::here(), tempfile::tempdir().expect("a folder can be made"));
        let certificates = Certificates::new(folder.path());
        let [links, edges, a, b, c] = std::array::from_fn(|_| site.free_address());
        let plans = [
            Plan::new("a", &json!({})).accepting(&[links]).serving_edges(edges).serving_clients(a),
            Plan::new("b", &json!({})).linked_to(links).serving_clients(b),
            Plan::new("c", &json!({"mode": "edge"})).edge_of(edges).serving_clients(c),
        ];
        let routers = plans.map(|plan| Router::start(&site, folder.path(), &certificates, plan)).into();
        Self { site, _folder: folder, routers, clients: vec![a, b, c] }
    }

    /// Runs a case of the suite.
    #[track_caller]
    fn run(&self, python: &str, case: &str) {
        let urls: Vec<_> = self.clients.iter().map(|address| format!("amqp://{address}")).collect();
        run(&self.site, python, case, &urls, &[]);
    }
}

/// Runs a case of the suite against these routers, by clients who are what the variables say.
#[track_caller]
fn run(site: &Site, python: &str, case: &str, urls: &[String], who: &[(&str, &str)]) {
    let mut suite = Command::new(python);
    suite.args([SUITE, case]).args(urls).envs(who.iter().copied());
    assert_eq!(program::run(site, CASE_TIME, &mut suite).trim(), "ok", "{case} by {who:?}");
}

#[track_caller]
fn check(case: &str) {
    let Some(python) = given(python()) else { return };
    Network::start().run(&python, case);
}

#[test]
#[ignore = "needs python-qpid-proton"]
fn messages_reach_one_consumer_anywhere_in_order() {
    check("anycast");
}

#[test]
#[ignore = "needs python-qpid-proton"]
fn consumers_share_evenly() {
    check("balanced");
}

#[test]
#[ignore = "needs python-qpid-proton"]
fn every_subscriber_gets_every_message_and_the_sender_hears_of_all() {
    check("multicast");
}

#[test]
#[ignore = "needs python-qpid-proton"]
fn answers_find_their_way_to_addresses_made_by_routers() {
    check("requests");
}

#[test]
#[ignore = "needs python-qpid-proton"]
fn every_outcome_reaches_the_sender_and_no_octet_changes() {
    check("outcomes");
}

#[test]
#[ignore = "needs python-qpid-proton"]
fn messages_of_ten_mebibytes_pass() {
    check("long_messages");
}

#[test]
#[ignore = "needs python-qpid-proton"]
fn without_credit_nothing_is_sent_and_a_drain_gives_it_back() {
    check("starved");
}

#[test]
#[ignore = "needs python-qpid-proton"]
fn nobody_sends_to_nobody() {
    check("unconsumed");
}

#[test]
#[ignore = "needs python-qpid-proton"]
fn links_that_cannot_be_are_refused_and_the_connection_goes_on() {
    check("refused");
}

#[test]
#[ignore = "needs python-qpid-proton"]
fn a_connection_has_a_thousand_links() {
    check("many_links");
}

#[test]
#[ignore = "needs python-qpid-proton"]
fn settled_messages_arrive_settled() {
    check("presettled");
}

#[test]
#[ignore = "needs python-qpid-proton"]
fn what_a_lost_receiver_had_is_accounted_for() {
    check("reconnected");
}

#[test]
#[ignore = "needs python-qpid-proton"]
fn clients_are_who_they_say_by_password_or_certificate() {
    let Some(python) = given(python()) else { return };
    let (site, folder) = (Site::here(), tempfile::tempdir().expect("a folder can be made"));
    let certificates = Certificates::new(folder.path());
    let users = folder.path().join("users");
    fs::write(&users, format!("alice:{}\n", hash("pass:word"))).expect("a file can be written");
    let [by_password, by_certificate] = std::array::from_fn(|_| site.free_address());
    let plan = Plan::new("a", &json!({}));
    let plan = plan.serving_users(by_password, &users).serving_certified_clients(by_certificate);
    let _router = Router::start(&site, folder.path(), &certificates, plan);
    let client = folder.path().join("client");
    directory::write(&client, &certificates.credentials("client", &[])).expect("certificates can be written");
    let (plain, external) = (vec![format!("amqp://{by_password}")], vec![format!("amqps://{by_certificate}")]);

    run(&site, &python, "anycast", &plain, &[("SUITE_USER", "alice"), ("SUITE_PASSWORD", "pass:word")]);
    run(&site, &python, "turned_away", &plain, &[("SUITE_USER", "alice"), ("SUITE_PASSWORD", "password")]);
    run(&site, &python, "turned_away", &plain, &[("SUITE_USER", "bob"), ("SUITE_PASSWORD", "pass:word")]);
    run(&site, &python, "turned_away", &plain, &[]);
    let folder = client.to_str().expect("a path that is text");
    run(&site, &python, "anycast", &external, &[("SUITE_CERTIFICATES", folder)]);
}

/// What `van-router hash-password` makes of a password.
fn hash(password: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_van-router"));
    command.arg("hash-password").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn().expect("the router was built with this test");
    writeln!(process.stdin.take().expect("piped"), "{password}").expect("it reads");
    let output = process.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("a hash is text").trim().to_owned()
}

/// Memory stays bounded while a receiver gives no credit, whatever is sent to it.
#[test]
#[ignore = "needs python-qpid-proton"]
fn a_receiver_without_credit_costs_bounded_memory() {
    let Some(python) = given(python()) else { return };
    let network = Network::start();
    let before: Vec<_> = network.routers.iter().map(Router::resident_bytes).collect();
    network.run(&python, "flooded");
    for (router, before) in network.routers.iter().zip(before) {
        let grown = router.peak_resident_bytes().saturating_sub(before) >> 20;
        assert!(grown < 300, "{} has taken {grown} MiB", router.name());
    }
}
