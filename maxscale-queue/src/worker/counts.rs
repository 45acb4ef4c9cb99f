use std::time::Duration;

use maxscale_core::meter::{HotCounter, HotHistogram, HotHistograms, Meter, Metric};

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

const CLAIM: Metric = Metric::new(
    "maxscale.queue.claim.duration",
    "s",
    "How long claims took that gave jobs.",
);

const WAIT: Metric = Metric::new(
    "maxscale.queue.wait",
    "s",
    "How long jobs waited from when they were due to their claim.",
);

const RUN: Metric = Metric::new("maxscale.queue.run.duration", "s", "How long handlers ran.");

/// From an idle worker's answer to a backlog of an hour.
const BOUNDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0, 3600.0,
];

/// What a worker counts.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) claimed: HotCounter,
    pub(super) claim: HotHistogram,
    pub(super) wait: HotHistogram,
    runs: HotHistograms<&'static str>,
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
            claim: HotHistogram::register(meter, CLAIM, BOUNDS, &[]),
            wait: HotHistogram::register(meter, WAIT, BOUNDS, &[]),
            runs: HotHistograms::new(meter, RUN, BOUNDS),
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

    /// A handler of a kind has ended.
    pub(super) fn ran(&self, kind: &'static str, took: Duration) {
        let labels = || vec![("kind", kind.to_owned())];
        self.runs.of(kind, labels).record(took);
    }

    pub(super) const fn of(&self, ending: &Ending) -> &HotCounter {
        match ending {
            Ending::Done { .. } => &self.done,
            Ending::Retry { .. } => &self.retried,
            Ending::Dead { .. } | Ending::Undecodable { .. } => &self.dead,
            Ending::Snooze { .. } => &self.snoozed,
            Ending::Continue { .. } => &self.continued,
            Ending::Cancelled { .. } => &self.cancelled,
            Ending::HandBack => &self.handed_back,
        }
    }
}
