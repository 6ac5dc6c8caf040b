//! A controller that is killed at any moment: no use of a grant is given twice, no file is half, no document is lost.

mod rig;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use van_site::document::{Document, Key};
use van_site::grants::{RedeemError, redeem};
use van_site::resource::access_grant::AccessGrantSpec;
use van_site::resource::listener::ListenerSpec;
use van_site::resource::site::SiteSpec;
use van_site::resource::{AccessGrant, AccessToken, Kind, Listener};
use van_site::status::State;
use van_site::{Site, TokenRequest};

use rig::{Controller, PATIENCE, accessible};

/// How often each test kills.
const KILLS: u32 = 25;

/// The latest moment of a kill.
const LATEST: Duration = Duration::from_millis(120);

const REDEEMERS: u32 = 4;

/// Nobody knows before how long.
fn wait_for_a_moment() {
    let nanos = RandomState::new().hash_one(()) % u64::try_from(LATEST.as_nanos()).expect("a moment");
    thread::sleep(Duration::from_nanos(nanos));
}

fn redeem_now(token: &AccessToken) -> Result<Vec<Document>, RedeemError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(redeem(token, "somebody", PATIENCE))
}

fn grant(name: &str, uses: u32, minutes: u32) -> AccessGrant {
    let spec = AccessGrantSpec {
        redemptions_allowed: uses.try_into().expect("few"),
        expiration_window: Some(format!("{minutes}m")),
        ..AccessGrantSpec::default()
    };
    AccessGrant::new(name, spec)
}

fn listener(index: u32, round: u32) -> Document {
    let (name, routing_key) = (format!("listener-{index}"), format!("key-{index}-{round}"));
    let (host, port) = ("127.0.0.1".into(), 1);
    Listener::new(name, ListenerSpec { routing_key, host, port, ..ListenerSpec::default() }).into()
}

#[test]
fn an_issuer_that_is_killed_gives_no_use_twice() {
    // Nobody else takes its ports there while it is dead.
    let mut west = Controller::new("west", accessible("127.0.25.1"), &[]);
    let identity = west.identity().id;
    let mut documents: BTreeMap<Key, Document> = BTreeMap::new();
    let mut given_in_all = 0;
    for round in 0..KILLS {
        let (name, allowed) = (format!("grant-{round}"), round % 3 + 1);
        let mut put = |document: Document| {
            west.namespace.put_input(&document).expect("a document");
            documents.insert(document.key(), document);
        };
        put(grant(&name, allowed, 60).into());
        let key = Key::new(Kind::AccessGrant, &*name);
        let token = west.wait(&key, |document| match document {
            Document::AccessGrant(grant) if grant.status.common.state == Some(State::Ready) => {
                Some(van_site::token(grant, 1))
            }
            _ => None,
        });
        let (given, is_over) = (AtomicU32::new(0), AtomicBool::new(false));
        let namespace = west.namespace.clone();
        thread::scope(|scope| {
            for _ in 0..REDEEMERS {
                scope.spawn(|| {
                    while !is_over.load(Ordering::SeqCst) {
                        if redeem_now(&token).is_ok() {
                            given.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                });
            }
            let (documents, is_over, name) = (&mut documents, &is_over, &name);
            scope.spawn(move || {
                for minutes in 61.. {
                    let changed = [grant(name, allowed, minutes).into(), listener(minutes % 3, round)];
                    for document in changed {
                        namespace.put_input(&document).expect("a document");
                        documents.insert(document.key(), document);
                    }
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                }
            });
            wait_for_a_moment();
            west.kill();
            is_over.store(true, Ordering::SeqCst);
        });
        let (given, counted) = (given.into_inner(), west.uses(&name));
        assert!(given <= counted && counted <= allowed, "{given} given, {counted} counted, {allowed} allowed");
        west.check_files();
        let loaded = west.namespace.load_input();
        let loaded: BTreeMap<_, _> = loaded.entries().map(|entry| (entry.document.key(), &entry.document)).collect();
        assert!(documents.iter().all(|(key, document)| loaded[key] == document), "as they were written");

        west.start();
        assert_eq!(west.identity().id, identity);
        let later = (0..).map_while(|_| {
            loop {
                match redeem_now(&token) {
                    Ok(_) => return Some(()),
                    Err(error) if error.is_final() => return None,
                    // The door opens a moment after the site is ready.
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        let later = u32::try_from(later.count()).expect("few");
        assert_eq!(later, allowed - counted, "what was left, {given} given before: {}", west.log());
        given_in_all += given + later;
        for (key, document) in &documents {
            west.wait(key, |shown| shown.has_spec_of(document).then_some(()));
        }
    }
    println!("{given_in_all} uses given over {KILLS} kills");
}

#[test]
fn a_redeemer_that_is_killed_has_a_link_or_knows_that_it_has_none() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let hub = runtime.block_on(Site::builder("hub").link_access_at("127.0.0.1").shards(1).start());
    let hub = hub.expect("the hub starts");
    let mut east = Controller::new("east", SiteSpec::default(), &[]);
    let identity = east.identity();
    let mut redeemed = Vec::new();
    for _ in 0..KILLS {
        let token = runtime.block_on(hub.issue_token(&TokenRequest::default())).expect("a token");
        let key = Key::new(Kind::AccessToken, &*token.metadata.name);
        east.namespace.put_input(&token.into()).expect("a document");
        wait_for_a_moment();
        east.kill();
        east.check_files();
        east.start();
        assert_eq!(east.identity(), identity);
        let is_linked = east.wait(&key, |document| match document {
            Document::AccessToken(token) if token.status.redeemed => Some(true),
            Document::AccessToken(token) if token.status.common.state == Some(State::Error) => {
                // It was killed after the use was counted, and before it had written down what it got.
                let expected = "the token has been used up; ask for a new one";
                (token.status.common.message == expected).then_some(false)
            }
            _ => None,
        });
        if is_linked {
            redeemed.push(key.name);
        }
        let loaded = east.namespace.load_input();
        let is_there = |kind, name: &String| loaded.entries().any(|it| it.document.key() == Key::new(kind, &**name));
        let both = |name: &String| is_there(Kind::Secret, name) && is_there(Kind::Link, name);
        assert!(redeemed.iter().all(both), "{redeemed:?}: {}", east.log());
    }
    println!("{} of {KILLS} tokens became links", redeemed.len());
    runtime.block_on(hub.shutdown(Duration::ZERO));
}
