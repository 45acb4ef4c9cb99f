//! What holds when calls come at once.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::{JoinSet, yield_now};

use crate::job::{JobId, JobState};
use crate::store::{self, Ending, Lease};

use super::{Suite, ended, ok};

/// Each race is run so often: one that is lost rarely is lost all the same.
const ROUNDS: usize = 10;
const AT_ONCE: usize = 8;
const JOBS: usize = 48;

impl Suite {
    pub(super) async fn races(&self) {
        for _ in 0..ROUNDS {
            self.racing_claims_take_each_job_once().await;
            self.wipe().await;
            self.what_was_put_off_is_not_claimed_by_who_saw_it_before()
                .await;
            self.wipe().await;
            self.racing_rescues_count_a_crash_once().await;
            self.wipe().await;
            self.rescue_leaves_what_was_claimed_meanwhile().await;
            self.wipe().await;
            self.end_and_rescue_exclude_each_other().await;
            self.wipe().await;
        }
    }

    async fn fill(&self, jobs: usize) {
        for _ in 0..jobs {
            self.put().await;
        }
    }

    /// Runs the same `AT_ONCE` times, and gives what each came to.
    async fn at_once<T, R>(&self, run: impl Fn(Self) -> R) -> Vec<T>
    where
        T: Send + 'static,
        R: Future<Output = T> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        for _ in 0..AT_ONCE {
            tasks.spawn(run(self.clone()));
        }
        tasks.join_all().await
    }

    async fn racing_claims_take_each_job_once(&self) {
        self.fill(JOBS).await;
        let claimed = self
            .at_once(|suite| async move {
                let worker = suite.worker().await;
                let mut all = Vec::new();
                let mut empty = 0;
                while empty < 3 {
                    let claimed = suite.claim(worker, 3).await;
                    empty = if claimed.is_empty() { empty + 1 } else { 0 };
                    all.extend(claimed.iter().map(|job| job.facts.lease));
                }
                all
            })
            .await;
        let mut times: HashMap<JobId, u32> = HashMap::new();
        for lease in claimed.into_iter().flatten() {
            *times.entry(lease.job).or_default() += 1;
        }
        assert!(times.values().all(|times| *times == 1), "{times:?}");
        let worker = self.worker().await;
        let rest = self.claim(worker, super::MANY).await;
        assert_eq!(times.len() + rest.len(), JOBS);
    }

    /// A claim that read a job before it was claimed and put off finds it free, and must
    /// not take it.
    async fn what_was_put_off_is_not_claimed_by_who_saw_it_before(&self) {
        self.fill(JOBS).await;
        let claimed = self
            .at_once(|suite| async move {
                let worker = suite.worker().await;
                let mut all = Vec::new();
                let mut empty = 0;
                while empty < 3 {
                    let claimed = suite.claim(worker, 2).await;
                    empty = if claimed.is_empty() { empty + 1 } else { 0 };
                    let after = Duration::from_secs(3_600);
                    let endings: Vec<_> = (claimed.iter())
                        .map(|job| ended(job.facts.lease, Ending::Snooze { after }))
                        .collect();
                    ok(store::settle(&suite.node, &endings).await);
                    all.extend(endings);
                }
                all.len()
            })
            .await;
        let worker = self.worker().await;
        let rest = self.claim(worker, super::MANY).await;
        let claimed: usize = claimed.iter().sum();
        assert_eq!(claimed + rest.len(), JOBS, "one was claimed twice");
    }

    async fn racing_rescues_count_a_crash_once(&self) {
        self.fill(JOBS / 2).await;
        let worker = self.worker().await;
        let claimed = self.claim(worker, super::MANY).await;
        self.die(worker).await;
        let rescued = self.at_once(|suite| async move { suite.rescue().await });
        let rescued: usize = rescued.await.iter().sum();
        assert_eq!(rescued + self.rescue().await, claimed.len());
        for job in &claimed {
            let seen = self.seen(job.facts.lease.job).await;
            assert_eq!((seen.crashes, seen.state), (1, JobState::Ready));
        }
    }

    /// Those who rescue know of no worker that began after they looked.
    async fn rescue_leaves_what_was_claimed_meanwhile(&self) {
        self.fill(8).await;
        let worker = self.worker().await;
        let claimed = self.claim(worker, super::MANY).await;
        self.die(worker).await;
        self.at_once(|suite| async move {
            for _ in 0..10 {
                suite.rescue().await;
                // A life that nobody has seen, and which does not end.
                let worker = suite.worker().await;
                suite.claim(worker, 1).await;
            }
        })
        .await;
        for job in &claimed {
            let seen = self.seen(job.facts.lease.job).await;
            assert_eq!(seen.crashes, 1, "taken from a worker that lives");
        }
    }

    async fn end_and_rescue_exclude_each_other(&self) {
        self.fill(JOBS / 2).await;
        let worker = self.worker().await;
        let claimed = self.claim(worker, super::MANY).await;
        let leases: Vec<Lease> = claimed.iter().map(|job| job.facts.lease).collect();
        self.die(worker).await;
        let suite = self.clone();
        let ends = leases.clone();
        let ending = tokio::spawn(async move {
            let mut taken = 0;
            for (at, lease) in ends.into_iter().enumerate() {
                let done = if at % 2 == 0 {
                    suite.settle(lease, Ending::Done { result: None }).await
                } else {
                    suite.complete_slowly(lease).await
                };
                taken += usize::from(done);
            }
            taken
        });
        let mut rescued = 0;
        while !ending.is_finished() {
            rescued += ok(store::rescue(&self.node, 1).await).len();
            yield_now().await;
        }
        let taken = ending.await.expect("the ends were told");
        rescued += self.rescue().await;
        assert_eq!(taken + rescued, leases.len(), "each has one of both");
        for lease in leases {
            let seen = self.seen(lease.job).await;
            let ended = (seen.state, seen.crashes) == (JobState::Done, 0);
            let back = (seen.state, seen.crashes) == (JobState::Ready, 1);
            assert!(ended || back, "{seen:?}");
        }
    }

    async fn complete_slowly(&self, lease: Lease) -> bool {
        let mut tx = ok(self.shard.begin().await);
        let taken = ok(store::complete(&mut tx, &lease).await);
        yield_now().await;
        ok(tx.commit().await);
        taken
    }
}
