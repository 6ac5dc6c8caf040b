//! Tokens: between sites, between a site and programs of others, and those that are of no use.
//!
//! Tests that need a program of others say so and are skipped without it; with `VAN_REQUIRE_FOREIGN=1` they fail then.

#[path = "tokens/bad.rs"]
mod bad;
#[path = "tokens/foreign.rs"]
mod foreign;
#[path = "tokens/support.rs"]
mod support;
