//! A controller as a process, with a namespace of its own.

#![allow(dead_code, reason = "each test program uses a part")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use van_site::document::{Document, Key};
use van_site::folder::Namespace;
use van_site::resource::Site;
use van_site::resource::site::SiteSpec;
use van_site::store::{Identity, KeptGrant};

/// Only a hang takes that long, also in a debug build on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace, and the process that runs its site.
pub(crate) struct Controller {
    pub(crate) namespace: Namespace,
    base: TempDir,
    command: Vec<String>,
    process: Option<Child>,
}

impl Controller {
    /// `command` comes before the controller's own: `faketime -f +1h`, say.
    pub(crate) fn new(name: &str, spec: SiteSpec, command: &[&str]) -> Self {
        let base = tempfile::tempdir().expect("a folder");
        let namespace = Namespace::below(&base.path().join("skupper"), name);
        namespace.put_input(&Site::new(name, spec).into()).expect("a document");
        let command = command.iter().map(ToString::to_string).collect();
        let mut controller = Self { namespace, base, command, process: None };
        controller.start();
        controller
    }

    /// Starts it, and waits until its site is ready.
    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.base.path().join("log")).expect("a log");
        let all: Vec<_> =
            self.command.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_van-controller")]).collect();
        let mut process = Command::new(all[0])
            .args(&all[1..])
            .args(["-n", self.namespace.name()])
            .env("XDG_DATA_HOME", self.base.path())
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the controller starts");
        let mut line = String::new();
        let said = BufReader::new(process.stdout.take().expect("it is piped")).read_line(&mut line);
        assert!(said.is_ok() && line.ends_with("is ready.\n"), "{line:?}: {}", self.log());
        self.process = Some(process);
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("it runs");
        // With what it was started by.
        kill_process_group(Pid::from_child(&process), Signal::KILL).expect("it is killed");
        process.wait().expect("it is gone");
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.base.path().join("log")).unwrap_or_default()
    }

    /// What a site keeps of itself over restarts. Its port for programs of this machine is none of it: nobody elsewhere knows
    /// it, and it moves if another site takes it meanwhile.
    pub(crate) fn identity(&self) -> Identity {
        let text = fs::read(self.namespace.internal().join("site.json")).expect("an identity");
        let mut identity: Identity = serde_json::from_slice(&text).expect("an identity");
        identity.ports.remove("local");
        identity
    }

    /// How often a grant was redeemed, as far as a restart would know.
    pub(crate) fn uses(&self, name: &str) -> u32 {
        let files = files(&self.namespace.internal().join("grants"));
        let kept = files
            .iter()
            .map(|file| serde_json::from_slice::<KeptGrant>(&fs::read(file).expect("a file")).expect("a grant"));
        kept.map(|kept| kept.grant).find(|grant| grant.name == name).expect("it is kept").redemptions
    }

    /// Waits until a document is shown with a status that says so.
    pub(crate) fn wait<T>(&self, key: &Key, mut look: impl FnMut(&Document) -> Option<T>) -> T {
        let file = self.namespace.runtime_resources().join(key.file_name());
        let end = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(&file).unwrap_or_default();
            if let Some(Ok(document)) = Document::read_all(&text).pop()
                && let Some(seen) = look(&document)
            {
                return seen;
            }
            assert!(Instant::now() < end, "{key}: {text}\n{}", self.log());
            // There is nothing to wait on in another process but time.
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Every file that has its name is whole.
    #[track_caller]
    pub(crate) fn check_files(&self) {
        for file in files(self.namespace.root()) {
            let text = fs::read_to_string(&file).expect("a text");
            let extension = file.extension().and_then(|extension| extension.to_str());
            match extension {
                Some("yaml") if !file.ends_with("problems.yaml") => {
                    let documents = Document::read_all(&text);
                    assert!(!documents.is_empty() && documents.iter().all(Result::is_ok), "{}: {text}", file.display());
                }
                Some("json") => drop(serde_json::from_str::<serde_json::Value>(&text).expect("JSON")),
                Some("crt" | "key") => assert!(text.trim_end().ends_with("-----"), "{}: {text}", file.display()),
                _ => {}
            }
        }
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

/// The files below a folder, sockets left out. Drafts that a crash left behind begin with a dot.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&path)),
            Ok(kind) if kind.is_file() && !entry.file_name().to_string_lossy().starts_with('.') => found.push(path),
            _ => {}
        }
    }
    found
}

/// A site that others can link to by this address only.
pub(crate) fn accessible(host: &str) -> SiteSpec {
    let mut spec = SiteSpec { link_access: Some("default".into()), ..SiteSpec::default() };
    spec.settings.insert("link-bind-host".into(), host.into());
    spec
}
