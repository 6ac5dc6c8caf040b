//! The controller program: a namespace folder, logs and signals around [`van_site::Site`].
//!
//! A library so that `van controller` and `van-controller` are the same program.

pub mod bench;

use std::io::{IsTerminal, Write};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::info;
use tracing_subscriber::EnvFilter;
use van_site::document::Document;
use van_site::folder::{self, Namespace};
use van_site::status::State;
use van_site::{Site, Snapshot};

/// Runs the site of a namespace in the foreground, and follows its files.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How long open connections may take to end when the site is told to stop, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    drain: u64,

    /// How a line of the log looks
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    log_format: Format,

    /// Stop when standard input ends: for programs that start a controller and may be killed
    #[arg(long, hide = true)]
    while_stdin: bool,
}

impl Arguments {
    /// For a site that another program of ours starts: it stops with it.
    pub const WHILE_STDIN: &str = "--while-stdin";
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The folder of a namespace of this user.
///
/// # Errors
/// There is no folder to have it in.
pub fn namespace(name: &str) -> anyhow::Result<Namespace> {
    let is_root = rustix::process::geteuid().is_root();
    let base = folder::base(|variable| std::env::var_os(variable), is_root);
    Ok(Namespace::below(&base.context("neither HOME nor XDG_DATA_HOME is set; set one of them")?, name))
}

/// Runs until a signal says stop. One line on standard output tells how the site fares once it is known.
///
/// # Errors
/// Why the site cannot be run: one message that names the thing and the next step.
pub fn run(namespace: Namespace, arguments: &Arguments) -> anyhow::Result<()> {
    start_log(arguments.log_format)?;
    van_site::abort_on_panic();
    van_site::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(serve(namespace, arguments))
}

async fn serve(namespace: Namespace, arguments: &Arguments) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let name = namespace.name().to_owned();
    let folder = namespace.input_resources();
    let internal = namespace.internal();
    let site = Site::open(namespace)?;
    info!(namespace = %name, folder = %folder.display(), version = env!("CARGO_PKG_VERSION"), "controller started");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = announce(site.watch()) => bail!("the site has failed; the log says why"),
        () = stdin_end(), if arguments.while_stdin => {}
        () = bench::serve(&internal, &site) => {}
    }
    info!(namespace = %name, drain_seconds = arguments.drain, "stopping; a second signal stops at once");
    // To drop it would be to wait for the site.
    let mut stopped = pin!(site.shutdown(Duration::from_secs(arguments.drain)));
    tokio::select! {
        () = &mut stopped => Ok(()),
        // The site's threads end with the process.
        _ = terminate.recv() => std::process::exit(1),
        _ = interrupt.recv() => std::process::exit(1),
    }
}

/// Says once how the site fares; ends with the site.
async fn announce(mut snapshot: watch::Receiver<Arc<Snapshot>>) {
    let known = snapshot.wait_for(|snapshot| verdict(snapshot).is_some()).await;
    if let Some(verdict) = known.ok().and_then(|snapshot| verdict(&snapshot)) {
        // Who started this may be gone already.
        let _ = writeln!(std::io::stdout(), "{verdict}");
    }
    while snapshot.changed().await.is_ok() {}
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

fn verdict(snapshot: &Snapshot) -> Option<String> {
    let sites = || {
        snapshot.documents.values().filter_map(|document| match document {
            Document::Site(site) => Some(site),
            _ => None,
        })
    };
    // One that is ready says more than another one that is too many.
    let is_pending = sites().any(|site| site.status.common.state == Some(State::Pending));
    let in_state = |state| sites().find(move |site| site.status.common.state == Some(state));
    let ready = in_state(State::Ready).map(|site| format!("Site \"{}\" is ready.", site.metadata.name));
    let failed = in_state(State::Error).filter(|_| !is_pending);
    let of_site =
        ready.or_else(|| failed.map(|site| format!("Site \"{}\": {}", site.metadata.name, site.status.common.message)));
    let of_files = || {
        let problem = snapshot.problems.first().filter(|_| sites().next().is_none())?;
        Some(format!("{}: {}", problem.file.display(), problem.message))
    };
    of_site.or_else(of_files)
}

fn start_log(format: Format) -> anyhow::Result<()> {
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|wanted| !wanted.trim().is_empty());
    let filter = EnvFilter::try_new(wanted.as_deref().unwrap_or("info"));
    let filter = filter.with_context(|| format!("{} is not understood", EnvFilter::DEFAULT_ENV))?;
    // What cannot be written is lost: to say so would panic, where standard error is the file on the full disk.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    // Somebody who embeds this may log already.
    let _ = match format {
        Format::Text => log.with_ansi(std::io::stderr().is_terminal()).try_init(),
        Format::Json => log.json().try_init(),
    };
    Ok(())
}
