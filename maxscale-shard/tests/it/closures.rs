//! Transactions as closures, savepoints, and what is done past the handle.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use maxscale_core::fact::Deadline;
use maxscale_shard::{Database, Engine, Isolation, ShardError, TxOptions, Work, sql};
use maxscale_tests::{Lateness, eventually};
use sqlx::{Connection, Executor};
use tokio::sync::Barrier;
use tokio::time::{Instant, timeout};

use crate::support::{Nodes, note, noted, notes, options};

on_both!(
    write_commits_what_its_closure_did,
    write_whose_closure_fails_leaves_nothing,
    read_refuses_to_write,
    savepoint_that_fails_is_undone_alone,
    savepoint_that_passes_over_an_error_is_undone,
    savepoint_that_is_dropped_makes_the_commit_fail,
    commit_of_a_transaction_ended_past_the_handle_is_refused,
);

const PLAIN: TxOptions = TxOptions::new();

/// One connection, so that each test that follows another has the same.
async fn single(engine: Engine) -> (Nodes, Database) {
    let (nodes, _) = noted(engine).await;
    let mut one = options();
    one.connections = 1;
    let database = Database::open("single", &nodes.urls[0], &one).unwrap();
    (nodes, database)
}

/// In a task, as a handler runs: the future can be sent.
async fn write_commits_what_its_closure_did(engine: Engine) {
    let (nodes, database) = noted(engine).await;
    let written = tokio::spawn(async move {
        let mut runs = 0;
        let done = database.write(PLAIN, |tx| {
            runs += 1;
            Work::new(async move {
                tx.execute(note(1, 1)).await?;
                tx.execute(note(1, 2)).await
            })
        });
        let done: Result<_, ShardError> = done.await;
        (done.unwrap(), runs)
    });

    let (done, runs) = written.await.unwrap();

    assert_eq!((done.value, done.watermark, runs), (1, None, 1));
    assert_eq!(notes(&nodes).await, [(1, 1), (1, 2)]);
}

async fn write_whose_closure_fails_leaves_nothing(engine: Engine) {
    let (nodes, database) = single(engine).await;
    let failed = database
        .write(PLAIN, |tx| {
            Work::new(async move {
                tx.execute(note(1, 1)).await?;
                Err::<(), _>(ShardError::NoRow {
                    database: "mine".into(),
                })
            })
        })
        .await;
    assert!(
        matches!(failed, Err(ShardError::NoRow { .. })),
        "{failed:?}"
    );

    // An error of a statement, passed over.
    let failed = database
        .write(PLAIN, |tx| {
            Work::new(async move {
                tx.execute(note(2, 1)).await?;
                let _ = tx.execute(note(2, 1)).await;
                Ok::<_, ShardError>(())
            })
        })
        .await;
    assert!(
        matches!(failed, Err(ShardError::Aborted { .. })),
        "{failed:?}"
    );

    database.execute(note(3, 1)).await.unwrap();
    assert_eq!(notes(&nodes).await, [(3, 1)]);
}

async fn read_refuses_to_write(engine: Engine) {
    let (nodes, database) = noted(engine).await;
    database.execute(note(1, 1)).await.unwrap();
    let all = || sql("SELECT n FROM note");

    let read = database.read(PLAIN, |tx| {
        Work::new(async move { tx.fetch_all(all()).await })
    });
    assert_eq!(read.await.unwrap().len(), 1);
    let refused = database.read(PLAIN, |tx| {
        Work::new(async move { tx.execute(note(2, 1)).await })
    });
    refused.await.unwrap_err();

    assert_eq!(notes(&nodes).await, [(1, 1)]);
}

async fn savepoint_that_fails_is_undone_alone(engine: Engine) {
    let (nodes, database) = noted(engine).await;
    let mut tx = database.begin().await.unwrap();
    tx.execute(note(1, 1)).await.unwrap();

    let outer = tx.savepoint(|tx| {
        Work::new(async move {
            tx.execute(note(2, 1)).await?;
            let inner = tx.savepoint(|tx| {
                Work::new(async move {
                    tx.after_commit(|| panic!("of what was undone"));
                    tx.execute(note(3, 1)).await?;
                    tx.execute(note(2, 1)).await
                })
            });
            let failed = inner.await;
            assert!(
                matches!(failed, Err(ShardError::Unique { .. })),
                "{failed:?}"
            );
            tx.execute(note(2, 2)).await
        })
    });
    outer.await.unwrap();
    tx.execute(note(1, 2)).await.unwrap();
    tx.commit().await.unwrap();

    assert_eq!(notes(&nodes).await, [(1, 1), (1, 2), (2, 1), (2, 2)]);
}

async fn savepoint_that_passes_over_an_error_is_undone(engine: Engine) {
    let (nodes, database) = noted(engine).await;
    let mut tx = database.begin().await.unwrap();
    tx.execute(note(1, 1)).await.unwrap();

    let failed = tx.savepoint(|tx| {
        Work::new(async move {
            tx.execute(note(2, 1)).await?;
            let _ = tx.execute(note(2, 1)).await;
            Ok::<_, ShardError>(())
        })
    });
    let failed = failed.await;
    assert!(
        matches!(failed, Err(ShardError::Aborted { .. })),
        "{failed:?}"
    );
    tx.commit().await.unwrap();

    assert_eq!(notes(&nodes).await, [(1, 1)]);
}

async fn savepoint_that_is_dropped_makes_the_commit_fail(engine: Engine) {
    let (nodes, database) = noted(engine).await;
    let mut tx = database.begin().await.unwrap();
    tx.execute(note(1, 1)).await.unwrap();

    let dropped = tx.savepoint(|tx| {
        Work::new(async move {
            tx.execute(note(2, 1)).await?;
            std::future::pending::<Result<(), ShardError>>().await
        })
    });
    assert!(timeout(Duration::from_millis(100), dropped).await.is_err());
    let refused = tx.commit().await;

    assert!(
        matches!(refused, Err(ShardError::Aborted { .. })),
        "{refused:?}"
    );
    database.execute(note(3, 1)).await.unwrap();
    assert_eq!(notes(&nodes).await, [(3, 1)]);
}

/// By its text, and by sqlx's own begin when that is dropped.
async fn commit_of_a_transaction_ended_past_the_handle_is_refused(engine: Engine) {
    let (nodes, database) = noted(engine).await;
    for way in 0..2 {
        let mut tx = database.begin().await.unwrap();
        tx.execute(note(1, 1)).await.unwrap();
        match (engine, way) {
            (Engine::Postgres, 0) => {
                let raw = tx.as_postgres().unwrap();
                raw.execute("ROLLBACK").await.unwrap();
            }
            (Engine::Postgres, _) => {
                let raw = tx.as_postgres().unwrap();
                // Polled once, it was sent; hardly ever is the answer there already.
                loop {
                    let mut begin = Box::pin(raw.begin());
                    let poll = poll_fn(|cx| Poll::Ready(begin.as_mut().poll(cx).is_ready()));
                    if !poll.await {
                        break;
                    }
                }
            }
            (Engine::Sqlite, 0) => {
                let raw = tx.as_sqlite().unwrap();
                raw.execute("ROLLBACK").await.unwrap();
            }
            (Engine::Sqlite, _) => std::mem::forget(tx.as_sqlite().unwrap().begin().await.unwrap()),
        }
        let refused = tx.commit().await;
        assert!(refused.is_err(), "{way}");
        database.execute(note(2, way)).await.unwrap();
    }
    assert_eq!(notes(&nodes).await, [(2, 0), (2, 1)]);
}

/// Two that read the same and write what they read: only one after the other is right.
async fn race(database: &Database, options: TxOptions) -> (u32, [Result<u64, ShardError>; 2]) {
    let (runs, both) = (AtomicU32::new(0), Barrier::new(2));
    let one = async |n: i64| {
        let (mut first, both) = (true, &both);
        let done = database.write(options, |tx| {
            runs.fetch_add(1, Ordering::SeqCst);
            let first = std::mem::take(&mut first);
            Work::new(async move {
                let seen = tx.fetch_all(sql("SELECT n FROM note")).await?;
                if first {
                    both.wait().await;
                }
                let seen = i64::try_from(seen.len()).unwrap();
                tx.execute(note(n, seen)).await
            })
        });
        done.await.map(|done| done.value)
    };
    let (a, b) = tokio::join!(one(1), one(2));
    (runs.into_inner(), [a, b])
}

#[tokio::test]
async fn closure_that_loses_a_race_runs_again() {
    let (nodes, database) = noted(Engine::Postgres).await;
    let serializable = TxOptions::new().isolation(Isolation::Serializable);

    let (runs, done) = race(&database, serializable).await;
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    assert_eq!(runs, 3);
    let parts: Vec<i64> = notes(&nodes).await.iter().map(|(_, part)| *part).collect();
    assert!(parts == [0, 1] || parts == [1, 0], "{parts:?}");
}

#[tokio::test]
async fn closure_runs_again_no_more_often_than_allowed() {
    let (_nodes, database) = noted(Engine::Postgres).await;
    let once = TxOptions::new()
        .isolation(Isolation::Serializable)
        .reruns(0);

    let (runs, done) = race(&database, once).await;
    assert_eq!(runs, 2);
    let lost = done.into_iter().find_map(Result::err).unwrap();
    assert!(matches!(lost, ShardError::Busy { .. }), "{lost:?}");
}

/// sqlx would begin another transaction, or set a savepoint in none, if its count were wrong.
#[tokio::test]
async fn sqlx_counts_transactions_rightly_after_ours() {
    let (nodes, database) = single(Engine::Postgres).await;
    let all = TxOptions::new().with_id().with_watermark();
    for round in 0..2 {
        let mut tx = database.begin_with(&all).await.unwrap();
        let raw = tx.as_postgres().unwrap();
        let mut nested = raw.begin().await.unwrap();
        nested
            .execute("INSERT INTO note VALUES (1, 1)")
            .await
            .unwrap();
        nested.rollback().await.unwrap();
        let mut nested = raw.begin().await.unwrap();
        let insert = sqlx::query("INSERT INTO note VALUES (2, $1)").bind(round);
        nested.execute(insert).await.unwrap();
        nested.commit().await.unwrap();
        assert!(tx.commit().await.unwrap().is_some());

        let mut conn = database.writer().await.unwrap();
        let raw = conn.as_postgres().unwrap();
        assert!(!raw.is_in_transaction());
        let mut own = raw.begin().await.unwrap();
        let insert = sqlx::query("INSERT INTO note VALUES (3, $1)").bind(round);
        own.execute(insert).await.unwrap();
        own.commit().await.unwrap();
    }
    assert_eq!(notes(&nodes).await, [(2, 0), (2, 1), (3, 0), (3, 1)]);
}

#[tokio::test]
async fn watermark_is_where_the_log_ends_after_the_commit() {
    let (nodes, database) = noted(Engine::Postgres).await;
    let observer = nodes.database().await;
    let end = async || {
        let end = sql("SELECT (pg_current_wal_insert_lsn() - '0/0')::text AS n");
        let row = observer.fetch_optional(end).await.unwrap().unwrap();
        row.get::<String>("n").unwrap().parse::<u64>().unwrap()
    };
    let before = end().await;
    let marked = TxOptions::new().with_watermark();
    let done = database.write(marked, |tx| {
        Work::new(async move { tx.execute(note(1, 1)).await })
    });
    let mark = done.await.unwrap().watermark.unwrap();

    assert_eq!(mark.timeline(), 1);
    assert!(mark.position() > before);
    assert!(mark.position() <= end().await);
    assert_eq!(notes(&nodes).await, [(1, 1)]);
    // The transaction in which the position was asked is ended, long before the
    // server would end it for idling.
    eventually(Duration::from_secs(5), async || {
        let open = sql("SELECT 1 AS one FROM pg_stat_activity
             WHERE datname = current_database() AND state LIKE 'idle in transaction%'");
        observer.fetch_all(open).await.unwrap().is_empty()
    })
    .await;
}

/// A commit that the database refuses is not mistaken for a chained one.
#[tokio::test]
async fn refused_commit_brings_no_watermark() {
    let (nodes, database) = noted(Engine::Postgres).await;
    let unique = "ALTER TABLE note ADD UNIQUE (part) DEFERRABLE INITIALLY DEFERRED";
    database.execute(sql(unique)).await.unwrap();
    database.execute(note(1, 1)).await.unwrap();
    let marked = TxOptions::new().with_watermark();

    let refused = database.write(marked, |tx| {
        Work::new(async move { tx.execute(note(2, 1)).await })
    });

    let refused = refused.await.unwrap_err();
    assert!(matches!(refused, ShardError::Unique { .. }), "{refused:?}");
    assert_eq!(notes(&nodes).await, [(1, 1)]);
}

#[tokio::test]
async fn deadline_bounds_each_statement_here_and_in_the_server() {
    let (nodes, database) = single(Engine::Postgres).await;
    let within = |time| TxOptions::new().deadline(Deadline::at(Instant::now() + time));
    let shown = database.read(within(Duration::from_secs(4)), |tx| {
        Work::new(async move {
            let setting = sql("SELECT setting::bigint AS n FROM pg_settings
             WHERE name = 'statement_timeout'");
            tx.fetch_one(setting).await?.get::<i64>("n")
        })
    });
    let shown = shown.await.unwrap();
    assert!((1_000..=4_000).contains(&shown), "{shown}");

    let (start, lateness) = (Instant::now(), Lateness::watch());
    let late = database.write(within(Duration::from_millis(200)), |tx| {
        Work::new(async move {
            tx.execute(note(1, 1)).await?;
            tx.execute(sql("SELECT pg_sleep(20)")).await
        })
    });
    let late = late.await.unwrap_err();
    let in_time = matches!(late, ShardError::Busy { .. } | ShardError::Deadline { .. });
    let most = Duration::from_secs(5) + lateness.total();
    assert!(in_time && start.elapsed() < most, "{late:?}, {lateness:?}");

    // A single statement too.
    let mut conn = database.writer().await.unwrap();
    conn.set_deadline(Deadline::at(Instant::now() + Duration::from_millis(100)));
    let late = conn.execute(sql("SELECT pg_sleep(20)")).await.unwrap_err();
    assert!(matches!(late, ShardError::Deadline { .. }), "{late:?}");
    drop(conn);
    database.execute(note(2, 1)).await.unwrap();
    assert_eq!(notes(&nodes).await, [(2, 1)]);
}
