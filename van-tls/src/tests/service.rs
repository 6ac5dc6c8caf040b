//! TLS with clients and workloads over streams of tokio, in memory.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

type Ends = (Result<ServiceStream<DuplexStream>, TlsError>, Result<ServiceStream<DuplexStream>, TlsError>);

const PROTOCOLS: [&str; 2] = ["http/1.1", "h2"];

/// The first is the workload's client.
async fn connect(connector: &ServiceConnector, protocol: Option<&str>, acceptor: &ServiceAcceptor) -> Ends {
    let (near, far) = duplex(4096);
    tokio::join!(connector.connect("west", protocol, now(), near), acceptor.accept(now(), far))
}

/// Both ends, without a certificate of the client.
async fn connected() -> (ServiceStream<DuplexStream>, ServiceStream<DuplexStream>) {
    let west = west();
    let connector = ServiceConnector::new(&west.trust, None, HostCheck::Verify).unwrap();
    let acceptor = ServiceAcceptor::new(&west.identity, None, &PROTOCOLS).unwrap();
    let (near, far) = connect(&connector, None, &acceptor).await;
    (near.unwrap(), far.unwrap())
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let (mut near, mut far) = connected().await;
    let mut heard = String::new();
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    far.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "question");
    far.write_all(b"answer").await.unwrap();
    far.shutdown().await.unwrap();
    heard.clear();
    near.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "answer");
}

#[tokio::test]
async fn an_end_without_farewell_is_an_error_behind_what_came() {
    let (mut near, mut far) = connected().await;
    near.write_all(b"half a sen").await.unwrap();
    near.flush().await.unwrap();
    drop(near);
    let mut heard = Vec::new();
    let error = far.read_to_end(&mut heard).await.unwrap_err();
    assert_eq!((error.kind(), &heard[..]), (io::ErrorKind::UnexpectedEof, &b"half a sen"[..]));
}

#[tokio::test]
async fn both_ends_know_the_protocol_they_agreed_on() {
    let west = west();
    let connector = ServiceConnector::new(&west.trust, None, HostCheck::Verify).unwrap();
    let acceptor = ServiceAcceptor::new(&west.identity, None, &PROTOCOLS).unwrap();
    for protocol in [Some("h2"), Some("http/1.1"), None] {
        let (near, far) = connect(&connector, protocol, &acceptor).await;
        let (near, far) = (near.unwrap(), far.unwrap());
        assert_eq!((near.protocol(), far.protocol()), (protocol, protocol));
    }
    let (near, far) = connect(&connector, Some("imap"), &acceptor).await;
    assert!(near.is_err() && far.is_err(), "no protocol in common");
}

#[tokio::test]
async fn clients_show_certificates_where_they_must() {
    let west = west();
    let acceptor = ServiceAcceptor::new(&west.identity, Some(&west.trust), &PROTOCOLS).unwrap();
    let check = async |identity: Option<&Identity>| {
        let connector = ServiceConnector::new(&west.trust, identity, HostCheck::Verify).unwrap();
        let (near, far) = connect(&connector, None, &acceptor).await;
        match far {
            Ok(_) => Ok(()),
            Err(TlsError::Handshake(error)) => {
                // It has no error yet, for the acceptor judges last.
                let mut near = near.unwrap();
                let heard = near.read(&mut [0]).await.unwrap_err();
                assert_eq!(heard.kind(), io::ErrorKind::InvalidData);
                Err((error, heard.to_string()))
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert!(check(Some(&west.identity)).await.is_ok());
    let (error, heard) = check(None).await.unwrap_err();
    assert!(matches!(error, HandshakeError::NoCertificate), "{error}");
    assert!(heard.contains("it demands a certificate"), "{heard}");
    let stranger = new_ca("skupper-site-ca", KeyKind::EcdsaP256).issue(&leaf("west", &["west"])).unwrap();
    let (error, _) = check(Some(&stranger.identity)).await.unwrap_err();
    assert!(matches!(error, HandshakeError::Untrusted(_)), "{error}");
}

#[tokio::test]
async fn a_workload_is_verified_by_chain_and_by_name_unless_that_is_waived() {
    let west = west();
    let east = ca().issue(&leaf("east", &["east"])).unwrap();
    let stranger = new_ca("other", KeyKind::EcdsaP256).issue(&leaf("west", &["west"])).unwrap();
    let check = async |identity: &Identity, host_check| {
        let connector = ServiceConnector::new(&west.trust, None, host_check).unwrap();
        let acceptor = ServiceAcceptor::new(identity, None, &PROTOCOLS).unwrap();
        connect(&connector, None, &acceptor).await.0
    };
    assert!(check(&west.identity, HostCheck::Verify).await.is_ok());
    assert!(check(&east.identity, HostCheck::Waive).await.is_ok());
    let error = check(&east.identity, HostCheck::Verify).await.unwrap_err();
    assert!(matches!(error, TlsError::Handshake(HandshakeError::WrongHost { .. })), "{error}");
    let error = check(&stranger.identity, HostCheck::Waive).await.unwrap_err();
    assert!(matches!(error, TlsError::Handshake(HandshakeError::Untrusted(_))), "{error}");
}

fn policy(versions: &str, suites: &str) -> Policy {
    let mut policy = Policy::default();
    policy.restrict_versions(versions).unwrap();
    assert!(policy.restrict_suites(suites).is_empty());
    policy
}

#[tokio::test]
async fn ends_agree_on_what_both_may_negotiate_or_not_at_all() {
    const ECDSA_128: &str = "ECDHE-ECDSA-AES128-GCM-SHA256";
    const ECDSA_256: &str = "ECDHE-ECDSA-AES256-GCM-SHA384";
    let west = west();
    for (near, far, is_agreed) in [
        (policy("TLSv1.2", ""), policy("TLSv1.2 TLSv1.3", ""), true),
        (policy("TLSv1.3", ""), policy("TLSv1.2 TLSv1.3", ""), true),
        (policy("TLSv1.3", ""), policy("TLSv1.2", ""), false),
        (policy("TLSv1.2", ECDSA_128), policy("TLSv1.2", ECDSA_128), true),
        (policy("TLSv1.2", ECDSA_128), policy("TLSv1.2", ECDSA_256), false),
        // Suites of TLS 1.3 are others.
        (policy("TLSv1.2 TLSv1.3", ECDSA_128), policy("TLSv1.2 TLSv1.3", ECDSA_256), true),
        (policy("TLSv1.3", "TLS_AES_128_GCM_SHA256"), policy("TLSv1.3", "TLS_AES_256_GCM_SHA384"), false),
    ] {
        let connector = ServiceConnector::with_policy(&west.trust, None, HostCheck::Verify, &near).unwrap();
        let acceptor = ServiceAcceptor::with_policy(&west.identity, None, &PROTOCOLS, &far).unwrap();
        let ends = connect(&connector, None, &acceptor).await;
        assert_eq!((ends.0.is_ok(), ends.1.is_ok()), (is_agreed, is_agreed), "{near:?} {far:?}");
    }
}

#[test]
fn what_names_no_suite_or_version_is_told_and_changes_nothing() {
    let mut policy = Policy::default();
    assert_eq!(policy.restrict_suites("HIGH:!aNULL:!MD5"), ["HIGH", "!aNULL", "!MD5"]);
    assert_eq!(policy, Policy::default());
    assert!(policy.restrict_versions("TLSv1.3 SSLv3").unwrap_err().to_string().contains("\"SSLv3\" is no version"));
    assert_eq!(policy, Policy::default());
}
