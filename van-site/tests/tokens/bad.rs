//! Tokens that are of no use, as the user of a site sees them: the whole text of the status.

use std::time::Duration;

use jiff::Timestamp;
use van_site::document::{Document, Key};
use van_site::folder::Namespace;
use van_site::grants::redeem;
use van_site::resource::access_token::AccessTokenSpec;
use van_site::resource::{AccessToken, Kind};
use van_site::status::State;
use van_site::{Site, SiteError, TokenRequest};

use crate::support::*;

const HOUR: Duration = Duration::from_secs(3600);

/// Enough for a machine that is busy, short enough to wait for.
const BRIEF: Duration = Duration::from_millis(500);

/// What a site says of a token, to the one who asks and in the token's status.
async fn refusal(spoke: &Site, token: AccessToken) -> String {
    let key = Key::new(Kind::AccessToken, &*token.metadata.name);
    let told = match spoke.redeem(token).await {
        Err(SiteError::Document { key: named, message }) if named == key => message,
        other => panic!("{other:?}"),
    };
    let snapshot = spoke.watch().borrow().clone();
    let Document::AccessToken(token) = &snapshot.documents[&key] else { panic!("a token") };
    let status = &token.status;
    assert_eq!((status.common.state, &status.common.message, status.redeemed), (Some(State::Error), &told, false));
    let other = |document: &Document| matches!(document, Document::Link(_) | Document::Secret(_));
    assert!(!snapshot.documents.values().any(other), "nothing else has come of it");
    told
}

/// A token of this name, changed.
fn changed(token: &AccessToken, name: &str, change: impl FnOnce(&mut AccessTokenSpec)) -> AccessToken {
    let mut token = AccessToken::new(name, token.spec.clone());
    change(&mut token.spec);
    token
}

#[tokio::test]
async fn tokens_that_their_site_refuses() {
    let (hub, spoke) = (hub().await, spoke().await);
    let used = issue(&hub, 1).await;
    redeem(&used, "somebody", HOUR).await.expect("the first use");
    assert_eq!(refusal(&spoke, used).await, "the token has been used up; ask for a new one");

    let request = TokenRequest { valid_for: Duration::ZERO, ..TokenRequest::default() };
    let expired = hub.issue_token(&request).await.expect("a token");
    let unknown =
        "127.0.0.1 does not know the token: it has expired, or the site that issued it is gone; ask for a new one";
    assert_eq!(refusal(&spoke, expired).await, unknown);
    let good = issue(&hub, 1).await;
    let token = changed(&good, "unknown", |spec| {
        let (base, _) = spec.url.rsplit_once('/').expect("a path");
        spec.url = format!("{base}/00000000-0000-4000-8000-000000000000");
    });
    assert_eq!(refusal(&spoke, token).await, unknown);
    let token = changed(&good, "other-code", |spec| spec.code = "wrongcodewrongcodewrongc".to_owned().into());
    assert_eq!(
        refusal(&spoke, token).await,
        "127.0.0.1 refused the token's code; was the token changed? ask for a new one"
    );
    let token = changed(&good, "damaged-ca", |spec| spec.ca = spec.ca.replace("MII", "MI!"));
    let damaged = "the CA in the token cannot be used; ask for a new token: \
        a certificate cannot be read: no certificate found; a PEM block `BEGIN CERTIFICATE` is expected: the base64 of a PEM block is damaged";
    assert_eq!(refusal(&spoke, token).await, damaged);
    let token = changed(&good, "other-ca", |spec| spec.ca = server(now()).trust.pem().to_owned());
    assert_eq!(refusal(&spoke, token).await, format!("{WRONG_CA}: UnknownIssuer; trying again"));

    let port = port(&good);
    hub.shutdown(Duration::ZERO).await;
    let gone = format!(
        "127.0.0.1:{port} cannot be reached; is the site that issued the token running, and is its port open from here? \
        Connection refused (os error 111); trying again"
    );
    assert_eq!(refusal(&spoke, good).await, gone);
}

const WRONG_CA: &str = "127.0.0.1 has a certificate from another CA than the token's: another server answers there, or the \
    site was made anew; ask for a new token: invalid peer certificate";

fn port(token: &AccessToken) -> u16 {
    let (_, rest) = token.spec.url.rsplit_once(':').expect("a port");
    rest.split('/').next().expect("a port").parse().expect("a number")
}

#[tokio::test]
async fn tokens_that_are_none() {
    let spoke = spoke().await;
    let credentials = server(now());
    let good = token("good", 1, &credentials);
    let check = async |name: &str, change: fn(&mut AccessTokenSpec), expected: &str| {
        let expected = format!("the token cannot be used; ask for a new one: {expected}");
        assert_eq!(refusal(&spoke, changed(&good, name, change)).await, expected);
    };
    check("no-ca", |spec| spec.ca.clear(), "token does not have a CA").await;
    check("no-code", |spec| spec.code = String::new().into(), "the code is empty").await;
    check("no-url", |spec| spec.url.clear(), "could not parse token url: empty string").await;
    check("http", |spec| spec.url = spec.url.replace("https", "http"), "token url scheme must be https").await;
    check("no-host", |spec| spec.url = "https:///x".into(), "could not parse token url: invalid format").await;
}

#[tokio::test]
async fn servers_that_are_no_grant_servers() {
    let spoke = spoke().await;
    let credentials = server(now());
    for (status, said) in [("200 OK", "a web page"), ("404 Not Found", "a web page (404 Not Found)")] {
        let (_parrot, port) = parrot(&credentials, response(status, "<!DOCTYPE html><html>Welcome</html>"));
        let name = format!("html-{}", &status[..3]);
        let expected = format!(
            "127.0.0.1:{port} answered with {said}, which no grant server does; does the token's URL lead to a proxy? \
            trying again"
        );
        assert_eq!(refusal(&spoke, token(&name, port, &credentials)).await, expected);
    }
    let (_parrot, port) = parrot(&credentials, response("502 Bad Gateway", "<html>nginx</html>"));
    assert_eq!(
        refusal(&spoke, token("gateway", port, &credentials)).await,
        "127.0.0.1 cannot issue credentials now (502: a web page); its log says why; trying again"
    );
    // Another CA of the same name.
    let (_parrot, port) = parrot(&credentials, None);
    let other = server(now());
    assert_eq!(
        refusal(&spoke, token("wrong-ca", port, &other)).await,
        format!("{WRONG_CA}: BadSignature; trying again")
    );
}

#[tokio::test]
async fn servers_that_say_nothing() {
    let credentials = server(now());
    let (_socket, port) = listen();
    let error = redeem(&token("deaf", port, &credentials), "spoke", BRIEF).await.unwrap_err();
    assert_eq!(
        error.text(),
        format!(
            "no HTTPS connection to 127.0.0.1:{port} within 500ms; does a firewall swallow what is sent there, or does \
            another program listen?"
        )
    );
    let (_parrot, port) = parrot(&credentials, None);
    let error = redeem(&token("mute", port, &credentials), "spoke", BRIEF).await.unwrap_err();
    assert_eq!(
        error.text(),
        "127.0.0.1 took the code but gave no answer; if the next attempt says that it is used up, ask for a new token"
    );
    assert!(!error.is_final());
}

/// The clock of the site that issues the token is an hour ahead, or ours is an hour behind.
#[tokio::test]
async fn a_clock_that_is_an_hour_wrong_is_named() {
    let spoke = spoke().await;
    let credentials = server(now() + HOUR);
    let (_parrot, port) = parrot(&credentials, None);
    let from = Timestamp::try_from(credentials.identity.certificate().not_before).expect("a time");
    let expected = format!(
        "the certificate of 127.0.0.1 is not valid at this time; are the clocks of this machine and of that one right? \
        the certificate of the peer is valid from {from} only; compare the clocks of both ends; trying again"
    );
    assert_eq!(refusal(&spoke, token("ahead", port, &credentials)).await, expected);

    // An hour the other way round is no obstacle.
    let credentials = server(now() - HOUR);
    let answer = printed(SUCCESS);
    let (_parrot, port) = parrot(&credentials, response("200 OK", body(&answer)));
    spoke.redeem(token("hub-link", port, &credentials)).await.expect("it is redeemed");
}

/// A controller was killed between the Secret and the Link.
#[tokio::test]
async fn a_redemption_that_broke_off_is_made_again() {
    let hub = hub().await;
    let folder = tempfile::tempdir().expect("a folder");
    let start = || Site::builder("spoke").shards(1).state_dir(folder.path()).start();
    let token = issue(&hub, 2).await;
    let name = token.metadata.name.clone();
    let site = start().await.expect("the spoke starts");
    site.redeem(token.clone()).await.expect("it is redeemed");
    site.shutdown(Duration::ZERO).await;
    let namespace = Namespace::at(folder.path(), "default");
    namespace.delete_input(&Key::new(Kind::Link, &*name)).expect("it is removed");
    namespace.remove_runtime(&Key::new(Kind::AccessToken, &*name)).expect("it is removed");
    std::fs::remove_dir_all(folder.path().join("internal/redeemed")).expect("it is removed");
    let site = start().await.expect("the spoke starts");
    let link = Key::new(Kind::Link, &*name);
    let mut snapshot = site.watch();
    snapshot.wait_for(|snapshot| snapshot.documents.contains_key(&link)).await.expect("the site runs");
    let error = redeem(&token, "somebody", HOUR).await.unwrap_err();
    assert_eq!(error.text(), "the token has been used up; ask for a new one", "that was the second use");
}
