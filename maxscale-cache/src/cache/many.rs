//! Several values at once: one question to L2, and one load.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tracing::Instrument as _;

use super::ask::wait_for;
use super::fetch::{Fetch, Look, value_of};
use super::{Answer, Cache, Wish};
use crate::error::CacheError;
use crate::flight::{Pilot, Seat};
use crate::hub::Shared;
use crate::key;
use crate::l1::State;

/// One id of several, to be fetched here.
struct Led<V, E> {
    id: String,
    pilot: Pilot<Answer<V, E>>,
    fetch: Fetch<V>,
}

impl<V> Cache<V>
where
    V: Send + Sync + 'static,
{
    /// The values of `ids`, in their order, as far as a tier has them. Loads
    /// nothing, and asks L2 once.
    pub async fn get_many(&self, ids: &[&str]) -> Vec<Option<Arc<V>>> {
        let mut values = vec![None; ids.len()];
        let mut missing = Vec::new();
        for (at, id) in ids.iter().enumerate() {
            let part = key::part_of(id);
            let probe = self.probe(&part);
            match self.near(&probe) {
                Some((entry, State::Fresh)) => values[at] = self.serve(&entry).flatten(),
                found => {
                    let fetch = self.fetch(&probe.to_key(), None, Wish::default());
                    match fetch.pinned() {
                        Some(value) => values[at] = value,
                        None => missing.push((at, fetch, found)),
                    }
                }
            }
        }
        let Some((_, first, _)) = missing.first() else {
            return values;
        };
        let asked = first.shared.ticks.now();
        let keys: Vec<_> = missing.iter().map(|(_, it, _)| it.key.clone()).collect();
        let reads = first.shared.far.read_many(&keys, &self.schema).await;
        for ((at, fetch, found), read) in missing.into_iter().zip(reads) {
            let known = found.as_ref().map(|(entry, _)| entry);
            let looked = fetch.take_in(read, asked, known).await;
            values[at] = match looked {
                Look::Fresh(entry) => value_of(&entry).flatten(),
                Look::Stale(entry) => fetch.serve_while_revalidating(&entry).flatten(),
                Look::Nothing | Look::Off => found
                    .filter(|(_, state)| *state == State::Stale)
                    .and_then(|(entry, _)| fetch.serve_while_revalidating(&entry))
                    .flatten(),
            };
        }
        values
    }

    /// The values of `ids`, in their order; what no tier has is loaded by one
    /// call of `load`, which gets the ids that are missing.
    ///
    /// As [`get_or_load`](Self::get_or_load) in all else, but for one thing: it
    /// does not wait for what other processes load. An id that `load` gives no
    /// value for has none. Each id has an answer or an error of its own.
    pub async fn get_or_load_many<F, Fut, E>(&self, ids: &[&str], load: F) -> Vec<Answer<V, E>>
    where
        F: FnOnce(Vec<String>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<HashMap<String, V>, E>> + Send + 'static,
        E: Send + Sync + 'static,
    {
        let mut answers: Vec<Option<Answer<V, E>>> = Vec::with_capacity(ids.len());
        let (mut awaited, mut led) = (Vec::new(), Vec::new());
        for (at, id) in ids.iter().enumerate() {
            let part = key::part_of(id);
            let probe = self.probe(&part);
            let near = self.near(&probe);
            let fresh = near.filter(|(_, state)| *state == State::Fresh);
            if let Some(value) = fresh.and_then(|(entry, _)| self.serve(&entry)) {
                answers.push(Some(Ok(value)));
                continue;
            }
            answers.push(None);
            let near = probe.to_key();
            let answer = match self.board(&near, Wish::default()) {
                Seat::Join(answer) => answer,
                Seat::Lead(pilot, answer) => {
                    let begun = Some((pilot.stamp, pilot.tags.clone()));
                    let fetch = self.fetch(&near, begun, Wish::default());
                    let id = (*id).to_owned();
                    match fetch.pinned() {
                        Some(value) => pilot.land(Ok(value)),
                        None => led.push(Led { id, pilot, fetch }),
                    }
                    answer
                }
            };
            awaited.push((at, answer));
        }
        if !led.is_empty() {
            let shared = self.hub.shared().clone();
            let schema = self.schema.clone();
            let fetch = async move {
                let asked = shared.ticks.now();
                let keys: Vec<_> = led.iter().map(|it| it.fetch.key.clone()).collect();
                let reads = shared.far.read_many(&keys, &schema).await;
                let mut missing = Vec::new();
                for (led, read) in led.into_iter().zip(reads) {
                    let mut looked = led.fetch.take_in(read, asked, None).await;
                    match led.fetch.settle(&mut looked, &mut None) {
                        Some(value) => led.fetch.land(led.pilot, Ok(value)).await,
                        None => missing.push(led),
                    }
                }
                load_all(&shared, missing, load).await;
            };
            tokio::spawn(fetch.in_current_span());
        }
        for (at, answer) in awaited {
            answers[at] = Some(wait_for(answer).await);
        }
        let answers = answers.into_iter();
        answers
            .map(|answer| answer.unwrap_or(Err(CacheError::Aborted)))
            .collect()
    }
}

async fn load_all<V, F, Fut, E>(shared: &Shared, missing: Vec<Led<V, E>>, load: F)
where
    V: Send + Sync + 'static,
    F: FnOnce(Vec<String>) -> Fut + Send,
    Fut: Future<Output = Result<HashMap<String, V>, E>> + Send,
    E: Send + Sync + 'static,
{
    if missing.is_empty() {
        return;
    }
    let grounds = join_all(missing.iter().map(|it| it.fetch.ground(Duration::ZERO))).await;
    let begun = shared.ticks.now();
    let ids = missing.iter().map(|it| it.id.clone()).collect();
    let loaded = shared.load(|| load(ids)).await;
    let mut values = match loaded {
        Ok(values) => values,
        Err(error) => {
            for led in missing {
                led.pilot.land(Err(error.clone()));
            }
            return;
        }
    };
    let kept = missing.into_iter().zip(grounds).map(|(led, ground)| {
        let value = values.remove(&led.id).map(Arc::new);
        async move {
            led.fetch.keep(value.clone(), ground, begun).await;
            led.fetch.land(led.pilot, Ok(value)).await;
        }
    });
    join_all(kept.collect::<Vec<_>>()).await;
}
