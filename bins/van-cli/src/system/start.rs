//! `van system start`: a controller that outlives this command.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, bail, ensure};
use van_site::document::Document;
use van_site::duration;
use van_site::folder::Namespace;
use van_site::resource::Site;

use crate::documents::View;
use crate::output::say;
use crate::sign_of_life::receive;
use crate::system::end_of_controller;

/// How much of a log is shown when something went wrong.
const LAST_LINES: usize = 10;

/// How long a controller that was killed may hold its lock: the operating system takes its memory and sockets back first.
const DEATH: Duration = Duration::from_millis(500);

/// Starts the site of a namespace and waits for what it says first.
pub(super) fn run(namespace: &Namespace, timeout: Duration) -> anyhow::Result<()> {
    let name = namespace.name();
    ensure!(
        !namespace.is_of_skupper(),
        "namespace {name:?} is one of Skupper's, whose files a site of ours would replace: name another with -n, or set \
         XDG_DATA_HOME"
    );
    let site = check_input(namespace)?;
    if let Some(controller) = namespace.controller()?
        && receive(&end_of_controller(namespace)?, Instant::now() + DEATH).is_err()
    {
        let process = controller.process.map(|process| format!(" (process {process})")).unwrap_or_default();
        bail!("namespace already exists: {name}; its site is running{process}");
    }
    say(format_args!("Sources will be consumed from namespace {name:?}"))?;

    let log = Log::open(namespace)?;
    let mut controller = spawn(namespace, &log)?;
    let output = controller.stdout.take().context("the controller has no output")?;
    let first = first_line(output, timeout);
    let ready = format!("Site {:?} is ready.", site.metadata.name);
    match first {
        Some(line) if line == ready => {}
        Some(line) if line.is_empty() => bail!("the site has ended ({}){}", controller.wait()?, log.ending()),
        Some(line) => bail!("{line}{}", log.ending()),
        None => bail!(
            "the site is not ready after {}; it goes on trying (process {}){}",
            duration::format(timeout),
            controller.id(),
            log.ending()
        ),
    }

    say(format_args!("Site {:?} has been created on namespace {name:?}", site.metadata.name))?;
    say("Platform: linux")?;
    let links = namespace.runtime_links();
    if links.read_dir().is_ok_and(|mut files| files.next().is_some()) {
        say(format_args!("Static links have been defined at: {}", links.display()))?;
    }
    say(format_args!("Definition is available at: {}", namespace.input_resources().display()))
}

/// Looks for a site, and says what is wrong with the documents.
pub(super) fn check_input(namespace: &Namespace) -> anyhow::Result<Site> {
    let view = View::of(namespace)?;
    view.complain();
    if let Some(site) = view.input().sound::<Site>().next() {
        return Ok(site.clone());
    }
    let unsound = view.input().entries().find(|entry| matches!(entry.document, Document::Site(_)));
    if let Some(fault) = unsound.and_then(|entry| entry.fault.as_ref()) {
        bail!("the site cannot be started: {fault}");
    }
    let path = namespace.input_resources();
    bail!("No sources found at: {}; make a site with \"van -n {} site create NAME\"", path.display(), namespace.name())
}

/// Starts the controller, in the background and for itself: this terminal is nothing to it.
fn spawn(namespace: &Namespace, log: &Log) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("this program's file is unknown")?;
    let mut command = Command::new(&program);
    command.args(["-n", namespace.name(), "controller"]).process_group(0);
    // What was said with -p counts for it too.
    command.env("SKUPPER_PLATFORM", "linux");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log.file.try_clone()?);
    command.spawn().with_context(|| format!("{} cannot be started", program.display()))
}

/// The one line that a controller says when it knows how its site fares; empty if it ends without.
fn first_line(output: ChildStdout, timeout: Duration) -> Option<String> {
    let (sender, lines) = channel();
    // Reading cannot be given up; the thread ends with this process.
    thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(output).read_line(&mut line);
        sender.send(line.trim_end().to_owned())
    });
    receive(&lines, Instant::now() + timeout).ok()
}

/// The log of a controller.
struct Log {
    path: PathBuf,
    file: File,
    /// Where it ended before this start.
    start: u64,
}

impl Log {
    fn open(namespace: &Namespace) -> anyhow::Result<Self> {
        let path = namespace.internal().join("controller.log");
        let opening = |path: &Path| format!("{} cannot be written: check its owner and permissions", path.display());
        fs::create_dir_all(namespace.internal()).with_context(|| opening(&namespace.internal()))?;
        let file =
            OpenOptions::new().create(true).append(true).mode(0o600).open(&path).with_context(|| opening(&path))?;
        let start = file.metadata()?.len();
        Ok(Self { path, file, start })
    }

    /// Its last lines since this start, for a message to end with.
    fn ending(&self) -> String {
        let mut text = String::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.start))?;
            file.read_to_string(&mut text)
        });
        let lines: Vec<_> = text.lines().collect();
        let path = self.path.display();
        match read {
            Ok(0) | Err(_) => format!("; its log is {path}"),
            Ok(_) => {
                format!("; its log {path} ends with:\n{}", lines[lines.len().saturating_sub(LAST_LINES)..].join("\n"))
            }
        }
    }
}
