use std::sync::Arc;

use super::Source;
use crate::meter::{self, HotCounter, Meter, Metric};

const DECISIONS: Metric = Metric::new(
    "maxscale.limit.decisions",
    "{decision}",
    "What policies decided, and who decided it.",
);

const HELD: Metric = Metric::new(
    "maxscale.limit.held",
    "{place}",
    "Places that this process holds.",
);

/// The label with the policy's name.
const POLICY: &str = "maxscale.limit.policy";

const SOURCES: [Source; 4] = [
    Source::Lease,
    Source::Store,
    Source::DenyCache,
    Source::Fallback,
];

/// What a policy decided, by outcome and source. No key is a label.
#[derive(Clone, Debug)]
pub(super) struct Counts(Arc<[[HotCounter; 2]; 4]>);

/// Has `read` say how many places are held, at each scrape.
pub(super) fn held(
    meter: &Meter,
    policy: &str,
    read: impl Fn() -> Option<u32> + Send + Sync + 'static,
) {
    let read = move || read().map(f64::from);
    meter::gauge(meter, HELD, &[(POLICY, policy)], read);
}

// === impl Counts ===

impl Counts {
    pub(super) fn register(meter: &Meter, policy: &str) -> Self {
        let counter = |outcome, source: Source| {
            let labels = [
                (POLICY, policy),
                ("outcome", outcome),
                ("source", source.name()),
            ];
            HotCounter::register(meter, DECISIONS, &labels)
        };
        let counters = SOURCES.map(|source| ["denied", "allowed"].map(|it| counter(it, source)));
        Self(Arc::new(counters))
    }

    pub(super) fn count(&self, allowed: bool, source: Source) {
        let place = SOURCES.iter().position(|it| *it == source).unwrap_or(0);
        self.0[place][usize::from(allowed)].add(1);
    }
}
