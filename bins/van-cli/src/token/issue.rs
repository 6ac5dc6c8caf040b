//! `van token issue`: a grant for this site, and the token that redeems it.

use std::path::PathBuf;

use anyhow::{Context, bail};
use uuid::Uuid;
use van_site::derive::{self, INGRESS_HOSTS};
use van_site::document::Document;
use van_site::duration;
use van_site::folder::Namespace;
use van_site::names;
use van_site::resource::access_grant::AccessGrantSpec;
use van_site::resource::{AccessGrant, RouterAccess, Site};
use van_site::status::EDGE_CANNOT_ACCEPT;

use super::file::Draft;
use crate::documents::controller;
use crate::failure::{Failure, Problems};
use crate::output::say;
use crate::place::Place;
use crate::wait::{Patience, wait_for};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The file to write
    file: PathBuf,
    /// How often the token can be redeemed
    #[arg(long, value_name = "COUNT", default_value = "1")]
    redemptions_allowed: String,
    /// How long the token can be redeemed
    #[arg(long, value_name = "DURATION", default_value = "15m")]
    expiration_window: String,
    /// The cost of the links that it makes; traffic prefers cheaper paths
    #[arg(long, default_value = "1")]
    cost: String,
    /// How long to wait for the site
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    timeout: String,
    /// A name or address of this site that the token shall use, instead of all [may be repeated]
    #[arg(long, value_name = "HOST")]
    ingress_host: Vec<String>,
}

pub(super) fn run(place: &Place, arguments: &Arguments) -> Result<(), Failure> {
    let Arguments { file, redemptions_allowed, expiration_window, cost, timeout, ingress_host } = arguments;
    let mut problems = Problems::default();
    let namespace = place.checked_namespace(&mut problems);
    let redemptions_allowed = redemptions_allowed.parse().ok().filter(|count: &i32| *count > 0);
    let redemptions_allowed = problems.check(
        "--redemptions-allowed",
        redemptions_allowed.ok_or_else(|| format!("{:?} is not a number of at least 1", arguments.redemptions_allowed)),
    );
    let window = problems.check("--expiration-window", names::expiration_window(expiration_window));
    let link_cost = problems.check("--cost", names::cost(cost));
    let timeout = problems.check("--timeout", names::timeout(timeout));
    for host in ingress_host {
        problems.check("--ingress-host", names::host(host));
    }
    problems.finish()?;

    controller(&namespace)?;
    let site = linkable_site(&namespace)?;
    let draft = Draft::new(file)?;
    let mut spec = AccessGrantSpec {
        redemptions_allowed,
        expiration_window: Some(expiration_window.clone()),
        ..AccessGrantSpec::default()
    };
    if !ingress_host.is_empty() {
        spec.settings.insert(INGRESS_HOSTS.to_owned(), ingress_host.join(","));
    }
    let grant = AccessGrant::new(format!("{}-{}", site.metadata.name, Uuid::new_v4()), spec);
    let document = Document::from(grant.clone());
    namespace.put_input(&document)?;
    let issued = issue(&namespace, &grant, Patience::until_ready(timeout), link_cost, draft);
    if issued.is_err() {
        // Nobody has its code.
        namespace.delete_input(&document.key())?;
    }
    issued?;

    say(format_args!("Grant {:?} is ready", grant.metadata.name))?;
    say(format_args!("Token file {} created", file.display()))?;
    say("\nTransfer this file to a remote site. At the remote site, make a link to this site with")?;
    say(format_args!("\n\tvan token redeem {}\n", file.display()))?;
    let window = duration::format(window);
    Ok(say(format_args!("The token expires after {redemptions_allowed} use(s) or after {window}."))?)
}

/// The site, if others may link to it.
fn linkable_site(namespace: &Namespace) -> anyhow::Result<Site> {
    let input = namespace.load_input();
    let site = input.sound::<Site>().next().context("there is no active skupper site in this namespace")?;
    if site.spec.edge {
        bail!(EDGE_CANNOT_ACCEPT);
    }
    let has_access = input.sound::<RouterAccess>().any(|access| derive::accepts_links(&access.spec));
    if !site.spec.has_link_access() && !has_access {
        let advice = format!("\"van -n {} site update --enable-link-access\" does it", namespace.name());
        bail!("You must enable link access for this site before you can create a token. {advice}");
    }
    Ok(site.clone())
}

/// Waits until the site serves a grant, and writes the token for it.
fn issue(
    namespace: &Namespace,
    grant: &AccessGrant,
    patience: Patience,
    link_cost: u32,
    draft: Draft,
) -> anyhow::Result<()> {
    say("Waiting for token status ...\n")?;
    let name = &grant.metadata.name;
    let grant = wait_for(namespace, name, &grant.spec, patience, format_args!("Grant {name:?}"))?;
    draft.write(&van_site::token(&grant, link_cost))
}
