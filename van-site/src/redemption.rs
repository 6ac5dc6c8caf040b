//! Tokens that are redeemed: each once, and again after a growing pause for as long as that may help.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::derive;
use crate::document::{Document, DocumentMap, Key};
use crate::grants::{self, REDEEMED_FROM, RedeemError};
use crate::resource::access_token::AccessTokenSpec;
use crate::resource::{AccessToken, Kind};
use crate::status::Obstacle;
use crate::store::Store;

/// How long one host of a token may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The first pause before another attempt; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The tokens of a site, by name.
#[derive(Debug, Default)]
pub(crate) struct Redemptions {
    attempts: BTreeMap<String, Attempt>,
    /// Without a site there is nobody to redeem for.
    has_site: bool,
    tasks: JoinSet<Redeemed>,
}

/// A token, and how redeeming it goes.
#[derive(Debug)]
struct Attempt {
    spec: AccessTokenSpec,
    pause: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    UnderWay,
    Done,
    /// It was redeemed, but what it gave is not kept yet.
    Unkept {
        documents: Vec<Document>,
        reason: String,
        retry_at: Instant,
    },
    /// Another attempt follows, unless the reason is final.
    Failed {
        reason: String,
        retry_at: Option<Instant>,
    },
}

/// What came of an attempt.
#[derive(Debug)]
pub(crate) struct Redeemed {
    name: String,
    spec: AccessTokenSpec,
    outcome: Result<Vec<Document>, RedeemError>,
}

impl Redemptions {
    /// Attempts what is due; whether the documents have changed by it.
    pub(crate) fn start(&mut self, documents: &DocumentMap, results: &DocumentMap, store: &Store) -> bool {
        self.has_site = derive::site(documents).is_some();
        let Some(site) = derive::site(documents) else { return false };
        let mut has_kept = false;
        let tokens: BTreeMap<_, _> = documents
            .values()
            .filter_map(|document| match document {
                Document::AccessToken(token) => Some((&token.metadata.name, token)),
                _ => None,
            })
            .collect();
        self.attempts.retain(|name, _| tokens.contains_key(name));
        let now = Instant::now();
        for (name, token) in tokens {
            match self.attempts.get_mut(name) {
                Some(attempt) if attempt.spec == token.spec => match &mut attempt.state {
                    State::Failed { retry_at: Some(at), .. } if *at <= now => attempt.state = State::UnderWay,
                    State::Unkept { documents, retry_at, .. } if *retry_at <= now => {
                        let documents = std::mem::take(documents);
                        has_kept |= attempt.keep(name, documents, store);
                        continue;
                    }
                    _ => continue,
                },
                _ => {
                    let is_done = is_redeemed(token, documents, results, store);
                    let state = if is_done { State::Done } else { State::UnderWay };
                    let attempt = Attempt { spec: token.spec.clone(), pause: FIRST_PAUSE, state };
                    self.attempts.insert(name.clone(), attempt);
                    if is_done {
                        continue;
                    }
                }
            }
            let (token, subject) = (token.clone(), site.metadata.name.clone());
            self.tasks.spawn(async move {
                let outcome = grants::redeem(&token, &subject, TIMEOUT).await;
                Redeemed { name: token.metadata.name, spec: token.spec, outcome }
            });
        }
        has_kept
    }

    /// When [`Redemptions::start`] should be called again.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        let attempts = self.attempts.values().filter(|_| self.has_site);
        let due = attempts.filter_map(|attempt| match attempt.state {
            State::Failed { retry_at, .. } => retry_at,
            State::Unkept { retry_at, .. } => Some(retry_at),
            State::UnderWay | State::Done => None,
        });
        due.min()
    }

    /// Waits for the end of an attempt; `None` while there is none.
    pub(crate) async fn next(&mut self) -> Option<Redeemed> {
        self.tasks.join_next().await?.ok()
    }

    /// Keeps what a token was redeemed for; whether the documents have changed.
    pub(crate) fn note(&mut self, redeemed: Redeemed, store: &Store) -> bool {
        let Redeemed { name, spec, outcome } = redeemed;
        let attempt = self.attempts.get_mut(&name).filter(|attempt| attempt.spec == spec);
        let Some(attempt) = attempt else {
            // The token is another one now, or gone. Its use is gone as well, so what it gave is kept.
            let mut late = Attempt { spec, pause: FIRST_PAUSE, state: State::UnderWay };
            return outcome.is_ok_and(|documents| late.keep(&name, documents, store));
        };
        match outcome {
            Ok(documents) => {
                info!(token = %name, "token redeemed");
                let is_kept = attempt.keep(&name, documents, store);
                if let State::Unkept { reason, .. } = &attempt.state {
                    error!(token = %name, error = reason, "what the token gave is not kept yet");
                }
                is_kept
            }
            Err(error) => {
                let reason = error.text();
                warn!(token = %name, error = reason, "token not redeemed");
                let retry_at = (!error.is_final()).then(|| Instant::now() + attempt.pause);
                attempt.state = State::Failed { reason, retry_at };
                attempt.pause = (attempt.pause * 2).min(LONGEST_PAUSE);
                false
            }
        }
    }

    /// How it goes, by token.
    pub(crate) fn outcomes(&self) -> BTreeMap<String, Result<(), Obstacle>> {
        let outcome = |attempt: &Attempt| match &attempt.state {
            State::Done => Ok(()),
            State::UnderWay => Err(Obstacle::Pending("Not Redeemed".into())),
            State::Unkept { reason, .. } => Err(Obstacle::Error(reason.clone())),
            State::Failed { reason, retry_at: None } => Err(Obstacle::Error(reason.clone())),
            State::Failed { reason, .. } => {
                let separator = if reason.ends_with('?') { " " } else { "; " };
                Err(Obstacle::Error(format!("{reason}{separator}trying again")))
            }
        };
        self.attempts.iter().map(|(name, attempt)| (name.clone(), outcome(attempt))).collect()
    }
}

impl Attempt {
    /// The Secret comes first: a Link without it would be an error.
    fn keep(&mut self, name: &str, documents: Vec<Document>, store: &Store) -> bool {
        let kept = documents.iter().try_for_each(|document| store.put_input(document));
        match kept.and_then(|()| store.put_redeemed(name, &self.spec)) {
            Ok(()) => {
                self.state = State::Done;
                true
            }
            Err(error) => {
                let reason = format!("redeemed, but {}", van_adaptors::with_causes(&error));
                self.state = State::Unkept { documents, reason, retry_at: Instant::now() + FIRST_PAUSE };
                false
            }
        }
    }
}

/// Whether a token is spent already: an earlier life says so, or there are credentials that came from it.
fn is_redeemed(token: &AccessToken, documents: &DocumentMap, results: &DocumentMap, store: &Store) -> bool {
    let name = &token.metadata.name;
    let key = Key::new(Kind::AccessToken, &**name);
    let was_redeemed = matches!(results.get(&key), Some(Document::AccessToken(known))
        if known.status.redeemed && known.spec == token.spec);
    let is_remembered = store.redeemed(name).is_ok_and(|known| known.as_ref() == Some(&token.spec));
    let has_credentials = matches!(documents.get(&Key::new(Kind::Secret, &**name)), Some(Document::Secret(secret))
        if secret.metadata.annotations.get(REDEEMED_FROM) == Some(&token.spec.url));
    // The Links come after the Secret, and a crash between them leaves none.
    let has_link = || {
        documents.values().any(
            |document| matches!(document, Document::Link(link) if link.spec.tls_credentials.as_ref() == Some(name)),
        )
    };
    is_remembered || was_redeemed || (has_credentials && has_link())
}
