//! A store that forgets a key never gives one of its fences again: who took one
//! before may still be loading.

use std::time::Duration;

use bytes::Bytes;
use maxscale_cache::remote::{Bump, FENCE_TTL, Fence, LocalRemote, RedisRemote, Remote};
use maxscale_core::redis::{Command, Redis};
use maxscale_tests::{RedisServer, eventually};

use crate::program::connect;
use crate::source::LIMIT;

const KEY: &str = "k";

async fn claim(remote: &impl Remote) -> Fence {
    let claimed = remote.claim(KEY, 0, Duration::ZERO, FENCE_TTL).await;
    claimed.unwrap().found.fence
}

async fn fill(remote: &impl Remote, fence: Fence, value: &'static str) -> bool {
    let filled = remote.fill(KEY, fence, 0, value.into(), LIMIT).await;
    filled.unwrap()
}

async fn gives_no_fence_twice(remote: &impl Remote, evict: impl AsyncFn()) {
    let mut given = Vec::new();
    for round in 0..3 {
        let first = claim(remote).await;
        let bumped = remote.bump(KEY, Bump::new()).await.unwrap().fence;
        for fence in [first, bumped] {
            assert!(!given.contains(&fence), "{fence:?} again in round {round}");
            given.push(fence);
        }
        evict().await;
        assert_eq!(remote.read(KEY).await.unwrap(), None, "it is still there");
        assert!(!fill(remote, bumped, "old").await, "filled after eviction");
    }
    let now = claim(remote).await;
    for fence in given {
        assert!(!fill(remote, fence, "old").await, "filled under {fence:?}");
    }
    assert!(fill(remote, now, "new").await);
    let found = remote.read(KEY).await.unwrap().unwrap();
    assert_eq!(found.value, Some(Bytes::from("new")));
}

async fn set(redis: &Redis, name: &'static str, value: &'static str) {
    let set = Command::new("CONFIG").args(["SET", name, value]);
    redis.command(set).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_gives_no_fence_twice_though_it_evicts() {
    let server = RedisServer::start().await;
    let redis = connect(&server.url()).await;
    let remote = RedisRemote::new(connect(&server.url()).await);
    set(&redis, "maxmemory-policy", "allkeys-lru").await;
    gives_no_fence_twice(&remote, async || {
        set(&redis, "maxmemory", "1").await;
        eventually(LIMIT, async || {
            let size = redis.command(Command::new("DBSIZE")).await.unwrap();
            (size.as_int() == Some(0)).then_some(()).ok_or(size)
        })
        .await;
        set(&redis, "maxmemory", "0").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn store_in_the_process_gives_no_fence_twice_though_it_evicts() {
    let remote = LocalRemote::new(100_000);
    gives_no_fence_twice(&remote, async || {
        let mut n = 0_u32;
        eventually(LIMIT, async || {
            for _ in 0..1_000 {
                n += 1;
                let other = format!("other-{n}");
                remote.bump(&other, Bump::new()).await.unwrap();
                // What is asked for more often stays.
                for _ in 0..20 {
                    remote.read(&other).await.unwrap();
                }
            }
            remote.read(KEY).await.unwrap().is_none()
        })
        .await;
    })
    .await;
}
