//! One Redis string per key: a head of fixed form, then the sealed value.
//!
//! A value is read by a plain GET, or with others by an MGET. Each change is one script on one key, so it
//! also runs on a cluster. Every key has a TTL. Fences come from the server's
//! clock and always rise; a key that was evicted, flushed or expired has none,
//! and fills under its old one are refused.
//!
//! A record carries the [lineage](maxscale_core::redis::Lineage) of the server
//! that wrote it. After a restart or a change of master the server has another
//! one, and whatever was there before counts as absent: the last bumps may be
//! missing from it.
//!
//! A step that timed out and runs later does no harm: a late fill meets the
//! fence, a late bump costs a load.

mod reads;

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use maxscale_core::redis::{Command, Event, Lineage, Redis, RedisError, Reply, Script};

use super::{Advert, Beat, Bump, Bumped, Claimed, Fence, Found, Heard, Notice};
use super::{Remote, RemoteError};
use reads::{Read, Reads};

const MARK: &[u8; 4] = b"MXR2";
const HEAD: usize = 44;

/// How long a process relies on what it read off the board.
const VALID: Duration = Duration::from_secs(3);

/// How long a process that says nothing counts as one that may still act on
/// what it read. Longer than [`VALID`], by which it stopped to.
const SILENT: Duration = Duration::from_secs(5);

macro_rules! script {
    ($file:literal) => {
        Script::new(concat!(
            include_str!("redis/record.lua"),
            include_str!($file)
        ))
    };
}

static CLAIM: Script = script!("redis/claim.lua");
static RELEASE: Script = script!("redis/release.lua");
static FILL: Script = Script::new(include_str!("redis/fill.lua"));
static BUMP: Script = script!("redis/bump.lua");
static BEAT: Script = Script::new(include_str!("redis/beat.lua"));

/// An L2 in Redis, shared by all processes that use the server.
///
/// Drops are told by pub/sub, which loses messages with a connection; the hub
/// hears of it ([`Heard::Missed`]) and asks L2 again before it serves anything.
#[derive(Debug)]
pub struct RedisRemote {
    redis: Redis,
    reads: Reads,
}

// === impl RedisRemote ===

impl RedisRemote {
    /// An L2 on the server behind `redis`.
    pub fn new(redis: Redis) -> Self {
        let reads = Reads::new(&redis);
        Self { redis, reads }
    }
}

impl Remote for RedisRemote {
    async fn read(&self, key: &str) -> Result<Option<Found>, RemoteError> {
        opened(self.reads.one(key).await)
    }

    async fn read_many(&self, keys: &[Arc<str>]) -> Vec<Result<Option<Found>, RemoteError>> {
        let reads = self.reads.many(keys).await;
        reads.into_iter().map(opened).collect()
    }

    async fn claim(
        &self,
        key: &str,
        owner: u64,
        hold: Duration,
        ttl: Duration,
    ) -> Result<Claimed, RemoteError> {
        let claim = CLAIM.call().key(key).arg(number(owner));
        let claim = claim.arg(millis(hold)).arg(millis(ttl));
        let (reply, lineage) = self.redis.script_from(claim).await?;
        claimed(reply, lineage).ok_or_else(unexpected)
    }

    async fn release(&self, key: &str, owner: u64) -> Result<(), RemoteError> {
        let release = RELEASE.call().key(key).arg(number(owner));
        self.redis.script(release).await?;
        Ok(())
    }

    async fn fill(
        &self,
        key: &str,
        fence: Fence,
        version: u64,
        value: Bytes,
        ttl: Duration,
    ) -> Result<bool, RemoteError> {
        let mut record = BytesMut::with_capacity(HEAD + value.len());
        record.put_slice(MARK);
        record.put_u64(fence.get());
        record.put_u64(fence.lineage());
        record.put_u64(version);
        record.put_bytes(0, HEAD - record.len());
        record.put_slice(&value);
        let fill = FILL.call().key(key).arg(record.freeze());
        let reply = self.redis.script(fill.arg(millis(ttl))).await?;
        Ok(reply.as_int().ok_or_else(unexpected)? == 1)
    }

    async fn bump(&self, key: &str, bump: Bump) -> Result<Bumped, RemoteError> {
        let call = BUMP.call().key(key).arg(i64::from(bump.keeps_value));
        let call = call.arg(millis(bump.ttl));
        let (reply, lineage) = self.redis.script_from(call).await?;
        bumped(reply, lineage).ok_or_else(unexpected)
    }

    async fn tell(&self, notice: Notice<'_>) -> Result<(), RemoteError> {
        // No key: any server of a cluster passes it on to all.
        let publish = Command::new("PUBLISH").args([notice.channel, notice.message]);
        self.redis.command(publish).await?;
        Ok(())
    }

    async fn beat(&self, advert: Advert<'_>) -> Result<Beat, RemoteError> {
        // In one slot, since one script reads both.
        let board = format!("{{{}}}", advert.board);
        let processes = format!("{board}:processes");
        let seen = i64::try_from(advert.seen).unwrap_or(0);
        let mut call = BEAT.call().key(board).key(processes).arg(advert.origin);
        call = call.arg(seen).arg(micros(VALID)).arg(micros(SILENT));
        call = call.arg(advert.notice.channel).arg(advert.notice.message);
        for (schema, lives) in advert.schemas {
            call = call.arg(&**schema).arg(micros(*lives));
        }
        let reply = self.redis.script(call).await?;
        beat(reply).ok_or_else(unexpected)
    }

    fn listen(&self, channel: &str) -> BoxStream<'static, Heard> {
        let subscription = self.redis.subscribe(channel);
        stream::unfold(subscription, |mut subscription| async move {
            let heard = match subscription.next().await? {
                Event::Message(message) => Heard::Message(message),
                Event::Gap | Event::Reconnected => Heard::Missed,
            };
            Some((heard, subscription))
        })
        .boxed()
    }
}

fn opened(read: Read) -> Result<Option<Found>, RemoteError> {
    Ok(read?.and_then(|(record, lineage)| found(&record, lineage)))
}

/// What a record holds; `None` if it is of another form or lineage.
fn found(record: &Bytes, lineage: Lineage) -> Option<Found> {
    let (mark, rest) = record.split_first_chunk::<4>()?;
    let (fence, rest) = rest.split_first_chunk::<8>()?;
    let (written_by, _) = rest.split_first_chunk::<8>()?;
    let written_by = u64::from_be_bytes(*written_by);
    if mark != MARK || record.len() < HEAD || written_by != lineage.get() {
        return None;
    }
    let fence = Fence::of(written_by, u64::from_be_bytes(*fence));
    let value = (record.len() > HEAD).then(|| record.slice(HEAD..));
    Some(Found::new(value, fence))
}

fn claimed(reply: Reply, lineage: Lineage) -> Option<Claimed> {
    let [record, wait, now] = <[Reply; 3]>::try_from(reply.into_array()?).ok()?;
    let found = found(&record.into_bytes()?, lineage)?;
    let wait = Duration::from_millis(u64::try_from(wait.as_int()?).ok()?);
    Some(Claimed::new(found, wait, digits(now)?))
}

fn bumped(reply: Reply, lineage: Lineage) -> Option<Bumped> {
    let [fence, before] = <[Reply; 2]>::try_from(reply.into_array()?).ok()?;
    let before = before.into_bytes()?;
    let before = u64::from_be_bytes(before[..].try_into().ok()?);
    Some(Bumped::new(
        Fence::of(lineage.get(), digits(fence)?),
        before,
    ))
}

fn beat(reply: Reply) -> Option<Beat> {
    let mut parts = reply.into_array()?.into_iter();
    let (now, era) = (digits(parts.next()?)?, digits(parts.next()?)?);
    let mut schemas = Vec::new();
    while let Some(name) = parts.next() {
        let name = String::from_utf8(name.into_bytes()?.into()).ok()?;
        let wait = Duration::from_micros(digits(parts.next()?)?);
        schemas.push((name, wait));
    }
    Some(Beat::new(now, era, schemas, VALID))
}

fn digits(reply: Reply) -> Option<u64> {
    std::str::from_utf8(&reply.into_bytes()?).ok()?.parse().ok()
}

fn number(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

/// At most ten years: the server refuses what its clock cannot add, when a part
/// of the script has run.
const MOST: i64 = 10 * 365 * 86_400_000;

fn millis(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).map_or(MOST, |ttl| ttl.clamp(1, MOST))
}

fn micros(time: Duration) -> i64 {
    millis(time).saturating_mul(1_000)
}

fn unexpected() -> RemoteError {
    RedisError::Reply { command: "EVALSHA" }.into()
}

// === impl RemoteError ===

impl From<RedisError> for RemoteError {
    fn from(error: RedisError) -> Self {
        match error {
            RedisError::Timeout { .. } => Self::TimedOut,
            error => Self::Unconfirmed(error.into()),
        }
    }
}
