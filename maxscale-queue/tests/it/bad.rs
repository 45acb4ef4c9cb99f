//! What cannot be, is refused by name, or comes to a documented end.

use std::time::Duration;

use maxscale_core::clock::Timestamp;
use maxscale_core::refusal::{Class, Classify as _};
use maxscale_queue::{
    DeadReason, EnqueueOptions, Job, JobRequest, JobState, Outcome, Queue, QueueError,
};
use maxscale_shard::sql;
use maxscale_tests::PostgresServer;
use serde::{Deserialize, Serialize};

use crate::stage::{Note, SHARD, Stage, note, on_both, open};

#[derive(Serialize, Deserialize)]
struct Nowhere {}

impl Job for Nowhere {
    const KIND: &'static str = "test.nowhere";
    const QUEUE: &'static str = "that nobody serves";
}

/// What no JSON is made of.
#[derive(Deserialize)]
struct Unwritable {}

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("no"))
    }
}

impl Job for Unwritable {
    const KIND: &'static str = "test.unwritable";
}

fn plain() -> EnqueueOptions {
    EnqueueOptions::default()
}

fn at(micros: i64) -> EnqueueOptions {
    plain().run_at(Timestamp::from_micros(micros))
}

on_both! {
    async fn bad_options_are_refused_by_name(stage: &Stage) {
        type Wanted = fn(&QueueError) -> bool;
        let mega = || "x".repeat(1_000_000);
        let cases: Vec<(&str, EnqueueOptions, Wanted)> = vec![
            ("a delay for ever", plain().delay(Duration::MAX), |e| matches!(e, QueueError::TooFar)),
            ("no end", plain().expires(Duration::MAX), |e| matches!(e, QueueError::TooFar)),
            ("after all calendars", at(i64::MAX), |e| matches!(e, QueueError::TooFar)),
            ("before all calendars", at(i64::MIN), |e| matches!(e, QueueError::TooFar)),
            ("before 1970", at(-1), |e| matches!(e, QueueError::TooFar)),
            ("a tenant of 1 MB", plain().tenant(mega()), |e| matches!(e, QueueError::LongTenant { .. })),
            ("a tag of 1 MB", plain().tag(mega()), |e| matches!(e, QueueError::Tags)),
            ("NUL in a tenant", plain().tenant("a\0b"), |e| matches!(e, QueueError::Nul { .. })),
            ("NUL in a tag", plain().tag("a\0b"), |e| matches!(e, QueueError::Nul { .. })),
            ("NUL in a key's name", plain().seal("\0"), |e| matches!(e, QueueError::Nul { .. })),
            ("a key's name of 1 MB", plain().seal(mega()), |e| matches!(e, QueueError::LongName { .. })),
        ];
        for (what, options, wanted) in cases {
            let mut tx = stage.begin(SHARD).await;
            let refused = stage.queue.enqueue_in(&mut tx, &note("x"), options.clone()).await;
            let refused = refused.unwrap_err();
            assert!(wanted(&refused), "{what}: {refused:?}");
            assert_eq!(refused.class(), Class::Invalid, "{what}");
            let user = stage.ids.draw(SHARD);
            let many = stage.queue.enqueue_many([(user, &note("x"))], options).await;
            assert!(wanted(&many.unwrap_err()), "{what}, many");
        }
        assert!(stage.rows(sql("SELECT job_id FROM ms_job")).await.is_empty());
    }

    async fn bad_arguments_and_keys_are_refused_by_name(stage: &Stage) {
        let user = stage.ids.draw(SHARD);
        let huge = note(&"x".repeat(10_000_000));
        let refused = stage.queue.enqueue(user, &huge, plain()).await.unwrap_err();
        assert!(matches!(refused, QueueError::TooLarge { limit: Queue::MAX_ARGS, .. }), "{refused:?}");
        let refused = stage.queue.enqueue(user, &Unwritable {}, plain()).await.unwrap_err();
        assert!(matches!(refused, QueueError::Encode { .. }), "{refused:?}");
        // Of a keyspace of ids.
        for key in ["", "no id", &"x".repeat(1_000_000)] {
            let refused = stage.queue.enqueue(key, &note("x"), plain()).await.unwrap_err();
            assert!(matches!(refused, QueueError::Shard(_)), "{refused:?}");
            assert_eq!(refused.class(), Class::Invalid, "{refused:?}");
        }
        assert!(stage.rows(sql("SELECT job_id FROM ms_job")).await.is_empty());
    }

    /// Other programs may write what no text in Rust is.
    async fn lone_surrogate_is_undecodable_and_kept(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let alone = r#"{"text":"\ud800"}"#;
        let written = sql("UPDATE ms_job SET args = $1 WHERE job_id = $2").bind(alone);
        stage.tamper(id, written).await;
        let run = async |_: JobRequest<Note>| Outcome::Done;
        let _worker = stage.worker().register(run).start().unwrap();
        let status = stage.reaches(id, JobState::Dead).await;
        assert_eq!(status.dead, Some(DeadReason::Undecodable));
        let letter = stage.queue.dead().find(id).await.unwrap().unwrap();
        assert_eq!(letter.args, alone);
    }

    async fn job_in_a_queue_that_nobody_serves_waits_and_is_told(stage: &Stage) {
        let id = stage.enqueue(&Nowhere {}).await;
        let known = stage.enqueue(&note("x")).await;
        let run = async |_: JobRequest<Note>| Outcome::Done;
        let _worker = stage.worker().register(run).start().unwrap();
        stage.reaches(known, JobState::Done).await;
        assert_eq!(stage.status(id).await.state, JobState::Ready);
        assert!(stage.queue.waited(Nowhere::QUEUE).await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_a_job_is_an_error_and_has_no_id() {
    let server = PostgresServer::start().await;
    let database = server.database().await;
    let urls = [database.url()];
    open(&urls).await.close().await;
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(&urls, folder, vec![database]).await;
    server.stop().await;
    let user = stage.ids.draw(SHARD);
    let one = stage.queue.enqueue(user, &note("x"), plain()).await;
    let many = stage
        .queue
        .enqueue_many([(user, &note("x"))], plain())
        .await;
    for refused in [one.map(drop), many.map(drop)] {
        let refused = refused.unwrap_err();
        assert!(matches!(refused, QueueError::Shard(_)), "{refused:?}");
        assert_eq!(refused.class(), Class::Unavailable, "{refused:?}");
    }
}
