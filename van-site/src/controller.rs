//! Keeps a site true to its documents: looks at what is wanted and at what is so, changes what differs, and says how it
//! goes. Whatever happens, it looks at everything again; what is already right is not touched.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};
use uuid::Uuid;
use van_adaptors::{Dialer, Entity, EntityError, EntityKind, Options, Router, SiteInfo, States, TlsProfile};
use van_core::flow::NetworkView;
use van_core::management::config::{Configuration, PasswordSource, ProxyProfile};
use van_core::plane::Routes;

use crate::certificates::{self, Certificates};
use crate::derive::{self, LINK_ROLES, LOCAL_ACCESS, NORMAL, Port, Surroundings};
use crate::document::{Document, DocumentMap, Key};
use crate::folder::{ControllerLock, Namespace};
use crate::grants::{self, Desk, Offer};
use crate::hosts;
use crate::input::{Complaint, Input};
use crate::names;
use crate::network;
use crate::reconcile::Reconciler;
use crate::redemption::Redemptions;
use crate::render::{self, EntityId, Rendered};
use crate::report::Facts;
use crate::resource::certificate::{GRANT_SERVER, SITE_CA};
use crate::resource::{Kind, Site};
use crate::router_config::router_config;
use crate::store::{Identity, Shelf, Store, StoreError};
use crate::watcher::Watcher;

/// How often everything is looked at though nothing happened: file systems that lose events, addresses that change.
const GLANCE: Duration = Duration::from_secs(30);

/// How long to wait before something that failed is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often longer than it took to tell how everything is doing news of the router wait: in a large network there is
/// always news. Commands and files do not wait.
const REST: u32 = 10;

/// Ports that are tried before a site gives up finding a free one.
const PORTS_TRIED: u16 = 1000;

/// What a site is, apart from its documents.
#[derive(Debug, Clone)]
pub(crate) struct Surface {
    /// The namespace.
    pub(crate) namespace: String,
    /// Threads of the router's data plane; one per core if unset.
    pub(crate) shards: Option<u16>,
}

/// What a controller is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// A document of the program is to be carried out until it ends. Answers whether it counts: a file of the same kind and
    /// name wins.
    Declare(Box<Document>, oneshot::Sender<bool>),
    /// They are not any more.
    Withdraw(Key),
    /// Documents are to be carried out from now on, also after a restart.
    Keep(Vec<Document>, oneshot::Sender<Result<(), StoreError>>),
    /// Everything is to end; streams may until the deadline.
    Shutdown { drain: Duration, done: oneshot::Sender<()> },
}

/// How a site is doing.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Every document with its status, derived ones too; no Secrets.
    pub documents: DocumentMap,
    /// What of the input cannot be read.
    pub problems: Vec<Complaint>,
    /// The network as it is seen from here.
    pub network: Arc<NetworkView>,
    /// The ports of listeners, by the names of their documents.
    pub listener_ports: BTreeMap<String, u16>,
    /// Dials and accepts inside this process, once the router runs.
    pub dialer: Option<Dialer>,
}

impl Snapshot {
    fn is_like(&self, other: &Self) -> bool {
        self.documents == other.documents
            && self.problems == other.problems
            && self.network == other.network
            && self.listener_ports == other.listener_ports
            && self.dialer == other.dialer
    }
}

/// Runs one site.
pub(crate) struct Controller {
    surface: Surface,
    store: Arc<Store>,
    commands: mpsc::UnboundedReceiver<Command>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    watcher: Option<Watcher>,
    declared: DocumentMap,
    input: Input,
    is_stale: bool,
    identity: Option<Identity>,
    /// Ports chosen in this life, for which another may be chosen if they are taken.
    fresh: BTreeSet<Port>,
    hosts: Vec<String>,
    loopback: Vec<String>,
    /// The documents and those that follow from them.
    documents: DocumentMap,
    certificates: Certificates,
    /// Why certificates are not as they are wanted.
    certificate_faults: BTreeMap<String, String>,
    rendered: Rendered,
    reconciler: Reconciler,
    running: Option<Running>,
    /// Names the life of the router.
    instance: u64,
    /// Why the router does not run.
    failure: Option<String>,
    desk: Desk,
    grant_faults: BTreeMap<String, String>,
    redemptions: Redemptions,
    results: DocumentMap,
    /// When news of the router are told at the earliest.
    rested_at: Instant,
    /// Those whose files are not as they are.
    unshown: BTreeSet<Key>,
    is_identity_kept: bool,
    /// What could not be written when everything was looked at last.
    unwritable: Option<String>,
    /// Claims the namespace for as long as this lives.
    _lock: Option<ControllerLock>,
}

/// A router, and what is seen of it and through it.
struct Running {
    router: Router,
    /// The name of the site that it tells others.
    site: String,
    is_edge: bool,
    states: watch::Receiver<Arc<States>>,
    routes: watch::Receiver<Arc<Routes>>,
    network: watch::Receiver<Arc<NetworkView>>,
    gathering: JoinHandle<()>,
}

impl Controller {
    pub(crate) fn new(
        surface: Surface,
        store: Store,
        declared: Vec<Document>,
        commands: mpsc::UnboundedReceiver<Command>,
        snapshot: watch::Sender<Arc<Snapshot>>,
    ) -> Result<Self, StoreError> {
        let store = Arc::new(store);
        let lock = store.namespace().map(Namespace::lock_controller).transpose()?;
        let watcher = store.namespace().map(Watcher::new).transpose()?;
        Ok(Self {
            surface,
            commands,
            snapshot,
            watcher,
            declared: declared.into_iter().map(|document| (document.key(), document)).collect(),
            input: Input::default(),
            is_stale: true,
            identity: store.identity()?,
            fresh: BTreeSet::new(),
            hosts: Vec::new(),
            loopback: hosts::loopback(),
            documents: DocumentMap::new(),
            certificates: Certificates::new(),
            certificate_faults: BTreeMap::new(),
            rendered: Rendered::default(),
            reconciler: Reconciler::default(),
            running: None,
            instance: 0,
            failure: None,
            desk: Desk::new(Arc::clone(&store))?,
            grant_faults: BTreeMap::new(),
            redemptions: Redemptions::default(),
            results: store.results(),
            unshown: BTreeSet::new(),
            is_identity_kept: true,
            rested_at: Instant::now(),
            unwritable: None,
            _lock: lock,
            store,
        })
    }

    /// Runs until it is told to stop, or nobody is left to tell.
    pub(crate) async fn run(mut self) {
        let mut glance = Instant::now() + GLANCE;
        loop {
            self.look().await;
            if self.is_stale {
                continue;
            }
            let wake = [Some(glance), self.reconciler.retry_at(), self.redemptions.retry_at(), self.retry_at()];
            let wake = wake.into_iter().flatten().min();
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Shutdown { drain, done }) => {
                        self.stop(drain).await;
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.obey(command),
                    None => return self.stop(Duration::ZERO).await,
                },
                () = noticed(&mut self.watcher) => self.is_stale = true,
                Some(redeemed) = self.redemptions.next() => self.is_stale |= self.redemptions.note(redeemed, &self.store),
                () = self.desk.counted.notified() => {}
                () = changed(&mut self.running, self.rested_at) => {}
                () = sleep_until(wake) => {
                    self.is_stale = self.is_incomplete();
                    if Instant::now() >= glance {
                        self.is_stale = true;
                        glance = Instant::now() + GLANCE;
                    }
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        self.is_stale = true;
        match command {
            Command::Declare(document, done) => {
                let key = document.key();
                let _ = done.send(!self.input.documents.contains_key(&key));
                self.declared.insert(key, *document);
            }
            Command::Withdraw(key) => drop(self.declared.remove(&key)),
            Command::Keep(documents, done) => {
                let kept = documents.iter().try_for_each(|document| self.store.put_input(document));
                let _ = done.send(kept);
            }
            Command::Shutdown { .. } => {}
        }
    }

    /// Looks at everything, and does what is to be done.
    async fn look(&mut self) {
        let unwritable = self.unwritable.take();
        self.is_stale |= unwritable.is_some();
        // A port that turns out to be taken is chosen again, and then everything follows anew.
        for _ in 0..PORTS_TRIED {
            if std::mem::take(&mut self.is_stale) {
                self.plan();
            }
            self.keep_router().await;
            self.reconcile().await;
            self.tend_grants().await;
            if !self.is_stale {
                break;
            }
        }
        // What is still wrong is in the statuses, and tried again in a second.
        self.is_stale = self.redemptions.start(&self.documents, &self.results, &self.store);
        let begun = Instant::now();
        self.report();
        self.rested_at = Instant::now() + begun.elapsed() * REST;
        if let Some(error) = &self.unwritable
            && unwritable.as_ref() != Some(error)
        {
            error!(error, "cannot write");
        }
    }

    // === what is wanted ===

    fn plan(&mut self) {
        self.input = self.store.input(&self.input);
        let mut documents = self.declared.clone();
        documents.extend(self.input.documents.clone());
        self.hosts = hosts::reachable();
        self.draw_identity(&documents);
        self.choose_ports(&documents);
        self.keep_identity();
        let ports = self.identity.as_ref().map(|identity| identity.ports.clone()).unwrap_or_default();
        let around = Surroundings { ports: &ports, hosts: &self.hosts, loopback: &self.loopback };
        self.documents = derive::derive(&documents, &around);
        self.ensure_certificates();
        self.rendered = render::render(&self.documents, &self.certificates, now());
        self.show_router_config();
        self.show_problems();
    }

    /// A site is drawn an identity when it is seen first, and keeps it.
    fn draw_identity(&mut self, documents: &DocumentMap) {
        if let (None, Some(site)) = (&self.identity, derive::site(documents)) {
            let id = Uuid::new_v4().to_string();
            let router = format!("{}-{}", site.metadata.name, &id[..8]);
            self.identity = Some(Identity { id, router, ports: BTreeMap::new() });
            self.is_identity_kept = false;
        }
    }

    fn choose_ports(&mut self, documents: &DocumentMap) {
        let Some(identity) = &mut self.identity else { return };
        // What is in memory only, clients of this machine have no certificate for.
        let has_clients = self.store.namespace().is_some();
        for port in derive::ports(documents).into_iter().filter(|port| *port != Port::Local || has_clients) {
            if !identity.ports.contains_key(port.name()) {
                let taken: BTreeSet<_> = identity.ports.values().copied().collect();
                let Some(free) = free_port(port.first(), &taken) else { continue };
                identity.ports.insert(port.name().into(), free);
                self.fresh.insert(port);
                self.is_identity_kept = false;
            }
        }
    }

    /// Gives up a port that is taken after all, if it was chosen in this life or nobody elsewhere knows it; whether another
    /// can be chosen.
    fn give_up(&mut self, port: Port) -> bool {
        let is_fresh = self.fresh.contains(&port) || port == Port::Local;
        if let (true, Some(identity)) = (is_fresh, &mut self.identity) {
            identity.ports.remove(port.name());
            self.is_stale = true;
        }
        is_fresh
    }

    fn keep_identity(&mut self) {
        if let (false, Some(identity)) = (self.is_identity_kept, &self.identity) {
            let kept = self.store.put_identity(identity);
            self.is_identity_kept = self.note_written(kept);
        }
    }

    fn ensure_certificates(&mut self) {
        let wanted: BTreeMap<_, _> = self
            .documents
            .values()
            .filter_map(|document| match document {
                Document::Certificate(certificate) => {
                    Some((certificate.metadata.name.clone(), certificate.spec.clone()))
                }
                _ => None,
            })
            .collect();
        let mut before = std::mem::take(&mut self.certificates);
        let known_faults = std::mem::take(&mut self.certificate_faults);
        for (name, made) in certificates::ensure(&wanted, &self.store, now()) {
            if let Err(error) = &made {
                let fault = van_adaptors::with_causes(error);
                if known_faults.get(&name) != Some(&fault) {
                    warn!(certificate = %name, error = fault, "certificate missing");
                }
                self.certificate_faults.insert(name.clone(), fault);
            }
            // One that cannot be replaced stays in use, also one of an earlier life.
            let kept = || {
                let held = self.store.credentials(Shelf::Certificates, &name).ok()??;
                Some(held.credentials).filter(|credentials| credentials.check(now()).is_ok())
            };
            let usable = made.or_else(|error| before.remove(&name).and_then(Result::ok).or_else(kept).ok_or(error));
            self.certificates.insert(name, usable);
        }
    }

    fn retry_at(&self) -> Option<Instant> {
        self.is_incomplete().then(|| Instant::now() + RETRY_AFTER)
    }

    /// Whether something is missing that may come without anybody saying so.
    fn is_incomplete(&self) -> bool {
        !self.certificate_faults.is_empty() || self.failure.is_some() || self.unwritable.is_some()
    }

    // === what is so ===

    /// Starts the router once there is a site for it. It runs until the controller ends, or the site is another one, or an edge
    /// site and was none, or the reverse: a router plays one part for life.
    async fn keep_router(&mut self) {
        let (Some(site), Some(identity)) = (derive::site(&self.documents), &self.identity) else { return };
        if self.rendered.faults.contains_key(&Key::new(Kind::Site, &*site.metadata.name)) {
            return;
        }
        let is_another = |it: &mut Running| it.is_edge != site.spec.edge || it.site != site.metadata.name;
        if let Some(Running { router, gathering, .. }) = self.running.take_if(is_another) {
            info!(site = %site.metadata.name, is_edge = site.spec.edge, "the router is replaced");
            gathering.abort();
            router.shutdown(Duration::ZERO).await;
            self.reconciler = Reconciler::default();
        }
        if self.running.is_some() {
            return;
        }
        // Of routers of one id the later one must be known as such, also if both are made within a second.
        self.instance = now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().max(self.instance + 1);
        match self.surface.start(site, identity, self.instance) {
            Ok(running) => {
                info!(site = %site.metadata.name, router = %identity.router, "site started");
                (self.running, self.failure) = (Some(running), None);
            }
            Err(failure) => {
                if self.failure.as_ref() != Some(&failure) {
                    error!(site = %site.metadata.name, error = failure, "the router does not start");
                }
                self.failure = Some(failure);
            }
        }
    }

    async fn reconcile(&mut self) {
        let Some(running) = &self.running else { return };
        let entities = running.router.entities();
        let wanted = self.rendered.entities.iter().map(|(id, (entity, _))| (id, entity));
        self.reconciler.reconcile(wanted, &entities).await;
        let Some(site) = derive::site(&self.documents) else { return };
        let own = |port: Port| (port, derive::listener_name(&site.metadata.name, port.name()));
        let local = (Port::Local, derive::listener_name(LOCAL_ACCESS, NORMAL));
        for (port, name) in [own(Port::InterRouter), own(Port::Edge), local] {
            if let Some(EntityError::Listen { source, .. }) = self.reconciler.error(&(EntityKind::Listener, name))
                && source.kind() == io::ErrorKind::AddrInUse
            {
                self.give_up(port);
            }
        }
    }

    async fn tend_grants(&mut self) {
        let now = Timestamp::now();
        let is_running = self.running.is_some() && derive::accesses(&self.documents).next().is_some();
        // Those that are only in a file that cannot be read now are not forgotten.
        let is_all = self.input.is_complete;
        self.grant_faults = self.desk.set_grants(&self.surface.namespace, derive::grants(&self.documents), is_all, now);
        let port = self.port(Port::Grants);
        let credentials = self.certificates.get(GRANT_SERVER).and_then(|made| made.as_ref().ok());
        let has_grants = derive::grants(&self.documents).next().is_some();
        let (true, true, Some(port), Some(credentials)) = (is_running, has_grants, port, credentials) else {
            if has_grants && !is_running {
                let grants = derive::grants(&self.documents);
                let names = grants.map(|grant| (grant.metadata.name.clone(), no_access(&self.documents).to_owned()));
                self.grant_faults.extend(names);
            }
            return self.desk.close().await;
        };
        let (offer, faults) = self.offer();
        self.grant_faults.extend(faults);
        self.desk.set_offer(offer);
        let hosts = derive::accesses(&self.documents).filter_map(|access| access.spec.bind_host.clone());
        let hosts = hosts.filter(|host| !host.is_empty()).collect();
        if let Err(fault) = self.desk.serve(hosts, port, &credentials.clone()).await
            && !(fault.is_port_taken() && self.give_up(Port::Grants))
        {
            let text = van_adaptors::with_causes(&fault);
            let grants = derive::grants(&self.documents);
            self.grant_faults.extend(grants.map(|grant| (grant.metadata.name.clone(), text.clone())));
        }
    }

    /// What redeemers are given, and what is wrong with it, by grant.
    fn offer(&self) -> (Offer, BTreeMap<String, String>) {
        let site_issuer = derive::site(&self.documents).map_or(SITE_CA, |site| site.spec.issuer());
        let (mut issuers, mut faults) = (BTreeMap::new(), BTreeMap::new());
        for grant in derive::grants(&self.documents) {
            let (name, issuer) = (grant.metadata.name.clone(), grant.spec.issuer.as_deref().unwrap_or(site_issuer));
            match certificates::find_issuer(issuer, &self.certificates, &self.store) {
                Ok(issuer) => drop(issuers.insert(name, issuer)),
                Err(_) if self.certificate_faults.contains_key(issuer) => {
                    faults.insert(name, "the CA of links cannot be used; its Certificate says why".to_owned());
                }
                Err(error) => drop(faults.insert(name, van_adaptors::with_causes(&error))),
            }
        }
        let access = derive::accesses(&self.documents).next();
        let ports = Surroundings { ports: &BTreeMap::new(), hosts: &self.hosts, loopback: &self.loopback };
        let states = self.running.as_ref().map(|running| running.states.borrow().clone()).unwrap_or_default();
        let port = |role: &'static str| {
            let mut names =
                derive::accesses(&self.documents).map(|access| derive::listener_name(&access.metadata.name, role));
            names.find_map(|name| Some((role, states.accesses.get(&name)?.port)))
        };
        let offer = Offer {
            issuers,
            ports: LINK_ROLES.into_iter().filter_map(port).collect(),
            hosts: access.map(|access| derive::reachable_hosts(&access.spec, &ports)).unwrap_or_default(),
        };
        (offer, faults)
    }

    fn port(&self, port: Port) -> Option<u16> {
        self.identity.as_ref()?.ports.get(port.name()).copied()
    }

    // === how it goes ===

    fn report(&mut self) {
        let faults = self.faults();
        let failures = self.failures();
        let ports = self.identity.as_ref().map(|identity| identity.ports.clone()).unwrap_or_default();
        let grants = self.desk.by_name();
        let redemptions = self.redemptions.outcomes();
        let documents = self.with_statuses();
        let states = self.running.as_ref().map(|running| running.states.borrow().clone()).unwrap_or_default();
        let routes = self.running.as_ref().map(|running| running.routes.borrow().clone());
        let network = self.running.as_ref().map(|running| running.network.borrow().clone()).unwrap_or_default();
        let running = match (&self.running, &self.failure) {
            (Some(_), _) => Ok(()),
            (None, Some(failure)) => Err(failure.clone()),
            (None, None) => Err("No router is running".to_owned()),
        };
        let identity = self.identity.as_ref();
        let results = Facts {
            documents: &documents,
            sound: &self.documents,
            faults: &faults,
            rendering: &self.rendered.faults,
            failures: &failures,
            certificates: &self.certificates,
            running,
            router: identity.map_or("", |identity| &identity.router),
            site_id: identity.map_or("", |identity| &identity.id),
            states: &states,
            routes: routes.as_deref(),
            network: &network,
            around: Surroundings { ports: &ports, hosts: &self.hosts, loopback: &self.loopback },
            namespace: &self.surface.namespace,
            grants: &grants,
            grant_port: self.port(Port::Grants),
            redemptions: &redemptions,
            now: Timestamp::now(),
        }
        .report();
        let ports = states.tcp_listeners.iter().map(|(name, state)| (network::document_name(name), state.port));
        self.publish(results, ports.collect(), network);
    }

    /// Why documents cannot be carried out: what their files, the rendering and the grants say.
    fn faults(&self) -> BTreeMap<Key, String> {
        let mut faults = self.rendered.faults.clone();
        let faulty = self.input.faulty.iter().map(|(key, (_, fault))| (key.clone(), fault.clone()));
        faults.extend(faulty);
        faults.extend(self.input.outdated.clone());
        let certificates = self.certificate_faults.iter();
        faults.extend(certificates.map(|(name, fault)| (Key::new(Kind::Certificate, &**name), fault.clone())));
        let grants = self.grant_faults.iter();
        faults.extend(grants.map(|(name, fault)| (Key::new(Kind::AccessGrant, &**name), fault.clone())));
        faults
    }

    /// Why entities are not as they are wanted; those with a certificate that was not taken up are not.
    fn failures(&self) -> BTreeMap<EntityId, String> {
        let text = |id: &EntityId| Some(crate::reconcile::text(id, self.reconciler.error(id)?));
        let failure = |(id, (entity, _)): (&EntityId, &(Entity, Key))| {
            let profile = render::tls_profile_of(entity).map(|name| (EntityKind::TlsProfile, name.to_owned()));
            let of_profile = profile.and_then(|id| Some(format!("certificate \"{}\": {}", id.1, text(&id)?)));
            Some((id.clone(), of_profile.or_else(|| text(id))?))
        };
        self.rendered.entities.iter().filter_map(failure).collect()
    }

    /// All documents, faulty ones too, with the statuses that they had.
    fn with_statuses(&self) -> DocumentMap {
        let faulty = self.input.faulty.iter().map(|(key, (document, _))| (key, document));
        let all = self.documents.iter().chain(faulty);
        all.map(|(key, document)| (key.clone(), document.with_status_of(self.results.get(key)))).collect()
    }

    fn publish(&mut self, results: DocumentMap, listener_ports: BTreeMap<String, u16>, network: Arc<NetworkView>) {
        let gone: Vec<_> = self.results.keys().filter(|key| !results.contains_key(key)).cloned().collect();
        self.unshown.extend(gone);
        self.unshown
            .extend(results.iter().filter(|(key, new)| self.results.get(key) != Some(new)).map(|(key, _)| key.clone()));
        for key in std::mem::take(&mut self.unshown) {
            if names::resource_name(&key.name).is_err() {
                continue;
            }
            let shown = match results.get(&key) {
                Some(document) => self.store.put_result(document),
                None => self.store.remove_result(&key),
            };
            if !self.note_written(shown) {
                self.unshown.insert(key);
            }
        }
        let dialer = self.running.as_ref().map(|running| running.router.dialer());
        let problems = self.input.problems.clone();
        let snapshot = Snapshot { documents: results.clone(), problems, network, listener_ports, dialer };
        self.results = results;
        self.snapshot.send_if_modified(|known| {
            let is_news = !known.is_like(&snapshot);
            if is_news {
                *known = Arc::new(snapshot);
            }
            is_news
        });
    }

    fn show_problems(&mut self) {
        for Complaint { file, line, message } in &self.input.problems {
            let is_news = !self.snapshot.borrow().problems.iter().any(|known| known.message == *message);
            if is_news {
                warn!(file = %file.display(), line, "{message}");
            }
        }
        let shown = self.store.put_problems(&self.input.problems);
        self.note_written(shown);
    }

    fn show_router_config(&mut self) {
        let (Some(identity), Some(namespace)) = (&self.identity, self.store.namespace()) else { return };
        let (name, certs) = (namespace.name(), namespace.runtime_certs());
        let text = router_config(&self.documents, &self.rendered, identity, name, &certs);
        let profiles = self.rendered.entities.values().filter_map(|(entity, _)| match entity {
            Entity::TlsProfile(TlsProfile { name, credentials, .. }) if !self.certificates.contains_key(name) => {
                Some((name.as_str(), credentials))
            }
            _ => None,
        });
        let certificates = self.certificates.keys().map(String::as_str).collect();
        let passwords = self.rendered.entities.values().filter_map(|(entity, _)| match entity {
            Entity::ProxyProfile(ProxyProfile { name, password: Some(PasswordSource::Text(password)), .. }) => {
                Some((name.as_str(), password.reveal()))
            }
            _ => None,
        });
        let passwords: Vec<_> = passwords.collect();
        let shown = self.store.put_router_config(&text, &certificates, &profiles.collect::<Vec<_>>(), &passwords);
        self.note_written(shown);
    }

    /// Whether something was written. What was not is written when everything is looked at again.
    fn note_written(&mut self, written: Result<(), StoreError>) -> bool {
        if let Err(error) = &written {
            self.unwritable.get_or_insert_with(|| van_adaptors::with_causes(error));
        }
        written.is_ok()
    }

    async fn stop(&mut self, drain: Duration) {
        self.desk.close().await;
        if let Some(Running { router, gathering, .. }) = self.running.take() {
            self.failure = Some("the site is stopping".into());
            self.report();
            router.shutdown(drain).await;
            gathering.abort();
        }
        self.failure = Some("the site was stopped".into());
        self.report();
    }
}

impl Surface {
    fn start(&self, site: &Site, identity: &Identity, instance: u64) -> Result<Running, String> {
        let (is_edge, id) = (site.spec.edge, &identity.router);
        let mode = if is_edge { "edge" } else { "interior" };
        // A document is edited, renamed, taken away and put back; who is connected is not to suffer from it.
        let mut attributes = json!({"id": id, "mode": mode, "dropTcpConnections": false});
        if let Some(shards) = self.shards {
            attributes["workerThreads"] = shards.into();
        }
        if let Some(count) = site.spec.router_data_connections() {
            attributes["dataConnectionCount"] = count.into();
        }
        let entities = json!([["router", attributes], ["address", {"prefix": "mc", "distribution": "multicast"}]]);
        let configuration = Configuration::parse(&entities.to_string(), |_| None).map_err(|error| error.to_string())?;
        let info = SiteInfo {
            id: identity.id.clone(),
            name: site.metadata.name.clone(),
            namespace: self.namespace.clone(),
            platform: "linux".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            ..SiteInfo::default()
        };
        let without_bench = !site.spec.has_bench();
        let options = Options { instance: Some(instance), site: Some(info), without_bench, ..Options::default() };
        let router = Router::start(configuration, &options).map_err(|error| van_adaptors::with_causes(&error))?;
        let (view, network) = watch::channel(Arc::default());
        let gathering = tokio::spawn(network::gather(router.messages(), router.watch_routes(), view));
        let (states, routes) = (router.entities().states(), router.watch_routes());
        let site = site.metadata.name.clone();
        Ok(Running { router, site, is_edge, states, routes, network, gathering })
    }
}

/// Why tokens cannot be issued at all.
fn no_access(documents: &DocumentMap) -> &'static str {
    match derive::site(documents) {
        None => crate::status::NO_ACTIVE_SITE,
        Some(site) if site.spec.edge => crate::status::EDGE_CANNOT_ACCEPT,
        Some(_) => "other sites cannot reach this one; enable link access first",
    }
}

/// The first port from here on that nobody listens on, in either family.
fn free_port(first: u16, taken: &BTreeSet<u16>) -> Option<u16> {
    let mut ports = (first..=u16::MAX).take(PORTS_TRIED.into()).filter(|port| !taken.contains(port));
    ports.find(|port| grants::bind(&BTreeSet::new(), *port).is_ok())
}

async fn noticed(watcher: &mut Option<Watcher>) {
    match watcher {
        Some(watcher) => watcher.noticed().await,
        None => std::future::pending().await,
    }
}

/// Waits until something about the router or its network is other than it was, and at least until then.
async fn changed(running: &mut Option<Running>, rested_at: Instant) {
    let Some(running) = running else { return std::future::pending().await };
    sleep_until(Some(rested_at)).await;
    tokio::select! {
        Ok(()) = running.states.changed() => {}
        Ok(()) = running.routes.changed() => {}
        Ok(()) = running.network.changed() => {}
        else => std::future::pending().await,
    }
}

pub(crate) async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn now() -> SystemTime {
    SystemTime::now()
}
