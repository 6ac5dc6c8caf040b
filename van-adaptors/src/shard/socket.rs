//! What is at the end of a stream: a TCP connection, with TLS or without, or one inside the process.

use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use van_tls::ServiceStream;

use crate::dial::End;

/// After so long a half-closed connection is asked for. Linux forgets the other end of one that was closed altogether after 60 s
/// (tcp_fin_timeout), and answers with a reset then.
const HALF_CLOSED_KEEPALIVE: Duration = Duration::from_secs(60);

/// A client's or a workload's connection.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Tls {
        stream: Box<ServiceStream<TcpStream>>,
        /// Our direction is at its end, as soon as what waits in the stream has left.
        is_ending: bool,
    },
    /// `established`: who dialled waits for this.
    InProcess {
        end: End,
        established: Option<oneshot::Sender<()>>,
    },
}

impl Socket {
    pub(super) fn poll_read(&mut self, context: &mut Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_read(context, space),
            Self::Tls { stream, .. } => Pin::new(stream).poll_read(context, space),
            Self::InProcess { end, .. } => end.poll_read(context, space),
        }
    }

    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_write_vectored(context, parts),
            Self::Tls { stream, .. } => Pin::new(stream).poll_write_vectored(context, parts),
            Self::InProcess { end, .. } => end.poll_write(context, parts),
        }
    }

    /// Has what was written leave this process, and then the end of our direction, if it is at its end.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tls { stream, is_ending: true } => Pin::new(stream).poll_shutdown(context),
            Self::Tls { stream, .. } => Pin::new(stream).poll_flush(context),
            Self::Tcp(_) | Self::InProcess { .. } => Poll::Ready(Ok(())),
        }
    }

    /// Ends our direction; with TLS, as [`Socket::poll_flush`] gets on.
    pub(super) fn shut_down(&mut self, context: &mut Context<'_>) {
        let _ = match self {
            Self::Tcp(socket) => SockRef::from(&*socket).shutdown(Shutdown::Write),
            Self::Tls { is_ending, .. } => {
                *is_ending = true;
                return drop(self.poll_flush(context));
            }
            Self::InProcess { end, .. } => end.shut_down(),
        };
    }

    /// Closes it so that the other end sees an error.
    pub(super) fn reset(self) {
        // Closing with linger 0 sends a reset.
        let reset = |socket: &TcpStream| drop(SockRef::from(socket).set_linger(Some(Duration::ZERO)));
        match self {
            Self::Tcp(socket) => reset(&socket),
            Self::Tls { stream, .. } => reset(stream.get_ref()),
            Self::InProcess { end, .. } => end.abort(),
        }
    }

    /// The workload has answered.
    pub(super) fn established(&mut self) {
        if let Self::InProcess { established, .. } = self
            && let Some(established) = established.take()
        {
            let _ = established.send(());
        }
    }

    /// Whether the other end has broken the connection, as far as that can be known without reading; else the waker is
    /// called when it does.
    pub(super) fn is_broken(&mut self, context: &Context<'_>) -> bool {
        match self {
            Self::Tcp(_) | Self::Tls { .. } => false,
            Self::InProcess { end, .. } => end.poll_broken(context).is_ready(),
        }
    }

    /// Of one that nobody reads any more: whether its other end has gone for good. From now on the system asks the other end
    /// whether it is there, if nothing goes over it for a while.
    pub(super) fn has_failed(&self) -> bool {
        let socket = match self {
            Self::Tcp(socket) => SockRef::from(socket),
            Self::Tls { stream, .. } => SockRef::from(stream.get_ref()),
            Self::InProcess { .. } => return false,
        };
        let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(HALF_CLOSED_KEEPALIVE));
        // SO_ERROR would also tell of what TCP gets over, as a router that was away for a moment.
        let mut polled = [PollFd::new(&*socket, PollFlags::empty())];
        poll(&mut polled, Some(&Timespec::default())).is_ok() && polled[0].revents().contains(PollFlags::ERR)
    }

    /// Whether what goes over it is encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self, Self::Tls { .. })
    }

    /// Its own address, if it has one.
    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr().ok(),
            Self::Tls { stream, .. } => stream.get_ref().local_addr().ok(),
            Self::InProcess { .. } => None,
        }
    }

    /// The other end's address.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.peer_addr().ok(),
            Self::Tls { stream, .. } => stream.get_ref().peer_addr().ok(),
            Self::InProcess { .. } => None,
        }
    }
}

impl From<TcpStream> for Socket {
    fn from(socket: TcpStream) -> Self {
        Self::Tcp(socket)
    }
}

impl From<ServiceStream<TcpStream>> for Socket {
    fn from(stream: ServiceStream<TcpStream>) -> Self {
        Self::Tls { stream: stream.into(), is_ending: false }
    }
}

impl From<End> for Socket {
    fn from(end: End) -> Self {
        Self::InProcess { end, established: None }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn an_end_that_has_gone_after_its_last_word_is_told_from_one_that_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let client = std::net::TcpStream::connect(address).expect("it listens");
        let (mut server, _) = listener.accept().await.expect("it was connected");
        client.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(server.read(&mut [0]).await.expect("an end"), 0);
        let server = Socket::Tcp(server);
        assert!(!server.has_failed());
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("it is open");
        drop(client);
        // On loopback the reset is there when the client is gone.
        assert!(server.has_failed());
    }
}
