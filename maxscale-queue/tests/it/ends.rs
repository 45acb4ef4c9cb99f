use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use maxscale_queue::{Job, JobRequest, JobState, Outcome, QueueError};
use maxscale_shard::sql;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};

use crate::stage::{LIMIT, Note, Stage, effect, insert_effect, note, on_both};

/// The same kind as a note, with arguments that no note has.
#[derive(Serialize, Deserialize)]
struct Garbled {
    number: u32,
}

impl Job for Garbled {
    const KIND: &'static str = "test.note";
}

#[derive(Debug, thiserror::Error)]
#[error("outer")]
struct Outer(#[source] std::num::ParseIntError);

fn failure() -> Outcome {
    Outcome::Retry(Outer("x".parse::<u32>().unwrap_err()).into())
}

on_both! {
    async fn failed_job_is_tried_again_until_it_is_done(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let run = async |request: JobRequest<Note>| match request.attempt() {
            1 => failure(),
            attempt => Outcome::DoneWith(attempt.into()),
        };
        let _worker = stage.worker().register(run).start().unwrap();
        let status = stage.reaches(id, JobState::Done).await;
        assert_eq!((status.attempt, status.result), (2, Some(2.into())));
        assert!(status.finished_at.is_some());
    }

    async fn job_is_dead_after_its_last_attempt_with_the_causes_of_the_last_error(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let run = async |_: JobRequest<Note>| failure();
        let _worker = stage.worker().register(run).start().unwrap();
        let status = stage.reaches(id, JobState::Dead).await;
        assert_eq!(status.attempt, Note::MAX_ATTEMPTS);
        let error = status.last_error.unwrap();
        assert_eq!(error, "outer: invalid digit found in string");
    }

    async fn panic_is_a_failed_attempt(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let run = async |request: JobRequest<Note>| {
            assert!(request.attempt() > 1, "no luck with {}", request.job().text);
            Outcome::Done
        };
        let _worker = stage.worker().register(run).start().unwrap();
        let status = stage.reaches(id, JobState::Done).await;
        assert_eq!(status.last_error.unwrap(), "panicked: no luck with x");
    }

    async fn reason_of_a_dead_job_is_kept_whatever_it_contains(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let run = async |_: JobRequest<Note>| Outcome::Dead("not a \0 \"WAV\"".into());
        let _worker = stage.worker().register(run).start().unwrap();
        let status = stage.reaches(id, JobState::Dead).await;
        assert_eq!(status.last_error.unwrap(), "not a \u{fffd} \"WAV\"");
        assert_eq!(status.attempt, 1);
    }

    async fn snoozing_costs_no_attempt(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = runs.clone();
        let run = move |_: JobRequest<Note>| {
            let run = counted.fetch_add(1, Ordering::SeqCst);
            async move {
                if run < 4 { Outcome::Snooze(Duration::ZERO) } else { Outcome::Done }
            }
        };
        let _worker = stage.worker().register(run).start().unwrap();
        let status = stage.reaches(id, JobState::Done).await;
        assert_eq!((status.attempt, runs.load(Ordering::SeqCst)), (1, 5));
    }

    async fn undecodable_arguments_are_dead_and_kept(stage: &Stage) {
        let id = stage.enqueue(&Garbled { number: 7 }).await;
        let run = async |_: JobRequest<Note>| Outcome::Done;
        let _worker = stage.worker().register(run).start().unwrap();
        let status = stage.reaches(id, JobState::Dead).await;
        let error = status.last_error.unwrap();
        assert!(error.contains("missing field `text`"), "{error}");
        let letter = stage.queue.dead().find(id).await.unwrap().unwrap();
        assert_eq!(letter.args, r#"{"number":7}"#);
    }

    /// It left its worker and its token in the row.
    async fn end_of_what_an_older_program_ended_is_rejected(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let (go, router) = (Arc::new(Notify::new()), stage.fleet.router().clone());
        let (started, mut starts) = mpsc::unbounded_channel();
        let (completed, mut completions) = mpsc::unbounded_channel();
        let wait = go.clone();
        let run = move |request: JobRequest<Note>| {
            started.send(()).unwrap();
            let (wait, router, completed) = (wait.clone(), router.clone(), completed.clone());
            async move {
                wait.notified().await;
                completed.send(effect(&router, &request).await).unwrap();
                Outcome::Dead("too late".into())
            }
        };
        let worker = stage.worker().register(run).start().unwrap();
        starts.recv().await.unwrap();
        let ended = sql("UPDATE ms_job SET state = 'done', finished_at = 1, result = '7'
            WHERE job_id = $1");
        stage.tamper(id, ended).await;
        go.notify_one();
        let refused = completions.recv().await.unwrap();
        assert!(matches!(refused, Err(QueueError::StaleLease { .. })), "{refused:?}");
        worker.shutdown(LIMIT).await;
        let status = stage.status(id).await;
        assert_eq!((status.state, status.result), (JobState::Done, Some(7.into())));
        assert_eq!(stage.effects().await, 0);
    }

    async fn completion_rolls_back_together_with_its_effect(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let router = stage.fleet.router().clone();
        let run = move |request: JobRequest<Note>| {
            let router = router.clone();
            async move {
                let shard = router.virtual_shard(request.shard()).unwrap();
                let mut tx = shard.begin().await.unwrap();
                insert_effect(&mut tx, &request).await.unwrap();
                request.complete_in(&mut tx).await.unwrap();
                if request.attempt() == 1 {
                    tx.rollback().await.unwrap();
                } else {
                    tx.commit().await.unwrap();
                }
                // After the commit this must change nothing.
                failure()
            }
        };
        let worker = stage.worker().register(run).start().unwrap();
        stage.reaches(id, JobState::Done).await;
        worker.shutdown(LIMIT).await;
        let status = stage.status(id).await;
        assert_eq!((status.state, status.attempt), (JobState::Done, 2));
        assert_eq!(stage.effects().await, 1);
    }
}
