use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::control::{Budget, Spending};

/// Tokens for the retries of all requests to one upstream. Clones share them.
///
/// A retry costs 5, after a timeout 10; a success brings 1. It is full at first.
#[derive(Clone, Debug)]
pub struct RetryBudget(Arc<Tokens>);

#[derive(Debug)]
struct Tokens {
    left: AtomicU32,
    most: u32,
    /// Whether the log has told that there are none.
    told: AtomicBool,
}

// === impl RetryBudget ===

impl RetryBudget {
    /// A budget of at most `tokens`; of fewer than 5 nothing is made again.
    pub fn new(tokens: u32) -> Self {
        Self(Arc::new(Tokens {
            left: AtomicU32::new(tokens),
            most: tokens,
            told: AtomicBool::new(false),
        }))
    }

    /// What is left.
    pub fn tokens(&self) -> u32 {
        self.0.left.load(Ordering::Relaxed)
    }

    /// Whether there is enough for it, which is then taken.
    pub(super) fn on(&self, spending: Spending) -> bool {
        let mut left = self.tokens();
        loop {
            let (allowed, next) = Budget::of(left, self.0.most).on(spending);
            // A success of a full budget, as nearly all are, writes nothing.
            if next.tokens() == left {
                self.tell(allowed);
                return allowed;
            }
            let swap = (self.0.left).compare_exchange_weak(
                left,
                next.tokens(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match swap {
                Ok(_) => return allowed,
                Err(found) => left = found,
            }
        }
    }

    /// Tells once that there is nothing left, and once that it is full again.
    fn tell(&self, allowed: bool) {
        if self.0.told.load(Ordering::Relaxed) != allowed {
            return;
        }
        self.0.told.store(!allowed, Ordering::Relaxed);
        if allowed {
            tracing::info!("retries: the budget is full again");
        } else {
            tracing::warn!("retries: the budget is spent, what fails is not made again");
        }
    }
}

impl Default for RetryBudget {
    /// A budget of [`Budget::DEFAULT_TOKENS`].
    fn default() -> Self {
        Self::new(Budget::DEFAULT_TOKENS)
    }
}
