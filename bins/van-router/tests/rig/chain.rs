//! Three routers linked by mutual TLS, as processes.
//!
//! ```text
//! clients ──TCP──► listener ──TLS──► transit ◄──TLS── connector ──TCP──► workloads
//! ```

use std::net::SocketAddr;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::certificates::Certificates;
use super::router::{Plan, Router};
use super::site::{Site, Sites};

/// Data connections of each link, unless the attributes say otherwise.
const DATA_CONNECTIONS: u64 = 2;

/// The routers, each with the same attributes.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(crate) listener: Router,
    pub(crate) transit: Router,
    pub(crate) connector: Router,
    /// Where clients are.
    pub(crate) site: Site,
    entrances: Vec<SocketAddr>,
    _folder: TempDir,
}

impl Chain {
    /// Starts all three, and waits until the links are complete and every workload can be reached.
    pub(crate) fn start(sites: &Sites, attributes: &Value, workloads: &[SocketAddr]) -> Self {
        let mut attributes = attributes.clone();
        let data_connections = attributes["dataConnectionCount"].as_u64().unwrap_or(DATA_CONNECTIONS);
        attributes["dataConnectionCount"] = json!(data_connections);
        let folder = tempfile::tempdir().expect("a folder can be made");
        let certificates = Certificates::new(folder.path());
        let entrances: Vec<_> = workloads.iter().map(|_| sites.listener.free_address()).collect();
        let mut listener = Plan::new("listener", &attributes).linked_to(sites.accesses[0]);
        let mut connector = Plan::new("connector", &attributes).linked_to(sites.accesses[1]);
        for (number, (entrance, workload)) in entrances.iter().zip(workloads).enumerate() {
            let key = format!("workload-{number}");
            listener = listener.listening(&key, *entrance);
            connector = connector.connecting(&key, *workload);
        }
        let transit = Plan::new("transit", &attributes).accepting(&sites.accesses);
        let start = |site, plan| Router::start(site, folder.path(), &certificates, plan);
        let chain = Self {
            transit: start(&sites.transit, transit),
            listener: start(&sites.listener, listener),
            connector: start(&sites.connector, connector),
            site: sites.listener.clone(),
            entrances,
            _folder: folder,
        };
        let connections = 1 + usize::try_from(data_connections).expect("a few");
        for access in &sites.accesses {
            super::wait_until("a link is complete", || chain.transit.connections_at(access.port()) == connections);
        }
        chain.wait_until_reachable();
        chain
    }

    /// Where clients reach a workload.
    pub(crate) fn entrance(&self, workload: usize) -> SocketAddr {
        self.entrances[workload]
    }

    /// The listener's ports are closed until somebody consumes their routing keys.
    fn wait_until_reachable(&self) {
        for entrance in &self.entrances {
            super::wait_until("a workload can be reached", || self.site.has_listener(entrance.port()));
        }
    }

    pub(crate) fn routers(&self) -> [&Router; 3] {
        [&self.listener, &self.transit, &self.connector]
    }
}
