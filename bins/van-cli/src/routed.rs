//! What listeners and connectors have in common: a routing key, a host, a port, and the commands that set them.

use anyhow::anyhow;
use van_site::document::{Document, Key};
use van_site::folder::Namespace;
use van_site::load::Documents;
use van_site::names;
use van_site::resource::Resource;

use crate::document_status::Listed;
use crate::documents::{delete, keys, unknown};
use crate::failure::{Failure, Problems};
use crate::output::{Output, say};
use crate::place::Place;
use crate::wait::{Goal, Patience, Waiting, wait_for};

/// A listener or a connector.
pub(crate) trait Routed: Listed {
    /// Sets what is given.
    fn apply(&mut self, change: Change);

    /// Looks for documents that it cannot be beside.
    fn check_beside(&self, _name: &str, _others: &Documents) -> anyhow::Result<()> {
        Ok(())
    }

    /// The document of it.
    fn document(resource: Resource<Self>) -> Document;
}

/// What is to be set; nothing stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) routing_key: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) tls_credentials: Option<String>,
    pub(crate) protocol: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Fields {
    /// Joins listeners to connectors all over the network
    #[arg(short, long, value_name = "KEY")]
    routing_key: Option<String>,
    /// A host name or an IP address
    #[arg(long)]
    host: Option<String>,
    /// The Secret with what TLS needs here, or the name of a certificate that the site makes
    #[arg(long, value_name = "NAME")]
    tls_credentials: Option<String>,
    /// The protocol
    #[arg(long = "type", value_name = "TYPE", value_parser = ["tcp"])]
    protocol: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// Its name, and its routing key unless --routing-key says otherwise
    name: String,
    /// A port from 1 to 65535
    port: String,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Update {
    /// Its name
    name: String,
    /// A port from 1 to 65535
    #[arg(long)]
    port: Option<String>,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Delete {
    /// Its name
    name: String,
}

impl Fields {
    fn check(&self, problems: &mut Problems) -> Change {
        let Self { routing_key, host, tls_credentials, protocol } = self;
        if routing_key.as_ref().is_some_and(String::is_empty) {
            problems.note("--routing-key: it is empty; leave it out to use the name");
        }
        problems.check_option("--routing-key", routing_key.as_deref(), names::routing_key);
        problems.check_option("--host", host.as_deref(), names::host);
        problems.check_option("--tls-credentials", tls_credentials.as_deref(), names::resource_name);
        Change {
            routing_key: routing_key.clone(),
            host: host.clone(),
            port: None,
            tls_credentials: tls_credentials.clone(),
            protocol: protocol.clone(),
        }
    }
}

/// Makes a listener or a connector.
pub(crate) fn create<S: Routed>(place: &Place, arguments: &Create) -> Result<(), Failure> {
    let Create { name, port, fields, waiting, output } = arguments;
    let mut problems = Problems::default();
    let namespace = place.checked_namespace(&mut problems);
    problems.check("<NAME>", names::resource_name(name));
    let port = problems.check("<PORT>", names::port(port));
    let Change { routing_key, host, tls_credentials, protocol, .. } = fields.check(&mut problems);
    let patience = waiting.check(&mut problems);
    problems.finish()?;

    let input = namespace.load_input();
    if keys(&input).contains(&Key::new(S::KIND, name)) {
        let noun = S::KIND.name().to_lowercase();
        let there = format!("there is a {noun} {name:?} in namespace {:?} already", namespace.name());
        return Err(anyhow!("{there}; change it with \"van -n {} {noun} update\"", namespace.name()).into());
    }
    let routing_key = routing_key.or_else(|| Some(name.clone()));
    let mut resource = Resource::new(name, S::default());
    resource.spec.apply(Change { routing_key, host, port: Some(port), tls_credentials, protocol });
    resource.spec.check_beside(name, &input)?;
    Ok(store(&namespace, resource, patience, output, "create")?)
}

/// Changes what is named, and nothing else.
pub(crate) fn update<S: Routed>(place: &Place, arguments: &Update) -> Result<(), Failure> {
    let Update { name, port, fields, waiting, output } = arguments;
    let mut problems = Problems::default();
    let namespace = place.checked_namespace(&mut problems);
    let change =
        Change { port: problems.check_option("--port", port.as_deref(), names::port), ..fields.check(&mut problems) };
    let patience = waiting.check(&mut problems);
    if change == Change::default() {
        problems.note("there is nothing to change: say what, for example --port 8080");
    }
    problems.finish()?;

    let input = namespace.load_input();
    let entry = input.entry(S::KIND, name);
    let Some(resource) = entry.and_then(|entry| S::of(&entry.document)) else {
        return Err(anyhow!(unknown(&namespace, &input, S::KIND, name)).into());
    };
    let mut resource = resource.clone();
    resource.spec.apply(change);
    resource.spec.check_beside(name, &input)?;
    Ok(store(&namespace, resource, patience, output, "update")?)
}

/// Removes a listener or a connector.
pub(crate) fn remove<S: Routed>(place: &Place, arguments: &Delete) -> Result<(), Failure> {
    let Delete { name } = arguments;
    let namespace = place.namespace()?;
    delete(&namespace, S::KIND, name)?;
    Ok(say(format_args!("{} {name:?} deleted", S::KIND))?)
}

fn store<S: Routed>(
    namespace: &Namespace,
    resource: Resource<S>,
    patience: Patience,
    output: &Output,
    deed: &str,
) -> anyhow::Result<()> {
    patience.check_controller(namespace)?;
    let path = namespace.put_input(&S::document(resource.clone()))?;
    output.say(format_args!("File written to {}", path.display()))?;
    if !patience.is_asked() {
        return output.print(&[resource]);
    }
    let subject = format!("{} {:?}", S::KIND, resource.metadata.name);
    output.say(format_args!("Waiting for {deed} to complete..."))?;
    let resource = wait_for(namespace, &resource.metadata.name, &resource.spec, patience, &subject)?;
    // The full stop is there in one of the original's sentences, and not in the other.
    let end = if patience.goal == Goal::Configured { "." } else { "" };
    output.say(format_args!("{subject} is {}{end}", patience.goal.word()))?;
    output.print(&[resource])
}
