//! From the first octet to the open of both ends: protocol headers, SASL, and what each says about itself.

use std::time::Duration;

use super::{Connection, Error, Event, Progress, violation};
use crate::amqp::frame::write_sasl;
use crate::amqp::limits::{
    DEFAULT_IDLE_TIMEOUT, DEFAULT_LINK_CAPACITY, DEFAULT_MAX_FRAME_BYTES, INCOMING_WINDOW_FRAMES, MAX_SESSIONS,
    MIN_MAX_FRAME_BYTES,
};
use crate::amqp::performative::Open;
use crate::amqp::sasl::{Claim, Login, Mechanism, SaslFrame, outcome};
use crate::amqp::value::{Symbol, Value};

pub(super) const SASL_HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";
const AMQP_HEADER: [u8; 8] = *b"AMQP\x00\x01\x00\x00";

/// What an engine says about itself, and its limits.
#[derive(Debug, Clone)]
pub struct Config {
    /// The name of this end; for routers the router id.
    pub container_id: String,
    /// The host the peer is asked to be; set by the connecting end.
    pub hostname: Option<String>,
    /// Largest frame accepted, in octets; at least [`MIN_MAX_FRAME_BYTES`].
    pub max_frame_bytes: u32,
    /// Silence after which the peer is lost; zero waits for ever.
    pub idle_timeout: Duration,
    /// Capabilities, offered and desired alike.
    pub capabilities: Vec<Symbol>,
    /// Facts about this end for the peer.
    pub properties: Vec<(Symbol, Value)>,
    /// Transfer frames that a peer may send on a session before window is given back; at least 2.
    pub session_window_frames: u32,
    /// Sessions that the peer may have at a time; at least 1, and [`MAX_SESSIONS`] at most.
    pub max_sessions: u16,
    /// For whoever lets links in: deliveries that the peer may have under way on one.
    pub link_capacity: u32,
}

/// The property of an open that says what program its sender is.
const PRODUCT: &str = "product";

impl Config {
    /// The defaults, under a name.
    pub fn new(container_id: impl Into<String>) -> Self {
        Self {
            container_id: container_id.into(),
            hostname: None,
            max_frame_bytes: DEFAULT_MAX_FRAME_BYTES,
            idle_timeout: DEFAULT_IDLE_TIMEOUT,
            capabilities: Vec::new(),
            properties: Vec::new(),
            session_window_frames: INCOMING_WINDOW_FRAMES,
            max_sessions: MAX_SESSIONS,
            link_capacity: DEFAULT_LINK_CAPACITY,
        }
    }

    /// Sessions that the peer may have.
    pub(super) fn sessions(&self) -> u16 {
        self.max_sessions.clamp(1, MAX_SESSIONS)
    }

    pub(super) fn open(&self) -> Open {
        // Half, so that a peer that keeps to the announced value is never mistaken for a dead one (AMQP 1.0 §2.4.5).
        let idle = u32::try_from(self.idle_timeout.as_millis() / 2).unwrap_or(u32::MAX);
        Open {
            container_id: self.container_id.clone(),
            hostname: self.hostname.clone(),
            max_frame_size: self.max_frame_bytes,
            channel_max: self.sessions() - 1,
            idle_time_out: (idle > 0).then_some(idle),
            outgoing_locales: Vec::new(),
            incoming_locales: Vec::new(),
            offered_capabilities: self.capabilities.clone(),
            desired_capabilities: self.capabilities.clone(),
            properties: self.properties.clone(),
        }
    }
}

/// How an accepting end lets peers in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// SASL mechanisms offered.
    pub mechanisms: Vec<Mechanism>,
    /// Whether a peer may come without SASL at all.
    pub sasl_optional: bool,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// Connecting end: our SASL header is out.
    SaslHeader(Vec<Login>),
    Mechanisms(Vec<Login>),
    Outcome,
    /// Accepting end: nothing has come.
    FirstHeader(Admission),
    Init(Admission),
    /// The user is asked.
    Deciding,
    AmqpHeader,
    /// The peer's open is next.
    Opening,
    /// Accepting end: the user answers.
    Answering,
    Open,
    Closed,
}

impl Connection {
    pub(super) fn recv_header<'a>(&mut self, input: &mut &'a [u8]) -> Result<Progress<'a>, Error> {
        let Some(header) = self.frames.protocol_header(input) else { return Ok(Progress::Starved) };
        self.stage = match (std::mem::replace(&mut self.stage, Stage::Closed), header) {
            (Stage::SaslHeader(logins), SASL_HEADER) => Stage::Mechanisms(logins),
            (Stage::FirstHeader(admission), SASL_HEADER) => {
                let names = admission.mechanisms.iter().map(|mechanism| mechanism.name().into()).collect();
                self.out.extend_from_slice(&SASL_HEADER);
                write_sasl(&mut self.out, &SaslFrame::Mechanisms(names));
                Stage::Init(admission)
            }
            (Stage::FirstHeader(admission), AMQP_HEADER) => {
                self.out.extend_from_slice(&AMQP_HEADER);
                if !admission.sasl_optional {
                    // It understands frames: it is told in a close, behind our open.
                    self.stage = Stage::Answering;
                    return Err(Error::SaslRequired);
                }
                Stage::Opening
            }
            (Stage::AmqpHeader, AMQP_HEADER) => {
                if !self.is_initiator {
                    self.out.extend_from_slice(&AMQP_HEADER);
                }
                Stage::Opening
            }
            (Stage::FirstHeader(_), header) => {
                // AMQP 1.0 §2.2: a peer of another protocol is told which one is spoken here.
                self.out.extend_from_slice(&SASL_HEADER);
                return Err(Error::NotAmqp(header));
            }
            (_, header) => return Err(Error::NotAmqp(header)),
        };
        Ok(Progress::Again)
    }

    pub(super) fn recv_sasl<'a>(&mut self, frame: SaslFrame) -> Result<Progress<'a>, Error> {
        if !matches!(self.stage, Stage::Mechanisms(_) | Stage::Outcome | Stage::Init(_)) {
            return Err(violation("amqp:not-allowed", "unexpected SASL frame"));
        }
        match (std::mem::replace(&mut self.stage, Stage::Closed), frame) {
            (Stage::Mechanisms(logins), SaslFrame::Mechanisms(offered)) => {
                let is_offered = |login: &&Login| offered.iter().any(|name| name == login.mechanism().name());
                let Some(login) = logins.iter().find(is_offered) else { return Err(Error::NoMechanism { offered }) };
                write_sasl(&mut self.out, &login.init());
                self.stage = Stage::Outcome;
            }
            (Stage::Outcome, SaslFrame::Outcome(outcome::OK)) => {
                self.stage = Stage::AmqpHeader;
                self.send_open();
            }
            (Stage::Outcome, SaslFrame::Outcome(code)) => return Err(Error::Refused(code)),
            (Stage::Init(admission), SaslFrame::Init { mechanism, response, .. }) => {
                let offered = Mechanism::from_name(mechanism.as_str()).filter(|m| admission.mechanisms.contains(m));
                let Some(claim) = offered.and_then(|m| Claim::read(m, response.as_ref())) else {
                    write_sasl(&mut self.out, &SaslFrame::Outcome(outcome::AUTH));
                    return Err(Error::BadMechanism(mechanism));
                };
                self.stage = Stage::Deciding;
                return Ok(Progress::Event(Event::Authenticate(claim)));
            }
            _ => return Err(violation("amqp:not-allowed", "unexpected SASL frame")),
        }
        Ok(Progress::Again)
    }

    pub(super) fn recv_open<'a>(&mut self, open: Box<Open>) -> Result<Progress<'a>, Error> {
        if open.max_frame_size < MIN_MAX_FRAME_BYTES {
            return Err(violation("amqp:invalid-field", "max-frame-size below 512"));
        }
        self.peer_max_frame_bytes = open.max_frame_size;
        self.peer_channel_max = open.channel_max;
        self.peer_idle_timeout = open.idle_time_out.filter(|&ms| ms > 0).map(|ms| Duration::from_millis(ms.into()));
        let own = self.config.properties.iter().find(|(name, _)| name == PRODUCT).map(|(_, product)| product);
        self.is_peer_alike = own.is_some() && own == open.property(PRODUCT);
        // It may want a sign of life sooner than the next look would be.
        self.next_tick = self.begun;
        self.stage = if self.is_initiator { Stage::Open } else { Stage::Answering };
        Ok(Progress::Event(Event::Opened(open)))
    }

    /// Answers [`Event::Authenticate`].
    ///
    /// # Errors
    /// [`Error::Refused`] if the peer was refused, for symmetry with errors of the peer's making.
    pub fn authenticate(&mut self, is_welcome: bool) -> Result<(), Error> {
        debug_assert!(matches!(self.stage, Stage::Deciding), "nobody asked");
        let code = if is_welcome { outcome::OK } else { outcome::AUTH };
        write_sasl(&mut self.out, &SaslFrame::Outcome(code));
        self.stage = if is_welcome { Stage::AmqpHeader } else { Stage::Closed };
        if is_welcome { Ok(()) } else { Err(Error::Refused(code)) }
    }

    /// Answers the peer's open with ours, with further properties. Before this, nothing else may be sent.
    pub fn answer_open(&mut self, properties: impl IntoIterator<Item = (Symbol, Value)>) {
        debug_assert!(matches!(self.stage, Stage::Answering), "nobody asked");
        self.config.properties.extend(properties);
        self.stage = Stage::Open;
        let open = self.config.open();
        self.send(0, &open);
    }

    pub(super) fn send_open(&mut self) {
        self.out.extend_from_slice(&AMQP_HEADER);
        let open = self.config.open();
        self.send(0, &open);
    }
}
