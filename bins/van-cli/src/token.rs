//! `van token`: how a site lets another one link to it.

mod file;
mod issue;
mod redeem;

use crate::failure::Failure;
use crate::place::Place;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Write a token with which another site can link to this one
    #[command(after_help = "Example:\n  van -n west token issue west.yaml")]
    Issue(issue::Arguments),
    /// Link this site to the one that issued a token
    #[command(after_help = "Example:\n  van -n east token redeem west.yaml")]
    Redeem(redeem::Arguments),
}

pub(crate) fn run(place: &Place, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Issue(arguments) => issue::run(place, arguments),
        Command::Redeem(arguments) => redeem::run(place, arguments),
    }
}
