//! What commands print: sentences for people, or documents for programs.

use std::fmt::{self, Display};
use std::io::{self, Write};

use anyhow::Context;
use serde::Serialize;
use van_site::{table, yaml};

/// How documents are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A stream of documents, with `---` between them.
    Yaml,
    /// One object after the other.
    Json,
}

/// The flag of commands that can also print documents.
#[derive(Debug, clap::Args)]
pub(crate) struct Output {
    /// Print documents for programs; sentences for people then go to standard error
    #[arg(short = 'o', long = "output", value_enum, value_name = "FORMAT")]
    format: Option<Format>,
}

impl Output {
    /// Whether documents are asked for.
    pub(crate) fn is_for_programs(&self) -> bool {
        self.format.is_some()
    }

    /// Says something to people.
    pub(crate) fn say(&self, line: impl Display) -> anyhow::Result<()> {
        if self.is_for_programs() {
            eprintln!("{line}");
            return Ok(());
        }
        say(line)
    }

    /// Prints documents, if they are asked for.
    pub(crate) fn print<T: Serialize>(&self, documents: &[T]) -> anyhow::Result<()> {
        match self.format {
            None => Ok(()),
            Some(Format::Yaml) => {
                let texts: Vec<_> = documents.iter().map(yaml::write).collect();
                print(format_args!("{}", texts.join("---\n")))
            }
            Some(Format::Json) => {
                documents.iter().try_for_each(|document| print(format_args!("{}\n", yaml::to_json(document))))
            }
        }
    }
}

/// Says something to people, where nothing but sentences is printed.
pub(crate) fn say(line: impl Display) -> anyhow::Result<()> {
    print(format_args!("{line}\n"))
}

/// Prints a table.
pub(crate) fn print_table(titles: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    print(format_args!("{}", table::render(titles, rows)))
}

/// Prints to standard output. If nobody reads it, there is nobody to show anything to.
fn print(text: fmt::Arguments<'_>) -> anyhow::Result<()> {
    write!(io::stdout(), "{text}").context("cannot write to standard output")
}
