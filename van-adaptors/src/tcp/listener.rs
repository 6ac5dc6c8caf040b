//! Listening sockets: made by the control plane, served by a shard.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;

use rustix::net::{SocketFlags, acceptfrom_with};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tracing::warn;
use van_core::Random;
use van_core::management::config::Family;

use super::{Arrival, EXHAUSTED_REST, Entrance};
use crate::shard::{Message, Stats};

/// Connections that may wait to be accepted, unless configured.
const BACKLOG: u32 = 4096;

/// The addresses a listener's host stands for: all interfaces if it is empty.
pub(crate) fn addresses(host: &str, port: u16, family: Option<Family>) -> io::Result<Vec<SocketAddr>> {
    let has_v6 = || Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).is_ok();
    let hosts: &[&str] = match host {
        "" if has_v6() => &["::", "0.0.0.0"],
        "" => &["0.0.0.0"],
        _ => &[host],
    };
    let mut found = Vec::new();
    for host in hosts {
        found.extend((*host, port).to_socket_addrs()?.filter(|address| fits(address, family)));
    }
    found.dedup();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address of that family"));
    }
    Ok(found)
}

pub(crate) fn fits(address: &SocketAddr, family: Option<Family>) -> bool {
    match family {
        None => true,
        Some(Family::V4) => address.is_ipv4(),
        Some(Family::V6) => address.is_ipv6(),
    }
}

/// The length of a listener's queue as the system takes it.
pub(crate) fn backlog(configured: Option<u32>) -> i32 {
    i32::try_from(configured.unwrap_or(BACKLOG)).unwrap_or(i32::MAX)
}

/// Opens a listening socket. Not shared with any other process: a port in use is an error.
pub(crate) fn bind(address: SocketAddr, backlog: Option<u32>) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A port whose last connections are still in TIME_WAIT can be had at once.
    socket.set_reuse_address(true)?;
    // Those accepted have both from here. Who vanished without a word is noticed when the system says (tcp_keepalive_time).
    socket.set_keepalive(true)?;
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(self::backlog(backlog))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Attempts to find a port that is free at all addresses.
const PORT_ATTEMPTS: usize = 16;

/// Opens all addresses of a listener, which have one port; if that is 0, one of the system's choice that is free at all. Of
/// several, those that this machine has not are passed over: a name may be one for IPv6 too.
pub(crate) fn bind_all(addresses: &[SocketAddr], backlog: Option<u32>) -> io::Result<Vec<(SocketAddr, TcpListener)>> {
    let mut attempt = 1;
    loop {
        match try_bind_all(addresses, backlog) {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && attempt < PORT_ATTEMPTS
                    && addresses.iter().all(|address| address.port() == 0) =>
            {
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

fn try_bind_all(addresses: &[SocketAddr], backlog: Option<u32>) -> io::Result<Vec<(SocketAddr, TcpListener)>> {
    let mut sockets: Vec<(SocketAddr, TcpListener)> = Vec::with_capacity(addresses.len());
    let mut absent = None;
    for address in addresses {
        let port = sockets.first().map_or(address.port(), |(first, _)| first.port());
        match bind(SocketAddr::new(address.ip(), port), backlog) {
            Ok(socket) => sockets.push((socket.local_addr()?, socket)),
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => absent = Some(error),
            Err(error) => return Err(error),
        }
    }
    match absent {
        Some(error) if sockets.is_empty() => Err(error),
        _ => Ok(sockets),
    }
}

/// Accepts clients for as long as it is not dropped, and hands each to the shard with the fewest streams; of equals to the
/// one that is `here`, for it is awake.
pub(crate) async fn serve(
    socket: AsyncFd<TcpListener>,
    entrance: watch::Receiver<Arc<Entrance>>,
    inboxes: Arc<[mpsc::UnboundedSender<Message>]>,
    stats: Arc<[Stats]>,
    here: usize,
    mut random: Random,
) {
    let mut is_exhausted = false;
    loop {
        match socket.async_io(Interest::READABLE, accept).await {
            Ok((socket, peer)) => {
                let entrance = Arc::clone(&entrance.borrow());
                if std::mem::take(&mut is_exhausted) {
                    entrance.board.tcp_listener(&entrance.name, |state| state.error = None);
                }
                let Some(destination) = entrance.destinations.choose(random.next_u64()) else { continue };
                destination.chosen.add_one();
                let key = Arc::clone(&destination.key);
                let listener = Arc::clone(destination.identity.as_ref().unwrap_or(&entrance.identity));
                let arrival = Arrival { listener, observer: entrance.observer, peer };
                let shard = least_loaded(&stats, here);
                let _ = inboxes[shard].send(Message::Accepted { socket, key, entrance, arrival });
            }
            Err(error) if is_transient(&error) => {}
            Err(error) => {
                if !std::mem::replace(&mut is_exhausted, true) {
                    let entrance = Arc::clone(&entrance.borrow());
                    let error = cannot_accept(&error);
                    warn!(listener = entrance.name, error, "trying again until it goes");
                    entrance.board.tcp_listener(&entrance.name, |state| state.error = Some(error));
                }
                tokio::time::sleep(EXHAUSTED_REST).await;
            }
        }
    }
}

/// Accepts one client. The runtime of this thread does not know its socket, which may be for another.
fn accept(socket: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (client, peer) = acceptfrom_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    let peer = peer.ok_or(io::ErrorKind::ConnectionAborted)?.try_into()?;
    Ok((client.into(), peer))
}

/// The shard with the fewest streams, which is given one more; of equals the first from this one on.
pub(crate) fn least_loaded(stats: &[Stats], from: usize) -> usize {
    let count = stats.len();
    let shard = (0..count).map(|n| (n + from) % count).min_by_key(|shard| stats[*shard].streams()).unwrap_or(0);
    stats[shard].give();
    shard
}

/// Why a listener accepts nobody.
pub(crate) fn cannot_accept(error: &io::Error) -> String {
    use rustix::io::Errno;
    let remedy = match Errno::from_io_error(error) {
        Some(Errno::MFILE) => "; raise the limit of open files of this process, or close connections",
        Some(Errno::NFILE) => "; raise the limit of open files of this machine (fs.file-max)",
        _ => "",
    };
    format!("cannot accept connections: {error}{remedy}")
}

/// Errors of the client's connection, not of ours.
fn is_transient(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use socket2::SockRef;
    use van_core::plane::Counters;

    use super::*;

    #[test]
    fn of_several_addresses_those_that_are_not_of_this_machine_are_passed_over() {
        let [here, elsewhere] =
            ["127.0.0.1:0", "192.0.2.1:0"].map(|text| text.parse::<SocketAddr>().expect("an address"));
        let hosts = |addresses: &[SocketAddr]| {
            let sockets = bind_all(addresses, None)?;
            io::Result::Ok(sockets.iter().map(|(address, _)| address.ip()).collect::<Vec<_>>())
        };
        assert_eq!(hosts(&[elsewhere, here]).expect("one is here"), [here.ip()]);
        assert_eq!(hosts(&[elsewhere]).map_err(|error| error.kind()), Err(io::ErrorKind::AddrNotAvailable));
    }

    #[test]
    fn clients_that_vanish_are_noticed() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)), None).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let _client = TcpStream::connect(address).expect("it listens");
        let (accepted, _) = loop {
            match accept(&listener) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                accepted => break accepted.expect("it was connected"),
            }
        };
        assert!(SockRef::from(&accepted).keepalive().expect("it is open"));
        assert!(accepted.nodelay().expect("it is open"), "nor does it wait for more to send");
    }

    #[test]
    fn clients_that_come_at_once_are_spread_before_shards_have_noticed() {
        let stats = [Stats::default(), Stats::default()];
        stats[0].publish(&Counters { streams: 1, ..Counters::default() }, 0);
        assert_eq!([0, 0].map(|from| least_loaded(&stats, from)), [1, 0]);
        stats[0].publish(&Counters { streams: 2, ..Counters::default() }, 1);
        assert_eq!((stats[0].streams(), stats[1].streams()), (2, 1));
        assert_eq!([0, 0, 1].map(|from| least_loaded(&stats, from)), [1, 0, 1]);
    }
}
