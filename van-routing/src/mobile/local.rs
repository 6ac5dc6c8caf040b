//! The addresses of this router, and their numbered changes.

use std::collections::BTreeMap;

use crate::{AddressKey, AddressUpdate, MobileAddress};

/// What we told the others, and what we shall tell them next.
#[derive(Debug, Default)]
pub(crate) struct LocalAddresses {
    seq: u64,
    told: BTreeMap<AddressKey, MobileAddress>,
    pending: BTreeMap<AddressKey, Option<MobileAddress>>,
}

impl LocalAddresses {
    pub(crate) fn advertise(&mut self, address: MobileAddress) {
        self.pending.insert(address.key.clone(), Some(address));
    }

    pub(crate) fn withdraw(&mut self, key: &AddressKey) {
        self.pending.insert(key.clone(), None);
    }

    /// Numbers all pending changes as one; none if they come to nothing.
    ///
    /// A known address is told again only when its mesh changes: that is the one attribute of which receivers
    /// follow changes.
    pub(crate) fn differential(&mut self) -> Option<AddressUpdate> {
        let (mut add, mut del) = (Vec::new(), Vec::new());
        for (key, wanted) in std::mem::take(&mut self.pending) {
            match wanted {
                Some(address) => {
                    let told = self.told.insert(key, address.clone());
                    if told.is_none_or(|told| told.mesh != address.mesh) {
                        add.push(address);
                    }
                }
                None => del.extend(self.told.remove(&key).map(|_| key)),
            }
        }
        if add.is_empty() && del.is_empty() {
            return None;
        }
        self.seq += 1;
        Some(AddressUpdate::Differential { add, del })
    }

    /// All addresses as of the latest number: without what is waiting to be added, with what is waiting to be
    /// deleted. Both follow under the next number.
    pub(crate) fn absolute(&self) -> AddressUpdate {
        AddressUpdate::Absolute { exist: self.told.values().cloned().collect() }
    }

    /// The number of the latest change, 0 for none.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        MeshId,
        tests::{address, key},
    };

    fn differential(add: &[&str], del: &[&str]) -> Option<AddressUpdate> {
        let add = add.iter().map(|key| address(key)).collect();
        Some(AddressUpdate::Differential { add, del: del.iter().map(|name| key(name)).collect() })
    }

    #[test]
    fn a_burst_is_one_change() {
        let mut local = LocalAddresses::default();
        local.advertise(address("Ma"));
        local.advertise(address("Mb"));
        local.advertise(address("Mc"));
        local.withdraw(&key("Mb"));
        assert_eq!((local.differential(), local.seq()), (differential(&["Ma", "Mc"], &[]), 1));
        local.withdraw(&key("Ma"));
        local.advertise(address("Md"));
        assert_eq!((local.differential(), local.seq()), (differential(&["Md"], &["Ma"]), 2));
    }

    #[test]
    fn changes_that_come_to_nothing_have_no_number() {
        let mut local = LocalAddresses::default();
        local.advertise(address("Ma"));
        local.withdraw(&key("Ma"));
        local.withdraw(&key("Mnever"));
        assert_eq!((local.differential(), local.seq()), (None, 0));
    }

    #[test]
    fn of_a_known_address_only_the_mesh_is_told_again() {
        let mut local = LocalAddresses::default();
        local.advertise(address("Ma"));
        assert!(local.differential().is_some());
        local.advertise(MobileAddress { producers: 7, ..address("Ma") });
        assert_eq!(local.differential(), None);
        let meshed = MobileAddress { mesh: Some(MeshId([1; 15])), ..address("Ma") };
        local.advertise(meshed.clone());
        assert_eq!(local.differential(), Some(AddressUpdate::Differential { add: vec![meshed], del: vec![] }));
    }

    #[test]
    fn absolute_lists_are_as_of_the_latest_number() {
        let mut local = LocalAddresses::default();
        local.advertise(address("Ma"));
        assert!(local.differential().is_some());
        local.withdraw(&key("Ma"));
        local.advertise(address("Mb"));
        assert_eq!(local.absolute(), AddressUpdate::Absolute { exist: vec![address("Ma")] });
        assert_eq!(local.seq(), 1);
    }
}
