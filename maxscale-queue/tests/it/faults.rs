//! Workers and servers that stop, die and lose what they say to each other. On
//! PostgreSQL, which can be taken away.

use std::sync::Arc;
use std::time::Duration;

use maxscale_core::clock::{Clock, Timestamp};
use maxscale_core::id::IdGenerator;
use maxscale_queue::{EnqueueOptions, JobId, JobRequest, JobState, Outcome, Queue, Worker};
use maxscale_shard::sql;
use maxscale_tests::{Cut, PostgresServer, Proxy, eventually};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::program;
use crate::stage::{LIMIT, Note, SHARD, Stage, effect, ends, insert_effect, note};

/// Long enough to be kept where a machine stands still for a moment.
const LEASE: Duration = Duration::from_secs(4);

/// A queue on one database behind a proxy.
async fn behind_a_proxy() -> (Stage, Proxy) {
    let database = PostgresServer::shared().await.database().await;
    let proxy = Proxy::start(database.url()).await;
    let stage = Stage::open(&[proxy.url()], tempfile::tempdir().unwrap(), vec![database]).await;
    (stage, proxy)
}

/// A worker that makes the effect of each job together with its end.
fn diligent(stage: &Stage) -> Worker {
    let router = stage.fleet.router().clone();
    let run = move |request: JobRequest<Note>| {
        let router = router.clone();
        async move {
            match effect(&router, &request).await {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::Retry(error.into()),
            }
        }
    };
    stage.worker().lease(LEASE).register(run).start().unwrap()
}

/// A job is done by whoever works now.
async fn works_again(stage: &Stage) {
    let (job, options) = (note("after"), EnqueueOptions::default());
    let id = eventually(LIMIT, async || {
        let enqueued = stage.queue.enqueue_anywhere(&job, options.clone()).await;
        enqueued.ok().map(|enqueued| enqueued.id())
    });
    is_done(stage, id.await).await;
}

/// Waits for it, whether or not its node can be asked just now.
async fn is_done(stage: &Stage, id: JobId) {
    eventually(LIMIT, async || {
        let status = stage.queue.status(id).await;
        status.is_ok_and(|status| status.is_some_and(|status| status.state == JobState::Done))
    })
    .await;
}

/// Stopped for longer than its lease, it finds its job with another worker.
#[tokio::test(flavor = "multi_thread")]
async fn worker_that_slept_past_its_lease_makes_no_effect() {
    ends(Box::pin(async {
        let stage = Stage::postgres().await;
        let held = stage.enqueue(&note("hold")).await;
        let sleeper = program::start(&stage, LEASE);
        sleeper
            .wait_for_line(&format!("started {held}"), LIMIT)
            .await;
        sleeper.pause();
        let _worker = diligent(&stage);
        let status = stage.reaches(held, JobState::Done).await;
        assert_eq!((status.crashes, status.attempt), (1, 1));
        sleeper.resume();
        sleeper
            .wait_for_line(&format!("dropped {held}"), LIMIT)
            .await;
        let late = sleeper.wait_for_line("late", LIMIT).await;
        assert!(late.contains("StaleLease"), "{late}");
        assert_eq!(stage.effects().await, 1);
        // It works again, under another name.
        works_again(&stage).await;
        assert_eq!(stage.effects().await, 2);
    }))
    .await;
}

/// Whoever runs beside it may be hit once, and is done all the same.
#[tokio::test(flavor = "multi_thread")]
async fn job_that_kills_its_process_is_dead_and_spares_its_mates() {
    ends(Box::pin(async {
        let stage = Stage::postgres().await;
        let mut mates = Vec::new();
        for _ in 0..10 {
            mates.push(stage.enqueue(&note("mate")).await);
        }
        let killer = stage.enqueue(&note("abort")).await;
        for _ in 0..10 {
            mates.push(stage.enqueue(&note("mate")).await);
        }
        let mut process = program::start(&stage, LEASE);
        eventually(3 * LIMIT, async || {
            if !process.is_running() {
                process = program::start(&stage, LEASE);
            }
            stage.status(killer).await.state == JobState::Dead
        })
        .await;
        let status = stage.status(killer).await;
        assert_eq!((status.crashes, status.attempt), (3, 1));
        for mate in &mates {
            stage.reaches(*mate, JobState::Done).await;
        }
        assert_eq!(stage.effects().await, mates.len());
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_restarts_and_backends_that_die_cost_no_job() {
    ends(Box::pin(async {
        let server = PostgresServer::start().await;
        let database = server.database().await;
        let url = database.url();
        let stage = Stage::open(&[url], tempfile::tempdir().unwrap(), vec![database]).await;
        let _worker = diligent(&stage);
        let mut jobs = Vec::new();
        for _ in 0..50 {
            jobs.push(stage.enqueue(&note("x")).await);
        }
        let kill = sql(
            "SELECT pg_terminate_backend(pid) AS killed FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
        stage.rows(kill).await;
        works_again(&stage).await;
        for _ in 0..50 {
            jobs.push(stage.enqueue(&note("x")).await);
        }
        server.restart().await;
        works_again(&stage).await;
        for job in &jobs {
            is_done(&stage, *job).await;
        }
        // Those that showed that it works, too.
        assert_eq!(stage.effects().await, jobs.len() + 2);
    }))
    .await;
}

/// Requests took every connection that there is, for longer than a lease.
#[tokio::test(flavor = "multi_thread")]
async fn worker_keeps_its_lease_while_all_connections_are_taken() {
    ends(Box::pin(async {
        let stage = Stage::postgres().await;
        let id = stage.enqueue(&note("x")).await;
        let (started, mut starts) = mpsc::unbounded_channel();
        let run = move |request: JobRequest<Note>| {
            started.send(request).unwrap();
            std::future::pending()
        };
        let _worker = stage.worker().lease(LEASE).register(run).start().unwrap();
        let request = starts.recv().await.unwrap();
        let node = stage
            .fleet
            .router()
            .virtual_shard(SHARD)
            .unwrap()
            .node()
            .clone();
        let mut taken = Vec::new();
        while taken.len() < 4 {
            // The worker gives each back in time.
            taken.extend(node.background().writer().await);
        }
        let old = Instant::now() + 2 * LEASE;
        eventually(LIMIT, async || Instant::now() > old).await;
        assert!(!request.cancellation().is_cancelled());
        drop(taken);
        let status = stage.status(id).await;
        assert_eq!((status.state, status.crashes), (JobState::Running, 0));
        stage.effect(&request).await.unwrap();
    }))
    .await;
}

/// It cannot know whether others run its jobs, so it stops them; once it is back,
/// everything goes on.
#[tokio::test(flavor = "multi_thread")]
async fn worker_that_is_cut_off_stops_its_handlers_and_comes_back() {
    ends(Box::pin(async {
        let (stage, proxy) = behind_a_proxy().await;
        let id = stage.enqueue(&note("x")).await;
        let (started, mut starts) = mpsc::unbounded_channel();
        let router = stage.fleet.router().clone();
        let run = move |request: JobRequest<Note>| {
            let (started, router) = (started.clone(), router.clone());
            async move {
                let first = request.token() == 1;
                if first {
                    started.send(request.cancellation().clone()).unwrap();
                    return std::future::pending().await;
                }
                match effect(&router, &request).await {
                    Ok(()) => Outcome::Done,
                    Err(error) => Outcome::Retry(error.into()),
                }
            }
        };
        let _worker = stage.worker().lease(LEASE).register(run).start().unwrap();
        let cancellation = starts.recv().await.unwrap();
        proxy.refuse().await;
        proxy.cut(Cut::Reset).await;
        cancellation.cancelled().await;
        proxy.heal().await;
        is_done(&stage, id).await;
        assert_eq!(stage.effects().await, 1);
    }))
    .await;
}

/// The handler does not learn that its commit was one, and asks for another attempt.
#[tokio::test(flavor = "multi_thread")]
async fn reply_that_is_lost_after_the_commit_doubles_nothing() {
    ends(Box::pin(async {
        let (stage, proxy) = behind_a_proxy().await;
        let proxy = Arc::new(proxy);
        let id = stage.enqueue(&note("x")).await;
        let (router, lossy) = (stage.fleet.router().clone(), proxy.clone());
        let (told, mut tells) = mpsc::unbounded_channel();
        let run = move |request: JobRequest<Note>| {
            let (router, proxy, told) = (router.clone(), lossy.clone(), told.clone());
            async move {
                let mut tx = router
                    .virtual_shard(request.shard())
                    .unwrap()
                    .begin()
                    .await
                    .unwrap();
                insert_effect(&mut tx, &request).await.unwrap();
                request.complete_in(&mut tx).await.unwrap();
                proxy.drop_reply();
                let answer = tx.commit().await;
                told.send(answer.is_err()).unwrap();
                match answer {
                    Ok(_) => Outcome::Done,
                    Err(error) => Outcome::Retry(error.into()),
                }
            }
        };
        let _worker = stage.worker().register(run).start().unwrap();
        // Another statement's reply may be the one that is lost.
        tells.recv().await.unwrap();
        is_done(&stage, id).await;
        assert_eq!(stage.effects().await, 1);
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_of_the_worker_does_not_matter() {
    ends(Box::pin(async {
        let stage = Stage::postgres().await;
        let _worker = diligent(&stage);
        let now = Clock::system().now().as_micros();
        let hour = 3_600_000_000;
        for at in [now - hour, now + hour] {
            let (clock, _) = Clock::manual(Timestamp::from_micros(at));
            let router = stage.fleet.router().clone();
            let ids = Arc::new(IdGenerator::new(clock, router.keyspace()));
            let queue = Queue::new(router, ids);
            let options = EnqueueOptions::default();
            let id = queue
                .enqueue_anywhere(&note("x"), options)
                .await
                .unwrap()
                .id();
            let status = stage.reaches(id, JobState::Done).await;
            let off = status.created_at.as_micros() - now;
            assert!(off.abs() < hour / 2, "{off}");
        }
        assert_eq!(stage.effects().await, 2);
    }))
    .await;
}
