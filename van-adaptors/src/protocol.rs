//! The log of frames, of connections whose frames an operator wants to see.

use tracing::debug;
use van_core::plane::ConnectionId;

/// Logs a line about a frame.
pub(crate) fn log(connection: ConnectionId, line: &str) {
    debug!("[C{}]:FRAME: {line}", connection.0);
}
