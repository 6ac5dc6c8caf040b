//! What a router tells the network of itself, as VanFlow (docs/wire.md §9.1).
//!
//! * `entities` what it says of them · `traffic` connections and requests · `logs` lines of the log

mod entities;
mod logs;
mod traffic;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{oneshot, watch};
use van_core::flow::{
    Attribute, Audience, BEACONS, Now, Record, RecordType, SHARED, Source, flows_address, logs_address,
};
use van_routing::Treatment;

use self::entities::micros;
use self::logs::Lines;
pub use self::logs::LogLines;
use self::traffic::Traffic;
use crate::control::sleep_until;
use crate::entities::States;
use crate::messages::Messages;
use crate::shard::Shards;

/// How often numbers that grow are told.
const COUNTS_INTERVAL: Duration = Duration::from_secs(2);

/// The site that a router belongs to, as others shall see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteInfo {
    /// Its id. If it has none, the router gives it one for its own life.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What it is on: `linux`, `kubernetes`, …
    pub platform: String,
    /// The version of what runs it.
    pub version: String,
    /// Where it is.
    pub location: String,
    /// Who runs what it is on.
    pub provider: String,
}

/// What a router runs in, as others shall see it. What is empty is not told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageInfo {
    /// The name of the image.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The host or pod.
    pub host: String,
    /// The namespace of the pod.
    pub namespace: String,
}

/// Who speaks.
#[derive(Debug)]
pub(crate) struct Speaker {
    /// Begins the identities of all its records.
    pub(crate) flow_id: String,
    /// The router's id.
    pub(crate) router: String,
    /// The router's mode, as VanFlow has it.
    pub(crate) mode: &'static str,
    /// One without a name is told by somebody else.
    pub(crate) site: Option<SiteInfo>,
    pub(crate) image: ImageInfo,
    pub(crate) logs: Option<LogLines>,
}

/// Tells until the router stops, then that all has ended.
pub(crate) async fn tell(
    speaker: Speaker,
    messages: Messages,
    shards: Arc<Shards>,
    mut states: watch::Receiver<Arc<States>>,
    mut stop: oneshot::Receiver<()>,
) {
    let mut source = Source::new(&format!("{}:0", speaker.flow_id));
    for record in speaker.records() {
        source.insert(now(), record);
    }
    let mut asked = messages.subscribe(source.direct(), Treatment::AnycastClosest);
    let audiences = [BEACONS, SHARED, source.address(), &flows_address(source.id()), &logs_address(source.id())];
    let _audiences = audiences.map(|address| messages.watch(address));
    let mut traffic = Traffic::new(&speaker.flow_id, messages.clone(), shards);
    let mut lines = Lines::new(speaker.logs.as_ref(), source.id(), &speaker.flow_id);
    let mut routes = messages.watch_routes();
    routes.mark_changed();
    states.mark_changed();
    let mut told = BTreeMap::new();
    let mut counts_at = Instant::now();
    loop {
        send(&mut source, &messages);
        let counts = source.has_audience().then_some(counts_at);
        let timeout = [source.poll_timeout(), traffic.poll_timeout(), counts].into_iter().flatten().min();
        tokio::select! {
            _ = &mut stop => break,
            changed = states.changed() => match changed {
                Ok(()) => tell_changes(&mut source, &mut told, &states.borrow_and_update()),
                Err(_) => break,
            },
            Ok(()) = routes.changed() => {
                let routes = routes.borrow_and_update().clone();
                source.set_audience(now(), Audience::Beacons, routes.consuming_routers(BEACONS));
                source.set_audience(now(), Audience::Shared, routes.consuming_routers(SHARED));
                source.set_audience(now(), Audience::Own, routes.consuming_routers(source.address()));
                traffic.set_routes(&routes);
                lines.set_routes(&routes);
            }
            Some(_) = asked.recv() => {
                source.handle_flush(now());
                traffic.handle_flush();
            }
            () = traffic.recv() => {}
            Some(line) = lines.recv() => {
                // As with all that is told: what is lost is lost.
                let _ = messages.send(lines.address(), line);
            }
            () = sleep_until(timeout) => {
                source.handle_timeout(now());
                traffic.handle_timeout();
                if counts_at <= Instant::now() {
                    counts_at = Instant::now() + COUNTS_INTERVAL;
                    tell_changes(&mut source, &mut told, &states.borrow());
                    traffic.tell_dropped(&mut source);
                }
            }
        }
    }
    source.end(now());
    send(&mut source, &messages);
    traffic.end().await;
}

fn send(source: &mut Source, messages: &Messages) {
    while let Some(outgoing) = source.poll_output() {
        // What is lost here is told again when somebody asks.
        let _ = messages.send(&outgoing.to, outgoing.message);
    }
}

/// Tells what is other than it was told before.
fn tell_changes(source: &mut Source, told: &mut BTreeMap<String, Record>, states: &States) {
    let current = entities::records(states, source.id());
    for identity in told.keys().filter(|identity| !current.contains_key(*identity)) {
        source.remove(now(), identity);
    }
    for (identity, record) in &current {
        match told.get(identity) {
            Some(known) if known == record => {}
            Some(_) => source.patch(now(), record),
            None => source.insert(now(), record.clone()),
        }
    }
    *told = current;
}

impl Speaker {
    /// The site and the router. The router's record has the source's own identity.
    fn records(&self) -> Vec<Record> {
        let site = self.site.clone().unwrap_or_default();
        let namespace = [&site.namespace, &self.image.namespace].into_iter().find(|namespace| !namespace.is_empty());
        let router = told(
            Record::new(RecordType::Router, format!("{}:0", self.flow_id)),
            [
                (Attribute::Parent, &*site.id),
                (Attribute::Name, &format!("0/{}", self.router)),
                (Attribute::Mode, self.mode),
                (Attribute::BuildVersion, env!("CARGO_PKG_VERSION")),
                (Attribute::ImageName, &self.image.name),
                (Attribute::ImageVersion, &self.image.version),
                (Attribute::HostName, &self.image.host),
                (Attribute::Namespace, namespace.map_or("", String::as_str)),
            ],
        );
        let is_told = !site.name.is_empty();
        let site = told(
            Record::new(RecordType::Site, site.id.as_str()),
            [
                (Attribute::Name, &*site.name),
                (Attribute::Namespace, &site.namespace),
                (Attribute::Platform, &site.platform),
                (Attribute::BuildVersion, &site.version),
                (Attribute::Location, &site.location),
                (Attribute::Provider, &site.provider),
            ],
        );
        is_told.then_some(site).into_iter().chain([router]).collect()
    }
}

/// A record with those texts that are not empty.
fn told<const N: usize>(record: Record, texts: [(Attribute, &str); N]) -> Record {
    let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
    texts.fold(record, |record, (attribute, text)| record.with(attribute, text))
}

/// The time, twice.
pub(crate) fn now() -> Now {
    Now { instant: Instant::now(), wall_micros: micros(SystemTime::now()) }
}
