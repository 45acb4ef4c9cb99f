use std::sync::Arc;

use maxscale_core::meter::{HotCounter, Meter, Metric};

const PASSES: Metric = Metric::new(
    "maxscale.shard.recovery.passes",
    "{pass}",
    "Looks at all nodes for what was left half-way.",
);

/// How passes ended; nothing unless somebody gave a meter.
#[derive(Clone, Debug, Default)]
pub(super) struct Passes(Option<Arc<[HotCounter; 2]>>);

// === impl Passes ===

impl Passes {
    pub(super) fn register(meter: &Meter, kind: &str) -> Self {
        let counter = |outcome| {
            let labels = [("kind", kind), ("outcome", outcome)];
            HotCounter::register(meter, PASSES, &labels)
        };
        Self(Some(Arc::new(["whole", "partial"].map(counter))))
    }

    /// A pass ended, which could ask every node or not.
    pub(super) fn passed(&self, whole: bool) {
        if let Some(counters) = &self.0 {
            counters[usize::from(!whole)].add(1);
        }
    }
}
