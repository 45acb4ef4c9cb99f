//! Another process, which has values near and notes when it hears that they changed.
//!
//! It is told what to do by lines and answers by lines. Times are microseconds of the
//! machine's clock, which all processes of the machine share.

use std::convert::Infallible;
use std::thread::park_timeout;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fred::interfaces::{ClientLike as _, EventInterface as _, PubsubInterface as _};
use fred::types::Builder;
use fred::types::config::{Config, PerformanceConfig};
use maxscale_cache::remote::RedisRemote;
use maxscale_cache::{Cache, CacheSpec, Hub};
use maxscale_core::BoxError;
use maxscale_core::redis::{Redis, RedisConfig};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, stdin, stdout};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::READY;

/// Get all values near.
pub(super) const LOAD: &str = "load";
/// Note when each is gone, in their order.
pub(super) const WATCH: &str = "watch";
/// Note when each of as many bare messages comes.
pub(super) const HEAR: &str = "hear";
/// Where those are sent.
pub(super) const CHANNEL: &str = "bare";

/// How often one looks whether a value is gone.
const LOOK_EVERY: Duration = Duration::from_micros(50);

/// Does what it is told until its input ends. `count` is how many values there are.
pub(crate) async fn listen(url: &str, count: usize) -> Result<(), BoxError> {
    let cache = cache(url).await?;
    let mut bare = Builder::from_config(Config::from_url(url)?);
    bare.set_performance_config(PerformanceConfig {
        broadcast_channel_capacity: count,
        ..PerformanceConfig::default()
    });
    let bare = bare.build()?;
    bare.init().await?;
    bare.subscribe(CHANNEL).await?;
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match &*line {
            LOAD => {
                load(&cache, count).await?;
                answer("").await?;
            }
            WATCH => {
                let cache = cache.clone();
                let watching = spawn_blocking(move || watch(&cache, count));
                answer("").await?;
                answer(&watching.await?).await?;
            }
            HEAR => {
                let mut heard = bare.message_rx();
                answer("").await?;
                let mut times = String::new();
                for _ in 0..count {
                    heard.recv().await?;
                    note(&mut times);
                }
                answer(&times).await?;
            }
            other => return Err(format!("told to {other}").into()),
        }
    }
    Ok(())
}

pub(super) async fn cache(url: &str) -> Result<Cache<String>, BoxError> {
    let redis = Redis::open(RedisConfig::new(url)?);
    if !redis.wait_ready(READY).await {
        return Err("redis is not ready".into());
    }
    let hub = Hub::builder().remote(RedisRemote::new(redis)).build();
    Ok(hub.cache(CacheSpec::new("name", 1)))
}

pub(super) fn id(n: usize) -> String {
    format!("account-{n}")
}

#[expect(
    clippy::disallowed_methods,
    reason = "two processes on one machine compare it"
)]
pub(super) fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

async fn load(cache: &Cache<String>, count: usize) -> Result<(), BoxError> {
    for n in 0..count {
        let id = id(n);
        // It may be refused while changes are still being heard.
        while cache.peek(&id).is_none() {
            let value = id.clone();
            let load = || async { Ok::<_, Infallible>(Some(value)) };
            cache.get_or_load(&id, load).await?;
            if cache.peek(&id).is_none() {
                sleep(Duration::from_millis(1)).await;
            }
        }
    }
    Ok(())
}

/// On a thread of its own, which wakes sooner than the runtime's timer.
fn watch(cache: &Cache<String>, count: usize) -> String {
    let mut times = String::new();
    for n in 0..count {
        let id = id(n);
        while cache.peek(&id).is_some() {
            park_timeout(LOOK_EVERY);
        }
        note(&mut times);
    }
    times
}

fn note(times: &mut String) {
    times.push_str(&now().to_string());
    times.push(' ');
}

async fn answer(line: &str) -> Result<(), BoxError> {
    let mut out = stdout();
    out.write_all(line.as_bytes()).await?;
    out.write_all(b"\n").await?;
    Ok(out.flush().await?)
}
