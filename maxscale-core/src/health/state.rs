//! When a check counts as up or down: pure, without clock or task.

/// Whether a check passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// No run has ended yet.
    Pending,
    /// The check passes.
    Up,
    /// The check fails.
    Down,
}

/// A status and how many results in a row speak against it.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    status: Status,
    against: u8,
}

pub(super) const FAILURES_TO_DOWN: u8 = 3;
const PASSES_TO_UP: u8 = 2;

// === impl State ===

impl State {
    pub(super) const fn new() -> Self {
        Self {
            status: Status::Pending,
            against: 0,
        }
    }

    pub(super) const fn status(self) -> Status {
        self.status
    }

    /// Takes in one result; true if the status changed.
    pub(super) fn apply(&mut self, passed: bool) -> bool {
        let (seen, needed) = if passed {
            (Status::Up, PASSES_TO_UP)
        } else {
            (Status::Down, FAILURES_TO_DOWN)
        };
        if self.status == seen {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let changed = self.status == Status::Pending || self.against >= needed;
        if changed {
            *self = Self {
                status: seen,
                against: 0,
            };
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(results: &[bool]) -> Status {
        let mut state = State::new();
        for &passed in results {
            state.apply(passed);
        }
        state.status()
    }

    #[test]
    fn first_result_counts_at_once() {
        assert_eq!(after(&[]), Status::Pending);
        assert_eq!(after(&[true]), Status::Up);
        assert_eq!(after(&[false]), Status::Down);
    }

    #[test]
    fn three_failures_in_a_row_are_down() {
        assert_eq!(after(&[true, false, false]), Status::Up);
        assert_eq!(after(&[true, false, false, true, false, false]), Status::Up);
        assert_eq!(after(&[true, false, false, false]), Status::Down);
    }

    #[test]
    fn two_passes_in_a_row_are_up() {
        assert_eq!(after(&[false, true]), Status::Down);
        assert_eq!(after(&[false, true, false, true]), Status::Down);
        assert_eq!(after(&[false, true, true]), Status::Up);
    }
}
