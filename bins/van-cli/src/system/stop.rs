//! `van system stop`: the site ends, and of its folder what nobody needs any more.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use van_site::duration;
use van_site::folder::{Controller, Namespace};
use van_site::resource::Kind;

use crate::documents::keys;
use crate::failure::complain;
use crate::output::say;
use crate::sign_of_life::receive;
use crate::system::end_of_controller;

/// The least to wait for a site: it has connections, which have 10 seconds.
pub(super) const LEAST_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the operating system may take to end a process that was killed.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Stops the site of a namespace.
pub(super) fn run(namespace: &Namespace, purge: bool, timeout: Duration) -> anyhow::Result<()> {
    let (name, root) = (namespace.name(), namespace.root());
    let is_there = root.try_exists().with_context(|| format!("{} cannot be read", root.display()))?;
    ensure!(is_there, "there is no namespace {name:?}: {} does not exist", root.display());
    ensure!(
        !namespace.is_of_skupper(),
        "namespace {name:?} is one of Skupper's: end it with \"skupper system stop -n {name}\", or name another with -n"
    );
    match namespace.controller()? {
        Some(controller) => end(namespace, controller, timeout)?,
        None => say(format_args!("The site of namespace {name:?} is not running"))?,
    }
    // Nobody starts one while its folder goes.
    let _lock = namespace.lock_controller()?;
    let input = namespace.load_input();
    // What cannot be read may be a Site.
    let is_wanted = !input.problems().is_empty() || keys(&input).iter().any(|key| key.kind == Kind::Site);
    if purge || !is_wanted {
        fs::remove_dir_all(root).with_context(|| format!("{} cannot be removed", root.display()))?;
        return say(format_args!("Namespace {name:?} has been removed"));
    }
    remove_results(namespace)?;
    say(format_args!(
        "Namespace {name:?} has been stopped; its documents stay: \"van -n {name} system start\" starts it"
    ))
}

/// Asks a controller to end, waits for it, and kills it if it does not.
fn end(namespace: &Namespace, controller: Controller, timeout: Duration) -> anyhow::Result<()> {
    let process = controller.process.and_then(|process| Pid::from_raw(process.cast_signed()));
    let process = process.context("the site is just starting; try again")?;
    let ended = end_of_controller(namespace)?;
    let signalling = || format!("process {} cannot be stopped; is it another user's?", process.as_raw_nonzero());
    kill_process(process, Signal::TERM).with_context(signalling)?;
    if receive(&ended, Instant::now() + timeout).is_ok() {
        return Ok(());
    }
    kill_process(process, Signal::KILL).with_context(signalling)?;
    complain(format_args!("the site did not end within {} and was killed", duration::format(timeout)));
    if receive(&ended, Instant::now() + KILL_PATIENCE).is_err() {
        bail!("process {} does not end, although it was killed", process.as_raw_nonzero());
    }
    Ok(())
}

/// Removes what the next start makes again; CAs are made once.
fn remove_results(namespace: &Namespace) -> anyhow::Result<()> {
    let issuers = namespace.runtime_issuers();
    let Some(runtime) = issuers.parent().filter(|runtime| runtime.exists()) else { return Ok(()) };
    let removing = |path: &Path| format!("{} cannot be removed", path.display());
    for entry in runtime.read_dir().with_context(|| removing(runtime))? {
        let path = entry?.path();
        if path != issuers {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.with_context(|| removing(&path))?;
        }
    }
    Ok(())
}
