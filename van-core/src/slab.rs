//! A generational slab: dense numbers for things that come and go, where a stale number never finds a new thing.

/// A place in a slab: its index, and which tenant of it is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    index: u32,
    generation: u32,
}

/// Values under [`Key`]s. Insertion takes the lowest free place, so numbers stay small. Values are boxed: a place that was
/// needed once is never given up, and costs little while it is empty.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    /// Free places, as a heap with the lowest on top.
    free: std::collections::BinaryHeap<std::cmp::Reverse<u32>>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<Box<T>>,
}

impl Key {
    /// The place's number: small, dense, and used again after removal.
    pub fn index(self) -> u32 {
        self.index
    }

    /// Both numbers in one, for the places that carry an opaque token.
    pub fn to_bits(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The key whose [`Key::to_bits`] this is.
    pub fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Default::default() }
    }
}

impl<T> Slab<T> {
    /// Puts a value in and returns where.
    pub(crate) fn insert(&mut self, value: T) -> Key {
        self.insert_with(|_| value)
    }

    /// As [`Slab::insert`], for a value that knows its own key.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        let index = self.free.pop().map_or(self.slots.len() as u32, |free| free.0);
        if index as usize == self.slots.len() {
            self.slots.push(Slot { generation: 0, value: None });
        }
        let slot = &mut self.slots[index as usize];
        let key = Key { index, generation: slot.generation };
        slot.value = Some(make(key).into());
        key
    }

    /// Takes a value out. Its place gets a new generation.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.index as usize).filter(|slot| slot.generation == key.generation)?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(std::cmp::Reverse(key.index));
        Some(*value)
    }

    /// The value of a key, if it is still the one meant.
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let slot = self.slots.get(key.index as usize)?;
        slot.value.as_deref().filter(|_| slot.generation == key.generation)
    }

    /// As [`Slab::get`], to change it.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index as usize)?;
        slot.value.as_deref_mut().filter(|_| slot.generation == key.generation)
    }

    /// Everything, by ascending index.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let key = Key { index: index as u32, generation: slot.generation };
            slot.value.as_deref().map(|value| (key, value))
        })
    }

    /// All keys in use, by ascending index.
    pub(crate) fn keys(&self) -> Vec<Key> {
        self.iter().map(|(key, _)| key).collect()
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_does_not_find_the_next_tenant() {
        let mut slab = Slab::default();
        let old = slab.insert('a');
        assert_eq!(slab.remove(old), Some('a'));
        let new = slab.insert('b');
        assert_eq!(new.index(), old.index());
        assert_eq!(slab.get(old), None);
        assert_eq!(slab.remove(old), None);
        assert_eq!(slab.get(new), Some(&'b'));
    }

    #[test]
    fn the_lowest_free_place_is_taken() {
        let mut slab = Slab::default();
        let keys: Vec<_> = (0..4).map(|n| slab.insert(n)).collect();
        slab.remove(keys[2]);
        slab.remove(keys[1]);
        assert_eq!(slab.insert(9).index(), 1);
        assert_eq!(slab.len(), 3);
    }

    #[test]
    fn a_key_survives_its_bits() {
        let mut slab = Slab::default();
        let first = slab.insert(());
        slab.remove(first);
        let key = slab.insert(());
        assert_eq!(Key::from_bits(key.to_bits()), key);
    }
}
