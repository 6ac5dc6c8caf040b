//! Records against a model of them, and a source against what a collector makes of it.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use van_core::flow::{Attribute, Collector, Message, Record, RecordType, SourceType};

use super::world::World;

/// Identities and attributes that changes choose from.
const IDENTITIES: [&str; 3] = ["s:0", "s:1", "s:2"];
const ATTRIBUTES: [Attribute; 3] = [Attribute::Octets, Attribute::StartTime, Attribute::EndTime];

#[derive(Debug, Clone)]
struct Patch {
    identity: usize,
    attributes: Vec<(usize, u64)>,
}

#[derive(Debug, Clone)]
enum Change {
    Insert(usize),
    Patch(usize, u64),
    Remove(usize),
    Flush,
    Wait(u64),
    Lose(bool),
}

fn patch() -> impl Strategy<Value = Patch> {
    // Few ends, or nothing else would be seen.
    let attribute = prop_oneof![8 => 0..2_usize, 1 => Just(2)];
    (0..IDENTITIES.len(), vec((attribute, 0..4_u64), 0..3))
        .prop_map(|(identity, attributes)| Patch { identity, attributes })
}

fn change() -> impl Strategy<Value = Change> {
    let place = 1..IDENTITIES.len();
    prop_oneof![
        place.clone().prop_map(Change::Insert),
        (place.clone(), any::<u64>()).prop_map(|(place, octets)| Change::Patch(place, octets)),
        place.prop_map(Change::Remove),
        Just(Change::Flush),
        (0..40_000_u64).prop_map(Change::Wait),
        any::<bool>().prop_map(Change::Lose),
    ]
}

/// What patches make of records: they add up until the end, which is final.
#[derive(Default)]
struct Model(BTreeMap<usize, BTreeMap<usize, u64>>);

impl Model {
    fn apply(&mut self, patch: &Patch) {
        let has_ended = |attributes: &BTreeMap<usize, u64>| attributes.contains_key(&2);
        let known = self.0.entry(patch.identity).or_default();
        let attributes: BTreeMap<_, _> = patch.attributes.iter().copied().collect();
        if !has_ended(known) || has_ended(&attributes) {
            known.extend(attributes);
        }
    }

    fn records(&self) -> Vec<Record> {
        let living = self.0.iter().filter(|(_, attributes)| !attributes.contains_key(&2));
        living
            .map(|(identity, attributes)| record(*identity, attributes.iter().map(|(place, value)| (*place, *value))))
            .collect()
    }
}

fn record(identity: usize, attributes: impl Iterator<Item = (usize, u64)>) -> Record {
    attributes.fold(Record::new(RecordType::Listener, IDENTITIES[identity]), |record, (place, value)| {
        record.with(ATTRIBUTES[place], value)
    })
}

fn living(collector: &Collector) -> Vec<Record> {
    collector.records().cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn records_are_the_sum_of_their_patches(messages in vec((vec(patch(), 1..4), 1..3_usize), 0..12)) {
        let now = World::new().now().instant;
        let (mut collector, mut model) = (Collector::new(), Model::default());
        let beacon = Message::Beacon { source_type: SourceType::Router, source: "s:0".into(), is_shared: false }.encode("mc/sfe.all");
        collector.handle_message(now, "mc/sfe.all", &beacon).unwrap();
        for (patches, copies) in messages {
            let records = patches.iter().map(|patch| record(patch.identity, patch.attributes.iter().copied()));
            let message = Message::Records { source: None, records: records.collect() }.encode("mc/sfe.s:0");
            for _ in 0..copies {
                collector.handle_message(now, "mc/sfe.s:0", &message).unwrap();
                patches.iter().for_each(|patch| model.apply(patch));
            }
        }
        prop_assert_eq!(living(&collector), model.records());
    }

    #[test]
    fn whatever_was_lost_a_collector_comes_to_know_what_a_source_has(changes in vec(change(), 0..40)) {
        let mut world = World::of_one("s:0");
        let mut model = BTreeMap::<usize, u64>::new();
        let listener = |place: usize, octets| {
            Record::new(RecordType::Listener, IDENTITIES[place]).with(Attribute::Octets, octets)
        };
        for change in changes {
            let now = world.now();
            match change {
                Change::Insert(place) => {
                    model.insert(place, 0);
                    world.sources[0].insert(now, listener(place, 0));
                }
                Change::Patch(place, octets) => {
                    model.entry(place).and_modify(|known| *known = octets);
                    world.sources[0].patch(now, &listener(place, octets));
                }
                Change::Remove(place) => {
                    model.remove(&place);
                    world.sources[0].remove(now, IDENTITIES[place]);
                }
                Change::Flush => world.sources[0].handle_flush(now),
                Change::Wait(millis) => world.run(Duration::from_millis(millis)),
                Change::Lose(is_lost) => world.is_lost = Box::new(move |_| is_lost),
            }
        }
        world.is_lost = Box::new(|_| false);
        world.run(Duration::from_secs(400));
        let octets = |record: &Record| (record.identity.to_string(), record.number(Attribute::Octets));
        let known: BTreeMap<_, _> = living(world.collector()).iter().map(octets).collect();
        let mut expected: BTreeMap<_, _> =
            model.into_iter().map(|(place, octets)| (IDENTITIES[place].to_owned(), Some(octets))).collect();
        expected.insert("s:0".to_owned(), None);
        prop_assert_eq!(known, expected);
    }
}
