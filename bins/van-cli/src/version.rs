//! `van version`.

use serde::Serialize;

use crate::failure::Failure;
use crate::output::{Output, print_table};

/// All of them are in this one program.
const COMPONENTS: [&str; 3] = ["cli", "controller", "router"];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Component {
    component: &'static str,
    version: &'static str,
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let version = env!("CARGO_PKG_VERSION");
    if arguments.output.is_for_programs() {
        return Ok(arguments.output.print(&COMPONENTS.map(|component| Component { component, version }))?);
    }
    let rows = COMPONENTS.map(|component| vec![component.to_owned(), version.to_owned()]);
    Ok(print_table(&["component", "version"], &rows)?)
}
