//! What those on board of a flight are shown.
//!
//! A flight that was overtaken may have found a change that is not invalidated yet,
//! while one that began later asked the source earlier and found what was before.
//! Only one of them is kept, and who was shown the other must not be shown that
//! one next. So those on board get what is kept in the place of what was found, or
//! what the later flight will find; and if nobody later comes to an answer, what
//! they are shown lets nothing in that was loaded at the same time.

use std::sync::Arc;

use super::{Fetch, value_of};
use crate::cache::Answer;
use crate::cache::ask::wait_for;
use crate::flight::Pilot;
use crate::l1::State;
use crate::tags::Held;

impl<V> Fetch<V>
where
    V: Send + Sync + 'static,
{
    /// Gives everyone on board the answer, or what has taken its place.
    pub(in crate::cache) async fn land<E>(&self, pilot: Pilot<Answer<V, E>>, answer: Answer<V, E>)
    where
        E: Send + Sync + 'static,
    {
        let answer = if answer.is_ok() && self.is_overtaken() {
            match self.later(&pilot).await {
                Some(value) => Ok(value),
                None => {
                    self.show();
                    answer
                }
            }
        } else {
            answer
        };
        pilot.land(answer);
    }

    /// Whether others may have begun to look for the value anew meanwhile.
    pub(super) fn is_overtaken(&self) -> bool {
        self.shared.stamp(&self.near) != self.stamp || !self.tags.iter().all(Held::is_current)
    }

    /// What has taken the place of what was found.
    async fn later<E>(&self, pilot: &Pilot<Answer<V, E>>) -> Option<Option<Arc<V>>>
    where
        E: Send + Sync + 'static,
    {
        let kept = self.kept_since(pilot.begun);
        if kept.is_some() {
            return kept;
        }
        let found = wait_for(pilot.successor()?).await.ok()?;
        match self.at_least {
            None => Some(found),
            // It may have taken what L2 has, which may lack the change.
            Some(_) => self.kept_since(pilot.begun),
        }
    }

    /// What L1 has, if its load began at this tick or later.
    fn kept_since(&self, tick: u64) -> Option<Option<Arc<V>>> {
        let (entry, state) = self.look_near()?;
        // By this process's clock, if it loaded it; else by the store's.
        let is_later = entry.begun >= tick || entry.since >= self.shared.far.at_the_latest(tick);
        (is_later && state == State::Fresh)
            .then(|| value_of(&entry))
            .flatten()
    }

    /// Notes that what was found is shown and not kept.
    fn show(&self) {
        let now = self.shared.ticks.now();
        let loaded = self.shared.far.at_the_latest(now);
        // Noted first: who sees the stamp that the drop leaves sees the note.
        self.shared.shown.note(self.near.hash, loaded, now);
        self.shared.l1.drop_key(&self.near.probe());
    }
}
