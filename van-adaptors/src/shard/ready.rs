//! Who can be read or written: a list that wakers push to, once each until served.
//!
//! Sockets of a shard do not have tasks. Each has a [`Token`] instead, 48 octets, which is the waker that the runtime calls.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use van_core::plane::Key;

/// Whose socket something happened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Connection(Key),
    Stream(Key),
}

/// A socket's waker.
#[derive(Debug)]
pub(super) struct Token {
    subject: Subject,
    is_listed: AtomicBool,
    list: Arc<ReadyList>,
}

/// The sockets that something happened to, in order.
#[derive(Debug, Default)]
pub(super) struct ReadyList {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    listed: Vec<Arc<Token>>,
    /// The task that serves the list.
    server: Option<Waker>,
}

impl Token {
    pub(super) fn new(subject: Subject, list: &Arc<ReadyList>) -> Arc<Self> {
        Arc::new(Self { subject, is_listed: AtomicBool::new(false), list: Arc::clone(list) })
    }

    /// Takes note that it is served now: what happens from here on lists it again.
    pub(super) fn serve(&self) -> Subject {
        self.is_listed.store(false, Ordering::Release);
        self.subject
    }
}

impl Wake for Token {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_listed.swap(true, Ordering::AcqRel) {
            self.list.push(Arc::clone(self));
        }
    }
}

impl ReadyList {
    fn push(&self, token: Arc<Token>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.listed.push(token);
        if inner.listed.len() == 1
            && let Some(server) = &inner.server
        {
            server.wake_by_ref();
        }
    }

    /// Takes the list in exchange for an empty one, whose memory is used next.
    pub(super) fn take(&self, empty: &mut Vec<Arc<Token>>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut inner.listed, empty);
    }

    /// Says who serves the list.
    pub(super) fn set_server(&self, server: &Waker) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut inner.server {
            Some(known) => known.clone_from(server),
            none => *none = Some(server.clone()),
        }
    }
}
