//! What stands before a stream's octets, and cannot be.

use std::collections::BTreeMap;

use van_core::amqp::{Composer, Performative, Role, Value};
use van_core::annotations::{Annotations, STREAMING};
use van_core::plane::Purpose;

use crate::Siege;
use crate::frames::{attach, begin, transfer};
use crate::maps::{described, map};
use crate::rig::intruder::{frame, take_frames};

/// What stands before a stream's octets.
pub(crate) struct Sections<'a> {
    pub(crate) to: Option<&'a str>,
    pub(crate) reply_to: Option<&'a str>,
    pub(crate) content_type: Option<&'a str>,
    pub(crate) properties: Value,
    pub(crate) body: &'a [u8],
}

impl Default for Sections<'_> {
    fn default() -> Self {
        let reply_to = Some("amqp:/_topo/0/mallory/temp.1");
        let content_type = Some("application/octet-stream");
        Self {
            to: Some("work"),
            reply_to,
            content_type,
            properties: map([("V", Value::Uint(1))]),
            body: &[0, 0x53, 0x77, 0x40],
        }
    }
}

impl Sections<'_> {
    pub(crate) fn write(self) -> Vec<u8> {
        let mut out = Vec::new();
        Annotations::fresh(STREAMING).forward("0/mallory", &mut out);
        let mut properties = Composer::described(&mut out, 0x73);
        properties.null().null().optional(self.to).null().optional(self.reply_to).null().optional(self.content_type);
        properties.end();
        described(&mut out, 0x74, self.properties);
        [&out, self.body].concat()
    }
}

#[test]
fn a_stream_that_cannot_be_is_refused_and_the_connection_stays() {
    let siege = Siege::start();
    let fresh = || Sections::default();
    let good = fresh().write();
    let streams: Vec<Vec<u8>> = vec![
        vec![0xa5; 200],
        vec![0; 70_000],
        good[..40].to_vec(),
        // Sections twice, and out of order.
        [&good[..good.len() - 4], &good[..]].concat(),
        // Properties of 1 GiB.
        [&[0, 0x53, 0x73, 0xd0, 0x40, 0, 0, 0, 0, 0, 0, 1][..], &[0; 70_000]].concat(),
        [&b"\x00\x80SKPR--RA\xc0\x03\x02\x43\x40"[..], &good].concat(),
        [&b"\x00\x80SKPR--RA\xd0\xff\xff\xff\xff\xff\xff\xff\xff"[..], &good].concat(),
        Sections { to: None, ..fresh() }.write(),
        Sections { to: Some(""), ..fresh() }.write(),
        Sections { to: Some("nobody"), ..fresh() }.write(),
        Sections { to: Some(&"work".repeat(10_000)), ..fresh() }.write(),
        Sections { to: Some("amqp:/_topo/0/target/temp.$#1"), ..fresh() }.write(),
        Sections { to: Some("amqp:/_topo/0/nobody/temp.1"), ..fresh() }.write(),
        Sections { to: Some("amqp:/_topo/0/all/qdrouter"), ..fresh() }.write(),
        Sections { reply_to: None, ..fresh() }.write(),
        Sections { content_type: Some("text/plain"), ..fresh() }.write(),
        Sections { content_type: None, ..fresh() }.write(),
        Sections { body: &[0, 0x53, 0x77, 0xa1, 5, 1, 2, 3, 4, 5], ..fresh() }.write(),
        Sections { body: &[0, 0x53, 0x99, 0x40], ..fresh() }.write(),
    ];
    let mut intruder = siege.behind_open("mallory", Purpose::Data);
    intruder.send(&frame(0, &begin(), &[])).expect("the router listens");
    let count = u32::try_from(streams.len()).expect("a few");
    for (number, stream) in (0..).zip(&streams) {
        let link = frame(0, &attach(number, Role::Sender, None), &[]);
        let mut pieces = stream.chunks(30_000).peekable();
        intruder.send(&link).expect("the router listens");
        while let Some(piece) = pieces.next() {
            let transfer = transfer(number, number, pieces.peek().is_some());
            intruder.send(&frame(0, &transfer, piece)).expect("the router listens");
        }
    }
    let (mut heard, mut refused) = (Vec::new(), BTreeMap::new());
    while refused.len() < streams.len() {
        heard.extend(intruder.hear().expect("the router answers").expect("the router does not leave"));
        for performative in take_frames(&mut heard) {
            match performative {
                Performative::Disposition(told) if told.state.as_ref().is_some_and(|state| state.is_terminal()) => {
                    let numbers = told.first..=told.last.unwrap_or(told.first);
                    refused.extend(numbers.filter(|number| *number < count).map(|number| (number, told.state.clone())));
                }
                Performative::Close(close) => panic!("the router closes the connection: {close:?}"),
                _ => {}
            }
        }
    }
    siege.lift();
}
