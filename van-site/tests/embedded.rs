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

#[tokio::test]
async fn a_site_that_cannot_be_reached_where_it_should_says_so() {
    // An address that no machine has (RFC 5737).
    let starting = Site::builder("hub").link_access_at("203.0.113.9").start();
    let refused = timeout(PATIENCE, starting).await.expect("in time").expect_err("there is no such address here");
    let (said, expected) = (refused.to_string(), "Site hub: cannot listen on 203.0.113.9:");
    assert!(said.starts_with(expected) && said.contains("; this machine has no such address: name one that"), "{said}");
}

#[tokio::test]
async fn a_routing_key_need_not_be_a_name() {
    let site = Site::builder("hub").start().await.expect("the hub starts");
    site.connector("Orders/v1:8080", "127.0.0.1:9").await.expect("a connector");
    site.listener("Orders/v1:8080", "127.0.0.1:0").await.expect("a listener");
}
