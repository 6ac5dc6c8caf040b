//! The control core: connections in use, the routing protocol, consumers, and the picture of all that for the data plane.
//!
//! Like every machine here: `handle_*` what happened, then `poll_output` until it is empty, then `poll_timeout`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use van_routing::{self as routing, Destination, LinkId, Message, MessageError, RouterId, Table, Timing, Treatment};

use super::auto_links::AutoLinks;
use super::consumers::{Class, Directory};
use super::control::{self, MalformedMessage};
use super::distribution::Distribution;
use super::edge::{self, EdgeSide};
use super::links::PeerLinks;
use super::outgoing::Outgoing;
use super::peer::{Admitted, Candidate, Origin, Peers, Risen};
use crate::address::Address;
use crate::amqp::Condition;
use crate::message::{self, Head};
use crate::plane::{
    ConnectionId, ConnectionRef, ConnectorId, EndpointId, Io, LinkAnswer, PeerKind, Plane, Purpose, Report, Routes,
    ShardId, SubscriberId, WantedLink,
};

/// Who a router is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its id, unique in the network.
    pub id: RouterId,
    /// Names this life of it; greater after every restart. Seconds since 1970 will do.
    pub instance: u64,
    /// How many shards its data plane has.
    pub shards: u16,
    /// Set for an edge router: the mesh it belongs to, 15 characters that no other has.
    pub mesh: Option<String>,
}

/// The control plane of a router.
#[derive(Debug)]
pub struct Core {
    node: Arc<str>,
    pub(super) engine: routing::Engine,
    peers: Peers,
    pub(super) directory: Directory,
    pub(super) links: PeerLinks,
    /// Set at an edge router.
    pub(super) edge: Option<EdgeSide>,
    pub(super) auto_links: AutoLinks,
    /// Addresses that somebody here wants to know the reachability of, how many do, and what they were told.
    pub(super) watched: BTreeMap<Arc<str>, (usize, bool)>,
    /// The data plane's picture is out of date.
    pub(super) is_stale: bool,
    routes: Arc<Routes>,
    pub(super) outputs: VecDeque<Output>,
}

/// What a [`Core`] wants done.
#[derive(Debug, Clone)]
pub enum Output {
    /// A new picture for all shards.
    Routes(Arc<Routes>),
    /// A message of the router protocol for a peer.
    Send {
        /// The connection, and its shard.
        to: ConnectionRef,
        /// The message.
        message: Bytes,
    },
    /// A message of this process, for any shard to find its way.
    Message {
        /// The address, if the message does not say itself.
        to: Option<Arc<str>>,
        /// Its sections, without router annotations.
        message: Bytes,
    },
    /// The answer to a link that a peer wants.
    AnswerLink {
        /// The link.
        endpoint: EndpointId,
        /// The answer.
        answer: LinkAnswer,
    },
    /// A link is to be attached.
    AttachLink {
        /// The connection, and its shard.
        on: ConnectionRef,
        /// What link.
        link: WantedLink,
    },
    /// A link is to be detached.
    DetachLink {
        /// The link.
        endpoint: EndpointId,
    },
    /// A message of the control plane for one of its links.
    SendOnLink {
        /// The link.
        endpoint: EndpointId,
        /// The message.
        message: Bytes,
    },
    /// A message for a subscriber.
    Deliver {
        /// Who.
        subscriber: SubscriberId,
        /// The message, behind its router annotations.
        message: Bytes,
    },
    /// A connection is to be closed.
    Close {
        /// The connection, and its shard.
        at: ConnectionRef,
        /// Why; without one it ends as it should.
        condition: Option<Condition>,
    },
    /// A connection is to be closed once nothing runs over it.
    Retire {
        /// The connection, and its shard.
        at: ConnectionRef,
    },
    /// A later generation of its link has taken the place of a connection that we dialled: its control links are to be
    /// detached, and it is to be closed once nothing runs over it and the peer has had time to notice.
    Supersede {
        /// The connection, and its shard.
        at: ConnectionRef,
    },
    /// A later generation of its link has taken the place of a connection that the peer dialled, and will end.
    TakenOver {
        /// The connection.
        connection: ConnectionId,
    },
    /// Whether a watched address has a consumer now.
    Reachable {
        /// The address.
        address: Arc<str>,
        /// Whether it has one.
        is_reachable: bool,
    },
    /// Something an operator may want to know.
    Fact(Fact),
}

/// Something worth a line in the log.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Fact {
    /// A neighbour can be routed to.
    NeighborUp {
        /// The neighbour.
        router: RouterId,
        /// The cost of the link to it.
        cost: u32,
    },
    /// A neighbour is lost.
    NeighborDown {
        /// The neighbour.
        router: RouterId,
    },
    /// Two routers have the same id.
    DuplicateId {
        /// The id.
        router: RouterId,
    },
    /// A peer sent a message of the routing protocol that cannot be read.
    Malformed {
        /// The peer.
        router: String,
        /// What is wrong with it.
        error: MalformedMessage,
    },
    /// A message of the routing protocol was refused.
    Refused {
        /// The peer it came from, which need not be the one that wrote it.
        router: String,
        /// Why.
        error: MessageError,
    },
}

impl Output {
    /// The shard that carries it out; none for what all shards do, or none.
    pub fn shard(&self) -> Option<ShardId> {
        match self {
            Self::Send { to: at, .. }
            | Self::AttachLink { on: at, .. }
            | Self::Close { at, .. }
            | Self::Retire { at }
            | Self::Supersede { at } => Some(at.shard),
            Self::AnswerLink { endpoint, .. } | Self::DetachLink { endpoint } | Self::SendOnLink { endpoint, .. } => {
                Some(endpoint.at.shard)
            }
            Self::Message { .. } => Some(ShardId(0)),
            Self::Routes(_)
            | Self::TakenOver { .. }
            | Self::Deliver { .. }
            | Self::Reachable { .. }
            | Self::Fact(_) => None,
        }
    }

    /// Has a shard carry it out, as far as it is a shard's to do.
    pub fn carry_out(self, plane: &mut Plane, io: &mut impl Io, now: Instant) {
        match self {
            Self::Routes(routes) => plane.set_routes(io, now, routes),
            Self::Send { to, message } => plane.send_control(io, to.id, message),
            Self::Message { to, message } => plane.send_message(io, to, &message),
            Self::AnswerLink { endpoint, answer } => plane.answer_link(io, endpoint, answer),
            Self::AttachLink { on, link } => plane.attach_link(io, on.id, link),
            Self::DetachLink { endpoint } => plane.detach_link(io, endpoint, None),
            Self::SendOnLink { endpoint, message } => plane.send_on_link(io, endpoint, message),
            Self::Close { at, condition } => plane.close_connection(io, at.id, condition),
            Self::Retire { at } => plane.retire(io, at.id),
            Self::Supersede { at } => plane.supersede(io, now, at.id),
            Self::TakenOver { .. } | Self::Deliver { .. } | Self::Reachable { .. } | Self::Fact(_) => {}
        }
    }
}

impl Core {
    /// A router that knows nobody yet.
    pub fn new(identity: Identity, timing: Timing, distribution: Distribution, now: Instant) -> Self {
        let engine = routing::Engine::new(identity.id, identity.instance, timing, now);
        let edge = identity.mesh.map(|mesh| EdgeSide::new(mesh.into(), identity.instance));
        let mut routes = Routes::alone(Arc::clone(engine.table()), identity.shards);
        routes.edge = edge.as_ref().map(|edge| edge.edge.clone());
        let routes = Arc::new(routes);
        Self {
            node: Arc::clone(&routes.node),
            engine,
            peers: Peers::new(identity.shards),
            directory: Directory::new(distribution),
            links: PeerLinks::default(),
            edge,
            auto_links: AutoLinks::default(),
            watched: BTreeMap::new(),
            is_stale: false,
            routes,
            outputs: VecDeque::new(),
        }
    }

    // === connections ===

    /// Decides on a connection whose opens were exchanged.
    ///
    /// # Errors
    /// The condition to close it with.
    pub fn admit(&mut self, now: Instant, candidate: Candidate) -> Result<Admitted, Condition> {
        let (cost, dialled) = match &candidate.origin {
            Origin::Dialled(dialled) => (candidate.cost, Some(dialled.clone())),
            Origin::Accepted => (candidate.cost, None),
        };
        let router = candidate.announcement.container.clone();
        let container = candidate.program_of.clone().map(|entity| (entity, candidate.announcement.container.clone()));
        let (admitted, rival) = self.peers.admit(self.engine.id().as_str(), candidate)?;
        if let Some(at) = rival.and_then(|rival| self.peers.place(rival)) {
            let condition = Condition::new("amqp:connection:forced", "replaced by a newer connection of the same link");
            self.outputs.push_back(Output::Close { at, condition: Some(condition) });
        }
        self.is_stale = true;
        if let (Purpose::Links(PeerKind::Interior), Some(dialled)) = (admitted.purpose, dialled) {
            let at = ConnectionRef { id: admitted.id, shard: admitted.shard };
            let (correlator, ordinal) = (dialled.correlator, dialled.ordinal.unwrap_or(0));
            self.add_uplink(edge::Candidate { at, cost, correlator, ordinal });
        }
        if admitted.purpose == Purpose::Links(PeerKind::Mesh) {
            self.add_mesh_peer(ConnectionRef { id: admitted.id, shard: admitted.shard }, &router);
        }
        if let Some((entity, container)) = container {
            let at = ConnectionRef { id: admitted.id, shard: admitted.shard };
            self.add_container(now, at, entity, container);
        }
        self.settle();
        Ok(admitted)
    }

    /// A shard says something.
    pub fn handle_report(&mut self, now: Instant, report: Report) {
        self.handle_reports(now, [report]);
    }

    /// Shards say something, oldest first. What all of it changes is one new picture of the routes, and not one for each of
    /// the thousands of addresses that somebody may attach to.
    pub fn handle_reports(&mut self, now: Instant, reports: impl IntoIterator<Item = Report>) {
        reports.into_iter().for_each(|report| self.recv_report(now, report));
        self.settle();
    }

    fn recv_report(&mut self, now: Instant, report: Report) {
        match report {
            Report::ControlUp(id) => match self.peers.control_up(id) {
                Some(Risen::Link(link, cost)) => {
                    self.is_stale = true;
                    self.engine.handle_link_up(now, link, cost);
                }
                Some(Risen::Generation(superseded)) => {
                    self.is_stale = true;
                    // First the shards learn where new streams go, then what no longer carries any.
                    self.settle();
                    let supersede = |at: ConnectionRef| match self.peers.is_dialled(at.id) {
                        true => Output::Supersede { at },
                        false => Output::TakenOver { connection: at.id },
                    };
                    self.outputs.extend(superseded.into_iter().map(supersede));
                }
                None => {}
            },
            Report::ControlDown { connection, reason } => {
                if !self.peers.is_superseded(connection)
                    && let Some(at) = self.peers.place(connection)
                {
                    self.outputs.push_back(Output::Close { at, condition: Some(reason) });
                }
            }
            Report::Control { connection, message } => self.recv_control(now, connection, &message),
            Report::Deliver { subscriber, message, .. } => {
                self.outputs.push_back(Output::Deliver { subscriber, message });
            }
            Report::LinkRequested(request) => self.recv_link_request(now, request),
            Report::LinkAttached { label, endpoint } => {
                if !self.auto_link_attached(now, label, endpoint) && !self.mesh_link_attached(label, endpoint) {
                    self.recv_link_attached(label, endpoint);
                }
            }
            Report::LinkRefused { label, reason } => {
                self.auto_link_refused(now, label, reason.as_ref());
                self.uplink_link_refused(now, label, reason);
            }
            Report::LinkLost { endpoint, reason } => {
                self.recv_link_lost(now, endpoint);
                self.auto_link_lost(now, endpoint, reason.as_ref());
                self.uplink_link_lost(endpoint);
                self.mesh_link_lost(endpoint);
            }
            Report::LinkMessage { endpoint, message } => self.recv_link_message(endpoint, &message),
            Report::ConnectionLost { connection, .. } => {
                self.forget_edge_peer(connection);
                self.remove_uplink(connection);
                self.remove_mesh_peer(connection);
                self.remove_container(now, connection);
                if let Some(lost) = self.peers.remove(connection) {
                    self.outputs.extend(lost.orphans.into_iter().map(|at| Output::Retire { at }));
                    self.is_stale = true;
                    lost.link.into_iter().for_each(|link| self.engine.handle_link_down(now, link));
                }
            }
        }
    }

    // === consumers ===

    /// A connector of this router consumes an address from now on.
    pub fn add_connector(&mut self, now: Instant, connector: ConnectorId, address: &Arc<str>) {
        if let Some(mobile) = self.directory.add_connector(address, connector) {
            self.engine.advertise(now, mobile);
        }
        self.consumers_changed();
    }

    /// A connector of this router consumes an address no more. Streams under way are not touched.
    pub fn remove_connector(&mut self, now: Instant, connector: ConnectorId, address: &Arc<str>) {
        if let Some(key) = self.directory.remove_connector(address, connector) {
            self.engine.withdraw(now, &key);
        }
        self.consumers_changed();
    }

    /// This router's connectors take no new streams any more, here or from elsewhere. Streams under way are not touched.
    pub fn retire_connectors(&mut self, now: Instant) {
        for key in self.directory.remove_connectors() {
            self.engine.withdraw(now, &key);
        }
        self.consumers_changed();
    }

    /// Somebody in this process consumes an address from now on. The treatment is what it wants where nothing is configured.
    pub fn subscribe(&mut self, now: Instant, subscriber: SubscriberId, address: &Arc<str>, treatment: Treatment) {
        if let Some(mobile) = self.directory.add_subscriber(Class::Mobile, address, subscriber, treatment) {
            self.engine.advertise(now, mobile);
        }
        self.consumers_changed();
    }

    /// Spreads messages over consumers otherwise from now on. Others keep the hints that they were given.
    pub fn set_distribution(&mut self, distribution: Distribution) {
        self.directory.set_distribution(distribution);
        self.consumers_changed();
    }

    /// Somebody in this process has a name that every router has: `_local/<name>`, and `<name>` alone, mean it here. Others
    /// reach it as `_topo/0/<id>/<name>`, and are not told of it.
    pub fn subscribe_own(&mut self, subscriber: SubscriberId, name: &Arc<str>) {
        self.directory.add_subscriber(Class::Local, name, subscriber, Treatment::AnycastClosest);
        self.consumers_changed();
    }

    /// Takes back [`Core::subscribe`] or [`Core::subscribe_own`].
    pub fn unsubscribe(&mut self, now: Instant, subscriber: SubscriberId, address: &Arc<str>) {
        self.directory.remove_subscriber(Class::Local, address, subscriber);
        if let Some(key) = self.directory.remove_subscriber(Class::Mobile, address, subscriber) {
            self.engine.withdraw(now, &key);
        }
        self.consumers_changed();
    }

    /// Somebody wants to know whether an address has a consumer: whether it has now, and with [`Output::Reachable`] every
    /// change.
    pub fn watch(&mut self, address: &Arc<str>) -> bool {
        let (watchers, told) = self.watched.entry(Arc::clone(address)).or_default();
        *watchers += 1;
        *told = self.routes.is_reachable(address);
        let is_reachable = *told;
        if self.is_edge() {
            self.consumers_changed();
        }
        is_reachable
    }

    /// Takes back [`Core::watch`].
    pub fn unwatch(&mut self, address: &Arc<str>) {
        if let Some((watchers, _)) = self.watched.get_mut(address) {
            *watchers -= 1;
            if *watchers == 0 {
                self.watched.remove(address);
                if self.is_edge() {
                    self.consumers_changed();
                }
            }
        }
    }

    pub(super) fn consumers_changed(&mut self) {
        self.is_stale = true;
        self.settle();
    }

    // === messages ===

    /// Sends a message that starts here.
    pub fn send(&mut self, outgoing: &Outgoing) {
        let to = outgoing.to_override().map(Arc::from);
        self.outputs.push_back(Output::Message { to, message: outgoing.message.clone() });
    }

    // === time ===

    /// When [`Core::handle_timeout`] is due; it may have passed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let edge = self.edge.as_ref().and_then(EdgeSide::poll_timeout);
        self.engine.poll_timeout().into_iter().chain(self.auto_links.poll_timeout()).chain(edge).min()
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.engine.handle_timeout(now);
        self.try_auto_links(now);
        self.retry_uplink(now);
        self.settle();
    }

    /// What is to be done, oldest first.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    // === what is so ===

    /// Addresses that somebody here wants to know the reachability of, and how messages for them would be spread.
    pub fn watched(&self) -> impl Iterator<Item = (&Arc<str>, Treatment)> {
        self.watched.keys().map(|address| (address, self.directory.treatment_of(address)))
    }

    /// The life of each other router that has told of itself.
    pub fn instances(&self) -> impl Iterator<Item = (RouterId, u64)> {
        self.engine.instances().map(|(id, instance)| (id.clone(), instance))
    }

    /// Connections that were admitted so far.
    pub fn admitted(&self) -> u64 {
        self.peers.admitted()
    }

    /// This router's id.
    pub fn id(&self) -> &RouterId {
        self.engine.id()
    }

    /// The routes to all routers.
    pub fn table(&self) -> &Arc<Table> {
        self.engine.table()
    }

    /// The picture that the data plane has, or is about to have.
    pub fn routes(&self) -> &Arc<Routes> {
        &self.routes
    }

    // === messages of the router protocol ===

    /// A message on a control link: for us, for others, or both.
    fn recv_control(&mut self, now: Instant, from: ConnectionId, octets: &[u8]) {
        let head = match message::scan(octets, true) {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(error) => return self.report_malformed(from, error.into()),
        };
        let annotations = head.annotations;
        // A way longer than any is a circle.
        if annotations.is_some_and(|annotations| annotations.hops() > self.table().max_trace()) {
            return;
        }
        let trace: Vec<_> = annotations
            .iter()
            .flat_map(|annotations| annotations.trace())
            .filter_map(|id| RouterId::new(id).ok())
            .collect();
        let origin = annotations.and_then(|annotations| RouterId::new(annotations.origin()?).ok());
        let me = self.engine.id().clone();
        match Address::parse(head.properties.to.unwrap_or_default(), me.as_str()) {
            Address::Local("qdhello" | "qdrouter" | "qdrouter.ma") => {
                self.recv_message(now, from, &head, octets);
            }
            Address::Everywhere("qdrouter") => {
                if let Some(message) = self.recv_message(now, from, &head, octets) {
                    let links = self.engine.flood(now, &message, &trace);
                    self.relay(&head, octets, links);
                }
            }
            Address::Everywhere("qdrouter.ma") => {
                let message = self.recv_message(now, from, &head, octets);
                if let (Some(_), Some(origin)) = (message, origin) {
                    let links = self.table().tree(&origin, &trace);
                    self.relay(&head, octets, links);
                }
            }
            Address::Router(id) => {
                let to = RouterId::new(id).ok();
                let route = to.and_then(|to| self.table().route(&to));
                self.relay(&head, octets, route.map(|route| route.link).into_iter().collect());
            }
            _ => {}
        }
    }

    /// Hands a message to the routing engine, and back for whoever relays it: nothing that we would not take ourselves.
    fn recv_message(&mut self, now: Instant, from: ConnectionId, head: &Head<'_>, octets: &[u8]) -> Option<Message> {
        let link = self.peers.link(from)?;
        match control::decode(head, octets) {
            Ok(message) => {
                match self.engine.handle_message(now, link, &message) {
                    // It is us who came late; others know the router.
                    Ok(()) | Err(MessageError::UnknownRouter { .. }) => Some(message),
                    Err(error) => {
                        let router = self.peers.tell(from, &error)?;
                        self.outputs.push_back(Output::Fact(Fact::Refused { router, error }));
                        None
                    }
                }
            }
            Err(error) => {
                self.report_malformed(from, error);
                None
            }
        }
    }

    fn report_malformed(&mut self, from: ConnectionId, error: MalformedMessage) {
        if let Some(router) = self.peers.tell(from, &error) {
            self.outputs.push_back(Output::Fact(Fact::Malformed { router, error }));
        }
    }

    fn relay(&mut self, head: &Head<'_>, octets: &[u8], links: Vec<LinkId>) {
        if !links.is_empty() {
            let message = control::forward(head, octets, &self.node);
            self.send_on(links, message);
        }
    }

    fn send_on(&mut self, links: Vec<LinkId>, message: Bytes) {
        for link in links {
            if let Some(to) = self.peers.control_connection(link) {
                self.outputs.push_back(Output::Send { to, message: message.clone() });
            }
        }
    }

    fn transmit(&mut self, to: &Destination, message: &Message) {
        let me = self.engine.id();
        let links = match to {
            Destination::Link(link) => vec![*link],
            Destination::Flood => self.table().flood(&[]),
            Destination::Tree => self.table().tree(me, &[]),
            Destination::Router(id) => self.table().route(id).map(|route| route.link).into_iter().collect(),
        };
        if !links.is_empty() {
            let octets = control::encode(message, to, &self.node);
            self.send_on(links, octets);
        }
    }

    // === below ===

    /// Acts on what the routing engine wants, then brings the picture up to date: before others are told, for it is to hold
    /// here when they act on it.
    fn settle(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            self.recv_output(output);
        }
        if std::mem::take(&mut self.is_stale) {
            self.routes = Arc::new(Routes {
                id: self.engine.id().clone(),
                node: Arc::clone(&self.node),
                shards: self.routes.shards,
                table: Arc::clone(self.engine.table()),
                next_hops: self.peers.next_hops(),
                addresses: self.directory.consumers(Class::Mobile),
                locals: self.directory.consumers(Class::Local),
                edges: self.directory.consumers(Class::Edge),
                uplink: self.edge.as_ref().and_then(EdgeSide::uplink),
                edge: self.edge.as_ref().map(|edge| edge.edge.clone()),
                programs: self.auto_links.programs(),
            });
            let is_told = |output: &Output| matches!(output, Output::Send { .. });
            let (told, done): (Vec<_>, Vec<_>) = self.outputs.drain(..).partition(is_told);
            self.outputs.extend(done);
            self.outputs.push_back(Output::Routes(Arc::clone(&self.routes)));
            self.outputs.extend(told);
            self.report_reachability();
            self.tell_edges();
            self.settle_uplink();
            self.settle_mesh();
        }
    }

    fn recv_output(&mut self, output: routing::Output) {
        let fact = match output {
            routing::Output::Transmit { to, message } => return self.transmit(&to, &message),
            routing::Output::TableChanged => return self.is_stale = true,
            routing::Output::AddressAdded { router, address } => {
                return self.is_stale |= self.directory.add_owner(&router, &address).is_some();
            }
            routing::Output::AddressRemoved { router, key } => {
                return self.is_stale |= self.directory.remove_owner(&router, &key).is_some();
            }
            routing::Output::NeighborUp { neighbor, cost, .. } => {
                Fact::NeighborUp { router: neighbor, cost: cost.into() }
            }
            routing::Output::NeighborDown { neighbor } => Fact::NeighborDown { router: neighbor },
            routing::Output::DuplicateId { router } => Fact::DuplicateId { router },
        };
        self.outputs.push_back(Output::Fact(fact));
    }

    fn report_reachability(&mut self) {
        for (address, (_, told)) in &mut self.watched {
            let is_reachable = self.routes.is_reachable(address);
            if std::mem::replace(told, is_reachable) != is_reachable {
                self.outputs.push_back(Output::Reachable { address: Arc::clone(address), is_reachable });
            }
        }
    }
}
