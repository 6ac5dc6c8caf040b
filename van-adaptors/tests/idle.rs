//! What an idle connection costs in user space, counted at the allocator: the whole path through two routers, by mutual TLS.
//!
//! The clients and workloads here are sockets of std, which allocate nothing. With `VAN_HEAP_PROFILE=FILE` it is written
//! there where the memory was asked for, for <https://nnethercote.github.io/dh_view/dh_view.html>.

#[path = "dial/rig.rs"]
mod rig;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::json;

use self::rig::{PATIENCE, Site};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Octets that a connection may hold in both routers together.
///
/// The design allows 2,048 in each.
const IDLE_OCTETS: i64 = 2 * 2_048;

/// What may be left of a connection that has ended, in both routers together: its two AMQP links, which the next ones take, with
/// what is counted of them, and its places in tables.
const ENDED_OCTETS: i64 = 1_024;

/// What may be kept of the octets that a connection has carried: buffers of its AMQP connection, which all share.
const CARRIED_OCTETS: i64 = 512;

const MIB: usize = 1024 * 1024;

/// Two routers, a listener at one and a connector at the other.
struct Path {
    sites: [Site; 2],
    port: u16,
    workload: TcpListener,
    clients: Vec<TcpStream>,
    workloads: Vec<TcpStream>,
}

impl Path {
    async fn new(most: usize) -> Self {
        let workload = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let (port, behind) = (rig::free_port(), workload.local_addr().expect("it is bound").port());
        let listener = json!(["tcpListener", {"name": "in", "address": "echo", "host": "127.0.0.1", "port": port}]);
        let connector =
            json!(["tcpConnector", {"name": "out", "address": "echo", "host": "127.0.0.1", "port": behind}]);
        let mut sites = rig::linked_with(2, &[listener], &[connector]);
        sites[0].wait_reachable("echo", true).await;
        let places = || Vec::with_capacity(most);
        Self { sites, port, workload, clients: places(), workloads: places() }
    }

    /// Opens connections until there are so many; an octet goes through each and comes back.
    fn open(&mut self, count: usize) {
        while self.clients.len() < count {
            let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("the router listens");
            client.set_read_timeout(Some(PATIENCE)).expect("a socket");
            client.write_all(b"?").expect("the router reads");
            let (mut workload, _) = self.workload.accept().expect("the router connects");
            workload.set_read_timeout(Some(PATIENCE)).expect("a socket");
            workload.read_exact(&mut [0]).expect("an octet comes through");
            workload.write_all(b"!").expect("the router reads");
            client.read_exact(&mut [0]).expect("an octet comes back");
            self.clients.push(client);
            self.workloads.push(workload);
        }
    }

    /// Has each of the first connections carry so many octets each way.
    fn carry(&self, connections: usize, octets: usize) {
        let pass = |mut from: &TcpStream, mut to: &TcpStream| {
            let (sent, mut received) = (vec![7; octets], vec![0; octets]);
            std::thread::scope(|scope| {
                scope.spawn(|| from.write_all(&sent).expect("the router reads"));
                to.read_exact(&mut received).expect("all of it comes through");
            });
            assert!(sent == received);
        };
        for (client, workload) in self.clients.iter().zip(&self.workloads).take(connections) {
            pass(client, workload);
            pass(workload, client);
        }
    }

    /// The octets held when nothing is under way.
    async fn held(&self) -> i64 {
        let streams = || self.sites.iter().flat_map(|site| site.router.counters()).map(|it| it.streams).sum::<u64>();
        let mut least = i64::MAX;
        let mut rounds = 0;
        // Hellos and reports come and go: what is there always is the least of many looks.
        while rounds < 50 {
            tokio::time::sleep(Duration::from_millis(2)).await;
            let is_settled = streams() == 2 * self.clients.len() as u64;
            rounds += u32::from(is_settled);
            least = least.min(dhat::HeapStats::get().curr_bytes as i64);
        }
        least
    }
}

#[tokio::test]
async fn an_idle_connection_holds_two_kibibytes_in_each_router_and_gives_them_back() {
    // Tables double: both times those of each shard, of two links for each connection, are about as full as they get before
    // they do. Just after that it would be 300 octets more.
    let (few, many) = (400, 1_700);
    let profile = std::env::var_os("VAN_HEAP_PROFILE");
    let profiler = match &profile {
        Some(file) => dhat::Profiler::builder().file_name(file).build(),
        None => dhat::Profiler::builder().testing().build(),
    };
    let mut path = Path::new(many).await;
    let nothing = path.held().await;
    path.open(few);
    let with_few = path.held().await;
    path.open(many);
    let with_many = path.held().await;
    if profile.is_some() {
        return drop(profiler);
    }
    path.carry(200, MIB);
    let carried = path.held().await;
    path.clients.clear();
    path.workloads.clear();
    for site in &path.sites {
        site.idle().await;
    }
    let ended = path.held().await;

    let each = (with_many - with_few) / (many - few) as i64;
    let more = (carried - with_many) / 200;
    let left = (ended - nothing) / many as i64;
    println!(
        "octets in both routers: {each} each, {more} more after 1 MiB each way, {left} left of each when it has ended"
    );
    println!("nothing {nothing}, {few}: {with_few}, {many}: {with_many}, carried {carried}, ended {ended}");
    assert!(each <= IDLE_OCTETS, "{each} octets for an idle connection");
    assert!(more <= CARRIED_OCTETS, "{more} octets are kept of 1 MiB that a connection has carried");
    assert!(left <= ENDED_OCTETS, "{left} octets are left of a connection that has ended");
}
