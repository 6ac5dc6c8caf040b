//! The other end is not ours: curl, a server in Python, what Skupper once answered.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use van_site::document::{Document, Key};
use van_site::grants::redeem;
use van_site::resource::{AccessToken, Kind};
use van_site::{Site, SiteError};

use crate::support::*;

const PATIENCE: Duration = Duration::from_secs(5);

/// Whether programs are there. With `VAN_REQUIRE_FOREIGN=1` they have to be.
fn are_given(programs: &[&str]) -> bool {
    let is_there = |program: &&&str| Command::new(program).arg("--version").output().is_ok();
    let Some(missing) = programs.iter().find(|program| !is_there(program)) else { return true };
    assert!(!std::env::var("VAN_REQUIRE_FOREIGN").is_ok_and(|value| value == "1"), "{missing} is not installed");
    println!("skipped: {missing} is not installed");
    false
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

// === curl redeems ours ===

/// What curl prints when it asks with these arguments, the date left out.
fn curl(ca: &Path, arguments: &[&str]) -> String {
    without_date(&run(Command::new("curl").args(["-s", "-i", "--tlsv1.3", "--cacert"]).arg(ca).args(arguments)))
}

#[tokio::test]
#[ignore = "needs curl, openssl"]
async fn curl_redeems_a_token_of_ours() {
    if !are_given(&["curl", "openssl"]) {
        return;
    }
    let hub = hub().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("a file");
        file
    };
    let token = issue(&hub, 2).await;
    let (url, code, ca) = (&*token.spec.url, token.spec.code.reveal(), file("server.pem", &token.spec.ca));
    let (base, _) = url.rsplit_once('/').expect("a path");
    let headers = ["-H", "name: hub-link", "-H", "subject: 0f0c0000-0000-4000-8000-000000000001"];
    let wrong = [&headers[..], &["--data-binary", "wrongcodewrongcodewrongc", url]].concat();
    assert_eq!(curl(&ca, &wrong), printed(WRONG_CODE));
    let unknown = format!("{base}/00000000-0000-4000-8000-000000000000");
    assert_eq!(curl(&ca, &["--data-binary", code, &unknown]), printed(UNKNOWN));
    assert_eq!(curl(&ca, &[url]), printed(NOT_POST));

    let right = [&headers[..], &["--data-binary", code, url]].concat();
    let answer = curl(&ca, &right);
    let recorded = printed(SUCCESS);
    let (head, _) = recorded.split_once("\n\n").expect("headers end");
    assert!(answer.starts_with(head), "{answer}");
    let documents = Document::read_all(body(&answer)).into_iter().collect::<Result<Vec<_>, _>>().expect("documents");
    let (secret, link) = secret_and_link(&documents);
    assert_eq!((&*secret.metadata.name, &*link.metadata.name), ("hub-link", "hub-link"));
    assert_eq!(link.spec.tls_credentials.as_deref(), Some("hub-link"));
    let endpoint = &link.spec.endpoints[0];
    assert_eq!((&*endpoint.name, &*endpoint.host), ("inter-router", LOCALHOST));
    let pem = |key: &str| file(key, secret.text(key).expect("text"));
    let (issuer, certificate, key) = (pem("ca.crt"), pem("tls.crt"), pem("tls.key"));
    let openssl = |arguments: &[&str], input: &Path| run(Command::new("openssl").args(arguments).arg(input));
    run(Command::new("openssl").args(["verify", "-purpose", "sslclient", "-CAfile"]).arg(&issuer).arg(&certificate));
    let subject = openssl(&["x509", "-noout", "-subject", "-in"], &certificate);
    assert_eq!(subject, "subject=CN = 0f0c0000-0000-4000-8000-000000000001\n");
    // It passes for a client, and for no server.
    let purposes = openssl(&["x509", "-noout", "-ext", "extendedKeyUsage", "-in"], &certificate);
    assert!(purposes.ends_with("    TLS Web Client Authentication\n"), "{purposes}");
    let text = openssl(&["x509", "-noout", "-text", "-in"], &certificate);
    assert!(!text.contains("Subject Alternative Name"), "{text}");
    let public_key = openssl(&["x509", "-noout", "-pubkey", "-in"], &certificate);
    assert_eq!(public_key, openssl(&["pkey", "-pubout", "-in"], &key));

    // Without headers the grant's name is that of all.
    let answer = curl(&ca, &["--data-binary", code, url]);
    let documents = Document::read_all(body(&answer)).into_iter().collect::<Result<Vec<_>, _>>().expect("documents");
    assert_eq!(secret_and_link(&documents).0.metadata.name, token.metadata.name);
    assert_eq!(curl(&ca, &right), printed(USED_UP));
    hub.shutdown(Duration::ZERO).await;
}

// === we redeem others' ===

/// A grant server that somebody wrote who knew nothing but the protocol.
struct GrantServer {
    process: Child,
    token: AccessToken,
}

impl GrantServer {
    fn start(folder: &Path) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/grant_server.py");
        let command = &mut Command::new("python3");
        let mut process = command.arg(script).arg(folder).stdout(Stdio::piped()).spawn().expect("it starts");
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines().map(Result::unwrap);
        let text: String = lines.take_while(|line| line != "...").map(|line| line + "\n").collect();
        let token = match Document::read_all(&text).pop() {
            Some(Ok(Document::AccessToken(token))) => token,
            other => panic!("{other:?} in {text}"),
        };
        Self { process, token }
    }
}

impl Drop for GrantServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
#[ignore = "needs python3, openssl"]
async fn a_site_redeems_a_token_of_a_server_in_python() {
    if !are_given(&["python3", "openssl"]) {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let server = GrantServer::start(folder.path());
    let spoke = spoke().await;
    spoke.redeem(server.token.clone()).await.expect("it is redeemed");
    let link = Key::new(Kind::Link, &*server.token.metadata.name);
    let mut snapshot = spoke.watch();
    let seen = snapshot.wait_for(|snapshot| snapshot.documents.contains_key(&link)).await.expect("the site runs");
    let Document::Link(link) = seen.documents[&link].clone() else { panic!("a Link") };
    drop(seen);
    let endpoints: Vec<_> = link.spec.endpoints.iter().map(|it| (&*it.name, &*it.host, &*it.port)).collect();
    assert_eq!(endpoints, [("inter-router", LOCALHOST, "55671"), ("edge", LOCALHOST, "45671")]);
    assert_eq!(link.spec.cost, 7, "the token says so");

    let other = Site::builder("other").shards(1).start().await.expect("it starts");
    let SiteError::Document { message, .. } = other.redeem(server.token.clone()).await.unwrap_err() else { panic!() };
    assert_eq!(message, "the token has been used up; ask for a new one");
    let mut guess = server.token.clone();
    (guess.metadata.name, guess.spec.code) = ("guess".into(), "guess".to_owned().into());
    let error = redeem(&guess, "other", PATIENCE).await.unwrap_err();
    assert_eq!(error.text(), "the token has been used up; ask for a new one", "that is found out first");
}

#[tokio::test]
async fn what_skupper_answered_is_taken_as_it_stands() {
    let credentials = server(now());
    for (recording, name) in [(SUCCESS, "hub-link"), (SUCCESS_NO_HEADERS, "g1")] {
        let answer = printed(recording);
        let (_parrot, port) = parrot(&credentials, response("200 OK", body(&answer)));
        let token = token(name, port, &credentials);
        let given = redeem(&token, "spoke", PATIENCE).await.expect("it is redeemed");
        let recorded = Document::read_all(body(&answer)).into_iter().collect::<Result<Vec<_>, _>>().expect("documents");
        let ((secret, link), (recorded_secret, recorded_link)) = (secret_and_link(&given), secret_and_link(&recorded));
        assert!(secret.data == recorded_secret.data && secret.secret_type == recorded_secret.secret_type);
        assert_eq!((&*secret.metadata.name, &*link.metadata.name), (name, name));
        assert_eq!(link.spec, recorded_link.spec);

        // And by a site, which keeps them and dials.
        let spoke = spoke().await;
        let (_parrot, port) = parrot(&credentials, response("200 OK", body(&answer)));
        spoke.redeem(self::token(name, port, &credentials)).await.expect("it is redeemed");
        let key = Key::new(Kind::Link, name);
        let mut snapshot = spoke.watch();
        let seen = snapshot.wait_for(|snapshot| snapshot.documents.contains_key(&key)).await.expect("the site runs");
        assert!(seen.documents[&key].has_spec_of(&recorded_link.clone().into()));
        drop(seen);
        spoke.shutdown(Duration::ZERO).await;
    }
}
