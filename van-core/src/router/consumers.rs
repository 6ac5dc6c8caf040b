//! Who consumes which address, here and at other routers, and how messages are spread over them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use van_routing::{AddressKey, MobileAddress, RouterId, Treatment};

use super::distribution::Distribution;
use crate::plane::{
    Addresses, ConnectionId, ConnectorId, Consumers, EndpointId, LinkConsumer, Load, MAX_CONTROL_BYTES, PeerKind,
    SubscriberId,
};

/// The class letters of addresses that are known across the network, and of the ids of edge routers.
const MOBILE: char = 'M';
const EDGE: char = 'H';

/// Addresses of this router beyond which links get no other. Were there more than a router may have, nobody would believe it
/// any; the rest is for what is configured here.
const MAX_LINK_ADDRESSES: usize = MobileAddress::MAX_PER_ROUTER / 4 * 3;

/// As [`MAX_LINK_ADDRESSES`], in octets as [`told_octets`] counts them: a router tells all its addresses in one message, and others
/// give up a neighbour whose message is beyond 1 MiB.
const MAX_LINK_OCTETS: usize = MAX_CONTROL_BYTES / 4 * 3;

/// Octets that an address takes in such a message: at most 16 are not its own.
fn told_octets(address: &str) -> usize {
    address.len() + 16
}

/// What kind of address somebody consumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Class {
    /// Known across the network: routing keys, and most others.
    Mobile,
    /// The id of an edge router, known across the network.
    Edge,
    /// A name at this router.
    Local,
}

/// All consumers this router knows of.
#[derive(Debug, Default)]
pub(super) struct Directory {
    distribution: Distribution,
    mobile: Book,
    edges: Book,
    locals: Book,
}

/// The consumers of the addresses of one class.
#[derive(Debug, Default)]
struct Book {
    here: BTreeMap<Arc<str>, Here>,
    /// What those take to be told.
    octets: usize,
    elsewhere: BTreeMap<Arc<str>, BTreeMap<RouterId, Owner>>,
    consumers: Arc<Addresses>,
}

/// The consumers of an address at this router.
#[derive(Debug, Default)]
struct Here {
    connectors: BTreeMap<ConnectorId, Load>,
    /// With the treatment each wants where nothing is configured.
    subscribers: BTreeMap<SubscriberId, Treatment>,
    links: BTreeMap<EndpointId, LinkConsumer>,
}

impl Here {
    fn is_empty(&self) -> bool {
        self.connectors.is_empty() && self.subscribers.is_empty() && self.links.is_empty()
    }

    /// Whether somebody consumes it who is not behind our uplink, nor at another edge router.
    fn is_own(&self) -> bool {
        let is_own = |link: &LinkConsumer| !matches!(link.peer, PeerKind::Interior | PeerKind::Mesh);
        !self.connectors.is_empty() || !self.subscribers.is_empty() || self.links.values().any(is_own)
    }
}

#[derive(Debug)]
struct Owner {
    load: Load,
    hint: Option<Treatment>,
}

impl Directory {
    pub(super) fn new(distribution: Distribution) -> Self {
        Self { distribution, ..Self::default() }
    }

    /// Spreads messages otherwise from now on.
    pub(super) fn set_distribution(&mut self, distribution: Distribution) {
        self.distribution = distribution;
        let addresses: BTreeSet<_> = self.mobile.here.keys().chain(self.mobile.elsewhere.keys()).cloned().collect();
        addresses.iter().for_each(|address| self.renew(Class::Mobile, address));
    }

    /// The picture for the data plane.
    pub(super) fn consumers(&self, class: Class) -> Arc<Addresses> {
        Arc::clone(&self.book(class).consumers)
    }

    fn book(&self, class: Class) -> &Book {
        match class {
            Class::Mobile => &self.mobile,
            Class::Edge => &self.edges,
            Class::Local => &self.locals,
        }
    }

    fn book_mut(&mut self, class: Class) -> &mut Book {
        match class {
            Class::Mobile => &mut self.mobile,
            Class::Edge => &mut self.edges,
            Class::Local => &mut self.locals,
        }
    }

    /// Adds a connector of this router. What to tell the network, if it is the address's first consumer here.
    pub(super) fn add_connector(&mut self, address: &Arc<str>, connector: ConnectorId) -> Option<MobileAddress> {
        self.add(Class::Mobile, address, |here| {
            here.connectors.insert(connector, Load::default());
        })
    }

    /// Removes a connector of this router. What to tell the network, if it was the address's last consumer here.
    pub(super) fn remove_connector(&mut self, address: &Arc<str>, connector: ConnectorId) -> Option<AddressKey> {
        self.remove(Class::Mobile, address, |here| here.connectors.remove(&connector).is_some())
    }

    /// Removes all connectors of this router. What the network is to be told.
    pub(super) fn remove_connectors(&mut self) -> Vec<AddressKey> {
        let addresses: Vec<_> = self.mobile.here.keys().cloned().collect();
        let remove =
            |address| self.remove(Class::Mobile, address, |here| !std::mem::take(&mut here.connectors).is_empty());
        addresses.iter().filter_map(remove).collect()
    }

    /// As [`Directory::add_connector`], for a subscriber that wants this treatment where nothing is configured.
    pub(super) fn add_subscriber(
        &mut self,
        class: Class,
        address: &Arc<str>,
        subscriber: SubscriberId,
        treatment: Treatment,
    ) -> Option<MobileAddress> {
        self.add(class, address, |here| {
            here.subscribers.insert(subscriber, treatment);
        })
    }

    /// As [`Directory::remove_connector`], for a subscriber.
    pub(super) fn remove_subscriber(
        &mut self,
        class: Class,
        address: &Arc<str>,
        subscriber: SubscriberId,
    ) -> Option<AddressKey> {
        self.remove(class, address, |here| here.subscribers.remove(&subscriber).is_some())
    }

    /// As [`Directory::add_connector`], for a link of a client or an edge router.
    pub(super) fn add_link(&mut self, class: Class, address: &Arc<str>, link: LinkConsumer) -> Option<MobileAddress> {
        self.add(class, address, |here| {
            here.links.insert(link.id, link);
        })
    }

    /// As [`Directory::remove_connector`], for a link.
    pub(super) fn remove_link(&mut self, class: Class, address: &Arc<str>, link: EndpointId) -> Option<AddressKey> {
        self.remove(class, address, |here| here.links.remove(&link).is_some())
    }

    /// Notes which edge mesh is at the other end of a connection.
    pub(super) fn set_mesh(&mut self, connection: ConnectionId, mesh: &Arc<str>) {
        for class in [Class::Mobile, Class::Edge] {
            let mut changed = Vec::new();
            for (address, here) in &mut self.book_mut(class).here {
                for link in here.links.values_mut().filter(|link| link.id.at.id == connection) {
                    link.mesh = Some(Arc::clone(mesh));
                    changed.push(Arc::clone(address));
                }
            }
            changed.iter().for_each(|address| self.renew(class, address));
        }
    }

    /// Whether the network may be told of one more address that links here consume, or is told of it anyway.
    pub(super) fn has_room(&self, class: Class, address: &str) -> bool {
        class == Class::Local
            || self.book(class).here.contains_key(address)
            || (self.mobile.here.len() + self.edges.here.len() < MAX_LINK_ADDRESSES
                && self.mobile.octets + self.edges.octets + told_octets(address) <= MAX_LINK_OCTETS)
    }

    /// Addresses that somebody here consumes: what an edge router tells its interior router.
    pub(super) fn own_addresses(&self) -> impl Iterator<Item = &Arc<str>> {
        self.mobile.here.iter().filter(|(_, here)| here.is_own()).map(|(address, _)| address)
    }

    /// How an address is treated for which nobody has to be there.
    pub(super) fn treatment_of(&self, address: &str) -> Treatment {
        self.treatment(Class::Mobile, address)
    }

    fn add(&mut self, class: Class, address: &Arc<str>, add: impl FnOnce(&mut Here)) -> Option<MobileAddress> {
        let book = self.book_mut(class);
        let here = book.here.entry(Arc::clone(address)).or_default();
        let is_first = here.is_empty();
        add(here);
        book.octets += if is_first { told_octets(address) } else { 0 };
        self.renew(class, address);
        let mut mobile = MobileAddress::new(key(class, address)?);
        // Not what others told of it: that is theirs to tell.
        mobile.treatment = Some(self.own_treatment(class, address).unwrap_or(self.default_treatment(class)));
        is_first.then_some(mobile)
    }

    fn remove(
        &mut self,
        class: Class,
        address: &Arc<str>,
        remove: impl FnOnce(&mut Here) -> bool,
    ) -> Option<AddressKey> {
        let book = self.book_mut(class);
        let here = book.here.get_mut(address)?;
        if !remove(here) {
            return None;
        }
        let was_last = here.is_empty();
        if was_last {
            book.here.remove(address);
            book.octets -= told_octets(address);
        }
        self.renew(class, address);
        key(class, address).filter(|_| was_last)
    }

    /// Takes note of a consumer at another router; the address it is for, if it is of a class that deliveries use.
    pub(super) fn add_owner(&mut self, router: &RouterId, mobile: &MobileAddress) -> Option<Arc<str>> {
        let (class, address) = class_of(&mobile.key)?;
        let owners = self.book_mut(class).elsewhere.entry(Arc::clone(&address)).or_default();
        let load = owners.get(router).map(|owner| owner.load.clone()).unwrap_or_default();
        owners.insert(router.clone(), Owner { load, hint: mobile.treatment });
        self.renew(class, &address);
        Some(address)
    }

    pub(super) fn remove_owner(&mut self, router: &RouterId, key: &AddressKey) -> Option<Arc<str>> {
        let (class, address) = class_of(key)?;
        let elsewhere = &mut self.book_mut(class).elsewhere;
        let owners = elsewhere.get_mut(&address)?;
        owners.remove(router)?;
        if owners.is_empty() {
            elsewhere.remove(&address);
        }
        self.renew(class, &address);
        Some(address)
    }

    /// Configuration beats what a subscriber wants, that a hint, a hint the default. No hint takes streams from connectors
    /// that are here.
    fn treatment(&self, class: Class, address: &str) -> Treatment {
        let book = self.book(class);
        let has_connectors = book.here.get(address).is_some_and(|here| !here.connectors.is_empty());
        let is_fit = |hint: &Treatment| {
            !has_connectors || matches!(hint, Treatment::AnycastClosest | Treatment::AnycastBalanced)
        };
        let hint = || book.elsewhere.get(address)?.values().find_map(|owner| owner.hint.filter(is_fit));
        self.own_treatment(class, address).or_else(hint).unwrap_or(self.default_treatment(class))
    }

    /// What configuration says, or else a subscriber here wants.
    fn own_treatment(&self, class: Class, address: &str) -> Option<Treatment> {
        let wish = || self.book(class).here.get(address)?.subscribers.values().next().copied();
        match class {
            Class::Mobile => self.distribution.rule(address).map(|rule| rule.treatment).or_else(wish),
            Class::Edge | Class::Local => wish(),
        }
    }

    fn default_treatment(&self, class: Class) -> Treatment {
        match class {
            Class::Mobile => self.distribution.default,
            Class::Edge | Class::Local => Treatment::AnycastClosest,
        }
    }

    /// Makes the entry of one address anew.
    fn renew(&mut self, class: Class, address: &Arc<str>) {
        let treatment = self.treatment(class, address);
        let priority = match class {
            Class::Mobile => self.distribution.rule(address).and_then(|rule| rule.priority),
            Class::Edge | Class::Local => None,
        };
        let book = self.book_mut(class);
        let here = book.here.get(address);
        let connectors = here.iter().flat_map(|here| &here.connectors).map(|(id, load)| (*id, load.clone())).collect();
        let subscribers = here.iter().flat_map(|here| here.subscribers.keys()).map(|id| (*id, Load::default()));
        let links = here.iter().flat_map(|here| here.links.values()).cloned().collect();
        let owners = book.elsewhere.get(address).into_iter().flatten();
        let owners = owners.map(|(id, owner)| (id.clone(), owner.load.clone())).collect();
        let mut consumers = Consumers::new(treatment, connectors, subscribers.collect(), links, owners);
        consumers.priority = priority;
        let all = Arc::make_mut(&mut book.consumers);
        if let Some(before) = all.get(address) {
            consumers.passages = before.passages.clone();
        }
        if consumers.is_empty() {
            all.remove(address);
        } else {
            all.insert(Arc::clone(address), Arc::new(consumers));
        }
    }
}

/// The name of an address in the routing protocol: its class's letter, then the address. Names at this router have none.
fn key(class: Class, address: &str) -> Option<AddressKey> {
    let letter = match class {
        Class::Mobile => MOBILE,
        Class::Edge => EDGE,
        Class::Local => return None,
    };
    AddressKey::new(&format!("{letter}{address}")).ok()
}

fn class_of(key: &AddressKey) -> Option<(Class, Arc<str>)> {
    let mobile = key.as_str().strip_prefix(MOBILE).map(|address| (Class::Mobile, address.into()));
    mobile.or_else(|| Some((Class::Edge, key.as_str().strip_prefix(EDGE)?.into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::{AddressPattern, AddressRule};

    #[test]
    fn the_rule_of_an_address_says_how_messages_go_and_which_first() {
        let mut distribution = Distribution::default();
        let rule = AddressRule { treatment: Treatment::AnycastClosest, priority: Some(7) };
        distribution.insert(&AddressPattern::new("a/*").expect("a pattern"), rule);
        let mut directory = Directory::new(distribution);
        for (address, treatment, priority) in
            [("a/b", Treatment::AnycastClosest, Some(7)), ("a", Treatment::AnycastBalanced, None)]
        {
            let told = directory.add_connector(&address.into(), ConnectorId(1)).expect("the first");
            let consumers = &directory.consumers(Class::Mobile)[address];
            assert_eq!((consumers.treatment, consumers.priority), (treatment, priority));
            assert_eq!(told.treatment, Some(treatment));
        }
    }

    #[test]
    fn links_get_no_more_addresses_than_fit_into_one_message() {
        let mut directory = Directory::default();
        let name = |n: u32| Arc::<str>::from(format!("{n:01000}"));
        let has_room = |directory: &Directory, n| directory.has_room(Class::Mobile, &name(n));
        let mut count = 0;
        while has_room(&directory, count) {
            directory.add_connector(&name(count), ConnectorId(1));
            count += 1;
        }
        assert_eq!(count, 774, "of 1,016 octets each");
        assert!(has_room(&directory, 0) && directory.has_room(Class::Local, "new"));
        directory.remove_connector(&name(0), ConnectorId(1));
        assert!(has_room(&directory, count));
    }

    #[test]
    fn only_the_first_and_the_last_connector_of_an_address_are_told() {
        let mut directory = Directory::default();
        let address: Arc<str> = "backend".into();
        assert_eq!(
            directory.add_connector(&address, ConnectorId(1)).map(|told| told.key.as_str().to_owned()),
            Some("Mbackend".into())
        );
        assert!(directory.add_connector(&address, ConnectorId(2)).is_none());
        assert!(directory.remove_connector(&address, ConnectorId(1)).is_none());
        assert!(directory.remove_connector(&address, ConnectorId(2)).is_some());
        assert!(directory.consumers(Class::Mobile).is_empty());
    }

    #[test]
    fn a_hint_takes_no_streams_from_connectors_and_is_not_passed_on() {
        let hinting = |treatment| {
            let mut mobile = MobileAddress::new(key(Class::Mobile, "backend").expect("an address"));
            mobile.treatment = Some(treatment);
            mobile
        };
        let (address, other): (Arc<str>, _) = ("backend".into(), RouterId::new("other").expect("an id"));
        let mut directory = Directory::default();
        for hint in [Treatment::MulticastFlood, Treatment::MulticastOnce, Treatment::Unavailable] {
            directory.add_owner(&other, &hinting(hint));
            assert_eq!(directory.consumers(Class::Mobile)["backend"].treatment, hint, "nobody is here");
            let told = directory.add_connector(&address, ConnectorId(1)).expect("the first");
            assert_eq!(told.treatment, Some(Treatment::AnycastBalanced));
            assert_eq!(directory.consumers(Class::Mobile)["backend"].treatment, Treatment::AnycastBalanced);
            directory.remove_connector(&address, ConnectorId(1));
        }
        directory.add_owner(&other, &hinting(Treatment::AnycastClosest));
        let told = directory.add_connector(&address, ConnectorId(1)).expect("the first");
        assert_eq!(told.treatment, Some(Treatment::AnycastBalanced));
        assert_eq!(directory.consumers(Class::Mobile)["backend"].treatment, Treatment::AnycastClosest);
    }
}
