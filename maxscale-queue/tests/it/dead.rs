//! What is dead lies apart, and comes back when it is asked to.

use std::num::NonZeroU32;
use std::time::Duration;

use maxscale_core::fact::VirtualShard;
use maxscale_queue::{
    DeadFilter, DeadLetter, DeadReason, EnqueueOptions, Job, JobId, JobRequest, JobState, Outcome,
    QueueError, Worker,
};
use maxscale_shard::sql;
use maxscale_tests::eventually;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::stage::{LIMIT, Note, SHARD, Stage, note, on_both};

#[derive(Serialize, Deserialize)]
struct Stubborn {}

impl Job for Stubborn {
    const KIND: &'static str = "test.stubborn";
    const MAX_ATTEMPTS: u32 = 7;
}

#[derive(Serialize, Deserialize)]
struct Fleeting {}

impl Job for Fleeting {
    const KIND: &'static str = "test.fleeting";
    const RETAIN_DEAD: Duration = Duration::ZERO;
}

const FAST: NonZeroU32 = NonZeroU32::MAX;

fn all() -> DeadFilter {
    DeadFilter::default()
}

async fn letter(stage: &Stage, id: JobId) -> DeadLetter {
    stage.queue.dead().find(id).await.unwrap().unwrap()
}

async fn letters(stage: &Stage, filter: &DeadFilter) -> Vec<JobId> {
    let listed = stage.queue.dead().list(filter, None, 100).await.unwrap();
    listed.iter().map(|letter| letter.id).collect()
}

/// Leaves a job as an older program does.
async fn died(stage: &Stage, shard: VirtualShard, error: &str, at: i64) -> JobId {
    let id = stage
        .enqueue_on(shard, &note(error), EnqueueOptions::default())
        .await;
    let dead = sql(
        "UPDATE ms_job SET state = 'dead', attempt = 3, lease_token = 3,
        last_error = $1, finished_at = $2 WHERE job_id = $3",
    );
    stage.tamper(id, dead.bind(error).bind(at)).await;
    id
}

fn willing(stage: &Stage) -> Worker {
    let run = async |request: JobRequest<Note>| Outcome::DoneWith(request.attempt().into());
    stage.worker().register(run).start().unwrap()
}

on_both! {
    async fn dead_job_is_kept_with_the_errors_of_its_last_attempts(stage: &Stage) {
        let id = stage.enqueue(&Stubborn {}).await;
        let run = async |request: JobRequest<Stubborn>| {
            Outcome::Retry(format!("no \0 {}", request.attempt()).into())
        };
        let _worker = stage.worker().register(run).start().unwrap();
        let status = stage.reaches(id, JobState::Dead).await;
        assert_eq!(status.dead, Some(DeadReason::Failed));
        let letter = letter(stage, id).await;
        let told = letter.history.iter().map(|one| (one.attempt, one.error.clone().unwrap()));
        let expected = (1..=7).map(|attempt| (attempt, format!("no \u{fffd} {attempt}")));
        assert_eq!(told.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        assert!(letter.history.iter().all(|one| one.at.as_micros() > letter.created_at.as_micros()));
        assert_eq!((letter.args.as_str(), letter.attempt), ("{}", 7));
        assert!(stage.rows(sql("SELECT job_id FROM ms_job")).await.is_empty());
        // Told from where it lies now.
        let status = stage.status(id).await;
        assert_eq!((status.state, status.dead), (JobState::Dead, Some(DeadReason::Failed)));
        assert_eq!(status.last_error.as_deref(), Some("no \u{fffd} 7"));
        assert_eq!(status.finished_at, Some(letter.dead_at));
    }

    async fn reason_is_kept_also_of_what_older_programs_left(stage: &Stage) {
        let mut died_of = Vec::new();
        for (error, reason) in [
            ("expired", DeadReason::Expired),
            ("cancelled", DeadReason::Cancelled),
            ("worker died 3 times", DeadReason::Poison),
            ("anything else", DeadReason::Failed),
        ] {
            died_of.push((died(stage, SHARD, error, 1).await, reason));
        }
        let poison = stage.enqueue(&note("poison")).await;
        let killed = sql("UPDATE ms_job SET state = 'running', crashes = 2, attempt = 1,
            lease_token = 3, worker = job_id WHERE job_id = $1");
        stage.tamper(poison, killed).await;
        died_of.push((poison, DeadReason::Poison));
        let late = stage.enqueue(&note("late")).await;
        stage.tamper(late, sql("UPDATE ms_job SET expires_at = 0 WHERE job_id = $1")).await;
        died_of.push((late, DeadReason::Expired));
        let options = EnqueueOptions::default().delay(LIMIT);
        let cancelled = stage.enqueue_on(SHARD, &note("cancelled"), options).await;
        assert!(stage.queue.cancel(cancelled).await.unwrap());
        died_of.push((cancelled, DeadReason::Cancelled));
        let garbled = stage.enqueue(&note("garbled")).await;
        stage.tamper(garbled, sql("UPDATE ms_job SET args = '7' WHERE job_id = $1")).await;
        died_of.push((garbled, DeadReason::Undecodable));

        let _worker = willing(stage);
        for (id, reason) in died_of {
            stage.reaches(id, JobState::Dead).await;
            let letter = letter(stage, id).await;
            assert_eq!(letter.reason, reason, "{letter:?}");
            assert_eq!(stage.status(id).await.dead, Some(reason));
        }
        assert_eq!(letter(stage, garbled).await.args, "7");
    }

    async fn replay_brings_back_what_the_filter_names_and_nothing_else(stage: &Stage) {
        let elsewhere = VirtualShard::new(1_000);
        let early = died(stage, SHARD, "early", 1_000).await;
        let wanted = [died(stage, SHARD, "a", 2_000).await, died(stage, elsewhere, "b", 3_000).await];
        let late = died(stage, SHARD, "late", 4_000).await;
        let cancelled = died(stage, SHARD, "cancelled", 2_500).await;
        let expired = died(stage, SHARD, "expired", 2_500).await;
        let stubborn = stage.enqueue(&Stubborn {}).await;
        let dead = sql("UPDATE ms_job SET state = 'dead', finished_at = 2500 WHERE job_id = $1");
        stage.tamper(stubborn, dead).await;

        let at = maxscale_core::clock::Timestamp::from_micros;
        let failed = all().kind(Note::KIND).reason(DeadReason::Failed).queue("default");
        let failed = failed.since(at(1_500)).until(at(3_500));
        assert_eq!(letters(stage, &failed).await, wanted);
        assert_eq!(stage.queue.dead().replay(&failed.clone().queue("other"), FAST).await.unwrap(), 0);
        assert_eq!(stage.queue.dead().replay(&failed, FAST).await.unwrap(), 2);
        let _worker = willing(stage);
        for id in wanted {
            let status = stage.reaches(id, JobState::Done).await;
            assert_eq!((status.result, status.dead), (Some(1.into()), None));
        }
        for id in [early, late, cancelled, expired, stubborn] {
            assert_eq!(stage.status(id).await.state, JobState::Dead);
        }
        // Nobody asked for what was cancelled.
        assert_eq!(stage.queue.dead().replay(&all().kind(Note::KIND), FAST).await.unwrap(), 3);
        assert_eq!(letters(stage, &all()).await, [stubborn]);
        let cancelled_ones = all().reason(DeadReason::Cancelled);
        assert_eq!(letters(stage, &cancelled_ones).await, [cancelled]);
    }

    async fn replayed_jobs_are_due_one_after_the_other(stage: &Stage) {
        let mut ids = Vec::new();
        for at in 0..6 {
            ids.push(died(stage, VirtualShard::new(at * 200), "x", 9_000 - i64::from(at)).await);
        }
        let two = NonZeroU32::new(2).unwrap();
        assert_eq!(stage.queue.dead().replay(&all(), two).await.unwrap(), 6);
        let text = "SELECT job_id, run_at FROM ms_job";
        let mut due: Vec<(i64, i64)> = Vec::new();
        for row in stage.rows(sql(text)).await {
            let id = JobId::from(row.get::<maxscale_core::id::Id>("job_id").unwrap());
            let place = ids.iter().position(|one| *one == id).unwrap();
            due.push((row.get("run_at").unwrap(), i64::try_from(place).unwrap()));
        }
        due.sort_unstable();
        // Over both nodes half a second apart; on each the first to die is first. What the
        // two transactions took lies between.
        let spread = due[5].0 - due[0].0;
        assert!(spread >= 2_500_000, "{due:?}");
        for half in [0..3, 3..6] {
            let places: Vec<_> = due[half].iter().map(|(_, place)| *place).collect();
            assert!(places.is_sorted_by(|a, b| a > b), "{due:?}");
        }
    }

    async fn who_ran_a_job_before_its_replay_cannot_end_it(stage: &Stage) {
        let id = stage.enqueue(&note("x")).await;
        let (started, mut starts) = mpsc::unbounded_channel();
        let run = move |request: JobRequest<Note>| {
            started.send(request).unwrap();
            std::future::pending()
        };
        let lease = Duration::from_secs(600);
        let worker = stage.worker().lease(lease).register(run).start().unwrap();
        let first: JobRequest<Note> = starts.recv().await.unwrap();
        let dead = sql("UPDATE ms_job SET state = 'dead', finished_at = 1 WHERE job_id = $1");
        stage.tamper(id, dead).await;
        assert_eq!(stage.queue.dead().replay(&all(), FAST).await.unwrap(), 1);
        let second = starts.recv().await.unwrap();
        let refused = stage.effect(&first).await;
        assert!(matches!(refused, Err(QueueError::StaleLease { .. })), "{refused:?}");
        stage.effect(&second).await.unwrap();
        assert_eq!(stage.effects().await, 1);
        drop(worker);
    }

    async fn replays_and_sweeps_at_once_bring_each_back_once(stage: &Stage) {
        const JOBS: usize = 300;
        let jobs: Vec<_> = (0..JOBS).map(|_| (stage.ids.draw(SHARD), note("x"))).collect();
        let jobs = jobs.iter().map(|(key, job)| (*key, job));
        stage.queue.enqueue_many(jobs, EnqueueOptions::default()).await.unwrap();
        let shard = stage.fleet.router().virtual_shard(SHARD).unwrap();
        let dead = sql("UPDATE ms_job SET state = 'dead', finished_at = 1 WHERE shard_id = $1");
        shard.execute(dead.bind(SHARD)).await.unwrap();
        let replays = (0..6).map(|_| {
            let queue = stage.queue.clone();
            tokio::spawn(async move { queue.dead().replay(&all(), FAST).await.unwrap() })
        });
        let mut replayed = 0;
        for replay in replays.collect::<Vec<_>>() {
            replayed += replay.await.unwrap();
        }
        // Who came first may have left early, and what it left is there.
        replayed += stage.queue.dead().replay(&all(), FAST).await.unwrap();
        assert_eq!(replayed, JOBS as u64);
        let ready = sql("SELECT job_id FROM ms_job WHERE state = 'ready' AND lease_token = 1");
        assert_eq!(stage.rows(ready).await.len(), JOBS);
        assert!(stage.rows(sql("SELECT job_id FROM ms_job_dead")).await.is_empty());
    }

    async fn letters_are_listed_page_by_page(stage: &Stage) {
        let mut ids = Vec::new();
        for at in [5, 3, 3, 1, 4] {
            ids.push((at, died(stage, VirtualShard::new(at * 200), "x", i64::from(at)).await));
        }
        ids.sort_unstable();
        let ids: Vec<_> = ids.into_iter().map(|(_, id)| id).collect();
        let (mut pages, mut last): (Vec<JobId>, Option<DeadLetter>) = (Vec::new(), None);
        loop {
            let page = stage.queue.dead().list(&all(), last.as_ref(), 2).await.unwrap();
            assert!(page.len() <= 2);
            pages.extend(page.iter().map(|letter| letter.id));
            let Some(end) = page.into_iter().next_back() else {
                break;
            };
            last = Some(end);
        }
        assert_eq!(pages, ids);
    }

    async fn letters_go_when_they_are_purged_or_old(stage: &Stage) {
        let kept = died(stage, SHARD, "x", 1).await;
        let purged = died(stage, SHARD, "y", 1).await;
        let other = stage.enqueue(&Stubborn {}).await;
        let fleeting = stage.enqueue(&Fleeting {}).await;
        for id in [other, fleeting] {
            let dead = sql("UPDATE ms_job SET state = 'dead', finished_at = 5 WHERE job_id = $1");
            stage.tamper(id, dead).await;
        }
        let young = sql("UPDATE ms_job SET retain_dead = NULL WHERE job_id = $1");
        for id in [kept, purged, other] {
            stage.tamper(id, young.clone()).await;
        }
        let stubborn = all().kind(Stubborn::KIND);
        assert_eq!(stage.queue.dead().purge(&stubborn).await.unwrap(), 1);
        let _worker = willing(stage);
        let there = async |id| stage.queue.status(id).await.unwrap().is_some();
        eventually(LIMIT, async || !there(fleeting).await).await;
        assert!(!there(other).await && there(kept).await && there(purged).await);
        assert_eq!(stage.queue.dead().purge(&all()).await.unwrap(), 2);
        assert!(!there(kept).await && !there(purged).await);
    }

    async fn debug_shows_no_arguments(stage: &Stage) {
        let id = died(stage, SHARD, "my secret", 1).await;
        let shown = format!("{:?}", letter(stage, id).await);
        assert!(shown.contains("test.note") && !shown.contains("secret"), "{shown}");
    }
}
