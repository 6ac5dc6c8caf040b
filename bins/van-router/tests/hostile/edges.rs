//! Edge routers that lie of their mesh, or of what is consumed behind them; and an interior router that lies to an edge
//! router of what is consumed in the network.

use van_core::amqp::{Attach, Role, Target, Value};

use crate::frames::{attach, begin};
use crate::handshake::nested;
use crate::maps::{described, map, text};
use crate::memory::Attack;
use crate::rig;
use crate::rig::client::{Client, Heard, Speaker, downlink};
use crate::rig::intruder::{Intruder, frame};
use crate::{Siege, short_or_long};

const MESH_DISCOVERY: &str = "_$qd.mesh_discovery";
const NEGOTIATION: &str = "_$qd.mesh_id_negotiation";
const TRACKING: &str = "_$qd.edge_addr_tracking";

impl Siege {
    /// An edge router of the target, or one of its mesh.
    fn edge(&self, name: &str) -> Speaker {
        let at = if self.is_edge { self.places.access } else { self.places.edges };
        Speaker::edge(&self.site, at, &self.credentials("mallory"), name)
    }
}

/// A message of application properties only.
fn properties(properties: Value) -> Vec<u8> {
    let mut out = Vec::new();
    described(&mut out, 0x74, properties);
    out
}

fn body(body: Value) -> Vec<u8> {
    let mut out = Vec::new();
    described(&mut out, 0x77, body);
    out
}

fn bid(ordinal: Value, id: Value) -> Vec<u8> {
    properties(map([("ordinal", ordinal), ("id", id)]))
}

/// What no link between routers is for.
fn garbage() -> Vec<Vec<u8>> {
    let long = || text(&"x".repeat(60_000));
    let ids =
        [Value::Null, Value::Int(7), text(""), text("0123456789abcd"), text("0123456789abcdef"), long(), nested(20)];
    let of_ids = ids.into_iter().flat_map(|id| [properties(map([("meshid", id.clone())])), bid(Value::Long(1), id)]);
    let good = text("0123456789abcde");
    let ordinals = [Value::Null, text("1"), Value::Ulong(u64::MAX), Value::Double(0.0), Value::List(Vec::new())];
    let of_ordinals = ordinals.into_iter().map(|ordinal| bid(ordinal, good.clone()));
    let key = || text("Mkey");
    let tracking = [
        Value::Null,
        key(),
        Value::List(Vec::new()),
        Value::List(vec![key()]),
        Value::List(vec![key(), text("true")]),
        Value::List(vec![text(""), Value::Bool(true)]),
        Value::List(vec![text("Mnobody asked"), Value::Bool(true)]),
        Value::List(vec![long(), Value::Bool(true)]),
        Value::List(vec![text("Rtarget"), Value::Bool(true)]),
        map([("Mkey", Value::Bool(true))]),
    ];
    let plain = [vec![0xa5; 200], vec![0; 70_000], vec![0, 0x53, 0x74, 0xd1, 255, 255, 255, 255], vec![0, 0x53, 0x77]];
    plain.into_iter().chain(of_ids).chain(of_ordinals).chain(tracking.map(body)).collect()
}

#[test]
fn a_mesh_id_that_is_none_or_changes_without_end_harms_nobody() {
    let siege = Siege::start();
    let mut edge = siege.edge("mallory");
    let discovery = edge.sender(Some(MESH_DISCOVERY));
    edge.consumer("key", 10);
    garbage().iter().for_each(|message| edge.send(discovery, message));
    for number in 0..short_or_long(2_000, 100_000) {
        edge.send(discovery, &properties(map([("meshid", text(&format!("{number:015}")))])));
    }
    // The last of several links counts.
    for _ in 0..100 {
        let discovery = edge.sender(Some(MESH_DISCOVERY));
        edge.send(discovery, &properties(map([("meshid", text("0123456789abcde"))])));
    }
    edge.flush();
    siege.wait_until_more_completed();
    siege.check_log_is_short();
    siege.lift();
}

/// It is let in, for routers restart; it gets nothing that is not for that name.
#[test]
fn an_edge_router_with_the_name_of_others_takes_nothing_from_them() {
    let siege = Siege::start();
    let mut edges: Vec<_> = (0..20).map(|_| siege.edge("mallory")).collect();
    for edge in &mut edges {
        for name in ["mallory", "far", "target", "", "a/b", &"x".repeat(60_000)] {
            edge.receiver(downlink(name), 10);
        }
        for address in ["_topo/0/far/temp.x", "amqp:/_edge/mallory/x", "_local/qdhello", TRACKING] {
            edge.consumer(address, 10);
        }
        edge.flush();
    }
    siege.wait_until_more_completed();
    let mut client = Client::anonymous(&siege.site, siege.places.clients);
    let nodes = client.query("router.node");
    assert_eq!(nodes.column("id"), [&text("target"), &text("far")], "an edge router is no node");
    siege.check_log_is_short();
    siege.lift();
}

#[test]
fn bids_for_a_mesh_that_are_none_or_never_end_harm_nobody() {
    let siege = Siege::start_at_edge();
    let mut peer = siege.edge("mallory");
    let negotiation = peer.sender(Some(NEGOTIATION));
    garbage().iter().for_each(|message| peer.send(negotiation, message));
    for number in 0..short_or_long(2_000, 100_000) as i64 {
        let id = text(&format!("{number:015}"));
        let ordinal = [i64::MIN, i64::MAX, number, -number][number as usize % 4];
        peer.send(negotiation, &bid(Value::Long(ordinal), id));
    }
    for name in ["target", "far"] {
        peer.consumer(&format!("_edge/{name}/x"), 10);
        peer.receiver(downlink(name), 10);
    }
    peer.flush();
    // Its own name is not for others.
    let mut namesake = Intruder::behind_tls(&siege.site, siege.places.access, &siege.credentials("mallory"));
    namesake.send(&crate::handshake::before_open()).expect("the router listens");
    namesake.send(&frame(0, &crate::handshake::open("target"), &[])).expect("the router listens");
    namesake.hear_to_end();
    siege.check_told_once(&[("the router's own id", namesake.address(), "has our own id, target")]);
    siege.wait_until_more_completed();
    siege.lift();
}

/// A router that has more addresses than it may is not believed any of them.
#[test]
fn a_flood_of_addresses_keeps_no_workload_out_of_the_network() {
    let siege = Siege::start();
    let mut client = Speaker::anonymous(&siege.site, siege.places.clients);
    let mut edge = siege.edge("mallory");
    for (name, peer) in [("edge", &mut edge), ("client", &mut client)] {
        peer.ignore_answers();
        for number in 0..12_000 {
            peer.consumer(&format!("{name}-{number}"), 1);
        }
        peer.flush();
    }
    siege.wait_until_more_completed();
    let mut honest = Client::anonymous(&siege.site, siege.places.clients);
    let attributes = map([("host", text("127.0.0.1")), ("port", text("9")), ("address", text("late"))]);
    let created = honest.ask(&[("operation", "CREATE"), ("type", "tcpConnector"), ("name", "late")], attributes);
    assert_eq!(created.status, Value::Int(201), "{:?}", created.description);
    let mut elsewhere = Client::anonymous(&siege.site, siege.places.far_clients);
    rig::wait_until("another router knows it", || elsewhere.knows("Mlate"));
    siege.check_log_is_short();
    siege.lift();
}

/// The interior router of an edge router says of thousands of addresses that they have consumers, and have not.
#[test]
fn what_an_interior_router_says_of_addresses_nobody_asked_for_is_ignored() {
    let siege = Siege::start_at_edge();
    let mut client = Speaker::anonymous(&siege.site, siege.places.clients);
    client.sender(Some("asked for"));
    client.flush();
    let mut interior = siege.interior();
    let (mut tracking, mut is_asked) = (None, false);
    let tracking = interior.wait_for(|heard| {
        let Heard::Attached(link, attach) = heard else { return None };
        is_asked |= attach.target.and_then(|target| target.address).as_deref() == Some("asked for");
        if attach.source.and_then(|source| source.address).as_deref() == Some(TRACKING) {
            tracking = Some(link);
        }
        tracking.filter(|_| is_asked)
    });
    garbage().iter().for_each(|message| interior.send(tracking, message));
    for number in 0..short_or_long(20_000, 500_000) {
        let is_reachable = Value::Bool(number % 2 == 0);
        interior.send(tracking, &body(Value::List(vec![text(&format!("Mkey-{}", number / 2)), is_reachable])));
    }
    // What is asked for is believed: so all before was read.
    let is_reachable = Value::Bool(true);
    interior.send(tracking, &body(Value::List(vec![text("Masked for"), is_reachable])));
    interior.flush();
    siege.wait_until_known("Masked for");
    let known = Client::anonymous(&siege.site, siege.places.clients).query("router.address").rows().len();
    assert!(known < 100, "{known} addresses are known");
    siege.check_log_is_short();
    siege.lift();
}

impl Siege {
    /// Waits for the edge router that is the target, as its interior router.
    fn interior(&self) -> Speaker {
        Speaker::uplink_of(Intruder::dialled(&self.places.uplink, &self.credentials("127.0.0.1")), "mallory")
    }
}

pub(crate) const ATTACKS: [(&str, Attack); 4] = [
    ("addresses that an edge router consumes", |siege| {
        let mut edge = siege.edge("mallory-consumes");
        edge.ignore_answers();
        for number in 0..short_or_long(10_000, 50_000) {
            edge.consumer(&format!("key-{number}"), 1);
        }
        edge.flush();
        siege.wait_until_known("Mkey-9999");
    }),
    ("addresses that an edge router sends to, and hears nothing of", |siege| {
        let mut edge = siege.edge("mallory-sends");
        edge.ignore_answers();
        edge.consumer(TRACKING, 0);
        for number in 0..short_or_long(10_000, 50_000) {
            edge.sender(Some(&format!("key-{number}")));
        }
        edge.flush();
        let mut consumer = siege.edge("mallory-toggles");
        consumer.ignore_answers();
        for number in 0..10_000 {
            consumer.consumer(&format!("key-{number}"), 1);
        }
        consumer.flush();
        siege.wait_until_known("Mkey-9999");
    }),
    ("links with much to say of themselves", |siege| {
        let mut intruder = Intruder::as_client(&siege.site, siege.places.clients);
        drop(intruder.ignore_answers());
        intruder.send(&frame(0, &begin(), &[])).expect("the router listens");
        for number in 0..u32::try_from(short_or_long(3_000, 30_000)).expect("not so many") {
            let target = Target { address: Some(format!("key-{number}")), ..Target::default() };
            let properties = Some(map([("x", text(&"x".repeat(50_000)))]).into());
            let link = Attach { target: Some(target), properties, ..attach(number, Role::Sender, None) };
            intruder.send(&frame(0, &link, &[])).expect("the router listens");
        }
        siege.wait_until_more_completed();
    }),
    ("long addresses of a client", |siege| {
        let mut client = Speaker::anonymous(&siege.site, siege.places.clients);
        client.ignore_answers();
        for number in 0..2_000 {
            client.consumer(&format!("{}{number}", "x".repeat(50_000)), 1);
            client.sender(Some(&format!("{}{number}", "y".repeat(50_000))));
            client.flush();
        }
        siege.wait_until_more_completed();
    }),
];

impl Siege {
    /// Waits until the target knows an address.
    fn wait_until_known(&self, key: &str) {
        let mut client = Client::anonymous(&self.site, self.places.clients);
        rig::wait_until(key, || client.knows(key));
    }
}
