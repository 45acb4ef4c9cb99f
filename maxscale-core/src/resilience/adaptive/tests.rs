use http::Request;
use tokio::sync::Semaphore;
use tokio::time::advance;
use tower::util::ServiceExt as _;
use tower_layer::Layer as _;

use super::*;
use crate::resilience::upstream::{dropped_anywhere, upstream};
use crate::resilience::{Outcome, ResilienceError};

fn builder() -> AdaptiveLimitBuilder {
    AdaptiveLimit::builder("upstream").initial(3)
}

fn filled(limit: &AdaptiveLimit) -> Vec<AdaptivePermit> {
    std::iter::from_fn(|| limit.enter().ok()).collect()
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_are_let_through_than_the_limit_and_places_come_back() {
    let limit = builder().build().unwrap();
    let held = filled(&limit);
    assert!((2..=3).contains(&held.len()), "{}", held.len());
    assert_eq!(limit.active(), u32::try_from(held.len()).unwrap());
    let error = limit.enter().unwrap_err();
    assert_eq!(error.to_string(), "the limit of `upstream` is reached");
    for (permit, outcome) in
        held.into_iter()
            .zip([Outcome::Succeeded, Outcome::Failed, Outcome::TimedOut])
    {
        permit.end(outcome);
    }
    assert_eq!(limit.active(), 0);
}

/// Of an upstream that answers alike however many ask, all that is asked for is allowed.
#[tokio::test(start_paused = true)]
async fn limit_grows_where_nothing_queues_and_falls_by_what_is_sent_back() {
    let limit = builder().max(50).build().unwrap();
    let turns = async |turns: u32, outcome: Outcome| {
        for _ in 0..turns {
            let held = filled(&limit);
            advance(Duration::from_millis(5)).await;
            held.into_iter().for_each(|permit| permit.end(outcome));
        }
    };
    turns(10_000, Outcome::Succeeded).await;
    assert_eq!(limit.limit(), 50);
    let base = limit.base().unwrap();
    assert!(base.abs_diff(Duration::from_millis(5)) < Duration::from_millis(1));
    turns(10_000, Outcome::SentBack).await;
    assert_eq!(limit.limit(), 2);
    assert_eq!(limit.active(), 0);
}

#[tokio::test(start_paused = true)]
async fn request_beyond_the_limit_is_a_503() {
    let limit = builder().build().unwrap();
    let answers = Arc::new(Semaphore::new(1));
    let service = AdaptiveLimitLayer::new(limit.clone()).layer(upstream(answers));
    let held = filled(&limit);
    let answer = service.clone().oneshot(Request::new(())).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
    drop(held);
    let answer = service.oneshot(Request::new(())).await.unwrap();
    assert_eq!(answer.status(), 200);
    let counts = [&limit.0.passed, &limit.0.refused].map(HotCounter::get);
    assert!(counts[0] >= 3 && counts[1] == 2, "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn dry_run_lets_all_through_and_counts() {
    let limit = builder().dry_run(true).build().unwrap();
    let all: Vec<_> = (0..10).map(|_| limit.enter().unwrap()).collect();
    assert_eq!(limit.active(), 10);
    let (passed, would) = (limit.0.passed.get(), limit.0.would_refuse.get());
    assert!((2..=3).contains(&passed) && passed + would == 10);
    limit.set_dry_run(false);
    assert!(limit.enter().is_err());
    drop(all);
    assert_eq!(limit.active(), 0);
}

#[tokio::test(start_paused = true)]
async fn places_are_free_again_wherever_the_request_was_dropped() {
    let limit = builder().build().unwrap();
    let answers = Arc::new(Semaphore::new(0));
    let service = AdaptiveLimitLayer::new(limit.clone()).layer(upstream(answers.clone()));
    for seed in 0..1_000 {
        let requests = (0..6).map(|_| service.clone().oneshot(Request::new(())));
        dropped_anywhere(seed, requests, &answers, || {
            assert!(limit.active() <= 3, "seed {seed}");
        });
        assert_eq!(limit.active(), 0, "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_place_is_lost_whoever_comes_and_goes() {
    let limit = builder().max(20).build().unwrap();
    let tasks = (0..64_u32).map(|task| {
        let limit = limit.clone();
        tokio::spawn(async move {
            for turn in 0..2_000 {
                let Ok(permit) = limit.enter() else { continue };
                tokio::task::yield_now().await;
                if (task + turn) % 3 > 0 {
                    permit.end(Outcome::Succeeded);
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(limit.active(), 0);
}

#[test]
fn values_that_cannot_be_are_named() {
    let cases = [
        ("min", builder().min(1)),
        ("max", builder().max(1)),
        ("initial", builder().initial(1)),
        ("initial", builder().initial(AdaptiveLimit::DEFAULT_MAX + 1)),
    ];
    for (field, builder) in cases {
        let error = builder.build().unwrap_err();
        assert_eq!(error, ResilienceError::Bounds { field });
    }
}
