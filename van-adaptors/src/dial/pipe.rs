//! A connection inside the process: two bounded buffers that its ends share.
//!
//! Each is locked for as long as it takes to copy octets in or out; nobody is woken under the lock, and nobody who does not
//! wait.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::ReadBuf;

/// Octets under way in one direction, at most: a shard reads 64 KiB at once, and as many can be written meanwhile.
pub(crate) const CAPACITY: usize = 131_072;

/// One end of a connection inside the process.
///
/// Dropped before it was shut down, it breaks the connection; after that only what still comes is refused.
pub(crate) struct End {
    incoming: Arc<Lane>,
    outgoing: Arc<Lane>,
}

/// One direction.
#[derive(Default)]
struct Lane(Mutex<State>);

#[derive(Default)]
struct State {
    octets: VecDeque<u8>,
    /// The writer has nothing more to say.
    is_ended: bool,
    /// One of them has gone: there is nothing to come but what is here, and nothing more to go.
    is_broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// A new connection.
pub(crate) fn pipe() -> (End, End) {
    let (here, there) = (Arc::<Lane>::default(), Arc::<Lane>::default());
    (End { incoming: Arc::clone(&here), outgoing: Arc::clone(&there) }, End { incoming: there, outgoing: here })
}

impl End {
    /// Reads what has come; nothing is the end.
    pub(crate) fn poll_read(&self, context: &Context<'_>, space: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut lane = self.incoming.lock();
        if lane.octets.is_empty() {
            return match (lane.is_broken, lane.is_ended) {
                (true, _) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                (_, true) => Poll::Ready(Ok(())),
                _ => wait(&mut lane.reader, context),
            };
        }
        let before = space.filled().len();
        let (front, back) = lane.octets.as_slices();
        for octets in [front, back] {
            space.put_slice(&octets[..octets.len().min(space.remaining())]);
        }
        lane.octets.drain(..space.filled().len() - before);
        // A writer that waits gets room for more than a few octets.
        let writer = if lane.octets.len() <= CAPACITY / 2 { lane.writer.take() } else { None };
        drop(lane);
        writer.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }

    /// Writes as much as there is room for.
    pub(crate) fn poll_write(&self, context: &Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut lane = self.outgoing.lock();
        if lane.is_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if lane.is_broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let before = lane.octets.len();
        if before >= CAPACITY {
            return wait(&mut lane.writer, context);
        }
        for part in parts {
            let room = CAPACITY - lane.octets.len();
            lane.octets.extend(&part[..part.len().min(room)]);
        }
        let count = lane.octets.len() - before;
        let reader = if count > 0 { lane.reader.take() } else { None };
        drop(lane);
        reader.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(count))
    }

    /// Ends this end's direction.
    pub(crate) fn shut_down(&self) -> io::Result<()> {
        let mut lane = self.outgoing.lock();
        if lane.is_broken && !lane.is_ended {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        lane.is_ended = true;
        let reader = lane.reader.take();
        drop(lane);
        reader.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Breaks the connection, also if this end's direction has ended.
    pub(crate) fn abort(self) {
        // In this order, whoever reads of it cannot write any more.
        self.incoming.break_off();
        self.outgoing.break_off();
    }

    /// Ready once the other end has broken the connection; what it had written is of no use then. Until then, the waker is
    /// called for everything that comes.
    pub(crate) fn poll_broken(&self, context: &Context<'_>) -> Poll<()> {
        let mut lane = self.incoming.lock();
        if lane.is_broken { Poll::Ready(()) } else { wait(&mut lane.reader, context) }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.incoming.break_off();
        self.incoming.lock().octets = VecDeque::new();
        if !self.outgoing.lock().is_ended {
            self.outgoing.break_off();
        }
    }
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn break_off(&self) {
        let mut lane = self.lock();
        lane.is_broken = true;
        let waiting = [lane.reader.take(), lane.writer.take()];
        drop(lane);
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("End").finish_non_exhaustive()
    }
}

/// Has the context's task woken when there is something to do.
fn wait<T>(place: &mut Option<Waker>, context: &Context<'_>) -> Poll<T> {
    match place {
        Some(known) => known.clone_from(context.waker()),
        none => *none = Some(context.waker().clone()),
    }
    Poll::Pending
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Sleeper(AtomicUsize);

    impl Wake for Sleeper {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Sleeper {
        fn wakes(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn read(end: &End, waker: &Waker, most: usize) -> Poll<io::Result<Vec<u8>>> {
        let mut octets = vec![0; most];
        let mut space = ReadBuf::new(&mut octets);
        end.poll_read(&Context::from_waker(waker), &mut space).map_ok(|()| space.filled().to_vec())
    }

    fn write(end: &End, waker: &Waker, parts: &[&[u8]]) -> Poll<io::Result<usize>> {
        let parts: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
        end.poll_write(&Context::from_waker(waker), &parts)
    }

    #[test]
    fn a_writer_waits_for_room_and_is_woken_once() {
        let (here, there) = pipe();
        let sleeper = Arc::new(Sleeper::default());
        let waker = Waker::from(Arc::clone(&sleeper));
        let half = vec![1; CAPACITY / 2 + 1];
        assert!(matches!(write(&here, &waker, &[&half, &half]), Poll::Ready(Ok(CAPACITY))));
        assert!(write(&here, &waker, &[&half]).is_pending());
        assert!(matches!(read(&there, Waker::noop(), 10), Poll::Ready(Ok(octets)) if octets.len() == 10));
        assert_eq!(sleeper.wakes(), 0, "not for a few octets");
        assert!(matches!(write(&here, &waker, &[&half]), Poll::Ready(Ok(10))));
        assert!(write(&here, &waker, &[&half]).is_pending());
        for _ in 0..3 {
            assert!(read(&there, Waker::noop(), CAPACITY / 3).is_ready());
        }
        assert_eq!(sleeper.wakes(), 1);
    }

    #[test]
    fn a_reader_is_woken_once_for_what_comes_and_for_the_end() {
        let (here, there) = pipe();
        let sleeper = Arc::new(Sleeper::default());
        let waker = Waker::from(Arc::clone(&sleeper));
        assert!(read(&there, &waker, 10).is_pending());
        for _ in 0..3 {
            assert!(matches!(write(&here, Waker::noop(), &[b"ab", b"c"]), Poll::Ready(Ok(3))));
        }
        assert_eq!(sleeper.wakes(), 1);
        assert!(matches!(read(&there, &waker, 10), Poll::Ready(Ok(octets)) if octets == b"abcabcabc"));
        assert!(read(&there, &waker, 10).is_pending());
        here.shut_down().expect("it is open");
        drop(here);
        assert_eq!(sleeper.wakes(), 2);
        assert!(matches!(read(&there, &waker, 10), Poll::Ready(Ok(octets)) if octets.is_empty()));
    }

    #[test]
    fn what_was_written_before_the_end_outlives_its_writer_and_what_comes_after_is_refused() {
        let (here, there) = pipe();
        assert!(write(&here, Waker::noop(), &[b"bye"]).is_ready());
        here.shut_down().expect("it is open");
        drop(here);
        assert!(there.poll_broken(&Context::from_waker(Waker::noop())).is_pending(), "its direction is whole");
        assert!(matches!(read(&there, Waker::noop(), 10), Poll::Ready(Ok(octets)) if octets == b"bye"));
        assert!(matches!(write(&there, Waker::noop(), &[b"more"]), Poll::Ready(Err(_))));
    }
}
