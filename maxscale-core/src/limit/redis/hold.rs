//! The places of holders, in Redis.

use std::time::Duration;

use super::RedisLimits;
use crate::redis::{Command, RedisError, Reply, Script};

static HOLD: Script =
    Script::by_deadline(concat!(include_str!("now.lua"), include_str!("hold.lua")));

/// Whose places are asked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::limit) struct Places<'a> {
    pub(in crate::limit) name: &'a str,
    pub(in crate::limit) principal: &'a str,
    pub(in crate::limit) most: u32,
    pub(in crate::limit) lease: Duration,
}

/// What became of holders.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::limit) struct Held {
    /// Until the next lease runs out.
    pub(in crate::limit) wait: Duration,
    /// Whether each has a place.
    pub(in crate::limit) kept: Vec<bool>,
}

// === impl Places ===

impl Places<'_> {
    /// What a holder is called in Redis: a lease is as long as its holder's
    /// process says, which may be of another version than the one that asks.
    fn holder(&self, holder: &str) -> String {
        format!("{}:{holder}", self.lease.as_micros())
    }
}

impl RedisLimits {
    /// Gives these holders a place, or another lease of the one they have.
    ///
    /// It does so in time or never.
    pub(in crate::limit) async fn hold(
        &self,
        places: &Places<'_>,
        holders: &[String],
    ) -> Result<Held, RedisError> {
        self.hold_at(places, holders, None).await
    }

    async fn hold_at(
        &self,
        places: &Places<'_>,
        holders: &[String],
        now: Option<i64>,
    ) -> Result<Held, RedisError> {
        let lease = i64::try_from(places.lease.as_micros()).unwrap_or(i64::MAX);
        let mut hold = HOLD.call().key(self.places(places));
        hold = match now {
            Some(now) => hold.arg(now),
            None => hold.arg(""),
        };
        hold = hold.arg(i64::from(places.most)).arg(lease);
        for holder in holders {
            hold = hold.arg(places.holder(holder));
        }
        let reply = self.redis.script(hold).await?;
        held(reply, holders.len()).ok_or(RedisError::Reply { command: "EVALSHA" })
    }

    /// Frees the places of these holders.
    pub(in crate::limit) async fn leave(
        &self,
        places: &Places<'_>,
        holders: &[String],
    ) -> Result<(), RedisError> {
        let leave = Command::new("ZREM").key(self.places(places));
        let leave = leave.args(holders.iter().map(|it| places.holder(it)));
        // No holder comes twice, so that this may.
        self.redis.command(leave.attempts(2)).await?;
        Ok(())
    }

    fn places(&self, places: &Places<'_>) -> String {
        format!("{}:{}:c", self.principal(places.principal), places.name)
    }
}

fn held(reply: Reply, holders: usize) -> Option<Held> {
    let numbers: Option<Vec<i64>> = reply.into_array()?.iter().map(Reply::as_int).collect();
    let numbers = numbers?;
    let (wait, kept) = numbers.split_first()?;
    (kept.len() == holders).then(|| Held {
        wait: Duration::from_micros(u64::try_from(*wait).unwrap_or(0)),
        kept: kept.iter().map(|it| *it == 1).collect(),
    })
}

#[cfg(test)]
mod tests;
