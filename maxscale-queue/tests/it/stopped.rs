//! Runs that are stopped: because they take too long, or are not wanted any more.

use std::sync::Arc;
use std::time::Duration;

use maxscale_queue::{
    Cancellation, DeadReason, EnqueueOptions, Job, JobRequest, JobState, Outcome, QueueError,
    Worker,
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};

use crate::stage::{Note, SHARD, Stage, note, on_both};

const CANCELLED: Option<DeadReason> = Some(DeadReason::Cancelled);
const SHORT: Duration = Duration::from_millis(50);
/// Long enough to be kept where a machine stands still for a moment.
const LEASE: Duration = Duration::from_secs(6);

#[derive(Serialize, Deserialize)]
struct Quick {}

impl Job for Quick {
    const KIND: &'static str = "test.quick";
    const TIMEOUT: Duration = SHORT;
}

#[derive(Serialize, Deserialize)]
struct Timeless {}

impl Job for Timeless {
    const KIND: &'static str = "test.timeless";
    const TIMEOUT: Duration = Duration::ZERO;
}

/// A worker whose handlers wait to be stopped, and tell how.
fn waiting<J: Job>(stage: &Stage) -> (Worker, mpsc::UnboundedReceiver<Cancellation>) {
    let (started, starts) = mpsc::unbounded_channel();
    let run = move |request: JobRequest<J>| {
        started.send(request.cancellation().clone()).unwrap();
        std::future::pending()
    };
    let worker = stage.worker().lease(LEASE).register(run).start().unwrap();
    (worker, starts)
}

on_both! {
    async fn run_that_takes_too_long_is_a_failed_attempt(stage: &Stage) {
        let id = stage.enqueue(&Quick {}).await;
        let (_worker, mut starts) = waiting::<Quick>(stage);
        let first = starts.recv().await.unwrap();
        let _second = starts.recv().await.unwrap();
        first.cancelled().await;
        let status = stage.status(id).await;
        assert!(status.attempt >= 2);
        assert_eq!(status.last_error.as_deref(), Some("timed out after 50ms"));
        let dead = stage.reaches(id, JobState::Dead).await;
        assert_eq!((dead.attempt, dead.dead), (Quick::MAX_ATTEMPTS, Some(DeadReason::Failed)));
    }

    async fn enqueue_says_how_long_its_runs_may_take(stage: &Stage) {
        let options = EnqueueOptions::default().timeout(SHORT);
        let short = stage.enqueue_on(SHARD, &note("short"), options).await;
        let long = stage.enqueue(&note("long")).await;
        let (_worker, _starts) = waiting::<Note>(stage);
        stage.reaches(short, JobState::Dead).await;
        assert_eq!(stage.status(long).await.state, JobState::Running);
    }

    async fn job_without_time_is_refused(stage: &Stage) {
        let mut tx = stage.begin(SHARD).await;
        let none = EnqueueOptions::default().timeout(Duration::ZERO);
        let refused = stage.queue.enqueue_in(&mut tx, &note("x"), none).await.unwrap_err();
        assert!(matches!(refused, QueueError::NoTime), "{refused:?}");
        let plain = EnqueueOptions::default();
        let refused = stage.queue.enqueue_in(&mut tx, &Timeless {}, plain).await.unwrap_err();
        assert!(matches!(refused, QueueError::NoTime), "{refused:?}");
        let run = async |_: JobRequest<Timeless>| Outcome::Done;
        let refused = stage.worker().register(run).start().unwrap_err();
        assert!(matches!(refused, QueueError::NoTime), "{refused:?}");
    }

    async fn job_that_runs_is_stopped_when_it_is_cancelled(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let other = stage.enqueue(&note("y")).await;
        let (_worker, mut starts) = waiting::<Note>(stage);
        let runs = [starts.recv().await.unwrap(), starts.recv().await.unwrap()];
        assert!(stage.queue.cancel(id).await.unwrap());
        let status = stage.reaches(id, JobState::Dead).await;
        assert_eq!((status.attempt, status.dead), (1, CANCELLED));
        assert_eq!(status.last_error.as_deref(), Some("cancelled"));
        let told = runs.iter().filter(|run| run.is_cancelled()).count();
        assert_eq!(told, 1);
        assert_eq!(stage.status(other).await.state, JobState::Running);
        assert!(!stage.queue.cancel(id).await.unwrap());
    }

    /// It fails before its worker knows that it was cancelled.
    async fn cancelled_job_that_fails_is_not_tried_again(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let (started, mut starts) = mpsc::unbounded_channel();
        let go = Arc::new(Notify::new());
        let gone = go.clone();
        let run = move |_: JobRequest<Note>| {
            started.send(()).unwrap();
            let gone = gone.clone();
            async move {
                gone.notified().await;
                Outcome::Retry("too late".into())
            }
        };
        // Long, so that no renewal tells the worker.
        let lease = Duration::from_secs(600);
        let _worker = stage.worker().lease(lease).register(run).start().unwrap();
        starts.recv().await.unwrap();
        assert!(stage.queue.cancel(id).await.unwrap());
        go.notify_one();
        let status = stage.reaches(id, JobState::Dead).await;
        assert_eq!((status.attempt, status.dead), (1, CANCELLED));
        assert!(starts.try_recv().is_err(), "it was tried again");
    }

    async fn what_was_done_before_it_was_stopped_is_done(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let (started, mut starts) = mpsc::unbounded_channel();
        let run = move |request: JobRequest<Note>| {
            let stopped = request.cancellation().clone();
            started.send(()).unwrap();
            async move {
                // Without an await in between, as one that computes.
                while !stopped.is_cancelled() {
                    std::thread::yield_now();
                }
                Outcome::Done
            }
        };
        let _worker = stage.worker().lease(LEASE).register(run).start().unwrap();
        starts.recv().await.unwrap();
        assert!(stage.queue.cancel(id).await.unwrap());
        let status = stage.reaches(id, JobState::Done).await;
        assert_eq!(status.dead, None);
    }

    async fn job_whose_worker_died_is_not_run_again_once_cancelled(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let (worker, mut starts) = waiting::<Note>(stage);
        starts.recv().await.unwrap();
        drop(worker);
        assert!(stage.queue.cancel(id).await.unwrap());
        let (_worker, mut starts) = waiting::<Note>(stage);
        let status = stage.reaches(id, JobState::Dead).await;
        assert_eq!((status.crashes, status.dead), (1, CANCELLED));
        assert!(starts.try_recv().is_err());
    }

    async fn handler_may_give_its_job_up(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let run = async |_: JobRequest<Note>| Outcome::Cancel("the user left".into());
        let _worker = stage.worker().register(run).start().unwrap();
        let status = stage.reaches(id, JobState::Dead).await;
        assert_eq!(status.dead, CANCELLED);
        assert_eq!(status.last_error.as_deref(), Some("the user left"));
    }
}
