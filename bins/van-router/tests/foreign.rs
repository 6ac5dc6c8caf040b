//! Programs of others, and all that TCP can do, through three routers in network namespaces of their own.
//!
//! ```text
//! wrk, pgbench, … ──TCP──► listener ──TLS──► transit ◄──TLS── connector ──TCP──► nginx, PostgreSQL, …
//! ```
//!
//! A test that cannot run here says why and is skipped; with `VAN_REQUIRE_FOREIGN=1` it fails. `VAN_FOREIGN_SECONDS` says
//! how long each load lasts (20). Figures are printed for information; what counts is that there is no error at all.

mod rig;

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use rig::PATIENCE;
use rig::certificates::Certificates;
use rig::chain::Chain;
use rig::exchange::{Exchange, Exchanges};
use rig::program::{self, Server, given};
use rig::router::{Plan, Router};
use rig::site::{Site, Sites};
use rig::workload::{self, Workload};

const GIBIBYTE: u64 = 1 << 30;

/// How long a load lasts.
fn load_time() -> Duration {
    Duration::from_secs(rig::number_from_environment("VAN_FOREIGN_SECONDS", 20).max(1))
}

/// Network namespaces, and where the programs are; or what is missing.
fn lab<const N: usize>(programs: [&str; N]) -> Result<(Sites, [std::path::PathBuf; N]), String> {
    let programs = program::find_all(programs)?;
    Ok((Sites::in_namespaces()?, programs))
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder can be made")
}

// === nginx and wrk ===

/// What nginx has at `/`: a few records of TLS, and no whole number of them.
const PAGE_BYTES: usize = 50_000;

fn start_nginx(site: &Site, folder: &Path, nginx: &Path, protocol: &str) -> Server {
    let address = site.free_address();
    let file = |name: &str| folder.join(name).display().to_string();
    let configuration = format!(
        "daemon off; master_process off; pid {}; error_log stderr;
         events {{ worker_connections 4096; }}
         http {{
           access_log off; keepalive_requests 1000000000; root {};
           server {{ listen {address} {protocol}; }}
         }}",
        file("nginx.pid"),
        folder.display(),
    );
    fs::write(file("nginx.conf"), configuration).expect("a configuration can be written");
    fs::write(file("index.html"), "a".repeat(PAGE_BYTES)).expect("a page can be written");
    Server::start(site, address, folder, Command::new(nginx).args(["-e", "stderr", "-c", &file("nginx.conf")]))
}

/// Loads a web server for a time, and returns the requests per second.
#[track_caller]
fn check_wrk(site: &Site, wrk: &Path, server: SocketAddr, time: Duration, connection: &str) -> String {
    let mut command = Command::new(wrk);
    command.args(["-t", "2", "-c", "64", "--timeout", "60s", "-d", &format!("{}s", time.as_secs())]);
    command.args(["-H", &format!("Connection: {connection}"), &format!("http://{server}/")]);
    let report = program::run(site, time, &mut command);
    assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
    let rate = report.lines().find_map(|line| line.strip_prefix("Requests/sec:")).expect("wrk tells the rate").trim();
    assert_ne!(rate.parse(), Ok(0.0), "{report}");
    rate.to_owned()
}

#[test]
#[ignore = "needs root, network namespaces and nginx, wrk"]
fn nginx_answers_every_request_of_wrk() {
    let Some((sites, [nginx, wrk])) = given(lab(["nginx", "wrk"])) else { return };
    let folder = folder();
    let nginx = start_nginx(&sites.connector, folder.path(), &nginx, "");
    let chain = Chain::start(&sites, &json!({}), &[nginx.address()]);
    for connection in ["keep-alive", "close"] {
        let rate = check_wrk(&chain.site, &wrk, chain.entrance(0), load_time(), connection);
        println!("nginx and wrk, connection {connection}: {rate} requests/s");
    }
}

// === requests, told by VanFlow ===

/// A collector that has heard of all routers.
struct Collector {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Collector {
    fn start(site: &Site, python: &Path, clients: SocketAddr, routers: usize) -> Self {
        let mut command = Command::new(python);
        command.arg(program::client_script("flows.py")).args([format!("amqp://{clients}"), routers.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = site.within(|| command.spawn()).expect("python runs");
        let said = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut collector = Self { process, said };
        assert_eq!(collector.line(), "ready");
        collector
    }

    /// How many requests there were of each kind, once there are so many.
    fn requests(&mut self, count: u64) -> Value {
        let input = self.process.stdin.as_mut().expect("it is piped");
        writeln!(input, "{count}").expect("it reads");
        serde_json::from_str(&self.line()).expect("it writes JSON")
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("it writes text");
        line.trim().to_owned()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The number after a word of a report.
fn number_before(report: &str, word: &str) -> u64 {
    let before = report.split(word).next().expect("there is always one");
    let number = before.trim_end().rsplit(|letter: char| !letter.is_ascii_digit()).next();
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no number before {word:?}: {report}"))
}

#[test]
#[ignore = "needs nginx, wrk, h2load, python-qpid-proton"]
fn each_request_of_wrk_and_h2load_is_told_once() {
    const REQUESTS: u64 = 4_000;
    const CONNECTIONS: u64 = 16;
    let found = program::find_all(["nginx", "wrk", "h2load"]);
    let Some(([nginx, wrk, h2load], python)) =
        given(found.and_then(|programs| Ok((programs, program::python_with_proton()?))))
    else {
        return;
    };
    let (site, folder) = (Site::here(), folder());
    let certificates = Certificates::new(folder.path());
    let [access, clients, one, two] = std::array::from_fn(|_| site.free_address());
    let pages = [(); 2].map(|()| tempfile::tempdir_in(folder.path()).expect("a folder can be made"));
    let start = |plan| Router::start(&site, folder.path(), &certificates, plan);
    let http1 = start_nginx(&site, pages[0].path(), &nginx, "");
    let http2 = start_nginx(&site, pages[1].path(), &nginx, "http2");
    let near = Plan::new("near", &json!({})).accepting(&[access]).serving_clients(clients);
    let _near = start(near.listening("http1", one).listening("http2", two));
    let far = Plan::new("far", &json!({})).linked_to(access);
    let _far = start(far.connecting("http1", http1.address()).connecting("http2", http2.address()));
    rig::wait_until("nginx can be reached", || [one, two].iter().all(|at| site.connect(*at).is_ok()));
    let mut collector = Collector::start(&site, &python, clients, 2);

    let load = |options: &[&str], at: SocketAddr| {
        let mut command = Command::new(&h2load);
        command.args(["-n", &REQUESTS.to_string(), "-c", &CONNECTIONS.to_string()]).args(options);
        let report = program::run(&site, PATIENCE, command.arg(format!("http://{at}/")));
        assert_eq!(number_before(&report, " succeeded"), REQUESTS, "{report}");
    };
    load(&["--h1"], one);
    assert_eq!(collector.requests(REQUESTS), json!({"HTTP/1.1 GET 200": REQUESTS}));
    load(&["-m", "10"], two);
    assert_eq!(collector.requests(REQUESTS), json!({"HTTP/2 GET 200": REQUESTS}));

    let mut command = Command::new(wrk);
    command.args(["-t", "2", "-c", &CONNECTIONS.to_string(), "-d", "2s", &format!("http://{one}/")]);
    let report = program::run(&site, PATIENCE, &mut command);
    assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
    let counted = number_before(&report, " requests in");
    let told = collector.requests(counted);
    let kinds = told.as_object().expect("an object");
    // At its end wrk does not wait for the answers on the way.
    let surplus = kinds.values().filter_map(Value::as_u64).sum::<u64>() - counted;
    let answered = told["HTTP/1.1 GET 200"].as_u64().unwrap_or(0);
    assert!(surplus <= CONNECTIONS && answered >= counted, "wrk counted {counted}, and told were {told}");
}

// === TLS with clients and workloads ===

/// What nginx has at `/`, and answers if it was asked by TLS of that version, with a certificate of our CA.
fn start_secure_nginx(site: &Site, folder: &Path, nginx: &Path, certificates: &Path, version: &str) -> Server {
    let address = site.free_address();
    let (file, certificate) = (|name: &str| folder.join(name).display().to_string(), certificates.display());
    let configuration = format!(
        "daemon off; master_process off; pid {}; error_log stderr;
         events {{ worker_connections 4096; }}
         http {{
           access_log off; keepalive_requests 1000000000; root {};
           server {{
             listen {address} ssl; ssl_protocols {version};
             ssl_certificate {certificate}/tls.crt; ssl_certificate_key {certificate}/tls.key;
             ssl_client_certificate {certificate}/ca.crt; ssl_verify_client on;
             add_header X-Verified $ssl_client_verify; add_header X-Protocol $ssl_alpn_protocol;
           }}
         }}",
        file("nginx.pid"),
        folder.display(),
    );
    fs::write(file("nginx.conf"), configuration).expect("a configuration can be written");
    fs::write(file("index.html"), "a".repeat(PAGE_BYTES)).expect("a page can be written");
    Server::start(site, address, folder, Command::new(nginx).args(["-e", "stderr", "-c", &file("nginx.conf")]))
}

/// What `openssl s_client` shows of a request and its answer, to the end of the connection.
fn ask_by_openssl(openssl: &Path, entrance: SocketAddr, ca: &Path, options: &[&str]) -> String {
    let mut command = Command::new(openssl);
    command.args(["s_client", "-ign_eof", "-verify_return_error", "-connect", &entrance.to_string()]);
    command.arg("-CAfile").arg(ca).args(options);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = command.spawn().expect("openssl runs");
    let request = b"GET / HTTP/1.0\r\n\r\n";
    // It goes before it reads all of this if it does not like the server; the answer tells.
    let _ = client.stdin.take().expect("it is piped").write_all(request);
    let output = client.wait_with_output().expect("it ends");
    [output.stdout, output.stderr].map(|output| String::from_utf8_lossy(&output).into_owned()).concat()
}

#[test]
#[ignore = "needs openssl, nginx and wrk"]
fn openssl_asks_nginx_by_tls_at_both_ends() {
    let Some([openssl, nginx, wrk]) = given(program::find_all(["openssl", "nginx", "wrk"])) else { return };
    let (site, folder) = (Site::here(), folder());
    let certificates = Certificates::new(folder.path());
    let (access, entrance) = (site.free_address(), site.free_address());
    let near = Plan::new("near", &json!({})).accepting(&[access]).listening("key", entrance).by_tls();
    let near = Router::start(&site, folder.path(), &certificates, near);
    let ca = folder.path().join("near").join("ca.crt");
    for (version, option, shown) in [("TLSv1.2", "-tls1_2", "TLSv1.2"), ("TLSv1.3", "-tls1_3", "TLSv1.3")] {
        let pages = tempfile::tempdir_in(folder.path()).expect("a folder can be made");
        let nginx = start_secure_nginx(&site, pages.path(), &nginx, &folder.path().join("near"), version);
        let far = Plan::new("far", &json!({})).linked_to(access).connecting("key", nginx.address()).by_tls();
        let _far = Router::start(&site, folder.path(), &certificates, far);
        rig::wait_until("nginx can be reached", || site.connect(entrance).is_ok());
        let answer = ask_by_openssl(&openssl, entrance, &ca, &[option, "-alpn", "h2,http/1.1"]);
        for expected in [shown, "ALPN protocol: http/1.1", "Verify return code: 0 (ok)", "X-Verified: SUCCESS"] {
            assert!(answer.contains(expected), "{version}: no {expected:?}\n{answer}");
        }
        assert!(answer.contains("X-Protocol: http/1.1") && answer.contains(&"a".repeat(PAGE_BYTES)), "{answer}");
        let mut command = Command::new(&wrk);
        let time = load_time().min(Duration::from_secs(5));
        command.args(["-t", "2", "-c", "32", "-d", &format!("{}s", time.as_secs()), &format!("https://{entrance}/")]);
        let report = program::run(&site, time, &mut command);
        assert!(!report.contains("Socket errors") && !report.contains("Non-2xx"), "{report}");
        assert!(report.contains("Requests/sec:") && !report.contains("Requests/sec:      0"), "{report}");
        println!("{version}: {report}");
    }
    drop(near);
}

#[test]
#[ignore = "needs openssl"]
fn a_listener_shows_openssl_no_protocol_that_it_did_not_name() {
    let Some(openssl) = given(program::find("openssl")) else { return };
    let (site, folder) = (Site::here(), folder());
    let certificates = Certificates::new(folder.path());
    let workload = Workload::start(&site, |mut stream| {
        let mut request = [0; 18];
        stream.read_exact(&mut request).and_then(|()| stream.write_all(b"seen")).expect("the stream is open");
    });
    let entrance = site.free_address();
    let alone = Plan::new("alone", &json!({})).connecting("key", workload.address());
    let alone = Router::start(&site, folder.path(), &certificates, alone.listening_by_tls("key", entrance));
    let ca = folder.path().join("alone").join("ca.crt");
    rig::wait_until("the workload can be reached", || site.connect(entrance).is_ok());
    let answer = ask_by_openssl(&openssl, entrance, &ca, &["-alpn", "h2"]);
    assert!(answer.contains("ALPN protocol: h2") && answer.contains("seen"), "{answer}");
    let answer = ask_by_openssl(&openssl, entrance, &ca, &[]);
    assert!(answer.contains("No ALPN negotiated") && answer.contains("seen"), "{answer}");
    let answer = ask_by_openssl(&openssl, entrance, &ca, &["-alpn", "imap"]);
    assert!(answer.contains("no application protocol"), "{answer}");
    drop(alone);
}

// === PostgreSQL and pgbench ===

fn start_postgres(site: &Site, folder: &Path, initdb: &Path, postgres: &Path) -> Server {
    // PostgreSQL refuses to run as root.
    let (user, group) = ["postgres", "nobody"].into_iter().find_map(program::user).expect("Linux knows nobody");
    chown(folder, Some(user), Some(group)).expect("root may give files away");
    let data = folder.join("data");
    let as_user = |program| {
        let mut command = Command::new(program);
        command.uid(user).gid(group).current_dir(folder).env("LC_ALL", "C").arg("-D").arg(&data);
        command
    };
    program::run(site, PATIENCE, as_user(initdb).args(["-U", "van", "--auth=trust", "--no-sync", "-E", "UTF8"]));
    fs::write(data.join("pg_hba.conf"), "host all all all trust\n").expect("a file can be written");
    let address = site.free_address();
    let mut command = as_user(postgres);
    command.args(["-h", &address.ip().to_string(), "-p", &address.port().to_string()]);
    command.args(["-c", "unix_socket_directories=", "-c", "fsync=off"]);
    Server::start(site, address, folder, &mut command)
}

#[test]
#[ignore = "needs root, network namespaces and postgresql (with pgbench)"]
fn postgresql_completes_every_transaction_of_pgbench() {
    let found = given(lab(["initdb", "postgres", "pg_isready", "pgbench"]));
    let Some((sites, [initdb, postgres, pg_isready, pgbench])) = found else { return };
    let folder = folder();
    let postgres = start_postgres(&sites.connector, folder.path(), &initdb, &postgres);
    let chain = Chain::start(&sites, &json!({}), &[postgres.address()]);
    let entrance = chain.entrance(0);
    let client = |program| {
        let mut command = Command::new(program);
        command.args(["-h", &entrance.ip().to_string(), "-p", &entrance.port().to_string(), "-U", "van"]);
        command
    };
    rig::wait_until("PostgreSQL takes connections", || {
        program::finish(&chain.site, PATIENCE, &mut client(&pg_isready)).status.success()
    });
    program::run(&chain.site, PATIENCE, client(&pgbench).args(["-i", "-s", "4", "postgres"]));
    for (name, options) in [("kept connections", &[][..]), ("a connection each", &["-C"])] {
        let mut command = client(&pgbench);
        command.args(["-c", "8", "-j", "2", "-T", &load_time().as_secs().to_string()]);
        let report = program::run(&chain.site, load_time(), command.args(options).arg("postgres"));
        let failed = report.lines().find_map(|line| line.strip_prefix("number of failed transactions: "));
        // Versions before 15 abort instead of counting.
        assert!(failed.is_none_or(|failed| failed.starts_with("0 ")), "{report}");
        assert!(!report.contains("error") && !report.contains("aborted"), "{report}");
        let rate = report.lines().find(|line| line.starts_with("tps")).expect("pgbench tells the rate");
        println!("PostgreSQL and pgbench, {name}: {rate}");
    }
}

// === redis ===

#[test]
#[ignore = "needs root, network namespaces and redis-server, redis-benchmark"]
fn redis_answers_every_command_of_its_benchmark() {
    let Some((sites, [redis, benchmark])) = given(lab(["redis-server", "redis-benchmark"])) else { return };
    let folder = folder();
    let address = sites.connector.free_address();
    let mut command = Command::new(redis);
    command.args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()]);
    command.args(["--protected-mode", "no", "--save", "", "--appendonly", "no"]).current_dir(folder.path());
    let redis = Server::start(&sites.connector, address, folder.path(), &mut command);
    let chain = Chain::start(&sites, &json!({}), &[redis.address()]);
    let entrance = chain.entrance(0);
    // It knows no duration. This many take about as long as the other loads.
    let count = 1_500 * load_time().as_secs();
    for (name, options) in [
        ("one by one", &["-t", "ping_mbulk,set,get,incr,lpush,lrange_100,mset"][..]),
        ("16 at a time", &["-P", "16", "-t", "set,get"]),
        ("values of 64 KiB", &["-d", "65536", "-t", "set,get"]),
    ] {
        let mut command = Command::new(&benchmark);
        command.args(["-h", &entrance.ip().to_string(), "-p", &entrance.port().to_string(), "--csv"]);
        command.args(["-c", "50", "-n", &count.to_string()]).args(options);
        let report = program::run(&chain.site, 10 * load_time(), &mut command);
        assert!(!report.to_lowercase().contains("error"), "{report}");
        println!("redis, {name}:\n{report}");
    }
}

// === iperf3 ===

#[test]
#[ignore = "needs root, network namespaces and iperf3"]
fn iperf3_fills_eight_streams_in_either_direction() {
    let Some((sites, [iperf3])) = given(lab(["iperf3"])) else { return };
    let folder = folder();
    // A server takes one test at a time, and may need a moment between two.
    let servers = [(); 2].map(|()| {
        let address = sites.connector.free_address();
        let mut command = Command::new(&iperf3);
        command.args(["-s", "-B", &address.ip().to_string(), "-p", &address.port().to_string()]);
        Server::start(&sites.connector, address, folder.path(), &mut command)
    });
    let chain = Chain::start(&sites, &json!({}), &servers.each_ref().map(Server::address));
    for (number, options) in [&[][..], &["-R"]].into_iter().enumerate() {
        let entrance = chain.entrance(number);
        let mut command = Command::new(&iperf3);
        command.args(["-c", &entrance.ip().to_string(), "-p", &entrance.port().to_string(), "-J", "-P", "8"]);
        command.args(["-t", &load_time().as_secs().to_string()]).args(options);
        let report = program::run(&chain.site, load_time(), &mut command);
        let report: Value = serde_json::from_str(&report).expect("iperf3 writes JSON");
        assert!(report.get("error").is_none(), "{report:#}");
        let streams = report["end"]["streams"].as_array().expect("a list");
        let all_moved = streams.iter().all(|stream| stream["receiver"]["bytes"].as_u64() > Some(0));
        assert!(streams.len() == 8 && all_moved, "{report:#}");
        let rate = report["end"]["sum_received"]["bits_per_second"].as_f64().expect("iperf3 tells the rate");
        println!("iperf3 {options:?}: {:.2} Gbit/s", rate / 1e9);
    }
}

// === what TCP can do ===

#[test]
#[ignore = "needs root and network namespaces"]
fn a_gibibyte_each_way_arrives_unchanged_beside_a_hundred_idle_connections() {
    let Some((sites, [])) = given(lab([])) else { return };
    let exchanges = Exchanges::start(&sites.connector);
    let echo = Workload::start(&sites.connector, workload::echo);
    let chain = Chain::start(&sites, &json!({}), &[exchanges.address(), echo.address()]);
    let idle: Vec<_> = (0..100).map(|_| chain.site.connect(chain.entrance(1)).expect("it is reachable")).collect();
    idle.iter().for_each(check_echo);
    for (up, down) in [(GIBIBYTE, 0), (0, GIBIBYTE)] {
        Exchange::new(up, down).run(&chain.site, chain.entrance(0)).expect("every octet arrives");
    }
    idle.iter().for_each(check_echo);
    exchanges.tally.assert_no_faults();
}

#[track_caller]
fn check_echo(mut stream: &TcpStream) {
    let mut answer = [0; 4];
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.write_all(b"ping").expect("the stream is open");
    stream.read_exact(&mut answer).expect("the stream is open");
    assert_eq!(&answer, b"ping");
}

#[test]
#[ignore = "needs root and network namespaces"]
fn either_side_may_end_first_and_still_hear_the_other() {
    let Some((sites, [])) = given(lab([])) else { return };
    let answering = Workload::start(&sites.connector, |mut stream| {
        let mut question = Vec::new();
        stream.read_to_end(&mut question).expect("the client ends in order");
        question.reverse();
        stream.write_all(&question).expect("the client listens");
    });
    let (heard, hearing) = mpsc::channel();
    let ending = Workload::start(&sites.connector, move |mut stream| {
        let mut text = String::new();
        stream.write_all(b"that is all").and_then(|()| stream.shutdown(Shutdown::Write)).expect("the client listens");
        stream.read_to_string(&mut text).expect("the client ends in order");
        // The test has gone on when this was only somebody who tried whether the port is open.
        let _ = heard.send(text);
    });
    let chain = Chain::start(&sites, &json!({}), &[answering.address(), ending.address()]);

    let mut client = chain.site.connect(chain.entrance(0)).expect("it is reachable");
    client.write_all(b"question").and_then(|()| client.shutdown(Shutdown::Write)).expect("the stream is open");
    assert_eq!(read_to_end(&client).expect("the answer comes"), b"noitseuq");

    let mut client = chain.site.connect(chain.entrance(1)).expect("it is reachable");
    assert_eq!(read_to_end(&client).expect("the server ends in order"), b"that is all");
    client.write_all(b"not for me").expect("this direction is open");
    drop(client);
    let mut texts = std::iter::from_fn(|| hearing.recv_timeout(PATIENCE).ok());
    assert!(texts.any(|text| text == "not for me"));
}

fn read_to_end(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.read_to_end(&mut octets)?;
    Ok(octets)
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_server_may_speak_first() {
    let Some((sites, [])) = given(lab([])) else { return };
    let greeter = Workload::start(&sites.connector, |mut stream| {
        let _ = stream.write_all(b"220 ready\r\n");
        workload::echo(stream);
    });
    let chain = Chain::start(&sites, &json!({}), &[greeter.address()]);
    for _ in 0..100 {
        let mut client = chain.site.connect(chain.entrance(0)).expect("it is reachable");
        let mut greeting = [0; 11];
        client.set_read_timeout(Some(PATIENCE)).expect("not zero");
        client.read_exact(&mut greeting).expect("the greeting comes");
        assert_eq!(&greeting, b"220 ready\r\n");
        check_echo(&client);
    }
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_reset_at_either_end_arrives_as_a_reset_at_the_other() {
    let Some((sites, [])) = given(lab([])) else { return };
    let (saw, seen) = mpsc::channel();
    // The first octet says who is to break the connection.
    let workload = Workload::start(&sites.connector, move |mut stream| {
        let mut order = [0];
        match stream.read_exact(&mut order).map(|()| order) {
            Ok([b's']) => workload::reset(stream),
            Ok(_) => {
                stream.write_all(b"!").expect("the client listens");
                saw.send(stream.read(&mut order)).expect("the test waits");
            }
            Err(_) => {}
        }
    });
    let chain = Chain::start(&sites, &json!({}), &[workload.address()]);
    for _ in 0..20 {
        let mut client = chain.site.connect(chain.entrance(0)).expect("it is reachable");
        client.write_all(b"s").expect("the stream is open");
        let at_client = read_to_end(&client);
        assert!(at_client.as_ref().is_err_and(workload::is_reset), "{at_client:?}");

        let mut client = chain.site.connect(chain.entrance(0)).expect("it is reachable");
        client.write_all(b"c").and_then(|()| client.read_exact(&mut [0])).expect("the stream is open");
        workload::reset(client);
        let at_workload = seen.recv_timeout(PATIENCE).expect("the workload hears of it");
        assert!(at_workload.as_ref().is_err_and(workload::is_reset), "{at_workload:?}");
    }
}

// === proxies of links ===

/// Who may use the proxies.
const USER: (&str, &str) = ("svc", "s3cret");

/// A link of two routers goes through a proxy, and ends with it; with another password it does not come up and says so.
#[track_caller]
fn check_proxy(scheme: &str, start: impl FnOnce(SocketAddr) -> Server) {
    let site = Site::here();
    let exchanges = Exchanges::start(&site);
    let folder = folder();
    let certificates = Certificates::new(folder.path());
    let (access, entrance) = (site.free_address(), site.free_address());
    let proxy = start(access);
    let near = Plan::new("near", &json!({})).accepting(&[access]).listening("key", entrance);
    let far = |name, user| {
        let plan = Plan::new(name, &json!({})).linked_to(access).connecting("key", exchanges.address());
        Router::start(&site, folder.path(), &certificates, plan.through(scheme, proxy.address(), user))
    };
    let near = Router::start(&site, folder.path(), &certificates, near);
    let stranger = far("stranger", (USER.0, "wrong"));
    let told = "it does not accept user and password; correct";
    rig::wait_until("a wrong password is told", || stranger.log().contains(told));
    assert!(site.connect(entrance).is_err(), "let through with a wrong password");
    let far = far("far", USER);
    rig::wait_until("the other site answers", || site.connect(entrance).is_ok());
    Exchange::new(4_000_000, 4_000_000).run(&site, entrance).expect("every octet arrives");
    exchanges.tally.assert_no_faults();
    drop(proxy);
    rig::wait_until("the link ends with the proxy", || near.log().contains("link lost"));
    let told = format!("cannot reach the proxy \"proxy\" at {}", access.ip());
    rig::wait_until("the loss is told", || far.log().contains(&told));
}

#[test]
#[ignore = "needs tinyproxy"]
fn a_link_goes_through_tinyproxy() {
    let Some(tinyproxy) = given(program::find("tinyproxy")) else { return };
    let folder = folder();
    check_proxy("http", |access| {
        let address = Site::here().free_address();
        let configuration = folder.path().join("tinyproxy.conf");
        let text = format!(
            "Listen {}\nPort {}\nTimeout 600\nMaxClients 100\nBasicAuth {} {}\nConnectPort {}\n",
            address.ip(),
            address.port(),
            USER.0,
            USER.1,
            access.port()
        );
        fs::write(&configuration, text).expect("a configuration can be written");
        let mut command = Command::new(&tinyproxy);
        Server::start(&Site::here(), address, folder.path(), command.args(["-d", "-c"]).arg(configuration))
    });
}

#[test]
#[ignore = "needs root, mount namespaces and danted, openssl"]
fn a_link_goes_through_dante() {
    let found = given(program::find_all(["danted", "unshare", "openssl"]));
    let Some([danted, unshare, openssl]) = found else { return };
    let folder = folder();
    check_proxy("socks5", |_| {
        let site = Site::here();
        let address = site.free_address();
        let file = |name: &str, text: String| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("a file can be written");
            path.display().to_string()
        };
        let configuration = file(
            "danted.conf",
            format!(
                "logoutput: stderr\ninternal: {ip} port = {port}\nexternal: {ip}\nuser.privileged: root\n\
             user.unprivileged: nobody\nclientmethod: none\nsocksmethod: username\n\
             client pass {{ from: 0/0 to: 0/0 }}\nsocks pass {{ from: 0/0 to: 0/0 protocol: tcp }}\n",
                ip = address.ip(),
                port = address.port(),
            ),
        );
        // It asks the system who may pass: a user that only it sees.
        let hash = program::run(&site, PATIENCE, Command::new(openssl).args(["passwd", "-6", USER.1]));
        let of_system = |name| fs::read_to_string(name).expect("root reads it");
        let users = file("passwd", format!("{}{}:x:64999:64999::/:/bin/false\n", of_system("/etc/passwd"), USER.0));
        let hashes = format!("{}{}:{}:20000:0:99999:7:::\n", of_system("/etc/shadow"), USER.0, hash.trim());
        let hashes = file("shadow", hashes);
        let script = format!(
            "mount --bind {users} /etc/passwd && mount --bind {hashes} /etc/shadow && {{ {} -f {configuration} & wait; }}",
            danted.display()
        );
        // Its children live on without it, unless the first of their processes ends.
        let own = ["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", &script];
        Server::start(&site, address, folder.path(), Command::new(&unshare).args(own))
    });
}

// === shards and data connections ===

/// Streams at the same time: more than enough that every shard has some.
const STREAMS: usize = 24;

#[test]
#[ignore = "needs root, network namespaces and nginx, wrk"]
fn octets_arrive_unchanged_with_any_number_of_shards_and_data_connections() {
    let Some((sites, [nginx, wrk])) = given(lab(["nginx", "wrk"])) else { return };
    let folder = folder();
    let nginx = start_nginx(&sites.connector, folder.path(), &nginx, "");
    let mut crossed_in_all = 0;
    for shards in 1..=3 {
        for data_connections in 0..=3 {
            let exchanges = Exchanges::start(&sites.connector);
            let attributes = json!({"workerThreads": shards, "dataConnectionCount": data_connections});
            let chain = Chain::start(&sites, &attributes, &[exchanges.address(), nginx.address()]);
            let cell = format!("{shards} shards, {data_connections} data connections");
            // A stream that starts before all data connections are in use may have to cross.
            rig::wait_until(&format!("octets stay in their shard, or never will: {cell}"), || {
                shards != data_connections || crossed_by(&chain, || exchange_at_once(&chain, 1_000)) == 0
            });
            let mut rate = String::new();
            let crossed = crossed_by(&chain, || {
                exchange_at_once(&chain, 4_000_000);
                rate = check_wrk(
                    &chain.site,
                    &wrk,
                    chain.entrance(1),
                    load_time().div_f64(10.0).max(Duration::from_secs(1)),
                    "keep-alive",
                );
            });
            exchanges.tally.assert_no_faults();
            println!("{cell}: {crossed} octets crossed, {rate} requests/s");
            assert!(crossed == 0 || (shards != data_connections && shards > 1), "{cell}: {crossed} octets crossed");
            crossed_in_all += crossed;
        }
    }
    assert!(crossed_in_all > 0, "octets crossed in no cell: this test has not seen what it is for");
}

/// How many octets crossed from shard to shard meanwhile, in all three routers.
fn crossed_by(chain: &Chain, what: impl FnOnce()) -> u64 {
    let crossed = || chain.routers().map(|router| router.metric("van_crossed_bytes_total")).iter().sum::<u64>();
    let before = crossed();
    what();
    crossed() - before
}

fn exchange_at_once(chain: &Chain, length: u64) {
    thread::scope(|scope| {
        for _ in 0..STREAMS {
            let exchange = || Exchange::new(length, length).run(&chain.site, chain.entrance(0));
            scope.spawn(move || exchange().expect("every octet arrives"));
        }
    });
}
