//! What is seen of requests in a window of time, while there is something to see.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::control::{Offered, Shedding, SheddingRules};

#[expect(clippy::cast_possible_truncation, reason = "128")]
pub(super) const COHORTS: u32 = Shedding::COHORTS as u32;

/// In place of a cut: everybody finds a place, and nothing is counted.
const CALM: usize = usize::MAX;

/// After so many windows in which nothing was shed none is looked at.
const CALM_AFTER: u32 = 20;

/// Times are microseconds since the shedder was built.
#[derive(Debug)]
pub(super) struct Windows {
    /// The first rank that is shed, or [`CALM`].
    cut: AtomicUsize,
    length: u64,
    ends: AtomicU64,
    came: Box<[AtomicU32; Shedding::RANKS]>,
    entered: AtomicU32,
    /// What those that entered waited at the least; the highest number if none did.
    least: AtomicU64,
    full: AtomicBool,
    core: Mutex<Core>,
}

#[derive(Debug)]
struct Core {
    rules: SheddingRules,
    shedding: Shedding,
    /// Windows in a row in which nothing was shed.
    calm: u32,
    /// Whether a log line said that load is shed.
    told: bool,
}

// === impl Windows ===

impl Windows {
    pub(super) fn new(rules: SheddingRules, length: Duration) -> Self {
        Self {
            cut: AtomicUsize::new(CALM),
            length: micros(length),
            ends: AtomicU64::new(0),
            came: Box::new([const { AtomicU32::new(0) }; Shedding::RANKS]),
            entered: AtomicU32::new(0),
            least: AtomicU64::new(u64::MAX),
            full: AtomicBool::new(false),
            core: Mutex::new(Core {
                rules,
                shedding: Shedding::new(rules),
                calm: 0,
                told: false,
            }),
        }
    }

    pub(super) fn is_watched(&self) -> bool {
        self.cut.load(Ordering::Relaxed) != CALM
    }

    /// The first rank that is shed, while there is something to see.
    pub(super) fn cut(&self) -> Option<usize> {
        Some(self.cut.load(Ordering::Relaxed)).filter(|cut| *cut != CALM)
    }

    /// Somebody has to wait: what comes from now on is counted.
    #[cold]
    pub(super) fn watch(&self, now: u64) {
        if self.is_watched() {
            return;
        }
        let mut core = self.core();
        if self.is_watched() {
            return;
        }
        core.shedding = Shedding::new(core.rules);
        core.calm = 0;
        self.take();
        self.ends.store(now + self.length, Ordering::Relaxed);
        self.cut.store(Shedding::RANKS, Ordering::Relaxed);
    }

    /// Counts a request, and says whether it may go on.
    pub(super) fn came(&self, rank: usize) -> bool {
        self.came[rank].fetch_add(1, Ordering::Relaxed);
        rank < self.cut.load(Ordering::Relaxed)
    }

    pub(super) fn entered(&self, waited: Duration) {
        if self.is_watched() {
            self.entered.fetch_add(1, Ordering::Relaxed);
            self.least.fetch_min(micros(waited), Ordering::Relaxed);
        }
    }

    /// Somebody found no place.
    pub(super) fn full(&self) {
        self.full.store(true, Ordering::Relaxed);
    }

    /// Judges a window that has ended. Whoever finds another at it goes on with what
    /// there is.
    pub(super) fn turn_at(&self, now: u64, name: &str) {
        if now < self.ends.load(Ordering::Relaxed) {
            return;
        }
        let Ok(mut core) = self.core.try_lock() else {
            return;
        };
        let ended = self.ends.load(Ordering::Relaxed);
        if now < ended || !self.is_watched() {
            return;
        }
        self.ends.store(now + self.length, Ordering::Relaxed);
        core.shedding.on(&self.take());
        // Whatever was seen, it is over if nobody came for another window.
        let over = now - ended >= self.length;
        let cut = core.shedding.cut();
        let sheds = cut < Shedding::RANKS && !over;
        core.calm = match sheds {
            true => 0,
            false if over => CALM_AFTER,
            false => core.calm + 1,
        };
        let calm = core.calm >= CALM_AFTER;
        self.cut
            .store(if calm { CALM } else { cut }, Ordering::Relaxed);
        if sheds && !core.told {
            core.told = true;
            tracing::warn!(
                shedder = name,
                "more is asked for than can be served: load is shed"
            );
        } else if calm && core.told {
            core.told = false;
            tracing::info!(shedder = name, "no load is shed any more");
        }
    }

    fn take(&self) -> Offered {
        let mut seen = Offered::NONE;
        for (seen, came) in seen.came.iter_mut().zip(&*self.came) {
            *seen = came.swap(0, Ordering::Relaxed);
        }
        seen.entered = self.entered.swap(0, Ordering::Relaxed);
        let least = self.least.swap(u64::MAX, Ordering::Relaxed);
        seen.least = (least < u64::MAX).then(|| Duration::from_micros(least));
        seen.full = self.full.swap(false, Ordering::Relaxed);
        seen
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        // A value is replaced or told of windows whole; a panic tears nothing.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
