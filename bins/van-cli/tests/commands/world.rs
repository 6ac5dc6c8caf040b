//! A user's machine: folders of its own, and `van`.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use van_site::document::Document;
use van_site::folder::Namespace;

/// How long anything may take that must come. Only a hang takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A user's folders.
pub(crate) struct World {
    folder: TempDir,
}

/// What a command said. Paths start with `BASE` where the namespaces are, and with `HERE` below the user's folder.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) complaint: String,
}

/// A command that goes on.
pub(crate) struct Running<'a> {
    world: &'a World,
    process: Child,
    output: BufReader<ChildStdout>,
    said: String,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder can be made") }
    }

    /// A path below the user's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A namespace of the user.
    pub(crate) fn namespace(&self, name: &str) -> Namespace {
        Namespace::below(&self.path("data/skupper"), name)
    }

    /// Drops a file into a namespace, as users do without any command.
    pub(crate) fn drop_file(&self, namespace: &str, name: &str, text: &str) {
        let folder = self.namespace(namespace).input_resources();
        fs::create_dir_all(&folder).expect("a folder can be made");
        fs::write(folder.join(name), text).expect("a file can be written");
    }

    /// Writes a document with its status, as a controller does.
    pub(crate) fn report(&self, namespace: &str, document: impl Into<Document>) {
        self.namespace(namespace).write_runtime(&document.into()).expect("it can be written");
    }

    /// `van` by one of its names, at work in the user's folder.
    pub(crate) fn command_as(&self, name: &str, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_van"));
        command.arg0(name).args(line.split_whitespace()).current_dir(self.folder.path());
        command.env_clear().env("XDG_DATA_HOME", self.path("data")).env("XDG_RUNTIME_DIR", self.path("run"));
        command.env("RUST_BACKTRACE", "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        self.command_as("van", line)
    }

    /// Runs a command to its end.
    pub(crate) fn van(&self, line: &str) -> Said {
        self.said(&self.command(line).output().expect("the program was built with this test"))
    }

    /// Runs a command that must succeed with this output and without complaints.
    #[track_caller]
    pub(crate) fn succeeds(&self, line: &str, output: &str) {
        let said = Said { code: Some(0), output: output.to_owned(), complaint: String::new() };
        assert_eq!(self.van(line), said, "van {line}");
    }

    /// Runs a command that must fail with this complaint and say nothing else.
    #[track_caller]
    pub(crate) fn fails(&self, line: &str, code: i32, complaint: &str) {
        let said = Said { code: Some(code), output: String::new(), complaint: complaint.to_owned() };
        assert_eq!(self.van(line), said, "van {line}");
    }

    /// Runs a command that shows something and complains of something.
    #[track_caller]
    pub(crate) fn shows(&self, line: &str, output: &str, complaint: &str) {
        let said = Said { code: Some(0), output: output.to_owned(), complaint: complaint.to_owned() };
        assert_eq!(self.van(line), said, "van {line}");
    }

    /// Starts a command that waits for something.
    pub(crate) fn start(&self, line: &str) -> Running<'_> {
        let mut process = self.command(line).spawn().expect("the program was built with this test");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        Running { world: self, process, output, said: String::new() }
    }

    pub(crate) fn said(&self, output: &Output) -> Said {
        let text = |octets: &[u8]| {
            let text = String::from_utf8_lossy(octets).into_owned();
            let namespaces = self.path("data/skupper/namespaces").display().to_string();
            text.replace(&namespaces, "BASE").replace(&self.folder.path().display().to_string(), "HERE")
        };
        Said { code: output.status.code(), output: text(&output.stdout), complaint: text(&output.stderr) }
    }
}

impl Running<'_> {
    /// Reads on until the command says a line.
    #[track_caller]
    pub(crate) fn wait_until_said(&mut self, line: &str) {
        while self.said.lines().last() != Some(line) {
            let length = self.output.read_line(&mut self.said).expect("it says text");
            assert!(length > 0, "it ended before it said {line:?}: {}", self.said);
        }
    }

    /// Waits for its end; the output is that since the last line that was waited for.
    pub(crate) fn end(mut self) -> Said {
        let mut rest = Vec::new();
        self.output.read_to_end(&mut rest).expect("it says text");
        let mut output = self.process.wait_with_output().expect("a child can be waited for");
        output.stdout = rest;
        self.world.said(&output)
    }
}

/// Waits until something is there that another process makes.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, find: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < end, "still not there after {PATIENCE:?}: {what}");
        // There is nothing to wait on in another process but time.
        sleep(Duration::from_millis(5));
    }
}
