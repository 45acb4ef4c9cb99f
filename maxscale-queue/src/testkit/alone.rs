//! What is claimed, given back, rescued and cancelled, one call after the other.

use std::time::Duration;

use maxscale_core::clock::Timestamp;
use tokio::time::sleep;
use uuid::Uuid;

use crate::job::{JobId, JobState};
use crate::store::{self, Common, Ending};

use super::{MANY, Suite, ok};

impl Suite {
    pub(super) async fn alone(&self) {
        self.claim_takes_what_is_due_once().await;
        self.wipe().await;
        self.claim_leaves_what_is_not_for_it().await;
        self.wipe().await;
        self.who_has_no_lease_claims_nothing().await;
        self.wipe().await;
        self.frozen_shards_are_passed_over().await;
        self.wipe().await;
        self.living_worker_keeps_its_jobs().await;
        self.wipe().await;
        self.third_crash_is_the_last().await;
        self.wipe().await;
        self.only_what_nobody_knows_goes_back().await;
        self.wipe().await;
        self.what_waits_is_cancelled_and_what_runs_is_asked_to_stop()
            .await;
        self.wipe().await;
        self.what_is_late_expires_unless_it_runs().await;
        self.wipe().await;
    }

    async fn claim_takes_what_is_due_once(&self) {
        for _ in 0..5 {
            self.put().await;
        }
        let worker = self.worker().await;
        assert_eq!(self.claim(worker, 2).await.len(), 2, "no more than wanted");
        let rest = self.claim(worker, MANY).await;
        assert_eq!(rest.len(), 3, "the others");
        for job in rest {
            assert_eq!((job.facts.attempt, job.facts.crashes), (1, 0));
            let seen = self.seen(job.facts.lease.job).await;
            assert_eq!((seen.state, seen.worker), (JobState::Running, Some(worker)));
            assert_eq!(seen.token, job.facts.lease.token);
        }
        assert!(self.claim(worker, MANY).await.is_empty(), "claimed twice");
    }

    async fn claim_leaves_what_is_not_for_it(&self) {
        let plain = Self::common;
        let left = [
            Common {
                kind: "maxscale.testkit.other",
                ..plain()
            },
            Common {
                version: 2,
                ..plain()
            },
            Common {
                delay: Duration::from_secs(3_600),
                ..plain()
            },
            Common {
                // Due long ago, and over since.
                run_at: Some(Timestamp::from_micros(1)),
                expires: Some(Duration::from_micros(1)),
                ..plain()
            },
        ];
        for common in &left {
            self.put_with(common).await;
        }
        let elsewhere = Common {
            queue: "maxscale.testkit.other",
            ..plain()
        };
        self.put_with(&elsewhere).await;
        ok(store::promote(&self.node, 1_000).await);
        let worker = self.worker().await;
        assert!(self.claim(worker, MANY).await.is_empty());
        ok(store::wipe(&self.node, elsewhere.queue).await);
    }

    async fn who_has_no_lease_claims_nothing(&self) {
        let job = self.put().await;
        assert!(self.claim(Uuid::new_v4(), MANY).await.is_empty(), "nobody");
        let dead = self.worker().await;
        self.renew(dead, Duration::ZERO).await;
        self.die(dead).await;
        assert!(self.claim(dead, MANY).await.is_empty(), "a dead one");
        assert!(!self.renew(dead, Duration::ZERO).await);
        let late = self.worker().await;
        self.renew(late, Duration::ZERO).await;
        // By any clock it is over, and nobody has buried it.
        sleep(Duration::from_millis(10)).await;
        assert!(self.claim(late, MANY).await.is_empty(), "a late one");
        let gone = self.worker().await;
        ok(store::leave(&self.node, gone).await);
        assert!(self.claim(gone, MANY).await.is_empty(), "one that left");
        assert_eq!(self.seen(job).await.state, JobState::Ready);
    }

    async fn frozen_shards_are_passed_over(&self) {
        self.put().await;
        let worker = self.worker().await;
        let own = i32::try_from(self.shard.id().get()).expect("a shard's number is small");
        let past = self.claim_past(worker, MANY, [own].into()).await;
        assert!(past.is_empty(), "out of a frozen shard");
        let other = [own + 1].into();
        assert_eq!(self.claim_past(worker, MANY, other).await.len(), 1);
    }

    async fn living_worker_keeps_its_jobs(&self) {
        let lease = self.running().await;
        ok(store::bury(&self.node).await);
        assert_eq!(self.rescue().await, 0, "a job of a worker that lives");
        assert_eq!(self.seen(lease.job).await.token, lease.token);
        ok(store::leave(&self.node, lease.worker).await);
        assert_eq!(self.rescue().await, 1, "a job of a worker that left");
        assert_eq!(self.rescue().await, 0, "rescued twice");
        assert_eq!(self.seen(lease.job).await.crashes, 1);
    }

    async fn third_crash_is_the_last(&self) {
        let job = self.put().await;
        for crash in 1..=3 {
            let lease = self.claim_one(self.worker().await).await;
            assert_eq!(self.seen(job).await.attempt, 1, "crash {crash}");
            self.die(lease.worker).await;
            assert_eq!(self.rescue().await, 1, "crash {crash}");
        }
        let seen = self.seen(job).await;
        assert_eq!((seen.state, seen.crashes), (JobState::Dead, 3));
        assert_eq!(seen.dead_reason.as_deref(), Some("poison"));
        let worker = self.worker().await;
        assert!(self.claim(worker, MANY).await.is_empty());
    }

    async fn only_what_nobody_knows_goes_back(&self) {
        self.put().await;
        self.put().await;
        let worker = self.worker().await;
        let claimed = self.claim(worker, MANY).await;
        let known = [claimed[0].facts.lease];
        let lost = claimed[1].facts.lease.job;
        let nobodys = store::give_back(&self.node, Uuid::new_v4(), &[]).await;
        assert_eq!(ok(nobodys), 0, "another's");
        assert_eq!(
            ok(store::give_back(&self.node, worker, &known).await),
            1,
            "what it does not know"
        );
        assert_eq!(self.seen(known[0].job).await.state, JobState::Running);
        let seen = self.seen(lost).await;
        assert_eq!((seen.state, seen.attempt), (JobState::Ready, 0));
        assert!(seen.token > claimed[1].facts.lease.token);
    }

    async fn what_waits_is_cancelled_and_what_runs_is_asked_to_stop(&self) {
        let cancel = async |job: JobId| ok(store::cancel(&self.shard, job).await);
        let waiting = self.put().await;
        assert!(cancel(waiting).await);
        let seen = self.seen(waiting).await;
        assert!(!cancel(waiting).await, "twice");
        assert_eq!(self.seen(waiting).await, seen);
        assert_eq!(seen.dead_reason.as_deref(), Some("cancelled"));
        // What runs is asked to stop, and its end is its worker's to tell.
        let lease = self.running().await;
        let before = self.seen(lease.job).await;
        assert!(cancel(lease.job).await, "it runs");
        let asked = self.seen(lease.job).await;
        assert!(asked.cancel_at.is_some() && before.cancel_at.is_none());
        assert_eq!((asked.state, asked.token), (before.state, before.token));
        assert!(self.settle(lease, Ending::Done { result: None }).await);
        assert!(!cancel(lease.job).await, "it is done");
        // Its worker did not hear of it, or died: it waits, and is not taken again.
        let lease = self.running().await;
        assert!(cancel(lease.job).await);
        assert!(self.settle(lease, Ending::HandBack).await);
        assert!(self.claim(self.worker().await, MANY).await.is_empty());
        assert_eq!(ok(store::stop(&self.node, 1_000).await), 1);
        let stopped = self.seen(lease.job).await;
        assert_eq!(stopped.dead_reason.as_deref(), Some("cancelled"));
    }

    async fn what_is_late_expires_unless_it_runs(&self) {
        let short = Common {
            expires: Some(Duration::from_secs(60)),
            ..Self::common()
        };
        let running = self.put_with(&short).await;
        self.claim_one(self.worker().await).await;
        let late = self.put_with(&short).await;
        // Of both the time is over.
        ok(store::pass(&self.node, Duration::from_secs(120)).await);
        let waiting = self.put_with(&short).await;
        assert_eq!(ok(store::expire(&self.node, 1_000).await), 1);
        assert_eq!(self.seen(waiting).await.state, JobState::Ready);
        assert_eq!(self.seen(running).await.state, JobState::Running);
        let seen = self.seen(late).await;
        assert_eq!(seen.dead_reason.as_deref(), Some("expired"));
    }
}
