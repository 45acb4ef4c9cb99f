//! Whether a server answers: what calls find on their way, and checks of its own.
//!
//! ```text
//!  call reset, refused ──────────────┐ counted
//!  call waits 200 ms, or is dropped ─┴─> checks ── three in a row fail ──> suspect
//!                                          ^                                 │
//!                                          └──── one succeeds: well again <──┘
//! ```
//!
//! Silence alone proves nothing: a statement may be slow, a deadline short. So
//! it starts a check, a connection of its own with a limit of its own. While
//! the server is suspect the same task goes on to check, and no call is the probe.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use maxscale_core::control::{Breaker, BreakerConfig};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use crate::router::WritesRefused;

use super::health::{Failure, Health, KnownDown};

/// A call that waits for longer has the server checked.
const DOUBT: Duration = Duration::from_millis(200);

/// A server that was found well is not checked again sooner because of silence.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The longest pause between checks of a server that is away.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// What a call looks at first.
mod state {
    /// Nothing failed since the last answer.
    pub(super) const WELL: u8 = 0;
    /// Something did, not yet often enough.
    pub(super) const FAILING: u8 = 1;
    /// Calls are refused.
    pub(super) const SUSPECT: u8 = 2;
}

/// Writes are taken.
const WRITES: u8 = 0;

/// Nobody has looked yet whether it is the primary.
const UNSEEN: u8 = 3;

/// What a check finds: None if the server answered, whatever it said.
pub(crate) type Found = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// Makes a check, which ends in a time of its own.
pub(crate) type Check = Box<dyn Fn() -> Found + Send + Sync>;

/// One server's pulse, shared by all that calls it.
pub(crate) struct Pulse {
    name: Arc<str>,
    check: Check,
    /// Follows what `known` says, for whoever does not want to lock.
    state: AtomicU8,
    known: Mutex<Known>,
    /// Tells those who wait that the server became suspect.
    suspected: Notify,
    /// Tells who watches the node that it may have another primary.
    role_doubted: Arc<Notify>,
    /// Why nothing is written to the server, or [`WRITES`].
    refuses: Arc<AtomicU8>,
    /// Tells those who wait for the first look that it was made.
    seen: Arc<Notify>,
}

struct Known {
    breaker: Breaker,
    suspect_since: Option<Instant>,
    last_failure: Option<Failure>,
    /// Whether a task checks.
    checking: bool,
    /// When a check last found the server well.
    checked: Option<Instant>,
    closed: bool,
}

/// The one task that checks a server; another may begin when it is gone.
struct Checking(Weak<Pulse>);

/// Somebody who waits for an answer. Dropped before it came, it has the server checked.
struct Waiting<'p> {
    pulse: Option<&'p Arc<Pulse>>,
}

/// Waits for `answer` no longer than `patience`; one that is long in coming has
/// the server checked.
pub(crate) async fn answer_within<T>(
    pulse: Option<&Arc<Pulse>>,
    patience: Duration,
    mut answer: Pin<&mut impl Future<Output = T>>,
) -> Option<T> {
    let mut waiting = Waiting { pulse };
    if let Ok(answer) = timeout(patience.min(DOUBT), answer.as_mut()).await {
        waiting.pulse = None;
        return Some(answer);
    }
    // The end of this says nothing new.
    drop(waiting);
    let left = patience.checked_sub(DOUBT)?;
    timeout(left, answer).await.ok()
}

// === impl Pulse ===

impl Pulse {
    pub(crate) fn new(name: Arc<str>, check: Check) -> Arc<Self> {
        let refuses = Arc::new(AtomicU8::new(WRITES));
        Self::with(name, check, refuses, Arc::default(), Arc::default())
    }

    /// Another one of the same server: whether that answers is found out anew, whether
    /// it takes writes is known.
    pub(crate) fn apart(&self, check: Check) -> Arc<Self> {
        let (refuses, seen) = (self.refuses.clone(), self.seen.clone());
        let role_doubted = self.role_doubted.clone();
        Self::with(self.name.clone(), check, refuses, seen, role_doubted)
    }

    fn with(
        name: Arc<str>,
        check: Check,
        refuses: Arc<AtomicU8>,
        seen: Arc<Notify>,
        role_doubted: Arc<Notify>,
    ) -> Arc<Self> {
        let known = Known {
            breaker: Breaker::new(BreakerConfig::default()),
            suspect_since: None,
            last_failure: None,
            checking: false,
            checked: None,
            closed: false,
        };
        Arc::new(Self {
            name,
            check,
            state: AtomicU8::new(state::WELL),
            known: Mutex::new(known),
            suspected: Notify::new(),
            role_doubted,
            refuses,
            seen,
        })
    }

    /// What is known.
    pub(crate) fn health(&self) -> Health {
        let known = self.known();
        Health {
            suspect_since: known.suspect_since,
            last_failure: known.last_failure.clone(),
            writes_refused: self.refuses_writes(),
        }
    }

    /// Waits for `connection`, unless the server is or becomes suspect.
    pub(crate) async fn admit<T>(
        self: &Arc<Self>,
        mut connection: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, KnownDown> {
        if self.state.load(Ordering::Relaxed) == state::SUSPECT
            && let Some(down) = self.refusal()
        {
            return Err(down);
        }
        // Most connections are had without waiting.
        let at_once = poll_fn(|cx| match connection.as_mut().poll(cx) {
            Poll::Ready(had) => Poll::Ready(Some(had)),
            Poll::Pending => Poll::Ready(None),
        });
        match at_once.await {
            Some(had) => Ok(had),
            None => self.unless_suspected(connection).await,
        }
    }

    async fn unless_suspected<T>(
        self: &Arc<Self>,
        connection: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, KnownDown> {
        let mut had = pin!(answer_within(Some(self), Duration::MAX, connection));
        loop {
            let mut suspected = pin!(self.suspected.notified());
            // From here on nothing is missed.
            suspected.as_mut().enable();
            if let Some(down) = self.refusal() {
                return Err(down);
            }
            let first = poll_fn(|cx| match had.as_mut().poll(cx) {
                Poll::Ready(had) => Poll::Ready(had),
                Poll::Pending => suspected.as_mut().poll(cx).map(|()| None),
            });
            if let Some(had) = first.await {
                return Ok(had);
            }
        }
    }

    /// Why a call is refused, if it is.
    fn refusal(self: &Arc<Self>) -> Option<KnownDown> {
        let known = self.known();
        let down = KnownDown {
            since: known.suspect_since?,
            last_failure: known.last_failure.clone(),
        };
        // The task may have ended with the runtime that it ran on.
        self.begin_to_check(known);
        Some(down)
    }

    /// The server answered.
    pub(crate) fn heard(&self) {
        if self.state.load(Ordering::Relaxed) == state::WELL {
            return;
        }
        let mut known = self.known();
        let back = known.breaker.succeeded();
        self.state.store(state::WELL, Ordering::Relaxed);
        let since = known.suspect_since.take();
        drop(known);
        if back && let Some(since) = since {
            let away = since.elapsed();
            tracing::info!(database = &*self.name, ?away, "server is back");
        }
    }

    /// The server could not be reached.
    pub(crate) fn failed(self: &Arc<Self>, why: String) {
        let mut known = self.known();
        let at = Instant::now();
        let why: Arc<str> = why.into();
        let opens = known.breaker.failed(at);
        known.last_failure = Some(Failure {
            at,
            why: why.clone(),
        });
        if !opens {
            if !known.breaker.is_open() {
                self.state.store(state::FAILING, Ordering::Relaxed);
            }
            return;
        }
        known.suspect_since = Some(at);
        self.state.store(state::SUSPECT, Ordering::Relaxed);
        self.begin_to_check(known);
        tracing::warn!(
            database = &*self.name,
            error = &*why,
            "server is suspect; calls are refused until it answers"
        );
        self.suspected.notify_waiters();
        self.role_doubted.notify_one();
    }

    /// The server says nothing, which may have many reasons: it is checked.
    pub(crate) fn doubt(self: &Arc<Self>) {
        let known = self.known();
        let lately = (known.checked).is_some_and(|checked| checked.elapsed() < CHECK_EVERY);
        if !lately {
            self.begin_to_check(known);
        }
    }

    /// Told when the server took no write, or is suspect.
    pub(crate) fn role_doubted(&self) -> &Arc<Notify> {
        &self.role_doubted
    }

    /// Refuses writes from now on, or takes them.
    pub(crate) fn refuse_writes(&self, why: Option<WritesRefused>) {
        let why = match why {
            None => WRITES,
            Some(WritesRefused::TwoPrimaries) => 1,
            Some(WritesRefused::FormerPrimary) => 2,
            Some(WritesRefused::Unseen) => UNSEEN,
        };
        if self.refuses.swap(why, Ordering::AcqRel) == UNSEEN && why != UNSEEN {
            self.seen.notify_waiters();
        }
    }

    /// Waits for the first look, which says whether it takes writes.
    pub(crate) async fn seen(&self) {
        let mut seen = pin!(self.seen.notified());
        // From here on nothing is missed.
        seen.as_mut().enable();
        if self.refuses_writes() == Some(WritesRefused::Unseen) {
            seen.await;
        }
    }

    /// Why writes are refused, if they are.
    pub(crate) fn refuses_writes(&self) -> Option<WritesRefused> {
        match self.refuses.load(Ordering::Acquire) {
            WRITES => None,
            1 => Some(WritesRefused::TwoPrimaries),
            2 => Some(WritesRefused::FormerPrimary),
            _ => Some(WritesRefused::Unseen),
        }
    }

    /// Checks nothing from now on.
    pub(crate) fn close(&self) {
        self.known().closed = true;
    }

    fn begin_to_check(self: &Arc<Self>, mut known: MutexGuard<'_, Known>) {
        if known.checking || known.closed {
            return;
        }
        // Outside a runtime, a later call begins.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        known.checking = true;
        // A runtime that ends drops the task at once, which locks again.
        drop(known);
        runtime.spawn(Checking(Arc::downgrade(self)).run());
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it is held.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The check knows a password.
        f.debug_struct("Pulse")
            .field("name", &self.name)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

// === impl Checking ===

impl Checking {
    /// Checks until the server answers, or calls do not need it any more.
    async fn run(self) {
        let config = BreakerConfig::default();
        let (mut pause, mut left) = (config.probe_every, config.failures);
        // Nobody is kept alive while this waits.
        while let Some(found) = self.0.upgrade().map(|pulse| (pulse.check)()) {
            let next = Instant::now() + pause;
            let found = found.await;
            let Some(pulse) = self.0.upgrade() else {
                return;
            };
            let Some(why) = found else {
                pulse.known().checked = Some(Instant::now());
                pulse.heard();
                return;
            };
            pulse.failed(why);
            drop(pulse);
            // A server that starts refuses three times in a moment.
            sleep_until(next).await;
            left = left.saturating_sub(1);
            if !self.is_needed(left) {
                return;
            }
            if left == 0 {
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Whether the server is suspect still, or may become so in the checks that are `left`.
    fn is_needed(&self, left: u32) -> bool {
        let pulse = self.0.upgrade();
        pulse.is_some_and(|pulse| {
            let known = pulse.known();
            (known.suspect_since.is_some() || left > 0) && !known.closed
        })
    }
}

impl Drop for Checking {
    fn drop(&mut self) {
        if let Some(pulse) = self.0.upgrade() {
            pulse.known().checking = false;
        }
    }
}

// === impl Waiting ===

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(pulse) = self.pulse {
            pulse.doubt();
        }
    }
}

#[cfg(test)]
mod tests;
