//! `van listener`: where clients come in.

use anyhow::bail;
use van_site::check::Fault;
use van_site::document::Document;
use van_site::load::Documents;
use van_site::resource::listener::ListenerSpec;
use van_site::resource::{Listener, Resource};

use crate::document_status::{self, Listed, state_and_message};
use crate::failure::Failure;
use crate::place::Place;
use crate::routed::{self, Change, Routed};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a listener: clients that connect there reach the connectors of its routing key
    #[command(mut_arg("host", |host| host.default_value("0.0.0.0").help("The address to listen at")))]
    #[command(after_help = "Example, with an answer as soon as clients can come:
  van -n east listener create backend 19090 --host 127.0.0.1 --wait ready")]
    Create(routed::Create),
    /// Change what is named here, and nothing else
    #[command(after_help = "Example:\n  van -n east listener update backend --port 9091")]
    Update(routed::Update),
    /// Show how listeners fare
    Status(document_status::Arguments),
    /// Remove a listener
    Delete(routed::Delete),
}

impl Listed for ListenerSpec {
    const TITLES: &[&str] = &["name", "status", "routing-key", "host", "port", "matching-connector", "message"];
    const LABELS: &[&str] =
        &["Name:\t", "Status:\t", "Routing key:\t", "Host:\t", "Port:\t", "Has Matching Connector:\t", "Message:\t"];
    const NONE: &str = "No listeners found";

    fn row(listener: &Resource<Self>) -> Vec<String> {
        let Resource { metadata, spec, status } = listener;
        let [state, message] = state_and_message(&status.common);
        vec![
            metadata.name.clone(),
            state,
            spec.routing_key.clone(),
            spec.host.clone(),
            spec.port.to_string(),
            status.has_matching_connector.to_string(),
            message,
        ]
    }
}

impl Routed for ListenerSpec {
    fn apply(&mut self, change: Change) {
        let Change { routing_key, host, port, tls_credentials, protocol } = change;
        self.routing_key = routing_key.unwrap_or_else(|| self.routing_key.clone());
        self.host = host.unwrap_or_else(|| self.host.clone());
        self.port = port.unwrap_or(self.port);
        self.tls_credentials = tls_credentials.or_else(|| self.tls_credentials.take());
        self.protocol = protocol.or_else(|| self.protocol.take());
    }

    fn check_beside(&self, name: &str, others: &Documents) -> anyhow::Result<()> {
        let is_there = |other: &&Listener| {
            other.metadata.name != name && (&other.spec.host, other.spec.port) == (&self.host, self.port)
        };
        if let Some(other) = others.sound::<Listener>().find(is_there) {
            let (name, host, port) = (other.metadata.name.clone(), self.host.clone(), self.port);
            bail!("{}; choose another port", Fault::ListenerTaken { name, host, port });
        }
        Ok(())
    }

    fn document(listener: Listener) -> Document {
        listener.into()
    }
}

pub(crate) fn run(place: &Place, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Create(arguments) => routed::create::<ListenerSpec>(place, arguments),
        Command::Update(arguments) => routed::update::<ListenerSpec>(place, arguments),
        Command::Status(arguments) => document_status::run::<ListenerSpec>(place, arguments),
        Command::Delete(arguments) => routed::remove::<ListenerSpec>(place, arguments),
    }
}
