use std::sync::Arc;

use maxscale_core::meter::{HotCounter, HotLevel, Meter, Metric};

use super::Resolved;

const RESOLVED: Metric = Metric::new(
    "maxscale.two_phase.resolved",
    "{transaction}",
    "Prepared transactions that a recovery pass ended.",
);
const IN_DOUBT: Metric = Metric::new(
    "maxscale.two_phase.in_doubt",
    "{transaction}",
    "Prepared transactions that the last recovery pass could not end.",
);
const AGE: Metric = Metric::new(
    "maxscale.two_phase.in_doubt.age",
    "s",
    "Age of the oldest of them.",
);

/// What recovery passes did; nothing unless somebody gave a meter.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts(Option<Arc<Counted>>);

#[derive(Debug)]
struct Counted {
    committed: HotCounter,
    rolled_back: HotCounter,
    in_doubt: HotLevel,
    age: HotLevel,
}

// === impl Counts ===

impl Counts {
    pub(super) fn register(meter: &Meter) -> Self {
        let counter = |end| HotCounter::register(meter, RESOLVED, &[("outcome", end)]);
        Self(Some(Arc::new(Counted {
            committed: counter("committed"),
            rolled_back: counter("rolled_back"),
            in_doubt: HotLevel::register(meter, IN_DOUBT, &[]),
            age: HotLevel::register(meter, AGE, &[]),
        })))
    }

    pub(super) fn passed(&self, resolved: &Resolved) {
        let Some(counted) = &self.0 else {
            return;
        };
        counted.committed.add(resolved.committed);
        counted.rolled_back.add(resolved.rolled_back);
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let set = |level: &HotLevel, now| level.add(now - level.get());
        set(&counted.in_doubt, number(resolved.in_doubt));
        set(&counted.age, number(resolved.oldest.as_secs()));
    }
}
