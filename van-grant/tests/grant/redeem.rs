//! The store and its lock, ledger and issuer: order of checks, texts, counts.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use van_grant::{
    CODE_LEN, Code, Grant, GrantStore, Grants, IssueError, MAX_CODE_BYTES, MAX_NAME_BYTES, Refusal, Request,
};

use crate::support::*;

fn grants(grant: Grant) -> (Grants, Memory) {
    let memory = Memory::default();
    let grants = Grants::new(GrantStore::default(), memory.clone());
    grants.insert(grant);
    (grants, memory)
}

/// One request to one grant, refused; nothing is counted or issued for it.
#[track_caller]
fn check(grant: Grant, request: Request<'_>, status: u16, body: &str) {
    let before = grant.redemptions;
    let (grants, memory) = grants(grant);
    let press = Press::default();
    let refusal = grants.redeem(now(), &request, &press).unwrap_err();
    assert_eq!((refusal.status(), refusal.body()), (status, format!("{body}\n")), "{refusal}");
    assert_eq!(grants.get(ID).unwrap().redemptions, before);
    assert_eq!(memory.count(), None);
    assert_eq!(press.issued.load(Ordering::SeqCst), 0);
}

#[test]
fn checks_come_in_the_order_of_skupper() {
    // Everything is wrong; what was answered is put right each time.
    let long = vec![b'x'; MAX_CODE_BYTES + 1];
    let mut request = Request { method: "GET", path: "/other", body: &long, ..request() };
    let mut grant = Grant { expires_at: None, redemptions: 1, ..grant(1) };
    check(grant.clone(), request, 405, "Only POST is supported");
    request.method = "POST";
    check(grant.clone(), request, 400, "Request body not valid");
    request.body = WRONG;
    check(grant.clone(), request, 404, "No such claim");
    request.path = "//38272eeb-dbea-41c2-9bc7-6c8ba4ed6cf0/";
    check(grant.clone(), request, 500, "Corrupted claim");
    grant.expires_at = Some(now() - MINUTE);
    check(grant.clone(), request, 404, "No such claim");
    grant.expires_at = Some(now() + MINUTE);
    check(grant.clone(), request, 404, "No such access granted");
    grant.redemptions = 0;
    check(grant.clone(), request, 403, "Redemption of access token refused");
    request.body = CODE.as_bytes();
    assert!(grants(grant).0.redeem(now(), &request, &Press::default()).is_ok());
}

#[test]
fn headers_are_bounded_and_visible() {
    let long = "x".repeat(MAX_NAME_BYTES + 1);
    for bad in [long.as_str(), "two\nlines", "\u{7f}"] {
        check(grant(1), Request { name: Some(bad), ..request() }, 400, "Request body not valid");
        check(grant(1), Request { subject: Some(bad), ..request() }, 400, "Request body not valid");
        check(grant(1), Request { host: Some(bad), ..request() }, 400, "Request body not valid");
    }
}

#[test]
fn names_default_to_the_grant_and_subjects_to_names() {
    let check = |name, subject, expected: (&str, &str)| {
        let mut store = GrantStore::default();
        store.insert(grant(1));
        let accepted = store.accept(now(), &Request { name, subject, ..request() }).unwrap();
        assert_eq!((accepted.name.as_str(), accepted.subject.as_str()), expected);
        assert_eq!((accepted.namespace.as_str(), accepted.grant.as_str()), ("west", "g1"));
    };
    check(None, None, ("g1", "g1"));
    check(Some("hub-link"), None, ("hub-link", "hub-link"));
    check(None, Some("uid"), ("g1", "uid"));
    check(Some("hub-link"), Some("uid"), ("hub-link", "uid"));
    check(Some(""), Some(""), ("g1", "g1"));
}

#[test]
fn a_grant_with_hosts_answers_calls_to_them_only() {
    let grant =
        Grant { hosts: vec!["Hub.example.com".to_owned(), "10.0.0.7".to_owned(), "::1".to_owned()], ..grant(9) };
    for host in [None, Some(""), Some("10.0.0.8:9090"), Some("example.com"), Some("[::2]:9090")] {
        check(grant.clone(), Request { host, ..request() }, 404, "No such claim");
    }
    let mut store = GrantStore::default();
    store.insert(grant);
    let hosts = ["hub.example.com:9090", "hub.example.com.", "10.0.0.7", "10.0.0.7:1", "[::1]:9090", "[0:0::1]", "::1"];
    for host in hosts {
        let accepted = store.accept(now(), &Request { host: Some(host), ..request() }).unwrap();
        assert!(host.contains(&accepted.host.unwrap()));
    }
}

#[test]
fn grants_are_found_by_name_only_if_wished() {
    let by_name = Request { path: "/west/g1", ..request() };
    check(grant(1), by_name, 404, "No such claim");
    let mut store = GrantStore::default().find_by_name();
    store.insert(grant(2));
    assert!(store.accept(now(), &by_name).is_ok());
    assert!(store.accept(now(), &request()).is_ok());
}

#[test]
fn a_use_is_not_issued_before_it_is_stored() {
    let (grants, memory) = grants(grant(1));
    let press = Press::default();
    memory.0.lock().unwrap().is_full = true;
    let refusal = grants.redeem(now(), &request(), &press).unwrap_err();
    assert_eq!((refusal.status(), refusal.body().as_str()), (503, "Internal error\n"));
    assert_eq!(press.issued.load(Ordering::SeqCst), 0);
    memory.0.lock().unwrap().is_full = false;
    assert!(grants.redeem(now(), &request(), &press).is_ok());
    assert_eq!((memory.count(), grants.get(ID).unwrap().redemptions), (Some(1), 1));
}

#[test]
fn a_use_is_given_back_and_stored_if_nothing_could_be_issued() {
    let (grants, memory) = grants(grant(1));
    let faults = [
        (IssueError::NoSite { namespace: "west".to_owned() }, "Site not yet defined for west\n"),
        (IssueError::NoAuthority, "Could not get issuer for requested certificate\n"),
        (IssueError::NoEndpoints, "No valid endpoints found for site\n"),
        (IssueError::EdgeSite, "Edge sites cannot accept incoming links from remote sites\n"),
        (IssueError::Certificate("no entropy".to_owned()), "no entropy\n"),
    ];
    for (fault, body) in faults {
        let press = Press { fault: Some(fault), ..Press::default() };
        let refusal = grants.redeem(now(), &request(), &press).unwrap_err();
        assert_eq!((refusal.status(), refusal.body().as_str()), (500, body));
        assert_eq!((memory.count(), grants.get(ID).unwrap().redemptions), (Some(0), 0));
    }
    assert!(grants.redeem(now(), &request(), &Press::default()).is_ok());
}

#[test]
fn a_use_is_given_back_if_the_issuer_panics() {
    let (grants, memory) = grants(grant(1));
    let other = grants.clone();
    let press = Press { panics: true, ..Press::default() };
    thread::spawn(move || other.redeem(now(), &request(), &press)).join().unwrap_err();
    assert_eq!(memory.count(), Some(0));
    assert!(grants.redeem(now(), &request(), &Press::default()).is_ok());
}

#[test]
fn racing_redemptions_never_exceed_the_grant() {
    for allowed in [1, 3] {
        let (grants, memory) = grants(grant(allowed));
        let press = Press::default();
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| grants.redeem(now(), &request(), &press).map_err(|refusal| refusal.status()));
            }
        });
        assert_eq!((press.issued.load(Ordering::SeqCst), memory.count()), (allowed, Some(allowed)));
    }
}

#[test]
fn a_restart_forgets_no_use() {
    let (grants, _) = grants(Grant { hosts: vec!["10.0.0.7".to_owned()], ..grant(1) });
    let call = Request { host: Some("10.0.0.7:9090"), ..request() };
    grants.redeem(now(), &call, &Press::default()).unwrap();
    let stored = serde_json::to_string(&grants.list()).unwrap();
    let mut store = GrantStore::default();
    for grant in serde_json::from_str::<Vec<Grant>>(&stored).unwrap() {
        assert_eq!(Some(&grant), grants.get(ID).as_ref());
        store.insert(grant);
    }
    assert!(matches!(store.accept(now(), &call), Err(Refusal::UsedUp { .. })));
}

#[test]
fn an_unreadable_end_is_a_corrupted_claim() {
    let stored = serde_json::to_string(&grant(1)).unwrap();
    let end = stored.split("\"expiresAt\":\"").nth(1).unwrap().split('"').next().unwrap();
    for bad in ["tomorrow", ""] {
        let damaged = stored.replace(end, bad);
        check(serde_json::from_str(&damaged).unwrap(), request(), 500, "Corrupted claim");
    }
    assert!(serde_json::from_str::<Grant>(&stored.replace("redemptions\"", "redeemed\"")).is_err());
}

#[test]
fn a_grant_that_is_replaced_keeps_its_uses() {
    let (grants, _) = grants(grant(1));
    grants.redeem(now(), &request(), &Press::default()).unwrap();
    grants.insert(grant(1));
    assert!(matches!(grants.redeem(now(), &request(), &Press::default()), Err(Refusal::UsedUp { .. })));
    assert!(grants.remove(ID).is_some());
    assert!(matches!(grants.redeem(now(), &request(), &Press::default()), Err(Refusal::Unknown)));
}

#[test]
fn a_grant_that_is_changed_keeps_its_uses_in_the_ledger_too() {
    let (grants, memory) = grants(grant(1));
    grants.redeem(now(), &request(), &Press::default()).unwrap();
    // The change was begun before the use.
    grants.put(grant(2)).unwrap();
    assert_eq!(memory.count(), Some(1));
    memory.0.lock().unwrap().is_full = true;
    assert!(grants.put(grant(3)).is_err());
    assert_eq!(
        grants.get(ID),
        Some(Grant { redemptions: 1, expires_at: grants.get(ID).unwrap().expires_at, ..grant(2) })
    );
}

#[test]
fn guessing_is_slowed_down_for_the_right_code_too() {
    let mut store = GrantStore::default();
    store.insert(grant(9));
    let start = now();
    let guess = Request { body: WRONG, ..request() };
    for _ in 0..10 {
        assert!(matches!(store.accept(start, &guess), Err(Refusal::WrongCode { .. })));
    }
    let refusal = store.accept(start, &request()).unwrap_err();
    assert!(matches!(refusal, Refusal::TooManyGuesses { .. }));
    assert_eq!((refusal.status(), refusal.body().as_str()), (403, "Redemption of access token refused\n"));
    // A second later one more is looked at, also if the clock was set back meanwhile.
    assert!(store.accept(start - DAY, &request()).is_err());
    assert!(store.accept(start - DAY + Duration::from_secs(1), &request()).is_ok());
    assert!(store.accept(start, &request()).is_ok());
}

#[test]
fn a_guesser_gets_one_more_guess_each_second() {
    let mut store = GrantStore::default();
    store.insert(grant(1));
    let start = now();
    let guess = Request { body: WRONG, ..request() };
    let looked_at = (0..1000).filter(|tenth| {
        let refusal = store.accept(start + Duration::from_millis(100) * *tenth, &guess).unwrap_err();
        matches!(refusal, Refusal::WrongCode { .. })
    });
    assert_eq!(looked_at.count(), 10 + 99);
}

#[test]
fn codes_are_random_and_never_shown() {
    let codes = [Code::random().unwrap(), Code::random().unwrap()];
    assert_ne!(codes[0], codes[1]);
    for code in codes {
        assert_eq!(code.expose().len(), CODE_LEN);
        assert!(code.expose().bytes().all(|octet| octet.is_ascii_alphanumeric()));
        assert!(!format!("{code:?}").contains(code.expose()));
    }
    let (grants, _) = grants(grant(1));
    for shown in [format!("{grants:?}"), format!("{:?}", request()), format!("{:?}", token(&ca(), "h", 1))] {
        assert!(!shown.contains(CODE), "{shown}");
    }
    assert!(Code::new(String::new()).is_err() && Code::new("x".repeat(MAX_CODE_BYTES + 1)).is_err());
}

/// What happens to a grant.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Redeem,
    Guess,
    FailToIssue,
    FailToStore,
    Restart,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// The model: a number.
    #[test]
    fn uses_are_counted_whatever_happens(
        allowed in 0..4u32,
        operations in prop::collection::vec(prop::sample::select(&[
            Operation::Redeem, Operation::Guess, Operation::FailToIssue, Operation::FailToStore, Operation::Restart,
        ][..]), 0..12),
    ) {
        let (mut grants, memory) = grants(grant(allowed));
        let mut uses = 0;
        for operation in operations {
            let press = match operation {
                Operation::FailToIssue => Press { fault: Some(IssueError::NoEndpoints), ..Press::default() },
                _ => Press::default(),
            };
            let body = if matches!(operation, Operation::Guess) { WRONG } else { CODE.as_bytes() };
            memory.0.lock().unwrap().is_full = matches!(operation, Operation::FailToStore);
            if let Operation::Restart = operation {
                let mut store = GrantStore::default();
                store.insert(Grant { redemptions: memory.count().unwrap_or(0), ..grant(allowed) });
                grants = Grants::new(store, memory.clone());
                continue;
            }
            let passed = grants.redeem(now(), &Request { body, ..request() }, &press).is_ok();
            prop_assert_eq!(passed, matches!(operation, Operation::Redeem) && uses < allowed);
            uses += u32::from(passed);
            prop_assert_eq!(grants.get(ID).unwrap().redemptions, uses);
        }
    }
}
