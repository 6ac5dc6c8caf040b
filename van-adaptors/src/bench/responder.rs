//! What answers at a router's own address, inside its process.
//!
//! On a thread of its own, which is there only while somebody measures: neither links nor streams of others wait for it
//! more than for any other workload of this machine.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at};
use tracing::warn;

use super::limits::{Grant, Limits};
use super::{Answer, MAX_REQUEST_OCTETS, Request, address};
use crate::dial::{Dialer, Incoming, Stream};

/// How long a client may take to say what it wants.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// How long a stream may take, whatever it does: clients that do not read, paths that are slow.
const STREAM_TIME: Duration = Duration::from_secs(15);

/// How much longer a stream of bulk may take than its octets flow: to begin, and to end.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long the thread waits for another stream.
const REST: Duration = Duration::from_secs(10);

/// Octets read or written at once: what a pipe holds half of.
const PIECE: usize = 65_536;

/// Octets read at once of what is to be sent back.
const ECHO_PIECE: usize = 8192;

/// Answers at the router's address until it stops.
pub(crate) async fn serve(dialer: Dialer, router: String) {
    let Ok(mut incoming) = dialer.accept_unseen(&address(&router)).await else { return };
    // It holds shards, which are to end with the router.
    drop(dialer);
    let limits = Limits::new();
    while let Some(first) = incoming.next().await {
        let (done, is_done) = oneshot::channel();
        let limits = limits.clone();
        let run = move || done.send(answer_all(first, incoming, &limits));
        if let Err(error) = thread::Builder::new().name("van-bench".into()).spawn(run) {
            return warn!(%error, "nobody can measure this router: no thread can be started");
        }
        match is_done.await {
            Ok(Some(rested)) => incoming = rested,
            Ok(None) | Err(_) => return,
        }
    }
}

/// Answers streams until none has come for a while; nothing once none can come any more.
fn answer_all(first: Stream, mut incoming: Incoming, limits: &Limits) -> Option<Incoming> {
    let runtime = match Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            warn!(%error, "nobody can measure this router: its runtime cannot be made");
            return None;
        }
    };
    runtime.block_on(async {
        let mut streams = JoinSet::new();
        streams.spawn(answer(first, limits.clone()));
        loop {
            tokio::select! {
                stream = incoming.next() => drop(streams.spawn(answer(stream?, limits.clone()))),
                Some(_) = streams.join_next() => {}
                () = sleep(REST), if streams.is_empty() => return Some(incoming),
            }
        }
    })
}

/// Does what a client wants. What goes wrong breaks the stream, and that is all the client needs to know.
async fn answer(stream: Stream, limits: Limits) {
    let _ = timeout(STREAM_TIME, converse(stream, &limits)).await;
}

async fn converse(stream: Stream, limits: &Limits) -> io::Result<()> {
    let Some(_place) = limits.enter() else { return Ok(()) };
    let mut stream = BufReader::with_capacity(ECHO_PIECE, stream);
    let Some(request) = timeout(REQUEST_TIME, recv_request(&mut stream)).await?? else {
        return refuse(stream.get_mut(), Answer::Unknown).await;
    };
    let now = Instant::now();
    let granted = limits.open(now).and_then(|()| match request {
        Request::Echo(octets) => limits.echo(octets, now),
        Request::Sink(millis) | Request::Source(millis) => limits.bulk(Duration::from_millis(millis) + FAREWELL, now),
    });
    let mut grant = match granted {
        Ok(grant) => grant,
        Err(wait) => return refuse(stream.get_mut(), busy(wait)).await,
    };
    stream.get_mut().write_all(Answer::Ok.to_string().as_bytes()).await?;
    match (request, &mut grant) {
        (Request::Echo(_), Grant::Echo { left, .. }) => echo(&mut stream, left).await,
        (Request::Source(millis), Grant::Bulk { until, .. }) => {
            let end = now + Duration::from_millis(millis);
            timeout_at((*until).into(), send_until(stream.get_mut(), end)).await?
        }
        (Request::Sink(millis), Grant::Bulk { until, .. }) => {
            timeout_at((*until).into(), take(&mut stream, Duration::from_millis(millis))).await?
        }
        _ => Ok(()),
    }
}

async fn refuse(stream: &mut Stream, answer: Answer) -> io::Result<()> {
    stream.write_all(answer.to_string().as_bytes()).await?;
    stream.shutdown().await
}

fn busy(wait: Duration) -> Answer {
    Answer::Busy(wait.as_secs_f64().ceil() as u64)
}

/// The first line; nothing if it is no request.
async fn recv_request(stream: &mut BufReader<Stream>) -> io::Result<Option<Request>> {
    let mut line = Vec::new();
    stream.take(MAX_REQUEST_OCTETS as u64).read_until(b'\n', &mut line).await?;
    Ok(line.strip_suffix(b"\n").and_then(Request::parse))
}

/// Sends octets back until the client ends, or has had all.
async fn echo(stream: &mut BufReader<Stream>, left: &mut u64) -> io::Result<()> {
    let mut piece = [0; ECHO_PIECE];
    while *left > 0 {
        let most = piece.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
        let count = stream.read(&mut piece[..most]).await?;
        if count == 0 {
            break;
        }
        stream.get_mut().write_all(&piece[..count]).await?;
        *left -= count as u64;
    }
    stream.get_mut().shutdown().await
}

/// Takes octets for so long from the first on, or to their end, and says how many came in what time.
async fn take(stream: &mut BufReader<Stream>, time: Duration) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut octets = stream.read(&mut piece).await? as u64;
    let start = Instant::now();
    let end = sleep(time);
    tokio::pin!(end);
    loop {
        tokio::select! {
            biased;
            () = &mut end => break,
            count = stream.read(&mut piece) => match count? {
                0 => break,
                count => octets += count as u64,
            },
        }
    }
    let counted = format!("{octets} {}\n", start.elapsed().as_micros());
    stream.get_mut().write_all(counted.as_bytes()).await?;
    stream.get_mut().shutdown().await?;
    // The client breaks off once it knows, and what is still on its way goes. Breaking off first could take the answer along.
    while stream.read(&mut piece).await? > 0 {}
    Ok(())
}

/// Sends octets until then.
async fn send_until(stream: &mut Stream, end: Instant) -> io::Result<()> {
    let piece = vec![0; PIECE];
    while Instant::now() < end {
        stream.write_all(&piece).await?;
    }
    stream.shutdown().await
}
