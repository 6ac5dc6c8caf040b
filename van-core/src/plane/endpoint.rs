//! Links with addresses: of clients, containers and edge routers (docs/wire.md §3.1, §3.3, §3.6).
//!
//! ```text
//!   the peer attaches ──► asked ──► open ──► gone        anonymous and dynamic ones are answered here, the others
//!   we attach ──────────► asked ──► open ──► gone        by the control plane
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use van_routing::AddressKey;

use super::connection::{Class, Purpose};
use super::routes::{ConnectionRef, EndpointId, PeerKind};
use super::stream::ReplyName;
use super::{Io, Plane, Report};
use crate::amqp::{Attach, Condition, LinkId, NewLink, Role, Source, Symbol, Target, Token};
use crate::annotations::RESEND_RELEASED;
use crate::slab::Key;

/// Octets of an address that a link is for: more could not be told to the network, with the letter of its class.
const MAX_ADDRESS_BYTES: usize = AddressKey::MAX_BYTES - 1;

const STREAMING_DELIVERIES: &str = "qd.streaming-deliveries";
const RESEND: &str = "qd.resend-released";
const DOWNLINK: &str = "qd.router-edge-downlink";
const INTER_EDGE: &str = "qd.router-inter-edge";
/// Capabilities of links between interior routers, which have no business elsewhere.
const ROUTER_LINKS: [&str; 2] = ["qd.router", "qd.router-data"];

/// A link with an address, or of a client.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) link: LinkId,
    /// What we are on it.
    pub(super) role: Role,
    /// The address at the end that counts: the target if we receive, the source if we send. Anonymous without.
    pub(super) address: Option<Arc<str>>,
    /// The peer's attach, until it is answered.
    asked: Option<Box<Attach>>,
    /// As the control plane calls a link of ours, until it is answered.
    label: Option<u64>,
    pub(super) service: Service,
    /// As sender: deliveries in line, and whether they are settled.
    pub(super) line: VecDeque<(Key, bool)>,
    /// As sender: the peer wants everything settled.
    pub(super) is_settled_only: bool,
    /// As sender: the peer wants back what credit is not used.
    is_draining: bool,
    /// As receiver: every delivery is passed on as it comes.
    pub(super) is_streaming: bool,
    /// As receiver: flags of router annotations that its deliveries get.
    pub(super) flags: u32,
    /// As receiver: whether the peer may send.
    is_granted: bool,
    /// As receiver: deliveries that are over and whose credit was not given back.
    spent: u32,
    /// As receiver: deliveries that are not over and whose credit was given back already.
    ahead: u32,
}

/// What a link is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Service {
    /// Deliveries pass.
    #[default]
    Traffic,
    /// Its deliveries are for the control plane, or come from it.
    Control,
    /// We send on it what is addressed to a name that was made for it.
    Temporary(ReplyName),
}

/// A link that a peer wants, and the control plane decides on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRequest {
    /// The link.
    pub endpoint: EndpointId,
    /// Who wants it.
    pub peer: PeerKind,
    /// Whether the peer takes deliveries from it, or gives some.
    pub is_consumer: bool,
    /// The address.
    pub address: Arc<str>,
    /// Whether it is to be the way to the edge router of that id.
    pub is_downlink: bool,
}

impl LinkRequest {
    /// What one counts for among what the control plane has not dealt with: a peer may put 64 KiB into each, and the attach is
    /// kept until it is answered.
    pub(super) const OCTETS: usize = 16 * 1024;
}

/// What the control plane says to a [`LinkRequest`].
#[derive(Debug, Clone, PartialEq)]
pub enum LinkAnswer {
    /// Deliveries pass.
    Traffic,
    /// Its messages are for the control plane, or come from it: it may send so many, if it sends.
    Control {
        /// How many messages may be under way.
        credit: u32,
    },
    /// It is not to be.
    Refused(Condition),
}

/// A link that the control plane wants on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedLink {
    /// Comes back with what becomes of it.
    pub label: u64,
    /// Whether we send on it.
    pub is_sender: bool,
    /// The peer's address for it: the target if we send, the source if we receive. Anonymous without.
    pub peer_address: Option<Arc<str>>,
    /// The address here that deliveries on it are for, or come from.
    pub address: Option<Arc<str>>,
    /// The capability that says what it is.
    pub capability: Option<&'static str>,
    /// Whether its messages are for the control plane, or come from it.
    pub is_control: bool,
    /// As receiver: deliveries that may be under way.
    pub credit: u32,
}

impl Endpoint {
    fn new(link: LinkId, role: Role) -> Self {
        Self {
            link,
            role,
            address: None,
            asked: None,
            label: None,
            service: Service::Traffic,
            line: VecDeque::new(),
            is_settled_only: false,
            is_draining: false,
            is_streaming: false,
            flags: 0,
            is_granted: false,
            spent: 0,
            ahead: 0,
        }
    }
}

fn has(capabilities: &[Symbol], name: &str) -> bool {
    capabilities.iter().any(|capability| capability == name)
}

impl Plane {
    /// A peer of a connection whose links have addresses has attached one.
    pub(super) fn recv_link(&mut self, io: &mut impl Io, key: Key, link: LinkId, attach: Box<Attach>) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Purpose::Links(peer) = connection.purpose else { return };
        let is_receiver = attach.role == Role::Sender;
        let mut endpoint = Endpoint::new(link, attach.role.opposite());
        let (capabilities, address, is_dynamic) = match (&attach.source, &attach.target) {
            (_, Some(target)) if is_receiver => (&target.capabilities, &target.address, target.dynamic),
            (Some(source), _) if !is_receiver => (&source.capabilities, &source.address, source.dynamic),
            _ => {
                let condition = Condition::new("amqp:invalid-field", "no source or target on this link");
                return connection.engine.refuse_link(link, &attach, condition);
            }
        };
        if ROUTER_LINKS.iter().any(|name| has(capabilities, name)) {
            let condition = Condition::new("qd:forbidden", "links between interior routers belong to other listeners");
            return connection.engine.refuse_link(link, &attach, condition);
        }
        if let Some(address) = address.as_ref().filter(|address| address.len() > MAX_ADDRESS_BYTES) {
            let condition = format!("an address of {} octets, at most {MAX_ADDRESS_BYTES}", address.len());
            return connection.engine.refuse_link(link, &attach, Condition::new("amqp:invalid-field", condition));
        }
        endpoint.is_streaming = has(capabilities, STREAMING_DELIVERIES);
        endpoint.flags = if has(capabilities, RESEND) { RESEND_RELEASED } else { 0 };
        endpoint.is_settled_only = !is_receiver && attach.snd_settle_mode == 1;
        let is_downlink = has(capabilities, DOWNLINK);
        let is_mesh = has(capabilities, INTER_EDGE);
        let address: Option<Arc<str>> = address.as_deref().filter(|text| !text.is_empty()).map(Arc::from);
        endpoint.address = address.clone();
        endpoint.asked = Some(attach);
        let endpoint = connection.endpoints.insert(endpoint);
        // It may be detached before it is answered.
        connection.engine.set_token(link, Class::Endpoint(endpoint).token());
        let at = ConnectionRef { id: connection.id, shard: self.shard };
        let id = EndpointId { at, key: endpoint };
        match address {
            _ if is_dynamic && !is_receiver => self.open_temporary(io, key, endpoint),
            _ if is_dynamic => {
                let address: Arc<str> = format!("_$temp.{}", self.random.discriminator()).into();
                if let Some(endpoint) = connection.endpoints.get_mut(endpoint) {
                    endpoint.address = Some(address);
                }
                self.open_link(io, key, endpoint, Service::Traffic, None);
            }
            Some(address) => {
                let request = LinkRequest { endpoint: id, peer, is_consumer: !is_receiver, address, is_downlink };
                connection.untaken += LinkRequest::OCTETS;
                io.report(Report::LinkRequested(request));
            }
            None if is_receiver || is_mesh => self.open_link(io, key, endpoint, Service::Traffic, None),
            None => {
                let condition = Condition::new("qd:no-route-to-dest", "a source needs an address, or to be dynamic");
                self.refuse_link(key, endpoint, condition);
            }
        }
    }

    /// The control plane has decided on a link that a peer wants.
    pub fn answer_link(&mut self, io: &mut impl Io, id: EndpointId, answer: LinkAnswer) {
        let Some(&key) = self.by_id.get(&id.at.id) else { return };
        if self.connections.get(key).and_then(|connection| connection.endpoints.get(id.key)).is_none() {
            return;
        }
        match answer {
            LinkAnswer::Traffic => self.open_link(io, key, id.key, Service::Traffic, None),
            LinkAnswer::Control { credit } => self.open_link(io, key, id.key, Service::Control, Some(credit)),
            LinkAnswer::Refused(condition) => self.refuse_link(key, id.key, condition),
        }
        self.touch(key);
        self.flush(io);
    }

    /// Accepts a link of a peer's. One that leads to an address gets credit only while somebody is there to take deliveries.
    /// `credit` in place of what the connection gives each link.
    fn open_link(&mut self, io: &mut impl Io, key: Key, endpoint: Key, service: Service, credit: Option<u32>) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(open) = connection.endpoints.get_mut(endpoint) else { return };
        let Some(mut attach) = open.asked.take() else { return };
        open.service = service;
        let is_receiver = open.role == Role::Receiver;
        let is_waiting =
            is_receiver && service == Service::Traffic && connection.purpose == Purpose::Links(PeerKind::Client);
        let leads_somewhere = |address: &Arc<str>| self.routes.leads_somewhere(address);
        let is_granted = !is_waiting || open.address.as_ref().is_none_or(leads_somewhere);
        open.is_granted = is_granted && is_receiver;
        let address = open.address.as_deref().map(str::to_owned);
        match (&mut attach.source, &mut attach.target) {
            // skupper-router's edges look for it there (docs/wire.md §3.7).
            (Some(source), _) if is_receiver && service == Service::Control => source.address = address,
            (_, Some(target)) if is_receiver && target.dynamic => target.address = address,
            (Some(source), _) if !is_receiver && source.dynamic => source.address = address,
            _ => {}
        }
        let credit = credit.unwrap_or(connection.engine.link_capacity());
        let credit = if is_granted && is_receiver { credit } else { 0 };
        let link = open.link;
        connection.engine.accept_link(link, &attach, Class::Endpoint(endpoint).token(), 0);
        if credit > 0 {
            connection.engine.grant(link, credit);
        }
        if !is_receiver {
            connection.note_credit(link, self.now);
        }
        self.touch(key);
        self.serve(io, key, super::Lane::Endpoint(endpoint));
        self.finish_drain(key, super::Lane::Endpoint(endpoint));
    }

    fn refuse_link(&mut self, key: Key, endpoint: Key, condition: Condition) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(refused) = connection.endpoints.remove(endpoint) else { return };
        if let Some(attach) = refused.asked {
            connection.engine.refuse_link(refused.link, &attach, condition);
        }
        self.touch(key);
    }

    /// Makes a name for a link that wants one, known to nobody else.
    fn open_temporary(&mut self, io: &mut impl Io, key: Key, endpoint: Key) {
        let salt = self.random.next_u64() as u32;
        let place = self.temporaries.insert((key, endpoint, salt & ReplyName::SALT));
        let name = ReplyName::link(self.shard, place, salt);
        let address = self.routes.own_address(&name.to_text());
        if let Some(endpoint) = self.connections.get_mut(key).and_then(|it| it.endpoints.get_mut(endpoint)) {
            endpoint.address = Some(address.into());
        }
        self.open_link(io, key, endpoint, Service::Temporary(name), Some(0));
    }

    /// The link that a name was made for.
    pub(super) fn temporary(&self, name: ReplyName) -> Option<EndpointId> {
        let &(connection, key, salt) = self.temporaries.get(name.stream)?;
        let id = self.connections.get(connection).filter(|_| salt == name.salt & ReplyName::SALT)?.id;
        Some(EndpointId { at: ConnectionRef { id, shard: self.shard }, key })
    }

    // === links of ours ===

    /// Attaches a link that the control plane wants.
    pub fn attach_link(&mut self, io: &mut impl Io, id: super::ConnectionId, wanted: WantedLink) {
        let Some(&key) = self.by_id.get(&id) else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        let refused = |label| {
            let reason = Some(Condition::new("amqp:resource-limit-exceeded", "no session or link is left"));
            Report::LinkRefused { label, reason }
        };
        let Some(channel) = connection.channel_for_links() else { return io.report(refused(wanted.label)) };
        let WantedLink { label, is_sender, peer_address, address, capability, is_control, credit } = wanted;
        let role = if is_sender { Role::Sender } else { Role::Receiver };
        let peer_address = peer_address.as_deref().map(str::to_owned);
        let capabilities: Vec<Symbol> = capability.into_iter().map(Symbol::from).collect();
        let expiry_policy = Some(Symbol::from("link-detach"));
        let (source_address, target_address) = if is_sender { (None, peer_address) } else { (peer_address, None) };
        let new = NewLink {
            name: format!("qdlink.{}", self.random.discriminator()),
            role,
            source: Some(Source {
                address: source_address,
                expiry_policy: expiry_policy.clone(),
                capabilities: capabilities.clone(),
                ..Source::default()
            }),
            target: Some(Target { address: target_address, expiry_policy, capabilities, ..Target::default() }),
            credit: 0,
            token: Token::default(),
        };
        let Some(link) = connection.engine.attach(channel, new) else { return io.report(refused(label)) };
        let service = if is_control { Service::Control } else { Service::Traffic };
        let (is_granted, label) = (credit > 0, Some(label));
        let endpoint = Endpoint { address, is_granted, service, label, ..Endpoint::new(link, role) };
        let endpoint = connection.endpoints.insert(endpoint);
        connection.engine.set_token(link, Class::Endpoint(endpoint).token());
        if credit > 0 {
            connection.engine.grant(link, credit);
        }
        if is_sender {
            connection.note_credit(link, self.now);
        }
        self.touch(key);
        self.flush(io);
    }

    /// A peer has answered a link of ours. Without termini it is refused, and a detach follows.
    pub(super) fn recv_link_answer(&mut self, io: &mut impl Io, key: Key, endpoint: Key, attach: &Attach) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(answered) = connection.endpoints.get_mut(endpoint) else { return };
        let is_accepted = match answered.role {
            Role::Sender => attach.target.is_some(),
            Role::Receiver => attach.source.is_some(),
        };
        if let Some(label) = answered.label.take_if(|_| is_accepted) {
            let at = ConnectionRef { id: connection.id, shard: self.shard };
            io.report(Report::LinkAttached { label, endpoint: EndpointId { at, key: endpoint } });
        }
    }

    /// Detaches a link that the control plane wants no more.
    pub fn detach_link(&mut self, io: &mut impl Io, id: EndpointId, condition: Option<Condition>) {
        let Some(&key) = self.by_id.get(&id.at.id) else { return };
        if let Some(connection) = self.connections.get_mut(key)
            && let Some(endpoint) = connection.endpoints.get(id.key)
        {
            let link = endpoint.link;
            connection.engine.detach(link, condition);
            self.end_link(io, key, (link, true), id.key, None);
        }
        self.touch(key);
        self.flush(io);
    }

    /// Sends a message of the control plane on a link.
    pub fn send_on_link(&mut self, io: &mut impl Io, id: EndpointId, message: bytes::Bytes) {
        if let Some(&key) = self.by_id.get(&id.at.id) {
            self.send_whole(io, key, super::Lane::Endpoint(id.key), message);
        }
        self.flush(io);
    }

    /// A link is gone: what waited for it finds another way, or goes back.
    pub(super) fn end_link(
        &mut self,
        io: &mut impl Io,
        key: Key,
        (link, was_used): (LinkId, bool),
        endpoint: Key,
        reason: Option<Condition>,
    ) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(ended) = connection.endpoints.remove(endpoint) else {
            // We have detached it, and more came before the peer knew.
            return if was_used {
                self.links_lost(io, key, link)
            };
        };
        let at = ConnectionRef { id: connection.id, shard: self.shard };
        if let Service::Temporary(name) = ended.service {
            self.temporaries.remove(name.stream);
        }
        for (waiting, _) in ended.line {
            self.lost_in_line(io, waiting, key, super::Lane::Endpoint(endpoint));
        }
        if was_used {
            self.links_lost(io, key, link);
        }
        io.report(match ended.label {
            Some(label) => Report::LinkRefused { label, reason },
            None => Report::LinkLost { endpoint: EndpointId { at, key: endpoint }, reason },
        });
    }

    /// What is under way on a link has lost it.
    pub(super) fn links_lost(&mut self, io: &mut impl Io, key: Key, link: LinkId) {
        for (attachment, is_inlet) in self.attachments_on(key, link) {
            if is_inlet {
                self.inlet_ended(io, attachment, super::Ending::Aborted, true);
            } else {
                self.outlet_lost(io, attachment);
            }
        }
    }

    // === credit ===

    /// The peer of a link that we send on has said how much it takes.
    pub(super) fn recv_credit(&mut self, io: &mut impl Io, key: Key, endpoint: Key, drain: bool) {
        if let Some(endpoint) = self.connections.get_mut(key).and_then(|it| it.endpoints.get_mut(endpoint)) {
            endpoint.is_draining = drain;
        }
        self.serve(io, key, super::Lane::Endpoint(endpoint));
        self.finish_drain(key, super::Lane::Endpoint(endpoint));
    }

    /// Gives back what credit is left, if the peer wants that and nothing is under way or in line.
    pub(super) fn finish_drain(&mut self, key: Key, lane: super::Lane) {
        let super::Lane::Endpoint(endpoint) = lane else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        let is_open_and_draining = |endpoint: &&mut Endpoint| endpoint.is_draining && endpoint.asked.is_none();
        let Some(endpoint) = connection.endpoints.get_mut(endpoint).filter(is_open_and_draining) else { return };
        if !connection.engine.is_sending(endpoint.link) {
            endpoint.is_draining = false;
            connection.engine.drained(endpoint.link);
            self.touch(key);
        }
    }

    /// Gives credit to those who wait for somebody to take what they send.
    pub(super) fn grant_waiting(&mut self, io: &mut impl Io) {
        for key in self.connections.keys() {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            if connection.purpose != Purpose::Links(PeerKind::Client) {
                continue;
            }
            let is_waiting = |endpoint: &Endpoint| {
                endpoint.role == Role::Receiver && !endpoint.is_granted && endpoint.asked.is_none()
            };
            let waiting: Vec<_> =
                connection.endpoints.iter().filter(|(_, it)| is_waiting(it)).map(|(key, _)| key).collect();
            let mut is_touched = false;
            for endpoint in waiting {
                let Some(endpoint) = connection.endpoints.get_mut(endpoint) else { continue };
                if endpoint.address.as_ref().is_none_or(|address| self.routes.leads_somewhere(address)) {
                    endpoint.is_granted = true;
                    endpoint.spent = 0;
                    connection.engine.grant(endpoint.link, connection.engine.link_capacity());
                    is_touched = true;
                }
            }
            if is_touched {
                self.touch(key);
            }
        }
        self.flush(io);
    }

    /// A delivery has begun that goes on: if a router sends it, it may send another already.
    ///
    /// A skupper-router can overlook the octets that come right behind the header of a stream, and lets them lie until it
    /// is given credit.
    pub(super) fn give_ahead(&mut self, key: Key, link: LinkId) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.purpose == Purpose::Links(PeerKind::Client) {
            return;
        }
        let Some(Class::Endpoint(endpoint)) = connection.engine.token(link).and_then(Class::of) else { return };
        let Some(endpoint) = connection.endpoints.get_mut(endpoint) else { return };
        if endpoint.is_granted
            && endpoint.service == Service::Traffic
            && endpoint.ahead < connection.engine.link_capacity()
        {
            endpoint.ahead += 1;
            connection.engine.grant(link, connection.engine.credit(link) + 1);
            self.touch(key);
        }
    }

    /// A delivery that a peer sent is settled: it may send another.
    pub(super) fn give_back(&mut self, key: Key, link: LinkId) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Some(Class::Endpoint(endpoint)) = connection.engine.token(link).and_then(Class::of) else { return };
        let Some(endpoint) = connection.endpoints.get_mut(endpoint).filter(|endpoint| endpoint.is_granted) else {
            return;
        };
        if endpoint.ahead > 0 {
            endpoint.ahead -= 1;
            return;
        }
        endpoint.spent += 1;
        let capacity = connection.engine.link_capacity();
        if endpoint.spent >= capacity / 4 || connection.engine.credit(link) <= endpoint.spent {
            let credit = connection.engine.credit(link) + std::mem::take(&mut endpoint.spent);
            connection.engine.grant(link, credit.min(capacity));
            self.touch(key);
        }
    }

    /// Nobody takes what comes on a link: its peer is to stop until somebody does.
    pub(super) fn take_back(&mut self, key: Key, link: LinkId) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.purpose != Purpose::Links(PeerKind::Client) {
            return;
        }
        let Some(Class::Endpoint(endpoint)) = connection.engine.token(link).and_then(Class::of) else { return };
        let Some(endpoint) = connection.endpoints.get_mut(endpoint) else { return };
        if endpoint.is_granted && endpoint.address.as_ref().is_some_and(|address| !self.routes.leads_somewhere(address))
        {
            endpoint.is_granted = false;
            connection.engine.drain(link);
            self.touch(key);
        }
    }
}
