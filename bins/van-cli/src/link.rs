//! `van link`: the connections to other sites that this one dials.

use van_site::document::{Content, Document};
use van_site::folder::Namespace;
use van_site::grants::REDEEMED_FROM;
use van_site::load::Documents;
use van_site::resource::link::LinkSpec;
use van_site::resource::{Kind, Link, Resource};

use crate::document_status::{self, Listed, state_and_message};
use crate::documents::delete;
use crate::failure::Failure;
use crate::output::say;
use crate::place::Place;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show how the links that this site dials fare
    #[command(after_help = "A link is made by redeeming a token of the other site: van token redeem FILE")]
    Status(document_status::Arguments),
    /// Remove a link, and the certificate that a token gave for it
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// Its name
    name: String,
}

impl Listed for LinkSpec {
    const TITLES: &[&str] = &["name", "status", "cost", "remote site", "message"];
    const LABELS: &[&str] = &["Name\t: ", "Status\t: ", "Cost\t: ", "Remote site\t: ", "Message\t: "];
    const NONE: &str = "There are no link resources in the namespace";

    fn row(link: &Resource<Self>) -> Vec<String> {
        let Resource { metadata, spec, status } = link;
        let [state, message] = state_and_message(&status.common);
        let remote_site = status.remote_site_name.clone().unwrap_or_default();
        vec![metadata.name.clone(), state, spec.routing_cost().to_string(), remote_site, message]
    }
}

pub(crate) fn run(place: &Place, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Status(arguments) => document_status::run::<LinkSpec>(place, arguments),
        Command::Delete(Delete { name }) => {
            let namespace = place.namespace()?;
            let before = namespace.load_input();
            delete(&namespace, Kind::Link, name)?;
            delete_secret(&namespace, &before, name)?;
            Ok(say(format_args!("Link {name:?} is deleted"))?)
        }
    }
}

/// Removes the Secret that a token gave for a link, unless another one uses it.
fn delete_secret(namespace: &Namespace, before: &Documents, link: &str) -> anyhow::Result<()> {
    let links = before.entries().filter_map(|entry| Link::of(&entry.document));
    let (gone, others): (Vec<_>, Vec<_>) = links.partition(|document| document.metadata.name == link);
    let secret = gone.first().and_then(|link| link.spec.tls_credentials.as_deref());
    let Some(secret) = secret.filter(|name| others.iter().all(|it| it.spec.tls_credentials.as_deref() != Some(name)))
    else {
        return Ok(());
    };
    match before.entry(Kind::Secret, secret).map(|entry| &entry.document) {
        Some(Document::Secret(document)) if document.metadata.annotations.contains_key(REDEEMED_FROM) => {
            delete(namespace, Kind::Secret, secret)
        }
        _ => Ok(()),
    }
}
