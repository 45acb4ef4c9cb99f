//! L2 as the hub uses it: nothing fails because of it.
//!
//! A read that cannot be answered is a miss; a key with an unconfirmed
//! invalidation is not asked for at all.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use maxscale_core::Chain;
use tokio::time::{sleep, timeout};

use crate::envelope;
use crate::pending::{Mark, Pending};
use crate::remote::{DynRemote, Fence, Notice, RemoteError};
use crate::stats::Counters;

/// Invalidations sent at once while catching up.
const FLUSH_WIDTH: usize = 32;

pub(crate) struct Far {
    pub(crate) remote: Box<dyn DynRemote>,
    pub(crate) pending: Pending,
    pub(crate) channel: String,
    pub(crate) timeout: Duration,
    /// How long an old value may live in L2, in milliseconds.
    longest_ttl: AtomicU64,
    counters: Arc<Counters>,
}

/// What L2 says about a key.
pub(crate) enum FarRead {
    /// An encoded value, and the fence it was stored under.
    Hit(Bytes, Fence),
    /// Nothing; a load may fill under this fence.
    Miss(Fence),
    /// L2 is not to be used for the key.
    Off,
}

/// What became of a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// Stored; at that moment no drop of the key had come before.
    Stored,
    /// Refused: the key was dropped since the fence was taken.
    Refused,
    /// Not tried, or unknown.
    Unknown,
}

// === impl Far ===

impl Far {
    pub(crate) fn new(
        remote: Box<dyn DynRemote>,
        pending: Pending,
        channel: String,
        timeout: Duration,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            remote,
            pending,
            channel,
            timeout,
            longest_ttl: AtomicU64::new(0),
            counters,
        }
    }

    /// Notes that values may live for `ttl` (plus what a load takes).
    pub(crate) fn allow_ttl(&self, ttl: Duration) {
        let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        self.longest_ttl.fetch_max(millis, Ordering::SeqCst);
    }

    pub(crate) async fn read(&self, key: &str) -> FarRead {
        if self.pending.bars(key) {
            return FarRead::Off;
        }
        match self.answer("read", self.remote.read(key)).await {
            None => FarRead::Off,
            Some((None, fence)) => FarRead::Miss(fence),
            Some((Some(sealed), fence)) => match envelope::open(key, &sealed) {
                Some(value) => FarRead::Hit(sealed.slice_ref(value), fence),
                None => FarRead::Miss(fence),
            },
        }
    }

    pub(crate) async fn fill(
        &self,
        key: &str,
        fence: Fence,
        value: &[u8],
        ttl: Duration,
    ) -> Filled {
        if ttl < Duration::from_millis(1) || self.pending.bars(key) {
            return Filled::Unknown;
        }
        let sealed = envelope::seal(key, value);
        let fill = self.remote.fill(key, fence, sealed, ttl);
        match self.answer("fill", fill).await {
            Some(true) => Filled::Stored,
            Some(false) => Filled::Refused,
            None => Filled::Unknown,
        }
    }

    /// Marks `key`; from now on this process does not use L2 for it.
    pub(crate) fn mark(&self, key: Arc<str>, message: Arc<str>) -> Mark<'_> {
        let off = Duration::from_millis(self.longest_ttl.load(Ordering::SeqCst));
        self.pending.mark(key, message, off)
    }

    /// Sends a marked invalidation. True once L2 has confirmed it.
    pub(crate) async fn send(&self, mark: Mark<'_>) -> bool {
        let notice = Notice::new(&self.channel, &mark.message);
        let bump = self.remote.bump(&mark.key, notice);
        let confirmed = self.answer("bump", bump).await.is_some();
        if confirmed {
            mark.confirm();
        }
        confirmed
    }

    /// Sends what is due. True once nothing is.
    pub(crate) async fn flush(&self) -> bool {
        let mut due = self.pending.take_due();
        while !due.is_empty() {
            let rest = due.split_off(due.len().min(FLUSH_WIDTH));
            let sent = join_all(due.into_iter().map(|mark| self.send(mark))).await;
            if sent.contains(&false) {
                return false;
            }
            due = rest;
        }
        true
    }

    /// Keeps sending what is due, every `pause` or when `hurry` ends, until it is confirmed.
    pub(crate) async fn keep_flushing(&self, pause: Duration, hurry: &tokio::sync::Notify) {
        loop {
            self.pending.due.notified().await;
            while !self.flush().await {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = hurry.notified() => {}
                }
            }
        }
    }

    async fn answer<T>(
        &self,
        step: &'static str,
        call: impl Future<Output = Result<T, RemoteError>>,
    ) -> Option<T> {
        let answer = timeout(self.timeout, call).await;
        match answer.unwrap_or(Err(RemoteError::TimedOut)) {
            Ok(answer) => Some(answer),
            Err(error) => {
                self.counters.remote_errors.add(1);
                tracing::debug!(step, error = %Chain(&error), "L2 did not answer");
                None
            }
        }
    }
}
