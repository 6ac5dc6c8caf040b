//! A site inside any program: [`Site::builder`] is the door to all of this workspace.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;
use van_adaptors::{AcceptError, DialError, Dialer, Incoming, Stream};

use crate::bench::{self, BenchError, BenchReport, BenchRequest};
use crate::controller::{Command, Controller, Snapshot, Surface};
use crate::derive::{HOSTS, INGRESS_HOSTS, LINK_BIND_HOST, LINK_HOSTS};
use crate::document::{Document, Key};
use crate::duration;
use crate::folder::Namespace;
use crate::names;
use crate::resource::access_grant::AccessGrantSpec;
use crate::resource::access_token::AccessTokenSpec;
use crate::resource::connector::ConnectorSpec;
use crate::resource::listener::ListenerSpec;
use crate::resource::site::{NO_BENCH, SiteSpec};
use crate::resource::{AccessGrant, AccessToken, Connector, Kind, Listener, Resource};
use crate::status::{ConditionKind, State};
use crate::store::{Store, StoreError};

/// The namespace of sites that name none.
const DEFAULT_NAMESPACE: &str = "default";

/// A running site. Dropping it stops it at once; [`Site::shutdown`] does so in order.
#[derive(Debug)]
pub struct Site {
    name: String,
    commands: mpsc::UnboundedSender<Command>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    thread: Option<JoinHandle<()>>,
}

/// A site that is about to be started.
#[derive(Debug)]
pub struct Builder {
    name: String,
    namespace: String,
    spec: SiteSpec,
    state_dir: Option<PathBuf>,
    tokens: Vec<AccessToken>,
    documents: Vec<Document>,
    shards: Option<u16>,
}

/// How often and how long a token can be redeemed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// How often; once by default.
    pub uses: u32,
    /// How long from now; 15 minutes by default.
    pub valid_for: Duration,
    /// What links made with it cost; 1 by default.
    pub cost: u32,
    /// The only hosts by which it may be redeemed; by default any by which this site is reached.
    pub hosts: Vec<String>,
}

impl Default for TokenRequest {
    fn default() -> Self {
        Self { uses: 1, valid_for: Duration::from_secs(15 * 60), cost: 1, hosts: Vec::new() }
    }
}

/// Why a site does not do what is asked of it.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// Its folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
    /// A document cannot be carried out; what is wrong and what to do.
    #[error("{key}: {message}")]
    Document {
        /// The document.
        key: Key,
        /// Why.
        message: String,
    },
    /// A target is not a host and a port.
    #[error("\"{0}\" is not host:port")]
    NotHostPort(String),
    /// It has stopped.
    #[error("the site has stopped")]
    Stopped,
}

impl Site {
    /// A site of this name, in memory and without links unless told otherwise.
    pub fn builder(name: impl Into<String>) -> Builder {
        Builder {
            name: name.into(),
            namespace: DEFAULT_NAMESPACE.into(),
            spec: SiteSpec::default(),
            state_dir: None,
            tokens: Vec::new(),
            documents: Vec::new(),
            shards: None,
        }
    }

    /// Runs the site that a namespace folder describes, and follows its files. The Site may come later.
    ///
    /// # Errors
    /// [`SiteError::Store`], also if another controller runs it; [`SiteError::Thread`].
    pub fn open(namespace: Namespace) -> Result<Self, SiteError> {
        let surface = Surface { namespace: namespace.name().to_owned(), shards: None };
        Self::run(String::new(), surface, Store::folder(namespace), Vec::new())
    }

    fn run(name: String, surface: Surface, store: Store, declared: Vec<Document>) -> Result<Self, SiteError> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (shown, snapshot) = watch::channel(Arc::default());
        let controller = Controller::new(surface, store, declared, inbox, shown)?;
        let (started, is_started) = std::sync::mpsc::channel();
        // The runtime is made and dropped on its own thread: on that of a caller's runtime it could not be dropped.
        let run = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let _ = started.send(Ok(()));
                runtime.block_on(controller.run());
                // A token that is just being redeemed is not waited for.
                runtime.shutdown_background();
            }
            Err(error) => drop(started.send(Err(error))),
        };
        let thread = std::thread::Builder::new().name("van-site".into()).spawn(run).map_err(SiteError::Thread)?;
        is_started.recv().expect("the thread says how it starts").map_err(SiteError::Thread)?;
        Ok(Self { name, commands, snapshot, thread: Some(thread) })
    }

    /// How everything is doing, now and with every change.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// Exposes a socket: streams of a routing key go to `target`, `host:port`. Repeated for the same key, it replaces the
    /// target.
    ///
    /// # Errors
    /// [`SiteError`].
    pub async fn connector(&self, key: &str, target: &str) -> Result<(), SiteError> {
        let (host, port) = host_port(target)?;
        let spec = ConnectorSpec { routing_key: key.into(), host: Some(host), port, ..ConnectorSpec::default() };
        self.declare(Connector::new(document_name(key), spec)).await
    }

    /// Opens a port for clients of a routing key at `address`, `host:port`, whenever somebody consumes the key, which
    /// [`Site::ready`] waits for. Port 0 is a port of the system's choice. The port is returned.
    ///
    /// # Errors
    /// [`SiteError`].
    pub async fn listener(&self, key: &str, address: &str) -> Result<u16, SiteError> {
        let (host, port) = host_port(address)?;
        let spec = ListenerSpec { routing_key: key.into(), host, port, ..ListenerSpec::default() };
        let name = document_name(key);
        self.declare(Listener::new(&name, spec)).await?;
        self.wait_for(|snapshot| snapshot.listener_ports.get(&name).copied()).await
    }

    /// Has a document carried out as long as this program runs, and waits until it is, or cannot be: a grant can be redeemed,
    /// a token has become a link, a certificate is made. Nothing is to be waited for with a Secret.
    ///
    /// # Errors
    /// [`SiteError::Document`]; the document stays, and is tried again where that may help.
    pub async fn declare(&self, document: impl Into<Document>) -> Result<(), SiteError> {
        let document = document.into();
        let key = document.key();
        check_name(&key)?;
        let (done, counts) = oneshot::channel();
        self.command(Command::Declare(document.clone().into(), done))?;
        if !counts.await.map_err(|_| SiteError::Stopped)? {
            let message = "a file in input/resources has a document of this kind and name, and it counts".to_owned();
            return Err(SiteError::Document { key, message });
        }
        if key.kind == Kind::Secret {
            return Ok(()); // it is never shown; what comes behind it finds it
        }
        let configured = self.wait_for(|snapshot| configured(snapshot.documents.get(&key)?, &document)).await?;
        configured.map_err(|message| SiteError::Document { key, message })
    }

    /// Waits until a document is all that it should be: a link is up, somebody serves a listener's routing key and its port
    /// is open. That may never be: bound it with a timeout, and look at [`Site::watch`] for why.
    ///
    /// # Errors
    /// [`SiteError::Stopped`].
    pub async fn ready(&self, kind: Kind, name: &str) -> Result<(), SiteError> {
        let key = Key::new(kind, name);
        let state = |snapshot: &Snapshot| snapshot.documents.get(&key)?.status()?.state;
        self.wait_for(|snapshot| (state(snapshot)? == State::Ready).then_some(())).await
    }

    /// Takes a document back that this program declared. Streams under way live on.
    ///
    /// # Errors
    /// [`SiteError::Stopped`].
    pub async fn withdraw(&self, kind: Kind, name: &str) -> Result<(), SiteError> {
        let key = Key::new(kind, name);
        self.command(Command::Withdraw(key.clone()))?;
        self.wait_for(|snapshot| (!snapshot.documents.contains_key(&key)).then_some(())).await
    }

    /// Makes a token by which another site can link to this one. It is a secret until it is redeemed.
    ///
    /// # Errors
    /// [`SiteError::Document`] if this site cannot be linked to.
    pub async fn issue_token(&self, request: &TokenRequest) -> Result<AccessToken, SiteError> {
        let site = if self.name.is_empty() { "token" } else { &self.name };
        let name = format!("{site}-{}", Uuid::new_v4());
        let mut spec = AccessGrantSpec {
            redemptions_allowed: i32::try_from(request.uses).unwrap_or(i32::MAX),
            expiration_window: Some(duration::format(request.valid_for)),
            ..AccessGrantSpec::default()
        };
        if !request.hosts.is_empty() {
            spec.settings.insert(INGRESS_HOSTS.into(), request.hosts.join(","));
        }
        let grant = AccessGrant::new(&name, spec);
        self.keep(vec![grant.into()]).await?;
        let key = Key::new(Kind::AccessGrant, &*name);
        let ready = |snapshot: &Snapshot| match snapshot.documents.get(&key)? {
            Document::AccessGrant(grant) => match grant.status.common.state {
                Some(State::Ready) => Some(Ok(grant.clone())),
                Some(State::Error) => Some(Err(grant.status.common.message.clone())),
                _ => None,
            },
            _ => None,
        };
        let grant = self.wait_for(ready).await?;
        let grant = grant.map_err(|message| SiteError::Document { key: key.clone(), message })?;
        Ok(token(&grant, request.cost))
    }

    /// Redeems a token, and links to the site that issued it. Done once the token is a link; [`Site::dial`] waits for what
    /// is behind it.
    ///
    /// # Errors
    /// [`SiteError::Document`] if the token is of no use.
    pub async fn redeem(&self, token: AccessToken) -> Result<(), SiteError> {
        let token = Document::from(token);
        let key = token.key();
        self.keep(vec![token.clone()]).await?;
        let redeemed = self.wait_for(|snapshot| configured(snapshot.documents.get(&key)?, &token)).await?;
        redeemed.map_err(|message| SiteError::Document { key: key.clone(), message })
    }

    /// Serves a routing key without any socket, until the router ends: with the site, or when that becomes an edge site, or
    /// none any more.
    ///
    /// # Errors
    /// [`AcceptError`].
    pub async fn accept(&self, key: &str) -> Result<Incoming, AcceptError> {
        self.dialer(None).await.map_err(|_| AcceptError::Stopped)?.accept(key).await
    }

    /// A stream to a workload anywhere in the network. Waits as long as nobody consumes the key: bound it with a timeout.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn dial(&self, key: &str) -> Result<Stream, DialError> {
        let mut dialer = self.dialer(None).await.map_err(|_| DialError::Stopped)?;
        loop {
            let dialled = match dialer.reachable(key).await {
                Ok(()) => dialer.dial(key).await,
                Err(error) => Err(error),
            };
            match dialled {
                // It has just gone.
                Err(DialError::Unreachable { .. }) => {}
                // The site has another router, or has stopped as well.
                Err(DialError::Stopped) => {
                    dialer = self.dialer(Some(&dialer)).await.map_err(|_| DialError::Stopped)?;
                }
                dialled => return dialled,
            }
        }
    }

    /// Measures another site, or the workloads of a routing key, through this site's router: what its clients would get.
    /// That keeps this machine busy for some times as long as is asked for; dropping the future ends it soon.
    ///
    /// # Errors
    /// See [`BenchError`].
    pub async fn bench(&self, request: BenchRequest) -> Result<BenchReport, BenchError> {
        let snapshot = Arc::clone(&self.snapshot.borrow());
        bench::bench(snapshot, request).await
    }

    /// Stops in order: no new streams, those under way may end within `drain`, then links are closed.
    pub async fn shutdown(mut self, drain: Duration) {
        let (done, is_done) = oneshot::channel();
        if self.commands.send(Command::Shutdown { drain, done }).is_ok() {
            let _ = is_done.await;
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    async fn keep(&self, documents: Vec<Document>) -> Result<(), SiteError> {
        let (done, kept) = oneshot::channel();
        self.command(Command::Keep(documents, done))?;
        Ok(kept.await.map_err(|_| SiteError::Stopped)??)
    }

    /// The router's, other than `before`.
    async fn dialer(&self, before: Option<&Dialer>) -> Result<Dialer, SiteError> {
        self.wait_for(|snapshot| snapshot.dialer.clone().filter(|dialer| Some(dialer) != before)).await
    }

    fn command(&self, command: Command) -> Result<(), SiteError> {
        self.commands.send(command).map_err(|_| SiteError::Stopped)
    }

    async fn wait_for<T>(&self, mut look: impl FnMut(&Snapshot) -> Option<T>) -> Result<T, SiteError> {
        let mut snapshot = self.snapshot.clone();
        loop {
            if let Some(seen) = look(&snapshot.borrow_and_update()) {
                return Ok(seen);
            }
            snapshot.changed().await.map_err(|_| SiteError::Stopped)?;
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Nobody is left to tell the controller anything: that ends it.
            self.commands = mpsc::unbounded_channel().0;
            let _ = thread.join();
        }
    }
}

impl Builder {
    /// Keeps everything in a folder, laid out as a namespace of `van`: so that the site is the same after a restart, and
    /// documents can be put there. Links and tokens it was given stay there.
    #[must_use]
    pub fn state_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(folder.into());
        self
    }

    /// The namespace others see it in; `default` if there is no other.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Lets other sites link to this one, by every address of this machine.
    #[must_use]
    pub fn link_access(mut self) -> Self {
        self.spec.link_access = Some("default".into());
        self
    }

    /// Lets other sites link to this one by this address only, which is one of this machine's.
    #[must_use]
    pub fn link_access_at(mut self, host: &str) -> Self {
        self.spec.settings.insert(LINK_BIND_HOST.into(), host.into());
        self.spec.settings.insert(LINK_HOSTS.into(), host.into());
        self.link_access()
    }

    /// Makes it an edge site: it links to interior sites, uses one of its links at a time, and nobody links to it.
    #[must_use]
    pub fn edge(mut self) -> Self {
        self.spec.edge = true;
        self
    }

    /// Lets nobody measure the network by this site: its router does not answer [`Site::bench`] of others.
    #[must_use]
    pub fn without_bench(mut self) -> Self {
        self.spec.settings.insert(NO_BENCH.into(), "true".into());
        self
    }

    /// Redeems a token and links to the site that issued it; with a state folder, only the first time.
    #[must_use]
    pub fn token(mut self, token: AccessToken) -> Self {
        self.tokens.push(token);
        self
    }

    /// Carries out a document as long as the program runs.
    #[must_use]
    pub fn document(mut self, document: impl Into<Document>) -> Self {
        self.documents.push(document.into());
        self
    }

    /// Threads of the data plane; one per core if not said.
    #[must_use]
    pub fn shards(mut self, shards: u16) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Starts the site; it is ready, and its tokens are redeemed, when this returns.
    ///
    /// # Errors
    /// [`SiteError`]; nothing is left running.
    pub async fn start(self) -> Result<Site, SiteError> {
        let Self { name, namespace, spec, state_dir, tokens, documents, shards } = self;
        let store = match state_dir {
            Some(folder) => Store::folder(Namespace::at(folder, &*namespace)),
            None => Store::memory(),
        };
        let key = Key::new(Kind::Site, &*name);
        let declared: Vec<_> = [Document::from(Resource::new(&*name, spec))].into_iter().chain(documents).collect();
        declared.iter().try_for_each(|document| check_name(&document.key()))?;
        let site = Site::run(name, Surface { namespace, shards }, store, declared)?;
        let ready = site.wait_for(|snapshot| is_ready(snapshot.documents.get(&key)?)).await?;
        ready.map_err(|message| SiteError::Document { key, message })?;
        for token in tokens {
            site.redeem(token).await?;
        }
        Ok(site)
    }
}

/// The token of a grant that is ready.
pub fn token(grant: &AccessGrant, cost: u32) -> AccessToken {
    let mut spec = AccessTokenSpec {
        url: grant.status.url.clone().unwrap_or_default(),
        code: grant.status.code.clone(),
        ca: grant.status.ca.clone().unwrap_or_default(),
        link_cost: i32::try_from(cost).unwrap_or(i32::MAX),
        ..AccessTokenSpec::default()
    };
    if let Some(hosts) = grant.metadata.annotations.get(HOSTS) {
        spec.settings.insert("hosts".into(), hosts.clone());
    }
    AccessToken::new(&grant.metadata.name, spec)
}

fn is_ready(document: &Document) -> Option<Result<(), String>> {
    let status = document.status()?;
    match status.state? {
        State::Ready => Some(Ok(())),
        State::Error => Some(Err(status.message.clone())),
        State::Pending => None,
    }
}

/// Whether a document is carried out as it is wanted now, or why not.
fn configured(shown: &Document, wanted: &Document) -> Option<Result<(), String>> {
    if !shown.has_spec_of(wanted) {
        return None;
    }
    let kind = match shown {
        Document::AccessGrant(_) => ConditionKind::Processed,
        Document::AccessToken(_) => ConditionKind::Redeemed,
        Document::Certificate(_) => ConditionKind::Ready,
        _ => ConditionKind::Configured,
    };
    let condition = shown.status()?.condition(kind)?;
    match condition.reason {
        State::Ready => Some(Ok(())),
        State::Error => Some(Err(condition.message.clone())),
        State::Pending => None,
    }
}

/// Documents are called so that there can be files of their names.
fn check_name(key: &Key) -> Result<(), SiteError> {
    let named = names::resource_name(&key.name);
    named.map_err(|error| SiteError::Document { key: key.clone(), message: error.to_string() })
}

/// The name of the document for a routing key: the key itself, if a document can be called so.
fn document_name(key: &str) -> String {
    if names::resource_name(key).is_ok() {
        return key.to_owned();
    }
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    let plain: String = key.to_ascii_lowercase().chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    format!("key-{plain}-{:016x}", hasher.finish())
}

fn host_port(text: &str) -> Result<(String, u16), SiteError> {
    let split = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = split.ok_or_else(|| SiteError::NotHostPort(text.to_owned()))?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}
