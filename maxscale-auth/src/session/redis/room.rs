//! Whether a server has room for more users.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use maxscale_core::redis::{Command, Redis};

/// How many keys each server had when it was last asked.
#[derive(Debug)]
pub(super) struct Room {
    most: Option<u64>,
    keys: Vec<AtomicU64>,
}

// === impl Room ===

impl Room {
    pub(super) fn new(most: Option<u64>, servers: usize) -> Self {
        Self {
            most,
            keys: (0..servers).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Whether the server has fewer keys than it may; one that was not asked has.
    pub(super) fn is_left_on(&self, server: usize) -> bool {
        let keys = self.keys[server].load(Ordering::Relaxed);
        self.most.is_none_or(|most| keys < most)
    }

    /// Asks all servers, if anybody wants to know. One that is silent is believed to
    /// be as it was.
    pub(super) async fn look<'r>(&self, servers: impl Iterator<Item = &'r Redis>) {
        if self.most.is_none() {
            return;
        }
        let asked = servers.zip(&self.keys).map(|(redis, keys)| async {
            let size = redis.command(Command::new("DBSIZE")).await;
            let size = size.ok().and_then(|it| it.as_int());
            if let Some(size) = size.and_then(|it| u64::try_from(it).ok()) {
                keys.store(size, Ordering::Relaxed);
            }
        });
        join_all(asked).await;
    }
}
