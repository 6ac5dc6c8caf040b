//! Makes the recordings: a skupper-router as a process, and real sockets between it and our router.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "talks to a real router, in real time")]

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::conversation::{Conversation, Entry, Scenario, What};

const LINK_PORT: u16 = 25_671;
const THEIR_LISTENER: u16 = 25_672;
const THEIR_WORKLOAD: u16 = 25_673;

/// How long a conversation is listened to, and one of VanFlow, in which ends of connections are told late.
const LENGTH: Duration = Duration::from_secs(12);
const FLOW_LENGTH: Duration = Duration::from_secs(26);

struct Skrouterd(Child);

impl Drop for Skrouterd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(skrouterd: &Path, scenario: Scenario) -> Skrouterd {
    let (mode, role) = match scenario {
        Scenario::WeDial | Scenario::TheyDial | Scenario::Flow => ("interior", "inter-router"),
        Scenario::OurEdge => ("interior", "edge"),
        Scenario::TheirEdge => ("edge", "edge"),
    };
    let end = if scenario.we_dial() { "listener" } else { "connector" };
    let mut link = json!({"name": "link", "host": "127.0.0.1", "port": LINK_PORT, "role": role});
    if scenario.we_dial() {
        link["authenticatePeer"] = false.into();
    }
    let configuration = json!([
        ["router", {"id": "theirs", "mode": mode, "dataConnectionCount": "1"}],
        [end, link],
        ["address", {"prefix": "mc", "distribution": "multicast"}],
        ["tcpListener", {"name": "clients", "host": "127.0.0.1", "port": THEIR_LISTENER, "address": "at-ours"}],
        ["tcpConnector", {"name": "workload", "host": "127.0.0.1", "port": THEIR_WORKLOAD, "address": "at-theirs"}],
    ]);
    let path = std::env::temp_dir().join("van-golden.json");
    std::fs::write(&path, configuration.to_string()).expect("a temporary folder");
    let child = Command::new(skrouterd).arg("-c").arg(path).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Skrouterd(child.expect("skrouterd starts"))
}

/// The link's connections, the control connection first.
fn connect(scenario: Scenario, listener: &TcpListener) -> Vec<TcpStream> {
    let connect = |_| if scenario.we_dial() { dial(LINK_PORT) } else { listener.accept().expect("they dial").0 };
    scenario.purposes().iter().map(connect).collect()
}

fn dial(port: u16) -> TcpStream {
    let end = Instant::now() + LENGTH;
    while Instant::now() < end {
        if let Ok(socket) = TcpStream::connect(("127.0.0.1", port)) {
            return socket;
        }
        std::thread::yield_now();
    }
    panic!("nobody listens on port {port}");
}

pub(crate) fn record(scenario: Scenario, skrouterd: &Path) -> Vec<Entry> {
    let workload = TcpListener::bind(("127.0.0.1", THEIR_WORKLOAD)).expect("a free port");
    std::thread::spawn(move || {
        let (mut client, _) = workload.accept().expect("a client");
        let mut request = Vec::new();
        client.read_to_end(&mut request).expect("a request");
        client.write_all(&request).expect("an answer");
    });
    // Without the one who dials there is nobody to accept; the port is then theirs.
    let port = if scenario.we_dial() { 0 } else { LINK_PORT };
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    let _skrouterd = start(skrouterd, scenario);
    let sockets = connect(scenario, &listener);
    sockets.iter().for_each(|socket| socket.set_nonblocking(true).expect("a socket"));
    // Shares of connections find us once they know all our addresses, which takes a router of theirs a second.
    let (length, settled) = match scenario {
        Scenario::Flow => (FLOW_LENGTH, FLOW_LENGTH / 4),
        _ => (LENGTH, Duration::ZERO),
    };
    let begun = Instant::now();
    let mut conversation = Conversation::new(scenario);
    let (mut written, mut their_client, mut has_client) = (0, None, false);
    while begun.elapsed() < length {
        for entry in &conversation.entries[written..] {
            if let What::Said(number, octets) = &entry.what {
                write_all(&sockets[*number], octets);
            }
        }
        written = conversation.entries.len();
        for (number, mut socket) in sockets.iter().enumerate() {
            let mut buffer = [0; 65_536];
            match socket.read(&mut buffer) {
                Ok(count) if count > 0 => conversation.hear(begun.elapsed(), number, &buffer[..count]),
                Ok(_) => panic!("they closed connection {number}"),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
        }
        conversation.tick_if_due(begun.elapsed());
        if begun.elapsed() > settled && conversation.is_reachable() && !std::mem::replace(&mut has_client, true) {
            conversation.connect_client(begun.elapsed());
        }
        if has_client && their_client.is_none() && begun.elapsed() > length / 2 {
            let mut client = dial(THEIR_LISTENER);
            client.write_all(b"a request of theirs").expect("they listen");
            client.shutdown(std::net::Shutdown::Write).expect("a socket");
            their_client = Some(client);
        }
    }
    conversation.check_done();
    conversation.entries
}

fn write_all(mut socket: &TcpStream, mut octets: &[u8]) {
    while !octets.is_empty() {
        match socket.write(octets) {
            Ok(count) => octets = &octets[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}
