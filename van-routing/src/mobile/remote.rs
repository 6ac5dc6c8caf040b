//! The addresses of another router, as it told us.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use crate::{AddressKey, AddressUpdate, MobileAddress, schedule::Request};

/// Our copy of another router's addresses.
#[derive(Debug)]
pub(crate) struct AddressesCopy {
    seq: u64,
    announced: u64,
    known: BTreeMap<AddressKey, MobileAddress>,
    /// Open until the copy is as new as what was announced.
    pub(crate) request: Request,
}

/// One difference that an update made.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AddressChange {
    Added(MobileAddress),
    Removed(AddressKey),
}

/// An update would bring more than [`MobileAddress::MAX_PER_ROUTER`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany {
    pub(crate) count: usize,
}

impl AddressesCopy {
    /// An empty copy, to be asked for.
    pub(crate) fn new(now: Instant) -> Self {
        Self { seq: 0, announced: 0, known: BTreeMap::new(), request: Request::opened(now) }
    }

    /// Takes note that the router has made change number `seq`.
    pub(crate) fn announce(&mut self, now: Instant, seq: u64) {
        self.announced = self.announced.max(seq);
        self.request.set_open(now, self.announced > self.seq);
    }

    /// Takes over an update, or asks for a better one.
    pub(crate) fn update(
        &mut self,
        now: Instant,
        seq: u64,
        update: &AddressUpdate,
    ) -> Result<Vec<AddressChange>, TooMany> {
        let changes = match update {
            AddressUpdate::Differential { add, del } if seq.checked_sub(1) == Some(self.seq) => self.apply(add, del)?,
            AddressUpdate::Absolute { exist } if seq >= self.seq => {
                let kept: BTreeSet<_> = exist.iter().map(|address| &address.key).collect();
                let del: Vec<_> = self.known.keys().filter(|key| !kept.contains(key)).cloned().collect();
                self.apply(exist, &del)?
            }
            // A gap: all changes up to this one are wanted. Nothing is, if this one is older than what we have.
            _ => {
                self.announce(now, seq);
                return Ok(Vec::new());
            }
        };
        self.seq = seq;
        self.announce(now, seq);
        Ok(changes)
    }

    fn apply(&mut self, add: &[MobileAddress], del: &[AddressKey]) -> Result<Vec<AddressChange>, TooMany> {
        let new = add.iter().map(|address| &address.key).filter(|key| !self.known.contains_key(*key));
        let gone = del.iter().filter(|key| self.known.contains_key(*key));
        let count = self.known.len() + new.collect::<BTreeSet<_>>().len() - gone.collect::<BTreeSet<_>>().len();
        if count > MobileAddress::MAX_PER_ROUTER {
            return Err(TooMany { count });
        }
        let mut changes = Vec::new();
        for key in del {
            changes.extend(self.known.remove_entry(key).map(|(key, _)| AddressChange::Removed(key)));
        }
        for address in add {
            let known = self.known.insert(address.key.clone(), address.clone());
            if known.as_ref() != Some(address) {
                changes.push(AddressChange::Added(address.clone()));
            }
        }
        Ok(changes)
    }

    /// Forgets all addresses, to ask for them when the router is back.
    pub(crate) fn clear(&mut self, now: Instant) -> Vec<AddressKey> {
        self.seq = 0;
        self.announce(now, self.announced);
        std::mem::take(&mut self.known).into_keys().collect()
    }

    /// The number of the change up to which we know the addresses, 0 for none.
    pub(crate) fn seq(&self) -> u64 {
        self.seq
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &MobileAddress> {
        self.known.values()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{address, epoch, key, ms};

    fn differential(add: &[&str], del: &[&str]) -> AddressUpdate {
        let add = add.iter().map(|key| address(key)).collect();
        AddressUpdate::Differential { add, del: del.iter().map(|name| key(name)).collect() }
    }

    fn absolute(exist: &[&str]) -> AddressUpdate {
        AddressUpdate::Absolute { exist: exist.iter().map(|key| address(key)).collect() }
    }

    fn keys(copy: &AddressesCopy) -> Vec<&str> {
        copy.iter().map(|address| address.key.as_str()).collect()
    }

    #[test]
    fn differentials_are_taken_in_sequence() {
        let (now, mut copy) = (epoch(), AddressesCopy::new(epoch()));
        let changes = copy.update(now, 1, &differential(&["Ma", "Mb"], &[])).unwrap();
        assert_eq!(changes, [AddressChange::Added(address("Ma")), AddressChange::Added(address("Mb"))]);
        let changes = copy.update(now, 2, &differential(&["Mb"], &["Ma", "Mnever"])).unwrap();
        assert_eq!(changes, [AddressChange::Removed(key("Ma"))]);
        assert_eq!((keys(&copy), copy.request.due()), (vec!["Mb"], None));
    }

    #[test]
    fn a_gap_is_asked_for_and_an_older_number_is_not() {
        let (now, mut copy) = (epoch(), AddressesCopy::new(epoch()));
        copy.update(now, 1, &differential(&["Ma"], &[])).unwrap();
        for seq in [0, 1] {
            copy.update(now, seq, &differential(&["Mold"], &[])).unwrap();
            assert_eq!(copy.request.due(), None);
        }
        copy.update(now, 3, &differential(&["Mc"], &[])).unwrap();
        assert_eq!((keys(&copy), copy.seq(), copy.request.due()), (vec!["Ma"], 1, Some(now)));
    }

    #[test]
    fn a_gap_is_asked_for_once_until_more_is_announced() {
        let (now, mut copy) = (epoch(), AddressesCopy::new(epoch()));
        copy.update(now, 3, &differential(&["Mc"], &[])).unwrap();
        assert!(copy.request.take_due(now, ms(2000)));
        copy.update(now + ms(1), 4, &differential(&["Md"], &[])).unwrap();
        assert!(!copy.request.take_due(now + ms(1), ms(2000)));
    }

    #[test]
    fn an_absolute_list_replaces_all_unless_it_is_old() {
        let (now, mut copy) = (epoch(), AddressesCopy::new(epoch()));
        copy.announce(now, 5);
        copy.update(now, 5, &absolute(&["Ma", "Mb"])).unwrap();
        assert_eq!(copy.request.due(), None);
        copy.update(now, 4, &absolute(&["Mold"])).unwrap();
        let changes = copy.update(now, 7, &absolute(&["Mb", "Mc"])).unwrap();
        assert_eq!(changes, [AddressChange::Removed(key("Ma")), AddressChange::Added(address("Mc"))]);
        assert_eq!((keys(&copy), copy.seq()), (vec!["Mb", "Mc"], 7));
    }

    #[test]
    fn cleared_addresses_are_asked_for_again() {
        let (now, mut copy) = (epoch(), AddressesCopy::new(epoch()));
        copy.update(now, 1, &differential(&["Ma"], &[])).unwrap();
        assert_eq!(copy.clear(now), [key("Ma")]);
        assert_eq!((copy.seq(), copy.request.due()), (0, Some(now)));
    }

    #[test]
    fn too_many_addresses_are_refused_whole() {
        let names = |from: usize, count| (from..from + count).map(|i| format!("M{i}")).collect::<Vec<_>>();
        let list = |names: &[String]| absolute(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let (now, mut copy) = (epoch(), AddressesCopy::new(epoch()));
        copy.update(now, 1, &list(&names(0, MobileAddress::MAX_PER_ROUTER))).unwrap();
        copy.update(now, 2, &list(&names(1, MobileAddress::MAX_PER_ROUTER))).unwrap();
        assert_eq!(
            copy.update(now, 3, &differential(&["Mone-more"], &[])),
            Err(TooMany { count: MobileAddress::MAX_PER_ROUTER + 1 })
        );
        assert_eq!((copy.iter().count(), copy.seq()), (MobileAddress::MAX_PER_ROUTER, 2));
    }
}
