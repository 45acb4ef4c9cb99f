//! Reads that come at once go together.
//!
//! ```text
//!  read ─ a place free? ─ yes ─ a GET of its own ──────────────┐
//!            └ no: waits ─ with all who wait, one MGET at a time ┴ the place goes to
//!                                                                  who waits, if any
//! ```
//!
//! A command that is under way is joined by nobody: whoever waits is read for
//! after he came. In a cluster, whose commands name keys of one slot, each goes
//! alone.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use maxscale_core::redis::{Command, Lineage, Redis, RedisError, Reply};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::yield_now;

use crate::remote::RemoteError;

/// How many commands are under way before reads wait for each other. With more
/// a read waits less, with less more of them go together.
const AT_ONCE: usize = 2;

/// How many keys a command names at most: the server does nothing else
/// meanwhile.
const MOST_KEYS: usize = 64;

/// What is under a key, and the lineage of the server that said so.
pub(super) type Read = Result<Option<(Bytes, Lineage)>, RemoteError>;

#[derive(Debug)]
pub(super) struct Reads {
    /// None if the keys are in many places.
    line: Option<Arc<Mutex<Line>>>,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    places: usize,
}

#[derive(Debug)]
struct Waiting {
    key: Bytes,
    answer: oneshot::Sender<Read>,
}

/// The place of a reader who sends for itself. Once it is dropped it belongs to
/// those who wait.
struct Place<'a> {
    line: &'a Arc<Mutex<Line>>,
    redis: &'a Redis,
    runtime: Handle,
}

/// Reads for those who wait, until nobody does.
struct Server {
    line: Arc<Mutex<Line>>,
    redis: Redis,
    done: bool,
}

// === impl Reads ===

impl Reads {
    pub(super) fn new(redis: &Redis) -> Self {
        let line = redis.is_one_place().then(Arc::default);
        Self { line }
    }

    pub(super) async fn one(&self, redis: &Redis, key: &str) -> Read {
        // Erased, as few need it, and it is large.
        let alone = || -> BoxFuture<'_, Read> { Box::pin(alone(redis, key)) };
        let Some(line) = &self.line else {
            return alone().await;
        };
        let waits = {
            let mut line = lock(line);
            if line.places < AT_ONCE {
                line.places += 1;
                None
            } else {
                let (answer, waits) = oneshot::channel();
                let key = Bytes::copy_from_slice(key.as_bytes());
                line.waiting.push_back(Waiting { key, answer });
                Some(waits)
            }
        };
        if let Some(waits) = waits {
            let lost = |_| Err(RemoteError::Unconfirmed(RedisError::Down.into()));
            return waits.await.unwrap_or_else(lost);
        }
        let _place = Place {
            line,
            redis,
            runtime: Handle::current(),
        };
        alone().await
    }

    /// Of several keys, in their order.
    pub(super) async fn many(&self, redis: &Redis, keys: &[Arc<str>]) -> Vec<Read> {
        if self.line.is_none() {
            return join_all(keys.iter().map(|key| alone(redis, key))).await;
        }
        let parts = keys.chunks(MOST_KEYS).map(|part| {
            let keys = part
                .iter()
                .map(|key| Bytes::copy_from_slice(key.as_bytes()));
            together(redis, keys.collect())
        });
        join_all(parts).await.into_iter().flatten().collect()
    }
}

async fn alone(redis: &Redis, key: &str) -> Read {
    match redis.command_from(Command::new("GET").key(key)).await {
        Ok((reply, lineage)) => Ok(reply.into_bytes().map(|it| (it, lineage))),
        // A key of another type is somebody else's, and soon replaced.
        Err(RedisError::Server { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// By one command, to which a key of another type has no value.
async fn together(redis: &Redis, keys: Vec<Bytes>) -> Vec<Read> {
    let count = keys.len();
    let get = keys.into_iter().fold(Command::new("MGET"), Command::key);
    let (replies, lineage) = match redis.command_from(get).await {
        Ok((reply, lineage)) => (reply.into_array().unwrap_or_default(), lineage),
        Err(error) => return shared(error, count),
    };
    if replies.len() != count {
        return shared(RedisError::Reply { command: "MGET" }, count);
    }
    let values = replies.into_iter().map(Reply::into_bytes);
    values
        .map(|value| Ok(value.map(|it| (it, lineage))))
        .collect()
}

/// The same error for each.
fn shared(error: RedisError, count: usize) -> Vec<Read> {
    let error = Arc::new(error);
    let each = || match *error {
        RedisError::Timeout { .. } => RemoteError::TimedOut,
        _ => RemoteError::Unconfirmed(error.clone().into()),
    };
    (0..count).map(|_| Err(each())).collect()
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    // Nothing panics while holding it.
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Line ===

impl Line {
    /// Those who go with the next command; with nobody the place is free.
    fn take(&mut self) -> Option<Vec<Waiting>> {
        let count = self.waiting.len().min(MOST_KEYS);
        if count == 0 {
            self.places -= 1;
            return None;
        }
        Some(self.waiting.drain(..count).collect())
    }
}

// === impl Place ===

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut line = lock(self.line);
        if line.waiting.is_empty() {
            line.places -= 1;
            return;
        }
        drop(line);
        let server = Server {
            line: self.line.clone(),
            redis: self.redis.clone(),
            done: false,
        };
        self.runtime.spawn(server.serve());
    }
}

// === impl Server ===

impl Server {
    async fn serve(mut self) {
        loop {
            // Who is about to ask comes along. It costs a moment where others
            // have something to do, and hardly any where nobody has.
            yield_now().await;
            let Some(aboard) = lock(&self.line).take() else {
                self.done = true;
                return;
            };
            let aboard = aboard.into_iter().filter(|it| !it.answer.is_closed());
            let (keys, answers): (Vec<_>, Vec<_>) = aboard.map(|it| (it.key, it.answer)).unzip();
            if keys.is_empty() {
                continue;
            }
            let reads = together(&self.redis, keys).await;
            for (answer, read) in answers.into_iter().zip(reads) {
                // Whoever gave up needs none.
                let _ = answer.send(read);
            }
        }
    }
}

impl Drop for Server {
    /// Before its end only with its runtime.
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let mut line = lock(&self.line);
        line.places -= 1;
        if line.places == 0 {
            // Nobody is left to read for them.
            line.waiting.clear();
        }
    }
}
