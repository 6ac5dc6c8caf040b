//! The connections of a shard: told once, whole, and only to those who listen.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use van_core::flow::{Attribute, Datum, Harvest, Ledger, Now, Record, RecordType, shard_of};
use van_core::observe::Protocol;
use van_core::plane::Key;

const GET: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

/// A ledger, and the time.
struct Shard {
    ledger: Ledger,
    now: Now,
}

impl Shard {
    fn new(is_watched: bool) -> Self {
        let mut ledger = Ledger::new("aB3dE", 2);
        ledger.watch(is_watched);
        Self { ledger, now: Now { instant: Instant::now(), wall_micros: 1_000_000 } }
    }

    fn pass(&mut self, time: Duration) {
        self.now.instant += time;
        self.now.wall_micros += time.as_micros() as u64;
    }

    fn accept(&mut self) -> (Key, Arc<str>) {
        let client: SocketAddr = "192.0.2.1:4711".parse().expect("an address");
        let key = self.ledger.accepted(self.now, &"aB3dE:3".into(), client, Some(Protocol::Auto));
        (key, Arc::clone(self.ledger.identity(key).expect("it is open")))
    }

    fn read(&mut self, key: Key, octets: &[u8]) {
        self.ledger.read(key, || self.now, octets);
    }

    fn write(&mut self, key: Key, octets: &[u8]) {
        self.ledger.writing(key, || self.now);
        self.ledger.written(key, || self.now, [octets].into_iter(), octets.len());
    }

    fn close(&mut self, key: Key) {
        self.ledger.closed(key, self.now);
    }

    fn harvest(&mut self) -> Harvest {
        self.ledger.harvest(self.now, false)
    }

    fn share(&mut self, identity: &str, attributes: &[(Attribute, Datum)]) {
        let share = Record::new(RecordType::TransportFlow, identity);
        let share = attributes.iter().fold(share, |share, (attribute, value)| share.with(*attribute, value.clone()));
        self.ledger.recv_share(&share);
    }
}

fn of(told: &[Record], kind: RecordType) -> Vec<&Record> {
    told.iter().filter(|record| record.kind == kind).collect()
}

#[test]
fn a_connection_is_told_with_what_both_ends_know() {
    let mut shard = Shard::new(true);
    let (key, identity) = shard.accept();
    shard.read(key, b"ask");
    shard.pass(Duration::from_micros(700));
    shard.write(key, b"answer");
    shard.close(key);
    assert!(shard.harvest().flows.is_empty(), "it waits for the other end");
    let said: [(Attribute, Datum); 2] =
        [(Attribute::Connector, "zzzzz:4".into()), (Attribute::ProcessLatency, 300.into())];
    shard.share(&identity, &said);
    shard.share(&identity, &[]);
    let told = shard.harvest().flows;
    let [record] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&record.identity, record.parent()), (&identity, Some("aB3dE:3")));
    let numbers = [
        (Attribute::StartTime, 1_000_000),
        (Attribute::EndTime, 1_000_700),
        (Attribute::Octets, 3),
        (Attribute::OctetsReverse, 6),
        (Attribute::Latency, 700),
        (Attribute::ProcessLatency, 300),
    ];
    numbers
        .iter()
        .for_each(|(attribute, number)| assert_eq!(record.number(*attribute), Some(*number), "{attribute:?}"));
    assert_eq!(record.text(Attribute::SourceHost), Some("192.0.2.1"));
    assert_eq!(record.text(Attribute::SourcePort), Some("4711"));
    assert_eq!(record.text(Attribute::Connector), Some("zzzzz:4"));
    assert!(shard.ledger.is_empty());
}

#[test]
fn one_who_refused_a_connection_does_not_have_the_last_word_about_it() {
    let mut shard = Shard::new(true);
    let (key, identity) = shard.accept();
    shard.share(
        &identity,
        &[(Attribute::Connector, "zzzzz:4".into()), (Attribute::ErrorConnectorSide, "refused".into())],
    );
    shard.share(&identity, &[]);
    shard.close(key);
    assert!(shard.harvest().flows.is_empty(), "it waits for who took it");
    shard.share(&identity, &[(Attribute::Connector, "zzzzz:5".into())]);
    shard.pass(Duration::from_secs(5));
    let told = shard.harvest().flows;
    assert_eq!(told[0].text(Attribute::Connector), Some("zzzzz:5"));
}

#[test]
fn the_other_end_is_waited_for_no_longer_than_5_s() {
    let mut shard = Shard::new(true);
    let (key, identity) = shard.accept();
    shard.close(key);
    shard.pass(Duration::from_millis(4999));
    assert!(shard.harvest().flows.is_empty());
    shard.pass(Duration::from_millis(1));
    assert_eq!(of(&shard.harvest().flows, RecordType::TransportFlow)[0].identity, identity);
    shard.share(&identity, &[(Attribute::Connector, "zzzzz:4".into())]);
    assert!(shard.harvest().flows.is_empty(), "it is over");
}

#[test]
fn an_end_at_a_workload_tells_its_share_and_that_it_was_all() {
    let mut shard = Shard::new(true);
    let connector: Arc<str> = "aB3dE:4".into();
    let key = shard.ledger.connecting("zzzzz:7", "0/west|0/hub", &connector).expect("an identity");
    shard.ledger.connected(key, "127.0.0.1:9".parse().expect("an address"));
    shard.write(key, b"ask");
    shard.pass(Duration::from_micros(40));
    shard.read(key, b"answer");
    let first = shard.harvest().shares;
    let expected = Record::new(RecordType::TransportFlow, "zzzzz:7")
        .with(Attribute::Connector, connector)
        .with(Attribute::Trace, "0/west|0/hub")
        .with(Attribute::ProxyHost, "127.0.0.1")
        .with(Attribute::ProxyPort, "9")
        .with(Attribute::ProcessLatency, 40);
    assert_eq!(first, [expected]);
    shard.close(key);
    assert_eq!(shard.harvest().shares, [Record::new(RecordType::TransportFlow, "zzzzz:7")]);
}

#[test]
fn a_workload_that_speaks_first_has_no_latency() {
    let mut shard = Shard::new(true);
    let (key, _) = shard.accept();
    shard.write(key, b"220 hello");
    shard.read(key, b"ask");
    shard.write(key, b"answer");
    assert_eq!(shard.harvest().flows[0].number(Attribute::Latency), None);
}

#[test]
fn nothing_is_kept_while_nobody_listens_but_who_begins_to_is_told_what_is_open() {
    let mut shard = Shard::new(false);
    let (closed, _) = shard.accept();
    let (open, identity) = shard.accept();
    shard.close(closed);
    shard.read(open, GET);
    shard.write(open, OK);
    shard.share(&identity, &[(Attribute::Connector, "zzzzz:4".into())]);
    shard.ledger.watch(true);
    let told = shard.harvest().flows;
    let [record] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&record.identity, record.text(Attribute::Connector)), (&identity, Some("zzzzz:4")));
    assert_eq!(record.number(Attribute::Octets), Some(GET.len() as u64));
    shard.ledger.watch(false);
    shard.close(open);
    assert!(shard.ledger.is_empty());
}

#[test]
fn octets_are_told_every_2_s_and_everything_to_those_who_ask() {
    let mut shard = Shard::new(true);
    let (key, _) = shard.accept();
    assert_eq!(shard.harvest().flows.len(), 1);
    shard.read(key, b"x");
    shard.pass(Duration::from_millis(1999));
    assert_eq!(shard.harvest().flows.len(), 0);
    shard.pass(Duration::from_millis(1));
    assert_eq!(shard.harvest().flows[0].number(Attribute::Octets), Some(1));
    shard.pass(Duration::from_secs(2));
    assert_eq!(shard.harvest().flows.len(), 0, "nothing is new");
    assert_eq!(shard.ledger.harvest(shard.now, true).flows.len(), 1);
}

#[test]
fn requests_are_told_when_they_are_over_and_those_that_take_long_before() {
    let mut shard = Shard::new(true);
    let (key, identity) = shard.accept();
    shard.harvest();
    shard.read(key, GET);
    shard.pass(Duration::from_secs(2));
    let told = shard.harvest().flows;
    let running = of(&told, RecordType::ApplicationFlow)[0].clone();
    assert_eq!((running.parent(), running.text(Attribute::Method)), (Some(&*identity), Some("GET")));
    assert!(!running.has_ended());
    shard.write(key, OK);
    let told = shard.harvest().flows;
    let over = of(&told, RecordType::ApplicationFlow)[0];
    assert_eq!((&over.identity, over.has_ended()), (&running.identity, true));
    assert_eq!((over.text(Attribute::Result), over.text(Attribute::Reason)), (Some("200"), Some("OK")));
    assert_eq!((over.number(Attribute::OctetsReverse), over.number(Attribute::Latency)), (Some(2), Some(2_000_000)));
}

#[test]
fn others_have_a_say_in_their_share_only_and_in_no_other_connection() {
    let mut shard = Shard::new(true);
    let (_, identity) = shard.accept();
    let forged: [(Attribute, Datum); 3] =
        [(Attribute::Octets, 9.into()), (Attribute::EndTime, 9.into()), (Attribute::Parent, "x".into())];
    shard.share(&identity, &forged);
    shard.share("aB3dE:1", &[(Attribute::Connector, "zzzzz:4".into())]);
    let told = shard.harvest().flows;
    assert_eq!(
        (told[0].has_ended(), told[0].parent(), told[0].number(Attribute::Octets)),
        (false, Some("aB3dE:3"), Some(0))
    );
}

#[test]
fn an_identity_says_its_shard_and_others_are_of_none() {
    let (_, identity) = Shard::new(true).accept();
    assert_eq!(shard_of(&identity), Some(2));
    assert_eq!(["aB3dE:0", "aB3dE:17", "aB3dE", "aB3dE:x", "aB3dE:99999999999999999999"].map(shard_of), [None; 5]);
    let mut shard = Shard::new(true);
    let identities = ["", "zzzzz", "zzzz:1", "zzzzz:", "zzzzz:x", "zzzzz:-1", "zzzzz:123456789012345678901"];
    for identity in identities {
        assert_eq!(shard.ledger.connecting(identity, "", &"aB3dE:4".into()), None, "{identity}");
    }
}

#[test]
fn what_is_not_fetched_is_dropped_and_counted() {
    let mut shard = Shard::new(true);
    let (key, _) = shard.accept();
    for _ in 0..32_770 {
        shard.read(key, GET);
        shard.write(key, OK);
    }
    assert_eq!(shard.ledger.dropped(), 2);
    assert_eq!(shard.harvest().flows.len(), 32_768);
    assert_eq!(shard.ledger.dropped(), 3, "the connection itself");
    assert_eq!(shard.ledger.given_up(), 0);
    shard.write(key, OK);
    assert_eq!(shard.ledger.given_up(), 1);
}

/// What happens to some connection.
#[derive(Debug, Clone)]
enum Step {
    Accept,
    Read(prop::sample::Index, usize),
    Write(prop::sample::Index, usize),
    Share(prop::sample::Index),
    Close(prop::sample::Index),
    Pass(u64),
    Harvest(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        Just(Step::Accept),
        (index(), 1..100_usize).prop_map(|(which, octets)| Step::Read(which, octets)),
        (index(), 1..100_usize).prop_map(|(which, octets)| Step::Write(which, octets)),
        index().prop_map(Step::Share),
        index().prop_map(Step::Close),
        (0..3000_u64).prop_map(Step::Pass),
        any::<bool>().prop_map(Step::Harvest),
    ]
}

proptest! {
    /// Who merges what is told knows every connection, its octets and its end.
    #[test]
    fn what_is_told_is_what_happened(steps in vec(step(), 0..80)) {
        let mut shard = Shard::new(true);
        let mut open: Vec<(Key, Arc<str>)> = Vec::new();
        let mut expected: BTreeMap<Arc<str>, (u64, u64)> = BTreeMap::new();
        let mut known: BTreeMap<Arc<str>, Record> = BTreeMap::new();
        let mut take = |harvest: Harvest| {
            for told in of(&harvest.flows, RecordType::TransportFlow) {
                let record = known.entry(Arc::clone(&told.identity)).or_insert_with(|| told.clone());
                assert!(!record.has_ended() || record == told, "told behind its end");
                record.apply(told);
            }
        };
        for step in steps {
            match step {
                Step::Accept => {
                    let (key, identity) = shard.accept();
                    expected.insert(Arc::clone(&identity), (0, 0));
                    open.push((key, identity));
                }
                Step::Pass(millis) => shard.pass(Duration::from_millis(millis)),
                Step::Harvest(is_full) => take(shard.ledger.harvest(shard.now, is_full)),
                _ if open.is_empty() => {}
                Step::Read(which, octets) => {
                    let (key, identity) = which.get(&open).clone();
                    shard.read(key, &vec![0; octets]);
                    expected.get_mut(&identity).expect("accepted").0 += octets as u64;
                }
                Step::Write(which, octets) => {
                    let (key, identity) = which.get(&open).clone();
                    shard.write(key, &vec![0; octets]);
                    expected.get_mut(&identity).expect("accepted").1 += octets as u64;
                }
                Step::Share(which) => shard.share(&which.get(&open).1.clone(), &[]),
                Step::Close(which) => {
                    let (key, _) = open.swap_remove(which.index(open.len()));
                    shard.close(key);
                }
            }
        }
        open.iter().for_each(|(key, _)| shard.close(*key));
        shard.pass(Duration::from_secs(5));
        take(shard.harvest());
        prop_assert!(shard.ledger.is_empty());
        let told = known.values().map(|record| {
            let octets = |attribute| record.number(attribute).expect("it is told");
            assert!(record.has_ended());
            (Arc::clone(&record.identity), (octets(Attribute::Octets), octets(Attribute::OctetsReverse)))
        });
        prop_assert_eq!(told.collect::<BTreeMap<_, _>>(), expected);
    }
}
