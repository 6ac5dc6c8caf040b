//! What became of a document: conditions, and the state that follows from them.
//!
//! Everything here is pure: a status is derived from what was there before, from plain facts and from `now`, and never
//! set by hand. The functions for the kinds take the status so far; what it holds beside the conditions, such as the
//! url of a grant or the network of a site, is whatever the caller put into it.

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use serde::{Deserialize, Serialize};

use crate::resource::access_grant::AccessGrantStatus;
use crate::resource::access_token::AccessTokenStatus;
use crate::resource::certificate::CertificateStatus;
use crate::resource::connector::ConnectorStatus;
use crate::resource::link::LinkStatus;
use crate::resource::listener::ListenerStatus;
use crate::resource::multi_key_listener::{MultiKeyListenerStatus, StrategyStatus};
use crate::resource::router_access::RouterAccessStatus;
use crate::resource::site::{SiteSpec, SiteStatus};
use crate::resource::{Endpoint, null_as_default};

/// What a document says that has no site to serve it.
pub const NO_ACTIVE_SITE: &str = "No active site in namespace";

/// What is said when there is nothing to say.
const OK: &str = "OK";

/// What an access grant says at an edge site.
pub const EDGE_CANNOT_ACCEPT: &str = "Edge sites cannot accept incoming links from remote sites";

/// The part that all statuses have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// In the order in which they first were known.
    #[serde(deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Follows from the conditions.
    #[serde(rename = "status", skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Says why; `OK` when ready.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// In one word, how a document fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum State {
    /// It is in effect.
    Ready,
    /// Something is still missing.
    Pending,
    /// Somebody has to act.
    Error,
}

/// Shows the word.
impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// One thing that is so, or not, as Kubernetes writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which one.
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    /// Whether it is so.
    pub status: Truth,
    /// Ready, pending or in error.
    pub reason: State,
    /// `OK`, or what is missing or wrong.
    pub message: String,
    /// When [`Condition::status`] last changed.
    pub last_transition_time: Timestamp,
    /// The generation of the document that was looked at, where somebody counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// What a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConditionKind {
    /// The document is understood and carried out.
    Configured,
    /// The other half, connector or listener, is somewhere in the network.
    Matched,
    /// The link is up.
    Operational,
    /// The grant is known to the server of grants.
    Processed,
    /// The token has become a link.
    Redeemed,
    /// The address is known.
    Resolved,
    /// The router runs.
    Running,
    /// All of the others that count.
    Ready,
}

/// Whether a condition is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Truth {
    /// It is.
    True,
    /// It is not.
    False,
    /// Nobody knows.
    Unknown,
}

/// Why a condition is not so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// Something is still missing, which may come by itself.
    Pending(String),
    /// Somebody has to act.
    Error(String),
}

impl Status {
    /// Whether everything is in effect.
    pub fn is_ready(&self) -> bool {
        self.state == Some(State::Ready)
    }

    /// The condition of a kind, if it is known already.
    pub fn condition(&self, kind: ConditionKind) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// Says how a condition is now; its time moves only if [`Condition::status`] changes.
    fn set(&mut self, kind: ConditionKind, outcome: Result<(), Obstacle>, now: Timestamp) {
        self.set_noted(kind, outcome.map(|()| OK.to_owned()), now);
    }

    /// As [`Status::set`], with something to be said of what is so.
    fn set_noted(&mut self, kind: ConditionKind, outcome: Result<String, Obstacle>, now: Timestamp) {
        let (status, reason, message) = match outcome {
            Ok(note) => (Truth::True, State::Ready, note),
            Err(Obstacle::Pending(message)) => (Truth::False, State::Pending, message),
            Err(Obstacle::Error(message)) => (Truth::False, State::Error, message),
        };
        if let Some(known) = self.conditions.iter_mut().find(|condition| condition.kind == kind) {
            if known.status != status {
                known.last_transition_time = whole_seconds(now);
            }
            (known.status, known.reason, known.message) = (status, reason, message);
        } else {
            let last_transition_time = whole_seconds(now);
            let observed_generation = None;
            self.conditions.push(Condition {
                kind,
                status,
                reason,
                message,
                last_transition_time,
                observed_generation,
            });
        }
    }

    /// Draws state and message from the required conditions: the first that is absent or not so decides.
    fn conclude(&mut self, required: &[ConditionKind]) {
        (self.state, self.message) = required
            .iter()
            .find_map(|kind| match self.condition(*kind) {
                None => Some((Some(State::Pending), format!("Not {kind:?}"))),
                Some(condition) if condition.status == Truth::True => None,
                Some(condition) => Some((Some(condition.reason), condition.message.clone())),
            })
            .unwrap_or_else(|| {
                let mut messages = required.iter().filter_map(|kind| Some(&*self.condition(*kind)?.message));
                (Some(State::Ready), messages.find(|message| *message != OK).unwrap_or(OK).to_owned())
            });
    }

    /// [`Status::conclude`], and says it once more as condition `Ready`.
    fn conclude_ready(&mut self, required: &[ConditionKind], now: Timestamp) {
        self.conclude(required);
        let outcome = match self.state {
            Some(State::Error) => Err(Obstacle::Error(self.message.clone())),
            Some(State::Pending) => Err(Obstacle::Pending(self.message.clone())),
            Some(State::Ready) | None => Ok(self.message.clone()),
        };
        self.set_noted(ConditionKind::Ready, outcome, now);
    }
}

/// The status of a site.
///
/// `running` says whether the router runs, or why not yet; `endpoints` where it can be reached, as far as that is known.
pub fn site_status(
    so_far: &SiteStatus,
    spec: &SiteSpec,
    configured: Result<(), String>,
    running: Result<(), String>,
    endpoints: Vec<Endpoint>,
    now: Timestamp,
) -> SiteStatus {
    let mut status = SiteStatus { endpoints, default_issuer: Some(spec.issuer().to_owned()), ..so_far.clone() };
    let resolved = match spec.has_link_access() {
        // It is an edge site all the same.
        true if spec.edge => {
            Err(Obstacle::Error(format!("{EDGE_CANNOT_ACCEPT}; remove `linkAccess`, or `edge: true`")))
        }
        true if status.endpoints.is_empty() => pending("Pending"),
        _ => Ok(()),
    };
    status.common.set(ConditionKind::Configured, configured.map_err(Obstacle::Error), now);
    status.common.set(ConditionKind::Running, running.map_err(Obstacle::Pending), now);
    status.common.set(ConditionKind::Resolved, resolved, now);
    status.common.conclude_ready(&[ConditionKind::Configured, ConditionKind::Running, ConditionKind::Resolved], now);
    status
}

/// The status of a listener.
pub fn listener_status(
    so_far: &ListenerStatus,
    configured: Result<(), String>,
    has_matching_connector: bool,
    now: Timestamp,
) -> ListenerStatus {
    let mut status = ListenerStatus { has_matching_connector, ..so_far.clone() };
    let matched = if has_matching_connector { Ok(()) } else { pending("No matching connectors") };
    status.common.set(ConditionKind::Configured, configured.map_err(Obstacle::Error), now);
    status.common.set(ConditionKind::Matched, matched, now);
    status.common.conclude_ready(&[ConditionKind::Configured, ConditionKind::Matched], now);
    status
}

/// The status of a connector.
pub fn connector_status(
    so_far: &ConnectorStatus,
    configured: Result<(), String>,
    has_matching_listener: bool,
    now: Timestamp,
) -> ConnectorStatus {
    let mut status = ConnectorStatus { has_matching_listener, ..so_far.clone() };
    let matched = if has_matching_listener { Ok(()) } else { pending("No matching listeners") };
    status.common.set(ConditionKind::Configured, configured.map_err(Obstacle::Error), now);
    status.common.set(ConditionKind::Matched, matched, now);
    status.common.conclude_ready(&[ConditionKind::Configured, ConditionKind::Matched], now);
    status
}

/// What the router reports of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkReport {
    /// Nothing yet.
    Nothing,
    /// It is up.
    Up {
        /// The site at the other end, as soon as it is known.
        remote_site_id: Option<String>,
        /// The site at the other end, as soon as it is known.
        remote_site_name: Option<String>,
        /// The link that carries everything while this one stands by for it; of an edge site's, only one is in use.
        stands_by_for: Option<String>,
    },
    /// It is down.
    Down {
        /// The router's last error.
        error: Option<String>,
    },
}

/// The status of a listener with several routing keys; it is operational while one of them can be reached.
///
/// It is also said to be ready or not, which Skupper leaves out.
pub fn multi_key_listener_status(
    so_far: &MultiKeyListenerStatus,
    configured: Result<(), String>,
    strategy: StrategyStatus,
    has_destination: bool,
    now: Timestamp,
) -> MultiKeyListenerStatus {
    let mut status = MultiKeyListenerStatus { has_destination, strategy, ..so_far.clone() };
    let operational = if has_destination { Ok(()) } else { pending("No matching connectors") };
    status.common.set(ConditionKind::Configured, configured.map_err(Obstacle::Error), now);
    status.common.set(ConditionKind::Operational, operational, now);
    status.common.conclude_ready(&[ConditionKind::Configured, ConditionKind::Operational], now);
    status
}

/// The status of a link; it keeps the name of the remote site while it is down.
pub fn link_status(
    so_far: &LinkStatus,
    configured: Result<(), String>,
    report: LinkReport,
    now: Timestamp,
) -> LinkStatus {
    let mut status = so_far.clone();
    status.common.set(ConditionKind::Configured, configured.map_err(Obstacle::Error), now);
    match report {
        LinkReport::Nothing => {}
        LinkReport::Up { remote_site_id, remote_site_name, stands_by_for } => {
            status.remote_site_id = remote_site_id.or(status.remote_site_id);
            status.remote_site_name = remote_site_name.or(status.remote_site_name);
            let note = stands_by_for.map(|uplink| format!("Standing by, should link \"{uplink}\" be lost"));
            status.common.set_noted(ConditionKind::Operational, Ok(note.unwrap_or_else(|| OK.to_owned())), now);
        }
        LinkReport::Down { error } => {
            let message =
                error.map_or_else(|| "Not operational".to_owned(), |error| format!("Not operational: {error}"));
            status.common.set(ConditionKind::Operational, Err(Obstacle::Pending(message)), now);
        }
    }
    status.common.conclude_ready(&[ConditionKind::Configured, ConditionKind::Operational], now);
    status
}

/// The status of a grant; it is resolved when `so_far` has url and CA.
pub fn access_grant_status(
    so_far: &AccessGrantStatus,
    processed: Result<(), String>,
    now: Timestamp,
) -> AccessGrantStatus {
    let mut status = so_far.clone();
    let resolved = if status.url.is_some() && status.ca.is_some() { Ok(()) } else { pending("Pending") };
    status.common.set(ConditionKind::Processed, processed.map_err(Obstacle::Error), now);
    status.common.set(ConditionKind::Resolved, resolved, now);
    status.common.conclude_ready(&[ConditionKind::Processed, ConditionKind::Resolved], now);
    status
}

/// The status of a token, once somebody tried to redeem it.
pub fn access_token_status(
    so_far: &AccessTokenStatus,
    redeemed: Result<(), Obstacle>,
    now: Timestamp,
) -> AccessTokenStatus {
    let mut status = AccessTokenStatus { redeemed: redeemed.is_ok(), ..so_far.clone() };
    status.common.set(ConditionKind::Redeemed, redeemed, now);
    status.common.conclude(&[ConditionKind::Redeemed]);
    status
}

/// The status of an access; it is resolved when there are endpoints.
pub fn router_access_status(
    so_far: &RouterAccessStatus,
    configured: Result<(), String>,
    endpoints: Vec<Endpoint>,
    now: Timestamp,
) -> RouterAccessStatus {
    let mut status = RouterAccessStatus { endpoints, ..so_far.clone() };
    let resolved = if status.endpoints.is_empty() { pending("Not Resolved") } else { Ok(()) };
    status.common.set(ConditionKind::Configured, configured.map_err(Obstacle::Error), now);
    status.common.set(ConditionKind::Resolved, resolved, now);
    status.common.conclude_ready(&[ConditionKind::Configured, ConditionKind::Resolved], now);
    status
}

/// The status of a certificate: when it ends, or why there is none.
pub fn certificate_status(
    so_far: &CertificateStatus,
    issued: Result<Timestamp, String>,
    now: Timestamp,
) -> CertificateStatus {
    let mut status = so_far.clone();
    status.expiration = issued.as_ref().ok().map(|end| whole_seconds(*end).to_string());
    status.common.set(ConditionKind::Ready, issued.map(drop).map_err(Obstacle::Error), now);
    status.common.conclude(&[ConditionKind::Ready]);
    status
}

fn pending(message: &str) -> Result<(), Obstacle> {
    Err(Obstacle::Pending(message.to_owned()))
}

/// Kubernetes writes times in whole seconds.
pub(crate) fn whole_seconds(time: Timestamp) -> Timestamp {
    time.round(TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Trunc)).unwrap_or(time)
}
