//! What is at the end of a stream: a TCP connection, or one inside the process.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::dial::End;

/// A client's or a workload's connection.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
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
            Self::InProcess { end, .. } => end.poll_read(context, space),
        }
    }

    pub(super) fn poll_write(&mut self, context: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(socket) => Pin::new(socket).poll_write_vectored(context, parts),
            Self::InProcess { end, .. } => end.poll_write(context, parts),
        }
    }

    pub(super) fn shut_down(&mut self) {
        let _ = match self {
            Self::Tcp(socket) => SockRef::from(&*socket).shutdown(Shutdown::Write),
            Self::InProcess { end, .. } => end.shut_down(),
        };
    }

    /// Closes it so that the other end sees an error.
    pub(super) fn reset(self) {
        match self {
            // Closing with linger 0 sends a reset.
            Self::Tcp(socket) => drop(SockRef::from(&socket).set_linger(Some(Duration::ZERO))),
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
            Self::Tcp(_) => false,
            Self::InProcess { end, .. } => end.poll_broken(context).is_ready(),
        }
    }
}

impl From<TcpStream> for Socket {
    fn from(socket: TcpStream) -> Self {
        // It fails only where the connection is already broken, which reading will tell.
        let _ = socket.set_nodelay(true);
        Self::Tcp(socket)
    }
}

impl From<End> for Socket {
    fn from(end: End) -> Self {
        Self::InProcess { end, established: None }
    }
}
