//! Two controllers whose clocks are an hour apart.

mod rig;

use std::process::Command;

use van_site::document::{Document, Key};
use van_site::resource::access_grant::AccessGrantSpec;
use van_site::resource::site::SiteSpec;
use van_site::resource::{AccessGrant, Kind};
use van_site::status::State;

use rig::{Controller, accessible};

/// The state and the message of the token at a site that redeems it, and whether its link gets ready.
fn check(issuer: &[&str], redeemer: &[&str]) -> (State, String) {
    let west = Controller::new("west", accessible("127.0.0.1"), issuer);
    west.namespace.put_input(&AccessGrant::new("grant", AccessGrantSpec::default()).into()).expect("a document");
    let token = west.wait(&Key::new(Kind::AccessGrant, "grant"), |document| match document {
        Document::AccessGrant(grant) if grant.status.common.state == Some(State::Ready) => {
            Some(van_site::token(grant, 1))
        }
        _ => None,
    });
    let east = Controller::new("east", SiteSpec::default(), redeemer);
    east.namespace.put_input(&token.into()).expect("a document");
    let status = east.wait(&Key::new(Kind::AccessToken, "grant"), |document| {
        document.status().filter(|status| matches!(status.state, Some(State::Ready | State::Error))).cloned()
    });
    if status.state == Some(State::Ready) {
        let is_ready = |document: &Document| document.status()?.state.filter(|state| *state == State::Ready);
        east.wait(&Key::new(Kind::Link, "grant"), is_ready);
    }
    (status.state.expect("seen above"), status.message)
}

#[test]
#[ignore = "needs faketime"]
fn a_token_tells_of_a_clock_that_is_an_hour_wrong() {
    if Command::new("faketime").arg("--version").output().is_err() {
        assert!(!std::env::var("VAN_REQUIRE_FOREIGN").is_ok_and(|value| value == "1"), "faketime is not installed");
        println!("skipped: faketime is not installed");
        return;
    }
    // Only the clock on the wall is wrong.
    let faketime = |offset| ["faketime", "-m", "--exclude-monotonic", "-f", offset];
    let (ahead, behind) = (faketime("+1h"), faketime("-1h"));
    for (issuer, redeemer) in [(&ahead[..], &[][..]), (&[], &behind)] {
        let (state, message) = check(issuer, redeemer);
        assert_eq!(state, State::Error, "{message}");
        let expected = "the certificate of 127.0.0.1 is not valid at this time; are the clocks of this machine and of that \
            one right? the certificate of the peer is valid from ";
        assert!(message.starts_with(expected), "{message}");
        assert!(message.ends_with(" only; compare the clocks of both ends; trying again"), "{message}");
    }
    // An hour the other way round is no obstacle.
    for (issuer, redeemer) in [(&behind[..], &[][..]), (&[], &ahead)] {
        assert_eq!(check(issuer, redeemer), (State::Ready, "OK".to_owned()));
    }
}
