//! `van token redeem`, against the server of grants and against others.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync::oneshot;
use van_grant::{
    Accepted, Bundle, Code, Endpoint, Grant, GrantServer, GrantStore, Grants, IssueError, Issuer, Ledger, LedgerError,
};
use van_site::resource::access_token::AccessTokenSpec;
use van_site::resource::link::LinkStatus;
use van_site::resource::{AccessToken, Kind, Link, Secret};
use van_site::status::{LinkReport, link_status};
use van_site::yaml;
use van_tls::{Authority, AuthorityRequest, KeyKind, LeafRequest, Usage};

use crate::world::{World, wait_for};

const CODE: &str = "Y5BdhXi3Qzc6i3BfY83DNHYN";
const DAY: Duration = Duration::from_secs(86_400);

/// A site that serves one grant, until it is dropped.
struct Site {
    ca: Arc<Authority>,
    port: u16,
    _stop: oneshot::Sender<()>,
}

/// Issues the certificates of one CA.
struct Press(Arc<Authority>);

/// Keeps no counts: these grants do not outlive a test.
struct NoDisk;

impl Ledger for NoDisk {
    fn store(&mut self, _: &Grant) -> Result<(), LedgerError> {
        Ok(())
    }
}

impl Issuer for Press {
    fn issue(&self, accepted: &Accepted) -> Result<Bundle, IssueError> {
        let leaf = leaf(&self.0, &accepted.subject, Usage::Client);
        let secret = van_grant::Secret {
            name: String::new(),
            ca_crt: leaf.trust.pem().to_owned(),
            tls_crt: leaf.identity.chain_pem().to_owned(),
            tls_key: leaf.identity.key_pem().to_owned().into(),
        };
        let host = accepted.host.clone().expect("it was called by one");
        let endpoint =
            Endpoint { group: "skupper-router".into(), host, name: "inter-router".into(), port: "55671".into() };
        Ok(Bundle::new(&accepted.name, secret, vec![vec![endpoint]]))
    }
}

fn authority() -> Authority {
    let (common_name, key) = ("CA".to_owned(), KeyKind::EcdsaP256);
    let request = AuthorityRequest { common_name, key, now: SystemTime::now() - DAY, valid_for: 2 * DAY };
    Authority::create(&request).expect("it can be made")
}

fn leaf(ca: &Authority, common_name: &str, usage: Usage) -> van_tls::Credentials {
    let hosts = vec!["127.0.0.1".to_owned()];
    let (common_name, key, now) = (common_name.to_owned(), KeyKind::EcdsaP256, SystemTime::now());
    let request = LeafRequest { common_name, hosts, usage, key, now, valid_for: DAY };
    ca.issue(&request).expect("it can be made")
}

fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a port");
    let port = listener.local_addr().expect("it is bound").port();
    (listener, port)
}

impl Site {
    /// With a grant for one redemption, which ends in so long.
    fn start(window: Duration) -> Self {
        let ca = Arc::new(authority());
        let grants = Grants::new(GrantStore::default(), NoDisk);
        grants.insert(Grant {
            id: "id".to_owned(),
            namespace: "west".to_owned(),
            name: "west-token".to_owned(),
            code: Code::new(CODE.to_owned()).expect("it is one"),
            redemptions_allowed: 1,
            redemptions: 0,
            expires_at: Some(SystemTime::now() + window),
            hosts: Vec::new(),
        });
        let identity = leaf(&ca, "server", Usage::Server).identity;
        let (listener, port) = listen();
        let (stop, stopped) = oneshot::channel();
        let issuer = Arc::new(Press(Arc::clone(&ca)));
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it can start");
            runtime.block_on(async {
                let _server = GrantServer::start(vec![listener], grants, issuer, &identity).expect("it can start");
                let _ = stopped.await;
            });
        });
        Self { ca, port, _stop: stop }
    }

    fn token(&self) -> AccessToken {
        token(self.ca.credentials().trust.pem(), self.port)
    }
}

fn token(ca: &str, port: u16) -> AccessToken {
    let url = format!("https://127.0.0.1:{port}/id");
    let spec =
        AccessTokenSpec { url, code: CODE.into(), ca: ca.to_owned(), link_cost: 7, ..AccessTokenSpec::default() };
    AccessToken::new("west-token", spec)
}

fn world_with(token: &AccessToken) -> World {
    let world = World::new();
    world.van("-n east site create east");
    fs::write(world.path("west.yaml"), yaml::write(token)).expect("a file can be written");
    world
}

/// A token that is refused: why, and that nothing came of it.
#[track_caller]
fn check_refused(token: &AccessToken, reason: &str) {
    let world = world_with(token);
    let complaint = format!("van: failed to redeem claim west-token: {reason}\n");
    world.fails("-n east token redeem west.yaml --timeout 10s", 1, &complaint);
    let input = world.namespace("east").load_input();
    assert!(input.entries().all(|entry| entry.document.kind() == Kind::Site), "something was stored");
}

#[test]
fn a_token_becomes_a_link_with_its_cost() {
    let site = Site::start(DAY);
    let world = world_with(&site.token());
    let started = "The site is not running; \"van -n east system start\" starts it, and with it the link";
    let redeemed = "Token \"west-token\" has been redeemed.";
    world.succeeds("-n east token redeem west.yaml", &format!("{redeemed}\n{started}\n"));
    let input = world.namespace("east").load_input();
    assert!(input.problems().is_empty(), "{:?}", input.problems());
    let link = input.sound::<Link>().next().expect("there is one");
    assert_eq!((&*link.spec.endpoints[0].host, link.spec.cost), ("127.0.0.1", 7));
    assert!(input.sound::<Secret>().next().expect("there is one").text("tls.crt").is_some());

    let again = "van: failed to redeem claim west-token: the token has been used up; ask for a new one\n";
    world.fails("-n east token redeem west.yaml", 1, again);
    assert_eq!(world.namespace("east").load_input().sound::<Link>().count(), 1, "the link stays");
}

#[test]
fn a_running_site_is_asked_for_its_link() {
    let failure = "van: Link \"west-token\" is not yet ready: TLS credentials secret \"west-token\" not found\n";
    for (fault, code, said, complaint) in [
        (None, 0, "Link \"west-token\" is ready.\n", ""),
        (Some("TLS credentials secret \"west-token\" not found"), 1, "", failure),
    ] {
        let site = Site::start(DAY);
        let world = world_with(&site.token());
        let namespace = world.namespace("east");
        let _controller = namespace.lock_controller().expect("nobody else has it");
        let mut command = world.start("-n east token redeem west.yaml --timeout 10s");
        command.wait_until_said("Token \"west-token\" has been redeemed.");
        let link = wait_for("a link", || namespace.load_input().sound::<Link>().next().cloned());
        let configured = fault.map_or(Ok(()), |fault| Err(fault.to_owned()));
        let up = LinkReport::Up { remote_site_id: None, remote_site_name: None, stands_by_for: None };
        let status = link_status(&LinkStatus::default(), configured, up, Timestamp::UNIX_EPOCH);
        world.report("east", Link { status, ..link });
        let ended = command.end();
        assert_eq!((ended.code, &*ended.output, &*ended.complaint), (Some(code), said, complaint));
    }
}

#[test]
fn a_token_that_the_other_site_refuses_says_why() {
    let expired = Site::start(Duration::ZERO);
    let unknown =
        "127.0.0.1 does not know the token: it has expired, or the site that issued it is gone; ask for a new one";
    check_refused(&expired.token(), unknown);
    let site = Site::start(DAY);
    let mut wrong_path = site.token();
    wrong_path.spec.url.push('x');
    check_refused(&wrong_path, unknown);
    let mut tampered = site.token();
    tampered.spec.code = "Z5BdhXi3Qzc6i3BfY83DNHYN".into();
    check_refused(&tampered, "127.0.0.1 refused the token's code; was the token changed? ask for a new one");
    let mut of_another = site.token();
    of_another.spec.ca = authority().credentials().trust.pem().to_owned();
    check_refused(
        &of_another,
        "127.0.0.1 has a certificate from another CA than the token's: another server answers there, or the site was \
         made anew; ask for a new token: invalid peer certificate: BadSignature",
    );
}

#[test]
fn who_is_no_server_of_grants_is_named() {
    let ca = authority();
    let trust = ca.credentials().trust.pem();
    let (listener, port) = listen();
    drop(listener);
    let hint = "is the site that issued it running, and is its port open from here?";
    check_refused(
        &token(trust, port),
        &format!(
            "127.0.0.1:{port} cannot be reached; {} Connection refused (os error 111)",
            hint.replace(" it ", " the token ")
        ),
    );
    let (listener, port) = listen();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("somebody called");
            let _ = stream.read(&mut [0; 1000]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n<html></html>");
        }
    });
    check_refused(
        &token(trust, port),
        &format!("127.0.0.1:{port} does not speak HTTPS; does the token's URL have the right port?"),
    );
}

#[test]
fn a_server_that_never_answers_is_left() {
    // Nobody accepts: the operating system takes the connection, and nothing follows.
    let (_listener, port) = listen();
    let ca = authority();
    let reason = format!(
        "no HTTPS connection to 127.0.0.1:{port} within 10s; does a firewall swallow what is sent there, or does another \
         program listen?"
    );
    check_refused(&token(ca.credentials().trust.pem(), port), &reason);
}

#[test]
fn a_file_without_a_token_is_not_redeemed() {
    let world = World::new();
    world.van("-n east site create east");
    let line = "-n east token redeem f.yaml";
    world.fails(line, 1, "van: f.yaml cannot be read: No such file or directory (os error 2)\n");
    world.fails("-n east token redeem .", 1, "van: . cannot be read: Is a directory (os error 21)\n");
    let write = |text: &str| fs::write(world.path("f.yaml"), text).expect("a file can be written");
    write("");
    world.fails(line, 1, "van: f.yaml is not a token: it is empty\n");
    let head = "apiVersion: skupper.io/v2alpha1\nkind: ";
    write(&format!("{head}Site\nmetadata: {{name: a}}\n"));
    world.fails(line, 1, "van: f.yaml is not a token: it holds a Site\n");
    write(&format!("{head}AccessToken\nmetadata: {{name: a}}\n"));
    world.fails(line, 1, "van: f.yaml cannot be used: spec.url is missing\n");
    write(&format!("{head}AccessToken\nmetadata: {{name: a}}\nspec: {{url: \"http://a\", code: c, ca: d}}\n"));
    world.fails(line, 1, "van: f.yaml cannot be used: spec.url \"http://a\" does not start with https://\n");
    let one = yaml::write(&token("no CA", 1));
    write(&format!("{one}---\n{one}"));
    world.fails(line, 1, "van: f.yaml holds 2 of AccessToken; redeem them one by one\n");
}

/// A token is not spent where its link would have no place.
#[test]
fn a_link_needs_a_site() {
    let world = World::new();
    fs::write(world.path("west.yaml"), yaml::write(&token("no CA", 1))).expect("a file can be written");
    let create = "make it with \"van -n east site create NAME\"";
    let complaint = format!("van: there is no site in namespace \"east\" that could be linked; {create}\n");
    world.fails("-n east token redeem west.yaml", 1, &complaint);
}
