//! The router's management objects, *entities*: what types there are, what attributes they have, and the configuration file
//! that lists them.

pub mod config;
pub mod schema;
