//! Messages: their sections, what routers say in them, and what makes them streams.

use van_core::Random;
use van_core::encapsulation::{self, ClientStream, Features};
use van_core::message::{self, Head};
use van_core::router;

use super::amqp::descriptor;
use crate::pieces::digest;

/// This router in traces, and its id.
const NODE: &str = "0/us";
const ID: &str = "us";

/// How many ways of cutting a message off are tried with each.
const CUTS: u64 = 8;

/// Descriptors of sections (AMQP 1.0 §3.2), and of the router annotations: ASCII `SKPR--RA`.
const SECTIONS: std::ops::RangeInclusive<u64> = 0x70..=0x78;
const ANNOTATIONS: u64 = u64::from_be_bytes(*b"SKPR--RA");

/// The sections in front of a body: the same however much of the message is there, and passed on as they are.
pub(crate) fn message(octets: &[u8]) -> bool {
    let Ok(Some(head)) = message::scan(octets, true) else { return has_section(octets) };
    check_prefixes(octets, &head);
    check_forwarded(octets, &head);
    true
}

/// A message of the routing protocol: it says the same to the next router.
pub(crate) fn router_message(octets: &[u8]) -> bool {
    let Ok(Some(head)) = message::scan(octets, true) else { return has_section(octets) };
    assert_eq!(router::read_message(octets), router::read_message(&forward(octets, &head)));
    true
}

/// The sections that make a message a stream: what is read is what was written.
pub(crate) fn stream(octets: &[u8]) -> bool {
    let Ok(Some(head)) = message::scan(octets, true) else { return has_section(octets) };
    if let Ok(start) = encapsulation::stream_start(&head) {
        assert!(start <= octets.len(), "a stream starts behind its message");
    }
    let features = Features::of(&head);
    if let (Some(key), Some(reply_to)) = (head.properties.to, head.properties.reply_to) {
        let mut client = Vec::new();
        let alpn = encapsulation::alpn(&head);
        let flow = head.properties.correlation_text();
        let said = ClientStream { key, reply_to, alpn: alpn.as_deref(), flow };
        encapsulation::write_client_stream(said, features, &mut client);
        check_stream(&client, (key, Some(reply_to)), features);
        assert_eq!(encapsulation::alpn(&scan(&client)), alpn);
        assert_eq!(scan(&client).properties.correlation_text(), flow);
        let mut server = Vec::new();
        encapsulation::write_server_stream(reply_to, Some(features), &mut server);
        check_stream(&server, (reply_to, None), features);
    }
    true
}

/// Whether octets begin with a section.
pub(crate) fn has_section(octets: &[u8]) -> bool {
    descriptor(octets).is_some_and(|descriptor| SECTIONS.contains(&descriptor) || descriptor == ANNOTATIONS)
}

fn check_prefixes(octets: &[u8], head: &Head<'_>) {
    let mut random = Random::new(digest(octets));
    for _ in 0..CUTS {
        let cut = random.below(octets.len() as u64 + 1) as usize;
        if let Some(early) = message::scan(&octets[..cut], false).expect("the start of a message is one") {
            assert_eq!(facts(&early), facts(head), "{cut} octets say something else than all");
        }
    }
}

fn check_forwarded(octets: &[u8], head: &Head<'_>) {
    let forwarded = forward(octets, head);
    let next = scan(&forwarded);
    let annotations = next.annotations.expect("written by us");
    let trace: Vec<_> = annotations.trace().collect();
    assert_eq!(trace.len(), annotations.hops());
    assert_eq!(trace.last(), Some(&ID));
    if let Some(before) = head.annotations {
        assert!(before.trace().eq(trace[..trace.len() - 1].iter().copied()), "the way so far was changed");
        assert_eq!((annotations.flags, annotations.to_override), (before.flags, before.to_override));
        assert_eq!(annotations.origin(), before.origin().or(Some(ID)));
        assert_eq!(annotations.mesh, before.mesh);
    }
    assert_eq!(forwarded[next.rest..], octets[head.rest..]);
}

/// The message as the next router gets it.
fn forward(octets: &[u8], head: &Head<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    let annotations = head.annotations.unwrap_or(van_core::annotations::Annotations::fresh(0));
    annotations.forward(NODE, &mut out);
    out.extend_from_slice(&octets[head.rest..]);
    out
}

fn check_stream(octets: &[u8], (to, reply_to): (&str, Option<&str>), features: Features) {
    let head = scan(octets);
    assert_eq!((head.properties.to, head.properties.reply_to), (Some(to), reply_to));
    assert_eq!(Features::of(&head), features);
    assert_eq!(encapsulation::stream_start(&head), Ok(octets.len()));
}

fn scan(octets: &[u8]) -> Head<'_> {
    message::scan(octets, true).expect("what we write can be read").expect("it is whole")
}

/// What a head says, as far as two of them can be compared.
fn facts<'a>(head: &Head<'a>) -> impl PartialEq + std::fmt::Debug + use<'a> {
    let annotations = head.annotations.map(|it| (it.flags, it.hops(), it.to_override, it.ingress, it.mesh));
    let properties = head.properties;
    (
        annotations,
        (head.rest, head.priority, head.value_at, head.is_value_null),
        (properties.to, properties.reply_to, properties.content_type),
        head.application_properties.map(|map| map.rest()),
    )
}
