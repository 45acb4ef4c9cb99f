//! What a statement read is looked at again once it is locked.

use maxscale_core::fact::VirtualShard;
use maxscale_shard::{Tx, sql};
use maxscale_tests::{PostgresServer, eventually};
use tokio::time::timeout;

use super::super::{cancel_tagged, expire, promote, stop};
use super::{Bench, CHUNK, PATIENCE};

/// Pauses are looked at through a gate, which is closed by who has its lock.
const GATE: [&str; 2] = [
    "ALTER TABLE ms_queue_pause RENAME TO paused",
    "CREATE VIEW ms_queue_pause AS SELECT queue, 0::bigint AS paused_at
     FROM (SELECT pg_advisory_xact_lock_shared(7)::text AS queue) AS gate",
];

async fn begin(bench: &Bench) -> Tx {
    let shard = bench.fleet.router().virtual_shard(VirtualShard::new(0));
    shard.unwrap().begin().await.unwrap()
}

/// As many jobs as there are marks; each has its mark as its tenant.
async fn marked(bench: &Bench, marks: u32) {
    bench.fill(marks, None).await;
    let mark = sql("UPDATE ms_job SET tenant = shard_id::text");
    assert_eq!(bench.node.execute(mark).await.unwrap(), u64::from(marks));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claim_takes_nothing_that_changed_since_it_was_read() {
    let server = PostgresServer::shared().await;
    let bench = Bench::start(server).await;
    marked(&bench, 4).await;
    for text in GATE {
        bench.node.execute(sql(text)).await.unwrap();
    }
    let mut gate = begin(&bench).await;
    let close = sql("SELECT 1 AS one FROM pg_advisory_xact_lock(7)");
    gate.fetch_one(close).await.unwrap();
    let meanwhile = async {
        let waits = sql(
            "SELECT 1 AS one FROM pg_stat_activity WHERE wait_event = 'advisory'
            AND datname = current_database()",
        );
        eventually(PATIENCE, async || {
            bench
                .node
                .fetch_optional(waits.clone())
                .await
                .unwrap()
                .is_some()
        })
        .await;
        for text in [
            "UPDATE ms_job SET state = 'dead' WHERE tenant = '0'",
            // Claimed and put off, and so free again.
            "UPDATE ms_job SET lease_token = lease_token + 1, rank = NULL,
                run_at = run_at + 3600000000 WHERE tenant = '1'",
            "UPDATE ms_job SET state = 'running' WHERE tenant = '2'",
        ] {
            assert_eq!(bench.node.execute(sql(text)).await.unwrap(), 1);
        }
        gate.rollback().await.unwrap();
    };
    let ((claimed, _), ()) = tokio::join!(bench.claim(), meanwhile);
    let shards = claimed.iter().map(|job| job.facts.lease.shard.get());
    assert_eq!(shards.collect::<Vec<_>>(), [3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sweeps_leave_what_another_transaction_holds() {
    let server = PostgresServer::shared().await;
    let bench = Bench::start(server).await;
    bench.fill(4, None).await;
    let all = sql("UPDATE ms_job SET rank = NULL, expires_at = 1, cancel_at = 1, tags = '[\"t\"]'");
    assert_eq!(bench.node.execute(all).await.unwrap(), 4);
    let mut other = begin(&bench).await;
    let claim = sql("UPDATE ms_job SET state = 'running'");
    assert_eq!(other.execute(claim).await.unwrap(), 4);
    let node = &bench.node;
    let sweeps = async || {
        [
            expire(node, CHUNK).await.unwrap(),
            stop(node, CHUNK).await.unwrap(),
            cancel_tagged(node, "t", CHUNK).await.unwrap(),
            promote(node, CHUNK).await.unwrap(),
        ]
    };
    // Who waited for the transaction would wait for ever.
    assert_eq!(timeout(PATIENCE, sweeps()).await.unwrap(), [0; 4]);
    other.commit().await.unwrap();
    assert_eq!(sweeps().await, [0; 4]);
    let left = sql("SELECT 1 AS one FROM ms_job WHERE state = 'running' AND rank IS NULL");
    assert_eq!(node.fetch_all(left).await.unwrap().len(), 4);
}
