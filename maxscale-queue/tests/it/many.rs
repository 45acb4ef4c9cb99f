//! Jobs that enter without a transaction of the caller's, and how they leave.

use std::collections::HashSet;
use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::fact::VirtualShard;
use maxscale_core::id::Id;
use maxscale_queue::{
    EnqueueOptions, Enqueued, Job, JobId, JobRequest, JobState, Outcome, QueueError, Unique,
};
use maxscale_shard::sql;
use maxscale_tests::eventually;
use serde::{Deserialize, Serialize};

use crate::stage::{LIMIT, Note, SHARD, Stage, note, on_both};

#[derive(Serialize, Deserialize)]
struct Fleeting {}

impl Job for Fleeting {
    const KIND: &'static str = "test.fleeting";
    const RETAIN: Duration = Duration::ZERO;
}

#[derive(Serialize, Deserialize)]
struct Unstorable {}

impl Job for Unstorable {
    const KIND: &'static str = "test.\0";
}

fn plain() -> EnqueueOptions {
    EnqueueOptions::default()
}

/// Ids of users, whose shards are all over.
fn users(stage: &Stage, count: u32) -> Vec<Id> {
    let drawn = (0..count).map(|at| {
        let shard = VirtualShard::new(at * 7 % stage.fleet.router().shards());
        stage.ids.draw(shard)
    });
    drawn.collect()
}

on_both! {
    async fn job_of_a_key_lives_on_its_shard(stage: &Stage) {
        let user = users(stage, 2)[1];
        let id = stage.queue.enqueue(user, &note("x"), plain()).await.unwrap().id();
        assert_eq!(id.shard(), user.shard());
        let unique = plain().unique(Unique::args());
        let once = stage.queue.enqueue(user, &note("x"), unique.clone()).await.unwrap();
        let twice = stage.queue.enqueue(user, &note("x"), unique).await.unwrap();
        assert_eq!(twice, Enqueued::Duplicate(once.id()));
    }

    async fn job_of_nobody_has_a_shard_of_its_own(stage: &Stage) {
        let mut shards = HashSet::new();
        for _ in 0..20 {
            let id = stage.queue.enqueue_anywhere(&note("x"), plain()).await.unwrap().id();
            assert_eq!(stage.status(id).await.state, JobState::Ready);
            shards.insert(id.shard());
        }
        assert!(shards.len() > 5, "{shards:?}");
    }

    async fn many_are_enqueued_in_their_order_and_each_runs_once(stage: &Stage) {
        const JOBS: usize = 2_500;
        let users = users(stage, 2_500);
        let job = note("x");
        let jobs = users.iter().map(|user| (*user, &job));
        let enqueued = stage.queue.enqueue_many(jobs, plain()).await.unwrap();
        let shards: Vec<_> = enqueued.iter().map(|one| one.id().shard()).collect();
        assert_eq!(shards, users.iter().map(|user| user.shard()).collect::<Vec<_>>());

        let stage_router = stage.fleet.router().clone();
        let run = move |request: JobRequest<Note>| {
            let router = stage_router.clone();
            async move {
                match crate::stage::effect(&router, &request).await {
                    Ok(()) => Outcome::Done,
                    Err(error) => Outcome::Retry(error.into()),
                }
            }
        };
        let _worker = stage.worker().concurrency(32).register(run).start().unwrap();
        eventually(3 * LIMIT, async || {
            let effects = stage.effects().await;
            if effects >= JOBS { Ok(()) } else { Err(effects) }
        })
        .await;
        assert_eq!(stage.effects().await, JOBS);
    }

    async fn uniqueness_holds_among_many(stage: &Stage) {
        let user = users(stage, 1)[0];
        let (x, y) = (note("x"), note("y"));
        let jobs = [(user, &x), (user, &y), (user, &x)];
        let enqueued = stage.queue.enqueue_many(jobs, plain().unique(Unique::args())).await;
        let enqueued = enqueued.unwrap();
        assert_eq!(enqueued[0].id(), enqueued[2].id());
        assert_ne!(enqueued[0].id(), enqueued[1].id());
        assert_eq!(stage.rows(sql("SELECT job_id FROM ms_job")).await.len(), 2);
    }

    async fn job_waits_for_a_moment(stage: &Stage) {
        let past = plain().run_at(Timestamp::from_micros(1));
        let past = stage.enqueue_on(SHARD, &note("x"), past).await;
        let far = Timestamp::from_micros(9_000_000_000_000_000);
        let later = stage.enqueue_on(SHARD, &note("x"), plain().run_at(far)).await;
        let _worker = willing(stage);
        stage.reaches(past, JobState::Done).await;
        assert_eq!(stage.status(later).await.state, JobState::Ready);
    }

    async fn job_that_waited_for_too_long_is_dead(stage: &Stage) {
        let hour = Duration::from_secs(3_600);
        let ids = [stage.enqueue_on(SHARD, &note("late"), plain().expires(hour)).await,
            stage.enqueue_on(SHARD, &note("early"), plain().expires(hour)).await];
        let over = sql("UPDATE ms_job SET expires_at = 0 WHERE job_id = $1");
        stage.tamper(ids[0], over).await;
        let _worker = willing(stage);
        stage.reaches(ids[1], JobState::Done).await;
        let status = stage.reaches(ids[0], JobState::Dead).await;
        assert_eq!((status.last_error.as_deref(), status.attempt), (Some("expired"), 0));
    }

    async fn cancelled_job_never_runs(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        assert!(stage.queue.cancel(id).await.unwrap());
        assert!(!stage.queue.cancel(id).await.unwrap());
        let next = stage.enqueue(&note("y")).await;
        let _worker = willing(stage);
        stage.reaches(next, JobState::Done).await;
        let status = stage.status(id).await;
        assert_eq!((status.state, status.attempt), (JobState::Dead, 0));
        assert_eq!(status.last_error.as_deref(), Some("cancelled"));
    }

    async fn done_job_goes_when_it_was_kept_for_long_enough(stage: &Stage) {
        let kept = stage.enqueue(&note("x")).await;
        let gone = stage.enqueue(&Fleeting {}).await;
        let run = async |_: JobRequest<Fleeting>| Outcome::Done;
        let note = async |_: JobRequest<Note>| Outcome::Done;
        let _worker = stage.worker().register(note).register(run).start().unwrap();
        stage.reaches(kept, JobState::Done).await;
        let there = async || stage.queue.status(gone).await.unwrap();
        eventually(LIMIT, async || there().await.is_none()).await;
        assert_eq!(stage.status(kept).await.state, JobState::Done);
    }

    async fn key_that_holds_nobody_back_goes(stage: &Stage) {
        let unique = plain().unique(Unique::args());
        let late = unique.clone().delay(Duration::from_secs(3_600));
        let held = stage.enqueue_on(SHARD, &note("x"), late).await;
        let done = stage.enqueue_on(SHARD, &note("y"), unique).await;
        let _worker = willing(stage);
        stage.reaches(done, JobState::Done).await;
        let keys = async || stage.rows(sql("SELECT job_id FROM ms_job_unique")).await;
        eventually(LIMIT, async || keys().await.len() == 1).await;
        assert_eq!(JobId::from(keys().await[0].get::<Id>("job_id").unwrap()), held);
    }

    async fn what_cannot_be_stored_is_refused(stage: &Stage) {
        let far = EnqueueOptions::MAX_DELAY + Duration::from_secs(1);
        let refused = async |options| {
            let mut tx = stage.begin(SHARD).await;
            stage.queue.enqueue_in(&mut tx, &note("x"), options).await.unwrap_err()
        };
        assert!(matches!(refused(plain().delay(far)).await, QueueError::TooFar));
        assert!(matches!(refused(plain().delay(Duration::MAX)).await, QueueError::TooFar));
        assert!(matches!(refused(plain().expires(far)).await, QueueError::TooFar));
        let tenant = "x".repeat(1_000_000);
        let long = refused(plain().tenant(tenant)).await;
        assert!(matches!(long, QueueError::LongTenant { size: 1_000_000 }), "{long}");
        let nul = refused(plain().tenant("\0")).await;
        assert!(matches!(nul, QueueError::Nul { place: "tenant" }), "{nul}");
        let user = users(stage, 1)[0];
        let nul = stage.queue.enqueue(user, &Unstorable {}, plain()).await.unwrap_err();
        assert!(matches!(nul, QueueError::Nul { place: "kind" }), "{nul}");
        let huge = note(&"x".repeat(10_000_000));
        let huge = stage.queue.enqueue_many([(user, &huge)], plain()).await.unwrap_err();
        assert!(matches!(huge, QueueError::TooLarge { size: 10_000_011, .. }), "{huge}");
    }

    async fn whatever_text_is_in_arguments_comes_out_again(stage: &Stage) {
        let text = "\0 \u{d7ff}\u{10ffff} \"\\\n";
        let user = users(stage, 1)[0];
        let job = note(text);
        let ids = [stage.queue.enqueue(user, &job, plain()).await.unwrap().id(),
            stage.queue.enqueue_many([(user, &job)], plain()).await.unwrap()[0].id()];
        let run = async |request: JobRequest<Note>| {
            Outcome::DoneWith((request.job().text == "\0 \u{d7ff}\u{10ffff} \"\\\n").into())
        };
        let _worker = stage.worker().register(run).start().unwrap();
        for id in ids {
            let status = stage.reaches(id, JobState::Done).await;
            assert_eq!(status.result, Some(true.into()));
        }
    }

    async fn what_is_put_off_for_ever_is_put_off_for_years(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let run = async |_: JobRequest<Note>| Outcome::Snooze(Duration::MAX);
        let _worker = stage.worker().register(run).start().unwrap();
        let far = sql("SELECT job_id FROM ms_job WHERE state = 'ready' AND rank IS NULL
            AND run_at BETWEEN 2000000000000000 AND 9000000000000000");
        eventually(LIMIT, async || stage.rows(far.clone()).await.len() == 1).await;
        assert_eq!(stage.status(id).await.attempt, 0);
    }
}

fn willing(stage: &Stage) -> maxscale_queue::Worker {
    let run = async |_: JobRequest<Note>| Outcome::Done;
    stage.worker().register(run).start().unwrap()
}
