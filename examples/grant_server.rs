//! A grant server alone: it offers credentials once; a token is carried over and redeemed.
//!
//! `cargo run -p examples --example grant_server`

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use van_grant::*;
use van_tls::{Authority, AuthorityRequest, KeyKind, LeafRequest, Usage};

const HOUR: Duration = Duration::from_secs(60 * 60);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (key, now, valid_for) = (KeyKind::EcdsaP256, SystemTime::now(), HOUR);
    let ca = Authority::create(&AuthorityRequest { common_name: "example CA".into(), key, now, valid_for })?;
    let certify = move |name: &str, host: &str| {
        let (common_name, hosts, usage) = (name.into(), vec![host.into()], Usage::Both);
        ca.issue(&LeafRequest { common_name, hosts, usage, key, now, valid_for })
    };
    let shown = certify("grant server", "127.0.0.1")?;

    // What redeemers get: a certificate, and where to link to with it.
    let issuer = move |accepted: &Accepted| {
        let host = accepted.host.clone().ok_or(IssueError::NoEndpoints)?;
        let made = certify(&accepted.subject, &host);
        let made = made.map_err(|error| IssueError::Certificate(error.to_string()))?;
        let secret = Secret::new(made.identity.chain_pem(), made.identity.key_pem(), made.trust.pem());
        let (group, name, port) = ("skupper-router".into(), "inter-router".into(), "55671".into());
        Ok(Bundle::new(&accepted.name, secret, vec![vec![Endpoint { group, host, name, port }]]))
    };
    let ledger = |grant: &Grant| {
        println!("{} of {} uses made; a site would write that down", grant.redemptions, grant.redemptions_allowed);
        Ok(())
    };
    let (id, code) = ("38272eeb-dbea-41c2-9bc7-6c8ba4ed6cf0".to_owned(), Code::random()?);
    let (namespace, name, expires_at, hosts) = ("west".into(), "for-east".into(), Some(now + HOUR), vec![]);
    let (redemptions_allowed, redemptions) = (1, 0);
    let offer = Grant { id, namespace, name, code, redemptions_allowed, redemptions, expires_at, hosts };
    let grants = Grants::new(GrantStore::default(), ledger);
    grants.insert(offer.clone());
    let socket = TcpListener::bind("127.0.0.1:0")?;
    let server = GrantServer::start(vec![socket], grants, Arc::new(issuer), &shown.identity)?;

    let url = format!("https://{}/{}", server.local_addrs()[0], offer.id);
    let token = AccessToken::new("to-west", url, offer.code, shown.trust.pem()).to_yaml();
    println!("{}", token.as_str());
    let bundle = redeem(&AccessToken::from_yaml(&token)?, "east", &RedeemOptions::default()).await?;
    let Endpoint { host, port, .. } = &bundle.links[0].endpoints[0];
    println!("east may link to {host}:{port}");
    server.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
