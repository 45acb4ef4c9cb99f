//! A Redis that stands for the database of a sink in a process of its own.
//!
//! It keeps, per id, the version and value that it has, all values that it
//! took in their order, and what it was told under each version; and who wrote.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use maxscale_cache::JournalError;
use maxscale_cache::behind::{Ack, Behind, DeadLetter, Op, SinkError};
use maxscale_core::BoxError;
use maxscale_core::clock::Clock;
use maxscale_core::redis::{Command, Redis, RedisError, Reply, Script};
use maxscale_tests::eventually;
use tokio::time::sleep;

use super::{SOON, cache};
use crate::program::connect;
use crate::source::LIMIT;

/// The id that the database refuses.
pub(super) const BAD: &str = "bad";

static UPSERT: Script = Script::new(
    "local version, value = ARGV[1], ARGV[2]
     local said = redis.call('HGET', KEYS[1], 'v' .. version)
     if said and said ~= value then
       redis.call('HSET', KEYS[1], 'contradiction', version)
     end
     redis.call('HSET', KEYS[1], 'v' .. version, value)
     redis.call('HINCRBY', KEYS[1], 'told', 1)
     if tonumber(version) > tonumber(redis.call('HGET', KEYS[1], 'version') or '0') then
       redis.call('HSET', KEYS[1], 'version', version)
       redis.call('RPUSH', KEYS[2], value)
     end
     return 1",
);

#[derive(Clone)]
pub(super) struct Database {
    redis: Redis,
    writer: Arc<str>,
}

// === impl Database ===

impl Database {
    /// A flag: nothing can be written.
    pub(super) const CLOSED: &'static str = "closed";

    /// A flag: who writes as `frozen` stands still in the midst of it.
    pub(super) const HELD: &'static str = "held";

    /// When somebody was frozen.
    const FROZEN_AT: &'static str = "frozen at";

    /// Who writes by a call that had begun before somebody was frozen.
    pub(super) const LATE: &'static str = "late";

    pub(super) async fn connect(url: &str, writer: &str) -> Self {
        Self {
            redis: connect(url).await,
            writer: writer.into(),
        }
    }

    /// Waits for whoever has the journal: who was killed may take a moment to
    /// die, and longer until its lease has run out.
    pub(super) async fn open(&self, ack: &Ack) -> Behind<u64> {
        eventually(LIMIT * 3, async || self.try_open(ack).await).await
    }

    async fn try_open(&self, ack: &Ack) -> Result<Behind<u64>, JournalError> {
        let (write, bury) = (self.clone(), self.clone());
        let write = move |ops| write.clone().write(ops);
        let bury = move |letter| bury.clone().bury(letter);
        Behind::builder(&cache(), ack.clone(), write, bury)
            .max_delay(Duration::from_millis(30))
            .backoff(SOON)
            .refusals(3)
            .open()
            .await
    }

    #[expect(clippy::print_stdout, reason = "the test waits for it")]
    async fn write(self, ops: Vec<Op<u64>>) -> Result<(), SinkError> {
        let begun = now();
        if ops.iter().any(|op| &*op.id == BAD) {
            return Err(SinkError::Refused("it breaks a rule of the table".into()));
        }
        if self.is(Self::CLOSED).await {
            return Err(SinkError::Unavailable("closed".into()));
        }
        if &*self.writer == "frozen" && self.is(Self::HELD).await {
            println!("held");
            while self.is(Self::HELD).await {
                sleep(Duration::from_millis(5)).await;
            }
        }
        let frozen = self.ask(Command::new("GET").key(Self::FROZEN_AT)).await;
        let frozen = frozen.into_bytes().map(|it| String::from_utf8(it.into()));
        let is_late = frozen.is_some_and(|it| begun < it.unwrap().parse().unwrap());
        let writer = if is_late { Self::LATE } else { &self.writer };
        let push = Command::new("RPUSH").key("writers");
        self.ask(push.arg(writer)).await;
        let upserts = ops.iter().map(|op| {
            let (row, taken) = (format!("row:{}", op.id), format!("taken:{}", op.id));
            let call = UPSERT.call().key(row).key(taken);
            let value = op.value.as_deref().copied().unwrap_or(0);
            let call = call.arg(op.version.to_string()).arg(value.to_string());
            self.redis.script(call)
        });
        let done: Result<Vec<_>, RedisError> = join_all(upserts).await.into_iter().collect();
        done.map_err(|error| SinkError::Unavailable(error.into()))?;
        Ok(())
    }

    async fn bury(self, letter: DeadLetter<u64>) -> Result<(), BoxError> {
        let value = letter.op.value.as_deref().copied().unwrap_or(0);
        let push = Command::new("RPUSH").key(format!("taken:{}", letter.op.id));
        self.redis.command(push.arg(value.to_string())).await?;
        Ok(())
    }

    /// What the database took of `id`, in its order.
    pub(super) async fn taken(&self, id: &str) -> Vec<u64> {
        let taken = self.list(&format!("taken:{id}")).await;
        taken.iter().map(|digits| digits.parse().unwrap()).collect()
    }

    /// Who wrote, for each call of a sink that went through.
    pub(super) async fn writers(&self) -> Vec<String> {
        self.list("writers").await
    }

    pub(super) async fn field(&self, id: &str, field: &str) -> Option<u64> {
        let get = Command::new("HGET").key(format!("row:{id}")).arg(field);
        let digits = self.ask(get).await.into_bytes()?;
        std::str::from_utf8(&digits).unwrap().parse().ok()
    }

    /// Somebody has just been frozen: what calls begin from now on, he begins later.
    pub(super) async fn frozen(&self) {
        let set = Command::new("SET").key(Self::FROZEN_AT);
        self.ask(set.arg(now().to_string())).await;
    }

    pub(super) async fn set(&self, flag: &'static str, up: bool) {
        let key = |command| Command::new(command).key(flag);
        self.ask(if up { key("SET").arg(1) } else { key("DEL") })
            .await;
    }

    async fn is(&self, flag: &'static str) -> bool {
        let there = self.ask(Command::new("EXISTS").key(flag)).await;
        there.as_int() == Some(1)
    }

    async fn list(&self, key: &str) -> Vec<String> {
        let range = Command::new("LRANGE").key(key).arg(0).arg(-1);
        let texts = self.ask(range).await.into_array().unwrap();
        let text = |reply: Reply| String::from_utf8(reply.into_bytes().unwrap().into());
        texts.into_iter().map(|it| text(it).unwrap()).collect()
    }

    async fn ask(&self, command: Command) -> Reply {
        self.redis.command(command).await.unwrap()
    }
}

/// In microseconds.
fn now() -> i64 {
    Clock::system().now().as_micros()
}
