//! VanFlow: what is read survives being written, and no message harms who gathers them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use van_core::flow::{
    Attribute, Audience, BEACONS, Collector, Ledger, Message, NetworkView, Now, Output, Record, SHARED, Source,
    SourceType,
};

use super::message::has_section;

/// A source that the collector knows, and the address of its records.
const SOURCE: &str = "5LMxA:0";
const ADDRESS: &str = "mc/sfe.5LMxA:0";

/// Longer than anything is waited for.
const LONG: Duration = Duration::from_secs(1000);

/// A message of VanFlow. The outer header is that of its first section.
pub(crate) fn flow(octets: &[u8]) -> bool {
    let begun = Instant::now();
    let mut collector = Collector::new();
    let beacon = Message::Beacon { source_type: SourceType::Controller, source: SOURCE.into(), is_shared: false }
        .encode(BEACONS);
    for (address, message) in [(BEACONS, &*beacon), (BEACONS, octets), (ADDRESS, octets), (ADDRESS, octets)] {
        let outcome = collector.handle_message(begun, address, message);
        assert_eq!(outcome.is_ok(), Message::decode(message).is_ok());
    }
    let _ = NetworkView::new(&collector);
    if let Ok(message) = Message::decode(octets) {
        assert_eq!(
            Message::decode(&message.encode(ADDRESS)),
            Ok(message.clone()),
            "what was read is not what was written"
        );
        if let Message::Records { records, .. } = message {
            check_shares(begun, &records);
            check_source(begun, records);
        }
    }
    check_end(collector, begun + LONG);
    has_section(octets)
}

/// Whatever others say of a connection of ours, it is told as ours, and ends when it does.
fn check_shares(begun: Instant, records: &[Record]) {
    let now = Now { instant: begun, wall_micros: 7 };
    let mut ledger = Ledger::new("5LMxA", 0);
    ledger.watch(true);
    let key = ledger.accepted(now, &SOURCE.into(), ([127, 0, 0, 1], 1).into(), None);
    let identity = Arc::clone(ledger.identity(key).expect("accepted above"));
    for record in records {
        let mut share = record.clone();
        share.identity = Arc::clone(&identity);
        ledger.recv_share(&share);
        let _ = ledger.connecting(&record.identity, "", &SOURCE.into());
    }
    ledger.closed(key, now);
    let told = ledger.harvest(Now { instant: begun + LONG, ..now }, false).flows;
    let ours: Vec<_> = told.iter().filter(|record| record.identity == identity).collect();
    assert_eq!(ours.len(), 1);
    assert_eq!((ours[0].parent(), ours[0].number(Attribute::EndTime)), (Some(SOURCE), Some(7)));
}

/// A source with these records tells them as they are.
fn check_source(begun: Instant, records: Vec<Record>) {
    let now = Now { instant: begun, wall_micros: 0 };
    let mut source = Source::new(SOURCE);
    let mut living: Vec<_> = records.into_iter().filter(|record| !record.has_ended()).collect();
    living.iter().for_each(|record| source.insert(now, record.clone()));
    source.set_audience(now, Audience::Own, 1);
    while let Some(outgoing) = source.poll_output() {
        let Ok(Message::Records { records: told, .. }) = Message::decode(&outgoing.message) else { continue };
        for told in told {
            let known =
                living.iter().rposition(|record| record.identity == told.identity).expect("told of what is not");
            assert!(living[known].attributes().all(|known| told.attributes().any(|told| told == known)));
            let identity = Arc::clone(&told.identity);
            living.retain(|record| record.identity != identity);
        }
    }
    assert!(living.is_empty(), "not told of {living:?}");
}

/// After a long silence a collector knows nothing and consumes the addresses that all share.
fn check_end(mut collector: Collector, end: Instant) {
    collector.handle_timeout(end);
    assert_eq!((collector.sources(), collector.records().count(), collector.poll_timeout()), (0, 0, None));
    let mut subscribed = Vec::new();
    while let Some(output) = collector.poll_output() {
        match output {
            Output::Subscribe(address) => subscribed.push(address),
            Output::Unsubscribe(address) => subscribed.retain(|it| *it != address),
            Output::Send(_) | Output::Changed => {}
        }
    }
    assert_eq!(subscribed, [BEACONS.into(), SHARED.into()]);
}
