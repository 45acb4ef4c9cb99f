use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::config::PasswordPoolConfig;
use super::cost::HashCost;
use super::job::{Caller, Job, Ticket};
use super::memory::Memory;
use super::meters::Meters;
use super::nobody::Nobody;
use super::policy::{NewPassword, PasswordPolicy};
use super::queue::{Queue, Refused};
#[cfg(feature = "bcrypt")]
use super::scheme::Wrapped;
use super::scheme::{Argon, Scheme, Stored};
use super::typed::Typed;
use super::verified::{Upgrade, Upgraded, Verified};
use super::worker::Worker;
use crate::error::AuthError;

/// The longest wait that makes sense; beyond it there is no such instant.
const LONGEST: Duration = Duration::from_secs(86_400);

/// The longest that the first hash waits for its thread.
const STARTING: Duration = Duration::from_secs(60);

/// Hashes and checks passwords, a few at a time. Cheap to clone.
///
/// Each of [`PasswordPoolConfig::threads`] threads has the memory of one hash
/// and hashes one password after the other, so memory and processors are bounded
/// whoever asks. Who would wait longer than [`PasswordPoolConfig::wait`], or finds
/// [`PasswordPoolConfig::queue`] others waiting, gets [`AuthError::Busy`].
///
/// Threads without work give their memory back after 10 s. They end with the last
/// clone, or by [`shutdown`](Self::shutdown).
///
/// # Cancellation
///
/// A dropped call whose hash has not begun is not hashed. One that has begun goes
/// on to its end; its thread takes no other work until then.
#[derive(Clone, Debug)]
pub struct PasswordPool {
    inner: Arc<Inner>,
    /// Verified against when there is no account, so that both cost the same.
    nobody: Arc<Stored>,
    slowest: Duration,
    policy: PasswordPolicy,
}

#[derive(Debug)]
struct Inner {
    queue: Arc<Queue>,
    threads: u32,
    ended: Arc<Semaphore>,
    wait: Duration,
    cost: HashCost,
    meters: Meters,
}

// === impl PasswordPool ===

impl PasswordPool {
    /// A pool with nothing running; hashes a few times to have a hash of nobody and its time.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError`] without randomness, for a cost of older hashes that is
    /// beyond what is ever checked, or where the system gives no
    /// threads or no memory for a hash.
    pub async fn new(config: PasswordPoolConfig) -> Result<Self, AuthError> {
        let inner = Arc::new(Inner::start(&config)?);
        let nobody = Nobody::hash(&config)?;
        // The threads have just started; on a busy machine that takes its time.
        let begun = inner.run_within(STARTING, move |memory| nobody.slowest(memory));
        let (nobody, slowest) = begun.await?;
        Ok(Self {
            inner,
            nobody: Arc::new(nobody),
            slowest,
            policy: config.policy,
        })
    }

    /// How long the slowest of the hashes in use took when the pool was made, with
    /// nothing beside it.
    pub const fn slowest(&self) -> Duration {
        self.slowest
    }

    /// Which new passwords are taken.
    pub const fn policy(&self) -> &PasswordPolicy {
        &self.policy
    }

    /// Hashes a password that the [policy](Self::policy) has taken.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Busy`].
    pub async fn hash(&self, password: NewPassword) -> Result<String, AuthError> {
        self.hash_of(password.0).await
    }

    /// Whether `password` is the one behind `stored`; `None` costs the same and is never true.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Busy`], or [`AuthError::StoredHash`] for a hash that is of no
    /// known scheme or that costs more than is ever spent on one: after the time that
    /// a verification takes. Who may not learn that there is an account gets the
    /// answer to a wrong password then.
    pub async fn verify(
        &self,
        password: &str,
        stored: Option<&str>,
    ) -> Result<Verified, AuthError> {
        let typed = Typed::new(password);
        let parsed = stored.map(Stored::parse).transpose();
        let (unreadable, parsed) = match parsed {
            Ok(parsed) => (None, parsed),
            Err(error) => (Some(error), None),
        };
        let scheme = parsed.as_ref().map_or(Scheme::Nobody, Stored::scheme);
        let known = parsed.is_some() && typed.fits();
        let against = parsed.map_or_else(|| self.nobody.clone(), Arc::new);
        let check = {
            let (typed, against) = (typed.clone(), against.clone());
            move |memory: &mut Memory| against.is_of(&typed, memory)
        };
        let right = self.inner.run(check).await? && known;
        if let Some(error) = unreadable {
            return Err(error);
        }
        let outdated = right && against.is_outdated(self.inner.cost);
        let from = stored.filter(|_| outdated).map(str::to_owned);
        let upgrade = from.map(|from| Upgrade { typed, from });
        Ok(Verified {
            right,
            scheme,
            upgrade,
        })
    }

    /// Hashes a password that was right as new ones are, to store it in place of the
    /// hash it was checked against. It waits in the queue as others do: call it when
    /// the answer is on its way.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::Busy`]; the next login upgrades then.
    pub async fn upgrade(&self, upgrade: Upgrade) -> Result<Upgraded, AuthError> {
        let to = self.hash_of(upgrade.typed).await?;
        Ok(Upgraded {
            from: upgrade.from,
            to,
        })
    }

    /// Puts argon2id over a stored bcrypt hash, for an account whose owner has not been
    /// back: `None` if it is of another scheme. Its password verifies as before, and
    /// its first login upgrades it.
    ///
    /// Store it by compare-and-set. Run over a table, it takes the pool's threads
    /// one at a time, as each login does.
    ///
    /// # Errors
    ///
    /// Returns [`AuthError::StoredHash`] for what is no hash, or [`AuthError::Busy`].
    #[cfg(feature = "bcrypt")]
    pub async fn wrap(&self, stored: &str) -> Result<Option<Upgraded>, AuthError> {
        let Stored::Bcrypt(hash) = Stored::parse(stored)? else {
            return Ok(None);
        };
        let cost = self.inner.cost;
        let wrapped = self
            .inner
            .run(move |memory| Wrapped::over(hash, cost, memory));
        Ok(Some(Upgraded {
            from: stored.to_owned(),
            to: wrapped.await?.to_string(),
        }))
    }

    /// Takes no more passwords, refuses those that wait, and returns when the running
    /// hashes have ended.
    ///
    /// Dropped, the threads end all the same.
    pub async fn shutdown(&self) {
        self.inner.queue.close();
        // Nobody closes the semaphore.
        let _ended = self.inner.ended.acquire_many(self.inner.threads).await;
    }

    async fn hash_of(&self, typed: Typed) -> Result<String, AuthError> {
        let cost = self.inner.cost;
        let hashed = self
            .inner
            .run(move |memory| Argon::of(typed.normal().as_bytes(), cost, memory));
        Ok(hashed.await?.to_string())
    }
}

// === impl Inner ===

impl Inner {
    fn start(config: &PasswordPoolConfig) -> Result<Self, AuthError> {
        let queue = Arc::new(Queue::new(config.queue.max(1)));
        let threads = u32::try_from(config.threads.max(1)).unwrap_or(u32::MAX);
        let meters = Meters::register(&config.meter);
        Meters::watch(&config.meter, Arc::downgrade(&queue));
        // Made first, so that the threads end if one of them does not start.
        let inner = Self {
            queue,
            threads,
            ended: Arc::new(Semaphore::new(0)),
            wait: config.wait.min(LONGEST),
            cost: config.cost,
            meters,
        };
        for number in 0..config.threads.max(1) {
            let worker = Worker {
                queue: inner.queue.clone(),
                meters: inner.meters.clone(),
                keep: config.cost.params().block_count(),
                ended: inner.ended.clone(),
            };
            let started = worker.start(number);
            started.map_err(|error| AuthError::Hash(error.into()))?;
        }
        Ok(inner)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Memory) -> Result<T, AuthError> + Send + 'static,
    ) -> Result<T, AuthError> {
        self.run_within(self.wait, work).await
    }

    /// Has a thread do `work`, if one is free in time.
    async fn run_within<T: Send + 'static>(
        &self,
        wait: Duration,
        work: impl FnOnce(&mut Memory) -> Result<T, AuthError> + Send + 'static,
    ) -> Result<T, AuthError> {
        let (answer, mut answered) = oneshot::channel();
        let ticket = Ticket::new();
        let queued = Instant::now();
        let deadline = queued + wait;
        let job = Job {
            ticket: ticket.clone(),
            queued,
            deadline,
            work: Box::new(move |memory| {
                // Whoever asked may be gone.
                let _unheard = answer.send(work(memory));
            }),
        };
        match self.queue.push(job) {
            Ok(()) => {}
            Err(Refused::Full) => {
                self.meters.full.add(1);
                return Err(AuthError::Busy);
            }
            Err(Refused::Closed) => return Err(AuthError::Busy),
        }
        let _caller = Caller::new(ticket.clone(), self.meters.left.clone());
        let answer = match timeout_at(deadline, &mut answered).await {
            Ok(answer) => answer,
            Err(_) if ticket.leave() => {
                self.meters.late.add(1);
                return Err(AuthError::Busy);
            }
            // It runs, and ends by itself.
            Err(_) => answered.await,
        };
        match answer {
            Ok(done) => done,
            Err(_) if ticket.has_begun() => Err(AuthError::Hash("the hash panicked".into())),
            // Its thread found it too late, or the pool was closed.
            Err(_) => {
                ticket.leave();
                Err(AuthError::Busy)
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
    }
}

#[cfg(test)]
mod tests;
