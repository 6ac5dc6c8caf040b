//! What becomes of documents, derived from facts.

use jiff::Timestamp;
use van_site::resource::Endpoint;
use van_site::resource::access_grant::AccessGrantStatus;
use van_site::resource::access_token::AccessTokenStatus;
use van_site::resource::certificate::CertificateStatus;
use van_site::resource::connector::ConnectorStatus;
use van_site::resource::link::LinkStatus;
use van_site::resource::listener::ListenerStatus;
use van_site::resource::router_access::RouterAccessStatus;
use van_site::resource::site::{SiteSpec, SiteStatus};
use van_site::status::{ConditionKind, LinkReport, NO_ACTIVE_SITE, Obstacle, State, Status, Truth};
use van_site::status::{
    access_grant_status, access_token_status, certificate_status, connector_status, link_status, listener_status,
    router_access_status, site_status,
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time")
}

/// State, message, and the same once more as a condition where there is one.
fn check(status: &Status, state: State, message: &str) {
    assert_eq!((status.state, status.message.as_str()), (Some(state), message));
    if let Some(ready) = status.condition(ConditionKind::Ready) {
        assert_eq!((ready.reason, ready.message.as_str()), (state, message));
        assert_eq!(ready.status == Truth::True, state == State::Ready);
    }
}

#[test]
fn listeners_and_connectors_wait_for_each_other() {
    let listener = |configured: Result<(), &str>, matched| {
        listener_status(&ListenerStatus::default(), configured.map_err(str::to_owned), matched, at(0)).common
    };
    check(&listener(Ok(()), true), State::Ready, "OK");
    check(&listener(Ok(()), false), State::Pending, "No matching connectors");
    check(&listener(Err(NO_ACTIVE_SITE), true), State::Error, "No active site in namespace");
    let connector = connector_status(&ConnectorStatus::default(), Ok(()), false, at(0));
    check(&connector.common, State::Pending, "No matching listeners");
    assert!(!connector.has_matching_listener);
}

#[test]
fn a_link_tells_why_it_is_down_and_remembers_its_site() {
    let unknown = link_status(&LinkStatus::default(), Ok(()), LinkReport::Nothing, at(0));
    check(&unknown.common, State::Pending, "Not Operational");
    let up = |stands_by_for: Option<&str>| LinkReport::Up {
        remote_site_id: None,
        remote_site_name: Some("west".to_owned()),
        stands_by_for: stands_by_for.map(str::to_owned),
    };
    let standing_by = link_status(&unknown, Ok(()), up(Some("first")), at(1));
    check(&standing_by.common, State::Ready, "Standing by, should link \"first\" be lost");
    let up = link_status(&standing_by, Ok(()), up(None), at(1));
    check(&up.common, State::Ready, "OK");
    let down = link_status(&up, Ok(()), LinkReport::Down { error: None }, at(2));
    check(&down.common, State::Pending, "Not operational");
    assert_eq!(down.remote_site_name.as_deref(), Some("west"));
    let refused = LinkReport::Down { error: Some("connection refused".to_owned()) };
    check(&link_status(&down, Ok(()), refused, at(3)).common, State::Pending, "Not operational: connection refused");
}

#[test]
fn a_site_with_link_access_waits_for_its_address() {
    let endpoint = Endpoint { name: "inter-router".to_owned(), ..Endpoint::default() };
    let site = |access: Option<&str>, running: Result<(), &str>, endpoints| {
        let spec = SiteSpec { link_access: access.map(str::to_owned), ..SiteSpec::default() };
        site_status(&SiteStatus::default(), &spec, Ok(()), running.map_err(str::to_owned), endpoints, at(0)).common
    };
    check(&site(None, Ok(()), vec![]), State::Ready, "OK");
    check(&site(Some("none"), Ok(()), vec![]), State::Ready, "OK");
    check(&site(Some("default"), Ok(()), vec![]), State::Pending, "Pending");
    check(&site(Some("default"), Ok(()), vec![endpoint]), State::Ready, "OK");
    check(&site(None, Err("No router pod is ready"), vec![]), State::Pending, "No router pod is ready");
}

#[test]
fn grants_tokens_accesses_and_certificates_say_how_they_fare() {
    let grant = AccessGrantStatus::default();
    check(&access_grant_status(&grant, Ok(()), at(0)).common, State::Pending, "Pending");
    let known = AccessGrantStatus { url: Some("https://x".to_owned()), ca: Some("PEM".to_owned()), ..grant.clone() };
    check(&access_grant_status(&known, Ok(()), at(0)).common, State::Ready, "OK");
    check(
        &access_grant_status(&grant, Err("AccessGrants are not enabled".to_owned()), at(0)).common,
        State::Error,
        "AccessGrants are not enabled",
    );

    let token = access_token_status(&AccessTokenStatus::default(), Ok(()), at(0));
    check(&token.common, State::Ready, "OK");
    assert!(token.redeemed && token.common.condition(ConditionKind::Ready).is_none());
    let refused = Err(Obstacle::Error("Controller got failed response: 404".to_owned()));
    let token = access_token_status(&AccessTokenStatus::default(), refused, at(0));
    check(&token.common, State::Error, "Controller got failed response: 404");
    assert!(!token.redeemed);

    let access = router_access_status(&RouterAccessStatus::default(), Ok(()), vec![], at(0));
    check(&access.common, State::Pending, "Not Resolved");
    let access = router_access_status(&access, Ok(()), vec![Endpoint::default()], at(0));
    check(&access.common, State::Ready, "OK");

    let certificate = certificate_status(&CertificateStatus::default(), Ok(at(60)), at(0));
    check(&certificate.common, State::Ready, "OK");
    assert_eq!(certificate.expiration.as_deref(), Some("2023-11-14T22:14:20Z"));
    let certificate = certificate_status(&certificate, Err("CA \"x\" not found".to_owned()), at(0));
    check(&certificate.common, State::Error, "CA \"x\" not found");
    assert_eq!(certificate.expiration, None);
}

#[test]
fn the_first_required_condition_that_is_not_so_decides() {
    let listener = listener_status(&ListenerStatus::default(), Err("first".to_owned()), false, at(0));
    check(&listener.common, State::Error, "first");
    let kinds: Vec<_> = listener.common.conditions.iter().map(|condition| condition.kind).collect();
    assert_eq!(kinds, [ConditionKind::Configured, ConditionKind::Matched, ConditionKind::Ready]);
}

#[test]
fn times_move_only_when_a_condition_changes() {
    let time = |status: &ListenerStatus, kind| status.common.condition(kind).unwrap().last_transition_time;
    let first = listener_status(&ListenerStatus::default(), Ok(()), false, at(0));
    let same = listener_status(&first, Ok(()), false, at(10));
    assert_eq!(same, first, "nothing to write");
    let matched = listener_status(&same, Ok(()), true, at(20));
    assert_eq!(time(&matched, ConditionKind::Configured), at(0));
    assert_eq!(time(&matched, ConditionKind::Matched), at(20));
    assert_eq!(time(&matched, ConditionKind::Ready), at(20));
    // Another reason is no other status.
    let lost = listener_status(&matched, Ok(()), false, at(30));
    let faulty = listener_status(&lost, Err("fault".to_owned()), false, at(40));
    assert_eq!(time(&faulty, ConditionKind::Ready), at(30));
    assert_eq!(time(&faulty, ConditionKind::Configured), at(40));
}

#[test]
fn times_are_whole_seconds() {
    let now = Timestamp::from_millisecond(1_700_000_000_999).unwrap();
    let status = listener_status(&ListenerStatus::default(), Ok(()), true, now);
    assert_eq!(status.common.conditions[0].last_transition_time.to_string(), "2023-11-14T22:13:20Z");
}
