use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Poll;

use maxscale_shard::{Engine, ShardError, sql};

use crate::support::{note, noted, notes};

on_both!(
    commit_is_visible_to_others_and_rings_once,
    rollback_leaves_nothing_and_rings_nobody,
    dropped_transaction_leaves_nothing,
    commit_after_a_failed_statement_is_refused,
    commit_after_a_dropped_statement_is_refused,
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
