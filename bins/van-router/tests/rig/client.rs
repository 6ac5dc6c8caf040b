//! AMQP peers that keep to the protocol, whatever they say by it; and a client that asks the management node of a router.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use van_core::amqp::{
    Admission, Attach, Config, Connection, DeliveryState, Event, LinkId, Login, Mechanism, NewLink, Open, Role, Source,
    Symbol, Target, Token, Value,
};
use van_core::router::open_config;
use van_tls::Credentials;

use super::PATIENCE;
use super::intruder::Intruder;
use super::site::Site;

#[path = "../../../../van-core/tests/management/client.rs"]
pub(crate) mod management;

use management::{Reply, map, question, text};

/// Where management is.
pub(crate) const MANAGEMENT: &str = "$management";

/// How long nothing is said, so that the router knows that the peer lives: it waits for some seconds.
const ATTENTION: Duration = Duration::from_secs(1);

/// Answers that may be on their way.
const CREDIT: u32 = 10;

// === any peer ===

/// One connection to a router, with one session.
#[derive(Debug)]
pub(crate) struct Speaker {
    wire: Intruder,
    engine: Connection,
    open: Option<Open>,
    channel: u16,
    /// Makes the names of links differ.
    links: u32,
    /// What has come of the next message.
    message: Vec<u8>,
    /// What nobody has waited for yet.
    heard: VecDeque<Heard>,
}

/// What a router did.
#[derive(Debug)]
pub(crate) enum Heard {
    Opened(Box<Open>),
    /// A link was attached, by it or in answer.
    Attached(LinkId, Box<Attach>),
    Message(Vec<u8>),
}

impl Speaker {
    /// In clear, as a client who is nobody.
    pub(crate) fn anonymous(site: &Site, to: SocketAddr) -> Self {
        let config = Config::new("mallory");
        Self::start(Intruder::connect(site, to), Connection::connect(config, vec![Login::Anonymous], Instant::now()))
    }

    /// Within TLS, as an edge router.
    pub(crate) fn edge(site: &Site, to: SocketAddr, credentials: &Credentials, name: &str) -> Self {
        let config = open_config(name, Some("router"), 1, None);
        let engine = Connection::connect(config, vec![Login::External], Instant::now());
        Self::start(Intruder::behind_tls(site, to, credentials), engine)
    }

    /// As the interior router that an edge router has dialled.
    pub(crate) fn uplink_of(wire: Intruder, name: &str) -> Self {
        let admission = Admission { mechanisms: vec![Mechanism::External], sasl_optional: false };
        Self::start(wire, Connection::accept(open_config(name, None, 1, None), admission, Instant::now()))
    }

    fn start(wire: Intruder, engine: Connection) -> Self {
        wire.set_attention(ATTENTION);
        let mut speaker =
            Self { wire, engine, open: None, channel: 0, links: 0, message: Vec::new(), heard: VecDeque::new() };
        speaker.open = Some(speaker.wait_for(|heard| match heard {
            Heard::Opened(open) => Some(*open),
            _ => None,
        }));
        speaker.channel = speaker.engine.begin().expect("it is the first");
        speaker
    }

    /// What the router said of itself.
    pub(crate) fn open(&self) -> &Open {
        self.open.as_ref().expect("it is heard before anything else")
    }

    /// Waits until a link that it sends on has credit, and says how much.
    pub(crate) fn credit(&mut self, link: LinkId) -> u32 {
        while self.engine.credit(link) == 0 {
            self.hear();
        }
        self.engine.credit(link)
    }

    /// Attaches a link to send on; to no address in particular without one.
    pub(crate) fn sender(&mut self, address: Option<&str>) -> LinkId {
        let target = Target { address: address.map(Into::into), ..Target::default() };
        self.attach(Role::Sender, Source::default(), target, 0)
    }

    /// Attaches a link to receive on.
    pub(crate) fn receiver(&mut self, source: Source, credit: u32) -> LinkId {
        self.attach(Role::Receiver, source, Target::default(), credit)
    }

    /// As [`Speaker::receiver`], of an address.
    pub(crate) fn consumer(&mut self, address: &str, credit: u32) -> LinkId {
        self.receiver(Source { address: Some(address.into()), ..Source::default() }, credit)
    }

    fn attach(&mut self, role: Role, source: Source, target: Target, credit: u32) -> LinkId {
        self.links += 1;
        let name = format!("{role:?} {}", self.links);
        let link = NewLink { name, role, source: Some(source), target: Some(target), credit, token: Token::default() };
        self.engine.attach(self.channel, link).expect("there is room for it")
    }

    /// Sends a settled message as soon as there is credit for it.
    pub(crate) fn send(&mut self, link: LinkId, message: &[u8]) {
        self.give(link, message, true, true);
    }

    /// As [`Speaker::send`], not settled; of a message that is not whole there is more to come.
    pub(crate) fn offer(&mut self, link: LinkId, message: &[u8], is_whole: bool) {
        self.give(link, message, false, is_whole);
    }

    fn give(&mut self, link: LinkId, message: &[u8], is_settled: bool, is_whole: bool) {
        while !(self.engine.start_delivery(link, Token::default(), is_settled)) {
            self.hear();
        }
        let mut left = message;
        loop {
            while !self.engine.has_window(link) {
                self.hear();
            }
            let (piece, rest) = left.split_at(left.len().min(self.engine.max_payload(link)));
            self.engine.transfer(link, piece.len(), !(is_whole && rest.is_empty()));
            self.engine.append_payload(piece);
            left = rest;
            if left.is_empty() {
                return;
            }
        }
    }

    /// Takes what the router does until it is what is waited for.
    ///
    /// # Panics
    /// When the router leaves, or says nothing for long but that it lives.
    pub(crate) fn wait_for<T>(&mut self, mut is_it: impl FnMut(Heard) -> Option<T>) -> T {
        let (mut end, mut known) = (Instant::now() + PATIENCE, 0);
        loop {
            if std::mem::replace(&mut known, self.message.len()) != self.message.len() || !self.heard.is_empty() {
                end = Instant::now() + PATIENCE;
            }
            assert!(Instant::now() < end, "the router says nothing but that it lives");
            while let Some(heard) = self.heard.pop_front() {
                if let Some(found) = is_it(heard) {
                    return found;
                }
            }
            self.hear();
        }
    }

    /// Takes whatever the router says from now on without listening, so that it is never held up.
    pub(crate) fn ignore_answers(&self) {
        drop(self.wire.ignore_answers());
    }

    /// Says what is to be said.
    pub(crate) fn flush(&mut self) {
        self.wire.send(self.engine.output()).expect("the router listens");
        self.engine.clear_output();
    }

    /// Says what is to be said, and listens once.
    fn hear(&mut self) {
        let end = Instant::now() + PATIENCE;
        let octets = loop {
            self.flush();
            match self.wire.hear() {
                Ok(octets) => break octets.expect("the router does not leave"),
                Err(error) => assert!(Instant::now() < end, "the router does not answer: {error}"),
            }
            self.engine.handle_timeout(Instant::now()).expect("the router says that it lives");
        };
        let mut input = octets.as_slice();
        while let Some(event) = self.engine.next(&mut input).expect("the router keeps to the protocol") {
            match event {
                Event::Authenticate(_) => self.engine.authenticate(true).expect("it is asked for once"),
                Event::Opened(open) => {
                    if !self.engine.is_open() {
                        self.engine.answer_open([]);
                    }
                    self.heard.push_back(Heard::Opened(open));
                }
                Event::Attached { link, attach, is_answer, .. } => {
                    if !is_answer {
                        self.engine.accept_link(link, &attach, Token::default(), CREDIT);
                    }
                    self.heard.push_back(Heard::Attached(link, attach));
                }
                Event::Payload { octets, .. } => self.message.extend_from_slice(octets),
                Event::Complete { delivery, settled, .. } => {
                    if !settled {
                        self.engine.dispose(delivery, Some(DeliveryState::Accepted), true);
                    }
                    self.heard.push_back(Heard::Message(std::mem::take(&mut self.message)));
                }
                Event::Closed(condition) => panic!("the router closes the connection: {condition:?}"),
                _ => {}
            }
        }
    }
}

/// The source of an edge router's way from the network, for a name.
pub(crate) fn downlink(name: &str) -> Source {
    Source {
        address: Some(name.into()),
        capabilities: vec![Symbol::from("qd.router-edge-downlink")],
        ..Source::default()
    }
}

// === management ===

/// A connection with a link to the management node, and one that brings the answers.
#[derive(Debug)]
pub(crate) struct Client {
    speaker: Speaker,
    questions: LinkId,
    reply_to: String,
}

impl Client {
    /// In clear, as nobody.
    pub(crate) fn anonymous(site: &Site, to: SocketAddr) -> Self {
        Self::start(Speaker::anonymous(site, to), CREDIT)
    }

    /// As [`Client::anonymous`], one who takes no answer.
    pub(crate) fn deaf(site: &Site, to: SocketAddr) -> Self {
        Self::start(Speaker::anonymous(site, to), 0)
    }

    /// Within TLS, as its certificate says.
    pub(crate) fn certified(site: &Site, to: SocketAddr, credentials: &Credentials) -> Self {
        let engine = Connection::connect(Config::new("client"), vec![Login::External], Instant::now());
        Self::start(Speaker::start(Intruder::behind_tls(site, to, credentials), engine), CREDIT)
    }

    fn start(mut speaker: Speaker, credit: u32) -> Self {
        speaker.receiver(Source { dynamic: true, ..Source::default() }, credit);
        let reply_to = speaker.wait_for(|heard| match heard {
            Heard::Attached(_, attach) => attach.source?.address,
            _ => None,
        });
        let questions = speaker.sender(Some(MANAGEMENT));
        Self { speaker, questions, reply_to }
    }

    /// Where answers to it go.
    pub(crate) fn reply_to(&self) -> &str {
        &self.reply_to
    }

    /// Sends a message to management, whatever is in it.
    pub(crate) fn send(&mut self, message: &[u8]) {
        self.speaker.send(self.questions, message);
    }

    /// Sends what waits to be sent.
    pub(crate) fn flush(&mut self) {
        self.speaker.flush();
    }

    /// Waits for the next answer.
    pub(crate) fn answer(&mut self) -> Reply {
        let answer = self.speaker.wait_for(|heard| match heard {
            Heard::Message(message) => Some(message),
            _ => None,
        });
        Reply::read(&answer)
    }

    /// Asks, and waits for the answer.
    pub(crate) fn ask(&mut self, properties: &[(&str, &str)], body: Value) -> Reply {
        let properties: Vec<_> = properties.iter().map(|(key, value)| (*key, text(value))).collect();
        let question = question(&self.reply_to, &properties, body);
        self.send(&question);
        self.answer()
    }

    /// All entities of a type.
    #[track_caller]
    pub(crate) fn query(&mut self, entity_type: &str) -> Reply {
        let reply = self.ask(&[("operation", "QUERY"), ("entityType", entity_type)], Value::Null);
        assert_eq!(reply.status, Value::Int(200), "{entity_type}: {:?}", reply.description);
        reply
    }

    /// Whether the router knows an address by this key.
    pub(crate) fn knows(&mut self, key: &str) -> bool {
        // All of an address would not fit for many.
        let names = map(&[("attributeNames", Value::List(vec![text("key")]))]);
        let known = self.ask(&[("operation", "QUERY"), ("entityType", "router.address")], names);
        known.column("key").iter().any(|known| known.as_text() == Some(key))
    }
}
