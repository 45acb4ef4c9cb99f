//! Operations that are dropped at any await, as when a client goes away.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use maxscale_shard::{Database, Engine, ShardError, TxOptions, Work, sql};
use maxscale_tests::eventually;
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;
use uuid::Uuid;

use crate::support::{LIMIT, Nodes, note, noted, notes, options};

on_both!(a_thousand_dropped_operations_do_no_harm);

/// So many at once, which is more than there are connections.
const TASKS: i64 = 6;

/// What is dropped. All but the first write two rows, or none.
#[derive(Clone, Copy)]
enum Kind {
    Statement,
    Transaction,
    Closure,
    Savepoint,
}

const KINDS: [Kind; 4] = [
    Kind::Statement,
    Kind::Transaction,
    Kind::Closure,
    Kind::Savepoint,
];

fn place_of(n: i64) -> usize {
    usize::try_from(n / TASKS % 4).unwrap()
}

fn kind_of(n: i64) -> Kind {
    KINDS[place_of(n)]
}

pub(crate) fn random() -> u64 {
    Uuid::new_v4().as_u64_pair().1 >> 8
}

/// Drops `future` after so many polls: at once, or when its next answer has come.
pub(crate) async fn cut<T>(
    polls: u64,
    at_once: bool,
    future: impl Future<Output = T>,
) -> Option<T> {
    let (mut future, mut polled) = (Box::pin(future), 0);
    poll_fn(|cx| {
        if polled == polls {
            return Poll::Ready(None);
        }
        polled += 1;
        match future.as_mut().poll(cx) {
            Poll::Pending if at_once && polled == polls => Poll::Ready(None),
            other => other.map(Some),
        }
    })
    .await
}

async fn write(database: &Database, kind: Kind, n: i64) -> Result<(), ShardError> {
    match kind {
        Kind::Statement => {
            database.execute(note(n, 1)).await?;
        }
        Kind::Transaction => {
            let mut tx = database.begin().await?;
            tx.execute(note(n, 1)).await?;
            // As a handler awaits other things meanwhile.
            yield_now().await;
            tx.execute(note(n, 2)).await?;
            yield_now().await;
            tx.commit().await?;
        }
        Kind::Closure => {
            let done = database.write(TxOptions::new().with_watermark(), |tx| {
                Work::new(async move {
                    tx.execute(note(n, 1)).await?;
                    tx.fetch_all(sql("SELECT n FROM note LIMIT 3")).await?;
                    tx.execute(note(n, 2)).await
                })
            });
            done.await?;
        }
        Kind::Savepoint => {
            let mut tx = database.begin().await?;
            tx.execute(note(n, 1)).await?;
            let undone = tx.savepoint(|tx| {
                Work::new(async move {
                    tx.execute(note(n, 9)).await?;
                    tx.execute(note(n, 1)).await
                })
            });
            assert!(undone.await.is_err());
            let kept = tx.savepoint(|tx| Work::new(async move { tx.execute(note(n, 2)).await }));
            kept.await?;
            tx.commit().await?;
        }
    }
    Ok(())
}

/// How many polls an operation takes that is not dropped, and some more for a reconnect.
async fn most_polls(database: &Database, kind: Kind, first: i64) -> u64 {
    for polls in 1.. {
        let n = first - i64::try_from(polls).unwrap();
        if cut(polls, false, write(database, kind, n)).await.is_some() {
            return 2 * polls;
        }
    }
    unreachable!("it ends at some time")
}

/// Drops operations, and checks that whatever was acknowledged is there, whole,
/// and that nothing else is there by halves.
async fn storm(engine: Engine, count: i64) {
    let (nodes, database) = noted(engine).await;
    let mut polls = Vec::new();
    for (kind, first) in KINDS.into_iter().zip([0, -1_000, -2_000, -3_000]) {
        polls.push(most_polls(&database, kind, first).await);
    }

    let (polls, mut tasks) = (Arc::new(polls), JoinSet::new());
    for task in 0..TASKS {
        let (database, polls) = (database.clone(), polls.clone());
        tasks.spawn(async move {
            let mut acknowledged = Vec::new();
            for n in (1..=count).filter(|n| n % TASKS == task) {
                // Some to their end, however many polls that takes beside others.
                let (kind, after) = match random().is_multiple_of(8) {
                    true => (kind_of(n), u64::MAX),
                    false => (kind_of(n), random() % polls[place_of(n)]),
                };
                let written = write(&database, kind, n);
                if let Some(done) = cut(after, random().is_multiple_of(2), written).await {
                    done.unwrap();
                    acknowledged.push(n);
                }
                // What has the connection next is not inside a forgotten transaction.
                database.execute(note(n, 3)).await.unwrap();
            }
            acknowledged
        });
    }
    let acknowledged: BTreeSet<i64> = tasks.join_all().await.into_iter().flatten().collect();

    let done = i64::try_from(acknowledged.len()).unwrap();
    assert!((count / 20..count).contains(&done), "{done} of {count}");
    let mut rows: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (n, part) in notes(&nodes).await {
        rows.entry(n).or_default().push(part);
    }
    for n in 1..=count {
        let parts = rows.remove(&n).unwrap_or_default();
        let whole = match kind_of(n) {
            Kind::Statement => parts == [1, 3],
            _ => parts == [1, 2, 3],
        };
        assert!(whole || parts == [3], "{n}: {parts:?}");
        let promised = acknowledged.contains(&n);
        assert!(whole || !promised, "{n} was acknowledged: {parts:?}");
    }
    nothing_is_left(engine, &nodes, &database).await;
}

/// No open transaction, no lock, and every connection of the pool can be had.
async fn nothing_is_left(engine: Engine, nodes: &Nodes, database: &Database) {
    let other = nodes.database().await;
    if engine == Engine::Postgres {
        let open = "SELECT count(*) AS open FROM pg_stat_activity
                    WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
        eventually(LIMIT, async || {
            let row = other.fetch_optional(sql(open)).await.unwrap().unwrap();
            row.get::<i64>("open").unwrap() == 0
        })
        .await;
        let all = async {
            let mut conns = Vec::new();
            for _ in 0..options().connections {
                let mut conn = database.writer().await.unwrap();
                conn.fetch_one(sql("SELECT 1 AS one")).await.unwrap();
                conns.push(conn);
            }
        };
        timeout(LIMIT, all).await.unwrap();
    }
    // SQLite's one write lock is free.
    other.execute(note(i64::MAX, 1)).await.unwrap();
    database.execute(note(i64::MAX, 2)).await.unwrap();
}

async fn a_thousand_dropped_operations_do_no_harm(engine: Engine) {
    storm(engine, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: ten thousand on each engine; run by name with --ignored"]
async fn ten_thousand_dropped_operations_do_no_harm() {
    storm(Engine::Sqlite, 10_000).await;
    storm(Engine::Postgres, 10_000).await;
}

async fn stock_pair(pool: &PgPool, n: i64) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    for part in 1..=2_i64 {
        let insert = sqlx::query("INSERT INTO note (n, part) VALUES ($1, $2)");
        insert.bind(n).bind(part).execute(&mut *tx).await?;
    }
    tx.commit().await
}

/// What ours is for: once sqlx begins a transaction in time, it can go.
#[tokio::test]
async fn dropped_begin_of_sqlx_loses_what_others_write_later() {
    let (nodes, _database) = noted(Engine::Postgres).await;
    let pool = || PgPoolOptions::new().max_connections(1);
    let mut n = 0;
    for _ in 0..400 {
        let pool = pool().connect(&nodes.urls[0]).await.unwrap();
        let (before, mut promised) = (n, 0);
        for _ in 0..100 {
            n += 1;
            let _ = cut(random() % 12, n % 2 == 0, stock_pair(&pool, n)).await;
            let insert = sqlx::query("INSERT INTO note (n, part) VALUES ($1, 3)");
            promised += usize::from(insert.bind(n).execute(&pool).await.is_ok());
        }
        pool.close().await;
        let kept = notes(&nodes).await.into_iter();
        let kept = kept.filter(|(m, part)| *m > before && *part == 3).count();
        if kept < promised {
            return;
        }
    }
    panic!("sqlx lost nothing in {n} tries");
}
