//! A router inside a program: start it, look at it, stop it.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};
use van_core::Random;
use van_core::management::config::Configuration;
use van_core::plane::{Counters, Routes};
use van_core::router::{Core, Identity};

use crate::control::{Control, Task};
use crate::dial::Dialer;
use crate::messages::{self, Messages};
use crate::prepared::Prepared;
use crate::shard::Shards;

/// What the surroundings of a router decide.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Names this life of the router; greater after every restart. The clock's seconds if unset.
    pub instance: Option<u64>,
}

/// A running router. Dropping it stops it at once; [`Router::shutdown`] does so in order.
#[derive(Debug)]
pub struct Router {
    control: Control,
    messages: Messages,
    routes: watch::Receiver<Arc<Routes>>,
    shards: Arc<Shards>,
    dialer: Dialer,
    thread: Option<JoinHandle<()>>,
}

/// Why a router does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("{entity}: cannot listen on {address}{}", listen_hint(.source))]
    Listen {
        /// The entity.
        entity: String,
        /// The address.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// A TLS profile's files cannot be used.
    #[error("sslProfile \"{profile}\": {message}")]
    Credentials {
        /// The profile's name.
        profile: String,
        /// What is wrong, and with which file.
        message: String,
    },
    /// An entity contradicts itself, or another one.
    #[error("{entity}: {message}")]
    Entity {
        /// The entity.
        entity: String,
        /// What is wrong.
        message: String,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

fn listen_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program, perhaps another router, is listening there",
        // Without a code of the system it is ours, of a name that has no address of the family wanted.
        io::ErrorKind::AddrNotAvailable if error.raw_os_error().is_some() => {
            "; this machine has no such address: name one that it has, or leave `host` out for all"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need the privilege to bind them",
        _ => "",
    }
}

impl Router {
    /// Starts a router. Everything that can fail at the start has been tried when this returns: certificates are read,
    /// ports are open or were.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running.
    pub fn start(configuration: Configuration, options: &Options) -> Result<Self, StartError> {
        let prepared = Prepared::new(&configuration)?;
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seed = clock.as_nanos() as u64 ^ u64::from(std::process::id()) << 32;
        let identity = Identity {
            id: configuration.id.clone(),
            instance: options.instance.unwrap_or(clock.as_secs()),
            shards: prepared.shards,
        };
        let core =
            Core::new(identity, configuration.timing.clone(), configuration.distribution.clone(), Instant::now());
        let (reports_in, reports) = mpsc::unbounded_channel();
        let shards =
            Arc::new(Shards::start(prepared.shards, core.routes(), &reports_in, seed).map_err(StartError::Thread)?);
        let (published, routes) = watch::channel(Arc::clone(core.routes()));
        let (outbox, unsent) = mpsc::channel(messages::MAX_UNSENT);
        let task = Task::new(core, Arc::clone(&shards), reports, unsent, published, Random::new(seed));
        let control = task.control();
        let messages = Messages::new(control.clone(), outbox, routes.clone());
        let dialer = Dialer::new(control.clone(), routes.clone(), Arc::clone(&shards));
        let thread =
            std::thread::Builder::new().name("van-control".into()).spawn(move || task.run(configuration, prepared));
        Ok(Self { control, messages, routes, shards, dialer, thread: Some(thread.map_err(StartError::Thread)?) })
    }

    /// The network as this router sees it now.
    pub fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes.borrow())
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
