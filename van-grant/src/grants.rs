//! The grants of a running server: shared, counted durably, given back.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::bundle::Bundle;
use crate::grant::Grant;
use crate::issuer::{Accepted, Issuer};
use crate::store::GrantStore;
use crate::wire::{Refusal, Request};

/// Keeps counts where a restart does not lose them. A closure can be one.
pub trait Ledger: Send {
    /// Stores how often a grant was redeemed, durably, before it returns.
    ///
    /// One call at a time, under the lock of [`Grants`], so that counts arrive in order. It may block.
    ///
    /// # Errors
    /// Whatever is in the way. The redeemer gets a 503 and nothing else.
    fn store(&mut self, grant: &Grant) -> Result<(), LedgerError>;
}

impl<F: FnMut(&Grant) -> Result<(), LedgerError> + Send> Ledger for F {
    fn store(&mut self, grant: &Grant) -> Result<(), LedgerError> {
        self(grant)
    }
}

/// Why a count was not stored.
pub type LedgerError = Box<dyn std::error::Error + Send + Sync>;

/// A [`GrantStore`] that is shared, and whose counts a [`Ledger`] keeps. Cheap to clone.
///
/// A crash while credentials are made costs a use, and never grants one too many.
#[derive(Clone)]
pub struct Grants(Arc<Mutex<State>>);

struct State {
    store: GrantStore,
    ledger: Box<dyn Ledger>,
}

impl Grants {
    /// Shares `store`.
    pub fn new(store: GrantStore, ledger: impl Ledger + 'static) -> Self {
        Self(Arc::new(Mutex::new(State { store, ledger: Box::new(ledger) })))
    }

    /// As [`GrantStore::insert`]; the ledger is not asked.
    pub fn insert(&self, grant: Grant) {
        self.lock().store.insert(grant);
    }

    /// Adds a grant, or changes what it offers, once the ledger has stored that. How often it was redeemed stays as it is,
    /// whatever is redeemed in the meantime.
    ///
    /// # Errors
    /// Those of the ledger; then nothing has changed.
    pub fn put(&self, mut grant: Grant) -> Result<(), LedgerError> {
        let State { store, ledger } = &mut *self.lock();
        if let Some(known) = store.get(&grant.id) {
            grant.redemptions = known.redemptions;
        }
        ledger.store(&grant)?;
        store.insert(grant);
        Ok(())
    }

    /// As [`GrantStore::remove`]; the ledger is not asked.
    pub fn remove(&self, id: &str) -> Option<Grant> {
        self.lock().store.remove(id)
    }

    /// The grant of an id, as it is now.
    pub fn get(&self, id: &str) -> Option<Grant> {
        self.lock().store.get(id).cloned()
    }

    /// All grants, as they are now.
    pub fn list(&self) -> Vec<Grant> {
        self.lock().store.iter().cloned().collect()
    }

    /// Redeems: checks, counts, stores the count, and only then has `issuer` make credentials.
    ///
    /// If it cannot, or panics, the use is given back, and that is stored as well. Blocks as long as ledger and issuer do.
    ///
    /// # Errors
    /// [`Refusal`]: status and body of the answer.
    pub fn redeem(&self, now: SystemTime, request: &Request<'_>, issuer: &dyn Issuer) -> Result<Bundle, Refusal> {
        self.redeem_as(now, request, issuer).map(|(_, bundle)| bundle)
    }

    /// As [`redeem`](Self::redeem); also says what was redeemed, for logs.
    pub(crate) fn redeem_as(
        &self,
        now: SystemTime,
        request: &Request<'_>,
        issuer: &dyn Issuer,
    ) -> Result<(Accepted, Bundle), Refusal> {
        let accepted = self.count(now, request)?;
        let mut spent = Use { grants: self, id: &accepted.id, is_kept: false };
        let bundle = issuer.issue(&accepted).map_err(Refusal::NotIssued)?;
        spent.is_kept = true;
        drop(spent);
        Ok((accepted, bundle))
    }

    fn count(&self, now: SystemTime, request: &Request<'_>) -> Result<Accepted, Refusal> {
        let State { store, ledger } = &mut *self.lock();
        let accepted = store.accept(now, request)?;
        let grant = store.get(&accepted.id).expect("accepted above");
        if let Err(error) = ledger.store(grant) {
            store.give_back(&accepted.id);
            return Err(Refusal::NotStored(error));
        }
        Ok(accepted)
    }

    /// A ledger or issuer that panics leaves at worst a use that is counted.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Grants").field(&self.lock().store).finish()
    }
}

/// A use that was counted. It is given back when this is dropped, unless it is kept.
struct Use<'a> {
    grants: &'a Grants,
    id: &'a str,
    is_kept: bool,
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let State { store, ledger } = &mut *self.grants.lock();
        store.give_back(self.id);
        if let Some(grant) = store.get(self.id) {
            // If this fails, a restart would find the use counted: one too few, never one too many.
            let _ = ledger.store(grant);
        }
    }
}
