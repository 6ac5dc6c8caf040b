//! Who consumes which address, here and at other routers, and how messages are spread over them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use van_routing::{AddressKey, MobileAddress, RouterId, Treatment};

use crate::plane::{ConnectorId, Consumers, Load, SubscriberId};

/// The class letter of addresses that are known across the network.
const MOBILE: char = 'M';

/// How messages are spread over the consumers of an address, as configured.
#[derive(Debug, Clone)]
pub struct Distribution {
    /// For addresses that nothing else is said about.
    pub default: Treatment,
    /// By the first segments of an address; the longest that matches counts.
    pub prefixes: BTreeMap<String, Treatment>,
}

impl Default for Distribution {
    /// Balanced, but for the prefix `mc`: what everybody observes goes to everybody who observes.
    fn default() -> Self {
        let prefixes = BTreeMap::from([("mc".to_owned(), Treatment::MulticastOnce)]);
        Self { default: Treatment::AnycastBalanced, prefixes }
    }
}

impl Distribution {
    /// What is configured for an address: its prefix matches in whole segments, which end at `/` or `.`.
    fn configured(&self, address: &str) -> Option<Treatment> {
        let matches = |prefix: &str| {
            let rest = address.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '.']))
        };
        let matching = self.prefixes.iter().filter(|(prefix, _)| matches(prefix));
        matching.max_by_key(|(prefix, _)| prefix.len()).map(|(_, treatment)| *treatment)
    }
}

/// All consumers this router knows of.
#[derive(Debug, Default)]
pub(super) struct Directory {
    distribution: Distribution,
    here: BTreeMap<Arc<str>, Here>,
    elsewhere: BTreeMap<Arc<str>, BTreeMap<RouterId, Owner>>,
    consumers: Arc<HashMap<Arc<str>, Arc<Consumers>>>,
}

/// The consumers of an address at this router.
#[derive(Debug, Default)]
struct Here {
    connectors: BTreeMap<ConnectorId, Load>,
    /// With the treatment each wants where nothing is configured.
    subscribers: BTreeMap<SubscriberId, Treatment>,
}

impl Here {
    fn is_empty(&self) -> bool {
        self.connectors.is_empty() && self.subscribers.is_empty()
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

    /// The picture for the data plane.
    pub(super) fn consumers(&self) -> Arc<HashMap<Arc<str>, Arc<Consumers>>> {
        Arc::clone(&self.consumers)
    }

    /// Adds a connector of this router. What to tell the network, if it is the address's first consumer here.
    pub(super) fn add_connector(&mut self, address: &Arc<str>, connector: ConnectorId) -> Option<MobileAddress> {
        self.add(address, |here| {
            here.connectors.insert(connector, Load::default());
        })
    }

    /// Removes a connector of this router. What to tell the network, if it was the address's last consumer here.
    pub(super) fn remove_connector(&mut self, address: &Arc<str>, connector: ConnectorId) -> Option<AddressKey> {
        self.remove(address, |here| here.connectors.remove(&connector).is_some())
    }

    /// Removes all connectors of this router. What the network is to be told.
    pub(super) fn remove_connectors(&mut self) -> Vec<AddressKey> {
        let addresses: Vec<_> = self.here.keys().cloned().collect();
        let remove = |address| self.remove(address, |here| !std::mem::take(&mut here.connectors).is_empty());
        addresses.iter().filter_map(remove).collect()
    }

    /// As [`Directory::add_connector`], for a subscriber that wants this treatment where nothing is configured.
    pub(super) fn add_subscriber(
        &mut self,
        address: &Arc<str>,
        subscriber: SubscriberId,
        treatment: Treatment,
    ) -> Option<MobileAddress> {
        self.add(address, |here| {
            here.subscribers.insert(subscriber, treatment);
        })
    }

    /// As [`Directory::remove_connector`], for a subscriber.
    pub(super) fn remove_subscriber(&mut self, address: &Arc<str>, subscriber: SubscriberId) -> Option<AddressKey> {
        self.remove(address, |here| here.subscribers.remove(&subscriber).is_some())
    }

    fn add(&mut self, address: &Arc<str>, add: impl FnOnce(&mut Here)) -> Option<MobileAddress> {
        let here = self.here.entry(Arc::clone(address)).or_default();
        let is_first = here.is_empty();
        add(here);
        self.renew(address);
        let mut mobile = MobileAddress::new(key(address)?);
        // Not what others told of it: that is theirs to tell.
        mobile.treatment = Some(self.own_treatment(address).unwrap_or(self.distribution.default));
        is_first.then_some(mobile)
    }

    fn remove(&mut self, address: &Arc<str>, remove: impl FnOnce(&mut Here) -> bool) -> Option<AddressKey> {
        let here = self.here.get_mut(address)?;
        if !remove(here) {
            return None;
        }
        let was_last = here.is_empty();
        if was_last {
            self.here.remove(address);
        }
        self.renew(address);
        key(address).filter(|_| was_last)
    }

    /// Takes note of a consumer at another router; the address it is for, if it is of a class that streams use.
    pub(super) fn add_owner(&mut self, router: &RouterId, mobile: &MobileAddress) -> Option<Arc<str>> {
        let address: Arc<str> = mobile.key.as_str().strip_prefix(MOBILE)?.into();
        let owners = self.elsewhere.entry(Arc::clone(&address)).or_default();
        let load = owners.get(router).map(|owner| owner.load.clone()).unwrap_or_default();
        owners.insert(router.clone(), Owner { load, hint: mobile.treatment });
        self.renew(&address);
        Some(address)
    }

    pub(super) fn remove_owner(&mut self, router: &RouterId, key: &AddressKey) -> Option<Arc<str>> {
        let address: Arc<str> = key.as_str().strip_prefix(MOBILE)?.into();
        let owners = self.elsewhere.get_mut(&address)?;
        owners.remove(router)?;
        if owners.is_empty() {
            self.elsewhere.remove(&address);
        }
        self.renew(&address);
        Some(address)
    }

    /// Configuration beats what a subscriber wants, that a hint, a hint the default. No hint takes streams from connectors
    /// that are here.
    fn treatment(&self, address: &str) -> Treatment {
        let has_connectors = self.here.get(address).is_some_and(|here| !here.connectors.is_empty());
        let is_fit = |hint: &Treatment| {
            !has_connectors || matches!(hint, Treatment::AnycastClosest | Treatment::AnycastBalanced)
        };
        let hint = || self.elsewhere.get(address)?.values().find_map(|owner| owner.hint.filter(is_fit));
        self.own_treatment(address).or_else(hint).unwrap_or(self.distribution.default)
    }

    /// What configuration says, or else a subscriber here wants.
    fn own_treatment(&self, address: &str) -> Option<Treatment> {
        let wish = || self.here.get(address)?.subscribers.values().next().copied();
        self.distribution.configured(address).or_else(wish)
    }

    /// Makes the entry of one address anew.
    fn renew(&mut self, address: &Arc<str>) {
        let here = self.here.get(address);
        let connectors = here.iter().flat_map(|here| &here.connectors).map(|(id, load)| (*id, load.clone())).collect();
        let subscribers = here.iter().flat_map(|here| here.subscribers.keys()).map(|id| (*id, Load::default()));
        let subscribers = subscribers.collect();
        let owners: Vec<_> = self
            .elsewhere
            .get(address)
            .into_iter()
            .flatten()
            .map(|(id, owner)| (id.clone(), owner.load.clone()))
            .collect();
        let consumers = Consumers::new(self.treatment(address), connectors, subscribers, owners);
        let all = Arc::make_mut(&mut self.consumers);
        if consumers.is_empty() {
            all.remove(address);
        } else {
            all.insert(Arc::clone(address), Arc::new(consumers));
        }
    }
}

fn key(address: &str) -> Option<AddressKey> {
    AddressKey::new(&format!("{MOBILE}{address}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_in_whole_segments_counts() {
        let prefixes = [("mc", Treatment::MulticastOnce), ("mc/x", Treatment::AnycastClosest)];
        let distribution =
            Distribution { prefixes: prefixes.map(|(prefix, t)| (prefix.to_owned(), t)).into(), ..Default::default() };
        let check = |address, expected| assert_eq!(distribution.configured(address), expected, "{address}");
        check("mc", Some(Treatment::MulticastOnce));
        check("mc/sfe.all", Some(Treatment::MulticastOnce));
        check("mc.a", Some(Treatment::MulticastOnce));
        check("mc/x/y", Some(Treatment::AnycastClosest));
        check("mcx", None);
        check("other", None);
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
        assert!(directory.consumers().is_empty());
    }

    #[test]
    fn a_hint_takes_no_streams_from_connectors_and_is_not_passed_on() {
        let hinting = |treatment| {
            let mut mobile = MobileAddress::new(key("backend").expect("an address"));
            mobile.treatment = Some(treatment);
            mobile
        };
        let (address, other): (Arc<str>, _) = ("backend".into(), RouterId::new("other").expect("an id"));
        let mut directory = Directory::default();
        for hint in [Treatment::MulticastFlood, Treatment::MulticastOnce, Treatment::Unavailable] {
            directory.add_owner(&other, &hinting(hint));
            assert_eq!(directory.consumers()["backend"].treatment, hint, "nobody is here");
            let told = directory.add_connector(&address, ConnectorId(1)).expect("the first");
            assert_eq!(told.treatment, Some(Treatment::AnycastBalanced));
            assert_eq!(directory.consumers()["backend"].treatment, Treatment::AnycastBalanced);
            directory.remove_connector(&address, ConnectorId(1));
        }
        directory.add_owner(&other, &hinting(Treatment::AnycastClosest));
        let told = directory.add_connector(&address, ConnectorId(1)).expect("the first");
        assert_eq!(told.treatment, Some(Treatment::AnycastBalanced));
        assert_eq!(directory.consumers()["backend"].treatment, Treatment::AnycastClosest);
    }
}
