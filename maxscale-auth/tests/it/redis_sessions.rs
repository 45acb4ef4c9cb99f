//! Copies of sessions in a real Redis: what they cost, and what they say.

use std::num::NonZeroU16;
use std::time::Duration;

use maxscale_auth::session::{
    Methods, RedisSessions, RedisSessionsError, Rotation, SecretHash, Session, SessionMap,
    SessionRoute, SessionStore, Touch, Which, Why,
};
use maxscale_core::redis::{Redis, RedisConfig};
use maxscale_core::refusal::{Class, Classify};
use maxscale_shard::Engine;
use maxscale_tests::{eventually, free_port};

use crate::copies::{Copied, HOUR, begin, connect, create, is_settled, is_there, session, text};
use crate::gated::Gated;
use crate::support::{Bench, LIMIT};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_is_one_command() {
    let copied = Copied::new().await;
    let teller = copied.store();
    let session = copied.begun().await;
    is_settled(&copied.bench).await;
    drop(teller);
    let redis = connect(&copied.servers[0].url()).await;
    let store = RedisSessions::builder(copied.bench.rows(), [redis])
        .sweep_every(HOUR)
        .build()
        .unwrap();
    let none = copied.bench.ids.draw(session.user.shard());
    copied.ask("CONFIG", &["RESETSTAT"]).await;
    for _ in 0..50 {
        assert!(is_there(&store, &session).await);
        assert_eq!(store.load(session.user, none).await.unwrap(), None);
    }
    let stats = text(copied.ask("INFO", &["commandstats"]).await);
    let asked: Vec<&str> = stats
        .lines()
        .filter(|it| it.starts_with("cmdstat_"))
        // The handle's heartbeat, and this question.
        .filter(|it| {
            !["time", "info", "config"]
                .iter()
                .any(|name| it.contains(&format!("_{name}")))
        })
        .collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(
        asked[0].starts_with("cmdstat_hmget:calls=100,"),
        "{asked:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_is_packed_and_ends_with_its_last_session() {
    let copied = Copied::new().await;
    let session = copied.begun().await;
    for _ in 0..9 {
        begin(&copied.bench, Some(session.user), HOUR).await;
    }
    let store = copied.store();
    let _ = store.changed(session.user).await.unwrap();
    let key = copied.copy(&store, &session).await;
    let key = key.as_str();
    assert_eq!(copied.keys().await, [key]);
    assert_eq!(
        text(copied.ask("OBJECT", &["ENCODING", key]).await),
        "listpack"
    );
    let ttl = copied.ask("TTL", &[key]).await.as_int().unwrap();
    let most = 90 * 24 * 3600;
    assert!((most - 60..=most).contains(&ttl), "{ttl}");

    let _ = store
        .revoke(session.user, Which::All, Why::Ordered)
        .await
        .unwrap();
    eventually(LIMIT, async || {
        assert!(!is_there(&store, &session).await);
        let ttl = copied.ask("TTL", &[key]).await.as_int();
        // Longer than a claim.
        ttl.is_some_and(|it| (540..=600).contains(&it))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_that_is_gone_is_made_anew() {
    let copied = Copied::new().await;
    let session = copied.begun().await;
    let store = copied.store();
    copied.ask("FLUSHALL", &[]).await;
    assert!(is_there(&store, &session).await);
    copied.copy(&store, &session).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_without_a_place_in_the_copy_is_read_from_its_row() {
    let copied = Copied::new().await;
    let store = copied.store();
    let first = session(&copied.bench, None, HOUR);
    create(&store, &first).await;
    let mut all = vec![first];
    for _ in 0..120 {
        let next = session(&copied.bench, Some(all[0].user), HOUR);
        create(&store, &next).await;
        all.push(next);
    }
    let key = copied.copy(&store, &all[0]).await;
    assert_eq!(copied.ask("HLEN", &[&key]).await.as_int(), Some(100));
    for session in &all {
        assert!(is_there(&store, session).await);
    }
    let _ = store
        .revoke(all[0].user, Which::All, Why::Ordered)
        .await
        .unwrap();
    for session in &all {
        assert!(!is_there(&store, session).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_hears_of_a_touch_once_an_hour() {
    let copied = Copied::new().await;
    let session = begin(&copied.bench, None, 30 * 24 * HOUR).await;
    let store = copied.store();
    copied.copy(&store, &session).await;
    let began = copied.bench.clock.now();
    let touched = async |after: Duration| {
        let touch = Touch {
            user: session.user,
            session: session.id,
            at: began.after(after),
        };
        store.touch(&[touch]).await.unwrap();
        let of = async |found: Option<_>| {
            let (session, _): (Session, _) = found.unwrap();
            session.last_active.since(began)
        };
        let copy = store.load(session.user, session.id).await.unwrap();
        let row = copied.bench.rows().load(session.user, session.id).await;
        (of(copy).await, of(row.unwrap()).await)
    };
    let minute = 60 * SECOND;
    assert_eq!(touched(minute).await, (minute, Duration::ZERO));
    assert_eq!(touched(SECOND).await, (minute, Duration::ZERO), "not back");
    assert_eq!(touched(60 * minute).await, (60 * minute, 60 * minute));
    let later = 119 * minute;
    assert_eq!(touched(later).await, (later, 60 * minute));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secret_before_goes_with_its_grace() {
    let copied = Copied::new().await;
    let session = copied.begun().await;
    let store = copied.store();
    let now = copied.bench.clock.now();
    let rotation = Rotation {
        expected: 1,
        secret_hash: SecretHash::new([2; 32]),
        grace_until: now.after(10 * SECOND),
        level: session.level,
        methods: Methods::PASSWORD,
        authenticated_at: now,
    };
    assert!(
        store
            .rotate(session.user, session.id, &rotation)
            .await
            .unwrap()
    );
    copied.copy(&store, &session).await;
    let previous = async || {
        let found = store.load(session.user, session.id).await.unwrap();
        found.unwrap().0.previous.map(|it| it.secret_hash)
    };
    assert_eq!(previous().await, Some(session.secret_hash));
    for (after, expected) in [(9, Some(session.secret_hash)), (10, None)] {
        let touch = Touch {
            user: session.user,
            session: session.id,
            at: now.after(after * SECOND),
        };
        store.touch(&[touch]).await.unwrap();
        assert_eq!(previous().await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_answer_while_redis_is_down() {
    let copied = Copied::new().await;
    let session = copied.begun().await;
    let other = copied.begun().await;
    let store = copied.store();
    copied.servers[0].kill().await;

    assert!(is_there(&store, &session).await);
    let revoked = store
        .revoke(session.user, Which::All, Why::Ordered)
        .await
        .unwrap();
    assert_eq!(revoked.ended, [session.id]);
    assert!(!is_there(&store, &session).await);
    assert!(is_there(&store, &other).await);

    copied.servers[0].restart().await;
    for _ in 0..20 {
        assert!(!is_there(&store, &session).await);
    }
    // By itself it uses Redis again, and is done with what it had to tell.
    is_settled(&copied.bench).await;
    assert!(!is_there(&store, &session).await);
    copied.copy(&store, &other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_no_place_to_read_the_rows_is_refused_in_time() {
    let bench = Bench::new(Engine::Sqlite).await;
    let rows = Gated::new(bench.rows());
    let first = begin(&bench, None, HOUR).await;
    let second = begin(&bench, None, HOUR).await;
    // Nobody listens there.
    let nowhere = format!("redis://127.0.0.1:{}", free_port());
    let redis = Redis::open(RedisConfig::new(&nowhere).unwrap());
    let store = RedisSessions::builder(rows.clone(), [redis])
        .clock(bench.clock.clone())
        .reads(1)
        .wait(Duration::from_millis(200))
        .build()
        .unwrap();
    assert!(is_there(&store, &first).await);

    rows.close();
    let waits = tokio::spawn({
        let store = store.clone();
        async move { is_there(&store, &first).await }
    });
    eventually(LIMIT, async || rows.waiting() == 1).await;
    let refused = store.load(second.user, second.id).await.unwrap_err();
    assert!(matches!(refused, RedisSessionsError::Busy));
    assert_eq!(refused.class(), Class::Unavailable);
    assert!(refused.retry_after().is_some());

    rows.open();
    assert!(waits.await.unwrap());
    assert!(is_there(&store, &second).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn change_of_the_map_brings_nothing_back() {
    let copied = Copied::of(Bench::new(Engine::Sqlite).await, 2).await;
    let stores = [copied.store(), copied.store()];
    let first = SessionMap::even(NonZeroU16::MIN);
    let to = |route: SessionRoute| {
        for store in &stores {
            store.reroute(route.clone()).unwrap();
        }
    };
    to(SessionRoute::settled(first.clone()));
    let session = begin(&copied.bench, None, HOUR).await;
    copied.copy(&stores[0], &session).await;

    let move_to = |server: u16| {
        let route = stores[0].route();
        let next = route.map().next(&[server; SessionMap::SLOTS]).unwrap();
        let announced = route.announce(next);
        let switched = announced.switch();
        [announced, switched.clone(), switched.settle()]
    };
    for step in move_to(1) {
        to(step);
        assert!(is_there(&stores[1], &session).await);
    }
    let _ = stores[0]
        .revoke(session.user, Which::All, Why::Ordered)
        .await
        .unwrap();
    is_settled(&copied.bench).await;
    assert_eq!(
        copied.keys().await.len(),
        1,
        "the first server was not told"
    );
    for step in move_to(0) {
        to(step);
        for store in &stores {
            assert!(!is_there(store, &session).await);
        }
    }
    let nowhere = stores[0]
        .route()
        .map()
        .next(&[2; SessionMap::SLOTS])
        .unwrap();
    assert!(stores[0].reroute(SessionRoute::settled(nowhere)).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_that_is_full_says_so() {
    let copied = Copied::new().await;
    let redis = connect(&copied.servers[0].url()).await;
    let store = RedisSessions::builder(copied.bench.rows(), [redis])
        .room(2)
        .sweep_every(Duration::from_millis(50))
        .build()
        .unwrap();
    let user = copied.begun().await.user;
    assert!(store.has_room(user));
    assert!(copied.store().has_room(user), "nobody asked");
    copied.begun().await;
    eventually(LIMIT, async || !store.has_room(user)).await;
    copied.ask("FLUSHALL", &[]).await;
    eventually(LIMIT, async || store.has_room(user)).await;
}
