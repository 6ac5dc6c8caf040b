//! Who consumes which address, here and at other routers, and how messages are spread over them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use van_routing::{AddressKey, MobileAddress, RouterId, Treatment};

use crate::plane::{ConnectorId, Consumers, Load};

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
    fn default() -> Self {
        Self { default: Treatment::AnycastBalanced, prefixes: BTreeMap::new() }
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
    here: BTreeMap<Arc<str>, BTreeMap<ConnectorId, Load>>,
    elsewhere: BTreeMap<Arc<str>, BTreeMap<RouterId, Owner>>,
    consumers: Arc<HashMap<Arc<str>, Arc<Consumers>>>,
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

    /// Adds a connector of this router. What to tell the network, if it is the address's first here.
    pub(super) fn add_connector(&mut self, address: &Arc<str>, connector: ConnectorId) -> Option<MobileAddress> {
        let connectors = self.here.entry(Arc::clone(address)).or_default();
        let is_first = connectors.is_empty();
        connectors.insert(connector, Load::default());
        self.renew(address);
        let mut mobile = MobileAddress::new(key(address)?);
        mobile.treatment = Some(self.treatment(address));
        is_first.then_some(mobile)
    }

    /// Removes a connector of this router. What to tell the network, if it was the address's last here.
    pub(super) fn remove_connector(&mut self, address: &Arc<str>, connector: ConnectorId) -> Option<AddressKey> {
        let connectors = self.here.get_mut(address)?;
        connectors.remove(&connector)?;
        let was_last = connectors.is_empty();
        if was_last {
            self.here.remove(address);
        }
        self.renew(address);
        key(address).filter(|_| was_last)
    }

    /// Removes all connectors of this router. What the network is to be told.
    pub(super) fn remove_connectors(&mut self) -> Vec<AddressKey> {
        let addresses: Vec<_> = std::mem::take(&mut self.here).into_keys().collect();
        addresses.iter().for_each(|address| self.renew(address));
        addresses.iter().filter_map(|address| key(address)).collect()
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

    /// Configuration beats a hint, a hint the default.
    fn treatment(&self, address: &str) -> Treatment {
        let hint = || self.elsewhere.get(address)?.values().find_map(|owner| owner.hint);
        self.distribution.configured(address).or_else(hint).unwrap_or(self.distribution.default)
    }

    /// Makes the entry of one address anew.
    fn renew(&mut self, address: &Arc<str>) {
        let connectors: Vec<_> =
            self.here.get(address).into_iter().flatten().map(|(id, load)| (*id, load.clone())).collect();
        let owners: Vec<_> = self
            .elsewhere
            .get(address)
            .into_iter()
            .flatten()
            .map(|(id, owner)| (id.clone(), owner.load.clone()))
            .collect();
        let consumers = Consumers::new(self.treatment(address), connectors, owners);
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
}
