//! Servers inside the test.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use super::site::Site;

/// A TCP server; stops accepting when dropped. Connections it has run on until they end.
#[derive(Debug)]
pub(crate) struct Workload {
    address: SocketAddr,
    socket: TcpListener,
    accepting: Option<JoinHandle<()>>,
}

impl Workload {
    /// Serves each connection on a thread of its own.
    pub(crate) fn start(site: &Site, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let socket = site.listen();
        let address = socket.local_addr().expect("it listens");
        let accepting = {
            let (socket, serve) = (socket.try_clone().expect("descriptors are left"), Arc::new(serve));
            thread::spawn(move || {
                while let Ok((stream, _)) = socket.accept() {
                    let serve = Arc::clone(&serve);
                    thread::spawn(move || serve(stream));
                }
            })
        };
        Self { address, socket, accepting: Some(accepting) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        // Wakes the thread that waits for connections.
        let _ = SockRef::from(&self.socket).shutdown(Shutdown::Both);
        let _ = self.accepting.take().map(JoinHandle::join);
    }
}

/// Gives back what comes, as it comes.
pub(crate) fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// Ends a connection with a reset instead of an orderly end.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket can linger");
}

/// Whether an error is the reset of a connection.
pub(crate) fn is_reset(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionReset
}
