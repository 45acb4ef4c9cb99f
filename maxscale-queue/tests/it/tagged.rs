//! Jobs are found by their tags.

use std::num::NonZeroU32;
use std::sync::Arc;

use maxscale_core::fact::VirtualShard;
use maxscale_queue::{
    DeadFilter, DeadReason, EnqueueOptions, JobRequest, JobState, Outcome, QueueError,
};

use tokio::sync::Semaphore;

use crate::stage::{Note, SHARD, Stage, note, on_both};

fn tagged(tags: &[&str]) -> EnqueueOptions {
    let options = EnqueueOptions::default();
    tags.iter().fold(options, |options, tag| options.tag(*tag))
}

on_both! {
    async fn tagged_jobs_are_cancelled_and_no_others(stage: &Stage) {
        let elsewhere = VirtualShard::new(1_000);
        let ended = [stage.enqueue_on(SHARD, &note("x"), tagged(&["import", "a \"b\""])).await,
            stage.enqueue_on(elsewhere, &note("x"), tagged(&["import"])).await];
        let others = [stage.enqueue_on(SHARD, &note("x"), tagged(&["important", "a"])).await,
            stage.enqueue(&note("import")).await];
        assert_eq!(stage.queue.cancel_tagged("import").await.unwrap(), 2);
        assert_eq!(stage.queue.cancel_tagged("import").await.unwrap(), 0);
        for id in ended {
            assert_eq!(stage.status(id).await.dead, Some(DeadReason::Cancelled));
        }
        let letter = stage.queue.dead().find(ended[0]).await.unwrap().unwrap();
        assert_eq!(letter.tags, ["a \"b\"", "import"]);
        let worker = stage.worker().register(async |_: JobRequest<Note>| Outcome::Done);
        let _worker = worker.start().unwrap();
        for id in others {
            stage.reaches(id, JobState::Done).await;
        }
    }

    async fn what_runs_is_not_cancelled_by_its_tag(stage: &Stage) {
        let gate = Arc::new(Semaphore::new(0));
        let closed = gate.clone();
        let run = move |_: JobRequest<Note>| {
            let gate = closed.clone();
            async move {
                gate.acquire().await.map_or(Outcome::Dead("closed".into()), |_| Outcome::Done)
            }
        };
        let worker = stage.worker().concurrency(1).register(run);
        let _worker = worker.start().unwrap();
        let running = stage.enqueue_on(SHARD, &note("x"), tagged(&["import"])).await;
        stage.reaches(running, JobState::Running).await;
        let waiting = stage.enqueue_on(SHARD, &note("x"), tagged(&["import"])).await;
        assert_eq!(stage.queue.cancel_tagged("import").await.unwrap(), 1);
        assert_eq!(stage.status(running).await.state, JobState::Running);
        assert_eq!(stage.status(waiting).await.dead, Some(DeadReason::Cancelled));
        gate.add_permits(1);
        stage.reaches(running, JobState::Done).await;
    }

    async fn dead_letters_are_replayed_by_tag_and_keep_it(stage: &Stage) {
        let run = async |_: JobRequest<Note>| Outcome::Dead("no".into());
        let worker = stage.worker().register(run).start().unwrap();
        let wanted = stage.enqueue_on(SHARD, &note("x"), tagged(&["import"])).await;
        let other = stage.enqueue_on(SHARD, &note("x"), tagged(&["export"])).await;
        for id in [wanted, other] {
            stage.reaches(id, JobState::Dead).await;
        }
        worker.shutdown(crate::stage::LIMIT).await;
        let import = DeadFilter::default().tag("import");
        let listed = stage.queue.dead().list(&import, None, 10).await.unwrap();
        assert_eq!(listed.len(), 1);
        let replayed = stage.queue.dead().replay(&import, NonZeroU32::MIN).await.unwrap();
        assert_eq!((replayed, stage.status(wanted).await.state), (1, JobState::Ready));
        assert_eq!(stage.status(other).await.state, JobState::Dead);
        assert_eq!(stage.queue.cancel_tagged("import").await.unwrap(), 1);
    }

    async fn what_is_no_tag_is_refused(stage: &Stage) {
        let many: Vec<String> = (0..9).map(|tag| tag.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for tags in [&["" as &str] as &[&str], &[&"x".repeat(129)], &many] {
            let mut tx = stage.begin(SHARD).await;
            let refused = stage.queue.enqueue_in(&mut tx, &note("x"), tagged(tags)).await;
            assert!(matches!(refused, Err(QueueError::Tags)), "{refused:?}");
        }
        let mut tx = stage.begin(SHARD).await;
        let refused = stage.queue.enqueue_in(&mut tx, &note("x"), tagged(&["\0"])).await;
        assert!(matches!(refused, Err(QueueError::Nul { place: "tag" })), "{refused:?}");
    }
}
