//! Processes of their own: tests of this binary that other tests start.

use std::ffi::OsStr;
use std::time::Duration;

use maxscale_cache::remote::RedisRemote;
use maxscale_cache::{Hub, HubBuilder};
use maxscale_core::redis::{Command, Redis, RedisConfig, Reply};
use maxscale_tests::{Process, eventually};

use crate::source::{LIMIT, LONG};

/// Starts the test `name`, which is ignored otherwise, with these variables.
pub(crate) fn start<V: AsRef<OsStr>>(name: &str, variables: &[(&str, V)]) -> Process {
    let program = std::env::current_exe().unwrap();
    let mut program = Process::builder(program).args(["--exact", name, "--ignored", "--nocapture"]);
    for (name, value) in variables {
        program = program.env(name, value);
    }
    program.start()
}

/// What a program was started with; `None` where nobody started it.
#[expect(clippy::disallowed_methods, reason = "how a test tells its program")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A handle whose commands may take long, for a test that is not about speed.
pub(crate) async fn connect(url: &str) -> Redis {
    let redis = Redis::open(RedisConfig::new(url).unwrap().timeout(LIMIT));
    assert!(redis.wait_ready(LIMIT).await);
    redis
}

/// A hub on `redis` that waits for it as long as it takes.
pub(crate) fn patient(redis: Redis) -> HubBuilder {
    let remote = RedisRemote::new(redis);
    Hub::builder().remote(remote).remote_timeout(LIMIT)
}

/// Returns once `hub` hears the others and uses L2 for [`LONG`].
pub(crate) async fn wait_until_in_use(hub: &Hub) {
    // Nothing is found near.
    let cache = hub.cache::<u64>(LONG.l1_ttl(Duration::ZERO));
    let id = format!("warm-{}", std::process::id());
    eventually(LIMIT, async || {
        let load = || async { Ok::<_, std::convert::Infallible>(Some(0)) };
        cache.get_or_load(&id, load).await.unwrap();
        cache.get(&id).await.is_some() && hub.stats().gaps > 0
    })
    .await;
}

/// Raises a flag that programs wait for.
pub(crate) async fn raise(redis: &Redis, flag: &'static str) {
    let set = Command::new("SET").key(flag).arg(1);
    redis.command(set).await.unwrap();
}

/// Waits for a flag.
pub(crate) async fn wait_for(redis: &Redis, flag: &'static str, limit: Duration) {
    eventually(limit, async || {
        let found = redis.command(Command::new("GET").key(flag)).await;
        matches!(found, Ok(Reply::Bytes(_)))
    })
    .await;
}
