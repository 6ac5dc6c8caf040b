//! From a fresh socket to exchanged opens: TLS, SASL, `open`.

use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Buf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use van_core::amqp::{self, Claim, Condition, Connection, Event, Mechanism, Open};
use van_tls::{
    ConnectError, Handshake, HandshakeError, OpenError, OutBuf, Plain, RecordLayer, SealError, Suite, VerifiedPeer,
};

use super::Users;
use super::profile::Lack;
use crate::{tcp, with_causes};

/// How long a peer may take from its first octet to its open, unless the listener says otherwise. (skupper-router waits for
/// ever.)
pub(crate) const ESTABLISH_TIMEOUT: Duration = Duration::from_secs(10);

/// Octets read at once.
const READ_OCTETS: usize = 16_384;

/// A connection on which the peer's open has come. At the accepting end ours is still to be sent.
pub(crate) struct Opened {
    pub(crate) socket: TcpStream,
    pub(crate) records: Box<dyn RecordLayer>,
    pub(crate) engine: Connection,
    pub(crate) open: Box<Open>,
    pub(crate) peer: VerifiedPeer,
    /// How it said who it is, and who that is, if it is the accepting end's peer.
    pub(crate) login: Option<(Mechanism, String)>,
    /// The generation of our certificates that it was made with.
    pub(crate) ordinal: Option<u64>,
    /// How long the path takes there and back, and the peer to answer: as TLS was agreed on; zero without.
    pub(crate) round: Duration,
    /// What it is encrypted with.
    pub(crate) suite: Option<Suite>,
    /// Octets received and not opened, opened and not read, sealed and not written.
    pub(crate) received: Vec<u8>,
    pub(crate) opened: Vec<u8>,
    pub(crate) output: OutBuf,
}

/// Why a connection came to nothing, its causes included: it is for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EstablishError {
    #[error("no answer for {} s; is there a router at that port?", ESTABLISH_TIMEOUT.as_secs())]
    NoAnswer,
    #[error("the peer has not opened within {} s; is it a router?", .0.as_secs())]
    NoOpen(Duration),
    #[error("the peer has not opened before {0} others came, and gives way")]
    Crowded(usize),
    #[error("the connection broke off: {0}")]
    Io(#[from] io::Error),
    #[error("sslProfile: {0}")]
    Profile(#[from] Lack),
    #[error("TLS: {}", with_causes(.0))]
    Start(#[from] ConnectError),
    #[error("TLS: {}", with_causes(.0))]
    Tls(#[from] HandshakeError),
    #[error("TLS: {}", with_causes(.0))]
    Open(#[from] OpenError),
    #[error("TLS: {}", with_causes(.0))]
    Seal(#[from] SealError),
    #[error(transparent)]
    Amqp(#[from] amqp::Error),
    #[error("the peer closed the connection: {0}")]
    Closed(Condition),
    #[error("the peer closed the connection without a word")]
    Silent,
    #[error("the peer asked to authenticate by a certificate, and has shown none")]
    NoCertificate,
    #[error("{0}")]
    Password(String),
    #[error("a user or a password is wrong")]
    WrongPassword,
}

/// Brings a connection up to the peer's open, however long that takes. Dropping the future drops the connection.
pub(crate) async fn establish(
    mut socket: TcpStream,
    tls: Option<(Handshake, u64)>,
    engine: Connection,
    users: Option<&Users>,
) -> Result<Opened, EstablishError> {
    socket.set_nodelay(true)?;
    let ordinal = tls.as_ref().map(|(_, ordinal)| *ordinal);
    let (mut suite, mut round) = (None, Duration::ZERO);
    let (records, peer, received, output): (Box<dyn RecordLayer>, _, _, _) = match tls {
        Some((handshake, _)) => {
            let established = shake_hands(&mut socket, handshake, &mut round).await?;
            suite = Some(established.records.suite());
            (Box::new(established.records), established.peer, established.received, established.output)
        }
        None => (Box::new(Plain::new()), VerifiedPeer::insecure_plaintext(), Vec::new(), OutBuf::new()),
    };
    let opened =
        exchange_opens(Opening { socket, records, engine, peer, login: None, received, output }, users).await?;
    Ok(Opened { ordinal, suite, round, ..opened })
}

async fn shake_hands(
    socket: &mut TcpStream,
    mut handshake: Handshake,
    round: &mut Duration,
) -> Result<van_tls::Established, EstablishError> {
    let mut buffer = vec![0; READ_OCTETS];
    loop {
        let asks = handshake.output().has_remaining();
        write_all(socket, handshake.output()).await?;
        let asked = Instant::now();
        let count = socket.read(&mut buffer).await?;
        if asks {
            *round = asked.elapsed();
        }
        if count == 0 {
            return Err(handshake.handle_eof().into());
        }
        match handshake.handle_received(&buffer[..count]) {
            Ok(Some(established)) => return Ok(established),
            Ok(None) => {}
            Err(error) => {
                // The alert tells the peer; that it may not arrive changes nothing.
                let _ = write_all(socket, handshake.output()).await;
                return Err(error.into());
            }
        }
    }
}

struct Opening {
    socket: TcpStream,
    records: Box<dyn RecordLayer>,
    engine: Connection,
    peer: VerifiedPeer,
    login: Option<(Mechanism, String)>,
    received: Vec<u8>,
    output: OutBuf,
}

async fn exchange_opens(mut opening: Opening, users: Option<&Users>) -> Result<Opened, EstablishError> {
    let mut places = Vec::new();
    loop {
        opening.send().await?;
        let progress = opening.records.open(&mut opening.received, &mut places)?;
        let plaintext = concatenate(&opening.received, &places);
        places.clear();
        opening.received.drain(..progress.consumed);
        let mut input = plaintext.as_slice();
        match opening.read(&mut input, users).await {
            Ok(None) => {}
            Ok(Some(open)) => {
                let opened = input.to_vec();
                let Opening { socket, records, engine, peer, login, received, output } = opening;
                let (ordinal, suite) = (None, None);
                return Ok(Opened {
                    socket,
                    records,
                    engine,
                    open,
                    peer,
                    login,
                    ordinal,
                    suite,
                    round: Duration::ZERO,
                    received,
                    opened,
                    output,
                });
            }
            Err(error) => {
                let _ = opening.send().await;
                return Err(error);
            }
        }
        if opening.engine.output().is_empty() {
            let start = opening.received.len();
            opening.received.resize(start + READ_OCTETS, 0);
            let count = opening.socket.read(&mut opening.received[start..]).await?;
            opening.received.truncate(start + count);
            if count == 0 {
                return Err(EstablishError::Silent);
            }
        }
    }
}

impl Opening {
    /// Feeds the engine until the peer's open.
    async fn read(&mut self, input: &mut &[u8], users: Option<&Users>) -> Result<Option<Box<Open>>, EstablishError> {
        while let Some(event) = self.engine.next(input)? {
            match event {
                Event::Authenticate(claim) => {
                    let login = judge(claim, &self.peer, users).await;
                    let told = self.engine.authenticate(login.is_ok());
                    self.login = Some(login?);
                    told?;
                }
                Event::Opened(open) => return Ok(Some(open)),
                Event::Closed(condition) => {
                    return Err(condition.map_or(EstablishError::Silent, EstablishError::Closed));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    async fn send(&mut self) -> Result<(), EstablishError> {
        if !self.engine.output().is_empty() {
            self.records.seal(&[self.engine.output()], &mut self.output)?;
            self.engine.clear_output();
        }
        write_all(&mut self.socket, &mut self.output).await?;
        Ok(())
    }
}

/// Who the peer is.
async fn judge(
    claim: Claim,
    peer: &VerifiedPeer,
    users: Option<&Users>,
) -> Result<(Mechanism, String), EstablishError> {
    match claim {
        Claim::External { .. } => {
            let certificate = peer.certificate().ok_or(EstablishError::NoCertificate)?;
            Ok((Mechanism::External, certificate.subject.to_string()))
        }
        Claim::Plain(password) => {
            let name = password.user.clone();
            match users {
                Some(users) if users.verify(password).await => Ok((Mechanism::Plain, name)),
                _ => Err(EstablishError::WrongPassword),
            }
        }
        _ => Ok((Mechanism::Anonymous, "anonymous".to_owned())),
    }
}

impl Opened {
    /// Closes a connection that is not wanted after all, telling the peer why.
    pub(crate) async fn refuse(mut self, condition: Condition) {
        if !self.engine.is_open() {
            self.engine.answer_open([]);
        }
        self.engine.close(Some(condition));
        if self.records.seal(&[self.engine.output()], &mut self.output).is_ok() {
            self.records.close(&mut self.output);
            // Whether the peer still hears it is its own affair.
            let _ = tokio::time::timeout(ESTABLISH_TIMEOUT, write_all(&mut self.socket, &mut self.output)).await;
            tcp::linger(self.socket).await;
        }
    }
}

async fn write_all(socket: &mut TcpStream, output: &mut OutBuf) -> io::Result<()> {
    while output.has_remaining() {
        socket.write_buf(output).await?;
    }
    Ok(())
}

fn concatenate(octets: &[u8], places: &[Range<usize>]) -> Vec<u8> {
    places.iter().flat_map(|place| &octets[place.clone()]).copied().collect()
}
