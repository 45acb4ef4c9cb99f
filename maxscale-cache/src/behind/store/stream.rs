//! A journal in a stream of Redis. This file alone knows its keys and scripts.
//!
//! ```text
//!  {app:!behind:views:eu-1}         stream: an entry is a group of records
//!      1732262400000000-0  r  MXJr…     its number is that of the first
//!  {app:!behind:views:eu-1}:lease   string: whose it is or was; it is held while its
//!                                   TTL is more than the day for which it is remembered
//! ```
//!
//! Each script asks first whether the lease is still that of its caller. So a
//! process that was taken over from adds and removes nothing any more, however
//! late its commands come; and they do nothing after their deadline.
//!
//! Numbers begin at the server's time in microseconds, and rise. A stream that
//! holds something has no TTL: what was acknowledged must not expire. An empty
//! one, and the lease, go a day after they were used last.

mod reply;

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use maxscale_core::redis::{Command, Lineage, Redis, RedisError, Script};
use tokio::sync::watch;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use super::{Kept, Missing, Opened, Store};
use crate::behind::Stream;
use crate::behind::hold::Hold;
use crate::error::JournalError;
use crate::journal::{Record, Rest, read_all, write_group};
use reply::{read, said, taken};

static TAKE: Script = Script::by_deadline(include_str!("stream/take.lua"));
static KEEP: Script = Script::by_deadline(include_str!("stream/keep.lua"));
static LEAVE: Script = Script::by_deadline(include_str!("stream/leave.lua"));

/// How long Redis is waited for at the start.
const START: Duration = Duration::from_secs(5);
/// How long one waits before one looks whether the server will do.
const LOOK: Duration = Duration::from_millis(50);

/// How long a lease that nobody has, and a stream without entries, are kept.
const IDLE: Duration = Duration::from_secs(86_400);

/// An entry gets no further record once it is so long.
const ENTRY: usize = 1 << 20;
const ENTRY_RECORDS: usize = 1_024;

/// How many entries are read at once.
const PAGE: i64 = 16;

pub(in crate::behind) struct Shared {
    redis: Redis,
    stream: String,
    lease: String,
    owner: String,
    /// Tells entries of another kind from ours.
    seed: u64,
    span: Duration,
    replicas: Option<Replicas>,
    /// When it was there last.
    lineage: Lineage,
    entries: VecDeque<Entry>,
    hold: watch::Sender<Option<Instant>>,
    /// When the lease has to be renewed.
    pub(super) renewal: Instant,
}

#[derive(Clone, Copy)]
struct Replicas {
    wanted: u32,
    within: Duration,
}

#[derive(Clone, Copy)]
struct Entry {
    number: u64,
    length: u64,
}

// === impl Shared ===

impl Shared {
    /// How many bytes may lie there that are not needed.
    pub(super) const SLACK: u64 = 4 << 20;

    /// Takes the stream over, with what is in it. `key` is its key.
    pub(in crate::behind) async fn open(
        stream: Stream,
        replicas: Option<NonZeroU32>,
        kind: &'static str,
        key: String,
    ) -> Result<Opened, JournalError> {
        let mut config = *stream.config;
        if replicas.is_some() {
            // A connection that waits for replicas answers nothing else meanwhile.
            let patience = config.patience();
            config = config.timeout(patience + stream.within);
        }
        let redis = Redis::open(config);
        let failed = |source| JournalError::Stream {
            step: "open",
            key: key.clone(),
            source,
        };
        ready(&redis).await.map_err(failed)?;
        let owner = format!("{:016x}", RandomState::new().hash_one(&key));
        let sent = Instant::now();
        let lease = format!("{key}:lease");
        let take = TAKE.call().key(&*lease).key(&*key).arg(&*owner);
        let take = take.arg(millis(stream.lease)).arg(millis(IDLE));
        let (reply, lineage) = redis.script_from(take).await.map_err(failed)?;
        let (state, now, last) = taken(reply).ok_or_else(unexpected).map_err(failed)?;
        if state == 0 {
            return Err(JournalError::InUse { place: key });
        }
        let (hold, held) = watch::channel(Some(sent + held_for(stream.lease)));
        let mut shared = Self {
            redis,
            stream: key,
            lease,
            owner,
            seed: xxh3_64(kind.as_bytes()),
            span: stream.lease,
            replicas: replicas.map(|wanted| Replicas {
                wanted: wanted.get(),
                within: stream.within,
            }),
            lineage,
            entries: VecDeque::new(),
            hold,
            renewal: sent + stream.lease / 4,
        };
        let records = match shared.read_all().await {
            Ok(records) => records,
            Err(error) => {
                // Why it is not used says more than that it could not be left.
                let _ = shared.leave().await;
                return Err(error);
            }
        };
        let versions = records.iter().map(|(record, _)| record.version);
        let last = versions.fold(last.max(now), u64::max);
        Ok(Opened {
            store: Store::Stream(Box::new(shared)),
            hold: Hold::Until(held),
            records,
            last,
            torn: 0,
        })
    }

    /// As [`Store::append`]. In several entries if it is much; after an error
    /// it is unknown which of them are there.
    pub(super) async fn append(
        &mut self,
        first: u64,
        records: &[Record],
        oldest: u64,
    ) -> Result<Kept, JournalError> {
        let mut all: Option<Kept> = None;
        let (mut number, mut rest) = (first, records);
        while !rest.is_empty() {
            let (part, later) = rest.split_at(first_entry(rest));
            let mut bytes = Vec::new();
            write_group(self.seed, part, &mut bytes);
            let mut kept = self.keep(Some((number, bytes.into())), oldest).await?;
            if let Some(before) = all {
                kept.place = before.place;
                kept.anew |= before.anew;
                kept.missing = fewer(kept.missing, before.missing);
            }
            all = Some(kept);
            number += u64::try_from(part.len()).unwrap_or(0);
            rest = later;
        }
        all.ok_or(JournalError::Failed)
    }

    /// Removes what lies before `oldest`, and renews the lease. Tells whether
    /// what was added before may be gone.
    pub(super) async fn trim(&mut self, oldest: u64) -> Result<bool, JournalError> {
        Ok(self.keep(None, oldest).await?.anew)
    }

    /// Lets somebody else take it over at once.
    pub(super) async fn leave(&mut self) -> Result<(), JournalError> {
        self.hold.send_replace(None);
        let leave = LEAVE.call().key(&*self.lease).arg(&*self.owner);
        let leave = leave.arg(millis(IDLE));
        let left = self.redis.script(leave).await;
        left.map_err(|error| self.failed("leave", error))?;
        self.redis.close().await;
        Ok(())
    }

    pub(super) fn length(&self) -> u64 {
        self.entries.iter().map(|entry| entry.length).sum()
    }

    pub(super) fn oldest(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.number)
    }

    async fn keep(
        &mut self,
        entry: Option<(u64, Bytes)>,
        oldest: u64,
    ) -> Result<Kept, JournalError> {
        let sent = Instant::now();
        if entry.is_none() {
            self.renewal = sent + self.span / 4;
        }
        let mut call = KEEP.call().key(&*self.lease).key(&*self.stream);
        call = call.arg(&*self.owner).arg(millis(self.span));
        call = call.arg(millis(IDLE)).arg(int(oldest));
        let added = entry.as_ref().map(|(number, bytes)| Entry {
            number: *number,
            length: u64::try_from(bytes.len()).unwrap_or(0),
        });
        call = match entry {
            Some((number, bytes)) => call.arg(int(number)).arg(bytes),
            None => call.arg("").arg(""),
        };
        let waited = self.replicas.filter(|_| added.is_some());
        if let Some(replicas) = waited {
            let wait = Command::new("WAIT").arg(i64::from(replicas.wanted));
            call = call.then(wait.arg(millis(replicas.within)));
        }
        let answer = self.redis.script_from(call).await;
        let (reply, lineage) = answer.map_err(|error| self.failed("write to", error))?;
        let said = said(reply, waited.is_some());
        let said = said.ok_or_else(|| self.failed("write to", unexpected()))?;
        if said.state == 0 {
            self.hold.send_replace(None);
            return Err(JournalError::Lost {
                place: self.stream.clone(),
            });
        }
        self.renewal = sent + self.span / 4;
        self.hold.send_replace(Some(sent + held_for(self.span)));
        self.entries.extend(added);
        while self.oldest().is_some_and(|number| number < oldest) {
            self.entries.pop_front();
        }
        let before = std::mem::replace(&mut self.lineage, lineage);
        Ok(Kept {
            place: added.map_or(0, |entry| entry.number),
            at_least: said.now,
            missing: waited
                .filter(|replicas| said.confirmed < replicas.wanted)
                .map(|replicas| Missing {
                    wanted: replicas.wanted,
                    confirmed: said.confirmed,
                }),
            anew: lineage != before || said.state != 1,
        })
    }

    async fn read_all(&mut self) -> Result<Vec<(Record, u64)>, JournalError> {
        let (mut records, mut from) = (Vec::new(), "-".to_owned());
        loop {
            let page = Command::new("XRANGE")
                .key(&*self.stream)
                .arg(&*from)
                .arg("+");
            // Much may lie in it; to read it twice does no harm.
            let page = page.arg("COUNT").arg(PAGE).timeout(self.span).attempts(3);
            let page = self.redis.command(page).await;
            let page = page.map_err(|error| self.failed("read", error))?;
            let page = page.into_array().unwrap_or_default();
            if page.is_empty() {
                return Ok(records);
            }
            for entry in page {
                let (id, number, bytes) =
                    read(entry).ok_or_else(|| self.failed("read", unexpected()))?;
                let contents = read_all(self.seed, &bytes);
                if contents.rest != Rest::Nothing || contents.records.is_empty() {
                    return Err(JournalError::Decode {
                        id,
                        source: "it is no group of records, or of another kind".into(),
                    });
                }
                let length = u64::try_from(bytes.len()).unwrap_or(0);
                self.entries.push_back(Entry { number, length });
                let its = contents.records.into_iter();
                records.extend(its.map(|record| (record, number)));
                from = format!("({id}");
            }
            if Instant::now() >= self.renewal {
                // If the server has changed meanwhile, it may lack what was
                // read; that has to be found by who can bring it there again.
                let lineage = self.lineage;
                self.trim(0).await?;
                self.lineage = lineage;
            }
        }
    }

    fn failed(&self, step: &'static str, source: RedisError) -> JournalError {
        JournalError::Stream {
            step,
            key: self.stream.clone(),
            source,
        }
    }
}

/// Waits for a server that can be used.
async fn ready(redis: &Redis) -> Result<(), RedisError> {
    let end = Instant::now() + START;
    while !redis.wait_ready(LOOK).await {
        if let Some(unfit) = redis.unfit() {
            return Err(unfit.into());
        }
        if Instant::now() >= end {
            return Err(RedisError::Down);
        }
    }
    Ok(())
}

/// For how long one acts on a lease of `span`. A call that begins in time has
/// the rest of it.
fn held_for(span: Duration) -> Duration {
    span / 4 * 3
}

/// How many of the records go into one entry.
fn first_entry(records: &[Record]) -> usize {
    let lengths = records.iter().map(|record| {
        let value = record.value.as_ref().map_or(0, Bytes::len);
        record.id.len() + value
    });
    let fit = lengths.scan(0, |sum, length| {
        *sum += length;
        Some(*sum)
    });
    let fit = fit.take(ENTRY_RECORDS).take_while(|sum| *sum <= ENTRY);
    fit.count().max(1)
}

fn fewer(one: Option<Missing>, other: Option<Missing>) -> Option<Missing> {
    let both = one.into_iter().chain(other);
    both.min_by_key(|missing| missing.confirmed)
}

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

const fn unexpected() -> RedisError {
    RedisError::Reply { command: "EVALSHA" }
}
