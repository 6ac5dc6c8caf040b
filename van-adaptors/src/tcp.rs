//! TCP: accepting clients of routing keys, connecting workloads.

pub(crate) mod listener;

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::shard::Target;

/// How long to rest when a connection cannot be accepted because there are no descriptors left, before trying again.
pub(crate) const EXHAUSTED_REST: Duration = Duration::from_millis(50);

/// How long a peer may take to end its half of a closed connection.
pub(crate) const LINGER_TIME: Duration = Duration::from_secs(1);

/// Closes a socket once the peer has ended, or took too long. Linux resets a socket that is closed before all that came is
/// read, and the peer would not hear what was said last.
pub(crate) async fn linger(mut socket: TcpStream) {
    let rest = async {
        socket.shutdown().await?;
        tokio::io::copy(&mut socket, &mut tokio::io::sink()).await
    };
    let _ = tokio::time::timeout(LINGER_TIME, rest).await;
}

/// Connects to a workload: the addresses of its name in turn.
///
/// Dropping the future gives the attempt up.
pub(crate) async fn connect(target: &Target) -> io::Result<TcpStream> {
    match target.address {
        Some(address) => TcpStream::connect(address).await,
        None => TcpStream::connect((target.host.as_str(), target.port)).await,
    }
}
