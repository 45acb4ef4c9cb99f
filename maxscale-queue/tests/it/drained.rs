//! Jobs run when a test says so, and time goes by when it says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use maxscale_queue::{
    DeadFilter, DeadReason, EnqueueOptions, Enqueued, Failure, Job, JobId, JobRequest, JobState,
    Outcome, Unique, Worker, WorkerBuilder, testkit,
};
use serde::{Deserialize, Serialize};

use crate::stage::{Note, Stage, note, on_both};
use crate::unique::put;

/// Passed from shard to shard.
#[derive(Serialize, Deserialize)]
struct Chain {
    left: u32,
}

impl Job for Chain {
    const KIND: &'static str = "test.chain";
    const QUEUE: &'static str = "test.chain";
}

const HOUR: Duration = Duration::from_hours(1);

/// A worker that counts what it runs, and ends it like that.
fn counting(stage: &Stage, end: fn() -> Outcome) -> (WorkerBuilder, Arc<AtomicU32>) {
    let ran = Arc::new(AtomicU32::new(0));
    let run = {
        let ran = ran.clone();
        move |_: JobRequest<Note>| {
            ran.fetch_add(1, Relaxed);
            async move { end() }
        }
    };
    (Worker::builder(stage.queue.clone()).register(run), ran)
}

async fn drain(stage: &Stage) -> u32 {
    let (worker, ran) = counting(stage, || Outcome::Done);
    worker.drain().await.unwrap();
    ran.load(Relaxed)
}

async fn enqueue(stage: &Stage, options: EnqueueOptions) -> Enqueued {
    put(stage, "x", options).await
}

async fn state(stage: &Stage, id: JobId) -> JobState {
    stage.status(id).await.state
}

on_both! {
    async fn what_is_due_has_run_and_what_it_enqueued_too(stage: &Stage) {
        stage.enqueue(&Chain { left: 40 }).await;
        let queue = stage.queue.clone();
        let ran = Arc::new(AtomicU32::new(0));
        let run = {
            let ran = ran.clone();
            move |request: JobRequest<Chain>| {
                let (queue, ran) = (queue.clone(), ran.clone());
                async move {
                    ran.fetch_add(1, Relaxed);
                    let Some(left) = request.job().left.checked_sub(1) else {
                        return Outcome::Done;
                    };
                    // By turns on different nodes, or on the same.
                    let next = Chain { left };
                    let enqueued = queue.enqueue_anywhere(&next, EnqueueOptions::default());
                    enqueued.await.map_or_else(|error| Outcome::Retry(error.into()), |_| Outcome::Done)
                }
            }
        };
        Worker::builder(stage.queue.clone()).register(run).drain().await.unwrap();
        assert_eq!(ran.load(Relaxed), 41);
    }

    async fn what_nobody_here_may_run_is_left(stage: &Stage) {
        let others = stage.enqueue(&Chain { left: 0 }).await;
        let paused = stage.enqueue(&note("x")).await;
        stage.queue.pause(Note::QUEUE).await.unwrap();
        assert_eq!(drain(stage).await, 0);
        assert_eq!(state(stage, paused).await, JobState::Ready);
        stage.queue.resume(Note::QUEUE).await.unwrap();
        assert_eq!(drain(stage).await, 1);
        assert_eq!(state(stage, others).await, JobState::Ready);
    }

    async fn scheduled_job_runs_when_its_time_has_passed(stage: &Stage) {
        let later = enqueue(stage, EnqueueOptions::default().delay(HOUR)).await.id();
        let soon = enqueue(stage, EnqueueOptions::default()).await.id();
        assert_eq!(drain(stage).await, 1);
        assert_eq!(state(stage, soon).await, JobState::Done);
        testkit::pass(&stage.queue, HOUR / 2).await.unwrap();
        assert_eq!(drain(stage).await, 0);
        testkit::pass(&stage.queue, HOUR / 2).await.unwrap();
        assert_eq!(drain(stage).await, 1);
        assert_eq!(state(stage, later).await, JobState::Done);
    }

    async fn failing_job_is_tried_after_its_waits_and_dead_after_the_last(stage: &Stage) {
        let id = enqueue(stage, EnqueueOptions::default()).await.id();
        for tries in 1..=Note::MAX_ATTEMPTS {
            let fails = || Outcome::Retry(Failure::from("it fails").after(HOUR));
            for runs in [1, 0] {
                let (worker, ran) = counting(stage, fails);
                worker.drain().await.unwrap();
                assert_eq!(ran.load(Relaxed), runs);
            }
            assert_eq!(stage.status(id).await.attempt, tries);
            testkit::pass(&stage.queue, HOUR).await.unwrap();
        }
        let failed = DeadFilter::default().reason(DeadReason::Failed);
        let dead = stage.queue.dead().list(&failed, None, 10).await.unwrap();
        assert_eq!(dead.len(), 1);
        assert_eq!(dead[0].id, id);
    }

    async fn what_expires_and_what_is_unique_for_a_time_goes_by_that_time(stage: &Stage) {
        let options = || EnqueueOptions::default().unique(Unique::args().within(HOUR));
        let first = enqueue(stage, options().delay(HOUR / 4).expires(HOUR / 4)).await;
        testkit::pass(&stage.queue, HOUR - Duration::from_secs(60)).await.unwrap();
        assert_eq!(drain(stage).await, 0);
        let expired = DeadFilter::default().reason(DeadReason::Expired);
        let dead = stage.queue.dead().list(&expired, None, 10).await.unwrap();
        assert_eq!(dead.len(), 1);
        assert_eq!(enqueue(stage, options()).await, Enqueued::Duplicate(first.id()));
        testkit::pass(&stage.queue, Duration::from_secs(60)).await.unwrap();
        assert!(matches!(enqueue(stage, options()).await, Enqueued::Inserted(_)));
        assert_eq!(drain(stage).await, 1);
    }

    async fn dead_job_is_a_letter_at_once_and_gone_in_its_time(stage: &Stage) {
        enqueue(stage, EnqueueOptions::default()).await;
        let (worker, _) = counting(stage, || Outcome::Dead("it is hopeless".to_owned()));
        worker.drain().await.unwrap();
        let dead = stage.queue.dead();
        let all = DeadFilter::default();
        assert_eq!(dead.list(&all, None, 10).await.unwrap().len(), 1);
        testkit::pass(&stage.queue, Note::RETAIN_DEAD).await.unwrap();
        assert_eq!(drain(stage).await, 0);
        assert_eq!(dead.list(&all, None, 10).await.unwrap().len(), 0);
    }
}
