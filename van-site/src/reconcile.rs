//! Makes a running router what it is wanted to be, one entity at a time: what did not change is not touched.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use van_adaptors::{CredentialsSource, Entities, Entity, EntityError, EntityKind, TlsProfile};

use crate::render::EntityId;

/// How long a change that failed rests before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What was done to a router, and what could not be.
#[derive(Debug, Default)]
pub struct Reconciler {
    applied: BTreeMap<EntityId, Entity>,
    failed: BTreeMap<EntityId, Failure>,
}

#[derive(Debug)]
struct Failure {
    wanted: Entity,
    error: EntityError,
    retry_at: Instant,
}

/// One change.
#[derive(Debug)]
enum Change {
    Create(Entity),
    Update(Entity),
    Delete(EntityId),
}

impl Reconciler {
    /// Why an entity is not as it is wanted.
    pub fn error(&self, id: &EntityId) -> Option<&EntityError> {
        self.failed.get(id).map(|failure| &failure.error)
    }

    /// When [`Reconciler::reconcile`] should be called again though nothing changed.
    pub fn retry_at(&self) -> Option<Instant> {
        self.failed.values().map(|failure| failure.retry_at).min()
    }

    /// Changes what differs.
    pub async fn reconcile<'a>(
        &mut self,
        wanted: impl Iterator<Item = (&'a EntityId, &'a Entity)> + Clone,
        entities: &Entities,
        now: Instant,
    ) {
        let still_wanted: BTreeMap<_, _> = wanted.clone().collect();
        self.failed.retain(|id, _| still_wanted.contains_key(id));
        for change in self.plan(&still_wanted, now) {
            match change {
                Change::Delete(id) => {
                    // One that is not there any more is as deleted as can be. Another one is tried again with the next look.
                    if let Ok(()) | Err(EntityError::Unknown { .. }) = entities.delete(id.0, &id.1).await {
                        self.applied.remove(&id);
                    }
                }
                Change::Create(entity) => {
                    let done = entities.create(entity.clone()).await;
                    self.note(entity, done, now);
                }
                Change::Update(entity) => {
                    let done = entities.update(entity.clone()).await;
                    self.note(entity, done, now);
                }
            }
        }
    }

    fn note(&mut self, entity: Entity, done: Result<(), EntityError>, now: Instant) {
        let id = (entity.kind(), entity.name().to_owned());
        match done {
            Ok(()) => {
                self.failed.remove(&id);
                self.applied.insert(id, entity);
            }
            Err(error) => {
                let failure = Failure { wanted: entity, error, retry_at: now + RETRY_AFTER };
                self.failed.insert(id, failure);
            }
        }
    }

    /// What to do, in an order in which nothing lacks what it needs: what goes makes room first, and users go before
    /// what they use.
    fn plan(&self, wanted: &BTreeMap<&EntityId, &Entity>, now: Instant) -> Vec<Change> {
        let mut changes: Vec<_> =
            self.applied.keys().filter(|id| !wanted.contains_key(id)).map(|id| Change::Delete(id.clone())).collect();
        for (id, entity) in wanted {
            let entity = self.with_ordinal(id, entity);
            let is_resting = |failure: &Failure| failure.retry_at > now && is_same(&failure.wanted, &entity);
            if self.failed.get(*id).is_some_and(is_resting) {
                continue;
            }
            match self.applied.get(*id) {
                None => changes.push(Change::Create(entity)),
                Some(applied) if is_same(applied, &entity) => {}
                Some(_) => changes.push(Change::Update(entity)),
            }
        }
        changes.sort_by_key(|change| match change {
            Change::Delete((EntityKind::ListenerAddress, _)) => 0,
            Change::Delete((EntityKind::TlsProfile | EntityKind::ProxyProfile, _)) => 6,
            Change::Delete(_) => 1,
            Change::Create(Entity::TlsProfile(_) | Entity::ProxyProfile(_))
            | Change::Update(Entity::TlsProfile(_) | Entity::ProxyProfile(_)) => 2,
            Change::Update(_) => 3,
            Change::Create(Entity::ListenerAddress(_)) => 5,
            Change::Create(_) => 4,
        });
        changes
    }

    /// A TLS profile with the number of its generation: one more whenever its credentials change.
    fn with_ordinal(&self, id: &EntityId, entity: &Entity) -> Entity {
        let mut entity = entity.clone();
        if let Entity::TlsProfile(profile) = &mut entity
            && let Some(Entity::TlsProfile(applied)) = self.applied.get(id)
        {
            profile.ordinal = applied.ordinal + u64::from(!is_same_credentials(applied, profile));
        }
        entity
    }
}

fn is_same(a: &Entity, b: &Entity) -> bool {
    match (a, b) {
        (Entity::TlsProfile(a), Entity::TlsProfile(b)) => is_same_credentials(a, b),
        (Entity::ProxyProfile(a), Entity::ProxyProfile(b)) => a == b,
        (Entity::Connector(a), Entity::Connector(b)) => a == b,
        (Entity::Listener(a), Entity::Listener(b)) => a == b,
        (Entity::TcpListener(a), Entity::TcpListener(b)) => a == b,
        (Entity::ListenerAddress(a), Entity::ListenerAddress(b)) => a == b,
        (Entity::TcpConnector(a), Entity::TcpConnector(b)) => a == b,
        _ => false,
    }
}

fn is_same_credentials(a: &TlsProfile, b: &TlsProfile) -> bool {
    match (&a.credentials, &b.credentials) {
        (CredentialsSource::Memory(a), CredentialsSource::Memory(b)) => {
            a.identity.chain_pem() == b.identity.chain_pem() && a.trust.pem() == b.trust.pem()
        }
        (CredentialsSource::Trust(a), CredentialsSource::Trust(b)) => a.pem() == b.pem(),
        (CredentialsSource::Files(a), CredentialsSource::Files(b)) => a == b,
        _ => false,
    }
}

/// Why an entity is not as it is wanted, for people, who know the document and not the entity.
pub fn text(id: &EntityId, error: &EntityError) -> String {
    let text = van_adaptors::with_causes(error);
    let entity = format!("{} \"{}\": ", id.0, id.1);
    text.strip_prefix(&entity).unwrap_or(&text).to_owned()
}
