//! Links that this router attaches by itself to nodes of programs: on the connections whose container, or whose entity, each
//! names. One that is refused or lost is tried again as long as the connection is there.
//!
//! ```text
//!   inactive ──► attaching ──► active        a connection it is for comes up; the peer answers
//!       ▲            │  ▲         │
//!       │            ▼  │         │
//!       └───────── failed ◄───────┘          refused, detached; again after a rest
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::consumers::Class;
use super::core::{Core, Output};
use crate::amqp::Condition;
use crate::plane::{ConnectionId, ConnectionRef, EndpointId, LinkConsumer, Load, PeerKind, WantedLink};

/// How long a link rests after it was refused or lost. Source: skupper-router.
pub(super) const REST: Duration = Duration::from_secs(5);

/// Deliveries that may be under way into the router. Source: skupper-router, `linkCapacity`.
const CREDIT: u32 = 250;

/// A link that a router attaches by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoLink {
    /// The address here; without one messages say themselves where they go.
    pub address: Option<Arc<str>>,
    /// Whether messages go out of the router.
    pub is_out: bool,
    /// The container id of the peer …
    pub container: Option<String>,
    /// … or the name of the connector or listener of the connection.
    pub connection: Option<String>,
    /// The address there, if it is another.
    pub external_address: Option<Arc<str>>,
}

/// How an [`AutoLink`] is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AutoLinkStatus {
    /// There is no connection for it.
    #[default]
    Inactive,
    /// The peer is asked.
    Attaching,
    /// Messages pass.
    Active,
    /// Refused or detached, for this reason; it is tried again.
    Failed(String),
}

/// All of a router's.
#[derive(Debug, Default)]
pub(super) struct AutoLinks {
    links: BTreeMap<String, Running>,
    /// Connections to programs, by the name of the entity they belong to and the peer's container id.
    containers: BTreeMap<ConnectionId, (ConnectionRef, String, String)>,
    last: u64,
}

#[derive(Debug)]
struct Running {
    link: AutoLink,
    status: AutoLinkStatus,
    /// The connection it is on, or asked for on, and by which number.
    at: Option<(ConnectionRef, u64)>,
    endpoint: Option<EndpointId>,
    retry_at: Option<Instant>,
}

/// In labels of wanted links: those of automatic ones.
const LABEL: u64 = 1 << 63;

impl AutoLinks {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.links.values().filter_map(|running| running.retry_at).min()
    }

    /// Connections to programs.
    pub(super) fn programs(&self) -> BTreeSet<ConnectionId> {
        self.containers.keys().copied().collect()
    }

    fn on(&mut self, endpoint: EndpointId) -> Option<(&String, &mut Running)> {
        self.links.iter_mut().find(|(_, running)| running.endpoint == Some(endpoint))
    }
}

impl Core {
    /// Adds a link to be attached by itself, under a name of its own.
    pub fn add_auto_link(&mut self, now: Instant, name: &str, link: AutoLink) {
        let running = Running { link, status: AutoLinkStatus::Inactive, at: None, endpoint: None, retry_at: None };
        self.auto_links.links.insert(name.to_owned(), running);
        self.try_auto_links(now);
    }

    /// Takes back [`Core::add_auto_link`].
    pub fn remove_auto_link(&mut self, now: Instant, name: &str) {
        let Some(running) = self.auto_links.links.remove(name) else { return };
        if let Some(endpoint) = running.endpoint {
            self.auto_link_ended(now, &running.link, endpoint);
            self.outputs.push_back(Output::DetachLink { endpoint });
            self.consumers_changed();
        }
    }

    /// How an automatic link is doing; `None` if there is none of that name.
    pub fn auto_link_status(&self, name: &str) -> Option<&AutoLinkStatus> {
        self.auto_links.links.get(name).map(|running| &running.status)
    }

    /// The link that an automatic link is, while it is active.
    pub fn auto_link_endpoint(&self, name: &str) -> Option<EndpointId> {
        self.auto_links.links.get(name)?.endpoint
    }

    /// A connection to a program is up, of the entity of that name.
    pub(super) fn add_container(&mut self, now: Instant, at: ConnectionRef, entity: String, container: String) {
        self.auto_links.containers.insert(at.id, (at, entity, container));
        self.try_auto_links(now);
    }

    pub(super) fn remove_container(&mut self, now: Instant, id: ConnectionId) {
        if self.auto_links.containers.remove(&id).is_none() {
            return;
        }
        // Their links are reported lost too: by then they may be asked for elsewhere.
        let mut ended = Vec::new();
        for running in self.auto_links.links.values_mut().filter(|it| it.at.is_some_and(|(at, _)| at.id == id)) {
            running.at = None;
            running.status = AutoLinkStatus::Inactive;
            ended.extend(running.endpoint.take().map(|endpoint| (running.link.clone(), endpoint)));
        }
        for (link, endpoint) in ended {
            self.auto_link_ended(now, &link, endpoint);
        }
        self.try_auto_links(now);
    }

    /// Asks for every link that is nowhere and has a connection to be on.
    pub(super) fn try_auto_links(&mut self, now: Instant) {
        let AutoLinks { links, containers, last } = &mut self.auto_links;
        for running in links.values_mut().filter(|running| running.at.is_none()) {
            if running.retry_at.is_some_and(|at| at > now) {
                continue;
            }
            // It is over, whether there is a connection or not: nothing is due any more.
            running.retry_at = None;
            let link = &running.link;
            let is_for = |entity: &String, container: &String| {
                let is_container = link.container.as_ref().is_none_or(|wanted| wanted == container);
                let is_entity = link.connection.as_ref().is_none_or(|wanted| wanted == entity);
                is_container && is_entity
            };
            let found = containers.values().find(|(_, entity, container)| is_for(entity, container));
            let Some(on) = found.map(|(at, ..)| *at) else {
                running.status = AutoLinkStatus::Inactive;
                continue;
            };
            *last += 1;
            let label = *last | LABEL;
            running.at = Some((on, label));
            running.status = AutoLinkStatus::Attaching;
            let link = WantedLink {
                label,
                is_sender: link.is_out,
                peer_address: link.external_address.clone().or_else(|| link.address.clone()),
                address: link.address.clone(),
                capability: None,
                is_control: false,
                credit: if link.is_out { 0 } else { CREDIT },
            };
            self.outputs.push_back(Output::AttachLink { on, link });
        }
    }

    /// The peer has accepted a link that we asked for; false if it is none of these.
    pub(super) fn auto_link_attached(&mut self, now: Instant, label: u64, endpoint: EndpointId) -> bool {
        let found = self.auto_links.links.values_mut().find(|it| it.at.is_some_and(|(_, of)| of == label));
        let Some(running) = found else {
            let is_ours = label & LABEL != 0;
            if is_ours {
                // It was removed meanwhile.
                self.outputs.push_back(Output::DetachLink { endpoint });
            }
            return is_ours;
        };
        running.endpoint = Some(endpoint);
        running.status = AutoLinkStatus::Active;
        if let Some(address) = running.link.address.clone().filter(|_| running.link.is_out) {
            let link = LinkConsumer { id: endpoint, peer: PeerKind::Client, mesh: None, load: Load::default() };
            if let Some(mobile) = self.directory.add_link(Class::Mobile, &address, link) {
                self.engine.advertise(now, mobile);
            }
            self.is_stale = true;
        }
        true
    }

    /// The peer has refused a link that we asked for.
    pub(super) fn auto_link_refused(&mut self, now: Instant, label: u64, reason: Option<&Condition>) {
        let found = self.auto_links.links.values_mut().find(|it| it.at.is_some_and(|(_, of)| of == label));
        if let Some(running) = found {
            running.fail(now, reason);
        }
    }

    /// A link is gone.
    pub(super) fn auto_link_lost(&mut self, now: Instant, endpoint: EndpointId, reason: Option<&Condition>) {
        let Some((_, running)) = self.auto_links.on(endpoint) else { return };
        running.endpoint = None;
        running.fail(now, reason);
        let link = running.link.clone();
        self.auto_link_ended(now, &link, endpoint);
    }

    fn auto_link_ended(&mut self, now: Instant, link: &AutoLink, endpoint: EndpointId) {
        if let Some(address) = link.address.as_ref().filter(|_| link.is_out) {
            if let Some(key) = self.directory.remove_link(Class::Mobile, address, endpoint) {
                self.engine.withdraw(now, &key);
            }
            self.is_stale = true;
        }
    }
}

impl Running {
    fn fail(&mut self, now: Instant, reason: Option<&Condition>) {
        let reason = reason.map_or_else(|| "detached by the peer".to_owned(), Condition::to_string);
        self.status = AutoLinkStatus::Failed(reason);
        self.at = None;
        self.retry_at = Some(now + REST);
    }
}
