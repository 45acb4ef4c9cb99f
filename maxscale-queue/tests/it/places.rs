//! Which job comes next, and to whom.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use maxscale_core::fact::VirtualShard;
use maxscale_queue::{EnqueueOptions, JobId, JobRequest, JobState, Outcome, Worker};
use maxscale_shard::sql;
use maxscale_tests::eventually;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::stage::{LIMIT, Note, SHARD, Stage, note, on_both};

const NEVER: Duration = Duration::from_secs(3_600);

/// A worker that runs one job at a time and notes down their texts.
fn noting(stage: &Stage) -> (Worker, Arc<Mutex<Vec<String>>>) {
    let ran = Arc::new(Mutex::new(Vec::new()));
    let noted = ran.clone();
    let run = move |request: JobRequest<Note>| {
        noted.lock().unwrap().push(request.job().text.clone());
        std::future::ready(Outcome::Done)
    };
    let worker = stage.worker().concurrency(1).register(run).start();
    (worker.unwrap(), ran)
}

async fn all_done(stage: &Stage, jobs: &[JobId]) {
    for job in jobs {
        stage.reaches(*job, JobState::Done).await;
    }
}

on_both! {
    async fn higher_priority_comes_first_until_the_lower_is_old(stage: &Stage) {
        let mut jobs = Vec::new();
        for (text, priority) in [("plain", 0), ("old", -5), ("low", -1), ("high", 7)] {
            let options = EnqueueOptions::default().priority(priority);
            jobs.push(stage.enqueue_on(SHARD, &note(text), options).await);
        }
        // It has waited for an hour.
        let aged = sql("UPDATE ms_job SET run_at = run_at - 3600000000, rank = rank - 3600000000
            WHERE job_id = $1");
        stage.tamper(jobs[1], aged).await;
        let (_worker, ran) = noting(stage);
        all_done(stage, &jobs).await;
        assert_eq!(*ran.lock().unwrap(), ["old", "high", "plain", "low"]);
    }

    /// The one with few jobs enqueues last, and does not come last.
    async fn tenants_take_turns(stage: &Stage) {
        let mut jobs = Vec::new();
        for (tenant, count) in [("many", 40), ("few", 4)] {
            for _ in 0..count {
                let options = EnqueueOptions::default().tenant(tenant);
                jobs.push(stage.enqueue_on(SHARD, &note(tenant), options).await);
            }
        }
        let (_worker, ran) = noting(stage);
        all_done(stage, &jobs).await;
        let ran = ran.lock().unwrap();
        let last = ran.iter().rposition(|tenant| tenant == "few").unwrap();
        assert!(last < 10, "{ran:?}");
    }

    async fn job_that_is_not_due_has_no_place(stage: &Stage) {
        let options = EnqueueOptions::default().delay(NEVER);
        let later = stage.enqueue_on(SHARD, &note("later"), options).await;
        let now = stage.enqueue(&note("now")).await;
        let placed = stage.rows(sql("SELECT job_id FROM ms_job WHERE rank IS NOT NULL")).await;
        assert_eq!(placed.len(), 1);
        let (_worker, ran) = noting(stage);
        all_done(stage, &[now]).await;
        stage.tamper(later, sql("UPDATE ms_job SET run_at = 0 WHERE job_id = $1")).await;
        all_done(stage, &[later]).await;
        assert_eq!(*ran.lock().unwrap(), ["now", "later"]);
    }

    async fn jobs_of_older_programs_run(stage: &Stage) {
        // As they are inserted, and as they are left by a worker that was killed.
        let fresh = stage.enqueue(&note("fresh")).await;
        let bare = sql("UPDATE ms_job SET rank = NULL, slot = NULL WHERE job_id = $1");
        stage.tamper(fresh, bare).await;
        let left = stage.enqueue(&note("left")).await;
        let taken = sql("UPDATE ms_job SET rank = NULL, slot = NULL, state = 'running',
            attempt = 1, lease_token = 1, worker = job_id, lease_until = 1 WHERE job_id = $1");
        stage.tamper(left, taken).await;
        let (_worker, _) = noting(stage);
        all_done(stage, &[fresh, left]).await;
        let status = stage.status(left).await;
        assert_eq!((status.attempt, status.crashes), (1, 1));
    }

    async fn lease_of_an_older_program_is_honoured(stage: &Stage) {
        let theirs = stage.enqueue(&note("theirs")).await;
        let taken = sql("UPDATE ms_job SET state = 'running', attempt = 1, lease_token = 1,
            worker = job_id, lease_until = 9000000000000000 WHERE job_id = $1");
        stage.tamper(theirs, taken).await;
        // Somebody's who is gone; once it is done, a rescue has looked at both.
        let left = stage.enqueue(&note("left")).await;
        let taken = sql("UPDATE ms_job SET state = 'running', attempt = 1, lease_token = 1,
            worker = job_id WHERE job_id = $1");
        stage.tamper(left, taken).await;
        let (_worker, _) = noting(stage);
        all_done(stage, &[left]).await;
        assert_eq!(stage.status(theirs).await.state, JobState::Running);
    }

    async fn suspects_run_one_at_a_time_beside_others(stage: &Stage) {
        let (started, mut starts) = mpsc::unbounded_channel();
        let run = move |request: JobRequest<Note>| {
            started.send(request.crashes() > 0).unwrap();
            std::future::pending()
        };
        for _ in 0..3 {
            let suspect = stage.enqueue(&note("suspect")).await;
            let crashed = sql("UPDATE ms_job SET crashes = 1 WHERE job_id = $1");
            stage.tamper(suspect, crashed).await;
        }
        let worker = stage.worker().concurrency(8).register(run).start().unwrap();
        assert!(starts.recv().await.unwrap());
        for _ in 0..3 {
            stage.enqueue(&note("innocent")).await;
            assert!(!starts.recv().await.unwrap(), "a second suspect was started");
        }
        drop(worker);
    }

    /// A claim whose reply was lost: its worker lives and knows nothing of the job.
    async fn job_that_its_worker_does_not_know_goes_back_at_no_cost(stage: &Stage) {
        let (_worker, _) = noting(stage);
        let known = stage.enqueue(&note("known")).await;
        all_done(stage, &[known]).await;
        let options = EnqueueOptions::default().delay(NEVER);
        let stray = stage.enqueue_on(SHARD, &note("stray"), options).await;
        let shard = stage.fleet.router().virtual_shard(SHARD).unwrap();
        let workers = shard.fetch_all(sql("SELECT incarnation FROM ms_worker")).await.unwrap();
        let worker: uuid::Uuid = workers[0].get("incarnation").unwrap();
        let taken = sql("UPDATE ms_job SET state = 'running', attempt = 1, lease_token = 1,
            run_at = 0, rank = 0, worker = $1 WHERE job_id = $2").bind(worker);
        stage.tamper(stray, taken).await;
        all_done(stage, &[stray]).await;
        let status = stage.status(stray).await;
        assert_eq!((status.attempt, status.crashes), (1, 0));
    }

    async fn worker_without_its_row_begins_another_life(stage: &Stage) {
        let lease = Duration::from_millis(600);
        let run = async |_: JobRequest<Note>| Outcome::Done;
        let _worker = stage.worker().lease(lease).register(run).start().unwrap();
        let first = stage.enqueue(&note("x")).await;
        all_done(stage, &[first]).await;
        for node in stage.fleet.router().nodes().iter() {
            node.database().execute(sql("DELETE FROM ms_worker")).await.unwrap();
        }
        let next = stage.enqueue(&note("y")).await;
        all_done(stage, &[next]).await;
    }

    async fn row_of_a_worker_that_was_shut_down_is_gone(stage: &Stage) {
        let (worker, _) = noting(stage);
        let lives = async || stage.rows(sql("SELECT started_at FROM ms_worker")).await.len();
        eventually(LIMIT, async || lives().await == 2).await;
        worker.shutdown(LIMIT).await;
        assert_eq!(lives().await, 0);
    }

    /// On SQLite its sweeps and claims wait for one connection, which is another's.
    async fn worker_that_ends_while_all_it_does_waits_leaves_no_row(stage: &Stage) {
        let (worker, _) = noting(stage);
        let lives = async || stage.rows(sql("SELECT started_at FROM ms_worker")).await.len();
        eventually(LIMIT, async || lives().await == 2).await;
        let holds = stage.begin(SHARD).await;
        // Longer than it is from one sweep to the next.
        sleep(Duration::from_secs(2)).await;
        let ended = tokio::spawn(worker.shutdown(LIMIT));
        sleep(Duration::from_millis(100)).await;
        holds.rollback().await.unwrap();
        ended.await.unwrap();
        assert_eq!(lives().await, 0);
    }

    async fn shards_of_a_tenant_without_a_name_take_turns(stage: &Stage) {
        let mut jobs = Vec::new();
        for (shard, count) in [(1, 30), (2, 3)] {
            for _ in 0..count {
                let options = EnqueueOptions::default();
                let shard = VirtualShard::new(shard);
                let text = shard.to_string();
                jobs.push(stage.enqueue_on(shard, &note(&text), options).await);
            }
        }
        let (_worker, ran) = noting(stage);
        all_done(stage, &jobs).await;
        let mut seen = HashMap::new();
        for (at, text) in ran.lock().unwrap().iter().enumerate() {
            seen.insert(text.clone(), at);
        }
        assert!(seen["2"] < 8, "{seen:?}");
    }
}
