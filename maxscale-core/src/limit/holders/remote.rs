//! Places through Redis: got, kept and freed.

use std::sync::{Arc, Weak};

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument as _;

use super::place::{Cover, Place};
use super::{AGAIN, Concurrency, HoldError, Holder, Inner};
use crate::limit::redis::Places;
use crate::limit::shared::Shared;
use crate::limit::{Down, Source};
use crate::redis::RedisError;

/// How many holders go with one command. A script works on them alone.
const MOST: usize = 500;

/// How many commands renew at once.
const AT_ONCE: usize = 64;

pub(super) struct Remote {
    shared: Arc<Shared>,
    /// Tells the holders of this process from those of others.
    process: String,
    renewal: JoinHandle<()>,
}

type Answer = (Result<Holder, HoldError>, Source);

// === impl Remote ===

impl Remote {
    pub(super) fn start(shared: Arc<Shared>, inner: Weak<Inner>, concurrency: Concurrency) -> Self {
        let renewal = shared.runtime.spawn(renew_for_ever(inner, concurrency));
        Self {
            process: uuid::Uuid::new_v4().simple().to_string(),
            shared,
            renewal,
        }
    }

    /// A task asks: whoever waits for it may go, and what he would have got is freed.
    pub(super) async fn ask(&self, inner: &Arc<Inner>, principal: &str) -> Answer {
        let (answer, answered) = oneshot::channel();
        let (asking, whose) = (inner.clone(), principal.to_owned());
        let ask = async move {
            if let Some(remote) = &asking.remote {
                // A holder that nobody takes is dropped, and so released.
                let _ = answer.send(remote.ask_redis(&asking, &whose).await);
            }
        };
        self.shared.runtime.spawn(ask.in_current_span());
        match answered.await {
            Ok(answer) => answer,
            // The runtime has ended.
            Err(_) => self.while_down(inner, principal),
        }
    }

    async fn ask_redis(&self, inner: &Arc<Inner>, principal: &str) -> Answer {
        let number = inner.number();
        // Before the command leaves: the lease is no shorter than what it is taken for.
        let until = Instant::now() + inner.concurrency.lease_time();
        let places = inner.places(principal);
        let holder = [self.holder(number)];
        let asked = self.shared.redis.hold(&places, &holder).await;
        if asked.as_ref().is_err_and(RedisError::may_have_run) {
            // If it had not run by now it never will.
            drop(self.leave_later(inner, principal, &[number]));
        }
        let Some(held) = self.shared.told(asked) else {
            return self.while_down(inner, principal);
        };
        if held.kept != [true] {
            return (Err(inner.too_many(held.wait)), Source::Store);
        }
        let place = Place::new(number, Cover::Until(until));
        let holder = inner.enter(principal, place, u32::MAX, Source::Store);
        (holder.ok_or_else(|| inner.too_many(AGAIN)), Source::Store)
    }

    fn while_down(&self, inner: &Arc<Inner>, principal: &str) -> Answer {
        let most = inner.concurrency.most();
        let most = match inner.concurrency.down() {
            Down::LocalShare => (most / self.shared.instances().max(1)).max(1),
            Down::Open => u32::MAX,
            Down::Closed => {
                let unknown = HoldError::Unknown {
                    holders: (&*inner.name).into(),
                    retry_after: AGAIN,
                };
                return (Err(unknown), Source::Fallback);
            }
        };
        let held = inner.share(principal, most, Source::Fallback);
        (held, Source::Fallback)
    }

    /// Frees places that nobody here holds any more. True once Redis has done so.
    pub(super) fn leave_later(
        &self,
        inner: &Arc<Inner>,
        principal: &str,
        numbers: &[u64],
    ) -> JoinHandle<bool> {
        let holders: Vec<String> = numbers.iter().map(|it| self.holder(*it)).collect();
        let (shared, inner, principal) = (self.shared.clone(), inner.clone(), principal.to_owned());
        self.shared.runtime.spawn(async move {
            let places = inner.places(&principal);
            let left = shared.redis.leave(&places, &holders).await;
            shared.told(left).is_some()
        })
    }

    /// Renews places of one principal; false if Redis did not answer.
    async fn renew(&self, inner: &Arc<Inner>, principal: &str, places: &[Arc<Place>]) -> bool {
        let until = Instant::now() + inner.concurrency.lease_time();
        let holders: Vec<String> = places.iter().map(|it| self.holder(it.number)).collect();
        let all = inner.places(principal);
        let asked = self.shared.redis.hold(&all, &holders).await;
        let told = self.shared.told(asked);
        for (place, kept) in places.iter().zip(told.iter().flat_map(|it| &it.kept)) {
            match kept {
                true => place.covered(until),
                false => place.refused(),
            }
        }
        // Who left meanwhile may have come back by this.
        let gone = inner.gone(principal, places);
        if !gone.is_empty() {
            drop(self.leave_later(inner, principal, &gone));
        }
        told.is_some()
    }

    fn holder(&self, number: u64) -> String {
        format!("{}:{number}", self.process)
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

// === impl Inner ===

impl Inner {
    fn places<'a>(&'a self, principal: &'a str) -> Places<'a> {
        Places {
            name: &self.name,
            principal,
            most: self.concurrency.most(),
            lease: self.concurrency.lease_time(),
        }
    }

    /// All that this process holds, so many of one principal together.
    fn by_principal(&self) -> Vec<(Arc<str>, Vec<Arc<Place>>)> {
        let mut all = Vec::new();
        for (principal, places) in &*self.held() {
            let places: Vec<_> = places.values().cloned().collect();
            let parts = places.chunks(MOST);
            all.extend(parts.map(|part| (principal.clone(), part.to_vec())));
        }
        all
    }

    /// Which of these it holds no more.
    fn gone(&self, principal: &str, places: &[Arc<Place>]) -> Vec<u64> {
        let held = self.held();
        let held = held.get(principal);
        let is_held = |number: &u64| held.is_some_and(|held| held.contains_key(number));
        let numbers = places.iter().map(|place| place.number);
        numbers.filter(|number| !is_held(number)).collect()
    }
}

/// Renews at a third of the lease, and where Redis did not answer, soon again.
async fn renew_for_ever(inner: Weak<Inner>, concurrency: Concurrency) {
    let third = concurrency.lease_time() / 3;
    let mut next = Instant::now() + third;
    loop {
        sleep_until(next).await;
        let Some(inner) = inner.upgrade() else {
            return;
        };
        let Some(remote) = &inner.remote else {
            return;
        };
        let begun = Instant::now();
        let mut answered = true;
        for some in inner.by_principal().chunks(AT_ONCE) {
            let renewals = some.iter();
            let renewals =
                renewals.map(|(principal, places)| remote.renew(&inner, principal, places));
            answered &= join_all(renewals).await.into_iter().all(|it| it);
        }
        next = begun + if answered { third } else { third / 4 };
    }
}
