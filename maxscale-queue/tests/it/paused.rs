//! What stands still, and goes on: queues, and virtual shards while they move.

use maxscale_core::fact::VirtualShard;
use maxscale_queue::{EnqueueOptions, Job, JobId, JobRequest, JobState, Outcome, QueueError};
use maxscale_shard::SlotState;
use maxscale_tests::eventually;
use serde::{Deserialize, Serialize};

use crate::stage::{LIMIT, Note, SHARD, Stage, note, on_both};

#[derive(Serialize, Deserialize)]
struct Other {}

impl Job for Other {
    const KIND: &'static str = "test.other";
    const QUEUE: &'static str = "other";
}

const ELSEWHERE: VirtualShard = VirtualShard::new(1_000);

/// Freezes a virtual shard, or serves it again.
async fn set(stage: &Stage, shard: VirtualShard, state: SlotState) {
    let map = stage.fleet.router().topology();
    let place = shard.get();
    let next = map.change().state(place..place + 1, state).build().unwrap();
    stage.fleet.change(next).await.unwrap();
    let reached = async || stage.fleet.router().topology().state(shard) == Some(state);
    eventually(LIMIT, reached).await;
}

async fn all_done(stage: &Stage, jobs: &[JobId]) {
    for job in jobs {
        stage.reaches(*job, JobState::Done).await;
    }
}

on_both! {
    async fn jobs_of_a_paused_queue_wait_and_others_run(stage: &Stage) {
        stage.queue.pause("default").await.unwrap();
        stage.queue.pause("default").await.unwrap();
        assert!(stage.queue.paused().await.unwrap().iter().eq(["default"]));
        let options = EnqueueOptions::default;
        let waiting = [stage.enqueue(&note("x")).await,
            stage.enqueue_on(ELSEWHERE, &note("y"), options()).await];
        let others = [stage.enqueue(&Other {}).await,
            stage.enqueue_on(ELSEWHERE, &Other {}, options()).await];
        // One that ran when its worker died waits as well.
        let crashed = maxscale_shard::sql("UPDATE ms_job SET crashes = 1 WHERE job_id = $1");
        stage.tamper(waiting[0], crashed).await;
        let worker = stage.worker().register(async |_: JobRequest<Note>| Outcome::Done);
        let worker = worker.register(async |_: JobRequest<Other>| Outcome::Done);
        let _worker = worker.start().unwrap();
        all_done(stage, &others).await;
        // All that the worker saw after those it had seen before.
        let later = stage.enqueue(&Other {}).await;
        all_done(stage, &[later]).await;
        for id in waiting {
            assert_eq!(stage.status(id).await.state, JobState::Ready);
        }
        stage.queue.resume("default").await.unwrap();
        all_done(stage, &waiting).await;
        assert!(stage.queue.paused().await.unwrap().is_empty());
    }

    async fn what_is_no_name_is_not_paused(stage: &Stage) {
        let long = "x".repeat(1_000_000);
        let refused = stage.queue.pause(&long).await.unwrap_err();
        assert!(matches!(refused, QueueError::LongName { place: "queue", size: 1_000_000 }), "{refused}");
        let refused = stage.queue.resume("\0").await.unwrap_err();
        assert!(matches!(refused, QueueError::Nul { place: "queue" }), "{refused}");
    }

    async fn jobs_of_a_frozen_shard_wait_and_others_run(stage: &Stage) {
        let waiting = stage.enqueue(&note("x")).await;
        let other = VirtualShard::new(SHARD.get() + 1);
        set(stage, SHARD, SlotState::Frozen).await;
        let worker = stage.worker().register(async |_: JobRequest<Note>| Outcome::Done);
        let _worker = worker.start().unwrap();
        for _ in 0..3 {
            let id = stage.enqueue_on(other, &note("y"), EnqueueOptions::default()).await;
            all_done(stage, &[id]).await;
        }
        let row = maxscale_shard::sql("SELECT job_id FROM ms_job WHERE state = 'ready'");
        assert_eq!(stage.rows(row).await.len(), 1, "it was claimed");
        set(stage, SHARD, SlotState::Serving).await;
        all_done(stage, &[waiting]).await;
    }
}
