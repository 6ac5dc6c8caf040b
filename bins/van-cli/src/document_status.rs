//! `van <noun> status`: a table, the lines of one document, or documents for programs.

use anyhow::bail;
use van_site::folder::Namespace;
use van_site::resource::Resource;
use van_site::status::{State, Status};

use crate::documents::{Noun, View, unknown};
use crate::failure::Failure;
use crate::output::{Output, print_table, say};
use crate::place::Place;

/// A kind of document that is shown in a table of its own.
pub(crate) trait Listed: Noun {
    /// The titles of the columns.
    const TITLES: &[&str];
    /// What stands before each value if one document is shown in lines instead.
    const LABELS: &[&str];
    /// What is said if there is none.
    const NONE: &str;

    /// The cells of a document's row.
    fn row(document: &Resource<Self>) -> Vec<String>;
}

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only the one of this name
    name: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// Shows documents with their status.
pub(crate) fn run<S: Listed>(place: &Place, arguments: &Arguments) -> Result<(), Failure> {
    let namespace = place.namespace()?;
    let view = View::of(&namespace)?;
    view.complain();
    let documents = match &arguments.name {
        Some(name) => vec![named::<S>(&namespace, &view, name)?],
        None => view.all::<S>(),
    };
    let rows: Vec<_> = documents.iter().map(S::row).collect();
    match rows.as_slice() {
        _ if arguments.output.is_for_programs() => arguments.output.print(&documents)?,
        [] => say(S::NONE)?,
        [row] if arguments.name.is_some() && !S::LABELS.is_empty() => print_lines(S::LABELS, row)?,
        rows => print_table(S::TITLES, rows)?,
    }
    Ok(())
}

/// State and message, as cells.
pub(crate) fn state_and_message(status: &Status) -> [String; 2] {
    [status.state.unwrap_or(State::Pending).to_string(), status.message.clone()]
}

fn named<S: Listed>(namespace: &Namespace, view: &View, name: &str) -> anyhow::Result<Resource<S>> {
    match view.one(name) {
        Some(document) => Ok(document),
        None => bail!(unknown(namespace, view.input(), S::KIND, name)),
    }
}

/// Labels and values, aligned by tabs.
fn print_lines(labels: &[&str], values: &[String]) -> anyhow::Result<()> {
    let tab_of = |label: &str| label.find('\t').unwrap_or_default() / 8;
    let widest = labels.iter().copied().map(tab_of).max().unwrap_or_default();
    labels.iter().zip(values).try_for_each(|(label, value)| {
        let tabs = "\t".repeat(widest + 1 - tab_of(label));
        say(label.replacen('\t', &tabs, 1) + value)
    })
}
