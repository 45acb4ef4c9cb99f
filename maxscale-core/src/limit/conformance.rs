//! What every [`LimitStore`] must do, as checks that any backend can run.
//!
//! The checks take real time (some hundred milliseconds) and panic on the first
//! promise that is broken.

use std::future::poll_fn;
use std::num::NonZeroU32;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::{Decision, LimitStore, Quota};

/// Runs every check with two clients of one store, which must be fresh.
///
/// # Panics
///
/// When the store breaks a promise.
pub async fn check<S: LimitStore>(here: &S, there: &S) {
    clients_share_one_burst(here, there).await;
    keys_are_independent(here, there).await;
    denied_takes_cost_nothing(here).await;
    burst_comes_back_and_no_more(here, there).await;
    lowered_quota_applies_at_once(here, there).await;
}

/// Takes at once from two clients are admitted exactly as often as the burst says.
async fn clients_share_one_burst<S: LimitStore>(here: &S, there: &S) {
    let quota = quota(10, Duration::from_secs(3_600), 10);
    let takes = (0..100).map(|n| take(if n % 2 == 0 { here } else { there }, "burst", &quota));
    let decisions = all(takes).await;
    let allowed = decisions.iter().filter(|d| d.is_allowed()).count();
    assert_eq!(allowed, 10, "of 100 takes at once with a burst of 10");

    let mut left: Vec<u32> = decisions.iter().filter_map(remaining).collect();
    left.sort_unstable();
    assert_eq!(
        left,
        (0..10).collect::<Vec<_>>(),
        "what each take said is left"
    );
}

/// A key that is used up leaves others alone.
async fn keys_are_independent<S: LimitStore>(here: &S, there: &S) {
    let quota = quota(1, Duration::from_secs(3_600), 1);
    for key in ["a", "b", "", "a\0b", &"long ".repeat(1_000)] {
        assert!(take(here, key, &quota).await.is_allowed(), "{key:?} is new");
        assert!(
            !take(there, key, &quota).await.is_allowed(),
            "{key:?} is used up"
        );
    }
}

/// However often a key is denied, one is admitted after the wait told first.
async fn denied_takes_cost_nothing<S: LimitStore>(store: &S) {
    let quota = quota(5, Duration::from_secs(1), 1);
    assert!(take(store, "denied", &quota).await.is_allowed());
    let wait = wait_of(take(store, "denied", &quota).await);
    assert!(wait <= Duration::from_millis(200), "{wait:?}");
    for _ in 0..20 {
        take(store, "denied", &quota).await;
    }
    tokio::time::sleep(wait).await;
    assert!(
        take(store, "denied", &quota).await.is_allowed(),
        "after its wait"
    );
}

/// After the time told the whole burst is there, and not more.
async fn burst_comes_back_and_no_more<S: LimitStore>(here: &S, there: &S) {
    let quota = quota(20, Duration::from_secs(1), 3);
    use_up(here, "refill", &quota).await;
    let Decision::Deny { reset, .. } = take(there, "refill", &quota).await else {
        // A slow machine: one came back meanwhile, which is right.
        return;
    };
    assert!(reset <= Duration::from_millis(150), "{reset:?}");
    // Ten times as long does not save up ten bursts.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let start = tokio::time::Instant::now();
    let decisions = all((0..50).map(|_| take(there, "refill", &quota))).await;
    let allowed = decisions.iter().filter(|d| d.is_allowed()).count();
    let regained = start.elapsed().as_micros() / 50_000;
    assert!((3..=4 + regained).contains(&(allowed as u128)), "{allowed}");
}

/// A quota that is lowered under a key in use tells a true wait.
async fn lowered_quota_applies_at_once<S: LimitStore>(here: &S, there: &S) {
    let before = quota(10, Duration::from_secs(3_600), 10);
    use_up(here, "lowered", &before).await;
    let after = quota(10, Duration::from_secs(1), 1);
    let wait = wait_of(take(there, "lowered", &after).await);
    assert!(wait <= Duration::from_millis(100), "{wait:?}");
    tokio::time::sleep(wait).await;
    assert!(
        take(here, "lowered", &after).await.is_allowed(),
        "after its wait"
    );
}

fn quota(per: u32, window: Duration, burst: u32) -> Quota {
    let number = |n| NonZeroU32::new(n).expect("above zero");
    Quota::new(number(per), window)
        .and_then(|quota| quota.burst(number(burst)))
        .expect("the checks' quotas are valid")
}

async fn take<S: LimitStore>(store: &S, key: &str, quota: &Quota) -> Decision {
    match store.take(&format!("conformance {key}"), quota).await {
        Ok(decision) => decision,
        Err(error) => panic!("a take failed: {}", crate::Chain(&error)),
    }
}

async fn use_up<S: LimitStore>(store: &S, key: &str, quota: &Quota) {
    for _ in 0..100 {
        if !take(store, key, quota).await.is_allowed() {
            return;
        }
    }
    panic!("`{key}` is never denied");
}

fn wait_of(decision: Decision) -> Duration {
    match decision {
        Decision::Deny { retry_after, .. } => retry_after,
        Decision::Allow { .. } => panic!("admitted, but the quota was used up"),
    }
}

fn remaining(decision: &Decision) -> Option<u32> {
    match decision {
        Decision::Allow { remaining, .. } => Some(*remaining),
        Decision::Deny { .. } => None,
    }
}

/// Runs all futures at once.
async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    let mut turn = pin!(poll_fn(move |cx| {
        for (future, output) in &mut running {
            if output.is_none()
                && let Poll::Ready(ready) = future.as_mut().poll(cx)
            {
                *output = Some(ready);
            }
        }
        if running.iter().all(|(_, output)| output.is_some()) {
            return Poll::Ready(running.drain(..).filter_map(|(_, output)| output).collect());
        }
        Poll::Pending
    }));
    turn.as_mut().await
}
