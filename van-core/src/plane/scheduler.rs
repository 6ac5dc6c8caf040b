//! Whose turn it is: deficit round robin with new and sparse senders first (after RFC 8290, fq_codel).
//!
//! A sender that becomes ready after having been idle enters the *new* list for one quantum, then the *old* one. One that
//! has little to say is therefore never behind those that always have more, and those share evenly by octets.

use std::collections::VecDeque;

/// Octets a sender may send in a row. One full frame between own routers, four towards skupper-router.
pub(crate) const QUANTUM: usize = 65_536;

/// What is left of a turn is worth another frame from here on. A full frame has a head, and leaves a little.
const LEAST: usize = 1024;

/// Those that have something to send on one connection.
#[derive(Debug)]
pub(crate) struct Scheduler<T> {
    new: VecDeque<(T, usize)>,
    old: VecDeque<(T, usize)>,
}

impl<T> Default for Scheduler<T> {
    fn default() -> Self {
        Self { new: VecDeque::new(), old: VecDeque::new() }
    }
}

impl<T> Scheduler<T> {
    /// Enters a sender that was idle. The caller sees to it that nobody is in twice.
    pub(crate) fn enter(&mut self, sender: T) {
        self.new.push_back((sender, QUANTUM));
    }

    /// Takes the next sender, and the octets it may send.
    pub(crate) fn next(&mut self) -> Option<(T, usize)> {
        self.next_sparse().or_else(|| self.old.pop_front())
    }

    /// Takes the next sender if it was idle before.
    pub(crate) fn next_sparse(&mut self) -> Option<(T, usize)> {
        self.new.pop_front()
    }

    /// Puts a sender back that was idle before, and may have no more to say: it is asked once more before all others.
    pub(crate) fn put_back_sparse(&mut self, sender: T, left: usize) {
        self.new.push_front((sender, left));
    }

    /// Puts a sender back after a turn of which it had `allowance` octets.
    pub(crate) fn put_back(&mut self, sender: T, allowance: usize, sent: usize) {
        match allowance.checked_sub(sent).filter(|left| *left >= LEAST) {
            // Interrupted, not used up: it goes on first.
            Some(left) => self.old.push_front((sender, left)),
            None => self.old.push_back((sender, QUANTUM)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Octets sent by each of `senders` in `turns` turns of at most `frame` octets.
    fn run(scheduler: &mut Scheduler<usize>, senders: usize, turns: usize, frame: usize) -> Vec<usize> {
        let mut sent = vec![0; senders];
        for _ in 0..turns {
            let (sender, allowance) = scheduler.next().expect("somebody is ready");
            let octets = frame.min(allowance);
            sent[sender] += octets;
            scheduler.put_back(sender, allowance, octets);
        }
        sent
    }

    #[test]
    fn the_busy_share_evenly_by_octets() {
        let mut scheduler = Scheduler::default();
        (0..4).for_each(|n| scheduler.enter(n));
        let sent = run(&mut scheduler, 4, 400, 16_384);
        assert!(sent.iter().all(|octets| *octets == 100 * 16_384), "{sent:?}");
    }

    #[test]
    fn a_sparse_sender_goes_before_the_busy() {
        let mut scheduler = Scheduler::default();
        (0..4).for_each(|n| scheduler.enter(n));
        run(&mut scheduler, 4, 100, QUANTUM);
        scheduler.enter(9);
        assert_eq!(scheduler.next(), Some((9, QUANTUM)));
    }

    #[test]
    fn one_that_says_little_is_asked_again_before_the_busy_until_its_turn_is_used_up() {
        let mut scheduler = Scheduler::default();
        (0..4).for_each(|n| scheduler.enter(n));
        run(&mut scheduler, 4, 100, QUANTUM);
        assert_eq!(scheduler.next_sparse(), None, "all are busy");
        scheduler.enter(9);
        assert_eq!(scheduler.next_sparse(), Some((9, QUANTUM)));
        scheduler.put_back_sparse(9, 4032);
        assert_eq!(scheduler.next(), Some((9, 4032)));
        scheduler.put_back(9, 4032, 4032);
        assert_eq!(scheduler.next_sparse(), None);
    }

    #[test]
    fn an_interrupted_turn_goes_on_first() {
        let mut scheduler = Scheduler::default();
        scheduler.enter(0);
        scheduler.enter(1);
        let (first, allowance) = scheduler.next().expect("0");
        scheduler.put_back(first, allowance, 1000);
        scheduler.next(); // 1 is new and goes first
        assert_eq!(scheduler.next(), Some((0, QUANTUM - 1000)));
    }
}
