//! Gives the sink what is due, one call at a time.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use maxscale_core::control::Backoff;
use maxscale_core::{BoxError, Chain};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::buffer::{Refused, Taken};
use super::hold::Hold;
use super::sink::{Bury, DeadLetter, Op, SinkError, Write};
use super::stats::Counters;
use super::unwritten::{Held, Unwritten};
use crate::cache::draw;

pub(super) struct Flush<V> {
    pub(super) unwritten: Arc<Unwritten<V>>,
    pub(super) hold: Hold,
    pub(super) write: Write<V>,
    pub(super) bury: Bury<V>,
    pub(super) batch: usize,
    pub(super) refusals: u32,
    pub(super) backoff: Backoff,
    pub(super) counters: Counters,
}

type One<V> = Taken<Arc<Held<V>>>;

// === impl Flush ===

impl<V> Flush<V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Ends by itself only when the journal is somebody else's.
    pub(super) async fn run(self) {
        let mut failed = 0_u32;
        while self.hold.wait().await {
            let taken = self.unwritten.take(self.batch);
            if taken.is_empty() {
                self.unwritten.until_due().await;
            } else if self.write_all(taken).await {
                failed = 0;
            } else {
                failed = failed.saturating_add(1);
                let wait = self.backoff.wait(failed, draw());
                if self.unwritten.pause(wait).await {
                    // Time is short from now on.
                    failed = 0;
                }
            }
        }
    }

    /// Writes what was taken, in parts if the sink refuses it. False if the
    /// sink writes nothing now.
    async fn write_all(&self, taken: Vec<One<V>>) -> bool {
        let mut parts = vec![taken];
        while self.hold.wait().await
            && let Some(mut part) = parts.pop()
        {
            match self.call(&part).await {
                Ok(()) => self.confirm(part).await,
                Err(SinkError::Unavailable(error)) => {
                    tracing::warn!(error = %Chain(&*error), "the sink cannot write now");
                    self.counters.unavailable.add(1);
                    for one in parts.iter().flatten().chain(&part) {
                        self.unwritten.put_back(one, Duration::ZERO);
                    }
                    return false;
                }
                Err(SinkError::Refused(error)) => {
                    if part.len() == 1 {
                        self.refused(part.remove(0), error).await;
                    } else {
                        parts.push(part.split_off(part.len() / 2));
                        parts.push(part);
                    }
                }
            }
        }
        true
    }

    async fn call(&self, part: &[One<V>]) -> Result<(), SinkError> {
        let ops = part.iter().map(Op::of).collect();
        let call = async { (self.write)(ops).await };
        // Some value may be the reason, and must not end all writing.
        let ended = AssertUnwindSafe(call).catch_unwind().await;
        ended.unwrap_or_else(|_| Err(SinkError::Refused("the sink panicked".into())))
    }

    /// The sink has it: others may know, and then it needs no pin any more.
    async fn confirm(&self, part: Vec<One<V>>) {
        let told = part.iter().map(|one| {
            let cache = &self.unwritten.cache;
            cache.tell(&one.id, one.value.value.clone())
        });
        join_all(told).await;
        self.counters
            .written
            .add(u64::try_from(part.len()).unwrap_or(0));
        for one in &part {
            self.unwritten.settle(one);
        }
    }

    async fn refused(&self, one: One<V>, error: BoxError) {
        self.counters.refused.add(1);
        let wait = |refusals| self.backoff.wait(refusals, draw());
        let id = &*one.id;
        tracing::warn!(id, version = one.version, error = %Chain(&*error), "the sink refused a value");
        if self.unwritten.refuse(&one, self.refusals, wait) != Refused::Dead
            || !self.hold.wait().await
        {
            return;
        }
        let letter = DeadLetter {
            op: Op::of(&one),
            error,
        };
        let bury = async { (self.bury)(letter).await };
        let ended = AssertUnwindSafe(bury).catch_unwind().await;
        let ended = ended.unwrap_or_else(|_| Err("the receiver of dead letters panicked".into()));
        if let Err(error) = ended {
            tracing::error!(id, error = %Chain(&*error), "a dead letter was not taken");
            let wait = self.backoff.wait(self.refusals, draw());
            return self.unwritten.put_back(&one, wait);
        }
        self.counters.buried.add(1);
        // What the source has instead is what counts from now on.
        let _ = self.unwritten.cache.invalidate(id).await;
        self.unwritten.settle(&one);
    }
}
