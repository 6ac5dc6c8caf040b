//! A peer that means harm: as far into a link as asked, and from there on whatever octets it likes.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use bytes::Buf;
use van_core::amqp::{Config, Connection, Decode, Encode, Event, Login, Performative, Reader};
use van_core::plane::Purpose;
use van_core::router::{Dialled, open_config};
use van_tls::{Credentials, Handshake, HostCheck, LinkAcceptor, LinkConnector, OutBuf, Plain, Policy, RecordLayer};

use super::PATIENCE;
use super::site::Site;

/// Octets read at once: a full record and more.
const READ_OCTETS: usize = 32 * 1024;

/// One connection to a router.
#[derive(Debug)]
pub(crate) struct Intruder {
    socket: TcpStream,
    records: Box<dyn RecordLayer>,
    output: OutBuf,
    /// Octets that are no whole record yet.
    received: Vec<u8>,
}

impl Intruder {
    /// Connects, and says nothing.
    pub(crate) fn connect(site: &Site, to: SocketAddr) -> Self {
        Self::over(site.connect(to).expect("the router listens"))
    }

    fn over(socket: TcpStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
        socket.set_write_timeout(Some(PATIENCE)).expect("not zero");
        socket.set_nodelay(true).expect("it is TCP");
        Self { socket, records: Box::new(Plain::new()), output: OutBuf::new(), received: Vec::new() }
    }

    /// Shakes hands: what is sent from now on is sealed.
    pub(crate) fn behind_tls(site: &Site, to: SocketAddr, credentials: &Credentials) -> Self {
        let mut intruder = Self::connect(site, to);
        let connector = LinkConnector::new(credentials, HostCheck::Waive, &Policy::default()).expect("they are good");
        let handshake = connector.connect(&to.ip().to_string(), SystemTime::now()).expect("a good name");
        intruder.shake_hands(handshake).expect("the router lets it in");
        intruder
    }

    fn shake_hands(&mut self, mut handshake: Handshake) -> io::Result<()> {
        let mut buffer = vec![0; READ_OCTETS];
        loop {
            write_all(&self.socket, handshake.output())?;
            let count = self.socket.read(&mut buffer)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(established) = handshake.handle_received(&buffer[..count]).map_err(io::Error::other)? {
                self.records = Box::new(established.records);
                self.output = established.output;
                self.received = established.received;
                return write_all(&self.socket, &mut self.output);
            }
        }
    }

    /// Exchanges opens as a router of a name does.
    pub(crate) fn behind_open(
        site: &Site,
        to: SocketAddr,
        credentials: &Credentials,
        name: &str,
        purpose: Purpose,
    ) -> Self {
        let dialled = Dialled { correlator: name.chars().take(15).collect(), ordinal: None, purpose };
        let config = open_config(name, Some("router"), 1, Some(&dialled));
        Self::behind_tls(site, to, credentials).exchange_opens(config, Login::External)
    }

    /// Exchanges opens as a client does, in clear.
    pub(crate) fn as_client(site: &Site, to: SocketAddr) -> Self {
        Self::connect(site, to).exchange_opens(Config::new("mallory"), Login::Anonymous)
    }

    fn exchange_opens(mut self, config: Config, login: Login) -> Self {
        let mut engine = Connection::connect(config, vec![login], Instant::now());
        loop {
            self.send(engine.output()).expect("the router listens");
            engine.clear_output();
            let plaintext = self.hear().expect("the router answers").expect("the router does not leave");
            let mut input = plaintext.as_slice();
            while let Some(event) = engine.next(&mut input).expect("the router keeps to the protocol") {
                if matches!(event, Event::Opened(_)) {
                    return self;
                }
            }
        }
    }

    /// Waits for a router that dials here, and shakes hands with it as one whom it believes.
    pub(crate) fn dialled(socket: &TcpListener, credentials: &Credentials) -> Self {
        let acceptor = LinkAcceptor::new(credentials, &Policy::default()).expect("they are good");
        loop {
            let mut intruder = Self::over(socket.accept().expect("a router dials").0);
            // The first may have waited for too long, and be gone.
            if intruder.shake_hands(acceptor.accept(SystemTime::now()).expect("it is ready")).is_ok() {
                return intruder;
            }
        }
    }

    /// Its end of the connection: what the router calls the peer.
    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is connected")
    }

    /// Sends octets, sealed if it has shaken hands.
    pub(crate) fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.records.seal(&[octets], &mut self.output).expect("keys last");
        write_all(&self.socket, &mut self.output)
    }

    /// Sends octets as they are.
    pub(crate) fn send_raw(&self, octets: &[u8]) -> io::Result<()> {
        (&self.socket).write_all(octets)
    }

    /// Sends octets as they are, one now and then, until the router leaves: time is the attack.
    pub(crate) fn drip(&self, octet: u8) -> JoinHandle<()> {
        let mut socket = self.socket.try_clone().expect("descriptors are left");
        thread::spawn(move || {
            while socket.write_all(&[octet]).is_ok() {
                thread::sleep(Duration::from_millis(100));
            }
        })
    }

    /// Takes new keys, and asks the router to do so.
    pub(crate) fn refresh_keys(&mut self) -> io::Result<()> {
        self.records.refresh_keys(&mut self.output).expect("keys can be derived");
        write_all(&self.socket, &mut self.output)
    }

    /// Gives up when the router takes nothing for so long.
    pub(crate) fn set_patience(&self, patience: Duration) {
        self.socket.set_write_timeout(Some(patience)).expect("not zero");
    }

    /// Has [`Intruder::hear`] come back with an error when nothing is heard for so long.
    pub(crate) fn set_attention(&self, attention: Duration) {
        self.socket.set_read_timeout(Some(attention)).expect("not zero");
    }

    /// Says that nothing more will come.
    pub(crate) fn end(&self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// The next octets of the router; `None` once it has left.
    pub(crate) fn hear(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let mut places = Vec::new();
            let opened = self.records.open(&mut self.received, &mut places).map_err(io::Error::other)?;
            let plaintext: Vec<u8> = places.into_iter().flat_map(|place| self.received[place].to_vec()).collect();
            self.received.drain(..opened.consumed);
            if !plaintext.is_empty() {
                return Ok(Some(plaintext));
            }
            let start = self.received.len();
            self.received.resize(start + READ_OCTETS, 0);
            let count = self.socket.read(&mut self.received[start..]);
            self.received.truncate(start + count.as_ref().copied().unwrap_or(0));
            if count? == 0 {
                return Ok(None);
            }
        }
    }

    /// All that the router says until it leaves, in order or with a reset.
    ///
    /// # Panics
    /// When it does not leave.
    #[track_caller]
    pub(crate) fn hear_to_end(&mut self) -> Vec<u8> {
        let mut heard = Vec::new();
        loop {
            match self.hear() {
                Ok(Some(octets)) => heard.extend(octets),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    panic!("the router keeps the connection of {}", self.address())
                }
                Ok(None) | Err(_) => return heard,
            }
        }
    }

    /// Takes whatever the router sends from now on, so that it is never held up, until it leaves.
    pub(crate) fn ignore_answers(&self) -> JoinHandle<()> {
        let mut socket = self.socket.try_clone().expect("descriptors are left");
        thread::spawn(move || drop(io::copy(&mut socket, &mut io::sink())))
    }
}

fn write_all(mut socket: &TcpStream, output: &mut OutBuf) -> io::Result<()> {
    while output.has_remaining() {
        let count = socket.write(output.chunk())?;
        output.advance(count);
    }
    Ok(())
}

// === frames ===

/// A frame of AMQP, whatever is in it.
pub(crate) fn frame(channel: u16, performative: &impl Encode, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    performative.encode(&mut body);
    body.extend_from_slice(payload);
    raw_frame(2, 0, channel, &body)
}

/// A frame with a header as asked.
pub(crate) fn raw_frame(offset: u8, kind: u8, channel: u16, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(8 + body.len()).expect("a frame is small");
    let [c0, c1] = channel.to_be_bytes();
    [&size.to_be_bytes()[..], &[offset, kind, c0, c1], body].concat()
}

/// The whole frames at the start of the octets, taken off.
pub(crate) fn take_frames(octets: &mut Vec<u8>) -> Vec<Performative> {
    let mut performatives = Vec::new();
    while let Some(size) = octets.first_chunk().map(|size| u32::from_be_bytes(*size) as usize)
        && size <= octets.len()
    {
        performatives.extend(Performative::decode(&mut Reader::new(&octets[8..size])).ok());
        octets.drain(..size);
    }
    performatives
}
