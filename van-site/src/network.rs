//! The network as a site sees it: gathered from what all routers tell of themselves (VanFlow).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::debug;
use van_adaptors::{Messages, Subscription};
use van_core::flow::{Collector, NetworkView, Output};
use van_core::plane::Routes;
use van_routing::{RouterId, Treatment};

use crate::controller::sleep_until;
use crate::resource::site::{LinkRecord, ServiceRecord, SiteRecord};

/// Messages of all sources that may wait.
const WAITING: usize = 256;

/// How long news wait for others, so that a burst of them is looked at once.
const SETTLE: Duration = Duration::from_millis(10);

/// How long subscriptions wait for others for every source there is. All routers of the network hear of each, and all
/// collectors subscribe to somebody new at the same time.
const SPREAD: Duration = Duration::from_millis(30);

/// How often longer than looking at them took: in a large network that takes its time, and there is always news.
const REST: u32 = 10;

/// How long a router must be out of reach before what it told is forgotten. Others still know its addresses for a while,
/// and links may come back at once.
const LOST: Duration = Duration::from_secs(2);

/// Gathers until the router stops, or this is dropped.
pub(crate) async fn gather(
    messages: Messages,
    mut routes: watch::Receiver<Arc<Routes>>,
    view: watch::Sender<Arc<NetworkView>>,
) {
    let mut collector = Collector::new();
    let (inbox, mut received) = mpsc::channel::<(Arc<str>, Bytes)>(WAITING);
    let mut subscriptions = Subscriptions::default();
    let mut lost = Lost::new(Arc::clone(&routes.borrow_and_update()));
    let mut found = Vec::<Arc<str>>::new();
    let mut subscribe_at: Option<Instant> = None;
    let mut subscribable_at = Instant::now();
    let mut show_at: Option<Instant> = None;
    let mut settle = SETTLE;
    loop {
        while let Some(output) = collector.poll_output() {
            match output {
                Output::Subscribe(address) => {
                    found.push(address);
                    subscribe_at = Some(subscribable_at);
                }
                Output::Unsubscribe(address) => {
                    found.retain(|found| *found != address);
                    subscriptions.remove(&address);
                }
                // Nobody may be there to hear it, or it gets lost; the collector asks again.
                Output::Send(outgoing) => drop(messages.send(&outgoing.to, outgoing.message)),
                Output::Changed => show_at = show_at.or(Some(Instant::now() + settle)),
            }
        }
        let timeout = collector.poll_timeout();
        tokio::select! {
            Some((address, message)) = received.recv() => {
                if let Err(error) = collector.handle_message(Instant::now(), &address, &message) {
                    debug!(%address, %error, "unreadable record");
                }
            }
            changed = routes.changed() => {
                if changed.is_err() {
                    return;
                }
                lost.note(&routes.borrow_and_update(), Instant::now());
            }
            () = sleep_until(subscribe_at) => {
                subscribe_at = None;
                subscribable_at = Instant::now() + SPREAD * collector.sources() as u32;
                found.drain(..).for_each(|address| subscriptions.add(&messages, address, &inbox));
            }
            () = sleep_until(lost.due()) => {
                lost.take_due(Instant::now()).for_each(|router| collector.handle_router_lost(&router));
                if lost.take_network_due(Instant::now()) {
                    collector.handle_network_lost(lost.routes.id.as_str());
                }
            }
            () = sleep_until(timeout) => collector.handle_timeout(Instant::now()),
            () = sleep_until(show_at) => {
                show_at = None;
                let begun = Instant::now();
                let seen = NetworkView::new(&collector);
                if **view.borrow() != seen {
                    view.send_replace(Arc::new(seen));
                }
                settle = SETTLE.max(begun.elapsed() * REST);
            }
        }
    }
}

/// Routers that cannot be reached any more, and since when.
struct Lost {
    routes: Arc<Routes>,
    since: BTreeMap<String, Instant>,
    /// Since when this is an edge router without a way to the network, unless that was acted on.
    network_since: Option<Instant>,
}

impl Lost {
    fn new(routes: Arc<Routes>) -> Self {
        Self { routes, since: BTreeMap::new(), network_since: None }
    }

    /// Compares who can be reached now with who could before.
    fn note(&mut self, routes: &Arc<Routes>, now: Instant) {
        let before = std::mem::replace(&mut self.routes, Arc::clone(routes));
        if routes.uplink.is_some() {
            self.network_since = None;
        } else if before.uplink.is_some() {
            self.network_since = Some(now);
        }
        if Arc::ptr_eq(&before.table, &routes.table) && Arc::ptr_eq(&before.edges, &routes.edges) {
            return;
        }
        let interiors = before.table.routes().map(|(router, _)| router.as_str());
        let edges = before.edges.keys().map(|edge| &**edge).filter(|edge| before.is_edge_reachable(edge));
        let lost = interiors.chain(edges).filter(|router| !is_reachable(routes, router));
        for router in lost {
            self.since.entry(router.to_owned()).or_insert(now);
        }
        self.since.retain(|router, _| !is_reachable(routes, router));
    }

    fn due(&self) -> Option<Instant> {
        self.since.values().chain(&self.network_since).min().map(|since| *since + LOST)
    }

    fn take_due(&mut self, now: Instant) -> impl Iterator<Item = String> + use<'_> {
        self.since.extract_if(.., move |_, since| *since + LOST <= now).map(|(router, _)| router)
    }

    fn take_network_due(&mut self, now: Instant) -> bool {
        self.network_since.take_if(|since| *since + LOST <= now).is_some()
    }
}

/// Whether an interior router, or an edge router, can be reached from an interior one.
fn is_reachable(routes: &Routes, router: &str) -> bool {
    routes.is_edge_reachable(router) || RouterId::new(router).is_ok_and(|router| routes.table.route(&router).is_some())
}

/// Consumed addresses, a task each.
#[derive(Default)]
struct Subscriptions {
    tasks: JoinSet<()>,
    by_address: std::collections::HashMap<Arc<str>, tokio::task::AbortHandle>,
}

impl Subscriptions {
    fn add(&mut self, messages: &Messages, address: Arc<str>, inbox: &mpsc::Sender<(Arc<str>, Bytes)>) {
        let subscription = messages.subscribe(&address, Treatment::MulticastOnce);
        let task = self.tasks.spawn(pass_on(subscription, Arc::clone(&address), inbox.clone()));
        self.by_address.insert(address, task);
    }

    fn remove(&mut self, address: &str) {
        if let Some(task) = self.by_address.remove(address) {
            task.abort();
        }
        while self.tasks.try_join_next().is_some() {}
    }
}

async fn pass_on(mut subscription: Subscription, address: Arc<str>, inbox: mpsc::Sender<(Arc<str>, Bytes)>) {
    while let Some(message) = subscription.recv().await {
        if inbox.send((Arc::clone(&address), message)).await.is_err() {
            return;
        }
    }
}

/// The network as the status of a Site shows it.
pub fn records(view: &NetworkView) -> Vec<SiteRecord> {
    view.sites
        .iter()
        .map(|site| SiteRecord {
            id: site.id.clone(),
            name: site.name.clone(),
            namespace: site.namespace.clone(),
            platform: site.platform.clone(),
            version: site.version.clone(),
            links: site
                .links
                .iter()
                .map(|link| {
                    let remote = link.remote.clone().unwrap_or_default();
                    LinkRecord {
                        name: link.name.clone(),
                        remote_site_id: remote.id,
                        remote_site_name: remote.name,
                        operational: link.is_operational,
                    }
                })
                .collect(),
            services: site
                .services
                .iter()
                .map(|service| ServiceRecord {
                    routing_key: service.key.clone(),
                    connectors: service.connectors.iter().cloned().collect(),
                    listeners: service.listeners.iter().map(|name| document_name(name)).collect(),
                })
                .collect(),
        })
        .collect()
}

/// The name of the document behind an entity.
pub(crate) fn document_name(entity: &str) -> String {
    entity.split_once('/').map_or(entity, |(_, name)| name).to_owned()
}
