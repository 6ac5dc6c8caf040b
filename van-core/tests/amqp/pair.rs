//! A pair of engines and what each has seen.

use std::time::{Duration, Instant};

use van_core::amqp::{
    Admission, Attach, Condition, Config, Connection, DeliveryId, DeliveryState, Error, Event, LinkId, Login,
    Mechanism, NewLink, Token, Value,
};

/// An event, without its borrow.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    Opened,
    Attached(LinkId, Box<Attach>),
    Detached(Option<Condition>),
    Credit { drain: bool },
    Delivery(DeliveryId),
    Payload(Vec<u8>),
    Complete,
    Aborted,
    Disposition { token: Token, state: Option<DeliveryState>, settled: bool },
    Closed(Option<Condition>),
}

#[derive(Debug, Default)]
pub(crate) struct Log(pub(crate) Vec<Seen>);

pub(crate) struct Pair {
    pub(crate) client: Connection,
    pub(crate) server: Connection,
    pub(crate) client_seen: Log,
    pub(crate) server_seen: Log,
    pub(crate) now: Instant,
    /// Sizes of the pieces in which octets arrive, in turn; whole if empty.
    pub(crate) cuts: Vec<usize>,
}

/// Any instant will do: only differences count.
#[allow(clippy::disallowed_methods)]
pub(crate) fn start() -> Instant {
    Instant::now()
}

pub(crate) fn config(name: &str) -> Config {
    Config::new(name)
}

pub(crate) fn anonymous() -> Admission {
    Admission { mechanisms: vec![Mechanism::Anonymous], sasl_optional: false }
}

/// Says yes to everything that wants an answer.
pub(crate) fn answer(connection: &mut Connection, event: &Event<'_>) {
    match event {
        Event::Authenticate(_) => connection.authenticate(true).expect("welcome"),
        Event::Opened(_) if !connection.is_open() => connection.answer_open([]),
        Event::Attached { link, attach, is_answer: false, .. } => connection.accept_link(*link, attach, Token(0), 0),
        _ => {}
    }
}

impl Log {
    fn push(&mut self, event: Event<'_>) {
        let seen = match event {
            Event::Opened(_) => Seen::Opened,
            Event::Attached { link, attach, .. } => Seen::Attached(link, attach),
            Event::Detached { condition, .. } => Seen::Detached(condition),
            Event::Credit { drain, .. } => Seen::Credit { drain },
            Event::Delivery { delivery, .. } => Seen::Delivery(delivery),
            Event::Payload { octets, .. } => Seen::Payload(octets.to_vec()),
            Event::Complete { .. } => Seen::Complete,
            Event::Aborted { .. } => Seen::Aborted,
            Event::Disposition { token, state, settled, .. } => Seen::Disposition { token, state, settled },
            Event::Closed(condition) => Seen::Closed(condition),
            _ => return,
        };
        self.0.push(seen);
    }

    pub(crate) fn last(&self) -> Option<&Seen> {
        self.0.last()
    }

    pub(crate) fn payload(&self) -> Vec<u8> {
        self.0
            .iter()
            .filter_map(|seen| if let Seen::Payload(octets) = seen { Some(octets.as_slice()) } else { None })
            .collect::<Vec<_>>()
            .concat()
    }

    pub(crate) fn delivery(&self) -> Option<DeliveryId> {
        self.0.iter().rev().find_map(|seen| if let Seen::Delivery(delivery) = seen { Some(*delivery) } else { None })
    }

    fn link(&self) -> Option<LinkId> {
        self.0.iter().rev().find_map(|seen| if let Seen::Attached(link, _) = seen { Some(*link) } else { None })
    }
}

impl Pair {
    pub(crate) fn new(logins: Vec<Login>, admission: Admission) -> Self {
        let now = start();
        Self {
            client: Connection::connect(config("client"), logins, now),
            server: Connection::accept(config("server"), admission, now),
            client_seen: Log::default(),
            server_seen: Log::default(),
            now,
            cuts: Vec::new(),
        }
    }

    /// A pair with both opens exchanged.
    pub(crate) fn open() -> Self {
        let mut pair = Self::new(vec![Login::Anonymous], anonymous());
        pair.run();
        assert!(pair.client.is_open() && pair.server.is_open());
        pair
    }

    /// A pair of the same product, with both opens exchanged.
    pub(crate) fn alike() -> Self {
        let of = |name| Config { properties: vec![("product".into(), Value::String("x".into()))], ..config(name) };
        let mut pair = Self::new(Vec::new(), anonymous());
        pair.client = Connection::connect(of("client"), vec![Login::Anonymous], pair.now);
        pair.server = Connection::accept(of("server"), anonymous(), pair.now);
        pair.run();
        assert!(pair.client.is_peer_alike() && pair.server.is_peer_alike());
        pair
    }

    /// Carries octets both ways until nobody has anything to say.
    pub(crate) fn run(&mut self) {
        self.carry().expect("no error");
    }

    pub(crate) fn run_to_error(&mut self) -> Error {
        self.carry().expect_err("an error")
    }

    fn carry(&mut self) -> Result<(), Error> {
        while !self.client.output().is_empty() || !self.server.output().is_empty() {
            deliver(&mut self.client, &mut self.server, &mut self.server_seen, &self.cuts)?;
            deliver(&mut self.server, &mut self.client, &mut self.client_seen, &self.cuts)?;
        }
        Ok(())
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.now += by;
        self.client.handle_timeout(self.now).expect("client hears");
        self.server.handle_timeout(self.now).expect("server hears");
    }

    /// Attaches a link at the client, on a new session, and lets the server answer.
    pub(crate) fn attach(&mut self, new: NewLink) -> LinkId {
        let channel = self.client.begin().expect("a channel");
        let link = self.client.attach(channel, new).expect("a link");
        self.run();
        link
    }

    /// Grants credit on the link the server saw last.
    pub(crate) fn server_grants(&mut self, credit: u32) -> LinkId {
        let link = self.server_seen.link().expect("a link");
        self.server.set_credit(link, credit);
        self.run();
        link
    }

    pub(crate) fn client_sends(&mut self, link: LinkId, payload: &[u8], more: bool) {
        assert!(payload.len() <= self.client.max_payload(link));
        self.client.transfer(link, payload.len(), more).expect("a delivery under way");
        let octets = [self.client.output(), payload].concat();
        self.client.clear_output();
        feed(&mut self.server, &octets, &mut self.server_seen, &self.cuts).expect("no error");
    }
}

fn deliver(from: &mut Connection, to: &mut Connection, seen: &mut Log, cuts: &[usize]) -> Result<(), Error> {
    let octets = from.output().to_vec();
    from.clear_output();
    feed(to, &octets, seen, cuts)
}

fn feed(to: &mut Connection, mut octets: &[u8], seen: &mut Log, cuts: &[usize]) -> Result<(), Error> {
    let mut sizes = cuts.iter().copied().cycle();
    while !octets.is_empty() {
        let size = sizes.next().unwrap_or(octets.len()).min(octets.len());
        let (mut piece, rest) = octets.split_at(size);
        octets = rest;
        while let Some(event) = to.next(&mut piece)? {
            answer(to, &event);
            seen.push(event);
        }
        assert!(piece.is_empty(), "all of it is read");
    }
    Ok(())
}
