//! The examples are the files beside this folder; `cargo run -p examples --example two_routers` runs one.
