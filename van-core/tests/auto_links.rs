//! Links that a router attaches by itself, as its control plane sees them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use van_core::amqp::Condition;
use van_core::management::config::Configuration;
use van_core::plane::{ConnectionId, ConnectionRef, EndpointId, Key, PeerKind, Purpose, Report, ShardId};
use van_core::router::{
    Announcement, AutoLink, AutoLinkStatus, Candidate, Core, Dialled, Distribution, Identity, Origin, Output,
};
use van_routing::{RouterId, Timing};

/// A router with one link, out of `q`, to any program of the listener `programs`.
struct Router {
    core: Core,
    now: Instant,
    endpoints: u64,
}

impl Router {
    #[allow(clippy::disallowed_methods)] // any instant will do
    fn new() -> Self {
        let now = Instant::now();
        let identity = Identity { id: RouterId::new("ours").expect("an id"), instance: 1, shards: 1, mesh: None };
        let mut core = Core::new(identity, Timing::default(), Distribution::default(), now);
        let link = AutoLink {
            address: Some(Arc::from("q")),
            is_out: true,
            container: None,
            connection: Some("programs".into()),
            external_address: None,
        };
        core.add_auto_link(now, "out", link);
        Self { core, now, endpoints: 0 }
    }

    /// A program connects.
    fn program(&mut self, container: &str) -> ConnectionId {
        let announcement = announcement(container, PeerKind::Client);
        let mut candidate = Candidate::new(announcement, Origin::Accepted, 1);
        candidate.program_of = Some("programs".into());
        self.core.admit(self.now, candidate).expect("a program").id
    }

    /// The link that is asked for now: where, and by which number.
    fn asked(&mut self) -> Option<(ConnectionRef, u64)> {
        let mut asked = None;
        while let Some(output) = self.core.poll_output() {
            if let Output::AttachLink { on, link } = output {
                assert_eq!(asked.replace((on, link.label)), None, "one at a time");
            }
        }
        asked
    }

    fn attached(&mut self, (on, label): (ConnectionRef, u64)) -> EndpointId {
        self.endpoints += 1;
        let endpoint = EndpointId { at: on, key: Key::from_bits(self.endpoints) };
        self.core.handle_report(self.now, Report::LinkAttached { label, endpoint });
        endpoint
    }

    /// A connection is lost, as a shard tells it: first the connection, then its links.
    fn lost(&mut self, connection: ConnectionId, endpoint: EndpointId) {
        self.core.handle_report(self.now, Report::ConnectionLost { connection, reason: None });
        self.core.handle_report(self.now, Report::LinkLost { endpoint, reason: None });
    }

    fn status(&self) -> &AutoLinkStatus {
        self.core.auto_link_status("out").expect("it is there")
    }
}

fn announcement(container: &str, peer: PeerKind) -> Announcement {
    Announcement {
        container: container.into(),
        product: String::new(),
        cost: 1,
        purpose: Purpose::Links(peer),
        correlator: None,
        ordinal: 0,
        access: None,
        has_trunking: false,
        failover: None,
    }
}

#[test]
fn a_link_that_went_with_its_connection_waits_for_the_next_without_rest() {
    let mut router = Router::new();
    assert_eq!((router.asked(), router.status()), (None, &AutoLinkStatus::Inactive));
    let first = router.program("first");
    let asked = router.asked().expect("asked for");
    assert_eq!(router.status(), &AutoLinkStatus::Attaching);
    let endpoint = router.attached(asked);
    assert_eq!((router.status(), router.core.auto_link_endpoint("out")), (&AutoLinkStatus::Active, Some(endpoint)));
    assert!(router.core.routes().addresses.contains_key("q"));
    router.lost(first, endpoint);
    assert_eq!((router.status(), router.core.auto_link_endpoint("out")), (&AutoLinkStatus::Inactive, None));
    assert!(!router.core.routes().addresses.contains_key("q"));
    let second = router.program("second");
    assert_eq!(router.asked().expect("asked for at once").0.id, second);
}

/// The shard tells of the link only after another connection was found for it.
#[test]
fn a_link_that_is_asked_for_elsewhere_already_does_not_fail_with_the_former_one() {
    let mut router = Router::new();
    let [first, second] = ["first", "second"].map(|name| router.program(name));
    let asked = router.asked().expect("asked for");
    assert_eq!(asked.0.id, first);
    let endpoint = router.attached(asked);
    router.lost(first, endpoint);
    let asked = router.asked().expect("asked for elsewhere");
    assert_eq!((asked.0.id, router.status()), (second, &AutoLinkStatus::Attaching));
    router.attached(asked);
    assert_eq!(router.status(), &AutoLinkStatus::Active);
}

#[test]
fn a_link_that_is_refused_says_why_and_is_asked_for_again_after_a_rest() {
    let mut router = Router::new();
    let program = router.program("first");
    let (_, label) = router.asked().expect("asked for");
    let reason = Some(Condition::new("amqp:not-found", "no such queue"));
    router.core.handle_report(router.now, Report::LinkRefused { label, reason });
    assert_eq!(router.status(), &AutoLinkStatus::Failed("amqp:not-found: no such queue".into()));
    assert_eq!(router.asked(), None);
    router.now += Duration::from_secs(5);
    router.core.handle_timeout(router.now);
    assert_eq!(router.asked().map(|(on, _)| on.id), Some(program));
}

#[test]
fn a_link_that_was_refused_and_whose_program_has_gone_makes_nothing_due_and_waits_for_the_next() {
    let mut router = Router::new();
    let program = router.program("first");
    let (_, label) = router.asked().expect("asked for");
    router.core.handle_report(router.now, Report::LinkRefused { label, reason: None });
    router.core.handle_report(router.now, Report::ConnectionLost { connection: program, reason: None });
    router.now += Duration::from_secs(5);
    router.core.handle_timeout(router.now);
    assert!(router.core.poll_timeout().is_none_or(|due| due > router.now), "it would be due again and again");
    assert_eq!(router.status(), &AutoLinkStatus::Inactive);
    let next = router.program("second");
    assert_eq!(router.asked().map(|(on, _)| on.id), Some(next));
}

#[test]
fn one_in_the_configuration_is_taken_without_a_warning() {
    let file = r#"[["router", {"id": "a", "mode": "interior"}],
        ["autoLink", {"name": "in", "address": "q", "direction": "in", "containerId": "broker"}]]"#;
    let configuration = Configuration::parse(file, |_| None).expect("a configuration");
    assert_eq!(configuration.auto_links.len(), 1);
    assert!(configuration.warnings.is_empty(), "{:?}", configuration.warnings);
}

#[test]
fn a_link_that_is_taken_back_before_the_peer_has_answered_is_detached_then() {
    let mut router = Router::new();
    router.program("first");
    let asked = router.asked().expect("asked for");
    router.core.remove_auto_link(router.now, "out");
    let endpoint = router.attached(asked);
    let detached = std::iter::from_fn(|| router.core.poll_output())
        .any(|output| matches!(output, Output::DetachLink { endpoint: of } if of == endpoint));
    assert!(detached && !router.core.routes().addresses.contains_key("q"));
}

/// The peer's address of a link that is asked for, and its number.
type Asked = (Option<Arc<str>>, u64);

/// An edge router with a connection to an interior one, and the links that it asks for.
fn edge() -> (Core, Instant, Vec<Asked>) {
    let Router { now, .. } = Router::new();
    let mesh = Some("mesh".to_owned());
    let identity = Identity { id: RouterId::new("ours").expect("an id"), instance: 1, shards: 1, mesh };
    let mut core = Core::new(identity, Timing::default(), Distribution::default(), now);
    core.add_connector(now, van_core::plane::ConnectorId(1), &Arc::from("backend"));
    let purpose = Purpose::Links(PeerKind::Interior);
    let dialled = Dialled { correlator: "correlator".into(), ordinal: None, purpose };
    let announcement = announcement("interior", PeerKind::Interior);
    core.admit(now, Candidate::new(announcement, Origin::Dialled(dialled), 1)).expect("an uplink");
    let asked = asked_by(&mut core);
    (core, now, asked)
}

fn asked_by(core: &mut Core) -> Vec<Asked> {
    let outputs = std::iter::from_fn(|| core.poll_output());
    let links =
        outputs.filter_map(|output| if let Output::AttachLink { link, .. } = output { Some(link) } else { None });
    links.map(|link| (link.peer_address, link.label)).collect()
}

#[test]
fn an_address_that_the_interior_router_refuses_is_asked_for_again_after_a_rest() {
    let (mut core, now, asked) = edge();
    let (address, label) = asked.last().expect("asked for").clone();
    assert_eq!(address.as_deref(), Some("backend"));
    core.handle_report(now, Report::LinkRefused { label, reason: None });
    let end = now + Duration::from_secs(5);
    while let Some(due) = core.poll_timeout().filter(|due| *due < end) {
        core.handle_timeout(due);
        assert_eq!(asked_by(&mut core), []);
    }
    assert_eq!(core.poll_timeout(), Some(end));
    core.handle_timeout(end);
    assert_eq!(asked_by(&mut core)[0].0.as_deref(), Some("backend"));
}

#[test]
fn a_connection_whose_interior_router_refuses_a_link_that_every_uplink_needs_is_closed() {
    let (mut core, now, asked) = edge();
    let (_, label) = asked.iter().find(|(address, _)| address.as_deref() == Some("ours")).expect("the downlink");
    core.handle_report(now, Report::LinkRefused { label: *label, reason: Some(Condition::bare("x")) });
    let closed = std::iter::from_fn(|| core.poll_output()).any(|output| matches!(output, Output::Close { .. }));
    assert!(closed);
}

#[test]
fn what_is_told_of_an_address_before_the_link_to_it_is_answered_counts() {
    let (mut core, now, mut asked) = edge();
    core.watch(&Arc::from("q"));
    asked.extend(asked_by(&mut core));
    let label = |address: &str| asked.iter().find(|(it, _)| it.as_deref() == Some(address)).expect("asked for").1;
    let at = ConnectionRef { id: ConnectionId(1), shard: ShardId(0) };
    let [tracking, sender] = [1, 2].map(|n| EndpointId { at, key: Key::from_bits(n) });
    core.handle_report(now, Report::LinkAttached { label: label("_$qd.edge_addr_tracking"), endpoint: tracking });
    let message = Bytes::from_static(b"\x00\x53\x77\xc0\x06\x02\xa1\x02Mq\x41");
    core.handle_report(now, Report::LinkMessage { endpoint: tracking, message });
    assert!(!core.routes().is_reachable("q"));
    core.handle_report(now, Report::LinkAttached { label: label("q"), endpoint: sender });
    assert!(core.routes().is_reachable("q"));
}
