//! Where processes run and sockets are made: this machine's own network, or network namespaces of the test's own.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Ports are given from here on, below those that Linux takes for outgoing connections (from 32768).
const FIRST_PORT: u32 = 12_000;

/// Ports are given up to here.
const PORTS: u32 = 20_000;

/// A network to be in, and the address by which programs in it reach each other.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    address: IpAddr,
    namespace: Option<Arc<Namespace>>,
}

impl Site {
    /// This machine.
    pub(crate) fn here() -> Self {
        Self { address: Ipv4Addr::LOCALHOST.into(), namespace: None }
    }

    pub(crate) fn in_namespace(namespace: &Arc<Namespace>, address: IpAddr) -> Self {
        Self { address, namespace: Some(Arc::clone(namespace)) }
    }

    /// Does something here: sockets and processes made by it stay here.
    pub(crate) fn within<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let Some(namespace) = &self.namespace else { return what() };
        // A thread of its own, for it cannot come back.
        let inside = thread::scope(|scope| {
            let enter_and_do = || {
                namespace.enter();
                what()
            };
            scope.spawn(enter_and_do).join()
        });
        inside.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The address with a port that nobody listens on, and that is not given again.
    pub(crate) fn free_address(&self) -> SocketAddr {
        self.listen().local_addr().expect("it is bound")
    }

    /// Opens a port here that is not given again.
    pub(crate) fn listen(&self) -> TcpListener {
        static GIVEN: AtomicU32 = AtomicU32::new(0);
        loop {
            // Test programs that run at the same time start at different places.
            let offset = std::process::id().wrapping_mul(61).wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
            let port = u16::try_from(FIRST_PORT + offset % PORTS).expect("the sum is below 65536");
            let address = SocketAddr::new(self.address, port);
            if let Ok(listener) = self.within(|| TcpListener::bind(address)) {
                return listener;
            }
        }
    }

    /// Whether something here listens on the port. Nothing connects to find out: a server that takes one client at a
    /// time would be busy with it.
    pub(crate) fn has_listener(&self, port: u16) -> bool {
        // Source: Linux, Documentation/networking/proc_net_tcp.rst; state 0A is LISTEN.
        let tables = self.within(|| {
            ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default())
        });
        let local = format!(":{port:04X}");
        tables.iter().flat_map(|table| table.lines()).any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().is_some_and(|address| address.ends_with(&local)) && fields.nth(1) == Some("0A")
        })
    }

    /// Connects from here.
    pub(crate) fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        self.within(|| TcpStream::connect(to))
    }
}

/// The sites of a listener, a transit and a connector.
#[derive(Debug)]
pub(crate) struct Sites {
    pub(crate) listener: Site,
    pub(crate) transit: Site,
    pub(crate) connector: Site,
    /// Where the transit accepts the links of the listener and of the connector: two ports.
    pub(crate) accesses: [SocketAddr; 2],
}

/// The transit's interface towards the listener.
const TRANSIT_INTERFACE: &str = "to-listener";

impl Sites {
    /// All three on this machine.
    pub(crate) fn here() -> Self {
        let site = Site::here();
        let accesses = [site.free_address(), site.free_address()];
        Self { listener: site.clone(), transit: site.clone(), connector: site, accesses }
    }

    /// Each in a network namespace of its own, the transit between the other two; or what stands in the way.
    pub(crate) fn in_namespaces() -> Result<Self, String> {
        let namespaces = [Namespace::make("a")?, Namespace::make("b")?, Namespace::make("c")?].map(Arc::new);
        let [a, b, c] = &namespaces;
        let to_a: [IpAddr; 2] = [[10, 77, 1, 1].into(), [10, 77, 1, 2].into()];
        let to_c: [IpAddr; 2] = [[10, 77, 2, 3].into(), [10, 77, 2, 2].into()];
        join([(a, "to-transit", to_a[0]), (b, TRANSIT_INTERFACE, to_a[1])])?;
        join([(c, "to-transit", to_c[0]), (b, "to-connector", to_c[1])])?;
        Ok(Self {
            listener: Site::in_namespace(a, to_a[0]),
            transit: Site::in_namespace(b, to_a[1]),
            connector: Site::in_namespace(c, to_c[0]),
            accesses: [SocketAddr::new(to_a[1], 5671), SocketAddr::new(to_c[1], 5672)],
        })
    }

    /// Cuts the wire between listener and transit, or mends it.
    pub(crate) fn set_connected(&self, is_connected: bool) {
        let namespace = self.transit.namespace.as_ref().expect("there are wires between namespaces only");
        let state = if is_connected { "up" } else { "down" };
        ip(&["-n", &namespace.name, "link", "set", TRANSIT_INTERFACE, state]).expect("an interface can be switched");
    }
}

/// A network namespace; removed when dropped.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one with a name that no other has.
    fn make(role: &str) -> Result<Self, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("van-{}-{}-{role}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name])?;
        let namespace = Self { name };
        ip(&["-n", &namespace.name, "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Moves the calling thread there, for good.
    fn enter(&self) {
        let file = File::open(format!("/run/netns/{}", self.name)).expect("`ip netns` keeps it there");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("who makes one may enter it");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "delete", &self.name]) {
            eprintln!("{error}");
        }
    }
}

/// Lays a wire between two namespaces: the name and address of its end in each.
fn join(ends: [(&Namespace, &str, IpAddr); 2]) -> Result<(), String> {
    let [(here, near, _), (there, far, _)] = ends;
    ip(&["link", "add", near, "netns", &here.name, "type", "veth", "peer", "name", far, "netns", &there.name])?;
    for (namespace, interface, address) in ends {
        ip(&["-n", &namespace.name, "address", "add", &format!("{address}/24"), "dev", interface])?;
        ip(&["-n", &namespace.name, "link", "set", interface, "up"])?;
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let program = super::program::find("ip")?;
    let done = Command::new(program).args(arguments).output().map_err(|error| format!("cannot run ip: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr).trim()))
}
