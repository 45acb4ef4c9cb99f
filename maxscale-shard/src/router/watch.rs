//! Follows a promotion: looks at all servers of a node while it is used.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

use super::fresh::Fresh;
use super::node::{Endpoint, Inner};
use super::primary::{Known, Seen, Verdict, WritesRefused};
use crate::engine::postgres::{Look, Lookout};

/// After so many looks without a use, nobody looks any more until the next one.
const IDLE_LOOKS: u32 = 60;

/// How often servers are looked at while replicas are read from.
const FRESH_EVERY: Duration = Duration::from_millis(250);

/// For half a minute after the last such read: the next one finds them known.
const EARLY_LOOKS: u32 = 120;

/// However many writes a standby refuses, the servers are not looked at more often.
const SHORTEST: Duration = Duration::from_millis(100);

/// Whether a node is watched, and what that found.
#[derive(Debug, Default)]
pub(super) struct Watch {
    used: AtomicBool,
    running: AtomicBool,
    known: Mutex<Known>,
    /// How many looks are still to be early ones, since somebody asked how fresh
    /// replicas are.
    early: AtomicU32,
    fresh: Mutex<Fresh>,
}

/// The one task that watches a node. It keeps nothing alive but its connections.
struct Watching(Weak<Inner>);

// === impl Watch ===

impl Watch {
    /// Of a node whose servers are `endpoints`; goes on from what is `known`.
    pub(super) fn of(endpoints: &[Endpoint], known: Known) -> Self {
        match endpoints {
            // Nobody would take this back.
            [only] => only.refuse_writes(None),
            // The one that is listed first may have been succeeded long ago.
            several if known.system.is_none() => {
                let unseen = Some(WritesRefused::Unseen);
                several.iter().for_each(|one| one.refuse_writes(unseen));
            }
            _ => {}
        }
        Self {
            known: Mutex::new(known),
            ..Self::default()
        }
    }

    pub(super) fn known(&self) -> Known {
        *self.lock()
    }

    /// How fresh the servers are, from now on looked at often.
    pub(super) fn fresh(&self) -> MutexGuard<'_, Fresh> {
        if self.early.load(Ordering::Relaxed) < EARLY_LOOKS {
            self.early.store(EARLY_LOOKS, Ordering::Relaxed);
        }
        // Nothing panics while it is held.
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it is held.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node is used: it is watched for a while.
    pub(super) fn touch(&self, node: impl FnOnce() -> Weak<Inner>) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        if self.running.load(Ordering::Relaxed) {
            return;
        }
        // Outside a runtime, a later use begins.
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if !self.running.swap(true, Ordering::Relaxed) {
            let watching = Watching(node());
            // Who holds a database of the node waits for the first look, whatever
            // becomes of the node meanwhile.
            let first = watching.0.upgrade();
            runtime.spawn(watching.run(first));
        }
    }
}

// === impl Watching ===

impl Watching {
    async fn run(self, mut first: Option<Arc<Inner>>) {
        let Some(mut lookouts) = first.as_ref().map(|node| node.lookouts()) else {
            return;
        };
        let (mut idle, mut told) = (0, None);
        while idle < IDLE_LOOKS {
            let began = Instant::now();
            let looks = join_all(lookouts.iter_mut().map(Lookout::look)).await;
            let seen: Vec<Seen> = looks.iter().map(|look| look.seen).collect();
            let Some(node) = first.take().or_else(|| self.0.upgrade()) else {
                return;
            };
            node.judge(&seen, &mut told);
            node.take_note(began, &looks);
            idle = match node.watch.used.swap(false, Ordering::Relaxed) {
                true => 0,
                false => idle + 1,
            };
            let primary = node.endpoints[node.primary.load(Ordering::Acquire)].database();
            let (mut every, doubted) = (primary.check_every(), primary.role_doubted());
            let early = node.watch.early.load(Ordering::Relaxed);
            if early > 0 {
                node.watch.early.store(early - 1, Ordering::Relaxed);
                every = every.min(FRESH_EVERY);
            }
            drop(node);
            if let Some(doubted) = doubted {
                let _ = timeout(every, doubted.notified()).await;
            }
            let soonest = began + SHORTEST;
            sleep(soonest.saturating_duration_since(Instant::now())).await;
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(node) = self.0.upgrade() {
            node.watch.running.store(false, Ordering::Relaxed);
        }
    }
}

impl Inner {
    fn lookouts(&self) -> Vec<Lookout> {
        let endpoints = self.endpoints.iter();
        endpoints.filter_map(|e| e.database().lookout()).collect()
    }

    fn name_of(&self, at: usize) -> &str {
        self.endpoints[at].database().name()
    }

    /// Takes note of how far each server has come.
    fn take_note(&self, asked: Instant, looks: &[Look]) {
        let known = self.watch.known();
        let mut fresh = (self.watch.fresh.lock()).unwrap_or_else(PoisonError::into_inner);
        for (place, look) in looks.iter().enumerate() {
            let own = !known.is_foreign(look.seen);
            match (look.seen, look.at.filter(|_| own)) {
                (Seen::Writable { .. }, Some(at)) if place == known.primary => {
                    fresh.primary(asked, at.timeline, at.position);
                    fresh.replica(place, None);
                }
                (Seen::Standby { .. }, at) => fresh.replica(place, at),
                // A former primary is no replica of anybody.
                _ => fresh.replica(place, None),
            }
        }
    }

    /// Takes note of a look at all servers; each change is told once.
    fn judge(&self, seen: &[Seen], told: &mut Option<(Verdict, Vec<bool>)>) {
        let before = self.watch.known();
        let (verdict, known) = before.judge(seen);
        *self.watch.lock() = known;
        if known.primary != before.primary {
            self.primary.store(known.primary, Ordering::Release);
            let [old, new] = [before.primary, known.primary].map(|at| self.name_of(at));
            tracing::info!(node = %self.id, %old, %new, timeline = known.timeline,
                "another server was promoted; writes go there");
        }
        for endpoint in &self.endpoints {
            match verdict {
                Verdict::Refused(why) => endpoint.refuse_writes(Some(why)),
                Verdict::Writable => endpoint.refuse_writes(None),
                // What was known stays, and whoever is written to says no.
                Verdict::Nobody => endpoint.was_seen(),
            }
        }
        let foreign: Vec<bool> = seen.iter().map(|seen| known.is_foreign(*seen)).collect();
        let now = (verdict, foreign);
        if told.as_ref() != Some(&now) {
            match now.0 {
                Verdict::Refused(why) => {
                    tracing::error!(node = %self.id, %why, "node takes no writes");
                }
                Verdict::Nobody => tracing::warn!(node = %self.id, "no server takes writes"),
                Verdict::Writable if told.is_some() => {
                    tracing::info!(node = %self.id, "node takes writes");
                }
                Verdict::Writable => {}
            }
            for (at, _) in now.1.iter().enumerate().filter(|(_, foreign)| **foreign) {
                tracing::error!(node = %self.id, server = %self.name_of(at),
                    "server is of another cluster, and not used");
            }
            *told = Some(now);
        }
    }
}
