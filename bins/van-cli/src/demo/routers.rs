//! The demo's routers: their certificates and configurations in a temporary folder, and their processes.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, ChildStdin, Command};
use van_router::Arguments;
use van_tls::{Authority, AuthorityRequest, KeyKind, LeafRequest, Usage, directory};

/// The routing key of the demo's service.
const ROUTING_KEY: &str = "backend";

const ROUTERS: [&str; 3] = ["hub", "east", "west"];

/// Certificates need not outlive the demo by much.
const LIFE: Duration = Duration::from_secs(24 * 3600);

pub(super) struct Routers {
    folder: TempDir,
    link_port: u16,
    service_port: u16,
    status_port: u16,
    /// Killed when dropped.
    running: Vec<(&'static str, Child)>,
    /// Their standard inputs: should the demo itself be killed, these end, and the routers stop.
    leashes: Vec<ChildStdin>,
}

impl Routers {
    /// Makes the folder, and certificates in it.
    pub(super) fn prepare() -> anyhow::Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("van-demo-").tempdir().context("cannot make a temporary folder")?;
        make_certificates(folder.path())?;
        let [link_port, service_port, status_port] = free_ports()?;
        Ok(Self { folder, link_port, service_port, status_port, running: Vec::new(), leashes: Vec::new() })
    }

    /// Starts the hub, and the sites with their backends' ports.
    pub(super) fn start(&mut self, sites: &[(&'static str, u16)]) -> anyhow::Result<()> {
        let hub = json!([
            ["router", {"id": "hub", "mode": "interior"}],
            self.tls_profile("hub"),
            ["listener", {"name": "links", "role": "inter-router", "host": "localhost", "port": self.link_port,
                          "sslProfile": "links", "saslMechanisms": "EXTERNAL", "authenticatePeer": true}],
            ["listener", {"name": "status", "host": "127.0.0.1", "port": self.status_port, "http": true}],
            ["tcpListener", {"name": ROUTING_KEY, "host": "127.0.0.1", "port": self.service_port, "address": ROUTING_KEY}],
        ]);
        self.start_router("hub", &hub)?;
        for (site, port) in sites {
            let configuration = json!([
                ["router", {"id": site, "mode": "interior"}],
                self.tls_profile(site),
                ["connector", {"name": "hub", "role": "inter-router", "host": "localhost", "port": self.link_port, "sslProfile": "links"}],
                ["tcpConnector", {"name": ROUTING_KEY, "host": "127.0.0.1", "port": port, "address": ROUTING_KEY}],
            ]);
            self.start_router(site, &configuration)?;
        }
        Ok(())
    }

    fn tls_profile(&self, router: &str) -> Value {
        let file = |name| self.folder.path().join(router).join(name);
        let (ca, certificate, key) =
            (file(directory::CA_FILE), file(directory::CERTIFICATE_FILE), file(directory::KEY_FILE));
        json!(["sslProfile", {"name": "links", "caCertFile": ca, "certFile": certificate, "privateKeyFile": key}])
    }

    fn start_router(&mut self, name: &'static str, configuration: &Value) -> anyhow::Result<()> {
        let path = self.folder.path().join(format!("{name}.json"));
        fs::write(&path, serde_json::to_string_pretty(configuration)?)?;
        let log = File::create(self.log_path(name))?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["router", "--drain", "0", Arguments::WHILE_STDIN, "--config"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // A terminal's Ctrl-C is for the demo; it stops them itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start the router {name}"))?;
        // Waiting for a child would close its input if it were still there.
        self.leashes.extend(child.stdin.take());
        self.running.push((name, child));
        Ok(())
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the service is.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.service_port)
    }

    /// Where the hub says how it is.
    pub(super) fn hub_status_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.status_port)
    }

    /// Who runs as which process.
    pub(super) fn pids(&self) -> String {
        let pid = |(name, child): &(&str, Child)| format!("{name} (pid {})", child.id().unwrap_or_default());
        self.running.iter().map(pid).collect::<Vec<_>>().join(", ")
    }

    /// Waits for a router to end, which none should. Dropping this waits no longer.
    pub(super) async fn exited(&mut self) -> (&'static str, ExitStatus) {
        let mut waiting =
            self.running.iter_mut().map(|(name, child)| (*name, Box::pin(child.wait()))).collect::<Vec<_>>();
        std::future::poll_fn(|context| {
            for (name, exit) in &mut waiting {
                if let std::task::Poll::Ready(Ok(status)) = exit.as_mut().poll(context) {
                    return std::task::Poll::Ready((*name, status));
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// What a router has logged.
    pub(super) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).unwrap_or_else(|error| error.to_string())
    }

    fn log_path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }
}

/// One authority, and a certificate for each router that names it and this machine.
fn make_certificates(folder: &Path) -> anyhow::Result<()> {
    let now = SystemTime::now();
    let request = AuthorityRequest { common_name: "van demo".into(), key: KeyKind::EcdsaP256, now, valid_for: LIFE };
    let authority = Authority::create(&request)?;
    for router in ROUTERS {
        let hosts = [router, "localhost", "127.0.0.1"].map(str::to_owned).to_vec();
        let leaf = LeafRequest {
            common_name: router.into(),
            hosts,
            usage: Usage::Both,
            key: KeyKind::EcdsaP256,
            now,
            valid_for: LIFE,
        };
        directory::write(&folder.join(router), &authority.issue(&leaf)?)?;
    }
    Ok(())
}

/// Ports that nobody listens on now, below those that the system gives to whoever connects meanwhile (from 32768, ip(7)).
fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    // Demos that start at the same time look in different places.
    let first = 10_000 + (std::process::id() % 200) as u16 * 10;
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let ports: Vec<_> = (first..32_768).filter(is_free).take(N).collect();
    ports.try_into().ok().context("no port from 10000 to 32767 is free")
}
