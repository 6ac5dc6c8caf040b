//! A grant server alone: it offers credentials once; a token is carried over and redeemed.
//!
//! `cargo run -p examples --example grant_server`

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use van_grant::*;
use van_tls::{Authority, AuthorityRequest, Credentials, KeyKind, LeafRequest, Usage};

const HOUR: Duration = Duration::from_secs(60 * 60);

struct Site(Authority);

impl Site {
    fn certificate(&self, name: &str, host: &str) -> Result<Credentials, van_tls::IssueError> {
        let (common_name, hosts, now) = (name.to_owned(), vec![host.to_owned()], SystemTime::now());
        let (usage, key, valid_for) = (Usage::Both, KeyKind::EcdsaP256, HOUR);
        self.0.issue(&LeafRequest { common_name, hosts, usage, key, now, valid_for })
    }
}

impl Issuer for Site {
    fn issue(&self, accepted: &Accepted) -> Result<Bundle, IssueError> {
        let host = accepted.host.clone().ok_or(IssueError::NoEndpoints)?;
        let made = self.certificate(&accepted.subject, &host);
        let made = made.map_err(|error| IssueError::Certificate(error.to_string()))?;
        let secret = Secret::new(made.trust.pem(), made.identity.chain_pem(), made.identity.key_pem());
        let (group, name, port) = ("skupper-router".into(), "inter-router".into(), "55671".into());
        Ok(Bundle::new(&accepted.name, secret, vec![vec![Endpoint { group, host, name, port }]]))
    }
}

struct Memory;

impl Ledger for Memory {
    fn store(&mut self, grant: &Grant) -> Result<(), LedgerError> {
        println!("{} of {} uses of {} made", grant.redemptions, grant.redemptions_allowed, grant.name);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (common_name, key, now) = ("example CA".to_owned(), KeyKind::EcdsaP256, SystemTime::now());
    let site = Site(Authority::create(&AuthorityRequest { common_name, key, now, valid_for: HOUR })?);
    let shown = site.certificate("grant server", "127.0.0.1")?;

    let grant = Grant::new("west", "for-east", Code::random()?, now + HOUR)?;
    let grants = Grants::new(GrantStore::default(), Memory);
    grants.insert(grant.clone());
    let server = GrantServer::start(vec![TcpListener::bind("127.0.0.1:0")?], grants, Arc::new(site), &shown.identity)?;

    let url = format!("https://{}/{}", server.local_addrs()[0], grant.id);
    let token = AccessToken::new("to-west", url, grant.code, shown.trust.pem()).to_yaml();
    println!("{}", token.as_str());
    let bundle = redeem(&AccessToken::from_yaml(&token)?, "east", &RedeemOptions::default()).await?;
    println!("{}", bundle.links[0].name);
    Ok(server.shutdown(Duration::from_secs(5)).await)
}
