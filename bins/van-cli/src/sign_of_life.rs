//! Waiting with a sign of life: on a terminal something turns.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

const SIGNS: [char; 4] = ['|', '/', '-', '\\'];

/// How often the sign changes.
const TURN: Duration = Duration::from_millis(100);

/// Waits for the next event, until a deadline at most.
///
/// # Errors
/// The time is over, or nothing can come any more.
pub(crate) fn receive<T>(events: &Receiver<T>, deadline: Instant) -> Result<T, RecvTimeoutError> {
    let rest = || deadline.saturating_duration_since(Instant::now());
    if !io::stderr().is_terminal() {
        return events.recv_timeout(rest());
    }
    let mut signs = SIGNS.into_iter().cycle();
    let event = loop {
        match events.recv_timeout(rest().min(TURN)) {
            Err(RecvTimeoutError::Timeout) if !rest().is_zero() => eprint!("\r{}", signs.next().unwrap_or(' ')),
            event => break event,
        }
    };
    eprint!("\r \r");
    event
}
