use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::JoinSet;

/// Work that no answer waits for. It ends with what it belongs to.
#[derive(Debug, Default)]
pub(crate) struct Background(Mutex<JoinSet<()>>);

// === impl Background ===

impl Background {
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        // What has ended is not kept.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }

    /// Waits for all that was begun until now. Dropped, it ends that.
    pub(crate) async fn done(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks());
        while tasks.join_next().await.is_some() {}
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
