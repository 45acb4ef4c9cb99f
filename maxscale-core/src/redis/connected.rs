//! A connection that stands, and what comes with it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::address::Address;
use super::command::Command;
use super::config::RedisConfig;
use super::fitness::Info;
use super::link::Link;
use super::server_time::ServerTime;
use super::talk::Talk;
use super::{Lineage, RedisError, Reply};

/// How many connections are kept for reads that go together.
const TALKS: usize = 4;

/// A connection that stands.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) link: Link,
    pub(super) time: ServerTime,
    pub(super) lineage: Lineage,
    /// Connections to the same server that nobody uses at the moment.
    talks: Mutex<Vec<Talk>>,
    /// Connect again now.
    pub(super) renew: Notify,
}

// === impl Connected ===

impl Connected {
    pub(super) fn new(link: Link, time: ServerTime, lineage: Lineage) -> Self {
        Self {
            link,
            time,
            lineage,
            talks: Mutex::default(),
            renew: Notify::new(),
        }
    }

    /// Sends reads by a connection that is theirs meanwhile, and kept for the next.
    pub(super) async fn talk(
        &self,
        config: &RedisConfig,
        address: &Address,
        commands: &[Command],
    ) -> Result<Vec<Result<Reply, RedisError>>, RedisError> {
        let idle = self.talks().pop();
        let mut talk = match idle {
            Some(talk) => talk,
            None => self.open(config, address).await?,
        };
        let replies = talk.ask(commands).await?;
        let mut talks = self.talks();
        if talks.len() < TALKS {
            talks.push(talk);
        }
        Ok(replies)
    }

    /// Another connection may have come to another server, or to one that is not any more
    /// what it was.
    async fn open(&self, config: &RedisConfig, address: &Address) -> Result<Talk, RedisError> {
        let mut talk = Talk::open(config, address).await?;
        let info = Info::read(talk.ask_one(Command::new("INFO")).await?)?;
        if info.is_replica() || info.lineage() != self.lineage {
            return Err(RedisError::Down);
        }
        Ok(talk)
    }

    fn talks(&self) -> MutexGuard<'_, Vec<Talk>> {
        // Nothing panics while holding it.
        self.talks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
