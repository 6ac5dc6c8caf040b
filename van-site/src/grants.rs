//! The grants of a site: what its AccessGrants offer, the server where they are redeemed, and the credentials it gives out;
//! and the other end, a token that is redeemed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tokio::sync::Notify;
use uuid::Uuid;
use van_grant::{
    Accepted, Bundle, Code, Endpoint, Grant, GrantServer, GrantStore, Grants, IssueError, Issuer, Ledger, LedgerError,
    RedeemOptions,
};
use van_tls::Credentials;

use crate::certificates;
use crate::derive::{self, GROUP};
use crate::document::Document;
use crate::resource::certificate::CertificateSpec;
use crate::resource::link::LinkSpec;
use crate::resource::{self, AccessGrant, AccessToken, Link, Secret};
use crate::store::{KeptGrant, Store, StoreError};

/// The annotation that remembers the grant that credentials come from.
pub const REDEEMED_FROM: &str = "skupper.io/redeemed-from";

/// How long redemptions under way may take when the server closes.
const CLOSE_TIME: Duration = Duration::from_secs(5);

/// The grants of a site, and where they are redeemed.
#[derive(Debug)]
pub(crate) struct Desk {
    grants: Grants,
    store: Arc<Store>,
    offer: Arc<Mutex<Offer>>,
    /// When each grant was seen first, by its id.
    created: Arc<Mutex<BTreeMap<String, Timestamp>>>,
    serving: Option<Serving>,
    /// Told whenever a grant has changed, most often because a use was counted.
    pub(crate) counted: Arc<Notify>,
}

/// A server that runs, and what it was started with.
#[derive(Debug)]
struct Serving {
    server: GrantServer,
    hosts: BTreeSet<String>,
    port: u16,
    certificate: String,
}

/// What credentials are made from.
#[derive(Debug, Default)]
pub(crate) struct Offer {
    /// The CA of each grant, by the name of the grant.
    pub(crate) issuers: BTreeMap<String, Credentials>,
    /// The roles in which links are accepted, each with its port.
    pub(crate) ports: Vec<(&'static str, u16)>,
    /// The hosts by which they are, the likeliest first.
    pub(crate) hosts: Vec<String>,
}

impl Desk {
    /// With the grants of earlier lives.
    pub(crate) fn new(store: Arc<Store>) -> Result<Self, StoreError> {
        let kept = store.grants()?;
        let created = kept.iter().map(|kept| (kept.grant.id.clone(), kept.created)).collect();
        let created = Arc::new(Mutex::new(created));
        let mut known = GrantStore::default();
        kept.into_iter().for_each(|kept| known.insert(kept.grant));
        let counted = Arc::new(Notify::new());
        let ledger =
            SiteLedger { store: Arc::clone(&store), created: Arc::clone(&created), counted: Arc::clone(&counted) };
        let grants = Grants::new(known, ledger);
        Ok(Self { grants, store, offer: Arc::default(), created, serving: None, counted })
    }

    /// Says what credentials are to be made from.
    pub(crate) fn set_offer(&self, offer: Offer) {
        *lock(&self.offer) = offer;
    }

    /// Makes the grants those of the documents; what is wrong with one, by its name. Others are forgotten if these are all.
    pub(crate) fn set_grants<'a>(
        &self,
        namespace: &str,
        documents: impl Iterator<Item = &'a AccessGrant>,
        is_all: bool,
        now: Timestamp,
    ) -> BTreeMap<String, String> {
        let mut known: BTreeMap<_, _> =
            self.grants.list().into_iter().map(|grant| (grant.name.clone(), grant)).collect();
        let mut faults = BTreeMap::new();
        for document in documents {
            let name = &document.metadata.name;
            if let Err(fault) = self.set_grant(namespace, document, known.remove(name), now) {
                faults.insert(name.clone(), fault);
            }
        }
        for grant in known.into_values().filter(|_| is_all) {
            self.grants.remove(&grant.id);
            lock(&self.created).remove(&grant.id);
            self.store.remove_grant(&grant.id);
        }
        faults
    }

    fn set_grant(
        &self,
        namespace: &str,
        document: &AccessGrant,
        known: Option<Grant>,
        now: Timestamp,
    ) -> Result<(), String> {
        let spec = &document.spec;
        let window = spec.window().map_err(|error| error.to_string())?;
        let code = match (spec.code.reveal(), &known) {
            ("", Some(known)) => Ok(known.code.clone()),
            ("", None) => Code::random(),
            (given, _) => Code::new(given.to_owned()),
        };
        let code = code.map_err(|error| error.to_string())?;
        let id = known.as_ref().map_or_else(|| Uuid::new_v4().to_string(), |known| known.id.clone());
        let created = *lock(&self.created).entry(id.clone()).or_insert(now);
        let grant = Grant {
            id,
            namespace: namespace.to_owned(),
            name: document.metadata.name.clone(),
            code,
            redemptions_allowed: spec.allowed(),
            redemptions: known.as_ref().map_or(0, |known| known.redemptions),
            expires_at: Some(created.checked_add(window).unwrap_or(Timestamp::MAX).into()),
            hosts: derive::ingress_hosts(document),
        };
        if known.as_ref() != Some(&grant) {
            self.grants.put(grant).map_err(|error| van_adaptors::with_causes(&*error))?;
        }
        Ok(())
    }

    /// All grants as they are now, by their names.
    pub(crate) fn by_name(&self) -> BTreeMap<String, Grant> {
        self.grants.list().into_iter().map(|grant| (grant.name.clone(), grant)).collect()
    }

    /// Serves redemptions on a port of these hosts (none: all), as `credentials` say who this is.
    pub(crate) async fn serve(
        &mut self,
        hosts: BTreeSet<String>,
        port: u16,
        credentials: &Credentials,
    ) -> Result<(), ServeError> {
        let certificate = credentials.identity.chain_pem();
        if self.serving.as_ref().is_some_and(|serving| (&serving.hosts, serving.port) != (&hosts, port)) {
            self.close().await;
        }
        if let Some(serving) = &mut self.serving {
            if serving.certificate != certificate {
                serving.server.replace_credentials(&credentials.identity)?;
                certificate.clone_into(&mut serving.certificate);
            }
            return Ok(());
        }
        let listeners = bind(&hosts, port).map_err(|source| ServeError::Listen { port, source })?;
        let issuer = Arc::new(SiteIssuer(Arc::clone(&self.offer)));
        let server = GrantServer::start(listeners, self.grants.clone(), issuer, &credentials.identity)?;
        self.serving = Some(Serving { server, hosts, port, certificate: certificate.to_owned() });
        Ok(())
    }

    /// Serves no more.
    pub(crate) async fn close(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.server.shutdown(CLOSE_TIME).await;
        }
    }
}

/// Why tokens cannot be redeemed here; the operator's move.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The port, or an address.
    #[error("tokens cannot be redeemed here: cannot listen on port {port}")]
    Listen {
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The server does not start.
    #[error("tokens cannot be redeemed here")]
    Start(#[from] van_grant::StartError),
    /// Its certificate cannot be used.
    #[error("tokens cannot be redeemed here")]
    Certificate(#[from] van_tls::SetupError),
}

impl ServeError {
    /// Whether another port would do.
    pub(crate) fn is_port_taken(&self) -> bool {
        matches!(self, Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}

/// Sockets on a port of these hosts; of all if there are none.
pub(crate) fn bind(hosts: &BTreeSet<String>, port: u16) -> io::Result<Vec<TcpListener>> {
    if !hosts.is_empty() {
        return hosts.iter().map(|host| TcpListener::bind((host.as_str(), port))).collect();
    }
    // One socket serves both families, unless the system has only one.
    let all = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port));
    let socket = match all {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)),
        other => other,
    };
    Ok(vec![socket?])
}

/// Keeps counts in the store.
struct SiteLedger {
    store: Arc<Store>,
    created: Arc<Mutex<BTreeMap<String, Timestamp>>>,
    counted: Arc<Notify>,
}

impl Ledger for SiteLedger {
    fn store(&mut self, grant: &Grant) -> Result<(), LedgerError> {
        let created = lock(&self.created).get(&grant.id).copied().unwrap_or_else(Timestamp::now);
        self.store.put_grant(&KeptGrant { created, grant: grant.clone() })?;
        self.counted.notify_one();
        Ok(())
    }
}

/// Issues certificates of the site, and Links to the host by which the redeemer called.
struct SiteIssuer(Arc<Mutex<Offer>>);

impl Issuer for SiteIssuer {
    fn issue(&self, accepted: &Accepted) -> Result<Bundle, IssueError> {
        let (issuer, ports, host) = {
            let offer = lock(&self.0);
            let issuer = offer.issuers.get(&accepted.grant).cloned().ok_or(IssueError::NoAuthority)?;
            // What worked for the redemption works for the link.
            let host = accepted.host.clone().or_else(|| offer.hosts.first().cloned());
            (issuer, offer.ports.clone(), host.ok_or(IssueError::NoEndpoints)?)
        };
        if ports.is_empty() {
            return Err(IssueError::NoEndpoints);
        }
        // It names no host and is no server's: with Skupper's, which are both, a redeemer could pass for this site.
        let spec = CertificateSpec { subject: accepted.subject.clone(), client: true, ..CertificateSpec::default() };
        let credentials = certificates::issue(&issuer, &spec, SystemTime::now())
            .map_err(|error| IssueError::Certificate(van_adaptors::with_causes(&error)))?;
        let secret = van_grant::Secret {
            name: accepted.name.clone(),
            ca_crt: credentials.trust.pem().to_owned(),
            tls_crt: credentials.identity.chain_pem().to_owned(),
            tls_key: credentials.identity.key_pem().to_owned().into(),
        };
        let endpoint = |(role, port): (&str, u16)| Endpoint {
            group: GROUP.into(),
            host: host.clone(),
            name: role.into(),
            port: port.to_string(),
        };
        Ok(Bundle::new(&accepted.name, secret, vec![ports.into_iter().map(endpoint).collect()]))
    }
}

// === the other end ===

/// Why a token did not become a link.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    /// It was not redeemed.
    #[error(transparent)]
    Grant(#[from] van_grant::RedeemError),
    /// The token says what no token can.
    #[error("the token cannot be used; ask for a new one")]
    Token(#[source] van_grant::CodeError),
    /// What it was redeemed for cannot be used.
    #[error("the site gave credentials that cannot be used; ask for a new token")]
    Credentials(#[from] van_tls::CredentialsError),
}

impl RedeemError {
    /// Whether trying again is useless.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Grant(error) => error.is_final(),
            Self::Token(_) | Self::Credentials(_) => true,
        }
    }

    /// All that went wrong, in one line for people.
    pub fn text(&self) -> String {
        van_adaptors::with_causes(self)
    }
}

/// Redeems a token: its Secret, then its Links. `subject` becomes the name in the certificate, `timeout` bounds the call to
/// each of the token's hosts.
///
/// # Errors
/// See [`RedeemError`].
pub async fn redeem(token: &AccessToken, subject: &str, timeout: Duration) -> Result<Vec<Document>, RedeemError> {
    let mut options = RedeemOptions::default();
    options.timeout = timeout.min(options.timeout);
    let carried = van_grant::AccessToken {
        name: token.metadata.name.clone(),
        url: token.spec.url.clone(),
        code: Code::new(token.spec.code.reveal().to_owned()).map_err(RedeemError::Token)?,
        ca: token.spec.ca.clone(),
        link_cost: u32::try_from(token.spec.link_cost).ok().filter(|cost| *cost > 0),
        hosts: derive::listed(token.spec.settings.get("hosts")),
    };
    let bundle = van_grant::redeem(&carried, subject, &options).await?;
    let given = &bundle.secret;
    Credentials::from_pem(&given.tls_crt, &given.tls_key, &given.ca_crt)?;
    let mut secret = Secret::new(&given.name, Secret::TLS);
    secret.set("ca.crt", given.ca_crt.as_bytes());
    secret.set("tls.crt", given.tls_crt.as_bytes());
    secret.set("tls.key", given.tls_key.as_bytes());
    secret.metadata.annotations.insert(REDEEMED_FROM.into(), token.spec.url.clone());
    let links = bundle.links.iter().map(|link| Document::from(link_document(link)));
    Ok([Document::from(secret)].into_iter().chain(links).collect())
}

fn link_document(link: &van_grant::Link) -> Link {
    let endpoints = link.endpoints.iter().map(|endpoint| resource::Endpoint {
        name: endpoint.name.clone(),
        host: endpoint.host.clone(),
        port: endpoint.port.clone(),
        group: Some(endpoint.group.clone()).filter(|group| !group.is_empty()),
    });
    let spec = LinkSpec {
        endpoints: endpoints.collect(),
        cost: link.cost.and_then(|cost| i32::try_from(cost).ok()).unwrap_or_default(),
        tls_credentials: Some(link.tls_credentials.clone()),
        ..LinkSpec::default()
    };
    Link::new(&link.name, spec)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
