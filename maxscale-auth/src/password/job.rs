use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use maxscale_core::meter::HotCounter;
use tokio::time::Instant;

use super::memory::Memory;

/// One piece of work for a hashing thread.
///
/// The place that it takes is the thread it runs on, so nothing that its caller
/// does (a cut connection, a timeout) lets another one begin beside it.
pub(super) struct Job {
    pub(super) ticket: Ticket,
    pub(super) queued: Instant,
    /// From then on nobody waits for it to begin.
    pub(super) deadline: Instant,
    pub(super) work: Box<dyn FnOnce(&mut Memory) + Send>,
}

/// Who settles whether a job begins: its thread, or its caller who goes away.
#[derive(Clone, Debug)]
pub(super) struct Ticket(Arc<AtomicU8>);

/// Goes away for a caller whose future is dropped.
#[derive(Debug)]
pub(super) struct Caller {
    ticket: Ticket,
    left: HotCounter,
}

const WAITS: u8 = 0;
const BEGUN: u8 = 1;
const GONE: u8 = 2;

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Job");
        shown.field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

// === impl Ticket ===

impl Ticket {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU8::new(WAITS)))
    }

    /// True if the job may run: nobody has gone away before.
    pub(super) fn begin(&self) -> bool {
        self.settle(BEGUN)
    }

    /// True if the job will not run: no thread has begun it before.
    pub(super) fn leave(&self) -> bool {
        self.settle(GONE)
    }

    pub(super) fn waits(&self) -> bool {
        self.0.load(Ordering::Acquire) == WAITS
    }

    pub(super) fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire) == BEGUN
    }

    fn settle(&self, to: u8) -> bool {
        let settled = (self.0).compare_exchange(WAITS, to, Ordering::AcqRel, Ordering::Acquire);
        settled.is_ok()
    }
}

// === impl Caller ===

impl Caller {
    pub(super) const fn new(ticket: Ticket, left: HotCounter) -> Self {
        Self { ticket, left }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if self.ticket.leave() {
            self.left.add(1);
        }
    }
}
