//! `van system`: the sites that run on this machine.

mod start;
mod status;
mod stop;

use std::fs::File;
use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use van_site::folder::Namespace;
use van_site::names;

use crate::failure::{Failure, Problems};
use crate::output::{Output, say};
use crate::place::Place;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Start the site of a namespace; it goes on when this command has ended
    #[command(alias = "setup", after_help = "Example:\n  van -n west system start")]
    Start(Start),
    /// Stop the site of a namespace; its documents stay as long as there is a Site among them
    #[command(alias = "teardown")]
    Stop(Stop),
    /// Show the sites of this machine
    Status(Status),
    /// Check the documents; changes are applied as they come, so there is nothing to load again
    Reload,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Start {
    /// How long the site may take to be ready
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    timeout: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Stop {
    /// Remove everything of the namespace, the documents too
    #[arg(long)]
    purge: bool,
    /// How long connections may take to end before the site is killed
    #[arg(long, value_name = "DURATION", default_value = "70s")]
    timeout: String,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(place: &Place, command: &Command) -> Result<(), Failure> {
    let mut problems = Problems::default();
    match command {
        Command::Start(Start { timeout }) => {
            let namespace = place.checked_namespace(&mut problems);
            let timeout = problems.check("--timeout", names::timeout(timeout));
            problems.finish()?;
            Ok(start::run(&namespace, timeout)?)
        }
        Command::Stop(Stop { purge, timeout }) => {
            let namespace = place.checked_namespace(&mut problems);
            let timeout = problems.check("--timeout", names::timeout(timeout));
            problems.finish()?;
            Ok(stop::run(&namespace, *purge, timeout)?)
        }
        Command::Status(Status { output }) => Ok(status::run(&place.namespaces()?, output)?),
        Command::Reload => {
            start::check_input(&place.namespace()?)?;
            Ok(say("Nothing to reload: changes are applied as they come")?)
        }
    }
}

/// Reports when the controller's lock is free. The thread that waits for it ends with this process.
fn lock_free(namespace: &Namespace) -> anyhow::Result<Receiver<io::Result<()>>> {
    let (sender, ended) = channel();
    let lock = File::open(namespace.controller_lock())?;
    thread::spawn(move || {
        let result = lock.lock_shared();
        drop(lock);
        sender.send(result)
    });
    Ok(ended)
}
