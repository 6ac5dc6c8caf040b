//! Links: dialling and accepting connections of other routers, up to the exchange of opens. From there on a shard has them.

pub(crate) mod access;
pub(crate) mod link;
mod open;
mod profile;
pub(crate) mod proxy;

pub(crate) use open::{EstablishError, Opened, establish};
pub(crate) use profile::Profile;

/// Why a connection was closed, for people. Without a condition this router closed it.
fn reason_text(reason: Option<van_core::amqp::Condition>) -> String {
    reason.map_or_else(|| "closed by this router".to_owned(), |reason| reason.to_string())
}
