//! VanFlow: questions that are none, floods of them, records nobody asked for, listeners that do not listen.

use van_core::amqp::Value;
use van_core::flow::{BEACONS, SHARED};

use crate::handshake::nested;
use crate::maps::{described, map, text};
use crate::memory::Attack;
use crate::rig;
use crate::rig::client::management::Reply;
use crate::rig::client::{Client, Speaker};
use crate::{Siege, short_or_long};

/// A message of a subject and a body.
fn message(subject: &str, properties: Value, body: Value) -> Vec<u8> {
    let mut out = Vec::new();
    van_core::amqp::Composer::described(&mut out, 0x73).null().null().null().field(subject).end();
    described(&mut out, 0x74, properties);
    described(&mut out, 0x77, body);
    out
}

/// What no source and no collector says.
fn garbage() -> Vec<Vec<u8>> {
    let long = || text(&"x".repeat(60_000));
    let record =
        |value: Value| Value::List(vec![Value::Map(vec![(Value::Uint(0), Value::Uint(1)), (Value::Uint(1), value)])]);
    let many = Value::List((0..5_000).map(|_| map([("x", Value::Null)])).collect());
    let mut garbage = vec![vec![0xa5; 200], vec![0; 70_000], vec![0, 0x53, 0x77, 0xd0, 255, 255, 255, 255]];
    for subject in ["FLUSH", "BEACON", "HEARTBEAT", "RECORD", "BOOM", "", &"x".repeat(60_000)] {
        for properties in [Value::Null, map([("id", Value::Int(1)), ("sourceType", long())]), nested(20)] {
            for body in [Value::Null, long(), record(Value::Int(1)), record(long()), many.clone(), nested(20)] {
                garbage.push(message(subject, properties.clone(), body));
            }
        }
    }
    garbage
}

impl Siege {
    /// Where the target is asked to tell all again.
    fn flow_source(&self) -> String {
        let mut client = Client::anonymous(&self.site, self.places.clients);
        let mut found = None;
        rig::wait_until("the router tells of itself", || {
            let addresses: Reply = client.query("router.address");
            let own = |key: &&Value| key.as_text().and_then(|key| key.strip_prefix("Msfe.")).map(str::to_owned);
            let remotes = addresses.column("remoteCount");
            let keys = addresses.column("key").into_iter().zip(remotes);
            found = keys.filter(|(_, remotes)| remotes.as_integer() == Some(0)).find_map(|(key, _)| own(&key));
            found.is_some()
        });
        found.expect("it was waited for")
    }
}

#[test]
fn records_and_questions_that_are_none_harm_nobody() {
    let siege = Siege::start();
    let source = siege.flow_source();
    let mut client = Speaker::anonymous(&siege.site, siege.places.clients);
    let own = [format!("sfe.{source}"), format!("mc/sfe.{source}")];
    for address in [BEACONS, SHARED, own[0].as_str(), own[1].as_str()] {
        client.consumer(address, 0);
        let link = client.sender(Some(address));
        garbage().iter().for_each(|message| client.send(link, message));
        client.flush();
    }
    siege.wait_until_more_completed();
    siege.check_log_is_short();
    siege.lift();
}

pub(crate) const ATTACKS: [(&str, Attack); 2] = [
    ("requests to tell all again", |siege| {
        let source = siege.flow_source();
        let mut client = Speaker::anonymous(&siege.site, siege.places.clients);
        client.consumer(SHARED, 0);
        client.consumer(&format!("mc/sfe.{source}"), 0);
        let link = client.sender(Some(&format!("sfe.{source}")));
        let flush = message("FLUSH", Value::Null, Value::Null);
        (0..short_or_long(20_000, 500_000)).for_each(|_| client.send(link, &flush));
        client.flush();
        siege.wait_until_more_completed();
    }),
    ("listeners to everything who take nothing", |siege| {
        let source = siege.flow_source();
        let mut client = Speaker::anonymous(&siege.site, siege.places.clients);
        let own = ["", ".flows", ".logs"].map(|what| format!("mc/sfe.{source}{what}"));
        for _ in 0..200 {
            for address in own.iter().map(String::as_str).chain([BEACONS, SHARED]) {
                client.consumer(address, 0);
            }
        }
        client.flush();
        siege.wait_until_more_completed();
    }),
];
