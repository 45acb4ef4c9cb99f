use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;

use maxscale_shard::{Database, Engine, ShardError, sql};
use maxscale_tests::eventually;
use uuid::Uuid;

use crate::support::{LIMIT, Nodes, note, noted, notes, options};

on_both!(
    commit_is_visible_to_others_and_rings_once,
    rollback_leaves_nothing_and_rings_nobody,
    dropped_transaction_leaves_nothing,
    commit_after_a_failed_statement_is_refused,
    commit_after_a_dropped_statement_is_refused,
    cancelled_transactions_tear_nothing_and_poison_nothing,
);

async fn commit_is_visible_to_others_and_rings_once(engine: Engine) {
    let (nodes, database) = noted(engine).await;
    let rung = Arc::new(AtomicU32::new(0));
    let bell = rung.clone();
    let mut tx = database.begin().await.unwrap();
    tx.after_commit(move || {
        bell.fetch_add(1, Ordering::SeqCst);
    });
    tx.execute(note(1, 1)).await.unwrap();
    tx.execute(note(1, 2)).await.unwrap();
    assert_eq!(notes(&nodes).await, []);
    assert_eq!(rung.load(Ordering::SeqCst), 0);

    tx.commit().await.unwrap();

    assert_eq!(notes(&nodes).await, [(1, 1), (1, 2)]);
    assert_eq!(rung.load(Ordering::SeqCst), 1);
}

async fn rollback_leaves_nothing_and_rings_nobody(engine: Engine) {
    let (nodes, database) = noted(engine).await;
    let rung = Arc::new(AtomicU32::new(0));
    let bell = rung.clone();
    let mut tx = database.begin().await.unwrap();
    tx.after_commit(move || {
        bell.fetch_add(1, Ordering::SeqCst);
    });
    tx.execute(note(1, 1)).await.unwrap();

    tx.rollback().await.unwrap();

    assert_eq!(notes(&nodes).await, []);
    assert_eq!(rung.load(Ordering::SeqCst), 0);
}

async fn dropped_transaction_leaves_nothing(engine: Engine) {
    let (nodes, database) = noted(engine).await;
    let mut tx = database.begin().await.unwrap();
    tx.execute(note(1, 1)).await.unwrap();

    drop(tx);

    // A writer that comes after waits for no lock of the forgotten one.
    database.execute(note(2, 1)).await.unwrap();
    assert_eq!(notes(&nodes).await, [(2, 1)]);
}

async fn commit_after_a_failed_statement_is_refused(engine: Engine) {
    let (nodes, database) = noted(engine).await;
    let mut tx = database.begin().await.unwrap();
    tx.execute(note(1, 1)).await.unwrap();
    let failed = tx.execute(note(1, 1)).await;
    assert!(matches!(failed, Err(ShardError::Unique { .. })));

    let refused = tx.commit().await.unwrap_err();

    assert!(matches!(refused, ShardError::Aborted { .. }), "{refused:?}");
    database.execute(note(2, 1)).await.unwrap();
    assert_eq!(notes(&nodes).await, [(2, 1)]);
}

/// Nobody knows what became of the statement: PostgreSQL would answer the
/// COMMIT after a failed one with a silent ROLLBACK.
async fn commit_after_a_dropped_statement_is_refused(engine: Engine) {
    let (nodes, database) = noted(engine).await;
    let mut tx = database.begin().await.unwrap();
    tx.execute(note(1, 1)).await.unwrap();
    let mut bad = Box::pin(tx.execute(sql("INSERT INTO absent (n) VALUES (1)")));
    // Polled once, it was sent; hardly ever is the answer there already.
    let _ = poll_fn(|cx| Poll::Ready(bad.as_mut().poll(cx))).await;
    drop(bad);

    let refused = tx.commit().await.unwrap_err();

    assert!(matches!(refused, ShardError::Aborted { .. }), "{refused:?}");
    database.execute(note(2, 1)).await.unwrap();
    assert_eq!(notes(&nodes).await, [(2, 1)]);
}

async fn pair(database: &Database, n: i64) -> Result<(), ShardError> {
    let mut tx = database.begin().await?;
    tx.execute(note(n, 1)).await?;
    tx.execute(note(n, 2)).await?;
    tx.commit().await.map(drop)
}

/// Drops `future` after so many polls: at once, or when its next answer has come.
async fn cut<T>(polls: u64, at_once: bool, future: impl Future<Output = T>) -> Option<T> {
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

async fn cancelled_transactions_tear_nothing_and_poison_nothing(engine: Engine) {
    const TRIES: i64 = 500;
    let (nodes, database) = noted(engine).await;
    // As many awaits as one transaction has, and some more for a reconnect.
    let mut awaits = 1;
    loop {
        let n = -i64::try_from(awaits).unwrap();
        if cut(awaits, false, pair(&database, n)).await.is_some() {
            break;
        }
        awaits += 1;
    }

    let mut acknowledged = Vec::new();
    for n in 0..TRIES {
        let polls = Uuid::new_v4().as_u64_pair().1 % (2 * awaits);
        if let Some(done) = cut(polls, n % 2 == 0, pair(&database, n)).await {
            done.unwrap();
            acknowledged.push(n);
        }
        // What borrows the connection next is not inside a forgotten transaction.
        database.execute(note(n, 3)).await.unwrap();
    }

    let done = acknowledged.len();
    assert!((10..490).contains(&done), "{done} of 500 ran to their end");
    let seen = notes(&nodes).await;
    for n in 0..TRIES {
        let parts: Vec<i64> = seen
            .iter()
            .filter(|(m, _)| *m == n)
            .map(|(_, p)| *p)
            .collect();
        let whole = parts == [1, 2, 3];
        assert!(whole || parts == [3], "{n}: {parts:?}");
        assert!(
            whole || !acknowledged.contains(&n),
            "{n} was acknowledged: {parts:?}"
        );
    }
    nothing_is_left_open(engine, &nodes).await;
}

async fn nothing_is_left_open(engine: Engine, nodes: &Nodes) {
    let other = nodes.database().await;
    let open = "SELECT count(*) AS open FROM pg_stat_activity
                WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    if engine == Engine::Postgres {
        eventually(LIMIT, async || {
            let row = other.fetch_optional(sql(open)).await.unwrap().unwrap();
            row.get::<i64>("open").unwrap() == 0
        })
        .await;
    }
    // SQLite's one write lock is free.
    other.execute(note(1_000, 1)).await.unwrap();
}

/// What a user of one engine does on sqlx's own connection counts too.
#[tokio::test]
async fn commit_after_a_failed_statement_past_the_handle_is_refused() {
    let (nodes, database) = noted(Engine::Postgres).await;
    let mut tx = database.begin().await.unwrap();
    tx.execute(note(1, 1)).await.unwrap();
    let raw = tx.as_postgres().unwrap();
    let failed = sqlx::query("INSERT INTO absent (n) VALUES (1)")
        .execute(raw)
        .await;
    assert!(failed.is_err());

    let refused = tx.commit().await.unwrap_err();

    assert!(matches!(refused, ShardError::Aborted { .. }), "{refused:?}");
    assert_eq!(notes(&nodes).await, []);
}

#[tokio::test]
async fn commit_after_work_past_the_handle_is_made() {
    let (nodes, database) = noted(Engine::Postgres).await;
    let mut tx = database.begin().await.unwrap();
    let raw = tx.as_postgres().unwrap();
    sqlx::query("INSERT INTO note (n, part) VALUES (1, 1)")
        .execute(raw)
        .await
        .unwrap();

    tx.commit().await.unwrap();

    assert_eq!(notes(&nodes).await, [(1, 1)]);
}

#[tokio::test]
async fn lock_that_postgres_does_not_get_in_time_is_busy() {
    let (nodes, database) = noted(Engine::Postgres).await;
    let mut holder = database.begin().await.unwrap();
    holder.execute(note(1, 1)).await.unwrap();
    let mut hasty = options();
    hasty.lock_timeout = Duration::from_millis(50);
    hasty.statement_timeout = Duration::from_millis(400);
    let hasty = Database::open("hasty", &nodes.urls[0], &hasty).unwrap();

    for statement in [note(1, 1), sql("SELECT pg_sleep(20)")] {
        let busy = hasty.execute(statement).await.unwrap_err();
        assert!(matches!(busy, ShardError::Busy { .. }), "{busy:?}");
    }
    // The connection is none the worse.
    hasty.execute(note(2, 1)).await.unwrap();
}

#[tokio::test]
async fn lock_that_sqlite_does_not_get_in_time_is_busy() {
    let (nodes, database) = noted(Engine::Sqlite).await;
    let _holder = database.begin().await.unwrap();

    // As another process would.
    let busy = nodes
        .database()
        .await
        .execute(note(1, 1))
        .await
        .unwrap_err();

    assert!(matches!(busy, ShardError::Busy { .. }), "{busy:?}");
}
