//! One value for a caller who says how it is loaded.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tracing::Instrument as _;

use super::fetch::{Aim, value_of};
use super::{Answer, Cache, Wish, draw};
use crate::error::CacheError;
use crate::flight::{Pilot, Seat};
use crate::key;
use crate::l1::{Entry, NearKey, State};
use crate::ticks::micros;

impl<V> Cache<V>
where
    V: Send + Sync + 'static,
{
    pub(super) async fn ask<F, Fut, E>(&self, id: &str, wish: Wish<'_>, load: F) -> Answer<V, E>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<V>, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let part = key::part_of(id);
        let probe = self.probe(&part);
        let is_met = |entry: &Entry| wish.at_least.is_none_or(|it| it.is_met_by(entry.fence));
        let good = |entry: &Entry| is_met(entry) && !self.is_near_its_end(entry);
        if let Some(value) = self.at_hand(&probe, good) {
            return Ok(value);
        }
        let found = self.near(&probe);
        if let Some((entry, state)) = &found
            && is_met(entry)
            && let Some(answer) = self.answer_near(entry, *state)
        {
            let is_early = *state == State::Fresh && self.is_early(entry);
            if is_early || *state == State::Stale {
                let aim = if is_early {
                    Aim::NewerThan(entry.since)
                } else {
                    Aim::Any
                };
                self.load_behind(&probe.to_key(), aim, wish, load);
            }
            return Ok(answer);
        }
        self.fly(&probe.to_key(), Aim::Any, wish, load).await
    }

    pub(super) async fn fly<F, Fut, E>(
        &self,
        near: &NearKey,
        aim: Aim,
        wish: Wish<'_>,
        load: F,
    ) -> Answer<V, E>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<V>, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        if let Some(value) = self.pinned(near) {
            return Ok(value);
        }
        let answer = match self.board(near, wish) {
            Seat::Join(answer) => answer,
            Seat::Lead(pilot, answer) => {
                self.take_off(pilot, aim, wish, load);
                answer
            }
        };
        wait_for(answer).await
    }

    /// Loads in the background, unless somebody does so already.
    fn load_behind<F, Fut, E>(&self, near: &NearKey, aim: Aim, wish: Wish<'_>, load: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<V>, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        // What is served meanwhile meets the token, and a load under way will do.
        let wish = Wish {
            at_least: None,
            ..wish
        };
        if let Seat::Lead(pilot, _) = self.board::<E>(near, wish) {
            self.take_off(pilot, aim, wish, load);
        }
    }

    pub(super) fn board<E>(&self, near: &NearKey, wish: Wish<'_>) -> Seat<Answer<V, E>>
    where
        E: Send + Sync + 'static,
    {
        let shared = self.hub.shared();
        let (mut since, now) = shared.flights_since();
        if wish.at_least.is_some() {
            // Whatever is being loaded may have begun before the change, or take
            // what L2 has.
            since = u64::MAX;
        }
        let start = |is_from_before| {
            if is_from_before {
                // It must not replace what is loaded from now on.
                shared.l1.overtake(near.hash);
            }
            (shared.stamp(near), self.hold(wish.tags))
        };
        let seat = shared.flights.board(near, (since, now), start);
        if matches!(seat, Seat::Join(_)) {
            shared.counters.coalesced.add(1);
        }
        seat
    }

    fn take_off<F, Fut, E>(&self, pilot: Pilot<Answer<V, E>>, aim: Aim, wish: Wish<'_>, load: F)
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<V>, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let begun = Some((pilot.stamp, pilot.tags.clone()));
        let mut fetch = self.fetch(pilot.near(), begun, wish);
        fetch.aim = aim;
        tokio::spawn(fetch.fly(pilot, load).in_current_span());
    }

    /// The answer that an entry gives without further ado.
    fn answer_near(&self, entry: &Entry, state: State) -> Option<Option<Arc<V>>> {
        match state {
            State::Fresh => self.serve(entry),
            State::Stale => {
                let window = micros(self.spec.while_revalidating);
                let shared = self.hub.shared();
                if !entry.serves_for(window, shared.ticks.now()) {
                    return None;
                }
                let value = value_of(entry)?;
                shared.counters.stale.add(1);
                Some(value)
            }
            State::Suspect | State::Dead => None,
        }
    }

    /// Whether this read is the one that loads a value again before its end:
    /// XFetch, with what the load took the last time.
    fn is_early(&self, entry: &Entry) -> bool {
        self.is_near_its_end(entry) && {
            let ahead = f64::from(entry.cost) * -draw().max(f64::MIN_POSITIVE).ln();
            Duration::from_micros(self.left(entry)).as_secs_f64() * 1e6 <= ahead
        }
    }

    /// Whether chance decides if it is loaded again: before that it hardly ever does, and
    /// the draw is spared.
    fn is_near_its_end(&self, entry: &Entry) -> bool {
        self.spec.early && self.left(entry) <= u64::from(entry.cost).saturating_mul(16)
    }

    /// How long it is fresh.
    fn left(&self, entry: &Entry) -> u64 {
        let now = self.hub.shared().ticks.now();
        entry.fresh_until.saturating_sub(now)
    }
}

pub(super) async fn wait_for<V, E>(
    mut answer: watch::Receiver<Option<Answer<V, E>>>,
) -> Answer<V, E> {
    let Ok(answer) = answer.wait_for(Option::is_some).await else {
        return Err(CacheError::Aborted);
    };
    answer.clone().unwrap_or(Err(CacheError::Aborted))
}
