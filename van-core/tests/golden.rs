//! Conversations with a real skupper-router, recorded once and replayed here: its octets at their times, and what this
//! router must say to them.
//!
//! Replaying needs nothing. Recording anew needs a skupper-router and is asked for:
//! `SKROUTERD=/path/to/skrouterd cargo test -p van-core --test golden -- --ignored record`. The same code drives both; only
//! where the octets come from differs. Frames of ours are compared as what they say: flows and empty frames, which depend on
//! batching, are left out, and a delivery's payload is joined.

#[path = "golden/conversation.rs"]
mod conversation;
#[path = "golden/frames.rs"]
mod frames;
#[path = "golden/record.rs"]
mod record;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conversation::{Conversation, Entry, Scenario, Telling};
use van_core::flow::{Attribute, Record, RecordType};

const SCENARIOS: [Scenario; 5] =
    [Scenario::WeDial, Scenario::TheyDial, Scenario::Flow, Scenario::OurEdge, Scenario::TheirEdge];

/// What our ends say of themselves, as it was when the conversations were recorded, and as it is now: skupper-router passes
/// it on and reads nothing of it.
const PROPERTIES: [&[u8]; 2] = [
    b"\xc1\x27\x04\xa1\x01VR\x01\xa1\x03van\xc1\x1a\x04\xa3\x01vR\x01\xa3\x01f\xc0\x0f\x02\xa3\x04acks\xa3\x06errors",
    b"\xc1\x37\x04\xa1\x01VR\x01\xa1\x03van\xc1\x2a\x06\xa3\x01vR\x01\xa3\x01f\xc0\x17\x03\xa3\x04acks\xa3\x06errors\xa3\x06window\
      \xa3\x01w\x70\x00\x01\x00\x00",
];

fn file(scenario: Scenario) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{}.jsonl", scenario.name()))
}

#[test]
fn a_recorded_router_hears_from_us_what_it_heard_then() {
    for scenario in SCENARIOS {
        let recorded = Entry::read_all(&file(scenario));
        let mut replay = Conversation::new(scenario);
        for entry in &recorded {
            replay.repeat(entry);
        }
        let (then, now) = (frames::said(&recorded), frames::said(&replay.entries));
        let [recorded_properties, properties] = PROPERTIES.map(|octets| octets.escape_ascii().to_string());
        let then: Vec<_> = then.iter().map(|line| line.replace(&recorded_properties, &properties)).collect();
        for (number, (then, now)) in then.iter().zip(&now).enumerate() {
            assert_eq!(now, then, "{}: frame {number}", scenario.name());
        }
        assert_eq!(now.len(), then.len(), "{}", scenario.name());
        replay.check_done();
        replay.telling().into_iter().for_each(check_told);
    }
}

/// Each router has told of its client's connection what only the other knows.
fn check_told(telling: &Telling) {
    let of = |records: &BTreeMap<Arc<str>, Record>, kind| -> Record {
        let mut of_kind = records.values().filter(|record| record.kind == kind);
        let first = of_kind.next().unwrap_or_else(|| panic!("{kind:?}: {records:?}")).clone();
        assert_eq!(of_kind.count(), 0, "{kind:?}");
        first
    };
    let (listener, connector) = (of(&telling.theirs, RecordType::Listener), of(&telling.theirs, RecordType::Connector));
    let (theirs, ours) = (of(&telling.theirs, RecordType::TransportFlow), of(&telling.ours, RecordType::TransportFlow));
    let ours_told = ours.attributes().map(|(attribute, _)| attribute);
    let theirs_told = theirs.attributes().map(|(attribute, _)| attribute);
    assert!(ours_told.eq(theirs_told), "{ours:?} is not told as {theirs:?}");
    assert_eq!(theirs.parent(), Some(&*listener.identity));
    assert_eq!((theirs.text(Attribute::Connector), theirs.text(Attribute::Trace)), (Some("aB3dE:2"), Some("0/theirs")));
    assert_eq!((theirs.text(Attribute::ProxyPort), theirs.number(Attribute::Octets)), (Some("4712"), Some(19)));
    assert_eq!(ours.text(Attribute::Connector), Some(&*connector.identity));
    assert_eq!((ours.text(Attribute::Trace), ours.text(Attribute::ProxyHost)), (Some("0/ours"), Some("127.0.0.1")));
    assert!(ours.has_ended() && theirs.has_ended());
}

#[test]
#[ignore = "needs a skupper-router: set SKROUTERD"]
fn record() {
    let Ok(skrouterd) = std::env::var("SKROUTERD") else { return };
    for scenario in SCENARIOS {
        let entries = record::record(scenario, Path::new(&skrouterd));
        Entry::write_all(&file(scenario), &entries);
    }
}
