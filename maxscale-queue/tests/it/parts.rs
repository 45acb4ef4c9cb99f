//! Jobs in parts: steps, checkpoints, progress, and what is told of all runs.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use maxscale_queue::{
    DeadFilter, DeadReason, Job, JobRequest, JobState, Outcome, Queue, QueueError,
};
use maxscale_shard::{Router, Work, sql};
use maxscale_tests::eventually;
use serde_json::json;
use tokio::sync::mpsc;

use crate::stage::{LIMIT, Note, SHARD, Stage, insert_effect, note, on_both};

/// A step with an effect, whose result is how often any was made.
async fn charge(
    router: &Router,
    request: &JobRequest<Note>,
    made: &AtomicUsize,
) -> Result<usize, QueueError> {
    let shard = router.virtual_shard(request.shard())?;
    let work = request.step(&shard, "charge", |tx| {
        Work::new(async move {
            insert_effect(tx, request).await?;
            Ok::<_, QueueError>(made.fetch_add(1, Ordering::SeqCst) + 1)
        })
    });
    work.await
}

on_both! {
    async fn step_that_is_done_is_not_done_again(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let (router, made) = (stage.fleet.router().clone(), Arc::<AtomicUsize>::default());
        let run = move |request: JobRequest<Note>| {
            let (router, made) = (router.clone(), made.clone());
            async move {
                let result = charge(&router, &request, &made).await.unwrap();
                match request.attempt() {
                    3 => Outcome::DoneWith(result.into()),
                    _ => Outcome::Retry("the mail server is away".into()),
                }
            }
        };
        let _worker = stage.worker().register(run).start().unwrap();
        let status = stage.reaches(id, JobState::Done).await;
        assert_eq!((status.attempt, status.result), (3, Some(1.into())));
        assert_eq!(stage.effects().await, 1);
    }

    async fn step_that_fails_leaves_nothing(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let router = stage.fleet.router().clone();
        let run = move |request: JobRequest<Note>| {
            let router = router.clone();
            async move {
                let shard = router.virtual_shard(request.shard()).unwrap();
                let first = request.attempt() == 1;
                let step = request.step(&shard, "charge", |tx| {
                    let request = &request;
                    Work::new(async move {
                        insert_effect(tx, request).await?;
                        if first {
                            return Err(QueueError::NoShard);
                        }
                        Ok(())
                    })
                });
                match step.await {
                    Ok(()) => Outcome::Done,
                    Err(error) => Outcome::Retry(error.into()),
                }
            }
        };
        let _worker = stage.worker().register(run).start().unwrap();
        stage.reaches(id, JobState::Done).await;
        assert_eq!(stage.effects().await, 1);
    }

    /// Both want to do it, at the same time.
    async fn step_is_not_done_twice_at_once(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let (router, made) = (stage.fleet.router().clone(), Arc::<AtomicUsize>::default());
        let run = move |request: JobRequest<Note>| {
            let (router, made) = (router.clone(), made.clone());
            async move {
                let (one, two) = tokio::join!(
                    charge(&router, &request, &made),
                    charge(&router, &request, &made),
                );
                Outcome::DoneWith(json!([one.unwrap(), two.unwrap()]))
            }
        };
        let _worker = stage.worker().register(run).start().unwrap();
        let status = stage.reaches(id, JobState::Done).await;
        assert_eq!(status.result, Some(json!([1, 1])));
        assert_eq!(stage.effects().await, 1);
    }

    async fn worker_that_lost_its_lease_does_no_step_and_tells_nothing(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let (started, mut starts) = mpsc::unbounded_channel();
        let run = move |request: JobRequest<Note>| {
            started.send(request).unwrap();
            std::future::pending()
        };
        let _worker = stage.worker().register(run).start().unwrap();
        let request = starts.recv().await.unwrap();
        let taken = sql("UPDATE ms_job SET lease_token = lease_token + 1 WHERE job_id = $1");
        stage.tamper(id, taken).await;
        let made = AtomicUsize::new(0);
        let refused = charge(stage.fleet.router(), &request, &made).await.unwrap_err();
        assert!(matches!(refused, QueueError::StaleLease { .. }), "{refused:?}");
        let refused = request.progress(&json!(1)).await.unwrap_err();
        assert!(matches!(refused, QueueError::StaleLease { .. }), "{refused:?}");
        assert_eq!((stage.effects().await, made.into_inner()), (0, 0));
    }

    async fn results_of_steps_are_bounded(stage: &Stage) {
        stage.enqueue(&note("x")).await;
        let (router, (told, mut tells)) = (stage.fleet.router().clone(), mpsc::unbounded_channel());
        let run = move |request: JobRequest<Note>| {
            let (router, told) = (router.clone(), told.clone());
            async move {
                let shard = router.virtual_shard(request.shard()).unwrap();
                let large = request.step(&shard, "large", |_| {
                    Work::new(async { Ok::<_, QueueError>("x".repeat(Queue::MAX_ARGS)) })
                });
                told.send(large.await).unwrap();
                Outcome::Done
            }
        };
        let _worker = stage.worker().register(run).start().unwrap();
        let refused = tells.recv().await.unwrap().unwrap_err();
        assert!(matches!(refused, QueueError::TooLarge { .. }), "{refused:?}");
    }

    async fn job_goes_on_from_its_checkpoint_and_burns_no_attempt(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let run = async |request: JobRequest<Note>| {
            let page = request.checkpoint().and_then(|state| state["page"].as_u64());
            match page.unwrap_or_default() {
                9 => Outcome::DoneWith(9.into()),
                page => Outcome::Continue(json!({ "page": page + 1 })),
            }
        };
        let _worker = stage.worker().register(run).start().unwrap();
        let status = stage.reaches(id, JobState::Done).await;
        assert_eq!((status.attempt, status.result), (1, Some(9.into())));
    }

    /// It has a checkpoint and others wait.
    async fn job_that_goes_on_stands_behind_what_waits(stage: &Stage) {
        let first = stage.enqueue(&note("first")).await;
        let second = stage.enqueue(&note("second")).await;
        let (ran, mut runs) = mpsc::unbounded_channel();
        let run = move |request: JobRequest<Note>| {
            ran.send(request.job().text.clone()).unwrap();
            std::future::ready(match request.checkpoint() {
                None => Outcome::Continue(json!(1)),
                Some(_) => Outcome::Done,
            })
        };
        let _worker = stage.worker().concurrency(1).register(run).start().unwrap();
        stage.reaches(first, JobState::Done).await;
        stage.reaches(second, JobState::Done).await;
        let mut order = Vec::new();
        runs.recv_many(&mut order, 4).await;
        assert_eq!(order, ["first", "second", "first", "second"]);
    }

    async fn progress_is_told_while_it_runs(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let run = async |request: JobRequest<Note>| {
            request.progress(&json!({ "percent": 40 })).await.unwrap();
            std::future::pending().await
        };
        let _worker = stage.worker().register(run).start().unwrap();
        let told = eventually(LIMIT, async || stage.status(id).await.progress).await;
        assert_eq!(told, json!({ "percent": 40 }));
    }

    async fn history_tells_of_each_run(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let run = async |request: JobRequest<Note>| match request.attempt() {
            1 if request.checkpoint().is_none() => Outcome::Continue(json!(1)),
            1 => Outcome::Retry("away".into()),
            2 => panic!("broken"),
            _ => Outcome::Done,
        };
        let _worker = stage.worker().register(run).start().unwrap();
        stage.reaches(id, JobState::Done).await;
        let told = stage.queue.explain(id).await.unwrap().unwrap();
        assert_eq!((&*told.kind, told.max_attempts), (Note::KIND, Note::MAX_ATTEMPTS));
        let ends: Vec<_> = (told.history.iter())
            .map(|event| (event.attempt, &*event.how, event.error.as_deref()))
            .collect();
        let expected = [
            (1, "continued", None),
            (1, "retried", Some("away")),
            (2, "retried", Some("panicked: broken")),
            (3, "done", None),
        ];
        assert_eq!(ends, expected);
        assert!(told.history.is_sorted_by_key(|event| event.at));
        assert!(told.history.iter().all(|event| event.ran.is_some()));
    }

    async fn replayed_job_does_not_repeat_its_steps_and_keeps_its_history(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let (router, made) = (stage.fleet.router().clone(), Arc::<AtomicUsize>::default());
        let run = move |request: JobRequest<Note>| {
            let (router, made) = (router.clone(), made.clone());
            async move {
                let result = charge(&router, &request, &made).await.unwrap();
                match request.token() {
                    1 => Outcome::Dead("no such page".to_owned()),
                    _ => Outcome::DoneWith(result.into()),
                }
            }
        };
        let _worker = stage.worker().register(run).start().unwrap();
        stage.reaches(id, JobState::Dead).await;
        let letter = stage.queue.dead().find(id).await.unwrap().unwrap();
        let told = stage.queue.explain(id).await.unwrap().unwrap();
        assert_eq!((told.status.state, &told.history), (JobState::Dead, &letter.history));
        assert_eq!(told.history[0].error.as_deref(), Some("no such page"));

        let failed = DeadFilter::default().reason(DeadReason::Failed);
        let replayed = stage.queue.dead().replay(&failed, NonZeroU32::MAX).await;
        assert_eq!(replayed.unwrap(), 1);
        let status = stage.reaches(id, JobState::Done).await;
        assert_eq!((status.result, stage.effects().await), (Some(1.into()), 1));
        let told = stage.queue.explain(id).await.unwrap().unwrap();
        let ends: Vec<_> = told.history.iter().map(|event| &*event.how).collect();
        assert_eq!(ends, ["dead", "done"]);
    }

    async fn history_is_bounded_and_keeps_the_end(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let run = async |request: JobRequest<Note>| match request.token() {
            ..200 => Outcome::Continue(json!("x")),
            _ => Outcome::Done,
        };
        let poll = Duration::from_millis(1);
        let worker = stage.worker().poll(poll, poll).register(run);
        let _worker = worker.start().unwrap();
        stage.reaches(id, JobState::Done).await;
        let told = stage.queue.explain(id).await.unwrap().unwrap();
        assert!((12..200).contains(&told.history.len()), "{}", told.history.len());
        assert_eq!(told.history.last().unwrap().how, "done");
        let none = stage.queue.explain(stage.ids.draw(SHARD).into()).await.unwrap();
        assert!(none.is_none());
    }
}
