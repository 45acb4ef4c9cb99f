mod attempt;
mod hold;
mod marks;
mod take;

use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::lease::Terms;
use super::rule::Ground;
use super::{Call, Edit, Granted, LimitStore, Rule};
use crate::keys::{KeyRing, PurposeKeys, Tag};
use crate::redis::{Command, Redis, RedisError, Script};
pub(super) use hold::Places;

static TAKE: Script = Script::by_deadline(concat!(
    include_str!("redis/now.lua"),
    include_str!("redis/take.lua")
));
static HEARTBEAT: Script = Script::new(include_str!("redis/heartbeat.lua"));
static BACK: Script = Script::by_deadline(concat!(
    include_str!("redis/now.lua"),
    include_str!("redis/back.lua")
));
static BLOCK: Script = Script::new(include_str!("redis/block.lua"));

/// Counts in Redis, for all processes that use the same server and prefix.
///
/// One script decides and counts all policies of a principal, by the server's
/// clock, and those of several principals at once where no cluster keeps their keys
/// apart; each key expires when nothing of it counts any more. Keys hold a keyed
/// hash, never the address or name that they count. In a cluster the keys of a
/// principal lie in one slot.
///
/// While Redis is down a call fails; [`Limits`](super::Limits) then decides in
/// this process. A call that timed out may have been counted, but will not be
/// counted later: a server that comes to it after its time leaves it.
#[derive(Clone)]
pub struct RedisLimits {
    redis: Redis,
    prefix: Arc<str>,
    ring: Arc<KeyRing>,
    /// For the names of principals.
    principals: PurposeKeys,
}

// === impl RedisLimits ===

impl RedisLimits {
    /// Counts under keys that begin with `prefix`, which has no braces, hashed with the newest key
    /// of `ring`, which all processes must share. A rotated key starts all
    /// counts anew.
    pub fn new(redis: Redis, prefix: &str, ring: KeyRing) -> Self {
        Self {
            redis,
            prefix: prefix.into(),
            principals: ring.for_purpose("limit key"),
            ring: Arc::new(ring),
        }
    }

    /// Decides what is asked of several principals, each its own, by one command.
    /// In a cluster they must lie together.
    pub(super) async fn run_all(&self, calls: &[Call]) -> Result<Vec<Vec<Granted>>, RedisError> {
        self.run_at(calls, None).await
    }

    async fn run_at(
        &self,
        calls: &[Call],
        now: Option<i64>,
    ) -> Result<Vec<Vec<Granted>>, RedisError> {
        let groups = take::alike(calls);
        let mut take = TAKE.call();
        for key in self.keys(groups.iter().flatten().map(|place| &calls[*place])) {
            take = take.key(key);
        }
        take = match now {
            Some(now) => take.arg(now),
            None => take.arg(""),
        };
        for group in &groups {
            let principals = i64::try_from(group.len()).unwrap_or(i64::MAX);
            take = take::described(take.arg(principals), &calls[group[0]]);
        }
        let reply = self.redis.script(take).await?;
        let answers = take::answers(reply, calls, &groups);
        answers.ok_or(RedisError::Reply { command: "EVALSHA" })
    }

    /// All keys of these calls, in one piece of memory.
    fn keys<'a>(&self, calls: impl Iterator<Item = &'a Call>) -> Vec<Bytes> {
        let (mut text, mut ends) = (String::new(), Vec::new());
        for call in calls {
            let principal = self.principal(&call.principal);
            for entry in &call.entries {
                Self::write_key(&mut text, &principal, &entry.policy, &entry.rule);
                ends.push(text.len());
            }
        }
        let (mut text, mut start) = (Bytes::from(text), 0);
        let keys = ends.into_iter().map(|end| {
            let key = text.split_to(end - start);
            start = end;
            key
        });
        keys.collect()
    }

    /// Takes back what a process had leased under these terms and not spent; how many
    /// tokens that were.
    pub(super) async fn take_back(
        &self,
        principal: &str,
        policy: &str,
        terms: &Terms,
        tokens: u32,
        now: Option<i64>,
    ) -> Result<u32, RedisError> {
        let Some(allowance) = terms.allowance() else {
            return Ok(0);
        };
        let key = Self::key(&self.principal(principal), policy, &terms.rate.into());
        let mut back = BACK.call().key(key.as_str()).key(format!("{key}:back"));
        back = match now {
            Some(now) => back.arg(now),
            // Later the tokens count as spent.
            None => back.arg("").timeout(BACK_WITHIN),
        };
        let [_, interval, tolerance, _] = terms.rate.numbers();
        let [_, most, width, _] = allowance.numbers();
        for number in [interval, tolerance, most, width] {
            back = back.arg(number);
        }
        let reply = self.redis.script(back.arg(i64::from(tokens))).await?;
        let taken = reply.as_int().and_then(|taken| taken.try_into().ok());
        taken.ok_or(RedisError::Reply { command: "EVALSHA" })
    }

    /// Whether principals lie together, whoever they are.
    pub(super) fn is_one_place(&self) -> bool {
        self.redis.is_one_place()
    }

    /// How long a call may take.
    pub(super) fn patience(&self) -> Duration {
        self.redis.patience()
    }

    /// Whether a call would fail without being sent.
    pub(super) fn is_down(&self) -> bool {
        self.redis.is_down()
    }

    /// Says that the process `own` counts here for so long; gives how many do.
    pub(super) async fn heartbeat(&self, own: &str, long: Duration) -> Result<u32, RedisError> {
        let millis = i64::try_from(long.as_millis()).unwrap_or(i64::MAX);
        let key = format!("{}limit:2:instances", self.prefix);
        let reply = self
            .redis
            .script(HEARTBEAT.call().key(key).arg(own).arg(millis));
        let count = reply.await?.as_int();
        let count = count.and_then(|count| count.try_into().ok());
        count.ok_or(RedisError::Reply { command: "EVALSHA" })
    }

    /// What the keys of a principal begin with; the braces keep them in one slot.
    fn principal(&self, principal: &str) -> String {
        // The version of what the script stores is part of the name.
        format!("{}limit:2:{{{:032x}}}", self.prefix, self.tag(principal))
    }

    /// Stands for a principal wherever others may read.
    pub(super) fn tag(&self, principal: &str) -> u128 {
        first_bits(&self.principals.sign(principal.as_bytes()).1)
    }

    fn key(principal: &str, policy: &str, rule: &Rule) -> String {
        let mut key = String::new();
        Self::write_key(&mut key, principal, policy, rule);
        key
    }

    fn write_key(to: &mut String, principal: &str, policy: &str, rule: &Rule) {
        to.extend([principal, ":", policy]);
        // Writing to a string does not fail.
        let _ = match rule.ground() {
            Ground::Rate => Ok(()),
            Ground::Quota { width, slices } => write!(to, ":q{width}:{slices}"),
            Ground::Log { length } => write!(to, ":l{length}"),
        };
    }
}

impl LimitStore for RedisLimits {
    type Error = RedisError;

    async fn run(&self, call: &Call) -> Result<Vec<Granted>, RedisError> {
        let answers = self.run_all(std::slice::from_ref(call)).await?;
        let answer = answers.into_iter().next();
        answer.ok_or(RedisError::Reply { command: "EVALSHA" })
    }

    async fn edit(
        &self,
        principal: &str,
        policy: &str,
        rule: &Rule,
        edit: Edit,
    ) -> Result<(), RedisError> {
        let key = Self::key(&self.principal(principal), policy, rule);
        match edit {
            Edit::Reset => self.redis.command(Command::new("DEL").key(key)).await?,
            Edit::Block(time) => {
                let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
                let block = BLOCK.call().key(key).arg(micros.min(LONGEST_BLOCK));
                self.redis.script(block).await?
            }
        };
        Ok(())
    }
}

/// How long giving tokens back may take.
pub(super) const BACK_WITHIN: Duration = Duration::from_millis(100);

/// A hundred years, which a double holds to the microsecond.
const LONGEST_BLOCK: i64 = 100 * 366 * 24 * 3_600 * 1_000_000;

impl fmt::Debug for RedisLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLimits")
            .field("redis", &self.redis)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

fn hex(tag: &Tag) -> String {
    format!("{:032x}", first_bits(tag))
}

/// The first 128 bits: enough that no two keys meet.
fn first_bits(tag: &Tag) -> u128 {
    let bits = tag[..16].iter();
    bits.fold(0, |bits, b| bits << 8 | u128::from(*b))
}

#[cfg(test)]
mod tests;
