use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names the history of writes that a server has.
///
/// A server that was restarted, or that was promoted, may lack what its
/// predecessor acknowledged last, and has another lineage from then on. Who
/// stores the lineage beside a value can tell whether something in between may
/// be lost. All processes see the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lineage(u64);

/// Notes the lineage of the server that answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Witness(Arc<AtomicU64>);

// === impl Lineage ===

impl Lineage {
    pub(super) const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The lineage as a number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

// === impl Witness ===

impl Witness {
    pub(super) fn note(&self, lineage: Lineage) {
        self.0.store(lineage.0, Ordering::Relaxed);
    }

    pub(super) fn seen(&self) -> Lineage {
        Lineage(self.0.load(Ordering::Relaxed))
    }
}
