//! The demo's sites: a namespace each below a temporary folder, and a process each.

use std::fs::{self, File};
use std::future::Future;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;
use van_controller::Arguments;
use van_site::derive::{LINK_BIND_HOST, LINK_HOSTS};
use van_site::folder::{self, Namespace};
use van_site::resource::Site;
use van_site::resource::site::SiteSpec;

use super::PATIENCE;

/// How long after what a process's end brings about that end is known.
const EXIT_NEWS: Duration = Duration::from_millis(200);

pub(super) struct Sites {
    folder: TempDir,
    running: Vec<Process>,
}

struct Process {
    name: &'static str,
    child: Child,
    /// Its standard input: should the demo itself be killed, this ends, and the site stops.
    _leash: Option<ChildStdin>,
}

/// Runs commands as somebody would type them. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Van {
    program: PathBuf,
    data_home: PathBuf,
}

impl Sites {
    pub(super) fn prepare() -> anyhow::Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("van-demo-").tempdir().context("cannot make a temporary folder")?;
        Ok(Self { folder, running: Vec::new() })
    }

    pub(super) fn van(&self) -> anyhow::Result<Van> {
        let program = std::env::current_exe().context("this program's file is unknown")?;
        Ok(Van { program, data_home: self.folder().to_owned() })
    }

    /// Where all namespaces are.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts sites, each as a process of its own, and waits until they are ready.
    pub(super) async fn start(&mut self, names: &[&'static str]) -> anyhow::Result<()> {
        let van = self.van()?;
        let mut outputs = Vec::new();
        for name in names {
            let mut command = van.command(&["-n", name, "controller", "--drain", "0", Arguments::WHILE_STDIN]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(self.log_path(name))?);
            let mut child = command.spawn().with_context(|| format!("cannot start the site {name}"))?;
            outputs.extend(child.stdout.take().map(|output| (name, BufReader::new(output).lines())));
            // Waiting for a child would close its input if it were still there.
            let _leash = child.stdin.take();
            self.running.push(Process { name, child, _leash });
        }
        for (name, mut lines) in outputs {
            let said = timeout(PATIENCE, lines.next_line()).await.with_context(|| format!("the site {name} is silent"));
            let said = said??.unwrap_or_default();
            ensure!(said.ends_with(" is ready."), "the site {name} does not start: {said}\n{}", self.log(name));
        }
        Ok(())
    }

    /// Kills a site, and returns when it is dead.
    pub(super) async fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let position = self.running.iter().position(|process| process.name == name).context("it is not running")?;
        Ok(self.running.remove(position).child.kill().await?)
    }

    /// Kills them all and removes the folder; nobody writes to it any more then.
    pub(super) async fn end(mut self) {
        for process in &mut self.running {
            let _ = process.child.kill().await;
        }
    }

    /// Who runs as which process.
    pub(super) fn pids(&self) -> String {
        let pid = |Process { name, child, .. }: &Process| format!("{name} (pid {})", child.id().unwrap_or_default());
        self.running.iter().map(pid).collect::<Vec<_>>().join(", ")
    }

    /// Does something as long as all sites run.
    pub(super) async fn watch<T>(&mut self, what: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let (name, how) = tokio::select! {
            biased;
            exited = self.exited() => exited,
            done = what => {
                let Err(error) = done else { return done };
                // If a site that ended is the reason, that comes to be known a little later.
                timeout(EXIT_NEWS, self.exited()).await.map_err(|_| error)?
            }
        };
        bail!("the site {name} has ended ({how}); its log:\n{}", self.log(name))
    }

    /// Waits for a site to end, which none should. Dropping this waits no longer.
    async fn exited(&mut self) -> (&'static str, ExitStatus) {
        let mut waiting: Vec<_> =
            self.running.iter_mut().map(|process| (process.name, Box::pin(process.child.wait()))).collect();
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

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).unwrap_or_else(|error| error.to_string())
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.log"))
    }
}

impl Van {
    /// Runs a command, which must succeed in time: what it said. Dropping the future ends it.
    pub(super) async fn run(&self, line: &str) -> anyhow::Result<String> {
        let arguments: Vec<_> = line.split(' ').collect();
        let output = self.command(&arguments).stdin(Stdio::null()).current_dir(&self.data_home).output();
        let output =
            timeout(PATIENCE, output).await.with_context(|| format!("\"van {line}\" has not come to an end"))?;
        let output = output.with_context(|| format!("cannot run \"van {line}\""))?;
        ensure!(
            output.status.success(),
            "\"van {line}\" failed: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A site is a file, which may come from anywhere: this one takes links on this machine's own address only.
    pub(super) fn write_hub(&self, name: &str) -> anyhow::Result<()> {
        let mut spec = SiteSpec { link_access: Some("default".into()), ..SiteSpec::default() };
        spec.settings.extend([LINK_BIND_HOST, LINK_HOSTS].map(|setting| (setting.into(), "127.0.0.1".into())));
        let home = |variable: &str| (variable == "XDG_DATA_HOME").then(|| self.data_home.clone().into());
        let base = folder::base(home, false).context("XDG_DATA_HOME is set")?;
        Namespace::below(&base, name).put_input(&Site::new(name, spec).into())?;
        Ok(())
    }

    /// The lines that make a shell find the sites and this program.
    pub(super) fn exports(&self) -> Vec<String> {
        let mut exports = vec![format!("export XDG_DATA_HOME={}", quoted(&self.data_home))];
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|folder| folder.join("van")).find(|program| program.is_file());
        let is_this = found.and_then(|program| program.canonicalize().ok()).is_some_and(|found| found == self.program);
        if let (false, Some(folder)) = (is_this, self.program.parent()) {
            exports.push(format!("export PATH={}:\"$PATH\"", quoted(folder)));
        }
        exports
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env("XDG_DATA_HOME", &self.data_home).env_remove("SKUPPER_PLATFORM");
        // A terminal's Ctrl-C is for the demo; it ends them itself.
        command.process_group(0).kill_on_drop(true);
        command
    }
}

/// A path as a word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// A port that nobody listens on now, below those that the system gives to whoever connects meanwhile (from 32768, ip(7)).
pub(super) fn free_port() -> anyhow::Result<u16> {
    // Demos that start at the same time look in different places.
    let first = 10_000 + (std::process::id() % 2000) as u16 * 10;
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (first..32_768).find(is_free).with_context(|| format!("no port from {first} to 32767 is free"))
}
