//! One memcached: its connections, and when it is left alone.

use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use maxscale_core::Chain;
use maxscale_core::control::{Breaker, BreakerConfig, Permit};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use xxhash_rust::xxh3::xxh3_64;

use super::wire::Wire;

/// Connections to one server at most; who wants one more waits for one.
const CONNECTIONS: usize = 32;

/// A server that hangs costs one caller its time limit, so often.
const BREAKER: BreakerConfig = BreakerConfig {
    failures: 3,
    probe_every: Duration::from_secs(1),
};

/// memcached takes more seconds for a date.
const LONGEST: u32 = 30 * 86_400;

pub(super) struct Server {
    pub(super) address: String,
    /// Tells it from the others when a value looks for its place.
    pub(super) seed: u64,
    turns: Semaphore,
    idle: Mutex<Vec<Wire<TcpStream>>>,
    breaker: Mutex<Breaker>,
}

/// What is asked of a server.
#[derive(Clone, Copy)]
enum Ask<'a> {
    Get { most: usize },
    Set { value: &'a [u8], seconds: u32 },
}

/// What it answered.
enum Answer {
    Got(Option<Bytes>),
    Set(bool),
}

// === impl Server ===

impl Server {
    pub(super) fn new(address: String) -> Self {
        Self {
            seed: xxh3_64(address.as_bytes()),
            address,
            turns: Semaphore::new(CONNECTIONS),
            idle: Mutex::default(),
            breaker: Mutex::new(Breaker::new(BREAKER)),
        }
    }

    /// What is under `name`; `None` without an answer.
    pub(super) async fn get(
        &self,
        name: &str,
        most: usize,
        limit: Duration,
    ) -> Option<Option<Bytes>> {
        match self.ask(name, Ask::Get { most }, limit).await? {
            Answer::Got(value) => Some(value),
            Answer::Set(_) => None,
        }
    }

    /// Whether it has `value` under `name` now.
    pub(super) async fn set(
        &self,
        name: &str,
        value: &[u8],
        ttl: Duration,
        limit: Duration,
    ) -> bool {
        let seconds = u32::try_from(ttl.as_secs()).unwrap_or(LONGEST);
        // Zero seconds are for ever.
        let seconds = seconds.saturating_add(1).min(LONGEST);
        let set = self.ask(name, Ask::Set { value, seconds }, limit).await;
        matches!(set, Some(Answer::Set(true)))
    }

    /// May be dropped: a connection with half an answer on it is not used again.
    async fn ask(&self, name: &str, ask: Ask<'_>, limit: Duration) -> Option<Answer> {
        if self.breaker().permit(Instant::now()) == Permit::Stop {
            return None;
        }
        let asked = timeout(limit, self.try_ask(name, ask)).await;
        match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(answer) => {
                if self.breaker().succeeded() {
                    tracing::info!(server = self.address, "memcached answers again");
                }
                Some(answer)
            }
            Err(error) => {
                // The others are of the same server, which may be another by now.
                self.idle().clear();
                if self.breaker().failed(Instant::now()) {
                    let error = Chain(&error);
                    tracing::warn!(server = self.address, %error, "memcached is left alone");
                }
                None
            }
        }
    }

    async fn try_ask(&self, name: &str, ask: Ask<'_>) -> io::Result<Answer> {
        let _turn = self.turns.acquire().await.map_err(io::Error::other)?;
        let idle = self.idle().pop();
        let mut wire = match idle {
            Some(wire) => wire,
            None => connect(&self.address).await?,
        };
        let answer = match ask {
            Ask::Get { most } => Answer::Got(wire.get(name, most).await?),
            Ask::Set { value, seconds } => Answer::Set(wire.set(name, value, seconds).await?),
        };
        self.idle().push(wire);
        Ok(answer)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Wire<TcpStream>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect(address: &str) -> io::Result<Wire<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(Wire::new(stream))
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .field("breaker", &*self.breaker())
            .finish_non_exhaustive()
    }
}
