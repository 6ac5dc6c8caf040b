//! `van connector`: where workloads are reached.

use van_site::document::Document;
use van_site::resource::connector::ConnectorSpec;
use van_site::resource::{Connector, Resource};

use crate::document_status::{self, Listed, state_and_message};
use crate::failure::Failure;
use crate::place::Place;
use crate::routed::{self, Change, Routed};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a connector: clients of its routing key, at whichever site, reach the workload there
    #[command(mut_arg("host", |host| host.default_value("localhost").help("Where the workload is")))]
    #[command(after_help = "Example:\n  van -n west connector create backend 8080 --host 127.0.0.1")]
    Create(routed::Create),
    /// Change what is named here, and nothing else
    #[command(after_help = "Example:\n  van -n west connector update backend --port 8081")]
    Update(routed::Update),
    /// Show how connectors fare
    Status(document_status::Arguments),
    /// Remove a connector
    Delete(routed::Delete),
}

impl Listed for ConnectorSpec {
    const TITLES: &[&str] =
        &["name", "status", "routing-key", "selector", "host", "port", "has matching listener", "message"];
    const LABELS: &[&str] = &[
        "Name:\t",
        "Status:\t",
        "Routing key:\t",
        "Selector:\t",
        "Host:\t",
        "Port:\t",
        "Has Matching Listener:\t",
        "Message:\t",
    ];
    const NONE: &str = "No connectors found";

    fn row(connector: &Resource<Self>) -> Vec<String> {
        let Resource { metadata, spec, status } = connector;
        let [state, message] = state_and_message(&status.common);
        vec![
            metadata.name.clone(),
            state,
            spec.routing_key.clone(),
            spec.selector.clone().unwrap_or_default(),
            spec.host.clone().unwrap_or_default(),
            spec.port.to_string(),
            status.has_matching_listener.to_string(),
            message,
        ]
    }
}

impl Routed for ConnectorSpec {
    fn apply(&mut self, change: Change) {
        let Change { routing_key, host, port, tls_credentials, protocol } = change;
        if host.is_some() {
            // One of them says where the workload is.
            self.selector = None;
            self.host = host;
        }
        self.routing_key = routing_key.unwrap_or_else(|| self.routing_key.clone());
        self.port = port.unwrap_or(self.port);
        self.tls_credentials = tls_credentials.or_else(|| self.tls_credentials.take());
        self.protocol = protocol.or_else(|| self.protocol.take());
    }

    fn document(connector: Connector) -> Document {
        connector.into()
    }
}

pub(crate) fn run(place: &Place, command: &Command) -> Result<(), Failure> {
    match command {
        Command::Create(arguments) => routed::create::<ConnectorSpec>(place, arguments),
        Command::Update(arguments) => routed::update::<ConnectorSpec>(place, arguments),
        Command::Status(arguments) => document_status::run::<ConnectorSpec>(place, arguments),
        Command::Delete(arguments) => routed::remove::<ConnectorSpec>(place, arguments),
    }
}
