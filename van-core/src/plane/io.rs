//! What the data plane asks of the world: sockets, sealed connections and other shards. Synchronous and without waiting:
//! whoever cannot do a thing now says so, and calls the plane when it can.

use std::io::IoSlice;

use bytes::Bytes;

use super::crossing::Crossing;
use super::endpoint::LinkRequest;
use super::routes::{ConnectionId, ConnectorId, EndpointId, ShardId, SubscriberId};
use crate::amqp::Condition;
use crate::slab::Key;

/// The world around a [`Plane`](super::Plane).
///
/// Keys are the plane's own: of connections as [`Plane::add_connection`](super::Plane::add_connection) returned them, of
/// streams as [`Plane::add_client`](super::Plane::add_client) did or as [`Io::connect`] was given them.
pub trait Io {
    /// Octets that may be sent on a connection now; 0 until [`Plane::writable`](super::Plane::writable) is called.
    fn room(&self, connection: Key) -> usize;

    /// Sends octets, all of them, in order. Room may be overdrawn by what the protocol must say.
    fn send(&mut self, connection: Key, parts: &[&[u8]]);

    /// Ends a connection once what was sent has left.
    fn close_connection(&mut self, connection: Key);

    /// Reads from a stream's socket.
    fn read(&mut self, stream: Key, buffer: &mut [u8]) -> Read;

    /// Writes to a stream's socket.
    fn write(&mut self, stream: Key, parts: &[IoSlice<'_>]) -> Write;

    /// Ends the writing half of a stream's socket.
    fn shut_down(&mut self, stream: Key);

    /// Closes a stream's socket; with `reset` so that the other end sees an error and no clean end.
    fn close(&mut self, stream: Key, reset: bool);

    /// Connects a stream to a connector's workload; `alpn` is the protocol that the client agreed on, `flow` its connection.
    /// [`Plane::connected`](super::Plane::connected) or [`Plane::connect_failed`](super::Plane::connect_failed) follows,
    /// unless it is closed before.
    fn connect(&mut self, stream: Key, connector: ConnectorId, alpn: Option<&str>, flow: Option<ClientFlow>);

    /// A workload has answered a client's stream: from now on it is read and written.
    fn established(&mut self, stream: Key);

    /// Sends a message to another shard of this router, in order.
    fn post(&mut self, shard: ShardId, message: Crossing);

    /// Logs a line about a frame of a connection that is traced.
    fn trace(&mut self, connection: ConnectionId, line: &str) {
        let _ = (connection, line);
    }

    /// Tells the control plane.
    fn report(&mut self, report: Report);
}

/// The connection that a stream to a workload comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFlow {
    /// The VanFlow identity of the client's connection.
    pub identity: String,
    /// The routers it passed, as `0/<id>` with `|` between them; empty if the client is at this one.
    pub trace: String,
}

/// What came of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many octets, at least one.
    Octets(usize),
    /// None now; [`Plane::readable`](super::Plane::readable) will be called.
    Blocked,
    /// The workload has ended its direction.
    End,
    /// The connection is broken.
    Failed,
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// So many octets were taken, at least one.
    Octets(usize),
    /// None now; [`Plane::drained`](super::Plane::drained) will be called.
    Blocked,
    /// The connection is broken.
    Failed,
}

/// What the control plane hears from a shard.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// Both control links of a control connection are up: messages between routers can pass.
    ControlUp(ConnectionId),
    /// The peer has detached a control link: the connection is of no more use, unless it is superseded.
    ControlDown {
        /// The connection.
        connection: ConnectionId,
        /// Why.
        reason: Condition,
    },
    /// A message of the router protocol, whole.
    Control {
        /// The connection it came on.
        connection: ConnectionId,
        /// All its sections.
        message: Bytes,
    },
    /// A message for a subscriber, whole.
    Deliver {
        /// The connection it came on; none if it is of this process.
        connection: Option<ConnectionId>,
        /// Who gets it.
        subscriber: SubscriberId,
        /// Its sections behind the router annotations.
        message: Bytes,
    },
    /// A peer wants a link that the control plane is to decide on.
    LinkRequested(LinkRequest),
    /// A link that the control plane wanted is there.
    LinkAttached {
        /// As the control plane called it.
        label: u64,
        /// The link.
        endpoint: EndpointId,
    },
    /// A link that the control plane wanted was refused.
    LinkRefused {
        /// As the control plane called it.
        label: u64,
        /// Why, if the peer said.
        reason: Option<Condition>,
    },
    /// A link is gone, that of a peer or of ours, that was there.
    LinkLost {
        /// The link.
        endpoint: EndpointId,
        /// Why, if the peer said.
        reason: Option<Condition>,
    },
    /// A message on a link whose messages are for the control plane.
    LinkMessage {
        /// The link.
        endpoint: EndpointId,
        /// All its sections.
        message: Bytes,
    },
    /// A connection is gone.
    ConnectionLost {
        /// Which one.
        connection: ConnectionId,
        /// Why, in words for people; `None` if this router closed it.
        reason: Option<Condition>,
    },
}

impl Report {
    /// What the plane is to be told when the control plane has dealt with it: [`Plane::control_taken`](super::Plane::control_taken).
    pub fn taken(&self) -> Option<(ConnectionId, usize)> {
        match self {
            Self::Control { connection, message } | Self::Deliver { connection: Some(connection), message, .. } => {
                Some((*connection, message.len()))
            }
            Self::LinkMessage { endpoint, message } => Some((endpoint.at.id, message.len())),
            Self::LinkRequested(request) => Some((request.endpoint.at.id, LinkRequest::OCTETS)),
            _ => None,
        }
    }
}
