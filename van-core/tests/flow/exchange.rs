//! Who says what when, and what remains known.

use std::time::Duration;

use van_core::flow::{
    Attribute, Audience, Collector, MAX_RECORDS_HELD, MAX_RECORDS_PER_SOURCE, MAX_SOURCES, Message, Now, Outgoing,
    Output, Record, RecordType, Source, SourceType,
};

use super::world::{BEGUN_MICROS, World};

const SECOND: Duration = Duration::from_secs(1);

fn records(outgoing: &Outgoing) -> Option<Vec<Record>> {
    match Message::decode(&outgoing.message).expect("our own") {
        Message::Records { records, .. } => Some(records),
        _ => None,
    }
}

/// The last message of records that was sent, and what it says.
fn last(world: &World) -> (Outgoing, Vec<Record>) {
    let mut sent = world.sent.iter().rev().map(|(_, outgoing)| outgoing);
    sent.find_map(|outgoing| records(outgoing).map(|records| (outgoing.clone(), records))).expect("records")
}

#[test]
fn a_source_is_known_at_once_and_a_change_within_30_ms() {
    let mut world = World::of_one("aaaaa:0");
    assert_eq!(world.sent[0].0, Duration::ZERO);
    assert_eq!(world.known("aaaaa:0").and_then(Record::router_id), Some("west"));
    world.listener("aaaaa:1");
    world.run(Duration::from_millis(30));
    let listener = world.known("aaaaa:1").unwrap();
    assert_eq!(listener.number(Attribute::StartTime), Some(BEGUN_MICROS + 1_000_000));
    let now = world.now();
    world.sources[0].patch(now, &Record::new(RecordType::Listener, "aaaaa:1").with(Attribute::FlowCountL4, 7));
    world.run(Duration::from_millis(30));
    assert_eq!(world.known("aaaaa:1").unwrap().number(Attribute::FlowCountL4), Some(7));
    assert_eq!(last(&world).1[0].attributes().count(), 1, "only what changed");
}

#[test]
fn nobody_is_told_anything_while_nobody_listens() {
    let mut world = World::new();
    world.start("aaaaa:0", "west");
    world.listener("aaaaa:1");
    world.run(100 * SECOND);
    assert_eq!((world.sent.len(), world.sources[0].poll_timeout()), (0, None));
}

#[test]
fn a_late_collector_learns_everything_at_once() {
    let mut world = World::new();
    world.start("aaaaa:0", "west");
    (1..=60).for_each(|number| world.listener(&format!("aaaaa:{number}")));
    let now = world.now();
    world.sources[0].remove(now, "aaaaa:60");
    world.run(100 * SECOND);
    world.collector = Some(Collector::new());
    world.settle();
    assert_eq!(world.collector().records().count(), 60);
    let lengths: Vec<_> = world.sent.iter().filter_map(|(_, it)| records(it)).map(|it| it.len()).collect();
    assert_eq!(lengths, [50, 10]);
}

#[test]
fn beacons_come_every_10_s_and_heartbeats_every_2() {
    let mut world = World::of_one("aaaaa:0");
    world.run(99 * SECOND);
    let count = |is_it: fn(&Message) -> bool| {
        world.sent.iter().filter(|(_, it)| is_it(&Message::decode(&it.message).unwrap())).count()
    };
    assert_eq!(count(|it| matches!(it, Message::Beacon { .. })), 11, "the first twice");
    assert_eq!(count(|it| matches!(it, Message::Heartbeat { .. })), 51);
    assert_eq!(count(|it| matches!(it, Message::Records { .. })), 1, "unasked");
}

#[test]
fn all_that_a_source_says_at_first_may_be_lost() {
    let mut world = World::new();
    world.collector = Some(Collector::new());
    let mut beacons = 0;
    world.is_lost = Box::new(move |outgoing| {
        beacons += usize::from(&*outgoing.to == "mc/sfe.all");
        beacons <= 4
    });
    world.start("aaaaa:0", "west");
    world.run(29 * SECOND);
    assert_eq!(world.collector().sources(), 0);
    world.run(5 * SECOND);
    assert_eq!(world.collector().records().count(), 1);
}

#[test]
fn what_was_lost_is_asked_for_as_soon_as_it_shows() {
    let mut world = World::of_one("aaaaa:0");
    world.run(30 * SECOND);
    world.is_lost = Box::new(|_| true);
    world.listener("aaaaa:1");
    world.run(SECOND);
    world.is_lost = Box::new(|_| false);
    let now = world.now();
    world.sources[0].patch(now, &Record::new(RecordType::Listener, "aaaaa:1").with(Attribute::FlowCountL4, 7));
    world.run(SECOND);
    assert_eq!(world.known("aaaaa:1").unwrap().parent(), None);
    world.run(5 * SECOND);
    assert_eq!(world.known("aaaaa:1").unwrap().parent(), Some("aaaaa:0"));
}

#[test]
fn what_was_lost_and_does_not_show_is_asked_for_every_2_min() {
    let mut world = World::of_one("aaaaa:0");
    world.listener("aaaaa:1");
    world.run(SECOND);
    world.is_lost = Box::new(|outgoing| records(outgoing).is_some());
    world.listener("aaaaa:2");
    let now = world.now();
    world.sources[0].remove(now, "aaaaa:1");
    world.run(SECOND);
    world.is_lost = Box::new(|_| false);
    assert_eq!((world.known("aaaaa:1").is_some(), world.known("aaaaa:2").is_some()), (true, false));
    world.run(121 * SECOND);
    assert!(world.known("aaaaa:2").is_some());
    // What was not heard to end has ended when it is mentioned no more.
    world.run(250 * SECOND);
    assert_eq!((world.known("aaaaa:1"), world.collector().records().count()), (None, 2));
    assert!(world.asked < 6);
}

#[test]
fn a_silent_source_is_forgotten_after_30_s_and_no_earlier() {
    let mut world = World::of_one("aaaaa:0");
    world.listener("aaaaa:1");
    // The last heartbeat comes at 2 s.
    world.run(SECOND + SECOND / 2);
    world.sources.clear();
    world.run(29 * SECOND);
    assert_eq!(world.collector().records().count(), 2);
    let changes = world.changes;
    world.run(SECOND);
    assert_eq!((world.collector().records().count(), world.collector().sources()), (0, 0));
    assert_eq!(world.changes, changes + 1);
    assert_eq!(world.subscribed, ["mc/sfe.all".into(), "mc/sfe.van".into()].into());
    assert_eq!(world.collector().poll_timeout(), None);
}

#[test]
fn heartbeats_alone_keep_a_source() {
    let mut world = World::of_one("aaaaa:0");
    world.is_lost = Box::new(|it| !matches!(Message::decode(&it.message), Ok(Message::Heartbeat { .. })));
    world.run(100 * SECOND);
    assert_eq!(world.collector().sources(), 1);
}

#[test]
fn a_router_that_starts_anew_replaces_its_former_life() {
    let mut world = World::of_one("aaaaa:0");
    world.listener("aaaaa:1");
    world.run(5 * SECOND);
    world.sources.clear();
    world.start("bbbbb:0", "west");
    world.start("ccccc:0", "east");
    world.run(Duration::from_millis(30));
    let mut known: Vec<_> = world.collector().records().map(|record| &*record.identity).collect();
    known.sort_unstable();
    assert_eq!(known, ["bbbbb:0", "ccccc:0"]);
    assert_eq!(world.collector().sources(), 2);
}

#[test]
fn a_former_life_that_is_heard_of_late_is_not_believed() {
    let mut world = World::of_one("aaaaa:0");
    let former = Record::new(RecordType::Router, "old:0").with(Attribute::Name, "0/west").with(Attribute::StartTime, 5);
    let now = world.now();
    let mut source = Source::new("old:0");
    source.insert(now, former);
    world.sources.push(source);
    world.run(SECOND);
    assert_eq!((world.known("old:0"), world.known("aaaaa:0").is_some()), (None, true));
}

#[test]
fn a_router_that_cannot_be_reached_is_forgotten_when_told() {
    let mut world = World::of_one("aaaaa:0");
    world.start("bbbbb:0", "east");
    world.run(SECOND);
    let collector = world.collector.as_mut().unwrap();
    collector.handle_router_lost("north");
    assert_eq!(collector.sources(), 2);
    collector.handle_router_lost("west");
    assert_eq!((collector.get("aaaaa:0"), collector.get("bbbbb:0").is_some()), (None, true));
    assert_eq!(collector.poll_output(), Some(Output::Changed));
}

#[test]
fn what_ended_is_told_and_late_copies_do_not_bring_it_back() {
    let mut world = World::of_one("aaaaa:0");
    world.listener("aaaaa:1");
    world.run(SECOND);
    let (copy, records) = last(&world);
    assert!(records.iter().any(|record| &*record.identity == "aaaaa:1"));
    let now = world.now();
    world.sources[0].remove(now, "aaaaa:1");
    world.run(Duration::from_millis(30));
    assert_eq!(world.known("aaaaa:1"), None);
    assert!(last(&world).1[0].has_ended());
    let now = world.now().instant;
    world.collector.as_mut().unwrap().handle_message(now, &copy.to, &copy.message).unwrap();
    assert_eq!(world.known("aaaaa:1"), None);
    // The source is asked, and does not mention it.
    let asked = world.asked;
    world.run(10 * SECOND);
    assert_eq!((world.known("aaaaa:1"), world.asked), (None, asked + 1));
}

#[test]
fn what_comes_back_under_its_old_identity_is_known_again() {
    let mut world = World::of_one("aaaaa:0");
    world.listener("pod");
    world.run(SECOND);
    let now = world.now();
    world.sources[0].remove(now, "pod");
    world.run(SECOND);
    world.listener("pod");
    world.run(10 * SECOND);
    assert!(world.known("pod").is_some());
}

#[test]
fn a_router_that_stops_says_so_at_once() {
    let mut world = World::of_one("aaaaa:0");
    world.listener("aaaaa:1");
    let now = world.now();
    world.sources[0].end(now);
    world.settle();
    assert_eq!(world.collector().records().count(), 0);
}

#[test]
fn many_who_ask_get_one_answer_a_second() {
    let mut world = World::of_one("aaaaa:0");
    world.run(5 * SECOND);
    let before = world.sent.len();
    for _ in 0..300 {
        let now = world.now();
        world.sources[0].handle_flush(now);
        world.run(SECOND / 100);
    }
    let answers = world.sent[before..].iter().filter(|(_, it)| records(it).is_some()).count();
    assert!((3..=4).contains(&answers), "{answers}");
}

#[test]
fn who_asks_without_listening_gets_no_answer() {
    let mut world = World::new();
    let now = world.now();
    world.start("aaaaa:0", "west").handle_flush(now);
    assert_eq!(world.sources[0].poll_timeout(), None);
}

#[test]
fn an_audience_that_leaves_ends_everything_that_was_due() {
    let mut world = World::of_one("aaaaa:0");
    world.listener("aaaaa:1");
    let now = world.now();
    let source = &mut world.sources[0];
    source.remove(now, "aaaaa:1");
    source.handle_flush(now);
    source.set_audience(now, Audience::Shared, 0);
    source.set_audience(now, Audience::Beacons, 0);
    assert_eq!((source.poll_timeout(), source.poll_output()), (None, None));
}

#[test]
fn a_controller_is_heard_at_its_address_of_heartbeats_too() {
    let now = World::new().now().instant;
    let mut collector = Collector::new();
    let beacon = Message::Beacon { source_type: SourceType::Controller, source: "uid".into(), is_shared: false }
        .encode("mc/sfe.all");
    collector.handle_message(now, "mc/sfe.all", &beacon).unwrap();
    let subscribed: Vec<_> = std::iter::from_fn(|| collector.poll_output()).collect();
    let expected = ["mc/sfe.all", "mc/sfe.van", "mc/sfe.uid", "mc/sfe.uid.heartbeats"];
    assert_eq!(subscribed, expected.map(|address| Output::Subscribe(address.into())));
    let heartbeat = Message::Heartbeat { source: "uid".into(), wall_micros: 1 }.encode("mc/sfe.uid");
    collector.handle_message(now + 29 * SECOND, "mc/sfe.uid.heartbeats", &heartbeat).unwrap();
    collector.handle_timeout(now + 58 * SECOND);
    assert_eq!(collector.sources(), 1);
}

#[test]
fn sources_of_ours_are_heard_at_one_address() {
    let mut world = World::of_one("aaaaa:0");
    world.start("bbbbb:0", "east");
    world.run(50 * SECOND);
    assert_eq!((world.collector().sources(), world.collector().records().count()), (2, 2));
    assert_eq!(world.subscribed, ["mc/sfe.all".into(), "mc/sfe.van".into()].into());
}

#[test]
fn who_listens_to_one_source_only_is_told_at_its_address_as_before() {
    let now = World::new().now();
    let mut source = Source::new("aaaaa:0");
    source.insert(now, Record::new(RecordType::Router, "aaaaa:0"));
    source.set_audience(now, Audience::Own, 1);
    let told =
        |source: &mut Source| -> Vec<_> { std::iter::from_fn(|| source.poll_output()).map(|it| it.to).collect() };
    assert_eq!(told(&mut source), ["mc/sfe.aaaaa:0".into(), "mc/sfe.aaaaa:0".into()], "that it lives, and what it is");
    source.patch(now, &Record::new(RecordType::Router, "aaaaa:0").with(Attribute::Name, "0/west"));
    source.set_audience(now, Audience::Shared, 1);
    let later = Now { instant: now.instant + SECOND, ..now };
    source.handle_timeout(later);
    assert_eq!(told(&mut source), ["mc/sfe.aaaaa:0".into(), "mc/sfe.van".into()]);
}

#[test]
fn a_source_that_is_not_shared_is_forgotten_with_its_address() {
    let now = World::new().now().instant;
    let mut collector = Collector::new();
    let beacon = Message::Beacon { source_type: SourceType::Router, source: "s:0".into(), is_shared: false };
    collector.handle_message(now, "mc/sfe.all", &beacon.encode("mc/sfe.all")).unwrap();
    while collector.poll_output().is_some() {}
    collector.handle_timeout(now + 30 * SECOND);
    assert_eq!(collector.poll_output(), Some(Output::Unsubscribe("mc/sfe.s:0".into())));
}

#[test]
fn what_is_too_much_is_counted() {
    let now = World::new().now().instant;
    let mut collector = Collector::new();
    for number in 0..MAX_SOURCES + 2 {
        let source = format!("s{number}:0").into();
        let beacon = Message::Beacon { source_type: SourceType::Router, source, is_shared: false }.encode("mc/sfe.all");
        collector.handle_message(now, "mc/sfe.all", &beacon).unwrap();
    }
    assert_eq!((collector.sources(), collector.dropped()), (MAX_SOURCES, 2));
    for batch in 0..=MAX_RECORDS_PER_SOURCE / 1000 {
        let records = (0..1000).map(|number| Record::new(RecordType::Listener, format!("x:{batch}:{number}")));
        let message = Message::Records { source: None, records: records.collect() }.encode("mc/sfe.s0:0");
        collector.handle_message(now, "mc/sfe.s0:0", &message).unwrap();
    }
    assert_eq!(collector.records().count(), MAX_RECORDS_PER_SOURCE);
    assert_eq!(collector.dropped(), 2 + (33_000 - MAX_RECORDS_PER_SOURCE as u64));
}

#[test]
fn records_of_all_sources_together_are_bounded_and_make_room_when_they_go() {
    let now = World::new().now().instant;
    let mut collector = Collector::new();
    let tell = |collector: &mut Collector, now, number, count| {
        let id = format!("s{number}:0");
        let beacon = Message::Beacon { source_type: SourceType::Router, source: id.as_str().into(), is_shared: false };
        collector.handle_message(now, "mc/sfe.all", &beacon.encode("mc/sfe.all")).unwrap();
        let records = (0..count).map(|number| Record::new(RecordType::Listener, format!("{id}:{number}")));
        let address = format!("mc/sfe.{id}");
        for records in records.collect::<Vec<_>>().chunks(1000) {
            let message = Message::Records { source: None, records: records.to_vec() }.encode(&address);
            collector.handle_message(now, &address, &message).unwrap();
        }
    };
    let full = MAX_RECORDS_HELD / MAX_RECORDS_PER_SOURCE;
    (0..full).for_each(|number| tell(&mut collector, now, number, MAX_RECORDS_PER_SOURCE));
    assert_eq!((collector.records().count(), collector.dropped()), (MAX_RECORDS_HELD, 0));
    let later = now + 20 * SECOND;
    tell(&mut collector, later, full, 3);
    assert_eq!((collector.records().count(), collector.dropped()), (MAX_RECORDS_HELD, 3));
    collector.handle_timeout(now + 30 * SECOND);
    tell(&mut collector, later, full, 3);
    assert_eq!((collector.records().count(), collector.dropped()), (3, 3));
}

#[test]
fn a_site_that_two_sources_state_lives_as_long_as_one_of_them() {
    let mut world = World::of_one("aaaaa:0");
    world.start("bbbbb:0", "west-2");
    let now = world.now();
    for source in &mut world.sources {
        source.insert(now, Record::new(RecordType::Site, "site").with(Attribute::Name, "west"));
    }
    world.run(SECOND);
    let now = world.now();
    world.sources[0].end(now);
    world.settle();
    assert_eq!(world.known("site").and_then(Record::name), Some("west"));
    world.sources.clear();
    world.run(31 * SECOND);
    assert_eq!(world.known("site"), None);
}
