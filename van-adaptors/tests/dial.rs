//! Clients and workloads in the routers' process: alone, over a link, and at the other end of those that have sockets.

#[path = "dial/rig.rs"]
mod rig;

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use van_adaptors::{AcceptError, DialError, Stream};

use rig::{PATIENCE, Site, alone, echo, everywhere, free_port, linked, receive, send};

/// Longer than anything takes that moves at all.
const STANDSTILL: Duration = Duration::from_millis(500);

/// Octets that may be under way of one stream: its window, what the router reads at once, and the buffers at its ends.
const MOST_UNDER_WAY: usize = 1_042_432 + 65_536 + 2 * 131_072;

fn error_of<T>(outcome: io::Result<T>) -> Option<io::ErrorKind> {
    outcome.err().map(|error| error.kind())
}

#[tokio::test]
async fn a_stream_passes_both_ways_and_half_closes() {
    for mut sites in everywhere() {
        let mut incoming = sites.last().expect("there is one").dialer.accept("greeter").await.expect("it runs");
        sites[0].wait_reachable("greeter", true).await;
        let (mut client, mut server) = sites[0].join("greeter", &mut incoming).await;
        let mut heard = Vec::new();
        client.write_all(b"who is there?").await.expect("it is open");
        client.shutdown().await.expect("it is open");
        server.read_to_end(&mut heard).await.expect("a clean end");
        assert_eq!(heard, b"who is there?");
        server.write_all(b"east").await.expect("the other direction is open");
        server.shutdown().await.expect("the other direction is open");
        heard.clear();
        client.read_to_end(&mut heard).await.expect("a clean end");
        assert_eq!(heard, b"east");
        assert_eq!(error_of(client.write_all(b"more").await), Some(io::ErrorKind::BrokenPipe));
        for site in &sites {
            site.idle().await;
        }
    }
}

#[tokio::test]
async fn a_workload_may_speak_first_and_leave() {
    for mut sites in everywhere() {
        let mut incoming = sites.last().expect("there is one").dialer.accept("greeter").await.expect("it runs");
        sites[0].wait_reachable("greeter", true).await;
        let (mut client, mut server) = sites[0].join("greeter", &mut incoming).await;
        server.write_all(b"hello").await.expect("it is open");
        server.shutdown().await.expect("it is open");
        drop(server);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.expect("a clean end");
        assert_eq!(heard, b"hello");
        client.shutdown().await.expect("the other direction is open");
        for site in &sites {
            site.idle().await;
        }
    }
}

#[tokio::test]
async fn an_end_that_is_dropped_unfinished_is_a_reset_at_the_other() {
    for mut sites in everywhere() {
        let mut incoming = sites.last().expect("there is one").dialer.accept("fragile").await.expect("it runs");
        sites[0].wait_reachable("fragile", true).await;
        for is_client_dropped in [true, false] {
            let (mut client, mut server) = sites[0].join("fragile", &mut incoming).await;
            client.write_all(b"so far").await.expect("it is open");
            server.read_exact(&mut [0; 6]).await.expect("it is open");
            let (dropped, mut left) = if is_client_dropped { (client, server) } else { (server, client) };
            drop(dropped);
            assert_eq!(error_of(left.read(&mut [0; 16]).await), Some(io::ErrorKind::ConnectionReset));
            assert_eq!(error_of(left.write(b"more").await), Some(io::ErrorKind::ConnectionReset));
            assert_eq!(error_of(left.shutdown().await), Some(io::ErrorKind::ConnectionReset));
        }
        for site in &sites {
            site.idle().await;
        }
    }
}

#[tokio::test]
async fn a_drop_is_noticed_although_nothing_can_be_written() {
    for mut sites in everywhere() {
        let mut incoming = sites.last().expect("there is one").dialer.accept("full").await.expect("it runs");
        sites[0].wait_reachable("full", true).await;
        let (mut client, mut server) = sites[0].join("full", &mut incoming).await;
        let octets = vec![0; 8 << 20];
        timeout(STANDSTILL, client.write_all(&octets)).await.expect_err("nobody reads");
        drop(client);
        let error = timeout(PATIENCE, server.read_to_end(&mut Vec::new())).await.expect("it ends");
        assert_eq!(error_of(error), Some(io::ErrorKind::ConnectionReset));
        for site in &sites {
            site.idle().await;
        }
    }
}

#[tokio::test]
async fn what_comes_to_an_end_that_has_left_breaks_the_stream() {
    for mut sites in everywhere() {
        let mut incoming = sites.last().expect("there is one").dialer.accept("deaf").await.expect("it runs");
        sites[0].wait_reachable("deaf", true).await;
        let (mut client, mut server) = sites[0].join("deaf", &mut incoming).await;
        server.shutdown().await.expect("it is open");
        drop(server);
        let octets = vec![0; 8 << 20];
        let error = timeout(PATIENCE, client.write_all(&octets)).await.expect("it ends");
        assert_eq!(error_of(error), Some(io::ErrorKind::ConnectionReset));
        for site in &sites {
            site.idle().await;
        }
    }
}

#[tokio::test]
async fn without_a_consumer_nothing_is_dialled() {
    let site = alone(&[]);
    let unreachable = DialError::Unreachable { key: "nobody".into() };
    assert_eq!(site.dialer.dial("nobody").await.err(), Some(unreachable.clone()));
    let incoming = site.dialer.accept("nobody").await.expect("it runs");
    drop(incoming);
    let outcome = loop {
        match site.dialer.dial("nobody").await {
            // Withdrawn, and the picture of the network not yet changed.
            Err(DialError::Refused { .. }) => tokio::task::yield_now().await,
            outcome => break outcome,
        }
    };
    assert_eq!(outcome.err(), Some(unreachable));
}

#[tokio::test]
async fn a_workload_that_is_not_there_refuses() {
    // Bound and not listening: nobody else gets the port.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
    let port = socket.local_addr().expect("it is bound").port();
    let connector = json!(["tcpConnector", {"name": "gone", "host": "127.0.0.1", "port": port, "address": "gone"}]);
    let [mut west, east] = linked(&[], &[connector]);
    west.wait_reachable("gone", true).await;
    for site in [&west, &east] {
        assert_eq!(site.dialer.dial("gone").await.err(), Some(DialError::Refused { key: "gone".into() }));
        site.idle().await;
    }
}

#[tokio::test]
async fn when_one_consumer_is_full_the_next_is_offered_the_stream() {
    let site = alone(&[]);
    let idle = site.dialer.accept("queue").await.expect("it runs");
    let mut waiting = Vec::new();
    let refused = loop {
        match site.dialer.dial("queue").await {
            Ok(stream) => waiting.push(stream),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, DialError::Refused { key: "queue".into() });
    let mut second = site.dialer.accept("queue").await.expect("it runs");
    for _ in 0..10 {
        drop(site.join("queue", &mut second).await);
    }
    drop(idle);
    let mut first = waiting.pop().expect("there was room for some");
    assert_eq!(error_of(first.read(&mut [0; 16]).await), Some(io::ErrorKind::ConnectionReset));
    drop((first, waiting));
    site.idle().await;
}

#[tokio::test]
async fn a_workload_that_goes_takes_no_more_and_keeps_what_it_has() {
    let [mut west, east] = linked(&[], &[]);
    let mut incoming = east.dialer.accept("passing").await.expect("it runs");
    west.wait_reachable("passing", true).await;
    let (mut client, mut server) = west.join("passing", &mut incoming).await;
    drop(incoming);
    west.wait_reachable("passing", false).await;
    assert_eq!(west.dialer.dial("passing").await.err(), Some(DialError::Unreachable { key: "passing".into() }));
    client.write_all(b"still").await.expect("it lives on");
    server.read_exact(&mut [0; 5]).await.expect("it lives on");
    // And with its router, it is gone altogether.
    drop(east);
    assert_eq!(error_of(client.read(&mut [0; 16]).await), Some(io::ErrorKind::ConnectionReset));
    assert_eq!(error_of(server.read(&mut [0; 16]).await), Some(io::ErrorKind::ConnectionReset));
    west.idle().await;
}

#[tokio::test]
async fn a_dial_that_is_given_up_leaves_nothing() {
    let [mut west, east] = linked(&[], &[]);
    let mut incoming = east.dialer.accept("slow").await.expect("it runs");
    west.wait_reachable("slow", true).await;
    for _ in 0..100 {
        tokio::select! {
            biased;
            _ = west.dialer.dial("slow") => {}
            () = std::future::ready(()) => {}
        }
    }
    west.idle().await;
    east.idle().await;
    // What was offered before it was given up is over, in one way or another.
    while let Ok(Some(mut stream)) = timeout(STANDSTILL, incoming.next()).await {
        let _ = timeout(PATIENCE, stream.read(&mut [0; 16])).await.expect("it is over");
    }
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_writer() {
    for mut sites in everywhere() {
        let mut incoming = sites.last().expect("there is one").dialer.accept("slow").await.expect("it runs");
        sites[0].wait_reachable("slow", true).await;
        let (client, server) = sites[0].join("slow", &mut incoming).await;
        let (from_server, to_server) = tokio::io::split(client);
        let (from_client, to_client) = tokio::io::split(server);
        for (mut writer, mut reader) in [(to_server, from_client), (to_client, from_server)] {
            let mut taken = 0;
            while let Ok(count) = timeout(STANDSTILL, writer.write(&[7; 40_000])).await {
                taken += count.expect("it is open");
                assert!(taken <= MOST_UNDER_WAY, "{taken} octets are under way");
            }
            let rest = tokio::spawn(async move {
                writer.write_all(&[7; 40_000]).await?;
                writer.shutdown().await
            });
            let mut came = Vec::new();
            reader.read_to_end(&mut came).await.expect("a clean end");
            assert_eq!(came.len(), taken + 40_000);
            rest.await.expect("no panic").expect("it was open");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_octets_come_as_they_were_sent_both_ways_at_once() {
    const LENGTH: usize = 24_000_000;
    for mut sites in everywhere() {
        let mut incoming = sites.last().expect("there is one").dialer.accept("bulk").await.expect("it runs");
        sites[0].wait_reachable("bulk", true).await;
        let (client, server) = sites[0].join("bulk", &mut incoming).await;
        let (from_server, to_server) = tokio::io::split(client);
        let (from_client, to_client) = tokio::io::split(server);
        let sent =
            tokio::spawn(async move { tokio::try_join!(send(to_server, 1, LENGTH), send(to_client, 2, LENGTH)) });
        tokio::join!(receive(from_client, 1, LENGTH), receive(from_server, 2, LENGTH));
        sent.await.expect("no panic").expect("all was taken");
        for site in &sites {
            site.idle().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_short_streams_leave_nothing() {
    for mut sites in everywhere() {
        let incoming = sites.last().expect("there is one").dialer.accept("echo").await.expect("it runs");
        sites[0].wait_reachable("echo", true).await;
        tokio::spawn(echo(incoming));
        let mut clients = JoinSet::new();
        for number in 0..50_u64 {
            let dialer = sites[0].dialer.clone();
            clients.spawn(async move {
                for turn in 0..100 {
                    let mut stream = dialer.dial("echo").await.expect("taken");
                    let said = (number * 1000 + turn).to_le_bytes();
                    stream.write_all(&said).await.expect("it is open");
                    stream.shutdown().await.expect("it is open");
                    let mut heard = Vec::new();
                    stream.read_to_end(&mut heard).await.expect("a clean end");
                    assert_eq!(heard, said);
                }
            });
        }
        clients.join_all().await;
        for site in &sites {
            site.idle().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_at_once_are_whole() {
    for mut sites in everywhere() {
        let incoming = sites.last().expect("there is one").dialer.accept("echo").await.expect("it runs");
        sites[0].wait_reachable("echo", true).await;
        tokio::spawn(echo(incoming));
        let mut streams = Vec::new();
        for _ in 0..300 {
            streams.push(sites[0].dialer.dial("echo").await.expect("taken"));
        }
        let mut clients = JoinSet::new();
        for (seed, stream) in streams.into_iter().enumerate() {
            clients.spawn(async move {
                let (reader, writer) = tokio::io::split(stream);
                let (sent, ()) =
                    tokio::join!(send(writer, seed as u64, 200_000), receive(reader, seed as u64, 200_000));
                sent.expect("all was taken");
            });
        }
        clients.join_all().await;
        for site in &sites {
            site.idle().await;
        }
    }
}

#[tokio::test]
async fn a_client_with_a_socket_reaches_a_workload_in_the_process() {
    let port = free_port();
    let [mut west, east] =
        linked(&[json!(["tcpListener", {"name": "in", "host": "127.0.0.1", "port": port, "address": "inside"}])], &[]);
    let mut incoming = east.dialer.accept("inside").await.expect("it runs");
    west.wait_reachable("inside", true).await;
    let connect = async {
        loop {
            // The port opens a moment after its routing key has become reachable.
            if let Ok(client) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                return client;
            }
        }
    };
    let mut client = timeout(PATIENCE, connect).await.expect("the listener opens");
    let server = incoming.next().await.expect("the router runs");
    let (from_server, to_server) = client.split();
    let (from_client, to_client) = tokio::io::split(server);
    let (sent, answered, (), ()) = tokio::join!(
        send(to_server, 3, 5_000_000),
        send(to_client, 4, 5_000_000),
        receive(from_client, 3, 5_000_000),
        receive(from_server, 4, 5_000_000),
    );
    sent.and(answered).expect("all was taken");
    east.idle().await;
}

#[tokio::test]
async fn a_client_in_the_process_reaches_a_workload_with_a_socket() {
    let workload = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = workload.local_addr().expect("it is bound").port();
    let connector = json!(["tcpConnector", {"name": "out", "host": "127.0.0.1", "port": port, "address": "outside"}]);
    let [mut west, east] = linked(&[], &[connector]);
    west.wait_reachable("outside", true).await;
    for site in [&west, &east] {
        let (client, accepted) = tokio::join!(site.dialer.dial("outside"), workload.accept());
        let (mut server, _) = accepted.expect("the router connects");
        let (from_server, to_server) = tokio::io::split(client.expect("taken"));
        let (from_client, to_client) = server.split();
        let (sent, answered, (), ()) = tokio::join!(
            send(to_server, 5, 5_000_000),
            send(to_client, 6, 5_000_000),
            receive(from_client, 5, 5_000_000),
            receive(from_server, 6, 5_000_000),
        );
        sent.and(answered).expect("all was taken");
        // A workload that breaks off.
        let (client, accepted) = tokio::join!(site.dialer.dial("outside"), workload.accept());
        let (server, _) = accepted.expect("the router connects");
        server.set_zero_linger().expect("a socket option");
        drop(server);
        let outcome = client.expect("taken").read(&mut [0; 16]).await;
        assert_eq!(error_of(outcome), Some(io::ErrorKind::ConnectionReset));
    }
}

#[tokio::test]
async fn streams_are_spread_over_the_consumers_of_all_routers() {
    let [mut west, east] = linked(&[], &[]);
    let mut at_west = west.dialer.accept("pool").await.expect("it runs");
    let mut at_east = east.dialer.accept("pool").await.expect("it runs");
    let consumers = |site: &Site| {
        site.router.routes().addresses.get("pool").map_or(0, |them| them.connectors.len() + them.owners.len())
    };
    while consumers(&west) < 2 {
        west.router.routes_changed().await;
    }
    let mut taken = [Vec::<Stream>::new(), Vec::new()];
    let mut clients = Vec::new();
    while taken.iter().any(|streams| streams.len() < 20) {
        clients.push(west.dialer.dial("pool").await.expect("taken"));
        tokio::select! {
            stream = at_west.next() => taken[0].push(stream.expect("the router runs")),
            stream = at_east.next() => taken[1].push(stream.expect("the router runs")),
        }
    }
    assert!(clients.len() < 60, "evenly, but for the cost of the link: {} streams", clients.len());
}

#[tokio::test]
async fn a_router_that_stops_lets_streams_end() {
    let [mut west, east] = linked(&[], &[]);
    let mut incoming = east.dialer.accept("last").await.expect("it runs");
    west.wait_reachable("last", true).await;
    let (mut client, mut server) = west.join("last", &mut incoming).await;
    let dialer = west.dialer.clone();
    let mut own = dialer.accept("own").await.expect("it runs");
    let stopping = tokio::spawn(west.router.shutdown(PATIENCE));
    while dialer.accept("late").await.is_ok() {}
    assert_eq!(dialer.accept("late").await.err(), Some(AcceptError::Stopped));
    assert_eq!(dialer.dial("last").await.err(), Some(DialError::Stopped));
    server.write_all(b"bye").await.expect("it lives on");
    server.shutdown().await.expect("it lives on");
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.expect("a clean end");
    assert_eq!(heard, b"bye");
    assert!(!stopping.is_finished(), "half of the stream is open");
    client.shutdown().await.expect("it lives on");
    timeout(PATIENCE / 2, stopping).await.expect("well before the deadline").expect("no panic");
    assert!(own.next().await.is_none());
    east.idle().await;
}

#[tokio::test]
async fn a_router_that_ends_resets_streams() {
    let site = alone(&[]);
    let mut incoming = site.dialer.accept("last").await.expect("it runs");
    let (mut client, mut server) = site.join("last", &mut incoming).await;
    let dialer = site.dialer.clone();
    site.router.shutdown(Duration::ZERO).await;
    assert_eq!(error_of(client.read(&mut [0; 16]).await), Some(io::ErrorKind::ConnectionReset));
    assert_eq!(error_of(server.write(b"more").await), Some(io::ErrorKind::ConnectionReset));
    assert_eq!(dialer.dial("last").await.err(), Some(DialError::Stopped));
    assert!(incoming.next().await.is_none());
}
