//! Windows of time: what limit is in force, and what is seen of the calls in each.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::control::{Concurrency, Seen};

/// The window that runs, the one before it, and others that are over.
const KEPT: usize = 4;

/// Times are microseconds since 1970, which never go back.
#[derive(Debug)]
pub(super) struct Windows {
    /// The limit in force, and the sequence number of the window.
    now: AtomicU64,
    ends: AtomicU64,
    /// From when on calls are measured: those before found the limit of the window
    /// before it.
    measures: AtomicU64,
    /// What is long for a call: twice what calls take, or more.
    long: AtomicU64,
    in_flight: AtomicU32,
    cells: [Cell; KEPT],
    core: Mutex<Core>,
}

#[derive(Debug)]
struct Core {
    concurrency: Concurrency,
    sequence: u32,
    /// Which of the cells are of probes.
    probes: [bool; KEPT],
}

/// Counts of one window. A call or two may be counted in the next one.
#[derive(Debug, Default)]
struct Cell {
    came: AtomicU64,
    pressed: AtomicU64,
    begun: AtomicU64,
    ended: AtomicU64,
    timed: AtomicU64,
    took: AtomicU64,
    dropped: AtomicU64,
}

/// A call that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    began: u64,
    /// The window in which it is measured.
    window: Option<u32>,
}

/// What the end of a call says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// How long such a call takes.
    Time,
    /// That it takes longer than its caller waits, if he waited for long.
    AtLeast,
    /// That fewer are wanted.
    Dropped,
    /// Nothing: it may have ended early because it failed.
    Nothing,
}

// === impl Windows ===

impl Windows {
    pub(super) fn new(concurrency: Concurrency) -> Self {
        Self {
            now: AtomicU64::new(word(concurrency.limit(), 0)),
            ends: AtomicU64::new(0),
            measures: AtomicU64::new(u64::MAX),
            long: AtomicU64::new(u64::MAX),
            in_flight: AtomicU32::new(0),
            cells: Default::default(),
            core: Mutex::new(Core {
                concurrency,
                sequence: 0,
                probes: [false; KEPT],
            }),
        }
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn concurrency(&self) -> Concurrency {
        self.core().concurrency
    }

    /// Takes a place; `always` also where there is none, and the second says which.
    pub(super) fn enter(&self, now: u64, always: bool) -> (Option<Ticket>, bool) {
        if now >= self.ends.load(Ordering::Acquire) {
            self.turn(now);
        }
        let (limit, window) = parts(self.now.load(Ordering::Acquire));
        let cell = self.cell(window);
        cell.came.fetch_add(1, Ordering::Relaxed);
        let before = self.in_flight.fetch_add(1, Ordering::AcqRel);
        if before.saturating_add(1) >= limit {
            cell.pressed.fetch_add(1, Ordering::Relaxed);
        }
        let room = before < limit;
        if !room && !always {
            self.in_flight.fetch_sub(1, Ordering::AcqRel);
            return (None, room);
        }
        let measured = now >= self.measures.load(Ordering::Relaxed);
        if measured {
            cell.begun.fetch_add(1, Ordering::Relaxed);
        }
        let window = measured.then_some(window);
        (Some(Ticket { began: now, window }), room)
    }

    pub(super) fn leave(&self, ticket: Ticket, now: u64, says: Says) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
        let (_, current) = parts(self.now.load(Ordering::Acquire));
        if says == Says::Dropped {
            self.cell(current).dropped.fetch_add(1, Ordering::Relaxed);
        }
        let took = now.saturating_sub(ticket.began);
        let Some(window) = ticket.window else { return };
        if current.wrapping_sub(window) > 1 {
            // Its window was judged without it.
            return;
        }
        let cell = self.cell(window);
        cell.ended.fetch_add(1, Ordering::Relaxed);
        let long = took >= self.long.load(Ordering::Relaxed);
        if says == Says::Time || says == Says::AtLeast && long {
            cell.timed.fetch_add(1, Ordering::Relaxed);
            cell.took.fetch_add(took, Ordering::Relaxed);
        }
    }

    /// Judges the window before the one that ended, whose calls have ended too, and
    /// begins the next. Whoever finds another at it goes on with what there is.
    #[cold]
    fn turn(&self, now: u64) {
        let Ok(mut core) = self.core.try_lock() else {
            return;
        };
        if now < self.ends.load(Ordering::Acquire) {
            return;
        }
        let before = core.sequence.wrapping_sub(1);
        let probe = core.probes[place(before)];
        core.concurrency = core.concurrency.on(self.cell(before).take(probe));
        core.sequence = core.sequence.wrapping_add(1);

        let length = micros(core.concurrency.window());
        let number = now / length;
        let probe = core.concurrency.is_probe(number);
        let sequence = core.sequence;
        core.probes[place(sequence)] = probe;
        self.cell(sequence).take(probe);
        let limit = core.concurrency.limit_in(probe);
        let ends = (number + 1) * length;
        // Where a window has eight times what calls take, a quarter are two.
        let measures = (number * length).max(now) + length / 4;
        self.measures.store(measures, Ordering::Relaxed);
        self.long.store(length / 4, Ordering::Relaxed);
        self.now.store(word(limit, sequence), Ordering::Release);
        self.ends.store(ends, Ordering::Release);
    }

    fn cell(&self, sequence: u32) -> &Cell {
        &self.cells[place(sequence)]
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        // A value is replaced whole; a panic tears nothing.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Cell ===

impl Cell {
    fn take(&self, probe: bool) -> Seen {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        Seen {
            probe,
            came: take(&self.came),
            pressed: take(&self.pressed),
            begun: take(&self.begun),
            ended: take(&self.ended),
            timed: take(&self.timed),
            took: Duration::from_micros(take(&self.took)),
            dropped: take(&self.dropped),
        }
    }
}

const fn place(sequence: u32) -> usize {
    sequence as usize % KEPT
}

fn word(limit: u32, sequence: u32) -> u64 {
    u64::from(limit) << 32 | u64::from(sequence)
}

fn parts(word: u64) -> (u32, u32) {
    let low = |half: u64| u32::try_from(half & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    (low(word >> 32), low(word))
}

pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
