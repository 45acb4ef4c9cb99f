use maxscale_core::meter::{HotCounter, Meter, Metric};

const WRITES: Metric = Metric::new(
    "maxscale.cache.behind.values",
    "{value}",
    "Values that were accepted and then written, refused once, or given up.",
);
const UNAVAILABLE: Metric = Metric::new(
    "maxscale.cache.behind.unavailable",
    "{call}",
    "Calls of a sink that could not write.",
);
pub(super) const UNWRITTEN: Metric = Metric::new(
    "maxscale.cache.behind.unwritten",
    "{value}",
    "Values that were accepted and are not written yet.",
);

#[derive(Debug)]
pub(super) struct Counters {
    pub(super) written: HotCounter,
    pub(super) refused: HotCounter,
    pub(super) buried: HotCounter,
    pub(super) unavailable: HotCounter,
}

// === impl Counters ===

impl Counters {
    pub(super) fn register(meter: &Meter) -> Self {
        let ended = |result| HotCounter::register(meter, WRITES, &[("result", result)]);
        Self {
            written: ended("written"),
            refused: ended("refused"),
            buried: ended("buried"),
            unavailable: HotCounter::register(meter, UNAVAILABLE, &[]),
        }
    }
}
