//! Reads of many callers at once, from a real Redis that stands still meanwhile.

use std::sync::Arc;

use maxscale_cache::remote::{FENCE_TTL, RedisRemote, Remote as _};
use maxscale_core::redis::{Command, Redis, RedisConfig};
use maxscale_tests::{RedisServer, eventually};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinHandle, yield_now};

use crate::source::LIMIT;

const KEYS: usize = 150;

fn key(n: usize) -> String {
    format!("k{n}")
}

/// A store with a value under each key, on a server that may stand still for long.
async fn store(server: &RedisServer) -> (Arc<RedisRemote>, Redis) {
    let config = RedisConfig::new(&server.url()).unwrap().timeout(LIMIT);
    let redis = Redis::open(config);
    assert!(redis.wait_ready(LIMIT).await);
    let remote = RedisRemote::new(redis.clone());
    for n in 0..KEYS {
        let claimed = remote.claim(&key(n), 0, FENCE_TTL, FENCE_TTL).await;
        let fence = claimed.unwrap().found.fence;
        let filled = remote.fill(&key(n), fence, 0, key(n).into(), LIMIT).await;
        assert!(filled.unwrap());
    }
    (Arc::new(remote), redis)
}

/// How often the server was told to read so far.
async fn commands(redis: &Redis) -> u64 {
    let stats = redis.command(Command::new("INFO").arg("commandstats"));
    let stats = stats.await.unwrap().into_bytes().unwrap();
    let stats = std::str::from_utf8(&stats).unwrap();
    let calls = |name| {
        let calls = stats.split(name).nth(1);
        calls.map_or(0, |it| it.split(',').next().unwrap().parse().unwrap())
    };
    calls("cmdstat_get:calls=") + calls("cmdstat_mget:calls=")
}

type Value = Result<Option<String>, String>;

/// Starts a read, and returns once it is under way or waits for others.
async fn begin(remote: &Arc<RedisRemote>, n: usize, on: &Handle) -> JoinHandle<Value> {
    let remote = remote.clone();
    let begun = Arc::new(tokio::sync::Notify::new());
    let told = begun.clone();
    let read = on.spawn(async move {
        let key = key(n);
        let mut read = std::pin::pin!(remote.read(&key));
        let first = futures_util::poll!(&mut read);
        told.notify_one();
        let found = match first {
            std::task::Poll::Ready(found) => found,
            std::task::Poll::Pending => read.await,
        };
        let found = found.map_err(|error| error.to_string())?;
        let value = found.and_then(|it| it.value);
        Ok(value.map(|it| String::from_utf8(it.into()).unwrap()))
    });
    begun.notified().await;
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_at_once_are_few_commands_and_each_gets_its_own_value() {
    let server = RedisServer::start().await;
    let (remote, redis) = store(&server).await;
    // Somebody else's, and one that nobody has.
    let other = Command::new("LPUSH").key(key(7)).arg("x");
    redis
        .command(Command::new("DEL").key(key(7)))
        .await
        .unwrap();
    redis.command(other).await.unwrap();
    redis
        .command(Command::new("DEL").key(key(8)))
        .await
        .unwrap();
    let wanted = |n| (n != 7 && n != 8).then(|| key(n));

    let before = commands(&redis).await;
    server.pause();
    let mut reads = Vec::new();
    for n in 0..KEYS {
        reads.push(begin(&remote, n, &Handle::current()).await);
    }
    server.resume();
    for (n, read) in reads.into_iter().enumerate() {
        assert_eq!(read.await.unwrap(), Ok(wanted(n)), "{n}");
    }
    let count = commands(&redis).await - before;
    assert!(count <= 8, "{count} commands");

    let before = commands(&redis).await;
    let keys: Vec<_> = (0..KEYS).map(|n| key(n).into()).collect();
    let found = remote.read_many(&keys).await;
    for (n, found) in found.into_iter().enumerate() {
        let value = found.unwrap().and_then(|it| it.value);
        assert_eq!(value, wanted(n).map(Into::into), "{n}");
    }
    assert_eq!(commands(&redis).await - before, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_leaves_the_place_to_those_who_wait() {
    let server = RedisServer::start().await;
    let (remote, _redis) = store(&server).await;
    server.pause();
    let mut reads = Vec::new();
    for n in 0..KEYS {
        reads.push(begin(&remote, n, &Handle::current()).await);
    }
    // The first ones sent for themselves.
    for read in &reads[..16] {
        read.abort();
    }
    server.resume();
    for (n, read) in reads.into_iter().enumerate().skip(16) {
        assert_eq!(read.await.unwrap(), Ok(Some(key(n))), "{n}");
    }
    let found = remote.read(&key(3)).await.unwrap().unwrap();
    assert_eq!(found.value, Some(key(3).into()));
}

/// A runtime whose end aborts what runs on it.
fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn runtime_that_ends_keeps_nobody_on_another_waiting() {
    let (stays, ends) = (runtime(), runtime());
    stays.block_on(async {
        let server = RedisServer::start().await;
        let (remote, _redis) = store(&server).await;
        server.pause();
        // As many as send for themselves, and more.
        for n in 0..16 {
            begin(&remote, n, ends.handle()).await;
        }
        let waits = begin(&remote, 20, &Handle::current()).await;
        ends.shutdown_background();
        let lost = waits.await.unwrap();
        assert!(lost.is_err(), "{lost:?}");
        server.resume();
        let found = eventually(LIMIT, async || {
            yield_now().await;
            remote.read(&key(3)).await.ok().flatten()
        });
        assert_eq!(found.await.value, Some(key(3).into()));
    });
}
