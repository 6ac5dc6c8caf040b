//! Programs of others: found on this machine, started, run to their end.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;
use super::site::Site;

/// Where Debian puts programs that are not on everybody's path.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/usr/local/sbin"];

/// Where Debian puts each version of PostgreSQL.
const POSTGRESQL: &str = "/usr/lib/postgresql";

/// How long a server may take to end when it is asked to.
const END: Duration = Duration::from_secs(5);

/// Hands on what a test needs, or says why the test is skipped; with `VAN_REQUIRE_FOREIGN=1` that is a failure.
#[track_caller]
pub(crate) fn given<T>(found: Result<T, String>) -> Option<T> {
    let is_required = std::env::var("VAN_REQUIRE_FOREIGN").is_ok_and(|value| value == "1");
    match found {
        Ok(found) => Some(found),
        Err(reason) if is_required => panic!("{reason}, and VAN_REQUIRE_FOREIGN=1 wants this test"),
        Err(reason) => {
            println!("skipped: {reason}");
            None
        }
    }
}

/// Where a program is.
pub(crate) fn find(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from)).collect();
    let mut versions: Vec<_> = fs::read_dir(POSTGRESQL).into_iter().flatten().flatten().collect();
    versions.sort_by_key(|version| std::cmp::Reverse(version.file_name()));
    folders.extend(versions.iter().map(|version| version.path().join("bin")));
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|program| program.is_file());
    found.ok_or_else(|| format!("the program {name} is not installed"))
}

/// Where programs are; or the first that is missing.
pub(crate) fn find_all<const N: usize>(names: [&str; N]) -> Result<[PathBuf; N], String> {
    let found: Vec<_> = names.into_iter().map(find).collect::<Result<_, _>>()?;
    Ok(found.try_into().expect("as many as were looked for"))
}

/// A Python with python-qpid-proton: `VAN_PYTHON`, if `python3` has not.
pub(crate) fn python_with_proton() -> Result<PathBuf, String> {
    let python = std::env::var("VAN_PYTHON").unwrap_or_else(|_| "python3".into());
    let is_there = Command::new(&python).args(["-c", "import proton"]).output().is_ok_and(|it| it.status.success());
    let missing = || format!("{python} has no python-qpid-proton; VAN_PYTHON names one that has");
    is_there.then(|| python.clone().into()).ok_or_else(missing)
}

/// Where a program of `clients/` is.
pub(crate) fn client_script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// Node.js, if it has these modules.
pub(crate) fn node_with(modules: &[&str]) -> Result<PathBuf, String> {
    let node = find("node")?;
    let require: String = modules.iter().map(|module| format!("require('{module}');")).collect();
    let is_there = Command::new(&node).args(["-e", &require]).output().is_ok_and(|output| output.status.success());
    let missing = || format!("node does not find {}; install them with npm and set NODE_PATH", modules.join(" and "));
    is_there.then_some(node).ok_or_else(missing)
}

/// The user and group ids of a user of the system.
pub(crate) fn user(name: &str) -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = users.lines().map(|line| line.split(':')).find(|fields| fields.clone().next() == Some(name))?;
    Some((fields.nth(2)?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// A server of others; asked to end when dropped, then killed.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    process: Child,
    log: PathBuf,
}

impl Server {
    /// Starts a server that will listen at an address of the site, and waits until it does. What it says goes to a file
    /// in the folder.
    pub(crate) fn start(site: &Site, address: SocketAddr, folder: &Path, command: &mut Command) -> Self {
        let log = folder.join(format!("server-{}.log", address.port()));
        let output = File::create(&log).expect("a log can be written");
        command.stdout(output.try_clone().expect("descriptors are left")).stderr(output).stdin(Stdio::null());
        let process = site.within(|| command.spawn()).unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let server = Self { address, process, log };
        super::wait_until(&format!("{:?} listens", command.get_program()), || site.has_listener(address.port()));
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // PostgreSQL, nginx, redis-server and iperf3 all take an interrupt for "now, but in order".
        let _ = kill_process(Pid::from_child(&self.process), Signal::INT);
        let end = Instant::now() + END;
        while Instant::now() < end && matches!(self.process.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(5));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            eprintln!("--- {}:\n{}", self.log.display(), fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// Runs a program to its successful end, and returns what it said on both outputs.
///
/// # Panics
/// When it ends otherwise, or not within [`PATIENCE`] after the time it takes by itself.
#[track_caller]
pub(crate) fn run(site: &Site, takes: Duration, command: &mut Command) -> String {
    let output = finish(site, takes, command);
    let text = [output.stdout, output.stderr].map(|output| String::from_utf8_lossy(&output).into_owned()).concat();
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

/// Runs a program to its end.
#[track_caller]
pub(crate) fn finish(site: &Site, takes: Duration, command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let process = site.within(|| command.spawn()).unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let pid = Pid::from_child(&process);
    let (done, end) = mpsc::channel();
    thread::spawn(move || done.send(process.wait_with_output()));
    match end.recv_timeout(takes + PATIENCE) {
        Ok(output) => output.expect("a child can be waited for"),
        Err(_) => {
            let _ = kill_process(pid, Signal::KILL);
            panic!("{command:?} did not end within {:?}", takes + PATIENCE);
        }
    }
}
