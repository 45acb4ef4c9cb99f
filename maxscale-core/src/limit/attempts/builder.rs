use std::time::Duration;

use super::bucket::{Bounds, Terms};
use super::memory::Memory;
use super::{Attempts, Inner};
use crate::limit::policy::{self, PolicyError};
use crate::limit::{Down, Limits, Log, Policy, Quota, Rule};

/// Builds [`Attempts`]; see [`Attempts::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct AttemptsBuilder {
    name: Box<str>,
    limits: Limits,
    pair: (u32, Duration),
    account: (u32, Duration),
    client: Rule,
    first: Duration,
    longest: Duration,
    known_for: Duration,
    down: Down,
}

/// Attempts that cannot be limited so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttemptsError {
    /// The name is none.
    #[error(transparent)]
    Name(#[from] PolicyError),

    /// Who takes Redis down would guess as often as he likes.
    #[error(
        "attempts are never open while the store is down; let each process admit its share, or none"
    )]
    Open,

    /// Strangers together have fewer attempts than one of them.
    #[error("an account admits {account} attempts of strangers, fewer than of one client")]
    Account {
        /// Those of all strangers together.
        account: u32,
    },

    /// A wait that is none, or never ends.
    #[error("the first wait is at least 1 ms, and the longest no shorter and at most 30 days")]
    Backoff,

    /// A time that is none, or never ends.
    #[error("a client is known for a second to ten years")]
    KnownFor,
}

const DAY: Duration = Duration::from_secs(86_400);

// === impl AttemptsBuilder ===

impl AttemptsBuilder {
    pub(super) fn new(name: &str, limits: &Limits) -> Self {
        Self {
            name: name.into(),
            limits: limits.clone(),
            pair: (Attempts::DEFAULT_PER_PAIR, Attempts::DEFAULT_WINDOW),
            account: (Attempts::DEFAULT_PER_ACCOUNT, Attempts::DEFAULT_WINDOW),
            client: default_client(),
            first: Attempts::DEFAULT_FIRST_WAIT,
            longest: Attempts::DEFAULT_LONGEST_WAIT,
            known_for: Attempts::DEFAULT_KNOWN_FOR,
            down: Down::LocalShare,
        }
    }

    /// Sets how often one client may try one account.
    ///
    /// Default: [`Attempts::DEFAULT_PER_PAIR`] in [`Attempts::DEFAULT_WINDOW`].
    pub const fn per_pair(mut self, log: Log) -> Self {
        self.pair = (log.limit(), log.window());
        self
    }

    /// Sets how often all clients that never succeeded may try one account.
    ///
    /// Default: [`Attempts::DEFAULT_PER_ACCOUNT`] in [`Attempts::DEFAULT_WINDOW`].
    pub const fn per_account(mut self, log: Log) -> Self {
        self.account = (log.limit(), log.window());
        self
    }

    /// Sets how often one client may try accounts where it never succeeded.
    ///
    /// Default: [`Attempts::DEFAULT_PER_CLIENT`] in [`Attempts::DEFAULT_WINDOW`], as
    /// a quota.
    pub fn per_client(mut self, rule: impl Into<Rule>) -> Self {
        self.client = rule.into();
        self
    }

    /// Sets the wait after the first failure, which doubles with each further one, and
    /// the longest.
    ///
    /// Default: [`Attempts::DEFAULT_FIRST_WAIT`] and [`Attempts::DEFAULT_LONGEST_WAIT`].
    pub const fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.first = first;
        self.longest = longest;
        self
    }

    /// Sets for how long after its last success a client is known to an account.
    ///
    /// Default: [`Attempts::DEFAULT_KNOWN_FOR`].
    pub const fn known_for(mut self, time: Duration) -> Self {
        self.known_for = time;
        self
    }

    /// Sets what is decided while Redis is down; never [`Down::Open`].
    ///
    /// Default: [`Down::LocalShare`], of which each process keeps to itself who failed.
    pub const fn when_down(mut self, down: Down) -> Self {
        self.down = down;
        self
    }

    /// Finishes it.
    ///
    /// # Errors
    ///
    /// [`AttemptsError`] for what would not limit, or would lock out.
    pub fn build(self) -> Result<Attempts, AttemptsError> {
        let (first, longest) = (self.first, self.longest);
        if self.down == Down::Open {
            return Err(AttemptsError::Open);
        }
        if self.account.0 < self.pair.0 {
            return Err(AttemptsError::Account {
                account: self.account.0,
            });
        }
        if first < Duration::from_millis(1) || longest < first || longest > 30 * DAY {
            return Err(AttemptsError::Backoff);
        }
        if self.known_for < Duration::from_secs(1) || self.known_for > 3_660 * DAY {
            return Err(AttemptsError::KnownFor);
        }
        let name = policy::name(&self.name)?;
        let client = Policy::new(&format!("{name}.client"), self.client)?.when_down(self.down);
        // Who guesses has no token more.
        #[cfg(feature = "redis")]
        let client = client.strict();
        let terms = Terms {
            pair: Bounds {
                limit: self.pair.0,
                window: micros(self.pair.1),
                base: micros(first),
                longest: micros(longest),
            },
            strangers: Bounds {
                limit: self.account.0,
                window: micros(self.account.1),
                base: 0,
                longest: 0,
            },
            known: micros(self.known_for),
        };
        let memory = Memory::new(self.limits.0.local.clock());
        Ok(Attempts::of(Inner {
            name,
            terms,
            down: self.down,
            client: client.into(),
            limits: self.limits,
            memory,
        }))
    }
}

fn default_client() -> Rule {
    let quota = Quota::new(Attempts::DEFAULT_PER_CLIENT, Attempts::DEFAULT_WINDOW);
    quota.expect("the default is a quota").into()
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
