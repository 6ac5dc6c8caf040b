//! How much a long path holds, and sockets that let so much be under way.
//!
//! Linux gives a connection a few MiB of buffers at most (`tcp_wmem`, `tcp_rmem`), which is 0.6 Gbit/s over 50 ms. A
//! process with `CAP_NET_ADMIN` may have more.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};

/// Octets per second that a link should be able to carry: 10 Gbit/s.
const LINK_RATE: u64 = 1_250_000_000;

/// No buffer is made larger: 10 Gbit/s over 50 ms.
const MAX_BUFFER: u64 = 64 * 1024 * 1024;

/// Octets on a path of so long a round trip that is full.
pub(super) fn octets(round: Duration) -> u64 {
    u64::try_from(round.as_micros()).unwrap_or(u64::MAX).saturating_mul(LINK_RATE) / 1_000_000
}

/// Lets a connection have as much under way as its path holds, if the system lets us and gives it less (`buffer`).
///
/// Only for peers that tell what has come: such a buffer is filled on any path, and who is behind it waits for all of it.
pub(super) fn widen(socket: impl AsFd, round: Duration, buffer: u64) {
    let wanted = octets(round).min(MAX_BUFFER);
    if wanted > buffer {
        let _ = set_socket_send_buffer_size_force(socket, wanted as usize); // as before, if we may not
    }
}

/// Lets a peer send as much as a long path holds, if the system lets us and gives it less (`buffer`). How much that can
/// become is agreed on with the first packet: it is for listening sockets, and for those that are still to connect.
pub(super) fn widen_receiving(socket: impl AsFd, buffer: u64) {
    if MAX_BUFFER > buffer {
        let _ = set_socket_recv_buffer_size_force(socket, MAX_BUFFER as usize);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::SockRef;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn ten_gigabits_over_fifty_milliseconds_are_sixty_megabytes() {
        assert_eq!(octets(Duration::from_millis(50)), 62_500_000);
        assert_eq!(octets(Duration::MAX), u64::MAX / 1_000_000);
    }

    #[test]
    fn a_buffer_is_made_for_a_long_path_or_left_as_it_is() {
        let socket = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let size = || SockRef::from(&socket).send_buffer_size().unwrap() as u64;
        let before = size();
        widen(&socket, Duration::from_millis(1), 4 * MIB);
        assert_eq!(size(), before, "the path is short");
        let may = set_socket_send_buffer_size_force(&socket, before as usize / 2).is_ok();
        widen(&socket, Duration::from_millis(20), 4 * MIB);
        let wanted = octets(Duration::from_millis(20));
        assert!(if may { size() >= wanted } else { size() == before }, "{may} {}", size());
    }
}
