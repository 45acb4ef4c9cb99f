//! Where a saga stands, and what follows from what happened. Pure.

use std::time::Duration;

use maxscale_core::control::Backoff;

/// How far a saga is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "whoever waits for the end must think of each"
)]
pub enum Phase {
    /// Its steps are being done. Not an end.
    Forward,
    /// A step was refused; what was done is being undone, last first. Not an end.
    Backward,
    /// An end: every step was done, once.
    Done,
    /// An end: what was done of it was undone, once.
    Compensated,
    /// An end for now: a compensation failed for good, so that part of the saga
    /// is done and part is not. [`Sagas::retry`](super::Sagas::retry) goes on with it.
    Stuck,
}

/// A saga's row, as far as the next step depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// The step to do or to undo next.
    pub(super) step: u32,
    /// How often in a row it failed, for whatever reason.
    pub(super) failed: u32,
    /// How often in a row it failed for a reason that does not pass by itself.
    pub(super) counted: u32,
}

/// What came of doing or undoing a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It is done, or undone; now or at an earlier try.
    Did,
    /// It was to be undone, is done, and nothing undoes it: the last step.
    Stands,
    /// It cannot be, now or later.
    Refused,
    /// It failed.
    Failed,
    /// A database was away or too busy: that passes by itself.
    Away,
}

/// What the driver does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Goes on with the next step.
    GoOn,
    /// Leaves it for so long.
    Wait(Duration),
    /// Nothing: it has ended.
    End,
}

/// How often a failing step is tried, and how long after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    pub(super) tries: u32,
    pub(super) backoff: Backoff,
}

// === impl Phase ===

impl Phase {
    pub(super) const ALL: [Self; 5] = [
        Self::Forward,
        Self::Backward,
        Self::Done,
        Self::Compensated,
        Self::Stuck,
    ];

    /// Whether nothing happens any more unless somebody asks for it.
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Done | Self::Compensated | Self::Stuck)
    }

    /// As it is stored, and as a label.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Backward => "backward",
            Self::Done => "done",
            Self::Compensated => "compensated",
            Self::Stuck => "stuck",
        }
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.text() == text)
    }
}

// === impl State ===

impl State {
    /// At the beginning of a step.
    pub(super) const fn at(phase: Phase, step: u32) -> Self {
        Self {
            phase,
            step,
            failed: 0,
            counted: 0,
        }
    }

    /// What follows from `event`, in a saga of so many steps.
    pub(super) fn on(self, event: Event, steps: u32, patience: &Patience) -> (Self, Action) {
        let forward = match self.phase {
            Phase::Forward => true,
            Phase::Backward => false,
            Phase::Done | Phase::Compensated | Phase::Stuck => return (self, Action::End),
        };
        let given_up = match event {
            Event::Did if forward && self.step + 1 < steps => {
                return (Self::at(Phase::Forward, self.step + 1), Action::GoOn);
            }
            Event::Stands => return (Self::at(Phase::Done, self.step), Action::End),
            Event::Did if forward => return (Self::at(Phase::Done, self.step), Action::End),
            Event::Did if self.step > 0 => {
                return (Self::at(Phase::Backward, self.step - 1), Action::GoOn);
            }
            Event::Did => return (Self::at(Phase::Compensated, 0), Action::End),
            Event::Refused => true,
            Event::Failed => self.counted + 1 >= patience.tries,
            Event::Away => false,
        };
        match (given_up, forward) {
            // The step itself too: another driver may have done it meanwhile, or may yet.
            (true, true) => (Self::at(Phase::Backward, self.step), Action::GoOn),
            (true, false) => (Self::at(Phase::Stuck, self.step), Action::End),
            (false, _) => {
                let failed = self.failed.saturating_add(1);
                let counted = self.counted + u32::from(event == Event::Failed);
                let next = Self {
                    failed,
                    counted,
                    ..self
                };
                // Whoever looks for what is due spreads them; no draw is needed.
                (next, Action::Wait(patience.backoff.wait(failed, 1.0)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PATIENCE: Patience = Patience {
        tries: 3,
        backoff: Backoff::new(SECOND, Duration::from_secs(8)),
    };

    /// Where each event in turn leads, from the start of a saga of three steps.
    fn after(events: &[Event]) -> (State, Action) {
        let start = (State::at(Phase::Forward, 0), Action::GoOn);
        events
            .iter()
            .fold(start, |(state, _), event| state.on(*event, 3, &PATIENCE))
    }

    #[test]
    fn steps_are_done_in_order() {
        use Event::Did;
        assert_eq!(after(&[Did]).0, State::at(Phase::Forward, 1));
        let end = (State::at(Phase::Done, 2), Action::End);
        assert_eq!(after(&[Did, Did, Did]), end);
    }

    #[test]
    fn refused_step_is_closed_and_the_others_undone_last_first() {
        use Event::{Did, Refused};
        assert_eq!(after(&[Did, Refused]).0, State::at(Phase::Backward, 1));
        assert_eq!(after(&[Did, Refused, Did]).0, State::at(Phase::Backward, 0));
        let end = (State::at(Phase::Compensated, 0), Action::End);
        assert_eq!(after(&[Did, Refused, Did, Did]), end);
    }

    #[test]
    fn only_what_does_not_pass_uses_up_tries() {
        use Event::{Away, Failed};
        let (state, action) = after(&[Away, Away, Away, Away, Away]);
        assert_eq!((state.phase, state.counted), (Phase::Forward, 0));
        assert_eq!(action, Action::Wait(8 * SECOND));
        assert_eq!(after(&[Failed, Away, Failed]).0.phase, Phase::Forward);
        assert_eq!(
            after(&[Failed, Away, Failed, Failed]).0,
            State::at(Phase::Backward, 0)
        );
    }

    #[test]
    fn compensation_that_is_refused_is_stuck() {
        use Event::{Did, Refused};
        let end = (State::at(Phase::Stuck, 1), Action::End);
        assert_eq!(after(&[Did, Refused, Refused]), end);
    }

    #[test]
    fn every_phase_is_read_as_it_was_written() {
        for phase in Phase::ALL {
            assert_eq!(Phase::read(phase.text()), Some(phase));
        }
        assert_eq!(Phase::read("elsewhere"), None);
    }

    proptest! {
        /// Whatever happens, as long as something happens in the end.
        #[test]
        fn every_saga_ends(events in prop::collection::vec(0..5_usize, 0..40), steps in 1..5_u32) {
            let kinds = [Event::Did, Event::Refused, Event::Failed, Event::Away, Event::Stands];
            let mut state = State::at(Phase::Forward, 0);
            for event in events {
                let (next, action) = state.on(kinds[event], steps, &PATIENCE);
                prop_assert!(next.step < steps);
                prop_assert_eq!(action == Action::End, next.phase.is_end());
                state = next;
            }
            for _ in 0..2 * steps {
                state = state.on(Event::Did, steps, &PATIENCE).0;
            }
            prop_assert!(state.phase.is_end());
        }
    }
}
