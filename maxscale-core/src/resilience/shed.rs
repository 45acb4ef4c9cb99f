//! A load shedder: where more comes than can be served, what matters least is refused.
//!
//! [`LoadShedder`] gives each request one of its places, and has it wait for one for a
//! short time. From how long requests wait it learns
//! ([`Shedding`]) which of them to refuse at once: by
//! their [`Priority`], and within a priority by who asks, so that some users are
//! served whole and others are not, instead of each now and then. It does not know
//! how many places there should be, nor what requests do; what waits further in is
//! not seen.

mod builder;
mod cohorts;
mod layer;
mod places;
mod windows;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

pub use builder::LoadShedderBuilder;
pub use layer::{ByCaller, LoadShed, LoadShedFuture, LoadShedKey, LoadShedderLayer};
pub use places::LoadShedPermit;

use self::cohorts::Cohorts;
use self::places::Places;
use self::windows::Windows;
use super::Priority;
use crate::control::Shedding;
use crate::fact::Deadline;
use crate::meter::{self, HotCounter, Meter, Metric};
use crate::refusal::{Class, Classify};

/// Requests that a load shedder was asked for, by their tier and by what became of
/// them: `passed`, `shed`, `full` (no place in time), and `would_shed` in a dry run.
pub const LOAD_SHED_REQUESTS: Metric = Metric::new(
    "maxscale.load_shed.requests",
    "{request}",
    "Requests that a load shedder was asked for.",
);

/// How many tiers a load shedder lets through: 6 are all.
pub const LOAD_SHED_TIERS: Metric = Metric::new(
    "maxscale.load_shed.tiers",
    "1",
    "Tiers of requests that a load shedder lets through.",
);

/// How many requests wait for a place of a load shedder.
pub const LOAD_SHED_WAITING: Metric = Metric::new(
    "maxscale.load_shed.waiting",
    "{request}",
    "Requests that wait for a place of a load shedder.",
);

/// Who gets one of so many places when there are too few. Clones share them.
///
/// While nobody has to wait a request reads no clock and is not hashed.
#[derive(Clone)]
pub struct LoadShedder(Arc<Shared>);

/// More is asked for than can be served, and other requests come first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Overloaded {
    /// Others of its kind, and all that matter less, are refused too.
    #[error("`{name}` sheds load")]
    Shed {
        /// The shedder's name.
        name: Arc<str>,
    },

    /// No place was free in time.
    #[error("`{name}` has no place free")]
    Full {
        /// The shedder's name.
        name: Arc<str>,
    },
}

struct Shared {
    name: Arc<str>,
    places: Places,
    windows: Windows,
    cohorts: Cohorts,
    max_wait: Duration,
    begun: Instant,
    dry_run: AtomicBool,
    told: [Told; TIERS],
}

const TIERS: usize = Priority::LOWEST.tier() as usize + 1;

/// What became of the requests of a tier.
#[derive(Debug)]
struct Told {
    passed: HotCounter,
    shed: HotCounter,
    full: HotCounter,
    would_shed: HotCounter,
}

/// What a request finds that wants a place.
enum Entry {
    Permit(LoadShedPermit),
    /// There is none now.
    Wait,
}

// === impl LoadShedder ===

impl LoadShedder {
    /// The shedder's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// How many requests hold a place.
    pub fn active(&self) -> usize {
        self.0.places.active()
    }

    /// How many requests wait for one.
    pub fn waiting(&self) -> usize {
        self.0.places.waiting()
    }

    /// How many tiers are let through: 6 are all, 2.5 are those of
    /// [`Priority::CRITICAL`] and [`Priority::HIGH`], and of half of those who ask for
    /// what is [`Priority::NORMAL`].
    pub fn tiers(&self) -> f64 {
        let cut = self.0.windows.cut().unwrap_or(Shedding::RANKS);
        let cut = u32::try_from(cut).unwrap_or(u32::MAX);
        1.0 + f64::from(cut) / f64::from(windows::COHORTS)
    }

    /// Takes a place for a request of `who`, or waits for one, no longer than the
    /// shedder allows and `deadline` leaves. Requests of nobody share what is left by
    /// turns.
    ///
    /// Dropping the future leaves the queue; dropping the permit frees the place.
    ///
    /// # Errors
    ///
    /// Returns [`Overloaded`] if it is refused.
    pub async fn enter(
        &self,
        priority: Priority,
        who: Option<&str>,
        deadline: Option<Deadline>,
    ) -> Result<LoadShedPermit, Overloaded> {
        match self.try_enter(priority, || who.map(Cow::Borrowed))? {
            Entry::Permit(permit) => Ok(permit),
            Entry::Wait => self.wait(priority, deadline).await,
        }
    }

    /// Whether it only counts what it would shed, and lets all through at once. Nobody
    /// waits then, so that what it would do is a guess: a window in which nobody found
    /// a place free counts as one with too much load.
    pub fn set_dry_run(&self, dry_run: bool) {
        self.0.dry_run.store(dry_run, Ordering::Relaxed);
    }

    fn try_enter<'a>(
        &self,
        priority: Priority,
        who: impl FnOnce() -> Option<Cow<'a, str>>,
    ) -> Result<Entry, Overloaded> {
        let shared = &*self.0;
        let told = shared.told(priority);
        let dry_run = shared.dry_run.load(Ordering::Relaxed);
        if shared.is_shed(priority, who) {
            if dry_run {
                told.would_shed.add(1);
                return Ok(Entry::Permit(LoadShedPermit::without_a_place()));
            }
            told.shed.add(1);
            let name = shared.name.clone();
            return Err(Overloaded::Shed { name });
        }
        if let Some(permit) = self.place(priority) {
            if may_be_shed(priority) {
                shared.windows.entered(Duration::ZERO);
            }
            told.passed.add(1);
            return Ok(Entry::Permit(permit));
        }
        shared.windows.watch(shared.now());
        if dry_run {
            shared.windows.full();
            told.passed.add(1);
            return Ok(Entry::Permit(LoadShedPermit::without_a_place()));
        }
        Ok(Entry::Wait)
    }

    fn place(&self, priority: Priority) -> Option<LoadShedPermit> {
        let kind = self.0.places.try_take(!may_be_shed(priority))?;
        Some(LoadShedPermit::new(self.clone(), kind))
    }

    async fn wait(
        &self,
        priority: Priority,
        deadline: Option<Deadline>,
    ) -> Result<LoadShedPermit, Overloaded> {
        let shared = &*self.0;
        let began = Instant::now();
        let end = began + shared.max_wait;
        let end = deadline.map_or(end, |deadline| deadline.instant().min(end));
        let told = shared.told(priority);
        let Some(waits) = shared.places.queue(priority) else {
            return Err(self.full(told));
        };
        let Ok(kind) = timeout_at(end, waits.take()).await else {
            return Err(self.full(told));
        };
        let permit = LoadShedPermit::new(self.clone(), kind);
        if may_be_shed(priority) {
            shared.windows.entered(began.elapsed());
        }
        told.passed.add(1);
        Ok(permit)
    }

    fn full(&self, told: &Told) -> Overloaded {
        self.0.windows.full();
        told.full.add(1);
        let name = self.0.name.clone();
        Overloaded::Full { name }
    }

    /// The meter outlives the shedder, and must not keep it.
    fn measure(&self, meter: &Meter) {
        let gauge = |metric, read: fn(&Self) -> f64| {
            let shared = Arc::downgrade(&self.0);
            meter::gauge(meter, metric, &[("shedder", self.name())], move || {
                Some(read(&Self(shared.upgrade()?)))
            });
        };
        gauge(LOAD_SHED_TIERS, Self::tiers);
        gauge(LOAD_SHED_WAITING, |it| {
            u32::try_from(it.waiting()).map_or(f64::INFINITY, f64::from)
        });
    }
}

impl fmt::Debug for LoadShedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadShedder")
            .field("name", &self.0.name)
            .finish_non_exhaustive()
    }
}

fn may_be_shed(priority: Priority) -> bool {
    priority > Priority::CRITICAL
}

// === impl Shared ===

impl Shared {
    /// The time since it was built, in microseconds.
    fn now(&self) -> u64 {
        windows::micros(self.begun.elapsed())
    }

    fn told(&self, priority: Priority) -> &Told {
        &self.told[usize::from(priority.tier())]
    }

    fn is_shed<'a>(&self, priority: Priority, who: impl FnOnce() -> Option<Cow<'a, str>>) -> bool {
        if !self.windows.is_watched() {
            return false;
        }
        let now = self.now();
        self.windows.turn_at(now, &self.name);
        if !may_be_shed(priority) {
            return false;
        }
        let rank = self.cohorts.rank(priority, who().as_deref(), now);
        !self.windows.came(rank)
    }
}

// === impl Told ===

impl Told {
    fn new(meter: &Meter, name: &str, tier: usize) -> Self {
        let tier = tier.to_string();
        let requests = |outcome| {
            let labels = [
                ("shedder", name),
                ("tier", tier.as_str()),
                ("outcome", outcome),
            ];
            HotCounter::register(meter, LOAD_SHED_REQUESTS, &labels)
        };
        Self {
            passed: requests("passed"),
            shed: requests("shed"),
            full: requests("full"),
            would_shed: requests("would_shed"),
        }
    }
}

// === impl Overloaded ===

impl Classify for Overloaded {
    fn class(&self) -> Class {
        Class::Unavailable
    }

    fn code(&self) -> &'static str {
        "overloaded"
    }

    fn retry_after(&self) -> Option<Duration> {
        // Nobody knows; a second is the least that can be told.
        Some(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
