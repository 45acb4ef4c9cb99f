/// Tokens that retries cost and successes bring back: while all goes well
/// retries are free, and when all fails they soon end.
///
/// A retry costs 5, after a timeout 10, a success brings 1 (the AWS SDK's
/// standard mode): where every fifth call fails a retry of each is just paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    tokens: u32,
    most: u32,
}

/// What a [`Budget`] is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing else to tell it")]
pub enum Spending {
    /// Somebody wants to try again what has failed.
    Retry,
    /// Somebody wants to try again what did not answer in time.
    RetryOfTimeout,
    /// A call succeeded.
    Success,
}

// === impl Budget ===

impl Budget {
    /// The most tokens when nothing is set: 100 retries.
    pub const DEFAULT_TOKENS: u32 = 500;

    /// A full budget of `most` tokens.
    pub const fn full(most: u32) -> Self {
        Self { tokens: most, most }
    }

    /// One that has `tokens` left, at most `most`.
    pub const fn of(tokens: u32, most: u32) -> Self {
        let tokens = if tokens < most { tokens } else { most };
        Self { tokens, most }
    }

    /// What is left.
    pub const fn tokens(self) -> u32 {
        self.tokens
    }

    /// Whether there is enough for it, and what is left then. What it does not
    /// allow costs nothing.
    pub const fn on(self, spending: Spending) -> (bool, Self) {
        let cost = match spending {
            Spending::Success => return (true, Self::of(self.tokens.saturating_add(1), self.most)),
            Spending::Retry => 5,
            Spending::RetryOfTimeout => 10,
        };
        match self.tokens.checked_sub(cost) {
            Some(tokens) => (true, Self { tokens, ..self }),
            None => (false, self),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn retries_cost_no_more_than_there_was_and_came_back(
            most in 0..2_000_u32,
            spent in proptest::collection::vec(0..8_u8, 0..600),
        ) {
            let mut budget = Budget::full(most);
            let (mut cost, mut regained) = (0, 0);
            for kind in spent {
                let (spending, price) = match kind {
                    0 => (Spending::Retry, 5),
                    1 => (Spending::RetryOfTimeout, 10),
                    _ => (Spending::Success, 0),
                };
                let before = budget.tokens();
                let (allowed, next) = budget.on(spending);
                prop_assert_eq!(allowed, before >= price);
                if spending == Spending::Success {
                    regained += 1;
                } else if allowed {
                    cost += price;
                }
                prop_assert!(cost <= most + regained);
                prop_assert!(next.tokens() <= most);
                budget = next;
            }
        }
    }
}
