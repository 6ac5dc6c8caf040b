//! `van demo` as a user meets it: it succeeds only if all held, and however it ends it leaves nothing behind.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

/// How long anything may take that must come. Only a hang takes that long.
const PATIENCE: Duration = Duration::from_secs(60);

// What the demo says when it has come so far.
const STARTED: &str = "three sites started";
const LINKED: &str = "are linked to it by mutual TLS";
const ANSWERED: &str = "answered by east";
const READY: &str = "It keeps running until Ctrl-C";

/// A running demo, with a temporary folder of its own.
struct Demo {
    process: Child,
    output: Option<Lines<BufReader<ChildStdout>>>,
    said: Vec<String>,
    temporary: TempDir,
}

/// How a demo ended.
struct Ended {
    status: ExitStatus,
    /// What it said on its standard error.
    complaint: String,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let temporary = tempfile::tempdir().expect("a folder can be made");
        let mut process = command(arguments, temporary.path()).spawn().expect("the program was built with this test");
        let output = process.stdout.take().map(|output| BufReader::new(output).lines());
        Self { process, output, said: Vec::new(), temporary }
    }

    /// Reads on until the demo says something.
    #[track_caller]
    fn wait_until_said(&mut self, what: &str) {
        while !self.said.last().is_some_and(|line| line.contains(what)) {
            match self.output.as_mut().expect("it is read").next() {
                Some(line) => self.said.push(line.expect("it says text")),
                None => {
                    let ended = self.wait_until_ended();
                    panic!("it ended before it said {what:?}: {:#?}\n{}", self.said, ended.complaint)
                }
            }
        }
    }

    /// The processes of its sites, in the order hub, east, west.
    #[track_caller]
    fn sites(&self) -> [Pid; 3] {
        let line = self.said.iter().find(|line| line.contains(STARTED)).expect("it said so before");
        let pids: Vec<_> =
            line.split("(pid ").skip(1).filter_map(|rest| rest.split(')').next()?.parse().ok()).collect();
        <[i32; 3]>::try_from(pids).expect("three").map(|pid| Pid::from_raw(pid).expect("not 0"))
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }

    /// Waits for its end, after which nothing of it may be there.
    #[track_caller]
    fn wait_until_ended(&mut self) -> Ended {
        let mut rest = self.output.take();
        self.said.extend(rest.iter_mut().flatten().map_while(Result::ok));
        let mut complaint = String::new();
        let mut errors = self.process.stderr.take().expect("it is piped");
        errors.read_to_string(&mut complaint).expect("it says text");
        let status = self.process.wait().expect("a child can be waited for");
        let ended = Ended { status, complaint };
        if self.said.iter().any(|line| line.contains(STARTED)) {
            wait_until("its sites are gone", || self.sites().into_iter().all(is_gone));
        }
        ended
    }

    #[track_caller]
    fn assert_nothing_is_left(&self) {
        let left: Vec<_> = fs::read_dir(self.temporary.path()).expect("it is ours").flatten().collect();
        assert!(left.is_empty(), "{left:?} is left");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// In a process group of its own, as a shell runs it.
fn command(arguments: &[&str], temporary: &Path) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(env!("CARGO_BIN_EXE_van"));
    command.arg("demo").args(arguments).env("TMPDIR", temporary).env("RUST_BACKTRACE", "1").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn is_gone(pid: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    // One that ended and was not waited for belongs to whoever takes in orphans.
    status.map_or(true, |status| status.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "still not so after {PATIENCE:?}: {what}");
        // There is nothing to wait on in another process but time.
        sleep(Duration::from_millis(5));
    }
}

/// One message for people, and exit code 1.
#[track_caller]
fn assert_failed_with_a_message(ended: &Ended) {
    let Ended { status, complaint } = ended;
    assert_eq!(status.code(), Some(1), "{status}: {complaint}");
    assert!(complaint.starts_with("van: ") && !complaint.contains("panicked"), "{complaint}");
}

// === it ends by itself ===

#[test]
fn a_demo_in_which_all_held_succeeds_and_leaves_nothing() {
    let mut demo = Demo::start(&["--once"]);
    let ended = demo.wait_until_ended();
    assert!(ended.status.success(), "{}: {}", ended.status, ended.complaint);
    assert_eq!(ended.complaint, "", "nothing to complain about");
    for step in [STARTED, LINKED, ANSWERED, "east's backend stopped", "none lost", "without another token"] {
        assert!(demo.said.iter().any(|line| line.contains(step)), "{step:?} missing in {:#?}", demo.said);
    }
    demo.assert_nothing_is_left();
}

/// Kills sites when the demo has come so far: it fails, and names one of them.
#[track_caller]
fn check_killed(when: &str, victims: impl Fn([Pid; 3]) -> Vec<Pid>, names: &[&str]) {
    let mut demo = Demo::start(&["--once"]);
    demo.wait_until_said(STARTED);
    demo.wait_until_said(when);
    // It must not get on before they are dead.
    kill_process(demo.pid(), Signal::STOP).expect("it is running");
    for victim in victims(demo.sites()) {
        kill_process(victim, Signal::KILL).expect("it is running");
    }
    kill_process(demo.pid(), Signal::CONT).expect("it is there");
    let ended = demo.wait_until_ended();
    assert_failed_with_a_message(&ended);
    assert!(names.iter().any(|name| ended.complaint.contains(name)), "{names:?} missing in {}", ended.complaint);
    demo.assert_nothing_is_left();
}

#[test]
fn a_demo_fails_when_east_and_west_are_killed_in_mid_run() {
    for when in [STARTED, LINKED, ANSWERED] {
        check_killed(when, |[_, east, west]| vec![east, west], &["site east", "site west"]);
    }
}

#[test]
fn a_demo_fails_when_any_one_site_is_killed_in_mid_run() {
    check_killed(STARTED, |[hub, ..]| vec![hub], &["site hub"]);
    check_killed(LINKED, |[_, _, west]| vec![west], &["site west"]);
}

#[test]
fn a_demo_without_a_place_for_its_files_says_so() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let output = command(&["--once"], &folder.path().join("missing")).output().expect("it was built with this test");
    let ended = Ended { status: output.status, complaint: String::from_utf8_lossy(&output.stderr).into_owned() };
    assert_failed_with_a_message(&ended);
    assert!(ended.complaint.contains("temporary folder") && ended.complaint.contains("missing"), "{}", ended.complaint);
}

// === it waits ===

#[test]
fn the_commands_it_shows_work_when_pasted() {
    let mut demo = Demo::start(&[]);
    demo.wait_until_said(READY);
    demo.wait_until_said("    curl ");
    let commands: Vec<_> = demo.said.iter().filter_map(|line| line.strip_prefix("    ")).collect();
    let port =
        commands.last().and_then(|curl| curl.rsplit(':').next()).expect("it ends with a URL").trim_end_matches('/');
    let output = Command::new("sh").args(["-ec", &commands.join("\n")]).output().expect("there is a shell");
    assert!(output.status.success(), "{commands:#?}: {}", String::from_utf8_lossy(&output.stderr));
    let shown = String::from_utf8_lossy(&output.stdout);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = shown.lines().map(words).collect();
    let [_, site, _, listener, _, link, answer] = lines.as_slice() else { panic!("{lines:#?}") };
    assert_eq!(site, "hub Ready OK");
    assert_eq!(*listener, format!("backend Ready backend 127.0.0.1 {port} true OK"));
    assert!(link.starts_with("hub-") && link.contains(" Ready 1 ") && link.ends_with(" OK"), "{link}");
    assert!(["east", "west"].contains(&answer.as_str()), "{answer}");
}

// === it is ended ===

#[test]
fn a_signal_ends_a_running_demo_in_order() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut demo = Demo::start(&[]);
        demo.wait_until_said(READY);
        kill_process(demo.pid(), signal).expect("it is running");
        let ended = demo.wait_until_ended();
        assert!(ended.status.success() && ended.complaint.is_empty(), "{}: {}", ended.status, ended.complaint);
        demo.assert_nothing_is_left();
    }
}

/// A terminal sends the interrupt to the sites, too.
#[test]
fn ctrl_c_ends_a_running_demo_in_order() {
    let mut demo = Demo::start(&[]);
    demo.wait_until_said(READY);
    kill_process_group(demo.pid(), Signal::INT).expect("it is running");
    let ended = demo.wait_until_ended();
    assert!(ended.status.success() && ended.complaint.is_empty(), "{}: {}", ended.status, ended.complaint);
    demo.assert_nothing_is_left();
}

/// Not all was checked, so not all held.
#[test]
fn an_interrupted_check_is_no_success() {
    let mut demo = Demo::start(&["--once"]);
    demo.wait_until_said(STARTED);
    kill_process(demo.pid(), Signal::INT).expect("it is running");
    let ended = demo.wait_until_ended();
    let by_signal = ended.status.signal() == Some(Signal::INT.as_raw());
    assert!(by_signal || ended.status.code().is_some_and(|code| code != 0), "{}", ended.status);
    assert!(!ended.complaint.contains("panicked"), "{}", ended.complaint);
    demo.assert_nothing_is_left();
}

/// As `van demo | head -1` does.
#[test]
fn a_demo_nobody_listens_to_ends_without_a_panic() {
    let mut demo = Demo::start(&["--once"]);
    demo.wait_until_said("certificate authority");
    demo.output = None;
    let ended = demo.wait_until_ended();
    assert!(!ended.complaint.contains("panicked"), "{}", ended.complaint);
    demo.assert_nothing_is_left();
}

#[test]
fn the_sites_of_a_killed_demo_end() {
    let mut demo = Demo::start(&[]);
    demo.wait_until_said(STARTED);
    demo.process.kill().expect("it is running");
    demo.wait_until_ended();
}
