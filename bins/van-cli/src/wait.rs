//! Waiting until the controller says that something is so.

use std::fmt::Display;
use std::fs::{self, File};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use van_site::document::{Document, Key};
use van_site::folder::Namespace;
use van_site::names;
use van_site::resource::Resource;
use van_site::status::{ConditionKind, State, Status, Truth};

use crate::documents::{NOT_SEEN, Noun, controller, not_running};
use crate::failure::Problems;
use crate::sign_of_life::receive;

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Goal {
    /// All of it works
    Ready,
    /// This site carries it out; whether it matches others does not count
    Configured,
    /// Do not wait
    None,
}

/// The flags of commands that may wait.
#[derive(Debug, clap::Args)]
pub(crate) struct Waiting {
    /// Wait until the running site says that it is so
    #[arg(long, value_enum, value_name = "STATE", default_value = "none")]
    wait: Goal,

    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    timeout: String,
}

/// What to wait for, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// What to wait for.
    pub(crate) goal: Goal,
    /// How long.
    pub(crate) timeout: Duration,
}

impl Waiting {
    /// Notes what is wrong with the flags.
    pub(crate) fn check(&self, problems: &mut Problems) -> Patience {
        Patience { goal: self.wait, timeout: problems.check("--timeout", names::timeout(&self.timeout)) }
    }
}

impl Patience {
    /// Waits for all that there is to wait for.
    pub(crate) fn until_ready(timeout: Duration) -> Self {
        Self { goal: Goal::Ready, timeout }
    }

    /// Whether there is anything to wait for.
    pub(crate) fn is_asked(self) -> bool {
        self.goal != Goal::None
    }

    /// Refuses to wait where nobody would ever bring it about.
    pub(crate) fn check_controller(self, namespace: &Namespace) -> anyhow::Result<()> {
        if self.is_asked() { controller(namespace).map(drop) } else { Ok(()) }
    }
}

impl Goal {
    fn is_reached(self, status: &Status) -> bool {
        match self {
            Self::Ready => status.is_ready(),
            Self::Configured => {
                status.condition(ConditionKind::Configured).is_some_and(|condition| condition.status == Truth::True)
            }
            Self::None => true,
        }
    }

    /// The word for people.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ready | Self::None => "ready",
            Self::Configured => "configured",
        }
    }
}

/// What ends the wait for a change.
enum Event {
    Changed,
    ControllerEnded,
}

/// Waits until the controller says that a document is as it should be; returns the document with its status.
///
/// `spec` is what the status must be about, and `subject` how the document is called towards people.
///
/// # Errors
/// No controller runs, or it ends, or it says that somebody has to act, or the time is over.
pub(crate) fn wait_for<S: Noun>(
    namespace: &Namespace,
    name: &str,
    spec: &S,
    patience: Patience,
    subject: impl Display,
) -> anyhow::Result<Resource<S>> {
    let deadline = Instant::now() + patience.timeout;
    let (events, _watcher) = watch(namespace)?;
    loop {
        let document = reported::<S>(namespace, name).filter(|document| document.spec == *spec);
        let status = document.as_ref().map(|document| S::common(&document.status));
        let message = match status {
            Some(status) if patience.goal.is_reached(status) => return document.context("a status of nothing"),
            Some(status) => status.message.clone(),
            None => NOT_SEEN.to_owned(),
        };
        let is_final = status.is_some_and(|status| status.state == Some(State::Error));
        if is_final || Instant::now() >= deadline {
            bail!("{subject} is not yet {}: {message}", patience.goal.word());
        }
        match receive(&events, deadline) {
            Ok(Event::Changed) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Event::ControllerEnded) | Err(RecvTimeoutError::Disconnected) => bail!(not_running(namespace)),
        }
    }
}

/// Reports changes of the results, and the end of the controller.
fn watch(namespace: &Namespace) -> anyhow::Result<(Receiver<Event>, RecommendedWatcher)> {
    let (sender, events) = channel();
    let folder = namespace.runtime_resources();
    let watching = || format!("{} cannot be watched", folder.display());
    fs::create_dir_all(&folder).with_context(watching)?;
    let changed = sender.clone();
    let mut watcher = notify::recommended_watcher(move |_| drop(changed.send(Event::Changed)))?;
    watcher.watch(&folder, RecursiveMode::NonRecursive).with_context(watching)?;
    controller(namespace)?;
    when_ended(namespace, move || drop(sender.send(Event::ControllerEnded)))?;
    Ok((events, watcher))
}

/// Tells when no controller of a namespace runs any more, which a thread finds out that ends with this process.
pub(crate) fn when_ended(namespace: &Namespace, tell: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    let lock = File::open(namespace.controller_lock())?;
    thread::spawn(move || {
        let _ = lock.lock_shared();
        drop(lock);
        tell();
    });
    Ok(())
}

/// The document with the status that the controller last wrote.
fn reported<S: Noun>(namespace: &Namespace, name: &str) -> Option<Resource<S>> {
    let file = namespace.runtime_resources().join(Key::new(S::KIND, name).file_name());
    let text = fs::read_to_string(file).ok()?;
    Document::read_all(&text).iter().flatten().find_map(|document| S::of(document).cloned())
}
