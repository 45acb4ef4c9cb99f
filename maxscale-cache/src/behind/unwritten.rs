//! What was accepted and is not in the source yet, as the parts of a
//! write-behind share it: the buffer, and the pins by which it is read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use maxscale_core::clock::Clock;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

use super::buffer::{Buffer, Left, Refused, Taken};
use super::error::BehindError;
use crate::cache::Cache;

pub(super) struct Unwritten<V> {
    pub(super) cache: Cache<V>,
    /// `None` if the journal tells the time.
    clock: Option<Clock>,
    state: Mutex<State<V>>,
    /// Bytes, of which each value holds as many as it has.
    pub(super) room: Arc<Semaphore>,
    pub(super) budget: u32,
    /// Nothing more is accepted, and nothing waits for others.
    closed: AtomicBool,
    closing: Notify,
    /// Somebody else writes what there was.
    lost: AtomicBool,
    /// Something may be due sooner.
    due: Notify,
    /// A value was settled.
    settled: Notify,
    /// The journal may be shorter now.
    pub(super) trim: Notify,
}

struct State<V> {
    buffer: Buffer<Arc<Held<V>>>,
    /// The last version that was given.
    last: u64,
    /// What it had is abandoned.
    ended: bool,
}

/// A value, and the room that it takes.
pub(super) struct Held<V> {
    pub(super) value: Option<Arc<V>>,
    /// None for a value of the journal that had no room left.
    #[expect(dead_code, reason = "held for its drop")]
    pub(super) room: Option<OwnedSemaphorePermit>,
}

type One<V> = Taken<Arc<Held<V>>>;

// === impl Unwritten ===

impl<V> Unwritten<V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// Nothing, of `cache`. Versions begin above `last`.
    pub(super) fn new(
        cache: Cache<V>,
        clock: Option<Clock>,
        last: u64,
        budget: u32,
        delay: Duration,
    ) -> Self {
        Self {
            cache,
            clock,
            state: Mutex::new(State {
                buffer: Buffer::new(delay),
                last,
                ended: false,
            }),
            room: Arc::new(Semaphore::new(
                usize::try_from(budget).unwrap_or(usize::MAX),
            )),
            budget,
            closed: AtomicBool::new(false),
            closing: Notify::new(),
            lost: AtomicBool::new(false),
            due: Notify::new(),
            settled: Notify::new(),
            trim: Notify::new(),
        }
    }

    /// The first of `count` versions in a row that nobody had.
    pub(super) fn draw(&self, count: usize) -> u64 {
        self.state().draw(self.clock.as_ref(), count)
    }

    /// Lets versions begin at `least`.
    pub(super) fn raise(&self, least: u64) {
        let mut state = self.state();
        state.last = state.last.max(least.saturating_sub(1));
    }

    /// Takes in a value that has a version and lies at `place` of the journal.
    pub(super) fn accept(&self, id: &Arc<str>, version: u64, held: Held<V>, place: u64) {
        self.state().accept(&self.cache, id, version, held, place);
        self.due.notify_one();
    }

    /// Takes in a value that lies nowhere else, and gives it a version. `None`
    /// if all was abandoned.
    pub(super) fn accept_next(&self, id: &Arc<str>, held: Held<V>) -> Option<u64> {
        let mut state = self.state();
        if state.ended {
            return None;
        }
        let version = state.draw(self.clock.as_ref(), 1);
        state.accept(&self.cache, id, version, held, 0);
        drop(state);
        self.due.notify_one();
        Some(version)
    }

    pub(super) fn take(&self, most: usize) -> Vec<One<V>> {
        let all = self.is_closed();
        self.state().buffer.take(Instant::now(), most, all)
    }

    /// Waits until there may be something to take.
    pub(super) async fn until_due(&self) {
        let due = self.state().buffer.next_due();
        let sleep = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            () = self.due.notified() => {}
        }
    }

    /// Waits for `wait`, or until no more is accepted, which it tells once.
    pub(super) async fn pause(&self, wait: Duration) -> bool {
        let closing = self.closing.notified();
        timeout(wait, closing).await.is_ok()
    }

    /// The source has it, and the cache was told; or nobody will write it.
    pub(super) fn settle(&self, one: &One<V>) {
        let mut state = self.state();
        if state.buffer.settle(&one.id, one.version) == Left::Nothing {
            self.cache.unpin(&one.id);
        }
        drop(state);
        self.settled.notify_one();
        self.trim.notify_one();
        self.due.notify_one();
    }

    /// It was not written, and is tried again in `wait`.
    pub(super) fn put_back(&self, one: &One<V>, wait: Duration) {
        let at = Instant::now() + wait;
        self.state().buffer.put_back(&one.id, at);
    }

    pub(super) fn refuse(
        &self,
        one: &One<V>,
        most: u32,
        wait: impl FnOnce(u32) -> Duration,
    ) -> Refused {
        let mut state = self.state();
        let now = Instant::now();
        state.buffer.refuse(&one.id, one.version, now, most, wait)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    pub(super) fn len(&self) -> usize {
        self.state().buffer.len()
    }

    pub(super) fn oldest_place(&self) -> Option<u64> {
        self.state().buffer.oldest_place()
    }

    /// The newest values that lie at `place`, or anywhere.
    pub(super) fn at(&self, place: Option<u64>) -> Vec<One<V>> {
        self.state().buffer.at(place)
    }

    pub(super) fn moved(&self, moved: &[One<V>], place: u64) {
        let mut state = self.state();
        for one in moved {
            state.buffer.moved(&one.id, one.version, place);
        }
    }

    /// How many bytes the values have, with those that are about to be accepted.
    pub(super) fn bytes(&self) -> u64 {
        let free = u64::try_from(self.room.available_permits()).unwrap_or(u64::MAX);
        u64::from(self.budget).saturating_sub(free)
    }

    /// Accepts no more, and waits until all is settled that was accepted, or
    /// was about to be.
    pub(super) async fn drain(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.closing.notify_one();
        self.due.notify_one();
        loop {
            // Whoever is about to be accepted holds some of it.
            let all = self.room.acquire_many(self.budget).await;
            if all.is_err() || self.len() == 0 {
                return;
            }
            drop(all);
            self.settled.notified().await;
        }
    }

    /// Forgets all, since somebody else writes it now.
    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
        self.abandon();
    }

    /// Why nothing more is accepted.
    pub(super) fn ended(&self) -> BehindError {
        if self.lost.load(Ordering::SeqCst) {
            BehindError::Lost
        } else {
            BehindError::Closed
        }
    }

    /// Forgets all, and tells how much that was. Reads get from the source
    /// from now on.
    pub(super) fn abandon(&self) -> usize {
        self.closed.store(true, Ordering::SeqCst);
        self.room.close();
        let mut state = self.state();
        state.ended = true;
        let abandoned = state.buffer.abandon();
        for id in &abandoned {
            self.cache.unpin(id);
        }
        abandoned.len()
    }

    fn state(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl<V> State<V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    fn draw(&mut self, clock: Option<&Clock>, count: usize) -> u64 {
        // By the clock where it is ahead, so that a start without a journal
        // does not begin below what the sink has been told before.
        let now = clock.map_or(0, |clock| clock.now().as_micros());
        let now = u64::try_from(now).unwrap_or(0);
        let first = now.max(self.last + 1);
        self.last = first + u64::try_from(count).unwrap_or(u64::MAX) - 1;
        first
    }

    fn accept(&mut self, cache: &Cache<V>, id: &Arc<str>, version: u64, held: Held<V>, place: u64) {
        if self.ended {
            return;
        }
        cache.pin(id, held.value.clone());
        let now = Instant::now();
        self.buffer.accept(id, version, Arc::new(held), place, now);
    }
}
