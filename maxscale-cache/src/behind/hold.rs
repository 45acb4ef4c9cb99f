//! Whether the journal is ours, so that its values may be given to the sink.

#[cfg(feature = "redis")]
use tokio::{sync::watch, time::Instant};

#[derive(Clone, Debug)]
pub(super) enum Hold {
    Always,
    /// Until then, or longer if it is renewed; `None` once it is lost for good.
    #[cfg(feature = "redis")]
    Until(watch::Receiver<Option<Instant>>),
}

// === impl Hold ===

impl Hold {
    /// Waits until it is ours; false once it never will be again.
    pub(super) async fn wait(&self) -> bool {
        match self {
            Self::Always => true,
            #[cfg(feature = "redis")]
            Self::Until(until) => {
                let mut until = until.clone();
                let known = |it: &Option<Instant>| it.is_none_or(|it| Instant::now() < it);
                // An error says that nobody renews it any more.
                let found = until.wait_for(known).await.map(|it| it.is_some());
                found.unwrap_or(false)
            }
        }
    }
}
