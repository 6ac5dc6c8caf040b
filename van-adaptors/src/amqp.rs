//! Links: dialling and accepting connections of other routers, up to the exchange of opens. From there on a shard has them.

pub(crate) mod access;
pub(crate) mod link;
mod open;
mod path;
mod pause;
mod places;
mod profile;
pub(crate) mod proxy;
mod users;

use tokio::sync::oneshot::error::RecvError;
use van_core::amqp::Config;
use van_core::management::config::Amqp;

pub(crate) use open::{ESTABLISH_TIMEOUT, EstablishError, Opened, establish};
pub(crate) use profile::{Profile, Usage};
pub(crate) use users::Users;
pub use users::{HashError, hash_password};

use crate::control::Closed;

/// How a connection is to be, as a listener or connector says.
fn tuned(config: Config, amqp: &Amqp) -> Config {
    let mut properties = config.properties;
    properties.extend(amqp.open_properties.iter().cloned());
    Config {
        properties,
        idle_timeout: amqp.idle_timeout,
        max_frame_bytes: amqp.max_frame_bytes.unwrap_or(config.max_frame_bytes),
        max_sessions: amqp.max_sessions.unwrap_or(config.max_sessions),
        session_window_frames: amqp.max_session_frames.unwrap_or(config.session_window_frames),
        link_capacity: amqp.link_capacity.unwrap_or(config.link_capacity),
        ..config
    }
}

/// Why a connection is not in use any more, for people.
fn reason_text(closed: Result<Closed, RecvError>) -> String {
    match closed {
        Ok(Closed::Lost(Some(reason))) => reason.to_string(),
        Ok(Closed::Lost(None)) | Err(_) => "closed by this router".to_owned(),
        Ok(Closed::Superseded) => "superseded by new certificates".to_owned(),
    }
}
