//! All grants of a server, and the order in which a redemption is checked.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::grant::{Grant, Key};
use crate::issuer::Accepted;
use crate::wire::{Refusal, Request};

/// Wrong codes that a grant takes at once before it refuses all for a moment.
const GUESSES: u32 = 10;

/// How long it takes until one more wrong code is taken.
const GUESS_INTERVAL: Duration = Duration::from_secs(1);

/// Grants by id. Pure: it counts, but stores nothing; [`Grants`](crate::Grants) does both.
///
/// Guessing is limited per grant: after 10 wrong codes, one more each second. In between every code is refused like a
/// wrong one, the right one too, because an answer that depends on the code is what a guesser wants. So whoever knows a
/// grant's id can keep others from redeeming it; make another grant then.
#[derive(Debug, Default)]
pub struct GrantStore {
    entries: BTreeMap<String, Entry>,
    finds_by_name: bool,
}

#[derive(Debug)]
struct Entry {
    grant: Grant,
    /// When the last of the wrong codes is forgotten.
    guessed_until: Option<SystemTime>,
}

impl GrantStore {
    /// Also finds grants by `/<namespace>/<name>`, which can be guessed: then only the code protects them.
    #[must_use]
    pub fn find_by_name(mut self) -> Self {
        self.finds_by_name = true;
        self
    }

    /// Adds a grant. One of the same id is replaced, but uses once made stay made.
    pub fn insert(&mut self, mut grant: Grant) {
        let earlier = self.entries.remove(&grant.id);
        grant.redemptions = grant.redemptions.max(earlier.as_ref().map_or(0, |entry| entry.grant.redemptions));
        let guessed_until = earlier.and_then(|entry| entry.guessed_until);
        self.entries.insert(grant.id.clone(), Entry { grant, guessed_until });
    }

    /// Withdraws a grant, and returns it.
    pub fn remove(&mut self, id: &str) -> Option<Grant> {
        self.entries.remove(id).map(|entry| entry.grant)
    }

    /// The grant of an id.
    pub fn get(&self, id: &str) -> Option<&Grant> {
        self.entries.get(id).map(|entry| &entry.grant)
    }

    /// All grants, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.entries.values().map(|entry| &entry.grant)
    }

    /// Checks a redemption and counts it. The count must be stored before anything is issued.
    ///
    /// # Errors
    /// [`Refusal`], the first that applies; nothing is counted then.
    pub fn accept(&mut self, now: SystemTime, request: &Request<'_>) -> Result<Accepted, Refusal> {
        request.check()?;
        let host = request.host();
        let entry = self.find(request.path).filter(|entry| entry.grant.serves(host)).ok_or(Refusal::Unknown)?;
        let grant = Key(&entry.grant).to_string();
        match entry.grant.expires_at {
            None => return Err(Refusal::Corrupted { grant }),
            Some(end) if end <= now => return Err(Refusal::Expired { grant }),
            Some(_) => {}
        }
        if entry.grant.redemptions >= entry.grant.redemptions_allowed {
            return Err(Refusal::UsedUp { grant });
        }
        if !entry.may_guess(now) {
            return Err(Refusal::TooManyGuesses { grant });
        }
        if !entry.grant.code.matches(request.body) {
            entry.guessed_until = Some(entry.guessed_until.unwrap_or(now).max(now) + GUESS_INTERVAL);
            return Err(Refusal::WrongCode { grant });
        }
        let Entry { grant, .. } = entry;
        grant.redemptions += 1;
        let given = |header: Option<&str>| header.filter(|text| !text.is_empty()).map(str::to_owned);
        let name = given(request.name).unwrap_or_else(|| grant.name.clone());
        Ok(Accepted {
            id: grant.id.clone(),
            namespace: grant.namespace.clone(),
            grant: grant.name.clone(),
            subject: given(request.subject).unwrap_or_else(|| name.clone()),
            name,
            host: given(host),
        })
    }

    /// Takes a use back that was counted, but came to nothing.
    pub fn give_back(&mut self, id: &str) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.grant.redemptions = entry.grant.redemptions.saturating_sub(1);
        }
    }

    fn find(&mut self, path: &str) -> Option<&mut Entry> {
        let id = path.replace('/', "");
        if self.entries.contains_key(&id) {
            return self.entries.get_mut(&id);
        }
        let (namespace, name) = path.trim_matches('/').split_once('/').filter(|_| self.finds_by_name)?;
        self.entries.values_mut().find(|entry| entry.grant.namespace == namespace && entry.grant.name == name)
    }
}

impl Entry {
    /// Whether another code may be tried.
    fn may_guess(&mut self, now: SystemTime) -> bool {
        // If the clock was set back, the wait is not longer for it.
        self.guessed_until = self.guessed_until.map(|until| until.min(now + GUESS_INTERVAL * GUESSES));
        let wait = self.guessed_until.and_then(|until| until.duration_since(now).ok()).unwrap_or_default();
        wait <= GUESS_INTERVAL * (GUESSES - 1)
    }
}
