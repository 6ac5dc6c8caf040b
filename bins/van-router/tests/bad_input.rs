//! Bad input as a user meets it: whatever is wrong with a file, a certificate, a port or a peer, there is one message that
//! names the thing and the next step, and nothing else.

mod rig;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use bytes::Buf;
use serde_json::{Value, json};
use tempfile::TempDir;
use van_tls::{Authority, AuthorityRequest, Credentials, KeyKind, LeafRequest, LinkAcceptor, Policy, Usage, directory};

use rig::certificates::{Certificates, PROFILE};
use rig::program;
use rig::router::{Plan, Router};
use rig::site::Site;
use rig::workload::Workload;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a message for people does not contain.
const NOISE: [&str; 9] =
    ["panicked", "backtrace", "Os {", "Error {", "Err(", "Error(", "Some(", "source:", "Caused by"];

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder can be made")
}

fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("a file can be written");
    path
}

/// Runs the program. One that starts where it should not ends by itself: its standard input is empty.
fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_van-router"));
    command.args(arguments).env("RUST_BACKTRACE", "1").env_remove("RUST_LOG").env_remove("VAN_NOT_SET");
    program::finish(&Site::here(), Duration::ZERO, &mut command)
}

fn run_configuration(path: &Path) -> Output {
    run(&[van_router::Arguments::WHILE_STDIN, "--config", &path.display().to_string()])
}

/// The one message with which the program gave up, or what is wrong with it.
fn message(output: &Output) -> Result<String, String> {
    let text = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    if output.status.code() != Some(1) {
        return Err(format!("it ended with {}, not with exit code 1:\n{text}", output.status));
    }
    let Some(message) = text.strip_prefix("van-router: ") else {
        return Err(format!("it says more, or less, than one message:\n{text}"));
    };
    if let Some(noise) = NOISE.into_iter().find(|noise| text.contains(noise)) {
        return Err(format!("{noise:?} is not for people:\n{text}"));
    }
    match message.lines().find_map(repeated) {
        Some(part) => Err(format!("{part:?} is told twice:\n{text}")),
        None => Ok(message.to_owned()),
    }
}

/// What a line says twice.
fn repeated(line: &str) -> Option<&str> {
    let parts: Vec<_> = line.split([':', ';']).map(str::trim).filter(|part| part.len() > 12).collect();
    parts.iter().enumerate().find(|(place, part)| parts[..*place].contains(part)).map(|(_, part)| *part)
}

/// Every case ends with one message that has all the parts expected; told are all that do not.
#[track_caller]
fn check_messages<'a>(cases: impl IntoIterator<Item = (Output, Vec<&'a str>)>) {
    let fault = |(output, expected): (Output, Vec<&str>)| match message(&output) {
        Ok(message) if message.contains('\n') => Some(format!("more than one line:\n{message}")),
        Ok(message) => {
            let missing: Vec<_> = expected.into_iter().filter(|part| !message.contains(part)).collect();
            (!missing.is_empty()).then(|| format!("{missing:?} missing in:\n{message}"))
        }
        Err(fault) => Some(fault),
    };
    let faults: Vec<_> = cases.into_iter().filter_map(fault).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n\n"));
}

// === the command line ===

#[test]
fn wrong_arguments_end_with_the_usage_and_exit_code_2() {
    for (arguments, expected) in [
        (&[][..], "--config <FILE>"),
        (&["--config"], "--config <FILE>"),
        (&["--confg", "x"], "--config"),
        (&["-c", "x", "--drain", "soon"], "--drain <SECONDS>"),
        (&["-c", "x", "--log-format", "xml"], "json"),
        (&["x.json"], "x.json"),
    ] {
        let output = run(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.starts_with("error: ") && text.contains(expected), "{arguments:?}: {text}");
    }
}

// === the file ===

#[test]
fn a_file_that_is_no_configuration_is_named_with_what_is_wrong() {
    let folder = folder();
    let cases = [
        (folder.path().join("missing.json"), vec!["cannot read ", "missing.json", "No such file"]),
        (folder.path().to_owned(), vec!["cannot read ", "Is a directory"]),
        (write(folder.path(), "latin.json", b"[[\"router\", {\"id\": \"caf\xe9\"}]]"), vec!["latin.json", "UTF-8"]),
        (write(folder.path(), "empty.json", ""), vec!["empty.json cannot be used", "not JSON", "line 1"]),
        (write(folder.path(), "comma.json", "[\n  [\"router\", {},]\n]"), vec!["comma.json", "not JSON", "line 2"]),
        (write(folder.path(), "cut.json", "[[\"router\""), vec!["cut.json", "not JSON", "EOF while parsing a list"]),
        (
            write(folder.path(), "map.json", "{}"),
            vec!["map.json", "expected a JSON list of [\"type\", {attributes}] pairs"],
        ),
        (
            write(folder.path(), "flat.json", "[1]"),
            vec!["flat.json", "entity 1", "expected a pair [\"type\", {attributes}]"],
        ),
        (write(folder.path(), "none.json", "[]"), vec!["none.json", "no `router` entity: add [\"router\", {\"id\": "]),
    ];
    check_messages(cases.map(|(path, expected)| (run_configuration(&path), expected)));
}

#[test]
fn a_file_that_must_not_be_read_is_named() {
    use std::os::unix::fs::PermissionsExt;
    if rustix::process::geteuid().is_root() {
        println!("skipped: root may read everything");
        return;
    }
    let folder = folder();
    let path = write(folder.path(), "secret.json", "[]");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("it is ours");
    check_messages([(run_configuration(&path), vec!["cannot read ", "secret.json", "Permission denied"])]);
}

// === entities ===

/// Each list of entities, beside a good router, with what the message has to say.
#[track_caller]
fn check_entities<'a>(cases: &[(Value, &[&'a str])]) {
    let folder = folder();
    let run_case = |(number, (entities, expected)): (usize, &(Value, &[&'a str]))| {
        let mut all = vec![json!(["router", {"id": "a", "mode": "interior"}])];
        all.extend(entities.as_array().expect("a list of entities").iter().cloned());
        let path = write(folder.path(), &format!("{number}.json"), Value::from(all).to_string());
        (run_configuration(&path), expected.to_vec())
    };
    check_messages(cases.iter().enumerate().map(run_case));
}

#[test]
fn an_entity_that_cannot_be_is_named_with_the_next_step() {
    check_entities(&[
        // What it is.
        (json!([["tcpListner", {}]]), &["entity 2", "unknown entity type `tcpListner`", "did you mean `tcpListener`?"]),
        (
            json!([["tcpConnector", {"name": "c", "host": "h", "port": 1, "adress": "k", "address": "k"}]]),
            &["tcpConnector \"c\"", "unknown attribute `adress`", "did you mean `address`?"],
        ),
        (json!([["tcpListener", {"name": "l", "address": "k"}]]), &["tcpListener \"l\"", "`port` is missing"]),
        (
            json!([["tcpListener", {"name": "l", "port": 1}]]),
            &["tcpListener \"l\"", "`address` is missing", "routing key"],
        ),
        (
            json!([["tcpConnector", {"name": "c", "port": 1, "address": "k"}]]),
            &["tcpConnector \"c\"", "`host` is missing"],
        ),
        // Its values.
        (
            json!([["tcpListener", {"name": "l", "port": "http", "address": "k"}]]),
            &["tcpListener \"l\"", "`port` must be a port (0 to 65535", "not \"http\""],
        ),
        (
            json!([["tcpListener", {"name": "l", "port": 65536, "address": "k"}]]),
            &["`port` must be a port", "not 65536"],
        ),
        (json!([["tcpListener", {"name": "l", "port": [1], "address": "k"}]]), &["`port` must be a port", "not [1]"]),
        (
            json!([["tcpListener", {"name": "l", "port": 1, "address": {"key": "k"}}]]),
            &["`address` must be a text", "not {"],
        ),
        (
            json!([["listener", {"name": "l", "role": "inter-ruter", "port": 1}]]),
            &["listener \"l\"", "`role` must be one of ", "inter-router", "not \"inter-ruter\""],
        ),
        (
            json!([["listener", {"name": "l", "role": "inter-router", "port": 1, "authenticatePeer": "maybe"}]]),
            &["`authenticatePeer` must be true or false", "not \"maybe\""],
        ),
        (
            json!([["listener", {"name": "l", "role": "inter-router", "port": 1, "maxFrameSize": 100}]]),
            &["`maxFrameSize` must be from 512 to 1048576", "not 100"],
        ),
        (
            json!([["connector", {"name": "l", "role": "inter-router", "port": 1, "cost": 0}]]),
            &["connector \"l\"", "`cost` must be a whole number above 0"],
        ),
        (
            json!([["connector", {"name": "l", "role": "inter-router", "port": 1, "dataConnectionCount": "many"}]]),
            &["`dataConnectionCount` must be auto or a number from 0 to 16", "not many"],
        ),
        (
            json!([["log", {"module": "NOBODY", "enable": "info+"}]]),
            &["log \"NOBODY\"", "`module` must be one of ", "DEFAULT"],
        ),
        (
            json!([["log", {"module": "ROUTER", "enable": "loud"}]]),
            &["log \"ROUTER\"", "unknown level `loud`", "use trace, debug, info"],
        ),
        (
            json!([["log", {"module": "ROUTER", "outputFile": "/nowhere/van.log"}]]),
            &["log", "cannot write outputFile /nowhere/van.log", "No such file"],
        ),
        (
            json!([["tcpListener", {"name": "l", "host": "${VAN_NOT_SET}", "port": 1, "address": "k"}]]),
            &["tcpListener \"l\"", "`host` uses ${VAN_NOT_SET}", "not set in the environment"],
        ),
        // Its place among the others.
        (json!([["router", {"id": "b", "mode": "interior"}]]), &["router \"b\"", "there can be only one"]),
        (json!([["sslProfile", {"caCertFile": "/c/ca.crt"}]]), &["sslProfile (entity 2)", "`name` is missing"]),
        (
            json!([["sslProfile", {"name": "p"}], ["sslProfile", {"name": "p"}]]),
            &["sslProfile \"p\"", "the name is used twice"],
        ),
        (
            json!([["tcpConnector", {"name": "c", "host": "h", "port": 1, "address": "k"}, ], ["tcpConnector", {"name": "c", "host": "h", "port": 2, "address": "k"}]]),
            &["tcpConnector \"c\"", "the name is used twice"],
        ),
        (
            json!([["listener", {"name": "l", "role": "inter-router", "port": 1, "sslProfile": "link"}], ["sslProfile", {"name": "links"}]]),
            &["listener \"l\"", "there is no sslProfile named `link`", "did you mean `links`?"],
        ),
        (
            json!([["connector", {"name": "up", "role": "inter-router", "port": 1, "sslProfile": "links"}]]),
            &["connector \"up\"", "there is no sslProfile named `links`"],
        ),
        (
            json!([["listener", {"name": "l", "role": "inter-router", "port": 1, "requireSsl": true}]]),
            &["listener \"l\"", "TLS is required, and no `sslProfile`"],
        ),
        (
            json!([["listener", {"name": "l", "role": "inter-router", "host": "127.0.0.1", "port": 1, "authenticatePeer": true}]]),
            &["listener \"l\"", "authenticatePeer needs an sslProfile"],
        ),
    ]);
}

#[test]
fn a_standalone_router_has_no_other_routers() {
    let folder = folder();
    let entity =
        |kind: &str, role: &str| json!([["router", {"id": "a"}], [kind, {"name": "l", "role": role, "port": 1}]]);
    for (kind, role) in
        [("listener", "inter-router"), ("connector", "inter-router"), ("connector", "edge"), ("listener", "edge")]
    {
        let path = write(folder.path(), "standalone.json", entity(kind, role).to_string());
        let message = message(&run_configuration(&path)).expect("one message");
        let expected = format!("role {role} needs a router of mode ");
        assert!(message.contains(kind) && message.contains(&expected), "{message}");
    }
}

#[test]
fn a_router_that_cannot_be_is_named_with_the_next_step() {
    let folder = folder();
    let cases = [
        (json!({"mode": "interior"}), vec!["`id` is missing", "unique in the network"]),
        (json!({"id": "", "mode": "interior"}), vec!["router", "`id`", "must not be empty"]),
        (json!({"id": "a/b", "mode": "interior"}), vec!["router \"a/b\"", "`id`", "contains a '/'"]),
        (json!({"id": "a", "mode": "core"}), vec!["router \"a\"", "`mode` must be one of ", "interior"]),
        (json!({"id": "a-${VAN_NOT_SET}", "mode": "interior"}), vec!["`id` uses ${VAN_NOT_SET}", "not set"]),
        (
            json!({"id": "a", "mode": "interior", "helloIntervalSeconds": 0}),
            vec!["`helloIntervalSeconds` must be a whole number above 0"],
        ),
        // As many as that would be taken for none at all.
        (json!({"id": "a", "mode": "interior", "workerThreads": 70_000}), vec!["`workerThreads`", "70000"]),
    ];
    check_messages(cases.into_iter().enumerate().map(|(number, (attributes, expected))| {
        let path = write(folder.path(), &format!("{number}.json"), json!([["router", attributes]]).to_string());
        (run_configuration(&path), expected)
    }));
}

#[test]
fn all_faults_of_a_file_are_told_at_once_each_in_a_line() {
    let folder = folder();
    let entities = json!([["router", {"id": "a", "mode": "interior"}], ["tcpListner", {}], ["tcpConnector", {"name": "c", "port": 1, "address": "k"}]]);
    let path = write(folder.path(), "two.json", entities.to_string());
    let message = message(&run_configuration(&path)).expect("one message");
    let lines: Vec<_> = message.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("tcpListner") && lines[1].contains("tcpConnector"), "{message}");
}

// === certificates ===

/// Authorities and certificates, good and bad, as files.
struct Papers {
    folder: TempDir,
    authority: Authority,
}

impl Papers {
    fn new() -> Self {
        let now = SystemTime::now() - 10 * DAY;
        let (common_name, key) = ("papers".into(), KeyKind::EcdsaP256);
        let request = AuthorityRequest { common_name, key, now, valid_for: 20 * DAY };
        Self { folder: folder(), authority: Authority::create(&request).expect("an authority can be made") }
    }

    fn issue(&self, host: &str, from: SystemTime) -> Credentials {
        let (key, usage) = (KeyKind::EcdsaP256, Usage::Both);
        let common_name = host.into();
        let request = LeafRequest { common_name, hosts: vec![host.into()], usage, key, now: from, valid_for: DAY };
        self.authority.issue(&request).expect("a certificate can be issued")
    }

    /// The TLS profile of a certificate that is valid for a day from then on.
    fn profile(&self, name: &str, from: SystemTime) -> Profile {
        let folder = self.folder.path().join(name);
        directory::write(&folder, &self.issue(name, from)).expect("certificates can be written");
        let [ca, certificate, key] =
            [directory::CA_FILE, directory::CERTIFICATE_FILE, directory::KEY_FILE].map(|file| folder.join(file));
        Profile { ca, certificate, key }
    }
}

#[derive(Clone)]
struct Profile {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Profile {
    fn entity(&self) -> Value {
        json!(["sslProfile", {"name": PROFILE, "caCertFile": self.ca, "certFile": self.certificate, "privateKeyFile": self.key}])
    }
}

#[test]
fn a_certificate_that_cannot_be_used_is_named_with_its_file() {
    let papers = Papers::new();
    let now = SystemTime::now();
    let good = papers.profile("good", now);
    let other = papers.profile("other", now);
    let expired = papers.profile("expired", now - 5 * DAY);
    let future = papers.profile("future", now + 5 * DAY);
    let path = |name: &str| papers.folder.path().join(name);
    let text = write(papers.folder.path(), "text.pem", "hello");
    let damaged =
        write(papers.folder.path(), "damaged.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let locked = write(
        papers.folder.path(),
        "locked.pem",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let listener = json!(["listener", {"name": "l", "role": "inter-router", "host": "127.0.0.1", "port": 0, "sslProfile": PROFILE}]);
    let connector = json!(["connector", {"name": "up", "role": "inter-router", "host": "127.0.0.1", "port": 1, "sslProfile": PROFILE}]);

    let cases: Vec<(Value, &[&str])> = vec![
        (Profile { certificate: path("no.crt"), ..good.clone() }.entity(), &["no.crt is absent"]),
        (Profile { key: path("no.key"), ..good.clone() }.entity(), &["no.key is absent"]),
        (Profile { ca: path("no-ca.crt"), ..good.clone() }.entity(), &["no-ca.crt is absent"]),
        (
            Profile { ca: papers.folder.path().into(), ..good.clone() }.entity(),
            &["cannot be read", "it is no regular file"],
        ),
        (
            Profile { key: other.key, ..good.clone() }.entity(),
            &["tls.key is not the key of ", "tls.crt", "replace both"],
        ),
        (
            Profile { certificate: text.clone(), ..good.clone() }.entity(),
            &["text.pem cannot be used", "no certificate", "BEGIN CERTIFICATE"],
        ),
        (
            Profile { key: text.clone(), ..good.clone() }.entity(),
            &["text.pem cannot be used", "no private key", "BEGIN PRIVATE KEY"],
        ),
        (Profile { ca: text, ..good.clone() }.entity(), &["text.pem cannot be used", "no CA certificate"]),
        (Profile { certificate: damaged, ..good.clone() }.entity(), &["damaged.pem cannot be used", "certificate"]),
        (Profile { key: locked, ..good.clone() }.entity(), &["locked.pem cannot be used", "encrypted", "openssl pkey"]),
        (expired.entity(), &["our certificate CN=expired expired at ", "issue a new one"]),
        (future.entity(), &["our certificate CN=future is valid from ", "compare the clocks"]),
        (
            json!(["sslProfile", {"name": PROFILE, "caCertFile": good.ca, "certFile": good.certificate}]),
            &["tls.crt needs its counterpart", "certificate and key"],
        ),
        (
            json!(["sslProfile", {"name": PROFILE, "certFile": good.certificate, "privateKeyFile": good.key}]),
            &["caCertFile"],
        ),
        (json!(["sslProfile", {"name": PROFILE}]), &["caCertFile", "certFile", "privateKeyFile"]),
    ];
    let with_profile = |expected: &[&'static str]| [&["sslProfile \"links\""], expected].concat();
    for user in [listener, connector] {
        check_messages(cases.iter().enumerate().map(|(number, (profile, expected))| {
            let entities = json!([["router", {"id": "a", "mode": "interior"}], profile, user]);
            let path = write(papers.folder.path(), &format!("{number}.json"), entities.to_string());
            (run_configuration(&path), with_profile(expected))
        }));
    }
}

// === ports ===

#[test]
fn a_port_that_cannot_be_opened_is_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let port = taken.local_addr().expect("it listens").port();
    let free = Site::here().free_address().port();
    let address = format!("127.0.0.1:{port}");
    let link = |name: &str, port: u16| json!(["listener", {"name": name, "role": "inter-router", "host": "127.0.0.1", "port": port}]);
    let tcp = |name: &str, host: &str, port: u16| json!(["tcpListener", {"name": name, "host": host, "port": port, "address": "k"}]);
    let in_use = "another program, perhaps another router, is listening there";
    check_entities(&[
        (json!([link("links", port)]), &["listener \"links\"", &address, in_use]),
        (
            json!([["listener", {"name": "status", "host": "127.0.0.1", "port": port, "http": true}]]),
            &["listener \"status\"", &address, in_use],
        ),
        (json!([tcp("web", "127.0.0.1", port)]), &["tcpListener \"web\"", &address, in_use]),
        (
            json!([link("links", free), tcp("web", "127.0.0.1", free)]),
            &["tcpListener \"web\"", "cannot listen on 127.0.0.1"],
        ),
        (
            json!([tcp("one", "127.0.0.1", free), tcp("two", "127.0.0.1", free)]),
            &["tcpListener \"two\"", "tcpListener \"one\""],
        ),
        (json!([tcp("web", "no-such-host.invalid", 1)]), &["tcpListener \"web\"", "no-such-host.invalid"]),
        // A documentation address (RFC 5737): no machine has it.
        (json!([tcp("web", "192.0.2.1", free)]), &["tcpListener \"web\"", "192.0.2.1", "this machine"]),
    ]);
}

#[test]
fn a_port_of_another_router_is_named_and_that_router_is_not_disturbed() {
    let (site, folder) = (Site::here(), folder());
    let certificates = Certificates::new(folder.path());
    let access = site.free_address();
    let first = Router::start(&site, folder.path(), &certificates, Plan::new("first", &json!({})).accepting(&[access]));
    check_entities(&[(
        json!([["tcpListener", {"name": "web", "host": access.ip(), "port": access.port(), "address": "k"}]]),
        &["tcpListener \"web\"", &access.to_string(), "another router"],
    )]);
    let second = Plan::new("second", &json!({})).linked_to(access);
    let _second = Router::start(&site, folder.path(), &certificates, second);
    rig::wait_until("the first router still takes links", || first.metric("van_routers") == 2);
}

// === peers, while it runs ===

/// How often a peer must be tried before "told once" means something.
const ATTEMPTS: usize = 4;

/// A link to a peer that cannot be one: told once, however often it is tried.
#[track_caller]
fn check_peer(profile: &Value, expected: &[&str], serve: impl Fn(TcpStream) + Send + Sync + 'static) {
    let (site, folder, attempts) = (Site::here(), folder(), Arc::<AtomicUsize>::default());
    let counted = Arc::clone(&attempts);
    let peer = Workload::start(&site, move |stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        serve(stream);
    });
    let plan = Plan::new("dialler", &json!({})).linked_to(peer.address());
    let router = Router::start_with(&site, folder.path(), profile.clone(), plan);
    rig::wait_until("the link is tried again and again", || attempts.load(Ordering::Relaxed) >= ATTEMPTS);
    check_told_once(&router, &[&["uplink", &peer.address().to_string()], expected].concat());
}

#[track_caller]
fn check_told_once(router: &Router, expected: &[&str]) {
    let log = router.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
    assert_eq!(told.len(), 1, "not told once:\n{log}");
    let missing: Vec<_> = expected.iter().filter(|part| !told[0].contains(**part)).collect();
    assert!(missing.is_empty(), "{missing:?} missing in:\n{}", told[0]);
    assert!(NOISE.iter().all(|noise| !told[0].contains(noise)), "{}", told[0]);
}

/// Shakes hands as the accepting end of a link does, and leaves.
fn accept(mut stream: TcpStream, credentials: &Credentials) -> io::Result<()> {
    let acceptor = LinkAcceptor::new(credentials, &Policy::default()).map_err(io::Error::other)?;
    let mut handshake = acceptor.accept(SystemTime::now()).map_err(io::Error::other)?;
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        let (mut output, is_over) = match handshake.handle_received(&buffer[..count]) {
            Ok(Some(established)) => (established.output, true),
            Ok(None) => (std::mem::take(handshake.output()), count == 0),
            Err(_) => (std::mem::take(handshake.output()), true),
        };
        stream.write_all(&output.copy_to_bytes(output.remaining()))?;
        if is_over {
            stream.shutdown(Shutdown::Write)?;
            // What is not read would reset the connection, and the alert with it.
            return io::copy(&mut stream, &mut io::sink()).map(drop);
        }
    }
}

#[test]
fn a_peer_whose_certificate_will_not_do_is_told_once_with_the_next_step() {
    let (now, papers) = (SystemTime::now(), Papers::new());
    let profile = papers.profile("dialler", now).entity();
    let good = papers.issue("127.0.0.1", now);
    let stranger = Papers::new().issue("127.0.0.1", now);
    let cases: [(Credentials, &[&str]); 5] = [
        (stranger.clone(), &["certificate from another CA", "were both ends given credentials of the same one?"]),
        (papers.issue("127.0.0.1", now - 5 * DAY), &["certificate of the peer expired at ", "it needs a new one"]),
        (papers.issue("127.0.0.1", now + 5 * DAY), &["certificate of the peer is valid from ", "compare the clocks"]),
        (papers.issue("elsewhere", now), &["dialled as 127.0.0.1", "names elsewhere", "issue one for 127.0.0.1"]),
        // It does not believe ours.
        (
            Credentials { identity: good.identity.clone(), trust: stranger.trust },
            &["our certificate is from a CA it does not trust"],
        ),
    ];
    thread::scope(|scope| {
        for (credentials, expected) in &cases {
            let (profile, credentials) = (&profile, credentials.clone());
            scope.spawn(move || check_peer(profile, expected, move |stream| drop(accept(stream, &credentials))));
        }
    });
}

#[test]
fn a_peer_that_is_no_router_is_told_once_with_a_guess_what_it_is() {
    let papers = Papers::new();
    let profile = papers.profile("dialler", SystemTime::now()).entity();
    let cases: [(&[u8], &[&str]); 5] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", &["speaks HTTP in the clear instead of TLS"]),
        (
            b"AMQP\x03\x01\x00\x00",
            &["speaks AMQP in the clear instead of TLS", "give an sslProfile to both ends or to neither"],
        ),
        (b"SSH-2.0-OpenSSH_9.2\r\n", &["instead of TLS", "SSH-2.0-"]),
        (b"\x15\x03\x03\x00\x02\x02\x28", &["refused the handshake"]),
        (b"", &["closed the connection", "its log may say why"]),
    ];
    thread::scope(|scope| {
        for (greeting, expected) in cases {
            let profile = &profile;
            let greet = move |mut stream: TcpStream| {
                let _ = stream.write_all(greeting).and_then(|()| stream.shutdown(Shutdown::Write));
                let _ = io::copy(&mut stream, &mut io::sink());
            };
            scope.spawn(move || check_peer(profile, expected, greet));
        }
    });
}

#[test]
fn a_peer_that_is_not_there_is_told_once_and_found_when_it_comes() {
    let (site, folder) = (Site::here(), folder());
    let certificates = Certificates::new(folder.path());
    let access = site.free_address();
    let dialler = Plan::new("dialler", &json!({})).linked_to(access);
    let dialler = Router::start(&site, folder.path(), &certificates, dialler);
    rig::wait_until("it is told", || dialler.log().contains("WARN"));
    let late = Plan::new("late", &json!({})).accepting(&[access]);
    let _late = Router::start(&site, folder.path(), &certificates, late);
    rig::wait_until("the link is up", || dialler.metric("van_routers") == 2);
    check_told_once(&dialler, &["uplink", &access.to_string(), "Connection refused"]);
}
