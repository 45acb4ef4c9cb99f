//! Profiles and projects are read through the cache, and no process shows for long what
//! another one changed.

use std::time::Duration;

use futures_util::future::join_all;
use maxscale_tests::{Proxy, eventually};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::client::{Answer, Client, PASSWORD, send};
use crate::servers::Servers;
use crate::service::Service;

/// Below the 60 s for which a value lives: nothing here passes by waiting for its end.
const LIMIT: Duration = Duration::from_secs(30);

/// A process of the platform on `servers`, which uses the Redis at `redis`.
async fn process(servers: &Servers, redis: &str, workers: &str) -> (TempDir, Service) {
    let folder = tempfile::tempdir().unwrap();
    let builder = (servers.builder(folder.path()))
        .env("MAXSCALE__REDIS__URL", redis)
        .env("MAXSCALE__WORKER__CONCURRENCY", workers);
    let service = Service::start(builder).await;
    service.check_is("redis", "up", LIMIT).await;
    (folder, service)
}

/// A second session of the same account, with none of the first one's cookies.
async fn other_session(service: &Service, email: &str) -> Client {
    let client = service.client();
    let body = json!({ "email": email, "password": PASSWORD });
    let answer = client.post("/v1/login", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    client
}

/// What is shown of an account with one project: the name, and its title three times.
async fn shown(client: &Client, project: &str) -> [String; 4] {
    let one = format!("/v1/projects/{project}");
    let [me, one, list, newest] = join_all(
        ["/v1/me", &one, "/v1/projects", "/v1/projects/newest"].map(|path| client.get(path)),
    )
    .await
    .try_into()
    .unwrap();
    [
        me.text("/user/name"),
        one.text("/project/title"),
        list.text("/projects/0/title"),
        newest.text("/projects/0/title"),
    ]
}

async fn rename(client: &Client, project: &str, to: &str) {
    let path = format!("/v1/projects/{project}");
    for (path, body) in [
        ("/v1/me", json!({ "name": to })),
        (&path, json!({ "title": to })),
    ] {
        let answer = client.patch(path, &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn change_in_one_process_is_seen_in_another() {
    let servers = Servers::start().await;
    let (_one, first) = process(&servers, &servers.redis.url(), "0").await;
    let (_two, second) = process(&servers, &servers.redis.url(), "0").await;
    let writer = first.client();
    writer.sign_up("ada@example.com").await;
    let project = writer.project("Title 0").await;
    let reader = other_session(&second, "ada@example.com").await;
    let mut slowest = Duration::ZERO;
    for round in 1..=20 {
        // What is shown is near in both from here on.
        shown(&reader, &project).await;
        shown(&writer, &project).await;
        let title = format!("Title {round}");
        rename(&writer, &project, &title).await;
        let changed = Instant::now();
        let all = [(); 4].map(|()| title.clone());
        assert_eq!(shown(&writer, &project).await, all, "where it was changed");
        eventually(LIMIT, async || {
            let shown = shown(&reader, &project).await;
            (shown == all).then_some(()).ok_or(shown)
        })
        .await;
        slowest = slowest.max(changed.elapsed());
    }
    eprintln!("seen elsewhere after {slowest:?} at most");

    let created = writer.project("Second").await;
    eventually(LIMIT, async || {
        let list = reader.get("/v1/projects").await;
        let newest = reader.get("/v1/projects/newest").await;
        let first = [&list, &newest].map(|page| page.text("/projects/0/id"));
        (first == [&*created; 2]).then_some(()).ok_or(first)
    })
    .await;
}

#[tokio::test]
async fn who_changed_something_sees_it_in_a_process_that_has_not_heard_of_it() {
    let servers = Servers::start().await;
    let proxy = Proxy::start(servers.redis.url()).await;
    let (_one, first) = process(&servers, &servers.redis.url(), "0").await;
    let (_two, second) = process(&servers, &proxy.url(), "0").await;
    let here = first.client();
    here.sign_up("ada@example.com").await;
    let project = here.project("Title 0").await;
    let there = here.at(second.base());
    for round in 1..=5 {
        let before = shown(&there, &project).await;
        assert_eq!(before[1], format!("Title {}", round - 1));
        // What is told reaches the second process late, and it goes on from its memory.
        proxy.delay(Duration::from_millis(300));
        let title = format!("Title {round}");
        rename(&here, &project, &title).await;
        let [name, one, list, _] = shown(&there, &project).await;
        assert_eq!([&name, &one, &list], [&title; 3]);
        proxy.delay(Duration::ZERO);
        let newest = async || shown(&there, &project).await[3] == title;
        eventually(LIMIT, newest).await;
    }
}

#[tokio::test]
async fn change_whose_process_died_before_it_was_told_is_told_by_another() {
    let servers = Servers::start().await;
    let proxy = Proxy::start(servers.redis.url()).await;
    let (_one, first) = process(&servers, &proxy.url(), "0").await;
    let (_two, second) = process(&servers, &servers.redis.url(), "2").await;
    let writer = first.client();
    writer.sign_up("ada@example.com").await;
    let project = writer.project("Before").await;
    let reader = other_session(&second, "ada@example.com").await;
    let [_, before, list, _] = shown(&reader, &project).await;
    assert_eq!([&*before, &*list], ["Before"; 2]);

    // The first process cannot tell anybody, and then is no more.
    proxy.refuse().await;
    proxy.cut(maxscale_tests::Cut::Reset).await;
    first.check_is("redis", "down", LIMIT).await;
    rename(&writer, &project, "After").await;
    first.process.kill();
    eventually(LIMIT, async || {
        let [name, one, list, _] = shown(&reader, &project).await;
        let shown = [name, one, list];
        (shown == ["After"; 3]).then_some(()).ok_or(shown)
    })
    .await;
}

#[tokio::test]
async fn one_process_without_redis_shows_its_changes_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let client = service.client();
    client.sign_up("ada@example.com").await;
    let project = client.project("Title 0").await;
    let other = other_session(&service, "ada@example.com").await;
    for round in 1..=20 {
        let title = format!("Title {round}");
        rename(&client, &project, &title).await;
        let all = [(); 4].map(|()| title.clone());
        assert_eq!(shown(&client, &project).await, all);
        assert_eq!(shown(&other, &project).await, all, "another session");
    }
    let refused = client
        .patch("/v1/projects/x", &json!({ "title": "T" }))
        .await;
    assert_eq!(refused.status, 404, "{refused:?}");
    let path = format!("/v1/projects/{project}");
    let refused = client.patch(&path, &json!({ "title": "" })).await;
    assert_eq!(refused.status, 422, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_users_on_one_url_never_share() {
    let servers = Servers::start().await;
    let url = servers.redis.url();
    let (_one, first) = process(&servers, &url, "0").await;
    let (_two, second) = process(&servers, &url, "0").await;
    let mut users = Vec::new();
    for number in 0..4 {
        let client = first.client();
        let email = format!("u{number}@example.com");
        client.sign_up(&email).await;
        users.push((client.clone(), email, client.project("Mine").await));
    }
    let mut asks = Vec::new();
    for _ in 0..20 {
        for (client, email, own) in &users {
            for base in [first.base(), second.base()] {
                let (client, all) = (client.at(base), &users);
                asks.push(async move {
                    assert_eq!(client.get("/v1/me").await.text("/user/email"), **email);
                    let list = client.get("/v1/projects").await;
                    assert_eq!(list.text("/projects/0/id"), **own);
                    for (_, _, project) in all {
                        let path = format!("/v1/projects/{project}");
                        let answer = client.get(&path).await;
                        let mine = if project == own { 200 } else { 404 };
                        assert_eq!(answer.status, mine, "{answer:?}");
                        let change = json!({ "title": "Mine" });
                        if project != own {
                            let refused = client.patch(&path, &change).await;
                            assert_eq!(refused.status, 404, "{refused:?}");
                        }
                    }
                });
            }
        }
    }
    join_all(asks).await;
}

#[tokio::test]
async fn page_of_all_is_told_by_its_tag_to_be_the_same_and_to_nobody_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::embedded(folder.path()).await;
    let client = service.client();
    client.sign_up("ada@example.com").await;
    client.project("First").await;
    let page = async |headers: &[(&str, &str)]| {
        let request = client.request(Method::GET, "/v1/projects/newest");
        let asked =
            |request: RequestBuilder, (name, value): &(&str, &str)| request.header(*name, *value);
        send(headers.iter().fold(request, asked)).await.unwrap()
    };
    let told = |answer: &Answer, name| answer.headers[name].to_str().unwrap().to_owned();
    let first = page(&[]).await;
    assert_eq!(told(&first, "cache-status"), "maxscale; fwd=miss; stored");
    // Nobody further out may show it to who is not logged in.
    assert_eq!(told(&first, "cache-control"), "private, no-cache");
    assert!(!first.headers.contains_key("cache-tag"));
    let again = page(&[]).await;
    assert!(told(&again, "cache-status").starts_with("maxscale; hit"));
    assert_eq!(again.body, first.body);
    let tag = told(&again, "etag");
    let known = page(&[("if-none-match", &tag)]).await;
    assert_eq!((known.status.as_u16(), &known.body), (304, &Value::Null));
    assert_eq!(told(&known, "cache-control"), "private, no-cache");

    let stranger = service.client().get("/v1/projects/newest").await;
    assert_eq!(stranger.status, 401, "{stranger:?}");
    client.project("Second").await;
    let newer = page(&[("if-none-match", &tag)]).await;
    assert_eq!(newer.status, 200, "{newer:?}");
    assert_eq!(newer.text("/projects/0/title"), "Second");
}
