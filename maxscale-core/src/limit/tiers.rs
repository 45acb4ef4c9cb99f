use std::sync::Arc;

use super::{Policy, PolicyError, Rate, Rule};
use crate::fact::Tier;
use crate::meter::Meter;

/// One policy with a rule for each tier: what a caller has paid for or been granted.
///
/// A caller whose tier changes between rates keeps what was counted, and goes on by
/// the other rule at once; a quota or a log of another window counts anew. Of one
/// caller in two tiers at once, the rate with the smaller burst (in time) may cut
/// short what the other had counted. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tiers {
    other: Policy,
    tiers: Arc<[(Box<str>, Policy)]>,
}

/// In each minute, with a burst of a tenth.
const PER_MINUTE: [(&str, u32); 3] = [
    ("premium", 10_000),
    ("standard", 1_000),
    (Tiers::SUSPICIOUS, 10),
];

/// Who has none of these.
const FREE: u32 = 100;

// === impl Tiers ===

impl Tiers {
    /// The tier of who is suspicious; see [`Reputation`](super::Reputation).
    pub const SUSPICIOUS: &'static str = "suspicious";

    /// The tiers that are usual: `premium` 10,000 requests a minute, `standard`
    /// 1,000, `suspicious` 10, and 100 for `free` and whoever has no tier; each with
    /// a burst of a tenth.
    ///
    /// # Errors
    ///
    /// [`PolicyError::Name`] for what is no name of a policy.
    #[expect(
        clippy::missing_panics_doc,
        reason = "these rates are known to be ones"
    )]
    pub fn usual(name: &str) -> Result<Self, PolicyError> {
        let rate = |per| Rate::per_minute(per).expect("a clock keeps up with it");
        let usual = Self::new(Policy::new(name, rate(FREE))?);
        let tiers = PER_MINUTE.into_iter();
        Ok(tiers.fold(usual, |usual, (tier, per)| usual.tier(tier, rate(per))))
    }

    /// `other` for whoever has no tier, or none of those that are added.
    pub fn new(other: Policy) -> Self {
        Self {
            other,
            tiers: Arc::new([]),
        }
    }

    /// Sets the rule of a tier; all else is as in the policy for others.
    #[must_use]
    pub fn tier(self, tier: &str, rule: impl Into<Rule>) -> Self {
        let old = self.tiers.iter().filter(|(name, _)| **name != *tier);
        let new = (tier.into(), self.other.with_rule(rule.into()));
        Self {
            tiers: old.cloned().chain([new]).collect(),
            other: self.other,
        }
    }

    /// Counts what they decide, as [`Policy::measured`]; no tier is a label.
    #[must_use]
    pub fn measured(self, meter: &Meter) -> Self {
        let other = self.other.measured(meter);
        let tiers = self.tiers.iter().map(|(name, policy)| {
            let rule = *policy.rule();
            (name.clone(), other.with_rule(rule))
        });
        Self {
            tiers: tiers.collect(),
            other,
        }
    }

    /// The policy of a caller with this tier.
    pub fn of(&self, tier: Option<&Tier>) -> &Policy {
        let named = tier.and_then(|tier| {
            let mut tiers = self.tiers.iter();
            tiers.find(|(name, _)| **name == *tier.as_str())
        });
        named.map_or(&self.other, |(_, policy)| policy)
    }
}
