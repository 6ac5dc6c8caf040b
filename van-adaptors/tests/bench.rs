//! Routers that are measured, and clients that want too much of it.

#[path = "dial/rig.rs"]
mod rig;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use van_adaptors::bench::{self, Direction, Path, Probe, ProbeError};
use van_adaptors::{Options, Router, Stream};
use van_core::management::config::Configuration;

use rig::{Site, alone, linked};

/// Enough for some octets.
const MOMENT: Duration = Duration::from_millis(100);

/// Measures from a site, on a thread of its own.
async fn probe<T: Send + 'static>(site: &Site, measure: impl FnOnce(&Probe) -> T + Send + 'static) -> T {
    let dialer = site.dialer.clone();
    let run = move || measure(&Probe::new(dialer, Arc::new(AtomicBool::new(false))).expect("a runtime"));
    tokio::task::spawn_blocking(run).await.expect("it does not panic")
}

/// The router `alone`, once its responder is there.
async fn answering() -> Site {
    let mut site = alone(&[]);
    site.wait_reachable(&bench::address("alone"), true).await;
    site
}

/// A stream to the responder of the router `alone`, and its first words.
async fn ask(site: &Site, request: &str) -> Stream {
    let mut stream = site.dialer.dial(&bench::address("alone")).await.expect("it answers");
    stream.write_all(request.as_bytes()).await.expect("it is open");
    stream
}

/// All that is said on a stream, which must end in order.
async fn all_of(mut stream: Stream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("a clean end");
    text
}

/// The first line on a stream.
async fn line_of(stream: &mut Stream) -> String {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.push(stream.read_u8().await.expect("a whole line"));
    }
    String::from_utf8(line).expect("text")
}

#[tokio::test]
async fn a_router_is_measured_over_a_link() {
    let [mut west, east] = linked(&[], &[]);
    west.wait_reachable(&bench::address("east"), true).await;
    let whole =
        |routers: &[&str]| Path { routers: routers.iter().map(|it| (*it).to_owned()).collect(), is_whole: true };
    probe(&west, move |probe| {
        assert_eq!(probe.path("east"), whole(&["west", "east"]));
        assert_eq!(probe.path("west"), whole(&["west"]));
        assert!(probe.is_answered("east") && probe.is_answered("west") && !probe.is_answered("north"));

        let trips = probe.round_trips("east", rig::PATIENCE, 100).expect("it answers");
        assert_eq!(trips.samples.count(), 100);
        assert!(trips.samples.percentile(50) <= trips.samples.percentile(99));
        for (direction, streams) in [(Direction::Up, 1), (Direction::Down, 1), (Direction::Up, 8), (Direction::Down, 8)]
        {
            let carried = probe.throughput("east", direction, streams, MOMENT).expect("it answers");
            assert!(carried.octets > 0 && carried.bits_per_second > 0.0, "{direction:?}, {streams}: {carried:?}");
        }
        for at_once in [1, 16] {
            let connections = probe.connections("east", at_once, MOMENT).expect("it answers");
            assert!(connections.samples.count() > 0 && connections.failures == 0, "{at_once}: {connections:?}");
        }
    })
    .await;
    for site in [&west, &east] {
        site.idle().await;
    }
}

#[tokio::test]
async fn what_has_come_is_counted_where_it_came_and_in_the_time_that_was_asked_for() {
    let site = answering().await;
    let mut stream = ask(&site, "van.bench/1 sink 5000\n").await;
    assert_eq!(line_of(&mut stream).await, "ok\n");
    stream.write_all(&[0; 300_000]).await.expect("it is open");
    stream.shutdown().await.expect("it is open");
    let counted = line_of(&mut stream).await;
    assert_eq!(counted.split_once(' ').map(|(octets, _)| octets), Some("300000"), "{counted}");

    let mut stream = ask(&site, "van.bench/1 sink 20\n").await;
    assert_eq!(line_of(&mut stream).await, "ok\n");
    stream.write_all(b"and no end").await.expect("it is open");
    let counted = line_of(&mut stream).await;
    let micros = counted.trim_end().strip_prefix("10 ").and_then(|micros| micros.parse::<u64>().ok());
    assert!(micros.is_some_and(|micros| micros >= 20_000), "{counted}");
}

#[tokio::test]
async fn what_was_asked_for_comes_back_and_then_the_stream_ends() {
    let site = answering().await;
    let stream = ask(&site, "van.bench/1 echo 5\nhello, world").await;
    assert_eq!(all_of(stream).await, "ok\nhello");
    let mut stream = ask(&site, "van.bench/1 echo 4194304\nhello").await;
    stream.shutdown().await.expect("it is open");
    assert_eq!(all_of(stream).await, "ok\nhello");
}

#[tokio::test]
async fn garbage_is_answered_and_no_more() {
    let site = answering().await;
    for garbage in ["GET / HTTP/1.1\r\n", "\n", "van.bench/1 source 60000\n"] {
        let stream = ask(&site, garbage).await;
        assert_eq!(all_of(stream).await, "unknown\n", "{garbage:?}");
    }
    // What is behind the answer breaks the stream, maybe before the answer is read.
    let mut stream = ask(&site, "x").await;
    while stream.write_all(&[b'x'; 100_000]).await.is_ok() {}
    let mut stream = ask(&site, "van.bench/1").await;
    stream.shutdown().await.expect("it is open");
    assert_eq!(all_of(stream).await, "unknown\n", "an end in the middle of a line");
}

#[tokio::test]
async fn a_client_that_never_reads_is_given_up() {
    let site = answering().await;
    let source = ask(&site, "van.bench/1 source 100\n").await;
    let sink = ask(&site, "van.bench/1 sink 100\n").await;
    // Nothing is left of a stream at the router, though its client still holds it.
    site.idle().await;
    drop((source, sink));
}

#[tokio::test]
async fn a_client_that_opens_too_many_is_told_to_wait() {
    let site = answering().await;
    let mut sources = Vec::new();
    for _ in 0..16 {
        let mut stream = ask(&site, "van.bench/1 source 5000\n").await;
        assert_eq!(line_of(&mut stream).await, "ok\n");
        sources.push(stream);
    }
    assert_eq!(all_of(ask(&site, "van.bench/1 sink 5000\n").await).await, "busy 1\n");
    let echo = "van.bench/1 echo 1\n";
    for _ in 16..256 {
        let mut stream = ask(&site, echo).await;
        assert_eq!(line_of(&mut stream).await, "ok\n", "bulk is not in the way of others");
        sources.push(stream);
    }
    let mut one_more = ask(&site, "").await;
    let broken = one_more.read(&mut [0; 16]).await.map_err(|error| error.kind());
    assert_eq!(broken, Err(ErrorKind::ConnectionReset));
    drop(sources);
    let served = async {
        let mut octets = [0; 3];
        loop {
            let mut stream = site.dialer.dial(&bench::address("alone")).await.expect("it answers");
            let asked = stream.write_all(echo.as_bytes()).await;
            if asked.is_ok() && stream.read_exact(&mut octets).await.is_ok() {
                break octets;
            }
        }
    };
    assert_eq!(&tokio::time::timeout(rig::PATIENCE, served).await.expect("they are gone"), b"ok\n");
}

#[tokio::test]
async fn a_responder_can_be_left_out_and_is_never_shown() {
    let site = answering().await;
    let _greeter = site.dialer.accept("greeter").await.expect("it runs");
    let keys: Vec<_> = site.router.entities().states().borrow().consumers.values().map(|it| it.key.clone()).collect();
    assert_eq!(keys, ["greeter"]);

    let text = json!([["router", {"id": "shy", "mode": "interior"}]]).to_string();
    let configuration = Configuration::parse(&text, |_| None).expect("a valid configuration");
    let options = Options { without_bench: true, ..Options::default() };
    let router = Router::start(configuration, &options).expect("a router starts");
    // What is asked for later is there first.
    let _greeter = router.dialer().accept("greeter").await.expect("it runs");
    assert!(router.routes().is_reachable("greeter") && !router.routes().is_reachable(&bench::address("shy")));
}

#[tokio::test]
async fn a_workload_of_a_user_is_connected_and_gets_no_octet() {
    let [mut west, east] = linked(&[], &[]);
    let mut incoming = east.dialer.accept("backend").await.expect("it runs");
    let workload = tokio::spawn(async move {
        let mut count = 0;
        let mut octets = Vec::new();
        while let Some(mut stream) = incoming.next().await {
            stream.read_to_end(&mut octets).await.expect("a clean end");
            count += 1;
        }
        (count, octets.len())
    });
    west.wait_reachable("backend", true).await;
    let single = probe(&west, |probe| probe.connects("backend", 1, rig::PATIENCE)).await.expect("it is there");
    let several = probe(&west, |probe| probe.connects("backend", 16, rig::PATIENCE)).await.expect("it is there");
    assert_eq!((single.samples.count(), single.failures), (200, 0));
    assert_eq!((several.samples.count(), several.failures), (1000, 0));
    let nobody = probe(&west, |probe| probe.connects("nobody", 1, rig::PATIENCE)).await;
    assert!(matches!(nobody, Err(ProbeError::Dial(_))), "{nobody:?}");
    for site in [&west, &east] {
        site.idle().await;
    }
    drop((west, east));
    assert_eq!(workload.await.expect("it does not panic"), (1200, 0));
}
