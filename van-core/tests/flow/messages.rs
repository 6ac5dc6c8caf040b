//! What is written and read: examples octet by octet, recordings of a skupper-router, and anything at all.

use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use van_core::amqp::{Encode, Value};
use van_core::annotations::Annotations;
use van_core::flow::{
    Attribute, Class, Datum, MAX_IDENTITY_BYTES, MAX_MESSAGE_BYTES, MAX_RECORDS, MalformedMessage, Message, Record,
    RecordType, SourceType,
};

/// Of an edge router with a link, a listener and a connector.
const RECORDED_RECORDS: &str = "\
    005373d00000001f00000004550140a10e6d632f7366652e354c4d78413a30a1065245434f5244005377d00000018c00000004d100000035\
    0000000c4352015201a107354c4d78413a30520380000660c4325a5340520da10465646765521ea103302f455220a105302e302e30d10000\
    0088000000204352025201a107354c4d78413a315202a107354c4d78413a30520380000660c4325a9d405206a1074e2b775a543a325210a1\
    04616d71705212a1053237303032521780000000000000011d521ea104746f2d61522153015235a10275705236a104656467655237800006\
    60c4325acb41523944523a8000000000000003345243a1026e6fd100000059000000144352045201a107354c4d78413a325202a107354c4d\
    78413a30520380000660c4325aa0ac520fa1093132372e302e302e315210a1037463705212a10532363031315213a1046563686f521ea104\
    6563686f52285301d10000005e000000144352055201a107354c4d78413a335202a107354c4d78413a30520380000660c4325aa71e520fa1\
    093132372e302e302e315210a1037463705212a10532363032305213a10765646765737663521ea10765646765737663522844";

const RECORDED_BEACON: &str = "\
    005373d00000001b00000004550040a10a6d632f7366652e616c6ca106424541434f4e005374d1000000580000000aa301765201a30a736f\
    7572636554797065a106524f55544552a3026964a1074e2b775a543a30a30761646472657373a10e6d632f7366652e4e2b775a543a30a306\
    646972656374a10b7366652e4e2b775a543a3000537740";

const RECORDED_HEARTBEAT: &str = "\
    005373d00000002200000004550340a10e6d632f7366652e354c4d78413a30a109484541525442454154005374d10000002400000006a301\
    765201a3036e6f7780000660c4335a2715a3026964a107354c4d78413a3000537740";

const RECORDED_FLUSH: &str = "00537045005373c00b04404040a105464c555348";

pub(crate) fn octets(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

#[track_caller]
fn check(hex: &str, expected: &Message) {
    assert_eq!(Message::decode(&octets(hex)).as_ref(), Ok(expected));
}

/// A message of records whose body is this value.
fn with_body(body: Value) -> Vec<u8> {
    let mut octets = octets("00 53 73 c0 0e 04 40 40 a1 01 61 a1 06 52 45 43 4f 52 44 00 53 77");
    body.encode(&mut octets);
    octets
}

#[track_caller]
fn records(body: Value) -> Vec<Record> {
    match Message::decode(&with_body(body)) {
        Ok(Message::Records { records, .. }) => records,
        other => panic!("{other:?}"),
    }
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn map<const N: usize>(pairs: [(Value, Value); N]) -> Value {
    Value::Map(pairs.to_vec())
}

fn a_link_that_went_down() -> Record {
    Record::new(RecordType::Link, "aB3dE:4")
        .with(Attribute::OperStatus, "down")
        .with(Attribute::DownCount, 3)
        .with(Attribute::DownTimestamp, 1_767_225_600_000_000)
}

const EXAMPLE_HEAD: &str = "00 53 73 c0 0e 04 40 40 a1 01 61 a1 06 52 45 43 4f 52 44";

#[test]
fn a_link_that_went_down_is_read() {
    let body = "00 53 77 c0 29 01 c1 26 0a 43 52 02 52 01 a1 07 61 42 33 64 45 3a 34 52 35 a1 04 64 6f 77 6e 52 39 53 03 \
        52 38 80 00 06 47 48 46 20 40 00";
    check(&[EXAMPLE_HEAD, body].concat(), &Message::Records { source: None, records: vec![a_link_that_went_down()] });
}

#[test]
fn a_link_that_went_down_is_written_in_the_order_of_codes() {
    let body = "00 53 77 c0 29 01 c1 26 0a 43 52 02 52 01 a1 07 61 42 33 64 45 3a 34 52 35 a1 04 64 6f 77 6e \
        52 38 80 00 06 47 48 46 20 40 00 52 39 53 03";
    let written = Message::Records { source: None, records: vec![a_link_that_went_down()] }.encode("a");
    assert_eq!(written, octets(&[EXAMPLE_HEAD, body].concat()));
}

#[test]
fn announcements_are_written_with_strings_and_uints() {
    let beacon =
        Message::Beacon { source_type: SourceType::Router, source: "S".into(), is_shared: false }.encode("mc/sfe.all");
    let expected = "00 53 73 c0 17 04 40 40 a1 0a 6d632f7366652e616c6c a1 06 424541434f4e \
        00 53 74 c1 43 0a a1 01 76 52 01 a1 0a 736f7572636554797065 a1 06 524f55544552 a1 02 6964 a1 01 53 \
        a1 07 61646472657373 a1 08 6d632f7366652e53 a1 06 646972656374 a1 05 7366652e53 00 53 77 40";
    assert_eq!(beacon, octets(expected));
    let heartbeat = Message::Heartbeat { source: "S".into(), wall_micros: 1 << 40 }.encode("a");
    let expected = "00 53 73 c0 11 04 40 40 a1 01 61 a1 09 484541525442454154 \
        00 53 74 c1 1b 06 a1 01 76 52 01 a1 03 6e6f77 80 00 00 01 00 00 00 00 00 a1 02 6964 a1 01 53 00 53 77 40";
    assert_eq!(heartbeat, octets(expected));
}

#[test]
fn recorded_messages_are_read() {
    check(
        RECORDED_BEACON,
        &Message::Beacon { source_type: SourceType::Router, source: "N+wZT:0".into(), is_shared: false },
    );
    let heartbeat = Message::Heartbeat { source: "5LMxA:0".into(), wall_micros: 1_795_245_651_666_709 };
    check(RECORDED_HEARTBEAT, &heartbeat);
    check(RECORDED_FLUSH, &Message::Flush);
    let Ok(Message::Records { records, .. }) = Message::decode(&octets(RECORDED_RECORDS)) else { panic!("no records") };
    let kinds: Vec<_> = records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [RecordType::Router, RecordType::Link, RecordType::Listener, RecordType::Connector]);
    assert_eq!((&*records[0].identity, records[0].router_id()), ("5LMxA:0", Some("E")));
    let link = &records[1];
    assert_eq!((link.parent(), link.name(), link.attributes().count()), (Some("5LMxA:0"), Some("to-a"), 14));
    assert_eq!(link.text(Attribute::Peer), Some("N+wZT:2"));
    assert_eq!(link.number(Attribute::UpTimestamp), Some(1_795_245_634_931_521));
    assert_eq!(records[3].number(Attribute::FlowCountL4), Some(0));
}

#[test]
fn router_annotations_may_stand_in_front() {
    let mut whole = Vec::new();
    Annotations::fresh(0).forward("0/east", &mut whole);
    whole.extend(octets(RECORDED_FLUSH));
    assert_eq!(Message::decode(&whole), Ok(Message::Flush));
}

#[test]
fn unknown_attributes_and_values_of_other_types_are_passed_over() {
    let read = records(Value::List(vec![map([
        (Value::Uint(0), Value::Ulong(2)),
        (Value::Ulong(1), Value::symbol("x:1")),
        (Value::Uint(30), text("name")),
        (Value::Uint(30_000), text("ours, some day")),
        (Value::Uint(33), text("not a number")),
        (Value::Uint(28), Value::List(vec![Value::Null])),
        (text("29"), text("a key that is none")),
        (Value::Uint(57), Value::Int(-1)),
        (Value::Uint(23), Value::Ulong(u64::MAX)),
        (Value::Uint(4), Value::Null),
    ])]));
    let expected = Record::new(RecordType::Link, "x:1").with(Attribute::Name, "name").with(Attribute::Octets, u64::MAX);
    assert_eq!(read, [expected]);
}

#[test]
fn a_record_that_is_none_does_not_harm_its_neighbours() {
    let (kind, identity) = ((Value::Uint(0), Value::Uint(1)), (Value::Uint(1), text("x:0")));
    let too_long = "x".repeat(MAX_IDENTITY_BYTES + 1);
    let read = records(Value::List(vec![
        map([(Value::Uint(0), Value::Uint(18)), identity.clone()]),
        map([kind.clone()]),
        Value::Null,
        map([identity.clone()]),
        map([kind.clone(), (Value::Uint(1), text(&too_long))]),
        map([kind, identity]),
    ]));
    assert_eq!(read, [Record::new(RecordType::Router, "x:0")]);
}

#[test]
fn endless_texts_are_cut_between_characters() {
    let long = "ä".repeat(400);
    let record = Record::new(RecordType::Site, "s").with(Attribute::Name, format!("x{long}").as_str());
    assert_eq!(record.name().map(str::len), Some(299));
    let record = record.with(Attribute::Trace, "a|".repeat(600).as_str());
    assert_eq!(record.text(Attribute::Trace).map(str::len), Some(1000));
    let read = records(Value::List(vec![map([
        (Value::Uint(0), Value::Uint(0)),
        (Value::Uint(1), text("s")),
        (Value::Uint(30), text(&long)),
    ])]));
    assert_eq!(read[0].name().map(str::len), Some(300));
}

#[test]
fn too_much_is_refused() {
    let one = map([(Value::Uint(0), Value::Uint(0)), (Value::Uint(1), text("s"))]);
    assert_eq!(records(Value::List(vec![one.clone(); MAX_RECORDS])).len(), MAX_RECORDS);
    let too_many = with_body(Value::List(vec![one; MAX_RECORDS + 1]));
    assert!(matches!(Message::decode(&too_many), Err(MalformedMessage::TooLong { .. })));
    let too_long = with_body(Value::Binary(vec![0; MAX_MESSAGE_BYTES]));
    assert!(matches!(Message::decode(&too_long), Err(MalformedMessage::TooLong { .. })));
}

#[test]
fn ids_that_are_others_addresses_are_refused() {
    for id in ["", "all", "x:0.heartbeats", &"x".repeat(MAX_IDENTITY_BYTES + 1)] {
        let message = Message::Beacon { source_type: SourceType::Router, source: id.into(), is_shared: false }
            .encode("mc/sfe.all");
        assert_eq!(Message::decode(&message), Err(MalformedMessage::Field("id")), "{id}");
    }
}

fn datum(attribute: Attribute) -> BoxedStrategy<Datum> {
    match attribute.class() {
        Class::Number => prop_oneof![Just(0), 0..300_u64, any::<u64>()].prop_map(Datum::from).boxed(),
        Class::Text => ".{0,40}".prop_map(|text| Datum::from(text.as_str())).boxed(),
    }
}

fn attribute() -> impl Strategy<Value = (Attribute, Datum)> {
    prop::sample::select(Attribute::ALL)
        .prop_flat_map(|attribute| datum(attribute).prop_map(move |value| (attribute, value)))
}

fn record() -> impl Strategy<Value = Record> {
    let kind = prop::sample::select(RecordType::ALL);
    (kind, "[ -~]{0,30}", vec(attribute(), 0..12)).prop_map(|(kind, identity, attributes)| {
        attributes
            .into_iter()
            .fold(Record::new(kind, identity), |record, (attribute, value)| record.with(attribute, value))
    })
}

fn message() -> impl Strategy<Value = Message> {
    let source_type = prop_oneof![Just(SourceType::Router), Just(SourceType::Controller)];
    prop_oneof![
        (source_type, "[a-z]{5}:0", any::<bool>()).prop_map(|(source_type, id, is_shared)| Message::Beacon {
            source_type,
            source: id.into(),
            is_shared
        }),
        ("[a-z]{5}:0", any::<u64>())
            .prop_map(|(id, wall_micros)| Message::Heartbeat { source: id.into(), wall_micros }),
        (option::of("[a-z]{5}:0".prop_map(Arc::from)), vec(record(), 0..60))
            .prop_map(|(source, records)| Message::Records { source, records }),
        Just(Message::Flush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_message_survives(message in message(), to in "[ -~]{0,300}") {
        prop_assert_eq!(Message::decode(&message.encode(&to)), Ok(message));
    }

    /// Keys uint, values ulong or string: a collector in Go drops all of a message for anything else.
    #[test]
    fn a_record_is_written_with_the_types_that_others_demand(record in record()) {
        let written = Message::Records { source: None, records: vec![record.clone()] }.encode("a");
        let body = written.windows(3).position(|it| it == [0, 0x53, 0x77]).expect("a body") + 3;
        let value: serde_amqp::Value = serde_amqp::from_slice(&written[body..]).expect("a value");
        let serde_amqp::Value::List(list) = value else { return Err(TestCaseError::fail("no list")) };
        let serde_amqp::Value::Map(map) = &list[0] else { return Err(TestCaseError::fail("no map")) };
        prop_assert_eq!(map.len(), record.attributes().count() + 2);
        for (key, value) in map.iter() {
            let serde_amqp::Value::Uint(key) = key else { return Err(TestCaseError::fail("no uint")) };
            let is_right = match (key, value) {
                (0, serde_amqp::Value::Uint(_)) | (1, serde_amqp::Value::String(_)) => true,
                (_, serde_amqp::Value::Ulong(_)) => Attribute::of((*key).into()).unwrap().class() == Class::Number,
                (_, serde_amqp::Value::String(_)) => Attribute::of((*key).into()).unwrap().class() == Class::Text,
                _ => false,
            };
            prop_assert!(is_right, "{}: {:?}", key, value);
        }
    }

    #[test]
    fn a_patch_and_what_it_changes_are_worth_the_same(
        whole in btree_map(0..8_u64, any::<bool>(), 0..8), patch in btree_map(0..8_u64, any::<bool>(), 0..8),
    ) {
        let of = |attributes: &std::collections::BTreeMap<u64, bool>| {
            attributes.iter().fold(Record::new(RecordType::Link, "x"), |record, (code, value)| {
                record.with(Attribute::of(code + 36).unwrap(), u64::from(*value))
            })
        };
        let (mut whole, patch) = (of(&whole), of(&patch));
        let mut other = whole.clone();
        let difference = whole.difference(&patch);
        prop_assert_eq!(whole.apply(&patch), difference.is_some());
        difference.iter().for_each(|difference| { other.apply(difference); });
        prop_assert_eq!(whole, other);
    }

    #[test]
    fn octets_of_any_kind_are_read_or_refused(octets in vec(any::<u8>(), 0..200), cut in 0..443_usize) {
        let _ = Message::decode(&octets);
        let mut recorded = self::octets(RECORDED_RECORDS);
        recorded.splice(cut..(cut + octets.len() / 8).min(443), octets.iter().copied().take(4));
        let _ = Message::decode(&recorded);
    }
}
