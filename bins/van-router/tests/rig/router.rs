//! A `van-router` process: its configuration, its log, its numbers.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::{Value, json};

use super::certificates::{Certificates, PROFILE};
use super::http;
use super::site::Site;

/// What files may call `${HOSTNAME}`.
pub(crate) const HOST_NAME: &str = "pod-1";

/// How much of a log is shown when a test fails.
const LOG_LINES: usize = 40;

/// What a router is to do: a list of entities, as in `skrouterd.json`.
#[derive(Debug)]
pub(crate) struct Plan {
    name: &'static str,
    entities: Vec<Value>,
}

impl Plan {
    /// A router with attributes of its own, beside id and mode.
    pub(crate) fn new(name: &'static str, attributes: &Value) -> Self {
        let mut router = json!({"id": name, "mode": "interior"});
        for (key, value) in attributes.as_object().into_iter().flatten() {
            router[key] = value.clone();
        }
        Self { name, entities: vec![json!(["router", router])] }
    }

    /// Accepts links.
    pub(crate) fn accepting(mut self, at: &[SocketAddr]) -> Self {
        for address in at {
            self.entities.push(json!(["listener", {
                "name": format!("links at {address}"), "role": "inter-router", "host": address.ip(), "port": address.port(),
                "sslProfile": PROFILE, "saslMechanisms": "EXTERNAL", "authenticatePeer": true,
            }]));
        }
        self
    }

    /// Keeps a link up.
    pub(crate) fn linked_to(mut self, address: SocketAddr) -> Self {
        self.entities.push(json!(["connector", {
            "name": "uplink", "role": "inter-router", "host": address.ip(), "port": address.port(), "sslProfile": PROFILE,
        }]));
        self
    }

    /// Has an entity of any kind.
    pub(crate) fn with(mut self, kind: &str, attributes: Value) -> Self {
        self.entities.push(json!([kind, attributes]));
        self
    }

    /// Lets AMQP clients in, in clear.
    pub(crate) fn serving_clients(self, at: SocketAddr) -> Self {
        let host = at.ip();
        self.with("listener", json!({"name": "clients", "role": "normal", "host": host, "port": at.port()}))
    }

    /// Lets AMQP clients in by a certificate.
    pub(crate) fn serving_certified_clients(self, at: SocketAddr) -> Self {
        let access = json!({
            "name": "certified clients", "role": "normal", "host": at.ip(), "port": at.port(),
            "sslProfile": PROFILE, "saslMechanisms": "EXTERNAL", "authenticatePeer": true,
        });
        self.with("listener", access)
    }

    /// Lets AMQP clients in by a name and password that the file has.
    pub(crate) fn serving_users(self, at: SocketAddr, file: &Path) -> Self {
        let access = json!({
            "name": "users", "role": "normal", "host": at.ip(), "port": at.port(),
            "saslMechanisms": "PLAIN", "authenticatePeer": true, "saslUsersFile": file,
        });
        self.with("listener", access)
    }

    /// As [`Plan::serving_users`], by TLS.
    pub(crate) fn serving_users_by_tls(self, at: SocketAddr, file: &Path) -> Self {
        let mut plan = self.serving_users(at, file);
        plan.entities.last_mut().expect("added above")[1]["sslProfile"] = PROFILE.into();
        plan
    }

    /// Lets edge routers in.
    pub(crate) fn serving_edges(self, at: SocketAddr) -> Self {
        let access = json!({
            "name": "edges", "role": "edge", "host": at.ip(), "port": at.port(),
            "sslProfile": PROFILE, "saslMechanisms": "EXTERNAL", "authenticatePeer": true,
        });
        self.with("listener", access)
    }

    /// Is an edge router of the interior router there.
    pub(crate) fn edge_of(self, address: SocketAddr) -> Self {
        let link = json!({
            "name": format!("edge of {address}"), "role": "edge", "host": address.ip(), "port": address.port(),
            "sslProfile": PROFILE,
        });
        self.with("connector", link)
    }

    /// As an edge router, lets others in.
    pub(crate) fn accepting_edges(self, at: SocketAddr) -> Self {
        let access = json!({
            "name": "mesh", "role": "inter-edge", "host": at.ip(), "port": at.port(),
            "sslProfile": PROFILE, "saslMechanisms": "EXTERNAL", "authenticatePeer": true,
        });
        self.with("listener", access)
    }

    /// As an edge router, is meshed with the one there.
    pub(crate) fn meshed_with(self, address: SocketAddr) -> Self {
        let link = json!({
            "name": "mesh", "role": "inter-edge", "host": address.ip(), "port": address.port(), "sslProfile": PROFILE,
        });
        self.with("connector", link)
    }

    /// Has its links go through a proxy.
    pub(crate) fn through(mut self, scheme: &str, proxy: SocketAddr, (user, password): (&str, &str)) -> Self {
        for connector in self.entities.iter_mut().filter(|entity| entity[0] == "connector") {
            connector[1]["proxyProfile"] = "proxy".into();
        }
        self.entities.push(json!(["proxyProfile", {
            "name": "proxy", "scheme": scheme, "host": proxy.ip(), "port": proxy.port(),
            "username": user, "password": password,
        }]));
        self
    }

    /// Lets clients of a routing key in.
    pub(crate) fn listening(mut self, key: &str, at: SocketAddr) -> Self {
        self.entities.push(json!(["tcpListener", {"name": key, "host": at.ip(), "port": at.port(), "address": key}]));
        self
    }

    /// As [`Plan::listening`], by TLS.
    pub(crate) fn listening_by_tls(self, key: &str, at: SocketAddr) -> Self {
        let mut plan = self.listening(key, at);
        plan.entities.last_mut().expect("added above")[1]["sslProfile"] = PROFILE.into();
        plan
    }

    /// Speaks TLS with clients and workloads.
    pub(crate) fn by_tls(mut self) -> Self {
        for entity in
            self.entities.iter_mut().filter(|entity| entity[0] == "tcpListener" || entity[0] == "tcpConnector")
        {
            entity[1]["sslProfile"] = PROFILE.into();
        }
        self
    }

    /// Reaches a workload.
    pub(crate) fn connecting(mut self, key: &str, to: SocketAddr) -> Self {
        self.entities.push(json!(["tcpConnector", {"name": key, "host": to.ip(), "port": to.port(), "address": key}]));
        self
    }
}

/// A running router; killed when dropped.
#[derive(Debug)]
pub(crate) struct Router {
    name: String,
    site: Site,
    configuration: PathBuf,
    log: PathBuf,
    /// Where it says how it is, unless its configuration is another's.
    status: Option<SocketAddr>,
    process: Child,
}

impl Router {
    /// Starts a router with files in the folder, and waits until it answers.
    pub(crate) fn start(site: &Site, folder: &Path, certificates: &Certificates, plan: Plan) -> Self {
        let addresses = plan.entities.iter().filter(|entity| entity[0] == "listener").filter_map(|entity| {
            let host = entity[1]["host"].as_str()?;
            host.parse().ok()
        });
        let profile = certificates.profile(plan.name, &addresses.collect::<Vec<_>>());
        Self::start_with(site, folder, profile, plan)
    }

    /// Starts a router with a TLS profile of the caller's.
    pub(crate) fn start_with(site: &Site, folder: &Path, profile: Value, plan: Plan) -> Self {
        let Plan { name, mut entities } = plan;
        let status = site.free_address();
        entities.push(profile);
        entities
            .push(json!(["listener", {"name": "status", "host": status.ip(), "port": status.port(), "http": true}]));
        let router = Self::spawn(site, folder, name, &entities.into(), Some(status));
        router.wait_until_it_answers();
        router
    }

    /// Starts a router with a configuration of others, nothing added, and waits until it says that it has started.
    pub(crate) fn start_as_configured(site: &Site, folder: &Path, name: &str, entities: &Value) -> Self {
        // What an earlier one of the name has said is not its word.
        let _ = fs::remove_file(Self::log_file(folder, name));
        let router = Self::spawn(site, folder, name, entities, None);
        super::wait_until(&format!("the router {name} starts"), || router.log().contains("router started"));
        router
    }

    /// Where a router's log is.
    pub(crate) fn log_file(folder: &Path, name: &str) -> PathBuf {
        folder.join(format!("{name}.log"))
    }

    fn spawn(site: &Site, folder: &Path, name: &str, entities: &Value, status: Option<SocketAddr>) -> Self {
        let configuration = folder.join(format!("{name}.json"));
        fs::write(&configuration, entities.to_string()).expect("a configuration can be written");
        let log = Self::log_file(folder, name);
        let process = spawn(site, &configuration, &log);
        Self { name: name.to_owned(), site: site.clone(), configuration, log, status, process }
    }

    /// Ends it as a crash does: `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it was running");
        self.process.wait().expect("a child can be waited for");
    }

    /// Tells it to stop: it may let its streams end first.
    pub(crate) fn terminate(&self) {
        kill_process(self.pid(), Signal::TERM).expect("it is running");
    }

    /// Whether it has ended, in order.
    #[track_caller]
    pub(crate) fn has_ended(&mut self) -> bool {
        let status = self.process.try_wait().expect("a child can be waited for");
        assert!(status.is_none_or(|status| status.success()), "{}: {status:?}", self.name);
        status.is_some()
    }

    /// Starts it again after [`Router::kill`], with the same configuration.
    pub(crate) fn start_again(&mut self) {
        self.process = spawn(&self.site, &self.configuration, &self.log);
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&self) {
        super::wait_until(&format!("the router {} answers", self.name), || {
            http::get(&self.site, self.status(), "/healthz").is_ok()
        });
    }

    /// Stops it where it is, as a hanging machine does.
    pub(crate) fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).expect("it is running");
    }

    /// Lets it go on after [`Router::freeze`].
    pub(crate) fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).expect("it is there");
    }

    /// Where it serves HTTP.
    pub(crate) fn status(&self) -> SocketAddr {
        self.status.expect("its configuration is a plan")
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// All its numbers, by name.
    pub(crate) fn metrics(&self) -> BTreeMap<String, u64> {
        let text = http::get(&self.site, self.status(), "/metrics").expect("a running router tells its numbers");
        let text = String::from_utf8(text).expect("numbers are text");
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '));
        samples.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    /// One of its numbers.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let metrics = self.metrics();
        *metrics.get(name).unwrap_or_else(|| panic!("no {name} among {:?}", metrics.keys()))
    }

    /// How many TCP connections there are to a port of its site.
    pub(crate) fn connections_at(&self, port: u16) -> usize {
        // Source: Linux, Documentation/networking/proc_net_tcp.rst; state 1 is ESTABLISHED.
        let connections = fs::read_to_string(format!("/proc/{}/net/tcp", self.pid())).expect("it is running");
        let local = format!(":{port:04X}");
        let is_it = |line: &&str| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().is_some_and(|address| address.ends_with(&local)) && fields.nth(1) == Some("01")
        };
        connections.lines().filter(is_it).count()
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it is running").count()
    }

    /// Limits the descriptors it may have open, and returns the limit before; those that are open stay so.
    pub(crate) fn limit_descriptors(&self, limit: Rlimit) -> Rlimit {
        prlimit(Some(self.pid()), Resource::Nofile, limit).expect("it is running")
    }

    /// The TCP ports it listens on.
    pub(crate) fn listening_ports(&self) -> BTreeSet<u16> {
        // Source: as above; state 0A is LISTEN.
        let (sockets, tables) = (self.sockets(), ["tcp", "tcp6"].map(|name| self.table(name)).concat());
        let port = |line: &str| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let is_own = fields.get(3) == Some(&"0A") && sockets.contains(*fields.get(9)?);
            let (_, port) = fields[1].rsplit_once(':').filter(|_| is_own)?;
            u16::from_str_radix(port, 16).ok()
        };
        tables.lines().filter_map(port).collect()
    }

    /// The numbers of the sockets it has open.
    fn sockets(&self) -> BTreeSet<String> {
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("it is running");
        let targets = open.filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok());
        let number = |target: PathBuf| Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
        targets.filter_map(number).collect()
    }

    /// One of Linux' tables of the sockets in its network.
    fn table(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/net/{name}", self.pid())).unwrap_or_default()
    }

    /// How many TCP sockets it has open that are neither listening nor connected.
    pub(crate) fn ending_sockets(&self) -> usize {
        // Of a socket that is past all states, only the descriptor is left.
        let (tcp, unix) = (self.table("tcp") + &self.table("tcp6"), self.table("unix"));
        let in_use = |line: &&str| matches!(line.split_whitespace().nth(3), Some("01" | "0A"));
        let tcp = tcp.lines().filter(in_use).filter_map(|line| line.split_whitespace().nth(9));
        let unix = unix.lines().filter_map(|line| line.split_whitespace().nth(6));
        let in_use: BTreeSet<_> = tcp.chain(unix).collect();
        self.sockets().iter().filter(|inode| !in_use.contains(inode.as_str())).count()
    }

    /// How much of its memory is in RAM.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most that [`Router::resident_bytes`] was since [`Router::forget_peak`].
    pub(crate) fn peak_resident_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    pub(crate) fn forget_peak(&self) {
        // Source: Linux, Documentation/filesystems/proc.rst, clear_refs.
        fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").expect("it is running, and ours");
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it is running");
        let kibibytes = status.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB"));
        1024 * kibibytes.and_then(|number| number.parse::<u64>().ok()).expect("Linux tells the sizes of memory")
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log is there")
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        if std::thread::panicking() {
            let lines: Vec<_> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            eprintln!("--- the end of the log of {}:\n{tail}", self.name);
        } else {
            assert!(!log.contains("panicked at"), "{} panicked:\n{log}", self.name);
        }
    }
}

/// Starts the program; it ends with the test, even if that is killed.
fn spawn(site: &Site, configuration: &Path, log: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log).expect("a log can be written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_van-router"));
    command.args([van_router::Arguments::WHILE_STDIN, "--config"]).arg(configuration);
    command.env("HOSTNAME", HOST_NAME).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
    site.within(|| command.spawn()).expect("the router was built with this test")
}
