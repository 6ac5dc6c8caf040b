//! `van demo`: three routers as processes of their own, one service at two sites, real requests, and one site's failure.
//!
//! ```text
//!                       ┌──TLS── east ── backend "east"
//!   requests ── hub ────┤
//!                       └──TLS── west ── backend "west"
//! ```

mod backend;
mod routers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::signal::unix::{SignalKind, signal};

use self::backend::{Backend, get};
use self::routers::Routers;

/// Requests per check: enough that an even spread cannot be luck.
const REQUESTS: usize = 40;

/// How long the network may take to come up, or to notice a change.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long after what a router's end brings about that end is known.
const EXIT_NEWS: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// End after the checks instead of waiting for Ctrl-C; the exit code is 0 only if all held
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // Whichever way it ends, dropping the demo stops its routers and removes its folder.
        let kind = tokio::select! {
            // What a signal brings about is not the demo's failure.
            biased;
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = terminate.recv() => SignalKind::terminate(),
            done = demonstrate(arguments) => return done.map(|()| ExitCode::SUCCESS),
        };
        // Checks that were not made did not hold; this is what a shell calls an end by a signal.
        let code = if arguments.once { 128 + kind.as_raw_value() as u8 } else { 0 };
        Ok(code.into())
    })
}

async fn demonstrate(arguments: &Arguments) -> anyhow::Result<()> {
    let steps = Steps(Instant::now());
    let mut routers = Routers::prepare()?;
    steps.done(&format!("a certificate authority and three certificates, in {}", routers.folder().display()))?;

    let east = Backend::start("east").await?;
    let west = Backend::start("west").await?;
    routers.start(&[("east", east.port()), ("west", west.port())])?;
    steps.done(&format!("three routers started: {}", routers.pids()))?;

    let url = routers.url();
    routers.watch(until_linked(&url)).await?;
    steps.done(&format!("east and west are linked to the hub by mutual TLS; the service is at {url}"))?;

    let answers = routers.watch(ask(&url)).await?;
    ensure!(answers.len() == 2, "only {:?} answered; both sites should", answers.keys());
    steps.done(&format!("{REQUESTS} requests, answered by {}", summary(&answers)))?;

    east.stop().await;
    let answers = routers.watch(ask(&url)).await.context("after east's backend stopped")?;
    ensure!(answers.keys().eq(["west"]), "{:?} answered; east's backend is stopped", answers.keys());
    steps
        .done(&format!("east's backend stopped; {REQUESTS} requests, answered by {}, none lost", summary(&answers)))?;
    if arguments.once {
        return Ok(());
    }
    say(format_args!("\nIt keeps running until Ctrl-C. Try:\n"))?;
    say(format_args!("    curl {url}"))?;
    say(format_args!("    curl {}/debug/routes", routers.hub_status_url()))?;
    say(format_args!("    curl {}/metrics", routers.hub_status_url()))?;
    say(format_args!("    cat {}/hub.json\n", routers.folder().display()))?;
    routers.watch(std::future::pending()).await
}

/// Prints what was done, and when.
struct Steps(Instant);

impl Steps {
    fn done(&self, what: &str) -> anyhow::Result<()> {
        say(format_args!("{:>7.3} s  {what}", self.0.elapsed().as_secs_f64()))
    }
}

/// Prints a line. If nobody reads it, there is nobody to show anything to.
fn say(line: fmt::Arguments<'_>) -> anyhow::Result<()> {
    writeln!(io::stdout(), "{line}").context("cannot write to standard output")
}

/// Waits until both sites have answered. The listener's port is closed until its routing key has a consumer.
async fn until_linked(url: &str) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut linked = BTreeSet::new();
    while linked.len() < 2 {
        match get(url).await {
            Ok(site) => drop(linked.insert(site)),
            Err(error) if Instant::now() > end => return Err(error.context("the hub's listener did not open")),
            Err(_) => {}
        }
        ensure!(Instant::now() < end, "only {linked:?} answered; both sites should");
        // Another process's port: there is nothing to wait on but time.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Sends requests, each on a connection of its own; who answered how many.
async fn ask(url: &str) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut answers = BTreeMap::new();
    for number in 1..=REQUESTS {
        let answer = get(url).await.with_context(|| format!("request {number} of {REQUESTS} failed"))?;
        *answers.entry(answer).or_default() += 1;
    }
    Ok(answers)
}

fn summary(answers: &BTreeMap<String, usize>) -> String {
    answers.iter().map(|(site, count)| format!("{site} ({count})")).collect::<Vec<_>>().join(" and ")
}

impl Routers {
    /// Does something as long as all routers run.
    async fn watch<T>(&mut self, what: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        let (name, how) = tokio::select! {
            biased;
            exited = self.exited() => exited,
            done = what => {
                let Err(error) = done else { return done };
                // If a router that ended is the reason, that comes to be known a little later.
                tokio::time::timeout(EXIT_NEWS, self.exited()).await.map_err(|_| error)?
            }
        };
        bail!("the router {name} has ended ({how}); its log:\n{}", self.log(name))
    }
}
