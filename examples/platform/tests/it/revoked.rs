//! A session that was ended in one process is over in all, whatever Redis does.

use std::time::Duration;

use maxscale_tests::{ProcessBuilder, Proxy, RedisServer, Way, eventually};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::time::sleep;

use crate::client::{Client, PASSWORD, send};
use crate::servers::Servers;
use crate::service::Service;

const LIMIT: Duration = Duration::from_secs(60);
/// How long an answer may be remembered.
const REMEMBERED: Duration = Duration::from_secs(1);

/// Two processes on the same servers, and what they share.
struct Pair {
    servers: Servers,
    here: Service,
    there: Service,
}

impl Pair {
    async fn start(folder: &tempfile::TempDir) -> Self {
        let servers = Servers::start().await;
        let there = servers.builder(folder.path());
        let pair = Self::with(folder, servers, there).await;
        for service in [&pair.here, &pair.there] {
            service.check_is("redis", "up", LIMIT).await;
        }
        pair
    }

    /// The process there is built as the caller says.
    async fn with(folder: &tempfile::TempDir, servers: Servers, there: ProcessBuilder) -> Self {
        let here = Service::start(servers.builder(folder.path())).await;
        let there = Service::start(there).await;
        Self {
            servers,
            here,
            there,
        }
    }

    /// Logs Ada in, in the process here; the same browser, at the process there.
    async fn logged_in(&self) -> (Client, Client) {
        let here = self.here.client();
        let body = json!({ "email": "ada@example.com", "password": PASSWORD });
        let answer = here.post("/v1/login", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let there = here.at(self.there.base());
        assert_eq!(me(&there).await, 200);
        (here, there)
    }
}

async fn me(client: &Client) -> StatusCode {
    client.get("/v1/me").await.status
}

/// Changes something; 401 means that nobody is logged in.
async fn rename(client: &Client) -> StatusCode {
    let body = json!({ "name": "Ada" });
    client.patch("/v1/me", &body).await.status
}

/// The cookie outlives the answer that removes it: whoever stole it has it still.
async fn log_out_and_keep_the_cookie(client: &Client) {
    let answer = send(client.request(Method::POST, "/v1/logout/all")).await;
    assert_eq!(answer.unwrap().status, 204);
}

/// A browser that never hears of the end of its session.
async fn stolen(service: &Service) -> Client {
    let client = service.client();
    let body = json!({ "email": "ada@example.com", "password": PASSWORD });
    assert_eq!(client.post("/v1/login", &body).await.status, 200);
    client
}

#[tokio::test]
async fn session_that_was_ended_elsewhere_changes_nothing_and_is_out_within_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::start(&folder).await;
    pair.here.client().sign_up("ada@example.com").await;
    for _ in 0..5 {
        let (reader, thief) = (stolen(&pair.there).await, stolen(&pair.there).await);
        // They are remembered there from here on, and Redis has a copy.
        for client in [&reader, &thief] {
            assert_eq!(me(client).await, 200);
        }
        eventually(LIMIT, async || {
            let (changed, copies) = (rename(&thief).await, sessions_in(&pair.servers.redis).await);
            (copies == 1).then_some(()).ok_or((changed, copies))
        })
        .await;
        let (owner, _) = pair.logged_in().await;
        log_out_and_keep_the_cookie(&owner).await;
        assert_eq!(
            rename(&thief).await,
            401,
            "who changes something is asked for"
        );
        sleep(REMEMBERED).await;
        assert_eq!(me(&reader).await, 401);
    }
}

/// What is remembered may be shown for a second, and nothing may be changed by it.
#[tokio::test]
async fn who_changes_something_is_looked_up_although_the_news_are_late() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start().await;
    let news = Proxy::start(servers.redis.url()).await;
    let there = servers.builder(folder.path());
    let there = there.env("MAXSCALE__REDIS__CACHE__URL", news.url());
    let pair = Pair::with(&folder, servers, there).await;
    pair.here.check_is("redis", "up", LIMIT).await;
    pair.here.client().sign_up("ada@example.com").await;
    // On a machine that is busy a second may be over too soon.
    eventually(LIMIT, async || {
        pair.there.check_is("redis-cache", "up", LIMIT).await;
        let thief = stolen(&pair.there).await;
        let (owner, _) = pair.logged_in().await;
        assert_eq!(me(&thief).await, 200);
        news.black_hole(Way::ToClient);
        log_out_and_keep_the_cookie(&owner).await;
        let remembered = me(&thief).await;
        assert_eq!(rename(&thief).await, 401);
        news.heal().await;
        (remembered == 200).then_some(()).ok_or(remembered)
    })
    .await;
}

#[tokio::test]
async fn sessions_are_read_from_their_rows_while_redis_is_down() {
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::start(&folder).await;
    pair.here.client().sign_up("ada@example.com").await;
    let before = stolen(&pair.there).await;
    assert_eq!(me(&before).await, 200);

    pair.servers.redis.kill().await;
    for service in [&pair.here, &pair.there] {
        service.check_is("redis", "down", LIMIT).await;
    }
    assert_eq!(me(&before).await, 200, "nobody is logged out");
    let (owner, elsewhere) = pair.logged_in().await;
    log_out_and_keep_the_cookie(&owner).await;
    sleep(REMEMBERED).await;
    for client in [&before, &elsewhere] {
        assert_eq!(me(client).await, 401);
    }

    // A Redis that comes back brings nobody back.
    let (stays, _) = pair.logged_in().await;
    pair.servers.redis.restart().await;
    for service in [&pair.here, &pair.there] {
        service.check_is("redis", "up", LIMIT).await;
    }
    for client in [&before, &elsewhere] {
        assert_eq!(me(client).await, 401);
    }
    assert_eq!(me(&stays).await, 200);
}

/// How many hashes of sessions Redis has.
async fn sessions_in(server: &RedisServer) -> usize {
    let keys = crate::redis_roles::keys(server).await;
    keys.iter()
        .filter(|key| key.starts_with("maxscale:s:"))
        .count()
}

#[tokio::test]
async fn sessions_have_servers_of_their_own_if_there_are_some() {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start().await;
    let own = [RedisServer::start().await, RedisServer::start().await];
    let urls = own.each_ref().map(RedisServer::url).join(",");
    let builder = servers.builder(folder.path());
    let service = Service::start(builder.env("MAXSCALE__REDIS__SESSIONS__URLS", urls)).await;
    for check in ["redis", "redis-sessions-0", "redis-sessions-1"] {
        service.check_is(check, "up", LIMIT).await;
    }
    // Of forty users all are on one of two in one of half a billion runs.
    for number in 0..40 {
        let client = service.client();
        client.sign_up(&format!("u{number}@example.com")).await;
        assert_eq!(me(&client).await, 200);
    }
    eventually(LIMIT, async || {
        let both = [sessions_in(&own[0]).await, sessions_in(&own[1]).await];
        both.iter()
            .all(|count| *count > 0)
            .then_some(())
            .ok_or(both)
    })
    .await;
    assert_eq!(sessions_in(&servers.redis).await, 0);
    own[1].kill().await;
    service.check_is("redis-sessions-1", "down", LIMIT).await;
    service.check_is("redis", "up", LIMIT).await;
}
