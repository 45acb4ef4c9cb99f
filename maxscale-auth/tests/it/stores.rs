//! Every store keeps what all promise.

use std::time::Duration;

use maxscale_auth::session::{
    DurableSessions, MemorySessions, Roles, SessionStore, SqlSessions, Touch, Untold, Which, Why,
};
use maxscale_auth::testkit;
use maxscale_core::id::Id;
use maxscale_shard::Engine;
use maxscale_tests::RedisCluster;

use crate::copies::{Copied, begin, connect, copies, draw};
use crate::support::Bench;

on_both!(
    rows_keep_every_promise,
    redis_before_rows_keeps_every_promise,
    rows_tell_what_no_copy_was_told,
    touches_are_written_where_they_are_late,
    ended_rows_are_swept,
);

async fn rows_keep_every_promise(bench: Bench) {
    testkit::check(bench.rows(), bench.rows(), draw(&bench), bench.clock.now()).await;
}

async fn redis_before_rows_keeps_every_promise(bench: Bench) {
    let copied = Copied::of(bench, 2).await;
    let (one, other) = (copied.store(), copied.store());
    let now = copied.bench.clock.now();
    testkit::check(one, other, draw(&copied.bench), now).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_before_memory_keeps_every_promise() {
    let bench = Bench::new(Engine::Sqlite).await;
    let cluster = RedisCluster::start().await;
    let url = cluster.urls()[0].replace("redis://", "redis-cluster://");
    let memory = MemorySessions::new(bench.clock.clone());
    let store = async || {
        let redis = connect(&url).await;
        copies(&bench, memory.clone(), [redis])
    };
    let (one, other) = (store().await, store().await);
    testkit::check(one, other, draw(&bench), bench.clock.now()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_every_promise() {
    let bench = Bench::new(Engine::Sqlite).await;
    let store = MemorySessions::new(bench.clock.clone());
    testkit::check(store.clone(), store, draw(&bench), bench.clock.now()).await;
}

const HOUR: Duration = Duration::from_secs(3600);

async fn rows_tell_what_no_copy_was_told(bench: Bench) {
    let rows = bench.rows();
    let draw = draw(&bench);
    let mut users = Vec::new();
    for _ in 0..5 {
        users.push(begin(&bench, Some(draw()), HOUR).await.user);
    }
    let untold = async |after, limit| rows.untold(after, limit).await.unwrap();
    let found: Vec<Id> = untold(None, 10).await.iter().map(|it| it.user).collect();
    assert_eq!(found, users, "in order, of all nodes");
    let found: Vec<Id> = untold(Some(users[1]), 2)
        .await
        .iter()
        .map(|it| it.user)
        .collect();
    assert_eq!(found, users[2..4]);

    let roles = Roles::new(["reader"]).unwrap();
    let told = Untold {
        user: users[0],
        changes: 1,
    };
    let _ = rows.set_roles(users[0], &roles).await.unwrap();
    rows.told(told).await.unwrap();
    assert_eq!(
        untold(None, 1).await,
        [Untold { changes: 2, ..told }],
        "one is left"
    );
    rows.told(Untold { changes: 2, ..told }).await.unwrap();
    rows.told(told).await.unwrap();
    assert_eq!(
        untold(None, 10).await[0].user,
        users[1],
        "nothing is taken back"
    );

    let snapshot = rows.snapshot(users[0]).await.unwrap();
    assert_eq!(
        (snapshot.standing.roles, snapshot.standing.changes),
        (roles, 2)
    );
    assert_eq!(snapshot.sessions.len(), 1);
    let revoked = rows.revoke(users[0], Which::All, Why::Ordered).await;
    assert_eq!(revoked.unwrap().ended.len(), 1);
    let snapshot = rows.snapshot(users[0]).await.unwrap();
    assert_eq!((snapshot.sessions.len(), snapshot.standing.changes), (0, 3));
    bench.time.advance(HOUR);
    let idle = rows.snapshot(users[1]).await.unwrap();
    assert!(idle.sessions.is_empty(), "it was not used");
}

async fn touches_are_written_where_they_are_late(bench: Bench) {
    let long = begin(&bench, None, 30 * 24 * HOUR).await;
    let short = begin(&bench, Some(long.user), HOUR).await;
    let far = begin(&bench, None, HOUR).await;
    let began = bench.clock.now();
    let after = async |minutes: u32| {
        let at = began.after(minutes * Duration::from_secs(60));
        // The first of each is not the one that counts.
        let touches: Vec<Touch> = [began, at]
            .into_iter()
            .flat_map(|at| {
                [&long, &short, &far].map(|it| Touch {
                    user: it.user,
                    session: it.id,
                    at,
                })
            })
            .collect();
        bench.rows().touch(&touches).await.unwrap();
        let mut lags = Vec::new();
        for it in [&long, &short, &far] {
            let (found, _) = bench.rows().load(it.user, it.id).await.unwrap().unwrap();
            lags.push(at.since(found.last_active).as_secs() / 60);
        }
        lags
    };
    assert_eq!(after(7).await, [7, 7, 7]);
    assert_eq!(after(8).await, [8, 0, 0], "an eighth of an hour");
    assert_eq!(after(59).await, [59, 0, 0]);
    assert_eq!(after(60).await, [0, 1, 1], "an hour");
}

async fn ended_rows_are_swept(bench: Bench) {
    let rows = bench.rows();
    let draw = draw(&bench);
    let (user, other) = (draw(), draw());
    for _ in 0..3 {
        begin(&bench, Some(user), HOUR).await;
    }
    let _ = rows.revoke(user, Which::All, Why::LoggedOut).await.unwrap();
    begin(&bench, Some(other), HOUR).await;
    let sweep = async || sweep(&bench, &rows).await;
    assert_eq!(sweep().await, 0);
    bench.time.advance(89 * 24 * HOUR);
    begin(&bench, Some(user), HOUR).await;
    assert_eq!(sweep().await, 0, "tombstones stay");
    bench.time.advance(24 * HOUR);
    assert_eq!(sweep().await, 4);
    assert_eq!(sweep().await, 0);
    let left = bench.counts("SELECT count(*) AS n FROM ms_session").await;
    assert_eq!(left.iter().sum::<i64>(), 1);
}

async fn sweep(bench: &Bench, rows: &SqlSessions) -> u64 {
    let mut swept = 0;
    for node in bench.router().nodes().iter() {
        swept += rows.sweep(node).await.unwrap();
    }
    swept
}
