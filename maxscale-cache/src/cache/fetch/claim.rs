//! The right to load a value, and what a load stores under.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{Fetch, draw};
use crate::far::Turn;
use crate::l1::Entry;
use crate::remote::Fence;

/// How long a process that died keeps others from loading.
const LEASE: Duration = Duration::from_secs(2);

/// How often the lease of a load that takes long is renewed.
const RENEW_EVERY: Duration = Duration::from_millis(700);

/// How long one waits between looks at what another process loads.
const LOOK_FIRST: Duration = Duration::from_millis(5);

const LOOK_LAST: Duration = Duration::from_millis(50);

/// What a load stores under.
pub(in crate::cache) struct Ground {
    pub(super) fence: Fence,
    /// The store's time before the load.
    pub(super) since: u64,
    /// Of each tag, before the load.
    pub(super) tags: Vec<Fence>,
}

// === impl Fetch ===

impl<V> Fetch<V>
where
    V: Send + Sync + 'static,
{
    /// Gets the right to load, or what another process loaded meanwhile
    /// (`Err`). `Ok(None)` if L2 has no part in it.
    pub(super) async fn claim(
        &self,
        known: Option<&Entry>,
        old: &mut Option<Entry>,
    ) -> Result<Option<Ground>, Option<Arc<V>>> {
        let end = Instant::now() + self.shared.load_timeout;
        let mut pause = LOOK_FIRST;
        loop {
            let asked = self.shared.ticks.now();
            let claim = self.shared.far.claim(&self.key, &self.schema, LEASE);
            let Some(turn) = claim.await else {
                return Ok(None);
            };
            let Turn {
                read,
                fence,
                wait,
                now,
            } = turn;
            let mut looked = self.take_in(read, asked, known).await;
            if let Some(value) = self.settle(&mut looked, old) {
                if wait.is_zero() {
                    self.shared.far.release(&self.key).await;
                }
                return Err(value);
            }
            if wait.is_zero() || Instant::now() >= end {
                let tags = self.tag_fences().await;
                return Ok(tags.map(|tags| Ground {
                    fence,
                    since: now,
                    tags,
                }));
            }
            // Not all at the same moment.
            sleep(pause.mul_f64(0.5 + draw() / 2.0).min(wait)).await;
            pause = (pause * 2).min(LOOK_LAST);
        }
    }

    pub(super) async fn tag_fences(&self) -> Option<Vec<Fence>> {
        let mut fences = Vec::with_capacity(self.tags.len());
        for held in &*self.tags {
            fences.push(self.shared.far.fence_of(held, self.stamp.epoch).await?);
        }
        Some(fences)
    }

    /// What a load of this key would store under, whoever else loads it.
    pub(in crate::cache) async fn ground(&self, hold: Duration) -> Option<Ground> {
        let turn = self.shared.far.claim(&self.key, &self.schema, hold).await?;
        let tags = self.tag_fences().await?;
        Some(Ground {
            fence: turn.fence,
            since: turn.now,
            tags,
        })
    }

    /// Keeps other processes from loading while this one does.
    pub(super) async fn renewing<T>(&self, is_claimed: bool, work: impl Future<Output = T>) -> T {
        if !is_claimed || self.shared.far.alone {
            return work.await;
        }
        let mut work = pin!(work);
        loop {
            if let Ok(done) = timeout(RENEW_EVERY, &mut work).await {
                return done;
            }
            let renewal = self.shared.far.claim(&self.key, &self.schema, LEASE);
            let mut renewal = pin!(renewal);
            tokio::select! {
                done = &mut work => return done,
                _ = &mut renewal => {}
            }
        }
    }
}
