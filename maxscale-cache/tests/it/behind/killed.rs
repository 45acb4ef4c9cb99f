//! A process that accepts values is killed at any moment, again and again, and
//! its successor opens the same journal.
//!
//! A Redis stands for the database. It keeps, per id, the version and value
//! that it has, all values that it took in their order, and what it was told
//! under each version. Values of an id are numbers that rise, over all
//! processes. What has to hold in the end:
//!
//! - no id has less than the last value that was acknowledged;
//! - of no id a lower value was taken after a higher one;
//! - no version ever stood for two values;
//! - what the database refuses is a dead letter, and in nobody's way.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use maxscale_cache::behind::{Ack, Behind, DeadLetter, Journal, Op, SinkError};
use maxscale_core::BoxError;
use maxscale_core::redis::{Command, Redis, RedisConfig, RedisError, Script};
use maxscale_tests::{Process, RedisServer, eventually};
use tokio::time::sleep;

use super::{SOON, cache};
use crate::source::LIMIT;

const DATABASE: &str = "MAXSCALE_TEST_DATABASE";
const FOLDER: &str = "MAXSCALE_TEST_FOLDER";
const ROUND: &str = "MAXSCALE_TEST_ROUND";

const TASKS: u64 = 4;
const KEYS: u64 = 5;

/// The id that the database refuses.
const BAD: &str = "bad";

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
struct Database(Redis);

// === impl Database ===

impl Database {
    async fn connect(url: &str) -> Self {
        let redis = Redis::open(RedisConfig::new(url).unwrap().timeout(LIMIT));
        assert!(redis.wait_ready(LIMIT).await);
        Self(redis)
    }

    async fn open(&self, folder: &Path) -> Behind<u64> {
        // Whoever was killed may take a moment to die.
        eventually(LIMIT, async || {
            let (write, bury) = (self.clone(), self.clone());
            let ack = Ack::Journal(Journal::folder(folder).segment(32 << 10));
            let write = move |ops| write.clone().write(ops);
            let bury = move |letter| bury.clone().bury(letter);
            Behind::builder(&cache(), ack, write, bury)
                .max_delay(Duration::from_millis(30))
                .backoff(SOON)
                .refusals(3)
                .open()
                .await
        })
        .await
    }

    async fn write(self, ops: Vec<Op<u64>>) -> Result<(), SinkError> {
        if ops.iter().any(|op| &*op.id == BAD) {
            return Err(SinkError::Refused("it breaks a rule of the table".into()));
        }
        let upserts = ops.iter().map(|op| {
            let (row, taken) = (format!("row:{}", op.id), format!("taken:{}", op.id));
            let call = UPSERT.call().key(row).key(taken);
            let value = op.value.as_deref().copied().unwrap_or(0);
            let call = call.arg(op.version.to_string()).arg(value.to_string());
            self.0.script(call)
        });
        let done: Result<Vec<_>, RedisError> = join_all(upserts).await.into_iter().collect();
        done.map_err(|error| SinkError::Unavailable(error.into()))?;
        Ok(())
    }

    async fn bury(self, letter: DeadLetter<u64>) -> Result<(), BoxError> {
        let value = letter.op.value.as_deref().copied().unwrap_or(0);
        let push = Command::new("RPUSH").key(format!("taken:{}", letter.op.id));
        self.0.command(push.arg(value.to_string())).await?;
        Ok(())
    }

    /// What the database took of `id`, in its order.
    async fn taken(&self, id: &str) -> Vec<u64> {
        let range = Command::new("LRANGE").key(format!("taken:{id}"));
        let range = range.arg(0).arg(-1);
        let taken = self.0.command(range).await.unwrap().into_array().unwrap();
        let number = |reply: maxscale_core::redis::Reply| {
            let digits = reply.into_bytes().unwrap();
            std::str::from_utf8(&digits).unwrap().parse().unwrap()
        };
        taken.into_iter().map(number).collect()
    }

    async fn field(&self, id: &str, field: &str) -> Option<u64> {
        let get = Command::new("HGET").key(format!("row:{id}")).arg(field);
        let digits = self.0.command(get).await.unwrap().into_bytes()?;
        std::str::from_utf8(&digits).unwrap().parse().ok()
    }
}

/// Accepts values for as long as it lives, and says which were acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the program that other tests start"]
#[expect(clippy::disallowed_methods, reason = "how a test tells its program")]
async fn program_that_accepts() {
    let Ok(url) = std::env::var(DATABASE) else {
        return;
    };
    let folder = PathBuf::from(std::env::var(FOLDER).unwrap());
    let round: u64 = std::env::var(ROUND).unwrap().parse().unwrap();
    let behind = Database::connect(&url).await.open(&folder).await;
    println!("ready {:?}", behind.replayed());
    let acks = File::options()
        .create(true)
        .append(true)
        .open(acks(&folder));
    let acks = Arc::new(acks.unwrap());
    let tasks = (0..TASKS).map(|task| {
        let (behind, acks) = (behind.clone(), acks.clone());
        tokio::spawn(async move {
            for value in round * 1_000_000.. {
                let id = match (task, value % 7) {
                    (0, 0) => BAD.to_owned(),
                    _ => format!("{task}-{}", value % KEYS),
                };
                behind.put(&id, value).await.unwrap();
                // One write, which a kill does not tear.
                let line = format!("{id} {value}\n");
                (&*acks).write_all(line.as_bytes()).unwrap();
            }
        })
    });
    join_all(tasks).await;
}

/// Where processes note what was acknowledged to them.
fn acks(folder: &Path) -> PathBuf {
    folder.join("acks.txt")
}

/// What was done, in words.
async fn kill_again_and_again(kills: u64) -> String {
    let (server, folder) = (RedisServer::start().await, tempfile::tempdir().unwrap());
    let mut torn = 0;
    for round in 1..=kills {
        let process = Process::builder(std::env::current_exe().unwrap())
            .args(["--exact", "behind::killed::program_that_accepts"])
            .args(["--ignored", "--nocapture"])
            .env(DATABASE, server.url())
            .env(FOLDER, folder.path())
            .env(ROUND, round.to_string())
            .start();
        // Any moment will do: every fourth time one while it still opens.
        let moment = Duration::from_millis(round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56);
        if !round.is_multiple_of(4) {
            let ready = process.wait_for_line("ready", LIMIT * 3).await;
            torn += u64::from(!ready.contains("torn: 0"));
        }
        sleep(moment).await;
        assert!(process.is_running(), "{:?}", process.lines());
        process.kill();
    }
    let database = Database::connect(&server.url()).await;
    let behind = database.open(folder.path()).await;
    behind.shutdown(LIMIT * 3).await.unwrap();

    let lines = std::fs::read_to_string(acks(folder.path())).unwrap();
    let acks = u64::try_from(lines.lines().count()).unwrap();
    let mut acknowledged = HashMap::<&str, u64>::new();
    for line in lines.lines() {
        let (id, value) = line.split_once(' ').unwrap();
        let last = acknowledged.entry(id).or_default();
        *last = (*last).max(value.parse().unwrap());
    }
    let mut told = 0;
    for (id, last) in &acknowledged {
        let taken = database.taken(id).await;
        let has = taken.last().copied().unwrap_or(0);
        assert!(
            has >= *last,
            "{id}: {last} was acknowledged, {has} is there"
        );
        assert!(
            taken.is_sorted_by(|a, b| a < b || (*id == BAD && a == b)),
            "{id}: {taken:?}"
        );
        assert_eq!(database.field(id, "contradiction").await, None, "{id}");
        told += database.field(id, "told").await.unwrap_or(0);
    }
    // Else nothing was put to the test.
    assert!(acks > kills * 10 && acknowledged.contains_key(BAD));
    let letters = database.taken(BAD).await.len();
    format!(
        "{kills} kills, {acks} acknowledged, {told} written, {torn} torn ends, {letters} dead letters"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_acknowledged_is_lost_or_reordered_by_kills() {
    println!("{}", kill_again_and_again(8).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "two hundred kills take half a minute; CONTRIBUTING.md has the command"]
async fn nothing_that_was_acknowledged_is_lost_or_reordered_by_two_hundred_kills() {
    println!("{}", kill_again_and_again(200).await);
}
