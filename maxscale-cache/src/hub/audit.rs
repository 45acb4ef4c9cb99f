//! Whether old values are gone where they have to be: some of what was
//! invalidated is looked at again.
//!
//! A look asks both tiers of this process, as late as nothing older than the
//! invalidation may be served any more, and once more later. It finds what the
//! rest of this crate failed to do, and what an L2 does that breaks its promises.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::Shared;
use crate::far::FarRead;
use crate::key;
use crate::l1::State;
use crate::remote::{Bumped, Fence};
use crate::schemas::Schema;

/// When one looks, after the invalidation. The first is the bound that other
/// processes have.
const LOOKS: [Duration; 2] = [Duration::from_millis(1_500), Duration::from_secs(10)];

/// Invalidations that are looked after at once; as many wait, others go unseen.
const AT_ONCE: usize = 64;

/// Chooses what is looked at.
#[derive(Debug)]
pub(crate) struct Audit {
    one_in: NonZeroU32,
    seen: AtomicU32,
    samples: mpsc::Sender<Sample>,
}

/// An invalidation to look after.
#[derive(Debug)]
pub(crate) struct Sample {
    at: Instant,
    kind: String,
    part: String,
    /// The fences since then, if they are known.
    bumped: Vec<(String, Bumped)>,
}

/// A key, and what a value under it has to be as new as.
struct Watch {
    schema: Arc<Schema>,
    key: String,
    least: Fence,
}

// === impl Audit ===

impl Audit {
    pub(super) fn new(one_in: NonZeroU32) -> (Self, mpsc::Receiver<Sample>) {
        let (samples, taken) = mpsc::channel(AT_ONCE);
        let audit = Self {
            one_in,
            seen: AtomicU32::new(0),
            samples,
        };
        (audit, taken)
    }

    /// Notes that a value was dropped; `bumped` is empty if that was only heard.
    pub(super) fn sample(&self, kind: &str, part: &str, bumped: &[(String, Bumped)]) {
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        if !seen.is_multiple_of(self.one_in.get()) {
            return;
        }
        // If there is no room, enough others are looked after.
        let _ = self.samples.try_send(Sample {
            at: Instant::now(),
            kind: kind.to_owned(),
            part: part.to_owned(),
            bumped: bumped.to_vec(),
        });
    }
}

// === impl Shared ===

impl Shared {
    pub(super) async fn keep_auditing(&self, samples: mpsc::Receiver<Sample>) {
        let samples = stream::unfold(samples, |mut samples| async {
            Some((samples.recv().await?, samples))
        });
        let look = |sample| self.look_after(sample);
        samples.for_each_concurrent(AT_ONCE, look).await;
    }

    async fn look_after(&self, sample: Sample) {
        let mut watches = Vec::new();
        for schema in self.far.schemas.own(&sample.kind) {
            let key = key::of_parts(&self.far.prefix, &sample.kind, &sample.part, schema.version);
            let known = sample.bumped.iter().find(|(bumped, _)| *bumped == key);
            let least = match known {
                Some((_, bumped)) => Some(bumped.fence),
                None => self.far.fence_now(&key).await,
            };
            // Without a fence there is nothing to compare with.
            watches.extend(least.map(|least| Watch { schema, key, least }));
        }
        for wait in LOOKS {
            sleep_until(sample.at + wait).await;
            for watch in &watches {
                self.look(watch, &sample.part).await;
            }
        }
    }

    async fn look(&self, watch: &Watch, part: &str) {
        let near = self.l1.get(&self.probe(&watch.schema, part));
        // It counts as believed for as long as a cache may be set to.
        let near = near.filter(|entry| self.state(entry, u64::MAX) == State::Fresh);
        let near = near.and_then(|entry| entry.fence);
        let far = match self.far.read(&watch.key, &watch.schema).await {
            FarRead::Hit(envelope, _) => Some(envelope.fence),
            FarRead::Miss | FarRead::Off => None,
        };
        self.counters.audited.add(1);
        for (tier, fence) in [("l1", near), ("l2", far)] {
            if fence.is_some_and(|fence| is_older(fence, watch.least)) {
                self.counters.audited_old.add(1);
                let kind = &*watch.schema.kind;
                tracing::error!(kind, tier, "a value outlived its invalidation");
            }
        }
    }
}

fn is_older(fence: Fence, least: Fence) -> bool {
    fence.lineage() == least.lineage() && fence.get() < least.get()
}
