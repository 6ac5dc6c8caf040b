//! The end of a TCP connection at this router: a socket and its two directions.

use std::sync::Arc;

use bytes::Bytes;

use super::attachment::{Attachment, Flow, Inlet, Offer, Outlet};
use super::crossing::Destination;
use super::routes::ShardId;
use super::window::{Reports, SendWindow};
use super::{Io, Plane};
use crate::amqp::DeliveryState;
use crate::annotations::{DISABLE_Q2, RESEND_RELEASED, STREAMING};
use crate::encapsulation::{self, ClientStream, FIRST_WINDOW_OCTETS, Features};
use crate::slab::Key;

/// A client's or a workload's connection.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) side: Side,
    /// The direction that reads the socket.
    pub(super) up: Option<Key>,
    /// The direction that writes it.
    pub(super) down: Option<Key>,
    /// What both ends of the stream can do.
    pub(super) features: Features,
    pub(super) is_read_done: bool,
    pub(super) is_write_done: bool,
    /// The window that the other end was promised, as long as there is no direction that could count it.
    pub(super) promised: Option<u32>,
}

/// What is known of a client before its stream is offered to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The routing key.
    pub key: Arc<str>,
    /// The protocol it agreed on by ALPN.
    pub alpn: Option<Arc<str>>,
    /// The VanFlow identity of its connection, which the other end is told.
    pub flow: Option<Arc<str>>,
}

impl From<Arc<str>> for Client {
    fn from(key: Arc<str>) -> Self {
        Self { key, alpn: None, flow: None }
    }
}

impl From<&str> for Client {
    fn from(key: &str) -> Self {
        Arc::<str>::from(key).into()
    }
}

/// Who is behind the socket.
#[derive(Debug)]
pub(super) enum Side {
    /// A client of a routing key. `salt` is in the reply address, so that a late answer to an earlier stream is not taken
    /// for this one's.
    Client { client: Client, salt: u32 },
    /// A workload, and what it takes to answer the client stream.
    Server { answer: Option<Box<Answer>> },
}

/// Where a server stream goes.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) reply_to: String,
    /// What the listener's end can do.
    pub(super) offered: Features,
    /// It has passed one router at most, so the peer of its connection is the only one between the ends.
    pub(super) is_near: bool,
    /// The connection the client stream came on.
    pub(super) connection: Option<Key>,
}

impl Stream {
    pub(super) fn new(side: Side) -> Self {
        let features = Features::default();
        Self { side, up: None, down: None, features, is_read_done: false, is_write_done: false, promised: None }
    }
}

/// A reply address: `temp.` and 15 characters that say shard, stream and salt. Resolved without a table.
///
/// skupper-router's own are as long and from the same alphabet, but random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyName {
    pub(super) shard: ShardId,
    pub(super) stream: Key,
    pub(super) salt: u32,
}

const PREFIX: &str = "temp.";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+_";

/// 15 characters of 6 bits: 64 of the stream's key, 10 of the shard, 16 of the salt.
const CHARACTERS: usize = 15;
const SHARD_BITS: u32 = 10;
const SALT_BITS: u32 = 16;

/// The bit of the salt that tells names of links from those of streams.
const LINK_BIT: u32 = 1 << (SALT_BITS - 1);

/// The highest number of shards a reply name can tell apart.
pub const MAX_SHARDS: u16 = 1 << SHARD_BITS;

impl ReplyName {
    /// What of a salt counts.
    pub(super) const SALT: u32 = LINK_BIT - 1;

    /// The name of a stream's client.
    pub(super) fn stream(shard: ShardId, stream: Key, salt: u32) -> Self {
        Self { shard, stream, salt: salt & Self::SALT }
    }

    /// The name of a link: `place` is where its shard remembers it.
    pub(super) fn link(shard: ShardId, place: Key, salt: u32) -> Self {
        Self { shard, stream: place, salt: salt & Self::SALT | LINK_BIT }
    }

    /// Whether it names a link, and no stream.
    pub(super) fn is_link(self) -> bool {
        self.salt & LINK_BIT != 0
    }

    pub(super) fn to_text(self) -> String {
        let salt = u128::from(self.salt) & ((1 << SALT_BITS) - 1);
        let mut bits = u128::from(self.stream.to_bits()) << (SHARD_BITS + SALT_BITS);
        bits |= u128::from(self.shard.0) << SALT_BITS | salt;
        let character = |place: usize| char::from(ALPHABET[(bits >> (6 * place) & 63) as usize]);
        PREFIX.chars().chain((0..CHARACTERS).map(character)).collect()
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        let text = name.strip_prefix(PREFIX).filter(|text| text.len() == CHARACTERS)?;
        let bits = text.bytes().rev().try_fold(0_u128, |bits, character| {
            let digit = ALPHABET.iter().position(|known| *known == character)?;
            Some(bits << 6 | digit as u128)
        })?;
        let shard = (bits >> SALT_BITS) as u16 & (MAX_SHARDS - 1);
        let stream = Key::from_bits((bits >> (SHARD_BITS + SALT_BITS)) as u64);
        Some(Self { shard: ShardId(shard), stream, salt: bits as u32 & ((1 << SALT_BITS) - 1) })
    }
}

impl Plane {
    /// Looks for a consumer for a new client.
    pub(super) fn offer_client_stream(&mut self, io: &mut impl Io, stream: Key) {
        let Some(Stream { side: Side::Client { client, salt }, .. }) = self.streams.get(stream) else { return };
        let name = ReplyName::stream(self.shard, stream, *salt);
        let reply_to = self.routes.own_address(&name.to_text());
        let mut octets = Vec::with_capacity(256);
        let (alpn, flow) = (client.alpn.as_deref(), client.flow.as_deref());
        let said = ClientStream { key: &client.key, reply_to: &reply_to, alpn, flow };
        let first_window = self.memory.first_window();
        encapsulation::write_client_stream(said, Features::OURS.granting(first_window), &mut octets);
        self.stream_mut(stream).promised = Some(first_window);
        self.memory.change(0, first_window as usize);
        self.memory.count_stream(true);
        let up = self.add_reader(stream);
        let flags = STREAMING | RESEND_RELEASED | DISABLE_Q2;
        self.make_offer(io, up, Offer { octets, flags, is_stream: true, ..Offer::default() });
    }

    /// The direction that reads a stream's socket.
    fn add_reader(&mut self, stream: Key) -> Key {
        let mut up = Attachment::new(Inlet::Socket(stream), Outlet::Undecided, Flow::Sending(SendWindow::new()));
        up.is_inlet_settled = true;
        let up = self.attachments.insert(up);
        self.stream_mut(stream).up = Some(up);
        up
    }

    /// From now on a direction writes a socket, and reports; if both ends can, it grants the window.
    fn receive(&mut self, key: Key, features: Features, first_window: u32) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        attachment.flow = Flow::Receiving(match features.window {
            Some(_) => Reports::granting(first_window),
            None => Reports::fixed(features.acks),
        });
        if features.window.is_some() {
            self.memory.count_stream(true);
        }
        self.charge(key);
    }

    fn make_offer(&mut self, io: &mut impl Io, key: Key, offer: Offer) {
        if let Some(attachment) = self.attachments.get_mut(key) {
            attachment.message = Some(offer.into());
            self.route(io, key);
        }
    }

    pub(super) fn go_to_client(
        &mut self,
        io: &mut impl Io,
        key: Key,
        name: ReplyName,
        features: Features,
        rest: Bytes,
    ) {
        if name.shard == self.shard {
            return self.bind_server_stream(io, key, name.stream, name.salt, features, &rest);
        }
        if name.shard.0 >= self.routes.shards {
            return self.refuse(io, key, DeliveryState::Released);
        }
        let destination = Destination::Stream { stream: name.stream, salt: name.salt, features };
        self.cross_over(io, key, name.shard, destination, rest);
    }

    /// Joins a server stream to the client that waits for it. From now on the client is read.
    pub(super) fn bind_server_stream(
        &mut self,
        io: &mut impl Io,
        key: Key,
        stream: Key,
        salt: u32,
        features: Features,
        rest: &[u8],
    ) {
        let waiting = self.streams.get_mut(stream).filter(|stream| {
            stream.down.is_none() && matches!(stream.side, Side::Client { salt: own, .. } if own == salt)
        });
        let Some(waiting) = waiting else { return self.refuse(io, key, DeliveryState::Released) };
        waiting.down = Some(key);
        waiting.features = features;
        let up = waiting.up;
        let promised = self.take_promise(stream);
        if let Some(attachment) = self.attachments.get_mut(key) {
            attachment.outlet = Outlet::Socket(stream);
            attachment.message = None;
        }
        self.receive(key, features, promised.unwrap_or(FIRST_WINDOW_OCTETS));
        io.established(stream);
        if let Some(up) = up {
            if let (Some(first), Some(attachment)) = (features.window, self.attachments.get_mut(up))
                && let Flow::Sending(window) | Flow::Crossing { window } = &mut attachment.flow
            {
                window.follow(first);
            }
            self.start(io, up);
        }
        self.push(io, key, &[rest]);
        self.advance(io, key);
    }

    /// A client's direction has found its workload: nobody else is offered it, and all of it goes there.
    fn start(&mut self, io: &mut impl Io, key: Key) {
        let Some(attachment) = self.attachments.get_mut(key) else { return };
        let offer = attachment.message.take();
        if let Some(offer) = offer.filter(|offer| !offer.goes_early && !offer.early.is_empty()) {
            if let Flow::Sending(window) | Flow::Crossing { window } = &mut attachment.flow {
                window.count(offer.early.len());
            }
            self.push(io, key, &[&offer.early]);
        }
        self.charge(key);
        self.advance(io, key);
    }

    /// The workload of a stream is there: what waited for it goes, and its own direction starts.
    pub(super) fn workload_connected(&mut self, io: &mut impl Io, stream: Key) {
        let Some(server) = self.streams.get_mut(stream) else { return };
        let Side::Server { answer } = &mut server.side else { return };
        let answer = answer.take();
        let Some(down) = server.down else { return };
        let Some(attachment) = self.attachments.get_mut(down) else { return };
        attachment.outlet = Outlet::Socket(stream);
        match (answer, attachment.inlet) {
            (Some(answer), _) => {
                let features = answer.offered.common(Features::OURS);
                server.features = features;
                let first_window = self.memory.first_window();
                self.receive(down, features, first_window);
                self.answer_client_stream(io, stream, *answer, first_window);
            }
            (None, Inlet::Socket(client)) => {
                attachment.flow = Flow::Passing;
                server.features = Features::OURS;
                self.join(io, client, stream);
            }
            (None, _) => {}
        }
        self.start(io, down);
        if let Some(up) = self.streams.get(stream).and_then(|stream| stream.up) {
            self.advance(io, up);
        }
    }

    /// Opens the server stream.
    fn answer_client_stream(&mut self, io: &mut impl Io, stream: Key, answer: Answer, first_window: u32) {
        let mut octets = Vec::with_capacity(256);
        let is_own = answer.offered != Features::default();
        let features = answer.offered.common(Features::OURS);
        let window = features.window.map(|_| first_window);
        let ours = Features { window, ..Features::OURS };
        encapsulation::write_server_stream(&answer.reply_to, is_own.then_some(ours), &mut octets);
        let up = self.add_reader(stream);
        if let (Some(first), Some(attachment)) = (features.window, self.attachments.get_mut(up))
            && let Flow::Sending(window) = &mut attachment.flow
        {
            window.follow(first);
        }
        let flags = STREAMING | DISABLE_Q2;
        self.make_offer(
            io,
            up,
            Offer { octets, flags, is_stream: true, preferred: answer.connection, ..Offer::default() },
        );
        // There is only one place for it, and the workload may speak first.
        if let Some(attachment) = self.attachments.get_mut(up) {
            attachment.message = None;
        }
    }

    /// Joins a client and a workload of the same router: the way back.
    fn join(&mut self, io: &mut impl Io, client: Key, server: Key) {
        let mut back = Attachment::new(Inlet::Socket(server), Outlet::Socket(client), Flow::Passing);
        back.is_inlet_settled = true;
        let back = self.attachments.insert(back);
        self.stream_mut(server).up = Some(back);
        if let Some(client) = self.streams.get_mut(client) {
            client.down = Some(back);
            client.features = Features::OURS;
        }
        self.take_promise(client);
        io.established(client);
    }

    /// The workload is not there: its stream goes, and the offer to the next consumer.
    pub(super) fn workload_refused(&mut self, io: &mut impl Io, stream: Key) {
        let Some(server) = self.remove_stream(stream) else { return };
        self.counters.refused += 1;
        io.close(stream, false);
        if let Some(down) = server.down {
            if let Some(attachment) = self.attachments.get_mut(down) {
                attachment.outlet = Outlet::Undecided;
            }
            self.turned_down(io, down);
        }
    }

    /// Marks a direction as leaving through another shard; whether it wants to hear how much has left.
    pub(super) fn cross(&mut self, key: Key, shard: ShardId) -> bool {
        let Some(attachment) = self.attachments.get_mut(key) else { return false };
        attachment.outlet = Outlet::Shard { shard };
        if let Flow::Sending(window) = &attachment.flow {
            attachment.flow = Flow::Crossing { window: *window };
        }
        matches!(attachment.flow, Flow::Crossing { .. }) || attachment.has_no_window
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_reply_name_is_read_back(bits in any::<u64>(), shard in 0..MAX_SHARDS, salt in 0..1_u32 << SALT_BITS) {
            let name = ReplyName { shard: ShardId(shard), stream: Key::from_bits(bits), salt };
            prop_assert_eq!(ReplyName::parse(&name.to_text()), Some(name));
        }

        #[test]
        fn another_text_is_none_of_ours_or_harmless(text in "\\PC{0,30}") {
            let _ = ReplyName::parse(&text);
        }
    }
}
