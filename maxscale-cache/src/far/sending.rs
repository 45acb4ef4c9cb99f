//! Invalidations on their way: into L2, and from there to the others.
//!
//! A key is bumped first and told of then, so that nobody who heard of it finds
//! the old value in L2. Only who knows that both was done confirms.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::{Far, TAG_MARGIN};
use crate::key;
use crate::message;
use crate::pending::{Mark, Order, Target};
use crate::remote::{Bump, Bumped, Notice};

/// Invalidations sent at once while catching up.
const FLUSH_WIDTH: usize = 32;

impl Far {
    /// Marks what `order` names; from now on this process does not use L2 for it.
    pub(crate) fn mark(&self, order: Order) -> Mark<'_> {
        let off = Duration::from_micros(self.longest_ttl.load(Ordering::SeqCst));
        self.pending.mark(order, off)
    }

    /// Sends a marked invalidation. `Some` once L2 has confirmed it: what
    /// became of each key. Before it is `None` it is in the journal, if there
    /// is one.
    pub(crate) async fn send(&self, mark: Mark<'_>) -> Option<Vec<(String, Bumped)>> {
        let name = mark.order.name.clone();
        let done = self.deliver(mark).await;
        if done.is_none() {
            self.pending.note(&name).await;
        }
        done
    }

    async fn deliver(&self, mark: Mark<'_>) -> Option<Vec<(String, Bumped)>> {
        if let Target::Tag {
            kind, named: true, ..
        } = &mark.order.target
        {
            // Before the tag itself: see `cache::fetch::named`.
            let any = key::of_any_tag(&self.prefix, kind);
            self.bump(any, &mark.order).await?;
        }
        let since = Instant::now();
        let mut done: Vec<(String, Bumped)> = Vec::new();
        loop {
            if !self.alone && !self.schemas.is_known(since) {
                self.beat("board").await?;
            }
            let keys = self.keys(&mark.order);
            let is_done = |key: &String| done.iter().any(|(bumped, _)| bumped == key);
            let missing: Vec<_> = keys.into_iter().filter(|key| !is_done(key)).collect();
            // What was known when the bumps were sent must hold after them:
            // else a version that came meanwhile may have kept the old value.
            if missing.is_empty() && (self.alone || self.schemas.is_known(since)) {
                self.tell(&mark.order).await?;
                mark.confirm();
                return Some(done);
            }
            let bumps = missing.into_iter().map(|key| self.bump(key, &mark.order));
            for bumped in join_all(bumps).await {
                done.push(bumped?);
            }
        }
    }

    /// Sends what is due. True once nothing is.
    pub(crate) async fn flush(&self) -> bool {
        let mut due = self.pending.take_due();
        while !due.is_empty() {
            let rest = due.split_off(due.len().min(FLUSH_WIDTH));
            let sent = join_all(due.into_iter().map(|mark| self.send(mark))).await;
            if sent.iter().any(Option::is_none) {
                return false;
            }
            due = rest;
        }
        true
    }

    /// Keeps sending what is due, every `pause` or when `hurry` ends, until it is confirmed.
    pub(crate) async fn keep_flushing(&self, pause: Duration, hurry: &Notify) {
        loop {
            self.pending.due.notified().await;
            while !self.flush().await {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = hurry.notified() => {}
                }
            }
            self.pending.tidy().await;
        }
    }

    /// The keys that an order is about, of all versions that there are.
    fn keys(&self, order: &Order) -> Vec<String> {
        match &order.target {
            Target::Value { kind, part, .. } => {
                let versions = self.schemas.versions(kind);
                let key = |version| key::of_parts(&self.prefix, kind, part, version);
                versions.into_iter().map(key).collect()
            }
            Target::Tag { .. } | Target::All { .. } => vec![order.name.to_string()],
        }
    }

    async fn bump(&self, key: String, order: &Order) -> Option<(String, Bumped)> {
        let mut bump = Bump::new();
        match &order.target {
            Target::Value { soft, .. } => bump.keeps_value = *soft,
            Target::Tag { .. } | Target::All { .. } => bump.ttl = self.tag_ttl(),
        }
        let bumped = self.answer("bump", self.remote.bump(&key, bump)).await?;
        Some((key, bumped))
    }

    /// Tells the others of what L2 did. `Some` once that is sent.
    async fn tell(&self, order: &Order) -> Option<()> {
        if self.alone {
            return Some(());
        }
        self.outbox.tell(order.target.news().to_string()).await
    }

    /// Keeps sending what is to be told. What comes while a message is on its
    /// way goes with the next one.
    pub(crate) async fn keep_telling(&self) {
        loop {
            let batch = self.outbox.take().await;
            let seq = self.seq.fetch_add(1, Ordering::SeqCst) + 1;
            let message = message::batch(self.origin, seq, batch.news());
            let notice = Notice::new(&self.channel, &message);
            if self
                .answer("tell", self.remote.tell(notice))
                .await
                .is_some()
            {
                batch.was_told();
            }
        }
    }

    /// How long the fence of a tag is kept.
    pub(super) fn tag_ttl(&self) -> Duration {
        Duration::from_micros(self.longest_ttl.load(Ordering::SeqCst)) + TAG_MARGIN
    }
}
