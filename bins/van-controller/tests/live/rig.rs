//! Namespaces in a temporary folder, their controllers as processes, and streams through them.

#[path = "../../../../van-adaptors/tests/dial/ports.rs"]
mod ports;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use van_site::document::{Document, Key};
use van_site::folder::Namespace;
use van_site::resource::{AccessGrant, Kind};
use van_site::yaml;

pub(crate) use self::ports::free_port;

/// How long anything may take that must come. Only a hang takes that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A folder for namespaces, as `XDG_DATA_HOME` names it.
pub(crate) struct Machine(TempDir);

impl Machine {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder can be made"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn namespace(&self, name: &str) -> Place {
        let folder = Namespace::below(&self.path().join("skupper"), name);
        fs::create_dir_all(folder.input_resources()).expect("it is ours");
        Place { data: self.path().to_owned(), folder }
    }
}

/// A namespace.
pub(crate) struct Place {
    data: PathBuf,
    pub(crate) folder: Namespace,
}

impl Place {
    /// Writes a file of documents as an editor without care does.
    pub(crate) fn put(&self, file: &str, text: &str) {
        fs::write(self.file(file), text).expect("it is ours");
    }

    pub(crate) fn remove(&self, file: &str) {
        fs::remove_file(self.file(file)).expect("it is there");
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.input_resources().join(name)
    }

    /// Starts its controller.
    pub(crate) fn start(&self) -> Controller {
        Controller::spawn(self.command(), self.folder.root())
    }

    pub(crate) fn command(&self) -> Command {
        self.command_that_drains("0")
    }

    /// With so many seconds for connections to end.
    pub(crate) fn command_that_drains(&self, seconds: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_van-controller"));
        command.args(["-n", self.folder.name(), "--drain", seconds]).env("XDG_DATA_HOME", &self.data);
        command.env("RUST_LOG", "info").env("RUST_BACKTRACE", "1").stdin(Stdio::null());
        command
    }

    /// A document as it is shown with its status.
    pub(crate) fn shown(&self, kind: Kind, name: &str) -> Option<Document> {
        let file = self.folder.runtime_resources().join(Key::new(kind, name).file_name());
        Document::read_all(&fs::read_to_string(file).ok()?).pop()?.ok()
    }

    /// `Ready: OK`, or what else the status of a document says.
    pub(crate) fn status(&self, kind: Kind, name: &str) -> String {
        let Some(document) = self.shown(kind, name) else { return "absent".to_owned() };
        let status = document.status().expect("it has one");
        format!("{}: {}", status.state.map_or_else(String::new, |state| state.to_string()), status.message)
    }

    /// Waits until the status of a document says something.
    #[track_caller]
    pub(crate) fn wait_for(&self, kind: Kind, name: &str, expected: &str) {
        let is_so = || self.status(kind, name) == expected;
        let told = || format!("{kind} {name} is {expected:?}, not {:?}", self.status(kind, name));
        wait_until(told, is_so);
    }

    /// What is told to be wrong with files, `file:line: message` with short names.
    pub(crate) fn problems(&self) -> Vec<String> {
        let Ok(text) = fs::read_to_string(self.folder.problems()) else { return Vec::new() };
        let problems: Vec<van_site::input::Complaint> =
            yaml::read(yaml::sections(&text).first().copied().expect("a list")).expect("it is read by commands");
        let told = problems.iter().map(|problem| {
            let name = problem.file.file_name().expect("a file").to_string_lossy();
            let line = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
            format!("{name}{line}: {}", self.shortened(&problem.message))
        });
        told.collect()
    }

    /// A text without the folders of this run.
    pub(crate) fn shortened(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.folder.input_resources().display()), "")
            .replace(&format!("{}/", self.folder.root().display()), "")
    }

    #[track_caller]
    pub(crate) fn wait_for_problems(&self, expected: &[&str]) {
        wait_until(|| format!("{expected:?}, not {:?}", self.problems()), || self.problems() == expected);
    }

    /// The token of a grant, as a document.
    #[track_caller]
    pub(crate) fn token(&self, grant: &str) -> String {
        self.wait_for(Kind::AccessGrant, grant, "Ready: OK");
        let Some(Document::AccessGrant(grant)) = self.shown(Kind::AccessGrant, grant) else { panic!("it was there") };
        format!("---\n{}", yaml::write(&van_site::token(&grant, 1)))
    }

    pub(crate) fn grant(&self, name: &str) -> AccessGrant {
        let Some(Document::AccessGrant(grant)) = self.shown(Kind::AccessGrant, name) else { panic!("no grant {name}") };
        grant
    }
}

/// A controller that runs; killed when dropped.
pub(crate) struct Controller {
    pub(crate) process: Child,
    output: PathBuf,
    log: PathBuf,
}

impl Controller {
    pub(crate) fn spawn(mut command: Command, folder: &Path) -> Self {
        let [output, log] = ["output", "log"].map(|name| folder.join(name));
        // Earlier lives are in it, too.
        let append = |path| File::options().create(true).append(true).open(path).expect("it is ours");
        let process =
            command.stdout(append(&output)).stderr(append(&log)).spawn().expect("it was built with this test");
        Self { process, output, log }
    }

    /// A place as this controller sees it.
    pub(crate) fn inside(&self, place: &Place) -> Place {
        let root = PathBuf::from(format!("/proc/{}/root", self.process.id()));
        let [data, folder] =
            [&place.data, place.folder.root()].map(|path| root.join(path.strip_prefix("/").expect("absolute")));
        Place { data, folder: Namespace::at(folder, place.folder.name()) }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("it is ours")
    }

    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.output).expect("it is ours")
    }

    /// Waits for a line of its log that has all of these.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, parts: &[&str]) {
        let has_all = |line: &str| parts.iter().all(|part| line.contains(part));
        wait_until(|| format!("{parts:?} in {}", self.log()), || self.log().lines().any(has_all));
    }

    /// Without any warning, as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.process.kill().expect("it is running");
        self.process.wait().expect("a child can be waited for");
    }

    /// Stops it in order.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        kill_process(Pid::from_child(&self.process), Signal::TERM).expect("it is running");
        assert!(self.wait().success(), "{}", self.log());
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(Instant::now() < end, "it still runs: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its failure; what it says.
    #[track_caller]
    pub(crate) fn failed(mut self) -> String {
        let status = self.wait();
        assert_eq!(status.code(), Some(1), "{}", self.log());
        self.log()
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), fs::read_to_string(&self.log).unwrap_or_default());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[track_caller]
pub(crate) fn wait_until(what: impl Fn() -> String, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "still not so: {}", what());
        // There is nothing to wait on in another process but time.
        thread::sleep(Duration::from_millis(5));
    }
}

// === documents ===

pub(crate) fn document(kind: &str, name: &str, spec: &str) -> String {
    format!("---\napiVersion: skupper.io/v2alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

/// A site that takes part in nothing but this machine.
pub(crate) fn site(name: &str) -> String {
    document("Site", name, "settings: {link-bind-host: 127.0.0.1, link-hosts: 127.0.0.1}")
}

/// One to which others link.
pub(crate) fn open_site(name: &str) -> String {
    site(name).replace("spec: {", "spec: {linkAccess: default, ")
}

pub(crate) fn listener(name: &str, key: &str, port: u16) -> String {
    document("Listener", name, &format!("routingKey: {key}, host: 127.0.0.1, port: {port}"))
}

pub(crate) fn connector(name: &str, key: &str, port: u16) -> String {
    document("Connector", name, &format!("routingKey: {key}, host: 127.0.0.1, port: {port}"))
}

pub(crate) fn grant(name: &str, allowed: u32) -> String {
    document("AccessGrant", name, &format!("redemptionsAllowed: {allowed}"))
}

// === streams ===

/// Answers with what it is sent, for as long as the tests run; its port.
pub(crate) fn echo() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are ports");
    let port = socket.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for stream in socket.incoming().flatten() {
            thread::spawn(move || {
                let (mut from, mut to) = (&stream, &stream);
                let _ = std::io::copy(&mut from, &mut to);
                let _ = stream.shutdown(Shutdown::Write);
            });
        }
    });
    port
}

/// Whether an echo answers behind a port.
pub(crate) fn answers(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"hello")?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    };
    ask().is_ok_and(|answer| answer == "hello")
}

#[track_caller]
pub(crate) fn wait_until_answered(port: u16) {
    wait_until(|| format!("port {port} answers"), || answers(port));
}

/// A stream to an echo that goes on while other things happen: every octet comes back, in order.
pub(crate) struct Conversation {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Conversation {
    #[track_caller]
    pub(crate) fn start(port: u16) -> Self {
        wait_until_answered(port);
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it answers");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let mut rounds = 0_u64;
            while !told.load(Ordering::Relaxed) {
                let said: Vec<u8> = (0..512_u64).flat_map(|n| (rounds * 512 + n).to_be_bytes()).collect();
                stream.write_all(&said).expect("the stream goes on");
                let mut heard = vec![0; said.len()];
                stream.read_exact(&mut heard).expect("the stream goes on");
                assert!(heard == said, "round {rounds} came back changed");
                rounds += 1;
                thread::sleep(Duration::from_millis(1));
            }
            stream.shutdown(Shutdown::Write).expect("the stream goes on");
            assert_eq!(stream.read(&mut [0]).expect("the stream ends in order"), 0);
            rounds
        });
        Self { is_over, thread }
    }

    /// Ends it in order.
    #[track_caller]
    pub(crate) fn finish(self) {
        self.is_over.store(true, Ordering::Relaxed);
        let rounds = self.thread.join().expect("nothing touched the stream");
        assert!(rounds > 0, "it went on");
    }
}

/// Two sites joined by files alone: `west`, which has a workload, and `east`, which has a listener for it.
pub(crate) struct Pair {
    pub(crate) west: Place,
    pub(crate) east: Place,
    pub(crate) west_controller: Controller,
    pub(crate) east_controller: Controller,
    // Last, so that it is removed last.
    pub(crate) machine: Machine,
    /// The port of the listener in the east.
    pub(crate) port: u16,
}

impl Pair {
    #[track_caller]
    pub(crate) fn start() -> Self {
        let machine = Machine::new();
        let (west, east) = (machine.namespace("west"), machine.namespace("east"));
        let port = free_port();
        west.put("west.yaml", &(open_site("west") + &grant("to-east", 1) + &connector("backend", "backend", echo())));
        east.put("east.yaml", &(site("east") + &listener("backend", "backend", port)));
        let (west_controller, east_controller) = (west.start(), east.start());
        east.put("token.yaml", &west.token("to-east"));
        east.wait_for(Kind::AccessToken, "to-east", "Ready: OK");
        east.wait_for(Kind::Link, "to-east", "Ready: OK");
        east.wait_for(Kind::Listener, "backend", "Ready: OK");
        west.wait_for(Kind::Connector, "backend", "Ready: OK");
        Self { west, east, west_controller, east_controller, machine, port }
    }
}
