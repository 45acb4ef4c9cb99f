//! The one handle to Redis.
//!
//! ```text
//!  command ─ up? ─ permit ─ one attempt, at most `timeout` ─> server
//!              │                      └ failures in a row open the breaker
//!              └ no: `Down` at once
//!  background: connect, probe, note up and down, connect again
//! ```
//!
//! [`Redis`] sends each command once and bounds it: in time, in how many are
//! in flight, and by a breaker that a background probe closes again. A command
//! that timed out may still run on the server: [`RedisError::Timeout`] means
//! "unknown", never "not done". A [`Subscription`] has a connection of its own
//! and reports when messages may have been lost.
//!
//! It adds no prefix to keys and knows nothing of what they hold.

mod config;
mod error;
mod link;
mod reply;
mod script;
mod subscription;
mod supervisor;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use config::{RedisConfig, RedisConfigError};
pub use error::RedisError;
pub use reply::{Arg, Reply};
pub use script::Script;
pub use subscription::{Event, Subscription};

use supervisor::Shared;

/// Sends commands to one Redis server. Cheap to clone; clones share a connection.
///
/// While the server is down every command fails at once with
/// [`RedisError::Down`]; the handle connects again by itself.
#[derive(Clone, Debug)]
pub struct Redis {
    owner: Arc<Owner>,
}

/// Ends the background task with the last handle.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

// === impl Redis ===

impl Redis {
    /// Starts to connect, and returns without waiting for it.
    ///
    /// A server that is down is no error: the handle starts degraded, says so
    /// in the log, and connects when the server is there.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn open(config: RedisConfig) -> Self {
        let shared = Arc::new(Shared::new(config));
        let task = tokio::spawn(supervisor::keep_up(shared.clone()));
        Self {
            owner: Arc::new(Owner { shared, task }),
        }
    }

    /// Sends one command, once.
    ///
    /// `name` is one word (`GET`); further words are arguments. Commands that
    /// block the connection (`BLPOP`) or change it (`SELECT`) are not for this
    /// handle.
    ///
    /// # Errors
    ///
    /// See [`RedisError`]; [`RedisError::may_have_run`] tells the two kinds apart.
    pub async fn command(&self, name: &'static str, args: Vec<Arg>) -> Result<Reply, RedisError> {
        self.shared().command(name, args).await
    }

    /// Runs a script by its hash, and loads it if the server does not know it.
    ///
    /// The second attempt after loading is safe: the first did not run.
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command).
    pub async fn script(
        &self,
        script: &Script,
        keys: Vec<String>,
        args: Vec<Arg>,
    ) -> Result<Reply, RedisError> {
        script.run(self, keys, args).await
    }

    /// Listens on a channel, over a connection of its own.
    ///
    /// Returns at once; [`Event::Reconnected`] says when listening has begun.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn subscribe(&self, channel: &str) -> Subscription {
        Subscription::start(self.shared().config().clone(), channel.to_owned())
    }

    /// Whether commands are being sent: connected, and the breaker is closed.
    pub fn is_up(&self) -> bool {
        self.shared().is_up()
    }

    /// Follows [`is_up`](Self::is_up).
    pub fn watch_up(&self) -> watch::Receiver<bool> {
        self.shared().watch_up()
    }

    /// Waits until the server answers, at most `limit`. True if it does.
    pub async fn wait_ready(&self, limit: Duration) -> bool {
        let mut up = self.watch_up();
        matches!(timeout(limit, up.wait_for(|up| *up)).await, Ok(Ok(_)))
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command).
    pub async fn ping(&self) -> Result<(), RedisError> {
        self.command("PING", Vec::new()).await.map(drop)
    }

    /// Closes the connection of this handle and of its clones.
    ///
    /// Commands fail with [`RedisError::Down`] from then on. Subscriptions are
    /// their owners' to drop.
    pub async fn close(&self) {
        self.owner.task.abort();
        self.shared().close().await;
    }

    fn shared(&self) -> &Shared {
        &self.owner.shared
    }
}

// === impl Owner ===

impl Drop for Owner {
    fn drop(&mut self) {
        self.task.abort();
    }
}
