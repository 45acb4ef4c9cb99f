//! What a circuit tells of itself.

use super::{Circuit, Shared};
use crate::control::{Exceeded, Phase};
use crate::meter::{self, HotCounter, Meter, Metric};

/// Calls that a circuit was asked for, by what became of them: `succeeded`,
/// `failed`, `neither`, `refused`, and `would_refuse` in a dry run.
pub const CIRCUIT_CALLS: Metric = Metric::new(
    "maxscale.circuit.calls",
    "{call}",
    "Calls that a circuit breaker was asked for.",
);

/// How often a circuit has become `closed`, `open` or `half_open`.
pub const CIRCUIT_TRANSITIONS: Metric = Metric::new(
    "maxscale.circuit.transitions",
    "{transition}",
    "How often a circuit breaker has changed its phase.",
);

/// What a circuit does with calls.
pub const CIRCUIT_PHASE: Metric = Metric::new(
    "maxscale.circuit.phase",
    "1",
    "0 if a circuit breaker is closed, 1 if half-open, 2 if open.",
);

const CIRCUIT: &str = "circuit";
const OUTCOME: &str = "outcome";
const TO: &str = "to";

#[derive(Debug)]
pub(super) struct Told {
    pub(super) succeeded: HotCounter,
    pub(super) failed: HotCounter,
    pub(super) neither: HotCounter,
    pub(super) refused: HotCounter,
    pub(super) would_refuse: HotCounter,
    closed: HotCounter,
    open: HotCounter,
    half_open: HotCounter,
}

/// Why a circuit is in another phase.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause {
    /// Calls in a row, or probes.
    Calls,
    Rate(Exceeded),
    /// The wait is over.
    Wait,
    Operator,
}

// === impl Told ===

impl Told {
    pub(super) fn new(meter: &Meter, name: &str) -> Self {
        let counter = |metric, key, value| {
            HotCounter::register(meter, metric, &[(CIRCUIT, name), (key, value)])
        };
        let calls = |outcome| counter(CIRCUIT_CALLS, OUTCOME, outcome);
        let transitions = |to| counter(CIRCUIT_TRANSITIONS, TO, to);
        Self {
            succeeded: calls("succeeded"),
            failed: calls("failed"),
            neither: calls("neither"),
            refused: calls("refused"),
            would_refuse: calls("would_refuse"),
            closed: transitions("closed"),
            open: transitions("open"),
            half_open: transitions("half_open"),
        }
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn tell(&self, before: Phase, after: Phase, cause: Cause) {
        if before == after {
            return;
        }
        let (circuit, cause) = (&*self.name, cause.as_str());
        match after {
            Phase::Closed => {
                self.told.closed.add(1);
                tracing::info!(circuit, cause, "circuit closes: calls are made again");
            }
            Phase::Open => {
                self.told.open.add(1);
                tracing::warn!(circuit, cause, "circuit opens: calls are stopped");
            }
            Phase::HalfOpen => {
                self.told.half_open.add(1);
                tracing::debug!(circuit, cause, "circuit is half open: calls are tried");
            }
        }
    }
}

// === impl Circuit ===

impl Circuit {
    /// The meter outlives the circuit, and must not keep it.
    pub(super) fn measure(&self, meter: &Meter) {
        let shared = std::sync::Arc::downgrade(&self.0);
        meter::gauge(meter, CIRCUIT_PHASE, &[(CIRCUIT, self.name())], move || {
            Some(match shared.upgrade()?.gate().position.phase() {
                Phase::Closed => 0.0,
                Phase::HalfOpen => 1.0,
                Phase::Open => 2.0,
            })
        });
    }
}

// === impl Cause ===

impl Cause {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Rate(Exceeded::Failed) => "failure_rate",
            Self::Rate(Exceeded::Slow) => "slow_rate",
            Self::Wait => "wait",
            Self::Operator => "operator",
        }
    }
}
