//! Messages of the program around a router: sent to addresses of the network, and received as their consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use van_core::plane::{Routes, SubscriberId};
use van_core::router::{Outgoing, Unsendable};
use van_routing::Treatment;

use crate::control::{Control, Watch};

/// Octets that may wait for one subscriber; messages beyond are dropped.
const MAX_WAITING_OCTETS: usize = 4 * 1024 * 1024;

/// What a waiting message takes besides its octets.
const WAITING_OVERHEAD: usize = 256;

/// Messages that may wait to be sent.
pub(crate) const MAX_UNSENT: usize = 1024;

/// Sends messages over a router's network, and subscribes to addresses of it. Clones are the same.
///
/// Nothing here is reliable: what finds no consumer, or one that takes too little, is lost.
#[derive(Debug, Clone)]
pub struct Messages {
    control: Control,
    unsent: mpsc::Sender<Outgoing>,
    routes: watch::Receiver<Arc<Routes>>,
    last: Arc<AtomicU64>,
}

/// Why a message is not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// No router would take it.
    #[error(transparent)]
    Unsendable(#[from] Unsendable),
    /// More is being sent than leaves.
    #[error("{MAX_UNSENT} messages wait to be sent already")]
    Busy,
    /// The router has stopped.
    #[error("the router has stopped")]
    Stopped,
}

/// A consumer of an address, until dropped.
#[derive(Debug)]
pub struct Subscription {
    id: SubscriberId,
    address: Arc<str>,
    control: Control,
    inbox: mpsc::UnboundedReceiver<Bytes>,
    gauge: Arc<Gauge>,
}

/// Whether an address has a consumer anywhere, as it changes.
#[derive(Debug, Clone)]
pub struct Reachability {
    address: String,
    routes: watch::Receiver<Arc<Routes>>,
    told: bool,
    _watch: Watch,
}

/// The router's end of a subscription.
#[derive(Debug)]
pub(crate) struct Subscriber {
    outbox: mpsc::UnboundedSender<Bytes>,
    gauge: Arc<Gauge>,
}

/// How much waits for a subscriber, and what it did not get.
#[derive(Debug, Default)]
struct Gauge {
    octets: AtomicUsize,
    dropped: AtomicU64,
}

impl Messages {
    pub(crate) fn new(control: Control, unsent: mpsc::Sender<Outgoing>, routes: watch::Receiver<Arc<Routes>>) -> Self {
        Self { control, unsent, routes, last: Arc::default() }
    }

    /// Consumes an address from now on. `treatment` says how messages are spread over its consumers where nothing is
    /// configured.
    pub fn subscribe(&self, address: &str, treatment: Treatment) -> Subscription {
        self.subscription(address, Some(treatment))
    }

    fn subscription(&self, address: &str, treatment: Option<Treatment>) -> Subscription {
        let id = SubscriberId(self.last.fetch_add(1, Ordering::Relaxed));
        let (address, gauge) = (Arc::from(address), Arc::<Gauge>::default());
        let (outbox, inbox) = mpsc::unbounded_channel(); // bounded by the gauge
        let subscriber = Subscriber { outbox, gauge: Arc::clone(&gauge) };
        self.control.subscribe(id, Arc::clone(&address), treatment, subscriber);
        Subscription { id, address, control: self.control.clone(), inbox, gauge }
    }

    /// Has a name that every router has, for its own `_local/<name>`; the network is not told. The last who takes a name has
    /// it.
    pub(crate) fn subscribe_own(&self, name: &str) -> Subscription {
        self.subscription(name, None)
    }

    /// Sends a message to an address: its sections from the header on, each optional; it need not repeat the address.
    ///
    /// # Errors
    /// See [`SendError`]. That nobody consumes the address is none.
    pub fn send(&self, to: &str, message: Bytes) -> Result<(), SendError> {
        self.unsent.try_send(Outgoing::new(to, message)?).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Busy,
            mpsc::error::TrySendError::Closed(_) => SendError::Stopped,
        })
    }

    /// Whether an address has a consumer, here or at a reachable router; at an edge router as far as [`Messages::watch`]ed.
    pub fn is_reachable(&self, address: &str) -> bool {
        self.routes.borrow().is_reachable(address)
    }

    /// The network as the router sees it, now and with every change.
    pub(crate) fn watch_routes(&self) -> watch::Receiver<Arc<Routes>> {
        self.routes.clone()
    }

    /// Watches whether an address has a consumer.
    pub fn watch(&self, address: &str) -> Reachability {
        let (address, told, routes) = (address.to_owned(), self.is_reachable(address), self.routes.clone());
        Reachability { _watch: self.control.watch(&address), address, routes, told }
    }
}

impl Subscription {
    /// The next message, from the section behind its router annotations on; `None` once the router has stopped. Nothing is
    /// lost if this is dropped.
    pub async fn recv(&mut self) -> Option<Bytes> {
        let message = self.inbox.recv().await?;
        self.gauge.octets.fetch_sub(message.len() + WAITING_OVERHEAD, Ordering::Relaxed);
        Some(message)
    }

    /// Messages that were lost because too much waited already.
    pub fn dropped(&self) -> u64 {
        self.gauge.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.control.unsubscribe(self.id, Arc::clone(&self.address));
    }
}

impl Subscriber {
    pub(crate) fn deliver(&self, message: Bytes) {
        let octets = message.len() + WAITING_OVERHEAD;
        if self.gauge.octets.load(Ordering::Relaxed) + octets > MAX_WAITING_OCTETS {
            self.gauge.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.gauge.octets.fetch_add(octets, Ordering::Relaxed);
        let _ = self.outbox.send(message);
    }
}

impl Reachability {
    /// Whether the address has a consumer, here or at a reachable router, as last told by [`Reachability::changed`].
    pub fn is_reachable(&self) -> bool {
        self.told
    }

    /// Waits until that is otherwise; whether it is now, `None` once the router has stopped. May be dropped.
    pub async fn changed(&mut self) -> Option<bool> {
        let (address, told) = (&self.address, self.told);
        self.routes.wait_for(|routes| routes.is_reachable(address) != told).await.ok()?;
        self.told = !told;
        Some(self.told)
    }
}
