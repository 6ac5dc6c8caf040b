//! `van`: the whole Virtual Application Network in one program.

mod demo;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A Virtual Application Network: services across sites by routing key, over mutual TLS, without VPN or firewall holes.
#[derive(Debug, Parser)]
#[command(name = "van", version, arg_required_else_help = true)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a router from a configuration file
    Router(van_router::Arguments),
    /// Show it all on this machine: three routers, one service at two sites, real requests
    Demo(demo::Arguments),
}

fn main() -> ExitCode {
    let done = match Program::parse().command {
        Command::Router(arguments) => van_router::run(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Demo(arguments) => demo::run(&arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("van: {error:#}");
        ExitCode::FAILURE
    })
}
