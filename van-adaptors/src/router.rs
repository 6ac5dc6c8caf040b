//! A router inside a program: start it, look at it, stop it.

use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use van_core::Random;
use van_core::management::config::{Configuration, MAX_DATA_CONNECTIONS, Mode};
use van_core::plane::{Counters, MAX_SHARDS, Memory, Routes};
use van_core::router::{Core, Identity};

use crate::amqp::link::DataConnections;
use crate::bench;
use crate::control::{Control, FlowIds, Task};
use crate::dial::Dialer;
use crate::entities::{Entities, Entity, EntityError, Prepared};
use crate::flow::{self, ImageInfo, LogLines, SiteInfo, Speaker};
use crate::machine;
use crate::management::{self, Logs, Node, Settings};
use crate::messages::Messages;
use crate::shard::Shards;

/// What the surroundings of a router decide.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Names this life of the router; greater after every restart. The clock's seconds if unset.
    pub instance: Option<u64>,
    /// Begins the VanFlow identities of the router and its entities: 5 characters, other ones after every restart. At
    /// random if unset.
    pub flow_id: Option<String>,
    /// The site it belongs to, for others to see. Without one the router tells of itself only.
    pub site: Option<SiteInfo>,
    /// What keeps the log, for management to look at and to change. Without one it cannot.
    pub logs: Option<Arc<dyn Logs>>,
    /// What it runs in.
    pub image: ImageInfo,
    /// The log whose warnings and errors it tells.
    pub lines: Option<LogLines>,
    /// What its streams may take of memory, in octets: what waits, and what others were allowed to send. Half of the
    /// machine's, or of the cgroup's, if unset.
    pub memory: Option<u64>,
    /// Nobody is to measure the network by this router: it does not answer at [`bench::address`].
    pub without_bench: bool,
}

/// The part of memory that streams may take: a half, for the kernel's buffers of the same streams take as much.
const MEMORY_SHARE: u64 = 2;

/// Characters that VanFlow identities of one router have in common.
const FLOW_ID_LENGTH: usize = 5;

/// A running router. Dropping it stops it at once; [`Router::shutdown`] does so in order.
#[derive(Debug)]
pub struct Router {
    control: Control,
    entities: Entities,
    messages: Messages,
    routes: watch::Receiver<Arc<Routes>>,
    shards: Arc<Shards>,
    dialer: Dialer,
    thread: Option<JoinHandle<()>>,
}

/// Why a router does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An entity cannot be as the configuration wants it.
    #[error(transparent)]
    Entity(#[from] EntityError),
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

impl Router {
    /// Starts a router. Everything that can fail at the start has been tried when this returns: certificates are read,
    /// ports are open or were.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub fn start(mut configuration: Configuration, options: &Options) -> Result<Self, StartError> {
        let mode = configuration.mode;
        let cores = std::thread::available_parallelism().map_or(1, |count| count.get() as u16);
        let shard_count = configuration.shards.unwrap_or(cores).clamp(1, MAX_SHARDS);
        let at_least = DataConnections::AtLeast(shard_count.min(MAX_DATA_CONNECTIONS));
        let data_connections = configuration.data_connections.map_or(at_least, DataConnections::Exactly);
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = clock.as_nanos() as u64 ^ u64::from(std::process::id()) << 32;
        let mut random = Random::new(seed);
        let flow_id = options.flow_id.clone().unwrap_or_else(|| random.discriminator()[..FLOW_ID_LENGTH].to_owned());
        let identity = Identity {
            id: configuration.id.clone(),
            instance: options.instance.unwrap_or(clock.as_secs()),
            shards: shard_count,
            mesh: (mode == Mode::Edge).then(|| random.discriminator()),
        };
        let (router, instance) = (identity.id.to_string(), identity.instance);
        let mode = mode.name();
        let core =
            Core::new(identity, configuration.timing.clone(), configuration.distribution.clone(), Instant::now());
        let (reports_in, reports) = mpsc::unbounded_channel();
        let budget = options.memory.or_else(|| machine::memory().map(|octets| octets / MEMORY_SHARE));
        let memory = budget.map(Memory::new).unwrap_or_default();
        let shards = Shards::start((shard_count, &flow_id), memory, core.routes(), &reports_in, seed);
        let shards = Arc::new(shards.map_err(StartError::Thread)?);
        let (published, routes) = watch::channel(Arc::clone(core.routes()));
        let runtime = ControlRuntime::new().map_err(StartError::Thread)?;
        let mut task = Task::new(
            core,
            Arc::clone(&shards),
            reports,
            published,
            FlowIds::new(flow_id.clone()),
            random,
            (data_connections, configuration.drops_tcp_connections),
        );
        let control = task.control();
        let messages = task.messages();
        let dialer = Dialer::new(control.clone(), routes.clone(), Arc::clone(&shards));
        let entities = Entities::new(control.clone(), runtime.handle().clone(), task.states(), Arc::clone(&shards));
        {
            // Tasks of this runtime are made here and wait: nothing runs before its thread does.
            let _context = runtime.enter();
            let mut settings = Settings::new(std::mem::take(&mut configuration.given));
            for entity in Entity::all(configuration) {
                let given = settings.take(entity.kind(), entity.name());
                let attributes = entity.described(given);
                task.add(Prepared::new(entity)?, attributes)?;
            }
            let router_id = router.clone();
            let speaker = Speaker {
                site: options.site.clone().map(|site| task.name_site(site)),
                image: options.image.clone(),
                logs: options.lines.clone(),
                flow_id,
                router,
                mode,
            };
            task.accompany(management::serve(Node {
                control: control.clone(),
                entities: entities.clone(),
                messages: messages.clone(),
                routes: routes.clone(),
                shards: Arc::clone(&shards),
                settings,
                logs: options.logs.clone(),
                instance,
                profile: management::Profile::default(),
            }));
            if !options.without_bench {
                task.accompany(bench::serve(dialer.clone(), router_id));
            }
            let states = task.states();
            task.speak(|stop| flow::tell(speaker, messages.clone(), Arc::clone(&shards), states, stop));
        }
        let run = move || runtime.block_on(task.run());
        let thread = std::thread::Builder::new().name("van-control".into()).spawn(run);
        Ok(Self {
            control,
            entities,
            messages,
            routes,
            shards,
            dialer,
            thread: Some(thread.map_err(StartError::Thread)?),
        })
    }

    /// Changes the router, and looks at what it is made of.
    pub fn entities(&self) -> Entities {
        self.entities.clone()
    }

    /// The network as this router sees it now.
    pub fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes.borrow())
    }

    /// The network as this router sees it, now and with every change.
    pub fn watch_routes(&self) -> watch::Receiver<Arc<Routes>> {
        self.routes.clone()
    }

    /// Waits until the network looks different.
    pub async fn routes_changed(&mut self) {
        let _ = self.routes.changed().await;
    }

    /// Messages of the program around the router.
    pub fn messages(&self) -> Messages {
        self.messages.clone()
    }

    /// What the shards have done.
    pub fn counters(&self) -> Vec<Counters> {
        self.shards.stats.iter().map(|stats| stats.read()).collect()
    }

    /// Dials and accepts inside this process.
    pub fn dialer(&self) -> Dialer {
        self.dialer.clone()
    }

    /// Stops in order: no new clients, then streams may end until the deadline, then connections are closed.
    pub async fn shutdown(mut self, deadline: Duration) {
        self.dialer.stop();
        let _ = self.control.shut_down(deadline).await;
        self.thread.take().map(JoinHandle::join);
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.dialer.stop();
            drop(self.control.shut_down(Duration::ZERO));
            let _ = thread.join();
        }
    }
}

/// The runtime of the control plane. It ends without waiting: a name may still be being looked up, and a router may be
/// dropped by a task of another runtime.
struct ControlRuntime(Option<Runtime>);

impl ControlRuntime {
    fn new() -> io::Result<Self> {
        Ok(Self(Some(Builder::new_current_thread().enable_all().build()?)))
    }
}

impl Deref for ControlRuntime {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        self.0.as_ref().expect("there until it is dropped")
    }
}

impl Drop for ControlRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
