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

use std::path::{Path, PathBuf};

use conversation::{Conversation, Entry, Scenario};

const SCENARIOS: [Scenario; 2] = [Scenario::WeDial, Scenario::TheyDial];

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
        for (number, (then, now)) in then.iter().zip(&now).enumerate() {
            assert_eq!(now, then, "{}: frame {number}", scenario.name());
        }
        assert_eq!(now.len(), then.len(), "{}", scenario.name());
        replay.check_done();
    }
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
