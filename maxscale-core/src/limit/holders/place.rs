//! One place that is held, and until when that is sure.

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

pub(super) struct Place {
    /// Differs from those of all others in this process.
    pub(super) number: u64,
    cover: watch::Sender<Cover>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Cover {
    /// Counted in this process.
    Here,
    /// The lease that all processes see lasts at least as long.
    #[cfg(feature = "redis")]
    Until(Instant),
    /// For a time, somebody else may have had the place. That does not change.
    #[cfg(feature = "redis")]
    Lost,
}

// === impl Place ===

impl Place {
    pub(super) fn new(number: u64, cover: Cover) -> Self {
        let (cover, _) = watch::channel(cover);
        Self { number, cover }
    }

    /// The lease was renewed until then. One that had run out is lost all the same.
    #[cfg(feature = "redis")]
    pub(super) fn covered(&self, until: Instant) {
        self.cover.send_modify(|cover| {
            *cover = match cover.end() {
                Some(end) if Instant::now() >= end => Cover::Lost,
                _ if cover.is_lost() => Cover::Lost,
                _ => Cover::Until(until),
            };
        });
    }

    /// The store has no room for it.
    #[cfg(feature = "redis")]
    pub(super) fn refused(&self) {
        self.cover.send_replace(Cover::Lost);
    }

    pub(super) fn is_lost(&self) -> bool {
        self.cover.borrow().is_lost()
    }

    pub(super) async fn lost(&self) {
        let mut cover = self.cover.subscribe();
        loop {
            let seen = *cover.borrow_and_update();
            if seen.is_lost() {
                return;
            }
            let changed = cover.changed();
            // The sender lives as long as the place; and what has ended is seen above.
            match seen.end() {
                Some(end) => drop(timeout_at(end, changed).await),
                None => drop(changed.await),
            }
        }
    }
}

// === impl Cover ===

impl Cover {
    /// When it ends, if nothing comes between.
    const fn end(self) -> Option<Instant> {
        match self {
            Self::Here => None,
            #[cfg(feature = "redis")]
            Self::Until(end) => Some(end),
            #[cfg(feature = "redis")]
            Self::Lost => None,
        }
    }

    fn is_lost(self) -> bool {
        match self {
            Self::Here => false,
            #[cfg(feature = "redis")]
            Self::Until(end) => Instant::now() >= end,
            #[cfg(feature = "redis")]
            Self::Lost => true,
        }
    }
}
