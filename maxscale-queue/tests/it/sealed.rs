//! Arguments that only who has the key can read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use maxscale_core::BoxError;
use maxscale_core::keys::{KeyRing, Keys, Secret};
use maxscale_queue::{
    ArgsKeys, DeadFilter, DeadReason, EnqueueOptions, Enqueued, JobRequest, JobState, Outcome,
    Queue, QueueError, Unique, Worker,
};
use maxscale_shard::sql;
use maxscale_tests::eventually;
use serde_json::json;

use crate::stage::{LIMIT, Note, SHARD, Stage, note, on_both};

const SECRET: &str = "4111 1111 1111 1111";

/// Keys per user, which can be destroyed, and a store of them that can fail.
#[derive(Clone, Debug, Default)]
struct Users(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    rings: HashMap<String, Arc<KeyRing>>,
    fails: bool,
}

impl ArgsKeys for Users {
    fn ring(&self, reference: &str) -> Result<Option<Arc<KeyRing>>, BoxError> {
        let inner = self.0.lock().unwrap();
        if inner.fails {
            return Err("the keys are away".into());
        }
        Ok(inner.rings.get(reference).cloned())
    }
}

fn ring(version: u8) -> KeyRing {
    KeyRing::new(version, Secret::new([version; 32])).unwrap()
}

fn users() -> Users {
    let users = Users::default();
    for (user, version) in [("ada", 1), ("bob", 2)] {
        let ring = Arc::new(ring(version));
        users.0.lock().unwrap().rings.insert(user.to_owned(), ring);
    }
    users
}

fn queue(stage: &Stage, keys: impl ArgsKeys) -> Queue {
    Queue::with_keys(stage.fleet.router().clone(), stage.ids.clone(), keys)
}

async fn put(stage: &Stage, queue: &Queue, text: &str, options: EnqueueOptions) -> Enqueued {
    let mut tx = stage.begin(SHARD).await;
    let enqueued = queue
        .enqueue_in(&mut tx, &note(text), options)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    enqueued
}

fn of(user: &str) -> EnqueueOptions {
    EnqueueOptions::default().seal(user)
}

/// Tells what it was given.
fn telling(queue: &Queue) -> Worker {
    let run = async |request: JobRequest<Note>| {
        assert!(!format!("{request:?}").contains(SECRET), "Debug shows it");
        Outcome::DoneWith(json!(request.job().text))
    };
    Worker::builder(queue.clone())
        .register(run)
        .start()
        .unwrap()
}

/// All that the databases have of jobs.
async fn stored(stage: &Stage) -> String {
    let mut all = String::new();
    let text = "SELECT args, coalesce(last_error, '') || coalesce(history, '') AS told FROM ms_job
        UNION ALL SELECT args, coalesce(last_error, '') || coalesce(history, '') FROM ms_job_dead";
    for row in stage.rows(sql(text)).await {
        all += &row.get::<String>("args").unwrap();
        all += &row.get::<String>("told").unwrap();
    }
    all
}

on_both! {
    async fn sealed_arguments_are_in_no_row_and_reach_their_handler(stage: &Stage) {
        let queue = queue(stage, Keys::new(ring(1)));
        let id = put(stage, &queue, SECRET, of("ada")).await.id();
        let plain = put(stage, &queue, "plain", EnqueueOptions::default()).await.id();
        let user = stage.ids.draw(SHARD);
        let job = note(SECRET);
        let many = queue.enqueue_many([(user, &job)], of("bob")).await.unwrap()[0].id();
        assert!(!stored(stage).await.contains("4111"));
        // Another process has a newer key, and the old one to read with.
        let rotated = ring(2).with_old(1, Secret::new([1; 32])).unwrap();
        let other = Queue::with_keys(stage.fleet.router().clone(), stage.ids.clone(),
            Keys::new(rotated));
        let _worker = telling(&other);
        for (id, text) in [(id, SECRET), (plain, "plain"), (many, SECRET)] {
            let status = stage.reaches(id, JobState::Done).await;
            assert_eq!(status.result, Some(json!(text)));
        }
    }

    async fn arguments_in_another_jobs_row_do_not_open(stage: &Stage) {
        let queue = queue(stage, Keys::new(ring(1)));
        let theirs = put(stage, &queue, SECRET, of("ada")).await.id();
        let id = put(stage, &queue, "x", of("ada")).await.id();
        let moved = sql("UPDATE ms_job SET args = (SELECT j.args FROM ms_job AS j
            WHERE j.job_id = $1) WHERE job_id = $2");
        stage.tamper(id, moved.bind(theirs)).await;
        let _worker = telling(&queue);
        let status = stage.reaches(id, JobState::Dead).await;
        assert_eq!(status.dead, Some(DeadReason::Undecodable));
        assert_eq!(stage.reaches(theirs, JobState::Done).await.result, Some(json!(SECRET)));
    }

    async fn with_a_users_key_his_jobs_are_gone_and_no_others(stage: &Stage) {
        let users = users();
        let queue = queue(stage, users.clone());
        let adas = put(stage, &queue, SECRET, of("ada")).await.id();
        let bobs = put(stage, &queue, SECRET, of("bob")).await.id();
        users.0.lock().unwrap().rings.remove("ada");
        let _worker = telling(&queue);
        stage.reaches(bobs, JobState::Done).await;
        let status = stage.reaches(adas, JobState::Dead).await;
        assert_eq!(status.dead, Some(DeadReason::Undecodable));
        let letter = queue.dead().find(adas).await.unwrap().unwrap();
        assert_eq!(letter.sealed_by.as_deref(), Some("ada"));
        let mut tx = stage.begin(SHARD).await;
        let refused = queue.enqueue_in(&mut tx, &note("x"), of("ada")).await;
        assert!(matches!(refused, Err(QueueError::NoKey)), "{refused:?}");
    }

    async fn job_waits_for_keys_that_cannot_be_had_now(stage: &Stage) {
        let users = users();
        let queue = queue(stage, users.clone());
        let id = put(stage, &queue, SECRET, of("ada")).await.id();
        users.0.lock().unwrap().fails = true;
        let mut tx = stage.begin(SHARD).await;
        let refused = queue.enqueue_in(&mut tx, &note("x"), of("ada")).await;
        assert!(matches!(refused, Err(QueueError::Keys { .. })), "{refused:?}");
        drop(tx);
        let _worker = telling(&queue);
        let put_off = sql("SELECT job_id FROM ms_job WHERE state = 'ready' AND rank IS NULL");
        eventually(LIMIT, async || stage.rows(put_off.clone()).await.len() == 1).await;
        users.0.lock().unwrap().fails = false;
        let status = stage.reaches(id, JobState::Done).await;
        assert_eq!((status.attempt, status.result), (1, Some(json!(SECRET))));
    }

    async fn what_takes_a_jobs_place_is_sealed_for_it(stage: &Stage) {
        let queue = queue(stage, Keys::new(ring(1)));
        let once = of("ada").unique(Unique::by(&[]).replace());
        let first = put(stage, &queue, "x", once.clone().delay(LIMIT)).await;
        let second = put(stage, &queue, "x", once).await;
        assert_eq!(second, Enqueued::Replaced(first.id()));
        let _worker = telling(&queue);
        let status = stage.reaches(first.id(), JobState::Done).await;
        assert_eq!(status.result, Some(json!("x")));
    }

    async fn dead_letter_stays_sealed_and_opens_when_it_is_replayed(stage: &Stage) {
        let queue = queue(stage, Keys::new(ring(1)));
        let id = put(stage, &queue, SECRET, of("ada")).await.id();
        let dead = sql("UPDATE ms_job SET state = 'dead', finished_at = 1 WHERE job_id = $1");
        stage.tamper(id, dead).await;
        let letter = queue.dead().find(id).await.unwrap().unwrap();
        assert!(!letter.args.contains("4111"), "{}", letter.args);
        let all = DeadFilter::default();
        assert_eq!(queue.dead().replay(&all, 1.try_into().unwrap()).await.unwrap(), 1);
        let _worker = telling(&queue);
        let status = stage.reaches(id, JobState::Done).await;
        assert_eq!(status.result, Some(json!(SECRET)));
    }

    async fn sealed_arguments_that_do_not_fit_are_in_no_error(stage: &Stage) {
        #[derive(serde::Serialize, serde::Deserialize)]
        struct Number {
            text: u64,
        }
        impl maxscale_queue::Job for Number {
            const KIND: &'static str = "test.note";
        }
        let queue = queue(stage, Keys::new(ring(1)));
        let id = put(stage, &queue, SECRET, of("ada")).await.id();
        let run = async |request: JobRequest<Number>| Outcome::DoneWith(request.job().text.into());
        let _worker = Worker::builder(queue.clone()).register(run).start().unwrap();
        let status = stage.reaches(id, JobState::Dead).await;
        assert_eq!(status.dead, Some(DeadReason::Undecodable));
        assert!(!status.last_error.unwrap().contains("4111"));
        assert!(!stored(stage).await.contains("4111"));
    }

    async fn queue_without_keys_seals_nothing(stage: &Stage) {
        let mut tx = stage.begin(SHARD).await;
        let refused = stage.queue.enqueue_in(&mut tx, &note("x"), of("ada")).await;
        assert!(matches!(refused, Err(QueueError::NoKey)), "{refused:?}");
        let long = of(&"x".repeat(1_000_000));
        let refused = stage.queue.enqueue_in(&mut tx, &note("x"), long).await;
        assert!(matches!(refused, Err(QueueError::LongName { .. })), "{refused:?}");
        assert!(stage.rows(sql("SELECT job_id FROM ms_job")).await.is_empty());
    }
}
