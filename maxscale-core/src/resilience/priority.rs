/// How much a request matters: a fact that a layer of ours adds, by what it knows
/// of the route or of who asks.
///
/// No layer takes it from a header: whoever is shed first would say that he
/// matters most. A request without it is [`NORMAL`](Self::NORMAL).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

// === impl Priority ===

impl Priority {
    /// What the service cannot be without: logins, payments, health.
    pub const CRITICAL: Self = Self(0);

    /// What people wait for.
    pub const HIGH: Self = Self(1);

    /// Whatever nothing is known of.
    pub const NORMAL: Self = Self(2);

    /// What may come later: lists that are loaded ahead, exports.
    pub const LOW: Self = Self(4);

    /// What nobody waits for.
    pub const LOWEST: Self = Self(5);

    /// The tier `tier`, from 0, which matters most, to 5; higher ones are 5.
    pub const fn of_tier(tier: u8) -> Self {
        if tier < Self::LOWEST.0 {
            Self(tier)
        } else {
            Self::LOWEST
        }
    }

    /// The tier, from 0 to 5.
    pub const fn tier(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_beyond_the_last_are_the_last() {
        let tiers = [0, 3, 5, 6, 255].map(|tier| Priority::of_tier(tier).tier());
        assert_eq!(tiers, [0, 3, 5, 5, 5]);
        assert!(Priority::CRITICAL < Priority::default() && Priority::default() < Priority::LOW);
    }
}
