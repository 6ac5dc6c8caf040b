//! `van system`: the sites that run on this machine.

mod start;
mod status;
mod stop;

use std::sync::mpsc::{Receiver, channel};

use anyhow::anyhow;
use van_site::folder::Namespace;
use van_site::load::Cause;
use van_site::names;

use crate::failure::{Failure, Problems, complain};
use crate::output::{Output, say};
use crate::place::Place;
use crate::wait::when_ended;

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
    /// How long the site may take to end before it is killed; its connections have 10s to end
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
            let timeout = problems.check("--timeout", names::at_least(stop::LEAST_TIMEOUT, timeout));
            problems.finish()?;
            Ok(stop::run(&namespace, *purge, timeout)?)
        }
        Command::Status(Status { output }) => Ok(status::run(&place.namespaces()?, output)?),
        Command::Reload => {
            let namespace = place.namespace()?;
            start::check_input(&namespace)?;
            let input = namespace.load_input();
            let faults = || input.problems().iter().filter(|problem| !problem.is_warning());
            faults().filter(|problem| matches!(problem.cause, Cause::Fault(_))).for_each(complain);
            match faults().count() {
                0 => Ok(say("Nothing to reload: changes are applied as they come")?),
                count => Err(anyhow!("{count} of the documents or files cannot be carried out as they are").into()),
            }
        }
    }
}

/// Reports when no controller of a namespace runs any more.
fn end_of_controller(namespace: &Namespace) -> anyhow::Result<Receiver<()>> {
    let (sender, ended) = channel();
    when_ended(namespace, move || sender.send(()).unwrap_or_default())?;
    Ok(ended)
}
