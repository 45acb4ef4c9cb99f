//! Commits that nobody answers.

use std::time::Duration;

use maxscale_shard::{Database, Engine, Outcome, ShardError, Tx, TxId, TxOptions, Work};
use maxscale_tests::{Cut, PostgresServer, Proxy, Way, eventually};

use crate::support::{LIMIT, Nodes, note, noted, notes, options};

const WITH_ID: TxOptions = TxOptions::new().with_id();

/// A database reached through a proxy, and past it.
async fn behind_a_proxy() -> (Nodes, Proxy, Database, Database) {
    let (nodes, direct) = noted(Engine::Postgres).await;
    let proxy = Proxy::start(&nodes.urls[0]).await;
    let database = Database::open("proxied", &proxy.url(), &options()).unwrap();
    (nodes, proxy, database, direct)
}

async fn begun(database: &Database, n: i64) -> Tx {
    let mut tx = database.begin_with(&WITH_ID).await.unwrap();
    tx.execute(note(n, 1)).await.unwrap();
    tx.execute(note(n, 2)).await.unwrap();
    tx
}

fn unknown(lost: Result<impl std::fmt::Debug, ShardError>) -> TxId {
    match lost {
        Err(ShardError::OutcomeUnknown { tx: Some(tx), .. }) => tx,
        other => panic!("{other:?}"),
    }
}

async fn both_parts(nodes: &Nodes, n: i64) -> bool {
    let parts = notes(nodes).await.into_iter().filter(|(m, _)| *m == n);
    match parts.count() {
        0 => false,
        2 => true,
        torn => panic!("{torn} rows of {n}"),
    }
}

/// The server committed, and its answer never came.
async fn lost_answers(count: i64) {
    let (nodes, proxy, database, direct) = behind_a_proxy().await;
    for n in 0..count {
        let tx = begun(&database, n).await;
        proxy.drop_reply();

        let id = unknown(tx.commit().await);

        assert_eq!(
            direct.outcome(&id, LIMIT).await.unwrap(),
            Outcome::Committed
        );
        assert!(both_parts(&nodes, n).await);
    }
    assert_eq!(proxy.dropped_replies(), u64::try_from(count).unwrap());
}

/// The commit never reached the server.
async fn lost_commits(count: i64) {
    let (nodes, proxy, database, direct) = behind_a_proxy().await;
    for n in 0..count {
        let tx = begun(&database, n).await;
        proxy.black_hole(Way::ToServer);

        let (lost, ()) = tokio::join!(tx.commit(), proxy.cut(Cut::Reset));

        let id = unknown(lost);
        proxy.heal().await;
        // The server may not have noticed yet.
        assert_eq!(
            direct.outcome(&id, LIMIT).await.unwrap(),
            Outcome::RolledBack
        );
        assert!(!both_parts(&nodes, n).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answer_to_a_commit_is_found_out() {
    lost_answers(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_that_was_lost_is_found_out() {
    lost_commits(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a hundred of each; run by name with --ignored"]
async fn hundred_lost_commits_and_answers_are_found_out() {
    lost_answers(100).await;
    lost_commits(100).await;
}

/// The watermark comes in the same message: one lost means nothing is known.
#[tokio::test]
async fn lost_answer_to_a_commit_with_a_watermark_is_found_out() {
    let (nodes, proxy, database, direct) = behind_a_proxy().await;
    let options = WITH_ID.with_watermark();
    let mut tx = database.begin_with(&options).await.unwrap();
    tx.execute(note(1, 1)).await.unwrap();
    tx.execute(note(1, 2)).await.unwrap();
    proxy.drop_reply();

    let id = unknown(tx.commit().await);

    assert_eq!(
        direct.outcome(&id, LIMIT).await.unwrap(),
        Outcome::Committed
    );
    assert!(both_parts(&nodes, 1).await);
}

#[tokio::test]
async fn closure_whose_commit_was_lost_never_runs_again() {
    let (nodes, proxy, database, _direct) = behind_a_proxy().await;
    let (mut runs, proxy) = (0, &proxy);
    let lost = database.write(WITH_ID, |tx| {
        runs += 1;
        Work::new(async move {
            tx.execute(note(1, 1)).await?;
            tx.execute(note(1, 2)).await?;
            proxy.drop_reply();
            Ok::<_, ShardError>(())
        })
    });

    unknown(lost.await);

    assert_eq!(runs, 1);
    assert!(both_parts(&nodes, 1).await);
}

#[tokio::test]
async fn commit_without_an_id_that_was_lost_says_so() {
    let (_nodes, proxy, database, _direct) = behind_a_proxy().await;
    let tx = database.begin().await.unwrap();
    proxy.drop_reply();

    let lost = tx.commit().await;

    assert!(
        matches!(lost, Err(ShardError::OutcomeUnknown { tx: None, .. })),
        "{lost:?}"
    );
}

/// What is still under way is waited for, as long as one likes.
#[tokio::test]
async fn transaction_that_still_runs_is_waited_for() {
    let (_nodes, database) = noted(Engine::Postgres).await;
    let tx = begun(&database, 1).await;
    let id = tx.id().unwrap().clone();

    let short = database.outcome(&id, Duration::from_millis(20)).await;
    assert_eq!(short.unwrap(), Outcome::Running);
    let (long, _) = tokio::join!(database.outcome(&id, LIMIT), async {
        tx.commit().await.unwrap()
    });
    assert_eq!(long.unwrap(), Outcome::Committed);
}

/// The number may be another one's by then.
#[tokio::test]
async fn commit_before_a_crash_is_not_vouched_for() {
    let server = PostgresServer::start().await;
    let url = server.database().await.url();
    let database = Database::open("crashing", &url, &options()).unwrap();
    let mut id = None;
    for open in [false, true] {
        let mut tx = database.begin_with(&WITH_ID).await.unwrap();
        let table = "CREATE TABLE IF NOT EXISTS note (n bigint, part bigint)";
        tx.execute(maxscale_shard::sql(table)).await.unwrap();
        if open {
            let running = tx.id().unwrap().clone();
            server.kill().await;
            let lost = unknown(tx.commit().await);
            assert_eq!(lost, running);
            server.restart().await;
            eventually(LIMIT, async || database.reach().await).await;
            let undone = database.outcome(&running, LIMIT).await.unwrap();
            assert_eq!(undone, Outcome::RolledBack);
        } else {
            id = tx.id().cloned();
            tx.commit().await.unwrap();
            let done = database.outcome(id.as_ref().unwrap(), LIMIT).await;
            assert_eq!(done.unwrap(), Outcome::Committed);
        }
    }
    let done = database.outcome(&id.unwrap(), LIMIT).await.unwrap();
    assert_eq!(done, Outcome::Unknown);
}
