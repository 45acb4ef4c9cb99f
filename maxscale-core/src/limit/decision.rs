use std::time::Duration;

#[cfg(feature = "redis")]
use super::{Charge, lease::Left};
use super::{Policy, Status};

/// Whether a request is within all policies that it was checked by.
#[derive(Clone, Debug)]
pub struct Decision {
    standings: Standings,
    allowed: bool,
    source: Source,
}

/// One costs no allocation.
#[derive(Clone, Debug)]
enum Standings {
    One([Standing; 1]),
    Several(Vec<Standing>),
}

/// How one policy stands after a decision.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Standing {
    /// The policy.
    pub policy: Policy,
    /// What is left of it.
    pub status: Status,
    /// Whether the policy had room for the request.
    pub allowed: bool,
}

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Source {
    /// This process, from tokens that it had taken from the store ahead.
    Lease,
    /// The store that all processes share, or the only one there is.
    Store,
    /// This process, from what the store said of a denial a moment ago.
    DenyCache,
    /// This process, because the store cannot be asked.
    Fallback,
}

// === impl Source ===

impl Source {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Store => "store",
            Self::DenyCache => "deny-cache",
            Self::Fallback => "fallback",
        }
    }
}

// === impl Standings ===

impl Standings {
    const fn as_slice(&self) -> &[Standing] {
        match self {
            Self::One(one) => one,
            Self::Several(several) => several.as_slice(),
        }
    }
}

// === impl Standing ===

impl Standing {
    /// Admitted by tokens that were there.
    #[cfg(feature = "redis")]
    #[inline]
    pub(super) const fn leased(policy: Policy, left: Left) -> Self {
        Self {
            policy,
            status: left.status(),
            allowed: true,
        }
    }

    /// Of a policy that nobody was asked about.
    #[cfg(feature = "redis")]
    pub(super) fn told(charge: &Charge, retry_after: Option<Duration>) -> Self {
        Self {
            policy: charge.policy.clone(),
            status: Status {
                remaining: match retry_after {
                    Some(Duration::ZERO) => charge.policy.rule().most(),
                    _ => 0,
                },
                retry_after,
                reset: retry_after.unwrap_or_default(),
            },
            allowed: retry_after == Some(Duration::ZERO),
        }
    }
}

// === impl Decision ===

impl Decision {
    pub(super) fn new(standings: Vec<Standing>, source: Source) -> Self {
        Self::of(Standings::Several(standings), source)
    }

    /// By one policy.
    pub(super) fn one(standing: Standing, source: Source) -> Self {
        Self::of(Standings::One([standing]), source)
    }

    /// Admitted by tokens that were there.
    #[cfg(feature = "redis")]
    #[inline]
    pub(super) const fn leased(policy: Policy, left: Left) -> Self {
        Self {
            standings: Standings::One([Standing::leased(policy, left)]),
            allowed: true,
            source: Source::Lease,
        }
    }

    /// A request is denied if any policy without a shadow had no room.
    fn of(standings: Standings, source: Source) -> Self {
        let allowed = standings
            .as_slice()
            .iter()
            .all(|one| one.allowed || one.policy.is_shadow());
        Self {
            standings,
            allowed,
            source,
        }
    }

    /// Whether the request may go on.
    pub const fn is_allowed(&self) -> bool {
        self.allowed
    }

    pub(super) fn into_standings(self) -> Vec<Standing> {
        match self.standings {
            Standings::One(one) => one.into(),
            Standings::Several(several) => several,
        }
    }

    /// How each policy stands.
    pub fn standings(&self) -> &[Standing] {
        self.standings.as_slice()
    }

    /// The policy by which the request was denied and has to wait longest.
    pub fn denied_by(&self) -> Option<&Standing> {
        let denying = |one: &&Standing| !one.allowed && !one.policy.is_shadow();
        // None is never, which is longer than any time.
        let wait = |one: &&Standing| one.status.retry_after.unwrap_or(Duration::MAX);
        self.standings().iter().filter(denying).max_by_key(wait)
    }

    /// The time until the request would be admitted, if no other comes: zero if it
    /// is, none if it never will be.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.denied_by() {
            Some(standing) => standing.status.retry_after,
            None => Some(Duration::ZERO),
        }
    }

    /// Who decided.
    pub const fn source(&self) -> Source {
        self.source
    }
}
