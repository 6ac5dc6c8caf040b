//! A wire that can be cut, and mended.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::site::Site;
use super::workload::Workload;

/// Whoever connects to its address is connected to a place.
#[derive(Debug)]
pub(crate) struct Wire {
    near: Workload,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    is_cut: bool,
    sockets: Vec<TcpStream>,
}

impl Wire {
    pub(crate) fn lay(site: &Site, to: SocketAddr) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let (of, by) = (Arc::clone(&state), site.clone());
        let near = Workload::start(site, move |near| {
            // Nobody is told when it breaks: both ends see their sockets end.
            let _ = join(&of, near, || by.connect(to));
        });
        Self { near, state }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.near.address()
    }

    /// Breaks every connection, and all that are made until it is mended.
    pub(crate) fn cut(&self) {
        let mut state = self.state.lock().expect("nobody panics with it");
        state.is_cut = true;
        for socket in state.sockets.drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn mend(&self) {
        self.state.lock().expect("nobody panics with it").is_cut = false;
    }
}

/// Carries octets both ways between two sockets until either ends.
fn join(state: &Mutex<State>, near: TcpStream, far: impl FnOnce() -> io::Result<TcpStream>) -> io::Result<()> {
    let far = {
        let mut state = state.lock().expect("nobody panics with it");
        if state.is_cut {
            return Ok(());
        }
        let far = far()?;
        state.sockets.extend([near.try_clone()?, far.try_clone()?]);
        far
    };
    thread::scope(|scope| {
        scope.spawn(|| carry(&near, &far));
        carry(&far, &near);
    });
    Ok(())
}

fn carry(mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    for socket in [from, to] {
        let _ = socket.shutdown(Shutdown::Both);
    }
}
