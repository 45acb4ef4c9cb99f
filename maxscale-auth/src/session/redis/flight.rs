//! One read of the rows per user at a time, and a bound on all of them.
//!
//! Who comes while a read is under way waits for the next one: what he is told was
//! read after he came, so that a revocation that was answered before is in it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use maxscale_core::id::Id;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;

use super::error::RedisSessionsError;

type Read<T, E> = OnceCell<Result<Arc<T>, RedisSessionsError<E>>>;

/// Reads that are under way, and those that wait for their turn.
#[derive(Debug)]
pub(super) struct Flights<T, E> {
    users: Mutex<HashMap<Id, Lane<T, E>>>,
    seats: Semaphore,
    /// How long one waits for its turn and its seat.
    wait: Duration,
}

#[derive(Debug)]
struct Lane<T, E> {
    /// Held by the read that is under way.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The read that has not begun.
    next: Option<Arc<Read<T, E>>>,
    waiting: usize,
}

/// Somebody's place in a read.
struct Seat<'f, T, E> {
    flights: &'f Flights<T, E>,
    user: Id,
    turn: Arc<tokio::sync::Mutex<()>>,
    read: Arc<Read<T, E>>,
}

// === impl Flights ===

impl<T, E> Flights<T, E> {
    pub(super) fn new(at_once: usize, wait: Duration) -> Self {
        Self {
            users: Mutex::default(),
            seats: Semaphore::new(at_once.clamp(1, Semaphore::MAX_PERMITS)),
            wait,
        }
    }

    /// What `read`, or that of somebody who came earlier, has found after this call.
    ///
    /// Dropping it drops the read, unless somebody else waits for it: he begins anew.
    pub(super) async fn join<F>(
        &self,
        user: Id,
        read: impl FnOnce() -> F,
    ) -> Result<Arc<T>, RedisSessionsError<E>>
    where
        F: Future<Output = Result<T, E>>,
    {
        let seat = self.seat(user);
        let first = async || {
            let begun = timeout(self.wait, async {
                let turn = seat.turn.lock().await;
                (turn, self.seats.acquire().await)
            });
            let begun = begun.await;
            // From here on nobody joins.
            seat.departs();
            match begun {
                Ok((_turn, Ok(_permit))) => {
                    let read = read().await;
                    read.map(Arc::new).map_err(RedisSessionsError::rows)
                }
                _ => Err(RedisSessionsError::Busy),
            }
        };
        seat.read.get_or_init(first).await.clone()
    }

    fn seat(&self, user: Id) -> Seat<'_, T, E> {
        let mut users = self.users();
        let lane = users.entry(user).or_insert_with(|| Lane {
            turn: Arc::default(),
            next: None,
            waiting: 0,
        });
        lane.waiting += 1;
        Seat {
            flights: self,
            user,
            turn: lane.turn.clone(),
            read: lane.next.get_or_insert_default().clone(),
        }
    }

    fn users(&self) -> MutexGuard<'_, HashMap<Id, Lane<T, E>>> {
        // Nothing panics while holding it.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Seat ===

impl<T, E> Seat<'_, T, E> {
    fn departs(&self) {
        if let Some(lane) = self.flights.users().get_mut(&self.user) {
            lane.next.take_if(|next| Arc::ptr_eq(next, &self.read));
        }
    }
}

impl<T, E> Drop for Seat<'_, T, E> {
    fn drop(&mut self) {
        let mut users = self.flights.users();
        if let Some(lane) = users.get_mut(&self.user) {
            lane.waiting -= 1;
            if lane.waiting == 0 {
                users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU32, Ordering};

    use maxscale_core::clock::Clock;
    use maxscale_core::fact::VirtualShard;
    use maxscale_core::id::{IdGenerator, KeyspaceTag};
    use tokio::sync::Notify;
    use tokio::task::yield_now;

    use super::*;

    type Told = Result<Arc<u32>, RedisSessionsError<Infallible>>;

    /// Reads that count, and wait until they are let go.
    struct Bench {
        flights: Flights<u32, Infallible>,
        begun: AtomicU32,
        go: Notify,
    }

    impl Bench {
        fn new(at_once: usize) -> Arc<Self> {
            Arc::new(Self {
                flights: Flights::new(at_once, Duration::from_secs(5)),
                begun: AtomicU32::new(0),
                go: Notify::new(),
            })
        }

        fn join(self: &Arc<Self>, user: Id) -> tokio::task::JoinHandle<Told> {
            let bench = self.clone();
            tokio::spawn(async move {
                let read = || async {
                    let nth = bench.begun.fetch_add(1, Ordering::SeqCst) + 1;
                    bench.go.notified().await;
                    Ok(nth)
                };
                bench.flights.join(user, read).await
            })
        }

        fn begun(&self) -> u32 {
            self.begun.load(Ordering::SeqCst)
        }

        async fn begin(&self, nth: u32) {
            let begun = async {
                while self.begun() < nth {
                    yield_now().await;
                }
            };
            let begun = timeout(Duration::from_secs(5), begun).await;
            begun.expect("another read begins");
        }
    }

    fn ids() -> [Id; 2] {
        let ids = IdGenerator::new(Clock::system(), KeyspaceTag::default());
        [0, 1].map(|shard| ids.draw(VirtualShard::new(shard)))
    }

    async fn settled() {
        for _ in 0..50 {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_comes_during_a_read_is_told_by_the_next() {
        let (bench, [user, _]) = (Bench::new(8), ids());
        let first = bench.join(user);
        bench.begin(1).await;
        let late: Vec<_> = (0..5).map(|_| bench.join(user)).collect();
        settled().await;
        assert_eq!(bench.begun(), 1, "one at a time");

        bench.go.notify_one();
        assert_eq!(*first.await.unwrap().unwrap(), 1);
        bench.begin(2).await;
        bench.go.notify_one();
        for late in late {
            assert_eq!(*late.await.unwrap().unwrap(), 2);
        }
        assert!(bench.flights.users().is_empty(), "nothing is left behind");
    }

    #[tokio::test]
    async fn read_whose_caller_has_gone_is_taken_over() {
        let (bench, [user, _]) = (Bench::new(8), ids());
        let first = bench.join(user);
        settled().await;
        let second = bench.join(user);
        settled().await;
        first.abort();
        assert!(first.await.is_err());
        bench.begin(2).await;
        bench.go.notify_one();
        assert_eq!(*second.await.unwrap().unwrap(), 2);
        assert!(bench.flights.users().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_seat_in_time_is_refused_and_the_next_one_is_not() {
        let (bench, [user, other]) = (Bench::new(1), ids());
        let first = bench.join(user);
        bench.begin(1).await;
        let refused = bench.join(other).await.unwrap();
        assert!(matches!(refused, Err(RedisSessionsError::Busy)));

        bench.go.notify_one();
        assert!(first.await.unwrap().is_ok());
        let next = bench.join(other);
        bench.begin(2).await;
        bench.go.notify_one();
        assert_eq!(*next.await.unwrap().unwrap(), 2);
    }
}
