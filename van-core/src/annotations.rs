//! The router annotations section, the first of every message between routers (docs/wire.md §6.1).
//!
//! A router that passes a message on changes this section and nothing else: it fills in the ingress if nobody has, and
//! appends its own name to the trace.

use crate::amqp::{Composer, Decode, DecodeError, Encode, Reader};

/// The section's descriptor, always written in its long form: ASCII `SKPR--RA`.
pub const DESCRIPTOR: [u8; 10] = *b"\x00\x80SKPR--RA";

/// Forward at once, without waiting for the whole message.
pub const STREAMING: u32 = 1;
/// If one consumer releases the message, offer it to the next.
pub const RESEND_RELEASED: u32 = 2;
/// Routers on the way must not hold the stream back by limits of their own.
pub const DISABLE_Q2: u32 = 4;

/// Octets of a mesh id.
const MESH_ID_BYTES: usize = 15;

/// What routers tell each other about a message.
#[derive(Debug, Clone, Copy)]
pub struct Annotations<'a> {
    /// [`STREAMING`], [`RESEND_RELEASED`], [`DISABLE_Q2`]; other bits are carried along.
    pub flags: u32,
    /// An address that beats the message's own `to`.
    pub to_override: Option<&'a str>,
    /// The router where the message entered, as `0/<id>`; unset by edge routers.
    pub ingress: Option<&'a str>,
    /// The routers it has passed.
    pub trace: Trace<'a>,
    /// The edge mesh the message comes from, 15 octets.
    pub mesh: Option<&'a str>,
}

/// The routers a message has passed, oldest first, as `0/<id>`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trace<'a> {
    /// Items as they were encoded.
    items: &'a [u8],
    count: usize,
}

impl<'a> Annotations<'a> {
    /// Of a message that starts here.
    pub fn fresh(flags: u32) -> Self {
        Self { flags, to_override: None, ingress: None, trace: Trace::default(), mesh: None }
    }

    /// Reads the section behind its descriptor.
    pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let mut fields = reader.fields()?;
        if fields.left() < 4 {
            return Err(DecodeError::Malformed("router annotations"));
        }
        let annotations = Self {
            flags: fields.or_default()?,
            to_override: fields.optional()?,
            ingress: fields.optional()?,
            trace: fields.or_default()?,
            mesh: if fields.left() > 0 { Some(fields.mandatory("router annotations mesh id")?) } else { None },
        };
        match annotations.mesh {
            Some(mesh) if mesh.len() != MESH_ID_BYTES => Err(DecodeError::Malformed("router annotations mesh id")),
            _ => Ok(annotations),
        }
    }

    /// Appends the section as router `me` (in the form `0/<id>`) sends it on.
    pub fn forward(&self, me: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&DESCRIPTOR);
        let mut list = Composer::list(out);
        list.field(&self.flags).optional(self.to_override).field(self.ingress.unwrap_or(me));
        self.trace.encode_with(me, list.place());
        list.optional(self.mesh).end();
    }

    /// Appends the section as an edge router sends it: it names no router, and the mesh of the edge if it goes to an interior
    /// router.
    pub fn forward_from_edge(&self, mesh: Option<&str>, out: &mut Vec<u8>) {
        out.extend_from_slice(&DESCRIPTOR);
        let mut list = Composer::list(out);
        list.field(&self.flags).optional(self.to_override).null();
        crate::amqp::put_list(list.place(), 0, |_| {});
        list.optional(mesh).end();
    }

    /// The router ids the message has passed, oldest first.
    pub fn trace(&self) -> impl Iterator<Item = &'a str> {
        self.trace.ids()
    }

    /// The same as one text: `0/<id>` with `|` between them, as VanFlow has it.
    pub fn trace_text(&self) -> String {
        let mut items = Reader::new(self.trace.items);
        let nodes = (0..self.trace.count).map_while(|_| <&str>::decode(&mut items).ok());
        nodes.collect::<Vec<_>>().join("|")
    }

    /// How many routers the message has passed.
    pub fn hops(&self) -> usize {
        self.trace.count
    }

    /// The id of the router where the message entered.
    pub fn origin(&self) -> Option<&'a str> {
        self.ingress.map(router_id)
    }
}

/// The id in a node name `0/<id>`.
fn router_id(node: &str) -> &str {
    node.split_once('/').map_or(node, |(_, id)| id)
}

impl<'a> Trace<'a> {
    /// The ids, oldest first.
    pub fn ids(&self) -> impl Iterator<Item = &'a str> {
        let mut items = Reader::new(self.items);
        (0..self.count).map_while(move |_| <&str>::decode(&mut items).ok()).map(router_id)
    }

    /// The list with one more item: the old ones as they are.
    fn encode_with(self, me: &str, out: &mut Vec<u8>) {
        crate::amqp::put_list(out, self.count + 1, |out| {
            out.extend_from_slice(self.items);
            me.encode(out);
        });
    }
}

impl<'a> Decode<'a> for Trace<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let mut fields = reader.fields()?;
        let (items, count) = (fields.octets(), fields.left());
        while fields.left() > 0 {
            fields.mandatory::<&str>("router annotations trace")?;
        }
        // What follows the items counted is not passed on: it would be taken for the next one.
        let items = &items[..items.len() - fields.octets().len()];
        Ok(Self { items, count })
    }
}
