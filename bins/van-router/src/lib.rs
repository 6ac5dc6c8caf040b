//! The router program: arguments, configuration file, logs and signals around [`van_adaptors::Router`].
//!
//! A library so that `van router` and `van-router` are the same program.

mod logging;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};
use van_adaptors::{ImageInfo, LogLines, Options, Router, SiteInfo};
use van_core::management::config::Configuration;

use self::logging::Logging;

/// Runs a router from a configuration file.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// The configuration: a JSON list of ["type", {attributes}] pairs, as skrouterd.json, or the older skrouterd.conf
    #[arg(short, long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,

    /// How long open connections may take to end when the router is told to stop, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    drain: u64,

    /// What streams may take of memory: octets, or with K, M or G behind them multiples of 1024; half of what there is if
    /// left out
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<u64>,

    /// How a line of the log looks
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    log_format: logging::Format,

    /// Do not answer those who measure the network by this router with "van bench"
    #[arg(long)]
    no_bench: bool,

    /// Stop when standard input ends: for programs that start a router and may be killed
    #[arg(long, hide = true)]
    while_stdin: bool,
}

/// What there is to do besides.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
enum Command {
    /// Reads a password and prints its hash, for a line `name:hash` of a listener's saslUsersFile
    HashPassword,
}

impl Arguments {
    /// Every router started by another program of ours: it stops with it.
    pub const WHILE_STDIN: &str = "--while-stdin";
}

/// The smallest budget: a few streams, each with its first windows.
const LEAST_MEMORY: u64 = 1024 * 1024;

fn parse_size(text: &str) -> Result<u64, String> {
    let unit = |letter| match letter {
        'K' | 'k' => Some(1 << 10),
        'M' | 'm' => Some(1 << 20),
        'G' | 'g' => Some(1 << 30),
        _ => None,
    };
    let (number, unit) = match text.chars().next_back().and_then(unit) {
        Some(unit) => (&text[..text.len() - 1], unit),
        None => (text, 1_u64),
    };
    let octets = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    octets
        .filter(|octets| *octets >= LEAST_MEMORY)
        .ok_or_else(|| "a size from 1M on, for example 256M or 2G".to_owned())
}

/// Runs until a signal says stop.
///
/// # Errors
/// Why the router does not start: one message that names the thing and the next step.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(Command::HashPassword) = arguments.command {
        println!("{}", van_adaptors::hash_password(&read_password()?)?);
        return Ok(());
    }
    let file = arguments.config.as_ref().context("no configuration: name it by --config")?;
    let path = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {path}"))?;
    let configuration = Configuration::parse(&text, |name| std::env::var(name).ok())
        .with_context(|| format!("{path} cannot be used"))?;
    van_adaptors::abort_on_panic();
    van_adaptors::raise_descriptor_limit();
    let lines = LogLines::default();
    let logging = logging::start(&configuration.logs, arguments.log_format, lines.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(serve(configuration, logging, lines, arguments))
}

/// From the terminal, without showing it, or else the first line of standard input.
fn read_password() -> anyhow::Result<String> {
    let mut password = String::new();
    if std::io::stdin().is_terminal() {
        password = rpassword::prompt_password("Password: ").context("cannot read the password")?;
    } else {
        std::io::stdin().read_line(&mut password).context("cannot read the password")?;
    }
    let password = password.trim_end_matches(['\r', '\n']);
    anyhow::ensure!(!password.is_empty(), "the password is empty; type it, or give it on standard input");
    Ok(password.to_owned())
}

/// The site that the router is of. Without the entity it is told by a controller, and only its id is known here.
fn site(configuration: &Configuration) -> Option<SiteInfo> {
    let id = variable("SKUPPER_SITE_ID");
    let Some(site) = &configuration.site else {
        return (!id.is_empty()).then(|| SiteInfo { id, ..SiteInfo::default() });
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Some(SiteInfo {
        id,
        name: site.name.clone(),
        namespace: text(&site.namespace),
        platform: text(&site.platform),
        version: text(&site.version),
        location: text(&site.location),
        provider: text(&site.provider),
    })
}

/// What skupper says to its routers of the image and pod that they run in.
fn image() -> ImageInfo {
    ImageInfo {
        name: variable("APPLICATION_NAME"),
        version: variable("VERSION"),
        host: variable("HOSTNAME"),
        namespace: variable("POD_NAMESPACE"),
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

async fn serve(
    configuration: Configuration,
    logging: Arc<Logging>,
    lines: LogLines,
    arguments: &Arguments,
) -> anyhow::Result<()> {
    let drain = Duration::from_secs(arguments.drain);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let id = configuration.id.clone();
    for warning in &configuration.warnings {
        warn!(router = %id, "{warning}");
    }
    let options = Options {
        site: site(&configuration),
        image: image(),
        logs: Some(logging),
        lines: Some(lines),
        memory: arguments.memory,
        without_bench: arguments.no_bench,
        ..Options::default()
    };
    let router = Router::start(configuration, &options)?;
    info!(router = %id, version = env!("CARGO_PKG_VERSION"), "router started");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = stdin_end(), if arguments.while_stdin => {}
    }
    info!(router = %id, drain_seconds = drain.as_secs(), "stopping; a second signal stops at once");
    tokio::select! {
        () = router.shutdown(drain) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Waits until standard input ends. A thread, for reading it cannot be given up.
async fn stdin_end() {
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let _ = end.await;
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_are_octets_or_multiples_of_1024() {
        for (text, octets) in [("1048576", 1 << 20), ("1024K", 1 << 20), ("256M", 256 << 20), ("3g", 3 << 30)] {
            assert_eq!(parse_size(text), Ok(octets), "{text}");
        }
        for text in ["", "M", "0", "1023K", "-1G", "1.5G", "64MiB", "99999999999G", "1048576ä"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
