//! The network as its records tell it: sites, what links them, and what they offer.
//!
//! Only what lives and belongs to a known site is here. What is not known (yet) is left out, never guessed.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::attribute::Attribute;
use super::collector::Collector;
use super::record::{Record, RecordType};

/// The sites of a network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkView {
    /// In the order of their ids.
    pub sites: Vec<Site>,
}

/// A site. Texts nobody said are empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Site {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// `kubernetes`, `podman`, `docker` or `linux`.
    pub platform: String,
    /// The version of what runs it.
    pub version: String,
    /// In the order of their ids.
    pub routers: Vec<Router>,
    /// In the order of router and name.
    pub links: Vec<Link>,
    /// In the order of their routing keys.
    pub services: Vec<Service>,
}

/// A router of a site.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Router {
    /// Its id.
    pub id: String,
    /// `interior` or `edge`.
    pub mode: String,
    /// Its version.
    pub version: String,
}

/// A link that a router of a site dials.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Link {
    /// The id of the router that dials it.
    pub router: String,
    /// Its name.
    pub name: String,
    /// `inter-router` or `edge`.
    pub role: String,
    /// What it costs, if that was said.
    pub cost: Option<u64>,
    /// Whether it is up.
    pub is_operational: bool,
    /// The site it leads to; `None` while that is not known.
    pub remote: Option<Remote>,
}

/// The site at the other end of a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Remote {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// What a site has for one routing key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Service {
    /// The routing key.
    pub key: String,
    /// What its connectors lead to: the names of processes, else hosts.
    pub connectors: BTreeSet<String>,
    /// The names of its listeners.
    pub listeners: BTreeSet<String>,
}

impl NetworkView {
    /// Reads what a collector knows.
    pub fn new(collector: &Collector) -> Self {
        let records = Records::new(collector);
        let mut sites: BTreeMap<_, _> =
            records.of(RecordType::Site).map(|site| (&*site.identity, Site::new(site))).collect();
        for router in records.of(RecordType::Router) {
            let site = records.site(router).and_then(|site| sites.get_mut(&*site.identity));
            if let Some((site, id)) = site.zip(router.router_id()) {
                let text = |attribute| text(router, attribute);
                let (mode, version) = (text(Attribute::Mode), text(Attribute::BuildVersion));
                site.routers.push(Router { id: id.to_owned(), mode, version });
            }
        }
        for link in records.of(RecordType::Link) {
            let site = records.site(link).and_then(|site| sites.get_mut(&*site.identity));
            if let Some((site, link)) = site.zip(records.link(link)) {
                site.links.push(link);
            }
        }
        let mut services = BTreeMap::<_, Service>::new();
        for end in records.of(RecordType::Listener).chain(records.of(RecordType::Connector)) {
            let Some((site, key)) = records.site(end).zip(end.text(Attribute::VanAddress)) else { continue };
            let service = services.entry((&*site.identity, key)).or_default();
            match end.kind {
                RecordType::Listener => service.listeners.insert(end.name().unwrap_or(&end.identity).to_owned()),
                _ => service.connectors.insert(records.target(end).unwrap_or(&end.identity).to_owned()),
            };
        }
        for ((site, key), service) in services {
            let site = sites.get_mut(site).expect("where the service was found");
            site.services.push(Service { key: key.to_owned(), ..service });
        }
        let mut sites: Vec<_> = sites.into_values().collect();
        for site in &mut sites {
            site.routers.sort();
            site.links.sort();
        }
        Self { sites }
    }

    /// Whether a connector somewhere serves a routing key.
    pub fn has_connector(&self, key: &str) -> bool {
        self.services(key).any(|service| !service.connectors.is_empty())
    }

    /// Whether a listener somewhere leads to a routing key.
    pub fn has_listener(&self, key: &str) -> bool {
        self.services(key).any(|service| !service.listeners.is_empty())
    }

    /// The link of a name that a router dials.
    pub fn link(&self, router: &str, name: &str) -> Option<&Link> {
        self.sites.iter().flat_map(|site| &site.links).find(|link| (&*link.router, &*link.name) == (router, name))
    }

    fn services(&self, key: &str) -> impl Iterator<Item = &Service> {
        self.sites.iter().flat_map(|site| &site.services).filter(move |service| service.key == key)
    }
}

impl Site {
    fn new(record: &Record) -> Self {
        let text = |attribute| text(record, attribute);
        Self {
            id: record.identity.to_string(),
            name: text(Attribute::Name),
            namespace: text(Attribute::Namespace),
            platform: text(Attribute::Platform),
            version: text(Attribute::BuildVersion),
            ..Self::default()
        }
    }
}

/// What lives, by its identity: all that anybody says of it.
struct Records<'a>(HashMap<&'a str, Cow<'a, Record>>);

impl<'a> Records<'a> {
    fn new(collector: &'a Collector) -> Self {
        let mut records = HashMap::<_, Cow<'_, Record>>::new();
        for record in collector.records() {
            match records.get_mut(&*record.identity) {
                Some(known) => drop(known.to_mut().apply(record)),
                None => drop(records.insert(&*record.identity, Cow::Borrowed(record))),
            }
        }
        Self(records)
    }

    fn of(&self, kind: RecordType) -> impl Iterator<Item = &Record> {
        self.0.values().map(|record| &**record).filter(move |record| record.kind == kind)
    }

    fn get(&self, kind: RecordType, identity: Option<&str>) -> Option<&Record> {
        self.0.get(identity?).map(|record| &**record).filter(|record| record.kind == kind)
    }

    fn router(&self, child: &Record) -> Option<&Record> {
        self.get(RecordType::Router, child.parent())
    }

    /// The site of a router, or of what belongs to one.
    fn site(&self, record: &Record) -> Option<&Record> {
        match record.kind {
            RecordType::Router => self.get(RecordType::Site, record.parent()),
            _ => self.get(RecordType::Site, self.router(record)?.parent()),
        }
    }

    fn link(&self, link: &Record) -> Option<Link> {
        let access = self.get(RecordType::RouterAccess, link.text(Attribute::Peer));
        let remote = access.and_then(|access| self.site(access));
        Some(Link {
            router: self.router(link)?.router_id()?.to_owned(),
            name: link.name()?.to_owned(),
            role: text(link, Attribute::Role),
            cost: link.number(Attribute::LinkCost),
            is_operational: link.text(Attribute::OperStatus) == Some("up"),
            remote: remote.map(|site| Remote { id: site.identity.to_string(), name: text(site, Attribute::Name) }),
        })
    }

    fn target<'r>(&'r self, connector: &'r Record) -> Option<&'r str> {
        let process = self.get(RecordType::Process, connector.text(Attribute::Process));
        process.and_then(Record::name).or_else(|| connector.text(Attribute::DestinationHost))
    }
}

fn text(record: &Record, attribute: Attribute) -> String {
    record.text(attribute).unwrap_or_default().to_owned()
}
