//! The AMQP 1.0 connection engine: octets in, events out; calls in, octets out. No sockets, no clock.
//!
//! A user of the engine
//! 1. hands what arrived to [`Connection::next`] until it returns `None`, and acts on each [`Event`];
//! 2. calls what it wants done ([`Connection::attach`], [`Connection::transfer`], …);
//! 3. writes [`Connection::output`] to the peer and says so with [`Connection::clear_output`];
//! 4. calls [`Connection::handle_timeout`] when [`Connection::poll_timeout`] has come.
//!
//! Payload is never copied: it comes as slices of the input, as it arrives, and leaves right behind the frame header that
//! [`Connection::transfer`] puts at the end of the output.
//!
//! ```text
//!  connect():  SASL header ─► mechanisms ─► outcome ─► AMQP header ─► open sent ──► open received ─► Open
//!  accept():   first header ─► init ─► authenticate ─► AMQP header ─► open received ─► answer_open() ─► Open
//!                                                                                            close ─► Closed
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hashbrown::HashMap as FastMap;

pub use self::error::Error;
use self::error::violation;
use self::event::Burst;
pub use self::event::Event;
use self::opening::Stage;
pub use self::opening::{Admission, Config};
use super::delivery::DeliveryId;
use super::frame::{Body, FrameReader, write_empty, write_frame};
use super::limits::{
    DEFAULT_IDLE_TIMEOUT, INCOMING_WINDOW_FRAMES, MAX_LINKS, MAX_SESSIONS, MIN_MAX_FRAME_BYTES, TOLD_OCTETS,
};
use super::link::{Current, Drain, Link, LinkStatus, Token};
use super::outcome::{Condition, DeliveryState};
use super::performative::{Attach, Begin, Close, Detach, Disposition, End, Role, Transfer};
use super::sasl::Login;
use super::session::Session;
use super::terminus::{Source, Target};
use crate::slab::Key;

mod error;
mod event;
mod incoming;
mod opening;

/// How often an engine looks at its idle timers before the peer has said what it needs.
const FIRST_TICK: Duration = Duration::from_secs(1);

/// A link of a connection, until both ends have detached it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId {
    channel: u16,
    key: Key,
}

/// What an attach of ours asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct NewLink {
    /// Its name, unique per role.
    pub name: String,
    /// What we will be on it.
    pub role: Role,
    /// Where messages come from.
    pub source: Option<Source>,
    /// Where messages go to.
    pub target: Option<Target>,
    /// As receiver: credit granted with the attach, and restored when half of it is used.
    pub credit: u32,
    /// Comes back with events about the link.
    pub token: Token,
}

/// A transfer whose payload is passing.
#[derive(Debug, Clone, Copy)]
struct Receiving {
    link: LinkId,
    current: Current,
    more: bool,
}

/// Settle modes of a link: the sender settles or not, the receiver settles first.
const MIXED_FIRST: (u8, u8) = (2, 0);

/// One end of an AMQP connection.
#[derive(Debug)]
pub struct Connection {
    config: Config,
    is_initiator: bool,
    stage: Stage,
    frames: FrameReader,
    out: Vec<u8>,
    events: VecDeque<Event<'static>>,
    sessions: Vec<Option<Session>>,
    by_remote_channel: FastMap<u16, u16, foldhash::fast::RandomState>,
    receiving: Option<Receiving>,
    /// Where in the output a disposition stands at the very end that the next one may extend.
    last_disposition: Option<(usize, usize, u16, Disposition)>,
    /// Octets that came since the peer was told what came.
    untold: usize,
    peer_max_frame_bytes: u32,
    peer_channel_max: u16,
    peer_idle_timeout: Option<Duration>,
    is_peer_alike: bool,
    close_sent: bool,
    burst: Option<Burst>,
    begun: Instant,
    next_tick: Instant,
    silent_ticks: u32,
    heard: bool,
    sent: bool,
    /// Lines about frames, if they are wanted.
    trace: Option<Vec<String>>,
}

/// Looks this often within the shorter of the two idle times, so neither is passed by more than a quarter.
const TICKS_PER_TIMEOUT: u32 = 4;

/// But not more often than this, whatever a peer asks for.
const MIN_TICK: Duration = Duration::from_millis(50);

impl Connection {
    /// The connecting end. `logins` are tried in their order; without any, SASL is left out.
    pub fn connect(config: Config, logins: Vec<Login>, now: Instant) -> Self {
        let mut connection = Self::new(config, true, Stage::AmqpHeader, now);
        if logins.is_empty() {
            connection.send_open();
        } else {
            connection.out.extend_from_slice(&opening::SASL_HEADER);
            connection.stage = Stage::SaslHeader(logins);
        }
        connection
    }

    /// The accepting end. It stays silent until the peer has spoken.
    pub fn accept(config: Config, admission: Admission, now: Instant) -> Self {
        Self::new(config, false, Stage::FirstHeader(admission), now)
    }

    fn new(config: Config, is_initiator: bool, stage: Stage, now: Instant) -> Self {
        Self {
            frames: FrameReader::new(config.max_frame_bytes.max(MIN_MAX_FRAME_BYTES)),
            config,
            is_initiator,
            stage,
            out: Vec::new(),
            events: VecDeque::new(),
            sessions: Vec::new(),
            by_remote_channel: FastMap::default(),
            receiving: None,
            last_disposition: None,
            untold: 0,
            peer_max_frame_bytes: MIN_MAX_FRAME_BYTES,
            peer_channel_max: 0,
            peer_idle_timeout: None,
            is_peer_alike: false,
            close_sent: false,
            burst: None,
            begun: now,
            next_tick: now + FIRST_TICK,
            silent_ticks: 0,
            heard: false,
            sent: false,
            trace: None,
        }
    }

    // === what arrives ===

    /// Reads on until something has happened, and takes what it read off the front of `input`.
    ///
    /// `None` asks for more input, of which nothing is left then; or for the answer to [`Event::Authenticate`] or
    /// [`Event::Opened`].
    ///
    /// # Errors
    /// After an error the connection is closed: the output holds what the peer should be told, then the socket goes.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Error> {
        self.heard |= !input.is_empty();
        loop {
            if let Some(event) = self.events.pop_front().or_else(|| self.burst.as_mut()?.next()) {
                return Ok(Some(event));
            }
            match self.step(input) {
                Ok(Progress::Event(event)) => return Ok(Some(event)),
                Ok(Progress::Again) => {}
                Ok(Progress::Starved) => return Ok(None),
                Err(error) => {
                    self.fail(error.condition());
                    return Err(error);
                }
            }
        }
    }

    fn step<'a>(&mut self, input: &mut &'a [u8]) -> Result<Progress<'a>, Error> {
        if let Some(receiving) = self.receiving {
            return Ok(self.receive_payload(receiving, input));
        }
        if self.frames.payload_left() > 0 {
            // Behind a performative that has none, or of a delivery nobody wants.
            return Ok(if self.frames.payload(input).is_empty() { Progress::Starved } else { Progress::Again });
        }
        match self.stage {
            Stage::SaslHeader(_) | Stage::FirstHeader(_) | Stage::AmqpHeader => self.recv_header(input),
            Stage::Deciding | Stage::Answering => Ok(Progress::Starved),
            Stage::Closed => {
                *input = &[];
                Ok(Progress::Starved)
            }
            _ => match self.frames.next(input)? {
                None => Ok(Progress::Starved),
                Some(frame) => match frame.body {
                    Body::Empty => Ok(Progress::Again),
                    Body::Sasl(sasl) => self.recv_sasl(sasl),
                    Body::Amqp(performative) => self.recv_performative(frame.channel, performative),
                },
            },
        }
    }

    // === what the user wants ===

    /// Begins a session; its channel is used at once, without waiting for the peer. `None` if there are too many.
    pub fn begin(&mut self) -> Option<u16> {
        let channel = self.free_channel().filter(|channel| usize::from(*channel) < self.max_sessions())?;
        self.sessions[usize::from(channel)] = Some(self.new_session());
        self.send_begin(channel);
        Some(channel)
    }

    /// Attaches a link on a session. `None` if the session is gone or has too many links.
    pub fn attach(&mut self, channel: u16, new: NewLink) -> Option<LinkId> {
        let session = self.sessions.get_mut(usize::from(channel))?.as_mut()?;
        let key = session.links.insert(Link::new(&new.name, new.role, new.token));
        if key.index() > session.remote_handle_max || key.index() >= MAX_LINKS {
            session.links.remove(key);
            return None;
        }
        session.unanswered.insert((new.name.clone(), new.role), key);
        let link = LinkId { channel, key };
        self.send_attach(link, new.name, (new.source, new.target), MIXED_FIRST);
        self.set_credit_fields(link, new.credit);
        if new.credit > 0 {
            self.send_link_flow(link);
        }
        Some(link)
    }

    /// Answers a link of the peer's: yes, with these termini, and as receiver with credit that is restored by itself.
    pub fn accept_link(&mut self, link: LinkId, attach: &Attach, token: Token, credit: u32) {
        let Some(own) = self.link_mut(link) else { return };
        own.token = token;
        // A peer that insists wants to hear it; we settle first, and of what we send some may be settled.
        let sender =
            if attach.role == Role::Receiver && attach.snd_settle_mode == 0 { 2 } else { attach.snd_settle_mode };
        let receiver = if attach.role == Role::Receiver { attach.rcv_settle_mode } else { 0 };
        let termini = (attach.source.clone(), attach.target.clone());
        self.send_attach(link, attach.name.clone(), termini, (sender, receiver));
        self.set_credit_fields(link, credit);
        if credit > 0 {
            self.send_link_flow(link);
        }
    }

    /// Answers a link of the peer's: no. (An attach without termini, then a detach with the reason, AMQP 1.0 §2.6.3.)
    pub fn refuse_link(&mut self, link: LinkId, attach: &Attach, condition: Condition) {
        self.send_attach(link, attach.name.clone(), (None, None), MIXED_FIRST);
        self.detach(link, Some(condition));
    }

    /// Detaches a link; [`Event::Detached`] follows when the peer has answered.
    pub fn detach(&mut self, link: LinkId, error: Option<Condition>) {
        let Some(own) = self.link_mut(link).filter(|own| !own.detach_sent) else { return };
        own.detach_sent = true;
        session_mut(&mut self.sessions, link.channel).forget_delayed(link.key);
        self.send(link.channel, &Detach { handle: link.key.index(), closed: true, error });
    }

    /// Ends a session and with it its links.
    pub fn end(&mut self, channel: u16, error: Option<Condition>) {
        let session = self.sessions.get_mut(usize::from(channel)).and_then(Option::as_mut);
        let Some(session) = session.filter(|session| !session.end_sent) else { return };
        session.end_sent = true;
        self.send(channel, &End { error });
    }

    /// Closes the connection; the peer's close answers with [`Event::Closed`].
    pub fn close(&mut self, error: Option<Condition>) {
        if matches!(self.stage, Stage::Open | Stage::Answering) {
            self.send_close(error);
        }
    }

    /// As receiver: grants credit anew, and keeps restoring it; 0 stops further deliveries.
    pub fn set_credit(&mut self, link: LinkId, credit: u32) {
        self.set_credit_fields(link, credit);
        self.send_link_flow(link);
    }

    /// As receiver: grants credit anew, once: it is not restored.
    pub fn grant(&mut self, link: LinkId, credit: u32) {
        if let Some(own) = self.link_mut(link).filter(|own| own.role == Role::Receiver) {
            own.grant(credit);
            own.replenish = 0;
            self.send_link_flow(link);
        }
    }

    /// As receiver: whether window is kept back on a session. The frames that are under way still come.
    pub fn hold_window(&mut self, channel: u16, is_held: bool) {
        let session = self.sessions.get_mut(usize::from(channel)).and_then(Option::as_mut);
        if session.is_some_and(|session| session.hold(is_held)) {
            self.send_session_flow(channel);
        }
    }

    /// Sets what comes back with events about a link.
    pub fn set_token(&mut self, link: LinkId, token: Token) {
        if let Some(own) = self.link_mut(link) {
            own.token = token;
        }
    }

    /// As receiver: asks the sender to use its credit up or give it back. No more is granted by itself.
    pub fn drain(&mut self, link: LinkId) {
        if let Some(own) = self.link_mut(link) {
            own.drain = Drain::Asked;
            own.replenish = 0;
            self.send_link_flow(link);
        }
    }

    /// As sender: gives unused credit back, in answer to a drain.
    pub fn drained(&mut self, link: LinkId) {
        if let Some(own) = self.link_mut(link) {
            own.delivery_count = own.delivery_count.wrapping_add(own.credit);
            own.credit = 0;
            self.send_link_flow(link);
        }
    }

    /// Begins a delivery on a link we send on; false without credit or while another one is under way.
    ///
    /// Nothing is sent before its first [`Connection::transfer`].
    pub fn start_delivery(&mut self, link: LinkId, token: Token, settled: bool) -> bool {
        let Some(own) = self.link_mut(link).filter(|own| own.can_start()) else { return false };
        own.current = Some(Current { number: 0, token, settled, is_first: true });
        own.count_delivery()
    }

    /// How many octets of payload the next frame of a link's delivery may carry.
    pub fn max_payload(&self, link: LinkId) -> usize {
        // Of the header only the handle varies: 1, 2 or 5 octets. A first frame has an id and a tag in place of nulls.
        const CONTINUATION: usize = 8 + 3 + 3 + 4 + 1;
        const FIRST: usize = CONTINUATION + 4 + 5;
        let handle = match link.key.index() {
            0 => 1,
            1..256 => 2,
            _ => 5,
        };
        let is_first = self.current(link).is_some_and(|current| current.is_first);
        self.peer_max_frame_bytes as usize - handle - if is_first { FIRST } else { CONTINUATION }
    }

    /// Whether the peer takes another transfer frame on the link's session.
    pub fn has_window(&self, link: LinkId) -> bool {
        self.has_window_on(link.channel)
    }

    /// Whether the peer takes another frame on a session.
    pub fn has_window_on(&self, channel: u16) -> bool {
        let session = self.sessions.get(usize::from(channel)).and_then(Option::as_ref);
        session.is_some_and(|session| session.remote_incoming_window > 0)
    }

    /// Puts the header of the next frame of a link's delivery at the end of the output. The delivery, unless none is
    /// under way.
    ///
    /// The caller sends exactly `payload` octets right behind the output, [`Connection::max_payload`] at most, and asks
    /// [`Connection::has_window`] first. With `more` false the delivery is complete.
    pub fn transfer(&mut self, link: LinkId, payload: usize, more: bool) -> Option<DeliveryId> {
        self.write_transfer(link, payload, |transfer| transfer.more = more)
    }

    /// Appends the payload of the [`Connection::transfer`] just made, for those who do not send it from where it lies.
    pub fn append_payload(&mut self, payload: &[u8]) {
        self.out.extend_from_slice(payload);
    }

    /// Gives up the delivery under way on a link we send on.
    pub fn abort(&mut self, link: LinkId, state: Option<DeliveryState>) {
        let Some(own) = self.link_mut(link) else { return };
        if own.current.is_some_and(|current| current.is_first) {
            // Nothing of it was sent, so the peer need not know.
            own.uncount_delivery();
            return;
        }
        let aborted = self.write_transfer(link, 0, |transfer| {
            transfer.aborted = true;
            transfer.state = state;
        });
        if let Some(DeliveryId { channel, number, .. }) = aborted {
            session_mut(&mut self.sessions, channel).settle(Role::Sender, number);
        }
    }

    /// Tells the peer the state of a delivery, and with `settled` forgets it.
    pub fn dispose(&mut self, delivery: DeliveryId, state: Option<DeliveryState>, settled: bool) {
        let DeliveryId { channel, role, number } = delivery;
        let Some(session) = self.sessions.get_mut(usize::from(channel)).and_then(Option::as_mut) else { return };
        let is_known = match settled {
            true => session.settle(role, number),
            false => session.deliveries(role).contains_key(&number),
        };
        if is_known {
            self.send_disposition(
                channel,
                Disposition { role, first: number, last: None, settled, state, batchable: false },
            );
        }
    }

    /// Sets what comes back with events about the delivery under way on a link we receive on.
    pub fn set_delivery_token(&mut self, delivery: DeliveryId, link: LinkId, token: Token) {
        let session = self.sessions.get_mut(usize::from(delivery.channel)).and_then(Option::as_mut);
        let Some(session) = session else { return };
        if let Some(unsettled) = session.deliveries_mut(delivery.role).get_mut(&delivery.number) {
            unsettled.token = token;
        }
        let current = session.links.get_mut(link.key).and_then(|own| own.current.as_mut());
        if let Some(current) = current.filter(|current| current.number == delivery.number) {
            current.token = token;
        }
    }

    // === what leaves ===

    /// Octets for the peer, in order.
    pub fn output(&self) -> &[u8] {
        &self.out
    }

    /// Says that the output was handed on.
    pub fn clear_output(&mut self) {
        self.sent |= !self.out.is_empty();
        self.out.clear();
        self.last_disposition = None;
    }

    /// When [`Connection::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.is_closed()).then_some(self.next_tick)
    }

    /// Lets time pass: sends a sign of life if the peer needs one.
    ///
    /// # Errors
    /// [`Error::Silent`] if the peer gave none for the idle timeout.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        if now < self.next_tick || self.is_closed() {
            return Ok(());
        }
        let ours = Some(self.config.idle_timeout).filter(|timeout| !timeout.is_zero());
        let shorter = ours.into_iter().chain(self.peer_idle_timeout).min();
        let period = shorter.map_or(DEFAULT_IDLE_TIMEOUT, |timeout| timeout / TICKS_PER_TIMEOUT).max(MIN_TICK);
        self.silent_ticks = if std::mem::take(&mut self.heard) { 0 } else { self.silent_ticks + 1 };
        self.next_tick = now + period;
        if let Some(limit) = ours.filter(|limit| period * self.silent_ticks >= *limit) {
            let error = Error::Silent(limit);
            self.fail(error.condition());
            return Err(error);
        }
        if !std::mem::take(&mut self.sent) && self.peer_idle_timeout.is_some() && matches!(self.stage, Stage::Open) {
            write_empty(&mut self.out);
        }
        Ok(())
    }

    // === what is so ===

    /// All links.
    pub fn links(&self) -> impl Iterator<Item = LinkStatus<'_>> {
        let sessions = self.sessions.iter().enumerate();
        let sessions = sessions.filter_map(|(channel, session)| Some((channel as u16, session.as_ref()?)));
        sessions.flat_map(|(channel, session)| {
            session.links.iter().map(move |(key, link)| LinkStatus {
                id: LinkId { channel, key },
                name: &link.name,
                role: link.role,
                token: link.token,
                place: (channel, key.index()),
                credit: link.credit,
                is_attached: link.attach_sent && link.remote_handle.is_some() && !link.detach_sent,
            })
        })
    }

    /// Tells of every frame from now on, or no more: see [`Connection::take_trace`].
    pub fn set_traced(&mut self, is_traced: bool) {
        self.trace = is_traced.then(Vec::new);
    }

    /// A line for every frame since the last call, both ways: its channel, its direction, and what it says but for the
    /// message in it. For people.
    pub fn take_trace(&mut self) -> Vec<String> {
        self.trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Whether both opens were exchanged and neither end has closed.
    pub fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open) && !self.close_sent
    }

    /// Whether nothing more will happen.
    pub fn is_closed(&self) -> bool {
        matches!(self.stage, Stage::Closed)
    }

    /// What comes back with events about a link.
    pub fn token(&self, link: LinkId) -> Option<Token> {
        self.link(link).map(|own| own.token)
    }

    /// Whether a delivery of ours is under way on a link.
    pub fn is_sending(&self, link: LinkId) -> bool {
        self.current(link).is_some()
    }

    /// Deliveries that may still start on a link.
    pub fn credit(&self, link: LinkId) -> u32 {
        self.link(link).map_or(0, |own| own.credit)
    }

    /// Transfer frames sent on a session, and of those the ones that the peer is known to have received; modulo 2³².
    pub fn frames(&self, channel: u16) -> Option<(u32, u32)> {
        let session = self.sessions.get(usize::from(channel)).and_then(Option::as_ref);
        session.map(|session| (session.next_outgoing_id, session.next_expected_id))
    }

    /// Ours fill frames that are four times as large as those of others: so they may send as many octets ahead.
    fn new_session(&self) -> Session {
        let frames = self.config.session_window_frames;
        let most = if self.is_peer_alike { INCOMING_WINDOW_FRAMES / 4 } else { frames };
        Session::new(frames.min(most), self.is_peer_alike)
    }

    /// Sessions that there may be, begun by either end: each needs a channel of both.
    pub fn max_sessions(&self) -> usize {
        usize::from(self.peer_channel_max.min(self.config.sessions() - 1)) + 1
    }

    /// Whether the peer says that it is the same product as we.
    pub fn is_peer_alike(&self) -> bool {
        self.is_peer_alike
    }

    /// Deliveries that the peer may have under way on a link: as configured.
    pub fn link_capacity(&self) -> u32 {
        self.config.link_capacity
    }

    /// The largest frame the peer takes, in octets.
    pub fn peer_max_frame_bytes(&self) -> u32 {
        self.peer_max_frame_bytes
    }

    /// Deliveries not settled by both ends, those sent and those received.
    pub fn unsettled(&self) -> usize {
        let count = |session: &Session, role| session.deliveries(role).len();
        let both = |session| count(session, Role::Sender) + count(session, Role::Receiver);
        self.sessions.iter().flatten().map(both).sum()
    }

    /// Whether deliveries of a link are not settled.
    pub fn has_unsettled(&self, link: LinkId) -> bool {
        self.link(link).is_some_and(|own| own.unsettled > 0)
    }

    // === below ===

    fn link(&self, id: LinkId) -> Option<&Link> {
        self.sessions.get(usize::from(id.channel))?.as_ref()?.links.get(id.key)
    }

    fn link_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.sessions.get_mut(usize::from(id.channel))?.as_mut()?.links.get_mut(id.key)
    }

    fn current(&self, id: LinkId) -> Option<Current> {
        self.link(id)?.current
    }

    fn free_channel(&mut self) -> Option<u16> {
        let free = self.sessions.iter().position(Option::is_none).unwrap_or(self.sessions.len());
        if free == usize::from(MAX_SESSIONS) {
            return None;
        }
        if free == self.sessions.len() {
            self.sessions.push(None);
        }
        Some(free as u16)
    }

    fn set_credit_fields(&mut self, link: LinkId, credit: u32) {
        if let Some(own) = self.link_mut(link).filter(|own| own.role == Role::Receiver) {
            own.grant(credit);
        }
    }

    fn fail(&mut self, condition: Option<Condition>) {
        let is_speaking = matches!(self.stage, Stage::Opening | Stage::Answering | Stage::Open);
        if matches!(self.stage, Stage::Answering) {
            let open = self.config.open();
            self.send(0, &open); // a close must follow an open
        }
        if is_speaking {
            self.send_close(condition);
        }
        self.stage = Stage::Closed;
    }

    fn send_begin(&mut self, channel: u16) {
        let session = session_mut(&mut self.sessions, channel);
        session.begin_sent = true;
        let begin = Begin {
            remote_channel: session.remote_channel,
            next_outgoing_id: session.next_outgoing_id,
            incoming_window: session.incoming_window,
            outgoing_window: i32::MAX.cast_unsigned(),
            handle_max: MAX_LINKS - 1,
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
        };
        self.send(channel, &begin);
    }

    fn send_attach(
        &mut self,
        id: LinkId,
        name: String,
        (source, target): (Option<Source>, Option<Target>),
        (snd_settle_mode, rcv_settle_mode): (u8, u8),
    ) {
        let Some(own) = self.link_mut(id) else { return };
        own.attach_sent = true;
        let role = own.role;
        let attach = Attach {
            name,
            handle: id.key.index(),
            role,
            snd_settle_mode,
            rcv_settle_mode,
            source,
            target,
            initial_delivery_count: (role == Role::Sender).then_some(0),
            max_message_size: 0,
            offered_capabilities: Vec::new(),
            desired_capabilities: Vec::new(),
            properties: None,
        };
        self.send(id.channel, &attach);
    }

    fn send_session_flow(&mut self, channel: u16) {
        let flow = session_mut(&mut self.sessions, channel).flow();
        self.send(channel, &flow);
    }

    /// One of ours wants to know what came, after so many octets: it tells it how much may be under way.
    fn tell_what_came(&mut self, channel: u16, octets: usize) {
        session_mut(&mut self.sessions, channel).is_untold = true;
        self.untold += octets;
        if self.untold < TOLD_OCTETS {
            return;
        }
        self.untold = 0;
        for channel in 0..self.sessions.len() as u16 {
            let session = self.sessions.get(usize::from(channel)).and_then(Option::as_ref);
            if session.is_some_and(|session| session.is_untold) {
                self.send_session_flow(channel);
            }
        }
    }

    fn send_link_flow(&mut self, id: LinkId) {
        let session = self.sessions.get_mut(usize::from(id.channel)).and_then(Option::as_mut);
        if let Some(flow) = session.and_then(|session| session.link_flow(id.key)) {
            self.send(id.channel, &flow);
        }
    }

    /// Sends a disposition, as part of the one just before it if it only carries its range on.
    fn send_disposition(&mut self, channel: u16, mut disposition: Disposition) {
        if let Some((start, end, before_channel, before)) = self.last_disposition.take()
            && end == self.out.len()
            && before_channel == channel
            && before.last.unwrap_or(before.first).wrapping_add(1) == disposition.first
            && (before.role, before.settled, &before.state)
                == (disposition.role, disposition.settled, &disposition.state)
        {
            self.out.truncate(start);
            disposition.last = Some(disposition.first);
            disposition.first = before.first;
        }
        let start = self.out.len();
        self.send(channel, &disposition);
        self.last_disposition = Some((start, self.out.len(), channel, disposition));
    }

    fn write_transfer(&mut self, id: LinkId, payload: usize, fill: impl FnOnce(&mut Transfer)) -> Option<DeliveryId> {
        let LinkId { channel, key } = id;
        let session = self.sessions.get_mut(usize::from(channel))?.as_mut().filter(|_| !self.close_sent)?;
        let own = session.links.get_mut(key)?;
        let current = own.current.as_mut()?;
        let mut transfer = Transfer::new(key.index());
        if std::mem::take(&mut current.is_first) {
            // Numbers are given as first frames leave: receivers insist on an unbroken sequence.
            current.number = session.next_delivery_number;
            session.next_delivery_number = current.number.wrapping_add(1);
            transfer.delivery_id = Some(current.number);
            transfer.delivery_tag = Some(current.number.into());
            transfer.message_format = Some(0);
            transfer.settled = current.settled.then_some(true);
        }
        let Current { number, token, settled, .. } = *current;
        fill(&mut transfer);
        if !transfer.more {
            own.current = None;
        }
        if transfer.delivery_id.is_some() && !settled {
            session.begin_unsettled(Role::Sender, number, key, token);
        }
        if transfer.aborted && session.remote_incoming_window == 0 {
            session.delayed.push(transfer);
        } else {
            session.count_outgoing();
            self.put_transfer(channel, &transfer, payload);
        }
        Some(DeliveryId { channel, role: Role::Sender, number })
    }

    #[inline]
    fn put_transfer(&mut self, channel: u16, transfer: &Transfer, payload: usize) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{channel} -> {transfer:?} ({payload})"));
        }
        write_frame(&mut self.out, channel, transfer, payload);
    }

    /// Sends what waited for the peer's window, as far as there is window now.
    fn send_delayed(&mut self, channel: u16) {
        let session = session_mut(&mut self.sessions, channel);
        let count = session.delayed.len().min(session.remote_incoming_window as usize);
        let delayed: Vec<_> = session.delayed.drain(..count).collect();
        delayed.iter().for_each(|_| session.count_outgoing());
        delayed.iter().for_each(|transfer| self.put_transfer(channel, transfer, 0));
    }

    /// Nothing follows a close.
    fn send(&mut self, channel: u16, performative: &(impl super::codec::Encode + std::fmt::Debug)) {
        if !self.close_sent {
            if let Some(trace) = &mut self.trace {
                trace.push(format!("{channel} -> {performative:?}"));
            }
            write_frame(&mut self.out, channel, performative, 0);
        }
    }

    fn send_close(&mut self, error: Option<Condition>) {
        self.send(0, &Close { error });
        self.close_sent = true;
    }
}

impl LinkId {
    /// The session the link is on.
    pub fn channel(self) -> u16 {
        self.channel
    }
}

enum Progress<'a> {
    Event(Event<'a>),
    Again,
    Starved,
}

/// The session of a channel that the peer's channels lead to, or that the caller just looked at.
fn session_mut(sessions: &mut [Option<Session>], channel: u16) -> &mut Session {
    sessions[usize::from(channel)].as_mut().expect("a channel in use has a session")
}
