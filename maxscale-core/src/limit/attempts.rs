//! Guesses at a secret, such as a password: few, ever slower, and without locking
//! its owner out.

mod bucket;
mod builder;
mod error;
mod memory;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "redis")]
use tokio::task::JoinHandle;

#[cfg(all(test, feature = "redis"))]
pub(super) use bucket::{Book, Bounds, Bucket};
pub(super) use bucket::{Reserved, Terms};
pub use builder::{AttemptsBuilder, AttemptsError};
pub use error::AttemptError;

use super::counts::Counts;
use super::{Charge, Down, Limits, Source};
use crate::meter::Meter;
use memory::Memory;

/// Limits how often somebody may try to prove who he is. Cheap to clone; clones
/// count together, and through Redis with all processes.
///
/// An attempt is reserved before the secret is checked, so that guesses made at once
/// are no more than guesses made one by one; and it counts as failed unless it is
/// told to have [succeeded](Attempt::succeeded). Three things decide:
///
/// - what this client tried at this account: 5 in any 15 minutes, and after each
///   failure a wait, which doubles from a second up to 15 minutes. It stops who
///   guesses from one place, and leaves somebody who mistypes alone.
/// - what all strangers tried at this account: 50 in any 15 minutes. It stops who
///   guesses from thousands of places. A stranger is a client that has not succeeded
///   here for 180 days; whoever has is not asked. So nobody can lock the owner out
///   from where he logs in; from a new place he waits while he is attacked.
/// - what this client, as a stranger, tried at all accounts: 100 in any 15 minutes. It
///   stops who tries one password at each of many accounts.
///
/// A success gives back what it had reserved, and nothing else: with an account of his
/// own nobody regains guesses at others.
///
/// The account is its name as it was typed, normalised, whether there is such an
/// account or not: the answer then does not tell. The client is an address, as
/// [`ByClientIp`](super::ByClientIp) names it, or the id in a cookie that was MACed;
/// never what a client may choose, since each new one begins with nothing tried. Who
/// shares an address with the owner shares his attempts; by cookies they are two.
/// Both are stored as keyed hashes.
///
/// While Redis is down, a process admits its share of these numbers, by what it saw
/// itself, or nothing ([`Down::Closed`]). What it decided then is not told to Redis.
#[derive(Clone, Debug)]
pub struct Attempts {
    inner: Arc<Inner>,
    counts: Option<Counts>,
}

/// An attempt that may be made: check the secret, and say what came of it.
///
/// Dropped, it has failed, which is told in the background. A process that dies says
/// nothing: the attempt counts, without a wait after it.
#[must_use = "dropped, the attempt has failed"]
pub struct Attempt {
    inner: Arc<Inner>,
    whose: Whose,
    reserved: Reserved,
    source: Source,
    /// Whether the client's own bucket has it too.
    charged: bool,
    on_drop: Option<Verdict>,
}

/// Who tries where.
#[derive(Clone, Debug)]
pub(super) struct Whose {
    pub(super) account: Arc<str>,
    pub(super) client: Arc<str>,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Failed,
    Succeeded,
    /// Nothing was checked.
    NotMade,
}

struct Inner {
    name: Arc<str>,
    terms: Terms,
    down: Down,
    client: Charge,
    limits: Limits,
    memory: Memory,
}

/// When to ask again where nothing is known.
const AGAIN: Duration = Duration::from_secs(1);

// === impl Attempts ===

impl Attempts {
    /// How often one client may try one account, when nothing else is set.
    pub const DEFAULT_PER_PAIR: u32 = 5;

    /// How often strangers may try one account, when nothing else is set.
    pub const DEFAULT_PER_ACCOUNT: u32 = 50;

    /// How often a stranger may try any accounts, when nothing else is set.
    pub const DEFAULT_PER_CLIENT: u32 = 100;

    /// In which time, when nothing else is set.
    pub const DEFAULT_WINDOW: Duration = Duration::from_secs(900);

    /// The wait after the first failure, when nothing else is set.
    pub const DEFAULT_FIRST_WAIT: Duration = Duration::from_secs(1);

    /// The longest wait after a failure, when nothing else is set.
    pub const DEFAULT_LONGEST_WAIT: Duration = Duration::from_secs(900);

    /// For how long after a success a client is no stranger, when nothing else is set:
    /// longer than sessions last, after which somebody logs in again.
    pub const DEFAULT_KNOWN_FOR: Duration = Duration::from_secs(180 * 86_400);

    /// Starts attempts that are counted as `limits` count: by this process, or
    /// through Redis. The name is one that a [`Policy`](super::Policy) may have.
    pub fn builder(name: &str, limits: &Limits) -> AttemptsBuilder {
        AttemptsBuilder::new(name, limits)
    }

    fn of(inner: Inner) -> Self {
        Self {
            inner: Arc::new(inner),
            counts: None,
        }
    }

    /// Counts what is decided, as [`Policy::measured`](super::Policy::measured) does.
    /// Once for each name; clones share the counts.
    #[must_use]
    pub fn measured(mut self, meter: &Meter) -> Self {
        self.counts = Some(Counts::register(meter, &self.inner.name));
        self
    }

    /// Reserves an attempt of `client` at `account`. One that is refused counts
    /// nowhere.
    ///
    /// # Errors
    ///
    /// [`AttemptError::TooMany`] with the time after which one would be admitted, if
    /// nobody else tries; [`AttemptError::Unknown`] where nobody may while Redis is
    /// down.
    ///
    /// # Cancellation
    ///
    /// Dropped, it may be counted until its window is over.
    pub async fn begin(&self, account: &str, client: &str) -> Result<Attempt, AttemptError> {
        let whose = Whose {
            account: account.into(),
            client: client.into(),
        };
        let (begun, source) = self.inner.begin(whose).await;
        if let Some(counts) = &self.counts {
            counts.count(begun.is_ok(), source);
        }
        begun
    }
}

// === impl Inner ===

impl Inner {
    async fn begin(self: &Arc<Self>, whose: Whose) -> (Result<Attempt, AttemptError>, Source) {
        let (reserved, source) = self.reserve(&whose).await;
        let mut attempt = match reserved {
            Ok(reserved) => Attempt {
                inner: self.clone(),
                whose,
                reserved,
                source,
                charged: false,
                on_drop: Some(Verdict::NotMade),
            },
            Err(refused) => return (Err(refused), source),
        };
        if !attempt.reserved.known {
            let client = std::slice::from_ref(&self.client);
            let decision = self.limits.check_each(&attempt.whose.client, client).await;
            let source = decision.source();
            if !decision.is_allowed() {
                let closed = source == Source::Fallback && self.down == Down::Closed;
                let wait = decision.retry_after().unwrap_or(AGAIN);
                return (Err(self.refused(closed, wait)), source);
            }
            attempt.charged = source == Source::Store;
        }
        attempt.on_drop = Some(Verdict::Failed);
        (Ok(attempt), source)
    }

    async fn reserve(&self, whose: &Whose) -> (Result<Reserved, AttemptError>, Source) {
        let (reserved, source) = self.ask(whose).await;
        let reserved = match reserved {
            Some(reserved) => reserved.map_err(|wait| {
                let wait = Duration::from_micros(u64::try_from(wait).unwrap_or(0));
                self.refused(false, wait)
            }),
            None => Err(self.refused(true, AGAIN)),
        };
        (reserved, source)
    }

    /// None if nobody may decide.
    #[cfg(feature = "redis")]
    async fn ask(&self, whose: &Whose) -> (Option<Result<Reserved, i64>>, Source) {
        let Some(shared) = &self.limits.0.shared else {
            return (Some(self.memory.begin(whose, &self.terms)), Source::Store);
        };
        // Known here a moment ago; else it is asked for below.
        let denied = shared.denied(&whose.client, std::slice::from_ref(&self.client));
        let waits = denied.into_iter().flatten();
        let wait = waits.filter_map(|it| it.status.retry_after).max();
        let elsewhere = wait.map_or(0, |it| i64::try_from(it.as_micros()).unwrap_or(i64::MAX));
        let asked = (shared.redis).begin_attempt(&self.name, whose, &self.terms, elsewhere);
        match shared.told(asked.await) {
            Some(reserved) => (Some(reserved), Source::Store),
            None if self.down == Down::Closed => (None, Source::Fallback),
            None => {
                let reserved = self.memory.begin(whose, &self.terms_here());
                (Some(reserved), Source::Fallback)
            }
        }
    }

    #[cfg(not(feature = "redis"))]
    #[expect(clippy::unused_async, reason = "nobody else is asked")]
    async fn ask(&self, whose: &Whose) -> (Option<Result<Reserved, i64>>, Source) {
        (Some(self.memory.begin(whose, &self.terms)), Source::Store)
    }

    /// What this process decides by: alone, or while Redis is down.
    fn terms_here(&self) -> Terms {
        #[cfg(feature = "redis")]
        if let Some(shared) = &self.limits.0.shared {
            return self.terms.part(shared.instances());
        }
        self.terms
    }

    fn refused(&self, unknown: bool, retry_after: Duration) -> AttemptError {
        let attempts = (&*self.name).into();
        match unknown {
            true => AttemptError::Unknown {
                attempts,
                retry_after,
            },
            false => AttemptError::TooMany {
                attempts,
                retry_after,
            },
        }
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("name", &self.name)
            .field("terms", &self.terms)
            .field("down", &self.down)
            .finish_non_exhaustive()
    }
}

// === impl Attempt ===

impl Attempt {
    /// Whether the client has succeeded at the account before.
    pub const fn is_known(&self) -> bool {
        self.reserved.known
    }

    /// Who admitted it: [`Source::Fallback`] where this process did, because Redis was
    /// down.
    pub const fn source(&self) -> Source {
        self.source
    }

    /// The secret was right: gives the attempt back, ends the waits after failures,
    /// and knows the client from now on.
    ///
    /// # Cancellation
    ///
    /// Dropped, it goes on in the background.
    pub async fn succeeded(self) {
        self.finish(Verdict::Succeeded).await;
    }

    /// The secret was wrong: gives the wait until the next attempt, if that is known.
    ///
    /// # Cancellation
    ///
    /// Dropped, it goes on in the background.
    pub async fn failed(self) -> Option<Duration> {
        let wait = self.finish(Verdict::Failed).await?;
        Some(Duration::from_micros(u64::try_from(wait).unwrap_or(0)))
    }

    /// The secret was not checked, because something is down or full: gives the
    /// attempt back, and changes nothing else.
    ///
    /// # Cancellation
    ///
    /// Dropped, it goes on in the background.
    pub async fn withdrawn(self) {
        self.finish(Verdict::NotMade).await;
    }

    async fn finish(mut self, verdict: Verdict) -> Option<i64> {
        self.on_drop = None;
        #[cfg(feature = "redis")]
        if let Some(task) = self.settle_there(verdict) {
            return task.await.ok().flatten();
        }
        let wait = self.settle_here(verdict);
        if verdict != Verdict::Failed && self.charged {
            let client = std::slice::from_ref(&self.inner.client);
            (self.inner.limits)
                .give_back(&self.whose.client, client)
                .await;
        }
        Some(wait)
    }

    fn settle_here(&self, verdict: Verdict) -> i64 {
        let (inner, terms) = (&self.inner, self.inner.terms_here());
        (inner.memory).settle(&self.whose, &terms, self.reserved, verdict)
    }

    /// In Redis, by a task, if it was reserved there.
    #[cfg(feature = "redis")]
    fn settle_there(&self, verdict: Verdict) -> Option<JoinHandle<Option<i64>>> {
        let shared = self.inner.limits.0.shared.clone()?;
        if self.source != Source::Store {
            return None;
        }
        let runtime = shared.runtime.clone();
        let (inner, whose) = (self.inner.clone(), self.whose.clone());
        let (reserved, charged) = (self.reserved, self.charged);
        Some(runtime.spawn(async move {
            let Inner { name, terms, .. } = &*inner;
            let settled = (shared.redis).settle_attempt(name, &whose, terms, reserved, verdict);
            let wait = shared.told(settled.await);
            if verdict == Verdict::Succeeded {
                inner.memory.know(&whose, terms);
            }
            if verdict != Verdict::Failed && charged {
                let client = std::slice::from_ref(&inner.client);
                inner.limits.give_back(&whose.client, client).await;
            }
            wait
        }))
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let Some(verdict) = self.on_drop.take() else {
            return;
        };
        #[cfg(feature = "redis")]
        if self.settle_there(verdict).is_some() {
            return;
        }
        self.settle_here(verdict);
    }
}

impl fmt::Debug for Attempt {
    /// Without the account and the client.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("attempts", &self.inner.name)
            .field("known", &self.is_known())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
