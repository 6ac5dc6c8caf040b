//! Grants from all sides: the store, the documents, the server and the client, on loopback.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy takes for a product")]

#[path = "grant/client.rs"]
mod client;
#[path = "grant/documents.rs"]
mod documents;
#[path = "grant/recorded.rs"]
mod recorded;
#[path = "grant/redeem.rs"]
mod redeem;
#[path = "grant/server.rs"]
mod server;
#[path = "grant/support.rs"]
mod support;
