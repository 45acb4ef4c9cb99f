//! The one hub of a process: its L1, its L2, and the tasks between.

mod audit;
mod builder;
mod shared;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use maxscale_core::fact::Invalidation;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use crate::cache::{Cache, CacheSpec};
use crate::codec::{Codec, Json};
use crate::error::UnknownKind;
use crate::key;
use crate::near::Near;
use crate::stats::Stats;

pub use builder::HubBuilder;
pub(crate) use shared::Shared;

/// Gives caches that share one L1, one L2 and one bound on loads.
///
/// A process has one. Clones are the same hub; its tasks end with the last
/// clone of it and of its caches.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
    /// Held for its drop.
    _tasks: Arc<Tasks>,
}

/// How far an invalidation has got when the caller goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
#[expect(
    clippy::exhaustive_enums,
    reason = "confirmed or not; callers choose by it"
)]
pub enum Invalidated {
    /// L2 dropped the value and told the other processes.
    Everywhere,
    /// Here it is dropped; L2 did not confirm and is being asked again.
    HereOnly,
}

/// Ends the hub's tasks when it is dropped.
struct Tasks(Vec<JoinHandle<()>>);

// === impl Hub ===

impl Hub {
    /// The bytes of values kept in this process when no other number is given.
    pub const DEFAULT_L1_BUDGET: u64 = 256 << 20;
    /// What keys begin with when nothing else is given.
    pub const DEFAULT_PREFIX: &str = "maxscale";
    /// The loads that run at once when no other number is given.
    pub const DEFAULT_LOAD_LIMIT: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
    /// How long a load waits for its turn when nothing else is given.
    pub const DEFAULT_LOAD_WAIT: Duration = Duration::from_millis(500);
    /// How long a load may take when nothing else is given.
    pub const DEFAULT_LOAD_TIMEOUT: Duration = Duration::from_secs(10);
    /// How long L2 may take to answer when nothing else is given.
    pub const DEFAULT_REMOTE_TIMEOUT: Duration = Duration::from_millis(250);
    /// The ids kept of which there is no value when no other number is given.
    pub const DEFAULT_ABSENT_QUOTA: u64 = 16_384;
    /// The longest value, as encoded, that is kept.
    pub const MAX_VALUE: usize = 1 << 20;

    /// Starts a hub whose L2 is in this process.
    pub fn builder() -> HubBuilder {
        HubBuilder::new()
    }

    /// The cache of the values that `spec` names.
    ///
    /// Asking again gives the same cache. Use one type `V` per kind and
    /// version: a value that does not decode as `V` is a miss.
    ///
    /// Values are written to L2 as [`Json`].
    pub fn cache<V>(&self, spec: CacheSpec) -> Cache<V>
    where
        V: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        self.cache_with(spec, Json)
    }

    /// As [`cache`](Self::cache), with values written to L2 by `codec`.
    pub fn cache_with<V>(&self, spec: CacheSpec, codec: impl Codec<V>) -> Cache<V>
    where
        V: Send + Sync + 'static,
    {
        Cache::new(self.clone(), spec, Arc::new(codec))
    }

    /// Values of `kind` that this process keeps for `ttl`, and L2 not at all.
    ///
    /// Asking again gives the same values. The kind must be no cache's.
    pub fn near<V>(&self, kind: &'static str, ttl: Duration) -> Near<V>
    where
        V: Send + Sync + 'static,
    {
        Near::new(self.clone(), kind, ttl)
    }

    /// Carries out an invalidation that something else carried here, as
    /// [`Cache::invalidate`] does.
    ///
    /// # Errors
    ///
    /// Returns [`UnknownKind`] if this process has no cache of its kind: the
    /// keys in L2 end with a version that only a cache knows.
    pub async fn apply(&self, invalidation: &Invalidation) -> Result<Invalidated, UnknownKind> {
        let kind = key::part(&invalidation.kind);
        if self.shared.far.schemas.own(&kind).is_empty() {
            return Err(UnknownKind {
                kind: invalidation.kind.clone(),
            });
        }
        let order = self.shared.order(&kind.into(), &invalidation.id, false);
        Ok(Invalidated::of(self.shared.change(order).await.as_deref()))
    }

    /// What the hub did so far.
    pub fn stats(&self) -> Stats {
        self.shared.counters.stats(self.shared.far.pending.failed())
    }

    #[inline]
    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("prefix", &self.shared.far.prefix)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

// === impl Invalidated ===

impl Invalidated {
    /// What L2 confirmed, if it did.
    pub(crate) const fn of<T>(done: Option<&[T]>) -> Self {
        match done {
            Some(_) => Self::Everywhere,
            None => Self::HereOnly,
        }
    }
}

// === impl Tasks ===

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use maxscale_tests::eventually;

    use super::*;
    use crate::l1::ENTRY_OVERHEAD;

    #[tokio::test]
    async fn what_is_over_leaves_l1_though_nobody_asks_for_it() {
        let hub = Hub::builder().build();
        let brief = CacheSpec::new("brief", 1).l2_ttl(Duration::from_millis(1));
        let cache = hub.cache::<u32>(brief);
        let all = 20_000;
        for n in 0..all {
            let load = || async { Ok::<_, Infallible>(Some(1)) };
            cache.get_or_load(&n.to_string(), load).await.unwrap();
        }
        let most = all * ENTRY_OVERHEAD as u64 / 2;
        let l1 = &hub.shared().l1;
        eventually(Duration::from_secs(30), async || {
            // What was removed is counted with the next change.
            l1.drop_key(&l1.probe(0, "any"));
            l1.weight() < most
        })
        .await;
    }
}
