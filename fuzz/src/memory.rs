//! Counts memory: how much one input makes a decoder hold at once.
//!
//! Per thread, because tests run side by side and bodies start no threads.
#![allow(unsafe_code)] // An allocator cannot be written without; it hands everything on to the system's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What any input may cost, however short: engines, buffers and keys that are there before it is looked at.
pub const BASE_BYTES: usize = 262_144;

/// What an input may cost for each of its octets. A value in memory takes 32 for one on the wire, twice that while a list
/// grows, and bodies hold what they read several times over, to compare.
pub const BYTES_PER_OCTET: usize = 256;

thread_local! {
    /// Octets this thread holds; below zero if it dropped what another one made.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The most that an input of this length may cost.
pub fn bound(octets: usize) -> usize {
    BASE_BYTES + BYTES_PER_OCTET * octets
}

/// Does something. Also the most memory that was held during it, besides what was held before.
pub fn measure<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let outcome = work();
    (outcome, PEAK.get().saturating_sub(before).try_into().unwrap_or(0))
}

/// The system's allocator, counted.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(change: isize) {
    let held = HELD.get() + change;
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
}

/// Never overflows: no layout is larger than `isize::MAX`.
fn signed(size: usize) -> isize {
    size.cast_signed()
}

// SAFETY: every method hands its arguments on to `System` as they are and returns what it returns. Counting touches two
// thread-local cells only, which are initialised at compile time and have no destructor: it neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: the caller's promises about `layout` are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(signed(layout.size()));
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-signed(layout.size()));
        // SAFETY: `memory` was allocated by one of these methods, so by `System`, with this `layout`.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(signed(size) - signed(layout.size()));
        // SAFETY: as in `dealloc`; the caller promises that `size` is a valid one for this alignment.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn the_peak_counts_and_not_the_sum() {
        let (kept, peak) = measure(|| {
            drop(black_box(vec![0_u8; 5000]));
            drop(black_box(vec![0_u8; 7000]));
            black_box(vec![0_u8; 100])
        });
        assert_eq!((kept.len(), peak), (100, 7000));
    }

    #[test]
    fn what_was_there_before_does_not_count() {
        let before = black_box(vec![0_u8; 5000]);
        let ((), peak) = measure(|| drop(before));
        assert_eq!(peak, 0);
    }

    #[test]
    fn growing_counts_by_the_new_size() {
        let (_, peak) = measure(|| {
            let mut grown = black_box(Vec::<u8>::with_capacity(1000));
            grown.reserve_exact(3000);
            grown
        });
        assert_eq!(peak, 3000);
    }
}
