//! Sites in one process: linked by tokens, streams without sockets.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use van_site::{Site, TokenRequest};

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_stream_goes_from_one_site_to_another() {
    let hub = Site::builder("hub").link_access_at("127.0.0.1").start().await.expect("the hub starts");
    let token = hub.issue_token(&TokenRequest::default()).await.expect("a token");
    let laptop = Site::builder("laptop").token(token).start().await.expect("the laptop starts");
    let mut incoming = hub.accept("greeter").await.expect("the key is consumed");
    let serving = tokio::spawn(async move {
        let mut stream = incoming.next().await.expect("a stream");
        let mut asked = String::new();
        stream.read_to_string(&mut asked).await.expect("it ends");
        stream.write_all(format!("hello {asked}").as_bytes()).await.expect("it is taken");
        stream.shutdown().await.expect("it ends");
    });
    let mut stream = timeout(PATIENCE, laptop.dial("greeter")).await.expect("in time").expect("a stream");
    stream.write_all(b"laptop").await.expect("it is taken");
    stream.shutdown().await.expect("it ends");
    let mut heard = String::new();
    stream.read_to_string(&mut heard).await.expect("it ends");
    assert_eq!(heard, "hello laptop");
    serving.await.expect("the service ends");
    laptop.shutdown(Duration::ZERO).await;
    hub.shutdown(Duration::ZERO).await;
}
