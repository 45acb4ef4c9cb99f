//! When each phase of an end is over: arithmetic on one budget.

use std::time::Duration;

use tokio::time::Instant;

use super::{Cause, ServeError};

/// How long the parts of an end may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    pub(super) whole: Duration,
    pub(super) reserve: Duration,
    pub(super) wait: Duration,
}

/// The moments at which an end that was begun goes on, whatever is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Connections are accepted until then.
    pub(super) accept: Instant,
    /// Requests may end until then, and jobs.
    pub(super) drain: Instant,
    /// What is held may be handed back until then.
    pub(super) hand_back: Instant,
    /// All is over.
    pub(super) end: Instant,
}

// === impl Budget ===

impl Budget {
    pub(super) fn checked(self) -> Result<Self, ServeError> {
        let Some(drain) = self.whole.checked_sub(self.reserve) else {
            return Err(ServeError::Bounds { field: "reserve" });
        };
        if self.wait > drain {
            return Err(ServeError::Bounds { field: "wait" });
        }
        // Beyond a day it is a slip of the keyboard, and sums might overflow.
        if self.whole.is_zero() || self.whole > Duration::from_secs(86_400) {
            return Err(ServeError::Bounds { field: "budget" });
        }
        Ok(self)
    }

    pub(super) fn plan(self, cause: Cause, now: Instant) -> Plan {
        let wait = match cause {
            Cause::Terminate => self.wait,
            Cause::Interrupt => Duration::ZERO,
        };
        let end = now + self.whole;
        Plan {
            accept: now + wait,
            drain: end - self.reserve,
            // Two thirds to hand back, one to flush and close.
            hand_back: end - self.reserve / 3,
            end,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn budget(whole: u64, reserve: u64, wait: u64) -> Budget {
        Budget {
            whole: Duration::from_millis(whole),
            reserve: Duration::from_millis(reserve),
            wait: Duration::from_millis(wait),
        }
    }

    fn refused(budget: Budget) -> Option<&'static str> {
        match budget.checked() {
            Ok(_) => None,
            Err(ServeError::Bounds { field }) => Some(field),
        }
    }

    #[test]
    fn nonsense_is_refused_by_the_name_of_its_setter() {
        assert_eq!(refused(budget(28_000, 3_000, 3_000)), None);
        assert_eq!(refused(budget(0, 0, 0)), Some("budget"));
        assert_eq!(refused(budget(86_400_001, 0, 0)), Some("budget"));
        assert_eq!(refused(budget(1_000, 1_001, 0)), Some("reserve"));
        assert_eq!(refused(budget(4_000, 3_000, 1_001)), Some("wait"));
    }

    #[test]
    fn wait_and_reserve_are_parts_of_the_budget() {
        let now = Instant::now();
        let at = |millis| now + Duration::from_millis(millis);
        let budget = budget(28_000, 3_000, 3_000);
        let plan = Plan {
            accept: at(3_000),
            drain: at(25_000),
            hand_back: at(27_000),
            end: at(28_000),
        };
        assert_eq!(budget.plan(Cause::Terminate, now), plan);
        let at_once = Plan {
            accept: now,
            ..plan
        };
        assert_eq!(budget.plan(Cause::Interrupt, now), at_once);
    }

    proptest! {
        #[test]
        fn phases_follow_each_other_and_end_with_the_budget(
            whole in 0_u64..100_000_000,
            reserve in 0_u64..10_000,
            wait in 0_u64..10_000,
        ) {
            if let Ok(budget) = budget(whole, reserve, wait).checked() {
                let now = Instant::now();
                for cause in [Cause::Terminate, Cause::Interrupt] {
                    let plan = budget.plan(cause, now);
                    prop_assert!(now <= plan.accept && plan.accept <= plan.drain);
                    prop_assert!(plan.drain <= plan.hand_back && plan.hand_back <= plan.end);
                    prop_assert_eq!(plan.end, now + budget.whole);
                }
            }
        }
    }
}
