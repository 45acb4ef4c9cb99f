use std::convert::Infallible;
use std::sync::atomic::AtomicUsize;

use http::{Request, Response};
use http_body_util::Empty;
use tokio::time::advance;
use tower::util::{ServiceExt as _, service_fn};
use tower_layer::Layer as _;

use super::*;
use crate::resilience::ResilienceError;

const PATIENCE: Duration = Duration::from_millis(50);

/// A pool of a hundred, all of which is waited for.
#[derive(Clone, Default)]
struct Pool(Arc<AtomicUsize>);

impl Pool {
    fn hold(&self, taken: usize) {
        self.0.store(taken, Ordering::Relaxed);
    }

    fn guard(&self, builder: PoolGuardBuilder) -> PoolGuard {
        let taken = self.0.clone();
        let read = move || {
            let percent = u32::try_from(taken.load(Ordering::Relaxed)).unwrap();
            Some(Fill {
                part: f64::from(percent) / 100.0,
                waited_for: true,
            })
        };
        builder.build(read).unwrap()
    }
}

fn builder() -> PoolGuardBuilder {
    PoolGuard::builder("shards")
}

/// The tiers that are let through, from 0 on.
fn passed(guard: &PoolGuard) -> usize {
    let admitted = |tier: &u8| guard.admit(Priority::of_tier(*tier)).is_ok();
    (0..=5).filter(admitted).count()
}

#[tokio::test(start_paused = true)]
async fn what_matters_least_is_refused_first_and_only_what_is_critical_passes_in_the_end() {
    let pool = Pool::default();
    let guard = pool.guard(builder());
    pool.hold(85);
    assert_eq!(passed(&guard), 6);
    advance(PATIENCE).await;
    assert_eq!(passed(&guard), 4);
    pool.hold(95);
    assert_eq!(passed(&guard), 1);
    pool.hold(84);
    assert_eq!(passed(&guard), 4);
    pool.hold(71);
    assert_eq!(passed(&guard), 4);
    pool.hold(70);
    assert_eq!(passed(&guard), 6);
    assert_eq!(guard.0.told.load(Ordering::Relaxed), CALM);
}

#[tokio::test(start_paused = true)]
async fn pool_that_is_held_near_a_bound_does_not_flap() {
    let pool = Pool::default();
    let guard = pool.guard(builder());
    let mut changes = Vec::new();
    for turn in 0..1_000_usize {
        pool.hold(84 + turn / 7 % 3);
        let strain = guard.strain();
        if changes.last() != Some(&strain) {
            changes.push(strain);
        }
        advance(Duration::from_millis(10)).await;
    }
    assert_eq!(changes, [Strain::None, Strain::High]);
}

#[tokio::test(start_paused = true)]
async fn request_is_refused_by_its_fact_and_never_by_a_header() {
    let pool = Pool::default();
    pool.hold(99);
    let service =
        PoolGuardLayer::new(pool.guard(builder())).layer(service_fn(async |_: Request<()>| {
            Ok::<_, Infallible>(Response::new(Empty::<bytes::Bytes>::new()))
        }));
    let mut request = Request::builder()
        .header("priority", "u=0")
        .body(())
        .unwrap();
    let answer = service.clone().oneshot(request.clone()).await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
    request.extensions_mut().insert(Priority::CRITICAL);
    assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn dry_run_refuses_nothing_and_counts() {
    let pool = Pool::default();
    let guard = pool.guard(builder().dry_run(true));
    pool.hold(95);
    assert_eq!(passed(&guard), 6);
    assert_eq!(guard.0.would_refuse.get(), 5);
    guard.set_dry_run(false);
    assert_eq!(passed(&guard), 1);
    assert_eq!(guard.0.refused.get(), 5);
}

#[test]
fn pool_of_which_nothing_is_known_refuses_nothing() {
    let guard = builder().build(|| None).unwrap();
    assert_eq!(passed(&guard), 6);
}

#[test]
fn values_that_cannot_be_are_named() {
    let cases = [
        ("parts", builder().parts(0.95, 0.85, 0.7)),
        ("parts", builder().parts(0.85, 0.95, 0.85)),
        ("parts", builder().parts(0.85, 1.1, 0.7)),
        ("parts", builder().parts(f64::NAN, 0.95, 0.7)),
        ("patience", builder().patience(Duration::MAX)),
        ("first", builder().first(Priority::CRITICAL)),
    ];
    for (field, builder) in cases {
        let error = builder.build(|| None).unwrap_err();
        assert_eq!(error, ResilienceError::Bounds { field });
    }
}
