//! What the tests share: a grant, a ledger, an issuer, a CA, a server.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use van_grant::{
    Accepted, AccessToken, Bundle, Code, Endpoint, Grant, GrantServer, GrantStore, Grants, IssueError, Issuer, Ledger,
    LedgerError, Request, Secret,
};
use van_tls::{Authority, AuthorityRequest, Credentials, KeyKind, LeafRequest, Usage};

pub(crate) const ID: &str = "38272eeb-dbea-41c2-9bc7-6c8ba4ed6cf0";
pub(crate) const CODE: &str = "Y5BdhXi3Qzc6i3BfY83DNHYN";
pub(crate) const WRONG: &[u8] = b"wrongcodewrongcodewrongc";
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

#[expect(clippy::disallowed_methods, reason = "certificates on loopback are judged by the real clock")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// For an hour, redeemable as often as told.
pub(crate) fn grant(redemptions_allowed: u32) -> Grant {
    Grant {
        id: ID.to_owned(),
        namespace: "west".to_owned(),
        name: "g1".to_owned(),
        code: Code::new(CODE.to_owned()).unwrap(),
        redemptions_allowed,
        redemptions: 0,
        expires_at: Some(now() + 60 * MINUTE),
        hosts: Vec::new(),
    }
}

/// Good in all respects.
pub(crate) fn request() -> Request<'static> {
    Request { method: "POST", path: REQUEST_PATH, host: None, name: None, subject: None, body: CODE.as_bytes() }
}

const REQUEST_PATH: &str = "/38272eeb-dbea-41c2-9bc7-6c8ba4ed6cf0";

/// Keeps counts in memory; fails while it is told to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory(pub(crate) Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) counts: BTreeMap<String, u32>,
    pub(crate) is_full: bool,
}

impl Memory {
    pub(crate) fn count(&self) -> Option<u32> {
        self.0.lock().unwrap().counts.get(ID).copied()
    }
}

impl Ledger for Memory {
    fn store(&mut self, grant: &Grant) -> Result<(), LedgerError> {
        let mut kept = self.0.lock().unwrap();
        if kept.is_full {
            return Err("the disk is full".into());
        }
        kept.counts.insert(grant.id.clone(), grant.redemptions);
        Ok(())
    }
}

/// Issues the same credentials to everybody, and counts.
#[derive(Debug, Default)]
pub(crate) struct Press {
    pub(crate) issued: AtomicU32,
    pub(crate) fault: Option<IssueError>,
    pub(crate) panics: bool,
}

impl Issuer for Press {
    fn issue(&self, accepted: &Accepted) -> Result<Bundle, IssueError> {
        assert!(!self.panics, "an issuer that panics");
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        self.issued.fetch_add(1, Ordering::SeqCst);
        Ok(bundle(accepted))
    }
}

pub(crate) fn bundle(accepted: &Accepted) -> Bundle {
    let host = accepted.host.clone().unwrap_or_else(|| "203.0.113.9".to_owned());
    let endpoint = |name: &str, port: &str| Endpoint {
        group: "skupper-router".to_owned(),
        host: host.clone(),
        name: name.to_owned(),
        port: port.to_owned(),
    };
    let certificate = format!("a certificate of {}\n", accepted.subject);
    let secret = Secret::new(&certificate, "a private key\n", "a CA\n");
    Bundle::new(&accepted.name, secret, vec![vec![endpoint("inter-router", "55671"), endpoint("edge", "45671")]])
}

// === TLS and servers ===

/// A CA as old as tests need it.
pub(crate) fn ca() -> Authority {
    let (common_name, key) = ("SkupperGrantServerCA".to_owned(), KeyKind::EcdsaP256);
    Authority::create(&AuthorityRequest { common_name, key, now: now() - 10 * DAY, valid_for: 30 * DAY }).unwrap()
}

pub(crate) fn leaf(ca: &Authority, hosts: &[&str], now: SystemTime) -> Credentials {
    let hosts = hosts.iter().map(ToString::to_string).collect();
    let (common_name, usage, key) = ("skupper-grant-server".to_owned(), Usage::Server, KeyKind::EcdsaP256);
    ca.issue(&LeafRequest { common_name, hosts, usage, key, now, valid_for: DAY }).unwrap()
}

pub(crate) fn listen(host: &str, port: u16) -> TcpListener {
    TcpListener::bind((host, port)).unwrap()
}

/// A server with one grant, and all that belongs to it.
pub(crate) struct Site {
    pub(crate) ca: Authority,
    pub(crate) grants: Grants,
    pub(crate) memory: Memory,
    pub(crate) server: GrantServer,
}

impl Site {
    pub(crate) fn start(grant: Grant, issuer: impl Issuer + 'static) -> Self {
        let ca = ca();
        let memory = Memory::default();
        let grants = Grants::new(GrantStore::default(), memory.clone());
        grants.insert(grant);
        let credentials = leaf(&ca, &["127.0.0.1", "127.0.0.2", "localhost"], now());
        let listeners = vec![listen("127.0.0.1", 0)];
        let server = GrantServer::start(listeners, grants.clone(), Arc::new(issuer), &credentials.identity).unwrap();
        Self { ca, grants, memory, server }
    }

    pub(crate) fn port(&self) -> u16 {
        self.server.local_addrs()[0].port()
    }

    pub(crate) fn token(&self) -> AccessToken {
        token(&self.ca, "127.0.0.1", self.port())
    }
}

pub(crate) fn token(ca: &Authority, host: &str, port: u16) -> AccessToken {
    let code = Code::new(CODE.to_owned()).unwrap();
    AccessToken::new("hub-link", format!("https://{host}:{port}/{ID}"), code, ca.credentials().trust.pem())
}
