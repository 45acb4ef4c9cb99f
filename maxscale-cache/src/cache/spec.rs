use std::time::Duration;

/// What a cache holds and for how long.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct CacheSpec {
    pub(crate) kind: &'static str,
    pub(crate) version: u32,
    pub(crate) l1_ttl: Duration,
    pub(crate) l2_ttl: Duration,
    pub(crate) absent_ttl: Duration,
    pub(crate) while_revalidating: Duration,
    pub(crate) if_error: Duration,
    pub(crate) patience: Option<Duration>,
    pub(crate) jitter_percent: u8,
    pub(crate) early: bool,
}

// === impl CacheSpec ===

impl CacheSpec {
    /// How long a process serves a value from its memory when nothing else is given.
    pub const DEFAULT_L1_TTL: Duration = Duration::from_secs(60);
    /// How long a value is fresh when nothing else is given.
    pub const DEFAULT_L2_TTL: Duration = Duration::from_secs(3_600);
    /// By how much lives of values differ when nothing else is given, in percent.
    pub const DEFAULT_JITTER_PERCENT: u8 = 10;

    /// The values of type `kind` in the form numbered `version`.
    ///
    /// Raise the version whenever the encoded form changes: values of other
    /// versions are then never read.
    pub const fn new(kind: &'static str, version: u32) -> Self {
        Self {
            kind,
            version,
            l1_ttl: Self::DEFAULT_L1_TTL,
            l2_ttl: Self::DEFAULT_L2_TTL,
            absent_ttl: Duration::ZERO,
            while_revalidating: Duration::ZERO,
            if_error: Duration::ZERO,
            patience: None,
            jitter_percent: Self::DEFAULT_JITTER_PERCENT,
            early: false,
        }
    }

    /// Sets how long a process serves a value from its memory without asking
    /// L2 whether it is still the one. Zero keeps nothing in memory.
    ///
    /// Default: [`CacheSpec::DEFAULT_L1_TTL`].
    pub const fn l1_ttl(mut self, ttl: Duration) -> Self {
        self.l1_ttl = ttl;
        self
    }

    /// Sets how long a value is fresh after its load, in L2 and in any process.
    /// Zero keeps nothing in L2.
    ///
    /// Default: [`CacheSpec::DEFAULT_L2_TTL`].
    pub const fn l2_ttl(mut self, ttl: Duration) -> Self {
        self.l2_ttl = ttl;
        self
    }

    /// Sets how long it is kept that there is no such value.
    ///
    /// Default: zero, it is not kept.
    pub const fn absent_ttl(mut self, ttl: Duration) -> Self {
        self.absent_ttl = ttl;
        self
    }

    /// Serves a value for so long after it was fresh, while a load in the
    /// background gets a new one. One that was invalidated is never served.
    ///
    /// Default: zero.
    pub const fn stale_while_revalidating(mut self, window: Duration) -> Self {
        self.while_revalidating = window;
        self
    }

    /// Serves a value for so long after it was fresh, if no new one can be
    /// loaded. One that was invalidated is never served.
    ///
    /// Default: zero.
    pub const fn stale_if_error(mut self, window: Duration) -> Self {
        self.if_error = window;
        self
    }

    /// Sets how long callers wait for a load if there is a value that may be
    /// served [in case of an error](Self::stale_if_error); they get it then,
    /// and the load goes on. The hub's
    /// [`load_timeout`](crate::HubBuilder::load_timeout) ends it.
    ///
    /// Default: as long as the load takes.
    pub const fn patience(mut self, wait: Duration) -> Self {
        self.patience = Some(wait);
        self
    }

    /// Shortens each value's life by up to so many percent, drawn by chance,
    /// so that values that were loaded at once do not end at once.
    ///
    /// Default: [`CacheSpec::DEFAULT_JITTER_PERCENT`]; at most 50.
    pub const fn jitter_percent(mut self, percent: u8) -> Self {
        self.jitter_percent = if percent > 50 { 50 } else { percent };
        self
    }

    /// Loads a value again in the background a little before its end, the
    /// earlier the longer its load took, drawn by chance for each read
    /// ([XFetch](https://www.vldb.org/pvldb/vol8/p886-vattani.pdf)). A value
    /// that many read is then never missing.
    ///
    /// Default: off.
    pub const fn refresh_early(mut self) -> Self {
        self.early = true;
        self
    }

    /// How long a value may be of use after it was fresh.
    pub(crate) fn stale_window(&self) -> Duration {
        self.while_revalidating.max(self.if_error)
    }

    /// The longest that a value lives in L2.
    pub(crate) fn longest(&self) -> Duration {
        let fresh = self.l2_ttl.max(self.absent_ttl);
        fresh.saturating_add(self.stale_window())
    }
}
