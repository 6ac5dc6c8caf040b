//! Links: dialling and accepting connections of other routers, up to the exchange of opens. From there on a shard has them.

pub(crate) mod access;
pub(crate) mod link;
mod open;

pub(crate) use open::{EstablishError, Opened, establish};
