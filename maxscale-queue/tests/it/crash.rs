use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use maxscale_queue::{JobRequest, JobState, Outcome, QueueError, Worker};
use maxscale_shard::sql;
use maxscale_tests::eventually;
use tokio::sync::{Notify, mpsc};

use crate::stage::{LIMIT, Note, SHARD, Stage, effect, note, on_both};

/// Long enough to be kept where a machine stands still for a moment.
const SHORT: Duration = Duration::from_secs(3);

/// Ends the lease under which a job runs.
const OVER: &str = "UPDATE ms_worker SET lease_until = 0
    WHERE incarnation = (SELECT worker FROM ms_job WHERE job_id = $1)";
/// Holds on to it.
const TOUCHED: &str = "UPDATE ms_worker SET lease_until = lease_until
    WHERE incarnation = (SELECT worker FROM ms_job WHERE job_id = $1)";

/// A worker whose handlers never end, and which says when one starts.
fn stuck(stage: &Stage, lease: Duration) -> (Worker, mpsc::UnboundedReceiver<JobRequest<Note>>) {
    let (started, starts) = mpsc::unbounded_channel();
    let run = move |request: JobRequest<Note>| {
        started.send(request).unwrap();
        std::future::pending()
    };
    let worker = stage.worker().lease(lease).register(run).start().unwrap();
    (worker, starts)
}

fn willing(stage: &Stage) -> Worker {
    let run = async |request: JobRequest<Note>| Outcome::DoneWith(request.attempt().into());
    stage.worker().register(run).start().unwrap()
}

on_both! {
    async fn end_of_a_lost_lease_is_rejected(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let (go, router) = (Arc::new(Notify::new()), stage.fleet.router().clone());
        let (started, mut first) = mpsc::unbounded_channel();
        let (completed, mut completions) = mpsc::unbounded_channel();
        let wait = go.clone();
        let run = move |request: JobRequest<Note>| {
            started.send(()).unwrap();
            let (wait, router, completed) = (wait.clone(), router.clone(), completed.clone());
            async move {
                wait.notified().await;
                completed.send(effect(&router, &request).await).unwrap();
                Outcome::Dead("from the stale worker".into())
            }
        };
        // Long, so that no renewal undoes what is done to the lease below.
        let lease = Duration::from_secs(600);
        let stale = stage.worker().concurrency(1).lease(lease).register(run).start().unwrap();
        first.recv().await.unwrap();

        stage.tamper(id, sql(OVER)).await;
        let (owner, mut second) = stuck(stage, lease);
        let request = second.recv().await.unwrap();
        go.notify_one();
        let refused = completions.recv().await.unwrap();
        assert!(matches!(refused, Err(QueueError::StaleLease { .. })), "{refused:?}");
        stale.shutdown(LIMIT).await;
        let status = stage.status(id).await;
        assert_eq!((status.state, status.crashes), (JobState::Running, 1));
        assert_eq!(stage.effects().await, 0);

        stage.effect(&request).await.unwrap();
        assert_eq!(stage.status(id).await.state, JobState::Done);
        assert_eq!(stage.effects().await, 1);
        drop(owner);
    }

    async fn drain_hands_back_what_is_not_finished_and_burns_no_attempt(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let (worker, mut starts) = stuck(stage, Duration::from_secs(600));
        starts.recv().await.unwrap();
        assert_eq!(stage.status(id).await.attempt, 1);
        worker.shutdown(Duration::from_millis(50)).await;
        let status = stage.status(id).await;
        assert_eq!((status.state, status.attempt, status.crashes), (JobState::Ready, 0, 0));

        let _worker = willing(stage);
        let status = stage.reaches(id, JobState::Done).await;
        assert_eq!(status.result, Some(1.into()));
    }

    async fn drain_lets_what_runs_come_to_its_end_and_starts_nothing(stage: &Stage) {
        let go = Arc::new(Notify::new());
        let (started, mut starts) = mpsc::unbounded_channel();
        let wait = go.clone();
        let run = move |_: JobRequest<Note>| {
            started.send(()).unwrap();
            let wait = wait.clone();
            async move {
                wait.notified().await;
                Outcome::Done
            }
        };
        let running = stage.enqueue(&note("x")).await;
        let worker = stage.worker().concurrency(1).register(run).start().unwrap();
        starts.recv().await.unwrap();
        let waiting = stage.enqueue(&note("y")).await;
        let mut ended = pin!(worker.shutdown(LIMIT));
        // The drain has begun before the handler may end.
        let begun = tokio::time::timeout(Duration::ZERO, &mut ended).await;
        assert!(begun.is_err());
        go.notify_one();
        ended.await;
        assert_eq!(stage.status(running).await.state, JobState::Done);
        assert_eq!(stage.status(waiting).await.state, JobState::Ready);
        assert!(starts.try_recv().is_err(), "the waiting job was started");
    }

    async fn job_of_a_dead_worker_starts_again_and_repeats_its_attempt(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let (worker, mut starts) = stuck(stage, SHORT);
        starts.recv().await.unwrap();
        drop(worker);
        let _worker = willing(stage);
        let status = stage.reaches(id, JobState::Done).await;
        assert_eq!((status.result, status.crashes), (Some(1.into()), 1));
    }

    async fn job_that_kills_three_workers_is_dead(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        for _ in 0..3 {
            let (worker, mut starts) = stuck(stage, Duration::from_secs(600));
            starts.recv().await.unwrap();
            drop(worker);
            stage.tamper(id, sql(OVER)).await;
        }
        let (_worker, mut starts) = stuck(stage, SHORT);
        let status = stage.reaches(id, JobState::Dead).await;
        assert_eq!((status.crashes, status.attempt), (3, 1));
        assert_eq!(status.last_error.unwrap(), "worker died 3 times");
        assert!(starts.try_recv().is_err());
    }

    async fn long_run_keeps_its_lease(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let (_worker, mut starts) = stuck(stage, SHORT);
        let request = starts.recv().await.unwrap();
        let _other = willing(stage);
        // A lease of this age has run out three times, unless it was renewed.
        let old = tokio::time::Instant::now() + 3 * SHORT;
        eventually(LIMIT, async || tokio::time::Instant::now() > old).await;
        let status = stage.status(id).await;
        assert_eq!((status.state, status.crashes), (JobState::Running, 0));
        stage.effect(&request).await.unwrap();
    }

    async fn run_is_stopped_before_a_lease_that_cannot_be_renewed_runs_out(stage: &Stage) {
        struct Stopped(Arc<AtomicBool>);
        impl Drop for Stopped {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let id = stage.enqueue(&note("x")).await;
        let stopped = Arc::new(AtomicBool::new(false));
        let (started, mut starts) = mpsc::unbounded_channel();
        let flag = stopped.clone();
        let run = move |_: JobRequest<Note>| {
            let guard = Stopped(flag.clone());
            started.send(()).unwrap();
            async move {
                std::future::pending::<()>().await;
                drop(guard);
                Outcome::Done
            }
        };
        let _worker = stage.worker().lease(SHORT).register(run).start().unwrap();
        starts.recv().await.unwrap();
        // Somebody's long transaction: on the row in PostgreSQL, on the file in SQLite.
        let mut tx = stage.begin(SHARD).await;
        tx.execute(sql(TOUCHED).bind(id)).await.unwrap();
        eventually(LIMIT, async || stopped.load(Ordering::SeqCst)).await;
        assert!(starts.try_recv().is_err());
        tx.rollback().await.unwrap();
    }
}
