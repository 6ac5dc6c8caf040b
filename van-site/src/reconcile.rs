//! Makes a running router what it is wanted to be, one entity at a time: what did not change is not touched.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
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
#[derive(Debug, Clone)]
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
        wanted: impl Iterator<Item = (&'a EntityId, &'a Entity)>,
        entities: &Entities,
    ) {
        let wanted: BTreeMap<_, _> = wanted.collect();
        self.failed.retain(|id, _| wanted.contains_key(id));
        loop {
            for changes in self.plan(&wanted, Instant::now()).into_values() {
                // Side by side: each may have to look up a name.
                let mut doing = JoinSet::new();
                for change in changes {
                    let entities = entities.clone();
                    doing.spawn(async move { (change.carry_out(&entities).await, change) });
                }
                while let Some(done) = doing.join_next().await {
                    let (done, change) = done.expect("a change does not panic");
                    self.note(change, done);
                }
            }
            if !self.make_room(entities).await {
                return;
            }
        }
    }

    fn note(&mut self, change: Change, done: Result<(), EntityError>) {
        match (change, done) {
            (Change::Create(entity) | Change::Update(entity), Ok(())) => {
                let id = (entity.kind(), entity.name().to_owned());
                self.failed.remove(&id);
                self.applied.insert(id, entity);
            }
            (Change::Create(entity) | Change::Update(entity), Err(error)) => {
                let id = (entity.kind(), entity.name().to_owned());
                let failure = Failure { wanted: entity, error, retry_at: Instant::now() + RETRY_AFTER };
                self.failed.insert(id, failure);
            }
            // One that is not there any more is as deleted as can be.
            (Change::Delete(id), Ok(()) | Err(EntityError::Unknown { .. })) => drop(self.applied.remove(&id)),
            // It is tried again with the next look.
            (Change::Delete(_), Err(_)) => {}
        }
    }

    /// Deletes one of those that are in each other's way: each is to have what another has. Whether there was one.
    async fn make_room(&mut self, entities: &Entities) -> bool {
        let in_the_way = |failure: &Failure| match &failure.error {
            EntityError::Taken { other, .. } => Some(other.clone()),
            _ => None,
        };
        let stuck = self.failed.iter().filter(|(id, _)| self.applied.contains_key(*id));
        let stuck: Vec<_> = stuck.filter_map(|(id, failure)| Some((id, in_the_way(failure)?))).collect();
        let is_stuck = |label: &str| stuck.iter().any(|((kind, name), _)| format!("{kind} \"{name}\"") == label);
        let Some(id) = stuck.iter().find(|(_, other)| is_stuck(other)).map(|(id, _)| (*id).clone()) else {
            return false;
        };
        let done = entities.delete(id.0, &id.1).await;
        let is_deleted = done.is_ok();
        self.note(Change::Delete(id), done);
        if is_deleted {
            self.failed.retain(|_, failure| !matches!(failure.error, EntityError::Taken { .. }));
        }
        is_deleted
    }

    /// What to do, by steps in which nothing lacks what it needs: what goes makes room first, and users go before what they
    /// use.
    fn plan(&mut self, wanted: &BTreeMap<&EntityId, &Entity>, now: Instant) -> BTreeMap<u8, Vec<Change>> {
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
                // What failed is not wanted any more.
                Some(applied) if is_same(applied, &entity) => drop(self.failed.remove(*id)),
                Some(_) => changes.push(Change::Update(entity)),
            }
        }
        let mut steps: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for change in changes {
            steps.entry(change.step()).or_default().push(change);
        }
        steps
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

impl Change {
    fn step(&self) -> u8 {
        match self {
            Self::Delete((EntityKind::ListenerAddress, _)) => 0,
            Self::Delete((EntityKind::TlsProfile | EntityKind::ProxyProfile, _)) => 6,
            Self::Delete(_) => 1,
            Self::Create(Entity::TlsProfile(_) | Entity::ProxyProfile(_))
            | Self::Update(Entity::TlsProfile(_) | Entity::ProxyProfile(_)) => 2,
            Self::Update(_) => 3,
            Self::Create(Entity::ListenerAddress(_)) => 5,
            Self::Create(_) => 4,
        }
    }

    async fn carry_out(&self, entities: &Entities) -> Result<(), EntityError> {
        match self.clone() {
            Self::Create(entity) => entities.create(entity).await,
            Self::Update(entity) => entities.update(entity).await,
            Self::Delete((kind, name)) => entities.delete(kind, &name).await,
        }
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

pub(crate) fn is_same_credentials(a: &TlsProfile, b: &TlsProfile) -> bool {
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
