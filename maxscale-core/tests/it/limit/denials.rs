//! What a process remembers of denials.

use std::time::Duration;

use maxscale_core::limit::{Edit, Limits, Policy, Rate};
use maxscale_tests::RedisServer;
use tokio::task::JoinSet;

use super::{both, through};
use crate::redis::patient;

const HOUR: Duration = Duration::from_secs(3_600);
const BURST: u32 = 64;

/// How many are admitted of so many tasks that ask so often.
async fn admitted(limits: &Limits, policy: &Policy, tasks: u32, each: u32) -> u32 {
    let mut threads = JoinSet::new();
    for _ in 0..tasks {
        let (limits, policy) = (limits.clone(), policy.clone());
        threads.spawn(async move {
            let mut admitted = 0;
            for _ in 0..each {
                let decision = limits.check(&policy, "hot").await;
                admitted += u32::from(decision.is_allowed());
                tokio::task::consume_budget().await;
            }
            admitted
        });
    }
    threads.join_all().await.into_iter().sum()
}

/// Each thread keeps for itself what all are denied.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_that_are_denied_the_same_count_each_denial_and_hear_an_operators_word() {
    let server = RedisServer::start().await;
    let limits = both(through(patient(&server).await));
    let rate = Rate::new(1, HOUR).unwrap().burst(BURST).unwrap();
    let policy = Policy::new("hot", rate).unwrap();
    for round in 1..=3 {
        assert!(limits.edit("hot", &policy, Edit::Block(HOUR)).await);
        assert_eq!(admitted(&limits, &policy, 4, 5_001).await, 0);
        let top = limits.top_denied(1);
        assert_eq!((top[0].count, top[0].over), (4 * 5_001 * round, 0));

        assert!(limits.edit("hot", &policy, Edit::Reset).await);
        assert_eq!(admitted(&limits, &policy, BURST, 1).await, BURST);
    }
}
