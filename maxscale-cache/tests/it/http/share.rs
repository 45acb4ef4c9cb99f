//! Who shares a call, who shares an answer, and who never does.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::future::join_all;
use maxscale_cache::Hub;
use maxscale_cache::http::{HttpCache, HttpCacheLayer, Storing};
use maxscale_cache::remote::RedisRemote;
use maxscale_core::fact::Subject;
use maxscale_core::redis::{Redis, RedisConfig};
use maxscale_tests::{RedisServer, eventually};
use tokio::sync::{Notify, Semaphore};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

use super::rig::{Count, Rig, Still};
use crate::source::LIMIT;

/// A service that waits at a gate before it answers, and how often it was called.
type Gated = (Count, Arc<Semaphore>);

fn gated(
    cache: HttpCache,
    (calls, gate): Gated,
    control: &'static str,
) -> impl Service<Request, Response = Response<impl Sized>, Error = Infallible, Future: Send>
+ Clone
+ Send {
    let service = service_fn(move |_: Request| {
        let (calls, gate) = (calls.clone(), gate.clone());
        async move {
            let number = calls.next();
            let _turn = gate.acquire().await.unwrap();
            Ok::<_, Infallible>(([("cache-control", control)], format!("{number}")).into_response())
        }
    });
    HttpCacheLayer::new(cache).layer(service)
}

/// As many requests at once as `many`; the gate opens once `started` calls wait.
async fn storm(control: &'static str, many: usize, started: usize) -> Count {
    let still = Still::new(|builder| builder);
    let gate: Gated = (Count::default(), Arc::new(Semaphore::new(0)));
    let service = gated(still.cache, gate.clone(), control);
    let requests = (0..many).map(|_| {
        let request = Request::get("http://a.example/")
            .body(Body::empty())
            .unwrap();
        let service = service.clone();
        tokio::spawn(async move {
            service
                .oneshot(request)
                .await
                .map(|response| response.status())
        })
    });
    let requests: Vec<_> = requests.collect();
    let (calls, semaphore) = gate;
    eventually(LIMIT, async || calls.get() >= started).await;
    semaphore.add_permits(many);
    for answer in join_all(requests).await {
        assert_eq!(answer.unwrap().unwrap(), 200);
    }
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_misses_at_once_make_one_call() {
    assert_eq!(storm("s-maxage=60", 10_000, 1).await.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_misses_of_what_is_private_make_a_call_each() {
    for control in ["private, s-maxage=60", "max-age=60", "no-store", ""] {
        assert_eq!(storm(control, 10_000, 1).await.get(), 10_000, "{control}");
    }
}

/// Says who asked. The verified subject is what stands in `x-user`, as if an
/// authentication layer had checked it.
async fn verified(mut request: Request, next: Next) -> Response {
    let user = request.headers().get("x-user");
    if let Some(user) = user.map(|user| Subject::new(user.to_str().unwrap())) {
        request.extensions_mut().insert(user);
    }
    next.run(request).await
}

fn whoami(control: &'static str, calls: &Count) -> Router {
    let calls = calls.clone();
    let handler = async move |headers: HeaderMap| {
        calls.next();
        let user = headers
            .get("x-user")
            .map_or("nobody", |user| user.to_str().unwrap());
        ([("cache-control", control)], user.to_owned())
    };
    Router::new().route("/me", get(handler.clone()).post(handler))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_on_one_url_never_share() {
    for control in ["private, max-age=60", "max-age=60", "public, max-age=60"] {
        let (still, calls) = (Still::new(|it| it.per_principal()), Count::default());
        let router = whoami(control, &calls)
            .layer(still.layer())
            .layer(from_fn(verified));
        let rig = Arc::new(Rig::start(router).await);
        let asks = (0..400).map(|n| {
            let (rig, user) = (rig.clone(), format!("user:{}", n % 8));
            tokio::spawn(async move {
                assert_eq!(rig.text("/me", &[("x-user", &user)]).await, user);
            })
        });
        for asked in join_all(asks).await {
            asked.unwrap();
        }
        // Each user's answer is stored, for him.
        let before = calls.get();
        for user in 0..8 {
            let user = format!("user:{user}");
            assert_eq!(rig.text("/me", &[("x-user", &user)]).await, user);
            assert_eq!(rig.text("/me", &[("x-user", &user)]).await, user);
        }
        assert!(
            calls.get() - before <= 8,
            "{control}: {} calls",
            calls.get()
        );
        let before = calls.get();
        assert_eq!(rig.text("/me", &[]).await, "nobody");
        assert_eq!(rig.text("/me", &[]).await, "nobody");
        assert_eq!(calls.get() - before, 2, "nobody has no cache");
    }
}

#[tokio::test]
async fn change_by_one_user_drops_what_all_users_have() {
    let (still, calls) = (Still::new(|it| it.per_principal()), Count::default());
    let router = whoami("max-age=60", &calls)
        .layer(still.layer())
        .layer(from_fn(verified));
    let rig = Rig::start(router).await;
    for user in ["a", "b", "a", "b"] {
        assert_eq!(rig.text("/me", &[("x-user", user)]).await, user);
    }
    assert_eq!(calls.get(), 2);
    rig.send("POST", "/me", &[("x-user", "a")]).await;
    for user in ["a", "b"] {
        assert_eq!(rig.text("/me", &[("x-user", user)]).await, user);
    }
    assert_eq!(calls.get(), 5);
}

#[tokio::test]
async fn answers_with_cookies_are_never_stored() {
    let (still, calls) = (
        Still::new(|it| it.storing(Storing::Rfc9111)),
        Count::default(),
    );
    let count = calls.clone();
    let handler = async move || {
        let cookie = format!("id={}", count.next());
        [
            ("cache-control", "public, s-maxage=60".to_owned()),
            ("set-cookie", cookie),
        ]
    };
    let rig = Rig::start(Router::new().route("/", get(handler)).layer(still.layer())).await;
    for number in 1..=3 {
        let answer = rig.get("/", &[]).await;
        assert_eq!(answer.headers()["set-cookie"], format!("id={number}"));
    }
}

#[tokio::test]
async fn headers_that_choose_a_host_untold_choose_an_answer_too() {
    let still = Still::new(|builder| builder);
    let handler = async |headers: HeaderMap| {
        let host = headers
            .get("x-forwarded-host")
            .map(|host| host.to_str().unwrap().to_owned());
        (
            [("cache-control", "s-maxage=60")],
            host.unwrap_or_else(|| "own".into()),
        )
    };
    let rig = Rig::start(Router::new().route("/", get(handler)).layer(still.layer())).await;
    let evil = [("x-forwarded-host", "evil.example")];
    assert_eq!(rig.text("/", &evil).await, "evil.example");
    assert_eq!(rig.text("/", &[]).await, "own");
    assert_eq!(rig.text("/", &evil).await, "evil.example");
}

#[tokio::test]
async fn nested_routers_with_like_paths_do_not_share() {
    let still = Still::new(|builder| builder);
    let inner = |name: &'static str| {
        let handler = async move || ([("cache-control", "s-maxage=60")], name);
        Router::new().route("/x", get(handler)).layer(still.layer())
    };
    let router = Router::new().nest("/a", inner("a")).nest("/b", inner("b"));
    let rig = Rig::start(router).await;
    for _ in 0..2 {
        assert_eq!(rig.text("/a/x", &[]).await, "a");
        assert_eq!(rig.text("/b/x", &[]).await, "b");
    }
}

#[tokio::test]
async fn whoever_gives_up_cancels_nobodys_call() {
    let still = Still::new(|builder| builder);
    let gate: Gated = (Count::default(), Arc::new(Semaphore::new(0)));
    let service = gated(still.cache, gate.clone(), "s-maxage=60");
    let request = || {
        Request::get("http://a.example/")
            .body(Body::empty())
            .unwrap()
    };
    let first = tokio::spawn(service.clone().oneshot(request()));
    eventually(LIMIT, async || gate.0.get() == 1).await;
    let second = tokio::spawn(service.clone().oneshot(request()));
    first.abort();
    gate.1.add_permits(1);
    assert_eq!(second.await.unwrap().unwrap().status(), 200);
    assert_eq!(gate.0.get(), 1);
}

#[tokio::test]
async fn answer_from_before_a_change_is_not_stored_after_it() {
    let (still, calls, reading) = (
        Still::new(|it| it),
        Count::default(),
        Arc::new(Notify::new()),
    );
    let go = Arc::new(Notify::new());
    let handler = {
        let (calls, reading, go) = (calls.clone(), reading.clone(), go.clone());
        async move |method: Method| {
            let number = calls.next();
            if method == Method::GET && number == 1 {
                reading.notify_one();
                go.notified().await;
            }
            ([("cache-control", "s-maxage=60")], format!("{number}"))
        }
    };
    let router = Router::new().route("/", get(handler.clone()).post(handler));
    let rig = Arc::new(Rig::start(router.layer(still.layer())).await);
    let slow = {
        let rig = rig.clone();
        tokio::spawn(async move { rig.text("/", &[]).await })
    };
    reading.notified().await;
    rig.send("POST", "/", &[]).await;
    go.notify_one();
    assert_eq!(slow.await.unwrap(), "1");
    assert_eq!(rig.text("/", &[]).await, "3");
    assert_eq!(rig.text("/", &[]).await, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_share_answers_and_what_drops_them() {
    let redis = RedisServer::start().await;
    let calls = Count::default();
    let mut rigs = Vec::new();
    for _ in 0..2 {
        // The claim is not about speed, so a busy machine may take its time.
        let handle = Redis::open(RedisConfig::new(&redis.url()).unwrap().timeout(LIMIT));
        assert!(handle.wait_ready(LIMIT).await);
        let remote = RedisRemote::new(handle);
        let hub = Hub::builder().remote(remote).remote_timeout(LIMIT).build();
        // Listening begins with what counts as a gap.
        eventually(LIMIT, async || hub.stats().gaps > 0).await;
        let still = Still::of(&hub, |builder| builder);
        rigs.push(Rig::start(whoami("s-maxage=60", &calls).layer(still.layer())).await);
    }
    let host = [("host", "a.example")];
    assert_eq!(rigs[0].text("/me", &host).await, "nobody");
    assert_eq!(rigs[1].text("/me", &host).await, "nobody");
    assert_eq!(calls.get(), 1);
    rigs[0].send("POST", "/me", &host).await;
    assert_eq!(calls.get(), 2);
    let dropped = async || {
        rigs[1].text("/me", &host).await;
        calls.get() >= 3
    };
    eventually(LIMIT, dropped).await;
}
