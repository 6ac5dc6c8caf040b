//! `van demo`: three sites as processes of their own, linked by tokens; one service at two of them, real requests, failures.
//!
//! ```text
//!                       ┌──TLS── east ── backend "east"
//!   requests ── hub ────┤
//!                       └──TLS── west ── backend "west"
//! ```

mod backend;
mod sites;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio::signal::unix::{SignalKind, signal};

use self::backend::{Backend, get};
use self::sites::{Sites, Van, free_port};

/// Requests per check: enough that an even spread cannot be luck.
const REQUESTS: usize = 40;

/// How long a command may take, the network to come up, or to notice a change.
const PATIENCE: Duration = Duration::from_secs(15);

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
        let mut sites = Sites::prepare()?;
        let kind = tokio::select! {
            // What a signal brings about is not the demo's failure.
            biased;
            _ = interrupt.recv() => Ok(SignalKind::interrupt()),
            _ = terminate.recv() => Ok(SignalKind::terminate()),
            done = demonstrate(arguments, &mut sites) => Err(done),
        };
        sites.end().await;
        match kind {
            // Checks that were not made did not hold; this is what a shell calls an end by a signal.
            Ok(kind) if arguments.once => Ok((128 + kind.as_raw_value() as u8).into()),
            Ok(_) => Ok(ExitCode::SUCCESS),
            Err(done) => done.map(|()| ExitCode::SUCCESS),
        }
    })
}

async fn demonstrate(arguments: &Arguments, sites: &mut Sites) -> anyhow::Result<()> {
    let steps = Steps(Instant::now());
    let van = sites.van()?;
    van.write_hub("hub")?;
    tokio::try_join!(van.run("-n east site create east"), van.run("-n west site create west"))?;
    steps.done(&format!("three sites described, in {}", sites.folder().display()))?;

    sites.start(&["hub", "east", "west"]).await?;
    steps.done(&format!("three sites started, each with its own certificate authority: {}", sites.pids()))?;

    sites.watch(async { tokio::try_join!(link(&van, "east"), link(&van, "west")) }).await?;
    steps.done("east and west have each redeemed a token of the hub over HTTPS, and are linked to it by mutual TLS")?;

    let port = free_port()?;
    let url = format!("http://127.0.0.1:{port}/");
    let east = Backend::start("east", 0).await?;
    let west = Backend::start("west", 0).await?;
    sites.watch(expose(&van, port, &[&east, &west])).await?;
    sites.watch(until_both_answer(&url)).await?;
    steps.done(&format!("both serve the routing key \"backend\"; clients reach it at the hub: {url}"))?;

    let answers = sites.watch(ask(&url)).await?;
    ensure!(answers.len() == 2, "only {:?} answered; both sites should", answers.keys());
    steps.done(&answered(&answers))?;

    let east_port = east.port();
    east.stop().await;
    let answers = sites.watch(ask(&url)).await.context("after east's backend stopped")?;
    ensure!(answers.keys().eq(["west"]), "{:?} answered; east's backend is stopped", answers.keys());
    steps.done(&format!("east's backend stopped; {}, none lost", answered(&answers)))?;

    let _east = Backend::start("east", east_port).await?;
    sites.watch(until_both_answer(&url)).await?;
    sites.kill("east").await?;
    let answers = sites.watch(ask(&url)).await.context("after the site east was killed")?;
    ensure!(answers.keys().eq(["west"]), "{:?} answered; the site east is dead", answers.keys());
    steps.done(&format!("east's backend is back, but the site killed; {}, none lost", answered(&answers)))?;

    sites.start(&["east"]).await?;
    sites.watch(async { tokio::try_join!(until_both_answer(&url), until_linked(&van, "east")) }).await?;
    steps.done("the site east started again: linked without another token, and both answer")?;
    if arguments.once {
        return Ok(());
    }
    say(format_args!("\nIt keeps running until Ctrl-C. Try in another terminal:\n"))?;
    for line in van.exports() {
        say(format_args!("    {line}"))?;
    }
    for command in COMMANDS {
        say(format_args!("    {command}"))?;
    }
    say(format_args!("    curl {url}\n"))?;
    sites.watch(std::future::pending()).await
}

/// What to try.
const COMMANDS: [&str; 3] = ["van -n hub site status", "van -n hub listener status", "van -n east link status"];

/// Links a site to the hub.
async fn link(van: &Van, site: &str) -> anyhow::Result<()> {
    van.run(&format!("-n hub token issue {site}.token --timeout 10s")).await?;
    van.run(&format!("-n {site} token redeem {site}.token --timeout 10s")).await?;
    Ok(())
}

/// Waits until a site says that its one link is ready. Requests may pass a moment before it does.
async fn until_linked(van: &Van, site: &str) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let status = van.run(&format!("-n {site} link status")).await?;
        if status.lines().nth(1).is_some_and(|link| link.split_whitespace().nth(1) == Some("Ready")) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "the link of {site} is not ready: {status}");
        // A file of another process tells, and no event.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Makes the backends one service, which clients reach at the hub.
async fn expose(van: &Van, port: u16, backends: &[&Backend]) -> anyhow::Result<()> {
    for backend in backends {
        let (site, port) = (backend.site(), backend.port());
        van.run(&format!("-n {site} connector create backend {port} --host 127.0.0.1")).await?;
    }
    van.run(&format!("-n hub listener create backend {port} --host 127.0.0.1 --wait ready --timeout 10s")).await?;
    Ok(())
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
async fn until_both_answer(url: &str) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    let mut answered = BTreeSet::new();
    while answered.len() < 2 {
        match get(url).await {
            Ok(site) => drop(answered.insert(site)),
            Err(error) if Instant::now() > end => return Err(error.context("the hub's listener did not open")),
            Err(_) => {}
        }
        ensure!(Instant::now() < end, "only {answered:?} answered; both sites should");
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

fn answered(answers: &BTreeMap<String, usize>) -> String {
    let sites: Vec<_> = answers.iter().map(|(site, count)| format!("{site} ({count})")).collect();
    format!("{REQUESTS} requests, answered by {}", sites.join(" and "))
}
