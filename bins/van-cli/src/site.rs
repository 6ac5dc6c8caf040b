//! `van site`: the site of a namespace.

use std::collections::BTreeSet;

use anyhow::{anyhow, bail};
use clap::{ArgAction, ArgGroup};
use van_site::document::{Content, Key};
use van_site::folder::Namespace;
use van_site::load::Documents;
use van_site::names;
use van_site::resource::site::SiteSpec;
use van_site::resource::{Kind, Resource, Site};
use van_site::status::EDGE_CANNOT_ACCEPT;

use crate::document_status::{self, Listed, state_and_message};
use crate::documents::{delete, keys, unknown};
use crate::failure::{Failure, Problems};
use crate::output::{Output, say};
use crate::place::Place;
use crate::wait::{Waiting, wait_for};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make the site of a namespace; "van system start" starts it
    #[command(mut_arg("timeout", |timeout| timeout.default_value("3m")))]
    #[command(
        after_help = "Example, a site that others can link to:\n  van -n west site create west --enable-link-access"
    )]
    Create(Create),
    /// Change what is named here, and nothing else
    #[command(mut_arg("timeout", |timeout| timeout.default_value("30s")))]
    #[command(after_help = "Example:\n  van -n west site update --enable-link-access=false")]
    Update(Update),
    /// Show how the site fares
    Status(document_status::Arguments),
    /// Remove the site
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// The name that other sites see
    name: String,
    /// Let other sites link to this one
    #[arg(long)]
    enable_link_access: bool,
    /// Make it an edge site: one that nobody links to, with one of its own links in use at a time
    #[arg(long, conflicts_with = "enable_link_access")]
    edge: bool,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
#[command(group = ArgGroup::new("change").required(true).multiple(true))]
pub(crate) struct Update {
    /// The site; may be left out, since there is only one
    name: Option<String>,
    /// Let other sites link to this one, or not
    #[arg(long, action = ArgAction::Set, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", group = "change")]
    enable_link_access: Option<bool>,
    /// Make it an edge site, or an interior one; its router starts anew, and streams end
    #[arg(long, action = ArgAction::Set, value_name = "BOOL")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true", group = "change")]
    edge: Option<bool>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// The site; may be left out, since there is only one
    name: Option<String>,
    /// Remove all other documents of the namespace, too
    #[arg(long)]
    all: bool,
}

impl Listed for SiteSpec {
    const TITLES: &[&str] = &["name", "status", "message"];
    const LABELS: &[&str] = &[];
    const NONE: &str = "There is no existing Skupper site resource";

    fn row(site: &Resource<Self>) -> Vec<String> {
        let [state, message] = state_and_message(&site.status.common);
        vec![site.metadata.name.clone(), state, message]
    }
}

pub(crate) fn run(place: &Place, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Create(arguments) => create(place, arguments),
        Command::Update(arguments) => update(place, arguments),
        Command::Status(arguments) => document_status::run::<SiteSpec>(place, arguments),
        Command::Delete(arguments) => remove(place, arguments),
    }
}

fn create(place: &Place, arguments: &Create) -> Result<(), Failure> {
    let Create { name, output, .. } = arguments;
    let mut problems = Problems::default();
    let namespace = place.checked_namespace(&mut problems);
    problems.check("<NAME>", names::resource_name(name));
    let patience = arguments.waiting.check(&mut problems);
    problems.finish()?;

    if keys(&namespace.load_input()).iter().any(|key| key.kind == Kind::Site) {
        return Err(anyhow!("There is already a site created for this namespace").into());
    }
    patience.check_controller(&namespace)?;
    let link_access = arguments.enable_link_access.then(|| "default".to_owned());
    let site = Site::new(name, SiteSpec { link_access, edge: arguments.edge, ..SiteSpec::default() });
    let path = namespace.put_input(&site.clone().into())?;
    output.say(format_args!("File written to {}", path.display()))?;
    if !patience.is_asked() {
        return Ok(output.print(&[site])?);
    }
    output.say("Waiting for status...")?;
    let site = wait_for(&namespace, name, &site.spec, patience, format_args!("Site {name:?}"))?;
    output.say(format_args!("Site {name:?} is {}.", patience.goal.word()))?;
    Ok(output.print(&[site])?)
}

fn update(place: &Place, arguments: &Update) -> Result<(), Failure> {
    let Update { output, .. } = arguments;
    let mut problems = Problems::default();
    let namespace = place.checked_namespace(&mut problems);
    let patience = arguments.waiting.check(&mut problems);
    problems.finish()?;

    let mut site = only(&namespace, &namespace.load_input(), arguments.name.as_deref())?;
    patience.check_controller(&namespace)?;
    if let Some(is_enabled) = arguments.enable_link_access {
        site.spec.link_access = Some(if is_enabled { "default" } else { "none" }.to_owned());
    }
    site.spec.edge = arguments.edge.unwrap_or(site.spec.edge);
    if site.spec.edge && site.spec.has_link_access() {
        return Err(anyhow!("{EDGE_CANNOT_ACCEPT}; add --enable-link-access=false, or --edge=false").into());
    }
    let path = namespace.put_input(&site.clone().into())?;
    output.say(format_args!("File written to {}", path.display()))?;
    if !patience.is_asked() {
        return Ok(output.print(&[site])?);
    }
    output.say("Waiting for update to complete...")?;
    let name = &site.metadata.name;
    let site = wait_for(&namespace, name, &site.spec, patience, format_args!("Site {name:?}"))?;
    output.say(format_args!("Site {name:?} is updated", name = site.metadata.name))?;
    Ok(output.print(&[site])?)
}

fn remove(place: &Place, arguments: &Delete) -> Result<(), Failure> {
    let namespace = place.namespace()?;
    let input = namespace.load_input();
    let name = arguments.name.as_deref();
    let site = || only(&namespace, &input, name).map(|site| Key::new(Kind::Site, site.metadata.name));
    let keys = match (name, arguments.all) {
        (None, true) => keys(&input),
        (Some(_), true) => site().map(|_| keys(&input))?,
        (_, false) => BTreeSet::from([site()?]),
    };
    // In the order of kinds the site goes first: what is left of it then serves nobody.
    for key in keys {
        delete(&namespace, key.kind, &key.name)?;
        say(format_args!("{} {:?} is deleted", key.kind, key.name))?;
    }
    Ok(())
}

/// The site of a namespace, which may be called by its name; of several the one that is carried out.
fn only(namespace: &Namespace, input: &Documents, name: Option<&str>) -> anyhow::Result<Site> {
    let sites = || input.entries().filter_map(|entry| Site::of(&entry.document));
    let found = match name {
        Some(name) => sites().find(|site| site.metadata.name == name),
        None => input.sound::<Site>().next().or_else(|| sites().next()),
    };
    match (found, name) {
        (Some(site), _) => Ok(site.clone()),
        (None, Some(name)) => bail!(unknown(namespace, input, Kind::Site, name)),
        (None, None) => bail!(SiteSpec::NONE),
    }
}
