use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use maxscale_core::fact::{TraceContext, VirtualShard};
use maxscale_queue::{EnqueueOptions, Job, JobRequest, JobState, Outcome, Queue, QueueError};
use maxscale_tests::{PostgresServer, eventually};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::stage::{LIMIT, Note, SHARD, Stage, effect, note, on_both, open};

#[derive(Serialize, Deserialize)]
struct Newer {}

impl Job for Newer {
    const KIND: &'static str = "test.note";
    const VERSION: u32 = 2;
}

#[derive(Serialize, Deserialize)]
struct Stranger {}

impl Job for Stranger {
    const KIND: &'static str = "test.stranger";
}

#[derive(Serialize, Deserialize)]
struct Tireless {}

impl Job for Tireless {
    const KIND: &'static str = "test.tireless";
    const MAX_ATTEMPTS: u32 = u32::MAX;
}

on_both! {
    async fn job_may_ask_for_every_attempt_there_is(stage: &Stage) {
        let mut tx = stage.begin(SHARD).await;
        let options = EnqueueOptions::default();
        let id = stage.queue.enqueue_in(&mut tx, &Tireless {}, options).await.unwrap().id();
        tx.commit().await.unwrap();
        assert_eq!(stage.status(id).await.state, JobState::Ready);
    }

    async fn job_of_a_transaction_that_rolled_back_never_exists(stage: &Stage) {
        let mut tx = stage.begin(SHARD).await;
        let options = EnqueueOptions::default();
        let id = stage.queue.enqueue_in(&mut tx, &note("x"), options).await.unwrap().id();
        tx.rollback().await.unwrap();
        assert!(stage.queue.status(id).await.unwrap().is_none());
    }

    async fn job_lives_on_the_virtual_shard_of_its_transaction(stage: &Stage) {
        let shard = VirtualShard::new(1000);
        let id = stage.enqueue_on(shard, &note("x"), EnqueueOptions::default()).await;
        assert_eq!(id.shard(), shard);
        assert_eq!(stage.status(id).await.state, JobState::Ready);
    }

    async fn transaction_without_a_shard_is_refused(stage: &Stage) {
        let mut tx = stage.fleet.catalog().begin().await.unwrap();
        let options = EnqueueOptions::default();
        let refused = stage.queue.enqueue_in(&mut tx, &note("x"), options).await;
        assert!(matches!(refused, Err(QueueError::NoShard)));
    }

    async fn oversized_arguments_are_refused(stage: &Stage) {
        let mut tx = stage.begin(SHARD).await;
        let large = note(&"x".repeat(Queue::MAX_ARGS));
        let refused = stage.queue.enqueue_in(&mut tx, &large, EnqueueOptions::default()).await;
        assert!(matches!(refused, Err(QueueError::TooLarge { .. })));
    }

    async fn two_workers_run_each_job_once(stage: &Stage) {
        const JOBS: u32 = 500;
        let mut tx = stage.begin(SHARD).await;
        for _ in 0..JOBS / 2 {
            let options = EnqueueOptions::default();
            stage.queue.enqueue_in(&mut tx, &note("x"), options).await.unwrap();
        }
        tx.commit().await.unwrap();
        let mut tx = stage.begin(VirtualShard::new(1000)).await;
        for _ in 0..JOBS / 2 {
            let options = EnqueueOptions::default();
            stage.queue.enqueue_in(&mut tx, &note("x"), options).await.unwrap();
        }
        tx.commit().await.unwrap();

        let runs = Arc::new(AtomicUsize::new(0));
        let worker = || {
            let (runs, router) = (runs.clone(), stage.fleet.router().clone());
            let run = move |request: JobRequest<Note>| {
                let (runs, router) = (runs.clone(), router.clone());
                async move {
                    runs.fetch_add(1, Ordering::SeqCst);
                    match effect(&router, &request).await {
                        Ok(()) => Outcome::Done,
                        Err(error) => Outcome::Retry(error.into()),
                    }
                }
            };
            stage.worker().register(run).start().unwrap()
        };
        let workers = [worker(), worker()];
        eventually(Duration::from_secs(60), async || {
            let effects = stage.effects().await;
            if effects >= JOBS as usize { Ok(()) } else { Err(effects) }
        })
        .await;
        for worker in workers {
            worker.shutdown(LIMIT).await;
        }
        let runs = runs.load(Ordering::SeqCst);
        assert_eq!((stage.effects().await, runs), (JOBS as usize, JOBS as usize));
    }

    async fn commit_wakes_a_worker_that_does_not_poll(stage: &Stage) {
        let never = Duration::from_secs(3600);
        let worker = stage.worker().poll(never, never);
        let _worker = worker.register(async |_: JobRequest<Note>| Outcome::Done).start().unwrap();
        // Once it is done the worker has looked, and sleeps.
        let first = stage.enqueue(&note("x")).await;
        stage.reaches(first, JobState::Done).await;
        for _ in 0..3 {
            let next = stage.enqueue(&note("y")).await;
            stage.reaches(next, JobState::Done).await;
        }
    }

    async fn job_that_waits_longest_is_told(stage: &Stage) {
        let waited = async || stage.queue.waited("default").await.unwrap();
        assert_eq!(waited().await, None);
        let later = EnqueueOptions::default().delay(Duration::from_secs(3_600));
        stage.enqueue_on(SHARD, &note("later"), later).await;
        assert_eq!(waited().await, None, "it is not due");
        stage.enqueue(&note("x")).await;
        let began = Instant::now();
        eventually(LIMIT, async || waited().await > Some(Duration::from_millis(30))).await;
        stage.enqueue(&note("y")).await;
        let longest = waited().await.unwrap();
        assert!(longest > Duration::from_millis(30) && longest < began.elapsed() + LIMIT);
        assert_eq!(stage.queue.waited("other").await.unwrap(), None);

        let worker = stage.worker().register(async |_: JobRequest<Note>| Outcome::Done);
        let _worker = worker.start().unwrap();
        eventually(LIMIT, async || waited().await.is_none()).await;
    }

    async fn delayed_job_waits_for_its_time(stage: &Stage) {
        let later = EnqueueOptions::default().delay(Duration::from_secs(3600));
        let later = stage.enqueue_on(SHARD, &note("later"), later).await;
        let now = stage.enqueue(&note("now")).await;
        let worker = stage.worker().register(async |_: JobRequest<Note>| Outcome::Done);
        let _worker = worker.start().unwrap();
        stage.reaches(now, JobState::Done).await;
        assert_eq!(stage.status(later).await.state, JobState::Ready);
    }

    async fn unknown_kinds_and_newer_versions_are_left_for_others(stage: &Stage) {
        let stranger = stage.enqueue(&Stranger {}).await;
        let newer = stage.enqueue(&Newer {}).await;
        let known = stage.enqueue(&note("x")).await;
        let worker = stage.worker().register(async |_: JobRequest<Note>| Outcome::Done);
        let _worker = worker.start().unwrap();
        stage.reaches(known, JobState::Done).await;
        assert_eq!(stage.status(stranger).await.state, JobState::Ready);
        assert_eq!(stage.status(newer).await.state, JobState::Ready);
    }

    async fn first_attempt_is_in_the_trace_of_the_enqueue_and_later_ones_are_not(stage: &Stage) {
        let cause = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        let cause = TraceContext::parse(cause).unwrap().state("vendor=1");
        let options = EnqueueOptions::default().trace(cause.clone());
        let id = stage.enqueue_on(SHARD, &note("x"), options).await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let same = seen.clone();
        let run = move |request: JobRequest<Note>| {
            let same = same.clone();
            async move {
                // What the handler causes is told the same.
                assert_eq!(TraceContext::current().as_ref(), request.trace());
                same.lock().unwrap().push(request.trace().unwrap().clone());
                match request.attempt() {
                    1 => Outcome::Retry("once more".into()),
                    _ => Outcome::Done,
                }
            }
        };
        let _worker = stage.worker().register(run).start().unwrap();
        stage.reaches(id, JobState::Done).await;
        let seen = seen.lock().unwrap();
        assert_eq!(seen[0].trace_id(), cause.trace_id());
        assert_eq!(seen[0].tracestate(), Some("vendor=1"));
        assert_ne!(seen[0].span_id(), cause.span_id());
        assert_ne!(seen[1].trace_id(), cause.trace_id());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_comes_late_is_served_and_holds_up_no_other() {
    let server = PostgresServer::start().await;
    let database = server.database().await;
    let folder = tempfile::tempdir().unwrap();
    let file = format!("sqlite:{}", folder.path().join("a.db").display());
    let urls = [file, database.url()];
    // The first start needs every node.
    open(&urls).await.close().await;
    server.stop().await;
    let stage = Stage::open(&urls, folder, vec![database]).await;
    let run = async |_: JobRequest<Note>| Outcome::Done;
    let _worker = stage.worker().register(run).start().unwrap();
    let here = stage.enqueue(&note("x")).await;
    stage.reaches(here, JobState::Done).await;

    server.restart().await;
    let shard = VirtualShard::new(1000);
    eventually(LIMIT, async || {
        stage.fleet.router().virtual_shard(shard).is_ok()
    })
    .await;
    let there = stage
        .enqueue_on(shard, &note("y"), EnqueueOptions::default())
        .await;
    stage.reaches(there, JobState::Done).await;
}

#[tokio::test]
async fn two_handlers_of_one_kind_are_refused() {
    let stage = Stage::sqlite().await;
    let worker = stage
        .worker()
        .register(async |_: JobRequest<Note>| Outcome::Done)
        .register(async |_: JobRequest<Newer>| Outcome::Done);
    let refused = worker.start();
    assert!(matches!(
        refused,
        Err(QueueError::RegisteredTwice { kind: "test.note" })
    ));
}
