//! Connections that have not said yet who they are: so many at most, for anybody can make them.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Tasks of newcomers. When there are too many, the one that has taken longest is to give way: whoever means it is quicker,
/// and nobody who says nothing keeps others out.
#[derive(Debug)]
pub(crate) struct Newcomers<T> {
    tasks: JoinSet<T>,
    /// In the order in which they came, with some that are over.
    order: VecDeque<oneshot::Sender<()>>,
    most: usize,
}

/// Comes true when a newcomer is to give way.
pub(crate) type GiveWay = oneshot::Receiver<()>;

impl<T: Send + 'static> Newcomers<T> {
    pub(crate) fn new(most: usize) -> Self {
        Self { tasks: JoinSet::new(), order: VecDeque::new(), most }
    }

    /// Starts a task, which ends soon when it is to give way.
    pub(crate) fn spawn<F: Future<Output = T> + Send + 'static>(&mut self, task: impl FnOnce(GiveWay) -> F) {
        self.order.retain(|newcomer| !newcomer.is_closed());
        if self.order.len() >= self.most
            && let Some(oldest) = self.order.pop_front()
        {
            let _ = oldest.send(());
        }
        let (newcomer, give_way) = oneshot::channel();
        self.order.push_back(newcomer);
        self.tasks.spawn(task(give_way));
    }

    /// The next that is over; `None` while there is none.
    pub(crate) async fn next(&mut self) -> Option<T> {
        loop {
            if let Ok(over) = self.tasks.join_next().await? {
                return Some(over);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_who_says_nothing_keeps_others_out() {
        let mut newcomers = Newcomers::new(2);
        for number in 0..4 {
            newcomers.spawn(|give_way| async move { give_way.await.map(|()| number) });
        }
        newcomers.spawn(|_| async { Ok(9) });
        let mut over = Vec::new();
        while over.len() < 4 {
            over.push(newcomers.next().await.expect("it is over").expect("it was told"));
        }
        over.sort_unstable();
        assert_eq!(over, [0, 1, 2, 9]);
    }
}
