//! Connections that have not said yet who they are: so many at most, for anybody can make them.

use std::collections::VecDeque;

use tokio::task::{AbortHandle, JoinSet};

/// Tasks of newcomers. When there are too many, the one that has taken longest is given up: whoever means it is quicker, and
/// nobody who says nothing keeps others out.
#[derive(Debug)]
pub(crate) struct Newcomers<T> {
    tasks: JoinSet<T>,
    /// In the order in which they came, with some that are over.
    order: VecDeque<AbortHandle>,
    most: usize,
}

impl<T: Send + 'static> Newcomers<T> {
    pub(crate) fn new(most: usize) -> Self {
        Self { tasks: JoinSet::new(), order: VecDeque::new(), most }
    }

    pub(crate) fn spawn(&mut self, task: impl Future<Output = T> + Send + 'static) {
        self.order.retain(|task| !task.is_finished());
        if self.order.len() >= self.most
            && let Some(oldest) = self.order.pop_front()
        {
            oldest.abort();
        }
        self.order.push_back(self.tasks.spawn(task));
    }

    /// The next that is over and was not given up; `None` while there is none.
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
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn nobody_who_says_nothing_keeps_others_out() {
        let mut newcomers = Newcomers::new(2);
        (0..5).for_each(|_| newcomers.spawn(pending()));
        newcomers.spawn(async { "a word" });
        assert_eq!(newcomers.next().await, Some("a word"));
        assert_eq!(newcomers.tasks.len(), 1, "the others were given up");
    }
}
