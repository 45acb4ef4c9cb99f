//! How a hub is set up and started.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use maxscale_core::meter::{self, Meter};
use tokio::sync::{Notify, Semaphore};

use super::audit::Audit;
use super::{Hub, Shared, Tasks};
use crate::error::JournalError;
use crate::far::{Beside, Far, Place};
use crate::key;
use crate::l1::{L1, L1Engine};
#[cfg(feature = "memcached")]
use crate::memcached::Memcached;
use crate::pending::{self, Note, Notes, Pending};
use crate::pins::Pins;
use crate::remote::{DynRemote, LocalRemote, Remote};
use crate::shown::Shown;
use crate::stats::{self, Counters};
use crate::tags::Tags;
use crate::ticks::Ticks;

/// How often an unconfirmed invalidation is sent again.
pub(super) const RETRY_EVERY: Duration = Duration::from_millis(250);

/// Unconfirmed invalidations remembered; more turn L2 off for a while.
const PENDING_LIMIT: usize = 65_536;

/// Builds a [`Hub`]; see [`Hub::builder`].
#[must_use]
pub struct HubBuilder {
    /// `None`: one of the hub's own.
    remote: Option<Box<dyn DynRemote>>,
    beside: Beside,
    prefix: String,
    l1_engine: L1Engine,
    l1_budget: u64,
    absent_quota: u64,
    load_limit: NonZeroUsize,
    load_wait: Duration,
    load_timeout: Duration,
    remote_timeout: Duration,
    pending_limit: usize,
    /// With what was found in it.
    journal: Option<(Notes, Vec<Note>)>,
    audit: Option<NonZeroU32>,
    meter: Meter,
}

// === impl HubBuilder ===

impl HubBuilder {
    pub(super) fn new() -> Self {
        Self {
            remote: None,
            beside: Beside::default(),
            prefix: Hub::DEFAULT_PREFIX.into(),
            l1_engine: L1Engine::default(),
            l1_budget: Hub::DEFAULT_L1_BUDGET,
            absent_quota: Hub::DEFAULT_ABSENT_QUOTA,
            load_limit: Hub::DEFAULT_LOAD_LIMIT,
            load_wait: Hub::DEFAULT_LOAD_WAIT,
            load_timeout: Hub::DEFAULT_LOAD_TIMEOUT,
            remote_timeout: Hub::DEFAULT_REMOTE_TIMEOUT,
            pending_limit: PENDING_LIMIT,
            journal: None,
            audit: None,
            meter: meter::nowhere(),
        }
    }

    /// Sets the L2.
    ///
    /// Default: a [`LocalRemote`] of this hub's own.
    pub fn remote(mut self, remote: impl Remote) -> Self {
        self.remote = Some(Box::new(remote));
        self
    }

    /// Keeps long values in memcached: L2 has, under their fence, only by what
    /// they are known, and what memcached gives is used if it is that. See
    /// [`memcached`](crate::memcached).
    ///
    /// Processes that share an L2 should all have it: to one that has not, such
    /// a value is a miss, and it fills it in whole.
    ///
    /// Default: L2 has them.
    #[cfg(feature = "memcached")]
    pub fn memcached(mut self, memcached: Memcached) -> Self {
        self.beside = memcached.into();
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

    /// Sets what keeps the values of this process.
    ///
    /// Default: [`L1Engine::Moka`].
    pub const fn l1_engine(mut self, engine: L1Engine) -> Self {
        self.l1_engine = engine;
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

    /// Sets of how many ids this process knows that there is no value, all
    /// caches together (see [`CacheSpec::absent_ttl`](crate::CacheSpec::absent_ttl)).
    ///
    /// Default: [`Hub::DEFAULT_ABSENT_QUOTA`].
    pub const fn absent_quota(mut self, ids: u64) -> Self {
        self.absent_quota = ids;
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

    /// Keeps unconfirmed invalidations on disk, in files of `folder`, so that they
    /// outlive the process: an invalidation is on disk before it answers
    /// [`HereOnly`](crate::Invalidated::HereOnly). What a hub finds there when
    /// it starts it sends first, and until L2 has confirmed it does not use L2
    /// for these keys. If more came than are
    /// [remembered](Self::pending_limit), L2 is off after a restart for as long
    /// as it would have been off before.
    ///
    /// The folder is made if it is missing. It belongs to one hub, and to one
    /// [prefix](Self::prefix). A disk that does not take what is written is told
    /// in the log, and tried again with the next invalidation.
    ///
    /// It protects against the end of the process, not against its death between
    /// a change and the call of [`Cache::invalidate`](crate::Cache::invalidate).
    /// It blocks while it reads the folder.
    ///
    /// Default: none; what is unconfirmed dies with the process.
    ///
    /// # Errors
    ///
    /// Returns a [`JournalError`] if the folder cannot be used, or is used.
    pub fn journal(mut self, folder: impl AsRef<Path>) -> Result<Self, JournalError> {
        self.journal = Some(pending::open_journal(folder.as_ref())?);
        Ok(self)
    }

    /// Looks after one in so many invalidations of values, those of other
    /// processes that are heard too: whether 1.5 s later, and 10 s later, either
    /// tier has something older. [`Stats::nines`](crate::Stats::nines) and the
    /// log tell. At most 64 are looked after at once, with three reads of L2 for
    /// each version of the value in this process.
    ///
    /// Default: nothing is looked after.
    pub const fn audit(mut self, one_in: NonZeroU32) -> Self {
        self.audit = Some(one_in);
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
    /// Built while tokio's clock is paused, as in tests, it keeps to that clock.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn build(self) -> Hub {
        let counters = Arc::new(Counters::register(&self.meter));
        let ticks = Ticks::start();
        let alone = self.remote.is_none();
        let place = Place {
            prefix: self.prefix,
            timeout: self.remote_timeout,
            alone,
            // Only has to differ between processes; std seeds it from the system.
            origin: RandomState::new().build_hasher().finish().max(1),
            ticks,
        };
        let remote = self
            .remote
            .unwrap_or_else(|| Box::new(LocalRemote::default()));
        let mut pending = Pending::new(self.pending_limit);
        if let Some((journal, notes)) = self.journal {
            pending.keep_in(journal, notes, &place.prefix);
        }
        let far = Far::new(remote, self.beside, pending, place, counters.clone());
        let (audit, samples) = self.audit.map(Audit::new).unzip();
        let shared = Arc::new(Shared {
            l1: L1::new(self.l1_engine, self.l1_budget, self.absent_quota),
            far,
            flights: Arc::default(),
            tags: Tags::default(),
            pins: Pins::default(),
            shown: Shown::default(),
            loads: Semaphore::new(self.load_limit.get().min(Semaphore::MAX_PERMITS)),
            load_wait: self.load_wait,
            load_timeout: self.load_timeout,
            counters,
            ticks,
            heard_until: AtomicU64::new(if alone { u64::MAX } else { 0 }),
            roll: Mutex::default(),
            audit,
            hurry: Notify::new(),
        });
        let (pending, bytes) = (Arc::downgrade(&shared), Arc::downgrade(&shared));
        meter::gauge(&self.meter, stats::PENDING, &[], move || {
            let pending = pending.upgrade()?.far.pending.failed();
            Some(f64::from(u32::try_from(pending).unwrap_or(u32::MAX)))
        });
        meter::gauge(&self.meter, stats::BYTES, &[], move || {
            let kibibytes = bytes.upgrade()?.l1.weight() / 1_024;
            Some(f64::from(u32::try_from(kibibytes).unwrap_or(u32::MAX)) * 1_024.0)
        });
        let flusher = shared.clone();
        let mut tasks = vec![tokio::spawn(async move {
            flusher.far.keep_flushing(RETRY_EVERY, &flusher.hurry).await;
        })];
        if !alone {
            let (listener, beater, teller) = (shared.clone(), shared.clone(), shared.clone());
            tasks.push(tokio::spawn(async move { listener.keep_listening().await }));
            tasks.push(tokio::spawn(async move { beater.keep_beating().await }));
            tasks.push(tokio::spawn(async move { teller.far.keep_telling().await }));
        }
        if let Some(samples) = samples {
            let auditor = shared.clone();
            tasks.push(tokio::spawn(async move {
                auditor.keep_auditing(samples).await;
            }));
        }
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
