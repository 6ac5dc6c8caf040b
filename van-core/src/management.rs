//! The router's management objects, *entities*: what types there are, what attributes they have, the configuration file that
//! lists them, and the protocol that shows and changes them while a router runs.
//!
//! * `schema` types and attributes · `config` the configuration file
//! * `request` questions and answers as they look on the wire · `agent` what a question means and what is answered
//! * `rows` what only a running router knows, as entities

pub mod agent;
pub mod config;
pub mod request;
pub mod rows;
pub mod schema;

use std::collections::BTreeMap;

use crate::amqp::Value;

/// What is known of an entity, by attribute. What is not there is null.
pub type Attributes = BTreeMap<&'static str, Value>;
