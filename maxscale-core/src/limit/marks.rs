//! What is known of some principals for a time, looked up without a trip: an
//! operator's override, a bad reputation.
//!
//! Processes that share a Redis share their marks: a mark is written there, and
//! each process asks once a second whether anything has changed, and reads all if
//! so. There are at most [`MOST`]: this is for exceptions.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use crate::clock::{Clock, Timestamp};

/// How many there are at most. Each process holds all of them.
pub(super) const MOST: usize = 1_000;

pub(super) struct Marks<V> {
    clock: Clock,
    /// So that who has none pays for none.
    any: AtomicBool,
    known: RwLock<Known<V>>,
    /// Held while the table and Redis are brought together, so that what was read
    /// before a mark was written does not hide it.
    #[cfg(feature = "redis")]
    turn: tokio::sync::Mutex<()>,
    /// Whether it has marks of its own that no version of Redis stands for: lost
    /// before they were read again, they would stay.
    #[cfg(feature = "redis")]
    is_own: AtomicBool,
}

/// By what they are about, then by principal.
type Known<V> = HashMap<Box<str>, HashMap<u128, (V, Timestamp)>>;

/// A mark as it was stored.
#[cfg(feature = "redis")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) about: Box<str>,
    pub(super) tag: u128,
    pub(super) left: Duration,
    pub(super) text: Box<str>,
}

// === impl Marks ===

impl<V: Copy> Marks<V> {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            clock,
            any: AtomicBool::new(false),
            known: RwLock::default(),
            #[cfg(feature = "redis")]
            turn: tokio::sync::Mutex::default(),
            #[cfg(feature = "redis")]
            is_own: AtomicBool::new(false),
        }
    }

    /// Whether there is any mark at all.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// The mark of a principal, and how long it holds. Its tag is asked for only
    /// where there are marks of this kind.
    pub(super) fn get(&self, about: &str, tag: impl FnOnce() -> u128) -> Option<(V, Duration)> {
        if !self.any() {
            return None;
        }
        // Nothing panics while holding it.
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let (value, until) = known.get(about)?.get(&tag())?;
        let left = until.since(self.clock.now());
        (!left.is_zero()).then_some((*value, left))
    }

    /// False where there is no room for one more.
    pub(super) fn set(&self, about: &str, tag: u128, value: V, time: Duration) -> bool {
        let now = self.clock.now();
        self.change(|known| {
            known.retain(|_, marks| {
                marks.retain(|_, (_, until)| *until > now);
                !marks.is_empty()
            });
            let count: usize = known.values().map(HashMap::len).sum();
            let is_new = known.get(about).is_none_or(|it| !it.contains_key(&tag));
            let fits = !is_new || count < MOST;
            if fits {
                let marks = known.entry(about.into()).or_default();
                marks.insert(tag, (value, now.after(time)));
            }
            fits
        })
    }

    pub(super) fn remove(&self, about: &str, tag: u128) {
        self.change(|known| {
            let emptied = known.get_mut(about).is_some_and(|marks| {
                marks.remove(&tag);
                marks.is_empty()
            });
            if emptied {
                known.remove(about);
            }
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut Known<V>) -> T) -> T {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut known);
        self.any.store(!known.is_empty(), Ordering::Relaxed);
        changed
    }
}

impl<V> fmt::Debug for Marks<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Marks").finish_non_exhaustive()
    }
}

#[cfg(feature = "redis")]
pub(super) use shared::SharedMarks;

#[cfg(feature = "redis")]
mod shared {
    use std::sync::{Arc, Weak};

    use tokio::task::JoinHandle;
    use tokio::time::sleep;

    use super::*;
    use crate::limit::RedisLimits;
    use crate::redis::RedisError;

    /// How old what a process knows of others' marks may be.
    const EVERY: Duration = Duration::from_secs(1);

    /// The same until they were read for the first time.
    const SOON: Duration = Duration::from_millis(100);

    /// Marks that all processes of one Redis have together. What they are is their
    /// `kind`; how they are written down is the owner's to know.
    #[derive(Debug)]
    pub(in crate::limit) struct SharedMarks<V> {
        marks: Arc<Marks<V>>,
        redis: RedisLimits,
        kind: &'static str,
        task: JoinHandle<()>,
    }

    // === impl SharedMarks ===

    impl<V: Copy + Send + Sync + 'static> SharedMarks<V> {
        /// Follows what others mark, until this is dropped. What `read` does not
        /// understand, from a newer version, is passed over.
        pub(in crate::limit) fn follow(
            redis: RedisLimits,
            marks: Arc<Marks<V>>,
            kind: &'static str,
            read: fn(&str) -> Option<V>,
        ) -> Self {
            let (weak, asked) = (Arc::downgrade(&marks), redis.clone());
            Self {
                task: tokio::spawn(follow(weak, asked, kind, read)),
                marks,
                redis,
                kind,
            }
        }

        /// False where there is no room for one more.
        pub(in crate::limit) async fn set(
            &self,
            about: &str,
            tag: u128,
            (value, text): (V, &str),
            time: Duration,
        ) -> Result<bool, RedisError> {
            let _turn = self.marks.turn.lock().await;
            let put = self.redis.put_mark(self.kind, about, tag, time, text);
            let fits = put.await?;
            self.marks.is_own.store(true, Ordering::Relaxed);
            // A process may lag behind others' ends.
            if fits && !self.marks.set(about, tag, value, time) {
                tracing::debug!(kind = self.kind, "a mark will be known in a second");
            }
            Ok(fits)
        }

        pub(in crate::limit) async fn remove(
            &self,
            about: &str,
            tag: u128,
        ) -> Result<(), RedisError> {
            let _turn = self.marks.turn.lock().await;
            let none = Duration::ZERO;
            self.redis.put_mark(self.kind, about, tag, none, "").await?;
            self.marks.is_own.store(true, Ordering::Relaxed);
            self.marks.remove(about, tag);
            Ok(())
        }
    }

    impl<V> Drop for SharedMarks<V> {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    async fn follow<V: Copy>(
        marks: Weak<Marks<V>>,
        redis: RedisLimits,
        kind: &'static str,
        read: fn(&str) -> Option<V>,
    ) {
        let (mut known, mut pause) = (None, SOON);
        while let Some(marks) = marks.upgrade() {
            let turn = marks.turn.lock().await;
            // While Redis is down, what was known holds as long as it was meant to.
            if let Ok(version) = redis.marks_version(kind).await {
                pause = EVERY;
                let is_new = version != known || marks.is_own.load(Ordering::Relaxed);
                if is_new && let Ok(stored) = redis.marks(kind).await {
                    marks.replace(&stored, read);
                    marks.is_own.store(false, Ordering::Relaxed);
                    known = version;
                }
            }
            drop(turn);
            drop(marks);
            sleep(pause).await;
        }
    }

    impl<V: Copy> Marks<V> {
        fn replace(&self, stored: &[Stored], read: fn(&str) -> Option<V>) {
            let now = self.clock.now();
            self.change(|known| {
                known.clear();
                for mark in stored {
                    if let Some(value) = read(&mark.text) {
                        let marks = known.entry(mark.about.clone()).or_default();
                        marks.insert(mark.tag, (value, now.after(mark.left)));
                    }
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_ends_by_itself_and_makes_room() {
        let (clock, time) = Clock::manual(Timestamp::from_micros(0));
        let marks = Marks::new(clock);
        let second = Duration::from_secs(1);
        for tag in 0..MOST as u128 {
            assert!(marks.set("a", tag, tag, second));
        }
        assert!(!marks.set("a", 9_999, 9_999, second), "there is no room");
        assert!(marks.set("a", 7, 8, 2 * second), "it has its place");
        assert_eq!(marks.get("a", || 7), Some((8, 2 * second)));
        assert_eq!(marks.get("b", || 7), None);
        time.advance(second);
        assert_eq!(marks.get("a", || 6), None);
        assert_eq!(marks.get("a", || 7), Some((8, second)));
        assert!(marks.set("a", 9_999, 9_999, second));
    }

    #[test]
    fn who_has_no_marks_is_asked_for_no_tag() {
        let (clock, _) = Clock::manual(Timestamp::from_micros(0));
        let marks = Marks::new(clock);
        assert!(marks.set("a", 1, (), Duration::from_secs(1)));
        let unasked = || panic!("the tag costs something");
        assert_eq!(marks.get("b", unasked), None);
        marks.remove("a", 1);
        assert_eq!(marks.get("a", unasked), None);
    }
}
