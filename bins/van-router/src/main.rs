//! `van-router -c FILE`

use std::process::ExitCode;

use clap::Parser;

/// A VAN router: links sites over mutual-TLS AMQP and carries TCP by routing key.
#[derive(Debug, Parser)]
#[command(name = "van-router", version)]
struct Program {
    #[command(flatten)]
    arguments: van_router::Arguments,
}

fn main() -> ExitCode {
    match van_router::run(&Program::parse().arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("van-router: {error:#}");
            ExitCode::FAILURE
        }
    }
}
