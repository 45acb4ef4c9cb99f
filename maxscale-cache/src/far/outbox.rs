//! What is to be told to the others, many changes by one message.

use tokio::sync::{Mutex, mpsc, oneshot};

/// Changes that go with one message at most: each is up to 400 bytes long.
const BATCH: usize = 64;

/// Changes that wait; whoever has one more waits too.
const WAITING: usize = 1_024;

#[derive(Debug)]
pub(super) struct Outbox {
    put: mpsc::Sender<Item>,
    take: Mutex<mpsc::Receiver<Item>>,
}

#[derive(Debug)]
struct Item {
    news: String,
    told: oneshot::Sender<()>,
}

/// Changes that go with the same message. Who waits for one is told of its
/// failure when the batch is dropped.
#[derive(Debug)]
pub(super) struct Batch(Vec<Item>);

// === impl Outbox ===

impl Outbox {
    /// Puts `news` in, and returns once it was told, or (`None`) if that failed
    /// or is unknown. May be dropped; the news are told all the same.
    pub(super) async fn tell(&self, news: String) -> Option<()> {
        let (told, wait) = oneshot::channel();
        self.put.send(Item { news, told }).await.ok()?;
        wait.await.ok()
    }

    /// All that waits, as far as it fits into one message; something at least.
    pub(super) async fn take(&self) -> Batch {
        let mut items = Vec::new();
        self.take.lock().await.recv_many(&mut items, BATCH).await;
        Batch(items)
    }
}

impl Default for Outbox {
    fn default() -> Self {
        let (put, take) = mpsc::channel(WAITING);
        let take = Mutex::new(take);
        Self { put, take }
    }
}

// === impl Batch ===

impl Batch {
    pub(super) fn news(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|item| &*item.news)
    }

    pub(super) fn was_told(self) {
        for item in self.0 {
            // Whoever gave up does not want to know.
            let _ = item.told.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn what_comes_meanwhile_goes_together_and_is_answered_as_a_whole() {
        let outbox = Outbox::default();
        let mut waiting: Vec<_> = (0..=BATCH)
            .map(|n| Box::pin(outbox.tell(n.to_string())))
            .collect();
        for tell in &mut waiting {
            assert_eq!(tell.now_or_never(), None, "nothing was told yet");
        }
        let first = outbox.take().await;
        let expected: Vec<_> = (0..BATCH).map(|n| n.to_string()).collect();
        assert!(first.news().eq(expected.iter().map(String::as_str)));
        let second = outbox.take().await;
        assert_eq!(second.news().count(), 1);
        first.was_told();
        drop(second);
        let last = waiting.pop().unwrap();
        assert_eq!(last.await, None, "its message failed");
        for tell in waiting {
            assert_eq!(tell.await, Some(()));
        }
    }
}
