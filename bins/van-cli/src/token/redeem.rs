//! `van token redeem`: a token becomes a link of this site.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use van_site::document::Document;
use van_site::folder::{FolderError, Namespace};
use van_site::resource::{AccessToken, Link, Site};
use van_site::{grants, names};

use crate::failure::{Failure, Problems};
use crate::output::say;
use crate::place::Place;
use crate::wait::{Patience, wait_for};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The file with the token
    file: PathBuf,
    /// How long the other site may take, and the link
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    timeout: String,
}

pub(super) fn run(place: &Place, arguments: &Arguments) -> Result<(), Failure> {
    let mut problems = Problems::default();
    let namespace = place.checked_namespace(&mut problems);
    let timeout = problems.check("--timeout", names::timeout(&arguments.timeout));
    problems.finish()?;

    let token = AccessToken::read(&arguments.file)?;
    let room = check_place(&namespace)?;
    let deadline = Instant::now() + timeout;
    let links = redeem(&namespace, &token, timeout, room)?;
    say(format_args!("Token {:?} has been redeemed.", token.metadata.name))?;
    if namespace.controller()?.is_none() {
        let start = format!("\"van -n {} system start\"", namespace.name());
        return Ok(say(format_args!("The site is not running; {start} starts it, and with it the link"))?);
    }
    for Link { metadata, spec, .. } in links {
        let subject = format!("Link {:?}", metadata.name);
        let patience = Patience::until_ready(deadline.saturating_duration_since(Instant::now()));
        wait_for(&namespace, &metadata.name, &spec, patience, &subject)?;
        say(format_args!("{subject} is ready."))?;
    }
    Ok(())
}

/// Room for a Secret and its Links.
const ROOM: usize = 64 * 1024;

/// Looks whether the link could be kept, and holds room for it: a token is not spent in vain.
fn check_place(namespace: &Namespace) -> anyhow::Result<File> {
    let create = format!("make it with \"van -n {} site create NAME\"", namespace.name());
    let has_site = namespace.load_input().sound::<Site>().next().is_some();
    ensure!(has_site, "there is no site in namespace {:?} that could be linked; {create}", namespace.name());
    let folder = namespace.input_resources();
    let hold = || {
        let mut room = tempfile::tempfile_in(&folder)?;
        room.write_all(&[0; ROOM])?;
        room.sync_all()?;
        Ok(room)
    };
    Ok(hold().map_err(|source| FolderError::writing(&folder, source))?)
}

/// Redeems a token and stores what it became; returns the links.
fn redeem(namespace: &Namespace, token: &AccessToken, timeout: Duration, room: File) -> anyhow::Result<Vec<Link>> {
    let name = &token.metadata.name;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let documents = runtime
        .block_on(grants::redeem(token, namespace.name(), timeout))
        .map_err(|error| anyhow!("failed to redeem claim {name}: {}", error.text()))?;
    drop(room);
    // A link whose credentials are not there yet would be an error for a moment.
    let (links, secrets): (Vec<_>, Vec<_>) =
        documents.iter().partition(|document| matches!(document, Document::Link(_)));
    for document in secrets.into_iter().chain(links) {
        let lost = || format!("token {name:?} has been redeemed, but not all that it became could be stored");
        namespace.put_input(document).with_context(lost)?;
    }
    let links = documents.into_iter().filter_map(|document| match document {
        Document::Link(link) => Some(link),
        _ => None,
    });
    Ok(links.collect())
}
