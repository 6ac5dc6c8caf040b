//! `van`: the whole Virtual Application Network in one program.

mod bench;
mod connector;
mod demo;
mod document_status;
mod documents;
mod failure;
mod link;
mod listener;
mod output;
mod place;
#[cfg(test)]
mod reference;
mod routed;
mod sign_of_life;
mod site;
mod spelling;
mod system;
mod token;
mod version;
mod wait;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use self::failure::Failure;
use self::place::Place;

/// A Virtual Application Network: services across sites by routing key, over mutual TLS, without VPN or firewall holes.
#[derive(Debug, Parser)]
#[command(name = "van", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Program {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Two sites, one service:
  van -n west site create west --enable-link-access
  van -n west system start
  van -n east site create east
  van -n east system start
  van -n west token issue west.yaml
  van -n east token redeem west.yaml
  van -n west connector create backend 8080
  van -n east listener create backend 19090 --host 127.0.0.1 --wait ready

To see it all on this machine: van demo";

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a site, change it, look at it, remove it
    #[command(subcommand)]
    Site(site::Command),
    /// Start and stop the site of a namespace on this machine
    #[command(subcommand)]
    System(system::Command),
    /// Let another site link to this one, or link this one to another
    #[command(subcommand)]
    Token(token::Command),
    /// Look at the links to other sites, remove one
    #[command(subcommand)]
    Link(link::Command),
    /// Say where a workload is reached
    #[command(subcommand)]
    Connector(connector::Command),
    /// Say where clients come in
    #[command(subcommand)]
    Listener(listener::Command),
    /// Measure the network: another site, or the connections to a routing key
    #[command(after_help = bench::AFTER_HELP)]
    Bench(bench::Arguments),
    /// Run the site of a namespace in the foreground; "van system start" runs it in the background
    Controller(van_controller::Arguments),
    /// Run a router from a configuration file
    Router(van_router::Arguments),
    /// Show it all on this machine: three sites linked by tokens, one service at two of them, real requests
    Demo(demo::Arguments),
    /// Show the versions of what is in this program
    Version(version::Arguments),
    /// Print a script that makes a shell complete the commands
    #[command(after_help = "Example:\n  source <(van completion bash)")]
    Completion {
        /// The shell
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let arguments = spelling::with_two_dashes(&Program::command(), std::env::args_os());
    run(Program::parse_from(arguments)).unwrap_or_else(Failure::report)
}

fn run(Program { place, command }: Program) -> Result<ExitCode, Failure> {
    match command {
        Command::Site(command) => site::run(&place, &command)?,
        Command::System(command) => system::run(&place, &command)?,
        Command::Token(command) => token::run(&place, &command)?,
        Command::Link(command) => link::run(&place, &command)?,
        Command::Connector(command) => connector::run(&place, &command)?,
        Command::Listener(command) => listener::run(&place, &command)?,
        Command::Bench(arguments) => bench::run(&place, &arguments)?,
        Command::Controller(arguments) => van_controller::run(place.namespace()?, &arguments)?,
        Command::Router(arguments) => van_router::run(&arguments)?,
        Command::Demo(arguments) => return Ok(demo::run(&arguments)?),
        Command::Version(arguments) => version::run(&arguments)?,
        Command::Completion { shell } => complete(shell)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a script for the name by which the program was called.
fn complete(shell: Shell) -> anyhow::Result<()> {
    let called = std::env::args_os().next().map(PathBuf::from);
    let name = called.as_ref().and_then(|path| path.file_name()?.to_str()).unwrap_or("van");
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Program::command(), name, &mut script);
    io::stdout().write_all(&script).context("cannot write to standard output")
}
