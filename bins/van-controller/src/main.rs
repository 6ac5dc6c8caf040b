//! `van-controller -n NAMESPACE`

use std::process::ExitCode;

use clap::Parser;

/// A VAN controller: runs the site that a namespace folder describes, and keeps it true to it.
#[derive(Debug, Parser)]
#[command(name = "van-controller", version)]
struct Program {
    /// The namespace
    #[arg(short, long, default_value = "default")]
    namespace: String,
    #[command(flatten)]
    arguments: van_controller::Arguments,
}

fn main() -> ExitCode {
    let Program { namespace, arguments } = Program::parse();
    match van_controller::namespace(&namespace).and_then(|namespace| van_controller::run(namespace, &arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("van-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}
