//! A connection to a peer. To another interior router: its control links, its ten priority links, and the pool of links for
//! streams; to others: links with addresses (docs/wire.md §3).

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hashbrown::HashMap as FastMap;

use super::attachment::Lane;
use super::endpoint::Endpoint;
use super::pace::Pace;
use super::pool::Pool;
use super::routes::{ConnectionId, PeerKind};
use super::scheduler::Scheduler;
use super::tally::{End, LinkTally};
use crate::amqp::{self, Attach, Condition, LinkId, NewLink, Role, Source, Symbol, Target, Token};
use crate::random::Random;
use crate::slab::{Key, Slab};

/// The capability of control links.
const CONTROL: &str = "qd.router";
/// The capability of priority links, and of stream links on a control connection.
const DATA: &str = "qd.router-data";

/// Message priorities, each with a pair of links.
pub(crate) const PRIORITIES: u8 = 10;

/// Octets of deliveries that a peer may have begun before it is known where they go. The head of a stream takes about 300.
pub(super) const MAX_GATHERED_BYTES: usize = 4 * 1024 * 1024;

/// Copies that may wait for a priority link; more are dropped. Source: skupper-router, `linkCapacity`.
pub(super) const MAX_WAITING_COPIES: usize = 250;

/// Messages of the control plane that may wait for credit on a link: as many as routers can have addresses, several times. A
/// peer that leaves more to wait is given up, and is told everything when it comes again.
pub(super) const MAX_WAITING_NEWS: usize = 65_536;

/// Octets of messages that may wait for the control plane before a connection is read no more.
pub(super) const MAX_UNTAKEN_BYTES: usize = 1024 * 1024;

/// Octets of one message of the router protocol. As many addresses as a router may have, of 60 octets each, fit.
pub(crate) const MAX_CONTROL_BYTES: usize = 1024 * 1024;

/// Octets that may wait of the long messages that one session of a client brought, or of a router of ours, before it is held
/// back.
const HELD_OCTETS: usize = 8 * 1024 * 1024;

/// As [`HELD_OCTETS`], of a router of another kind, whose session all its streams share; and of all sessions of one of ours.
const HELD_ROUTER_OCTETS: usize = 64 * 1024 * 1024;

/// As [`HELD_OCTETS`], while so much of the other sessions waits.
const HELD_LEAST_OCTETS: usize = 128 * 1024;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The router protocol and whole messages; streams only if there is no other connection.
    Control,
    /// Streams.
    Data,
    /// Links with addresses, of one who is no interior router, or to the interior router of this edge.
    Links(PeerKind),
}

/// What a link of such a connection carries. Packed into the engine's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Control,
    Priority(u8),
    Stream,
    Endpoint(Key),
}

/// Sessions that are begun for long messages, if the peer takes so many. More messages wait for one.
const MESSAGE_SESSIONS: usize = 256;

/// As [`MESSAGE_SESSIONS`], to a router of another kind, whose messages share them. Source: a skupper-router lets each take 128 MiB, and hands no more than
/// 256 KiB of a message on to a consumer that has stopped.
const FOREIGN_MESSAGE_SESSIONS: usize = 4;

/// Sessions of both ends together for streams.
const STREAM_SESSIONS: usize = 2;

/// Sessions for messages of the router protocol, and of each priority.
const CONTROL_SESSIONS: usize = 1 + PRIORITIES as usize;

/// Octets of a stream that was idle that may leave although as much is under way as should be.
const LITTLE_OCTETS: usize = 4096;

/// In tokens of links with addresses.
const ENDPOINT: u64 = 1 << 63;

/// The token of deliveries on control links, which are no attachments.
pub(super) const CONTROL_DELIVERY: Token = Token(u64::MAX);

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) purpose: Purpose,
    pub(super) engine: amqp::Connection,
    control_sender: Option<LinkId>,
    control_receiver: Option<LinkId>,
    is_control_reported: bool,
    /// By priority; the peer's numbering follows the order of attaching, so does this.
    priority_senders: Vec<LinkId>,
    priority_receivers: u8,
    /// Links with addresses.
    pub(super) endpoints: Slab<Endpoint>,
    stream_channel: Option<u16>,
    /// What of streams is under way, if the neighbour tells.
    pace: Option<Pace>,
    /// Links for streams, which share a session.
    streams: Pool,
    /// Links for long messages, each on a session that no stream shares: whoever stops taking one stops its session.
    messages: Pool,
    /// The sessions begun for long messages, and how many links each has.
    message_sessions: Vec<(u16, usize)>,
    /// Deliveries in line for a priority link.
    priority_lines: Vec<VecDeque<(Key, bool)>>,
    pub(super) scheduler: Scheduler<Key>,
    /// Attachments that found the session's window closed.
    pub(super) blocked: Vec<(u16, Key)>,
    control_queue: VecDeque<Bytes>,
    /// What is left of the control message that is leaving.
    control_leaving: Bytes,
    /// The control message that is arriving.
    pub(super) control_inbox: Vec<u8>,
    /// Octets of messages that the control plane has not dealt with yet.
    pub(super) untaken: usize,
    /// Octets of deliveries of which it is not known yet where they go.
    pub(super) gathered: usize,
    /// By session: octets that wait of what has no window of its own; and of all sessions.
    waiting: HashMap<u16, usize>,
    all_waiting: usize,
    pub(super) is_dirty: bool,
    /// It goes when nothing runs over it.
    pub(super) is_retired: bool,
    /// When it is retired.
    pub(super) retires_at: Option<Instant>,
    /// What has become of the deliveries of each link. Boxed, for half the table may be empty.
    tallies: FastMap<LinkId, Box<LinkTally>, foldhash::fast::RandomState>,
    /// When a delivery began last, in either direction.
    pub(super) last_delivery: Option<Duration>,
}

impl Class {
    pub(super) fn token(self) -> Token {
        match self {
            Self::Control => Token(1),
            Self::Stream => Token(2),
            Self::Priority(priority) => Token(16 + u64::from(priority)),
            Self::Endpoint(key) => Token(key.to_bits() | ENDPOINT),
        }
    }

    pub(super) fn of(token: Token) -> Option<Self> {
        match token.0 {
            1 => Some(Self::Control),
            2 => Some(Self::Stream),
            16..26 => Some(Self::Priority((token.0 - 16) as u8)),
            bits if bits & ENDPOINT != 0 => Some(Self::Endpoint(Key::from_bits(bits & !ENDPOINT))),
            _ => None,
        }
    }
}

impl Connection {
    pub(super) fn new(id: ConnectionId, purpose: Purpose, engine: amqp::Connection) -> Self {
        Self {
            id,
            purpose,
            control_sender: None,
            control_receiver: None,
            is_control_reported: false,
            priority_senders: Vec::new(),
            priority_receivers: 0,
            endpoints: Slab::default(),
            stream_channel: None,
            pace: engine.is_peer_alike().then(Pace::default),
            streams: Pool::of_streams(),
            messages: Pool::of_messages(),
            message_sessions: Vec::new(),
            priority_lines: (0..PRIORITIES).map(|_| VecDeque::new()).collect(),
            scheduler: Scheduler::default(),
            blocked: Vec::new(),
            control_queue: VecDeque::new(),
            control_leaving: Bytes::new(),
            control_inbox: Vec::new(),
            untaken: 0,
            gathered: 0,
            waiting: HashMap::new(),
            all_waiting: 0,
            is_dirty: false,
            is_retired: false,
            retires_at: None,
            engine,
            tallies: FastMap::default(),
            last_delivery: None,
        }
    }

    // === links ===

    /// As the end that dialled: attaches the control pair, then the priority pairs, each pair on a session of its own. The
    /// order is what tells the peer the priorities.
    pub(super) fn attach_all(&mut self, random: &mut Random) {
        let classes = std::iter::once(Class::Control).chain((0..PRIORITIES).map(Class::Priority));
        for class in classes {
            let Some(channel) = self.engine.begin() else { return };
            let receiver = self.attach(channel, class, Role::Receiver, random);
            let sender = self.attach(channel, class, Role::Sender, random);
            match class {
                Class::Control => (self.control_receiver, self.control_sender) = (receiver, sender),
                _ => self.priority_senders.extend(sender),
            }
        }
    }

    fn attach(&mut self, channel: u16, class: Class, role: Role, random: &mut Random) -> Option<LinkId> {
        let capabilities: Vec<Symbol> = self.capability(class).into_iter().map(Symbol::from).collect();
        let expiry_policy = Some(Symbol::from("link-detach"));
        let new = NewLink {
            name: format!("qdlink.{}", random.discriminator()),
            role,
            source: Some(Source {
                expiry_policy: expiry_policy.clone(),
                capabilities: capabilities.clone(),
                ..Source::default()
            }),
            target: Some(Target { expiry_policy, capabilities, ..Target::default() }),
            credit: if role == Role::Receiver { self.engine.link_capacity() } else { 0 },
            token: class.token(),
        };
        self.engine.attach(channel, new)
    }

    fn capability(&self, class: Class) -> Option<&'static str> {
        match (class, self.purpose) {
            (Class::Control, _) => Some(CONTROL),
            (Class::Priority(_), _) | (Class::Stream, Purpose::Control) => Some(DATA),
            (Class::Stream, Purpose::Data | Purpose::Links(_)) | (Class::Endpoint(_), _) => None,
        }
    }

    /// Answers a link that the peer attached.
    pub(super) fn answer(&mut self, link: LinkId, attach: &Attach) {
        match self.classify(attach) {
            Ok(class) => {
                let is_receiver = attach.role == Role::Sender;
                match class {
                    Class::Control if is_receiver => self.control_receiver = Some(link),
                    Class::Control => self.control_sender = Some(link),
                    Class::Priority(_) if is_receiver => self.priority_receivers += 1,
                    Class::Priority(_) => self.priority_senders.push(link),
                    Class::Stream | Class::Endpoint(_) => {}
                }
                let credit = if is_receiver { self.engine.link_capacity() } else { 0 };
                self.engine.accept_link(link, attach, class.token(), credit);
            }
            Err(condition) => self.engine.refuse_link(link, attach, condition),
        }
    }

    /// What a link of the peer's is, by the capability of the end that matters: the target if we receive, else the source.
    fn classify(&self, attach: &Attach) -> Result<Class, Condition> {
        let is_receiver = attach.role == Role::Sender;
        let (capabilities, address) = match (&attach.source, &attach.target) {
            (_, Some(target)) if is_receiver => (&target.capabilities, &target.address),
            (Some(source), _) if !is_receiver => (&source.capabilities, &source.address),
            _ => return Err(Condition::new("amqp:invalid-field", "no source or target on this link")),
        };
        let has = |name: &str| capabilities.iter().any(|capability| capability == name);
        let numbered = if is_receiver { self.priority_receivers } else { self.priority_senders.len() as u8 };
        match self.purpose {
            Purpose::Control if has(CONTROL) => Ok(Class::Control),
            Purpose::Control if has(DATA) && numbered < PRIORITIES => Ok(Class::Priority(numbered)),
            Purpose::Control if has(DATA) && is_receiver => Ok(Class::Stream),
            Purpose::Data if address.is_none() && is_receiver && !has(CONTROL) && !has(DATA) => Ok(Class::Stream),
            _ => Err(Condition::new("qd:forbidden", "this connection carries router links only")),
        }
    }

    /// Whether the control links have just become usable, told once.
    pub(super) fn take_control_up(&mut self) -> bool {
        let has_credit = self.control_sender.is_some_and(|link| self.engine.credit(link) > 0);
        let is_up = has_credit && self.control_receiver.is_some();
        is_up && !std::mem::replace(&mut self.is_control_reported, true)
    }

    /// Forgets a detached link. Whether it was a control link.
    pub(super) fn forget(&mut self, link: LinkId) -> bool {
        self.streams.forget(link);
        self.messages.forget(link);
        let session = self.message_sessions.iter_mut().find(|(channel, _)| *channel == link.channel());
        session.into_iter().for_each(|(_, links)| *links = links.saturating_sub(1));
        self.priority_senders.retain(|other| *other != link);
        let control = [&mut self.control_sender, &mut self.control_receiver];
        control.into_iter().filter_map(|place| place.take_if(|other| *other == link)).count() > 0
    }

    /// Detaches the control links: another connection stands for the link.
    pub(super) fn detach_control(&mut self) {
        for link in [self.control_sender.take(), self.control_receiver.take()].into_iter().flatten() {
            self.engine.detach(link, None);
        }
        self.control_queue.clear();
    }

    // === what is counted ===

    /// What has become of the deliveries of a link.
    pub(super) fn tally(&self, link: LinkId) -> LinkTally {
        self.tallies.get(&link).map(|tally| LinkTally::clone(tally)).unwrap_or_default()
    }

    /// Counts a delivery that begins on a link.
    pub(super) fn count_begun(&mut self, link: LinkId, now: Duration) {
        self.tallies.entry(link).or_default().deliveries += 1;
        self.last_delivery = Some(now);
    }

    /// Counts a delivery of a link that is over, and took so long.
    pub(super) fn count_end(&mut self, link: LinkId, now: Duration, end: End<'_>, took: Option<Duration>) {
        if self.engine.token(link).is_some() {
            self.tallies.entry(link).or_default().count(now, end, took);
        }
    }

    /// Counts a settled delivery that nobody gets.
    pub(super) fn count_dropped(&mut self, link: LinkId) {
        if self.engine.token(link).is_some() {
            self.tallies.entry(link).or_default().count_dropped();
        }
    }

    /// Notes since when a link that we send on has had no credit.
    pub(super) fn note_credit(&mut self, link: LinkId, now: Duration) {
        let has_credit = self.engine.credit(link) > 0;
        self.tallies.entry(link).or_default().note_credit(has_credit, now);
    }

    /// Forgets what was counted of a link that is gone.
    pub(super) fn forget_tally(&mut self, link: LinkId) {
        self.tallies.remove(&link);
    }

    // === messages of the router protocol ===

    pub(super) fn queue_control(&mut self, message: Bytes) {
        self.control_queue.push_back(message);
    }

    /// Whether messages of the router protocol wait.
    #[inline]
    pub(super) fn has_control(&self) -> bool {
        !(self.control_queue.is_empty() && self.control_leaving.is_empty())
    }

    /// The next frame's payload of the router protocol, if there is one and it may go: its octets, link, and whether more
    /// of the message follows.
    pub(super) fn next_control(&mut self) -> Option<(Bytes, LinkId, bool)> {
        let link = self.control_sender.filter(|link| self.engine.has_window(*link))?;
        if self.control_leaving.is_empty() {
            if self.control_queue.is_empty() || !self.engine.start_delivery(link, CONTROL_DELIVERY, true) {
                return None;
            }
            self.control_leaving = self.control_queue.pop_front()?;
        }
        let length = self.engine.max_payload(link).min(self.control_leaving.len());
        let payload = self.control_leaving.split_to(length);
        Some((payload, link, !self.control_leaving.is_empty()))
    }

    // === links for deliveries ===

    /// Puts a delivery in line for a lane's next free link; [`Connection::serve`] tells when it has one. False if the lane is
    /// gone.
    pub(super) fn queue(
        &mut self,
        lane: Lane,
        (attachment, is_settled): (Key, bool),
        now: Duration,
        random: &mut Random,
    ) -> bool {
        let needs_link = match lane {
            Lane::Stream => self.streams.queue((attachment, is_settled), &self.engine, now),
            Lane::LongMessage => {
                self.messages.queue((attachment, is_settled), &self.engine, now);
                self.attach_for_line(random);
                false
            }
            _ => {
                let Some(line) = self.line(lane) else { return false };
                line.push_back((attachment, is_settled));
                false
            }
        };
        if needs_link {
            self.attach_own_link(lane, random);
        }
        true
    }

    /// Gives the first in line for a lane a link, with its delivery begun, if one is free.
    pub(super) fn serve(&mut self, lane: Lane) -> Option<(Key, LinkId)> {
        let &(attachment, is_settled) = self.line(lane)?.front()?;
        let link = match lane {
            Lane::Stream => self.streams.take(&self.engine)?,
            Lane::LongMessage => self.messages.take(&self.engine)?,
            _ => self.link_of(lane)?,
        };
        if !self.engine.start_delivery(link, Token(attachment.to_bits()), is_settled) {
            self.release(link, lane, Duration::ZERO);
            return None;
        }
        self.line(lane)?.pop_front();
        Some((attachment, link))
    }

    /// Takes a delivery out of line for which the peer has refused or taken back the link.
    pub(super) fn take_stranded(&mut self) -> Option<Key> {
        // Those in line for a session have it when another message is over.
        let will_be_free = !self.shares_message_sessions() && self.message_sessions.iter().any(|(_, links)| *links > 0);
        self.streams.take_stranded().or_else(|| if will_be_free { None } else { self.messages.take_stranded() })
    }

    fn line(&mut self, lane: Lane) -> Option<&mut VecDeque<(Key, bool)>> {
        Some(match lane {
            Lane::Stream => self.streams.line_mut(),
            Lane::LongMessage => self.messages.line_mut(),
            Lane::Priority(priority) => &mut self.priority_lines[usize::from(priority)],
            Lane::Endpoint(key) => &mut self.endpoints.get_mut(key)?.line,
        })
    }

    /// The deliveries in line for a lane.
    pub(super) fn waiting(&self, lane: Lane) -> impl Iterator<Item = Key> {
        let line = match lane {
            Lane::Stream => Some(self.streams.line()),
            Lane::LongMessage => Some(self.messages.line()),
            Lane::Priority(priority) => Some(&self.priority_lines[usize::from(priority)]),
            Lane::Endpoint(key) => self.endpoints.get(key).map(|endpoint| &endpoint.line),
        };
        line.into_iter().flatten().map(|(attachment, _)| *attachment)
    }

    /// How many deliveries wait for a link of a priority.
    pub(super) fn waiting_for(&self, priority: u8, role: Role) -> usize {
        if role == Role::Sender { self.priority_lines[usize::from(priority)].len() } else { 0 }
    }

    /// The link that deliveries of a lane share, if they do.
    pub(super) fn link_of(&self, lane: Lane) -> Option<LinkId> {
        match lane {
            Lane::Stream | Lane::LongMessage => None,
            Lane::Priority(priority) => self.priority_link(priority),
            Lane::Endpoint(key) => Some(self.endpoints.get(key)?.link),
        }
    }

    /// The link of a priority; of a peer that attached fewer, the next lower one.
    fn priority_link(&self, priority: u8) -> Option<LinkId> {
        let index = usize::from(priority).min(self.priority_senders.len().checked_sub(1)?);
        Some(self.priority_senders[index])
    }

    /// Whether whoever takes deliveries from a lane wants them settled.
    pub(super) fn is_settled_only(&self, lane: Lane) -> bool {
        let Lane::Endpoint(key) = lane else { return false };
        self.endpoints.get(key).is_some_and(|endpoint| endpoint.is_settled_only)
    }

    /// A session for links that need none of their own.
    pub(super) fn channel_for_links(&mut self) -> Option<u16> {
        // The peer may have ended it.
        if self.stream_channel.is_none_or(|channel| self.engine.frames(channel).is_none()) {
            self.stream_channel = self.engine.begin();
        }
        self.stream_channel
    }

    /// Whether as much is under way as may be. It is over when the neighbour tells what came.
    #[inline]
    pub(super) fn is_full(&mut self) -> bool {
        self.pace.as_mut().is_some_and(|pace| pace.is_full())
    }

    /// The next to send although as much is under way as may be, and how much: only one that was idle, for it says little or
    /// waits from then on.
    #[cold]
    pub(super) fn next_little(&mut self) -> Option<(Key, usize)> {
        self.pace.as_ref().filter(|pace| pace.takes_little())?;
        self.scheduler.next_sparse().map(|(attachment, most)| (attachment, most.min(LITTLE_OCTETS)))
    }

    /// Puts it back after its turn.
    #[cold]
    pub(super) fn put_back_little(&mut self, attachment: Key, allowance: usize, sent: usize) {
        match allowance.checked_sub(sent).filter(|left| *left > 0) {
            Some(left) => self.scheduler.put_back_sparse(attachment, left),
            None => self.scheduler.put_back(attachment, allowance, sent),
        }
    }

    /// Lets those go on that wait for window of a session, if there is any.
    pub(super) fn unblock(&mut self, channel: u16) {
        if self.engine.has_window_on(channel) {
            for (_, attachment) in self.blocked.extract_if(.., |(of, _)| *of == channel) {
                self.scheduler.enter(attachment);
            }
        }
    }

    /// Counts a frame of a stream that has just left.
    #[inline]
    pub(super) fn count_sent(&mut self, channel: u16, octets: usize, now: Duration) {
        if let Some(pace) = &mut self.pace
            && pace.count(octets)
            && let Some((next, _)) = self.engine.frames(channel)
        {
            pace.mark((channel, next.wrapping_sub(1)), now);
        }
    }

    /// The neighbour has told what came on a session.
    pub(super) fn recv_received(&mut self, channel: u16, now: Duration) {
        if let Some(pace) = &mut self.pace
            && let Some((_, expected)) = self.engine.frames(channel)
        {
            pace.recv_received((channel, expected), now);
        }
    }

    /// Counts octets that wait, or wait no more, of what a session brought. A session of which too much waits is held back.
    pub(super) fn count_waiting(&mut self, channel: u16, before: usize, now: usize) {
        let waiting = self.waiting.entry(channel).or_default();
        *waiting = *waiting + now - before;
        let waiting = *waiting;
        let was_too_much = self.all_waiting > HELD_ROUTER_OCTETS;
        self.all_waiting = self.all_waiting + now - before;
        let is_too_much = self.all_waiting > HELD_ROUTER_OCTETS;
        let most = match (self.purpose, self.engine.is_peer_alike()) {
            (_, true) if is_too_much => HELD_LEAST_OCTETS,
            (Purpose::Links(_), _) | (_, true) => HELD_OCTETS,
            _ => HELD_ROUTER_OCTETS,
        };
        if waiting > most {
            self.engine.hold_window(channel, true);
        } else if waiting <= most / 2 {
            self.engine.hold_window(channel, false);
        }
        // Sessions of which less waits than may again: nothing need move on them to say so.
        if was_too_much && !is_too_much && most == HELD_OCTETS {
            for (channel, _) in self.waiting.iter().filter(|(_, waiting)| **waiting <= most / 2) {
                self.engine.hold_window(*channel, false);
            }
        }
    }

    /// Whether anything is counted by [`Connection::count_waiting`].
    pub(super) fn is_holding(&self) -> bool {
        self.all_waiting > 0
    }

    /// Whether there is one more.
    fn attach_own_link(&mut self, lane: Lane, random: &mut Random) -> bool {
        let is_stream = lane == Lane::Stream;
        let channel = if is_stream { self.channel_for_links() } else { self.channel_for_message() };
        let link = channel.and_then(|channel| self.attach(channel, Class::Stream, Role::Sender, random));
        let pool = if is_stream { &mut self.streams } else { &mut self.messages };
        link.map(|link| pool.add(link)).is_some()
    }

    /// Attaches links for the long messages in line, as many as they want and there are sessions for.
    pub(super) fn attach_for_line(&mut self, random: &mut Random) {
        if self.messages.is_short(&self.engine) {
            self.message_sessions.retain(|(channel, _)| self.engine.frames(*channel).is_some());
        }
        while self.messages.is_short(&self.engine)
            && self.has_session_for_message()
            && self.attach_own_link(Lane::LongMessage, random)
        {}
    }

    /// A session for the link of a long message: one that has none and is not held back, if it can be had.
    fn channel_for_message(&mut self) -> Option<u16> {
        // Streams have theirs in any case.
        let for_streams = self.channel_for_links();
        let is_free = |(channel, links): &&mut (u16, usize)| *links == 0 && self.engine.has_window_on(*channel);
        if let Some((channel, links)) = self.message_sessions.iter_mut().find(is_free) {
            *links += 1;
            return Some(*channel);
        }
        if self.message_sessions.len() < self.most_message_sessions()
            && let Some(new) = self.engine.begin()
        {
            self.message_sessions.push((new, 1));
            return Some(new);
        }
        if !self.shares_message_sessions() {
            return None;
        }
        let engine = &self.engine;
        let burden = |(channel, links): &&mut (u16, usize)| (!engine.has_window_on(*channel), *links);
        match self.message_sessions.iter_mut().min_by_key(burden) {
            Some((channel, links)) => {
                *links += 1;
                Some(*channel)
            }
            None => for_streams,
        }
    }

    /// Whether a long message could have a session: if they share them, one that is not held back.
    fn has_session_for_message(&self) -> bool {
        let is_shared = self.shares_message_sessions();
        let is_free =
            |(channel, links): &(u16, usize)| (is_shared || *links == 0) && self.engine.has_window_on(*channel);
        self.message_sessions.len() < self.most_message_sessions()
            || self.message_sessions.iter().any(is_free)
            || is_shared && self.messages.lacks_links()
    }

    /// Whether several long messages share a session. One of ours holds a session back for what waits of it: of two for the
    /// same consumer the first would wait for the session, and the second for the first. A router of another kind keeps what
    /// waits.
    fn shares_message_sessions(&self) -> bool {
        !self.engine.is_peer_alike() || self.most_message_sessions() == 0
    }

    fn most_message_sessions(&self) -> usize {
        let most = if self.engine.is_peer_alike() { MESSAGE_SESSIONS } else { FOREIGN_MESSAGE_SESSIONS };
        let others = STREAM_SESSIONS + if self.purpose == Purpose::Control { CONTROL_SESSIONS } else { 0 };
        // The peer begins as many, besides those for all else.
        most.min(self.engine.max_sessions().saturating_sub(others) / 2)
    }

    /// Gives up the delivery under way on a link, and takes the link back.
    pub(super) fn abort(&mut self, link: LinkId, lane: Lane) {
        self.engine.abort(link, None);
        // The peer would not hear of it before whoever holds the session back goes on.
        if lane == Lane::LongMessage && !self.engine.has_window(link) {
            return self.engine.detach(link, None);
        }
        self.release(link, lane, Duration::ZERO);
    }

    /// Takes back a link whose delivery has left completely; see [`Pool::release`].
    pub(super) fn release(&mut self, link: LinkId, lane: Lane, rests_until: Duration) {
        match lane {
            Lane::Stream => self.streams.release(link, &self.engine, rests_until),
            Lane::LongMessage => self.messages.release(link, &self.engine, rests_until),
            Lane::Priority(_) | Lane::Endpoint(_) => {}
        }
    }

    /// A delivery on a link of its own is settled: the link is detached if it is idle and enough others are.
    pub(super) fn spare(&mut self, link: LinkId, lane: Lane, now: Duration) {
        let is_spare = match lane {
            Lane::Stream => self.streams.spare(link, &self.engine, now),
            Lane::LongMessage => self.messages.spare(link, &self.engine, now),
            Lane::Priority(_) | Lane::Endpoint(_) => false,
        };
        if is_spare {
            self.engine.detach(link, None);
        }
    }

    /// Notes that a link for streams or long messages was given credit; the lane that may go on.
    pub(super) fn feed(&mut self, link: LinkId) -> Lane {
        if self.messages.feed(link, &self.engine) {
            return Lane::LongMessage;
        }
        self.streams.feed(link, &self.engine);
        Lane::Stream
    }
}
