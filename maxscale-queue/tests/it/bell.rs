//! Workers of other processes hear of what is enqueued, and go on without.

use std::time::Duration;

use maxscale_core::fact::VirtualShard;
use maxscale_queue::{EnqueueOptions, JobRequest, JobState, Outcome, Queue, Worker};
use maxscale_shard::sql;

use crate::stage::{LIMIT, Note, SHARD, Stage, note};

/// Has no bell in common with the stage's queue, as another process has not.
fn other_process(stage: &Stage) -> Queue {
    Queue::new(stage.fleet.router().clone(), stage.ids.clone())
}

/// It never polls.
fn deaf(queue: Queue) -> Worker {
    let never = Duration::from_secs(3_600);
    let run = async |_: JobRequest<Note>| Outcome::Done;
    let worker = Worker::builder(queue).poll(never, never).register(run);
    worker.start().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_of_another_process_hears_what_is_enqueued() {
    let stage = Stage::postgres().await;
    let _worker = deaf(other_process(&stage));
    for shard in [SHARD, VirtualShard::new(1_000)] {
        for _ in 0..3 {
            let options = EnqueueOptions::default();
            let id = stage.enqueue_on(shard, &note("x"), options).await;
            stage.reaches(id, JobState::Done).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_hears_again_after_its_connection_was_cut() {
    let stage = Stage::postgres().await;
    let _worker = deaf(other_process(&stage));
    let before = stage.enqueue(&note("x")).await;
    stage.reaches(before, JobState::Done).await;
    let cut = "SELECT pg_terminate_backend(pid) AS cut FROM pg_stat_activity
            WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    let node = stage.fleet.router().nodes()[0].database().clone();
    maxscale_tests::eventually(LIMIT, async || {
        !node.execute_returning(sql(cut)).await.unwrap().is_empty()
    })
    .await;
    let after = stage.enqueue(&note("y")).await;
    stage.reaches(after, JobState::Done).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_are_announced_by_few_announcements() {
    let stage = Stage::postgres().await;
    let node = stage.fleet.router().nodes()[0].clone();
    let heard = node.primary().announcements("ms_job").await.unwrap();
    let mut heard = heard.expect("PostgreSQL announces");
    const JOBS: u32 = 400;
    let begun = tokio::time::Instant::now();
    let shard = stage.fleet.router().virtual_shard(SHARD).unwrap();
    for _ in 0..JOBS {
        let mut tx = shard.begin().await.unwrap();
        let options = EnqueueOptions::default();
        stage
            .queue
            .enqueue_in(&mut tx, &note("x"), options)
            .await
            .unwrap();
        tx.commit().await.unwrap();
    }
    let took = begun.elapsed();
    let (mut announced, mut patience) = (0, LIMIT);
    while let Ok(next) = tokio::time::timeout(patience, heard.next()).await {
        patience = Duration::from_millis(300);
        next.unwrap();
        announced += 1;
    }
    // One in five milliseconds at most, and the last of all is heard.
    let most = took.as_millis() / 5 + 2;
    assert!((1..=most).contains(&announced), "{announced} in {took:?}");
}
