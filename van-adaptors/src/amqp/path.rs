//! How much a long path holds, and sockets that let so much be under way.
//!
//! Linux gives a connection a few MiB of buffers at most (`tcp_wmem`, `tcp_rmem`), which is 0.6 Gbit/s over 50 ms. A
//! process with `CAP_NET_ADMIN` may have more.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};

use crate::machine;

/// Octets per second that a link should be able to carry: 10 Gbit/s.
const LINK_RATE: u64 = 1_250_000_000;

/// No buffer is made larger: 10 Gbit/s over 50 ms.
const MAX_BUFFER: u64 = 64 * 1024 * 1024;

/// What takes so long has lost a packet. Source: Linux, TCP_TIMEOUT_INIT.
const LOST_PACKET: Duration = Duration::from_secs(1);

/// Octets on a path of so long a round trip that is full; none if that was the time in which a packet was sent again.
pub(super) fn octets(round: Duration) -> u64 {
    if round < LOST_PACKET { round.as_micros() as u64 * LINK_RATE / 1_000_000 } else { 0 }
}

/// Lets a connection have as much under way as its path holds, if the system lets us.
///
/// Only where what is under way is bounded, for data connections to routers of ours: such a buffer is filled on any path, and
/// who is behind it waits for all of it.
pub(super) fn widen_sending(socket: impl AsFd, round: Duration) {
    if let Some(size) = beyond(round, machine::send_buffer()) {
        let _ = set_socket_send_buffer_size_force(socket, size); // as before, if we may not
    }
}

/// The same for what comes. Before the socket is connected: how much may be under way is agreed on with the first packet. A
/// socket that was accepted can only be given what the system's own limit allowed it to agree on.
pub(super) fn widen_receiving(socket: impl AsFd, round: Duration) {
    if let Some(size) = beyond(round, machine::receive_buffer()) {
        let _ = set_socket_recv_buffer_size_force(socket, size);
    }
}

/// The buffer for a path, if it is more than the system gives.
fn beyond(round: Duration, buffer: u64) -> Option<usize> {
    Some(octets(round).min(MAX_BUFFER)).filter(|wanted| *wanted > buffer).map(|wanted| wanted as usize)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::SockRef;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn ten_gigabits_over_fifty_milliseconds_are_sixty_megabytes() {
        assert_eq!(octets(50 * MS), 62_500_000);
        assert_eq!(octets(1020 * MS), 0, "it was sent twice");
        assert_eq!(beyond(50 * MS, 4 << 20), Some(62_500_000));
        assert_eq!(beyond(900 * MS, 4 << 20), Some(64 << 20));
        assert_eq!((beyond(3 * MS, 4 << 20), beyond(50 * MS, 64 << 20)), (None, None));
    }

    #[test]
    fn a_buffer_is_made_for_a_long_path_or_left_as_it_is() {
        let socket = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let size = || SockRef::from(&socket).send_buffer_size().unwrap();
        let before = size();
        widen_sending(&socket, Duration::ZERO);
        assert_eq!(size(), before, "the path is short");
        let may = set_socket_send_buffer_size_force(&socket, before / 2).is_ok();
        widen_sending(&socket, 50 * MS);
        match beyond(50 * MS, machine::send_buffer()) {
            Some(wanted) if may => assert!(size() >= wanted, "{} of {wanted}", size()),
            _ => assert_eq!(size(), before),
        }
    }
}
