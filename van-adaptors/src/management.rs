//! The management node of a router: answers requests at `$management` (docs/wire.md §9.2), one after the other.
//!
//! What a request asks for is decided by [`van_core::management::agent`]; `view` is what it sees of the router, `settings`
//! what it keeps itself: what no part of the router is made of.

mod profile;
mod settings;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::watch;
use tracing::debug;
use van_core::amqp::Value;
use van_core::management::agent::{self, Action, Change, Step};
use van_core::management::config::Log;
use van_core::management::request::{Failure, Request, Status};
use van_core::management::schema::operational::Managed;
use van_core::plane::Routes;

pub(crate) use self::profile::Profile;
pub(crate) use self::settings::Settings;
use self::view::View;
use crate::control::Control;
use crate::entities::{Entities, Entity, EntityError, EntityKind};
use crate::messages::Messages;
use crate::shard::Shards;
use crate::with_causes;

/// Where every router is managed.
const ADDRESS: &str = "$management";

/// What keeps the log of a router.
pub trait Logs: std::fmt::Debug + Send + Sync {
    /// The last lines, oldest first, at most so many.
    fn recent(&self, limit: usize) -> Vec<LogLine>;

    /// Lines so far, by module: of the levels debug and below, info, warning, error.
    fn counts(&self) -> BTreeMap<String, [u64; 4]>;

    /// Logs what these ask for, all of them together, from now on.
    ///
    /// # Errors
    /// Why that is not possible; nothing has changed.
    fn configure(&self, logs: &[Log]) -> Result<(), String>;
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// What said it: a module of the original, or a part of ours.
    pub module: String,
    /// `trace`, `debug`, `info`, `warning` or `error`.
    pub level: &'static str,
    /// What was said.
    pub text: String,
    /// Where in the source code, if that is known.
    pub place: Option<(&'static str, u32)>,
    /// When.
    pub at: SystemTime,
}

/// What a management node works on.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) control: Control,
    pub(crate) entities: Entities,
    pub(crate) messages: Messages,
    pub(crate) routes: watch::Receiver<Arc<Routes>>,
    pub(crate) shards: Arc<Shards>,
    pub(crate) settings: Settings,
    pub(crate) logs: Option<Arc<dyn Logs>>,
    /// The life of the router, as it tells others.
    pub(crate) instance: u64,
    pub(crate) profile: Profile,
}

/// Answers until the router stops.
pub(crate) async fn serve(mut node: Node) {
    let started = Instant::now();
    let mut requests = node.messages.subscribe_own(ADDRESS);
    let mut table = Arc::clone(&node.routes.borrow().table);
    let mut topology_changed = SystemTime::now();
    loop {
        tokio::select! {
            changed = node.routes.changed() => {
                let routes = Arc::clone(&node.routes.borrow_and_update());
                if !Arc::ptr_eq(&table, &routes.table) {
                    (table, topology_changed) = (Arc::clone(&routes.table), SystemTime::now());
                }
                if changed.is_err() {
                    return;
                }
            }
            request = requests.recv() => {
                let Some(request) = request else { return };
                let Some(request) = Request::read(&request) else { continue };
                node.answer(&request, started, topology_changed).await;
            }
        }
    }
}

impl Node {
    async fn answer(&mut self, request: &Request, started: Instant, topology_changed: SystemTime) {
        let asked_at = Instant::now();
        let mut view = self.view(started, topology_changed).await;
        // Those who carry the octets are asked only where it matters.
        let asked = request.text("entityType").or(request.text("type")).and_then(Managed::of);
        let concerns = |names: &[&str]| {
            let mut types = names.iter().filter_map(|name| Managed::of(name));
            asked.is_none_or(|asked| types.any(|of| of.is_a(asked)))
        };
        if concerns(&["router.link", "router.config.autoLink", "connection", "routerMetrics"]) {
            view.snapshot.add_links(self.shards.links().await);
        }
        if concerns(&["tcpConnection", "connection", "routerMetrics"]) {
            view.snapshot.add_streams(self.shards.list_streams().await);
        }
        let answer = match agent::handle(request, &view) {
            Step::Answer(answer) => answer,
            Step::Change(change) => {
                let outcome = self.make(&change).await;
                let view = self.view(started, topology_changed).await;
                change.answer(outcome, &view)
            }
            Step::Profile(asked) => self.profile.answer(asked),
        };
        self.profile.count(&request.operation, asked_at.elapsed());
        let status = answer.status.code();
        // Who asks is told what is wrong. The log is not his to fill.
        match status < 400 {
            true => debug!(operation = request.operation, status, "managed"),
            false => debug!(operation = request.operation, status, error = answer.description, "not managed"),
        }
        if let Err(error) = self.messages.send(&request.reply_to, request.answer(&answer)) {
            debug!(%error, "an answer to a management request is lost");
        }
    }

    /// What there is at this moment.
    async fn view(&self, started: Instant, topology_changed: SystemTime) -> View<'_> {
        let snapshot = self.control.snapshot().await;
        View {
            settings: &self.settings,
            logs: self.logs.as_deref(),
            states: Arc::clone(&self.entities.states().borrow()),
            routes: Arc::clone(&self.routes.borrow()),
            stats: &self.shards.stats,
            snapshot,
            uptime: started.elapsed(),
            instance: self.instance,
            topology_changed,
        }
    }

    /// Does what the agent wants done.
    async fn make(&mut self, change: &Change) -> Result<(), Failure> {
        match change.managed.name {
            "connection" => self.change_connection(change).await,
            "log" => {
                let Some((logs, configuration)) = self.logs.as_ref().zip(change.configuration.as_ref()) else {
                    return Err(not_here("the log of this router is not its own"));
                };
                let failed = |description| Failure { status: Status::InternalError, description };
                logs.configure(&configuration.logs).map_err(failed)?;
                self.settings.apply(change);
                Ok(())
            }
            "router.config.address" => {
                if let Some(configuration) = &change.configuration {
                    self.control.set_distribution(configuration.distribution.clone());
                }
                self.settings.apply(change);
                Ok(())
            }
            "network" => {
                self.settings.apply(change);
                Ok(())
            }
            _ => self.change_entity(change).await,
        }
    }

    async fn change_entity(&self, change: &Change) -> Result<(), Failure> {
        let type_name = change.managed.label();
        let done = if change.action == Action::Delete {
            let states = Arc::clone(&self.entities.states().borrow());
            let is_it = |(kind, name): &&(EntityKind, String)| kind.to_string() == type_name && *name == change.name;
            let Some((kind, name)) = states.configured.keys().find(is_it) else {
                return Err(not_here("entities of this type are not in this version"));
            };
            self.entities.delete(*kind, name).await
        } else {
            let Some(configuration) = change.configuration.clone() else { return Ok(()) };
            let warnings = configuration.warnings.join("; ");
            let is_it = |entity: &Entity| entity.kind().to_string() == type_name && entity.name() == change.name;
            let Some(entity) = Entity::all(configuration).find(is_it) else { return Err(not_here(&warnings)) };
            let given = change.managed.columns().filter(|column| column.kind.is_some());
            let given = given.filter_map(|column| Some((column.name, change.attributes.get(column.name)?.clone())));
            match change.action {
                Action::Create => self.entities.create_as_given(entity, given.collect()).await,
                _ => self.entities.update_as_given(entity, given.collect()).await,
            }
        };
        done.map_err(|error| {
            let status = match &error {
                EntityError::Unknown { .. } => Status::NotFound,
                // As the original, which finds these out too late to say whose mistake it is.
                EntityError::NoListener { .. } | EntityError::OneAddress { .. } | EntityError::InUse { .. } => {
                    Status::InternalError
                }
                EntityError::Listen { .. } | EntityError::Taken { .. } | EntityError::Stopping => Status::InternalError,
                _ => Status::BadRequest,
            };
            Failure { status, description: with_causes(&error) }
        })
    }

    async fn change_connection(&self, change: &Change) -> Result<(), Failure> {
        let number = change.identity.parse().unwrap_or(u64::MAX);
        let trace = match change.attributes.get("enableProtocolTrace") {
            Some(Value::Bool(is_traced)) => Some(*is_traced).filter(|_| change.is_changed("enableProtocolTrace")),
            None => None,
            Some(_) => return Err(Failure::bad_request("`enableProtocolTrace` is true or false")),
        };
        let done = match change.attributes.get("adminStatus").and_then(Value::as_text) {
            Some("enabled") => Ok(()),
            Some("deleted") => self.entities.close_connection(number).await,
            _ => return Err(Failure::bad_request("`adminStatus` is enabled or deleted")),
        };
        done.map_err(refused)?;
        match trace {
            Some(is_traced) => self.entities.trace_connection(number, is_traced).await.map_err(refused),
            None => Ok(()),
        }
    }
}

/// Why a connection is not as it is wanted.
fn refused(error: EntityError) -> Failure {
    let status = match error {
        EntityError::Essential(_) => Status::Forbidden,
        _ => Status::BadRequest,
    };
    Failure { status, description: error.to_string() }
}

fn not_here(description: &str) -> Failure {
    Failure { status: Status::NotImplemented, description: description.to_owned() }
}
