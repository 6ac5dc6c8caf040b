use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::UnixTime;
use rustls::server::UnbufferedServerConnection;
use rustls::time_provider::TimeProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};

use super::*;
use crate::handshake::Side;

#[derive(Debug)]
struct TestClock;

impl TimeProvider for TestClock {
    fn current_time(&self) -> Option<UnixTime> {
        now().duration_since(SystemTime::UNIX_EPOCH).ok().map(UnixTime::since_unix_epoch)
    }
}

/// What rustls does as a client by default, with a certificate or without.
pub(crate) fn rustls_client(identity: Option<&Identity>, version: &'static SupportedProtocolVersion) -> ClientConfig {
    let config = ClientConfig::builder_with_provider(Policy::default_provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(west().trust.roots());
    let mut config = match identity {
        Some(identity) => {
            config.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(identity.certified())))
        }
        None => config.with_no_client_auth(),
    };
    config.time_provider = Arc::new(TestClock);
    config
}

/// What rustls does as a server by default, which includes session tickets.
pub(crate) fn rustls_server(version: &'static SupportedProtocolVersion) -> ServerConfig {
    let provider = Policy::default_provider();
    let west = west();
    let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(west.trust.roots(), provider.clone());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(west.identity.certified())));
    config.time_provider = Arc::new(TestClock);
    config
}

impl Policy {
    /// Everything rustls can do, TLS 1.2 as well.
    fn default_provider() -> Arc<rustls::crypto::CryptoProvider> {
        Arc::new(rustls::crypto::aws_lc_rs::default_provider())
    }
}

fn dial(credentials: &Credentials, host: &str) -> Handshake {
    connector(credentials).connect(host, now()).unwrap()
}

fn accept(credentials: &Credentials) -> Handshake {
    acceptor(credentials).accept(now()).unwrap()
}

fn issued_by(ca: &Authority) -> Credentials {
    ca.issue(&leaf("west", &["west", "127.0.0.1"])).unwrap()
}

/// The first thing that the record layer of an established end opens.
fn first_opened(mut end: Established) -> Result<Vec<u8>, OpenError> {
    open_all(&mut end.records, &mut end.received).map(|(plaintext, _)| plaintext)
}

#[test]
fn both_ends_learn_who_the_other_is() {
    let [east, west] = ["east", "west"].map(|name| ca().issue(&leaf(name, &[name])).unwrap());
    let (near, far) = shake(dial(&east, "west"), accept(&west));
    let (near, far) = (near.unwrap(), far.unwrap());
    assert_eq!(near.peer.certificate(), Some(west.identity.certificate()));
    assert_eq!(far.peer.certificate(), Some(east.identity.certificate()));
    assert_eq!(near.records.suite(), SUITES[0]);
}

#[test]
fn all_stages_move_between_threads() {
    fn moves<T: Send>() {}
    moves::<LinkConnector>();
    moves::<LinkAcceptor>();
    moves::<Handshake>();
    moves::<Established>();
}

#[test]
fn rsa_certificates_will_do() {
    let ca = new_ca("rsa", KeyKind::Rsa2048);
    let west = ca.issue(&LeafRequest { key: KeyKind::Rsa2048, ..leaf("west", &["west"]) }).unwrap();
    let (near, far) = shake(dial(&west, "west"), accept(&west));
    assert!(near.is_ok() && far.is_ok());
}

#[test]
fn octets_may_come_one_by_one() {
    let west = west();
    let (mut near, mut far) = (dial(&west, "west"), accept(&west));
    let trickle = |from: &mut OutBuf, to: &mut Handshake| {
        let octets = drain(from);
        let mut outcomes = octets.iter().map(|octet| to.handle_received(&[*octet]).unwrap());
        outcomes.find_map(|outcome| outcome)
    };
    assert!(trickle(near.output(), &mut far).is_none());
    let mut near = trickle(far.output(), &mut near).unwrap();
    let far = trickle(&mut near.output, &mut far).unwrap();
    assert_eq!(far.peer.certificate(), near.peer.certificate());
}

#[test]
fn data_behind_the_last_flight_is_left_to_the_record_layer() {
    let west = west();
    let (mut near, mut far) = (dial(&west, "west"), accept(&west));
    far.handle_received(&drain(near.output())).unwrap();
    let mut near = near.handle_received(&drain(far.output())).unwrap().unwrap();
    near.records.seal(&[b"early"], &mut near.output).unwrap();
    let far = far.handle_received(&drain(&mut near.output)).unwrap().unwrap();
    assert_eq!(first_opened(far).unwrap(), b"early");
}

#[test]
fn addresses_are_verified_as_hosts() {
    let west = west();
    let (near, _) = shake(dial(&west, "127.0.0.1"), accept(&west));
    near.unwrap();
}

#[test]
fn other_hosts_are_refused_with_the_names_that_would_do() {
    let west = west();
    let (near, far) = shake(dial(&west, "east"), accept(&west));
    assert_eq!(
        near.unwrap_err().to_string(),
        "the peer was dialled as east, but its certificate names 127.0.0.1, west; \
         dial it so, or issue one for east"
    );
    assert!(matches!(far.unwrap_err(), HandshakeError::Refused(_)));
}

#[test]
fn waived_host_check_still_wants_the_right_ca() {
    let west = west();
    let waiving = LinkConnector::new(&west, HostCheck::Waive, &Policy::default()).unwrap();
    let (near, far) = shake(waiving.connect("east", now()).unwrap(), accept(&west));
    assert!(near.is_ok() && far.is_ok());

    let stranger = issued_by(&new_ca("other", KeyKind::EcdsaP256));
    let (near, _) = shake(waiving.connect("east", now()).unwrap(), accept(&stranger));
    assert!(matches!(near.unwrap_err(), HandshakeError::Untrusted(_)));
}

#[test]
fn acceptor_of_another_ca_is_refused() {
    for name in ["other", "skupper-site-ca"] {
        let stranger = issued_by(&new_ca(name, KeyKind::EcdsaP256));
        let (near, far) = shake(dial(&west(), "west"), accept(&stranger));
        assert_eq!(
            near.unwrap_err().to_string(),
            "the peer presented a certificate from another CA; were both ends given credentials of the same one?"
        );
        assert!(far.unwrap_err().to_string().starts_with("the peer refused the handshake: "));
    }
}

#[test]
fn connector_of_another_ca_is_refused_and_told_so_by_its_first_record() {
    let stranger = Credentials { trust: west().trust, ..issued_by(&new_ca("other", KeyKind::EcdsaP256)) };
    let (near, far) = shake(dial(&stranger, "west"), accept(&west()));
    assert!(matches!(far.unwrap_err(), HandshakeError::Untrusted(_)));
    assert_eq!(
        first_opened(near.unwrap()).unwrap_err().to_string(),
        "the peer broke the connection off: UnknownCA (48): our certificate is from a CA it does not trust"
    );
}

#[test]
fn certificates_out_of_their_time_are_refused() {
    let west = west();
    let late = now() + 4 * DAY;
    let (near, _) = shake(connector(&west).connect("west", late).unwrap(), acceptor(&west).accept(now()).unwrap());
    assert_eq!(
        near.unwrap_err().to_string(),
        "the certificate of the peer expired at 2027-01-18T08:00:00Z; it needs a new one"
    );
    let early = now() - DAY;
    let (_, far) = shake(connector(&west).connect("west", now()).unwrap(), acceptor(&west).accept(early).unwrap());
    assert!(matches!(far.unwrap_err(), HandshakeError::NotYetValid { .. }));
}

#[test]
fn certificates_for_the_other_role_are_refused() {
    let client = ca().issue(&LeafRequest { usage: Usage::Client, ..leaf("west", &["west"]) }).unwrap();
    let server = ca().issue(&LeafRequest { usage: Usage::Server, ..leaf("west", &["west"]) }).unwrap();
    let (near, far) = shake(dial(&client, "west"), accept(&server));
    assert!(near.is_ok() && far.is_ok());
    let (near, _) = shake(dial(&client, "west"), accept(&client));
    assert!(matches!(near.unwrap_err(), HandshakeError::BadCertificate(_)));
    let (_, far) = shake(dial(&server, "west"), accept(&server));
    assert!(matches!(far.unwrap_err(), HandshakeError::BadCertificate(_)));
}

#[test]
fn connector_without_certificate_is_refused() {
    let client = Arc::new(rustls_client(None, &TLS13));
    let client = UnbufferedClientConnection::new(client, "west".try_into().unwrap()).unwrap();
    let mut near = Handshake::start(Side::Connector(client)).unwrap();
    let mut far = accept(&west());
    far.handle_received(&drain(near.output())).unwrap();
    // It cannot become ours, because it allows nobody to take its keys.
    near.handle_received(&drain(far.output())).unwrap_err();
    let error = far.handle_received(&drain(near.output())).unwrap_err();
    assert!(matches!(error, HandshakeError::NoCertificate), "{error:?}");
}

#[test]
fn links_do_not_speak_tls_1_2() {
    let client = Arc::new(rustls_client(Some(&west().identity), &TLS12));
    let client = UnbufferedClientConnection::new(client, "west".try_into().unwrap()).unwrap();
    let (_, far) = shake(Handshake::start(Side::Connector(client)).unwrap(), accept(&west()));
    assert!(matches!(far.unwrap_err(), HandshakeError::Incompatible(_)));

    let server = UnbufferedServerConnection::new(Arc::new(rustls_server(&TLS12))).unwrap();
    let (near, _) = shake(dial(&west(), "west"), Handshake::start(Side::Acceptor(server)).unwrap());
    assert_eq!(
        near.unwrap_err().to_string(),
        "the peer refused the handshake: ProtocolVersion (70): it does not speak TLS 1.3"
    );
}

#[test]
fn other_protocols_are_recognised() {
    let check = |octets: &[u8], protocol: &str| {
        for mut handshake in [dial(&west(), "west"), accept(&west())] {
            drain(handshake.output());
            let error = handshake.handle_received(octets).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("the peer speaks {protocol} instead of TLS; give an sslProfile to both ends or to neither")
            );
            assert!(!handshake.output().has_remaining(), "a stranger is sent nothing");
        }
    };
    check(b"AMQP\x03\x01\x00\x00", "AMQP in the clear");
    check(b"HTTP/1.1 400 Bad Request\r\n", "HTTP in the clear");
    check(b"GET / HTTP/1.1\r\n", "HTTP in the clear");
    check(b"SSH-2.0-OpenSSH\r\n", "something that begins with \"SSH-2.0-\"");
    check(b"\x00\xff\"no", "something that begins with \"\\x00\\xff\\\"no\"");
}

#[test]
fn early_end_is_an_error() {
    let west = west();
    assert!(matches!(dial(&west, "west").handle_eof(), HandshakeError::Closed));
    let mut stranger = accept(&west);
    stranger.handle_received(b"AMQ").unwrap();
    assert!(matches!(stranger.handle_eof(), HandshakeError::NotTls { .. }));
    let mut amid = accept(&west);
    amid.handle_received(&drain(dial(&west, "west").output())[..100]).unwrap();
    assert!(matches!(amid.handle_eof(), HandshakeError::Closed));
}

#[test]
fn ended_handshake_takes_no_more() {
    let mut handshake = accept(&west());
    handshake.handle_received(b"AMQP\x03\x01\x00\x00").unwrap_err();
    assert!(matches!(handshake.handle_received(b"more"), Err(HandshakeError::Over)));
}

#[test]
fn policy_decides_suites_and_groups() {
    let west = west();
    for suite in SUITES {
        let policy = Policy { suites: vec![suite], ..Policy::default() };
        let near = LinkConnector::new(&west, HostCheck::Verify, &policy).unwrap();
        let (near, far) = shake(near.connect("west", now()).unwrap(), accept(&west));
        assert_eq!(near.unwrap().records.suite(), suite);
        assert_eq!(far.unwrap().records.suite(), suite);
    }
    let classical = Policy { post_quantum: false, ..Policy::default() };
    let classical = LinkConnector::new(&west, HostCheck::Verify, &classical).unwrap();
    // A share of X25519MLKEM768 is 1216 octets long.
    assert!(classical.connect("west", now()).unwrap().output().remaining() < 1000);
    assert!(dial(&west, "west").output().remaining() > 1216);

    let nothing = Policy { suites: vec![], ..Policy::default() };
    let error = LinkAcceptor::new(&west, &nothing).unwrap_err();
    assert_eq!(error.to_string(), "TLS cannot be set up; name at least one cipher suite");
}

#[test]
fn hosts_that_are_no_names_are_refused() {
    let error = connector(&west()).connect("two words", now()).unwrap_err();
    assert_eq!(error.to_string(), "\"two words\" is neither a DNS name nor an IP address");
}
