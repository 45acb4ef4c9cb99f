//! The places, those that are kept for what is critical, and who waits for them.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use tokio::sync::Semaphore;

use super::LoadShedder;
use crate::resilience::Priority;

#[derive(Debug)]
pub(super) struct Places {
    all: usize,
    common: Semaphore,
    reserve: Semaphore,
    /// Who waits; what is critical is counted by itself, so that others cannot take
    /// its place in the queue.
    waiting: [AtomicUsize; 2],
    queue: usize,
}

/// Of which the place is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Common,
    Reserve,
}

/// One who waits, as long as it lives.
pub(super) struct Waits<'a> {
    places: &'a Places,
    critical: bool,
}

/// A place in a [`LoadShedder`], until it is dropped.
#[must_use = "dropping it frees the place"]
pub struct LoadShedPermit(Option<(LoadShedder, Kind)>);

// === impl Places ===

impl Places {
    pub(super) fn new(all: usize, reserve: usize, queue: usize) -> Self {
        Self {
            all,
            common: Semaphore::new(all - reserve),
            reserve: Semaphore::new(reserve),
            waiting: Default::default(),
            queue,
        }
    }

    pub(super) fn active(&self) -> usize {
        let free = self.common.available_permits() + self.reserve.available_permits();
        self.all.saturating_sub(free)
    }

    pub(super) fn waiting(&self) -> usize {
        let waiting = self.waiting.iter();
        waiting.map(|it| it.load(Ordering::Relaxed)).sum()
    }

    pub(super) fn try_take(&self, critical: bool) -> Option<Kind> {
        let kinds = [(critical, Kind::Reserve), (true, Kind::Common)];
        let mut kinds = kinds.into_iter().filter(|(may, _)| *may);
        kinds.find_map(|(_, kind)| {
            self.of(kind).try_acquire().ok()?.forget();
            Some(kind)
        })
    }

    /// A place in the queue, unless that is full: of the tiers that share one, each has
    /// an eighth less of it than the one before.
    pub(super) fn queue(&self, priority: Priority) -> Option<Waits<'_>> {
        let critical = priority == Priority::CRITICAL;
        let later = usize::from(priority.tier().saturating_sub(1));
        let queue = self.queue - self.queue * later / 8;
        let room = |waiting| (waiting < queue).then_some(waiting + 1);
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        let waiting = &self.waiting[usize::from(critical)];
        waiting.fetch_update(set, get, room).ok()?;
        let places = self;
        Some(Waits { places, critical })
    }

    pub(super) fn free(&self, kind: Kind) {
        self.of(kind).add_permits(1);
    }

    const fn of(&self, kind: Kind) -> &Semaphore {
        match kind {
            Kind::Common => &self.common,
            Kind::Reserve => &self.reserve,
        }
    }
}

// === impl Waits ===

impl Waits<'_> {
    /// Waits for a place: what is critical for one of either kind.
    pub(super) async fn take(self) -> Kind {
        let common = pin!(self.places.common.acquire());
        let reserve = pin!(self.places.reserve.acquire());
        let mut kinds = [(reserve, Kind::Reserve), (common, Kind::Common)];
        let first = usize::from(!self.critical);
        poll_fn(|cx| {
            for (place, kind) in &mut kinds[first..] {
                // Semaphores of ours are never closed.
                if let Poll::Ready(Ok(place)) = place.as_mut().poll(cx) {
                    place.forget();
                    return Poll::Ready(*kind);
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        let waiting = &self.places.waiting[usize::from(self.critical)];
        waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl LoadShedPermit ===

impl LoadShedPermit {
    pub(super) const fn new(shedder: LoadShedder, kind: Kind) -> Self {
        Self(Some((shedder, kind)))
    }

    /// Of a dry run, which lets through what has none.
    pub(super) const fn without_a_place() -> Self {
        Self(None)
    }
}

impl Drop for LoadShedPermit {
    fn drop(&mut self) {
        if let Some((shedder, kind)) = self.0.take() {
            shedder.0.places.free(kind);
        }
    }
}

impl fmt::Debug for LoadShedPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.0.as_ref().map(|(_, kind)| kind);
        f.debug_struct("LoadShedPermit")
            .field("kind", &kind)
            .finish_non_exhaustive()
    }
}
