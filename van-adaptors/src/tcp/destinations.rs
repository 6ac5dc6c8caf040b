//! The routing keys of a tcpListener, and which of them a client gets (docs/wire.md §8.8). Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use van_core::management::config::Strategy;

use crate::entities::Count;

/// The routing keys of a tcpListener: one, or those that its listenerAddresses name.
#[derive(Debug, Clone)]
pub(crate) struct Destinations {
    pub(crate) strategy: Strategy,
    /// The highest value first; of equals, in the order of their names.
    list: Vec<Destination>,
}

/// A routing key of a tcpListener.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    /// Its listenerAddress; empty if the tcpListener names it itself.
    pub(crate) name: String,
    /// The VanFlow identity of its listenerAddress.
    pub(crate) identity: Option<Arc<str>>,
    pub(crate) key: Arc<str>,
    pub(crate) value: u32,
    pub(crate) is_reachable: bool,
    /// Clients that got it.
    pub(crate) chosen: Count,
}

impl Destinations {
    /// None yet.
    pub(crate) fn new(strategy: Strategy) -> Self {
        Self { strategy, list: Vec::new() }
    }

    /// One, which everybody gets.
    pub(crate) fn only(key: Arc<str>, is_reachable: bool) -> Self {
        let (name, chosen) = (String::new(), Count::default());
        let only = Destination { name, identity: None, key, value: 0, is_reachable, chosen };
        Self { strategy: Strategy::Priority, list: vec![only] }
    }

    pub(crate) fn insert(&mut self, destination: Destination) {
        self.list.push(destination);
        self.list.sort_by(|a, b| b.value.cmp(&a.value).then_with(|| a.name.cmp(&b.name)));
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Destination> {
        let place = self.list.iter().position(|it| it.name == name)?;
        Some(self.list.remove(place))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Destination> {
        self.list.iter()
    }

    /// Some keys got a consumer, or lost their last.
    pub(crate) fn set_reachable(&mut self, keys: &BTreeMap<Arc<str>, bool>) {
        for it in &mut self.list {
            it.is_reachable = keys.get(&it.key).copied().unwrap_or(it.is_reachable);
        }
    }

    /// Whether there is any use in accepting clients.
    pub(crate) fn is_reachable(&self) -> bool {
        self.list.iter().any(|it| it.is_reachable)
    }

    /// The one for a client; `random` decides where chance is to. If none can be reached any more it is the first, for the
    /// client to be refused there.
    pub(crate) fn choose(&self, random: u64) -> Option<&Destination> {
        let mut reachable = self.list.iter().filter(|it| it.is_reachable);
        let chosen = match self.strategy {
            Strategy::Priority => reachable.next(),
            Strategy::Weighted => {
                let total: u64 = reachable.clone().map(|it| u64::from(it.value)).sum();
                let mut place = random.checked_rem(total).unwrap_or_default();
                reachable.find(|it| match place.checked_sub(it.value.into()) {
                    Some(rest) => {
                        place = rest;
                        false
                    }
                    None => true,
                })
            }
        };
        // Weights may all be 0.
        chosen.or_else(|| self.list.iter().find(|it| it.is_reachable)).or(self.list.first())
    }
}

#[cfg(test)]
mod tests {
    use van_core::Random;

    use super::*;

    /// Destinations by name and value; those in capitals cannot be reached.
    fn destinations(strategy: Strategy, values: &[(&str, u32)]) -> Destinations {
        let mut destinations = Destinations::new(strategy);
        for &(name, value) in values {
            let is_reachable = name.chars().all(char::is_lowercase);
            let (name, key, chosen) = (name.to_owned(), name.into(), Count::default());
            destinations.insert(Destination { name, identity: None, key, value, is_reachable, chosen });
        }
        destinations
    }

    /// How often each is chosen.
    fn choices(destinations: &Destinations, times: u32) -> BTreeMap<&str, u32> {
        let (mut random, mut counts) = (Random::new(7), BTreeMap::new());
        for _ in 0..times {
            let chosen = destinations.choose(random.next_u64()).expect("there are some");
            *counts.entry(&*chosen.name).or_default() += 1;
        }
        counts
    }

    #[test]
    fn priority_takes_the_highest_that_is_reachable() {
        let values = [("low", 1), ("HIGHEST", 9), ("high", 5), ("even", 5)];
        let mut destinations = destinations(Strategy::Priority, &values);
        assert_eq!(choices(&destinations, 100), [("even", 100)].into(), "of equals the first by name");
        destinations.set_reachable(&[("HIGHEST".into(), true), ("other".into(), false)].into());
        assert_eq!(choices(&destinations, 100), [("HIGHEST", 100)].into());
    }

    #[test]
    fn weighted_is_in_proportion_within_5_percent_over_10_000_clients() {
        let values = [("a", 1), ("b", 2), ("c", 7), ("GONE", 90), ("never", 0)];
        let destinations = destinations(Strategy::Weighted, &values);
        let counts = choices(&destinations, 10_000);
        for (name, expected) in [("a", 1_000), ("b", 2_000), ("c", 7_000)] {
            assert!(counts[name].abs_diff(expected) <= expected / 20, "{name}: {} instead of {expected}", counts[name]);
        }
        assert_eq!(counts.len(), 3, "{counts:?}");
    }

    #[test]
    fn where_nothing_is_reachable_or_has_a_weight_it_is_the_first() {
        for strategy in [Strategy::Priority, Strategy::Weighted] {
            let unreachable = destinations(strategy, &[("A", 1), ("B", 2)]);
            assert_eq!(choices(&unreachable, 10), [("B", 10)].into());
            assert!(!unreachable.is_reachable());
            assert!(Destinations::new(strategy).choose(5).is_none());
        }
        let weightless = destinations(Strategy::Weighted, &[("a", 0), ("b", 0)]);
        assert_eq!(choices(&weightless, 10), [("a", 10)].into());
        let standby = destinations(Strategy::Weighted, &[("GONE", 10), ("standby", 0)]);
        assert_eq!(choices(&standby, 10), [("standby", 10)].into());
    }
}
