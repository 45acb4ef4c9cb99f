use std::sync::Arc;

use maxscale_core::meter::{HotCounter, Meter, Metric};

use crate::saga::state::Phase;

const ENDED: Metric = Metric::new("maxscale.saga.ended", "{saga}", "Sagas that ended.");

/// How sagas ended; nothing unless somebody gave a meter.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts(Option<Arc<[(Phase, HotCounter)]>>);

// === impl Counts ===

impl Counts {
    pub(super) fn register(meter: &Meter) -> Self {
        let ends = Phase::ALL.into_iter().filter(|phase| phase.is_end());
        let counter =
            |phase: Phase| HotCounter::register(meter, ENDED, &[("outcome", phase.text())]);
        Self(Some(ends.map(|phase| (phase, counter(phase))).collect()))
    }

    pub(super) fn ended(&self, end: Phase) {
        let counters = self.0.iter().flat_map(|counters| counters.iter());
        for (_, counter) in counters.filter(|(phase, _)| *phase == end) {
            counter.add(1);
        }
    }
}
