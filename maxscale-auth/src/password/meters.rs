use std::sync::Weak;

use maxscale_core::meter::{self, DURATION_BUCKETS, HotCounter, HotHistogram, Meter, Metric};

use super::queue::Queue;

const DURATION: Metric = Metric::new(
    "maxscale.auth.password.duration",
    "s",
    "Time that a password waited for a thread, and that its hash took.",
);
const REFUSED: Metric = Metric::new(
    "maxscale.auth.password.refused",
    "{password}",
    "Passwords that were not hashed, because the queue was full or none of the threads was free in time.",
);
const LEFT: Metric = Metric::new(
    "maxscale.auth.password.left",
    "{password}",
    "Passwords that were not hashed, because whoever asked went away.",
);
const QUEUED: Metric = Metric::new(
    "maxscale.auth.password.queued",
    "{password}",
    "Passwords that wait for a thread.",
);

/// What is counted of a pool.
#[derive(Clone, Debug)]
pub(super) struct Meters {
    pub(super) waited: HotHistogram,
    pub(super) hashed: HotHistogram,
    pub(super) full: HotCounter,
    pub(super) late: HotCounter,
    pub(super) left: HotCounter,
}

// === impl Meters ===

impl Meters {
    pub(super) fn register(meter: &Meter) -> Self {
        let duration =
            |step| HotHistogram::register(meter, DURATION, &DURATION_BUCKETS, &[("step", step)]);
        let refused = |reason| HotCounter::register(meter, REFUSED, &[("reason", reason)]);
        Self {
            waited: duration("wait"),
            hashed: duration("hash"),
            full: refused("full"),
            late: refused("late"),
            left: HotCounter::register(meter, LEFT, &[]),
        }
    }

    /// Reads the length of `queue` at each scrape, while the queue is there.
    pub(super) fn watch(meter: &Meter, queue: Weak<Queue>) {
        meter::gauge(meter, QUEUED, &[], move || {
            let waiting = queue.upgrade()?.len();
            u32::try_from(waiting).ok().map(f64::from)
        });
    }
}
