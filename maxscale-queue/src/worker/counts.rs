use maxscale_core::meter::{HotCounter, Meter, Metric};

use crate::store::Ending;

const CLAIMED: Metric = Metric::new(
    "maxscale.queue.claimed",
    "{job}",
    "Jobs taken from their queue to be run.",
);

const ENDED: Metric = Metric::new(
    "maxscale.queue.ended",
    "{job}",
    "Ends of runs, as their rows took them.",
);

/// What a worker counts.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) claimed: HotCounter,
    pub(super) done: HotCounter,
    retried: HotCounter,
    pub(super) dead: HotCounter,
    snoozed: HotCounter,
    continued: HotCounter,
    cancelled: HotCounter,
    handed_back: HotCounter,
    /// Ended after their lease, or without an answer from their row.
    pub(super) lost: HotCounter,
}

// === impl Counts ===

impl Counts {
    pub(super) fn register(meter: &Meter) -> Self {
        let ended = |outcome| HotCounter::register(meter, ENDED, &[("outcome", outcome)]);
        Self {
            claimed: HotCounter::register(meter, CLAIMED, &[]),
            done: ended("done"),
            retried: ended("retried"),
            dead: ended("dead"),
            snoozed: ended("snoozed"),
            continued: ended("continued"),
            cancelled: ended("cancelled"),
            handed_back: ended("handed_back"),
            lost: ended("lost"),
        }
    }

    pub(super) const fn of(&self, ending: &Ending) -> &HotCounter {
        match ending {
            Ending::Done { .. } => &self.done,
            Ending::Retry { .. } => &self.retried,
            Ending::Dead { .. } => &self.dead,
            Ending::Snooze { .. } => &self.snoozed,
            Ending::Continue { .. } => &self.continued,
            Ending::Cancelled { .. } => &self.cancelled,
            Ending::HandBack => &self.handed_back,
        }
    }
}
