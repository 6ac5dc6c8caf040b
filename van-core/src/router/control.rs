//! Messages of the routing protocol as they look on the wire (docs/wire.md §4.1, §4.2).

use std::collections::BTreeMap;

use bytes::Bytes;
use van_routing::{
    AddressKey, AddressUpdate, Cost, Destination, Hello, LinkState, LinkStateRequest, LinkStateUpdate, MeshId, Message,
    MobileAddress, MobileAddressRequest, MobileAddressUpdate, RouterAdvertisement, RouterId, Treatment,
};

use crate::amqp::{Composer, Decode, DecodeError, Encode, Reader, Value};
use crate::annotations::Annotations;
use crate::message::{self, Head};

/// The only area there is.
const AREA: &str = "0";

/// The highest protocol versions we speak: of the link-state messages, and of those about addresses.
const LINK_STATE_VERSION: i64 = 1;
const ADDRESS_VERSION: i64 = 2;

/// Why a message of the routing protocol cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MalformedMessage {
    /// It is no message at all.
    #[error("malformed router message: {0}")]
    Encoding(#[from] DecodeError),
    /// A field is missing or of another type.
    #[error("router message without a usable `{0}`")]
    Field(&'static str),
    /// A message of a kind we do not know.
    #[error("unknown router message {0:?}")]
    UnknownOpcode(String),
    /// A peer that is ahead of us.
    #[error("{router} speaks protocol version {version}, which is newer than ours")]
    Version {
        /// The sender.
        router: String,
        /// Its version.
        version: i64,
    },
}

/// Writes a message as router `node` (in the form `0/<id>`) sends it.
pub(super) fn encode(message: &Message, to: &Destination, node: &str) -> Bytes {
    let mut out = Vec::with_capacity(256);
    Annotations::fresh(0).forward(node, &mut out);
    Composer::described(&mut out, 0x70).field(&false).end(); // header: not durable
    Composer::described(&mut out, 0x73).null().null().field(&address(message, to)).end();
    let described = |descriptor, value| Value::Described(Value::Ulong(descriptor).into(), Box::new(value));
    let opcode = Value::String(opcode(message).into());
    described(0x74, Value::Map(vec![(name(message, "opcode"), opcode)])).encode(&mut out);
    let pairs = body(message).into_iter().map(|(key, value)| (name(message, key), value)).collect();
    described(0x77, Value::Map(pairs)).encode(&mut out);
    out.into()
}

/// Where a message goes, in the words of the wire.
fn address(message: &Message, to: &Destination) -> String {
    let service = if is_about_addresses(message) { "qdrouter.ma" } else { "qdrouter" };
    match to {
        Destination::Link(_) => "amqp:/_local/qdhello".to_owned(),
        // skupper-router leaves the scheme out here; it counts for nobody.
        Destination::Tree => format!("_topo/{AREA}/all/{service}"),
        Destination::Flood => format!("amqp:/_topo/{AREA}/all/{service}"),
        Destination::Router(id) => format!("amqp:/_topo/{AREA}/{id}/{service}"),
    }
}

fn is_about_addresses(message: &Message) -> bool {
    matches!(message, Message::MobileAddressRequest(_) | Message::MobileAddressUpdate(_))
}

/// Keys are strings in link-state messages and symbols in those about addresses: their readers compare octets only, but
/// one of skupper-router's looks for exactly what it writes.
fn name(message: &Message, key: &str) -> Value {
    if is_about_addresses(message) { Value::symbol(key) } else { Value::String(key.into()) }
}

fn opcode(message: &Message) -> &'static str {
    match message {
        Message::Hello(_) => "HELLO",
        Message::RouterAdvertisement(_) => "RA",
        Message::LinkStateRequest(_) => "LSR",
        Message::LinkStateUpdate(_) => "LSU",
        Message::MobileAddressRequest(_) => "MAR",
        Message::MobileAddressUpdate(_) => "MAU",
    }
}

fn body(message: &Message) -> Vec<(&'static str, Value)> {
    let version =
        if is_about_addresses(message) { Value::Long(ADDRESS_VERSION) } else { integer(LINK_STATE_VERSION as u64) };
    let mut body = vec![("id", text(message.sender().as_str())), ("pv", version), ("area", text(AREA))];
    match message {
        Message::Hello(hello) => {
            body.push(("instance", integer(hello.instance)));
            body.push(("seen", Value::List(hello.seen.iter().map(|id| text(id.as_str())).collect())));
        }
        Message::RouterAdvertisement(advertisement) => {
            body.push(("instance", integer(advertisement.instance)));
            body.push(("ls_seq", integer(advertisement.ls_seq)));
            body.push(("mobile_seq", integer(advertisement.mobile_seq)));
        }
        Message::LinkStateRequest(_) => {}
        Message::LinkStateUpdate(update) => {
            body.push(("instance", integer(update.instance)));
            body.push(("ls_seq", integer(update.link_state.seq)));
            body.push(("ls", link_state(update)));
        }
        Message::MobileAddressRequest(request) => body.push(("have_seq", long(request.have_seq))),
        Message::MobileAddressUpdate(update) => {
            body.push(("mobile_seq", long(update.mobile_seq)));
            match &update.addresses {
                AddressUpdate::Differential { add, del } => {
                    body.push(("add", Value::List(add.iter().map(descriptor).collect())));
                    body.push((
                        "del",
                        Value::List(del.iter().map(|key| Value::List(vec![text(key.as_str())])).collect()),
                    ));
                }
                AddressUpdate::Absolute { exist } => {
                    body.push(("exist", Value::List(exist.iter().map(descriptor).collect())));
                }
            }
        }
    }
    body
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

/// An int as long as it fits one, which is what skupper-router sends; readers take either.
fn integer(number: u64) -> Value {
    i32::try_from(number).map_or_else(|_| long(number), Value::Int)
}

fn long(number: u64) -> Value {
    Value::Long(i64::try_from(number).unwrap_or(i64::MAX))
}

fn link_state(update: &LinkStateUpdate) -> Value {
    let peers = update.link_state.peers.iter().map(|(id, cost)| (text(id.as_str()), integer((*cost).into())));
    Value::Map(vec![
        (text("id"), text(update.id.as_str())),
        (text("area"), text(AREA)),
        (text("ls_seq"), integer(update.link_state.seq)),
        (text("peers"), Value::Map(peers.collect())),
    ])
}

/// Key, treatment, producers; and behind a reserved null the mesh, if there is one.
fn descriptor(address: &MobileAddress) -> Value {
    let treatment = address.treatment.unwrap_or(Treatment::AnycastBalanced);
    let producers = i32::try_from(address.producers).unwrap_or(i32::MAX);
    let mut list = vec![text(address.key.as_str()), Value::Int(treatment.code().into()), Value::Int(producers)];
    if let Some(MeshId(mesh)) = address.mesh {
        list.extend([Value::Null, Value::String(mesh.map(char::from).iter().collect())]);
    }
    Value::List(list)
}

// === reading ===

/// Reads a message behind its head.
pub(super) fn decode(head: &Head<'_>, octets: &[u8]) -> Result<Message, MalformedMessage> {
    let opcode = head.application_properties.map(|mut map| Value::decode(&mut map)).transpose()?;
    let opcode =
        opcode.as_ref().and_then(|map| map.entry("opcode")?.as_text()).ok_or(MalformedMessage::Field("opcode"))?;
    let body = octets.get(head.value_at.ok_or(MalformedMessage::Field("body"))?..).unwrap_or_default();
    let body = Value::decode(&mut Reader::new(body))?;
    let body = Body(&body);
    let id = body.router("id")?;
    body.check_version(id.as_str(), matches!(opcode, "MAR" | "MAU"))?;
    Ok(match opcode {
        "HELLO" => Message::Hello(Hello { id, instance: body.number("instance")?, seen: body.routers("seen")? }),
        "RA" => Message::RouterAdvertisement(RouterAdvertisement {
            id,
            instance: body.number("instance")?,
            ls_seq: body.number("ls_seq")?,
            mobile_seq: body.number("mobile_seq")?,
        }),
        "LSR" => Message::LinkStateRequest(LinkStateRequest { id }),
        "LSU" => Message::LinkStateUpdate(LinkStateUpdate {
            instance: body.number("instance")?,
            link_state: body.link_state(&id)?,
            id,
        }),
        "MAR" => Message::MobileAddressRequest(MobileAddressRequest { id, have_seq: body.number("have_seq")? }),
        "MAU" => {
            let mobile_seq = body.number("mobile_seq")?;
            Message::MobileAddressUpdate(MobileAddressUpdate { id, mobile_seq, addresses: body.addresses()? })
        }
        other => return Err(MalformedMessage::UnknownOpcode(other.chars().take(32).collect())),
    })
}

/// Reads a whole message of the routing protocol, sections and all.
///
/// # Errors
/// See [`MalformedMessage`].
pub fn read_message(octets: &[u8]) -> Result<Message, MalformedMessage> {
    let head = message::scan(octets, true)?.ok_or(MalformedMessage::Field("body"))?;
    decode(&head, octets)
}

/// The map in a message's body.
struct Body<'a>(&'a Value);

impl Body<'_> {
    fn field(&self, key: &'static str) -> Result<&Value, MalformedMessage> {
        self.0.entry(key).ok_or(MalformedMessage::Field(key))
    }

    fn router(&self, key: &'static str) -> Result<RouterId, MalformedMessage> {
        router(self.field(key)?).ok_or(MalformedMessage::Field(key))
    }

    fn number(&self, key: &'static str) -> Result<u64, MalformedMessage> {
        let number = self.field(key)?.as_integer().and_then(|number| u64::try_from(number).ok());
        number.ok_or(MalformedMessage::Field(key))
    }

    fn list(&self, key: &'static str) -> Result<&[Value], MalformedMessage> {
        self.field(key)?.as_list().ok_or(MalformedMessage::Field(key))
    }

    fn routers(&self, key: &'static str) -> Result<Vec<RouterId>, MalformedMessage> {
        self.list(key)?.iter().map(|id| router(id).ok_or(MalformedMessage::Field(key))).collect()
    }

    /// A version that is absent is fine.
    fn check_version(&self, router: &str, is_about_addresses: bool) -> Result<(), MalformedMessage> {
        let ours = if is_about_addresses { ADDRESS_VERSION } else { LINK_STATE_VERSION };
        match self.0.entry("pv").and_then(Value::as_integer) {
            Some(version) if version > ours => Err(MalformedMessage::Version { router: router.to_owned(), version }),
            _ => Ok(()),
        }
    }

    fn link_state(&self, id: &RouterId) -> Result<LinkState, MalformedMessage> {
        let inner = Body(self.field("ls")?);
        if inner.router("id")? != *id {
            return Err(MalformedMessage::Field("ls.id"));
        }
        let peers = inner.field("peers")?.as_map().ok_or(MalformedMessage::Field("ls.peers"))?;
        let peer = |(id, cost): &(Value, Value)| {
            let cost = cost.as_integer().and_then(|cost| Cost::new(u32::try_from(cost).ok()?).ok());
            Some((router(id)?, cost?))
        };
        let peers: Option<BTreeMap<_, _>> = peers.iter().map(peer).collect();
        Ok(LinkState { seq: inner.number("ls_seq")?, peers: peers.ok_or(MalformedMessage::Field("ls.peers"))? })
    }

    fn addresses(&self) -> Result<AddressUpdate, MalformedMessage> {
        let has = |key| self.0.entry(key).is_some();
        // One that we cannot have is none that our clients ask for: the others count all the same.
        let read = |key: &'static str| -> Result<Vec<_>, MalformedMessage> {
            Ok(self.list(key)?.iter().filter_map(mobile_address).collect())
        };
        match (has("exist"), has("add"), has("del")) {
            (true, false, false) => Ok(AddressUpdate::Absolute { exist: read("exist")? }),
            (false, true, true) => {
                // Each in a list, as those that come: of them only the key is said.
                let del = read("del")?.into_iter().map(|address| address.key).collect();
                Ok(AddressUpdate::Differential { add: read("add")?, del })
            }
            _ => Err(MalformedMessage::Field("exist")),
        }
    }
}

fn router(value: &Value) -> Option<RouterId> {
    RouterId::new(value.as_text()?).ok()
}

fn mobile_address(value: &Value) -> Option<MobileAddress> {
    let fields = value.as_list()?;
    let mut address = MobileAddress::new(AddressKey::new(fields.first()?.as_text()?).ok()?);
    let number =
        |place: usize| fields.get(place).and_then(Value::as_integer).and_then(|number| u64::try_from(number).ok());
    address.treatment = number(1).and_then(Treatment::from_code);
    address.producers = number(2).and_then(|count| u32::try_from(count).ok()).unwrap_or(0);
    address.mesh = match fields.get(4) {
        None | Some(Value::Null) => None,
        Some(mesh) => Some(MeshId(mesh.as_text()?.as_bytes().try_into().ok()?)),
    };
    Some(address)
}

/// Passes a message of another router on: its annotations with us in the trace, the rest as it is.
pub(super) fn forward(head: &Head<'_>, octets: &[u8], node: &str) -> Bytes {
    let mut out = Vec::with_capacity(octets.len() + 64);
    head.annotations.unwrap_or(Annotations::fresh(0)).forward(node, &mut out);
    out.extend_from_slice(&octets[head.rest..]);
    out.into()
}
