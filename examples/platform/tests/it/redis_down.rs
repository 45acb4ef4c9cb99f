//! Redis is killed, hangs, or comes back empty.

use std::time::Duration;

use maxscale_core::redis::{Command, Redis, RedisConfig, Reply};
use maxscale_tests::{RedisServer, eventually};
use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;

use crate::client::{Client, send};
use crate::load::{Load, assert_well};
use crate::servers::Servers;
use crate::service::Service;

/// What the documentation promises for every request.
const PROMISED: Duration = Duration::from_secs(2);
/// In less nobody regains anything of a limit here.
const QUICKLY: Duration = Duration::from_secs(2);
/// For what has to happen in the background.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn requests_go_on_while_redis_is_killed_and_comes_back() {
    let title = "redis killed";
    requests_go_on(title, RedisServer::kill, RedisServer::restart).await;
}

#[tokio::test]
async fn requests_go_on_while_redis_hangs_and_goes_on() {
    let pause = async |redis: &RedisServer| redis.pause();
    let resume = async |redis: &RedisServer| redis.resume();
    requests_go_on("redis hanging", pause, resume).await;
}

#[tokio::test]
async fn nobody_is_logged_out_by_a_redis_that_comes_back_empty() {
    let title = "redis emptied";
    let servers = requests_go_on(title, RedisServer::kill, RedisServer::restart_empty).await;
    // What is there was written since.
    used(&servers.redis).await;
}

async fn requests_go_on(
    title: &str,
    harm: impl AsyncFn(&RedisServer),
    heal: impl AsyncFn(&RedisServer),
) -> Servers {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start().await;
    let service = Service::start(servers.builder(folder.path())).await;
    service.check_is("redis", "up", LIMIT).await;
    let load = Load::start(users(&service, 4).await);
    load.more(2).await;

    harm(&servers.redis).await;
    let health = service.check_is("redis", "down", LIMIT).await;
    assert_eq!(health["status"], "degraded", "{health}");
    service.assert_alive_and_ready().await;
    load.more(5).await;

    heal(&servers.redis).await;
    service.check_is("redis", "up", LIMIT).await;
    let health = service.check_is("invalidations", "up", LIMIT).await;
    assert_eq!(health["status"], "ok", "{health}");
    said(&service, "redis is up", 2).await;
    load.more(2).await;
    assert_well(title, &load.end().await, PROMISED);
    servers
}

#[tokio::test]
async fn a_redis_that_is_down_at_the_start_is_used_once_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start().await;
    servers.redis.stop().await;
    let service = Service::start(servers.builder(folder.path())).await;
    said(&service, "redis is down", 1).await;
    let load = Load::start(users(&service, 2).await);
    load.more(2).await;

    servers.redis.restart().await;
    service.check_is("redis", "up", LIMIT).await;
    said(&service, "redis is up", 1).await;
    load.more(2).await;
    assert_well("redis down at the start", &load.end().await, PROMISED);
    used(&servers.redis).await;
}

#[tokio::test]
async fn processes_admit_about_the_limit_together_while_redis_is_down() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let servers = Servers::start().await;
    // A burst of 2, and one more each 3 s.
    let start = async |folder| {
        let builder = servers.builder(folder);
        let builder = builder.env("MAXSCALE__HTTP__TRUSTED_PROXIES", "127.0.0.0/8");
        Service::start(builder.env("MAXSCALE__LIMITS__ADDRESSES_PER_MINUTE", "20")).await
    };
    let services = [
        start(folders[0].path()).await,
        start(folders[1].path()).await,
    ];
    let both_said = async |text, times| {
        for service in &services {
            said(service, text, times).await;
        }
    };
    let mut addresses = (1..).map(|n| format!("203.0.113.{n}"));
    let mut admitted = async || admitted(&services, &addresses.next().unwrap()).await;
    both_said("redis is up", 1).await;
    // A process that stood still does not wait for Redis, and admits its share.
    eventually(LIMIT, async || (admitted().await == 2).then_some(())).await;

    servers.redis.kill().await;
    both_said("redis is down", 1).await;
    // The first process may not have heard of the second yet, and where the machine
    // stands still for seconds, one more is admitted.
    eventually(LIMIT, async || {
        let (since, alone) = (Instant::now(), admitted().await);
        match alone {
            2..=3 => Ok(()),
            _ if since.elapsed() < QUICKLY => panic!("{alone} of 2"),
            _ => Err(alone),
        }
    })
    .await;

    servers.redis.restart_empty().await;
    both_said("redis is up", 2).await;
    eventually(LIMIT, async || (admitted().await == 2).then_some(())).await;
}

#[tokio::test]
async fn health_tells_of_dropped_keys_that_others_have_not_heard_of() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start().await;
    let service = Service::start(servers.builder(folder.path())).await;
    for check in ["jobs", "invalidations"] {
        service.check_is(check, "up", LIMIT).await;
    }
    let client = users(&service, 1).await.remove(0);
    said(&service, "redis is up", 1).await;
    servers.redis.kill().await;
    said(&service, "redis is down", 1).await;
    let renamed = client.patch("/v1/me", &json!({ "name": "Ada" })).await;
    assert_eq!(renamed.status, 200, "{renamed:?}");
    service.check_is("invalidations", "down", LIMIT).await;
    service.assert_alive_and_ready().await;
    servers.redis.restart_empty().await;
    service.check_is("invalidations", "up", LIMIT).await;
}

/// How many of eight requests from one address are admitted.
async fn admitted(services: &[Service], from: &str) -> usize {
    let mut admitted = 0;
    for _ in 0..4 {
        for service in services {
            let request = service.client().request(Method::GET, "/v1/me");
            let answer = send(request.header("x-forwarded-for", from)).await;
            admitted += usize::from(answer.unwrap().status != 429);
        }
    }
    admitted
}

async fn users(service: &Service, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for number in 0..count {
        let client = service.client();
        client.sign_up(&format!("u{number}@example.com")).await;
        clients.push(client);
    }
    clients
}

/// Waits until the log said `text` so many times.
async fn said(service: &Service, text: &str, times: usize) {
    eventually(LIMIT, async || {
        let lines = service.process.stderr();
        let found = lines.iter().filter(|line| line.contains(text)).count();
        (found >= times).then_some(()).ok_or(found)
    })
    .await;
}

/// Waits until Redis holds profiles.
async fn used(server: &RedisServer) {
    let redis = Redis::open(RedisConfig::new(&server.url()).unwrap());
    eventually(LIMIT, async || {
        let keys = Command::new("KEYS").arg("maxscale:profile:*");
        match redis.command(keys).await {
            Ok(Reply::Array(keys)) if !keys.is_empty() => Ok(()),
            other => Err(other),
        }
    })
    .await;
}
