//! The one handle to Redis.
//!
//! ```text
//!  command ─ which server has the key? ─ up? ─ permit ─ one attempt ─> server
//!                                         │                └ failures in a row
//!                                         │                  open the breaker
//!                                         └ no: `Down` at once
//!  background, for each server: connect, check, probe, note up and down, again
//!  background, for the fleet: ask the cluster or the sentinels who serves what
//! ```
//!
//! [`Redis`] sends each [`Command`] once, unless it is told that more is
//! harmless, and bounds it: in time, in how many are in flight, and by a
//! breaker that a background probe closes again. A command that timed out may
//! still run on the server: [`RedisError::Timeout`] means "unknown", never
//! "not done". What must not happen late is a [`Script::by_deadline`]. A
//! [`Subscription`] has a connection of its own and reports when messages may
//! have been lost.
//!
//! A single server, a cluster and a primary behind sentinels are told apart by
//! the URL alone. A server that is too old, is a replica, or may evict what its
//! [`Role`] needs is not used; see [`Unfit`].
//!
//! It adds no prefix to keys and knows nothing of what they hold.

mod address;
mod board;
mod command;
mod config;
mod connected;
mod error;
mod fitness;
mod fleet;
mod joint;
mod lineage;
mod link;
mod metronome;
mod node;
mod pace;
mod reply;
mod script;
mod server_time;
mod subscription;
mod table;
mod talk;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::{JoinHandle, unconstrained};
use tokio::time::timeout;
use tracing::Instrument as _;

pub use command::Command;
pub use config::{RedisConfig, RedisConfigError};
pub use error::RedisError;
pub use fitness::{Role, Unfit};
pub use joint::{JointRead, JointReads};
pub use lineage::Lineage;
pub use reply::{Arg, Reply};
pub use script::{Script, ScriptCall};
pub use subscription::{Event, Subscription};
pub use table::{RedisHandles, RedisTable};

use crate::meter::span;

use fleet::Fleet;
use lineage::Witness;

/// Sends commands to Redis. Cheap to clone; clones share their connections.
///
/// While a server is down every command for it fails at once with
/// [`RedisError::Down`]; the handle connects again by itself.
#[derive(Clone, Debug)]
pub struct Redis {
    owner: Arc<Owner>,
}

/// Ends the background task with the last handle.
#[derive(Debug)]
struct Owner {
    fleet: Arc<Fleet>,
    task: Mutex<Option<JoinHandle<()>>>,
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
        let fleet = Arc::new(Fleet::new(config));
        let task = Mutex::new(Some(tokio::spawn(fleet.clone().follow())));
        Self {
            owner: Arc::new(Owner { fleet, task }),
        }
    }

    /// Sends a command and waits for the reply.
    ///
    /// # Errors
    ///
    /// See [`RedisError`]; [`RedisError::may_have_run`] tells the two kinds apart.
    pub async fn command(&self, command: Command) -> Result<Reply, RedisError> {
        self.traced(command.name, self.fleet().command(command))
            .await
    }

    /// Tells the trace around the caller of one call, its attempts together.
    async fn traced<T>(
        &self,
        operation: &str,
        call: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, RedisError> {
        let span = span::redis(operation);
        let answer = call.instrument(span.clone()).await;
        if let Err(error) = &answer {
            span::failed(&span, error.kind());
        }
        answer
    }

    /// Sends commands without waiting in between, and gives their replies in
    /// the same order.
    ///
    /// A server gets its commands in this order, save for those that are sent
    /// again. They are no transaction: each has its reply or its error, and
    /// commands of others may come between.
    pub async fn pipeline(&self, commands: Vec<Command>) -> Vec<Result<Reply, RedisError>> {
        let sent = join_all(commands.into_iter().map(|it| self.command(it)));
        // The runtime would put off whatever lies beyond its budget for a task,
        // and so mix up the order.
        unconstrained(sent).await
    }

    /// Sends reads in one go, and gives their replies in the same order, each with the
    /// lineage of the server that gave it.
    ///
    /// Where keys are in one place they have a connection of their own meanwhile, which
    /// costs a fraction of what as many single commands do. The server sees them as
    /// such, and commands of others may come between. All of them have the handle's
    /// timeout together. If that connection fails, and in a cluster, each is a
    /// [`command`](Self::command): so only what may run twice.
    ///
    /// # Cancellation
    ///
    /// Dropped half-way, it costs that connection.
    pub async fn read_all_from(
        &self,
        commands: Vec<Command>,
    ) -> Vec<Result<(Reply, Lineage), RedisError>> {
        let Some(first) = commands.first() else {
            return Vec::new();
        };
        let span = span::redis(first.name);
        let replies = self.fleet().talk(&commands).instrument(span.clone()).await;
        if let Some(replies) = replies {
            if let Some(Err(error)) = replies.iter().find(|it| it.is_err()) {
                span::failed(&span, error.kind());
            }
            return replies;
        }
        join_all(commands.into_iter().map(|it| self.command_from(it))).await
    }

    /// Runs a script by its hash, and loads it if the server does not know it.
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command), and [`RedisError::Late`] for a script
    /// [by deadline](Script::by_deadline).
    pub async fn script(&self, call: ScriptCall<'_>) -> Result<Reply, RedisError> {
        call.run(self).await
    }

    /// As [`command`](Self::command), and tells which history of writes the
    /// server has that answered.
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command).
    pub async fn command_from(&self, mut command: Command) -> Result<(Reply, Lineage), RedisError> {
        let witness = Witness::default();
        command.witness = Some(witness.clone());
        let reply = self.command(command).await?;
        Ok((reply, witness.seen()))
    }

    /// As [`script`](Self::script), and tells which history of writes the
    /// server has that ran it. The script gets the same as its last argument:
    /// eight bytes, the highest first.
    ///
    /// # Errors
    ///
    /// As [`script`](Self::script).
    pub async fn script_from(
        &self,
        mut call: ScriptCall<'_>,
    ) -> Result<(Reply, Lineage), RedisError> {
        let witness = Witness::default();
        call.witness = Some(witness.clone());
        let reply = self.script(call).await?;
        Ok((reply, witness.seen()))
    }

    /// Listens on a channel, over a connection of its own.
    ///
    /// Returns at once; [`Event::Reconnected`] says when listening has begun.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn subscribe(&self, channel: &str) -> Subscription {
        Subscription::start(self.clone(), channel.to_owned())
    }

    /// Whether commands are being sent: connected, and no breaker is open. Of
    /// a cluster, that all of its slots are served.
    pub fn is_up(&self) -> bool {
        self.fleet().is_up()
    }

    /// Whether no server is up: any command would be refused without being sent.
    #[cfg(feature = "limit")]
    pub(crate) fn is_down(&self) -> bool {
        self.fleet().is_down()
    }

    /// Whether all keys are in one place, so that a command or a script may name any
    /// of them: whether it is no cluster.
    pub fn is_one_place(&self) -> bool {
        self.config().kind != config::Kind::Cluster
    }

    /// How long a command may take, where nothing else is said.
    #[cfg(feature = "limit")]
    pub(crate) fn patience(&self) -> Duration {
        self.config().timeout
    }

    /// Follows [`is_up`](Self::is_up).
    pub fn watch_up(&self) -> watch::Receiver<bool> {
        self.fleet().watch_up()
    }

    /// Waits until the servers answer, at most `limit`. True if they do.
    pub async fn wait_ready(&self, limit: Duration) -> bool {
        let mut up = self.watch_up();
        // What is watched lags a little behind.
        let ready = up.wait_for(|up| *up && self.is_up());
        matches!(timeout(limit, ready).await, Ok(Ok(_)))
    }

    /// Why a server that answers is not used, if there is one.
    pub fn unfit(&self) -> Option<Unfit> {
        self.fleet().unfit()
    }

    /// Asks each server for a sign of life.
    ///
    /// # Errors
    ///
    /// As [`command`](Self::command).
    pub async fn ping(&self) -> Result<(), RedisError> {
        self.fleet().ping().await
    }

    /// Closes the connections of this handle, of its clones and of its
    /// subscriptions.
    ///
    /// Commands fail with [`RedisError::Down`] from then on.
    pub async fn close(&self) {
        if let Some(task) = self.owner.take_task() {
            task.abort();
            // Only then does nobody connect any more.
            let _ = task.await;
        }
        self.fleet().close().await;
    }

    fn fleet(&self) -> &Fleet {
        &self.owner.fleet
    }

    fn config(&self) -> &RedisConfig {
        &self.fleet().config
    }
}

// === impl Owner ===

impl Owner {
    fn take_task(&self) -> Option<JoinHandle<()>> {
        // Nothing panics while holding it.
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        task.take()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(task) = self.take_task() {
            task.abort();
        }
    }
}
