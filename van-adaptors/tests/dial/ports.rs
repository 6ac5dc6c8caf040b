//! Ports for sockets that somebody else opens.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// A port that nobody listens on: below those that the system gives to whoever connects meanwhile (from 32768, ip(7)), and
/// no other test of this process gets it.
pub(crate) fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() as u16;
    let next = || 10_000 + first.wrapping_mul(64).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % 22_000;
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    std::iter::repeat_with(next).find(is_free).expect("there are ports")
}
