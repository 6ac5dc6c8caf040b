//! AMQP clients of others against a network of three routers on loopback: two interior ones, and an edge router.
//!
//! ```text
//!   clients ──► interior a ◄──TLS── interior b ◄── clients
//!                   ▲
//!                   └──TLS── edge c ◄── clients
//! ```
//!
//! What the clients do, and what must come of it, is in `clients/suite.py` for python-qpid-proton, and in
//! `clients/suite.js` for rhea: a case of either says the same. `VAN_PYTHON` names a Python that has python-qpid-proton, if
//! `python3` has not; `NODE_PATH` is where rhea and ws are.

mod rig;

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use van_tls::directory;

use rig::certificates::Certificates;
use rig::program::{self, Server, given};
use rig::router::{Plan, Router};
use rig::site::Site;

/// How long a case may take, in a debug build on a busy machine.
const CASE_TIME: Duration = Duration::from_secs(240);

const USER: &str = "alice";
const PASSWORD: &str = "pass:word";

/// Whose clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suite {
    Proton,
    Rhea,
}

use Suite::{Proton, Rhea};

impl Suite {
    /// The program and its first argument, if it is here.
    fn find(self) -> Result<Command, String> {
        let (program, script) = match self {
            Proton => (program::python_with_proton()?, "suite.py"),
            Rhea => (program::node_with(&["rhea", "ws"])?, "suite.js"),
        };
        let mut command = Command::new(program);
        command.arg(program::client_script(script));
        Ok(command)
    }
}

/// Who clients are, and how they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Login {
    /// ANONYMOUS, in clear.
    Nobody,
    /// PLAIN, by TLS.
    Password,
    /// EXTERNAL.
    Certificate,
    /// ANONYMOUS, over WebSocket.
    WebSocket,
}

const EVERYBODY: [Login; 3] = [Login::Nobody, Login::Password, Login::Certificate];

/// Where a router lets clients in: by nothing, by password, by certificate.
type Entrances = [SocketAddr; 3];

struct Network {
    site: Site,
    folder: TempDir,
    routers: Vec<Router>,
    entrances: [Entrances; 3],
}

impl Network {
    fn start() -> Self {
        let (site, folder) = (Site::here(), tempfile::tempdir().expect("a folder can be made"));
        let certificates = Certificates::new(folder.path());
        let users = write_users(folder.path());
        let client = certificates.credentials("client", &[]);
        directory::write(&folder.path().join("client"), &client).expect("certificates can be written");
        let [links, edges] = std::array::from_fn(|_| site.free_address());
        let entrances: [Entrances; 3] = std::array::from_fn(|_| std::array::from_fn(|_| site.free_address()));
        let plans = [
            Plan::new("a", &json!({})).accepting(&[links]).serving_edges(edges),
            Plan::new("b", &json!({})).linked_to(links),
            Plan::new("c", &json!({"mode": "edge"})).edge_of(edges),
        ];
        let start = |(plan, [nobody, password, certificate]): (Plan, Entrances)| {
            let plan = plan.serving_clients(nobody).serving_users_by_tls(password, &users);
            Router::start(&site, folder.path(), &certificates, plan.serving_certified_clients(certificate))
        };
        let routers = plans.into_iter().zip(entrances).map(start).collect();
        Self { site, folder, routers, entrances }
    }

    /// Runs a case of a suite, by clients of all three routers.
    #[track_caller]
    fn run(&self, suite: &Command, case: &str, login: Login) {
        let at = |router: usize| match login {
            Login::Nobody => format!("amqp://{}", self.entrances[router][0]),
            Login::Password => format!("amqps://{}", self.entrances[router][1]),
            Login::Certificate => format!("amqps://{}", self.entrances[router][2]),
            Login::WebSocket => format!("ws://{}/", self.routers[router].status()),
        };
        let certificates = self.folder.path().join("client");
        let certificates = certificates.to_str().expect("a path that is text");
        let who = match login {
            Login::Nobody | Login::WebSocket => &[][..],
            Login::Password => {
                &[("SUITE_CERTIFICATES", certificates), ("SUITE_USER", USER), ("SUITE_PASSWORD", PASSWORD)]
            }
            Login::Certificate => &[("SUITE_CERTIFICATES", certificates)],
        };
        run(&self.site, suite, case, &[0, 1, 2].map(at), who);
    }
}

/// Runs a case against these routers, by clients who are what the variables say.
#[track_caller]
fn run(site: &Site, suite: &Command, case: &str, urls: &[String], who: &[(&str, &str)]) {
    let mut command = Command::new(suite.get_program());
    command.args(suite.get_args()).arg(case).args(urls).envs(who.iter().copied());
    assert_eq!(program::run(site, CASE_TIME, &mut command).trim(), "ok", "{case} by {who:?}");
}

/// A case holds for clients of these suites, whoever they are.
#[track_caller]
fn check(case: &str, suites: &[Suite], logins: &[Login]) {
    let found: Vec<_> = suites.iter().filter_map(|suite| given(suite.find())).collect();
    if found.is_empty() {
        return;
    }
    let network = Network::start();
    for suite in found {
        for &login in logins {
            network.run(&suite, case, login);
        }
    }
}

#[test]
#[ignore = "needs python-qpid-proton, node with rhea"]
fn messages_reach_one_consumer_anywhere_in_order() {
    check("anycast", &[Proton, Rhea], &EVERYBODY);
}

#[test]
#[ignore = "needs python-qpid-proton, node with rhea"]
fn consumers_share_evenly() {
    check("balanced", &[Proton, Rhea], &EVERYBODY);
}

#[test]
#[ignore = "needs python-qpid-proton, node with rhea"]
fn every_subscriber_gets_every_message_and_the_sender_hears_of_all() {
    check("multicast", &[Proton, Rhea], &EVERYBODY);
}

#[test]
#[ignore = "needs python-qpid-proton, node with rhea"]
fn answers_find_their_way_to_addresses_made_by_routers() {
    check("requests", &[Proton, Rhea], &EVERYBODY);
}

#[test]
#[ignore = "needs python-qpid-proton, node with rhea"]
fn every_outcome_reaches_the_sender_and_no_octet_changes() {
    check("outcomes", &[Proton, Rhea], &[Login::Nobody]);
}

#[test]
#[ignore = "needs python-qpid-proton, node with rhea"]
fn messages_of_ten_mebibytes_pass() {
    check("long_messages", &[Proton, Rhea], &[Login::Nobody]);
}

#[test]
#[ignore = "needs python-qpid-proton, node with rhea"]
fn without_credit_nothing_is_sent_and_a_drain_gives_it_back() {
    check("starved", &[Proton, Rhea], &EVERYBODY);
}

#[test]
#[ignore = "needs python-qpid-proton, node with rhea"]
fn nobody_sends_to_nobody() {
    check("unconsumed", &[Proton, Rhea], &EVERYBODY);
}

#[test]
#[ignore = "needs python-qpid-proton, node with rhea"]
fn links_that_cannot_be_are_refused_and_the_connection_goes_on() {
    check("refused", &[Proton, Rhea], &EVERYBODY);
}

#[test]
#[ignore = "needs python-qpid-proton, node with rhea"]
fn a_connection_has_a_thousand_links() {
    check("many_links", &[Proton, Rhea], &EVERYBODY);
}

#[test]
#[ignore = "needs python-qpid-proton, node with rhea"]
fn settled_messages_arrive_settled() {
    check("presettled", &[Proton, Rhea], &EVERYBODY);
}

#[test]
#[ignore = "needs python-qpid-proton"]
fn what_a_lost_receiver_had_is_accounted_for() {
    check("reconnected", &[Proton], &EVERYBODY);
}

#[test]
#[ignore = "needs python-qpid-proton, node with rhea"]
fn what_a_client_ends_with_an_error_gives_back_what_it_had_and_the_rest_goes_on() {
    check("ended_by_client", &[Proton, Rhea], &EVERYBODY);
}

#[test]
#[ignore = "needs python-qpid-proton"]
fn a_message_broken_off_in_the_middle_reaches_nobody() {
    check("broken_off", &[Proton], &EVERYBODY);
}

#[test]
#[ignore = "needs node with rhea"]
fn sessions_of_a_connection_do_not_see_each_other() {
    check("sessions", &[Rhea], &EVERYBODY);
}

#[test]
#[ignore = "needs node with rhea"]
fn who_sends_more_than_it_may_is_told_and_nobody_else_notices() {
    check("beyond_credit", &[Rhea], &EVERYBODY);
}

#[test]
#[ignore = "needs python-qpid-proton"]
fn a_connection_closed_by_management_is_told_why() {
    check("closed_by_management", &[Proton], &EVERYBODY);
}

#[test]
#[ignore = "needs python-qpid-proton, node with rhea"]
fn a_connection_with_nothing_to_say_is_kept_alive_by_both() {
    check("kept_alive", &[Proton, Rhea], &EVERYBODY);
}

#[test]
#[ignore = "needs node with rhea and ws"]
fn over_websocket_it_is_all_the_same() {
    let Some(rhea) = given(Rhea.find()) else { return };
    let network = Network::start();
    for case in
        ["anycast", "requests", "outcomes", "long_messages", "starved", "refused", "ended_by_client", "sessions"]
    {
        network.run(&rhea, case, Login::WebSocket);
    }
}

#[test]
#[ignore = "needs python-qpid-proton, node with rhea"]
fn a_client_that_falls_silent_is_told_why_its_connection_ends() {
    let (site, folder) = (Site::here(), tempfile::tempdir().expect("a folder can be made"));
    let certificates = Certificates::new(folder.path());
    let at = site.free_address();
    let access = json!({"name": "clients", "host": at.ip(), "port": at.port(), "idleTimeoutSeconds": 2});
    let plan = Plan::new("impatient", &json!({})).with("listener", access);
    let _router = Router::start(&site, folder.path(), &certificates, plan);
    for suite in [Proton, Rhea].into_iter().filter_map(|suite| given(suite.find())) {
        for case in ["silent", "kept_alive"] {
            run(&site, &suite, case, &[format!("amqp://{at}")], &[]);
        }
    }
}

#[test]
#[ignore = "needs python-qpid-proton, node with rhea"]
fn whoever_has_another_password_or_none_does_not_get_in() {
    let (site, folder) = (Site::here(), tempfile::tempdir().expect("a folder can be made"));
    let certificates = Certificates::new(folder.path());
    let users = write_users(folder.path());
    let at = site.free_address();
    let plan = Plan::new("a", &json!({})).serving_users(at, &users);
    let _router = Router::start(&site, folder.path(), &certificates, plan);
    let urls = [format!("amqp://{at}")];
    for suite in [Proton, Rhea].into_iter().filter_map(|suite| given(suite.find())) {
        run(&site, &suite, "anycast", &urls, &[("SUITE_USER", USER), ("SUITE_PASSWORD", PASSWORD)]);
        run(&site, &suite, "turned_away", &urls, &[("SUITE_USER", USER), ("SUITE_PASSWORD", "password")]);
        run(&site, &suite, "turned_away", &urls, &[("SUITE_USER", "bob"), ("SUITE_PASSWORD", PASSWORD)]);
        run(&site, &suite, "turned_away", &urls, &[]);
    }
}

/// A router dials a small broker and attaches to two nodes of it, in and out; clients here and at another router use them.
#[test]
#[ignore = "needs python-qpid-proton"]
fn auto_links_join_a_container_to_the_network_again_whenever_it_comes_back() {
    let Some(proton) = given(Proton.find()) else { return };
    let python = program::python_with_proton().expect("found above");
    let (site, folder) = (Site::here(), tempfile::tempdir().expect("a folder can be made"));
    let certificates = Certificates::new(folder.path());
    let [links, broker, a, b] = std::array::from_fn(|_| site.free_address());
    let start_broker = || {
        let mut command = Command::new(&python);
        command.arg(program::client_script("container.py")).args([broker.ip().to_string(), broker.port().to_string()]);
        Server::start(&site, broker, folder.path(), &mut command)
    };
    let auto_link = |direction, address, external| {
        json!({"name": address, "direction": direction, "address": address, "externalAddress": external,
               "connection": "broker"})
    };
    let plan = Plan::new("a", &json!({})).accepting(&[links]).serving_clients(a);
    let plan = plan
        .with(
            "connector",
            json!({"name": "broker", "role": "route-container", "host": broker.ip(), "port": broker.port()}),
        )
        .with("autoLink", auto_link("out", "into-container", "node"))
        .with("autoLink", auto_link("in", "out-of-container", "node"));
    let first = start_broker();
    let _a = Router::start(&site, folder.path(), &certificates, plan);
    let plan = Plan::new("b", &json!({})).linked_to(links).serving_clients(b);
    let _b = Router::start(&site, folder.path(), &certificates, plan);
    let urls = [a, b].map(|at| format!("amqp://{at}"));
    run(&site, &proton, "stored", &urls, &[]);
    drop(first);
    let _second = start_broker();
    run(&site, &proton, "stored", &urls, &[]);
}

/// Makes the file of those who may log in.
fn write_users(folder: &Path) -> std::path::PathBuf {
    let users = folder.join("users");
    fs::write(&users, format!("{USER}:{}\n", hash(PASSWORD))).expect("a file can be written");
    users
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
    let Some(proton) = given(Proton.find()) else { return };
    let network = Network::start();
    let before: Vec<_> = network.routers.iter().map(Router::resident_bytes).collect();
    network.run(&proton, "flooded", Login::Nobody);
    for (router, before) in network.routers.iter().zip(before) {
        let grown = router.peak_resident_bytes().saturating_sub(before) >> 20;
        assert!(grown < 300, "{} has taken {grown} MiB", router.name());
    }
}
