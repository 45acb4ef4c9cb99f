//! One job of its kind, whatever happens to who enqueues it.

use std::time::Duration;

use maxscale_core::fact::VirtualShard;
use maxscale_queue::{EnqueueOptions, Enqueued, JobRequest, JobState, Outcome, Unique};
use maxscale_shard::sql;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::stage::{Note, SHARD, Stage, note, on_both};

fn unique(unique: Unique) -> EnqueueOptions {
    EnqueueOptions::default().unique(unique)
}

/// Enqueues in a transaction of its own.
pub(crate) async fn put(stage: &Stage, text: &str, options: EnqueueOptions) -> Enqueued {
    let mut tx = stage.begin(SHARD).await;
    let enqueued = stage
        .queue
        .enqueue_in(&mut tx, &note(text), options)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    enqueued
}

async fn jobs(stage: &Stage) -> usize {
    stage.rows(sql("SELECT job_id FROM ms_job")).await.len()
}

on_both! {
    async fn second_of_a_kind_is_a_duplicate_until_the_first_is_done(stage: &Stage) {
        let first = put(stage, "x", unique(Unique::args())).await;
        assert!(matches!(first, Enqueued::Inserted(_)));
        let second = put(stage, "x", unique(Unique::args())).await;
        assert_eq!(second, Enqueued::Duplicate(first.id()));
        let other = put(stage, "y", unique(Unique::args())).await;
        assert!(matches!(other, Enqueued::Inserted(_)));

        let run = async |_: JobRequest<Note>| Outcome::Done;
        let worker = stage.worker().register(run).start().unwrap();
        stage.reaches(first.id(), JobState::Done).await;
        let third = put(stage, "x", unique(Unique::args())).await;
        assert!(matches!(third, Enqueued::Inserted(id) if id != first.id()));
        stage.reaches(third.id(), JobState::Done).await;
        drop(worker);
    }

    async fn second_waits_for_the_first_and_is_inserted_if_that_rolls_back(stage: &Stage) {
        for commits in [true, false] {
            let text = if commits { "committed" } else { "rolled back" };
            let mut tx = stage.begin(SHARD).await;
            let options = unique(Unique::args());
            let first = stage.queue.enqueue_in(&mut tx, &note(text), options).await.unwrap();
            let second = put(stage, text, unique(Unique::args()));
            let end = async {
                // Gives the second time to come to where it waits; none is needed.
                sleep(Duration::from_millis(100)).await;
                if commits {
                    tx.commit().await.unwrap();
                } else {
                    tx.rollback().await.unwrap();
                }
            };
            let (second, ()) = tokio::join!(second, end);
            assert_eq!(second == Enqueued::Duplicate(first.id()), commits, "{second:?}");
            assert_eq!(matches!(second, Enqueued::Inserted(_)), !commits, "{second:?}");
        }
        assert_eq!(jobs(stage).await, 2);
    }

    async fn of_many_at_once_one_is_inserted(stage: &Stage) {
        let put = || put(stage, "x", unique(Unique::args()));
        let all = tokio::join!(put(), put(), put(), put(), put(), put(), put(), put());
        let all = [all.0, all.1, all.2, all.3, all.4, all.5, all.6, all.7];
        let inserted = all.iter().filter(|one| matches!(one, Enqueued::Inserted(_)));
        assert_eq!((inserted.count(), jobs(stage).await), (1, 1), "{all:?}");
    }

    async fn one_that_waits_takes_what_is_new(stage: &Stage) {
        let by = unique(Unique::by(&[]).replace());
        let late = by.clone().delay(Duration::from_secs(3_600));
        let first = put(stage, "x", late).await;
        let second = put(stage, "x", by.priority(3)).await;
        assert_eq!(second, Enqueued::Replaced(first.id()));
        let run = async |request: JobRequest<Note>| {
            Outcome::DoneWith(json!(request.job().text))
        };
        let _worker = stage.worker().register(run).start().unwrap();
        let status = stage.reaches(first.id(), JobState::Done).await;
        assert_eq!(status.result, Some(json!("x")));
        assert_eq!(jobs(stage).await, 1);
    }

    async fn one_that_runs_is_no_obstacle_until_started(stage: &Stage) {
        let once = || unique(Unique::args().until_started());
        let first = put(stage, "x", once()).await;
        assert_eq!(put(stage, "x", once()).await, Enqueued::Duplicate(first.id()));
        let (started, mut starts) = mpsc::unbounded_channel();
        let run = move |_: JobRequest<Note>| {
            started.send(()).unwrap();
            std::future::pending()
        };
        let _worker = stage.worker().concurrency(1).register(run).start().unwrap();
        starts.recv().await.unwrap();
        let next = put(stage, "x", once()).await;
        assert!(matches!(next, Enqueued::Inserted(_)), "{next:?}");
        assert_eq!(put(stage, "x", once()).await, Enqueued::Duplicate(next.id()));
    }

    async fn period_outlives_the_job(stage: &Stage) {
        let hourly = || unique(Unique::args().within(Duration::from_secs(3_600)));
        let first = put(stage, "x", hourly()).await;
        assert!(stage.queue.cancel(first.id()).await.unwrap());
        assert_eq!(put(stage, "x", hourly()).await, Enqueued::Duplicate(first.id()));
        let over = sql("UPDATE ms_job_unique SET until = 0 WHERE job_id = $1");
        stage.tamper(first.id(), over).await;
        assert!(matches!(put(stage, "x", hourly()).await, Enqueued::Inserted(_)));
    }

    async fn other_shards_have_jobs_of_their_own(stage: &Stage) {
        let first = put(stage, "x", unique(Unique::args())).await;
        let shard = VirtualShard::new(1_000);
        let other = stage.enqueue_on(shard, &note("x"), unique(Unique::args())).await;
        assert_ne!(first.id(), other);
    }
}
