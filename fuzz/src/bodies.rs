//! The bodies: one function per target.

pub(crate) mod amqp;
pub(crate) mod config;
pub(crate) mod engine;
pub(crate) mod flow;
pub(crate) mod grant;
pub(crate) mod management;
pub(crate) mod message;
pub(crate) mod observe;
pub(crate) mod router;
pub(crate) mod tls;
