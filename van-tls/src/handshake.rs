//! The TLS handshake, without sockets: octets in, octets out, until a [`Tls13Records`] takes over.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, SystemTime};

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::UnixTime;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{CertificateError, CommonState, ContentType};

use crate::alert::Alert;
use crate::inspect::{Certificate, Utc};
use crate::record::{KeySchedule, OutBuf, Tls13Records};
use crate::verify::VerifiedPeer;

const HEADER: usize = 5;

/// From this claim on rustls refuses a record by its header alone (the limit of TLS 1.2: 2^14 + 2048).
const OVERSIZED: usize = 16_384 + 2_048;

/// How many octets of records one handshake message may take. rustls bounds the message (64 KiB), but keeps its records
/// until it is whole, and each record may bring as little as one octet of it.
const MAX_HELD: usize = 128 * 1024;

/// One end of a TLS handshake.
///
/// ```text
///            ┌──────────── write output ◄───────────┐
///  connect ──┤                                      │ None
///  accept ───┴─► read ──► handle_received ──────────┤
///                                                   ├─► Some(Established)
///                                                   └─► error: write output, close
/// ```
///
/// It keeps 146 KiB at most besides what one call brought. It has no clock: bound its time from outside.
pub struct Handshake {
    side: Option<Side>,
    /// Octets that rustls may still need.
    received: Vec<u8>,
    /// How many of them it has seen. It is shown one record at a time, so that none which belongs to the record
    /// layer gets into its hands.
    shown: usize,
    is_tls: bool,
    output: OutBuf,
}

/// A connection whose ends have verified each other.
#[derive(Debug)]
pub struct Established {
    /// What seals and opens from now on.
    pub records: Tls13Records,
    /// The evidence, and who the peer is.
    pub peer: VerifiedPeer,
    /// Octets received past the handshake, still sealed: the start of the receive buffer.
    pub received: Vec<u8>,
    /// Octets still to be written, the last of the handshake: append records behind them.
    pub output: OutBuf,
}

pub(crate) enum Side {
    Connector(UnbufferedClientConnection),
    Acceptor(UnbufferedServerConnection),
    /// Without a certificate of the peer.
    OpenAcceptor(UnbufferedServerConnection),
}

enum Step {
    /// rustls has more to do.
    Again,
    /// rustls wants the next record.
    Blocked,
    Done,
}

impl Handshake {
    pub(crate) fn start(side: Side) -> Result<Self, HandshakeError> {
        let (received, output) = (Vec::new(), OutBuf::new());
        let mut handshake = Self { side: Some(side), received, shown: 0, is_tls: false, output };
        handshake.advance()?;
        Ok(handshake)
    }

    /// Takes octets from the peer. `Some` ends the handshake; what [`output`](Self::output) holds moves along.
    ///
    /// # Errors
    /// [`HandshakeError`]. The handshake is over then; `output` has the alert that tells the peer.
    pub fn handle_received(&mut self, octets: &[u8]) -> Result<Option<Established>, HandshakeError> {
        self.received.extend_from_slice(octets);
        let advanced = self.advance();
        if advanced.is_err() {
            // rustls is to say its last words, but must not look at the octets again.
            while self.side.as_ref().is_some_and(|side| side.state().wants_write()) && self.step().is_ok() {}
            self.side = None;
        }
        advanced
    }

    /// The octets to write next.
    pub fn output(&mut self) -> &mut OutBuf {
        &mut self.output
    }

    /// Judges the end of the octets from the peer: it is always too early.
    pub fn handle_eof(&mut self) -> HandshakeError {
        match self.check_is_tls() {
            Err(error) if !self.received.is_empty() => error,
            _ => HandshakeError::Closed,
        }
    }

    fn advance(&mut self) -> Result<Option<Established>, HandshakeError> {
        loop {
            match self.step()? {
                Step::Again => {}
                Step::Blocked if self.show_record()? => {}
                Step::Blocked => return Ok(None),
                Step::Done => return self.establish().map(Some),
            }
        }
    }

    fn step(&mut self) -> Result<Step, HandshakeError> {
        let shown = &mut self.received[..self.shown];
        let (discard, step) = match &mut self.side {
            Some(Side::Connector(tls)) => react(tls.process_tls_records(shown), &mut self.output),
            Some(Side::Acceptor(tls) | Side::OpenAcceptor(tls)) => {
                react(tls.process_tls_records(shown), &mut self.output)
            }
            None => return Err(HandshakeError::Over),
        };
        self.received.drain(..discard);
        self.shown -= discard;
        step
    }

    /// Shows rustls one more record, if it is there.
    fn show_record(&mut self) -> Result<bool, HandshakeError> {
        if self.shown > MAX_HELD {
            return Err(HandshakeError::Protocol("a handshake message in too many records".into()));
        }
        let rest = &self.received[self.shown..];
        let Some(&[_, _, _, high, low]) = rest.first_chunk::<HEADER>() else { return Ok(false) };
        let record = match usize::from(u16::from_be_bytes([high, low])) {
            OVERSIZED.. => HEADER,
            length => HEADER + length,
        };
        let is_whole = rest.len() >= record;
        self.check_is_tls()?;
        if is_whole {
            self.shown += record;
        }
        Ok(is_whole)
    }

    /// Looks at the first octets, before rustls complains about them less helpfully.
    fn check_is_tls(&mut self) -> Result<(), HandshakeError> {
        let is_tls = |typ| [ContentType::Handshake, ContentType::Alert].contains(&typ);
        self.is_tls |= self.received.first().is_some_and(|&octet| is_tls(octet.into()));
        if self.is_tls {
            return Ok(());
        }
        Err(HandshakeError::NotTls { protocol: guess_protocol(&self.received) })
    }

    fn establish(&mut self) -> Result<Established, HandshakeError> {
        let side = self.side.take().ok_or(HandshakeError::Over)?;
        let peer = match side {
            Side::OpenAcceptor(_) => VerifiedPeer::without_certificate(),
            _ => VerifiedPeer::by_handshake(side.peer_certificate()?),
        };
        let records = side.into_records().map_err(HandshakeError::protocol)?;
        Ok(Established {
            records,
            peer,
            received: std::mem::take(&mut self.received),
            output: std::mem::take(&mut self.output),
        })
    }
}

impl Side {
    fn state(&self) -> &CommonState {
        match self {
            Self::Connector(tls) => tls,
            Self::Acceptor(tls) | Self::OpenAcceptor(tls) => tls,
        }
    }

    /// The certificate that the verifiers of [`crate::mutual`] have accepted.
    fn peer_certificate(&self) -> Result<Certificate, HandshakeError> {
        let chain = self.state().peer_certificates().unwrap_or_default();
        let certificate = chain.first().ok_or(HandshakeError::NoCertificate)?;
        Certificate::from_der(certificate).map_err(|error| HandshakeError::BadCertificate(error.into()))
    }

    fn into_records(self) -> Result<Tls13Records, rustls::Error> {
        let (secrets, suite, schedule) = match self {
            Self::Connector(tls) => {
                let (secrets, kernel) = tls.dangerous_into_kernel_connection()?;
                (secrets, kernel.negotiated_cipher_suite(), KeySchedule::Connector(kernel))
            }
            Self::Acceptor(tls) | Self::OpenAcceptor(tls) => {
                let (secrets, kernel) = tls.dangerous_into_kernel_connection()?;
                (secrets, kernel.negotiated_cipher_suite(), KeySchedule::Acceptor(kernel))
            }
        };
        let suite = suite.tls13().ok_or(rustls::Error::HandshakeNotComplete)?;
        Tls13Records::new(suite, secrets, schedule)
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.side {
            Some(Side::Connector(_)) => "connector",
            Some(Side::Acceptor(_) | Side::OpenAcceptor(_)) => "acceptor",
            None => "over",
        };
        f.debug_struct("Handshake").field("side", &side).finish_non_exhaustive()
    }
}

/// Does what rustls wants; also says how many octets it is done with.
fn react<Data>(status: UnbufferedStatus<'_, '_, Data>, output: &mut OutBuf) -> (usize, Result<Step, HandshakeError>) {
    let step = match status.state {
        Ok(ConnectionState::EncodeTlsData(mut data)) => {
            output.push(encode(&mut data));
            Ok(Step::Again)
        }
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Blocked),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Done),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Err(HandshakeError::Closed),
        Ok(state) => Err(HandshakeError::Protocol(format!("unexpected {state:?}").into())),
        Err(error) => Err(handshake_error(error)),
    };
    (status.discard, step)
}

fn encode<Data>(data: &mut EncodeTlsData<'_, Data>) -> Vec<u8> {
    let mut octets = Vec::new();
    while let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut octets) {
        octets.resize(needed.required_size, 0);
    }
    octets
}

fn guess_protocol(octets: &[u8]) -> String {
    let is = |start: &str| start.as_bytes().starts_with(&octets[..octets.len().min(start.len())]);
    if is("AMQP") {
        "AMQP in the clear".to_owned()
    } else if ["HTTP", "GET ", "POST", "PUT ", "HEAD", "PRI "].into_iter().any(is) {
        "HTTP in the clear".to_owned()
    } else {
        format!("something that begins with \"{}\"", octets[..octets.len().min(8)].escape_ascii())
    }
}

/// Why there is no link. The peer was told, as far as TLS has an alert for it.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer speaks something else; one of both ends is configured wrongly.
    #[error("the peer speaks {protocol} instead of TLS; give an sslProfile to both ends or to neither")]
    NotTls {
        /// What it seems to be.
        protocol: String,
    },
    /// The peer's certificate does not chain to our CA, or to one that only has the same name.
    #[error("the peer presented a certificate from another CA; were both ends given credentials of the same one?")]
    Untrusted(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The peer's certificate is too old; its operator's move.
    #[error("the certificate of the peer expired at {}; it needs a new one", Utc(*at))]
    Expired {
        /// The end of its life.
        at: SystemTime,
    },
    /// The peer's certificate is from the future, so some clock is wrong.
    #[error("the certificate of the peer is valid from {} only; compare the clocks of both ends", Utc(*from))]
    NotYetValid {
        /// The start of its life.
        from: SystemTime,
    },
    /// The acceptor's certificate is good, but for other hosts.
    #[error(
        "the peer was dialled as {expected}, but its certificate names {}; dial it so, or issue one for {expected}",
        if presented.is_empty() { "no host".to_owned() } else { presented.join(", ") }
    )]
    WrongHost {
        /// The host as dialled.
        expected: String,
        /// The hosts that the certificate names.
        presented: Vec<String>,
    },
    /// The connector has no certificate; its operator's move.
    #[error("the peer presented no certificate; it needs one from our CA")]
    NoCertificate,
    /// The peer's certificate cannot be accepted for another reason: its purpose, its algorithm, its encoding.
    #[error("the certificate of the peer is not acceptable")]
    BadCertificate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The peer broke off, and says why.
    #[error("the peer refused the handshake: {0}")]
    Refused(Alert),
    /// The peer knows no version, suite or group that we accept.
    #[error("the peer offers nothing we accept; links need TLS 1.3, services 1.2")]
    Incompatible(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The peer closed the connection without a word.
    #[error("the peer closed the connection during the handshake; its log may say why")]
    Closed,
    /// One end does not keep to the protocol.
    #[error("the handshake went wrong")]
    Protocol(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The handshake had already ended when octets were fed to it; ours.
    #[error("the handshake is over")]
    Over,
}

impl HandshakeError {
    fn protocol(error: rustls::Error) -> Self {
        Self::Protocol(error.into())
    }
}

/// The one place where rustls' errors get our words.
pub(crate) fn handshake_error(error: rustls::Error) -> HandshakeError {
    use rustls::Error;
    match error {
        Error::InvalidCertificate(error) => certificate_error(error),
        Error::NoCertificatesPresented => HandshakeError::NoCertificate,
        Error::AlertReceived(alert) => HandshakeError::Refused(Alert(alert.into())),
        Error::PeerIncompatible(_) => HandshakeError::Incompatible(error.into()),
        error => HandshakeError::protocol(error),
    }
}

fn certificate_error(error: CertificateError) -> HandshakeError {
    match error {
        // A CA of the same name with another key, as every site of a local system has, shows as a bad signature.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            HandshakeError::Untrusted(rustls::Error::from(error).into())
        }
        CertificateError::ExpiredContext { not_after, .. } => HandshakeError::Expired { at: system_time(not_after) },
        CertificateError::NotValidYetContext { not_before, .. } => {
            HandshakeError::NotYetValid { from: system_time(not_before) }
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            // An IP address is there twice, once as DNS name.
            let presented = BTreeSet::from_iter(presented.into_iter().map(bare_name));
            HandshakeError::WrongHost {
                expected: expected.to_str().into_owned(),
                presented: presented.into_iter().collect(),
            }
        }
        error => HandshakeError::BadCertificate(rustls::Error::from(error).into()),
    }
}

/// `west` for `DnsName("west")`, which is how webpki shows it.
fn bare_name(name: String) -> String {
    let inner = name.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')'));
    inner.map_or(name.clone(), |inner| inner.trim_matches('"').to_owned())
}

fn system_time(time: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())
}
