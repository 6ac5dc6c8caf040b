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

/// Twice as much is kept at the end of a thread's heap from then on: more than the records of one turn take.
const LESSON: usize = 512 * 1024;

/// Has the allocator keep a little of what is freed. By itself glibc gives all of it back from 128 KiB on. So where its records
/// came to lie at the end of the heap, a thread that seals them would take that memory anew with each turn, page by page:
/// a third of its time. It keeps more once a large block was freed (mallopt(3), M_MMAP_THRESHOLD), unless the process was
/// told otherwise.
pub(crate) fn keep_some() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LESSON)));
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

    /// Pages that this thread had to be given so far.
    #[cfg(target_env = "gnu")]
    fn faults() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("a thread has one");
        let (_, fields) = stat.rsplit_once(')').expect("behind its name");
        fields.split_whitespace().nth(7).and_then(|field| field.parse().ok()).expect("a number")
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn records_that_come_and_go_take_the_same_memory_again() {
        keep_some();
        let records = || drop((0..16).map(|_| vec![1_u8; 16_401]).collect::<Vec<_>>());
        records();
        let before = faults();
        (0..100).for_each(|_| records());
        let faults = faults() - before;
        assert!(faults < 1000, "{faults} pages, and 65 hold all records of a turn");
    }

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
