//! Memory that is free and that the allocator keeps.

/// Streams of a shard that are too few to be worth the call: their memory is used again.
const WORTHWHILE: usize = 1024;

/// Part of them that may be left.
const REMAINDER: usize = 16;

/// Watches how many streams there are: once most of many are gone, the allocator should give back what they took.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    most: usize,
}

impl Watch {
    /// Notes how many there are now. Whether memory should be given back.
    pub(crate) fn is_due(&mut self, streams: usize) -> bool {
        let is_due = self.most >= WORTHWHILE && streams <= self.most / REMAINDER;
        self.most = if is_due { streams } else { self.most.max(streams) };
        is_due
    }
}

/// Gives memory back to the system, from a thread of its own: it takes milliseconds. Without a thread it is kept.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)] // A call of libc's without a wrapper; it takes no pointers and is safe in any thread.
    let _ = std::thread::Builder::new().name("van-heap".into()).spawn(|| unsafe { libc::malloc_trim(0) });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_when_most_of_many_streams_are_gone() {
        let mut watch = Watch::default();
        let mut due = |streams| watch.is_due(streams);
        assert!(!due(1000) && !due(0), "a thousand are not many");
        assert!(!due(16_000) && !due(1001));
        assert!(due(1000) && !due(999) && !due(0), "once for each time that most are gone");
        assert!(!due(2000) && due(0));
    }
}
