//! TCP: accepting clients of routing keys, connecting workloads.

pub(crate) mod listener;

use std::io;

use tokio::net::TcpStream;

use crate::shard::Target;

/// Connects to a workload: the addresses of its name in turn.
///
/// Dropping the future gives the attempt up.
pub(crate) async fn connect(target: &Target) -> io::Result<TcpStream> {
    match target.address {
        Some(address) => TcpStream::connect(address).await,
        None => TcpStream::connect((target.host.as_str(), target.port)).await,
    }
}
