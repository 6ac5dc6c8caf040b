//! HTTPS over streams of tokio, in memory.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

type Ends = (Result<HttpsStream<DuplexStream>, TlsError>, Result<HttpsStream<DuplexStream>, TlsError>);

/// Connects to `host`, whose server shows `identity`, as of `at`. The first is the client.
async fn connect(trust: &Trust, host: &str, at: SystemTime, identity: &Identity) -> Ends {
    let connector = HttpsConnector::new(trust, &["http/1.1"]).unwrap();
    let acceptor = HttpsAcceptor::new(identity, &["h2", "http/1.1"]).unwrap();
    let (near, far) = duplex(4096);
    tokio::join!(connector.connect(host, at, near), acceptor.accept(far))
}

#[tokio::test]
async fn what_one_end_writes_the_other_reads() {
    let west = west();
    let (near, far) = connect(&west.trust, "127.0.0.1", now(), &west.identity).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    assert_eq!((near.protocol(), far.protocol()), (Some(&b"http/1.1"[..]), Some(&b"http/1.1"[..])));
    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    let mut heard = String::new();
    far.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "question");
}

#[tokio::test]
async fn the_server_is_verified() {
    let west = west();
    let check = async |trust: &Trust, host: &str, at: SystemTime| match connect(trust, host, at, &west.identity).await {
        (Err(TlsError::Handshake(error)), Err(_)) => error,
        (outcome, _) => panic!("{outcome:?}"),
    };
    let other = new_ca("skupper-site-ca", KeyKind::EcdsaP256);
    let error = check(&other.credentials().trust, "west", now()).await;
    assert!(matches!(error, HandshakeError::Untrusted(_)), "{error}");
    let error = check(&west.trust, "east", now()).await;
    let HandshakeError::WrongHost { presented, .. } = error else { panic!("{error}") };
    assert_eq!(presented, ["127.0.0.1", "west"]);
    let error = check(&west.trust, "west", now() + 4 * DAY).await;
    assert!(matches!(error, HandshakeError::Expired { .. }), "{error}");
    let error = check(&west.trust, "west", now() - DAY).await;
    assert!(matches!(error, HandshakeError::NotYetValid { .. }), "{error}");
}

#[tokio::test]
async fn other_protocols_and_early_ends_are_told_apart() {
    let west = west();
    let check = async |said: &[u8]| {
        let connector = HttpsConnector::new(&west.trust, &[]).unwrap();
        let (near, mut far) = duplex(4096);
        far.write_all(said).await.unwrap();
        far.shutdown().await.unwrap();
        let outcome = connector.connect("west", now(), near).await;
        match outcome {
            Err(TlsError::Handshake(error)) => error,
            outcome => panic!("{outcome:?}"),
        }
    };
    assert!(matches!(check(b"HTTP/1.1 400 Bad Request\r\n").await, HandshakeError::NotTls { .. }));
    assert!(matches!(check(b"").await, HandshakeError::Closed));
    let connector = HttpsConnector::new(&west.trust, &[]).unwrap();
    let outcome = connector.connect("no host", now(), duplex(1).0).await;
    assert!(matches!(outcome, Err(TlsError::Host { .. })));
}
