//! The AMQP engine: octets mean the same however they are cut, and what it answers is well-formed.

use std::time::Instant;

use van_core::amqp::{
    Admission, Config, Connection, Decode, DeliveryState, Error, Event, FrameError, LinkId, Login, Mechanism, NewLink,
    Password, Performative, Reader, Role, Secret, Token,
};
use van_core::router::{Announcement, MAX_PLACES};

use super::amqp::descriptor;
use crate::pieces::pieces;

const SASL_HEADER: &[u8] = b"AMQP\x03\x01\x00\x00";

/// Descriptors of SASL frames (AMQP 1.0 §5.3.3).
const SASL: std::ops::RangeInclusive<u64> = 0x40..=0x44;

/// Octets of a protocol header and of a frame header alike.
const HEADER_BYTES: usize = 8;

/// Deliveries that peers may send at a time on one link.
const CREDIT: u32 = 10;

/// Octets that we send in one frame, if the peer takes so many.
const PAYLOAD_BYTES: usize = 1000;

/// What a SASL frame holds, to both ends.
pub(crate) fn sasl(octets: &[u8]) -> bool {
    let size = (HEADER_BYTES + octets.len()) as u32;
    let said = [SASL_HEADER, &size.to_be_bytes(), &[2, 1, 0, 0], octets].concat();
    converse(connecting, &[], &said);
    converse(accepting, &[], &said);
    descriptor(octets).is_some_and(|descriptor| SASL.contains(&descriptor))
}

/// Frames behind the opens.
pub(crate) fn frames(octets: &[u8]) -> bool {
    let peer = Connection::connect(Config::new("peer"), Vec::new(), now());
    converse(accepting, peer.output(), octets)
}

/// All that a peer says on a connection, to both ends.
pub(crate) fn connection(octets: &[u8]) -> bool {
    [converse(connecting, &[], octets), converse(accepting, &[], octets)].contains(&true)
}

fn connecting() -> Connection {
    let password = Password { user: "guest".into(), password: Secret::from("guest") };
    Connection::connect(Config::new("us"), vec![Login::External, Login::Anonymous, Login::Plain(password)], now())
}

fn accepting() -> Connection {
    let mechanisms = vec![Mechanism::External, Mechanism::Anonymous, Mechanism::Plain];
    Connection::accept(Config::new("us"), Admission { mechanisms, sasl_optional: true }, now())
}

/// Any instant will do: no time passes.
fn now() -> Instant {
    Instant::now()
}

/// Says octets to an engine, behind `before`: once as a whole and once in pieces. Whether their first header, of the
/// protocol or of a frame, was taken.
fn converse(start: fn() -> Connection, before: &[u8], octets: &[u8]) -> bool {
    let mut whole = End::new(start());
    whole.hear(before);
    let opening = whole.seen.len();
    whole.hear(octets);
    let mut cut = End::new(start());
    cut.hear(before);
    pieces(octets).for_each(|piece| cut.hear(piece));
    assert_eq!(whole.seen, cut.seen, "octets mean something else when they are cut");
    assert_eq!(whole.error, cut.error, "octets mean something else when they are cut");
    assert_eq!(whole.connection.output(), cut.connection.output());
    check_said(whole.connection.output(), whole.connection.peer_max_frame_bytes());

    let is_header_refused = matches!(
        whole.error,
        Some(Error::NotAmqp(_) | Error::Frame(FrameError::Header(_) | FrameError::TooLarge { .. }))
    );
    octets.len() >= HEADER_BYTES && (whole.seen.len() > opening || !is_header_refused)
}

/// Checks that octets for a peer are protocol headers and whole frames, and no transfer is larger than it takes.
pub(crate) fn check_said(mut said: &[u8], max_frame_bytes: u32) {
    while !said.is_empty() {
        if said.starts_with(b"AMQP") {
            said = &said[HEADER_BYTES..];
            continue;
        }
        let (size, _) = said.split_first_chunk().expect("a frame header");
        let size = u32::from_be_bytes(*size);
        let (frame, rest) = said.split_at(size as usize);
        said = rest;
        let (&[.., offset, kind, _, _], body) = frame.split_first_chunk::<HEADER_BYTES>().expect("a frame header");
        assert!(offset == 2 && kind <= 1, "a frame header without extension");
        if kind == 0 && !body.is_empty() {
            let mut reader = Reader::new(body);
            match Performative::decode(&mut reader).expect("what we write can be read") {
                Performative::Transfer(_) => assert!(size <= max_frame_bytes),
                _ => assert!(reader.is_empty(), "only transfers have a payload"),
            }
        }
    }
}

/// An engine and a user of it that says yes to everything.
struct End<'a> {
    connection: Connection,
    seen: Vec<Seen<'a>>,
    error: Option<Error>,
}

/// What an engine told. Pieces of payload that come one after the other are one.
#[derive(Debug, PartialEq)]
enum Seen<'a> {
    Event(Event<'a>),
    Payload(LinkId, Token, Vec<u8>),
}

impl<'a> End<'a> {
    fn new(connection: Connection) -> Self {
        Self { connection, seen: Vec::new(), error: None }
    }

    fn hear(&mut self, mut piece: &'a [u8]) {
        while self.error.is_none() {
            match self.connection.next(&mut piece) {
                Ok(Some(Event::Payload { link, token, octets })) => self.gather(link, token, octets),
                Ok(Some(event)) => {
                    self.answer(&event);
                    self.seen.push(Seen::Event(event));
                }
                Ok(None) => {
                    assert!(piece.is_empty(), "all of it is read: nobody would bring it again");
                    return;
                }
                Err(error) => self.error = Some(error),
            }
        }
    }

    fn gather(&mut self, link: LinkId, token: Token, octets: &[u8]) {
        match self.seen.last_mut() {
            Some(Seen::Payload(last_link, last_token, gathered)) if (*last_link, *last_token) == (link, token) => {
                gathered.extend_from_slice(octets);
            }
            _ => self.seen.push(Seen::Payload(link, token, octets.to_vec())),
        }
    }

    fn answer(&mut self, event: &Event<'_>) {
        match event {
            Event::Authenticate(_) => self.connection.authenticate(true).expect("everybody is welcome"),
            Event::Opened(open) => {
                let announcement = Announcement::read(open);
                assert!(announcement.failover.is_none_or(|places| places.len() <= MAX_PLACES));
                self.open();
            }
            Event::Attached { link, attach, is_answer: false, .. } => {
                self.connection.accept_link(*link, attach, Token(1), CREDIT);
            }
            Event::Credit { link, drain, .. } => self.send(*link, *drain),
            Event::Delivery { link, delivery, .. } => self.connection.set_delivery_token(*delivery, *link, Token(2)),
            Event::Complete { delivery, settled: false, .. } => {
                self.connection.dispose(*delivery, Some(DeliveryState::Accepted), true);
            }
            Event::Disposition { delivery, settled: false, .. } => self.connection.dispose(*delivery, None, true),
            _ => {}
        }
    }

    /// Asks for a link in each direction, whichever end we are.
    fn open(&mut self) {
        if !self.connection.is_open() {
            self.connection.answer_open([]);
        }
        let Some(channel) = self.connection.begin() else { return };
        for (name, role, credit) in [("in", Role::Receiver, CREDIT), ("out", Role::Sender, 0)] {
            let (source, target) = (Some(Default::default()), Some(Default::default()));
            let new = NewLink { name: name.into(), role, source, target, credit, token: Token(3) };
            self.connection.attach(channel, new);
        }
    }

    /// Sends a delivery of one frame, or the start of a longer one, in turns.
    fn send(&mut self, link: LinkId, drain: bool) {
        if self.connection.has_window(link) && self.connection.start_delivery(link, Token(4), false) {
            let length = self.connection.max_payload(link).min(PAYLOAD_BYTES);
            let more = self.connection.unsettled() % 2 == 1;
            self.connection.transfer(link, length, more);
            self.connection.append_payload(&vec![0; length]);
        }
        if drain {
            self.connection.drained(link);
        }
    }
}
