//! Cache and limits each have a Redis of their own.

use std::time::Duration;

use maxscale_core::redis::{Command, Redis, RedisConfig, Reply};
use maxscale_tests::{RedisServer, eventually};

use crate::servers::Servers;
use crate::service::Service;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn role_with_a_url_of_its_own_uses_that_redis_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start().await;
    let own = RedisServer::start().await;
    let builder = servers.builder(folder.path());
    let builder = builder.env("MAXSCALE__REDIS__LIMITS__URL", own.url());
    // So low that a count is kept for seconds.
    let builder = builder.env("MAXSCALE__LIMITS__ADDRESSES_PER_MINUTE", "20");
    let service = Service::start(builder).await;
    service.check_is("redis-cache", "up", LIMIT).await;
    service.check_is("redis-limits", "up", LIMIT).await;

    let client = service.client();
    client.sign_up("ada@example.com").await;
    eventually(LIMIT, async || {
        let status = client.get("/v1/me").await.status;
        let (shared, own) = (keys(&servers.redis).await, keys(&own).await);
        let profiles = |keys: &[String]| keys.iter().any(|it| it.starts_with("maxscale:profile:"));
        let limits = |keys: &[String]| keys.iter().any(|it| it.starts_with("maxscale:limit:"));
        assert!(!limits(&shared) && !profiles(&own), "{shared:?} {own:?}");
        (profiles(&shared) && limits(&own))
            .then_some(())
            .ok_or((status, shared, own))
    })
    .await;

    own.kill().await;
    service.check_is("redis-limits", "down", LIMIT).await;
    service.check_is("redis-cache", "up", LIMIT).await;
}

/// All keys of a server.
pub(crate) async fn keys(server: &RedisServer) -> Vec<String> {
    let redis = Redis::open(RedisConfig::new(&server.url()).unwrap());
    assert!(redis.wait_ready(LIMIT).await);
    let keys = redis.command(Command::new("KEYS").arg("*")).await.unwrap();
    let text = |key: Reply| String::from_utf8(key.into_bytes().unwrap().into()).unwrap();
    keys.into_array().unwrap().into_iter().map(text).collect()
}
