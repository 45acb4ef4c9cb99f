//! A claim gives all that is wanted, although it reads little ahead.

use std::collections::HashSet;

use maxscale_core::fact::VirtualShard;
use maxscale_shard::sql;
use maxscale_tests::PostgresServer;

use super::{BATCH, Bench};
use crate::slot::SLOTS;

/// Two batches are held, in the order of claims, by a transaction that does not end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claim_is_full_while_another_holds_the_front_of_each_slot() {
    let server = PostgresServer::shared().await;
    let bench = Bench::start(server).await;
    bench.fill(5 * u32::try_from(BATCH).unwrap(), None).await;
    let shard = bench.fleet.router().virtual_shard(VirtualShard::new(0));
    let mut other = shard.unwrap().begin().await.unwrap();
    let hold = sql(
        "UPDATE ms_job SET attempt = attempt WHERE (shard_id, job_id) IN (
        SELECT shard_id, job_id FROM (SELECT shard_id, job_id,
            row_number() OVER (PARTITION BY slot ORDER BY rank) AS nth FROM ms_job) AS front
        WHERE nth <= 7)",
    );
    let held = other.execute(hold).await.unwrap();
    assert!(held > 2 * BATCH as u64, "{held}");
    let (claimed, _) = bench.claim().await;
    assert_eq!(claimed.len(), BATCH);
    other.rollback().await.unwrap();
    // What was held is there, and nothing is given twice.
    let mut jobs: HashSet<_> = claimed.iter().map(|job| job.facts.lease.job).collect();
    for _ in 1..5 {
        let (claimed, _) = bench.claim().await;
        assert_eq!(claimed.len(), BATCH);
        jobs.extend(claimed.iter().map(|job| job.facts.lease.job));
    }
    assert_eq!(jobs.len(), 5 * BATCH);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claim_is_full_when_one_slot_has_nearly_all() {
    let server = PostgresServer::shared().await;
    let bench = Bench::start(server).await;
    let much = 2 * u32::try_from(BATCH).unwrap();
    bench
        .put((0..much).map(|nth| nth * SLOTS % 1_024), None)
        .await;
    bench.put(1..SLOTS, None).await;
    let (claimed, _) = bench.claim().await;
    assert_eq!(claimed.len(), BATCH);
    // And nobody had to wait for the one.
    let slots: HashSet<u32> = claimed.iter().map(|job| job.slot).collect();
    assert_eq!(slots.len(), SLOTS as usize);
}
