//! Links: dialling and accepting connections of other routers, up to the exchange of opens. From there on a shard has them.

pub(crate) mod access;
pub(crate) mod link;
mod open;
mod places;
mod profile;
pub(crate) mod proxy;
mod users;

use tokio::sync::oneshot::error::RecvError;

pub(crate) use open::{EstablishError, Opened, establish};
pub(crate) use profile::{Profile, Usage};
pub(crate) use users::Users;
pub use users::{HashError, hash_password};

use crate::control::Closed;

/// Why a connection is not in use any more, for people.
fn reason_text(closed: Result<Closed, RecvError>) -> String {
    match closed {
        Ok(Closed::Lost(Some(reason))) => reason.to_string(),
        Ok(Closed::Lost(None)) | Err(_) => "closed by this router".to_owned(),
        Ok(Closed::Superseded) => "superseded by new certificates".to_owned(),
    }
}
