//! The one hub of a process: its L1, its L2, and the tasks between.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::num::NonZeroUsize;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use maxscale_core::fact::Invalidation;
use maxscale_core::meter::{self, Meter};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::cache::{Cache, CacheSpec};
use crate::error::UnknownKind;
use crate::far::Far;
use crate::flight::Flights;
use crate::key;
use crate::l1::L1;
use crate::message;
use crate::pending::Pending;
use crate::remote::{DynRemote, Heard, LocalRemote, Remote};
use crate::stats::{self, Counters, Stats};

/// How often an unconfirmed invalidation is sent again.
const RETRY_EVERY: Duration = Duration::from_millis(250);

/// Unconfirmed invalidations remembered; more turn L2 off for a while.
const PENDING_LIMIT: usize = 65_536;

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

/// Builds a [`Hub`]; see [`Hub::builder`].
#[must_use]
pub struct HubBuilder {
    remote: Box<dyn DynRemote>,
    prefix: String,
    l1_budget: u64,
    load_limit: NonZeroUsize,
    load_wait: Duration,
    load_timeout: Duration,
    remote_timeout: Duration,
    pending_limit: usize,
    meter: Meter,
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

/// What caches and background tasks work on.
pub(crate) struct Shared {
    pub(crate) l1: L1,
    pub(crate) far: Far,
    pub(crate) flights: Arc<Flights>,
    pub(crate) loads: Semaphore,
    pub(crate) load_wait: Duration,
    pub(crate) load_timeout: Duration,
    pub(crate) prefix: String,
    pub(crate) counters: Arc<Counters>,
    /// The versions in use of each kind, as keys write it.
    kinds: RwLock<HashMap<String, BTreeSet<u32>>>,
    /// Tells this hub's messages from those of others.
    origin: u64,
    /// Redis may be back.
    hurry: Notify,
}

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
    /// The longest value, as encoded, that is kept.
    pub const MAX_VALUE: usize = 1 << 20;

    /// Starts a hub whose L2 is in this process.
    pub fn builder() -> HubBuilder {
        HubBuilder {
            remote: Box::new(LocalRemote::default()),
            prefix: Self::DEFAULT_PREFIX.into(),
            l1_budget: Self::DEFAULT_L1_BUDGET,
            load_limit: Self::DEFAULT_LOAD_LIMIT,
            load_wait: Self::DEFAULT_LOAD_WAIT,
            load_timeout: Self::DEFAULT_LOAD_TIMEOUT,
            remote_timeout: Self::DEFAULT_REMOTE_TIMEOUT,
            pending_limit: PENDING_LIMIT,
            meter: meter::nowhere(),
        }
    }

    /// The cache of the values that `spec` names.
    ///
    /// Asking again gives the same cache. Use one type `V` per kind and
    /// version: a value that does not decode as `V` is a miss.
    pub fn cache<V>(&self, spec: CacheSpec) -> Cache<V>
    where
        V: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let kind = key::part(spec.kind);
        self.shared
            .far
            .allow_ttl(spec.l2_ttl + self.shared.load_timeout);
        self.shared.register(&kind, spec.version);
        Cache::new(self.clone(), kind, spec)
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
        if self.shared.versions(&kind).is_empty() {
            return Err(UnknownKind {
                kind: invalidation.kind.clone(),
            });
        }
        Ok(self.shared.invalidate(&kind, &invalidation.id).await)
    }

    /// What the hub did so far.
    pub fn stats(&self) -> Stats {
        self.shared.counters.stats(self.shared.far.pending.len())
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("prefix", &self.shared.prefix)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

// === impl HubBuilder ===

impl HubBuilder {
    /// Sets the L2.
    ///
    /// Default: a [`LocalRemote`] of this hub's own.
    pub fn remote(mut self, remote: impl Remote) -> Self {
        self.remote = Box::new(remote);
        self
    }

    /// Sets what keys in L2 and the channel's name begin with. Hubs that shall
    /// share values need the same.
    ///
    /// Default: [`Hub::DEFAULT_PREFIX`].
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.prefix = key::prefix(prefix);
        self
    }

    /// Sets how many bytes of values this process keeps, all caches together.
    /// A value counts with its encoded length and 512 bytes.
    ///
    /// Default: [`Hub::DEFAULT_L1_BUDGET`].
    pub const fn l1_budget(mut self, bytes: u64) -> Self {
        self.l1_budget = bytes;
        self
    }

    /// Sets how many loads run at once, all caches together.
    ///
    /// Default: [`Hub::DEFAULT_LOAD_LIMIT`].
    pub const fn load_limit(mut self, loads: NonZeroUsize) -> Self {
        self.load_limit = loads;
        self
    }

    /// Sets how long a load waits for its turn before it is refused.
    ///
    /// Default: [`Hub::DEFAULT_LOAD_WAIT`].
    pub const fn load_wait(mut self, wait: Duration) -> Self {
        self.load_wait = wait;
        self
    }

    /// Sets how long a load may take; then it is dropped.
    ///
    /// Default: [`Hub::DEFAULT_LOAD_TIMEOUT`].
    pub const fn load_timeout(mut self, limit: Duration) -> Self {
        self.load_timeout = limit;
        self
    }

    /// Sets how long L2 may take to answer; then the hub goes on without.
    ///
    /// Default: [`Hub::DEFAULT_REMOTE_TIMEOUT`].
    pub const fn remote_timeout(mut self, limit: Duration) -> Self {
        self.remote_timeout = limit;
        self
    }

    /// Sets how many unconfirmed invalidations are remembered. One more turns
    /// L2 off, for this process, for as long as old values can live there.
    ///
    /// Default: 65,536.
    pub const fn pending_limit(mut self, keys: usize) -> Self {
        self.pending_limit = keys;
        self
    }

    /// Sets where the hub counts.
    ///
    /// Default: nowhere; [`Hub::stats`] counts all the same.
    pub fn meter(mut self, meter: &Meter) -> Self {
        self.meter = meter.clone();
        self
    }

    /// Starts the hub. An L2 that is down is no error.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn build(self) -> Hub {
        let counters = Arc::new(Counters::register(&self.meter));
        let far = Far::new(
            self.remote,
            Pending::new(self.pending_limit),
            format!("{}:invalidations", self.prefix),
            self.remote_timeout,
            counters.clone(),
        );
        let shared = Arc::new(Shared {
            l1: L1::new(self.l1_budget),
            far,
            flights: Arc::default(),
            loads: Semaphore::new(self.load_limit.get().min(Semaphore::MAX_PERMITS)),
            load_wait: self.load_wait,
            load_timeout: self.load_timeout,
            prefix: self.prefix,
            counters,
            kinds: RwLock::default(),
            // Only has to differ between processes; std seeds it from the system.
            origin: RandomState::new().build_hasher().finish(),
            hurry: Notify::new(),
        });
        let weak = Arc::downgrade(&shared);
        meter::gauge(&self.meter, stats::PENDING, &[], move || {
            let pending = weak.upgrade()?.far.pending.len();
            Some(f64::from(u32::try_from(pending).unwrap_or(u32::MAX)))
        });
        let (flusher, listener) = (shared.clone(), shared.clone());
        let tasks = vec![
            tokio::spawn(async move {
                flusher.far.keep_flushing(RETRY_EVERY, &flusher.hurry).await;
            }),
            tokio::spawn(async move { listener.keep_listening().await }),
        ];
        Hub {
            shared,
            _tasks: Arc::new(Tasks(tasks)),
        }
    }
}

impl fmt::Debug for HubBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubBuilder")
            .field("prefix", &self.prefix)
            .field("l1_budget", &self.l1_budget)
            .finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    /// Drops a value everywhere. What has to hold at once in this process
    /// holds when the future is first polled.
    pub(crate) async fn invalidate(&self, kind: &str, id: &str) -> Invalidated {
        let id = key::part(id);
        let message: Arc<str> = message::write(self.origin, kind, &id).into();
        let marks: Vec<_> = self
            .keys(kind, &id)
            .into_iter()
            .map(|key| {
                // Marked first: who still sees the old stamp is refused by L1,
                // who sees the new one sees the mark and stays away from L2.
                let mark = self.far.mark(key.clone(), message.clone());
                self.l1.drop_key(&key);
                mark
            })
            .collect();
        let sent = join_all(marks.into_iter().map(|mark| self.far.send(mark))).await;
        if sent.contains(&false) {
            Invalidated::HereOnly
        } else {
            Invalidated::Everywhere
        }
    }

    async fn keep_listening(&self) {
        loop {
            let mut heard = self.far.remote.listen(&self.far.channel);
            while let Some(heard) = heard.next().await {
                self.hear(&heard);
            }
            self.miss();
            sleep(RETRY_EVERY).await;
        }
    }

    fn hear(&self, heard: &Heard) {
        let Heard::Message(bytes) = heard else {
            return self.miss();
        };
        // What cannot be read may name any value.
        let Some((origin, kind, id)) = message::read(bytes) else {
            return self.miss();
        };
        if origin != self.origin {
            for key in self.keys(kind, id) {
                self.l1.drop_key(&key);
            }
        }
    }

    fn miss(&self) {
        self.counters.gaps.add(1);
        self.l1.drop_all();
        self.hurry.notify_one();
    }

    fn register(&self, kind: &str, version: u32) {
        let mut kinds = self.kinds.write().unwrap_or_else(PoisonError::into_inner);
        kinds.entry(kind.to_owned()).or_default().insert(version);
    }

    fn versions(&self, kind: &str) -> Vec<u32> {
        let kinds = self.kinds.read().unwrap_or_else(PoisonError::into_inner);
        kinds.get(kind).into_iter().flatten().copied().collect()
    }

    /// The keys of a value, whose kind and id are parts of keys already.
    fn keys(&self, kind: &str, id: &str) -> Vec<Arc<str>> {
        let key = |version| key::of_parts(&self.prefix, kind, id, version).into();
        self.versions(kind).into_iter().map(key).collect()
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
