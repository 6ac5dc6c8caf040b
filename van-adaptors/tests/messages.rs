//! Messages between programs with a router inside each, over loopback.

#[path = "dial/ports.rs"]
mod ports;

use std::time::Duration;

use bytes::Bytes;
use ports::free_port;
use serde_json::{Value, json};
use van_adaptors::{Options, Router, SendError, Subscription};
use van_core::management::config::Configuration;
use van_core::plane::Routes;
use van_routing::Treatment;

/// A body of one data section.
const HELLO: Bytes = Bytes::from_static(b"\x00\x53\x75\xa0\x05hello");

fn start(id: &str, entities: Vec<Value>) -> Router {
    let mut configuration = vec![json!(["router", {"id": id, "mode": "interior", "workerThreads": 2}])];
    configuration.extend(entities);
    let configuration = Configuration::parse(&json!(configuration).to_string(), |_| None).expect("a configuration");
    Router::start(configuration, &Options::default()).expect("it starts")
}

/// Three routers in a row, linked without TLS.
fn chain() -> [Router; 3] {
    let port = free_port();
    let end = |name: &str| json!([name, {"name": "link", "role": "inter-router", "host": "127.0.0.1", "port": port}]);
    [("a", "connector"), ("b", "listener"), ("c", "connector")].map(|(id, entity)| start(id, vec![end(entity)]))
}

async fn wait_reachable(router: &Router, address: &str) {
    let mut watch = router.messages().watch(address);
    while !watch.is_reachable() {
        watch.changed().await.expect("it runs");
    }
}

async fn receive(subscription: &mut Subscription) -> Bytes {
    let received = tokio::time::timeout(Duration::from_secs(30), subscription.recv()).await;
    received.expect("in time").expect("it runs")
}

#[tokio::test]
async fn messages_reach_the_subscribers_of_other_routers_and_ones_own() {
    let [mut a, mut b, mut c] = chain();
    let subscribe = |router: &Router| router.messages().subscribe("mc/news", Treatment::MulticastOnce);
    let mut subscriptions = [&a, &a, &c].map(subscribe);
    let mut direct = c.messages().subscribe("sfe.c", Treatment::AnycastClosest);
    wait_for_owners(&mut a, "sfe.c", 1).await;
    for (router, count) in [(&mut a, 1), (&mut b, 2), (&mut c, 1)] {
        wait_for_owners(router, "mc/news", count).await;
    }
    for router in [&a, &b, &c] {
        router.messages().send("mc/news", HELLO).expect("sent");
        for subscription in &mut subscriptions {
            assert_eq!(receive(subscription).await, HELLO);
        }
    }
    a.messages().send("sfe.c", HELLO).expect("sent");
    assert_eq!(receive(&mut direct).await, HELLO);
    assert!(subscriptions.iter().all(|subscription| subscription.dropped() == 0));
}

/// Waits until a router knows of so many other routers with consumers of an address.
async fn wait_for_owners(router: &mut Router, address: &str, count: usize) {
    let owners = |routes: &Routes| routes.addresses.get(address).map_or(0, |consumers| consumers.owners.len());
    while owners(&router.routes()) < count {
        router.routes_changed().await;
    }
}

#[tokio::test]
async fn dropping_a_subscription_ends_it() {
    let [a, _b, c] = chain();
    let subscription = c.messages().subscribe("sfe.c", Treatment::AnycastClosest);
    wait_reachable(&a, "sfe.c").await;
    let mut watch = a.messages().watch("sfe.c");
    drop(subscription);
    assert_eq!(watch.changed().await, Some(false));
    drop(a);
    assert_eq!(watch.changed().await, None);
}

#[tokio::test]
async fn a_slow_subscriber_loses_messages_and_counts_them() {
    let router = start("alone", Vec::new());
    let messages = router.messages();
    let mut subscription = messages.subscribe("mc/news", Treatment::MulticastOnce);
    wait_reachable(&router, "mc/news").await;
    let mut body = b"\x00\x53\x75\xb0\x00\x08\x00\x00".to_vec();
    body.resize(8 + 0x80000, 0);
    let body = Bytes::from(body);
    for _ in 0..20 {
        messages.send("mc/news", body.clone()).expect("sent");
    }
    messages.send("mc/news", HELLO).expect("sent");
    // Seven fit.
    while subscription.dropped() < 13 {
        tokio::task::yield_now().await;
    }
    let mut large = 0;
    while receive(&mut subscription).await == body {
        large += 1;
    }
    assert_eq!((large, subscription.dropped()), (7, 13));
}

#[tokio::test]
async fn after_the_router_nothing_is_sent_or_received() {
    let router = start("alone", Vec::new());
    let messages = router.messages();
    let mut subscription = messages.subscribe("mc/news", Treatment::MulticastOnce);
    router.shutdown(Duration::ZERO).await;
    assert_eq!(subscription.recv().await, None);
    assert!(matches!(messages.send("mc/news", HELLO), Err(SendError::Stopped)));
    assert_eq!(messages.subscribe("mc/news", Treatment::MulticastOnce).recv().await, None);
}
