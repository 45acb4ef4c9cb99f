use std::fmt;

use tokio::time::Instant;

use super::Circuit;
use crate::control::{End, Phase};
use crate::resilience::Outcome;
use crate::resilience::judged::Held;

/// A call that a [`Circuit`] has let through; see [`Circuit::pass`].
#[must_use = "a pass that is dropped says nothing of the call"]
pub struct CircuitPass {
    circuit: Circuit,
    /// None if it is only a dry run that lets it through.
    era: Option<u32>,
    /// Where it matters how long calls take.
    began: Option<Instant>,
    ended: bool,
}

// === impl CircuitPass ===

impl CircuitPass {
    pub(super) fn new(circuit: Circuit, era: Option<u32>) -> Self {
        let began = circuit.0.slow.map(|_| Instant::now());
        Self {
            circuit,
            era,
            began,
            ended: false,
        }
    }

    /// Tells how the call ended.
    pub fn end(mut self, outcome: Outcome) {
        let told = &self.circuit.0.told;
        let end = End::from(outcome);
        let count = match end {
            End::Succeeded => &told.succeeded,
            End::Failed => &told.failed,
            End::Nothing => &told.neither,
        };
        count.add(1);
        self.settle(end);
    }

    /// Whether what it allows is still allowed: a probe that was held for too
    /// long has lost its place.
    pub(super) fn stands(&self) -> bool {
        let gate = self.circuit.0.gate();
        match self.era {
            Some(era) => gate.era == era,
            None => gate.position.phase() != Phase::Closed,
        }
    }

    fn settle(&mut self, end: End) {
        self.ended = true;
        if let Some(era) = self.era {
            self.circuit.0.settle(era, self.began, end);
        }
    }
}

impl Held for CircuitPass {
    fn end(self, outcome: Outcome) {
        self.end(outcome);
    }
}

impl Drop for CircuitPass {
    fn drop(&mut self) {
        if !self.ended {
            self.circuit.0.told.neither.add(1);
            self.settle(End::Nothing);
        }
    }
}

impl fmt::Debug for CircuitPass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitPass")
            .field("circuit", &self.circuit.name())
            .field("era", &self.era)
            .finish_non_exhaustive()
    }
}
