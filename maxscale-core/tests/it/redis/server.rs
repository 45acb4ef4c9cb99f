//! Which servers are used at all, and for what.

use maxscale_core::redis::{Command, Redis, RedisConfig, RedisError, Role, Unfit};
use maxscale_tests::{RedisServer, eventually};

use super::past::all;
use super::{SOON, TIMEOUT, config, connect, patient};

async fn set(redis: &Redis, setting: &str, value: &str) {
    let set = Command::new("CONFIG").args(["SET", setting, value]);
    redis.command(set).await.unwrap();
}

async fn evict(redis: &Redis, policy: &str) {
    set(redis, "maxmemory-policy", policy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_may_evict_counts_is_refused_until_it_keeps_them() {
    let server = RedisServer::start().await;
    let admin = patient(&server).await;
    evict(&admin, "allkeys-lru").await;

    let redis = Redis::open(config(&server).serves(Role::Limits));
    let unfit = eventually(SOON, async || redis.unfit()).await;
    assert!(matches!(unfit, Unfit::Evicts { .. }), "{unfit:?}");
    let error = redis.ping().await.unwrap_err();
    assert!(matches!(error, RedisError::Unfit(_)), "{error:?}");
    assert!(!redis.is_up());

    evict(&admin, "volatile-ttl").await;
    assert!(redis.wait_ready(SOON).await);
    assert_eq!(redis.unfit(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_may_evict_is_good_for_a_cache_and_for_development() {
    let server = RedisServer::start().await;
    evict(&patient(&server).await, "allkeys-lfu").await;
    connect(config(&server).serves(Role::Cache)).await;
    let all = Role::ALL
        .into_iter()
        .fold(config(&server), |it, role| it.serves(role));
    connect(all.tolerates_eviction()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_still_reads_its_data_is_not_up() {
    let server = RedisServer::start().await;
    let admin = patient(&server).await;
    // It takes so long for each key, and has an ear for others after each.
    let fill = "for i = 1, 500 do redis.call('SET', i, string.rep('x', 2000)) end";
    let eval = Command::new("EVAL").arg(fill).arg(0);
    admin.command(eval).await.unwrap();
    for (name, value) in [
        ("key-load-delay", "50000"),
        ("loading-process-events-interval-bytes", "1024"),
        ("rdbcompression", "no"),
        ("requirepass", "hunter2"),
    ] {
        let set = Command::new("CONFIG").args(["SET", name, value]);
        admin.command(set).await.unwrap();
    }
    let with_password = server.url().replace("redis://", "redis://:hunter2@");
    let reload = Command::new("DEBUG").arg("RELOAD").timeout(SOON);
    let (reloaded, ()) = tokio::join!(admin.command(reload), async {
        let loads = async || {
            let info = all(&server, "AUTH hunter2\r\nINFO persistence").await;
            info.contains("\nloading:1")
        };
        eventually(SOON, loads).await;
        let redis = Redis::open(RedisConfig::new(&with_password).unwrap().timeout(SOON));
        assert!(!redis.wait_ready(TIMEOUT).await);
        assert!(loads().await, "it was seen while it loads");
        let quick = "AUTH hunter2\r\nCONFIG SET key-load-delay 0";
        assert!(all(&server, quick).await.ends_with("+OK\r\n"));
        assert!(redis.wait_ready(SOON).await);
        redis.ping().await.unwrap();
    });
    reloaded.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_is_refused_and_left_when_it_becomes_one() {
    let (primary, server) = (RedisServer::start().await, RedisServer::start().await);
    let redis = patient(&server).await;
    let port = primary.url().rsplit(':').next().unwrap().to_owned();
    let follow = Command::new("REPLICAOF").args(["127.0.0.1", &port]);
    redis.command(follow).await.unwrap();
    eventually(SOON, async || {
        let set = redis.command(Command::new("SET").key("a").arg("b")).await;
        matches!(set, Err(RedisError::Unfit(Unfit::Replica)))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_may_lose_what_it_confirmed_is_refused_until_it_keeps_it() {
    let server = RedisServer::start_durable().await;
    let admin = patient(&server).await;
    connect(config(&server).durable()).await;
    for (setting, bad, good) in [
        ("appendonly", "no", "yes"),
        ("appendfsync", "everysec", "always"),
        ("no-appendfsync-on-rewrite", "yes", "no"),
        ("maxmemory-policy", "volatile-lru", "noeviction"),
    ] {
        set(&admin, setting, bad).await;
        connect(config(&server)).await;
        let redis = Redis::open(config(&server).durable());
        let unfit = eventually(SOON, async || redis.unfit()).await;
        let text = unfit.to_string();
        assert!(text.contains(&format!("its {setting} is {bad}")), "{text}");
        assert!(text.contains(&format!("`{setting} {good}`")), "{text}");
        set(&admin, setting, good).await;
        assert!(redis.wait_ready(SOON).await, "{setting}");
    }
    // Whoever may not ask knows nothing.
    let acl = "ACL SETUSER app on >hunter2 ~* &* +@all -config|get";
    let words: Vec<_> = acl.split(' ').skip(1).collect();
    admin
        .command(Command::new("ACL").args(words))
        .await
        .unwrap();
    let url = server.url().replace("redis://", "redis://app:hunter2@");
    let redis = Redis::open(RedisConfig::new(&url).unwrap().durable());
    let unfit = eventually(SOON, async || redis.unfit()).await;
    assert!(
        unfit.to_string().contains("appendfsync is unknown"),
        "{unfit}"
    );
}
