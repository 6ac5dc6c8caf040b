//! Requests to measure the network, from commands to the controller: a socket in the folder of the namespace.
//!
//! Whoever may write there may ask. A request is a line of JSON, and so is the answer; whoever hangs up wants none.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use van_site::bench::{BenchReport, BenchRequest};
use van_site::{Namespace, Site, with_causes};

/// A request is no longer.
const MAX_REQUEST_OCTETS: u64 = 4096;

/// How long somebody may take to say what it is about: others wait.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// How long to wait for what the system lacks, such as descriptors.
const REST: Duration = Duration::from_secs(1);

/// What a controller answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Answer {
    Report(BenchReport),
    Failure(String),
}

/// Has the controller of a namespace measure the network, and waits for what it says.
///
/// # Errors
/// Why it does not.
pub fn ask(namespace: &Namespace, request: &BenchRequest) -> anyhow::Result<BenchReport> {
    let folder = File::open(namespace.internal()).context("the namespace has no site that runs")?;
    let mut stream = BlockingStream::connect(path(&folder)).context(
        "the program that runs the site takes no requests to measure: it is an older van, or a program that has the site \
         inside; restart the one, ask the other",
    )?;
    // Who is busy answers before it has heard everything.
    let _ = stream.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes());
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    if line.is_empty() {
        bail!("the site has ended");
    }
    match serde_json::from_str(&line).context("the site runs with another version of van; restart it")? {
        Answer::Report(report) => Ok(report),
        Answer::Failure(failure) => bail!(failure),
    }
}

/// Answers requests until dropped. A folder that can hold no socket is no reason for a site not to run.
///
/// Only one measures at a time: two would measure each other.
pub(crate) async fn serve(folder: &Path, site: &Site) {
    let listener = match open(folder) {
        Ok(listener) => listener,
        Err(error) => {
            warn!(folder = %folder.display(), %error, "\"van bench\" cannot ask this site: no socket can be made");
            return std::future::pending().await;
        }
    };
    loop {
        let client = accept(&listener).await;
        let others = async {
            loop {
                let busy = Answer::Failure("the site is measuring already; try again in a moment".into());
                let _ = send(&mut BufStream::new(accept(&listener).await), &busy).await;
            }
        };
        tokio::select! {
            () = answer(client, site) => {}
            () = others => {}
        }
    }
}

/// The socket of the controller that holds the namespace: one that is there is of an earlier one.
fn open(folder: &Path) -> io::Result<UnixListener> {
    let folder = File::open(folder)?;
    let path = path(&folder);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn accept(listener: &UnixListener) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                warn!(%error, "a command cannot be heard");
                sleep(REST).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, site: &Site) {
    let mut stream = BufStream::new(stream);
    let mut line = String::new();
    let mut beginning = (&mut stream).take(MAX_REQUEST_OCTETS);
    let Ok(Ok(_)) = timeout(REQUEST_TIME, beginning.read_line(&mut line)).await else { return };
    let answer = match serde_json::from_str::<BenchRequest>(&line) {
        Ok(request) => {
            info!(name = request.name, "measuring");
            tokio::select! {
                measured = site.bench(request) => match measured {
                    Ok(report) => Answer::Report(report),
                    Err(error) => Answer::Failure(with_causes(&error)),
                },
                // Whoever asked has nothing more to say: that is the end of them.
                _ = stream.read_u8() => return,
            }
        }
        Err(error) => Answer::Failure(format!("the site runs with another version of van; restart it ({error})")),
    };
    let _ = send(&mut stream, &answer).await;
}

async fn send(stream: &mut BufStream<UnixStream>, answer: &Answer) -> anyhow::Result<()> {
    stream.write_all(format!("{}\n", serde_json::to_string(answer)?).as_bytes()).await?;
    Ok(stream.flush().await?)
}

/// The socket in a folder that is open: the path of a socket may have 107 octets only, and folders of namespaces are as
/// deep as users like.
fn path(folder: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(Namespace::BENCH_SOCKET)
}
