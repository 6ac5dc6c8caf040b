//! `van token`: how a site lets another one link to it.

mod file;
mod issue;

use crate::failure::Failure;
use crate::place::Place;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Write a token with which another site can link to this one
    #[command(after_help = "Example:\n  van -n west token issue west.yaml")]
    Issue(issue::Arguments),
}

pub(crate) fn run(place: &Place, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Issue(arguments) => issue::run(place, arguments),
    }
}
