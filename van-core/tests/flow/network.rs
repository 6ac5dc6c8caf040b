//! Sites, links and services out of records.

use std::collections::BTreeSet;

use van_core::flow::{
    Attribute, Collector, Link, Message, NetworkView, Record, RecordType, Remote, Router, Service, Site, SourceType,
};

use super::messages::octets;
use super::world::World;

/// What is read from a collector that one source told these records, each in a message of its own.
fn view(records: &[Record]) -> NetworkView {
    let now = World::new().now().instant;
    let mut collector = Collector::new();
    let beacon = Message::Beacon { source_type: SourceType::Router, source: "s:0".into(), is_shared: false }
        .encode("mc/sfe.all");
    collector.handle_message(now, "mc/sfe.all", &beacon).expect("our own");
    for record in records {
        let message = Message::Records { source: None, records: vec![record.clone()] }.encode("mc/sfe.s:0");
        collector.handle_message(now, "mc/sfe.s:0", &message).expect("our own");
    }
    NetworkView::new(&collector)
}

fn site(name: &str) -> [Record; 2] {
    [
        Record::new(RecordType::Site, format!("id-{name}"))
            .with(Attribute::Name, name)
            .with(Attribute::Namespace, "ns")
            .with(Attribute::Platform, "linux")
            .with(Attribute::BuildVersion, "2.1"),
        Record::new(RecordType::Router, format!("{name}:0"))
            .with(Attribute::Parent, format!("id-{name}").as_str())
            .with(Attribute::Name, format!("0/{name}-1").as_str())
            .with(Attribute::BuildVersion, "3.4")
            .with(Attribute::Mode, "interior"),
    ]
}

fn child(kind: RecordType, identity: &str, name: &str) -> Record {
    let (router, _) = identity.split_once(':').expect("a router's");
    Record::new(kind, identity).with(Attribute::Parent, format!("{router}:0").as_str()).with(Attribute::Name, name)
}

fn link() -> Record {
    child(RecordType::Link, "west:1", "to-east")
        .with(Attribute::Role, "inter-router")
        .with(Attribute::LinkCost, 3)
        .with(Attribute::OperStatus, "up")
        .with(Attribute::Peer, "east:1")
}

/// West links to east, which has a connector for what west has a listener for.
fn two_sites() -> Vec<Record> {
    let mut records = [site("west"), site("east")].concat();
    records.extend([
        link(),
        child(RecordType::RouterAccess, "east:1", "access"),
        child(RecordType::Listener, "west:2", "front").with(Attribute::VanAddress, "backend:8080"),
        child(RecordType::Connector, "east:2", "back@host")
            .with(Attribute::VanAddress, "backend:8080")
            .with(Attribute::DestinationHost, "10.0.0.1"),
        child(RecordType::Connector, "east:3", "back@pod")
            .with(Attribute::VanAddress, "backend:8080")
            .with(Attribute::DestinationHost, "10.0.0.2")
            .with(Attribute::Process, "pod"),
        Record::new(RecordType::Process, "pod").with(Attribute::Name, "backend-7f"),
    ]);
    records
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[test]
fn two_linked_sites_look_as_their_records_say_in_whatever_order() {
    let service = |connectors, listeners| Service { key: "backend:8080".into(), connectors, listeners };
    let (router, version) =
        (|name: &str| Router { id: name.into(), mode: "interior".into(), version: "3.4".into() }, "2.1");
    let site = |name: &str| Site {
        id: format!("id-{name}"),
        name: name.into(),
        namespace: "ns".into(),
        platform: "linux".into(),
        version: version.into(),
        ..Site::default()
    };
    let link = Link {
        router: "west-1".into(),
        name: "to-east".into(),
        role: "inter-router".into(),
        cost: Some(3),
        is_operational: true,
        remote: Some(Remote { id: "id-east".into(), name: "east".into() }),
    };
    let west = Site {
        routers: vec![router("west-1")],
        links: vec![link.clone()],
        services: vec![service(names([]), names(["front"]))],
        ..site("west")
    };
    let services = vec![service(names(["10.0.0.1", "backend-7f"]), names([]))];
    let east = Site { routers: vec![router("east-1")], services, ..site("east") };
    let expected = NetworkView { sites: vec![east, west] };
    let mut records = two_sites();
    assert_eq!(view(&records), expected);
    records.reverse();
    assert_eq!(view(&records), expected);
    assert_eq!(expected.link("west-1", "to-east"), Some(&link));
    assert_eq!((expected.link("west-1", "other"), expected.link("east-1", "to-east")), (None, None));
    assert!(expected.has_connector("backend:8080") && expected.has_listener("backend:8080"));
    assert!(!expected.has_connector("backend") && !expected.has_listener("backend"));
}

#[test]
fn what_has_ended_is_not_there() {
    let mut records = two_sites();
    let end = |record: &Record| Record::new(record.kind, record.identity.clone()).with(Attribute::EndTime, 1);
    let ends: Vec<_> = records.iter().filter(|it| it.kind == RecordType::Connector).map(end).collect();
    records.extend(ends);
    let access = Record::new(RecordType::RouterAccess, "east:1").with(Attribute::EndTime, 1);
    records.push(access);
    let view = view(&records);
    assert!(!view.has_connector("backend:8080") && view.has_listener("backend:8080"));
    assert_eq!(view.link("west-1", "to-east").unwrap().remote, None);
}

#[test]
fn a_link_that_is_down_still_leads_somewhere() {
    let mut records = two_sites();
    records.push(Record::new(RecordType::Link, "west:1").with(Attribute::OperStatus, "down"));
    let view = view(&records);
    let link = view.link("west-1", "to-east").unwrap();
    assert!(!link.is_operational && link.remote.is_some());
}

/// Whatever is missing: what is left out is less, never wrong.
#[test]
fn what_is_incomplete_is_left_out() {
    let records = two_sites();
    let whole = view(&records);
    for missing in 0..records.len() {
        let mut rest = records.clone();
        let removed = rest.remove(missing);
        let part = view(&rest);
        assert!(part.sites.len() + usize::from(removed.kind == RecordType::Site) == whole.sites.len());
        for site in &part.sites {
            let full = whole.sites.iter().find(|full| full.id == site.id).unwrap();
            assert!(site.routers.iter().all(|router| full.routers.contains(router)));
            for link in &site.links {
                let full = full.links.iter().find(|full| full.name == link.name).unwrap();
                assert!(link.remote.is_none() || link == full);
            }
        }
    }
}

#[test]
fn records_that_point_in_circles_and_at_the_wrong_kind_are_left_out() {
    let mut records = two_sites();
    records.extend([
        Record::new(RecordType::Router, "loop:0").with(Attribute::Parent, "loop:0").with(Attribute::Name, "0/loop"),
        Record::new(RecordType::Listener, "loop:1").with(Attribute::Parent, "id-west").with(Attribute::VanAddress, "x"),
        Record::new(RecordType::Link, "loop:2").with(Attribute::Parent, "loop:2").with(Attribute::Peer, "loop:2"),
        Record::new(RecordType::Router, "bare:0").with(Attribute::Parent, "id-west").with(Attribute::Name, "bare"),
    ]);
    assert_eq!(view(&records), view(&two_sites()));
}

#[test]
fn a_recorded_edge_router_without_a_site_is_left_out() {
    let now = World::new().now().instant;
    let mut collector = Collector::new();
    let beacon = Message::Beacon { source_type: SourceType::Router, source: "5LMxA:0".into(), is_shared: false }
        .encode("mc/sfe.all");
    collector.handle_message(now, "mc/sfe.all", &beacon).unwrap();
    let change = "005373d00000001f00000004550240a10e6d632f7366652e354c4d78413a30a1065245434f5244005377d00000004800000002\
        d100000012000000044352015201a107354c4d78413a30d100000028000000084352025201a107354c4d78413a315217800000000000000\
        2d8523a800000000000000334";
    collector.handle_message(now, "mc/sfe.5LMxA:0", &octets(change)).unwrap();
    assert_eq!(collector.get("5LMxA:1").unwrap().number(Attribute::Octets), Some(728));
    assert_eq!(NetworkView::new(&collector), NetworkView::default());
}
